"""The host of a small world that commits in batches: what its gate holds, and what is durable."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from mqtt_sessions.actions import Action
from mqtt_sessions.changes import SessionStored
from mqtt_sessions.gate import CommitGate
from mqtt_sessions.messages import Message
from mqtt_sessions.testing.canonical import Names
from mqtt_sessions.testing.clients import ServerFault
from mqtt_sessions.testing.search_packets import packet_key
from mqtt_sessions.testing.search_rows import after_changes, ended
from mqtt_sessions.testing.search_rules import Ledger
from mqtt_sessions.testing.search_store import Node
from mqtt_sessions.turn import Outcome

__all__ = ["Moment", "Pending"]

Call = Outcome | str
"""What a gate was given: an outcome, or that a batch was cut, or written."""


class Moment(NamedTuple):
    """The store and the account between two steps."""

    store: Node
    ledger: Ledger


class Pending:
    """What is not durable yet; never changed once it was made.

    Attributes:
        stored: What a crash would leave.
        on_its_way: What it would leave if the batch that is being written were durable.
        gate: What is withheld; rebuilt for each step, for a gate cannot be copied.
    """

    __slots__ = ("_calls", "gate", "on_its_way", "stored")

    def __init__(
        self,
        stored: Moment,
        on_its_way: Moment | None = None,
        calls: tuple[Call, ...] = (),
        gate: CommitGate | None = None,
    ) -> None:
        self.stored = stored
        self.on_its_way = on_its_way
        self._calls = calls
        self.gate = gate or CommitGate()

    @property
    def waiting(self) -> frozenset[Hashable]:
        """Connections to which something is withheld: their names are not free yet."""
        return frozenset(self.gate._last)

    def add(self, outcomes: tuple[Outcome, ...], now: Moment) -> tuple[list[Action], Pending]:
        """Outcomes come in, after which the store is where `now` says."""
        gate = self._replayed()
        ready: list[Action] = []
        for outcome in outcomes:
            ready += gate.add(outcome)
        return ready, Pending(
            self.stored, self.on_its_way, (*self._calls, *outcomes), gate
        )._settled(now)

    def cut(self, now: Moment) -> Pending:
        """A batch is cut, and being written.

        Raises:
            ServerFault: With it the journal would not hold what it ought to.
        """
        gate = self._replayed()
        batch = gate.take_batch()
        assert batch is not None
        if after_changes(self.stored.store.rows, batch[1], is_batch=True) != now.store.rows:
            raise ServerFault("host", f"the batch is not what was changed: {batch[1]}")
        return Pending(self.stored, now, (*self._calls, "cut"), gate)

    def written(self, now: Moment) -> tuple[list[Action], Pending]:
        """The batch is durable."""
        assert self.on_its_way is not None
        gate = self._replayed()
        ready = list(gate.committed(1 + self._calls.count("written")))
        return ready, Pending(self.on_its_way, None, (*self._calls, "written"), gate)._settled(now)

    def _settled(self, now: Moment) -> Pending:
        """Where nothing is left to be written, a crash leaves everything."""
        if self.on_its_way is not None or self.gate.pending:
            return self
        if self.stored.store.rows != now.store.rows:
            raise ServerFault("host", "nothing is left to be written, and not all is stored")
        return Pending(now)

    def _replayed(self) -> CommitGate:
        """A gate that was given the same."""
        gate = CommitGate()
        written = 0
        for call in self._calls:
            if isinstance(call, Outcome):
                gate.add(call)
            elif call == "cut":
                gate.take_batch()
            else:
                written += 1
                gate.committed(written)
        return gate

    def key(
        self,
        now: Moment,
        names: Names,
        message: Callable[[Message], Hashable],
        seen: Callable[[Moment], Hashable],
    ) -> Hashable:
        """All of it that decides what happens from here on."""
        moments = tuple(
            [
                None
                if each is None
                else (seen(each), _is_latest(each.ledger, now.ledger), _ended(each, now))
                for each in (self.stored, self.on_its_way)
            ]
        )
        return moments, _gate_key(self.gate, names, message), _rows_open(self.gate, now.store)


def _is_latest(ledger: Ledger, now: Ledger) -> tuple[bool, ...]:
    """Of each client: whether its latest connection was known then."""
    return tuple(
        [each.visits == now.accounts[name].visits for name, each in ledger.accounts.items()]
    )


def _ended(moment: Moment, now: Moment) -> frozenset[str]:
    """Clients whose session of then has ended since: a crash would bring it back."""
    rows = moment.store.rows
    gone = ended(rows, now.store.rows)
    return frozenset(
        each.client_id
        for each in rows.values()
        if isinstance(each, SessionStored) and each.session_id in gone
    )


def _rows_open(gate: CommitGate, store: Node) -> frozenset[Hashable]:
    """Clients whose session's row is not durable, and whether its batch is cut already."""
    cut = gate._committed + len(gate._in_flight)
    found: list[Hashable] = []
    for session_id, number in gate._sessions.items():
        row = store.rows.get(("session", session_id))
        if isinstance(row, SessionStored):
            found.append((row.client_id, number <= cut))
    return frozenset(found)


def _gate_key(
    gate: CommitGate, names: Names, message: Callable[[Message], Hashable]
) -> tuple[Hashable, ...]:
    """What waits, for which rows, and which of those may still be elided."""
    sessions: dict[int, int] = {}
    rows: dict[int, list[Hashable]] = {}
    for copy, segment in gate._deliveries.values():
        session = sessions.setdefault(copy.session_id, len(sessions))
        row = session, message(copy.delivery.message), copy.delivery.qos
        rows.setdefault(id(segment), []).append(row)
    for body, segment in gate._messages.values():
        rows.setdefault(id(segment), []).append(message(body.message))

    def waits(segment: Any) -> Hashable:
        return tuple(
            [
                (
                    names.connection(each.connection),
                    packet_key(each, each.connection[:-1], names, message),
                )
                for each in segment
            ]
        )

    return (
        tuple([tuple([waits(segment) for segment in batch]) for batch in gate._in_flight]),
        tuple([(waits(each), each.live, tuple(rows.get(id(each), ()))) for each in gate._open]),
        frozenset([message(each) for each, _ in gate._wills.values()]),
    )
