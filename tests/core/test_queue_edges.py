"""Where a queue cuts, compacts and forgets: to the slot, since one too late costs memory."""

from __future__ import annotations

import sys
from typing import cast

import pytest

from mqtt_sessions import Delivery, DropReason, Message
from mqtt_sessions.deadlines import DeadlineIndex
from mqtt_sessions.queue import ExpiryTimer, Queue, size_in_queue


def delivery(number: int, qos: int = 1, expires_at: float | None = None) -> Delivery:
    return Delivery(Message("t", b"%d" % number, qos), qos, expires_at=expires_at)


def filled(count: int, qos: int = 1, expires_at: float | None = None) -> Queue:
    queue = Queue()
    for number in range(count):
        queue.push(delivery(number, qos, expires_at))
    return queue


def numbers(queue: Queue) -> list[int]:
    return [int(each.message.payload) for each in queue]


class Looked:
    """Stands for a delivery, and counts how often its QoS is looked at."""

    expires_at = None

    def __init__(self, qos: int) -> None:
        self._qos = qos
        self.message = Message("t", b"", qos)
        self.looks = 0

    @property
    def qos(self) -> int:
        self.looks += 1
        return self._qos


# ---------------------------------------------------------------- a new queue


def test_a_new_queue_has_counted_nothing() -> None:
    queue = Queue()
    assert (queue.accepted, queue.dropped, queue.items, len(queue)) == (0, None, [], 0)
    assert (queue.size, queue.count_bytes(), queue.timer) == (0, 0, None)


def test_the_first_message_takes_one_slot() -> None:
    """A list that grows by `append` has room for four at once; many queues hold one message."""
    queue = Queue()
    for _ in range(2):
        queue.push(delivery(1))
        assert sys.getsizeof(queue.items) == sys.getsizeof([None])
        assert queue.pop() is not None


def test_a_timer_speaks_for_its_queue() -> None:
    queue = filled(3, expires_at=5.0)
    timer = queue.make_timer("client")
    assert isinstance(timer, ExpiryTimer)
    assert (timer.client_id, timer.subject, timer.queue, timer.due) == ("client",) * 2 + (
        queue,
        5.0,
    )
    assert queue.make_timer("client") is timer is queue.timer


# ---------------------------------------------------------------- cuts


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 34, 40, 60, 65, 66, 67, 68, 70, 100, 150])
@pytest.mark.parametrize("ordered", [False, True])
def test_slots_in_front_are_cut_off_when_they_are_more_than_32_and_more_than_half(
    count: int, ordered: bool
) -> None:
    queue = filled(count)
    if ordered:
        queue.push(delivery(-1, expires_at=9.0))
        DeadlineIndex().arm(queue.make_timer("client"), 9.0, 0.0)
    slots, head = count + ordered, 0
    for _ in range(count):
        assert queue.pop() is not None
        head += 1
        if head == slots:
            slots = head = 0
        elif head > 32 and head * 2 > slots:
            slots, head = slots - head, 0
        assert (len(queue.items), queue._head) == (slots, head)
    queue.check()
    if ordered:
        assert queue.next_expiry() == 9.0


def test_what_is_known_of_positions_survives_a_cut() -> None:
    queue = Queue()
    for number in range(120):
        queue.push(delivery(number, qos=1, expires_at=1000.0 - number))
    assert queue.pop_oldest_qos0() is None
    for _ in range(70):
        assert queue.pop() is not None
    assert queue._order is not None
    assert queue._order.base > 0
    queue.push(delivery(120, qos=0, expires_at=2000.0))
    queue.push(delivery(121, qos=0))
    assert queue.next_expiry() == 1000.0 - 119
    oldest = queue.pop_oldest_qos0()
    assert oldest is not None
    assert oldest.message.payload == b"120"
    for expected in range(119, 69, -1):
        expired = queue.pop_expired(1500.0)
        assert expired is not None
        assert int(expired.message.payload) == expected
    assert numbers(queue) == [121]


def test_all_is_forgotten_when_the_last_message_leaves() -> None:
    queue = filled(3, expires_at=5.0)
    assert queue.pop_oldest_qos0() is None
    for _ in range(3):
        assert queue.pop() is not None
    order = queue._order
    assert order is not None
    assert (order.base, order.dead, order.qos0_from, order.expiries) == (0, 0, 0, [])
    assert (queue.items, queue._head) == ([], 0)
    queue.push(delivery(1, qos=0, expires_at=6.0))
    assert queue.next_expiry() == 6.0
    assert queue.pop_oldest_qos0() is not None


# ---------------------------------------------------------------- holes


