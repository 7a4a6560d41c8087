"""Encoders: exact bytes, shared work, sizes, aliases, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_sessions import wire
from mqtt_sessions._validation import (
    PUBLISH_REFUSALS,
    SERVER_DISCONNECTS,
    SUBSCRIBE_REFUSALS,
    UNSUBSCRIBE_REFUSALS,
)
from mqtt_sessions.actions import (
    CloseConnection,
    RouteMessage,
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
from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.wire.tables import REASON_CODES

from .strategies import VERSIONS, deliveries, packet_ids

OK = ReasonCode.SUCCESS
MESSAGE = Message("t", b"p")


# ---------------------------------------------------------------- actions


def actions_and_packets(version: int) -> list[tuple[Any, Any]]:
    quota = ReasonCode.QUOTA_EXCEEDED
    released = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
    accepted = OK if version == 5 else ConnectReturnCode.ACCEPTED
    told = (60, 10, 1, False, 1000, "given", 5, 30, False) if version == 5 else ()
    connack = wire.Connack(version > 3, accepted)
    if version == 5:
        connack = wire.Connack(
            session_present=True,
            reason_code=OK,
            session_expiry_interval=60,
            receive_maximum=10,
            maximum_qos=1,
            retain_available=False,
            maximum_packet_size=1000,
            assigned_client_identifier="given",
            topic_alias_maximum=5,
            server_keep_alive=30,
            shared_subscription_available=False,
        )
    codes = (OK, ReasonCode.GRANTED_QOS_2)
    pairs: list[tuple[Any, Any]] = [
        (SendConnack(1, True, accepted, *told), connack),
        (SendPuback(1, 7, quota), wire.Puback(7, quota if version == 5 else OK)),
        (SendPubrec(1, 7, quota), wire.Pubrec(7, quota if version == 5 else OK)),
        (SendPubrel(1, 7, released), wire.Pubrel(7, released if version == 5 else OK)),
        (SendPubcomp(1, 7, released), wire.Pubcomp(7, released if version == 5 else OK)),
        (SendPuback(1, 65_535, OK), wire.Puback(65_535)),
        (SendSuback(1, 7, codes), wire.Suback(7, codes)),
        (SendUnsuback(1, 7, (OK,)), wire.Unsuback(7, (OK,) if version == 5 else ())),
        (SendPingresp(1), wire.Pingresp()),
    ]
    if version == 5:
        taken_over = ReasonCode.SESSION_TAKEN_OVER
        pairs.append((SendDisconnect(1, taken_over), wire.Disconnect(taken_over)))
    return pairs


@pytest.mark.parametrize(
    ("version", "action", "packet"),
    [(version, *pair) for version in VERSIONS for pair in actions_and_packets(version)],
)
def test_every_action_is_the_packet_it_names(version: int, action: Any, packet: Any) -> None:
    data = wire.Encoder(version).encode(action)
    assert wire.Decoder(wire.Role.CLIENT, version).feed(data) == [packet]


def test_an_encoder_takes_packets_too() -> None:
    auth = wire.Auth(ReasonCode.CONTINUE_AUTHENTICATION, "m", b"x")
    assert wire.Encoder(5).encode(auth) == wire.encode(auth, 5)


@pytest.mark.parametrize(
    "action",
    [CloseConnection(1, OK), RouteMessage(MESSAGE, None, "me"), object()],
    ids=lambda action: type(action).__name__,
)
def test_an_action_that_sends_nothing_is_refused(action: Any) -> None:
    with pytest.raises(InvalidValue):
        wire.Encoder(5).encode(action)


def expected_publish(
    delivery: Delivery, version: int, packet_id: int | None, dup: bool, expiry: int | None
) -> wire.Publish:
    message = delivery.message
    if version < 5:
        plain = Message(message.topic_name, message.payload, delivery.qos, delivery.retain)
        return wire.Publish(plain, packet_id, dup)
    sent = Message(
        message.topic_name,
        message.payload,
        delivery.qos,
        delivery.retain,
        expiry,
        message.payload_format_indicator,
        message.content_type,
        message.response_topic,
        message.correlation_data,
        message.user_properties,
    )
    return wire.Publish(sent, packet_id, dup, None, delivery.subscription_ids)


@given(
    deliveries(),
    st.sampled_from(VERSIONS),
    st.lists(st.tuples(packet_ids, st.booleans()), min_size=1, max_size=3),
    st.booleans(),
)
def test_publish_says_what_delivery_and_action_say(
    delivery: Delivery, version: int, sends: list[tuple[int, bool]], shares: bool
) -> None:
    expiry = delivery.message_expiry_interval
    encoder = wire.Encoder(version, wire.PublishCache() if shares else None)
    client = wire.Decoder(wire.Role.CLIENT, version)
    for number, again in sends:
        packet_id, dup = (number, again) if delivery.qos else (None, False)
        data = encoder.encode(SendPublish(1, delivery, packet_id, dup, expiry))
        assert client.feed(data) == [expected_publish(delivery, version, packet_id, dup, expiry)]
        assert len(data) == wire.size_of(delivery, version)


@given(deliveries(), st.lists(packet_ids, min_size=2, max_size=4), st.integers(0, 2))
def test_aliased_packets_resolve_to_the_same(
    delivery: Delivery, numbers: list[int], maximum: int
) -> None:
    expiry = delivery.message_expiry_interval
    encoder = wire.Encoder(5, topic_alias_maximum=maximum)
    client = wire.Decoder(wire.Role.CLIENT, 5, topic_alias_maximum=maximum)
    other = Delivery(Message("another topic"), 0)
    for number in numbers:
        packet_id, dup = (number, True) if delivery.qos else (None, False)
        data = encoder.encode(SendPublish(1, delivery, packet_id, dup, expiry))
        [packet] = client.feed(data)
        assert isinstance(packet, wire.Publish)
        expected = expected_publish(delivery, 5, packet_id, dup, expiry)
        assert packet.message == expected.message
        assert packet.subscription_ids == expected.subscription_ids
        assert (packet.packet_id, packet.dup) == (packet_id, dup)
        client.feed(encoder.encode(SendPublish(1, other, None, False, None)))


def test_an_alias_saves_the_topic_name_from_the_second_packet_on() -> None:
    encoder = wire.Encoder(5, topic_alias_maximum=1)
    action = SendPublish(1, Delivery(Message("a/long/topic", b"p"), 0), None, False, None)
    assert encoder.encode(action) == b"\x30\x13\0\x0ca/long/topic\3\x23\0\1p"
    assert encoder.encode(action) == b"\x30\x07\0\0\3\x23\0\1p"


def test_an_alias_never_makes_a_packet_too_large_that_fitted() -> None:
    delivery = Delivery(Message("a/long/topic", b"p"), 1)
    size = wire.size_of(delivery, 5)
    tight = wire.Encoder(5, topic_alias_maximum=1, maximum_packet_size=size)
    for packet_id in (1, 2):
        assert len(tight.encode(SendPublish(1, delivery, packet_id, False, None))) == size
    roomy = wire.Encoder(5, topic_alias_maximum=1, maximum_packet_size=size + 3)
    sizes = [
        len(roomy.encode(SendPublish(1, delivery, packet_id, False, None))) for packet_id in (1, 2)
    ]
    assert sizes == [size + 3, size - 12 + 3]


def test_no_alias_for_a_short_topic_or_an_old_protocol() -> None:
    short = SendPublish(1, Delivery(Message("abc"), 0), None, False, None)
    assert wire.Encoder(5, topic_alias_maximum=9).encode(short) == b"\x30\6\0\3abc\0"
    long = SendPublish(1, Delivery(Message("abcdef"), 0), None, False, None)
    assert wire.Encoder(4, topic_alias_maximum=9).encode(long) == b"\x30\x08\0\6abcdef"


# ---------------------------------------------------------------- shared work


def test_qos_0_is_one_object_for_all_receivers() -> None:
    cache = wire.PublishCache()
    action = SendPublish(1, Delivery(MESSAGE, 0), None, False, None)
    assert wire.Encoder(5, cache).encode(action) is wire.Encoder(5, cache).encode(action)
    assert wire.Encoder(3, cache).encode(action) is wire.Encoder(4, cache).encode(action)
    assert len(cache) == 2  # 5.0, and both 3.x together


def test_what_was_left_of_the_expiry_is_told_apart() -> None:
    cache = wire.PublishCache()
    encoder = wire.Encoder(5, cache)
    delivery = Delivery(MESSAGE, 0, message_expiry_interval=9)
    first, second = (encoder.encode(SendPublish(1, delivery, None, False, left)) for left in (9, 8))
    assert first != second
    assert len(cache) == 2


def test_equal_deliveries_are_not_the_same() -> None:
    cache = wire.PublishCache()
    for _ in range(3):
        wire.Encoder(5, cache).encode(SendPublish(1, Delivery(MESSAGE, 0), None, False, None))
    assert len(cache) == 3  # a freed object's identity is never taken for a new one's


def test_the_cache_is_bounded_by_count() -> None:
    cache = wire.PublishCache(maximum_entries=4)
    encoder = wire.Encoder(5, cache)
    lengths = []
    for _ in range(10):
        encoder.encode(SendPublish(1, Delivery(MESSAGE, 1), 1, False, None))
        lengths.append(len(cache))
    assert lengths == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]


def test_the_cache_is_bounded_by_bytes() -> None:
    cache = wire.PublishCache(maximum_bytes=1000)
    encoder = wire.Encoder(5, cache)
    for _ in range(10):
        encoder.encode(SendPublish(1, Delivery(Message("t", b"x" * 200), 1), 1, False, None))
        assert len(cache) * 200 <= 1000
    cache.clear()
    encoder.encode(SendPublish(1, Delivery(Message("t", b"x" * 2000), 1), 1, False, None))
    assert len(cache) == 0


@pytest.mark.parametrize("arguments", [(0, 10), (1, -1)])
def test_bad_arguments_of_a_cache(arguments: tuple[int, int]) -> None:
    with pytest.raises(InvalidValue):
        wire.PublishCache(*arguments)


@pytest.mark.parametrize("options", [{}, {"topic_alias_maximum": 3}])
@pytest.mark.parametrize(
    ("qos", "packet_id", "dup"),
    [
        (0, 1, False),
        (0, None, True),
        (1, None, False),
        (1, 0, True),
        (2, 65_536, False),
        (3, 1, False),
    ],
)
def test_a_wrong_send_publish_is_refused(
    qos: int, packet_id: int | None, dup: bool, options: dict[str, int]
) -> None:
    delivery = Delivery(Message("topic", b"p"), qos)
    with pytest.raises(InvalidValue):
        wire.Encoder(5, **options).encode(SendPublish(1, delivery, packet_id, dup, None))  # type: ignore[arg-type]


def test_bad_version_of_an_encoder() -> None:
    with pytest.raises(InvalidValue):
        wire.Encoder(6)


@pytest.mark.parametrize(
    ("sent_by_the_core", "kinds"),
    [
        (PUBLISH_REFUSALS, ("PUBACK", "PUBREC")),
        (SUBSCRIBE_REFUSALS, ("SUBACK",)),
        (UNSUBSCRIBE_REFUSALS, ("UNSUBACK",)),
        (SERVER_DISCONNECTS, ("DISCONNECT",)),
    ],
)
def test_no_code_that_the_core_lets_a_host_choose_fails_at_the_encoder(
    sent_by_the_core: frozenset[ReasonCode], kinds: tuple[str, ...]
) -> None:
    for kind in kinds:
        assert sent_by_the_core <= REASON_CODES[wire.PacketType[kind]]


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("length", [0, 118, 120, 125, 16_370, 16_380, 2_097_140, 2_097_150])
def test_size_of_counts_every_width_of_the_remaining_length(version: int, length: int) -> None:
    for qos in (0, 1):
        delivery = Delivery(Message("t", b"x" * length), qos)
        action = SendPublish(1, delivery, 1 if qos else None, False, None)
        data = wire.Encoder(version).encode(action)
        assert wire.size_of(delivery, version) == len(data)


def test_size_of_is_total() -> None:
    assert wire.size_of(Delivery(Message("\ud800"), 0), 5) == 8  # which cannot be encoded
    assert wire.size_of(Delivery(Message("t", b"x" * 300), 0, subscription_ids=(2**28,)), 5) > 300


# ---------------------------------------------------------------- what is refused

LONG = "x" * 65_536
WILL = Will(MESSAGE)
REFUSED: list[tuple[Any, tuple[int, ...]]] = [
    (object(), VERSIONS),
    (wire.Pingreq(), (2, 6)),
    (wire.Connect("c", 6), VERSIONS),
    (wire.Connect(LONG), (5,)),
    (wire.Connect("a\0"), (5,)),
    (wire.Connect("\udc00"), (5,)),
    (wire.Connect(None), (5,)),  # type: ignore[arg-type]
    (wire.Connect("c", keep_alive=65_536), (5,)),
    (wire.Connect("c", keep_alive=True), (5,)),
    (wire.Connect("c", 4, password=b"p"), (4,)),
    (wire.Connect("c", password=b"p" * 65_536), (5,)),
    (wire.Connect("c", password="p"), (5,)),  # type: ignore[arg-type]
    (wire.Connect("c", receive_maximum=0), (5,)),
    (wire.Connect("c", maximum_packet_size=0), (5,)),
    (wire.Connect("c", session_expiry_interval=-1), (5,)),
    (wire.Connect("c", session_expiry_interval=2**32), (5,)),
    (wire.Connect("c", request_problem_information=1), (5,)),  # type: ignore[arg-type]
    (wire.Connect("c", authentication_data=b"d"), (5,)),
    (wire.Connect("c", user_properties=(("a", "\0"),)), (5,)),
    (wire.Connect("c", will=Will(Message("t", b"p", 3))), (5,)),
    (wire.Connect("c", will=Will(Message("a/#", b"p"))), (5,)),
    (wire.Connect("c", will=Will(Message("t", b"p" * 65_536))), (5,)),
    (wire.Connect("c", will=Will(MESSAGE, 2**32)), (5,)),
    (wire.Connack(True, ReasonCode.NOT_AUTHORIZED), (5,)),
    (wire.Connack(True, ConnectReturnCode.NOT_AUTHORIZED), (4,)),
    (wire.Connack(False, OK), (3, 4)),
    (wire.Connack(False, ConnectReturnCode.ACCEPTED), (5,)),
    (wire.Connack(False, ReasonCode.SESSION_TAKEN_OVER), (5,)),
    (wire.Connack(False, OK, maximum_qos=2), (5,)),
    (wire.Connack(False, OK, receive_maximum=0), (5,)),
    (wire.Publish(Message("t", b"", 3), 1), VERSIONS),
    (wire.Publish(Message("t", "p")), VERSIONS),  # type: ignore[arg-type]
    (wire.Publish(Message("t", b"", 1), None), VERSIONS),
    (wire.Publish(Message("t", b"", 1), 0), VERSIONS),
    (wire.Publish(Message("t", b"", 1), 65_536), VERSIONS),
    (wire.Publish(Message("t"), 1), VERSIONS),
    (wire.Publish(Message("t"), dup=True), VERSIONS),
    (wire.Publish(Message("")), VERSIONS),
    (wire.Publish(Message(""), topic_alias=1), (3, 4)),
    (wire.Publish(Message("a/+")), VERSIONS),
    (wire.Publish(Message("t"), topic_alias=0), (5,)),
    (wire.Publish(Message("t"), topic_alias=65_536), (5,)),
    (wire.Publish(Message("t"), subscription_ids=(0,)), (5,)),
    (wire.Publish(Message("t"), subscription_ids=(2**28,)), (5,)),
    (wire.Publish(Message("t", message_expiry_interval=-1)), (5,)),
    (wire.Publish(Message("t", payload_format_indicator=2)), (5,)),
    (wire.Publish(Message("t", content_type="\0")), (5,)),
    (wire.Publish(Message("t", response_topic="a/#")), (5,)),
    (wire.Puback(0), VERSIONS),
    (wire.Puback(1, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND), (5,)),
    (wire.Pubrel(1, ReasonCode.UNSPECIFIED_ERROR, "why"), (5,)),
    (wire.Subscribe(0, (Subscription("a"),)), VERSIONS),
    (wire.Subscribe(1, ()), VERSIONS),
    (wire.Subscribe(1, (Subscription("a#"),)), VERSIONS),
    (wire.Subscribe(1, (Subscription("a", 3),)), VERSIONS),
    (wire.Subscribe(1, (Subscription("a", retain_handling=3),)), (5,)),
    (wire.Subscribe(1, (Subscription("$share/g/a", no_local=True),)), (5,)),
    (wire.Subscribe(1, (Subscription("a", subscription_id=0),)), (5,)),
    (wire.Subscribe(1, (Subscription("a", subscription_id=1), Subscription("b"))), (5,)),
    (wire.Suback(1, ()), VERSIONS),
    (wire.Suback(1, (ReasonCode.NOT_AUTHORIZED,)), (3, 4)),
    (wire.Suback(1, (ReasonCode.UNSPECIFIED_ERROR,)), (3,)),
    (wire.Suback(1, (ReasonCode.SERVER_BUSY,)), (5,)),
    (wire.Unsubscribe(1, ()), VERSIONS),
    (wire.Unsubscribe(1, ("",)), VERSIONS),
    (wire.Unsuback(1, ()), (5,)),
    (wire.Unsuback(1, (ReasonCode.GRANTED_QOS_1,)), (5,)),
    (wire.Disconnect(0x42), (5,)),
    (wire.Disconnect(ReasonCode.SERVER_UNAVAILABLE), (5,)),
    (wire.Auth(ReasonCode.CONTINUE_AUTHENTICATION), (5,)),
    (wire.Auth(ReasonCode.NOT_AUTHORIZED, "m"), (5,)),
    (wire.Auth(ReasonCode.SUCCESS, "m"), (3, 4)),
]


@pytest.mark.parametrize(
    ("packet", "version"),
    [
        pytest.param(packet, version, id=f"{version}-{number}-{type(packet).__name__}")
        for number, (packet, versions) in enumerate(REFUSED)
        for version in versions
    ],
)
def test_an_illegal_value_is_the_host_s_fault(packet: Any, version: int) -> None:
    with pytest.raises(InvalidValue):
        wire.encode(packet, version)


class _Endless(bytes):
    """Bytes that say they are many, so that no test needs 256 MiB."""

    def __len__(self) -> int:
        return 268_435_456


def test_a_packet_above_the_protocol_s_maximum_is_refused() -> None:
    with pytest.raises(InvalidValue, match="268435455"):
        wire.encode(wire.Publish(Message("t", _Endless())), 4)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_alias_alone_and_an_alias_with_its_topic(version: int) -> None:
    publish = wire.Publish(Message("topic"), topic_alias=3)
    data = wire.encode(publish, version)
    assert (b"\x23\0\3" in data) == (version == 5)
    assert wire.encode(wire.Publish(Message(""), topic_alias=3), 5) == b"\x30\6\0\0\3\x23\0\3"


def test_what_3_x_has_no_room_for_is_left_out() -> None:
    full = Message("t", b"p", 0, False, 1, 1, "c", "r", b"d", (("k", "v"),))
    assert wire.encode(wire.Publish(full), 4) == b"\x30\4\0\1tp"
    puback = wire.Puback(1, ReasonCode.QUOTA_EXCEEDED, "why")
    assert wire.encode(puback, 4) == b"\x40\2\0\1"
    disconnect = wire.Disconnect(ReasonCode.SERVER_BUSY, reason_string="why")
    assert wire.encode(disconnect, 3) == b"\xe0\0"
    subscribe = wire.Subscribe(1, (Subscription("a", 1, True, True, 2, 5),))
    assert wire.encode(subscribe, 4) == b"\x82\6\0\1\0\1a\1"
    connack = wire.Connack(True, ConnectReturnCode.ACCEPTED, receive_maximum=3)
    assert wire.encode(connack, 4) == b"\x20\2\1\0"
    assert wire.encode(connack, 3) == b"\x20\2\0\0"


def test_short_forms_are_used() -> None:
    assert wire.encode(wire.Pubrec(1), 5) == b"\x50\2\0\1"
    assert wire.encode(wire.Pubrec(1, ReasonCode.QUOTA_EXCEEDED), 5) == b"\x50\3\0\1\x97"
    assert wire.encode(wire.Disconnect(), 5) == b"\xe0\0"
    assert wire.encode(wire.Disconnect(ReasonCode.SERVER_BUSY), 5) == b"\xe0\1\x89"
    assert wire.encode(wire.Auth(), 5) == b"\xf0\0"
