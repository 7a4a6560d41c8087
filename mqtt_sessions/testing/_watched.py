"""What a `Watch` remembers of sessions, connections and copies, and how it says that a rule broke.

Everything here was seen from outside: in events, actions and notices. What is finished is
forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import NoReturn

from mqtt_sessions.events import ClientConnected
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.subscriptions import Subscription

__all__ = [
    "INF",
    "KEEP_ALIVE",
    "MESSAGE_DUE",
    "SESSION_DUE",
    "WILL_DUE",
    "Alarms",
    "Copy",
    "Filters",
    "Key",
    "RetainedCopy",
    "Violation",
    "WatchedConnection",
    "WatchedSession",
    "against",
    "interval_of",
    "is_match",
    "keep_alive_of",
    "key_of",
    "window_of",
]

INF = float("inf")
KEEP_ALIVE = "MQTT-3.1.2-22"
WILL_DUE = "MQTT-3.1.2-8"
SESSION_DUE = "NN-1.1"
MESSAGE_DUE = "MQTT-3.3.2-5"
Key = tuple[str, bytes, int]
"""Topic name, payload and QoS: by which a PUBLISH is matched to a copy that is owed."""
StreamKey = tuple[str | None, str, int]
"""Publisher, topic name and QoS: within it the order of arrival is kept [MQTT-4.6.0-5]."""


_ONE_READING = 1e-3
"""Seconds within which an arrival belongs to a reading of the clock."""


class Violation(AssertionError):
    """A subject did what no rule allows, or left out what a rule asks for.

    Attributes:
        rule: Id of the statement, `host` for contracts between library and host.
        detail: What happened.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"[{rule}] {detail}")
        self.rule = rule
        self.detail = detail


def against(rule: str, detail: str) -> NoReturn:
    """Raise `Violation`."""
    raise Violation(rule, detail)


class Copy:
    """One message on its way to one session.

    Attributes:
        stream: Those of the same publisher, topic and QoS that wait, in order of arrival.
        waiting: Neither sent nor dropped.
        phase: 1 waits for PUBACK, 2 for PUBREC, 3 for PUBCOMP.
        step: When it was accepted.
        sent: Step in which it was sent first.
        is_retained: A subscription called it up.
        was_unmarked: It was sent to a 3.x client, without its RETAIN flag.
        doubtful: Whether the session took it depends on whether it had ended.
    """

    __slots__ = (
        "doubtful",
        "expires_at",
        "ids",
        "is_retained",
        "key",
        "phase",
        "received_at",
        "retain",
        "sent",
        "session",
        "step",
        "stream",
        "stream_key",
        "told",
        "waiting",
        "was_unmarked",
    )

    def __init__(
        self,
        session: WatchedSession,
        message: Message,
        publisher: str | None,
        received_at: float,
        expires_at: float | None,
        told: int | None,
    ) -> None:
        self.session = session
        self.key: Key = (message.topic_name, message.payload, 0)
        self.stream_key: StreamKey = (publisher, message.topic_name, 0)
        self.received_at = received_at
        self.expires_at = expires_at
        self.told = told
        self.retain: bool | None = False
        self.was_unmarked = False
        self.ids: tuple[int, ...] = ()
        self.step = 0
        self.sent = 0
        self.doubtful = False
        self.is_retained = False
        self.phase = 0
        self.waiting = False
        self.stream: OrderedDict[Copy, None] | None = None

    def at(self, qos: int) -> None:
        """It will be delivered at this QoS."""
        topic_name, payload, _ = self.key
        self.key = (topic_name, payload, qos)
        self.stream_key = (self.stream_key[0], topic_name, qos)
        self.phase = qos

    def is_like(self, delivery: Delivery) -> bool:
        """Whether it is this delivery, among others of equal topic, payload and QoS.

        A store may tell those apart that arrive at one reading of the clock, by the least steps.
        """
        return (
            0.0 <= delivery.received_at - self.received_at < _ONE_READING
            and self.expires_at == delivery.expires_at
            and self.stream_key[0] == delivery.publisher
        )

    def __repr__(self) -> str:
        topic, payload, qos = self.key
        return f"{payload!r} on {topic!r} at QoS {qos} for {self.session.client_id!r}"


