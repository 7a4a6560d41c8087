"""The adapter itself: what it sends, when it thinks a broker is quiet, what it leaves behind."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mqtt_sessions import (
    ClientConnected,
    CloseConnection,
    ConnectionCongested,
    ConnectionLost,
    DisconnectReceived,
    Event,
    ExpiryPolicy,
    InvalidState,
    InvalidValue,
    MalformedPacketReceived,
    Message,
    MessagePublished,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    ReasonCode,
    SendConnack,
    SendDisconnect,
    SendPingresp,
    SendPublish,
    SendSuback,
    ServerStopping,
    SubscribeReceived,
    Subscription,
    UnsubscribeReceived,
    Will,
    wire,
)
from mqtt_sessions.testing import live
from mqtt_sessions.testing.live import BrokerFault, BrokerSubject
from mqtt_sessions.testing.live_bytes import bytes_of
from mqtt_sessions.testing.subjects import Subject
from tests.live import fake
from tests.live.fake import Answer, FakeBroker, polite

RC = ReasonCode


MISSING_AFTER = 0.3
"""Seconds: for the tests in which an answer is missing. Others have all the time in the world."""


def subject_of(broker: FakeBroker, **more: Any) -> BrokerSubject:
    return BrokerSubject("127.0.0.1", broker.port, **{"timeout": 30.0, **more})


# ---------------------------------------------------------------- events become packets

PROPERTIES = {
    "message_expiry_interval": 7,
    "payload_format_indicator": 1,
    "content_type": "text",
    "response_topic": "answers",
    "correlation_data": b"\0",
    "user_properties": (("b", "1"), ("a", "2")),
}
LEGAL: list[Event] = [
    PublishReceived(1, Message("a", b"x" * 200, 2, True), 7, True),
    PublishReceived(1, Message("\u00e9/a", b"")),
    PubackReceived(1, 7),
    PubrecReceived(1, 65_535),
    PubrelReceived(1, 7),
    PubcompReceived(1, 1),
    SubscribeReceived(1, 7, (Subscription("a", 1), Subscription("b/#", 2))),
    UnsubscribeReceived(1, 7, ("a", "b/#")),
    PingReceived(1),
    DisconnectReceived(1),
]
LEGAL_IN_5: list[Event] = [
    PublishReceived(1, Message("a", b"1", 1, **PROPERTIES), 7),  # type: ignore[arg-type]
    PublishReceived(1, Message("a"), subscription_ids=(1, 300)),
    PubackReceived(1, 7, RC.QUOTA_EXCEEDED),
    PubrecReceived(1, 7, RC.QUOTA_EXCEEDED),
    PubrelReceived(1, 7, RC.PACKET_IDENTIFIER_NOT_FOUND),
    PubcompReceived(1, 7, RC.PACKET_IDENTIFIER_NOT_FOUND),
    SubscribeReceived(1, 7, (Subscription("a", 1, True, True, 2, 300),)),
    DisconnectReceived(1, RC.DISCONNECT_WITH_WILL_MESSAGE),
    DisconnectReceived(1, RC.SUCCESS, 300),
    DisconnectReceived(1, 0x42),
]
CONNECTS = [
    ClientConnected(1, "alice", 3, False, keep_alive=300),
    ClientConnected(1, "", 4, will=Will(Message("w", b"1", 2, True))),
    ClientConnected(1, "alice", 5, False, 0, 1, 100, 65_535),
    ClientConnected(1, "a", 5, will=Will(Message("w", b"1", 1, **PROPERTIES), 9)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(
    ("event", "version"),
    [(event, version) for event in LEGAL for version in (3, 4, 5)]
    + [(event, 5) for event in LEGAL_IN_5],
)
def test_event_comes_out_of_its_packet(event: Event, version: int) -> None:
    decoder = wire.Decoder(wire.Role.SERVER, version)
    (item,) = decoder.feed(bytes_of(event, version))
    assert wire.to_event(item, 1) == event


@pytest.mark.parametrize("event", CONNECTS)
def test_connect_comes_out_of_its_packet(event: ClientConnected) -> None:
    decoder = wire.Decoder(wire.Role.SERVER)
    (item,) = decoder.feed(bytes_of(event, event.protocol_version))
    assert wire.to_event(item, 1) == event


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("event", "code"),
    [
        (MalformedPacketReceived(1, RC.MALFORMED_PACKET), RC.MALFORMED_PACKET),
        (MalformedPacketReceived(1, RC.PROTOCOL_ERROR), RC.PROTOCOL_ERROR),
        (PublishReceived(1, Message("a", b"", 1), 0), RC.PROTOCOL_ERROR),
        (SubscribeReceived(1, 7, ()), RC.PROTOCOL_ERROR),
        (UnsubscribeReceived(1, 7, ()), RC.PROTOCOL_ERROR),
    ],
)
def test_faults_are_sent_as_they_are(event: Event, code: ReasonCode, version: int) -> None:
    (error,) = wire.Decoder(wire.Role.SERVER, version).feed(bytes_of(event, version))
    assert isinstance(error, wire.WireError)
    assert error.reason_code is code


@pytest.mark.parametrize(
    "event",
    [
        PublishReceived(1, Message("a/+")),
        SubscribeReceived(1, 7, (Subscription("a#"),)),
    ],
)
def test_what_a_session_judges_is_sent_too(event: Event) -> None:
    (item,) = wire.Decoder(wire.Role.SERVER, 5).feed(bytes_of(event, 5))
    assert wire.to_event(item, 1) == event


@pytest.mark.parametrize(
    "event",
    [
        MessagePublished(Message("a")),
        ServerStopping(),
        ConnectionCongested(1),
        PublishReceived(1, Message("a"), refusal=RC.NOT_AUTHORIZED),
        SubscribeReceived(1, 7, (Subscription("a"),), (RC.NOT_AUTHORIZED,)),
        ClientConnected(1, "", assigned_client_id="a"),
        ClientConnected(1, "a", principal="p"),
        ClientConnected(1, "a", policy=ExpiryPolicy()),
        PingReceived(1, answer=False),
        MalformedPacketReceived(1, RC.TOPIC_ALIAS_INVALID),
    ],
)
def test_what_only_a_host_can_do_has_no_packet(event: Event) -> None:
    with pytest.raises(InvalidState):
        bytes_of(event, 5)


def test_what_does_not_fit_is_said() -> None:
    two = (Subscription("a", subscription_id=1), Subscription("b", subscription_id=2))
    with pytest.raises(InvalidValue):
        bytes_of(SubscribeReceived(1, 7, two), 5)
    with pytest.raises(InvalidValue):
        bytes_of(UnsubscribeReceived(1, 7, ("a" * 65_536,)), 5)


# ---------------------------------------------------------------- packets become actions


def sends(said: bytes) -> Answer:
    """A broker that answers SUBSCRIBE like this."""

    def answer(item: wire.Packet | wire.WireError, client_id: str) -> bytes | None:
        return said if isinstance(item, wire.Subscribe) else polite(item, client_id)

    return answer


@contextlib.contextmanager
def broker_whose_own(own: Answer) -> Iterator[FakeBroker]:
    """A broker that treats the subject's own connection like this, and all others politely."""
    with FakeBroker() as broker, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake, "polite", own)
        yield broker


