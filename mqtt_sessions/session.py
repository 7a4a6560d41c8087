"""`Session`: one client's state, as a view into a store or alone for a broker with a router."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping
from itertools import islice
from typing import Any, ClassVar

from attrs import evolve, frozen

from mqtt_sessions import inbound, outbound
from mqtt_sessions._values import value
from mqtt_sessions.actions import RouteMessage, SendPuback, SendPubrec
from mqtt_sessions.connection import CLOSED, Link
from mqtt_sessions.deadlines import Deadline
from mqtt_sessions.engine import Engine
from mqtt_sessions.errors import InvalidState, InvalidValue
from mqtt_sessions.events import (
    ClientConnected,
    DeliverMessage,
    Event,
    MessageRouted,
    PublishReceived,
)
from mqtt_sessions.flows import Phase
from mqtt_sessions.inbound import Fault
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.notices import DropReason, FilterAdded, FilterRemoved, WillPublished
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.restoring import Alarms, restore_session
from mqtt_sessions.snapshot_checks import check_snapshot
from mqtt_sessions.snapshots import RoutedSnapshot, SessionSnapshot
from mqtt_sessions.state import ABANDONED, PendingWill, Route, SessionState
from mqtt_sessions.subscribing import Granted
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.turn import Outcome, SizeOf, Turn

__all__ = ["Counters", "InFlight", "Session"]


@frozen
class Counters:
    """What became of messages.

    Attributes:
        accepted: Messages that a subscription let in.
        completed: Delivered: sent at QoS 0, or acknowledged.
        dropped: By reason.
    """

    accepted: int
    completed: int
    dropped: Mapping[DropReason, int]


@value
class InFlight:
    """An outgoing exchange that has begun.

    Attributes:
        packet_id: Its identifier.
        phase: What it waits for.
        delivery: The message; None in the PUBREL phase, where the receiver has it.
    """

    packet_id: int
    phase: Phase
    delivery: Delivery | None


class Session:
    """One client's state.

    `store[client_id]` is a view; `Session("id")` is a session of its own with the same door, for
    a broker that has its own router: it asks the host to route (`RouteMessage`, answered by
    `MessageRouted`), and takes messages in through `DeliverMessage`.

    Args:
        client_id: Whose session; `ClientConnected` of another is refused.
        policy: When things end.
        limits: How far things grow.
        options: What the server offers.
        size_of: As for `SessionStore`.

    *Cost* O(1) where nothing is said; an event costs what it makes happen.
    """

    __slots__ = ("_engine", "_owned", "client_id")

    def __init__(
        self,
        client_id: str,
        policy: ExpiryPolicy | None = None,
        limits: SessionLimits | None = None,
        options: ServerOptions | None = None,
        size_of: SizeOf | None = None,
    ) -> None:
        if not isinstance(client_id, str) or not client_id:
            raise InvalidValue(f"Session.client_id must be a non-empty string, not {client_id!r}")
        self.client_id = client_id
        self._engine: Engine = _Alone(
            client_id,
            policy or ExpiryPolicy(),
            limits or SessionLimits(),
            options or ServerOptions(),
            size_of,
        )
        self._owned = True

    @classmethod
    def _of(cls, engine: Engine, client_id: str) -> Session:
        """A view of a store's session."""
        view = cls.__new__(cls)
        view._engine = engine
        view.client_id = client_id
        view._owned = False
        return view

    def __repr__(self) -> str:
        state = "connected" if self.connected else "parked" if self.exists else "none"
        return f"<Session {self.client_id!r} {state}>"

    # ------------------------------------------------------------ the door

    def handle(self, event: Event, now: float) -> Outcome:
        """Take one event in; as `SessionStore.handle`.

        Raises:
            InvalidState: The event cannot happen now, or the session belongs to a store.
        """
        return self._own().handle(event, now)

    def handle_timeout(self, now: float, limit: int | None = None) -> Outcome:
        """Do what is due at `now`; as `SessionStore.handle_timeout`."""
        return self._own().handle_timeout(now, limit)

    @property
    def next_deadline_at(self) -> float | None:
        """When `handle_timeout` has something to do."""
        return self._own().next_deadline_at

    @property
    def next_deadline(self) -> Deadline | None:
        """The same with kind and subject."""
        return self._own().next_deadline

    def _own(self) -> Engine:
        if not self._owned:
            raise InvalidState(
                f"the session of {self.client_id!r} belongs to a store: drive the store"
            )
        return self._engine

    # ------------------------------------------------------------ as a value

    def snapshot(self) -> SessionSnapshot:
        """Everything that the session holds, as one value; of a store's session too.

        Of a store's session, that is without what the store alone knows: copies of a will that is
        being handed out and that have not reached it.

        *Cost* O(what it holds); messages are shared, not copied.

        Raises:
            InvalidState: A call is running.
        """
        engine = self._engine
        if engine._turn.busy:
            raise InvalidState("snapshot was called while a call is running")
        state = engine._sessions.get(self.client_id)
        if isinstance(engine, _Alone):
            return engine._snapshot()
        settings = engine._settings
        return SessionSnapshot(
            self.client_id,
            engine._turn.now,
            settings.policy,
            settings.limits,
            settings.options,
            None if state is None else engine._contents(state),
            has_size_of=settings.size_of is not None,
        )

    @classmethod
    def restore(cls, snapshot: SessionSnapshot, size_of: SizeOf | None = None) -> Session:
        """A session of its own that goes on where the snapshot was taken.

        One that was taken of a store's session brings its connection along; retained messages
        that were on their way to it do not come any more, for a session alone has none.

        Args:
            snapshot: What `snapshot` gave.
            size_of: As for the constructor.

        Raises:
            InvalidValue: It is no snapshot of a session, of another format, or no state that a
                session can be in; or `size_of` is missing.

        *Cost* O(what it holds).
        """
        check_snapshot(snapshot, SessionSnapshot, size_of)
        session = cls(
            snapshot.client_id, snapshot.policy, snapshot.limits, snapshot.options, size_of
        )
        assert isinstance(session._engine, _Alone)
        session._engine._restore(snapshot)
        return session

    # ------------------------------------------------------------ reading

    @property
    def _state(self) -> SessionState:
        state = self._engine._sessions.get(self.client_id)
        return SessionState(self.client_id, self._engine._settings) if state is None else state

    @property
    def exists(self) -> bool:
        """Whether there is a session: connected or parked."""
        return self.client_id in self._engine._sessions

    @property
    def connected(self) -> bool:
        """Whether it has an open connection."""
        return self._state.link is not None

    @property
    def connection(self) -> Hashable | None:
        """The open connection."""
        link = self._state.link
        return None if link is None else link.connection

    @property
    def protocol_version(self) -> int | None:
        """3, 4 or 5; None while parked."""
        link = self._state.link
        return None if link is None else link.version

    @property
    def principal(self) -> str | None:
        """Whom it is bound to."""
        return self._state.principal

    @property
    def session_expiry_interval(self) -> float | None:
        """In force, in seconds: 0 ends it with its connection, None never."""
        return self._state.expiry_interval

    @property
    def expires_at(self) -> float | None:
        """When it ends; None while connected, or if never."""
        state = self._state
        return None if state.lane is None else state.at

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """In order of their making, with the granted QoS. *Cost* O(subscriptions)."""
        return tuple(route.subscription for route in self._state.all_routes())

    @property
    def queue_depth(self) -> int:
        """Messages that wait. *Cost* O(1)."""
        queue = self._state.queue
        return 0 if queue is None else len(queue)

    def queued(self, start: int = 0, limit: int = 100) -> tuple[Delivery, ...]:
        """A page of what waits, oldest first. *Cost* O(start + limit)."""
        if start < 0 or limit < 1:
            raise InvalidValue(f"start must be 0 or more, limit above 0, not {start!r}, {limit!r}")
        queue = self._state.queue
        return () if queue is None else tuple(islice(queue, start, start + limit))

    @property
    def queued_bytes(self) -> int:
        """Payload, topic and properties of what waits. *Cost* O(1) if bounded, else O(depth)."""
        queue = self._state.queue
        return 0 if queue is None else queue.size

    @property
    def in_flight(self) -> tuple[InFlight, ...]:
        """Outgoing exchanges in order of first sending, PUBREL phases in that of their PUBRECs.

        *Cost* O(in flight).
        """
        return tuple(
            InFlight(packet_id, Phase(each.qos), each if isinstance(each, Delivery) else None)
            for packet_id, each in (self._state.in_flight or {}).items()
        )

    @property
    def send_quota(self) -> int:
        """QoS 1 and 2 messages that may still be sent now; 0 while parked [MQTT-4.9.0-2]."""
        state = self._state
        link = state.link
        if link is None:
            return 0
        used = len(state.in_flight or ()) - len(link.unsent) - len(link.unitless)
        return max(0, link.window - used)

    @property
    def inbound_packet_ids(self) -> tuple[int, ...]:
        """Incoming QoS 2 exchanges that wait for PUBREL. *Cost* O(identifiers held)."""
        ids = self._state.inbound
        return () if ids is None else tuple(ids.ends_at)

    @property
    def will(self) -> Message | None:
        """The will, of the connection or waiting for its delay."""
        will = self._state.will
        return None if will is None else will.message

    @property
    def will_due_at(self) -> float | None:
        """When the will's delay ends; None while connected, or without one."""
        will = self._state.will
        return will.at if isinstance(will, PendingWill) else None

    @property
    def counters(self) -> Counters:
        """What became of messages. *Cost* O(in flight)."""
        state = self._state
        queue = state.queue
        if queue is None:
            return Counters(0, 0, {})
        dropped = dict(queue.dropped or {})
        open_ = sum(each is not ABANDONED for each in (state.in_flight or {}).values())
        completed = queue.accepted - len(queue) - open_ - sum(dropped.values())
        return Counters(queue.accepted, completed, dropped)

    def check(self) -> None:
        """Verify all invariants, of a session of its own. *Cost* O(everything)."""
        self._own()._check_sessions()


