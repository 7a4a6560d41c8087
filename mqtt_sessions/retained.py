"""Retained messages of all sessions together, and their replay to a new subscription.

Topics stand in a `SortedDict`, so that a replay is a cursor (the last topic looked at) that stays
true whatever is stored or removed meanwhile, and a filter is looked for only among the topics
that begin like it.

Spec: MQTT 5.0 §3.3.1.3 [NN-14.1] to [NN-14.6]; MQTT 3.1.1 §3.1.2.4 [3.1.1 MQTT-3.1.2-7].
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from sortedcontainers import SortedDict

from mqtt_sessions.deadlines import DeadlineKind, Timer
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.notices import DropReason
from mqtt_sessions.policy import SessionLimits
from mqtt_sessions.queue import size_in_queue
from mqtt_sessions.restoring import Alarms
from mqtt_sessions.snapshots import ReplaySnapshot, RetainedSnapshot
from mqtt_sessions.state import Route, SessionState
from mqtt_sessions.topics import matches

__all__ = ["Replay", "Retained", "RetainedStore"]

_INF = float("inf")


class Retained(Timer):
    """A retained message; as a timer, its expiry."""

    __slots__ = ("message", "publisher", "received_at", "told")

    kind = DeadlineKind.RETAINED_EXPIRY

    def __init__(
        self, message: Message, received_at: float, told: int | None, publisher: str | None
    ) -> None:
        super().__init__()
        self.message = message
        self.received_at = received_at
        self.told = told
        self.publisher = publisher

    @property
    def subject(self) -> str:
        return self.message.topic_name

    def is_retained_one(self, live: Delivery) -> bool:
        """Whether a live message is the very one that was retained."""
        return self.received_at == live.received_at and self.message == live.message


class RetainedStore:
    """At most one retained message a topic.

    *Bound* `SessionLimits.maximum_retained_messages`, `maximum_retained_bytes`.
    """

    __slots__ = ("_by_topic", "_qos0", "_qos0_size", "size")

    def __init__(self) -> None:
        self._by_topic: SortedDict = SortedDict()
        self._qos0: dict[str, None] = {}  # in order of arrival: the first to give way
        self._qos0_size = 0
        self.size = 0

    def __len__(self) -> int:
        return len(self._by_topic)

    def get(self, topic_name: str) -> Retained | None:
        """The topic's message. *Cost* O(1)."""
        entry: Retained | None = self._by_topic.get(topic_name)
        return entry

    def put(self, entry: Retained) -> None:
        """Store a message for a topic that has none. *Cost* O(log topics)."""
        topic_name = entry.message.topic_name
        self._by_topic[topic_name] = entry
        size = size_in_queue(entry.message)
        self.size += size
        if entry.message.qos == 0:
            self._qos0[topic_name] = None
            self._qos0_size += size

    def pop(self, topic_name: str) -> Retained | None:
        """Remove the topic's message. *Cost* O(log topics)."""
        entry: Retained | None = self._by_topic.pop(topic_name, None)
        if entry is not None:
            size = size_in_queue(entry.message)
            self.size -= size
            if entry.message.qos == 0:
                del self._qos0[topic_name]
                self._qos0_size -= size
        return entry

    def snapshot(self) -> tuple[RetainedSnapshot, ...]:
        """All messages as values. *Cost* O(messages)."""
        entries = [each for each in self._by_topic.values() if each.message.qos]
        entries += [self._by_topic[topic_name] for topic_name in self._qos0]
        return tuple(
            RetainedSnapshot(
                entry.message,
                entry.received_at,
                None if entry.lane is None else entry.at,
                entry.told,
                entry.publisher,
            )
            for entry in entries
        )

    def restore(self, saved: tuple[RetainedSnapshot, ...], alarms: Alarms) -> None:
        """Fill an empty store. *Cost* O(n log n)."""
        for each in saved:
            entry = Retained(
                each.message, each.received_at, each.message_expiry_interval, each.publisher
            )
            self.put(entry)
            if each.expires_at is not None:
                alarms.add(entry, each.expires_at, each.expires_at - each.received_at)

    def lacks_room(self, message: Message, limits: SessionLimits) -> DropReason | None:
        """Which bound this message would break, its topic's own left out. *Cost* O(1)."""
        count, size = self._with(message)
        if _above(count, limits.maximum_retained_messages):
            return DropReason.QUEUE_FULL
        if _above(size, limits.maximum_retained_bytes):
            return DropReason.BYTES_FULL
        return None

    def _with(self, message: Message) -> tuple[int, int]:
        """Messages and bytes if this one took the place of its topic's own."""
        count, size = len(self) + 1, self.size + size_in_queue(message)
        old = self.get(message.topic_name)
        if old is not None:
            count -= 1
            size -= size_in_queue(old.message)
        return count, size

    def victims(self, message: Message, limits: SessionLimits) -> list[Retained] | None:
        """QoS 0 messages that give way to this one; None if even all of them do not suffice.

        *Cost* O(victims).
        """
        count, size = self._with(message)
        max_count, max_size = limits.maximum_retained_messages, limits.maximum_retained_bytes
        spare_count, spare_size = len(self._qos0), self._qos0_size
        own = self.get(message.topic_name)
        if own is not None and own.message.qos == 0:
            spare_count -= 1
            spare_size -= size_in_queue(own.message)
        if _above(count - spare_count, max_count) or _above(size - spare_size, max_size):
            return None
        victims: list[Retained] = []
        candidates = iter(self._qos0)
        while _above(count, max_count) or _above(size, max_size):
            topic_name = next(candidates)
            if topic_name != message.topic_name:
                victim = self._by_topic[topic_name]
                victims.append(victim)
                count -= 1
                size -= size_in_queue(victim.message)
        return victims

    def after(self, topic_filter: str, cursor: str | None) -> Iterator[Retained]:
        """Messages whose topic could match the filter, in order of topic, behind a cursor.

        *Cost* O(log topics), then O(1) each.
        """
        prefix = _literal_prefix(topic_filter)
        start = prefix if cursor is None or cursor < prefix else cursor
        for topic_name in self._by_topic.irange(start):
            if not topic_name.startswith(prefix):
                break
            if topic_name != cursor:
                yield self._by_topic[topic_name]


