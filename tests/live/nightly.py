"""In which scenarios brokers of the nightly profile take part.

RabbitMQ's MQTT plugin and NATS's MQTT listener speak 3.1.1 and have no QoS 2. They take part in the
scenarios that are listed here and pass; what they do in the others has not been looked into, and
so nothing is claimed of it.
"""

from __future__ import annotations

__all__ = ["JOINED"]

_BOTH = frozenset(
    {
        "test_clean_start_throws_the_old_session_away",
        "test_session_that_is_not_kept_ends_with_its_connection",
        "test_identifier_is_free_after_puback_whatever_dup_says",
        "test_new_subscription_gets_the_last_retained_message",
        "test_empty_payload_clears_the_retained_message",
        "test_message_without_retain_changes_nothing_retained",
        "test_retained_messages_outlive_the_session",
        "test_established_subscription_sees_retain_0",
        "test_repeated_subscribe_calls_up_retained_messages_again",
        "test_unsuback_comes_even_if_nothing_was_removed",
        "test_nothing_is_added_after_unsubscribe",
        "test_filters_match_level_by_level_and_to_the_letter",
        "test_lost_connection_publishes_the_will",
        "test_normal_disconnect_discards_the_will",
        "test_will_is_retained_if_it_says_so",
    }
)

JOINED: dict[str, frozenset[str]] = {
    "rabbitmq": _BOTH
    | {
        "test_qos_2_message_is_handed_on_at_publish",
    },
    "nats": _BOTH
    | {
        "test_session_present_tells_whether_a_session_goes_on",
        "test_repeated_subscribe_replaces_the_subscription",
        "test_second_connect_closes_the_connection",
        "test_second_connect_publishes_the_will",
        "test_silent_client_is_closed_and_its_will_published",
        "test_dup_is_not_handed_on",
        "test_faulty_packet_closes_its_own_connection_only",
        "test_packet_identifier_0_closes_the_connection",
    },
}
"""By broker: names of tests in tests/live/test_scenarios.py."""
