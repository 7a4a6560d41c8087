"""The door: one dispatch for all events.

`Engine` is what `SessionStore` and a `Session` without a store have in common; they add the
router. It checks what a host may do, settles what is due for the session that an event reads,
delegates, and closes the connection of a peer that broke a rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MethodType
from typing import Any, ClassVar

from mqtt_sessions import inbound, outbound
from mqtt_sessions.actions import (
    CloseConnection,
    SendPingresp,
    SendSuback,
    SendUnsuback,
)
from mqtt_sessions.connection import CLOSED, Link
from mqtt_sessions.deadlines import Deadline, Timer
from mqtt_sessions.errors import InvalidState, InvalidValue
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    DisconnectReceived,
    Event,
    HeartbeatPassed,
    MalformedPacketReceived,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    QueuePurged,
    ServerStopping,
    SessionDiscarded,
    SessionExpirySet,
    SessionKicked,
    SubscribeReceived,
    SubscriptionsAdded,
    SubscriptionsRemoved,
    UnsubscribeReceived,
    WillRevoked,
)
from mqtt_sessions.flows import Reply
from mqtt_sessions.handshake import Refusal, examine, refuse_connect
from mqtt_sessions.inbound import Fault
from mqtt_sessions.lifecycle import Lifecycle
from mqtt_sessions.messages import Delivery
from mqtt_sessions.notices import (
    DropReason,
    EndReason,
)
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.state import SessionState
from mqtt_sessions.subscribing import Granted, subscribe, unsubscribe
from mqtt_sessions.topics import matches
from mqtt_sessions.turn import EMPTY, Outcome, SizeOf, Turn
from mqtt_sessions.wills import WillFanout

__all__ = ["Engine", "clock"]

_INF = float("inf")
_SUCCESS = ReasonCode.SUCCESS


def _packet(step: Callable[..., None]) -> Callable[[Any, Any, Turn], None]:
    """A step for packets as a handler, for packets have this in common.

    Those of a closed connection are ignored, the others prove that the client is alive [NN-5.5],
    and a peer that breaks a rule is closed with the rule's code [MQTT-4.13.1-1].
    """

    def handler(self: Engine, event: Any, turn: Turn) -> None:
        link = self._packet_link(event, turn)
        if link is None:
            return
        try:
            step(self, link.session, link, event, turn)
        except Fault as fault:
            self._fail(link, fault.reason_code, fault.detail, turn)

    return handler


class Engine(Lifecycle):
    """The door: one dispatch for all events, without a router."""

    _name: ClassVar[str] = "SessionStore"

    def __init__(
        self,
        policy: ExpiryPolicy,
        limits: SessionLimits,
        options: ServerOptions,
        size_of: SizeOf | None,
    ) -> None:
        super().__init__(policy, limits, options, size_of)
        self._handlers = {
            event: MethodType(handler, self) for event, handler in self._HANDLERS.items()
        }

    # ------------------------------------------------------------ the door

    def handle(self, event: Event, now: float) -> Outcome:
        """Take one event in.

        Args:
            event: What happened.
            now: The host's clock in seconds; should it go back, time stands still.

        Returns:
            What the host has to do, in order, and what happened.

        Raises:
            InvalidState: The event cannot happen now.
            InvalidValue: `now` is not a finite number.

        *State on error*: as before the call.
        """
        turn = self._turn
        if turn.busy:
            raise InvalidState("handle was called while a call is running")
        if type(now) is not float:
            now = clock(now)
        before = turn.now
        in_order = before <= now < _INF
        if type(event) is PubackReceived and in_order:
            # Half of all calls are the row (AWAITING_PUBACK, PUBACK) of the QoS 1 sender with
            # nothing else hanging on it: spelled out, it costs half.
            try:
                link = self._links.get(event.connection)
            except TypeError:
                link = None  # not hashable: told below
            if link is not None and link.plain and link.due > now and not self._fanouts:
                session = link.session
                packet_id = event.packet_id
                in_flight = session.in_flight  # type: ignore[union-attr]
                if (
                    in_flight
                    and (exchange := in_flight.get(packet_id)) is not None
                    and exchange.qos == 1
                    and event.reason_code is _SUCCESS
                    and not session.queue.items  # type: ignore[union-attr]
                ):
                    turn.now = now
                    link.due = now + link.interval
                    del in_flight[packet_id]
                    turn.completed += 1
                    if turn.recorder is None:
                        return EMPTY
                    return turn.recorder.acked(session, packet_id)  # type: ignore[arg-type]
        handler = self._handlers.get(type(event))
        if handler is None:
            raise InvalidState(f"{type(event).__name__} is not an event of {self._name}")
        if in_order:
            turn.now = now
        elif not math.isfinite(now):
            raise InvalidValue(f"now must be a finite number of seconds, not {now!r}")
        turn.busy = True
        try:
            handler(event, turn)
            if turn.wills:
                self._publish_wills(turn)
        except InvalidState:
            turn.now = before
            turn.clear()
            raise
        except BaseException as error:
            turn.clear()
            if isinstance(error, TypeError) and _has_unhashable_connection(event):
                turn.now = before
                raise InvalidState(
                    f"{type(event).__name__}.connection is not hashable, so it is not known"
                ) from error
            raise
        finally:
            turn.busy = False
        if turn.actions or turn.notices or turn.recorder is not None:
            return turn.take()
        return EMPTY

    def handle_timeout(self, now: float, limit: int | None = None) -> Outcome:
        """Do what is due at `now`; early, repeated and late calls are harmless.

        Args:
            now: The host's clock in seconds.
            limit: Units of work at most (one session ended, one copy dropped, one will handed to
                one receiver); the rest stays due. None: all that is due.

        Raises:
            InvalidValue: `now` is not a finite number, or `limit` not above 0.

        *Cost* O(units * log lanes).
        """
        turn = self._turn
        if turn.busy:
            raise InvalidState("handle_timeout was called while a call is running")
        now = clock(now)
        if not math.isfinite(now):
            raise InvalidValue(f"now must be a finite number of seconds, not {now!r}")
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise InvalidValue(f"limit must be None or an integer above 0, not {limit!r}")
        turn.now = max(turn.now, now)
        turn.busy = True
        try:
            while (timer := turn.deadlines.first()) is not None and timer.at <= turn.now:
                turn.firing_at = _before(timer)
                used = self._fire(timer, turn, limit)
                if turn.wills:
                    left = None if limit is None else max(0, limit - used)
                    used += self._publish_wills(turn, left)
                if limit is not None:
                    limit -= used
                    if limit <= 0:
                        break
        except BaseException:
            turn.clear()
            raise
        finally:
            turn.busy = False
        return turn.take()

    @property
    def next_deadline_at(self) -> float | None:
        """When `handle_timeout` has something to do; allocates nothing. *Cost* O(1) amortized."""
        timer = self._deadlines.known
        if timer is None or timer.due > timer.at:
            timer = self._deadlines.find()
        return None if timer is None else timer.at

    @property
    def next_deadline(self) -> Deadline | None:
        """The same with kind and subject. *Cost* O(1) amortized."""
        timer = self._deadlines.first()
        return None if timer is None else Deadline(timer.at, timer.kind, timer.subject)

    # ------------------------------------------------------------ packets of a connection

    @_packet
    def _on_published(
        self, session: SessionState, link: Link, event: PublishReceived, turn: Turn
    ) -> None:
        if session.inbound is not None:
            self._settle_inbound(session, turn)
        if inbound.admit(session, link, event, turn):
            self._route_published(session, link, event, turn)

    @_packet
    def _on_puback(
        self, session: SessionState, link: Link, event: PubackReceived, turn: Turn
    ) -> None:
        reply = outbound.acknowledge(session, link, event.packet_id, event.reason_code, turn)
        if reply is Reply.PROTOCOL_ERROR:
            raise Fault(ReasonCode.PROTOCOL_ERROR, "PUBACK for a QoS 2 message")
        if reply is not Reply.IGNORE:
            self._refill(session, link, turn)

    @_packet
    def _on_pubrec(
        self, session: SessionState, link: Link, event: PubrecReceived, turn: Turn
    ) -> None:
        reply = outbound.receive(session, link, event.packet_id, event.reason_code, turn)
        if reply is Reply.PROTOCOL_ERROR:
            raise Fault(ReasonCode.PROTOCOL_ERROR, "PUBREC for a QoS 1 message")
        if reply is not Reply.IGNORE:
            self._refill(session, link, turn)

    @_packet
    def _on_pubcomp(
        self, session: SessionState, link: Link, event: PubcompReceived, turn: Turn
    ) -> None:
        reply = outbound.complete(session, link, event.packet_id, turn)
        if reply is Reply.PROTOCOL_ERROR:
            raise Fault(ReasonCode.PROTOCOL_ERROR, "PUBCOMP before PUBREC")
        if reply is not Reply.IGNORE:
            self._refill(session, link, turn)

    @_packet
    def _on_pubrel(
        self, session: SessionState, link: Link, event: PubrelReceived, turn: Turn
    ) -> None:
        self._settle_inbound(session, turn)
        inbound.release(session, link, event.packet_id, turn)

    @_packet
    def _on_subscribe(
        self, session: SessionState, link: Link, event: SubscribeReceived, turn: Turn
    ) -> None:
        self._settle_inbound(session, turn)
        # MQTT-3.8.4-1, MQTT-3.8.4-2, MQTT-2.2.1-6: SUBACK before what the subscriptions call up
        codes, granted = subscribe(session, link, event)
        turn.actions.append(SendSuback(link.connection, event.packet_id, codes))
        self._subscribed(session, granted, turn)

    @_packet
    def _on_unsubscribe(
        self, session: SessionState, link: Link, event: UnsubscribeReceived, turn: Turn
    ) -> None:
        self._settle_inbound(session, turn)
        codes, removed = unsubscribe(session, link, event)  # MQTT-3.10.4-4, MQTT-2.2.1-6
        self._unsubscribed(session, removed, turn)
        turn.actions.append(SendUnsuback(link.connection, event.packet_id, codes))

    @_packet
    def _on_ping(self, session: SessionState, link: Link, event: PingReceived, turn: Turn) -> None:
        if event.answer:
            turn.actions.append(SendPingresp(link.connection))  # MQTT-3.12.4-1

    @_packet
    def _on_malformed(
        self, session: SessionState, link: Link, event: MalformedPacketReceived, turn: Turn
    ) -> None:
        raise Fault(event.reason_code, "malformed packet or protocol error")

    def _packet_link(self, event: Any, turn: Turn) -> Link | None:
        """The open connection of a packet, its keep alive renewed; None if it is closed."""
        link = self._links.get(event.connection)
        if link is None or link.session is None or link.due <= turn.now or self._fanouts:
            link = self._open_link(event, turn)
            if link is None:
                return None
        link.due = turn.now + link.interval
        return link

    def _on_congested(self, event: ConnectionCongested, turn: Turn) -> None:
        link = self._open_link(event, turn)
        if link is not None:
            link.congested = True
            link.smooth()

    def _on_writable(self, event: ConnectionWritable, turn: Turn) -> None:
        link = self._open_link(event, turn)
        if link is None or not link.congested:
            return
        session = link.session
        assert session is not None
        link.congested = False
        link.smooth()
        self._refill(session, link, turn)

    def _open_link(self, event: Any, turn: Turn) -> Link | None:
        """The open connection of an event that is no packet; None if it is closed."""
        link = self._links.get(event.connection)
        if link is None:
            raise InvalidState(
                f"{type(event).__name__}.connection {event.connection!r} is not known: "
                "feed ClientConnected first"
            )
        if link.session is None:
            return None
        if self._fanouts:
            self._catch_up(link.session, turn)
        if link.due <= turn.now:
            self._keep_alive_over(link, turn)
            return None
        return link

    def _on_connected(self, event: ClientConnected, turn: Turn) -> None:
        link = self._links.get(event.connection)
        if link is not None:
            if link.session is None:
                raise InvalidState(
                    f"ClientConnected.connection {event.connection!r} is closed: "
                    "feed ConnectionLost first"
                )
            if self._packet_link(event, turn) is not None:
                # MQTT-3.1.0-2
                self._fail(link, ReasonCode.PROTOCOL_ERROR, "a second CONNECT", turn)
            return
        # MQTT-3.1.3-2
        session = self._sessions.get(event.client_id or event.assigned_client_id or "")
        if session is not None:
            if event.assigned_client_id is not None and not self._is_over(session, turn):
                raise InvalidState(
                    f"ClientConnected.assigned_client_id {event.assigned_client_id!r} belongs to "
                    "a stored session [MQTT-3.2.2-16]"
                )
            self._settle(session, turn)
            session = self._sessions.get(session.client_id)
        refusal = examine(event, session, self._settings.options, self._settings.limits)
        if refusal is None and session is None and self._is_full(turn):
            refusal = Refusal.SESSIONS
        if refusal is not None:
            refuse_connect(event, refusal, turn)
            self._links[event.connection] = CLOSED  # MQTT-3.1.4-6: nothing more is processed
            return
        self._accept(event, session, turn)

    @_packet
    def _on_disconnect(
        self, session: SessionState, link: Link, event: DisconnectReceived, turn: Turn
    ) -> None:
        interval = event.session_expiry_interval
        if link.version == 5 and interval is not None:
            if interval > 0 and link.expiry_asked == 0:
                # NN-1.5: judged by what CONNECT carried
                detail = "DISCONNECT raises the session expiry interval from 0"
                raise Fault(ReasonCode.PROTOCOL_ERROR, detail)
            session.expiry_interval = session.settings.policy.at_disconnect(interval)
            if turn.recorder is not None:
                turn.recorder.connected(session, link.version)
        if link.version < 5 or event.reason_code == ReasonCode.SUCCESS:
            self._cancel_will(session, turn)  # MQTT-3.14.4-3; 3.1.1: any DISCONNECT [NN-4.10]
        self._detach(link, turn)
        # NN-5.1: closed, should the client not have done it
        turn.actions.append(CloseConnection(link.connection, ReasonCode.SUCCESS))
        self._park(session, turn)

    def _on_lost(self, event: ConnectionLost, turn: Turn) -> None:
        link = self._links.get(event.connection)
        if link is None:
            raise InvalidState(
                f"ConnectionLost.connection {event.connection!r} is not known: "
                "each ClientConnected is paired with one ConnectionLost"
            )
        if link.session is not None and self._fanouts:
            self._catch_up(link.session, turn)
        session = link.session
        if session is not None:
            if self._fanouts:
                self._catch_up(session, turn)
            self._detach(link, turn)
            self._park(session, turn)
        del self._links[event.connection]

    # ------------------------------------------------------------ the host's own events

    def _named(self, client_id: str, event: Any, turn: Turn) -> SessionState | None:
        """The session that a host's event names, settled; None if it ended by that."""
        session = self._sessions.get(client_id)
        if session is None:
            raise InvalidState(f"{type(event).__name__}.client_id {client_id!r} has no session")
        self._settle(session, turn)
        return self._sessions.get(client_id)

    def _on_kicked(self, event: SessionKicked, turn: Turn) -> None:
        session = self._named(event.client_id, event, turn)
        if session is not None and session.link is not None:
            self._close(session.link, event.reason_code, turn)
            self._park(session, turn)

    def _on_discarded(self, event: SessionDiscarded, turn: Turn) -> None:
        session = self._named(event.client_id, event, turn)
        if session is None:
            return
        if session.link is not None:
            self._close(session.link, ReasonCode.ADMINISTRATIVE_ACTION, turn)
            self._parked += 1
        self._end(session, EndReason.DISCARDED, turn)

    def _on_expiry_set(self, event: SessionExpirySet, turn: Turn) -> None:
        session = self._named(event.client_id, event, turn)
        if session is None:
            return
        interval = session.expiry_interval = event.session_expiry_interval
        if session.link is not None:
            if turn.recorder is not None:
                turn.recorder.connected(session, session.link.version)
            return
        if turn.recorder is not None:
            turn.recorder.touch(session)
        turn.deadlines.disarm(session)
        if interval == 0:
            self._end(session, EndReason.EXPIRED, turn)
        elif interval is not None:
            turn.deadlines.arm(session, turn.now + interval, interval)

    def _on_added(self, event: SubscriptionsAdded, turn: Turn) -> None:
        session = self._named(event.client_id, event, turn)
        if session is not None:
            # NN-12.8: the client did not ask for them
            granted = [Granted.make(session, wanted) for wanted in event.subscriptions]
            self._subscribed(session, granted, turn)

    def _on_removed(self, event: SubscriptionsRemoved, turn: Turn) -> None:
        session = self._named(event.client_id, event, turn)
        if session is not None:
            routes = [session.remove_route(wanted) for wanted in event.topic_filters]
            self._unsubscribed(session, [route for route in routes if route is not None], turn)

    def _on_will_revoked(self, event: WillRevoked, turn: Turn) -> None:
        session = self._named(event.client_id, event, turn)
        if session is not None:
            self._cancel_will(session, turn)

    def _on_purged(self, event: QueuePurged, turn: Turn) -> None:
        session = self._named(event.client_id, event, turn)
        if session is None or session.queue is None:
            return
        wanted, before = event.topic_filter, event.received_before

        def is_wanted(delivery: Delivery) -> bool:
            if before is not None and delivery.received_at >= before:
                return False
            return wanted is None or matches(wanted, delivery.message.topic_name)

        if turn.recorder is not None and session.rows is not None:
            for row_id, delivery in zip(session.queue.row_ids(), session.queue, strict=True):
                if is_wanted(delivery):
                    turn.recorder.left_queue(row_id, delivery)
        for delivery in session.queue.purge(is_wanted):
            outbound.drop(session, delivery, DropReason.PURGED, turn)

    def _on_heartbeat(self, event: HeartbeatPassed, turn: Turn) -> None:
        if turn.recorder is not None:
            turn.recorder.alive()

    def _on_stopping(self, event: ServerStopping, turn: Turn) -> None:
        for link in list(self._links.values()):
            if link.session is not None and self._fanouts:
                self._catch_up(link.session, turn)
            session = link.session
            if session is None:
                continue
            self._settle(session, turn)
            if link.session is session:
                self._close(link, ReasonCode.SERVER_SHUTTING_DOWN, turn)
                self._park(session, turn)

    _HANDLERS: ClassVar[dict[type, Callable[[Any, Any, Turn], None]]] = {
        ClientConnected: _on_connected,
        PublishReceived: _on_published,
        PubackReceived: _on_puback,
        PubrecReceived: _on_pubrec,
        PubrelReceived: _on_pubrel,
        PubcompReceived: _on_pubcomp,
        SubscribeReceived: _on_subscribe,
        UnsubscribeReceived: _on_unsubscribe,
        PingReceived: _on_ping,
        DisconnectReceived: _on_disconnect,
        MalformedPacketReceived: _on_malformed,
        ConnectionLost: _on_lost,
        ConnectionCongested: _on_congested,
        ConnectionWritable: _on_writable,
        SessionKicked: _on_kicked,
        SessionDiscarded: _on_discarded,
        SessionExpirySet: _on_expiry_set,
        SubscriptionsAdded: _on_added,
        SubscriptionsRemoved: _on_removed,
        WillRevoked: _on_will_revoked,
        QueuePurged: _on_purged,
        HeartbeatPassed: _on_heartbeat,
        ServerStopping: _on_stopping,
    }


def _before(timer: Timer) -> float:
    """Where what is left of a will goes that this timer fires: behind earlier ones, else first."""
    return timer.at if isinstance(timer, WillFanout) else math.nextafter(timer.at, -_INF)


def clock(now: object) -> float:
    """A clock's reading as the float that it becomes in all arithmetic."""
    if isinstance(now, (int, float)) and not isinstance(now, bool):
        try:
            return float(now)
        except OverflowError:
            pass
    raise InvalidValue(f"now must be a finite number of seconds, not {now!r}")


def _has_unhashable_connection(event: Event) -> bool:
    try:
        hash(getattr(event, "connection", None))
    except TypeError:
        return True
    return False
