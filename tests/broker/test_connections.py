"""What the host does for a connection: bytes, errors, aliases, full buffers, refusals."""

from __future__ import annotations

import contextlib
import random
import socket

import pytest

from examples.broker import connection as connection_module
from examples.broker.configuration import Configuration
from mqtt_sessions import (
    ConnectReturnCode,
    DropReason,
    Message,
    ReasonCode,
    ServerOptions,
    SessionLimits,
    Subscription,
    UnauthorizedPolicy,
    Will,
    wire,
)
from tests.broker.conftest import MakePaho, MakeRaw, StartBroker
from tests.broker.helpers import RawClient, RunningBroker, eventually

# ---------------------------------------------------------------- bytes


def test_pipelined_packets_cut_anywhere(make_raw: MakeRaw) -> None:
    cut = random.Random(1)
    subscriber = make_raw()
    subscriber.connect("subscriber", receive_maximum=65_535)
    subscriber.subscribe("t/#")
    packets: list[wire.Packet] = [wire.Connect("client", 5)]
    packets.append(wire.Subscribe(1, (Subscription("own", 1),)))
    numbers = range(2, 202)
    for number in numbers:
        message = Message(f"t/{number}", b"%d" % number * (number % 60), number % 3)
        packets.append(wire.Publish(message, number if number % 3 else None))
        if number % 3 == 2:
            packets.append(wire.Pubrel(number))
    packets.append(wire.Pingreq())
    data = b"".join(wire.encode(packet, 5) for packet in packets)
    assert len(data) > 10_000

    client = make_raw()
    while data:
        size = cut.choice((1, 2, 3, 10, 100, 1000))
        client.send_bytes(data[:size])
        data = data[size:]
    assert isinstance(client.receive(), wire.Connack)
    assert client.receive() == wire.Suback(1, (ReasonCode.GRANTED_QOS_1,))
    answers = []
    while not isinstance(packet := client.receive(), wire.Pingresp):
        answers.append(packet)
    expected: list[wire.Packet] = []
    for number in numbers:
        expected += [[], [wire.Puback(number)], [wire.Pubrec(number), wire.Pubcomp(number)]][
            number % 3
        ]
    assert answers == expected
    received = [subscriber.receive().message.topic_name for _ in numbers]
    assert received == [f"t/{number}" for number in numbers]


@pytest.mark.parametrize("size", [16_384, 100_000, 1_000_000])
def test_a_large_message_right_behind_connect(make_raw: MakeRaw, size: int) -> None:
    client = make_raw()
    large = wire.Publish(Message("t", bytes(size), 1), 1)
    client.send(wire.Connect("client", 5), large, wire.Pingreq())
    assert client.receive().reason_code == 0
    assert isinstance(client.receive(), wire.Puback)
    assert client.receive() == wire.Pingresp()


BAD_PACKETS = {
    "reserved type": (b"\x00\x00", 0x81),
    "reserved flags": (b"\xc1\x00", 0x81),
    "QoS 3": (b"\x36\x07\x00\x01t\x00\x01\x00x", 0x81),
    "endless length": (b"\x30\xff\xff\xff\xff", 0x81),
    "cut inside": (b"\x82\x02\x00\x01", 0x81),
    "no UTF-8": (b"\x30\x05\x00\x02\xff\xfe\x00", 0x81),
    "packet identifier 0": (b"\x40\x02\x00\x00", 0x82),
    "second CONNECT": (wire.encode(wire.Connect("client", 5), 5), 0x82),
    "from the wrong side": (b"\xd0\x00", 0x82),
    "PUBCOMP out of the blue": (b"\x70\x02\x00\x05", None),
    "AUTH without a method in CONNECT": (b"\xf0\x00", 0x82),
    "wildcard topic": (wire.encode(wire.Publish(Message("a/b")), 5).replace(b"a/b", b"a/+"), 0x90),
    "alias 0": (b"\x30\x07\x00\x01t\x03\x23\x00\x00", 0x94),
    "alias too large": (wire.encode(wire.Publish(Message("t"), topic_alias=11), 5), 0x94),
    "too large": (b"\x30\x81\x80\x80\x08", 0x95),
    "shared with No Local": (b"\x82\x10\x00\x01\x00\x00\x0a$share/g/t\x04", 0x82),
}


