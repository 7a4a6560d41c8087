"""What goes in: everything that can happen to a session, as values named in the past.

`connection` is any hashable that the host chose for a network connection. What a host builds
rarely is validated here and raises `InvalidValue`; of what a peer's packets say only the types are,
because a peer's fault never raises: the outcome holds the answer with its reason code. What flows
(PUBLISH and its acknowledgements) is not looked at.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from mqtt_sessions._validation import (
    PUBLISH_REFUSALS,
    SERVER_DISCONNECTS,
    SUBSCRIBE_REFUSALS,
    UINT32_MAX,
    UNSUBSCRIBE_REFUSALS,
    check_client_id,
    check_code,
    check_connection,
    check_delivery,
    check_filter,
    check_filters,
    check_flag,
    check_instant,
    check_integer,
    check_kind,
    check_message,
    check_refusals,
    check_sent_subscription,
    check_subscription,
    check_text,
    check_tuple,
    check_will,
    reject,
)
from mqtt_sessions._values import value
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.policy import MAX_INTERVAL, ExpiryPolicy, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.topics import is_encodable

__all__ = [
    "ClientConnected",
    "ConnectionCongested",
    "ConnectionLost",
    "ConnectionWritable",
    "DeliverMessage",
    "DisconnectReceived",
    "Event",
    "HeartbeatPassed",
    "LimitsChanged",
    "MalformedPacketReceived",
    "MessagePublished",
    "MessageRouted",
    "PingReceived",
    "PubackReceived",
    "PubcompReceived",
    "PublishReceived",
    "PubrecReceived",
    "PubrelReceived",
    "QueuePurged",
    "ServerStopping",
    "SessionDiscarded",
    "SessionExpirySet",
    "SessionKicked",
    "SubscribeReceived",
    "SubscriptionsAdded",
    "SubscriptionsRemoved",
    "UnsubscribeReceived",
    "WillRevoked",
]

# ---------------------------------------------------------------- what a client's connection does


@value
class ClientConnected:
    """A CONNECT that the host has authenticated.

    Attributes:
        connection: The host's name for the network connection.
        client_id: As sent; empty if the client wants one assigned.
        protocol_version: 3 (MQTT 3.1), 4 (3.1.1) or 5.
        clean_start: Clean Start, or Clean Session of MQTT 3.x.
        session_expiry_interval: Seconds as sent, None if absent. MQTT 5.0 only.
        receive_maximum: As sent, None if absent. MQTT 5.0 only.
        maximum_packet_size: Bytes as sent, None if absent. MQTT 5.0 only.
        keep_alive: Seconds, 0 to 65,535.
        will: The Will Message, if there is one.
        assigned_client_id: The id that the host gives a client without one.
        principal: Who the host authenticated; the session is bound to it. None: not bound.
        policy: Policy for this session in place of the store's.
        limits: Limits for this session in place of the store's; those of the whole store
            (sessions, retained messages) are always the store's own.

    Spec: MQTT 5.0 §3.1; MQTT 3.1.1 §3.1.
    """

    connection: Hashable
    client_id: str
    protocol_version: int = 5
    clean_start: bool = True
    session_expiry_interval: int | None = None
    receive_maximum: int | None = None
    maximum_packet_size: int | None = None
    keep_alive: int = 0
    will: Will | None = None
    assigned_client_id: str | None = None
    principal: str | None = None
    policy: ExpiryPolicy | None = None
    limits: SessionLimits | None = None

    def __attrs_post_init__(self) -> None:
        own = "ClientConnected"
        check_connection(own, self.connection)
        check_kind(own, "client_id", self.client_id, str)
        version = self.protocol_version
        check_integer(own, "protocol_version", version, 3, 5)
        check_flag(own, "clean_start", self.clean_start)
        for name, high in _CONNECT_NUMBERS:
            number = getattr(self, name)
            check_integer(own, name, number, 0, high, optional=True)
            if number is not None and version != 5:
                reject(own, name, "exists in MQTT 5.0 only and must be None", number)
        check_integer(own, "keep_alive", self.keep_alive, 0, 65_535)
        check_kind(own, "will", self.will, Will, optional=True)
        if self.will is not None:
            check_will("ClientConnected.will", self.will, version)
        assigned = self.assigned_client_id
        if assigned is not None:
            check_client_id(own, assigned, "assigned_client_id", optional=True)
            check_text(own, "assigned_client_id", assigned)
            if self.client_id != "":
                reject(own, "assigned_client_id", "must be None beside a client_id", assigned)
        check_kind(own, "principal", self.principal, str, optional=True)
        if self.principal is not None and not is_encodable(self.principal):
            reject(own, "principal", "must be text that UTF-8 can encode", self.principal)
        check_kind(own, "policy", self.policy, ExpiryPolicy, optional=True)
        check_kind(own, "limits", self.limits, SessionLimits, optional=True)


_CONNECT_NUMBERS = (
    ("session_expiry_interval", UINT32_MAX),
    ("receive_maximum", 65_535),
    ("maximum_packet_size", UINT32_MAX),
)


@value
class PublishReceived:
    """A PUBLISH from a client, topic alias resolved.

    Attributes:
        connection: Where it came from.
        message: What was published.
        packet_id: None at QoS 0.
        dup: DUP flag; has no influence [MQTT-3.3.1-3].
        refusal: The host's verdict (0x80, 0x83, 0x87, 0x90, 0x97, 0x99), None if it may pass.
        subscription_ids: Identifiers in the packet, which a client may not send [MQTT-3.3.4-6].

    Spec: MQTT 5.0 §3.3.
    """

    connection: Hashable
    message: Message
    packet_id: int | None = None
    dup: bool = False
    refusal: ReasonCode | None = None
    subscription_ids: tuple[int, ...] = ()

    if not TYPE_CHECKING:  # pragma: no branch
        # Every PUBLISH makes one. What attrs writes, and one comparison: a call to
        # `__attrs_post_init__` would cost half as much again.
        def __init__(
            self,
            connection,
            message,
            packet_id=None,
            dup=False,
            refusal=None,
            subscription_ids=(),
        ):
            if refusal is not None:
                check_code("PublishReceived", "refusal", refusal, PUBLISH_REFUSALS)
            self.connection = connection
            self.message = message
            self.packet_id = packet_id
            self.dup = dup
            self.refusal = refusal
            self.subscription_ids = subscription_ids


@value
class PubackReceived:
    """A PUBACK from a client. Spec: MQTT 5.0 §3.4."""

    connection: Hashable
    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS


@value
class PubrecReceived:
    """A PUBREC from a client. Spec: MQTT 5.0 §3.5."""

    connection: Hashable
    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS


@value
class PubrelReceived:
    """A PUBREL from a client. Spec: MQTT 5.0 §3.6."""

    connection: Hashable
    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS


@value
class PubcompReceived:
    """A PUBCOMP from a client. Spec: MQTT 5.0 §3.7."""

    connection: Hashable
    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS


@value
class SubscribeReceived:
    """A SUBSCRIBE from a client.

    Attributes:
        connection: Where it came from.
        packet_id: Its packet identifier.
        subscriptions: One for each filter, each with the packet's Subscription Identifier.
        refusals: Empty, or one entry for each filter: the host's refusal (0x80, 0x83, 0x87, 0x8F,
            0x97, 0x9E, 0xA1, 0xA2), or None where it may pass.

    Spec: MQTT 5.0 §3.8.
    """

    connection: Hashable
    packet_id: int
    subscriptions: tuple[Subscription, ...]
    refusals: tuple[ReasonCode | None, ...] = ()

    def __attrs_post_init__(self) -> None:
        own = "SubscribeReceived"
        check_connection(own, self.connection)
        check_integer(own, "packet_id", self.packet_id, 0, 65_535)
        check_tuple(own, "subscriptions", self.subscriptions, Subscription)
        for index, subscription in enumerate(self.subscriptions):
            check_sent_subscription(f"{own}.subscriptions[{index}]", subscription)
        check_refusals(own, self.refusals, len(self.subscriptions), SUBSCRIBE_REFUSALS)


@value
class UnsubscribeReceived:
    """An UNSUBSCRIBE from a client.

    Attributes:
        connection: Where it came from.
        packet_id: Its packet identifier.
        topic_filters: As sent, in order.
        refusals: As in `SubscribeReceived`: 0x80, 0x83, 0x87 or 0x8F.

    Spec: MQTT 5.0 §3.10.
    """

    connection: Hashable
    packet_id: int
    topic_filters: tuple[str, ...]
    refusals: tuple[ReasonCode | None, ...] = ()

    def __attrs_post_init__(self) -> None:
        own = "UnsubscribeReceived"
        check_connection(own, self.connection)
        check_integer(own, "packet_id", self.packet_id, 0, 65_535)
        check_tuple(own, "topic_filters", self.topic_filters, str)
        check_refusals(own, self.refusals, len(self.topic_filters), UNSUBSCRIBE_REFUSALS)


@value
class PingReceived:
    """A PINGREQ, or any packet that the library has no event for, such as AUTH.

    Attributes:
        connection: Where it came from.
        answer: True for PINGREQ, which gets PINGRESP [MQTT-3.12.4-1]; False for the rest.

    Spec: MQTT 5.0 §3.12, §3.1.2.10 [NN-5.5].
    """

    connection: Hashable
    answer: bool = True


@value
class DisconnectReceived:
    """A DISCONNECT from a client.

    Attributes:
        connection: Where it came from.
        reason_code: As sent; an int where the code is none of the standard's. Only 0x00
            suppresses the will [NN-4.4].
        session_expiry_interval: Seconds as sent, None if absent (which is not 0) [NN-1.4].

    Spec: MQTT 5.0 §3.14.
    """

    connection: Hashable
    reason_code: ReasonCode | int = ReasonCode.SUCCESS
    session_expiry_interval: int | None = None

    def __attrs_post_init__(self) -> None:
        own, interval = "DisconnectReceived", self.session_expiry_interval
        check_connection(own, self.connection)
        check_integer(own, "reason_code", self.reason_code, 0, 255)
        check_integer(own, "session_expiry_interval", interval, 0, UINT32_MAX, optional=True)


@value
class MalformedPacketReceived:
    """Bytes that the host could not decode, or a packet that its decoder judged an error.

    Attributes:
        connection: Where it came from.
        reason_code: What DISCONNECT will say: 0x81, or the protocol error's code.

    Spec: MQTT 5.0 §4.13.1 [MQTT-4.13.1-1].
    """

    connection: Hashable
    reason_code: ReasonCode = ReasonCode.MALFORMED_PACKET

    def __attrs_post_init__(self) -> None:
        own = "MalformedPacketReceived"
        check_connection(own, self.connection)
        check_code(own, "reason_code", self.reason_code, SERVER_DISCONNECTS)


@value
class ConnectionLost:
    """The network connection is gone; each `ClientConnected` is paired with exactly one."""

    connection: Hashable

    def __attrs_post_init__(self) -> None:
        check_connection("ConnectionLost", self.connection)


@value
class ConnectionCongested:
    """The connection's write buffer is full: all PUBLISH packets are held back, QoS 0 too."""

    connection: Hashable

    def __attrs_post_init__(self) -> None:
        check_connection("ConnectionCongested", self.connection)


