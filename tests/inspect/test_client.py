"""All that there is of one client."""

from __future__ import annotations

from mqtt_sessions import DeadlineKind
from mqtt_sessions.changes import WillStored
from mqtt_sessions.inspect import Due, look_up, summarize
from mqtt_sessions.inspect.client import (
    ClientDeadline,
    Exchange,
    InboundId,
    MessageOnItsWay,
    WillReport,
)
from mqtt_sessions.messages import Message, Will
from mqtt_sessions.subscriptions import Subscription
from tests.inspect.helpers import ALONE, NOW, ROWS, SHARED, alone, copy, session


def shared(delivery_id: int) -> MessageOnItsWay:
    size = len(SHARED.payload)
    return MessageOnItsWay(delivery_id, "news", size, 2, False, NOW - 12, None, "press")


def own(delivery_id: int, expires_at: float) -> MessageOnItsWay:
    size = len(ALONE.payload)
    return MessageOnItsWay(delivery_id, "alarm", size, 1, False, NOW - 7200, expires_at, None)


def test_everything_of_a_session() -> None:
    report = look_up(ROWS, "alice", NOW)
    assert report is not None
    summary = summarize(ROWS, NOW)
    assert (report.now, report.client_id, report.runs) == (NOW, "alice", summary.runs)
    assert report.session == summary.sessions[0]
    assert report.subscriptions == (
        Subscription("alarm", 1, True, True, 2, 7),
        Subscription("news", 2),
    )
    assert report.queue == (own(22, NOW + 3 * 86_400), own(23, NOW - 1), shared(24))
    assert report.exchanges == (
        Exchange(2, "in flight", shared(20)),
        Exchange(1, "releasing", None),
        Exchange(3, "abandoned", None),
    )
    assert report.inbound == (InboundId(4, None), InboundId(9, NOW + 59))
    assert report.will == WillReport("lost/alice", 4, 1, True, 30, Due(NOW + 3))
    assert report.replays == ("alarm",)
    assert report.deadlines == (
        ClientDeadline(DeadlineKind.MESSAGE_EXPIRY, Due(NOW - 1), "alarm"),
        ClientDeadline(DeadlineKind.WILL_DELAY, Due(NOW + 3), "lost/alice"),
        ClientDeadline(DeadlineKind.INBOUND_QOS2, Due(NOW + 59), "9"),
        ClientDeadline(DeadlineKind.SESSION_EXPIRY, Due(NOW + 57 * 60), "alice"),
        ClientDeadline(DeadlineKind.MESSAGE_EXPIRY, Due(NOW + 3 * 86_400), "alarm"),
    )


def test_what_the_next_start_begins_comes_last() -> None:
    report = look_up(ROWS, "bob", NOW)
    assert report is not None
    assert report.deadlines == (
        ClientDeadline(DeadlineKind.WILL_DELAY, Due(None, 300), "lost/bob"),
        ClientDeadline(DeadlineKind.SESSION_EXPIRY, Due(None, 3600.0), "bob"),
    )


def test_a_session_that_never_ends_has_no_deadline() -> None:
    report = look_up(ROWS, "dora", NOW)
    assert report is not None
    assert report.deadlines == ()


def test_a_client_of_which_only_a_will_is_left() -> None:
    report = look_up(ROWS, "zoe", NOW)
    assert report is not None
    assert report.session is None
    assert report.will == WillReport("lost/zoe", 2, 0, False, 300, Due(None, 0))
    assert [each.due for each in report.deadlines] == [Due(None, 0)]


def test_the_will_of_a_session_that_ends_before_its_delay() -> None:
    will = WillStored("a", Will(Message("w", b"x"), 500), NOW + 500, 2, None)
    rows = (session(1, "a", expires_at=NOW + 100), will)
    report = look_up(rows, "a", NOW)
    assert report is not None
    assert report.will is not None
    assert report.will.due == Due(NOW + 100)


def test_a_queue_is_in_order_of_arrival_and_then_of_identifier() -> None:
    report = look_up(
        [session(1, "a"), *(alone(each, 1) for each in (31, 30)), copy(20, 1)], "a", NOW
    )
    assert report is not None
    assert [each.delivery_id for each in report.queue] == [30, 31, 20]


def test_nobody_of_that_name() -> None:
    assert look_up(ROWS, "Alice", NOW) is None
