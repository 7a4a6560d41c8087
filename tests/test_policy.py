"""What an interval comes to, for both versions, and what the three configurations refuse."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.policy import (
    ExpiryPolicy,
    OverflowPolicy,
    OverlapPolicy,
    ServerOptions,
    SessionLimits,
    UnauthorizedPolicy,
)

NEVER = 0xFFFFFFFF
PLAIN = ExpiryPolicy()
LITERAL = ExpiryPolicy(default_session_expiry_interval=None)
CAPPED = ExpiryPolicy(maximum_session_expiry_interval=60)
RAISED = ExpiryPolicy(minimum_session_expiry_interval=30)
BOTH = ExpiryPolicy(maximum_session_expiry_interval=60, minimum_session_expiry_interval=30)
NOTHING_KEPT = ExpiryPolicy(maximum_session_expiry_interval=0)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(
    ("policy", "clean", "expected"),
    [
        (PLAIN, True, 0),
        (PLAIN, False, 7200),
        (LITERAL, True, 0),
        (LITERAL, False, None),
        (CAPPED, True, 0),
        (CAPPED, False, 60),
        (ExpiryPolicy(None, 60), False, 60),
        (ExpiryPolicy(10, None, 30), False, 10),  # the floor is for what a CONNECT asks
        (NOTHING_KEPT, False, 0),
    ],
)
def test_at_connect_of_older_clients(
    version: int, policy: ExpiryPolicy, clean: bool, expected: float | None
) -> None:
    assert policy.at_connect(version, clean, None) == expected


@pytest.mark.parametrize("clean_start", [True, False])
@pytest.mark.parametrize(
    ("policy", "asked", "expected"),
    [
        (PLAIN, None, 0),
        (PLAIN, 0, 0),
        (PLAIN, 1, 1),
        (PLAIN, NEVER - 1, NEVER - 1),
        (PLAIN, NEVER, None),
        (LITERAL, None, 0),
        (CAPPED, None, 0),
        (CAPPED, 59, 59),
        (CAPPED, 60, 60),
        (CAPPED, 61, 60),
        (CAPPED, NEVER, 60),
        (RAISED, None, 0),
        (RAISED, 0, 0),
        (RAISED, 1, 30),
        (RAISED, 30, 30),
        (RAISED, 31, 31),
        (RAISED, NEVER, None),
        (BOTH, 1, 30),
        (BOTH, 100, 60),
        (BOTH, NEVER, 60),
        (NOTHING_KEPT, 5, 0),
        (NOTHING_KEPT, NEVER, 0),
    ],
)
def test_at_connect_of_newer_clients(
    policy: ExpiryPolicy, clean_start: bool, asked: int | None, expected: float | None
) -> None:
    assert policy.at_connect(5, clean_start, asked) == expected


@pytest.mark.parametrize(
    ("policy", "asked", "expected"),
    [
        (PLAIN, 0, 0),
        (PLAIN, 5, 5),
        (PLAIN, NEVER, None),
        (CAPPED, 61, 60),
        (CAPPED, NEVER, 60),
        (RAISED, 1, 1),  # a DISCONNECT value is never raised
        (RAISED, 0, 0),
        (BOTH, 1, 1),
        (BOTH, 61, 60),
    ],
)
def test_at_disconnect(policy: ExpiryPolicy, asked: int, expected: float | None) -> None:
    assert policy.at_disconnect(asked) == expected


@pytest.mark.parametrize(
    ("default", "cap", "carried", "expected"),
    [
        (None, None, None, None),
        (None, None, 0, 0),
        (None, None, 5, 5),
        (10, None, None, 10),
        (10, None, 50, 50),
        (10, None, 0, 0),
        (None, 20, None, 20),
        (None, 20, 5, 5),
        (None, 20, 50, 20),
        (None, 20, NEVER, 20),
        (50, 20, None, 20),
        (10, 20, None, 10),
        (10, 20, 0, 0),
    ],
)
def test_message_lifetime(
    default: float | None, cap: float | None, carried: int | None, expected: float | None
) -> None:
    policy = ExpiryPolicy(
        default_message_expiry_interval=default, maximum_message_expiry_interval=cap
    )
    assert policy.message_lifetime(carried) == expected


@pytest.mark.parametrize(
    ("show", "default", "carried", "expected"),
    [
        (False, None, None, None),
        (False, 10, None, None),
        (False, 10, 5, 5),
        (True, None, None, None),
        (True, 10, None, 10),
        (True, 9.5, None, 10),  # rounded up, as everything that is told
        (True, 10, 5, 5),
        (True, 10, 0, 0),
    ],
)
def test_told_message_expiry(
    show: bool, default: float | None, carried: int | None, expected: int | None
) -> None:
    policy = ExpiryPolicy(default_message_expiry_interval=default, show_default_message_expiry=show)
    assert policy.told_message_expiry(carried) == expected


def test_a_cap_is_never_told_for_a_message() -> None:
    policy = ExpiryPolicy(maximum_message_expiry_interval=20, show_default_message_expiry=True)
    assert policy.told_message_expiry(50) == 50
    assert policy.told_message_expiry(None) is None


# ---------------------------------------------------------------- what constructors refuse

SESSION_INTERVAL = [-1, -0.5, float("inf"), float("nan"), True, "1"]
MESSAGE_INTERVAL = [*SESSION_INTERVAL, 0, 0.0]
FLAG = [0, 1, None, "yes"]
COUNT = [-1, 1.5, True, "1"]

BAD: list[tuple[type, str, list[Any]]] = [
    (ExpiryPolicy, "default_session_expiry_interval", SESSION_INTERVAL),
    (ExpiryPolicy, "maximum_session_expiry_interval", SESSION_INTERVAL),
    (ExpiryPolicy, "minimum_session_expiry_interval", SESSION_INTERVAL),
    (ExpiryPolicy, "default_message_expiry_interval", MESSAGE_INTERVAL),
    (ExpiryPolicy, "maximum_message_expiry_interval", MESSAGE_INTERVAL),
    (ExpiryPolicy, "show_default_message_expiry", FLAG),
    (ExpiryPolicy, "expire_in_flight", FLAG),
    (ExpiryPolicy, "inbound_qos2_interval", MESSAGE_INTERVAL),
    (ExpiryPolicy, "retry_interval", MESSAGE_INTERVAL),
    (SessionLimits, "maximum_sessions", [*COUNT, 0]),
    (SessionLimits, "maximum_client_id_length", [*COUNT, 22]),
    (SessionLimits, "maximum_subscriptions", COUNT),
    (SessionLimits, "maximum_filters_per_packet", [*COUNT, 0]),
    (SessionLimits, "maximum_filter_levels", [*COUNT, 0]),
    (SessionLimits, "maximum_granted_qos", [*COUNT, 3, None]),
    (SessionLimits, "maximum_send_window", [*COUNT, 0, 65_536, None]),
    (SessionLimits, "maximum_queued_messages", COUNT),
    (SessionLimits, "maximum_queued_bytes", COUNT),
    (SessionLimits, "overflow", ["drop_oldest", None, OverlapPolicy.MERGE]),
    (SessionLimits, "queue_qos0", FLAG),
    (SessionLimits, "maximum_inbound_qos2", COUNT),
    (SessionLimits, "maximum_retained_messages", COUNT),
    (SessionLimits, "maximum_retained_bytes", COUNT),
    (SessionLimits, "retained_replay_batch", [*COUNT, 0, None]),
    (ServerOptions, "receive_maximum", [*COUNT, 0, 65_536, None]),
    (ServerOptions, "enforce_receive_maximum", FLAG),
    (ServerOptions, "maximum_packet_size", [*COUNT, 0, 268_435_461]),
    (ServerOptions, "topic_alias_maximum", [*COUNT, 65_536, None]),
    (ServerOptions, "maximum_qos", [*COUNT, 3, None]),
    (ServerOptions, "retain_available", FLAG),
    (ServerOptions, "server_keep_alive", [*COUNT, 65_536]),
    (ServerOptions, "overlap", ["merge", None, OverflowPolicy.DROP_OLDEST]),
    (ServerOptions, "upgrade_qos", FLAG),
    (ServerOptions, "unauthorized", ["close", None, OverlapPolicy.EACH]),
]


def test_every_field_is_checked() -> None:
    checked = [(cls, name) for cls, name, _ in BAD]
    classes = (ExpiryPolicy, SessionLimits, ServerOptions)
    assert checked == [(cls, field.name) for cls in classes for field in attrs.fields(cls)]


@pytest.mark.parametrize(
    ("cls", "name", "wrong"), [(cls, name, wrong) for cls, name, many in BAD for wrong in many]
)
def test_a_wrong_field_is_refused_by_its_name(cls: type, name: str, wrong: Any) -> None:
    with pytest.raises(InvalidValue, match=rf"^{cls.__name__}\.{name} must be "):
        cls(**{name: wrong})


def test_a_floor_above_the_cap_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"must not be above maximum_session_expiry_interval"):
        ExpiryPolicy(maximum_session_expiry_interval=5, minimum_session_expiry_interval=6)
    ExpiryPolicy(maximum_session_expiry_interval=5, minimum_session_expiry_interval=5)


def test_bounds_themselves_are_accepted() -> None:
    SessionLimits(
        maximum_sessions=1,
        maximum_client_id_length=23,
        maximum_subscriptions=0,
        maximum_filter_levels=1,
        maximum_granted_qos=0,
        maximum_send_window=65_535,
        maximum_queued_messages=0,
        maximum_queued_bytes=0,
        overflow=OverflowPolicy.DROP_NEWEST,
        queue_qos0=False,
        maximum_inbound_qos2=0,
        maximum_retained_messages=0,
        maximum_retained_bytes=0,
        retained_replay_batch=1,
    )
    ServerOptions(
        receive_maximum=65_535,
        enforce_receive_maximum=False,
        maximum_packet_size=268_435_460,
        topic_alias_maximum=65_535,
        maximum_qos=0,
        retain_available=False,
        server_keep_alive=0,
        overlap=OverlapPolicy.EACH,
        upgrade_qos=True,
        unauthorized=UnauthorizedPolicy.CLOSE,
    )
    ExpiryPolicy(0, 0, 0, 0.5, 0.5, True, True, 0.5, 0.5)
