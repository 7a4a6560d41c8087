"""The index of deadlines, held against a plain sorted list.

The named tests go by the ways in which an index goes stale: renew, shorten, re-insert, clear.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mqtt_sessions import DeadlineKind
from mqtt_sessions.deadlines import DeadlineIndex, Timer

INFINITY = float("inf")


class Fixed(Timer):
    """Due exactly when it was armed for."""

    __slots__ = ("name",)
    kind = DeadlineKind.SESSION_EXPIRY

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @property
    def subject(self) -> str:
        return self.name


class Early(Fixed):
    """A timer of another kind that goes first at the same instant."""

    __slots__ = ()
    kind = DeadlineKind.MESSAGE_EXPIRY


class Moving(Fixed):
    """Armed at a lower bound; the true instant may have moved behind it, or to never."""

    __slots__ = ("pause", "truth")
    kind = DeadlineKind.KEEP_ALIVE

    def __init__(self, name: str, pause: float = 10.0) -> None:
        super().__init__(name)
        self.truth = INFINITY
        self.pause = pause

    @property
    def due(self) -> float:
        return self.truth

    @property
    def interval(self) -> float:
        return self.pause


class Index:
    """The index under test, checked after each step."""

    def __init__(self) -> None:
        self.index = DeadlineIndex()

    def arm(self, timer: Timer, at: float, interval: float = 10.0) -> None:
        if isinstance(timer, Moving):
            timer.truth = at
        self.index.arm(timer, at, interval)
        self.index.check()

    def disarm(self, timer: Timer) -> None:
        self.index.disarm(timer)
        self.index.check()

    @property
    def first(self) -> tuple[str, float] | None:
        timer = self.index.first()
        self.index.check()
        assert timer is self.index.first(), "asked twice, the index answers twice the same"
        return None if timer is None else (timer.subject, timer.at)

    def drain(self) -> list[str]:
        """Take out the first until none is left."""
        order = []
        while (timer := self.index.first()) is not None:
            order.append(timer.subject)
            self.disarm(timer)
        assert len(self.index) == 0
        return order


# ---------------------------------------------------------------- against a sorted list


class DeadlineMachine(RuleBasedStateMachine):
    """Timers are armed, moved and disarmed; time passes; the model is a dict, sorted anew."""

    def __init__(self) -> None:
        super().__init__()
        self.index = DeadlineIndex()
        self.now = 0.0
        self.truth: dict[Fixed, float] = {}
        self.timers: list[Fixed] = [
            *(Fixed(f"fixed {n}") for n in range(5)),
            *(Early(f"early {n}") for n in range(3)),
            *(Moving(f"moving {n}", 1.0 + n % 2) for n in range(5)),
        ]

    @rule(which=st.integers(0, 12), interval=st.sampled_from((0.0, 1.0, 2.0, 2.5)))
    def arm_by_interval(self, which: int, interval: float) -> None:
        """As most are: the instant is now plus the lane's interval."""
        self._arm(self.timers[which], self.now + interval, interval)

    @rule(
        which=st.integers(0, 12),
        ahead=st.sampled_from((0.0, 0.5, 1.0, 3.0)),
        interval=st.sampled_from((0.0, 1.0, 2.0)),
    )
    def arm_at_any_instant(self, which: int, ahead: float, interval: float) -> None:
        """The interval is a hint only."""
        self._arm(self.timers[which], self.now + ahead, interval)

    def _arm(self, timer: Fixed, at: float, interval: float) -> None:
        if isinstance(timer, Moving):
            timer.truth = at
        self.index.arm(timer, at, interval)
        self.truth[timer] = at

    @rule(which=st.integers(0, 12))
    def disarm(self, which: int) -> None:
        timer = self.timers[which]
        self.index.disarm(timer)
        self.truth.pop(timer, None)
        assert timer.lane is None

    @rule(which=st.integers(8, 12), further=st.sampled_from((0.0, 0.5, 1.0, 2.0, INFINITY)))
    def renew(self, which: int, further: float) -> None:
        """A store of a float, of which the index is not told."""
        timer = self.timers[which]
        assert isinstance(timer, Moving)
        if timer in self.truth and self.truth[timer] <= self.now + further:
            timer.truth = self.truth[timer] = self.now + further
            if further == INFINITY:
                del self.truth[timer]

    @rule(seconds=st.sampled_from((0.5, 1.0, 5.0)))
    def time_passes(self, seconds: float) -> None:
        """What is due goes, in the order of instants and kinds."""
        self.now += seconds
        gone = []
        while (timer := self.index.first()) is not None and timer.at <= self.now:
            assert isinstance(timer, Fixed)
            gone.append((timer.at, timer.kind))
            assert self.truth.pop(timer) == timer.at
            self.index.disarm(timer)
            self.index.check()
        assert gone == sorted(gone)
        assert all(at > self.now for at in self.truth.values())

    @rule(
        kind=st.sampled_from((Fixed.kind, Early.kind, DeadlineKind.WILL_DELAY)),
        ahead=st.sampled_from((0.0, 1.0, 4.0)),
    )
    def ask_what_is_due_of_a_kind(self, kind: DeadlineKind, ahead: float) -> None:
        until = self.now + ahead
        found = self.index.first_due(kind, until)
        expected = [timer for timer, at in self.truth.items() if timer.kind == kind and at <= until]
        assert found in expected if expected else found is None

    @invariant()
    def nothing_is_lost(self) -> None:
        self.index.check()

    @rule()
    def ask_for_the_first(self) -> None:
        """A rule and no invariant: asking settles what is settled late."""
        timer = self.index.first()
        if not self.truth:
            assert timer is None
            return
        assert timer is not None
        assert (timer.at, timer.kind) == min((at, t.kind) for t, at in self.truth.items())
        assert timer.due in (timer.at, -INFINITY)


