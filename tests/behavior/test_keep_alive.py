"""Feature J: keep alive, exactly one and a half times."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    CloseConnection,
    ConnectionCongested,
    ConnectionWritable,
    DeadlineKind,
    EndReason,
    PeerErrorDetected,
    PingReceived,
    SendPingresp,
    ServerOptions,
    SessionEnded,
    WillPublished,
)

from .helpers import (
    KEPT,
    RC,
    Client,
    World,
    all_versions,
    closed_with,
    old_versions,
    spec,
    will,
)


@spec("5.0 MQTT-3.1.2-22", "5.0 MQTT-3.2.2-22", "3.1.1 MQTT-3.1.2-24")
@pytest.mark.parametrize("keep_alive", [1, 10, 65_535])
@all_versions
def test_silent_client_is_closed_after_one_and_a_half_times(version: int, keep_alive: int) -> None:
    world = World()
    alice = world.connect(version=version, keep_alive=keep_alive)
    alice.take()
    deadline = world.store.next_deadline
    assert deadline is not None
    assert (deadline.at, deadline.kind, deadline.subject) == (
        world.now + 1.5 * keep_alive,
        DeadlineKind.KEEP_ALIVE,
        "alice",
    )
    world.wait(1.5 * keep_alive - 0.001)
    assert alice.take() == []
    world.wait(0.001)
    assert closed_with(alice.take(), version) is RC.KEEP_ALIVE_TIMEOUT
    (notice,) = world.take_notices(PeerErrorDetected)
    assert notice.reason_code is RC.KEEP_ALIVE_TIMEOUT


@spec("NN-5.2")
@all_versions
def test_keep_alive_0_is_off(version: int) -> None:
    """NN-5.2."""
    world = World()
    alice = world.connect(version=version)
    assert world.store.next_deadline_at is None
    world.wait(10**9)
    assert alice.session.connected


def ping(client: Client) -> None:
    client.ping()


def auth(client: Client) -> None:
    client.feed(PingReceived(client.connection, answer=False))


def publish_qos_0(client: Client) -> None:
    client.publish("a")


def publish_qos_1(client: Client) -> None:
    client.publish("a", qos=1)


def publish_qos_2(client: Client) -> None:
    client.publish("a", qos=2)


def late_puback(client: Client) -> None:
    client.puback(1)


def late_pubrec(client: Client) -> None:
    client.pubrec(1)


def late_pubrel(client: Client) -> None:
    client.pubrel(1)


def late_pubcomp(client: Client) -> None:
    client.pubcomp(1)


def subscribe(client: Client) -> None:
    client.subscribe("a")


def unsubscribe(client: Client) -> None:
    client.unsubscribe("a")


SIGNS_OF_LIFE = [
    ping,
    auth,
    publish_qos_0,
    publish_qos_1,
    publish_qos_2,
    late_puback,
    late_pubrec,
    late_pubrel,
    late_pubcomp,
    subscribe,
    unsubscribe,
]


@spec("5.0 MQTT-3.1.2-22", "3.1.1 MQTT-3.1.2-24", "NN-5.5")
@pytest.mark.parametrize("sign", SIGNS_OF_LIFE, ids=lambda sign: sign.__name__)
@all_versions
def test_any_packet_is_a_sign_of_life(version: int, sign: object) -> None:
    """NN-5.5."""
    world = World()
    alice = world.connect(version=version, keep_alive=10)
    for _ in range(3):
        world.wait(14.9)
        sign(alice)  # type: ignore[operator]
    assert alice.session.connected
    alice.take()
    world.wait(14.9)
    assert alice.session.connected
    world.wait(0.1)
    assert "alice" not in world.store


def test_what_the_server_sends_is_no_sign_of_life() -> None:
    world = World()
    alice = world.connect(keep_alive=10)
    alice.subscribe("a")
    for _ in range(15):
        world.wait(1)
        world.publish("a")
    assert closed_with(alice.take()) is RC.KEEP_ALIVE_TIMEOUT


def test_room_in_a_buffer_is_no_sign_of_life() -> None:
    world = World()
    alice = world.connect(keep_alive=10)
    alice.take()
    world.wait(10)
    world.feed(ConnectionCongested(alice.connection))
    world.feed(ConnectionWritable(alice.connection))
    world.wait(5)
    assert closed_with(alice.take()) is RC.KEEP_ALIVE_TIMEOUT


@spec("5.0 MQTT-3.12.4-1", "3.1.1 MQTT-3.12.4-1")
@all_versions
def test_pingreq_is_answered_and_other_packets_are_not(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.take()
    assert alice.ping() == [SendPingresp(alice.connection)]
    assert alice.feed(PingReceived(alice.connection, answer=False)) == []


@spec("5.0 MQTT-3.2.2-21", "5.0 MQTT-3.2.2-22")
@pytest.mark.parametrize(
    ("asked", "server", "in_force"), [(10, None, 10), (10, 60, 60), (0, 60, 60), (10, 0, 0)]
)
def test_server_keep_alive_replaces_the_clients_and_is_told(
    asked: int, server: int | None, in_force: int
) -> None:
    world = World(options=ServerOptions(server_keep_alive=server))
    alice = world.connect(keep_alive=asked)
    assert alice.connack.server_keep_alive == server
    expected = world.now + 1.5 * in_force if in_force else None
    assert world.store.next_deadline_at == expected


@old_versions
def test_3_x_client_cannot_be_told_another_pace(version: int) -> None:
    world = World(options=ServerOptions(server_keep_alive=60))
    alice = world.connect(version=version, keep_alive=10)
    assert alice.connack.server_keep_alive is None
    assert world.store.next_deadline_at == world.now + 15


@spec("5.0 MQTT-3.1.2-22", "3.1.1 MQTT-3.1.2-24", "3.1.1 MQTT-3.1.2-8 (a)", "NN-4.3")
@all_versions
def test_keep_alive_timeout_is_a_network_failure(version: int) -> None:
    """The will is due, and the session's clock starts at the close."""
    world = World()
    alice = world.connect(version=version, keep=True, keep_alive=10, will=will())
    world.wait(15)
    assert len(world.take_notices(WillPublished)) == 1
    kept = KEPT if version == 5 else 7200
    assert alice.session.expires_at == world.now + kept


