"""The sending side of a session: what is offered, sent, acknowledged, sent again, dropped.

Functions over a `SessionState` that append to the caller's `Turn`; a session with a store and one
without take the same steps.
"""

from __future__ import annotations

from itertools import islice

from attrs import evolve

from mqtt_sessions.actions import SendPublish, SendPubrel
from mqtt_sessions.connection import Link, RetryTimer
from mqtt_sessions.flows import (
    ON_PUBACK,
    ON_PUBACK_ERROR,
    ON_PUBCOMP,
    ON_PUBREC,
    ON_PUBREC_ERROR,
    Phase,
    Reply,
)
from mqtt_sessions.messages import Delivery
from mqtt_sessions.notices import DropReason, MessageDropped
from mqtt_sessions.packet_ids import MAX_PACKET_ID, next_packet_id
from mqtt_sessions.policy import OverflowPolicy
from mqtt_sessions.queue import Queue, size_in_queue
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.rows import Body
from mqtt_sessions.state import ABANDONED, RELEASED, Exchange, Released, SessionState
from mqtt_sessions.turn import Turn

__all__ = [
    "acknowledge",
    "complete",
    "drop",
    "drop_everything",
    "drop_queued",
    "expire_queued",
    "has_room",
    "offer",
    "offer_retained",
    "pump",
    "receive",
    "resume",
    "retry",
]

_SUCCESS = ReasonCode.SUCCESS
_NOT_FOUND = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
_COMPLETE = Reply.COMPLETE
_EMPTY: dict[int, Exchange] = {}
_CLOCK_NOISE = 1e-6
"""Seconds: twice what a float of POSIX time resolves."""
_PROTOCOL_MAXIMUM = 268_435_460
HUGE = 1 << 27
"""Bytes of payload from which on a packet might not fit into the protocol's own maximum."""


def told_interval(delivery: Delivery, now: float) -> int | None:
    """The Message Expiry Interval to send: what is left, rounded up.

    0 only for a message that came with 0; a delivery that began before it expired and is sent
    again says 1 [NN-8.6].

    Spec: MQTT 5.0 §3.3.2.3.3 [MQTT-3.3.2-6].
    """
    interval = delivery.message_expiry_interval
    if not interval:
        return interval
    waited = max(0.0, now - delivery.received_at)  # a clock may have been set back by a restart
    # rounded down, after what the difference of two clock readings may be short of a whole second
    return max(1, interval - int(waited + _CLOCK_NOISE))


def offer(session: SessionState, delivery: Delivery, turn: Turn) -> None:
    """Accept a message for this session: send it now, queue it, or drop it with a notice.

    The caller adds it to `turn.accepted`.

    *Cost* O(1).

    Spec: MQTT 5.0 §4.5 [MQTT-4.5.0-1].
    """
    queue = session.queue
    if queue is None:
        queue = session.queue = Queue()
    queue.accepted += 1
    if delivery.expires_at is not None and delivery.received_at < turn.now >= delivery.expires_at:
        # MQTT-3.3.2-5; an interval of 0 is offered once, in the call in which it arrived
        drop(session, delivery, DropReason.EXPIRED, turn)
        return
    link = session.link
    # NN-10.7: nothing overtakes what waits, QoS 0 neither
    if link is None or queue.items or link.held or not _transmit(session, link, delivery, turn):
        _enqueue(session, queue, delivery, turn)


def offer_retained(session: SessionState, link: Link, delivery: Delivery, turn: Turn) -> None:
    """Accept a retained message and send it; the caller saw that there `has_room`. *Cost* O(1)."""
    queue = session.queue
    if queue is None:
        queue = session.queue = Queue()
    queue.accepted += 1
    turn.accepted += 1
    if turn.recorder is not None:
        turn.recorder.begin_publish()
    sent = _transmit(session, link, delivery, turn)
    assert sent


def has_room(session: SessionState, link: Link) -> bool:
    """Whether one more message could be sent at once. *Cost* O(1)."""
    return not link.held and _window_open(session.in_flight or _EMPTY, link)


