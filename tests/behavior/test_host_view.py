"""Feature K: what a host can see and do, and a session without a store."""

from __future__ import annotations

import attrs
import pytest

from mqtt_sessions import (
    ClientConnected,
    CloseConnection,
    ConnectionLost,
    DeadlineKind,
    DeliverMessage,
    Delivery,
    InboundAliases,
    InvalidState,
    Message,
    MessagePublished,
    MessageRouted,
    OutboundAliases,
    Phase,
    PingReceived,
    PubackReceived,
    PublishReceived,
    PubrecReceived,
    RouteMessage,
    SendPingresp,
    SendPuback,
    SendPublish,
    SendPubrec,
    Session,
    SessionDiscarded,
    SessionKicked,
    SessionLimits,
    Subscription,
)

from .helpers import OK, RC, World, all_versions, closed_with, kinds, numbered, only, spec, will

# ---------------------------------------------------------------- reading


def test_store_reads_like_a_mapping() -> None:
    world = World()
    alice = world.connect("alice", keep=True)
    world.connect("bob", keep=True).lose()
    store = world.store
    assert len(store) == 2
    assert list(store) == ["alice", "bob"]
    assert "alice" in store
    assert "carol" not in store
    assert store["bob"].client_id == "bob"
    assert store.get("carol") is None
    with pytest.raises(KeyError):
        store["carol"]
    assert (store.connected_count, store.parked_count) == (1, 1)
    session = store.session_of(alice.connection)
    assert session is not None
    assert session.client_id == "alice"
    assert store.session_of("unknown") is None


def test_pages_of_sessions_are_stable_whatever_comes_and_goes() -> None:
    world = World()
    for name in ("d", "b", "e", "a", "c"):
        world.connect(name, keep=True)
    assert world.store.page(limit=2) == ("a", "b")
    world.feed(SessionDiscarded("b"))
    world.feed(SessionDiscarded("c"))
    world.connect("aa", keep=True)
    world.connect("cc", keep=True)
    assert world.store.page(after="b", limit=2) == ("cc", "d")
    assert world.store.page(after="d") == ("e",)
    assert world.store.page(after="e") == ()


def test_what_a_session_shows() -> None:
    world = World(limits=SessionLimits(maximum_send_window=2))
    alice = world.connect(expiry=100, principal="her", will=will(payload=b"bye", delay=10))
    alice.subscribe("a", qos=2, subscription_id=3)
    for payload in numbered(3):
        world.publish("a", payload, qos=2)
    alice.pubrec(1)
    alice.publish("b", qos=2, packet_id=9)
    view = alice.session
    assert view.connected
    assert view.connection == alice.connection
    assert view.protocol_version == 5
    assert view.principal == "her"
    assert view.session_expiry_interval == 100
    assert view.expires_at is None
    assert view.subscriptions == (Subscription("a", 2, subscription_id=3),)
    assert [(each.packet_id, each.phase) for each in view.in_flight] == [
        (2, Phase.AWAITING_PUBREC),
        (1, Phase.AWAITING_PUBCOMP),
    ]
    assert [delivery.message.payload for delivery in view.queued()] == [b"3"]
    assert view.queued_bytes == 2
    assert view.send_quota == 0
    assert view.inbound_packet_ids == (9,)
    assert view.will is not None
    assert view.will.payload == b"bye"
    alice.lose()
    assert not view.connected
    assert view.connection is None
    assert view.protocol_version is None
    assert view.expires_at == world.now + 100
    assert view.will_due_at == world.now + 10
    assert view.send_quota == 0


def test_queue_is_read_page_by_page() -> None:
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    for payload in numbered(10):
        world.publish("a", payload, qos=1)
    pages = [alice.session.queued(start, 4) for start in (0, 4, 8, 12)]
    assert [[each.message.payload for each in page] for page in pages] == [
        numbered(4),
        numbered(4, start=5),
        numbered(2, start=9),
        [],
    ]
    assert alice.session.queue_depth == 10


def test_view_of_a_session_that_has_ended_is_empty() -> None:
    world = World()
    alice = world.connect()
    view = alice.session
    alice.subscribe("a")
    alice.lose()
    assert not view.exists
    assert not view.connected
    assert view.subscriptions == ()


