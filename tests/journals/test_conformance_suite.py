"""The suite that users hold their journals to: it finds what journals get wrong."""

from __future__ import annotations

import struct
import unittest
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, get_args

import attrs
import pytest
from hypothesis import Phase, given, settings

from mqtt_sessions import testing
from mqtt_sessions.changes import (
    Change,
    DeliveryRemoved,
    DeliveryStored,
    ExchangeStored,
    IdsReserved,
    MessageRemoved,
    MessageStored,
    Row,
    SessionRemoved,
    SessionStored,
    Stored,
    row_of,
)
from mqtt_sessions.journals import JournalError, MemoryJournal, Quarantined
from mqtt_sessions.policy import ExpiryPolicy, SessionLimits
from mqtt_sessions.testing import change_batches
from mqtt_sessions.testing.journals import apply, exact

LOADED = "test_what_was_committed_is_loaded"
AGAIN = "test_a_batch_may_be_committed_again"
CUT = "test_a_batch_is_its_changes_one_by_one"
EMPTY = "test_an_empty_batch_changes_nothing"
BIG = "test_a_big_batch_is_one_batch"
FAILURE = "test_after_a_failure_nothing_is_taken"
CLOSE = "test_nothing_follows_close_but_close"
UNREAD = "test_what_holds_rows_is_read_before_it_is_written"
NO_CHANGE = "test_what_is_no_change_is_refused"


def changed(thing: Any, change: Callable[[Any], Any]) -> Any:
    """A value of which every number, text and flag went through something."""
    if isinstance(thing, tuple):
        return tuple(changed(each, change) for each in thing)
    if isinstance(thing, ExpiryPolicy | SessionLimits):
        return thing  # they refuse what they are not meant to hold
    if attrs.has(type(thing)):
        names = [field.name for field in attrs.fields(type(thing))]
        return type(thing)(*(changed(getattr(thing, name), change) for name in names))
    return change(thing)


class Columns(MemoryJournal):
    """What becomes of values in columns."""

    column: ClassVar[Callable[[Any], Any]]

    def load(self) -> Iterator[Stored]:
        shared: dict[Any, Any] = {}
        for row in super().load():
            found = changed(row, type(self).column)
            if isinstance(found, MessageStored):
                shared[found.message_id] = found.message
            if isinstance(found, DeliveryStored) and found.message_id is not None:
                message = shared[found.message_id]
                delivery = attrs.evolve(found.delivery, message=message)
                delivery = shared.setdefault((found.message_id, delivery), delivery)
                found = attrs.evolve(found, delivery=delivery)
            yield found


def with_column(column: Callable[[Any], Any]) -> type[MemoryJournal]:
    return type("Broken", (Columns,), {"column": staticmethod(column)})


def single(value: Any) -> Any:
    if not isinstance(value, float) or abs(value) > 1e38:
        return value
    return float(struct.unpack("f", struct.pack("f", value))[0])


def numeric(value: Any) -> Any:
    """A column of type STRING, which SQLite takes for a number."""
    return str(int(value)) if isinstance(value, str) and value.isdecimal() else value


COLUMNS: dict[str, Callable[[Any], Any]] = {
    "a float's last bits are lost": single,
    "a float is written with 15 digits": lambda value: (
        float(f"{value:.15g}") if isinstance(value, float) else value
    ),
    "007 becomes 7": numeric,
    "nothing and an empty text are the same": lambda value: None if value == "" else value,
    "nothing and no bytes are the same": lambda value: None if value == b"" else value,
    "a flag comes back as a number": lambda value: int(value) if value is True else value,
    "a whole float comes back as an integer": lambda value: (
        int(value) if isinstance(value, float) and value.is_integer() else value
    ),
    "a text ends at NUL": lambda value: (
        value.partition("\0")[0] if isinstance(value, str) else value
    ),
    "bytes pass for UTF-8": lambda value: (
        value.decode(errors="replace").encode() if isinstance(value, bytes) else value
    ),
    "a text has 255 characters": lambda value: value[:255] if isinstance(value, str) else value,
    "numbers have 32 bits": lambda value: value & 0xFFFFFFFF if type(value) is int else value,
}


class ForgetsRemovals(MemoryJournal):
    def commit(self, batch: Sequence[Change]) -> None:
        super().commit([each for each in batch if not isinstance(each, MessageRemoved)])


class StoresBeforeItRemoves(MemoryJournal):
    """In each batch, whatever their order."""

    def commit(self, batch: Sequence[Change]) -> None:
        super().commit(sorted(batch, key=lambda each: not isinstance(each, get_args(Stored))))


class KeepsTheFirst(MemoryJournal):
    """INSERT OR IGNORE."""

    def commit(self, batch: Sequence[Change]) -> None:
        present = {row_of(each) for each in self.rows}
        super().commit(
            [
                each
                for each in batch
                if not isinstance(each, get_args(Stored)) or row_of(each) not in present
            ]
        )


