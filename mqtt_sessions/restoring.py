"""Between a session and its snapshot, both ways.

Timers are armed anew when all of them are known, in order of their instants, so that each lane of
the index is filled in order.
"""

from __future__ import annotations

from mqtt_sessions.connection import Link, RetryTimer
from mqtt_sessions.deadlines import DeadlineIndex, Timer
from mqtt_sessions.messages import Delivery
from mqtt_sessions.notices import DropReason
from mqtt_sessions.queue import Queue
from mqtt_sessions.snapshots import (
    ConnectionSnapshot,
    Drops,
    SessionContents,
)
from mqtt_sessions.state import (
    ABANDONED,
    RELEASED,
    Exchange,
    InboundIds,
    PendingWill,
    Route,
    SessionState,
)
from mqtt_sessions.turn import Settings

__all__ = [
    "Alarms",
    "contents_of",
    "drops",
    "restore_session",
]

_INF = float("inf")


class Alarms:
    """Timers that are to be armed together, in order of their instants."""

    __slots__ = ("_timers",)

    def __init__(self) -> None:
        self._timers: list[tuple[float, Timer, float]] = []

    def add(self, timer: Timer, at: float, interval: float) -> None:
        """Remember a timer, its instant and its lane."""
        self._timers.append((at, timer, interval))

    def arm(self, deadlines: DeadlineIndex) -> None:
        """Arm them all. *Cost* O(n log n)."""
        for at, timer, interval in sorted(self._timers, key=lambda each: each[0]):
            deadlines.arm(timer, at, interval)


def drops(dropped: dict[DropReason, int] | None) -> Drops:
    """Counts by reason, in the order of the reasons."""
    if not dropped:
        return ()
    return tuple((reason, dropped[reason]) for reason in DropReason if reason in dropped)


# ---------------------------------------------------------------- taking


def contents_of(session: SessionState) -> SessionContents:
    """What a session holds, its replay of retained messages left out.

    *Cost* O(what it holds); deliveries and messages are shared.
    """
    settings, queue, will = session.settings, session.queue, session.will
    pending = will if isinstance(will, PendingWill) else None
    in_flight = session.in_flight or {}
    inbound = session.inbound
    return SessionContents(
        session.client_id,
        settings.policy,
        settings.limits,
        settings.own_limits,
        session.principal,
        session.expiry_interval,
        None if session.lane is None else session.at,
        tuple(route.subscription for route in session.all_routes()),
        () if queue is None else tuple(queue),
        tuple(
            (packet_id, each if isinstance(each, Delivery) else None)
            for packet_id, each in in_flight.items()
        ),
        tuple(packet_id for packet_id, each in in_flight.items() if each is ABANDONED),
        session.last_packet_id,
        ()
        if inbound is None
        else tuple(
            (packet_id, None if ends_at == _INF else ends_at)
            for packet_id, ends_at in inbound.ends_at.items()
        ),
        will.will if isinstance(will, PendingWill) else will,
        None if pending is None else pending.at,
        0 if queue is None else queue.accepted,
        () if queue is None else drops(queue.dropped),
        None if session.link is None else _connection_of(session.link),
        None,
    )


def _connection_of(link: Link) -> ConnectionSnapshot:
    watched = link.interval != _INF
    return ConnectionSnapshot(
        link.connection,
        link.version,
        link.expiry_asked,
        link.interval if watched else None,
        link.due if watched else None,
        link.window,
        link.receive_maximum,
        link.maximum_packet_size,
        link.congested,
        tuple(link.unsent),
        tuple(sorted(link.unitless)),
        tuple(sorted(link.inbound_units)),
        None if link.retry is None else link.retry.pause,
        () if link.retry is None else tuple(link.retry.sent_at.items()),
    )


# ---------------------------------------------------------------- restoring


