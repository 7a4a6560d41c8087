"""The receiving side of a session: what a client publishes, checked, held and answered.

Spec: MQTT 5.0 §3.3, §4.3; unnumbered rules NN-6.5, NN-7.2 to NN-7.4, NN-10.4, NN-10.8.
"""

from __future__ import annotations

from mqtt_sessions.actions import SendPuback, SendPubcomp, SendPubrec
from mqtt_sessions.connection import Link
from mqtt_sessions.events import PublishReceived
from mqtt_sessions.flows import ON_PUBREL, Inbound, Reply
from mqtt_sessions.messages import Message
from mqtt_sessions.notices import InboundQos2TimedOut
from mqtt_sessions.policy import UnauthorizedPolicy
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.state import InboundIds, SessionState
from mqtt_sessions.topics import is_valid_topic
from mqtt_sessions.turn import Turn

__all__ = ["Fault", "admit", "forget_timed_out", "hold", "phase_of", "refuse", "release", "take"]

_INF = float("inf")
_SUCCESS = ReasonCode.SUCCESS
_QOS = (0, 1, 2)


class Fault(Exception):
    """The peer broke a rule: its connection is closed with this reason code."""

    def __init__(self, reason_code: ReasonCode, detail: str) -> None:
        super().__init__(detail)
        self.reason_code = reason_code
        self.detail = detail


def phase_of(session: SessionState, packet_id: int) -> Inbound:
    """Where the incoming QoS 2 exchange of this identifier stands. *Cost* O(1)."""
    inbound = session.inbound
    if inbound is None or packet_id not in inbound.ends_at:
        return Inbound.IDLE
    return Inbound.ROUTING if packet_id in inbound.routing else Inbound.AWAITING_PUBREL


def admit(session: SessionState, link: Link, event: PublishReceived, turn: Turn) -> bool:
    """Whether this PUBLISH is to be handed on; if not it has been answered.

    Raises:
        Fault: The connection has to be closed.

    *Cost* O(length of the topic name).

    Spec: MQTT 5.0 §3.3.4 [MQTT-3.3.4-1].
    """
    message, packet_id = event.message, event.packet_id
    qos = message.qos
    if event.subscription_ids or not is_valid_topic(message.topic_name) or qos not in _QOS:
        raise _fault_of(event)
    if link.version == 5:
        # what 3.x clients cannot be told is no ground for closing them
        options = session.settings.options
        if qos > options.maximum_qos:  # MQTT-3.2.2-11
            raise Fault(ReasonCode.QOS_NOT_SUPPORTED, "QoS above Maximum QoS [3.2.2-11]")
        if message.retain and not options.retain_available:  # MQTT-3.2.2-14
            raise Fault(ReasonCode.RETAIN_NOT_SUPPORTED, "RETAIN is not available [3.2.2-14]")
    if qos == 0:
        return event.refusal is None or _drop_refused(session, link, event.refusal)
    if not packet_id:  # MQTT-2.2.1-3
        raise Fault(ReasonCode.PROTOCOL_ERROR, "QoS 1 or 2 without a packet identifier [2.2.1]")
    if qos == 1 and session.inbound is None and not link.inbound_units and event.refusal is None:
        return True  # nothing is open and nothing against it
    return _admit_beside_others(session, link, event, packet_id, turn)


def _drop_refused(session: SessionState, link: Link, refusal: ReasonCode) -> bool:
    """A refused QoS 0 message has no answer; 3.1.1 MQTT-3.3.5-2 lets the host choose to close."""
    unauthorized = session.settings.options.unauthorized
    if (
        link.version < 5
        and refusal is ReasonCode.NOT_AUTHORIZED
        and unauthorized is UnauthorizedPolicy.CLOSE
    ):
        raise Fault(refusal, "PUBLISH refused, which MQTT 3.x can only say by closing")
    return False


