"""Control packets as values, and the one error of this package.

A packet is what stands in the bytes: all fields and all properties of MQTT 5.0, None (or an empty
tuple) where a property is absent. MQTT 3.x uses the fields that it has.
"""

from __future__ import annotations

from enum import IntEnum, unique

from attrs import field

from mqtt_sessions._values import hidden_bytes, value
from mqtt_sessions.errors import MqttSessionsError
from mqtt_sessions.messages import Message, Will
from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode
from mqtt_sessions.subscriptions import Subscription

__all__ = [
    "Auth",
    "Connack",
    "Connect",
    "Disconnect",
    "Packet",
    "PacketType",
    "Pingreq",
    "Pingresp",
    "Puback",
    "Pubcomp",
    "Publish",
    "Pubrec",
    "Pubrel",
    "Suback",
    "Subscribe",
    "Unsuback",
    "Unsubscribe",
    "UserProperties",
    "WireError",
]

UserProperties = tuple[tuple[str, str], ...]


@unique
class PacketType(IntEnum):
    """Upper four bits of a packet's first byte. Spec: MQTT 5.0 §2.1.2."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class WireError(MqttSessionsError):
    """The peer sent bytes that the standard forbids; the connection has to be closed.

    It is the last item that `Decoder.feed` ever returns, and never raised by it.

    Attributes:
        reason_code: What DISCONNECT (or CONNACK, if CONNECT is at fault) says to a 5.0 peer.
        packet_type: The packet at fault, None if not even that is known.
        protocol_version: Of the connection, or the one in which a faulty CONNECT can be answered;
            None if there is none.

    Spec: MQTT 5.0 §4.13.1 [MQTT-4.13.1-1].
    """

    def __init__(
        self,
        reason_code: ReasonCode,
        problem: str,
        packet_type: PacketType | None = None,
        protocol_version: int | None = None,
    ) -> None:
        super().__init__(problem)
        self.reason_code = reason_code
        self.packet_type = packet_type
        self.protocol_version = protocol_version

    def __repr__(self) -> str:
        where = "" if self.packet_type is None else f", PacketType.{self.packet_type.name}"
        return f"WireError(ReasonCode.{self.reason_code.name}, {str(self)!r}{where})"


@value
class Connect:
    """CONNECT. Spec: MQTT 5.0 §3.1; MQTT 3.1.1 §3.1.

    Attributes:
        client_id: Empty if the client wants one assigned.
        protocol_version: 3 (MQTT 3.1), 4 (3.1.1) or 5.
        clean_start: Clean Start, or Clean Session of MQTT 3.x.
        keep_alive: Seconds, 0 to 65,535.
        will: The Will Message with its delay.
        user_name: As sent.
        password: As sent; never shown by `repr`.
        session_expiry_interval: Seconds; absent equals 0.
        receive_maximum: 1 to 65,535.
        maximum_packet_size: Bytes, 1 and above.
        topic_alias_maximum: Absent equals 0.
        request_response_information: Absent equals False.
        request_problem_information: Absent equals True.
        user_properties: Pairs, order kept.
        authentication_method: Name of the method.
        authentication_data: Only with a method; never shown by `repr`.
    """

    client_id: str
    protocol_version: int = 5
    clean_start: bool = True
    keep_alive: int = 0
    will: Will | None = None
    user_name: str | None = None
    password: bytes | None = field(default=None, repr=hidden_bytes)
    session_expiry_interval: int | None = None
    receive_maximum: int | None = None
    maximum_packet_size: int | None = None
    topic_alias_maximum: int | None = None
    request_response_information: bool | None = None
    request_problem_information: bool | None = None
    user_properties: UserProperties = ()
    authentication_method: str | None = None
    authentication_data: bytes | None = field(default=None, repr=hidden_bytes)


@value
class Connack:
    """CONNACK; a `ConnectReturnCode` in MQTT 3.x. Spec: MQTT 5.0 §3.2."""

    session_present: bool
    reason_code: ReasonCode | ConnectReturnCode
    session_expiry_interval: int | None = None
    receive_maximum: int | None = None
    maximum_qos: int | None = None
    retain_available: bool | None = None
    maximum_packet_size: int | None = None
    assigned_client_identifier: str | None = None
    topic_alias_maximum: int | None = None
    reason_string: str | None = None
    user_properties: UserProperties = ()
    wildcard_subscription_available: bool | None = None
    subscription_identifier_available: bool | None = None
    shared_subscription_available: bool | None = None
    server_keep_alive: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = field(default=None, repr=hidden_bytes)


@value
class Publish:
    """PUBLISH. Spec: MQTT 5.0 §3.3.

    Attributes:
        message: What is published, at the packet's QoS and RETAIN flag, with the Message Expiry
            Interval that stands in the packet. Decoded, it has the full topic name.
        packet_id: None at QoS 0 [MQTT-2.2.1-2].
        dup: DUP flag.
        topic_alias: As sent.
        subscription_ids: As sent; only a server may send any.
    """

    message: Message
    packet_id: int | None = None
    dup: bool = False
    topic_alias: int | None = None
    subscription_ids: tuple[int, ...] = ()


@value
class Puback:
    """PUBACK. Spec: MQTT 5.0 §3.4."""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    reason_string: str | None = None
    user_properties: UserProperties = ()


@value
class Pubrec:
    """PUBREC. Spec: MQTT 5.0 §3.5."""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    reason_string: str | None = None
    user_properties: UserProperties = ()


@value
class Pubrel:
    """PUBREL. Spec: MQTT 5.0 §3.6."""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    reason_string: str | None = None
    user_properties: UserProperties = ()


@value
class Pubcomp:
    """PUBCOMP. Spec: MQTT 5.0 §3.7."""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    reason_string: str | None = None
    user_properties: UserProperties = ()


@value
class Subscribe:
    """SUBSCRIBE; its Subscription Identifier stands in every subscription. MQTT 5.0 §3.8."""

    packet_id: int
    subscriptions: tuple[Subscription, ...]
    user_properties: UserProperties = ()


@value
class Suback:
    """SUBACK. Spec: MQTT 5.0 §3.9."""

    packet_id: int
    reason_codes: tuple[ReasonCode, ...]
    reason_string: str | None = None
    user_properties: UserProperties = ()


@value
class Unsubscribe:
    """UNSUBSCRIBE. Spec: MQTT 5.0 §3.10."""

    packet_id: int
    topic_filters: tuple[str, ...]
    user_properties: UserProperties = ()


@value
class Unsuback:
    """UNSUBACK; without codes in MQTT 3.x. Spec: MQTT 5.0 §3.11."""

    packet_id: int
    reason_codes: tuple[ReasonCode, ...] = ()
    reason_string: str | None = None
    user_properties: UserProperties = ()


@value
class Pingreq:
    """PINGREQ. Spec: MQTT 5.0 §3.12."""


@value
class Pingresp:
    """PINGRESP. Spec: MQTT 5.0 §3.13."""


@value
class Disconnect:
    """DISCONNECT. Spec: MQTT 5.0 §3.14.

    Attributes:
        reason_code: An int where a received code is none of the standard's [NN-4.4].
        session_expiry_interval: Only from a client; None: absent, which is not 0 [NN-1.4].
        reason_string: For people.
        user_properties: Pairs, order kept.
        server_reference: Only from a server.
    """

    reason_code: ReasonCode | int = ReasonCode.SUCCESS
    session_expiry_interval: int | None = None
    reason_string: str | None = None
    user_properties: UserProperties = ()
    server_reference: str | None = None


@value
class Auth:
    """AUTH; the method may be absent at 0x00 only. MQTT 5.0 only. Spec: MQTT 5.0 §3.15."""

    reason_code: ReasonCode = ReasonCode.SUCCESS
    authentication_method: str | None = None
    authentication_data: bytes | None = field(default=None, repr=hidden_bytes)
    reason_string: str | None = None
    user_properties: UserProperties = ()


Packet = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
