"""The bounded queue, held against a plain list that it has to be equal to after any history."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mqtt_sessions import Delivery, Message
from mqtt_sessions.deadlines import DeadlineIndex
from mqtt_sessions.queue import Queue, size_in_queue

INFINITY = float("inf")


def delivery(
    payload: bytes = b"", qos: int = 1, expires_at: float | None = None, topic_name: str = "t"
) -> Delivery:
    return Delivery(Message(topic_name, payload, qos), qos, expires_at=expires_at)


class Waiting:
    """A queue with its timer armed as a session would arm it."""

    def __init__(self) -> None:
        self.queue = Queue()
        self.index = DeadlineIndex()

    def push(self, *deliveries: Delivery) -> None:
        for each in deliveries:
            self.queue.push(each)
            if each.expires_at is not None:
                timer = self.queue.make_timer("client")
                if timer.lane is None or timer.at > each.expires_at:
                    self.index.arm(timer, each.expires_at, 1.0)
            self.check()

    def check(self) -> None:
        self.queue.check()
        self.index.check()


def numbers(queue: Queue) -> list[int]:
    return [int(each.message.payload) for each in queue]


class QueueMachine(RuleBasedStateMachine):
    """Any order of arrivals, departures, expiries and purges; the model is a list."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = Waiting()
        self.queue = self.waiting.queue
        self.model: list[Delivery] = []
        self.count = 0
        self.now = 0.0

    @initialize(bounded=st.booleans(), full=st.integers(0, 80))
    def begin(self, bounded: bool, full: int) -> None:
        if bounded:
            assert self.queue.count_bytes() == 0
        for _ in range(full):
            self.push(1, None)

    @rule(qos=st.integers(0, 2), lifetime=st.none() | st.integers(0, 9))
    def push(self, qos: int, lifetime: int | None) -> None:
        self.count += 1
        new = delivery(b"%d" % self.count, qos, None if lifetime is None else self.now + lifetime)
        self.waiting.push(new)
        self.model.append(new)

    @rule(times=st.integers(1, 40))
    def pop(self, times: int) -> None:
        for _ in range(times):
            assert self.queue.peek() is (self.model[0] if self.model else None)
            assert self.queue.pop() is (self.model.pop(0) if self.model else None)

    @rule()
    def pop_oldest_qos0(self) -> None:
        expected = next((each for each in self.model if each.qos == 0), None)
        assert self.queue.pop_oldest_qos0() is expected
        if expected is not None:
            self.model.remove(expected)

    @rule(seconds=st.sampled_from((0.5, 1.0, 3.0)), limit=st.none() | st.integers(1, 3))
    def expire(self, seconds: float, limit: int | None) -> None:
        self.now += seconds
        gone = 0
        while (limit is None or gone < limit) and (
            each := self.queue.pop_expired(self.now)
        ) is not None:
            gone += 1
            assert each.expires_at is not None
            assert each.expires_at <= self.now
            assert each.expires_at == min(
                e.expires_at for e in self.model if e.expires_at is not None
            )
            self.model.remove(each)
            self.queue.check()
        if limit is None:
            assert all(e.expires_at is None or e.expires_at > self.now for e in self.model)

    @rule(modulus=st.integers(1, 4))
    def purge(self, modulus: int) -> None:
        gone = [each for each in self.model if int(each.message.payload) % modulus == 0]
        assert self.queue.purge(lambda e: int(e.message.payload) % modulus == 0) == gone
        self.model = [each for each in self.model if each not in gone]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def purge_one(self, data: st.DataObject) -> None:
        """The host removes one message: the smallest hole that a queue can get."""
        one = data.draw(st.sampled_from(self.model))
        assert self.queue.purge(lambda each: each is one) == [one]
        self.model.remove(one)

    @rule()
    def begin_to_count_bytes(self) -> None:
        self.queue.count_bytes()

    @invariant()
    def the_queue_equals_the_list(self) -> None:
        self.waiting.check()
        assert list(self.queue) == self.model
        assert len(self.queue) == len(self.model)
        assert self.queue.size == sum(size_in_queue(each.message) for each in self.model)
        expiries = [each.expires_at for each in self.model if each.expires_at is not None]
        assert self.queue.next_expiry() == min(expiries, default=INFINITY)
        timer = self.queue.timer
        if expiries:
            assert timer is not None
            assert timer.due == min(expiries)


TestQueueEqualsAList = QueueMachine.TestCase
TestQueueEqualsAList.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


def test_an_empty_queue_gives_nothing() -> None:
    queue = Queue()
    assert queue.pop() is None
    assert queue.peek() is None
    assert queue.pop_oldest_qos0() is None
    assert queue.pop_expired(1e9) is None
    assert queue.next_expiry() == INFINITY
    assert queue.purge(lambda _: True) == []
    assert (len(queue), queue.size, queue.timer) == (0, 0, None)
    queue.check()