TestIndexEqualsASortedList = pytest.mark.unmeasured(DeadlineMachine.TestCase)
TestIndexEqualsASortedList.settings = settings(
    max_examples=250, stateful_step_count=50, deadline=None
)


# ---------------------------------------------------------------- how an index goes stale


def test_an_empty_index_has_no_first() -> None:
    index = Index()
    assert index.first is None
    index.disarm(Fixed("never armed"))
    assert index.first is None


def test_renew_of_the_only_timer() -> None:
    index = Index()
    timer = Moving("a")
    index.arm(timer, 10)
    timer.truth = 25
    assert index.first == ("a", 25)


def test_renew_of_the_head_brings_the_next_one_forward() -> None:
    index = Index()
    head, other = Moving("head"), Moving("other")
    index.arm(head, 10)
    index.arm(other, 12)
    assert index.first == ("head", 10)
    head.truth = 25
    assert index.first == ("other", 12)
    other.truth = 26
    assert index.first == ("head", 25)


def test_renew_behind_the_tail_of_the_lane_keeps_the_lane_in_order() -> None:
    index = Index()
    timers = [Moving(name) for name in "abc"]
    for at, timer in enumerate(timers):
        index.arm(timer, 10 + at)
    timers[0].truth = 10.5  # less than the tail: it does not fit at the end of the lane
    assert index.first == ("a", 10.5)
    timers[0].truth = 11
    assert index.first == ("b", 11)
    assert index.drain() == ["b", "a", "c"]


def test_renew_with_another_interval_moves_to_that_lane() -> None:
    index = Index()
    timer, other = Moving("a", pause=5.0), Moving("b", pause=5.0)
    index.arm(timer, 1.0, interval=1.0)
    index.arm(other, 2.0, interval=1.0)
    timer.truth = 6.0
    assert index.first == ("b", 2.0)
    other.truth = INFINITY
    assert index.first == ("a", 6.0)


def test_renew_to_never_takes_the_timer_out() -> None:
    index = Index()
    timer = Moving("a")
    index.arm(timer, 10)
    timer.truth = INFINITY
    assert index.first is None
    assert (len(index.index), timer.lane) == (0, None)


def test_renew_to_never_at_the_head_of_a_busy_lane_takes_the_timer_out() -> None:
    index = Index()
    timer, other = Moving("a"), Moving("b")
    index.arm(timer, 10)
    index.arm(other, 11)
    timer.truth = INFINITY
    assert index.first == ("b", 11)
    assert (len(index.index), timer.lane) == (1, None)
    index.arm(timer, 12)
    assert index.drain() == ["b", "a"]


def test_shorten_goes_before_what_was_first() -> None:
    index = Index()
    timer, other = Fixed("a"), Fixed("b")
    index.arm(timer, 100, 100)
    index.arm(other, 50, 50)
    assert index.first == ("b", 50)
    index.arm(timer, 20, 20)
    assert index.first == ("a", 20)


def test_shorten_within_a_lane_gets_a_lane_of_its_own_instant() -> None:
    index = Index()
    timers = {name: Fixed(name) for name in "abcd"}
    for name in "abc":
        index.arm(timers[name], 100, 100)
    index.arm(timers["b"], 90, 100)
    index.arm(timers["d"], 90, 100)
    assert index.first == ("b", 90)
    assert index.drain() == ["b", "d", "a", "c"]


