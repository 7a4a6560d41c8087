"""Sessions, flows and redelivery over a real socket, against every broker at hand.

Each test is about one statement. What a broker does otherwise stands in `differences`.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from mqtt_sessions import (
    Action,
    ClientConnected,
    CloseConnection,
    Delivery,
    MalformedPacketReceived,
    Message,
    PublishReceived,
    ReasonCode,
    SendConnack,
    SendDisconnect,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    Subscription,
)
from tests.behavior.helpers import (
    KEPT,
    OK,
    RC,
    Client,
    both_versions,
    codes,
    ids,
    numbered,
    only,
    payloads,
    pubrels,
    sent_again,
    spec,
    will,
)
from tests.live.helpers import LiveWorld


def is_closed(actions: Iterable[Action]) -> bool:
    """The broker has closed the connection."""
    return bool(only(CloseConnection, actions))


def told(actions: Iterable[Action]) -> list[ReasonCode]:
    """The codes of DISCONNECT."""
    return [each.reason_code for each in only(SendDisconnect, actions)]


def called_up(actions: Iterable[Action]) -> list[Delivery]:
    """What a SUBSCRIBE brought along."""
    return [each.delivery for each in only(SendPublish, actions)]


# ---------------------------------------------------------------- sessions


@spec("5.0 MQTT-3.2.2-3", "5.0 MQTT-3.1.2-5", "5.0 MQTT-3.1.2-23")
@spec("3.1.1 MQTT-3.2.2-2", "3.1.1 MQTT-3.2.2-3", "3.1.1 MQTT-3.1.2-4")
@both_versions
def test_session_present_tells_whether_a_session_goes_on(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version, keep=True)
    assert not alice.connack.session_present
    assert world.reconnect(alice).connack.session_present


@spec("5.0 MQTT-3.1.2-4", "5.0 MQTT-3.2.2-2", "3.1.1 MQTT-3.1.2-6", "3.1.1 MQTT-3.2.2-1")
@both_versions
def test_clean_start_throws_the_old_session_away(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=1)
    bob = world.connect("bob", version)
    alice.lose()
    bob.publish("a", b"queued", qos=1)
    alice = world.reconnect(alice, keep=False)
    assert not alice.connack.session_present
    alice = world.reconnect(alice)
    assert not alice.connack.session_present
    bob.publish("a", b"no subscription", qos=1)
    assert alice.received() == []


@spec("5.0 MQTT-4.1.0-2", "3.1.1 MQTT-3.1.2-6")
@both_versions
def test_session_that_is_not_kept_ends_with_its_connection(world: LiveWorld, version: int) -> None:
    """NN-1.2: an absent Session Expiry Interval equals 0."""
    alice = world.connect(version=version)
    alice.subscribe("a", qos=1)
    alice.lose()
    assert not world.connect(version=version, keep=True).connack.session_present


@spec("5.0 MQTT-4.1.0-2", "5.0 MQTT-3.1.2-23")
def test_session_ends_when_its_expiry_interval_has_passed(world: LiveWorld) -> None:
    alice = world.connect(keep=True, expiry=1)
    alice.lose()
    alice = world.connect(keep=True, expiry=1)
    assert alice.connack.session_present
    alice.lose()
    world.let_pass(1)
    assert not world.connect(keep=True).connack.session_present


@spec("5.0 MQTT-4.1.0-2")
def test_disconnect_may_shorten_the_session_expiry_interval(world: LiveWorld) -> None:
    """NN-1.4."""
    world.connect(keep=True).disconnect(expiry=0)
    assert not world.connect(keep=True).connack.session_present


@spec("5.0 MQTT-4.13.1-1")
def test_disconnect_may_not_raise_the_session_expiry_interval_from_0(world: LiveWorld) -> None:
    """NN-1.5."""
    alice = world.connect()
    alice.take()
    assert told(alice.disconnect(expiry=KEPT)) == [RC.PROTOCOL_ERROR]


@spec("5.0 MQTT-4.5.0-1", "3.1.1 MQTT-3.1.2-5", "3.1.1 MQTT-4.5.0-1")
@spec("5.0 MQTT-4.6.0-5", "5.0 MQTT-4.6.0-6", "3.1.1 MQTT-4.6.0-5", "3.1.1 MQTT-4.6.0-6")
@both_versions
def test_messages_wait_for_a_session_in_order(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    bob = world.connect("bob", version)
    for payload in numbered(5):
        bob.publish("a", payload, qos=1)
    assert world.reconnect(alice).acknowledge_all() == numbered(5)


@spec("5.0 MQTT-4.5.0-1", "3.1.1 MQTT-3.1.2-5", "3.1.1 MQTT-4.5.0-1", "3.1.1 MQTT-4.3.3-2")
@spec("5.0 MQTT-4.6.0-5", "5.0 MQTT-4.6.0-6", "3.1.1 MQTT-4.6.0-5", "3.1.1 MQTT-4.6.0-6")
@both_versions
def test_qos_2_messages_wait_for_a_session_in_order(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    alice.lose()
    bob = world.connect("bob", version)
    for payload in numbered(5):
        bob.publish_to_the_end("a", payload)
    assert world.reconnect(alice).acknowledge_all() == numbered(5)


@spec("5.0 MQTT-3.1.3-7", "5.0 MQTT-3.2.2-16", "5.0 MQTT-3.1.3-6")
def test_client_without_an_id_is_told_the_one_it_gets(world: LiveWorld) -> None:
    alice = world.connect("", keep=True)
    assigned = alice.connack.assigned_client_identifier
    assert assigned
    alice.lose()
    assert world.connect(assigned, keep=True).connack.session_present


@spec("3.1.1 MQTT-3.1.3-8")
def test_client_without_an_id_must_be_clean_in_3_1_1(world: LiveWorld) -> None:
    alice = world.connect("", 4, clean=False)
    connack, close = alice.take()
    assert isinstance(connack, SendConnack)
    assert connack.reason_code == 2
    assert isinstance(close, CloseConnection)


# ---------------------------------------------------------------- take-over


@spec("5.0 MQTT-3.1.4-3", "3.1.1 MQTT-3.1.4-2")
@both_versions
def test_second_connection_of_a_client_ends_the_first(world: LiveWorld, version: int) -> None:
    old = world.connect(version=version, keep=True)
    old.subscribe("a", qos=1)
    old.take()
    new = world.connect(version=version, keep=True)
    assert is_closed(old.take())
    old.lose()
    assert new.connack.session_present
    world.connect("bob", version).publish("a", b"1", qos=1)
    assert new.received() == [b"1"]


@spec("5.0 MQTT-3.1.4-3")
def test_first_connection_is_told_that_it_was_taken_over(world: LiveWorld) -> None:
    old = world.connect(keep=True)
    old.take()
    world.connect(keep=True)
    assert told(old.take()) == [RC.SESSION_TAKEN_OVER]


@spec("5.0 MQTT-3.1.2-8", "3.1.1 MQTT-3.1.2-8")
@both_versions
def test_take_over_publishes_the_will_of_the_first_connection(
    world: LiveWorld, version: int
) -> None:
    """NN-3.2: its Will Delay is 0, so that it is due although the session goes on."""
    bob = world.connect("bob", version)
    bob.subscribe("will")
    world.connect(version=version, keep=True, will=will())
    world.connect(version=version, keep=True)
    assert bob.received() == [b"w"]


@spec("5.0 MQTT-3.1.3-9")
def test_take_over_in_time_cancels_a_delayed_will(world: LiveWorld) -> None:
    bob = world.connect("bob")
    bob.subscribe("will")
    world.connect(keep=True, will=will(delay=1))
    world.connect(keep=True)
    world.let_pass(1)
    assert bob.received() == []


@spec("5.0 MQTT-3.2.2-3", "3.1.1 MQTT-3.1.2-6", "5.0 MQTT-4.1.0-2")
@spec("5.0 MQTT-3.1.4-5", "3.1.1 MQTT-3.1.4-4")
@both_versions
def test_take_over_inherits_nothing_from_a_session_that_is_not_kept(
    world: LiveWorld, version: int
) -> None:
    """NN-3.3: the old session ended with its connection."""
    world.connect(version=version).subscribe("a", qos=1)
    new = world.connect(version=version, keep=True)
    assert not is_closed(new.inbox)
    assert not new.connack.session_present
    world.connect("bob", version).publish("a", b"1", qos=1)
    assert new.received() == []


# ---------------------------------------------------------------- redelivery


def half_way(world: LiveWorld, version: int, qos: int, count: int = 3) -> list[int | None]:
    """alice has got messages 1, 2, … and acknowledged nothing; their identifiers."""
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=qos)
    bob = world.connect("bob", version)
    for payload in numbered(count):
        bob.publish("a", payload, qos, packet_id=1)
        if qos == 2:
            bob.pubrel(1)
    seen = alice.take()
    assert payloads(seen) == numbered(count)
    assert len(set(ids(seen))) == count
    return ids(seen)


@spec("5.0 MQTT-4.4.0-1", "5.0 MQTT-3.3.1-1", "5.0 MQTT-4.6.0-1")
@spec("3.1.1 MQTT-4.4.0-1", "3.1.1 MQTT-3.3.1-1", "3.1.1 MQTT-4.6.0-1", "3.1.1 MQTT-4.6.0-6")
@both_versions
def test_resume_sends_again_with_dup_and_the_same_identifiers_in_order(
    world: LiveWorld, version: int
) -> None:
    first, second, third = half_way(world, version, 1)
    alice = world.connect(version=version, keep=True)
    seen = sent_again(alice.take())
    assert seen == [(first, b"1", True), (second, b"2", True), (third, b"3", True)]


@spec("5.0 MQTT-4.4.0-1", "5.0 MQTT-3.3.1-1", "5.0 MQTT-4.6.0-1", "3.1.1 MQTT-4.3.3-2")
@spec("3.1.1 MQTT-4.4.0-1", "3.1.1 MQTT-3.3.1-1", "3.1.1 MQTT-4.6.0-1", "3.1.1 MQTT-4.6.0-6")
@both_versions
def test_resume_sends_qos_2_messages_again_in_order(world: LiveWorld, version: int) -> None:
    first, second, third = half_way(world, version, 2)
    alice = world.connect(version=version, keep=True)
    seen = sent_again(alice.take())
    assert seen == [(first, b"1", True), (second, b"2", True), (third, b"3", True)]


@spec("5.0 MQTT-4.4.0-1", "3.1.1 MQTT-4.4.0-1")
@both_versions
def test_what_is_sent_again_goes_before_what_is_new(world: LiveWorld, version: int) -> None:
    """NN-8.3."""
    half_way(world, version, 1)
    bob = world.connect("carol", version)
    world.connect(version=version, keep=True).lose()
    bob.publish("a", b"new", qos=1)
    alice = world.connect(version=version, keep=True)
    assert alice.received() == [*numbered(3), b"new"]


@spec("5.0 MQTT-4.4.0-1", "5.0 MQTT-4.3.3-6", "5.0 MQTT-4.3.3-5")
@spec("3.1.1 MQTT-4.4.0-1", "3.1.1 MQTT-4.3.3-1", "3.1.1 MQTT-4.3.3-2")
@both_versions
def test_resume_sends_pubrel_and_not_publish_after_pubrec(world: LiveWorld, version: int) -> None:
    first, second, _ = half_way(world, version, 2)
    assert first is not None
    assert second is not None
    alice = world.connect(version=version, keep=True)
    alice.take()
    assert pubrels(alice.pubrec(first)) == [first]
    alice = world.reconnect(alice)
    seen = alice.take()
    assert pubrels(seen) == [first]
    assert payloads(seen) == numbered(2, 2)
    assert alice.pubcomp(first) == []
    assert pubrels(world.reconnect(alice).take()) == []


@spec("3.1.1 MQTT-4.6.0-4", "3.1.1 MQTT-4.6.0-6", "5.0 MQTT-4.6.0-4", "3.1.1 MQTT-4.3.3-2")
@both_versions
def test_pubrels_are_sent_again_in_the_order_of_their_pubrecs(
    world: LiveWorld, version: int
) -> None:
    """NN-8.4b, NN-15.3: in 5.0 it binds clients, and the library by choice."""
    packet_ids = half_way(world, version, 2)
    alice = world.connect(version=version, keep=True)
    for packet_id in reversed(packet_ids):
        assert packet_id is not None
        alice.pubrec(packet_id)
    assert pubrels(world.reconnect(alice).take()) == packet_ids[::-1]


@spec("5.0 MQTT-4.4.0-2", "5.0 MQTT-4.3.3-4")
def test_refused_messages_are_not_sent_again(world: LiveWorld) -> None:
    """NN-7.7: a PUBREC of 0x80 or above ends the exchange, without PUBREL."""
    first, second, _ = half_way(world, 5, 2)
    assert first is not None
    assert second is not None
    alice = world.connect(keep=True)
    alice.take()
    assert alice.pubrec(first, RC.QUOTA_EXCEEDED) == []
    assert alice.pubrec(second, RC.UNSPECIFIED_ERROR) == []
    seen = world.reconnect(alice).take()
    assert payloads(seen) == [b"3"]
    assert pubrels(seen) == []


@spec("5.0 MQTT-4.4.0-2")
def test_a_refusing_puback_settles_the_message(world: LiveWorld) -> None:
    first, *_ = half_way(world, 5, 1)
    assert first is not None
    alice = world.connect(keep=True)
    alice.puback(first, RC.NOT_AUTHORIZED)
    assert payloads(world.reconnect(alice).take()) == numbered(2, 2)


# ---------------------------------------------------------------- QoS 2 towards the broker


def repeat(world: LiveWorld, version: int, *dups: bool) -> list[bytes]:
    """Publish one message at QoS 2 with DUP as given, then PUBREL; what a subscriber gets."""
    bob = world.connect("bob", version)
    bob.subscribe("a")
    alice = world.connect(version=version)
    for dup in dups:
        alice.take()
        seen = alice.publish("a", b"1", 2, 7, dup=dup)
        assert [type(each) for each in seen] == [SendPubrec], "not answered by PUBREC"
    assert alice.pubrel(7) == [SendPubcomp(alice.connection, 7, OK)]
    return bob.received()


@spec("5.0 MQTT-4.3.3-10", "3.1.1 MQTT-4.3.3-2")
@pytest.mark.parametrize("dup", [False, True], ids=["dup 0", "dup 1"])
@both_versions
def test_repeated_qos_2_message_is_handed_on_once(
    world: LiveWorld, version: int, dup: bool
) -> None:
    assert repeat(world, version, False, dup) == [b"1"]


@spec("5.0 MQTT-4.3.3-10", "3.1.1 MQTT-4.3.3-2")
@both_versions
def test_qos_2_message_may_be_repeated_any_number_of_times(world: LiveWorld, version: int) -> None:
    assert repeat(world, version, False, True, True, True) == [b"1"]


@spec("5.0 MQTT-4.3.3-10", "5.0 MQTT-4.1.0-1", "3.1.1 MQTT-4.3.3-2", "3.1.1 MQTT-4.1.0-1")
@both_versions
def test_inbound_identifiers_outlive_the_connection(world: LiveWorld, version: int) -> None:
    bob = world.connect("bob", version)
    bob.subscribe("a")
    alice = world.connect(version=version, keep=True)
    alice.publish("a", b"1", 2, 7)
    alice = world.reconnect(alice)
    alice.publish("a", b"1", 2, 7, dup=True)
    alice.pubrel(7)
    assert bob.received() == [b"1"]


@spec("5.0 MQTT-4.3.3-12", "3.1.1 MQTT-4.3.3-2")
@both_versions
def test_identifier_is_free_after_pubcomp(world: LiveWorld, version: int) -> None:
    bob = world.connect("bob", version)
    bob.subscribe("a")
    alice = world.connect(version=version)
    for payload in numbered(2):
        alice.publish("a", payload, 2, 7, dup=payload == b"2")
        alice.pubrel(7)
    assert bob.received() == numbered(2)


@spec("5.0 MQTT-4.3.2-5", "3.1.1 MQTT-4.3.2-2")
@both_versions
def test_identifier_is_free_after_puback_whatever_dup_says(world: LiveWorld, version: int) -> None:
    bob = world.connect("bob", version)
    bob.subscribe("a", qos=1)
    alice = world.connect(version=version)
    for payload in numbered(2):
        alice.publish("a", payload, 1, 7, dup=payload == b"2")
    assert bob.received() == numbered(2)


@spec("5.0 MQTT-4.3.3-8", "3.1.1 MQTT-4.3.3-2")
@both_versions
def test_qos_2_message_is_handed_on_at_publish(world: LiveWorld, version: int) -> None:
    """NN-7.3: the method of the figure in 5.0; in 3.1.1 one of two."""
    bob = world.connect("bob", version)
    bob.subscribe("a")
    world.connect(version=version).publish("a", b"1", 2, 7)
    assert bob.received() == [b"1"]


@spec("5.0 MQTT-4.3.3-11", "3.1.1 MQTT-4.3.3-2")
@both_versions
def test_unknown_pubrel_is_answered(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version)
    alice.take()
    (pubcomp,) = alice.pubrel(9)
    assert isinstance(pubcomp, SendPubcomp)
    assert pubcomp.packet_id == 9
    assert isinstance(alice.publish("a", b"1", 1, 9)[-1], SendPuback)


@spec("5.0 MQTT-3.7.2-1")
def test_unknown_pubrel_is_answered_with_0x92(world: LiveWorld) -> None:
    """NN-7.4."""
    alice = world.connect()
    alice.take()
    assert alice.pubrel(9) == [SendPubcomp(alice.connection, 9, RC.PACKET_IDENTIFIER_NOT_FOUND)]


@spec("5.0 MQTT-3.6.2-1")
def test_unknown_pubrec_is_answered_with_0x92(world: LiveWorld) -> None:
    """NN-7.5."""
    alice = world.connect()
    alice.take()
    assert alice.pubrec(9) == [SendPubrel(alice.connection, 9, RC.PACKET_IDENTIFIER_NOT_FOUND)]


@spec("5.0 MQTT-4.3.3-4", "3.1.1 MQTT-4.3.3-1", "3.1.1 MQTT-4.3.3-2")
@both_versions
def test_repeated_pubrec_gets_pubrel_again(world: LiveWorld, version: int) -> None:
    """NN-7.6."""
    first, *_ = half_way(world, version, 2)
    assert first is not None
    alice = world.connect(version=version, keep=True)
    alice.take()
    for _ in range(2):
        assert alice.pubrec(first) == [SendPubrel(alice.connection, first, OK)]


# ---------------------------------------------------------------- flow control


@spec("5.0 MQTT-3.3.4-9", "5.0 MQTT-4.9.0-2", "5.0 MQTT-4.9.0-1")
def test_receive_maximum_bounds_what_is_unacknowledged(world: LiveWorld) -> None:
    alice = world.connect(receive_maximum=2)
    alice.subscribe("a", qos=1)
    bob = world.connect("bob")
    for payload in numbered(4):
        bob.publish("a", payload, qos=1)
    seen = alice.take()
    assert payloads(seen) == numbered(2)
    assert payloads(alice.puback(only(SendPublish, seen)[1].packet_id or 0)) == [b"3"]
    assert payloads(alice.puback(only(SendPublish, seen)[0].packet_id or 0)) == [b"4"]


@spec("5.0 MQTT-3.3.4-9", "5.0 MQTT-4.9.0-2")
def test_unit_of_a_qos_2_message_comes_back_with_pubcomp(world: LiveWorld) -> None:
    """NN-10.1."""
    alice = world.connect(receive_maximum=1)
    alice.subscribe("a", qos=2)
    bob = world.connect("bob")
    for payload in numbered(2):
        bob.publish_to_the_end("a", payload)
    (first,) = only(SendPublish, alice.take())
    assert first.packet_id is not None
    assert alice.pubrec(first.packet_id) == [SendPubrel(alice.connection, first.packet_id, OK)]
    assert payloads(alice.pubcomp(first.packet_id)) == [b"2"]


def full_window(world: LiveWorld, qos: int) -> tuple[Client, int]:
    """alice with two messages in flight, as many as she allows, and four that wait."""
    alice = world.connect(receive_maximum=2)
    alice.subscribe("a", qos=qos)
    bob = world.connect("bob")
    for payload in numbered(6):
        bob.publish("a", payload, qos, packet_id=1)
        if qos == 2:
            bob.pubrel(1)
    first, _ = ids(alice.take())
    assert first is not None
    return alice, first


@spec("5.0 MQTT-3.3.4-9", "5.0 MQTT-4.9.0-2")
def test_an_acknowledgement_gives_back_one_unit(world: LiveWorld) -> None:
    """NN-10.1."""
    alice, first = full_window(world, 1)
    assert payloads(alice.puback(first)) == [b"3"]


@spec("5.0 MQTT-3.3.4-9", "5.0 MQTT-4.9.0-2")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_refusal_gives_back_one_unit(world: LiveWorld, qos: int) -> None:
    """NN-10.1."""
    alice, first = full_window(world, qos)
    refuse = alice.puback if qos == 1 else alice.pubrec
    assert payloads(refuse(first, RC.UNSPECIFIED_ERROR)) == [b"3"]


@spec("5.0 MQTT-3.3.4-9", "5.0 MQTT-4.4.0-2")
def test_refused_message_leaves_room_for_the_next(world: LiveWorld) -> None:
    """NN-7.7, NN-10.1."""
    alice = world.connect(receive_maximum=1)
    alice.subscribe("a", qos=2)
    bob = world.connect("bob")
    bob.publish_to_the_end("a", b"1")
    (first,) = ids(alice.take())
    alice.pubrec(first or 0, RC.QUOTA_EXCEEDED)
    bob.publish_to_the_end("a", b"2")
    assert alice.received() == [b"2"]


@spec("5.0 MQTT-4.9.0-2", "5.0 MQTT-3.3.4-9")
def test_smaller_receive_maximum_bounds_what_is_sent_again(world: LiveWorld) -> None:
    """NN-8.4: the rest follows as acknowledgements come in."""
    half_way(world, 5, 1)
    alice = world.connect(keep=True, receive_maximum=1)
    seen = alice.take()
    assert payloads(seen) == [b"1"]
    assert payloads(alice.puback(ids(seen)[0] or 0)) == [b"2"]


@spec("5.0 MQTT-4.9.0-3", "5.0 MQTT-3.3.4-10")
def test_used_up_quota_delays_publish_only(world: LiveWorld) -> None:
    alice = world.connect(receive_maximum=1)
    alice.subscribe("a", qos=1)
    bob = world.connect("bob")
    for payload in numbered(2):
        bob.publish("a", payload, qos=1)
    alice.take()
    assert isinstance(alice.publish("b", b"1", 1, 5)[0], SendPuback)
    assert len(alice.subscribe("c")) == 1
    assert len(alice.ping()) == 1


@spec("5.0 MQTT-3.1.2-24", "5.0 MQTT-3.1.2-25")
def test_message_that_is_too_large_is_dropped_and_the_next_one_sent(world: LiveWorld) -> None:
    alice = world.connect(maximum_packet_size=100, receive_maximum=1)
    alice.subscribe("a", qos=1)
    bob = world.connect("bob")
    bob.publish("a", b"x" * 200, qos=1)
    bob.publish("a", b"1", qos=1)
    assert alice.received() == [b"1"]


# ---------------------------------------------------------------- retained messages


@spec("5.0 MQTT-3.3.1-5", "3.1.1 MQTT-3.3.1-5", "3.1.1 MQTT-3.3.1-6", "3.1.1 MQTT-3.3.1-8")
@spec("5.0 MQTT-3.8.4-8", "3.1.1 MQTT-3.8.4-6")
@both_versions
def test_new_subscription_gets_the_last_retained_message(world: LiveWorld, version: int) -> None:
    bob = world.connect("bob", version)
    for payload in numbered(2):
        bob.publish("a", payload, qos=1, retain=True)
    alice = world.connect(version=version)
    (delivery,) = called_up(alice.subscribe("a", qos=0))
    assert (delivery.message.payload, delivery.qos, delivery.retain) == (b"2", 0, True)


@spec("5.0 MQTT-3.3.1-6", "5.0 MQTT-3.3.1-7", "3.1.1 MQTT-3.3.1-10", "3.1.1 MQTT-3.3.1-11")
@both_versions
def test_empty_payload_clears_the_retained_message(world: LiveWorld, version: int) -> None:
    bob = world.connect("bob", version)
    bob.publish("a", b"1", qos=1, retain=True)
    carol = world.connect("carol", version)
    carol.subscribe("a")
    carol.take()
    bob.publish("a", b"", qos=1, retain=True)
    assert carol.received() == [b""]
    alice = world.connect(version=version)
    assert called_up(alice.subscribe("a")) == []


@spec("5.0 MQTT-3.3.1-8", "3.1.1 MQTT-3.3.1-12")
@both_versions
def test_message_without_retain_changes_nothing_retained(world: LiveWorld, version: int) -> None:
    bob = world.connect("bob", version)
    bob.publish("a", b"1", qos=1, retain=True)
    bob.publish("a", b"2", qos=1)
    bob.publish("a", b"", qos=1)
    alice = world.connect(version=version)
    assert payloads(alice.subscribe("a")) == [b"1"]


@spec("3.1.1 MQTT-3.1.2-7", "5.0 MQTT-3.3.1-5")
@both_versions
def test_retained_messages_outlive_the_session(world: LiveWorld, version: int) -> None:
    bob = world.connect("bob", version)
    bob.publish("a", b"1", qos=1, retain=True)
    bob.disconnect()
    alice = world.connect(version=version)
    assert payloads(alice.subscribe("a")) == [b"1"]


@spec("5.0 MQTT-3.3.1-12", "3.1.1 MQTT-3.3.1-9")
@both_versions
def test_established_subscription_sees_retain_0(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version)
    alice.subscribe("a")
    world.connect("bob", version).publish("a", b"1", retain=True)
    (delivery,) = alice.deliveries()
    assert not delivery.retain


@spec("5.0 MQTT-3.3.1-13")
def test_retain_as_published(world: LiveWorld) -> None:
    alice = world.connect()
    alice.subscribe("a", retain_as_published=True)
    bob = world.connect("bob")
    bob.publish("a", b"1", retain=True)
    bob.publish("a", b"2")
    assert [each.retain for each in alice.deliveries()] == [True, False]


@spec("5.0 MQTT-3.3.1-9", "5.0 MQTT-3.8.4-4", "3.1.1 MQTT-3.8.4-3")
@both_versions
def test_repeated_subscribe_calls_up_retained_messages_again(
    world: LiveWorld, version: int
) -> None:
    world.connect("bob", version).publish("a", b"1", retain=True)
    alice = world.connect(version=version)
    for _ in range(2):
        assert payloads(alice.subscribe("a")) == [b"1"]


@spec("5.0 MQTT-3.3.1-10")
def test_retain_handling_1_is_for_new_subscriptions(world: LiveWorld) -> None:
    """NN-12.6: a subscription of a resumed session is not new."""
    world.connect("bob").publish("a", b"1", retain=True)
    alice = world.connect(keep=True)
    alice.take()
    assert payloads(alice.subscribe("a", retain_handling=1)) == [b"1"]
    assert payloads(alice.subscribe("a", retain_handling=1)) == []
    alice = world.reconnect(alice)
    assert payloads(alice.subscribe("a", retain_handling=1)) == []


@spec("5.0 MQTT-3.3.1-11")
def test_retain_handling_2_calls_up_nothing(world: LiveWorld) -> None:
    bob = world.connect("bob")
    bob.publish("a", b"1", retain=True)
    alice = world.connect()
    assert payloads(alice.subscribe("a", retain_handling=2)) == []
    bob.publish("a", b"2")
    assert alice.received() == [b"2"]


# ---------------------------------------------------------------- subscriptions


@spec("5.0 MQTT-3.8.3-3")
def test_no_local(world: LiveWorld) -> None:
    alice = world.connect()
    alice.subscribe("a", no_local=True)
    bob = world.connect("bob")
    assert payloads(alice.publish("a", b"own")) == []
    bob.publish("a", b"other")
    assert alice.received() == [b"other"]


@spec("5.0 MQTT-3.3.4-2", "3.1.1 MQTT-3.3.5-1")
@both_versions
def test_overlapping_subscriptions_get_one_copy(world: LiveWorld, version: int) -> None:
    """NN-12.3: further copies are allowed; one is this library's default."""
    alice = world.connect(version=version)
    alice.subscribe("a/b", qos=0)
    alice.subscribe("a/+", qos=1)
    world.connect("bob", version).publish("a/b", b"1", qos=1)
    assert [(each.message.payload, each.qos) for each in alice.deliveries()] == [(b"1", 1)]


