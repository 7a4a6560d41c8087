"""Feature L: memory stays under the sum of the limits, and a hostile peer hurts only itself."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtt_sessions import (
    ClientConnected,
    ClientRefused,
    ConnectionLost,
    ConnectReturnCode,
    DisconnectReceived,
    Event,
    LimitsChanged,
    MalformedPacketReceived,
    Message,
    MessagePublished,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    ReasonCode,
    ServerOptions,
    SessionLimits,
    SubscribeReceived,
    Subscription,
    UnsubscribeReceived,
    Will,
)

from .helpers import (
    RC,
    Client,
    World,
    all_versions,
    closed_with,
    fault,
    numbered,
    old_versions,
    spec,
)

# ---------------------------------------------------------------- sessions


@fault(40)
@all_versions
def test_cap_of_sessions_refuses_new_ones_only(version: int) -> None:
    world = World(limits=SessionLimits(maximum_sessions=2))
    first = world.connect("a", version, keep=True)
    world.connect("b", version, keep=True).lose()
    refused = world.connect("c", version)
    code = RC.QUOTA_EXCEEDED if version == 5 else ConnectReturnCode.SERVER_UNAVAILABLE
    assert refused.connack.reason_code is code
    assert len(world.take_notices(ClientRefused)) == 1
    assert first.session.connected
    assert world.connect("b", version, keep=True).connack.reason_code == 0  # resumed
    assert world.connect("a", version, clean=True).connack.reason_code == 0  # in its own place
    assert len(world.store) == 2


def test_what_has_expired_makes_room_for_a_session() -> None:
    world = World(limits=SessionLimits(maximum_sessions=1))
    world.connect("a", expiry=5).lose()
    world.wait_late(5)
    assert world.connect("b").connack.reason_code == 0
    assert list(world.store) == ["b"]


def test_client_id_length_is_capped() -> None:
    world = World(limits=SessionLimits(maximum_client_id_length=30))
    assert world.connect("a" * 30).connack.reason_code == 0
    assert world.connect("a" * 31).connack.reason_code is RC.CLIENT_IDENTIFIER_NOT_VALID


def test_changed_limits_hold_from_now_on() -> None:
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", "b", "c")
    world.feed(LimitsChanged(SessionLimits(maximum_subscriptions=2, maximum_send_window=1)))
    assert world.store.limits.maximum_subscriptions == 2
    seen = alice.subscribe("d")
    assert seen[-1].reason_codes == (RC.QUOTA_EXCEEDED,)  # type: ignore[union-attr]
    assert alice.session.send_quota == 32
    assert world.reconnect(alice).session.send_quota == 1


# ---------------------------------------------------------------- one client against all bounds

TIGHT = SessionLimits(
    maximum_subscriptions=3,
    maximum_queued_messages=5,
    maximum_queued_bytes=500,
    maximum_send_window=4,
    maximum_inbound_qos2=6,
    maximum_retained_messages=7,
    maximum_retained_bytes=700,
)


def flood_subscriptions(world: World, client: Client, number: int) -> None:
    client.subscribe(f"f/{number}/#", qos=2)


def flood_retained(world: World, client: Client, number: int) -> None:
    client.publish(f"r/{number}", b"x" * 60, qos=number % 2, retain=True)


def flood_qos_2(world: World, client: Client, number: int) -> None:
    client.publish("own", b"x" * 60, qos=2, packet_id=number + 1)


def flood_reconnects(world: World, client: Client, number: int) -> None:
    world.publish("own", qos=2)


@pytest.mark.parametrize(
    "flood",
    [flood_subscriptions, flood_retained, flood_qos_2, flood_reconnects],
    ids=lambda flood: flood.__name__,
)
@all_versions
def test_memory_stays_under_the_limits_whatever_a_client_sends(version: int, flood: object) -> None:
    world = World(limits=TIGHT, options=ServerOptions(receive_maximum=10))
    alice = world.connect(version=version, keep=True)
    alice.subscribe("own", qos=2)
    for number in range(60):
        if world.store.session_of(alice.connection) is None:
            alice = world.reconnect(alice)
        flood(world, alice, number)  # type: ignore[operator]
        view = alice.session
        assert len(view.subscriptions) <= 3
        assert view.queue_depth <= 5
        assert view.queued_bytes <= 500
        assert len(view.in_flight) <= 4
        assert len(view.inbound_packet_ids) <= 6
        assert world.store.retained_count <= 7
        assert sum(len(each.payload) for each in world.store.retained()) <= 700


@all_versions
def test_client_that_never_completes_holds_identifiers_and_no_messages(version: int) -> None:
    """PUBREC upon PUBREC across reconnects: what stays is a number each, and at most 65,535."""
    world = World(limits=SessionLimits(maximum_send_window=10))
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    for _ in range(5):
        for _ in range(10):
            world.publish("a", b"x" * 1000, qos=2)
        for each in alice.session.in_flight:
            if each.delivery is not None:
                alice.pubrec(each.packet_id)
        alice = world.reconnect(alice)
    in_flight = alice.session.in_flight
    assert len(in_flight) == 50
    assert all(each.delivery is None for each in in_flight)
    assert alice.session.queue_depth == 0


@spec("NN-5.3")
def test_error_of_one_client_closes_its_own_connection_only() -> None:
    world = World()
    others = [world.connect(f"c{version}", version) for version in (3, 4, 5)]
    for other in others:
        other.subscribe("a", qos=1)
        other.take()
    mallory = world.connect("mallory")
    mallory.take()
    assert closed_with(mallory.publish("#")) is RC.TOPIC_NAME_INVALID
    world.publish("a", b"1", qos=1)
    for other in others:
        assert other.received() == [b"1"]
        assert other.session.connected


@old_versions
def test_peers_error_to_a_3_x_client_is_a_bare_close(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.take()
    seen = alice.feed(MalformedPacketReceived(alice.connection))
    assert closed_with(seen, version) is RC.MALFORMED_PACKET
    assert len(seen) == 1


# ---------------------------------------------------------------- garbage

NAMES = st.sampled_from(["a", "b", "a/b", "$SYS/x", "/", ""])
TOPICS = st.one_of(NAMES, st.text(max_size=6), st.sampled_from(["#", "+", "a/#", "\0", "\ud800"]))
FILTERS = st.one_of(
    TOPICS, st.sampled_from(["+/b", "a/+/#", "#/a", "$share/g/a", "$share/", "$share//", "a#"])
)
IDS = st.one_of(st.integers(0, 6), st.integers(0, 65_535))
ANY_CODE = st.sampled_from(list(ReasonCode))
BYTES = st.binary(max_size=20)
INTERVALS = st.none() | st.integers(0, 10) | st.integers(0, 0xFFFFFFFF)


def messages(topics: st.SearchStrategy[str]) -> st.SearchStrategy[Message]:
    return st.builds(
        Message,
        topics,
        BYTES,
        st.integers(0, 3),
        st.booleans(),
        INTERVALS,
    )


def subscriptions() -> st.SearchStrategy[Subscription]:
    return st.builds(
        Subscription,
        FILTERS,
        st.integers(0, 3),
        st.booleans(),
        st.booleans(),
        st.integers(0, 3),
        st.none() | st.integers(0, 3) | st.just(268_435_456),
    )


def packets(connection: Hashable) -> st.SearchStrategy[Event]:
    """Anything that a codec could make of a hostile client's bytes, and more."""
    on = st.just(connection)
    few = st.lists(FILTERS, max_size=4).map(tuple)
    return st.one_of(
        st.builds(
            PublishReceived,
            on,
            messages(TOPICS),
            st.none() | IDS,
            st.booleans(),
            st.none() | st.sampled_from([RC.NOT_AUTHORIZED, RC.QUOTA_EXCEEDED]),
            st.just(()) | st.just((1,)),
        ),
        st.builds(PubackReceived, on, IDS, ANY_CODE),
        st.builds(PubrecReceived, on, IDS, ANY_CODE),
        st.builds(PubrelReceived, on, IDS, ANY_CODE),
        st.builds(PubcompReceived, on, IDS, ANY_CODE),
        st.builds(SubscribeReceived, on, IDS, st.lists(subscriptions(), max_size=4).map(tuple)),
        st.builds(UnsubscribeReceived, on, IDS, few),
        st.builds(PingReceived, on),
        st.builds(DisconnectReceived, on, st.integers(0, 255), INTERVALS),
        st.builds(MalformedPacketReceived, on),
        st.builds(ClientConnected, on, st.sampled_from(["mallory", "victim", ""])),
    )


