"""Feature A: how long a session lives, who may continue it, and what ends it."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    ClientConnected,
    ClientRefused,
    CloseConnection,
    ConnectionLost,
    ConnectReturnCode,
    EndReason,
    ExpiryPolicy,
    InvalidState,
    MalformedPacketReceived,
    PeerErrorDetected,
    SendConnack,
    SendDisconnect,
    SendPublish,
    ServerStopping,
    SessionCreated,
    SessionDiscarded,
    SessionEnded,
    SessionExpirySet,
    SessionKicked,
    SessionLimits,
    SessionParked,
    SessionResumed,
    SessionTakenOver,
    SubscribeReceived,
    Subscription,
    WillDiscarded,
    WillPublished,
)

from .helpers import (
    KEPT,
    NEVER_ON_WIRE,
    OK,
    RC,
    World,
    all_versions,
    both_versions,
    closed_with,
    kinds,
    old_versions,
    only,
    spec,
    will,
)

NEVER = None
DEFAULT = 7200

# ---------------------------------------------------------------- the table, row by row

# version, Clean Start, interval as sent; what the old session becomes; the interval in force
ROWS = [
    pytest.param(3, True, None, "discarded", 0, id="3.1 clean"),
    pytest.param(4, True, None, "discarded", 0, id="3.1.1 clean"),
    pytest.param(3, False, None, "resumed", DEFAULT, id="3.1 kept"),
    pytest.param(4, False, None, "resumed", DEFAULT, id="3.1.1 kept"),
    pytest.param(5, True, None, "discarded", 0, id="5.0 clean, absent"),
    pytest.param(5, True, 0, "discarded", 0, id="5.0 clean, 0"),
    pytest.param(5, True, 50, "discarded", 50, id="5.0 clean, n"),
    pytest.param(5, False, None, "resumed", 0, id="5.0 resume, absent"),
    pytest.param(5, False, 0, "resumed", 0, id="5.0 resume, 0"),
    pytest.param(5, False, 50, "resumed", 50, id="5.0 resume, n"),
    pytest.param(5, True, NEVER_ON_WIRE, "discarded", NEVER, id="5.0 clean, never"),
    pytest.param(5, False, NEVER_ON_WIRE, "resumed", NEVER, id="5.0 resume, never"),
]


@spec(
    "5.0 MQTT-3.1.2-5",
    "5.0 MQTT-3.2.2-2",
    "5.0 MQTT-3.1.4-4",
    "5.0 MQTT-3.1.2-4 (a)",
    "5.0 MQTT-3.2.2-3 (a)",
    "3.1.1 MQTT-3.2.2-1",
    "3.1.1 MQTT-3.2.2-2",
    "3.1.1 MQTT-3.1.4-3",
    "3.1.1 MQTT-3.1.2-4 (a)",
    "3.1.1 MQTT-3.1.2-6 (a)",
    "NN-2.2",
)
@pytest.mark.parametrize(("version", "clean", "interval", "old_session", "in_force"), ROWS)
def test_what_connect_does_with_a_stored_session(
    version: int, clean: bool, interval: int | None, old_session: str, in_force: float | None
) -> None:
    world = World()
    first = world.connect(version=version, keep=True)
    first.subscribe("a", qos=1)
    first.lose()
    world.publish("a", b"waits", qos=1)
    world.notices.clear()
    alice = world.connect(version=version, clean=clean, expiry=interval)
    resumed = old_session == "resumed"
    assert alice.connack.session_present is (resumed and version > 3)
    assert alice.connack.reason_code == 0
    assert alice.received() == ([b"waits"] if resumed else [])
    assert [each.topic_filter for each in alice.session.subscriptions] == ["a"] * resumed
    assert alice.session.session_expiry_interval == in_force
    if resumed:
        assert kinds(world.notices) == [SessionResumed]
    else:
        assert world.drops() == [("alice", b"waits", "session_ended")]
        assert world.take_notices(SessionEnded) == [SessionEnded("alice", EndReason.CLEAN_START)]


@spec("5.0 MQTT-3.1.2-6", "5.0 MQTT-3.2.2-3 (b)", "3.1.1 MQTT-3.2.2-3", "3.1.1 MQTT-3.1.2-4 (b)")
@pytest.mark.parametrize(("version", "clean", "interval", "old_session", "in_force"), ROWS)
def test_connect_without_a_stored_session_makes_one(
    version: int, clean: bool, interval: int | None, old_session: str, in_force: float | None
) -> None:
    world = World()
    alice = world.connect(version=version, clean=clean, expiry=interval)
    assert alice.connack.session_present is False
    assert alice.connack.reason_code == 0
    assert kinds(world.notices) == [SessionCreated]


@spec(
    "5.0 MQTT-3.1.2-23",
    "5.0 MQTT-4.1.0-2",
    "3.1.1 MQTT-3.1.2-4 (c)",
    "3.1.1 MQTT-3.1.2-6 (b)",
    "NN-1.1",
    "NN-1.2",
    "NN-1.7 (g)",
)
@pytest.mark.parametrize(("version", "clean", "interval", "old_session", "in_force"), ROWS)
def test_how_long_a_session_outlives_its_connection(
    version: int, clean: bool, interval: int | None, old_session: str, in_force: float | None
) -> None:
    world = World()
    world.connect(version=version, clean=clean, expiry=interval).lose()
    if in_force == 0:
        assert world.take_notices(SessionEnded) == [
            SessionEnded("alice", EndReason.CONNECTION_CLOSED)
        ]
        assert "alice" not in world.store
        return
    expires_at = None if in_force is None else world.now + in_force
    assert world.take_notices(SessionParked) == [SessionParked("alice", expires_at)]
    assert world.store["alice"].expires_at == expires_at
    if in_force is None:
        world.wait(10**10)
        assert "alice" in world.store
        return
    world.wait(in_force - 1)
    assert "alice" in world.store
    world.wait(1)
    assert "alice" not in world.store
    assert world.take_notices(SessionEnded) == [SessionEnded("alice", EndReason.EXPIRED)]


@spec("5.0 MQTT-4.1.0-1", "3.1.1 MQTT-4.1.0-2")
@all_versions
def test_session_lasts_as_long_as_its_connection(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("a", qos=1)
    alice.take()
    world.wait(10**9)
    world.publish("a", b"still here", qos=1)
    assert alice.received() == [b"still here"]


@spec("3.1.1 MQTT-3.1.2-4 (c)")
@old_versions
def test_literal_reading_of_3_1_1_keeps_sessions_for_ever(version: int) -> None:
    world = World(policy=ExpiryPolicy(default_session_expiry_interval=None))
    world.connect(version=version, keep=True).lose()
    world.wait(10**10)
    assert "alice" in world.store


@spec("5.0 MQTT-3.1.2-5", "5.0 MQTT-3.2.2-3 (a)", "3.1.1 MQTT-3.2.2-2", "NN-2.1", "NN-1.7 (a)")
@all_versions
def test_session_without_anything_in_it_is_a_session(version: int) -> None:
    world = World()
    alice = world.reconnect(world.connect(version=version, keep=True))
    assert alice.connack.session_present is (version > 3)
    assert kinds(world.notices)[-1] is SessionResumed


@spec("5.0 MQTT-3.1.2-5", "NN-1.13")
def test_session_made_by_clean_start_is_resumed_without_it() -> None:
    """NN-1.13."""
    world = World()
    world.connect(clean=True, expiry=50).lose()
    assert world.connect(clean=False, expiry=50).connack.session_present


@spec("5.0 MQTT-3.1.3-2", "3.1.1 MQTT-3.1.3-2")
@all_versions
def test_client_ids_are_compared_exactly(version: int) -> None:
    world = World()
    world.connect("alice", version, keep=True).lose()
    for other in ("Alice", "alice ", "al\u0131ce"):
        assert not world.connect(other, version, keep=True).connack.session_present
    assert len(world.store) == 4


@spec("3.1.1 MQTT-3.1.2-7", "NN-1.9 (a)", "NN-14.1")
@all_versions
def test_retained_messages_survive_the_session_of_their_publisher(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.publish("a", b"stays", retain=True)
    alice.disconnect()
    assert "alice" not in world.store
    assert [message.payload for message in world.store.retained()] == [b"stays"]


# ---------------------------------------------------------------- cap, floor, DISCONNECT

CAPPED = ExpiryPolicy(maximum_session_expiry_interval=60, minimum_session_expiry_interval=10)


@spec("NN-1.3")
@pytest.mark.parametrize(
    ("asked", "in_force", "told"),
    [
        (None, 0, None),
        (0, 0, None),
        (1, 10, 10),
        (10, 10, None),
        (30, 30, None),
        (60, 60, None),
        (61, 60, 60),
        (NEVER_ON_WIRE, 60, 60),
    ],
)
def test_connect_value_is_kept_between_floor_and_cap_and_the_client_is_told(
    asked: int | None, in_force: int, told: int | None
) -> None:
    """NN-1.3; a floor never makes a session of one that the client wants to end."""
    world = World(policy=CAPPED)
    alice = world.connect(expiry=asked)
    assert alice.session.session_expiry_interval == in_force
    assert alice.connack.session_expiry_interval == told


@spec("NN-1.4")
@pytest.mark.parametrize(
    ("asked", "in_force"), [(None, 30), (0, 0), (1, 1), (45, 45), (61, 60), (NEVER_ON_WIRE, 60)]
)
def test_disconnect_value_replaces_that_of_connect_and_is_capped_but_never_raised(
    asked: int | None, in_force: int
) -> None:
    """NN-1.4."""
    world = World(policy=CAPPED)
    alice = world.connect(expiry=30)
    alice.disconnect(expiry=asked)
    if in_force == 0:
        assert "alice" not in world.store
    else:
        assert alice.session.expires_at == world.now + in_force


@old_versions
def test_cap_holds_for_the_default_of_3_x(version: int) -> None:
    world = World(policy=ExpiryPolicy(maximum_session_expiry_interval=60))
    world.connect(version=version, keep=True).lose()
    assert world.store["alice"].expires_at == world.now + 60


@spec("NN-1.1")
def test_disconnect_value_lasts_until_the_next_connect_only() -> None:
    """NN-1.1: the close restarts the clock with the value then in force."""
    world = World()
    world.connect(expiry=50).disconnect(expiry=20)
    alice = world.connect(clean=False, expiry=50)
    alice.disconnect()
    assert alice.session.expires_at == world.now + 50


@spec("5.0 MQTT-4.13.1-1 (a)", "NN-1.5")
@pytest.mark.parametrize("connect_value", [None, 0])
@pytest.mark.parametrize("disconnect_value", [1, 50, NEVER_ON_WIRE])
def test_disconnect_may_not_raise_the_interval_from_0(
    connect_value: int | None, disconnect_value: int
) -> None:
    """NN-1.5: an abnormal end then, so that the will is due."""
    world = World()
    alice = world.connect(expiry=connect_value, will=will(payload=b"bye"))
    alice.take()
    seen = alice.disconnect(expiry=disconnect_value)
    assert closed_with(seen) is RC.PROTOCOL_ERROR
    assert "alice" not in world.store
    assert [notice.message.payload for notice in world.take_notices(WillPublished)] == [b"bye"]


@spec("NN-1.5")
def test_what_connect_carried_counts_not_what_the_server_or_the_host_made_of_it() -> None:
    """NN-1.5."""
    capped_to_0 = World(policy=ExpiryPolicy(maximum_session_expiry_interval=0))
    alice = capped_to_0.connect(expiry=10)
    alice.take()
    assert only(SendDisconnect, alice.disconnect(expiry=10)) == []
    world = World()
    alice = world.connect(expiry=0)
    world.feed(SessionExpirySet("alice", 100))
    alice.take()
    assert closed_with(alice.disconnect(expiry=10)) is RC.PROTOCOL_ERROR
    alice = world.connect(clean=False, expiry=10)
    world.feed(SessionExpirySet("alice", 0))
    alice.take()
    assert only(SendDisconnect, alice.disconnect(expiry=10)) == []
    assert alice.session.expires_at == world.now + 10


@spec("NN-5.1")
@all_versions
def test_disconnect_closes_and_a_normal_end_starts_the_clock(version: int) -> None:
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.take()
    assert alice.disconnect() == [CloseConnection(alice.connection, OK)]
    assert not alice.session.connected
    assert alice.session.expires_at == world.now + (KEPT if version == 5 else DEFAULT)


# ---------------------------------------------------------------- expiry set by the host


@pytest.mark.parametrize("interval", [20, 20.5, None])
def test_host_sets_the_expiry_of_a_connected_session(interval: float | None) -> None:
    world = World()
    alice = world.connect(expiry=0)
    world.feed(SessionExpirySet("alice", interval))
    alice.lose()
    assert alice.session.expires_at == (None if interval is None else world.now + interval)


@pytest.mark.parametrize("interval", [5, None])
def test_host_sets_the_expiry_of_a_parked_session_from_now_on(interval: float | None) -> None:
    world = World()
    alice = world.connect(expiry=100)
    alice.lose()
    world.wait(50)
    world.feed(SessionExpirySet("alice", interval))
    if interval is None:
        world.wait(10**9)
        assert "alice" in world.store
    else:
        assert alice.session.expires_at == world.now + interval
        world.wait(interval)
        assert "alice" not in world.store


def test_expiry_0_set_by_the_host_ends_a_parked_session_at_once() -> None:
    world = World()
    world.connect(expiry=100, will=will(delay=50)).lose()
    world.feed(SessionExpirySet("alice", 0))
    assert "alice" not in world.store
    assert len(world.take_notices(WillPublished)) == 1


def test_shorter_expiry_set_by_the_host_brings_the_will_forward() -> None:
    world = World()
    world.connect(expiry=100, will=will(delay=50)).lose()
    world.feed(SessionExpirySet("alice", 10))
    world.wait(10)
    assert len(world.take_notices(WillPublished)) == 1
    assert "alice" not in world.store


def test_expiry_of_an_unknown_session_is_the_hosts_fault() -> None:
    world = World()
    for event in (
        SessionExpirySet("nobody", 1),
        SessionKicked("nobody"),
        SessionDiscarded("nobody"),
    ):
        with pytest.raises(InvalidState):
            world.feed(event)


# ---------------------------------------------------------------- take-over

INTERVALS = [None, 0, 50, NEVER_ON_WIRE]


@spec(
    "5.0 MQTT-3.1.2-5",
    "5.0 MQTT-3.1.3-9",
    "5.0 MQTT-3.1.4-3 (a)",
    "5.0 MQTT-3.1.4-3 (b)",
    "5.0 MQTT-3.1.2-4 (a)",
    "5.0 MQTT-3.1.2-4 (b)",
    "5.0 MQTT-3.1.2-8 (b)",
    "5.0 MQTT-3.1.2-8 (d)",
    "5.0 MQTT-3.1.2-10 (a)",
    "NN-3.2",
    "NN-3.3",
)
@pytest.mark.parametrize("new_interval", INTERVALS)
@pytest.mark.parametrize("delay", [None, 0, 10], ids=["no will", "will", "delayed will"])
@pytest.mark.parametrize("clean", [False, True], ids=["resume", "clean"])
@pytest.mark.parametrize("old_interval", INTERVALS)
def test_take_over_in_every_mix(
    old_interval: int | None, clean: bool, delay: int | None, new_interval: int | None
) -> None:
    """NN-3.1, NN-3.2, NN-3.3: a session of interval 0 ends with its connection and is not
    inherited; its will, and that of a session that Clean Start ends, is sent at once; it is
    withheld only for a session that goes on and a delay above 0."""
    world = World()
    bob = world.connect("bob")
    bob.subscribe("will")
    bob.take()
    last = None if delay is None else will(payload=b"bye", delay=delay)
    old = world.connect(expiry=old_interval, will=last)
    old.subscribe("a")
    old.take()
    world.notices.clear()
    new = world.connect(clean=clean, expiry=new_interval)
    goes_on = bool(old_interval) and not clean
    assert closed_with(old.take()) is RC.SESSION_TAKEN_OVER
    assert new.take() == [
        SendConnack(
            new.connection,
            goes_on,
            OK,
            receive_maximum=100,
            shared_subscription_available=False,
        )
    ]
    assert len(new.session.subscriptions) == int(goes_on)
    assert world.take_notices(SessionTakenOver) == [SessionTakenOver("alice", old.connection)]
    withheld = goes_on and delay == 10
    assert bob.received() == ([b"bye"] if delay is not None and not withheld else [])
    assert len(world.take_notices(WillDiscarded)) == int(withheld)
    reason = EndReason.CLEAN_START if old_interval else EndReason.CONNECTION_CLOSED
    assert world.take_notices(SessionEnded) == ([] if goes_on else [SessionEnded("alice", reason)])
    world.wait(100)
    assert bob.received() == []
    assert new.session.connected


@spec(
    "3.1.1 MQTT-3.1.4-2",
    "3.1.1 MQTT-3.1.2-12",
    "3.1.1 MQTT-3.1.2-6 (a)",
    "3.1.1 MQTT-3.1.2-6 (c)",
    "3.1.1 MQTT-3.1.2-8 (a)",
    "NN-4.10",
)
@pytest.mark.parametrize("new_version", [3, 4, 5])
@pytest.mark.parametrize("new_clean", [False, True], ids=["resume", "clean"])
@pytest.mark.parametrize("old_clean", [False, True], ids=["kept", "not kept"])
@pytest.mark.parametrize("old_version", [3, 4])
def test_take_over_of_a_3_x_client_in_every_mix(
    old_version: int, old_clean: bool, new_clean: bool, new_version: int
) -> None:
    """NN-4.10: a 3.x will knows no delay."""
    world = World()
    old = world.connect(version=old_version, clean=old_clean, will=will(payload=b"bye"))
    old.subscribe("a")
    old.take()
    new = world.connect(version=new_version, clean=new_clean)
    goes_on = not old_clean and not new_clean
    assert closed_with(old.take(), old_version) is RC.SESSION_TAKEN_OVER
    assert new.connack.session_present is (goes_on and new_version > 3)
    assert len(new.session.subscriptions) == int(goes_on)
    assert new.session.will is None
    assert [notice.message.payload for notice in world.take_notices(WillPublished)] == [b"bye"]
    new.disconnect()
    assert world.take_notices(WillPublished) == []


@spec("5.0 MQTT-3.2.0-1", "3.1.1 MQTT-3.2.0-1", "NN-3.1")
@all_versions
def test_take_over_comes_in_order(version: int) -> None:
    """NN-3.1: the old connection first, then CONNACK, then messages."""
    world = World()
    old = world.connect(version=version, keep=True)
    old.subscribe("a", qos=1)
    old.take()
    world.publish("a", b"1", qos=1)
    outcome = world.store.handle(
        ClientConnected(99, "alice", version, False, KEPT if version == 5 else None), world.now
    )
    goodbye = [(SendDisconnect, 1)] if version == 5 else []
    assert [(type(action), action.connection) for action in outcome.actions] == [
        *goodbye,
        (CloseConnection, 1),
        (SendConnack, 99),
        (SendPublish, 99),
    ]


@spec("5.0 MQTT-3.1.0-2", "5.0 MQTT-4.13.1-1 (a)", "5.0 MQTT-3.2.0-2")
def test_second_connect_on_one_connection_is_a_protocol_error() -> None:
    world = World()
    alice = world.connect(keep=True, will=will(payload=b"bye"))
    alice.take()
    seen = alice.feed(ClientConnected(alice.connection, "alice", 5))
    assert closed_with(seen) is RC.PROTOCOL_ERROR
    assert "alice" in world.store  # its Clean Start was not heeded
    assert len(world.take_notices(WillPublished)) == 1


@spec("5.0 MQTT-3.1.0-2", "3.1.1 MQTT-3.1.0-2")
@all_versions
def test_second_connect_names_another_client_in_vain(version: int) -> None:
    world = World()
    victim = world.connect("victim", version, keep=True)
    alice = world.connect("alice", version)
    alice.take()
    seen = alice.feed(ClientConnected(alice.connection, "victim", version))
    assert closed_with(seen, version) is RC.PROTOCOL_ERROR
    assert victim.session.connected


def test_connection_has_to_be_lost_before_its_name_is_used_again() -> None:
    world = World()
    alice = world.connect(keep=True)
    world.feed(SessionKicked("alice"))
    with pytest.raises(InvalidState):
        world.feed(ClientConnected(alice.connection, "alice", 5))
    world.feed(ConnectionLost(alice.connection))
    with pytest.raises(InvalidState):
        world.feed(ConnectionLost(alice.connection))


# ---------------------------------------------------------------- kick, discard, stop


@all_versions
def test_kick_closes_the_connection_and_the_session_lives_on(version: int) -> None:
    world = World()
    alice = world.connect(version=version, keep=True, will=will())
    alice.take()
    world.feed(SessionKicked("alice"))
    assert closed_with(alice.take(), version) is RC.ADMINISTRATIVE_ACTION
    assert not alice.session.connected
    assert len(world.take_notices(WillPublished)) == 1
    world.feed(SessionKicked("alice"))  # a parked session has nothing to be kicked from
    assert "alice" in world.store


@all_versions
def test_kick_ends_a_session_that_ends_with_its_connection(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.take()
    world.feed(SessionKicked("alice", RC.SERVER_BUSY))
    assert closed_with(alice.take(), version) is RC.SERVER_BUSY
    assert "alice" not in world.store


@spec("NN-1.10", "NN-4.8 (c)")
@pytest.mark.parametrize("connected", [True, False])
@all_versions
def test_discard_ends_the_session_and_its_will_is_due(version: int, connected: bool) -> None:
    """NN-4.8."""
    world = World()
    delay = 50 if version == 5 else 0
    alice = world.connect(version=version, keep=True, will=will(delay=delay))
    alice.subscribe("a", qos=1)
    alice.take()
    if not connected:
        alice.lose()
    world.publish("a", b"1", qos=1)
    alice.take()
    world.feed(SessionDiscarded("alice"))
    expected = RC.ADMINISTRATIVE_ACTION if connected else None
    assert closed_with(alice.take(), version) is expected
    assert world.take_notices(SessionEnded) == [SessionEnded("alice", EndReason.DISCARDED)]
    assert len(world.take_notices(WillPublished)) == 1
    assert world.drops() == [("alice", b"1", "session_ended")]
    assert (world.store.connected_count, world.store.parked_count) == (0, 0)


def test_stopping_closes_every_connection_and_sessions_are_kept() -> None:
    world = World()
    clients = [world.connect(f"c{version}", version, keep=True) for version in (3, 4, 5)]
    world.connect("parked", keep=True).lose()
    for client in clients:
        client.take()
    world.feed(ServerStopping())
    for client in clients:
        assert closed_with(client.take(), client.version) is RC.SERVER_SHUTTING_DOWN
        client.lose()
    assert world.store.parked_count == 4


@spec("5.0 MQTT-4.13.1-1 (i)", "NN-5.3")
def test_malformed_packet_closes_with_its_code() -> None:
    world = World()
    alice = world.connect(keep=True)
    alice.take()
    assert closed_with(alice.feed(MalformedPacketReceived(alice.connection))) is RC.MALFORMED_PACKET
    assert "alice" in world.store
    (notice,) = world.take_notices(PeerErrorDetected)
    assert (notice.client_id, notice.reason_code) == ("alice", RC.MALFORMED_PACKET)


# ---------------------------------------------------------------- refused CONNECT

REFUSED = [
    pytest.param({"principal": "mallory"}, RC.NOT_AUTHORIZED, id="another principal"),
    pytest.param({"principal": None}, RC.NOT_AUTHORIZED, id="no principal"),
    pytest.param({"receive_maximum": 0}, RC.PROTOCOL_ERROR, id="Receive Maximum 0"),
    pytest.param({"maximum_packet_size": 0}, RC.PROTOCOL_ERROR, id="Maximum Packet Size 0"),
    pytest.param({"will": will("a/#")}, RC.TOPIC_NAME_INVALID, id="will topic with wildcard"),
    pytest.param({"will": will("")}, RC.TOPIC_NAME_INVALID, id="empty will topic"),
]


@spec(
    "5.0 MQTT-3.1.4-2",
    "5.0 MQTT-3.2.2-6",
    "5.0 MQTT-3.2.2-7",
    "5.0 MQTT-3.14.0-1",
    "5.0 MQTT-4.13.2-1",
    "NN-3.4",
    "NN-5.3",
    "NN-11.1",
)
@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize(("fields", "code"), REFUSED)
def test_refused_connect_touches_nothing(
    fields: dict[str, object], code: RC, clean: bool, connected: bool
) -> None:
    """NN-3.4."""
    world = World()
    alice = world.connect(keep=True, principal="alice", will=will(delay=50))
    alice.subscribe("a", qos=1)
    world.publish("a", b"1", qos=1)
    alice.take()
    if not connected:
        alice.lose()
    before = (alice.session.expires_at, alice.session.will_due_at, alice.session.in_flight)
    world.notices.clear()
    refused = world.connect(clean=clean, expiry=5, **{"principal": "alice", **fields})  # type: ignore[arg-type]
    assert refused.take() == [
        SendConnack(refused.connection, False, code),
        CloseConnection(refused.connection, code),
    ]
    assert world.notices == [ClientRefused(refused.connection, "alice", code)]
    assert alice.take() == []
    assert alice.session.connected is connected
    after = (alice.session.expires_at, alice.session.will_due_at, alice.session.in_flight)
    assert after == before
    assert len(alice.session.subscriptions) == 1


@spec("5.0 MQTT-3.1.4-6", "3.1.1 MQTT-3.1.4-5")
@both_versions
def test_packets_behind_a_refused_connect_change_nothing(version: int) -> None:
    world = World()
    world.connect(version=version, keep=True, principal="alice").lose()
    refused = world.connect(version=version, keep=True, principal="mallory")
    refused.take()
    assert refused.subscribe("a") == []
    assert refused.publish("a", retain=True) == []
    assert refused.disconnect() == []
    assert world.store["alice"].subscriptions == ()
    assert world.store.retained_count == 0


@spec("3.1.1 MQTT-3.2.2-4", "3.1.1 MQTT-3.2.2-5", "3.1.1 MQTT-3.2.2-6", "3.1.1 MQTT-3.1.3-9")
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"principal": "mallory"}, ConnectReturnCode.NOT_AUTHORIZED),
        ({"client_id": "c" * 24}, ConnectReturnCode.IDENTIFIER_REJECTED),
        ({"client_id": "one too many"}, ConnectReturnCode.SERVER_UNAVAILABLE),
        ({"will": will("+")}, None),
    ],
)
@old_versions
def test_3_x_client_is_refused_with_one_of_five_codes_or_without_connack(
    version: int, fields: dict[str, object], code: ConnectReturnCode | None
) -> None:
    limits = SessionLimits(maximum_sessions=1, maximum_client_id_length=23)
    world = World(limits=limits)
    world.connect(version=version, keep=True, principal="alice").lose()
    given = {"version": version, "keep": True, "principal": "alice", **fields}
    refused = world.connect(**given)  # type: ignore[arg-type]
    seen = refused.take()
    assert [action.reason_code for action in only(SendConnack, seen)] == (
        [] if code is None else [code]
    )
    assert type(seen[-1]) is CloseConnection
    assert list(world.store) == ["alice"]


def test_session_is_bound_to_its_principal_until_it_ends() -> None:
    world = World()
    world.connect(keep=True).lose()
    world.connect(keep=True, principal="alice").lose()  # nobody's until now
    assert world.store["alice"].principal == "alice"
    assert world.connect(keep=True, principal="mallory").connack.reason_code == RC.NOT_AUTHORIZED
    assert world.connect(keep=True, principal="alice").connack.session_present
    world.feed(SessionDiscarded("alice"))
    assert world.connect(keep=True, principal="mallory").connack.reason_code == OK


def test_session_that_has_expired_is_bound_to_nobody() -> None:
    world = World()
    world.connect(expiry=5, principal="alice").lose()
    world.wait_late(5)
    assert world.connect(principal="mallory").connack.reason_code == OK


# ---------------------------------------------------------------- client ids


@spec("5.0 MQTT-3.1.3-6", "5.0 MQTT-3.2.2-16", "5.0 MQTT-3.1.3-7 (a)", "5.0 MQTT-3.1.3-7 (b)")
@pytest.mark.parametrize("clean", [True, False])
def test_empty_client_id_gets_the_one_that_the_host_assigns(clean: bool) -> None:
    world = World()
    client = world.connect("", clean=clean, expiry=50, assigned_client_id="auto-1")
    assert client.connack.assigned_client_identifier == "auto-1"
    client.lose()
    assert world.connect("auto-1", clean=False, expiry=50).connack.session_present


@spec("3.1.1 MQTT-3.1.3-6")
def test_empty_client_id_of_3_1_1_works_without_being_told_its_id() -> None:
    world = World()
    client = world.connect("", 4, assigned_client_id="auto-1")
    assert client.connack.assigned_client_identifier is None
    assert world.store["auto-1"].connected


@spec("3.1.1 MQTT-3.1.3-7", "3.1.1 MQTT-3.1.3-8")
def test_empty_client_id_of_3_1_1_needs_clean_session() -> None:
    world = World()
    client = world.connect("", 4, clean=False, assigned_client_id="auto-1")
    assert client.connack.reason_code is ConnectReturnCode.IDENTIFIER_REJECTED
    assert kinds(client.take()) == [SendConnack, CloseConnection]
    assert len(world.store) == 0


@all_versions
def test_empty_client_id_is_refused_where_the_host_assigns_none(version: int) -> None:
    world = World()
    client = world.connect("", version)
    expected = (
        RC.CLIENT_IDENTIFIER_NOT_VALID if version == 5 else ConnectReturnCode.IDENTIFIER_REJECTED
    )
    assert client.connack.reason_code is expected


@spec("5.0 MQTT-3.2.2-16", "5.0 MQTT-3.1.3-6")
@pytest.mark.parametrize("parked", [True, False])
def test_assigned_id_that_a_stored_session_uses_is_the_hosts_fault(parked: bool) -> None:
    world = World()
    alice = world.connect(keep=True)
    if parked:
        alice.lose()
    with pytest.raises(InvalidState):
        world.connect("", assigned_client_id="alice")
    assert alice.session.connected is not parked


@spec("5.0 MQTT-3.1.3-5", "3.1.1 MQTT-3.1.3-5")
@all_versions
def test_ids_of_1_to_23_letters_and_digits_are_accepted(version: int) -> None:
    world = World(limits=SessionLimits(maximum_client_id_length=23))
    letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for client_id in (letters[:23], letters[23:46], letters[39:], "a"):
        assert world.connect(client_id, version).connack.reason_code == 0
    assert world.connect("a" * 24, version).connack.reason_code != 0


def test_3_1_refuses_ids_longer_than_23_whatever_the_limit() -> None:
    world = World()
    assert world.connect("a" * 23, 3).connack.reason_code == 0
    assert world.connect("a" * 24, 3).connack.reason_code is ConnectReturnCode.IDENTIFIER_REJECTED
    assert world.connect("a" * 24, 4).connack.reason_code == 0


# ---------------------------------------------------------------- across versions


@spec("NN-2.8 (c)", "NN-2.8 (d)")
@pytest.mark.parametrize("after", [3, 4, 5], ids=["to 3.1", "to 3.1.1", "to 5.0"])
@pytest.mark.parametrize("before", [3, 4, 5], ids=["from 3.1", "from 3.1.1", "from 5.0"])
def test_session_is_resumed_across_versions(before: int, after: int) -> None:
    """NN-2.8: in flight, queue and grants go on; the connection's version sets the interval."""
    world = World(limits=SessionLimits(maximum_send_window=1))
    alice = world.connect(version=before, keep=True)
    alice.subscribe("a", qos=1)
    world.publish("a", b"1", qos=2)
    world.publish("a", b"2", qos=2)
    alice.lose()
    alice = world.connect(version=after, keep=True)
    assert alice.connack.session_present is (after > 3)
    assert alice.acknowledge_all() == [b"1", b"2"]
    assert alice.session.session_expiry_interval == (KEPT if after == 5 else DEFAULT)


