"""A session without a store, at the edges of what its host may say."""

from __future__ import annotations

from typing import Any

import pytest

from mqtt_sessions import (
    ClientConnected,
    CloseConnection,
    ConnectionLost,
    DeliverMessage,
    Delivery,
    ExpiryPolicy,
    InvalidState,
    Message,
    MessageRouted,
    Outcome,
    PublishReceived,
    ReasonCode,
    SendPuback,
    SendPublish,
    SendPubrec,
    ServerOptions,
    Session,
    SessionLimits,
)
from tests.core.helpers import Alone, of_type

UNSPECIFIED = ReasonCode.UNSPECIFIED_ERROR


def connected(version: int = 5, **settings: Any) -> Alone:
    alone = Alone(**settings)
    alone.connect(1, protocol_version=version)
    return alone


# ---------------------------------------------------------------- answers of the router


@pytest.mark.parametrize(("qos", "answer"), [(1, SendPuback), (2, SendPubrec)])
def test_the_lowest_code_of_an_error_is_an_error(qos: int, answer: type) -> None:
    alone = connected()
    alone.send(1, "t", qos=qos, packet_id=7)
    assert alone.routed(1, UNSPECIFIED).actions == (answer(1, 7, UNSPECIFIED),)
    assert alone.session.inbound_packet_ids == ()


@pytest.mark.parametrize("qos", [1, 2])
def test_the_lowest_code_of_an_error_closes_a_3_x_client(qos: int) -> None:
    alone = connected(4)
    alone.send(1, "t", qos=qos, packet_id=7)
    outcome = alone.routed(1, UNSPECIFIED)
    assert [type(action) for action in outcome.actions] == [CloseConnection]


def test_a_refusal_of_the_only_identifier_leaves_no_deadline() -> None:
    alone = connected(policy=ExpiryPolicy(inbound_qos2_interval=10))
    alone.send(1, "t", qos=2, packet_id=7)
    assert alone.session.next_deadline_at == 10
    alone.routed(1, UNSPECIFIED)
    assert len(alone.session._engine._turn.deadlines) == 0  # before anybody asks for the next
    assert alone.session.next_deadline_at is None


def test_an_answer_that_is_late_for_one_identifier_does_not_touch_another() -> None:
    alone = connected(policy=ExpiryPolicy(inbound_qos2_interval=10))
    alone.send(1, "t", qos=2, packet_id=7)
    alone.now = 5.0
    alone.send(1, "t", qos=2, packet_id=8)
    alone.tick(10.0)
    assert alone.session.inbound_packet_ids == (8,)
    restored = Session.restore(alone.session.snapshot())
    restored.check()
    for session in (alone.session, restored):
        assert session.handle(MessageRouted(1, UNSPECIFIED), 10.0) == Outcome()
        assert session.handle(MessageRouted(2), 10.0).actions == (
            SendPubrec(1, 8, ReasonCode.SUCCESS),
        )
        assert session.inbound_packet_ids == (8,)


def test_a_message_whose_identifier_timed_out_is_still_with_the_router() -> None:
    alone = connected(policy=ExpiryPolicy(inbound_qos2_interval=10))
    alone.send(1, "t", qos=2, packet_id=7)
    alone.tick(10.0)
    restored = Session.restore(alone.session.snapshot())
    restored.check()
    assert restored.handle(MessageRouted(1), 10.0) == Outcome()


def test_many_routes_are_told_apart() -> None:
    """Beyond the numbers that are one object each."""
    alone = connected(
        limits=SessionLimits(maximum_inbound_qos2=300), options=ServerOptions(receive_maximum=300)
    )
    for number in range(300):
        alone.session.handle(PublishReceived(1, Message("t", b"m", 2), 1000 + number), 0.0)
    restored = Session.restore(alone.session.snapshot())
    for session in (alone.session, restored):
        for number in range(300):
            [action] = session.handle(MessageRouted(1 + number), 0.0).actions
            assert action == SendPubrec(1, 1000 + number, ReasonCode.SUCCESS)
        session.check()
        assert len(session.inbound_packet_ids) == 300
    assert restored.snapshot() == alone.session.snapshot()


def test_routes_are_forgotten_with_their_session() -> None:
    alone = connected()
    for qos in (1, 2):
        alone.send(1, "t", qos=qos, packet_id=qos)
    alone.lose(1)
    alone.connect(2, clean_start=True)
    assert alone.session.snapshot().routed == ()
    assert not alone.session._engine._routes  # type: ignore[attr-defined]
    assert alone.routed(1) == alone.routed(2) == Outcome()


# ---------------------------------------------------------------- who it is


@pytest.mark.parametrize("client_id", ["A", "aa", "b", "mm", "n"])
def test_a_client_of_another_name_is_refused(client_id: str) -> None:
    session = Session("m")
    with pytest.raises(InvalidState, match="is not that of this session"):
        session.handle(ClientConnected(1, client_id), 0.0)
    assert not session.exists


def test_a_client_id_is_compared_as_a_text() -> None:
    session = Session("client")
    same = "".join(["cli", "ent"])
    session.handle(ClientConnected(1, same), 0.0)
    assert session.connected
    session.handle(ConnectionLost(1), 0.0)
    with pytest.raises(InvalidState, match="is not that of this session"):
        session.handle(ClientConnected(1, "", assigned_client_id="zebra"), 0.0)


# ---------------------------------------------------------------- deliveries


def waiting(delivery: Delivery, **settings: Any) -> Delivery:
    """The delivery as the session holds it: it arrived at 100 while the client was away."""
    alone = connected(**settings)
    alone.lose(1)
    alone.now = 100.0
    alone.do(DeliverMessage(delivery))
    [held] = alone.session.queued()
    return held


EXPIRING = Message("t", b"m", 1, False, 30)


def test_a_delivery_that_arrives_with_the_call_is_given_its_expiry() -> None:
    assert waiting(Delivery(EXPIRING, 1)) == Delivery(
        EXPIRING, 1, received_at=100.0, expires_at=130.0, message_expiry_interval=30
    )
    plain = Message("t", b"m", 1)
    assert waiting(Delivery(plain, 1)) == Delivery(plain, 1, received_at=100.0)


def test_what_the_host_says_of_expiry_stands() -> None:
    held = waiting(Delivery(EXPIRING, 1, expires_at=150.0))
    assert (held.expires_at, held.message_expiry_interval) == (150.0, 30)
    held = waiting(Delivery(EXPIRING, 1, message_expiry_interval=7))
    assert (held.expires_at, held.message_expiry_interval) == (130.0, 7)


def test_the_policy_of_the_session_counts() -> None:
    policy = ExpiryPolicy(maximum_message_expiry_interval=10)
    held = waiting(Delivery(EXPIRING, 1), policy=policy)
    assert held.expires_at == 110.0
    held = waiting(Delivery(Message("t", b"m", 1), 1), policy=policy)
    assert held.expires_at == 110.0


def test_a_delivery_that_arrived_before_is_taken_as_it_is() -> None:
    early = Delivery(EXPIRING, 1, received_at=90.0)
    assert waiting(early) == early
    alone = connected()
    late = Delivery(EXPIRING, 1, received_at=-5.0, expires_at=500.0, message_expiry_interval=30)
    outcome = alone.do(DeliverMessage(late))
    [publish] = of_type(SendPublish, outcome.actions)
    assert publish.delivery == late
    assert publish.message_expiry_interval == 25
