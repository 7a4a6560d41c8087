"""Messages from one client to another, with clients that others have written."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from paho.mqtt.packettypes import PacketTypes

from mqtt_sessions import ReasonCode
from tests.broker.conftest import MakePaho, MakeRaw
from tests.broker.helpers import FAILS_AFTER, RunningBroker, eventually, properties

VERSIONS = (3, 4, 5)
MOSQUITTO = {3: "mqttv31", 4: "mqttv311", 5: "mqttv5"}


@pytest.mark.parametrize("publisher_version", VERSIONS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_qos_between_all_versions(
    make_paho: MakePaho, version: int, publisher_version: int
) -> None:
    subscriber = make_paho(version, "subscriber")
    publisher = make_paho(publisher_version, "publisher")
    subscriber.connect()
    publisher.connect()
    for granted in (0, 1, 2):
        assert subscriber.subscribe("a/+/c", granted) == [granted]
        for qos in (0, 1, 2):
            publisher.publish("a/ü/c", b"\0payload", qos)
            message = subscriber.message()
            assert (message.topic, message.payload) == ("a/ü/c", b"\0payload")
            assert message.qos == min(qos, granted)
            assert not message.retain
    assert subscriber.silent()


def test_properties_are_forwarded(make_paho: MakePaho) -> None:
    subscriber = make_paho(5, "subscriber")
    subscriber.connect()
    subscriber.client.subscribe(
        "t", 1, properties=properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=77)
    )
    subscriber.hear("subscribe")
    publisher = make_paho(5, "publisher")
    publisher.connect()
    told = properties(
        PacketTypes.PUBLISH,
        PayloadFormatIndicator=1,
        ContentType="text",
        ResponseTopic="answer/here",
        CorrelationData=b"id",
        UserProperty=[("a", "1"), ("a", "2")],
        MessageExpiryInterval=500,
    )
    publisher.publish("t", b"p", 1, properties=told)
    received = subscriber.message().properties.json()
    assert received.pop("MessageExpiryInterval") in (499, 500)
    assert received == {
        "PayloadFormatIndicator": 1,
        "ContentType": "text",
        "ResponseTopic": "answer/here",
        "CorrelationData": b"id".hex(),
        "UserProperty": [("a", "1"), ("a", "2")],
        "SubscriptionIdentifier": [77],
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_retained_messages(make_paho: MakePaho, version: int) -> None:
    publisher = make_paho(version, "publisher")
    publisher.connect()
    publisher.publish_all([(f"state/{n}", b"%d" % n, 1) for n in range(3)], retain=True)
    publisher.publish("state/1", b"", 1, retain=True)
    subscriber = make_paho(version, "subscriber")
    subscriber.connect()
    subscriber.subscribe("state/#", 1)
    received = [subscriber.message() for _ in range(2)]
    assert {(m.topic, m.payload) for m in received} == {("state/0", b"0"), ("state/2", b"2")}
    assert all(message.retain for message in received)
    publisher.publish("state/0", b"live", 1, retain=True)
    live = subscriber.message()
    assert (live.payload, live.retain) == (b"live", False)
    assert subscriber.silent()


def test_a_thousand_retained_messages_come_paced(make_raw: MakeRaw) -> None:
    publisher = make_raw()
    publisher.connect("publisher")
    for number in range(1000):
        publisher.publish(f"state/{number:03}", b"x", retain=True)
    assert publisher.before_ping() == []
    subscriber = make_raw()
    subscriber.connect("subscriber")
    subscriber.subscribe("state/+")
    received = [subscriber.receive().message for _ in range(1000)]
    assert [message.topic_name for message in received] == [f"state/{n:03}" for n in range(1000)]
    assert subscriber.before_ping() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_one_message_to_many(make_raw: MakeRaw, version: int) -> None:
    subscribers = [make_raw(VERSIONS[n % 3]) for n in range(60)]
    for number, subscriber in enumerate(subscribers):
        subscriber.connect(f"subscriber-{number}")
        subscriber.subscribe("t", 1)
    publisher = make_raw(version)
    publisher.connect("publisher")
    publisher.publish("t", b"hello", 1)
    assert {subscriber.receive().message.payload for subscriber in subscribers} == {b"hello"}


def test_large_payloads(make_paho: MakePaho) -> None:
    subscriber, publisher = make_paho(4, "subscriber"), make_paho(5, "publisher")
    subscriber.connect()
    publisher.connect()
    subscriber.subscribe("large", 2)
    for size in (127, 128, 16_383, 16_384, 1_000_000):
        payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
        publisher.publish("large", payload, size % 3)
        assert subscriber.message().payload == payload


def test_no_local_and_overlapping_subscriptions(make_raw: MakeRaw) -> None:
    client = make_raw()
    client.connect("client")
    client.subscribe("a/#", 1, subscription_id=1)
    client.subscribe("a/+", 2, subscription_id=2)
    client.subscribe("b", 0, no_local=True)
    client.publish("b", b"own")
    client.publish("a/b", b"once")
    [packet] = client.before_ping()
    assert (packet.message.payload, packet.subscription_ids) == (b"once", (1, 2))


def test_nobody_listens(make_raw: MakeRaw) -> None:
    client = make_raw()
    client.connect("client")
    answer = client.publish("nobody", b"", 1)
    assert answer.reason_code is ReasonCode.NO_MATCHING_SUBSCRIBERS


# ---------------------------------------------------------------- mosquitto's programs


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mosquitto_both_ways(
    broker: RunningBroker, require_program: Callable[[str], str], version: int, qos: int
) -> None:
    where = ["-h", "127.0.0.1", "-p", str(broker.port), "-V", MOSQUITTO[version], "-q", str(qos)]
    listen = [require_program("mosquitto_sub"), *where, "-t", "a/#", "-C", "3", "-W", "60", "-v"]
    speak = [require_program("mosquitto_pub"), *where, "-t", "a/b"]
    with subprocess.Popen(listen, stdout=subprocess.PIPE) as listener:
        eventually(lambda: broker.call(lambda each: each.store.connected_count) == 1)
        eventually(
            lambda: broker.call(lambda each: [n for n in each.store if each.store[n].subscriptions])
        )
        for text in ("one", "two", "three"):
            subprocess.run([*speak, "-m", text], check=True, timeout=FAILS_AFTER)
        output, _ = listener.communicate(timeout=FAILS_AFTER)
    assert output.decode().splitlines() == ["a/b one", "a/b two", "a/b three"]
    assert listener.returncode == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_mosquitto_comes_back(
    broker: RunningBroker, require_program: Callable[[str], str], version: int
) -> None:
    where = ["-h", "127.0.0.1", "-p", str(broker.port), "-V", MOSQUITTO[version], "-q", "1"]
    listen = [require_program("mosquitto_sub"), *where, "-t", "a", "-i", "subscriber", "-c"]
    if version == 5:
        listen += ["-x", "60"]
    speak = [require_program("mosquitto_pub"), *where, "-t", "a", "-l"]
    subprocess.run([*listen, "-E"], check=True, timeout=FAILS_AFTER)
    eventually(lambda: broker.parked("subscriber"))
    subprocess.run(speak, input=b"one\ntwo\nthree\n", check=True, timeout=FAILS_AFTER)
    came = subprocess.run(
        [*listen, "-C", "3", "-W", "60"], check=True, timeout=FAILS_AFTER, stdout=subprocess.PIPE
    )
    assert came.stdout.decode().splitlines() == ["one", "two", "three"]
