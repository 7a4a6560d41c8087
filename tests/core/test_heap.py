"""What is made to stay is not searched for garbage, while it is made and right behind it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from mqtt_sessions._heap import uncollected


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    gc.collect()
    yield
    gc.enable()
    gc.unfreeze()


def holds(generation: int, wanted: object) -> bool:
    return any(each is wanted for each in gc.get_objects(generation))


def test_nothing_is_searched_meanwhile() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_was_made_counts_as_old_and_can_still_be_collected() -> None:
    with uncollected():
        made: list[object] = []
    made.append(made)
    assert holds(2, made)
    assert not gc.get_freeze_count()
    del made
    assert gc.collect() >= 1


def test_what_the_host_has_frozen_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with uncollected():
        made: list[object] = []
    assert frozen - 10 <= gc.get_freeze_count() <= frozen
    assert holds(0, made)


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with uncollected():
        assert not gc.isenabled()
    assert not gc.isenabled()


def test_an_error_leaves_the_collector_as_it_was() -> None:
    with pytest.raises(ZeroDivisionError), uncollected():
        _ = 1 / 0
    assert gc.isenabled()
