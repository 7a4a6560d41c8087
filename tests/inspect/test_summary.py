"""The summary of all rows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given

from mqtt_sessions.changes import (
    DeliveryStored,
    EpochStored,
    ExchangeStored,
    InboundIdStored,
    MessageStored,
    ReplayStored,
    RetainedStored,
    Stored,
    SubscriptionStored,
    WillStored,
)
from mqtt_sessions.inspect import Due, SessionSummary, Totals, look_up, summarize
from mqtt_sessions.inspect.summary import Runs
from mqtt_sessions.journals import MemoryJournal, Quarantined
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.snapshots import ReplaySnapshot, SessionContents
from mqtt_sessions.subscriptions import Subscription
from tests.core.histories import STEPS, Life, Step
from tests.core.test_recovering import recovered
from tests.inspect.helpers import ALONE, NOW, ROWS, SECRET, SHARED, alone, copy, session


def test_every_figure_of_a_journal() -> None:
    summary = summarize(ROWS, NOW)
    assert summary.now == NOW
    assert summary.runs == Runs(2, NOW - 3 * 3600, NOW - 130)
    assert summary.totals == Totals(
        sessions=5,
        connected=1,
        cut=1,
        parked=3,
        expired=1,
        subscriptions=3,
        queued=4,
        expired_messages=1,
        in_flight=1,
        releasing=1,
        abandoned=1,
        inbound=2,
        replays=1,
        wills=3,
        retained=1,
        messages=3,
        shared_messages=1,
        message_bytes=len(SHARED.payload) + 2 * len(ALONE.payload),
        retained_bytes=8,
        will_bytes=7,
    )
    assert [each.client_id for each in summary.sessions] == [
        "alice",
        "bob",
        "carol",
        "dora",
        "erik",
    ]
    assert summary.sessions[0] == SessionSummary(
        client_id="alice",
        session_id=1,
        epoch=2,
        state="parked",
        protocol_version=5,
        principal="al",
        expiry_interval=3600.0,
        expires=Due(NOW + 57 * 60),
        subscriptions=2,
        queued=3,
        in_flight=1,
        releasing=1,
        abandoned=1,
        inbound=2,
        message_bytes=2 * len(SHARED.payload) + 2 * len(ALONE.payload),
        replays=1,
        will_due=Due(NOW + 3),
    )
    assert summary.set_aside == ()


def test_when_sessions_and_wills_end() -> None:
    alice, bob, carol, dora, erik = summarize(ROWS, NOW).sessions
    assert [each.state for each in (alice, bob, carol)] == ["parked", "connected", "cut"]
    assert (bob.expires, bob.will_due) == (Due(None, 3600.0), Due(None, 300))
    assert carol.expires == Due(NOW - 3 * 3600 + 100_000)  # it was cut when run 2 began
    assert (dora.expires, dora.will_due) == (Due(), None)
    assert erik.expires == Due(NOW - 12)


def test_a_connection_was_cut_when_the_next_run_began_and_no_later_one() -> None:
    runs = [EpochStored(number, NOW - 9 + number, NOW) for number in (1, 2, 3, 4)]
    end_that_means_nothing = NOW + 1
    cut = session(1, "a", epoch=2, connected=True, expires_at=end_that_means_nothing)
    summary = summarize([*runs, cut], NOW)
    assert summary.sessions[0].state == "cut"
    assert summary.sessions[0].expires == Due(NOW - 6 + 3600)


def test_a_clock_that_was_set_back_makes_no_session_live_longer() -> None:
    rows = [EpochStored(3, NOW + 1000, NOW + 1000), session(1, "a", connected=True)]
    assert summarize(rows, NOW).sessions[0].expires == Due(NOW + 3600)


@pytest.mark.parametrize("row", [session(1, "a", epoch=7), ROWS[15]])
def test_the_last_run_is_known_by_what_it_left(row: Stored) -> None:
    if isinstance(row, WillStored):
        row = attrs.evolve(row, epoch=7)
    assert summarize([EpochStored(1, NOW, NOW), row], NOW).runs == Runs(7, None, None)


def test_the_first_sessions_by_client_id_and_the_totals_of_all() -> None:
    everything = summarize(ROWS, NOW)
    for limit in (0, 1, 2, 5, 6):
        summary = summarize(ROWS, NOW, limit)
        assert summary.sessions == everything.sessions[:limit]
        assert summary.totals == everything.totals


def test_an_empty_journal() -> None:
    summary = summarize((), NOW)
    assert summary.runs == Runs(0, None, None)
    assert set(attrs.astuple(summary.totals)) == {0}
    assert summary.sessions == summary.set_aside == ()


def test_no_value_has_a_payload() -> None:
    assert SECRET.decode() not in repr(summarize(ROWS, NOW))
    assert SECRET.decode() not in repr(look_up(ROWS, "alice", NOW))


@pytest.mark.parametrize("never", [float("inf"), float("nan")])
def test_an_instant_that_never_comes_is_none(never: float) -> None:
    ended = session(1, "a", epoch=1, expires_at=never, expiry_interval=never)
    summary = summarize([EpochStored(1, never, never), ended], NOW)
    assert summary.runs == Runs(1, None, None)
    assert summary.sessions[0].expires == Due()
    assert summary.sessions[0].expiry_interval is None


def test_rows_without_effect_are_told_as_recovery_tells_them() -> None:
    replay = ReplaySnapshot((("a", None, 1),), (), (), 1, True, None)
    rows: list[Stored] = [
        session(1, "a"),
        SubscriptionStored(1, Subscription("a/#/b")),
        SubscriptionStored(9, Subscription("a")),
        InboundIdStored(9, 1, None),
        ReplayStored(9, replay),
        RetainedStored(Message("a/#", b"x"), NOW, None, None, None),
        RetainedStored(Message("a"), NOW, None, None, None),
        alone(20, 9),
        ExchangeStored(9, 1, 30, None),
    ]
    summary = summarize(rows, NOW)
    assert attrs.evolve(summary.totals, sessions=0, parked=0) == summarize((), NOW).totals
    assert summary.set_aside == (
        Quarantined("subscription", "1, 'a/#/b'", "no topic filter"),
        Quarantined("subscription", "9, 'a'", "there is no such session"),
        Quarantined("inbound", "9, 1", "there is no such session"),
        Quarantined("replay", "9", "there is no such session"),
        Quarantined("retained", "'a/#'", "no message that can be retained"),
        Quarantined("retained", "'a'", "no message that can be retained"),
        Quarantined("delivery", "20", "there is no such session"),
        Quarantined("exchange", "9, 1", "there is no such session"),
    )


@given(STEPS)
def test_it_is_what_a_recovery_would_find(steps: list[Step]) -> None:
    life = Life(durable=True)
    for step in steps:
        life.step(step)
    journal = MemoryJournal()
    journal.commit(list(life.world.rows.values()))
    start = life.world.now + 1
    summary = summarize(journal.load(), start)
    store = recovered(life.world, start)
    found = {each.client_id: each for each in store.snapshot().sessions}
    ghosts = {name for name, each in found.items() if each.expiry_interval == 0}
    assert [each.client_id for each in summary.sessions] == sorted(found.keys() - ghosts)
    assert summary.totals.retained == store.retained_count
    assert summary.totals.wills == sum(each.will is not None for each in found.values())
    for each in summary.sessions:
        contents = found[each.client_id]
        assert comparable(each, start) == figures(contents)
        report = look_up(journal.load(), each.client_id, start)
        assert report is not None
        assert report.session == each
        assert {sub.topic_filter for sub in report.subscriptions} == {
            sub.topic_filter for sub in contents.subscriptions
        }
        assert [(got.topic_name, got.size) for got in report.queue] == [
            (delivery.message.topic_name, len(delivery.message.payload))
            for delivery in contents.queue
        ]
        assert [(got.packet_id, got.message is not None) for got in report.exchanges] == [
            (packet_id, delivery is not None) for packet_id, delivery in contents.in_flight
        ]


def comparable(each: SessionSummary, start: float) -> tuple[object, ...]:
    return (
        instant(each.expires, start),
        each.subscriptions,
        each.queued,
        each.in_flight,
        each.releasing,
        each.abandoned,
        each.inbound,
        each.replays,
        None if each.will_due is None else instant(each.will_due, start),
    )


def instant(due: Due, start: float) -> float | None:
    return due.at if due.after_start is None else start + due.after_start


def figures(contents: SessionContents) -> tuple[object, ...]:
    sent = [delivery for _, delivery in contents.in_flight]
    replay = contents.replay
    due_at = contents.will_due_at
    if due_at is not None and contents.expires_at is not None:
        due_at = min(due_at, contents.expires_at)
    return (
        contents.expires_at,
        len(contents.subscriptions),
        len(contents.queue),
        sum(delivery is not None for delivery in sent),
        sum(delivery is None for delivery in sent) - len(contents.abandoned),
        len(contents.abandoned),
        len(contents.inbound),
        0 if replay is None else len(replay.cursors),
        due_at,
    )


# ---------------------------------------------------------------- what it holds

SESSIONS = 20_000
EACH = 5


def many() -> Iterator[Stored]:
    """Rows made as they are read, each message with a kilobyte of its own."""
    for number in range(SESSIONS):
        yield session(number, f"client-{number}")
    for number in range(SESSIONS * EACH):
        message = Message("t", b"%1000d" % number, 1)
        delivery = Delivery(message, 1, received_at=NOW)
        yield DeliveryStored(SESSIONS + number, number % SESSIONS, None, delivery)


@pytest.mark.unmeasured
def test_messages_are_not_held() -> None:
    tracemalloc.start()
    try:
        summary = summarize(many(), NOW, 10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (summary.totals.sessions, summary.totals.messages) == (SESSIONS, SESSIONS * EACH)
    assert summary.totals.message_bytes == SESSIONS * EACH * 1000
    assert peak < 1000 * SESSIONS  # a fifth of what the payloads alone would take


@pytest.mark.unmeasured
def test_a_look_at_one_client_holds_nothing_of_the_others() -> None:
    tracemalloc.start()
    try:
        report = look_up(many(), "client-7", NOW)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report is not None
    assert [each.size for each in report.queue] == [1000] * EACH
    assert peak < 100_000


def test_a_message_counts_once_however_many_have_a_copy() -> None:
    rows = [session(1, "a"), session(2, "b"), ROWS[18], copy(20, 1), copy(21, 2)]
    assert isinstance(ROWS[18], MessageStored)
    totals = summarize(rows, NOW).totals
    assert (totals.queued, totals.messages, totals.shared_messages) == (2, 1, 1)
    assert totals.message_bytes == len(SECRET)