@spec("5.0 MQTT-3.3.4-2", "3.1.1 MQTT-3.3.5-1", "3.1.1 MQTT-4.3.3-2")
@both_versions
def test_overlapping_subscriptions_get_one_copy_at_the_highest_qos(
    world: LiveWorld, version: int
) -> None:
    """NN-12.3: further copies are allowed; one is this library's default."""
    alice = world.connect(version=version)
    alice.subscribe("a/b", qos=0)
    alice.subscribe("a/+", qos=2)
    alice.subscribe("a/#", qos=1)
    world.connect("bob", version).publish_to_the_end("a/b", b"1")
    assert [(each.message.payload, each.qos) for each in alice.deliveries()] == [(b"1", 2)]


@spec("5.0 MQTT-3.3.4-3", "5.0 MQTT-3.3.4-4")
def test_one_copy_has_the_identifiers_of_all_matches(world: LiveWorld) -> None:
    """NN-12.3."""
    alice = world.connect()
    alice.subscribe("a/b", subscription_id=1)
    alice.subscribe("a/+", subscription_id=268_435_455)
    alice.subscribe("#")
    world.connect("bob").publish("a/b", b"1")
    identifiers = [sorted(each.subscription_ids) for each in alice.deliveries()]
    assert identifiers == [[1, 268_435_455]]


