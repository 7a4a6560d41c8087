"""`kill -9` under load, again and again, and a ledger of what was acknowledged."""

from __future__ import annotations

import os
import random
import re
import shlex
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes

from mqtt_sessions import Message, Will, wire
from tests.broker.helpers import (
    FAILS_AFTER,
    PROTOCOLS,
    RawClient,
    eventually,
    port_that_stays_free,
    properties,
)
from tests.broker.test_command_line import PROGRAM, ROOT, running

WINDOW = 20
"""Messages that a publisher has on their way."""


LONGEST_LIFE = 600.0
"""Seconds for one broker: the last one delivers all that others have left."""


class Enduring:
    """A paho client with a session that outlives its connections, and the broker."""

    def __init__(self, port: int, version: int, client_id: str) -> None:
        self.port, self.version = port, version
        self.connections = 0
        self._connected = threading.Event()
        self.problems: list[str] = []
        options: dict[str, Any] = {} if version == 5 else {"clean_session": False}
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=PROTOCOLS[version],
            reconnect_on_failure=False,
            **options,
        )
        self.client.max_inflight_messages_set(WINDOW)
        self.client.on_connect = self._on_connect

    def connect(self) -> None:
        """Connect; the session has to be there but for the first time."""
        self._connected.clear()
        if self.connections:
            self.client.reconnect()
        elif self.version == 5:
            told = properties(PacketTypes.CONNECT, SessionExpiryInterval=3600)
            self.client.connect("127.0.0.1", self.port, clean_start=False, properties=told)
        else:
            self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()
        assert self._connected.wait(FAILS_AFTER)

    def lost(self) -> None:
        """The broker is gone: wait until the client knows, and its thread has ended."""
        eventually(lambda: not self.client.is_connected())
        self.client.loop_stop()
        self.client._reset_sockets(sockpair_only=True)  # see `PahoClient`

    def leave(self) -> None:
        self.client.disconnect()
        self.lost()

    def _on_connect(self, _: Any, __: Any, flags: Any, code: Any, ___: Any) -> None:
        if code.value != 0 or flags.session_present != (self.connections > 0):
            self.problems.append(f"connection {self.connections}: {flags}, {code}")
        self.connections += 1
        if self.connections == 1:
            self.begin()
        self._connected.set()

    def begin(self) -> None:
        """Called once, in the network's thread."""


class Publisher(Enduring):
    """Publishes 0, 1, 2 ... to a topic, as fast as they are acknowledged.

    Attributes:
        next: The number that is not yet published.
        acknowledged: What the broker has taken responsibility for.
    """

    def __init__(self, port: int, version: int, topic: str, qos: int, retain: bool) -> None:
        super().__init__(port, version, f"publisher of {topic}")
        self.topic, self.qos, self.retain = topic, qos, retain
        self.next = 0
        self.acknowledged: set[int] = set()
        self.is_finishing = False
        self._numbers: dict[int, int] = {}  # by packet identifier
        self.client.on_publish = self._on_publish

    def begin(self) -> None:
        for _ in range(WINDOW):
            self._publish()

    def _publish(self) -> None:
        # In the network's thread, so that no acknowledgement is faster than the entry.
        told = self.client.publish(self.topic, b"%d" % self.next, self.qos, self.retain)
        self._numbers[told.mid] = self.next
        self.next += 1

    def _on_publish(self, _: Any, __: Any, packet_id: int, code: Any, ___: Any) -> None:
        self.acknowledged.add(self._numbers.pop(packet_id))
        if not self.is_finishing:
            self._publish()

    def is_finished(self) -> bool:
        return not self._numbers


class Subscriber(Enduring):
    """Hears of all topics, at the QoS of each message."""

    def __init__(self, port: int, version: int, client_id: str) -> None:
        super().__init__(port, version, client_id)
        self.heard: dict[str, list[int]] = defaultdict(list)
        self.subscribed = threading.Event()
        self.client.on_message = self._on_message
        self.client.on_subscribe = lambda *_: self.subscribed.set()

    def begin(self) -> None:
        self.client.subscribe([("load/#", 2), ("wills", 2)])

    def hear_out(self, expected: dict[str, list[int]]) -> None:
        """Wait as long as messages come and not all are there."""

        def missing() -> int:
            return sum(len({*numbers} - {*self.heard[t]}) for t, numbers in expected.items())

        while (before := missing()) > 0:
            try:
                eventually(lambda before=before: missing() < before)  # type: ignore[misc]
            except AssertionError:
                return  # which ones, the test tells

    def _on_message(self, _: Any, __: Any, message: Any) -> None:
        self.heard[message.topic].append(int(message.payload))


@contextmanager
def killable(port: int, database: Path) -> Iterator[subprocess.Popen[str]]:
    """A broker that has to live until it is killed, and to complain of nothing."""
    file = database.with_suffix(".toml")
    file.write_text('maximum_queued_messages = "none"\nmaximum_queued_bytes = "none"\n')
    options = ["--database", str(database), "--config", str(file)]
    with running(*options, port=port, seconds=LONGEST_LIFE) as (process, _):
        yield process
        assert process.poll() is None
        process.kill()
        _, errors = process.communicate(timeout=FAILS_AFTER)
        assert errors == ""