@value
class ConnectionWritable:
    """The connection's write buffer has room again."""

    connection: Hashable

    def __attrs_post_init__(self) -> None:
        check_connection("ConnectionWritable", self.connection)


# ---------------------------------------------------------------- what the host itself does


@value
class MessagePublished:
    """The host publishes: a bridge, `$SYS`, a scheduler.

    Attributes:
        message: What to publish.
        publisher: Client id in whose name it is published (for No Local), None for the host.
    """

    message: Message
    publisher: str | None = None

    def __attrs_post_init__(self) -> None:
        own = "MessagePublished"
        check_kind(own, "message", self.message, Message)
        check_message("MessagePublished.message", self.message)
        check_client_id(own, self.publisher, "publisher", optional=True)


@value
class SessionKicked:
    """The host closes a client's connection; the session lives on by its expiry interval.

    Attributes:
        client_id: Whose connection.
        reason_code: What DISCONNECT says: an error that a server may send in it.
    """

    client_id: str
    reason_code: ReasonCode = ReasonCode.ADMINISTRATIVE_ACTION

    def __attrs_post_init__(self) -> None:
        check_client_id("SessionKicked", self.client_id)
        check_code("SessionKicked", "reason_code", self.reason_code, SERVER_DISCONNECTS)


@value
class SessionDiscarded:
    """The host ends a session, connected or not; its will is due [NN-4.8]."""

    client_id: str

    def __attrs_post_init__(self) -> None:
        check_client_id("SessionDiscarded", self.client_id)


