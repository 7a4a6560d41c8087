"""The body of each packet, read: one function for each packet type.

All of them are strict and raise `WireError`; `Decoder` has checked type, flags and size before.

Spec: MQTT 5.0 §3; MQTT 3.1.1 §3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mqtt_sessions.messages import Message, Will
from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.topic_aliases import InboundAliases
from mqtt_sessions.topics import is_shared_filter
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
    WireError,
)
from mqtt_sessions.wire.properties import (
    malformed,
    protocol_error,
    read_binary,
    read_properties,
    read_text,
    read_two_bytes,
)
from mqtt_sessions.wire.tables import FLAGS, REASON_CODES

__all__ = ["PLAIN_ACKS", "READERS", "read_connect", "read_publish"]

_CODES = {code.value: code for code in ReasonCode}


# ---------------------------------------------------------------- CONNECT and CONNACK


def read_connect(body: bytes, version: int) -> Connect:
    """What follows the protocol level. Spec: MQTT 5.0 §3.1.2.3 to §3.1.3; MQTT 3.1.1 §3.1."""
    end = len(body)
    if end < 3:
        raise malformed("CONNECT is cut off")
    flags = body[0]
    if flags & 0x01 and version > 3:
        raise malformed("the reserved CONNECT flag is set [MQTT-3.1.2-3]")
    keep_alive = body[1] << 8 | body[2]
    position = 3
    found: dict[str, Any] = {}
    if version == 5:
        found, position = read_properties("CONNECT", body, position, end)
        if "authentication_data" in found and "authentication_method" not in found:
            raise protocol_error("Authentication Data without Authentication Method")
    client_id, position = read_text(body, position, end)
    will, position = _will(flags, body, position, version)
    user_name = password = None
    if flags & 0x40 and version == 4 and not flags & 0x80:
        raise malformed("a password without a user name [3.1.1 MQTT-3.1.2-22]")
    # MQTT 3.1 §3.1: the Remaining Length takes precedence over these two flags
    if flags & 0x80 and not (version == 3 and position == end):
        user_name, position = read_text(body, position, end)
    if flags & 0x40 and not (version == 3 and position == end):
        password, position = read_binary(body, position, end)
    if position != end:
        raise malformed("CONNECT is longer than its fields")
    return Connect(
        client_id,
        version,
        flags & 0x02 != 0,
        keep_alive,
        will,
        user_name,
        password,
        **found,
    )


def _will(flags: int, body: bytes, position: int, version: int) -> tuple[Will | None, int]:
    end = len(body)
    qos = flags >> 3 & 3
    if not flags & 0x04:
        if flags & 0x38 and version > 3:
            raise malformed("Will QoS or Will Retain without a will [MQTT-3.1.2-11]")
        return None, position
    if qos == 3:
        raise malformed("Will QoS is 3 [MQTT-3.1.2-12]")
    found: dict[str, Any] = {}
    if version == 5:
        found, position = read_properties("Will", body, position, end)
    topic_name, position = read_text(body, position, end)
    payload, position = read_binary(body, position, end)
    delay = found.pop("will_delay_interval", 0)
    return Will(Message(topic_name, payload, qos, flags & 0x20 != 0, **found), delay), position


def _connack(first: int, body: bytes, version: int, is_server: bool) -> Connack:
    if len(body) < 2:
        raise malformed("CONNACK is cut off")
    flags, code = body[0], body[1]
    if flags > 1 and version > 3:
        raise malformed("reserved CONNACK flags are set [MQTT-3.2.2-1]")
    session_present = flags == 1 and version > 3  # MQTT 3.1: the byte is not used
    # A server that does not know 5.0 answers a 5.0 client in the old format.
    if version < 5 or (len(body) == 2 and code):
        if len(body) != 2 or code > 5:
            raise malformed("CONNACK is not a return code [3.1.1 MQTT-3.2.2-6]")
        _check_session_present(session_present, code)
        return Connack(session_present, ConnectReturnCode(code))
    reason_code = _code(PacketType.CONNACK, code)
    _check_session_present(session_present, code)
    found, position = read_properties("CONNACK", body, 2, len(body))
    _check_end(body, position)
    return Connack(session_present, reason_code, **found)


def _check_session_present(session_present: bool, code: int) -> None:
    if session_present and code:
        raise protocol_error("Session Present with a refusal [MQTT-3.2.2-6]")


# ---------------------------------------------------------------- PUBLISH and its answers


def read_publish(
    first: int,
    data: bytes,
    position: int,
    end: int,
    version: int | None,
    aliases: InboundAliases,
) -> Publish:
    qos = first >> 1 & 3
    if qos == 3:
        raise malformed("QoS 3 [MQTT-3.3.1-4]")
    dup = first & 8 != 0
    if dup and not qos:
        # A sender must not [MQTT-3.3.1-2]; refusing it follows Mosquitto.
        raise malformed("DUP at QoS 0 [MQTT-3.3.1-2]")
    # Written out instead of read_text and read_two_bytes: this is where a busy broker's time goes.
    start = position + 2
    if start > end:
        raise malformed("PUBLISH ends before its topic name")
    position = start + (data[position] << 8 | data[position + 1])
    if position > end:
        raise malformed("a topic name is cut off")
    try:
        topic_name = data[start:position].decode()
    except UnicodeDecodeError:
        raise malformed("a topic name is not well-formed UTF-8 [MQTT-1.5.4-1]") from None
    if "\0" in topic_name:
        raise malformed("a topic name holds U+0000 [MQTT-1.5.4-2]")
    packet_id = None
    if qos:
        start = position
        position += 2
        if position > end:
            raise malformed("PUBLISH ends before its packet identifier")
        packet_id = data[start] << 8 | data[start + 1]
        if packet_id == 0:
            raise protocol_error("packet identifier 0")
    retain = first & 1 != 0
    if version != 5:
        return Publish(Message(topic_name, data[position:end], qos, retain), packet_id, dup)
    if position < end and data[position] == 0 and topic_name:  # no properties: the common case
        message = Message(topic_name, data[position + 1 : end], qos, retain)
        return Publish(message, packet_id, dup)
    found, position = read_properties("PUBLISH", data, position, end)
    get = found.get
    topic_alias = get("topic_alias")
    resolved = aliases.resolve(topic_name, topic_alias)
    if isinstance(resolved, ReasonCode):
        raise WireError(resolved, f"topic {topic_name!r} with topic alias {topic_alias!r}")
    message = Message(
        resolved,
        data[position:end],
        qos,
        retain,
        get("message_expiry_interval"),
        get("payload_format_indicator"),
        get("content_type"),
        get("response_topic"),
        get("correlation_data"),
        get("user_properties", ()),
    )
    return Publish(message, packet_id, dup, topic_alias, get("subscription_ids", ()))


_Acknowledgement = Puback | Pubrec | Pubrel | Pubcomp

_ACKS: dict[int, type[_Acknowledgement]] = {
    PacketType.PUBACK: Puback,
    PacketType.PUBREC: Pubrec,
    PacketType.PUBREL: Pubrel,
    PacketType.PUBCOMP: Pubcomp,
}
PLAIN_ACKS: dict[int, type[_Acknowledgement]] = {
    kind << 4 | FLAGS[PacketType(kind)]: packet for kind, packet in _ACKS.items()
}


def _ack(first: int, body: bytes, version: int, is_server: bool) -> Packet:
    """All but the shortest form, which `Decoder` reads by itself."""
    kind = PacketType(first >> 4)
    packet_id, position = _packet_id(body)
    if position == len(body):
        return _ACKS[kind](packet_id)
    if version < 5:
        raise malformed(f"{kind.name} is longer than its fields")
    reason_code = _code(kind, body[2])
    found: dict[str, Any] = {}
    if len(body) > 3:  # a Remaining Length below 4 leaves the Property Length out
        found, position = read_properties("ack", body, 3, len(body))
        _check_end(body, position)
    return _ACKS[kind](packet_id, reason_code, **found)


# ---------------------------------------------------------------- subscribing


def _subscribe(first: int, body: bytes, version: int, is_server: bool) -> Subscribe:
    packet_id, position = _packet_id(body)
    end = len(body)
    found: dict[str, Any] = {}
    if version == 5:
        found, position = read_properties("SUBSCRIBE", body, position, end)
    subscription_ids = found.get("subscription_ids", (None,))
    if len(subscription_ids) > 1:
        raise protocol_error("subscription_ids stands more than once in SUBSCRIBE")
    subscriptions = []
    while position < end:
        topic_filter, position = read_text(body, position, end)
        if position >= end:
            raise malformed("a topic filter without options")
        subscriptions.append(
            _subscription(topic_filter, body[position], version, subscription_ids[0])
        )
        position += 1
    if not subscriptions:
        raise protocol_error("SUBSCRIBE without a topic filter [MQTT-3.8.3-2]")
    return Subscribe(packet_id, tuple(subscriptions), found.get("user_properties", ()))


def _subscription(
    topic_filter: str, options: int, version: int, subscription_id: int | None
) -> Subscription:
    if version < 5:
        if options > 2:
            raise malformed("reserved bits or QoS 3 in SUBSCRIBE [3.1.1 MQTT-3.8.3-4]")
        return Subscription(topic_filter, options)
    if options & 0xC0:
        raise malformed("reserved subscription options are set [MQTT-3.8.3-5]")
    qos, retain_handling = options & 3, options >> 4 & 3
    if qos == 3 or retain_handling == 3:
        raise protocol_error("QoS 3 or Retain Handling 3 in SUBSCRIBE")
    no_local = options & 0x04 != 0
    if no_local and is_shared_filter(topic_filter):
        raise protocol_error("No Local on a shared subscription [MQTT-3.8.3-4]")
    return Subscription(
        topic_filter, qos, no_local, options & 0x08 != 0, retain_handling, subscription_id
    )


def _unsubscribe(first: int, body: bytes, version: int, is_server: bool) -> Unsubscribe:
    packet_id, position = _packet_id(body)
    end = len(body)
    found: dict[str, Any] = {}
    if version == 5:
        found, position = read_properties("UNSUBSCRIBE", body, position, end)
    topic_filters = []
    while position < end:
        topic_filter, position = read_text(body, position, end)
        topic_filters.append(topic_filter)
    if not topic_filters:
        raise protocol_error("UNSUBSCRIBE without a topic filter [MQTT-3.10.3-2]")
    return Unsubscribe(packet_id, tuple(topic_filters), **found)


def _suback(first: int, body: bytes, version: int, is_server: bool) -> Suback:
    packet_id, position = _packet_id(body)
    found: dict[str, Any] = {}
    if version == 5:
        found, position = read_properties("ack", body, position, len(body))
    codes = tuple([_code(PacketType.SUBACK, code) for code in body[position:]])
    if not codes:
        raise protocol_error("SUBACK without a code [MQTT-3.8.4-6]")
    if version < 5 and any(code > 2 and code != 0x80 for code in codes):
        raise protocol_error("a SUBACK code of MQTT 5.0 [3.1.1 MQTT-3.9.3-2]")
    return Suback(packet_id, codes, **found)


def _unsuback(first: int, body: bytes, version: int, is_server: bool) -> Unsuback:
    packet_id, position = _packet_id(body)
    if version < 5:
        _check_end(body, position)
        return Unsuback(packet_id)
    found, position = read_properties("ack", body, position, len(body))
    codes = tuple([_code(PacketType.UNSUBACK, code) for code in body[position:]])
    if not codes:
        raise protocol_error("UNSUBACK without a code [MQTT-3.11.3-1]")
    return Unsuback(packet_id, codes, **found)


# ---------------------------------------------------------------- the rest


def _empty(first: int, body: bytes, version: int, is_server: bool) -> Packet:
    _check_end(body, 0)
    return Pingreq() if first >> 4 == PacketType.PINGREQ else Pingresp()


def _disconnect(first: int, body: bytes, version: int, is_server: bool) -> Disconnect:
    if not body:
        return Disconnect()
    if version < 5:
        raise malformed("DISCONNECT is longer than its fields")
    if len(body) == 1:  # a Remaining Length below 2: no Property Length
        return Disconnect(_CODES.get(body[0], body[0]))
    found, position = read_properties("DISCONNECT", body, 1, len(body))
    _check_end(body, position)
    # MQTT-3.14.2-2, and Server Reference is a server's
    foreign = "server_reference" if is_server else "session_expiry_interval"
    if foreign in found:
        raise protocol_error(f"{foreign} came from the wrong side")
    # An undefined code is kept: it is no normal disconnection, so the will is due [NN-4.4]
    return Disconnect(_CODES.get(body[0], body[0]), **found)


def _auth(first: int, body: bytes, version: int, is_server: bool) -> Auth:
    code = ReasonCode.SUCCESS
    found: dict[str, Any] = {}
    if body:
        code = _code(PacketType.AUTH, body[0])
        found, position = read_properties("AUTH", body, 1, len(body))
        _check_end(body, position)
        if "authentication_method" not in found:
            raise protocol_error("AUTH without Authentication Method")
    # Table 3-11: only a server says success, only a client asks for re-authentication
    if code == (ReasonCode.SUCCESS if is_server else ReasonCode.RE_AUTHENTICATE):
        raise protocol_error(f"AUTH 0x{code:02X} came from the wrong side [MQTT-3.15.2-1]")
    return Auth(code, **found)


def _code(kind: PacketType, code: int) -> ReasonCode:
    reason_code = _CODES.get(code)
    if reason_code is None or reason_code not in REASON_CODES[kind]:
        raise protocol_error(f"0x{code:02X} is not a reason code of {kind.name}")
    return reason_code


def _packet_id(body: bytes) -> tuple[int, int]:
    packet_id, position = read_two_bytes(body, 0, len(body))
    if packet_id == 0:
        raise protocol_error("packet identifier 0")
    return packet_id, position


def _check_end(body: bytes, position: int) -> None:
    if position != len(body):
        raise malformed("the packet is longer than its fields")


READERS: dict[int, Callable[[int, bytes, int, bool], Packet]] = {
    PacketType.CONNACK: _connack,
    PacketType.PUBACK: _ack,
    PacketType.PUBREC: _ack,
    PacketType.PUBREL: _ack,
    PacketType.PUBCOMP: _ack,
    PacketType.SUBSCRIBE: _subscribe,
    PacketType.SUBACK: _suback,
    PacketType.UNSUBSCRIBE: _unsubscribe,
    PacketType.UNSUBACK: _unsuback,
    PacketType.PINGREQ: _empty,
    PacketType.PINGRESP: _empty,
    PacketType.DISCONNECT: _disconnect,
    PacketType.AUTH: _auth,
}
