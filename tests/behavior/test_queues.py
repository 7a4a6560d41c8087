"""Feature H: queues, their bounds, who gives way, and what is told about it."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    DropReason,
    LimitsChanged,
    MessageDropped,
    OverflowPolicy,
    QueuePurged,
    SessionLimits,
)

from .helpers import World, all_versions, numbered, spec

OLDEST, NEWEST, MIXED = (
    OverflowPolicy.DROP_OLDEST,
    OverflowPolicy.DROP_NEWEST,
    OverflowPolicy.DROP_EXPIRED_QOS0_OLDEST,
)


def parked(world: World, version: int = 5, *, qos: int = 2) -> object:
    """Somebody who subscribes to all and is away."""
    alice = world.connect(version=version, keep=True)
    alice.subscribe("#", qos=qos)
    alice.lose()
    return alice


def waiting(world: World) -> list[bytes]:
    return [delivery.message.payload for delivery in world.store["alice"].queued()]


# ---------------------------------------------------------------- what is queued


@spec(
    "5.0 MQTT-4.5.0-1",
    "3.1.1 MQTT-4.5.0-1",
    "3.1.1 MQTT-3.1.2-5",
    "3.1.1 MQTT-4.1.0-1",
    "NN-1.7 (d)",
)
@all_versions
def test_messages_wait_for_a_client_that_is_away(version: int) -> None:
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    for payload, qos in ((b"1", 1), (b"2", 0), (b"3", 2)):
        world.publish("a", payload, qos=qos)
    alice = world.connect(version=version, keep=True)
    assert [(each.message.payload, each.qos) for each in alice.deliveries()] == [
        (b"1", 1),
        (b"2", 0),
        (b"3", 1),
    ]


def test_qos_0_is_not_queued_for_a_client_that_is_away_where_the_host_wants_it() -> None:
    world = World(limits=SessionLimits(queue_qos0=False, maximum_send_window=1))
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.take()
    world.publish("a", b"1", qos=1)
    world.publish("a", b"2", qos=1)
    world.publish("a", b"3", qos=0)
    assert world.drops() == []  # while connected it waits behind the others
    alice.lose()
    world.publish("a", b"4", qos=0)
    world.publish("a", b"5", qos=1)
    assert world.drops() == [("alice", b"4", "qos0_offline")]
    alice = world.connect(keep=True)
    assert alice.acknowledge_all() == [b"1", b"2", b"3", b"5"]


# ---------------------------------------------------------------- who gives way


@pytest.mark.parametrize(
    ("overflow", "kept", "dropped"),
    [
        (OLDEST, [b"3", b"4", b"5"], [b"1", b"2"]),
        (NEWEST, [b"1", b"2", b"3"], [b"4", b"5"]),
        (MIXED, [b"3", b"4", b"5"], [b"1", b"2"]),
    ],
)
@all_versions
def test_overflow_by_count(
    version: int, overflow: OverflowPolicy, kept: list[bytes], dropped: list[bytes]
) -> None:
    world = World(limits=SessionLimits(maximum_queued_messages=3, overflow=overflow))
    parked(world, version)
    for payload in numbered(5):
        world.publish("a", payload, qos=1)
    assert waiting(world) == kept
    assert world.drops() == [("alice", payload, "queue_full") for payload in dropped]


@pytest.mark.parametrize(
    ("overflow", "kept"),
    [
        (OLDEST, [b"q0", b"late q0", b"new"]),
        (NEWEST, [b"q1", b"q0", b"late q0"]),
        (MIXED, [b"q1", b"late q0", b"new"]),
    ],
)
def test_qos_0_gives_way_first_by_default(overflow: OverflowPolicy, kept: list[bytes]) -> None:
    world = World(limits=SessionLimits(maximum_queued_messages=3, overflow=overflow))
    parked(world)
    for payload, qos in ((b"q1", 1), (b"q0", 0), (b"late q0", 0), (b"new", 2)):
        world.publish("a", payload, qos=qos)
    assert waiting(world) == kept


def test_what_has_expired_gives_way_before_qos_0() -> None:
    world = World(limits=SessionLimits(maximum_queued_messages=3))
    parked(world)
    world.publish("a", b"q0", qos=0)
    world.publish("a", b"expires", qos=2, message_expiry_interval=5)
    world.publish("a", b"q1", qos=1)
    world.wait_late(5)
    world.publish("a", b"new", qos=1)
    assert world.drops() == [("alice", b"expires", "expired")]
    assert waiting(world) == [b"q0", b"q1", b"new"]


def test_qos_0_newcomer_gives_way_itself_where_all_others_are_more() -> None:
    world = World(limits=SessionLimits(maximum_queued_messages=2))
    parked(world)
    for payload, qos in ((b"1", 1), (b"2", 2), (b"q0", 0)):
        world.publish("a", payload, qos=qos)
    assert world.drops() == [("alice", b"q0", "queue_full")]
    assert waiting(world) == [b"1", b"2"]


def test_qos_0_newcomer_takes_the_place_of_an_older_one() -> None:
    world = World(limits=SessionLimits(maximum_queued_messages=2))
    parked(world)
    for payload, qos in ((b"old q0", 0), (b"1", 1), (b"q0", 0)):
        world.publish("a", payload, qos=qos)
    assert world.drops() == [("alice", b"old q0", "queue_full")]
    assert waiting(world) == [b"1", b"q0"]


@pytest.mark.parametrize("overflow", OverflowPolicy)
def test_what_has_begun_never_gives_way(overflow: OverflowPolicy) -> None:
    limits = SessionLimits(maximum_queued_messages=1, maximum_send_window=2, overflow=overflow)
    world = World(limits=limits)
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=2)
    alice.take()
    world.publish("a", b"1", qos=2)
    world.publish("a", b"2", qos=1)
    for payload in numbered(5, start=3):
        world.publish("a", payload, qos=1)
    assert len(alice.session.in_flight) == 2
    assert alice.session.queue_depth == 1
    assert {payload for _, payload, _ in world.drops()} <= set(numbered(5, start=3))


@pytest.mark.parametrize("overflow", OverflowPolicy)
def test_queue_of_none_keeps_none(overflow: OverflowPolicy) -> None:
    world = World(limits=SessionLimits(maximum_queued_messages=0, overflow=overflow))
    parked(world)
    world.publish("a", b"1", qos=1)
    world.publish("a", b"2", qos=0)
    assert [payload for _, payload, _ in world.drops()] == [b"1", b"2"]
    assert world.store["alice"].queue_depth == 0


# ---------------------------------------------------------------- bytes


@pytest.mark.parametrize(
    ("overflow", "kept", "dropped"),
    [
        (OLDEST, [b"c" * 30, b"d" * 50], [b"a" * 30, b"b" * 30]),
        (NEWEST, [b"a" * 30, b"b" * 30, b"c" * 30], [b"d" * 50]),
        (MIXED, [b"c" * 30, b"d" * 50], [b"a" * 30, b"b" * 30]),
    ],
)
def test_overflow_by_bytes_frees_as_much_as_is_needed(
    overflow: OverflowPolicy, kept: list[bytes], dropped: list[bytes]
) -> None:
    """Payload and topic count."""
    world = World(limits=SessionLimits(maximum_queued_bytes=100, overflow=overflow))
    parked(world)
    for payload in (b"a" * 30, b"b" * 30, b"c" * 30, b"d" * 50):
        world.publish("t", payload, qos=1)
    assert waiting(world) == kept
    assert world.drops() == [("alice", payload, "bytes_full") for payload in dropped]
    assert world.store["alice"].queued_bytes <= 100


def test_message_as_large_as_the_bound_fits_and_a_larger_one_pushes_nobody_out() -> None:
    world = World(limits=SessionLimits(maximum_queued_bytes=100))
    parked(world)
    world.publish("t", b"x" * 99, qos=1)
    assert world.store["alice"].queued_bytes == 100
    world.publish("t", b"y" * 100, qos=1)
    assert world.drops() == [("alice", b"y" * 100, "bytes_full")]
    assert waiting(world) == [b"x" * 99]


def test_bytes_are_given_back_by_delivery_expiry_and_purge() -> None:
    world = World(limits=SessionLimits(maximum_queued_bytes=40))
    parked(world)
    world.publish("t", b"1" * 9, qos=1)
    world.publish("t", b"2" * 9, qos=1, message_expiry_interval=5)
    world.publish("p", b"3" * 9, qos=1)
    assert world.store["alice"].queued_bytes == 30
    world.wait(5)
    assert world.store["alice"].queued_bytes == 20
    world.feed(QueuePurged("alice", "p"))
    assert world.store["alice"].queued_bytes == 10
    world.connect(keep=True)
    assert world.store["alice"].queued_bytes == 0


def test_multi_byte_topics_count_as_bytes() -> None:
    world = World()
    parked(world)
    world.publish("\u00e9\u20ac", b"12", qos=1)
    assert world.store["alice"].queued_bytes == 2 + 3 + 2


# ---------------------------------------------------------------- notices


def test_drop_notice_carries_the_message_itself() -> None:
    world = World(limits=SessionLimits(maximum_queued_messages=1))
    parked(world, qos=1)
    world.publish("a", b"1", qos=2, content_type="text")
    world.publish("a", b"2", qos=1)
    (notice,) = world.take_notices(MessageDropped)
    assert notice.client_id == "alice"
    assert notice.reason is DropReason.QUEUE_FULL
    assert notice.delivery.qos == 1
    assert notice.delivery.message.payload == b"1"
    assert notice.delivery.message.content_type == "text"


def test_each_copy_is_dropped_for_itself() -> None:
    world = World(limits=SessionLimits(maximum_queued_messages=1))
    for name in ("alice", "bob"):
        client = world.connect(name, keep=True)
        client.subscribe("a", qos=1)
        client.lose()
    world.publish("a", b"1", qos=1)
    world.publish("a", b"2", qos=1)
    assert world.drops() == [("alice", b"1", "queue_full"), ("bob", b"1", "queue_full")]


def test_bounds_of_one_session_are_no_concern_of_another() -> None:
    world = World()
    small = world.connect("small", keep=True, limits=SessionLimits(maximum_queued_messages=1))
    large = world.connect("large", keep=True)
    for client in (small, large):
        client.subscribe("a", qos=1)
        client.lose()
    for payload in numbered(5):
        world.publish("a", payload, qos=1)
    assert (small.session.queue_depth, large.session.queue_depth) == (1, 5)


# ---------------------------------------------------------------- by the host


def test_purge_by_filter_and_by_age() -> None:
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("#", qos=1)
    alice.lose()
    for topic_name in ("a/1", "b", "a/2"):
        world.publish(topic_name, topic_name.encode(), qos=1)
    world.wait(10)
    world.publish("a/1", b"newer", qos=1)
    world.feed(QueuePurged("alice", "a/#", world.now))
    assert waiting(world) == [b"b", b"newer"]
    assert world.drops() == [("alice", b"a/1", "purged"), ("alice", b"a/2", "purged")]
    world.feed(QueuePurged("alice"))
    assert waiting(world) == []


def test_purge_leaves_what_has_begun() -> None:
    world = World(limits=SessionLimits(maximum_send_window=1))
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=2)
    alice.take()
    world.publish("a", b"begun", qos=2)
    world.publish("a", b"waits", qos=2)
    world.feed(QueuePurged("alice"))
    assert world.drops() == [("alice", b"waits", "purged")]
    assert world.reconnect(alice).received() == [b"begun"]


def test_smaller_bound_holds_from_the_next_message_on() -> None:
    world = World()
    parked(world)
    for payload in numbered(5):
        world.publish("a", payload, qos=1)
    world.feed(LimitsChanged(SessionLimits(maximum_queued_messages=2)))
    assert len(waiting(world)) == 5
    world.publish("a", b"6", qos=1)
    assert waiting(world) == [b"5", b"6"]
