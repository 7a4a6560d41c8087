"""Faults that other brokers shipped, each as the scenario in which it showed."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    ConnectionLost,
    DeadlineKind,
    DisconnectReceived,
    EndReason,
    ExpiryPolicy,
    InboundQos2TimedOut,
    MessageDropped,
    PubackReceived,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SessionEnded,
    SessionLimits,
    SubscriptionsRemoved,
    WillPublished,
)

from .helpers import (
    NEVER_ON_WIRE,
    OK,
    RC,
    World,
    all_versions,
    closed_with,
    codes,
    fault,
    ids,
    numbered,
    only,
    payloads,
    pubrels,
    sent_again,
    spec,
    will,
)

# ---------------------------------------------------------------- identifiers, windows, order


@fault(1)
@spec(
    "5.0 MQTT-2.2.1-4",
    "5.0 MQTT-4.3.2-1",
    "5.0 MQTT-4.3.3-1",
    "3.1.1 MQTT-2.3.1-4",
    "3.1.1 MQTT-4.3.2-1 (a)",
    "3.1.1 MQTT-4.3.3-1 (a)",
)
@pytest.mark.unmeasured
@all_versions
def test_packet_id_does_not_wrap_onto_one_in_flight(version: int) -> None:
    """Fault 1."""
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("kept/#", "busy", qos=2)
    world.publish("kept/publish", b"waits for PUBACK", qos=1)
    world.publish("kept/pubrel", b"waits for PUBCOMP", qos=2)
    world.publish("kept/pubrec", b"waits for PUBREC", qos=2)
    assert ids(alice.take()) == [1, 2, 3]
    alice.pubrec(2)
    world.use_up_packet_ids(alice, "busy", last=65_535)
    world.publish("busy", qos=1)
    world.publish("busy", qos=2)
    assert ids(alice.take()) == [4, 5]


@fault(2)
@spec("NN-6.1")
@all_versions
def test_both_directions_use_the_same_packet_id_at_once(version: int) -> None:
    """Fault 2."""
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("in", qos=2)
    world.publish("in", qos=2)
    assert ids(alice.take()) == [1]
    (pubrec,) = alice.publish("out", qos=2, packet_id=1)
    assert isinstance(pubrec, SendPubrec)
    assert pubrec.reason_code < 0x80
    (pubrel,) = alice.pubrec(1)
    assert pubrel == SendPubrel(alice.connection, 1, OK)
    assert alice.pubrel(1) == [SendPubcomp(alice.connection, 1, OK)]
    assert alice.publish("out", qos=1, packet_id=1)[0].reason_code < 0x80
    assert alice.pubcomp(1) == []
    assert alice.session.in_flight == ()


@fault(3)
@spec("5.0 MQTT-3.3.4-9", "5.0 MQTT-4.9.0-2 (a)", "5.0 MQTT-4.9.0-2 (b)", "NN-8.4")
def test_resume_with_a_smaller_receive_maximum_re_sends_no_more_than_it_allows() -> None:
    """Fault 3."""
    world = World()
    alice = world.connect(keep=True, receive_maximum=5)
    alice.subscribe("a", qos=1)
    alice.take()
    for payload in numbered(8):
        world.publish("a", payload, qos=1)
    assert alice.received() == numbered(5)
    alice = world.reconnect(alice, receive_maximum=2)
    assert sent_again(alice.take()) == [(1, b"1", True), (2, b"2", True)]
    assert alice.session.send_quota == 0
    # one in for each one out: nothing is flushed because the free window went negative
    assert sent_again(alice.puback(1)) == [(3, b"3", True)]
    assert sent_again(alice.puback(2)) == [(4, b"4", True)]
    assert sent_again(alice.puback(3)) == [(5, b"5", True)]
    assert sent_again(alice.puback(4)) == [(6, b"6", False)]
    assert sent_again(alice.puback(5)) == [(7, b"7", False)]
    assert sent_again(alice.puback(6)) == [(8, b"8", False)]
    assert world.drops() == []


@fault(4)
@spec("5.0 MQTT-4.6.0-1", "3.1.1 MQTT-4.6.0-1", "3.1.1 MQTT-4.6.0-6 (a)", "NN-8.3", "NN-15.3")
@pytest.mark.unmeasured
@all_versions
def test_redelivery_keeps_the_order_of_first_sending_across_the_wrap(version: int) -> None:
    """Fault 4."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("busy", "a", qos=1)
    world.use_up_packet_ids(alice, "busy", last=65_533)
    for payload in numbered(4):
        world.publish("a", payload, qos=1)
    assert ids(alice.take()) == [65_534, 65_535, 1, 2]
    alice = world.reconnect(alice)
    assert sent_again(alice.take()) == [
        (65_534, b"1", True),
        (65_535, b"2", True),
        (1, b"3", True),
        (2, b"4", True),
    ]


@fault(5)
@spec(
    "5.0 MQTT-4.6.0-5",
    "5.0 MQTT-4.6.0-6",
    "3.1.1 MQTT-4.6.0-6 (e)",
    "3.1.1 MQTT-4.6.0-5",
    "NN-10.7",
    "NN-15.1",
)
@all_versions
def test_new_messages_do_not_overtake_queued_ones(version: int) -> None:
    """Fault 5: whatever frees the slot, an ack, a refusal, a resume, or a writable connection."""
    world = World(limits=SessionLimits(maximum_send_window=1))
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    alice.take()
    for payload, qos in ((b"1", 1), (b"2", 2), (b"3", 1), (b"4", 0)):
        world.publish("a", payload, qos=qos)
    assert alice.received() == [b"1"]
    alice.congest()
    assert alice.puback(1) == []
    world.publish("a", b"5", qos=0)
    assert payloads(alice.drain()) == [b"2"]
    alice = world.reconnect(alice)
    world.publish("a", b"6", qos=1)
    world.publish("a", b"7", qos=0)
    assert alice.acknowledge_all() == numbered(6, start=2)


