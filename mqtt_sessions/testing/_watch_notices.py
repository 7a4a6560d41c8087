"""What notices tell a `Watch`: the life of sessions and wills, and messages that are dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from mqtt_sessions.events import (
    ClientConnected,
    QueuePurged,
    SessionDiscarded,
    SessionExpirySet,
)
from mqtt_sessions.notices import (
    DropReason,
    EndReason,
    InboundQos2TimedOut,
    MessageDropped,
    RetainedMessageDropped,
    SessionCreated,
    SessionEnded,
    SessionParked,
    SessionResumed,
    SessionTakenOver,
    WillDiscarded,
    WillPublished,
    WillScheduled,
)
from mqtt_sessions.policy import OverflowPolicy
from mqtt_sessions.testing._watch_books import Books
from mqtt_sessions.testing._watched import (
    Copy,
    WatchedConnection,
    WatchedSession,
    against,
    is_match,
    key_of,
)

__all__ = ["Notices"]

_HUGE = 1 << 27
_FULL = (DropReason.QUEUE_FULL, DropReason.BYTES_FULL)
_CALLED_UP_DROPS = (DropReason.TOO_LARGE, DropReason.SESSION_ENDED)
"""Of retained messages that a subscription calls up: too large, or sent in this very step."""


class Notices(Books):
    """One handler for each notice that has to agree with the books."""

    # ------------------------------------------------------------ sessions

    def _connecting_as(self, client_id: str, what: str) -> WatchedConnection:
        conn = self.connecting
        if conn is None or conn.accepted:
            against("host", f"{what} of {client_id!r} without an accepted CONNECT")
        event = conn.event
        if (event.client_id or event.assigned_client_id) != client_id:
            against("host", f"{what} of {client_id!r}, but {event.client_id!r} connected")
        return conn

    def _on_created(self, notice: SessionCreated) -> None:
        client_id = notice.client_id
        conn = self._connecting_as(client_id, "SessionCreated")
        if client_id in self.sessions:
            if conn.event.clean_start:
                against("MQTT-3.1.2-4", f"the session of {client_id!r} was not discarded first")
            against("MQTT-3.1.2-5", f"the session of {client_id!r} goes on and is created anew")
        session = self.sessions[client_id] = WatchedSession(client_id)
        self.bind(session, conn, resumed=False)

    def _on_resumed(self, notice: SessionResumed) -> None:
        client_id = notice.client_id
        conn = self._connecting_as(client_id, "SessionResumed")
        session = self.sessions.get(client_id)
        if session is None:
            against("MQTT-3.2.2-3", f"{client_id!r} resumes a session that does not exist")
        if conn.event.clean_start:
            against("MQTT-3.1.2-4", f"{client_id!r} asked for Clean Start and resumes")
        if session.conn is not None:
            against("MQTT-3.1.4-3", f"{client_id!r} resumes while its connection is open")
        if session in self.parted and session.interval == 0:
            against("NN-3.3", f"{client_id!r} inherits a session that ended with its connection")
        if session.expires_at is not None and session.expires_at <= self.now:
            against("NN-1.1", f"{client_id!r} resumes a session that expired")
        if session.will_at <= self.now:
            self.owe_will(session)
        if session.will is not None:
            against("NN-4.7", f"the old will of {client_id!r} is neither discarded nor published")
        self.bind(session, conn, resumed=True)

    def _on_taken_over(self, notice: SessionTakenOver) -> None:
        self._connecting_as(notice.client_id, "SessionTakenOver")
        if notice.connection not in self.closing:
            against("MQTT-3.1.4-3", f"{notice.client_id!r} is taken over, its connection stays")

    def _on_parked(self, notice: SessionParked) -> None:
        session = self.sessions.get(notice.client_id)
        if session is None or session not in self.parted or session in self.told_parked:
            against("host", f"SessionParked of {notice.client_id!r}, which lost no connection")
        self.told_parked.append(session)
        if notice.expires_at != session.parked_until:
            against(
                "NN-1.1",
                f"{notice.client_id!r} is said to expire at {notice.expires_at!r}, "
                f"not {session.parked_until!r}",
            )

    def _on_ended(self, notice: SessionEnded) -> None:
        client_id = notice.client_id
        session = self.sessions.pop(client_id, None)
        if session is None:
            against("host", f"SessionEnded of {client_id!r}, which has no session")
        if session.conn is not None:
            against("host", f"the session of {client_id!r} ends, its connection stays open")
        _MAY_END[notice.reason](self, session)
        for topic_filter in list(session.subscriptions):
            self.filters.remove(session, topic_filter)
        session.ended = True
        self.owe_will(session)  # NN-4.8
        self.ended.append(session)

    def _may_end_closed(self, session: WatchedSession) -> None:
        if session.interval != 0 or session not in self.parted:
            against("NN-1.1", f"{session.client_id!r} ends with its connection, interval above 0")

    def _may_end_expired(self, session: WatchedSession) -> None:
        event = self.event
        if type(event) is SessionExpirySet and event.client_id == session.client_id:
            return
        if session.expires_at is None or session.expires_at > self.now:
            against("NN-1.1", f"{session.client_id!r} expires before {session.expires_at!r}")

    def _may_end_clean(self, session: WatchedSession) -> None:
        conn = self.connecting
        if conn is None or not conn.event.clean_start:
            against("MQTT-3.1.2-4", f"{session.client_id!r} ends for a Clean Start nobody asked")

    def _may_end_discarded(self, session: WatchedSession) -> None:
        event = self.event
        if type(event) is not SessionDiscarded or event.client_id != session.client_id:
            against("host", f"{session.client_id!r} is discarded, which nobody asked for")

    def _on_timed_out(self, notice: InboundQos2TimedOut) -> None:
        session = self.sessions.get(notice.client_id)
        if self.timed_out == (session, notice.packet_id):
            self.timed_out = None
            return
        ends_at = None if session is None else session.inbound.pop(notice.packet_id, None)
        if ends_at is None or ends_at > self.now:
            against(
                "MQTT-4.3.3-10",
                f"identifier {notice.packet_id} of {notice.client_id!r} is forgotten too early",
            )

    # ------------------------------------------------------------ wills

    def _on_will_published(self, notice: WillPublished) -> None:
        client_id, message = notice.client_id, notice.message
        for index, (owner, will, policy) in enumerate(self.owed_wills):
            if owner == client_id and will.message == message:
                del self.owed_wills[index]
                self.hand_on(message, client_id, policy, is_will=True)
                return
        session = self.sessions.get(client_id)
        if session is None or session.will is None or session.will.message != message:
            against("MQTT-3.1.2-10", f"{client_id!r} has no such will, or had: {message!r}")
        if session is self.suppressed:
            against("MQTT-3.14.4-3", f"the will of {client_id!r} was deleted, and is published")
        if session.will_at > self.now:
            against("MQTT-3.1.2-8", f"the will of {client_id!r} is due at {session.will_at!r}")
        session.will = None
        self.hand_on(message, client_id, session.policy, is_will=True)

    def _on_will_discarded(self, notice: WillDiscarded) -> None:
        session = self.sessions.get(notice.client_id)
        if session is None or session.will is None or session.will.message != notice.message:
            against("MQTT-3.1.2-10", f"{notice.client_id!r} has no such will")
        event = self.event
        in_time = (
            type(event) is ClientConnected
            and self.connecting is not None
            and not event.clean_start
            and (event.client_id or event.assigned_client_id) == notice.client_id
            and session.will_at > self.now
        )
        if session is not self.suppressed and not in_time:
            against("MQTT-3.1.2-8", f"the will of {notice.client_id!r} is discarded, but owed")
        session.will = None

    def _on_will_scheduled(self, notice: WillScheduled) -> None:
        session = self.sessions.get(notice.client_id)
        if session is None or session.will is None or session.will_at != notice.publish_at:
            due = None if session is None else session.will_at
            against(
                "NN-4.1",
                f"the will of {notice.client_id!r} is due at {due!r}, not {notice.publish_at!r}",
            )

    # ------------------------------------------------------------ drops

    def _on_dropped(self, notice: MessageDropped) -> None:
        session = self.sessions.get(notice.client_id)
        if session is None:
            against("host", f"MessageDropped of {notice.client_id!r}, which has no session")
        reason, key = notice.reason, key_of(notice.delivery)
        if notice.delivery.is_retained:
            session.called_up.pop(key[0], None)
        if reason is DropReason.NO_LOCAL:
            self._check_no_local(session, notice)
            return
        if reason is DropReason.REFUSED_BY_CLIENT:
            if self.refused is None or self.refused.key != key:
                against("MQTT-4.4.0-2", f"{notice.client_id!r} did not refuse {key!r}")
            self.refused = None
            return
        # a newcomer gives way that may be like one that waits: its publisher sent it again
        newcomer = session.limits.overflow is OverflowPolicy.DROP_NEWEST and reason in _FULL
        copy = session.find(notice.delivery, newest=newcomer)
        packet_id = None
        resumes = session.conn is not None and session.conn is self.connecting
        # what is in flight goes first
        ends = reason is DropReason.SESSION_ENDED or (reason is DropReason.TOO_LARGE and resumes)
        if copy is None or ends or not copy.is_like(notice.delivery):
            packet_id = session.find_in_flight(notice.delivery, alike=copy is not None)
        if copy is not None and packet_id is None:
            _MAY_DROP[reason](self, session, copy)
            session.release(copy)
            if reason is DropReason.SESSION_ENDED:
                session.dropped.add(key)
            return
        if packet_id is not None:
            self._drop_in_flight(session, packet_id, reason)
        elif not (notice.delivery.is_retained and reason in _CALLED_UP_DROPS):
            against("host", f"{notice.client_id!r} is not owed {key!r}, which it drops")

    def _check_no_local(self, session: WatchedSession, notice: MessageDropped) -> None:
        delivery = notice.delivery
        matches = any(
            subscription.no_local and is_match(topic_filter, delivery.message.topic_name)
            for topic_filter, subscription in session.subscriptions.items()
        )
        if delivery.publisher != session.client_id or not matches:
            against("MQTT-3.8.3-3", f"{session.client_id!r} did not publish {delivery!r} itself")

    def _drop_in_flight(self, session: WatchedSession, packet_id: int, reason: DropReason) -> None:
        """A delivery that has begun is dropped for few reasons only [MQTT-4.4.0-1]."""
        copy, conn = session.in_flight[packet_id], session.conn
        resumes = conn is not None and conn is self.connecting
        if reason is DropReason.SESSION_ENDED:
            self._may_drop_ended(session, copy)
            session.dropped.add(copy.key)
        elif reason is DropReason.TOO_LARGE and resumes:
            self._may_drop_large(session, copy)
            assert conn is not None
            conn.resend.pop(packet_id, None)
            if copy.phase == 2:  # NN-8.7: it goes on with PUBREL
                copy.phase = 3
                del session.in_flight[packet_id]
                session.in_flight[packet_id] = copy
                conn.pubrels[packet_id] = None
                return
        elif reason is DropReason.EXPIRED and resumes and session.policy.expire_in_flight:
            self._may_drop_expired(session, copy)
            if copy.phase == 2:
                against("MQTT-4.3.3-7", f"{copy!r} has begun, and expires")
            assert conn is not None
            conn.resend.pop(packet_id, None)
        else:
            rule = "MQTT-4.3.3-7" if reason is DropReason.EXPIRED else "MQTT-4.4.0-1"
            against(rule, f"{copy!r} has begun, and is dropped as {reason.value}")
        del session.in_flight[packet_id]

    def _may_drop_expired(self, session: WatchedSession, copy: Copy) -> None:
        if copy.expires_at is None or copy.expires_at > self.now:
            against("MQTT-3.3.2-5", f"{copy!r} expires before {copy.expires_at!r}")

    def _may_drop_full(self, session: WatchedSession, copy: Copy) -> None:
        most = session.limits.maximum_queued_messages
        if most is None or session.count <= most:
            against("MQTT-4.5.0-1", f"{copy!r} is dropped from a queue of {session.count - 1}")

    def _may_drop_bytes(self, session: WatchedSession, copy: Copy) -> None:
        if session.limits.maximum_queued_bytes is None:
            against("MQTT-4.5.0-1", f"{copy!r} is dropped for bytes that nobody bounds")

    def _may_drop_offline(self, session: WatchedSession, copy: Copy) -> None:
        if copy.key[2] != 0 or session.limits.queue_qos0 or session.conn is not None:
            against("MQTT-4.5.0-1", f"{copy!r} is dropped as QoS 0 while away")

    def _may_drop_large(self, session: WatchedSession, copy: Copy) -> None:
        conn = session.conn
        if conn is None and session in self.parted:
            conn = session.lost  # which was open when the message came
        if conn is None or (conn.event.maximum_packet_size is None and len(copy.key[1]) < _HUGE):
            against("MQTT-3.1.2-24", f"{copy!r} is too large for nobody")

    def _may_drop_ended(self, session: WatchedSession, copy: Copy) -> None:
        """SESSION_ENDED: in the step of the end, or before it where work comes in slices."""
        over = session.expires_at is not None and session.expires_at <= self.now
        if not over and session.conn is not None:
            against("MQTT-4.5.0-1", f"{copy!r} is dropped with a session that is connected")
        if not (over and self.limited) and session not in self.obliged:
            self.obliged.append(session)

    def _may_drop_purged(self, session: WatchedSession, copy: Copy) -> None:
        event = self.event
        if type(event) is not QueuePurged or event.client_id != session.client_id:
            against("MQTT-4.5.0-1", f"{copy!r} is purged, which nobody asked for")
        if event.received_before is not None and copy.received_at >= event.received_before:
            against("MQTT-4.5.0-1", f"{copy!r} is purged, but arrived later")
        if event.topic_filter is not None and not is_match(event.topic_filter, copy.key[0]):
            against("MQTT-4.5.0-1", f"{copy!r} is purged, but does not match")

    def _on_retained_dropped(self, notice: RetainedMessageDropped) -> None:
        message = notice.message
        topic_name = message.topic_name
        retained = self.alarms.retained
        entry = retained.get(topic_name)
        replaced = self.replaced.get(topic_name)
        if replaced is not None and replaced.message == message:
            # an equal one may have taken its place: a PUBLISH that was sent again
            expired = replaced.expires_at is not None and replaced.expires_at <= self.now
            if expired or entry is None or entry.message != message:
                entry = replaced
        if entry is None or entry.message != message:
            against("MQTT-3.3.1-5", f"{message!r} is dropped, but not retained")
        if entry is not replaced:
            del retained[topic_name]
        late = entry.expires_at is not None and entry.expires_at <= self.now
        if notice.reason is DropReason.EXPIRED and not late:
            against("MQTT-3.3.2-5", f"{entry!r} expires before {entry.expires_at!r}")

    ON_NOTICE: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        SessionCreated: _on_created,
        SessionResumed: _on_resumed,
        SessionTakenOver: _on_taken_over,
        SessionParked: _on_parked,
        SessionEnded: _on_ended,
        InboundQos2TimedOut: _on_timed_out,
        WillPublished: _on_will_published,
        WillDiscarded: _on_will_discarded,
        WillScheduled: _on_will_scheduled,
        MessageDropped: _on_dropped,
        RetainedMessageDropped: _on_retained_dropped,
    }


_MAY_END: dict[EndReason, Callable[[Notices, WatchedSession], None]] = {
    EndReason.CONNECTION_CLOSED: Notices._may_end_closed,
    EndReason.EXPIRED: Notices._may_end_expired,
    EndReason.CLEAN_START: Notices._may_end_clean,
    EndReason.DISCARDED: Notices._may_end_discarded,
}
_MAY_DROP: dict[DropReason, Callable[[Notices, WatchedSession, Copy], None]] = {
    DropReason.EXPIRED: Notices._may_drop_expired,
    DropReason.QUEUE_FULL: Notices._may_drop_full,
    DropReason.BYTES_FULL: Notices._may_drop_bytes,
    DropReason.QOS0_OFFLINE: Notices._may_drop_offline,
    DropReason.TOO_LARGE: Notices._may_drop_large,
    DropReason.SESSION_ENDED: Notices._may_drop_ended,
    DropReason.PURGED: Notices._may_drop_purged,
}
