"""The client of the testing kit: what it remembers, answers and sends again."""

from __future__ import annotations

import pytest

from mqtt_sessions import (
    Action,
    CloseConnection,
    ConnectionLost,
    ConnectReturnCode,
    Delivery,
    Event,
    Message,
    MessagePublished,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    ReasonCode,
    SendConnack,
    SendDisconnect,
    SendPingresp,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SessionStore,
    Subscription,
    SubscriptionsAdded,
)
from mqtt_sessions.testing.clients import Client, ServerFault

OK = ReasonCode.SUCCESS
ONE = Message("a", b"1", qos=1)
TWO = Message("a", b"2", qos=2)
THREE = Message("a", b"3", qos=2)


def connect(
    client: Client,
    connection: str = "c1",
    *,
    present: bool = False,
    receive_maximum: int | None = None,
    clean_start: bool = False,
) -> list[Event]:
    client.connect(connection, clean_start=clean_start, session_expiry_interval=60)
    return client.receive(
        SendConnack(connection, present, ReasonCode.SUCCESS, receive_maximum=receive_maximum)
    )


def ready_client(receive_maximum: int | None = None, maximum_packet_id: int = 65_535) -> Client:
    client = Client("me", maximum_packet_id=maximum_packet_id)
    assert connect(client, receive_maximum=receive_maximum) == []
    return client


def send(delivery: Message, packet_id: int | None, *, dup: bool = False) -> SendPublish:
    return SendPublish("c1", Delivery(delivery, delivery.qos), packet_id, dup, None)


# ---------------------------------------------------------------- sending


def test_nothing_is_published_before_connack() -> None:
    client = Client("me")
    client.connect("c1")
    assert client.publish(ONE) is None
    assert client.subscribe(Subscription("a")) is None
    assert client.unsubscribe("a") is None


@pytest.mark.spec("5.0 MQTT-4.3.3-4")
def test_the_sender_of_qos_2_goes_through_its_phases() -> None:
    client = ready_client()
    assert client.publish(TWO) == PublishReceived("c1", TWO, 1)
    assert client.receive(SendPubcomp("c1", 1, OK)) == []
    assert client.receive(SendPubrec("c1", 1, OK)) == [PubrelReceived("c1", 1)]
    assert client.receive(SendPubrec("c1", 1, OK)) == [PubrelReceived("c1", 1)]
    assert client.receive(SendPuback("c1", 1, OK)) == []
    assert client.in_flight == {1: None}
    assert client.receive(SendPubcomp("c1", 1, OK)) == []
    assert client.in_flight == {}


def test_acknowledgements_of_unknown_identifiers() -> None:
    client = ready_client()
    assert client.receive(SendPuback("c1", 7, OK)) == []
    assert client.receive(SendPubcomp("c1", 7, OK)) == []
    not_found = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
    assert client.receive(SendPubrec("c1", 7, OK)) == [PubrelReceived("c1", 7, not_found)]
    assert client.receive(SendPubrec("c1", 7, ReasonCode.QUOTA_EXCEEDED)) == []
    assert client.receive(SendPubrel("c1", 7, OK)) == [PubcompReceived("c1", 7, not_found)]
    old = Client("old", 4)
    old.connect("c1")
    old.receive(SendConnack("c1", False, ConnectReturnCode.ACCEPTED))
    assert old.receive(SendPubrec("c1", 7, OK)) == [PubrelReceived("c1", 7)]
    assert old.receive(SendPubrel("c1", 7, OK)) == [PubcompReceived("c1", 7)]


@pytest.mark.spec("5.0 MQTT-4.9.0-2")
def test_the_quota_of_the_server_bounds_what_is_open() -> None:
    client = ready_client(receive_maximum=1)
    assert client.publish(TWO) is not None
    assert client.publish(ONE) is None
    assert client.publish(Message("a", b"0")) == PublishReceived("c1", Message("a", b"0"))
    client.receive(SendPubrec("c1", 1, OK))
    assert client.publish(ONE) is None
    client.receive(SendPubcomp("c1", 1, OK))
    assert client.publish(ONE) == PublishReceived("c1", ONE, 2)
    client.receive(SendPuback("c1", 2, ReasonCode.QUOTA_EXCEEDED))
    assert client.in_flight == {}