def _for_version(link: Link, delivery: Delivery) -> Delivery:
    """RETAIN of a live message is 0 for MQTT 3.x whatever the subscription says [NN-2.8].

    What is held stays as it was made: the next connection may be of another version.
    """
    if delivery.retain and link.version < 5 and not delivery.is_retained:
        return evolve(delivery, retain=False)
    return delivery


def _transmit(session: SessionState, link: Link, delivery: Delivery, turn: Turn) -> bool:
    """Send, or drop what is too large; False if the window is closed."""
    if _too_large(session, link, delivery):
        # NN-11.2, MQTT-3.1.2-25: before an id is taken
        drop(session, delivery, DropReason.TOO_LARGE, turn)
        return True
    if delivery.qos == 0:  # MQTT-4.3.1-1; the quota is no matter [NN-10.3]
        turn.completed += 1
        told = delivery.message_expiry_interval
        if told is not None:
            told = told_interval(delivery, turn.now)
        shown = _for_version(link, delivery)
        turn.actions.append(SendPublish(link.connection, shown, None, False, told))
        return True
    in_flight = session.in_flight
    if in_flight is None:
        in_flight = session.in_flight = {}
    if len(in_flight) >= link.window and not _window_open(in_flight, link):
        return False
    _send(session, in_flight, link, delivery, turn)
    return True


def _send(
    session: SessionState,
    in_flight: dict[int, Exchange],
    link: Link,
    delivery: Delivery,
    turn: Turn,
    waited: tuple[int, Body | None] | None = None,
) -> None:
    """First transmission at QoS 1 or 2 [MQTT-4.3.2-2], [MQTT-4.3.3-2].

    `waited`: the row of a durable session's message that comes out of its queue.
    """
    # MQTT-4.3.2-1, MQTT-4.3.3-1: what is in flight keeps its identifier, since when ever [NN-6.3]
    packet_id = session.last_packet_id + 1
    if packet_id > MAX_PACKET_ID or packet_id in in_flight:
        packet_id = next_packet_id(session.last_packet_id, in_flight)
    session.last_packet_id = packet_id
    in_flight[packet_id] = delivery
    if turn.recorder is not None and session.rows is not None:
        entry = waited or turn.recorder.copy(session.rows, delivery)
        turn.recorder.sent(session, packet_id, delivery, entry)
    if link.retry is not None:
        _note_sent(link.retry, packet_id, turn)
    turn.actions.append(
        SendPublish(
            link.connection,
            _for_version(link, delivery),
            packet_id,
            False,
            None if delivery.message_expiry_interval is None else told_interval(delivery, turn.now),
        )
    )


def _window_open(in_flight: dict[int, Exchange], link: Link) -> bool:
    """Whether one more PUBLISH may be in the air.

    Units in use are derived from what is in flight and never counted beside it; an exchange from
    an earlier connection holds one only once its PUBLISH was sent again [NN-10.8], and there are
    never more than there were [NN-10.1].

    Spec: MQTT 5.0 §4.9 [MQTT-4.9.0-2], §3.3.4 [MQTT-3.3.4-9].
    """
    return (
        len(in_flight) - len(link.unsent) - len(link.unitless) < link.window
        and len(in_flight) < MAX_PACKET_ID
    )


def _too_large(session: SessionState, link: Link, delivery: Delivery) -> bool:
    """MQTT-3.1.2-24; equal to the limit fits, and without one the protocol's holds [NN-11.1]."""
    maximum = link.maximum_packet_size
    if maximum is None and len(delivery.message.payload) < HUGE:
        return False
    return session.settings.exceeds(delivery, link.version, maximum or _PROTOCOL_MAXIMUM)


def drop(session: SessionState, delivery: Delivery, reason: DropReason, turn: Turn) -> None:
    """Count and tell that an accepted message will not be delivered."""
    queue = session.queue
    assert queue is not None
    dropped = queue.dropped
    if dropped is None:
        dropped = queue.dropped = {}
    dropped[reason] = dropped.get(reason, 0) + 1
    turn.dropped[reason] = turn.dropped.get(reason, 0) + 1
    turn.notices.append(MessageDropped(session.client_id, delivery, reason))


