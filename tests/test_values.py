"""Every public value class: built, hashed, compared, shown; and what constructors refuse."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import attrs
import pytest

from mqtt_sessions import actions, events, messages, notices, policy, subscriptions
from mqtt_sessions.actions import Action, RouteMessage, SendPublish
from mqtt_sessions.errors import InvalidState, InvalidValue, MqttSessionsError
from mqtt_sessions.events import (
    ClientConnected,
    DeliverMessage,
    Event,
    LimitsChanged,
    MalformedPacketReceived,
    MessagePublished,
    PublishReceived,
    QueuePurged,
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
from mqtt_sessions.notices import DropReason, EndReason, MessageDropped, Notice
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription

MODULES: tuple[ModuleType, ...] = (messages, subscriptions, events, actions, notices, policy)
SECRET = b"nobody may read this in a log"
MESSAGE = Message("a/b", SECRET, 1, correlation_data=SECRET)
DELIVERY = Delivery(MESSAGE, 1)

# Two values for each field that some class cannot be built without.
REQUIRED: dict[str, tuple[Any, Any]] = {
    "client_id": ("c", "d"),
    "connection": (1, "two"),
    "delivery": (DELIVERY, Delivery(MESSAGE, 0)),
    "detail": ("late", "early"),
    "dup": (False, True),
    "expires_at": (1.0, None),
    "limits": (SessionLimits(), SessionLimits(maximum_send_window=1)),
    "message": (MESSAGE, Message("c")),
    "message_expiry_interval": (None, 3),
    "packet_id": (1, 2),
    "publish_at": (1.0, 2.0),
    "publisher": ("c", "d"),
    "qos": (0, 1),
    "reason": (DropReason.EXPIRED, EndReason.EXPIRED),
    "reason_code": (ReasonCode.QUOTA_EXCEEDED, ReasonCode.NOT_AUTHORIZED),
    "reason_codes": ((ReasonCode.SUCCESS,), ()),
    "route_id": (1, None),
    "session_expiry_interval": (5.0, None),
    "session_present": (True, False),
    "subscriptions": ((Subscription("a"),), ()),
    "topic_filter": ("a/+", "b"),
    "topic_filters": (("a", "b"), ()),
    "topic_name": ("a", "b"),
}

CLASSES: list[type] = [
    Message,
    Will,
    Delivery,
    Subscription,
    ExpiryPolicy,
    SessionLimits,
    ServerOptions,
    *get_args(Event),
    *get_args(Action),
    *get_args(Notice),
]


def build(cls: type, **changed: Any) -> Any:
    required = {
        field.name: REQUIRED[field.name][0]
        for field in attrs.fields(cls)
        if field.default is attrs.NOTHING
    }
    return cls(**(required | changed))


def test_no_public_value_class_is_forgotten() -> None:
    public = [getattr(module, name) for module in MODULES for name in module.__all__]
    assert {cls for cls in public if attrs.has(cls)} == set(CLASSES)


@pytest.mark.parametrize("module", [events, actions, notices])
def test_the_unions_are_closed(module: ModuleType) -> None:
    union = getattr(module, {"events": "Event", "actions": "Action"}.get(_last(module), "Notice"))
    declared = [cls for cls in vars(module).values() if isinstance(cls, type) and attrs.has(cls)]
    own = [cls for cls in declared if cls.__module__ == module.__name__]
    assert list(get_args(union)) == own


def _last(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


@pytest.mark.parametrize("module", MODULES, ids=_last)
def test_every_class_is_declared_a_value_which_type_checkers_see_as_frozen(
    module: ModuleType,
) -> None:
    assert module.__file__ is not None
    for node in ast.parse(Path(module.__file__).read_text()).body:
        if isinstance(node, ast.ClassDef) and not any(
            isinstance(base, ast.Name) and base.id in ("Enum", "IntEnum") for base in node.bases
        ):
            assert [ast.unparse(decorator) for decorator in node.decorator_list] == ["value"]


@pytest.mark.parametrize("cls", CLASSES)
def test_equal_fields_make_equal_values(cls: type) -> None:
    one, other = build(cls), build(cls)
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1
    assert one != object()


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, field.name)
        for cls in CLASSES
        for field in attrs.fields(cls)
        if field.default is attrs.NOTHING
    ],
)
def test_another_field_makes_another_value(cls: type, name: str) -> None:
    assert build(cls) != build(cls, **{name: REQUIRED[name][1]})


def test_values_of_different_classes_differ() -> None:
    assert len({build(cls) for cls in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("cls", CLASSES)
def test_repr_names_the_class_and_its_fields_but_no_payload(cls: type) -> None:
    shown = repr(build(cls))
    assert shown.startswith(f"{cls.__name__}(")
    assert all(f"{field.name}=" in shown for field in attrs.fields(cls))
    assert SECRET.decode() not in shown


@pytest.mark.parametrize(
    "holder",
    [
        Will(MESSAGE),
        ClientConnected(1, "c", will=Will(MESSAGE)),
        PublishReceived(1, MESSAGE, 1),
        DeliverMessage(DELIVERY),
        SendPublish(1, DELIVERY, 1, False, None),
        RouteMessage(MESSAGE, 1, "c"),
        MessageDropped("c", DELIVERY, DropReason.EXPIRED),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_repr_of_what_holds_a_message_shows_sizes_only(holder: object) -> None:
    assert SECRET.decode() not in repr(holder)
    assert f"<{len(SECRET)} bytes>" in repr(holder)


def test_repr_of_a_message_without_correlation_data() -> None:
    assert "correlation_data=None" in repr(Message("a"))


@pytest.mark.parametrize("cls", CLASSES)
def test_values_are_slotted_and_carry_no_weak_reference(cls: type) -> None:
    built = build(cls)
    assert not hasattr(built, "__dict__")
    assert not hasattr(built, "__weakref__")


def test_the_exceptions_have_one_base() -> None:
    assert issubclass(InvalidState, MqttSessionsError)
    assert issubclass(InvalidValue, MqttSessionsError)
    assert issubclass(InvalidValue, ValueError)
    assert not issubclass(InvalidState, ValueError)


# ---------------------------------------------------------------- what constructors refuse

CODES = ReasonCode
BAD: dict[str, Callable[[], object]] = {
    "ClientConnected.connection": lambda: ClientConnected([], "c"),  # type: ignore[arg-type]
    "ClientConnected.client_id": lambda: ClientConnected(1, None),  # type: ignore[arg-type]
    "ClientConnected.protocol_version": lambda: ClientConnected(1, "c", 6),
    "ClientConnected.clean_start": lambda: ClientConnected(1, "c", 5, 1),  # type: ignore[arg-type]
    "ClientConnected.session_expiry_interval must be None or 0 to 4294967295": (
        lambda: ClientConnected(1, "c", session_expiry_interval=1 << 32)
    ),
    "ClientConnected.session_expiry_interval exists in MQTT 5.0 only": (
        lambda: ClientConnected(1, "c", 4, session_expiry_interval=1)
    ),
    "ClientConnected.receive_maximum must be": (
        lambda: ClientConnected(1, "c", receive_maximum=65_536)
    ),
    "ClientConnected.receive_maximum exists in MQTT 5.0 only": (
        lambda: ClientConnected(1, "c", 3, receive_maximum=1)
    ),
    "ClientConnected.maximum_packet_size must be": (
        lambda: ClientConnected(1, "c", maximum_packet_size=-1)
    ),
    "ClientConnected.maximum_packet_size exists in MQTT 5.0 only": (
        lambda: ClientConnected(1, "c", 4, maximum_packet_size=1)
    ),
    "ClientConnected.keep_alive": lambda: ClientConnected(1, "c", keep_alive=65_536),
    "ClientConnected.will must be": lambda: ClientConnected(1, "c", will=MESSAGE),  # type: ignore[arg-type]
    "ClientConnected.will.message.qos": (
        lambda: ClientConnected(1, "c", will=Will(Message("a", qos=3)))
    ),
    "ClientConnected.will.message.topic_name": (
        lambda: ClientConnected(1, "c", will=Will(Message(b"a")))  # type: ignore[arg-type]
    ),
    "ClientConnected.will.message.payload": (
        lambda: ClientConnected(1, "c", will=Will(Message("a", "text")))  # type: ignore[arg-type]
    ),
    "ClientConnected.will.will_delay_interval must be 0 to 4294967295": (
        lambda: ClientConnected(1, "c", will=Will(MESSAGE, -1))
    ),
    "ClientConnected.will.will_delay_interval must be 0 to 4294967295, and 0 before MQTT 5.0": (
        lambda: ClientConnected(1, "c", 4, will=Will(MESSAGE, 1))
    ),
    "ClientConnected.assigned_client_id": lambda: ClientConnected(1, "c", assigned_client_id="d"),
    "ClientConnected.assigned_client_id must be a non-empty string": (
        lambda: ClientConnected(1, "", assigned_client_id="")
    ),
    "ClientConnected.policy": lambda: ClientConnected(1, "c", policy=SessionLimits()),  # type: ignore[arg-type]
    "ClientConnected.limits": lambda: ClientConnected(1, "c", limits=ExpiryPolicy()),  # type: ignore[arg-type]
    "ClientConnected.principal": lambda: ClientConnected(1, "c", principal=7),  # type: ignore[arg-type]
    "SubscribeReceived.refusals must be empty or hold": (
        lambda: SubscribeReceived(1, 1, (Subscription("a"),), (None, None))
    ),
    "SubscribeReceived.refusals must hold None or": (
        lambda: SubscribeReceived(1, 1, (Subscription("a"),), (CODES.SUCCESS,))
    ),
    "UnsubscribeReceived.refusals": lambda: UnsubscribeReceived(1, 1, ("a",), (None, None)),
    "MalformedPacketReceived.reason_code": (
        lambda: MalformedPacketReceived(1, ReasonCode.GRANTED_QOS_1)
    ),
    "MessagePublished.message must be": lambda: MessagePublished(DELIVERY),  # type: ignore[arg-type]
    "MessagePublished.message.topic_name": lambda: MessagePublished(Message("a/+")),
    "MessagePublished.message.payload": lambda: MessagePublished(Message("a", "text")),  # type: ignore[arg-type]
    "MessagePublished.message.qos": lambda: MessagePublished(Message("a", qos=3)),
    "MessagePublished.message.retain": lambda: MessagePublished(Message("a", retain=1)),  # type: ignore[arg-type]
    "MessagePublished.message.message_expiry_interval": (
        lambda: MessagePublished(Message("a", message_expiry_interval=-1))
    ),
    "SessionKicked.client_id": lambda: SessionKicked(""),
    "SessionKicked.reason_code": lambda: SessionKicked("c", CODES.SUCCESS),
    "SessionDiscarded.client_id": lambda: SessionDiscarded(""),
    "SessionExpirySet.client_id": lambda: SessionExpirySet("", 1),
    "SessionExpirySet.session_expiry_interval": lambda: SessionExpirySet("c", -1),
    "SubscriptionsAdded.client_id": lambda: SubscriptionsAdded("", ()),
    "SubscriptionsAdded.subscriptions[1] must be": (
        lambda: SubscriptionsAdded("c", (Subscription("a"), "b"))  # type: ignore[arg-type]
    ),
    "SubscriptionsAdded.subscriptions[0].topic_filter must be a well-formed": (
        lambda: SubscriptionsAdded("c", (Subscription("a#"),))
    ),
    "SubscriptionsAdded.subscriptions[0].topic_filter must not be a shared": (
        lambda: SubscriptionsAdded("c", (Subscription("$share/g/a"),))
    ),
    "SubscriptionsAdded.subscriptions[0].qos": (
        lambda: SubscriptionsAdded("c", (Subscription("a", 3),))
    ),
    "SubscriptionsAdded.subscriptions[0].retain_handling": (
        lambda: SubscriptionsAdded("c", (Subscription("a", retain_handling=3),))
    ),
    "SubscriptionsAdded.subscriptions[0].subscription_id": (
        lambda: SubscriptionsAdded("c", (Subscription("a", subscription_id=0),))
    ),
    "SubscriptionsRemoved.client_id": lambda: SubscriptionsRemoved("", ()),
    "WillRevoked.client_id": lambda: WillRevoked(""),
    "QueuePurged.client_id": lambda: QueuePurged(""),
    "QueuePurged.topic_filter": lambda: QueuePurged("c", "a/#/b"),
    "LimitsChanged.limits": lambda: LimitsChanged(ExpiryPolicy()),  # type: ignore[arg-type]
    "DeliverMessage.delivery must be": lambda: DeliverMessage(MESSAGE),  # type: ignore[arg-type]
    "DeliverMessage.delivery.qos": lambda: DeliverMessage(Delivery(MESSAGE, 3)),
    "DeliverMessage.delivery.message.topic_name": lambda: DeliverMessage(Delivery(Message(""), 0)),
}


@pytest.mark.parametrize("rule", BAD)
def test_a_bad_field_is_refused_by_its_name(rule: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        BAD[rule]()
    assert str(refused.value).startswith(rule)


@pytest.mark.parametrize("interval", [True, float("inf"), float("nan"), "1"])
def test_an_interval_that_is_no_number_of_seconds(interval: object) -> None:
    with pytest.raises(InvalidValue, match="must be None or seconds of 0 and above"):
        SessionExpirySet("c", interval)  # type: ignore[arg-type]


@pytest.mark.parametrize("interval", [None, 0, 0.5, 10**12])
def test_an_interval_that_a_host_may_set(interval: float | None) -> None:
    assert SessionExpirySet("c", interval).session_expiry_interval == interval


def test_numbers_at_their_bounds_are_accepted() -> None:
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
    assert connected.assigned_client_id == "given"
    MessagePublished(Message("a", qos=2, message_expiry_interval=0xFFFFFFFF), "c")
    SubscriptionsAdded("c", (Subscription("#", 2, subscription_id=268_435_455),))
    SubscribeReceived(1, 1, (Subscription("a"),), (CODES.NOT_AUTHORIZED,))
    QueuePurged("c", "a/#", 1.0)


def test_what_a_peer_sends_is_not_refused_by_constructors() -> None:
    PublishReceived(1, Message("#", qos=3), 0)
    SubscribeReceived(1, 0, (Subscription("a#b", 7, subscription_id=0),))
    UnsubscribeReceived(1, 0, ())