@spec("5.0 MQTT-3.3.4-3")
def test_retained_message_has_the_subscription_identifier(world: LiveWorld) -> None:
    world.connect("bob").publish("a", b"1", retain=True)
    alice = world.connect()
    (delivery,) = called_up(alice.subscribe("a", subscription_id=7))
    assert delivery.subscription_ids == (7,)


@spec("5.0 MQTT-3.8.4-3", "3.1.1 MQTT-3.8.4-3")
@both_versions
def test_repeated_subscribe_replaces_the_subscription(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version)
    alice.subscribe("a", qos=2)
    alice.subscribe("a", qos=0)
    alice.take()
    world.connect("bob", version).publish("a", b"1", qos=1)
    assert [each.qos for each in alice.deliveries()] == [0]


@spec("5.0 MQTT-3.8.4-3")
def test_repeated_subscribe_replaces_retain_as_published(world: LiveWorld) -> None:
    alice = world.connect()
    alice.subscribe("a")
    alice.subscribe("a", retain_as_published=True)
    world.connect("bob").publish("a", b"1", retain=True)
    assert [each.retain for each in alice.deliveries()] == [True]


@spec("5.0 MQTT-3.8.4-3")
def test_repeated_subscribe_replaces_no_local(world: LiveWorld) -> None:
    alice = world.connect()
    alice.subscribe("a")
    alice.subscribe("a", no_local=True)
    assert payloads(alice.publish("a", b"own")) == []