class WatchedConnection:
    """A network connection, from its CONNECT to its `ConnectionLost`.

    Attributes:
        due: When keep alive ends it; infinity: never.
        expects_close: The rule by which the present step has to close it; empty: none.
        congested: The step in which it became so, 0: it is not.
        units: Identifiers of PUBLISHes sent on it and not settled.
        resend: Identifiers to be sent again, in order of first sending.
        pubrels: Identifiers whose PUBREL is to be sent again, in order of their PUBRECs.
    """

    __slots__ = (
        "accepted",
        "closed",
        "congested",
        "connection",
        "disconnected",
        "due",
        "event",
        "expects_close",
        "filed",
        "pause",
        "pubrels",
        "resend",
        "resumed",
        "session",
        "told",
        "units",
        "version",
        "window",
    )

    def __init__(self, event: ClientConnected) -> None:
        self.connection: Hashable = event.connection
        self.event = event
        self.version = event.protocol_version
        self.session: WatchedSession | None = None
        self.accepted = False
        self.told = False
        self.resumed = False
        self.closed = False
        self.disconnected = False
        self.expects_close = ""
        self.congested = 0
        self.window = 0
        self.pause = INF
        self.due = INF
        self.filed = INF
        self.units: set[int] = set()
        self.resend: OrderedDict[int, None] = OrderedDict()
        self.pubrels: OrderedDict[int, None] = OrderedDict()

    def cite(self, rule: str, rule_of_3: str) -> str:
        """The statement of its version, where they differ by more than a number."""
        return rule if self.version == 5 else f"3.1.1 {rule_of_3}"

    @property
    def fault(self) -> str:
        """By which statement a client that breaks the protocol is closed."""
        return self.cite("MQTT-4.13.1-1", "MQTT-4.8.0-1")

    def __repr__(self) -> str:
        return f"connection {self.connection!r}"