def drop_queued(
    session: SessionState, queue: Queue, delivery: Delivery, reason: DropReason, turn: Turn
) -> None:
    """The same for one that was just taken out of the queue."""
    if turn.recorder is not None and session.rows is not None:
        turn.recorder.left_queue(queue.row, delivery)
    drop(session, delivery, reason, turn)


# ---------------------------------------------------------------- the queue


def _enqueue(session: SessionState, queue: Queue, delivery: Delivery, turn: Turn) -> None:
    limits = session.settings.limits
    expires_at = delivery.expires_at
    if expires_at is not None and expires_at <= turn.now:
        # NN-9.4: an interval of 0 is for those to whom it can be sent at once
        drop(session, delivery, DropReason.EXPIRED, turn)
        return
    if delivery.qos == 0 and session.link is None and not limits.queue_qos0:
        drop(session, delivery, DropReason.QOS0_OFFLINE, turn)
        return
    timer = queue.timer
    if timer is not None and timer.at <= turn.now:
        expire_queued(session, turn)
    count, size = limits.maximum_queued_messages, limits.maximum_queued_bytes
    if (count is not None and len(queue) >= count) or size is not None:
        reason = _make_room(session, queue, delivery, turn)
        if reason is not None:
            drop(session, delivery, reason, turn)
            return
    if turn.recorder is not None and session.rows is not None:
        queue.push(delivery, turn.recorder.copy(session.rows, delivery)[0])
    else:
        queue.push(delivery)
    if expires_at is not None:
        timer = queue.make_timer(session.client_id)
        if timer.lane is None or timer.at > expires_at:
            # the lane is a hint, so its key is rounded: float noise would make lanes without end
            turn.deadlines.arm(timer, expires_at, round(expires_at - delivery.received_at, 3))


def _make_room(
    session: SessionState, queue: Queue, newcomer: Delivery, turn: Turn
) -> DropReason | None:
    """Drop what gives way to the newcomer; a reason if it is the newcomer itself.

    *Cost* O(messages dropped).
    """
    limits = session.settings.limits
    count, size = limits.maximum_queued_messages, limits.maximum_queued_bytes
    held = 0
    if size is not None:
        room = size - size_in_queue(newcomer.message)
        if room < 0:
            return DropReason.BYTES_FULL
        held = queue.count_bytes()
    while True:
        if count is not None and len(queue) >= count:
            reason = DropReason.QUEUE_FULL
        elif size is not None and held > room:
            reason = DropReason.BYTES_FULL
        else:
            return None
        victim = _victim(queue, limits.overflow, newcomer)
        if victim is None:
            return reason
        drop_queued(session, queue, victim, reason, turn)
        if size is not None:
            held = queue.count_bytes()


def _victim(queue: Queue, overflow: OverflowPolicy, newcomer: Delivery) -> Delivery | None:
    """Who gives way; None: the newcomer. What has expired is gone already."""
    if overflow is OverflowPolicy.DROP_NEWEST:
        return None
    if overflow is OverflowPolicy.DROP_OLDEST:
        return queue.pop()
    oldest_qos0 = queue.pop_oldest_qos0()
    if oldest_qos0 is not None:
        return oldest_qos0
    # a QoS 0 newcomer is itself the oldest QoS 0 then
    return None if newcomer.qos == 0 else queue.pop()


def expire_queued(
    session: SessionState, turn: Turn, limit: int | None = None, until: float | None = None
) -> int:
    """Drop queued messages that have expired by `until`, or by now; the number dropped.

    *Cost* O(dropped * log depth).

    Spec: MQTT 5.0 §3.3.2.3.3 [MQTT-3.3.2-5], [NN-9.2].
    """
    queue = session.queue
    assert queue is not None
    if until is None:
        until = turn.now
    dropped = 0
    while limit is None or dropped < limit:
        delivery = queue.pop_expired(until)
        if delivery is None:
            break
        drop_queued(session, queue, delivery, DropReason.EXPIRED, turn)
        dropped += 1
    return dropped


