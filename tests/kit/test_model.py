"""The store and the reference model, told the same by chance, agree.

The runs are the same each time; `python -m tests.kit.test_model FIRST LAST STEPS` makes others.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from mqtt_sessions import ExpiryPolicy, ServerOptions, SessionLimits, SessionStore
from mqtt_sessions.testing.subjects import Restored

from .model_driver import Run

STEPS = 150
MODES: dict[str, dict[str, Any]] = {
    "on time": {},
    "late timers": {"late": True},
    "without notices": {"notices": False},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(8))
def test_store_and_model_agree_with_the_defaults(seed: int, mode: str) -> None:
    defaults = {"policy": ExpiryPolicy(), "limits": SessionLimits(), "options": ServerOptions()}
    run = Run(seed, **MODES[mode], **defaults)
    run.steps(STEPS)
    assert run.model.step > 50


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(100, 120))
def test_store_and_model_agree_whatever_is_configured(seed: int, mode: str) -> None:
    run = Run(seed, **MODES[mode])
    run.steps(STEPS)
    assert run.model.step > 50


@pytest.mark.parametrize("seed", range(10))
def test_restored_store_and_model_agree(seed: int) -> None:
    def subject(**settings: Any) -> Restored:
        return Restored(SessionStore(**settings), settings["size_of"])

    Run(seed, store=subject).steps(STEPS)


def test_a_run_can_be_made_again() -> None:
    first, second = Run(7), Run(7)
    first.steps(STEPS)
    second.steps(STEPS)
    assert first.log == second.log


def explore(first: int, last: int, steps: int) -> None:
    """Runs of many seeds in all modes."""
    for name, mode in MODES.items():
        total = 0
        for seed in range(first, last):
            run = Run(seed, **mode)
            try:
                run.steps(steps)
            except AssertionError as found:
                print(f"{name}, seed {seed}, step {run.model.step}: {found}")
            total += run.model.step
        print(f"{name}: {total} steps")


if __name__ == "__main__":
    explore(*(int(each) for each in sys.argv[1:4]))
