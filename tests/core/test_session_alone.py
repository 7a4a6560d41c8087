"""A session without a store: its host has the router, and answers what it is asked to route."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtt_sessions import (
    ClientConnected,
    CloseConnection,
    ConnectionLost,
    Counters,
    Deadline,
    DeadlineKind,
    DeliverMessage,
    Delivery,
    DropReason,
    EndReason,
    ExpiryPolicy,
    FilterAdded,
    FilterRemoved,
    InboundQos2TimedOut,
    InvalidState,
    InvalidValue,
    LimitsChanged,
    Message,
    MessagePublished,
    MessageRouted,
    Outcome,
    PingReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    QueuePurged,
    ReasonCode,
    RouteMessage,
    SendDisconnect,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    ServerOptions,
    ServerStopping,
    Session,
    SessionDiscarded,
    SessionEnded,
    SessionExpirySet,
    SessionKicked,
    SessionLimits,
    SubscribeReceived,
    Subscription,
    SubscriptionsAdded,
    SubscriptionsRemoved,
    UnsubscribeReceived,
    WillPublished,
    WillRevoked,
)
from tests.core.helpers import Alone, dropped, of_type, sent, will

SUCCESS = ReasonCode.SUCCESS


def connected(version: int = 5, **settings: object) -> Alone:
    alone = Alone(**settings)
    alone.connect(1, protocol_version=version)
    return alone


# ---------------------------------------------------------------- routing


def test_a_qos_0_message_needs_no_answer() -> None:
    alone = connected()
    message = Message("t", b"m")
    assert alone.send(1, "t", b"m").actions == (RouteMessage(message, None, "a"),)


@pytest.mark.parametrize(("qos", "answer"), [(1, SendPuback), (2, SendPubrec)])
@pytest.mark.parametrize("code", [0x00, 0x10])
def test_the_acknowledgement_appears_with_the_routers_answer(
    qos: int, answer: type, code: int
) -> None:
    alone = connected()
    outcome = alone.send(1, "t", b"m", qos=qos, packet_id=7)
    assert outcome.actions == (RouteMessage(Message("t", b"m", qos), 1, "a"),)
    assert alone.routed(1, code).actions == (answer(1, 7, ReasonCode(code)),)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_acknowledgements_leave_in_receive_order_however_they_are_routed(
    qos: int, order: tuple[int, ...]
) -> None:
    """MQTT-4.6.0-2, MQTT-4.6.0-3."""
    alone = connected()
    for packet_id in (10, 20, 30):
        alone.send(1, "t", qos=qos, packet_id=packet_id)
    actions = [action for route_id in order for action in alone.routed(route_id).actions]
    assert [action.packet_id for action in actions] == [10, 20, 30]


def test_the_two_qualities_do_not_wait_for_each_other() -> None:
    alone = connected()
    alone.send(1, "t", qos=1, packet_id=1)
    alone.send(1, "t", qos=2, packet_id=2)
    assert alone.routed(2).actions == (SendPubrec(1, 2, SUCCESS),)
    assert alone.routed(1).actions == (SendPuback(1, 1, SUCCESS),)


def test_an_answer_that_waits_for_an_earlier_one_keeps_its_code() -> None:
    alone = connected()
    for packet_id in (1, 2):
        alone.send(1, "t", qos=1, packet_id=packet_id)
    assert alone.routed(2, 0x87).actions == ()
    assert alone.routed(1, 0x10).actions == (
        SendPuback(1, 1, ReasonCode.NO_MATCHING_SUBSCRIBERS),
        SendPuback(1, 2, ReasonCode.NOT_AUTHORIZED),
    )


@pytest.mark.parametrize("route_id", [0, -1, 2, 99])
def test_an_answer_to_what_was_never_asked_raises_and_changes_nothing(route_id: int) -> None:
    alone = connected()
    alone.send(1, "t", qos=1, packet_id=1)
    with pytest.raises(InvalidState, match="never given"):
        alone.session.handle(MessageRouted(route_id), 1e9)
    assert alone.routed(1).actions == (SendPuback(1, 1, SUCCESS),)


def test_a_second_answer_does_nothing() -> None:
    alone = connected()
    alone.send(1, "t", qos=1, packet_id=1)
    alone.routed(1)
    assert alone.routed(1, 0x80) == Outcome()


@pytest.mark.parametrize(("qos", "answer"), [(1, SendPuback), (2, SendPubrec)])
def test_a_refusal_is_told_to_a_5_0_client_and_frees_the_identifier(qos: int, answer: type) -> None:
    alone = connected(options=ServerOptions(receive_maximum=1))
    alone.send(1, "t", qos=qos, packet_id=1)
    assert alone.routed(1, 0x97).actions == (answer(1, 1, ReasonCode.QUOTA_EXCEEDED),)
    assert alone.session.inbound_packet_ids == ()
    (route,) = alone.send(1, "t", qos=qos, packet_id=1).actions
    assert route.route_id == 2


@pytest.mark.parametrize("qos", [1, 2])
def test_a_refusal_closes_a_3_x_client_unacknowledged(qos: int) -> None:
    alone = connected(4)
    alone.send(1, "t", qos=qos, packet_id=1)
    alone.send(1, "t", qos=qos, packet_id=2)
    outcome = alone.routed(1, 0x97)
    assert outcome.actions == (CloseConnection(1, ReasonCode.QUOTA_EXCEEDED),)
    assert alone.routed(2).actions == ()


def test_a_3_x_client_whose_session_ends_with_the_refusal() -> None:
    alone = Alone()
    alone.connect(1, protocol_version=4, clean_start=True)
    for packet_id in (1, 2):
        alone.send(1, "t", qos=2, packet_id=packet_id)
    alone.routed(2)
    outcome = alone.routed(1, 0x97)
    assert SessionEnded("a", EndReason.CONNECTION_CLOSED) in outcome.notices
    assert not alone.session.exists


def test_an_open_route_takes_a_unit_of_receive_maximum() -> None:
    alone = connected(options=ServerOptions(receive_maximum=1))
    alone.send(1, "t", qos=1, packet_id=1)
    outcome = alone.send(1, "t", qos=1, packet_id=2)
    assert of_type(SendDisconnect, outcome.actions) == [
        SendDisconnect(1, ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)
    ]


def test_an_answered_route_gives_its_unit_back() -> None:
    alone = connected(options=ServerOptions(receive_maximum=1))
    for route_id in (1, 2, 3):
        alone.send(1, "t", qos=1, packet_id=route_id)
        assert alone.routed(route_id).actions == (SendPuback(1, route_id, SUCCESS),)


# ---------------------------------------------------------------- repeats while routing


@pytest.mark.parametrize(("qos", "answer"), [(1, SendPuback), (2, SendPubrec)])
def test_a_repeat_while_routing_is_not_handed_on_and_gets_the_one_answer(
    qos: int, answer: type
) -> None:
    alone = connected()
    alone.send(1, "t", qos=qos, packet_id=1)
    assert alone.send(1, "t", qos=qos, packet_id=1) == Outcome()
    assert alone.routed(1).actions == (answer(1, 1, SUCCESS),)


def test_a_repeat_after_the_answer_is_answered_at_qos_2_and_handed_on_at_qos_1() -> None:
    alone = connected()
    for route_id, (qos, packet_id) in enumerate(((1, 1), (2, 2)), 1):
        alone.send(1, "t", qos=qos, packet_id=packet_id)
        alone.routed(route_id)
    assert alone.send(1, "t", qos=2, packet_id=2).actions == (SendPubrec(1, 2, SUCCESS),)
    assert of_type(RouteMessage, alone.send(1, "t", qos=1, packet_id=1).actions)


@pytest.mark.parametrize(("first", "second", "answer"), [(1, 2, SendPubrec), (2, 1, SendPuback)])
def test_an_identifier_in_use_at_the_other_quality_is_refused(
    first: int, second: int, answer: type
) -> None:
    """NN-6.5: 0x91, and the exchange that holds the identifier stays as it is."""
    alone = connected()
    alone.send(1, "t", b"first", qos=first, packet_id=1)
    outcome = alone.send(1, "t", b"second", qos=second, packet_id=1)
    assert outcome.actions == (answer(1, 1, ReasonCode.PACKET_IDENTIFIER_IN_USE),)
    (acknowledged,) = alone.routed(1).actions
    assert acknowledged.reason_code is SUCCESS


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_an_identifier_in_use_at_the_other_quality_closes_a_3_x_client(
    first: int, second: int
) -> None:
    alone = connected(4)
    alone.send(1, "t", qos=first, packet_id=1)
    outcome = alone.send(1, "t", qos=second, packet_id=1)
    assert outcome.actions == (CloseConnection(1, ReasonCode.PACKET_IDENTIFIER_IN_USE),)


@pytest.mark.parametrize("qos", [1, 2])
def test_subscribe_under_the_identifier_of_an_open_route_is_refused(qos: int) -> None:
    alone = connected()
    alone.send(1, "t", qos=qos, packet_id=1)
    outcome = alone.do(SubscribeReceived(1, 1, (Subscription("t"),)))
    assert outcome.actions == (SendSuback(1, 1, (ReasonCode.PACKET_IDENTIFIER_IN_USE,)),)
    assert alone.session.subscriptions == ()


def test_pubrel_while_routing_is_a_protocol_error() -> None:
    alone = connected()
    alone.send(1, "t", qos=2, packet_id=1)
    outcome = alone.pubrel(1, 1)
    assert of_type(SendDisconnect, outcome.actions) == [
        SendDisconnect(1, ReasonCode.PROTOCOL_ERROR)
    ]


# ---------------------------------------------------------------- the connection goes meanwhile


@pytest.mark.parametrize("qos", [1, 2])
def test_nothing_is_sent_on_a_connection_that_was_lost_while_routing(qos: int) -> None:
    alone = connected()
    alone.send(1, "t", qos=qos, packet_id=1)
    alone.lose(1)
    assert alone.routed(1) == Outcome()


def test_a_qos_1_message_whose_connection_was_lost_is_handed_on_again() -> None:
    alone = connected()
    alone.send(1, "t", qos=1, packet_id=1)
    alone.lose(1)
    alone.connect(2)
    assert alone.routed(1) == Outcome()
    assert alone.send(2, "t", qos=1, packet_id=1).actions[0].route_id == 2
    assert alone.routed(2).actions == (SendPuback(2, 1, SUCCESS),)


def test_a_qos_2_message_whose_connection_was_lost_is_handed_on_once() -> None:
    alone = connected()
    alone.send(1, "t", qos=2, packet_id=1)
    alone.lose(1)
    alone.connect(2)
    assert alone.routed(1) == Outcome()
    assert alone.send(2, "t", qos=2, packet_id=1).actions == (SendPubrec(2, 1, SUCCESS),)
    assert alone.pubrel(2, 1).actions == (SendPubcomp(2, 1, SUCCESS),)


def test_a_qos_2_message_repeated_before_it_is_routed_is_answered_there() -> None:
    alone = connected()
    alone.send(1, "t", qos=2, packet_id=1)
    alone.lose(1)
    alone.connect(2)
    assert alone.send(2, "t", qos=2, packet_id=1) == Outcome()
    assert alone.routed(1).actions == (SendPubrec(2, 1, SUCCESS),)


def test_a_qos_2_message_refused_while_the_client_was_away_is_handed_on_anew() -> None:
    alone = connected()
    alone.send(1, "t", qos=2, packet_id=1)
    alone.lose(1)
    assert alone.routed(1, 0x97) == Outcome()
    assert alone.session.inbound_packet_ids == ()
    alone.connect(2)
    assert alone.send(2, "t", qos=2, packet_id=1).actions[0].route_id == 2


def test_an_answer_for_a_session_that_has_ended_does_nothing() -> None:
    alone = Alone()
    alone.connect(1, session_expiry_interval=0)
    for qos in (1, 2):
        alone.send(1, "t", qos=qos, packet_id=qos)
    alone.lose(1)
    assert alone.routed(1) == Outcome()
    alone.connect(2)
    assert alone.routed(2) == Outcome()
    assert alone.session.inbound_packet_ids == ()
    assert alone.send(2, "t", qos=2, packet_id=2).actions[0].route_id == 3


def test_an_answer_that_comes_after_the_time_out_does_nothing() -> None:
    alone = connected(policy=ExpiryPolicy(inbound_qos2_interval=30))
    alone.send(1, "t", qos=2, packet_id=1)
    assert alone.session.next_deadline == Deadline(30.0, DeadlineKind.INBOUND_QOS2, "a")
    assert alone.tick(30.0).notices == (InboundQos2TimedOut("a", 1),)
    assert alone.routed(1) == Outcome()


def test_an_answer_is_not_taken_for_that_of_a_later_message_under_the_same_identifier() -> None:
    alone = connected(policy=ExpiryPolicy(inbound_qos2_interval=30))
    alone.send(1, "t", b"forgotten", qos=2, packet_id=1)
    alone.tick(30.0)
    alone.send(1, "t", b"new", qos=2, packet_id=1)
    assert alone.routed(1) == Outcome()
    assert alone.routed(2, 0x97).actions == (SendPubrec(1, 1, ReasonCode.QUOTA_EXCEEDED),)


def test_an_answer_that_comes_with_the_time_out_finds_it_settled() -> None:
    alone = connected(policy=ExpiryPolicy(inbound_qos2_interval=30))
    alone.send(1, "t", qos=2, packet_id=1)
    alone.now = 30.0
    outcome = alone.routed(1)
    assert outcome == Outcome((), (), (InboundQos2TimedOut("a", 1),))


def test_an_answer_finds_a_silent_connection_closed() -> None:
    alone = Alone()
    alone.connect(1, keep_alive=10)
    alone.send(1, "t", qos=1, packet_id=1)
    alone.now = 15.0
    outcome = alone.routed(1)
    assert of_type(SendPuback, outcome.actions) == []
    assert of_type(SendDisconnect, outcome.actions) == [
        SendDisconnect(1, ReasonCode.KEEP_ALIVE_TIMEOUT)
    ]


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(("send", "route", "lose")), st.integers(0, 5)), max_size=40)
)
def test_each_qos_1_message_gets_one_acknowledgement_in_order_unless_its_connection_went(
    steps: list[tuple[str, int]],
) -> None:
    alone = Alone()
    connection = 1
    alone.connect(connection)
    asked: list[int] = []
    expected: list[tuple[int, int]] = []
    received: list[tuple[int, int]] = []
    packet_id = 0

    def answer(route_id: int) -> None:
        for action in of_type(SendPuback, alone.routed(route_id).actions):
            received.append((action.connection, action.packet_id))

    for step, number in steps:
        if step == "send":
            packet_id += 1
            (route,) = alone.send(connection, "t", qos=1, packet_id=packet_id).actions
            asked.append(route.route_id)
            expected.append((connection, packet_id))
        elif step == "route" and asked:
            answer(asked.pop(number % len(asked)))
        elif step == "lose":
            alone.lose(connection)
            expected = [each for each in expected if each[0] != connection or each in received]
            connection += 1
            alone.connect(connection)
    for route_id in asked:
        answer(route_id)
    assert received == expected


# ---------------------------------------------------------------- delivering


def test_a_message_is_delivered_queued_and_delivered_on_resume() -> None:
    alone = connected()
    assert sent(alone.deliver(b"1")) == [b"1"]
    alone.lose(1)
    assert alone.deliver(b"2").actions == ()
    outcome = alone.connect(2)
    assert [(a.packet_id, a.dup) for a in of_type(SendPublish, outcome.actions)] == [
        (1, True),
        (2, False),
    ]


def test_a_delivery_needs_a_session() -> None:
    alone = Alone()
    with pytest.raises(InvalidState, match="no session of"):
        alone.deliver(b"1")


def test_a_delivery_to_a_session_that_is_over_finds_nobody() -> None:
    alone = connected()
    alone.lose(1)
    alone.now = 3600.0
    outcome = alone.deliver(b"1")
    assert of_type(SessionEnded, outcome.notices) == [SessionEnded("a", EndReason.EXPIRED)]
    assert not alone.session.exists
    assert alone.session.counters == Counters(0, 0, {})


def test_a_qos_2_delivery_runs_to_its_end() -> None:
    alone = connected()
    alone.deliver(b"1", 2)
    assert alone.do(PubrecReceived(1, 1)).actions == (SendPubrel(1, 1, SUCCESS),)
    alone.do(PubcompReceived(1, 1))
    assert alone.session.counters == Counters(1, 1, {})


def test_a_delivery_expires_in_the_queue() -> None:
    alone = connected()
    alone.lose(1)
    alone.deliver(b"1", expires_at=5.0, message_expiry_interval=5)
    assert alone.session.next_deadline == Deadline(5.0, DeadlineKind.MESSAGE_EXPIRY, "a")
    assert dropped(alone.tick(5.0)) == [("a", b"1", "expired")]
    assert alone.session.counters == Counters(1, 0, {DropReason.EXPIRED: 1})


def test_bounds_hold_for_a_session_alone() -> None:
    alone = Alone(limits=SessionLimits(maximum_queued_messages=2))
    alone.connect(1)
    alone.lose(1)
    for number in range(4):
        alone.deliver(b"%d" % number)
    assert [each.message.payload for each in alone.session.queued()] == [b"2", b"3"]


def test_the_packet_size_of_the_client_holds() -> None:
    alone = Alone(size_of=lambda delivery, _: len(delivery.message.payload))
    alone.connect(1, maximum_packet_size=4)
    assert dropped(alone.deliver(b"too large")) == [("a", b"too large", "too_large")]


# ---------------------------------------------------------------- subscriptions, wills, time


def test_subscriptions_are_kept_and_told_and_routed_by_the_host() -> None:
    alone = connected()
    outcome = alone.do(SubscribeReceived(1, 1, (Subscription("a", 1), Subscription("b/#", 2))))
    assert outcome.notices == (FilterAdded("a"), FilterAdded("b/#"))
    assert alone.do(SubscribeReceived(1, 1, (Subscription("a", 2),))).notices == ()
    assert alone.session.subscriptions == (Subscription("a", 2), Subscription("b/#", 2))
    assert alone.do(UnsubscribeReceived(1, 1, ("a",))).notices == (FilterRemoved("a"),)
    alone.do(SubscriptionsAdded("a", (Subscription("c"),)))
    alone.do(SubscriptionsRemoved("a", ("b/#",)))
    assert alone.session.subscriptions == (Subscription("c"),)
    outcome = alone.do(SessionDiscarded("a"))
    assert FilterRemoved("c") in outcome.notices


def test_a_will_is_a_message_to_be_routed_that_needs_no_answer() -> None:
    alone = Alone()
    alone.connect(1, will=will("w", qos=1))
    outcome = alone.lose(1)
    message = will("w", qos=1).message
    assert outcome.actions == (RouteMessage(message, None, "a"),)
    assert WillPublished("a", message) in outcome.notices


def test_a_will_waits_for_its_delay_and_a_resume_cancels_it() -> None:
    alone = Alone()
    alone.connect(1, will=will("w", 30))
    alone.lose(1)
    assert alone.session.will_due_at == 30.0
    assert alone.session.next_deadline == Deadline(30.0, DeadlineKind.WILL_DELAY, "a")
    assert alone.session.next_deadline_at == 30.0
    alone.connect(2, will=will("w", 30))
    assert of_type(RouteMessage, alone.tick(30.0).actions) == []
    alone.lose(2)
    assert of_type(RouteMessage, alone.tick(60.0, limit=1).actions) != []


def test_a_session_alone_ends_at_its_deadline_and_begins_anew() -> None:
    alone = connected()
    alone.do(SubscribeReceived(1, 1, (Subscription("a", 1),)))
    alone.lose(1)
    assert alone.session.expires_at == 3600.0
    assert alone.tick(3600.0).notices[-1] == SessionEnded("a", EndReason.EXPIRED)
    outcome = alone.connect(2)
    assert not outcome.actions[0].session_present
    assert alone.session.subscriptions == ()


def test_host_events_work_alone_too() -> None:
    alone = Alone()
    alone.connect(1, will=will("w", 60))
    alone.do(WillRevoked("a"))
    assert alone.session.will is None
    alone.do(SessionKicked("a"))
    alone.lose(1)
    alone.deliver(b"1")
    alone.do(QueuePurged("a"))
    assert alone.session.queue_depth == 0
    alone.do(SessionExpirySet("a", 5))
    assert alone.session.expires_at == 5.0
    assert alone.do(ServerStopping()) == Outcome()


# ---------------------------------------------------------------- what it does not understand


@pytest.mark.parametrize(
    "event",
    [MessagePublished(Message("t")), LimitsChanged(SessionLimits())],
    ids=lambda event: type(event).__name__,
)
def test_an_event_that_only_a_store_understands_raises_and_changes_nothing(event: object) -> None:
    alone = connected()
    with pytest.raises(InvalidState, match="is not an event of"):
        alone.session.handle(event, 1e9)  # type: ignore[arg-type]
    alone.session.check()
    assert alone.do(PingReceived(1)).actions
    alone.lose(1)
    assert alone.session.expires_at == 3600.0  # the clock did not move


@pytest.mark.parametrize(
    "event",
    [
        ClientConnected(2, "b"),
        ClientConnected(2, "", assigned_client_id="b"),
        SessionKicked("b"),
        PublishReceived(9, Message("t")),
        ConnectionLost(9),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_of_another_client_raises_and_changes_nothing(event: object) -> None:
    alone = connected()
    with pytest.raises(InvalidState):
        alone.session.handle(event, 1e9)  # type: ignore[arg-type]
    alone.session.check()
    alone.lose(1)
    assert alone.session.expires_at == 3600.0


def test_an_id_that_was_assigned_to_it_is_its_own() -> None:
    alone = Alone()
    event = ClientConnected(1, "", assigned_client_id="a")
    assert alone.do(event).actions[0].assigned_client_identifier == "a"


def test_a_client_without_an_id_is_refused() -> None:
    alone = Alone()
    outcome = alone.do(ClientConnected(1, ""))
    assert outcome.actions[0].reason_code == ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
    assert not alone.session.exists


@pytest.mark.parametrize("client_id", ["", None, 7])
def test_a_session_has_a_client_id(client_id: object) -> None:
    with pytest.raises(InvalidValue, match="client_id"):
        Session(client_id)  # type: ignore[arg-type]


def test_before_its_first_connect_there_is_no_session() -> None:
    session = Session("a")
    assert repr(session) == "<Session 'a' none>"
    assert (session.exists, session.connected, session.next_deadline) == (False, False, None)
    assert session.next_deadline_at is None


def test_a_delivery_that_the_host_made_wrongly_raises_in_the_constructor() -> None:
    for wrong in (
        "no delivery",
        Delivery(Message("t/+"), 0),
        Delivery(Message("t"), 3),
    ):
        with pytest.raises(InvalidValue):
            DeliverMessage(wrong)  # type: ignore[arg-type]