def test_lengthen_leaves_the_place_to_the_next() -> None:
    index = Index()
    first, second = Fixed("a"), Fixed("b")
    index.arm(first, 10)
    index.arm(second, 11)
    index.arm(first, 12)
    assert index.first == ("b", 11)
    assert index.drain() == ["b", "a"]


def test_re_insert_after_a_clear_counts_once() -> None:
    index = Index()
    timer = Fixed("a")
    for at in (10, 30, 20):
        index.arm(timer, at)
        index.disarm(timer)
    assert index.first is None
    index.arm(timer, 15)
    assert index.first == ("a", 15)
    assert index.drain() == ["a"]


def test_re_insert_at_the_same_instant_goes_to_the_end() -> None:
    index = Index()
    first, second = Fixed("a"), Fixed("b")
    index.arm(first, 10)
    index.arm(second, 10)
    index.arm(first, 10)
    assert index.drain() == ["b", "a"]


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_clear_of_head_middle_and_tail(position: int) -> None:
    index = Index()
    timers = [Fixed(str(number)) for number in range(4)]
    for at, timer in enumerate(timers):
        index.arm(timer, 10 + at)
    assert index.first == ("0", 10)
    index.disarm(timers[position])
    index.disarm(timers[position])  # twice does no harm
    rest = [str(number) for number in range(4) if number != position]
    assert index.first == (rest[0], 10 + int(rest[0]))
    assert index.drain() == rest


def test_clear_of_a_head_leaves_a_lane_filed_too_early_and_the_first_still_right() -> None:
    index = Index()
    head, behind, other = Fixed("head"), Fixed("behind"), Fixed("other")
    index.arm(head, 10, 10)
    index.arm(behind, 30, 10)
    index.arm(other, 20, 20)
    index.disarm(head)
    assert index.first == ("other", 20)
    assert index.drain() == ["other", "behind"]


def test_clear_of_the_first_while_it_is_known() -> None:
    index = Index()
    first, second = Fixed("a"), Fixed("b")
    index.arm(first, 10, 10)
    index.arm(second, 20, 20)
    assert index.first == ("a", 10)
    index.disarm(first)
    assert index.first == ("b", 20)


def test_a_new_lane_goes_before_a_first_that_is_known() -> None:
    index = Index()
    index.arm(Fixed("a"), 10, 10)
    assert index.first == ("a", 10)
    index.arm(Early("b"), 10, 1)
    assert index.first == ("b", 10)
    index.arm(Fixed("c"), 5, 5)
    assert index.first == ("c", 5)


def test_ties_go_by_kind_and_then_by_age() -> None:
    index = Index()
    for kind, name in ((Fixed, "session"), (Moving, "alive"), (Early, "message")):
        for number in (1, 2):
            index.arm(kind(f"{name} {number}"), 10)
    assert index.drain() == [
        "message 1",
        "message 2",
        "alive 1",
        "alive 2",
        "session 1",
        "session 2",
    ]


def test_ties_go_by_kind_though_the_lane_was_filed_for_another_instant() -> None:
    index = Index()
    gone, message = Early("gone"), Early("message")
    index.arm(gone, 5)
    index.arm(message, 10)
    index.arm(Fixed("session"), 10)
    index.disarm(gone)
    assert index.drain() == ["message", "session"]


def test_the_busy_stay_behind_the_silent() -> None:
    """Each of a hundred connections sends at its own moments; one of them falls silent."""
    index = Index()
    dice = random.Random(1)
    timers = [Moving(str(number)) for number in range(100)]
    for timer in timers:
        index.arm(timer, 10.0)
    for step in range(1, 100):
        now = step * 0.1
        for timer in dice.sample(timers[1:], 30):
            timer.truth = now + 10.0
        expected = min(timer.truth for timer in timers)
        assert index.first is not None
        assert index.first[1] == expected
    assert index.first == ("0", 10.0)


def test_one_lane_serves_all_of_one_interval() -> None:
    index = DeadlineIndex()
    for number in range(1000):
        index.arm(Fixed(str(number)), number + 60.0, 60.0)
    assert len(index) == 1000
    assert len(index._filed) == 1
    index.check()


def test_what_is_due_of_a_kind_is_found_behind_other_kinds() -> None:
    index = Index()
    silent, later = Moving("silent"), Moving("later")
    index.arm(Fixed("session"), 5)
    index.arm(silent, 6)
    index.arm(later, 20)
    assert index.index.first_due(DeadlineKind.KEEP_ALIVE, 10) is silent
    assert index.index.first_due(DeadlineKind.WILL_DELAY, 10) is None
    assert index.index.first_due(DeadlineKind.KEEP_ALIVE, 1) is None


def test_a_timer_has_no_subject_of_its_own() -> None:
    with pytest.raises(NotImplementedError):
        Timer().subject  # noqa: B018