@pytest.mark.parametrize(("data", "code"), BAD_PACKETS.values(), ids=BAD_PACKETS)
def test_bad_packets_get_their_code(
    broker: RunningBroker, make_raw: MakeRaw, data: bytes, code: int | None
) -> None:
    client = make_raw()
    client.connect("client")
    client.send_bytes(data)
    if code is None:
        client.before_ping()
        return
    assert client.receive_all() == [wire.Disconnect(ReasonCode(code))]
    assert broker.gone("client")


@pytest.mark.parametrize("version", [3, 4])
def test_bad_packets_of_old_clients_just_close(make_raw: MakeRaw, version: int) -> None:
    client = make_raw(version)
    client.connect("client")
    client.send_bytes(b"\x00\x00")
    assert client.receive_all() == []


def test_bad_connects(make_raw: MakeRaw) -> None:
    connect = wire.encode(wire.Connect("client", 5), 5)
    answers = {
        connect.replace(b"MQTT\x05", b"MQTT\x06"): (5, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION),
        connect.replace(b"MQTT\x05\x02", b"MQTT\x05\x03"): (5, ReasonCode.MALFORMED_PACKET),
        connect.replace(b"MQTT\x05", b"MQTT\x02"): (
            4,
            ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION,
        ),
    }
    for data, (version, code) in answers.items():
        client = make_raw(version)
        client.send_bytes(data)
        assert client.receive_all() == [wire.Connack(False, code)]


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\xc0\x00", bytes(100)]
)
def test_what_is_no_mqtt_is_closed_without_a_word(make_raw: MakeRaw, data: bytes) -> None:
    client = make_raw()
    client.send_bytes(data)
    assert client.receive_all() == []
    assert client.seen == b""


# ---------------------------------------------------------------- strangers and leavers


def test_no_connect_in_time(make_raw: MakeRaw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "CONNECT_TIMEOUT", 0.1)
    silent, dripping = make_raw(), make_raw()
    dripping.send_bytes(b"\x10")
    assert silent.receive_all() == dripping.receive_all() == []


def test_connecting_ends_the_time_out(make_raw: MakeRaw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "CONNECT_TIMEOUT", 0.5)
    client = make_raw()
    client.connect()
    stranger = make_raw()
    assert stranger.receive() is None  # so the client's time is over too
    assert client.before_ping() == []


def test_a_large_packet_before_connect(make_raw: MakeRaw, broker: RunningBroker) -> None:
    client = make_raw()
    try:
        client.send_bytes(b"\x10\xff\xff\xff\x03" + bytes(200_000))  # declares 8 MB
    except ConnectionError:
        return  # closed before all of it was there
    assert client.receive_all() == []


def test_a_leaver_that_reads_nothing_is_cut_off(
    broker: RunningBroker, make_raw: MakeRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.1)
    broker.small_send_buffers()
    slow = make_raw(receive_buffer=4096)
    slow.connect("slow")
    slow.subscribe("t")
    publisher = make_raw()
    publisher.connect("publisher")
    publisher.publish("t", bytes(1_000_000))
    publisher.before_ping()
    slow.send(wire.Disconnect())
    eventually(lambda: broker.call(lambda each: len(each.connections)) == 1)


# ---------------------------------------------------------------- full buffers


def test_a_client_that_does_not_read(start_broker: StartBroker) -> None:
    broker = start_broker(Configuration(limits=SessionLimits(maximum_queued_messages=50)))
    broker.small_send_buffers()
    with (
        RawClient(broker.port, receive_buffer=4096) as slow,
        RawClient(broker.port) as quick,
        RawClient(broker.port) as publisher,
    ):
        for name, client in (("slow", slow), ("quick", quick)):
            client.connect(name)
            client.subscribe("t")
        publisher.connect("publisher")
        for number in range(300):
            publisher.publish("t", b"%5d" % number + bytes(10_000))
            assert quick.receive().message.payload.startswith(b"%5d" % number)
            assert broker.unwritten() < 100_000
        dropped = broker.call(lambda each: each.store["slow"].counters.dropped)
        assert dropped[DropReason.QUEUE_FULL] > 200
        received = slow.before_ping()
        numbers = [int(packet.message.payload[:5]) for packet in received]
        assert numbers == sorted(numbers)
        # Answers and messages are one stream, but what was held back may come behind the answer.
        while numbers[-1] != 299:
            numbers.append(int(slow.receive().message.payload[:5]))
        assert len(numbers) + dropped[DropReason.QUEUE_FULL] == 300


