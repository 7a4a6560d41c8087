"""Packets that were read together: one outcome, and all or none of them taken in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtt_sessions import (
    ClientConnected,
    CloseConnection,
    ConnectionLost,
    Event,
    InvalidState,
    InvalidValue,
    Message,
    MessagePublished,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    SendPingresp,
    SubscribeReceived,
    Subscription,
    UnsubscribeReceived,
)
from tests.core.helpers import World, of_type, sent


def busy() -> World:
    """Two clients, the first with three messages in flight and two that wait."""
    world = World()
    world.subscriber(1, "a", "t", qos=2, receive_maximum=3)
    world.subscriber(2, "b", "u", qos=1)
    for number in range(5):
        world.publish("t", b"%d" % number, qos=1 + number % 2)
    return world


PACKETS = st.one_of(
    st.builds(PubackReceived, st.integers(1, 2), st.integers(1, 6)),
    st.builds(PubrecReceived, st.just(1), st.integers(1, 6)),
    st.builds(PubcompReceived, st.just(1), st.integers(1, 6)),
    st.builds(PubrelReceived, st.integers(1, 2), st.integers(1, 3)),
    st.builds(
        PublishReceived,
        st.integers(1, 2),
        st.builds(Message, st.sampled_from("tu"), st.just(b"m"), st.integers(1, 2)),
        st.integers(1, 3),
    ),
    st.builds(PingReceived, st.integers(1, 2)),
    st.just(SubscribeReceived(2, 9, (Subscription("t", 1),))),
    st.just(UnsubscribeReceived(1, 9, ("t",))),
)


@settings(max_examples=150)
@given(st.lists(PACKETS, max_size=12))
def test_many_together_come_to_what_each_comes_to_in_turn(packets: list[Event]) -> None:
    together, in_turn = busy(), busy()
    outcome = together.note(together.store.handle_many(packets, 1.0))
    in_turn.now = 1.0
    each = [in_turn.do(packet) for packet in packets]
    assert outcome.actions == tuple(action for one in each for action in one.actions)
    assert outcome.notices == tuple(notice for one in each for notice in one.notices)
    assert together.session("a").in_flight == in_turn.session("a").in_flight
    assert together.store.counters == in_turn.store.counters
    assert together.next == in_turn.next


def test_any_iterable_will_do() -> None:
    world = busy()
    outcome = world.store.handle_many((PingReceived(1) for _ in range(3)), 0.0)
    assert outcome.actions == (SendPingresp(1),) * 3


def test_acknowledgements_open_the_window_for_what_waits() -> None:
    world = busy()
    outcome = world.store.handle_many([PubackReceived(1, 1), PubackReceived(1, 3)], 0.0)
    world.store.check()
    assert sent(outcome) == [b"3", b"4"]


@pytest.mark.parametrize(
    "wrong",
    [
        ClientConnected(3, "c"),
        ConnectionLost(1),
        MessagePublished(Message("t")),
        PingReceived(99),
        7,
    ],
    ids=["connect", "lost", "host's publish", "unknown connection", "no event"],
)
def test_if_one_cannot_happen_none_is_taken_in(wrong: object) -> None:
    world = busy()
    before = world.session("a").in_flight
    with pytest.raises(InvalidState):
        world.store.handle_many([PubackReceived(1, 1), wrong], 1e9)  # type: ignore[list-item]
    world.store.check()
    assert world.session("a").in_flight == before
    world.connect(3, "c", keep_alive=10)
    assert world.store.next_deadline_at == 15.0  # the clock did not move either


def test_with_a_bad_instant_none_is_taken_in() -> None:
    world = busy()
    before = world.session("a").in_flight
    with pytest.raises(InvalidValue):
        world.store.handle_many([PubackReceived(1, 1)], float("nan"))
    world.store.check()
    assert world.session("a").in_flight == before


def test_packets_behind_the_one_that_closed_the_connection_are_ignored() -> None:
    world = busy()
    outcome = world.store.handle_many(
        [PubcompReceived(1, 1), PubackReceived(1, 1), PingReceived(1), PingReceived(2)], 0.0
    )
    world.store.check()
    assert [action.connection for action in of_type(CloseConnection, outcome.actions)] == [1]
    assert of_type(SendPingresp, outcome.actions) == [SendPingresp(2)]
    assert len(world.session("a").in_flight) == 3


def test_the_changes_of_all_come_out_in_order() -> None:
    first, second = World(durable=True), World(durable=True)
    for world in (first, second):
        world.connect(1, "a", session_expiry_interval=60)
    packets = [
        SubscribeReceived(1, 1, (Subscription("t", 1),)),
        PublishReceived(1, Message("t", b"1", 1), 2),
        UnsubscribeReceived(1, 3, ("t",)),
    ]
    together = first.store.handle_many(packets, first.now).changes
    assert together == tuple(change for packet in packets for change in second.do(packet).changes)
    assert len(together) > 2
