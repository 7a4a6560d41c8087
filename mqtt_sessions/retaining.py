"""Retained messages: kept, given up, and sent to those who call them up by SUBSCRIBE.

Spec: MQTT 5.0 §3.3.1.3, §3.8.4; unnumbered rules of section 14.
"""

from __future__ import annotations

import math

from mqtt_sessions import outbound
from mqtt_sessions.actions import SendPublish
from mqtt_sessions.changes import RetainedStored
from mqtt_sessions.connection import Link
from mqtt_sessions.deadlines import DeadlineKind, Timer
from mqtt_sessions.engine import Engine
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.notices import DropReason, MessageDropped, RetainedMessageDropped
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.retained import Replay, Retained, RetainedStore
from mqtt_sessions.state import NO_LOCAL, QOS, Route, SessionState
from mqtt_sessions.turn import SizeOf, Turn

__all__ = ["Retaining", "not_local"]


class Retaining(Engine):
    """An engine that has retained messages, and replays of them under way."""

    def __init__(
        self,
        policy: ExpiryPolicy,
        limits: SessionLimits,
        options: ServerOptions,
        size_of: SizeOf | None,
    ) -> None:
        super().__init__(policy, limits, options, size_of)
        self._retained = RetainedStore()
        self._replays: dict[SessionState, Replay] = {}
        self._arrived_at = -math.inf

    # ------------------------------------------------------------ kept and given up

    def _retain(
        self,
        message: Message,
        publisher: str | None,
        lifetime: float | None,
        told: int | None,
        turn: Turn,
    ) -> bool:
        """Set, replace or clear the topic's retained message; False if it has to be refused.

        Where there is no room for a message of QoS 0, which may be discarded at any time, the
        topic has none: the older one is gone in any case.

        *Cost* O(log topics + messages that give way).

        Spec: MQTT 5.0 §3.3.1.3 [MQTT-3.3.1-5] to [MQTT-3.3.1-7] [NN-14.2].
        """
        if not self._settings.options.retain_available:
            return True
        topic_name = message.topic_name
        old = self._retained.get(topic_name)
        if old is not None and old.at <= turn.now:
            self._expire_retained(old, turn)  # law 5
        if not message.payload or lifetime == 0:
            self._unretain(topic_name, turn)
            return True
        limits = self._settings.limits
        while (reason := self._retained.lacks_room(message, limits)) is not None:
            # what is due counts no longer, though its timer may be late
            timer = turn.deadlines.first_due(DeadlineKind.RETAINED_EXPIRY, turn.now)
            if timer is None:
                break
            self._expire_retained(timer, turn)
        if reason is not None:
            victims = self._retained.victims(message, limits)
            if victims is None:
                if message.qos:
                    return False
                self._unretain(topic_name, turn)
                turn.notices.append(RetainedMessageDropped(message, reason))
                return True
            for victim in victims:
                self._unretain(victim.message.topic_name, turn)
                turn.notices.append(RetainedMessageDropped(victim.message, reason))
        self._unretain(topic_name, turn)
        entry = Retained(message, self._arrived_at, told, publisher)
        self._retained.put(entry)
        expires_at = None
        if lifetime is not None:
            expires_at = turn.now + lifetime
            turn.deadlines.arm(entry, expires_at, lifetime)
        if turn.recorder is not None:
            turn.recorder.retained(
                RetainedStored(message, self._arrived_at, expires_at, told, publisher)
            )
        return True

    def _retain_anyway(
        self,
        message: Message,
        publisher: str | None,
        lifetime: float | None,
        told: int | None,
        turn: Turn,
    ) -> None:
        """The same for a message that is distributed in any case.

        Without room for it, the topic's old message goes all the same: it would pass for the
        newest.
        """
        if not self._retain(message, publisher, lifetime, told, turn):
            reason = self._retained.lacks_room(message, self._settings.limits)
            assert reason is not None
            self._unretain(message.topic_name, turn)
            turn.notices.append(RetainedMessageDropped(message, reason))

    def _unretain(self, topic_name: str, turn: Turn) -> None:
        entry = self._retained.pop(topic_name)
        if entry is not None:
            turn.deadlines.disarm(entry)
            if turn.recorder is not None:
                turn.recorder.unretained(topic_name)

    def _expire_retained(self, timer: Timer, turn: Turn) -> None:
        assert isinstance(timer, Retained)
        self._unretain(timer.message.topic_name, turn)
        turn.notices.append(RetainedMessageDropped(timer.message, DropReason.EXPIRED))

    # ------------------------------------------------------------ called up

    def _refill(self, session: SessionState, link: Link, turn: Turn) -> None:
        replay = self._replays.get(session) if self._replays else None
        if replay is None:
            queue = session.queue
            if link.held or (queue is not None and queue.items):
                outbound.pump(session, link, turn)
            return
        link.replaying = True
        link.smooth()
        # Live and retained messages take turns, so that neither waits for the other for ever.
        if replay.first:
            self._replay(replay, link, 1, turn)
        replay.first = not replay.first
        start = len(turn.actions)
        outbound.pump(session, link, turn)
        self._note_sent(session, turn, start)
        self._replay(replay, link, session.settings.limits.retained_replay_batch, turn)

    def _resume(self, session: SessionState, link: Link, turn: Turn) -> None:
        start = len(turn.actions)
        outbound.resume(session, link, turn)
        self._note_sent(session, turn, start)
        self._refill(session, link, turn)

    def _replay(self, replay: Replay, link: Link, sends: int, turn: Turn) -> int:
        """Send retained messages while there is room; the number sent.

        Live messages that wait go before a retained one that is not older than all of them, for
        among them may be older ones of its topic [MQTT-4.6.0-5]. Cut off at `sends` messages, or
        ten times as many topics looked at, it goes on at once through the index of deadlines;
        without room it goes on as acknowledgements come in.
        """
        session = replay.session
        if turn.recorder is not None:
            turn.recorder.touch_replay(session)
        replay.looks = 10 * sends
        sent = 0
        while sent < sends:
            if not outbound.has_room(session, link):
                turn.deadlines.disarm(replay)
                return sent
            found = replay.next_match(self._retained)
            if found is None:
                break
            entry, route = found
            head = None if session.queue is None else session.queue.peek()
            if head is not None and entry.received_at >= head.received_at:
                turn.deadlines.disarm(replay)
                return sent
            replay.passed(route.topic_filter, entry.message.topic_name)
            if entry.at <= turn.now:  # NN-9.3
                self._expire_retained(entry, turn)
                continue
            delivery = _make_retained(entry, route, self._settings.options.upgrade_qos)
            if route.options & NO_LOCAL and entry.publisher == session.client_id:
                turn.notices.append(not_local(session, delivery))
                continue
            outbound.offer_retained(session, link, delivery, turn)
            sent += 1
        if replay.cursors:
            turn.deadlines.arm(replay, turn.now, 0.0)
        else:
            self._end_replay(replay, turn)
        return sent

    def _end_replay(self, replay: Replay, turn: Turn) -> None:
        turn.deadlines.disarm(replay)
        if turn.recorder is not None:
            turn.recorder.touch_replay(replay.session)
        self._replays.pop(replay.session, None)
        link = replay.session.link
        if link is not None:
            link.replaying = False
            link.smooth()

    def _note_sent(self, session: SessionState, turn: Turn, start: int) -> None:
        """Tell a replay which live messages its session was sent, from an action on."""
        replay = self._replays.get(session) if self._replays else None
        if replay is not None:
            if turn.recorder is not None:
                turn.recorder.touch_replay(session)
            for action in turn.actions[start:]:
                if isinstance(action, SendPublish):
                    replay.note_sent(action.delivery, self._retained)


def not_local(session: SessionState, delivery: Delivery) -> MessageDropped:
    """Told, and not counted: a message that No Local keeps from its publisher was not accepted."""
    return MessageDropped(session.client_id, delivery, DropReason.NO_LOCAL)


def _make_retained(entry: Retained, route: Route, upgrade: bool) -> Delivery:
    """A retained message for one receiver: RETAIN 1 whatever the options say [NN-12.6].

    Spec: MQTT 3.1.1 §3.3.1.3 [3.1.1 MQTT-3.3.1-8].
    """
    message, options = entry.message, route.options
    granted = options & QOS
    return Delivery(
        message,
        granted if upgrade else min(message.qos, granted),
        True,
        Route.subscription_ids(options),
        entry.received_at,
        None if entry.lane is None else entry.at,
        entry.told,
        entry.publisher,
        True,
    )
