"""A test case that holds a journal to its contract.

    class TestMine(JournalConformance):
        def open(self, place):
            return MyJournal(place / "sessions")

Hypothesis looks for batches that the journal does not give back, and shrinks them.
"""

from __future__ import annotations

import tempfile
import unittest
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, get_args

import attrs
import hypothesis
from hypothesis import HealthCheck
from hypothesis import strategies as st

from mqtt_sessions.changes import (
    Change,
    DeliveryRemoved,
    DeliveryStored,
    ExchangeStored,
    MessageStored,
    Row,
    SessionRemoved,
    SessionStored,
    Stored,
    fold,
    row_of,
)
from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.journals.contract import Journal, JournalError
from mqtt_sessions.journals.memory import MemoryJournal
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.testing.batches import change_batches

__all__ = ["JournalConformance"]

Batches = Sequence[Sequence[Change]]
Rows = dict[Row, Stored]

_STORED = get_args(Stored)
_OF_SESSION = {"subscription", "exchange", "inbound", "replay"}


class JournalConformance(unittest.TestCase):
    """Base class of tests that hold a journal to `Journal`.

    Override `open`, and `crash` and `make_fail` if you can. pytest and unittest collect the
    subclass as any other test case; this class itself is not run.

    Attributes:
        settings: Hypothesis settings, None for those in force. Deadline and health checks are
            always off: disks are slow.
        big: Deliveries in the one batch that is large.
    """

    __test__ = False

    settings: ClassVar[hypothesis.settings | None] = None
    big: ClassVar[int] = 100_000

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.__test__ = cls.open is not JournalConformance.open

    def open(self, place: Path) -> Journal:
        """The journal at a place, with all that was committed there.

        Args:
            place: A directory, empty for a new journal. A journal that has no files can take its
                name, which is another one each time.
        """
        raise NotImplementedError

    def crash(self, journal: Journal, place: Path) -> Journal:
        """What a new process finds after the end of this one; by default the journal is closed.

        Override it to leave out whatever closing does, and all that is not durable.
        """
        journal.close()
        return self.open(place)

    def make_fail(self, journal: Journal) -> None:
        """Let the journal's next commit fail; without an override that is not tested."""
        self.skipTest("override `make_fail` to see what follows a commit that fails")

    def setUp(self) -> None:
        if type(self).open is JournalConformance.open:
            self.skipTest("only subclasses that open a journal are run")

    # ---------------------------------------------------------------- what is given back

    def test_what_was_committed_is_loaded(self) -> None:
        """All rows in force and nothing else, whatever ends the process and when."""

        def check(place: Path, data: st.DataObject) -> None:
            journal = self._begin(place)
            rows: Rows = {}
            for batch in data.draw(change_batches(), "batches"):
                journal.commit(batch)
                apply(rows, batch)
                match data.draw(st.sampled_from(("goes on", "closes", "crashes")), "then it"):
                    case "closes":
                        journal.close()
                        journal = self.open(place)
                        self._agree(journal, rows)
                    case "crashes":
                        journal = self.crash(journal, place)
                        self._agree(journal, rows)
            journal.close()
            journal = self.open(place)
            self._agree(journal, rows)
            journal.close()

        self._for_all(check)

    def test_a_batch_may_be_committed_again(self) -> None:
        """Where its fate is not known, be it on its own or in one with the next."""

        def check(place: Path, data: st.DataObject) -> None:
            journal = self._begin(place)
            rows: Rows = {}
            doubtful: Sequence[Change] = ()
            for batch in data.draw(change_batches(), "batches"):
                again = data.draw(st.sampled_from((0, 1, 2)), "again")
                for _ in range(again):
                    journal.commit(batch)
                if again == 2:
                    doubtful = ()
                else:
                    doubtful = (*doubtful, *batch)
                    journal.commit(doubtful)
                apply(rows, batch)
                journal = self._reopened(journal, place, rows)
            journal.close()

        self._for_all(check)

    def test_a_batch_is_its_changes_one_by_one(self) -> None:
        """However a run is cut into batches; the last change of each row is what counts."""

        def check(place: Path, data: st.DataObject) -> None:
            changes = [change for batch in data.draw(change_batches()) for change in batch]
            rows: Rows = {}
            apply(rows, changes)
            cuts: dict[str, Batches] = {
                "all": [changes],
                "each": [[change] for change in changes],
                "folded": [fold(changes)],
            }
            batches = cuts[data.draw(st.sampled_from(sorted(cuts)), "cut")]
            journal = self._begin(place)
            for batch in batches:
                journal.commit(batch)
            self._reopened(journal, place, rows).close()

        self._for_all(check)

    def test_an_empty_batch_changes_nothing(self) -> None:
        """Neither the first one nor one between others."""
        with self._place() as place:
            journal = self._begin(place)
            journal.commit(())
            session = SessionStored(1, "a", 1, True, 5, None, None, None, 0, None, None)
            journal.commit((session,))
            journal.commit(())
            self._reopened(journal, place, {row_of(session): session}).close()

    def test_a_big_batch_is_one_batch(self) -> None:
        """A session that becomes durable brings all that it has; one that ends takes it along."""
        with self._place() as place:
            journal = self._begin(place)
            session = SessionStored(1, "a", 1, False, 5, None, None, None, 0, None, None)
            message = MessageStored(2, Message("t", b"shared", 1), 0.5, None, None, None)
            shared = Delivery(message.message, 1, False, (), 0.5)
            queued: list[DeliveryStored] = []
            for number in range(self.big):
                alone = Delivery(Message("t", b"%d" % number, 1), 1, False, (), float(number))
                one = (2, shared) if number % 3 else (None, alone)
                queued.append(DeliveryStored(number + 3, 1, *one))
            batch: list[Change] = [session, message, *queued]
            rows: Rows = {}
            apply(rows, batch)
            journal.commit(batch)
            journal.close()
            journal = self.open(place)
            _require(self._loaded(journal) == rows, "a large batch is not given back")
            batch = [DeliveryRemoved(each.delivery_id) for each in queued[: self.big // 2]]
            apply(rows, batch)
            journal.commit(batch)
            journal.close()
            journal = self.open(place)
            _require(self._loaded(journal) == rows, "a large batch does not remove what it should")
            journal.close()

    # ---------------------------------------------------------------- its end

    def test_after_a_failure_nothing_is_taken(self) -> None:
        """The batch that failed is there wholly or not at all, and no later one is."""

        def check(place: Path, data: st.DataObject) -> None:
            journal = self._begin(place)
            *before, failed, later = data.draw(
                change_batches().filter(lambda batches: len(batches) > 2 and all(batches[-2:])),
                "batches",
            )
            rows: Rows = {}
            for batch in before:
                journal.commit(batch)
                apply(rows, batch)
            self.make_fail(journal)
            for batch in (failed, failed, later, ()):
                self._is_refused(journal, batch, "a commit that fails, or one after it")
            journal = self.crash(journal, place)
            found = self._loaded(journal)
            if exact(found) != exact(rows):
                apply(rows, failed)
                self._same(found, rows, "half of a batch, or one after a failed one")
            journal.close()

        if type(self).make_fail is JournalConformance.make_fail:
            self.make_fail(MemoryJournal())  # says that it is skipped, once and here
        self._for_all(check)

    def test_what_holds_rows_is_read_before_it_is_written(self) -> None:
        """Else a store that knows nothing of them would mix others with them."""
        with self._place() as place:
            journal = self._begin(place)
            session = SessionStored(1, "a", 1, True, 5, None, None, None, 0, None, None)
            journal.commit((session,))
            journal.close()
            journal = self.open(place)
            other = attrs.evolve(session, session_id=2, client_id="b")
            self._is_refused(journal, (other,), "a commit before load")
            self._reopened(journal, place, {row_of(session): session}).close()

    def test_what_is_no_change_is_refused(self) -> None:
        """The host's mistake is told as such, and nothing of its batch is there."""
        with self._place() as place:
            journal = self._begin(place)
            session = SessionStored(1, "a", 1, True, 5, None, None, None, 0, None, None)
            try:
                journal.commit((session, "a"))  # type: ignore[arg-type]
            except InvalidValue:
                pass
            else:
                raise AssertionError("a batch that holds no Change has to raise InvalidValue")
            self._reopened(journal, place, {}).close()

    def test_nothing_follows_close_but_close(self) -> None:
        """A closed journal refuses batches, and may be closed again."""
        with self._place() as place:
            journal = self._begin(place)
            journal.close()
            journal.close()
            session = SessionStored(1, "a", 1, True, 5, None, None, None, 0, None, None)
            self._is_refused(journal, (session,), "a commit after close")
            journal = self.open(place)
            self._agree(journal, {})
            journal.close()

    # ---------------------------------------------------------------- what tests are made of

    def _for_all(self, check: Callable[[Path, st.DataObject], None]) -> None:
        settings = hypothesis.settings(
            self.settings or hypothesis.settings(),
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )

        @settings
        @hypothesis.given(st.data())
        def run(data: st.DataObject) -> None:
            with self._place() as place:
                check(place, data)

        run()

    @contextmanager
    def _place(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="journal-") as name:
            yield Path(name)

    def _begin(self, place: Path) -> Journal:
        journal = self.open(place)
        self._agree(journal, {})
        return journal

    def _reopened(self, journal: Journal, place: Path, rows: Rows) -> Journal:
        journal.close()
        journal = self.open(place)
        self._agree(journal, rows)
        return journal

    def _is_refused(self, journal: Journal, batch: Sequence[Change], what: str) -> None:
        try:
            journal.commit(batch)
        except JournalError:
            return
        raise AssertionError(f"{what} has to raise JournalError, and did not")

    def _agree(self, journal: Journal, rows: Rows) -> None:
        self._same(self._loaded(journal), rows, "what is loaded is not what was committed")

    def _same(self, found: Rows, rows: Rows, message: str) -> None:
        if exact(found) == exact(rows):
            return
        told = [
            f"{' '.join(map(str, row))}: {found.get(row)!r} in place of {rows.get(row)!r}"
            for row in {**rows, **found}
            if exact(found.get(row)) != exact(rows.get(row))
        ]
        raise AssertionError("\n".join([message, *told[:10]]))

    def _loaded(self, journal: Journal) -> Rows:
        """What a journal gives back, each row behind those that it names, alike ones shared."""
        rows: Rows = {}
        alike: dict[tuple[int, Delivery], Delivery] = {}
        for change in journal.load():
            row = row_of(change)
            _require(row not in rows, f"{row} is loaded twice")
            if row[0] in _OF_SESSION or isinstance(change, DeliveryStored):
                owner: Any = ("session", change.session_id)  # type: ignore[union-attr]
                _require(owner in rows, f"{row} is loaded before its session")
            if isinstance(change, ExchangeStored) and change.delivery_id is not None:
                sent = ("delivery", change.delivery_id)
                _require(sent in rows, f"{row} is loaded before its delivery")
            if isinstance(change, DeliveryStored) and change.message_id is not None:
                message = rows.get(("message", change.message_id))
                if not isinstance(message, MessageStored):
                    raise AssertionError(f"{row} is loaded before its message")
                delivery = change.delivery
                _require(delivery.message is message.message, f"{row} has a message of its own")
                first = alike.setdefault((change.message_id, delivery), delivery)
                _require(delivery is first, f"{row} is not shared with those that are alike")
            rows[row] = change
        _require(journal.quarantined == (), f"set aside, and not damaged: {journal.quarantined}")
        return rows


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def apply(rows: Rows, batch: Iterable[Change]) -> None:
    """Apply a batch to the rows in force, change by change."""
    for change in batch:
        row = row_of(change)
        if isinstance(change, _STORED):
            rows[row] = change
            continue
        rows.pop(row, None)
        if isinstance(change, SessionRemoved):
            for each in [each for each in rows if each[0] in _OF_SESSION]:
                if each[1] == change.session_id:
                    del rows[each]


def exact(thing: Any) -> Any:
    """A value that equals no other that merely compares equal, such as 1, 1.0 and True."""
    if isinstance(thing, dict):
        return {key: exact(each) for key, each in thing.items()}
    if isinstance(thing, tuple):
        return tuple(map(exact, thing))
    if attrs.has(type(thing)):
        names = [each.name for each in attrs.fields(type(thing))]
        return type(thing), *(exact(getattr(thing, name)) for name in names)
    if isinstance(thing, Enum):
        return thing
    return type(thing), thing