@spec("5.0 MQTT-3.8.3-3")
def test_no_local_holds_for_retained_messages_too(world: LiveWorld) -> None:
    """NN-14.5."""
    alice = world.connect()
    alice.publish("a", b"own", retain=True)
    assert payloads(alice.subscribe("a", no_local=True)) == []


@spec("5.0 MQTT-3.8.4-3")
def test_subscribe_without_an_identifier_takes_it_away(world: LiveWorld) -> None:
    """NN-12.5."""
    alice = world.connect()
    alice.subscribe("a", subscription_id=7)
    alice.subscribe("a")
    world.connect("bob").publish("a", b"1")
    assert [each.subscription_ids for each in alice.deliveries()] == [()]


@spec("5.0 MQTT-3.8.4-1", "5.0 MQTT-3.8.4-6", "5.0 MQTT-3.9.3-1", "5.0 MQTT-3.8.4-2")
@spec("3.1.1 MQTT-3.8.4-1", "3.1.1 MQTT-3.8.4-5", "3.1.1 MQTT-3.9.3-1", "3.1.1 MQTT-3.8.4-2")
@both_versions
def test_suback_has_one_code_for_each_filter_in_order(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version)
    alice.take()
    filters = [Subscription(name, qos) for name, qos in (("a", 1), ("b", 0), ("c", 2))]
    (suback,) = alice.subscribe(*filters, packet_id=77)
    assert suback.packet_id == 77  # type: ignore[union-attr]
    assert suback.reason_codes == (1, 0, 2)  # type: ignore[union-attr]


