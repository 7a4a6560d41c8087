"""No packet identifier is seen before the journal knows that it may be used.

A late PUBACK of before a crash would settle another message, were its identifier given again.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqtt_sessions import (
    Action,
    ClientConnected,
    CommitGate,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    Event,
    Message,
    MessagePublished,
    Outcome,
    PubackReceived,
    PublishReceived,
    SendPublish,
    SessionExpirySet,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
)
from mqtt_sessions.changes import SessionStored
from mqtt_sessions.journals import MemoryJournal

MOST = 65_535
PUBLISHED = MessagePublished(Message("t", b"m", 1))
LIMITS = SessionLimits(maximum_send_window=MOST, maximum_queued_messages=None)
RESERVED = 1024
"""Identifiers in a block; a row comes with each half of it."""


def connected(connection: str, client_id: str) -> ClientConnected:
    return ClientConnected(
        connection,
        client_id,
        protocol_version=5,
        clean_start=False,
        session_expiry_interval=3600,
        receive_maximum=MOST,
    )


class Host:
    """It commits when it is told to; one client listens."""

    def __init__(self, journal: MemoryJournal | None = None) -> None:
        self.journal = journal or MemoryJournal()
        self.store = SessionStore.recover(self.journal.load(), 0.0, limits=LIMITS).store
        self.gate = CommitGate()
        self.seen: list[int] = []
        self.do(connected("c", "client"))
        if journal is None:
            self.do(SubscribeReceived("c", 1, (Subscription("t", 1),)))
        self.commit()

    def do(self, event: Event) -> None:
        self.take(self.store.handle(event, 0.0))

    def take(self, outcome: Outcome) -> None:
        self.perform(self.gate.add(outcome))

    def perform(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if isinstance(action, SendPublish) and action.packet_id is not None:
                self.seen.append(action.packet_id)

    def publish(self, count: int) -> None:
        for _ in range(count):
            self.do(PUBLISHED)

    def commit(self) -> None:
        batch = self.gate.take_batch()
        assert batch is not None
        self.journal.commit(batch[1])
        self.perform(self.gate.committed(batch[0]))

    def until(self) -> int:
        """What the journal knows as reserved."""
        (row,) = [each for each in self.journal.load() if isinstance(each, SessionStored)]
        return row.packet_ids_until

    def gives_again_after_a_crash(self) -> set[int]:
        """Identifiers seen before and behind the crash; nothing was acknowledged meanwhile."""
        later = Host(self.journal.reopened())
        for _ in range(40):
            later.publish(50)
            later.commit()
        assert len(later.seen) >= 2000
        return {*self.seen} & {*later.seen}


def one_by_one(host: Host) -> None:
    host.publish(1200)


def in_a_batch_that_is_on_its_way(host: Host) -> None:
    host.publish(600)
    assert host.gate.take_batch() is not None
    host.publish(600)


def in_one_outcome(host: Host) -> None:
    host.do(connected("p", "publisher"))
    host.commit()
    message = PUBLISHED.message
    packets = [PublishReceived("p", message, packet_id) for packet_id in range(1, 1201)]
    host.take(host.store.handle_many(packets, 0.0))


def out_of_a_queue(host: Host) -> None:
    host.do(ConnectionCongested("c"))
    for _ in range(1200):
        host.do(PUBLISHED)
    host.do(ConnectionWritable("c"))


def around_another_row_of_the_session(host: Host) -> None:
    host.publish(RESERVED - 1)
    host.do(SessionExpirySet("client", 7200))  # nothing is sent with it, and so nothing waits
    host.publish(400)


@pytest.mark.parametrize(
    "send",
    [
        one_by_one,
        in_a_batch_that_is_on_its_way,
        in_one_outcome,
        out_of_a_queue,
        around_another_row_of_the_session,
    ],
)
def test_what_is_seen_was_reserved(send: Callable[[Host], None]) -> None:
    host = Host()
    assert host.until() == RESERVED
    send(host)
    assert host.gate.waiting
    assert all(packet_id <= host.until() for packet_id in host.seen)
    assert not host.gives_again_after_a_crash()


def test_what_was_reserved_goes_at_once() -> None:
    """Half a block at the least, a whole one as a rule."""
    host = Host()
    host.publish(1200)
    assert host.seen == list(range(1, RESERVED))
    host.commit()
    assert host.seen == list(range(1, 1201))
    assert not host.gate.waiting


def test_where_batches_are_committed_in_time_nothing_waits() -> None:
    host = Host()
    for _ in range(20):
        host.publish(RESERVED // 4 - 1)
        batch = host.gate.take_batch()
        assert batch is not None
        host.publish(RESERVED // 4 - 1)
        assert not host.gate.waiting
        host.gate.committed(batch[0])
    assert host.seen == list(range(1, 10 * RESERVED - 40 + 1))


def test_what_follows_on_the_connection_waits_behind() -> None:
    host = Host()
    host.publish(RESERVED)
    assert host.gate.waiting == 1
    host.do(MessagePublished(Message("t", b"0", 0)))
    host.publish(10)
    assert host.gate.waiting == 12


def test_a_new_connection_waits_for_its_connack() -> None:
    host = Host()
    host.publish(RESERVED - 1)
    host.do(ConnectionLost("c"))
    host.do(connected("d", "client"))
    host.publish(100)
    assert host.seen == list(range(1, RESERVED))
    assert host.gate.waiting


def test_identifiers_that_are_passed_over_are_not_taken_for_reserved() -> None:
    """Where they go round, and the first two thousand are in use still."""
    host = Host()
    host.publish(2000)
    host.commit()
    for packet_id in range(2001, MOST + 1):
        host.publish(1)
        host.do(PubackReceived("c", packet_id))
        if packet_id % (RESERVED // 2) == 0:  # with each row: nothing waits
            host.commit()
    assert len(host.seen) == MOST
    assert host.until() == RESERVED // 2 + 1
    del host.seen[:]
    host.publish(5)
    assert host.seen == []
    assert host.gate.waiting == 5
    host.commit()
    assert host.seen == [2001, 2002, 2003, 2004, 2005]
    assert host.until() == 2001 + RESERVED
    assert not host.gives_again_after_a_crash()