def subscribe(subject: BrokerSubject) -> tuple[Any, ...]:
    subject.handle(ClientConnected(1, "alice"))
    return subject.handle(SubscribeReceived(1, 7, (Subscription("a"),))).actions


def test_it_is_a_subject_of_real_time() -> None:
    with FakeBroker() as broker, subject_of(broker) as subject:
        as_such: Subject = subject
        assert as_such.next_deadline_at is None
        assert subject.real_time
        assert as_such.handle_timeout(1.0).actions == ()


def test_answers_in_the_order_in_which_they_came() -> None:
    said = b"".join(
        wire.encode(packet, 5)
        for packet in (
            wire.Publish(Message("a", b"1", 1, message_expiry_interval=9), 3, True, None, (5,)),
            wire.Suback(7, (RC.SUCCESS,)),
            wire.Disconnect(RC.QUOTA_EXCEEDED),
        )
    )

    def answer(item: wire.Packet | wire.WireError, client_id: str) -> bytes | None:
        if isinstance(item, wire.Pingreq) and subscribed.is_set():
            return None
        if isinstance(item, wire.Subscribe):
            subscribed.set()
        return sends(said)(item, client_id)

    subscribed = threading.Event()
    # Where DISCONNECT is read before a PINGREQ is sent, it is waited for that long.
    with FakeBroker(answer) as broker, subject_of(broker, timeout=2.0) as subject:
        publish, suback, disconnect = subscribe(subject)[:3]
        assert isinstance(publish, SendPublish)
        assert (publish.packet_id, publish.dup, publish.message_expiry_interval) == (3, True, 9)
        assert publish.delivery.qos == 1
        assert publish.delivery.subscription_ids == (5,)
        assert suback == SendSuback(1, 7, (RC.SUCCESS,))
        assert disconnect == SendDisconnect(1, RC.QUOTA_EXCEEDED)


