"""The process ends and comes back: what was promised is there, and time went on meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mqtt_sessions import (
    EndReason,
    ExpiryPolicy,
    HeartbeatPassed,
    InvalidValue,
    RetainedMessageDropped,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SessionEnded,
    SessionExpirySet,
    SessionLimits,
    SessionStore,
    WillPublished,
)
from mqtt_sessions.journals import Journal, MemoryJournal, SQLiteJournal

from .helpers import (
    World,
    both_versions,
    fault,
    numbered,
    only,
    payloads,
    pubrels,
    sent_again,
    spec,
    will,
)

Reopen = Callable[[], Journal]


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Opens the journal, and opens it again as the next process would."""
    opened: list[Any] = []

    def open_again() -> Journal:
        if request.param == "memory":
            journal: Journal = opened[-1].reopened() if opened else MemoryJournal()
        else:
            if opened:
                opened[-1].close()
            journal = SQLiteJournal(tmp_path / "sessions.db")
        opened.append(journal)
        return journal

    yield open_again
    if opened:
        opened[-1].close()


@pytest.fixture
def world(reopen: Reopen) -> World:
    return World(journal=reopen())


# ---------------------------------------------------------------- sessions


@spec("5.0 MQTT-4.1.0-1", "3.1.1 MQTT-3.1.2-4", "NN-1.7", "NN-2.1")
@both_versions
def test_a_session_is_there_after_a_crash(world: World, reopen: Reopen, version: int) -> None:
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a/+", qos=1)
    world.crash(reopen(), 5)
    assert [each.topic_filter for each in world.store["alice"].subscriptions] == ["a/+"]
    world.publish("a/b", b"while away", qos=1)
    alice = world.connect(version=version, keep=True)
    assert alice.connack.session_present
    assert alice.acknowledge_all() == [b"while away"]


@spec("NN-1.2", "5.0 MQTT-4.1.0-2")
def test_a_session_that_ends_with_its_connection_does_not_survive(
    world: World, reopen: Reopen
) -> None:
    world.connect()
    world.crash(reopen())
    assert "alice" not in world.store
    assert not world.connect(clean=False).connack.session_present


@spec("NN-1.1", "5.0 MQTT-3.1.2-23")
@fault(17)
def test_expiry_goes_on_while_the_process_is_down(world: World, reopen: Reopen) -> None:
    world.connect(clean=False, expiry=10).lose()
    world.crash(reopen(), 4)
    assert world.store["alice"].expires_at == 1_010
    world.wait(5)
    assert "alice" in world.store
    world.wait(1)
    assert "alice" not in world.store


@fault(17)
def test_what_expired_while_the_process_was_down_is_gone_at_once(
    world: World, reopen: Reopen
) -> None:
    world.connect(clean=False, expiry=10).lose()
    world.crash(reopen(), 10)
    assert world.take_notices(SessionEnded) == [SessionEnded("alice", EndReason.EXPIRED)]
    assert not world.connect(clean=False, expiry=10).connack.session_present


@spec("NN-1.1")
def test_a_session_that_was_connected_was_cut_by_the_crash(world: World, reopen: Reopen) -> None:
    world.connect(clean=False, expiry=10)
    world.crash(reopen(), 100)
    assert world.store["alice"].expires_at == 1_110


def test_a_second_crash_does_not_cut_it_again(world: World, reopen: Reopen) -> None:
    world.connect(clean=False, expiry=10)
    world.crash(reopen(), 100)
    world.crash(reopen(), 6)
    assert world.store["alice"].expires_at == 1_110
    world.crash(reopen(), 6)
    assert "alice" not in world.store


def test_it_was_cut_at_the_last_heartbeat_if_the_host_wants_that(
    world: World, reopen: Reopen
) -> None:
    world.connect(clean=False, expiry=10)
    for _ in range(2):
        world.wait(60)
        world.feed(HeartbeatPassed())
    world.crash(reopen(), 8, cut_at_heartbeat=True)
    assert world.store["alice"].expires_at == 1_130
    world.wait(2)
    assert "alice" not in world.store


