"""Bugs of the core that the model, the searches and the reviews of them found."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    ConnectionCongested,
    ConnectionWritable,
    OverflowPolicy,
    SendPublish,
    SessionLimits,
)
from tests.behavior.helpers import spec
from tests.core.helpers import World

LIMITS = SessionLimits(maximum_queued_messages=1, overflow=OverflowPolicy.DROP_NEWEST)


@spec("5.0 MQTT-3.3.1-9", "3.1.1 MQTT-3.3.1-6")
@pytest.mark.parametrize("later", [0.0, 0.5], ids=["at the same instant", "later"])
def test_retained_message_comes_though_an_older_live_one_arrived_at_the_same_instant(
    later: float,
) -> None:
    world = World(limits=LIMITS)
    world.subscriber("s", "s", "t", qos=1)
    world.do(ConnectionCongested("s"))
    world.publish("t", b"old", qos=1)
    world.now += later
    world.publish("t", b"new", qos=1, retain=True)  # its live copy meets a full queue
    world.subscribe("s", "t", qos=1)
    outcome = world.do(ConnectionWritable("s"))
    assert payloads(outcome) == [b"old", b"new"]


@spec("NN-14.6")
@pytest.mark.parametrize("later", [0.0, 0.5], ids=["at the same instant", "later"])
def test_older_retained_message_does_not_follow_a_newer_live_one_of_the_same_instant(
    later: float,
) -> None:
    world = World(limits=LIMITS)
    world.publish("t", b"old", qos=1, retain=True)
    world.subscriber("s", "s", "u", qos=1)
    world.do(ConnectionCongested("s"))
    world.now += later
    world.subscribe("s", "t", qos=1)
    world.publish("t", b"new", qos=1)
    outcomes = [world.do(ConnectionWritable("s")), world.tick()]
    assert [payload for each in outcomes for payload in payloads(each)][-1:] == [b"new"]


def payloads(outcome: object) -> list[bytes]:
    actions = getattr(outcome, "actions", ())
    return [each.delivery.message.payload for each in actions if isinstance(each, SendPublish)]
