"""A naive gate, histories to feed to one, and gates that are broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import strategies as st

from mqtt_sessions import (
    Action,
    CloseConnection,
    CommitGate,
    Delivery,
    Message,
    Outcome,
    ReasonCode,
    RouteMessage,
    SendConnack,
    SendDisconnect,
    SendPingresp,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
    SessionEnded,
    Subscription,
    Will,
    WillPublished,
)
from mqtt_sessions import EndReason as End
from mqtt_sessions.changes import (
    Change,
    DeliveryRemoved,
    DeliveryStored,
    ExchangeRemoved,
    ExchangeStored,
    IdsReserved,
    InboundIdRemoved,
    InboundIdStored,
    MessageRemoved,
    MessageStored,
    ReplayRemoved,
    ReplayStored,
    RetainedRemoved,
    RetainedStored,
    Row,
    SessionRemoved,
    SessionStored,
    SubscriptionRemoved,
    SubscriptionStored,
    WillRemoved,
    WillStored,
    fold,
    row_of,
)
from mqtt_sessions.notices import Notice

OK = ReasonCode.SUCCESS


class Record:
    """A change in the history of the naive gate.

    Attributes:
        change: What was changed.
        batch: In which it was cut; None: in none yet.
        is_dead: It was elided: nobody writes it.
        is_settled: Nobody has to wait for it any more.
        is_kept: A message was passed on with it: it is not elided.
        is_written_for_nothing: It removes what was never stored; what waited waits for it.
    """

    def __init__(self, change: Change) -> None:
        self.change = change
        self.batch: int | None = None
        self.is_dead = False
        self.is_settled = False
        self.is_kept = False
        self.is_written_for_nothing = False


class NaiveGate:
    """What the gate has to do, said as plainly as possible; each call costs O(history)."""

    def __init__(self, *, qos1_waits: bool = False) -> None:
        self.qos1_waits = qos1_waits
        self.history: list[Record] = []
        self.withheld: list[tuple[Action, int | None]] = []  # relies on so many changes
        self.wills: list[tuple[Message, int]] = []  # a will, and the changes with its removal
        self.cut = 0
        self.relying: list[Action] = []

    def add(self, outcome: Outcome) -> list[Action]:
        first = len(self.history)
        self.history += map(Record, outcome.changes)
        self._elide(self.history[first:])
        seen = len(self.history)
        for notice in outcome.notices:
            if isinstance(notice, WillPublished):
                self.wills.append((notice.message, seen))
        may_repeat = any(
            not (record.is_dead or record.is_written_for_nothing)
            and isinstance(record.change, DeliveryRemoved | ReplayStored | ReplayRemoved)
            for record in self.history[first:]
        )
        reserves = self._stores_again(first)
        for action in outcome.actions:
            relies = self._relies(action) or (
                isinstance(action, SendPublish)
                and (may_repeat, reserves, False)[action.delivery.qos]
            )
            self.withheld.append((action, seen if relies else None))
            self.relying += [action] * relies
        return self._go()

    def _elide(self, news: list[Record]) -> None:
        open_rows = {
            row_of(record.change): record
            for record in self.history
            if record.batch is None
            and not (record.is_dead or record.is_kept)
            and isinstance(record.change, DeliveryStored | MessageStored)
        }
        removed = [
            (open_rows[row_of(record.change)], record)
            for record in news
            if isinstance(record.change, DeliveryRemoved | MessageRemoved)
            and row_of(record.change) in open_rows
        ]
        for stored, record in removed:
            stored.is_dead = record.is_dead = record.is_settled = True
        for stored, removal in removed:
            heirs = [record for record in news if self._is_heir(record, stored)]
            must_wait = bool(heirs) or self._has_ended(stored, news)
            if not must_wait and self._had_to_go(stored, news):
                must_wait = removal.is_written_for_nothing = True
                removal.is_dead = removal.is_settled = False
            stored.is_settled = not must_wait
            for record in heirs:
                record.is_kept = True

    def _is_heir(self, record: Record, stored: Record) -> bool:
        """A message that came into another row by the same outcome may have been passed on."""
        old, new = stored.change, record.change
        return (
            isinstance(old, DeliveryStored)
            and isinstance(new, DeliveryStored)
            and not record.is_dead
            and new.delivery.message is old.delivery.message
        )

    def _has_ended(self, stored: Record, news: list[Record]) -> bool:
        """A crash may bring the session back, without what was stored and removed."""
        copy = stored.change
        return isinstance(copy, DeliveryStored) and any(
            each.change == SessionRemoved(copy.session_id) for each in news
        )

    def _had_to_go(self, stored: Record, news: list[Record]) -> bool:
        """A crash takes back the newcomer that needed its room, or the connection."""
        copy = stored.change
        return isinstance(copy, DeliveryStored) and any(
            isinstance(each.change, DeliveryStored | SessionStored)
            and each.change.session_id == copy.session_id
            and not each.is_dead
            for each in news
        )

    def _stores_again(self, first: int) -> bool:
        """Whether a session's row comes, and one that came before it is not durable."""
        rows = [each for each in self.history if isinstance(each.change, SessionStored)]
        news = [each for each in self.history[first:] if each in rows]
        return any(
            row_of(before.change) == row_of(new.change) and not before.is_settled
            for new in news
            for before in rows[: rows.index(new)]
        )

    def _relies(self, action: Action) -> bool:
        match action:
            case SendPublish():
                message, qos = action.delivery.message, action.delivery.qos
                is_will = self._is_open_will(message)
                return is_will or 2 in (qos, message.qos) or (self.qos1_waits and qos == 1)
            case RouteMessage():
                return action.message.qos == 2 or self._is_open_will(action.message)
            case CloseConnection():
                return action.reason_code is OK
            case SendPingresp() | SendDisconnect():
                return False
            case _:
                return True

    def _is_open_will(self, message: Message) -> bool:
        return any(will is message and not self._are_settled(seen) for will, seen in self.wills)

    def _are_settled(self, seen: int) -> bool:
        return all(record.is_settled for record in self.history[:seen])

    def _go(self) -> list[Action]:
        going, staying, blocked = [], [], set()
        for action, seen in self.withheld:
            connection = getattr(action, "connection", self)  # a route is of no connection
            if connection in blocked or (seen is not None and not self._are_settled(seen)):
                staying.append((action, seen))
                if connection is not self:
                    blocked.add(connection)
            else:
                going.append(action)
        self.withheld = staying
        return going

    def take_batch(self) -> tuple[int, tuple[Change, ...]] | None:
        batch = [record for record in self.history if record.batch is None]
        changes = [record.change for record in batch if not record.is_dead]
        if not changes:
            return None
        self.cut += 1
        for record in batch:
            record.batch = self.cut
        return self.cut, fold(changes)

    def committed(self, number: int) -> list[Action]:
        for record in self.history:
            if record.batch is not None and record.batch <= number:
                record.is_settled = True
        return self._go()


