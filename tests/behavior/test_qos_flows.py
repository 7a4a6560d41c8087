"""Feature F: the four QoS flows, what they answer, and what is sent again."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    ExpiryPolicy,
    Message,
    PeerErrorDetected,
    PublishReceived,
    ReasonCode,
    SendConnack,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    ServerOptions,
    SessionLimits,
    UnauthorizedPolicy,
)

from .helpers import (
    OK,
    RC,
    World,
    all_versions,
    closed_with,
    ids,
    kinds,
    numbered,
    old_versions,
    only,
    payloads,
    pubrels,
    sent_again,
    spec,
)

REFUSALS = [
    RC.UNSPECIFIED_ERROR,
    RC.IMPLEMENTATION_SPECIFIC_ERROR,
    RC.NOT_AUTHORIZED,
    RC.TOPIC_NAME_INVALID,
    RC.QUOTA_EXCEEDED,
    RC.PAYLOAD_FORMAT_INVALID,
]
PUBACK_CODES = [OK, RC.NO_MATCHING_SUBSCRIBERS, *REFUSALS, RC.PACKET_IDENTIFIER_IN_USE]

# ---------------------------------------------------------------- receiving


@spec(
    "5.0 MQTT-3.3.4-1",
    "5.0 MQTT-2.2.1-5",
    "5.0 MQTT-4.3.2-4",
    "5.0 MQTT-4.3.3-8",
    "5.0 MQTT-4.3.3-11",
    "3.1.1 MQTT-3.3.4-1",
    "3.1.1 MQTT-2.3.1-6",
    "3.1.1 MQTT-4.3.2-2 (a)",
    "3.1.1 MQTT-4.3.3-2 (a)",
    "3.1.1 MQTT-4.3.3-2 (c)",
)
@all_versions
def test_publish_is_answered_as_its_qos_demands(version: int) -> None:
    world = World()
    world.connect("bob").subscribe("a")
    alice = world.connect(version=version)
    alice.take()
    assert alice.publish("a", qos=0) == []
    assert alice.publish("a", qos=1, packet_id=3) == [SendPuback(alice.connection, 3, OK)]
    assert alice.publish("a", qos=2, packet_id=4) == [SendPubrec(alice.connection, 4, OK)]
    assert alice.pubrel(4) == [SendPubcomp(alice.connection, 4, OK)]


@spec("5.0 MQTT-3.4.2-1", "5.0 MQTT-3.5.2-1", "NN-7.8")
def test_publisher_is_told_if_nobody_subscribes() -> None:
    """NN-7.8: a success all the same; the QoS 2 exchange goes on."""
    world = World()
    alice = world.connect()
    alice.take()
    nobody = RC.NO_MATCHING_SUBSCRIBERS
    assert alice.publish("a", qos=1, packet_id=1) == [SendPuback(alice.connection, 1, nobody)]
    assert alice.publish("a", qos=2, packet_id=2) == [SendPubrec(alice.connection, 2, nobody)]
    assert alice.pubrel(2) == [SendPubcomp(alice.connection, 2, OK)]


@spec("5.0 MQTT-4.3.2-5", "3.1.1 MQTT-4.3.2-2 (b)")
@pytest.mark.parametrize("dup", [False, True])
@all_versions
def test_identifier_of_an_acknowledged_qos_1_message_is_a_new_message(
    version: int, dup: bool
) -> None:
    world = World()
    bob = world.connect("bob")
    bob.subscribe("a", qos=1)
    bob.take()
    alice = world.connect(version=version)
    alice.publish("a", b"1", qos=1, packet_id=7)
    alice.publish("a", b"2", qos=1, packet_id=7, dup=dup)
    assert bob.received() == [b"1", b"2"]


@spec("5.0 MQTT-4.3.3-12", "3.1.1 MQTT-4.3.3-2 (d)")
@all_versions
def test_identifier_of_a_completed_qos_2_message_is_a_new_message(version: int) -> None:
    world = World()
    bob = world.connect("bob")
    bob.subscribe("a", qos=2)
    bob.take()
    alice = world.connect(version=version)
    for payload in (b"1", b"2"):
        alice.publish("a", payload, qos=2, packet_id=7, dup=payload == b"2")
        alice.pubrel(7)
    assert bob.received() == [b"1", b"2"]


@spec("NN-7.3")
@all_versions
def test_qos_2_message_is_handed_on_at_publish_and_not_at_pubrel(version: int) -> None:
    """NN-7.3."""
    world = World()
    bob = world.connect("bob")
    bob.subscribe("a", qos=2)
    bob.take()
    alice = world.connect(version=version)
    alice.publish("a", b"1", qos=2, packet_id=7)
    assert bob.received() == [b"1"]
    alice.pubrel(7)
    assert bob.received() == []


@spec("5.0 MQTT-3.3.1-3", "3.1.1 MQTT-3.3.1-3", "5.0 MQTT-3.3.1-2", "3.1.1 MQTT-3.3.1-2")
@pytest.mark.parametrize("qos", [0, 1, 2])
@all_versions
def test_incoming_dup_is_not_passed_on(version: int, qos: int) -> None:
    world = World()
    bob = world.connect("bob")
    bob.subscribe("a", qos=2)
    bob.take()
    alice = world.connect(version=version)
    alice.publish("a", qos=qos, dup=True)
    (publish,) = bob.take()
    assert publish.dup is False


@spec("5.0 MQTT-4.3.3-9", "5.0 MQTT-3.4.2-1", "5.0 MQTT-3.5.2-1", "NN-5.4", "NN-7.7 (b)", "NN-7.2")
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("code", REFUSALS, ids=lambda code: code.name)
def test_refused_publish_is_answered_with_the_code_and_its_identifier_is_free(
    code: ReasonCode, qos: int
) -> None:
    """NN-5.4, NN-7.7: connection and session live on."""
    world = World()
    bob = world.connect("bob")
    bob.subscribe("a", qos=2)
    bob.take()
    alice = world.connect()
    alice.take()
    answer = SendPuback if qos == 1 else SendPubrec
    seen = alice.publish("a", b"no", qos=qos, packet_id=7, refusal=code)
    assert seen == [answer(alice.connection, 7, code)]
    assert alice.session.inbound_packet_ids == ()
    seen = alice.publish("a", b"yes", qos=qos, packet_id=7)
    assert seen == [answer(alice.connection, 7, OK)]
    assert bob.received() == [b"yes"]


def test_refused_qos_0_publish_has_no_answer_and_goes_nowhere() -> None:
    world = World()
    bob = world.connect("bob")
    bob.subscribe("a")
    bob.take()
    alice = world.connect()
    alice.take()
    assert alice.publish("a", refusal=RC.NOT_AUTHORIZED, retain=True) == []
    assert bob.received() == []
    assert world.store.retained_count == 0
    assert alice.session.connected


@spec("3.1.1 MQTT-3.3.5-2")
@pytest.mark.parametrize("qos", [1, 2])
@old_versions
def test_unauthorized_3_x_publish_is_acknowledged_and_goes_nowhere(version: int, qos: int) -> None:
    world = World()
    bob = world.connect("bob")
    bob.subscribe("a")
    bob.take()
    alice = world.connect(version=version)
    alice.take()
    seen = alice.publish("a", qos=qos, packet_id=1, refusal=RC.NOT_AUTHORIZED, retain=True)
    assert kinds(seen) == [SendPuback if qos == 1 else SendPubrec]
    if qos == 2:
        assert kinds(alice.publish("a", qos=2, packet_id=1, dup=True)) == [SendPubrec]
        assert kinds(alice.pubrel(1)) == [SendPubcomp]
    assert bob.received() == []
    assert world.store.retained_count == 0


@spec("3.1.1 MQTT-3.3.5-2")
@pytest.mark.parametrize("qos", [0, 1, 2])
@old_versions
def test_unauthorized_3_x_publisher_is_closed_where_the_host_wants_it(
    version: int, qos: int
) -> None:
    world = World(options=ServerOptions(unauthorized=UnauthorizedPolicy.CLOSE))
    alice = world.connect(version=version)
    alice.take()
    seen = alice.publish("a", qos=qos, refusal=RC.NOT_AUTHORIZED)
    assert closed_with(seen, version) is RC.NOT_AUTHORIZED
    assert len(seen) == 1


@spec("3.1.1 MQTT-4.8.0-2")
@pytest.mark.parametrize("qos", [1, 2])
@old_versions
def test_3_x_publish_refused_for_quota_is_closed_and_never_acknowledged(
    version: int, qos: int
) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.take()
    seen = alice.publish("a", qos=qos, refusal=RC.QUOTA_EXCEEDED)
    assert closed_with(seen, version) is RC.QUOTA_EXCEEDED
    assert len(seen) == 1


@spec("5.0 MQTT-2.2.1-3", "3.1.1 MQTT-2.3.1-2", "NN-6.5", "NN-5.4")
@all_versions
def test_qos_1_publish_under_a_held_identifier_leaves_the_exchange_alone(version: int) -> None:
    """NN-6.5."""
    world = World()
    bob = world.connect("bob")
    bob.subscribe("a", qos=2)
    bob.take()
    alice = world.connect(version=version, keep=True)
    alice.take()
    alice.publish("a", b"held", qos=2, packet_id=7)
    seen = alice.publish("a", b"other", qos=1, packet_id=7)
    if version == 5:
        assert seen == [SendPuback(alice.connection, 7, RC.PACKET_IDENTIFIER_IN_USE)]
    else:
        assert closed_with(seen, version) is RC.PACKET_IDENTIFIER_IN_USE
        alice = world.reconnect(alice)
        alice.take()
    assert alice.pubrel(7) == [SendPubcomp(alice.connection, 7, OK)]
    assert bob.received() == [b"held"]


@spec(
    "5.0 MQTT-3.3.2-2",
    "5.0 MQTT-4.7.0-1",
    "5.0 MQTT-4.7.3-1",
    "5.0 MQTT-4.13.1-1 (a)",
    "5.0 MQTT-4.13.1-1 (h)",
    "5.0 MQTT-4.7.3-2",
    "3.1.1 MQTT-3.3.2-2",
    "3.1.1 MQTT-4.7.1-1",
    "3.1.1 MQTT-4.8.0-1",
    "3.1.1 MQTT-4.7.3-1",
    "3.1.1 MQTT-4.7.3-2",
)
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize(
    ("topic_name", "code"),
    [
        ("a/#", RC.TOPIC_NAME_INVALID),
        ("+", RC.TOPIC_NAME_INVALID),
        ("a+b", RC.TOPIC_NAME_INVALID),
        ("a\0", RC.TOPIC_NAME_INVALID),
        ("", RC.PROTOCOL_ERROR),
    ],
)
@all_versions
def test_publish_under_a_bad_topic_name_closes(
    version: int, topic_name: str, code: ReasonCode, qos: int
) -> None:
    world = World()
    bob = world.connect("bob")
    bob.subscribe("#")
    bob.take()
    alice = world.connect(version=version)
    alice.take()
    seen = alice.publish(topic_name, qos=qos, retain=True)
    assert closed_with(seen, version) is code
    assert not only(SendPuback, seen)
    assert bob.received() == []
    assert world.store.retained_count == 0
    (notice,) = world.take_notices(PeerErrorDetected)
    assert notice.reason_code is code


@spec("5.0 MQTT-3.3.4-6", "5.0 MQTT-4.13.1-1 (a)")
def test_subscription_identifier_in_a_clients_publish_is_a_protocol_error() -> None:
    world = World()
    alice = world.connect()
    alice.take()
    seen = alice.feed(PublishReceived(alice.connection, Message("a"), subscription_ids=(1,)))
    assert closed_with(seen) is RC.PROTOCOL_ERROR


@spec("5.0 MQTT-2.2.1-3", "5.0 MQTT-4.13.1-1 (a)", "3.1.1 MQTT-2.3.1-1")
@pytest.mark.parametrize("packet_id", [None, 0])
@pytest.mark.parametrize("qos", [1, 2])
@all_versions
def test_qos_1_and_2_without_an_identifier_is_a_protocol_error(
    version: int, qos: int, packet_id: int | None
) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.take()
    seen = alice.feed(PublishReceived(alice.connection, Message("a", b"", qos), packet_id))
    assert closed_with(seen, version) is RC.PROTOCOL_ERROR


@spec("5.0 MQTT-3.2.2-9", "5.0 MQTT-3.2.2-11", "5.0 MQTT-4.13.1-1 (b)")
@pytest.mark.parametrize("maximum", [0, 1, 2])
@pytest.mark.parametrize("qos", [0, 1, 2])
@all_versions
def test_maximum_qos_is_announced_to_5_0_clients_and_holds_for_them_only(
    version: int, qos: int, maximum: int
) -> None:
    world = World(options=ServerOptions(maximum_qos=maximum))
    alice = world.connect(version=version)
    told = maximum if version == 5 and maximum < 2 else None
    assert alice.connack.maximum_qos == told
    alice.take()
    seen = alice.publish("a", qos=qos)
    expected = RC.QOS_NOT_SUPPORTED if version == 5 and qos > maximum else None
    assert closed_with(seen, version) is expected


# ---------------------------------------------------------------- sending


@spec("5.0 MQTT-4.3.1-1", "3.1.1 MQTT-4.3.1-1", "5.0 MQTT-2.2.1-2", "3.1.1 MQTT-2.3.1-5")
@all_versions
def test_qos_0_has_no_identifier_and_takes_none(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("a", qos=1)
    alice.take()
    for qos in (0, 1, 0, 1):
        world.publish("a", qos=qos)
    assert ids(alice.take()) == [None, 1, None, 2]


@spec(
    "5.0 MQTT-4.3.2-2",
    "5.0 MQTT-4.3.2-3",
    "5.0 MQTT-2.2.1-4",
    "3.1.1 MQTT-4.3.2-1 (b)",
    "3.1.1 MQTT-4.3.2-1 (c)",
)
@all_versions
def test_qos_1_is_unacknowledged_until_puback(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("a", qos=1)
    alice.take()
    world.publish("a", b"1", qos=1)
    (publish,) = alice.take()
    assert (publish.packet_id, publish.dup, publish.delivery.qos) == (1, False, 1)
    world.wait(10**6)
    assert [each.packet_id for each in alice.session.in_flight] == [1]
    assert alice.take() == []
    assert alice.puback(1) == []
    assert alice.session.in_flight == ()
    assert alice.session.counters.completed == 1


@spec(
    "5.0 MQTT-4.3.3-2",
    "5.0 MQTT-4.3.3-3",
    "5.0 MQTT-4.3.3-5",
    "5.0 MQTT-2.2.1-5",
    "5.0 MQTT-4.3.3-4 (a)",
    "3.1.1 MQTT-2.3.1-6",
    "3.1.1 MQTT-4.3.3-1 (b)",
    "3.1.1 MQTT-4.3.3-1 (c)",
    "3.1.1 MQTT-4.3.3-1 (d)",
    "3.1.1 MQTT-4.3.3-1 (e)",
)
@all_versions
def test_qos_2_goes_through_its_four_packets(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("a", qos=2)
    alice.take()
    world.publish("a", b"1", qos=2)
    (publish,) = alice.take()
    assert (publish.packet_id, publish.dup, publish.delivery.qos) == (1, False, 2)
    world.wait(10**6)
    assert [each.delivery for each in alice.session.in_flight] == [publish.delivery]
    assert alice.take() == []
    assert alice.pubrec(1) == [SendPubrel(alice.connection, 1, OK)]
    world.wait(10**6)
    assert [each.delivery for each in alice.session.in_flight] == [None]
    assert alice.pubcomp(1) == []
    assert alice.session.in_flight == ()
    assert alice.session.counters.completed == 1


@spec("5.0 MQTT-4.4.0-2", "5.0 MQTT-4.3.2-3", "NN-5.4", "NN-7.9")
@pytest.mark.parametrize("code", PUBACK_CODES, ids=lambda code: code.name)
def test_puback_settles_whatever_its_code(code: ReasonCode) -> None:
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    world.publish("a", b"1", qos=1)
    alice.take()
    assert alice.puback(1, code) == []
    assert alice.session.in_flight == ()
    assert world.drops() == ([("alice", b"1", "refused_by_client")] if code >= 0x80 else [])
    assert payloads(world.reconnect(alice).take()) == []


@spec("5.0 MQTT-4.4.0-2", "5.0 MQTT-4.3.3-4 (a)", "5.0 MQTT-4.3.3-4 (c)", "NN-5.4", "NN-7.7 (a)")
@pytest.mark.parametrize("code", PUBACK_CODES, ids=lambda code: code.name)
def test_pubrec_goes_on_below_0x80_and_settles_above(code: ReasonCode) -> None:
    world = World()
    alice = world.connect()
    alice.subscribe("a", qos=2)
    world.publish("a", b"1", qos=2)
    alice.take()
    seen = alice.pubrec(1, code)
    if code < 0x80:
        assert seen == [SendPubrel(alice.connection, 1, OK)]
        assert len(alice.session.in_flight) == 1
    else:
        assert seen == []
        assert alice.session.in_flight == ()


@spec("NN-7.9")
@pytest.mark.parametrize("code", [OK, RC.PACKET_IDENTIFIER_NOT_FOUND])
def test_pubcomp_settles_whatever_its_code(code: ReasonCode) -> None:
    """NN-7.9."""
    world = World()
    alice = world.connect()
    alice.subscribe("a", qos=2)
    world.publish("a", b"1", qos=2)
    alice.pubrec(1)
    alice.pubcomp(1, code)
    assert alice.session.in_flight == ()
    assert alice.session.counters.completed == 1
    assert world.drops() == []


def test_negative_pubrec_behind_a_pubrel_ends_the_exchange_as_delivered() -> None:
    world = World()
    alice = world.connect()
    alice.subscribe("a", qos=2)
    world.publish("a", b"1", qos=2)
    alice.pubrec(1)
    assert alice.pubrec(1, RC.UNSPECIFIED_ERROR) == []
    assert alice.session.in_flight == ()
    assert alice.session.counters.completed == 1


@spec("NN-7.6 (c)")
@pytest.mark.parametrize("packet_id", [5, 65_535])
@all_versions
def test_unknown_puback_and_pubcomp_are_ignored(version: int, packet_id: int) -> None:
    """NN-7.6: late, or twice."""
    world = World()
    alice = world.connect(version=version)
    alice.take()
    assert alice.puback(packet_id) == []
    assert alice.pubcomp(packet_id) == []
    assert alice.session.connected


@spec("5.0 MQTT-3.6.2-1", "5.0 MQTT-4.3.3-4 (c)", "NN-7.5")
@all_versions
def test_unknown_pubrec_gets_pubrel_unless_it_is_an_error(version: int) -> None:
    """NN-7.5."""
    world = World()
    alice = world.connect(version=version)
    alice.take()
    unknown = RC.PACKET_IDENTIFIER_NOT_FOUND
    assert alice.pubrec(5) == [SendPubrel(alice.connection, 5, unknown)]
    if version == 5:
        assert alice.pubrec(5, RC.UNSPECIFIED_ERROR) == []
    assert alice.session.connected


@spec("5.0 MQTT-4.13.1-1 (a)", "NN-7.6 (b)")
@pytest.mark.parametrize(
    ("qos", "wrong"),
    [(1, "pubrec"), (1, "pubcomp"), (2, "puback"), (2, "pubcomp"), (3, "puback")],
    ids=[
        "PUBREC for QoS 1",
        "PUBCOMP for QoS 1",
        "PUBACK for QoS 2",
        "PUBCOMP before PUBREC",
        "PUBACK behind PUBREL",
    ],
)
@all_versions
def test_wrong_acknowledgement_closes_and_the_exchange_survives(
    version: int, qos: int, wrong: str
) -> None:
    """NN-7.6: 0x82."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    world.publish("a", b"1", qos=min(qos, 2))
    if qos == 3:
        alice.pubrec(1)
    alice.take()
    assert closed_with(getattr(alice, wrong)(1), version) is RC.PROTOCOL_ERROR
    alice = world.reconnect(alice)
    seen = alice.take()[1:]
    assert kinds(seen) == [SendPubrel if qos == 3 else SendPublish]
    assert world.drops() == []


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_upgrade_option_delivers_at_the_granted_qos(published: int, granted: int) -> None:
    """*Deviation*, off by default; for live and for retained messages."""
    world = World(options=ServerOptions(upgrade_qos=True))
    alice = world.connect()
    alice.subscribe("a", qos=granted)
    alice.take()
    world.publish("a", qos=published, retain=True)
    assert [each.qos for each in alice.deliveries()] == [granted]
    sent = only(SendPublish, world.connect("bob").subscribe("a", qos=granted))
    assert [each.delivery.qos for each in sent] == [granted]


