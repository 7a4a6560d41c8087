"""Messages through the public door: published, delivered, acknowledged, queued, resumed.

The loops do what a host does: make the event, handle it, read the next deadline, keep the timer,
look at each action. The loop over the floor is the loop over the store written again, because one
loop over both would be slowed by the other's types in the interpreter's inline caches.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from mqtt_sessions import (
    ConnectionLost,
    DisconnectReceived,
    Message,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    QueuePurged,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SessionLimits,
    SessionStore,
)

from .floor import Floor
from .timing import Bench, Figure, Scale, clock, interleave, median, median_ratio, steady_heap
from .worlds import KEEP_ALIVE, PAYLOAD, START, STEP, Door, World, connect, subscribe

__all__ = ["BENCHES"]

_FANOUTS = (1, 10, 100)
_TOPIC = "sensors/7/temperature"
_PERSISTENT = 3600


def _open(door: Door, fanout: int, qos: int) -> float:
    """One publisher and its subscribers, all connected; the instant after that."""
    now = START
    door.handle(connect("publisher", "publisher", keep_alive=KEEP_ALIVE), now)
    for number in range(fanout):
        name = f"subscriber-{number}"
        door.handle(connect(name, name, keep_alive=KEEP_ALIVE), now)
        door.handle(subscribe(name, (_TOPIC,), qos), now)
    return now


class _StoreAtQos1:
    def __init__(self, fanout: int, publishes: int) -> None:
        self.store = SessionStore()
        self.now = _open(self.store, fanout, 1)
        self.publishes = publishes
        self.deliveries = fanout * publishes

    def __call__(self) -> float:
        store, now = self.store, self.now
        handle = store.handle
        delivered = 0
        began = clock()
        for packet_id in range(1, self.publishes + 1):
            now += STEP
            event = PublishReceived("publisher", Message(_TOPIC, PAYLOAD, 1), packet_id)
            outcome = handle(event, now)
            deadline_at = store.next_deadline_at
            if deadline_at is not None and deadline_at <= now:
                store.handle_timeout(now)
            for action in outcome.actions:
                if type(action) is SendPublish:
                    delivered += 1
                    now += STEP
                    handle(PubackReceived(action.connection, action.packet_id), now)
                    deadline_at = store.next_deadline_at
                    if deadline_at is not None and deadline_at <= now:
                        store.handle_timeout(now)
        elapsed = clock() - began
        assert delivered == self.deliveries
        self.now = now
        return elapsed / delivered


class _FloorAtQos1:
    def __init__(self, fanout: int, publishes: int) -> None:
        self.floor = Floor()
        self.now = _open(self.floor, fanout, 1)
        self.publishes = publishes
        self.deliveries = fanout * publishes

    def __call__(self) -> float:
        floor, now = self.floor, self.now
        handle = floor.handle
        delivered = 0
        began = clock()
        for packet_id in range(1, self.publishes + 1):
            now += STEP
            event = PublishReceived("publisher", Message(_TOPIC, PAYLOAD, 1), packet_id)
            actions = handle(event, now)
            deadline_at = floor.next_deadline_at
            if deadline_at is not None and deadline_at <= now:
                raise AssertionError("nothing ends here")
            for action in actions:
                if type(action) is SendPublish:
                    delivered += 1
                    now += STEP
                    handle(PubackReceived(action.connection, action.packet_id), now)
                    deadline_at = floor.next_deadline_at
                    if deadline_at is not None and deadline_at <= now:
                        raise AssertionError("nothing ends here")
        elapsed = clock() - began
        assert delivered == self.deliveries
        self.now = now
        return elapsed / delivered


def _qos1(fanout: int, scale: Scale) -> Iterator[Figure]:
    publishes = max(scale.count(10_000) // fanout, 4)
    sides = (_StoreAtQos1(fanout, publishes), _FloorAtQos1(fanout, publishes))
    with steady_heap():
        ours, floor = interleave(sides, 4 * scale.rounds)
    yield Figure(f"qos1_fanout{fanout}_vs_floor", median_ratio(ours, floor), "x")
    yield Figure(f"qos1_fanout{fanout}_us", median(ours) * 1e6, "us")
    yield Figure(f"qos1_fanout{fanout}_floor_us", median(floor) * 1e6, "us")


class _StoreAtQos2:
    def __init__(self, fanout: int, publishes: int) -> None:
        self.store = SessionStore()
        self.now = _open(self.store, fanout, 2)
        self.publishes = publishes
        self.deliveries = fanout * publishes

    def __call__(self) -> float:
        store, now = self.store, self.now
        handle = store.handle
        completed = 0
        began = clock()
        for packet_id in range(1, self.publishes + 1):
            message = Message(_TOPIC, PAYLOAD, 2)
            actions = list(handle(PublishReceived("publisher", message, packet_id), now).actions)
            for action in actions:  # grows while it is walked: answers lead to actions
                now += STEP
                kind = type(action)
                if kind is SendPublish:
                    answer = PubrecReceived(action.connection, action.packet_id)
                elif kind is SendPubrel:
                    completed += 1
                    answer = PubcompReceived(action.connection, action.packet_id)
                elif kind is SendPubrec:
                    answer = PubrelReceived(action.connection, action.packet_id)
                else:
                    continue
                actions += handle(answer, now).actions
                deadline_at = store.next_deadline_at
                if deadline_at is not None and deadline_at <= now:
                    store.handle_timeout(now)
        elapsed = clock() - began
        assert completed == self.deliveries
        self.now = now
        return elapsed / completed


def _qos2(fanout: int, scale: Scale) -> Iterator[Figure]:
    side = _StoreAtQos2(fanout, max(scale.count(4_000) // fanout, 4))
    with steady_heap():
        (samples,) = interleave((side,), scale.rounds)
    yield Figure(f"qos2_fanout{fanout}_us", median(samples) * 1e6, "us")


def _offline_enqueue(fanout: int, scale: Scale) -> Iterator[Figure]:
    world = World(SessionLimits(maximum_queued_messages=None))
    names = [f"away-{number}" for number in range(fanout)]
    for name in names:
        world.park(name, _TOPIC)
    publishes = max(scale.count(5_000) // fanout, 10)

    def fill() -> float:
        store, now = world.store, world.now
        handle = store.handle
        began = clock()
        for packet_id in range(1, publishes + 1):
            now += STEP
            event = PublishReceived("publisher", Message(_TOPIC, PAYLOAD, 1), packet_id)
            handle(event, now)
            deadline_at = store.next_deadline_at
            if deadline_at is not None and deadline_at <= now:
                store.handle_timeout(now)
        elapsed = clock() - began
        world.now = now
        for name in names:
            world.feed(QueuePurged(name))
        return elapsed / (publishes * fanout)

    with steady_heap():
        (samples,) = interleave((fill,), scale.rounds)
    yield Figure(f"offline_enqueue_fanout{fanout}_us", median(samples) * 1e6, "us")


def _resume_drain(scale: Scale) -> Iterator[Figure]:
    world = World(SessionLimits(maximum_queued_messages=None))
    world.park("away", _TOPIC)
    depth = scale.count(5_000, least=10)

    def drain() -> float:
        for _ in range(depth):
            world.publish(_TOPIC)
        store, now = world.store, world.now
        handle = store.handle
        began = clock()
        event = connect("away", "away", interval=_PERSISTENT, keep_alive=KEEP_ALIVE)
        actions = list(handle(event, now).actions)
        acked = 0
        for action in actions:  # grows while it is walked: acks open the window
            if type(action) is SendPublish:
                acked += 1
                now += STEP
                actions += handle(PubackReceived("away", action.packet_id), now).actions
                deadline_at = store.next_deadline_at
                if deadline_at is not None and deadline_at <= now:
                    store.handle_timeout(now)
        elapsed = clock() - began
        assert acked == depth
        world.now = now
        world.feed(ConnectionLost("away"))
        return elapsed / depth

    with steady_heap():
        (samples,) = interleave((drain,), scale.rounds)
    yield Figure("resume_drain_us", median(samples) * 1e6, "us")


class _Cycles:
    """Connect, disconnect: one persistent session with so many deliveries in flight."""

    def __init__(self, in_flight: int, cycles: int) -> None:
        self.in_flight = in_flight
        self.cycles = cycles
        self.world = world = World()
        world.feed(connect("client", "client", interval=_PERSISTENT))
        world.feed(subscribe("client", (_TOPIC,), 1))
        for _ in range(in_flight):
            assert world.publish(_TOPIC)
        world.feed(ConnectionLost("client"))

    def __call__(self) -> float:
        store, now = self.world.store, self.world.now
        handle = store.handle
        sent = 0
        began = clock()
        for _ in range(self.cycles):
            now += STEP
            event = connect("client", "client", interval=_PERSISTENT, keep_alive=KEEP_ALIVE)
            for action in handle(event, now).actions:
                if type(action) is SendPublish:
                    sent += 1
            deadline_at = store.next_deadline_at
            now += STEP
            handle(DisconnectReceived("client"), now)
            deadline_at = store.next_deadline_at
            handle(ConnectionLost("client"), now)
            deadline_at = store.next_deadline_at
            if deadline_at is not None and deadline_at <= now:
                store.handle_timeout(now)
        elapsed = clock() - began
        assert sent == self.cycles * self.in_flight
        self.world.now = now
        return elapsed / self.cycles


def _connect_cycle(scale: Scale) -> Iterator[Figure]:
    cycles = scale.count(1_000, least=10)
    sides = (_Cycles(0, cycles), _Cycles(10, cycles))
    with steady_heap():
        nothing, ten = interleave(sides, scale.rounds)
    yield Figure("connect_disconnect_us", median(nothing) * 1e6, "us")
    yield Figure("connect_disconnect_10_in_flight_us", median(ten) * 1e6, "us")


def _benches() -> Iterator[Bench]:
    for fanout in _FANOUTS:
        name = f"qos1_fanout{fanout}"
        yield Bench((f"{name}_vs_floor", f"{name}_us", f"{name}_floor_us"), partial(_qos1, fanout))
    for fanout in _FANOUTS:
        yield Bench((f"qos2_fanout{fanout}_us",), partial(_qos2, fanout))
    for fanout in _FANOUTS:
        yield Bench((f"offline_enqueue_fanout{fanout}_us",), partial(_offline_enqueue, fanout))
    yield Bench(("resume_drain_us",), _resume_drain)
    yield Bench(("connect_disconnect_us", "connect_disconnect_10_in_flight_us"), _connect_cycle)


BENCHES = tuple(_benches())