def test_qos_1_to_a_client_that_does_not_read(start_broker: StartBroker) -> None:
    broker = start_broker(Configuration(limits=SessionLimits(maximum_send_window=65_535)))
    broker.small_send_buffers()
    with RawClient(broker.port, receive_buffer=4096) as slow, RawClient(broker.port) as publisher:
        slow.connect("slow")
        slow.subscribe("t", 1)
        publisher.connect("publisher")
        for number in range(200):
            publisher.publish("t", b"%5d" % number + bytes(10_000), 1)
            assert broker.unwritten() < 100_000
        packets = [slow.receive() for _ in range(200)]  # nothing is lost, only late
        assert [int(packet.message.payload[:5]) for packet in packets] == list(range(200))
        slow.send(*(wire.Puback(packet.packet_id) for packet in packets))
        assert slow.before_ping() == []
        assert broker.call(lambda each: each.store["slow"].counters.completed) == 200


def test_answers_that_nobody_reads_do_not_pile_up(broker: RunningBroker, make_raw: MakeRaw) -> None:
    broker.small_send_buffers()
    flood = make_raw(receive_buffer=4096)
    flood.connect("flood")
    pings = wire.encode(wire.Pingreq(), 5) * 50_000
    flood.socket.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        for _ in range(100):
            flood.send_bytes(pings)
        pytest.fail("the broker took them all")
    assert broker.unwritten() < 200_000
    other = make_raw()
    other.connect("other")
    assert other.before_ping() == []


# ---------------------------------------------------------------- topic aliases


def test_inbound_aliases(make_raw: MakeRaw) -> None:
    subscriber = make_raw(4)
    subscriber.connect("subscriber")
    subscriber.subscribe("#")
    client = make_raw()
    assert client.connect("client").topic_alias_maximum == 10
    client.send(
        wire.Publish(Message("some/topic", b"1"), topic_alias=10),
        wire.Publish(Message("", b"2"), topic_alias=10),
        wire.Publish(Message("other/topic", b"3"), topic_alias=10),
        wire.Publish(Message("", b"4"), topic_alias=10),
        wire.Publish(Message("", b"5"), topic_alias=3),
    )
    assert client.receive_all() == [wire.Disconnect(ReasonCode.PROTOCOL_ERROR)]
    received = [subscriber.receive().message for _ in range(4)]
    assert [(each.topic_name, each.payload) for each in received] == [
        ("some/topic", b"1"),
        ("some/topic", b"2"),
        ("other/topic", b"3"),
        ("other/topic", b"4"),
    ]


def test_outbound_aliases(make_raw: MakeRaw) -> None:
    subscriber, plain = make_raw(topic_alias_maximum=2), make_raw()
    for name, client in (("subscriber", subscriber), ("plain", plain)):
        client.connect(name)
        client.subscribe("#", 1)
    publisher = make_raw()
    publisher.connect("publisher")
    topics = ["first/topic", "second/topic", "first/topic", "third/topic", "first/topic"]
    for topic in topics:
        publisher.publish(topic, b"x", 1)
    packets = [subscriber.receive() for _ in topics]
    assert [packet.message.topic_name for packet in packets] == topics
    assert [packet.topic_alias for packet in packets] == [1, 2, 1, 2, 1]
    assert subscriber.seen.count(b"first/topic") == 1
    assert [plain.receive().topic_alias for _ in topics] == [None] * 5
    assert plain.seen.count(b"first/topic") == 3


# ---------------------------------------------------------------- limits that the server tells


