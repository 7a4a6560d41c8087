"""The host of a durable store: it commits what is changed, and performs what may be seen."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import evolve, fields

from mqtt_sessions.actions import (
    Action,
    SendConnack,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
)
from mqtt_sessions.changes import ExchangeStored, Row, SessionRemoved, SessionStored, row_of
from mqtt_sessions.gate import CommitGate
from mqtt_sessions.journals.contract import JournalError
from mqtt_sessions.journals.memory import MemoryJournal
from mqtt_sessions.messages import Delivery
from mqtt_sessions.session import Session
from mqtt_sessions.snapshots import StoreSnapshot
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing._watched import Violation
from mqtt_sessions.testing.durable import durable_view
from mqtt_sessions.turn import Outcome

__all__ = ["JournaledHost", "check_same"]


class JournaledHost:
    """Hands changes to a journal that fails, and knows which steps are durable.

    Args:
        random: Where chance comes from.
        pipelined: Batches are cut and written at any time; without it, each step's at once.

    Attributes:
        steps: Outcomes that came in.
        settled: How many of them are durable.
        calm: Nothing fails, and all is committed at once.
    """

    def __init__(self, random: Callable[[], float], *, pipelined: bool) -> None:
        self.journal = MemoryJournal()
        self.steps = 0
        self.settled = 0
        self.calm = False
        self._random = random
        self._pipelined = pipelined
        self._gate = CommitGate()
        self._on_its_way: tuple[int, tuple[Any, ...], int] | None = None
        self._rows: dict[Row, Any] = {}
        self._sessions: dict[str, int] = {}
        self._clients: dict[int, str] = {}

    def take(self, outcome: Outcome) -> tuple[Action, ...]:
        """What may be performed once this has come in, and perhaps something was committed.

        Raises:
            JournalError: A batch may not be durable.
        """
        self.steps += 1
        ready = self._gate.add(outcome)
        random = self._random
        at_once = self.calm or not self._pipelined
        if self._on_its_way is not None and (at_once or random() < 0.3):
            ready += self._write()
        if self._on_its_way is None:
            if self._gate.pending and (at_once or random() < 0.2):
                self._cut()
                if at_once or random() < 0.3:
                    ready += self._write()
            elif not self._gate.pending:
                self.settled = self.steps
        return ready

    def crash(self) -> None:
        """The process ends; the batch on its way, if there is one, may be durable or not."""
        if self._on_its_way is not None and self._random() < 0.5:
            with suppress(JournalError):
                self._write()

    def lose(self, outcome: Outcome) -> None:
        """An outcome comes in of which nobody sees anything; it may have been committed."""
        self.steps += 1
        self._gate.add(outcome)
        if self._on_its_way is None and self._gate.pending and self._random() < 0.5:
            self._cut()

    def reopen(self) -> None:
        """A new process opens the journal; what waited is forgotten."""
        self.journal.crash()
        self.journal = self.journal.reopened()
        self._gate = CommitGate()
        self._on_its_way = None
        self.steps = self.settled = 0

    def _cut(self) -> None:
        batch = self._gate.take_batch()
        assert batch is not None
        self._on_its_way = (*batch, self.steps)

    def _write(self) -> tuple[Action, ...]:
        assert self._on_its_way is not None
        number, changes, steps = self._on_its_way
        self._on_its_way = None
        fails = not self.calm and self._random() < 1 / 2000
        applied = fails and self._random() < 0.5
        if fails:
            self.journal.fail_at(1, applied=applied)
        try:
            self.journal.commit(changes)
        except JournalError:
            if applied:
                self._note(changes)
                self.settled = steps
            raise
        self._note(changes)
        self.settled = steps
        ready = self._gate.committed(number)
        if not self._gate.pending:
            self.settled = self.steps
        return ready

    # ------------------------------------------------------------ what the journal has

    def _note(self, changes: tuple[Any, ...]) -> None:
        """Rows of sessions that are gone may stay: their identifiers do not come again."""
        rows = self._rows
        for change in changes:
            row = row_of(change)
            kind = type(change)
            if kind.__name__.endswith("Removed"):
                rows.pop(row, None)
            else:
                rows[row] = change
            if kind is SessionStored:
                self._sessions[change.client_id] = change.session_id
                self._clients[change.session_id] = change.client_id
            elif kind is SessionRemoved:
                client_id = self._clients.pop(change.session_id, "")
                if self._sessions.get(client_id) == change.session_id:
                    del self._sessions[client_id]

    def check_visible(self, action: Action, session: Session | None) -> None:
        """Nothing is visible that a restore would not remember.

        Raises:
            Violation: A crash would take back what the action promises.
        """
        kind: Any = type(action)
        if kind not in _PROMISES:
            return
        if kind is SendPublish and action.delivery.qos < 2:  # type: ignore[union-attr]
            return
        if session is None or session.session_expiry_interval == 0:
            return
        client_id = session.client_id
        packet_id: int = getattr(action, "packet_id", 0)
        session_id = self._sessions.get(client_id, 0)
        code = getattr(action, "reason_code", 0)
        if kind is SendConnack:
            known = session_id != 0
        elif kind is SendPubrec:
            known = code >= 0x80 or ("inbound", session_id, packet_id) in self._rows
            known = known or packet_id not in session.inbound_packet_ids
        elif kind is SendPubcomp:
            known = ("inbound", session_id, packet_id) not in self._rows
            known = known or packet_id in session.inbound_packet_ids
        else:
            row: ExchangeStored | None = self._rows.get(("exchange", session_id, packet_id))
            known = row is not None and (kind is SendPublish or row.delivery_id is None)
            known = known or code == 0x92
            known = known or all(each.packet_id != packet_id for each in session.in_flight)
        if not known:
            what = f"{client_id!r} sees {action!r}, which a crash would take back"
            raise Violation("host", what)


def check_same(before: StoreSnapshot, after: StoreSnapshot, now: float) -> None:
    """What a journal gives back is what there was, but for orders that nobody sees.

    Raises:
        Violation: It is something else.
    """
    was, found = _view(before, now), _view(after, now)
    pairs: list[tuple[Any, Any]] = [(was, found)]
    pairs += zip(was.sessions, found.sessions, strict=False)
    for old, new in reversed(pairs):
        for field in fields(type(old)):
            one, other = getattr(old, field.name), getattr(new, field.name)
            if one != other:
                what = f"{getattr(old, 'client_id', 'store')!r} {field.name}"
                raise Violation("host", f"of {what} {one!r} a crash makes {other!r}")


def _view(snapshot: StoreSnapshot, now: float) -> StoreSnapshot:
    view = durable_view(snapshot, now)
    sessions = tuple(
        evolve(
            each,
            subscriptions=tuple(sorted(each.subscriptions, key=_topic_filter)),
            inbound=tuple(sorted(each.inbound)),
            queue=tuple(_unmarked(copy) for copy in each.queue),
            in_flight=tuple((name, copy and _unmarked(copy)) for name, copy in each.in_flight),
        )
        for each in view.sessions
    )
    retained = tuple(sorted(view.retained, key=lambda each: each.received_at))
    return evolve(view, sessions=sessions, retained=retained)


def _unmarked(copy: Delivery) -> Delivery:
    """A 3.x client was sent RETAIN 0, which is no property of the copy; a `Watch` looks at it."""
    return copy if copy.is_retained else evolve(copy, retain=False)


def _topic_filter(subscription: Subscription) -> str:
    return subscription.topic_filter


_PROMISES = frozenset({SendConnack, SendPubrec, SendPubcomp, SendPubrel, SendPublish})
