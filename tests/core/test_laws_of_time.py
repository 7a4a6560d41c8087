"""The nine laws of time, each through the door of a store.

A `SITUATION` brings about one deadline of one kind, due at 30; what the law says of all deadlines
is tried on each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mqtt_sessions import (
    Action,
    ClientConnected,
    CloseConnection,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    Deadline,
    DeadlineKind,
    DisconnectReceived,
    DropReason,
    EndReason,
    Event,
    ExpiryPolicy,
    InboundQos2TimedOut,
    InvalidValue,
    MalformedPacketReceived,
    Message,
    MessageDropped,
    MessagePublished,
    Outcome,
    PeerErrorDetected,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    QueuePurged,
    ReasonCode,
    RetainedMessageDropped,
    SendPuback,
    SendPublish,
    ServerStopping,
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
    WillDiscarded,
    WillPublished,
    WillRevoked,
)
from tests.core.helpers import NEVER, World, dropped, of_type, sent, will
from tests.core.histories import STEPS, Life, Step

POLICY = ExpiryPolicy(inbound_qos2_interval=30, retry_interval=30)
LIMITS = SessionLimits(retained_replay_batch=1)


def new_world() -> World:
    return World(policy=POLICY, limits=LIMITS)


# ---------------------------------------------------------------- a deadline of each kind, at 30


def _message_expiry(world: World) -> None:
    world.parked("a", "t", session_expiry_interval=NEVER)
    world.publish("t", qos=1, message_expiry_interval=30)


def _retained_expiry(world: World) -> None:
    world.connect(2, "b")
    world.publish("r", retain=True, message_expiry_interval=30)


def _retained_replay(world: World) -> None:
    for topic_name in ("r/1", "r/2"):
        world.publish(topic_name, retain=True)
    world.now = 30.0
    world.subscriber(1, "a", "r/#", qos=0)


def _inbound_qos2(world: World) -> None:
    world.connect(1, "a")
    world.send(1, "t", qos=2, packet_id=1)


def _retry(world: World) -> None:
    world.subscriber(1, "a", "t", protocol_version=4)
    world.publish("t", qos=1)


def _keep_alive(world: World) -> None:
    world.connect(1, "a", keep_alive=20, session_expiry_interval=NEVER, clean_start=True)
    world.subscribe(1, "t")


def _will_delay(world: World) -> None:
    world.connect(1, "a", will=will("w", 30), session_expiry_interval=NEVER)
    world.lose(1)


def _session_expiry(world: World) -> None:
    world.parked("a", "t", session_expiry_interval=30)


Situation = tuple[Callable[[World], None], str, Callable[[Outcome], bool]]

SITUATIONS: dict[DeadlineKind, Situation] = {
    DeadlineKind.MESSAGE_EXPIRY: (
        _message_expiry,
        "a",
        lambda outcome: dropped(outcome) == [("a", b"-", "expired")],
    ),
    DeadlineKind.RETAINED_EXPIRY: (
        _retained_expiry,
        "r",
        lambda outcome: bool(of_type(RetainedMessageDropped, outcome.notices)),
    ),
    DeadlineKind.RETAINED_REPLAY: (
        _retained_replay,
        "a",
        lambda outcome: sent(outcome, 1) == [b"-"],
    ),
    DeadlineKind.INBOUND_QOS2: (
        _inbound_qos2,
        "a",
        lambda outcome: outcome.notices == (InboundQos2TimedOut("a", 1),),
    ),
    DeadlineKind.RETRY: (
        _retry,
        "a",
        lambda outcome: [a.dup for a in of_type(SendPublish, outcome.actions)] == [True],
    ),
    DeadlineKind.KEEP_ALIVE: (
        _keep_alive,
        "a",
        lambda outcome: (
            [n.reason_code for n in of_type(PeerErrorDetected, outcome.notices)]
            == [ReasonCode.KEEP_ALIVE_TIMEOUT]
        ),
    ),
    DeadlineKind.WILL_DELAY: (
        _will_delay,
        "a",
        lambda outcome: bool(of_type(WillPublished, outcome.notices)),
    ),
    DeadlineKind.SESSION_EXPIRY: (
        _session_expiry,
        "a",
        lambda outcome: SessionEnded("a", EndReason.EXPIRED) in outcome.notices,
    ),
}

EACH_KIND = pytest.mark.parametrize("kind", DeadlineKind, ids=lambda kind: kind.name)
EACH_THAT_WAITS = pytest.mark.parametrize(
    "kind",
    [kind for kind in DeadlineKind if kind is not DeadlineKind.RETAINED_REPLAY],
    ids=lambda kind: kind.name,
)


def situation(kind: DeadlineKind) -> tuple[World, Callable[[Outcome], bool]]:
    """A world with one deadline of this kind, and what tells that it was settled."""
    build, subject, is_settled = SITUATIONS[kind]
    world = new_world()
    build(world)
    assert world.next == Deadline(30.0, kind, subject)
    assert world.store.next_deadline_at == 30.0
    return world, is_settled


# ---------------------------------------------------------------- 1. nobody reads a clock


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_1_the_same_events_at_the_same_instants_come_to_the_same(steps: list[Step]) -> None:
    first, second = Life(retry_interval=2), Life(retry_interval=2)
    for step in steps:
        first.step(step)
        second.step(step)
    assert first.world.actions == second.world.actions
    assert first.world.notices == second.world.notices
    assert first.world.next == second.world.next


@pytest.mark.parametrize("now", [float("nan"), float("inf"), float("-inf")])
def test_1_an_instant_is_a_finite_number(now: float) -> None:
    store = SessionStore()
    with pytest.raises(InvalidValue, match="finite"):
        store.handle(ClientConnected(1, "a"), now)
    with pytest.raises(InvalidValue, match="finite"):
        store.handle_timeout(now)
    store.check()
    assert len(store) == 0


@pytest.mark.parametrize("now", [-1e9, 0.0, 1.7e9])
def test_1_any_scale_will_do(now: float) -> None:
    world = World(now=now)
    world.parked("a", session_expiry_interval=10)
    assert world.store.next_deadline_at == now + 10
    assert of_type(SessionEnded, world.tick(now + 10).notices)


# ---------------------------------------------------------------- 2. due is inclusive


@EACH_THAT_WAITS
def test_2_due_is_inclusive(kind: DeadlineKind) -> None:
    world, is_settled = situation(kind)
    assert world.tick(29.999) == Outcome()
    assert is_settled(world.tick(30.0))


# ---------------------------------------------------------------- 3. all that is due is done


@EACH_KIND
def test_3_after_a_timeout_nothing_is_due(kind: DeadlineKind) -> None:
    world, is_settled = situation(kind)
    assert is_settled(world.tick(30.0))
    at = world.store.next_deadline_at
    assert at is None or at > 30.0


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sampled_from((0.0, 1.0, 4.0, 50.0)))
def test_3_after_a_timeout_nothing_is_due_whatever_went_before(
    steps: list[Step], seconds: float
) -> None:
    life = Life(retry_interval=2)
    world = life.world
    for step in steps:
        life.step(step)
    world.tick(world.now + seconds)
    at = world.store.next_deadline_at
    assert at is None or at > world.now


def _by_connection(actions: list[Action]) -> dict[Hashable, list[Action]]:
    found: dict[Hashable, list[Action]] = {}
    for action in actions:
        found.setdefault(getattr(action, "connection", None), []).append(action)
    return found


def _visible(store: SessionStore) -> dict[str, Any]:
    """All that a host can read."""
    seen: dict[str, Any] = {
        client_id: (
            session.connected,
            session.expires_at,
            session.subscriptions,
            session.queued(),
            session.in_flight,
            session.inbound_packet_ids,
            session.will,
            session.will_due_at,
            session.counters,
        )
        for client_id in store
        if (session := store[client_id])
    }
    seen["retained"] = store.retained()
    seen["counters"] = store.counters
    seen["next"] = store.next_deadline
    return seen


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.integers(1, 4), st.sampled_from((0.0, 1.0, 4.0, 50.0)))
def test_3_what_a_host_can_observe_does_not_depend_on_the_slicing(
    steps: list[Step], limit: int, seconds: float
) -> None:
    whole, sliced = Life(retry_interval=2), Life(retry_interval=2)
    for life in (whole, sliced):
        for step in steps:
            life.step(step)
        life.world.now += seconds
        life.world.actions.clear()
        life.world.notices.clear()
    whole.world.tick()
    sliced.world.slices(limit)
    assert sliced.world.notices == whole.world.notices
    # replays of several sessions take turns, batch by batch: each connection sees one order
    assert _by_connection(sliced.world.actions) == _by_connection(whole.world.actions)
    assert _visible(sliced.world.store) == _visible(whole.world.store)


def test_3_a_limit_counts_units_of_work_and_not_entries_of_the_index() -> None:
    world = World()
    world.parked("a", "t", session_expiry_interval=NEVER)
    for number in range(10):
        world.publish("t", b"%d" % number, qos=1, message_expiry_interval=30)
    world.now = 30.0
    outcomes = world.slices(3)
    assert [len(of_type(MessageDropped, outcome.notices)) for outcome in outcomes] == [3, 3, 3, 1]
    assert [payload for _, payload, _ in dropped(world.notices)] == [b"%d" % n for n in range(10)]


def test_3_a_session_ends_in_slices_with_all_that_it_holds() -> None:
    world = World()
    world.subscriber(1, "a", "t", session_expiry_interval=30, receive_maximum=3)
    for number in range(8):
        world.publish("t", b"%d" % number, qos=1)
    world.lose(1)
    world.now = 30.0
    outcomes = world.slices(3)
    units = [len(dropped(each)) + len(of_type(SessionEnded, each.notices)) for each in outcomes]
    assert units == [3, 3, 3]
    assert [payload for _, payload, _ in dropped(world.notices)] == [b"%d" % n for n in range(8)]
    assert len(world.store) == 0


def test_3_a_session_that_is_half_gone_is_gone_for_every_event() -> None:
    world = World()
    world.parked("a", "t", session_expiry_interval=30)
    for number in range(4):
        world.publish("t", b"%d" % number, qos=1)
    world.tick(30.0, limit=2)
    assert "a" in world.store
    world.publish("t", b"late", qos=1)
    assert "a" not in world.store
    assert [payload for _, payload, _ in dropped(world.notices)] == [b"0", b"1", b"2", b"3"]


def test_3_a_million_ends_are_spread_over_slices() -> None:
    world = World()
    for number in range(25):
        world.parked(str(number), session_expiry_interval=30)
    world.now = 30.0
    outcomes = world.slices(10)
    assert [len(of_type(SessionEnded, each.notices)) for each in outcomes] == [10, 10, 5]


def _half_handed_out(**receiver: Any) -> World:
    """A will that has reached none of its receivers "a" and "b", of which "b" is due as well."""
    world = World(limits=SessionLimits(maximum_sessions=3))
    world.subscriber(1, "a", "w")
    world.subscriber(2, "b", "w", **receiver)
    world.connect(3, "c", will=will("w", 29, qos=1))
    world.lose(3)
    if not receiver.get("keep_alive"):
        world.lose(2)
    outcome = world.tick(30.0, limit=1)
    assert [type(notice) for notice in outcome.notices] == [WillPublished]
    assert sent(outcome) == []
    return world


def test_3_a_will_reaches_its_receivers_in_slices() -> None:
    world = _half_handed_out()
    assert world.store.next_deadline_at is not None
    assert world.store.next_deadline_at <= 30.0
    assert sorted(sent(each) for each in world.slices(1)) == [[], [b"gone"]]
    assert world.session("b").queue_depth == 1


def test_3_a_receiver_that_an_event_reads_gets_its_copy_of_a_will_first() -> None:
    world = _half_handed_out()
    assert sent(world.publish("w", b"next", qos=1)) == [b"gone", b"next"]
    assert [each.message.payload for each in world.session("b").queued()] == [b"gone", b"next"]
    assert world.slices(1) == []


@pytest.mark.parametrize(
    "event",
    [
        PingReceived(2),
        DisconnectReceived(2),
        ConnectionWritable(2),
        ConnectionLost(2),
        ServerStopping(),
        SessionKicked("b"),
        SessionDiscarded("b"),
        ClientConnected(9, "b", clean_start=False, session_expiry_interval=60),
        ClientConnected(9, "b", clean_start=True),
        ClientConnected(2, "b"),
        MessagePublished(Message("w", b"next", 1)),
    ],
    ids=lambda event: type(event).__name__,
)
@pytest.mark.parametrize("session_expiry_interval", [0, 3600])
def test_3_a_silent_receiver_is_closed_once_though_a_will_waits_for_it(
    event: Event, session_expiry_interval: int
) -> None:
    world = _half_handed_out(keep_alive=20, session_expiry_interval=session_expiry_interval)
    outcome = world.do(event)
    closed = [each.connection for each in of_type(CloseConnection, outcome.actions)]
    assert closed.count(2) <= 1
    world.slices(1)
    if "b" in world.store:
        queued = [each.message.payload for each in world.session("b").queued()]
        assert queued.count(b"gone") + sent(world.actions, 9).count(b"gone") <= 1


@pytest.mark.parametrize("newcomer", ["d", "b"])
def test_3_a_receiver_that_is_over_ends_once_though_a_will_waits_for_it(newcomer: str) -> None:
    world = _half_handed_out(session_expiry_interval=30)
    outcome = world.connect(9, newcomer)
    assert of_type(SessionEnded, outcome.notices) == [SessionEnded("b", EndReason.EXPIRED)]
    assert outcome.actions[0].reason_code == ReasonCode.SUCCESS
    world.slices(1)
    # the will came due before the session did: its copy was accepted and ended with the session
    counters = world.store.counters
    assert counters.accepted == 2
    assert counters.dropped == {DropReason.SESSION_ENDED: 1}


@pytest.mark.parametrize("limit", [0, -1])
def test_3_a_limit_is_above_zero(limit: int) -> None:
    with pytest.raises(InvalidValue, match="limit"):
        SessionStore().handle_timeout(0.0, limit)


# ---------------------------------------------------------------- 4. early, repeated, late


@EACH_THAT_WAITS
def test_4_an_early_call_does_nothing(kind: DeadlineKind) -> None:
    world, _ = situation(kind)
    for now in (0.0, 10.0, 10.0, 29.0):
        assert world.tick(now) == Outcome()
        assert world.store.next_deadline_at == 30.0


@EACH_KIND
def test_4_a_repeated_call_does_nothing(kind: DeadlineKind) -> None:
    world, is_settled = situation(kind)
    assert is_settled(world.tick(30.0))
    assert world.tick(30.0) == Outcome()


@EACH_KIND
def test_4_a_late_call_does_what_was_due(kind: DeadlineKind) -> None:
    world, is_settled = situation(kind)
    assert is_settled(world.tick(1000.0))


# ---------------------------------------------------------------- 5. handle settles what it reads

TAKE_OVER = ClientConnected(
    9, "a", clean_start=False, session_expiry_interval=NEVER, will=will("next")
)
READERS: dict[DeadlineKind, tuple[Event, ...]] = {
    DeadlineKind.MESSAGE_EXPIRY: (
        TAKE_OVER,
        ClientConnected(9, "a", clean_start=True),
        QueuePurged("a"),
        SessionDiscarded("a"),
        SessionExpirySet("a", 0),
        MessagePublished(Message("t", b"next", 1)),
        SubscriptionsAdded("a", (Subscription("x"),)),
    ),
    DeadlineKind.RETAINED_EXPIRY: (
        SubscribeReceived(2, 1, (Subscription("#"),)),
        SubscriptionsAdded("b", (Subscription("r"),)),
        MessagePublished(Message("r", b"next", retain=True)),
        MessagePublished(Message("r", b"", retain=True)),
    ),
    DeadlineKind.INBOUND_QOS2: (
        PublishReceived(1, Message("t", b"next", 2), 1),
        PublishReceived(1, Message("t", b"next", 1), 1),
        PubrelReceived(1, 1),
        SubscribeReceived(1, 1, (Subscription("x"),)),
        UnsubscribeReceived(1, 1, ("x",)),
        TAKE_OVER,
        QueuePurged("a"),
    ),
    DeadlineKind.KEEP_ALIVE: (
        PingReceived(1),
        PublishReceived(1, Message("t")),
        PubackReceived(1, 1),
        PubrecReceived(1, 1),
        PubrelReceived(1, 1),
        PubcompReceived(1, 1),
        SubscribeReceived(1, 1, (Subscription("x"),)),
        UnsubscribeReceived(1, 1, ("t",)),
        DisconnectReceived(1),
        MalformedPacketReceived(1),
        ConnectionCongested(1),
        ConnectionWritable(1),
        MessagePublished(Message("t", b"next", 1)),
        TAKE_OVER,
        SessionKicked("a"),
        SessionDiscarded("a"),
        SessionExpirySet("a", 5),
        SubscriptionsAdded("a", (Subscription("x"),)),
        SubscriptionsRemoved("a", ("t",)),
        QueuePurged("a"),
    ),
    DeadlineKind.WILL_DELAY: (
        TAKE_OVER,
        ClientConnected(9, "a", clean_start=True),
        WillRevoked("a"),
        SessionDiscarded("a"),
        SessionExpirySet("a", 0),
    ),
    DeadlineKind.SESSION_EXPIRY: (
        TAKE_OVER,
        MessagePublished(Message("t", b"next", 1)),
        ClientConnected(9, "", clean_start=True, assigned_client_id="a"),
    ),
}


@pytest.mark.parametrize(
    ("kind", "event"),
    [(kind, event) for kind, events in READERS.items() for event in events],
    ids=lambda value: value.name if isinstance(value, DeadlineKind) else type(value).__name__,
)
@pytest.mark.parametrize("now", [30.0, 45.0])
def test_5_an_event_finds_settled_what_it_reads(
    kind: DeadlineKind, event: Event, now: float
) -> None:
    """A host whose timer rang in time and one whose timer is late see the same."""
    late, is_settled = situation(kind)
    timely, _ = situation(kind)
    late.now = timely.now = now
    first = timely.tick()
    assert is_settled(first)
    second = timely.do(event)
    outcome = late.do(event)
    assert Counter(outcome.notices) == Counter(first.notices + second.notices)
    assert Counter(outcome.actions) == Counter(first.actions + second.actions)
    assert _visible(late.store) == _visible(timely.store)


def test_5_a_late_timer_never_resurrects_an_expired_session() -> None:
    world = World()
    world.parked("a", "t", session_expiry_interval=30)
    world.publish("t", b"for the old one", qos=1)
    world.now = 30.0
    outcome = world.connect(2, "a")
    assert not outcome.actions[0].session_present
    assert sent(outcome) == []
    assert world.session("a").subscriptions == ()


def test_5_a_publisher_is_told_that_nobody_is_left() -> None:
    world = World()
    world.parked("a", "t", session_expiry_interval=30)
    world.connect(2, "b")
    world.now = 30.0
    outcome = world.send(2, "t", qos=1, packet_id=1)
    assert outcome.actions == (SendPuback(2, 1, ReasonCode.NO_MATCHING_SUBSCRIBERS),)


def test_5_a_full_store_lets_in_whom_an_expired_session_makes_room_for() -> None:
    world = World(limits=SessionLimits(maximum_sessions=1))
    world.parked("a", session_expiry_interval=30)
    assert world.connect(2, "b").actions[0].reason_code == ReasonCode.QUOTA_EXCEEDED
    world.lose(2)
    world.now = 30.0
    outcome = world.connect(2, "b")
    assert outcome.actions[0].reason_code == ReasonCode.SUCCESS
    assert SessionEnded("a", EndReason.EXPIRED) in outcome.notices


def test_5_what_the_event_does_not_read_stays_due() -> None:
    world = World()
    world.parked("a", session_expiry_interval=30)
    world.parked("b", session_expiry_interval=30)
    world.now = 30.0
    world.connect(2, "b")
    assert world.next == Deadline(30.0, DeadlineKind.SESSION_EXPIRY, "a")
    assert "a" in world.store


def test_5_a_message_for_a_silent_connection_is_kept_for_the_next() -> None:
    world, _ = situation(DeadlineKind.KEEP_ALIVE)
    world.now = 30.0
    outcome = world.publish("t", b"kept", qos=1)
    assert sent(outcome) == []
    assert sent(world.connect(2, "a")) == [b"kept"]


# ---------------------------------------------------------------- 6. ties


def _all_at_once(world: World, kinds: list[DeadlineKind]) -> list[DeadlineKind]:
    """Deadlines of these kinds, each of a client of its own, all at 30; the order told."""
    for kind in kinds:
        name = kind.name
        if kind is DeadlineKind.MESSAGE_EXPIRY:
            world.parked(name, name, session_expiry_interval=NEVER)
            world.publish(name, qos=1, message_expiry_interval=30)
        elif kind is DeadlineKind.RETAINED_EXPIRY:
            world.publish(name, retain=True, message_expiry_interval=30)
        elif kind is DeadlineKind.INBOUND_QOS2:
            world.connect(name, name)
            world.send(name, "x", qos=2, packet_id=1)
        elif kind is DeadlineKind.RETRY:
            world.subscriber(name, name, name, protocol_version=4)
            world.publish(name, qos=1)
        elif kind is DeadlineKind.KEEP_ALIVE:
            world.connect(name, name, keep_alive=20, session_expiry_interval=NEVER)
        elif kind is DeadlineKind.WILL_DELAY:
            world.connect(name, name, will=will(delay=30), session_expiry_interval=NEVER)
            world.lose(name)
        elif kind is DeadlineKind.SESSION_EXPIRY:
            world.parked(name, name, session_expiry_interval=30)
    order = []
    world.now = 30.0
    while (deadline := world.next) is not None and deadline.at <= 30.0:
        order.append(deadline.kind)
        world.tick(limit=1)
    return order


@given(st.permutations([kind for kind in DeadlineKind if kind != DeadlineKind.RETAINED_REPLAY]))
@settings(max_examples=25)
def test_6_ties_run_in_the_order_of_the_members_of_deadline_kind(
    kinds: list[DeadlineKind],
) -> None:
    assert _all_at_once(new_world(), kinds) == sorted(kinds)


def test_6_a_replay_goes_before_what_ends_at_the_same_instant() -> None:
    world = new_world()
    for topic_name in ("r/1", "r/2"):
        world.publish(topic_name, retain=True, message_expiry_interval=31)
    world.parked("b", "b", session_expiry_interval=30)
    world.now = 30.0
    world.subscriber(1, "a", "r/#", qos=0)
    assert world.next == Deadline(30.0, DeadlineKind.RETAINED_REPLAY, "a")


def test_6_a_message_expires_before_its_session_and_says_so() -> None:
    world = World()
    world.parked("a", "t", session_expiry_interval=30)
    world.publish("t", b"short", qos=1, message_expiry_interval=30)
    world.publish("t", b"long", qos=1)
    outcome = world.tick(30.0)
    assert dropped(outcome) == [("a", b"short", "expired"), ("a", b"long", "session_ended")]


def test_6_a_will_and_its_session_at_one_instant_make_one_will() -> None:
    world = World()
    world.connect(1, "a", will=will(delay=30), session_expiry_interval=30)
    world.lose(1)
    outcome = world.tick(30.0)
    assert [type(notice) for notice in outcome.notices] == [WillPublished, SessionEnded]


# ---------------------------------------------------------------- 7. time that goes back


def test_7_time_that_goes_backwards_stands_still() -> None:
    world = World(now=100.0)
    world.connect(1, "a", session_expiry_interval=30)
    world.now = 40.0
    world.lose(1)
    assert world.store.next_deadline_at == 130.0
    world.now = 99.0
    world.connect(2, "a", keep_alive=10)
    assert world.store.next_deadline_at == 115.0
    world.tick(114.0)
    world.now = 50.0
    world.ping(2)
    assert world.store.next_deadline_at == 129.0


def test_7_what_was_due_stays_due_when_the_clock_goes_back() -> None:
    world = World()
    world.parked("a", session_expiry_interval=30)
    world.connect(2, "b")
    world.now = 30.0
    world.ping(2)
    assert of_type(SessionEnded, world.tick(10.0).notices)


def test_7_the_clock_goes_back_between_a_message_and_its_acknowledgement() -> None:
    world = World(now=100.0)
    world.subscriber(1, "a", "t", keep_alive=10)
    world.publish("t", qos=1)
    world.now = 0.0
    world.puback(1, 1)
    assert world.store.next_deadline_at == 115.0


# ---------------------------------------------------------------- 8. never late, never before


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_8_nothing_happens_before_the_deadline_that_was_told(steps: list[Step]) -> None:
    """A call just before the deadline comes to nothing, and one at the deadline does not."""
    life = Life(retry_interval=2)
    world = life.world
    for step in steps:
        life.step(step)
    for _ in range(30):
        deadline = world.next
        if deadline is None:
            break
        if deadline.at > world.now:
            before = world.now + (deadline.at - world.now) * 0.999
            assert world.tick(before) == Outcome()
            assert world.next == deadline
        seen = _visible(world.store)
        outcome = world.tick(max(world.now, deadline.at), limit=1)
        assert outcome != Outcome() or _visible(world.store) != seen


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_8_next_deadline_is_never_later_than_what_can_be_read(steps: list[Step]) -> None:
    life = Life()
    store = life.world.store
    for step in steps:
        life.step(step)
        ends: list[float] = []
        for session in (store[each] for each in store):
            ends += [at for at in (session.expires_at, session.will_due_at) if at is not None]
            ends += [each.expires_at for each in session.queued() if each.expires_at is not None]
        at = store.next_deadline_at
        if ends:
            assert at is not None
            assert at <= min(ends)


def test_8_the_head_is_exact_after_each_ping() -> None:
    world = World()
    world.connect(1, "a", keep_alive=20)
    for now in (10.0, 29.0, 50.0):
        world.now = now
        world.ping(1)
        assert world.next == Deadline(now + 30, DeadlineKind.KEEP_ALIVE, "a")
        assert world.store.next_deadline_at == now + 30


def test_8_the_head_is_exact_when_another_connection_becomes_the_silent_one() -> None:
    world = World()
    for connection, name in enumerate("abc"):
        world.now = float(connection)
        world.connect(connection, name, keep_alive=20)
    world.now = 10.0
    world.ping(0)
    assert world.next == Deadline(31.0, DeadlineKind.KEEP_ALIVE, "b")
    world.ping(1)
    assert world.next == Deadline(32.0, DeadlineKind.KEEP_ALIVE, "c")
    world.ping(2)
    assert world.next == Deadline(40.0, DeadlineKind.KEEP_ALIVE, "a")


def test_8_the_head_is_exact_when_the_message_that_expires_first_has_left() -> None:
    world = World()
    world.subscriber(1, "a", "t", receive_maximum=1)
    for seconds in (None, 10, 20):
        world.publish("t", qos=1, message_expiry_interval=seconds)
    assert world.store.next_deadline_at == 10.0
    world.puback(1, 1)
    assert world.store.next_deadline_at == 20.0
    world.puback(1, 2)
    assert world.store.next_deadline_at is None


def test_8_the_head_is_exact_when_an_inbound_identifier_was_released() -> None:
    world = World(policy=ExpiryPolicy(inbound_qos2_interval=30))
    world.connect(1, "a")
    for now in (0.0, 5.0, 8.0):
        world.now = now
        world.send(1, "t", qos=2, packet_id=1 + int(now))
    world.pubrel(1, 1)
    assert world.store.next_deadline_at == 35.0
    world.pubrel(1, 9)
    world.pubrel(1, 6)
    assert world.store.next_deadline_at is None


def test_8_the_head_is_exact_when_what_was_to_be_sent_again_was_acknowledged() -> None:
    world = World(policy=ExpiryPolicy(retry_interval=30))
    world.subscriber(1, "a", "t", protocol_version=4)
    for now in (0.0, 5.0):
        world.now = now
        world.publish("t", qos=1)
    assert world.store.next_deadline_at == 30.0
    world.puback(1, 1)
    assert world.store.next_deadline_at == 35.0
    world.puback(1, 2)
    assert world.store.next_deadline_at is None


def test_8_a_shorter_policy_brings_the_deadline_of_later_identifiers_forward() -> None:
    world = World()
    world.connect(1, "a", policy=ExpiryPolicy(inbound_qos2_interval=100))
    world.send(1, "t", qos=2, packet_id=1)
    world.connect(2, "a", policy=ExpiryPolicy(inbound_qos2_interval=10))
    world.send(2, "t", qos=2, packet_id=2)
    assert world.store.next_deadline_at == 10.0
    assert world.tick(10.0).notices == (InboundQos2TimedOut("a", 2),)
    assert world.store.next_deadline_at == 100.0


def test_8_reading_the_deadline_changes_nothing() -> None:
    for kind in DeadlineKind:
        world, _ = situation(kind)
        before = _visible(world.store)
        assert [world.next for _ in range(3)] == [before["next"]] * 3
        assert _visible(world.store) == before


def test_8_a_replay_whose_client_has_gone_is_no_deadline() -> None:
    world, _ = situation(DeadlineKind.RETAINED_REPLAY)
    world.lose(1)
    assert world.next == Deadline(3630.0, DeadlineKind.SESSION_EXPIRY, "a")
    outcome = world.connect(2, "a")
    assert sent(outcome, 2) == [b"-"]
    world.tick()
    assert world.next is None


# ---------------------------------------------------------------- 9. never is None


def test_9_a_session_that_never_expires_has_no_deadline() -> None:
    world = World()
    world.parked("a", session_expiry_interval=NEVER)
    assert world.session("a").session_expiry_interval is None
    assert world.session("a").expires_at is None
    assert world.next is None
    assert world.tick(1e12) == Outcome()
    assert "a" in world.store


def test_9_zero_is_no_deadline_but_an_end_at_once() -> None:
    world = World()
    world.connect(1, "a", session_expiry_interval=0)
    world.lose(1)
    assert world.next is None
    assert len(world.store) == 0


def test_9_a_message_without_an_interval_and_one_with_zero_have_no_deadline() -> None:
    world = World()
    world.parked("a", "t", session_expiry_interval=NEVER)
    world.publish("t", b"for ever", qos=1)
    outcome = world.publish("t", b"at once or never", qos=1, message_expiry_interval=0)
    assert dropped(outcome) == [("a", b"at once or never", "expired")]
    assert world.next is None


def test_9_the_longest_interval_that_ends_is_a_deadline() -> None:
    world = World()
    world.parked("a", session_expiry_interval=NEVER - 1)
    assert world.store.next_deadline_at == NEVER - 1


def test_9_keep_alive_zero_has_no_deadline() -> None:
    world = World()
    world.connect(1, "a", keep_alive=0, session_expiry_interval=NEVER)
    assert world.next is None
    assert world.ping(1).notices == ()


def test_9_a_will_that_is_withdrawn_leaves_no_deadline() -> None:
    world = World()
    world.connect(1, "a", will=will(delay=30), session_expiry_interval=NEVER)
    world.lose(1)
    assert world.do(WillRevoked("a")).notices == (WillDiscarded("a", will(delay=30).message),)
    assert world.next is None