def test_identifiers_are_bounded_and_shared_with_subscribe() -> None:
    client = ready_client(maximum_packet_id=2)
    assert client.publish(ONE) == PublishReceived("c1", ONE, 1)
    asked = client.subscribe(Subscription("a"))
    assert asked is not None
    assert asked.packet_id == 2
    assert client.publish(ONE) is None
    assert client.unsubscribe("a") is None
    client.receive(SendSuback("c1", 2, (OK,)))
    asked_again = client.unsubscribe("a")
    assert asked_again is not None
    assert asked_again.packet_id == 2


# ---------------------------------------------------------------- sending again


@pytest.mark.spec("5.0 MQTT-4.4.0-1", "5.0 MQTT-3.3.1-1", "5.0 MQTT-4.6.0-1", "5.0 MQTT-4.6.0-4")
def test_a_resume_sends_again_what_is_open_in_order() -> None:
    client = ready_client()
    for message in (TWO, THREE, ONE, THREE):
        client.publish(message)
    client.receive(SendPubrec("c1", 4, OK))
    client.receive(SendPubrec("c1", 1, OK))
    client.connection_lost()
    assert connect(client, "c2", present=True) == [
        PubrelReceived("c2", 4),
        PubrelReceived("c2", 1),
        PublishReceived("c2", THREE, 2, True),
        PublishReceived("c2", ONE, 3, True),
    ]


def test_a_smaller_quota_spreads_what_is_sent_again() -> None:
    client = ready_client()
    for message in (TWO, ONE, ONE):
        client.publish(message)
    client.receive(SendPubrec("c1", 1, OK))
    answers = connect(client, "c2", present=True, receive_maximum=1)
    assert answers == [PubrelReceived("c2", 1), PublishReceived("c2", ONE, 2, True)]
    assert client.publish(ONE) is None  # NN-8.3: what is sent again goes first
    assert client.receive(SendPubcomp("c2", 1, OK)) == []  # NN-10.8: it held no unit
    assert client.receive(SendPuback("c2", 2, OK)) == [PublishReceived("c2", ONE, 3, True)]
    assert client.publish(ONE) is None
    assert client.receive(SendPuback("c2", 3, OK)) == []
    assert client.publish(ONE) is not None


def test_an_answer_to_what_was_not_sent_again_settles_it() -> None:
    client = ready_client()
    client.publish(ONE)
    client.publish(TWO)
    connect(client, "c2", present=True, receive_maximum=1)
    assert client.receive(SendPubrec("c2", 2, OK)) == [PubrelReceived("c2", 2)]
    assert client.receive(SendPuback("c2", 1, OK)) == []
    assert client.in_flight == {2: None}
    assert client.publish(ONE) is not None


def test_without_a_session_everything_is_discarded() -> None:
    client = ready_client()
    client.publish(ONE)
    client.publish(TWO)
    client.receive(SendPubrec("c1", 2, OK))
    client.receive(send(THREE, 9))
    assert connect(client, "c2") == []
    assert client.in_flight == {}
    assert client.inbound == {}
    assert client.discarded == [ONE]


def test_clean_start_discards_before_connack_comes() -> None:
    client = ready_client()
    client.publish(ONE)
    event = client.connect("c2", clean_start=True, session_expiry_interval=60)
    assert event.clean_start
    client.connection_lost()
    assert connect(client, "c3", present=True) == []
    assert client.discarded == [ONE]


@pytest.mark.parametrize(
    "refusal",
    [
        SendConnack("c1", False, ReasonCode.QUOTA_EXCEEDED),
        CloseConnection("c1", ReasonCode.QUOTA_EXCEEDED),
    ],
)
def test_a_refused_clean_start_is_asked_for_again(refusal: SendConnack | CloseConnection) -> None:
    client = Client("me")
    client.connect("c1", clean_start=True)
    client.receive(refusal)
    assert client.connection is None
    assert client.connect("c2").clean_start
    client.receive(SendConnack("c2", False, OK))
    assert not client.connect("c3").clean_start


def test_mqtt_3_1_counts_on_the_session_that_it_asked_for() -> None:
    client = Client("me", 3)
    client.connect("c1")
    client.receive(SendConnack("c1", False, ConnectReturnCode.ACCEPTED))
    client.publish(ONE)
    client.connect("c2")
    answers = client.receive(SendConnack("c2", False, ConnectReturnCode.ACCEPTED))
    assert answers == [PublishReceived("c2", ONE, 1, True)]