def test_only_the_clients_own_ping_is_reported() -> None:
    with FakeBroker() as broker, subject_of(broker) as subject:
        (connack,) = subject.handle(ClientConnected(1, "alice")).actions
        assert isinstance(connack, SendConnack)
        assert subject.handle(PingReceived(1)).actions == (SendPingresp(1),)
        assert subject.handle_timeout().actions == ()


def test_refused_connect_is_closed() -> None:
    def answer(item: wire.Packet | wire.WireError, client_id: str) -> bytes | None:
        return b"\x20\3\0\x87\0" if isinstance(item, wire.Connect) else None

    def close(item: wire.Packet | wire.WireError, client_id: str) -> bytes | None:
        return None

    with FakeBroker(answer) as broker, subject_of(broker, timeout=MISSING_AFTER) as subject:
        (refusal,) = subject.handle(ClientConnected(1, "alice")).actions
        assert isinstance(refusal, SendConnack)  # and it never closed, which must be seen
        assert refusal.reason_code is RC.NOT_AUTHORIZED
    with FakeBroker(close) as broker, subject_of(broker) as subject:
        assert subject.handle(ClientConnected(1, "alice")).actions == (
            CloseConnection(1, RC.UNSPECIFIED_ERROR),
        )


def test_closed_connection_ignores_all_until_it_is_lost() -> None:
    with FakeBroker() as broker, subject_of(broker) as subject:
        subject.handle(ClientConnected(1, "alice"))
        closed = subject.handle(DisconnectReceived(1)).actions
        assert closed == (CloseConnection(1, RC.SUCCESS),)
        assert subject.handle(PingReceived(1)).actions == ()
        with pytest.raises(InvalidState):
            subject.handle(ClientConnected(1, "alice"))
        assert subject.handle(ConnectionLost(1)).actions == ()
        with pytest.raises(InvalidState):
            subject.handle(PingReceived(1))
        (connack,) = subject.handle(ClientConnected(1, "alice")).actions
        assert isinstance(connack, SendConnack)


@pytest.mark.parametrize(("late_by", "quiet", "seen"), [(1.0, 0.0, 1), (0.1, 0.5, 2)])
def test_late_words_are_waited_for_if_so_asked(late_by: float, quiet: float, seen: int) -> None:
    """A broker whose tasks hand messages on after PINGRESP."""
    suback = wire.encode(wire.Suback(7, (RC.SUCCESS,)), 5)
    late = wire.encode(wire.Publish(Message("a")), 5)
    with (
        FakeBroker(sends(suback), late=late, after=late_by) as broker,
        subject_of(broker, quiet=quiet) as subject,
    ):
        assert len(subscribe(subject)) == seen


# ---------------------------------------------------------------- faults of brokers


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        (b"\x36\5\0\1a\0\1", "MQTT-3.3.1-4"),  # QoS 3
        (b"\x38\4\0\1a\0", "MQTT-3.3.1-2"),  # DUP at QoS 0
        (b"\x90\3\0\7\0", "MQTT-3.8.4-6"),  # SUBACK without codes
        (b"\xb2\2\0\7", "MQTT-2.1.3-1"),  # UNSUBACK with reserved flags
        (b"\x40\2\0\0", "wire"),  # identifier 0
        (b"\xf0\0", "MQTT-4.12.0-6"),  # AUTH without a method in CONNECT
    ],
)
def test_broken_packet_is_told_with_its_statement(said: bytes, rule: str) -> None:
    with FakeBroker(sends(said)) as broker, subject_of(broker) as subject:
        with pytest.raises(BrokerFault, match="connection 1") as caught:
            subscribe(subject)
        assert caught.value.rule == rule
        assert caught.value.detail in str(caught.value)


