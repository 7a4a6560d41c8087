"""The one ordered index of everything that time ends.

Timers of one interval are in order by themselves, because time never goes back: each interval has
a lane, a linked list through the timers, where arming and disarming cost a few assignments
whatever the number of timers. A timer that does not fit its interval's lane gets a lane of its
own instant. A `SortedList` orders the lanes, which are few.

Two things are settled late. A lane whose head left stays filed under the old head's instant, and
a timer may be armed early (`due` later than `at`): both are put right when they come to the
front, before anybody is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, unique
from typing import ClassVar

from sortedcontainers import SortedList

from mqtt_sessions._values import value

__all__ = ["Deadline", "DeadlineIndex", "DeadlineKind", "Timer"]

_INF = float("inf")


@unique
class DeadlineKind(IntEnum):
    """What a deadline ends; at one instant the lower member goes first."""

    MESSAGE_EXPIRY = 0
    """A queued message; subject: client id."""
    RETAINED_EXPIRY = 1
    """A retained message; subject: topic name."""
    RETAINED_REPLAY = 2
    """Retained messages that SUBSCRIBE called up go on; subject: client id."""
    INBOUND_QOS2 = 3
    """An inbound QoS 2 identifier (`ExpiryPolicy.inbound_qos2_interval`); subject: client id."""
    RETRY = 4
    """An unacknowledged packet (`ExpiryPolicy.retry_interval`); subject: client id."""
    KEEP_ALIVE = 5
    """A silent connection; subject: client id."""
    WILL_DELAY = 6
    """A delayed will; subject: client id."""
    SESSION_EXPIRY = 7
    """A session without a connection; subject: client id."""


@value
class Deadline:
    """The next instant at which `handle_timeout` has something to do.

    Attributes:
        at: The instant, on the host's clock.
        kind: What is due.
        subject: Client id or topic name, as the kind says.
    """

    at: float
    kind: DeadlineKind
    subject: str


class Timer:
    """Something with a deadline: base class of what stands in the index.

    Attributes:
        at: The instant for which it is armed; infinity: it is not.
    """

    __slots__ = ("at", "lane", "next", "prev")

    kind: ClassVar[DeadlineKind]

    at: float
    lane: Lane | None
    next: Timer | None
    prev: Timer | None

    def __init__(self) -> None:
        self.at = _INF
        self.lane = None
        self.next = None
        self.prev = None

    @property
    def due(self) -> float:
        """The true instant where it may have moved behind `at`, minus infinity elsewhere."""
        return -_INF

    @property
    def interval(self) -> float:
        """The lane in which a timer that moves is likely to be in order."""
        return 0.0

    @property
    def subject(self) -> str:
        """Client id or topic name."""
        raise NotImplementedError


class Lane:
    """Timers of one kind, in order of their instants."""

    __slots__ = ("filed_at", "head", "key", "kind", "serial", "tail")

    head: Timer
    tail: Timer

    def __init__(self, kind: DeadlineKind, key: float | tuple[float], serial: int) -> None:
        self.kind = kind
        self.key = key
        self.serial = serial
        self.filed_at = _INF

    def __iter__(self) -> Iterator[Timer]:
        timer: Timer | None = self.head
        while timer is not None:
            yield timer
            timer = timer.next


class DeadlineIndex:
    """All timers, in order of instant, kind and age of their lane.

    Attributes:
        known: The timer that is due next, unless it has moved; None: not known, or there is none.
    """

    __slots__ = ("_filed", "_front", "_lanes", "_second_at", "_serial", "known")

    def __init__(self) -> None:
        # key: an interval, or (instant,) for a lane of one instant
        self._lanes: tuple[dict[float | tuple[float], Lane], ...] = tuple({} for _ in DeadlineKind)
        self._filed: SortedList = SortedList()
        self._front: Lane | None = None
        self._second_at = _INF
        self.known: Timer | None = None
        self._serial = 0

    def __len__(self) -> int:
        """Timers that are armed. *Cost* O(timers): nobody on the way needs it."""
        return sum(1 for *_, lane in self._filed for _ in lane)

    def arm(self, timer: Timer, at: float, interval: float) -> None:
        """Put a timer in, or move it; `interval` names the lane in which it is in order.

        *Cost* O(1) if the interval's lane is not empty and ends before `at`, else O(log lanes).
        """
        if timer.lane is not None:
            self.disarm(timer)
        timer.at = at
        lanes = self._lanes[timer.kind]
        lane = lanes.get(interval)
        if lane is not None and lane.tail.at > at:
            lane = lanes.get((at,))
            if lane is None:
                self._open(timer, (at,))
                return
        elif lane is None:
            self._open(timer, interval)
            return
        tail = lane.tail
        tail.next = timer
        timer.prev = tail
        timer.lane = lane
        lane.tail = timer

    def disarm(self, timer: Timer) -> None:
        """Take a timer out; nothing happens if it is not in.

        *Cost* O(1); O(log lanes) if it is the last of its lane.
        """
        lane = timer.lane
        if lane is None:
            return
        before, after = timer.prev, timer.next
        timer.lane = timer.prev = timer.next = None
        timer.at = _INF
        if self.known is timer:
            self.known = None
        if before is not None:
            before.next = after
            if after is not None:
                after.prev = before
            else:
                lane.tail = before
        elif after is not None:
            after.prev = None
            lane.head = after
        else:
            del self._lanes[timer.kind][lane.key]
            self._filed.remove((lane.filed_at, lane.kind, lane.serial, lane))
            self._refresh()

    def first(self) -> Timer | None:
        """The timer that is due next, exactly; None if there is none.

        *Cost* O(1); O(log lanes) for each lane or early timer that is put right on the way.
        """
        timer = self.known
        if timer is not None and timer.due <= timer.at:
            return timer
        return self.find()

    def find(self) -> Timer | None:
        """The same, where it is known that `known` does not do."""
        while (lane := self._front) is not None:
            timer = lane.head
            at = timer.at
            if (due := timer.due) > at:
                tail = lane.tail
                after = timer.next
                if after is None or not tail.at <= due < _INF or lane.key != timer.interval:
                    self._move(timer)
                    continue
                # What `arm` would do, spelled out: a busy connection at the head of its lane
                # goes to the end of it, at the most once for each of its packets.
                timer.at = due
                timer.next = None
                timer.prev = tail
                tail.next = timer
                lane.tail = timer
                lane.head = after
                after.prev = None
                if after.due <= after.at < self._second_at:
                    self.known = after
                    return after
            elif at < self._second_at or at == lane.filed_at:
                self.known = timer
                return timer
            else:
                self._filed.remove((lane.filed_at, lane.kind, lane.serial, lane))
                self._file(lane)
        return None

    def _move(self, timer: Timer) -> None:
        due = timer.due
        if due == _INF:
            self.disarm(timer)
            return
        self.arm(timer, due, timer.interval)

    def _open(self, timer: Timer, key: float | tuple[float]) -> None:
        self._serial += 1
        lane = Lane(timer.kind, key, self._serial)
        lane.head = lane.tail = timer
        timer.lane = lane
        self._lanes[timer.kind][key] = lane
        self._file(lane)

    def _file(self, lane: Lane) -> None:
        lane.filed_at = lane.head.at
        self._filed.add((lane.filed_at, lane.kind, lane.serial, lane))
        self._refresh()

    def _refresh(self) -> None:
        filed = self._filed
        self._front = filed[0][3] if filed else None
        self._second_at = filed[1][0] if len(filed) > 1 else _INF
        self.known = None

    def first_due(self, kind: DeadlineKind, now: float) -> Timer | None:
        """The first timer of one kind that is due, for bounds that count those that are not.

        Only for kinds whose timers do not move.

        *Cost* O(lanes filed up to `now`).
        """
        lanes: list[Lane] = []
        for filed_at, filed_kind, _, lane in self._filed:
            if filed_at > now:
                break
            # a lane may be filed under the instant of a head that has left
            if filed_kind == kind and lane.head.at <= now:
                lanes.append(lane)
        if not lanes:
            return None
        return min(lanes, key=lambda lane: (lane.head.at, lane.serial)).head

    def check(self) -> None:
        """Verify all invariants. *Cost* O(timers)."""
        assert len(self._filed) == sum(map(len, self._lanes))
        for filed_at, kind, serial, lane in self._filed:
            assert (filed_at, kind, serial) == (lane.filed_at, lane.kind, lane.serial)
            assert self._lanes[kind][lane.key] is lane
            assert filed_at <= lane.head.at
            before: Timer | None = None
            for timer in lane:
                assert timer.lane is lane
                assert timer.prev is before
                assert timer.kind == kind
                assert timer.due >= timer.at or timer.due == -_INF
                assert before is None or before.at <= timer.at
                before = timer
            assert before is lane.tail
