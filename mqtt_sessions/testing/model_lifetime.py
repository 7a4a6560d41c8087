"""The reference model, part 2: how connections and sessions begin and end, and what time ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mqtt_sessions.actions import CloseConnection, SendConnack, SendDisconnect
from mqtt_sessions.events import ClientConnected, DisconnectReceived
from mqtt_sessions.messages import Will
from mqtt_sessions.notices import (
    ClientRefused,
    DropReason,
    EndReason,
    FilterRemoved,
    InboundQos2TimedOut,
    SessionCreated,
    SessionEnded,
    SessionParked,
    SessionResumed,
    SessionTakenOver,
    WillDiscarded,
    WillPublished,
    WillScheduled,
)
from mqtt_sessions.policy import ExpiryPolicy
from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode
from mqtt_sessions.testing.model_routing import Routing
from mqtt_sessions.testing.model_values import (
    AWAITING_PUBACK,
    AWAITING_PUBCOMP,
    Disagreement,
    Gone,
    ModelConnection,
    ModelSession,
    Owed,
    cite,
    valid_topic,
)

__all__ = ["Lifetime"]

NEVER = 0xFFFFFFFF
RETURN_CODES = {
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: ConnectReturnCode.IDENTIFIER_REJECTED,
    ReasonCode.QUOTA_EXCEEDED: ConnectReturnCode.SERVER_UNAVAILABLE,
    ReasonCode.NOT_AUTHORIZED: ConnectReturnCode.NOT_AUTHORIZED,
}


def interval_at_connect(policy: ExpiryPolicy, event: ClientConnected) -> float | None:
    """Session expiry interval in force after CONNECT [NN-1.2]; 0: at close, None: never."""
    asked: float | None = event.session_expiry_interval
    if event.protocol_version < 5:
        if event.clean_start:
            return 0  # 3.1.1 MQTT-3.1.2-6
        asked = policy.default_session_expiry_interval
    elif not asked:
        return 0  # absent is 0
    elif asked == NEVER:
        asked = None
    elif policy.minimum_session_expiry_interval is not None:
        asked = max(asked, policy.minimum_session_expiry_interval)
    return capped(policy, asked)


def capped(policy: ExpiryPolicy, interval: float | None) -> float | None:
    """An interval, but no longer than the policy allows."""
    cap = policy.maximum_session_expiry_interval
    if cap is None:
        return interval
    return cap if interval is None else min(interval, cap)


class Lifetime(Routing):
    """When sessions, connections, wills and messages begin and end."""

    # ------------------------------------------------------------ CONNECT

    def _connect(self, event: ClientConnected) -> None:
        known = self.connections.get(event.connection)
        if known is not None:
            # MQTT-3.1.0-2: CONNECT sent twice is a Protocol Error
            self._peer_error(known, (0x82,), known.cite("MQTT-3.1.0-2"))
            return
        client_id = event.client_id
        if client_id == "" and event.assigned_client_id is not None:
            client_id = event.assigned_client_id
        connection = ModelConnection(event.connection, event.protocol_version, client_id)
        self.connections[event.connection] = connection
        refusals = self._refusals(event, client_id)
        if refusals:
            self._refuse(event, connection, refusals)
            return
        old = self.sessions.get(client_id)
        if old is not None and old.connection is not None:
            self._take_over(old, event.clean_start, connection)
        elif old is not None and event.clean_start:
            self._end_session(old, EndReason.CLEAN_START)  # MQTT-3.1.2-4
        session = self.sessions.get(client_id)
        present = session is not None
        if session is None:
            session = ModelSession(client_id, event.principal, self.policy, self.limits)
            self.sessions[client_id] = session  # MQTT-3.1.2-6
            self._tell(SessionCreated(client_id))
        else:
            self._tell(SessionResumed(client_id))  # MQTT-3.1.2-5
            if session.will is not None:
                # MQTT-3.1.3-9, NN-4.7, NN-2.8: a resume cancels the pending will
                self._withhold(session.will.message, connection.cite("MQTT-3.1.3-9", "NN-2.8"))
                self._tell(WillDiscarded(client_id, session.will.message))
        self._begin(event, connection, session, present)

    def _begin(
        self,
        event: ClientConnected,
        connection: ModelConnection,
        session: ModelSession,
        present: bool,
    ) -> None:
        session.policy = event.policy or self.policy
        session.limits = event.limits or self.limits
        session.own_limits = event.limits is not None
        if session.principal is None:
            session.principal = event.principal
        session.interval = interval_at_connect(session.policy, event)
        session.expires_at = None  # NN-1.1: a reconnect stops the clock
        session.version = event.protocol_version
        session.will = event.will
        session.will_due_at = None
        if event.will is not None:
            self._withhold(event.will.message, connection.cite("MQTT-3.1.2-8"))
        session.connection = connection
        connection.session = session
        connection.asked = event.session_expiry_interval or 0
        # MQTT-4.9.0-1, NN-10.2: the quota starts anew with each connection
        receive_maximum = event.receive_maximum or 65_535
        connection.window = min(receive_maximum, session.limits.maximum_send_window)
        connection.maximum_packet_size = event.maximum_packet_size
        connection.keep_alive = event.keep_alive
        if event.protocol_version == 5 and self.options.server_keep_alive is not None:
            connection.keep_alive = self.options.server_keep_alive
        connection.heard_at = self.now
        in_force = session.interval
        self._owe(
            connection,
            Owed(
                SendConnack,
                cite(event.protocol_version, "MQTT-3.1.4-5", "MQTT-3.1.4-4"),
                codes=(0,),
                check=lambda action: self._check_connack(action, event, present, in_force),
            ),
        )
        if present:
            self._resume(connection, session)

    def _resume(self, connection: ModelConnection, session: ModelSession) -> None:
        """What was sent and is not settled goes out again [MQTT-4.4.0-1, NN-8.2]."""
        for exchange in list(session.in_flight):
            exchange.sent_on = None
            copy = exchange.copy
            if exchange.phase == AWAITING_PUBCOMP:
                connection.rerelease.append(exchange)
                continue
            expired = copy.expires_at is not None and copy.expires_at <= self.now
            if session.policy.expire_in_flight and expired and exchange.phase == AWAITING_PUBACK:
                session.in_flight.remove(exchange)
                either = (DropReason.EXPIRED, DropReason.TOO_LARGE)
                reasons = either if self._too_large(connection, copy) else either[:1]
                self._gone.append(Gone(session.client_id, copy, *reasons))
                continue
            connection.resend.append(exchange)
        connection.rerelease.sort(key=lambda exchange: exchange.released)  # MQTT-4.6.0-4

    def _refusals(self, event: ClientConnected, client_id: str) -> list[ReasonCode]:
        """All that speaks against a CONNECT; it touches nothing then [NN-3.4]."""
        version, limits = event.protocol_version, event.limits or self.limits
        found: list[ReasonCode] = []
        longest = limits.maximum_client_id_length
        too_long = longest is not None and len(client_id) > longest
        too_long = too_long or (version == 3 and len(client_id) > 23)
        nameless = event.client_id == "" and (
            version == 3 or (version == 4 and not event.clean_start)
        )
        if client_id == "" or too_long or nameless:  # 3.1.1 MQTT-3.1.3-8
            found.append(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)
        if event.receive_maximum == 0 or event.maximum_packet_size == 0:
            found.append(ReasonCode.PROTOCOL_ERROR)  # 3.1.2.11.3, NN-11.1
        if event.will is not None:
            found += self._will_refusals(version, event.will)
        session = self.sessions.get(client_id)
        if session is None:
            most = self.limits.maximum_sessions
            if most is not None and len(self.sessions) >= most:
                found.append(ReasonCode.QUOTA_EXCEEDED)
        elif session.principal is not None and session.principal != event.principal:
            found.append(ReasonCode.NOT_AUTHORIZED)
        return found

    def _will_refusals(self, version: int, will: Will) -> list[ReasonCode]:
        found: list[ReasonCode] = []
        if version == 5 and will.message.qos > self.options.maximum_qos:
            found.append(ReasonCode.QOS_NOT_SUPPORTED)  # MQTT-3.2.2-12
        if version == 5 and will.message.retain and not self.options.retain_available:
            found.append(ReasonCode.RETAIN_NOT_SUPPORTED)  # MQTT-3.2.2-13
        if not valid_topic(will.message.topic_name):
            found.append(ReasonCode.TOPIC_NAME_INVALID)
        return found

    def _refuse(
        self, event: ClientConnected, connection: ModelConnection, codes: list[ReasonCode]
    ) -> None:
        connection.open = False
        connection.closed_in = self.step
        connection.closed_at = self.instant
        if event.will is not None:
            self._withhold(event.will.message, connection.cite("NN-3.4", "MQTT-3.1.2-8"))
        self._tell(*(ClientRefused(event.connection, event.client_id, code) for code in codes))

        def check(action: Any) -> None:
            if action.session_present:
                raise Disagreement(connection.cite("MQTT-3.2.2-6", "MQTT-3.2.2-4"), repr(action))

        if event.protocol_version == 5:
            rule = "MQTT-3.2.2-7"
            told: tuple[int, ...] = tuple(codes)
        else:
            rule = "3.1.1 MQTT-3.2.2-5"
            told = tuple(RETURN_CODES[code] for code in codes if code in RETURN_CODES)
        silent = len(told) < len(codes)  # 3.1.1 MQTT-3.2.2-6: no code fits
        bad_id = set(codes) == {ReasonCode.CLIENT_IDENTIFIER_NOT_VALID}
        if not (self._notices_given or (event.protocol_version < 5 and bad_id)):
            # NN-5.3: CONNACK is optional, which code it has is only advised
            silent = True
            told = tuple(range(0x80, 0x100) if event.protocol_version == 5 else range(1, 6))
        if told:
            self._owe(connection, Owed(SendConnack, rule, None, told, check, silent))
        self._owe(connection, Owed(CloseConnection, rule, why=tuple(codes)))

    def _check_connack(
        self, action: SendConnack, event: ClientConnected, present: bool, interval: float | None
    ) -> None:
        version, options = event.protocol_version, self.options
        expected = present and version > 3  # MQTT 3.1 has no Session Present
        if action.session_present != expected:
            rule = "MQTT-3.2.2-2" if event.clean_start else "MQTT-3.2.2-3"
            without = "MQTT-3.2.2-1" if event.clean_start else "MQTT-3.2.2-3"
            old = "MQTT-3.2.2-2" if expected else without
            raise Disagreement(cite(version, rule, old), f"Session Present is {expected}: {action}")
        if version < 5:
            return
        asked = event.session_expiry_interval or 0
        told = asked if action.session_expiry_interval is None else action.session_expiry_interval
        in_force = NEVER if interval is None else min(interval, NEVER)
        session = self.connections[event.connection].session
        if told != in_force and session is not None and not self._notices_given:
            session.interval = None if told == NEVER else told  # a server may use another one
        elif told != in_force:
            raise Disagreement("NN-1.3", f"the interval in force is {in_force}: {action}")
        if action.server_keep_alive != options.server_keep_alive:
            raise Disagreement("host", f"not {options.server_keep_alive}: {action}")
        assigned = event.assigned_client_id if event.client_id == "" else None
        if action.assigned_client_identifier != assigned:
            raise Disagreement("MQTT-3.1.3-7", f"the assigned id is {assigned}: {action}")
        offers = (
            ("host", action.receive_maximum or 65_535, options.receive_maximum),
            (
                "MQTT-3.2.2-9",
                2 if action.maximum_qos is None else action.maximum_qos,
                options.maximum_qos,
            ),
            ("host", action.retain_available is not False, options.retain_available),
            ("host", action.maximum_packet_size, options.maximum_packet_size),
            ("host", action.topic_alias_maximum or 0, options.topic_alias_maximum),
        )
        for rule, given, offered in offers:
            if given != offered:
                raise Disagreement(rule, f"the server offers {offered}, not {given}: {action}")

    # ------------------------------------------------------------ the end of a connection

    def _take_over(
        self, session: ModelSession, clean_start: bool, successor: ModelConnection
    ) -> None:
        """NN-3.1: the old connection is told and closed, then its will is dealt with."""
        connection = session.connection
        assert connection is not None
        connection.open = False
        connection.closed_in = self.step
        connection.closed_at = self.instant
        connection.successor = successor
        # MQTT-3.1.4-3
        rule = connection.cite("MQTT-3.1.4-3", "MQTT-3.1.4-2")
        self._owe_close(connection, rule, (ReasonCode.SESSION_TAKEN_OVER,), is_told=True)
        self._tell(SessionTakenOver(session.client_id, connection.name))
        session.connection = None
        reasons = []
        if clean_start:
            reasons.append(EndReason.CLEAN_START)
        if session.interval == 0:
            reasons.append(EndReason.CONNECTION_CLOSED)  # NN-3.3: it is not inherited
        if reasons:
            self._end_session(session, *reasons)
        elif session.will is not None and session.will.will_delay_interval == 0:
            self._publish_will(session)  # NN-3.2

    def _peer_error(self, connection: ModelConnection, codes: tuple[int, ...], rule: str) -> None:
        """NN-5.3: the peer broke the protocol; its connection is closed, with a code in 5.0."""
        self._tell_peer_error(connection, codes)
        if not self._notices_given:
            codes = (*codes, 0x81, 0x82)  # the more specific one is only advised
        self._close(connection, rule, codes)

    def _close(
        self, connection: ModelConnection, rule: str, codes: tuple[int, ...] | None = None
    ) -> None:
        """The server closes a connection; nothing normal about it [NN-4.3]."""
        self._owe_close(connection, rule, codes)
        self._end_connection(connection)

    def _end_connection(self, connection: ModelConnection, *, normal: bool = False) -> None:
        connection.open = False
        connection.closed_in = self.step
        connection.closed_at = self.instant
        session = connection.session
        if session is None or session.connection is not connection:
            return
        session.connection = None
        if normal and session.will is not None:
            # MQTT-3.14.4-3, 3.1.1 MQTT-3.14.4-3: the will is deleted unpublished
            self._withhold(session.will.message, connection.cite("MQTT-3.14.4-3"))
            self._tell(WillDiscarded(session.client_id, session.will.message))
            session.will = None
        if session.interval == 0:
            self._end_session(session, EndReason.CONNECTION_CLOSED)  # NN-1.2
            return
        session.expires_at = None if session.interval is None else self.now + session.interval
        self._tell(SessionParked(session.client_id, session.expires_at))
        if session.will is None:
            return
        delay = session.will.will_delay_interval
        if delay == 0:
            self._publish_will(session)  # MQTT-3.1.2-8, 3.1.1 MQTT-3.1.2-8
            return
        session.will_due_at = self.now + delay
        at = session.will_due_at
        ends = at if session.expires_at is None else min(at, session.expires_at)
        self._tell(WillScheduled(session.client_id, at), WillScheduled(session.client_id, ends))

    def _disconnected(self, connection: ModelConnection, event: DisconnectReceived) -> None:
        session = connection.session
        assert session is not None
        if connection.protocol_version < 5:
            self._owe_close(connection, "NN-5.1")
            self._end_connection(connection, normal=True)
            return
        interval = event.session_expiry_interval
        if interval and connection.asked == 0:
            # NN-1.5: judged by what CONNECT carried; no normal end
            self._peer_error(connection, (0x82,), "NN-1.5")
            return
        if interval is not None:  # NN-1.4: absent is not 0
            session.interval = capped(session.policy, None if interval == NEVER else interval)
        if event.reason_code not in tuple(ReasonCode):
            told = (0x81, 0x82)
            self._owe(connection, Owed(SendDisconnect, "MQTT-3.14.2-1", codes=told, optional=True))
        self._owe_close(connection, "NN-5.1")
        # NN-4.4: only 0x00 suppresses the will
        self._end_connection(connection, normal=event.reason_code == 0)

    # ------------------------------------------------------------ the end of a session

    def _end_session(self, session: ModelSession, *reasons: EndReason) -> None:
        """MQTT-4.1.0-2: the state is thrown away; a will that waits is due [NN-4.8]."""
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
        session.ended = True
        session.ended_at = self.instant
        self._ended.append(session)
        client_id = session.client_id
        self._tell(*(SessionEnded(client_id, reason) for reason in reasons))
        for copy in session.queue:
            if copy.must_go is None:
                copy.must_go = DropReason.SESSION_ENDED
        for exchange in session.in_flight:
            if exchange.phase != AWAITING_PUBCOMP:
                self._gone.append(Gone(client_id, exchange.copy, DropReason.SESSION_ENDED))
        for topic_filter in session.subscriptions:
            if not self._anybody_has(topic_filter):
                self._tell(FilterRemoved(topic_filter))
        if session.will is not None:
            self._publish_will(session)

    def _publish_will(self, session: ModelSession) -> None:
        """MQTT-3.1.2-10: published once, and gone."""
        will = session.will
        assert will is not None
        session.will = None
        session.will_due_at = None
        self._tell(WillPublished(session.client_id, will.message))
        self._publish(will.message, session.client_id, session.policy, is_will=True)
        self._withhold(will.message, cite(session.version, "MQTT-3.1.2-10"))

    # ------------------------------------------------------------ time

    def _due(self, *, doubtful: bool = True) -> list[tuple[float, int, Callable[[], None]]]:
        """Everything that time ends: instant, place among those of one instant, what happens."""
        found: list[tuple[float, int, Callable[[], None]]] = []
        for session in self.sessions.values():
            found += self._due_in(session, doubtful)
        for topic_name, entry in self.retained.items():
            if entry.copy.expires_at is not None and (doubtful or not entry.doubtful):
                act = _bind(self._expire_retained, topic_name)
                found.append((entry.copy.expires_at, 1, act))
        return found

    def _due_in(
        self, session: ModelSession, doubtful: bool
    ) -> list[tuple[float, int, Callable[[], None]]]:
        found: list[tuple[float, int, Callable[[], None]]] = []
        for copy in session.queue:
            if copy.doubtful and not doubtful:
                continue
            if copy.expires_at is None or copy.must_go is not None:
                continue
            if not copy.fleeting or copy.expires_at < self.now:
                found.append((copy.expires_at, 0, _bind(_expire, copy)))
        for packet_id, at in session.inbound.items():
            if at is not None:
                found.append((at, 3, _bind(self._forget_inbound, session, packet_id)))
        connection = session.connection
        if connection is not None and connection.keep_alive > 0:
            silent_at = connection.heard_at + 1.5 * connection.keep_alive  # MQTT-3.1.2-22
            found.append((silent_at, 5, _bind(self._silent, connection)))
        if session.will_due_at is not None:
            found.append((session.will_due_at, 6, _bind(self._publish_will, session)))
        if session.expires_at is not None:
            act = _bind(self._end_session, session, EndReason.EXPIRED)
            found.append((session.expires_at, 7, act))
        return found

    def _retries(self) -> list[float]:
        """When packets are due to be sent again, where a policy asks for it [NN-8.1].

        Nothing ends by it, and a congested connection is spared the PUBLISHes.
        """
        found = []
        for session in self.sessions.values():
            connection, interval = session.connection, session.policy.retry_interval
            if connection is None or interval is None or connection.protocol_version == 5:
                continue
            for exchange in session.in_flight:
                at = max(exchange.sent_at, exchange.held_at) + interval
                if connection.congested and exchange.phase != AWAITING_PUBCOMP:
                    if at <= self.now:
                        exchange.held_at = self.now  # the next try is an interval later
                elif exchange not in connection.resend:
                    found.append(at)
        return found

    def _elapse(self, now: float) -> None:
        """All that is due at `now` ends, in order of instant, then of kind."""
        self.now = max(self.now, now)
        while True:
            self.instant = self.now
            due = [each for each in self._due() if each[0] <= self.now]
            if not due:
                return
            self.instant, _, act = min(due, key=lambda each: each[:2])
            act()

    def _silent(self, connection: ModelConnection) -> None:
        """MQTT-3.1.2-22: treated like a network failure."""
        code = ReasonCode.KEEP_ALIVE_TIMEOUT
        self._peer_error(connection, (code,), connection.cite("MQTT-3.1.2-22", "MQTT-3.1.2-24"))

    def _forget_inbound(self, session: ModelSession, packet_id: int) -> None:
        del session.inbound[packet_id]
        connection = session.connection
        if connection is not None and packet_id in connection.received:
            connection.received.remove(packet_id)
        self._tell(InboundQos2TimedOut(session.client_id, packet_id))


def _bind(act: Callable[..., None], *args: Any) -> Callable[[], None]:
    return lambda: act(*args)


def _expire(copy: Any) -> None:
    copy.must_go = DropReason.EXPIRED  # MQTT-3.3.2-5
