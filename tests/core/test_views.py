"""What a host reads of sessions and a store, at the edges of each figure; and `check()` of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mqtt_sessions import (
    ClientConnected,
    DeliverMessage,
    Delivery,
    ExpiryPolicy,
    InvalidState,
    InvalidValue,
    Message,
    Phase,
    PingReceived,
    PublishReceived,
    Session,
    SessionDiscarded,
    SessionLimits,
    SessionStore,
)
from mqtt_sessions.state import Route
from tests.core.helpers import Alone, World, will

# ---------------------------------------------------------------- one session


def test_the_send_quota_counts_what_was_sent_on_this_connection_and_takes_a_unit() -> None:
    world = World()
    world.subscriber(1, "a", "t", qos=2, receive_maximum=6)
    view = world.session("a")
    assert view.send_quota == 6
    for qos in (2, 1, 1, 1):
        world.publish("t", b"%d" % qos, qos=qos)
    world.pubrec(1, 1)
    assert view.send_quota == 2  # a PUBREL phase keeps its unit until PUBCOMP
    world.lose(1)
    assert view.send_quota == 0
    world.connect(2, "a", receive_maximum=2)
    assert view.send_quota == 0  # one PUBREL without a unit, two sent again, one not yet
    world.puback(2, 2)
    assert view.send_quota == 0
    world.puback(2, 3)
    assert view.send_quota == 1
    world.pubcomp(2, 1)
    assert view.send_quota == 1
    world.puback(2, 4)
    assert view.send_quota == 2
    assert view.in_flight == ()


def test_exchanges_are_told_with_phase_and_message() -> None:
    world = World()
    world.subscriber(1, "a", "t", qos=2)
    for qos in (1, 2, 2):
        world.publish("t", b"%d" % qos, qos=qos)
    world.pubrec(1, 2)
    told = [
        (each.packet_id, each.phase, each.delivery is None) for each in world.session("a").in_flight
    ]
    assert told == [
        (1, Phase.AWAITING_PUBACK, False),
        (3, Phase.AWAITING_PUBREC, False),
        (2, Phase.AWAITING_PUBCOMP, True),
    ]


def test_a_page_of_the_queue_has_its_edges() -> None:
    world = World()
    world.parked("a", "t")
    view = world.session("a")
    assert view.queued() == ()
    for number in range(3):
        world.publish("t", b"%d" % number, qos=1)
    assert [each.message.payload for each in view.queued(0, 1)] == [b"0"]
    assert [each.message.payload for each in view.queued(1, 1)] == [b"1"]
    assert [each.message.payload for each in view.queued(1, 2)] == [b"1", b"2"]
    for start, limit in ((-1, 1), (0, 0), (0, -1), (-1, 0)):
        with pytest.raises(InvalidValue, match="start must be 0 or more, limit above 0"):
            view.queued(start, limit)
    for number in range(120):
        world.publish("t", b"%d" % number, qos=1)
    assert len(view.queued()) == 100


def test_a_session_that_was_never_there_is_empty() -> None:
    session = Session("a")
    assert repr(session) == "<Session 'a' none>"
    assert (session.exists, session.connected, session.connection) == (False, False, None)
    assert (session.queue_depth, session.queued(), session.queued_bytes) == (0, (), 0)
    assert (session.in_flight, session.inbound_packet_ids, session.send_quota) == ((), (), 0)
    assert (session.will, session.will_due_at, session.expires_at) == (None, None, None)
    assert (session.principal, session.protocol_version) == (None, None)
    assert (session.next_deadline, session.next_deadline_at) == (None, None)
    session.check()


def test_a_view_of_a_stores_session_cannot_be_driven() -> None:
    world = World()
    world.connect(1, "a")
    view = world.session("a")
    for drive in (
        lambda: view.handle(PingReceived(1), 0.0),
        lambda: view.handle_timeout(0.0),
        lambda: view.next_deadline,
        lambda: view.next_deadline_at,
        view.check,
    ):
        with pytest.raises(InvalidState, match="'a' belongs to a store"):
            drive()


@pytest.mark.parametrize("client_id", ["", None, 7, b"a"])
def test_a_session_of_its_own_is_somebodys(client_id: Any) -> None:
    with pytest.raises(InvalidValue, match="non-empty string"):
        Session(client_id)


def test_a_session_of_its_own_takes_policy_and_limits() -> None:
    session = Session(
        "a", ExpiryPolicy(default_session_expiry_interval=7), SessionLimits(maximum_send_window=3)
    )
    session.handle(ClientConnected(1, "a", 4, clean_start=False), 0.0)
    assert (session.session_expiry_interval, session.send_quota) == (7, 3)


def test_wills_and_identifiers_are_told() -> None:
    world = World()
    world.connect(1, "a", will=will("gone", delay=5), session_expiry_interval=60)
    world.do(PublishReceived(1, Message("t", b"m", 2), 9))
    view = world.session("a")
    assert view.inbound_packet_ids == (9,)
    assert view.will is not None
    assert (view.will.topic_name, view.will_due_at) == ("gone", None)
    world.now = 10.0
    world.lose(1)
    assert (view.will.topic_name, view.will_due_at, view.expires_at) == ("gone", 15.0, 70.0)


def test_route_ids_are_counted_from_one() -> None:
    alone = Alone()
    alone.connect(1)
    told = [
        alone.send(1, "t", qos=1, packet_id=number).actions[0].route_id  # type: ignore[union-attr]
        for number in (1, 2, 3)
    ]
    assert told == [1, 2, 3]


def test_a_delivery_is_accepted_by_session_and_books_alike() -> None:
    alone = Alone()
    alone.connect(1)
    for _ in range(2):
        alone.do(DeliverMessage(Delivery(Message("t", b"m", 1), 1)))
    assert alone.session.counters.accepted == 2
    assert Session.restore(alone.session.snapshot()).counters.accepted == 2


# ---------------------------------------------------------------- a store


def _retained(*topics: str) -> World:
    world = World()
    for topic in topics:
        world.publish(topic, b"m", retain=True)
    return world


def test_pages_and_filters_have_their_edges() -> None:
    world = _retained("$SYS/a", "a", "a/b", "b", "c")
    store = world.store

    def topics(*arguments: Any, **options: Any) -> list[str]:
        return [each.topic_name for each in store.retained(*arguments, **options)]

    assert topics() == ["$SYS/a", "a", "a/b", "b", "c"]
    assert topics("+") == ["a", "b", "c"]
    assert topics("+", limit=2) == ["a", "b"]
    assert topics("+", "a", 1) == ["b"]
    assert topics("+", "b") == ["c"]
    assert topics("a/#") == ["a", "a/b"]
    assert topics(limit=1) == ["$SYS/a"]
    assert topics(limit=5) == topics(limit=6) == topics()
    assert topics("$SYS/#") == ["$SYS/a"]
    with pytest.raises(InvalidValue, match="well formed"):
        store.retained("a/#/b")
    for limit in (0, -1):
        with pytest.raises(InvalidValue, match="limit must be above 0"):
            store.retained(limit=limit)
        with pytest.raises(InvalidValue, match="limit must be above 0"):
            store.page(limit=limit)
    assert store.retained_count == 5


def test_many_retained_messages_and_sessions_come_a_hundred_at_a_time() -> None:
    world = _retained(*(f"t{number}" for number in range(105)))
    assert len(world.store.retained()) == 100
    for number in range(105):
        world.connect(number, f"c{number}")
    page = world.store.page()
    assert len(page) == 100
    assert len(world.store.page(page[-1])) == 5
    assert world.store.page(limit=1) == ("c0",)


def test_a_session_is_found_by_name_and_by_connection() -> None:
    world = World()
    world.connect("one", "a")
    store = world.store
    by_name, by_connection = store.get("a"), store.session_of("one")
    assert by_name is not None
    assert by_connection is not None
    assert by_name.client_id == by_connection.client_id == store["a"].client_id == "a"
    assert (store.get("b"), store.session_of("two")) == (None, None)
    world.connect("two", "a")  # takes over: the first is closed, and not yet known to be lost
    assert store.session_of("one") is None


@pytest.mark.parametrize("connection", [[], {}])
def test_many_packets_of_what_can_be_no_connection_are_refused(connection: Any) -> None:
    world = World()
    world.connect(1, "a")
    event = PingReceived(1)
    event.connection = connection  # type: ignore[misc]
    with pytest.raises(InvalidState, match="is not known"):
        world.store.handle_many([PingReceived(1), event], 0.0)


def test_many_packets_that_say_nothing_come_to_nothing() -> None:
    world = World()
    world.subscriber(1, "a", "t", qos=1)
    for _ in range(2):
        world.publish("t", b"m", qos=1)
    store = world.store
    outcome = store.handle_many([], 0.0)
    assert (outcome.changes, outcome.actions, outcome.notices) == ((), (), ())
    answered = store.handle_many([PingReceived(1), PingReceived(1)], 0.0)
    assert len(answered.actions) == 2


# ---------------------------------------------------------------- the check of a store


def _busy() -> World:
    """Sessions with one and with two subscriptions, a replay that waits and a page in order."""
    world = World(limits=SessionLimits(retained_replay_batch=1))
    world.publish("r/1", b"1", retain=True)
    world.publish("r/2", b"2", retain=True)
    world.subscriber("one", "a", "t", qos=1)
    world.subscriber("two", "b", "t", qos=1)
    world.subscribe("two", "x/+/#", "r/#")
    assert world.store.page() == ("a", "b")
    return world


def _route(store: SessionStore, client_id: str) -> Route:
    return store._sessions[client_id].all_routes()[0]


FAULTS_OF_A_STORE: dict[str, Callable[[SessionStore], object]] = {
    "a subscription that is not routed": lambda store: store._tree.remove(_route(store, "a")),
    "a filter that is not routed": lambda store: store._tree.remove(
        store._sessions["b"].all_routes()[1]
    ),
    "a subscription of nobody": lambda store: store._tree.add(
        Route(store._sessions["a"], "nobody", 0)
    ),
    "a subscription of nobody, behind all others": lambda store: store._tree.add(
        Route(store._sessions["a"], "zzz", 0)
    ),
    "another subscription in its place": lambda store: (
        store._tree.remove(_route(store, "a")),
        store._tree.add(Route(store._sessions["a"], "t", 2)),
    ),
    "a replay to nobody": lambda store: store._replays.update(
        {Session("z")._state: next(iter(store._replays.values()))}
    ),
    "a session that is in no page": lambda store: store._order.pop(),  # type: ignore[union-attr]
    "a page of nobody": lambda store: store._order.add("z"),  # type: ignore[union-attr]
    "a parked session too many": lambda store: setattr(store, "_parked", 1),
    "a session under another name": lambda store: store._sessions.update(
        {"c": store._sessions.pop("a")}
    ),
}


def test_a_sound_store_passes() -> None:
    world = _busy()
    assert world.store._replays
    world.store.check()


@pytest.mark.parametrize("fault", FAULTS_OF_A_STORE.values(), ids=FAULTS_OF_A_STORE)
def test_a_store_that_is_not_sound_is_noticed(fault: Callable[[SessionStore], object]) -> None:
    store = _busy().store
    fault(store)
    with pytest.raises(AssertionError):
        store.check()


def _fanning_out() -> SessionStore:
    """A will with three receivers, of which one has been served."""
    world = World()
    for name in ("one", "two", "three"):
        world.subscriber(name, name, "gone", qos=1)
    world.connect("me", "me", will=will("gone", delay=5), session_expiry_interval=60)
    world.lose("me")
    world.store.handle_timeout(world.now + 5, 2)
    assert len(world.store._fanouts) == 1
    return world.store


def test_a_fan_out_to_all_sessions_that_are_left_is_sound() -> None:
    store = _fanning_out()
    left = {session.client_id for session in store._fanouts[0].remaining}
    for client_id in set(store) - left:
        store.handle(SessionDiscarded(client_id), 5.0)
    assert set(store) == left
    store.check()


FAULTS_OF_A_FANOUT: dict[str, Callable[[SessionStore], object]] = {
    "not in the index": lambda store: store._turn.deadlines.disarm(store._fanouts[0]),
    "with nobody left": lambda store: store._fanouts[0].remaining.clear(),
    "to a session that is none": lambda store: store._fanouts[0].remaining.update(
        {Session("z")._state: []}
    ),
}


@pytest.mark.parametrize("fault", FAULTS_OF_A_FANOUT.values(), ids=FAULTS_OF_A_FANOUT)
def test_a_fan_out_that_is_not_sound_is_noticed(fault: Callable[[SessionStore], object]) -> None:
    store = _fanning_out()
    store.check()
    fault(store)
    with pytest.raises(AssertionError):
        store.check()
