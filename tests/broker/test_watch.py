"""`--watch`: the live table."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from examples.broker.watch import table_of
from mqtt_sessions import (
    ClientConnected,
    ConnectionLost,
    Event,
    Message,
    MessagePublished,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
)
from tests.broker.helpers import FAILS_AFTER, RawClient
from tests.broker.test_command_line import COMMAND, LISTENING, ROOT


def rendered(store: SessionStore, now: float, rows: int = 100) -> list[str]:
    """The table's lines, blanks and borders squeezed."""
    console = Console(record=True, width=160, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(table_of(store, now, rows))
    lines = console.export_text().splitlines()
    return [re.sub(r"[\s│┃]+", " ", line).strip() for line in lines]


def feed(store: SessionStore, *events: Event) -> None:
    for event in events:
        store.handle(event, 1000.0)


def test_the_table() -> None:
    store = SessionStore(limits=SessionLimits(maximum_queued_messages=3))
    feed(
        store,
        ClientConnected(1, "away", session_expiry_interval=60),
        SubscribeReceived(1, 1, (Subscription("t", 1),)),
        ConnectionLost(1),
        ClientConnected(2, "here", 4),
        SubscribeReceived(2, 1, (Subscription("t", 1),)),
        ClientConnected(3, "stays", session_expiry_interval=0xFFFFFFFF),
        ClientConnected(4, "later", session_expiry_interval=30),
        ClientConnected(5, "for ever", session_expiry_interval=0xFFFFFFFF),
        ConnectionLost(5),
        *[MessagePublished(Message("t", qos=1)) for _ in range(5)],
    )
    lines = rendered(store, 1010.5)
    assert lines[0] == "3 connected, 2 parked"
    assert "away parked 3 0 50 s queue_full 2" in lines
    assert "here connected (3.1.1) 0 5 with its connection" in lines
    assert "stays connected (5.0) 0 0 never" in lines
    assert "later connected (5.0) 0 0 30 s after it" in lines
    assert "for ever parked 0 0 never" in lines
    assert lines[-1] == "accepted 10; completed 0; dropped queue_full 2; retained 0"


def test_a_long_table_is_cut() -> None:
    store = SessionStore()
    feed(store, *[ClientConnected(number, f"client-{number:03}") for number in range(50)])
    lines = rendered(store, 1000.0, rows=10)
    assert sum(line.startswith("client-") for line in lines) == 10
    assert lines[-1].startswith("40 more sessions; ")


def test_client_ids_cannot_drive_the_terminal() -> None:
    store = SessionStore()
    feed(store, ClientConnected(1, "\x1b[2Jevil[red]\x07"))
    [line] = [line for line in rendered(store, 1000.0) if "evil" in line]
    assert line.startswith("�[2Jevil[red]� ")


def test_it_is_shown_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(
        [*COMMAND, "--port", "0", "--watch"],
        cwd=ROOT,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        screen = b""

        def read_until(wanted: str) -> re.Match[str]:
            nonlocal screen
            until = time.monotonic() + FAILS_AFTER
            while not (found := re.search(wanted, screen.decode(errors="replace"))):
                assert time.monotonic() < until, screen
                screen += os.read(ours, 65_536)
            return found

        try:
            port = int(read_until(LISTENING.pattern)[1])
            with RawClient(port) as client:
                client.connect("watched", session_expiry_interval=1000)
                read_until(r"watched[^\n]*connected \(5\.0\)[^\n]*1000 s after it")
            read_until(r"watched[^\n]*parked[^\n]* (9\d\d|1000) s")
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):  # EIO: the other end is closed
                while os.read(ours, 65_536):
                    pass  # a terminal that nobody empties would hold the broker up
            assert process.wait(FAILS_AFTER) == 0
        finally:
            process.kill()
            os.close(ours)


@pytest.mark.parametrize("blocked", ["rich", "rich.live"])
def test_without_rich_it_says_what_to_do(blocked: str) -> None:
    program = (
        f"import sys; sys.modules[{blocked!r}] = None\n"
        "from examples.broker.__main__ import main\n"
        "sys.exit(main(['--memory', '--port', '0', '--watch']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=FAILS_AFTER,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "broker: --watch needs rich: pip install 'mqtt-sessions[examples]'\n"
