"""The commit gate: what waits for what, what is never written, and against a naive one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, get_args

import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mqtt_sessions import (
    Action,
    ClientConnected,
    CloseConnection,
    CommitGate,
    ConnectionLost,
    Delivery,
    InvalidState,
    InvalidValue,
    Message,
    Outcome,
    OverflowPolicy,
    PublishReceived,
    ReasonCode,
    RouteMessage,
    SendConnack,
    SendDisconnect,
    SendPingresp,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
    Will,
    WillPublished,
)
from mqtt_sessions.changes import (
    Change,
    DeliveryRemoved,
    DeliveryStored,
    ExchangeRemoved,
    ExchangeStored,
    InboundIdRemoved,
    InboundIdStored,
    MessageRemoved,
    MessageStored,
    ReplayRemoved,
    RetainedRemoved,
    RetainedStored,
    Row,
    SessionRemoved,
    SessionStored,
    SubscriptionRemoved,
    SubscriptionStored,
    WillRemoved,
    WillStored,
    row_of,
)
from tests.core.gates import BROKEN, NaiveGate, applied, outcomes
from tests.core.helpers import World, of_type, will

OK = ReasonCode.SUCCESS
CHANGES = get_args(Change)
M0, M1, M2 = (Message("t", b"m", qos) for qos in range(3))
SESSION = SessionStored(1, "a", 1, True, 5, None, None, None, 0, None, None)
FILTER = Subscription("t")
WILL = Will(Message("w", b"w", 1))


def publish(connection: str, message: Message, qos: int, number: int = 1) -> SendPublish:
    return SendPublish(connection, Delivery(message, qos), number if qos else None, False, None)


def stored(number: int, message: Message = M1) -> DeliveryStored:
    return DeliveryStored(number, 1, None, Delivery(message, message.qos))


def body(number: int) -> MessageStored:
    return MessageStored(number, M1, 0.0, None, None, None)


def puback(connection: str = "p", number: int = 1) -> SendPuback:
    return SendPuback(connection, number, OK)


def add(gate: CommitGate, *given: Any) -> tuple[Action, ...]:
    """An outcome of these changes and actions."""
    changes = tuple(each for each in given if isinstance(each, CHANGES))
    return gate.add(Outcome(changes, given[len(changes) :]))


def commit(gate: CommitGate) -> tuple[Action, ...]:
    batch = gate.take_batch()
    assert batch is not None
    return gate.committed(batch[0])


def batch_of(gate: CommitGate) -> list[Change]:
    batch = gate.take_batch()
    return [] if batch is None else list(batch[1])


def parked(store: SessionStore, gate: CommitGate) -> dict[Row, Change]:
    """The rows of a session `s` that waits for topic `t`; a publisher `p` is there too."""
    kept = ClientConnected("s", "s", session_expiry_interval=3600)
    for event in (kept, SubscribeReceived("s", 1, (Subscription("t", 1),)), ConnectionLost("s")):
        gate.add(store.handle(event, 0.0))
    gate.add(store.handle(ClientConnected("p", "p"), 0.0))
    number, changes = gate.take_batch() or (0, ())
    gate.committed(number)
    return applied({}, changes)


# ---------------------------------------------------------------- what waits for what

PROMISES: dict[str, tuple[tuple[Change, ...], Action]] = {
    "CONNACK": (
        (SessionRemoved(9), SESSION, WillStored("a", WILL, None, 1, None)),
        SendConnack("a", True, OK),
    ),
    "SUBACK": ((SubscriptionStored(1, FILTER),), SendSuback("a", 1, (OK,))),
    "UNSUBACK": ((SubscriptionRemoved(1, "t"),), SendUnsuback("a", 1, (OK,))),
    "PUBACK": ((body(1), stored(2), stored(3)), SendPuback("a", 1, OK)),
    "PUBACK of a retained message": (
        (RetainedStored(M1, 0.0, None, None, None),),
        SendPuback("a", 1, OK),
    ),
    "PUBREC": ((stored(1, M2), InboundIdStored(1, 1, None)), SendPubrec("a", 1, OK)),
    "PUBCOMP": ((InboundIdRemoved(1, 1),), SendPubcomp("a", 1, OK)),
    "PUBCOMP 0x92": (
        (InboundIdRemoved(1, 1),),
        SendPubcomp("a", 1, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND),
    ),
    "PUBLISH QoS 2": ((stored(1, M2), ExchangeStored(1, 1, 1, 1)), publish("a", M2, 2)),
    "PUBREL": ((ExchangeStored(1, 1, 2, None),), SendPubrel("a", 1, OK)),
    "PUBLISH QoS 0 of QoS 2": ((InboundIdStored(1, 1, None),), publish("a", M2, 0)),
    "PUBLISH QoS 1 of QoS 2": ((InboundIdStored(1, 1, None),), publish("a", M2, 1)),
    "close after DISCONNECT": ((WillRemoved("a"), SESSION), CloseConnection("a", OK)),
}


@pytest.mark.parametrize(("changes", "action"), PROMISES.values(), ids=PROMISES)
def test_a_promise_is_seen_when_its_rows_are_durable(
    changes: tuple[Change, ...], action: Action
) -> None:
    gate = CommitGate()
    assert gate.add(Outcome(changes, (action,))) == ()
    assert (gate.pending, gate.waiting) == (len(changes), 1)
    batch = gate.take_batch()
    assert batch is not None
    assert (gate.pending, gate.waiting) == (0, 1)
    assert set(batch[1]) == set(changes)
    assert gate.committed(batch[0]) == (action,)
    assert (gate.pending, gate.waiting) == (0, 0)


@pytest.mark.parametrize("action", [action for _, action in PROMISES.values()], ids=PROMISES)
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_promise_waits_for_the_rows_of_earlier_outcomes_of_any_connection(
    action: Action, is_cut: bool
) -> None:
    """Such as the PUBREC of a repeat, over a new connection."""
    gate = CommitGate()
    assert add(gate, InboundIdStored(1, 1, None), SendPubrec("old", 1, OK)) == ()
    if is_cut:
        assert gate.take_batch() is not None
    assert add(gate, action) == ()
    assert gate.waiting == 2
    if not is_cut:
        assert gate.take_batch() is not None
    assert gate.committed(1) == (SendPubrec("old", 1, OK), action)


FREE: dict[str, Action] = {
    "PUBLISH QoS 0": publish("a", M0, 0),
    "PUBLISH QoS 1": publish("a", M1, 1),
    "PUBLISH QoS 0 of QoS 1": publish("a", M1, 0),
    "PINGRESP": SendPingresp("a"),
    "DISCONNECT": SendDisconnect("a", ReasonCode.SESSION_TAKEN_OVER),
    "close": CloseConnection("a", ReasonCode.SESSION_TAKEN_OVER),
    "route": RouteMessage(M1, 1, "a"),
}


@pytest.mark.parametrize("action", FREE.values(), ids=FREE)
def test_what_relies_on_nothing_goes_at_once(action: Action) -> None:
    gate = CommitGate()
    assert gate.add(Outcome((stored(1),), (puback(), action))) == (action,)
    assert gate.add(Outcome((), (action,))) == (action,)
    assert commit(gate) == (puback(),)


def test_at_qos_1_a_host_may_choose_to_wait() -> None:
    gate = CommitGate(qos1_waits=True)
    actions = publish("a", M1, 1), publish("b", M1, 0)
    assert add(gate, stored(1), *actions) == actions[1:]
    assert commit(gate) == actions[:1]


@pytest.mark.parametrize("left", [DeliveryRemoved(1), ReplayRemoved(1)], ids=["queue", "replay"])
def test_what_waited_is_sent_at_qos_0_when_it_does_not_wait_any_more(left: Change) -> None:
    """Else a crash would let it be sent again, and QoS 0 is once or not at all [§4.3.1]."""
    gate = CommitGate()
    sent = publish("b", M0, 0)
    add(gate, stored(1))
    commit(gate)
    assert add(gate, left, sent, publish("c", M1, 1)) == (publish("c", M1, 1),)
    assert commit(gate) == (sent,)


def test_what_waited_and_was_never_written_is_sent_at_qos_0_at_once() -> None:
    gate = CommitGate()
    add(gate, stored(1))
    assert add(gate, DeliveryRemoved(1), publish("b", M0, 0)) == (publish("b", M0, 0),)
    add(gate, stored(2), stored(3))
    assert add(gate, DeliveryRemoved(2), publish("b", M0, 0)) == (publish("b", M0, 0),)


@pytest.mark.parametrize("qos", [0, 1])
def test_copies_of_a_will_wait_for_its_removal_in_later_outcomes_too(qos: int) -> None:
    gate = CommitGate()
    message = WILL.message
    first, second, third = (publish(name, message, qos) for name in "bcd")
    notice = WillPublished("a", message)
    assert gate.add(Outcome((stored(1),), ())) == ()
    assert gate.take_batch() is not None
    assert gate.add(Outcome((WillRemoved("a"),), (first,), (notice,))) == ()
    route = RouteMessage(message, None, "a")
    assert gate.add(Outcome((), (publish("e", Message("w", b"w", 1), qos), second, route))) == (
        publish("e", Message("w", b"w", 1), qos),
    )
    assert gate.committed(1) == ()
    assert gate.take_batch() is not None
    assert gate.add(Outcome((stored(2),), (third,))) == ()
    assert gate.committed(2) == (first, second, route)
    assert gate.add(Outcome((stored(3),), (publish("f", message, qos),))) == (
        publish("f", message, qos),
    )
    assert commit(gate) == (third,)


def test_a_will_that_is_published_again_holds_up_no_other() -> None:
    gate = CommitGate()
    again, other = (Message("w", payload, 1) for payload in (b"again", b"other"))
    notices = WillPublished("a", again), WillPublished("b", other)
    gate.add(Outcome((WillRemoved("a"), WillRemoved("b")), (), notices))
    gate.take_batch()
    gate.add(Outcome((WillRemoved("a"),), (), notices[:1]))
    assert gate.committed(1) == ()
    assert add(gate, publish("c", again, 0), publish("d", other, 0)) == (publish("d", other, 0),)
    assert commit(gate) == (publish("c", again, 0),)


@pytest.mark.parametrize("protocol_version", [3, 4, 5])
def test_a_store_sends_copies_of_a_will_with_the_message_that_its_notice_names(
    protocol_version: int,
) -> None:
    """The gate knows them by it."""
    world = World()
    for connection, qos in enumerate((0, 1), 1):
        world.connect(connection, f"s{qos}", protocol_version=protocol_version)
        world.subscribe(connection, Subscription("w", qos))
    world.connect(3, "a", will=will("w", qos=1))
    outcome = world.lose(3)
    (notice,) = of_type(WillPublished, outcome.notices)
    copies = of_type(SendPublish, outcome.actions)
    assert len(copies) == 2
    assert all(copy.delivery.message is notice.message for copy in copies)


def test_what_a_session_of_its_own_routes_waits_for_the_incoming_identifier() -> None:
    gate = CommitGate()
    route = RouteMessage(M2, 1, "a")
    assert gate.add(Outcome((InboundIdStored(1, 1, None),), (route,))) == ()
    assert commit(gate) == (route,)


def test_where_nothing_is_stored_nothing_waits() -> None:
    gate = CommitGate()
    actions = tuple(action for _, action in PROMISES.values())
    outcome = Outcome((), actions, (WillPublished("a", M1),))
    assert gate.add(outcome) is outcome.actions
    assert gate.take_batch() is None
    add(gate, stored(1))
    commit(gate)
    assert gate.add(outcome) is outcome.actions


# ---------------------------------------------------------------- the order of a connection


def test_within_a_connection_nothing_overtakes_what_waits() -> None:
    gate = CommitGate()
    actions: tuple[Action, ...] = (
        puback("a"),
        publish("a", M0, 0),
        SendPingresp("a"),
        SendDisconnect("a", ReasonCode.QUOTA_EXCEEDED),
        CloseConnection("a", ReasonCode.QUOTA_EXCEEDED),
    )
    assert add(gate, stored(1), *actions, SendPingresp("b")) == (SendPingresp("b"),)
    assert gate.waiting == 5
    assert commit(gate) == actions
    assert add(gate, stored(2), SendPingresp("a")) == (SendPingresp("a"),)


def test_what_goes_because_of_an_outcome_goes_before_its_own_actions() -> None:
    gate = CommitGate()
    add(gate, stored(1), puback("a"))
    assert add(gate, DeliveryRemoved(1), SendPingresp("a")) == (puback("a"), SendPingresp("a"))


def test_what_relies_on_nothing_waits_no_longer_than_what_is_before_it() -> None:
    gate = CommitGate()
    add(gate, stored(1), puback("a"))
    add(gate, SESSION, puback("b"), SendPingresp("a"))
    assert gate.waiting == 3
    assert add(gate, DeliveryRemoved(1)) == (puback("a"), SendPingresp("a"))
    assert commit(gate) == (puback("b"),)


# ---------------------------------------------------------------- elision


def test_a_copy_that_is_delivered_before_the_cut_is_never_written() -> None:
    gate = CommitGate()
    assert add(gate, stored(1), publish("s", M1, 1), puback()) == (publish("s", M1, 1),)
    assert add(gate, DeliveryRemoved(1)) == (puback(),)
    assert (gate.pending, gate.waiting) == (0, 0)
    assert gate.take_batch() is None


def test_a_body_has_its_own_removal() -> None:
    gate = CommitGate()
    add(gate, body(1), stored(2), stored(3), puback())
    assert add(gate, DeliveryRemoved(3)) == ()
    assert add(gate, DeliveryRemoved(2)) == ()
    assert gate.pending == 1
    assert add(gate, MessageRemoved(1)) == (puback(),)
    assert gate.take_batch() is None


def test_what_waits_for_a_later_row_waits_for_the_earlier_ones_too() -> None:
    gate = CommitGate()
    add(gate, stored(1), puback("a"))
    add(gate, stored(2), puback("b"))
    assert add(gate, DeliveryRemoved(2)) == ()
    assert add(gate, DeliveryRemoved(1)) == (puback("a"), puback("b"))


def test_a_copy_that_was_cut_is_removed_in_a_later_batch() -> None:
    gate = CommitGate()
    add(gate, body(1), stored(2))
    assert set(batch_of(gate)) == {body(1), stored(2)}
    add(gate, DeliveryRemoved(2), MessageRemoved(1), puback())
    assert gate.committed(1) == ()
    assert batch_of(gate) == [DeliveryRemoved(2), MessageRemoved(1)]
    assert gate.committed(2) == (puback(),)


def test_what_waited_for_elided_rows_still_waits_for_the_batches_on_their_way() -> None:
    gate = CommitGate()
    add(gate, SESSION, puback("a"))
    gate.take_batch()
    add(gate, stored(1), puback("b"))
    assert add(gate, DeliveryRemoved(1), puback("c")) == ()
    assert gate.take_batch() is None
    add(gate, stored(2), puback("d"))
    assert gate.committed(1) == (puback("a"), puback("b"), puback("c"))
    assert commit(gate) == (puback("d"),)


NEVER_ELIDED: dict[str, tuple[Change, Change]] = {
    "inbound identifier": (InboundIdStored(1, 1, None), InboundIdRemoved(1, 1)),
    "retained": (RetainedStored(M1, 0.0, None, None, None), RetainedRemoved("t")),
    "exchange": (ExchangeStored(1, 1, 1, None), ExchangeRemoved(1, 1)),
    "session": (SESSION, SessionRemoved(1)),
    "subscription": (SubscriptionStored(1, FILTER), SubscriptionRemoved(1, "t")),
    "will": (WillStored("a", WILL, None, 1, None), WillRemoved("a")),
}


@pytest.mark.parametrize(("made", "removed"), NEVER_ELIDED.values(), ids=NEVER_ELIDED)
def test_a_row_that_an_earlier_batch_may_hold_is_removed(made: Change, removed: Change) -> None:
    gate = CommitGate()
    add(gate, made, puback())
    assert add(gate, removed) == ()
    assert batch_of(gate) == [removed]
    assert gate.committed(1) == (puback(),)


def test_a_row_is_written_with_its_last_change_and_ended_sessions_come_last() -> None:
    gate = CommitGate()
    changes = (ExchangeStored(1, 1, 1, 7), SESSION, ExchangeStored(1, 1, 2, None))
    add(gate, *changes, SessionRemoved(1), stored(8), SubscriptionRemoved(2, "t"))
    batch = batch_of(gate)
    assert set(batch[:-1]) == {changes[2], stored(8), SubscriptionRemoved(2, "t")}
    assert batch[-1] == SessionRemoved(1)


def test_rows_of_different_kinds_with_one_number_are_not_mistaken() -> None:
    gate = CommitGate()
    add(gate, stored(1), body(1))
    gate.take_batch()
    given = (
        DeliveryRemoved(1),
        MessageRemoved(1),
        ExchangeRemoved(0, 1),
        InboundIdRemoved(0, 1),
        SessionRemoved(1),
    )
    add(gate, *given)
    assert set(batch_of(gate)) == set(given)


def test_a_message_that_passes_to_another_session_is_not_acknowledged_before_it_is_there() -> None:
    """The old copy is gone unwritten; the new one is all there is of the message."""
    gate = CommitGate()
    add(gate, stored(1), puback())
    assert add(gate, DeliveryRemoved(1), stored(2)) == ()
    assert add(gate, DeliveryRemoved(2)) == ()
    assert batch_of(gate) == [DeliveryRemoved(2)]
    assert gate.committed(1) == (puback(),)


def test_another_message_of_the_same_outcome_holds_up_nothing() -> None:
    gate = CommitGate()
    add(gate, stored(1), puback("a"))
    other = evolve(stored(2, M2), session_id=2)
    assert add(gate, DeliveryRemoved(1), other, puback("b")) == (puback("a"),)
    assert add(gate, DeliveryRemoved(2), stored(3, M2), DeliveryRemoved(3)) == (puback("b"),)
    assert gate.take_batch() is None


@pytest.mark.parametrize("cause", [stored(2, M2), SESSION], ids=["a newcomer", "a connection"])
def test_a_copy_that_had_to_go_is_not_acknowledged_before_the_cause_is_durable(
    cause: Change,
) -> None:
    """A crash takes the cause back; then the session would have room for the message."""
    gate = CommitGate()
    add(gate, stored(1), puback())
    assert add(gate, cause, DeliveryRemoved(1)) == ()
    assert set(batch_of(gate)) == {cause, DeliveryRemoved(1)}
    assert gate.committed(1) == (puback(),)


def test_what_had_to_go_waits_for_its_batch_though_the_newcomer_is_not_written() -> None:
    gate = CommitGate()
    add(gate, stored(1), puback())
    assert add(gate, DeliveryRemoved(1), stored(2, M2)) == ()
    assert add(gate, DeliveryRemoved(2)) == ()
    assert gate.waiting == 1
    assert batch_of(gate) == [DeliveryRemoved(1)]
    assert gate.committed(1) == (puback(),)


@pytest.mark.parametrize("newcomer", [0, 1])
def test_a_message_that_had_to_make_room_is_not_acknowledged_before_that_is_durable(
    newcomer: int,
) -> None:
    limits = SessionLimits(maximum_queued_messages=1, overflow=OverflowPolicy.DROP_OLDEST)
    store, gate = SessionStore(limits=limits, durable=True), CommitGate()
    rows = parked(store, gate)
    later = PublishReceived("p", Message("t", b"2", newcomer), 2 if newcomer else None)
    seen: list[Action] = []
    for event in (PublishReceived("p", Message("t", b"1", 1), 1), later):
        seen += gate.add(store.handle(event, 0.0))
    assert seen == []
    number, changes = gate.take_batch() or (0, ())
    back = SessionStore.recover(applied(rows, changes).values(), 1.0).store  # type: ignore[arg-type]
    assert [each.message.payload for each in back["s"].queued()] == [b"2"]
    assert SendPuback("p", 1, OK) in gate.committed(number)


def test_a_copy_of_a_session_that_ends_is_not_acknowledged_before_the_end_is_durable() -> None:
    """A crash brings the session back, and nobody has the message that was stored nowhere."""
    gate = CommitGate()
    add(gate, stored(1), puback())
    assert add(gate, DeliveryRemoved(1), SessionRemoved(1)) == ()
    assert batch_of(gate) == [SessionRemoved(1)]
    assert gate.committed(1) == (puback(),)


@pytest.mark.parametrize(
    "clean_start", [False, True], ids=["goes on until it closes", "begins anew"]
)
def test_nothing_is_acknowledged_that_a_session_that_comes_back_has_not(clean_start: bool) -> None:
    """Its new connection made it one that is not durable, and a crash makes that undone."""
    store, gate = SessionStore(durable=True), CommitGate()
    rows = parked(store, gate)
    seen: list[Action] = []
    anew = ClientConnected("s2", "s", clean_start=clean_start, session_expiry_interval=0)
    for event in (PublishReceived("p", M1, 1), anew):
        seen += gate.add(store.handle(event, 0.0))
    assert SessionStore.recover(rows.values(), 1.0).store["s"].queued() == ()  # type: ignore[arg-type]
    assert seen == []
    assert SendPuback("p", 1, OK) in commit(gate)


# ---------------------------------------------------------------- batches


def test_batches_are_numbered_and_several_are_on_their_way() -> None:
    gate = CommitGate()
    for number in (1, 2, 3):
        add(gate, stored(number), puback("a", number))
        batch = gate.take_batch()
        assert batch is not None
        assert batch[0] == number
    assert gate.take_batch() is None
    add(gate, puback("a", 4))
    assert gate.committed(1) == (puback("a", 1),)
    assert gate.committed(3) == tuple(puback("a", number) for number in (2, 3, 4))
    assert gate.waiting == 0


def test_an_acknowledgement_makes_nobody_wait_and_is_written_with_the_next_batch() -> None:
    gate = CommitGate()
    add(gate, stored(1))
    commit(gate)
    assert add(gate, DeliveryRemoved(1)) == ()
    assert (gate.pending, gate.waiting) == (1, 0)
    assert batch_of(gate) == [DeliveryRemoved(1)]


@pytest.mark.parametrize("number", [-1, 0, 1, 4, 99])
def test_a_batch_that_is_not_on_its_way_is_refused(number: int) -> None:
    gate = CommitGate()
    for each in (1, 2, 3):
        add(gate, stored(each), puback("a", each))
        gate.take_batch()
    gate.committed(1)
    with pytest.raises(InvalidState, match=f"no batch {number} "):
        gate.committed(number)
    assert gate.waiting == 2
    assert gate.committed(3) == (puback("a", 2), puback("a", 3))


@pytest.mark.parametrize("number", [True, 1.0, "1", None])
def test_a_number_that_is_no_int_is_refused(number: Any) -> None:
    gate = CommitGate()
    add(gate, stored(1), puback())
    gate.take_batch()
    with pytest.raises(InvalidValue, match="number must be of type int"):
        gate.committed(number)
    assert gate.committed(1) == (puback(),)


@pytest.mark.parametrize("flag", [1, None, "yes"])
def test_an_option_of_a_wrong_type_is_refused(flag: Any) -> None:
    with pytest.raises(InvalidValue, match=r"CommitGate\.qos1_waits must be of type bool"):
        CommitGate(qos1_waits=flag)


def test_after_a_failure_the_gate_tells_what_was_withheld_and_takes_no_more() -> None:
    gate = CommitGate()
    add(gate, stored(1), puback("a", 1))
    gate.take_batch()
    add(gate, stored(2), puback("a", 2), SendPingresp("a"))
    assert gate.failed() == (puback("a", 1), puback("a", 2), SendPingresp("a"))
    assert (gate.pending, gate.waiting) == (0, 0)
    uses: tuple[Callable[[], object], ...] = (
        lambda: gate.add(Outcome()),
        gate.take_batch,
        lambda: gate.committed(1),
        gate.failed,
    )
    for use in uses:
        with pytest.raises(InvalidState, match="gate has failed"):
            use()


# ---------------------------------------------------------------- bounds


def holds(gate: CommitGate) -> int:
    """Entries of all the containers of a gate."""
    values = (getattr(gate, name) for name in CommitGate.__slots__)
    return sum(len(each) for each in values if hasattr(each, "__len__"))


def test_nothing_stays_of_connections_rows_and_wills_that_are_settled() -> None:
    gate = CommitGate()
    for number in range(1, 2001):
        message = Message("w", b"%d" % number, 1)
        notice = WillPublished("a", message)
        actions = puback(f"c{number}"), publish(f"d{number}", message, 0)
        gate.add(Outcome((stored(number), WillRemoved("a")), actions, (notice,)))
        if number % 3 == 0:
            gate.add(Outcome((DeliveryRemoved(number),), (puback("x"),)))
        if number % 10 == 0:
            gate.take_batch()
        if number % 20 == 0:
            gate.committed(number // 10 - 1)
            assert holds(gate) < 100
    gate.committed(200)
    assert holds(gate) == 0


def test_where_all_is_elided_nothing_stays_either() -> None:
    gate = CommitGate()
    for number in range(1, 2001):
        notice = WillPublished("a", Message("w", b"%d" % number))
        gate.add(Outcome((stored(number),), (puback(f"c{number}"),), (notice,)))
        assert gate.add(Outcome((DeliveryRemoved(number),))) == (puback(f"c{number}"),)
        assert holds(gate) == 0


def test_rows_that_nothing_waits_for_leave_no_trace_in_a_batch_on_its_way() -> None:
    gate = CommitGate()
    add(gate, SESSION, puback("a"))
    gate.take_batch()
    for number in range(1, 101):
        add(gate, stored(number))
        add(gate, DeliveryRemoved(number))
    assert [len(batch) for batch in gate._in_flight] == [1]
    assert gate.committed(1) == (puback("a"),)


@pytest.mark.parametrize("change", [SESSION, SessionRemoved(1)])
def test_behind_a_row_that_must_be_written_what_waits_stands_in_one_segment(
    change: Change,
) -> None:
    gate = CommitGate()
    add(gate, change)
    for number in range(1, 101):
        add(gate, stored(number), puback(f"c{number}"))
    assert len(gate._open) == 1
    assert len(commit(gate)) == 100


# ---------------------------------------------------------------- against a naive gate


class History:
    """A gate and a naive one side by side: what goes, in which order, what is written."""

    def __init__(self, gate: CommitGate, naive: NaiveGate) -> None:
        self.gate, self.naive = gate, naive
        self.produced: list[Action] = []
        self.journal: dict[Row, Change] = {}
        self.expected: dict[Row, Change] = {}
        self.in_flight: list[int] = []

    def went(self, ready: tuple[Action, ...], expected: list[Action]) -> None:
        """The same goes, in the same order on each connection; what relied overtook nothing."""
        assert Counter(map(id, ready)) == Counter(map(id, expected))
        relying = set(map(id, self.naive.relying))
        for action in ready:
            at = next(at for at, each in enumerate(self.produced) if each is action)
            before = self.produced[:at]
            if id(action) not in relying:
                own = getattr(action, "connection", None)
                before = [each for each in before if own == getattr(each, "connection", self)]
            assert not before, "it was overtaken"
            del self.produced[at]
        assert self.gate.waiting == len(self.naive.withheld) == len(self.produced)

    def add(self, outcome: Outcome) -> None:
        self.produced += outcome.actions
        self.went(self.gate.add(outcome), self.naive.add(outcome))

    def cut(self) -> None:
        pending = self.gate.pending
        batch, expected = self.gate.take_batch(), self.naive.take_batch()
        assert (batch is None) == (expected is None)
        assert self.gate.pending == 0
        if batch is None or expected is None:
            assert pending == 0
            return
        assert batch[0] == expected[0]
        assert len(batch[1]) == pending
        assert set(map(row_of, batch[1])) == set(map(row_of, expected[1]))
        assert len(batch[1]) == len(expected[1]), "a row stands twice"
        self.journal = applied(self.journal, batch[1])
        self.expected = applied(self.expected, expected[1])
        assert self.journal == self.expected
        self.in_flight.append(batch[0])

    def commit(self, count: int) -> None:
        if self.in_flight:
            number = self.in_flight[min(count, len(self.in_flight) - 1)]
            self.in_flight = [each for each in self.in_flight if each > number]
            self.went(self.gate.committed(number), self.naive.committed(number))

    def end(self) -> None:
        """When all is durable, nothing is left."""
        self.cut()
        self.commit(len(self.in_flight))
        assert not self.produced
        assert holds(self.gate) == 0


def run(make: Callable[..., CommitGate], data: st.DataObject) -> None:
    qos1_waits = data.draw(st.booleans())
    history = History(make(qos1_waits=qos1_waits), NaiveGate(qos1_waits=qos1_waits))
    # 1 is a session that is there all along, and no identifier is used again
    state: dict[str, Any] = {"next": 1, "deliveries": [], "messages": [], "sessions": []}
    for step in data.draw(st.lists(st.sampled_from("aaaaaacCd"), max_size=30)):
        if step == "a":
            history.add(data.draw(outcomes(state)))
        elif step in "cC":
            history.cut()
        else:
            history.commit(data.draw(st.integers(0, 2)))
    history.end()


@given(st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_it_does_what_the_naive_gate_does(data: st.DataObject) -> None:
    run(CommitGate, data)


@pytest.mark.unmeasured
@pytest.mark.parametrize("make", BROKEN)
def test_a_broken_gate_is_found(make: Callable[..., CommitGate]) -> None:
    @given(st.data())
    @settings(
        max_examples=3000,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def search(data: st.DataObject) -> None:
        run(make, data)

    with pytest.raises(AssertionError):
        search()
