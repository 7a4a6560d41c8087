"""The books of a `Watch`: what is owed, and what an event or a close changes in them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from mqtt_sessions.actions import Action, CloseConnection
from mqtt_sessions.events import ClientConnected, Event
from mqtt_sessions.messages import Message, Will
from mqtt_sessions.policy import ExpiryPolicy, OverlapPolicy, ServerOptions, SessionLimits
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing._watched import (
    INF,
    KEEP_ALIVE,
    MESSAGE_DUE,
    SESSION_DUE,
    WILL_DUE,
    Alarms,
    Copy,
    Filters,
    RetainedCopy,
    WatchedConnection,
    WatchedSession,
    interval_of,
    is_match,
    keep_alive_of,
    window_of,
)

__all__ = ["Answer", "Books"]

Answer = tuple[type, WatchedConnection, int, str]
"""What a packet has to be answered with: kind, connection, identifier, the rule that says so."""


class Books:
    """Sessions, connections, subscriptions, retained messages, and notes of the present step.

    Attributes:
        deferred: Sessions that a slice of work may have left out.
        calling: Sessions with subscriptions that called up retained messages not sent yet.

    Attributes of the present step:
        event: What happened; None: time passed.
        closing: Connections that it closes.
        answer: What its packet has to be answered with.
        connecting: The connection that it accepts.
        refused: The copy that its acknowledgement refuses.
        is_repeat: It repeats a QoS 2 PUBLISH.
        timed_out: Session and identifier of a QoS 2 exchange that ends before it begins anew.
        suppressed: The session whose will it deletes.
        parted: Sessions that lost their connection in it.
        told_parked: Those of them of which `SessionParked` was said.
        ended: Sessions that ended in it.
        obliged: Sessions that have to end in it.
        owed_wills: Client id, will and policy of what it has to publish.
        replaced: Retained messages that it replaced.
        touched: Sessions that may have something to send.
    """

    def __init__(self, policy: ExpiryPolicy, limits: SessionLimits, options: ServerOptions) -> None:
        self.policy = policy
        self.limits = limits
        self.options = options
        self.sessions: dict[str, WatchedSession] = {}
        self.connections: dict[Hashable, WatchedConnection] = {}
        self.filters = Filters()
        self.alarms = Alarms()
        self.now = -INF
        self.steps = 0
        self.limited = False
        self.deferred: dict[WatchedSession, None] = {}
        self.calling: dict[WatchedSession, None] = {}
        self.event: Event | None = None
        self.closing: list[Hashable] = []
        self.answer: Answer | None = None
        self.connecting: WatchedConnection | None = None
        self.refused: Copy | None = None
        self.is_repeat = False
        self.timed_out: tuple[WatchedSession, int] | None = None
        self.suppressed: WatchedSession | None = None
        self.parted: list[WatchedSession] = []
        self.told_parked: list[WatchedSession] = []
        self.ended: list[WatchedSession] = []
        self.obliged: list[WatchedSession] = []
        self.owed_wills: list[tuple[str, Will, ExpiryPolicy]] = []
        self.replaced: dict[str, RetainedCopy] = {}
        self.touched: dict[WatchedSession, None] = {}

    def begin(self, event: Event | None, now: float, actions: tuple[Action, ...]) -> None:
        """A new step; time that goes back stands still."""
        self.event = event
        self.now = max(self.now, now)
        self.steps += 1
        self.closing = [each.connection for each in actions if type(each) is CloseConnection]
        self.answer = None
        self.connecting = None
        self.refused = None
        self.is_repeat = False
        self.timed_out = None
        self.suppressed = None
        if self.parted:
            self.parted = []
            self.told_parked = []
        if self.ended:
            self.ended = []
            self.obliged = []
        if self.replaced:
            self.replaced = {}
        if self.touched:
            self.touched = {}

    # ------------------------------------------------------------ messages

    def hand_on(
        self,
        message: Message,
        publisher: str | None,
        policy: ExpiryPolicy,
        *,
        is_will: bool = False,
    ) -> None:
        """A message was accepted: each matching session is owed its copy [MQTT-4.5.0-1]."""
        lifetime, told = interval_of(policy, message, is_will=is_will)
        expires_at = None if lifetime is None else self.now + lifetime
        if message.retain and self.options.retain_available:
            self._retain(message, publisher, expires_at, told)
        filters = self.filters.matching(message.topic_name)
        if not filters:
            return
        own = None if publisher is None else self.sessions.get(publisher)
        subscribers = self.filters.subscribers
        if len(filters) == 1 or self.options.overlap is OverlapPolicy.EACH:
            for topic_filter in filters:
                for session, subscription in subscribers[topic_filter].items():
                    if not (subscription.no_local and session is own):  # MQTT-3.8.3-3
                        copy = Copy(session, message, publisher, self.now, expires_at, told)
                        self._owe(copy, message, (subscription,))
            return
        merged: dict[WatchedSession, list[Subscription]] = {}
        for topic_filter in filters:
            for session, subscription in subscribers[topic_filter].items():
                if not (subscription.no_local and session is own):  # NN-12.4
                    merged.setdefault(session, []).append(subscription)
        for session, matching in merged.items():
            copy = Copy(session, message, publisher, self.now, expires_at, told)
            self._owe(copy, message, matching)

    def _owe(
        self, copy: Copy, message: Message, matching: list[Subscription] | tuple[Subscription, ...]
    ) -> None:
        """One copy at the highest matching QoS, with all identifiers [MQTT-3.3.4-4] [NN-12.4]."""
        session = copy.session
        qos = 0
        retain = False
        for subscription in matching:
            qos = max(qos, subscription.qos)
            retain = retain or subscription.retain_as_published
            if subscription.subscription_id is not None:
                copy.ids = (*copy.ids, subscription.subscription_id)
        if not self.options.upgrade_qos:
            qos = min(qos, message.qos)  # MQTT-3.8.4-8
        copy.retain = retain and message.retain and self.options.retain_available
        copy.step = self.steps
        session.accept(copy, qos)
        if session.expires_at is not None and session.expires_at <= self.now:
            copy.doubtful = True  # it is over: law 5 lets it end first, or with the copy
        elif copy.expires_at is not None:
            self.alarms.at(copy.expires_at, MESSAGE_DUE, copy)
        if self.limited:
            self.deferred[session] = None
        else:
            self.touched[session] = None

    def _retain(
        self, message: Message, publisher: str | None, expires_at: float | None, told: int | None
    ) -> None:
        """MQTT-3.3.1-5 to MQTT-3.3.1-7; what lives for no time is not stored [NN-9.4]."""
        retained = self.alarms.retained
        old = retained.pop(message.topic_name, None)
        if old is not None:
            self.replaced[message.topic_name] = old
        if message.payload and expires_at != self.now:
            entry = RetainedCopy(message, publisher, self.now, expires_at, told)
            retained[message.topic_name] = entry
            if expires_at is not None:
                self.alarms.at(expires_at, MESSAGE_DUE, entry)

    def subscribed(self, session: WatchedSession, wanted: Subscription) -> None:
        """A subscription was made or replaced; what is retained may have to follow.

        *Cost* O(retained messages).

        Spec: MQTT 5.0 §3.3.1.3 [MQTT-3.3.1-9] to [MQTT-3.3.1-11].
        """
        is_new = wanted.topic_filter not in session.subscriptions
        self.filters.add(session, wanted)
        handling = wanted.retain_handling
        if not self.options.retain_available or handling == 2 or (handling == 1 and not is_new):
            return
        for topic_name, entry in self.alarms.retained.items():
            own = wanted.no_local and entry.publisher == session.client_id
            if not own and is_match(wanted.topic_filter, topic_name):
                session.called_up[topic_name] = entry
                self.calling[session] = None

    def unsubscribed(self, session: WatchedSession, topic_filter: str) -> None:
        """A subscription is gone, and what it called up with it."""
        self.filters.remove(session, topic_filter)
        for topic_name in list(session.called_up):
            if is_match(topic_filter, topic_name):
                del session.called_up[topic_name]

    # ------------------------------------------------------------ connections and sessions

    def bind(self, session: WatchedSession, conn: WatchedConnection, *, resumed: bool) -> None:
        """A CONNECT was accepted for this session."""
        event: ClientConnected = conn.event
        session.conn = conn
        session.policy = event.policy or self.policy
        session.limits = event.limits or self.limits
        session.own_limits = event.limits is not None
        session.interval = session.policy.at_connect(
            event.protocol_version, event.clean_start, event.session_expiry_interval
        )
        session.expires_at = None
        session.will = event.will  # NN-4.7
        session.delay_at = INF
        conn.session = session
        conn.accepted = True
        conn.resumed = resumed
        conn.window = window_of(event, session.limits)
        conn.pause = keep_alive_of(event, self.options)
        if conn.pause < INF:
            conn.due = self.now + conn.pause
            self.alarms.at(conn.due, KEEP_ALIVE, conn)
        for packet_id, copy in session.in_flight.items():
            (conn.pubrels if copy.phase == 3 else conn.resend)[packet_id] = None
        self.touched[session] = None

    def part(self, conn: WatchedConnection) -> None:
        """A connection ends: expiry and will delay begin to run [NN-1.1], [NN-4.1]."""
        session = conn.session
        if session is None or session.conn is not conn:
            return
        session.conn, session.lost = None, conn
        self.parted.append(session)
        interval = session.interval
        session.expires_at = None if interval is None else self.now + interval
        session.parked_until = session.expires_at
        if session.expires_at is not None:
            self.alarms.at(session.expires_at, SESSION_DUE, session)
        if session.will is not None and session is not self.suppressed:
            delay = session.will.will_delay_interval
            session.delay_at = self.now + (delay if interval != 0 else 0)
            self.alarms.at(session.will_at, WILL_DUE, session)

    def owe_will(self, session: WatchedSession) -> None:
        """The will has to be published in this step."""
        if session.will is not None:
            self.owed_wills.append((session.client_id, session.will, session.policy))
            session.will = None
            session.delay_at = INF

    def alive(self, event: Any) -> WatchedConnection | None:
        """The open connection of a packet, its keep alive renewed [NN-5.5]."""
        conn = self.connections.get(event.connection)
        if conn is None or conn.closed:
            return None
        if conn.due <= self.now:
            conn.expects_close = KEEP_ALIVE
            return None
        conn.due = self.now + conn.pause
        return conn

    def named(self, client_id: str) -> WatchedSession | None:
        """The session that a host's event names, unless it is over."""
        session = self.sessions.get(client_id)
        if session is None:
            return None
        conn = session.conn
        if conn is not None and conn.due <= self.now:
            self.part(conn)  # which comes before the event
        if session.conn is None and session.interval == 0:
            return None
        over = session.expires_at is not None and session.expires_at <= self.now
        return None if over else session
