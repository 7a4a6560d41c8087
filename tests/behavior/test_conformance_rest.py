"""Statements of the standard that no scenario of the other files is about, duty by duty."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from mqtt_sessions import (
    CloseConnection,
    ConnectionLost,
    ConnectReturnCode,
    ExpiryPolicy,
    InvalidValue,
    Message,
    MessageRouted,
    PublishReceived,
    ReasonCode,
    SendConnack,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
    ServerOptions,
    SessionKicked,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
    UnsubscribeReceived,
    WillPublished,
    wire,
)

from .helpers import (
    NEVER_ON_WIRE,
    OK,
    RC,
    Client,
    World,
    all_versions,
    closed_with,
    codes,
    fault,
    ids,
    old_versions,
    only,
    payloads,
    pubrels,
    sent_again,
    spec,
    will,
)


def restart(world: World) -> None:
    """The store is lost and restored from what it was; its connections are lost too."""
    snapshot = world.store.snapshot()
    world.store = SessionStore.restore(snapshot)
    world.store.check()
    for connection in snapshot.connections:
        world.store.handle(ConnectionLost(connection), world.now)


def skip_to_the_last_packet_id(world: World, client_id: str) -> None:
    """As if the identifiers up to 65,535 had been used and given back."""
    snapshot = world.store.snapshot()
    sessions = tuple(
        attrs.evolve(each, last_packet_id=65_535) if each.client_id == client_id else each
        for each in snapshot.sessions
    )
    world.store = SessionStore.restore(attrs.evolve(snapshot, sessions=sessions))
    world.store.check()


# ---------------------------------------------------------------- identifiers


def settle_by_puback(alice: Client) -> None:
    alice.puback(1)


def settle_by_pubcomp(alice: Client) -> None:
    alice.pubrec(1)
    alice.pubcomp(1)


def settle_by_negative_pubrec(alice: Client) -> None:
    alice.pubrec(1, RC.QUOTA_EXCEEDED)


@pytest.mark.parametrize(
    ("version", "qos", "settle"),
    [
        pytest.param(4, 1, settle_by_puback, marks=spec("3.1.1 MQTT-2.3.1-3 (b)")),
        pytest.param(5, 1, settle_by_puback, marks=spec("NN-6.2 (a)")),
        pytest.param(4, 2, settle_by_pubcomp, marks=spec("3.1.1 MQTT-2.3.1-3 (c)")),
        pytest.param(5, 2, settle_by_pubcomp, marks=spec("NN-6.2 (b)")),
        pytest.param(5, 2, settle_by_negative_pubrec, marks=spec("NN-6.2 (c)", "NN-7.7 (a)")),
    ],
)
def test_identifier_is_free_once_its_exchange_is_settled(
    version: int, qos: int, settle: Any
) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("a", qos=2)
    world.publish("a", qos=qos)
    assert ids(alice.take()) == [1]
    skip_to_the_last_packet_id(world, "alice")
    world.publish("a", qos=qos)
    assert ids(alice.take()) == [2]  # the first is in use
    settle(alice)
    skip_to_the_last_packet_id(world, "alice")
    world.publish("a", qos=qos)
    assert ids(alice.take()) == [1]


@spec("3.1.1 MQTT-2.3.1-3 (c)", "NN-6.2 (b)", "5.0 MQTT-2.2.1-4", "3.1.1 MQTT-2.3.1-4")
@all_versions
def test_identifier_is_not_free_between_pubrec_and_pubcomp(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("a", qos=2)
    world.publish("a", qos=2)
    alice.take()
    alice.pubrec(1)
    alice.take()
    skip_to_the_last_packet_id(world, "alice")
    world.publish("a", qos=1)
    assert ids(alice.take()) == [2]


@spec("3.1.1 MQTT-2.3.1-3 (d)", "NN-6.2 (d)")
@all_versions
def test_identifier_of_an_answered_request_is_free(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    for _ in range(2):
        assert codes(alice.subscribe("a", packet_id=7)) == (OK,)
        assert codes(alice.unsubscribe("a", packet_id=7)) == (OK,)
    assert alice.publish("a", qos=2, packet_id=7)[0].reason_code < 0x80


@spec("5.0 MQTT-2.2.1-5", "3.1.1 MQTT-2.3.1-6")
@all_versions
def test_each_answer_has_the_identifier_of_what_it_answers(version: int) -> None:
    """Of several open exchanges, in both directions and in no order."""
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("a", qos=2)
    for _ in range(3):
        world.publish("a", qos=2)
    alice.take()
    for packet_id in (3, 1, 2):
        assert alice.pubrec(packet_id) == [SendPubrel(alice.connection, packet_id, OK)]
    for packet_id in (9, 700, 65_535):
        (pubrec,) = alice.publish("b", qos=2, packet_id=packet_id)
        assert pubrec.packet_id == packet_id
    for packet_id in (700, 65_535, 9):
        assert alice.pubrel(packet_id) == [SendPubcomp(alice.connection, packet_id, OK)]
    (puback,) = alice.publish("b", qos=1, packet_id=40_000)
    assert puback.packet_id == 40_000


# ---------------------------------------------------------------- codes

TABLES = [
    (
        "PUBACK and PUBREC",
        lambda code: PublishReceived(1, Message("a", b"", 1), 1, refusal=code),
        {0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    ),
    ("PUBACK and PUBREC, later", lambda code: MessageRouted(1, code), set(range(0x80))),
    (
        "SUBACK",
        lambda code: SubscribeReceived(1, 1, (Subscription("a"),), (code,)),
        {0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    ),
    (
        "UNSUBACK",
        lambda code: UnsubscribeReceived(1, 1, ("a",), (code,)),
        {0x80, 0x83, 0x87, 0x8F, 0x91},
    ),
]


@spec("5.0 MQTT-3.4.2-1", "5.0 MQTT-3.5.2-1", "5.0 MQTT-3.9.3-2", "5.0 MQTT-3.11.3-2")
@pytest.mark.parametrize(("packet", "make", "allowed"), TABLES, ids=lambda each: str(each)[:20])
def test_host_cannot_refuse_with_a_code_that_the_answer_cannot_carry(
    packet: str, make: Any, allowed: set[int]
) -> None:
    refused = [code for code in ReasonCode if code >= 0x80 and code not in allowed]
    if packet == "PUBACK and PUBREC, later":
        refused = [code for code in refused if code not in TABLES[0][2]]
    assert len(refused) > 10
    for code in refused:
        with pytest.raises(InvalidValue):
            make(code)


@spec("5.0 MQTT-3.14.2-1")
def test_host_cannot_close_with_a_code_that_disconnect_cannot_carry() -> None:
    for code in (RC.CLIENT_IDENTIFIER_NOT_VALID, RC.BANNED, RC.NO_SUBSCRIPTION_EXISTED):
        with pytest.raises(InvalidValue):
            SessionKicked("alice", code)


@spec("5.0 MQTT-3.1.2-29")
def test_no_acknowledgement_carries_a_reason_string_or_user_properties() -> None:
    """So Request Problem Information 0 asks for nothing that would have to be left out."""
    encoder = wire.Encoder(5)
    decoder = wire.Decoder(wire.Role.CLIENT, 5)
    actions = (
        SendPuback(1, 1, RC.NOT_AUTHORIZED),
        SendPubrec(1, 1, RC.QUOTA_EXCEEDED),
        SendPubrel(1, 1, RC.PACKET_IDENTIFIER_NOT_FOUND),
        SendPubcomp(1, 1, RC.PACKET_IDENTIFIER_NOT_FOUND),
        SendSuback(1, 1, (RC.NOT_AUTHORIZED,)),
        SendUnsuback(1, 1, (RC.NOT_AUTHORIZED,)),
    )
    for action in actions:
        (packet,) = decoder.feed(encoder.encode(action))
        assert not isinstance(packet, wire.WireError)
        assert packet.reason_string is None  # type: ignore[union-attr]
        assert packet.user_properties == ()  # type: ignore[union-attr]


# ---------------------------------------------------------------- size


@spec("5.0 MQTT-3.2.2-15", "5.0 MQTT-4.13.1-1 (f)")
@pytest.mark.parametrize(("size", "expected"), [(50, None), (51, RC.PACKET_TOO_LARGE)])
def test_packet_above_the_servers_maximum_packet_size_closes(
    size: int, expected: ReasonCode | None
) -> None:
    """What was told in CONNACK is what the decoder enforces."""
    world = World(options=ServerOptions(maximum_packet_size=50))
    bob = world.connect("bob")
    bob.subscribe("#")
    bob.take()
    alice = world.connect()
    told = alice.connack.maximum_packet_size
    alice.take()
    data = wire.encode(wire.Publish(Message("t", b"x" * (size - 6))), 5)
    assert len(data) == size
    decoder = wire.Decoder(wire.Role.SERVER, 5, maximum_packet_size=told)
    (item,) = decoder.feed(data)
    seen = alice.feed(wire.to_event(item, alice.connection))
    assert closed_with(seen) is expected
    assert len(bob.received()) == (expected is None)


@spec("5.0 MQTT-4.7.3-3", "3.1.1 MQTT-4.7.3-3")
@pytest.mark.parametrize("letter", ["a", "\u00e9"])
@all_versions
def test_topic_names_end_at_65_535_bytes(version: int, letter: str) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.take()
    most = 65_535 // len(letter.encode())
    assert closed_with(alice.publish(letter * most), version) is None
    assert closed_with(alice.publish(letter * (most + 1)), version) is RC.TOPIC_NAME_INVALID


# ---------------------------------------------------------------- expiry


@spec("5.0 MQTT-4.3.3-13")
def test_received_exchange_is_completed_though_its_message_has_expired() -> None:
    world = World()
    bob = world.connect("bob", keep=True)
    bob.subscribe("a", qos=2)
    bob.lose()
    alice = world.connect("alice", keep=True)
    alice.publish("a", b"1", qos=2, packet_id=7, message_expiry_interval=5)
    world.wait(10)
    assert world.drops() == [("bob", b"1", "expired")]
    assert alice.publish("a", b"1", qos=2, packet_id=7, dup=True)[-1] == SendPubrec(
        alice.connection, 7, OK
    )
    assert world.store["bob"].queue_depth == 0  # not handed on again
    alice = world.reconnect(alice)
    alice.take()
    assert alice.pubrel(7) == [SendPubcomp(alice.connection, 7, OK)]


@spec("NN-8.6")
@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_sent_again_is_the_same_message(qos: int) -> None:
    """Whatever has become of the subscription; DUP and what is left of the interval aside."""
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=2, subscription_id=4, retain_as_published=True)
    alice.take()
    message = Message("a", b"\0", 2, True, 100, 1, "text", "re", b"c", (("k", "v"), ("k", "v")))
    bob = world.connect("bob")
    bob.feed(PublishReceived(bob.connection, attrs.evolve(message, qos=qos), 1))
    (first,) = alice.take()
    alice.subscribe("a", qos=0)
    world.wait(30)
    alice = world.reconnect(alice)
    (again,) = only(SendPublish, alice.take())
    assert again.delivery == first.delivery
    assert (again.packet_id, again.dup) == (first.packet_id, True)
    assert (first.message_expiry_interval, again.message_expiry_interval) == (100, 70)


# ---------------------------------------------------------------- what a session holds


@spec("NN-1.7 (b)")
@all_versions
def test_resumed_session_has_its_subscriptions_with_all_options(version: int) -> None:
    world = World()
    alice = world.connect(version=version, keep=True)
    wanted = [Subscription("a/+", 1), Subscription("b/#", 0)]
    if version == 5:
        wanted.append(Subscription("c", 2, True, True, 1, 9))
    alice.subscribe(*wanted)
    alice = world.reconnect(alice)
    assert list(alice.session.subscriptions) == wanted
    alice.take()
    world.publish("a/x", b"1", qos=2)
    assert [(each.message.payload, each.qos) for each in alice.deliveries()] == [(b"1", 1)]
    if version == 5:
        assert payloads(alice.publish("c", b"own")) == []
        world.publish("c", b"2", qos=2, retain=True)
        (delivery,) = alice.deliveries()
        assert (delivery.qos, delivery.retain, delivery.subscription_ids) == (2, True, (9,))


@spec("NN-1.7 (c)", "3.1.1 MQTT-4.1.0-1")
@all_versions
def test_resumed_session_has_what_was_in_flight(version: int) -> None:
    """However often the connection breaks before anything is acknowledged."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    for qos in (1, 2, 2):
        world.publish("a", b"%d" % qos, qos=qos)
    alice.pubrec(3)
    for _ in range(3):
        alice = world.reconnect(alice)
        seen = alice.take()
        assert sent_again(seen) == [(1, b"1", True), (2, b"2", True)]
        assert pubrels(seen) == [3]


