"""The watch lets the core pass, and catches each kind of fault in a stream made by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from mqtt_sessions import (
    Action,
    ClientConnected,
    CloseConnection,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    ConnectReturnCode,
    Delivery,
    DisconnectReceived,
    DropReason,
    EndReason,
    Event,
    ExpiryPolicy,
    InboundQos2TimedOut,
    LimitsChanged,
    MalformedPacketReceived,
    Message,
    MessageDropped,
    MessagePublished,
    Notice,
    Outcome,
    OverlapPolicy,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    QueuePurged,
    ReasonCode,
    RetainedMessageDropped,
    RouteMessage,
    SendConnack,
    SendDisconnect,
    SendPingresp,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
    ServerOptions,
    SessionCreated,
    SessionDiscarded,
    SessionEnded,
    SessionExpirySet,
    SessionLimits,
    SessionParked,
    SessionResumed,
    SessionStore,
    SessionTakenOver,
    SubscribeReceived,
    Subscription,
    SubscriptionsAdded,
    SubscriptionsRemoved,
    UnsubscribeReceived,
    Will,
    WillDiscarded,
    WillPublished,
    WillRevoked,
    WillScheduled,
)
from mqtt_sessions.testing.invariants import Violation, Watch
from tests.core.histories import CLIENTS, FREQUENT, LIMITS, OPERATIONS, Life

OK = ReasonCode.SUCCESS


class Watched:
    """A store whose every step is judged."""

    def __init__(self, store: SessionStore, watch: Watch) -> None:
        self.store = store
        self.watch = watch

    def handle(self, event: Event, now: float) -> Outcome:
        outcome = self.store.handle(event, now)
        self.watch.step(event, now, outcome, self.store.next_deadline_at)
        return outcome

    def handle_timeout(self, now: float, limit: int | None = None) -> Outcome:
        outcome = self.store.handle_timeout(now, limit)
        limited = limit is not None
        self.watch.step(None, now, outcome, self.store.next_deadline_at, limited=limited)
        return outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def __contains__(self, client_id: str) -> bool:
        return client_id in self.store

    def __getitem__(self, client_id: str) -> Any:
        return self.store[client_id]


@pytest.mark.parametrize("seed", range(60))
def test_the_core_breaks_no_invariant(seed: int) -> None:
    """Late timers, slices, hosts that meddle, and clients that break rules."""
    chance = random.Random(seed)
    names = (*OPERATIONS, *FREQUENT)
    life = Life(retry_interval=None)
    # begin anew with a watch that has seen everything
    world = life.world
    policy = world.store._settings.policy
    store = SessionStore(policy, LIMITS)
    world.store = Watched(store, Watch(policy, LIMITS))  # type: ignore[assignment]
    life.known.clear()
    for _ in range(300):
        life.step((chance.choice(names), chance.choice(CLIENTS), *chance.choices(range(12), k=2)))
    assert len(world.store.watch.sessions) == len(store)  # type: ignore[attr-defined]


# ---------------------------------------------------------------- streams made by hand


class Stream:
    """A watch, and steps that are written down instead of made by a store."""

    def __init__(
        self,
        policy: ExpiryPolicy | None = None,
        limits: SessionLimits | None = None,
        options: ServerOptions | None = None,
    ) -> None:
        self.watch = Watch(policy, limits, options)
        self.now = 100.0

    def ok(
        self, event: Event | None, *what: Action | Notice, next_at: float | None = None
    ) -> Stream:
        """A step without a fault; its next deadline, if nothing is said, is early."""
        notices = tuple(each for each in what if type(each).__module__.endswith("notices"))
        actions = tuple(each for each in what if not type(each).__module__.endswith("notices"))
        if next_at is None:  # early is harmless, but not due after all was done
            next_at = self.now if event is not None else math.nextafter(self.now, math.inf)
        outcome = Outcome((), actions, notices)  # type: ignore[arg-type]
        self.watch.step(event, self.now, outcome, next_at)
        return self

    def bad(self, rule: str, event: Event | None, *what: Action | Notice, **more: Any) -> None:
        """A step that breaks this rule."""
        with pytest.raises(Violation) as caught:
            self.ok(event, *what, **more)
        assert caught.value.rule == rule, str(caught.value)
        assert caught.value.detail in str(caught.value)

    # ------------------------------------------------------------ common steps

    def connect(
        self, connection: int = 1, client_id: str = "s", *what: Action | Notice, **fields: Any
    ) -> Stream:
        """CONNECT of a new session."""
        version = fields.get("protocol_version", 5)
        if version == 5:
            fields.setdefault("session_expiry_interval", 60)
        code = OK if version == 5 else ConnectReturnCode.ACCEPTED
        event = ClientConnected(connection, client_id, **{"clean_start": False, **fields})
        return self.ok(
            event, *what, SendConnack(connection, False, code), SessionCreated(client_id)
        )

    def resume(
        self, connection: int = 9, client_id: str = "s", *what: Action | Notice, **fields: Any
    ) -> Stream:
        """CONNECT that continues a session."""
        return self.ok(*self.resumed(connection, client_id, **fields), *what)

    def resumed(self, connection: int = 9, client_id: str = "s", **fields: Any) -> tuple[Any, ...]:
        """The same, to be used with `bad`."""
        interval = 60 if fields.get("protocol_version", 5) == 5 else None
        fields = {"clean_start": False, "session_expiry_interval": interval, **fields}
        event = ClientConnected(connection, client_id, **fields)
        return event, SendConnack(connection, True, OK), SessionResumed(client_id)

    def subscribe(self, topic_filter: str = "t", qos: int = 2, **fields: Any) -> Stream:
        """SUBSCRIBE on connection 1."""
        wanted = (Subscription(topic_filter, qos, **fields),)
        return self.ok(SubscribeReceived(1, 5, wanted), SendSuback(1, 5, (ReasonCode(qos),)))

    def lose(self, connection: int = 1, client_id: str = "s", interval: float = 60) -> Stream:
        """The connection ends, the session stays."""
        return self.ok(ConnectionLost(connection), SessionParked(client_id, self.now + interval))


def message(payload: str = "m", qos: int = 2, topic_name: str = "t", **fields: Any) -> Message:
    return Message(topic_name, payload.encode(), qos, **fields)


def delivery(payload: str = "m", qos: int = 2, **fields: Any) -> Delivery:
    """As the host published it at instant 100."""
    fields = {"received_at": 100.0, **fields}
    made = fields.pop("message", None) or message(payload, qos)
    return Delivery(made, qos, **fields)


def sent(
    payload: str = "m", qos: int = 2, packet_id: int | None = 1, connection: int = 1, **fields: Any
) -> SendPublish:
    dup = fields.pop("dup", False)
    told = fields.pop("told", None)
    return SendPublish(connection, delivery(payload, qos, **fields), packet_id, dup, told)


def published(payload: str = "m", qos: int = 2, **fields: Any) -> MessagePublished:
    return MessagePublished(message(payload, qos, **fields))


def dropped(reason: DropReason, payload: str = "m", qos: int = 2, **fields: Any) -> MessageDropped:
    return MessageDropped("s", delivery(payload, qos, **fields), reason)


def subscriber(**fields: Any) -> Stream:
    """Connection 1 is that of a session subscribed to `t`."""
    settings = {
        name: fields.pop(name) for name in ("policy", "limits", "options") if name in fields
    }
    return Stream(**settings).connect(**fields).subscribe()


def in_flight(**fields: Any) -> Stream:
    """... that was sent a QoS 2 message as 1 and a QoS 1 message as 2."""
    stream = subscriber(**fields)
    stream.ok(published(), sent())
    return stream.ok(published("n", 1), sent("n", 1, 2))


# ---------------------------------------------------------------- receiving: acknowledgements


def test_a_repeat_is_not_handed_on() -> None:
    stream = subscriber().connect(2, "p")
    event = PublishReceived(2, message(), 7)
    stream.ok(event, sent(publisher="p"), SendPubrec(2, 7, OK))
    stream.ok(event, SendPubrec(2, 7, OK))
    stream.bad("MQTT-4.3.3-10", event, sent(packet_id=2, publisher="p"), SendPubrec(2, 7, OK))


def test_a_repeat_is_not_refused() -> None:
    stream = subscriber().connect(2, "p")
    event = PublishReceived(2, message(topic_name="u"), 7)
    stream.ok(event, SendPubrec(2, 7, OK))
    code = ReasonCode.PACKET_IDENTIFIER_IN_USE
    stream.bad("MQTT-4.3.3-10", event, SendPubrec(2, 7, code))
    stream.bad("MQTT-4.3.3-10", event)


@pytest.mark.parametrize(("qos", "rule"), [(1, "MQTT-4.3.2-4"), (2, "MQTT-4.3.3-8")])
def test_a_publish_is_acknowledged(qos: int, rule: str) -> None:
    Stream().connect(2, "p").bad(rule, PublishReceived(2, message(qos=qos), 7))


def test_an_acknowledgement_answers_something() -> None:
    stream = Stream().connect(2, "p")
    ping = PingReceived(2, False)
    stream.bad("MQTT-2.2.1-5", ping, SendPuback(2, 7, OK))
    stream = Stream().connect(2, "p")
    stream.bad("MQTT-2.2.1-6", ping, SendSuback(2, 7, (OK,)))
    stream.bad("MQTT-2.2.1-6", ping, SendUnsuback(2, 7, (OK,)))
    stream.bad("host", ping, SendPingresp(2))


@pytest.mark.parametrize(("qos", "rule"), [(1, "MQTT-3.4.2-1"), (2, "MQTT-3.5.2-1")])
def test_an_acknowledgement_has_a_code_of_its_own(qos: int, rule: str) -> None:
    code = ReasonCode.TOPIC_FILTER_INVALID
    answer = (SendPuback, SendPubrec)[qos - 1](2, 7, code)
    Stream().connect(2, "p").bad(rule, PublishReceived(2, message(qos=qos), 7), answer)


def test_an_old_client_cannot_be_told_an_error() -> None:
    stream = Stream().connect(2, "p", protocol_version=4)
    code = ReasonCode.QUOTA_EXCEEDED
    event = PublishReceived(2, message(qos=1), 7)
    stream.bad("3.1.1 MQTT-4.8.0-2", event, SendPuback(2, 7, code))


def test_a_refused_message_is_not_handed_on() -> None:
    stream = subscriber().connect(2, "p")
    code = ReasonCode.NOT_AUTHORIZED
    event = PublishReceived(2, message(), 7, False, code)
    stream.bad("NN-12.3", event, sent(publisher="p"), SendPubrec(2, 7, code))


def test_identifiers_are_held_until_pubrel_whatever_happens_to_connections() -> None:
    stream = Stream().connect(2, "p")
    stream.ok(PublishReceived(2, message(), 7), SendPubrec(2, 7, OK)).lose(2, "p")
    stream.watch.restored()
    stream.resume(3, "p")
    code = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
    stream.bad("MQTT-4.3.3-11", PubrelReceived(3, 7), SendPubcomp(3, 7, code))


def test_pubcomp_says_what_is_known() -> None:
    stream = Stream().connect(2, "p")
    stream.bad("NN-7.4", PubrelReceived(2, 7), SendPubcomp(2, 7, OK))


def test_pubcomp_has_two_codes() -> None:
    code = ReasonCode.UNSPECIFIED_ERROR
    Stream().connect(2, "p").bad("MQTT-3.7.2-1", PubrelReceived(2, 7), SendPubcomp(2, 7, code))


def test_pubrel_is_answered() -> None:
    Stream().connect(2, "p").bad("MQTT-4.3.3-11", PubrelReceived(2, 7))


def test_an_identifier_is_not_forgotten_before_its_time() -> None:
    stream = Stream(ExpiryPolicy(inbound_qos2_interval=5)).connect(2, "p")
    stream.ok(PublishReceived(2, message(), 7), SendPubrec(2, 7, OK))
    stream.now += 4.9
    stream.bad("MQTT-4.3.3-10", None, InboundQos2TimedOut("p", 7))


def test_an_identifier_may_be_forgotten_and_taken_anew_in_one_step() -> None:
    stream = Stream(ExpiryPolicy(inbound_qos2_interval=5)).connect(2, "p")
    stream.ok(PublishReceived(2, message(), 7), SendPubrec(2, 7, OK))
    stream.now += 5
    event = PublishReceived(2, message("n"), 7)
    stream.ok(event, SendPubrec(2, 7, OK), InboundQos2TimedOut("p", 7))
    stream.ok(PubrelReceived(2, 7), SendPubcomp(2, 7, OK))


# ---------------------------------------------------------------- sending


def test_a_copy_has_the_smaller_qos() -> None:
    subscriber().bad("NN-12.3", published(qos=1), sent(message=message(qos=1)))


def test_nobody_gets_what_was_not_published() -> None:
    subscriber().bad("NN-12.3", PingReceived(1, False), sent("x"))


def test_nobody_gets_a_second_copy() -> None:
    copy = sent(qos=0, packet_id=None)
    subscriber().bad("NN-12.3", published(qos=0), copy, copy)
    in_flight().bad("MQTT-3.3.1-1", PingReceived(1, False), sent(packet_id=3))


def test_the_publisher_gets_no_copy_it_did_not_want() -> None:
    stream = Stream().connect().subscribe(no_local=True)
    event = PublishReceived(1, message(qos=1), 3)
    answer = SendPuback(1, 3, OK)
    stream.bad("NN-12.3", event, sent(qos=1, packet_id=1, publisher="s"), answer)


def test_merged_copies_carry_all_identifiers() -> None:
    stream = subscriber().subscribe("#", 1, subscription_id=4)
    stream.bad("MQTT-3.3.4-4", published(), sent())


def test_each_match_may_make_a_copy() -> None:
    stream = subscriber(options=ServerOptions(overlap=OverlapPolicy.EACH))
    stream.subscribe("#", 2, subscription_id=4)
    stream.ok(published(), sent(subscription_ids=(4,)), sent(packet_id=2))
    stream.bad("MQTT-4.5.0-1", published("n"), sent("n", packet_id=3))


def test_retain_is_kept_or_not_as_the_subscription_says() -> None:
    retained = message(retain=True)
    event = MessagePublished(retained)
    subscriber().bad("MQTT-3.3.1-12", event, sent(message=retained, retain=True))
    stream = Stream().connect().subscribe(retain_as_published=True)
    stream.bad("MQTT-3.3.1-13", event, sent(message=retained))
    stream = Stream().connect(protocol_version=4)
    stream.subscribe(retain_as_published=True)
    stream.bad("3.1.1 MQTT-3.3.1-9", event, sent(message=retained, retain=True))


def test_the_interval_left_is_told() -> None:
    expiring = message(message_expiry_interval=10)
    event = MessagePublished(expiring)
    fields: dict[str, Any] = {"message": expiring, "expires_at": 110.0}
    subscriber().bad("MQTT-3.3.2-6", event, sent(**fields))
    subscriber().bad("MQTT-3.3.2-6", event, sent(told=9, **fields))
    stream = subscriber().lose()
    stream.ok(event)
    stream.now += 3.5
    stream.ok(*stream.resumed(), sent(told=7, connection=9, **fields))
    stream = subscriber().lose()
    stream.ok(event)
    stream.now += 3.5
    stream.bad("MQTT-3.3.2-6", *stream.resumed(), sent(told=10, connection=9, **fields))


def test_qos_0_has_no_identifier_and_no_dup() -> None:
    stream = subscriber()
    stream.bad("MQTT-2.2.1-2", published(qos=0), sent(qos=0, packet_id=3))
    stream = subscriber()
    stream.bad("MQTT-3.3.1-2", published(qos=0), sent(qos=0, packet_id=None, dup=True))


@pytest.mark.parametrize("packet_id", [None, 0, 65_536])
def test_qos_1_and_2_have_one(packet_id: int | None) -> None:
    subscriber().bad("MQTT-2.2.1-4", published(), sent(packet_id=packet_id))


def test_an_identifier_in_flight_is_not_given_again() -> None:
    in_flight().bad("MQTT-2.2.1-4", published("o"), sent("o", packet_id=2))


def test_the_window_is_not_exceeded() -> None:
    in_flight(receive_maximum=2).bad("MQTT-4.9.0-2", published("o"), sent("o", packet_id=3))
    stream = in_flight(limits=SessionLimits(maximum_send_window=2))
    stream.bad("MQTT-4.9.0-2", published("o"), sent("o", packet_id=3))


def test_a_pubrec_gives_no_unit_back() -> None:
    stream = in_flight(receive_maximum=2)
    stream.ok(PubrecReceived(1, 1), SendPubrel(1, 1, OK))
    stream.ok(published("o"))
    stream.bad("MQTT-4.9.0-2", published("p"), sent("o", packet_id=3))


def test_a_resumed_pubrel_phase_holds_no_unit() -> None:
    stream = in_flight(receive_maximum=2)
    stream.ok(PubrecReceived(1, 1), SendPubrel(1, 1, OK)).lose()
    stream.ok(published("o"))
    again = sent("n", 1, 2, 9, dup=True)
    event, *answers = stream.resumed(receive_maximum=2)
    stream.bad("MQTT-4.5.0-1", event, *answers, SendPubrel(9, 1, OK), again)


def test_nothing_waits_while_there_is_room() -> None:
    subscriber().bad("MQTT-4.5.0-1", published())
    stream = in_flight(receive_maximum=2)
    stream.ok(published("o"))
    stream.bad("MQTT-4.5.0-1", PubackReceived(1, 2))


def test_congestion_holds_everything_back() -> None:
    stream = subscriber().ok(ConnectionCongested(1))
    stream.ok(published())
    stream.bad("MQTT-4.5.0-1", ConnectionWritable(1))
    stream = subscriber().ok(ConnectionCongested(1))
    stream.bad("host", published(qos=0), sent(qos=0, packet_id=None))


def test_order_is_kept() -> None:
    stream = subscriber().ok(ConnectionCongested(1))
    stream.ok(published("a")).ok(published("b"))
    stream.bad("MQTT-4.6.0-5", ConnectionWritable(1), sent("b"), sent("a", packet_id=2))


def test_publishers_topics_and_qos_are_no_order_to_each_other() -> None:
    stream = subscriber().ok(ConnectionCongested(1))
    stream.ok(published("a")).ok(published("b", 0))
    stream.ok(MessagePublished(message("c"), "somebody"))
    late = sent("c", packet_id=1, publisher="somebody")
    stream.ok(ConnectionWritable(1), late, sent("b", 0, None), sent("a", packet_id=2))


def test_what_looks_alike_is_told_apart() -> None:
    stream = subscriber().ok(ConnectionCongested(1))
    stream.ok(published("a"))
    stream.ok(MessagePublished(message("a", message_expiry_interval=9), "somebody"))
    stream.now += 9
    copy = delivery("a", publisher="somebody", expires_at=109.0)
    stream.ok(None, MessageDropped("s", copy, DropReason.EXPIRED))
    stream.ok(ConnectionWritable(1), sent("a"))


# ---------------------------------------------------------------- sending again


def test_what_was_in_flight_comes_again() -> None:
    stream = in_flight().lose()
    stream.bad("NN-8.4", *stream.resumed())


def test_it_comes_with_dup() -> None:
    stream = in_flight().lose()
    stream.bad("MQTT-2.2.1-4", *stream.resumed(), sent(connection=9))


def test_it_comes_in_order_of_first_sending() -> None:
    stream = in_flight().lose()
    stream.bad("NN-15.3", *stream.resumed(), sent("n", 1, 2, 9, dup=True))
    stream = in_flight().lose()
    old = stream.resumed(protocol_version=4)
    stream.bad("3.1.1 MQTT-4.6.0-1", *old, sent("n", 1, 2, 9, dup=True))


def test_it_comes_before_anything_new() -> None:
    stream = in_flight().lose().ok(published("o"))
    stream.bad("NN-8.3", *stream.resumed(), sent("o", packet_id=3, connection=9))


def test_it_comes_under_the_identifier_that_it_had() -> None:
    stream = in_flight().lose()
    stream.bad("MQTT-4.4.0-1", *stream.resumed(), sent("x", 2, 1, 9, dup=True))
    stream = in_flight().lose()
    stream.bad("MQTT-3.3.1-1", *stream.resumed(), sent("m", 2, 8, 9, dup=True))


def test_it_comes_once_for_each_connection() -> None:
    in_flight().bad("MQTT-4.4.0-1", PingReceived(1, False), sent(dup=True))


def test_an_old_client_may_be_sent_it_again() -> None:
    stream = subscriber(policy=ExpiryPolicy(retry_interval=3), protocol_version=4)
    stream.ok(published(), sent())
    stream.ok(None, sent(dup=True))
    stream.ok(PubrecReceived(1, 1), SendPubrel(1, 1, OK))
    stream.ok(None, SendPubrel(1, 1, OK))


def test_it_comes_up_to_the_new_window() -> None:
    stream = in_flight().lose()
    both = (sent(connection=9, dup=True), sent("n", 1, 2, 9, dup=True))
    stream.bad("MQTT-4.9.0-2", *stream.resumed(receive_maximum=1), *both)


def test_no_publish_after_pubrec() -> None:
    stream = in_flight().ok(PubrecReceived(1, 1), SendPubrel(1, 1, OK)).lose()
    again = sent(connection=9, dup=True)
    stream.bad("MQTT-4.3.3-6", *stream.resumed(), SendPubrel(9, 1, OK), again)


def test_pubrels_come_again() -> None:
    stream = in_flight().ok(PubrecReceived(1, 1), SendPubrel(1, 1, OK)).lose()
    stream.bad("MQTT-4.4.0-1", *stream.resumed(), sent("n", 1, 2, 9, dup=True))


@pytest.mark.parametrize(("version", "rule"), [(5, "NN-8.4b"), (4, "3.1.1 MQTT-4.6.0-4")])
def test_pubrels_come_in_order_of_their_pubrecs(version: int, rule: str) -> None:
    stream = subscriber().ok(published("a"), sent("a")).ok(published("b"), sent("b", packet_id=2))
    stream.ok(PubrecReceived(1, 2), SendPubrel(1, 2, OK))
    stream.ok(PubrecReceived(1, 1), SendPubrel(1, 1, OK)).lose()
    both = (SendPubrel(9, 1, OK), SendPubrel(9, 2, OK))
    stream.bad(rule, *stream.resumed(protocol_version=version), *both)


def test_nobody_asked_for_this_pubrel() -> None:
    in_flight().bad("MQTT-4.4.0-1", PingReceived(1, False), SendPubrel(1, 1, OK))


def test_pubrec_is_answered_by_what_is_known() -> None:
    in_flight().bad("MQTT-4.3.3-4", PubrecReceived(1, 1))
    code = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
    in_flight().bad("NN-7.5", PubrecReceived(1, 1), SendPubrel(1, 1, code))
    in_flight().bad("NN-7.5", PubrecReceived(1, 9), SendPubrel(1, 9, OK))


@pytest.mark.parametrize(
    "event",
    [PubackReceived(1, 1), PubrecReceived(1, 2), PubcompReceived(1, 1), MalformedPacketReceived(1)],
)
def test_a_fault_closes_the_connection(event: Event) -> None:
    in_flight().bad("MQTT-4.13.1-1", event)
    in_flight(protocol_version=4).bad("3.1.1 MQTT-4.8.0-1", event)


@pytest.mark.parametrize("version", [4, 5])
def test_a_connection_is_closed_by_the_rule_that_says_so(version: int) -> None:
    stream = Stream().connect(protocol_version=version)
    stream.bad("MQTT-3.1.0-2", ClientConnected(1, "s", version))
    Stream().connect(protocol_version=version).bad("NN-5.1", DisconnectReceived(1))
    stream = Stream().connect(protocol_version=version, keep_alive=10)
    stream.now += 15
    stream.bad("MQTT-3.1.2-22", ConnectionCongested(1))


def test_a_disconnect_that_may_not_bring_an_interval_is_a_fault() -> None:
    stream = Stream().connect(session_expiry_interval=0)
    stream.bad("MQTT-4.13.1-1", DisconnectReceived(1, session_expiry_interval=5))


# ---------------------------------------------------------------- drops


def test_a_refusal_is_told_as_a_drop() -> None:
    code = ReasonCode.QUOTA_EXCEEDED
    event = PubackReceived(1, 2, code)
    in_flight().ok(event, dropped(DropReason.REFUSED_BY_CLIENT, "n", 1))
    in_flight().bad("host", event)
    in_flight().bad("MQTT-4.4.0-2", PubackReceived(1, 2), dropped(DropReason.REFUSED_BY_CLIENT))
    event = PubrecReceived(1, 1, code)
    in_flight().ok(event, dropped(DropReason.REFUSED_BY_CLIENT))
    stream = in_flight().ok(PubrecReceived(1, 1), SendPubrel(1, 1, OK))
    stream.ok(event)


def test_nothing_is_dropped_twice() -> None:
    stream = subscriber().lose().ok(published())
    event = QueuePurged("s")
    stream.ok(event, dropped(DropReason.PURGED))
    stream.bad("host", event, dropped(DropReason.PURGED))
    nobody = MessageDropped("x", delivery(), DropReason.PURGED)
    Stream().bad("host", PingReceived(1), nobody)


def waiting(**fields: Any) -> Stream:
    return subscriber(**fields).lose().ok(published())


WRONG_DROPS: dict[str, tuple[Callable[[], Stream], Event | None, DropReason]] = {
    "expired, not so old": (waiting, None, DropReason.EXPIRED),
    "queue not full": (waiting, published("n"), DropReason.QUEUE_FULL),
    "no bound in bytes": (waiting, published("n"), DropReason.BYTES_FULL),
    "QoS 2 while away": (waiting, published("n"), DropReason.QOS0_OFFLINE),
    "too large for nobody": (waiting, published("n"), DropReason.TOO_LARGE),
    "the session goes on": (waiting, published("n"), DropReason.SESSION_ENDED),
    "purged by nobody": (waiting, published("n"), DropReason.PURGED),
    "purged by age": (waiting, QueuePurged("s", None, 99.0), DropReason.PURGED),
    "purged by topic": (waiting, QueuePurged("s", "u"), DropReason.PURGED),
    "begun, full": (in_flight, published("n"), DropReason.QUEUE_FULL),
    "begun, ended": (in_flight, published("n"), DropReason.SESSION_ENDED),
}
RULE_OF_DROP = {"expired, not so old": "MQTT-3.3.2-5", "too large for nobody": "MQTT-3.1.2-24"}


@pytest.mark.parametrize("name", WRONG_DROPS)
def test_a_drop_needs_its_reason(name: str) -> None:
    make, event, reason = WRONG_DROPS[name]
    rule = RULE_OF_DROP.get(name, "MQTT-4.5.0-1" if make is waiting else "MQTT-4.4.0-1")
    rule = "MQTT-4.5.0-1" if reason is DropReason.SESSION_ENDED else rule
    make().bad(rule, event, dropped(reason))


def test_no_local_needs_its_reason() -> None:
    event = PublishReceived(1, message(qos=0))
    own = dropped(DropReason.NO_LOCAL, qos=0, publisher="s")
    Stream().connect().subscribe(no_local=True).ok(event, own)
    subscriber().bad("MQTT-3.8.3-3", event, own)


def test_what_has_begun_does_not_expire() -> None:
    expiring = message(message_expiry_interval=1)
    fields: dict[str, Any] = {"message": expiring, "expires_at": 101.0}

    def begun(qos: int, **settings: Any) -> Stream:
        stream = Stream(**settings).connect().subscribe("t", qos)
        stream.ok(MessagePublished(expiring), sent(qos=qos, told=1, **fields)).lose()
        stream.now += 2
        return stream

    stream = begun(1)
    event, *answers = stream.resumed()
    gone = [dropped(DropReason.EXPIRED, qos=qos, **fields) for qos in (0, 1, 2)]
    stream.bad("MQTT-4.3.3-7", event, *answers, gone[1])
    policy = ExpiryPolicy(expire_in_flight=True)
    begun(1, policy=policy).ok(event, *answers, gone[1])
    begun(2, policy=policy).bad("MQTT-4.3.3-7", event, *answers, gone[2])


def test_what_is_too_large_to_be_sent_again() -> None:
    """QoS 1 is over, QoS 2 goes on with PUBREL [NN-8.7]."""
    stream = in_flight().lose()
    gone = (dropped(DropReason.TOO_LARGE), dropped(DropReason.TOO_LARGE, "n", 1))
    event, *answers = stream.resumed(maximum_packet_size=5)
    stream.ok(event, *answers, *gone, SendPubrel(9, 1, OK))
    stream = in_flight().lose()
    stream.bad("MQTT-4.4.0-1", event, *answers, *gone)


def test_expired_messages_are_not_sent() -> None:
    expiring = message(message_expiry_interval=1)
    stream = subscriber().lose().ok(MessagePublished(expiring))
    stream.now += 1
    late = sent(message=expiring, expires_at=101.0, told=1, connection=9)
    stream.bad("MQTT-3.3.2-5", *stream.resumed(), late)


def test_a_queue_has_a_bound() -> None:
    stream = subscriber(limits=SessionLimits(maximum_queued_messages=1)).lose()
    stream.ok(published())
    stream.ok(published("n"), dropped(DropReason.QUEUE_FULL))
    stream.bad("host", published("o"))


def test_limits_may_change() -> None:
    stream = subscriber().lose()
    stream.ok(LimitsChanged(SessionLimits(maximum_queued_messages=0)))
    stream.bad("host", published())


def test_other_drops_that_may_be() -> None:
    limits = SessionLimits(maximum_queued_bytes=3, queue_qos0=False)
    stream = subscriber(limits=limits, maximum_packet_size=9)
    stream.ok(published(), dropped(DropReason.TOO_LARGE))
    stream.lose().ok(published(), dropped(DropReason.BYTES_FULL))
    stream.ok(published(qos=0), dropped(DropReason.QOS0_OFFLINE, qos=0))
    stream.ok(published())
    purge = QueuePurged("s", "t", 101.0)
    stream.ok(purge, dropped(DropReason.PURGED))


# ---------------------------------------------------------------- retained messages


def test_only_what_is_retained_is_called_up() -> None:
    kept = message(retain=True)
    copy = sent(message=kept, retain=True, is_retained=True)
    stream = subscriber()
    stream.bad("MQTT-3.3.1-5", PingReceived(1, False), copy)

    def retaining(qos: int = 2) -> Stream:
        return Stream().ok(MessagePublished(kept)).connect().subscribe("t", qos)

    retaining().ok(None, copy)
    retaining().bad("NN-12.6", None, sent(message=kept, is_retained=True))
    retaining(1).bad("MQTT-3.8.4-8", None, copy)
    stream = retaining().ok(MessagePublished(kept), sent(message=kept))
    cleared = message("", retain=True)
    stream.ok(MessagePublished(cleared), sent(message=cleared, packet_id=2))
    again = sent(message=kept, retain=True, is_retained=True, packet_id=3)
    stream.bad("MQTT-3.3.1-5", None, again)


def test_what_is_called_up_is_sent() -> None:
    kept = message(retain=True)
    copy = sent(message=kept, retain=True, is_retained=True)

    def calling(**fields: Any) -> Stream:
        return Stream().ok(MessagePublished(kept)).connect().subscribe(**fields)

    calling().bad("MQTT-3.3.1-9", None)
    calling(retain_handling=2).ok(None)
    calling(retain_handling=1).subscribe(retain_handling=1).ok(None, copy).ok(None)
    stream = calling(retain_handling=1)
    assert "was not sent retained" in stream.watch.unfinished()[0]
    stream.ok(UnsubscribeReceived(1, 5, ("t",)), SendUnsuback(1, 5, (OK,)))
    assert stream.ok(None).watch.unfinished() == []
    stream = calling().ok(ConnectionCongested(1)).ok(None)
    stream.ok(SubscribeReceived(1, 5, (Subscription("u"),)), SendSuback(1, 5, (OK,)))
    stream.ok(ConnectionWritable(1)).bad("MQTT-3.3.1-9", None)
    gone = MessageDropped("s", copy.delivery, DropReason.TOO_LARGE)
    stream = Stream().ok(MessagePublished(kept)).connect(maximum_packet_size=9).subscribe()
    stream.ok(None, gone).ok(None)


def test_a_retained_message_expires_at_its_time() -> None:
    kept = message(retain=True, message_expiry_interval=5)
    gone = RetainedMessageDropped(kept, DropReason.EXPIRED)
    Stream().ok(MessagePublished(kept)).bad("MQTT-3.3.2-5", None, gone)
    stream = Stream().ok(MessagePublished(kept))
    stream.now += 5
    stream.ok(None, gone)
    stream.bad("MQTT-3.3.1-5", None, gone)
    stream = Stream().ok(MessagePublished(kept))
    stream.now += 5
    stream.bad("MQTT-3.3.2-5", None)
    stream = Stream().ok(MessagePublished(kept))
    stream.now += 5
    stream.ok(MessagePublished(message("n", retain=True)), gone)  # replaced, and it had expired


# ---------------------------------------------------------------- connections


def test_connack_comes_first_and_once() -> None:
    event = ClientConnected(1, "s")
    created, connack = SessionCreated("s"), SendConnack(1, False, OK)
    end = (SendDisconnect(1, ReasonCode.SERVER_BUSY), CloseConnection(1, ReasonCode.SERVER_BUSY))
    Stream().bad("MQTT-3.2.0-1", event, SendPingresp(1), connack, created)
    Stream().bad("MQTT-3.2.0-2", event, connack, connack, created)
    Stream().bad("host", event, connack)
    Stream().bad("MQTT-3.1.4-5", event)
    Stream().bad("3.1.1 MQTT-3.1.4-4", ClientConnected(1, "s", 4))
    Stream().bad("MQTT-3.2.0-1", event, *end, connack)
    Stream().bad("host", event, end[1], connack)
    Stream().bad("host", PingReceived(7), connack)
    stream = Stream()
    stream.ok(event, CloseConnection(1, OK))
    stream.bad("host", PingReceived(1), connack)


def test_connack_has_codes_of_its_version() -> None:
    event = ClientConnected(1, "s", 4)
    refusal = SendConnack(1, False, ReasonCode.NOT_AUTHORIZED)
    Stream().bad("MQTT-3.2.2-8", event, refusal, CloseConnection(1, OK))
    code = ConnectReturnCode.NOT_AUTHORIZED
    Stream().ok(event, SendConnack(1, False, code), CloseConnection(1, OK))
    refusal = SendConnack(1, True, code)
    Stream().bad("MQTT-3.2.2-6", event, refusal, CloseConnection(1, OK))
    Stream().bad("3.1.1 MQTT-3.2.2-5", event, SendConnack(1, False, code))


@pytest.mark.parametrize(
    ("version", "code", "rule"),
    [
        (5, ReasonCode.NOT_AUTHORIZED, "MQTT-3.2.2-7"),
        (4, ConnectReturnCode.NOT_AUTHORIZED, "3.1.1 MQTT-3.2.2-5"),
    ],
)
def test_nothing_but_a_close_follows_a_refusal(
    version: int, code: ReasonCode | ConnectReturnCode, rule: str
) -> None:
    event = ClientConnected(1, "s", version)
    refusal, closed = SendConnack(1, False, code), CloseConnection(1, OK)
    Stream().ok(event, refusal, closed)
    Stream().bad(rule, event, refusal)
    told = SendDisconnect(1, ReasonCode.NOT_AUTHORIZED)
    Stream().bad("MQTT-3.14.0-1", event, refusal, told, closed)
    for packet in (sent(), SendPubrel(1, 1, OK), SendPuback(1, 1, OK), SendPingresp(1)):
        Stream().bad(rule, event, refusal, packet, closed)


def test_connack_tells_whether_a_session_goes_on() -> None:
    stream = Stream().connect().lose()
    event, _, resumed = stream.resumed()
    stream.bad("MQTT-3.2.2-3", event, SendConnack(9, False, OK), resumed)
    event = ClientConnected(1, "s", clean_start=True)
    Stream().bad("MQTT-3.2.2-2", event, SendConnack(1, True, OK), SessionCreated("s"))


def test_nothing_follows_disconnect() -> None:
    told = SendDisconnect(1, ReasonCode.PROTOCOL_ERROR)
    parked = SessionParked("s", 160.0)
    closed = CloseConnection(1, ReasonCode.PROTOCOL_ERROR)
    event = MalformedPacketReceived(1)
    Stream().connect().ok(event, told, closed, parked)
    Stream().connect().bad("MQTT-3.14.4-1", event, told, SendPingresp(1), closed, parked)
    Stream().connect().bad("host", event, told, closed, closed, parked)
    Stream().connect().bad("host", event, told, closed, SendPingresp(1), parked)
    odd = SendDisconnect(1, ReasonCode.TOPIC_ALIAS_INVALID)
    Stream().connect().ok(event, odd, closed, parked)
    odd = SendDisconnect(1, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
    Stream().connect().bad("MQTT-3.14.2-1", event, odd, closed, parked)
    parked = SessionParked("s", 7300.0)
    old = Stream().connect(protocol_version=4)
    old.bad("MQTT-3.14.0-1", event, told, closed, parked)


def test_disconnect_is_not_answered() -> None:
    told, closed = SendDisconnect(1, ReasonCode.UNSPECIFIED_ERROR), CloseConnection(1, OK)
    stream = Stream().connect()
    stream.bad("MQTT-3.14.4-1", DisconnectReceived(1), told, closed, SessionParked("s", 160.0))


def test_disconnect_may_not_raise_the_interval_from_0() -> None:
    stream = Stream().connect(session_expiry_interval=0)
    told, closed = SendDisconnect(1, ReasonCode.PROTOCOL_ERROR), CloseConnection(1, OK)
    ended = SessionEnded("s", EndReason.CONNECTION_CLOSED)
    stream.ok(DisconnectReceived(1, 0, 5), told, closed, ended)


def test_requests_are_answered() -> None:
    wanted = (Subscription("t"),)
    stream = Stream().connect()
    stream.bad("MQTT-3.8.4-1", SubscribeReceived(1, 5, wanted))
    stream.bad("MQTT-3.8.4-6", SubscribeReceived(1, 5, wanted), SendSuback(1, 5, ()))
    odd = SendSuback(1, 5, (ReasonCode.SERVER_BUSY,))
    stream.bad("MQTT-3.9.3-2", SubscribeReceived(1, 5, wanted), odd)
    stream = Stream().connect()
    stream.bad("MQTT-3.10.4-4", UnsubscribeReceived(1, 5, ("t",)))
    stream.bad("MQTT-3.11.3-1", UnsubscribeReceived(1, 5, ("t",)), SendUnsuback(1, 5, ()))
    odd_unsuback = SendUnsuback(1, 5, (ReasonCode.GRANTED_QOS_1,))
    stream.bad("MQTT-3.11.3-2", UnsubscribeReceived(1, 5, ("t",)), odd_unsuback)
    stream.bad("MQTT-3.12.4-1", PingReceived(1))


def test_unsubscribe_ends_what_subscribe_began() -> None:
    stream = subscriber().ok(UnsubscribeReceived(1, 5, ("t",)), SendUnsuback(1, 5, (OK,)))
    stream.bad("NN-12.3", published(), sent())
    stream = subscriber().ok(SubscriptionsAdded("s", (Subscription("u", 0),)))
    stream.ok(SubscriptionsRemoved("s", ("t", "v")))
    stream.ok(
        published(topic_name="u", qos=0),
        SendPublish(
            1, Delivery(message(topic_name="u", qos=0), 0, received_at=100.0), None, False, None
        ),
    )
    stream.bad("NN-12.3", published(), sent())


def test_an_mqtt_31_client_is_not_told_of_refusals() -> None:
    limits = SessionLimits(maximum_subscriptions=1, maximum_filter_levels=2)
    stream = Stream(limits=limits).connect(protocol_version=3)
    filters = ("a/b/c", "a+", "#/a", "a#", "", "$share/g/t", "##", "t", "u", "t")
    event = SubscribeReceived(1, 5, tuple(Subscription(each) for each in filters))
    stream.ok(event, SendSuback(1, 5, (OK,) * len(filters)))
    assert set(stream.watch.sessions["s"].subscriptions) == {"t"}
    fourth = SendSuback(1, 5, (ReasonCode.UNSPECIFIED_ERROR,))
    stream.bad("MQTT-3.9.3-2", SubscribeReceived(1, 5, (Subscription("t"),)), fourth)


def test_a_store_does_not_ask_to_route() -> None:
    Stream().bad("host", published(), RouteMessage(message(), None, "s"))


def test_keep_alive() -> None:
    closed = CloseConnection(1, ReasonCode.KEEP_ALIVE_TIMEOUT)
    told = SendDisconnect(1, ReasonCode.KEEP_ALIVE_TIMEOUT)
    stream = Stream().connect(keep_alive=10)
    stream.now += 14
    stream.bad("MQTT-3.1.2-22", None, told, closed, SessionParked("s", 174.0))
    stream = Stream().connect(keep_alive=10)
    stream.now += 14
    stream.ok(PingReceived(1, False))
    stream.now += 14
    stream.ok(None)
    stream.now += 1
    stream.bad("MQTT-3.1.2-22", None)
    stream = Stream().connect(keep_alive=10)
    stream.now += 15
    stream.bad("MQTT-3.1.2-22", PublishReceived(1, message(qos=0)))
    stream = Stream().connect(keep_alive=10)
    stream.now += 15
    stream.ok(None, told, closed, SessionParked("s", 175.0))
    stream = Stream().connect(keep_alive=10)
    stream.now += 15
    event = SessionExpirySet("s", 5)  # which comes after the keep alive
    stream.ok(event, told, closed, SessionParked("s", 175.0))
    assert stream.watch.sessions["s"].expires_at == 120.0


def test_server_keep_alive_is_in_force() -> None:
    stream = Stream(options=ServerOptions(server_keep_alive=2)).connect()
    stream.now += 3
    stream.bad("MQTT-3.1.2-22", None)


# ---------------------------------------------------------------- sessions


def test_sessions_begin_and_end_one_after_the_other() -> None:
    stream = Stream().connect().lose()
    event, connack, resumed = stream.resumed()
    stream.bad("MQTT-3.1.2-5", event, SendConnack(9, False, OK), SessionCreated("s"))
    clean = ClientConnected(9, "s", clean_start=True)
    stream = Stream().connect().lose()
    stream.bad("MQTT-3.1.2-4", clean, connack, SessionCreated("s"))
    stream = Stream().connect().lose()
    stream.bad("MQTT-3.1.2-4", clean, connack, resumed)
    Stream().bad("MQTT-3.2.2-3", event, connack, resumed)
    Stream().bad("host", PingReceived(1), SessionCreated("s"))
    Stream().bad("host", event, connack, SessionCreated("x"))
    Stream().bad("host", PingReceived(1), SessionEnded("s", EndReason.EXPIRED))
    Stream().bad("host", PingReceived(1), SessionParked("s", None))


def test_a_take_over_closes_the_old_connection() -> None:
    stream = Stream().connect()
    taken = SessionTakenOver("s", 1)
    closed = CloseConnection(1, ReasonCode.SESSION_TAKEN_OVER)
    event, connack, resumed = stream.resumed()
    stream.bad("MQTT-3.1.4-3", event, connack, taken, resumed)
    Stream().connect().bad("MQTT-3.1.4-3", event, connack, resumed)
    told = SendDisconnect(1, ReasonCode.SESSION_TAKEN_OVER)
    Stream().connect().ok(event, told, closed, connack, taken, resumed)


def test_a_session_of_interval_0_ends_with_its_connection() -> None:
    stream = Stream().connect(session_expiry_interval=0)
    stream.bad("NN-1.2", ConnectionLost(1))
    stream = Stream().connect(session_expiry_interval=0)
    event, connack, resumed = stream.resumed()
    closed = CloseConnection(1, ReasonCode.SESSION_TAKEN_OVER)
    told = SendDisconnect(1, ReasonCode.SESSION_TAKEN_OVER)
    stream.bad("NN-3.3", event, told, closed, connack, SessionTakenOver("s", 1), resumed)
    stream = Stream().connect()
    stream.bad("NN-1.1", ConnectionLost(1), SessionEnded("s", EndReason.CONNECTION_CLOSED))


def test_a_session_is_parked_until_its_time() -> None:
    Stream().connect().bad("NN-1.1", ConnectionLost(1), SessionParked("s", 161.0))
    Stream().connect().bad("host", ConnectionLost(1))
    ended = SessionEnded("s", EndReason.EXPIRED)
    stream = Stream().connect().lose()
    stream.now += 59
    stream.bad("NN-1.1", None, ended)
    stream = Stream().connect().lose()
    stream.now += 60
    stream.bad("NN-1.1", None)
    stream = Stream().connect().lose()
    stream.now += 60
    stream.ok(None, ended)
    stream = Stream().connect().lose()
    stream.now += 60
    stream.bad("NN-1.1", *stream.resumed())


def test_a_session_ends_for_a_reason() -> None:
    stream = Stream().connect()
    stream.bad("host", PingReceived(1), SessionEnded("s", EndReason.DISCARDED))
    stream = Stream().connect().lose()
    stream.bad("host", None, SessionEnded("s", EndReason.DISCARDED))
    stream = Stream().connect().lose()
    stream.bad("MQTT-3.1.2-4", None, SessionEnded("s", EndReason.CLEAN_START))
    stream = Stream().connect().lose()
    stream.ok(SessionDiscarded("s"), SessionEnded("s", EndReason.DISCARDED))
    stream = Stream().connect().lose()
    stream.ok(SessionExpirySet("s", 0), SessionEnded("s", EndReason.EXPIRED))


def test_a_session_leaves_nothing_behind() -> None:
    ended = SessionEnded("s", EndReason.DISCARDED)
    waiting().bad("host", SessionDiscarded("s"), ended)
    in_flight().lose().bad("host", SessionDiscarded("s"), ended)
    gone = dropped(DropReason.SESSION_ENDED)
    waiting().ok(SessionDiscarded("s"), gone, ended)
    waiting().bad("MQTT-4.5.0-1", SessionDiscarded("s"), gone)


def test_a_retry_may_be_the_last_thing_before_the_end() -> None:
    stream = subscriber(
        policy=ExpiryPolicy(retry_interval=3), protocol_version=4, clean_start=True, keep_alive=2
    )
    stream.ok(published(), sent())
    stream.now += 3
    closed = CloseConnection(1, ReasonCode.KEEP_ALIVE_TIMEOUT)
    gone = dropped(DropReason.SESSION_ENDED)
    ended = SessionEnded("s", EndReason.CONNECTION_CLOSED)
    stream.ok(None, sent(dup=True), closed, gone, ended)


# ---------------------------------------------------------------- wills

WILL = message("gone", topic_name="w")


def mortal(delay: int = 0, **fields: Any) -> Stream:
    return Stream().connect(will=Will(WILL, delay), **fields)


def test_a_will_is_published_when_due() -> None:
    parked = SessionParked("s", 160.0)
    said, gone = WillPublished("s", WILL), WillDiscarded("s", WILL)
    mortal().ok(ConnectionLost(1), parked, said)
    mortal().bad("MQTT-3.1.2-8", ConnectionLost(1), parked)
    mortal(5).bad("MQTT-3.1.2-8", ConnectionLost(1), parked, said)
    mortal().bad("MQTT-3.1.2-8", ConnectionLost(1), parked, gone)
    mortal().bad("MQTT-3.1.2-8", PingReceived(1, False), said)
    stream = mortal(5).ok(ConnectionLost(1), parked, WillScheduled("s", 105.0))
    stream.now += 5
    stream.bad("MQTT-3.1.2-8", None)
    stream = mortal(5).ok(ConnectionLost(1), parked)
    stream.now += 5
    stream.ok(None, said)
    stream.bad("MQTT-3.1.2-10", None, said)


def test_a_will_delay_ends_with_the_session() -> None:
    parked = SessionParked("s", 160.0)
    mortal(90).ok(ConnectionLost(1), parked, WillScheduled("s", 160.0))
    mortal(90).bad("NN-4.1", ConnectionLost(1), parked, WillScheduled("s", 190.0))
    Stream().bad("NN-4.1", PingReceived(1), WillScheduled("s", 190.0))
    stream = mortal(90).ok(ConnectionLost(1), parked)
    ended = SessionEnded("s", EndReason.DISCARDED)
    stream.bad("MQTT-3.1.2-8", SessionDiscarded("s"), ended)
    stream = mortal(90).ok(ConnectionLost(1), parked)
    stream.ok(SessionExpirySet("s", 7))
    stream.now += 7
    stream.ok(None, SessionEnded("s", EndReason.EXPIRED), WillPublished("s", WILL))


def test_disconnect_deletes_the_will() -> None:
    closed, parked = CloseConnection(1, OK), SessionParked("s", 160.0)
    said, gone = WillPublished("s", WILL), WillDiscarded("s", WILL)
    mortal().ok(DisconnectReceived(1), closed, gone, parked)
    mortal().bad("MQTT-3.14.4-3", DisconnectReceived(1), closed, parked, said)
    mortal().bad("MQTT-3.14.4-3", DisconnectReceived(1), closed, parked)
    mortal().ok(DisconnectReceived(1, 4), closed, parked, said)
    mortal().bad("MQTT-3.1.2-8", DisconnectReceived(1, 4), closed, gone, parked)


def test_a_resume_in_time_deletes_the_will() -> None:
    said, gone = WillPublished("s", WILL), WillDiscarded("s", WILL)

    def scheduled() -> Stream:
        return mortal(5).ok(ConnectionLost(1), SessionParked("s", 160.0))

    stream = scheduled()
    event, *answers = stream.resumed()
    stream.ok(event, gone, *answers)
    stream.bad("MQTT-3.1.2-10", None, gone)
    scheduled().bad("NN-4.7", event, *answers)
    scheduled().bad("MQTT-3.1.2-8", event, said, *answers)
    stream = scheduled()
    stream.now += 5
    stream.ok(event, *answers, said)
    stream = scheduled()
    stream.now += 5
    stream.bad("MQTT-3.1.2-8", event, *answers)  # and it is owed from then on


def test_the_host_may_revoke_a_will() -> None:
    mortal().ok(WillRevoked("s"), WillDiscarded("s", WILL))
    mortal().bad("MQTT-3.14.4-3", WillRevoked("s"))
    stream = mortal(5).ok(ConnectionLost(1), SessionParked("s", 160.0))
    stream.now += 5  # and the timer has not rung
    stream.ok(WillRevoked("s"), WillPublished("s", WILL))


def test_a_will_reaches_its_receivers() -> None:
    stream = mortal()
    stream.connect(2, "r").ok(
        SubscribeReceived(2, 5, (Subscription("w", 1),)), SendSuback(2, 5, (ReasonCode(1),))
    )
    said = WillPublished("s", WILL)
    stream.bad("MQTT-4.5.0-1", ConnectionLost(1), SessionParked("s", 160.0), said)


# ---------------------------------------------------------------- time


def test_the_next_deadline_is_not_late() -> None:
    stream = Stream().connect()
    stream.bad("host", ConnectionLost(1), SessionParked("s", 160.0), next_at=160.5)
    stream = Stream().connect().lose()
    outcome = Outcome()
    with pytest.raises(Violation, match="next is None"):
        stream.watch.step(PingReceived(1), 100.0, outcome, None)
    stream = Stream().connect()
    stream.bad("host", None, next_at=100.0)
    stream.ok(None, next_at=100.1)


def test_connections_that_end_in_one_step_end_one_after_the_other() -> None:
    """A will of the first was too large for the second, which was still there."""
    stream = subscriber(keep_alive=10, maximum_packet_size=9)
    stream.connect(2, "p", keep_alive=10, will=Will(message("gone")))
    stream.now += 15
    timed_out = ReasonCode.KEEP_ALIVE_TIMEOUT
    ends = [
        end
        for number in (2, 1)
        for end in (SendDisconnect(number, timed_out), CloseConnection(number, timed_out))
    ]
    copy = delivery(message=message("gone"), publisher="p", received_at=115.0)
    told = (
        SessionParked("p", 175.0),
        WillPublished("p", message("gone")),
        MessageDropped("s", copy, DropReason.TOO_LARGE),
        SessionParked("s", 175.0),
    )
    stream.ok(None, *ends, *told)


def test_time_does_not_go_back() -> None:
    stream = Stream().connect()
    stream.now = 50.0
    stream.ok(ConnectionLost(1), SessionParked("s", 160.0), next_at=160.0)


def test_what_is_finished_is_forgotten() -> None:
    """Memory is that of what there is, whatever there was."""
    stream = Stream().connect(keep_alive=10).subscribe("t", 0)
    for number in range(3000):
        expiring = message(str(number), 0, message_expiry_interval=1_000_000)
        copy = Delivery(expiring, 0, received_at=100.0)
        stream.ok(MessagePublished(expiring), SendPublish(1, copy, None, False, 1_000_000))
    assert len(stream.watch.alarms._heap) <= 1000
    session = stream.watch.sessions["s"]
    for held in (session.waiting, session.streams, session.in_flight, session.called_up):
        assert not held
    stream.now += 15
    stream.bad("MQTT-3.1.2-22", None)


def test_what_is_on_its_way_is_told() -> None:
    stream = in_flight().ok(ConnectionCongested(1)).ok(published("o"))
    stream.ok(PublishReceived(1, message(topic_name="u"), 4), SendPubrec(1, 4, OK))
    told = "\n".join(stream.watch.unfinished())
    for part in ("waits: b'o'", "in flight as 1, phase 2", "in flight as 2", "not released 4"):
        assert part in told
