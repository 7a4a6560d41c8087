"""What one session of a small world is owed, and what it owes."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from mqtt_sessions.messages import Message
from mqtt_sessions.testing.canonical import Names, number
from mqtt_sessions.testing.clients import ServerFault

__all__ = ["Account", "Copy", "check_interval", "expires_at"]

Copy = tuple[Message, int, float | None, bool]
"""What a session gets: message, QoS, arrival (None where it does not expire), if it is retained."""

_INF = float("inf")


def expires_at(copy: Copy) -> float:
    """When a copy is to be deleted unless its delivery has begun."""
    interval = copy[0].message_expiry_interval
    return _INF if interval is None or copy[2] is None else copy[2] + interval


def check_interval(copy: Copy, told: int | None, now: float) -> None:
    """MQTT-3.3.2-6: what is left, rounded up; a begun one that has expired says 1.

    Raises:
        ServerFault: It is told another one.
    """
    interval = copy[0].message_expiry_interval
    left = None
    if interval is not None and copy[2] is not None:
        left = max(1, interval - int(now - copy[2]))
    if told != left:
        raise ServerFault("MQTT-3.3.2-6", f"Message Expiry Interval {told}, not {left}")


class Account:
    """What one session is owed, and what it owes.

    Attributes:
        exists: There is a session.
        connection: Its open connection, on the server's side.
        version: Of that connection.
        interval: Session Expiry Interval in force; None: never.
        expires_at: When it ends, while there is no connection.
        window: QoS 1 and 2 that may be in the air.
        filters: Topic filter and granted QoS.
        waiting: Copies whose delivery has not begun, in order of arrival.
        begun: Identifier to copy whose PUBLISH is not acknowledged, in order of first sending.
        released: Identifier to copy in its PUBREL phase, in order of the PUBRECs.
        again: Those of `begun` that have not been sent on this connection.
        units: Identifiers that hold a unit of the window.
        inbound: Identifiers of incoming QoS 2 messages that were handed on.
        will: Message and delay.
        will_at: When the delay ends.
        called_up: Topics whose retained message the session asked for and has not been sent.
        congested: Its connection takes no PUBLISH.
        delivered: QoS 2 messages that the application has been given.
        visits: Connections that were accepted.
    """

    __slots__ = (
        "again",
        "begun",
        "called_up",
        "client_id",
        "congested",
        "connection",
        "delivered",
        "exists",
        "expires_at",
        "filters",
        "inbound",
        "interval",
        "released",
        "units",
        "version",
        "visits",
        "waiting",
        "will",
        "will_at",
        "window",
    )

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.delivered: dict[Message, None] = {}
        self.version = 5
        self.visits = 0
        self.window = 0
        self.connection: Hashable | None = None
        self.congested = False
        self.interval: float | None = 0
        self.forget()

    def forget(self) -> None:
        """The session has ended; what the application was given stays."""
        self.exists = False
        self.expires_at: float | None = None
        self.filters: tuple[tuple[str, int], ...] = ()
        self.waiting: list[Copy] = []
        self.begun: dict[int, Copy] = {}
        self.released: dict[int, Copy] = {}
        self.again: dict[int, None] = {}
        self.units: set[int] = set()
        self.inbound: dict[int, None] = {}
        self.called_up: dict[str, None] = {}
        self.will: tuple[Message, int] | None = None
        self.will_at: float | None = None

    def copy(self) -> Account:
        """The same, sharing nothing that changes."""
        other = Account.__new__(Account)
        for name in _PLAIN:
            setattr(other, name, getattr(self, name))
        other.delivered = dict(self.delivered)
        other.waiting = list(self.waiting)
        other.begun = dict(self.begun)
        other.released = dict(self.released)
        other.again = dict(self.again)
        other.units = set(self.units)
        other.inbound = dict(self.inbound)
        other.called_up = dict(self.called_up)
        return other

    @property
    def is_quiet(self) -> bool:
        """Nothing is owed."""
        return not (self.waiting or self.begun or self.released or self.inbound or self.called_up)

    def key(
        self, now: float, horizon: float, names: Names, message: Callable[[Message], Hashable]
    ) -> tuple[Hashable, ...]:
        """All of it, seen from now."""
        sent, received = names.sent(self.client_id), names.received(self.client_id)

        def copy_of(copy: Copy) -> Hashable:
            age = None if copy[2] is None else min(now - copy[2], horizon)
            return message(copy[0]), copy[1], age, copy[3]

        return (
            self.exists,
            None if self.connection is None else names.connection(self.connection),
            self.version,
            self.congested,
            self.interval,
            None if self.expires_at is None else self.expires_at - now,
            self.window,
            tuple([copy_of(each) for each in self.waiting]),
            tuple([(number(sent, name), copy_of(each)) for name, each in self.begun.items()]),
            tuple([(number(sent, name), message(c[0])) for name, c in self.released.items()]),
            tuple([number(sent, name) for name in self.again]),
            tuple(sorted([number(sent, name) for name in self.units])),
            tuple([number(received, name) for name in self.inbound]),
            tuple(self.called_up),
            None if self.will is None else (message(self.will[0]), self.will[1]),
            None if self.will_at is None else self.will_at - now,
            frozenset([message(each) for each in self.delivered]),
        )


_PLAIN = (
    "client_id",
    "congested",
    "connection",
    "exists",
    "expires_at",
    "filters",
    "interval",
    "version",
    "visits",
    "will",
    "will_at",
    "window",
)