def test_what_the_server_offers(start_broker: StartBroker) -> None:
    options = ServerOptions(
        receive_maximum=5,
        maximum_packet_size=1000,
        topic_alias_maximum=3,
        maximum_qos=1,
        retain_available=False,
    )
    broker = start_broker(Configuration(options=options))
    faults = {
        ReasonCode.PACKET_TOO_LARGE: wire.Publish(Message("t", bytes(1000))),
        ReasonCode.TOPIC_ALIAS_INVALID: wire.Publish(Message("t"), topic_alias=4),
        ReasonCode.QOS_NOT_SUPPORTED: wire.Publish(Message("t", qos=2), 1),
        ReasonCode.RETAIN_NOT_SUPPORTED: wire.Publish(Message("t", retain=True)),
    }
    for code, packet in faults.items():
        with RawClient(broker.port) as client:
            answer = client.connect("client")
            assert answer == wire.Connack(
                False,
                ReasonCode.SUCCESS,
                receive_maximum=5,
                maximum_packet_size=1000,
                topic_alias_maximum=3,
                maximum_qos=1,
                retain_available=False,
                shared_subscription_available=False,
            )
            client.send(packet)
            assert client.receive_all() == [wire.Disconnect(code)]


def test_receive_maximum_is_enforced(start_broker: StartBroker) -> None:
    broker = start_broker(Configuration(options=ServerOptions(receive_maximum=2)))
    with RawClient(broker.port) as client:
        client.connect("client")
        for packet_id in (1, 2, 3):
            client.send(wire.Publish(Message("t", qos=2), packet_id))
        assert [type(packet) for packet in client.receive_all()] == [
            wire.Pubrec,
            wire.Pubrec,
            wire.Disconnect,
        ]


def test_maximum_packet_size_of_a_client(broker: RunningBroker, make_raw: MakeRaw) -> None:
    client = make_raw()
    client.connect("client", maximum_packet_size=100)
    client.subscribe("t", 1)
    publisher = make_raw()
    publisher.connect("publisher")
    publisher.publish("t", bytes(200), 1)
    publisher.publish("t", bytes(50), 1)
    assert len(client.receive().message.payload) == 50
    counters = broker.call(lambda each: each.store["client"].counters)
    assert counters.dropped == {DropReason.TOO_LARGE: 1}


# ---------------------------------------------------------------- refusals


def test_shared_subscriptions_are_refused(make_raw: MakeRaw) -> None:
    client = make_raw()
    assert client.connect("client").shared_subscription_available is False
    client.send(wire.Subscribe(1, (Subscription("$share/group/t"),)))
    code = ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    assert client.receive_all() == [wire.Disconnect(code)]
    old = make_raw(4)
    old.connect("old")
    assert old.subscribe("$share/group/t") == [ReasonCode.UNSPECIFIED_ERROR]


REFUSING = Configuration(
    refuse_subscribe=("secret/#", "exact", "$SYS/+"), refuse_publish=("secret/#", "+/read-only")
)


def test_refused_subscriptions(start_broker: StartBroker) -> None:
    broker = start_broker(REFUSING)
    wanted = ("secret/a", "secret", "secret/+", "secret/#", "exact", "$SYS/a", "free", "a/exact")
    codes = (ReasonCode.NOT_AUTHORIZED,) * 6 + (ReasonCode.SUCCESS,) * 2
    with RawClient(broker.port) as client:
        client.connect("client")
        client.send(wire.Subscribe(1, tuple(map(Subscription, wanted))))
        assert client.receive() == wire.Suback(1, codes)
    with RawClient(broker.port, 4) as client:
        client.connect("client")
        assert client.subscribe("secret/a") == [ReasonCode.UNSPECIFIED_ERROR]


def test_ill_formed_filters_are_the_librarys_business(start_broker: StartBroker) -> None:
    broker = start_broker(REFUSING)
    for topic_filter in (b"secret/#/a", b"secret+/##"):
        data = wire.encode(wire.Subscribe(1, (Subscription("x" * len(topic_filter)),)), 5)
        with RawClient(broker.port) as client:
            client.connect("client")
            client.send_bytes(data.replace(b"x" * len(topic_filter), topic_filter))
            answer = client.receive()
            assert answer == wire.Suback(1, (ReasonCode.TOPIC_FILTER_INVALID,))
    for packet in (b"\x82\x06\x00\x01\x00\x00\x00\x00", b"\x30\x03\x00\x00\x00"):  # empty texts
        with RawClient(broker.port) as client:
            client.connect("client")
            client.send_bytes(packet)
            client.send(wire.Disconnect())
            client.receive_all()


