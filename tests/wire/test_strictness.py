"""Every rule by which a decoder refuses bytes, with the code of the refusal."""

from __future__ import annotations

from typing import Any

import pytest

from mqtt_sessions import wire
from mqtt_sessions.errors import InvalidValue, MqttSessionsError
from mqtt_sessions.messages import Message, Will
from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode
from mqtt_sessions.subscriptions import Subscription

SERVER, CLIENT = wire.Role.SERVER, wire.Role.CLIENT
MALFORMED, PROTOCOL = ReasonCode.MALFORMED_PACKET, ReasonCode.PROTOCOL_ERROR


def packet(first: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes((first, len(body))) + body


def text(content: bytes | str) -> bytes:
    encoded = content.encode() if isinstance(content, str) else content
    return len(encoded).to_bytes(2, "big") + encoded


def listed(properties: bytes) -> bytes:
    assert len(properties) < 128
    return bytes((len(properties),)) + properties


def connect5(flags: int = 2, properties: bytes = b"", payload: bytes = text("c")) -> bytes:
    return packet(0x10, text("MQTT") + bytes((5, flags, 0, 0)) + listed(properties) + payload)


def connect(level: int, flags: int, payload: bytes = text("c")) -> bytes:
    name = "MQIsdp" if level == 3 else "MQTT"
    return packet(0x10, text(name) + bytes((level, flags, 0, 0)) + payload)


def publish5(properties: bytes, topic: str = "t", first: int = 0x30) -> bytes:
    return packet(first, text(topic) + listed(properties) + b"p")


def refused(
    data: bytes, version: int | None, role: wire.Role = SERVER, **options: Any
) -> wire.WireError:
    items = wire.Decoder(role, version, **options).feed(data)
    assert len(items) == 1
    assert isinstance(items[0], wire.WireError), items[0]
    return items[0]


def accepted(
    data: bytes, version: int | None, role: wire.Role = SERVER, **options: Any
) -> wire.Packet:
    items = wire.Decoder(role, version, **options).feed(data)
    assert len(items) == 1
    assert not isinstance(items[0], wire.WireError), items[0]
    return items[0]


EVERY = (3, 4, 5)
ANY_CONNECT = (None,)

# (what is wrong, bytes, versions, code)
FROM_CLIENT: list[tuple[str, bytes, tuple[int | None, ...], ReasonCode]] = [
    # fixed header
    ("type 0", packet(0x00, b""), (None, *EVERY), MALFORMED),
    ("flags of PUBACK", packet(0x41, b"\0\1"), EVERY, MALFORMED),
    ("flags of PUBREL", packet(0x60, b"\0\1"), EVERY, MALFORMED),
    ("DUP of PUBREL", packet(0x6A, b"\0\1"), (4, 5), MALFORMED),
    ("flags of SUBSCRIBE", packet(0x80, b"\0\1" + text("a") + b"\0"), EVERY, MALFORMED),
    ("DUP of SUBSCRIBE", packet(0x8A, b"\0\1" + text("a") + b"\0"), (4, 5), MALFORMED),
    ("flags of UNSUBSCRIBE", packet(0xA0, b"\0\1" + text("a")), EVERY, MALFORMED),
    ("flags of PINGREQ", packet(0xC1, b""), EVERY, MALFORMED),
    ("flags of DISCONNECT", packet(0xE1, b""), EVERY, MALFORMED),
    ("flags of AUTH", packet(0xF1, b""), (5,), MALFORMED),
    ("flags of CONNECT", bytes((0x11,)) + connect5()[1:], ANY_CONNECT, MALFORMED),
    ("long length", b"\xc0\x80\x80\x80\x80", EVERY, MALFORMED),
    ("padded length", b"\xc0\x80\x00", (5,), MALFORMED),
    ("body of PINGREQ", packet(0xC0, b"\0"), EVERY, MALFORMED),
    # order and direction
    ("PUBLISH first", packet(0x30, text("t")), (None,), PROTOCOL),
    ("PINGREQ first", packet(0xC0, b""), (None,), PROTOCOL),
    ("PUBACK first", packet(0x40, b"\0\1"), (None,), PROTOCOL),
    ("second CONNECT", connect5(), EVERY, PROTOCOL),
    ("CONNACK from a client", packet(0x20, b"\0\0\0"), EVERY, PROTOCOL),
    ("SUBACK from a client", packet(0x90, b"\0\1\0\0"), EVERY, PROTOCOL),
    ("UNSUBACK from a client", packet(0xB0, b"\0\1\0\0"), EVERY, PROTOCOL),
    ("PINGRESP from a client", packet(0xD0, b""), EVERY, PROTOCOL),
    ("AUTH in 3.x", packet(0xF0, b"\x18"), (3, 4), MALFORMED),
    # CONNECT
    ("no protocol name", packet(0x10, b"\0"), ANY_CONNECT, MALFORMED),
    ("no level", packet(0x10, text("MQTT")), ANY_CONNECT, MALFORMED),
    ("no flags", packet(0x10, text("MQTT") + b"\5"), ANY_CONNECT, MALFORMED),
    ("no keep alive", packet(0x10, text("MQTT") + b"\4\2\0"), ANY_CONNECT, MALFORMED),
    ("no properties", packet(0x10, text("MQTT") + b"\5\2\0\0"), ANY_CONNECT, MALFORMED),
    ("no client id", connect5(payload=b""), ANY_CONNECT, MALFORMED),
    ("no client id", connect(4, 2, b""), ANY_CONNECT, MALFORMED),
    ("reserved flag", connect5(3), ANY_CONNECT, MALFORMED),
    ("reserved flag", connect(4, 3), ANY_CONNECT, MALFORMED),
    ("Will QoS without will", connect5(0x08), ANY_CONNECT, MALFORMED),
    ("Will QoS without will", connect(4, 0x10), ANY_CONNECT, MALFORMED),
    ("Will Retain without will", connect5(0x20), ANY_CONNECT, MALFORMED),
    ("Will QoS 3", connect(4, 0x1C, text("c") + text("w") + text("p")), ANY_CONNECT, MALFORMED),
    ("no will properties", connect5(0x04), ANY_CONNECT, MALFORMED),
    ("no will topic", connect(4, 0x04), ANY_CONNECT, MALFORMED),
    ("no will payload", connect(4, 0x04, text("c") + text("w")), ANY_CONNECT, MALFORMED),
    (
        "will payload cut off",
        connect(4, 0x04, text("c") + text("w") + b"\0\5a"),
        ANY_CONNECT,
        MALFORMED,
    ),
    ("no user name", connect5(0x80), ANY_CONNECT, MALFORMED),
    ("no user name", connect(4, 0x80), ANY_CONNECT, MALFORMED),
    ("no password", connect5(0x40), ANY_CONNECT, MALFORMED),
    ("password alone", connect(4, 0x40, text("c") + text("p")), ANY_CONNECT, MALFORMED),
    ("trailing bytes", connect5(2, payload=text("c") + b"x"), ANY_CONNECT, MALFORMED),
    ("trailing bytes", connect(4, 2, text("c") + b"x"), ANY_CONNECT, MALFORMED),
    ("Receive Maximum 0", connect5(2, b"\x21\0\0"), ANY_CONNECT, PROTOCOL),
    ("Maximum Packet Size 0", connect5(2, b"\x27\0\0\0\0"), ANY_CONNECT, PROTOCOL),
    ("Request Problem Information 2", connect5(2, b"\x17\2"), ANY_CONNECT, PROTOCOL),
    ("Request Response Information 2", connect5(2, b"\x19\2"), ANY_CONNECT, PROTOCOL),
    ("data without method", connect5(2, b"\x16" + text("x")), ANY_CONNECT, PROTOCOL),
    ("twice", connect5(2, b"\x11\0\0\0\1" * 2), ANY_CONNECT, PROTOCOL),
    ("foreign property", connect5(2, b"\x1f" + text("why")), ANY_CONNECT, MALFORMED),
    ("unknown level", connect(6, 2), ANY_CONNECT, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION),
    (
        "unknown name",
        packet(0x10, text("HTTP") + b"\5\2\0\0"),
        ANY_CONNECT,
        ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
    ),
    # text
    ("surrogate", packet(0x30, text(b"\xed\xa0\x80")), (3, 4), MALFORMED),
    ("surrogate", packet(0x30, text(b"\xed\xa0\x80") + b"\0"), (5,), MALFORMED),
    ("overlong", packet(0x30, text(b"\xc0\x80")), (3, 4), MALFORMED),
    ("U+0000", packet(0x30, text("a\0b")), EVERY, MALFORMED),
    (
        "surrogate in a filter",
        packet(0x82, b"\0\1" + text(b"\xed\xbf\xbf") + b"\0"),
        (4,),
        MALFORMED,
    ),
    ("U+0000 in a filter", packet(0xA2, b"\0\1" + text("\0")), (4,), MALFORMED),
    # PUBLISH
    ("QoS 3", packet(0x36, text("t") + b"\0\1\0"), EVERY, MALFORMED),
    ("DUP at QoS 0", packet(0x38, text("t") + b"\0"), EVERY, MALFORMED),
    ("no topic", packet(0x30, b"\0"), EVERY, MALFORMED),
    ("topic cut off", packet(0x30, b"\0\5t"), EVERY, MALFORMED),
    ("no packet id", packet(0x32, text("t") + b"\0"), EVERY, MALFORMED),
    ("packet id 0", packet(0x32, text("t") + b"\0\0\0"), EVERY, PROTOCOL),
    ("no properties", packet(0x30, text("t")), (5,), MALFORMED),
    ("properties cut off", packet(0x30, text("t") + b"\5\1\1"), (5,), MALFORMED),
    ("padded property length", packet(0x30, text("t") + b"\x80\0"), (5,), MALFORMED),
    (
        "property length too long",
        packet(0x30, text("t") + b"\x80\x80\x80\x80\1"),
        (5,),
        MALFORMED,
    ),
    ("no topic and no alias", publish5(b"", ""), (5,), PROTOCOL),
    ("alias 0", publish5(b"\x23\0\0"), (5,), ReasonCode.TOPIC_ALIAS_INVALID),
    ("alias above the maximum", publish5(b"\x23\0\4"), (5,), ReasonCode.TOPIC_ALIAS_INVALID),
    ("unknown alias", publish5(b"\x23\0\1", ""), (5,), PROTOCOL),
    ("unknown property", publish5(b"\x7f\0"), (5,), MALFORMED),
    ("property above 127", publish5(b"\x81\1\0"), (5,), MALFORMED),
    ("foreign property", publish5(b"\x11\0\0\0\1"), (5,), MALFORMED),
    ("format twice", publish5(b"\1\1\1\1"), (5,), PROTOCOL),
    ("format 2", publish5(b"\1\2"), (5,), PROTOCOL),
    ("format missing", publish5(b"\1"), (5,), MALFORMED),
    ("expiry cut off", publish5(b"\2\0\0"), (5,), MALFORMED),
    ("alias cut off", publish5(b"\x23\0"), (5,), MALFORMED),
    ("content type cut off", publish5(b"\3\0\5a"), (5,), MALFORMED),
    ("content type without length", publish5(b"\3\0"), (5,), MALFORMED),
    ("correlation data cut off", publish5(b"\x09\0\5a"), (5,), MALFORMED),
    ("correlation data without length", publish5(b"\x09\0"), (5,), MALFORMED),
    ("user property without value", publish5(b"\x26" + text("a")), (5,), MALFORMED),
    ("response topic with wildcard", publish5(b"\x08" + text("a/+")), (5,), PROTOCOL),
    ("response topic empty", publish5(b"\x08" + text("")), (5,), PROTOCOL),
    ("subscription id 0", publish5(b"\x0b\0"), (5,), PROTOCOL),
    ("subscription id cut off", publish5(b"\x0b\x80"), (5,), MALFORMED),
    # acknowledgements
    ("no packet id", packet(0x40, b"\0"), EVERY, MALFORMED),
    ("packet id 0", packet(0x40, b"\0\0"), EVERY, PROTOCOL),
    ("packet id 0 with code", packet(0x50, b"\0\0\0"), (5,), PROTOCOL),
    ("a code in 3.x", packet(0x40, b"\0\1\0"), (3, 4), MALFORMED),
    ("undefined code", packet(0x40, b"\0\1\x55"), (5,), PROTOCOL),
    ("code of another packet", packet(0x62, b"\0\1\x80"), (5,), PROTOCOL),
    ("code of another packet", packet(0x70, b"\0\1\x10"), (5,), PROTOCOL),
    ("properties cut off", packet(0x40, b"\0\1\0\3\x1f"), (5,), MALFORMED),
    ("trailing bytes", packet(0x40, b"\0\1\0\0x"), (5,), MALFORMED),
    ("reason string twice", packet(0x40, b"\0\1\0\6\x1f\0\0\x1f\0\0"), (5,), PROTOCOL),
    # SUBSCRIBE and UNSUBSCRIBE
    ("packet id 0", packet(0x82, b"\0\0" + text("a") + b"\0"), (3, 4), PROTOCOL),
    ("no packet id", packet(0x82, b"\0"), EVERY, MALFORMED),
    ("no filter", packet(0x82, b"\0\1"), (3, 4), PROTOCOL),
    ("no filter", packet(0x82, b"\0\1\0"), (5,), PROTOCOL),
    ("no options", packet(0x82, b"\0\1" + text("a")), (3, 4), MALFORMED),
    ("no options", packet(0x82, b"\0\1\0" + text("a")), (5,), MALFORMED),
    ("QoS 3", packet(0x82, b"\0\1" + text("a") + b"\3"), (3, 4), MALFORMED),
    ("reserved bits", packet(0x82, b"\0\1" + text("a") + b"\4"), (3, 4), MALFORMED),
    ("QoS 3", packet(0x82, b"\0\1\0" + text("a") + b"\3"), (5,), PROTOCOL),
    ("Retain Handling 3", packet(0x82, b"\0\1\0" + text("a") + b"\x30"), (5,), PROTOCOL),
    ("reserved bits", packet(0x82, b"\0\1\0" + text("a") + b"\x40"), (5,), MALFORMED),
    ("reserved bits", packet(0x82, b"\0\1\0" + text("a") + b"\x80"), (5,), MALFORMED),
    (
        "No Local on shared",
        packet(0x82, b"\0\1\0" + text("$share/g/a") + b"\4"),
        (5,),
        PROTOCOL,
    ),
    ("subscription id 0", packet(0x82, b"\0\1\2\x0b\0" + text("a") + b"\0"), (5,), PROTOCOL),
    (
        "two subscription ids",
        packet(0x82, b"\0\1\4\x0b\1\x0b\1" + text("a") + b"\0"),
        (5,),
        PROTOCOL,
    ),
    ("no filter", packet(0xA2, b"\0\1"), (3, 4), PROTOCOL),
    ("no filter", packet(0xA2, b"\0\1\0"), (5,), PROTOCOL),
    ("filter cut off", packet(0xA2, b"\0\1\0\0\5a"), (5,), MALFORMED),
    ("foreign property", packet(0xA2, b"\0\1\2\x0b\1" + text("a")), (5,), MALFORMED),
    # DISCONNECT and AUTH
    ("body in 3.x", packet(0xE0, b"\0"), (3, 4), MALFORMED),
    ("trailing bytes", packet(0xE0, b"\0\0x"), (5,), MALFORMED),
    ("Server Reference", packet(0xE0, b"\0\4\x1c" + text("s")), (5,), PROTOCOL),
    ("AUTH without method", packet(0xF0, b"\x18\0"), (5,), PROTOCOL),
    ("AUTH without properties", packet(0xF0, b"\x18"), (5,), MALFORMED),
    ("AUTH success", packet(0xF0, b""), (5,), PROTOCOL),
    ("AUTH success", packet(0xF0, b"\0\4\x15" + text("m")), (5,), PROTOCOL),
    ("AUTH with a code of another", packet(0xF0, b"\1\4\x15" + text("m")), (5,), PROTOCOL),
    ("trailing bytes", packet(0xF0, b"\x18\4\x15" + text("m") + b"x"), (5,), MALFORMED),
]

FROM_SERVER: list[tuple[str, bytes, tuple[int, ...], ReasonCode]] = [
    ("CONNECT", connect5(), EVERY, PROTOCOL),
    ("SUBSCRIBE", packet(0x82, b"\0\1\0" + text("a") + b"\0"), EVERY, PROTOCOL),
    ("PINGREQ", packet(0xC0, b""), EVERY, PROTOCOL),
    ("CONNACK cut off", packet(0x20, b"\0"), EVERY, MALFORMED),
    ("CONNACK flags", packet(0x20, b"\2\0"), (4,), MALFORMED),
    ("CONNACK flags", packet(0x20, b"\2\0\0"), (5,), MALFORMED),
    ("CONNACK code", packet(0x20, b"\0\6"), (3, 4), MALFORMED),
    ("CONNACK length", packet(0x20, b"\0\0\0"), (3, 4), MALFORMED),
    ("CONNACK code", packet(0x20, b"\0\x55\0"), (5,), PROTOCOL),
    ("CONNACK without properties", packet(0x20, b"\0\0"), (5,), MALFORMED),
    ("CONNACK trailing", packet(0x20, b"\0\0\0x"), (5,), MALFORMED),
    ("Session Present and refused", packet(0x20, b"\1\5"), (4,), PROTOCOL),
    ("Session Present and refused", packet(0x20, b"\1\x87\0"), (5,), PROTOCOL),
    ("Maximum QoS 2", packet(0x20, b"\0\0\2\x24\2"), (5,), PROTOCOL),
    ("Receive Maximum 0", packet(0x20, b"\0\0\3\x21\0\0"), (5,), PROTOCOL),
    ("SUBACK without codes", packet(0x90, b"\0\1"), (3, 4), PROTOCOL),
    ("SUBACK without codes", packet(0x90, b"\0\1\0"), (5,), PROTOCOL),
    ("SUBACK code of 5.0", packet(0x90, b"\0\1\x87"), (3, 4), PROTOCOL),
    ("SUBACK undefined code", packet(0x90, b"\0\1\0\3"), (5,), PROTOCOL),
    ("UNSUBACK with codes", packet(0xB0, b"\0\1\0"), (3, 4), MALFORMED),
    ("UNSUBACK without codes", packet(0xB0, b"\0\1\0"), (5,), PROTOCOL),
    ("UNSUBACK code", packet(0xB0, b"\0\1\0\1"), (5,), PROTOCOL),
    ("PINGRESP body", packet(0xD0, b"x"), EVERY, MALFORMED),
    ("expiry in DISCONNECT", packet(0xE0, b"\0\5\x11\0\0\0\1"), (5,), PROTOCOL),
    ("AUTH re-authenticate", packet(0xF0, b"\x19\4\x15" + text("m")), (5,), PROTOCOL),
]


@pytest.mark.parametrize(
    ("data", "version", "code"),
    [
        pytest.param(data, version, code, id=f"{version}-{data[0]:02X}-{what}")
        for what, data, versions, code in FROM_CLIENT
        for version in versions
    ],
)
def test_a_server_refuses(data: bytes, version: int | None, code: ReasonCode) -> None:
    error = refused(data, version, topic_alias_maximum=3)
    assert error.reason_code is code
    assert error.packet_type == (data[0] >> 4 or None)
    if version is not None:
        assert error.protocol_version == version
    assert isinstance(error, MqttSessionsError)


@pytest.mark.parametrize(
    ("data", "version", "code"),
    [
        pytest.param(data, version, code, id=f"{version}-{data[0]:02X}-{what}")
        for what, data, versions, code in FROM_SERVER
        for version in versions
    ],
)
def test_a_client_refuses(data: bytes, version: int, code: ReasonCode) -> None:
    assert refused(data, version, CLIENT).reason_code is code


# ---------------------------------------------------------------- what passes


@pytest.mark.parametrize("version", [3, 4])
def test_3_x_clients_may_pad_the_remaining_length(version: int) -> None:
    assert accepted(b"\xc0\x80\x00", version) == wire.Pingreq()


def test_a_connect_in_3_x_may_be_padded_too_but_not_in_5() -> None:
    old, new = connect(4, 2), connect5()
    padded = bytes((0x10, old[1] | 0x80, 0)) + old[2:]
    assert accepted(padded, None) == wire.Connect("c", 4)
    error = refused(bytes((0x10, new[1] | 0x80, 0)) + new[2:], None)
    assert (error.reason_code, error.protocol_version) == (MALFORMED, 5)


@pytest.mark.parametrize("first", [0x62, 0x6A])
def test_mqtt_3_1_sets_dup_on_pubrel(first: int) -> None:
    assert accepted(packet(first, b"\0\1"), 3) == wire.Pubrel(1)


def test_mqtt_3_1_sets_dup_on_subscribe_and_unsubscribe() -> None:
    subscribe = packet(0x8A, b"\0\1" + text("a") + b"\1")
    assert accepted(subscribe, 3) == wire.Subscribe(1, (Subscription("a", 1),))
    assert accepted(packet(0xAA, b"\0\1" + text("a")), 3) == wire.Unsubscribe(1, ("a",))


def test_in_mqtt_3_1_the_remaining_length_precedes_the_user_name_flags() -> None:
    assert accepted(connect(3, 0xC2), None) == wire.Connect("c", 3)
    half = accepted(connect(3, 0xC2, text("c") + text("u")), None)
    assert half == wire.Connect("c", 3, user_name="u")


def test_mqtt_3_1_uses_neither_the_reserved_flag_nor_will_flags_without_will() -> None:
    assert accepted(connect(3, 0x2B), None) == wire.Connect("c", 3)


def test_mqtt_5_allows_a_password_alone() -> None:
    data = connect5(0x42, payload=text("c") + text("p"))
    assert accepted(data, None) == wire.Connect("c", password=b"p")


def test_a_will_with_all_it_can_have() -> None:
    properties = b"\x18\0\0\0\x0a\1\1\2\0\0\0\x3c\3\0\1t\x08\0\1r\x09\0\1d\x26\0\1k\0\1v"
    payload = text("c") + listed(properties) + text("w") + text("bye")
    message = Message("w", b"bye", 1, True, 60, 1, "t", "r", b"d", (("k", "v"),))
    assert accepted(connect5(0x2E, payload=payload), None) == wire.Connect(
        "c", will=Will(message, 10)
    )


def test_u_feff_is_kept() -> None:
    got = accepted(packet(0x30, text(b"\xef\xbb\xbft")), 4)
    assert got == wire.Publish(Message("\ufefft"))


def test_subscription_identifiers_of_a_client_come_through_for_the_session_to_refuse() -> None:
    got = accepted(publish5(b"\x0b\1\x0b\1"), 5)
    assert got == wire.Publish(Message("t", b"p"), subscription_ids=(1, 1))


@pytest.mark.parametrize("topic", ["a/#", "+"])
@pytest.mark.parametrize("version", EVERY)
def test_wildcards_in_a_topic_name_come_through_for_the_session_to_refuse(
    topic: str, version: int
) -> None:
    body = text(topic) + (b"\0" if version == 5 else b"")
    assert accepted(packet(0x30, body), version) == wire.Publish(Message(topic))


def test_ill_formed_filters_come_through_for_the_session_to_refuse() -> None:
    subscribe = packet(0x82, b"\0\1" + text("a#") + b"\0" + text("") + b"\0")
    expected = wire.Subscribe(1, (Subscription("a#"), Subscription("")))
    assert accepted(subscribe, 4) == expected


@pytest.mark.parametrize("code", [0x05, 0x42, 0x7F, 0xFF])
def test_an_undefined_disconnect_code_is_kept_as_a_number(code: int) -> None:
    for body in (bytes((code,)), bytes((code, 0))):
        got = accepted(packet(0xE0, body), 5)
        assert got == wire.Disconnect(code)
        assert type(got.reason_code) is int  # type: ignore[union-attr]


def test_short_forms_of_disconnect_and_acks() -> None:
    assert accepted(packet(0xE0, b""), 5) == wire.Disconnect()
    assert accepted(packet(0xE0, b"\x04"), 5) == wire.Disconnect(
        ReasonCode.DISCONNECT_WITH_WILL_MESSAGE
    )
    assert accepted(packet(0x50, b"\0\1\x97"), 5) == wire.Pubrec(1, ReasonCode.QUOTA_EXCEEDED)
    assert accepted(packet(0x50, b"\0\1\x97\0"), 5) == wire.Pubrec(1, ReasonCode.QUOTA_EXCEEDED)
    assert accepted(packet(0x50, b"\0\1"), 5) == wire.Pubrec(1)
    assert accepted(packet(0xF0, b""), 5, CLIENT) == wire.Auth()


def test_connack_of_a_server_that_does_not_know_5() -> None:
    expected = wire.Connack(False, ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION)
    assert accepted(packet(0x20, b"\0\1"), 5, CLIENT) == expected


def test_connack_of_mqtt_3_1_has_no_session_present() -> None:
    expected = wire.Connack(False, ConnectReturnCode.ACCEPTED)
    assert accepted(packet(0x20, b"\1\0"), 3, CLIENT) == expected


# ---------------------------------------------------------------- authentication


METHOD = b"\x15" + text("m")


def test_auth_has_to_name_the_method_of_connect() -> None:
    server = wire.Decoder(SERVER)
    server.feed(connect5(2, METHOD))
    assert server.feed(packet(0xF0, b"\x18" + listed(METHOD))) == [
        wire.Auth(ReasonCode.CONTINUE_AUTHENTICATION, "m")
    ]
    [error] = server.feed(packet(0xF0, b"\x18" + listed(b"\x15" + text("n"))))
    assert isinstance(error, wire.WireError)
    assert error.reason_code is PROTOCOL


def test_auth_without_a_method_in_connect_is_a_protocol_error() -> None:
    [_, error] = wire.Decoder(SERVER).feed(connect5() + packet(0xF0, b"\x18" + listed(METHOD)))
    assert isinstance(error, wire.WireError)
    assert error.reason_code is PROTOCOL


# ---------------------------------------------------------------- size


def test_too_large_is_refused_once_the_header_is_there() -> None:
    server = wire.Decoder(SERVER, 5, maximum_packet_size=100)
    assert server.feed(b"\x30") == []
    [error] = server.feed(b"\x63")
    assert isinstance(error, wire.WireError)
    assert error.reason_code is ReasonCode.PACKET_TOO_LARGE
    assert error.packet_type is wire.PacketType.PUBLISH
    assert server.buffered == 0


def test_equal_to_the_maximum_fits() -> None:
    data = wire.encode(wire.Publish(Message("t", b"x" * 94)), 5)
    assert len(data) == 100
    accepted(data, 5, maximum_packet_size=100)
    assert refused(data, 5, maximum_packet_size=99).reason_code is ReasonCode.PACKET_TOO_LARGE


def test_the_maximum_may_change_after_connect() -> None:
    server = wire.Decoder(SERVER, maximum_packet_size=20)
    [packet_] = server.feed(connect5())
    assert isinstance(packet_, wire.Connect)
    server.maximum_packet_size = 1000
    big = wire.Publish(Message("t", b"x" * 500))
    assert server.feed(wire.encode(big, 5)) == [big]


def test_the_protocol_has_a_maximum_of_its_own() -> None:
    server = wire.Decoder(SERVER, 5)
    assert server.feed(b"\x30\xff\xff\xff\x7f") == []
    assert server.buffered == 5


def test_a_doomed_packet_is_refused_before_its_body() -> None:
    assert refused(b"\x20\x7f", 5).reason_code is PROTOCOL
    assert refused(b"\x41\x7f", 5).reason_code is MALFORMED
    assert refused(b"GET / HTTP/1.1\r\n", None).reason_code is PROTOCOL


# ---------------------------------------------------------------- errors as items


def test_what_came_before_the_error_is_not_lost() -> None:
    server = wire.Decoder(SERVER, 5)
    good = wire.encode(wire.Publish(Message("t", b"1", 1), 7), 5)
    items = server.feed(good + wire.encode(wire.Pingreq(), 5) + b"\x00\x00" + good)
    assert items[:2] == [wire.Publish(Message("t", b"1", 1), 7), wire.Pingreq()]
    assert isinstance(items[2], wire.WireError)
    assert len(items) == 3


def test_nothing_comes_after_an_error() -> None:
    server = wire.Decoder(SERVER, 5)
    server.feed(b"\x00\x00")
    assert server.feed(wire.encode(wire.Pingreq(), 5)) == []
    assert server.buffered == 0


@pytest.mark.parametrize("body", [b"\0\4\xff\xff\xff\xff", b"\0\5t"], ids=["text", "cut off"])
def test_an_error_keeps_no_bytes_alive(body: bytes) -> None:
    error = refused(packet(0x30, body), 5)
    assert error.__traceback__ is None
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (connect(6, 2), b"\x20\3\0\x84\0"),
        (connect(2, 2), b"\x20\2\0\1"),
        (packet(0x10, text("MQTT") + b"\3\2\0\0"), b"\x20\2\0\1"),
        (packet(0x10, text("MQIsdp") + b"\4\2\0\0"), b"\x20\2\0\1"),
        (packet(0x10, text("HTTP") + b"\4\2\0\0"), b""),
        (connect5(3), b"\x20\3\0\x81\0"),
        (connect5(2, b"\x21\0\0"), b"\x20\3\0\x82\0"),
        (connect(4, 3), b""),
        (packet(0xC0, b""), b""),
    ],
    ids=repr,
)
def test_a_faulty_connect_is_answered_where_the_standard_has_an_answer(
    data: bytes, answer: bytes
) -> None:
    error = refused(data, None)
    assert wire.refuse_connect(error.protocol_version, error.reason_code) == answer