def test_a_heartbeat_is_nothing_to_a_store_that_is_not_durable() -> None:
    world = World()
    world.feed(HeartbeatPassed())
    assert world.notices == []


@spec("NN-1.4")
@pytest.mark.parametrize("interval", [0, 7, None])
def test_the_last_interval_is_the_one_in_force(
    world: World, reopen: Reopen, interval: int | None
) -> None:
    world.connect(clean=False, expiry=100)
    world.feed(SessionExpirySet("alice", interval))
    if interval == 0:
        world.crash(reopen())
        assert "alice" not in world.store
        return
    world.crash(reopen())
    assert world.store["alice"].session_expiry_interval == interval
    assert world.store["alice"].expires_at == (None if interval is None else 1_007)


def test_a_session_that_becomes_durable_is_stored_as_a_whole(world: World, reopen: Reopen) -> None:
    alice = world.connect(clean=False)
    alice.subscribe("#", qos=2)
    for qos in (1, 2):
        world.publish("a", b"%d" % qos, qos)
    alice.publish("to/nobody", qos=2, packet_id=7)
    world.feed(SessionExpirySet("alice", 50))
    world.crash(reopen())
    session = world.store["alice"]
    assert [each.topic_filter for each in session.subscriptions] == ["#"]
    assert session.inbound_packet_ids == (7,)
    alice = world.connect(clean=False, expiry=50)
    assert sorted(alice.acknowledge_all()) == [b"1", b"2", b"x"]


@spec("NN-3.3", "NN-2.2")
def test_clean_start_leaves_nothing_to_come_back(world: World, reopen: Reopen) -> None:
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    world.publish("a", b"old", qos=1)
    alice.lose()
    world.connect(clean=True, expiry=100).lose()
    world.crash(reopen())
    assert world.store["alice"].subscriptions == ()
    assert world.store["alice"].queue_depth == 0


def test_principal_policy_and_limits_of_a_session_survive(world: World, reopen: Reopen) -> None:
    own, few = ExpiryPolicy(expire_in_flight=True), SessionLimits(maximum_queued_messages=1)
    world.connect(keep=True, principal="p", policy=own, limits=few).subscribe("a", qos=1)
    world.crash(reopen())
    assert world.store["alice"].principal == "p"
    for payload in numbered(2):
        world.publish("a", payload, 1)
    assert world.store["alice"].queue_depth == 1
    assert world.connect(keep=True).connack.reason_code == 0x87


# ---------------------------------------------------------------- messages


@fault(35)
@spec("5.0 MQTT-3.10.4-1", "3.1.1 MQTT-3.10.4-2")
def test_what_was_unsubscribed_or_acknowledged_does_not_come_back(
    world: World, reopen: Reopen
) -> None:
    alice = world.connect(keep=True)
    alice.subscribe("a", "b", qos=1)
    for payload in (b"one", bytes(range(256)), b"\x00"):
        world.publish("a", payload, 1)
    first, *_ = only(SendPublish, alice.take())
    assert first.packet_id is not None
    alice.puback(first.packet_id)
    alice.unsubscribe("b")
    world.crash(reopen())
    assert [each.topic_filter for each in world.store["alice"].subscriptions] == ["a"]
    assert world.connect(keep=True).acknowledge_all() == [bytes(range(256)), b"\x00"]


@fault(29)
@spec("5.0 MQTT-4.3.2-1", "NN-7.2")
def test_one_message_for_many_sessions_is_there_for_each(world: World, reopen: Reopen) -> None:
    names = [f"c{number}" for number in range(5)]
    for name in names:
        world.connect(name, keep=True).subscribe("a", qos=2)
    world.publish("a", b"all", qos=2)
    world.connect("c0", keep=True).acknowledge_all()
    world.crash(reopen())
    assert world.connect("c0", keep=True).acknowledge_all() == []
    for name in names[1:]:
        assert world.connect(name, keep=True).acknowledge_all() == [b"all"]
    world.crash(reopen())
    for name in names:
        assert world.connect(name, keep=True).acknowledge_all() == []


