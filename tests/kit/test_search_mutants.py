"""The search itself on trial: stores that are broken on purpose, and the shortest run that tells.

Each mutant breaks the core in one place. The search has to find it in the world named, by the rule
named, and in exactly as many steps as pinned: it goes breadth first, so that no shorter run does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mqtt_sessions.testing.search import RuleBroken, explore
from mqtt_sessions.testing.search_world import SmallWorld
from tests.kit import search_mutants_packets as packets
from tests.kit import search_mutants_sessions as sessions
from tests.kit.search_mutants_sessions import WORLDS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "small-worlds.md"
Patch = pytest.MonkeyPatch


class Mutant(NamedTuple):
    """A broken store, and how it comes to light."""

    break_it: Callable[[Patch], None]
    world: str
    rule: str
    steps: int


KINDS = "take-over of every kind"
WILLS = "wills, delays and resumes"

MUTANTS = (
    Mutant(packets.identifiers_are_reused, "identifiers come again", "MQTT-2.2.1-4", 7),
    Mutant(packets.order_is_lost_on_resume, "QoS 1 out", "NN-15.3", 4),
    Mutant(packets.quota_is_ignored_on_resume, "a smaller window", "MQTT-4.9.0-2", 4),
    Mutant(packets.quota_is_ignored_for_what_is_new, "a smaller window", "MQTT-4.9.0-2", 4),
    Mutant(packets.an_exchange_is_never_complete, "QoS 2 out", "MQTT-4.3.3-4", 7),
    Mutant(packets.new_messages_go_before_those_sent_again, "QoS 1 out", "NN-8.3", 4),
    Mutant(packets.the_queue_is_overtaken, "QoS 1 out", "MQTT-4.6.0-5", 4),
    Mutant(packets.publish_comes_after_pubrel, "QoS 2 out", "MQTT-4.3.3-6", 5),
    Mutant(packets.order_is_lost_on_resume, "take-over in 3.1.1", "3.1.1 MQTT-4.6.0-1", 4),
    Mutant(packets.pubrel_is_not_sent_again, "QoS 2 out", "MQTT-4.4.0-1", 5),
    Mutant(packets.pubrels_are_sent_again_last_first, "QoS 2 out", "NN-8.4b", 8),
    Mutant(packets.dup_is_missing, "QoS 1 out", "MQTT-3.3.1-1", 3),
    Mutant(
        packets.a_late_acknowledgement_touches_the_new_connection, "QoS 1 out", "MQTT-4.9.0-2", 6
    ),
    Mutant(
        packets.inbound_identifiers_are_lost_with_the_connection, "QoS 2 in", "MQTT-4.3.3-10", 6
    ),
    Mutant(packets.a_repeat_is_not_answered, "QoS 2 in", "MQTT-4.3.3-10", 6),
    Mutant(packets.dup_is_taken_for_a_repeat, "QoS 2 in", "NN-10.7", 5),
    Mutant(packets.an_unknown_pubrel_is_not_answered, "QoS 2 in", "MQTT-4.3.3-11", 8),
    Mutant(sessions.a_timer_is_due_only_when_it_is_past, "take-over in 3.1.1", "law 3", 2),
    Mutant(
        sessions.a_session_is_over_only_when_it_is_past, "take-over in 3.1.1", "MQTT-4.5.0-1", 3
    ),
    Mutant(sessions.a_message_lives_too_long, "messages that expire", "host", 2),
    Mutant(sessions.a_deadline_is_told_too_late, "take-over in 3.1.1", "host", 1),
    Mutant(sessions.a_session_of_interval_0_is_inherited, KINDS, "MQTT-3.2.2-3", 4),
    Mutant(sessions.the_old_connection_is_not_closed, "QoS 1 out", "MQTT-3.1.4-3", 2),
    Mutant(packets.who_disconnects_is_not_closed, "leaving", "NN-5.1", 2),
    Mutant(sessions.clean_start_keeps_the_session, "Clean Start", "MQTT-3.2.2-2", 2),
    Mutant(sessions.the_queue_goes_with_the_connection, "QoS 1 out", "NN-10.7", 6),
    Mutant(sessions.a_session_ends_without_telling_what_it_held, "Clean Start", "host", 3),
    Mutant(sessions.a_will_is_published_twice, WILLS, "MQTT-3.1.2-8", 2),
    Mutant(sessions.a_will_is_published_despite_a_resume, WILLS, "MQTT-3.1.2-8", 2),
    Mutant(sessions.a_delayed_will_is_lost_with_its_session, WILLS, "MQTT-3.1.2-8", 2),
    # found before it is missed: the store does not name the instant at which it would be due
    Mutant(sessions.disconnect_0x04_suppresses_the_will, WILLS, "host", 2),
    Mutant(sessions.the_expiry_interval_is_not_reduced, "messages that expire", "MQTT-3.3.2-6", 4),
    Mutant(
        sessions.an_expired_message_is_dropped_in_flight, "messages that expire", "MQTT-4.4.0-1", 6
    ),
    Mutant(packets.connack_comes_last, "QoS 1 out", "MQTT-3.2.0-1", 3),
    Mutant(packets.connack_comes_twice, "QoS 1 out", "MQTT-3.2.0-2", 0),
    Mutant(packets.a_closed_connection_is_sent_something, "QoS 1 out", "NN-3.5", 1),
    Mutant(packets.an_acknowledgement_comes_twice, "QoS 1 in", "host", 2),
    Mutant(packets.a_client_is_closed_for_nothing, "QoS 1 out", "host", 3),
    Mutant(packets.dup_is_set_at_first, "QoS 1 out", "MQTT-3.3.1-1", 1),
    Mutant(packets.dup_is_set_at_first, "QoS 0, 1 and 2 out", "MQTT-3.3.1-2", 1),
    Mutant(packets.a_live_message_is_marked_retained, "QoS 1 out", "MQTT-3.3.1-12", 1),
    Mutant(packets.congestion_is_ignored, "a congested connection", "host", 2),
    Mutant(sessions.a_session_ends_with_its_connection, "QoS 1 out", "NN-1.1", 1),
    Mutant(sessions.a_session_of_interval_0_is_kept, KINDS, "NN-1.1", 3),
    Mutant(sessions.an_old_message_is_dropped_to_make_room, "QoS 1 out", "MQTT-4.5.0-1", 3),
    Mutant(packets.a_message_is_delivered_twice, "QoS 2 out", "MQTT-4.3.3-10", 6),
    Mutant(packets.a_message_is_acknowledged_and_not_delivered, "QoS 2 out", "MQTT-4.3.3-8", 5),
    Mutant(sessions.an_expired_message_is_sent, "messages that expire", "MQTT-3.3.2-5", 4),
    Mutant(sessions.the_granted_qos_is_exceeded, "QoS 0, 1 and 2 out", "MQTT-3.8.4-8", 1),
    Mutant(packets.a_retained_message_is_not_marked, "retained messages", "NN-12.6", 3),
    Mutant(sessions.a_replaced_retained_message_is_sent, "retained messages", "MQTT-3.3.1-5", 4),
    Mutant(sessions.qos_0_waits_for_the_window, "QoS 0, 1 and 2 out", "host", 4),
    Mutant(sessions.retained_messages_are_not_sent, "retained messages", "MQTT-3.3.1-9", 3),
)


def found_in(world: SmallWorld) -> RuleBroken:
    with pytest.raises(RuleBroken) as caught:
        explore(world, most_states=20_000)
    return caught.value


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.break_it.__name__)
def test_each_mutant_is_found_by_the_shortest_run(mutant: Mutant, monkeypatch: Patch) -> None:
    mutant.break_it(monkeypatch)
    found = found_in(WORLDS[mutant.world])
    print(found)
    assert (found.rule, len(found.steps)) == (mutant.rule, mutant.steps)
    assert found.trace.rstrip().splitlines()[-1].strip().startswith("=>")


def test_the_documents_tell_of_each_mutant() -> None:
    lines = PAGE.read_text().splitlines()
    for mutant in MUTANTS:
        name = mutant.break_it.__name__.replace("_", " ")
        row = f"| {name} | {mutant.world} | {mutant.rule} | {mutant.steps} |"
        assert row in lines
