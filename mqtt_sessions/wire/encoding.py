"""Packets in, bytes out; and actions in, bytes out, which is what a broker needs.

What is encoded is the host's, so an illegal value raises `InvalidValue`, not `WireError`. A field
that the protocol version has no room for is left out: the codes and properties of MQTT 5.0 where a
3.x client is served.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.topics import is_valid_filter
from mqtt_sessions.wire.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from mqtt_sessions.wire.properties import (
    variable_size,
    write_binary,
    write_property,
    write_property_list,
    write_text,
    write_two_bytes,
    write_variable,
)
from mqtt_sessions.wire.tables import (
    CONNECT_RETURN_CODES,
    FLAGS,
    LARGEST_REMAINING_LENGTH,
    REASON_CODES,
)

__all__ = [
    "BYTES",
    "encode",
    "encode_ack",
    "publish_properties",
    "refuse_connect",
    "remaining_length",
    "size_of",
    "write_topic_name",
]

_PROTOCOLS = {3: b"\0\6MQIsdp\3", 4: b"\0\4MQTT\4", 5: b"\0\4MQTT\5"}
BYTES = tuple([bytes((number,)) for number in range(256)])
"""Every single byte, made once: cheaper than making one for each packet."""

_FIRST_BYTES = {kind: bytes((kind << 4 | flags,)) for kind, flags in FLAGS.items()}


def encode(packet: Packet, protocol_version: int) -> bytes:
    """The bytes of one packet, from either side.

    Args:
        packet: What to send. A `Connect` is written in its own protocol version.
        protocol_version: Of the connection: 3, 4 or 5.

    Raises:
        InvalidValue: A value that the standard forbids, or that does not fit.

    *Cost* O(bytes).
    """
    write = _WRITERS.get(type(packet))
    if write is None or protocol_version not in _PROTOCOLS:
        raise InvalidValue(f"cannot encode {packet!r} in protocol version {protocol_version!r}")
    return write(packet, protocol_version)


def refuse_connect(protocol_version: int | None, reason_code: ReasonCode) -> bytes:
    """The CONNACK that refuses a CONNECT which never reached the session layer.

    Args:
        protocol_version: Of the CONNECT; `WireError.protocol_version` if it was faulty.
        reason_code: Why, 0x80 and above.

    Returns:
        CONNACK; nothing where the standard has no answer, and closing is all there is to do:
        before a CONNECT, and for most reasons in MQTT 3.x.

    Spec: MQTT 5.0 §3.1.4 [MQTT-3.1.4-2]; MQTT 3.1.1 §3.2.2.3 [3.1.1 MQTT-3.2.2-6].
    """
    if protocol_version == 5:
        return encode(Connack(False, reason_code), 5)
    code = CONNECT_RETURN_CODES.get(reason_code)
    if protocol_version is None or code is None:
        return b""
    return encode(Connack(False, ConnectReturnCode(code)), protocol_version)


def _frame(kind: PacketType, body: bytes) -> bytes:
    return _FIRST_BYTES[kind] + remaining_length(len(body)) + body


def remaining_length(length: int) -> bytes:
    """A Remaining Length; raises `InvalidValue` above 268,435,455."""
    if length < 0x80:
        return BYTES[length]
    if length > LARGEST_REMAINING_LENGTH:
        raise InvalidValue(f"a packet must not exceed 268435455 bytes, but has {length}")
    return write_variable("Remaining Length", length)


def _list(properties: bytes) -> bytes:
    return remaining_length(len(properties)) + properties


def _packet_id(packet_id: int | None) -> bytes:
    if isinstance(packet_id, int) and 1 <= packet_id <= 65_535:
        return packet_id.to_bytes(2, "big")
    raise InvalidValue(f"packet_id must be 1 to 65535, not {packet_id!r}")


def _reason_code(kind: PacketType, code: int) -> bytes:
    if code not in REASON_CODES[kind]:
        raise InvalidValue(f"{code!r} is not a reason code of {kind.name}")
    return BYTES[code]


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise InvalidValue(what)


# ---------------------------------------------------------------- CONNECT and CONNACK


def _connect(packet: Connect, protocol_version: int) -> bytes:
    version = packet.protocol_version
    _require(version in _PROTOCOLS, "Connect.protocol_version must be 3, 4 or 5")
    _require(
        packet.authentication_data is None or packet.authentication_method is not None,
        "Connect.authentication_data needs an authentication_method",
    )
    _require(
        version == 5 or packet.password is None or packet.user_name is not None,
        "Connect.password needs a user_name before MQTT 5.0 [3.1.1 MQTT-3.1.2-22]",
    )
    flags = 0x02 if packet.clean_start else 0
    written = [write_text("client_id", packet.client_id)]
    if packet.will is not None:
        message = packet.will.message
        flags |= 0x04 | _qos(message) << 3 | (0x20 if message.retain else 0)
        if version == 5:
            written.append(_list(_will_properties(packet.will)))
        written += [write_topic_name(message), write_binary("will payload", message.payload)]
    if packet.user_name is not None:
        flags |= 0x80
        written.append(write_text("user_name", packet.user_name))
    if packet.password is not None:
        flags |= 0x40
        written.append(write_binary("password", packet.password))
    head = [_PROTOCOLS[version], bytes((flags,)), write_two_bytes("keep_alive", packet.keep_alive)]
    if version == 5:
        head.append(_list(write_property_list("CONNECT", packet)))
    return _frame(PacketType.CONNECT, b"".join(head + written))


def _will_properties(will: Will) -> bytes:
    delay = will.will_delay_interval
    written = write_property(0x18, delay) if delay else b""
    return written + write_property_list("Will", will.message)


def _qos(message: Message) -> int:
    if message.qos not in (0, 1, 2):
        raise InvalidValue(f"qos must be 0, 1 or 2, not {message.qos!r}")
    return message.qos


def write_topic_name(message: Message) -> bytes:
    """A Topic Name with its length; raises `InvalidValue` if it is none."""
    topic_name = message.topic_name
    written = write_text("topic_name", topic_name)
    # All that `is_valid_topic` asks beyond what write_text has checked
    if not topic_name or "+" in topic_name or "#" in topic_name:
        raise InvalidValue(
            f"topic_name must be a topic name without wildcards [MQTT-4.7.0-1], not {topic_name!r}"
        )
    return written


def _connack(packet: Connack, version: int) -> bytes:
    code = packet.reason_code
    _require(
        not (packet.session_present and code),
        "Connack.session_present must be false beside a refusal [MQTT-3.2.2-6]",
    )
    present = b"\1" if packet.session_present and version > 3 else b"\0"
    if isinstance(code, ConnectReturnCode):
        # A server that knows 3.x only sends it to a 5.0 client too, but never to accept it.
        _require(version < 5 or code != 0, "Connack.reason_code must be a ReasonCode in MQTT 5.0")
        return _frame(PacketType.CONNACK, present + bytes((code,)))
    _require(version == 5, "Connack.reason_code must be a ConnectReturnCode before MQTT 5.0")
    body = present + _reason_code(PacketType.CONNACK, code)
    return _frame(PacketType.CONNACK, body + _list(write_property_list("CONNACK", packet)))


# ---------------------------------------------------------------- PUBLISH and its answers


def publish_properties(
    message: Message, message_expiry_interval: int | None, subscription_ids: tuple[int, ...]
) -> bytes:
    """Properties of a PUBLISH without their length and without an alias."""
    written = b""
    if message_expiry_interval is not None:
        written = write_property(0x02, message_expiry_interval)
    if message.payload_format_indicator is not None:
        written += write_property(0x01, message.payload_format_indicator)
    if message.content_type is not None:
        written += write_property(0x03, message.content_type)
    if message.response_topic is not None:
        written += write_property(0x08, message.response_topic)
    if message.correlation_data is not None:
        written += write_property(0x09, message.correlation_data)
    if message.user_properties:
        written += b"".join([write_property(0x26, pair) for pair in message.user_properties])
    if subscription_ids:
        written += b"".join([write_property(0x0B, number) for number in subscription_ids])
    return written


def _publish(packet: Publish, version: int) -> bytes:
    message = packet.message
    payload, qos = message.payload, _qos(message)
    if not isinstance(payload, bytes):
        raise InvalidValue("Message.payload must be bytes")
    first = 0x30 | qos << 1 | (1 if message.retain else 0)
    alias = packet.topic_alias if version == 5 else None
    is_alias_alone = alias is not None and message.topic_name == ""
    body = b"\0\0" if is_alias_alone else write_topic_name(message)
    if qos:
        body += _packet_id(packet.packet_id)
        if packet.dup:
            first |= 8
    elif packet.packet_id is not None or packet.dup:
        raise InvalidValue("packet_id must be None and dup false at QoS 0 [MQTT-2.2.1-2]")
    if version == 5:
        properties = publish_properties(
            message, message.message_expiry_interval, packet.subscription_ids
        )
        if alias is not None:
            _require(alias != 0, "topic_alias must not be 0 [MQTT-3.3.2-8]")
            properties = write_property(0x23, alias) + properties
        body += _list(properties)
    return BYTES[first] + remaining_length(len(body) + len(payload)) + body + payload


def size_of(delivery: Delivery, protocol_version: int) -> int:
    """Bytes of the PUBLISH packet that carries this delivery; made for `SessionStore(size_of=)`.

    Counts the packet identifier above QoS 0 and the Message Expiry Interval if the delivery has
    one, and no topic alias: an alias that `Encoder` uses never makes a packet larger than a
    maximum that this size fits into. Pure and total.

    *Cost* O(length of the texts that are not ASCII, number of properties).

    Spec: MQTT 5.0 §3.1.2.11.4 [MQTT-3.1.2-24].
    """
    message = delivery.message
    size = 2 + _text_size(message.topic_name) + len(message.payload) + (2 if delivery.qos else 0)
    if protocol_version == 5:
        properties = 0 if delivery.message_expiry_interval is None else 5
        if message.payload_format_indicator is not None:
            properties += 2
        for text in (message.content_type, message.response_topic):
            if text is not None:
                properties += 3 + _text_size(text)
        if message.correlation_data is not None:
            properties += 3 + len(message.correlation_data)
        for name, text in message.user_properties:
            properties += 5 + _text_size(name) + _text_size(text)
        for subscription_id in delivery.subscription_ids:
            properties += 1 + variable_size(subscription_id)
        size += variable_size(properties) + properties
    return 1 + variable_size(size) + size


def _text_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def encode_ack(kind: PacketType, packet_id: int, reason_code: ReasonCode, version: int) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP without properties."""
    written = _packet_id(packet_id)
    if version < 5 or not reason_code:
        # Code and Property Length may be left out for 0x00, MQTT 5.0 §3.4.2.1
        return _FIRST_BYTES[kind] + b"\2" + written
    return _FIRST_BYTES[kind] + b"\3" + written + _reason_code(kind, reason_code)