@spec("NN-1.9 (c)")
def test_maximum_packet_size_is_that_of_the_connection() -> None:
    world = World(size_of=lambda delivery, version: len(delivery.message.payload))
    alice = world.connect(keep=True, maximum_packet_size=8)
    alice.subscribe("a", qos=1)
    alice.take()
    world.publish("a", b"too large", qos=1)
    assert alice.received() == []
    alice = world.reconnect(alice)
    alice.take()
    world.publish("a", b"large again", qos=1)
    assert alice.received() == [b"large again"]


@spec("NN-1.9 (e)")
@all_versions
def test_keep_alive_is_that_of_the_connection(version: int) -> None:
    world = World()
    alice = world.connect(version=version, keep=True, keep_alive=10)
    alice = world.reconnect(alice, keep_alive=100)
    world.wait(149.9)
    assert alice.session.connected
    alice = world.reconnect(alice)
    world.wait(10**6)
    assert alice.session.connected


@spec("5.0 MQTT-4.1.0-1", "3.1.1 MQTT-4.1.0-2", "NN-1.1")
@all_versions
def test_resumed_session_outlives_what_was_its_expiry(version: int) -> None:
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.wait(3599)
    alice = world.connect(version=version, keep=True)
    alice.take()
    world.wait(10**6)
    world.publish("a", b"still here", qos=1)
    assert alice.received() == [b"still here"]


