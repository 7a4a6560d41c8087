"""A store or a session behind a door that verifies all invariants after each step."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from mqtt_sessions import (
    Action,
    ClientConnected,
    ConnectionLost,
    Deadline,
    DeliverMessage,
    Delivery,
    DisconnectReceived,
    Event,
    ExpiryPolicy,
    Message,
    MessageDropped,
    MessagePublished,
    MessageRouted,
    Notice,
    Outcome,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    ReasonCode,
    SendPublish,
    ServerOptions,
    Session,
    SessionLimits,
    SessionStore,
    SizeOf,
    SubscribeReceived,
    Subscription,
    UnsubscribeReceived,
    Will,
)
from mqtt_sessions.changes import Change, Row, SessionRemoved, Stored, row_of

NEVER = 0xFFFFFFFF


def apply(rows: dict[Row, Stored], changes: Iterable[Change]) -> None:
    """What a journal does, change by change."""
    for change in changes:
        row = row_of(change)
        if isinstance(change, Stored):
            rows[row] = change
        else:
            rows.pop(row, None)
        if isinstance(change, SessionRemoved):
            parts = ("subscription", "exchange", "inbound", "replay")
            for each in [each for each in rows if each[0] in parts and each[1] == row[1]]:
                del rows[each]


class World:
    """A store and its clock; each step is followed by `store.check()`.

    Steps happen at `world.now`, which a test moves by hand: the host's timer rings only when the
    test says so.
    """

    def __init__(
        self,
        *,
        policy: ExpiryPolicy | None = None,
        limits: SessionLimits | None = None,
        options: ServerOptions | None = None,
        size_of: SizeOf | None = None,
        now: float = 0.0,
        durable: bool = False,
    ) -> None:
        self.store = SessionStore(
            policy or ExpiryPolicy(),
            limits or SessionLimits(),
            options or ServerOptions(),
            size_of,
            durable=durable,
        )
        self.durable = durable
        self.rows: dict[Row, Stored] = {}
        self.now = now
        self.actions: list[Action] = []
        self.notices: list[Notice] = []

    def note(self, outcome: Outcome) -> Outcome:
        """Keep what came out, and verify what stayed in."""
        assert self.durable or outcome.changes == ()
        apply(self.rows, outcome.changes)
        self.actions += outcome.actions
        self.notices += outcome.notices
        self.store.check()
        return outcome

    def do(self, event: Event) -> Outcome:
        """Feed one event."""
        return self.note(self.store.handle(event, self.now))

    def tick(self, now: float | None = None, limit: int | None = None) -> Outcome:
        """The host's timer rings."""
        if now is not None:
            self.now = now
        return self.note(self.store.handle_timeout(self.now, limit))

    def slices(self, limit: int) -> list[Outcome]:
        """The host's timer rings until nothing is due any more, `limit` units at a time."""
        outcomes = []
        while (at := self.store.next_deadline_at) is not None and at <= self.now:
            outcomes.append(self.tick(limit=limit))
            assert len(outcomes) < 10_000, "a slice does not get on"
        return outcomes

    @property
    def next(self) -> Deadline | None:
        """What the store will do next."""
        return self.store.next_deadline

    def session(self, client_id: str) -> Session:
        """The session of a client."""
        return self.store[client_id]

    # ------------------------------------------------------------ events

    def connect(self, connection: Hashable, client_id: str, **fields: Any) -> Outcome:
        """CONNECT: 5.0, a session that is resumed and kept for an hour, if nothing else is said."""
        fields.setdefault("protocol_version", 5)
        fields.setdefault("clean_start", False)
        if fields["protocol_version"] == 5:
            fields.setdefault("session_expiry_interval", 3600)
        return self.do(ClientConnected(connection, client_id, **fields))

    def lose(self, connection: Hashable) -> Outcome:
        """The network connection breaks."""
        return self.do(ConnectionLost(connection))

    def disconnect(self, connection: Hashable, **fields: Any) -> Outcome:
        """DISCONNECT."""
        return self.do(DisconnectReceived(connection, **fields))

    def ping(self, connection: Hashable) -> Outcome:
        """PINGREQ."""
        return self.do(PingReceived(connection))

    def subscribe(
        self, connection: Hashable, *topic_filters: str | Subscription, qos: int = 1, **fields: Any
    ) -> Outcome:
        """SUBSCRIBE to filters at one QoS, or to ready-made subscriptions."""
        wanted = tuple(
            each if isinstance(each, Subscription) else Subscription(each, qos)
            for each in topic_filters
        )
        return self.do(SubscribeReceived(connection, fields.pop("packet_id", 9999), wanted))

    def unsubscribe(self, connection: Hashable, *topic_filters: str) -> Outcome:
        """UNSUBSCRIBE."""
        return self.do(UnsubscribeReceived(connection, 9999, topic_filters))

    def publish(self, topic_name: str, payload: bytes = b"-", **fields: Any) -> Outcome:
        """The host publishes."""
        return self.do(MessagePublished(Message(topic_name, payload, **fields)))

    def send(
        self, connection: Hashable, topic_name: str, payload: bytes = b"-", **fields: Any
    ) -> Outcome:
        """PUBLISH from a client."""
        packet_id = fields.pop("packet_id", None)
        message = Message(topic_name, payload, **fields)
        return self.do(PublishReceived(connection, message, packet_id))

    def puback(self, connection: Hashable, packet_id: int, code: int = 0) -> Outcome:
        """PUBACK."""
        return self.do(PubackReceived(connection, packet_id, ReasonCode(code)))

    def pubrec(self, connection: Hashable, packet_id: int, code: int = 0) -> Outcome:
        """PUBREC."""
        return self.do(PubrecReceived(connection, packet_id, ReasonCode(code)))

    def pubrel(self, connection: Hashable, packet_id: int) -> Outcome:
        """PUBREL."""
        return self.do(PubrelReceived(connection, packet_id))

    def pubcomp(self, connection: Hashable, packet_id: int, code: int = 0) -> Outcome:
        """PUBCOMP."""
        return self.do(PubcompReceived(connection, packet_id, ReasonCode(code)))

    # ------------------------------------------------------------ ready-made situations

    def subscriber(
        self, connection: Hashable, client_id: str, *topic_filters: str, qos: int = 1, **fields: Any
    ) -> None:
        """A connected client with subscriptions."""
        self.connect(connection, client_id, **fields)
        self.subscribe(connection, *(topic_filters or ("#",)), qos=qos)

    def parked(self, client_id: str, *topic_filters: str, qos: int = 1, **fields: Any) -> None:
        """A client with subscriptions that has gone away."""
        connection = f"first of {client_id}"
        self.subscriber(connection, client_id, *topic_filters, qos=qos, **fields)
        self.lose(connection)