@fault(6)
@spec("5.0 MQTT-4.4.0-2", "5.0 MQTT-3.3.4-9", "NN-10.1")
def test_send_quota_neither_leaks_nor_grows() -> None:
    """Fault 6: every way in which an exchange ends gives one unit back, and only one."""
    world = World()
    alice = world.connect(receive_maximum=4)
    alice.subscribe("a", qos=2)
    for qos in (1, 1, 2, 2):
        world.publish("a", qos=qos)
    assert ids(alice.take()) == [1, 2, 3, 4]
    quota = [alice.session.send_quota]
    for step in (
        lambda: alice.puback(1),
        lambda: alice.puback(1),  # twice
        lambda: alice.puback(2, RC.QUOTA_EXCEEDED),
        lambda: alice.pubrec(3, RC.NOT_AUTHORIZED),
        lambda: alice.pubrec(3, RC.NOT_AUTHORIZED),  # twice
        lambda: alice.pubrec(4),
        lambda: alice.pubcomp(4, RC.PACKET_IDENTIFIER_NOT_FOUND),
        lambda: alice.pubcomp(4),  # twice
    ):
        step()
        quota.append(alice.session.send_quota)
    assert quota == [0, 1, 1, 2, 3, 3, 3, 4, 4]


@fault(7)
@spec("5.0 MQTT-4.3.2-3", "3.1.1 MQTT-4.3.2-1 (c)")
@all_versions
def test_puback_out_of_order_settles_its_own_message(version: int) -> None:
    """Fault 7."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=1)
    for payload in numbered(3):
        world.publish("a", payload, qos=1)
    assert ids(alice.take()) == [1, 2, 3]
    assert alice.puback(3) == []
    assert alice.puback(1) == []
    assert [each.packet_id for each in alice.session.in_flight] == [2]
    alice = world.reconnect(alice)
    assert sent_again(alice.take()) == [(2, b"2", True)]
    alice.puback(2)
    assert alice.session.in_flight == ()


@fault(8)
@pytest.mark.unmeasured
@all_versions
def test_backlog_is_not_capped_by_packet_ids(version: int) -> None:
    """Fault 8: identifiers are taken at sending, so a queue may be longer than there are any."""
    world = World(limits=SessionLimits(maximum_queued_messages=None, maximum_send_window=2))
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    depth = 65_536 + 10
    world.check_each_step = False
    for _ in range(depth):
        world.publish("a", qos=1)
    assert world.drops() == []
    assert alice.session.queue_depth == depth
    assert alice.session.in_flight == ()
    alice = world.reconnect(alice)
    assert ids(alice.take()) == [1, 2]


@fault(9)
@spec("5.0 MQTT-3.3.4-10", "5.0 MQTT-4.9.0-3", "NN-8.4b")
def test_pubrel_does_not_wait_for_a_full_window() -> None:
    """Fault 9."""
    world = World()
    alice = world.connect(keep=True, receive_maximum=2)
    alice.subscribe("a", qos=2)
    for payload in numbered(4):
        world.publish("a", payload, qos=2)
    assert ids(alice.take()) == [1, 2]
    assert alice.pubrec(1) == [SendPubrel(alice.connection, 1, OK)]
    assert alice.pubrec(2) == [SendPubrel(alice.connection, 2, OK)]
    alice = world.reconnect(alice, receive_maximum=1)
    seen = alice.take()
    assert pubrels(seen) == [1, 2]
    assert payloads(seen) == [b"3"]
    assert alice.acknowledge_all() == []
    alice.pubcomp(1)
    alice.pubcomp(2)
    assert alice.pubrec(3) == [SendPubrel(alice.connection, 3, OK)]
    assert payloads(alice.pubcomp(3)) == [b"4"]


# ---------------------------------------------------------------- QoS 2


@fault(10)
@spec("5.0 MQTT-4.3.3-10 (a)", "3.1.1 MQTT-4.3.3-2 (b)", "NN-6.4")
@pytest.mark.parametrize("dup", [False, True])
@all_versions
def test_repeated_qos2_publish_is_answered_again_and_handed_on_once(
    version: int, dup: bool
) -> None:
    """Fault 10."""
    world = World()
    bob = world.connect("bob", version)
    bob.subscribe("a", qos=2)
    bob.take()
    alice = world.connect(version=version, keep=True)
    alice.take()
    alice.publish("a", b"once", qos=2, packet_id=7)
    again = [SendPubrec(alice.connection, 7, OK)]
    assert alice.publish("a", b"once", qos=2, packet_id=7, dup=dup) == again
    assert alice.publish("a", b"once", qos=2, packet_id=7, dup=dup) == again
    assert bob.received() == [b"once"]
    assert alice.pubrel(7) == [SendPubcomp(alice.connection, 7, OK)]


@fault(10)
@spec("NN-7.10")
@pytest.mark.parametrize("qos", [1, 2])
@all_versions
def test_repeat_whose_first_copy_never_arrived_is_handed_on(version: int, qos: int) -> None:
    """Fault 10: DUP 1 proves nothing about an earlier copy."""
    world = World()
    bob = world.connect("bob", version)
    bob.subscribe("a", qos=2)
    bob.take()
    alice = world.connect(version=version)
    alice.take()
    (answer,) = alice.publish("a", b"first here", qos=qos, packet_id=7, dup=True)
    assert isinstance(answer, SendPuback if qos == 1 else SendPubrec)
    assert answer.reason_code == OK
    assert bob.received() == [b"first here"]


@fault(11)
@spec(
    "5.0 MQTT-4.3.3-6",
    "5.0 MQTT-4.3.3-5",
    "5.0 MQTT-4.4.0-1 (c)",
    "3.1.1 MQTT-4.3.3-1 (e)",
    "3.1.1 MQTT-4.3.3-1 (f)",
    "3.1.1 MQTT-4.4.0-1 (c)",
    "NN-8.2 (a)",
)
@all_versions
def test_resume_sends_pubrel_again_and_never_the_publish_behind_it(version: int) -> None:
    """Fault 11."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    world.publish("a", b"1", qos=2)
    alice.take()
    alice.pubrec(1)
    for _ in range(3):
        alice = world.reconnect(alice)
        assert alice.take()[1:] == [SendPubrel(alice.connection, 1, OK)]
    alice.pubcomp(1)
    assert world.reconnect(alice).take()[1:] == []


