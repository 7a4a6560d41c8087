"""A crash between any two calls: what the rows come to is what was there before."""

from __future__ import annotations

from hypothesis import given

from mqtt_sessions import SessionStore
from mqtt_sessions.testing.durable import durable_view
from tests.core.helpers import World
from tests.core.histories import STEPS, Life, Step


def recovered(world: World, now: float | None = None) -> SessionStore:
    """The store that the rows of a world come to."""
    settings = world.store.snapshot()
    made = SessionStore.recover(
        list(world.rows.values()),
        world.now if now is None else now,
        settings.policy,
        settings.limits,
        settings.options,
    )
    assert made.set_aside == ()
    made.store.check()
    return made.store


@given(STEPS)
def test_rows_come_to_what_was_there(steps: list[Step]) -> None:
    life = Life(durable=True)
    world = life.world
    for step in steps:
        life.step(step)
        world.now = max(world.now, world.store.snapshot().now)
        before = world.store.snapshot()
        after = recovered(world).snapshot()
        assert durable_view(after, world.now) == durable_view(before, world.now)