def _fault_of(event: PublishReceived) -> Fault:
    """Which of the rules that hold for every PUBLISH was broken."""
    if event.subscription_ids:
        return Fault(ReasonCode.PROTOCOL_ERROR, "a client sent a Subscription Identifier [3.3.4-6]")
    if event.message.qos not in _QOS:
        return Fault(ReasonCode.MALFORMED_PACKET, "QoS 3 [3.3.1-4]")
    if not event.message.topic_name:
        return Fault(ReasonCode.PROTOCOL_ERROR, "empty topic name without topic alias [3.3.2.1]")
    return Fault(ReasonCode.TOPIC_NAME_INVALID, "topic name is not well formed [4.7.0-1]")


def _admit_beside_others(
    session: SessionState, link: Link, event: PublishReceived, packet_id: int, turn: Turn
) -> bool:
    """The rules of QoS 1 and 2: identifiers, Receive Maximum, the host's verdict, our bound."""
    message = event.message
    phase = phase_of(session, packet_id)
    if message.qos == 1 and phase is not Inbound.IDLE:
        _refuse_used_id(link, message, packet_id, turn)
        return False
    if message.qos == 2 and phase is Inbound.IDLE and packet_id in link.inbound_units:
        _refuse_used_id(link, message, packet_id, turn)  # PUBACK is to come
        return False
    _take_unit(link, packet_id)
    if message.qos == 1:
        if packet_id in link.inbound_units:
            return False  # its router has not answered: PUBACK is to come
        return _may_pass(session, link, event, packet_id, turn)
    if phase is not Inbound.IDLE:
        # MQTT-4.3.3-10, NN-6.4: answered again whatever DUP says, and not handed on again
        link.inbound_units.add(packet_id)
        if phase is Inbound.AWAITING_PUBREL:
            turn.actions.append(SendPubrec(link.connection, packet_id, _SUCCESS))
        return False
    held = 0 if session.inbound is None else len(session.inbound.ends_at)
    maximum = session.settings.limits.maximum_inbound_qos2
    if maximum is not None and held >= maximum and (event.refusal is None or link.version < 5):
        refuse(link, message, packet_id, ReasonCode.QUOTA_EXCEEDED, turn)
        return False
    return _may_pass(session, link, event, packet_id, turn)


def _refuse_used_id(link: Link, message: Message, packet_id: int, turn: Turn) -> None:
    """NN-6.5, MQTT-2.2.1-3: the exchange that holds the identifier stays as it is."""
    if link.version < 5:
        raise Fault(ReasonCode.PACKET_IDENTIFIER_IN_USE, "identifier of an open exchange")
    refuse(link, message, packet_id, ReasonCode.PACKET_IDENTIFIER_IN_USE, turn)


def _take_unit(link: Link, packet_id: int) -> None:
    """Enforce Receive Maximum: open are those answered by neither PUBACK, PUBCOMP nor an error.

    A repeat of an identifier that counts already takes no second unit [NN-10.4].

    Spec: MQTT 5.0 §3.3.4 [MQTT-3.3.4-7].
    """
    if link.version < 5 or packet_id in link.inbound_units:
        return
    maximum = link.receive_maximum
    if maximum is not None and len(link.inbound_units) >= maximum:
        raise Fault(
            ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, f"more than {maximum} PUBLISH open [3.3.4-7]"
        )


def _may_pass(
    session: SessionState, link: Link, event: PublishReceived, packet_id: int, turn: Turn
) -> bool:
    """Whether the host lets the message pass; if not it has been answered."""
    refusal = event.refusal
    if refusal is None:
        return True
    if link.version == 5:
        refuse(link, event.message, packet_id, refusal, turn)
        return False
    unauthorized = session.settings.options.unauthorized
    if refusal is not ReasonCode.NOT_AUTHORIZED or unauthorized is UnauthorizedPolicy.CLOSE:
        # never acknowledged and lost [3.1.1 MQTT-4.8.0-2]
        raise Fault(refusal, "PUBLISH refused, which MQTT 3.x can only say by closing")
    # 3.1.1 MQTT-3.3.5-2: acknowledged and not handed on
    if event.message.qos == 1:
        turn.actions.append(SendPuback(link.connection, packet_id, _SUCCESS))
    else:
        take(session, link, packet_id, _SUCCESS, turn)
    return False