def applied(rows: dict[Row, Change], changes: Iterable[Change]) -> dict[Row, Change]:
    """What a journal holds after some changes; an ended session takes along what is its own."""
    rows = dict(rows)
    for change in changes:
        if type(change).__name__.endswith("Stored"):
            rows[row_of(change)] = change
        else:
            rows.pop(row_of(change), None)
        if isinstance(change, SessionRemoved):
            own = ("subscription", "exchange", "inbound", "replay")
            gone = [row for row in rows if row[0] in own and row[1] == change.session_id]
            for row in gone:
                del rows[row]
    return rows


# ---------------------------------------------------------------- histories

CONNECTIONS = ("a", "b", "c")
MESSAGES = tuple(Message(f"t/{number}", b"m", number % 3) for number in range(5))


def _of(connection: str, number: int, qos: int) -> tuple[Action, ...]:
    """Some action of each kind, each unlike all others."""
    delivery = Delivery(MESSAGES[number % 5], qos)
    return (
        SendConnack(connection, False, OK),
        SendPublish(connection, delivery, number, False, None),
        SendPuback(connection, number, OK),
        SendPubrec(connection, number, OK),
        SendPubrel(connection, number, OK),
        SendPubcomp(connection, number, OK),
        SendSuback(connection, number, ()),
        SendUnsuback(connection, number, ()),
        SendPingresp(connection),
        SendDisconnect(connection, ReasonCode.SERVER_SHUTTING_DOWN),
        CloseConnection(connection, OK),
        CloseConnection(connection, ReasonCode.SERVER_SHUTTING_DOWN),
        RouteMessage(MESSAGES[number % 5], number, connection),
    )


def _fixed(session_id: int, number: int) -> tuple[Change, ...]:
    """Changes of rows that are stored again and again."""
    message = MESSAGES[number]
    return (
        ExchangeStored(session_id, 1, number, None),
        ExchangeRemoved(session_id, 1),
        InboundIdStored(session_id, 1, None),
        InboundIdRemoved(session_id, 1),
        RetainedStored(message, number, None, None, None),
        RetainedRemoved(message.topic_name),
        SubscriptionStored(session_id, Subscription("t/#", number)),
        SubscriptionRemoved(session_id, "t/#"),
        WillStored("a", Will(message), None, 1, None),
        WillRemoved("a"),
        IdsReserved(number),
        ReplayRemoved(session_id),
    )