class LeavesWhatSessionsHad(MemoryJournal):
    def commit(self, batch: Sequence[Change]) -> None:
        if any(isinstance(each, SessionRemoved) for each in batch):
            self._disk.of_session.clear()
        super().commit(batch)


class TakesDeliveriesAlong(MemoryJournal):
    """It remembers whose all rows are, and clears by owner; one session too many."""

    def commit(self, batch: Sequence[Change]) -> None:
        super().commit(batch)
        if any(isinstance(each, SessionRemoved) for each in batch):
            for row in [row for row in self._disk.rows if row[0] == "delivery"]:
                del self._disk.rows[row]


class LoadsChildrenFirst(MemoryJournal):
    def load(self) -> Iterator[Stored]:
        return reversed(list(super().load()))


class LoadsExchangesEarly(MemoryJournal):
    def load(self) -> Iterator[Stored]:
        return iter(sorted(super().load(), key=lambda row: isinstance(row, DeliveryStored)))


class LoadsTwice(MemoryJournal):
    def load(self) -> Iterator[Stored]:
        for row in super().load():
            yield row
            yield row


class SharesNoMessage(MemoryJournal):
    def load(self) -> Iterator[Stored]:
        for row in super().load():
            yield (
                attrs.evolve(row, message=attrs.evolve(row.message))
                if isinstance(row, MessageStored)
                else row
            )


class SharesNoDelivery(MemoryJournal):
    def load(self) -> Iterator[Stored]:
        for row in super().load():
            yield (
                attrs.evolve(row, delivery=attrs.evolve(row.delivery))
                if isinstance(row, DeliveryStored)
                else row
            )