def pump(session: SessionState, link: Link, turn: Turn) -> None:
    """Send what waits, up to the window: first what was in flight before, then the queue.

    *Cost* O(messages sent or dropped).

    Spec: MQTT 5.0 §4.6 [MQTT-4.6.0-1], [MQTT-4.6.0-5], [NN-15.1]; §4.9 [NN-8.4].
    """
    if link.congested:
        return
    in_flight = session.in_flight
    if link.held:
        while link.unsent:
            assert in_flight is not None
            if not _window_open_again(in_flight, link):
                return
            _send_again(session, in_flight, link, turn)
        link.smooth()
    queue = session.queue
    if queue is None or not queue.items:
        return
    if in_flight is None:
        in_flight = session.in_flight = {}
    recorder = turn.recorder
    while (delivery := queue.peek()) is not None:
        if delivery.qos and not _window_open(in_flight, link):
            return
        queue.pop()
        waited: tuple[int, Body | None] | None = None
        if recorder is not None and session.rows is not None:
            waited = queue.row, recorder.bodies.get(id(delivery))
        reason: DropReason | None = None
        if delivery.expires_at is not None and delivery.expires_at <= turn.now:
            reason = DropReason.EXPIRED
        elif _too_large(session, link, delivery):
            reason = DropReason.TOO_LARGE  # NN-11.2: the queue moves on
        elif delivery.qos:
            _send(session, in_flight, link, delivery, turn, waited)
            continue
        if recorder is not None and waited is not None:
            recorder.removed(*waited)
        if reason is not None:
            drop(session, delivery, reason, turn)
            continue
        turn.completed += 1
        told = told_interval(delivery, turn.now)
        shown = _for_version(link, delivery)
        turn.actions.append(SendPublish(link.connection, shown, None, False, told))


# ---------------------------------------------------------------- acknowledgements


def acknowledge(
    session: SessionState, link: Link, packet_id: int, reason_code: int, turn: Turn
) -> Reply:
    """PUBACK; the reply says what the table says, all but `PROTOCOL_ERROR` has been done.

    *Cost* O(1).

    Spec: MQTT 5.0 §4.3.2 [MQTT-4.3.2-3], §4.4 [MQTT-4.4.0-2].
    """
    in_flight = session.in_flight or _EMPTY
    exchange = in_flight.get(packet_id)
    if exchange is None:
        return Reply.IGNORE
    reply = (ON_PUBACK if reason_code < 0x80 else ON_PUBACK_ERROR)[exchange.qos]
    if reply is not Reply.PROTOCOL_ERROR:
        _settle(session, link, packet_id, reply, turn)
    return reply


def receive(session: SessionState, link: Link, packet_id: int, code: int, turn: Turn) -> Reply:
    """PUBREC; the reply says what the table says, all but `PROTOCOL_ERROR` has been done.

    *Cost* O(1).

    Spec: MQTT 5.0 §4.3.3 [MQTT-4.3.3-3], [MQTT-4.3.3-4], table 3-6 [NN-7.5].
    """
    in_flight = session.in_flight or _EMPTY
    exchange = in_flight.get(packet_id)
    phase = Phase.IDLE if exchange is None else exchange.qos
    reply = (ON_PUBREC if code < 0x80 else ON_PUBREC_ERROR)[phase]
    if reply is Reply.PUBREL:
        if phase == Phase.AWAITING_PUBREC:
            # to the end: PUBRELs are sent again in the order of their PUBRECs [MQTT-4.6.0-4]
            del in_flight[packet_id]
            in_flight[packet_id] = RELEASED
            if turn.recorder is not None and session.rows is not None:
                turn.recorder.received(session.rows, packet_id)
            if packet_id in link.unsent:
                # settled by a PUBREC for the earlier connection's PUBLISH: no unit was taken
                del link.unsent[packet_id]
                link.unitless.add(packet_id)
                link.smooth()
        if link.retry is not None:
            _note_sent(link.retry, packet_id, turn)
        # MQTT-3.3.4-10, MQTT-4.9.0-3: whatever is left of the quota
        turn.actions.append(SendPubrel(link.connection, packet_id, _SUCCESS))
    elif reply is Reply.PUBREL_NOT_FOUND:
        turn.actions.append(SendPubrel(link.connection, packet_id, _NOT_FOUND))
    elif reply is Reply.COMPLETE or reply is Reply.GIVE_UP:
        _settle(session, link, packet_id, reply, turn)
    return reply


