"""What depth of a queue and number of filters add to the cost of one call."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence

from mqtt_sessions import (
    Event,
    Message,
    PubackReceived,
    PublishReceived,
    QueuePurged,
    SendPublish,
    SessionLimits,
)

from .timing import Bench, Figure, Scale, clock, interleave, median, median_ratio, steady_heap
from .worlds import PAYLOAD, STEP, World, connect, subscribe

__all__ = ["BENCHES"]

_TOPIC = "alerts/all"
_DEPTH = 10_000
_SESSIONS = 100
"""Sessions on either side of a comparison: as many calls, on as many objects, deep or not."""


def _timed(world: World, events: Sequence[Event]) -> tuple[float, list[object]]:
    """Seconds for each event, made beforehand so that only the store's work is compared."""
    handle, now = world.store.handle, world.now
    began = clock()
    outcomes = [handle(event, now) for event in events]
    elapsed = clock() - began
    world.now += STEP
    return elapsed / len(events), [action for outcome in outcomes for action in outcome.actions]


# -------------------------------------------------------------------------------- enqueue


class _Enqueue:
    """One more copy for each of the sessions, all away, with so many queued already."""

    def __init__(self, depth: int, *, overflow: bool = False) -> None:
        self.depth = depth
        self.overflow = overflow
        self.world = World(SessionLimits(maximum_queued_messages=depth if overflow else None))
        self.names = [f"away-{number}" for number in range(_SESSIONS)]
        for name in self.names:
            self.world.park(name, _TOPIC)
        for number in range(depth):
            self.world.publish(_TOPIC, qos=number % 2 if overflow else 1)

    def __call__(self) -> float:
        world = self.world
        if self.depth == 1 and not self.overflow:
            for name in self.names:
                world.feed(QueuePurged(name))
        # the deep side takes this one too: the shallow one has just been touched by it
        world.publish(_TOPIC, qos=0 if self.overflow else 1)
        event = PublishReceived(world.publisher, Message(_TOPIC, PAYLOAD, 1), 1)
        return _timed(world, [event])[0]


# -------------------------------------------------------------------------------- ack, drain


class _Connected:
    """Sessions with so many deliveries in flight (`window`) and so many queued behind them."""

    def __init__(self, window: int, queued: int) -> None:
        limits = SessionLimits(maximum_send_window=window, maximum_queued_messages=None)
        self.world = World(limits)
        self.names = [f"client-{number}" for number in range(_SESSIONS)]
        self.sent: dict[object, deque[int]] = {name: deque() for name in self.names}
        for name in self.names:
            self.world.feed(connect(name, name))
            self.world.feed(subscribe(name, (_TOPIC,), 1))
        for _ in range(window + queued):
            self.publish()

    def note(self, actions: Sequence[object]) -> int:
        found = 0
        for action in actions:
            if type(action) is SendPublish:
                found += 1
                self.sent[action.connection].append(action.packet_id)
        return found

    def publish(self) -> None:
        self.note(self.world.publish(_TOPIC))

    def ack_oldest(self) -> tuple[float, int]:
        """Seconds for each acknowledgement, and how many deliveries they called up."""
        events = [PubackReceived(name, self.sent[name].popleft()) for name in self.names]
        seconds, actions = _timed(self.world, events)
        return seconds, self.note(actions)


class _Ack(_Connected):
    """The oldest of `depth` deliveries in flight is acknowledged, nothing is queued."""

    def __init__(self, depth: int) -> None:
        super().__init__(window=depth, queued=0)

    def __call__(self) -> float:
        seconds, called_up = self.ack_oldest()
        assert called_up == 0
        self.publish()
        return seconds


def _drain(scale: Scale, depth: int) -> float:
    """Acks that each call up the head of a queue: one that empties from `depth`, and one of 1.

    Sums, not medians, since a queue may save its work up and pay now and then.
    """
    deep, shallow = _Connected(window=1, queued=depth), _Connected(window=1, queued=1)
    deep_seconds = shallow_seconds = 0.0
    with steady_heap():
        for _ in range(depth):
            seconds, called_up = deep.ack_oldest()
            assert called_up == _SESSIONS
            deep_seconds += seconds
            seconds, called_up = shallow.ack_oldest()
            assert called_up == _SESSIONS
            shallow_seconds += seconds
            shallow.publish()
    return deep_seconds / shallow_seconds