@spec(
    "5.0 MQTT-3.3.2-4",
    "5.0 MQTT-3.3.2-15",
    "5.0 MQTT-3.3.2-16",
    "5.0 MQTT-3.3.2-17",
    "5.0 MQTT-3.3.2-18",
    "5.0 MQTT-3.3.2-20",
)
@pytest.mark.parametrize("way", ["live", "queued", "retained", "again"])
def test_properties_are_forwarded_unchanged_and_in_order(way: str) -> None:
    world = World()
    bob = world.connect("bob", keep=True)
    if way != "retained":
        bob.subscribe("a", qos=1)
        bob.take()
    if way == "queued":
        bob.lose()
    message = Message(
        "a",
        b"\0\xff",
        1,
        True,
        None,
        1,
        "text/plain",
        "reply/to",
        b"\0c",
        (("b", "2"), ("a", "1"), ("b", "2")),
    )
    alice = world.connect()
    alice.feed(PublishReceived(alice.connection, message, 1))
    if way == "retained":
        seen = bob.subscribe("a", qos=1)
        bob.inbox += seen
    elif way != "live":
        bob = world.reconnect(bob)
    (publish,) = only(SendPublish, bob.take())
    assert publish.delivery.message == message


# ---------------------------------------------------------------- sending again


@spec(
    "5.0 MQTT-4.3.3-6",
    "5.0 MQTT-4.6.0-1",
    "5.0 MQTT-4.6.0-4",
    "5.0 MQTT-4.4.0-1 (a)",
    "5.0 MQTT-4.4.0-1 (b)",
    "5.0 MQTT-4.4.0-1 (c)",
    "3.1.1 MQTT-4.6.0-1",
    "3.1.1 MQTT-4.6.0-4",
    "3.1.1 MQTT-4.4.0-1 (a)",
    "3.1.1 MQTT-4.4.0-1 (b)",
    "3.1.1 MQTT-4.4.0-1 (c)",
    "3.1.1 MQTT-4.6.0-6 (a)",
    "3.1.1 MQTT-4.6.0-6 (d)",
    "NN-8.3",
    "NN-8.4b",
    "NN-8.2 (a)",
    "NN-15.3",
)
@all_versions
def test_redelivery_in_order_pubrels_in_that_of_their_pubrecs_and_then_what_is_new(
    version: int,
) -> None:
    """NN-8.3, NN-8.4b."""
    world = World(limits=SessionLimits(maximum_send_window=6))
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    alice.take()
    for payload, qos in zip(numbered(8), (2, 1, 2, 2, 1, 2, 1, 2), strict=True):
        world.publish("a", payload, qos=qos)
    assert ids(alice.take()) == [1, 2, 3, 4, 5, 6]
    alice.pubrec(4)
    alice.pubrec(1)
    alice.pubrec(6)
    alice = world.reconnect(alice)
    seen = alice.take()
    assert type(seen[0]) is SendConnack
    assert pubrels(seen) == [4, 1, 6]
    assert sent_again(seen) == [
        (2, b"2", True),
        (3, b"3", True),
        (5, b"5", True),
        (7, b"7", False),
        (8, b"8", False),
    ]


