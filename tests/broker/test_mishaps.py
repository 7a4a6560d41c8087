"""What should not happen: no descriptors left, a store that raises, packets behind the end."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from examples.broker import broker as broker_module
from examples.broker import connection as connection_module
from examples.broker import host as host_module
from examples.broker.authorization import judge_publish, judge_subscribe
from examples.broker.broker import Broker
from examples.broker.complaints import Complaints
from examples.broker.configuration import Configuration
from mqtt_sessions import (
    CloseConnection,
    ConnectionLost,
    DropReason,
    Event,
    Message,
    Outcome,
    PublishReceived,
    ReasonCode,
    RouteMessage,
    ServerOptions,
    ServerStopping,
    SessionStore,
    SubscribeReceived,
    Subscription,
    Will,
    wire,
)
from tests.broker.conftest import MakeRaw, StartBroker
from tests.broker.helpers import FAILS_AFTER, RawClient, RunningBroker, eventually
from tests.broker.test_command_line import COMMAND, LISTENING, ROOT

# ---------------------------------------------------------------- file descriptors


def start_with_few_descriptors(number: int) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        ["sh", "-c", f'ulimit -n {number}; exec "$@"', "sh", *COMMAND, "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    found = LISTENING.fullmatch(process.stdout.readline())
    assert found
    return process, int(found[1])


def is_let_in(port: int) -> bool:
    try:
        with RawClient(port) as client:
            return client.connect("late") is not None
    except ConnectionError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="needs ulimit and prlimit")
@pytest.mark.parametrize("lowered", [False, True], ids=["bound", "bound that is too high"])
def test_more_connections_than_descriptors(lowered: bool) -> None:
    import resource

    process, port = start_with_few_descriptors(256)
    watchdog = threading.Timer(3 * FAILS_AFTER, process.kill)
    watchdog.start()
    idle: list[socket.socket] = []
    try:
        with RawClient(port) as good:
            good.connect("good")
            if lowered:
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (64, 256))
            began = time.monotonic()
            # Where nobody is let in, the backlog of asyncio's sockets (100) has to take the rest.
            for _ in range(130 if lowered else 400):
                idle.append(socket.create_connection(("127.0.0.1", port), FAILS_AFTER))
            waited = time.monotonic()
            while time.monotonic() - waited < 2.5:  # asyncio tries again after a second
                assert good.before_ping() == []
                time.sleep(0.05)
            for each in idle:
                each.close()
        eventually(lambda: is_let_in(port))
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=FAILS_AFTER)
    finally:
        process.kill()
        watchdog.cancel()
        process.communicate()
        for each in idle:
            each.close()
    assert (process.returncode, output) == (0, "")
    lines = errors.splitlines()
    assert 1 <= len(lines) <= 1 + time.monotonic() - began
    told = "out of system resource" if lowered else "newcomers are closed: there are 128"
    assert all(line.startswith("WARNING:") and told in line for line in lines), errors


def test_a_newcomer_that_is_too_many_is_closed(broker: RunningBroker, make_raw: MakeRaw) -> None:
    def set_maximum(each: Broker) -> None:
        each.maximum_connections = 2

    broker.call(set_maximum)
    first, second = make_raw(), make_raw()
    for client in (first, second):
        client.connect(str(id(client)))
    assert make_raw().receive() is None
    first.socket.close()
    eventually(lambda: broker.call(lambda each: len(each.connections)) == 1)
    assert make_raw().connect("third").reason_code == 0
    assert second.before_ping() == []


# ---------------------------------------------------------------- one line


def test_problems_are_told_in_one_line_and_not_too_often(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    complaints = Complaints()
    loop = asyncio.new_event_loop()
    try:
        loop.set_exception_handler(complaints.on_exception)
        for number in range(3):
            try:
                raise OSError(24, f"several\nlines {number}")
            except OSError as error:
                loop.call_exception_handler({"message": "it\nfailed", "exception": error})
        now += 1.0
        loop.call_exception_handler({"message": "no exception"})
        never_raised = {"message": "never raised", "exception": ValueError()}
        now += 1.0
        loop.call_exception_handler(never_raised)
    finally:
        loop.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    first, second, third = [record.getMessage() for record in caplog.records]
    assert first.startswith("it failed: OSError(24, 'several\\nlines 0') at test_mishaps.py:")
    assert "\n" not in first
    assert second == "no exception (and 2 problems not shown)"
    assert third == "never raised: ValueError()"
    assert not any(record.exc_info for record in caplog.records)


# ---------------------------------------------------------------- a store that raises


def make_it_raise(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch, kind: type[Any], client_id: str = ""
) -> None:
    """Let the store raise at one kind of event, of all connections or of one client's."""
    store = broker.broker.store
    handle = store.handle

    def handle_or_raise(event: Event, now: float) -> Outcome:
        if isinstance(event, kind):
            session = store.session_of(getattr(event, "connection", None))
            if not client_id or (session is not None and session.client_id == client_id):
                raise RuntimeError("a mistake")
        return handle(event, now)

    monkeypatch.setattr(SessionStore, "handle", lambda _, event, now: handle_or_raise(event, now))


