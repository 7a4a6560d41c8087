"""What the index of deadlines does to answer, counted: answers alone would not show a detour."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sortedcontainers import SortedList

from mqtt_sessions import Deadline, DeadlineKind
from mqtt_sessions.deadlines import DeadlineIndex, Timer

INFINITY = float("inf")


class Counted(DeadlineIndex):
    """An index that counts its searches, its moves and what it does to the list of lanes."""

    __slots__ = ("finds", "moves")

    def __init__(self) -> None:
        super().__init__()
        self.finds = 0
        self.moves = 0
        self._filed: Filed = Filed()

    def find(self) -> Timer | None:
        self.finds += 1
        return super().find()

    def _move(self, timer: Timer) -> None:
        self.moves += 1
        super()._move(timer)


class Filed(SortedList):
    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        self.visited = 0

    def add(self, value: Any) -> None:
        self.changes += 1
        super().add(value)

    def __iter__(self) -> Iterator[Any]:
        for each in super().__iter__():
            self.visited += 1
            yield each


class Named(Timer):
    """Due when it was armed for, unless it is told that it has moved."""

    __slots__ = ("asked", "name", "pause", "truth")
    kind = DeadlineKind.KEEP_ALIVE

    def __init__(self, name: str, pause: float = 10.0) -> None:
        super().__init__()
        self.name = name
        self.pause = pause
        self.truth = -INFINITY
        self.asked = 0

    @property
    def due(self) -> float:
        self.asked += 1
        return self.truth

    @property
    def interval(self) -> float:
        return self.pause

    @property
    def subject(self) -> str:
        return self.name


class Sooner(Named):
    """Goes first at the same instant."""

    __slots__ = ()
    kind = DeadlineKind.MESSAGE_EXPIRY


class Later(Named):
    """Goes last at the same instant; its kind has the greatest number."""

    __slots__ = ()
    kind = DeadlineKind.SESSION_EXPIRY


def ten() -> float:
    """Ten seconds, in an object of its own."""
    return float("10")


def lane(index: DeadlineIndex, *instants: float, kind: type[Named] = Named) -> list[Named]:
    """Timers in the lane of ten seconds."""
    timers = [kind(f"{kind.__name__} {at}") for at in instants]
    for timer, at in zip(timers, instants, strict=True):
        index.arm(timer, at, ten())
        timer.pause = ten()
    return timers


# ---------------------------------------------------------------- timers


def test_a_timer_that_is_not_armed_says_infinity_and_stands_nowhere() -> None:
    index = DeadlineIndex()
    timer = Named("a")
    assert (timer.at, timer.lane, timer.prev, timer.next) == (INFINITY, None, None, None)
    lane(index, 1.0, 2.0)
    index.arm(timer, 5.0, ten())
    assert timer.at == 5.0
    index.disarm(timer)
    assert (timer.at, timer.lane, timer.prev, timer.next) == (INFINITY, None, None, None)


def test_a_timer_of_no_interval_that_moves_goes_to_the_lane_of_zero() -> None:
    class Bare(Timer):
        __slots__ = ("truth",)
        kind = DeadlineKind.MESSAGE_EXPIRY

        @property
        def due(self) -> float:
            return self.truth

    index = DeadlineIndex()
    timer = Bare()
    index.arm(timer, 5.0, ten())
    timer.truth = 8.0
    assert index.first() is timer
    assert timer.lane is not None
    assert (timer.at, timer.lane.key) == (8.0, 0.0)


def test_a_deadline_is_a_value() -> None:
    deadline = Deadline(5.0, DeadlineKind.RETRY, "a")
    assert (deadline.at, deadline.kind, deadline.subject) == (5.0, DeadlineKind.RETRY, "a")
    assert {deadline, Deadline(5.0, DeadlineKind.RETRY, "a")} == {deadline}


# ---------------------------------------------------------------- lanes


def test_timers_of_one_instant_share_a_lane() -> None:
    index = Counted()
    timers = lane(index, 5.0, 5.0, float("5"), 6.0, 6.0)
    assert len({id(timer.lane) for timer in timers}) == 1
    assert index._filed.changes == 1


def test_lanes_of_one_instant_go_in_the_order_of_their_making() -> None:
    index = DeadlineIndex()
    timers = [Named(str(number)) for number in range(5)]
    for number, timer in enumerate(timers):
        index.arm(timer, 10.0, 50.0 - number)
    for timer in timers:
        assert index.first() is timer
        index.disarm(timer)


# ---------------------------------------------------------------- the first


def test_the_first_is_searched_for_once() -> None:
    index = Counted()
    (timer,) = lane(index, 5.0)
    assert index.first() is timer
    assert index.first() is timer
    assert index.finds == 1
    timer.truth = 5.0  # to the instant: it has not moved
    assert index.first() is timer
    assert index.finds == 1
    timer.truth = 5.5
    assert index.first() is timer
    assert index.finds == 2
    assert timer.at == 5.5


@pytest.mark.parametrize("renewed", [14.0, 14.5, 20.0])
def test_a_busy_head_goes_to_the_end_of_its_lane_without_a_move(renewed: float) -> None:
    index = Counted()
    first, second, third = lane(index, 10.0, 12.0, 14.0)
    first.truth = renewed
    assert index.first() is second
    assert (index.moves, index._filed.changes) == (0, 1)
    assert [third.next, first.prev, first.next, first.at] == [first, third, None, renewed]
    index.check()


@pytest.mark.parametrize("renewed", [12.5, INFINITY])
def test_a_head_that_does_not_fit_the_end_of_its_lane_is_moved(renewed: float) -> None:
    index = Counted()
    first, second, _ = lane(index, 10.0, 12.0, 14.0)
    first.truth = renewed
    assert index.first() is second
    assert index.moves == 1
    index.check()


@pytest.mark.parametrize("interval", [9.0, 11.0])
def test_a_busy_head_whose_interval_is_another_goes_to_that_lane(interval: float) -> None:
    index = Counted()
    first, second, _ = lane(index, 10.0, 12.0, 14.0)
    first.truth, first.pause = 20.0, interval
    assert index.first() is second
    assert index.moves == 1
    assert first.lane is not None
    assert first.lane.key == interval


@pytest.mark.parametrize("truth", [12.0, -INFINITY])
def test_the_next_in_a_busy_lane_is_asked_once(truth: float) -> None:
    index = Counted()
    first, second, _ = lane(index, 10.0, 12.0, 14.0)
    index.arm(Later("other"), 13.0, 1.0)
    first.truth, second.truth = 20.0, truth
    assert index.first() is second
    assert index.known is second
    assert second.asked == 1


def test_the_next_in_a_busy_lane_may_have_moved_too() -> None:
    index = Counted()
    first, second, third = lane(index, 10.0, 12.0, 14.0)
    first.truth, second.truth = 20.0, 21.0
    assert index.first() is third
    assert [second.prev, second.next] == [first, None]


@pytest.mark.parametrize("other_at", [11.0, 12.0])
def test_the_next_in_a_busy_lane_waits_for_another_lane(other_at: float) -> None:
    """At the same instant too, if its kind goes first."""
    index = Counted()
    first, _, _ = lane(index, 10.0, 12.0, 14.0)
    other = Sooner("other")
    index.arm(other, other_at, 1.0)
    first.truth = 20.0
    assert index.first() is other


def test_a_lane_that_is_filed_early_stays_so_while_nothing_is_between() -> None:
    index = Counted()
    gone, timer = lane(index, 10.0, 12.0)
    index.arm(Later("other"), 13.0, 1.0)
    index.disarm(gone)
    changes = index._filed.changes
    assert index.first() is timer
    assert index._filed.changes == changes
    assert timer.lane is not None
    assert timer.lane.filed_at == 10.0


@pytest.mark.parametrize("other_at", [11.0, 12.0])
def test_a_lane_that_is_filed_early_is_put_right_before_anybody_is_told(other_at: float) -> None:
    index = Counted()
    gone, timer = lane(index, 10.0, 12.0)
    other = Sooner("other")
    index.arm(other, other_at, 1.0)
    index.disarm(gone)
    assert index.first() is other
    assert timer.lane is not None
    assert timer.lane.filed_at == 12.0


def test_a_lane_that_is_filed_for_an_equal_instant_is_right() -> None:
    index = Counted()
    gone, timer = lane(index, 10.0, ten())
    index.arm(Later("other"), 10.0, 1.0)
    index.disarm(gone)
    changes = index._filed.changes
    assert index.first() is timer
    assert index._filed.changes == changes


def test_an_instant_is_compared_with_that_of_the_second_lane() -> None:
    """And with no other number that is filed: a kind is a number too."""
    index = Counted()
    gone, _ = lane(index, 1.0, 5.0)
    other = Later("other")
    index.arm(other, 3.0, 1.0)
    index.disarm(gone)
    assert index.first() is other


# ---------------------------------------------------------------- what is due of a kind


def test_what_is_due_of_a_kind_is_looked_for_among_the_lanes_up_to_now() -> None:
    index = Counted()
    timers = [Named(str(number)) for number in range(20)]
    for number, timer in enumerate(timers):
        index.arm(timer, 10.0 + number, float(number))
    assert index.first_due(DeadlineKind.KEEP_ALIVE, 12.0) is timers[0]
    assert index._filed.visited == 4  # the fourth is behind 12.0


def test_what_is_filed_early_is_not_due_before_its_time() -> None:
    index = Counted()
    gone, timer = lane(index, 5.0, 30.0)
    index.disarm(gone)
    assert index.first_due(DeadlineKind.KEEP_ALIVE, 29.5) is None
    assert index.first_due(DeadlineKind.KEEP_ALIVE, 30.0) is timer


def test_the_earliest_of_a_kind_is_found_and_of_equals_that_of_the_older_lane() -> None:
    index = Counted()
    gone, _ = lane(index, 5.0, 30.0)
    older, younger = Named("older"), Named("younger")
    index.arm(older, 20.0, 2.0)
    index.arm(younger, 20.0, 1.0)
    index.disarm(gone)
    assert index.first_due(DeadlineKind.KEEP_ALIVE, 40.0) is older
    index.disarm(older)
    assert index.first_due(DeadlineKind.KEEP_ALIVE, 40.0) is younger
