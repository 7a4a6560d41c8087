"""One dispatch for all events, and the life of connections and sessions.

`Engine` is what `SessionStore` and a `Session` without a store have in common; they add the
router. It checks what a host may do, settles what is due for the session that an event reads,
delegates, and closes the connection of a peer that broke a rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

from mqtt_sessions import inbound, outbound
from mqtt_sessions.actions import (
    CloseConnection,
    SendDisconnect,
    SendPingresp,
    SendSuback,
    SendUnsuback,
)
from mqtt_sessions.connection import CLOSED, Link, RetryTimer
from mqtt_sessions.deadlines import Deadline, DeadlineKind, Timer
from mqtt_sessions.errors import InvalidState, InvalidValue
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    DisconnectReceived,
    Event,
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
from mqtt_sessions.handshake import Refusal, connack, examine, refuse_connect
from mqtt_sessions.inbound import Fault
from mqtt_sessions.messages import Delivery, Will
from mqtt_sessions.notices import (
    DropReason,
    EndReason,
    PeerErrorDetected,
    SessionCreated,
    SessionEnded,
    SessionParked,
    SessionResumed,
    SessionTakenOver,
    WillDiscarded,
    WillScheduled,
)
from mqtt_sessions.packet_ids import MAX_PACKET_ID
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.queue import ExpiryTimer
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.state import InboundIds, PendingWill, SessionState
from mqtt_sessions.subscribing import Granted, subscribe, unsubscribe
from mqtt_sessions.topics import matches
from mqtt_sessions.turn import Outcome, Settings, SizeOf, Turn

__all__ = ["Engine"]

_INF = float("inf")


class Engine:
    """Sessions, connections and the index of deadlines, without a router."""

    def __init__(
        self,
        policy: ExpiryPolicy,
        limits: SessionLimits,
        options: ServerOptions,
        size_of: SizeOf | None,
    ) -> None:
        for name, given, kind in (
            ("policy", policy, ExpiryPolicy),
            ("limits", limits, SessionLimits),
            ("options", options, ServerOptions),
        ):
            if not isinstance(given, kind):
                raise InvalidValue(f"{name} must be of type {kind.__name__}, not {given!r}")
        self._settings = Settings(policy, limits, options, size_of)
        self._turn = Turn()
        self._sessions: dict[str, SessionState] = {}
        self._links: dict[Hashable, Link] = {}
        self._parked = 0

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
        handler = self._HANDLERS.get(event.__class__)
        if handler is None:
            raise InvalidState(f"{type(event).__name__} is not an event of {type(self).__name__}")
        before = turn.now
        if before <= now < _INF:
            turn.now = now
        elif not math.isfinite(now):
            raise InvalidValue(f"now must be a finite number of seconds, not {now!r}")
        turn.busy = True
        try:
            handler(self, event, turn)
            if turn.wills:
                self._publish_wills(turn)
        except InvalidState:
            turn.now = before
            raise
        except BaseException:
            turn.take()
            raise
        finally:
            turn.busy = False
        return turn.take()

    def handle_timeout(self, now: float, limit: int | None = None) -> Outcome:
        """Do what is due at `now`; early, repeated and late calls are harmless.

        Args:
            now: The host's clock in seconds.
            limit: Units of work at most (one session ended, one copy dropped, one will handed to
                one receiver); the rest stays due. None: all that is due. A will goes to all its
                receivers at once, however few units were left.

        Raises:
            InvalidValue: `now` is not a finite number, or `limit` not above 0.

        *Cost* O(units * log lanes).
        """
        turn = self._turn
        if turn.busy:
            raise InvalidState("handle_timeout was called while a call is running")
        if not math.isfinite(now):
            raise InvalidValue(f"now must be a finite number of seconds, not {now!r}")
        if limit is not None and limit < 1:
            raise InvalidValue(f"limit must be None or above 0, not {limit!r}")
        turn.now = max(turn.now, now)
        turn.busy = True
        try:
            while (timer := turn.deadlines.first()) is not None and timer.at <= turn.now:
                used = self._fire(timer, turn, limit)
                if turn.wills:
                    used += self._publish_wills(turn)
                if limit is not None:
                    limit -= used
                    if limit <= 0:
                        break
        finally:
            turn.busy = False
        return turn.take()

    @property
    def next_deadline_at(self) -> float | None:
        """When `handle_timeout` has something to do; allocates nothing. *Cost* O(1) amortized."""
        timer = self._turn.deadlines.first()
        return None if timer is None else timer.at

    @property
    def next_deadline(self) -> Deadline | None:
        """The same with kind and subject. *Cost* O(1) amortized."""
        timer = self._turn.deadlines.first()
        return None if timer is None else Deadline(timer.at, timer.kind, timer.subject)

    # ------------------------------------------------------------ what a router adds

    def _route_published(
        self, session: SessionState, link: Link, event: PublishReceived, turn: Turn
    ) -> None:
        raise NotImplementedError

    def _publish_wills(self, turn: Turn) -> int:
        raise NotImplementedError

    def _subscribed(self, session: SessionState, granted: list[Granted], turn: Turn) -> None:
        raise NotImplementedError

    def _unsubscribed(self, session: SessionState, removed: list[Any], turn: Turn) -> None:
        raise NotImplementedError

    def _created(self, session: SessionState) -> None:
        """A session has begun."""

    def _forget(self, session: SessionState, turn: Turn) -> None:
        raise NotImplementedError

    def _refill(self, session: SessionState, link: Link, turn: Turn) -> None:
        """There may be room to send what waits."""
        queue = session.queue
        if link.held or (queue is not None and queue.items):
            outbound.pump(session, link, turn)

    # ------------------------------------------------------------ packets of a connection

    def _link(self, event: Any, turn: Turn) -> Link | None:
        """The open connection of an event, its keep alive renewed; None if it is closed."""
        link = self._links.get(event.connection)
        if link is None:
            raise InvalidState(
                f"{type(event).__name__}.connection {event.connection!r} is not known: "
                "feed ClientConnected first"
            )
        if link.session is None:
            return None
        if link.alive_until <= turn.now:
            self._keep_alive_over(link, turn)
            return None
        link.alive_until = turn.now + link.keep_alive_interval
        return link

    def _on_published(self, event: PublishReceived, turn: Turn) -> None:
        link = self._link(event, turn)
        if link is None:
            return
        session = link.session
        assert session is not None
        ids = session.inbound
        if ids is not None and ids.due <= turn.now:
            inbound.forget_timed_out(session, turn)
        try:
            if inbound.admit(session, link, event, turn):
                self._route_published(session, link, event, turn)
        except Fault as fault:
            self._fail(link, fault.reason_code, fault.detail, turn)

    def _on_puback(self, event: PubackReceived, turn: Turn) -> None:
        link = self._link(event, turn)
        if link is None:
            return
        session = link.session
        assert session is not None
        reply = outbound.acknowledge(session, event.packet_id, event.reason_code, turn)
        if reply is Reply.PROTOCOL_ERROR:
            self._fail(link, ReasonCode.PROTOCOL_ERROR, "PUBACK for a QoS 2 message", turn)
        else:
            self._refill(session, link, turn)

    def _on_pubrec(self, event: PubrecReceived, turn: Turn) -> None:
        link = self._link(event, turn)
        if link is None:
            return
        session = link.session
        assert session is not None
        reply = outbound.receive(session, link, event.packet_id, event.reason_code, turn)
        if reply is Reply.PROTOCOL_ERROR:
            self._fail(link, ReasonCode.PROTOCOL_ERROR, "PUBREC for a QoS 1 message", turn)
        else:
            self._refill(session, link, turn)

    def _on_pubcomp(self, event: PubcompReceived, turn: Turn) -> None:
        link = self._link(event, turn)
        if link is None:
            return
        session = link.session
        assert session is not None
        reply = outbound.complete(session, event.packet_id, turn)
        if reply is Reply.PROTOCOL_ERROR:
            self._fail(link, ReasonCode.PROTOCOL_ERROR, "PUBCOMP before PUBREC", turn)
        else:
            self._refill(session, link, turn)

    def _on_pubrel(self, event: PubrelReceived, turn: Turn) -> None:
        link = self._link(event, turn)
        if link is None:
            return
        session = link.session
        assert session is not None
        ids = session.inbound
        if ids is not None and ids.due <= turn.now:
            inbound.forget_timed_out(session, turn)
        try:
            inbound.release(session, link, event.packet_id, turn)
        except Fault as fault:
            self._fail(link, fault.reason_code, fault.detail, turn)

    def _on_subscribe(self, event: SubscribeReceived, turn: Turn) -> None:
        link = self._link(event, turn)
        if link is None:
            return
        session = link.session
        assert session is not None
        try:
            codes, granted = subscribe(session, link, event)
        except Fault as fault:
            self._fail(link, fault.reason_code, fault.detail, turn)
            return
        turn.actions.append(SendSuback(link.connection, event.packet_id, codes))
        self._subscribed(session, granted, turn)

    def _on_unsubscribe(self, event: UnsubscribeReceived, turn: Turn) -> None:
        link = self._link(event, turn)
        if link is None:
            return
        session = link.session
        assert session is not None
        try:
            codes, removed = unsubscribe(session, link, event)
        except Fault as fault:
            self._fail(link, fault.reason_code, fault.detail, turn)
            return
        self._unsubscribed(session, removed, turn)
        turn.actions.append(SendUnsuback(link.connection, event.packet_id, codes))

    def _on_ping(self, event: PingReceived, turn: Turn) -> None:
        link = self._link(event, turn)
        if link is not None and event.answer:
            turn.actions.append(SendPingresp(link.connection))  # MQTT-3.12.4-1

    def _on_malformed(self, event: MalformedPacketReceived, turn: Turn) -> None:
        link = self._link(event, turn)
        if link is not None:
            self._fail(link, event.reason_code, "malformed packet or protocol error", turn)

    def _on_congested(self, event: ConnectionCongested, turn: Turn) -> None:
        link = self._open_link(event)
        if link is not None:
            link.congested = link.held = True

    def _on_writable(self, event: ConnectionWritable, turn: Turn) -> None:
        link = self._open_link(event)
        if link is None or not link.congested:
            return
        session = link.session
        assert session is not None
        link.congested = False
        link.held = bool(link.unsent)
        self._refill(session, link, turn)

    def _open_link(self, event: Any) -> Link | None:
        """The open connection of an event that is no packet; None if it is closed."""
        link = self._links.get(event.connection)
        if link is None:
            raise InvalidState(
                f"{type(event).__name__}.connection {event.connection!r} is not known: "
                "feed ClientConnected first"
            )
        return None if link.session is None else link

    # ------------------------------------------------------------ connections begin

    def _on_connected(self, event: ClientConnected, turn: Turn) -> None:
        link = self._links.get(event.connection)
        if link is not None:
            if link.session is None:
                raise InvalidState(
                    f"ClientConnected.connection {event.connection!r} is closed: "
                    "feed ConnectionLost first"
                )
            if self._link(event, turn) is not None:
                # MQTT-3.1.0-2
                self._fail(link, ReasonCode.PROTOCOL_ERROR, "a second CONNECT", turn)
            return
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

    def _is_over(self, session: SessionState, turn: Turn) -> bool:
        return session.lane is not None and session.at <= turn.now

    def _is_full(self, turn: Turn) -> bool:
        maximum = self._settings.limits.maximum_sessions
        if maximum is None or len(self._sessions) < maximum:
            return False
        for timer in turn.deadlines.due_of_kind(DeadlineKind.SESSION_EXPIRY, turn.now):
            assert isinstance(timer, SessionState)
            self._end(timer, EndReason.EXPIRED, turn)
        return len(self._sessions) >= maximum

    def _accept(self, event: ClientConnected, session: SessionState | None, turn: Turn) -> None:
        """In the order of NN-3.1: the old connection, Clean Start, CONNACK, then messages."""
        if session is not None and session.link is not None:
            session = self._take_over(session, session.link, event.clean_start, turn)
        if session is not None and event.clean_start:
            self._end(session, EndReason.CLEAN_START, turn)  # MQTT-3.1.2-4
            session = None
        shared = self._settings
        settings = shared
        if event.policy is not None or event.limits is not None:
            settings = Settings(
                event.policy or shared.policy,
                event.limits or shared.limits,
                shared.options,
                shared.size_of,
            )
        resumed = session is not None
        if session is None:
            client_id = event.client_id or event.assigned_client_id
            assert client_id is not None
            session = self._sessions[client_id] = SessionState(client_id, settings)
            self._created(session)
            turn.notices.append(SessionCreated(client_id))
        else:
            self._parked -= 1
            turn.deadlines.disarm(session)
            self._cancel_will(session, turn)
            session.settings = settings
            turn.notices.append(SessionResumed(session.client_id))
        session.principal = event.principal
        session.will = event.will  # NN-4.7: the new CONNECT brings its own or none
        session.expiry_interval = settings.policy.at_connect(
            event.protocol_version, event.clean_start, event.session_expiry_interval
        )
        link = self._open(event, session, settings, turn)
        turn.actions.append(connack(event, resumed, session, self._settings.options))
        if resumed:
            self._settle_queue(session, turn)
            outbound.resume(session, link, turn)
            self._refill(session, link, turn)

    def _open(
        self, event: ClientConnected, session: SessionState, settings: Settings, turn: Turn
    ) -> Link:
        options = settings.options
        link = Link(event.connection, session, event.protocol_version)
        session.link = link
        self._links[event.connection] = link
        limit = settings.limits.maximum_send_window
        asked = event.receive_maximum
        link.window = limit if asked is None else min(asked, limit)  # MQTT-4.9.0-1
        link.maximum_packet_size = event.maximum_packet_size
        link.expiry_asked = event.session_expiry_interval or 0
        keep_alive = event.keep_alive
        if event.protocol_version == 5:
            if options.enforce_receive_maximum:
                link.receive_maximum = options.receive_maximum
            if options.server_keep_alive is not None:
                keep_alive = options.server_keep_alive  # MQTT-3.1.2-21
        elif settings.policy.retry_interval is not None:
            link.retry = RetryTimer(session.client_id, settings.policy.retry_interval)
        if keep_alive:
            interval = link.keep_alive_interval = keep_alive * 1.5  # MQTT-3.1.2-22
            link.alive_until = turn.now + interval
            turn.deadlines.arm(link, link.alive_until, interval)
        return link

    def _take_over(
        self, session: SessionState, old: Link, clean_start: bool, turn: Turn
    ) -> SessionState | None:
        """The older connection goes; the session, if it goes on.

        Its will is withheld only for a session that continues and a delay above 0 [NN-3.2]; a
        session whose interval is 0 ends with its connection and is not inherited [NN-3.3].
        """
        turn.notices.append(SessionTakenOver(session.client_id, old.connection))
        self._close(old, ReasonCode.SESSION_TAKEN_OVER, turn)  # MQTT-3.1.4-3
        if session.expiry_interval == 0:
            self._end(session, EndReason.CONNECTION_CLOSED, turn)
            return None
        if not clean_start:
            will = session.will
            if isinstance(will, Will) and will.will_delay_interval == 0:
                self._owe_will(session, turn)
        self._parked += 1
        return session

    # ------------------------------------------------------------ connections end

    def _on_disconnect(self, event: DisconnectReceived, turn: Turn) -> None:
        link = self._link(event, turn)
        if link is None:
            return
        session = link.session
        assert session is not None
        interval = event.session_expiry_interval
        if link.version == 5 and interval is not None:
            if interval > 0 and link.expiry_asked == 0:
                # NN-1.5: judged by what CONNECT carried
                detail = "DISCONNECT raises the session expiry interval from 0"
                self._fail(link, ReasonCode.PROTOCOL_ERROR, detail, turn)
                return
            session.expiry_interval = session.settings.policy.at_disconnect(interval)
        if link.version < 5 or event.reason_code == ReasonCode.SUCCESS:
            self._cancel_will(session, turn)  # MQTT-3.14.4-3; 3.1.1: any DISCONNECT
        self._detach(link, turn)
        turn.actions.append(CloseConnection(link.connection, ReasonCode.SUCCESS))
        self._park(session, turn)

    def _on_lost(self, event: ConnectionLost, turn: Turn) -> None:
        link = self._links.get(event.connection)
        if link is None:
            raise InvalidState(
                f"ConnectionLost.connection {event.connection!r} is not known: "
                "each ClientConnected is paired with one ConnectionLost"
            )
        session = link.session
        if session is not None:
            self._detach(link, turn)
            self._park(session, turn)
        del self._links[event.connection]

    def _fail(self, link: Link, reason_code: ReasonCode, detail: str, turn: Turn) -> None:
        """The peer broke a rule: tell it why, close, and treat it as an abnormal end [NN-4.3]."""
        session = link.session
        assert session is not None
        turn.notices.append(
            PeerErrorDetected(link.connection, session.client_id, reason_code, detail)
        )
        self._close(link, reason_code, turn)
        self._park(session, turn)

    def _keep_alive_over(self, link: Link, turn: Turn) -> None:
        self._fail(link, ReasonCode.KEEP_ALIVE_TIMEOUT, "keep alive ran out", turn)

    def _close(self, link: Link, reason_code: ReasonCode, turn: Turn) -> None:
        """Close an open connection; MQTT 3.x has no packet that says why."""
        self._detach(link, turn)
        if link.version == 5:
            turn.actions.append(SendDisconnect(link.connection, reason_code))
        turn.actions.append(CloseConnection(link.connection, reason_code))

    def _detach(self, link: Link, turn: Turn) -> None:
        """Part connection and session; late events of the connection find nobody [NN-3.5]."""
        session = link.session
        assert session is not None
        turn.deadlines.disarm(link)
        if link.retry is not None:
            turn.deadlines.disarm(link.retry)
        link.session = None
        session.link = None
        self._links[link.connection] = CLOSED

    def _park(self, session: SessionState, turn: Turn) -> None:
        """The connection is gone: the session ends, or its expiry and the will's delay run."""
        interval = session.expiry_interval
        if interval == 0:
            self._end(session, EndReason.CONNECTION_CLOSED, turn)
            return
        self._parked += 1
        expires_at = None
        if interval is not None:
            expires_at = turn.now + interval
            turn.deadlines.arm(session, expires_at, interval)
        turn.notices.append(SessionParked(session.client_id, expires_at))
        will = session.will
        if not isinstance(will, Will):
            return
        delay = will.will_delay_interval
        if delay == 0:
            self._owe_will(session, turn)
            return
        pending = session.will = PendingWill(session.client_id, will.message)
        publish_at = turn.now + delay
        turn.deadlines.arm(pending, publish_at, delay)
        if expires_at is not None and expires_at < publish_at:
            publish_at = expires_at  # NN-4.1: or when the session ends, if that is earlier
        turn.notices.append(WillScheduled(session.client_id, publish_at))

    def _owe_will(self, session: SessionState, turn: Turn) -> None:
        """The will is to be published, and leaves the session as of now [MQTT-3.1.2-10]."""
        will = session.will
        if will is None:
            return
        if isinstance(will, PendingWill):
            turn.deadlines.disarm(will)
        session.will = None
        turn.wills.append((session.client_id, will.message))

    def _cancel_will(self, session: SessionState, turn: Turn) -> None:
        will = session.will
        if will is None:
            return
        if isinstance(will, PendingWill):
            turn.deadlines.disarm(will)
        session.will = None
        turn.notices.append(WillDiscarded(session.client_id, will.message))

    def _end(self, session: SessionState, reason: EndReason, turn: Turn) -> None:
        """End a session without a connection: its will is due, what it holds is dropped."""
        if self._sessions.get(session.client_id) is not session:
            return
        if session.link is None and reason is not EndReason.CONNECTION_CLOSED:
            self._parked -= 1
        del self._sessions[session.client_id]
        deadlines = turn.deadlines
        deadlines.disarm(session)
        if session.will is not None:
            self._owe_will(session, turn)
        if session.queue is not None:
            outbound.drop_everything(session, turn)
            timer = session.queue.timer
            if timer is not None:
                deadlines.disarm(timer)
        if session.inbound is not None:
            deadlines.disarm(session.inbound)
            session.inbound = None
        self._forget(session, turn)
        session.routes = None
        turn.notices.append(SessionEnded(session.client_id, reason))

    # ------------------------------------------------------------ time

    def _fire(self, timer: Timer, turn: Turn, limit: int | None) -> int:
        """Do what one timer is due for; the units of work used."""
        if isinstance(timer, SessionState):
            return self._expire_session(timer, turn, limit)
        if isinstance(timer, Link):
            self._keep_alive_over(timer, turn)
        elif isinstance(timer, PendingWill):
            session = self._sessions[timer.client_id]
            self._owe_will(session, turn)
        elif isinstance(timer, ExpiryTimer):
            session = self._sessions[timer.client_id]
            return max(1, outbound.expire_queued(session, turn, limit))
        elif isinstance(timer, InboundIds):
            return inbound.forget_timed_out(self._sessions[timer.client_id], turn, limit)
        else:
            assert isinstance(timer, RetryTimer)
            session = self._sessions[timer.client_id]
            assert session.link is not None
            outbound.retry(session, session.link, turn)
        return 1

    def _expire_session(self, session: SessionState, turn: Turn, limit: int | None) -> int:
        """One unit for the session and one for each message that goes with it."""
        used = 0
        if session.queue is not None:
            used = outbound.drop_everything(session, turn, limit)
            if limit is not None and used >= limit:
                return used
        self._end(session, EndReason.EXPIRED, turn)
        return used + 1

    def _settle(self, session: SessionState, turn: Turn) -> None:
        """Do what is due for one session, in the order of `DeadlineKind` (law 5)."""
        self._settle_queue(session, turn)
        if session.inbound is not None and session.inbound.due <= turn.now:
            inbound.forget_timed_out(session, turn)
        link = session.link
        if link is not None:
            if link.alive_until <= turn.now:
                self._keep_alive_over(link, turn)
            return
        will = session.will
        if isinstance(will, PendingWill) and will.at <= turn.now:
            self._owe_will(session, turn)
        if self._is_over(session, turn):
            self._end(session, EndReason.EXPIRED, turn)

    def _settle_queue(self, session: SessionState, turn: Turn) -> None:
        queue = session.queue
        if queue is not None and queue.timer is not None and queue.timer.at <= turn.now:
            outbound.expire_queued(session, turn)

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
            return
        turn.deadlines.disarm(session)
        if interval == 0:
            self._end(session, EndReason.EXPIRED, turn)
        elif interval is not None:
            turn.deadlines.arm(session, turn.now + interval, interval)

    def _on_added(self, event: SubscriptionsAdded, turn: Turn) -> None:
        session = self._named(event.client_id, event, turn)
        if session is not None:
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

        for delivery in session.queue.purge(is_wanted):
            outbound.drop(session, delivery, DropReason.PURGED, turn)

    def _on_stopping(self, event: ServerStopping, turn: Turn) -> None:
        for link in list(self._links.values()):
            session = link.session
            if session is not None:
                self._close(link, ReasonCode.SERVER_SHUTTING_DOWN, turn)
                self._park(session, turn)

    def _check_sessions(self) -> None:
        """Verify the invariants of sessions, connections and deadlines. *Cost* O(all of them)."""
        turn = self._turn
        assert not turn.actions
        assert not turn.notices
        assert not turn.wills
        turn.deadlines.check()
        parked = 0
        for client_id, session in self._sessions.items():
            assert session.client_id == client_id
            _check_session(session)
            link = session.link
            if link is None:
                parked += 1
                assert (session.lane is None) == (session.expiry_interval is None)
            else:
                assert session.lane is None
                assert self._links[link.connection] is link
                assert link.session is session
        assert parked == self._parked
        for link in self._links.values():
            if link is not CLOSED:
                session_of = link.session
                assert session_of is not None
                assert self._sessions[session_of.client_id] is session_of

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
        ServerStopping: _on_stopping,
    }


def _check_session(session: SessionState) -> None:
    queue, link = session.queue, session.link
    in_flight = session.in_flight or {}
    assert all(1 <= packet_id <= MAX_PACKET_ID for packet_id in in_flight)
    if queue is not None:
        queue.check()
    if link is not None:
        assert set(link.unsent) <= set(in_flight)
        assert link.unitless <= set(in_flight)
        assert len(in_flight) - len(link.unsent) - len(link.unitless) <= link.window
        assert link.held == (link.congested or bool(link.unsent))
    if session.inbound is not None:
        assert session.inbound.ends_at
        assert session.inbound.routing <= set(session.inbound.ends_at)
    if isinstance(session.will, PendingWill):
        assert link is None
        assert session.will.lane is not None
