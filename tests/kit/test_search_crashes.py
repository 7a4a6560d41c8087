"""Every state of the small worlds whose server crashes, counted, and mutants that it must find."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mqtt_sessions.testing import search_moves, search_store
from mqtt_sessions.testing.crash_worlds import CRASH_WORLDS, LARGE_CRASH_WORLDS
from mqtt_sessions.testing.search import RuleBroken, explore
from mqtt_sessions.testing.search_world import SmallWorld
from tests.kit import search_mutants_crashes as crashes
from tests.kit.test_search import counted

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "small-worlds.md"
Patch = pytest.MonkeyPatch
WORLDS = {world.name: world for world in CRASH_WORLDS}

# States, transitions, and the most steps that any state is away from rest.
COUNTS = {
    "QoS 1 out, crashes": (568, 2761, 11),
    "QoS 2 out, crashes": (1757, 8319, 13),
    "a smaller window, crashes": (1201, 4026, 12),
    "identifiers come again, crashes": (341, 1179, 12),
    "Clean Start, crashes": (315, 1394, 10),
    "a congested connection, crashes": (335, 1336, 9),
    "a queue of one, crashes": (119, 376, 8),
    "a queue of one, drop newest, crashes": (217, 686, 8),
    "a queue of two, drop oldest, crashes": (656, 3125, 10),
    "two subscribers, crashes": (851, 3824, 14),
    "QoS 1 in, crashes": (585, 2800, 12),
    "QoS 2 in, crashes": (1221, 5684, 13),
    "QoS 2 in and Clean Start, crashes": (997, 4715, 11),
    "the same numbers both ways, crashes": (256, 778, 10),
    "a client hears itself, crashes": (119, 346, 10),
    "take-over of every kind, crashes": (437, 2971, 8),
    "take-over of every kind, two messages, crashes": (1640, 11505, 11),
    "take-over in 3.1.1, crashes": (1999, 11270, 14),
    "both ways in 3.1, crashes": (156, 524, 8),
    "one version after another, crashes": (1006, 4663, 11),
    "leaving, crashes": (2399, 14013, 11),
    "wills, delays and resumes, crashes": (1680, 13920, 6),
    "wills in 3.1.1, crashes": (112, 544, 6),
    "two wills that wait, crashes": (127, 737, 5),
    "a client hears its own will, crashes": (479, 2603, 11),
    "messages that expire, crashes": (455, 2155, 8),
    "expiry in the middle of the queue, crashes": (84, 323, 8),
    "retained messages, crashes": (655, 2223, 9),
    "retained messages that expire, crashes": (101, 474, 4),
    "QoS 1 in, batches": (394, 1335, 11),
    "QoS 2 in, batches": (2572, 8884, 19),
    "one identifier in, batches": (835, 2827, 15),
    "sent again in 3.1, batches": (491, 1669, 15),
    "QoS 1 out, batches": (2669, 9807, 15),
    "identifiers are reserved, batches": (676, 1952, 7),
    "QoS 2 out, batches": (853, 2966, 15),
    "a client hears itself, batches": (2374, 8158, 23),
    "Clean Start, batches": (180, 636, 7),
    "a message to a session that ends, batches": (684, 2382, 8),
    "leaving, batches": (2494, 9689, 10),
    "wills, batches": (3281, 12170, 10),
}

LARGE_COUNTS = {
    "three of QoS 2 out, crashes": (7548, 38294, 17),
    "QoS 0, 1 and 2 out, crashes": (4718, 25047, 12),
    "three of QoS 2 in, crashes": (9662, 48241, 18),
    "from a to b, crashes": (9669, 45516, 20),
    "two retained topics, crashes": (4716, 19237, 9),
    "the same numbers both ways, batches": (6788, 23769, 23),
    "Clean Start and a message, batches": (4592, 17392, 11),
}


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(world, marks=pytest.mark.unmeasured if COUNTS[world.name][0] > 500 else ())
        for world in CRASH_WORLDS
    ],
    ids=lambda world: world.name,
)
def test_no_crash_breaks_a_rule(world: SmallWorld) -> None:
    assert counted(explore(world, most_states=100_000)) == COUNTS[world.name]


@pytest.mark.nightly
@pytest.mark.parametrize("world", LARGE_CRASH_WORLDS, ids=lambda world: world.name)
def test_no_crash_of_a_large_world_breaks_a_rule(world: SmallWorld) -> None:
    assert counted(explore(world)) == LARGE_COUNTS[world.name]


def test_each_world_is_counted_and_named_once() -> None:
    assert [world.name for world in CRASH_WORLDS] == list(COUNTS)
    assert [world.name for world in LARGE_CRASH_WORLDS] == list(LARGE_COUNTS)


def test_the_documents_tell_the_same_counts() -> None:
    rows = re.findall(r"^\| ([^|]+?) \| ([\d,]+) \| ([\d,]+) \|$", PAGE.read_text(), re.M)
    told = {name: (int(one.replace(",", "")), int(two.replace(",", ""))) for name, one, two in rows}
    assert told == {name: counts[:2] for name, counts in (COUNTS | LARGE_COUNTS).items()}


# ---------------------------------------------------------------- the search on trial


class Mutant(NamedTuple):
    """A broken store, journal or gate, and how it comes to light.

    Attributes:
        steps: At which a crash would lose something.
        rule: What breaks if nobody looks at the rows and at what is visible, after how many steps;
            None: nothing that clients see.
    """

    break_it: Callable[[Patch], None]
    world: str
    steps: int
    rule: tuple[str, int] | None


MUTANTS = (
    Mutant(
        crashes.inbound_identifiers_are_not_stored, "QoS 2 in, crashes", 2, ("MQTT-4.3.3-10", 6)
    ),
    Mutant(crashes.exchanges_are_not_stored, "QoS 2 out, crashes", 1, ("MQTT-4.4.0-1", 3)),
    Mutant(crashes.the_pubrel_phase_is_not_stored, "QoS 2 out, crashes", 3, ("MQTT-4.3.3-6", 5)),
    Mutant(
        crashes.a_will_is_not_removed, "wills, delays and resumes, crashes", 2, ("MQTT-3.1.2-8", 3)
    ),
    Mutant(
        crashes.a_retained_message_is_not_removed,
        "retained messages, crashes",
        3,
        ("MQTT-3.3.1-9", 5),
    ),
    Mutant(
        crashes.a_session_that_loses_its_connection_is_not_stored,
        "take-over of every kind, crashes",
        0,
        ("NN-1.1", 1),
    ),
    Mutant(crashes.a_copy_is_removed_twice, "QoS 1 out, crashes", 5, None),
    Mutant(crashes.a_message_is_removed_with_its_first_copy, "two subscribers, crashes", 4, None),
    Mutant(crashes.a_message_is_left_behind, "two subscribers, crashes", 6, None),
    Mutant(crashes.identifiers_are_given_again_at_once, "QoS 1 out, crashes", 1, None),
    Mutant(crashes.exchanges_come_back_last_first, "QoS 2 out, crashes", 2, ("NN-15.3", 4)),
    Mutant(crashes.subscriptions_are_forgotten, "QoS 1 out, crashes", 0, ("NN-10.7", 3)),
    Mutant(
        crashes.a_second_crash_cuts_again_what_the_first_one_cut,
        "take-over of every kind, crashes",
        1,
        ("NN-1.1", 3),
    ),
    Mutant(
        crashes.everything_is_sent_before_the_commit, "QoS 2 in, batches", 0, ("MQTT-4.3.3-10", 6)
    ),
    Mutant(
        crashes.the_answer_to_a_repeat_is_sent_at_once,
        "sent again in 3.1, batches",
        4,
        ("rest", 16),
    ),
    Mutant(crashes.a_will_is_sent_before_it_is_removed, "wills, batches", 1, None),
    Mutant(crashes.qos_2_does_not_wait, "QoS 2 out, batches", 1, ("rest", 7)),
    Mutant(
        crashes.identifiers_are_used_before_they_are_reserved,
        "identifiers are reserved, batches",
        3,
        None,
    ),
    Mutant(
        crashes.the_end_of_a_session_is_forgotten,
        "a message to a session that ends, batches",
        5,
        None,
    ),
    Mutant(
        crashes.what_follows_a_batch_waits_for_no_other,
        "sent again in 3.1, batches",
        5,
        ("rest", 17),
    ),
)


def found_in(world: SmallWorld) -> RuleBroken:
    with pytest.raises(RuleBroken) as caught:
        explore(world, most_states=20_000)
    print(caught.value)
    return caught.value


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.break_it.__name__)
def test_what_a_crash_would_lose_is_found_by_the_shortest_run(
    mutant: Mutant, monkeypatch: Patch
) -> None:
    mutant.break_it(monkeypatch)
    found = found_in(WORLDS[mutant.world])
    assert (found.rule, len(found.steps)) == ("host", mutant.steps)


@pytest.mark.parametrize(
    "mutant",
    [mutant for mutant in MUTANTS if mutant.rule],
    ids=lambda mutant: mutant.break_it.__name__,
)
def test_clients_come_to_grief_where_nobody_looks_at_the_rows(
    mutant: Mutant, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(search_store, "check_rows", lambda *_: None)
    monkeypatch.setattr(search_store, "check_recovery", lambda *_: None)
    monkeypatch.setattr(search_moves, "check_remembered", lambda *_, **__: None)
    mutant.break_it(monkeypatch)
    found = found_in(WORLDS[mutant.world])
    assert (found.rule, len(found.steps)) == mutant.rule
    assert found.rule != "host"


def test_the_documents_tell_of_each_mutant() -> None:
    lines = PAGE.read_text().splitlines()
    for mutant in MUTANTS:
        name = mutant.break_it.__name__.replace("_", " ")
        rule = "| |" if mutant.rule is None else f"{mutant.rule[0]} | {mutant.rule[1]} |"
        row = f"| {name} | {mutant.world} | {mutant.steps} | {rule}"
        assert row in lines