def test_refused_publishes(start_broker: StartBroker) -> None:
    broker = start_broker(REFUSING)
    with RawClient(broker.port) as listener, RawClient(broker.port) as client:
        listener.connect("listener")
        listener.subscribe("#")
        client.connect("client")
        for topic in ("secret/a", "a/read-only"):
            client.publish(topic)
            assert client.publish(topic, b"", 1).reason_code is ReasonCode.NOT_AUTHORIZED
            assert client.publish(topic, b"", 2).reason_code is ReasonCode.NOT_AUTHORIZED
        assert client.publish("free", b"", 1).reason_code is ReasonCode.SUCCESS
        assert [packet.message.topic_name for packet in listener.before_ping()] == ["free"]


@pytest.mark.parametrize("unauthorized", list(UnauthorizedPolicy))
def test_refused_publishes_of_old_clients(
    start_broker: StartBroker, unauthorized: UnauthorizedPolicy
) -> None:
    broker = start_broker(
        Configuration(options=ServerOptions(unauthorized=unauthorized), refuse_publish=("no",))
    )
    with RawClient(broker.port, 4) as client:
        client.connect("client")
        closes = unauthorized is UnauthorizedPolicy.CLOSE
        assert client.publish("no", b"", 1) == (None if closes else wire.Puback(1))


@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_will_is_no_way_round_a_refusal(start_broker: StartBroker, version: int) -> None:
    broker = start_broker(REFUSING)
    with RawClient(broker.port, version) as client:
        answer = client.connect("client", will=Will(Message("secret/a")))
        refused = {5: ReasonCode.NOT_AUTHORIZED}.get(version, ConnectReturnCode.NOT_AUTHORIZED)
        assert answer == wire.Connack(False, refused)
        assert client.receive() is None


# ---------------------------------------------------------------- hostile clients


def hostile_bytes(chance: random.Random) -> bytes:
    """Noise, or something that began well."""
    version = chance.choice((3, 4, 5))
    good = wire.encode(wire.Connect(f"hostile-{chance.random()}"[:23], version), version)
    packets: list[wire.Packet] = [
        wire.Publish(Message("good/topic", chance.randbytes(20), 1), 1),
        wire.Publish(Message("good/topic", chance.randbytes(20), 2), 2),
        wire.Subscribe(3, (Subscription("good/#", 2), Subscription("+", 1))),
        wire.Unsubscribe(4, ("good/#",)),
        wire.Puback(1),
        wire.Pubrec(2),
        wire.Pubrel(2),
        wire.Pubcomp(2),
        wire.Pingreq(),
        wire.Disconnect(),
    ]
    chance.shuffle(packets)
    rest = bytearray(b"".join(wire.encode(packet, version) for packet in packets))
    kind = chance.randrange(5)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 500))
    if kind == 1:
        return good + chance.randbytes(chance.randrange(1, 500))
    if kind == 2:
        return good[: chance.randrange(len(good))]
    data = bytearray(good) + rest if kind == 3 else rest
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data) if kind == 3 else good + bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_hostile_clients_hurt_nobody(broker: RunningBroker, make_paho: MakePaho, seed: int) -> None:
    chance = random.Random(seed)
    good = make_paho(5, "good")
    good.connect()
    good.subscribe("untouched/#", 2)
    for round_number in range(10):
        hostile = []
        for _ in range(20):
            client = socket.create_connection(("127.0.0.1", broker.port))
            client.sendall(hostile_bytes(chance))
            hostile.append(client)
        good.publish("untouched/topic", b"%d" % round_number, round_number % 3)
        assert good.message().payload == b"%d" % round_number
        for client in hostile:
            if chance.random() < 0.5:  # with a RST
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
    eventually(lambda: broker.call(lambda each: len(each.connections)) == 1)
    broker.check()
    assert good.silent()


def test_many_connections_that_never_speak(broker: RunningBroker, make_raw: MakeRaw) -> None:
    silent = [make_raw() for _ in range(200)]
    good = make_raw()
    good.connect("good")
    assert good.before_ping() == []
    assert broker.call(lambda each: len(each.connections)) == len(silent) + 1
