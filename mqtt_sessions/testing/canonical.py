"""Snapshots compared by what they mean: two that behave alike are equal.

Left out or renamed is what a run accumulates and no rule looks at: instants become distances from
now, cut at a horizon; packet identifiers and connections get numbers in the order of their
appearance; counters, and the cursors from which the next identifier or event number is taken, are
gone. Of what a durable store calls its rows, which of them share a message is left.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.snapshots import (
    ConnectionSnapshot,
    ReplaySnapshot,
    SessionContents,
    StoreSnapshot,
)

__all__ = ["HORIZON", "Names", "canonical"]

HORIZON = 1_000_000.0
"""Seconds, before and after now, beyond which all instants are alike."""


class Names:
    """Numbers in order of appearance for connections and packet identifiers.

    Identifiers that a session's server gave are apart from those that its client gave [NN-6.1].
    Whoever compares more than a store (its clients, packets on their way) hands one object to all.
    """

    __slots__ = ("_connections", "_received", "_sent")

    def __init__(self) -> None:
        self._connections: dict[Hashable, int] = {}
        self._sent: dict[str, dict[int, int]] = {}
        self._received: dict[str, dict[int, int]] = {}

    def connection(self, connection: Hashable) -> int:
        """The number of a connection."""
        return self._connections.setdefault(connection, len(self._connections))

    def sent(self, client_id: str) -> dict[int, int]:
        """Numbers of identifiers that the server gave to what it sends this client."""
        return self._sent.setdefault(client_id, {})

    def received(self, client_id: str) -> dict[int, int]:
        """Numbers of identifiers that this client gave to what it sends."""
        return self._received.setdefault(client_id, {})

    def copy(self) -> Names:
        """The same numbers, to go on from."""
        other = Names()
        other._connections = dict(self._connections)
        other._sent = {name: dict(each) for name, each in self._sent.items()}
        other._received = {name: dict(each) for name, each in self._received.items()}
        return other


def number(numbers: dict[int, int], packet_id: int) -> int:
    """The number of an identifier, the next one if it appears for the first time."""
    return numbers.setdefault(packet_id, len(numbers) + 1)


class _View:
    """One moment from which instants are seen."""

    __slots__ = ("horizon", "message", "names", "now", "ranks", "snapshot")

    def __init__(
        self,
        snapshot: StoreSnapshot,
        now: float,
        horizon: float,
        names: Names,
        message: Callable[[Message], Hashable],
    ) -> None:
        self.snapshot = snapshot
        self.now = now
        self.horizon = horizon
        self.names = names
        self.message = message
        # Arrival decides what goes first in a replay, by order alone: which may be the least step
        # that a float can take, where many arrive at one reading of the clock.
        arrivals = _arrivals(snapshot) if snapshot.retained else []
        self.ranks = {at: rank for rank, at in enumerate(arrivals)}

    def ahead(self, at: float | None) -> float | None:
        """Seconds until then, 0 if it is due; None: never."""
        if at is None:
            return None
        return min(max(at - self.now, 0.0), self.horizon)

    def age(self, at: float) -> float:
        """Seconds since then."""
        return min(max(round(self.now - at, 6), 0.0), self.horizon)

    def delivery(self, delivery: Delivery) -> Hashable:
        told = delivery.message_expiry_interval
        return (
            self.message(delivery.message),
            delivery.qos,
            delivery.retain,
            delivery.subscription_ids,
            None if told is None else self.age(delivery.received_at),
            self.ranks.get(delivery.received_at),
            self.ahead(delivery.expires_at),
            told,
            delivery.publisher,
            delivery.is_retained,
        )

    def session(self, session: SessionContents) -> Hashable:
        sent = self.names.sent(session.client_id)
        received = self.names.received(session.client_id)
        will = session.will
        shared = self.snapshot
        return (
            session.client_id,
            None if session.policy is shared.policy else session.policy,
            None if session.limits is shared.limits else session.limits,
            session.principal,
            session.expiry_interval,
            self.ahead(session.expires_at),
            session.subscriptions,
            tuple([self.delivery(delivery) for delivery in session.queue]),
            tuple(
                [
                    (number(sent, packet_id), None if each is None else self.delivery(each))
                    for packet_id, each in session.in_flight
                ]
            ),
            tuple([number(sent, packet_id) for packet_id in session.abandoned]),
            tuple(
                [
                    (number(received, packet_id), self.ahead(ends_at))
                    for packet_id, ends_at in session.inbound
                ]
            ),
            None if will is None else (self.message(will.message), will.will_delay_interval),
            self.ahead(session.will_due_at),
            None
            if session.connection is None
            else self.connection(session.connection, sent, received),
            None if session.replay is None else self.replay(session.replay),
        )

    def connection(
        self, link: ConnectionSnapshot, sent: dict[int, int], received: dict[int, int]
    ) -> Hashable:
        return (
            self.names.connection(link.connection),
            link.protocol_version,
            link.session_expiry_interval,
            link.keep_alive_interval,
            self.ahead(link.keep_alive_at),
            link.send_window,
            link.receive_maximum,
            link.maximum_packet_size,
            link.congested,
            tuple([number(sent, packet_id) for packet_id in link.unsent]),
            tuple(sorted([number(sent, packet_id) for packet_id in link.unitless])),
            tuple(sorted([number(received, packet_id) for packet_id in link.inbound_units])),
            link.retry_interval,
            tuple([(number(sent, packet_id), self.age(at)) for packet_id, at in link.sent_at]),
        )

    def replay(self, replay: ReplaySnapshot) -> Hashable:
        """Event numbers by their rank: only which of two came first is ever asked."""
        events = {each[2] for each in (*replay.cursors, *replay.superseded, *replay.offered)}
        rank = {event: index for index, event in enumerate(sorted(events))}
        return (
            tuple([(one, last, rank[event]) for one, last, event in replay.cursors]),
            tuple([(one, self.ranks.get(at), rank[event]) for one, at, event in replay.superseded]),
            tuple([(one, self.ranks.get(at), rank[event]) for one, at, event in replay.offered]),
            replay.retained_first,
            self.ahead(replay.goes_on_at),
        )

    def rows(self) -> Hashable:
        """What a durable store will have to write: identifiers by their place, and no epoch."""
        durable = self.snapshot.durable
        if durable is None:
            return None
        places: dict[int, int] = {}
        sessions = sorted(durable.sessions, key=lambda each: each.client_id)
        for each in sessions:
            for row_id in (*each.queue, *[row_id for _, row_id in each.in_flight]):
                places[row_id] = len(places)
        return (
            durable.alive_at is None,
            tuple([(each.client_id, each.protocol_version, each.has_replay) for each in sessions]),
            tuple(sorted([tuple(sorted([places[one] for one in m[1]])) for m in durable.messages])),
        )


def _arrivals(snapshot: StoreSnapshot) -> list[float]:
    """All instants of arrival, in order."""
    found = {each.received_at for each in snapshot.retained}
    for session in snapshot.sessions:
        found.update([each.received_at for each in session.queue])
        found.update([each.received_at for _, each in session.in_flight if each is not None])
        if session.replay is not None:
            found.update([at for _, at, _ in session.replay.superseded])
            found.update([at for _, at, _ in session.replay.offered])
    return sorted(found)


def _client_id(session: SessionContents) -> str:
    return session.client_id


def _itself(message: Message) -> Hashable:
    return message


def canonical(
    snapshot: StoreSnapshot,
    now: float,
    *,
    horizon: float = HORIZON,
    names: Names | None = None,
    message: Callable[[Message], Hashable] = _itself,
) -> tuple[Any, ...]:
    """What decides how a store behaves from `now` on, and nothing else.

    Two snapshots of stores with the same policy, limits and options are equal in this form if
    the stores behave alike, up to the numbers of packet identifiers and connections.

    Args:
        snapshot: Of a store.
        now: The moment from which instants are seen.
        horizon: Seconds beyond which all instants are alike.
        names: Numbers given so far; takes in those that appear here.
        message: Stands for a message; a search gives each a number, which is faster to compare.

    *Cost* O(what the store holds).
    """
    names = names or Names()
    view = _View(snapshot, now, horizon, names, message)
    return (
        # the order in which sessions were made is seen by nobody: each has its own packets
        tuple([view.session(each) for each in sorted(snapshot.sessions, key=_client_id)]),
        tuple(sorted([names.connection(connection) for connection in snapshot.connections])),
        tuple(
            [
                (
                    message(each.message),
                    None if each.message_expiry_interval is None else view.age(each.received_at),
                    view.ranks[each.received_at],
                    view.ahead(each.expires_at),
                    each.message_expiry_interval,
                    each.publisher,
                )
                for each in snapshot.retained
            ]
        ),
        tuple(
            [
                (
                    each.client_id,
                    message(each.message),
                    view.age(each.received_at),
                    view.ahead(each.expires_at),
                    each.remaining,
                )
                for each in snapshot.will_fanouts
            ]
        ),
        view.rows(),
    )