@fault(11)
@spec(
    "5.0 MQTT-3.3.1-1",
    "5.0 MQTT-4.3.2-2",
    "5.0 MQTT-4.3.3-2",
    "5.0 MQTT-4.4.0-1 (a)",
    "5.0 MQTT-4.4.0-1 (b)",
    "3.1.1 MQTT-3.3.1-1",
    "3.1.1 MQTT-4.3.2-1 (b)",
    "3.1.1 MQTT-4.3.3-1 (b)",
    "3.1.1 MQTT-2.3.1-3 (a)",
    "3.1.1 MQTT-4.4.0-1 (a)",
    "3.1.1 MQTT-4.4.0-1 (b)",
    "NN-8.2 (a)",
)
@pytest.mark.parametrize("qos", [1, 2])
@all_versions
def test_dup_is_0_at_first_and_1_on_re_sending(version: int, qos: int) -> None:
    """Fault 11."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=qos)
    alice.take()
    world.publish("a", b"1", qos=qos)
    assert sent_again(alice.take()) == [(1, b"1", False)]
    for _ in range(2):
        alice = world.reconnect(alice)
        assert sent_again(alice.take()) == [(1, b"1", True)]


@fault(12)
@spec("5.0 MQTT-4.4.0-2", "5.0 MQTT-4.3.3-4 (c)", "NN-7.7 (a)")
def test_negative_pubrec_ends_the_exchange() -> None:
    """Fault 12."""
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=2)
    world.publish("a", b"1", qos=2)
    alice.take()
    assert alice.pubrec(1, RC.QUOTA_EXCEEDED) == []
    assert alice.session.in_flight == ()
    assert world.drops() == [("alice", b"1", "refused_by_client")]
    assert world.reconnect(alice).take()[1:] == []


@fault(12)
@spec("5.0 MQTT-3.6.2-1", "5.0 MQTT-4.3.3-4 (b)", "NN-7.6 (a)")
@all_versions
def test_repeated_pubrec_gets_pubrel_again(version: int) -> None:
    """Fault 12."""
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("a", qos=2)
    world.publish("a", qos=2)
    alice.take()
    pubrel = [SendPubrel(alice.connection, 1, OK)]
    assert alice.pubrec(1) == pubrel
    assert alice.pubrec(1) == pubrel
    assert alice.pubcomp(1) == []
    assert alice.pubrec(1) == [SendPubrel(alice.connection, 1, RC.PACKET_IDENTIFIER_NOT_FOUND)]


@fault(13)
@spec("5.0 MQTT-4.3.3-11", "5.0 MQTT-3.7.2-1", "3.1.1 MQTT-4.3.3-2 (c)", "NN-7.4")
@all_versions
def test_unknown_pubrel_gets_pubcomp_and_the_connection_stays(version: int) -> None:
    """Fault 13."""
    world = World()
    alice = world.connect(version=version)
    alice.take()
    assert alice.pubrel(9) == [SendPubcomp(alice.connection, 9, RC.PACKET_IDENTIFIER_NOT_FOUND)]
    assert alice.session.connected


@fault(14)
@spec("5.0 MQTT-4.3.3-10 (b)", "3.1.1 MQTT-4.1.0-1", "3.1.1 MQTT-4.3.3-2 (b)", "NN-1.7 (e)")
@all_versions
def test_inbound_qos2_identifiers_outlive_the_connection(version: int) -> None:
    """Fault 14."""
    world = World()
    bob = world.connect("bob", version)
    bob.subscribe("a", qos=2)
    bob.take()
    alice = world.connect(version=version, keep=True)
    alice.publish("a", b"once", qos=2, packet_id=7)
    alice = world.reconnect(alice)
    alice.take()
    assert alice.session.inbound_packet_ids == (7,)
    assert alice.publish("a", b"once", qos=2, packet_id=7, dup=True) == [
        SendPubrec(alice.connection, 7, OK)
    ]
    assert bob.received() == [b"once"]
    assert alice.pubrel(7) == [SendPubcomp(alice.connection, 7, OK)]
    alice = world.reconnect(alice)
    assert alice.session.inbound_packet_ids == ()


@fault(15)
@spec("5.0 MQTT-4.3.3-7", "NN-9.2")
@pytest.mark.parametrize("qos", [1, 2])
def test_expiry_does_not_kill_an_exchange_that_has_begun(qos: int) -> None:
    """Fault 15."""
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=2)
    world.publish("a", b"1", qos=qos, message_expiry_interval=5)
    assert ids(alice.take()) == [1]
    world.wait(10)
    alice = world.reconnect(alice)
    assert sent_again(alice.take()) == [(1, b"1", True)]
    if qos == 2:
        alice.pubrec(1)
        world.wait(10)
        alice = world.reconnect(alice)
        assert pubrels(alice.take()) == [1]
        alice.pubcomp(1)
    else:
        alice.puback(1)
    assert alice.session.in_flight == ()
    assert alice.session.counters.completed == 1
    assert world.drops() == []


@fault(16)
def test_inbound_time_out_is_exact_and_told() -> None:
    """Fault 16."""
    world = World(policy=ExpiryPolicy(inbound_qos2_interval=300))
    alice = world.connect()
    alice.publish("a", qos=2, packet_id=1)
    world.wait(100)
    alice.publish("a", qos=2, packet_id=2)
    world.wait(199)
    assert alice.session.inbound_packet_ids == (1, 2)
    world.wait(1)
    assert world.take_notices(InboundQos2TimedOut) == [InboundQos2TimedOut("alice", 1)]
    assert alice.session.inbound_packet_ids == (2,)
    world.wait(100)
    assert world.take_notices(InboundQos2TimedOut) == [InboundQos2TimedOut("alice", 2)]


# ---------------------------------------------------------------- expiry


@fault(17)
@spec("5.0 MQTT-4.1.0-2")
@pytest.mark.parametrize("on_time", [True, False], ids=["timer on time", "timer late"])
def test_expired_session_is_not_resumed(on_time: bool) -> None:
    """Fault 17: not even if the sweep comes late."""
    world = World()
    alice = world.connect(clean=False, expiry=3)
    alice.subscribe("a")
    alice.lose()
    (world.wait if on_time else world.wait_late)(3)
    alice = world.connect(clean=False, expiry=3)
    assert not alice.connack.session_present
    assert alice.session.subscriptions == ()
    assert world.take_notices(SessionEnded) == [SessionEnded("alice", EndReason.EXPIRED)]


@fault(17)
@spec("5.0 MQTT-4.1.0-1", "NN-1.1")
def test_session_expiry_counts_from_the_last_close_and_is_never_restarted() -> None:
    """Fault 17."""
    world = World()
    alice = world.connect(clean=False, expiry=10)
    world.wait(100)
    alice.lose()
    assert alice.session.expires_at == world.now + 10
    world.wait(9)
    world.publish("nobody")
    alice = world.connect(clean=False, expiry=10)
    assert alice.connack.session_present
    assert alice.session.expires_at is None
    alice.lose()
    world.wait(9)
    assert "alice" in world.store
    world.wait(1)
    assert "alice" not in world.store


@fault(18)
@spec("5.0 MQTT-3.1.2-8 (a)")
def test_pending_wills_go_in_order_of_their_instants() -> None:
    """Fault 18: not in order of their delays."""
    world = World()
    bob = world.connect("bob")
    bob.subscribe("will")
    bob.take()
    start = world.now
    world.connect("a", expiry=KEPT_LONG, will=will(payload=b"A", delay=100)).lose()
    world.wait(80)
    world.connect("b", expiry=KEPT_LONG, will=will(payload=b"B", delay=50)).lose()
    world.wait(20)
    assert world.now == start + 100
    assert bob.received() == [b"A"]
    world.wait(29)
    assert bob.received() == []
    world.wait(1)
    assert bob.received() == [b"B"]


@fault(18)
@spec("5.0 MQTT-3.1.2-8 (a)", "NN-1.7 (f)")
def test_will_delay_counts_from_the_end_of_the_connection() -> None:
    """Fault 18."""
    world = World()
    alice = world.connect(expiry=KEPT_LONG, will=will(delay=100))
    world.wait(99)
    alice.lose()
    assert alice.session.will_due_at == world.now + 100
    world.wait(99)
    assert world.take_notices(WillPublished) == []
    world.wait(1)
    assert len(world.take_notices(WillPublished)) == 1


@fault(18)
@spec("5.0 MQTT-3.1.2-8 (b)", "NN-4.1")
@pytest.mark.parametrize("expiry", [None, 0, 7])
def test_will_is_not_delayed_beyond_its_session(expiry: int | None) -> None:
    """Fault 18."""
    world = World()
    world.connect(expiry=expiry, will=will(delay=100)).lose()
    if expiry:
        world.wait(expiry - 1)
        assert world.take_notices(WillPublished) == []
        world.wait(1)
    assert len(world.take_notices(WillPublished)) == 1
    assert "alice" not in world.store


@fault(19)
@spec("5.0 MQTT-3.3.2-5")
def test_expired_messages_leave_the_queue_untouched() -> None:
    """Fault 19: nobody has to touch the queue, and they never push out live ones."""
    world = World(limits=SessionLimits(maximum_queued_messages=3))
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.publish("a", b"lives", qos=1)
    world.publish("a", b"dies", qos=1, message_expiry_interval=5)
    world.publish("a", b"dies too", qos=1, message_expiry_interval=5)
    assert alice.session.queue_depth == 3
    world.wait(5)
    assert alice.session.queue_depth == 1
    assert world.drops() == [("alice", b"dies", "expired"), ("alice", b"dies too", "expired")]
    world.publish("a", b"new", qos=1)
    world.publish("a", b"newer", qos=1)
    assert world.drops() == []
    assert world.reconnect(alice).received() == [b"lives", b"new", b"newer"]


@fault(19)
def test_full_queue_with_a_late_timer_drops_what_has_expired_first() -> None:
    """Fault 19."""
    world = World(limits=SessionLimits(maximum_queued_messages=2))
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.publish("a", b"lives", qos=1)
    world.publish("a", b"dies", qos=1, message_expiry_interval=5)
    world.wait_late(5)
    world.publish("a", b"new", qos=1)
    assert world.drops() == [("alice", b"dies", "expired")]
    assert [each.message.payload for each in alice.session.queued()] == [b"lives", b"new"]


@fault(19)
def test_draining_goes_on_behind_an_expired_message() -> None:
    """Fault 19."""
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    for payload, interval in ((b"1", None), (b"2", 5), (b"3", None), (b"4", 5), (b"5", 9)):
        world.publish("a", payload, qos=1, message_expiry_interval=interval)
    world.wait_late(5)
    assert world.reconnect(alice).received() == [b"1", b"3", b"5"]


@fault(20)
@spec("5.0 MQTT-3.3.2-6", "NN-9.1", "NN-9.3")
def test_retained_message_tells_what_is_left_of_its_interval() -> None:
    """Fault 20."""
    world = World()
    world.publish("a", retain=True, message_expiry_interval=100)
    world.wait(30)
    alice = world.connect()
    (publish,) = only(SendPublish, alice.subscribe("a"))
    assert publish.message_expiry_interval == 70
    world.wait(69.5)
    (publish,) = only(SendPublish, alice.subscribe("a"))
    assert publish.message_expiry_interval == 1
    world.wait(0.5)
    assert payloads(alice.subscribe("a")) == []


@fault(21)
@spec("5.0 MQTT-3.1.2-23", "NN-1.2")
def test_largest_interval_is_never_and_the_one_before_it_is_136_years() -> None:
    """Fault 21."""
    world = World()
    world.connect("never", expiry=NEVER_ON_WIRE).lose()
    assert world.store["never"].expires_at is None
    world.connect("long", expiry=NEVER_ON_WIRE - 1).lose()
    assert world.store["long"].expires_at == world.now + 4_294_967_294
    world.wait(4_294_967_294)
    assert "long" not in world.store
    assert "never" in world.store


@fault(21)
def test_policy_beyond_32_bits_is_told_as_never() -> None:
    """Fault 21: CONNACK has four bytes for it."""
    world = World(policy=ExpiryPolicy(maximum_session_expiry_interval=10**12))
    alice = world.connect(expiry=NEVER_ON_WIRE)
    assert alice.connack.session_expiry_interval is None  # what was asked for
    alice.lose()
    assert alice.session.expires_at == world.now + 10**12


@fault(21)
def test_message_default_beyond_32_bits_fits_its_property() -> None:
    """Fault 21."""
    policy = ExpiryPolicy(default_message_expiry_interval=10**12, show_default_message_expiry=True)
    world = World(policy=policy)
    alice = world.connect()
    alice.subscribe("a")
    alice.take()
    world.publish("a")
    (publish,) = alice.take()
    assert publish.message_expiry_interval == 0xFFFFFFFF


@fault(22)
@spec("NN-1.2")
def test_absent_interval_is_0_and_not_the_servers_default() -> None:
    """Fault 22."""
    world = World(policy=ExpiryPolicy(default_session_expiry_interval=500))
    alice = world.connect(clean=False)
    assert alice.session.session_expiry_interval == 0
    alice.lose()
    assert "alice" not in world.store


@fault(22)
@spec("5.0 MQTT-3.1.2-23", "NN-1.4")
def test_disconnect_keeps_absent_and_0_apart() -> None:
    """Fault 22."""
    world = World()
    world.connect("absent", expiry=50).disconnect()
    assert world.store["absent"].expires_at == world.now + 50
    world.connect("zero", expiry=50).disconnect(expiry=0)
    assert "zero" not in world.store


@fault(22)
@spec("NN-1.3")
def test_cap_is_told_in_connack_and_holds_for_disconnect() -> None:
    """Fault 22."""
    world = World(policy=ExpiryPolicy(maximum_session_expiry_interval=60))
    alice = world.connect(expiry=1_000)
    assert alice.connack.session_expiry_interval == 60
    alice.disconnect(expiry=5_000)
    assert alice.session.expires_at == world.now + 60


@fault(23)
@spec("NN-9.4")
def test_interval_0_means_at_once_and_never_means_never() -> None:
    """Fault 23: in sessions, in messages, in retained messages alike."""
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.publish("a", b"now or never", qos=1, retain=True, message_expiry_interval=0)
    world.publish("a", b"stays", qos=1)
    assert world.drops() == [("alice", b"now or never", "expired")]
    assert world.store.retained_count == 0
    world.connect("zero", expiry=0).lose()
    assert "zero" not in world.store
    world.wait(KEPT_LONG - 1)
    world.connect("never", expiry=NEVER_ON_WIRE).lose()
    world.wait(10**9)
    assert "never" in world.store


@fault(24)
def test_all_that_is_due_is_done_in_one_go() -> None:
    """Fault 24: sessions, messages, retained messages and wills that are due at one instant."""
    world = World()
    alice = world.connect("queue", keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    watcher = world.connect("watcher")
    watcher.subscribe("will", qos=1)
    watcher.take()
    world.publish("a", b"copy", qos=1, message_expiry_interval=10)
    world.publish("r", b"kept", retain=True, message_expiry_interval=10)
    for number in range(5):
        world.connect(f"s{number}", expiry=10, will=will(delay=10)).lose()
    world.connect("later", expiry=11).lose()
    world.notices.clear()
    world.wait_late(10)
    outcome = world.store.handle_timeout(world.now)
    assert [type(notice).__name__ for notice in outcome.notices[:2]] == [
        "MessageDropped",
        "RetainedMessageDropped",
    ]
    ended = [notice.client_id for notice in only(SessionEnded, outcome.notices)]
    assert ended == [f"s{number}" for number in range(5)]
    assert len(only(WillPublished, outcome.notices)) == 5
    assert len(payloads(outcome.actions)) == 5
    deadline = world.store.next_deadline
    assert deadline is not None
    assert (deadline.kind, deadline.subject) == (DeadlineKind.SESSION_EXPIRY, "later")


@fault(25)
@spec("NN-4.6")
def test_delayed_will_is_not_born_expired() -> None:
    """Fault 25: its expiry counts from publication."""
    world = World()
    bob = world.connect("bob")
    bob.subscribe("will")
    bob.take()
    last = will(delay=100, message_expiry_interval=10)
    world.connect("alice", expiry=KEPT_LONG, will=last).lose()
    world.wait(100)
    (publish,) = bob.take()
    assert publish.message_expiry_interval == 10


# ---------------------------------------------------------------- wills and take-over


@fault(26)
@spec("5.0 MQTT-3.1.2-8 (a)", "3.1.1 MQTT-3.1.2-8 (a)", "NN-3.2")
@pytest.mark.parametrize("keep", [False, True])
@all_versions
def test_take_over_publishes_the_will(version: int, keep: bool) -> None:
    """Fault 26."""
    world = World()
    bob = world.connect("bob")
    bob.subscribe("will")
    bob.take()
    world.connect(version=version, keep=keep, will=will(payload=b"bye"))
    world.connect(version=version, keep=keep)
    assert bob.received() == [b"bye"]


@fault(26)
@spec("NN-3.3")
def test_session_with_interval_0_is_not_inherited_at_take_over() -> None:
    """Fault 26."""
    world = World()
    bob = world.connect("bob")
    bob.subscribe("will")
    bob.take()
    first = world.connect(clean=False, expiry=0, will=will(payload=b"bye", delay=100))
    first.subscribe("a")
    second = world.connect(clean=False, expiry=100)
    assert not second.connack.session_present
    assert second.session.subscriptions == ()
    assert bob.received() == [b"bye"]


@fault(27)
@spec("5.0 MQTT-3.1.2-8 (b)", "NN-4.4")
def test_disconnect_with_will_and_new_interval_0_sends_the_will() -> None:
    """Fault 27."""
    world = World()
    bob = world.connect("bob")
    bob.subscribe("will", qos=2)
    bob.take()
    alice = world.connect(expiry=100, will=will(payload=b"bye", delay=50, qos=2))
    alice.disconnect(RC.DISCONNECT_WITH_WILL_MESSAGE, expiry=0)
    assert "alice" not in world.store
    assert bob.received() == [b"bye"]


@fault(28)
@spec("5.0 MQTT-3.1.2-8 (a)", "5.0 MQTT-3.14.2-1", "NN-4.4")
@pytest.mark.parametrize("code", [0x04, 0x80, 0x81, 0x82, 0x90, 0x97, 0x98, 0x03, 0x7F, 0xFF])
def test_only_code_0_suppresses_the_will(code: int) -> None:
    """Fault 28: undefined codes do not either."""
    world = World()
    alice = world.connect(will=will(payload=b"bye"))
    alice.disconnect(code)
    assert [notice.message.payload for notice in world.take_notices(WillPublished)] == [b"bye"]


@fault(28)
@spec("5.0 MQTT-3.1.3-9", "5.0 MQTT-3.1.2-8 (d)", "5.0 MQTT-3.1.2-10 (a)")
def test_will_is_published_neither_despite_a_resume_nor_twice() -> None:
    """Fault 28."""
    world = World()
    alice = world.connect(keep=True, will=will(payload=b"1", delay=10))
    alice.lose()
    world.wait(9)
    alice = world.reconnect(alice)
    world.wait(100)
    assert world.take_notices(WillPublished) == []
    alice = world.reconnect(alice, will=will(payload=b"2", delay=10))
    alice.lose()
    world.wait(10)
    alice = world.reconnect(alice)
    world.wait(100)
    alice.lose()
    world.wait(100)
    assert [notice.message.payload for notice in world.take_notices(WillPublished)] == [b"2"]


@fault(29)
@spec("5.0 MQTT-4.5.0-1", "3.1.1 MQTT-4.5.0-1")
@all_versions
def test_nothing_is_lost_while_a_session_goes_from_connection_to_connection(version: int) -> None:
    """Fault 29."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=1)
    seen = []
    for number in range(12):
        world.publish("a", b"%d" % number, qos=1)
        if number % 3 == 0:
            seen += alice.acknowledge_all()
            alice.lose()
        elif number % 3 == 1:
            alice = world.connect(version=version, keep=True)  # after the loss
        else:
            seen += alice.acknowledge_all()
            alice = world.connect(version=version, keep=True)  # a take-over
    seen += alice.acknowledge_all()
    assert seen == [b"%d" % number for number in range(12)]


