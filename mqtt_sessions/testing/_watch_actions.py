"""What a subject may send and when, as a `Watch` judges it action by action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from mqtt_sessions.actions import (
    CloseConnection,
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
from mqtt_sessions.events import DisconnectReceived
from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode
from mqtt_sessions.testing._watch_books import Books
from mqtt_sessions.testing._watched import (
    Copy,
    WatchedConnection,
    WatchedSession,
    against,
    is_match,
    key_of,
)

__all__ = ["Actions"]

_MAX_PACKET_ID = 65_535
_SECOND = 1.001
"""A second, and what the difference of two readings of a clock may be off."""

_PUBLISH_ANSWERS = frozenset((0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99))
_RELEASES = frozenset((0, 0x92))
_SUBACKS = frozenset((0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2))
_UNSUBACKS = frozenset((0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91))
_CONNACKS = frozenset(
    (0, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F)
)
_DISCONNECTS = frozenset(
    (0, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, *range(0x93, 0xA3))
)
"""What a server's packets can say: MQTT 5.0 tables 3-1, 3-4 to 3-9 and 3-13 (here by packet)."""
_RULES_OF_ANSWERS = {
    SendPuback: "MQTT-2.2.1-5",
    SendPubrec: "MQTT-2.2.1-5",
    SendPubcomp: "MQTT-2.2.1-5",
    SendSuback: "MQTT-2.2.1-6",
    SendUnsuback: "MQTT-2.2.1-6",
    SendPingresp: "host",
}
"""What an answer breaks that nobody asked for, or that names another packet."""
_SUBACKS_OF_3 = {3: frozenset((0, 1, 2)), 4: frozenset((0, 1, 2, 0x80))}


