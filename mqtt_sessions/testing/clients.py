"""The client side of a session: what a client that follows the standard remembers and answers.

No I/O and no clock. A `Client` turns the actions of a server into the events of its answers, so
that a test or a simulation needs nothing but a way to carry both:

    event = client.connect("connection 1", clean_start=False, session_expiry_interval=60)
    for action in store.handle(event, now).actions:
        for answer in client.receive(action):
            store.handle(answer, now)

It keeps what §4.1 says a client keeps [NN-1.8]: QoS 1 and 2 messages that it sent and that are not
fully acknowledged, and the identifiers of incoming QoS 2 messages. Both outlive the connection,
and are discarded when CONNACK says that the server continues no session.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from mqtt_sessions.actions import (
    Action,
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
from mqtt_sessions.events import (
    ClientConnected,
    DisconnectReceived,
    Event,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    SubscribeReceived,
    UnsubscribeReceived,
)
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription

__all__ = ["Client", "ServerFault"]

_SUCCESS = ReasonCode.SUCCESS
_NOT_FOUND = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
_MOST = 65_535


class ServerFault(AssertionError):
    """The server sent what no client may be sent.

    Attributes:
        rule: Id of the statement that was broken.
        detail: What happened.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class Client:
    """One client: its session state, and the connection that it has at present.

    Attributes:
        client_id: Its name.
        protocol_version: 3, 4 or 5.
        connection: The present connection, None while there is none.
        ready: CONNACK has come, so that the client may publish.
        in_flight: Packet identifier to message, None from PUBREC on; messages in order of first
            sending, and those in their PUBREL phase in order of their PUBRECs.
        inbound: Identifiers of incoming QoS 2 messages whose PUBREL has not come.
        delivered: What the application was given, in order; the caller may clear it.
        discarded: Own messages given up because the server had no session; the same.
        maximum_packet_id: Bound on identifiers, below 65,535 where a test wants them reused.

    *Bound* on `in_flight`: the server's Receive Maximum and `maximum_packet_id`; on `inbound`: what
    the server has open.

    Spec: MQTT 5.0 §4.1 [NN-1.8], §4.3, §4.4, §4.6, §4.9.
    """

    __slots__ = (
        "clean_start",
        "client_id",
        "connection",
        "delivered",
        "discarded",
        "in_flight",
        "inbound",
        "interval",
        "last_packet_id",
        "maximum_packet_id",
        "must_clean",
        "protocol_version",
        "ready",
        "requests",
        "unitless",
        "unsent",
        "window",
    )

    def __init__(
        self, client_id: str, protocol_version: int = 5, *, maximum_packet_id: int = _MOST
    ) -> None:
        self.client_id = client_id
        self.protocol_version = protocol_version
        self.maximum_packet_id = maximum_packet_id
        self.in_flight: dict[int, Message | None] = {}
        self.inbound: dict[int, None] = {}
        self.last_packet_id = 0
        self.must_clean = False
        self.delivered: list[Delivery] = []
        self.discarded: list[Message] = []
        # what belongs to the connection
        self.connection: Hashable | None = None
        self.ready = False
        self.clean_start = True
        self.interval: int | None = None
        self.window = _MOST
        self.unsent: dict[int, None] = {}
        self.unitless: set[int] = set()
        self.requests: dict[int, None] = {}

    # ------------------------------------------------------------ what the application asks for

    def connect(
        self,
        connection: Hashable,
        *,
        clean_start: bool = False,
        session_expiry_interval: int | None = None,
        receive_maximum: int | None = None,
        maximum_packet_size: int | None = None,
        keep_alive: int = 0,
        will: Will | None = None,
        principal: str | None = None,
    ) -> ClientConnected:
        """CONNECT; the connection before, if there is one, is forgotten.

        With Clean Start the session state is discarded here, because the server discards its own
        whether CONNACK arrives or not [MQTT-3.1.2-4]. Where such a CONNECT was refused, the next
        one asks for Clean Start too, for the server may still hold what is gone here [NN-2.3].
        """
        self.connection_lost()
        clean_start = clean_start or self.must_clean
        if clean_start:
            self._discard()
        self.connection = connection
        self.clean_start = clean_start
        if self.protocol_version == 5:
            self.interval = session_expiry_interval or 0
        else:
            self.interval = 0 if clean_start else None
        return ClientConnected(
            connection,
            self.client_id,
            self.protocol_version,
            clean_start,
            session_expiry_interval,
            receive_maximum,
            maximum_packet_size,
            keep_alive,
            will,
            principal=principal,
        )

    def publish(self, message: Message) -> PublishReceived | None:
        """PUBLISH of a new message; None if it has to wait, and then nothing has changed.

        It waits for CONNACK [NN-2.5], for what is sent again [NN-8.3], for the send quota
        [MQTT-4.9.0-2], and for a free identifier. *Cost* O(1) unless identifiers in use stand in
        the way.
        """
        if not self.ready:
            return None
        if not message.qos:
            return PublishReceived(self.connection, message)
        if self.unsent or self._units() >= self.window:
            return None
        packet_id = self._free_packet_id()
        if packet_id is None:
            return None
        self.in_flight[packet_id] = message
        return PublishReceived(self.connection, message, packet_id)

    def subscribe(self, *subscriptions: Subscription) -> SubscribeReceived | None:
        """SUBSCRIBE; None if it has to wait for CONNACK or an identifier."""
        packet_id = self._free_packet_id() if self.ready else None
        if packet_id is None:
            return None
        self.requests[packet_id] = None
        return SubscribeReceived(self.connection, packet_id, subscriptions)

    def unsubscribe(self, *topic_filters: str) -> UnsubscribeReceived | None:
        """UNSUBSCRIBE; None if it has to wait for CONNACK or an identifier."""
        packet_id = self._free_packet_id() if self.ready else None
        if packet_id is None:
            return None
        self.requests[packet_id] = None
        return UnsubscribeReceived(self.connection, packet_id, topic_filters)

    def disconnect(
        self,
        reason_code: ReasonCode = _SUCCESS,
        session_expiry_interval: int | None = None,
    ) -> DisconnectReceived:
        """DISCONNECT; nothing is sent after it [MQTT-3.14.4-1], and nothing read.

        If it ends the session, the next CONNECT asks for Clean Start, for DISCONNECT may be lost.
        """
        event = DisconnectReceived(self.connection, reason_code, session_expiry_interval)
        if session_expiry_interval is not None:
            self.must_clean = session_expiry_interval == 0 and self.interval != 0
            self.interval = session_expiry_interval
        self.connection_lost()
        return event

    def expire(self) -> None:
        """The session's interval is over by the client's own clock [NN-1.12].

        A client that goes by Session Present alone can be misled: it comes back too late, the
        CONNACK that tells it of its new session is lost, and the next one continues that session.
        Call it no earlier than the server ends its session.
        """
        self._discard()

    def connection_lost(self) -> None:
        """The connection is gone; the session state stays, unless its interval is 0 [NN-1.2]."""
        if self.connection is not None and self.interval == 0:
            self._discard()
        self.connection = None
        self.ready = False
        self.window = _MOST
        self.unsent.clear()
        self.unitless.clear()
        self.requests.clear()  # an unanswered SUBSCRIBE is not session state [NN-6.3]

    # ------------------------------------------------------------ what the server sends

    def receive(self, action: Action, reason_code: ReasonCode = _SUCCESS) -> list[Event]:
        """Read one packet; the answers in the order in which they are to be sent.

        Args:
            action: What the server does; what is for another connection is left unread.
            reason_code: What PUBACK or PUBREC says to a PUBLISH that comes for the first time.

        Raises:
            ServerFault: The packet may not be sent to this client at this moment.

        *Cost* O(answers).
        """
        connection = self.connection
        if connection is None or action.connection != connection:  # type: ignore[union-attr]
            return []
        kind = type(action)
        if not self.ready and kind not in _BEFORE_CONNACK:
            raise ServerFault("MQTT-3.2.0-1", f"{kind.__name__} comes before CONNACK")
        if kind is SendPublish:
            return self._on_publish(action, reason_code)  # type: ignore[arg-type]
        return _ON[kind](self, action)

    def _on_connack(self, action: SendConnack) -> list[Event]:
        if self.ready:
            raise ServerFault("MQTT-3.2.0-2", "a second CONNACK")
        if action.reason_code != 0:
            self.must_clean = self.clean_start
            self.connection_lost()
            return []
        if action.session_present and self.clean_start:
            raise ServerFault("MQTT-3.2.2-2", "Session Present 1 after Clean Start 1")
        self.must_clean = False
        self.ready = True
        self.window = action.receive_maximum or _MOST
        if action.session_expiry_interval is not None:
            self.interval = action.session_expiry_interval  # NN-1.3
        # MQTT 3.1 has no Session Present: what was asked for is what counts
        present = action.session_present or (self.protocol_version == 3 and not self.clean_start)
        if not present:
            self._discard()
            return []
        answers: list[Event] = []
        for packet_id, message in self.in_flight.items():
            if message is None:
                self.unitless.add(packet_id)
                answers.append(PubrelReceived(self.connection, packet_id))
            else:
                self.unsent[packet_id] = None
        self._send_again(answers)
        return answers

    def _send_again(self, answers: list[Event]) -> None:
        """PUBLISH again, DUP 1, in order of first sending, up to the quota [MQTT-4.4.0-1]."""
        unsent = self.unsent
        while unsent and self._units() < self.window:
            packet_id = next(iter(unsent))
            del unsent[packet_id]
            message = self.in_flight[packet_id]
            assert message is not None
            answers.append(PublishReceived(self.connection, message, packet_id, True))

    def _on_publish(self, action: SendPublish, reason_code: ReasonCode) -> list[Event]:
        delivery, packet_id = action.delivery, action.packet_id
        if delivery.qos == 0 or packet_id is None:
            self.delivered.append(delivery)
            return []
        if self.protocol_version < 5:
            reason_code = _SUCCESS
        if delivery.qos == 1:
            if reason_code < 0x80:
                self.delivered.append(delivery)  # MQTT-4.3.2-5: a repeat is a new message
            return [PubackReceived(self.connection, packet_id, reason_code)]
        if packet_id in self.inbound:
            # MQTT-4.3.3-10: acknowledged again and not delivered again, whatever DUP says
            return [PubrecReceived(self.connection, packet_id)]
        if reason_code < 0x80:
            self.inbound[packet_id] = None
            self.delivered.append(delivery)
        return [PubrecReceived(self.connection, packet_id, reason_code)]

    def _on_pubrel(self, action: SendPubrel) -> list[Event]:
        code = _SUCCESS
        if action.packet_id in self.inbound:
            del self.inbound[action.packet_id]
        elif self.protocol_version == 5:
            code = _NOT_FOUND  # NN-7.4
        return [PubcompReceived(self.connection, action.packet_id, code)]

    def _on_puback(self, action: SendPuback) -> list[Event]:
        if self.in_flight.get(action.packet_id) is None:
            return []  # NN-7.6
        return self._settle(action.packet_id)

    def _on_pubrec(self, action: SendPubrec) -> list[Event]:
        packet_id = action.packet_id
        if action.reason_code >= 0x80:
            if packet_id not in self.in_flight:
                return []  # NN-7.5
            return self._settle(packet_id)
        if packet_id not in self.in_flight:
            code = _NOT_FOUND if self.protocol_version == 5 else _SUCCESS
            return [PubrelReceived(self.connection, packet_id, code)]  # NN-7.5
        if self.in_flight[packet_id] is not None:
            # to the end: PUBRELs are sent again in the order of their PUBRECs [MQTT-4.6.0-4]
            del self.in_flight[packet_id]
            self.in_flight[packet_id] = None
            if packet_id in self.unsent:  # for the earlier connection's PUBLISH: no unit was taken
                del self.unsent[packet_id]
                self.unitless.add(packet_id)
        return [PubrelReceived(self.connection, packet_id)]

    def _on_pubcomp(self, action: SendPubcomp) -> list[Event]:
        packet_id = action.packet_id
        if packet_id not in self.in_flight or self.in_flight[packet_id] is not None:
            return []
        return self._settle(packet_id)

    def _settle(self, packet_id: int) -> list[Event]:
        del self.in_flight[packet_id]
        self.unitless.discard(packet_id)
        self.unsent.pop(packet_id, None)
        answers: list[Event] = []
        if self.unsent:
            self._send_again(answers)
        return answers

    def _on_request_answered(self, action: SendSuback | SendUnsuback) -> list[Event]:
        self.requests.pop(action.packet_id, None)
        return []

    def _on_ping_answered(self, action: SendPingresp) -> list[Event]:
        return []

    def _on_closed(self, action: SendDisconnect | CloseConnection) -> list[Event]:
        if not self.ready and self.clean_start:
            self.must_clean = True  # refused without CONNACK, as far as the client can tell
        self.connection_lost()
        return []

    # ------------------------------------------------------------ inside

    def _units(self) -> int:
        """PUBLISH packets of this connection that are not settled [NN-10.8]."""
        return len(self.in_flight) - len(self.unsent) - len(self.unitless)

    def _free_packet_id(self) -> int | None:
        """One that neither a PUBLISH nor a SUBSCRIBE or UNSUBSCRIBE holds [NN-6.1]."""
        in_flight, requests, most = self.in_flight, self.requests, self.maximum_packet_id
        if len(in_flight) + len(requests) >= most:
            return None
        packet_id = self.last_packet_id
        while True:
            packet_id = packet_id + 1 if packet_id < most else 1
            if packet_id not in in_flight and packet_id not in requests:
                self.last_packet_id = packet_id
                return packet_id

    def _discard(self) -> None:
        """The session is gone, and with it what it held [NN-2.7]."""
        for message in self.in_flight.values():
            if message is not None:
                self.discarded.append(message)
        self.in_flight.clear()
        self.inbound.clear()

    # ------------------------------------------------------------ for searches

    def copy(self) -> Client:
        """An equal client that shares nothing that changes. *Cost* O(state and records)."""
        other = Client(
            self.client_id, self.protocol_version, maximum_packet_id=self.maximum_packet_id
        )
        other.in_flight = dict(self.in_flight)
        other.inbound = dict(self.inbound)
        other.last_packet_id = self.last_packet_id
        other.must_clean = self.must_clean
        other.delivered = list(self.delivered)
        other.discarded = list(self.discarded)
        other.connection = self.connection
        other.ready = self.ready
        other.clean_start = self.clean_start
        other.interval = self.interval
        other.window = self.window
        other.unsent = dict(self.unsent)
        other.unitless = set(self.unitless)
        other.requests = dict(self.requests)
        return other

    def key(self) -> tuple[Hashable, ...]:
        """All that decides what the client does from here on, and no record of the past.

        *Cost* O(state).
        """
        return (
            self.client_id,
            self.protocol_version,
            self.connection,
            self.ready,
            self.clean_start,
            self.interval,
            self.must_clean,
            self.window,
            self.last_packet_id,
            tuple(self.in_flight.items()),
            tuple(self.inbound),
            tuple(self.unsent),
            tuple(sorted(self.unitless)),
            tuple(self.requests),
        )


_BEFORE_CONNACK = frozenset({SendConnack, SendDisconnect, CloseConnection})

_ON: dict[type, Callable[[Client, Any], list[Event]]] = {
    SendConnack: Client._on_connack,
    SendPubrel: Client._on_pubrel,
    SendPuback: Client._on_puback,
    SendPubrec: Client._on_pubrec,
    SendPubcomp: Client._on_pubcomp,
    SendSuback: Client._on_request_answered,
    SendUnsuback: Client._on_request_answered,
    SendPingresp: Client._on_ping_answered,
    SendDisconnect: Client._on_closed,
    CloseConnection: Client._on_closed,
}