@spec("NN-2.4", "5.0 MQTT-3.1.2-4 (a)")
def test_clean_start_takes_subscription_identifiers_away() -> None:
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", subscription_id=9)
    alice.lose()
    alice = world.connect(clean=True)
    assert not alice.connack.session_present
    alice.subscribe("a")
    alice.take()
    world.publish("a")
    (delivery,) = alice.deliveries()
    assert delivery.subscription_ids == ()


@spec("NN-1.11")
def test_clean_session_1_is_clean_start_with_interval_0() -> None:
    world = World()
    for version, expiry in ((4, None), (5, 0)):
        alice = world.connect(version=version, clean=True, expiry=expiry)
        assert alice.session.session_expiry_interval == 0
        alice.lose()
        assert "alice" not in world.store


@spec("NN-1.11")
def test_clean_session_0_to_the_letter_is_resume_and_never() -> None:
    """And not Clean Start 0 with an absent interval, which is 0."""
    world = World(policy=ExpiryPolicy(default_session_expiry_interval=None))
    for version, expiry in ((4, None), (5, NEVER_ON_WIRE)):
        name = f"client of {version}"
        world.connect(name, version, clean=False, expiry=expiry).lose()
        assert world.store[name].expires_at is None
    world.connect("absent", 5, clean=False).lose()
    assert "absent" not in world.store


