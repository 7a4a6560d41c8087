"""What is on its way when a snapshot is taken goes on from there, and no faster or slower."""

from __future__ import annotations

from typing import Any

import pytest

from mqtt_sessions import (
    ClientConnected,
    ConnectionLost,
    DeliverMessage,
    Delivery,
    DropReason,
    InvalidState,
    InvalidValue,
    Message,
    MessageDropped,
    MessagePublished,
    MessageRouted,
    Outcome,
    PubackReceived,
    PublishReceived,
    PubrelReceived,
    ReasonCode,
    RouteMessage,
    SendPuback,
    SendPubcomp,
    SendPubrec,
    Session,
    SessionLimits,
    SessionStore,
)
from mqtt_sessions.connection import Link
from tests.core.helpers import World, of_type, sent, will


def plain(link: Link) -> dict[str, Any]:
    """What a link holds that is a number, a flag, a text or a collection of such."""
    kinds = int | float | str | None | set | dict | list | tuple
    values = {name: getattr(link, name) for name in Link.__slots__ if hasattr(link, name)}
    return {
        name: sorted(value) if isinstance(value, set | dict) else value
        for name, value in values.items()
        if isinstance(value, kinds)
    }


def same(store: SessionStore) -> SessionStore:
    """The store restored, looked at from within."""
    restored = SessionStore.restore(store.snapshot())
    restored.check()
    for connection, link in store._links.items():
        assert plain(restored._links[connection]) == plain(link)
    assert (restored.connected_count, restored.parked_count) == (
        store.connected_count,
        store.parked_count,
    )
    assert restored.next_deadline == store.next_deadline
    return restored


# ---------------------------------------------------------------- a will that is handed out


def fanning_out() -> World:
    world = World()
    for name in ("one", "two", "three"):
        world.subscriber(name, name, "gone", qos=1)
    world.connect("me", "me", will=will("gone", delay=5), session_expiry_interval=60)
    world.lose("me")
    world.now += 5
    world.tick(limit=2)
    return world


def test_a_will_reaches_those_whom_it_had_not_reached() -> None:
    world = fanning_out()
    restored = same(world.store)
    assert len(restored._fanouts) == len(world.store._fanouts) == 1
    [fanout], [original] = restored._fanouts, world.store._fanouts
    assert original.lane is not None
    assert fanout.lane is not None
    assert (fanout.at, fanout.lane.key) == (original.at, original.lane.key)
    left = {session.client_id for session in original.remaining}
    assert {session.client_id for session in fanout.remaining} == left
    assert 0 < len(left) < 3
    outcome = restored.handle_timeout(world.now)
    assert {action.connection for action in outcome.actions} == left
    assert not restored._fanouts
    assert len(world.tick().actions) == len(outcome.actions)


def test_a_will_that_is_read_before_its_turn_is_handed_out_once() -> None:
    world = fanning_out()
    restored = same(world.store)
    name = next(iter(restored._fanouts[0].remaining)).client_id
    first = restored.handle(PublishReceived(name, Message("elsewhere", b"m")), world.now)
    assert sent(first, name) == [b"gone"]
    rest = restored.handle_timeout(world.now)
    assert name not in {action.connection for action in rest.actions}


# ---------------------------------------------------------------- retained messages on their way


def replaying(receive_maximum: int, batch: int = 1) -> World:
    world = World(limits=SessionLimits(retained_replay_batch=batch))
    for number in range(4):
        world.publish(f"r/{number}", b"%d" % number, qos=1, retain=True)
    world.connect(1, "a", receive_maximum=receive_maximum)
    world.subscribe(1, "r/#", qos=1)
    return world


@pytest.mark.parametrize(("receive_maximum", "batch"), [(9, 1), (1, 100)])
def test_retained_messages_go_on_where_they_were(receive_maximum: int, batch: int) -> None:
    """By themselves in the next slice, or as acknowledgements come in."""
    world = replaying(receive_maximum, batch)
    store = world.store
    restored = same(store)
    [original], [replay] = store._replays.values(), restored._replays.values()
    assert (original.lane is not None) == (replay.lane is not None) == (batch == 1)
    if batch == 1:
        assert original.lane is not None
        assert replay.lane is not None
        assert (original.at, original.lane.key) == (replay.at, replay.lane.key)
    told = []
    for one in (store, restored):
        outcomes = [one.handle(_published(b"live"), world.now)]
        for packet_id in range(1, 9):
            outcomes += [one.handle_timeout(world.now), one.handle(_puback(packet_id), world.now)]
        told.append([sent(outcome) for outcome in outcomes])
    assert told[0] == told[1]
    assert sorted(each for some in told[0] for each in some) == [b"1", b"2", b"3", b"live"]


