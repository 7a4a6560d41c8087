"""What there is to obey, and what becomes of each statement."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

__all__ = [
    "BY_CONSTRUCTION",
    "DEVIATIONS",
    "DUTIES",
    "HOST",
    "LATER",
    "OUTSIDE",
    "UNNUMBERED",
    "UNUSED",
    "Deviation",
    "Statement",
    "rules",
    "statements",
]

HERE = Path(__file__).parent


@frozen
class Statement:
    """One thing that the standard says.

    Attributes:
        key: As marks name it: version and id, or the id of an unnumbered rule.
        area: What it is about.
        binds: Client, server or both; of an unnumbered rule how it is said, and where.
        words: In our own words.
        testable: Whether a session layer can be held to it: yes, partly, or no and why.
    """

    key: str
    area: str
    binds: str
    words: str
    testable: str


def _rows(name: str) -> list[list[str]]:
    return [line.split("\t") for line in (HERE / name).read_text().splitlines()[1:]]


def statements() -> dict[str, Statement]:
    """The numbered statements of both versions, in order."""
    return {
        f"{version} {number}": Statement(f"{version} {number}", area, binds, words, testable)
        for version, number, area, binds, testable, words in _rows("statements.tsv")
    }


def rules() -> dict[str, Statement]:
    """The unnumbered rules, in order."""
    return {
        number: Statement(number, part, kind, words, "yes")
        for number, kind, part, words in _rows("rules.tsv")
    }


# ---------------------------------------------------------------- one test for each duty

DUTIES: dict[str, dict[str, str]] = {
    "5.0 MQTT-3.1.2-4": {
        "a": "the old state is gone",
        "b": "and its will is published",
    },
    "5.0 MQTT-3.1.2-8": {
        "a": "published when the delay is over",
        "b": "published when the session ends before that",
        "c": "not published after DISCONNECT 0x00",
        "d": "not published if a new connection comes before the delay is over",
    },
    "5.0 MQTT-3.1.2-10": {
        "a": "gone once it was published",
        "b": "gone after DISCONNECT 0x00",
    },
    "5.0 MQTT-3.1.2-25": {
        "a": "the packet is not sent",
        "b": "and counts as completed: no identifier, no unit, and the queue moves on",
    },
    "5.0 MQTT-3.1.3-7": {
        "a": "the session is stored under the assigned id",
        "b": "CONNACK tells the id",
    },
    "5.0 MQTT-3.1.4-3": {
        "a": "the older connection gets DISCONNECT 0x8E",
        "b": "and is closed",
    },
    "5.0 MQTT-3.2.2-3": {
        "a": "1 where there is state",
        "b": "0 where there is none",
    },
    "5.0 MQTT-3.3.1-6": {
        "a": "distributed as usual",
        "b": "the topic's retained message is erased",
    },
    "5.0 MQTT-3.3.1-8": {
        "a": "does not store",
        "b": "does not alter",
        "c": "does not erase, the payload being empty or not",
    },
    "5.0 MQTT-3.3.1-10": {
        "a": "a subscription that is new gets the retained messages",
        "b": "one that existed before gets none",
    },
    "5.0 MQTT-3.8.4-4": {
        "a": "retained messages are sent again",
        "b": "no message is lost",
    },
    "5.0 MQTT-3.10.4-5": {
        "a": "the identifier of the request",
        "b": "sent even if nothing was removed",
    },
    "5.0 MQTT-4.3.3-4": {
        "a": "PUBREL with the same identifier",
        "b": "PUBREC again, PUBREL again",
        "c": "PUBREC with an error code, no PUBREL",
    },
    "5.0 MQTT-4.3.3-10": {
        "a": "PUBREC again and not handed on, whatever DUP says",
        "b": "and also on a later connection",
    },
    "5.0 MQTT-4.4.0-1": {
        "a": "QoS 1 PUBLISH without PUBACK is sent again",
        "b": "QoS 2 PUBLISH without PUBREC is sent again",
        "c": "PUBREL without PUBCOMP is sent again",
        "d": "nothing is sent again at any other moment",
    },
    "5.0 MQTT-4.9.0-2": {
        "a": "each PUBLISH takes a unit, one that is sent again too",
        "b": "none is sent at zero",
    },
    "5.0 MQTT-4.13.1-1": {
        "a": "0x82 for what the state forbids",
        "b": "0x9B for QoS above Maximum QoS",
        "c": "0x9A for RETAIN where it is not available",
        "d": "0x93 for more than Receive Maximum",
        "e": "0x94 for a topic alias out of range",
        "f": "0x95 for a packet above Maximum Packet Size",
        "g": "0x9E for a shared filter where none are available",
        "h": "0x90 for a topic name that is not well formed",
        "i": "0x81 for a malformed packet",
    },
    "3.1.1 MQTT-2.3.1-3": {
        "a": "what is sent again keeps its identifier",
        "b": "free after PUBACK",
        "c": "free after PUBCOMP, and not before",
        "d": "free after SUBACK and UNSUBACK",
    },
    "3.1.1 MQTT-3.1.2-4": {
        "a": "a session on record goes on",
        "b": "else one is made",
        "c": "and it is kept after the connection",
    },
    "3.1.1 MQTT-3.1.2-6": {
        "a": "the previous session is dropped",
        "b": "the new one ends with its connection",
        "c": "and nobody inherits it",
    },
    "3.1.1 MQTT-3.1.2-8": {
        "a": "published when the connection closes",
        "b": "not after DISCONNECT",
    },
    "3.1.1 MQTT-3.1.2-10": {
        "a": "gone once it was published",
        "b": "gone after DISCONNECT",
    },
    "3.1.1 MQTT-3.3.1-5": {
        "a": "the message is stored",
        "b": "with its QoS",
    },
    "3.1.1 MQTT-3.3.1-10": {
        "a": "distributed as usual",
        "b": "the topic's retained message is erased",
    },
    "3.1.1 MQTT-3.3.1-12": {
        "a": "does not store",
        "b": "does not alter",
        "c": "does not erase, the payload being empty or not",
    },
    "3.1.1 MQTT-3.8.4-3": {
        "a": "the subscription is replaced completely",
        "b": "retained messages are sent again",
        "c": "the flow of messages is not interrupted",
    },
    "3.1.1 MQTT-3.10.4-4": {
        "a": "each UNSUBSCRIBE is answered",
        "b": "with its identifier",
    },
    "3.1.1 MQTT-4.3.2-1": {
        "a": "an identifier that is not in use",
        "b": "PUBLISH with that identifier, QoS 1 and DUP 0",
        "c": "unacknowledged until PUBACK",
    },
    "3.1.1 MQTT-4.3.2-2": {
        "a": "PUBACK with the identifier",
        "b": "after it the identifier is that of a new message, whatever DUP says",
    },
    "3.1.1 MQTT-4.3.3-1": {
        "a": "an identifier that is not in use",
        "b": "PUBLISH with that identifier, QoS 2 and DUP 0",
        "c": "unacknowledged until PUBREC",
        "d": "PUBREL with the same identifier on PUBREC",
        "e": "PUBREL unacknowledged until PUBCOMP",
        "f": "no PUBLISH after PUBREL",
    },
    "3.1.1 MQTT-4.3.3-2": {
        "a": "PUBREC with the identifier",
        "b": "PUBREC again and not handed on again until PUBREL",
        "c": "PUBCOMP with the identifier on PUBREL",
        "d": "after it the identifier is that of a new message",
    },
    "3.1.1 MQTT-4.4.0-1": {
        "a": "QoS 1 PUBLISH without PUBACK is sent again",
        "b": "QoS 2 PUBLISH without PUBREC is sent again",
        "c": "PUBREL without PUBCOMP is sent again",
    },
    "3.1.1 MQTT-4.6.0-6": {
        "a": "PUBLISHes are sent again in order",
        "b": "PUBACKs leave in receive order",
        "c": "PUBRECs leave in receive order",
        "d": "PUBRELs leave in the order of the PUBRECs",
        "e": "a publisher's order holds per topic and QoS",
    },
    "NN-1.7": {
        "a": "that it exists, even if empty",
        "b": "subscriptions with their identifiers",
        "c": "what was sent and is not acknowledged",
        "d": "what waits to be sent",
        "e": "identifiers of received QoS 2 messages",
        "f": "the will and its delay",
        "g": "when it ends",
    },
    "NN-1.9": {
        "a": "retained messages",
        "b": "send quota and Receive Maximum",
        "c": "Maximum Packet Size",
        "d": "topic aliases",
        "e": "Keep Alive",
    },
    "NN-2.8": {
        "a": "by a 3.x client: no properties, no identifiers",
        "b": "live messages with RETAIN 0",
        "c": "No Local and grants stay",
        "d": "the policy's interval",
        "e": "a delayed will is canceled",
        "f": "by a 5.0 client: subscriptions of 3.x have no options",
    },
    "NN-4.8": {
        "a": "by expiry",
        "b": "by Clean Start 1",
        "c": "by the host",
    },
    "NN-6.2": {
        "a": "after PUBACK",
        "b": "after PUBCOMP",
        "c": "after PUBREC with an error code",
        "d": "after SUBACK and UNSUBACK",
    },
    "NN-7.6": {
        "a": "PUBREC again, PUBREL again",
        "b": "PUBREC for QoS 1, PUBACK for QoS 2, PUBCOMP before PUBREC: Protocol Error",
        "c": "PUBACK and PUBCOMP with an unknown identifier are ignored",
    },
    "NN-7.7": {
        "a": "for the sender",
        "b": "for the receiver",
    },
    "NN-8.2": {
        "a": "PUBLISH and PUBREL",
        "b": "never an acknowledgement",
    },
    "NN-8.7": {
        "a": "QoS 1: closed, the identifier free",
        "b": "QoS 2: closed with PUBREL",
    },
    "NN-14.5": {
        "a": "quota and identifiers",
        "b": "size",
        "c": "expiry",
        "d": "Subscription Identifiers",
        "e": "topics with $",
        "f": "No Local",
    },
}

# ---------------------------------------------------------------- what is not the library's

_CLIENT = "What a client does by itself; sessions of a client come later."
_SHARED = "Shared subscriptions come later; until then such a filter is refused."

LATER: dict[str, str] = {
    **{f"5.0 MQTT-4.8.2-{number}": _SHARED for number in range(1, 7)},
    **{f"NN-13.{number}": _SHARED for number in range(1, 10)},
    "NN-11.3": _SHARED,
    **dict.fromkeys(
        (
            "5.0 MQTT-3.1.2-20",
            "5.0 MQTT-3.1.2-21",
            "5.0 MQTT-3.2.2-4",
            "5.0 MQTT-3.2.2-5",
            "5.0 MQTT-3.3.2-10",
            "5.0 MQTT-3.3.4-8",
            "5.0 MQTT-4.5.0-2",
            "3.1.1 MQTT-3.1.2-23",
            "3.1.1 MQTT-3.14.4-1",
            "3.1.1 MQTT-3.14.4-2",
            "3.1.1 MQTT-4.5.0-2",
            "NN-1.8",
            "NN-1.12",
            "NN-2.3",
            "NN-2.5",
            "NN-2.6",
            "NN-2.7",
            "NN-10.5",
        ),
        _CLIENT,
    ),
}

HOST: dict[str, str] = {
    "NN-11.4": "The library puts neither Reason String nor User Properties into an "
    "acknowledgement; a host whose codec adds some has to look at the size.",
}

OUTSIDE: dict[str, str] = {
    "no: codec": "the form of packets: a codec's, such as the optional `mqtt_sessions.wire`",
    "no: auth": "authentication: the host's, before it feeds `ClientConnected`",
    "no: handshake": "the host's handshake: a CONNECT that never reached the library",
    "no: transport": "the transport",
}

UNNUMBERED: tuple[Statement, ...] = (
    Statement(
        "3.1.1 §3.2.2.1",
        "connect",
        "server",
        "Bits 7..1 of the CONNACK flags are 0",
        "no: codec",
    ),
    Statement(
        "3.1.1 §3.1.4",
        "connect",
        "server",
        "A client that fails authentication or another check of the host's is closed, "
        "and should be told by CONNACK before (step 3)",
        "no: auth",
    ),
)
"""Duties of 3.1.1 that have no number, and no rule either since others fulfill them."""

UNUSED: dict[str, str] = {
    "NN-1.6": "A permission that the library does not use: state ends at its instant.",
    "NN-12.10": "A permission that the library does not use: topic names are never mapped.",
    "NN-15.2": "An example of what NN-8.3 comes to.",
}


# ---------------------------------------------------------------- deviations


@frozen
class Deviation:
    """A choice of the host that breaks a statement.

    Attributes:
        option: Class and field.
        when: The values that deviate.
        breaks: The statements, or single duties of them.
        default: Whether the default deviates, and how.
        test: The test that shows it.
    """

    option: str
    when: str
    breaks: tuple[str, ...]
    default: str
    test: str


DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        "SessionLimits.overflow",
        "any of its values, for QoS 1 and 2 messages that a full queue drops",
        ("5.0 MQTT-4.5.0-1", "3.1.1 MQTT-4.5.0-1"),
        "on: a queue has 1000 messages at most, and then what has expired, QoS 0 and the oldest go",
        "behavior/test_queues.py::test_overflow_by_count",
    ),
    Deviation(
        "ExpiryPolicy.expire_in_flight",
        "true",
        ("5.0 MQTT-4.4.0-1", "3.1.1 MQTT-4.4.0-1"),
        "off",
        "behavior/test_message_expiry.py::test_option_gives_up_begun_qos_1_at_resume_only",
    ),
    Deviation(
        "ExpiryPolicy.inbound_qos2_interval",
        "an interval",
        ("5.0 MQTT-4.3.3-10", "3.1.1 MQTT-4.3.3-2"),
        "off",
        "behavior/test_message_expiry.py::"
        "test_time_out_of_inbound_identifiers_breaks_the_exchange_and_says_so",
    ),
    Deviation(
        "ServerOptions.upgrade_qos",
        "true",
        ("5.0 MQTT-3.8.4-8", "3.1.1 MQTT-3.8.4-6"),
        "off",
        "behavior/test_qos_flows.py::test_upgrade_option_delivers_at_the_granted_qos",
    ),
    Deviation(
        "ServerOptions.enforce_receive_maximum",
        "false",
        ("NN-10.4", "5.0 MQTT-4.13.1-1 (d)"),
        "off: it is enforced",
        "behavior/test_flow_control.py::test_receive_maximum_may_be_watched_only",
    ),
    Deviation(
        "SessionLimits.maximum_retained_messages",
        "a number; a retained will or message of the host that finds no room, and has no answer to "
        "be refused with, is delivered and not retained",
        ("5.0 MQTT-3.1.2-15", "3.1.1 MQTT-3.1.2-17"),
        "off: no bound",
        "behavior/test_wills.py::test_will_that_cannot_be_retained_is_delivered_all_the_same",
    ),
    Deviation(
        "SessionLimits.maximum_retained_bytes",
        "a number; the same",
        ("5.0 MQTT-3.1.2-15", "3.1.1 MQTT-3.1.2-17"),
        "off: no bound",
        "behavior/test_wills.py::"
        "test_will_that_is_too_large_to_be_retained_still_ends_its_topics_old_message",
    ),
    Deviation(
        "ExpiryPolicy.default_message_expiry_interval",
        "an interval; messages without one of their own are dropped after it",
        ("NN-9.1",),
        "off: they never expire",
        "behavior/test_conformance_rest.py::"
        "test_default_interval_drops_what_the_standard_never_lets_expire",
    ),
    Deviation(
        "ExpiryPolicy.maximum_message_expiry_interval",
        "an interval; messages without one, or with a longer one, are dropped after it",
        ("NN-9.1",),
        "off: no cap",
        "behavior/test_message_expiry.py::test_cap_deletes_earlier_and_tells_what_was_received",
    ),
)

# ---------------------------------------------------------------- obeyed without a branch

BY_CONSTRUCTION: dict[str, str] = {
    "5.0 MQTT-2.2.1-5": "each answer is made of the identifier of the event that it answers, and "
    "PUBREL of that of its PUBREC.",
    "5.0 MQTT-3.1.2-29": "no action but `SendPublish` has a field for User Properties, and none "
    "for a Reason String.",
    "5.0 MQTT-3.1.3-10": "a will is one immutable `Message`, published as it is.",
    "5.0 MQTT-4.6.0-6": "no option exempts a topic from its order.",
    "3.1.1 MQTT-2.3.1-6": "each answer is made of the identifier of the event that it answers.",
    "3.1.1 MQTT-3.8.3-2": "wildcards are supported; a host that has none refuses entry by entry, "
    "and SUBACK says 0x80.",
    "3.1.1 MQTT-4.6.0-5": "no option exempts a topic from its order.",
    "NN-2.4": "an identifier is part of its subscription and ends with it.",
    "NN-6.1": "outgoing exchanges and the client's identifiers stand in two tables.",
}
"""Statements that no branch obeys, because nothing in the library could break them."""
