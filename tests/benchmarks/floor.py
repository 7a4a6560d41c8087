"""The floor that ratios are measured against: the smallest honest store in plain Python.

It stands behind the same kind of door and does what no store can leave out: dispatch by type,
connection lookup, connected check, window check, packet identifier collision check, one action
object for each delivery, an in-flight dict, pop on ack, a list of actions back, and a next
deadline to read. It knows exact filters at QoS 1 only and answers no wrong packet. What is more
than that in the library (wildcards, options, expiry, counters, bounds, errors) is what the ratio
shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from heapq import heappush

from mqtt_sessions import (
    Action,
    ClientConnected,
    ConnectionLost,
    Delivery,
    Event,
    PubackReceived,
    PublishReceived,
    ReasonCode,
    SendConnack,
    SendPuback,
    SendPublish,
    SendSuback,
    SubscribeReceived,
)

__all__ = ["Floor"]

_SUCCESS = ReasonCode.SUCCESS


class _Session:
    __slots__ = (
        "client_id",
        "connected",
        "connection",
        "in_flight",
        "interval",
        "last_id",
        "queue",
        "window",
    )

    def __init__(self, event: ClientConnected) -> None:
        self.client_id = event.client_id
        self.connection = event.connection
        self.connected = True
        self.interval = event.session_expiry_interval or 0
        self.window = min(event.receive_maximum or 65_535, 32)
        self.last_id = 0
        self.in_flight: dict[int, Delivery] = {}
        self.queue: deque[Delivery] = deque()


class Floor:
    """Sessions by connection, subscribers by topic, a heap of deadlines."""

    def __init__(self) -> None:
        self._connections: dict[Hashable, _Session] = {}
        self._subscribers: dict[str, list[_Session]] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._handlers: dict[type, Callable[..., list[Action]]] = {
            ClientConnected: self._client_connected,
            SubscribeReceived: self._subscribe_received,
            PublishReceived: self._publish_received,
            PubackReceived: self._puback_received,
            ConnectionLost: self._connection_lost,
        }

    @property
    def next_deadline_at(self) -> float | None:
        """When the next session ends."""
        return self._deadlines[0][0] if self._deadlines else None

    def handle(self, event: Event, now: float) -> list[Action]:
        """What the host has to do."""
        return self._handlers[type(event)](event, now)

    def _publish_received(self, event: PublishReceived, now: float) -> list[Action]:
        publisher = self._connections.get(event.connection)
        if publisher is None or not publisher.connected:
            return []
        message = event.message
        delivery = Delivery(message, 1)  # one for all, since that is what the action carries
        actions: list[Action] = []
        for session in self._subscribers.get(message.topic_name, ()):
            in_flight = session.in_flight
            if not session.connected or len(in_flight) >= session.window:
                session.queue.append(delivery)
                continue
            packet_id = session.last_id % 65_535 + 1
            while packet_id in in_flight:
                packet_id = packet_id % 65_535 + 1
            session.last_id = packet_id
            in_flight[packet_id] = delivery
            actions.append(SendPublish(session.connection, delivery, packet_id, False, None))
        actions.append(SendPuback(event.connection, event.packet_id, _SUCCESS))
        return actions

    def _puback_received(self, event: PubackReceived, now: float) -> list[Action]:
        session = self._connections.get(event.connection)
        if session is None or not session.connected:
            return []
        packet_id = event.packet_id
        if session.in_flight.pop(packet_id, None) is None or not session.queue:
            return []
        # the identifier just freed cannot collide
        delivery = session.in_flight[packet_id] = session.queue.popleft()
        return [SendPublish(session.connection, delivery, packet_id, False, None)]

    def _client_connected(self, event: ClientConnected, now: float) -> list[Action]:
        self._connections[event.connection] = _Session(event)
        return [SendConnack(event.connection, False, _SUCCESS)]

    def _subscribe_received(self, event: SubscribeReceived, now: float) -> list[Action]:
        session = self._connections[event.connection]
        for subscription in event.subscriptions:
            self._subscribers.setdefault(subscription.topic_filter, []).append(session)
        granted = (ReasonCode.GRANTED_QOS_1,) * len(event.subscriptions)
        return [SendSuback(event.connection, event.packet_id, granted)]

    def _connection_lost(self, event: ConnectionLost, now: float) -> list[Action]:
        session = self._connections.pop(event.connection)
        session.connected = False
        heappush(self._deadlines, (now + session.interval, session.client_id))
        return []