@spec("5.0 MQTT-3.10.4-4", "5.0 MQTT-3.10.4-5", "5.0 MQTT-3.11.3-1")
@spec("3.1.1 MQTT-3.10.4-4", "3.1.1 MQTT-3.10.4-5")
@both_versions
def test_unsuback_comes_even_if_nothing_was_removed(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version)
    alice.subscribe("a")
    alice.take()
    (unsuback,) = alice.unsubscribe("b", "a", packet_id=77)
    assert unsuback.packet_id == 77  # type: ignore[union-attr]
    if version == 5:
        assert unsuback.reason_codes == (RC.NO_SUBSCRIPTION_EXISTED, OK)  # type: ignore[union-attr]


@spec("5.0 MQTT-3.11.3-2")
def test_unsuback_of_a_dollar_filter_says_that_nothing_was_removed(world: LiveWorld) -> None:
    alice = world.connect()
    alice.take()
    (unsuback,) = alice.unsubscribe("$nobody/ever", packet_id=77)
    assert unsuback.reason_codes == (RC.NO_SUBSCRIPTION_EXISTED,)  # type: ignore[union-attr]


@spec("5.0 MQTT-3.10.4-1", "5.0 MQTT-3.10.4-2", "3.1.1 MQTT-3.10.4-1", "3.1.1 MQTT-3.10.4-2")
@both_versions
def test_nothing_is_added_after_unsubscribe(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version)
    alice.subscribe("a", "+")
    alice.unsubscribe("+")
    alice.take()
    bob = world.connect("bob", version)
    bob.publish("b", b"no")
    bob.publish("a", b"yes")
    assert alice.received() == [b"yes"]