def _ack(kind: PacketType) -> Callable[[Any, int], bytes]:
    def write(packet: Puback | Pubrec | Pubrel | Pubcomp, version: int) -> bytes:
        if version < 5 or (packet.reason_string is None and not packet.user_properties):
            return encode_ack(kind, packet.packet_id, packet.reason_code, version)
        body = _packet_id(packet.packet_id) + _reason_code(kind, packet.reason_code)
        return _frame(kind, body + _list(write_property_list("ack", packet)))

    return write


# ---------------------------------------------------------------- subscribing


def _subscribe(packet: Subscribe, version: int) -> bytes:
    subscriptions = packet.subscriptions
    _require(bool(subscriptions), "Subscribe.subscriptions must not be empty [MQTT-3.8.3-2]")
    written = [_packet_id(packet.packet_id)]
    if version == 5:
        subscription_id = subscriptions[0].subscription_id
        _require(
            all(item.subscription_id == subscription_id for item in subscriptions),
            "the subscriptions of one SUBSCRIBE must have one subscription_id",
        )
        properties = b"" if subscription_id is None else write_property(0x0B, subscription_id)
        properties += b"".join([write_property(0x26, pair) for pair in packet.user_properties])
        written.append(_list(properties))
    for item in subscriptions:
        written += [_topic_filter(item.topic_filter), BYTES[_options(item, version)]]
    return _frame(PacketType.SUBSCRIBE, b"".join(written))


