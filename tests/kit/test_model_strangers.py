"""What servers may do otherwise than this library, and the model accepts without notices."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from itertools import permutations, product
from typing import Any

import pytest
from attrs import evolve

from mqtt_sessions import (
    Action,
    ClientConnected,
    CloseConnection,
    ConnectionLost,
    ConnectReturnCode,
    Delivery,
    DisconnectReceived,
    Event,
    Message,
    MessagePublished,
    Outcome,
    PubackReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    ReasonCode,
    SendConnack,
    SendDisconnect,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
    SessionCreated,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
    UnsubscribeReceived,
    Will,
)
from mqtt_sessions.testing.judge import Judge
from mqtt_sessions.testing.model import Disagreement
from mqtt_sessions.testing.moves import EVERYTHING, REAL_TIME, Player, Profile, kinds_of_moves
from mqtt_sessions.testing.transcript import Step

from .test_model_freedom import Table, numbered, sent

OK = ReasonCode.SUCCESS


def test_what_is_buffered_may_be_dropped_after_unsubscribe() -> None:
    """NN-12.7."""
    first, second = numbered("t", 1, 2)
    for filters, after in ((("t",), []), (("t",), [sent("s", second, 2)]), (("t", "#"), None)):
        table = Table()
        table.connect("s", receive_maximum=1)
        table.subscribe("s", *(Subscription(each, 1) for each in filters))
        table.step(MessagePublished(first), sent("s", first, 1))
        table.step(MessagePublished(second))
        unsuback = SendUnsuback("s", 2, (OK,))
        table.step(UnsubscribeReceived("s", 2, ("t",)), unsuback)
        if after is not None:
            table.step(PubackReceived("s", 1), *after)
            continue
        with pytest.raises(Disagreement):  # the other subscription wants it
            table.step(PubackReceived("s", 1))


@pytest.mark.parametrize(("number", "right"), [(1, True), (2, True), (3, False)])
@pytest.mark.parametrize("again", [True, False])
def test_identifiers_of_then_or_of_now(number: int, right: bool, again: bool) -> None:
    """NN-8.5."""
    first, second = numbered("t", 1, 2)
    table = Table()
    table.connect("s", receive_maximum=1)
    table.subscribe("s", Subscription("t", 1, subscription_id=1))
    table.step(MessagePublished(first), sent("s", first, 1, subscription_ids=(1,)))
    table.step(MessagePublished(second))
    table.subscribe("s", Subscription("t", 1, subscription_id=2))
    table.model.handle(PubackReceived("s", 1), 0.0)
    if again:
        table.model.observe(sent("s", second, 2, subscription_ids=(1,)))
        table.model.settle()
        table.step(ConnectionLost("s"))
    publish = sent("s", second, 2, subscription_ids=(number,), dup=again)
    if right and again:
        table.connect("s", after=[publish])
    elif right:
        table.model.observe(publish)
    else:
        with pytest.raises(Disagreement) as found:
            table.connect("s", after=[publish]) if again else table.model.observe(publish)
        assert found.value.rule == "MQTT-3.3.4-5"


@pytest.mark.parametrize(("version", "right"), [(4, True), (5, False)])
def test_3_1_1_may_send_again_while_connected(version: int, right: bool) -> None:
    """NN-8.1."""
    (message,) = numbered("t", 2, 1)
    table = Table()
    table.connect("s", version)
    table.subscribe("s", Subscription("t", 2))
    table.step(MessagePublished(message), sent("s", message, 1))
    outputs = [sent("s", message, 1, dup=True), SendPubrel("s", 1, OK)]
    if right:
        table.wait(20, outputs[0])
        table.step(PubrecReceived("s", 1), outputs[1])
        table.wait(20, outputs[1])
        return
    with pytest.raises(Disagreement) as found:
        table.wait(20, outputs[0])
    assert found.value.rule == "MQTT-4.4.0-1"


def test_published_at_qos_1_and_granted_qos_0_may_come_twice() -> None:
    """NN-12.2."""
    (message,) = numbered("t", 1, 1)
    publish = SendPublish("s", Delivery(message, 0), None, False, None)
    for copies, right in ((2, True), (3, False)):
        table = Table()
        table.connect("s")
        table.subscribe("s", Subscription("t", 0))
        if right:
            table.step(MessagePublished(message), *[publish] * copies)
            continue
        with pytest.raises(Disagreement) as found:
            table.step(MessagePublished(message), *[publish] * copies)
        assert found.value.rule == "NN-12.3"


@pytest.mark.parametrize("version", [5, 4])
def test_nothing_follows_a_refusing_connack(version: int) -> None:
    table = Table(limits=SessionLimits(maximum_client_id_length=23))
    name = 24 * "n"
    code = ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
    connack = SendConnack(name, False, code if version == 5 else ConnectReturnCode(2))
    table.model.handle(ClientConnected(name, name, version), 0.0)
    table.model.observe(connack)
    for output in (sent(name, Message("t")), SendPubrel(name, 1, OK)):
        with pytest.raises(Disagreement) as found:
            table.model.observe(output)
        assert found.value.rule == ("MQTT-3.2.2-7" if version == 5 else "3.1.1 MQTT-3.2.2-5")


class Listening(Judge):
    """Remembers what it was fed."""

    def __init__(self, subject: SessionStore) -> None:
        super().__init__(subject)
        self.heard: list[str] = []

    def feed(self, event: Event, now: float) -> Step:
        self.heard.append(repr(event))
        return super().feed(event, now)


@pytest.mark.parametrize(("profile", "right"), [(EVERYTHING, True), (REAL_TIME, False)])
def test_brokers_are_not_asked_about_names_that_begin_with_a_dollar_sign(
    profile: Profile, right: bool
) -> None:
    judge = Listening(SessionStore())
    player = Player(judge, profile, (ClientConnected(0, "a"),), SessionLimits())
    for kind, x, y in product(range(len(kinds_of_moves(profile))), range(48), (3, 16)):
        with suppress(Disagreement):
            player.play((kind, 0, x, y))
    assert any("'$s'" in each for each in judge.heard) is right
    assert any("$share" in each for each in judge.heard) is right


@pytest.mark.parametrize("version", [5, 4])
def test_a_refusal_needs_neither_connack_nor_its_very_code(version: int) -> None:
    """NN-5.3."""
    will = Will(Message("t/+"))
    table = Table()
    other = ReasonCode.UNSPECIFIED_ERROR if version == 5 else ConnectReturnCode.SERVER_UNAVAILABLE
    close = CloseConnection("a", OK)
    table.step(ClientConnected("a", "a", version, will=will), close)
    table.step(ConnectionLost("a"))
    table.step(ClientConnected("a", "a", version, will=will), SendConnack("a", False, other), close)
    with pytest.raises(Disagreement):
        table.step(ClientConnected("b", "b", version, will=will), SendConnack("b", False, OK))


def test_a_bad_client_id_of_3_1_1_has_its_code() -> None:
    """3.1.1 MQTT-3.1.3-8."""
    table = Table()
    with pytest.raises(Disagreement):
        table.step(ClientConnected("a", "", 4), CloseConnection("a", OK))


@pytest.mark.parametrize(
    ("code", "right"),
    [
        (ReasonCode.MALFORMED_PACKET, True),
        (ReasonCode.PROTOCOL_ERROR, True),
        (ReasonCode.TOPIC_NAME_INVALID, True),
        (ReasonCode.QUOTA_EXCEEDED, False),
    ],
)
def test_the_general_code_stands_for_the_specific_one(code: ReasonCode, right: bool) -> None:
    """NN-5.3."""
    table = Table()
    table.connect("p")
    table.model.handle(PublishReceived("p", Message("t/+")), 0.0)
    with nullcontext() if right else pytest.raises(Disagreement):
        table.model.observe(SendDisconnect("p", code))


@pytest.mark.parametrize("version", [5, 4])
def test_who_is_told_disconnect_closes_at_once_or_later_or_never(version: int) -> None:
    """NN-5.1."""
    for count in range(3):
        table = Table()
        table.connect("a", version)
        close = [CloseConnection("a", OK)]
        table.step(DisconnectReceived("a"), *close[: count % 2])
        table.wait(1, *close[: count // 2])
        table.step(ConnectionLost("a"))


@pytest.mark.parametrize(("version", "right"), [(5, True), (4, False)])
@pytest.mark.parametrize("released", [False, True])
def test_order_of_what_is_sent_again_binds_servers_in_3_1_1(
    version: int, right: bool, released: bool
) -> None:
    """NN-15.3."""
    messages = numbered("t", 2, 2)
    table = Table()
    table.connect("s", version)
    table.subscribe("s", Subscription("t", 2))
    for number, message in enumerate(messages, 1):
        table.step(MessagePublished(message), sent("s", message, number))
        if released:
            table.step(PubrecReceived("s", number), SendPubrel("s", number, OK))
    table.step(ConnectionLost("s"))
    after = [sent("s", message, number, dup=True) for number, message in enumerate(messages, 1)]
    pubrels = [SendPubrel("s", number, OK) for number in (1, 2)]
    with nullcontext() if right else pytest.raises(Disagreement) as found:
        table.connect("s", version, after=(pubrels if released else after)[::-1])
    if found is not None:
        assert found.value.rule == f"3.1.1 MQTT-4.6.0-{4 if released else 1}"


def test_new_messages_may_come_before_those_that_are_sent_again() -> None:
    """NN-8.3, NN-15.3."""
    first, second = numbered("t", 1, 2)
    table = Table()
    table.connect("s", receive_maximum=1)
    table.subscribe("s", Subscription("t", 1))
    table.step(MessagePublished(first), sent("s", first, 1))
    table.step(MessagePublished(second))
    table.step(ConnectionLost("s"))
    table.connect("s", after=[sent("s", second, 2), sent("s", first, 1, dup=True)])


@pytest.mark.parametrize("kept", [True, False])
def test_what_waited_for_the_quota_may_go_with_the_connection(kept: bool) -> None:
    first, second = Message("t", b"1", 1), Message("t", b"2", 0)
    table = Table(limits=SessionLimits(queue_qos0=False))
    table.connect("s", receive_maximum=1)
    table.subscribe("s", Subscription("t", 1))
    table.step(MessagePublished(first), sent("s", first, 1))
    table.step(MessagePublished(second))
    table.step(ConnectionLost("s"))
    again = sent("s", first, 1, dup=True)
    table.connect("s", after=[again, sent("s", second)] if kept else [again])


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("had", [True, False])
def test_what_stands_before_an_ill_formed_filter_may_have_been_done(done: bool, had: bool) -> None:
    """MQTT-3.8.4-5, MQTT-3.10.4-6."""
    (message,) = numbered("t", 1, 1)
    wanted = (Subscription("t", 1), Subscription("#/a", 1))
    for event in (SubscribeReceived("s", 2, wanted), UnsubscribeReceived("s", 2, ("t", "#/a"))):
        table = Table()
        table.connect("s")
        if had:
            table.subscribe("s", Subscription("t", 0))
        table.step(event, CloseConnection("s", OK))
        table.step(ConnectionLost("s"))
        is_subscribe = isinstance(event, SubscribeReceived)
        if not (is_subscribe or had):
            continue
        table.step(MessagePublished(message))
        publish = SendPublish("s", Delivery(message, 0), None, False, None)
        if is_subscribe and done:
            publish = sent("s", message, 1)
        due = had or done if is_subscribe else not done
        table.connect("s", after=[publish] if due else [])
        code = OK if due else ReasonCode.NO_SUBSCRIPTION_EXISTED
        table.step(UnsubscribeReceived("s", 3, ("t",)), SendUnsuback("s", 3, (code,)))
        with pytest.raises(Disagreement):
            table.step(MessagePublished(Message("t", b"x", 1)), sent("s", Message("t", b"x", 1), 9))


@pytest.mark.parametrize("version", [5, 4])
def test_a_wrong_acknowledgement_may_be_ignored(version: int) -> None:
    """NN-7.6."""
    (message,) = numbered("t", 2, 1)
    for outputs in ([], [CloseConnection("s", OK)]):
        table = Table()
        table.connect("s", version)
        table.subscribe("s", Subscription("t", 2))
        table.step(MessagePublished(message), sent("s", message, 1))
        table.step(PubackReceived("s", 1), *outputs)
        if not outputs:
            table.step(PubrecReceived("s", 1), SendPubrel("s", 1, OK))


@pytest.mark.parametrize("retain", [True, False])
def test_retain_of_one_copy_for_several_subscriptions_is_free(retain: bool) -> None:
    """NN-12.4."""
    message = Message("t", b"1", 1, retain=True)
    table = Table()
    table.connect("s")
    subscriptions = Subscription("t", 1), Subscription("#", 1, retain_as_published=True)
    table.subscribe("s", *subscriptions)
    table.step(MessagePublished(message), sent("s", message, 1, retain=retain))


@pytest.mark.parametrize("comes", [True, False])
def test_no_local_may_or_may_not_hold_back_the_own_will(comes: bool) -> None:
    """NN-4.9."""
    will = Message("t", b"gone", 1)
    table = Table()
    table.connect("s", will=Will(will))
    table.subscribe("s", Subscription("t", 1, no_local=True))
    table.step(ConnectionLost("s"))
    table.connect("s", after=[sent("s", will, 1)] if comes else [])


@pytest.mark.parametrize(("told", "right"), [(8, True), (7, True), (6, False), (9, False)])
def test_an_interval_may_be_rounded_either_way(told: int, right: bool) -> None:
    """NN-9.4."""
    message = Message("t", b"1", 1, message_expiry_interval=10)
    table = Table()
    table.connect("s")
    table.subscribe("s", Subscription("t", 1))
    table.step(ConnectionLost("s"))
    table.step(MessagePublished(message))
    table.wait(2.5)
    with nullcontext() if right else pytest.raises(Disagreement):
        table.connect("s", after=[sent("s", message, 1, told=told)])


def test_a_server_may_use_another_session_expiry_interval() -> None:
    """NN-1.3."""
    table = Table()
    event = ClientConnected("a", "a", session_expiry_interval=100)
    table.step(event, SendConnack("a", False, OK, 5, receive_maximum=100))
    table.step(ConnectionLost("a"))
    assert table.model.next_deadline_at == 5


def test_equal_identifiers_need_not_be_repeated() -> None:
    """NN-12.3."""
    (message,) = numbered("t", 1, 1)
    for ids, right in (((1, 1), True), ((1,), True), ((), False)):
        table = Table()
        table.connect("s")
        both = [Subscription(each, 1, subscription_id=1) for each in ("t", "#")]
        table.subscribe("s", *both)
        with nullcontext() if right else pytest.raises(Disagreement):
            table.step(MessagePublished(message), sent("s", message, 1, subscription_ids=ids))


def test_a_server_that_closes_on_its_own_breaks_no_statement() -> None:
    table = Table()
    table.connect("a", 4)
    with pytest.raises(Disagreement) as found:
        table.step(MessagePublished(Message("t")), CloseConnection("a", OK))
    assert found.value.rule == "host"


# ---------------------------------------------------------------- identifiers in use


def held(version: int) -> Table:
    """A client whose inbound QoS 2 exchange holds identifier 7, and somebody who listens."""
    table = Table()
    for name in ("a", "s"):
        table.connect(name, version)
        table.subscribe(name, Subscription("t" if name == "s" else "u", 1))
    held_one = Message("x", b"held", 2)
    table.step(PublishReceived("a", held_one, 7), SendPubrec("a", 7, OK))
    return table


MINE = Message("t", b"mine", 1)
IN_USE = ReasonCode.PACKET_IDENTIFIER_IN_USE
USES = {
    "PUBLISH": (
        PublishReceived("a", MINE, 7),
        [SendPuback("a", 7, IN_USE)],
        [sent("s", MINE, 1), SendPuback("a", 7, OK)],
    ),
    "SUBSCRIBE": (
        SubscribeReceived("a", 7, (Subscription("v", 1), Subscription("w", 0))),
        [SendSuback("a", 7, (IN_USE, IN_USE))],
        [SendSuback("a", 7, (ReasonCode.GRANTED_QOS_1, OK))],
    ),
    "UNSUBSCRIBE": (
        UnsubscribeReceived("a", 7, ("u",)),
        [SendUnsuback("a", 7, (IN_USE,))],
        [SendUnsuback("a", 7, (OK,))],
    ),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("version", [5, 4])
def test_an_identifier_in_use_is_refused_or_taken_or_ends_the_connection(
    use: str, version: int
) -> None:
    """NN-6.5."""
    event, refused, taken = USES[use]
    close = [CloseConnection("a", IN_USE)]
    told = [SendDisconnect("a", ReasonCode.PROTOCOL_ERROR), *close]
    for outputs in (taken, close, refused if version == 5 else close, told if version == 5 else []):
        if not outputs:
            continue
        table = held(version)
        table.step(event, *outputs)
        if outputs is not close and outputs is not told:
            release = SendPubcomp("a", 7, OK)
            table.step(PubrelReceived("a", 7), release)  # the exchange is untouched
    with pytest.raises(Disagreement):
        held(version).step(event)


def test_what_is_refused_as_in_use_is_not_done() -> None:
    for use in ("SUBSCRIBE", "UNSUBSCRIBE"):
        event, refused, _ = USES[use]
        table = held(5)
        table.step(event, *refused)
        assert list(table.model.sessions["a"].subscriptions) == ["u"]
    event, refused, _ = USES["PUBLISH"]
    table = held(5)
    with pytest.raises(Disagreement) as found:
        table.step(event, *refused, sent("s", MINE, 1))
    assert found.value.rule == "NN-6.5"


# ---------------------------------------------------------------- grants

FAILED = ReasonCode.NOT_AUTHORIZED


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("version", [5, 4, 3])
def test_less_may_be_granted_than_was_asked_for(version: int, granted: int) -> None:
    """MQTT-3.8.4-7, 3.1.1 MQTT-3.8.4-6; what is granted is what is delivered."""
    kept, live = Message("t", b"kept", 2, retain=True), Message("t", b"live", 2)
    table = Table()
    table.connect("s", version)
    table.step(MessagePublished(kept))
    outputs = [
        evolve(sent("s", each, number if granted else None), delivery=Delivery(each, granted, old))
        for number, (each, old) in enumerate(((kept, True), (live, False)), 1)
    ]
    suback = SendSuback("s", 1, (ReasonCode(granted),))
    table.step(SubscribeReceived("s", 1, (Subscription("t", 2),)), outputs[0], suback)
    table.step(MessagePublished(live), outputs[1])
    assert table.model.sessions["s"].subscriptions["t"].qos == granted


@pytest.mark.parametrize(("version", "code"), [(5, 0x87), (5, 0x80), (5, 0x97), (4, 0x80)])
def test_a_subscription_may_be_refused(version: int, code: int) -> None:
    """MQTT-3.8.4-7."""
    table = Table()
    table.connect("s", version)
    table.subscribe("s", Subscription("t", 1))
    table.step(MessagePublished(Message("u", b"kept", 1, retain=True)))
    wanted = Subscription("t", 2), Subscription("u", 1)
    codes = ReasonCode(code), ReasonCode(code)
    table.step(SubscribeReceived("s", 1, wanted), SendSuback("s", 1, codes))
    # what was there is not altered
    assert [each.qos for each in table.model.sessions["s"].subscriptions.values()] == [1]
    table.step(MessagePublished(MINE), sent("s", MINE, 1))
    with pytest.raises(Disagreement) as found:
        table.step(MessagePublished(Message("u", b"1", 1)), sent("s", Message("u", b"1", 1), 2))
    assert found.value.rule == ("MQTT-3.3.2-3" if version == 5 else "3.1.1 MQTT-3.3.2-3")


@pytest.mark.parametrize("code", [1, 0x80])
def test_a_store_that_gives_notices_grants_what_was_asked_for(code: int) -> None:
    """This library has a limit for it, and refuses nothing on its own."""
    table = Table()
    connack = SendConnack("s", False, OK, receive_maximum=100)
    table.step(ClientConnected("s", "s"), connack, SessionCreated("s"))
    table.model.handle(SubscribeReceived("s", 1, (Subscription("t", 2),)), 0.0)
    with pytest.raises(Disagreement) as found:
        table.model.observe(SendSuback("s", 1, (ReasonCode(code),)))
    assert found.value.rule == "host"


@pytest.mark.parametrize("copies", [1, 2])
def test_a_filter_that_stands_twice_calls_up_once_or_twice(copies: int) -> None:
    """MQTT-3.8.4-5."""
    kept = Message("t", b"1", 1, retain=True)
    table = Table()
    table.connect("s")
    table.step(MessagePublished(kept))
    outputs = [
        sent("s", kept, number, retain=True, is_retained=True) for number in range(1, copies + 1)
    ]
    twice = Subscription("t", 1), Subscription("t", 1)
    codes = ReasonCode.GRANTED_QOS_1, ReasonCode.GRANTED_QOS_1
    table.step(SubscribeReceived("s", 1, twice), *outputs, SendSuback("s", 1, codes))
    with pytest.raises(Disagreement):
        table.step(PubackReceived("s", 1), sent("s", kept, 9, retain=True, is_retained=True))


# ---------------------------------------------------------------- an interval of 0

AT_ONCE = Message("t", b"now", 1, message_expiry_interval=0)


def waiting_for(*outputs: Any, quota: int = 10) -> Table:
    table = Table()
    table.connect("s", receive_maximum=quota)
    table.subscribe("s", Subscription("t", 1))
    table.step(MessagePublished(Message("t", b"first", 1)), sent("s", Message("t", b"first", 1), 1))
    table.step(MessagePublished(AT_ONCE), *outputs)
    return table


def test_a_message_that_expires_at_once_reaches_those_who_can_take_it_or_nobody() -> None:
    """NN-9.4."""
    waiting_for(sent("s", AT_ONCE, 2))
    waiting_for()
    table = waiting_for(quota=1)
    table.step(PubackReceived("s", 1), sent("s", AT_ONCE, 2))  # at the very instant
    for outputs in ([], [sent("s", AT_ONCE, 2)]):
        table = waiting_for(quota=1)
        table.wait(0.5)
        assert table.model.next_deadline_at is None
        with pytest.raises(Disagreement) if outputs else nullcontext() as found:
            table.step(PubackReceived("s", 1), *outputs)
        if found is not None:
            assert found.value.rule == "MQTT-3.3.2-5"


@pytest.mark.parametrize("kept", [True, False])
def test_what_expires_at_once_may_take_the_place_of_what_is_retained(kept: bool) -> None:
    old = Message("t", b"old", 1, retain=True)
    table = Table()
    table.connect("s")
    table.step(MessagePublished(old))
    table.step(MessagePublished(evolve(AT_ONCE, retain=True)))
    outputs = [sent("s", old, 1, retain=True, is_retained=True)] if kept else []
    suback = SendSuback("s", 1, (ReasonCode.GRANTED_QOS_1,))
    table.step(SubscribeReceived("s", 1, (Subscription("t", 1),)), suback, *outputs)
    table = Table()
    table.connect("s")
    table.step(MessagePublished(evolve(AT_ONCE, retain=True)))
    expired = sent("s", AT_ONCE, 1, retain=True, is_retained=True)
    with pytest.raises(Disagreement):
        table.step(SubscribeReceived("s", 1, (Subscription("t", 1),)), suback, expired)


# ---------------------------------------------------------------- overlapping subscriptions


TWICE = Message("t", b"2", 2)


def overlapping(version: int) -> Table:
    """Two subscriptions that match, of different QoS and with identifiers of their own."""
    table = Table()
    table.connect("s", version)
    numbers = (1, 2) if version == 5 else (None, None)
    both = [
        Subscription(each, qos, subscription_id=number)
        for each, qos, number in zip(("t", "#"), (2, 0), numbers, strict=True)
    ]
    table.subscribe("s", *both)
    return table


def copies(version: int, *wanted: tuple[int, tuple[int, ...]]) -> list[SendPublish]:
    """Copies of one message, by QoS and identifiers."""
    return [
        SendPublish(
            "s",
            Delivery(TWICE, qos, subscription_ids=ids if version == 5 else ()),
            number if qos else None,
            False,
            None,
        )
        for number, (qos, ids) in enumerate(wanted, 1)
    ]


WHOLE, HIGH, LOW = (2, (1, 2)), (2, (1,)), (0, (2,))


@pytest.mark.parametrize("wanted", [[WHOLE], [HIGH, LOW], [LOW, HIGH]])
@pytest.mark.parametrize("version", [5, 4, 3])
def test_overlaps_make_one_copy_or_one_for_each(version: int, wanted: list[Any]) -> None:
    """NN-12.3."""
    table = overlapping(version)
    table.step(MessagePublished(TWICE), *copies(version, *wanted))
    assert not table.model.sessions["s"].queue
    with pytest.raises(Disagreement):
        table.step(MessagePublished(Message("$x")), *copies(version, LOW))


@pytest.mark.parametrize(
    ("wanted", "v5", "v4"),
    [
        ([], "MQTT-4.5.0-1", "3.1.1 MQTT-4.5.0-1"),
        ([LOW], "MQTT-3.3.4-2", "3.1.1 MQTT-3.3.5-1"),
        ([HIGH], "MQTT-3.3.4-4", None),
        ([WHOLE, LOW], "MQTT-4.4.0-1", None),
        ([WHOLE, WHOLE], "MQTT-4.4.0-1", "3.1.1 MQTT-3.8.4-6"),
        ([HIGH, LOW, LOW], "MQTT-4.4.0-1", "3.1.1 MQTT-4.4.0-1"),
        ([HIGH, (0, (1, 2))], "MQTT-3.3.4-5", None),
    ],
)
@pytest.mark.parametrize("version", [5, 4])
def test_overlaps_make_no_more_and_no_less(
    version: int, wanted: list[Any], v5: str, v4: str | None
) -> None:
    rule = v5 if version == 5 else v4
    table = overlapping(version)
    with nullcontext() if rule is None else pytest.raises(Disagreement) as found:
        table.step(MessagePublished(TWICE), *copies(version, *wanted))
    if found is not None:
        assert found.value.rule == rule


def test_one_copy_for_each_may_come_as_the_window_opens() -> None:
    low = Subscription("t", 1, subscription_id=1), Subscription("#", 1, subscription_id=2)
    both = copies(5, (1, (1,)), (1, (2,)))
    for count in (1, 2):
        table = Table()
        table.connect("s", receive_maximum=1)
        table.subscribe("s", *low)
        table.step(MessagePublished(TWICE), both[0])
        with nullcontext() if count == 2 else pytest.raises(Disagreement) as found:
            table.step(PubackReceived("s", 1), *both[1:count])
        if found is not None:
            assert found.value.rule == "MQTT-3.3.4-4"


# ---------------------------------------------------------------- the order of a take-over


class BehindSockets:
    """What it answers is not its own: only where it lives matters."""

    real_time = True
    next_deadline_at = None

    def __init__(self, outputs: list[list[Action]]) -> None:
        self.outputs = outputs

    def handle(self, event: Event, now: float) -> Outcome:
        """What comes next."""
        return Outcome(actions=tuple(self.outputs.pop(0)))

    def handle_timeout(self, now: float) -> Outcome:
        """Nothing."""
        return Outcome()


TAKEN = ReasonCode.SESSION_TAKEN_OVER


def taken_over(version: int) -> tuple[list[Event], list[Action], list[Action]]:
    """Two CONNECTs of one client, the first answer, and the second in the order of NN-3.1."""
    events: list[Event] = [ClientConnected(name, "a", version) for name in (1, 2)]
    code = OK if version == 5 else ConnectReturnCode.ACCEPTED
    quota = 100 if version == 5 else None
    connacks = [SendConnack(name, False, code, receive_maximum=quota) for name in (1, 2)]
    told = [SendDisconnect(1, TAKEN)] if version == 5 else []
    return events, connacks[:1], [*told, CloseConnection(1, TAKEN), connacks[1]]


@pytest.mark.parametrize("version", [5, 4])
def test_the_old_connection_is_closed_before_the_new_one_is_greeted(version: int) -> None:
    """NN-3.1; behind sockets nobody sees which of two came first."""
    events, first, second = taken_over(version)
    for order in permutations(second):
        right = list(order) == second
        if order.index(second[0]) > order.index(second[-2]):
            continue  # nothing follows the close
        table = Table()
        table.step(events[0], *first)
        with nullcontext() if right else pytest.raises(Disagreement) as found:
            table.step(events[1], *order)
        if found is not None:
            assert found.value.rule == "NN-3.1"
        judge = Judge(BehindSockets([first, list(order)]))
        for event in events:
            judge.feed(event, 0.0)


@pytest.mark.parametrize("version", [5, 4])
def test_a_connection_that_is_never_closed_is_named_as_that(version: int) -> None:
    events, first, second = taken_over(version)
    table = Table()
    table.step(events[0], *first)
    with pytest.raises(Disagreement) as found:
        table.step(events[1], second[-1])
    assert found.value.rule == ("MQTT-3.1.4-3" if version == 5 else "3.1.1 MQTT-3.1.4-2")