@spec("5.0 MQTT-3.10.4-3", "3.1.1 MQTT-3.10.4-3", "5.0 MQTT-4.4.0-1", "3.1.1 MQTT-4.4.0-1")
@both_versions
def test_what_has_begun_is_finished_after_unsubscribe(world: LiveWorld, version: int) -> None:
    packet_ids = half_way(world, version, 1)
    alice = world.connect(version=version, keep=True)
    alice.unsubscribe("a")
    assert ids(world.reconnect(alice).take()) == packet_ids


@spec("5.0 MQTT-4.7.2-1", "3.1.1 MQTT-4.7.2-1")
@both_versions
def test_wildcards_in_front_do_not_match_dollar_topics(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version)
    alice.subscribe("#", "+/a")
    exact = world.connect("exact", version)
    exact.subscribe("$own/a")
    bob = world.connect("bob", version)
    bob.publish("$own/a", b"1")
    assert exact.received() == [b"1"]
    assert alice.received() == []


@spec("5.0 MQTT-4.7.3-4", "3.1.1 MQTT-4.7.3-4", "5.0 MQTT-3.3.2-3", "3.1.1 MQTT-3.3.2-3")
@pytest.mark.parametrize(
    ("topic_filter", "topic_name", "matches"),
    [
        ("a/#", "a", True),
        ("a/+", "a", False),
        ("+/+", "/a", True),
        ("a", "a/", False),
        ("a//b", "a//b", True),
        ("a/+/b", "a//b", True),
        ("A", "a", False),
        ("a", " a", False),
        ("\u00c5", "A\u030a", False),
    ],
)
@both_versions
def test_filters_match_level_by_level_and_to_the_letter(
    world: LiveWorld, version: int, topic_filter: str, topic_name: str, matches: bool
) -> None:
    """NN-12.9."""
    alice = world.connect(version=version)
    alice.subscribe(topic_filter)
    world.connect("bob", version).publish(topic_name, b"1")
    assert alice.received() == ([b"1"] if matches else [])


@spec("5.0 MQTT-4.7.1-1", "5.0 MQTT-4.7.1-2", "3.1.1 MQTT-4.7.1-2", "3.1.1 MQTT-4.7.1-3")
@pytest.mark.parametrize("topic_filter", ["a#", "a+", "a/+b"])
@both_versions
def test_ill_formed_filter_is_refused(world: LiveWorld, version: int, topic_filter: str) -> None:
    """NN-5.3: for the one filter, or by closing the connection."""
    alice = world.connect(version=version)
    alice.take()
    seen = alice.subscribe(topic_filter)
    assert is_closed(seen) or [code >= 0x80 for code in codes(seen)] == [True]


@spec("5.0 MQTT-4.7.1-1", "3.1.1 MQTT-4.7.1-2")
@both_versions
def test_filter_that_goes_on_after_its_hash_is_refused(world: LiveWorld, version: int) -> None:
    """NN-5.3: for the one filter, or by closing the connection."""
    alice = world.connect(version=version)
    alice.take()
    seen = alice.subscribe("#/a")
    assert is_closed(seen) or [code >= 0x80 for code in codes(seen)] == [True]


# ---------------------------------------------------------------- wills


@spec("5.0 MQTT-3.1.2-8", "5.0 MQTT-3.1.2-7", "3.1.1 MQTT-3.1.2-8")
@both_versions
def test_lost_connection_publishes_the_will(world: LiveWorld, version: int) -> None:
    bob = world.connect("bob", version)
    bob.subscribe("will", qos=2)
    world.connect(version=version, will=will(qos=1)).lose()
    assert [(each.message.payload, each.qos) for each in bob.deliveries()] == [(b"w", 1)]


@spec("5.0 MQTT-3.14.4-3", "5.0 MQTT-3.1.2-10", "3.1.1 MQTT-3.14.4-3", "3.1.1 MQTT-3.1.2-10")
@both_versions
def test_normal_disconnect_discards_the_will(world: LiveWorld, version: int) -> None:
    bob = world.connect("bob", version)
    bob.subscribe("will")
    world.connect(version=version, will=will()).disconnect()
    assert bob.received() == []