def _above(amount: int, maximum: int | None) -> bool:
    return maximum is not None and amount > maximum


def _literal_prefix(topic_filter: str) -> str:
    """What every topic that matches begins with."""
    for index, character in enumerate(topic_filter):
        if character == "+":
            return topic_filter[:index]
        if character == "#":
            return topic_filter[: max(0, index - 1)]  # the parent level matches too
    return topic_filter


class Replay(Timer):
    """Retained messages that a session has called up and not been sent yet.

    As a timer: the replay was cut off though the connection could take more, and goes on at once.

    Attributes:
        cursors: Filter to the last topic looked at, in order of subscribing.
        superseded: Topic to the arrival of the newest live message that the session was sent on
            it meanwhile, and the event of the replay at which that was [NN-14.6].
        first: Whether the replay has the next free unit of the window, or the queue.
        looks: Topics and filters that may still be looked at in this call.

    *Bound* the session's subscriptions, and the retained topics.
    """

    __slots__ = (
        "_begun",
        "_event",
        "_offered",
        "cursors",
        "first",
        "looks",
        "session",
        "superseded",
    )

    kind = DeadlineKind.RETAINED_REPLAY

    def __init__(self, session: SessionState) -> None:
        super().__init__()
        self.session = session
        self.cursors: OrderedDict[str, str | None] = OrderedDict()
        self.superseded: dict[str, tuple[float, int]] = {}
        self.first = True
        self.looks = 0
        self._event = 0
        self._begun: dict[str, int] = {}
        self._offered: dict[str, tuple[float, int]] = {}

    @property
    def subject(self) -> str:
        return self.session.client_id

    def begin(self, topic_filter: str) -> None:
        """Look for what matches this filter, after all others and from the first topic on."""
        self.end(topic_filter)
        self._event += 1
        self._begun[topic_filter] = self._event
        self.cursors[topic_filter] = None

    def end(self, topic_filter: str) -> None:
        """Look no more for what matches this filter."""
        self.cursors.pop(topic_filter, None)
        self._begun.pop(topic_filter, None)

    def note_offered(self, live: Delivery, store: RetainedStore) -> None:
        """A live message was accepted that is the topic's retained one too: once is enough."""
        topic_name = live.message.topic_name
        entry = store.get(topic_name)
        if entry is not None and entry.is_retained_one(live):
            self._event += 1
            self._offered[topic_name] = (live.received_at, self._event)

    def note_sent(self, live: Delivery, store: RetainedStore) -> None:
        """A live message was sent: a retained one that is older must not come after it."""
        topic_name = live.message.topic_name
        entry = store.get(topic_name)
        if entry is None or entry.received_at > live.received_at:
            return
        self._event += 1
        event = self._event
        if entry.is_retained_one(live):
            # who has subscribed since it was accepted has a right to it of its own
            offered_at, event = self._offered.get(topic_name, (-_INF, 0))
            if offered_at != live.received_at:
                return
        self.superseded[topic_name] = (live.received_at, event)

    def next_match(self, store: RetainedStore) -> tuple[Retained, Route] | None:
        """The next message to send and its subscription; None: finished, or `looks` ran out.

        The cursor stands before it until `passed` is called.

        *Cost* O(topics and filters looked at).
        """
        while self.cursors:
            topic_filter, cursor = next(iter(self.cursors.items()))
            route = self.session.route(topic_filter)
            assert route is not None
            for entry in store.after(topic_filter, cursor):
                if self.looks <= 0:
                    return None
                self.looks -= 1
                topic_name = entry.message.topic_name
                if not self._is_superseded(topic_filter, entry) and matches(
                    topic_filter, topic_name
                ):
                    return entry, route
                self.cursors[topic_filter] = topic_name
            self.end(topic_filter)
            self.looks -= 1
            if self.looks <= 0:
                return None
        return None

    def _is_superseded(self, topic_filter: str, entry: Retained) -> bool:
        received_at, event = self.superseded.get(entry.message.topic_name, (-_INF, 0))
        return received_at >= entry.received_at and event > self._begun[topic_filter]

    def passed(self, topic_filter: str, topic_name: str) -> None:
        """Go on behind this topic."""
        self.cursors[topic_filter] = topic_name

    def snapshot(self) -> ReplaySnapshot:
        """The same as a value. *Cost* O(filters and topics noted)."""
        return ReplaySnapshot(
            tuple((each, cursor, self._begun[each]) for each, cursor in self.cursors.items()),
            tuple((topic, at, event) for topic, (at, event) in self.superseded.items()),
            tuple((topic, at, event) for topic, (at, event) in self._offered.items()),
            self._event,
            self.first,
            None if self.lane is None else self.at,
        )

    @classmethod
    def restore(cls, saved: ReplaySnapshot, session: SessionState) -> Replay:
        """The replay as it was, not yet armed."""
        replay = cls(session)
        for topic_filter, cursor, event in saved.cursors:
            replay.cursors[topic_filter] = cursor
            replay._begun[topic_filter] = event
        replay.superseded = {topic: (at, event) for topic, at, event in saved.superseded}
        replay._offered = {topic: (at, event) for topic, at, event in saved.offered}
        replay._event = saved.event
        replay.first = saved.retained_first
        return replay
