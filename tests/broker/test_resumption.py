"""A client subscribes, goes away, misses messages, comes back and gets them."""

from __future__ import annotations

import time

import attrs
import pytest
from paho.mqtt.packettypes import PacketTypes

from mqtt_sessions import ReasonCode, wire
from tests.broker.conftest import MakePaho, MakeRaw
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
    publisher.publish_all((f"news/{n}", b"%d" % n, n % 3) for n in range(30))

    # MQTT 3.1 has no Session Present bit to tell it with
    assert connect_to_stay(subscriber) == (version != 3, 0)
    received = [subscriber.message() for _ in range(30)]
    for qos in (0, 1, 2):  # paho hands a QoS 2 message on at its PUBREL: order is within a QoS
        got = [(message.topic, message.payload) for message in received if message.qos == qos]
        assert got == [(f"news/{n}", b"%d" % n) for n in range(30) if n % 3 == qos]
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
    for interval in (100, 30, 1):
        told = properties(PacketTypes.PUBLISH, MessageExpiryInterval=interval)
        publisher.publish("news", b"%d" % interval, 1, properties=told)
    publisher.publish("news", b"for ever", 1)
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
    assert list(left) == [b"100", b"30", b"for ever"]
    # All were there a second before the one that expired was gone; rounded up.
    assert 100 - elapsed <= left[b"100"] <= 99
    assert 30 - elapsed <= left[b"30"] <= 29
    assert left[b"for ever"] is None


def test_what_was_not_acknowledged_comes_again(broker: RunningBroker, make_raw: MakeRaw) -> None:
    first = make_raw()
    first.connect("subscriber", session_expiry_interval=60)
    assert first.subscribe("t", 2) == [ReasonCode.GRANTED_QOS_2]
    publisher = make_raw()
    publisher.connect("publisher")
    for qos in (0, 1, 2, 2):
        publisher.publish("t", b"%d" % qos, qos)
    sent = [first.receive() for _ in range(4)]
    first.send(wire.Pubrec(sent[3].packet_id))
    assert first.receive() == wire.Pubrel(sent[3].packet_id)
    first.socket.close()
    eventually(lambda: broker.parked("subscriber"))

    again = make_raw()
    assert again.connect("subscriber", clean_start=False).session_present
    expected = [attrs.evolve(packet, dup=True) for packet in sent[1:3]]
    assert again.before_ping() == [wire.Pubrel(sent[3].packet_id), *expected]


def test_a_resumed_window_is_the_new_one(broker: RunningBroker, make_raw: MakeRaw) -> None:
    first = make_raw()
    first.connect("subscriber", session_expiry_interval=60)
    first.subscribe("t", 1)
    first.socket.close()
    eventually(lambda: broker.parked("subscriber"))
    publisher = make_raw()
    publisher.connect("publisher")
    for number in range(10):
        publisher.publish("t", b"%d" % number, 1)

    again = make_raw()
    again.connect("subscriber", clean_start=False, receive_maximum=3)
    received = []
    for _ in range(10):
        came = again.before_ping()
        assert len(came) <= 3
        received += came
        again.send(*(wire.Puback(packet.packet_id) for packet in came))
        if not came:
            break
    assert [packet.message.payload for packet in received] == [b"%d" % n for n in range(10)]


@pytest.mark.parametrize(("before", "after"), [(4, 5), (5, 4), (3, 5)])
def test_another_version_takes_the_session_up(
    broker: RunningBroker, make_raw: MakeRaw, before: int, after: int
) -> None:
    told = {"session_expiry_interval": 60} if before == 5 else {}
    first = make_raw(before)
    first.connect("subscriber", clean_start=False, **told)
    first.subscribe("t", 1)
    first.send(wire.Disconnect())
    assert first.receive() is None
    publisher = make_raw()
    publisher.connect("publisher")
    before_publishing = time.time()
    publisher.publish("t", b"hello", 1, message_expiry_interval=100)
    again = make_raw(after)
    assert again.connect("subscriber", clean_start=False).session_present
    message = again.receive().message
    assert message.payload == b"hello"
    elapsed = time.time() - before_publishing
    left = message.message_expiry_interval
    assert (100 - elapsed <= left <= 100) if after == 5 else left is None