@spec("5.0 MQTT-4.4.0-1 (d)", "NN-8.1")
def test_nothing_is_sent_again_while_the_connection_lasts() -> None:
    """NN-8.1: no timers; not even where a policy has a retry interval for 3.x."""
    world = World(policy=ExpiryPolicy(retry_interval=20))
    alice = world.connect()
    alice.subscribe("a", qos=2)
    world.publish("a", qos=1)
    world.publish("a", qos=2)
    world.publish("a", qos=2)
    alice.pubrec(3)
    alice.take()
    world.wait(10**6)
    assert alice.take() == []
    assert world.store.next_deadline_at is None


@spec("5.0 MQTT-3.1.2-4 (a)", "3.1.1 MQTT-3.1.2-6 (a)")
@all_versions
def test_nothing_is_sent_again_to_a_clean_start(version: int) -> None:
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    world.publish("a", qos=1)
    world.publish("a", qos=2)
    alice.lose()
    alice = world.connect(version=version, clean=True)
    assert kinds(alice.take()) == [SendConnack]


@spec("NN-8.2 (b)")
@all_versions
def test_answers_to_the_client_are_not_sent_again(version: int) -> None:
    """NN-8.2: never PUBACK, PUBREC, PUBCOMP, SUBACK."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("b")
    alice.publish("a", qos=1)
    alice.publish("a", qos=2, packet_id=1)
    alice.publish("a", qos=2, packet_id=2)
    alice.pubrel(2)
    assert kinds(world.reconnect(alice).take()) == [SendConnack]


@spec("5.0 MQTT-2.2.1-4", "3.1.1 MQTT-2.3.1-4", "NN-6.3")
@all_versions
def test_identifiers_in_flight_stay_taken_across_connections(version: int) -> None:
    """NN-6.3."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    world.publish("a", b"1", qos=1)
    world.publish("a", b"2", qos=2)
    alice.pubrec(2)
    alice = world.reconnect(alice)
    alice.take()
    world.publish("a", b"3", qos=1)
    assert ids(alice.take()) == [3]