class WatchedSession:
    """A session, from `SessionCreated` to `SessionEnded`.

    Attributes:
        interval: Session Expiry Interval in force; 0: ends with the connection, None: never.
        lost: The connection before.
        parked_until: What `SessionParked` has to say.
        will: Of the open connection, or waiting until `will_at`.
        delay_at: When the will's delay is over; infinity while connected.
        waiting: Copies neither sent nor dropped.
        count: How many; in the step `counted_in` they began as `count_before`.
        in_flight: Copies sent and not settled, PUBREL phases in order of their PUBRECs.
        inbound: Incoming QoS 2 identifiers, each with the instant at which it may be forgotten.
        called_up: Retained messages that a subscription called up, by topic; not sent yet.
        dropped: What was dropped with the session, in the step in which it ended.
    """

    __slots__ = (
        "called_up",
        "client_id",
        "conn",
        "count",
        "count_before",
        "counted_in",
        "delay_at",
        "dropped",
        "ended",
        "expires_at",
        "in_flight",
        "inbound",
        "interval",
        "limits",
        "lost",
        "own_limits",
        "parked_until",
        "policy",
        "streams",
        "subscriptions",
        "waiting",
        "will",
    )

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.conn: WatchedConnection | None = None
        self.lost: WatchedConnection | None = None
        self.policy = ExpiryPolicy()
        self.limits = SessionLimits()
        self.own_limits = False
        self.interval: float | None = 0
        self.expires_at: float | None = None
        self.parked_until: float | None = None
        self.ended = False
        self.will: Will | None = None
        self.delay_at = INF
        self.subscriptions: dict[str, Subscription] = {}
        self.waiting: dict[Key, list[Copy]] = {}
        self.count = 0
        self.count_before = 0
        self.counted_in = 0
        self.streams: dict[StreamKey, OrderedDict[Copy, None]] = {}
        self.in_flight: dict[int, Copy] = {}
        self.inbound: dict[int, float] = {}
        self.dropped: set[Key] = set()
        self.called_up: dict[str, RetainedCopy] = {}

    def __repr__(self) -> str:
        return f"session of {self.client_id!r}"

    @property
    def will_at(self) -> float:
        """When the will is due [MQTT-3.1.2-8]; infinity without one, or while connected."""
        if self.will is None or self.delay_at == INF:
            return INF
        return self.delay_at if self.expires_at is None else min(self.delay_at, self.expires_at)

    def accept(self, copy: Copy, qos: int) -> None:
        """A copy is owed from now on. *Cost* O(1)."""
        if self.counted_in != copy.step:
            self.counted_in = copy.step
            self.count_before = self.count
        copy.at(qos)
        self.waiting.setdefault(copy.key, []).append(copy)
        stream = self.streams.get(copy.stream_key)
        if stream is None:
            stream = self.streams[copy.stream_key] = OrderedDict()
        stream[copy] = None
        copy.stream = stream
        copy.waiting = True
        self.count += 1

    def find(self, delivery: Delivery, *, newest: bool = False) -> Copy | None:
        """The copy that waits and looks like this; where several do, the likeliest.

        Of those that are alike in everything it is the first, or the newest.
        """
        copies = self.waiting.get(key_of(delivery))
        if copies is None:
            return None
        best = copies[0]
        if len(copies) > 1:
            likeness = -1
            for copy in copies:
                assert copy.stream is not None
                like = 16 * (copy.is_retained == delivery.is_retained)
                like += 8 * copy.is_like(delivery)
                like += 4 * (copy.ids == delivery.subscription_ids)
                like += 2 * (copy.retain is None or copy.retain == delivery.retain)
                like += not newest and next(iter(copy.stream)) is copy
                if like > likeness or (newest and like == likeness):
                    likeness, best = like, copy
        return best

    def release(self, copy: Copy) -> None:
        """A copy waits no longer. *Cost* O(1)."""
        copies = self.waiting[copy.key]
        if len(copies) == 1:
            del self.waiting[copy.key]
        else:
            copies.remove(copy)
        stream = copy.stream
        assert stream is not None
        del stream[copy]
        if not stream:
            del self.streams[copy.stream_key]
        copy.stream = None
        copy.waiting = False
        self.count -= 1

    def find_in_flight(self, delivery: Delivery, *, alike: bool = False) -> int | None:
        """Identifier of a copy that was sent and not settled; the message is still the server's."""
        key = key_of(delivery)
        found = None
        for packet_id, copy in self.in_flight.items():
            if copy.key == key and copy.phase < 3:
                if copy.is_like(delivery):
                    return packet_id
                found = found or packet_id
        return None if alike else found


class Filters:
    """Who subscribed to what; naive but for a memory of which filters match a topic."""

    def __init__(self) -> None:
        self.subscribers: dict[str, dict[WatchedSession, Subscription]] = {}
        self._matching: dict[str, tuple[str, ...]] = {}

    def add(self, session: WatchedSession, subscription: Subscription) -> None:
        """A subscription was made or replaced."""
        topic_filter = subscription.topic_filter
        session.subscriptions[topic_filter] = subscription
        subscribers = self.subscribers.get(topic_filter)
        if subscribers is None:
            subscribers = self.subscribers[topic_filter] = {}
            self._matching.clear()
        subscribers[session] = subscription

    def remove(self, session: WatchedSession, topic_filter: str) -> None:
        """A subscription is gone, if it was there."""
        if session.subscriptions.pop(topic_filter, None) is None:
            return
        subscribers = self.subscribers[topic_filter]
        del subscribers[session]
        if not subscribers:
            del self.subscribers[topic_filter]
            self._matching.clear()

    def matching(self, topic_name: str) -> tuple[str, ...]:
        """The filters that match."""
        found = self._matching.get(topic_name)
        if found is None:
            if len(self._matching) > 10_000:
                self._matching.clear()
            found = tuple(each for each in self.subscribers if is_match(each, topic_name))
            self._matching[topic_name] = found
        return found


def is_match(topic_filter: str, topic_name: str) -> bool:
    """MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.2-1, NN-12.9, level by level."""
    if topic_name.startswith("$") and topic_filter[0] in "+#":
        return False
    wanted, given = topic_filter.split("/"), topic_name.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(
        want in ("+", level) for want, level in zip(wanted, given, strict=True)
    )


