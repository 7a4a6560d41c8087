"""Bytes per session and per queued message, as tracemalloc counts them.

Everything that a session costs is made while it counts, the strings of its client id and its
filter included, so that nothing is had for free. What is left out is what the interpreter itself
adds per allocation below tracemalloc's sight, which is the same for everybody.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator

from mqtt_sessions import Message, PublishReceived, SessionLimits

from .timing import Bench, Figure, Scale
from .worlds import PAYLOAD, World

__all__ = ["BENCHES", "queued_bytes"]

_SESSIONS = 100_000
_SHARED = "fleet/all/commands"


def _counted(build: Callable[[], object]) -> int:
    """Bytes that stay after `build`, whose result is kept alive until they are counted."""
    gc.collect()
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = build()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        if started:
            tracemalloc.stop()
    del kept
    return after - before


def _parked(sessions: int, *, own_filter: bool) -> World:
    """Persistent sessions whose clients were there once, subscribed and left."""
    world = World()
    for number in range(sessions):
        topic_filter = f"fleet/{number:06d}/commands" if own_filter else _SHARED
        world.park(f"client-{number:06d}", topic_filter)
    return world


def _sessions(scale: Scale) -> Iterator[Figure]:
    sessions = scale.count(_SESSIONS)
    own = _counted(lambda: _parked(sessions, own_filter=True))
    yield Figure("session_bytes", own / sessions, "B")
    shared = _counted(lambda: _parked(sessions, own_filter=False))
    yield Figure("session_bytes_shared", shared / sessions, "B")


def queued_bytes(
    sessions: int, depth: int, message_expiry_interval: int | None = None, *, durable: bool = False
) -> float:
    """Bytes for each queued copy: all sessions hold the same messages, whose bodies count too."""
    tracemalloc.start()
    try:
        world = World(SessionLimits(maximum_queued_messages=None), durable=durable)
        for number in range(sessions):
            world.park(f"client-{number:06d}", _SHARED)

        def fill() -> None:
            for _ in range(depth):
                message = Message(_SHARED, bytes(PAYLOAD), 1, False, message_expiry_interval)
                world.feed(PublishReceived(world.publisher, message, 1))

        return _counted(fill) / (sessions * depth)
    finally:
        tracemalloc.stop()


def _queues(scale: Scale) -> Iterator[Figure]:
    yield Figure("queued_bytes_deep", queued_bytes(scale.count(1_000), 100), "B")
    sessions = scale.count(_SESSIONS)
    yield Figure("queued_bytes_single", queued_bytes(sessions, 1), "B")
    yield Figure("queued_bytes_single_expiring", queued_bytes(sessions, 1, 3600), "B")


BENCHES = (
    Bench(("session_bytes", "session_bytes_shared"), _sessions),
    Bench(("queued_bytes_deep", "queued_bytes_single", "queued_bytes_single_expiring"), _queues),
)