@spec("NN-8.5")
def test_subscription_identifiers_of_a_re_sent_message_are_those_of_the_first_time() -> None:
    """NN-8.5."""
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1, subscription_id=1)
    world.publish("a", qos=1)
    alice.subscribe("a", qos=1, subscription_id=2)
    (delivery,) = world.reconnect(alice).deliveries()
    assert delivery.subscription_ids == (1,)


@spec(
    "5.0 MQTT-4.6.0-5",
    "5.0 MQTT-4.6.0-6",
    "3.1.1 MQTT-4.6.0-5",
    "3.1.1 MQTT-4.6.0-6 (e)",
    "NN-15.1",
)
@pytest.mark.parametrize("qos", [0, 1, 2])
@all_versions
def test_order_of_a_publisher_is_kept_through_queue_resume_and_refill(
    version: int, qos: int
) -> None:
    world = World(limits=SessionLimits(maximum_send_window=2))
    bob = world.connect("bob", version, keep=True)
    bob.subscribe("a", qos=2)
    bob.lose()
    alice = world.connect("alice", version)
    for payload in numbered(4):
        alice.publish("a", payload, qos=qos)
    bob = world.connect("bob", version, keep=True)
    for payload in numbered(4, start=5):
        alice.publish("a", payload, qos=qos)
    assert bob.acknowledge_all() == numbered(8)


