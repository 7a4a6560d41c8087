"""Packet identifiers: 1 to 65,535, round and round, never one in use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_sessions import (
    InFlight,
    Message,
    MessagePublished,
    PubackReceived,
    SendPublish,
    SessionLimits,
)
from mqtt_sessions.packet_ids import MAX_PACKET_ID, next_packet_id
from tests.core.helpers import World, of_type

IDS = st.integers(1, MAX_PACKET_ID)


def test_the_first_identifier_is_one() -> None:
    assert next_packet_id(0, ()) == 1


def test_after_the_last_identifier_comes_the_first() -> None:
    assert next_packet_id(MAX_PACKET_ID, ()) == 1


def test_identifiers_in_use_are_stepped_over_across_the_end() -> None:
    assert next_packet_id(65_533, {65_534, 65_535, 1, 2}) == 3


def test_the_only_free_identifier_is_found_wherever_the_search_starts() -> None:
    in_use = set(range(1, MAX_PACKET_ID + 1)) - {300}
    assert [next_packet_id(last, in_use) for last in (0, 299, 300, 301, 65_535)] == [300] * 5


def test_without_a_free_identifier_the_library_itself_is_at_fault() -> None:
    with pytest.raises(AssertionError, match="no packet identifier"):
        next_packet_id(7, range(1, MAX_PACKET_ID + 1))


@given(st.integers(0, MAX_PACKET_ID), st.sets(IDS, max_size=50))
def test_it_is_the_nearest_free_one_going_round(last: int, in_use: set[int]) -> None:
    found = next_packet_id(last, in_use)
    assert 1 <= found <= MAX_PACKET_ID
    assert found not in in_use
    steps = (found - last - 1) % MAX_PACKET_ID if last else found - 1
    for step in range(min(steps, 100)):
        assert (last + step) % MAX_PACKET_ID + 1 in in_use


def test_a_freed_identifier_is_not_the_next_to_be_given() -> None:
    world = World()
    world.subscriber(1, "a", "t")
    for expected in (1, 2, 3):
        (publish,) = world.publish("t", qos=1).actions
        assert publish.packet_id == expected
        world.puback(1, expected)


@pytest.mark.unmeasured
def test_a_store_steps_over_an_exchange_that_stays_open() -> None:
    world = World()
    world.subscriber(1, "a", "t")
    world.publish("t", b"stays", qos=1)
    given_out = []
    for _ in range(MAX_PACKET_ID + 1):
        # one check a round would make this a test of `check`
        (publish,) = world.store.handle(_published(), world.now).actions
        given_out.append(publish.packet_id)
        world.store.handle(_acknowledged(publish.packet_id), world.now)
    world.store.check()
    assert given_out[-3:] == [65_535, 2, 3]
    assert world.session("a").in_flight == (
        InFlight(1, 1, of_type(SendPublish, world.actions)[0].delivery),
    )


@pytest.mark.unmeasured
def test_with_all_identifiers_in_use_messages_wait() -> None:
    world = World(limits=SessionLimits(maximum_send_window=65_535))
    world.subscriber(1, "a", "t", receive_maximum=65_535)
    for _ in range(MAX_PACKET_ID):
        world.store.handle(_published(), world.now)
    assert world.publish("t", b"waits", qos=1).actions == ()
    assert world.session("a").queue_depth == 1
    (publish,) = world.puback(1, 40_000).actions
    assert publish.packet_id == 40_000


def _published() -> MessagePublished:
    return MessagePublished(Message("t", b"-", 1))


def _acknowledged(packet_id: int) -> PubackReceived:
    return PubackReceived(1, packet_id)
