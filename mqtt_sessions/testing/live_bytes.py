"""Events as the bytes that a client sends, the forbidden ones too.

`mqtt_sessions.wire` refuses to encode what the standard forbids. Whoever tests a server has to send
just that: a wildcard in a topic name, an ill-formed filter, identifier 0, QoS 3. So this encoder
writes whatever fits into the field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mqtt_sessions.errors import InvalidState, InvalidValue
from mqtt_sessions.events import (
    ClientConnected,
    DisconnectReceived,
    Event,
    MalformedPacketReceived,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    SubscribeReceived,
    UnsubscribeReceived,
)
from mqtt_sessions.messages import Message
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.wire import PacketType
from mqtt_sessions.wire.encoding import publish_properties, remaining_length

__all__ = ["PINGREQ", "bytes_of"]

PINGREQ = b"\xc0\0"
_PROTOCOLS = {3: b"\0\6MQIsdp\3", 4: b"\0\4MQTT\4", 5: b"\0\4MQTT\5"}

_FAULTS: dict[ReasonCode, Callable[[int], bytes]] = {
    # a PUBLISH with both QoS bits set [MQTT-3.3.1-4]
    ReasonCode.MALFORMED_PACKET: lambda version: _frame(
        0x36, b"\0\1a\0\1" + (b"\0" if version == 5 else b"")
    ),
    # a SUBSCRIBE without any filter [MQTT-3.8.3-2]
    ReasonCode.PROTOCOL_ERROR: lambda version: _frame(
        0x82, b"\0\1" + (b"\0" if version == 5 else b"")
    ),
}
"""What a client sends that is at fault in the way of a code."""


def bytes_of(event: Event, version: int) -> bytes:
    """The packet that a client's event tells of.

    Args:
        event: What a client does; `MalformedPacketReceived` with 0x81 and 0x82 are a PUBLISH with
            QoS 3 and a SUBSCRIBE without filters.
        version: The connection's protocol version.

    Raises:
        InvalidState: The event is the host's own, or carries the host's verdict: a broker behind a
            socket has no door for it.
        InvalidValue: It does not fit into the packet's fields.
    """
    write = _WRITERS.get(type(event))
    if write is None:
        raise InvalidState(f"{type(event).__name__} is no packet that a client can send")
    for name in ("refusal", "refusals", "assigned_client_id", "principal", "policy", "limits"):
        if getattr(event, name, None):
            raise InvalidState(f"{type(event).__name__}.{name} is the host's, who is the broker")
    return write(event, version)


def _frame(first: int, body: bytes) -> bytes:
    return bytes((first,)) + remaining_length(len(body)) + body


def _list(properties: bytes, version: int) -> bytes:
    """Properties with their length, in the version that has them."""
    return remaining_length(len(properties)) + properties if version == 5 else b""


def _number(number: int | None, width: int = 2) -> bytes:
    return (number or 0).to_bytes(width, "big")


def _binary(content: bytes) -> bytes:
    if len(content) > 65_535:
        raise InvalidValue("a field of a packet has at most 65,535 bytes")
    return _number(len(content)) + content


def _text(text: str) -> bytes:
    return _binary(text.encode("utf-8", "surrogatepass"))


def _connect(event: ClientConnected, version: int) -> bytes:
    flags, fields = (0x02 if event.clean_start else 0), _text(event.client_id)
    if event.will is not None:
        message, delay = event.will.message, event.will.will_delay_interval
        flags |= 0x04 | message.qos << 3 | (0x20 if message.retain else 0)
        will = b"\x18" + _number(delay, 4) if delay else b""
        will += publish_properties(message, message.message_expiry_interval, ())
        fields += _list(will, version) + _text(message.topic_name) + _binary(message.payload)
    properties = b""
    for identifier, number, width in (
        (b"\x11", event.session_expiry_interval, 4),
        (b"\x21", event.receive_maximum, 2),
        (b"\x27", event.maximum_packet_size, 4),
    ):
        properties += b"" if number is None else identifier + _number(number, width)
    head = _PROTOCOLS[version] + bytes((flags,)) + _number(event.keep_alive)
    return _frame(0x10, head + _list(properties, version) + fields)


def _publish(event: PublishReceived, version: int) -> bytes:
    message: Message = event.message
    first = 0x30 | message.qos << 1 | (1 if message.retain else 0) | (8 if event.dup else 0)
    packet_id = _number(event.packet_id) if message.qos else b""
    interval = message.message_expiry_interval
    properties = publish_properties(message, interval, event.subscription_ids)
    head = _text(message.topic_name) + packet_id + _list(properties, version)
    return _frame(first, head + message.payload)


def _ack(first: int) -> Callable[[Any, int], bytes]:
    def write(event: PubackReceived | PubrecReceived, version: int) -> bytes:
        code = bytes((event.reason_code,)) if version == 5 and event.reason_code else b""
        return _frame(first, _number(event.packet_id) + code)

    return write


def _subscribe(event: SubscribeReceived, version: int) -> bytes:
    identifiers = {each.subscription_id for each in event.subscriptions}
    if len(identifiers) > 1:
        raise InvalidValue("a SUBSCRIBE packet has one Subscription Identifier for all its filters")
    properties = b""
    for number in identifiers - {None}:
        assert number is not None
        properties = b"\x0b" + remaining_length(number)
    body = _number(event.packet_id) + _list(properties, version)
    for each in event.subscriptions:
        options = each.qos
        if version == 5:
            options |= each.retain_handling << 4
            options |= (0x04 if each.no_local else 0) | (0x08 if each.retain_as_published else 0)
        body += _text(each.topic_filter) + bytes((options,))
    return _frame(0x82, body)


def _unsubscribe(event: UnsubscribeReceived, version: int) -> bytes:
    filters = b"".join(map(_text, event.topic_filters))
    return _frame(0xA2, _number(event.packet_id) + _list(b"", version) + filters)


def _ping(event: PingReceived, version: int) -> bytes:
    if not event.answer:
        raise InvalidState(
            "PingReceived.answer must be true: of what gets no answer this knows none"
        )
    return PINGREQ


def _disconnect(event: DisconnectReceived, version: int) -> bytes:
    if version < 5:
        return b"\xe0\0"
    interval = event.session_expiry_interval
    if interval is None:
        return _frame(0xE0, bytes((event.reason_code,)) if event.reason_code else b"")
    return _frame(0xE0, bytes((event.reason_code,)) + b"\5\x11" + _number(interval, 4))


def _malformed(event: MalformedPacketReceived, version: int) -> bytes:
    write = _FAULTS.get(event.reason_code)
    if write is None:
        raise InvalidState(f"no packet is known that is at fault with {event.reason_code!r}")
    return write(version)


_WRITERS: dict[type[Any], Callable[[Any, int], bytes]] = {
    ClientConnected: _connect,
    PublishReceived: _publish,
    PubackReceived: _ack(PacketType.PUBACK << 4),
    PubrecReceived: _ack(PacketType.PUBREC << 4),
    PubrelReceived: _ack(PacketType.PUBREL << 4 | 2),
    PubcompReceived: _ack(PacketType.PUBCOMP << 4),
    SubscribeReceived: _subscribe,
    UnsubscribeReceived: _unsubscribe,
    PingReceived: _ping,
    DisconnectReceived: _disconnect,
    MalformedPacketReceived: _malformed,
}
