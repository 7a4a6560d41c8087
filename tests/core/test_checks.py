"""`check()` is what most tests lean on: here each thing that it promises to verify is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqtt_sessions import DeadlineKind, Delivery, Message
from mqtt_sessions.deadlines import DeadlineIndex, Lane, Timer
from mqtt_sessions.queue import Queue


class Named(Timer):
    """A timer that may move, to the instant `truth`."""

    __slots__ = ("name", "truth")
    kind = DeadlineKind.KEEP_ALIVE

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.truth = -float("inf")

    @property
    def due(self) -> float:
        return self.truth

    @property
    def subject(self) -> str:
        return self.name


class Sooner(Named):
    __slots__ = ()
    kind = DeadlineKind.RETRY


class Later(Named):
    __slots__ = ()
    kind = DeadlineKind.WILL_DELAY


# ---------------------------------------------------------------- the index


class Filed:
    """An index with the timers a (10), b (12) and c (14) in one lane, d (11) in another."""

    def __init__(self) -> None:
        self.index = DeadlineIndex()
        self.a, self.b, self.c, self.d = (Named(name) for name in "abcd")
        for timer, at in ((self.a, 10.0), (self.b, 12.0), (self.c, 14.0)):
            self.index.arm(timer, at, 10.0)
        self.index.arm(self.d, 11.0, 5.0)

    @property
    def lane(self) -> Lane:
        assert self.a.lane is not None
        return self.a.lane

    def in_place_of_b(self, other: Named) -> None:
        other.at, other.lane, other.prev, other.next = 12.0, self.lane, self.a, self.c
        self.a.next = self.c.prev = other


def _set(name: str, value: object) -> Callable[[Filed], None]:
    """Put a value into a field of the first lane."""
    return lambda filed: setattr(filed.lane, name, value)


FAULTS_OF_AN_INDEX: dict[str, Callable[[Filed], object]] = {
    "a lane that is not filed": lambda filed: filed.index._filed.pop(),
    "a lane that is filed twice": lambda filed: filed.index._filed.add(filed.index._filed[0]),
    "a lane of another kind is known too": lambda filed: filed.index._lanes[0].update(
        {10.0: filed.lane}
    ),
    "another lane stands under the key": lambda filed: filed.index._lanes[filed.a.kind].update(
        {10.0: Lane(filed.a.kind, 10.0, filed.lane.serial)}
    ),
    "filed for less than it says": _set("filed_at", 10.5),
    "filed for more than it says": _set("filed_at", 9.5),
    "filed under a lower kind than its own": _set("kind", DeadlineKind.WILL_DELAY),
    "filed under a higher kind than its own": _set("kind", DeadlineKind.RETRY),
    "filed as younger than it is": _set("serial", 0),
    "filed as older than it is": _set("serial", 99),
    "filed behind its head": lambda filed: setattr(filed.a, "at", 9.0),
    "a timer that knows no lane": lambda filed: setattr(filed.b, "lane", None),
    "a timer that knows another lane": lambda filed: setattr(filed.b, "lane", filed.d.lane),
    "no way back": lambda filed: setattr(filed.b, "prev", None),
    "a way back past one": lambda filed: setattr(filed.c, "prev", filed.a),
    "a way back from the head": lambda filed: setattr(filed.a, "prev", filed.d),
    "a timer of a lower kind": lambda filed: filed.in_place_of_b(Sooner("x")),
    "a timer of a higher kind": lambda filed: filed.in_place_of_b(Later("x")),
    "a timer armed behind its true instant": lambda filed: setattr(filed.b, "truth", 11.9),
    "out of order": lambda filed: setattr(filed.b, "at", 14.5),
    "a tail in the middle": _set("tail", None),
    "a tail that is not the last": lambda filed: setattr(filed.lane, "tail", filed.b),
    "more behind the tail": lambda filed: setattr(filed.c, "next", filed.d),
}


def test_a_sound_index_passes() -> None:
    filed = Filed()
    filed.index.check()
    filed.b.truth = 12.0
    filed.c.truth = 99.0  # armed early is sound
    filed.index.check()
    filed.index.disarm(filed.a)  # filed early is sound
    filed.b.at = filed.c.at = 14.0
    filed.b.truth = 14.0
    filed.index.check()


@pytest.mark.parametrize("fault", FAULTS_OF_AN_INDEX.values(), ids=FAULTS_OF_AN_INDEX)
def test_an_index_that_is_not_sound_is_noticed(fault: Callable[[Filed], object]) -> None:
    filed = Filed()
    fault(filed)
    with pytest.raises(AssertionError):
        filed.index.check()


# ---------------------------------------------------------------- the queue


def _delivery(payload: bytes = b"", expires_at: float | None = None) -> Delivery:
    return Delivery(Message("t", payload, 1), 1, expires_at=expires_at)


class Waiting:
    """A queue: a slot that has left, one message, an emptied slot, two that expire at 20, 30."""

    def __init__(self, *, plain: bool = False) -> None:
        self.queue = Queue()
        self.index = DeadlineIndex()
        if plain:
            for _ in range(4):
                self.queue.push(_delivery())
            self.queue.pop()
            return
        self.queue.count_bytes()
        for expires_at in (None, None, 10.0, 20.0, 30.0):
            self.queue.push(_delivery(b"12", expires_at))
        self.index.arm(self.queue.make_timer("client"), 10.0, 0.0)
        assert self.queue.pop_expired(10.0) is not None
        assert self.queue.pop() is not None
        assert [each is None for each in self.queue.items] == [True, False, True, False, False]

    def order(self, name: str, value: object) -> None:
        assert self.queue._order is not None
        assert hasattr(self.queue._order, name)
        setattr(self.queue._order, name, value)

    def unlive(self) -> None:
        """The queue loses all of its messages but neither slots nor counts."""
        self.queue.items[1:] = [None] * 4
        self.order("dead", 4)
        self.order("expiries", [])
        self.order("size", 0)
        self.order("timer", None)


FAULTS_OF_A_QUEUE: dict[str, Callable[[Waiting], object]] = {
    "a head in front of the list": lambda waiting: setattr(waiting.queue, "_head", -1),
    "a head too early": lambda waiting: setattr(waiting.queue, "_head", 0),
    "a head too late": lambda waiting: setattr(waiting.queue, "_head", 2),
    "a head behind the list": lambda waiting: (
        waiting.unlive(),
        waiting.order("dead", -1),
        setattr(waiting.queue, "_head", 6),
    ),
    "a message in front of the head": lambda waiting: waiting.queue.items.__setitem__(
        0, _delivery()
    ),
    "fewer empty slots than it says": lambda waiting: waiting.order("dead", 2),
    "more empty slots than it says": lambda waiting: waiting.order("dead", 0),
    "nothing but empty slots": lambda waiting: waiting.unlive(),
    "fewer bytes than it says": lambda waiting: waiting.order("size", 10),
    "more bytes than it says": lambda waiting: waiting.order("size", 8),
    "an expiry too few": lambda waiting: waiting.order("expiries", [(20.0, 3)]),
    "an expiry too many": lambda waiting: waiting.order(
        "expiries", [(20.0, 3), (20.0, 3), (30.0, 4)]
    ),
    "an expiry too early": lambda waiting: waiting.order("expiries", [(19.0, 3), (30.0, 4)]),
    "an expiry too late": lambda waiting: waiting.order("expiries", [(20.0, 3), (31.0, 4)]),
    "no timer": lambda waiting: waiting.order("timer", None),
    "a timer that is not armed": lambda waiting: waiting.index.disarm(
        waiting.queue.make_timer("client")
    ),
    "a timer that is armed too late": lambda waiting: waiting.index.arm(
        waiting.queue.make_timer("client"), 20.5, 0.0
    ),
}


def test_a_sound_queue_passes() -> None:
    waiting = Waiting()
    waiting.queue.check()
    waiting.index.arm(waiting.queue.make_timer("client"), 20.0, 0.0)
    waiting.queue.check()
    assert waiting.queue.pop() is not None
    assert waiting.queue.pop() is not None
    assert waiting.queue.pop() is not None
    assert waiting.queue.pop() is None
    waiting.queue.check()
    Waiting(plain=True).queue.check()
    Queue().check()


@pytest.mark.parametrize("fault", FAULTS_OF_A_QUEUE.values(), ids=FAULTS_OF_A_QUEUE)
def test_a_queue_that_is_not_sound_is_noticed(fault: Callable[[Waiting], object]) -> None:
    waiting = Waiting()
    fault(waiting)
    with pytest.raises(AssertionError):
        waiting.queue.check()


FAULTS_OF_A_PLAIN_QUEUE: dict[str, Callable[[Queue], object]] = {
    "a head too early": lambda queue: setattr(queue, "_head", 0),
    "a head too late": lambda queue: setattr(queue, "_head", 2),
    "an empty slot": lambda queue: queue.items.__setitem__(2, None),
    "a message that expires": lambda queue: queue.items.__setitem__(2, _delivery(b"", 5.0)),
}


@pytest.mark.parametrize("fault", FAULTS_OF_A_PLAIN_QUEUE.values(), ids=FAULTS_OF_A_PLAIN_QUEUE)
def test_a_plain_queue_that_is_not_sound_is_noticed(fault: Callable[[Queue], object]) -> None:
    queue = Waiting(plain=True).queue
    fault(queue)
    with pytest.raises(AssertionError):
        queue.check()