def silent(to: type[Any]) -> Answer:
    def answer(item: wire.Packet | wire.WireError, client_id: str) -> bytes | None:
        return b"" if isinstance(item, to) else polite(item, client_id)

    return answer


@pytest.mark.parametrize(
    ("to", "rule"), [(wire.Connect, "MQTT-3.1.4-5"), (wire.Pingreq, "MQTT-3.12.4-1")]
)
def test_missing_answer_is_told_with_its_statement(to: type[Any], rule: str) -> None:
    with FakeBroker(silent(to)) as broker, subject_of(broker, timeout=MISSING_AFTER) as subject:
        with pytest.raises(BrokerFault) as caught:
            subject.handle(ClientConnected(1, "alice"))
        assert caught.value.rule == rule


CONNACK = b"\x20\3\0\0\0"


@pytest.mark.parametrize("to", [wire.Connect, wire.Pingreq])
def test_broker_that_never_ends_is_told(to: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers each PINGREQ twice, or sends at once more than a step may bring."""
    many = CONNACK + b"\xd0\0" * 100_000 if to is wire.Connect else b"\xd0\0\xd0\0"

    def answer(item: wire.Packet | wire.WireError, client_id: str) -> bytes | None:
        return many if isinstance(item, to) else polite(item, client_id)

    if to is wire.Pingreq:
        monkeypatch.setattr(live, "_PATIENCE", 1 / 30)
    with FakeBroker(answer) as broker:
        subject = subject_of(broker)
        with pytest.raises(BrokerFault, match="never quiet"):
            subject.handle(ClientConnected(1, "alice"))
        broker.answer = polite
        subject.close()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionError, match=rf"127\.0\.0\.1:{port}"):
        BrokerSubject("127.0.0.1", port)


def test_broker_that_accepts_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(BrokerFault, match=r"MQTT-3\.1\.4-5: .* no answer to CONNECT in 0\.1 s"):
            BrokerSubject("127.0.0.1", port, timeout=0.1)


def saying(connack: bytes | None, seen: list[int]) -> Answer:
    """A broker that says this to a CONNECT of 5.0, and speaks 3.1.1 politely."""

    def answer(item: wire.Packet | wire.WireError, client_id: str) -> bytes | None:
        if not isinstance(item, wire.Connect):
            return polite(item, client_id)
        seen.append(item.protocol_version)
        return connack if item.protocol_version == 5 else polite(item, client_id)

    return answer


@pytest.mark.parametrize("connack", [b"\x20\3\0\x84\0", b"\x20\2\0\1", None])
def test_older_version_is_tried_where_5_is_not_spoken(connack: bytes | None) -> None:
    seen: list[int] = []
    with broker_whose_own(saying(connack, seen)) as broker:
        subject_of(broker).close()
    assert seen == [5, 4]


@pytest.mark.parametrize(
    ("connack", "why"),
    [(b"\x20\3\0\x87\0", "refused with 0x87"), (b"", "no answer to CONNECT in 0.3 s")],
)
def test_refusal_is_told_and_nothing_else_tried(connack: bytes, why: str) -> None:
    seen: list[int] = []
    with (
        broker_whose_own(saying(connack, seen)) as broker,
        pytest.raises(BrokerFault, match=why),
    ):
        subject_of(broker, timeout=MISSING_AFTER)
    assert seen == [5]


def test_close_instead_of_connack_is_told() -> None:
    with (
        broker_whose_own(lambda item, client_id: None) as broker,
        pytest.raises(BrokerFault, match="closed without CONNACK"),
    ):
        subject_of(broker)


@pytest.mark.parametrize("said", [b"", None, b"\x20\3\0\x87\0", b"HTTP/1.1 400 Bad Request"])
def test_failed_start_leaves_no_socket(said: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def kept(kind: Any) -> Any:
        def make(*args: Any) -> Any:
            made.append(kind(*args))
            return made[-1]

        return make

    monkeypatch.setattr(socket, "create_connection", kept(socket.create_connection))
    monkeypatch.setattr(selectors, "DefaultSelector", kept(selectors.DefaultSelector))
    with broker_whose_own(lambda item, client_id: said) as broker, pytest.raises(BrokerFault):
        subject_of(broker, timeout=MISSING_AFTER)
    selector, *sockets = made
    assert sockets
    assert all(each.fileno() == -1 for each in sockets)
    assert selector.get_map() is None  # it is closed


@pytest.mark.parametrize(
    "wrong",
    [{"timeout": 0}, {"timeout": -1.0}, {"timeout": float("nan")}, {"quiet": -0.1}],
)
def test_times_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with FakeBroker() as broker, pytest.raises(InvalidValue, match=next(iter(wrong))):
        subject_of(broker, **wrong)


def test_fault_of_the_own_connection_names_it() -> None:
    def answer(item: wire.Packet | wire.WireError, client_id: str) -> bytes | None:
        return b"" if isinstance(item, wire.Pingreq) else polite(item, client_id)

    with (
        broker_whose_own(answer) as broker,
        pytest.raises(BrokerFault, match=r"connection of the adapter's own: no PINGRESP in 0.3 s"),
        subject_of(broker, timeout=MISSING_AFTER) as subject,
    ):
        subject.handle_timeout()


# ---------------------------------------------------------------- leaving nothing behind


def test_reset_removes_sessions_wills_and_retained_messages(subject: BrokerSubject) -> None:
    def present() -> bool:
        (connack, *_) = subject.handle(ClientConnected(9, "alice", 4, False)).actions
        assert isinstance(connack, SendConnack)
        return connack.session_present

    will = Will(Message("will", b"w", retain=True))
    subject.handle(ClientConnected(1, "alice", 4, False, will=will))
    subject.handle(SubscribeReceived(1, 5, (Subscription("a", 1),)))
    subject.handle(PublishReceived(1, Message("kept", b"1", 1, True), 1))
    assert [type(each) for each in subject.handle(ConnectionLost(1)).actions] == []
    assert present()
    subject.reset()
    assert not present()
    wanted = (Subscription("will"), Subscription("kept"))
    (suback,) = subject.handle(SubscribeReceived(9, 7, wanted)).actions
    assert isinstance(suback, SendSuback)


def test_dead_own_connection_is_told_and_all_is_cleaned_even_so(subject: BrokerSubject) -> None:
    def present() -> bool:
        (connack, *_) = subject.handle(ClientConnected(9, "left", 4, False)).actions
        assert isinstance(connack, SendConnack)
        return connack.session_present

    assert not present()
    subject.handle(ConnectionLost(9))
    subject._own.socket.shutdown(socket.SHUT_RDWR)
    for _ in range(2):
        with pytest.raises(BrokerFault, match="closed the adapter's own connection"):
            subject.handle_timeout()
    subject.reset()
    assert not present()


def test_one_that_cannot_be_removed_does_not_keep_the_others() -> None:
    removed: list[str] = []

    def answer(item: wire.Packet | wire.WireError, client_id: str) -> bytes | None:
        if isinstance(item, wire.Connect) and refuses.is_set():
            removed.append(client_id)
            return b"\x20\3\0\x87\0" if client_id == "bad" else polite(item, client_id)
        return polite(item, client_id)

    refuses = threading.Event()
    with FakeBroker(answer) as broker:
        subject = subject_of(broker, timeout=MISSING_AFTER)
        for connection, client_id in enumerate(("bad", "good")):
            subject.handle(ClientConnected(connection, client_id))
        refuses.set()
        with pytest.raises(BrokerFault, match="'bad': refused with 0x87"):
            subject.reset()
        assert removed == ["bad", "good"]
        refuses.clear()
        subject.close()


def test_close_closes_every_socket_and_may_come_again() -> None:
    with FakeBroker() as broker:
        subject = subject_of(broker)
        subject.handle(ClientConnected(1, "alice"))
        subject.close()
        subject.close()
        for use in (subject.handle_timeout, subject.reset, lambda: subject.wait(0.0)):
            with pytest.raises(InvalidState, match="closed"):
                use()
        with pytest.raises(InvalidState, match="closed"):
            subject.handle(ClientConnected(1, "alice"))


def test_what_went_wrong_first_is_what_is_told() -> None:
    """And not that such a broker cannot be left clean."""

    def judge(broker: FakeBroker) -> None:
        with subject_of(broker, timeout=MISSING_AFTER) as subject:
            broker.answer = silent(wire.Connect)
            subject.handle(ClientConnected(1, "alice"))

    with FakeBroker() as broker, pytest.raises(BrokerFault, match="no answer to CONNECT"):
        judge(broker)
