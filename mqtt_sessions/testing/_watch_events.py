"""What an event means for the books of a `Watch`, before it is seen what the subject made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from attrs import evolve

from mqtt_sessions.actions import (
    Action,
    SendConnack,
    SendPingresp,
    SendPuback,
    SendPubcomp,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
)
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    DisconnectReceived,
    LimitsChanged,
    MalformedPacketReceived,
    MessagePublished,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    SessionExpirySet,
    SubscribeReceived,
    SubscriptionsAdded,
    SubscriptionsRemoved,
    UnsubscribeReceived,
    WillRevoked,
)
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing._watch_books import Books
from mqtt_sessions.testing._watched import (
    INF,
    KEEP_ALIVE,
    SESSION_DUE,
    WILL_DUE,
    WatchedConnection,
    WatchedSession,
)

__all__ = ["Events"]

Actions = tuple[Action, ...]


def _answer_of(kind: type, conn: WatchedConnection, packet_id: int, actions: Actions) -> Any:
    """The packet that answers; None if there is none."""
    for action in reversed(actions):
        if type(action) is kind:
            answer: Any = action
            if answer.packet_id == packet_id and answer.connection == conn.connection:
                return answer
    return None


class Events(Books):
    """One handler for each event that changes the books."""

    # ------------------------------------------------------------ connections

    def _on_connected(self, event: ClientConnected, actions: Actions) -> None:
        if event.connection in self.connections:
            conn = self.alive(event)
            if conn is not None:
                conn.expects_close = "MQTT-3.1.0-2"
            return
        conn = self.connections[event.connection] = WatchedConnection(event)
        for action in actions:
            if type(action) is SendConnack and action.connection == event.connection:
                if action.reason_code == 0:
                    self.connecting = conn
                else:
                    conn.expects_close = conn.cite("MQTT-3.2.2-7", "MQTT-3.2.2-5")
                return
        conn.expects_close = conn.cite("MQTT-3.1.4-5", "MQTT-3.1.4-4")  # neither yes nor no

    def _on_lost(self, event: ConnectionLost, actions: Actions) -> None:
        conn = self.connections.pop(event.connection, None)
        if conn is not None:
            self.part(conn)
            conn.closed = True

    def _on_disconnect(self, event: DisconnectReceived, actions: Actions) -> None:
        conn = self.alive(event)
        if conn is None:
            return
        conn.expects_close = "NN-5.1"
        session = conn.session
        assert session is not None
        interval = event.session_expiry_interval
        if conn.version == 5 and interval is not None:
            if interval > 0 and not conn.event.session_expiry_interval:
                conn.expects_close = conn.fault
                return  # NN-1.5: not accepted as a DISCONNECT
            session.interval = session.policy.at_disconnect(interval)  # NN-1.4
        if conn.version < 5 or event.reason_code == 0:
            self.suppressed = session  # MQTT-3.14.4-3; 3.1.1: any DISCONNECT

    def _on_malformed(self, event: MalformedPacketReceived, actions: Actions) -> None:
        conn = self.alive(event)
        if conn is not None:
            conn.expects_close = conn.fault

    def _on_congested(self, event: ConnectionCongested, actions: Actions) -> None:
        conn = self.connections.get(event.connection)
        if conn is not None and not conn.closed:
            conn.expects_close = KEEP_ALIVE if conn.due <= self.now else ""
            conn.congested = conn.congested or self.steps

    def _on_writable(self, event: ConnectionWritable, actions: Actions) -> None:
        conn = self.connections.get(event.connection)
        if conn is not None and not conn.closed:
            conn.expects_close = KEEP_ALIVE if conn.due <= self.now else ""
            conn.congested = 0
            self._touch(conn)

    def _on_ping(self, event: PingReceived, actions: Actions) -> None:
        conn = self.alive(event)
        if conn is not None and event.answer:
            self.answer = (SendPingresp, conn, 0, "MQTT-3.12.4-1")

    def _touch(self, conn: WatchedConnection) -> None:
        if conn.session is not None and conn.session.conn is conn:
            self.touched[conn.session] = None

    # ------------------------------------------------------------ publishing

    def _on_published(self, event: PublishReceived, actions: Actions) -> None:
        conn = self.alive(event)
        if conn is None:
            return
        session, message = conn.session, event.message
        assert session is not None
        packet_id = event.packet_id
        if message.qos == 0:
            if event.refusal is None and event.connection not in self.closing:
                self.hand_on(message, session.client_id, session.policy)
            return
        if not packet_id or event.connection in self.closing:
            conn.expects_close = conn.fault
            return
        if message.qos == 1:
            self.answer = (SendPuback, conn, packet_id, "MQTT-4.3.2-4")
        else:
            self.answer = (SendPubrec, conn, packet_id, "MQTT-4.3.3-8")
            ends_at = session.inbound.get(packet_id)
            if ends_at is not None:
                if ends_at > self.now:
                    self.is_repeat = True
                    self.answer = (SendPubrec, conn, packet_id, "MQTT-4.3.3-10")
                    return
                del session.inbound[packet_id]
                self.timed_out = (session, packet_id)
        answer = _answer_of(self.answer[0], conn, packet_id, actions)
        if answer is None or answer.reason_code >= 0x80:
            return
        if message.qos == 2:
            pause = session.policy.inbound_qos2_interval
            session.inbound[packet_id] = INF if pause is None else self.now + pause
        if event.refusal is None:  # else 3.1.1 MQTT-3.3.5-2: acknowledged and not handed on
            self.hand_on(message, session.client_id, session.policy)

    def _on_released(self, event: PubrelReceived, actions: Actions) -> None:
        conn = self.alive(event)
        if conn is not None:
            self.answer = (SendPubcomp, conn, event.packet_id, "MQTT-4.3.3-11")

    def _on_host_published(self, event: MessagePublished, actions: Actions) -> None:
        self.hand_on(event.message, event.publisher, self.policy)

    # ------------------------------------------------------------ acknowledgements

    def _on_puback(self, event: PubackReceived, actions: Actions) -> None:
        conn = self.alive(event)
        if conn is None:
            return
        session = conn.session
        assert session is not None
        copy = session.in_flight.get(event.packet_id)
        if copy is None:
            return  # NN-7.6
        if copy.phase != 1:
            conn.expects_close = conn.fault
            return
        if event.reason_code >= 0x80:
            self.refused = copy
        self._settle(session, conn, event.packet_id)

    def _on_pubrec(self, event: PubrecReceived, actions: Actions) -> None:
        conn = self.alive(event)
        if conn is None:
            return
        session = conn.session
        assert session is not None
        packet_id = event.packet_id
        copy = session.in_flight.get(packet_id)
        if copy is not None and copy.phase == 1:
            conn.expects_close = conn.fault
            return
        if event.reason_code >= 0x80:
            if copy is not None:
                if copy.phase == 2:
                    self.refused = copy  # NN-7.7
                self._settle(session, conn, packet_id)
            return
        self.answer = (SendPubrel, conn, packet_id, "MQTT-4.3.3-4")
        if copy is not None and copy.phase == 2:
            copy.phase = 3
            del session.in_flight[packet_id]
            session.in_flight[packet_id] = copy  # PUBRELs stand in order of their PUBRECs
            conn.resend.pop(packet_id, None)
            self.touched[session] = None

    def _on_completed(self, event: PubcompReceived, actions: Actions) -> None:
        conn = self.alive(event)
        if conn is None:
            return
        session = conn.session
        assert session is not None
        copy = session.in_flight.get(event.packet_id)
        if copy is None:
            return
        if copy.phase != 3:
            conn.expects_close = conn.fault
            return
        self._settle(session, conn, event.packet_id)

    def _settle(self, session: WatchedSession, conn: WatchedConnection, packet_id: int) -> None:
        """Identifier and unit are free [NN-6.2], [NN-10.1]."""
        del session.in_flight[packet_id]
        conn.units.discard(packet_id)
        conn.resend.pop(packet_id, None)
        self.touched[session] = None

    # ------------------------------------------------------------ subscriptions

    def _on_subscribe(self, event: SubscribeReceived, actions: Actions) -> None:
        conn = self.alive(event)
        if conn is None:
            return
        session = conn.session
        assert session is not None
        self.answer = (SendSuback, conn, event.packet_id, "MQTT-3.8.4-1")
        answer = _answer_of(SendSuback, conn, event.packet_id, actions)
        if answer is None:
            return
        for index, wanted in enumerate(event.subscriptions):
            code = answer.reason_codes[index] if index < len(answer.reason_codes) else 0x80
            refused = bool(event.refusals) and event.refusals[index] is not None
            refused = refused or (conn.version == 3 and self._is_refused(session, wanted))
            if code < 0x80 and not refused:
                self.subscribed(session, evolve(wanted, qos=int(code)))

    def _is_refused(self, session: WatchedSession, wanted: Subscription) -> bool:
        """What SUBACK cannot say to an MQTT 3.1 client."""
        limits, topic_filter = session.limits, wanted.topic_filter
        levels, most = limits.maximum_filter_levels, limits.maximum_subscriptions
        hashes = topic_filter.count("#")
        parts = topic_filter.split("/")
        return (
            not topic_filter
            or topic_filter.startswith("$share/")
            or hashes > 1
            or (hashes == 1 and parts[-1] != "#")
            or any("+" in part and part != "+" for part in parts)
            or (levels is not None and len(parts) > levels)
            or (
                most is not None
                and len(session.subscriptions) >= most
                and topic_filter not in session.subscriptions
            )
        )

    def _on_unsubscribe(self, event: UnsubscribeReceived, actions: Actions) -> None:
        conn = self.alive(event)
        if conn is None:
            return
        session = conn.session
        assert session is not None
        self.answer = (SendUnsuback, conn, event.packet_id, "MQTT-3.10.4-4")
        answer = _answer_of(SendUnsuback, conn, event.packet_id, actions)
        if answer is None:
            return
        for topic_filter, code in zip(event.topic_filters, answer.reason_codes, strict=False):
            if code == ReasonCode.SUCCESS:
                self.unsubscribed(session, topic_filter)

    # ------------------------------------------------------------ the host's own

    def _on_added(self, event: SubscriptionsAdded, actions: Actions) -> None:
        session = self.named(event.client_id)
        if session is not None:
            for wanted in event.subscriptions:
                self.subscribed(session, wanted)

    def _on_removed(self, event: SubscriptionsRemoved, actions: Actions) -> None:
        session = self.named(event.client_id)
        if session is not None:
            for topic_filter in event.topic_filters:
                self.unsubscribed(session, topic_filter)

    def _on_expiry_set(self, event: SessionExpirySet, actions: Actions) -> None:
        session = self.named(event.client_id)
        if session is None:
            return
        interval = session.interval = event.session_expiry_interval
        if session.conn is not None:
            return
        session.expires_at = None if interval is None else self.now + interval
        if interval is not None:
            self.alarms.at(self.now + interval, SESSION_DUE, session)
        if session.will_at < INF:
            self.alarms.at(session.will_at, WILL_DUE, session)

    def _on_revoked(self, event: WillRevoked, actions: Actions) -> None:
        session = self.named(event.client_id)
        if session is not None and session.will_at > self.now:  # else it is due first: law 5
            self.suppressed = session

    def _on_limits(self, event: LimitsChanged, actions: Actions) -> None:
        self.limits = event.limits
        for session in self.sessions.values():
            if not session.own_limits:
                session.limits = event.limits

    ON_EVENT: ClassVar[dict[type, Callable[[Any, Any, Actions], None]]] = {
        ClientConnected: _on_connected,
        ConnectionLost: _on_lost,
        DisconnectReceived: _on_disconnect,
        MalformedPacketReceived: _on_malformed,
        ConnectionCongested: _on_congested,
        ConnectionWritable: _on_writable,
        PingReceived: _on_ping,
        PublishReceived: _on_published,
        PubrelReceived: _on_released,
        MessagePublished: _on_host_published,
        PubackReceived: _on_puback,
        PubrecReceived: _on_pubrec,
        PubcompReceived: _on_completed,
        SubscribeReceived: _on_subscribe,
        UnsubscribeReceived: _on_unsubscribe,
        SubscriptionsAdded: _on_added,
        SubscriptionsRemoved: _on_removed,
        SessionExpirySet: _on_expiry_set,
        WillRevoked: _on_revoked,
        LimitsChanged: _on_limits,
    }