# ---------------------------------------------------------------- retry interval, 3.x only


@spec("3.1.1 MQTT-3.3.1-1", "NN-8.1")
@old_versions
def test_retry_interval_sends_again_what_was_not_acknowledged(version: int) -> None:
    """NN-8.1: legal before 5.0, with DUP 1 and the same identifier."""
    world = World(policy=ExpiryPolicy(retry_interval=20))
    alice = world.connect(version=version)
    alice.subscribe("a", qos=2)
    world.publish("a", b"1", qos=1)
    world.publish("a", b"2", qos=2)
    world.wait(10)
    alice.pubrec(2)
    alice.take()
    world.wait(9)
    assert alice.take() == []
    world.wait(1)
    assert sent_again(alice.take()) == [(1, b"1", True)]
    world.wait(10)
    assert alice.take() == [SendPubrel(alice.connection, 2, OK)]
    alice.puback(1)
    world.wait(20)
    assert alice.take() == [SendPubrel(alice.connection, 2, OK)]
    alice.pubcomp(2)
    world.wait(100)
    assert alice.take() == []
    assert world.store.next_deadline_at is None


@old_versions
def test_retry_holds_its_publishes_back_from_a_congested_connection(version: int) -> None:
    world = World(policy=ExpiryPolicy(retry_interval=20))
    alice = world.connect(version=version)
    alice.subscribe("a", qos=1)
    world.publish("a", b"1", qos=1)
    alice.take()
    alice.congest()
    world.wait(60)
    assert alice.take() == []
    alice.drain()
    world.wait(20)
    assert sent_again(alice.take()) == [(1, b"1", True)]


