"""The four QoS machines as literal tables: (phase, stimulus) -> (next phase, reply).

There is one machine for each side of QoS 1 and QoS 2; an exchange is one packet identifier. What
couples them: PUBACK, PUBREC and PUBCOMP name an identifier and not a QoS, so both senders share
the phase IDLE (nothing is known of the identifier) and a wrong acknowledgement is an error of the
phase that it meets.

Spec: MQTT 5.0 §4.3, §4.4, tables 3-4 to 3-7; unnumbered rules NN-7.4 to NN-7.9, NN-8.2.
"""

from __future__ import annotations

from enum import Enum, IntEnum, unique

__all__ = [
    "ON_PUBACK",
    "ON_PUBACK_ERROR",
    "ON_PUBCOMP",
    "ON_PUBREC",
    "ON_PUBREC_ERROR",
    "ON_PUBREL",
    "RECEIVER_QOS_1",
    "RECEIVER_QOS_2",
    "SENDER_QOS_1",
    "SENDER_QOS_2",
    "Inbound",
    "Phase",
    "Reply",
    "Stimulus",
]


@unique
class Phase(IntEnum):
    """Where an outgoing exchange stands; 1 and 2 are also the QoS of what is in flight."""

    IDLE = 0
    AWAITING_PUBACK = 1
    AWAITING_PUBREC = 2
    AWAITING_PUBCOMP = 3


@unique
class Inbound(IntEnum):
    """Where an incoming exchange stands."""

    IDLE = 0
    ROUTING = 1
    """Handed on to the router, which has not answered yet."""
    AWAITING_PUBREL = 2


@unique
class Stimulus(Enum):
    """What can happen to an exchange; an error is a reason code of 0x80 and above."""

    SEND = "send"
    PUBACK = "puback"
    PUBACK_ERROR = "puback error"
    PUBREC = "pubrec"
    PUBREC_ERROR = "pubrec error"
    PUBCOMP = "pubcomp"
    RESUME = "resume"
    PUBLISH = "publish"
    ROUTED = "routed"
    REFUSED = "refused"
    PUBREL = "pubrel"


@unique
class Reply(Enum):
    """What has to be done."""

    IGNORE = "nothing"
    PUBLISH = "send PUBLISH, DUP 0"
    PUBLISH_AGAIN = "send PUBLISH, DUP 1"
    PUBREL = "send PUBREL 0x00"
    PUBREL_NOT_FOUND = "send PUBREL 0x92"
    COMPLETE = "the message is delivered, the identifier free"
    GIVE_UP = "the receiver refused the message, the identifier is free"
    ROUTE = "hand the message on"
    PUBACK = "send PUBACK with the router's code"
    PUBREC = "send PUBREC"
    PUBREC_ERROR = "send PUBREC with the refusal, the identifier is free"
    PUBCOMP = "send PUBCOMP 0x00"
    PUBCOMP_NOT_FOUND = "send PUBCOMP 0x92"
    PROTOCOL_ERROR = "close with 0x82"


_IDLE, _PUBACK, _PUBREC, _PUBCOMP = Phase