@spec("NN-8.3", "3.1.1 MQTT-4.6.0-1")
def test_order_survives_what_was_in_flight_and_what_waited(world: World, reopen: Reopen) -> None:
    alice = world.connect(keep=True, receive_maximum=3)
    alice.subscribe("a", qos=1)
    for payload in numbered(6):
        world.publish("a", payload, 1)
    assert alice.received() == numbered(3)
    world.crash(reopen())
    assert world.connect(keep=True).acknowledge_all() == numbered(6)


def test_identifiers_after_a_crash_are_none_that_were_used_before(
    world: World, reopen: Reopen
) -> None:
    """A deviation that is documented: DUP 0 and a new identifier, for QoS 1 in flight."""
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    world.publish("a", b"1", 1)
    (before,) = only(SendPublish, alice.take())
    world.crash(reopen())
    ((packet_id, payload, dup),) = sent_again(world.connect(keep=True).take())
    assert (payload, dup) == (b"1", False)
    assert packet_id is not None
    assert before.packet_id is not None
    assert packet_id > before.packet_id


@fault(4)
@fault(11)
@spec("5.0 MQTT-4.4.0-1", "5.0 MQTT-4.3.3-6", "NN-8.4b", "5.0 MQTT-4.3.3-2")
def test_qos_2_goes_on_in_its_phase_and_order(world: World, reopen: Reopen) -> None:
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=2)
    for payload in numbered(4):
        world.publish("a", payload, 2)
    sent = [each.packet_id or 0 for each in only(SendPublish, alice.take())]
    alice.pubrec(sent[2])
    alice.pubrec(sent[0])
    world.crash(reopen())
    alice = world.connect(keep=True)
    seen = alice.take()
    assert pubrels(seen) == [sent[2], sent[0]]
    assert sent_again(seen) == [(sent[1], b"2", True), (sent[3], b"4", True)]
    for packet_id in (sent[2], sent[0]):
        alice.pubcomp(packet_id)
    world.crash(reopen())
    alice = world.connect(keep=True)
    assert pubrels(alice.inbox) == []
    assert alice.acknowledge_all() == [b"2", b"4"]


@fault(14)
@fault(10)
@spec("5.0 MQTT-4.3.3-10", "5.0 MQTT-4.3.3-11", "5.0 MQTT-4.3.3-12")
def test_a_repeat_after_a_crash_is_not_handed_on_twice(world: World, reopen: Reopen) -> None:
    world.connect("bob", keep=True).subscribe("a", qos=2)
    alice = world.connect(keep=True)
    assert len(only(SendPubrec, alice.publish("a", b"once", 2, packet_id=9))) == 1
    world.crash(reopen())
    alice = world.connect(keep=True)
    assert len(only(SendPubrec, alice.publish("a", b"once", 2, packet_id=9, dup=True))) == 1
    (pubcomp,) = only(SendPubcomp, alice.pubrel(9))
    assert pubcomp.reason_code == 0
    assert world.connect("bob", keep=True).acknowledge_all() == [b"once"]
    world.crash(reopen())
    alice = world.connect(keep=True)
    alice.publish("a", b"again", 2, packet_id=9)
    assert world.connect("bob", keep=True).acknowledge_all() == [b"again"]


@fault(16)
def test_an_identifier_times_out_through_a_restart(reopen: Reopen) -> None:
    world = World(journal=reopen(), policy=ExpiryPolicy(inbound_qos2_interval=10))
    world.connect(keep=True).publish("a", qos=2, packet_id=9)
    world.crash(reopen(), 9)
    assert world.store["alice"].inbound_packet_ids == (9,)
    world.crash(reopen(), 1)
    assert world.store["alice"].inbound_packet_ids == ()