def test_no_repr_shows_a_payload() -> None:
    world = World()
    alice = world.connect(keep=True, will=will(payload=b"secret"))
    alice.subscribe("a", qos=1)
    world.publish("a", b"secret", qos=1, correlation_data=b"secret")
    view = alice.session
    seen = repr(alice.take()) + repr(view) + repr(view.in_flight) + repr(view.will)
    alice.lose()
    world.feed(SessionDiscarded("alice"))
    seen += repr(world.notices) + repr(view)
    assert "<6 bytes>" in seen
    assert "secret" not in seen


# ---------------------------------------------------------------- counters


@all_versions
def test_ledger_adds_up_at_every_instant(version: int) -> None:
    """Accepted = queued + in flight + completed + dropped."""
    world = World(limits=SessionLimits(maximum_queued_messages=3, maximum_send_window=2))
    alice = world.connect(version=version, keep=True)
    alice.subscribe("#", qos=2)

    def adds_up() -> None:
        view = alice.session
        counters = view.counters
        held = view.queue_depth + len(view.in_flight)
        dropped = sum(counters.dropped.values())
        assert counters.accepted == held + counters.completed + dropped

    for number in range(9):
        world.publish("a", b"%d" % number, qos=number % 3, message_expiry_interval=5 + number)
        adds_up()
    alice.pubrec(2)
    adds_up()
    alice.puback(1)
    adds_up()
    alice = world.reconnect(alice)
    adds_up()
    alice.lose()
    world.wait(7)
    adds_up()
    accepted = alice.session.counters.accepted
    assert accepted == 9
    world.feed(SessionDiscarded("alice"))
    totals = world.store.counters
    assert totals.accepted == accepted == totals.completed + sum(totals.dropped.values())


def test_own_message_under_no_local_is_not_accepted() -> None:
    world = World()
    alice = world.connect()
    alice.subscribe("a", no_local=True)
    alice.publish("a")
    assert alice.session.counters.accepted == 0


# ---------------------------------------------------------------- the door


def test_many_packets_make_one_outcome() -> None:
    world = World()
    alice = world.connect(receive_maximum=2)
    alice.subscribe("a", qos=1)
    for payload in numbered(4):
        world.publish("a", payload, qos=1)
    connection = alice.connection
    outcome = world.store.handle_many(
        [
            PubackReceived(connection, 1),
            PubackReceived(connection, 2),
            PingReceived(connection),
        ],
        world.now,
    )
    assert kinds(outcome.actions) == [SendPublish, SendPublish, SendPingresp]


def test_many_packets_are_taken_in_all_or_none() -> None:
    world = World()
    alice = world.connect()
    alice.subscribe("a", qos=1)
    world.publish("a", qos=1)
    ack = PubackReceived(alice.connection, 1)
    for bad in (PingReceived("unknown"), SessionKicked("alice"), ConnectionLost(alice.connection)):
        with pytest.raises(InvalidState):
            world.store.handle_many([ack, bad], world.now)  # type: ignore[list-item]
    assert len(alice.session.in_flight) == 1
    assert alice.session.connected


@spec("5.0 MQTT-3.1.0-1", "3.1.1 MQTT-3.1.0-1")
def test_event_of_an_unknown_connection_is_the_hosts_fault_and_changes_nothing() -> None:
    world = World()
    for event in (
        PingReceived("unknown"),
        PubackReceived("unknown", 1),
        PublishReceived("unknown", Message("a", retain=True)),
        ConnectionLost("unknown"),
    ):
        with pytest.raises(InvalidState):
            world.feed(event)
    assert len(world.store) == world.store.retained_count == 0


def test_each_connection_is_named_by_any_hashable() -> None:
    world = World()
    name = ("10.0.0.1", 1883, object())
    outcome = world.store.handle(ClientConnected(name, "alice"), world.now)
    assert outcome.actions[0].connection is name  # type: ignore[union-attr]
    assert world.store.session_of(name) is not None


