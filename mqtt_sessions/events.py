"""What goes in: everything that can happen to a session, as values named in the past.

`connection` is any hashable that the host chose for a network connection. What a host builds
rarely is validated here and raises `InvalidValue`; what a peer's packets say is not, because a
peer's fault never raises: the outcome holds the answer with its reason code.
"""

from __future__ import annotations

from collections.abc import Hashable

from mqtt_sessions._values import value
from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.policy import ExpiryPolicy, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.topics import is_shared_filter, is_valid_filter, is_valid_topic

__all__ = [
    "ClientConnected",
    "ConnectionCongested",
    "ConnectionLost",
    "ConnectionWritable",
    "DeliverMessage",
    "DisconnectReceived",
    "Event",
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

_UINT32_MAX = 0xFFFFFFFF
_SUBSCRIPTION_ID_MAX = 268_435_455


def _require(condition: bool, what: str, given: object) -> None:
    if not condition:
        raise InvalidValue(f"{what}, not {given!r}")


def _is_int(number: object, low: int, high: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and low <= number <= high


def _require_client_id(owner: str, client_id: object) -> None:
    _require(
        isinstance(client_id, str) and client_id != "",
        f"{owner}.client_id must be a non-empty string",
        client_id,
    )


def check_message(owner: str, message: Message) -> None:
    """Raise `InvalidValue` unless the host may publish this message."""
    _require(isinstance(message, Message), f"{owner} must be a Message", message)
    _require(
        isinstance(message.topic_name, str) and is_valid_topic(message.topic_name),
        f"{owner}.topic_name must be a topic name without wildcards [MQTT-4.7.0-1]",
        message.topic_name,
    )
    _require(
        isinstance(message.payload, bytes),
        f"{owner}.payload must be bytes",
        type(message.payload).__name__,
    )
    _require(_is_int(message.qos, 0, 2), f"{owner}.qos must be 0, 1 or 2", message.qos)
    _require(
        isinstance(message.retain, bool), f"{owner}.retain must be true or false", message.retain
    )
    interval = message.message_expiry_interval
    _require(
        interval is None or _is_int(interval, 0, _UINT32_MAX),
        f"{owner}.message_expiry_interval must be None or 0 to 4294967295 seconds",
        interval,
    )


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
        try:
            hash(self.connection)
        except TypeError:
            raise InvalidValue(f"{own}.connection must be hashable") from None
        _require(
            isinstance(self.client_id, str), f"{own}.client_id must be a string", self.client_id
        )
        _require(
            self.protocol_version in (3, 4, 5),
            f"{own}.protocol_version must be 3, 4 or 5",
            self.protocol_version,
        )
        _require(
            isinstance(self.clean_start, bool),
            f"{own}.clean_start must be true or false",
            self.clean_start,
        )
        for name, high in _CONNECT_NUMBERS:
            number = getattr(self, name)
            _require(
                number is None or _is_int(number, 0, high),
                f"{own}.{name} must be None or 0 to {high}",
                number,
            )
            _require(
                number is None or self.protocol_version == 5,
                f"{own}.{name} exists in MQTT 5.0 only and must be None",
                number,
            )
        _require(
            _is_int(self.keep_alive, 0, 65_535),
            f"{own}.keep_alive must be 0 to 65535 seconds",
            self.keep_alive,
        )
        if self.will is not None:
            self._check_will(own, self.will)
        assigned = self.assigned_client_id
        if assigned is not None:
            _require(
                self.client_id == "" and isinstance(assigned, str) and assigned != "",
                f"{own}.assigned_client_id must be a non-empty string beside an empty client_id",
                assigned,
            )
        for name, kind in (("policy", ExpiryPolicy), ("limits", SessionLimits), ("principal", str)):
            given = getattr(self, name)
            _require(
                given is None or isinstance(given, kind),
                f"{own}.{name} must be None or of type {kind.__name__}",
                given,
            )

    def _check_will(self, own: str, will: Will) -> None:
        _require(isinstance(will, Will), f"{own}.will must be None or a Will", will)
        message = will.message
        _require(
            _is_int(message.qos, 0, 2), f"{own}.will.message.qos must be 0, 1 or 2", message.qos
        )
        _require(
            isinstance(message.topic_name, str),
            f"{own}.will.message.topic_name must be a string",
            message.topic_name,
        )
        _require(
            isinstance(message.payload, bytes),
            f"{own}.will.message.payload must be bytes",
            type(message.payload).__name__,
        )
        delay = will.will_delay_interval
        _require(
            _is_int(delay, 0, _UINT32_MAX) and (delay == 0 or self.protocol_version == 5),
            f"{own}.will.will_delay_interval must be 0 to 4294967295, and 0 before MQTT 5.0",
            delay,
        )


_CONNECT_NUMBERS = (
    ("session_expiry_interval", _UINT32_MAX),
    ("receive_maximum", 65_535),
    ("maximum_packet_size", _UINT32_MAX),
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
            0x97), or None where it may pass.

    Spec: MQTT 5.0 §3.8.
    """

    connection: Hashable
    packet_id: int
    subscriptions: tuple[Subscription, ...]
    refusals: tuple[ReasonCode | None, ...] = ()

    def __attrs_post_init__(self) -> None:
        _check_refusals("SubscribeReceived", self.refusals, len(self.subscriptions))


@value
class UnsubscribeReceived:
    """An UNSUBSCRIBE from a client; `refusals` as in `SubscribeReceived`. Spec: MQTT 5.0 §3.10."""

    connection: Hashable
    packet_id: int
    topic_filters: tuple[str, ...]
    refusals: tuple[ReasonCode | None, ...] = ()

    def __attrs_post_init__(self) -> None:
        _check_refusals("UnsubscribeReceived", self.refusals, len(self.topic_filters))


def _check_refusals(owner: str, refusals: tuple[ReasonCode | None, ...], entries: int) -> None:
    if not refusals:
        return
    _require(
        len(refusals) == entries,
        f"{owner}.refusals must be empty or hold one entry for each of {entries} filters",
        len(refusals),
    )
    for refusal in refusals:
        _require(
            refusal is None or (isinstance(refusal, ReasonCode) and refusal >= 0x80),
            f"{owner}.refusals must hold None or reason codes of 0x80 and above",
            refusal,
        )


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
        _require(
            isinstance(self.reason_code, ReasonCode) and self.reason_code >= 0x80,
            "MalformedPacketReceived.reason_code must be a ReasonCode of 0x80 and above",
            self.reason_code,
        )


@value
class ConnectionLost:
    """The network connection is gone; each `ClientConnected` is paired with exactly one."""

    connection: Hashable


@value
class ConnectionCongested:
    """The connection's write buffer is full: all PUBLISH packets are held back, QoS 0 too."""

    connection: Hashable


@value
class ConnectionWritable:
    """The connection's write buffer has room again."""

    connection: Hashable


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
        check_message("MessagePublished.message", self.message)


@value
class SessionKicked:
    """The host closes a client's connection; the session lives on by its expiry interval.

    Attributes:
        client_id: Whose connection.
        reason_code: What DISCONNECT says, 0x80 and above.
    """

    client_id: str
    reason_code: ReasonCode = ReasonCode.ADMINISTRATIVE_ACTION

    def __attrs_post_init__(self) -> None:
        _require_client_id("SessionKicked", self.client_id)
        _require(
            isinstance(self.reason_code, ReasonCode) and self.reason_code >= 0x80,
            "SessionKicked.reason_code must be a ReasonCode of 0x80 and above",
            self.reason_code,
        )


@value
class SessionDiscarded:
    """The host ends a session, connected or not; its will is due [NN-4.8]."""

    client_id: str

    def __attrs_post_init__(self) -> None:
        _require_client_id("SessionDiscarded", self.client_id)


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
        _require_client_id("SessionExpirySet", self.client_id)
        interval = self.session_expiry_interval
        _require(
            interval is None
            or (
                isinstance(interval, (int, float))
                and not isinstance(interval, bool)
                and 0 <= interval < float("inf")
            ),
            "SessionExpirySet.session_expiry_interval must be None or seconds of 0 and above",
            interval,
        )


@value
class SubscriptionsAdded:
    """The host subscribes a session; retained messages follow as for SUBSCRIBE, without SUBACK."""

    client_id: str
    subscriptions: tuple[Subscription, ...]

    def __attrs_post_init__(self) -> None:
        own = "SubscriptionsAdded"
        _require_client_id(own, self.client_id)
        for index, subscription in enumerate(self.subscriptions):
            _check_subscription(f"{own}.subscriptions[{index}]", subscription)


def _check_subscription(owner: str, subscription: Subscription) -> None:
    _require(
        isinstance(subscription, Subscription), f"{owner} must be a Subscription", subscription
    )
    topic_filter = subscription.topic_filter
    _require(
        isinstance(topic_filter, str) and is_valid_filter(topic_filter),
        f"{owner}.topic_filter must be a well-formed topic filter [MQTT-4.7.1-1]",
        topic_filter,
    )
    _require(
        not is_shared_filter(topic_filter),
        f"{owner}.topic_filter must not be a shared subscription, which is not supported yet",
        topic_filter,
    )
    _require(_is_int(subscription.qos, 0, 2), f"{owner}.qos must be 0, 1 or 2", subscription.qos)
    _require(
        _is_int(subscription.retain_handling, 0, 2),
        f"{owner}.retain_handling must be 0, 1 or 2",
        subscription.retain_handling,
    )
    subscription_id = subscription.subscription_id
    _require(
        subscription_id is None or _is_int(subscription_id, 1, _SUBSCRIPTION_ID_MAX),
        f"{owner}.subscription_id must be None or 1 to 268435455",
        subscription_id,
    )


@value
class SubscriptionsRemoved:
    """The host removes subscriptions of a session; what is queued stays [NN-12.7]."""

    client_id: str
    topic_filters: tuple[str, ...]

    def __attrs_post_init__(self) -> None:
        _require_client_id("SubscriptionsRemoved", self.client_id)


@value
class WillRevoked:
    """The host deletes a client's will unpublished, pending or not: a banned client's, say."""

    client_id: str

    def __attrs_post_init__(self) -> None:
        _require_client_id("WillRevoked", self.client_id)


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
        _require_client_id("QueuePurged", self.client_id)
        _require(
            self.topic_filter is None or is_valid_filter(self.topic_filter),
            "QueuePurged.topic_filter must be None or a well-formed topic filter",
            self.topic_filter,
        )


@value
class LimitsChanged:
    """The host replaces the store's limits.

    Bounds on what is made hold from now on: a queue above its new bound shrinks at the next
    message that wants in, a smaller send window holds from the next connection on.
    """

    limits: SessionLimits

    def __attrs_post_init__(self) -> None:
        _require(
            isinstance(self.limits, SessionLimits),
            "LimitsChanged.limits must be a SessionLimits",
            self.limits,
        )


@value
class ServerStopping:
    """The host shuts down: every connection gets 0x8B and is closed; wills are due [NN-4.3]."""


# ---------------------------------------------------------------- a session without a store


@value
class MessageRouted:
    """The host has routed what `RouteMessage` asked for.

    Attributes:
        route_id: The action's number.
        reason_code: SUCCESS, NO_MATCHING_SUBSCRIBERS, or a refusal of 0x80 and above.
    """

    route_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS


@value
class DeliverMessage:
    """The host's router hands a session a message to deliver."""

    delivery: Delivery

    def __attrs_post_init__(self) -> None:
        _require(
            isinstance(self.delivery, Delivery),
            "DeliverMessage.delivery must be a Delivery",
            self.delivery,
        )
        check_message("DeliverMessage.delivery.message", self.delivery.message)
        _require(
            _is_int(self.delivery.qos, 0, 2),
            "DeliverMessage.delivery.qos must be 0, 1 or 2",
            self.delivery.qos,
        )


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
    | MessageRouted
    | DeliverMessage
)