class Actions(Books):
    """One handler for each action."""

    def _open(self, action: Any) -> WatchedConnection:
        """The connection that an action names, which has to be one that may be sent to."""
        conn = self.connections.get(action.connection)
        kind = type(action).__name__
        if conn is None or conn.closed:
            against("host", f"{kind} for {action.connection!r}, which is closed")
        if conn.disconnected and type(action) is not CloseConnection:
            against("MQTT-3.14.4-1", f"{kind} for {action.connection!r} after DISCONNECT")
        if not conn.told:
            against("MQTT-3.2.0-1", f"{kind} for {action.connection!r} before CONNACK")
        if conn.session is None:
            if type(action) is SendDisconnect:
                against("MQTT-3.14.0-1", "DISCONNECT after a CONNACK that refuses")
            rule = conn.cite("MQTT-3.2.2-7", "MQTT-3.2.2-5")
            against(rule, f"{kind} after a CONNACK that refuses, and no close")
        return conn

    # ------------------------------------------------------------ connections

    def _on_connack(self, action: SendConnack) -> None:
        conn = self.connections.get(action.connection)
        if conn is None or conn.closed:
            against("host", f"CONNACK for {action.connection!r}, which is closed")
        if conn.told:
            against("MQTT-3.2.0-2", f"a second CONNACK for {action.connection!r}")
        if self.event is not conn.event:
            against("MQTT-3.1.4-5", f"CONNACK for {action.connection!r} is late")
        conn.told = True
        code = action.reason_code
        known = _CONNACKS if conn.version == 5 else {int(each) for each in ConnectReturnCode}
        if code not in known:
            against("MQTT-3.2.2-8", f"CONNACK {code!r} to version {conn.version}")
        if code != 0:
            if action.session_present:
                against("MQTT-3.2.2-6", "Session Present 1 in a CONNACK that refuses")
            return
        if not conn.accepted:
            against("host", f"CONNACK 0x00 for {action.connection!r}, and no session is told")
        if action.session_present != (conn.resumed and conn.version > 3):
            rule = "MQTT-3.2.2-2" if conn.event.clean_start else "MQTT-3.2.2-3"
            against(rule, f"Session Present {action.session_present} and resumed {conn.resumed}")

    def _on_disconnect_sent(self, action: SendDisconnect) -> None:
        conn = self._open(action)
        if conn.version < 5:
            against("MQTT-3.14.0-1", f"DISCONNECT to version {conn.version}")
        if type(self.event) is DisconnectReceived and self.event.connection == conn.connection:
            interval = self.event.session_expiry_interval
            if conn.due > self.now and not (interval and not conn.event.session_expiry_interval):
                against("MQTT-3.14.4-1", "DISCONNECT is answered")
        if action.reason_code not in _DISCONNECTS:
            against("MQTT-3.14.2-1", f"DISCONNECT {action.reason_code!r} of a server")
        conn.disconnected = True

    def _on_close(self, action: CloseConnection) -> None:
        conn = self.connections.get(action.connection)
        if conn is None or conn.closed:
            against("host", f"{action.connection!r} is closed twice")
        if action.reason_code is ReasonCode.KEEP_ALIVE_TIMEOUT and conn.due > self.now:
            against("MQTT-3.1.2-22", f"keep alive of {action.connection!r} ends at {conn.due!r}")
        conn.closed = True
        conn.expects_close = ""

    # ------------------------------------------------------------ PUBLISH

    def _on_publish(self, action: SendPublish) -> None:
        conn = self._open(action)
        session = conn.session
        assert session is not None
        if conn.congested and not (conn.congested == self.steps and session in self.deferred):
            # a will that was due before the congestion, and left over by a slice, may still come
            against("host", f"PUBLISH on {action.connection!r}, which is congested")
        delivery, packet_id = action.delivery, action.packet_id
        if delivery.qos == 0:
            if packet_id is not None:
                against("MQTT-2.2.1-2", f"identifier {packet_id} at QoS 0")
            if action.dup:
                against("MQTT-3.3.1-2", "DUP 1 at QoS 0")
        elif packet_id is None or not 1 <= packet_id <= _MAX_PACKET_ID:
            against("MQTT-2.2.1-4", f"identifier {packet_id!r} at QoS {delivery.qos}")
        if action.dup:
            self._check_again(conn, session, action)
        else:
            self._check_first(conn, session, action)
        if session.called_up:
            topic_name = delivery.message.topic_name
            entry = session.called_up.get(topic_name)
            # a live message that is not older stands for it [NN-14.6]
            if entry is not None and delivery.received_at >= entry.received_at:
                del session.called_up[topic_name]
        if delivery.qos:
            assert packet_id is not None
            conn.units.add(packet_id)
            if len(conn.units) > conn.window:
                against(
                    "MQTT-4.9.0-2",
                    f"{len(conn.units)} PUBLISH open on {action.connection!r}, "
                    f"{conn.window} allowed",
                )

    def _check_first(
        self, conn: WatchedConnection, session: WatchedSession, action: SendPublish
    ) -> None:
        delivery, packet_id = action.delivery, action.packet_id
        if packet_id in session.in_flight:
            against("MQTT-2.2.1-4", f"identifier {packet_id} is in flight: {packet_id!r}")
        if conn.resend:
            against("NN-8.3", f"a new PUBLISH before {len(conn.resend)} that are sent again")
        copy: Copy
        waits = session.find(delivery) if delivery.is_retained else None
        if waits is not None and waits.is_retained:  # a crash made it wait again
            copy = waits
            session.release(copy)
        elif delivery.is_retained:
            copy = self._called_up(session, action)
        else:
            owed = session.find(delivery)
            if owed is None:
                if session.ended and key_of(delivery) in session.dropped:
                    return
                self._say_not_owed(session, action)
            copy = owed
            assert copy.stream is not None
            first = next(iter(copy.stream))
            if first is not copy and (first.step != copy.step or first.key != copy.key):
                against("MQTT-4.6.0-5", f"{copy!r} overtakes {first!r}")
            session.release(copy)
            self._check_flags(conn, copy, action)
        expires_at = copy.expires_at
        if expires_at is not None and expires_at <= self.now != copy.received_at:
            against("MQTT-3.3.2-5", f"{copy!r} is sent though it expired at {copy.expires_at!r}")
        self._check_told(copy, action)
        if packet_id is not None and delivery.qos:
            session.in_flight[packet_id] = copy
            copy.sent = self.steps

    def _say_not_owed(self, session: WatchedSession, action: SendPublish) -> NoReturn:
        key = key_of(action.delivery)
        if self.is_repeat:
            against("MQTT-4.3.3-10", f"{session.client_id!r} gets {key!r} for a repeat")
        if session.find_in_flight(action.delivery) is not None:
            against("MQTT-3.3.1-1", f"{session.client_id!r} gets {key!r} again with DUP 0")
        against("NN-12.3", f"{session.client_id!r} is not owed {key!r}, and gets it")

    def _check_flags(self, conn: WatchedConnection, copy: Copy, action: SendPublish) -> None:
        delivery = action.delivery
        if conn.version < 5:
            if delivery.retain:
                against("3.1.1 MQTT-3.3.1-9", f"{copy!r} with RETAIN 1")
            copy.was_unmarked = True
        elif copy.retain is not None and delivery.retain != copy.retain:
            rule = "MQTT-3.3.1-13" if copy.retain else "MQTT-3.3.1-12"
            against(rule, f"{copy!r} with RETAIN {delivery.retain}")
        ids = delivery.subscription_ids
        if ids != copy.ids and sorted(ids) != sorted(copy.ids):
            against("MQTT-3.3.4-4", f"{copy!r} with identifiers {ids!r}, not {copy.ids!r}")

    def _called_up(self, session: WatchedSession, action: SendPublish) -> Copy:
        """A retained message that a subscription called up; not owed before."""
        delivery = action.delivery
        message = delivery.message
        topic_name = message.topic_name
        entry = self.alarms.retained.get(topic_name)
        if entry is None or entry.message != message:
            entry = self.replaced.get(topic_name)
            if entry is None or entry.message != message:
                against("MQTT-3.3.1-5", f"{message!r} is not retained, and sent as if it were")
        if not delivery.retain:
            against("NN-12.6", f"retained {message!r} with RETAIN 0")
        qos = {
            subscription.qos if self.options.upgrade_qos else min(subscription.qos, message.qos)
            for topic_filter, subscription in session.subscriptions.items()
            if is_match(topic_filter, topic_name)
        }
        if delivery.qos not in qos and not session.ended:
            against("MQTT-3.8.4-8", f"retained {message!r} at QoS {delivery.qos}, not {qos!r}")
        copy = Copy(
            session, message, entry.publisher, entry.received_at, entry.expires_at, entry.told
        )
        copy.at(delivery.qos)
        copy.step = self.steps
        copy.is_retained = True
        return copy

    def _check_told(self, copy: Copy, action: SendPublish) -> None:
        """MQTT-3.3.2-6: the interval less the waiting, rounded up; 0 only for 0."""
        told, interval = action.message_expiry_interval, copy.told
        if told == interval and (not interval or self.now == copy.received_at):
            return
        if told is not None and interval:
            left = interval - (self.now - copy.received_at)
            if max(1, left - 0.001) <= told <= max(1, left + _SECOND):
                return
        against("MQTT-3.3.2-6", f"{copy!r} tells {told!r}; {interval!r} at {copy.received_at!r}")

    def _check_again(
        self, conn: WatchedConnection, session: WatchedSession, action: SendPublish
    ) -> None:
        packet_id = action.packet_id
        assert packet_id is not None
        copy = session.in_flight.get(packet_id)
        if copy is None:
            if session.ended and key_of(action.delivery) in session.dropped:
                return
            against("MQTT-3.3.1-1", f"DUP 1 for {packet_id}, which is not in flight")
        if copy.phase == 3:
            against("MQTT-4.3.3-6", f"PUBLISH {packet_id} again after its PUBREC")
        if key_of(action.delivery) != copy.key:
            against("MQTT-4.4.0-1", f"identifier {packet_id} was {copy!r}, and comes as another")
        if packet_id in conn.resend:
            if next(iter(conn.resend)) != packet_id:
                rule = conn.cite("NN-15.3", "MQTT-4.6.0-1")
                against(rule, f"{packet_id} is sent again before {next(iter(conn.resend))}")
            del conn.resend[packet_id]
        elif conn is self.connecting and copy.sent == self.steps:
            pass  # left over by a slice, and sent on the old connection just before
        elif conn.version == 5 or session.policy.retry_interval is None:
            against("MQTT-4.4.0-1", f"PUBLISH {packet_id} again on one connection")
        self._check_told(copy, action)
        copy.was_unmarked = copy.was_unmarked or conn.version < 5

    # ------------------------------------------------------------ acknowledgements

    def _on_pubrel(self, action: SendPubrel) -> None:
        conn = self._open(action)
        session, packet_id = conn.session, action.packet_id
        assert session is not None
        copy = session.in_flight.get(packet_id)
        released = copy is not None and copy.phase == 3
        if packet_id in conn.pubrels:
            if next(iter(conn.pubrels)) != packet_id:
                first = next(iter(conn.pubrels))
                rule = conn.cite("NN-8.4b", "MQTT-4.6.0-4")
                against(rule, f"PUBREL {packet_id} again before {first}")
            del conn.pubrels[packet_id]
        elif self._is_answer(action, conn):
            self.answer = None
        elif not (released and conn.version < 5 and session.policy.retry_interval is not None):
            against("MQTT-4.4.0-1", f"PUBREL {packet_id}, for which nobody asked")
        if action.reason_code != (0 if released else 0x92):
            against("NN-7.5", f"PUBREL {action.reason_code!r} for {packet_id}")

    def _is_answer(self, action: Any, conn: WatchedConnection) -> bool:
        answer = self.answer
        return (
            answer is not None
            and answer[0] is type(action)
            and answer[1] is conn
            and answer[2] in (0, getattr(action, "packet_id", 0))
        )

    def _take_answer(self, action: Any) -> WatchedConnection:
        conn = self._open(action)
        if not self._is_answer(action, conn):
            rule = _RULES_OF_ANSWERS[type(action)]
            against(rule, f"{type(action).__name__} answers nothing: {action!r}")
        self.answer = None
        return conn

    def _on_publish_answered(self, action: SendPuback | SendPubrec) -> None:
        conn = self._take_answer(action)
        code = action.reason_code
        if code not in _PUBLISH_ANSWERS:
            rule = "MQTT-3.4.2-1" if type(action) is SendPuback else "MQTT-3.5.2-1"
            against(rule, f"{code!r} for a PUBLISH")
        if conn.version < 5 and code >= 0x80:
            against("3.1.1 MQTT-4.8.0-2", f"{code!r}, which MQTT 3.x cannot say")
        if self.is_repeat and code >= 0x80:
            against("MQTT-4.3.3-10", f"{code!r} for a repeat")

    def _on_pubcomp(self, action: SendPubcomp) -> None:
        conn = self._take_answer(action)
        session = conn.session
        assert session is not None
        held = session.inbound.pop(action.packet_id, None)
        if action.reason_code not in _RELEASES:
            against("MQTT-3.7.2-1", f"{action.reason_code!r} in PUBCOMP")
        if (action.reason_code == 0) != (held is not None):
            rule = "NN-7.4" if held is None else "MQTT-4.3.3-11"
            against(rule, f"PUBCOMP {action.reason_code!r} for {action.packet_id}, held: {held!r}")

    def _on_suback(self, action: SendSuback) -> None:
        conn = self._take_answer(action)
        event: Any = self.event
        if len(action.reason_codes) != len(event.subscriptions):
            against("MQTT-3.8.4-6", f"{len(action.reason_codes)} codes in SUBACK")
        known = _SUBACKS_OF_3.get(conn.version, _SUBACKS)
        for code in action.reason_codes:
            if code not in known:
                against("MQTT-3.9.3-2", f"{code!r} in SUBACK to version {conn.version}")

    def _on_unsuback(self, action: SendUnsuback) -> None:
        self._take_answer(action)
        event: Any = self.event
        if len(action.reason_codes) != len(event.topic_filters):
            against("MQTT-3.11.3-1", f"{len(action.reason_codes)} codes in UNSUBACK")
        for code in action.reason_codes:
            if code not in _UNSUBACKS:
                against("MQTT-3.11.3-2", f"{code!r} in UNSUBACK")

    def _on_pingresp(self, action: SendPingresp) -> None:
        self._take_answer(action)

    ON_ACTION: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        SendConnack: _on_connack,
        SendDisconnect: _on_disconnect_sent,
        CloseConnection: _on_close,
        SendPublish: _on_publish,
        SendPubrel: _on_pubrel,
        SendPuback: _on_publish_answered,
        SendPubrec: _on_publish_answered,
        SendPubcomp: _on_pubcomp,
        SendSuback: _on_suback,
        SendUnsuback: _on_unsuback,
        SendPingresp: _on_pingresp,
    }
