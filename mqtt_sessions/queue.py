"""The bounded queue of one session, and the counters that begin with its first message.

A queue is a list with a moving head. What needs more (message expiry, a bound in bytes, slots
emptied in the middle) lives in a `_Order`, which most queues never make.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush

from mqtt_sessions.deadlines import DeadlineKind, Timer
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.notices import DropReason

__all__ = ["ExpiryTimer", "Queue", "size_in_queue"]

_INF = float("inf")
_TRIM = 32
"""Slots in front of the head that are worth a `del`."""


def _text_size(text: str | None) -> int:
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())


_PAIR = 64
"""Bytes of memory that a user property takes besides its text: an empty one is not free."""


def size_in_queue(message: Message) -> int:
    """Bytes that a copy counts: payload, topic and properties. *Cost* O(properties)."""
    size = len(message.payload) + _text_size(message.topic_name)
    size += _text_size(message.content_type) + _text_size(message.response_topic)
    if message.correlation_data is not None:
        size += len(message.correlation_data)
    for name, content in message.user_properties:
        size += _PAIR + _text_size(name) + _text_size(content)
    return size


class ExpiryTimer(Timer):
    """Stands in the index for all queued messages of a session that expire."""

    __slots__ = ("client_id", "queue")

    kind = DeadlineKind.MESSAGE_EXPIRY

    def __init__(self, client_id: str, queue: Queue) -> None:
        super().__init__()
        self.client_id = client_id
        self.queue = queue

    @property
    def due(self) -> float:
        return self.queue.next_expiry()

    @property
    def subject(self) -> str:
        return self.client_id


class _Order:
    """What a queue needs to know beyond its order of arrival.

    Positions count from `base`, so that they stay true when slots in front are cut off.

    Attributes:
        rows: What the journal calls each slot's message; None: the session is not durable.
        row: The same of the message that was taken out last.
    """

    __slots__ = ("base", "dead", "expiries", "qos0_from", "row", "rows", "size", "timer")

    def __init__(self) -> None:
        self.base = 0
        self.dead = 0
        self.expiries: list[tuple[float, int]] = []
        self.qos0_from = 0
        self.size: int | None = None
        self.timer: ExpiryTimer | None = None
        self.rows: array[int] | None = None
        self.row = 0


class Queue:
    """Deliveries that wait, in order of arrival, and what became of all that were accepted.

    *Bound* the caller's: `SessionLimits.maximum_queued_messages` and `maximum_queued_bytes`.
    """

    __slots__ = ("_head", "_order", "accepted", "dropped", "items")

    def __init__(self) -> None:
        self.items: list[Delivery | None] = []
        self._head = 0
        self._order: _Order | None = None
        self.accepted = 0
        self.dropped: dict[DropReason, int] | None = None

    def __len__(self) -> int:
        order = self._order
        return len(self.items) - self._head - (0 if order is None else order.dead)

    def __iter__(self) -> Iterator[Delivery]:
        for index in range(self._head, len(self.items)):
            delivery = self.items[index]
            if delivery is not None:
                yield delivery

    @property
    def size(self) -> int:
        """Bytes queued. *Cost* O(1) while they are bounded, else O(depth)."""
        order = self._order
        if order is not None and order.size is not None:
            return order.size
        return sum(size_in_queue(delivery.message) for delivery in self)

    def count_bytes(self) -> int:
        """The same, and keep count from now on."""
        order = self._ordered()
        if order.size is None:
            order.size = sum(size_in_queue(delivery.message) for delivery in self)
        return order.size

    def push(self, delivery: Delivery, row: int = 0) -> None:
        """Append, with its row if it is durable. *Cost* O(1), O(log depth) if it expires."""
        items = self.items
        if not items:
            # a literal has one slot, an append would make four
            self.items = [delivery]
        else:
            items.append(delivery)
        order = self._order
        if delivery.expires_at is not None:
            order = self._ordered()
            self._note_expiry(order, delivery.expires_at, order.base + len(self.items) - 1)
        if order is not None and order.size is not None:
            order.size += size_in_queue(delivery.message)
        if row:
            rows = self._ordered().rows
            if rows is None:
                rows = self._ordered().rows = array("q")
            rows.append(row)

    @property
    def row(self) -> int:
        """The row of the message that was taken out last; only of durable ones."""
        return 0 if self._order is None else self._order.row

    def row_ids(self) -> list[int]:
        """The rows of what waits, oldest first; none if it is not durable. *Cost* O(depth)."""
        if self._order is None or self._order.rows is None:
            return []
        rows, items = self._order.rows, self.items
        return [rows[at] for at in range(self._head, len(items)) if items[at] is not None]

    def set_rows(self, row_ids: list[int] | None) -> None:
        """What waits is durable from now on, under these rows, or not. *Cost* O(depth)."""
        if len(self) < len(self.items):
            self._rebuild(list(self))  # a row for each slot
        self._ordered().rows = array("q", row_ids) if row_ids else None

    def fill(self, deliveries: Sequence[Delivery]) -> None:
        """Append to an empty queue, without rows. *Cost* O(deliveries)."""
        self.items = [*deliveries]
        for delivery in deliveries:
            if delivery.expires_at is not None:
                self._rebuild([*deliveries])
                break

    def pop(self) -> Delivery | None:
        """Take the oldest; None if nothing waits. *Cost* O(1) amortized."""
        items = self.items
        head = self._head
        order = self._order
        while head < len(items):
            delivery = items[head]
            items[head] = None
            head += 1
            if delivery is None:
                assert order is not None
                order.dead -= 1
                continue
            if order is not None:
                if order.size is not None:
                    order.size -= size_in_queue(delivery.message)
                if order.rows is not None:
                    order.row = order.rows[head - 1]
            self._head = head
            self._trim()
            return delivery
        return None  # only where there is no slot: one that holds something is always left

    def peek(self) -> Delivery | None:
        """The oldest; None if nothing waits. *Cost* O(1) amortized over the drops."""
        items = self.items
        while self._head < len(items):
            delivery = items[self._head]
            if delivery is not None:
                return delivery
            assert self._order is not None
            self._order.dead -= 1
            self._head += 1
        return None

    def pop_oldest_qos0(self) -> Delivery | None:
        """Take the oldest QoS 0 message. *Cost* O(1) amortized: no slot is looked at twice."""
        order = self._ordered()
        index = max(order.qos0_from - order.base, self._head)
        items = self.items
        while index < len(items):
            delivery = items[index]
            if delivery is not None and delivery.qos == 0:
                order.qos0_from = order.base + index
                self._kill(order, index, delivery)
                return delivery
            index += 1
        order.qos0_from = order.base + index
        return None

    def next_expiry(self) -> float:
        """The earliest expiry of what waits, infinity if nothing expires. *Cost* O(1) amortized."""
        order = self._order
        if order is None:
            return _INF
        expiries = order.expiries
        while expiries:
            expires_at, position = expiries[0]
            if self._waits(order, position):
                return expires_at
            heappop(expiries)
        return _INF

    def pop_expired(self, now: float) -> Delivery | None:
        """Take one message that has expired. *Cost* O(log depth) amortized."""
        if self.next_expiry() > now:
            return None
        order = self._order
        assert order is not None
        index = heappop(order.expiries)[1] - order.base
        delivery = self.items[index]
        assert delivery is not None
        self._kill(order, index, delivery)
        return delivery

    def purge(self, wanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take all that is wanted. *Cost* O(depth)."""
        gone = [delivery for delivery in self if wanted(delivery)]
        if gone:
            for index in range(self._head, len(self.items)):
                delivery = self.items[index]
                if delivery is not None and wanted(delivery):
                    self.items[index] = None
            self._rebuild(list(self))
        return gone

    @property
    def timer(self) -> ExpiryTimer | None:
        """The timer of the messages that expire, once there was one."""
        return None if self._order is None else self._order.timer

    def make_timer(self, client_id: str) -> ExpiryTimer:
        """The same, made if need be."""
        order = self._ordered()
        if order.timer is None:
            order.timer = ExpiryTimer(client_id, self)
        return order.timer

    def _ordered(self) -> _Order:
        if self._order is None:
            self._order = _Order()
        return self._order

    def _waits(self, order: _Order, position: int) -> bool:
        index = position - order.base
        return self._head <= index and self.items[index] is not None

    def _note_expiry(self, order: _Order, expires_at: float, position: int) -> None:
        expiries = order.expiries
        if len(expiries) > 2 * len(self.items) + 8:  # mostly of messages that have left
            order.expiries = [entry for entry in expiries if self._waits(order, entry[1])]
            heapify(order.expiries)
        heappush(order.expiries, (expires_at, position))

    def _kill(self, order: _Order, index: int, delivery: Delivery) -> None:
        """Empty a slot; the slots close up when half of them are empty."""
        self.items[index] = None
        if order.rows is not None:
            order.row = order.rows[index]
        order.dead += 1
        if order.size is not None:
            order.size -= size_in_queue(delivery.message)
        if order.dead * 2 > len(self.items) - self._head:
            self._rebuild(list(self))

    def _rebuild(self, kept: list[Delivery]) -> None:
        """Close up, `kept` being what has not been emptied."""
        order = self._ordered()
        if order.rows is not None:
            order.rows = array("q", self.row_ids())
        self.items = [*kept]
        self._head = 0
        order.base = 0
        order.dead = 0
        order.qos0_from = 0
        order.expiries = [
            (delivery.expires_at, index)
            for index, delivery in enumerate(kept)
            if delivery.expires_at is not None
        ]
        heapify(order.expiries)
        if order.size is not None:
            order.size = sum(size_in_queue(delivery.message) for delivery in kept)

    def _trim(self) -> None:
        head = self._head
        items = self.items
        order = self._order
        if head + (0 if order is None else order.dead) == len(items):
            self.items = []
            self._head = 0
            if order is not None:
                order.base = order.qos0_from = order.dead = 0
                order.expiries.clear()
                if order.rows is not None:
                    del order.rows[:]
        elif head > _TRIM and head * 2 > len(items):
            del items[:head]
            self._head = 0
            if order is not None:
                order.base += head
                if order.rows is not None:
                    del order.rows[:head]

    def check(self) -> None:
        """Verify all invariants. *Cost* O(depth)."""
        order = self._order
        assert 0 <= self._head <= len(self.items)
        assert all(slot is None for slot in self.items[: self._head])
        assert len(self) == sum(1 for _ in self)  # what is counted empty is empty
        assert bool(self.items) == (len(self) > 0)  # what tells whether anything waits
        if order is None:
            assert all(delivery.expires_at is None for delivery in self)
            return
        if order.size is not None:
            assert order.size == sum(size_in_queue(delivery.message) for delivery in self)
        if order.rows is not None:
            assert len(order.rows) == len(self.items)
        waiting = sorted(d.expires_at for d in self if d.expires_at is not None)
        live = sorted(at for at, position in order.expiries if self._waits(order, position))
        assert waiting == live
        timer = order.timer
        if waiting:
            assert timer is not None
            assert timer.lane is not None
            assert timer.at <= waiting[0]
