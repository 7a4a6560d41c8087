"""The journal in memory: held to the contract, crashed and made to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqtt_sessions import InvalidValue, Outcome, testing
from mqtt_sessions.changes import RetainedStored, SessionStored
from mqtt_sessions.journals import Journal, JournalError, MemoryJournal
from mqtt_sessions.messages import Message

SESSION = SessionStored(1, "a", 1, True, 5, None, None, None, 0, None, None)
RETAINED = RetainedStored(Message("t", b"p"), 0.5, None, None, None)


class TestContract(testing.JournalConformance):
    def open(self, place: Path) -> Journal:
        journals: dict[Path, MemoryJournal] = self.__dict__.setdefault("journals", {})
        journals[place] = journals[place].reopened() if place in journals else MemoryJournal()
        return journals[place]

    def make_fail(self, journal: Journal) -> None:
        assert isinstance(journal, MemoryJournal)
        journal.fail_at(1, applied=len(journal.rows) % 2 == 0)


def test_a_commit_fails_at_its_turn_and_none_follows() -> None:
    journal = MemoryJournal()
    journal.fail_at(2, applied=False)
    journal.commit([SESSION])
    with pytest.raises(JournalError, match="told to fail"):
        journal.commit([RETAINED])
    with pytest.raises(JournalError, match="takes no more batches"):
        journal.commit([RETAINED])
    assert journal.rows == (SESSION,)
    assert journal.reopened().rows == (SESSION,)


def test_a_commit_that_fails_may_be_durable_nevertheless() -> None:
    journal = MemoryJournal()
    journal.fail_at(1, applied=True)
    with pytest.raises(JournalError):
        journal.commit([SESSION])
    journal = journal.reopened()
    assert journal.rows == (SESSION,)
    journal.commit([SESSION, RETAINED])
    assert journal.rows == (SESSION, RETAINED)


def test_what_is_no_change_is_the_hosts_mistake() -> None:
    journal = MemoryJournal()
    with pytest.raises(InvalidValue, match="a Change was expected, not str"):
        journal.commit([SESSION, "nonsense"])  # type: ignore[list-item]
    assert (journal.rows, journal.commits) == ((), 0)
    journal.commit([SESSION])


def test_what_is_no_batch_is_the_hosts_mistake_too() -> None:
    journal = MemoryJournal()
    for batch in (None, Outcome(), iter((SESSION,))):
        with pytest.raises(InvalidValue, match=f"sequence of Change, not {type(batch).__name__}"):
            journal.commit(batch)  # type: ignore[arg-type]
    assert (journal.rows, journal.commits) == ((), 0)
    journal.commit([SESSION])


def test_what_was_there_is_read_before_it_is_written() -> None:
    journal = MemoryJournal()
    journal.commit([SESSION])
    found = journal.reopened()
    with pytest.raises(JournalError, match="before it was read"):
        found.commit([RETAINED])
    assert list(found.load()) == [SESSION]
    found.commit([RETAINED])
    assert found.rows == (SESSION, RETAINED)


def test_after_a_crash_another_process_finds_the_rows() -> None:
    journal = MemoryJournal()
    journal.commit([SESSION])
    journal.crash()
    with pytest.raises(JournalError, match="crashed"):
        journal.commit([RETAINED])
    found = journal.reopened()
    assert list(found.load()) == list(found.load()) == [SESSION]


def test_a_journal_that_was_reopened_writes_no_more() -> None:
    old = MemoryJournal()
    new = old.reopened()
    with pytest.raises(JournalError, match="reopened"):
        old.commit([SESSION])
    new.commit([SESSION])
    assert new.rows == (SESSION,)