class RetainedCopy:
    """A retained message, as far as events and notices tell."""

    __slots__ = ("expires_at", "message", "publisher", "received_at", "told")

    def __init__(
        self,
        message: Message,
        publisher: str | None,
        received_at: float,
        expires_at: float | None,
        told: int | None,
    ) -> None:
        self.message = message
        self.publisher = publisher
        self.received_at = received_at
        self.expires_at = expires_at
        self.told = told

    def __repr__(self) -> str:
        return f"retained {self.message!r}"


Subject = Copy | WatchedConnection | WatchedSession | RetainedCopy


_FEW = 1000
"""Alarms that need no cleaning."""


class Alarms:
    """Instants at which something has to end; what has ended before is passed over late."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, Subject]] = []
        self._made = 0
        self._most = _FEW
        self.retained: dict[str, RetainedCopy] = {}

    def at(self, instant: float, rule: str, subject: Subject) -> None:
        """Note that something ends then. *Cost* O(log noted)."""
        self._made += 1
        if len(self._heap) >= self._most:
            # what has ended long before its instant is forgotten, so that half are alive at least
            self._heap = [
                entry
                for entry in self._heap
                if (due := self._due(entry[2], entry[3])) == entry[0]
                or (entry[2] == KEEP_ALIVE and due < INF)
            ]
            heapify(self._heap)
            self._most = max(_FEW, 2 * len(self._heap))
        heappush(self._heap, (instant, self._made, rule, subject))

    def first(self) -> tuple[float, str, Subject] | None:
        """The earliest that has not ended. *Cost* O(log noted) amortized."""
        heap = self._heap
        while heap:
            instant, _, rule, subject = heap[0]
            due = self._due(rule, subject)
            if due == instant:
                return instant, rule, subject
            heappop(heap)
            if rule == KEEP_ALIVE and due < INF:
                self.at(due, rule, subject)  # packets came since
        return None

    def _due(self, rule: str, subject: Subject) -> float:
        if isinstance(subject, WatchedConnection):
            return INF if subject.closed else subject.due
        if isinstance(subject, WatchedSession):
            if subject.ended:
                return INF
            if rule == WILL_DUE:
                return subject.will_at
            return INF if subject.expires_at is None else subject.expires_at
        if isinstance(subject, RetainedCopy):
            stored = self.retained.get(subject.message.topic_name) is subject
            return subject.expires_at if stored and subject.expires_at is not None else INF
        return subject.expires_at if subject.waiting and subject.expires_at is not None else INF


def key_of(delivery: Delivery) -> Key:
    """What a copy is known by."""
    message = delivery.message
    return message.topic_name, message.payload, delivery.qos


def interval_of(
    policy: ExpiryPolicy, message: Message, *, is_will: bool = False
) -> tuple[float | None, int | None]:
    """Seconds after which a message is deleted, and the interval that receivers are told."""
    interval = message.message_expiry_interval
    lifetime: float | None = interval
    if interval is None:
        lifetime = policy.default_message_expiry_interval
    cap = policy.maximum_message_expiry_interval
    if cap is not None:
        lifetime = cap if lifetime is None else min(lifetime, cap)
    told = interval if is_will else policy.told_message_expiry(interval)
    return lifetime, told


def window_of(event: ClientConnected, limits: SessionLimits) -> int:
    """MQTT-4.9.0-1: Receive Maximum, and the server's own bound."""
    asked = event.receive_maximum
    limit = limits.maximum_send_window
    return limit if asked is None else min(asked, limit)


def keep_alive_of(event: ClientConnected, options: ServerOptions) -> float:
    """Seconds of silence after which a connection ends; infinity: never [MQTT-3.1.2-22]."""
    keep_alive = event.keep_alive
    if event.protocol_version == 5 and options.server_keep_alive is not None:
        keep_alive = options.server_keep_alive  # MQTT-3.1.2-21
    return keep_alive * 1.5 if keep_alive else INF