def complete(session: SessionState, link: Link, packet_id: int, turn: Turn) -> Reply:
    """PUBCOMP; the reply says what the table says, all but `PROTOCOL_ERROR` has been done.

    *Cost* O(1).

    Spec: MQTT 5.0 §4.3.3 [MQTT-4.3.3-5], §4.9 [NN-7.9].
    """
    in_flight = session.in_flight or _EMPTY
    exchange = in_flight.get(packet_id)
    reply = ON_PUBCOMP[Phase.IDLE if exchange is None else exchange.qos]
    if reply is Reply.COMPLETE:
        _settle(session, link, packet_id, reply, turn)
    return reply


def _settle(session: SessionState, link: Link, packet_id: int, reply: Reply, turn: Turn) -> None:
    """An exchange is over: identifier and unit are free, all else stays [NN-5.4], [NN-6.2]."""
    assert session.in_flight is not None
    exchange = session.in_flight.pop(packet_id)
    if turn.recorder is not None and session.rows is not None:
        turn.recorder.settled(session.rows, packet_id, exchange)
    if not link.plain:
        link.unsent.pop(packet_id, None)
        link.unitless.discard(packet_id)
        if link.retry is not None:
            link.retry.sent_at.pop(packet_id, None)
        link.smooth()
    if reply is _COMPLETE:
        if exchange is not ABANDONED:
            turn.completed += 1
    else:
        assert isinstance(exchange, Delivery)
        drop(session, exchange, DropReason.REFUSED_BY_CLIENT, turn)


# ---------------------------------------------------------------- sending again


def resume(session: SessionState, link: Link, turn: Turn) -> None:
    """Send again what the earlier connection left open, PUBRELs first, then go on.

    PUBRELs are never held back; PUBLISHes go up to the new window, the rest as acknowledgements
    come in. 5.0 binds the client alone to this order, 3.1.1 the server too [NN-15.3].

    *Cost* O(in flight + sent).

    Spec: MQTT 5.0 §4.4 [MQTT-4.4.0-1], §4.6 [NN-8.3], [NN-8.4], [NN-8.4b].
    """
    in_flight = session.in_flight
    if in_flight:
        _leave_out(session, in_flight, link, turn)
        for packet_id, exchange in in_flight.items():
            if isinstance(exchange, Released):
                link.unitless.add(packet_id)
                if link.retry is not None:
                    _note_sent(link.retry, packet_id, turn)
                turn.actions.append(SendPubrel(link.connection, packet_id, _SUCCESS))
            else:
                link.unsent[packet_id] = None
    link.smooth()
    pump(session, link, turn)


def _leave_out(
    session: SessionState, in_flight: dict[int, Exchange], link: Link, turn: Turn
) -> None:
    """Close exchanges whose PUBLISH will not be sent again.

    Too large for the new connection: QoS 1 is dropped and its identifier free; QoS 2 goes on with
    PUBREL, for the receiver may remember the identifier [NN-8.7]. Expired: QoS 1 only, and only
    where the policy asks for this deviation from MQTT-4.4.0-1.
    """
    expire = session.settings.policy.expire_in_flight
    if not expire and link.maximum_packet_size is None:
        return
    for packet_id, exchange in list(in_flight.items()):
        if isinstance(exchange, Released):
            continue
        expires_at = exchange.expires_at
        if link.maximum_packet_size is not None and _too_large(session, link, exchange):
            del in_flight[packet_id]
            if exchange.qos == 2:
                in_flight[packet_id] = ABANDONED
            if turn.recorder is not None and session.rows is not None:
                if exchange.qos == 2:
                    turn.recorder.received(session.rows, packet_id, is_abandoned=True)
                else:
                    turn.recorder.settled(session.rows, packet_id, exchange)
            drop(session, exchange, DropReason.TOO_LARGE, turn)
        elif expire and exchange.qos == 1 and expires_at is not None and expires_at <= turn.now:
            del in_flight[packet_id]
            if turn.recorder is not None and session.rows is not None:
                turn.recorder.settled(session.rows, packet_id, exchange)
            drop(session, exchange, DropReason.EXPIRED, turn)


