"""What of an outcome may be performed before its changes are durable, for hosts that pipeline.

Waiting goes by what an action relies on, not by the changes of its own outcome. What promises
something, or has to be remembered after a crash, waits for every change made up to the instant at
which it was produced, by whatever connection: the PUBREC of a repeat relies on the rows of the
first PUBLISH. Most PUBLISH packets at QoS 0 and 1 rely on nothing, and go at once.

A copy that is stored and removed before its batch is cut is never written, and what waited for it
goes: a message that its receivers acknowledge soon never touches the disk. Where the copy had to
make room, or its session ends, or a new connection cannot take it, what waited goes on to wait for
that, for a crash would undo it.

Packet identifiers come from a block that the session's row reserves, and what is used between two
rows from that of the row before (see `SessionStored`). So they rely on something only where a row
comes before the last one is durable: there PUBLISH at QoS 1 waits, and what follows waits behind.

The history of changes is divided into segments, each with the actions that wait for everything up
to its end. Segments leave in order, which keeps the order within a connection.

Spec: none; the order of persist and send is the library's own contract.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any

from mqtt_sessions._validation import check_flag
from mqtt_sessions.actions import (
    Action,
    CloseConnection,
    RouteMessage,
    SendConnack,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
)
from mqtt_sessions.changes import (
    Change,
    DeliveryRemoved,
    DeliveryStored,
    ExchangeRemoved,
    ExchangeStored,
    InboundIdRemoved,
    InboundIdStored,
    MessageRemoved,
    MessageStored,
    ReplayRemoved,
    ReplayStored,
    Row,
    SessionRemoved,
    SessionStored,
    row_of,
)
from mqtt_sessions.errors import InvalidState, InvalidValue
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.notices import Notice, WillPublished
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.turn import Outcome

__all__ = ["CommitGate"]

_PROMISES = frozenset(
    {SendConnack, SendSuback, SendUnsuback, SendPuback, SendPubrec, SendPubrel, SendPubcomp}
)
"""Always rely on what is stored; the other actions have to be looked at."""


class _Segment(list[Action]):
    """A stretch of the history of changes, and the actions that wait for all up to its end.

    Attributes:
        live: Its rows that may still have to be written, those that cannot be elided counted once.
    """

    __slots__ = ("live",)

    live: int


class CommitGate:
    """Withholds what relies on changes that are not durable yet, and lets the rest go.

    Feed it every outcome, in order; perform what comes back, in order. When the journal is free,
    cut a batch, commit it, and tell; several may be on their way at a time.

    Within one connection nothing overtakes anything, and what waits overtakes nothing at all.
    Elision relies on what `changes` promises: an identifier of a row is never used again.

    Not thread-safe: let the thread that commits hand the batch's number back. An action may come
    out when its connection is long lost: drop it, and never give a connection the name of one that
    something waits for.

    Args:
        qos1_waits: PUBLISH at QoS 1 waits like one at QoS 2, so that a crash never makes a
            receiver see a message again that the store no longer knows.

    *Bound* one entry for each row of the open batch, for each action that waits, and for each
    connection that has one. Nothing limits how much that is but the host, by cutting and
    committing, and by not reading on while too much waits.

    Spec: MQTT 5.0 §4.3.2, §4.3.3 [MQTT-4.3.3-10], §3.1.2.5 [MQTT-3.1.2-10].
    """

    __slots__ = (
        "_committed",
        "_deliveries",
        "_ended",
        "_fixed",
        "_has_failed",
        "_in_flight",
        "_last",
        "_messages",
        "_open",
        "_qos1_waits",
        "_sessions",
        "_tail",
        "_waiting",
        "_wills",
    )

    def __init__(self, *, qos1_waits: bool = False) -> None:
        check_flag("CommitGate", "qos1_waits", qos1_waits)
        self._qos1_waits = qos1_waits
        self._has_failed = False
        # The open batch. Only the first two kinds of rows can be elided.
        self._deliveries: dict[int, tuple[DeliveryStored, _Segment]] = {}
        self._messages: dict[int, tuple[MessageStored, _Segment]] = {}
        self._fixed: dict[int | Row, Change] = {}
        self._ended: dict[int, SessionRemoved] = {}
        self._open: deque[_Segment] = deque()  # the first of them has live rows
        # Batches on their way, which hold at least one segment; the first is `_committed` + 1.
        self._in_flight: deque[list[_Segment]] = deque()
        self._committed = 0
        self._tail: _Segment | None = None  # the last of all; None: everything is durable
        self._last: dict[Hashable, _Segment] = {}  # where the last action of a connection waits
        self._waiting = 0
        # In order of the batches until which they matter: wills by identity, rows of sessions.
        self._wills: dict[int, tuple[Message, int]] = {}
        self._sessions: dict[int, int] = {}

    @property
    def pending(self) -> int:
        """Rows that a batch would hold if it were cut now. *Cost* O(1)."""
        return len(self._deliveries) + len(self._messages) + len(self._fixed) + len(self._ended)

    @property
    def waiting(self) -> int:
        """Actions that are withheld. *Cost* O(1)."""
        return self._waiting

    # ------------------------------------------------------------ what comes in

    def add(self, outcome: Outcome) -> tuple[Action, ...]:
        """Take an outcome in.

        Returns:
            What may be performed now: first what waited for rows that this outcome has elided,
            then what of its own actions relies on nothing that is not durable.

        Raises:
            InvalidState: The gate has failed.

        *Cost* O(changes + actions), and what goes; O(1) while nothing is changed or awaited.
        """
        if self._has_failed:
            self._refuse()
        ready: list[Action] = []
        waits = 0
        if outcome.changes:
            waits = self._take(outcome.changes, ready)
        elif self._tail is None:
            return outcome.actions
        if not outcome.actions and not outcome.notices:
            return tuple(ready)
        tail = self._tail
        if tail is None:
            return (*ready, *outcome.actions)
        if outcome.notices:
            self._note_wills(outcome.notices)
        last = self._last
        action: Any  # all but RouteMessage have a connection
        for action in outcome.actions:
            kind = type(action)
            if kind is SendPublish:
                delivery = action.delivery
                relies = self._publish_relies(delivery) or bool(waits >> delivery.qos & 1)
            elif kind in _PROMISES:
                relies = True
            elif kind is RouteMessage:
                self._route(action, tail, ready)
                continue
            else:
                # The answer to DISCONNECT: the will has to be gone [MQTT-3.14.4-3].
                relies = kind is CloseConnection and action.reason_code == ReasonCode.SUCCESS
            if relies:
                tail.append(action)
                last[action.connection] = tail
            elif (behind := last.get(action.connection)) is not None:
                behind.append(action)
            else:
                ready.append(action)
                continue
            self._waiting += 1
        return tuple(ready)

    def _publish_relies(self, delivery: Delivery) -> bool:
        """QoS 2 on its identifier, what came in at QoS 2 on that one, a will on its removal."""
        return (
            delivery.message.qos == 2
            or delivery.qos == 2
            or (self._qos1_waits and delivery.qos == 1)
            or (bool(self._wills) and id(delivery.message) in self._wills)
        )

    def _route(self, action: RouteMessage, tail: _Segment, ready: list[Action]) -> None:
        """What a session without a store hands on relies on what its PUBLISH would."""
        message = action.message
        if message.qos == 2 or id(message) in self._wills:
            tail.append(action)
            self._waiting += 1
        else:
            ready.append(action)

    def _note_wills(self, notices: tuple[Notice, ...]) -> None:
        """Copies of a will wait until its removal is durable, those of later outcomes too."""
        for notice in notices:
            if isinstance(notice, WillPublished):
                key = id(notice.message)
                self._wills.pop(key, None)  # to the end: the dict is in order of the batches
                number = self._committed + len(self._in_flight) + bool(self._open)
                self._wills[key] = notice.message, number

    # ------------------------------------------------------------ the open batch

    def _take(self, changes: tuple[Change, ...], ready: list[Action]) -> int:
        """Put changes into the open batch, and let go what needs none of them any more.

        Returns:
            A bit for each QoS whose PUBLISH waits. 0, which is sent once or not at all, if a crash
            may bring back what is sent now: a copy that an earlier batch may hold was removed, or
            a retained message was passed over. 1 if a session's row comes before the one before
            it is durable: a restored session starts behind the identifiers that the journal knows
            as reserved, and those that are used now are in that one's block.
        """
        waits = 0
        deliveries, messages, opened = self._deliveries, self._messages, self._open
        segment: _Segment | None = None
        gone: list[tuple[DeliveryStored, _Segment]] = []
        for change in changes:
            # by identity: an isinstance that says no takes several times as long
            if type(change) is DeliveryStored:
                if segment is None:
                    segment = self._segment()
                segment.live += 1
                deliveries[change.delivery_id] = change, segment
            elif type(change) is DeliveryRemoved:
                copy = deliveries.pop(change.delivery_id, None)
                if copy is None:
                    waits |= 1
                    self._fix(change.delivery_id << 2, change)
                elif len(changes) == 1:
                    copy[1].live -= 1
                else:
                    gone.append(copy)
            elif type(change) is MessageStored:
                if segment is None:
                    segment = self._segment()
                segment.live += 1
                messages[change.message_id] = change, segment
            elif type(change) is MessageRemoved:
                body = messages.pop(change.message_id, None)
                if body is None:
                    self._fix(change.message_id << 2 | 1, change)
                else:
                    body[1].live -= 1
            else:
                if type(change) is ReplayStored or type(change) is ReplayRemoved:
                    waits |= 1
                self._fix(_key(change), change)
                if type(change) is SessionStored and self._note_session(change.session_id):
                    waits |= 2
        if gone:
            self._elide(gone, changes)
        if opened and not opened[0].live:
            self._settle(ready)
        return waits

    def _elide(
        self, gone: list[tuple[DeliveryStored, _Segment]], changes: tuple[Change, ...]
    ) -> None:
        """Copies that were stored and removed in the open batch: what waited for them goes.

        Unless a crash undoes what made them go, and so brings back a session that has never got
        them: its end, a newcomer that took their place, a connection that could not take them.
        """
        undone = {
            each.session_id
            for each in changes
            if type(each) is SessionStored
            or (type(each) is DeliveryStored and each.delivery_id in self._deliveries)
        }
        passed_on = self._passed_on(gone, changes)
        for stored, made_in in gone:
            session_id = stored.session_id
            if id(stored.delivery.message) in passed_on or session_id in self._ended:
                continue
            if session_id in undone:  # the removal is written for them to wait for
                self._fix(stored.delivery_id << 2, DeliveryRemoved(stored.delivery_id))
            else:
                made_in.live -= 1

    def _note_session(self, session_id: int) -> bool:
        """Its row stands in the open batch; whether the row before it is still to be durable."""
        is_open = self._sessions.pop(session_id, None) is not None
        self._sessions[session_id] = self._committed + len(self._in_flight) + 1
        return is_open

    def _passed_on(
        self, gone: list[tuple[DeliveryStored, _Segment]], changes: tuple[Change, ...]
    ) -> set[int]:
        """Messages, by identity, that left a row and came into another in the same outcome.

        What waited for the old row relies on the new one, which may belong to another session. So
        the new one is written, and the segment of the old one stays until then.
        """
        messages = {id(stored.delivery.message) for stored, _ in gone}
        passed_on: set[int] = set()
        for change in changes:
            if type(change) is DeliveryStored and id(change.delivery.message) in messages:
                heir = self._deliveries.pop(change.delivery_id, None)
                if heir is not None:
                    self._fixed[change.delivery_id << 2] = change
                    passed_on.add(id(change.delivery.message))
        return passed_on

    def _segment(self) -> _Segment:
        """The segment for a row that comes now: nothing that waits in it may rely on less."""
        opened = self._open
        # A row that cannot be elided holds up all behind it anyway: no more segments are needed.
        if opened and (not opened[-1] or self._fixed or self._ended):
            return opened[-1]
        segment = self._tail = _Segment()
        segment.live = 0
        opened.append(segment)
        return segment

    def _fix(self, key: int | Row, change: Change) -> None:
        """A row that has to be written whatever comes, if only by its last change."""
        if not self._fixed and not self._ended:
            self._segment().live += 1
        if type(change) is SessionRemoved:
            self._fixed.pop(key, None)
            self._ended[change.session_id] = change
        else:
            self._fixed[key] = change

    def _settle(self, ready: list[Action]) -> None:
        """Let segments go that have nothing to be written before them."""
        opened, in_flight = self._open, self._in_flight
        while opened and not opened[0].live:
            segment = opened.popleft()
            if not in_flight:
                self._release(segment, ready)
            elif segment:
                in_flight[-1].append(segment)
        if not opened:
            self._close()

    def _close(self) -> None:
        """The open batch is empty: what comes waits for the last one on its way, if there is."""
        if self._in_flight:
            self._tail = self._in_flight[-1][-1]
        else:
            self._tail = None
            self._wills.clear()

    def _release(self, segment: _Segment, ready: list[Action]) -> None:
        """What waits in a segment goes; no trace stays of connections that wait no more."""
        last = self._last
        action: Any
        for action in segment:
            if type(action) is not RouteMessage and last.get(action.connection) is segment:
                del last[action.connection]
        self._waiting -= len(segment)
        ready += segment

    # ------------------------------------------------------------ batches

    def take_batch(self) -> tuple[int, tuple[Change, ...]] | None:
        """Cut the open batch, to be made durable behind those that were cut before.

        Returns:
            Its number, 1 and up without gaps, and its changes: one for each row, removals of
            sessions last. None if there are none, because every row so far is in an earlier batch
            or was elided.

        Raises:
            InvalidState: The gate has failed.

        *Cost* O(rows of the batch).
        """
        if self._has_failed:
            self._refuse()
        if not self._open:
            return None
        changes = (
            *self._fixed.values(),
            *[body[0] for body in self._messages.values()],
            *[copy[0] for copy in self._deliveries.values()],
            *self._ended.values(),
        )
        self._in_flight.append(list(self._open))
        self._clear_batch()
        return self._committed + len(self._in_flight), changes

    def _clear_batch(self) -> None:
        for rows in (self._deliveries, self._messages, self._fixed, self._ended, self._open):
            rows.clear()

    def committed(self, number: int) -> tuple[Action, ...]:
        """This batch and all that were cut before it are durable.

        Returns:
            What waited for them, in order.

        Raises:
            InvalidValue: The number is no int.
            InvalidState: No such batch is on its way, or the gate has failed.

        *State on error* as before the call. *Cost* O(actions that go).
        """
        if self._has_failed:
            self._refuse()
        if isinstance(number, bool) or not isinstance(number, int):
            kind = type(number).__name__
            raise InvalidValue(f"CommitGate.committed number must be of type int, not {kind}")
        in_flight = self._in_flight
        if not self._committed < number <= self._committed + len(in_flight):
            raise InvalidState(f"no batch {number} is on its way")
        ready: list[Action] = []
        while self._committed < number:
            self._committed += 1
            for segment in in_flight.popleft():
                self._release(segment, ready)
        wills = self._wills
        while wills and wills[first := next(iter(wills))][1] <= number:
            del wills[first]
        sessions = self._sessions
        while sessions and sessions[first := next(iter(sessions))] <= number:
            del sessions[first]
        if not self._open:
            self._close()
        return tuple(ready)

    def failed(self) -> tuple[Action, ...]:
        """A batch may not be durable: whatever waits will never be performed.

        Drop all connections and the store, reopen the journal and recover from it, with a new
        gate: nobody has been promised anything that the journal does not know.

        Returns:
            What was withheld, in order, for a log.

        Raises:
            InvalidState: The gate has failed before; from now on every method raises this.

        *Cost* O(actions that wait + rows of the open batch).
        """
        if self._has_failed:
            self._refuse()
        self._has_failed = True
        segments = [segment for batch in self._in_flight for segment in batch] + [*self._open]
        self._clear_batch()
        self._in_flight.clear()
        self._last.clear()
        self._wills.clear()
        self._sessions.clear()
        self._tail = None
        self._waiting = 0
        return tuple(action for segment in segments for action in segment)

    def _refuse(self) -> None:
        raise InvalidState("the gate has failed: recover from the journal, with a new one")


def _key(change: Change) -> int | Row:
    """What tells the row of a change from all others; those of exchanges are frequent."""
    if type(change) is ExchangeStored or type(change) is ExchangeRemoved:
        return (change.session_id << 16 | change.packet_id) << 2 | 2
    if type(change) is InboundIdStored or type(change) is InboundIdRemoved:
        return (change.session_id << 16 | change.packet_id) << 2 | 3
    return row_of(change)