class _Alone(Engine):
    """The engine of one session whose host has the router."""

    _name = "a Session without a store"

    def __init__(
        self,
        client_id: str,
        policy: ExpiryPolicy,
        limits: SessionLimits,
        options: ServerOptions,
        size_of: SizeOf | None,
    ) -> None:
        super().__init__(policy, limits, options, size_of)
        self._client_id = client_id
        self._last_route_id = 0
        # acknowledgements leave in receive order for each QoS [MQTT-4.6.0-2], [MQTT-4.6.0-3],
        # whenever the host answers [NN-15.4]
        self._waiting: tuple[deque[_Routed], deque[_Routed]] = (deque(), deque())
        self._routes: dict[int, _Routed] = {}

    def _snapshot(self) -> SessionSnapshot:
        settings, turn = self._settings, self._turn
        state = self._sessions.get(self._client_id)
        return SessionSnapshot(
            self._client_id,
            turn.now,
            settings.policy,
            settings.limits,
            settings.options,
            None if state is None else self._contents(state),
            tuple(self._links),
            self._last_route_id,
            tuple(each.saved() for each in self._routes_in_order()),
            settings.size_of is not None,
        )

    def _routes_in_order(self) -> list[_Routed]:
        return sorted(
            (each for waiting in self._waiting for each in waiting), key=lambda each: each.route_id
        )

    def _restore(self, snapshot: SessionSnapshot) -> None:
        turn = self._turn
        turn.now = snapshot.now
        self._last_route_id = snapshot.last_route_id
        self._links.update(dict.fromkeys(snapshot.connections, CLOSED))
        if snapshot.contents is None:
            return
        alarms = Alarms()
        session = restore_session(snapshot.contents, self._settings, alarms)
        self._sessions[self._client_id] = session
        if session.link is not None:
            self._links[session.link.connection] = session.link
        else:
            self._parked = 1
        alarms.arm(turn.deadlines)
        for saved in snapshot.routed:
            self._restore_routed(session, saved)

    def _restore_routed(self, session: SessionState, saved: RoutedSnapshot) -> None:
        link = session.link if saved.is_open else None
        routed = _Routed(saved.route_id, session, link or CLOSED, saved.message, saved.packet_id)
        routed.code = saved.reason_code
        self._waiting[saved.message.qos - 1].append(routed)
        if saved.reason_code is None:
            self._routes[saved.route_id] = routed
        if saved.message.qos == 2 and session.inbound is not None and saved.holds_id:
            session.inbound.routing[saved.packet_id] = saved.route_id

    def _on_only_connected(self, event: ClientConnected, turn: Turn) -> None:
        client_id = event.client_id or event.assigned_client_id
        if client_id is not None and client_id != self._client_id:
            raise InvalidState(
                f"ClientConnected.client_id {client_id!r} is not that of this session, "
                f"{self._client_id!r}"
            )
        self._on_connected(event, turn)

    def _route_published(
        self, session: SessionState, link: Link, event: PublishReceived, turn: Turn
    ) -> None:
        message, packet_id = event.message, event.packet_id
        route_id = None
        if message.qos:
            assert packet_id is not None
            self._last_route_id += 1
            route_id = self._last_route_id
            routed = _Routed(route_id, session, link, message, packet_id)
            self._routes[route_id] = routed
            self._waiting[message.qos - 1].append(routed)
            link.inbound_units.add(packet_id)
            if message.qos == 2:
                inbound.hold(session, packet_id, turn).routing[packet_id] = route_id
        turn.actions.append(RouteMessage(message, route_id, session.client_id))

    def _on_routed(self, event: MessageRouted, turn: Turn) -> None:
        if not 0 < event.route_id <= self._last_route_id:
            raise InvalidState(f"MessageRouted.route_id {event.route_id!r} was never given")
        session = self._sessions.get(self._client_id)
        if session is not None:
            self._settle(session, turn)
        routed = self._routes.pop(event.route_id, None)
        if routed is None:
            return  # its session has ended meanwhile
        routed.code = event.reason_code
        waiting = self._waiting[routed.message.qos - 1]
        while waiting and waiting[0].code is not None:
            self._answer(waiting.popleft(), turn)

    def _answer(self, routed: _Routed, turn: Turn) -> None:
        session, packet_id, code = routed.session, routed.packet_id, routed.code
        assert code is not None
        link = routed.link if routed.link.session is session else None
        if routed.message.qos == 2:
            ids = session.inbound
            if ids is None or ids.routing.get(packet_id) != routed.route_id:
                return  # it timed out
            del ids.routing[packet_id]
            link = session.link
            if link is not None and packet_id not in link.inbound_units:
                link = None  # not repeated on this connection yet: PUBREC comes with the repeat
            if code >= 0x80:
                del ids.ends_at[packet_id]
                if not ids.ends_at:
                    turn.deadlines.disarm(ids)
                    session.inbound = None
        if link is None:
            return
        try:
            if code >= 0x80:
                link.inbound_units.discard(packet_id)
                inbound.refuse(link, routed.message, packet_id, code, turn)
            elif routed.message.qos == 2:
                turn.actions.append(SendPubrec(link.connection, packet_id, code))
            else:
                link.inbound_units.discard(packet_id)
                turn.actions.append(SendPuback(link.connection, packet_id, code))
        except Fault as fault:
            self._fail(link, fault.reason_code, fault.detail, turn)

    def _on_deliver(self, event: DeliverMessage, turn: Turn) -> None:
        if self._client_id not in self._sessions:
            raise InvalidState(f"there is no session of {self._client_id!r}: feed ClientConnected")
        session = self._named(self._client_id, event, turn)
        if session is not None:
            delivery = event.delivery
            if delivery.received_at == float("-inf"):
                delivery = _arrived(delivery, session, turn.now)
            outbound.offer(session, delivery, turn)

    def _publish_wills(self, turn: Turn, limit: int | None = None) -> int:
        wills, turn.wills = turn.wills, []
        for client_id, message, _ in wills:
            turn.notices.append(WillPublished(client_id, message))
            turn.actions.append(RouteMessage(message, None, client_id))
        return len(wills)

    def _subscribed(self, session: SessionState, granted: list[Granted], turn: Turn) -> None:
        for made in granted:
            if made.is_new:
                turn.notices.append(FilterAdded(made.route.topic_filter))

    def _unsubscribed(self, session: SessionState, removed: list[Route], turn: Turn) -> None:
        for route in removed:
            turn.notices.append(FilterRemoved(route.topic_filter))

    def _forget(self, session: SessionState, turn: Turn) -> None:
        self._unsubscribed(session, session.all_routes(), turn)
        self._routes.clear()
        for waiting in self._waiting:
            waiting.clear()

    _HANDLERS: ClassVar[dict[type, Callable[[Any, Any, Turn], None]]] = {
        **Engine._HANDLERS,
        ClientConnected: _on_only_connected,
        MessageRouted: _on_routed,
        DeliverMessage: _on_deliver,
    }


class _Routed:
    """A message that the host's router has."""

    __slots__ = ("code", "link", "message", "packet_id", "route_id", "session")

    def __init__(
        self, route_id: int, session: SessionState, link: Link, message: Message, packet_id: int
    ) -> None:
        self.route_id = route_id
        self.session = session
        self.link = link
        self.message = message
        self.packet_id = packet_id
        self.code: ReasonCode | None = None

    def saved(self) -> RoutedSnapshot:
        """The same as a value."""
        link, ids = self.link, self.session.inbound
        return RoutedSnapshot(
            self.route_id,
            link.session is self.session,
            self.packet_id,
            self.message,
            self.code,
            ids is not None and ids.routing.get(self.packet_id) == self.route_id,
        )


def _arrived(delivery: Delivery, session: SessionState, now: float) -> Delivery:
    """A host's delivery that arrives in this call, with what the host left open filled in."""
    lifetime, told = session.settings.expiry_of(delivery.message)
    expires_at = delivery.expires_at
    if expires_at is None and lifetime is not None:
        expires_at = now + lifetime
    if delivery.message_expiry_interval is not None:
        told = delivery.message_expiry_interval
    return evolve(delivery, received_at=now, expires_at=expires_at, message_expiry_interval=told)