class LosesTheLastBatch(MemoryJournal):
    """What was not written at close is lost with the process."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[Change] = []

    def commit(self, batch: Sequence[Change]) -> None:
        super().commit(self.pending)
        self.pending = list(batch)

    def close(self) -> None:
        if not self._ended:
            super().commit(self.pending)
        super().close()


class HasTooFewVariables(MemoryJournal):
    def commit(self, batch: Sequence[Change]) -> None:
        super().commit(batch[:32_766])


class WantsChanges(MemoryJournal):
    def commit(self, batch: Sequence[Change]) -> None:
        if not batch:
            raise ValueError("an empty statement")
        super().commit(batch)


class FailsHalfway(MemoryJournal):
    def commit(self, batch: Sequence[Change]) -> None:
        if self.commits + 1 == self._fails_at:
            for change in batch[: len(batch) // 2]:
                self._disk.apply(row_of(change), change)
        super().commit(batch)


class GoesOnAfterFailure(MemoryJournal):
    def commit(self, batch: Sequence[Change]) -> None:
        try:
            super().commit(batch)
        except JournalError:
            self._ended = ""
            raise


class GoesOnAfterClose(MemoryJournal):
    def close(self) -> None:
        pass

    def commit(self, batch: Sequence[Change]) -> None:
        self._ended = ""
        super().commit(batch)


class IsWrittenUnread(MemoryJournal):
    def commit(self, batch: Sequence[Change]) -> None:
        self._is_unread = False
        super().commit(batch)


class PassesOver(MemoryJournal):
    """What it does not know it leaves out."""

    def commit(self, batch: Sequence[Change]) -> None:
        super().commit([each for each in batch if isinstance(each, get_args(Change))])


class FindsOutHalfway(MemoryJournal):
    def commit(self, batch: Sequence[Change]) -> None:
        for change in batch:
            super().commit([change])


class SetsAsideWhatIsSound(MemoryJournal):
    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        return (Quarantined("session", "1", "none"),) if self.rows else ()


class RaisesTheCounter(MemoryJournal):
    """It keeps the highest of what is absolute, and so is not the last change."""

    def commit(self, batch: Sequence[Change]) -> None:
        at_least = max(
            (each.below for each in self.rows if isinstance(each, IdsReserved)), default=0
        )
        super().commit(
            [
                IdsReserved(max(each.below, at_least + 1))
                if isinstance(each, IdsReserved)
                else each
                for each in batch
            ]
        )


BROKEN: list[tuple[type[MemoryJournal], str]] = [
    (ForgetsRemovals, LOADED),
    (StoresBeforeItRemoves, CUT),
    (KeepsTheFirst, LOADED),
    (LeavesWhatSessionsHad, LOADED),
    (TakesDeliveriesAlong, LOADED),
    (LoadsChildrenFirst, LOADED),
    (LoadsExchangesEarly, LOADED),
    (LoadsTwice, EMPTY),
    (SharesNoDelivery, LOADED),
    (LosesTheLastBatch, LOADED),
    (HasTooFewVariables, BIG),
    (WantsChanges, EMPTY),
    (FailsHalfway, FAILURE),
    (GoesOnAfterFailure, FAILURE),
    (GoesOnAfterClose, CLOSE),
    (IsWrittenUnread, UNREAD),
    (PassesOver, NO_CHANGE),
    (FindsOutHalfway, NO_CHANGE),
    (SetsAsideWhatIsSound, EMPTY),
    (RaisesTheCounter, AGAIN),
]


def case_of(kind: type[MemoryJournal], test: str, examples: int) -> testing.JournalConformance:
    journals: dict[Path, MemoryJournal] = {}

    class Case(testing.JournalConformance):
        settings = settings(
            max_examples=examples, derandomize=True, database=None, phases=[Phase.generate]
        )
        big = 40_000

        def open(self, place: Path) -> MemoryJournal:
            fresh = kind()
            if place in journals:
                fresh._disk = journals[place]._disk
                fresh._is_unread = True
            journals[place] = fresh
            return fresh

        def crash(self, journal: Any, place: Path) -> MemoryJournal:
            return self.open(place)

        def make_fail(self, journal: Any) -> None:
            journal.fail_at(1, applied=False)

    return Case(test)


def run(kind: type[MemoryJournal], test: str, examples: int = 400) -> None:
    case = case_of(kind, test, examples)
    case.setUp()
    getattr(case, test)()


@pytest.mark.parametrize(("kind", "test"), BROKEN, ids=lambda each: getattr(each, "__name__", ""))
def test_a_broken_journal_is_found(kind: type[MemoryJournal], test: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        run(kind, test)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_the_wrong_type_is_found(name: str) -> None:
    with pytest.raises(AssertionError, match=r"is not what was committed|loaded"):
        run(with_column(COLUMNS[name]), LOADED)


@pytest.mark.parametrize(
    "test",
    [
        *(LOADED, AGAIN, CUT, EMPTY, FAILURE, CLOSE, UNREAD, NO_CHANGE),
        pytest.param(BIG, marks=pytest.mark.unmeasured),
    ],
)
def test_what_is_right_passes(test: str) -> None:
    run(with_column(lambda value: value), test, 40)


def test_every_test_of_the_suite_finds_something() -> None:
    named = {each for each in dir(testing.JournalConformance) if each.startswith("test_")}
    assert named == {test for _, test in BROKEN}


def test_the_class_itself_is_not_run() -> None:
    loader = unittest.defaultTestLoader
    result = unittest.TestResult()
    loader.loadTestsFromTestCase(testing.JournalConformance).run(result)
    assert len(result.skipped) == result.testsRun > 0


def test_what_differs_is_told_row_by_row() -> None:
    with pytest.raises(AssertionError) as raised:
        run(with_column(numeric), LOADED)
    assert "in place of" in str(raised.value)


# ---------------------------------------------------------------- what is fed


@cache
def fed() -> list[list[tuple[Change, ...]]]:
    """Some hundred examples."""
    found = []

    @settings(max_examples=400, derandomize=True, database=None, phases=[Phase.generate])
    @given(change_batches())
    def collect(batches: list[tuple[Change, ...]]) -> None:
        found.append(batches)

    collect()
    return found


@pytest.mark.unmeasured
@pytest.mark.parametrize("kind", get_args(Change), ids=lambda kind: kind.__name__)
def test_every_kind_of_change_is_fed(kind: type) -> None:
    batches = [batch for each in fed() for batch in each]
    assert sum(isinstance(change, kind) for batch in batches for change in batch) > 10


def illegal(batches: list[tuple[Change, ...]]) -> bool:
    """Whether a store could not have said so."""
    rows: dict[Row, Stored] = {}
    given = 0
    for change in sum(batches, ()):
        before = dict(rows)
        apply(rows, [change])
        sessions = [each for each in rows.values() if isinstance(each, SessionStored)]
        deliveries = [each for each in rows.values() if isinstance(each, DeliveryStored)]
        owners = {each.session_id for each in sessions}
        if len({each.client_id for each in sessions}) < len(sessions):
            return True
        if any(getattr(each, "session_id", None) not in {None, *owners} for each in rows.values()):
            return True
        for delivery in deliveries:
            row = rows.get(("message", delivery.message_id or 0))
            if delivery.message_id is None:
                continue
            if not isinstance(row, MessageStored) or row.message != delivery.delivery.message:
                return True
        for each in rows.values():
            if isinstance(each, ExchangeStored) and each.delivery_id is not None:
                sent = rows.get(("delivery", each.delivery_id))
                if not isinstance(sent, DeliveryStored) or sent.session_id != each.session_id:
                    return True
        if isinstance(change, DeliveryStored | MessageStored) or (
            isinstance(change, SessionStored) and row_of(change) not in before
        ):
            number = row_of(change)[1]
            assert isinstance(number, int)
            if number <= given:
                return True
            given = number
        if isinstance(change, DeliveryRemoved) and row_of(change) not in before:
            return True
    return False


@pytest.mark.unmeasured
def test_batches_are_legal() -> None:
    assert not [batches for batches in fed() if illegal(batches)]


def test_what_merely_compares_equal_is_not_exact() -> None:
    assert len({exact(each) for each in (1, 1.0, True)}) == 3
    assert exact((1, "a")) == exact((1, "a"))
