"""The standard's tables as data: flags, directions, reason codes, properties.

Spec: MQTT 5.0 §2.1.2, §2.1.3, §2.2.2.2, §2.4.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import NamedTuple

from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.wire.packets import PacketType

__all__ = [
    "CONNECT_RETURN_CODES",
    "FLAGS",
    "FROM_CLIENT",
    "FROM_SERVER",
    "LARGEST_REMAINING_LENGTH",
    "PROPERTIES",
    "PROPERTIES_OF",
    "REASON_CODES",
    "Kind",
    "Property",
    "Role",
]

LARGEST_REMAINING_LENGTH = 268_435_455


@unique
class Role(Enum):
    """Which side of a connection this is."""

    CLIENT = "client"
    SERVER = "server"


_T = PacketType

FROM_CLIENT = frozenset(
    {
        _T.CONNECT,
        _T.PUBLISH,
        _T.PUBACK,
        _T.PUBREC,
        _T.PUBREL,
        _T.PUBCOMP,
        _T.SUBSCRIBE,
        _T.UNSUBSCRIBE,
        _T.PINGREQ,
        _T.DISCONNECT,
        _T.AUTH,
    }
)
FROM_SERVER = frozenset(
    {
        _T.CONNACK,
        _T.PUBLISH,
        _T.PUBACK,
        _T.PUBREC,
        _T.PUBREL,
        _T.PUBCOMP,
        _T.SUBACK,
        _T.UNSUBACK,
        _T.PINGRESP,
        _T.DISCONNECT,
        _T.AUTH,
    }
)

_REQUESTS = (_T.PUBREL, _T.SUBSCRIBE, _T.UNSUBSCRIBE)

FLAGS: dict[PacketType, int] = {kind: 0b0010 if kind in _REQUESTS else 0 for kind in _T}
"""Lower four bits of the first byte [MQTT-2.1.3-1]; those of PUBLISH have meanings of their own."""


def _codes(*codes: int) -> frozenset[ReasonCode]:
    return frozenset(map(ReasonCode, codes))


_PUBACK = _codes(0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)
_PUBREL = _codes(0x00, 0x92)

REASON_CODES = {
    # MQTT-3.2.2-8
    _T.CONNACK: _codes(
        *(0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90),
        *(0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F),
    ),
    _T.PUBACK: _PUBACK,  # MQTT-3.4.2-1
    _T.PUBREC: _PUBACK,  # MQTT-3.5.2-1
    _T.PUBREL: _PUBREL,  # MQTT-3.6.2-1
    _T.PUBCOMP: _PUBREL,  # MQTT-3.7.2-1
    # MQTT-3.9.3-2
    _T.SUBACK: _codes(
        *(0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2),
    ),
    _T.UNSUBACK: _codes(0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91),  # MQTT-3.11.3-2
    # MQTT-3.14.2-1; 0x8C stands in the table of §2.4 only, and §4.12.1 needs it
    _T.DISCONNECT: _codes(
        *(0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90),
        *(0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0),
        *(0xA1, 0xA2),
    ),
    _T.AUTH: _codes(0x00, 0x18, 0x19),  # MQTT-3.15.2-1
}
"""The codes that each packet of MQTT 5.0 may carry, both directions together."""

CONNECT_RETURN_CODES = {
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: 0x01,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: 0x02,
    ReasonCode.SERVER_UNAVAILABLE: 0x03,
    ReasonCode.SERVER_BUSY: 0x03,
    ReasonCode.QUOTA_EXCEEDED: 0x03,
    ReasonCode.BAD_USER_NAME_OR_PASSWORD: 0x04,
    ReasonCode.NOT_AUTHORIZED: 0x05,
    ReasonCode.BANNED: 0x05,
}
"""What refuses an MQTT 3.x CONNECT; no other code is answered [3.1.1 MQTT-3.2.2-6]."""


@unique
class Kind(Enum):
    """How the value of a property is written."""

    BIT = "byte that is 0 or 1, an int"
    BOOLEAN = "byte that is 0 or 1, a bool"
    TWO_BYTES = "Two Byte Integer"
    FOUR_BYTES = "Four Byte Integer"
    VARIABLE = "Variable Byte Integer"
    TEXT = "UTF-8 Encoded String"
    TOPIC = "UTF-8 Encoded String without wildcards"
    BINARY = "Binary Data"
    PAIR = "UTF-8 String Pair"


class Property(NamedTuple):
    """A property: its field, its type, whether 0 is forbidden, whether it may be repeated."""

    name: str
    kind: Kind
    above_zero: bool = False
    repeats: bool = False


# Topic Alias 0 is refused by InboundAliases, with a code of its own.
PROPERTIES = {
    0x01: Property("payload_format_indicator", Kind.BIT),
    0x02: Property("message_expiry_interval", Kind.FOUR_BYTES),
    0x03: Property("content_type", Kind.TEXT),
    0x08: Property("response_topic", Kind.TOPIC),
    0x09: Property("correlation_data", Kind.BINARY),
    0x0B: Property("subscription_ids", Kind.VARIABLE, above_zero=True, repeats=True),
    0x11: Property("session_expiry_interval", Kind.FOUR_BYTES),
    0x12: Property("assigned_client_identifier", Kind.TEXT),
    0x13: Property("server_keep_alive", Kind.TWO_BYTES),
    0x15: Property("authentication_method", Kind.TEXT),
    0x16: Property("authentication_data", Kind.BINARY),
    0x17: Property("request_problem_information", Kind.BOOLEAN),
    0x18: Property("will_delay_interval", Kind.FOUR_BYTES),
    0x19: Property("request_response_information", Kind.BOOLEAN),
    0x1A: Property("response_information", Kind.TEXT),
    0x1C: Property("server_reference", Kind.TEXT),
    0x1F: Property("reason_string", Kind.TEXT),
    0x21: Property("receive_maximum", Kind.TWO_BYTES, above_zero=True),
    0x22: Property("topic_alias_maximum", Kind.TWO_BYTES),
    0x23: Property("topic_alias", Kind.TWO_BYTES),
    0x24: Property("maximum_qos", Kind.BIT),
    0x25: Property("retain_available", Kind.BOOLEAN),
    0x26: Property("user_properties", Kind.PAIR, repeats=True),
    0x27: Property("maximum_packet_size", Kind.FOUR_BYTES, above_zero=True),
    0x28: Property("wildcard_subscription_available", Kind.BOOLEAN),
    0x29: Property("subscription_identifier_available", Kind.BOOLEAN),
    0x2A: Property("shared_subscription_available", Kind.BOOLEAN),
}

_MESSAGE = (0x01, 0x02, 0x03, 0x08, 0x09, 0x26)
_ACK = (0x1F, 0x26)

PROPERTIES_OF = {
    "CONNECT": (0x11, 0x21, 0x27, 0x22, 0x19, 0x17, 0x26, 0x15, 0x16),
    "Will": (0x18, *_MESSAGE),
    "CONNACK": (
        *(0x11, 0x21, 0x24, 0x25, 0x27, 0x12, 0x22, 0x1F, 0x26, 0x28, 0x29, 0x2A, 0x13, 0x1A),
        *(0x1C, 0x15, 0x16),
    ),
    "PUBLISH": (*_MESSAGE, 0x23, 0x0B),
    "ack": _ACK,  # PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK
    "SUBSCRIBE": (0x0B, 0x26),
    "UNSUBSCRIBE": (0x26,),
    "DISCONNECT": (0x11, 0x1F, 0x26, 0x1C),
    "AUTH": (0x15, 0x16, 0x1F, 0x26),
}
"""Which properties each packet, and the Will Properties, may hold, in the order written."""