@pytest.mark.parametrize("popped", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 11, 12, 13])
def test_holes_close_when_they_are_more_than_half_of_what_is_behind_the_head(
    count: int, popped: int
) -> None:
    queue = filled(popped, qos=1)
    for number in range(count):
        queue.push(delivery(number, qos=0))
    queue.push(delivery(99, qos=1))
    for _ in range(popped):
        assert queue.pop() is not None
    holes, slots = 0, len(queue.items) - queue._head
    for number in range(count):
        killed = queue.pop_oldest_qos0()
        assert killed is not None
        assert int(killed.message.payload) == number
        holes += 1
        if holes * 2 > slots:
            slots -= holes
            holes = 0
            assert queue._head == 0
        assert len(queue.items) - queue._head == slots
        assert len(queue) == slots - holes == count - number
        queue.check()
    assert numbers(queue) == [99]


def test_holes_in_front_are_stepped_over_and_counted_off() -> None:
    for take in (Queue.pop, Queue.peek):
        queue = Queue()
        queue.count_bytes()
        for number in range(9):
            queue.push(delivery(number, qos=0 if number < 3 else 1))
        for _ in range(3):
            assert queue.pop_oldest_qos0() is not None
        first = take(queue)
        assert first is not None
        assert first.message.payload == b"3"
        assert queue._order is not None
        assert queue._order.dead == 0
        queue.check()
        assert queue.size == sum(size_in_queue(each.message) for each in queue)


@pytest.mark.parametrize("count", range(2, 12))
@pytest.mark.parametrize("holes", [1, 2, 3])
def test_what_waits_in_front_of_holes_is_not_lost(count: int, holes: int) -> None:
    queue = filled(count)
    for number in range(min(holes, count // 2)):
        queue.push(delivery(100 + number, qos=0))
    while queue.pop_oldest_qos0() is not None:
        pass
    taken = []
    while (each := queue.pop()) is not None:
        taken.append(int(each.message.payload))
        queue.check()
    assert taken == list(range(count))


def test_peek_forgets_nothing_and_takes_nothing() -> None:
    queue = filled(3, expires_at=5.0)
    assert queue.peek() is queue.peek() is queue.items[0]
    assert (len(queue), queue.next_expiry()) == (3, 5.0)
    assert queue.pop() is not None
    assert queue.pop() is not None
    assert queue.pop_expired(5.0) is not None
    assert queue.peek() is None
    assert queue.items == []


def test_purge_renumbers_what_stays() -> None:
    queue = Queue()
    assert queue.count_bytes() == 0
    for number in range(10):
        queue.push(delivery(number, qos=number % 2, expires_at=100.0 - number))
    assert queue.pop_oldest_qos0() is not None
    assert queue.purge(lambda each: each.qos == 1 and each.expires_at != 91.0)
    assert numbers(queue) == [2, 4, 6, 8, 9]
    assert (len(queue.items), queue._head) == (5, 0)
    assert queue._order is not None
    assert (queue._order.dead, queue._order.base) == (0, 0)
    assert queue.size == 5 * 2
    assert queue.next_expiry() == 91.0
    oldest = queue.pop_oldest_qos0()
    assert oldest is not None
    assert oldest.message.payload == b"2"


# ---------------------------------------------------------------- looks and notes


def test_no_slot_is_looked_at_twice_for_its_qos() -> None:
    queue = Queue()
    waiting = [Looked(1) for _ in range(100)]
    for each in waiting:
        queue.push(cast("Delivery", each))
    for _ in range(3):
        assert queue.pop_oldest_qos0() is None
    assert [each.looks for each in waiting] == [1] * 100
    for _ in range(60):  # slots in front are cut off meanwhile
        assert queue.pop() is not None
    late = [Looked(0), Looked(0), Looked(1)]
    for each in late:
        queue.push(cast("Delivery", each))
    assert queue.pop_oldest_qos0() is late[0]
    assert [each.looks for each in waiting] == [1] * 100
    assert [each.looks for each in late] == [1, 0, 0]
    assert queue.pop_oldest_qos0() is late[1]
    for _ in range(2):
        assert queue.pop_oldest_qos0() is None
    assert [each.looks for each in late] == [1, 1, 1]
    assert [each.looks for each in waiting] == [1] * 100


def test_no_slot_is_looked_at_twice_before_what_was_found() -> None:
    queue = Queue()
    waiting = [Looked(qos) for qos in (1, 1, 1, 0, 1, 0)]
    for each in waiting:
        queue.push(cast("Delivery", each))
    assert queue.pop_oldest_qos0() is waiting[3]
    assert [each.looks for each in waiting] == [1, 1, 1, 1, 0, 0]
    assert queue.pop_oldest_qos0() is waiting[5]
    assert [each.looks for each in waiting] == [1] * 6


def test_many_messages_are_looked_through_to_their_end() -> None:
    queue = filled(300)
    assert queue.pop_oldest_qos0() is None
    queue.push(delivery(300, qos=0))
    assert queue.pop_oldest_qos0() is not None


def test_expiries_are_sorted_out_when_they_are_more_than_twice_the_slots_and_eight() -> None:
    queue = Queue()
    queue.push(delivery(0))
    queue.push(delivery(0))
    queue.push(delivery(0))
    sorted_out = 0
    for number in range(400):
        order = queue._ordered()
        before = len(order.expiries)
        queue.push(delivery(number, expires_at=1e6 - number))
        slots = len(queue.items)
        if before > 2 * slots + 8:
            sorted_out += 1
            waiting = [each for each in queue if each.expires_at is not None]
            assert len(order.expiries) == len(waiting)
        else:
            assert len(order.expiries) == before + 1
        assert queue.pop() is not None
        assert queue.next_expiry() == 1e6 - number
    assert sorted_out > 2


GONE = -1
"""A position that no slot has: what an expiry notes whose message has left."""


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 5, 8, 9, 16, 24])
@pytest.mark.parametrize("too_many", [False, True])
def test_the_bound_of_expiries_is_kept_to_the_entry(slots: int, too_many: bool) -> None:
    queue = filled(slots - 1)
    order = queue._ordered()
    count = 2 * slots + 8 + too_many
    order.expiries = [(1.0, GONE)] * count
    queue.push(delivery(0, expires_at=5.0))
    assert len(order.expiries) == (1 if too_many else count + 1)
    assert queue.next_expiry() == 5.0


