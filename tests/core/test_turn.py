"""One call, one outcome; what a host may not do raises and leaves everything as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqtt_sessions import (
    Action,
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    DeliverMessage,
    Delivery,
    DisconnectReceived,
    EndReason,
    Event,
    ExpiryPolicy,
    FilterRemoved,
    InvalidState,
    InvalidValue,
    MalformedPacketReceived,
    Message,
    MessagePublished,
    MessageRouted,
    Outcome,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    QueuePurged,
    SendPublish,
    Session,
    SessionDiscarded,
    SessionEnded,
    SessionExpirySet,
    SessionKicked,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
    SubscriptionsAdded,
    SubscriptionsRemoved,
    UnsubscribeReceived,
    WillRevoked,
)
from mqtt_sessions.turn import EMPTY, Turn
from tests.core.helpers import World, of_type, sent, will

PACKETS: tuple[Callable[[int], Event], ...] = (
    lambda connection: PublishReceived(connection, Message("t")),
    lambda connection: PubackReceived(connection, 1),
    lambda connection: PubrecReceived(connection, 1),
    lambda connection: PubrelReceived(connection, 1),
    lambda connection: PubcompReceived(connection, 1),
    lambda connection: SubscribeReceived(connection, 1, (Subscription("t"),)),
    lambda connection: UnsubscribeReceived(connection, 1, ("t",)),
    PingReceived,
    DisconnectReceived,
    MalformedPacketReceived,
    ConnectionCongested,
    ConnectionWritable,
)
NAMED: tuple[Callable[[str], Event], ...] = (
    SessionKicked,
    SessionDiscarded,
    lambda client_id: SessionExpirySet(client_id, 5),
    lambda client_id: SubscriptionsAdded(client_id, (Subscription("t"),)),
    lambda client_id: SubscriptionsRemoved(client_id, ("t",)),
    WillRevoked,
    QueuePurged,
)

# ---------------------------------------------------------------- outcomes


def test_calls_that_come_to_nothing_share_one_outcome() -> None:
    store = SessionStore()
    nothing = store.handle_timeout(0.0)
    assert nothing == Outcome() == Outcome((), (), ())
    store.handle(ClientConnected(1, "a"), 0.0)
    assert store.handle(PubackReceived(1, 7), 0.0) is nothing
    assert store.handle_many([PubackReceived(1, 7), PubackReceived(1, 8)], 0.0) is nothing
    assert store.handle_many([], 0.0) is nothing
    assert store.handle(MessagePublished(Message("t")), 0.0) is nothing
    assert SessionStore().handle_timeout(5.0) is nothing
    assert nothing is EMPTY


def test_an_acknowledgement_that_completes_a_message_comes_to_nothing_else() -> None:
    world = World()
    world.subscriber(1, "a", "t")
    world.publish("t", qos=1)
    assert world.puback(1, 1) is EMPTY


def test_what_was_told_is_not_told_again() -> None:
    world = World()
    first = world.connect(1, "a")
    assert first.actions
    assert first.notices
    assert world.tick() is EMPTY


def test_an_outcome_is_not_changed_by_later_calls() -> None:
    world = World()
    first = world.connect(1, "a")
    before = repr(first)
    world.connect(2, "b")
    assert repr(first) == before


def test_one_outcome_serves_all_receivers_and_one_delivery_all_of_a_kind() -> None:
    world = World()
    for connection in range(5):
        world.subscriber(connection, f"client {connection}", "t")
    outcome = world.publish("t", qos=1)
    deliveries = {id(action.delivery) for action in of_type(SendPublish, outcome.actions)}
    assert len(outcome.actions) == 5
    assert len(deliveries) == 1


def test_a_turn_hands_over_what_it_collected_and_is_empty_afterwards() -> None:
    turn = Turn()
    assert turn.take() is EMPTY
    action: Action = of_type(SendPublish, _one_publish())[0]
    turn.actions.append(action)
    assert turn.take() == Outcome((), (action,), ())
    assert turn.take() is EMPTY


def _one_publish() -> list[Action]:
    world = World()
    world.subscriber(1, "a", "t", qos=0)
    return list(world.publish("t").actions)


# ---------------------------------------------------------------- the host's own faults


def _busy_world() -> World:
    """Something of everything, so that a change would show."""
    world = World(policy=ExpiryPolicy(inbound_qos2_interval=50))
    world.subscriber(1, "a", "t", "#", qos=2, keep_alive=10, will=will(delay=3))
    world.publish("t", b"1", qos=1, retain=True, message_expiry_interval=60)
    world.publish("t", b"2", qos=2)
    world.send(1, "u", qos=2, packet_id=5)
    world.parked("b", "t")
    world.publish("t", b"3", qos=1)
    world.connect(3, "c")
    world.disconnect(3)
    world.now = 5.0
    world.tick()
    return world


def _everything(store: SessionStore) -> list[object]:
    return [
        store.next_deadline,
        store.counters,
        store.retained(),
        store.page(),
        [
            (
                store[each].connection,
                store[each].expires_at,
                store[each].queued(),
                store[each].in_flight,
                store[each].inbound_packet_ids,
                store[each].subscriptions,
                store[each].will,
                store[each].counters,
            )
            for each in store
        ],
    ]


CANNOT_HAPPEN: list[Event] = [
    *(make(99) for make in PACKETS),
    ConnectionLost(99),
    *(make("nobody") for make in NAMED),
    ClientConnected(3, "d"),  # closed, and ConnectionLost has not come
    MessageRouted(1),
    DeliverMessage(Delivery(Message("t"), 0)),
]


@pytest.mark.parametrize("event", CANNOT_HAPPEN, ids=lambda event: type(event).__name__)
def test_an_event_that_cannot_happen_raises_and_changes_nothing(event: Event) -> None:
    world = _busy_world()
    before = _everything(world.store)
    with pytest.raises(InvalidState):
        world.store.handle(event, 5.0)
    # far in the future: had the clock moved, all that waits would be due
    with pytest.raises(InvalidState):
        world.store.handle(event, 1e9)
    world.store.check()
    assert _everything(world.store) == before
    assert world.tick(5.5) is EMPTY


def test_an_assigned_client_id_of_a_stored_session_raises_and_changes_nothing() -> None:
    world = _busy_world()
    before = _everything(world.store)
    for client_id in ("a", "b"):
        with pytest.raises(InvalidState, match="stored session"):
            world.store.handle(ClientConnected(9, "", assigned_client_id=client_id), 5.5)
    world.store.check()
    assert _everything(world.store) == before


def test_what_is_no_event_raises_and_changes_nothing() -> None:
    world = _busy_world()
    before = _everything(world.store)
    with pytest.raises(InvalidState, match="int is not an event"):
        world.store.handle(7, 1e9)  # type: ignore[arg-type]
    assert _everything(world.store) == before


def test_a_bad_instant_raises_and_changes_nothing() -> None:
    world = _busy_world()
    before = _everything(world.store)
    for event in (PingReceived(1), PubackReceived(1, 1)):
        for now in (float("nan"), float("inf"), float("-inf"), None, "soon"):
            with pytest.raises(InvalidValue, match="finite"):
                world.store.handle(event, now)  # type: ignore[arg-type]
            with pytest.raises(InvalidValue, match="finite"):
                world.store.handle_timeout(now)  # type: ignore[arg-type]
    assert _everything(world.store) == before


@pytest.mark.parametrize(
    "event",
    [PingReceived([]), PubackReceived({}, 1), PublishReceived(set(), Message("t"))],
    ids=lambda event: type(event).__name__,
)
def test_a_connection_that_is_not_hashable_is_not_known(event: Event) -> None:
    world = _busy_world()
    before = _everything(world.store)
    with pytest.raises(InvalidState):
        world.store.handle(event, 1e9)
    assert _everything(world.store) == before


@pytest.mark.parametrize("make", NAMED)
def test_a_session_that_is_over_ends_and_the_hosts_event_finds_nobody(
    make: Callable[[str], Event],
) -> None:
    world = World()
    world.parked("a", "t", session_expiry_interval=30)
    world.now = 30.0
    outcome = world.do(make("a"))
    assert outcome.actions == ()
    assert outcome.notices == (FilterRemoved("t"), SessionEnded("a", EndReason.EXPIRED))
    with pytest.raises(InvalidState, match="no session"):
        world.store.handle(make("a"), 30.0)


@pytest.mark.parametrize("topic_filter", ["", "a/#/b", "a+"])
def test_the_host_reads_retained_messages_by_a_well_formed_filter_only(topic_filter: str) -> None:
    with pytest.raises(InvalidValue, match="topic_filter"):
        SessionStore().retained(topic_filter)


@pytest.mark.parametrize("make", PACKETS)
def test_events_of_a_closed_connection_are_ignored(make: Callable[[int], Event]) -> None:
    world = _busy_world()
    before = _everything(world.store)
    assert world.do(make(3)) is EMPTY
    assert _everything(world.store) == before


@pytest.mark.parametrize(
    ("field", "kind"), [("policy", SessionLimits()), ("limits", ExpiryPolicy()), ("options", None)]
)
def test_a_store_takes_settings_of_their_types_only(field: str, kind: object) -> None:
    with pytest.raises(InvalidValue, match=field):
        SessionStore(**{field: kind})  # type: ignore[arg-type]


# ---------------------------------------------------------------- re-entrance


class Calling:
    """A world whose `size_of` calls the store that asks."""

    def __init__(self, call: Callable[[SessionStore], object], *, swallow: bool) -> None:
        self.call = call
        self.swallow = swallow
        self.errors: list[InvalidState] = []
        self.world = World(size_of=self.size_of)
        self.world.subscriber(1, "first", "t", "w")
        self.world.subscriber(2, "asked", "t", "w", maximum_packet_size=100)

    def size_of(self, delivery: Delivery, protocol_version: int) -> int:
        try:
            self.call(self.world.store)
        except InvalidState as error:
            self.errors.append(error)
            if not self.swallow:
                raise
        return 1


CALLS: dict[str, Callable[[SessionStore], object]] = {
    "handle": lambda store: store.handle(MessagePublished(Message("x")), 0.0),
    "handle_many": lambda store: store.handle_many([PingReceived(1)], 0.0),
    "handle an acknowledgement": lambda store: store.handle(PubackReceived(1, 1), 0.0),
    "handle_timeout": lambda store: store.handle_timeout(0.0),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_from_within_a_call_raises_and_the_outer_one_goes_on(
    call: Callable[[SessionStore], object],
) -> None:
    calling = Calling(call, swallow=True)
    outcome = calling.world.publish("t", b"m", qos=1)
    assert len(calling.errors) == 1
    assert sent(outcome) == [b"m", b"m"]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_size_of_that_raises_leaves_no_action_behind_for_the_next_call(
    call: Callable[[SessionStore], object],
) -> None:
    calling = Calling(call, swallow=False)
    store = calling.world.store
    with pytest.raises(InvalidState):
        store.handle(MessagePublished(Message("t", b"m", 1)), 0.0)
    assert store.handle_timeout(0.0) is EMPTY
    calling.world.ping(1)


def test_a_size_of_that_raises_while_time_passes_leaves_no_action_behind() -> None:
    def fail(store: SessionStore) -> object:
        raise ZeroDivisionError

    calling = Calling(fail, swallow=False)
    world = calling.world
    world.connect(3, "c", will=will("w", 5))
    world.lose(3)
    with pytest.raises(ZeroDivisionError):
        world.store.handle_timeout(5.0)
    assert world.store.handle(PubackReceived(1, 77), 5.0) is EMPTY
    with pytest.raises(ZeroDivisionError):
        world.store.handle(MessagePublished(Message("t")), 6.0)
    assert world.store.handle(PubackReceived(1, 77), 6.0) is EMPTY


def test_reading_from_within_a_call_is_allowed() -> None:
    calling = Calling(lambda store: store["first"].queue_depth, swallow=False)
    assert sent(calling.world.publish("t", b"m")) == [b"m", b"m"]


def test_a_session_of_a_store_is_driven_through_the_store() -> None:
    world = World()
    world.connect(1, "a")
    view: Session = world.session("a")
    for use in (
        lambda: view.handle(PingReceived(1), 0.0),
        lambda: view.handle_timeout(0.0),
        lambda: view.next_deadline,
        lambda: view.next_deadline_at,
        view.check,
    ):
        with pytest.raises(InvalidState, match="drive the store"):
            use()