@pytest.mark.parametrize("kind", [ConnectionLost, ServerStopping])
def test_it_stops_though_the_store_raises(monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> None:
    monkeypatch.setattr(broker_module, "STOP_TIMEOUT", 2 * FAILS_AFTER)
    broker = RunningBroker()
    with RawClient(broker.port) as first, RawClient(broker.port) as second:
        first.connect("first")
        second.connect("second")
        make_it_raise(broker, monkeypatch, kind)
        broker.stop(problems=2 if kind is ConnectionLost else 1)
        for client in (first, second):
            client.receive_all()


def test_a_mistake_costs_one_connection(
    broker: RunningBroker, make_raw: MakeRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlucky, other = make_raw(), make_raw()
    unlucky.connect("unlucky")
    other.connect("other")
    make_it_raise(broker, monkeypatch, PublishReceived, "unlucky")
    packet = wire.Publish(Message("t"))
    unlucky.send(packet, packet, packet, wire.Pingreq())
    unlucky.receive_all()
    other.publish("t")
    assert other.before_ping() == []
    eventually(lambda: broker.call(lambda each: len(each.connections)) == 1)
    assert broker.gone("unlucky")
    assert [repr(each["exception"]) for each in broker.problems] == ["RuntimeError('a mistake')"]
    broker.problems.clear()


def test_the_timer_goes_on_though_the_store_raised(
    broker: RunningBroker, make_raw: MakeRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "RETRY_DELAY", 0.1)
    fired: list[float] = []
    handle_timeout = SessionStore.handle_timeout

    def raise_at_first(store: SessionStore, now: float, limit: int | None = None) -> Outcome:
        fired.append(time.monotonic())
        if len(fired) <= 3:
            raise RuntimeError("a mistake")
        return handle_timeout(store, now, limit)

    monkeypatch.setattr(SessionStore, "handle_timeout", raise_at_first)
    client = make_raw()
    client.connect("client", session_expiry_interval=1)
    client.socket.close()
    eventually(lambda: broker.gone("client"))
    assert all(later - sooner > 0.09 for sooner, later in pairwise(fired[:4]))
    assert len(broker.problems) == 3
    broker.problems.clear()


def test_it_gives_up_on_connections_that_stay(
    monkeypatch: pytest.MonkeyPatch, make_raw: MakeRaw
) -> None:
    monkeypatch.setattr(broker_module, "STOP_TIMEOUT", 0.1)
    monkeypatch.setattr(broker_module, "ABORT_TIMEOUT", 0.1)
    monkeypatch.setattr(Broker, "forget", lambda *_: None)
    broker = RunningBroker()
    with RawClient(broker.port) as client:
        client.connect("client")
        broker.stop()


# ---------------------------------------------------------------- behind the end


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize(
    "last", [wire.Disconnect(), wire.Subscribe(1, ())], ids=["DISCONNECT", "error"]
)
def test_nothing_behind_the_end_is_processed(
    broker: RunningBroker, make_raw: MakeRaw, version: int, last: wire.Packet
) -> None:
    listener = make_raw()
    listener.connect("listener")
    listener.subscribe("#")
    client = make_raw(version)
    connect = wire.Connect("client", version)
    ends = b"\x82\x02\x00\x01" if isinstance(last, wire.Subscribe) else wire.encode(last, version)
    late: list[wire.Packet] = [
        wire.Publish(Message("t", b"late")),
        wire.Connect("other", version, will=Will(Message("t", b"will"))),
        wire.Publish(Message("t", b"late too")),
        wire.Pingreq(),
    ]
    behind = b"".join(wire.encode(packet, version) for packet in late)
    client.send_bytes(wire.encode(connect, version) + ends + behind)
    assert isinstance(client.receive(), wire.Connack)
    rest = client.receive_all()
    told = version == 5 and isinstance(last, wire.Subscribe)
    assert rest == ([wire.Disconnect(ReasonCode.MALFORMED_PACKET)] if told else [])
    assert listener.before_ping() == []
    assert broker.gone("client")
    assert broker.gone("other")


@pytest.mark.parametrize("version", [3, 4, 5])
def test_nothing_behind_a_refused_connect_is_processed(
    start_broker: StartBroker, version: int
) -> None:
    broker = start_broker(Configuration(refuse_publish=("no",)))
    with RawClient(broker.port) as listener, RawClient(broker.port, version) as client:
        listener.connect("listener")
        listener.subscribe("#")
        client.send(
            wire.Connect("client", version, will=Will(Message("no"))),
            wire.Publish(Message("t")),
            wire.Connect("client", version),
            wire.Pingreq(),
        )
        assert [type(packet) for packet in client.receive_all()] == [wire.Connack]
        assert listener.before_ping() == []


# ---------------------------------------------------------------- no maximum packet size


def test_no_maximum_packet_size(start_broker: StartBroker) -> None:
    broker = start_broker(Configuration(options=ServerOptions(maximum_packet_size=None)))
    with RawClient(broker.port) as client:
        # The most that can go out again, whatever is added to it.
        assert client.connect("client").maximum_packet_size == 268_435_460 - 131_072
        client.publish("t", bytes(20_000_000))
        assert client.before_ping() == []
        client.send_bytes(b"\x30\xff\xff\xff\x7f")
        assert client.receive_all() == [wire.Disconnect(ReasonCode.PACKET_TOO_LARGE)]


@pytest.mark.parametrize(("version", "maximum"), [(4, None), (5, None), (5, 4_294_967_295)])
def test_a_message_that_outgrows_the_protocol(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch, version: int, maximum: int | None
) -> None:
    """The largest packets of a smaller world: what is added makes them too large to be sent."""
    monkeypatch.setattr(broker_module, "LARGEST_TAKEN", 2000)
    monkeypatch.setattr(connection_module, "LARGEST_SENT", 2000)
    broker = start_broker(Configuration(options=ServerOptions(maximum_packet_size=None)))
    with RawClient(broker.port, version) as subscriber, RawClient(broker.port) as publisher:
        subscriber.connect("subscriber", maximum_packet_size=maximum)
        options = {"subscription_id": 200} if version == 5 else {}
        subscriber.subscribe("t", **options)
        publisher.connect("publisher")
        publisher.publish("t", bytes(1993))
        assert publisher.before_ping() == []
        too_large = version == 5
        assert len(subscriber.before_ping()) == (0 if too_large else 1)
        dropped = broker.call(lambda each: each.store["subscriber"].counters.dropped)
        assert dropped.get(DropReason.TOO_LARGE, 0) == too_large


# ---------------------------------------------------------------- odd packets


def odd_packets(chance: random.Random, version: int) -> bytes:
    """Packets that are nearly all right, and odd in what they say."""
    texts = ["", "+", "#", "a/#/b", "a+", "$share", "$share/g", "$share//t", "$share/g/", "$SYS/#"]
    texts += ["/", "//", "\N{BOM}", "\U0010ffff", "\x01", "a" * 65_535, "no/such", "t"]

    def text() -> str:
        return chance.choice(texts)

    number = chance.choice((1, 2, 65_535))
    packets: list[Callable[[], wire.Packet]] = [
        lambda: wire.Publish(Message(text(), b"x", 0)),
        lambda: wire.Publish(Message(text(), b"", 1, chance.random() < 0.5), number, dup=True),
        lambda: wire.Publish(Message(text(), b"", 2), number),
        lambda: wire.Subscribe(number, (Subscription(text(), 2), Subscription(text(), 0))),
        lambda: wire.Subscribe(number, (Subscription(text(), 1),) * chance.choice((1, 300))),
        lambda: wire.Unsubscribe(number, (text(), text())),
        lambda: wire.Puback(number),
        lambda: wire.Pubrec(number),
        lambda: wire.Pubrel(number),
        lambda: wire.Pubcomp(number),
        wire.Pingreq,
    ]
    if version == 5:
        packets += [
            lambda: wire.Publish(Message("t"), topic_alias=chance.choice((1, 10))),
            lambda: wire.Publish(Message("t"), subscription_ids=(1, 268_435_455)),
            lambda: wire.Publish(Message("t", message_expiry_interval=0)),
            lambda: wire.Publish(Message("t", user_properties=((text(), text()),) * 3)),
            lambda: wire.Subscribe(1, (Subscription("t", 1, no_local=True, retain_handling=2),)),
            lambda: wire.Puback(number, ReasonCode.UNSPECIFIED_ERROR),
            lambda: wire.Pubrec(number, ReasonCode.QUOTA_EXCEEDED),
        ]
    data = bytearray()
    for _ in range(6):
        try:
            data += wire.encode(chance.choice(packets)(), version)
        except Exception:
            continue  # it could not even be written
    for _ in range(chance.choice((0, 0, 1, 2))):
        if data:
            data[chance.randrange(len(data))] = chance.choice(
                (0, 1, 3, 255, 128, chance.randrange(256))
            )
    return bytes(data)


@pytest.mark.unmeasured
@pytest.mark.parametrize("version", [3, 4, 5])
def test_no_decodable_packet_raises(version: int) -> None:
    chance = random.Random(version)
    store = SessionStore(size_of=wire.size_of)
    refused = ("no/+", "$SYS/#", "#")
    kinds: set[type[Any]] = set()
    for number in range(600):
        decoder = wire.Decoder(wire.Role.SERVER, topic_alias_maximum=10)
        data = wire.encode(wire.Connect(f"c{number % 7}", version, False), version)
        for item in decoder.feed(data + odd_packets(chance, version)):
            event = wire.to_event(item, number)
            kinds.add(type(event))
            if isinstance(event, PublishReceived):
                judge_publish(event.message, refused)
            elif isinstance(event, SubscribeReceived):
                judge_subscribe(event.subscriptions, refused)
            encoder = wire.Encoder(version, topic_alias_maximum=10)
            for action in store.handle(event, float(number)).actions:
                assert not isinstance(action, RouteMessage)
                if not isinstance(action, CloseConnection):
                    assert action.connection == number  # the only one that is open
                    encoder.encode(action)
        store.handle(ConnectionLost(number), float(number))
    store.check()
    assert len(kinds) >= 9