@fault(19)
@spec("5.0 MQTT-3.3.2-5", "5.0 MQTT-3.3.2-6", "NN-9.1")
def test_message_expiry_goes_on_while_the_process_is_down(world: World, reopen: Reopen) -> None:
    world.connect(keep=True).subscribe("a", qos=1)
    world.connect(keep=True).lose()
    for interval in (10, 20, None):
        world.publish("a", b"%r" % interval, 1, message_expiry_interval=interval)
    world.crash(reopen(), 10)
    assert world.drops() == [("alice", b"10", "expired")]
    sent = only(SendPublish, world.connect(keep=True).take())
    told = [(each.delivery.message.payload, each.message_expiry_interval) for each in sent]
    assert told == [(b"20", 10), (b"None", None)]


@spec("5.0 MQTT-3.3.2-6")
def test_a_clock_that_was_set_back_makes_no_message_younger_than_new(
    world: World, reopen: Reopen
) -> None:
    world.connect(clean=False, expiry=50).subscribe("a", qos=1)
    world.connect(clean=False, expiry=50).lose()
    world.publish("a", b"1", 1, message_expiry_interval=20)
    world.crash(reopen(), -30)
    (sent,) = only(SendPublish, world.connect(clean=False, expiry=50).take())
    assert sent.message_expiry_interval == 20
    world.publish("a", b"2", 1)
    assert world.store["alice"].queue_depth == 0


def test_a_clock_that_was_set_back_ends_nothing_before_its_deadline(
    world: World, reopen: Reopen
) -> None:
    world.connect(clean=False, expiry=10).lose()
    world.crash(reopen(), -500)
    world.wait(509)
    assert "alice" in world.store
    world.wait(1)
    assert "alice" not in world.store


# ---------------------------------------------------------------- retained messages


@fault(20)
@spec("5.0 MQTT-3.3.1-5", "NN-9.3", "NN-14.1")
def test_retained_messages_survive_with_what_is_left_of_their_interval(
    world: World, reopen: Reopen
) -> None:
    world.publish("a/1", b"kept", 1, retain=True, message_expiry_interval=30)
    world.publish("a/2", b"short", 0, retain=True, message_expiry_interval=5)
    world.publish("a/3", b"gone", 1, retain=True)
    world.publish("a/3", b"", 1, retain=True)
    world.crash(reopen(), 10)
    dropped = [each.message.payload for each in world.take_notices(RetainedMessageDropped)]
    assert dropped == [b"short"]
    seen = only(SendPublish, world.connect().subscribe("a/#", qos=1))
    assert [(each.delivery.message.payload, each.message_expiry_interval) for each in seen] == [
        (b"kept", 20)
    ]


def test_a_replay_of_retained_messages_goes_on_where_it_was(reopen: Reopen) -> None:
    world = World(journal=reopen(), limits=SessionLimits(retained_replay_batch=1))
    for number in range(6):
        world.publish(f"a/{number}", b"%d" % number, 2, retain=True)
    alice = world.connect(keep=True, receive_maximum=2)
    seen = payloads(alice.subscribe("a/#", qos=2))
    world.wait(0)
    assert seen + alice.received() == [b"0", b"1"]
    world.crash(reopen())
    alice = world.connect(keep=True, receive_maximum=2)
    world.wait(0)
    assert alice.acknowledge_all() == [b"%d" % number for number in range(6)]


# ---------------------------------------------------------------- wills


@spec("5.0 MQTT-3.1.2-8", "3.1.1 MQTT-3.1.2-8", "NN-4.5", "5.0 MQTT-3.1.2-10")
@both_versions
@pytest.mark.parametrize("keep", [True, False])
def test_a_crash_publishes_the_wills_of_the_connected_once(
    world: World, reopen: Reopen, version: int, keep: bool
) -> None:
    world.connect("bob", keep=True).subscribe("will", qos=1)
    world.connect(version=version, keep=keep, will=will(qos=1))
    world.crash(reopen(), 3)
    assert len(world.take_notices(WillPublished)) == 1
    world.crash(reopen(), 3)
    assert world.take_notices(WillPublished) == []
    assert world.connect("bob", keep=True).acknowledge_all() == [b"w"]