def _row(session_id: int) -> SessionStored:
    yes, none = True, None
    return SessionStored(session_id, "a", 1, yes, 5, none, none, none, 0, none, none)


@st.composite
def outcomes(draw: st.DrawFn, state: dict[str, Any]) -> Outcome:
    """An outcome that can come after those that the state has seen."""
    changes: list[Change] = []
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 1, 2, 3, 5)))):
        kind = draw(st.integers(0, 19))
        number = state["next"] = state["next"] + 1
        if kind <= 4:
            delivery = Delivery(draw(st.sampled_from(MESSAGES)), draw(st.integers(0, 2)))
            session_id = draw(st.sampled_from((1, *state["sessions"])))
            changes.append(DeliveryStored(number, session_id, None, delivery))
            state["deliveries"].append((number, session_id))
        elif kind <= 7:
            if state["deliveries"]:
                at = draw(st.integers(0, len(state["deliveries"]) - 1))
                changes.append(DeliveryRemoved(state["deliveries"].pop(at)[0]))
        elif kind == 8:
            changes.append(MessageStored(number, MESSAGES[0], 0.0, None, None, None))
            state["messages"].append(number)
        elif kind == 9:
            if state["messages"]:
                changes.append(MessageRemoved(state["messages"].pop()))
        elif kind <= 13:
            session_id = draw(st.sampled_from((1, *state["sessions"])))
            changes.append(draw(st.sampled_from(_fixed(session_id, draw(st.integers(0, 1))))))
        elif kind <= 17:
            changes.append(_row(draw(st.sampled_from((1, *state["sessions"])))))
        else:
            changes += _session(draw, state, number)
    notices: tuple[Notice, ...] = (SessionEnded("a", End.EXPIRED),)
    if draw(st.integers(0, 5)) == 0:
        notices = (WillPublished("a", draw(st.sampled_from(MESSAGES))),)
        changes.append(WillRemoved("a"))
    actions = []
    for _ in range(draw(st.integers(0, 4))):
        number = state["next"] = state["next"] + 1
        connection = draw(st.sampled_from(CONNECTIONS))
        each = _of(connection, number, draw(st.integers(0, 2)))
        actions.append(draw(st.sampled_from((each[1], each[1], each[2], *each))))
    return Outcome(tuple(changes), tuple(actions), notices)


def _session(draw: st.DrawFn, state: dict[str, Any], number: int) -> Iterable[Change]:
    if state["sessions"] and draw(st.booleans()):
        session_id = state["sessions"].pop()
        gone = [each for each in state["deliveries"] if each[1] == session_id]
        state["deliveries"] = [each for each in state["deliveries"] if each not in gone]
        return [*[DeliveryRemoved(each) for each, _ in gone], SessionRemoved(session_id)]
    state["sessions"].append(number)
    return [_row(number)]


# ---------------------------------------------------------------- broken gates


class ReleasesEarly(CommitGate):
    """A batch that was only cut counts as durable."""

    __slots__ = ("_early",)

    def take_batch(self) -> tuple[int, tuple[Change, ...]] | None:
        batch = super().take_batch()
        if batch is not None:
            self._early = super().committed(batch[0])
        return batch

    def committed(self, number: int) -> tuple[Action, ...]:
        return ()

    def add(self, outcome: Outcome) -> tuple[Action, ...]:
        early, self._early = getattr(self, "_early", ()), ()
        return early + super().add(outcome)


class Overtakes(CommitGate):
    """What relies on nothing goes, whatever waits on its connection."""

    __slots__ = ()

    def add(self, outcome: Outcome) -> tuple[Action, ...]:
        self._last.clear()
        return super().add(outcome)


class ElidesInboundIds(CommitGate):
    """An identifier that came and went in one batch is not written."""

    __slots__ = ()

    def _fix(self, key: int | Row, change: Change) -> None:
        if isinstance(change, InboundIdRemoved) and key in self._fixed:
            del self._fixed[key]
        else:
            super()._fix(key, change)


class ElidesRetained(CommitGate):
    """A retained message that came and went in one batch is not written."""

    __slots__ = ()

    def _fix(self, key: int | Row, change: Change) -> None:
        if isinstance(change, RetainedRemoved) and key in self._fixed:
            del self._fixed[key]
        else:
            super()._fix(key, change)


class ForgetsRemovals(CommitGate):
    """The removal of a copy that was cut before is not written."""

    __slots__ = ()

    def _fix(self, key: int | Row, change: Change) -> None:
        if not isinstance(change, DeliveryRemoved):
            super()._fix(key, change)