def _depth(scale: Scale) -> Iterator[Figure]:
    depth = scale.count(_DEPTH)
    rounds = 3 * scale.rounds
    pairs = (
        ("depth_growth_enqueue", _Enqueue(depth), _Enqueue(1)),
        ("depth_growth_ack", _Ack(depth), _Ack(1)),
        (
            "depth_growth_overflow",
            _Enqueue(depth, overflow=True),
            _Enqueue(1, overflow=True),
        ),
    )
    growths: dict[str, float] = {}
    for name, deep, shallow in pairs:
        with steady_heap():
            growths[name] = median_ratio(*interleave((deep, shallow), rounds))
    growths["depth_growth_drain"] = _drain(scale, depth)
    worst = max(growth for name, growth in growths.items() if name != "depth_growth_overflow")
    yield Figure("depth_growth", worst, "x")
    for name, growth in growths.items():
        yield Figure(name, growth, "x")


# -------------------------------------------------------------------------------- filters


def _topic(number: int) -> str:
    """A new string each time, as a decoder makes it: its hash is not known yet."""
    return f"plant/{number:07d}/temperature"


class _Filters:
    """Publishing at QoS 0 to random ones of so many exact filters, held by 100 open sessions."""

    def __init__(self, filters: int, publishes: int) -> None:
        self.filters = filters
        self.publishes = publishes
        self.random = random.Random(filters)
        self.world = world = World()
        holders = min(_SESSIONS, filters)
        for holder in range(holders):
            name = f"holder-{holder}"
            world.feed(connect(name, name))
            mine = [_topic(number) for number in range(holder, filters, holders)]
            for first in range(0, len(mine), 1_000):
                world.feed(subscribe(name, mine[first : first + 1_000], 0))

    def publish(self, topic_names: Sequence[str]) -> float:
        store, now = self.world.store, self.world.now
        handle, publisher = store.handle, self.world.publisher
        sent = 0
        began = clock()
        for topic_name in topic_names:
            now += STEP
            outcome = handle(PublishReceived(publisher, Message(topic_name, PAYLOAD)), now)
            deadline_at = store.next_deadline_at
            if deadline_at is not None and deadline_at <= now:
                store.handle_timeout(now)
            sent += len(outcome.actions)
        elapsed = clock() - began
        assert sent == len(topic_names)
        self.world.now = now
        return elapsed / sent

    def __call__(self) -> float:
        # as many again beforehand: the few filters are then as warm as they get
        self.publish([_topic(self.random.randrange(self.filters)) for _ in range(self.publishes)])
        return self.publish(
            [_topic(self.random.randrange(self.filters)) for _ in range(self.publishes)]
        )


class _Touched:
    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class _Lookups:
    """One dict lookup and one attribute of what it finds, at the same sizes."""

    def __init__(self, entries: int, lookups: int) -> None:
        self.entries = entries
        self.lookups = lookups
        self.random = random.Random(entries)
        self.table = {_topic(number): _Touched(number) for number in range(entries)}

    def look_up(self, topic_names: Sequence[str]) -> float:
        table = self.table
        began = clock()
        for topic_name in topic_names:
            table[topic_name].number  # noqa: B018  touching it is the point
        return (clock() - began) / len(topic_names)

    def __call__(self) -> float:
        self.look_up([_topic(self.random.randrange(self.entries)) for _ in range(self.lookups)])
        return self.look_up(
            [_topic(self.random.randrange(self.entries)) for _ in range(self.lookups)]
        )


def _filters(scale: Scale) -> Iterator[Figure]:
    many, few = scale.count(1_000_000), scale.count(1_000)
    times = scale.count(4_000, least=20)
    sides = (
        _Filters(many, times),
        _Filters(few, times),
        _Lookups(many, times),
        _Lookups(few, times),
    )
    with steady_heap():
        publish_many, publish_few, touch_many, touch_few = interleave(sides, scale.rounds)
    growths = [
        (publish - (touch - touch_base)) / base
        for publish, base, touch, touch_base in zip(
            publish_many, publish_few, touch_many, touch_few, strict=True
        )
    ]
    yield Figure("filters_growth", median(growths), "x")
    yield Figure("filters_publish_many_us", median(publish_many) * 1e6, "us")
    yield Figure("filters_publish_few_us", median(publish_few) * 1e6, "us")
    yield Figure("filters_lookup_many_us", median(touch_many) * 1e6, "us")
    yield Figure("filters_lookup_few_us", median(touch_few) * 1e6, "us")


BENCHES = (
    Bench(
        (
            "depth_growth",
            "depth_growth_enqueue",
            "depth_growth_ack",
            "depth_growth_drain",
            "depth_growth_overflow",
        ),
        _depth,
    ),
    Bench(
        (
            "filters_growth",
            "filters_publish_many_us",
            "filters_publish_few_us",
            "filters_lookup_many_us",
            "filters_lookup_few_us",
        ),
        _filters,
    ),
)