@fault(30)
@spec("5.0 MQTT-3.1.4-3 (a)", "5.0 MQTT-3.1.4-3 (b)", "3.1.1 MQTT-3.1.4-2")
@pytest.mark.parametrize("clean", [False, True])
@all_versions
def test_old_connection_is_told_and_closed_at_every_take_over(version: int, clean: bool) -> None:
    """Fault 30."""
    world = World()
    old = world.connect(version=version, keep=True)
    for _ in range(5):
        old.take()
        new = world.connect(version=version, keep=True, clean=clean)
        assert closed_with(old.take(), version) is RC.SESSION_TAKEN_OVER
        assert new.connack.reason_code == 0
        assert new.session.connection == new.connection
        old = new


@fault(31)
@spec("NN-3.5")
@all_versions
def test_late_events_of_the_old_connection_touch_nothing(version: int) -> None:
    """Fault 31."""
    world = World()
    old = world.connect(version=version, keep=True)
    old.subscribe("a", qos=2)
    world.publish("a", b"1", qos=1)
    world.publish("a", b"2", qos=2)
    new = world.connect(version=version, keep=True, will=will())
    new.take()
    old.take()
    for late in (
        PubackReceived(old.connection, 1),
        DisconnectReceived(old.connection),
        ConnectionLost(old.connection),
    ):
        world.feed(late)
    assert old.take() == []
    assert new.take() == []
    assert new.session.connection == new.connection
    assert new.session.will is not None
    assert [each.packet_id for each in new.session.in_flight] == [1, 2]


