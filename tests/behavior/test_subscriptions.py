"""Feature D: subscriptions, their options, and what SUBACK and UNSUBACK say."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    FilterAdded,
    FilterRemoved,
    InvalidValue,
    OverlapPolicy,
    SendPuback,
    SendPublish,
    SendSuback,
    SendUnsuback,
    ServerOptions,
    SessionLimits,
    SubscribeReceived,
    Subscription,
    SubscriptionsAdded,
    SubscriptionsRemoved,
    UnsubscribeReceived,
)

from .helpers import (
    OK,
    RC,
    World,
    all_versions,
    closed_with,
    codes,
    kinds,
    only,
    payloads,
    spec,
)

G0, G1, G2 = RC.SUCCESS, RC.GRANTED_QOS_1, RC.GRANTED_QOS_2

# ---------------------------------------------------------------- SUBACK


@spec(
    "5.0 MQTT-3.8.4-1",
    "5.0 MQTT-3.8.4-2",
    "5.0 MQTT-3.8.4-5",
    "5.0 MQTT-3.8.4-6",
    "5.0 MQTT-3.8.4-7",
    "5.0 MQTT-3.9.3-1",
    "5.0 MQTT-3.9.3-2",
    "5.0 MQTT-2.2.1-6",
    "3.1.1 MQTT-3.8.4-1",
    "3.1.1 MQTT-3.8.4-2",
    "3.1.1 MQTT-3.8.4-4",
    "3.1.1 MQTT-3.8.4-5",
    "3.1.1 MQTT-3.9.3-1",
    "3.1.1 MQTT-3.9.3-2",
    "3.1.1 MQTT-2.3.1-7",
)
@all_versions
def test_suback_has_the_requests_identifier_and_one_code_for_each_filter(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.take()
    wanted = (Subscription("c", 2), Subscription("a", 0), Subscription("b", 1))
    assert alice.subscribe(*wanted, packet_id=77) == [
        SendSuback(alice.connection, 77, (G2, G0, G1))
    ]
    assert set(alice.session.subscriptions) == set(wanted)


@spec("5.0 MQTT-3.8.4-7", "5.0 MQTT-3.9.3-2", "3.1.1 MQTT-3.8.4-5", "3.1.1 MQTT-3.9.3-2", "NN-5.4")
@all_versions
def test_refused_entry_leaves_and_alters_no_subscription(version: int) -> None:
    """Host's verdict and ours, entry by entry."""
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("kept", qos=1)
    seen = alice.subscribe(
        "kept", "a", "bad/#/filter", "b", qos=2, refusals=(RC.NOT_AUTHORIZED, None, None, None)
    )
    refused = {
        3: (RC.SUCCESS, RC.SUCCESS),  # MQTT 3.1 has no failure code
        4: (RC.UNSPECIFIED_ERROR, RC.UNSPECIFIED_ERROR),
        5: (RC.NOT_AUTHORIZED, RC.TOPIC_FILTER_INVALID),
    }[version]
    assert codes(seen) == (refused[0], G2, refused[1], G2)
    assert [(each.topic_filter, each.qos) for each in alice.session.subscriptions] == [
        ("kept", 1),
        ("a", 2),
        ("b", 2),
    ]


