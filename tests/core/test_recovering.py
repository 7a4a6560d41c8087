"""A crash between any two calls: what the rows come to is what was there before."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given

from mqtt_sessions import DropReason, SessionExpirySet, SessionStore
from mqtt_sessions.snapshots import StoreSnapshot
from mqtt_sessions.testing.durable import durable_view
from tests.core.helpers import World, will
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


def view(snapshot: StoreSnapshot, cut_at: float) -> StoreSnapshot:
    """The durable part, sessions that brought policies of their own marked as a journal does."""
    seen = durable_view(snapshot, cut_at)
    return evolve(seen, retained=tuple(sorted(seen.retained, key=lambda each: each.received_at)))


@given(STEPS)
def test_rows_come_to_what_was_there(steps: list[Step]) -> None:
    life = Life(durable=True)
    world = life.world
    for step in steps:
        life.step(step)
        world.now = max(world.now, world.store.snapshot().now)
        before = world.store.snapshot()
        after = recovered(world).snapshot()
        assert view(after, world.now) == view(before, world.now)


def crash(world: World) -> None:
    """The process ends, and a new one goes on with the rows."""
    world.store = recovered(world)
    world.note(world.store.handle_timeout(world.now))


def test_a_will_waits_from_the_crash_that_cut_it_and_from_no_later_one() -> None:
    world = World(durable=True)
    world.connect(1, "a", session_expiry_interval=100, will=will("t", 10, b"will"))
    world.now = 5.0
    crash(world)
    world.do(SessionExpirySet("a", 50))  # the session's row is of this run, its will's of the last
    world.now = 9.0
    crash(world)
    assert world.session("a").will_due_at == 15.0


def test_what_was_given_up_before_a_crash_is_not_counted_again() -> None:
    world = World(durable=True, size_of=lambda delivery, version: len(delivery.message.payload))
    world.subscriber(1, "a", "t", qos=2)
    world.publish("t", b"large", qos=2)
    world.lose(1)
    world.connect(2, "a", maximum_packet_size=3)  # too large to be sent again: PUBREL ends it
    assert world.session("a").counters.dropped == {DropReason.TOO_LARGE: 1}
    store = SessionStore.recover(
        list(world.rows.values()), world.now, size_of=lambda delivery, version: 1
    ).store
    assert store.counters.accepted == 0
    assert store["a"].counters.completed == 0
