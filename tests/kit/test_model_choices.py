"""What is due at one instant, what is one server's choice, and what only looks like either."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from mqtt_sessions import (
    Action,
    ClientConnected,
    CloseConnection,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    Delivery,
    DropReason,
    Event,
    MalformedPacketReceived,
    Message,
    MessageDropped,
    MessagePublished,
    Notice,
    OverflowPolicy,
    PubackReceived,
    PublishReceived,
    QueuePurged,
    ReasonCode,
    RetainedMessageDropped,
    SendConnack,
    SendDisconnect,
    SendPuback,
    SendPublish,
    SendSuback,
    SendUnsuback,
    ServerStopping,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
    SubscriptionsAdded,
    UnsubscribeReceived,
    Will,
    WillPublished,
)
from mqtt_sessions.testing.judge import Judge
from mqtt_sessions.testing.model import Disagreement

from .model_mutants import Broken
from .test_model_freedom import Table, sent

OK = ReasonCode.SUCCESS
SILENT = ReasonCode.KEEP_ALIVE_TIMEOUT
WILL = Message("t", b"gone", 1)


def closed(name: str) -> CloseConnection:
    return CloseConnection(name, SILENT)


# ---------------------------------------------------------------- the filter of a purge


def purged(message: Message) -> MessageDropped:
    return MessageDropped("s", Delivery(message, message.qos), DropReason.PURGED)


def full_queue() -> tuple[Table, Message, Message]:
    table = Table()
    table.connect("s")
    table.subscribe("s", Subscription("#", 1), Subscription("$s", 1))
    table.step(ConnectionLost("s"))
    plain, hidden = Message("t", b"1", 1), Message("$s", b"2", 1)
    table.step(MessagePublished(plain))
    table.step(MessagePublished(hidden))
    return table, plain, hidden


def test_a_purge_by_a_wildcard_spares_topics_that_begin_with_a_dollar() -> None:
    """MQTT-4.7.2-1."""
    table, plain, hidden = full_queue()
    table.step(QueuePurged("s", "#"), purged(plain))
    assert [copy.message for copy in table.model.sessions["s"].queue] == [hidden]
    table, plain, hidden = full_queue()
    with pytest.raises(Disagreement):
        table.step(QueuePurged("s", "#"), purged(plain), purged(hidden))


def test_a_purge_without_a_filter_spares_nothing() -> None:
    table, plain, hidden = full_queue()
    table.step(QueuePurged("s"), purged(plain), purged(hidden))
    assert not table.model.sessions["s"].queue


# ---------------------------------------------------------------- due at one instant


def silent_clients(gap: float, order: str, *, clean: bool) -> Table:
    """Two clients of 3.1.1 that fall silent: b leaves a will to c, and is `gap` seconds later."""
    table = Table()
    for name in order:
        table.now = gap if name == "b" else 0.0
        will = Will(WILL) if name == "b" else None
        table.connect(name, 4, clean_start=clean, keep_alive=2, will=will)
        if name == "c":
            table.subscribe("c", Subscription("t", 1))
    table.now = gap
    return table


@pytest.mark.parametrize("order", ["bc", "cb"])
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("first", ["b", "c"])
def test_of_two_keep_alives_that_end_at_once_either_may_be_first(
    first: str, clean: bool, order: str
) -> None:
    table = silent_clients(0.0, order, clean=clean)
    to_c = [sent("c", WILL, 1)] if first == "b" else []
    table.wait(3, *(closed("b"), *to_c, closed("c"))[:: 1 if first == "b" else -1])
    assert all(not each.open for each in table.model.connections.values())


@pytest.mark.parametrize("clean", [True, False])
def test_of_two_that_end_one_after_the_other_the_first_is_first(clean: bool) -> None:
    """Also where the timer is late for both."""
    silent_clients(0.5, "cb", clean=clean).wait(3, closed("c"), closed("b"))
    with pytest.raises(Disagreement):
        silent_clients(0.5, "cb", clean=clean).wait(3, closed("b"), sent("c", WILL, 1), closed("c"))
    late = silent_clients(-0.5, "cb", clean=clean)
    late.wait(4, closed("b"), sent("c", WILL, 1), closed("c"))


@pytest.mark.parametrize("names", ["bc", "cb"])
@pytest.mark.parametrize("clean", [True, False])
def test_store_and_model_agree_on_two_that_end_at_once(names: str, clean: bool) -> None:
    judge = Judge(SessionStore())
    for name in names:
        will = Will(Message("t", name.encode(), 1))
        judge.feed(ClientConnected(name, name, 4, clean, keep_alive=2, will=will), 0.0)
        judge.feed(SubscribeReceived(name, 1, (Subscription("t", 1),)), 0.0)
    judge.pass_time(3.0)
    judge.pass_time(8.0)


def test_wills_due_at_once_may_be_retained_in_either_order() -> None:
    for last in (b"v", b"w"):
        table = Table()
        for name in "vw":
            will = Message("t", name.encode(), 1, retain=True)
            table.connect(name, 4, clean_start=True, keep_alive=2, will=Will(will))
        table.wait(3, closed("v"), closed("w"))
        table.connect("s")
        kept = Message("t", last, 1, retain=True)
        event = SubscribeReceived("s", 1, (Subscription("t", 1),))
        suback = SendSuback("s", 1, (ReasonCode.GRANTED_QOS_1,))
        table.step(event, suback, sent("s", kept, 1, retain=True, is_retained=True))


def test_wills_due_one_after_the_other_are_retained_in_that_order() -> None:
    table = Table()
    for name in "wv":
        will = Message("t", name.encode(), 1, retain=True)
        table.connect(name, 4, clean_start=True, keep_alive=2, will=Will(will))
        table.now += 0.25
    table.wait(5, closed("w"), closed("v"))
    table.connect("s")
    kept = Message("t", b"w", 1, retain=True)
    with pytest.raises(Disagreement):
        table.step(
            SubscribeReceived("s", 1, (Subscription("t", 1),)),
            SendSuback("s", 1, (ReasonCode.GRANTED_QOS_1,)),
            sent("s", kept, 1, retain=True, is_retained=True),
        )


# ---------------------------------------------------------------- what has expired takes no room

OLD = Message("t", b"12345", 1, True, 4)
RETAINED_WILL = Message("u", b"6789", 1, True)
ONE = SessionLimits(maximum_retained_messages=1)


def test_a_late_will_is_retained_in_place_of_what_has_expired_by_now() -> None:
    """NN-9.3: the keep alive ends first, and the call comes when both are over."""
    judge = Judge(SessionStore(limits=ONE), limits=ONE)
    judge.feed(ClientConnected("w", "w", 4, keep_alive=2, will=Will(RETAINED_WILL)), 0.0)
    judge.feed(PublishReceived("w", OLD, 1), 0.0)
    step = judge.pass_time(6.0)
    assert RetainedMessageDropped(OLD, DropReason.EXPIRED) in step.notices
    assert WillPublished("w", RETAINED_WILL) in step.notices
    assert list(judge.model.retained) == ["u"]


def test_a_will_finds_no_room_while_the_other_message_lives() -> None:
    judge = Judge(SessionStore(limits=ONE), limits=ONE)
    judge.feed(ClientConnected("w", "w", 4, keep_alive=2, will=Will(RETAINED_WILL)), 0.0)
    judge.feed(PublishReceived("w", OLD, 1), 0.0)
    step = judge.pass_time(3.0)
    assert RetainedMessageDropped(RETAINED_WILL, DropReason.QUEUE_FULL) in step.notices
    assert list(judge.model.retained) == ["t"]


# ---------------------------------------------------------------- who gives no notices


def test_a_retained_message_of_its_own_under_no_local_is_named_by_its_rule() -> None:
    table = Table()
    table.connect("s")
    own = Message("t", b"1", 1, retain=True)
    answer = SendPuback("s", 1, ReasonCode.NO_MATCHING_SUBSCRIBERS)
    table.step(PublishReceived("s", own, 1), answer)
    with pytest.raises(Disagreement) as found:
        table.step(
            SubscribeReceived("s", 1, (Subscription("t", 1, no_local=True),)),
            SendSuback("s", 1, (ReasonCode.GRANTED_QOS_1,)),
            sent("s", own, 1, retain=True, is_retained=True),
        )
    assert found.value.rule == "NN-14.5"


def test_a_live_broker_may_close_without_saying_why() -> None:
    """NN-5.3: DISCONNECT before the close is a SHOULD."""
    code = ReasonCode.MALFORMED_PACKET
    for outputs in ([], [SendDisconnect("a", code)]):
        table = Table()
        table.connect("a")
        table.step(MalformedPacketReceived("a", code), *outputs, CloseConnection("a", code))
    table = Table()
    table.connect("a")
    with pytest.raises(Disagreement, match=r"MQTT-4\.13\.1-1"):
        table.step(MalformedPacketReceived("a", code), SendDisconnect("a", ReasonCode.SERVER_BUSY))
    with pytest.raises(Disagreement, match=r"MQTT-4\.13\.1-1"):
        table.model.settle()  # the close is a MUST


def test_a_client_that_was_taken_over_has_to_be_told() -> None:
    """MQTT-3.1.4-3, NN-3.1."""
    table = Table()
    table.connect("a")
    with pytest.raises(Disagreement) as found:
        table.step(
            ClientConnected("again", "a"), CloseConnection("a", ReasonCode.SESSION_TAKEN_OVER)
        )
    assert found.value.rule == "MQTT-3.1.4-3"


def test_who_gives_notices_says_why() -> None:
    """It is what this library promises."""
    table, plain, _ = full_queue()
    table.step(QueuePurged("s", "t"), purged(plain))
    table.model.handle(ClientConnected("a", "a"), 0.0)
    table.model.observe(SendConnack("a", False, OK, receive_maximum=100))
    table.model.handle(MalformedPacketReceived("a"), 0.0)
    with pytest.raises(Disagreement) as found:
        table.model.observe(CloseConnection("a", ReasonCode.MALFORMED_PACKET))
    assert found.value.rule == "MQTT-4.13.1-1"


def ill_formed(request: str) -> tuple[Table, Any, Any]:
    """A client with a will that somebody waits for, a wrong filter, and its answer."""
    table = Table()
    for name, will in (("a", Will(WILL)), ("s", None)):
        table.connect(name, will=will)
        table.subscribe(name, Subscription("t" if name == "s" else "u", 1))
    if request == "SUBSCRIBE":
        event: Any = SubscribeReceived("a", 7, (Subscription("x", 1), Subscription("x#", 1)))
        codes = (ReasonCode.GRANTED_QOS_1, ReasonCode.TOPIC_FILTER_INVALID)
        return table, event, SendSuback("a", 7, codes)
    event = UnsubscribeReceived("a", 7, ("u", "x#"))
    return table, event, SendUnsuback("a", 7, (OK, ReasonCode.TOPIC_FILTER_INVALID))


@pytest.mark.parametrize("request_", ["SUBSCRIBE", "UNSUBSCRIBE"])
def test_an_ill_formed_filter_is_refused_by_its_entry_or_ends_the_connection(
    request_: str,
) -> None:
    table, event, answer = ill_formed(request_)
    table.step(event, answer)
    assert list(table.model.sessions["a"].subscriptions) == (
        ["u", "x"] if request_ == "SUBSCRIBE" else []
    )
    for code in (ReasonCode.PROTOCOL_ERROR, ReasonCode.MALFORMED_PACKET):
        end = (SendDisconnect("a", code), CloseConnection("a", code))
        for outputs in ((*end, sent("s", WILL, 1)), (sent("s", WILL, 1), *end), end[1:]):
            table, event, _ = ill_formed(request_)
            if len(outputs) == 1:
                with pytest.raises(Disagreement, match=r"MQTT-3\.1\.2-8"):
                    table.step(event, *outputs)  # nobody is spared the will
                continue
            table.step(event, *outputs)
            assert list(table.model.sessions["a"].subscriptions) == ["u"]


@pytest.mark.parametrize("request_", ["SUBSCRIBE", "UNSUBSCRIBE"])
def test_an_ill_formed_filter_is_not_granted_and_not_passed_over(request_: str) -> None:
    table, event, answer = ill_formed(request_)
    with pytest.raises(Disagreement):
        table.step(event)
    table, event, answer = ill_formed(request_)
    code = ReasonCode.GRANTED_QOS_1 if request_ == "SUBSCRIBE" else ReasonCode.NOT_AUTHORIZED
    with pytest.raises(Disagreement):
        table.step(event, type(answer)("a", 7, (answer.reason_codes[0], code)))
    table, event, answer = ill_formed(request_)
    with pytest.raises(Disagreement):
        table.step(event, answer, CloseConnection("a", ReasonCode.PROTOCOL_ERROR))


def called_up_twice(*numbers: int) -> None:
    """A retained message that waits for the window at one SUBSCRIBE, and at another."""
    table = Table()
    table.connect("s", receive_maximum=10)
    kept = Message("t", b"1", 1, retain=True)
    table.step(MessagePublished(kept))
    table.step(ConnectionCongested("s"))
    for number in (1, 2):
        wanted = Subscription("t", 1, subscription_id=number)
        table.subscribe("s", wanted)
    copies = [
        sent("s", kept, place, retain=True, is_retained=True, subscription_ids=(number,))
        for place, number in enumerate(numbers, 1)
    ]
    table.step(ConnectionWritable("s"), *copies)


@pytest.mark.parametrize("numbers", [(2,), (1, 2), (2, 2), (2, 1)])
def test_what_a_subscribe_called_up_has_its_identifier_or_that_of_the_next(
    numbers: tuple[int, ...],
) -> None:
    """NN-8.5."""
    called_up_twice(*numbers)


@pytest.mark.parametrize("numbers", [(), (1,), (1, 2, 2), (3, 2)])
def test_what_was_called_up_last_is_owed_with_its_own_identifier(
    numbers: tuple[int, ...],
) -> None:
    with pytest.raises(Disagreement):
        called_up_twice(*numbers)


# ---------------------------------------------------------------- published at one reading


def two_of_a_topic(first: Message, second: Message) -> Table:
    """Published at one reading of the clock to a client that takes none, and called up."""
    table = Table()
    table.connect("s")
    table.subscribe("s", Subscription("t", 1))
    table.step(ConnectionCongested("s"))
    for message in (first, second):
        table.step(MessagePublished(message))
    table.step(SubscriptionsAdded("s", (Subscription("t", 1),)))
    return table


def test_of_two_at_one_instant_the_one_published_last_is_the_newer() -> None:
    """NN-14.6."""
    old, new = Message("t", b"1", 1), Message("t", b"2", 1, retain=True)
    live = [sent("s", old, 1), sent("s", new, 2)]
    again = sent("s", new, 3, retain=True, is_retained=True)
    two_of_a_topic(old, new).step(ConnectionWritable("s"), *live, again)
    with pytest.raises(Disagreement) as found:
        two_of_a_topic(old, new).step(ConnectionWritable("s"), *live)
    assert found.value.rule == "MQTT-3.3.1-9"


KEPT, LIVE = Message("t", b"1", 1, retain=True), Message("t", b"2", 1)
LATE = sent("s", KEPT, 3, retain=True, is_retained=True)


class RetainedLate(Broken):
    """An old value overwrites the new one."""

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return [*actions, LATE] if isinstance(event, ConnectionWritable) else actions


def test_a_retained_message_does_not_follow_a_newer_live_one() -> None:
    """NN-14.6."""
    judge = Judge(RetainedLate())
    judge.feed(ClientConnected("s", "s"), 0.0)
    judge.feed(SubscribeReceived("s", 1, (Subscription("t", 1),)), 0.0)
    judge.feed(ConnectionCongested("s"), 0.0)
    for message in (KEPT, LIVE):
        judge.feed(MessagePublished(message), 0.0)
    judge.feed(SubscriptionsAdded("s", (Subscription("t", 1),)), 0.0)
    with pytest.raises(Disagreement) as found:
        judge.feed(ConnectionWritable("s"), 0.0)
    assert found.value.rule == "NN-14.6"


def test_a_stranger_may_send_the_older_retained_message_last_but_once() -> None:
    """NN-14.6 is a choice."""
    live = [sent("s", KEPT, 1), sent("s", LIVE, 2)]
    two_of_a_topic(KEPT, LIVE).step(ConnectionWritable("s"), *live)
    two_of_a_topic(KEPT, LIVE).step(ConnectionWritable("s"), *live, LATE)
    with pytest.raises(Disagreement) as found:
        two_of_a_topic(KEPT, LIVE).step(
            ConnectionWritable("s"), *live, LATE, evolve(LATE, packet_id=4)
        )
    assert found.value.rule == "MQTT-4.4.0-1"  # it is in flight


@pytest.mark.parametrize("gap", [0.0, 0.5])
def test_store_sends_the_newer_retained_message_whose_live_copy_was_dropped(gap: float) -> None:
    limits = SessionLimits(maximum_queued_messages=1, overflow=OverflowPolicy.DROP_NEWEST)
    judge = Judge(SessionStore(limits=limits), limits=limits)
    judge.feed(ClientConnected("s", "s"), 0.0)
    judge.feed(SubscribeReceived("s", 1, (Subscription("t", 1),)), 0.0)
    judge.feed(ConnectionCongested("s"), 0.0)
    judge.feed(MessagePublished(Message("t", b"old", 1)), 1.0)
    judge.feed(MessagePublished(Message("t", b"new", 1, True)), 1.0 + gap)
    judge.feed(SubscribeReceived("s", 2, (Subscription("t", 1),)), 2.0)
    step = judge.feed(ConnectionWritable("s"), 2.0)
    assert [each.delivery.message.payload for each in step.actions] == [b"old", b"new"]


OLDER, NEWER = Message("t", b"1", 1), Message("t", b"2", 1)


def sent_again_and_called_up(kept: Message) -> tuple[Table, list[SendPublish]]:
    """One of two messages is retained, the other in flight when the connection is lost."""
    table = Table()
    table.connect("s")
    table.subscribe("s", Subscription("t", 1))
    retained = evolve(kept, retain=True)
    if kept is OLDER:
        table.step(MessagePublished(retained), sent("s", retained, 9, retain=False))
        table.step(PubackReceived("s", 9))
        table.step(MessagePublished(NEWER), sent("s", NEWER, 1))
        outputs = [sent("s", NEWER, 1, dup=True)]
    else:
        table.step(MessagePublished(OLDER), sent("s", OLDER, 1))
        outputs = [sent("s", OLDER, 1, dup=True), sent("s", retained, 2)]
    table.step(ConnectionLost("s"))
    if kept is NEWER:
        table.step(MessagePublished(retained))
    table.step(SubscriptionsAdded("s", (Subscription("t", 1),)))
    return table, [*outputs, sent("s", retained, 3, retain=True, is_retained=True)]


def test_what_is_older_than_a_message_sent_again_need_not_follow_it() -> None:
    """NN-14.6."""
    for count in (1, 2):
        table, outputs = sent_again_and_called_up(OLDER)
        table.connect("s", after=outputs[:count])


def test_what_is_newer_than_a_message_sent_again_is_owed() -> None:
    table, outputs = sent_again_and_called_up(NEWER)
    table.connect("s", after=outputs)
    table, outputs = sent_again_and_called_up(NEWER)
    with pytest.raises(Disagreement) as found:
        table.connect("s", after=outputs[:2])
    assert found.value.rule == "MQTT-3.3.1-9"


@pytest.mark.parametrize("gap", [0.0, 0.5])
@pytest.mark.parametrize("kept", [OLDER, NEWER])
def test_store_and_model_agree_on_what_follows_a_message_sent_again(
    kept: Message, gap: float
) -> None:
    judge = Judge(SessionStore())
    connect = ClientConnected("s", "s", clean_start=False, session_expiry_interval=100)
    judge.feed(connect, 0.0)
    judge.feed(SubscribeReceived("s", 1, (Subscription("t", 1),)), 0.0)
    for number, message in enumerate((OLDER, NEWER)):
        judge.feed(MessagePublished(evolve(message, retain=message is kept)), number * gap)
        if number == 0:
            judge.feed(ConnectionLost("s"), 0.0)
    judge.feed(SubscriptionsAdded("s", (Subscription("t", 1),)), 1.0)
    judge.feed(connect, 1.0)
    judge.pass_time(1.0)


@pytest.mark.parametrize("clients", ["bc", "cb"])
@pytest.mark.parametrize("topics", ["xy", "yx", "xx"])
@pytest.mark.parametrize("most", [1, 2])
def test_of_wills_due_at_once_one_makes_another_give_way(
    most: int, topics: str, clients: str
) -> None:
    """NN-14.2: one of QoS 0 gives way, and may be set anew by the next will of its topic."""
    limits = SessionLimits(maximum_retained_messages=most, maximum_retained_bytes=3 * most)
    judge = Judge(SessionStore(limits=limits), limits=limits)
    judge.feed(MessagePublished(Message("x", b"_", 0, retain=True)), 0.0)
    for name, topic_name in zip(clients, topics, strict=True):
        will = Message(topic_name, b"_" if topic_name == "x" else b"..", 0, retain=True)
        judge.feed(ClientConnected(name, name, 4, keep_alive=2, will=Will(will)), 0.0)
    judge.pass_time(5.0)
    assert judge.model.retained.keys() == {each.topic_name for each in judge.subject.retained()}


@pytest.mark.parametrize("clients", ["bc", "cb"])
def test_what_expires_when_wills_are_due_is_gone_before_or_after_them(clients: str) -> None:
    limits = SessionLimits(maximum_retained_messages=1)
    judge = Judge(SessionStore(limits=limits), limits=limits)
    judge.feed(MessagePublished(Message("u", b"old", 1, True, 3)), 0.0)
    for name, payload in zip(clients, (b"set", b""), strict=True):
        will = Will(Message("u", payload, 1, retain=True))
        judge.feed(ClientConnected(name, name, 4, keep_alive=2, will=will), 0.0)
    judge.pass_time(3.0)
    kept = {each.topic_name for each in judge.subject.retained()}
    assert judge.model.retained.keys() == kept
    assert not any(each.doubtful for each in judge.model.retained.values())


def test_of_two_equal_messages_the_newer_one_is_dropped_for_who_is_away() -> None:
    limits = SessionLimits(queue_qos0=False)
    judge = Judge(SessionStore(limits=limits), limits=limits)
    same = Message("t", b"same", 0)
    judge.feed(ClientConnected("s", "s", session_expiry_interval=100), 0.0)
    judge.feed(SubscribeReceived("s", 1, (Subscription("t"),)), 0.0)
    judge.feed(ConnectionCongested("s"), 0.0)
    judge.feed(MessagePublished(same), 0.0)
    judge.feed(ConnectionLost("s"), 0.0)
    step = judge.feed(MessagePublished(same), 1.0)
    assert MessageDropped("s", step.notices[0].delivery, DropReason.QOS0_OFFLINE) in step.notices


def test_a_store_that_has_told_nothing_yet_is_not_asked_to_tell_what_may_be_gone() -> None:
    """NN-9.4: a message that expires at once removed it, as this library does."""
    judge = Judge(SessionStore())
    judge.feed(MessagePublished(Message("t", b"1", 1, True, 4)), 0.0)
    judge.feed(MessagePublished(Message("t", b"2", 1, True, 0)), 0.0)
    judge.feed(ClientConnected("p", "p"), 0.0)
    judge.pass_time(4.0)


class Silent(Broken):
    """A store that tells nothing but what it sends, as a broker behind a socket does."""

    real_time = True

    def tell(self, notices: list[Notice]) -> list[Notice]:
        return []


@pytest.mark.parametrize("subject", [SessionStore, Silent])
@pytest.mark.parametrize("clients", ["bc", "cb"])
@pytest.mark.parametrize(
    "wills",
    [
        (Message("t", b"set", 1, True), Message("t", b"", 1, True)),
        (Message("t", b"set", 1, True), Message("x", b"", 1, True)),
        (Message("x", b"set", 0, True), Message("t", b"set", 1, True)),
        (Message("x", b"set", 1, True), Message("x", b"too", 1, True)),
    ],
)
@pytest.mark.parametrize("qos", [0, 1])
def test_of_wills_at_once_one_makes_room_for_another(
    qos: int, wills: tuple[Message, ...], clients: str, subject: Any
) -> None:
    """Who came first is told by notices, and is open where there are none."""
    limits = SessionLimits(maximum_retained_messages=1)
    judge = Judge(subject(limits=limits), limits=limits)
    judge.feed(MessagePublished(Message("x", b"old", qos, retain=True)), 0.0)
    for name, will in zip(clients, wills, strict=True):
        judge.feed(ClientConnected(name, name, 4, will=Will(will)), 0.0)
    judge.feed(ServerStopping(), 1.0)
    store = judge.subject if subject is SessionStore else judge.subject.store
    if subject is SessionStore:
        assert judge.model.retained.keys() == {each.topic_name for each in store.retained()}
    judge.feed(ClientConnected("p", "p"), 1.0)
    judge.feed(SubscribeReceived("p", 1, (Subscription("#", 1),)), 1.0)
    step = judge.feed(PublishReceived("p", Message("u", b"new", 1, True), 1), 1.0)
    refused = SendPuback("p", 1, ReasonCode.QUOTA_EXCEEDED) in step.actions
    assert refused is ("u" not in {each.topic_name for each in store.retained()})
