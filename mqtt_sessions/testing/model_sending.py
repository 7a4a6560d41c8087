"""The reference model, part 9: every packet that the subject sends is held against the rules."""

from __future__ import annotations

from typing import Any

from mqtt_sessions.actions import (
    Action,
    CloseConnection,
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
)
from mqtt_sessions.notices import DropReason
from mqtt_sessions.testing.model_copies import Copies
from mqtt_sessions.testing.model_replays import (
    Complaint,
    is_message,
    note_newest,
    settle_rivals,
)
from mqtt_sessions.testing.model_values import (
    AWAITING_PUBACK,
    AWAITING_PUBCOMP,
    AWAITING_PUBREC,
    Copy,
    Disagreement,
    Exchange,
    Gone,
    ModelConnection,
    ModelSession,
    Owed,
    Replay,
    is_order_open,
    matches,
)

__all__ = ["Sending"]

# What a packet breaks that nothing asked for.
UNASKED = {
    SendConnack: ("MQTT-3.2.0-2", "MQTT-3.2.0-1"),
    SendPuback: ("MQTT-2.2.1-5", "MQTT-2.3.1-6"),
    SendPubrec: ("MQTT-2.2.1-5", "MQTT-2.3.1-6"),
    SendPubcomp: ("MQTT-2.2.1-5", "MQTT-2.3.1-6"),
    SendSuback: ("MQTT-2.2.1-6", "MQTT-2.3.1-7"),
    SendUnsuback: ("MQTT-2.2.1-6", "MQTT-2.3.1-7"),
    SendPingresp: ("MQTT-3.12.4-1",),
    SendDisconnect: ("MQTT-4.13.1-1", "MQTT-4.8.0-1"),
    CloseConnection: ("host",),
}
SENT_MAYBE_TWICE = "sent, and may come once more"
ACKNOWLEDGEMENTS = (SendPuback, SendPubrec, SendPubrel, SendPubcomp, SendUnsuback)