# ---------------------------------------------------------------- subscriptions and retained


@fault(32)
def test_subscriber_gets_retained_messages_of_its_own_filters_only() -> None:
    """Fault 32."""
    world = World()
    bob = world.connect("bob")
    bob.subscribe("bobs")
    bob.take()
    world.publish("bobs", retain=True)
    alice = world.connect()
    alice.take()
    assert payloads(alice.subscribe("hers")) == []


@fault(32)
@spec("3.1.1 MQTT-3.3.1-9", "5.0 MQTT-3.3.1-12")
@all_versions
def test_offline_messages_come_with_retain_0(version: int) -> None:
    """Fault 32."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.publish("a", qos=1, retain=True)
    (delivery,) = world.reconnect(alice).deliveries()
    assert delivery.retain is False


@fault(32)
@spec("5.0 MQTT-3.8.4-8", "3.1.1 MQTT-3.8.4-6", "NN-7.1", "NN-14.1")
@pytest.mark.parametrize(("published", "granted"), [(p, g) for p in (0, 1, 2) for g in (0, 1, 2)])
@all_versions
def test_delivery_qos_is_the_smaller_of_published_and_granted(
    version: int, published: int, granted: int
) -> None:
    """Fault 32."""
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("a", qos=granted)
    alice.take()
    world.publish("a", qos=published, retain=True)
    (delivery,) = alice.deliveries()
    assert delivery.qos == min(published, granted)
    bob = world.connect("bob", version)
    bob.subscribe("other")
    (retained,) = only(SendPublish, bob.subscribe("a", qos=granted))
    assert retained.delivery.qos == min(published, granted)


@fault(32)
@spec("5.0 MQTT-3.8.4-3", "3.1.1 MQTT-3.8.4-3 (a)")
@all_versions
def test_subscribing_again_changes_the_qos(version: int) -> None:
    """Fault 32."""
    world = World()
    alice = world.connect(version=version)
    for qos in (0, 2, 1):
        assert codes(alice.subscribe("a", qos=qos)) == (qos,)
        world.publish("a", qos=2)
        (delivery,) = alice.deliveries()
        assert delivery.qos == qos


@fault(33)
@spec("5.0 MQTT-4.7.2-1", "3.1.1 MQTT-4.7.2-1", "NN-14.5 (e)")
@all_versions
def test_leading_wildcards_do_not_match_dollar_topics(version: int) -> None:
    """Fault 33: neither live nor retained ones."""
    world = World()
    world.publish("$SYS/load", b"retained", retain=True)
    alice = world.connect(version=version)
    assert payloads(alice.subscribe("#", "+/load", "+/#")) == []
    world.publish("$SYS/load", b"live")
    assert alice.received() == []
    alice.subscribe("$SYS/#", "$SYS/+")
    alice.take()
    world.publish("$SYS/load", b"asked for")
    assert alice.received() == [b"asked for"]


@fault(34)
@spec("5.0 MQTT-3.3.4-3", "5.0 MQTT-3.3.4-4")
def test_all_identifiers_of_overlaps_come_and_no_others() -> None:
    """Fault 34."""
    world = World()
    alice = world.connect()
    bob = world.connect("bob")
    for client, start in ((alice, 1), (bob, 100)):
        client.subscribe("a/#", subscription_id=start)
        client.subscribe("a/+", subscription_id=start + 1)
        client.subscribe("a/b", subscription_id=start)
        client.subscribe("#")
        client.subscribe("other", subscription_id=start + 9)
        client.take()
    world.publish("a/b")
    assert [sorted(each.subscription_ids) for each in alice.deliveries()] == [[1, 1, 2]]
    assert [sorted(each.subscription_ids) for each in bob.deliveries()] == [[100, 100, 101]]


@fault(34)
@spec("5.0 MQTT-3.3.4-3", "NN-14.5 (d)")
def test_retained_messages_carry_the_identifier_of_their_subscription() -> None:
    """Fault 34."""
    world = World()
    world.publish("a/b", retain=True)
    alice = world.connect()
    (publish,) = only(SendPublish, alice.subscribe("a/+", subscription_id=5))
    assert publish.delivery.subscription_ids == (5,)


@fault(35)
@spec("5.0 MQTT-3.10.4-2", "3.1.1 MQTT-3.10.4-2")
@all_versions
def test_unsubscribed_filters_do_not_come_back(version: int) -> None:
    """Fault 35, as far as no store on disk is concerned."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", "b", "c", qos=1)
    alice.unsubscribe("a")
    world.feed(SubscriptionsRemoved("alice", ("b",)))
    alice = world.reconnect(alice)
    alice.take()
    for topic_name in ("a", "b", "c"):
        world.publish(topic_name, topic_name.encode(), qos=1)
    assert alice.received() == [b"c"]


