"""The four QoS machines: the literal tables are complete, and a store does what they say."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from mqtt_sessions import (
    Action,
    CloseConnection,
    ConnectionLost,
    DropReason,
    Outcome,
    Phase,
    ReasonCode,
    RouteMessage,
    SendConnack,
    SendDisconnect,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
)
from mqtt_sessions.flows import (
    ON_PUBACK,
    ON_PUBACK_ERROR,
    ON_PUBCOMP,
    ON_PUBREC,
    ON_PUBREC_ERROR,
    ON_PUBREL,
    RECEIVER_QOS_1,
    RECEIVER_QOS_2,
    SENDER_QOS_1,
    SENDER_QOS_2,
    Inbound,
    Reply,
    Stimulus,
)
from tests.core.helpers import Alone, World, dropped, of_type

SENDER_STIMULI = (
    Stimulus.SEND,
    Stimulus.PUBACK,
    Stimulus.PUBACK_ERROR,
    Stimulus.PUBREC,
    Stimulus.PUBREC_ERROR,
    Stimulus.PUBCOMP,
    Stimulus.RESUME,
)
ERROR = 0x83

# ---------------------------------------------------------------- the tables themselves


@pytest.mark.parametrize(
    ("table", "phases", "stimuli"),
    [
        (SENDER_QOS_1, (Phase.IDLE, Phase.AWAITING_PUBACK), SENDER_STIMULI),
        (SENDER_QOS_2, (Phase.IDLE, Phase.AWAITING_PUBREC, Phase.AWAITING_PUBCOMP), SENDER_STIMULI),
        (
            RECEIVER_QOS_1,
            (Inbound.IDLE, Inbound.ROUTING),
            (Stimulus.PUBLISH, Stimulus.ROUTED, Stimulus.REFUSED),
        ),
        (
            RECEIVER_QOS_2,
            tuple(Inbound),
            (Stimulus.PUBLISH, Stimulus.ROUTED, Stimulus.REFUSED, Stimulus.PUBREL),
        ),
    ],
    ids=["sender QoS 1", "sender QoS 2", "receiver QoS 1", "receiver QoS 2"],
)
def test_a_table_has_a_row_for_each_phase_and_stimulus_and_no_other(
    table: dict, phases: tuple, stimuli: tuple
) -> None:
    assert set(table) == set(product(phases, stimuli))
    assert {after for after, _ in table.values()} <= set(phases)


@pytest.mark.parametrize("table", [SENDER_QOS_1, SENDER_QOS_2, RECEIVER_QOS_1, RECEIVER_QOS_2])
def test_each_phase_can_be_reached_and_left(table: dict) -> None:
    phases = {before for before, _ in table}
    for phase in phases:
        assert any(after == phase != before for (before, _), (after, _) in table.items())
        assert any(after != phase == before for (before, _), (after, _) in table.items())


def test_both_senders_know_the_same_of_an_unknown_identifier() -> None:
    for stimulus in SENDER_STIMULI:
        if stimulus is not Stimulus.SEND:
            assert SENDER_QOS_1[Phase.IDLE, stimulus] == SENDER_QOS_2[Phase.IDLE, stimulus]


def test_a_protocol_error_leaves_the_exchange_where_it_was() -> None:
    for table in (SENDER_QOS_1, SENDER_QOS_2, RECEIVER_QOS_1, RECEIVER_QOS_2):
        for (before, _), (after, reply) in table.items():
            assert reply is not Reply.PROTOCOL_ERROR or after == before


@pytest.mark.parametrize(
    ("column", "stimulus"),
    [
        (ON_PUBACK, Stimulus.PUBACK),
        (ON_PUBACK_ERROR, Stimulus.PUBACK_ERROR),
        (ON_PUBREC, Stimulus.PUBREC),
        (ON_PUBREC_ERROR, Stimulus.PUBREC_ERROR),
        (ON_PUBCOMP, Stimulus.PUBCOMP),
    ],
)
def test_a_sender_column_repeats_its_table(column: tuple, stimulus: Stimulus) -> None:
    assert column == (
        SENDER_QOS_1[Phase.IDLE, stimulus][1],
        SENDER_QOS_1[Phase.AWAITING_PUBACK, stimulus][1],
        SENDER_QOS_2[Phase.AWAITING_PUBREC, stimulus][1],
        SENDER_QOS_2[Phase.AWAITING_PUBCOMP, stimulus][1],
    )


def test_the_receiver_column_repeats_its_table() -> None:
    assert tuple(RECEIVER_QOS_2[phase, Stimulus.PUBREL][1] for phase in Inbound) == ON_PUBREL


# ---------------------------------------------------------------- senders, in a real store


def _sender_in(phase: Phase, version: int, *, plain: bool) -> World:
    """A client "a" on connection 1, whose only exchange has identifier 1 and stands in `phase`.

    `plain` is what most connections are; otherwise the exchange began on an earlier connection.
    """
    world = World()
    qos = {Phase.IDLE: 1, Phase.AWAITING_PUBACK: 1}.get(phase, 2)
    first = 1 if plain else 0
    world.subscriber(first, "a", "t", qos=2, protocol_version=version)
    if phase is not Phase.IDLE:
        world.publish("t", b"m", qos=qos)
    if phase is Phase.AWAITING_PUBCOMP:
        world.pubrec(first, 1)
    if not plain:
        world.lose(first)
        world.connect(1, "a", protocol_version=version)
    assert phase_of_sender(world) is phase
    return world


def phase_of_sender(world: World) -> Phase:
    """Where the exchange with identifier 1 stands."""
    for exchange in world.session("a").in_flight:
        if exchange.packet_id == 1:
            return exchange.phase
    return Phase.IDLE


def _resume(world: World) -> Outcome:
    world.lose(1)
    return world.connect(2, "a")


_FEED: dict[Stimulus, Callable[[World], Outcome]] = {
    Stimulus.PUBACK: lambda world: world.puback(1, 1),
    Stimulus.PUBACK_ERROR: lambda world: world.puback(1, 1, ERROR),
    Stimulus.PUBREC: lambda world: world.pubrec(1, 1),
    Stimulus.PUBREC_ERROR: lambda world: world.pubrec(1, 1, ERROR),
    Stimulus.PUBCOMP: lambda world: world.pubcomp(1, 1),
    Stimulus.RESUME: _resume,
}


def _reply_of_sender(world: World, before: int, outcome: Outcome) -> Reply:
    """The row's reply, told from what the store did."""
    actions: list[Action] = [
        action for action in outcome.actions if not isinstance(action, SendConnack)
    ]
    if of_type(CloseConnection, actions):
        assert actions[-1].reason_code is ReasonCode.PROTOCOL_ERROR
        return Reply.PROTOCOL_ERROR
    if actions:
        (action,) = actions
        if isinstance(action, SendPublish):
            assert action.packet_id == 1
            return Reply.PUBLISH_AGAIN if action.dup else Reply.PUBLISH
        assert isinstance(action, SendPubrel)
        assert action.packet_id == 1
        if action.reason_code is ReasonCode.PACKET_IDENTIFIER_NOT_FOUND:
            return Reply.PUBREL_NOT_FOUND
        assert action.reason_code is ReasonCode.SUCCESS
        return Reply.PUBREL
    if dropped(outcome):
        assert dropped(outcome) == [("a", b"m", DropReason.REFUSED_BY_CLIENT.value)]
        return Reply.GIVE_UP
    if world.store.counters.completed == before + 1:
        return Reply.COMPLETE
    return Reply.IGNORE