class EndsSessionsFirst(CommitGate):
    """The removal of a session stands before what it has to take along."""

    __slots__ = ()

    def _fix(self, key: int | Row, change: Change) -> None:
        super()._fix(key, change)
        if isinstance(change, SessionRemoved):
            del self._ended[change.session_id]
            self._fixed = {key: change} | self._fixed


class OneSegment(CommitGate):
    """What waits is not told apart: rows that come later hold it up too."""

    __slots__ = ()

    def _segment(self) -> Any:
        return self._open[-1] if self._open else super()._segment()


class LosesHandovers(CommitGate):
    """What waited for a copy goes though the message only passed on to another session."""

    __slots__ = ()

    def _passed_on(self, gone: Any, changes: Any) -> set[int]:
        return set()


class ForgetsEnds(CommitGate):
    """What waited for a copy goes though only the end of its session made it unnecessary."""

    __slots__ = ()

    def _take(self, changes: tuple[Change, ...], ready: list[Action]) -> int:
        ends = [each for each in changes if isinstance(each, SessionRemoved)]
        others = tuple(each for each in changes if each not in ends)
        return super()._take(others, ready) | super()._take(tuple(ends), ready)


class ForgetsCauses(CommitGate):
    """What waited for a copy goes though only a newcomer, or a connection, made it go."""

    __slots__ = ()

    def _take(self, changes: tuple[Change, ...], ready: list[Action]) -> int:
        waits = 0
        for change in sorted(changes, key=lambda each: not isinstance(each, DeliveryRemoved)):
            waits |= super()._take((change,), ready)
        return waits


class ForgetsWills(CommitGate):
    """Copies of a will go before its removal is durable."""

    __slots__ = ()

    def _note_wills(self, notices: tuple[Notice, ...]) -> None:
        return


class ForgetsQueues(CommitGate):
    """What waited in a queue is sent at QoS 0 before the queue's row is gone."""

    __slots__ = ()

    def _take(self, changes: tuple[Change, ...], ready: list[Action]) -> int:
        return super()._take(changes, ready) & ~1


class OverrunsIdentifiers(CommitGate):
    """A packet identifier is used before the journal knows that it may be."""

    __slots__ = ()

    def _note_session(self, session_id: int) -> bool:
        return super()._note_session(session_id) and False


class OverrunsWhatWasCut(CommitGate):
    """A session's row counts as durable when its batch is cut."""

    __slots__ = ()

    def take_batch(self) -> tuple[int, tuple[Change, ...]] | None:
        self._sessions.clear()
        return super().take_batch()


class ReservesOnce(CommitGate):
    """A session's row that is durable still counts as one that is not."""

    __slots__ = ()

    def committed(self, number: int) -> tuple[Action, ...]:
        sessions = dict(self._sessions)
        ready = super().committed(number)
        self._sessions |= sessions
        return ready


class RemembersWills(CommitGate):
    """Copies of a will wait for ever new batches."""

    __slots__ = ()

    def committed(self, number: int) -> tuple[Action, ...]:
        wills = dict(self._wills)
        ready = super().committed(number)
        self._wills |= wills
        return ready


class IgnoresOrigin(CommitGate):
    """A copy at QoS 0 or 1 goes, though its message came in at QoS 2."""

    __slots__ = ()

    def _publish_relies(self, delivery: Delivery) -> bool:
        message = delivery.message
        is_will = id(message) in self._wills
        return is_will or delivery.qos == 2 or (self._qos1_waits and delivery.qos == 1)


class SettlesPastBatches(CommitGate):
    """What waited for rows that are elided goes before an earlier batch is durable."""

    __slots__ = ()

    def _settle(self, ready: list[Action]) -> None:
        in_flight = self._in_flight.copy()
        self._in_flight.clear()
        super()._settle(ready)
        self._in_flight.extend(in_flight)
        if not self._open and in_flight:
            self._close()


class LeaksConnections(CommitGate):
    """Connections whose actions have gone are still taken for waiting ones."""

    __slots__ = ()

    def _release(self, segment: Any, ready: list[Action]) -> None:
        self._waiting -= len(segment)
        ready += segment


BROKEN: tuple[Callable[..., CommitGate], ...] = (
    ReleasesEarly,
    Overtakes,
    ElidesInboundIds,
    ElidesRetained,
    ForgetsRemovals,
    EndsSessionsFirst,
    OneSegment,
    LosesHandovers,
    ForgetsEnds,
    ForgetsCauses,
    ForgetsWills,
    ForgetsQueues,
    OverrunsIdentifiers,
    OverrunsWhatWasCut,
    ReservesOnce,
    RemembersWills,
    IgnoresOrigin,
    SettlesPastBatches,
    LeaksConnections,
)