def test_host_publishes_in_a_clients_name() -> None:
    world = World()
    alice, bob = world.connect("alice"), world.connect("bob")
    for client in (alice, bob):
        client.subscribe("a", no_local=True)
        client.take()
    world.feed(MessagePublished(Message("a", b"1"), "alice"))
    assert alice.received() == []
    assert bob.received() == [b"1"]


# ---------------------------------------------------------------- a session without a store


def alone(version: int = 5, **options: object) -> Session:
    session = Session("alice", **options)  # type: ignore[arg-type]
    expiry = 100 if version == 5 else None
    session.handle(ClientConnected(1, "alice", version, False, expiry), 0)
    return session


@spec("5.0 MQTT-4.3.2-4", "5.0 MQTT-4.3.3-8", "3.1.1 MQTT-4.3.2-2 (a)")
@all_versions
def test_lone_session_asks_its_host_to_route(version: int) -> None:
    session = alone(version)
    message = Message("a", b"1", 1)
    (route,) = session.handle(PublishReceived(1, message, 5), 0).actions
    assert route == RouteMessage(message, 1, "alice")
    seen = session.handle(MessageRouted(1, OK), 0).actions
    assert seen == (SendPuback(1, 5, OK),)
    session.check()


@spec(
    "5.0 MQTT-4.6.0-2",
    "5.0 MQTT-4.6.0-3",
    "3.1.1 MQTT-4.6.0-2",
    "3.1.1 MQTT-4.6.0-3",
    "3.1.1 MQTT-4.6.0-6 (b)",
    "3.1.1 MQTT-4.6.0-6 (c)",
    "NN-15.3",
    "NN-15.4",
)
@all_versions
def test_answers_of_the_host_leave_in_receive_order(version: int) -> None:
    """NN-15.4: for each QoS."""
    session = alone(version)
    for packet_id, qos in ((1, 1), (2, 2), (3, 1), (4, 2)):
        session.handle(PublishReceived(1, Message("a", b"", qos), packet_id), 0)
    seen = [session.handle(MessageRouted(route_id, OK), 0).actions for route_id in (4, 3, 1, 2)]
    assert seen == [
        (),
        (),
        (SendPuback(1, 1, OK), SendPuback(1, 3, OK)),
        (SendPubrec(1, 2, OK), SendPubrec(1, 4, OK)),
    ]
    session.check()


@spec("5.0 MQTT-4.3.3-9", "5.0 MQTT-4.3.3-10 (a)", "NN-7.2", "NN-7.7 (b)")
def test_repeat_is_not_routed_twice_and_a_refusal_frees_the_identifier() -> None:
    session = alone()
    publish = PublishReceived(1, Message("a", b"", 2), 5)
    assert kinds(session.handle(publish, 0).actions) == [RouteMessage]
    assert session.handle(publish, 0).actions == ()
    (answer,) = session.handle(MessageRouted(1, RC.QUOTA_EXCEEDED), 0).actions
    assert answer == SendPubrec(1, 5, RC.QUOTA_EXCEEDED)
    assert kinds(session.handle(publish, 0).actions) == [RouteMessage]
    session.check()


@spec("5.0 MQTT-4.3.3-10 (b)")
def test_answer_that_comes_after_the_connection_is_gone_is_kept_for_the_repeat() -> None:
    session = alone()
    session.handle(PublishReceived(1, Message("a", b"", 2), 5), 0)
    session.handle(ConnectionLost(1), 0)
    assert session.handle(MessageRouted(1, OK), 0).actions == ()
    session.handle(ClientConnected(2, "alice", 5, False, 100), 0)
    repeat = PublishReceived(2, Message("a", b"", 2), 5, True)
    assert session.handle(repeat, 0).actions == (SendPubrec(2, 5, OK),)
    session.check()


