"""Regressions: what a close reading of the standard found, each told as it was found."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    ClientConnected,
    CloseConnection,
    ConnectionLost,
    DeliverMessage,
    Delivery,
    DropReason,
    ExpiryPolicy,
    InvalidState,
    InvalidValue,
    LimitsChanged,
    Message,
    MessageDropped,
    MessagePublished,
    OverlapPolicy,
    PubackReceived,
    PublishReceived,
    QueuePurged,
    ReasonCode,
    SendDisconnect,
    SendPublish,
    SendSuback,
    ServerOptions,
    ServerStopping,
    Session,
    SessionDiscarded,
    SessionEnded,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
    UnsubscribeReceived,
    Will,
)
from mqtt_sessions.turn import Outcome

from .helpers import spec


def payloads(*outcomes: Outcome) -> list[bytes]:
    return [
        action.delivery.message.payload
        for outcome in outcomes
        for action in outcome.actions
        if isinstance(action, SendPublish)
    ]


def waiting_replay() -> SessionStore:
    """A subscriber whose window is full, and a retained message `r` that waits for it."""
    store = SessionStore(limits=SessionLimits(maximum_send_window=1))
    store.handle(ClientConnected("p", "publisher"), 0.0)
    store.handle(PublishReceived("p", Message("r", b"retained", 1, True), 1), 0.0)
    store.handle(ClientConnected("s", "subscriber"), 0.0)
    store.handle(SubscribeReceived("s", 1, (Subscription("x", 1),)), 0.0)
    store.handle(PublishReceived("p", Message("x", b"x", 1), 1), 0.0)
    store.handle(SubscribeReceived("s", 2, (Subscription("r", 1),)), 1.0)
    return store


@spec("5.0 MQTT-3.3.1-9", "3.1.1 MQTT-3.3.1-6")
@pytest.mark.parametrize("lost", ["at once", "while it waits", "purged"])
def test_retained_message_is_sent_though_a_newer_live_one_was_dropped(lost: str) -> None:
    store = waiting_replay()
    interval = {"at once": 0, "while it waits": 5, "purged": None}[lost]
    live = Message("r", b"live", 1, False, interval)
    dropped = [store.handle(PublishReceived("p", live, 1), 1.0)]
    dropped.append(store.handle_timeout(10.0))
    dropped.append(store.handle(QueuePurged("subscriber"), 10.0))
    notices = [notice for outcome in dropped for notice in outcome.notices]
    assert [notice.delivery.message.payload for notice in notices] == [b"live"]
    assert payloads(store.handle(PubackReceived("s", 1), 11.0)) == [b"retained"]


@spec("5.0 MQTT-4.6.0-5", "3.1.1 MQTT-4.6.0-6 (e)")
def test_retained_copy_does_not_overtake_older_live_messages_of_its_topic() -> None:
    store = waiting_replay()
    sent = []
    for number in range(2):
        message = Message("r", b"M%d" % number, 1, True)
        sent.append(store.handle(PublishReceived("p", message, 1), 2.0 + number))
    sent.append(store.handle(SubscribeReceived("s", 3, (Subscription("r", 1),)), 5.0))
    for packet_id in range(1, 8):
        sent.append(store.handle(PubackReceived("s", packet_id), 6.0))
        sent.append(store.handle_timeout(6.0))
    order = payloads(*sent)
    assert order == [b"M0", b"M1", b"M1"]


@spec("5.0 MQTT-3.3.2-5")
def test_message_that_expired_on_its_way_from_the_router_is_not_sent() -> None:
    session = Session("c")
    session.handle(ClientConnected("c", "c"), 0.0)
    message = Message("t", b"x", 1, message_expiry_interval=5)
    delivery = Delivery(message, 1, received_at=0.0, expires_at=5.0, message_expiry_interval=5)
    outcome = session.handle(DeliverMessage(delivery), 100.0)
    assert outcome.actions == ()
    assert outcome.notices == (MessageDropped("c", delivery, DropReason.EXPIRED),)


@spec("5.0 MQTT-3.3.2-5")
def test_will_that_expired_between_two_slices_is_not_sent() -> None:
    store = SessionStore()
    for name in ("a", "b"):
        store.handle(ClientConnected(name, name), 0.0)
        store.handle(SubscribeReceived(name, 1, (Subscription("w", 1),)), 0.0)
    will = Will(Message("w", b"gone", 1, message_expiry_interval=5), 10)
    connect = ClientConnected("w", "w", session_expiry_interval=3600, will=will)
    store.handle(connect, 0.0)
    store.handle(ConnectionLost("w"), 0.0)
    assert payloads(store.handle_timeout(10.0, limit=2)) == [b"gone"]
    late = store.handle_timeout(100.0, limit=2)
    assert payloads(late) == []
    assert [notice.reason for notice in late.notices] == [DropReason.EXPIRED]


def test_will_expires_by_the_policy_that_its_client_brought() -> None:
    store = SessionStore()
    store.handle(ClientConnected("s", "s", 5, False, 3600), 0.0)
    store.handle(SubscribeReceived("s", 1, (Subscription("w", 1),)), 0.0)
    store.handle(ConnectionLost("s"), 0.0)
    policy = ExpiryPolicy(default_message_expiry_interval=5)
    will = Will(Message("w", b"gone", 1))
    store.handle(ClientConnected("c", "c", will=will, policy=policy), 0.0)
    store.handle(ConnectionLost("c"), 1.0)
    (queued,) = store["s"].queued()
    assert queued.expires_at == 6.0


@pytest.mark.parametrize("field", ["minimum", "maximum"])
def test_interval_that_clients_are_told_is_whole_seconds(field: str) -> None:
    with pytest.raises(InvalidValue, match="whole seconds"):
        ExpiryPolicy(**{f"{field}_session_expiry_interval": 10.5})


@spec("5.0 MQTT-3.8.3-3")
@pytest.mark.parametrize("filters", [("t",), ("t", "+")])
def test_no_local_is_told_and_not_counted(filters: tuple[str, ...]) -> None:
    store = SessionStore()
    store.handle(ClientConnected("c", "c"), 0.0)
    wanted = tuple(Subscription(each, 0, no_local=True) for each in filters)
    store.handle(SubscribeReceived("c", 1, wanted), 0.0)
    outcome = store.handle(PublishReceived("c", Message("t", b"own")), 0.0)
    assert outcome.actions == ()
    assert [notice.reason for notice in outcome.notices] == [DropReason.NO_LOCAL]
    assert store.counters.accepted == 0
    assert store.counters.dropped == {}


@pytest.mark.parametrize("event", [PubackReceived, PublishReceived])
def test_unhashable_connection_is_the_hosts_fault(event: type) -> None:
    second = Message("t") if event is PublishReceived else 1
    with pytest.raises(InvalidState, match="hashable"):
        SessionStore().handle(event([], second), 0.0)


def test_new_limits_hold_for_a_client_that_brought_only_a_policy() -> None:
    store = SessionStore()
    store.handle(ClientConnected("a", "a", policy=ExpiryPolicy()), 0.0)
    store.handle(ClientConnected("b", "b", limits=SessionLimits()), 0.0)
    store.handle(LimitsChanged(SessionLimits(maximum_subscriptions=0)), 0.0)
    codes = []
    for name in ("a", "b"):
        (action,) = store.handle(SubscribeReceived(name, 1, (Subscription("t"),)), 0.0).actions
        assert isinstance(action, SendSuback)
        codes += action.reason_codes
    assert codes == [ReasonCode.QUOTA_EXCEEDED, ReasonCode.SUCCESS]


def test_stopping_server_finds_a_silent_connection_over() -> None:
    store = SessionStore()
    store.handle(ClientConnected("c", "c", keep_alive=10), 0.0)
    outcome = store.handle(ServerStopping(), 100.0)
    assert outcome.actions == (
        SendDisconnect("c", ReasonCode.KEEP_ALIVE_TIMEOUT),
        CloseConnection("c", ReasonCode.KEEP_ALIVE_TIMEOUT),
    )


@spec("5.0 MQTT-3.1.2-24")
@pytest.mark.parametrize(("entries", "fits"), [(15, True), (16, False)])
def test_answer_above_the_clients_maximum_packet_size_closes(entries: int, fits: bool) -> None:
    """SUBACK and UNSUBACK: 5 bytes and one for each filter; neither can be cut or left out."""
    for answered in ("subscribe", "unsubscribe"):
        store = SessionStore()
        store.handle(ClientConnected("c", "c", maximum_packet_size=20), 0.0)
        filters = tuple(f"t/{number}" for number in range(entries))
        event: SubscribeReceived | UnsubscribeReceived
        if answered == "subscribe":
            event = SubscribeReceived("c", 1, tuple(map(Subscription, filters)))
        else:
            event = UnsubscribeReceived("c", 1, filters)
        actions = store.handle(event, 0.0).actions
        if fits:
            assert len(actions) == 1
        else:
            assert actions[0] == SendDisconnect("c", ReasonCode.PACKET_TOO_LARGE)
            assert "c" not in store


@spec("5.0 MQTT-3.3.2-6")
@pytest.mark.parametrize("start", [0.1, 0.7, 1_700_000_000.1])
def test_interval_left_is_told_without_the_noise_of_the_clock(start: float) -> None:
    store = SessionStore()
    store.handle(ClientConnected("s", "s", 5, False, 3600), start)
    store.handle(SubscribeReceived("s", 1, (Subscription("t", 1),)), start)
    store.handle(ConnectionLost("s"), start)
    store.handle(ClientConnected("p", "p"), start)
    store.handle(PublishReceived("p", Message("t", b"x", 1, message_expiry_interval=10), 1), start)
    outcome = store.handle(ClientConnected("s2", "s", 5, False, 3600), start + 4)
    (publish,) = [each for each in outcome.actions if isinstance(each, SendPublish)]
    assert publish.message_expiry_interval == 6


def test_delivery_of_a_lone_session_expires_by_its_message_or_its_policy() -> None:
    session = Session("c", ExpiryPolicy(default_message_expiry_interval=5))
    session.handle(ClientConnected("c", "c", 5, False, 3600), 100.0)
    session.handle(ConnectionLost("c"), 100.0)
    for interval in (6, None):
        message = Message("t", b"x", 1, message_expiry_interval=interval)
        session.handle(DeliverMessage(Delivery(message, 1)), 100.0)
    assert [each.expires_at for each in session.queued()] == [106.0, 105.0]
    assert [each.message_expiry_interval for each in session.queued()] == [6, None]


@pytest.mark.parametrize("now", [True, "1", None, 10**400, float("nan"), float("inf")])
def test_clock_that_is_no_finite_number_is_the_hosts_fault(now: object) -> None:
    store = SessionStore()
    for call in (store.handle_timeout, lambda at: store.handle(ServerStopping(), at)):
        with pytest.raises(InvalidValue, match="now"):
            call(now)  # type: ignore[operator]
    assert store.handle(ServerStopping(), 1) == Outcome()


def test_who_makes_room_does_not_depend_on_what_was_read() -> None:
    ended = []
    for reads in (False, True):
        store = SessionStore()
        for name, interval in (("x", 2), ("z", 6), ("y", 2)):
            store.handle(ClientConnected(name, name, 5, False, interval), 0.0)
        store.handle(ConnectionLost("x"), 0.0)
        store.handle(ConnectionLost("z"), 0.0)
        store.handle(ConnectionLost("y"), 1.5)
        store.handle(SessionDiscarded("x"), 1.5)
        if reads:
            assert store.next_deadline_at == 3.5
        store.handle(LimitsChanged(SessionLimits(maximum_sessions=1)), 1.5)
        outcome = store.handle(ClientConnected("new", "new"), 10.0)
        ends = [each.client_id for each in outcome.notices if isinstance(each, SessionEnded)]
        ended.append(ends)
    assert ended == [["y", "z"]] * 2


def test_packet_with_too_many_filters_is_closed() -> None:
    store = SessionStore(limits=SessionLimits(maximum_filters_per_packet=2))
    store.handle(ClientConnected("c", "c"), 0.0)
    wanted = (Subscription("a"),) * 3
    outcome = store.handle(SubscribeReceived("c", 1, wanted), 0.0)
    assert outcome.actions[0] == SendDisconnect("c", ReasonCode.QUOTA_EXCEEDED)


@pytest.mark.parametrize("overlap", list(OverlapPolicy))
def test_will_in_slices_honors_overlapping_subscriptions(overlap: OverlapPolicy) -> None:
    store = SessionStore(options=ServerOptions(overlap=overlap))
    store.handle(ClientConnected("a", "a"), 0.0)
    wanted = (Subscription("w", 0, subscription_id=1), Subscription("+", 1, subscription_id=2))
    for number, each in enumerate(wanted):
        store.handle(SubscribeReceived("a", number + 1, (each,)), 0.0)
    will = Will(Message("w", b"gone", 1), 10)
    store.handle(ClientConnected("w", "w", session_expiry_interval=3600, will=will), 0.0)
    store.handle(ConnectionLost("w"), 0.0)
    sent = []
    while store.next_deadline_at is not None and store.next_deadline_at <= 10.0:
        sent += store.handle_timeout(10.0, limit=1).actions
        store.check()
    ids = sorted(action.delivery.subscription_ids for action in sent)
    assert ids == ([(1, 2)] if overlap is OverlapPolicy.MERGE else [(1,), (2,)])


def test_batch_with_an_unhashable_connection_is_refused_whole() -> None:
    store = SessionStore()
    store.handle(ClientConnected("c", "c"), 0.0)
    store.handle(SubscribeReceived("c", 1, (Subscription("t"),)), 0.0)
    batch = [PublishReceived("c", Message("t")), PubackReceived([], 1)]  # type: ignore[arg-type]
    with pytest.raises(InvalidState, match="not known"):
        store.handle_many(batch, 0.0)
    assert store.counters.accepted == 0


def test_pages_have_at_least_one_entry() -> None:
    store = SessionStore()
    store.handle(ClientConnected("c", "c"), 0.0)
    for page in (store.page, store.retained, store["c"].queued):
        with pytest.raises(InvalidValue, match="limit"):
            page(limit=0)


def test_will_goes_out_once_for_each_of_three_overlapping_subscriptions() -> None:
    store = SessionStore(options=ServerOptions(overlap=OverlapPolicy.EACH))
    store.handle(ClientConnected("a", "a"), 0.0)
    wanted = tuple(map(Subscription, ("w", "+", "#")))
    store.handle(SubscribeReceived("a", 1, wanted), 0.0)
    store.handle(ClientConnected("w", "w", will=Will(Message("w", b"gone"))), 0.0)
    assert payloads(store.handle(ConnectionLost("w"), 0.0)) == [b"gone"] * 3


def test_filters_without_retained_messages_are_looked_through_slice_by_slice() -> None:
    store = SessionStore(limits=SessionLimits(retained_replay_batch=1))
    store.handle(MessagePublished(Message("last", b"retained", 0, True)), 0.0)
    store.handle(ClientConnected("c", "c"), 0.0)
    wanted = (*(Subscription(f"none/{number}") for number in range(100)), Subscription("last"))
    assert payloads(store.handle(SubscribeReceived("c", 1, wanted), 0.0)) == []
    slices = []
    while store.next_deadline_at == 0.0:
        slices.append(store.handle_timeout(0.0, limit=1))
        store.check()
    assert len(slices) > 5
    assert payloads(*slices) == [b"retained"]


def test_retry_that_would_never_end_is_refused() -> None:
    with pytest.raises(InvalidValue, match="retry_interval must be at least"):
        ExpiryPolicy(retry_interval=1e-9)
