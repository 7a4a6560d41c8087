"""The books of a `Watch` after a crash: what a journal gives back."""

from __future__ import annotations

from collections import OrderedDict

from mqtt_sessions.testing._watch_books import Books
from mqtt_sessions.testing._watched import (
    MESSAGE_DUE,
    SESSION_DUE,
    WILL_DUE,
    Copy,
    WatchedConnection,
    WatchedSession,
)

__all__ = ["Crashes"]


class Crashes(Books):
    """What is left of sessions, connections and copies."""

    def recovered(self, now: float) -> None:
        """The subject was recovered from its journal: all connections were cut at this instant.

        What the watch has seen is what the journal has; steps that were not durable it was not
        told of. Nobody reports the connections as lost. Sessions whose interval is 0 are gone, but
        for their wills; QoS 1 messages in flight wait again.

        *Cost* O(everything).
        """
        self.now = max(self.now, now)
        for session in list(self.sessions.values()):
            conn, session.conn = session.conn, None
            if conn is not None:
                self._cut(session, conn)
            if not session.ended:
                self._wait_again(session)
        for conn in self.connections.values():
            conn.closed = True
        self.connections.clear()
        self.deferred.clear()
        self.parted.clear()
        self.told_parked.clear()
        self.ended.clear()

    def _cut(self, session: WatchedSession, conn: WatchedConnection) -> None:
        """NN-4.5: the interval and the will's delay run from the restart."""
        session.lost = conn
        interval, will = session.interval, session.will
        if interval == 0:
            self._empty(session)
            if will is None:
                session.ended = True
                del self.sessions[session.client_id]
                return
        session.expires_at = None if interval is None else self.now + interval
        if session.expires_at is not None:
            self.alarms.at(session.expires_at, SESSION_DUE, session)
        if will is not None:
            session.delay_at = self.now + (will.will_delay_interval if interval != 0 else 0)
            self.alarms.at(session.will_at, WILL_DUE, session)

    def _empty(self, session: WatchedSession) -> None:
        """Nothing is left of a session that ended with its connection."""
        for topic_filter in list(session.subscriptions):
            self.filters.remove(session, topic_filter)
        for copies in session.waiting.values():
            for copy in copies:
                copy.waiting = False
        session.waiting.clear()
        session.streams.clear()
        session.count = 0
        session.in_flight.clear()
        session.inbound.clear()
        session.called_up.clear()

    def _wait_again(self, session: WatchedSession) -> None:
        """QoS 1 in flight waits before what waits already; QoS 2 goes on."""
        again = [(name, copy) for name, copy in session.in_flight.items() if copy.key[2] == 1]
        for packet_id, copy in again:
            del session.in_flight[packet_id]
            copy.waiting = True
            copy.sent = 0
            if copy.was_unmarked:
                copy.retain = None  # it may keep the RETAIN flag that a 3.x client was sent
            session.waiting.setdefault(copy.key, []).append(copy)
            session.count += 1
            if copy.is_retained:  # it stands where it arrived, which is not where it was sent
                publisher, topic_name, qos = copy.stream_key
                copy.stream_key = (publisher, "\0" + topic_name.lstrip("\0"), qos)
            if copy.expires_at is not None:
                self.alarms.at(copy.expires_at, MESSAGE_DUE, copy)
        for _, copy in reversed(again):
            stream: OrderedDict[Copy, None] = session.streams.setdefault(
                copy.stream_key, OrderedDict()
            )
            stream[copy] = None
            stream.move_to_end(copy, last=False)
            copy.stream = stream
