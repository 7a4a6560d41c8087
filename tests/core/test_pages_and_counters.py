"""What a host can see: sessions page by page, who is connected, what became of each message."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from mqtt_sessions import (
    Counters,
    Delivery,
    DropReason,
    ExpiryPolicy,
    Message,
    MessageDropped,
    Session,
    SessionDiscarded,
    SessionEnded,
    SessionLimits,
    SessionStore,
)
from tests.core.helpers import Alone, World, of_type
from tests.core.histories import STEPS, Life, Step

# ---------------------------------------------------------------- random runs


def in_hand(session: Session) -> int:
    """Copies of which nothing has become yet."""
    return session.queue_depth + len(session.in_flight)


@pytest.mark.unmeasured
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_the_books_balance_after_each_step(steps: list[Step]) -> None:
    """accepted = queued + in flight + completed + dropped, for each session and for the store."""
    life = Life()
    world, store = life.world, life.world.store
    for step in steps:
        life.step(step)
        sessions = [store[client_id] for client_id in store]
        totals = store.counters
        told = Counter(each.reason for each in of_type(MessageDropped, world.notices))
        assert totals.dropped == told
        assert totals.accepted == (
            sum(map(in_hand, sessions)) + totals.completed + sum(totals.dropped.values())
        )
        for session in sessions:
            books = session.counters
            assert books.completed >= 0
            assert books.accepted == (
                in_hand(session) + books.completed + sum(books.dropped.values())
            )
        if not of_type(SessionEnded, world.notices):
            books_of_all = [session.counters for session in sessions]
            assert totals.accepted == sum(books.accepted for books in books_of_all)
            assert totals.completed == sum(books.completed for books in books_of_all)


@pytest.mark.unmeasured
@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_the_bounds_hold_after_each_step(steps: list[Step]) -> None:
    life = Life()
    store = life.world.store
    for step in steps:
        life.step(step)
        assert len(store) <= 3
        assert store.retained_count <= 3
        assert store.connected_count + store.parked_count == len(store)
        assert store.connected_count == sum(store[each].connected for each in store)
        assert store.page() == tuple(sorted(store))
        for session in (store[each] for each in store):
            assert session.queue_depth <= 4
            assert session.queued_bytes <= 30 or session.queue_depth <= 3
            assert len(session.inbound_packet_ids) <= 100
            assert 0 <= session.send_quota <= 32


# ---------------------------------------------------------------- counters, one by one


def test_a_session_without_messages_has_empty_books() -> None:
    world = World()
    world.connect(1, "a")
    assert world.session("a").counters == world.store.counters == Counters(0, 0, {})


def test_qos_0_is_completed_when_it_is_sent() -> None:
    world = World()
    world.subscriber(1, "a", "t", qos=0)
    world.publish("t")
    assert world.session("a").counters == Counters(1, 1, {})


def test_qos_1_is_completed_by_its_acknowledgement() -> None:
    world = World()
    world.subscriber(1, "a", "t")
    world.publish("t", qos=1)
    assert world.session("a").counters == Counters(1, 0, {})
    world.puback(1, 1)
    assert world.session("a").counters == world.store.counters == Counters(1, 1, {})


def test_qos_2_is_completed_by_pubcomp() -> None:
    world = World()
    world.subscriber(1, "a", "t", qos=2)
    world.publish("t", qos=2)
    world.pubrec(1, 1)
    assert world.session("a").counters == Counters(1, 0, {})
    world.pubcomp(1, 1)
    assert world.session("a").counters == world.store.counters == Counters(1, 1, {})


def test_what_the_receiver_holds_at_the_end_of_a_session_counts_as_completed() -> None:
    world = World()
    world.subscriber(1, "a", "t", qos=2)
    world.publish("t", b"released", qos=2)
    world.publish("t", b"open", qos=2)
    world.pubrec(1, 1)
    world.do(SessionDiscarded("a"))
    assert world.store.counters == Counters(2, 1, {DropReason.SESSION_ENDED: 1})


def test_a_qos_2_message_too_large_to_be_sent_again_is_counted_once() -> None:
    world = World(size_of=lambda delivery, _: len(delivery.message.payload))
    world.subscriber(1, "a", "t", qos=2)
    world.publish("t", b"large", qos=2)
    world.lose(1)
    world.connect(2, "a", maximum_packet_size=4)
    expected = Counters(1, 0, {DropReason.TOO_LARGE: 1})
    assert world.session("a").counters == world.store.counters == expected
    assert world.session("a").in_flight[0].delivery is None
    world.pubcomp(2, 1)
    assert world.session("a").counters == world.store.counters == expected
    assert world.session("a").in_flight == ()


@pytest.mark.parametrize("ended_by", ["discard", "pubcomp error", "expiry"])
def test_an_abandoned_exchange_is_counted_once_however_it_ends(ended_by: str) -> None:
    world = World(size_of=lambda delivery, _: len(delivery.message.payload))
    world.subscriber(1, "a", "t", qos=2)
    world.publish("t", b"large", qos=2)
    world.lose(1)
    world.connect(2, "a", maximum_packet_size=4)
    if ended_by == "discard":
        world.do(SessionDiscarded("a"))
    elif ended_by == "expiry":
        world.lose(2)
        world.tick(3600)
        assert len(world.store) == 0
    else:
        world.pubrec(2, 1, 0x80)
    assert world.store.counters == Counters(1, 0, {DropReason.TOO_LARGE: 1})


def test_the_books_of_the_store_keep_what_has_ended() -> None:
    world = World()
    for client_id in ("a", "b"):
        world.parked(client_id, "t")
    world.publish("t", qos=1)
    world.do(SessionDiscarded("a"))
    assert world.store.counters == Counters(2, 0, {DropReason.SESSION_ENDED: 1})
    assert world.session("b").counters == Counters(1, 0, {})


def test_counters_are_values_of_their_moment() -> None:
    world = World()
    world.parked("a", "t")
    before = world.store.counters, world.session("a").counters
    world.publish("t", qos=1)
    world.do(SessionDiscarded("a"))
    assert before == (Counters(0, 0, {}), Counters(0, 0, {}))


# ---------------------------------------------------------------- pages


def test_pages_are_in_order_and_stable_while_sessions_come_and_go() -> None:
    world = World()
    for name in ("d", "b", "f", "a"):
        world.connect(name, name)
    assert world.store.page(limit=2) == ("a", "b")
    world.connect("c", "c")
    world.do(SessionDiscarded("b"))
    assert world.store.page("b", 2) == ("c", "d")
    assert world.store.page("d") == ("f",)
    assert world.store.page("f") == ()
    assert world.store.page("aa") == ("c", "d", "f")


def test_the_store_reads_like_a_mapping() -> None:
    world = World()
    world.connect(1, "a")
    store = world.store
    assert (len(store), list(store), "a" in store, "b" in store) == (1, ["a"], True, False)
    assert store["a"].client_id == "a"
    assert store.get("b") is None
    with pytest.raises(KeyError, match="b"):
        store["b"]


def test_session_of_knows_open_connections_only() -> None:
    world = World()
    world.connect(1, "a")
    session = world.store.session_of(1)
    assert session is not None
    assert (session.client_id, session.connection) == ("a", 1)
    assert world.store.session_of(2) is None
    world.disconnect(1)
    assert world.store.session_of(1) is None


def test_connected_and_parked_are_counted() -> None:
    world = World()
    store = world.store
    for name in ("a", "b", "c"):
        world.connect(name, name)
    assert (store.connected_count, store.parked_count) == (3, 0)
    world.lose("a")
    world.disconnect("b", session_expiry_interval=0)
    assert (store.connected_count, store.parked_count) == (1, 1)
    world.connect("again", "a")
    world.connect("instead", "c")
    assert (store.connected_count, store.parked_count) == (2, 0)
    world.do(SessionDiscarded("c"))
    assert (store.connected_count, store.parked_count) == (1, 0)


def test_a_view_follows_its_session_and_outlives_it() -> None:
    world = World(policy=ExpiryPolicy(), limits=SessionLimits(maximum_send_window=3))
    world.connect(1, "a", principal="alice", will=None, session_expiry_interval=60)
    view = world.session("a")
    assert repr(view) == "<Session 'a' connected>"
    assert (view.exists, view.connected, view.connection) == (True, True, 1)
    assert (view.protocol_version, view.principal) == (5, "alice")
    assert (view.session_expiry_interval, view.expires_at) == (60, None)
    assert (view.send_quota, view.queued(), view.queued_bytes) == (3, (), 0)
    world.now = 5
    world.lose(1)
    assert repr(view) == "<Session 'a' parked>"
    assert (view.exists, view.connected, view.connection) == (True, False, None)
    assert (view.protocol_version, view.send_quota, view.expires_at) == (None, 0, 65)
    world.tick(65)
    assert repr(view) == "<Session 'a' none>"
    assert (view.exists, view.connected, view.subscriptions) == (False, False, ())
    assert (view.will, view.will_due_at, view.counters) == (None, None, Counters(0, 0, {}))


def test_a_queue_is_read_page_by_page() -> None:
    world = World()
    world.parked("a", "t")
    for number in range(7):
        world.publish("t", b"%d" % number, qos=1)
    view = world.session("a")
    assert [each.message.payload for each in view.queued(2, 3)] == [b"2", b"3", b"4"]
    assert len(view.queued()) == view.queue_depth == 7
    assert view.queued(7) == ()
    assert view.queued_bytes == 7 * 2


def test_no_repr_shows_a_payload() -> None:
    world = World()
    world.subscriber(1, "a", "t")
    outcome = world.publish("t", b"secret", qos=1, correlation_data=b"private")
    shown = repr(outcome) + repr(world.session("a").in_flight) + repr(world.session("a"))
    assert "secret" not in shown
    assert "private" not in shown
    assert "<6 bytes>" in shown


def test_the_limits_in_force_can_be_read() -> None:
    limits = SessionLimits(maximum_sessions=3)
    assert SessionStore(limits=limits).limits is limits


def test_the_books_of_a_session_alone_balance_too() -> None:
    alone = Alone(limits=SessionLimits(maximum_queued_messages=1))
    alone.connect(1, receive_maximum=1)
    for payload in (b"1", b"2", b"3"):
        alone.deliver(payload)
    assert alone.session.counters == Counters(3, 0, {DropReason.QUEUE_FULL: 1})
    assert [each.message.payload for each in alone.session.queued()] == [b"3"]
    first = alone.session.in_flight[0].delivery
    assert first == Delivery(Message("t", b"1", 1), 1, received_at=0.0)