def will(topic_name: str = "will", delay: int = 0, payload: bytes = b"gone", **fields: Any) -> Will:
    """A Will Message."""
    return Will(Message(topic_name, payload, **fields), delay)


def of_type(kind: type, items: Iterable[Any]) -> list[Any]:
    """The items of one class."""
    return [item for item in items if isinstance(item, kind)]


def sent(items: Outcome | Iterable[Any], connection: Hashable = None) -> list[bytes]:
    """Payloads of the PUBLISH packets among actions, in order; of one connection if named."""
    actions = items.actions if isinstance(items, Outcome) else items
    return [
        action.delivery.message.payload
        for action in actions
        if isinstance(action, SendPublish) and connection in (None, action.connection)
    ]


def dropped(items: Outcome | Iterable[Any]) -> list[tuple[str, bytes, str]]:
    """Client, payload and reason of the copies dropped, in order."""
    notices = items.notices if isinstance(items, Outcome) else items
    return [
        (notice.client_id, notice.delivery.message.payload, notice.reason.value)
        for notice in notices
        if isinstance(notice, MessageDropped)
    ]


class Alone:
    """A session without a store, "a", whose host has the router; checked after each step."""

    def __init__(self, client_id: str = "a", **settings: Any) -> None:
        self.session = Session(client_id, **settings)
        self.now = 0.0

    def note(self, outcome: Outcome) -> Outcome:
        """Verify what stayed in."""
        assert outcome.changes == ()
        self.session.check()
        return outcome

    def do(self, event: Event) -> Outcome:
        """Feed one event."""
        return self.note(self.session.handle(event, self.now))

    def tick(self, now: float | None = None, limit: int | None = None) -> Outcome:
        """The host's timer rings."""
        if now is not None:
            self.now = now
        return self.note(self.session.handle_timeout(self.now, limit))

    def connect(self, connection: Hashable, **fields: Any) -> Outcome:
        """CONNECT: 5.0, resumed and kept for an hour, if nothing else is said."""
        fields.setdefault("protocol_version", 5)
        fields.setdefault("clean_start", False)
        if fields["protocol_version"] == 5:
            fields.setdefault("session_expiry_interval", 3600)
        return self.do(ClientConnected(connection, self.session.client_id, **fields))

    def lose(self, connection: Hashable) -> Outcome:
        """The network connection breaks."""
        return self.do(ConnectionLost(connection))

    def send(
        self, connection: Hashable, topic_name: str, payload: bytes = b"-", **fields: Any
    ) -> Outcome:
        """PUBLISH from the client."""
        packet_id = fields.pop("packet_id", None)
        message = Message(topic_name, payload, **fields)
        return self.do(PublishReceived(connection, message, packet_id))

    def pubrel(self, connection: Hashable, packet_id: int) -> Outcome:
        """PUBREL."""
        return self.do(PubrelReceived(connection, packet_id))

    def routed(self, route_id: int, code: int = 0) -> Outcome:
        """The host's router answers."""
        return self.do(MessageRouted(route_id, ReasonCode(code)))

    def deliver(self, payload: bytes, qos: int = 1, **fields: Any) -> Outcome:
        """The host's router hands a message in."""
        message = Message(fields.pop("topic_name", "t"), payload, qos)
        return self.do(DeliverMessage(Delivery(message, qos, received_at=self.now, **fields)))
