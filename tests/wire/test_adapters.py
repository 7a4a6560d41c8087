"""Packets as events."""

from __future__ import annotations

from typing import Any, get_args, get_overloads, get_type_hints

import pytest

from mqtt_sessions import wire
from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.events import (
    ClientConnected,
    DisconnectReceived,
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
from mqtt_sessions.messages import Message, Will
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.wire import adapters

CODE = ReasonCode.UNSPECIFIED_ERROR
MESSAGE = Message("t", b"p", 1, True)
SUBSCRIPTION = Subscription("a/#", 1, subscription_id=4)

EVENTS: list[tuple[Any, Any]] = [
    (
        wire.Connect("me", 5, False, 30, Will(MESSAGE, 3), "user", b"secret", 60, 10, 1000, 5),
        ClientConnected("c", "me", 5, False, 60, 10, 1000, 30, Will(MESSAGE, 3)),
    ),
    (wire.Connect("me", 3), ClientConnected("c", "me", 3)),
    (
        wire.Publish(MESSAGE, 7, True, 2, (1, 2)),
        PublishReceived("c", MESSAGE, 7, True, None, (1, 2)),
    ),
    (wire.Puback(7, CODE, "why"), PubackReceived("c", 7, CODE)),
    (wire.Pubrec(7, CODE), PubrecReceived("c", 7, CODE)),
    (wire.Pubrel(7), PubrelReceived("c", 7)),
    (wire.Pubcomp(7), PubcompReceived("c", 7)),
    (wire.Subscribe(7, (SUBSCRIPTION,)), SubscribeReceived("c", 7, (SUBSCRIPTION,))),
    (wire.Unsubscribe(7, ("a", "b")), UnsubscribeReceived("c", 7, ("a", "b"))),
    (wire.Pingreq(), PingReceived("c")),
    (wire.Auth(), PingReceived("c", answer=False)),
    (wire.Disconnect(0x42, 9), DisconnectReceived("c", 0x42, 9)),
    (wire.WireError(CODE, "broken"), MalformedPacketReceived("c", CODE)),
]


@pytest.mark.parametrize(("item", "event"), EVENTS)
def test_a_packet_is_the_event_it_names(item: Any, event: Any) -> None:
    assert wire.to_event(item, "c") == event


@pytest.mark.parametrize(
    "packet",
    [
        wire.Connack(False, ReasonCode.SUCCESS),
        wire.Suback(1, (ReasonCode.SUCCESS,)),
        wire.Unsuback(1),
        wire.Pingresp(),
    ],
)
def test_what_only_a_server_sends_is_no_event(packet: Any) -> None:
    with pytest.raises(InvalidValue, match="does not come from a client"):
        wire.to_event(packet, "c")


def test_no_repr_shows_a_password_or_a_payload() -> None:
    connect = wire.Connect(
        "me",
        will=Will(Message("t", b"secret")),
        password=b"secret",
        authentication_method="m",
        authentication_data=b"secret",
    )
    for packet in (
        connect,
        wire.Publish(Message("t", b"secret", correlation_data=b"secret")),
        wire.Auth(authentication_data=b"secret"),
        wire.Connack(False, ReasonCode.SUCCESS, authentication_data=b"secret"),
    ):
        assert "secret" not in repr(packet)


def test_each_packet_of_a_client_makes_an_event_of_the_type_that_its_overload_says() -> None:
    """So that `attrs.evolve(to_event(packet, connection), …)` type-checks."""
    told: dict[type, type] = {}
    for overload in get_overloads(wire.to_event)[:-1]:
        hints = get_type_hints(overload, vars(adapters))
        for item in get_args(hints["item"]) or (hints["item"],):
            told[item] = hints["return"]
    items: list[wire.Packet | wire.WireError] = [
        wire.Connect("c"),
        wire.Publish(Message("a")),
        wire.Puback(1),
        wire.Pubrec(1),
        wire.Pubrel(1),
        wire.Pubcomp(1),
        wire.Subscribe(1, (Subscription("a"),)),
        wire.Unsubscribe(1, ("a",)),
        wire.Pingreq(),
        wire.Auth(),
        wire.Disconnect(),
        wire.WireError(ReasonCode.MALFORMED_PACKET, "bad"),
    ]
    assert {type(item): type(wire.to_event(item, 1)) for item in items} == told
    assert told.keys() == adapters._EVENTS.keys()


def test_an_error_shows_its_reason_code() -> None:
    error = wire.WireError(ReasonCode.MALFORMED_PACKET, "reserved flags", wire.PacketType.PINGREQ)
    assert repr(error) == (
        "WireError(ReasonCode.MALFORMED_PACKET, 'reserved flags', PacketType.PINGREQ)"
    )
    assert repr(wire.WireError(ReasonCode.PACKET_TOO_LARGE, "large")) == (
        "WireError(ReasonCode.PACKET_TOO_LARGE, 'large')"
    )