def _published(payload: bytes) -> Any:
    return MessagePublished(Message("r/9", payload, 1))


def _puback(packet_id: int) -> Any:
    return PubackReceived(1, packet_id)


def test_retained_messages_of_a_parked_session_wait_for_it() -> None:
    world = replaying(9)
    world.lose(1)
    restored = same(world.store)
    assert restored.parked_count == 1
    event = ClientConnected(2, "a", clean_start=False, session_expiry_interval=60)
    assert sent(restored.handle(event, world.now)) == sent(world.do(event))


def test_a_filter_that_sorts_before_the_wildcards_is_no_wildcard() -> None:
    world = World()
    for topic in ("!/a", "!/a/b"):
        world.publish(topic, b"m", retain=True)
    assert [each.topic_name for each in world.store.retained("!/+")] == ["!/a"]


def test_a_long_page_of_retained_messages_ends_where_it_should() -> None:
    world = World()
    for number in range(302):
        world.store.handle(MessagePublished(Message(f"t/{number:03}", b"m", 0, True)), 0.0)
    page = world.store.retained("t/+", limit=300)
    assert (len(page), page[-1].topic_name) == (300, "t/299")


# ---------------------------------------------------------------- many packets at once


def test_many_packets_are_taken_in_all_or_none_where_one_has_no_connection() -> None:
    world = World()
    world.connect(1, "a")
    kept = PublishReceived(1, Message("t", b"m", 0, True))
    lost = PublishReceived(1, Message("t", b"m"))
    lost.connection = []  # type: ignore[misc]
    with pytest.raises(InvalidState, match="is not known"):
        world.store.handle_many([kept, lost], 0.0)
    assert world.store.retained_count == 0


def test_many_packets_may_come_to_notices_alone_or_to_the_one_empty_outcome() -> None:
    world = World()
    store = world.store
    world.subscriber(1, "a", "t", qos=1)
    world.publish("t", b"m", qos=1)
    empty = store.handle_many([PubackReceived(1, 9)], 0.0)
    assert empty is store.handle_many([], 0.0) is store.handle_timeout(0.0)
    assert empty == Outcome()
    refused = store.handle_many([PubackReceived(1, 1, ReasonCode.QUOTA_EXCEEDED)], 0.0)
    assert refused.actions == ()
    assert [each.reason for each in of_type(MessageDropped, refused.notices)] == [
        DropReason.REFUSED_BY_CLIENT
    ]


# ---------------------------------------------------------------- a session of its own


def routed(*messages: tuple[int, int]) -> Session:
    """A session whose host has these (QoS, packet identifier) messages to route."""
    session = Session("a")
    session.handle(ClientConnected(1, "a", session_expiry_interval=60), 0.0)
    for qos, packet_id in messages:
        session.handle(PublishReceived(1, Message("t", b"m", qos), packet_id), 0.0)
    return session


def test_routes_keep_their_order_and_numbers() -> None:
    session = routed((1, 11), (2, 21), (1, 12), (2, 22))
    session.handle(MessageRouted(4, ReasonCode.NO_MATCHING_SUBSCRIBERS), 0.0)
    snapshot = session.snapshot()
    assert [each.route_id for each in snapshot.routed] == [1, 2, 3, 4]
    assert snapshot.last_route_id == 4
    restored = Session.restore(snapshot)
    restored.check()
    assert restored.snapshot() == snapshot
    assert restored.handle(MessageRouted(3), 0.0).actions == ()
    assert restored.handle(MessageRouted(1), 0.0).actions == (
        SendPuback(1, 11, ReasonCode.SUCCESS),
        SendPuback(1, 12, ReasonCode.SUCCESS),
    )
    assert restored.handle(MessageRouted(2), 0.0).actions == (
        SendPubrec(1, 21, ReasonCode.SUCCESS),
        SendPubrec(1, 22, ReasonCode.NO_MATCHING_SUBSCRIBERS),
    )
    assert restored.handle(MessageRouted(4), 0.0) == Outcome()  # answered before
    [action] = restored.handle(PublishReceived(1, Message("t", b"m", 1), 31), 0.0).actions
    assert isinstance(action, RouteMessage)
    assert action.route_id == 5