@spec("5.0 MQTT-3.1.2-8", "5.0 MQTT-3.14.4-3")
def test_disconnect_with_will_message_publishes_the_will(world: LiveWorld) -> None:
    """NN-4.4."""
    bob = world.connect("bob")
    bob.subscribe("will")
    world.connect(will=will()).disconnect(RC.DISCONNECT_WITH_WILL_MESSAGE)
    assert bob.received() == [b"w"]


@spec("5.0 MQTT-3.1.2-8", "5.0 MQTT-3.14.4-3")
@pytest.mark.parametrize("code", [RC.UNSPECIFIED_ERROR, RC.RECEIVE_MAXIMUM_EXCEEDED])
def test_failing_disconnect_publishes_the_will(world: LiveWorld, code: ReasonCode) -> None:
    """NN-4.4."""
    bob = world.connect("bob")
    bob.subscribe("will")
    world.connect(will=will()).disconnect(code)
    assert bob.received() == [b"w"]


@spec("5.0 MQTT-3.14.2-1", "5.0 MQTT-3.1.2-8")
def test_undefined_code_of_disconnect_publishes_the_will(world: LiveWorld) -> None:
    """NN-4.4: it is no normal disconnection."""
    bob = world.connect("bob")
    bob.subscribe("will")
    world.connect(will=will()).disconnect(0x42)
    assert bob.received() == [b"w"]


@spec("5.0 MQTT-3.1.2-8", "5.0 MQTT-3.1.2-10")
def test_delayed_will_is_published_once_and_when_it_is_due(world: LiveWorld) -> None:
    bob = world.connect("bob")
    bob.subscribe("will")
    alice = world.connect(keep=True, will=will(delay=1))
    alice.lose()
    assert bob.received() == []
    world.let_pass(1)
    assert bob.received() == [b"w"]
    world.reconnect(alice).lose()
    assert bob.received() == []


@spec("5.0 MQTT-3.1.3-9")
def test_resuming_in_time_cancels_a_delayed_will(world: LiveWorld) -> None:
    bob = world.connect("bob")
    bob.subscribe("will")
    alice = world.connect(keep=True, will=will(delay=1))
    alice = world.reconnect(alice)
    world.let_pass(1)
    assert bob.received() == []


@spec("5.0 MQTT-3.1.2-8")
def test_end_of_the_session_publishes_a_delayed_will(world: LiveWorld) -> None:
    """NN-4.8: Clean Start ends the old session."""
    bob = world.connect("bob")
    bob.subscribe("will")
    alice = world.connect(keep=True, will=will(delay=600))
    alice.lose()
    assert bob.received() == []
    world.connect()
    assert bob.received() == [b"w"]


@spec("5.0 MQTT-3.1.2-8")
def test_will_delay_does_not_count_where_the_session_ends_at_once(world: LiveWorld) -> None:
    """NN-4.1."""
    bob = world.connect("bob")
    bob.subscribe("will")
    world.connect(will=will(delay=600)).lose()
    assert bob.received() == [b"w"]


@spec("5.0 MQTT-3.1.2-14", "5.0 MQTT-3.1.2-15", "3.1.1 MQTT-3.1.2-16", "3.1.1 MQTT-3.1.2-17")
@pytest.mark.parametrize("retain", [False, True])
@both_versions
def test_will_is_retained_if_it_says_so(world: LiveWorld, version: int, retain: bool) -> None:
    world.connect(version=version, will=will(retain=retain)).lose()
    bob = world.connect("bob", version)
    assert payloads(bob.subscribe("will")) == ([b"w"] if retain else [])


@spec("5.0 MQTT-3.1.0-2", "3.1.1 MQTT-3.1.0-2")
@both_versions
def test_second_connect_closes_the_connection(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version)
    alice.take()
    world.feed(ClientConnected(alice.connection, "alice", version))
    assert is_closed(alice.take())


@spec("5.0 MQTT-3.1.2-8", "3.1.1 MQTT-3.1.2-8", "5.0 MQTT-3.1.0-2", "3.1.1 MQTT-3.1.0-2")
@both_versions
def test_second_connect_publishes_the_will(world: LiveWorld, version: int) -> None:
    """NN-4.3: a connection that ends because of an error ends abnormally."""
    bob = world.connect("bob", version)
    bob.subscribe("will")
    alice = world.connect(version=version, will=will())
    world.feed(ClientConnected(alice.connection, "alice", version))
    assert bob.received() == [b"w"]


@spec("5.0 MQTT-3.1.2-22", "3.1.1 MQTT-3.1.2-24")
@both_versions
def test_silent_client_is_closed_and_its_will_published(world: LiveWorld, version: int) -> None:
    """Within one and a half times its Keep Alive."""
    bob = world.connect("bob", version)
    bob.subscribe("will")
    alice = world.connect(version=version, keep_alive=1, will=will())
    alice.take()
    world.let_pass(1.5)
    assert is_closed(alice.take())
    assert bob.received() == [b"w"]


# ---------------------------------------------------------------- message expiry, properties


@spec("5.0 MQTT-3.3.2-6")
def test_message_expiry_interval_counts_down_while_it_waits(world: LiveWorld) -> None:
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    world.connect("bob").publish("a", b"1", qos=1, message_expiry_interval=100)
    world.let_pass(1)
    (publish,) = only(SendPublish, world.reconnect(alice).take())
    assert 80 <= publish.message_expiry_interval <= 99


@spec("5.0 MQTT-3.3.2-5")
def test_expired_message_is_not_sent(world: LiveWorld) -> None:
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1)
    alice.lose()
    bob = world.connect("bob")
    bob.publish("a", b"short", qos=1, message_expiry_interval=1)
    bob.publish("b", b"retained", qos=1, message_expiry_interval=1, retain=True)
    bob.publish("a", b"long", qos=1)
    world.let_pass(1)
    alice = world.reconnect(alice)
    assert alice.received() == [b"long"]
    assert payloads(alice.subscribe("b")) == []


@spec("5.0 MQTT-4.3.3-7")
def test_expiry_does_not_end_what_has_begun(world: LiveWorld) -> None:
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=2)
    world.connect("bob").publish_to_the_end("a", b"1", message_expiry_interval=1)
    assert alice.received() == [b"1"]
    alice.lose()
    world.let_pass(1)
    assert [each[1:] for each in sent_again(world.reconnect(alice).take())] == [(b"1", True)]


