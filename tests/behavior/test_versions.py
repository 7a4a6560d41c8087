"""Feature M: MQTT 3.1, 3.1.1 and 5.0 side by side in one store."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    ClientConnected,
    CloseConnection,
    ConnectReturnCode,
    InvalidValue,
    SendConnack,
    SendDisconnect,
    SendPubcomp,
    SendPublish,
    SendPubrel,
    ServerOptions,
    ServerStopping,
    SessionDiscarded,
    SessionKicked,
    SessionLimits,
)

from .helpers import (
    KEPT,
    OK,
    RC,
    World,
    all_versions,
    closed_with,
    codes,
    kinds,
    old_versions,
    only,
    spec,
    will,
)

FULL = ServerOptions(
    receive_maximum=5,
    maximum_packet_size=1_000,
    topic_alias_maximum=9,
    maximum_qos=1,
    retain_available=False,
    server_keep_alive=30,
)


# ---------------------------------------------------------------- CONNACK


@spec("5.0 MQTT-3.1.4-5", "5.0 MQTT-3.2.0-2", "5.0 MQTT-3.2.2-9")
def test_5_0_client_is_told_all_that_differs_from_the_standards_defaults() -> None:
    world = World(options=FULL)
    alice = world.connect(expiry=KEPT)
    assert alice.take() == [
        SendConnack(
            alice.connection,
            False,
            OK,
            receive_maximum=5,
            maximum_qos=1,
            retain_available=False,
            maximum_packet_size=1_000,
            topic_alias_maximum=9,
            server_keep_alive=30,
            shared_subscription_available=False,
        )
    ]


@spec("3.1.1 MQTT-3.1.4-4")
@old_versions
def test_3_x_client_is_told_a_return_code_and_no_more(version: int) -> None:
    world = World(options=FULL)
    alice = world.connect(version=version)
    assert alice.take() == [SendConnack(alice.connection, False, ConnectReturnCode.ACCEPTED)]


def test_3_1_knows_no_session_present() -> None:
    world = World()
    for version in (3, 4, 3):
        alice = world.connect(version=version, keep=True)
        alice.subscribe("a", qos=1)
        alice.lose()
        world.publish("a", b"x", qos=1)
    alice = world.connect(version=3, keep=True)
    (connack,) = only(SendConnack, alice.inbox)
    assert connack.session_present is False
    assert len(alice.received()) == 3  # resumed all the same


@spec("5.0 MQTT-3.14.2-2", "5.0 MQTT-3.14.4-2", "5.0 MQTT-4.13.2-1")
def test_5_0_client_is_told_why_before_the_close() -> None:
    world = World()
    alice = world.connect()
    alice.take()
    world.feed(SessionKicked("alice"))
    assert alice.take() == [
        SendDisconnect(alice.connection, RC.ADMINISTRATIVE_ACTION),
        CloseConnection(alice.connection, RC.ADMINISTRATIVE_ACTION),
    ]


@pytest.mark.parametrize(
    "event", [SessionKicked("alice"), SessionDiscarded("alice"), ServerStopping()]
)
@old_versions
def test_every_reason_becomes_a_bare_close(version: int, event: object) -> None:
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.take()
    world.feed(event)  # type: ignore[arg-type]
    assert kinds(alice.take()) == [CloseConnection]


@old_versions
def test_fields_of_5_0_in_a_3_x_connect_are_the_hosts_fault(version: int) -> None:
    for fields in (
        {"session_expiry_interval": 5},
        {"receive_maximum": 5},
        {"maximum_packet_size": 5},
        {"will": will(delay=5)},
    ):
        with pytest.raises(InvalidValue):
            ClientConnected(1, "alice", version, **fields)  # type: ignore[arg-type]


# ---------------------------------------------------------------- between versions


@spec("5.0 MQTT-4.5.0-1", "3.1.1 MQTT-4.5.0-1")
@pytest.mark.parametrize("to", [3, 4, 5])
@pytest.mark.parametrize("source", [3, 4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_go_between_all_versions(source: int, to: int, qos: int) -> None:
    world = World()
    bob = world.connect("bob", to)
    bob.subscribe("a/#", qos=2)
    bob.take()
    alice = world.connect("alice", source)
    if qos == 2:
        alice.publish_to_the_end("a/b", b"hello")
    else:
        alice.publish("a/b", b"hello", qos=qos)
    (publish,) = bob.take()
    assert (publish.delivery.message.payload, publish.delivery.qos) == (b"hello", qos)
    assert publish.delivery.subscription_ids == ()


@spec("5.0 MQTT-3.3.2-5")
def test_3_1_1_subscriber_does_not_keep_a_message_from_expiring() -> None:
    world = World()
    bob = world.connect("bob", 4, keep=True)
    bob.subscribe("a", qos=1)
    bob.lose()
    world.connect().publish("a", b"1", qos=1, message_expiry_interval=10)
    world.wait(10)
    assert world.drops() == [("bob", b"1", "expired")]


@all_versions
def test_each_version_takes_over_from_each_other(version: int) -> None:
    world = World()
    for other in (3, 4, 5):
        old = world.connect("alice", other, keep=True)
        old.take()
        new = world.connect("alice", version, keep=True)
        assert closed_with(old.take(), other) is RC.SESSION_TAKEN_OVER
        assert new.session.protocol_version == version


# ---------------------------------------------------------------- what 3.x cannot say


@spec("3.1.1 MQTT-3.9.3-2")
@pytest.mark.parametrize("refusal", [0x80, 0x83, 0x87, 0x8F, 0x97])
def test_every_refusal_in_a_3_1_1_suback_is_0x80(refusal: int) -> None:
    world = World(limits=SessionLimits(maximum_subscriptions=1))
    alice = world.connect(version=4)
    seen = alice.subscribe("a", "b", "c", qos=1, refusals=(RC(refusal), None, None))
    assert codes(seen) == (RC.UNSPECIFIED_ERROR, RC.GRANTED_QOS_1, RC.UNSPECIFIED_ERROR)


def test_3_1_suback_has_no_failure_code_and_refused_filters_no_subscription() -> None:
    world = World()
    alice = world.connect(version=3)
    seen = alice.subscribe("a", "b", qos=2, refusals=(RC.NOT_AUTHORIZED, None))
    assert codes(seen) == (OK, RC.GRANTED_QOS_2)
    world.publish("a", b"secret")
    assert alice.received() == []


@spec("3.1.1 MQTT-4.3.3-2 (c)")
@old_versions
def test_pubrel_and_pubcomp_work_without_codes(version: int) -> None:
    """The codes in the actions are for the log; the codec leaves them out."""
    world = World()
    alice = world.connect(version=version)
    alice.take()
    assert kinds(alice.pubrel(5)) == [SendPubcomp]
    assert kinds(alice.pubrec(5)) == [SendPubrel]
    assert alice.session.connected


@old_versions
def test_nothing_that_cannot_be_announced_is_a_ground_for_closing(version: int) -> None:
    world = World(options=FULL)
    alice = world.connect(version=version, keep_alive=10)
    alice.take()
    for packet_id in range(1, 20):
        assert closed_with(alice.publish("a", qos=2, packet_id=packet_id), version) is None
    assert closed_with(alice.publish("a", qos=1, retain=True), version) is None
    assert alice.session.connected


@spec("3.1.1 MQTT-4.4.0-1 (a)", "3.1.1 MQTT-4.4.0-1 (b)", "3.1.1 MQTT-4.4.0-1 (c)")
@all_versions
def test_resume_looks_the_same_in_every_version(version: int) -> None:
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    alice.take()
    for qos in (1, 2, 2):
        world.publish("a", qos=qos)
    alice.pubrec(3)
    alice = world.reconnect(alice)
    seen = alice.take()
    assert kinds(seen) == [SendConnack, SendPubrel, SendPublish, SendPublish]
    assert [each.dup for each in only(SendPublish, seen)] == [True, True]