def _options(item: Subscription, version: int) -> int:
    _require(item.qos in (0, 1, 2), "Subscription.qos must be 0, 1 or 2")
    if version < 5:
        return item.qos
    _require(
        item.retain_handling in (0, 1, 2),
        "Subscription.retain_handling must be 0, 1 or 2",
    )
    _require(
        not (item.no_local and item.topic_filter.startswith("$share/")),
        "Subscription.no_local must be false for a shared subscription [MQTT-3.8.3-4]",
    )
    options = item.qos | item.retain_handling << 4
    return options | (0x04 if item.no_local else 0) | (0x08 if item.retain_as_published else 0)


def _topic_filter(topic_filter: str) -> bytes:
    written = write_text("topic_filter", topic_filter)
    if not is_valid_filter(topic_filter):
        raise InvalidValue(f"topic_filter must be well formed [MQTT-4.7.1-1], not {topic_filter!r}")
    return written


def _unsubscribe(packet: Unsubscribe, version: int) -> bytes:
    _require(bool(packet.topic_filters), "Unsubscribe.topic_filters must not be empty")
    written = [_packet_id(packet.packet_id)]
    if version == 5:
        written.append(_list(write_property_list("UNSUBSCRIBE", packet)))
    written += map(_topic_filter, packet.topic_filters)
    return _frame(PacketType.UNSUBSCRIBE, b"".join(written))