def wills(version: int) -> st.SearchStrategy[Will | None]:
    message = st.builds(
        Message, TOPICS, BYTES, st.integers(0, 2), st.booleans(), st.none() | st.integers(0, 9)
    )
    delay = st.integers(0, 20) if version == 5 else st.just(0)
    return st.none() | st.builds(Will, message, delay)


def connects(version: int) -> st.SearchStrategy[dict[str, object]]:
    """What a client says when it connects. Strategies that each draw makes anew are slow."""
    five = version == 5
    return st.fixed_dictionaries(
        {
            "client_id": st.just("mallory"),
            "version": st.just(version),
            "clean": st.booleans(),
            "expiry": INTERVALS if five else st.none(),
            "receive_maximum": st.none() | st.integers(0, 3) if five else st.none(),
            "maximum_packet_size": st.none() | st.integers(0, 30) if five else st.none(),
            "keep_alive": st.integers(0, 5),
            "will": wills(version),
        }
    )


CONNECTS = st.one_of(*map(connects, (3, 4, 5)))
STEP = st.one_of(
    st.tuples(st.just("connect"), CONNECTS),
    *[st.tuples(st.just("packet"), packets("here"))] * 5,
    *[st.tuples(st.just("publish"), NAMES.filter(bool))] * 2,
    st.tuples(st.just("wait"), st.floats(0, 20)),
)
SCRIPT = st.builds(
    lambda first, steps: [("connect", first), *steps],
    CONNECTS,
    st.lists(STEP, min_size=5, max_size=60),
)