@fault(18)
@spec("NN-4.1", "5.0 MQTT-3.1.3-9")
def test_a_will_delay_goes_on_while_the_process_is_down(world: World, reopen: Reopen) -> None:
    world.connect(clean=False, expiry=100, will=will(delay=20)).lose()
    world.connect("carol", clean=False, expiry=100, will=will(payload=b"c", delay=20))
    world.crash(reopen(), 15)
    assert world.store["alice"].will_due_at == 1_020
    assert world.store["carol"].will_due_at == 1_035
    world.wait(5)
    assert [each.client_id for each in world.take_notices(WillPublished)] == ["alice"]
    world.connect("carol", clean=False, expiry=100)
    world.wait(100)
    assert world.take_notices(WillPublished) == []


@spec("5.0 MQTT-3.14.4-3")
def test_a_will_that_was_withdrawn_stays_so(world: World, reopen: Reopen) -> None:
    world.connect(keep=True, will=will()).disconnect()
    world.crash(reopen(), 3)
    world.wait(10_000)
    assert world.take_notices(WillPublished) == []


def test_the_session_ends_before_the_delay_of_its_will(world: World, reopen: Reopen) -> None:
    world.connect(clean=False, expiry=10, will=will(delay=50)).lose()
    world.crash(reopen(), 9)
    world.wait(1)
    assert [each.client_id for each in world.take_notices(WillPublished)] == ["alice"]


# ---------------------------------------------------------------- the journal itself


@fault(42)
def test_a_damaged_row_costs_nothing_but_itself(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    world = World(journal=SQLiteJournal(path))
    world.connect(keep=True).subscribe("a", qos=1)
    world.connect(keep=True).lose()
    for payload in numbered(3):
        world.publish("a", payload, 1)
    assert world.journal is not None
    world.journal.close()
    with sqlite3.connect(path) as file:
        (second,) = file.execute("SELECT delivery_id FROM delivery ORDER BY 1").fetchall()[1]
        file.execute("UPDATE delivery SET body = x'ff' WHERE delivery_id = ?", (second,))
    file.close()
    journal = SQLiteJournal(path)
    assert world.crash(journal) == ()
    (damaged,) = journal.quarantined
    assert (damaged.table, damaged.row) == ("delivery", str(second))
    assert payloads(world.connect(keep=True).take()) == [b"1", b"3"]
    journal.close()


def test_row_identifiers_go_on_behind_all_that_were_ever_given(
    world: World, reopen: Reopen
) -> None:
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    for payload in numbered(3):
        world.publish("a", payload, 1)
    alice.acknowledge_all()
    before = world.store.snapshot().durable
    world.crash(reopen())
    after = world.store.snapshot().durable
    assert before is not None
    assert after is not None
    assert after.next_id >= before.reserved >= before.next_id
    assert after.epoch == before.epoch + 1


def test_now_has_to_be_an_instant() -> None:
    for now in (float("nan"), float("inf"), "now", True):
        with pytest.raises(InvalidValue, match="now"):
            SessionStore.recover((), now)  # type: ignore[arg-type]


def test_pubrel_of_a_message_that_was_too_large_survives(reopen: Reopen) -> None:
    """NN-8.7: the identifier stays taken until the receiver has settled it."""
    world = World(journal=reopen(), size_of=lambda delivery, version: 100)
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=2)
    world.publish("a", b"1", 2)
    (sent,) = only(SendPublish, alice.take())
    alice.lose()
    world.connect(keep=True, maximum_packet_size=50).lose()
    world.crash(reopen())
    alice = world.connect(keep=True)
    (pubrel,) = only(SendPubrel, alice.take())
    assert pubrel.packet_id == sent.packet_id
    alice.pubcomp(pubrel.packet_id)
    assert world.store.counters.completed == 0
