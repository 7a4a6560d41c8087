"""What is left of sessions when the broker is started again, and what it does where nothing can be.

A crash is a journal that takes no more and is opened by another broker; `test_kill` has real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from examples.broker import host as host_module
from examples.broker import storage as storage_module
from examples.broker.__main__ import main
from examples.broker.configuration import Configuration
from examples.broker.connection import Connection
from examples.broker.storage import Storage
from mqtt_sessions import (
    Message,
    ReasonCode,
    SendPuback,
    ServerOptions,
    SessionLimits,
    Will,
    wire,
)
from mqtt_sessions.changes import Change, DeliveryStored
from mqtt_sessions.journals import Journal, JournalError, MemoryJournal, SQLiteJournal
from tests.broker.helpers import FAILS_AFTER, RawClient, RunningBroker, eventually
from tests.broker.test_command_line import ROOT, running

DURABLE = [sys.executable, "-m", "examples.broker", "--port", "0", "--database"]


@contextlib.contextmanager
def broker_of(
    journal: Journal, configuration: Configuration | None = None
) -> Iterator[RunningBroker]:
    broker = RunningBroker(configuration, journal)
    try:
        yield broker
    finally:
        broker.stop()


def park(port: int, client_id: str = "lamp", *, expiry: int = 1000) -> None:
    """Leave a session with a subscription to `t` at QoS 1."""
    with RawClient(port) as client:
        client.connect(client_id, session_expiry_interval=expiry)
        client.subscribe("t", 1)
        client.send(wire.Disconnect())
        assert client.receive() is None  # so it is stored


def resume(port: int, client_id: str = "lamp") -> tuple[bool, list[Message]]:
    """Session Present, and what has waited."""
    with RawClient(port) as client:
        present = client.connect(
            client_id, clean_start=False, session_expiry_interval=1000
        ).session_present
        messages = []
        for packet in client.before_ping():
            messages.append(packet.message)
            client.send(wire.Puback(packet.packet_id))
        client.send(wire.Disconnect())
        assert client.receive() is None
    return present, messages


# ---------------------------------------------------------------- stopped and started


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_session_is_there_when_the_broker_is_started_again(
    tmp_path: Path, number: signal.Signals
) -> None:
    database = ["--database", str(tmp_path / "s.db")]
    with running(*database) as (process, port):
        park(port)
        with RawClient(port, 4) as publisher:
            publisher.connect("publisher")
            assert publisher.publish("t", b"1", 1) == wire.Puback(1)
            assert publisher.publish("t", b"2", 2, retain=True) == wire.Pubrec(2)
        process.send_signal(number)
        _, errors = process.communicate(timeout=FAILS_AFTER)
        assert (process.returncode, errors) == (0 if number == signal.SIGTERM else -9, "")
        assert list(tmp_path.iterdir()) == [tmp_path / "s.db"] or number == signal.SIGKILL
    with running(*database) as (_, port):
        present, messages = resume(port)
        assert present
        assert [message.payload for message in messages] == [b"1", b"2"]
        with RawClient(port) as newcomer:
            newcomer.connect("newcomer")
            newcomer.subscribe("t")
            assert newcomer.receive().message == Message("t", b"2", retain=True)


def test_a_client_that_is_connected_at_the_stop_finds_its_session(tmp_path: Path) -> None:
    for run in range(2):
        with broker_of(SQLiteJournal(tmp_path / "s.db")) as broker:
            client = RawClient(broker.port)
            answer = client.connect("lamp", clean_start=False, session_expiry_interval=1000)
            assert answer.session_present == bool(run)
        with client:
            assert client.receive_all() == [wire.Disconnect(ReasonCode.SERVER_SHUTTING_DOWN)]


def test_in_memory_nothing_is_left(tmp_path: Path) -> None:
    for _ in range(2):
        with running("--memory", cwd=tmp_path) as (_, port):
            assert resume(port) == (False, [])
    assert list(tmp_path.iterdir()) == []


def test_the_database_is_in_the_working_directory(tmp_path: Path) -> None:
    with running(cwd=tmp_path) as (_, port):
        park(port)
        assert (tmp_path / "sessions.db").stat().st_size


# ---------------------------------------------------------------- it cannot start


def refused(capsys: pytest.CaptureFixture[str], path: Path) -> str:
    """Start on a database that cannot be one; what is told, in one line."""
    assert main(["--port", "0", "--database", str(path)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"broker: {path}")
    assert told.err.count("\n") == 1
    return told.err


def test_two_brokers_and_one_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.db"
    with running("--database", str(path)) as (_, port):
        assert "held by another process" in refused(capsys, path)
        park(port)
    with running("--database", str(path)) as (_, port):
        assert resume(port) == (True, [])


@pytest.mark.parametrize("content", [b"no database at all\n" * 100, None], ids=["text", "SQL"])
def test_a_file_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "s.db"
    if content is not None:
        path.write_bytes(content)
    else:
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE t (a)")
    before = path.read_bytes()
    assert "no session journal" in refused(capsys, path)
    assert path.read_bytes() == before


def test_a_directory_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none" / "s.db"
    assert f"there is no directory {path.parent}" in refused(capsys, path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a directory that root cannot write to")
def test_a_directory_that_is_read_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert "who may" in refused(capsys, Path("/proc/s.db"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write it")
def test_a_file_that_is_read_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.db"
    SQLiteJournal(path).close()
    path.chmod(0o444)
    assert "cannot be written" in refused(capsys, path)


def test_a_port_in_use_leaves_everything_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.db"
    with broker_of(SQLiteJournal(path)) as broker, RawClient(broker.port) as client:
        client.connect("lamp", session_expiry_interval=1000, will=Will(Message("will"), 1000))
        client.socket.close()
        eventually(lambda: broker.parked("lamp"))
    with running() as (_, port):
        assert main([f"--port={port}", "--database", str(path)]) == 2
    assert "in use" in capsys.readouterr().err
    with broker_of(SQLiteJournal(path)) as broker:
        assert broker.call(lambda each: each.store["lamp"].will) is not None


def test_damaged_rows_are_told_and_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.db"
    with broker_of(SQLiteJournal(path)) as broker:
        park(broker.port)
        with RawClient(broker.port) as publisher:
            publisher.connect("publisher")
            for number in range(13):
                publisher.publish("t", b"%d" % number, 1)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute(
            "UPDATE delivery SET body = x'ff' WHERE rowid > (SELECT min(rowid) FROM delivery)"
        )
    with broker_of(SQLiteJournal(path)) as broker:
        present, messages = resume(broker.port)
        assert present
        assert [message.payload for message in messages] == [b"0"]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 11
    assert told[0].startswith("a damaged row was set aside: delivery ")
    assert told[-1] == "and 2 more"


# ---------------------------------------------------------------- a commit fails


@pytest.mark.parametrize("applied", [False, True])
def test_a_commit_that_fails_ends_all_that_was_not_promised(applied: bool) -> None:
    journal = MemoryJournal()
    with broker_of(journal) as broker:
        park(broker.port)
        with RawClient(broker.port) as publisher, RawClient(broker.port) as other:
            publisher.connect("publisher")
            other.connect("other")
            assert publisher.publish("t", b"1", 1) == wire.Puback(1)
            journal.fail_at(1, applied=applied)
            assert publisher.publish("t", b"2", 1) is None
            assert other.receive_all() == []
            assert broker.gave_up.wait(FAILS_AFTER)
            with RawClient(broker.port) as late:
                assert late.receive() is None
    with broker_of(journal.reopened()) as broker:
        messages = [Message("t", b"1", 1)] + [Message("t", b"2", 1)] * applied
        assert resume(broker.port) == (True, messages)


@pytest.mark.skipif(sys.platform != "linux", reason="needs ulimit")
def test_a_full_disk_ends_the_broker_and_loses_nothing(tmp_path: Path) -> None:
    """The file must not grow beyond some size, which is as good as a disk that is full."""
    path = tmp_path / "s.db"
    with subprocess.Popen(
        ["bash", "-c", 'ulimit -f 1024; exec "$@"', "bash", *DURABLE, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        park(port)
        acknowledged = 0
        with RawClient(port) as publisher:
            publisher.connect("publisher")
            while publisher.publish("t", b"%d" % acknowledged + bytes(50_000), 1) is not None:
                acknowledged += 1
        _, errors = process.communicate(timeout=FAILS_AFTER)
    assert process.returncode == 1
    assert errors.startswith(f"broker: {path}: a batch may not be durable: ")
    assert errors.count("\n") == 1
    assert acknowledged
    with running("--database", str(path)) as (_, port):
        present, messages = resume(port)
        assert present
        numbers = [int(message.payload.rstrip(b"\0")) for message in messages]
        assert numbers[:acknowledged] == list(range(acknowledged))
        assert len(numbers) <= acknowledged + 1


# ---------------------------------------------------------------- groups


class SlowJournal(MemoryJournal):
    """Each commit waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.let_go = threading.Event()
        self.let_go.set()

    def commit(self, batch: Sequence[Change]) -> None:
        self.let_go.wait(FAILS_AFTER)
        super().commit(batch)
        self.batches.append(sum(isinstance(row, DeliveryStored) for row in batch))