def test_sorting_out_leaves_a_heap() -> None:
    queue = Queue()
    for number, expires_at in enumerate((5.0, 6.0, 7.0, 3.0)):
        queue.push(delivery(number, expires_at=expires_at))
    order = queue._ordered()
    # a heap, whose entries for what waits are none without the others
    heap = [(1.0, GONE), (5.0, 0), (2.0, GONE), (6.0, 1), (7.0, 2), (3.0, 3)]
    order.expiries = heap + [(100.0, GONE)] * 30
    queue.push(delivery(4, expires_at=50.0))
    assert len(order.expiries) == 5
    assert queue.next_expiry() == 3.0


def test_of_many_expiries_the_earliest_is_next_after_they_were_sorted_out() -> None:
    queue = Queue()
    queue.push(delivery(0))
    for number in range(300):
        queue.push(delivery(number, expires_at=float(number * 7919 % 1000)))
        if number % 3:
            queue.pop()
        waiting = [each.expires_at for each in queue if each.expires_at is not None]
        assert queue.next_expiry() == min(waiting, default=float("inf"))


# ---------------------------------------------------------------- bytes


def test_bytes_are_counted_on_from_when_they_are_first_asked_for() -> None:
    queue = filled(3, expires_at=5.0)
    assert queue._order is not None
    assert queue._order.size is None
    assert queue.size == 6  # counted anew, and not kept
    assert queue._order.size is None
    assert queue.count_bytes() == queue.count_bytes() == 6
    queue.push(delivery(100, qos=0))
    assert queue._order.size == queue.size == 10
    assert queue.pop() is not None
    assert queue._order.size == queue.size == 8
    assert queue.pop_oldest_qos0() is not None
    assert queue._order.size == queue.size == 4
    assert queue.pop_expired(5.0) is not None
    assert queue._order.size == queue.size == 2


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (Message("topic", b"12"), 7),
        (Message("t", b"12", content_type="abc", response_topic="defg"), 10),
        (Message("t", content_type="abc", response_topic="abcde"), 9),
        (Message("t", correlation_data=b""), 1),
        (Message("t", user_properties=(("n" * 70, ""),)), 1 + 64 + 70),
        (Message("t", user_properties=(("n" * 70, "v" * 71),)), 1 + 64 + 141),
        (Message("é", user_properties=(("é", "ü"),)), 2 + 64 + 4),
        (Message("t", user_properties=(("ab", "cde"), ("", ""))), 1 + 64 + 5 + 64),
    ],
)
def test_what_a_copy_counts(message: Message, size: int) -> None:
    assert size_in_queue(message) == size


def test_bytes_that_are_counted_are_not_counted_anew() -> None:
    queue = filled(3, expires_at=5.0)
    assert queue.count_bytes() == 6
    assert queue._order is not None
    queue._order.size = 99
    assert (queue.size, queue.count_bytes()) == (99, 99)


def test_a_queue_keeps_what_it_is_told_to_count() -> None:
    queue = filled(1)
    queue.accepted += 1
    queue.dropped = {DropReason.EXPIRED: 1}
    assert queue.pop() is not None
    assert (queue.accepted, queue.dropped) == (1, {DropReason.EXPIRED: 1})