def restore_session(contents: SessionContents, shared: Settings, alarms: Alarms) -> SessionState:
    """Make a session anew, its connection and its timers with it.

    Args:
        contents: What it held.
        shared: What sessions live under that brought nothing of their own.
        alarms: Takes its timers.

    *Cost* O(what it holds).
    """
    settings = shared
    if contents.own_limits or contents.policy != shared.policy:
        settings = Settings(
            contents.policy,
            contents.limits if contents.own_limits else shared.limits,
            shared.options,
            shared.size_of,
            own_limits=contents.own_limits,
        )
    session = SessionState(contents.client_id, settings)
    session.principal = contents.principal
    session.expiry_interval = contents.expiry_interval
    session.last_packet_id = contents.last_packet_id
    if contents.expires_at is not None:
        alarms.add(session, contents.expires_at, contents.expiry_interval or 0.0)
    for subscription in contents.subscriptions:
        options = Route.pack(subscription, subscription.qos)
        session.add_route(Route(session, subscription.topic_filter, options))
    _restore_outgoing(session, contents, alarms)
    _restore_inbound(session, contents, alarms)
    session.will = contents.will
    if contents.will is not None and contents.will_due_at is not None:
        pending = session.will = PendingWill(contents.client_id, contents.will)
        alarms.add(pending, contents.will_due_at, contents.will.will_delay_interval)
    if contents.connection is not None:
        session.link = _restore_link(session, contents.connection, alarms)
    return session


def _restore_outgoing(session: SessionState, contents: SessionContents, alarms: Alarms) -> None:
    if contents.in_flight:
        in_flight: dict[int, Exchange] = {}
        for packet_id, delivery in contents.in_flight:
            in_flight[packet_id] = RELEASED if delivery is None else delivery
        for packet_id in contents.abandoned:
            in_flight[packet_id] = ABANDONED
        session.in_flight = in_flight
    if not (contents.accepted or contents.queue or contents.in_flight):
        return
    queue = session.queue = Queue()
    queue.accepted = contents.accepted
    queue.dropped = dict(contents.dropped) or None
    queue.fill(contents.queue)
    expires_at = queue.next_expiry()
    if expires_at < _INF:
        soonest = next(each for each in contents.queue if each.expires_at == expires_at)
        lane = round(expires_at - soonest.received_at, 3)
        alarms.add(queue.make_timer(session.client_id), expires_at, lane)


def _restore_inbound(session: SessionState, contents: SessionContents, alarms: Alarms) -> None:
    if not contents.inbound:
        return
    ids = session.inbound = InboundIds(session.client_id)
    for packet_id, ends_at in contents.inbound:
        ids.hold(packet_id, _INF if ends_at is None else ends_at)
    pause = session.settings.policy.inbound_qos2_interval
    if pause is not None:
        ids.pause = pause
    if ids.due < _INF:
        alarms.add(ids, ids.due, ids.pause)


def _restore_link(session: SessionState, saved: ConnectionSnapshot, alarms: Alarms) -> Link:
    link = Link(saved.connection, session, saved.protocol_version)
    link.expiry_asked = saved.session_expiry_interval
    link.window = saved.send_window
    link.receive_maximum = saved.receive_maximum
    link.maximum_packet_size = saved.maximum_packet_size
    link.congested = saved.congested
    link.unsent.update(dict.fromkeys(saved.unsent))
    link.unitless.update(saved.unitless)
    link.inbound_units.update(saved.inbound_units)
    if saved.keep_alive_interval is not None and saved.keep_alive_at is not None:
        link.interval = saved.keep_alive_interval
        link.due = saved.keep_alive_at
        alarms.add(link, link.due, link.interval)
    if saved.retry_interval is not None:
        link.retry = RetryTimer(session.client_id, saved.retry_interval)
        link.retry.sent_at.update(saved.sent_at)
        if saved.sent_at:
            alarms.add(link.retry, link.retry.due, link.retry.pause)
    link.smooth()
    return link