@spec("NN-2.8 (a)")
@old_versions
def test_3_x_client_that_resumes_gets_no_properties_and_no_identifiers(version: int) -> None:
    """The action shows the delivery as it was made; what is left out is left out on the wire."""
    world = World()
    alice = world.connect(version=5, keep=True)
    alice.subscribe("a", qos=1, subscription_id=9)
    alice.lose()
    world.publish("a", b"1", qos=1, content_type="text", user_properties=(("k", "v"),))
    alice = world.connect(version=version, keep=True)
    (publish,) = only(SendPublish, alice.take())
    data = wire.Encoder(version).encode(publish)
    (packet,) = wire.Decoder(wire.Role.CLIENT, version).feed(data)
    assert isinstance(packet, wire.Publish)
    assert packet.message == Message("a", b"1", 1)
    assert packet.subscription_ids == ()


# ---------------------------------------------------------------- subscriptions


@spec("3.1.1 MQTT-3.8.3-2")
def test_host_without_wildcards_refuses_each_filter_that_has_some() -> None:
    world = World()
    alice = world.connect(version=4)
    wanted = ("a", "a/+", "#", "b")
    refusals = tuple(
        RC.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED if {"+", "#"} & set(each) else None
        for each in wanted
    )
    seen = alice.subscribe(*wanted, refusals=refusals)
    assert codes(seen) == (OK, RC.UNSPECIFIED_ERROR, RC.UNSPECIFIED_ERROR, OK)
    alice.take()
    world.publish("a/x")
    world.publish("b")
    assert [each.message.topic_name for each in alice.deliveries()] == ["b"]