@spec("NN-2.8 (e)")
def test_pending_will_is_canceled_by_a_3_1_1_resume() -> None:
    """NN-2.8."""
    world = World()
    world.connect(version=5, keep=True, will=will(delay=50)).lose()
    world.connect(version=4, keep=True)
    world.wait(100)
    assert world.take_notices(WillPublished) == []
    assert len(world.take_notices(WillDiscarded)) == 1


@spec("NN-2.8 (c)")
def test_no_local_goes_on_for_a_3_1_1_client() -> None:
    """NN-2.8."""
    world = World()
    alice = world.connect(version=5, keep=True)
    alice.subscribe("a", no_local=True)
    alice.lose()
    alice = world.connect(version=4, keep=True)
    alice.take()
    assert alice.publish("a", b"own") == []
    world.publish("a", b"others'")
    assert alice.received() == [b"others'"]


@spec("3.1.1 MQTT-3.3.1-9", "NN-2.8 (b)")
@old_versions
@pytest.mark.parametrize("queued", [False, True])
def test_retain_as_published_does_not_go_on_for_a_3_x_client(version: int, queued: bool) -> None:
    """NN-2.8: the version of the connection governs its packets."""
    world = World()
    alice = world.connect(version=5, keep=True)
    alice.subscribe("a", qos=1, retain_as_published=True)
    alice.lose()
    if not queued:
        alice = world.connect(version=version, keep=True)
        alice.take()
    world.publish("a", qos=1, retain=True)
    if queued:
        alice = world.connect(version=version, keep=True)
    (delivery,) = alice.deliveries()
    assert delivery.retain is False
    alice.puback(1)
    alice.lose()
    alice = world.connect(version=5, keep=True)
    world.publish("a", qos=1, retain=True)
    (delivery,) = alice.deliveries()
    assert delivery.retain is True


@spec("NN-2.8 (f)")
def test_subscription_made_under_3_1_1_has_no_options_in_5_0() -> None:
    """NN-2.8: no identifier, No Local 0, Retain As Published 0."""
    world = World()
    alice = world.connect(version=4, keep=True)
    alice.feed(SubscribeReceived(alice.connection, 1, (Subscription("a", 1),)))
    alice.lose()
    alice = world.connect(version=5, keep=True)
    alice.take()
    sent = only(SendPublish, alice.publish("a", qos=1, retain=True))
    assert [(each.delivery.retain, each.delivery.subscription_ids) for each in sent] == [
        (False, ())
    ]


@spec("5.0 MQTT-1.5.4-1")
@all_versions
def test_a_client_id_that_is_no_text_is_refused(version: int) -> None:
    """No journal could keep it, and no packet carry it."""
    world = World()
    alice = world.connect("a\ud800", version=version)
    assert alice.connack.reason_code == (0x85 if version == 5 else 2)
    assert len(world.store) == 0
