"""Every state of every small world, counted; and the search's own means of failing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mqtt_sessions import packet_ids
from mqtt_sessions.actions import Action, SendPublish
from mqtt_sessions.events import Event
from mqtt_sessions.messages import Message
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing.clients import Client
from mqtt_sessions.testing.search import Closure, RuleBroken, SearchTooLarge, explore
from mqtt_sessions.testing.search_world import Entry, Peer, SmallWorld, bounded_packet_ids
from mqtt_sessions.testing.small_worlds import LARGE_WORLDS, SMALL_WORLDS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "small-worlds.md"

# States, transitions, and the most steps that any state is away from rest. A change of the core
# that changes a number has changed what a client, a host or a restored store can see.
COUNTS = {
    "QoS 1 out": (568, 2193, 11),
    "three of QoS 2 out": (7438, 30494, 17),
    "QoS 2 out": (1725, 6494, 13),
    "QoS 0, 1 and 2 out": (1857, 7862, 12),
    "a smaller window": (692, 1691, 12),
    "identifiers come again": (333, 824, 12),
    "Clean Start": (309, 1067, 10),
    "a congested connection": (301, 923, 9),
    "a queue of one": (113, 248, 8),
    "a queue of one, drop newest": (199, 438, 8),
    "a queue of two, drop oldest": (617, 2235, 10),
    "two subscribers": (813, 2867, 14),
    "QoS 1 in": (585, 2215, 12),
    "QoS 2 in": (1221, 4463, 13),
    "three of QoS 2 in": (9662, 38579, 18),
    "QoS 2 in and Clean Start": (997, 3718, 11),
    "the same numbers both ways": (244, 510, 10),
    "from a to b": (8751, 33121, 20),
    "a client hears itself": (114, 222, 10),
    "take-over of every kind": (420, 2321, 8),
    "take-over of every kind, two messages": (958, 5553, 11),
    "take-over in 3.1.1": (1156, 5096, 14),
    "both ways in 3.1": (156, 368, 8),
    "one version after another": (462, 1652, 11),
    "leaving": (2357, 10778, 11),
    "wills, delays and resumes": (1680, 11508, 6),
    "wills in 3.1.1": (112, 422, 6),
    "two wills that wait": (127, 535, 5),
    "a client hears its own will": (432, 1800, 11),
    "messages that expire": (443, 1527, 8),
    "expiry in the middle of the queue": (84, 223, 8),
    "retained messages": (512, 1230, 9),
    "two retained topics": (2149, 6666, 9),
    "retained messages that expire": (96, 316, 4),
}

LARGE_COUNTS = {
    "from a to b, take-over on both sides": (25006, 162781, 16),
    "four of each QoS out": (15490, 66474, 18),
}


def counted(closure: Closure) -> tuple[int, int, int]:
    print(
        f"{closure.world}: {closure.states} states, {closure.transitions} transitions, "
        f"{closure.depth} steps deep, at rest after {closure.longest_heal}"
    )
    return closure.states, closure.transitions, closure.longest_heal


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(world, marks=pytest.mark.unmeasured if COUNTS[world.name][0] > 1000 else ())
        for world in SMALL_WORLDS
    ],
    ids=lambda world: world.name,
)
def test_no_state_of_a_small_world_breaks_a_rule(world: SmallWorld) -> None:
    assert counted(explore(world, most_states=100_000)) == COUNTS[world.name]


@pytest.mark.nightly
@pytest.mark.parametrize("world", LARGE_WORLDS, ids=lambda world: world.name)
def test_no_state_of_a_large_world_breaks_a_rule(world: SmallWorld) -> None:
    assert counted(explore(world)) == LARGE_COUNTS[world.name]


def test_each_world_is_counted_and_named_once() -> None:
    assert [world.name for world in SMALL_WORLDS] == list(COUNTS)
    assert [world.name for world in LARGE_WORLDS] == list(LARGE_COUNTS)


def test_the_documents_tell_the_same_counts() -> None:
    rows = re.findall(r"^\| (.+?) \| .*? \| ([\d,]+) \| ([\d,]+) \|$", PAGE.read_text(), re.M)
    told = {name: (int(one.replace(",", "")), int(two.replace(",", ""))) for name, one, two in rows}
    assert told == {name: counts[:2] for name, counts in (COUNTS | LARGE_COUNTS).items()}


# ---------------------------------------------------------------- how the search itself fails

LISTENER = Peer(
    "b", entries=(Entry(session_expiry_interval=0xFFFFFFFF),), subscriptions=(Subscription("t", 2),)
)
ONE_MESSAGE = SmallWorld("one message", (LISTENER,), (Message("t", b"1", 1),))


def test_a_search_that_grows_too_large_gives_up() -> None:
    with pytest.raises(SearchTooLarge, match="more than 10 states"):
        explore(ONE_MESSAGE, most_states=10)


def test_identifiers_are_bounded_while_a_search_runs_and_not_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with bounded_packet_ids(2):
        assert packet_ids.next_packet_id(2, ()) == 1
    assert packet_ids.next_packet_id(2, ()) == 3
    monkeypatch.setattr(Client, "receive", None)
    with pytest.raises(RuleBroken):
        explore(ONE_MESSAGE)
    assert packet_ids.MAX_PACKET_ID == 65_535


def test_what_is_owed_at_rest_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it is the client that never acknowledges: the same check finds a store that is stuck."""
    real = Client.receive

    def receive(self: Client, action: Action, *code: Any) -> list[Event]:
        return [] if isinstance(action, SendPublish) else real(self, action, *code)

    monkeypatch.setattr(Client, "receive", receive)
    with pytest.raises(RuleBroken) as found:
        explore(ONE_MESSAGE)
    assert found.value.rule == "rest"
    assert [step.kind for step in found.value.steps] == ["host", "read"]


def test_a_world_that_never_comes_to_rest_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that leaves whenever a message comes: every step is legal, and none leads on."""
    real = Client.receive

    def receive(self: Client, action: Action, *code: Any) -> list[Event]:
        if isinstance(action, SendPublish) and action.connection == self.connection:
            return [self.disconnect()]
        return real(self, action, *code)

    monkeypatch.setattr(Client, "receive", receive)
    with pytest.raises(RuleBroken, match="never comes to rest") as found:
        explore(ONE_MESSAGE)
    assert found.value.rule == "rest"


def test_an_exception_of_the_store_is_told_with_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from mqtt_sessions import outbound

    def resume(*_: object) -> None:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(outbound, "resume", resume)
    with pytest.raises(RuleBroken, match="ZeroDivisionError") as found:
        explore(ONE_MESSAGE)
    assert found.value.rule == "host"
    assert [step.kind for step in found.value.steps] == ["cut", "connect"]
    assert "2. connect b" in found.value.trace
