"""Deadlines at a million sessions: what one costs, and how long a slice of expiries takes."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Sequence

from mqtt_sessions import ConnectionLost, PingReceived, SessionStore

from .timing import Bench, Figure, Scale, clock, interleave, median, steady_heap
from .worlds import KEEP_ALIVE, NEVER, START, STEP, connect, subscribe

__all__ = ["BENCHES"]

_MILLION = 1_000_000
_SLICE = 1_000
_INTERVAL = 7_200
_INTERVALS = 1_000


# ------------------------------------------------------------------- disconnect and reconnect


class _Parked:
    """A store of parked sessions that end, and a tenth as many that never do.

    The deadline work of a cycle is what sessions that end cost beyond those that never end; all
    else in the cycle is the same for both. Both are picked at random from more sessions than the
    processor's caches hold, so that neither is warm. One other client is connected all the time,
    as on any broker, and says something between the rounds.
    """

    def __init__(self, sessions: int, intervals: int) -> None:
        self.store = SessionStore()
        self.now = START
        self.intervals = intervals
        self.random = random.Random(sessions)
        self.store.handle(connect(0, "bystander", keep_alive=KEEP_ALIVE), self.now)
        self.ending = [f"ending-{number:07d}" for number in range(sessions)]
        self.endless = [f"endless-{number:06d}" for number in range(max(1, sessions // 10))]
        for number, client_id in enumerate(self.ending):
            self._park(client_id, _INTERVAL + number % intervals)
        for client_id in self.endless:
            self._park(client_id, NEVER)

    def _park(self, client_id: str, interval: int) -> None:
        self.now += STEP / 100
        self.store.handle(connect(1, client_id, interval=interval), self.now)
        self.store.handle(ConnectionLost(1), self.now)

    def cycles(self, client_ids: Sequence[str], intervals: Sequence[int], keep_alive: int) -> float:
        """Seconds of one connect and one loss, the next deadline read after both."""
        store, now = self.store, self.now
        handle = store.handle
        began = clock()
        for client_id, interval in zip(client_ids, intervals, strict=True):
            now += STEP
            handle(connect(1, client_id, interval=interval, keep_alive=keep_alive), now)
            deadline_at = store.next_deadline_at
            now += STEP
            handle(ConnectionLost(1), now)
            deadline_at = store.next_deadline_at
            if deadline_at is not None and deadline_at <= now:
                raise AssertionError("nothing ends yet")
        elapsed = clock() - began
        self.now = now
        return elapsed / len(client_ids)

    def side(self, *, ends: bool, keep_alive: int, cycles: int) -> Callable[[], float]:
        """One round of cycles of random sessions."""
        pool = self.ending if ends else self.endless

        def run() -> float:
            self.store.handle(PingReceived(0), self.now)
            picked = [self.random.randrange(len(pool)) for _ in range(cycles)]
            intervals = [_INTERVAL + pick % self.intervals if ends else NEVER for pick in picked]
            return self.cycles([pool[pick] for pick in picked], intervals, keep_alive)

        return run


def _cycle(scale: Scale) -> Iterator[Figure]:
    cycles = scale.count(4_000, least=20)
    for intervals, name in ((1, "deadline_cycle"), (_INTERVALS, "deadline_cycle_intervals")):
        parked = _Parked(scale.count(_MILLION), intervals)
        sides = [
            parked.side(ends=True, keep_alive=0, cycles=cycles),
            parked.side(ends=False, keep_alive=0, cycles=cycles),
        ]
        if intervals == 1:
            sides.append(parked.side(ends=True, keep_alive=KEEP_ALIVE, cycles=cycles))
        with steady_heap():
            ending, endless, *supervised = interleave(sides, scale.rounds)
        yield Figure(f"{name}_us", _beyond(ending, endless), "us")
        if supervised:
            yield Figure(f"{name}_keep_alive_us", _beyond(supervised[0], endless), "us")
            yield Figure("parked_cycle_us", median(ending) * 1e6, "us")
        del parked, sides


def _beyond(samples: Sequence[float], base: Sequence[float]) -> float:
    """Microseconds beyond a base, the median over the rounds."""
    return median(one - other for one, other in zip(samples, base, strict=True)) * 1e6


# ------------------------------------------------------------------------------ mass expiry


def _due_together(sessions: int, due_from: float, spread: float, intervals: int) -> SessionStore:
    """Sessions, each with its own filter, that end within `spread` seconds of `due_from`.

    With several intervals those of the longest leave first, since time never goes back.
    """
    store = SessionStore()
    for number in range(sessions):
        longer = intervals - 1 - number * intervals // sessions
        interval = _INTERVAL + longer
        left_at = due_from - interval + spread * number / sessions
        name = f"client-{number:07d}"
        store.handle(connect(1, name, interval=interval), left_at)
        store.handle(subscribe(1, (f"fleet/{number:07d}/commands",), 1), left_at)
        store.handle(ConnectionLost(1), left_at)
    assert len(store) == sessions
    return store


def _expire(store: SessionStore, now: float) -> tuple[float, float]:
    """Seconds of the longest slice and of all slices."""
    longest = total = 0.0
    while True:
        began = clock()
        deadline_at = store.next_deadline_at
        if deadline_at is None or deadline_at > now:
            break
        outcome = store.handle_timeout(now, _SLICE)
        elapsed = clock() - began
        assert outcome.notices
        total += elapsed
        longest = max(longest, elapsed)
    assert len(store) == 0
    return longest, total


def _expiry(scale: Scale) -> Iterator[Figure]:
    sessions = scale.count(_MILLION)
    longest: dict[str, float] = {}
    for name, spread, intervals in (
        ("instant", 0.0, 1),
        ("second", 1.0, 1),
        ("second_intervals", 1.0, _INTERVALS),
    ):
        due_from = START + 10 * _INTERVAL
        store = _due_together(sessions, due_from, spread, intervals)
        with steady_heap():
            longest[name], total = _expire(store, due_from + spread)
        # frozen, the collector was no part of it, so say what it would have found
        garbage = gc.collect()
        yield Figure(f"expiry_slice_{name}_ms", longest[name] * 1e3, "ms")
        yield Figure(f"expiry_{name}_us", total / sessions * 1e6, "us")
        yield Figure(f"expiry_{name}_cyclic_garbage", garbage / sessions, "objects")
        del store
    yield Figure("expiry_slice_ms", max(longest["instant"], longest["second"]) * 1e3, "ms")


BENCHES = (
    Bench(
        (
            "deadline_cycle_us",
            "deadline_cycle_keep_alive_us",
            "parked_cycle_us",
            "deadline_cycle_intervals_us",
        ),
        _cycle,
    ),
    Bench(
        (
            "expiry_slice_ms",
            *(
                name
                for kind in ("instant", "second", "second_intervals")
                for name in (
                    f"expiry_slice_{kind}_ms",
                    f"expiry_{kind}_us",
                    f"expiry_{kind}_cyclic_garbage",
                )
            ),
        ),
        _expiry,
    ),
)
