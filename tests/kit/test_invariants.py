"""The watch lets the core pass, and catches each kind of fault in a stream made by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mqtt_sessions import Event, Outcome, SessionStore
from mqtt_sessions.testing.invariants import Watch
from tests.core.histories import CLIENTS, FREQUENT, LIMITS, OPERATIONS, Life


class Watched:
    """A store whose every step is judged."""

    def __init__(self, store: SessionStore, watch: Watch) -> None:
        self.store = store
        self.watch = watch

    def handle(self, event: Event, now: float) -> Outcome:
        outcome = self.store.handle(event, now)
        self.watch.step(event, now, outcome, self.store.next_deadline_at)
        return outcome

    def handle_timeout(self, now: float, limit: int | None = None) -> Outcome:
        outcome = self.store.handle_timeout(now, limit)
        limited = limit is not None
        self.watch.step(None, now, outcome, self.store.next_deadline_at, limited=limited)
        return outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def __contains__(self, client_id: str) -> bool:
        return client_id in self.store

    def __getitem__(self, client_id: str) -> Any:
        return self.store[client_id]


@pytest.mark.parametrize("seed", range(60))
def test_the_core_breaks_no_invariant(seed: int) -> None:
    """Late timers, slices, hosts that meddle, and clients that break rules."""
    chance = random.Random(seed)
    names = (*OPERATIONS, *FREQUENT)
    life = Life(retry_interval=None)
    # begin anew with a watch that has seen everything
    world = life.world
    policy = world.store._settings.policy
    store = SessionStore(policy, LIMITS)
    world.store = Watched(store, Watch(policy, LIMITS))  # type: ignore[assignment]
    life.known.clear()
    for _ in range(300):
        life.step((chance.choice(names), chance.choice(CLIENTS), *chance.choices(range(12), k=2)))
    assert len(world.store.watch.sessions) == len(store)  # type: ignore[attr-defined]
