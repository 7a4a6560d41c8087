"""The journal in a SQLite file: held to the contract, and whatever else its file can meet."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from mqtt_sessions import ClientConnected, InvalidValue, Outcome, SessionStore, testing
from mqtt_sessions.changes import (
    Change,
    DeliveryRemoved,
    DeliveryStored,
    MessageStored,
    SessionRemoved,
    SessionStored,
    SubscriptionStored,
)
from mqtt_sessions.journals import Journal, JournalError, JournalUnusable, SQLiteJournal
from mqtt_sessions.journals import sqlite_schema as schema
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.subscriptions import Subscription

SESSION = SessionStored(1, "a", 1, True, 5, None, None, None, 0, None, None)


def queued(delivery_id: int, payload: bytes = b"p", received_at: float = 0.1) -> DeliveryStored:
    message = Message("sensors/7", payload, 1)
    return DeliveryStored(delivery_id, 1, None, Delivery(message, 1, False, (), received_at))


class TestContract(testing.JournalConformance):
    settings = settings(max_examples=40)

    def open(self, place: Path) -> Journal:
        return SQLiteJournal(place / "sessions.db")

    def crash(self, journal: Journal, place: Path) -> Journal:
        """File and log as they are at this instant."""
        left = [(path, path.read_bytes()) for path in place.iterdir()]
        journal.close()
        for path in place.iterdir():
            path.unlink()
        for path, content in left:
            path.write_bytes(content)
        return self.open(place)

    def make_fail(self, journal: Journal) -> None:
        """When all but its end is written."""
        assert isinstance(journal, SQLiteJournal)

        def authorize(action: int, what: str | None, *_: object) -> int:
            refused = action == sqlite3.SQLITE_TRANSACTION and what == "COMMIT"
            return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK

        journal._connection.set_authorizer(authorize)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


# ---------------------------------------------------------------- the file


def test_what_the_file_is(path: Path) -> None:
    journal = SQLiteJournal(path)
    pragma = {
        name: journal._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "locking_mode", "synchronous", "page_size", "user_version")
    }
    assert pragma == {
        "journal_mode": "wal",
        "locking_mode": "exclusive",
        "synchronous": 2,  # FULL
        "page_size": 8192,
        "user_version": schema.FORMAT_VERSION,
    }
    indices = journal._connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'delivery'"
    )
    assert indices.fetchall() == []
    journal.close()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_directory_of_a_new_file_is_synchronized(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronized = []

    def fsync(descriptor: int) -> None:
        synchronized.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", fsync)
    SQLiteJournal(path).close()
    assert synchronized == [str(path.parent)]
    SQLiteJournal(path).close()
    assert synchronized == [str(path.parent)]


def test_a_process_that_is_killed_leaves_all_that_was_committed(path: Path) -> None:
    code = textwrap.dedent("""
        import os, signal, sys
        from mqtt_sessions.journals import SQLiteJournal
        from tests.journals.test_sqlite import SESSION, queued
        journal = SQLiteJournal(sys.argv[1])
        journal.commit([SESSION])
        for number in range(2, 50):
            journal.commit([queued(number)])
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert schema.wal_of(path).stat().st_size
    journal = SQLiteJournal(path)
    assert list(journal.load()) == [SESSION, *(queued(number) for number in range(2, 50))]
    journal.close()


# ---------------------------------------------------------------- what cannot be opened


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(JournalUnusable, match=r"gone/sessions\.db: there is no directory .*gone"):
        SQLiteJournal(tmp_path / "gone" / "sessions.db")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, ""):
        with pytest.raises(JournalUnusable, match="is a directory"):
            SQLiteJournal(path)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_of_something_else(path: Path, read_only: bool) -> None:
    path.write_bytes(b"no database, but as long as the head of one would be" * 200)
    before = path.read_bytes()
    with pytest.raises(JournalUnusable, match=r"sessions\.db: it is no session journal"):
        SQLiteJournal(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    "script", ["CREATE TABLE t (a)", "PRAGMA application_id = 7; CREATE TABLE t (a)"]
)
def test_a_database_of_something_else(path: Path, script: str, read_only: bool) -> None:
    other = sqlite3.connect(path)
    other.executescript(script)
    other.close()
    before = path.read_bytes()
    with pytest.raises(JournalUnusable, match="no session journal but a database of something"):
        SQLiteJournal(path, read_only=read_only)
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    with pytest.raises(JournalUnusable, match=r"is empty$"):
        SQLiteJournal(path, read_only=True)
    journal = SQLiteJournal(path)
    assert list(journal.load()) == []
    journal.commit([SESSION])
    assert list(journal.load()) == [SESSION]
    journal.close()


