"""What the constructors of events refuse: a bad field, named, with its rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import attrs
import pytest

from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    DeliverMessage,
    DisconnectReceived,
    Event,
    HeartbeatPassed,
    LimitsChanged,
    MalformedPacketReceived,
    MessagePublished,
    MessageRouted,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    QueuePurged,
    ServerStopping,
    SessionDiscarded,
    SessionExpirySet,
    SessionKicked,
    SubscribeReceived,
    SubscriptionsAdded,
    SubscriptionsRemoved,
    UnsubscribeReceived,
    WillRevoked,
)
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.policy import ExpiryPolicy, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription

MESSAGE = Message("a/b", b"1", 1)
DELIVERY = Delivery(MESSAGE, 1)
NAN, INF = float("nan"), float("inf")
HUGE = 10**400  # beyond all floats
LONG = "x" * 65_536

# ---------------------------------------------------------------- bad values, by field

CONNECTIONS = ([], {}, {1})
CLIENT_IDS = (None, "", 7, b"c")
FLAGS = (1, 0, None, "yes")
UINT16 = (-1, 65_536, 1.0, True, "1")
UINT32 = (-4, 1 << 32, 5.0, False, "5")
INSTANTS = (NAN, INF, -INF, HUGE, True, "1")
TEXTS = (7, b"text", "a\0b", "\ud800", LONG)
TOPICS = (None, 7, b"a", "", "a/+", "#", "a\0", "\ud800", LONG)
FILTERS = (None, 7, b"a", "", "a/#/b", "a+", "a\0", "\ud800", LONG)
QOS = (-1, 3, 1.0, True, None)

MESSAGE_FIELDS: dict[str, tuple[Any, ...]] = {
    "topic_name": TOPICS,
    "payload": (None, "text", bytearray(b"1"), 7),
    "qos": QOS,
    "retain": (3, *FLAGS),
    "message_expiry_interval": UINT32,
    "payload_format_indicator": (-1, 2, True, 1.0, "1"),
    "content_type": TEXTS,
    "response_topic": (*TEXTS, "", "a/+", "#"),
    "correlation_data": ("text", 7, bytes(65_536)),
    "user_properties": (None, "ab", [("a", "b")], 7, {}),
    "user_properties[0]": ("ab", ["a", "b"], ("a",), ("a", 7), ("a", "b", "c"), ("a", LONG)),
}
SUBSCRIPTION_FIELDS: dict[str, tuple[Any, ...]] = {
    "topic_filter": (*FILTERS, "$share/g/a"),
    "qos": QOS,
    "no_local": FLAGS,
    "retain_as_published": FLAGS,
    "retain_handling": QOS,
    "subscription_id": (0, -1, 268_435_456, 1.0, True, "1"),
}
DELIVERY_FIELDS: dict[str, tuple[Any, ...]] = {
    "qos": QOS,
    "retain": FLAGS,
    "subscription_ids": (None, [1], "1", 7),
    "subscription_ids[0]": (0, 268_435_456, True, 1.0, "1"),
    "received_at": (None, NAN, INF, HUGE, True, "1"),
    "expires_at": INSTANTS,
    "message_expiry_interval": UINT32,
    "publisher": ("", 7, b"c"),
    "is_retained": FLAGS,
}


def under(path: str, fields: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    return {f"{path}.{name}": given for name, given in fields.items()}


# What a client may say is not in here: it has an answer with a reason code instead.
WILL_FIELDS = under("will.message", MESSAGE_FIELDS) | {
    "will.message.topic_name": (None, 7, b"a"),
    "will.message.response_topic": TEXTS,
}

GOOD: dict[type, Any] = {
    ClientConnected: ClientConnected(1, "c", will=Will(MESSAGE)),
    PublishReceived: PublishReceived(1, MESSAGE, 1),
    PubackReceived: PubackReceived(1, 1),
    PubrecReceived: PubrecReceived(1, 1),
    PubrelReceived: PubrelReceived(1, 1),
    PubcompReceived: PubcompReceived(1, 1),
    SubscribeReceived: SubscribeReceived(1, 1, (Subscription("a"),), (None,)),
    UnsubscribeReceived: UnsubscribeReceived(1, 1, ("a",), (None,)),
    PingReceived: PingReceived(1),
    DisconnectReceived: DisconnectReceived(1),
    MalformedPacketReceived: MalformedPacketReceived(1),
    ConnectionLost: ConnectionLost(1),
    ConnectionCongested: ConnectionCongested(1),
    ConnectionWritable: ConnectionWritable(1),
    MessagePublished: MessagePublished(MESSAGE, "c"),
    SessionKicked: SessionKicked("c"),
    SessionDiscarded: SessionDiscarded("c"),
    SessionExpirySet: SessionExpirySet("c", 1),
    SubscriptionsAdded: SubscriptionsAdded("c", (Subscription("a"),)),
    SubscriptionsRemoved: SubscriptionsRemoved("c", ("a",)),
    WillRevoked: WillRevoked("c"),
    QueuePurged: QueuePurged("c"),
    LimitsChanged: LimitsChanged(SessionLimits()),
    HeartbeatPassed: HeartbeatPassed(),
    ServerStopping: ServerStopping(),
    MessageRouted: MessageRouted(1),
    DeliverMessage: DeliverMessage(DELIVERY),
}

SUCCESSES = (ReasonCode.SUCCESS, ReasonCode.GRANTED_QOS_1, ReasonCode.NO_MATCHING_SUBSCRIBERS)
NO_DISCONNECTS = (
    *SUCCESSES,
    None,
    0x98,  # a plain number
    ReasonCode.DISCONNECT_WITH_WILL_MESSAGE,
    ReasonCode.BANNED,
    ReasonCode.PACKET_IDENTIFIER_NOT_FOUND,
)

BAD: dict[type, dict[str, tuple[Any, ...]]] = {
    ClientConnected: {
        "connection": CONNECTIONS,
        "client_id": (None, 7, b"c"),
        "protocol_version": (2, 6, 5.0, True, None, "5"),
        "clean_start": FLAGS,
        "session_expiry_interval": UINT32,
        "receive_maximum": UINT16,
        "maximum_packet_size": UINT32,
        "keep_alive": (None, *UINT16),
        "will": (MESSAGE, "will", 7),
        "will.message": (None, "a/b", DELIVERY),
        "will.will_delay_interval": (None, *UINT32),
        **WILL_FIELDS,
        "assigned_client_id": ("d", "", 7, "a\0b", LONG),
        "principal": (7, b"p", "\ud800"),
        "policy": (SessionLimits(), {}),
        "limits": (ExpiryPolicy(), {}),
    },
    PublishReceived: {
        "refusal": (
            *SUCCESSES,
            0x87,
            True,
            ReasonCode.MALFORMED_PACKET,
            ReasonCode.PACKET_IDENTIFIER_IN_USE,
        )
    },
    PubackReceived: {},
    PubrecReceived: {},
    PubrelReceived: {},
    PubcompReceived: {},
    SubscribeReceived: {
        "connection": CONNECTIONS,
        "packet_id": (None, *UINT16),
        "subscriptions": (None, "a", [Subscription("a")], 7),
        "subscriptions[0]": ("a", None, 7),
        "subscriptions[0].topic_filter": (None, 7, b"a"),
        "subscriptions[0].qos": (None, 1.0, "1"),
        "subscriptions[0].no_local": FLAGS,
        "subscriptions[0].retain_as_published": FLAGS,
        "subscriptions[0].retain_handling": (None, 1.0, "1"),
        "subscriptions[0].subscription_id": (1.0, "1"),
        "refusals": (None, [None], "x", (None, None)),
        "refusals[0]": (*SUCCESSES, 0x87, False, ReasonCode.PACKET_IDENTIFIER_IN_USE),
    },
    UnsubscribeReceived: {
        "connection": CONNECTIONS,
        "packet_id": (None, *UINT16),
        "topic_filters": (None, "a", ["a"], 7),
        "topic_filters[0]": (None, 7, b"a"),
        "refusals": (None, [None], "x", (None, None)),
        "refusals[0]": (*SUCCESSES, 0x87, False, ReasonCode.QUOTA_EXCEEDED),
    },
    PingReceived: {},
    DisconnectReceived: {
        "connection": CONNECTIONS,
        "reason_code": (None, -1, 256, 4.0, "4"),
        "session_expiry_interval": UINT32,
    },
    MalformedPacketReceived: {"connection": CONNECTIONS, "reason_code": NO_DISCONNECTS},
    ConnectionLost: {"connection": CONNECTIONS},
    ConnectionCongested: {"connection": CONNECTIONS},
    ConnectionWritable: {"connection": CONNECTIONS},
    MessagePublished: {
        "message": (None, "a/b", DELIVERY),
        "publisher": ("", 7, b"c"),
        **under("message", MESSAGE_FIELDS),
    },
    SessionKicked: {"client_id": CLIENT_IDS, "reason_code": NO_DISCONNECTS},
    SessionDiscarded: {"client_id": CLIENT_IDS},
    SessionExpirySet: {
        "client_id": CLIENT_IDS,
        "session_expiry_interval": (-1, -0.5, *INSTANTS),
    },
    SubscriptionsAdded: {
        "client_id": CLIENT_IDS,
        "subscriptions": (None, "abc", [Subscription("a")], 7),
        "subscriptions[0]": ("a", None, 7),
        **under("subscriptions[0]", SUBSCRIPTION_FIELDS),
    },
    SubscriptionsRemoved: {
        "client_id": CLIENT_IDS,
        "topic_filters": (None, "abc", ["a"], 7),
        "topic_filters[0]": FILTERS,
    },
    WillRevoked: {"client_id": CLIENT_IDS},
    QueuePurged: {
        "client_id": CLIENT_IDS,
        "topic_filter": (7, b"a", "", "a/#/b"),
        "received_before": INSTANTS,
    },
    LimitsChanged: {"limits": (None, ExpiryPolicy(), {})},
    HeartbeatPassed: {},
    ServerStopping: {},
    MessageRouted: {
        "route_id": (None, "1", 1.0),
        "reason_code": (
            None,
            0x00,
            0x87,
            ReasonCode.GRANTED_QOS_1,
            ReasonCode.PROTOCOL_ERROR,
            ReasonCode.PACKET_IDENTIFIER_IN_USE,
        ),
    },
    DeliverMessage: {
        "delivery": (None, MESSAGE, "a/b"),
        "delivery.message": (None, "a/b", DELIVERY),
        **under("delivery", DELIVERY_FIELDS),
        **under("delivery.message", MESSAGE_FIELDS),
    },
}

# What flows is not looked at, since that would cost more than it is worth (a call for each
# PUBLISH or acknowledgement). What a peer got wrong there, the outcome answers.
UNCHECKED: dict[type, set[str]] = {
    PublishReceived: {"connection", "message", "packet_id", "dup", "subscription_ids"},
    PubackReceived: {"connection", "packet_id", "reason_code"},
    PubrecReceived: {"connection", "packet_id", "reason_code"},
    PubrelReceived: {"connection", "packet_id", "reason_code"},
    PubcompReceived: {"connection", "packet_id", "reason_code"},
    PingReceived: {"connection", "answer"},
}


def changed(holder: Any, path: str, given: Any) -> Any:
    """The same value with another field: `a`, `a.b`, `a[0]` or `a[0].b`."""
    name, _, rest = path.partition(".")
    if name.endswith("[0]"):
        name = name.removesuffix("[0]")
        given = (changed(getattr(holder, name)[0], rest, given) if rest else given,)
    elif rest:
        given = changed(getattr(holder, name), rest, given)
    return attrs.evolve(holder, **{name: given})


@pytest.mark.parametrize(
    ("cls", "path", "given"),
    [
        (cls, path, bad)
        for cls, fields in BAD.items()
        for path, bads in fields.items()
        for bad in bads
    ],
    ids=lambda part: getattr(part, "__name__", None) or (part if isinstance(part, str) else None),
)
def test_a_bad_field_is_refused_by_its_name(cls: type, path: str, given: Any) -> None:
    with pytest.raises(InvalidValue) as refused:
        changed(GOOD[cls], path, given)
    named = f"{cls.__name__}.{path}"
    assert str(refused.value).startswith((f"{named} ", f"{named}["))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: PublishReceived(1, Message("a"), refusal=135),  # type: ignore[arg-type]
            "PublishReceived.refusal must be a member of ReasonCode, not the int 135",
        ),
        (
            lambda: PublishReceived(1, Message("a"), refusal="no"),  # type: ignore[arg-type]
            "PublishReceived.refusal must be a member of ReasonCode, not of type str",
        ),
        (
            lambda: SessionKicked("a", ReasonCode.SUCCESS),
            ", not 0x00 (SUCCESS)",
        ),
        (
            lambda: MessagePublished(Message("a", qos="1")),  # type: ignore[arg-type]
            "MessagePublished.message.qos must be of type int, not str",
        ),
        (
            lambda: MessagePublished(Message("a", qos=3)),
            "MessagePublished.message.qos must be 0 to 2, not 3",
        ),
        (
            lambda: MessagePublished(Message("a", "text")),  # type: ignore[arg-type]
            "MessagePublished.message.payload must be of type bytes, not str",
        ),
        (
            lambda: MessagePublished(Message(b"a")),  # type: ignore[arg-type]
            "MessagePublished.message.topic_name must be of type str, not bytes",
        ),
        (
            lambda: MessagePublished(Message("a" * 65_536)),
            "MessagePublished.message.topic_name must be at most 65535 bytes of UTF-8, not 65536",
        ),
        (
            lambda: MessagePublished(Message("a", content_type="b\0")),
            "content_type must be without U+0000, which is at 1 [MQTT-1.5.4-2]",
        ),
        (
            lambda: MessagePublished(Message("a", content_type="\ud800")),
            "must be text that UTF-8 can encode, without the surrogate at 0 [MQTT-1.5.4-1]",
        ),
        (
            lambda: SessionDiscarded(None),  # type: ignore[arg-type]
            "SessionDiscarded.client_id must be of type str, not None",
        ),
        (
            lambda: SessionDiscarded(""),
            "SessionDiscarded.client_id must be a string that is not empty",
        ),
    ],
)
def test_the_error_names_what_is_wrong(make: Callable[[], object], text: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        make()
    assert str(refused.value).endswith(text)


def test_every_event_and_every_field_of_it_is_in_these_tables() -> None:
    assert set(GOOD) == set(BAD) == set(get_args(Event))
    for cls, fields in BAD.items():
        checked = {path for path in fields if "." not in path and "[" not in path}
        named = {field.name for field in attrs.fields(cls)}
        assert checked | UNCHECKED.get(cls, set()) == named, cls.__name__
    for path, cls in (
        ("will.message.", ClientConnected),
        ("message.", MessagePublished),
        ("delivery.message.", DeliverMessage),
    ):
        inner = {name.removeprefix(path) for name in BAD[cls] if name.startswith(path)}
        assert inner >= {field.name for field in attrs.fields(Message)}
    assert set(SUBSCRIPTION_FIELDS) == {field.name for field in attrs.fields(Subscription)}
    assert {*DELIVERY_FIELDS, "message"} >= {field.name for field in attrs.fields(Delivery)}


@pytest.mark.parametrize("cls", get_args(Event))
def test_what_was_accepted_has_a_hash(cls: type) -> None:
    assert hash(GOOD[cls]) == hash(attrs.evolve(GOOD[cls]))


# ---------------------------------------------------------------- rules that need two fields


@pytest.mark.parametrize(
    "name", ["session_expiry_interval", "receive_maximum", "maximum_packet_size"]
)
@pytest.mark.parametrize("protocol_version", [3, 4])
def test_what_only_mqtt_5_has(name: str, protocol_version: int) -> None:
    with pytest.raises(InvalidValue, match=f"{name} exists in MQTT 5.0 only"):
        ClientConnected(1, "c", protocol_version, **{name: 1})  # type: ignore[arg-type]


def test_a_will_waits_in_mqtt_5_only() -> None:
    with pytest.raises(InvalidValue, match="and 0 before MQTT 5"):
        ClientConnected(1, "c", 4, will=Will(MESSAGE, 1))
    assert ClientConnected(1, "c", 5, will=Will(MESSAGE, 1)).will == Will(MESSAGE, 1)


def test_an_assigned_id_stands_beside_an_empty_one() -> None:
    assert ClientConnected(1, "", assigned_client_id="given").assigned_client_id == "given"
    with pytest.raises(InvalidValue, match="assigned_client_id must be None beside a client_id"):
        ClientConnected(1, "c", assigned_client_id="given")


def test_no_payload_is_shown_by_a_rule() -> None:
    secret = b"nobody may read this in a log"
    with pytest.raises(InvalidValue) as refused:
        MessagePublished(Message("a", secret.decode()))  # type: ignore[arg-type]
    assert secret.decode() not in str(refused.value)
    with pytest.raises(InvalidValue) as refused:
        MessagePublished(secret)  # type: ignore[arg-type]
    assert secret.decode() not in str(refused.value)


# ---------------------------------------------------------------- what is accepted


def test_numbers_at_their_bounds() -> None:
    connected = ClientConnected(
        1,
        "",
        session_expiry_interval=0xFFFFFFFF,
        receive_maximum=0,  # the peer's fault, answered with 0x82 and not raised
        maximum_packet_size=0,  # the same
        keep_alive=65_535,
        will=Will(MESSAGE, 0xFFFFFFFF),
        assigned_client_id="given",
        principal="p",
        policy=ExpiryPolicy(),
        limits=SessionLimits(),
    )
    assert connected.keep_alive == 65_535
    whole = Message(
        "a",
        b"",
        2,
        True,
        0xFFFFFFFF,
        1,
        "text/plain",
        "b/c",
        bytes(65_535),
        (("", "x" * 65_535), ("", "")),
    )
    assert MessagePublished(whole, "c").message is whole
    assert ClientConnected(1, "c", will=Will(whole)).will == Will(whole)
    DeliverMessage(Delivery(whole, 0, False, (1, 268_435_455), -1.5, 0, 0xFFFFFFFF, "c"))
    SubscriptionsAdded("c", (Subscription("#", 2, True, True, 2, 268_435_455),))
    SubscriptionsAdded("c", ())
    SubscriptionsRemoved("c", ())
    QueuePurged("c", "a/#", 0)
    DisconnectReceived(1, 0x7F, 0)


@pytest.mark.parametrize("interval", [None, 0, 0.5, 10**12])
def test_an_interval_that_a_host_may_set(interval: float | None) -> None:
    assert SessionExpirySet("c", interval).session_expiry_interval == interval


@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x90, 0x97, 0x99])
def test_every_refusal_of_a_publish(code: int) -> None:
    refusal = ReasonCode(code)
    assert PublishReceived(1, MESSAGE, 1, refusal=refusal).refusal is refusal
    assert MessageRouted(1, refusal).reason_code is refusal


@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x8F, 0x97, 0x9E, 0xA1, 0xA2])
def test_every_refusal_of_a_subscription(code: int) -> None:
    refusals = (ReasonCode(code), None)
    subscriptions = (Subscription("a"), Subscription("b"))
    assert SubscribeReceived(1, 1, subscriptions, refusals).refusals == refusals


@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x8F])
def test_every_refusal_of_an_unsubscribe(code: int) -> None:
    refusals = (None, ReasonCode(code))
    assert UnsubscribeReceived(1, 1, ("a", "b"), refusals).refusals == refusals


def test_what_a_router_may_answer() -> None:
    code = ReasonCode.NO_MATCHING_SUBSCRIBERS
    assert MessageRouted(1, code).reason_code is code


def test_what_a_peer_sends_is_not_refused() -> None:
    PublishReceived(1, Message("#", qos=3), 0)
    SubscribeReceived(1, 0, (Subscription("a#b", 7, subscription_id=0),))
    SubscribeReceived(1, 1, ())
    UnsubscribeReceived(1, 0, ("", "a#b"))
    DisconnectReceived(1, 0xFF, 0xFFFFFFFF)
    ClientConnected(1, "c", will=Will(Message("a/#", response_topic="+")))


def test_a_publish_compares_and_is_shown_field_by_field() -> None:
    """Its constructor is written by hand."""
    given = (1, MESSAGE, 7, True, ReasonCode.NOT_AUTHORIZED, (3,))
    published = PublishReceived(*given)  # type: ignore[arg-type]
    assert attrs.astuple(published, recurse=False) == given
    names = [field.name for field in attrs.fields(PublishReceived)]
    assert published == PublishReceived(**dict(zip(names, given, strict=True)))  # type: ignore[arg-type]
    defaults = attrs.astuple(PublishReceived(1, MESSAGE), recurse=False)[2:]
    assert defaults == tuple(field.default for field in attrs.fields(PublishReceived))[2:]
