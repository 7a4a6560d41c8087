"""Retained messages: at most one a topic, bounded, and replayed at the receiver's pace."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mqtt_sessions import (
    ConnectionCongested,
    ConnectionWritable,
    Deadline,
    DeadlineKind,
    DropReason,
    LimitsChanged,
    Message,
    ReasonCode,
    RetainedMessageDropped,
    SendPuback,
    SendPublish,
    ServerOptions,
    SessionDiscarded,
    SessionLimits,
    Subscription,
    SubscriptionsAdded,
    matches,
)
from mqtt_sessions.retained import Retained, RetainedStore
from tests.core.helpers import World, dropped, of_type, sent

TOPICS = st.lists(st.sampled_from(("", "a", "b", "ab", "a-", "$x")), min_size=1, max_size=3).map(
    "/".join
)
FILTERS = ("#", "+", "a", "a/#", "a/+", "+/b", "a/+/b", "$x/#", "/#", "ab/#")


def entry(topic_name: str, payload: bytes = b"-", qos: int = 1) -> Retained:
    return Retained(Message(topic_name, payload, qos, True), 0.0, None, None)


# ---------------------------------------------------------------- the store by itself


@given(st.sets(TOPICS.filter(bool), max_size=12), st.sampled_from(FILTERS))
def test_what_a_filter_could_match_is_walked_in_order_and_only_once(
    topics: set[str], topic_filter: str
) -> None:
    store = RetainedStore()
    for topic_name in topics:
        store.put(entry(topic_name))
    walked = [each.message.topic_name for each in store.after(topic_filter, None)]
    assert walked == sorted(walked)
    assert set(walked) >= {each for each in topics if matches(topic_filter, each)}
    for index, topic_name in enumerate(walked):
        rest = [each.message.topic_name for each in store.after(topic_filter, topic_name)]
        assert rest == walked[index + 1 :]


@given(
    st.sets(TOPICS.filter(bool), min_size=1, max_size=12),
    st.sampled_from(FILTERS),
    st.randoms(use_true_random=False),
)
def test_a_cursor_is_stable_whatever_is_stored_or_removed_meanwhile(
    topics: set[str], topic_filter: str, dice: random.Random
) -> None:
    """All that stands there from beginning to end is walked once, in order."""
    store = RetainedStore()
    stays = {each for each in topics if dice.random() < 0.5}
    for topic_name in stays:
        store.put(entry(topic_name))
    cursor: str | None = None
    walked: list[str] = []
    while (found := next(iter(store.after(topic_filter, cursor)), None)) is not None:
        cursor = found.message.topic_name
        walked.append(cursor)
        for topic_name in topics - stays:
            if store.pop(topic_name) is None:
                store.put(entry(topic_name))
    assert walked == sorted(set(walked))
    assert {each for each in stays if matches(topic_filter, each)} <= set(walked)


def test_a_literal_filter_looks_at_topics_that_begin_like_it_only() -> None:
    store = RetainedStore()
    for topic_name in ("a", "a/b", "a/b/c", "b", "a/c"):
        store.put(entry(topic_name))
    walked = [each.message.topic_name for each in store.after("a/b", None)]
    assert walked == ["a/b", "a/b/c"]


def test_size_and_count_follow() -> None:
    store = RetainedStore()
    store.put(entry("a", b"123"))
    store.put(entry("b", b"1", qos=0))
    assert (len(store), store.size) == (2, 6)
    assert store.pop("a") is not None
    assert store.pop("a") is None
    assert (len(store), store.size) == (1, 2)
    assert store.get("a") is None


# ---------------------------------------------------------------- set, replace, clear


def test_the_newest_message_of_a_topic_is_the_one_that_is_retained() -> None:
    world = World()
    world.publish("t", b"1", retain=True)
    world.publish("t", b"2", retain=True)
    world.publish("t", b"not retained")
    world.connect(1, "a")
    outcome = world.subscribe(1, "t")
    assert sent(outcome) == [b"2"]
    (publish,) = of_type(SendPublish, outcome.actions)
    assert publish.delivery.retain


def test_an_empty_payload_clears_the_topic_and_goes_out_as_a_message() -> None:
    world = World()
    world.subscriber(1, "a", "t", qos=0)
    world.publish("t", b"1", retain=True)
    assert sent(world.publish("t", b"", retain=True)) == [b""]
    assert world.store.retained() == ()
    assert sent(world.subscribe(1, "t")) == []


def test_an_interval_of_zero_clears_the_topic_too() -> None:
    world = World()
    world.publish("t", b"1", retain=True)
    world.publish("t", b"2", retain=True, message_expiry_interval=0)
    assert world.store.retained_count == 0


def test_an_expired_message_is_not_replayed_though_the_timer_is_late() -> None:
    world = World()
    world.publish("r", b"old", retain=True, message_expiry_interval=5)
    world.connect(1, "a")
    world.now = 5.0
    outcome = world.subscribe(1, "#")
    assert sent(outcome) == []
    message = Message("r", b"old", 0, True, 5)
    assert RetainedMessageDropped(message, DropReason.EXPIRED) in outcome.notices
    assert world.store.retained_count == 0


def test_waiting_in_the_store_counts_towards_the_interval_that_is_told() -> None:
    world = World()
    world.publish("r", retain=True, message_expiry_interval=10)
    world.connect(1, "a")
    world.now = 3.5
    (publish,) = of_type(SendPublish, world.subscribe(1, "r").actions)
    assert publish.message_expiry_interval == 7


def test_where_retain_is_not_available_nothing_is_retained() -> None:
    world = World(options=ServerOptions(retain_available=False))
    world.publish("t", retain=True)
    assert world.store.retained_count == 0


def test_the_host_reads_retained_messages_by_filter_and_page_by_page() -> None:
    world = World()
    for topic_name in ("a/1", "a/2", "a/3", "b", "$SYS/x"):
        world.publish(topic_name, retain=True)
    names = [message.topic_name for message in world.store.retained()]
    assert names == ["$SYS/x", "a/1", "a/2", "a/3", "b"]
    assert [m.topic_name for m in world.store.retained("a/+", limit=2)] == ["a/1", "a/2"]
    assert [m.topic_name for m in world.store.retained("a/+", after="a/2")] == ["a/3"]
    assert world.store.retained("a/+", after="a/3") == ()
    assert [m.topic_name for m in world.store.retained("+/x")] == []


# ---------------------------------------------------------------- bounds


def _retaining(limits: SessionLimits) -> World:
    world = World(limits=limits)
    world.connect(1, "publisher")
    return world


def _retained(world: World) -> dict[str, bytes]:
    return {message.topic_name: message.payload for message in world.store.retained()}


def test_qos_0_gives_way_first_the_oldest_first() -> None:
    world = _retaining(SessionLimits(maximum_retained_messages=3))
    for topic_name, qos in (("a", 1), ("b", 0), ("c", 0)):
        world.publish(topic_name, qos=qos, retain=True)
    outcome = world.publish("d", qos=1, retain=True)
    assert [notice.message.topic_name for notice in outcome.notices] == ["b"]
    assert outcome.notices[0].reason is DropReason.QUEUE_FULL
    assert sorted(_retained(world)) == ["a", "c", "d"]


def test_without_qos_0_to_give_way_the_publisher_is_refused_and_nothing_changes() -> None:
    world = _retaining(SessionLimits(maximum_retained_messages=1))
    world.subscriber(2, "a", "#", qos=0)
    world.send(1, "a", b"1", qos=1, packet_id=1, retain=True)
    outcome = world.send(1, "b", b"2", qos=1, packet_id=2, retain=True)
    assert outcome.actions == (SendPuback(1, 2, ReasonCode.QUOTA_EXCEEDED),)
    assert _retained(world) == {"a": b"1"}


def test_the_topics_own_old_message_makes_room_for_the_new_one() -> None:
    world = _retaining(SessionLimits(maximum_retained_messages=1, maximum_retained_bytes=5))
    for payload in (b"1", b"1234", b"12"):
        outcome = world.send(1, "t", payload, qos=1, packet_id=1, retain=True)
        assert outcome.actions[0].reason_code < 0x80
        assert _retained(world) == {"t": payload}


def test_a_qos_0_message_without_room_goes_out_and_takes_the_older_one_with_it() -> None:
    world = _retaining(SessionLimits(maximum_retained_bytes=6))
    world.subscriber(2, "a", "#", qos=0)
    world.publish("a", b"12", qos=1, retain=True)
    world.publish("b", b"1", qos=1, retain=True)
    outcome = world.publish("b", b"1234", qos=0, retain=True)
    assert sent(outcome) == [b"1234"]
    (notice,) = outcome.notices
    assert (notice.message.payload, notice.reason) == (b"1234", DropReason.BYTES_FULL)
    assert _retained(world) == {"a": b"12"}


def test_as_many_give_way_as_the_bytes_need_and_none_if_all_do_not_suffice() -> None:
    world = _retaining(SessionLimits(maximum_retained_bytes=10))
    for topic_name in "abc":
        world.publish(topic_name, b"1", qos=0, retain=True)
    outcome = world.send(1, "d", b"1234567890", qos=1, packet_id=1, retain=True)
    assert outcome.actions[0].reason_code == ReasonCode.QUOTA_EXCEEDED
    assert sorted(_retained(world)) == ["a", "b", "c"]
    outcome = world.send(1, "d", b"12345", qos=1, packet_id=1, retain=True)
    assert outcome.actions[0].reason_code == ReasonCode.NO_MATCHING_SUBSCRIBERS
    assert [(n.message.topic_name, n.reason.value) for n in outcome.notices] == [
        ("a", "bytes_full")
    ]
    assert sorted(_retained(world)) == ["b", "c", "d"]


def test_a_qos_0_topic_does_not_give_way_to_its_own_successor() -> None:
    world = _retaining(SessionLimits(maximum_retained_bytes=8))
    world.publish("a", b"1", qos=0, retain=True)
    world.publish("b", b"1", qos=0, retain=True)
    outcome = world.publish("a", b"12345", qos=1, retain=True)
    assert outcome.notices == ()
    outcome = world.publish("a", b"123456", qos=1, retain=True)
    assert [notice.message.topic_name for notice in outcome.notices] == ["b"]


def test_what_has_expired_gives_way_before_anything_else() -> None:
    world = _retaining(SessionLimits(maximum_retained_messages=2))
    world.publish("a", qos=0, retain=True)
    world.publish("b", qos=1, retain=True, message_expiry_interval=5)
    world.now = 5.0
    outcome = world.publish("c", qos=1, retain=True)
    assert [(n.message.topic_name, n.reason.value) for n in outcome.notices] == [("b", "expired")]
    assert sorted(_retained(world)) == ["a", "c"]


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 6), st.integers(0, 1)), max_size=25)
)
def test_the_bounds_hold_and_every_loss_is_told(publishes: list[tuple[str, int, int]]) -> None:
    world = World(limits=SessionLimits(maximum_retained_messages=3, maximum_retained_bytes=12))
    model: dict[str, bytes] = {}
    for topic_name, length, qos in publishes:
        payload = b"x" * length
        outcome = world.publish(topic_name, payload, qos=qos, retain=True)
        model[topic_name] = payload
        if not payload:
            del model[topic_name]
        for notice in of_type(RetainedMessageDropped, outcome.notices):
            assert model.pop(notice.message.topic_name) == notice.message.payload
        assert _retained(world) == model
        assert len(model) <= 3
        assert sum(len(topic) + len(payload) for topic, payload in model.items()) <= 12


def test_smaller_limits_hold_from_the_next_message_on() -> None:
    world = _retaining(SessionLimits())
    for topic_name in "abc":
        world.publish(topic_name, qos=0, retain=True)
    world.do(LimitsChanged(SessionLimits(maximum_retained_messages=1)))
    assert world.store.retained_count == 3
    world.publish("d", qos=1, retain=True)
    assert sorted(_retained(world)) == ["d"]


# ---------------------------------------------------------------- replay


def _library(count: int, *, qos: int = 1, **limits: int) -> World:
    """So many topics r/00, r/01, … whose payload is their number; client "a" is connected."""
    world = World(limits=SessionLimits(**limits))
    for number in range(count):
        world.publish(f"r/{number:02}", b"%d" % number, qos=qos, retain=True)
    return world


def test_a_replay_goes_on_in_batches_through_handle_timeout() -> None:
    world = _library(7, retained_replay_batch=3)
    world.connect(1, "a")
    assert sent(world.subscribe(1, "r/+", qos=0)) == [b"0", b"1", b"2"]
    assert world.next == Deadline(0.0, DeadlineKind.RETAINED_REPLAY, "a")
    assert sent(world.tick(limit=2)) == [b"3", b"4"]
    assert sent(world.tick()) == [b"5", b"6"]
    assert world.next is None


def test_no_call_walks_all_retained_messages() -> None:
    """A filter that matches nothing of what it could match is looked for in slices."""
    world = World(limits=SessionLimits(retained_replay_batch=2))
    for number in range(95):
        world.publish(f"r/{number:02}", retain=True)
    world.publish("r/zz/end", b"found", retain=True)
    world.connect(1, "a")
    assert sent(world.subscribe(1, "r/+/end", qos=0)) == []
    calls = 0
    while world.next is not None:
        assert world.next.kind is DeadlineKind.RETAINED_REPLAY
        world.tick(limit=1)
        calls += 1
    assert calls == 9  # after 20 topics at once, ten for each unit
    assert sent(world.actions) == [b"found"]


def test_a_replay_waits_for_the_window_and_goes_on_with_each_acknowledgement() -> None:
    world = _library(5)
    world.connect(1, "a", receive_maximum=2)
    assert sent(world.subscribe(1, "r/+")) == [b"0", b"1"]
    assert world.next is None
    for packet_id in range(1, 6):
        world.puback(1, packet_id)
    assert sent(world.actions) == [b"0", b"1", b"2", b"3", b"4"]
    assert world.session("a").in_flight == ()
    assert world.session("a").counters.completed == 5


def test_a_replay_waits_for_a_congested_connection() -> None:
    world = _library(4, retained_replay_batch=2)
    world.connect(1, "a")
    world.do(ConnectionCongested(1))
    assert sent(world.subscribe(1, "r/+", qos=0)) == []
    assert world.next is None
    assert sent(world.do(ConnectionWritable(1))) != []
    world.tick()
    assert sent(world.actions) == [b"0", b"1", b"2", b"3"]


def test_a_replay_goes_on_after_a_resume() -> None:
    world = _library(5)
    world.connect(1, "a", receive_maximum=2)
    world.subscribe(1, "r/+")
    world.lose(1)
    outcome = world.connect(2, "a", receive_maximum=2)
    assert sent(outcome) == [b"0", b"1"]  # again, DUP 1
    for packet_id in range(1, 6):
        world.puback(2, packet_id)
    assert sent(world.actions, 2) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_replay_ends_with_its_session() -> None:
    world = _library(5, retained_replay_batch=1)
    world.connect(1, "a")
    world.subscribe(1, "r/+", qos=0)
    world.do(SessionDiscarded("a"))
    assert world.next is None
    world.lose(1)
    assert sent(world.connect(2, "a")) == []


def test_a_replay_ends_with_its_subscription() -> None:
    world = _library(5, retained_replay_batch=1)
    world.connect(1, "a")
    world.subscribe(1, "r/+", "r/03", qos=0)
    world.unsubscribe(1, "r/+")
    world.tick()
    assert sent(world.actions) == [b"0", b"3"]


def test_the_host_subscribes_a_parked_session_and_the_replay_waits_for_its_client() -> None:
    world = _library(3)
    world.connect(1, "a")
    world.lose(1)
    assert world.do(SubscriptionsAdded("a", (Subscription("r/+", 1),))).actions == ()
    assert world.tick().actions == ()
    assert sent(world.connect(2, "a")) == [b"0", b"1", b"2"]


def test_live_and_retained_messages_do_not_push_each_other_out() -> None:
    world = _library(6)
    world.connect(1, "a", receive_maximum=1)
    world.subscribe(1, "r/+", "live")
    for number in range(3):
        world.publish("live", b"L%d" % number, qos=1)
    for packet_id in range(1, 10):
        world.puback(1, packet_id)
    order = sent(world.actions)
    assert [payload for payload in order if payload.startswith(b"L")] == [b"L0", b"L1", b"L2"]
    assert [payload for payload in order if not payload.startswith(b"L")] == [
        b"%d" % number for number in range(6)
    ]
    assert order.index(b"L2") < order.index(b"5")


def test_a_live_message_supersedes_the_retained_one_of_its_topic() -> None:
    """NN-14.6: an older retained copy never comes after a newer live one."""
    world = _library(3, retained_replay_batch=1)
    world.connect(1, "a")
    world.subscribe(1, "r/+", qos=0)
    world.publish("r/02", b"live")
    world.tick()
    assert sent(world.actions) == [b"0", b"live", b"1"]


def test_a_live_message_of_a_topic_already_replayed_changes_nothing() -> None:
    world = _library(3, retained_replay_batch=1)
    world.connect(1, "a")
    world.subscribe(1, "r/+", qos=0)
    world.publish("r/00", b"live")
    world.tick()
    assert sent(world.actions) == [b"0", b"live", b"1", b"2"]


def test_a_topic_retained_anew_during_the_replay_comes_once() -> None:
    world = _library(3, retained_replay_batch=1)
    world.connect(1, "a")
    world.subscribe(1, "r/+", qos=0)
    world.publish("r/01", b"new", retain=True)
    world.publish("r/01a", b"another", retain=True)
    world.tick()
    assert sent(world.actions) == [b"0", b"new", b"another", b"2"]


def test_a_topic_cleared_during_the_replay_does_not_come() -> None:
    world = _library(3, retained_replay_batch=1)
    world.connect(1, "a")
    world.subscribe(1, "r/+", qos=0)
    world.publish("r/01", b"", retain=True)
    world.tick()
    assert sent(world.actions) == [b"0", b"", b"2"]


def test_a_repeated_subscribe_calls_all_of_them_up_again() -> None:
    """MQTT-3.8.4-4, what a live message superseded before included."""
    world = _library(3, qos=0, retained_replay_batch=1)
    world.connect(1, "a")
    world.subscribe(1, "r/+", qos=0)
    world.publish("r/02", b"live", retain=True)
    world.subscribe(1, "r/+", qos=0)
    world.tick()
    assert sent(world.actions) == [b"0", b"live", b"0", b"1", b"live"]


def test_another_filter_calls_up_what_was_superseded_for_the_first() -> None:
    world = _library(3, retained_replay_batch=1)
    world.connect(1, "a")
    world.subscribe(1, "r/+", qos=0)
    world.publish("r/02", b"live")
    world.subscribe(1, "r/02", qos=0)
    world.tick()
    assert sent(world.actions) == [b"0", b"live", b"1", b"2"]


def test_a_message_queued_for_a_silent_client_comes_after_the_retained_one() -> None:
    world = _library(3)
    world.connect(1, "a", keep_alive=10, receive_maximum=1)
    world.subscribe(1, "r/+")
    world.puback(1, 1)
    world.now = 20.0  # keep alive has run out, and the timer is late
    world.publish("r/02", b"live", qos=1)
    world.connect(2, "a", receive_maximum=1)
    for packet_id in range(1, 6):
        world.puback(2, packet_id)
    assert sent(world.actions, 2) == [b"1", b"2", b"live"]


def test_no_local_holds_for_retained_messages() -> None:
    world = World()
    world.connect(1, "a")
    world.send(1, "r/own", retain=True)
    world.publish("r/other", b"other", retain=True)
    outcome = world.subscribe(1, Subscription("r/+", no_local=True))
    assert sent(outcome) == [b"other"]


@pytest.mark.parametrize(
    ("retain_handling", "at_first", "again"), [(0, True, True), (1, True, False), (2, False, False)]
)
def test_retain_handling(retain_handling: int, at_first: bool, again: bool) -> None:
    world = _library(1)
    world.connect(1, "a")
    wanted = Subscription("r/+", 0, retain_handling=retain_handling)
    assert bool(sent(world.subscribe(1, wanted))) is at_first
    assert bool(sent(world.subscribe(1, wanted))) is again


def test_a_retained_message_too_large_for_the_client_is_dropped_and_the_replay_goes_on() -> None:
    world = World(size_of=lambda delivery, _: len(delivery.message.payload))
    for topic_name, payload in (("r/1", b"1"), ("r/2", b"x" * 21), ("r/3", b"3")):
        world.publish(topic_name, payload, retain=True)
    world.connect(1, "a", maximum_packet_size=20)
    outcome = world.subscribe(1, "r/+", qos=0)
    assert sent(outcome) == [b"1", b"3"]
    assert dropped(outcome) == [("a", b"x" * 21, "too_large")]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.sampled_from(("ack", "tick", "live", "resume", "congest", "writable")), max_size=40
    ),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_nothing_is_lost_or_sent_twice_whatever_happens_during_a_replay(
    steps: list[str], window: int, batch: int
) -> None:
    world = _library(12, retained_replay_batch=batch)
    connection = 1
    world.connect(connection, "a", receive_maximum=window)
    world.subscribe(connection, "r/+")
    live = 0

    def acknowledge() -> bool:
        in_flight = world.session("a").in_flight
        if in_flight:
            world.puback(connection, in_flight[0].packet_id)
        return bool(in_flight)

    for step in steps:
        if step == "ack":
            acknowledge()
        elif step == "tick":
            world.tick(limit=1)
        elif step == "live":
            live += 1
            world.publish("r/live", b"live %d" % live, qos=1)
        elif step == "resume":
            world.lose(connection)
            connection += 1
            world.connect(connection, "a", receive_maximum=window)
        else:
            event = ConnectionCongested if step == "congest" else ConnectionWritable
            world.do(event(connection))
    world.do(ConnectionWritable(connection))
    while acknowledge():
        world.tick()
    first_time = [
        action.delivery.message.payload
        for action in of_type(SendPublish, world.actions)
        if not action.dup
    ]
    retained = [payload for payload in first_time if not payload.startswith(b"live")]
    assert retained == [b"%d" % number for number in range(12)]
    assert [payload for payload in first_time if payload.startswith(b"live")] == [
        b"live %d" % number for number in range(1, live + 1)
    ]
