"""Invariants of a session layer, checked from outside: each event, what came of it, each deadline.

A `Watch` sees what a host sees, and nothing else: the events that went in, the actions and notices
that came out, and `next_deadline_at`. It keeps books of what is owed to whom, so that each step
costs what it changes, whatever went before. It knows no reason why one of several allowed things
happens; a `Model` knows more, and is slower.

| What holds after each step | Statement |
|---|---|
| A QoS 2 PUBLISH is handed on once, however often it is repeated | MQTT-4.3.3-10 |
| ... is acknowledged until PUBREL, connections and crashes between | MQTT-4.3.3-10, NN-7.4 |
| Each receiver gets one copy, or one for each match | NN-12.3, MQTT-3.8.3-3 |
| ... at the right QoS, with RETAIN flag, identifiers, interval | MQTT-3.8.4-8, MQTT-3.3.1-12, \
MQTT-3.3.4-4, MQTT-3.3.2-6 |
| What was accepted is sent, queued, or dropped for a reason that may be | MQTT-4.5.0-1 |
| ... and what has begun is not dropped, expired or not | MQTT-4.4.0-1, MQTT-4.3.3-7 |
| Nothing waits while it might be sent | MQTT-4.5.0-1, NN-8.4 |
| Retained messages that a subscription calls up are sent | MQTT-3.3.1-9, MQTT-3.3.1-10 |
| Order is kept for each publisher, topic and QoS | MQTT-4.6.0-5 |
| PUBLISHes are sent again before new ones, in order, DUP 1, same identifiers | MQTT-4.4.0-1, \
NN-15.3, 3.1.1 MQTT-4.6.0-1, MQTT-3.3.1-1, NN-8.3 |
| PUBRELs are sent again at once, in the order of their PUBRECs | MQTT-4.4.0-1, NN-8.4b, \
3.1.1 MQTT-4.6.0-4 |
| No PUBLISH after its PUBREC | MQTT-4.3.3-6 |
| The send quota holds for each connection | MQTT-4.9.0-2, NN-10.8 |
| No identifier in flight is given again | MQTT-2.2.1-4 |
| Each packet is answered once, by a code that the answer can carry | MQTT-4.3.2-4, MQTT-4.3.3-4, \
MQTT-4.3.3-8, MQTT-3.4.2-1 and others |
| CONNACK comes first, and once; DISCONNECT comes last | MQTT-3.2.0-1, MQTT-3.2.0-2, MQTT-3.14.4-1 |
| Nothing but a close follows a CONNACK that refuses | MQTT-3.2.2-7, MQTT-3.14.0-1 |
| Who breaks a rule is closed | MQTT-4.13.1-1, MQTT-3.1.0-2, 3.1.1 MQTT-4.8.0-1 |
| Nothing is sent on a closed or congested connection, or to a session that has ended | host |
| Sessions begin, resume, park and end one after the other, and when they may | NN-1.1, NN-1.2, \
NN-3.3, MQTT-3.1.2-4 |
| A will is published at most once, when due, and never after it was deleted | MQTT-3.1.2-8, \
MQTT-3.1.2-10, MQTT-3.14.4-3 |
| Nothing ends before its deadline, and nothing outlives it | MQTT-3.3.2-5, MQTT-3.1.2-22, NN-1.1 |
| `next_deadline_at` is never later than what is due next | host |

The laws of time are in `docs/reference/time.md`. A `Watch` reads notices: a subject that gives none
can only be judged by a model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mqtt_sessions.events import Event
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.testing._watch_actions import Actions
from mqtt_sessions.testing._watch_crash import Crashes
from mqtt_sessions.testing._watch_events import Events
from mqtt_sessions.testing._watch_notices import Notices
from mqtt_sessions.testing._watched import RetainedCopy, Violation, WatchedSession, against
from mqtt_sessions.turn import Outcome

__all__ = ["Violation", "Watch"]

_MAX_PACKET_ID = 65_535


class Watch(Events, Notices, Actions, Crashes):
    """Checks all invariants after each step of a subject with a store's door.

    Feed it everything from the beginning: it takes the subject for empty when it is made.

    Args:
        policy: The subject's.
        limits: The subject's.
        options: The subject's.

    *Bound* on memory: what the subject holds, and what is retained.
    """

    def __init__(
        self,
        policy: ExpiryPolicy | None = None,
        limits: SessionLimits | None = None,
        options: ServerOptions | None = None,
    ) -> None:
        super().__init__(
            policy or ExpiryPolicy(), limits or SessionLimits(), options or ServerOptions()
        )

    def step(
        self,
        event: Event | None,
        now: float,
        outcome: Outcome,
        next_deadline_at: float | None,
        *,
        limited: bool = False,
    ) -> None:
        """Judge one step.

        Args:
            event: What `handle` was given; None: it was `handle_timeout`.
            now: The clock.
            outcome: What came of it.
            next_deadline_at: The subject's, after the step.
            limited: `handle_timeout` was given a limit, so that something may be left due.

        Raises:
            Violation: A rule was broken.

        *Cost* O(actions + notices + receivers of what was published * log deadlines).
        """
        self.limited = limited
        actions, notices = outcome.actions, outcome.notices
        self.begin(event, now, actions)
        if event is not None:
            handler = self.ON_EVENT.get(type(event))
            if handler is not None:
                handler(self, event, actions)
        for connection in self.closing:
            conn = self.connections.get(connection)
            if conn is not None:
                self.part(conn)
        for notice in notices:
            tell: Callable[[Any, Any], None] | None = self.ON_NOTICE.get(type(notice))
            if tell is not None:
                tell(self, notice)
        for action in actions:
            check = self.ON_ACTION.get(type(action))
            if check is None:
                against("host", f"a store does not ask for {action!r}")
            check(self, action)
        self._check_event_answered()
        if self.parted or self.ended or self.owed_wills or self.obliged or self.suppressed:
            self._check_lives()
        for session in self.touched:
            self._check_nothing_idle(session)
        self._check_deadlines(next_deadline_at)

    def restored(self) -> None:
        """The subject was restored from a snapshot after a crash; see `recovered` for a journal.

        What it did before still holds, whether or not anybody saw it; the host reports each
        connection as lost, one after the other, before it feeds anything else.
        """

    # ------------------------------------------------------------ the end of a step

    def _check_event_answered(self) -> None:
        answer = self.answer
        if answer is not None:
            kind, conn, packet_id, rule = answer
            if not conn.closed:
                against(rule, f"{kind.__name__} {packet_id} on {conn.connection!r} is missing")
        if self.refused is not None:
            against("host", f"{self.refused!r} was refused, and no drop is told")
        connection = getattr(self.event, "connection", None)
        if connection is None:
            return
        conn_of = self.connections.get(connection)
        if conn_of is not None and conn_of.expects_close:
            rule = conn_of.expects_close
            against(rule, f"{connection!r} has to be closed after {self.event!r}")
        if self.connecting is not None and conn_of is not None:
            if not conn_of.told or not conn_of.accepted:
                against("MQTT-3.1.4-5", f"{connection!r} is accepted, and no session is told")
            if conn_of.pubrels:
                against("MQTT-4.4.0-1", f"PUBREL {list(conn_of.pubrels)} are not sent again")

    def _check_lives(self) -> None:
        """Who lost its connection is parked or has ended; who has ended left nothing behind."""
        for session in self.ended:
            for copies in session.waiting.values():
                for copy in copies:
                    copy.waiting = False
                    if copy.step != self.steps and not copy.doubtful:
                        against("host", f"{copy!r} is lost with its session, and no drop is told")
            for copy in session.in_flight.values():
                if copy.phase < 3 and copy.step != self.steps:
                    against("host", f"{copy!r} in flight is lost, and no drop is told")
            session.waiting.clear()
            session.in_flight.clear()
        for session in self.parted:
            if session.ended or session.conn is not None:
                continue
            if session.interval == 0:
                against("NN-1.2", f"{session.client_id!r} outlives its connection")
            if session not in self.told_parked:
                against("host", f"{session.client_id!r} is parked, which is not told")
            if session.will_at <= self.now:
                against("MQTT-3.1.2-8", f"the will of {session.client_id!r} is not published")
        suppressed = self.suppressed
        if suppressed is not None and not suppressed.ended and suppressed.will is not None:
            against("MQTT-3.14.4-3", f"the will of {suppressed.client_id!r} is not deleted")
        if self.owed_wills:
            against("MQTT-3.1.2-8", f"the will of {self.owed_wills[0][0]!r} is not published")
        for session in self.obliged:
            if not session.ended:
                against("MQTT-4.5.0-1", f"{session.client_id!r} drops as if it had ended")

    def _check_nothing_idle(self, session: WatchedSession) -> None:
        """Nothing waits while it might be sent; and no queue is longer than its bound."""
        conn = session.conn
        if session.ended or (self.deferred and session in self.deferred):
            return
        if conn is not None and not conn.congested:
            room = len(conn.units) < conn.window
            if conn.resend and room:
                against("NN-8.4", f"{len(conn.resend)} wait to be sent again, and there is room")
            if session.count and room and len(session.in_flight) < _MAX_PACKET_ID:
                copy = next(iter(session.waiting.values()))[0]
                against("MQTT-4.5.0-1", f"{copy!r} waits or is lost, and there is room")
        most = session.limits.maximum_queued_messages
        grew = session.counted_in == self.steps and session.count > session.count_before
        if grew and most is not None and session.count > most:
            # a bound that became smaller drives nobody out, but lets nobody in
            against("host", f"{session.client_id!r} queues {session.count}, {most} at most")

    def _check_called_up(self) -> None:
        """Retained messages follow at once where there is room, a batch for each call."""
        for session in list(self.calling):
            conn = session.conn
            if session.ended or not session.called_up:
                del self.calling[session]
            elif conn is not None and not conn.congested and not session.count:
                left = self._called_up_by(session) if len(conn.units) < conn.window else []
                if left and len(session.in_flight) < _MAX_PACKET_ID:
                    against("MQTT-3.3.1-9", f"{session.client_id!r} was not sent {left[0]!r}")

    def _called_up_by(self, session: WatchedSession) -> list[RetainedCopy]:
        """What a subscription called up and is still retained."""
        return [
            entry
            for topic_name, entry in session.called_up.items()
            if self.alarms.retained.get(topic_name) is entry
        ]

    def _check_deadlines(self, next_deadline_at: float | None) -> None:
        first = self.alarms.first()
        timed = self.event is None and not self.limited
        if timed and self.deferred:
            deferred, self.deferred = self.deferred, {}
            for session in deferred:
                self._check_nothing_idle(session)
        if timed and self.calling:
            self._check_called_up()
        if first is not None:
            instant, rule, subject = first
            if timed and instant <= self.now:
                against(rule, f"{subject!r} outlives its deadline {instant!r}")
            if next_deadline_at is None or next_deadline_at > instant:
                against("host", f"next is {next_deadline_at!r}, but {instant!r} is due: {rule}")
        if timed and next_deadline_at is not None and next_deadline_at <= self.now:
            against("host", f"next is {next_deadline_at!r} at {self.now!r}, after all was done")

    # ------------------------------------------------------------ for the end of a run

    def unfinished(self) -> list[str]:
        """What is on its way: copies, retained messages called up, incoming QoS 2 exchanges.

        *Cost* O(all of it).
        """
        found: list[str] = []
        for session in self.sessions.values():
            for copies in session.waiting.values():
                found += [f"waits: {copy!r}" for copy in copies]
            for packet_id, copy in session.in_flight.items():
                found.append(f"in flight as {packet_id}, phase {copy.phase}: {copy!r}")
            found += [f"{session.client_id!r} has not released {each}" for each in session.inbound]
            found += [
                f"{session.client_id!r} was not sent {entry!r}"
                for entry in self._called_up_by(session)
            ]
        return found