def connect_mortals(port: int, number: int) -> RawClient:
    """Somebody whose will is due when the broker dies, and somebody who has taken it back."""
    mortal = RawClient(port)
    for client, client_id in ((RawClient(port), "leaver"), (mortal, "mortal")):
        will = Will(Message("wills", b"%d" % number, 2))
        answer = client.connect(client_id, clean_start=False, session_expiry_interval=60, will=will)
        assert answer.session_present == (number > 0)
        if client is not mortal:
            client.send(wire.Disconnect())
            assert client.receive() is None
            client.socket.close()
    return mortal


def retained_number(port: int) -> int:
    with RawClient(port) as client:
        client.connect("newcomer")
        client.subscribe("retained")
        return int(client.receive().message.payload)


@pytest.mark.parametrize("rounds", [pytest.param(5), pytest.param(50, marks=pytest.mark.nightly)])
def test_nothing_acknowledged_is_lost(tmp_path: Path, rounds: int) -> None:
    chance, port = random.Random(rounds), port_that_stays_free()
    subscribers = [Subscriber(port, version, f"subscriber {version}") for version in (4, 5)]
    away = Subscriber(port, 5, "away")  # until the end
    publishers = [
        Publisher(port, version, f"load/{version}/{qos}", qos, retain=False)
        for version in (4, 5)
        for qos in (1, 2)
    ]
    retainer = Publisher(port, 5, "retained", 1, retain=True)
    enduring: list[Enduring] = [*subscribers, *publishers, retainer]

    for number in range(rounds):
        with killable(port, tmp_path / "s.db"), ExitStack() as stack:
            if number == 0:
                for subscriber in (away, *subscribers):
                    subscriber.connect()
                    assert subscriber.subscribed.wait(FAILS_AFTER)
                away.leave()
            else:
                assert max(retainer.acknowledged) <= retained_number(port) < retainer.next
            for client in enduring:
                if not client.client.is_connected():
                    client.connect()
            stack.enter_context(connect_mortals(port, number))
            before = [len(each.acknowledged) for each in publishers]
            eventually(
                lambda before=before: all(  # type: ignore[misc]
                    len(each.acknowledged) > count
                    for each, count in zip(publishers, before, strict=True)
                )
            )
            time.sleep(chance.uniform(0, 0.3))  # at any instant of a load in full course
        for client in enduring:
            client.lost()

    with killable(port, tmp_path / "s.db"):
        for publisher in (*publishers, retainer):
            publisher.is_finishing = True
        for client in (*enduring, away):
            client.connect()
        for publisher in (*publishers, retainer):
            eventually(publisher.is_finished)
            assert publisher.acknowledged == set(range(publisher.next))
        expected = {each.topic: list(range(each.next)) for each in publishers}
        expected["wills"] = list(range(rounds))
        for subscriber in (*subscribers, away):
            subscriber.hear_out(expected)
            for topic, numbers in expected.items():
                heard = subscriber.heard[topic]
                assert sorted({*numbers} - {*heard}) == [], topic
                # at QoS 1 a number may come again, in the order in which it came first
                assert (list(dict.fromkeys(heard)) if topic[-1] == "1" else heard) == numbers, topic
        for client in (*enduring, away):
            client.leave()
    assert [client.problems for client in (*enduring, away)] == [[]] * (len(enduring) + 1)


# ---------------------------------------------------------------- the README's four lines


def test_the_four_lines_of_the_readme(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    """As they stand there, but for the port, and that a slow machine gets more than its seconds."""
    for program in ("mosquitto_pub", "mosquitto_sub"):
        require_program(program)
    (script,) = re.findall(r"```sh\n([^`]*kill -9[^`]*)```", (ROOT / "README.md").read_text())
    assert script.count("\n") == 4
    port, starts = port_that_stays_free(), count(1)
    for written, run in (
        (r"\.venv/bin/python -m examples\.broker", f"{shlex.join(PROGRAM)} --port {port}"),
        (r"(mosquitto_\w+)", rf"\1 -p {port}"),
    ):
        script, times = re.subn(written, run, script)
        assert times in (2, 3)
    script = re.sub(
        "sleep 3",
        lambda _: f"until [ $(grep -c listening output) = {next(starts)} ]; do sleep 0.05; done",
        script,
    )
    with (
        (tmp_path / "output").open("w") as output,
        subprocess.Popen(
            ["bash", "-c", script + "kill $!; wait $!\n"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            start_new_session=True,
        ) as shell,
    ):
        try:
            shell.wait(3 * FAILS_AFTER)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    listening = f"listening on 127.0.0.1:{port}"
    assert (tmp_path / "output").read_text().splitlines() == [listening, listening, "on"]
    assert shell.returncode == 0
    assert (tmp_path / "sessions.db").exists()
