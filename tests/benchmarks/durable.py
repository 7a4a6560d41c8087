"""What durability costs: changes built, rows written, what a crash takes to come back from.

Figures that wait for a disk are wall-clock seconds, and are told beside what one `fdatasync` of
that disk takes; the others, coming back included, are CPU seconds, like everywhere here.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from mqtt_sessions import (
    Change,
    CommitGate,
    Delivery,
    DeliveryRemoved,
    DeliveryStored,
    EpochStored,
    IdsReserved,
    Message,
    MessageStored,
    PubackReceived,
    PublishReceived,
    SendPuback,
    SendPublish,
    SessionLimits,
    SessionStore,
    SessionStored,
    Subscription,
    SubscriptionStored,
)
from mqtt_sessions.journals import SQLiteJournal

from .memory import queued_bytes
from .timing import Bench, Figure, Scale, clock, interleave, median, median_ratio, steady_heap
from .worlds import KEEP_ALIVE, PAYLOAD, START, STEP, connect, subscribe

__all__ = ["BENCHES"]

_TOPIC = "sensors/7/temperature"
_PERSISTENT = 3600
_GROUP = 100
"""Messages that are committed together."""
_BODY = bytes(range(160))

# ---------------------------------------------------------------- changes, nobody behind


class _StoreAtQos1:
    """As the in-memory bench of the same path, but that all sessions outlive their connections."""

    def __init__(self, fanout: int, publishes: int, *, durable: bool) -> None:
        self.store = SessionStore(durable=durable)
        self.now = START
        self.store.handle(connect("publisher", "publisher", keep_alive=KEEP_ALIVE), self.now)
        for number in range(fanout):
            name = f"subscriber-{number}"
            event = connect(name, name, interval=_PERSISTENT, keep_alive=KEEP_ALIVE)
            self.store.handle(event, self.now)
            self.store.handle(subscribe(name, (_TOPIC,), 1), self.now)
        self.publishes = publishes
        self.deliveries = fanout * publishes

    def __call__(self) -> float:
        store, now = self.store, self.now
        handle = store.handle
        delivered = changes = 0
        began = clock()
        for packet_id in range(1, self.publishes + 1):
            now += STEP
            event = PublishReceived("publisher", Message(_TOPIC, PAYLOAD, 1), packet_id)
            outcome = handle(event, now)
            changes += len(outcome.changes)
            deadline_at = store.next_deadline_at
            if deadline_at is not None and deadline_at <= now:
                store.handle_timeout(now)
            for action in outcome.actions:
                if type(action) is SendPublish:
                    delivered += 1
                    now += STEP
                    acked = handle(PubackReceived(action.connection, action.packet_id), now)
                    changes += len(acked.changes)
                    deadline_at = store.next_deadline_at
                    if deadline_at is not None and deadline_at <= now:
                        store.handle_timeout(now)
        elapsed = clock() - began
        assert delivered == self.deliveries
        assert changes in (0, 2 * delivered + 2 * self.publishes) or changes > 2 * delivered
        self.now = now
        return elapsed / delivered


def _changes_overhead(scale: Scale) -> Iterator[Figure]:
    publishes = max(scale.count(10_000) // 10, 4)
    sides = [_StoreAtQos1(10, publishes, durable=durable) for durable in (True, False)]
    with steady_heap():
        durable, plain = interleave(sides, 4 * scale.rounds)
    yield Figure("changes_overhead", median_ratio(durable, plain), "x")
    yield Figure("changes_us", (median(durable) - median(plain)) * 1e6, "us")


def _queued_bytes(scale: Scale) -> Iterator[Figure]:
    bytes_each = queued_bytes(scale.count(1_000), 100, durable=True)
    yield Figure("queued_bytes_deep_durable", bytes_each, "B")


# ---------------------------------------------------------------- SQLite alone


def _session(session_id: int) -> SessionStored:
    return SessionStored(
        session_id, f"client-{session_id}", 1, False, 5, None, None, None, 1024, None, None
    )


def _delivery(delivery_id: int, topic: str = _TOPIC, payload: bytes = _BODY) -> Delivery:
    message = Message(topic, payload, 1)
    return Delivery(message, 1, False, (), START + delivery_id * STEP)


class _SQLite:
    """Groups of messages: each queued once, and acknowledged in the next group."""

    def __init__(self, directory: str, groups: int, backlog: int = 0) -> None:
        self.path = Path(directory) / f"backlog-{backlog}.db"
        self.journal = SQLiteJournal(self.path)
        assert not list(self.journal.load())
        self.journal.commit([EpochStored(1, START, START), IdsReserved(1 << 40), _session(1)])
        self.next_id = 2
        for _ in range(0, backlog, 10_000):
            count = min(10_000, backlog)
            self.journal.commit([self._stored() for _ in range(count)])
        self.groups = groups
        self.before: list[int] = []

    def _stored(self) -> DeliveryStored:
        delivery_id = self.next_id
        self.next_id += 1
        return DeliveryStored(delivery_id, 1, None, _delivery(delivery_id))

    def __call__(self) -> float:
        batches: list[list[Change]] = []
        for _ in range(self.groups):
            stored = [self._stored() for _ in range(_GROUP)]
            removed = [DeliveryRemoved(delivery_id) for delivery_id in self.before]
            self.before = [each.delivery_id for each in stored]
            batches.append([*stored, *removed])
        began = time.perf_counter()
        for batch in batches:
            self.journal.commit(batch)
        return time.perf_counter() - began


class _PlainFile:
    """The same bytes appended to a file, and one `fdatasync` for each group."""

    def __init__(self, directory: str, groups: int) -> None:
        self.file = os.open(Path(directory) / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.groups = groups
        # the message, and an identifier for its acknowledgement
        self.group = (_TOPIC.encode() + _BODY + bytes(16)) * _GROUP

    def __call__(self) -> float:
        began = time.perf_counter()
        for _ in range(self.groups):
            os.write(self.file, self.group)
            os.fdatasync(self.file)
        return time.perf_counter() - began


def _fdatasync(directory: str, rounds: int) -> float:
    """Seconds for one block appended and synced."""
    file = os.open(Path(directory) / "latency", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    samples = []
    for _ in range(rounds):
        began = time.perf_counter()
        os.write(file, bytes(8192))
        os.fdatasync(file)
        samples.append(time.perf_counter() - began)
    os.close(file)
    return median(samples)


def _sqlite(scale: Scale) -> Iterator[Figure]:
    groups = scale.count(100, least=2)
    with tempfile.TemporaryDirectory() as directory:
        sides = (
            _SQLite(directory, groups),
            _PlainFile(directory, groups),
            _SQLite(directory, groups, scale.count(1_000_000, least=100)),
        )
        with steady_heap():
            empty, plain, deep = interleave(sides, max(5, scale.rounds // 4))
        latency = _fdatasync(directory, 5 * scale.rounds)
        for side in (sides[0], sides[2]):
            assert isinstance(side, _SQLite)
            side.journal.close()
    yield Figure("fdatasync_us", latency * 1e6, "us")
    yield Figure("sqlite_vs_file", 1 / median_ratio(empty, plain), "x")
    yield Figure("sqlite_backlog", 1 / median_ratio(deep, empty), "x")
    yield Figure("sqlite_message_us", median(empty) / (groups * _GROUP) * 1e6, "us")


def _disk(scale: Scale) -> Iterator[Figure]:
    """Bytes of the file for each message or delivery, over those of topic and payload."""
    messages = scale.count(100_000, least=2_000)
    body = len(_TOPIC) + len(_BODY)
    with tempfile.TemporaryDirectory() as directory:
        inline = [
            DeliveryStored(number, 1, None, _delivery(number)) for number in range(2, messages + 2)
        ]
        size = _file_size(Path(directory) / "inline.db", inline)
        yield Figure("disk_inline_overhead", size / messages - body, "B")
        shared: list[Change] = []
        for number in range(11, messages + 11, 11):
            delivery = _delivery(number)
            message = delivery.message
            shared.append(MessageStored(number, message, delivery.received_at, None, None, None))
            for place in range(1, 11):
                shared.append(DeliveryStored(number + place, place, number, delivery))
        size = _file_size(Path(directory) / "shared.db", shared)
        deliveries = len(shared) * 10 / 11
        yield Figure("disk_fanout10", size / deliveries, "B")


def _file_size(path: Path, changes: Sequence[Change]) -> int:
    """What the changes add to a file, once it holds nothing but what is in force."""
    journal = SQLiteJournal(path)
    assert not list(journal.load())
    journal.commit([_session(number) for number in range(1, 11)])
    for start in range(0, len(changes), 1_000):
        journal.commit(changes[start : start + 1_000])
    journal.close()
    return path.stat().st_size


# ---------------------------------------------------------------- the whole library


class _Broker:
    """Store, gate and SQLite, and clients in a closed loop.

    Publishers have so many PUBLISH packets outstanding, and send the next as one is acknowledged.
    The host reads them in groups, commits what came of each group, and then answers. Subscribers
    acknowledge what they got at once, or only when it has been stored.
    """

    def __init__(self, path: Path, outstanding: int, *, acks_at_once: bool) -> None:
        self.store = SessionStore(limits=SessionLimits(maximum_send_window=65_535), durable=True)
        self.gate = CommitGate()
        self.journal = SQLiteJournal(path)
        assert not list(self.journal.load())
        self.now = START
        self.acks_at_once = acks_at_once
        self.rows = 0
        self.waiting: deque[tuple[str, int]] = deque()
        self.unacked: list[PubackReceived] = []
        for number in range(outstanding // 100):
            name = f"publisher-{number}"
            self._perform(connect(name, name, keep_alive=KEEP_ALIVE))
            self.waiting.extend((name, packet_id) for packet_id in range(1, 101))
        for number in range(10):
            name = f"subscriber-{number}"
            event = connect(name, name, interval=_PERSISTENT, keep_alive=KEEP_ALIVE)
            self._perform(event)
            self._perform(subscribe(name, (f"sensors/{number}/temperature",), 1))
        self._commit()

    def _perform(self, event: object) -> None:
        self.now += STEP
        self.gate.add(self.store.handle(event, self.now))  # type: ignore[arg-type]

    def _commit(self) -> tuple[object, ...]:
        batch = self.gate.take_batch()
        if batch is None:
            return ()
        number, changes = batch
        self.rows += len(changes)
        self.journal.commit(changes)
        return self.gate.committed(number)

    def run(self, messages: int) -> tuple[float, list[float]]:
        """Seconds for each message, and from reading each PUBLISH to its PUBACK."""
        store, add = self.store, self.gate.add
        handle = store.handle
        now, waiting = self.now, self.waiting
        read_at: dict[tuple[str, int], float] = {}
        latencies: list[float] = []
        timer = time.perf_counter
        began = timer()
        done = 0
        while done < messages:
            actions: list[object] = []
            acks, self.unacked = self.unacked, []
            for ack in acks:
                now += STEP
                actions += add(handle(ack, now))
            for _ in range(_GROUP):
                name, packet_id = waiting.popleft()
                read_at[name, packet_id] = timer()
                topic = f"sensors/{packet_id % 10}/temperature"
                event = PublishReceived(name, Message(topic, bytes(PAYLOAD), 1), packet_id)
                now += STEP
                for action in add(handle(event, now)):
                    if type(action) is SendPublish and self.acks_at_once:
                        puback = PubackReceived(action.connection, action.packet_id)
                        actions += add(handle(puback, now))
                    else:
                        actions.append(action)
            actions += self._commit()
            for action in actions:
                if type(action) is SendPublish:
                    self.unacked.append(PubackReceived(action.connection, action.packet_id))
                elif type(action) is SendPuback:
                    key = action.connection, action.packet_id
                    latencies.append(timer() - read_at.pop(key))  # type: ignore[arg-type]
                    waiting.append(key)  # type: ignore[arg-type]
                    done += 1
            deadline_at = store.next_deadline_at
            if deadline_at is not None and deadline_at <= now:
                add(store.handle_timeout(now))
        self.now = now
        return (timer() - began) / done, latencies


def _broker(scale: Scale) -> Iterator[Figure]:
    messages = scale.count(20_000, least=200)
    rounds = max(3, scale.rounds // 6)
    with tempfile.TemporaryDirectory() as directory:
        broker = _Broker(Path(directory) / "sessions.db", 2_000, acks_at_once=False)
        broker.run(messages)
        seconds: list[float] = []
        latencies: list[float] = []
        with steady_heap():
            for _ in range(rounds):
                each, waited = broker.run(messages)
                seconds.append(each)
                latencies += waited
        broker.journal.close()
        latencies.sort()
        yield Figure("durable_msgs_per_s", 1 / median(seconds), "1/s")
        yield Figure("durable_puback_p99_ms", latencies[len(latencies) * 99 // 100] * 1e3, "ms")
        prompt = _Broker(Path(directory) / "prompt.db", 2_000, acks_at_once=True)
        prompt.run(messages)
        rows = prompt.rows
        each, _ = prompt.run(messages)
        prompt.journal.close()
        yield Figure("elision_rows", (prompt.rows - rows) / messages, "rows")
        yield Figure("elision_msgs_per_s", 1 / each, "1/s")


# ---------------------------------------------------------------- coming back


def _filters(session_id: int) -> list[str]:
    """Four exact ones, and one with a wildcard."""
    exact = [f"fleet/{session_id}/{place}/set" for place in range(4)]
    return [*exact, f"fleet/{session_id}/all/#"]


def _restore(scale: Scale) -> Iterator[Figure]:
    sessions = scale.count(100_000, least=100)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "sessions.db"
        journal = SQLiteJournal(path)
        assert not list(journal.load())
        journal.commit([EpochStored(1, START, START), IdsReserved(1 << 40)])
        row_id = sessions
        chunk = min(1_000, sessions)
        for start in range(0, sessions, chunk):
            changes: list[Change] = []
            for session_id in range(start + 1, start + chunk + 1):
                changes.append(_session(session_id))
                changes += [
                    SubscriptionStored(session_id, Subscription(topic_filter, 1))
                    for topic_filter in _filters(session_id)
                ]
                for place in range(10):
                    row_id += 1
                    delivery = _delivery(row_id, f"fleet/{session_id}/{place % 5}/x", PAYLOAD)
                    changes.append(DeliveryStored(row_id, session_id, None, delivery))
            journal.commit(changes)
        journal.close()
        gc.collect()  # nothing is frozen: a server that starts has not come to that yet
        began = clock()
        journal = SQLiteJournal(path)
        loaded = SessionStore.recover(journal.load(), START + 1)
        loaded.store.handle_timeout(START + 1)
        elapsed = clock() - began
        assert len(loaded.store) == sessions
        assert loaded.store["client-1"].queue_depth == 10
        journal.close()
    yield Figure("restore_s", elapsed, "s")


BENCHES = (
    Bench(("changes_overhead", "changes_us"), _changes_overhead),
    Bench(("queued_bytes_deep_durable",), _queued_bytes),
    Bench(("fdatasync_us", "sqlite_vs_file", "sqlite_backlog", "sqlite_message_us"), _sqlite),
    Bench(("disk_inline_overhead", "disk_fanout10"), _disk),
    Bench(
        ("durable_msgs_per_s", "durable_puback_p99_ms", "elision_rows", "elision_msgs_per_s"),
        _broker,
    ),
    Bench(("restore_s",), _restore),
)