def test_a_file_that_has_lost_its_log_is_told_from_an_empty_one(path: Path) -> None:
    journal = SQLiteJournal(path)
    copied = path.with_name("copy.db")
    shutil.copy(path, copied)
    with pytest.raises(JournalUnusable, match=r"is empty; has it lost its log \(-wal\)\?"):
        SQLiteJournal(copied, read_only=True)
    journal.close()


def test_a_file_that_is_not_new_takes_nothing_before_it_was_read(path: Path) -> None:
    """The rows of a store that begins anew would get mixed up with what is there."""
    journal = SQLiteJournal(path)
    journal.commit([SESSION])
    journal.close()
    journal = SQLiteJournal(path)
    store = SessionStore(durable=True)
    changes = store.handle(ClientConnected("c", "b", session_expiry_interval=60), 0.0).changes
    with pytest.raises(JournalError, match="it is not new, so begin with"):
        journal.commit(changes)
    assert list(journal.load()) == [SESSION]
    journal.commit([SubscriptionStored(1, Subscription("a"))])
    journal.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_journal_that_is_open_elsewhere_in_the_process(path: Path, read_only: bool) -> None:
    journal = SQLiteJournal(path)
    journal.commit([SESSION])
    with pytest.raises(JournalUnusable, match="held by another"):
        SQLiteJournal(path, read_only=read_only)
    journal.commit([queued(2)])
    assert len(list(journal.load())) == 2
    journal.close()


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the journal open."""
    code = textwrap.dedent("""
        import sys
        from mqtt_sessions.journals import SQLiteJournal
        from tests.journals.test_sqlite import SESSION
        journal = SQLiteJournal(sys.argv[1])
        journal.commit([SESSION])
        print("open", flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_journal_that_another_process_has(
    path: Path, holder: subprocess.Popen[str], read_only: bool
) -> None:
    with pytest.raises(JournalUnusable, match=r"sessions\.db: it is held by another process"):
        SQLiteJournal(path, read_only=read_only)
    holder.kill()
    holder.wait()
    journal = SQLiteJournal(path, read_only=read_only)
    assert list(journal.load()) == [SESSION]
    journal.close()


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="needs users")
@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_file_that_may_not_be_written(mode: int) -> None:
    """As somebody whom that concerns, which the owner of a test may not be."""
    code = textwrap.dedent("""
        import os, sys
        from mqtt_sessions.journals import JournalUnusable, SQLiteJournal
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            SQLiteJournal(sys.argv[1])
        except JournalUnusable as error:
            print(error)
    """)
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        path = Path(name) / "sessions.db"
        SQLiteJournal(path).close()
        path.chmod(mode)
        said = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        ).stdout
        assert said.startswith(f"{path}: it cannot be ")
        assert "check who may" in said


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize("read_only", [False, True])
def test_a_later_format_is_refused_with_both_versions(path: Path, read_only: bool) -> None:
    SQLiteJournal(path).close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 77")
    other.close()
    with pytest.raises(JournalUnusable, match=r"format 77, .* up to 1; use the release"):
        SQLiteJournal(path, read_only=read_only)


