"""What every journal promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from mqtt_sessions._values import value
from mqtt_sessions.changes import Change, Stored
from mqtt_sessions.errors import InvalidValue, MqttSessionsError

__all__ = ["Journal", "JournalError", "JournalUnusable", "Quarantined", "check_batch"]


class JournalError(MqttSessionsError):
    """A batch may not be durable; the journal takes no more: drop the store, reopen, recover."""


class JournalUnusable(MqttSessionsError):
    """It cannot be opened: held by somebody else, not writable, of a later format, no journal."""


@value
class Quarantined:
    """A damaged row that was set aside.

    Attributes:
        table: Where it stood.
        row: What names it there, as far as it can be told.
        reason: What is wrong with it.
    """

    table: str
    row: str
    reason: str


class Journal(Protocol):
    """Where changes become durable.

    `load` is called once, and read to its end, before the first `commit`: what holds rows already
    refuses batches before, lest a store that knows nothing of them mixes others with them. One
    store writes to a journal.
    """

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """What `load` has set aside; it stays in the journal's own quarantine."""

    def load(self) -> Iterator[Stored]:
        """All rows in force, in an order in which each comes behind those that it names.

        Equal to what was committed: deliveries of one message share one `Message`, and those that
        are alike one `Delivery`. Damaged rows are set aside, and everything else is loaded.

        Raises:
            JournalUnusable: It cannot be read to its end; when it is called, or on the way.

        *Cost* O(rows), in time; what it holds besides the rows it has given out is bounded by the
        sessions, and by the messages that several deliveries share.
        """

    def commit(self, batch: Sequence[Change]) -> None:
        """Make a batch durable, all of it or nothing; it is durable when this returns.

        The result is that of applying its changes one by one, in order. A batch may be committed
        again if its fate is not known.

        Raises:
            JournalError: It may or may not be durable, and the journal takes no more batches; or
                the journal is not new, and `load` was not called yet.
            InvalidValue: It is no sequence (an `Outcome`, say, instead of its changes), or holds
                something that is no `Change`; nothing was written.

        *Cost* O(changes), and one wait for the disk.
        """

    def close(self) -> None:
        """Give everything back; nothing may follow but `close`."""


def check_batch(batch: object) -> None:
    """An `Outcome` or None in the place of changes is the host's mistake, not the disk's; and what
    can be read only once would be gone before it is written.

    Raises:
        InvalidValue: It is no sequence.
    """
    if not isinstance(batch, Sequence):
        raise InvalidValue(f"a batch must be a sequence of Change, not {type(batch).__name__}")