@old_versions
def test_retry_stops_with_the_connection(version: int) -> None:
    world = World(policy=ExpiryPolicy(retry_interval=20, default_session_expiry_interval=None))
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=1)
    world.publish("a", b"1", qos=1)
    alice.lose()
    assert world.store.next_deadline_at is None
    alice = world.connect(version=version, keep=True)
    assert sent_again(alice.take()) == [(1, b"1", True)]
    world.wait(20)
    assert sent_again(alice.take()) == [(1, b"1", True)]


@spec(
    "5.0 MQTT-4.6.0-2",
    "5.0 MQTT-4.6.0-3",
    "3.1.1 MQTT-4.6.0-2",
    "3.1.1 MQTT-4.6.0-3",
    "3.1.1 MQTT-4.6.0-6 (b)",
    "3.1.1 MQTT-4.6.0-6 (c)",
    "NN-15.3",
)
@all_versions
def test_acknowledgements_leave_in_receive_order(version: int) -> None:
    """Those of packets that a host has read at once, too."""
    world = World()
    alice = world.connect(version=version)
    alice.take()
    packets = [
        PublishReceived(alice.connection, Message("a", b"", qos), packet_id)
        for packet_id, qos in ((9, 1), (3, 2), (7, 1), (1, 2))
    ]
    seen = world.store.handle_many(packets, world.now).actions
    assert [each.packet_id for each in only(SendPuback, seen)] == [9, 7]
    assert [each.packet_id for each in only(SendPubrec, seen)] == [3, 1]