@spec("5.0 MQTT-3.8.4-5", "3.1.1 MQTT-3.8.4-4", "NN-12.1")
@all_versions
def test_same_filter_twice_in_one_packet_is_as_in_two_packets(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    seen = alice.subscribe(Subscription("a", 2), Subscription("a", 1))
    assert codes(seen) == (G2, G1)
    assert [each.qos for each in alice.session.subscriptions] == [1]
    world.publish("a", qos=2)
    assert [delivery.qos for delivery in alice.deliveries()] == [1]


@spec(
    "5.0 MQTT-4.7.1-1",
    "5.0 MQTT-4.7.1-2",
    "5.0 MQTT-4.7.3-1",
    "5.0 MQTT-4.7.3-2",
    "5.0 MQTT-4.7.3-3",
    "3.1.1 MQTT-4.7.1-2",
    "3.1.1 MQTT-4.7.1-3",
    "3.1.1 MQTT-4.7.3-1",
    "3.1.1 MQTT-4.7.3-2",
    "3.1.1 MQTT-4.7.3-3",
)
@pytest.mark.parametrize(
    "bad", ["", "#/a", "a#", "a/#/b", "+a", "a+/b", "a/b+", "##", "\0", "a" * 65_536]
)
@all_versions
def test_ill_formed_filter_is_refused_and_the_connection_stays(version: int, bad: str) -> None:
    """4.7.1 [O]: the entry, not the connection."""
    world = World()
    alice = world.connect(version=version)
    refused = {3: OK, 4: RC.UNSPECIFIED_ERROR, 5: RC.TOPIC_FILTER_INVALID}[version]
    assert codes(alice.subscribe(bad, "good", qos=1)) == (refused, G1)
    assert [each.topic_filter for each in alice.session.subscriptions] == ["good"]


@spec(
    "5.0 MQTT-3.8.3-2",
    "5.0 MQTT-3.10.3-2",
    "5.0 MQTT-4.13.1-1 (a)",
    "3.1.1 MQTT-3.8.3-3",
    "3.1.1 MQTT-3.10.3-2",
)
@pytest.mark.parametrize("kind", [SubscribeReceived, UnsubscribeReceived])
@all_versions
def test_request_without_a_filter_is_a_protocol_error(version: int, kind: type) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.take()
    seen = alice.feed(kind(alice.connection, 1, ()))
    assert closed_with(seen, version) is RC.PROTOCOL_ERROR


@spec("5.0 MQTT-2.2.1-3", "5.0 MQTT-4.13.1-1 (a)", "3.1.1 MQTT-2.3.1-1")
@pytest.mark.parametrize(
    "event",
    [
        SubscribeReceived(1, 0, (Subscription("a"),)),
        UnsubscribeReceived(1, 0, ("a",)),
    ],
    ids=["SUBSCRIBE", "UNSUBSCRIBE"],
)
@all_versions
def test_request_without_an_identifier_is_a_protocol_error(version: int, event: object) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.take()
    assert closed_with(alice.feed(event), version) is RC.PROTOCOL_ERROR  # type: ignore[arg-type]


@spec("5.0 MQTT-4.13.1-1 (a)")
@pytest.mark.parametrize(
    "bad",
    [
        Subscription("a", 3),
        Subscription("a", retain_handling=3),
        Subscription("a", subscription_id=0),
        Subscription("a", subscription_id=268_435_456),
    ],
)
def test_impossible_options_are_a_protocol_error_and_nothing_is_subscribed(
    bad: Subscription,
) -> None:
    world = World()
    alice = world.connect(keep=True)
    alice.take()
    assert closed_with(alice.subscribe("good", bad)) is RC.PROTOCOL_ERROR
    assert alice.session.subscriptions == ()


# ---------------------------------------------------------------- shared filters, not yet


@spec("5.0 MQTT-4.13.1-1 (g)")
def test_shared_subscriptions_are_not_available_and_5_0_clients_are_told() -> None:
    world = World()
    alice = world.connect(keep=True)
    assert alice.connack.shared_subscription_available is False
    alice.take()
    assert closed_with(alice.subscribe("$share/g/a")) is RC.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    assert alice.session.subscriptions == ()


@spec("5.0 MQTT-3.8.3-4")
def test_no_local_on_a_shared_filter_is_a_protocol_error() -> None:
    world = World()
    alice = world.connect()
    alice.take()
    seen = alice.subscribe("$share/g/a", no_local=True)
    assert closed_with(seen) is RC.PROTOCOL_ERROR


@spec("NN-13.10")
@pytest.mark.parametrize("version", [3, 4])
def test_3_x_clients_get_no_shared_subscription_and_stay(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    refused = OK if version == 3 else RC.UNSPECIFIED_ERROR
    assert codes(alice.subscribe("$share/g/a", "$share", "$shared/g/a")) == (refused, G0, G0)
    world.publish("a", b"not hers")
    assert alice.received() == []


# ---------------------------------------------------------------- caps


def test_cap_of_subscriptions_refuses_new_ones_and_lets_old_ones_be_replaced() -> None:
    world = World(limits=SessionLimits(maximum_subscriptions=2))
    alice = world.connect()
    seen = alice.subscribe("a", "b", "c", "a", qos=1)
    assert codes(seen) == (G1, G1, RC.QUOTA_EXCEEDED, G1)
    assert codes(alice.subscribe("b", qos=2)) == (G2,)
    alice.unsubscribe("a")
    assert codes(alice.subscribe("c")) == (G0,)


def test_cap_of_filter_levels() -> None:
    world = World(limits=SessionLimits(maximum_filter_levels=3))
    alice = world.connect()
    assert codes(alice.subscribe("a/b/c", "a/b/c/d", "#", "///", "//")) == (
        G0,
        RC.TOPIC_FILTER_INVALID,
        G0,
        RC.TOPIC_FILTER_INVALID,
        G0,
    )


@spec("5.0 MQTT-3.2.2-10")
@pytest.mark.parametrize("granted", [0, 1, 2])
@all_versions
def test_cap_of_granted_qos_is_said_and_kept(version: int, granted: int) -> None:
    world = World(
        limits=SessionLimits(maximum_granted_qos=granted), options=ServerOptions(maximum_qos=0)
    )
    alice = world.connect(version=version)
    assert codes(alice.subscribe("a", qos=2)) == (granted,)
    alice.take()
    world.publish("a", qos=2)
    assert [delivery.qos for delivery in alice.deliveries()] == [granted]


# ---------------------------------------------------------------- subscribing again


@spec("5.0 MQTT-3.8.4-3", "3.1.1 MQTT-3.8.4-3 (a)", "NN-12.2", "NN-12.5")
def test_subscribing_again_replaces_every_option_and_the_identifier() -> None:
    """NN-12.5: a SUBSCRIBE without an identifier takes the old one away."""
    world = World()
    alice = world.connect()
    first = Subscription("a", 2, True, True, 2, 9)
    alice.subscribe(first)
    assert alice.session.subscriptions == (first,)
    alice.subscribe("a")
    assert alice.session.subscriptions == (Subscription("a"),)
    alice.take()
    assert payloads(alice.publish("a", b"own", retain=True)) == [b"own"]  # No Local is gone
    world.publish("a", qos=2, retain=True)
    (delivery,) = alice.deliveries()
    assert (delivery.qos, delivery.retain, delivery.subscription_ids) == (0, False, ())


@spec("5.0 MQTT-3.8.4-4 (b)", "3.1.1 MQTT-3.8.4-3 (c)")
@all_versions
def test_subscribing_again_loses_nothing_that_waits_or_is_in_flight(version: int) -> None:
    world = World(limits=SessionLimits(maximum_send_window=1))
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    alice.take()
    for payload in (b"1", b"2", b"3"):
        world.publish("a", payload, qos=1)
    seen = alice.subscribe("a", qos=0)
    alice.inbox += seen
    world.publish("a", b"4", qos=1)
    assert alice.acknowledge_all() == [b"1", b"2", b"3", b"4"]


# ---------------------------------------------------------------- matching


@spec("5.0 MQTT-4.7.3-4", "5.0 MQTT-3.3.2-3", "3.1.1 MQTT-4.7.3-4", "3.1.1 MQTT-3.3.2-3", "NN-12.9")
@pytest.mark.parametrize(
    ("topic_filter", "yes", "no"),
    [
        ("a/b", ["a/b"], ["A/b", "a/B", "a/b/", "/a/b", "a", " a/b", "a/b "]),
        ("a/#", ["a", "a/", "a/b", "a//b", "a/b/c"], ["b", "ab", "/a"]),
        ("a/+", ["a/", "a/b"], ["a", "a/b/c", "a//"]),
        ("+", ["a", " "], ["/", "/a", "a/"]),
        ("/+", ["/a", "/"], ["a", "//"]),
        ("+/+", ["/", "a/b", "/a"], ["a", "//"]),
        ("#", ["a", "/", "//", "a/b/c"], ["$a", "$SYS/x"]),
        ("+/#", ["a", "/", "a/b"], ["$a", "$a/b"]),
        ("$a/#", ["$a", "$a/b"], ["a"]),
        ("\u00e9", ["\u00e9"], ["e\u0301", "e"]),
        ("\ufeffa", ["\ufeffa"], ["a"]),
    ],
)
@all_versions
def test_what_a_filter_matches(
    version: int, topic_filter: str, yes: list[str], no: list[str]
) -> None:
    """NN-12.9; no normalization, and the same for live and for retained messages."""
    world = World()
    alice = world.connect(version=version)
    alice.subscribe(topic_filter)
    alice.take()
    for topic_name in yes + no:
        world.publish(topic_name, retain=True)
    assert [each.message.topic_name for each in alice.deliveries()] == yes
    bob = world.connect("bob", version)
    seen = only(SendPublish, bob.subscribe(topic_filter))
    assert sorted(each.delivery.message.topic_name for each in seen) == sorted(yes)


# ---------------------------------------------------------------- options


@spec("5.0 MQTT-3.8.3-3")
def test_no_local_keeps_own_messages_away_and_nobody_elses() -> None:
    world = World()
    alice, bob = world.connect("alice", keep=True), world.connect("bob", keep=True)
    for client in (alice, bob):
        client.subscribe("a", qos=1, no_local=True)
        client.take()
    assert kinds(alice.publish("a", b"hers", qos=1)) == [SendPuback]
    assert bob.received() == [b"hers"]
    # a message that waited is judged by its publisher too
    bob.lose()
    alice.publish("a", b"again", qos=1)
    bob = world.connect("bob", keep=True)
    assert bob.received() == [b"hers", b"again"]


@spec("5.0 MQTT-3.8.3-3", "NN-14.5 (f)")
def test_no_local_holds_for_retained_messages_and_for_the_host_in_ones_name() -> None:
    """NN-14.5."""
    world = World()
    alice = world.connect()
    alice.publish("a", b"own", retain=True)
    world.publish("b", b"others'", retain=True)
    assert payloads(alice.subscribe("#", no_local=True)) == [b"others'"]


@spec("5.0 MQTT-3.3.1-12", "5.0 MQTT-3.3.1-13")
@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("retain", [False, True])
def test_retain_flag_of_live_messages(retain: bool, as_published: bool) -> None:
    world = World(limits=SessionLimits(maximum_send_window=1))
    alice = world.connect(keep=True)
    alice.subscribe("a", qos=1, retain_as_published=as_published)
    alice.take()
    world.publish("a", b"sent", qos=1, retain=retain)
    world.publish("a", b"queued", qos=1, retain=retain)
    expected = retain and as_published
    assert [each.retain for each in alice.deliveries()] == [expected]
    alice = world.reconnect(alice)
    alice.puback(1)
    world.feed(SubscriptionsRemoved("alice", ("a",)))
    alice = world.reconnect(alice)
    assert [each.retain for each in alice.deliveries()] == [expected]


@spec(
    "5.0 MQTT-3.3.1-9",
    "5.0 MQTT-3.3.1-10 (a)",
    "5.0 MQTT-3.3.1-10 (b)",
    "5.0 MQTT-3.3.1-11",
    "5.0 MQTT-3.8.4-4 (a)",
    "NN-12.2",
    "NN-12.6",
)
@pytest.mark.parametrize(
    ("handling", "new", "existing"), [(0, [b"r"], [b"r"]), (1, [b"r"], []), (2, [], [])]
)
@pytest.mark.parametrize("resumed", [False, True])
def test_retain_handling(
    handling: int, new: list[bytes], existing: list[bytes], resumed: bool
) -> None:
    """NN-12.6: a subscription of a resumed session existed before."""
    world = World()
    world.publish("a", b"r", retain=True)
    alice = world.connect(keep=True)
    assert payloads(alice.subscribe("a", retain_handling=handling)) == new
    if resumed:
        alice = world.reconnect(alice)
    assert payloads(alice.subscribe("a", retain_handling=handling)) == existing
    world.publish("a", b"live")
    assert alice.received() == [b"live"]
    alice.unsubscribe("a")
    assert payloads(alice.subscribe("a", retain_handling=handling)) == new


# ---------------------------------------------------------------- overlaps


@spec("5.0 MQTT-3.3.4-2", "5.0 MQTT-3.3.4-3", "5.0 MQTT-3.3.4-4", "3.1.1 MQTT-3.3.5-1", "NN-12.3")
@all_versions
def test_overlaps_make_one_copy_at_the_highest_qos_with_all_identifiers(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    five = version == 5
    alice.subscribe("a/#", qos=0, subscription_id=1 if five else None)
    alice.subscribe("a/+", qos=2, subscription_id=2 if five else None)
    alice.subscribe("a/b", qos=1)
    alice.take()
    world.publish("a/b", qos=2)
    (delivery,) = alice.deliveries()
    assert delivery.qos == 2
    assert sorted(delivery.subscription_ids) == ([1, 2] if five else [])


@spec("5.0 MQTT-3.3.4-2", "5.0 MQTT-3.3.4-5", "NN-12.3")
def test_overlaps_make_one_copy_each_where_the_host_wants_it() -> None:
    world = World(options=ServerOptions(overlap=OverlapPolicy.EACH))
    alice = world.connect()
    alice.subscribe("a/#", qos=0, subscription_id=1)
    alice.subscribe("a/+", qos=2, subscription_id=2)
    alice.subscribe("a/b", qos=1)
    alice.take()
    world.publish("a/b", qos=2)
    seen = sorted((each.qos, each.subscription_ids) for each in alice.deliveries())
    assert seen == [(0, (1,)), (1, ()), (2, (2,))]


@spec("NN-12.4")
def test_overlaps_drop_no_local_matches_first() -> None:
    """NN-12.4."""
    world = World()
    alice = world.connect()
    alice.subscribe("a/#", qos=2, no_local=True, retain_as_published=True, subscription_id=1)
    alice.subscribe("a/b", qos=1, subscription_id=2)
    alice.take()
    sent = only(SendPublish, alice.publish("a/b", qos=2, retain=True))
    (delivery,) = [each.delivery for each in sent]
    assert (delivery.qos, delivery.retain, delivery.subscription_ids) == (1, False, (2,))
    world.publish("a/b", qos=2, retain=True)
    (delivery,) = alice.deliveries()
    assert (delivery.qos, delivery.retain) == (2, True)
    assert sorted(delivery.subscription_ids) == [1, 2]


# ---------------------------------------------------------------- UNSUBSCRIBE


@spec(
    "5.0 MQTT-3.10.4-1",
    "5.0 MQTT-3.10.4-4",
    "5.0 MQTT-3.10.4-6",
    "5.0 MQTT-3.11.3-1",
    "5.0 MQTT-3.11.3-2",
    "5.0 MQTT-3.10.4-5 (a)",
    "5.0 MQTT-2.2.1-6",
    "3.1.1 MQTT-3.10.4-1",
    "3.1.1 MQTT-3.10.4-4 (a)",
    "3.1.1 MQTT-3.10.4-4 (b)",
    "3.1.1 MQTT-3.10.4-6",
    "3.1.1 MQTT-2.3.1-7",
)
@all_versions
def test_unsuback_has_the_requests_identifier_and_one_code_for_each_filter(version: int) -> None:
    world = World()
    alice = world.connect(version=version)
    alice.subscribe("a/#", "a/+", "a/b")
    none = RC.NO_SUBSCRIPTION_EXISTED
    assert alice.unsubscribe("a/B", "a/b", "a/b", "#", "a/+", packet_id=5) == [
        SendUnsuback(alice.connection, 5, (none, OK, none, none, OK))
    ]
    assert [each.topic_filter for each in alice.session.subscriptions] == ["a/#"]


@spec("5.0 MQTT-3.11.3-2")
def test_ill_formed_filter_in_unsubscribe_is_one_without_a_subscription() -> None:
    """4.7.1 [O]: the entry, not the connection."""
    world = World()
    alice = world.connect()
    alice.subscribe("a")
    none = RC.NO_SUBSCRIPTION_EXISTED
    assert codes(alice.unsubscribe("a/#/b", "a", "")) == (none, OK, none)


@spec("5.0 MQTT-3.11.3-2")
def test_host_refuses_an_unsubscribe_entry_by_entry() -> None:
    world = World()
    alice = world.connect()
    alice.subscribe("a", "b")
    seen = alice.unsubscribe("a", "b", refusals=(RC.NOT_AUTHORIZED, None))
    assert codes(seen) == (RC.NOT_AUTHORIZED, OK)
    assert [each.topic_filter for each in alice.session.subscriptions] == ["a"]


@spec(
    "5.0 MQTT-3.10.4-2",
    "5.0 MQTT-3.10.4-3",
    "3.1.1 MQTT-3.10.4-2",
    "3.1.1 MQTT-3.10.4-3",
    "NN-12.7",
)
@all_versions
def test_unsubscribing_ends_what_is_new_and_finishes_what_has_begun(version: int) -> None:
    """NN-12.7: what is buffered stays too."""
    world = World(limits=SessionLimits(maximum_send_window=2))
    alice = world.connect(version=version, keep=True)
    alice.subscribe("a", qos=2)
    alice.take()
    for number, qos in enumerate((1, 2, 1)):
        world.publish("a", b"%d" % number, qos=qos)
    alice.take()
    alice.unsubscribe("a")
    world.publish("a", b"too late", qos=1)
    alice = world.reconnect(alice)
    assert alice.acknowledge_all() == [b"0", b"1", b"2"]
    assert alice.session.counters.completed == 3


@spec("5.0 MQTT-3.10.4-2")
def test_other_subscriptions_that_match_go_on() -> None:
    world = World()
    alice = world.connect()
    alice.subscribe("a/#", "a/b")
    alice.unsubscribe("a/b")
    alice.take()
    world.publish("a/b", b"1")
    assert alice.received() == [b"1"]


# ---------------------------------------------------------------- identifiers in use


@spec("5.0 MQTT-2.2.1-3", "3.1.1 MQTT-2.3.1-2", "NN-6.1", "NN-6.5")
@pytest.mark.parametrize("kind", ["SUBSCRIBE", "UNSUBSCRIBE"])
@all_versions
def test_identifier_of_an_open_qos_2_exchange_serves_no_second_command(
    version: int, kind: str
) -> None:
    """NN-6.5: 0x91, nothing is done, and the exchange goes on; 3.x: close."""
    world = World()
    alice = world.connect(version=version, keep=True)
    alice.subscribe("b")
    alice.take()
    alice.publish("a", qos=2, packet_id=7)
    if kind == "SUBSCRIBE":
        seen = alice.subscribe("a", "c", packet_id=7)
    else:
        seen = alice.unsubscribe("b", "c", packet_id=7)
    if version == 5:
        assert codes(seen) == (RC.PACKET_IDENTIFIER_IN_USE,) * 2
    else:
        assert closed_with(seen, version) is RC.PACKET_IDENTIFIER_IN_USE
    assert [each.topic_filter for each in alice.session.subscriptions] == ["b"]
    assert alice.session.inbound_packet_ids == (7,)


# ---------------------------------------------------------------- by the host


@spec("NN-12.8")
def test_host_subscribes_a_session_without_suback() -> None:
    world = World()
    world.publish("a/b", b"r", retain=True)
    alice = world.connect(keep=True)
    alice.take()
    world.feed(SubscriptionsAdded("alice", (Subscription("a/#", 1, subscription_id=3),)))
    (publish,) = alice.take()
    assert (publish.delivery.retain, publish.delivery.subscription_ids) == (True, (3,))
    alice.lose()
    world.feed(SubscriptionsAdded("alice", (Subscription("away", 1),)))
    world.publish("away", b"1", qos=1)
    assert world.connect(keep=True).received() == [b"1"]


def test_parked_session_gets_retained_messages_of_the_hosts_subscription_at_resume() -> None:
    world = World()
    world.publish("a", b"r", retain=True)
    world.connect(keep=True).lose()
    world.feed(SubscriptionsAdded("alice", (Subscription("a"),)))
    assert world.connect(keep=True).received() == [b"r"]


def test_host_unsubscribes_a_session() -> None:
    world = World()
    alice = world.connect(keep=True)
    alice.subscribe("a", "b")
    world.feed(SubscriptionsRemoved("alice", ("a", "never there")))
    assert [each.topic_filter for each in alice.session.subscriptions] == ["b"]


@pytest.mark.parametrize(
    "bad",
    [
        Subscription("a/#/b"),
        Subscription("a", 3),
        Subscription("a", subscription_id=0),
        Subscription("$share/g/a"),
    ],
)
def test_hosts_own_bad_subscription_is_its_fault(bad: Subscription) -> None:
    with pytest.raises(InvalidValue):
        SubscriptionsAdded("alice", (bad,))


@all_versions
def test_host_is_told_of_the_first_and_the_last_subscription_of_a_filter(version: int) -> None:
    world = World()
    alice = world.connect("alice", version)
    bob = world.connect("bob", version, keep=True)
    alice.subscribe("a/+", "b")
    alice.subscribe("a/+", qos=1)
    bob.subscribe("a/+", qos=1)
    assert world.take_notices(FilterAdded) == [FilterAdded("a/+"), FilterAdded("b")]
    alice.disconnect()
    assert world.take_notices(FilterRemoved) == [FilterRemoved("b")]
    bob.lose()
    assert world.take_notices(FilterRemoved) == []
    world.wait(10_000)
    assert world.take_notices(FilterRemoved) == [FilterRemoved("a/+")]
