"""Feature I: retained messages, their bounds, and how they reach a new subscription."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    DeadlineKind,
    InvalidState,
    SendPublish,
    SendSuback,
    ServerOptions,
    SessionLimits,
)

from .helpers import (
    RC,
    Client,
    World,
    all_versions,
    closed_with,
    ids,
    kinds,
    numbered,
    old_versions,
    only,
    payloads,
    spec,
)


def retained(world: World, topic_filter: str = "#") -> list[tuple[str, bytes]]:
    return [(each.topic_name, each.payload) for each in world.store.retained(topic_filter)]


def subscriber(world: World, version: int = 5, **options: object) -> Client:
    client = world.connect("subscriber", version)
    client.subscribe("#", qos=2, **options)
    client.take()
    return client


# ---------------------------------------------------------------- set, replace, clear


@spec(
    "5.0 MQTT-3.3.1-5",
    "3.1.1 MQTT-3.3.1-7",
    "3.1.1 MQTT-3.3.1-5 (a)",
    "3.1.1 MQTT-3.3.1-5 (b)",
    "NN-14.2",
)
@pytest.mark.parametrize("second", [0, 1, 2])
@pytest.mark.parametrize("first", [0, 1, 2])
@all_versions
def test_newer_message_replaces_the_older_one(version: int, first: int, second: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.publish("a", b"1", qos=first, retain=True)
    alice.publish("a", b"2", qos=second, retain=True)
    (message,) = world.store.retained()
    assert (message.payload, message.qos) == (b"2", second)


@spec(
    "5.0 MQTT-3.3.1-7",
    "5.0 MQTT-3.3.1-6 (a)",
    "5.0 MQTT-3.3.1-6 (b)",
    "3.1.1 MQTT-3.3.1-11",
    "3.1.1 MQTT-3.3.1-10 (a)",
    "3.1.1 MQTT-3.3.1-10 (b)",
    "NN-14.3",
)
@pytest.mark.parametrize("qos", [0, 1, 2])
@all_versions
def test_empty_payload_clears_and_is_distributed_and_never_kept(version: int, qos: int) -> None:
    """NN-14.3: current subscribers see a normal message."""
    world = World()
    world.publish("a", b"1", retain=True)
    alice = subscriber(world, version)
    bob = world.connect("bob", version)
    bob.publish("a", b"", qos=qos, retain=True)
    bob.publish("never/there", b"", qos=qos, retain=True)
    assert [(each.message.payload, each.retain) for each in alice.deliveries()] == [
        (b"", False),
        (b"", False),
    ]
    assert retained(world) == []
    assert payloads(bob.subscribe("#")) == []


@spec(
    "5.0 MQTT-3.3.1-8 (a)",
    "5.0 MQTT-3.3.1-8 (b)",
    "5.0 MQTT-3.3.1-8 (c)",
    "3.1.1 MQTT-3.3.1-12 (a)",
    "3.1.1 MQTT-3.3.1-12 (b)",
    "3.1.1 MQTT-3.3.1-12 (c)",
)
@pytest.mark.parametrize("payload", [b"other", b""])
@all_versions
def test_message_without_retain_changes_nothing(version: int, payload: bytes) -> None:
    world = World()
    world.publish("a", b"kept", retain=True)
    alice = world.connect(version=version)
    alice.publish("a", payload, qos=1)
    alice.publish("b", payload, qos=1)
    assert retained(world) == [("a", b"kept")]


@spec("5.0 MQTT-3.3.1-5")
@all_versions
def test_qos_2_message_is_retained_once_and_at_publish(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.publish("a", b"1", qos=2, packet_id=1, retain=True)
    assert retained(world) == [("a", b"1")]
    world.publish("a", b"2", retain=True)
    alice.publish("a", b"1", qos=2, packet_id=1, retain=True)
    alice.pubrel(1)
    assert retained(world) == [("a", b"2")]


# ---------------------------------------------------------------- to a new subscription


@spec("5.0 MQTT-3.3.1-9", "3.1.1 MQTT-3.3.1-6", "3.1.1 MQTT-3.3.1-8", "3.1.1 MQTT-3.8.4-3 (b)")
@all_versions
def test_new_subscription_gets_the_last_message_of_each_topic_with_retain_1(version: int) -> None:
    world = World()
    for topic_name, payload in (("a/1", b"old"), ("a/1", b"1"), ("a/2", b"2"), ("b", b"b")):
        world.publish(topic_name, payload, qos=1, retain=True)
    alice = world.connect(version=version)
    alice.take()
    for _ in range(2):  # an equal filter: sent again
        seen = alice.subscribe("a/+", qos=1)
        assert type(seen[0]) is SendSuback
        assert [
            (each.delivery.message.payload, each.delivery.retain, each.delivery.qos, each.dup)
            for each in only(SendPublish, seen)
        ] == [(b"1", True, 1, False), (b"2", True, 1, False)]


@spec("NN-12.6")
@pytest.mark.parametrize("as_published", [False, True])
def test_retain_as_published_does_not_govern_them(as_published: bool) -> None:
    """NN-12.6."""
    world = World()
    world.publish("a", retain=True)
    alice = world.connect()
    (publish,) = only(SendPublish, alice.subscribe("a", retain_as_published=as_published))
    assert publish.delivery.retain is True


def test_each_filter_of_a_packet_calls_up_its_own() -> None:
    world = World()
    for topic_name in ("a", "b", "c"):
        world.publish(topic_name, topic_name.encode(), retain=True)
    alice = world.connect()
    assert payloads(alice.subscribe("c", "a")) == [b"c", b"a"]


def test_refused_filter_calls_up_nothing() -> None:
    world = World()
    world.publish("a", retain=True)
    alice = world.connect()
    assert payloads(alice.subscribe("a", refusals=(RC.NOT_AUTHORIZED,))) == []


@spec("5.0 MQTT-3.10.4-2")
def test_unsubscribing_ends_the_replay() -> None:
    world = World()
    for number in range(5):
        world.publish(f"a/{number}", qos=1, retain=True)
    alice = world.connect(receive_maximum=2)
    assert len(payloads(alice.subscribe("a/#", qos=1))) == 2
    alice.unsubscribe("a/#")
    assert alice.puback(1) == []
    assert alice.puback(2) == []
    assert world.store.next_deadline_at is None


# ---------------------------------------------------------------- paced


@spec("5.0 MQTT-3.3.4-9", "5.0 MQTT-4.9.0-2 (b)", "NN-14.5 (a)")
@all_versions
def test_replay_goes_on_as_acknowledgements_come(version: int) -> None:
    """NN-14.5: quota and identifiers hold; nothing is dropped for want of room."""
    world = World(limits=SessionLimits(maximum_queued_messages=2, maximum_send_window=3))
    for number in range(20):
        world.publish(f"a/{number:02}", b"%d" % number, qos=1, retain=True)
    alice = world.connect(version=version)
    seen = alice.subscribe("#", qos=1)
    assert ids(seen) == [1, 2, 3]
    alice.inbox += seen
    assert alice.acknowledge_all() == [b"%d" % number for number in range(20)]
    assert world.drops() == []
    assert alice.session.queue_depth == 0


@spec("5.0 MQTT-4.6.0-5")
def test_retained_messages_do_not_push_out_live_ones_nor_wait_for_ever_behind_them() -> None:
    world = World(limits=SessionLimits(maximum_queued_messages=100, maximum_send_window=1))
    for number in range(10):
        world.publish(f"r/{number}", b"r%d" % number, qos=1, retain=True)
    world.wait(1)
    alice = world.connect()
    seen = alice.subscribe("r/#", "live", qos=1)
    for number in range(10):
        world.publish("live", b"l%d" % number, qos=1)
    alice.inbox += seen
    order = alice.acknowledge_all()
    assert [each for each in order if each[:1] == b"r"] == [b"r%d" % n for n in range(10)]
    assert [each for each in order if each[:1] == b"l"] == [b"l%d" % n for n in range(10)]
    first_half = order[:10]
    assert 3 <= sum(each[:1] == b"r" for each in first_half) <= 7
    assert world.drops() == []


def test_no_call_sends_more_than_its_batch_and_the_rest_follows_at_once() -> None:
    world = World(limits=SessionLimits(retained_replay_batch=10))
    for number in range(35):
        world.publish(f"a/{number:02}", b"%d" % number, retain=True)
    alice = world.connect()
    seen = [len(payloads(alice.subscribe("#")))]
    while (deadline := world.store.next_deadline) is not None:
        assert (deadline.at, deadline.kind) == (world.now, DeadlineKind.RETAINED_REPLAY)
        world._see(world.store.handle_timeout(world.now, limit=1000))
        seen.append(len(alice.received()))
    assert sum(seen) == 35
    assert world.drops() == []


def test_no_call_walks_all_topics_that_do_not_match() -> None:
    world = World(limits=SessionLimits(retained_replay_batch=1))
    for number in range(50):
        world.publish(f"a/{number:02}/no", retain=True)
    world.publish("a/99/yes", b"found", retain=True)
    alice = world.connect()
    assert payloads(alice.subscribe("a/+/yes")) == []
    world.wait(0)
    assert alice.received() == [b"found"]


def test_what_changes_during_a_replay_is_seen_by_it() -> None:
    world = World(limits=SessionLimits(maximum_send_window=1))
    for topic_name in ("a", "c", "e", "g"):
        world.publish(topic_name, topic_name.encode(), qos=1, retain=True)
    alice = world.connect()
    seen = alice.subscribe("+", qos=1, no_local=True)
    assert payloads(seen) == [b"a"]
    alice.publish("c", b"", retain=True)  # cleared
    alice.publish("f", b"own", qos=1, retain=True)  # No Local
    alice.inbox += seen
    assert alice.acknowledge_all() == [b"a", b"e", b"g"]


@spec("5.0 MQTT-4.6.0-5", "NN-14.6")
def test_older_retained_message_does_not_overtake_a_newer_live_one() -> None:
    """NN-14.6."""
    world = World(limits=SessionLimits(maximum_send_window=1))
    for topic_name in ("a", "b"):
        world.publish(topic_name, b"old " + topic_name.encode(), qos=1, retain=True)
    alice = world.connect()
    seen = alice.subscribe("#", qos=1)
    world.publish("b", b"new b", qos=1, retain=True)
    alice.inbox += seen
    assert alice.acknowledge_all() == [b"old a", b"new b"]


@spec("5.0 MQTT-3.3.1-9", "5.0 MQTT-3.8.4-4 (a)", "3.1.1 MQTT-3.8.4-3 (b)")
@all_versions
def test_subscribing_again_calls_up_what_a_live_message_had_made_superfluous(version: int) -> None:
    """The newer SUBSCRIBE has its own right to it."""
    world = World(limits=SessionLimits(maximum_send_window=1))
    for topic_name in ("a", "b"):
        world.publish(topic_name, b"old " + topic_name.encode(), qos=1, retain=True)
    alice = world.connect(version=version)
    seen = alice.subscribe("#", qos=1)
    world.publish("b", b"new b", qos=1, retain=True)
    seen += alice.subscribe("#", qos=1)
    alice.inbox += seen
    flags = []
    while alice.inbox:
        for publish in only(SendPublish, alice.take()):
            flags.append((publish.delivery.message.payload, publish.delivery.retain))
            seen = alice.puback(publish.packet_id)
            alice.inbox += seen
    assert (b"new b", False) in flags
    assert (b"new b", True) in flags
    assert flags.count((b"old a", True)) == 2


def test_replay_goes_on_after_a_resume() -> None:
    world = World(limits=SessionLimits(maximum_send_window=2))
    for number in range(6):
        world.publish(f"a/{number}", b"%d" % number, qos=1, retain=True)
    alice = world.connect(keep=True)
    alice.subscribe("#", qos=1)
    alice = world.reconnect(alice)
    assert alice.acknowledge_all() == [b"%d" % number for number in range(6)]


@spec("3.1.1 MQTT-3.3.1-8")
@all_versions
def test_re_sent_retained_message_keeps_retain_1(version: int) -> None:
    world = World()
    world.publish("a", qos=1, retain=True)
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=1)
    (delivery,) = world.reconnect(alice).deliveries()
    assert delivery.retain is True


def test_replay_of_a_client_that_goes_for_good_goes_with_it() -> None:
    world = World(limits=SessionLimits(maximum_send_window=1, retained_replay_batch=1))
    for number in range(30):
        world.publish(f"a/{number}", retain=True)
    alice = world.connect()
    alice.subscribe("#")
    alice.disconnect()
    world.wait(1)
    assert world.store.next_deadline_at is None


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("version", [4, 5])
def test_qos_0_gives_way_and_then_new_topics_are_refused(version: int) -> None:
    world = World(limits=SessionLimits(maximum_retained_messages=2))
    watcher = subscriber(world)
    world.publish("q0", b"0", qos=0, retain=True)
    world.publish("q1", b"1", qos=1, retain=True)
    alice = world.connect(version=version)
    alice.take()
    watcher.take()
    alice.publish("new", b"n", qos=1, retain=True)
    assert world.retained_drops() == [(b"0", "queue_full")]
    assert retained(world) == [("new", b"n"), ("q1", b"1")]
    assert watcher.received() == [b"n"]
    for qos in (1, 2):
        seen = alice.publish("one/more", b"m", qos=qos, retain=True)
        if version == 5:
            assert [each.reason_code for each in seen] == [RC.QUOTA_EXCEEDED]
        else:
            assert closed_with(seen, version) is RC.QUOTA_EXCEEDED
            alice = world.reconnect(alice, keep=False)
            alice.take()
    # nobody got what was refused
    assert watcher.received() == []
    assert retained(world) == [("new", b"n"), ("q1", b"1")]


@spec("NN-14.2")
@all_versions
def test_qos_0_message_without_room_is_delivered_and_not_retained(version: int) -> None:
    """NN-14.2."""
    world = World(limits=SessionLimits(maximum_retained_messages=1))
    world.publish("q1", b"1", qos=1, retain=True)
    watcher = subscriber(world)
    world.connect(version=version).publish("q0", b"0", retain=True)
    assert watcher.received() == [b"0"]
    assert world.retained_drops() == [(b"0", "queue_full")]
    assert retained(world) == [("q1", b"1")]


def test_replacing_needs_no_room() -> None:
    world = World(limits=SessionLimits(maximum_retained_messages=1))
    for payload in numbered(3):
        world.publish("a", payload, qos=1, retain=True)
    assert retained(world) == [("a", b"3")]
    assert world.retained_drops() == []


def test_bound_in_bytes() -> None:
    world = World(limits=SessionLimits(maximum_retained_bytes=20))
    world.publish("a", b"x" * 9, qos=0, retain=True)
    world.publish("b", b"x" * 9, qos=1, retain=True)
    alice = world.connect()
    alice.take()
    (answer,) = alice.publish("c", b"x" * 10, qos=1, retain=True)
    assert answer.reason_code is RC.QUOTA_EXCEEDED
    assert [topic_name for topic_name, _ in retained(world)] == ["a", "b"]  # in vain: nobody goes
    (answer,) = alice.publish("c", b"x" * 9, qos=1, retain=True)
    assert answer.reason_code < 0x80
    assert [topic_name for topic_name, _ in retained(world)] == ["b", "c"]
    world.publish("b", b"", retain=True)
    (answer,) = alice.publish("d", b"x" * 9, qos=1, retain=True)
    assert answer.reason_code < 0x80


def test_topics_old_message_goes_in_any_accepted_case() -> None:
    world = World(limits=SessionLimits(maximum_retained_bytes=20))
    world.publish("a", b"old", qos=0, retain=True)
    world.publish("a", b"x" * 100, qos=0, retain=True)
    assert retained(world) == []
    world.publish("b", b"old", qos=1, retain=True)
    alice = world.connect()
    alice.take()
    (answer,) = alice.publish("b", b"x" * 100, qos=1, retain=True)
    assert answer.reason_code is RC.QUOTA_EXCEEDED
    assert retained(world) == [("b", b"old")]


def test_what_has_expired_makes_room() -> None:
    world = World(limits=SessionLimits(maximum_retained_messages=1))
    world.publish("a", qos=1, retain=True, message_expiry_interval=5)
    world.wait_late(5)
    world.publish("b", b"2", qos=1, retain=True)
    assert retained(world) == [("b", b"2")]
    assert world.retained_drops() == [(b"x", "expired")]


# ---------------------------------------------------------------- iteration


def test_host_iterates_by_filter_page_by_page() -> None:
    world = World()
    for topic_name in ("b", "a/2", "$SYS/x", "a/1", "a"):
        world.publish(topic_name, topic_name.encode(), retain=True)
    assert [topic for topic, _ in retained(world)] == ["$SYS/x", "a", "a/1", "a/2", "b"]
    assert [topic for topic, _ in retained(world, "a/#")] == ["a", "a/1", "a/2"]
    assert [topic for topic, _ in retained(world, "+")] == ["a", "b"]
    page = world.store.retained("#", limit=2)
    assert [message.topic_name for message in page] == ["$SYS/x", "a"]
    page = world.store.retained("#", after="a", limit=2)
    assert [message.topic_name for message in page] == ["a/1", "a/2"]
    assert world.store.retained("#", after="b") == ()


# ---------------------------------------------------------------- switched off


@spec("5.0 MQTT-3.2.2-14", "5.0 MQTT-4.13.1-1 (c)")
@pytest.mark.parametrize("payload", [b"x", b""])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_retain_is_a_protocol_error_where_it_is_not_available(qos: int, payload: bytes) -> None:
    world = World(options=ServerOptions(retain_available=False))
    alice = world.connect()
    assert alice.connack.retain_available is False
    alice.take()
    seen = alice.publish("a", payload, qos=qos, retain=True)
    assert closed_with(seen) is RC.RETAIN_NOT_SUPPORTED


@old_versions
def test_3_x_client_is_not_closed_and_nothing_is_retained(version: int) -> None:
    world = World(options=ServerOptions(retain_available=False))
    watcher = subscriber(world)
    alice = world.connect(version=version)
    assert alice.connack.retain_available is None
    alice.publish("a", b"1", qos=1, retain=True)
    assert watcher.received() == [b"1"]
    assert retained(world) == []
    assert payloads(alice.subscribe("a")) == []


@spec("NN-14.4")
@old_versions
def test_without_retained_messages_all_flags_are_0(version: int) -> None:
    """NN-14.4."""
    world = World(options=ServerOptions(retain_available=False))
    watcher = subscriber(world, retain_as_published=True)
    world.connect(version=version).publish("a", retain=True)
    world.publish("a", retain=True)
    assert [each.retain for each in watcher.deliveries()] == [False, False]


def test_subscriptions_added_to_nobody_are_the_hosts_fault() -> None:
    from mqtt_sessions import SubscriptionsAdded

    with pytest.raises(InvalidState):
        World().feed(SubscriptionsAdded("nobody", ()))


def test_suback_comes_before_what_it_calls_up() -> None:
    world = World()
    world.publish("a", retain=True)
    alice = world.connect()
    alice.take()
    assert kinds(alice.subscribe("a")) == [SendSuback, SendPublish]