def test_a_session_that_ends_with_its_connection_leaves_nothing() -> None:
    client = Client("me")
    client.connect("c1")
    client.receive(SendConnack("c1", False, OK))
    client.publish(ONE)
    client.receive(send(TWO, 5))
    client.connection_lost()
    assert (client.in_flight, client.inbound, client.discarded) == ({}, {}, [ONE])
    assert not client.connect("c2").clean_start


def test_the_interval_that_connack_names_is_in_force() -> None:
    client = Client("me")
    client.connect("c1")
    client.receive(SendConnack("c1", False, OK, session_expiry_interval=9))
    client.publish(ONE)
    client.connection_lost()
    assert client.in_flight == {1: ONE}


def test_a_disconnect_that_ends_the_session_is_followed_by_clean_start() -> None:
    client = ready_client()
    client.publish(ONE)
    client.disconnect(session_expiry_interval=0)
    assert client.discarded == [ONE]
    assert client.connect("c2", session_expiry_interval=60).clean_start


def test_a_session_expires_by_the_clients_own_clock() -> None:
    client = ready_client()
    client.publish(ONE)
    client.receive(send(TWO, 5))
    client.connection_lost()
    client.expire()
    assert (client.in_flight, client.inbound, client.discarded) == ({}, {}, [ONE])


# ---------------------------------------------------------------- receiving


@pytest.mark.spec("5.0 MQTT-4.3.3-10")
def test_qos_2_is_delivered_once_across_connections() -> None:
    client = ready_client()
    assert client.receive(send(TWO, 5)) == [PubrecReceived("c1", 5)]
    connect(client, "c1", present=True)
    assert client.receive(send(TWO, 5, dup=True)) == [PubrecReceived("c1", 5)]
    assert [delivery.message for delivery in client.delivered] == [TWO]
    assert client.receive(SendPubrel("c1", 5, OK)) == [PubcompReceived("c1", 5)]
    client.receive(send(THREE, 5))
    assert [delivery.message for delivery in client.delivered] == [TWO, THREE]


def test_qos_0_and_1_are_delivered_each_time() -> None:
    client = ready_client()
    assert client.receive(send(Message("a", b"0"), None)) == []
    assert client.receive(send(ONE, 5)) == [PubackReceived("c1", 5)]
    assert client.receive(send(ONE, 5, dup=True)) == [PubackReceived("c1", 5)]
    assert [d.message.payload for d in client.delivered] == [b"0", b"1", b"1"]


def test_a_refused_message_is_not_delivered() -> None:
    client = ready_client()
    no = ReasonCode.QUOTA_EXCEEDED
    assert client.receive(send(ONE, 5), no) == [PubackReceived("c1", 5, no)]
    assert client.receive(send(TWO, 6), no) == [PubrecReceived("c1", 6, no)]
    assert client.delivered == []
    assert client.inbound == {}
    old = Client("old", 4)
    old.connect("c1")
    old.receive(SendConnack("c1", False, ConnectReturnCode.ACCEPTED))
    assert old.receive(send(ONE, 5), no) == [PubackReceived("c1", 5)]  # 3.x has no codes


def test_packets_of_another_connection_are_left_unread() -> None:
    client = ready_client()
    client.connect("c2", session_expiry_interval=60)
    client.receive(SendConnack("c2", True, OK))
    assert client.receive(send(TWO, 5)) == []
    assert client.delivered == []


@pytest.mark.parametrize("last", [SendDisconnect, CloseConnection])
def test_a_closed_connection_is_gone(last: type[SendDisconnect | CloseConnection]) -> None:
    client = ready_client()
    client.publish(ONE)
    assert client.receive(last("c1", ReasonCode.SESSION_TAKEN_OVER)) == []
    assert client.connection is None
    assert client.publish(ONE) is None
    assert client.in_flight == {1: ONE}


def test_disconnect_is_the_last_packet() -> None:
    client = ready_client()
    event = client.disconnect(session_expiry_interval=5)
    assert (event.connection, event.session_expiry_interval) == ("c1", 5)
    assert client.publish(ONE) is None
    assert client.receive(send(ONE, 5)) == []


