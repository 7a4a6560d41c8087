"""The table of differences holds together, and its page is what the table says."""

from __future__ import annotations

import contextlib
import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from tests.live import conftest, differences, test_scenarios
from tests.live.differences import DIFFERENCES, PAGE, Difference, table

PAIRS = [
    pytest.param(each, scenario, id=f"{each.broker}-{scenario}-{each.protocols}")
    for each in DIFFERENCES
    for scenario in each.failures
]


@pytest.mark.parametrize(("difference", "scenario"), PAIRS)
def test_scenario_of_an_entry_is_about_its_statement(difference: Difference, scenario: str) -> None:
    test = getattr(test_scenarios, scenario)
    marked = {name for mark in test.pytestmark if mark.name == "spec" for name in mark.args}
    text = f"{test.__doc__} {inspect.getsource(test)}"
    assert difference.statement in marked or difference.statement in text


@pytest.mark.parametrize(("difference", "scenario"), PAIRS)
def test_entry_tells_what_is_seen(difference: Difference, scenario: str) -> None:
    """An empty text would let every failure pass."""
    assert len(difference.failures[scenario]) > 5


def test_no_scenario_has_two_entries() -> None:
    keys = [
        (each.broker, scenario, protocol)
        for each in DIFFERENCES
        for scenario in each.failures
        for protocol in each.protocols
    ]
    assert len(keys) == len(set(keys))


def test_page_is_what_the_table_says() -> None:
    """`python -m tests.live.differences` prints it."""
    assert table() in PAGE.read_text()


def hook(monkeypatch: pytest.MonkeyPatch, seen: object, version: str, *, always: bool) -> None:
    """Run the hook of conftest around a scenario in which `seen` is what a broker does."""
    known = Difference(
        "mosquitto",
        "5.0 MQTT-3.1.2-8",
        differences.Kind.BREAKS,
        "this",
        "that",
        "otherwise",
        {"test_scenario": "== 'as it says'"},
        always=always,
    )
    monkeypatch.setattr(differences, "DIFFERENCES", (known,))
    monkeypatch.setattr(conftest, "version_of", lambda _: version)
    callspec = SimpleNamespace(params={"broker": "mosquitto", "version": 5})
    item: Any = SimpleNamespace(originalname="test_scenario", callspec=callspec)
    running = conftest.pytest_pyfunc_call(item)
    next(running)
    try:
        assert seen == "as it says"
    except AssertionError as error:
        running.throw(error)
    with contextlib.suppress(StopIteration):
        next(running)


THIS, OTHER = differences.VERSIONS["mosquitto"], "0.0.1"


@pytest.mark.parametrize("installed", [THIS, OTHER])
def test_known_failure_is_expected(monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    with pytest.raises(pytest.xfail.Exception, match="otherwise"):
        hook(monkeypatch, "something else", installed, always=True)


def test_other_failure_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "shows", lambda *_: False)
    with pytest.raises(AssertionError, match="as it says"):
        hook(monkeypatch, "something else", THIS, always=True)


def test_a_difference_that_is_gone_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.fail.Exception, match="no longer differs"):
        hook(monkeypatch, "as it says", THIS, always=True)


def test_other_versions_and_chance_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    hook(monkeypatch, "as it says", OTHER, always=True)
    hook(monkeypatch, "as it says", THIS, always=False)
