"""What all tests share."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable

import pytest
from hypothesis import settings

from tests.bounded import bound_examples

# A slow machine is no fault of the code under test.
# CI judges a change by the same examples each time; every other run explores.
settings.register_profile("mqtt_sessions", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("mqtt_sessions")

MOST_EXAMPLES = int(os.environ.get("MQTT_SESSIONS_MOST_EXAMPLES", "0"))
"""How many examples a property-based test tries at most; 0: as many as it says.

Only `.ci/run` sets it, for its runs on a second Python: there each property has held for all of its
examples already, in the README's run, and what is still asked is whether that Python, or tracing,
makes a difference. What looks for a fault that is there on purpose always tries as many as it says.
"""


def require_program(name: str) -> str:
    """The path of an external program that a test runs.

    Where it is missing, a user's run skips the test and says why; in CI, where a skipped test would
    pass for a proof, it fails.
    """
    path = shutil.which(name)
    if path is not None:
        return path
    message = f"{name} is not installed (Debian: mosquitto-clients)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def require_module(name: str) -> None:
    """The same for a module of the `test` extra without which a whole test module is void."""
    if importlib.util.find_spec(name) is not None:
        return
    message = f"{name} is not installed (it is part of the extra `test`)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message, allow_module_level=True)


@pytest.fixture(name="require_program")
def _require_program() -> Callable[[str], str]:
    """The same, for test modules that would rather not import from here."""
    return require_program


def pytest_configure(config: pytest.Config) -> None:
    # Tests of a minute stand beside thousands of a millisecond: who has nothing left helps others.
    if config.getoption("dist", "no") == "load":
        config.option.dist = "worksteal"
    config.addinivalue_line("markers", "spec(*statements): normative statements that a test proves")
    config.addinivalue_line(
        "markers", "fault(*numbers): faults of other brokers that a test rules out"
    )
    config.addinivalue_line("markers", "nightly: a long run; only with MQTT_SESSIONS_NIGHTLY=1")
    config.addinivalue_line(
        "markers", "unmeasured: slow where coverage is measured, and adds next to nothing to it"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if MOST_EXAMPLES:
        for item in items:
            bound_examples(item, MOST_EXAMPLES)
    if os.environ.get("MQTT_SESSIONS_NIGHTLY") == "1":
        return
    skip = pytest.mark.skip(reason="a long run: set MQTT_SESSIONS_NIGHTLY=1")
    for item in items:
        if item.get_closest_marker("nightly") is not None:
            item.add_marker(skip)
