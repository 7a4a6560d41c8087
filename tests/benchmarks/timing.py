"""What every benchmark here is made of: a clock, figures, and sides measured in turns.

Times are CPU seconds of this process: nothing here sleeps or waits, so on an idle machine they
are wall-clock seconds, and on a shared one the neighbors' share does not count.

The garbage collector stays on for all sides alike. What was built before the measured part is
frozen first, as a server does once it has started: otherwise a figure would tell how much other
data the process holds.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "FULL",
    "QUICK",
    "Bench",
    "Figure",
    "Scale",
    "Skipped",
    "clock",
    "interleave",
    "median",
    "median_ratio",
    "steady_heap",
]

# Some systems count CPU time in steps of many milliseconds, which is too coarse for a slice.
_CPU_CLOCK_IS_FINE = time.get_clock_info("process_time").resolution < 1e-5

clock: Callable[[], float] = time.process_time if _CPU_CLOCK_IS_FINE else time.perf_counter

median = statistics.median


class Figure(NamedTuple):
    """One measured value."""

    name: str
    value: float
    unit: str


class Skipped(Exception):
    """Something optional is not installed; the text says what."""


@dataclass(frozen=True)
class Scale:
    """How much to measure: the full counts divided by `divisor`, in `rounds` rounds."""

    divisor: int
    rounds: int

    def count(self, full: int, least: int = 1) -> int:
        """This scale's share of a full count."""
        return max(least, full // self.divisor)


FULL = Scale(divisor=1, rounds=41)
QUICK = Scale(divisor=10, rounds=15)


@dataclass(frozen=True)
class Bench:
    """One set-up and the figures that come out of it."""

    names: tuple[str, ...]
    run: Callable[[Scale], Iterable[Figure]]


def interleave(sides: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Samples of each side, taken in turns so that a slow spell of the machine hits all alike.

    A side runs one round and returns what it measured; preparing and restoring is its own
    business and goes unmeasured. The order turns round after each round.
    """
    samples: list[list[float]] = [[] for _ in sides]
    order = list(range(len(sides)))
    for side in sides:
        side()  # warms up caches and the interpreter's specializations
    for _ in range(rounds):
        for index in order:
            samples[index].append(sides[index]())
        order.reverse()
    return samples


def median_ratio(samples: Sequence[float], base: Sequence[float]) -> float:
    """The median of the ratios of each round."""
    return median(one / other for one, other in zip(samples, base, strict=True))


@contextmanager
def steady_heap() -> Iterator[None]:
    """Keep the collector away from what is already there; it stays on for what is made inside."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