@spec("5.0 MQTT-3.8.4-1", "5.0 MQTT-3.9.3-1", "3.1.1 MQTT-3.9.3-1", "3.1.1 MQTT-3.8.4-5")
@pytest.mark.parametrize("version", [4, 5])
def test_codes_of_suback_are_in_the_order_of_the_filters(version: int) -> None:
    """Granted and refused ones among each other, whatever order would sort them."""
    world = World(limits=SessionLimits(maximum_granted_qos=1))
    alice = world.connect(version=version)
    wanted = (
        Subscription("z", 2),
        Subscription("#/bad", 1),
        Subscription("a", 0),
        Subscription("m", 1),
        Subscription("", 0),
    )
    bad = RC.TOPIC_FILTER_INVALID if version == 5 else RC.UNSPECIFIED_ERROR
    assert codes(alice.subscribe(*wanted)) == (1, bad, 0, 1, bad)


@spec("5.0 MQTT-3.10.4-4", "3.1.1 MQTT-3.10.4-4 (a)")
@all_versions
def test_each_unsubscribe_has_its_unsuback(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("a", "b")
    for filters in (("a",), ("a", "b"), ("c",)):
        assert len(only(SendUnsuback, alice.unsubscribe(*filters))) == 1


@spec("5.0 MQTT-3.10.4-5 (a)", "3.1.1 MQTT-3.10.4-4 (b)")
@all_versions
def test_unsuback_has_the_identifier_of_its_request(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.take()
    for packet_id in (7, 1, 65_535):
        (answer,) = only(SendUnsuback, alice.unsubscribe("a", packet_id=packet_id))
        assert answer.packet_id == packet_id


@spec("5.0 MQTT-3.3.1-10 (a)")
def test_retain_handling_1_gives_a_new_subscription_what_is_retained() -> None:
    world = World()
    for topic_name in ("a/1", "a/2", "b"):
        world.publish(topic_name, topic_name.encode(), retain=True)
    alice = world.connect()
    assert payloads(alice.subscribe("a/+", retain_handling=1)) == [b"a/1", b"a/2"]
    assert payloads(alice.subscribe("b", retain_handling=1)) == [b"b"]


@spec("5.0 MQTT-3.3.1-10 (b)")
def test_retain_handling_1_gives_an_existing_subscription_nothing_retained() -> None:
    world = World()
    alice = world.connect()
    alice.subscribe("a")
    world.publish("a", b"kept", retain=True)
    assert alice.received() == [b"kept"]
    assert payloads(alice.subscribe("a", retain_handling=1, qos=1)) == []
    alice.unsubscribe("a")
    assert payloads(alice.subscribe("a", retain_handling=1)) == [b"kept"]


def body(delivery: object, version: int) -> int:
    return len(delivery.message.payload)  # type: ignore[attr-defined]


@spec("5.0 MQTT-3.1.2-25 (a)")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_packet_that_does_not_fit_is_not_sent(qos: int) -> None:
    """Neither now nor on a later connection that would have room for it."""
    world = World(size_of=body)
    alice = world.connect(keep=True, maximum_packet_size=10)
    alice.subscribe("a", qos=2)
    alice.take()
    world.publish("a", b"x" * 11, qos=qos)
    assert alice.take() == []
    assert payloads(world.reconnect(alice).take()) == []


@spec("5.0 MQTT-3.1.2-25 (a)")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_packet_that_does_not_fit_when_its_turn_comes_is_not_sent(qos: int) -> None:
    world = World(size_of=body)
    alice = world.connect(keep=True, maximum_packet_size=10)
    alice.subscribe("a", qos=2)
    alice.lose()
    world.publish("a", b"x" * 11, qos=qos)
    alice = world.connect(keep=True, maximum_packet_size=10)
    assert payloads(alice.take()) == []
    assert payloads(world.reconnect(alice).take()) == []


@spec("5.0 MQTT-3.1.2-25 (b)")
@pytest.mark.parametrize("qos", [1, 2])
def test_packet_that_does_not_fit_counts_as_delivered(qos: int) -> None:
    """It holds neither an identifier nor a unit, and those behind it in the queue go out."""
    world = World(size_of=body)
    alice = world.connect(keep=True, maximum_packet_size=10, receive_maximum=1)
    alice.subscribe("a", qos=2)
    alice.take()
    for payload in (b"first", b"x" * 11, b"queued", b"x" * 11, b"last"):
        world.publish("a", payload, qos=qos)
    assert alice.acknowledge_all() == [b"first", b"queued", b"last"]
    assert alice.session.send_quota == 1


@pytest.mark.parametrize("bound", ["maximum_retained_messages", "maximum_retained_bytes"])
def test_message_of_the_host_that_finds_no_room_is_delivered_and_not_retained(bound: str) -> None:
    """*Deviation*: there is nobody to be told 0x97."""
    room = {"maximum_retained_messages": 1, "maximum_retained_bytes": 5}[bound]
    world = World(limits=SessionLimits(**{bound: room}))
    world.publish("full", b"1", qos=1, retain=True)
    alice = world.connect()
    alice.subscribe("new", qos=1)
    alice.take()
    world.publish("new", b"2", qos=1, retain=True)
    assert alice.received() == [b"2"]
    assert [message.topic_name for message in world.store.retained()] == ["full"]


@pytest.mark.parametrize("default", [None, 60])
def test_default_interval_drops_what_the_standard_never_lets_expire(default: int | None) -> None:
    """*Deviation*: without an interval a message does not expire [NN-9.1]."""
    world = World(policy=ExpiryPolicy(default_message_expiry_interval=default))
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.publish("a", b"x", qos=1)
    world.wait(60)
    dropped = [] if default is None else [("alice", b"x", "expired")]
    assert world.drops() == dropped
    alice = world.connect(keep=True)
    assert payloads(alice.take()) == ([b"x"] if default is None else [])


@spec("5.0 MQTT-3.10.4-4", "5.0 MQTT-3.10.4-5 (b)", "3.1.1 MQTT-3.10.4-5")
@all_versions
def test_unsuback_comes_though_nothing_was_removed(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.take()
    none = RC.NO_SUBSCRIPTION_EXISTED
    assert alice.unsubscribe("a", packet_id=12) == [SendUnsuback(alice.connection, 12, (none,))]


@spec("NN-7.1", "5.0 MQTT-3.8.4-8", "3.1.1 MQTT-3.8.4-6", "5.0 MQTT-3.3.1-13", "5.0 MQTT-3.3.4-3")
def test_each_receiver_has_a_delivery_of_its_own() -> None:
    """Of one message: its QoS, its flags, its identifier, and its own fate."""
    world = World()
    wanted = {
        "low": Subscription("a", 0, subscription_id=1),
        "kept": Subscription("a", 2, retain_as_published=True),
        "middle": Subscription("a", 1, subscription_id=3),
        "old": Subscription("a", 2),
    }
    clients = {}
    for name, subscription in wanted.items():
        clients[name] = world.connect(name, 4 if name == "old" else 5)
        clients[name].subscribe(subscription)
        clients[name].take()
    world.publish("a", b"1", qos=2, retain=True)
    seen = {name: client.deliveries()[0] for name, client in clients.items()}
    assert {
        name: (each.qos, each.retain, each.subscription_ids) for name, each in seen.items()
    } == {
        "low": (0, False, (1,)),
        "kept": (2, True, ()),
        "middle": (1, False, (3,)),
        "old": (2, False, ()),
    }
    clients["kept"].pubrec(1, RC.QUOTA_EXCEEDED)
    assert world.drops() == [("kept", b"1", "refused_by_client")]
    assert clients["middle"].session.in_flight[0].packet_id == 1
    assert clients["old"].pubrec(1) == [SendPubrel(clients["old"].connection, 1, OK)]


# ---------------------------------------------------------------- refusals


@spec("3.1.1 MQTT-3.1.3-9", "3.1.1 MQTT-3.2.2-4", "3.1.1 MQTT-3.2.2-5")
def test_refused_3_1_1_client_id_gets_0x02_and_is_closed() -> None:
    world = World(limits=SessionLimits(maximum_client_id_length=23))
    connack, close = world.connect("c" * 24, 4).take()
    assert isinstance(connack, SendConnack)
    assert connack.reason_code is ConnectReturnCode.IDENTIFIER_REJECTED
    assert not connack.session_present
    assert isinstance(close, CloseConnection)


# ---------------------------------------------------------------- a store that was restored


@fault(14)
@spec("5.0 MQTT-4.3.3-10 (b)", "3.1.1 MQTT-4.3.3-2 (b)")
@all_versions
def test_inbound_qos2_identifiers_outlive_a_restart_and_so_does_their_removal(version: int) -> None:
    world = World()
    bob = world.connect("bob", keep=True)
    bob.subscribe("a", qos=2)
    bob.take()
    alice = world.connect(version=version, keep=True)
    alice.publish("a", b"once", qos=2, packet_id=7)
    alice.publish("a", b"done", qos=2, packet_id=8)
    alice.pubrel(8)
    assert bob.received() == [b"once", b"done"]
    restart(world)
    alice = world.connect(version=version, keep=True)
    alice.take()
    assert alice.session.inbound_packet_ids == (7,)
    again = [SendPubrec(alice.connection, 7, OK)]
    assert alice.publish("a", b"once", qos=2, packet_id=7, dup=True) == again
    assert world.store["bob"].queue_depth == 0
    alice.publish("a", b"new", qos=2, packet_id=8)
    assert world.store["bob"].queue_depth == 1


@fault(17)
@spec("5.0 MQTT-4.1.0-2")
def test_session_expiry_goes_on_through_a_restart() -> None:
    """Neither lost nor begun anew, and time that passes meanwhile counts."""
    world = World()
    world.connect("soon", expiry=10).lose()
    world.connect("later", expiry=100).lose()
    world.wait(9)
    restart(world)
    assert world.store.next_deadline_at == world.now + 1
    world.wait(1)
    assert list(world.store) == ["later"]
    snapshot = world.store.snapshot()
    world.wait_late(1000)
    world.store = SessionStore.restore(snapshot)
    assert not world.connect("later", clean=False, expiry=100).connack.session_present


@fault(18)
@spec("NN-1.7 (f)", "5.0 MQTT-3.1.2-8 (a)")
def test_delayed_will_is_due_at_its_instant_after_a_restart() -> None:
    world = World()
    world.connect(expiry=100, will=will(delay=50)).lose()
    world.wait(49)
    restart(world)
    world.wait(0.5)
    assert world.take_notices(WillPublished) == []
    world.wait(0.5)
    assert len(world.take_notices(WillPublished)) == 1


@fault(35)
@all_versions
def test_after_a_restart_nothing_comes_back_and_nothing_is_lost(version: int) -> None:
    every_byte = bytes(range(256))
    world = World(limits=SessionLimits(maximum_send_window=2))
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", "gone", qos=2)
    alice.unsubscribe("gone")
    world.publish("a", b"acknowledged", qos=1)
    world.publish("a", every_byte, qos=2)
    world.publish("a", b"waits", qos=1)
    alice.puback(1)
    alice.take()
    restart(world)
    alice = world.connect(version=version, keep=True)
    assert sent_again(alice.take()) == [(2, every_byte, True), (3, b"waits", True)]
    assert [each.topic_filter for each in alice.session.subscriptions] == ["a"]
    world.publish("gone", qos=1)
    assert payloads(alice.take()) == []