SENDER_QOS_1: dict[tuple[Phase, Stimulus], tuple[Phase, Reply]] = {
    (_IDLE, Stimulus.SEND): (_PUBACK, Reply.PUBLISH),  # MQTT-4.3.2-2
    (_IDLE, Stimulus.PUBACK): (_IDLE, Reply.IGNORE),  # NN-7.6: late or repeated
    (_IDLE, Stimulus.PUBACK_ERROR): (_IDLE, Reply.IGNORE),
    (_IDLE, Stimulus.PUBREC): (_IDLE, Reply.PUBREL_NOT_FOUND),  # NN-7.5
    (_IDLE, Stimulus.PUBREC_ERROR): (_IDLE, Reply.IGNORE),  # NN-7.5, MQTT-4.3.3-4
    (_IDLE, Stimulus.PUBCOMP): (_IDLE, Reply.IGNORE),  # NN-7.6
    (_IDLE, Stimulus.RESUME): (_IDLE, Reply.IGNORE),
    (_PUBACK, Stimulus.SEND): (_PUBACK, Reply.IGNORE),
    (_PUBACK, Stimulus.PUBACK): (_IDLE, Reply.COMPLETE),  # MQTT-4.3.2-3
    (_PUBACK, Stimulus.PUBACK_ERROR): (_IDLE, Reply.GIVE_UP),  # MQTT-4.4.0-2
    (_PUBACK, Stimulus.PUBREC): (_PUBACK, Reply.PROTOCOL_ERROR),  # NN-7.6
    (_PUBACK, Stimulus.PUBREC_ERROR): (_PUBACK, Reply.PROTOCOL_ERROR),
    (_PUBACK, Stimulus.PUBCOMP): (_PUBACK, Reply.PROTOCOL_ERROR),
    (_PUBACK, Stimulus.RESUME): (_PUBACK, Reply.PUBLISH_AGAIN),  # MQTT-4.4.0-1
}

SENDER_QOS_2: dict[tuple[Phase, Stimulus], tuple[Phase, Reply]] = {
    (_IDLE, Stimulus.SEND): (_PUBREC, Reply.PUBLISH),  # MQTT-4.3.3-2
    (_IDLE, Stimulus.PUBACK): (_IDLE, Reply.IGNORE),
    (_IDLE, Stimulus.PUBACK_ERROR): (_IDLE, Reply.IGNORE),
    (_IDLE, Stimulus.PUBREC): (_IDLE, Reply.PUBREL_NOT_FOUND),
    (_IDLE, Stimulus.PUBREC_ERROR): (_IDLE, Reply.IGNORE),
    (_IDLE, Stimulus.PUBCOMP): (_IDLE, Reply.IGNORE),
    (_IDLE, Stimulus.RESUME): (_IDLE, Reply.IGNORE),
    (_PUBREC, Stimulus.SEND): (_PUBREC, Reply.IGNORE),
    (_PUBREC, Stimulus.PUBACK): (_PUBREC, Reply.PROTOCOL_ERROR),  # NN-7.6
    (_PUBREC, Stimulus.PUBACK_ERROR): (_PUBREC, Reply.PROTOCOL_ERROR),
    (_PUBREC, Stimulus.PUBREC): (_PUBCOMP, Reply.PUBREL),  # MQTT-4.3.3-4
    (_PUBREC, Stimulus.PUBREC_ERROR): (_IDLE, Reply.GIVE_UP),  # NN-7.7
    (_PUBREC, Stimulus.PUBCOMP): (_PUBREC, Reply.PROTOCOL_ERROR),  # NN-7.6
    (_PUBREC, Stimulus.RESUME): (_PUBREC, Reply.PUBLISH_AGAIN),  # MQTT-4.3.3-7: expired or not
    (_PUBCOMP, Stimulus.SEND): (_PUBCOMP, Reply.IGNORE),  # MQTT-4.3.3-6: never again
    (_PUBCOMP, Stimulus.PUBACK): (_PUBCOMP, Reply.PROTOCOL_ERROR),
    (_PUBCOMP, Stimulus.PUBACK_ERROR): (_PUBCOMP, Reply.PROTOCOL_ERROR),
    (_PUBCOMP, Stimulus.PUBREC): (_PUBCOMP, Reply.PUBREL),  # NN-7.6
    # The receiver took the message at its first PUBREC and has forgotten the identifier since.
    (_PUBCOMP, Stimulus.PUBREC_ERROR): (_IDLE, Reply.COMPLETE),
    (_PUBCOMP, Stimulus.PUBCOMP): (_IDLE, Reply.COMPLETE),  # NN-7.9: whatever its code
    (_PUBCOMP, Stimulus.RESUME): (_PUBCOMP, Reply.PUBREL),  # MQTT-4.4.0-1
}