SENDER_ROWS = [
    (phase, stimulus, *row)
    for (phase, stimulus), row in {**SENDER_QOS_1, **SENDER_QOS_2}.items()
    if stimulus is not Stimulus.SEND
]


@pytest.mark.parametrize("plain", [True, False], ids=["this connection's", "an earlier one's"])
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(("phase", "stimulus", "after", "reply"), SENDER_ROWS)
def test_a_store_sends_by_the_table(
    phase: Phase, stimulus: Stimulus, after: Phase, reply: Reply, version: int, plain: bool
) -> None:
    world = _sender_in(phase, version, plain=plain)
    before = world.store.counters.completed
    outcome = _FEED[stimulus](world)
    assert _reply_of_sender(world, before, outcome) is reply
    assert phase_of_sender(world) is after


@pytest.mark.parametrize("phase", [Phase.AWAITING_PUBACK, Phase.AWAITING_PUBREC])
def test_sending_begins_an_exchange(phase: Phase) -> None:
    table = {Phase.AWAITING_PUBACK: SENDER_QOS_1, Phase.AWAITING_PUBREC: SENDER_QOS_2}[phase]
    assert table[Phase.IDLE, Stimulus.SEND] == (phase, Reply.PUBLISH)
    world = _sender_in(Phase.IDLE, 5, plain=True)
    outcome = world.publish("t", b"m", qos=int(phase))
    assert _reply_of_sender(world, 0, outcome) is Reply.PUBLISH
    assert phase_of_sender(world) is phase


