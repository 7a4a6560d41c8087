"""A journal that is as durable as its process: for tests, which crash it and make it fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from mqtt_sessions.changes import (
    Change,
    DeliveryStored,
    ExchangeRemoved,
    ExchangeStored,
    InboundIdRemoved,
    InboundIdStored,
    MessageStored,
    ReplayRemoved,
    ReplayStored,
    Row,
    SessionRemoved,
    Stored,
    SubscriptionRemoved,
    SubscriptionStored,
    row_of,
)
from mqtt_sessions.journals.contract import JournalError, Quarantined, check_batch
from mqtt_sessions.messages import Delivery, Message

__all__ = ["MemoryJournal"]

_STORED = get_args(Stored)

_OF_SESSION = (
    SubscriptionStored,
    SubscriptionRemoved,
    InboundIdStored,
    InboundIdRemoved,
    ReplayStored,
    ReplayRemoved,
    ExchangeStored,
    ExchangeRemoved,
)
"""Rows that go with their session."""

_ORDER = (
    "epoch",
    "ids",
    "session",
    "subscription",
    "inbound",
    "replay",
    "will",
    "retained",
    "message",
    "delivery",
    "exchange",
)
"""Of tables at load: each behind those that its rows name."""


class _Disk:
    """What outlives a journal: the rows, and those of each session."""

    __slots__ = ("of_session", "rows")

    def __init__(self) -> None:
        self.rows: dict[Row, Stored] = {}
        self.of_session: dict[int, set[Row]] = {}

    def apply(self, row: Row, change: Change) -> None:
        if isinstance(change, _STORED):
            self.rows[row] = change
        else:
            self.rows.pop(row, None)
        if isinstance(change, _OF_SESSION):
            rows = self.of_session.setdefault(change.session_id, set())
            (rows.add if row in self.rows else rows.discard)(row)
        elif isinstance(change, SessionRemoved):
            for each in self.of_session.pop(change.session_id, ()):
                del self.rows[each]


class MemoryJournal:
    """A journal for tests.

        journal = MemoryJournal()
        journal.fail_at(3, applied=False)  # the third commit from now raises JournalError
        ...
        journal = journal.reopened()       # what a new process would find

    Attributes:
        commits: Batches that were committed, or failed, through this object.
    """

    def __init__(self) -> None:
        self._disk = _Disk()
        self._ended = ""
        self._is_unread = False
        self._fails_at: int | None = None
        self._applies = False
        self.commits = 0

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """Nothing; what is in memory is never damaged."""
        return ()

    @property
    def rows(self) -> tuple[Stored, ...]:
        """The rows in force, in the order of `load`. *Cost* O(rows log rows)."""
        return tuple(self.load())

    def fail_at(self, commit: int, *, applied: bool) -> None:
        """Let a commit fail, for good.

        Args:
            commit: Which one from now: 1 is the next.
            applied: Whether its batch is durable nevertheless; its committer cannot know.
        """
        self._fails_at = self.commits + commit
        self._applies = applied

    def crash(self) -> None:
        """Take no more batches, as after the end of the process; `reopened` finds the rows."""
        self._ended = "it has crashed"

    def reopened(self) -> MemoryJournal:
        """A new journal with the rows of this one, which ends."""
        self._ended = self._ended or "it was reopened"
        journal = MemoryJournal()
        journal._disk = self._disk
        journal._is_unread = bool(self._disk.rows)
        return journal

    def load(self) -> Iterator[Stored]:
        """All rows in force; may be called at any time, any number of times.

        *Cost* O(rows log rows).
        """
        self._is_unread = False
        return self._load()

    def _load(self) -> Iterator[Stored]:
        messages: dict[int, Message] = {}
        alike: dict[tuple[int, Delivery], Delivery] = {}
        for row in sorted(self._disk.rows, key=_place):
            change = self._disk.rows[row]
            match change:
                case MessageStored(message_id, message):
                    messages[message_id] = message
                case DeliveryStored(message_id=int(message_id), delivery=delivery):
                    # a test may have made each copy anew
                    delivery = alike.setdefault((message_id, delivery), delivery)
                    change = DeliveryStored(
                        change.delivery_id, change.session_id, message_id, delivery
                    )
            yield change

    def commit(self, batch: Sequence[Change]) -> None:
        """Make a batch part of the rows; see `Journal.commit`. *Cost* O(changes)."""
        if self._ended:
            raise JournalError(f"the journal takes no more batches: {self._ended}")
        if self._is_unread:
            raise JournalError("the journal takes no batch before it was read: it is not new")
        check_batch(batch)
        rows = [row_of(change) for change in batch]  # all or nothing, be it no change at all
        self.commits += 1
        fails = self.commits == self._fails_at
        if not fails or self._applies:
            for row, change in zip(rows, batch, strict=True):
                self._disk.apply(row, change)
        if fails:
            self._ended = "a commit has failed"
            raise JournalError("a batch may not be durable: this commit was told to fail")

    def close(self) -> None:
        """Take no more batches; `reopened` finds the rows."""
        self._ended = self._ended or "it is closed"


def _place(row: Row) -> tuple[int, Row]:
    return _ORDER.index(str(row[0])), row[1:]