RECEIVER_QOS_1: dict[tuple[Inbound, Stimulus], tuple[Inbound, Reply]] = {
    (Inbound.IDLE, Stimulus.PUBLISH): (Inbound.ROUTING, Reply.ROUTE),  # MQTT-4.3.2-5: no dedup
    (Inbound.IDLE, Stimulus.ROUTED): (Inbound.IDLE, Reply.IGNORE),  # its connection is gone
    (Inbound.IDLE, Stimulus.REFUSED): (Inbound.IDLE, Reply.IGNORE),
    (Inbound.ROUTING, Stimulus.PUBLISH): (Inbound.ROUTING, Reply.IGNORE),  # PUBACK is to come
    (Inbound.ROUTING, Stimulus.ROUTED): (Inbound.IDLE, Reply.PUBACK),  # MQTT-4.3.2-4
    (Inbound.ROUTING, Stimulus.REFUSED): (Inbound.IDLE, Reply.PUBACK),
}

RECEIVER_QOS_2: dict[tuple[Inbound, Stimulus], tuple[Inbound, Reply]] = {
    (Inbound.IDLE, Stimulus.PUBLISH): (Inbound.ROUTING, Reply.ROUTE),
    (Inbound.IDLE, Stimulus.ROUTED): (Inbound.IDLE, Reply.IGNORE),
    (Inbound.IDLE, Stimulus.REFUSED): (Inbound.IDLE, Reply.IGNORE),
    (Inbound.IDLE, Stimulus.PUBREL): (Inbound.IDLE, Reply.PUBCOMP_NOT_FOUND),  # NN-7.4
    (Inbound.ROUTING, Stimulus.PUBLISH): (Inbound.ROUTING, Reply.IGNORE),  # PUBREC is to come
    (Inbound.ROUTING, Stimulus.ROUTED): (Inbound.AWAITING_PUBREL, Reply.PUBREC),  # MQTT-4.3.3-8
    (Inbound.ROUTING, Stimulus.REFUSED): (Inbound.IDLE, Reply.PUBREC_ERROR),  # MQTT-4.3.3-9
    (Inbound.ROUTING, Stimulus.PUBREL): (Inbound.ROUTING, Reply.PROTOCOL_ERROR),
    (Inbound.AWAITING_PUBREL, Stimulus.PUBLISH): (
        Inbound.AWAITING_PUBREL,
        Reply.PUBREC,  # MQTT-4.3.3-10
    ),
    (Inbound.AWAITING_PUBREL, Stimulus.ROUTED): (Inbound.AWAITING_PUBREL, Reply.IGNORE),
    (Inbound.AWAITING_PUBREL, Stimulus.REFUSED): (Inbound.AWAITING_PUBREL, Reply.IGNORE),
    (Inbound.AWAITING_PUBREL, Stimulus.PUBREL): (Inbound.IDLE, Reply.PUBCOMP),  # MQTT-4.3.3-11
}

_SENDERS = {**SENDER_QOS_1, **SENDER_QOS_2}


def _replies(stimulus: Stimulus) -> tuple[Reply, ...]:
    """One column of the senders' tables, indexed by phase: a lookup without a key to build."""
    return tuple(_SENDERS[phase, stimulus][1] for phase in Phase)


ON_PUBACK = _replies(Stimulus.PUBACK)
ON_PUBACK_ERROR = _replies(Stimulus.PUBACK_ERROR)
ON_PUBREC = _replies(Stimulus.PUBREC)
ON_PUBREC_ERROR = _replies(Stimulus.PUBREC_ERROR)
ON_PUBCOMP = _replies(Stimulus.PUBCOMP)
ON_PUBREL = tuple(RECEIVER_QOS_2[phase, Stimulus.PUBREL][1] for phase in Inbound)
