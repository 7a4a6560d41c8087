"""Every public value class: built, hashed, compared, shown; and what constructors refuse."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import attrs
import pytest

from mqtt_sessions import actions, changes, events, messages, notices, policy, subscriptions
from mqtt_sessions.actions import Action, RouteMessage, SendPublish
from mqtt_sessions.changes import Change
from mqtt_sessions.errors import InvalidState, InvalidValue, MqttSessionsError
from mqtt_sessions.events import (
    ClientConnected,
    DeliverMessage,
    Event,
    PublishReceived,
)
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.notices import DropReason, EndReason, MessageDropped, Notice
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.snapshots import ReplaySnapshot
from mqtt_sessions.subscriptions import Subscription

MODULES: tuple[ModuleType, ...] = (
    messages,
    subscriptions,
    events,
    actions,
    notices,
    changes,
    policy,
)
SECRET = b"nobody may read this in a log"
MESSAGE = Message("a/b", SECRET, 1, correlation_data=SECRET)
DELIVERY = Delivery(MESSAGE, 1)

# Two values for each field that some class cannot be built without.
REQUIRED: dict[str, tuple[Any, Any]] = {
    "alive_at": (1.0, 2.0),
    "below": (1, 2),
    "client_id": ("c", "d"),
    "connected": (True, False),
    "connection": (1, "two"),
    "delivery": (DELIVERY, Delivery(MESSAGE, 0)),
    "delivery_id": (1, None),
    "detail": ("late", "early"),
    "due_at": (1.0, None),
    "dup": (False, True),
    "ends_at": (1.0, None),
    "epoch": (1, 2),
    "expires_at": (1.0, None),
    "expiry_interval": (1.0, None),
    "limits": (SessionLimits(), SessionLimits(maximum_send_window=1)),
    "message": (MESSAGE, Message("c")),
    "message_expiry_interval": (None, 3),
    "message_id": (1, 2),
    "packet_id": (1, 2),
    "packet_ids_until": (1, 2),
    "place": (1, 2),
    "policy": (None, ExpiryPolicy()),
    "principal": ("p", None),
    "protocol_version": (4, 5),
    "publish_at": (1.0, 2.0),
    "publisher": ("c", "d"),
    "qos": (0, 1),
    "received_at": (1.0, 2.0),
    "replay": (
        ReplaySnapshot((), (), (), 0, True, None),
        ReplaySnapshot((), (), (), 1, True, None),
    ),
    "reason": (DropReason.EXPIRED, EndReason.EXPIRED),
    "reason_code": (ReasonCode.QUOTA_EXCEEDED, ReasonCode.NOT_AUTHORIZED),
    "reason_codes": ((ReasonCode.SUCCESS,), ()),
    "route_id": (1, 2),
    "session_expiry_interval": (5.0, None),
    "session_id": (1, 2),
    "session_present": (True, False),
    "started_at": (1.0, 2.0),
    "subscription": (Subscription("a"), Subscription("b")),
    "subscriptions": ((Subscription("a"),), ()),
    "topic_filter": ("a/+", "b"),
    "topic_filters": (("a", "b"), ()),
    "topic_name": ("a", "b"),
    "will": (Will(MESSAGE), Will(Message("c"))),
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
    *get_args(Change),
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


def test_the_union_of_changes_is_closed() -> None:
    declared = [cls for cls in vars(changes).values() if isinstance(cls, type) and attrs.has(cls)]
    own = {cls for cls in declared if cls.__module__ == changes.__name__}
    assert set(get_args(Change)) == own


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