# ---------------------------------------------------------------- what no server may do


@pytest.mark.parametrize(
    ("rule", "action"),
    [
        ("MQTT-3.2.0-1", SendPingresp("c1")),
        ("MQTT-3.2.2-2", SendConnack("c1", True, OK)),
    ],
)
def test_a_server_that_breaks_a_rule_before_connack(rule: str, action: SendConnack) -> None:
    client = Client("me")
    client.connect("c1", clean_start=True)
    with pytest.raises(ServerFault, match=rule) as fault:
        client.receive(action)
    assert fault.value.rule == rule


def test_a_second_connack_is_a_fault() -> None:
    client = ready_client()
    assert client.receive(SendPingresp("c1")) == []
    with pytest.raises(ServerFault, match="a second CONNACK"):
        client.receive(SendConnack("c1", False, OK))


# ---------------------------------------------------------------- copies, and a real store


def test_a_copy_is_equal_and_shares_nothing() -> None:
    client = ready_client(maximum_packet_id=3)
    client.publish(TWO)
    client.publish(ONE)
    client.receive(send(TWO, 5))
    client.receive(SendPubrec("c1", 1, OK))
    connect(client, "c2", present=True, receive_maximum=1)
    client.subscribe(Subscription("a"))
    copy = client.copy()
    before = client.key()
    assert copy.key() == before
    assert copy.delivered == client.delivered
    for name in Client.__slots__:
        assert getattr(copy, name) == getattr(client, name), name
    copy.receive(SendPubcomp("c2", 1, OK))
    copy.receive(SendPubrel("c2", 5, OK))
    copy.receive(SendSuback("c2", 3, (OK,)))
    copy.connection_lost()
    copy.connect("c3", clean_start=True)
    assert client.key() == before
    assert copy.key() != before


@pytest.mark.parametrize("version", [3, 4, 5])
def test_two_clients_and_a_store(version: int) -> None:
    store = SessionStore()
    clients = {"a": Client("a", version), "b": Client("b", version)}
    pending: list[Event] = []
    for name, client in clients.items():
        interval = 60 if version == 5 else None
        pending.append(client.connect(name, session_expiry_interval=interval))

    def run() -> None:
        while pending:
            for action in store.handle(pending.pop(0), 0.0).actions:
                client = clients[action.connection]  # type: ignore[union-attr,index]
                pending.extend(client.receive(action))

    run()
    subscribe = clients["b"].subscribe(Subscription("a", 2))
    assert subscribe is not None
    pending.append(subscribe)
    run()
    for message in (ONE, TWO, Message("a", b"0"), THREE):
        publish = clients["a"].publish(message)
        assert publish is not None
        pending.append(publish)
    run()
    assert [d.message.payload for d in clients["b"].delivered] == [b"1", b"2", b"0", b"3"]
    assert clients["a"].in_flight == {}
    assert clients["b"].inbound == {}
    assert store["b"].in_flight == ()
    store.check()


def test_session_present_alone_can_mislead_a_client() -> None:
    """Why a client has a clock of its own: no server can prevent what happens here without it."""
    store = SessionStore()
    client = Client("b")

    def connect_at(now: float) -> tuple[Action, ...]:
        return store.handle(client.connect("c", session_expiry_interval=5), now).actions

    def lose(now: float) -> None:
        client.connection_lost()
        store.handle(ConnectionLost("c"), now)

    def read(actions: tuple[Action, ...]) -> list[Event]:
        return [answer for action in actions for answer in client.receive(action)]

    read(connect_at(0.0))
    store.handle(SubscriptionsAdded("b", (Subscription("a", 2),)), 0.0)
    read(store.handle(MessagePublished(TWO), 0.0).actions)
    lose(0.0)
    connect_at(10.0)  # too late: a new session, but its CONNACK is lost
    store.handle(SubscriptionsAdded("b", (Subscription("a", 2),)), 10.0)
    lose(10.0)
    read(connect_at(11.0))  # Session Present 1, for the new session
    answers = read(store.handle(MessagePublished(THREE), 11.0).actions)
    assert answers == [PubrecReceived("c", 1)]
    assert [each.message for each in client.delivered] == [TWO]  # THREE passed for a repeat
