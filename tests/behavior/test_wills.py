"""Feature C: wills, when they are published and when they are not."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    ClientConnected,
    CloseConnection,
    DeadlineKind,
    EndReason,
    MalformedPacketReceived,
    PubcompReceived,
    SendConnack,
    ServerOptions,
    ServerStopping,
    SessionDiscarded,
    SessionEnded,
    SessionKicked,
    SessionLimits,
    WillDiscarded,
    WillPublished,
    WillRevoked,
    WillScheduled,
)

from .helpers import (
    KEPT,
    OK,
    RC,
    Client,
    World,
    all_versions,
    kinds,
    old_versions,
    only,
    payloads,
    spec,
    will,
)


def watched(world: World, topic_name: str = "will", **options: object) -> Client:
    """Somebody who subscribes to wills."""
    watcher = world.connect("watcher")
    watcher.subscribe(topic_name, qos=2, **options)
    watcher.take()
    return watcher


def break_off(world: World, client: Client) -> None:
    client.lose()


def fall_silent(world: World, client: Client) -> None:
    world.wait(15)


def be_kicked(world: World, client: Client) -> None:
    world.feed(SessionKicked(client.client_id))


def send_garbage(world: World, client: Client) -> None:
    client.feed(MalformedPacketReceived(client.connection))


def break_the_protocol(world: World, client: Client) -> None:
    client.publish("a/#")


def connect_twice(world: World, client: Client) -> None:
    client.feed(ClientConnected(client.connection, client.client_id, client.version))


def be_shut_down(world: World, client: Client) -> None:
    world.feed(ServerStopping())


def be_discarded(world: World, client: Client) -> None:
    world.feed(SessionDiscarded(client.client_id))


ABNORMAL_ENDS = [
    break_off,
    fall_silent,
    be_kicked,
    send_garbage,
    break_the_protocol,
    connect_twice,
    be_shut_down,
    be_discarded,
]


@spec(
    "5.0 MQTT-3.1.2-7",
    "5.0 MQTT-3.1.2-22",
    "5.0 MQTT-3.1.0-2",
    "5.0 MQTT-3.1.2-8 (a)",
    "5.0 MQTT-3.1.2-10 (a)",
    "3.1.1 MQTT-3.1.2-24",
    "3.1.1 MQTT-3.1.0-2",
    "3.1.1 MQTT-4.8.0-1",
    "3.1.1 MQTT-3.1.2-8 (a)",
    "3.1.1 MQTT-3.1.2-10 (a)",
    "NN-4.3",
    "NN-4.5",
)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("end", ABNORMAL_ENDS, ids=lambda end: end.__name__)
@all_versions
def test_every_abnormal_end_publishes_the_will_once(version: int, end: object, keep: bool) -> None:
    """NN-4.3."""
    world = World()
    watcher = watched(world)
    alice = world.connect(version=version, keep=keep, keep_alive=10, will=will(payload=b"bye"))
    assert alice.session.will is not None
    end(world, alice)  # type: ignore[operator]
    assert [notice.message.payload for notice in world.take_notices(WillPublished)] == [b"bye"]
    if end is not be_shut_down:
        assert watcher.received() == [b"bye"]
    world.wait(2 * KEPT)
    assert world.take_notices(WillPublished) == []


@spec(
    "5.0 MQTT-3.14.4-3",
    "5.0 MQTT-3.1.2-8 (c)",
    "5.0 MQTT-3.1.2-10 (b)",
    "3.1.1 MQTT-3.14.4-3",
    "3.1.1 MQTT-3.1.2-8 (b)",
    "3.1.1 MQTT-3.1.2-10 (b)",
)
@all_versions
def test_disconnect_deletes_the_will(version: int) -> None:
    world = World()
    alice = world.connect(version=version, keep=True, will=will())
    alice.disconnect()
    assert alice.session.will is None
    assert len(world.take_notices(WillDiscarded)) == 1
    world.wait(2 * 7200)
    assert world.take_notices(WillPublished) == []


@spec("3.1.1 MQTT-3.14.4-3")
@old_versions
def test_any_disconnect_of_3_x_deletes_the_will(version: int) -> None:
    """There are no codes in it, so a host that passes one changes nothing."""
    world = World()
    alice = world.connect(version=version, will=will())
    alice.disconnect(0x04)
    assert world.take_notices(WillPublished) == []


@spec("5.0 MQTT-3.1.2-10 (a)", "3.1.1 MQTT-3.1.2-12", "3.1.1 MQTT-3.1.2-10 (a)", "NN-4.7")
@all_versions
def test_connection_without_a_will_publishes_none_left_from_an_earlier_one(version: int) -> None:
    world = World()
    alice = world.connect(version=version, keep=True, will=will())
    alice.lose()
    assert len(world.take_notices(WillPublished)) == 1
    alice = world.reconnect(alice)
    assert alice.session.will is None
    alice.lose()
    world.wait(2 * 7200)
    assert world.take_notices(WillPublished) == []


@spec("NN-4.7")
@all_versions
def test_each_connect_brings_its_own_will(version: int) -> None:
    """NN-4.7."""
    world = World()
    delay = 100 if version == 5 else 0
    alice = world.connect(version=version, keep=True, will=will(payload=b"1", delay=delay))
    alice = world.reconnect(alice, will=will(payload=b"2"))
    alice.lose()
    expected = [b"2"] if version == 5 else [b"1", b"2"]
    assert [notice.message.payload for notice in world.take_notices(WillPublished)] == expected


# ---------------------------------------------------------------- delay


@spec("5.0 MQTT-3.1.2-8 (a)", "5.0 MQTT-3.1.2-8 (b)", "NN-1.7 (f)", "NN-4.1", "NN-4.8 (a)")
@pytest.mark.parametrize(
    ("delay", "expiry", "after"),
    [
        (0, 50, 0),
        (10, 50, 10),
        (50, 50, 50),
        (51, 50, 50),
        (100, 50, 50),
        (0xFFFFFFFF, 50, 50),
        (100, 0, 0),
        (100, None, 0),
        (100, 0xFFFFFFFF, 100),
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
    ],
)
def test_will_comes_at_the_end_of_its_delay_or_of_its_session(
    delay: int, expiry: int | None, after: int
) -> None:
    """NN-4.1: whichever is first."""
    world = World()
    world.connect(expiry=expiry, will=will(payload=b"bye", delay=delay)).lose()
    if after:
        assert world.take_notices(WillScheduled) == [WillScheduled("alice", world.now + after)]
        world.wait(after - 0.5)
        assert world.take_notices(WillPublished) == []
        world.wait(0.5)
    assert len(world.take_notices(WillPublished)) == 1


def test_will_goes_before_its_session_where_both_are_due_together() -> None:
    """Law 6."""
    world = World()
    world.connect(expiry=50, will=will(delay=50)).lose()
    world.notices.clear()
    world.wait(50)
    seen = [type(notice) for notice in world.notices]
    assert seen == [WillPublished, SessionEnded]


def test_server_knows_when_a_will_is_due() -> None:
    world = World()
    alice = world.connect(expiry=50, will=will(delay=20))
    assert alice.session.will_due_at is None
    alice.lose()
    assert alice.session.will_due_at == world.now + 20
    deadline = world.store.next_deadline
    assert deadline is not None
    assert (deadline.at, deadline.kind, deadline.subject) == (
        world.now + 20,
        DeadlineKind.WILL_DELAY,
        "alice",
    )
    world.wait(20)
    assert alice.session.will is None
    assert alice.session.will_due_at is None


@spec("NN-4.2", "NN-4.4")
def test_disconnect_with_will_waits_for_the_delay_too() -> None:
    """NN-4.2, NN-4.4: 0x04 asks for the will, by its rules."""
    world = World()
    alice = world.connect(expiry=50, will=will(delay=20))
    alice.disconnect(RC.DISCONNECT_WITH_WILL_MESSAGE)
    world.wait(19)
    assert world.take_notices(WillPublished) == []
    world.wait(1)
    assert len(world.take_notices(WillPublished)) == 1


def test_disconnect_brings_the_will_forward_with_its_session() -> None:
    world = World()
    alice = world.connect(expiry=50, will=will(delay=40))
    alice.disconnect(RC.DISCONNECT_WITH_WILL_MESSAGE, expiry=10)
    world.wait(10)
    assert len(world.take_notices(WillPublished)) == 1
    assert "alice" not in world.store


@spec("5.0 MQTT-3.1.3-9", "5.0 MQTT-3.1.2-8 (d)")
def test_resume_in_time_cancels_the_will() -> None:
    world = World()
    alice = world.connect(keep=True, will=will(delay=20))
    alice.lose()
    world.wait(19.9)
    alice = world.reconnect(alice)
    assert len(world.take_notices(WillDiscarded)) == 1
    world.wait(1000)
    assert world.take_notices(WillPublished) == []


def test_resume_at_the_very_instant_comes_too_late() -> None:
    """Law 2 and law 5: due is inclusive, and settled before CONNECT."""
    world = World()
    watcher = watched(world)
    alice = world.connect(keep=True, will=will(payload=b"bye", delay=20))
    alice.lose()
    world.wait_late(20)
    alice = world.connect(keep=True)
    assert alice.connack.session_present
    assert watcher.received() == [b"bye"]


@spec("5.0 MQTT-3.1.2-4 (b)", "5.0 MQTT-3.1.2-8 (b)", "NN-4.8 (b)")
def test_clean_start_ends_the_session_and_its_will_is_due() -> None:
    """NN-4.8."""
    world = World()
    watcher = watched(world)
    world.connect(keep=True, will=will(payload=b"bye", delay=100)).lose()
    world.connect(clean=True)
    assert watcher.received() == [b"bye"]
    assert world.take_notices(SessionEnded) == [SessionEnded("alice", EndReason.CLEAN_START)]


def test_refused_resume_does_not_cancel_the_will() -> None:
    world = World()
    world.connect(keep=True, principal="alice", will=will(delay=20)).lose()
    world.connect(keep=True, principal="mallory")
    world.wait(20)
    assert len(world.take_notices(WillPublished)) == 1


# ---------------------------------------------------------------- revoked


@pytest.mark.parametrize("pending", [False, True])
def test_host_revokes_a_will(pending: bool) -> None:
    world = World()
    alice = world.connect(keep=True, will=will(payload=b"lies", delay=20))
    if pending:
        alice.lose()
    world.feed(WillRevoked("alice"))
    assert [notice.message.payload for notice in world.take_notices(WillDiscarded)] == [b"lies"]
    if not pending:
        alice.lose()
    world.wait(2 * KEPT)
    assert world.take_notices(WillPublished) == []


def test_revoking_a_will_that_is_not_there_changes_nothing() -> None:
    world = World()
    alice = world.connect(keep=True)
    world.notices.clear()
    world.feed(WillRevoked("alice"))
    assert world.notices == []
    assert alice.session.connected


# ---------------------------------------------------------------- what is published


@spec("5.0 MQTT-3.1.2-14", "3.1.1 MQTT-3.1.2-16")
@all_versions
def test_will_without_retain_is_an_ordinary_message(version: int) -> None:
    world = World()
    world.publish("will", b"kept", retain=True)
    watcher = watched(world, retain_as_published=True)
    world.connect(version=version, will=will(payload=b"bye")).lose()
    (delivery,) = watcher.deliveries()
    assert (delivery.message.payload, delivery.retain) == (b"bye", False)
    assert [message.payload for message in world.store.retained()] == [b"kept"]


@spec("5.0 MQTT-3.1.2-15", "3.1.1 MQTT-3.1.2-17")
@all_versions
def test_will_with_retain_is_retained(version: int) -> None:
    world = World()
    world.publish("will", b"old", retain=True)
    world.connect(version=version, will=will(payload=b"bye", retain=True)).lose()
    assert [message.payload for message in world.store.retained()] == [b"bye"]
    late = world.connect("late")
    assert payloads(late.subscribe("will")) == [b"bye"]


@spec("5.0 MQTT-3.1.2-15", "5.0 MQTT-3.3.1-6 (a)", "5.0 MQTT-3.3.1-6 (b)")
@all_versions
def test_empty_retained_will_clears_its_topic(version: int) -> None:
    world = World()
    world.publish("will", b"online", retain=True)
    watcher = watched(world)
    world.connect(version=version, will=will(payload=b"", retain=True)).lose()
    assert watcher.received() == [b""]
    assert world.store.retained_count == 0


@spec("5.0 MQTT-3.1.3-10", "5.0 MQTT-3.3.2-17")
def test_properties_of_the_will_are_published_in_order() -> None:
    world = World()
    watcher = watched(world)
    pairs = (("b", "1"), ("a", "2"), ("b", "1"))
    last = will(
        user_properties=pairs,
        content_type="text",
        response_topic="r",
        correlation_data=b"c",
        payload_format_indicator=1,
        message_expiry_interval=30,
    )
    world.connect(will=last).lose()
    (publish,) = watcher.take()
    assert publish.delivery.message == last.message
    assert publish.message_expiry_interval == 30


@spec("5.0 MQTT-3.8.4-8", "3.1.1 MQTT-3.8.4-6")
@pytest.mark.parametrize("qos", [0, 1, 2])
@all_versions
def test_will_is_delivered_at_the_smaller_qos(version: int, qos: int) -> None:
    world = World()
    clients = []
    for granted in (0, 1, 2):
        client = world.connect(f"granted {granted}")
        client.subscribe("will", qos=granted)
        client.take()
        clients.append(client)
    world.connect(version=version, will=will(qos=qos)).lose()
    assert [client.deliveries()[0].qos for client in clients] == [min(qos, g) for g in (0, 1, 2)]


@spec("NN-4.9")
@all_versions
def test_no_local_holds_for_the_owner_of_a_will(version: int) -> None:
    """NN-4.9."""
    world = World()
    alice = world.connect(version=version, keep=True, will=will(qos=1))
    alice.subscribe("will", qos=1, no_local=version == 5)
    alice.lose()
    assert alice.session.queue_depth == (0 if version == 5 else 1)


def test_will_of_a_resumed_session_reaches_its_own_subscription() -> None:
    world = World()
    alice = world.connect(keep=True, will=will(payload=b"bye", qos=1))
    alice.subscribe("will", qos=1)
    alice = world.reconnect(alice)
    assert alice.received() == [b"bye"]


@spec("5.0 MQTT-3.2.0-1")
def test_own_will_at_take_over_comes_after_connack() -> None:
    world = World()
    alice = world.connect(keep=True, will=will(payload=b"bye", qos=1))
    alice.subscribe("will", qos=1)
    alice = world.connect(keep=True)
    seen = alice.take()
    assert type(seen[0]) is SendConnack
    assert payloads(seen) == [b"bye"]


def test_wills_set_off_by_one_event_all_go_out() -> None:
    world = World()
    watcher = watched(world)
    clients = [world.connect(f"c{n}", will=will(payload=b"%d" % n)) for n in range(3)]
    watcher.take()
    world.feed(ServerStopping())
    assert [notice.client_id for notice in world.take_notices(WillPublished)] == ["c0", "c1", "c2"]
    assert not any(client.take()[-1].reason_code == OK for client in clients)


# ---------------------------------------------------------------- where there is no room


def test_will_that_cannot_be_retained_is_delivered_all_the_same() -> None:
    world = World(limits=SessionLimits(maximum_retained_messages=1))
    world.publish("full", qos=1, retain=True)
    watcher = watched(world)
    world.connect(will=will(payload=b"bye", qos=1, retain=True)).lose()
    assert watcher.received() == [b"bye"]
    assert world.retained_drops() == [(b"bye", "queue_full")]
    assert [message.topic_name for message in world.store.retained()] == ["full"]


def test_will_that_is_too_large_to_be_retained_still_ends_its_topics_old_message() -> None:
    """The topic's old message goes in any accepted case, or it would pass for the newest."""
    world = World(limits=SessionLimits(maximum_retained_bytes=20))
    world.publish("will", b"online", qos=1, retain=True)
    watcher = watched(world)
    world.connect(will=will(payload=b"x" * 100, qos=1, retain=True)).lose()
    assert watcher.received() == [b"x" * 100]
    assert world.retained_drops() == [(b"x" * 100, "bytes_full")]
    assert world.store.retained_count == 0