@spec("5.0 MQTT-3.3.2-4", "5.0 MQTT-3.3.2-15", "5.0 MQTT-3.3.2-16", "5.0 MQTT-3.3.2-17")
@spec("5.0 MQTT-3.3.2-18", "5.0 MQTT-3.3.2-20")
def test_properties_are_forwarded_unchanged(world: LiveWorld) -> None:
    alice = world.connect()
    alice.subscribe("a")
    sent = Message(
        "a",
        b"1",
        payload_format_indicator=1,
        content_type="text",
        response_topic="answers",
        correlation_data=b"\0\xff",
        user_properties=(("b", "1"), ("a", "2"), ("b", "1")),
    )
    bob = world.connect("bob")
    world.feed(PublishReceived(bob.connection, sent))
    (delivery,) = alice.deliveries()
    assert delivery.message == sent


@spec("5.0 MQTT-3.3.1-3", "3.1.1 MQTT-3.3.1-3", "5.0 MQTT-4.3.2-2", "3.1.1 MQTT-4.3.2-1")
@both_versions
def test_dup_is_not_handed_on(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version)
    alice.subscribe("a", qos=1)
    world.connect("bob", version).publish("a", b"1", 1, 3, dup=True)
    assert [each[1:] for each in sent_again(alice.take())] == [(b"1", False)]


# ---------------------------------------------------------------- errors


@spec("5.0 MQTT-4.13.1-1", "3.1.1 MQTT-4.8.0-1", "3.1.1 MQTT-4.7.1-1")
@both_versions
def test_wildcard_in_a_topic_name_is_refused(world: LiveWorld, version: int) -> None:
    """5.0 MQTT-4.7.0-1."""
    alice = world.connect(version=version)
    alice.take()
    assert is_closed(alice.publish("a/+", b"1", 1, 3))
    bob = world.connect("bob", version)
    bob.subscribe("a/#")
    bob.take()
    world.reconnect(alice).publish("a/+", b"1", 1, 3)
    assert bob.received() == []
    assert len(bob.ping()) == 1


@spec("5.0 MQTT-4.13.1-1", "5.0 MQTT-3.1.2-8", "3.1.1 MQTT-4.8.0-1", "3.1.1 MQTT-3.1.2-8")
@both_versions
def test_faulty_packet_closes_its_own_connection_only(world: LiveWorld, version: int) -> None:
    """A PUBLISH with QoS 3; NN-4.3: the will is due."""
    bob = world.connect("bob", version)
    bob.subscribe("will")
    bob.take()
    alice = world.connect(version=version, will=will())
    alice.take()
    world.feed(MalformedPacketReceived(alice.connection, RC.MALFORMED_PACKET))
    assert is_closed(alice.take())
    assert bob.received() == [b"w"]
    assert len(bob.ping()) == 1


@spec("5.0 MQTT-4.13.1-1", "5.0 MQTT-3.1.2-8", "3.1.1 MQTT-4.8.0-1", "3.1.1 MQTT-3.1.2-8")
@both_versions
def test_subscribe_without_filters_closes_its_own_connection_only(
    world: LiveWorld, version: int
) -> None:
    """NN-4.3: the will is due."""
    bob = world.connect("bob", version)
    bob.subscribe("will")
    bob.take()
    alice = world.connect(version=version, will=will())
    alice.take()
    world.feed(MalformedPacketReceived(alice.connection, RC.PROTOCOL_ERROR))
    assert is_closed(alice.take())
    assert bob.received() == [b"w"]
    assert len(bob.ping()) == 1


@spec("5.0 MQTT-4.13.1-1")
def test_malformed_packet_is_answered_by_its_code(world: LiveWorld) -> None:
    """NN-5.3: DISCONNECT should be sent, with the code."""
    alice = world.connect()
    alice.take()
    world.feed(MalformedPacketReceived(alice.connection, RC.MALFORMED_PACKET))
    assert told(alice.take()) == [RC.MALFORMED_PACKET]


@spec("5.0 MQTT-4.13.1-1")
def test_protocol_error_is_answered_by_its_code(world: LiveWorld) -> None:
    """NN-5.3: DISCONNECT should be sent, with the code."""
    alice = world.connect()
    alice.take()
    world.feed(MalformedPacketReceived(alice.connection, RC.PROTOCOL_ERROR))
    assert told(alice.take()) == [RC.PROTOCOL_ERROR]


@spec("5.0 MQTT-4.13.1-1", "5.0 MQTT-2.2.1-3", "3.1.1 MQTT-2.3.1-1", "3.1.1 MQTT-4.8.0-1")
@both_versions
def test_packet_identifier_0_closes_the_connection(world: LiveWorld, version: int) -> None:
    alice = world.connect(version=version)
    alice.take()
    world.feed(PublishReceived(alice.connection, Message("a", b"1", 1), 0))
    assert is_closed(alice.take())


@spec("5.0 MQTT-3.3.4-6")
def test_subscription_identifier_from_a_client_closes_the_connection(world: LiveWorld) -> None:
    bob = world.connect("bob")
    bob.subscribe("a")
    bob.take()
    alice = world.connect()
    alice.take()
    world.feed(PublishReceived(alice.connection, Message("a", b"1"), subscription_ids=(7,)))
    assert is_closed(alice.take())
    assert bob.received() == []


@spec("5.0 MQTT-3.3.4-7")
def test_client_may_not_exceed_the_servers_receive_maximum(world: LiveWorld) -> None:
    alice = world.connect()
    maximum = alice.connack.receive_maximum
    if maximum is None or maximum > 1000:
        pytest.skip("the broker allows too many to try them out")
    for packet_id in range(1, maximum + 1):
        assert not is_closed(alice.publish("a", b"1", 2, packet_id))
    assert told(alice.publish("a", b"1", 2, maximum + 1)) == [RC.RECEIVE_MAXIMUM_EXCEEDED]


@spec("5.0 MQTT-2.2.1-4", "3.1.1 MQTT-2.3.1-4", "3.1.1 MQTT-4.3.3-2")
@both_versions
def test_both_sides_may_use_the_same_identifier(world: LiveWorld, version: int) -> None:
    """NN-6.1."""
    alice = world.connect(version=version)
    alice.subscribe("a", qos=2)
    alice.take()
    world.connect("bob", version).publish("a", b"1", qos=1)
    (theirs,) = ids(alice.take())
    assert theirs is not None
    pubrecs = only(SendPubrec, alice.publish("b", b"2", 2, theirs))
    assert [each.packet_id for each in pubrecs] == [theirs]
    alice.puback(theirs)
    assert alice.pubrel(theirs) == [SendPubcomp(alice.connection, theirs, OK)]
