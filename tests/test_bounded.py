"""The bound of examples reaches functions and test cases, and raises nothing."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bounded import bound_examples
from tests.conftest import MOST_EXAMPLES

OWN = "_hypothesis_internal_use_settings"


class Many:
    settings: ClassVar[settings | None] = settings(max_examples=70, stateful_step_count=3)


class Unsaid:
    settings: ClassVar[settings | None] = None


class NoProperty:
    pass


def function(parent: pytest.Collector, most: int | None) -> pytest.Function:
    @given(st.booleans())
    def check(_: bool) -> None:
        pass

    if most is not None:
        check = settings(max_examples=most)(check)
    item: pytest.Function = pytest.Function.from_parent(parent, name="check", callobj=check)
    return item


@pytest.mark.parametrize(("own", "after"), [(70, 20), (20, 20), (5, 5), (None, 20)])
def test_a_function_tries_no_more(
    request: pytest.FixtureRequest, own: int | None, after: int
) -> None:
    item = function(request.node.parent, own)
    bound_examples(item, 20)
    assert getattr(item.obj, OWN).max_examples == after


@pytest.mark.parametrize("kind", [Many, Unsaid])
def test_a_test_case_tries_no_more(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.setattr(kind, "settings", kind.settings)  # as it was, afterwards
    parent = pytest.Class.from_parent(request.node.parent, name=kind.__name__)
    bound_examples(function(parent, None), 20)
    assert kind.settings.max_examples == 20
    assert kind is Unsaid or kind.settings.stateful_step_count == 3


def test_another_class_stays_as_it_is(request: pytest.FixtureRequest) -> None:
    parent = pytest.Class.from_parent(request.node.parent, name="NoProperty")
    bound_examples(function(parent, None), 20)
    assert not hasattr(NoProperty, "settings")


@given(st.integers())
def test_the_bound_holds_in_this_run(number: int) -> None:
    seen.append(number)
    assert not MOST_EXAMPLES or len(seen) <= MOST_EXAMPLES


seen: list[int] = []
