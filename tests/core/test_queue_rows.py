"""Beside each message that waits stands its row, whatever becomes of the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_sessions import Delivery, Message
from mqtt_sessions.deadlines import DeadlineIndex
from mqtt_sessions.queue import Queue, _Order

_FAR = 1e9


def delivery(number: int, qos: int = 1, expires_at: float | None = None) -> Delivery:
    return Delivery(Message("t", b"%d" % number, qos), qos, expires_at=expires_at)


def number(of: Delivery) -> int:
    return int(of.message.payload)


class Both:
    """A queue, and beside it a plain list of what waits: number, row, QoS, expiry."""

    def __init__(self) -> None:
        self.queue = Queue()
        self.timer = self.queue.make_timer("a")
        DeadlineIndex().arm(self.timer, -1.0, 0.0)
        self.waits: list[tuple[int, int, int, float | None]] = []
        self.count = 0

    def push(self, qos: int, expires_at: float | None) -> None:
        self.count += 1
        self.waits.append((self.count, 1000 + self.count, qos, expires_at))
        self.queue.push(delivery(self.count, qos, expires_at), 1000 + self.count)

    def take(self, taken: Delivery | None, index: int | None) -> None:
        if index is None:
            assert taken is None
            return
        expected = self.waits.pop(index)
        assert taken is not None
        assert (number(taken), self.queue.row) == expected[:2]

    def pop(self) -> None:
        self.take(self.queue.pop(), 0 if self.waits else None)

    def pop_oldest_qos0(self) -> None:
        places = [at for at, each in enumerate(self.waits) if each[2] == 0]
        self.take(self.queue.pop_oldest_qos0(), places[0] if places else None)

    def pop_expired(self) -> None:
        expiring = [(each[3], at) for at, each in enumerate(self.waits) if each[3] is not None]
        self.take(self.queue.pop_expired(_FAR), min(expiring)[1] if expiring else None)

    def purge(self) -> None:
        self.queue.purge(lambda each: number(each) % 3 == 0)
        self.waits = [each for each in self.waits if each[0] % 3]

    def name_again(self) -> None:
        """It was not durable for a moment, and has other rows."""
        self.queue.set_rows(None)
        assert self.queue.row_ids() == []
        self.waits = [(each[0], each[1] + 5000, *each[2:]) for each in self.waits]
        self.queue.set_rows([each[1] for each in self.waits])

    def check(self) -> None:
        self.queue.check()
        assert [number(each) for each in self.queue] == [each[0] for each in self.waits]
        assert self.queue.row_ids() == [each[1] for each in self.waits]


_PUSH = st.tuples(st.just("push"), st.integers(0, 1), st.none() | st.integers(1, 9).map(float))
_STEP = _PUSH | st.tuples(
    st.sampled_from(("pop", "pop_oldest_qos0", "pop_expired", "purge", "name_again"))
)


@given(st.lists(_PUSH | _STEP, max_size=40))
def test_each_message_keeps_its_row(steps: list[tuple[object, ...]]) -> None:
    both = Both()
    for name, *given_ in steps:
        getattr(both, str(name))(*given_)
        both.check()


def test_rows_are_cut_off_with_the_slots_in_front() -> None:
    both = Both()
    for _ in range(200):
        both.push(1, None)
    for _ in range(150):
        both.pop()
        both.check()
    assert len(both.queue.items) < 150


def test_rows_close_up_with_the_slots() -> None:
    both = Both()
    for qos in (0, 0, 1):
        both.push(qos, None)
    both.pop_oldest_qos0()
    both.pop_oldest_qos0()
    both.check()


def test_a_queue_with_holes_becomes_durable() -> None:
    """Its holes close up, so that there is a row for each slot."""
    queue = Queue()
    for each in range(5):
        queue.push(delivery(each, qos=0 if each == 1 else 1))
    assert queue.pop_oldest_qos0() is not None
    queue.set_rows([10, 12, 13, 14])
    queue.check()
    assert queue.row_ids() == [10, 12, 13, 14]
    assert queue.pop() is not None
    assert queue.row == 10
    assert queue.pop() is not None
    assert queue.row == 12


def test_a_queue_without_holes_is_named_as_it_stands() -> None:
    queue = Queue()
    queue.push(delivery(1))
    items = queue.items
    queue.set_rows([10])
    assert queue.items is items


def test_what_is_not_durable_has_no_row() -> None:
    queue = Queue()
    assert queue.row == 0
    queue.push(delivery(1))
    assert queue.row_ids() == []
    assert queue.pop() is not None
    assert queue.row == 0
    assert _Order().row == 0
    queue.count_bytes()  # something beyond its order is known
    queue.push(delivery(2))
    assert queue.row_ids() == []
    assert queue.pop() is not None
    assert queue.row == 0


@pytest.mark.parametrize("fault", [[], [1, 2, 3], [0] * 1000])
def test_a_row_too_many_or_too_few_is_noticed(fault: list[int]) -> None:
    queue = Queue()
    queue.push(delivery(1), 1)
    queue.push(delivery(2), 2)
    order = queue._order
    assert order is not None
    assert order.rows is not None
    order.rows = order.rows[:0]
    order.rows.extend(fault)
    with pytest.raises(AssertionError):
        queue.check()


def test_equal_numbers_of_rows_and_slots_are_sound_however_many() -> None:
    both = Both()
    for _ in range(1000):
        both.push(1, None)
    both.check()