@pytest.mark.parametrize("qos", [1, 2])
def test_an_answer_for_a_connection_that_is_gone_is_kept_from_the_next_one(qos: int) -> None:
    session = routed((qos, 11))
    session.handle(ConnectionLost(1), 1.0)
    session.handle(ClientConnected(2, "a", clean_start=False, session_expiry_interval=60), 1.0)
    restored = Session.restore(session.snapshot())
    for one in (session, restored):
        assert one.connection == 2
        assert one.handle(MessageRouted(1), 1.0).actions == ()
    if qos == 2:
        again = PublishReceived(2, Message("t", b"m", 2), 11, True)
        for one in (session, restored):
            assert one.handle(again, 1.0).actions == (SendPubrec(2, 11, ReasonCode.SUCCESS),)


def test_an_identifier_that_was_taken_anew_is_not_that_of_the_earlier_route() -> None:
    session = routed((2, 11))
    session.handle(ConnectionLost(1), 1.0)
    session.handle(ClientConnected(2, "a", clean_start=True, session_expiry_interval=60), 1.0)
    session.handle(PublishReceived(2, Message("t", b"other", 2), 11), 1.0)
    restored = Session.restore(session.snapshot())
    for one in (session, restored):
        assert one.handle(MessageRouted(1, ReasonCode.QUOTA_EXCEEDED), 1.0).actions == ()
        assert one.inbound_packet_ids == (11,)
        assert one.handle(MessageRouted(2), 1.0).actions == (SendPubrec(2, 11, ReasonCode.SUCCESS),)
        assert one.handle(PubrelReceived(2, 11), 1.0).actions == (
            SendPubcomp(2, 11, ReasonCode.SUCCESS),
        )


def test_books_and_closed_connections_of_a_session_alone_are_kept() -> None:
    session = routed()
    for number in range(5):
        session.handle(DeliverMessage(Delivery(Message("t", b"%d" % number, 1), 1)), 0.0)
    session.handle(PubackReceived(1, 1), 0.0)
    session.handle(PubackReceived(1, 2, ReasonCode.QUOTA_EXCEEDED), 0.0)
    session.handle(PublishReceived(1, Message("#", b"m")), 0.0)  # closes the connection
    snapshot = session.snapshot()
    assert snapshot.connections == (1,)
    assert snapshot.contents is not None
    assert snapshot.contents.accepted == 5
    assert snapshot.contents.dropped == ((DropReason.REFUSED_BY_CLIENT, 1),)
    restored = Session.restore(snapshot)
    assert restored.snapshot() == snapshot
    assert restored.counters == session.counters
    assert restored.handle(ConnectionLost(1), 0.0) == Outcome()
    with pytest.raises(InvalidState, match="not known"):
        restored.handle(ConnectionLost(1), 0.0)
    parked = Session.restore(restored.snapshot())
    parked.check()
    assert not parked.connected
    assert parked.snapshot().connections == ()


def test_a_session_that_was_never_there_is_restored_as_none() -> None:
    session = Session("a", limits=SessionLimits(maximum_send_window=3))
    snapshot = session.snapshot()
    assert snapshot.contents is None
    restored = Session.restore(snapshot)
    assert not restored.exists
    assert restored.snapshot() == snapshot
    restored.handle(ClientConnected(1, "a", 5), 0.0)
    assert restored.send_quota == 3


def test_a_view_is_restored_as_a_session_alone() -> None:
    world = World(limits=SessionLimits(maximum_send_window=3))
    world.subscriber(1, "a", "t", qos=1)
    world.publish("t", b"m", qos=1)
    view = world.session("a")
    snapshot = view.snapshot()
    assert (snapshot.client_id, snapshot.limits) == ("a", world.store.limits)
    alone = Session.restore(snapshot)
    alone.check()
    assert alone.in_flight == view.in_flight
    assert alone.send_quota == view.send_quota == 2
    world.lose(1)
    world.now = 1e9
    world.tick()
    assert view.snapshot().contents is None


def test_what_is_no_snapshot_of_a_session_is_refused() -> None:
    for other in (None, World().store.snapshot()):
        with pytest.raises(InvalidValue, match="SessionSnapshot"):
            Session.restore(other)  # type: ignore[arg-type]
