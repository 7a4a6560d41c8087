"""The simulation of a durable store: crashes, recoveries, commits that fail, and broken stores."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqtt_sessions.testing.__main__ import main, simulate
from mqtt_sessions.testing.world import RunFailed, World
from tests.kit import search_mutants_crashes as crashes

Patch = Callable[[pytest.MonkeyPatch], None]


def crashing(seed: int, steps: int) -> World:
    """A world that crashes six times as often as others, run and healed."""
    world = World(seed, durable=True)
    world.crash_rate = 1 / 500
    simulate(world, steps)
    return world


@pytest.mark.parametrize(
    "seed",
    [*range(4), *(pytest.param(seed, marks=pytest.mark.unmeasured) for seed in range(4, 12))],
)
def test_five_thousand_steps(seed: int) -> None:
    assert crashing(seed, 5_000).crashes > 3


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(10))
def test_a_million_steps(seed: int) -> None:
    simulate(World(2_000 + seed, durable=True), 300_000)
    crashing(3_000 + seed, 700_000)


def test_a_seed_makes_the_same_run() -> None:
    assert crashing(5, 3_000).mark == crashing(5, 3_000).mark


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3", "--steps", "2000", "--durable"]) == 0
    assert "crashes" in capsys.readouterr().out


def test_the_command_line_tells_how_to_replay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crashes.everything_is_sent_before_the_commit(monkeypatch)
    assert main(["--seed", "3", "--steps", "2000", "--durable"]) == 1
    assert "--seed 3 --steps 2000 --durable" in capsys.readouterr().out


MUTANTS: tuple[Patch, ...] = (
    crashes.inbound_identifiers_are_not_stored,
    crashes.exchanges_are_not_stored,
    crashes.the_pubrel_phase_is_not_stored,
    crashes.a_will_is_not_removed,
    crashes.a_retained_message_is_not_removed,
    crashes.a_session_that_loses_its_connection_is_not_stored,
    crashes.exchanges_come_back_last_first,
    crashes.subscriptions_are_forgotten,
    crashes.a_second_crash_cuts_again_what_the_first_one_cut,
    crashes.everything_is_sent_before_the_commit,
    crashes.qos_2_does_not_wait,
    crashes.what_follows_a_batch_waits_for_no_other,
)


@pytest.mark.unmeasured
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_bug_of_store_or_gate_is_found(mutant: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    for seed in range(8):
        try:
            crashing(seed, 5_000)
        except RunFailed as failed:
            print(f"seed {failed.seed}, step {failed.step}: {str(failed.cause)[:200]}")
            return
    pytest.fail(f"{mutant.__name__} was not found")
