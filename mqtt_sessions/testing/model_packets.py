"""The reference model, part 3: what clients send, and what the host does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any

from mqtt_sessions.actions import (
    SendPingresp,
    SendPuback,
    SendPubcomp,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
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
    SubscribeReceived,
    SubscriptionsAdded,
    UnsubscribeReceived,
)
from mqtt_sessions.messages import Message
from mqtt_sessions.notices import DropReason, EndReason, SessionParked, WillDiscarded
from mqtt_sessions.policy import UnauthorizedPolicy
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing.model_lifetime import Lifetime
from mqtt_sessions.testing.model_values import (
    AWAITING_PUBACK,
    AWAITING_PUBCOMP,
    AWAITING_PUBREC,
    Disagreement,
    Exchange,
    Gone,
    ModelConnection,
    ModelSession,
    Owed,
    Undecided,
    matches,
    valid_filter,
    valid_topic,
)

__all__ = ["Packets"]

SUCCESS, NOBODY, IN_USE, UNKNOWN = 0x00, 0x10, 0x91, 0x92


class Packets(Lifetime):
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
            self._withhold(message, "NN-6.5")
            self._refuse_in_use(connection, SendPuback, packet_id, 0)  # NN-6.5
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
        message, packet_id = event.message, event.packet_id or 0
        version = connection.protocol_version
        codes: list[int] = [] if event.refusal is None else [event.refusal]
        most = session.limits.maximum_inbound_qos2
        if message.qos == 2 and most is not None and len(session.inbound) >= most:
            codes.append(ReasonCode.QUOTA_EXCEEDED)
        if event.refusal is None and self._refuse_retained(message):
            codes.append(ReasonCode.QUOTA_EXCEEDED)
        hand_on = not codes
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
        matched = True
        if hand_on:
            published = message
            matched = self._publish(published, session.client_id, session.policy)
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

    def _refuse_in_use(
        self, connection: ModelConnection, answer: type, packet_id: int, entries: int
    ) -> None:
        """NN-6.5: an identifier serves one command at a time; the exchange goes on."""
        if connection.protocol_version < 5:
            self._peer_error(connection, (IN_USE,), "NN-6.5")
        elif entries == 0:
            self._owe(connection, Owed(answer, "NN-6.5", packet_id, (IN_USE,)))
        else:
            check = _codes([(IN_USE,)] * entries, "NN-6.5")
            self._owe(connection, Owed(answer, "NN-6.5", packet_id, None, check))

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
            self._undecided = Undecided(connection, lambda: None, close)

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

    # ------------------------------------------------------------ SUBSCRIBE

    def _request_faults(
        self, connection: ModelConnection, packet_id: int, filters: list[str]
    ) -> list[int]:
        session = connection.session
        assert session is not None
        found = []
        if packet_id == 0 or not filters:
            found.append(0x82)  # 2.2.1, MQTT-3.8.3-2, MQTT-3.10.3-2
        most = session.limits.maximum_filters_per_packet
        if most is not None and len(filters) > most:
            found.append(0x97)
        return found

    def _answer_too_large(self, connection: ModelConnection, entries: int) -> bool:
        """MQTT-3.1.2-24: identifier, property length, and one byte for each code."""
        most = connection.maximum_packet_size
        body = 2 + 1 + entries
        length = 1 if body < 128 else 2 if body < 16_384 else 3
        return most is not None and 1 + length + body > most

    def _subscribe_received(self, connection: ModelConnection, event: SubscribeReceived) -> None:
        session = connection.session
        assert session is not None
        version, count = connection.protocol_version, len(event.subscriptions)
        faults = self._request_faults(
            connection, event.packet_id, [each.topic_filter for each in event.subscriptions]
        )
        for each in event.subscriptions:
            shared = each.topic_filter.startswith("$share/")
            number = each.subscription_id
            impossible = each.qos not in (0, 1, 2) or (
                version == 5
                and (
                    each.retain_handling not in (0, 1, 2)
                    or (number is not None and not 1 <= number <= 268_435_455)
                    or (shared and each.no_local)  # MQTT-3.8.3-4
                )
            )
            if impossible:
                faults += [0x82, 0x81]
            if shared and version == 5:
                faults.append(0x9E)
        if self._answer_too_large(connection, count):
            faults.append(0x95)
        if faults:
            self._peer_error(
                connection, tuple(faults), connection.cite("MQTT-4.13.1-1", "MQTT-4.8.0-1")
            )
            return
        if event.packet_id in session.inbound:
            self._refuse_in_use(connection, SendSuback, event.packet_id, count)
            return
        filters = [each.topic_filter for each in event.subscriptions]
        self._answer_or_close(
            connection,
            {each.topic_filter: each for each in reversed(event.subscriptions)},
            filters,
            lambda: self._grant_all(connection, session, event),
        )

    def _answer_or_close(
        self,
        connection: ModelConnection,
        changes: Mapping[str, Subscription | None],
        filters: list[str],
        answer: Callable[[], None],
    ) -> None:
        """NN-5.3: an ill-formed filter is refused by its entry, as this library does, or ends all.

        Who gives no notices may do either; what it does first shows which it is. What stands before
        the ill-formed filter may have been done [MQTT-3.8.4-5, MQTT-3.10.4-6].
        """
        if self._notices_given or all(valid_filter(each) for each in filters):
            answer()
            return
        rule = connection.cite("MQTT-4.13.1-1", "MQTT-4.8.0-1")

        def close() -> None:
            assert connection.session is not None
            for topic_filter in takewhile(valid_filter, filters):
                connection.session.perhaps[topic_filter] = changes[topic_filter]
            self._peer_error(connection, (0x82, 0x81), rule)

        self._undecided = Undecided(connection, answer, close)

    def _grant_all(
        self, connection: ModelConnection, session: ModelSession, event: SubscribeReceived
    ) -> None:
        """MQTT-3.8.4-5: entry by entry, as if each were a packet; one SUBACK [MQTT-3.8.4-6]."""
        version = connection.protocol_version
        allowed: list[tuple[int, ...]] = []
        perhaps: list[str] = []
        called: dict[str, bool] = {}  # filter: whether its last entry calls up what is retained
        for number, wanted in enumerate(event.subscriptions):
            refusal = event.refusals[number] if event.refusals else None
            codes = self._entry_refusals(session, wanted.topic_filter, refusal)
            if codes:
                # MQTT-3.8.4-7: the entry leaves and alters nothing
                allowed.append({5: tuple(codes), 4: (0x80,), 3: (0x00,)}[version])
                continue
            granted = min(wanted.qos, session.limits.maximum_granted_qos)
            # The options of a 3.x client are those that its host's decoder made up: none
            kept = Subscription(
                wanted.topic_filter,
                granted,
                wanted.no_local,
                wanted.retain_as_published,
                wanted.retain_handling,
                wanted.subscription_id,
            )
            allowed.append((granted,))
            unclear = kept.topic_filter in session.perhaps
            new = self._subscribe(session, kept)
            calls = kept.retain_handling == 0 or (kept.retain_handling == 1 and (new or unclear))
            if unclear and kept.retain_handling == 1:
                perhaps.append(kept.topic_filter)
            called[kept.topic_filter] = calls or called.get(kept.topic_filter, False)
        rule = connection.cite("MQTT-3.8.4-1")
        self._owe(connection, Owed(SendSuback, rule, event.packet_id, None, _codes(allowed, rule)))
        for topic_filter, calls in called.items():
            if calls:
                self._replay(session, session.subscriptions[topic_filter])
                session.replays[-1].optional = topic_filter in perhaps

    def _entry_refusals(
        self, session: ModelSession, topic_filter: str, refusal: ReasonCode | None
    ) -> list[int]:
        limits = session.limits
        found: list[int] = [] if refusal is None else [refusal]
        levels, most = limits.maximum_filter_levels, limits.maximum_subscriptions
        too_deep = levels is not None and len(topic_filter.split("/")) > levels
        if not valid_filter(topic_filter) or too_deep:
            found.append(ReasonCode.TOPIC_FILTER_INVALID)
        if topic_filter.startswith("$share/"):
            found.append(ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED)
        new = topic_filter not in session.subscriptions
        if new and most is not None and len(session.subscriptions) >= most:
            found.append(ReasonCode.QUOTA_EXCEEDED)
        return found

    def _unsubscribe_received(
        self, connection: ModelConnection, event: UnsubscribeReceived
    ) -> None:
        session = connection.session
        assert session is not None
        count = len(event.topic_filters)
        faults = self._request_faults(connection, event.packet_id, list(event.topic_filters))
        if self._answer_too_large(connection, count) and connection.protocol_version == 5:
            faults.append(0x95)
        if faults:
            self._peer_error(
                connection, tuple(faults), connection.cite("MQTT-4.13.1-1", "MQTT-4.8.0-1")
            )
            return
        if event.packet_id in session.inbound:
            self._refuse_in_use(connection, SendUnsuback, event.packet_id, count)
            return
        self._answer_or_close(
            connection,
            dict.fromkeys(event.topic_filters),
            list(event.topic_filters),
            lambda: self._remove_all(connection, session, event),
        )

    def _remove_all(
        self, connection: ModelConnection, session: ModelSession, event: UnsubscribeReceived
    ) -> None:
        """Entry by entry [MQTT-3.10.4-6]; one UNSUBACK [MQTT-3.10.4-4]."""
        allowed: list[tuple[int, ...]] = []
        for number, topic_filter in enumerate(event.topic_filters):
            refusal = event.refusals[number] if event.refusals else None
            unclear = topic_filter in session.perhaps
            if refusal is not None:
                allowed.append((refusal,))
            elif unclear:
                self._unsubscribe(session, topic_filter)
                allowed.append((SUCCESS, ReasonCode.NO_SUBSCRIPTION_EXISTED))
            elif self._unsubscribe(session, topic_filter):
                allowed.append((SUCCESS,))
            elif not (self._notices_given or valid_filter(topic_filter)):
                allowed.append(
                    (ReasonCode.NO_SUBSCRIPTION_EXISTED, ReasonCode.TOPIC_FILTER_INVALID)
                )
            else:
                allowed.append((ReasonCode.NO_SUBSCRIPTION_EXISTED,))
        rule = connection.cite("MQTT-3.10.4-4")
        check = _codes(allowed, rule) if connection.protocol_version == 5 else None
        self._owe(connection, Owed(SendUnsuback, rule, event.packet_id, None, check))

    # ------------------------------------------------------------ PINGREQ

    def _ping_received(self, connection: ModelConnection, event: PingReceived) -> None:
        if event.answer:
            self._owe(connection, Owed(SendPingresp, connection.cite("MQTT-3.12.4-1")))

    # ------------------------------------------------------------ the host

    def _subscriptions_added(self, event: SubscriptionsAdded) -> None:
        session = self.sessions[event.client_id]
        for kept in event.subscriptions:
            new = self._subscribe(session, kept)
            if kept.retain_handling == 0 or (kept.retain_handling == 1 and new):
                self._replay(session, kept)

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


def _codes(allowed: list[tuple[int, ...]], rule: str) -> Callable[[Any], None]:
    """Checks that each entry has a code that is right for it, in order [MQTT-3.9.3-1]."""

    def check(action: SendSuback | SendUnsuback) -> None:
        given = action.reason_codes
        if len(given) != len(allowed):
            if rule.endswith("MQTT-3.8.4-1"):
                rule_of_count = rule.replace("4-1", "4-5" if rule.startswith("3.1.1") else "4-6")
                raise Disagreement(rule_of_count, f"{len(allowed)} codes: {action}")
            raise Disagreement(rule, f"{len(allowed)} codes: {action}")
        for number, (code, right) in enumerate(zip(given, allowed, strict=True)):
            if code not in right:
                words = " or ".join(f"0x{each:02X}" for each in right)
                raise Disagreement(rule, f"code {number} is {words}: {action}")

    return check