def send(world: World, client: Client, event: Event) -> None:
    """Feed a packet; a CONNECT behind a close is one that no host would read."""
    is_open = world.store.session_of(client.connection) is not None
    if is_open or not isinstance(event, ClientConnected):
        world.feed(rename(event, client.connection))


def rename(event: Event, connection: Hashable) -> Event:
    fields = {name: getattr(event, name) for name in type(event).__match_args__}
    return type(event)(**{**fields, "connection": connection})  # type: ignore[arg-type]


@pytest.mark.unmeasured
@settings(max_examples=300)
@given(SCRIPT)
def test_garbage_never_raises_and_never_touches_another_session(
    script: list[tuple[str, object]],
) -> None:
    """The world's witness and `store.check()` look at each step."""
    world = World(
        limits=SessionLimits(maximum_queued_messages=5, maximum_inbound_qos2=3),
        size_of=lambda delivery, version: len(delivery.message.payload) + 10,
    )
    victim = world.connect("victim", keep=True)
    victim.subscribe("victims/own", qos=1)
    world.publish("victims/own", b"in flight", qos=1)
    victim.take()
    mallory: Client | None = None
    for what, argument in script:
        if what == "wait":
            world.wait(argument)  # type: ignore[arg-type]
        elif what == "publish":
            world.publish(argument, qos=2)  # type: ignore[arg-type]
        elif what == "connect":
            mallory = world.connect(**argument)  # type: ignore[arg-type]
        elif mallory is not None:
            send(world, mallory, argument)  # type: ignore[arg-type]
            if "mallory" in world.store:
                view = world.store["mallory"]
                assert view.queue_depth <= 5
                assert len(view.inbound_packet_ids) <= 3
    assert victim.take() == []
    assert victim.session.connected
    assert [each.packet_id for each in victim.session.in_flight] == [1]
    assert [each.topic_filter for each in victim.session.subscriptions] == ["victims/own"]


@settings(max_examples=100)
@given(SCRIPT)
def test_store_without_sessions_has_no_deadlines_left(script: list[tuple[str, object]]) -> None:
    """Whatever happened, what is gone has left the index of deadlines."""
    world = World(limits=SessionLimits(maximum_queued_messages=5))
    mallory: Client | None = None
    for what, argument in script:
        if what == "connect":
            mallory = world.connect(**argument)  # type: ignore[arg-type]
        elif what == "packet" and mallory is not None:
            send(world, mallory, argument)  # type: ignore[arg-type]
    if mallory is not None:
        world.feed(ConnectionLost(mallory.connection))
        world.connect("mallory", clean=True).disconnect()
    for message in world.store.retained(limit=1000):
        world.feed(MessagePublished(Message(message.topic_name, b"", 0, True)))
    assert len(world.store) == 0
    assert world.store.next_deadline_at is None


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["q0", "q1", "q2", "ack", "away", "back", "late"]), max_size=60))
def test_well_behaved_client_gets_everything_in_order_and_once(steps: list[str]) -> None:
    """Each publisher's order holds for each QoS, and at QoS 2 nothing comes twice."""
    world = World(limits=SessionLimits(maximum_send_window=3))
    alice = world.connect(keep=True, receive_maximum=2)
    alice.subscribe("a", qos=2)
    alice.take()
    sent: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    seen: list[bytes] = []
    for number, step in enumerate(steps):
        if step[0] == "q":
            qos = int(step[1])
            payload = b"%d %d" % (qos, number)
            sent[qos].append(payload)
            world.publish("a", payload, qos=qos)
        elif step == "ack":
            seen += alice.acknowledge_all()
        elif step == "away" and alice.session.connected:
            seen += [each for each in alice.received() if each[:1] == b"0"]
            alice.lose()
        elif step == "back" and not alice.session.connected:
            alice = world.connect(keep=True, receive_maximum=2)
        elif step == "late":
            world.wait(1)
    if not alice.session.connected:
        alice = world.connect(keep=True)
    seen += alice.acknowledge_all()
    for qos, payloads in sent.items():
        assert [each for each in seen if each[:1] == b"%d" % qos] == payloads
    assert alice.session.in_flight == ()
    assert alice.session.queue_depth == 0


def test_numbers_of_one_world_are_those_of_its_store() -> None:
    world = World(limits=SessionLimits(maximum_queued_messages=2))
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    for payload in numbered(5):
        world.publish("a", payload, qos=1)
    assert world.store.counters.accepted == 5
    assert sum(world.store.counters.dropped.values()) == len(world.drops()) == 3
