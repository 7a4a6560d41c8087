"""The model finds what a broken subject breaks, and names the rule."""

from __future__ import annotations

from typing import Any

import pytest

from mqtt_sessions import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.testing.model import Disagreement

from . import model_mutants_more
from .model_driver import Run
from .model_mutants import Broken, mutants

assert model_mutants_more.NEVER  # importing them makes them known
SEEDS = 60
STEPS = 200

SMALL: dict[str, Any] = {
    "policy": ExpiryPolicy(default_session_expiry_interval=6),
    "limits": SessionLimits(maximum_queued_messages=3, maximum_send_window=3),
    "options": ServerOptions(receive_maximum=2, server_keep_alive=4),
}
LARGE: dict[str, Any] = {
    "policy": ExpiryPolicy(),
    "limits": SessionLimits(),
    "options": ServerOptions(),
}


def verdict(mutant: type[Broken], settings: dict[str, Any]) -> tuple[str, int] | None:
    """The first disagreement over some runs, and its seed."""
    for seed in range(SEEDS):
        run = Run(seed, store=mutant, notices=mutant.notices, deadlines=False, **settings)
        try:
            run.steps(STEPS)
        except Disagreement as found:
            return found.rule, seed
    return None


@pytest.mark.parametrize("settings", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("notices", [True, False])
def test_the_door_itself_changes_nothing(settings: dict[str, Any], notices: bool) -> None:
    for seed in range(5):
        Run(seed, store=Broken, notices=notices, **settings).steps(STEPS)


@pytest.mark.parametrize("mutant", tuple(mutants()), ids=lambda mutant: mutant.__name__)
def test_broken_subject_is_found_and_the_rule_is_named(mutant: type[Broken]) -> None:
    found = [verdict(mutant, SMALL), verdict(mutant, LARGE)]
    rules = {each[0] for each in found if each is not None}
    assert rules, "nothing was found"
    assert rules <= set(mutant.rules)