class Sending(Copies):
    """What may be sent, and when."""

    def _observe_action(self, action: Action) -> None:
        if isinstance(action, RouteMessage):
            raise Disagreement("host", f"a store routes itself: {action}")
        if self._undecided is not None:
            self._undecided.actions.append(action)
            if action.connection == self._undecided.connection.name:
                if isinstance(action, SendDisconnect | CloseConnection):
                    self._decide(None, closed=self._undecided.close is not None)
                elif isinstance(action, SendSuback | SendUnsuback | SendPuback | SendPubrec):
                    self._decide(action)
            return
        connection = self.connections.get(action.connection)
        if connection is None or connection.gone:
            raise Disagreement("NN-3.5", f"the connection is closed: {action}")
        if connection.farewell and not isinstance(action, CloseConnection):
            rule = connection.cite("MQTT-3.14.4-1")
            raise Disagreement(rule, f"nothing follows DISCONNECT: {action}")
        if not connection.connack and not isinstance(action, (SendConnack, CloseConnection)):
            raise Disagreement(connection.cite("MQTT-3.2.0-1"), f"CONNACK is first: {action}")
        if connection.session is None and isinstance(action, SendPublish | SendPubrel):
            rule = connection.cite("MQTT-3.2.2-7", "MQTT-3.2.2-5")
            raise Disagreement(rule, f"the CONNECT was refused: {action}")
        if isinstance(action, SendPublish):
            self._saw_publish(connection, action)
        elif isinstance(action, SendPubrel):
            self._saw_pubrel(connection, action)
        else:
            self._saw_answer(connection, action)
            if isinstance(action, SendConnack):
                connection.connack = True
            connection.farewell = connection.farewell or isinstance(action, SendDisconnect)
            connection.gone = connection.gone or isinstance(action, CloseConnection)

    def _decide(self, answer: Action | None, *, closed: bool = False) -> None:
        """It is clear what became of a request, and what was seen meanwhile can be judged."""
        undecided = self._undecided
        assert undecided is not None
        self._undecided = None
        if undecided.connection.open and closed and undecided.close is not None:
            undecided.close()
        elif undecided.connection.open:
            undecided.answer(answer)
        for action in undecided.actions:
            self._observe_action(action)

    # ------------------------------------------------------------ answers

    def _saw_answer(self, connection: ModelConnection, action: Any) -> None:
        owed = self._owed(connection, action)
        heir = connection.successor
        if heir is not None and heir.connack and self.is_order_seen and owed is not None:
            raise Disagreement("NN-3.1", f"CONNACK went to {heir.name!r} before: {action}")
        late = isinstance(action, CloseConnection) and not connection.open
        if owed is None and late and not self._notices_given:
            return  # NN-5.1: after DISCONNECT, some time
        if owed is None:
            ends = [each.rule for each in connection.owed if each.action is CloseConnection]
            rule = ends[0] if ends else connection.cite(*UNASKED[type(action)])
            if isinstance(action, CloseConnection) and not ends:
                rule = "host"  # a server may close at any time
            if connection.session is None and isinstance(action, SendDisconnect):
                rule = connection.cite("MQTT-3.14.0-1")
            raise Disagreement(rule, f"nothing asks for it: {action}")
        if isinstance(action, CloseConnection):
            for other in connection.owed:
                if other.action is SendDisconnect and not other.optional:
                    raise Disagreement(other.rule, f"DISCONNECT says why before: {action}")
        if owed.packet_id is not None and action.packet_id != owed.packet_id:
            rule = connection.cite(*UNASKED.get(type(action), (owed.rule,)))
            if any(each.packet_id == action.packet_id for each in connection.owed):
                # MQTT-4.6.0-2, MQTT-4.6.0-3: in the order of what they answer
                old = "MQTT-4.6.0-2" if owed.action is SendPuback else "MQTT-4.6.0-3"
                rule = connection.cite("NN-15.3", old)
            raise Disagreement(rule, f"the identifier is {owed.packet_id}: {action}")
        silent = connection.protocol_version < 5 and isinstance(action, ACKNOWLEDGEMENTS)
        if owed.codes is not None and not silent and action.reason_code not in owed.codes:
            words = " or ".join(f"0x{code:02X}" for code in owed.codes)
            raise Disagreement(owed.rule, f"the code is {words}: {action}")
        if owed.why is not None and self._notices_given and action.reason_code not in owed.why:
            raise Disagreement("host", f"it is closed for another reason, {owed.why}: {action}")
        if owed.check is not None:
            owed.check(action)
        connection.owed.remove(owed)

    def _owed(self, connection: ModelConnection, action: Any) -> Owed | None:
        for owed in connection.owed:
            if owed.action is type(action):
                return owed
        return None

    # ------------------------------------------------------------ PUBREL

    def _saw_pubrel(self, connection: ModelConnection, action: SendPubrel) -> None:
        session = connection.session
        assert session is not None
        if any(
            each.action is SendPubrel and each.packet_id == action.packet_id
            for each in connection.owed
        ):
            connection.owed.sort(key=lambda each: each.packet_id != action.packet_id)
            self._saw_answer(connection, action)
            return
        exchange = session.exchange(action.packet_id)
        if exchange is None:
            rule = connection.cite("MQTT-2.2.1-5", "MQTT-2.3.1-6")
            raise Disagreement(rule, f"no exchange has this identifier: {action}")
        if exchange.phase == AWAITING_PUBREC and self._too_large(connection, exchange.copy):
            # NN-8.7: closed with PUBREL, for the receiver may remember the identifier
            self._give_up_too_large(connection, session, exchange)
            return
        if exchange.phase != AWAITING_PUBCOMP:
            rule = connection.cite("MQTT-4.3.3-4", "MQTT-4.3.3-1")
            raise Disagreement(rule, f"no PUBREC came for it: {action}")
        if connection.protocol_version == 5 and action.reason_code != 0:
            raise Disagreement("MQTT-3.6.2-1", f"the code is 0x00: {action}")
        if exchange in connection.rerelease:
            if connection.rerelease[0] is not exchange and self._is_order_bound(connection):
                first = connection.rerelease[0].packet_id
                rule = connection.cite("NN-8.4b", "MQTT-4.6.0-4")
                raise Disagreement(rule, f"{first} is first: {action}")
            connection.rerelease.remove(exchange)
        elif not self._may_retry(connection, exchange):
            raise Disagreement(self._sent_already(connection), f"was sent already: {action}")
        exchange.sent_at = self.now

    def _may_retry(self, connection: ModelConnection, exchange: Exchange) -> bool:
        """NN-8.1: MQTT 3.x allows other occasions than the resume; here a policy asks for them."""
        assert connection.session is not None
        if connection.protocol_version == 5:
            return False
        interval = connection.session.policy.retry_interval
        if interval is None:
            return not self._notices_given  # whose policy is not known may send again at any time
        return exchange.sent_at + interval <= self.now

    def _sent_already(self, connection: ModelConnection) -> str:
        """The rule against sending again: 5.0 forbids it, in 3.x the policy does [NN-8.1]."""
        return "MQTT-4.4.0-1" if connection.protocol_version == 5 else "host"

    # ------------------------------------------------------------ PUBLISH

    def _saw_publish(self, connection: ModelConnection, action: SendPublish) -> None:
        session = connection.session
        assert session is not None
        if action.delivery.qos == 0:
            if action.packet_id is not None:
                rule = connection.cite("MQTT-2.2.1-2", "MQTT-2.3.1-5")
                raise Disagreement(rule, f"QoS 0 has no identifier: {action}")
            if action.dup:
                raise Disagreement(connection.cite("MQTT-3.3.1-2"), f"QoS 0 has DUP 0: {action}")
        elif action.packet_id is None or not 1 <= action.packet_id <= 65_535:
            rule = connection.cite("MQTT-2.2.1-4", "MQTT-2.3.1-1")
            raise Disagreement(rule, f"the identifier is 1 to 65,535: {action}")
        if connection.congested:
            raise Disagreement("host", f"the connection is congested: {action}")
        exchange = session.exchange(action.packet_id) if action.packet_id else None
        if action.dup:
            self._saw_resent(connection, session, exchange, action)
        else:
            if exchange is not None and exchange.doubtful:
                self._give_up(connection, session, exchange)
            elif exchange is not None:
                raise Disagreement(*self._why_in_use(connection, exchange, action))
            self._saw_first(connection, session, action)

    def _why_in_use(
        self, connection: ModelConnection, exchange: Exchange, action: SendPublish
    ) -> Complaint:
        same = is_message(action, exchange.copy)
        if same and exchange.phase == AWAITING_PUBCOMP:
            return connection.cite("MQTT-4.3.3-6", "MQTT-4.3.3-1"), f"PUBREL was sent: {action}"
        if same:
            return connection.cite("MQTT-3.3.1-1"), f"a re-sent packet has DUP 1: {action}"
        rule = connection.cite("MQTT-2.2.1-4", "MQTT-2.3.1-4")
        return rule, f"the identifier is in use for {exchange.copy.message}: {action}"

    def room(self, connection: ModelConnection) -> int:
        """What is left of the send quota [MQTT-4.9.0-2, NN-10.8]."""
        session = connection.session
        assert session is not None
        used = [each for each in session.in_flight if each.sent_on is connection]
        return connection.window - len(used)

    def _take_unit(self, connection: ModelConnection, action: SendPublish) -> None:
        if self.room(connection) <= 0:
            rule = "MQTT-4.9.0-2" if connection.protocol_version == 5 else "host"
            raise Disagreement(rule, f"the quota of {connection.window} is used up: {action}")

    # ------------------------------------------------------------ sent again

    def _saw_resent(
        self,
        connection: ModelConnection,
        session: ModelSession,
        exchange: Exchange | None,
        action: SendPublish,
    ) -> None:
        rule = connection.cite("MQTT-4.4.0-1")
        if exchange is None:
            if any(is_message(action, copy) for copy in session.queue):
                place = f"MQTT-4.3.{action.delivery.qos + 1}"
                first = connection.cite(f"{place}-2", f"{place}-1")
                raise Disagreement(first, f"a first transmission has DUP 0: {action}")
            raise Disagreement(rule, f"nothing in flight has this identifier: {action}")
        if exchange.phase == AWAITING_PUBCOMP:
            rule = connection.cite("MQTT-4.3.3-6", "MQTT-4.3.3-1")
            raise Disagreement(rule, f"its PUBREL was sent: {action}")
        if not is_message(action, exchange.copy) or action.delivery.qos != exchange.copy.qos:
            was = exchange.copy.message
            raise Disagreement(rule, f"the identifier stands for {was}: {action}")
        if exchange in connection.resend:
            for earlier in connection.resend[: connection.resend.index(exchange)]:
                given_up = self._may_be_given_up(connection, session, earlier)
                if self._is_order_bound(connection) and not given_up:
                    was = earlier.copy.message
                    order = connection.cite("NN-15.3", "MQTT-4.6.0-1")
                    raise Disagreement(order, f"{was} was sent first, before: {action}")
            self._take_unit(connection, action)
            connection.resend.remove(exchange)
        elif not self._may_retry(connection, exchange):
            rule = self._sent_already(connection)
            raise Disagreement(rule, f"it was sent on this connection already: {action}")
        complaint = self._compare(connection, action, exchange.copy, again=exchange)
        if complaint is not None:
            raise Disagreement(*complaint)
        if (
            connection.protocol_version == 5
        ):  # NN-8.5: once new ones were used, there is no way back
            exchange.copy.ids = tuple(sorted(action.delivery.subscription_ids))
        exchange.sent_on = connection
        exchange.sent_at = self.now
        for each in session.replays:
            note_newest(each.resent, exchange.copy)

    def _is_order_bound(self, connection: ModelConnection) -> bool:
        """NN-15.3: 3.1.1 orders what a server sends again, 5.0 only what a client does."""
        return connection.protocol_version < 5 or self._notices_given

    def _may_be_given_up(
        self, connection: ModelConnection, session: ModelSession, exchange: Exchange
    ) -> bool:
        if exchange.doubtful or self._too_large(connection, exchange.copy):
            return True  # NN-8.7
        at = exchange.copy.expires_at
        expired = at is not None and at <= self.now
        return session.policy.expire_in_flight and expired and exchange.copy.qos == 1

    # ------------------------------------------------------------ sent for the first time

    def _saw_first(
        self, connection: ModelConnection, session: ModelSession, action: SendPublish
    ) -> None:
        found: list[tuple[Copy, Replay | None]] = []
        for copy in session.queue:
            if is_message(action, copy) and self._is_sendable(connection, copy):
                found.append((copy, None))
        for each in session.replays:
            found += [(copy, each) for copy in self._called_up(each, session, action)]
            found += self._of_twins(each, action)
        if not found:
            if self._is_second(session, action):
                return
            raise Disagreement(*self._why_not(connection, session, action))
        # Of several copies of one message the one that says the same, where the packet does not
        ids = tuple(sorted(action.delivery.subscription_ids))
        found.sort(
            key=lambda each: (
                each[0].ids != ids,
                each[0].is_retained != action.delivery.is_retained,
                not self._is_owed(session, each[1], each[0]),
            )
        )
        complaints: list[Complaint] = []
        for copy, replay in found:
            complaint = self._compare(connection, action, copy)
            if complaint is None and replay is not None:
                complaint = self._superseded(connection, replay, copy, action)
            if complaint is None and replay is None and copy.overtaken:
                rule = connection.cite("MQTT-4.6.0-5", "MQTT-4.6.0-6")
                complaint = (rule, f"a later one of its order went ahead: {action}")
            if complaint is None:
                self._first_sent(connection, session, copy, replay, action)
                return
            complaints.append(complaint)
        raise Disagreement(*complaints[0])

    def _is_second(self, session: ModelSession, action: SendPublish) -> bool:
        """NN-12.2: what was published at QoS 1 and granted QoS 0 MAY come twice."""
        message = action.delivery.message
        fate = session.past.get((message.topic_name, message.payload))
        if fate != SENT_MAYBE_TWICE or self._notices_given or action.delivery.qos > 0:
            return False
        session.remember(message, "sent")
        return True

    def _first_sent(
        self,
        connection: ModelConnection,
        session: ModelSession,
        copy: Copy,
        replay: Replay | None,
        action: SendPublish,
    ) -> None:
        if copy.qos > 0:
            self._take_unit(connection, action)
            again = [
                each
                for each in connection.resend
                if not self._may_be_given_up(connection, session, each)
            ]
            if again and self._is_order_bound(connection):
                was = again[0].copy.message
                raise Disagreement("NN-8.3", f"{was} is to be sent again before: {action}")
        topic_name = copy.message.topic_name
        if replay is not None:
            replay.pending.pop(topic_name, None)
            for each in session.replays:
                if (topic_name, replay) in each.twins:
                    each.twins.remove((topic_name, replay))
                if each is not replay and matches(each.topic_filter, topic_name):
                    replay.twins.append((topic_name, each))
            replay.sent.append(copy.serial)
            entry = self.retained.get(topic_name)
            if entry is not None and entry.rivals:
                settle_rivals(entry, copy)
        else:
            for earlier in session.queue[: session.queue.index(copy)]:
                older = earlier.serial < copy.serial
                if older and earlier.key == copy.key and earlier.must_go is None:
                    earlier.overtaken = True  # MQTT-4.6.0-5, unless it is told to be dropped
            session.queue.remove(copy)
            self._note_overlap(connection, session, copy, action)
            for each in session.replays:
                note_newest(each.superseded, copy)
                entry = self.retained.get(topic_name)
                if entry is not None and is_order_open(entry.copy, copy):
                    each.excused.append(topic_name)
        twice = copy.qos == 0 and copy.message.qos == 1
        session.remember(copy.message, SENT_MAYBE_TWICE if twice else "sent")
        if copy.qos == 0:
            return
        assert action.packet_id is not None
        if session.ended:
            gone = Gone(session.client_id, copy, DropReason.SESSION_ENDED)
            self._gone.append(gone)
            return
        phase = AWAITING_PUBACK if copy.qos == 1 else AWAITING_PUBREC
        told = action.message_expiry_interval
        session.in_flight.append(
            Exchange(
                action.packet_id, copy, phase, connection, self.now, told, action.delivery.retain
            )
        )

    def _give_up(
        self, connection: ModelConnection, session: ModelSession, exchange: Exchange
    ) -> None:
        """NN-8.7: a QoS 1 exchange that is given up leaves its identifier free."""
        if exchange.phase == AWAITING_PUBACK:
            session.in_flight.remove(exchange)
            if exchange in connection.resend:
                connection.resend.remove(exchange)

    def _give_up_too_large(
        self, connection: ModelConnection, session: ModelSession, exchange: Exchange
    ) -> None:
        exchange.phase = AWAITING_PUBCOMP
        self.serial += 1
        exchange.released = self.serial
        exchange.sent_at = self.now
        connection.resend.remove(exchange)
        self._gone.append(Gone(session.client_id, exchange.copy, DropReason.TOO_LARGE))
