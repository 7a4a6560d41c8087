"""Feature B: how long a message lives, in queues, in the retained store and on the wire."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    DeadlineKind,
    ExpiryPolicy,
    InboundQos2TimedOut,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SessionLimits,
)

from .helpers import (
    KEPT,
    OK,
    RC,
    World,
    all_versions,
    closed_with,
    ids,
    only,
    payloads,
    pubrels,
    sent_again,
    spec,
    will,
)


def told(world: World, client: object) -> list[int | None]:
    """The Message Expiry Intervals of what a client has got since it was last asked."""
    return [each.message_expiry_interval for each in only(SendPublish, client.take())]  # type: ignore[attr-defined]


# ---------------------------------------------------------------- what the receiver is told


@spec("5.0 MQTT-3.3.2-6", "NN-9.1")
@pytest.mark.parametrize(
    ("waited", "left"),
    [(0, 100), (0.001, 100), (0.999, 100), (1, 99), (1.5, 99), (50, 50), (98.5, 2), (99.999, 1)],
)
def test_queued_message_tells_what_is_left_rounded_up(waited: float, left: int) -> None:
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.publish("a", qos=1, message_expiry_interval=100)
    world.wait(waited)
    alice = world.connect(keep=True)
    assert told(world, alice) == [left]


@spec("5.0 MQTT-3.3.2-6")
@pytest.mark.parametrize("start", [0.25, 1_700_000_000.3, 1_700_000_000.7])
def test_whole_seconds_of_waiting_stay_whole_on_any_clock(start: float) -> None:
    world = World(now=start)
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.publish("a", qos=1, message_expiry_interval=10)
    for left in range(9, 0, -1):
        world.wait(1)
        alice = world.connect(keep=True)
        assert told(world, alice) == [left]
        alice.lose()


@spec("5.0 MQTT-3.3.2-6")
def test_waiting_for_the_window_counts() -> None:
    world = World()
    alice = world.connect(receive_maximum=1)
    alice.subscribe("a", qos=1)
    alice.take()
    world.publish("a", qos=1, message_expiry_interval=100)
    world.publish("a", qos=1, message_expiry_interval=100)
    assert told(world, alice) == [100]
    world.wait(40)
    (second,) = only(SendPublish, alice.puback(1))
    assert second.message_expiry_interval == 60


@spec("5.0 MQTT-3.3.2-6", "NN-9.5")
def test_interval_counts_from_arrival_not_from_the_end_of_qos_2() -> None:
    """NN-9.5."""
    world = World()
    bob = world.connect("bob", keep=True)
    bob.subscribe("a", qos=2)
    bob.lose()
    alice = world.connect()
    alice.publish("a", qos=2, packet_id=1, message_expiry_interval=100)
    world.wait(30)
    alice.pubrel(1)
    bob = world.connect("bob", keep=True)
    assert told(world, bob) == [70]


@spec("NN-9.1")
@all_versions
def test_message_without_an_interval_does_not_expire(version: int) -> None:
    world = World(policy=ExpiryPolicy(default_session_expiry_interval=None))
    alice = world.connect(version=version, keep=True, expiry=0xFFFFFFFF if version == 5 else None)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.publish("a", b"1", qos=1)
    world.publish("r", b"2", retain=True)
    world.wait(10**9)
    assert alice.session.queue_depth == 1
    assert world.store.retained_count == 1
    alice = world.connect(version=5, clean=False)
    assert told(world, alice) == [None]


def test_largest_interval_is_136_years_and_not_never() -> None:
    world = World()
    alice = world.connect(expiry=0xFFFFFFFF)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.publish("a", qos=1, message_expiry_interval=0xFFFFFFFF)
    world.wait(0xFFFFFFFE)
    assert alice.session.queue_depth == 1
    world.wait(1)
    assert alice.session.queue_depth == 0


# ---------------------------------------------------------------- the deadline


@spec("5.0 MQTT-3.3.2-5", "NN-9.1")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_copy_leaves_memory_at_its_deadline(qos: int) -> None:
    world = World()
    for name in ("alice", "bob"):
        client = world.connect(name, keep=True)
        client.subscribe("a", qos=2)
        client.lose()
    world.publish("a", b"1", qos=qos, message_expiry_interval=10)
    deadline = world.store.next_deadline
    assert deadline is not None
    assert (deadline.at, deadline.kind) == (world.now + 10, DeadlineKind.MESSAGE_EXPIRY)
    world.wait(9.999)
    assert world.drops() == []
    world.wait(0.001)
    assert world.drops() == [("alice", b"1", "expired"), ("bob", b"1", "expired")]
    assert world.store["alice"].queue_depth == world.store["bob"].queue_depth == 0
    assert world.store["alice"].queued_bytes == 0


@spec("5.0 MQTT-3.3.2-5", "NN-9.2")
def test_copies_expire_by_subscriber() -> None:
    """One has begun and is finished, the other has not."""
    world = World()
    alice = world.connect("alice", keep=True)
    bob = world.connect("bob", keep=True)
    for client in (alice, bob):
        client.subscribe("a", qos=1)
        client.take()
    bob.lose()
    world.publish("a", b"1", qos=1, message_expiry_interval=10)
    world.wait(10)
    assert world.drops() == [("bob", b"1", "expired")]
    assert world.reconnect(bob).received() == []
    assert world.reconnect(alice).received() == [b"1"]


@spec("5.0 MQTT-3.3.2-5")
def test_message_that_waits_for_the_window_expires_too() -> None:
    world = World()
    alice = world.connect(receive_maximum=1)
    alice.subscribe("a", qos=1)
    alice.take()
    world.publish("a", b"1", qos=1)
    world.publish("a", b"2", qos=1, message_expiry_interval=5)
    world.publish("a", b"3", qos=1)
    world.wait(5)
    assert alice.received() == [b"1"]
    assert world.drops() == [("alice", b"2", "expired")]
    assert payloads(alice.puback(1)) == [b"3"]


@spec("5.0 MQTT-3.3.2-5")
def test_late_timer_delivers_nothing_that_has_expired() -> None:
    world = World()
    alice = world.connect(receive_maximum=1)
    alice.subscribe("a", qos=1)
    alice.take()
    world.publish("a", b"1", qos=1)
    world.publish("a", b"2", qos=1, message_expiry_interval=5)
    world.publish("a", b"3", qos=0, message_expiry_interval=5)
    alice.take()
    world.wait_late(5)
    assert alice.puback(1) == []
    assert [payload for _, payload, _ in world.drops()] == [b"2", b"3"]


@spec("5.0 MQTT-3.3.2-5", "NN-9.3", "NN-14.5 (c)")
@pytest.mark.parametrize("on_time", [True, False], ids=["timer on time", "timer late"])
def test_retained_message_is_gone_at_its_deadline(on_time: bool) -> None:
    """NN-9.3."""
    world = World()
    world.publish("a", b"1", retain=True, message_expiry_interval=10)
    world.publish("b", b"2", retain=True, message_expiry_interval=11)
    (world.wait if on_time else world.wait_late)(10)
    alice = world.connect()
    assert payloads(alice.subscribe("#")) == [b"2"]
    assert world.retained_drops() == [(b"1", "expired")]
    assert world.store.retained_count == 1


def test_newer_retained_message_has_its_own_deadline() -> None:
    world = World()
    world.publish("a", b"1", retain=True, message_expiry_interval=10)
    world.wait(5)
    world.publish("a", b"2", retain=True, message_expiry_interval=10)
    world.wait(9)
    assert world.store.retained_count == 1
    world.wait(1)
    assert world.retained_drops() == [(b"2", "expired")]
    world.publish("a", b"3", retain=True, message_expiry_interval=10)
    world.publish("a", b"4", retain=True)
    world.wait(100)
    assert world.store.retained_count == 1


def test_deadline_goes_with_what_it_was_for() -> None:
    """Renewed, shortened, delivered, purged: no deadline of something that is gone fires."""
    world = World()
    alice = world.connect(expiry=0xFFFFFFFF)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.publish("a", b"1", qos=1, message_expiry_interval=100)
    world.publish("a", b"2", qos=1, message_expiry_interval=10)
    assert world.store.next_deadline_at == world.now + 10
    alice = world.connect(clean=False, expiry=0xFFFFFFFF)
    assert alice.received() == [b"1", b"2"]
    assert world.store.next_deadline_at is None
    alice.puback(1)
    alice.puback(2)
    alice.lose()
    world.publish("a", b"3", qos=1, message_expiry_interval=20)
    assert world.store.next_deadline_at == world.now + 20
    world.wait(20)
    assert world.store.next_deadline_at is None
    assert world.drops() == [("alice", b"3", "expired")]


# ---------------------------------------------------------------- interval 0


@spec("NN-9.4")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_interval_0_reaches_only_whom_it_can_reach_at_once(qos: int) -> None:
    """NN-9.4: it is told as 0."""
    world = World()
    connected = world.connect("connected")
    away = world.connect("away", keep=True)
    busy = world.connect("busy", receive_maximum=1)
    congested = world.connect("congested")
    for client in (connected, away, busy, congested):
        client.subscribe("a", "b", qos=2)
        client.take()
    away.lose()
    congested.congest()
    world.publish("b", b"fills the window", qos=1)
    world.publish("b", b"waits", qos=1)
    for client in (connected, away, busy, congested):
        client.take()
    world.publish("a", b"now", qos=qos, message_expiry_interval=0)
    (publish,) = connected.take()
    assert publish.message_expiry_interval == 0
    assert busy.take() == congested.take() == []
    assert sorted(world.drops()) == [
        (name, b"now", "expired") for name in ("away", "busy", "congested")
    ]


def test_interval_0_clears_the_retained_message_and_is_not_stored() -> None:
    world = World()
    alice = world.connect()
    alice.subscribe("a")
    alice.take()
    world.publish("a", b"old", retain=True)
    world.publish("a", b"now", retain=True, message_expiry_interval=0)
    assert alice.received() == [b"old", b"now"]
    assert world.store.retained_count == 0


@spec("5.0 MQTT-3.3.2-6")
def test_begun_delivery_of_interval_0_is_re_sent_with_0() -> None:
    """MQTT-4.3.3-7; a received 0 goes out as 0."""
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.take()
    world.publish("a", qos=1, message_expiry_interval=0)
    alice.take()
    world.wait(5)
    alice = world.reconnect(alice)
    assert told(world, alice) == [0]


# ---------------------------------------------------------------- deliveries that have begun


@spec("5.0 MQTT-4.3.3-7", "5.0 MQTT-4.4.0-1 (a)", "5.0 MQTT-4.4.0-1 (b)", "NN-8.6")
@pytest.mark.parametrize("qos", [1, 2])
def test_begun_delivery_is_re_sent_long_after_its_expiry_and_never_with_0(qos: int) -> None:
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=2)
    alice.take()
    world.publish("a", b"1", qos=qos, message_expiry_interval=5)
    alice.take()
    world.wait(1000)
    alice = world.reconnect(alice)
    (again,) = only(SendPublish, alice.take())
    assert (again.packet_id, again.dup, again.message_expiry_interval) == (1, True, 1)


def test_option_gives_up_begun_qos_1_at_resume_only() -> None:
    """`expire_in_flight`: while connected, identifier and slot stay taken until PUBACK."""
    world = World(policy=ExpiryPolicy(expire_in_flight=True))
    alice = world.connect(keep=True, receive_maximum=3)
    alice.subscribe("a", qos=2)
    alice.take()
    world.publish("a", b"1", qos=1, message_expiry_interval=5)
    world.publish("a", b"2", qos=2, message_expiry_interval=5)
    world.publish("a", b"3", qos=1)
    alice.take()
    world.wait(10)
    assert alice.session.send_quota == 0
    assert world.drops() == []
    alice = world.reconnect(alice, receive_maximum=3)
    assert sent_again(alice.take()) == [(2, b"2", True), (3, b"3", True)]
    assert world.drops() == [("alice", b"1", "expired")]
    assert alice.session.send_quota == 1


def test_option_never_gives_up_a_qos_2_exchange_in_either_phase() -> None:
    world = World(policy=ExpiryPolicy(expire_in_flight=True))
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=2)
    world.publish("a", qos=2, message_expiry_interval=5)
    world.publish("a", qos=2, message_expiry_interval=5)
    alice.take()
    alice.pubrec(1)
    world.wait(10)
    alice = world.reconnect(alice)
    seen = alice.take()
    assert pubrels(seen) == [1]
    assert ids(seen) == [2]
    assert world.drops() == []


# ---------------------------------------------------------------- policy


@all_versions
def test_default_holds_for_publishers_of_every_version_and_is_not_told(version: int) -> None:
    world = World(policy=ExpiryPolicy(default_message_expiry_interval=60))
    bob = world.connect("bob", keep=True)
    bob.subscribe("a", qos=1)
    bob.lose()
    alice = world.connect("alice", version)
    alice.publish("a", b"1", qos=1, retain=True)
    world.wait(59)
    bob = world.connect("bob", keep=True)
    assert told(world, bob) == [None]
    bob.lose()
    world.wait(1)
    assert world.store.retained_count == 0


def test_default_is_shown_where_the_policy_says_so() -> None:
    policy = ExpiryPolicy(default_message_expiry_interval=60, show_default_message_expiry=True)
    world = World(policy=policy)
    bob = world.connect("bob", keep=True)
    bob.subscribe("a", "will", qos=1)
    bob.lose()
    alice = world.connect("alice", 4, will=will(qos=1))
    alice.publish("a", qos=1)
    alice.publish("a", qos=1, message_expiry_interval=30)
    alice.lose()
    world.wait(10)
    bob = world.connect("bob", keep=True)
    assert told(world, bob) == [50, 20, None]  # never for wills


def test_default_expires_wills_too() -> None:
    world = World(policy=ExpiryPolicy(default_message_expiry_interval=60))
    bob = world.connect("bob", keep=True)
    bob.subscribe("will", qos=1)
    bob.lose()
    world.connect(will=will(payload=b"bye", qos=1, retain=True)).lose()
    world.wait(60)
    assert world.drops() == [("bob", b"bye", "expired")]
    assert world.store.retained_count == 0


def test_cap_deletes_earlier_and_tells_what_was_received() -> None:
    world = World(policy=ExpiryPolicy(maximum_message_expiry_interval=60))
    bob = world.connect("bob", keep=True)
    bob.subscribe("#", qos=1)
    bob.lose()
    for topic_name, interval in (("none", None), ("long", 1000), ("short", 30)):
        world.publish(
            topic_name,
            topic_name.encode(),
            qos=1,
            retain=True,
            message_expiry_interval=interval,
        )
    world.wait(20)
    carol = world.connect("carol")
    seen = {
        each.delivery.message.topic_name: each.message_expiry_interval
        for each in only(SendPublish, carol.subscribe("#"))
    }
    assert seen == {"none": None, "long": 980, "short": 10}
    world.wait(10)
    assert world.drops() == [("bob", b"short", "expired")]
    world.wait(30)
    assert world.drops() == [("bob", b"none", "expired"), ("bob", b"long", "expired")]
    assert world.store.retained_count == 0


def test_publishers_own_policy_decides_for_its_messages() -> None:
    """`ClientConnected.policy` is stored with the session."""
    world = World()
    bob = world.connect("bob", keep=True)
    bob.subscribe("a", qos=1)
    bob.lose()
    own = ExpiryPolicy(default_message_expiry_interval=10)
    alice = world.connect("alice", policy=own)
    alice.publish("a", b"alice", qos=1)
    world.connect("carol").publish("a", b"carol", qos=1)
    world.wait(10)
    assert world.drops() == [("bob", b"alice", "expired")]
    assert bob.session.queue_depth == 1


# ---------------------------------------------------------------- wills


@spec("NN-4.6")
def test_interval_of_a_will_counts_from_its_publication() -> None:
    """NN-4.6; the delay is another thing."""
    world = World()
    bob = world.connect("bob", keep=True)
    bob.subscribe("will", qos=1)
    bob.lose()
    alice = world.connect(expiry=KEPT, will=will(delay=100, qos=1, message_expiry_interval=20))
    world.wait(500)
    alice.lose()
    world.wait(100)
    world.wait(19)
    assert bob.session.queue_depth == 1
    world.wait(1)
    assert bob.session.queue_depth == 0


def test_owners_own_policy_decides_for_its_will() -> None:
    world = World()
    bob = world.connect("bob", keep=True)
    bob.subscribe("will", qos=1)
    bob.lose()
    own = ExpiryPolicy(default_message_expiry_interval=10)
    world.connect("alice", will=will(payload=b"bye", qos=1), policy=own).lose()
    world.wait(9)
    assert world.drops() == []
    world.wait(1)
    assert world.drops() == [("bob", b"bye", "expired")]


# ---------------------------------------------------------------- inbound QoS 2 identifiers


@spec("5.0 MQTT-4.3.3-10 (a)", "3.1.1 MQTT-4.3.3-2 (b)")
@all_versions
def test_inbound_identifiers_do_not_time_out(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.publish("a", qos=2, packet_id=1)
    world.wait(10**9)
    assert alice.publish("a", qos=2, packet_id=1) == [SendPubrec(alice.connection, 1, OK)]
    assert alice.pubrel(1) == [SendPubcomp(alice.connection, 1, OK)]


@all_versions
def test_cap_of_inbound_identifiers_refuses_new_ones_and_answers_held_ones(version: int) -> None:
    world = World(limits=SessionLimits(maximum_inbound_qos2=2))
    bob = world.connect("bob")
    bob.subscribe("a", qos=2)
    bob.take()
    alice = world.connect(version=version, keep=True)
    alice.take()
    alice.publish("a", b"1", qos=2, packet_id=1)
    alice.publish("a", b"2", qos=2, packet_id=2)
    assert alice.publish("a", b"2", qos=2, packet_id=2) == [SendPubrec(alice.connection, 2, OK)]
    assert alice.publish("a", b"q", qos=1, packet_id=9)[0].reason_code == OK
    seen = alice.publish("a", b"3", qos=2, packet_id=3)
    if version == 5:
        assert seen == [SendPubrec(alice.connection, 3, RC.QUOTA_EXCEEDED)]
    else:
        assert closed_with(seen, version) is RC.QUOTA_EXCEEDED
        alice = world.reconnect(alice)
        alice.take()
    assert bob.received() == [b"1", b"2", b"q"]
    assert alice.session.inbound_packet_ids == (1, 2)
    alice.pubrel(1)
    assert alice.publish("a", b"4", qos=2, packet_id=3)[0].reason_code == OK


@pytest.mark.parametrize("version", [3, 4])
def test_cap_of_inbound_identifiers_holds_for_unauthorized_messages_too(version: int) -> None:
    """3.x gets a normal acknowledgement for them, and the identifier is held."""
    world = World(limits=SessionLimits(maximum_inbound_qos2=2))
    alice = world.connect(version=version)
    alice.take()
    for packet_id in (1, 2):
        alice.publish("a", qos=2, packet_id=packet_id, refusal=RC.NOT_AUTHORIZED)
    seen = alice.publish("a", qos=2, packet_id=3, refusal=RC.NOT_AUTHORIZED)
    assert closed_with(seen, version) is RC.QUOTA_EXCEEDED


def test_time_out_of_inbound_identifiers_breaks_the_exchange_and_says_so() -> None:
    """*Deviation* from MQTT-4.3.3-10, counted while the client is away too."""
    world = World(policy=ExpiryPolicy(inbound_qos2_interval=300))
    bob = world.connect("bob")
    bob.subscribe("a", qos=2)
    bob.take()
    alice = world.connect(keep=True)
    alice.publish("a", b"1", qos=2, packet_id=1)
    alice.lose()
    world.wait_late(300)
    alice = world.connect(keep=True)
    alice.take()
    alice.publish("a", b"1", qos=2, packet_id=1, dup=True)
    assert world.take_notices(InboundQos2TimedOut) == [InboundQos2TimedOut("alice", 1)]
    assert bob.received() == [b"1", b"1"]
    world.wait(300)
    assert alice.pubrel(1)[0].reason_code is RC.PACKET_IDENTIFIER_NOT_FOUND
    assert world.store.next_deadline_at is None


def test_time_out_of_one_identifier_gives_its_unit_back() -> None:
    world = World(
        policy=ExpiryPolicy(inbound_qos2_interval=300), limits=SessionLimits(maximum_inbound_qos2=1)
    )
    alice = world.connect()
    alice.take()
    alice.publish("a", qos=2, packet_id=1)
    assert alice.publish("a", qos=2, packet_id=2)[0].reason_code is RC.QUOTA_EXCEEDED
    world.wait(300)
    assert alice.publish("a", qos=2, packet_id=2)[0].reason_code < 0x80