def test_an_older_format_is_migrated_step_by_step(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = SQLiteJournal(path)
    journal.commit([SESSION])
    journal.close()
    migrations = {
        1: lambda each: each.execute("ALTER TABLE session RENAME COLUMN epoch TO run"),
        2: lambda each: each.execute("UPDATE session SET run = run + 41"),
    }
    monkeypatch.setattr(schema, "MIGRATIONS", migrations)
    monkeypatch.setattr(schema, "FORMAT_VERSION", 3)
    with pytest.raises(JournalUnusable, match=r"format 1, .* brought to 3"):
        SQLiteJournal(path, read_only=True)
    journal = SQLiteJournal(path)
    (session,) = journal.load()
    assert isinstance(session, SessionStored)
    assert session.epoch == 42
    journal.close()
    other = sqlite3.connect(path)
    assert other.execute("PRAGMA user_version").fetchone() == (3,)
    other.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SQLiteJournal(path).close()
    migrations = {
        1: lambda each: each.execute("DROP TABLE will"),
        2: lambda each: each.execute("DROP TABLE gone"),
    }
    monkeypatch.setattr(schema, "MIGRATIONS", migrations)
    monkeypatch.setattr(schema, "FORMAT_VERSION", 3)
    with pytest.raises(JournalUnusable, match="no such table: gone"):
        SQLiteJournal(path)
    monkeypatch.undo()
    journal = SQLiteJournal(path)
    assert list(journal.load()) == []
    journal.close()


# ---------------------------------------------------------------- failures


def test_a_full_disk_ends_the_journal(path: Path) -> None:
    journal = SQLiteJournal(path)
    journal.commit([SESSION, queued(2)])
    journal._connection.execute("PRAGMA max_page_count = 40")
    batches = [[queued(number, b"x" * 1000)] for number in range(3, 1000)]
    with pytest.raises(JournalError, match="is full"):
        list(map(journal.commit, batches))
    for batch in ([DeliveryRemoved(2)], []):
        with pytest.raises(JournalError, match=r"takes no more batches: .*is full"):
            journal.commit(batch)
    journal.close()
    journal = SQLiteJournal(path)
    rows = list(journal.load())
    assert len(rows) > 100
    assert rows[-1] == queued(len(rows), b"x" * 1000)
    journal.close()


def test_what_is_no_change_is_the_hosts_mistake_and_not_the_journals_end(path: Path) -> None:
    journal = SQLiteJournal(path)
    with pytest.raises(InvalidValue, match="holds str, which is no Change"):
        journal.commit([SESSION, "nonsense"])  # type: ignore[list-item]
    assert list(journal.load()) == []
    journal.commit([SESSION])
    assert list(journal.load()) == [SESSION]
    journal.close()


@pytest.mark.parametrize("batch", [None, 5, Outcome(), SESSION, iter((SESSION,))])
def test_what_is_no_batch_is_the_hosts_mistake_and_not_the_journals_end(
    path: Path, batch: Any
) -> None:
    journal = SQLiteJournal(path)
    with pytest.raises(InvalidValue, match=f"sequence of Change, not {type(batch).__name__}"):
        journal.commit(batch)
    assert list(journal.load()) == []
    journal.commit([SESSION])
    assert list(journal.load()) == [SESSION]
    journal.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
def test_a_process_that_was_forked_off_does_not_write(path: Path) -> None:
    script = """
        import os, sys
        from mqtt_sessions.journals import JournalError, SQLiteJournal
        from tests.journals.test_sqlite import SESSION
        journal = SQLiteJournal(sys.argv[1])
        child = os.fork()
        if child == 0:
            try:
                journal.commit([SESSION])
            except JournalError as error:
                print(error, flush=True)
            os._exit(0)  # nothing of the parent's is finished here
        os.waitpid(child, 0)
        assert list(journal.load()) == []
        journal.commit([SESSION])
        journal.close()
        """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "takes no batch from this process" in told.stdout
    journal = SQLiteJournal(path)
    assert list(journal.load()) == [SESSION]
    journal.close()


def test_a_closed_journal_is_not_read(path: Path) -> None:
    journal = SQLiteJournal(path)
    journal.close()
    with pytest.raises(JournalUnusable, match="closed"):
        journal.load()


# ---------------------------------------------------------------- the log


def test_the_log_is_cut_back_and_holds_the_batch_of_any_size(path: Path) -> None:
    journal = SQLiteJournal(path)
    journal.commit([SESSION])
    for number in range(2, 3000):
        journal.commit([queued(number, b"x" * 8000)])
    assert schema.wal_of(path).stat().st_size <= schema.MOST_LOG
    journal.close()
    journal = SQLiteJournal(path)
    assert sum(1 for _ in journal.load()) == 2999
    journal.close()


def test_small_batches_after_one_that_is_large_per_change(path: Path) -> None:
    """The measure of pages for each change is of the past, and the log is bounded even so."""
    journal = SQLiteJournal(path)
    journal.commit([SESSION])
    for number in range(2, 40_002, 1000):
        journal.commit([queued(each) for each in range(number, number + 1000)])
    for number in range(50_000, 51_000):
        journal.commit([queued(number, b"x" * 100_000)])
    assert schema.wal_of(path).stat().st_size < schema.MOST_LOG + 300_000
    journal.close()


def test_after_a_large_batch_the_log_is_not_moved_with_each_commit(path: Path) -> None:
    journal = SQLiteJournal(path)
    journal.commit([SESSION, *(queued(number, b"x" * 50_000) for number in range(2, 1500))])
    moved = []
    journal._connection.set_trace_callback(moved.append)
    for number in range(2000, 2100):
        journal.commit([queued(number)])
    assert sum("wal_checkpoint" in statement for statement in moved) <= 1
    assert schema.wal_of(path).stat().st_size <= schema.KEPT_LOG
    journal.close()


# ---------------------------------------------------------------- looking only


def test_reading_only_writes_nothing_even_beside_a_log(path: Path, tmp_path: Path) -> None:
    journal = SQLiteJournal(path)
    journal.commit([SESSION, queued(2)])
    left = tmp_path / "left"
    left.mkdir()
    for each in (path, schema.wal_of(path)):  # as after a crash
        shutil.copy(each, left)
    journal.close()
    before = {each.name: each.read_bytes() for each in left.iterdir()}
    assert len(before) == 2
    journal = SQLiteJournal(left / path.name, read_only=True)
    assert list(journal.load()) == [SESSION, queued(2)]
    with pytest.raises(JournalError, match="read-only"):
        journal.commit([queued(3)])
    journal.close()
    assert {each.name: each.read_bytes() for each in left.iterdir()} == before


def test_reading_only_writes_nothing_where_there_is_no_log(path: Path) -> None:
    journal = SQLiteJournal(path)
    journal.commit([SESSION])
    journal.close()
    before = path.read_bytes()
    journal = SQLiteJournal(path, read_only=True)
    assert list(journal.load()) == [SESSION]
    journal.close()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_reading_only_leaves_no_file_where_there_is_none(path: Path) -> None:
    with pytest.raises(JournalUnusable, match="there is no such file"):
        SQLiteJournal(path, read_only=True)
    assert not path.exists()


# ---------------------------------------------------------------- how it is written


def test_a_copy_costs_a_few_bytes_and_shares_what_its_message_has(path: Path) -> None:
    message = Message("t", b"p" * 100, 1)
    arrival = (0.1 + 0.2, 7.5, 5, "publisher")
    copy = Delivery(message, 1, False, (), *arrival)
    batch: list[Change] = [SESSION, MessageStored(2, message, *arrival)]
    batch += [DeliveryStored(number, 1, 2, copy) for number in range(3, 13)]
    journal = SQLiteJournal(path)
    journal.commit(batch)
    (sizes,) = journal._connection.execute("SELECT sum(length(body)) FROM delivery").fetchone()
    assert sizes == 10 * 3
    # one in a later batch brings its own arrival, for its message's is not at hand
    journal.commit([DeliveryStored(700, 1, 2, copy)])
    loaded = list(journal.load())
    assert loaded == [*batch, DeliveryStored(700, 1, 2, copy)]
    assert len({id(row.delivery) for row in loaded if isinstance(row, DeliveryStored)}) == 1
    journal.close()


def test_ending_a_session_leaves_the_others_alone(path: Path) -> None:
    other = SessionStored(2, "b", 1, True, 5, None, None, None, 0, None, None)
    kept = SubscriptionStored(2, Subscription("f"))
    journal = SQLiteJournal(path)
    journal.commit([SESSION, other, SubscriptionStored(1, Subscription("f")), kept])
    journal.commit([SessionRemoved(1)])
    assert list(journal.load()) == [other, kept]
    journal.close()