@value
class SessionExpirySet:
    """The host sets a session's expiry interval.

    Attributes:
        client_id: Whose session.
        session_expiry_interval: Seconds, 0 (ends at close, or now if parked) or None (never).
            For a parked session it counts from now.
    """

    client_id: str
    session_expiry_interval: float | None

    def __attrs_post_init__(self) -> None:
        own, interval = "SessionExpirySet", self.session_expiry_interval
        check_client_id(own, self.client_id)
        check_instant(own, "session_expiry_interval", interval, optional=True)
        if interval is not None and not 0 <= interval <= MAX_INTERVAL:
            reject(own, "session_expiry_interval", "must be 0 to 1e12 seconds", interval)


@value
class SubscriptionsAdded:
    """The host subscribes a session; retained messages follow as for SUBSCRIBE, without SUBACK."""

    client_id: str
    subscriptions: tuple[Subscription, ...]

    def __attrs_post_init__(self) -> None:
        own = "SubscriptionsAdded"
        check_client_id(own, self.client_id)
        check_tuple(own, "subscriptions", self.subscriptions, Subscription)
        for index, subscription in enumerate(self.subscriptions):
            check_subscription(f"{own}.subscriptions[{index}]", subscription)


@value
class SubscriptionsRemoved:
    """The host removes subscriptions of a session; what is queued stays [NN-12.7]."""

    client_id: str
    topic_filters: tuple[str, ...]

    def __attrs_post_init__(self) -> None:
        own = "SubscriptionsRemoved"
        check_client_id(own, self.client_id)
        check_filters(own, "topic_filters", self.topic_filters)


