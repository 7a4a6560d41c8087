"""Where brokers differ from the standard, or from what the library does where it is free.

One table for the tests and for docs/reference/differences.md. A scenario that fails on a broker
has to stand here, with its statement and with what is seen; an entry whose scenario passes is a
failure too, so that the table shrinks when a broker is mended.

    python -m tests.live.differences        writes the page's table
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import attrs

__all__ = [
    "DIFFERENCES",
    "PAGE",
    "VERSIONS",
    "Difference",
    "Kind",
    "expected",
    "must_show",
    "shows",
    "table",
]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "differences.md"


class Kind(Enum):
    """Whether the standard is broken, or leaves the choice, or a whole feature is missing."""

    BREAKS = "breaks the statement"
    FREEDOM = "uses a freedom"
    ABSENT = "feature not offered"


@attrs.frozen
class Difference:
    """One difference of one broker.

    Attributes:
        broker: Its fixture's name.
        statement: What says otherwise: one of the scenario's marks, or a rule NN-x.y of its
            docstring.
        kind: Whether that is broken.
        sent: What the clients do.
        standard: What the statement, or the library, says.
        seen: What the broker does.
        failures: Tests in tests/live/test_scenarios.py that show it, each with a part of what its
            assertion then says, so that no other failure hides behind it.
        protocols: Protocol versions in which it shows.
        always: Whether it shows each time, or by chance.
    """

    broker: str
    statement: str
    kind: Kind
    sent: str
    standard: str
    seen: str
    failures: dict[str, str]
    protocols: tuple[int, ...] = (4, 5)
    always: bool = True


MOSQUITTO = (
    Difference(
        "mosquitto",
        "5.0 MQTT-3.1.4-3",
        Kind.BREAKS,
        "CONNECT with the client id of a connected client",
        "the older connection gets DISCONNECT 0x8E and is closed",
        "closes it without a DISCONNECT",
        {"test_first_connection_is_told_that_it_was_taken_over": "SESSION_TAKEN_OVER"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-3.1.2-8",
        Kind.BREAKS,
        "CONNECT that continues the session of a connected client whose will has no delay",
        "the will is published, for the old connection ended abnormally",
        "drops the will",
        {"test_take_over_publishes_the_will_of_the_first_connection": "assert [] == [b'w']"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "3.1.1 MQTT-3.1.2-8",
        Kind.BREAKS,
        "CONNECT that continues the session of a connected client with a will",
        "the will is published when its connection is closed",
        "drops the will",
        {"test_take_over_publishes_the_will_of_the_first_connection": "assert [] == [b'w']"},
        (4,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-3.1.2-8",
        Kind.BREAKS,
        "DISCONNECT with 0x80, 0x93 or an undefined code from a client with a will",
        "only DISCONNECT 0x00 deletes the will",
        "deletes it for every code but 0x04",
        {
            "test_failing_disconnect_publishes_the_will": "assert [] == [b'w']",
            "test_undefined_code_of_disconnect_publishes_the_will": "assert [] == [b'w']",
        },
        (5,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-3.1.2-8",
        Kind.BREAKS,
        "CONNECT with Clean Start 1 while a delayed will waits for its session's end",
        "the old session ends, and so the will is published",
        "drops the will",
        {"test_end_of_the_session_publishes_a_delayed_will": "assert [] == [b'w']"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-3.1.2-8",
        Kind.BREAKS,
        "a connection with Session Expiry Interval 0 and a delayed will is lost",
        "the session ends at once, and with it the delay",
        "publishes the will only when its delay has passed",
        {
            "test_will_delay_does_not_count_where_the_session_ends_at_once": "assert [] == [b'w']",
        },
        (5,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-3.1.2-8",
        Kind.BREAKS,
        "a second CONNECT on a connection with a will",
        "the connection ends abnormally, so the will is published",
        "closes the connection and drops the will",
        {"test_second_connect_publishes_the_will": "assert [] == [b'w']"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "3.1.1 MQTT-3.1.2-8",
        Kind.BREAKS,
        "a second CONNECT on a connection with a will",
        "the will is published when its connection is closed",
        "closes the connection and drops the will",
        {"test_second_connect_publishes_the_will": "assert [] == [b'w']"},
        (4,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-3.1.2-22",
        Kind.BREAKS,
        "nothing, for longer than one and a half times the Keep Alive",
        "the server closes the connection then",
        "looks every 5 seconds, so closes it up to 5 seconds late, and without DISCONNECT 0x8D",
        {"test_silent_client_is_closed_and_its_will_published": "is_closed([])"},
        (5,),
        always=False,
    ),
    Difference(
        "mosquitto",
        "3.1.1 MQTT-3.1.2-24",
        Kind.BREAKS,
        "nothing, for longer than one and a half times the Keep Alive",
        "the server closes the connection then",
        "looks every 5 seconds, so closes it up to 5 seconds late",
        {"test_silent_client_is_closed_and_its_will_published": "is_closed([])"},
        (4,),
        always=False,
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-4.3.3-10",
        Kind.BREAKS,
        "a QoS 2 PUBLISH, and twice more before its PUBREL",
        "each gets PUBREC, until PUBREL comes",
        "answers the second repeat by DISCONNECT 0x82",
        {"test_qos_2_message_may_be_repeated_any_number_of_times": "not answered by PUBREC"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "3.1.1 MQTT-4.3.3-2",
        Kind.BREAKS,
        "a QoS 2 PUBLISH, and twice more before its PUBREL",
        "each gets PUBREC, until PUBREL comes",
        "closes the connection at the second repeat",
        {"test_qos_2_message_may_be_repeated_any_number_of_times": "not answered by PUBREC"},
        (4,),
    ),
    Difference(
        "mosquitto",
        "NN-7.3",
        Kind.FREEDOM,
        "a QoS 2 PUBLISH whose PUBREL has not come",
        "the library hands the message on at PUBLISH, as in figure 4.3 of 5.0",
        "hands it on at PUBREL",
        {"test_qos_2_message_is_handed_on_at_publish": "assert [] == [b'1']"},
    ),
    Difference(
        "mosquitto",
        "NN-7.4",
        Kind.BREAKS,
        "PUBREL with an identifier that is not known",
        "PUBCOMP 0x92 (text of table 3-7)",
        "sends PUBCOMP 0x00",
        {"test_unknown_pubrel_is_answered_with_0x92": "PACKET_IDENTIFIER_NOT_FOUND"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "NN-7.5",
        Kind.BREAKS,
        "PUBREC with an identifier that is not known",
        "PUBREL 0x92 (text of table 3-6)",
        "sends PUBREL 0x00",
        {"test_unknown_pubrec_is_answered_with_0x92": "PACKET_IDENTIFIER_NOT_FOUND"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "NN-15.3",
        Kind.FREEDOM,
        "PUBRECs in another order than the PUBLISHes, and a resume",
        "PUBRELs go out again in the order of the PUBRECs; in 5.0 that binds clients only",
        "sends them again in the order of the PUBLISHes",
        {"test_pubrels_are_sent_again_in_the_order_of_their_pubrecs": "[1, 2, 3] == [3, 2, 1]"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "3.1.1 MQTT-4.6.0-6",
        Kind.BREAKS,
        "PUBRECs in another order than the PUBLISHes, and a resume",
        "PUBRELs go out in the order of the PUBRECs, which binds servers too",
        "sends them again in the order of the PUBLISHes",
        {"test_pubrels_are_sent_again_in_the_order_of_their_pubrecs": "[1, 2, 3] == [3, 2, 1]"},
        (4,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-4.9.0-2",
        Kind.BREAKS,
        "CONNECT that resumes with a smaller Receive Maximum than there are messages in flight",
        "no more than that are sent again; the rest follows as acknowledgements come in",
        "sends all of them again at once",
        {"test_smaller_receive_maximum_bounds_what_is_sent_again": "[MQTT-4.9.0-2]"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-3.3.4-9",
        Kind.BREAKS,
        "PUBACK for the first of several messages in flight, while others wait for the quota",
        "one unit comes back, and one message is sent",
        "fills up from the place of the acknowledged message, so that more are in flight than "
        "Receive Maximum allows",
        {
            "test_an_acknowledgement_gives_back_one_unit": "[MQTT-4.9.0-2]",
            "test_a_refusal_gives_back_one_unit": "[MQTT-4.9.0-2]",
        },
        (5,),
    ),
    Difference(
        "mosquitto",
        "NN-7.7",
        Kind.BREAKS,
        "PUBREC of 0x80 and above, and later another message, Receive Maximum 1",
        "the refusal gives its unit of the send quota back, so the other message is sent",
        "loses the unit, so that the other message is never sent",
        {"test_refused_message_leaves_room_for_the_next": "assert [] == [b'2']"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-3.8.4-3",
        Kind.BREAKS,
        "SUBSCRIBE to a filter that is subscribed to, with another No Local or Retain As Published",
        "the new subscription replaces the old one, options included",
        "takes the new QoS and identifier, and keeps the old options",
        {
            "test_repeated_subscribe_replaces_retain_as_published": "[False] == [True]",
            "test_repeated_subscribe_replaces_no_local": "assert [b'own'] == []",
        },
        (5,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-3.11.3-2",
        Kind.BREAKS,
        "UNSUBSCRIBE from a filter that begins with $ and that nobody ever used",
        "UNSUBACK 0x11, for no subscription existed",
        "sends UNSUBACK 0x00",
        {
            "test_unsuback_of_a_dollar_filter_says_that_nothing_was_removed": (
                "(<ReasonCode.SUCCESS: 0>,) =="
            ),
        },
        (5,),
    ),
    Difference(
        "mosquitto",
        "NN-14.5",
        Kind.FREEDOM,
        "SUBSCRIBE with No Local to a topic whose retained message the client published itself",
        "No Local holds for retained messages too",
        "sends the message",
        {"test_no_local_holds_for_retained_messages_too": "assert [b'own'] == []"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-3.1.2-25",
        Kind.BREAKS,
        "a message above the subscriber's Maximum Packet Size, and another, Receive Maximum 1",
        "the first is dropped as if it had been delivered, and the second is sent",
        "drops the first but keeps its unit of the send quota, so that the second is never sent",
        {
            "test_message_that_is_too_large_is_dropped_and_the_next_one_sent": (
                "assert [] == [b'1']"
            ),
        },
        (5,),
    ),
    Difference(
        "mosquitto",
        "3.1.1 MQTT-3.3.5-1",
        Kind.BREAKS,
        "PUBLISH that matches overlapping subscriptions of different QoS",
        "the highest QoS of them",
        "sends one copy at the QoS of the subscription that it finds first",
        {
            "test_overlapping_subscriptions_get_one_copy": "[(b'1', 0)] == [(b'1', 1)]",
            "test_overlapping_subscriptions_get_one_copy_at_the_highest_qos": (
                "[(b'1', 0)] == [(b'1', 2)]"
            ),
        },
        (4,),
    ),
    Difference(
        "mosquitto",
        "NN-12.3",
        Kind.FREEDOM,
        "PUBLISH that matches overlapping subscriptions",
        "one copy at the highest QoS with all identifiers, or one for each match",
        "sends one for each match, each with its own identifier",
        {
            "test_overlapping_subscriptions_get_one_copy": (
                "[(b'1', 0), (b'1', 1)] == [(b'1', 1)]"
            ),
            "test_overlapping_subscriptions_get_one_copy_at_the_highest_qos": ("== [(b'1', 2)]"),
            "test_one_copy_has_the_identifiers_of_all_matches": "== [[1, 268435455]]",
        },
        (5,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-4.3.3-7",
        Kind.BREAKS,
        "a resume after a message expired whose PUBLISH had been sent",
        "PUBLISH is sent again: expiry does not apply to what has begun",
        "forgets the exchange",
        {"test_expiry_does_not_end_what_has_begun": "assert [] == [(b'1', True)]"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "NN-5.3",
        Kind.FREEDOM,
        "SUBSCRIBE without filters",
        "DISCONNECT should say 0x82, Protocol Error",
        "says 0x81, Malformed Packet",
        {"test_protocol_error_is_answered_by_its_code": "MALFORMED_PACKET"},
        (5,),
    ),
    Difference(
        "mosquitto",
        "5.0 MQTT-3.3.4-6",
        Kind.BREAKS,
        "PUBLISH with a Subscription Identifier, from a client",
        "no client may send it: a Protocol Error, which closes the connection",
        "takes the message and hands it on without the identifier",
        {"test_subscription_identifier_from_a_client_closes_the_connection": "is_closed([])"},
        (5,),
    ),
)


RABBITMQ = (
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-3.1.2-4",
        Kind.BREAKS,
        "CONNECT with CleanSession 0, without a QoS 1 subscription, and a second one later",
        "the session is kept, so Session Present is 1",
        "keeps a session only for its QoS 1 subscriptions: Session Present is 0",
        {
            "test_session_present_tells_whether_a_session_goes_on": "session_present=False",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-3.1.4-4",
        Kind.BREAKS,
        (
            "CONNECT with CleanSession 0 and the client id of a connected client with "
            "CleanSession 1 and a QoS 1 subscription"
        ),
        "CONNACK 0, and a new session",
        "closes the new connection without CONNACK, and the old one too",
        {
            "test_take_over_inherits_nothing_from_a_session_that_is_not_kept": (
                "is_closed([CloseConnection("
            ),
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-3.1.2-8",
        Kind.BREAKS,
        "CONNECT that continues the session of a connected client with a will",
        "the will is published when its connection is closed",
        "drops the will",
        {
            "test_take_over_publishes_the_will_of_the_first_connection": "assert [] == [b'w']",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-3.1.2-8",
        Kind.BREAKS,
        "a PUBLISH with QoS 3 on a connection with a will",
        "the connection is closed, and the will is published",
        "closes the connection and drops the will",
        {
            "test_faulty_packet_closes_its_own_connection_only": "assert [] == [b'w']",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-4.8.0-1",
        Kind.BREAKS,
        "SUBSCRIBE without filters",
        "a protocol violation, which closes the connection",
        "answers by SUBACK without a code",
        {
            "test_subscribe_without_filters_closes_its_own_connection_only": (
                "SUBACK without a code"
            ),
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-3.1.0-2",
        Kind.BREAKS,
        "a second CONNECT on a connection",
        "the connection is closed, and a will published",
        "answers by another CONNACK",
        {
            "test_second_connect_closes_the_connection": "a second CONNACK",
            "test_second_connect_publishes_the_will": "a second CONNACK",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-2.3.1-1",
        Kind.BREAKS,
        "a QoS 1 PUBLISH with packet identifier 0",
        "no such packet may be sent: the connection is closed",
        "sends PUBACK with packet identifier 0",
        {
            "test_packet_identifier_0_closes_the_connection": "packet identifier 0",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-4.7.1-1",
        Kind.BREAKS,
        "PUBLISH with a wildcard in its topic name",
        "no topic name may have one: the connection is closed",
        "takes the message and hands it on",
        {
            "test_wildcard_in_a_topic_name_is_refused": "is_closed([SendPuback(",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-4.7.1-2",
        Kind.BREAKS,
        "SUBSCRIBE to a filter whose wildcards stand where they may not: a#, #/a, a+, a/+b",
        "the filter is refused, or the connection closed",
        "grants it",
        {
            "test_ill_formed_filter_is_refused": "False or [False] == [True]",
            "test_filter_that_goes_on_after_its_hash_is_refused": "False or [False] == [True]",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-4.7.2-1",
        Kind.BREAKS,
        "PUBLISH to a topic that begins with $, while others subscribe to # and +/a",
        "filters with a wildcard in front do not match it",
        "hands it on to them",
        {
            "test_wildcards_in_front_do_not_match_dollar_topics": "[b'1'] == []",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-3.1.2-24",
        Kind.BREAKS,
        "nothing, for longer than one and a half times the Keep Alive",
        "the server closes the connection then",
        "with Keep Alive 1 closes it more than 1.2 seconds late, and less than 3",
        {
            "test_silent_client_is_closed_and_its_will_published": "is_closed([])",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-3.3.1-3",
        Kind.BREAKS,
        "a QoS 1 PUBLISH with DUP 1",
        "DUP is not handed on",
        "hands it on with DUP 1",
        {
            "test_dup_is_not_handed_on": "[(b'1', True)] == [(b'1', False)]",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-4.4.0-1",
        Kind.BREAKS,
        "CONNECT that resumes a session with messages in flight",
        "they are sent again under their packet identifiers",
        "sends them again under new ones",
        {
            "test_resume_sends_again_with_dup_and_the_same_identifiers_in_order": (
                "assert [(1, b'1', Tr"
            ),
            "test_what_has_begun_is_finished_after_unsubscribe": "assert [1, 2, 3] == [",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-3.8.4-3",
        Kind.BREAKS,
        "SUBSCRIBE to a filter that is subscribed to, with another QoS",
        "the new subscription replaces the old one",
        "keeps both, so that each message comes at QoS 0 and at QoS 1",
        {
            "test_repeated_subscribe_replaces_the_subscription": "[0, 1] == [0]",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-3.3.5-1",
        Kind.FREEDOM,
        "PUBLISH that matches overlapping subscriptions of different QoS",
        "one copy at the highest QoS, or one for each match",
        "sends one at QoS 0 and one at QoS 1",
        {
            "test_overlapping_subscriptions_get_one_copy": "[(b'1', 0), (b'1', 1)] == [(b'1', 1)]",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-3.8.4-5",
        Kind.ABSENT,
        "SUBSCRIBE that asks for QoS 2",
        "SUBACK grants it, or less",
        "grants QoS 1",
        {
            "test_suback_has_one_code_for_each_filter_in_order": "GRANTED_QOS_1: 1> != 2",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-4.3.3-2",
        Kind.ABSENT,
        "a QoS 2 PUBLISH",
        "PUBREC",
        "treats it as QoS 1 and sends PUBACK",
        {
            "test_repeated_qos_2_message_is_handed_on_once": "not answered by PUBREC",
            "test_qos_2_message_may_be_repeated_any_number_of_times": "not answered by PUBREC",
            "test_both_sides_may_use_the_same_identifier": "assert [] == [",
        },
        (4,),
    ),
    Difference(
        "rabbitmq",
        "3.1.1 MQTT-4.3.3-2",
        Kind.ABSENT,
        "PUBREL, after a QoS 2 PUBLISH or without one",
        "PUBCOMP",
        ("sends nothing at all on that connection any more, not even PINGRESP, and leaves it open"),
        {
            "test_unknown_pubrel_is_answered": "got no PINGRESP",
            "test_qos_2_messages_wait_for_a_session_in_order": "got no PINGRESP",
            "test_resume_sends_qos_2_messages_again_in_order": "got no PINGRESP",
            "test_resume_sends_pubrel_and_not_publish_after_pubrec": "got no PINGRESP",
            "test_pubrels_are_sent_again_in_the_order_of_their_pubrecs": "got no PINGRESP",
            "test_repeated_pubrec_gets_pubrel_again": "got no PINGRESP",
            "test_inbound_identifiers_outlive_the_connection": "got no PINGRESP",
            "test_identifier_is_free_after_pubcomp": "got no PINGRESP",
            "test_overlapping_subscriptions_get_one_copy_at_the_highest_qos": "got no PINGRESP",
        },
        (4,),
    ),
)

NATS = (
    Difference(
        "nats",
        "3.1.1 MQTT-3.1.2-8",
        Kind.BREAKS,
        "CONNECT that continues the session of a connected client with a will",
        "the will is published when its connection is closed",
        "drops the will",
        {
            "test_take_over_publishes_the_will_of_the_first_connection": "assert [] == [b'w']",
        },
        (4,),
    ),
    Difference(
        "nats",
        "3.1.1 MQTT-4.4.0-1",
        Kind.BREAKS,
        "CONNECT that resumes a session with messages in flight",
        "they are sent again when the client reconnects, before anything new",
        (
            "sends them again when its own ack_wait has passed (30 seconds by default), and "
            "new messages at once, before them"
        ),
        {
            "test_resume_sends_again_with_dup_and_the_same_identifiers_in_order": (
                "assert [] == [(1, b'1', Tr"
            ),
            "test_what_is_sent_again_goes_before_what_is_new": "[b'new'] == [b'1', ",
        },
        (4,),
    ),
    Difference(
        "nats",
        "3.1.1 MQTT-3.10.4-3",
        Kind.BREAKS,
        "UNSUBSCRIBE while messages are in flight, and a resume",
        "deliveries that have begun are finished",
        "does not send the messages again, after ack_wait neither",
        {
            "test_what_has_begun_is_finished_after_unsubscribe": "[] == [1, 2, 3]",
        },
        (4,),
    ),
    Difference(
        "nats",
        "3.1.1 MQTT-4.7.1-2",
        Kind.BREAKS,
        "SUBSCRIBE to a filter with a wildcard that does not fill its level: a#, a+, a/+b",
        "the filter is refused, or the connection closed",
        "grants it",
        {
            "test_ill_formed_filter_is_refused": "False or [False] == [True]",
        },
        (4,),
    ),
    Difference(
        "nats",
        "3.1.1 MQTT-4.7.2-1",
        Kind.BREAKS,
        "PUBLISH to a topic that begins with $, while others subscribe to # and +/a",
        "filters with a wildcard in front do not match it",
        "hands it on to them, and to # also messages of its own, such as those to $MQTT/…",
        {
            "test_wildcards_in_front_do_not_match_dollar_topics": "] == []",
        },
        (4,),
    ),
    Difference(
        "nats",
        "3.1.1 MQTT-3.3.5-1",
        Kind.FREEDOM,
        "PUBLISH that matches overlapping subscriptions",
        "one copy at the highest QoS, or one for each match",
        "sends one for each match",
        {
            "test_overlapping_subscriptions_get_one_copy": "[(b'1', 0), (b'1', 1)] == [(b'1', 1)]",
        },
        (4,),
    ),
    Difference(
        "nats",
        "3.1.1 MQTT-3.8.4-5",
        Kind.ABSENT,
        "SUBSCRIBE that asks for QoS 2",
        "SUBACK grants it, or less",
        "grants QoS 1",
        {
            "test_suback_has_one_code_for_each_filter_in_order": "GRANTED_QOS_1: 1> != 2",
        },
        (4,),
    ),
    Difference(
        "nats",
        "3.1.1 MQTT-4.3.3-2",
        Kind.ABSENT,
        "a QoS 2 PUBLISH, or PUBREL",
        "PUBREC, and PUBCOMP",
        "closes the connection",
        {
            "test_repeated_qos_2_message_is_handed_on_once": "not answered by PUBREC",
            "test_qos_2_message_may_be_repeated_any_number_of_times": "not answered by PUBREC",
            "test_both_sides_may_use_the_same_identifier": "assert [] == [1]",
            "test_unknown_pubrel_is_answered": "isinstance(CloseConnection(",
            "test_qos_2_message_is_handed_on_at_publish": "[] == [b'1']",
            "test_inbound_identifiers_outlive_the_connection": "[] == [b'1']",
            "test_identifier_is_free_after_pubcomp": "[] == [b'1', b'2']",
            "test_qos_2_messages_wait_for_a_session_in_order": (
                "[] == [b'1', b'2', b'3', b'4', b'5']"
            ),
            "test_resume_sends_qos_2_messages_again_in_order": "[] == [b'1', b'2', b'3']",
            "test_resume_sends_pubrel_and_not_publish_after_pubrec": "[] == [b'1', b'2', b'3']",
            "test_pubrels_are_sent_again_in_the_order_of_their_pubrecs": "[] == [b'1', b'2', b'3']",
            "test_repeated_pubrec_gets_pubrel_again": "[] == [b'1', b'2', b'3']",
            "test_overlapping_subscriptions_get_one_copy_at_the_highest_qos": "[] == [(b'1', 2)]",
        },
        (4,),
    ),
)

VERSIONS = {"mosquitto": "2.0.11", "rabbitmq": "3.10.8", "nats": "2.9.10"}
"""The versions that the table is about: in these each difference has to show."""

DIFFERENCES: tuple[Difference, ...] = (*MOSQUITTO, *RABBITMQ, *NATS)

_NAMES = {"mosquitto": "Mosquitto", "rabbitmq": "RabbitMQ", "nats": "NATS"}
_PROTOCOLS = {3: "3.1", 4: "3.1.1", 5: "5.0"}


def expected(broker: str, scenario: str, protocol: int) -> Difference | None:
    """The entry for a scenario on a broker, if there is one."""
    for each in DIFFERENCES:
        if each.broker == broker and scenario in each.failures and protocol in each.protocols:
            return each
    return None


def must_show(known: Difference, version: str | None) -> bool:
    """Whether a scenario that passes proves the entry wrong, in a version of the broker."""
    return known.always and version == VERSIONS[known.broker]


def shows(known: Difference, scenario: str, error: AssertionError) -> bool:
    """Whether a failure is the one that the entry tells of."""
    return known.failures[scenario] in str(error)


def table() -> str:
    """The tables of the page, as Markdown."""
    lines: list[str] = []
    for broker in dict.fromkeys(each.broker for each in DIFFERENCES):
        lines += [
            f"## {_NAMES[broker]} {VERSIONS[broker]}",
            "",
            "| What is sent | What is expected | What the broker does | Kind | Shown by |",
            "|---|---|---|---|---|",
        ]
        for each in DIFFERENCES:
            if each.broker != broker:
                continue
            protocols = ", ".join(_PROTOCOLS[number] for number in each.protocols)
            shown_by = ", ".join(f"`{name}`" for name in each.failures)
            lines.append(
                f"| {each.sent} ({protocols}) | {each.standard} [{each.statement}] | {each.seen} "
                f"| {each.kind.value} | {shown_by} |"
            )
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
