"""A client subscribes, goes away, misses messages, comes back and gets them."""

from __future__ import annotations

import time

import pytest
from paho.mqtt.packettypes import PacketTypes

from tests.broker.conftest import MakePaho
from tests.broker.helpers import PahoClient, RunningBroker, eventually, properties

MINUTE = properties(PacketTypes.CONNECT, SessionExpiryInterval=60)


def connect_to_stay(client: PahoClient) -> tuple[bool, int]:
    """CONNECT with a session that outlives the connection, in the words of its version."""
    return client.connect(MINUTE if client.version == 5 else None)


@pytest.mark.parametrize("publisher_version", [3, 4, 5])
@pytest.mark.parametrize("version", [3, 4, 5])
def test_missed_messages_come_in_order(
    broker: RunningBroker, make_paho: MakePaho, version: int, publisher_version: int
) -> None:
    subscriber = make_paho(version, "subscriber", clean=False)
    assert connect_to_stay(subscriber) == (False, 0)
    assert subscriber.subscribe("news/#", 2) == [2]
    subscriber.disconnect()
    eventually(lambda: broker.parked("subscriber"))

    publisher = make_paho(publisher_version, "publisher")
    publisher.connect()
    for number in range(30):
        publisher.publish(f"news/{number}", b"%d" % number, number % 3)

    # MQTT 3.1 has no Session Present bit to tell it with
    assert connect_to_stay(subscriber) == (version != 3, 0)
    received = [subscriber.message() for _ in range(30)]
    assert [message.payload for message in received] == [b"%d" % n for n in range(30)]
    assert [message.qos for message in received] == [n % 3 for n in range(30)]
    assert [message.topic for message in received] == [f"news/{n}" for n in range(30)]
    assert not any(message.dup for message in received)


def test_remaining_expiry_is_what_is_left_of_the_original(
    broker: RunningBroker, make_paho: MakePaho
) -> None:
    subscriber = make_paho(5, "subscriber", clean=False)
    connect_to_stay(subscriber)
    subscriber.subscribe("news", 1)
    subscriber.disconnect()
    eventually(lambda: broker.parked("subscriber"))

    publisher = make_paho(5, "publisher")
    publisher.connect()
    before = time.time()
    for interval in (100, 3, 1):
        told = properties(PacketTypes.PUBLISH, MessageExpiryInterval=interval)
        publisher.publish("news", b"%d" % interval, 1, properties=told)
    publisher.publish("news", b"for ever", 1)
    published = time.time()
    # The message of one second leaves the queue when its time has come, with nobody there.
    eventually(lambda: broker.call(lambda each: each.store["subscriber"].queue_depth) == 3)
    assert time.time() - before >= 1

    connect_to_stay(subscriber)
    left = {}
    for _ in range(3):
        message = subscriber.message()
        told = message.properties
        left[message.payload] = getattr(told, "MessageExpiryInterval", None)
    elapsed = time.time() - before
    assert list(left) == [b"100", b"3", b"for ever"]
    assert left[b"for ever"] is None
    waited = 1.0 - (published - before)
    assert 100 - elapsed <= left[b"100"] <= 100 - waited + 1
    assert 3 - elapsed <= left[b"3"] <= 3 - waited + 1