# ---------------------------------------------------------------- refused


@spec("5.0 MQTT-3.2.2-12", "5.0 MQTT-3.2.2-13")
@pytest.mark.parametrize(
    ("options", "fields", "code"),
    [
        (ServerOptions(maximum_qos=1), {"qos": 2}, RC.QOS_NOT_SUPPORTED),
        (ServerOptions(maximum_qos=0), {"qos": 1}, RC.QOS_NOT_SUPPORTED),
        (ServerOptions(retain_available=False), {"retain": True}, RC.RETAIN_NOT_SUPPORTED),
    ],
)
def test_will_that_the_server_cannot_keep_refuses_connect(
    options: ServerOptions, fields: dict[str, object], code: RC
) -> None:
    world = World(options=options)
    alice = world.connect(will=will(**fields))  # type: ignore[arg-type]
    assert alice.connack.reason_code is code
    assert kinds(alice.take()) == [SendConnack, CloseConnection]
    assert len(world.store) == 0


@old_versions
def test_3_x_clients_cannot_know_and_are_not_refused(version: int) -> None:
    world = World(options=ServerOptions(maximum_qos=0, retain_available=False))
    watcher = watched(world)
    alice = world.connect(version=version, will=will(payload=b"bye", qos=2, retain=True))
    assert alice.connack.reason_code == 0
    alice.lose()
    assert watcher.received() == [b"bye"]
    assert world.store.retained_count == 0


def test_late_ack_of_the_watcher_is_no_concern_of_the_will() -> None:
    world = World()
    watcher = watched(world)
    world.connect(will=will(qos=2)).lose()
    (publish,) = watcher.take()
    watcher.pubrec(publish.packet_id)
    assert watcher.feed(PubcompReceived(watcher.connection, publish.packet_id)) == []
    assert len(only(WillPublished, world.notices)) == 1
