"""The life of connections and sessions: begin, resume, take over, park, end.

Spec: MQTT 5.0 §3.1.4, §4.1; unnumbered rules of sections 1, 3 and 4.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from mqtt_sessions import inbound, outbound
from mqtt_sessions.actions import (
    CloseConnection,
    SendDisconnect,
)
from mqtt_sessions.connection import CLOSED, Link, RetryTimer
from mqtt_sessions.deadlines import DeadlineKind, Timer
from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.events import (
    ClientConnected,
    PublishReceived,
)
from mqtt_sessions.handshake import connack
from mqtt_sessions.messages import Will
from mqtt_sessions.notices import (
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
from mqtt_sessions.restoring import contents_of
from mqtt_sessions.snapshots import SessionContents
from mqtt_sessions.state import InboundIds, PendingWill, SessionState
from mqtt_sessions.subscribing import Granted
from mqtt_sessions.turn import Settings, SizeOf, Turn
from mqtt_sessions.wills import WillFanout

__all__ = ["Lifecycle"]

_INF = float("inf")


class Lifecycle:
    """Sessions, connections, the index of deadlines, and the steps from one state to the next."""

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
        if size_of is not None and not callable(size_of):
            raise InvalidValue(f"size_of must be None or callable, not {size_of!r}")
        self._settings = Settings(policy, limits, options, size_of)
        self._turn = Turn()
        self._deadlines = self._turn.deadlines
        self._sessions: dict[str, SessionState] = {}
        self._links: dict[Hashable, Link] = {}
        self._parked = 0
        self._fanouts: list[WillFanout] = []

    # ------------------------------------------------------------ what a router adds

    def _route_published(
        self, session: SessionState, link: Link, event: PublishReceived, turn: Turn
    ) -> None:
        raise NotImplementedError

    def _publish_wills(self, turn: Turn, limit: int | None = None) -> int:
        raise NotImplementedError

    def _catch_up(self, session: SessionState, turn: Turn) -> None:
        """Hand a session what it should have had by now of wills that are being handed out."""
        raise NotImplementedError

    def _subscribed(self, session: SessionState, granted: list[Granted], turn: Turn) -> None:
        raise NotImplementedError

    def _unsubscribed(self, session: SessionState, removed: list[Any], turn: Turn) -> None:
        raise NotImplementedError

    def _created(self, session: SessionState) -> None:
        """A session has begun."""

    def _forget(self, session: SessionState, turn: Turn) -> None:
        raise NotImplementedError

    def _contents(self, session: SessionState) -> SessionContents:
        """What a session holds, for a snapshot."""
        return contents_of(session)

    def _resume(self, session: SessionState, link: Link, turn: Turn) -> None:
        """Go on where the earlier connection ended."""
        outbound.resume(session, link, turn)

    def _refill(self, session: SessionState, link: Link, turn: Turn) -> None:
        """There may be room to send what waits."""
        queue = session.queue
        if link.held or (queue is not None and queue.items):
            outbound.pump(session, link, turn)

    # ------------------------------------------------------------ connections begin

    def _is_over(self, session: SessionState, turn: Turn) -> bool:
        return session.lane is not None and session.at <= turn.now

    def _is_full(self, turn: Turn) -> bool:
        maximum = self._settings.limits.maximum_sessions
        if maximum is None:
            return False
        while len(self._sessions) >= maximum:
            # what is due counts no longer, though its timer may be late
            timer = turn.deadlines.first_due(DeadlineKind.SESSION_EXPIRY, turn.now)
            if timer is None:
                return True
            assert isinstance(timer, SessionState)
            self._end(timer, EndReason.EXPIRED, turn)
        return False

    def _accept(self, event: ClientConnected, session: SessionState | None, turn: Turn) -> None:
        """In the order of NN-3.1: the old connection, Clean Start, CONNACK, then messages."""
        if session is not None and session.link is not None:
            session = self._take_over(session, session.link, event.clean_start, turn)
        if session is not None and event.clean_start:
            self._end(session, EndReason.CLEAN_START, turn)  # MQTT-3.1.2-4, MQTT-3.1.4-4
            session = None
        shared = self._settings
        settings = shared
        if event.policy is not None or event.limits is not None:
            settings = Settings(
                event.policy or shared.policy,
                event.limits or shared.limits,
                shared.options,
                shared.size_of,
                own_limits=event.limits is not None,
            )
        resumed = session is not None
        if session is None:  # MQTT-3.1.2-6
            client_id = event.client_id or event.assigned_client_id
            assert client_id is not None
            session = self._sessions[client_id] = SessionState(client_id, settings)
            self._created(session)
            turn.notices.append(SessionCreated(client_id))
        else:  # MQTT-3.1.2-5
            self._parked -= 1
            turn.deadlines.disarm(session)  # MQTT-4.1.0-1: no clock while there is a connection
            self._cancel_will(session, turn)  # MQTT-3.1.3-9
            session.settings = settings
            turn.notices.append(SessionResumed(session.client_id))
        session.principal = event.principal
        # MQTT-3.1.2-7; NN-4.7: the new CONNECT brings its own or none
        session.will = event.will
        session.expiry_interval = settings.policy.at_connect(
            event.protocol_version, event.clean_start, event.session_expiry_interval
        )
        recorder = turn.recorder
        if recorder is not None:
            if session.will is not None:
                recorder.will_set(session)
            recorder.connected(session, event.protocol_version)
        link = self._open(event, session, settings, turn)
        turn.actions.append(connack(event, resumed, session, self._settings.options))
        if resumed:
            self._settle_queue(session, turn)
            self._resume(session, link, turn)

    def _open(
        self, event: ClientConnected, session: SessionState, settings: Settings, turn: Turn
    ) -> Link:
        options = settings.options
        link = Link(event.connection, session, event.protocol_version)
        session.link = link
        self._links[event.connection] = link
        limit = settings.limits.maximum_send_window
        asked = event.receive_maximum
        # MQTT-4.9.0-1, NN-10.2; for 3.x a free choice [NN-10.6]
        link.window = limit if asked is None else min(asked, limit)
        link.maximum_packet_size = event.maximum_packet_size
        link.expiry_asked = event.session_expiry_interval or 0
        keep_alive = event.keep_alive
        if event.protocol_version == 5:
            if options.enforce_receive_maximum:
                link.receive_maximum = options.receive_maximum
            if options.server_keep_alive is not None:
                keep_alive = options.server_keep_alive  # MQTT-3.2.2-21, else MQTT-3.2.2-22
        elif settings.policy.retry_interval is not None:
            link.retry = RetryTimer(session.client_id, settings.policy.retry_interval)
        link.smooth()
        if keep_alive:  # NN-5.2: 0 is off
            interval = link.interval = keep_alive * 1.5  # MQTT-3.1.2-22
            link.due = turn.now + interval
            turn.deadlines.arm(link, link.due, interval)
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

    def _fail(self, link: Link, reason_code: ReasonCode, detail: str, turn: Turn) -> None:
        """The peer broke a rule: tell it why, close, and end abnormally [NN-4.3], [NN-5.3]."""
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
        """Close an open connection; MQTT 3.x has no packet that says why.

        Spec: MQTT 5.0 §3.14.4 [MQTT-3.14.4-2], §4.13.2 [MQTT-4.13.2-1].
        """
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
        """The connection is gone: the session ends, or its expiry and the will's delay run.

        Spec: MQTT 5.0 §3.1.2.5 [MQTT-3.1.2-8], §3.1.2.11.2 [MQTT-3.1.2-23], §4.1 [NN-1.1].
        """
        interval = session.expiry_interval
        if interval == 0:
            self._end(session, EndReason.CONNECTION_CLOSED, turn)
            return
        self._parked += 1
        expires_at = None
        if interval is not None:
            expires_at = turn.now + interval
            turn.deadlines.arm(session, expires_at, interval)
        if turn.recorder is not None:
            turn.recorder.touch(session)
        turn.notices.append(SessionParked(session.client_id, expires_at))
        will = session.will
        if not isinstance(will, Will):
            return
        delay = will.will_delay_interval
        if delay == 0:
            self._owe_will(session, turn)
            return
        pending = session.will = PendingWill(session.client_id, will)
        publish_at = turn.now + delay
        turn.deadlines.arm(pending, publish_at, delay)
        if turn.recorder is not None:
            turn.recorder.will_set(session)
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
        lifetime, _ = session.settings.expiry_of(will.message)
        turn.wills.append((session.client_id, will.message, lifetime))
        if turn.recorder is not None:
            turn.recorder.will_gone(session)

    def _cancel_will(self, session: SessionState, turn: Turn) -> None:
        will = session.will
        if will is None:
            return
        if isinstance(will, PendingWill):
            turn.deadlines.disarm(will)
        session.will = None
        if turn.recorder is not None:
            turn.recorder.will_gone(session)
        turn.notices.append(WillDiscarded(session.client_id, will.message))

    def _end(self, session: SessionState, reason: EndReason, turn: Turn) -> None:
        """End a session without a connection: its will is due, what it holds is dropped."""
        if self._fanouts:
            self._catch_up(session, turn)
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
        if turn.recorder is not None:
            turn.recorder.ended(session)
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
            return max(1, outbound.expire_queued(session, turn, limit, timer.at))
        elif isinstance(timer, InboundIds):
            session = self._sessions[timer.client_id]
            return inbound.forget_timed_out(session, turn, limit, timer.at)
        else:
            assert isinstance(timer, RetryTimer)
            session = self._sessions[timer.client_id]
            assert session.link is not None
            return max(1, outbound.retry(session, session.link, turn, limit, timer.at))
        return 1

    def _expire_session(self, session: SessionState, turn: Turn, limit: int | None) -> int:
        """One unit for the session and one for each message that goes with it [MQTT-4.1.0-2]."""
        used = 0
        if session.queue is not None:
            used = outbound.drop_everything(session, turn, limit)
            if limit is not None and used >= limit:
                return used
        self._end(session, EndReason.EXPIRED, turn)
        return used + 1

    def _settle(self, session: SessionState, turn: Turn) -> None:
        """Do what is due for one session, in the order of `DeadlineKind` (law 5)."""
        if self._fanouts:
            self._catch_up(session, turn)
        self._settle_queue(session, turn)
        self._settle_inbound(session, turn)
        link = session.link
        if link is not None:
            if link.due <= turn.now:
                self._keep_alive_over(link, turn)
            return
        will = session.will
        if isinstance(will, PendingWill) and will.at <= turn.now:
            self._owe_will(session, turn)
        if self._is_over(session, turn):
            self._end(session, EndReason.EXPIRED, turn)

    def _settle_inbound(self, session: SessionState, turn: Turn) -> None:
        ids = session.inbound
        if ids is not None and ids.lane is not None and ids.due <= turn.now:
            inbound.forget_timed_out(session, turn)

    def _settle_queue(self, session: SessionState, turn: Turn) -> None:
        queue = session.queue
        if queue is not None and queue.timer is not None and queue.timer.at <= turn.now:
            outbound.expire_queued(session, turn)

    # ------------------------------------------------------------ for tests

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
        derived = (link.held, link.direct, link.plain)
        link.smooth()
        assert derived == (link.held, link.direct, link.plain)
    if session.inbound is not None:
        assert session.inbound.ends_at
        assert session.inbound.routing.keys() <= session.inbound.ends_at.keys()
    if isinstance(session.will, PendingWill):
        assert link is None
        assert session.will.lane is not None