def _window_open_again(in_flight: dict[int, Exchange], link: Link) -> bool:
    """MQTT-4.9.0-2: a PUBLISH that is sent again takes a unit of the new window."""
    return len(in_flight) - len(link.unsent) - len(link.unitless) < link.window


def _send_again(
    session: SessionState, in_flight: dict[int, Exchange], link: Link, turn: Turn
) -> None:
    packet_id, _ = link.unsent.popitem(last=False)
    delivery = in_flight[packet_id]
    assert isinstance(delivery, Delivery)
    if link.retry is not None:
        _note_sent(link.retry, packet_id, turn)
    delivery = _for_version(link, delivery)
    told = told_interval(delivery, turn.now)
    # MQTT-3.3.1-1: DUP 1; MQTT-4.4.0-1: the identifier it had; NN-8.5: and all else
    turn.actions.append(SendPublish(link.connection, delivery, packet_id, True, told))


def _note_sent(timer: RetryTimer, packet_id: int, turn: Turn) -> None:
    timer.sent_at.pop(packet_id, None)
    timer.sent_at[packet_id] = turn.now
    if timer.lane is None:
        turn.deadlines.arm(timer, turn.now + timer.pause, timer.pause)


def retry(session: SessionState, link: Link, turn: Turn, limit: int | None, until: float) -> int:
    """Send again what was due by then, not acknowledged for a retry interval; the number sent.

    For MQTT 3.x only.

    *Cost* O(sent).

    Spec: MQTT 3.1.1 §4.4 [NN-8.1]; forbidden by MQTT 5.0 [MQTT-4.4.0-1].
    """
    timer, in_flight = link.retry, session.in_flight
    assert timer is not None
    assert in_flight is not None
    sent = 0
    while timer.due <= until and (limit is None or sent < limit):
        packet_id = next(iter(timer.sent_at))
        exchange = in_flight[packet_id]
        if isinstance(exchange, Released):
            turn.actions.append(SendPubrel(link.connection, packet_id, _SUCCESS))
            sent += 1
        elif not link.congested:
            delivery = _for_version(link, exchange)
            told = told_interval(delivery, turn.now)
            turn.actions.append(SendPublish(link.connection, delivery, packet_id, True, told))
            sent += 1
        _note_sent(timer, packet_id, turn)  # which makes it the last, and due later than now
    return sent


# ---------------------------------------------------------------- the end


def drop_everything(session: SessionState, turn: Turn, limit: int | None = None) -> int:
    """Drop what an ending session still holds, up to `limit`; the number dropped.

    A message in its PUBREL phase belongs to the receiver and counts as delivered.

    *Cost* O(dropped).
    """
    dropped = 0
    in_flight = session.in_flight or _EMPTY
    for packet_id in list(islice(in_flight, limit)):
        exchange = in_flight.pop(packet_id)
        if turn.recorder is not None and session.rows is not None:
            turn.recorder.settled(session.rows, packet_id, exchange)
        if isinstance(exchange, Delivery):
            drop(session, exchange, DropReason.SESSION_ENDED, turn)
        elif exchange is RELEASED:
            turn.completed += 1
        dropped += 1
    queue = session.queue
    while queue is not None and (limit is None or dropped < limit):
        delivery = queue.pop()
        if delivery is None:
            break
        reason = DropReason.SESSION_ENDED
        if delivery.expires_at is not None and delivery.expires_at <= turn.now:
            reason = DropReason.EXPIRED
        drop_queued(session, queue, delivery, reason, turn)
        dropped += 1
    return dropped
