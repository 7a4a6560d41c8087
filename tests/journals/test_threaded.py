"""A journal in a thread: order, the first failure, and what a host may do meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from mqtt_sessions import InvalidValue, testing
from mqtt_sessions.changes import Change, RetainedRemoved, SessionStored, row_of
from mqtt_sessions.journals import (
    Journal,
    JournalError,
    MemoryJournal,
    Quarantined,
    SQLiteJournal,
    ThreadedJournal,
)

SESSION = SessionStored(1, "a", 1, True, 5, None, None, None, 0, None, None)
FIRST, SECOND, THIRD = ((RetainedRemoved(topic),) for topic in ("1", "2", "3"))


class SlowJournal(MemoryJournal):
    """Each commit waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.batches: list[Sequence[Change]] = []
        self.threads: set[int] = set()
        self.is_closed = False

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        return (Quarantined("t", "1", "damaged"),)

    def commit(self, batch: Sequence[Change]) -> None:
        self.began.release()
        assert self.go.acquire(timeout=60)
        self.threads.add(threading.get_ident())
        super().commit(batch)
        self.batches.append(batch)

    def close(self) -> None:
        self.is_closed = True
        super().close()


class TestContract(testing.JournalConformance):
    settings = settings(max_examples=20)
    big = 10_000

    def open(self, place: Path) -> Journal:
        self.inner = SQLiteJournal(place / "sessions.db")
        return ThreadedJournal(self.inner)

    def make_fail(self, journal: Journal) -> None:
        self.inner._connection.execute("PRAGMA query_only = ON")


def test_what_is_no_change_is_told_as_such_and_no_batch_follows() -> None:
    inner = MemoryJournal()
    journal = ThreadedJournal(inner)
    with pytest.raises(InvalidValue, match="expected, not str"):
        journal.commit([SESSION, "nonsense"])  # type: ignore[list-item]
    with pytest.raises(JournalError, match="a batch was not written"):
        journal.commit([SESSION])
    assert inner.rows == ()
    journal.close()


def test_the_next_batch_is_collected_while_one_is_written() -> None:
    slow = SlowJournal()
    journal = ThreadedJournal(slow)
    first = journal.submit(FIRST)
    assert slow.began.acquire(timeout=60)
    second = journal.submit(SECOND)
    assert not first.done()
    assert not second.done()
    slow.go.release(2)
    assert first.result(60) is second.result(60) is None
    assert slow.batches == [FIRST, SECOND]
    assert slow.threads != {threading.get_ident()}
    assert len(slow.threads) == 1
    journal.close()


def test_after_a_failure_no_batch_is_written_not_even_one_that_waits() -> None:
    slow = SlowJournal()
    slow.fail_at(2, applied=False)
    journal = ThreadedJournal(slow)
    futures = [journal.submit(batch) for batch in (FIRST, SECOND, THIRD)]
    slow.go.release(10)
    assert futures[0].result(60) is None
    for future in futures[1:]:
        with pytest.raises(JournalError, match="told to fail"):
            future.result(60)
    with pytest.raises(JournalError, match=r"^the journal takes no more batches: a batch may not"):
        journal.commit(THIRD)
    assert slow.batches == [FIRST]
    assert slow.commits == 2
    journal.close()


def test_an_error_of_another_kind_ends_it_too() -> None:
    class Broken(MemoryJournal):
        def commit(self, batch: Sequence[Change]) -> None:
            self.commits += 1
            raise OSError("no such device")

    broken = Broken()
    journal = ThreadedJournal(broken)
    with pytest.raises(JournalError, match="no such device"):
        journal.commit(FIRST)
    with pytest.raises(JournalError):
        journal.commit(FIRST)
    assert broken.commits == 1
    journal.close()


def test_a_batch_that_was_handed_over_cannot_be_taken_back() -> None:
    """A task that is canceled must not leave a hole in the order."""
    slow = SlowJournal()
    journal = ThreadedJournal(slow)

    async def host() -> None:
        first = journal.submit(FIRST)
        task = asyncio.ensure_future(asyncio.wrap_future(first))
        later = asyncio.wrap_future(journal.submit(SECOND))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not first.cancelled()
        slow.go.release(2)
        await later
        assert first.result() is None  # it tells what became of its batch all the same

    asyncio.run(host())
    assert slow.batches == [FIRST, SECOND]
    journal.close()


def test_close_waits_for_what_was_handed_over() -> None:
    slow = SlowJournal()
    journal = ThreadedJournal(slow)
    futures = [journal.submit(batch) for batch in (FIRST, SECOND)]
    slow.go.release(2)
    journal.close()
    assert all(future.done() for future in futures)
    assert slow.batches == [FIRST, SECOND]
    assert slow.is_closed
    with pytest.raises(JournalError, match="closed"):
        journal.submit(THIRD)
    journal.close()


def test_what_was_loaded_is_that_of_the_journal_inside() -> None:
    slow = SlowJournal()
    slow._disk.apply(row_of(SESSION), SESSION)
    journal = ThreadedJournal(slow)
    assert list(journal.load()) == [SESSION]
    assert journal.quarantined == slow.quarantined
    journal.close()