@pytest.mark.parametrize(
    "phase", [Phase.AWAITING_PUBACK, Phase.AWAITING_PUBREC, Phase.AWAITING_PUBCOMP]
)
def test_an_open_exchange_is_not_begun_again(phase: Phase) -> None:
    world = _sender_in(phase, 5, plain=True)
    outcome = world.publish("t", b"another", qos=2)
    assert [action.packet_id for action in of_type(SendPublish, outcome.actions)] == [2]
    assert phase_of_sender(world) is phase


# ---------------------------------------------------------------- receivers


def _receiver_in(qos: int, phase: Inbound) -> Alone:
    """A session without a store, so that ROUTING can be seen; identifier 1 stands in `phase`."""
    alone = Alone()
    alone.connect(1)
    if phase is not Inbound.IDLE:
        alone.send(1, "t", b"m", qos=qos, packet_id=1)
    if phase is Inbound.AWAITING_PUBREL:
        alone.routed(1)
    return alone


def _reply_of_receiver(outcome: Outcome) -> Reply:
    if of_type(CloseConnection, outcome.actions):
        assert of_type(SendDisconnect, outcome.actions)[0].reason_code == 0x82
        return Reply.PROTOCOL_ERROR
    if not outcome.actions:
        return Reply.IGNORE
    (action,) = outcome.actions
    if isinstance(action, RouteMessage):
        return Reply.ROUTE
    assert action.packet_id == 1
    if isinstance(action, SendPuback):
        return Reply.PUBACK
    if isinstance(action, SendPubrec):
        return Reply.PUBREC if action.reason_code < 0x80 else Reply.PUBREC_ERROR
    assert isinstance(action, SendPubcomp)
    return Reply.PUBCOMP if action.reason_code < 0x80 else Reply.PUBCOMP_NOT_FOUND


def _phase_of_receiver(alone: Alone, qos: int) -> Inbound:
    """Where identifier 1 stands, told from what a repeat of its PUBLISH gets."""
    outcome = alone.send(1, "t", b"m", qos=qos, packet_id=1)
    if of_type(RouteMessage, outcome.actions):
        return Inbound.IDLE
    return Inbound.AWAITING_PUBREL if outcome.actions else Inbound.ROUTING


RECEIVER_ROWS = [
    (qos, phase, stimulus, *row)
    for qos, table in ((1, RECEIVER_QOS_1), (2, RECEIVER_QOS_2))
    for (phase, stimulus), row in table.items()
]


@pytest.mark.parametrize(("qos", "phase", "stimulus", "after", "reply"), RECEIVER_ROWS)
def test_a_session_receives_by_the_table(
    qos: int, phase: Inbound, stimulus: Stimulus, after: Inbound, reply: Reply
) -> None:
    alone = _receiver_in(qos, phase)
    if stimulus is Stimulus.PUBLISH:
        outcome = alone.send(1, "t", b"m", qos=qos, packet_id=1)
    elif stimulus is Stimulus.PUBREL:
        outcome = alone.pubrel(1, 1)
    else:
        code = 0 if stimulus is Stimulus.ROUTED else ERROR
        if phase is Inbound.IDLE:  # the answer to what a lost connection sent
            alone.send(1, "t", b"m", qos=qos, packet_id=1)
            alone.lose(1)
            alone.connect(1, clean_start=True)
        outcome = alone.routed(1, code)
    assert _reply_of_receiver(outcome) is reply
    if reply is not Reply.PROTOCOL_ERROR:
        assert _phase_of_receiver(alone, qos) is after


@pytest.mark.parametrize(
    ("phase", "reply"), [(Inbound.IDLE, 0x92), (Inbound.AWAITING_PUBREL, 0x00)]
)
def test_a_store_answers_pubrel_by_the_table(phase: Inbound, reply: int) -> None:
    world = World()
    world.connect(1, "a")
    if phase is Inbound.AWAITING_PUBREL:
        world.send(1, "t", qos=2, packet_id=1)
    assert world.pubrel(1, 1).actions == (SendPubcomp(1, 1, ReasonCode(reply)),)
    assert world.session("a").inbound_packet_ids == ()


def test_an_acknowledgement_of_a_closed_connection_is_ignored_in_every_phase() -> None:
    for phase, stimulus in product(Phase, _FEED):
        if stimulus is Stimulus.RESUME:
            continue
        world = _sender_in(phase, 5, plain=True)
        world.disconnect(1)
        assert _FEED[stimulus](world) == Outcome()
        assert phase_of_sender(world) is phase
        world.do(ConnectionLost(1))