@value
class WillRevoked:
    """The host deletes a client's will unpublished, pending or not: a banned client's, say."""

    client_id: str

    def __attrs_post_init__(self) -> None:
        check_client_id("WillRevoked", self.client_id)


@value
class QueuePurged:
    """The host empties a session's queue, or part of it; deliveries that have begun stay.

    Attributes:
        client_id: Whose queue.
        topic_filter: Only messages whose topic matches; None: all.
        received_before: Only messages that arrived before this instant; None: all.

    *Cost* O(depth of the queue).
    """

    client_id: str
    topic_filter: str | None = None
    received_before: float | None = None

    def __attrs_post_init__(self) -> None:
        check_client_id("QueuePurged", self.client_id)
        if self.topic_filter is not None:
            check_filter("QueuePurged", "topic_filter", self.topic_filter)
        check_instant("QueuePurged", "received_before", self.received_before, optional=True)


@value
class LimitsChanged:
    """The host replaces the store's limits.

    Bounds on what is made hold from now on: a queue above its new bound shrinks at the next
    message that wants in, a smaller send window holds from the next connection on.
    """

    limits: SessionLimits

    def __attrs_post_init__(self) -> None:
        check_kind("LimitsChanged", "limits", self.limits, SessionLimits)


@value
class ServerStopping:
    """The host shuts down: every connection gets 0x8B and is closed; wills are due [NN-4.3]."""


@value
class HeartbeatPassed:
    """The host runs still: a durable store notes the instant, any other nothing.

    For `SessionStore.recover(…, cut_at_heartbeat=True)`, which takes the last one, or the last
    CONNECT if that was later, for the instant at which a crash cut all connections.
    """


# ---------------------------------------------------------------- a session without a store

_ROUTED = PUBLISH_REFUSALS | {ReasonCode.SUCCESS, ReasonCode.NO_MATCHING_SUBSCRIBERS}


@value
class MessageRouted:
    """The host has routed what `RouteMessage` asked for.

    Attributes:
        route_id: The action's number.
        reason_code: SUCCESS, NO_MATCHING_SUBSCRIBERS, or a refusal as in `PublishReceived`.
    """

    route_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS

    def __attrs_post_init__(self) -> None:
        check_kind("MessageRouted", "route_id", self.route_id, int)
        if self.reason_code is not ReasonCode.SUCCESS:
            check_code("MessageRouted", "reason_code", self.reason_code, _ROUTED)


@value
class DeliverMessage:
    """The host's router hands a session a message to deliver."""

    delivery: Delivery

    def __attrs_post_init__(self) -> None:
        check_kind("DeliverMessage", "delivery", self.delivery, Delivery)
        check_delivery("DeliverMessage.delivery", self.delivery)


Event = (
    ClientConnected
    | PublishReceived
    | PubackReceived
    | PubrecReceived
    | PubrelReceived
    | PubcompReceived
    | SubscribeReceived
    | UnsubscribeReceived
    | PingReceived
    | DisconnectReceived
    | MalformedPacketReceived
    | ConnectionLost
    | ConnectionCongested
    | ConnectionWritable
    | MessagePublished
    | SessionKicked
    | SessionDiscarded
    | SessionExpirySet
    | SubscriptionsAdded
    | SubscriptionsRemoved
    | WillRevoked
    | QueuePurged
    | LimitsChanged
    | ServerStopping
    | HeartbeatPassed
    | MessageRouted
    | DeliverMessage
)