def test_a_queue_without_expiries_makes_no_timer() -> None:
    waiting = Waiting()
    waiting.push(*(delivery(b"%d" % number) for number in range(5)))
    assert waiting.queue.timer is None


def test_one_timer_serves_all_that_expires() -> None:
    waiting = Waiting()
    waiting.push(delivery(b"1", expires_at=9.0), delivery(b"2", expires_at=5.0))
    timer = waiting.queue.timer
    assert timer is waiting.queue.make_timer("client")
    assert timer is not None
    assert (timer.due, timer.subject) == (5.0, "client")
    assert len(waiting.index) == 1


def test_equal_expiries_go_in_order_of_arrival() -> None:
    waiting = Waiting()
    waiting.push(*(delivery(b"%d" % number, expires_at=5.0) for number in range(9)))
    gone = [waiting.queue.pop_expired(5.0) for _ in range(9)]
    assert [int(each.message.payload) for each in gone if each is not None] == list(range(9))


def test_expiry_is_inclusive() -> None:
    waiting = Waiting()
    waiting.push(delivery(expires_at=5.0))
    assert waiting.queue.pop_expired(4.999) is None
    assert waiting.queue.pop_expired(5.0) is not None


def test_a_queue_whose_last_message_left_is_empty_though_expired_slots_lay_behind_it() -> None:
    waiting = Waiting()
    waiting.push(delivery(b"1"), delivery(b"2", expires_at=5.0))
    assert waiting.queue.pop_expired(5.0) is not None
    assert waiting.queue.pop() is not None
    assert not waiting.queue.items
    waiting.check()
    waiting.push(delivery(b"3", qos=0), delivery(b"4", expires_at=7.0))
    assert numbers(waiting.queue) == [3, 4]
    assert waiting.queue.pop_oldest_qos0() is not None
    assert waiting.queue.next_expiry() == 7.0


def test_slots_are_compacted_when_half_of_them_are_dead() -> None:
    waiting = Waiting()
    waiting.push(*(delivery(b"%d" % n, qos=n % 2, expires_at=5.0 + n) for n in range(100)))
    for _ in range(50):
        assert waiting.queue.pop_oldest_qos0() is not None
        waiting.check()
        assert len(waiting.queue.items) <= 2 * max(1, len(waiting.queue))
    assert numbers(waiting.queue) == list(range(1, 100, 2))
    assert waiting.queue.next_expiry() == 6.0


def test_slots_in_front_are_cut_off() -> None:
    waiting = Waiting()
    waiting.push(*(delivery(b"%d" % n, expires_at=5.0 + n) for n in range(200)))
    for number in range(199):
        popped = waiting.queue.pop()
        assert popped is not None
        assert int(popped.message.payload) == number
        waiting.check()
        assert waiting.queue.next_expiry() == 6.0 + number
    assert len(waiting.queue.items) <= 40


def test_expiries_of_messages_that_have_left_do_not_pile_up() -> None:
    waiting = Waiting()
    waiting.push(delivery(b"0"))
    for number in range(1000):  # the older, the later: what has left lies deep in the heap
        waiting.push(delivery(b"%d" % number, expires_at=1e6 - number))
        waiting.queue.pop()
    order = waiting.queue._order
    assert order is not None
    assert len(order.expiries) < 200
    assert waiting.queue.next_expiry() == 1e6 - 999


def test_qos_0_is_found_behind_what_was_passed_over_before() -> None:
    waiting = Waiting()
    waiting.push(delivery(b"1"), delivery(b"2"))
    assert waiting.queue.pop_oldest_qos0() is None
    waiting.push(delivery(b"3", qos=0))
    assert waiting.queue.pop() is not None
    oldest = waiting.queue.pop_oldest_qos0()
    assert oldest is not None
    assert oldest.message.payload == b"3"
    assert numbers(waiting.queue) == [2]


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (Message("t"), 1),
        (Message("tøp", b"1234"), 8),
        (Message("t", content_type="text"), 5),
        (Message("t", response_topic="réponse"), 9),
        (Message("t", correlation_data=b"12345"), 6),
        (Message("t", user_properties=(("a", "bc"), ("é", ""))), 6 + 2 * 64),
    ],
)
def test_a_copy_counts_payload_topic_and_properties_in_utf8(message: Message, size: int) -> None:
    assert size_in_queue(message) == size
    queue = Queue()
    queue.push(Delivery(message, 1))
    assert queue.size == queue.count_bytes() == queue.size == size
    queue.push(Delivery(message, 1))
    assert queue.size == 2 * size
    queue.pop()
    assert queue.size == size