@pytest.mark.parametrize(
    ("reason_code", "return_code"),
    [
        (ReasonCode.BAD_USER_NAME_OR_PASSWORD, 4),
        (ReasonCode.NOT_AUTHORIZED, 5),
        (ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, 2),
        (ReasonCode.QUOTA_EXCEEDED, 3),
    ],
)
def test_a_refusal_in_both_languages(reason_code: ReasonCode, return_code: int) -> None:
    assert wire.refuse_connect(5, reason_code) == bytes((0x20, 3, 0, reason_code, 0))
    assert wire.refuse_connect(4, reason_code) == bytes((0x20, 2, 0, return_code))


@pytest.mark.parametrize(
    "arguments",
    [
        {"role": CLIENT},
        {"role": CLIENT, "protocol_version": 6},
        {"role": SERVER, "protocol_version": 2},
        {"role": SERVER, "maximum_packet_size": 0},
        {"role": SERVER, "topic_alias_maximum": 65_536},
    ],
    ids=repr,
)
def test_bad_arguments_of_a_decoder(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        wire.Decoder(**arguments)


def test_aliases_are_resolved_for_the_connection() -> None:
    server = wire.Decoder(SERVER, 5, topic_alias_maximum=2)
    first, second, third = server.feed(
        publish5(b"\x23\0\2", "topic") + publish5(b"\x23\0\2", "") + publish5(b"\x23\0\2", "other")
    )
    assert first == second == wire.Publish(Message("topic", b"p"), topic_alias=2)
    assert third == wire.Publish(Message("other", b"p"), topic_alias=2)
    assert server.feed(publish5(b"\x23\0\2", "")) == [third]