def test_all_that_arrives_during_a_commit_is_the_next_one() -> None:
    journal = SlowJournal()
    with broker_of(journal) as broker, RawClient(broker.port) as publisher:
        park(broker.port)
        publisher.connect("publisher")
        journal.batches.clear()
        journal.let_go.clear()
        gate = broker.broker.host._storage._gate
        publisher.send(wire.Publish(Message("t", qos=1), 1))
        eventually(lambda: gate.waiting == 1 and gate.pending == 0)
        publisher.send(*(wire.Publish(Message("t", qos=1), n) for n in range(2, 31)))
        eventually(lambda: gate.waiting == 30)
        with RawClient(broker.port) as other:  # nobody else has to wait
            other.send_bytes(b"GET / HTTP/1.1\r\n\r\n")
            assert other.receive_all() == []
        journal.let_go.set()
        assert [publisher.receive() for _ in range(30)] == [wire.Puback(n) for n in range(1, 31)]
        assert journal.batches == [1, 29]


def test_a_mistake_at_a_late_answer_costs_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    send = Connection.send

    def send_or_raise(connection: Connection, action: wire.SendAction) -> None:
        if isinstance(action, SendPuback) and action.packet_id == 13:
            raise RuntimeError("a mistake")
        send(connection, action)

    monkeypatch.setattr(Connection, "send", send_or_raise)
    journal = SlowJournal()
    with broker_of(journal) as broker:
        park(broker.port)
        with RawClient(broker.port) as unlucky, RawClient(broker.port) as other:
            unlucky.connect("unlucky")
            other.connect("other")
            journal.let_go.clear()
            gate = broker.broker.host._storage._gate
            for waiting, client, packet_id in ((1, other, 1), (2, unlucky, 13), (3, other, 2)):
                client.send(wire.Publish(Message("t", qos=1), packet_id))
                eventually(lambda waiting=waiting: gate.waiting == waiting)  # type: ignore[misc]
            journal.let_go.set()
            assert [other.receive() for _ in range(2)] == [wire.Puback(1), wire.Puback(2)]
            assert unlucky.receive_all() == []
        assert [repr(each["exception"]) for each in broker.problems] == [
            "RuntimeError('a mistake')"
        ]
        broker.problems.clear()


