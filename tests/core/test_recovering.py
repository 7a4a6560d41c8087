"""A crash between any two calls: what the rows come to is what was there before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from mqtt_sessions import (
    ClientConnected,
    ConnectionLost,
    Delivery,
    DeliveryRemoved,
    DeliveryStored,
    DropReason,
    EpochStored,
    ExchangeStored,
    HeartbeatPassed,
    IdsReserved,
    InboundIdStored,
    InvalidState,
    InvalidValue,
    Message,
    MessageRemoved,
    MessageStored,
    OverlapPolicy,
    PingReceived,
    RetainedStored,
    SendConnack,
    SendPublish,
    ServerOptions,
    SessionExpirySet,
    SessionRemoved,
    SessionStore,
    SessionStored,
    Stored,
    Subscription,
    SubscriptionStored,
    Will,
    WillPublished,
    WillStored,
)
from mqtt_sessions.changes import row_of
from mqtt_sessions.journals import MemoryJournal
from mqtt_sessions.testing.durable import durable_view
from tests.core.helpers import World, of_type, will
from tests.core.histories import STEPS, Life, Step


def recovered(world: World, now: float | None = None) -> SessionStore:
    """The store that the rows of a world come to."""
    settings = world.store.snapshot()
    made = SessionStore.recover(
        list(world.rows.values()),
        world.now if now is None else now,
        settings.policy,
        settings.limits,
        settings.options,
    )
    assert made.set_aside == ()
    made.store.check()
    return made.store


@given(STEPS)
def test_rows_come_to_what_was_there(steps: list[Step]) -> None:
    life = Life(durable=True)
    world = life.world
    for step in steps:
        life.step(step)
        world.now = max(world.now, world.store.snapshot().now)
        before = world.store.snapshot()
        after = recovered(world).snapshot()
        assert durable_view(after, world.now) == durable_view(before, world.now)


def session(session_id: int, client_id: str, epoch: int = 1, **fields: object) -> SessionStored:
    values = {"connected": True, "expiry_interval": 60.0, "expires_at": None} | fields
    return SessionStored(
        session_id,
        client_id,
        epoch,
        values["connected"],  # type: ignore[arg-type]
        5,
        None,
        values["expiry_interval"],  # type: ignore[arg-type]
        values["expires_at"],  # type: ignore[arg-type]
        0,
        None,
        None,
    )


def delivery(number: int, qos: int = 1) -> Delivery:
    return Delivery(Message("t", b"%d" % number, qos), qos, False, (), float(number))


@pytest.mark.parametrize("given", ["nonsense", None, DeliveryRemoved(1), SessionRemoved(1)])
def test_what_is_no_row_is_the_hosts_mistake(given: Any) -> None:
    with pytest.raises(InvalidValue, match=f"rows hold {type(given).__name__}, which is no Stored"):
        SessionStore.recover([session(1, "a"), given], 5.0)


@pytest.mark.parametrize("given", [None, 5, MemoryJournal()])
def test_a_journal_is_not_its_rows(given: Any) -> None:
    with pytest.raises(InvalidValue, match=rf"load\(\) gives, not {type(given).__name__}"):
        SessionStore.recover(given, 5.0)


@pytest.mark.parametrize("given", ["nonsense", None, Delivery(Message("t", b"m"), 0)])
def test_what_is_no_change_has_no_row(given: Any) -> None:
    with pytest.raises(InvalidValue, match=f"Change was expected, not {type(given).__name__}"):
        row_of(given)


def test_rows_that_make_no_sense_cost_nothing_but_themselves() -> None:
    good = DeliveryStored(20, 1, None, delivery(1))
    made = SessionStore.recover(
        [
            DeliveryStored(21, 9, None, delivery(2)),  # nobody's
            SubscriptionStored(9, Subscription("t")),
            InboundIdStored(9, 1, None),
            session(1, "a"),
            session(2, "b"),
            session(3, "b"),  # a later one of the same client
            good,
            SubscriptionStored(1, Subscription("t/#/u")),
            SubscriptionStored(1, Subscription("t")),
            InboundIdStored(1, 0, None),
            InboundIdStored(1, 70_000, None),
            ExchangeStored(1, 5, 30, 99),  # its message is lost
            ExchangeStored(1, 6, 31, 20),  # not of QoS 2
            RetainedStored(Message("t/+", b"x"), 1.0, None, None, None),
            RetainedStored(Message("t", b""), 1.0, None, None, None),
        ],
        100.0,
    )
    store = made.store
    store.check()
    assert sorted(each.row for each in made.set_aside) == [
        ("delivery", 21),
        ("exchange", 1, 5),
        ("exchange", 1, 6),
        ("inbound", 1, 0),
        ("inbound", 1, 70_000),
        ("inbound", 9, 1),
        ("retained", "t"),
        ("retained", "t/+"),
        ("session", 2),
        ("subscription", 1, "t/#/u"),
        ("subscription", 9, "t"),
    ]
    assert set(store) == {"a", "b"}
    assert store["a"].queued() == (good.delivery,)
    # their identifiers stay taken: the receiver may know them
    assert [each.packet_id for each in store["a"].in_flight] == [5, 6]


@pytest.mark.parametrize("number", [-1, 0, 2**62 + 1, 2**63])
def test_an_identifier_that_was_never_given_out_is_no_name(number: int) -> None:
    """The next run would go on behind it, and no journal could hold what comes then."""
    message = Message("t", b"m", 1)
    made = SessionStore.recover(
        [
            session(1, "a"),
            session(number, "b"),
            MessageStored(number, message, 1.0, None, None, None),
            DeliveryStored(number, 1, None, delivery(1)),
            DeliveryStored(number, 5, None, delivery(1)),
        ],
        100.0,
    )
    made.store.check()
    assert [each.row for each in made.set_aside] == [
        ("session", number),
        ("message", number),
        ("delivery", number),
        ("delivery", number),
    ]
    assert list(made.store) == ["a"]
    event = ClientConnected("x", "x", session_expiry_interval=9)
    changes = made.store.handle(event, 101.0).changes
    reserved = [each.below for each in changes if isinstance(each, IdsReserved)]
    assert reserved
    assert max(reserved) < 2**30


def test_what_no_client_could_be_sent_is_set_aside() -> None:
    """Else its session would be sent it first, at each connection, for ever."""
    bad = Delivery(Message("t/+", b"x", 2), 2, False, (), 1.0)
    rows: list[Stored] = [
        session(1, "a"),
        session(2, "b", expiry_interval=0.0),
        session(3, "c", expiry_interval=float("inf")),
        DeliveryStored(20, 1, None, bad),
        DeliveryStored(21, 1, None, delivery(1, 2)),
        DeliveryStored(22, 1, None, delivery(2, 2)),
        ExchangeStored(1, 5, 30, 20),
        ExchangeStored(1, 6, 31, 21),
        ExchangeStored(1, 7, 32, 21),  # another one's
        ExchangeStored(1, 8, 33, 22, True),  # given up, and not
        WillStored("a", Will(Message("t#", b"x")), None, 1, None),
    ]
    made = SessionStore.recover(rows, 100.0)
    made.store.check()
    assert sorted(each.row for each in made.set_aside) == [
        ("delivery", 20),
        *(("exchange", 1, packet_id) for packet_id in (5, 7, 8)),
        ("session", 2),
        ("session", 3),
        ("will", "a"),
    ]
    assert set(made.store) == {"a"}
    assert [each.packet_id for each in made.store["a"].in_flight] == [5, 6, 7, 8]
    assert made.store["a"].queued() == (delivery(2, 2),)


def test_a_call_that_raises_leaves_what_a_new_run_owes_its_journal() -> None:
    orphan = MessageStored(10, Message("t", b"x"), 1.0, None, None, None)
    rows: list[Stored] = [session(1, "a"), orphan]
    store = SessionStore.recover(rows, 100.0).store
    before = store.snapshot()
    with pytest.raises(InvalidState):
        store.handle(PingReceived("nobody"), 100.0)
    assert store.snapshot() == before
    assert store.handle_timeout(100.0).changes == (
        EpochStored(2, 100.0, 100.0),
        MessageRemoved(10),
    )


def test_messages_that_nobody_refers_to_are_removed_with_the_first_changes() -> None:
    one = delivery(1)
    rows = [
        session(1, "a"),
        *(MessageStored(each, one.message, 1.0, None, None, None) for each in (10, 20)),
        DeliveryStored(10, 1, 10, one),
    ]
    store = SessionStore.recover(rows, 100.0).store
    assert store.snapshot() == SessionStore.restore(store.snapshot()).snapshot()
    outcome = store.handle_timeout(100.0)
    assert [each for each in outcome.changes if isinstance(each, MessageRemoved)] == [
        MessageRemoved(20)
    ]


def test_the_epoch_goes_on_though_its_own_row_is_lost() -> None:
    store = SessionStore.recover([session(1, "a", epoch=4)], 100.0).store
    assert store["a"].expires_at == 160.0
    (epoch,) = (
        each for each in store.handle_timeout(100.0).changes if isinstance(each, EpochStored)
    )
    assert epoch == EpochStored(5, 100.0, 100.0)


def test_identifiers_go_on_behind_the_highest_that_is_seen() -> None:
    rows = [session(7, "a"), IdsReserved(3), DeliveryStored(900, 7, None, delivery(1))]
    durable = SessionStore.recover(rows, 100.0).store.snapshot().durable
    assert durable is not None
    assert durable.next_id == 901


def test_a_queue_is_in_order_of_arrival_whatever_the_order_of_rows() -> None:
    rows = [
        DeliveryStored(22, 1, None, delivery(3)),
        DeliveryStored(21, 1, None, delivery(5)),
        session(1, "a"),
        DeliveryStored(20, 1, None, delivery(4)),
    ]
    store = SessionStore.recover(rows, 100.0).store
    assert [each.received_at for each in store["a"].queued()] == [3.0, 4.0, 5.0]
    store.check()


def crash(world: World) -> None:
    """The process ends, and a new one goes on with the rows."""
    world.store = recovered(world)
    world.note(world.store.handle_timeout(world.now))


def test_a_will_waits_from_the_crash_that_cut_it_and_from_no_later_one() -> None:
    world = World(durable=True)
    world.connect(1, "a", session_expiry_interval=100, will=will("t", 10, b"will"))
    world.now = 5.0
    crash(world)
    world.do(SessionExpirySet("a", 50))  # the session's row is of this run, its will's of the last
    world.now = 9.0
    crash(world)
    assert world.session("a").will_due_at == 15.0


def test_what_was_given_up_before_a_crash_is_not_counted_again() -> None:
    world = World(durable=True, size_of=lambda delivery, version: len(delivery.message.payload))
    world.subscriber(1, "a", "t", qos=2)
    world.publish("t", b"large", qos=2)
    world.lose(1)
    world.connect(2, "a", maximum_packet_size=3)  # too large to be sent again: PUBREL ends it
    assert world.session("a").counters.dropped == {DropReason.TOO_LARGE: 1}
    store = SessionStore.recover(
        list(world.rows.values()), world.now, size_of=lambda delivery, version: 1
    ).store
    assert store.counters.accepted == 0
    assert store["a"].counters.completed == 0


def test_a_call_that_cannot_be_done_swallows_nothing_of_the_journal() -> None:
    """The first call of a run tells of the run: a second crash does not cut again."""
    world = World(durable=True)
    world.connect(1, "a", session_expiry_interval=10)
    one = delivery(1)
    lost = MessageStored(900, one.message, 1.0, None, None, None)
    world.rows[row_of(lost)] = lost
    world.now = 100.0
    world.store = recovered(world)
    with pytest.raises(InvalidState):
        world.lose("unknown")
    world.tick()
    assert row_of(lost) not in world.rows
    world.now = 109.0
    world.store = recovered(world)
    assert world.session("a").expires_at == 110.0


def test_a_heartbeat_may_be_the_first_call_of_a_run() -> None:
    lost = MessageStored(900, delivery(1).message, 1.0, None, None, None)
    store = SessionStore.recover([lost], 100.0).store
    changes = store.handle(HeartbeatPassed(), 101.0).changes
    assert changes == (EpochStored(1, 100.0, 101.0), MessageRemoved(900))


def test_a_run_begins_with_its_recovery_and_not_with_its_first_call() -> None:
    """Where the first crash cut a session, the second one does."""
    world = World(durable=True)
    world.connect(1, "a", session_expiry_interval=10, will=will("t", 7))
    world.now = 100.0
    world.store = recovered(world)
    assert world.session("a").expires_at == 110.0
    world.tick(104.0)
    world.now = 105.0
    world.store = recovered(world)
    assert world.session("a").expires_at == 110.0
    assert world.session("a").will_due_at == 107.0


def test_no_crash_cuts_a_connection_before_it_was_made() -> None:
    """The last heartbeat may be older than the connection."""
    world = World(durable=True)
    world.do(HeartbeatPassed())
    world.now = 59.0
    world.connect(1, "a", session_expiry_interval=10, will=will("t", 5))
    world.connect(2, "b", session_expiry_interval=0, will=will("t", 5))
    store = SessionStore.recover(list(world.rows.values()), 60.0, cut_at_heartbeat=True).store
    assert store["a"].expires_at == 69.0
    assert store["a"].will_due_at == 64.0
    assert store["b"].expires_at == 59.0


@pytest.mark.parametrize("at_heartbeat", [True, False])
def test_what_ended_with_its_connection_stays_so_though_the_clock_was_set_back(
    at_heartbeat: bool,
) -> None:
    world = World(durable=True, now=1000.0)
    world.connect(1, "a", session_expiry_interval=0, will=will("t", 0, b"will"))
    if not at_heartbeat:
        world.store = recovered(world)  # a run that did not get far
        world.note(world.store.handle(HeartbeatPassed(), 1000.0))
    store = SessionStore.recover(
        list(world.rows.values()), 500.0, cut_at_heartbeat=at_heartbeat
    ).store
    outcome = store.handle(ClientConnected(2, "a", 5, clean_start=False), 500.0)
    (connack,) = of_type(SendConnack, outcome.actions)
    assert not connack.session_present
    assert of_type(WillPublished, outcome.notices)


def test_what_was_sent_is_sent_again_whatever_it_was_in_the_queue() -> None:
    """NN-2.8: RETAIN of a live message is 0 for MQTT 3.x, which is about packets alone."""
    world = World(durable=True)
    world.connect(1, "a")
    world.subscribe(1, Subscription("t", 2, retain_as_published=True))
    world.lose(1)
    for qos in (1, 2):
        world.publish("t", b"%d" % qos, qos=qos, retain=True)
    world.connect(2, "a", protocol_version=4)
    before = world.store.snapshot()
    after = recovered(world).snapshot()
    assert durable_view(after, 0.0) == durable_view(before, 0.0)
    assert [each.delivery.retain for each in of_type(SendPublish, world.actions)] == [False] * 2
    same = SessionStore.restore(before)
    same.handle(ConnectionLost(2), 0.0)
    for store in (same, recovered(world)):
        outcome = store.handle(ClientConnected(3, "a", 5, clean_start=False), 0.0)
        again = of_type(SendPublish, outcome.actions)
        assert [each.delivery.retain for each in again] == [True, True]
    world.puback(2, 1)
    world.pubrec(2, 2)
    world.pubcomp(2, 2)
    assert not [row for row in world.rows if row[0] in ("delivery", "message", "exchange")]


@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("keeps_retain", ["t/#", "t/+", "t/u"])
def test_copies_of_one_message_go_on_in_the_order_in_which_they_were_made(
    window: int, keeps_retain: str
) -> None:
    """MQTT-4.6.0-1: with one for each subscription, some sent the short way and some not."""
    world = World(durable=True, options=ServerOptions(overlap=OverlapPolicy.EACH))
    world.subscriber(1, "a", "x", qos=2, receive_maximum=window)
    world.publish("x", qos=2)
    world.pubrec(1, 1)
    world.pubcomp(1, 1)
    for number, wanted in enumerate(("t/#", "t/+", "t/u")):
        keeps = wanted == keeps_retain
        world.subscribe(1, Subscription(wanted, 2, False, keeps, 0, number + 1))
    world.publish("t/u", qos=2, retain=True)
    before = world.store.snapshot()
    after = recovered(world).snapshot()
    assert durable_view(after, 0.0) == durable_view(before, 0.0)


def test_subscriptions_of_a_session_that_becomes_durable_keep_their_order() -> None:
    world = World(durable=True)
    world.subscriber(1, "a", "b", "a", session_expiry_interval=0)
    world.do(SessionExpirySet("a", 60))
    world.subscribe(1, "c")
    wanted = [each.topic_filter for each in world.session("a").subscriptions]
    assert [each.topic_filter for each in recovered(world)["a"].subscriptions] == wanted


def test_the_latest_arrival_is_known_whatever_the_order_of_rows() -> None:
    """What arrives next must not wait before it, though the clock was set back [MQTT-4.6.0-5]."""
    rows = [
        session(1, "a"),
        session(2, "b"),
        DeliveryStored(100, 1, None, delivery(10)),
        DeliveryStored(50, 2, None, delivery(20)),
    ]
    store = SessionStore.recover(rows, 5.0).store
    assert store.snapshot().arrived_at == 20.0


@pytest.mark.parametrize("now", [float("nan"), float("inf"), -float("inf")])
def test_a_run_begins_at_an_instant(now: float) -> None:
    with pytest.raises(InvalidValue, match="now must be a finite number of seconds"):
        SessionStore.recover((), now)


def test_what_waits_counts_as_accepted_by_the_session_and_by_the_store() -> None:
    world = World(durable=True)
    world.subscriber(1, "a", "t", qos=1)
    world.lose(1)
    world.publish("t", b"1", qos=1)
    world.publish("t", b"2", qos=1)
    store = recovered(world)
    assert (store.counters.accepted, store["a"].counters.accepted) == (2, 2)


def test_check_looks_at_the_names_of_rows_too() -> None:
    world = World(durable=True)
    world.connect(1, "a", session_expiry_interval=10)
    recorder = world.store._turn.recorder
    assert recorder is not None
    recorder.next_id = 0
    with pytest.raises(AssertionError):
        world.store.check()