def test_timeout_ends_a_session_that_ends_with_its_connection() -> None:
    world = World()
    world.connect(keep_alive=10)
    world.wait(15)
    assert world.take_notices(SessionEnded) == [SessionEnded("alice", EndReason.CONNECTION_CLOSED)]


def test_packet_that_comes_too_late_finds_the_connection_closed() -> None:
    """Law 5: a late timer does not prolong a silence."""
    world = World()
    alice = world.connect(keep=True, keep_alive=10)
    alice.take()
    world.wait_late(15)
    seen = alice.publish("a", retain=True)
    assert closed_with(seen) is RC.KEEP_ALIVE_TIMEOUT
    assert world.store.retained_count == 0


def test_message_for_a_client_that_has_been_silent_too_long_is_queued() -> None:
    """Law 5, for a receiver."""
    world = World()
    alice = world.connect(keep=True, keep_alive=10)
    alice.subscribe("a", qos=1)
    alice.take()
    world.wait_late(15)
    world.publish("a", b"1", qos=1)
    assert closed_with(alice.take()) is RC.KEEP_ALIVE_TIMEOUT
    assert alice.session.queue_depth == 1


def test_take_over_ends_the_supervision_of_the_old_connection() -> None:
    world = World()
    world.connect(keep=True, keep_alive=10)
    new = world.connect(keep=True)
    assert world.store.next_deadline_at is None
    world.wait(100)
    assert new.session.connected


@spec("5.0 MQTT-3.14.4-1")
@all_versions
def test_after_the_close_nothing_more_is_sent(version: int) -> None:
    world = World()
    alice = world.connect(version=version, keep=True, keep_alive=10)
    alice.subscribe("a", qos=1)
    alice.take()
    world.publish("a", qos=1)
    world.publish("a", qos=1)
    world.wait(15)
    assert type(alice.take()[-1]) is CloseConnection
    alice.puback(1)
    world.publish("a", qos=1)
    assert alice.ping() == []