def test_it_reads_no_more_while_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "LARGEST_BACKLOG", 100)
    journal = SlowJournal()
    limits = SessionLimits(maximum_queued_messages=None)
    with broker_of(journal, Configuration(limits=limits)) as broker:
        park(broker.port)
        with RawClient(broker.port) as publisher:
            publisher.connect("publisher", keep_alive=0)
            journal.let_go.clear()
            packets = [wire.Publish(Message("t", qos=1), number) for number in range(1, 2001)]
            publisher.send(*packets)
            gate = broker.broker.host._storage._gate
            eventually(lambda: gate.waiting > 50)
            journal.let_go.set()
            assert [publisher.receive().packet_id for _ in packets] == list(range(1, 2001))
    assert max(journal.batches) <= 101


# ---------------------------------------------------------------- downtime counts


class Clock:
    """What the broker takes for the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        monkeypatch.setattr(host_module, "time", SimpleNamespace(time=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Crashing(MemoryJournal):
    """Its broker crashes at the end; that of any other is stopped."""


@pytest.fixture(params=[MemoryJournal, Crashing], ids=["stop", "crash"])
def journal(request: pytest.FixtureRequest) -> MemoryJournal:
    made: MemoryJournal = request.param()
    return made


@contextlib.contextmanager
def until_it_ends(journal: MemoryJournal) -> Iterator[RunningBroker]:
    """A broker that is stopped, or crashes."""
    with broker_of(journal) as broker:
        yield broker
        if isinstance(journal, Crashing):
            journal.crash()


@pytest.mark.parametrize(("away", "present"), [(99.0, True), (100.0, False)])
def test_a_session_expires_while_there_is_no_broker(
    clock: Clock, journal: MemoryJournal, away: float, present: bool
) -> None:
    with until_it_ends(journal) as broker:
        park(broker.port, expiry=100)
    clock.now += away
    with broker_of(journal.reopened()) as broker:
        assert broker.gone("lamp") != present
        assert resume(broker.port) == (present, [])


def test_a_session_that_a_crash_has_cut_has_its_whole_interval(clock: Clock) -> None:
    """From the next start on: nobody knows when the connection ended."""
    journal = Crashing()
    with until_it_ends(journal) as broker, RawClient(broker.port) as client:
        client.connect("lamp", session_expiry_interval=100)
        clock.now += 50
        client.before_ping()
        journal.crash()
    clock.now += 5000
    with broker_of(journal.reopened()) as broker:
        assert broker.call(lambda each: each.store["lamp"].expires_at) == clock.now + 100


@pytest.mark.parametrize(("away", "left"), [(0.0, 60), (59.0, 1), (59.5, 1), (60.0, None)])
def test_a_message_expires_while_there_is_no_broker(
    clock: Clock, journal: MemoryJournal, away: float, left: int | None
) -> None:
    with until_it_ends(journal) as broker:
        park(broker.port)
        with RawClient(broker.port) as publisher:
            publisher.connect("publisher")
            publisher.publish("t", b"queued", 1, message_expiry_interval=60)
            publisher.publish("r", b"retained", 1, retain=True, message_expiry_interval=60)
    clock.now += away
    with broker_of(journal.reopened()) as broker:
        present, messages = resume(broker.port)
        assert present
        assert [each.message_expiry_interval for each in messages] == ([left] if left else [])
        assert broker.call(lambda each: each.store.retained_count) == (left is not None)


@pytest.mark.parametrize(("away", "is_due"), [(49.0, False), (50.0, True)])
def test_a_will_is_due_while_there_is_no_broker(
    clock: Clock, journal: MemoryJournal, away: float, is_due: bool
) -> None:
    with until_it_ends(journal) as broker, RawClient(broker.port) as client:
        park(broker.port)
        will = Will(Message("t", b"gone", 1), 50)
        client.connect("client", session_expiry_interval=1000, will=will)
        client.socket.close()
        eventually(lambda: broker.parked("client"))
        with RawClient(broker.port) as other:  # its CONNACK waits for all that was before it
            other.connect("other")
    clock.now += away
    journal = journal.reopened()
    with broker_of(journal) as broker:
        present, messages = resume(broker.port)
        assert present
        assert [message.payload for message in messages] == ([b"gone"] if is_due else [])
    clock.now += 50
    with broker_of(journal.reopened()) as broker:  # once, and never again
        assert [len(resume(broker.port)[1]) for _ in range(2)] == [not is_due, 0]


def test_a_store_that_breaks_off_ends_the_broker() -> None:
    """What is held may not be what is kept any more; the next process begins with what is kept."""
    told: list[JournalError] = []

    def fail(error: JournalError) -> None:
        told.append(error)

    loop = asyncio.new_event_loop()
    storage = Storage(MemoryJournal(), loop, lambda actions: None, fail)
    store = storage.recover(1.0, Configuration(), ServerOptions())
    assert storage.add(store.handle_timeout(1.0)) == ()
    storage.give_up(AssertionError("half done"))
    storage.give_up(AssertionError("again"))
    assert [str(each) for each in told] == ["the store is not what the journal says: half done"]
    assert storage.add(store.handle_timeout(2.0)) == ()
    storage.close()
    in_memory = Storage(None, loop, lambda actions: None, fail)
    in_memory.give_up(AssertionError("half done"))  # then there is nothing to disagree with
    assert len(told) == 1
    loop.close()
