"""Stores with connected or parked clients in them, set up through the public door."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

from mqtt_sessions import (
    ClientConnected,
    ConnectionLost,
    Event,
    Message,
    PublishReceived,
    SendPublish,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
)

__all__ = [
    "KEEP_ALIVE",
    "NEVER",
    "PAYLOAD",
    "START",
    "STEP",
    "Door",
    "World",
    "connect",
    "subscribe",
]

START = 1_700_000_000.0
STEP = 1e-4
"""How far `now` moves with each call."""
KEEP_ALIVE = 60
NEVER = 0xFFFFFFFF
PAYLOAD = bytes(range(100))


class Door(Protocol):
    """What the store and the floor have in common."""

    @property
    def next_deadline_at(self) -> float | None:
        """When time has something to do."""

    def handle(self, event: Event, now: float) -> object:
        """Take one event."""


def connect(
    connection: Hashable,
    client_id: str,
    *,
    interval: int | None = None,
    receive_maximum: int | None = None,
    keep_alive: int = 0,
) -> ClientConnected:
    """CONNECT of a 5.0 client; with an interval its session outlives the connection."""
    return ClientConnected(
        connection, client_id, 5, interval is None, interval, receive_maximum, None, keep_alive
    )


def subscribe(connection: Hashable, topic_filters: Sequence[str], qos: int) -> SubscribeReceived:
    """SUBSCRIBE to some filters at one QoS."""
    subscriptions = tuple(Subscription(topic_filter, qos) for topic_filter in topic_filters)
    return SubscribeReceived(connection, 1, subscriptions)


class World:
    """A store, its clock, and one publisher with keep alive off."""

    publisher = "publisher"

    def __init__(self, limits: SessionLimits | None = None, *, durable: bool = False) -> None:
        self.store = SessionStore(limits=limits or SessionLimits(), durable=durable)
        self.now = START
        self.feed(connect(self.publisher, "publisher"))

    def feed(self, event: Event) -> tuple[object, ...]:
        """Handle one event, unmeasured; the actions."""
        self.now += STEP
        return self.store.handle(event, self.now).actions

    def park(
        self, client_id: str, topic_filter: str, *, qos: int = 1, interval: int = 3600
    ) -> None:
        """A persistent session with one subscription whose client has left."""
        self.feed(connect(client_id, client_id, interval=interval))
        self.feed(subscribe(client_id, (topic_filter,), qos))
        self.feed(ConnectionLost(client_id))

    def publish(self, topic_name: str, qos: int = 1) -> list[SendPublish]:
        """Publish one message, unmeasured; what is to be sent to subscribers."""
        packet_id = 1 if qos else None
        actions = self.feed(
            PublishReceived(self.publisher, Message(topic_name, PAYLOAD, qos), packet_id)
        )
        return [action for action in actions if type(action) is SendPublish]
