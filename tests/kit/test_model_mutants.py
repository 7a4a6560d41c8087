"""The model finds what a broken subject breaks, and names the rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mqtt_sessions import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.testing.model import Disagreement

from . import model_mutants_choices, model_mutants_more
from .model_driver import Run
from .model_mutants import Broken, mutants

assert model_mutants_more.NEVER  # importing them makes them known
assert model_mutants_choices.FREE
SEEDS = 60
STEPS = 200

SMALL: dict[str, Any] = {
    "policy": ExpiryPolicy(default_session_expiry_interval=6, retry_interval=2),
    "limits": SessionLimits(
        maximum_queued_messages=3, maximum_send_window=3, maximum_retained_messages=2
    ),
    "options": ServerOptions(receive_maximum=2, server_keep_alive=4),
}
LARGE: dict[str, Any] = {
    "policy": ExpiryPolicy(),
    "limits": SessionLimits(),
    "options": ServerOptions(),
}


def verdicts(mutant: type[Broken]) -> Iterator[str]:
    """The first disagreement of each run that has one."""
    for seed in range(SEEDS):
        for settings in (SMALL, LARGE):
            run = Run(seed, store=mutant, notices=mutant.notices, deadlines=False, **settings)
            try:
                run.steps(STEPS)
            except Disagreement as found:
                yield found.rule


@pytest.mark.parametrize("settings", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("notices", [True, False])
def test_the_door_itself_changes_nothing(settings: dict[str, Any], notices: bool) -> None:
    for seed in range(5):
        Run(seed, store=Broken, notices=notices, **settings).steps(STEPS)


@pytest.mark.parametrize("mutant", tuple(mutants()), ids=lambda mutant: mutant.__name__)
def test_broken_subject_is_found_and_the_rule_is_named(mutant: type[Broken]) -> None:
    seen = []
    for rule in verdicts(mutant):
        if rule in mutant.rules:
            return
        seen.append(rule)  # what one fault leads to may be seen before the fault itself
    pytest.fail(f"seen were {sorted(set(seen))}" if seen else "nothing was found")
