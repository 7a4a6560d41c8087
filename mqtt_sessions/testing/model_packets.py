"""The reference model, part 5: what clients send, and what the host does."""

from __future__ import annotations

from mqtt_sessions.actions import (
    SendPingresp,
    SendPuback,
    SendPubcomp,
    SendPubrec,
    SendPubrel,
)
from mqtt_sessions.events import (
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    QueuePurged,
    SessionExpirySet,
    SubscriptionsAdded,
)
from mqtt_sessions.messages import Message
from mqtt_sessions.notices import DropReason, EndReason, SessionParked, WillDiscarded
from mqtt_sessions.policy import UnauthorizedPolicy
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.testing.model_requests import Requests
from mqtt_sessions.testing.model_values import (
    AWAITING_PUBACK,
    AWAITING_PUBCOMP,
    AWAITING_PUBREC,
    Exchange,
    Gone,
    ModelConnection,
    ModelSession,
    Owed,
    Undecided,
    matches,
    valid_topic,
)

__all__ = ["Packets"]

SUCCESS, NOBODY, IN_USE, UNKNOWN = 0x00, 0x10, 0x91, 0x92


class Packets(Requests):
    """Answers to packets, and acts of the host."""

    # ------------------------------------------------------------ PUBLISH

    def _publish_received(self, connection: ModelConnection, event: PublishReceived) -> None:
        session = connection.session
        assert session is not None
        message, packet_id = event.message, event.packet_id or 0
        faults = self._publish_faults(connection, event)
        if faults:
            rule = connection.cite("MQTT-4.13.1-1", "MQTT-4.8.0-1")
            self._withhold(message, rule)
            self._peer_error(connection, tuple(faults), rule)
            return
        if message.qos == 0:
            self._take_in(connection, session, event)
            return
        held = packet_id in session.inbound
        if message.qos == 1 and held:
            self._publish_in_use(connection, session, event)
            return
        if self._over_receive_maximum(connection, message.qos, packet_id):
            # NN-10.4, NN-10.8
            self._withhold(message, "NN-10.4")
            self._peer_error(connection, (0x93,), "NN-10.4")
            return
        if held:
            # MQTT-4.3.3-10, 3.1.1 MQTT-4.3.3-2: answered again, not handed on again
            if packet_id not in connection.received:
                connection.received.append(packet_id)
            rule = connection.cite("MQTT-4.3.3-10", "MQTT-4.3.3-2")
            self._withhold(message, rule)
            self._owe(connection, Owed(SendPubrec, rule, packet_id, (SUCCESS, NOBODY)))
            return
        self._take_in(connection, session, event)

    def _publish_in_use(
        self, connection: ModelConnection, session: ModelSession, event: PublishReceived
    ) -> None:
        """NN-6.5: refused, as this library does; others may take it in, or close."""
        message, packet_id = event.message, event.packet_id or 0
        over = self._over_receive_maximum(connection, 1, packet_id)

        def refuse() -> None:
            self._withhold(message, "NN-6.5")
            self._refuse_in_use(connection, SendPuback, packet_id, 0)

        def close() -> None:
            self._withhold(message, "NN-6.5")
            self._peer_error(connection, (IN_USE, 0x93) if over else (IN_USE,), "NN-6.5")

        def answer(seen: SendPuback | None) -> None:
            refused = seen is not None and seen.reason_code == IN_USE
            if over or (refused and connection.protocol_version == 5):
                refuse()
            else:
                self._take_in(connection, session, event)

        if self._notices_given:
            refuse()
        else:
            self._undecided = Undecided(connection, answer, close)

    def _publish_faults(self, connection: ModelConnection, event: PublishReceived) -> list[int]:
        """Protocol Errors of a PUBLISH, whichever is found first."""
        message, found = event.message, []
        if message.qos not in (0, 1, 2):
            return [0x81, 0x82]  # MQTT-3.3.1-4
        if message.topic_name == "":
            found.append(0x82)  # 3.3.2.1: empty, and no alias
        elif not valid_topic(message.topic_name):
            found.append(0x90)  # MQTT-4.7.0-1, MQTT-4.7.3-1
        if message.qos > 0 and not event.packet_id:
            found.append(0x82)  # 2.2.1
        if event.subscription_ids:
            found.append(0x82)  # MQTT-3.3.4-6
        if connection.protocol_version < 5:
            return found  # what cannot be announced is no ground for closing
        if message.qos > self.options.maximum_qos:
            found.append(0x9B)  # MQTT-3.2.2-11
        if message.retain and not self.options.retain_available:
            found.append(0x9A)  # MQTT-3.2.2-14
        return found

    def _over_receive_maximum(self, connection: ModelConnection, qos: int, packet_id: int) -> bool:
        if connection.protocol_version < 5 or not self.options.enforce_receive_maximum:
            return False
        if qos == 2 and packet_id in connection.received:
            return False  # a repeat takes no second unit
        return len(connection.received) + 1 > self.options.receive_maximum

    def _take_in(
        self, connection: ModelConnection, session: ModelSession, event: PublishReceived
    ) -> None:
        """A new message: refused, or handed on and acknowledged [MQTT-3.3.4-1, NN-7.2]."""
        message = event.message
        codes: list[int] = [] if event.refusal is None else [event.refusal]
        most = session.limits.maximum_inbound_qos2
        if message.qos == 2 and most is not None and len(session.inbound) >= most:
            codes.append(ReasonCode.QUOTA_EXCEEDED)
        if event.refusal is None and self._refuses_retained(message):
            codes.append(ReasonCode.QUOTA_EXCEEDED)
        if codes or not self._may_refuse_retained(message):
            self._take_in_or_refuse(connection, session, event, codes)
            return
        full = [int(ReasonCode.QUOTA_EXCEEDED)]  # or not: it is open what has been discarded

        def answer(seen: SendPuback | SendPubrec | None) -> None:
            told = [] if seen is None or connection.protocol_version < 5 else [seen.reason_code]
            refused = full if told == full else []
            self._take_in_or_refuse(connection, session, event, refused)

        def close() -> None:
            self._take_in_or_refuse(connection, session, event, full)

        may_close = connection.protocol_version < 5
        self._undecided = Undecided(connection, answer, close if may_close else None)

    def _take_in_or_refuse(
        self,
        connection: ModelConnection,
        session: ModelSession,
        event: PublishReceived,
        codes: list[int],
    ) -> None:
        message, packet_id = event.message, event.packet_id or 0
        version = connection.protocol_version
        if codes:
            self._withhold(message, connection.cite("NN-7.2", "MQTT-3.3.5-2"))
        if codes and version == 5:
            # MQTT-4.3.3-9, NN-7.7: the identifier is not held
            if message.qos > 0:
                answer = SendPuback if message.qos == 1 else SendPubrec
                self._owe(connection, Owed(answer, "MQTT-3.3.4-1", packet_id, tuple(codes)))
            return
        if codes:
            acknowledged = self.options.unauthorized is UnauthorizedPolicy.ACKNOWLEDGE
            if codes != [ReasonCode.NOT_AUTHORIZED] or not acknowledged:
                if message.qos > 0 or codes == [ReasonCode.NOT_AUTHORIZED]:
                    unauthorized = ReasonCode.NOT_AUTHORIZED in codes
                    rule = "3.1.1 MQTT-3.3.5-2" if unauthorized else "3.1.1 MQTT-4.8.0-2"
                    self._peer_error(connection, tuple(codes), rule)
                return
        matched = bool(codes) or self._hand_on(session, event)
        if message.qos == 0:
            return
        allowed = (SUCCESS,) if matched else (SUCCESS, NOBODY)  # NN-7.8
        if message.qos == 1:
            rule = connection.cite("MQTT-4.3.2-4", "MQTT-4.3.2-2")
            self._owe(connection, Owed(SendPuback, rule, packet_id, allowed))
            return
        interval = session.policy.inbound_qos2_interval
        session.inbound[packet_id] = None if interval is None else self.now + interval
        connection.received.append(packet_id)
        rule = connection.cite("MQTT-4.3.3-8", "MQTT-4.3.3-2")
        self._owe(connection, Owed(SendPubrec, rule, packet_id, allowed))

    def _hand_on(self, session: ModelSession, event: PublishReceived) -> bool:
        """Whether somebody subscribes to it."""
        return self._publish(event.message, session.client_id, session.policy)

    def _pubrel_received(self, connection: ModelConnection, event: PubrelReceived) -> None:
        session = connection.session
        assert session is not None
        packet_id = event.packet_id
        known = packet_id in session.inbound
        session.inbound.pop(packet_id, None)
        if packet_id in connection.received:
            connection.received.remove(packet_id)
        # MQTT-4.3.3-11, NN-7.4
        rule = connection.cite("MQTT-4.3.3-11" if known else "NN-7.4", "MQTT-4.3.3-2")
        code = SUCCESS if known else UNKNOWN
        self._owe(connection, Owed(SendPubcomp, rule, packet_id, (code,)))

    # ------------------------------------------------------------ acknowledgements

    def _puback_received(self, connection: ModelConnection, event: PubackReceived) -> None:
        session = connection.session
        assert session is not None
        exchange = session.exchange(event.packet_id)
        if exchange is None:
            return  # NN-7.6: late, or repeated
        if exchange.phase != AWAITING_PUBACK:
            self._wrong_acknowledgement(connection)
            return
        self._settle_exchange(connection, session, exchange, event.reason_code)

    def _pubrec_received(self, connection: ModelConnection, event: PubrecReceived) -> None:
        session = connection.session
        assert session is not None
        packet_id, code = event.packet_id, event.reason_code
        exchange = session.exchange(packet_id)
        if exchange is None:
            if code < 0x80:  # NN-7.5
                self._owe(connection, Owed(SendPubrel, "NN-7.5", packet_id, (UNKNOWN,)))
            return
        if exchange.phase == AWAITING_PUBACK:
            self._wrong_acknowledgement(connection)
            return
        if code >= 0x80:  # MQTT-4.4.0-2, NN-7.7
            self._settle_exchange(connection, session, exchange, code)
            return
        if exchange.phase == AWAITING_PUBREC:
            exchange.phase = AWAITING_PUBCOMP
            self.serial += 1
            exchange.released = self.serial
            session.remember(exchange.copy.message, "released")
            if exchange in connection.resend:
                connection.resend.remove(exchange)
        exchange.sent_at = self.now
        # MQTT-4.3.3-4; NN-7.6: again for a repeat
        rule = connection.cite("MQTT-4.3.3-4", "MQTT-4.3.3-1")
        self._owe(connection, Owed(SendPubrel, rule, packet_id, (SUCCESS,)))

    def _wrong_acknowledgement(self, connection: ModelConnection) -> None:
        """NN-7.6: this library closes the connection; others may ignore it."""

        def close() -> None:
            self._peer_error(connection, (0x82,), "NN-7.6")

        if self._notices_given:
            close()
        else:
            self._undecided = Undecided(connection, lambda seen: None, close)

    def _pubcomp_received(self, connection: ModelConnection, event: PubcompReceived) -> None:
        session = connection.session
        assert session is not None
        exchange = session.exchange(event.packet_id)
        if exchange is None:
            return
        if exchange.phase != AWAITING_PUBCOMP:
            self._wrong_acknowledgement(connection)
            return
        self._settle_exchange(connection, session, exchange, SUCCESS)  # NN-7.9

    def _settle_exchange(
        self, connection: ModelConnection, session: ModelSession, exchange: Exchange, code: int
    ) -> None:
        """The exchange ends: its identifier and its unit are free [NN-6.2, NN-10.1]."""
        session.in_flight.remove(exchange)
        for waiting in (connection.resend, connection.rerelease):
            if exchange in waiting:
                waiting.remove(exchange)
        session.remember(exchange.copy.message, "settled")
        if code >= 0x80 and exchange.phase != AWAITING_PUBCOMP:
            reason = DropReason.REFUSED_BY_CLIENT
            self._gone.append(Gone(session.client_id, exchange.copy, reason))

    # ------------------------------------------------------------ PINGREQ

    def _ping_received(self, connection: ModelConnection, event: PingReceived) -> None:
        if event.answer:
            self._owe(connection, Owed(SendPingresp, connection.cite("MQTT-3.12.4-1")))

    # ------------------------------------------------------------ the host

    def _subscriptions_added(self, event: SubscriptionsAdded) -> None:
        session = self.sessions[event.client_id]
        for kept in event.subscriptions:
            replay = self._grant(session, kept)
            session.replays += [] if replay is None else [replay]

    def _expiry_set(self, event: SessionExpirySet) -> None:
        session, interval = self.sessions[event.client_id], event.session_expiry_interval
        session.interval = interval
        if session.connection is not None:
            return
        if interval == 0:
            self._end_session(session, EndReason.EXPIRED, EndReason.CONNECTION_CLOSED)
            return
        session.expires_at = None if interval is None else self.now + interval
        self._tell(SessionParked(session.client_id, session.expires_at), required=False)

    def _discard(self, client_id: str) -> None:
        session = self.sessions[client_id]
        connection = session.connection
        if connection is not None:
            connection.open = False
            connection.closed_in = self.step
            connection.closed_at = self.instant
            session.connection = None
            self._owe_close(connection, "host", (ReasonCode.ADMINISTRATIVE_ACTION,))
        self._end_session(session, EndReason.DISCARDED)

    def _revoke_will(self, client_id: str) -> None:
        session = self.sessions[client_id]
        if session.will is not None:
            self._withhold(session.will.message, "host")
            self._tell(WillDiscarded(client_id, session.will.message))
        session.will = None
        session.will_due_at = None

    def _purge(self, event: QueuePurged) -> None:
        for copy in self.sessions[event.client_id].queue:
            if event.received_before is not None and copy.received_at >= event.received_before:
                continue
            topic_filter, topic_name = event.topic_filter, copy.message.topic_name
            if topic_filter is None or matches(topic_filter, topic_name):  # MQTT-4.7.2-1 too
                copy.must_go = copy.must_go or DropReason.PURGED

    def _host_published(self, message: Message, publisher: str | None) -> None:
        self._publish(message, publisher, self.policy)