def test_lone_session_takes_in_what_its_host_delivers() -> None:
    session = alone()
    first = Delivery(Message("a", b"1", 2), 2)
    (publish,) = session.handle(DeliverMessage(first), 0).actions
    assert publish == SendPublish(1, attrs.evolve(first, received_at=0.0), 1, False, None)
    session.handle(ConnectionLost(1), 0)
    late = Delivery(Message("a", b"2", 1), 1, expires_at=5.0, message_expiry_interval=5)
    session.handle(DeliverMessage(late), 0)
    deadline = session.next_deadline
    assert deadline is not None
    assert (deadline.at, deadline.kind) == (5.0, DeadlineKind.MESSAGE_EXPIRY)
    session.handle_timeout(5)
    assert session.queue_depth == 0
    seen = session.handle(ClientConnected(2, "alice", 5, False, 100), 6).actions
    assert [each.packet_id for each in only(SendPublish, seen)] == [1]
    session.handle(PubrecReceived(2, 1), 6)
    session.check()


def test_lone_session_has_its_will_routed() -> None:
    session = Session("alice")
    session.handle(ClientConnected(1, "alice", will=will(payload=b"bye")), 0)
    (route,) = session.handle(ConnectionLost(1), 0).actions
    assert isinstance(route, RouteMessage)
    assert (route.message.payload, route.route_id) == (b"bye", None)
    assert not session.exists


def test_what_only_a_store_understands_is_the_hosts_fault() -> None:
    session = alone()
    with pytest.raises(InvalidState):
        session.handle(MessagePublished(Message("a")), 0)
    with pytest.raises(InvalidState):
        session.handle(MessageRouted(99), 0)
    with pytest.raises(InvalidState):
        session.handle(ClientConnected(7, "bob"), 0)
    world = World()
    with pytest.raises(InvalidState):
        world.feed(MessageRouted(1))
    view = world.connect().session
    with pytest.raises(InvalidState):
        view.handle(PingReceived(1), 0)


def test_lone_session_closes_a_peer_at_fault() -> None:
    session = alone()
    seen = session.handle(PublishReceived(1, Message("#")), 0).actions
    assert closed_with(seen) is RC.TOPIC_NAME_INVALID
    assert type(seen[-1]) is CloseConnection
    session.check()


# ---------------------------------------------------------------- topic aliases


@spec(
    "5.0 MQTT-3.2.2-17",
    "5.0 MQTT-3.3.2-7",
    "5.0 MQTT-3.3.2-8",
    "5.0 MQTT-3.3.2-9",
    "5.0 MQTT-3.3.2-12",
    "5.0 MQTT-4.13.1-1 (e)",
    "NN-1.9 (d)",
    "NN-16.1",
)
def test_inbound_aliases_of_one_connection() -> None:
    aliases = InboundAliases(2)
    assert aliases.resolve("a", 1) == "a"
    assert aliases.resolve("b", 2) == "b"
    assert aliases.resolve("", 1) == "a"
    assert aliases.resolve("c", 1) == "c"  # re-assigned
    assert aliases.resolve("", 1) == "c"
    assert aliases.resolve("a", None) == "a"
    assert aliases.resolve("a", 0) is RC.TOPIC_ALIAS_INVALID
    assert aliases.resolve("a", 3) is RC.TOPIC_ALIAS_INVALID
    assert aliases.resolve("", None) is RC.PROTOCOL_ERROR
    assert InboundAliases(2).resolve("", 1) is RC.PROTOCOL_ERROR  # gone with the connection


@spec("5.0 MQTT-3.2.2-18")
def test_client_uses_no_alias_where_none_was_announced() -> None:
    assert World().connect().connack.topic_alias_maximum is None
    assert InboundAliases(0).resolve("a", 1) is RC.TOPIC_ALIAS_INVALID


@spec("5.0 MQTT-3.1.2-26", "5.0 MQTT-3.1.2-27", "5.0 MQTT-3.3.2-11", "NN-16.1")
@pytest.mark.parametrize("maximum", [0, 1, 3])
def test_outbound_aliases_stay_within_what_the_client_takes(maximum: int) -> None:
    aliases = OutboundAliases(maximum)
    for topic_name in ("topic/1", "topic/2", "topic/1", "topic/3", "topic/4", "topic/1"):
        alias, with_name = aliases.plan(topic_name)
        if maximum == 0:
            assert (alias, with_name) == (None, True)
            continue
        assert alias is not None
        assert 1 <= alias <= maximum
        aliases.sent(topic_name, alias)
        assert aliases.plan(topic_name) == (alias, False)
    assert len(aliases) <= maximum