_OLD_SUBACK_CODES = {3: (0x00, 0x01, 0x02), 4: (0x00, 0x01, 0x02, 0x80)}


def _suback(packet: Suback, version: int) -> bytes:
    codes = packet.reason_codes
    _require(bool(codes), "Suback.reason_codes must not be empty [MQTT-3.8.4-6]")
    body = _packet_id(packet.packet_id)
    if version < 5:
        # 3.1.1 MQTT-3.9.3-2; MQTT 3.1 knows no failure at all
        allowed = _OLD_SUBACK_CODES[version]
        _require(
            all(code in allowed for code in codes),
            f"Suback.reason_codes must be among {allowed} in protocol version {version}",
        )
        return _frame(PacketType.SUBACK, body + bytes(codes))
    body += _list(write_property_list("ack", packet))
    written = [_reason_code(PacketType.SUBACK, code) for code in codes]
    return _frame(PacketType.SUBACK, body + b"".join(written))


def _unsuback(packet: Unsuback, version: int) -> bytes:
    body = _packet_id(packet.packet_id)
    if version < 5:
        return _frame(PacketType.UNSUBACK, body)
    _require(bool(packet.reason_codes), "Unsuback.reason_codes must not be empty [MQTT-3.11.3-1]")
    body += _list(write_property_list("ack", packet))
    written = [_reason_code(PacketType.UNSUBACK, code) for code in packet.reason_codes]
    return _frame(PacketType.UNSUBACK, body + b"".join(written))


# ---------------------------------------------------------------- the rest


def _pingreq(packet: Pingreq, version: int) -> bytes:
    return b"\xc0\0"


def _pingresp(packet: Pingresp, version: int) -> bytes:
    return b"\xd0\0"


def _disconnect(packet: Disconnect, version: int) -> bytes:
    if version < 5:
        return b"\xe0\0"
    code = _reason_code(PacketType.DISCONNECT, packet.reason_code)
    properties = write_property_list("DISCONNECT", packet)
    if properties:
        return _frame(PacketType.DISCONNECT, code + _list(properties))
    return _frame(PacketType.DISCONNECT, code if packet.reason_code else b"")


def _auth(packet: Auth, version: int) -> bytes:
    _require(version == 5, "AUTH exists in MQTT 5.0 only")
    code = _reason_code(PacketType.AUTH, packet.reason_code)
    properties = write_property_list("AUTH", packet)
    if not packet.reason_code and not properties:
        return b"\xf0\0"
    _require(packet.authentication_method is not None, "AUTH needs an authentication_method")
    return _frame(PacketType.AUTH, code + _list(properties))


_WRITERS: dict[type[Packet], Callable[[Any, int], bytes]] = {
    Connect: _connect,
    Connack: _connack,
    Publish: _publish,
    Puback: _ack(PacketType.PUBACK),
    Pubrec: _ack(PacketType.PUBREC),
    Pubrel: _ack(PacketType.PUBREL),
    Pubcomp: _ack(PacketType.PUBCOMP),
    Subscribe: _subscribe,
    Suback: _suback,
    Unsubscribe: _unsubscribe,
    Unsuback: _unsuback,
    Pingreq: _pingreq,
    Pingresp: _pingresp,
    Disconnect: _disconnect,
    Auth: _auth,
}