@spec("5.0 MQTT-4.3.2-3", "5.0 MQTT-4.3.3-5")
@fault(35)
@all_versions
def test_acknowledged_messages_do_not_come_back(version: int) -> None:
    """Fault 35."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    world.publish("a", b"1", qos=1)
    world.publish("a", b"2", qos=2)
    assert alice.acknowledge_all() == [b"1", b"2"]
    alice = world.reconnect(alice)
    assert payloads(alice.take()) == []


@fault(35)
def test_binary_payloads_stay_what_they_are() -> None:
    """Fault 35."""
    world = World()
    every_byte = bytes(range(256)) * 2
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.publish("a", every_byte, qos=1)
    assert world.reconnect(alice).received() == [every_byte]


@fault(37)
@all_versions
def test_in_flight_messages_come_back_to_the_subscriber_not_to_the_publisher(version: int) -> None:
    """Fault 37."""
    world = World()
    alice = world.connect("alice", version, keep=True)
    bob = world.connect("bob", version, keep=True)
    bob.subscribe("a", qos=2)
    bob.take()
    alice.publish("a", b"1", qos=1)
    alice.publish("a", b"2", qos=2)
    assert payloads(world.reconnect(alice).take()) == []
    assert world.reconnect(bob).received() == [b"1", b"2"]


# ---------------------------------------------------------------- limits


def body(delivery: object, version: int) -> int:
    return len(delivery.message.payload)  # type: ignore[attr-defined]


@fault(38)
@spec("5.0 MQTT-3.1.2-24", "5.0 MQTT-3.1.2-25 (a)", "NN-11.1", "NN-11.2")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_oversized_message_takes_no_slot_and_stalls_nobody(qos: int) -> None:
    """Fault 38: what is as large as the limit fits."""
    world = World(size_of=body)
    alice = world.connect(keep=True, maximum_packet_size=10, receive_maximum=2)
    alice.subscribe("a", qos=2)
    alice.take()
    world.publish("a", b"x" * 11, qos=qos)
    assert alice.take() == []
    assert world.drops() == [("alice", b"x" * 11, "too_large")]
    assert alice.session.send_quota == 2
    world.publish("a", b"x" * 10, qos=qos)
    (publish,) = alice.take()
    assert publish.packet_id == (1 if qos else None)


@fault(38)
@spec("5.0 MQTT-3.1.2-25 (b)", "NN-11.2")
def test_oversized_message_in_the_queue_stalls_nobody() -> None:
    """Fault 38."""
    world = World(size_of=body)
    alice = world.connect(keep=True, maximum_packet_size=10, receive_maximum=1)
    alice.subscribe("a", qos=1)
    alice.take()
    for payload in (b"1", b"x" * 11, b"2", b"x" * 12, b"3"):
        world.publish("a", payload, qos=1)
    assert alice.acknowledge_all() == [b"1", b"2", b"3"]
    assert [reason for _, _, reason in world.drops()] == ["too_large", "too_large"]


@fault(39)
def test_queue_bound_holds_offline_and_counts_topic_and_properties() -> None:
    """Fault 39."""
    world = World(limits=SessionLimits(maximum_queued_messages=None, maximum_queued_bytes=1_000))
    alice = world.connect(keep=True)
    alice.subscribe("#", qos=1)
    alice.lose()
    for _ in range(50):
        world.publish(
            "t" * 100,
            b"",
            qos=1,
            user_properties=(("k" * 50, "v" * 50),),
            response_topic="r" * 50,
            correlation_data=b"c" * 40,
            content_type="d" * 10,
        )
        assert alice.session.queued_bytes <= 1_000
    # 300 bytes of text and payload, and what the pair itself takes
    assert alice.session.queue_depth == 1_000 // (300 + 64)


@fault(40)
@spec("5.0 MQTT-3.3.4-9")
@all_versions
def test_resume_burst_is_bounded_by_the_send_window(version: int) -> None:
    """Fault 40."""
    world = World(limits=SessionLimits(maximum_send_window=3))
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    for payload in numbered(10):
        world.publish("a", payload, qos=1)
    alice = world.reconnect(alice)
    assert alice.received() == numbered(3)
    assert alice.session.queue_depth == 7


@fault(41)
def test_no_drop_goes_without_a_trace() -> None:
    """Fault 41: every reason is counted, and the notice carries the message."""
    world = World(limits=SessionLimits(maximum_queued_messages=2), size_of=body)
    alice = world.connect(keep=True, maximum_packet_size=10, receive_maximum=1)
    alice.subscribe("a", qos=2)
    world.publish("a", b"too large....", qos=0)
    world.publish("a", b"in flight", qos=2)
    world.publish("a", b"pushed out", qos=1)
    world.publish("a", b"expires", qos=1, message_expiry_interval=5)
    world.publish("a", b"queued", qos=1)
    world.wait(5)
    alice.lose()
    world.wait(KEPT_LONG)
    assert world.drops() == [
        ("alice", b"too large....", "too_large"),
        ("alice", b"pushed out", "queue_full"),
        ("alice", b"expires", "expired"),
        ("alice", b"in flight", "session_ended"),
        ("alice", b"queued", "session_ended"),
    ]
    totals = world.store.counters
    assert totals.accepted == totals.completed + sum(totals.dropped.values()) == 5


@fault(43)
@spec("NN-7.1")
def test_one_clients_acknowledgements_do_not_touch_anothers_copy() -> None:
    """Fault 43."""
    world = World()
    alice, bob = world.connect("alice"), world.connect("bob")
    for client in (alice, bob):
        client.subscribe("a", qos=2)
        client.take()
    world.publish("a", b"1", qos=2)
    assert ids(alice.take()) == [1]
    assert ids(bob.take()) == [1]
    alice.pubrec(1)
    alice.pubcomp(1)
    assert alice.session.in_flight == ()
    assert len(bob.session.in_flight) == 1
    assert bob.pubrec(1, RC.QUOTA_EXCEEDED) == []
    assert [notice.client_id for notice in world.take_notices(MessageDropped)] == ["bob"]


KEPT_LONG = 10_000
