"""What a durable store's steps leave behind: the changes of a call, and the rows they are about.

Spec: none; the order of persist and send is the library's own contract.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from attrs import evolve

from mqtt_sessions.changes import (
    Change,
    DeliveryRemoved,
    DeliveryStored,
    EpochStored,
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
    SessionRemoved,
    SessionStored,
    SubscriptionRemoved,
    SubscriptionStored,
    WillRemoved,
    WillStored,
)
from mqtt_sessions.messages import Delivery
from mqtt_sessions.rows import Body, Rows
from mqtt_sessions.snapshots import DurableSnapshot, ReplaySnapshot, RowsSnapshot
from mqtt_sessions.state import ABANDONED, Exchange, PendingWill, Route, SessionState
from mqtt_sessions.turn import EMPTY, Outcome, Settings

__all__ = ["Recorder"]

_INF = float("inf")
_BLOCK = 1 << 20
"""Row identifiers reserved at a time: one row for a million."""


class _Replay(Protocol):
    def snapshot(self) -> ReplaySnapshot: ...


class Recorder:
    """Collects the changes of a call, gives out row identifiers, counts who refers to a message.

    Attributes:
        changes: Of the call that is running.
        settings: What sessions live under that brought nothing of their own.
        epoch: The run of the store.
        next_id: The row identifier that is given out next.
        reserved: Identifiers below it are known to the journal as given out.
        bodies: Messages that several rows refer to, by the identity of their deliveries; those of
            rows that hold their message themselves are not in it.
        replays: Retained messages on their way, by session; the router's own.
        sent_now: Copies of the message that is being published and are in flight already.
        started_at: When the run began; None: with the first call.
        alive_at: The last instant at which the journal knows it to have run; None: it was told
            nothing yet.
        orphans: Messages that no delivery refers to, found at load and to be removed.

    *Bound* a few words for each message that waits for several sessions.
    """

    __slots__ = (
        "_body",
        "_copies",
        "_first",
        "_is_alive",
        "_replaying",
        "_touched",
        "alive_at",
        "bodies",
        "changes",
        "epoch",
        "next_id",
        "orphans",
        "replays",
        "reserved",
        "sent_now",
        "settings",
        "started_at",
    )

    def __init__(
        self,
        settings: Settings,
        epoch: int = 1,
        next_id: int = 1,
        started_at: float | None = None,
        alive_at: float | None = None,
    ) -> None:
        self.changes: list[Change] = []
        self.settings = settings
        self.epoch = epoch
        self.started_at = started_at
        self.alive_at = alive_at
        self._is_alive = alive_at is None
        self.next_id = next_id
        self.reserved = next_id
        self.bodies: dict[int, Body] = {}
        self.sent_now: list[tuple[Rows, int, Delivery]] = []
        self.orphans: list[int] = []
        self.replays: Mapping[SessionState, _Replay] = {}
        self._touched: dict[SessionState, None] = {}
        self._replaying: dict[SessionState, None] = {}
        self._body: Body | None = None
        self._copies = 0
        self._first = 0

    # ------------------------------------------------------------ a call

    def take(self, now: float) -> tuple[Change, ...]:
        """The changes of a call; rows that are stored as a whole are written down now."""
        changes = self.changes
        if self._body is not None:
            self._end_publish(self._body)
        for session in self._touched:
            if session.rows is not None:
                changes.append(self._session_row(session, session.rows))
        self._touched.clear()
        for session in self._replaying:
            if session.rows is not None:
                self._note_replay(session, session.rows)
        self._replaying.clear()
        if self._is_alive:
            self._note_alive(now)
        if not changes:
            return ()
        if self.next_id > self.reserved:
            self.reserved = self.next_id + _BLOCK
            changes.append(IdsReserved(self.reserved))
        taken = tuple(changes)
        changes.clear()
        return taken

    def clear(self) -> None:
        """Forget what was collected."""
        self.changes.clear()
        self._touched.clear()
        self._replaying.clear()
        self.sent_now.clear()
        self._body = None

    def new_id(self) -> int:
        """A row identifier."""
        row_id = self.next_id
        self.next_id = row_id + 1
        return row_id

    def alive(self) -> None:
        """The journal is to know that the store ran until now."""
        self._is_alive = True

    def _note_alive(self, now: float) -> None:
        self._is_alive = False
        if self.alive_at is not None and self.alive_at >= now:
            return
        if self.started_at is None:
            self.started_at = now
        self.alive_at = now
        self.changes.append(EpochStored(self.epoch, self.started_at, now))
        self.changes += [MessageRemoved(message_id) for message_id in self.orphans]
        self.orphans.clear()

    # ------------------------------------------------------------ sessions

    def touch(self, session: SessionState) -> None:
        """The session's own row is to be stored at the end of the call."""
        self._touched[session] = None

    def touch_replay(self, session: SessionState) -> None:
        """The same for what it is still to be sent of retained messages."""
        self._replaying[session] = None

    def _session_row(self, session: SessionState, rows: Rows) -> SessionStored:
        settings, shared = session.settings, self.settings
        link = session.link
        return SessionStored(
            rows.session_id,
            session.client_id,
            self.epoch,
            link is not None,
            rows.protocol_version,
            session.principal,
            session.expiry_interval,
            None if session.lane is None else session.at,
            rows.reserved_until,
            None if settings.policy is shared.policy else settings.policy,
            settings.limits if settings.own_limits else None,
        )

    def _note_replay(self, session: SessionState, rows: Rows) -> None:
        replay = self.replays.get(session)
        if replay is not None:
            rows.has_replay = True
            saved = evolve(replay.snapshot(), goes_on_at=None)
            self.changes.append(ReplayStored(rows.session_id, saved))
        elif rows.has_replay:
            rows.has_replay = False
            self.changes.append(ReplayRemoved(rows.session_id))

    def connected(self, session: SessionState, protocol_version: int) -> None:
        """A connection has the session now, with an interval in force: it may become durable."""
        if session.expiry_interval == 0:
            self.cease(session)
            return
        if session.rows is None:
            self.begin(session, protocol_version)
        rows = session.rows
        assert rows is not None
        rows.protocol_version = protocol_version
        if session.link is None:  # CONNECT: CONNACK waits for the row, and all else waits behind
            rows.reserve(session.last_packet_id)
        self.touch(session)
        self.alive()  # so that no crash cuts it before it was connected

    def begin(self, session: SessionState, protocol_version: int) -> None:
        """The session becomes durable: all that it holds is stored. *Cost* O(what it holds)."""
        rows = session.rows = Rows(session, self.new_id(), protocol_version)
        rows.reserve(session.last_packet_id)
        self.touch(session)
        self.touch_replay(session)
        if session.routes is not None:  # told twice, so that its row is before what names it
            self.changes.append(self._session_row(session, rows))
        for route in session.all_routes():
            self.subscribed(rows, route)
        for packet_id, exchange in (session.in_flight or {}).items():
            if isinstance(exchange, Delivery):
                entry = rows.in_flight[packet_id] = self._adopt(rows, exchange)
                if exchange.qos == 2:
                    self._exchange(rows, packet_id, entry[0])
            else:
                self._exchange(rows, packet_id, None, exchange is ABANDONED)
        if session.queue is not None:
            session.queue.set_rows([self._adopt(rows, each)[0] for each in session.queue])
        if session.inbound is not None:
            for packet_id, ends_at in session.inbound.ends_at.items():
                self.held(rows, packet_id, ends_at)

    def cease(self, session: SessionState) -> None:
        """The session is not durable any more: nothing of it stays. *Cost* O(what it holds)."""
        rows = session.rows
        if rows is None:
            return
        for entry in rows.in_flight.values():
            self.removed(*entry)
        if session.queue is not None:
            for row_id, delivery in zip(session.queue.row_ids(), session.queue, strict=True):
                self.left_queue(row_id, delivery)
            session.queue.set_rows(None)
        self.ended(session)

    def ended(self, session: SessionState) -> None:
        """The session is gone; each of its deliveries was told before."""
        rows = session.rows
        if rows is not None:
            session.rows = None
            self.changes.append(SessionRemoved(rows.session_id))

    def subscribed(self, rows: Rows, route: Route) -> None:
        """A subscription was made or replaced."""
        self.changes.append(SubscriptionStored(rows.session_id, route.subscription))

    def unsubscribed(self, rows: Rows, topic_filter: str) -> None:
        """It was removed."""
        self.changes.append(SubscriptionRemoved(rows.session_id, topic_filter))

    def held(self, rows: Rows, packet_id: int, ends_at: float) -> None:
        """An incoming QoS 2 identifier is held; infinity: until PUBREL."""
        until = None if ends_at == _INF else ends_at
        self.changes.append(InboundIdStored(rows.session_id, packet_id, until))

    def released(self, rows: Rows, packet_id: int) -> None:
        """It is free again."""
        self.changes.append(InboundIdRemoved(rows.session_id, packet_id))

    def will_set(self, session: SessionState) -> None:
        """A will came with CONNECT, or its delay runs now; of any session, durable or not."""
        will = session.will
        assert will is not None
        due_at: float | None = None
        if isinstance(will, PendingWill):
            due_at, will = will.at, will.will
        policy = session.settings.policy
        own = None if policy is self.settings.policy else policy
        self.alive()
        self.changes.append(WillStored(session.client_id, will, due_at, self.epoch, own))

    def will_gone(self, session: SessionState) -> None:
        """It was published or discarded."""
        self.changes.append(WillRemoved(session.client_id))

    # ------------------------------------------------------------ retained messages

    def retained(self, row: RetainedStored) -> None:
        """A topic has a new retained message."""
        self.changes.append(row)

    def unretained(self, topic_name: str) -> None:
        """It has none any more."""
        self.changes.append(RetainedRemoved(topic_name))

    # ------------------------------------------------------------ copies of messages

    def begin_publish(self) -> None:
        """Copies of one message follow, and none of the one before."""
        if self._body is not None:
            self._end_publish(self._body)

    def copy(self, rows: Rows, delivery: Delivery) -> tuple[int, Body | None]:
        """A copy for a durable session; the row, and the message that it refers to."""
        self.note_sent()  # rows are in the order of copies
        body = self._body or self._begin_body()
        row_id = self.new_id()
        self._know(body, delivery)
        body.references += 1
        self._copies += 1
        self.changes.append(DeliveryStored(row_id, rows.session_id, body.message_id, delivery))
        return row_id, body

    def _begin_body(self) -> Body:
        body = self._body = Body(self.next_id)  # that of its first copy, so that none is left out
        self._copies = 0
        self._first = len(self.changes)
        return body

    def _know(self, body: Body, delivery: Delivery) -> None:
        if id(delivery) not in self.bodies:
            self.bodies[id(delivery)] = body
            body.deliveries.append(delivery)

    def _end_publish(self, body: Body) -> None:
        """Several copies refer to the message's own row, a sole one holds it itself."""
        self._body = None
        one = body.deliveries[0]
        if self._copies == 1:
            stored = self.changes[self._first]
            assert isinstance(stored, DeliveryStored)
            self.changes[self._first] = DeliveryStored(
                stored.delivery_id, stored.session_id, None, stored.delivery
            )
            body.message_id = None
            del self.bodies[id(one)]
        elif body.references:
            assert body.message_id is not None
            self.changes.append(
                MessageStored(
                    body.message_id,
                    one.message,
                    one.received_at,
                    one.expires_at,
                    one.message_expiry_interval,
                    one.publisher,
                )
            )
        else:
            self._forget(body)  # all were dropped at once; their rows are removed already

    def alone(self, rows: Rows, delivery: Delivery) -> tuple[int, Body | None]:
        """A copy that no other session gets: of a retained message."""
        row_id = self.new_id()
        self.changes.append(DeliveryStored(row_id, rows.session_id, None, delivery))
        return row_id, None

    def _adopt(self, rows: Rows, delivery: Delivery) -> tuple[int, Body | None]:
        """A copy of a session that was not durable; others may have the message stored."""
        body = self.bodies.get(id(delivery))
        if body is None:
            return self.alone(rows, delivery)
        body.references += 1
        row_id = self.new_id()
        self.changes.append(DeliveryStored(row_id, rows.session_id, body.message_id, delivery))
        return row_id, body

    def left_queue(self, row_id: int, delivery: Delivery) -> None:
        """A queued copy is gone: sent at QoS 0, or dropped."""
        self.removed(row_id, self.bodies.get(id(delivery)))

    def removed(self, row_id: int, body: Body | None) -> None:
        """A copy's row is gone, and with the last one the message's."""
        self.changes.append(DeliveryRemoved(row_id))
        if body is not None:
            body.references -= 1
            if not body.references and body is not self._body:
                self._forget(body)
                if body.message_id is not None:
                    self.changes.append(MessageRemoved(body.message_id))

    def _forget(self, body: Body) -> None:
        if body.message_id is not None:
            for delivery in body.deliveries:
                del self.bodies[id(delivery)]

    # ------------------------------------------------------------ exchanges

    def sent(
        self,
        session: SessionState,
        packet_id: int,
        delivery: Delivery,
        entry: tuple[int, Body | None],
    ) -> None:
        """A copy is in flight; at QoS 1 that is nothing to be stored."""
        rows = session.rows
        assert rows is not None
        rows.in_flight[packet_id] = entry
        if not rows.reserved_from <= packet_id <= rows.renew_at:
            self._reserve(session, rows, packet_id)
        if delivery.qos == 2:
            self._exchange(rows, packet_id, entry[0])

    def note_sent(self) -> None:
        """Copies of one message are in flight: `copy` and `sent` of each, at less cost."""
        sent = self.sent_now
        if not sent:
            return
        body = self._body or self._begin_body()
        message_id, row_id = body.message_id, self.next_id
        append = self.changes.append
        before: Delivery | None = None
        for rows, packet_id, delivery in sent:
            if delivery is not before:
                before = delivery
                self._know(body, delivery)
            append(DeliveryStored(row_id, rows.session_id, message_id, delivery))
            rows.in_flight[packet_id] = row_id, body
            row_id += 1
            if delivery.qos == 2:
                self.next_id = row_id
                self._exchange(rows, packet_id, row_id - 1)
                row_id = self.next_id
            if not rows.reserved_from <= packet_id <= rows.renew_at:
                self._reserve(rows.session, rows, packet_id)
        self.next_id = row_id
        body.references += len(sent)
        self._copies += len(sent)
        sent.clear()

    def acked(self, session: SessionState, packet_id: int) -> Outcome:
        """What came of a PUBACK that made nothing else happen: `take`, at half the cost."""
        rows = session.rows
        if rows is None:
            return EMPTY
        row_id, body = rows.in_flight.pop(packet_id)
        if body is None:
            return Outcome((DeliveryRemoved(row_id),))
        body.references -= 1
        if body.references or body.message_id is None:
            return Outcome((DeliveryRemoved(row_id),))
        self._forget(body)
        return Outcome((DeliveryRemoved(row_id), MessageRemoved(body.message_id)))

    def _reserve(self, session: SessionState, rows: Rows, packet_id: int) -> None:
        """Reserve more identifiers, of which this is the first.

        The row is told twice where what is sent now is not within the row before: it is another
        one of the same call, or identifiers in use were passed over. So what the row before this
        one reserved is always enough, and `CommitGate` has to look no further.
        """
        is_enough = not rows.is_ahead(packet_id) and session not in self._touched
        rows.reserve(packet_id)
        if not is_enough:
            self.changes.append(self._session_row(session, rows))
        self.touch(session)

    def _exchange(
        self, rows: Rows, packet_id: int, delivery_id: int | None, is_abandoned: bool = False
    ) -> None:
        place = self.new_id()
        self.changes.append(
            ExchangeStored(rows.session_id, packet_id, place, delivery_id, is_abandoned)
        )

    def received(self, rows: Rows, packet_id: int, is_abandoned: bool = False) -> None:
        """The receiver has the message, or it was given up; the identifier stays taken."""
        self.removed(*rows.in_flight.pop(packet_id))
        self._exchange(rows, packet_id, None, is_abandoned)

    def settled(self, rows: Rows, packet_id: int, exchange: Exchange) -> None:
        """An exchange is over, whatever came of it."""
        entry = rows.in_flight.pop(packet_id, None)
        if entry is not None:
            self.removed(*entry)
        if exchange.qos != 1:
            self.changes.append(ExchangeRemoved(rows.session_id, packet_id))

    # ------------------------------------------------------------ as a value, and back

    def snapshot(self, sessions: Iterable[SessionState]) -> DurableSnapshot:
        """What is known of the journal. *Cost* O(rows)."""
        referring: dict[int, list[int]] = {each: [] for each in self.orphans}
        known: list[RowsSnapshot] = []
        for session in sessions:
            rows = session.rows
            if rows is None:
                continue
            queue = session.queue
            queued = [] if queue is None else queue.row_ids()
            entries = list(rows.in_flight.values())
            for row_id, delivery in zip(queued, queue or (), strict=True):
                entries.append((row_id, self.bodies.get(id(delivery))))
            for row_id, body in entries:
                if body is not None and body.message_id is not None:
                    referring.setdefault(body.message_id, []).append(row_id)
            known.append(
                RowsSnapshot(
                    session.client_id,
                    rows.session_id,
                    rows.protocol_version,
                    rows.reserved_from,
                    rows.has_replay,
                    tuple(queued),
                    tuple((each, rows.in_flight[each][0]) for each in rows.in_flight),
                )
            )
        return DurableSnapshot(
            self.epoch,
            self.started_at,
            self.alive_at,
            self.next_id,
            self.reserved,
            tuple(known),
            tuple((each, tuple(ids)) for each, ids in sorted(referring.items())),
        )

    def attach(self, session: SessionState, saved: RowsSnapshot, bodies: dict[int, Body]) -> None:
        """A session that was made anew has these rows; `bodies` by the rows that refer to them."""
        rows = session.rows = Rows(session, saved.session_id, saved.protocol_version)
        rows.reserve(saved.reserved_from)
        rows.has_replay = saved.has_replay
        for packet_id, row_id in saved.in_flight:
            body = bodies.get(row_id)
            rows.in_flight[packet_id] = row_id, body
            if body is not None:
                body.references += 1
        if not saved.queue:
            return
        queue = session.queue
        assert queue is not None
        queue.set_rows(list(saved.queue))
        if bodies:
            for row_id, delivery in zip(saved.queue, queue, strict=True):
                body = bodies.get(row_id)
                if body is not None:
                    body.references += 1
                    if id(delivery) not in self.bodies:
                        self.bodies[id(delivery)] = body
                        body.deliveries.append(delivery)

    # ------------------------------------------------------------ for tests

    def check(self, sessions: Iterable[SessionState]) -> None:
        """Verify the invariants of rows. *Cost* O(all of them)."""
        assert not self.changes
        assert not self._touched
        assert not self._replaying
        assert self._body is None
        seen: set[int] = set()
        references: dict[int, int] = {}
        for session in sessions:
            rows = session.rows
            assert (rows is not None) == (session.expiry_interval != 0)
            if rows is None:
                assert session.queue is None or not session.queue.row_ids()
                continue
            entries = list(rows.in_flight.values())
            in_flight = session.in_flight or {}
            held = {each for each, exchange in in_flight.items() if isinstance(exchange, Delivery)}
            assert set(rows.in_flight) == held
            if session.queue is not None:
                entries += [
                    (row_id, self.bodies.get(id(delivery)))
                    for row_id, delivery in zip(session.queue.row_ids(), session.queue, strict=True)
                ]
            for row_id in (rows.session_id, *(row_id for row_id, _ in entries)):
                assert row_id not in seen
                assert 0 < row_id < self.next_id
                seen.add(row_id)
            for _, body in entries:
                if body is not None:
                    references[id(body)] = references.get(id(body), 0) + 1
        for body in self.bodies.values():
            assert body.message_id is not None
            assert body.references == references.get(id(body), 0) > 0
