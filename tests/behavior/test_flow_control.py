"""Feature G: windows in both directions, Maximum Packet Size, congestion, paced replay."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    ConnectionCongested,
    ConnectionWritable,
    Delivery,
    InvalidState,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    ServerOptions,
    SessionLimits,
)

from .helpers import (
    OK,
    RC,
    World,
    all_versions,
    closed_with,
    ids,
    kinds,
    numbered,
    only,
    payloads,
    pubrels,
    sent_again,
    spec,
)


def body(delivery: Delivery, version: int) -> int:
    return len(delivery.message.payload)


# ---------------------------------------------------------------- the send window


@spec("5.0 MQTT-4.9.0-1", "5.0 MQTT-3.3.4-9", "5.0 MQTT-4.9.0-2 (b)")
@pytest.mark.parametrize(
    ("receive_maximum", "limit", "window"),
    [(None, 32, 32), (5, 32, 5), (65_535, 32, 32), (40, 32, 32), (1, 1, 1), (50, 65_535, 50)],
)
def test_window_is_the_smaller_of_receive_maximum_and_limit(
    receive_maximum: int | None, limit: int, window: int
) -> None:
    world = World(limits=SessionLimits(maximum_send_window=limit))
    alice = world.connect(receive_maximum=receive_maximum)
    alice.subscribe("a", qos=2)
    alice.take()
    assert alice.session.send_quota == window
    for payload in numbered(60):
        world.publish("a", payload, qos=1)
    assert alice.received() == numbered(window)
    assert alice.session.queue_depth == 60 - window


@spec("NN-10.6")
@pytest.mark.parametrize("version", [3, 4])
def test_3_x_client_has_the_local_window(version: int) -> None:
    """NN-10.6: a free choice there."""
    world = World(limits=SessionLimits(maximum_send_window=2))
    alice = world.connect(version=version)
    alice.subscribe("a", qos=1)
    alice.take()
    for payload in numbered(5):
        world.publish("a", payload, qos=1)
    first_two = alice.take()
    assert payloads(first_two) == numbered(2)
    alice.inbox = first_two
    assert alice.acknowledge_all() == numbered(5)


@spec("5.0 MQTT-3.3.4-9", "5.0 MQTT-4.9.0-2 (b)", "NN-10.1")
def test_a_unit_is_free_at_puback_pubcomp_and_negative_pubrec_and_not_at_pubrec() -> None:
    """NN-10.1."""
    world = World()
    alice = world.connect(receive_maximum=1)
    alice.subscribe("a", qos=2)
    alice.take()
    for payload, qos in ((b"1", 1), (b"2", 2), (b"3", 2), (b"4", 1)):
        world.publish("a", payload, qos=qos)
    assert alice.received() == [b"1"]
    assert payloads(alice.puback(1)) == [b"2"]
    assert alice.pubrec(2) == [SendPubrel(alice.connection, 2, OK)]
    assert payloads(alice.pubcomp(2)) == [b"3"]
    assert payloads(alice.pubrec(3, RC.QUOTA_EXCEEDED)) == [b"4"]


@spec("5.0 MQTT-4.9.0-3", "5.0 MQTT-3.3.4-10")
def test_all_other_packets_are_answered_at_quota_0() -> None:
    world = World()
    alice = world.connect(receive_maximum=2)
    alice.subscribe("a", qos=2)
    world.publish("a", qos=2)
    world.publish("a", qos=2)
    alice.take()
    assert alice.session.send_quota == 0
    assert kinds(alice.pubrec(1)) == [SendPubrel]
    assert kinds(alice.publish("b", qos=1)) == [SendPuback]
    assert kinds(alice.publish("b", qos=2, packet_id=9)) == [SendPubrec]
    assert kinds(alice.pubrel(9)) == [SendPubcomp]
    assert kinds(alice.subscribe("c")) == [SendSuback]
    assert len(alice.unsubscribe("c")) == 1
    assert len(alice.ping()) == 1


@spec("NN-10.3", "NN-10.7")
def test_qos_0_goes_on_at_quota_0_unless_something_waits_before_it() -> None:
    """NN-10.3, NN-10.7: nothing overtakes."""
    world = World()
    alice = world.connect(receive_maximum=1)
    alice.subscribe("a", qos=1)
    alice.take()
    world.publish("a", b"1", qos=1)
    world.publish("a", b"2", qos=0)
    assert alice.received() == [b"1", b"2"]
    world.publish("a", b"3", qos=1)
    world.publish("a", b"4", qos=0)
    assert alice.received() == []
    assert payloads(alice.puback(1)) == [b"3", b"4"]


@spec("5.0 MQTT-4.9.0-1", "NN-10.2", "NN-1.9 (b)")
def test_quota_starts_anew_with_each_connection() -> None:
    """NN-10.2."""
    world = World()
    alice = world.connect(keep=True, receive_maximum=1)
    alice.subscribe("a", qos=1)
    alice.take()
    for payload in numbered(6):
        world.publish("a", payload, qos=1)
    alice = world.reconnect(alice, receive_maximum=4)
    assert sent_again(alice.take()) == [
        (1, b"1", True),
        (2, b"2", False),
        (3, b"3", False),
        (4, b"4", False),
    ]
    alice = world.reconnect(alice, receive_maximum=None)
    assert ids(alice.take()) == [1, 2, 3, 4, 5, 6]


@spec("5.0 MQTT-4.9.0-2 (a)", "5.0 MQTT-4.9.0-2 (b)", "NN-8.4")
def test_smaller_window_on_resume_re_sends_in_order_as_acknowledgements_come() -> None:
    """NN-8.4: acknowledgements of what was not sent again yet settle too."""
    world = World()
    alice = world.connect(keep=True, receive_maximum=4)
    alice.subscribe("a", qos=2)
    alice.take()
    for payload, qos in zip(numbered(5), (1, 2, 1, 2, 1), strict=True):
        world.publish("a", payload, qos=qos)
    alice = world.reconnect(alice, receive_maximum=1)
    assert sent_again(alice.take()) == [(1, b"1", True)]
    assert alice.puback(3) == []  # a late one of the old connection's PUBLISH
    assert kinds(alice.pubrec(2)) == [SendPubrel]  # and another
    assert sent_again(alice.puback(1)) == [(4, b"4", True)]
    assert alice.pubcomp(2) == []
    alice.pubrec(4)
    assert sent_again(alice.pubcomp(4)) == [(5, b"5", False)]


@spec("5.0 MQTT-4.9.0-2 (b)", "NN-10.1", "NN-10.8")
def test_resumed_pubrel_phase_holds_no_unit_and_its_pubcomp_returns_none() -> None:
    """NN-10.8: the quota never goes above what it was."""
    world = World()
    alice = world.connect(keep=True, receive_maximum=2)
    alice.subscribe("a", qos=2)
    alice.take()
    for payload in numbered(6):
        world.publish("a", payload, qos=2)
    alice.pubrec(1)
    alice.pubrec(2)
    alice = world.reconnect(alice, receive_maximum=2)
    seen = alice.take()
    assert pubrels(seen) == [1, 2]
    assert payloads(seen) == [b"3", b"4"]
    assert alice.session.send_quota == 0
    assert alice.pubcomp(1) == []
    assert alice.pubcomp(2) == []
    assert alice.session.send_quota == 0
    alice.pubrec(3)
    assert payloads(alice.pubcomp(3)) == [b"5"]


# ---------------------------------------------------------------- the client's PUBLISHes


def test_receive_maximum_of_the_server_is_told() -> None:
    assert World().connect().connack.receive_maximum == 100
    world = World(options=ServerOptions(receive_maximum=7))
    assert world.connect().connack.receive_maximum == 7
    world = World(options=ServerOptions(receive_maximum=65_535))
    assert world.connect().connack.receive_maximum is None  # the default of the standard
    assert world.connect("old", 4).connack.receive_maximum is None


@spec("5.0 MQTT-3.3.4-7", "5.0 MQTT-4.13.1-1 (d)", "NN-10.4")
@pytest.mark.parametrize("qos", [1, 2])
def test_more_open_publishes_than_allowed_close(qos: int) -> None:
    """NN-10.4: open are those without PUBCOMP; a QoS 1 message is a unit too."""
    world = World(options=ServerOptions(receive_maximum=2))
    bob = world.connect("bob")
    bob.subscribe("a")
    bob.take()
    alice = world.connect(keep=True)
    alice.take()
    alice.publish("a", b"1", qos=2, packet_id=1)
    alice.publish("a", b"2", qos=2, packet_id=2)
    seen = alice.publish("a", b"3", qos=qos, packet_id=3)
    assert closed_with(seen) is RC.RECEIVE_MAXIMUM_EXCEEDED
    assert bob.received() == [b"1", b"2"]
    assert alice.session.inbound_packet_ids == (1, 2)


@spec("5.0 MQTT-3.3.4-7", "NN-10.4")
def test_what_gives_a_unit_back_to_the_client() -> None:
    """PUBACK, PUBCOMP and PUBREC 0x80+ that we sent; a repeat takes no second unit."""
    world = World(options=ServerOptions(receive_maximum=1))
    alice = world.connect()
    alice.take()
    for packet_id in range(1, 4):
        assert closed_with(alice.publish("a", qos=1, packet_id=packet_id)) is None
        seen = alice.publish("a", qos=2, packet_id=packet_id, refusal=RC.QUOTA_EXCEEDED)
        assert closed_with(seen) is None
        for _ in range(3):
            assert closed_with(alice.publish("a", qos=2, packet_id=packet_id)) is None
        assert closed_with(alice.publish("a", qos=0)) is None
        assert closed_with(alice.pubrel(packet_id)) is None
    assert closed_with(alice.publish("a", qos=2, packet_id=5)) is None
    assert closed_with(alice.publish("a", qos=2, packet_id=6)) is RC.RECEIVE_MAXIMUM_EXCEEDED


@spec("NN-10.8")
def test_identifier_held_from_an_earlier_connection_counts_once_it_is_repeated() -> None:
    """NN-10.8, in the other direction."""
    world = World(options=ServerOptions(receive_maximum=1))
    alice = world.connect(keep=True)
    alice.publish("a", qos=2, packet_id=1)
    alice = world.reconnect(alice)
    alice.take()
    assert closed_with(alice.publish("a", qos=2, packet_id=2)) is None
    assert closed_with(alice.pubrel(1)) is None  # returns none
    assert closed_with(alice.publish("a", qos=2, packet_id=3)) is RC.RECEIVE_MAXIMUM_EXCEEDED
    alice = world.reconnect(alice)
    alice.take()
    assert closed_with(alice.publish("a", qos=2, packet_id=2, dup=True)) is None
    assert closed_with(alice.publish("a", qos=2, packet_id=3)) is RC.RECEIVE_MAXIMUM_EXCEEDED


def test_receive_maximum_may_be_watched_only() -> None:
    """*Deviation*; the bound of held identifiers remains."""
    options = ServerOptions(receive_maximum=1, enforce_receive_maximum=False)
    world = World(options=options, limits=SessionLimits(maximum_inbound_qos2=2))
    alice = world.connect()
    assert alice.connack.receive_maximum == 1
    alice.take()
    codes = [alice.publish("a", qos=2, packet_id=n)[0].reason_code for n in (1, 2, 3)]
    assert [code < 0x80 for code in codes] == [True, True, False]


@pytest.mark.parametrize("version", [3, 4])
def test_3_x_client_is_never_closed_for_what_it_cannot_know(version: int) -> None:
    world = World(options=ServerOptions(receive_maximum=1))
    alice = world.connect(version=version)
    alice.take()
    for packet_id in range(1, 11):
        assert closed_with(alice.publish("a", qos=2, packet_id=packet_id), version) is None


# ---------------------------------------------------------------- Maximum Packet Size


@spec("5.0 MQTT-3.1.2-24", "5.0 MQTT-3.1.2-25 (a)", "NN-8.7 (a)", "NN-8.7 (b)")
@pytest.mark.parametrize("qos", [1, 2])
def test_re_sent_packet_that_has_become_too_large(qos: int) -> None:
    """NN-8.7: QoS 1 is closed and its identifier free; QoS 2 is closed with PUBREL, since the
    receiver may remember the identifier."""
    world = World(size_of=body, limits=SessionLimits(maximum_send_window=2))
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=2)
    alice.take()
    world.publish("a", b"large", qos=qos)
    world.publish("a", b"ok", qos=1)
    world.publish("a", b"3", qos=1)
    alice.take()
    alice = world.reconnect(alice, maximum_packet_size=4)
    seen = alice.take()
    assert world.drops() == [("alice", b"large", "too_large")]
    assert sent_again(seen) == [(2, b"ok", True), (3, b"3", False)]
    assert pubrels(seen) == ([1] if qos == 2 else [])
    if qos == 2:
        alice.pubcomp(1)
    alice.puback(2)
    alice.puback(3)
    counters = alice.session.counters
    assert (counters.accepted, counters.completed) == (3, 2)
    assert payloads(world.reconnect(alice).take()) == []


@spec("5.0 MQTT-3.1.2-24")
def test_size_is_looked_at_again_for_what_was_queued_for_a_larger_one() -> None:
    world = World(size_of=body)
    alice = world.connect(keep=True, maximum_packet_size=100)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.publish("a", b"x" * 50, qos=1)
    world.publish("a", b"small", qos=0)
    alice = world.connect(keep=True, maximum_packet_size=10)
    assert alice.received() == [b"small"]
    assert world.drops() == [("alice", b"x" * 50, "too_large")]


@spec("5.0 MQTT-3.1.2-24")
def test_size_function_sees_what_will_be_sent() -> None:
    seen: list[tuple[int, tuple[int, ...], int]] = []

    def size_of(delivery: Delivery, version: int) -> int:
        seen.append((delivery.qos, delivery.subscription_ids, version))
        return 10

    world = World(size_of=size_of)
    alice = world.connect(maximum_packet_size=10)
    alice.subscribe("a", qos=1, subscription_id=4)
    alice.take()
    world.publish("a", qos=2)
    assert seen == [(1, (4,), 5)]
    assert ids(alice.take()) == [1]


@spec("5.0 MQTT-3.1.2-25 (a)", "5.0 MQTT-3.1.2-25 (b)", "NN-11.2", "NN-14.5 (b)")
def test_retained_message_that_is_too_large_is_dropped_and_the_replay_goes_on() -> None:
    world = World(size_of=body)
    for topic_name, payload in (("a", b"1"), ("b", b"x" * 11), ("c", b"3")):
        world.publish(topic_name, payload, retain=True)
    alice = world.connect(maximum_packet_size=10)
    assert payloads(alice.subscribe("#")) == [b"1", b"3"]
    assert world.drops() == [("alice", b"x" * 11, "too_large")]


@spec("NN-11.1")
def test_client_without_a_limit_gets_everything() -> None:
    world = World(size_of=lambda delivery, version: 10**9)
    alice = world.connect()
    alice.subscribe("a")
    alice.take()
    world.publish("a", b"1")
    assert alice.received() == [b"1"]


def test_maximum_packet_size_of_the_server_is_told() -> None:
    world = World(options=ServerOptions(maximum_packet_size=5_000))
    assert world.connect().connack.maximum_packet_size == 5_000
    assert world.connect("old", 4).connack.maximum_packet_size is None


# ---------------------------------------------------------------- congestion


@pytest.mark.parametrize("qos", [0, 1, 2])
@all_versions
def test_congested_connection_gets_no_publish(version: int, qos: int) -> None:
    """QoS 0 is held back too; acknowledgements are not."""
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("a", qos=2)
    alice.take()
    alice.congest()
    for payload in numbered(3):
        world.publish("a", payload, qos=qos)
    assert alice.take() == []
    assert alice.session.queue_depth == 3
    assert kinds(alice.publish("b", qos=1)) == [SendPuback]
    assert len(alice.ping()) == 1
    assert payloads(alice.drain()) == numbered(3)


def test_congestion_holds_back_retained_messages_and_what_acks_would_release() -> None:
    world = World()
    world.publish("a", b"retained", retain=True)
    alice = world.connect(receive_maximum=1)
    alice.subscribe("b", qos=1)
    world.publish("b", b"1", qos=1)
    world.publish("b", b"2", qos=1)
    assert alice.received() == [b"1"]
    alice.congest()
    assert kinds(alice.subscribe("a")) == [SendSuback]
    assert alice.puback(1) == []
    world.feed(ConnectionWritable(alice.connection))
    assert sorted(alice.acknowledge_all()) == [b"2", b"retained"]


@spec("NN-8.4b")
def test_congestion_does_not_hold_back_pubrel() -> None:
    world = World()
    alice = world.connect()
    alice.subscribe("a", qos=2)
    world.publish("a", qos=2)
    alice.take()
    alice.congest()
    assert kinds(alice.pubrec(1)) == [SendPubrel]


def test_congestion_ends_with_its_connection() -> None:
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.congest()
    world.publish("a", b"1", qos=1)
    alice = world.reconnect(alice)
    assert alice.received() == [b"1"]


def test_writable_without_congestion_and_events_of_closed_connections_change_nothing() -> None:
    world = World()
    alice = world.connect(keep=True)
    alice.take()
    assert alice.drain() == []
    world.connect(keep=True)
    alice.take()
    world.feed(ConnectionCongested(alice.connection))
    world.feed(ConnectionWritable(alice.connection))
    world.publish("a")
    assert alice.take() == []
    with pytest.raises(InvalidState):
        world.feed(ConnectionCongested("never seen"))


def test_writable_comes_too_late_for_a_silent_client() -> None:
    """Law 5: its keep alive had run out before."""
    world = World()
    alice = world.connect(keep=True, keep_alive=10)
    alice.subscribe("a", qos=1)
    alice.take()
    alice.congest()
    world.publish("a", b"1", qos=1)
    world.wait_late(15)
    assert closed_with(alice.drain()) is RC.KEEP_ALIVE_TIMEOUT
    assert alice.session.queue_depth == 1


# ---------------------------------------------------------------- pacing


@spec("NN-8.4b", "NN-10.8")
def test_resumed_exchanges_in_both_phases_share_one_window_with_what_is_new() -> None:
    world = World(limits=SessionLimits(maximum_send_window=3))
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=2)
    alice.take()
    for payload in numbered(9):
        world.publish("a", payload, qos=2)
    for packet_id in (1, 2, 3):
        alice.pubrec(packet_id)
    alice.pubcomp(1)
    alice.take()
    alice = world.reconnect(alice)
    seen = alice.take()
    assert pubrels(seen) == [2, 3]
    assert sent_again(seen) == [(4, b"4", True), (5, b"5", False), (6, b"6", False)]
    assert alice.session.queue_depth == 3
    assert len([each for each in alice.session.in_flight if each.delivery is not None]) == 3
    assert only(SendPublish, alice.pubcomp(2)) == []