def refuse(link: Link, message: Message, packet_id: int, code: ReasonCode, turn: Turn) -> None:
    """Answer with an error code, which settles the exchange [MQTT-4.3.3-9]."""
    if link.version < 5:
        raise Fault(code, "PUBLISH refused, which MQTT 3.x can only say by closing")
    if message.qos == 1:
        turn.actions.append(SendPuback(link.connection, packet_id, code))
    else:
        turn.actions.append(SendPubrec(link.connection, packet_id, code))


def take(session: SessionState, link: Link, packet_id: int, code: ReasonCode, turn: Turn) -> None:
    """A QoS 2 message is ours now: PUBREC, and the identifier is held until PUBREL.

    *Cost* O(1).

    Spec: MQTT 5.0 §4.3.3 [MQTT-4.3.3-8].
    """
    hold(session, packet_id, turn)
    link.inbound_units.add(packet_id)
    turn.actions.append(SendPubrec(link.connection, packet_id, code))


def hold(session: SessionState, packet_id: int, turn: Turn) -> InboundIds:
    """Remember the identifier, for as long as the policy says."""
    inbound = session.inbound
    if inbound is None:
        inbound = session.inbound = InboundIds(session.client_id)
    pause = session.settings.policy.inbound_qos2_interval
    ends_at = _INF if pause is None else turn.now + pause
    inbound.hold(packet_id, ends_at)
    if turn.recorder is not None and session.rows is not None:
        turn.recorder.held(session.rows, packet_id, ends_at)
    if pause is None:
        return inbound
    inbound.pause = pause
    if inbound.lane is None or inbound.at > ends_at:
        turn.deadlines.arm(inbound, ends_at, pause)
    return inbound


def release(session: SessionState, link: Link, packet_id: int, turn: Turn) -> None:
    """PUBREL: forget the identifier and answer PUBCOMP, known or not.

    Whatever has become of the message: an exchange does not expire [MQTT-4.3.3-13].

    *Cost* O(1).

    Spec: MQTT 5.0 §4.3.3 [MQTT-4.3.3-11], [MQTT-4.3.3-12], table 3-7 [NN-7.4].
    """
    reply = ON_PUBREL[phase_of(session, packet_id)]
    if reply is Reply.PROTOCOL_ERROR:
        raise Fault(ReasonCode.PROTOCOL_ERROR, "PUBREL before PUBREC")
    code = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
    if reply is Reply.PUBCOMP:
        code = _SUCCESS
        inbound = session.inbound
        assert inbound is not None
        del inbound.ends_at[packet_id]
        if turn.recorder is not None and session.rows is not None:
            turn.recorder.released(session.rows, packet_id)
        if not inbound.ends_at:
            turn.deadlines.disarm(inbound)
            session.inbound = None
        link.inbound_units.discard(packet_id)
    turn.actions.append(SendPubcomp(link.connection, packet_id, code))


def forget_timed_out(
    session: SessionState, turn: Turn, limit: int | None = None, until: float | None = None
) -> int:
    """Forget identifiers whose PUBREL did not come by `until`, or by now; the number forgotten.

    *Deviation* by `ExpiryPolicy.inbound_qos2_interval`: breaks MQTT-4.3.3-10.

    *Cost* O(held).
    """
    inbound = session.inbound
    assert inbound is not None
    if until is None:
        until = turn.now
    late = [packet_id for packet_id, ends_at in inbound.ends_at.items() if ends_at <= until]
    for packet_id in late[:limit]:
        del inbound.ends_at[packet_id]
        inbound.routing.pop(packet_id, None)
        if turn.recorder is not None and session.rows is not None:
            turn.recorder.released(session.rows, packet_id)
        if session.link is not None:
            session.link.inbound_units.discard(packet_id)
        turn.notices.append(InboundQos2TimedOut(session.client_id, packet_id))
    if not inbound.ends_at:
        turn.deadlines.disarm(inbound)
        session.inbound = None
    return len(late[:limit])
