"""All that a journal holds of one client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from mqtt_sessions._values import value
from mqtt_sessions.changes import (
    DeliveryStored,
    EpochStored,
    ExchangeStored,
    InboundIdStored,
    ReplayStored,
    SessionStored,
    Stored,
    SubscriptionStored,
    WillStored,
)
from mqtt_sessions.deadlines import DeadlineKind
from mqtt_sessions.inspect.summary import Books, Due, Runs, SessionSummary, finite
from mqtt_sessions.messages import Message
from mqtt_sessions.subscriptions import Subscription

__all__ = [
    "ClientDeadline",
    "ClientReport",
    "Exchange",
    "InboundId",
    "MessageOnItsWay",
    "WillReport",
    "look_up",
]

Phase = Literal["in flight", "releasing", "abandoned"]


@value
class MessageOnItsWay:
    """A message for the client, without its payload.

    Attributes:
        delivery_id: Its row.
        topic_name: Where it was published.
        size: Bytes of its payload.
        qos: At which it is delivered.
        retain: RETAIN flag.
        received_at: When it arrived.
        expires_at: When it is deleted if not begun; None: never.
        publisher: Client id of its publisher; None: the host.
    """

    delivery_id: int
    topic_name: str
    size: int
    qos: int
    retain: bool
    received_at: float | None
    expires_at: float | None
    publisher: str | None


@value
class Exchange:
    """An outgoing QoS 2 exchange.

    Attributes:
        packet_id: Its identifier.
        phase: Which packet is waited for: PUBREC, PUBCOMP, or none any more.
        message: What was sent, in the first phase; the receiver has it in the second.
    """

    packet_id: int
    phase: Phase
    message: MessageOnItsWay | None


@value
class InboundId:
    """An incoming QoS 2 identifier that is held.

    Attributes:
        packet_id: The identifier.
        ends_at: When it is forgotten; None: at PUBREL.
    """

    packet_id: int
    ends_at: float | None


@value
class WillReport:
    """A will, without its payload.

    Attributes:
        topic_name: Where it is published.
        size: Bytes of its payload.
        qos: At which it is published.
        retain: RETAIN flag.
        will_delay_interval: Seconds.
        due: When it is published.
    """

    topic_name: str
    size: int
    qos: int
    retain: bool
    will_delay_interval: int
    due: Due


@value
class ClientDeadline:
    """Something of the client that time ends.

    Attributes:
        kind: What kind of thing.
        due: When.
        subject: Which: a topic name, a packet identifier, or the client itself.
    """

    kind: DeadlineKind
    due: Due
    subject: str


@value
class ClientReport:
    """One client at an instant.

    Attributes:
        now: The instant.
        runs: Of the store.
        client_id: Whose.
        session: In figures; None: only a will is left, its session ended with its connection.
        subscriptions: In force.
        queue: Messages that wait, in their order.
        exchanges: Outgoing QoS 2 exchanges, in their order.
        inbound: Incoming QoS 2 identifiers.
        will: Its will.
        replays: Filters whose retained messages are still to be sent.
        deadlines: In their order; those that the next start begins come last.
    """

    now: float
    runs: Runs
    client_id: str
    session: SessionSummary | None
    subscriptions: tuple[Subscription, ...]
    queue: tuple[MessageOnItsWay, ...]
    exchanges: tuple[Exchange, ...]
    inbound: tuple[InboundId, ...]
    will: WillReport | None
    replays: tuple[str, ...]
    deadlines: tuple[ClientDeadline, ...]


def look_up(rows: Iterable[Stored], client_id: str, now: float) -> ClientReport | None:
    """What the rows hold of one client; None: nothing.

    Args:
        rows: As `Journal.load` gives them.
        client_id: Whose.
        now: On the scale of the broker's clock.

    *Cost* O(rows); it holds what the client's session has, without payloads.
    """
    found = _Found(client_id)
    books = Books(now)
    for row in found.own(rows):
        books.take(row)
    return found.report(books)


class _Found:
    """The rows of one client, without payloads."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.session_id: int | None = None
        self.subscriptions: list[Subscription] = []
        self.messages: dict[int, MessageOnItsWay] = {}
        self.exchanges: list[ExchangeStored] = []
        self.inbound: list[InboundIdStored] = []
        self.replays: tuple[str, ...] = ()
        self.will: WillStored | None = None

    def own(self, rows: Iterable[Stored]) -> Iterator[Stored]:
        """What concerns the client, and the runs; all of it is noted down."""
        for row in rows:
            if isinstance(row, SessionStored):
                if row.client_id == self.client_id:
                    self.session_id = row.session_id
                    yield row
            elif isinstance(row, WillStored):
                if row.client_id == self.client_id:
                    self.will = row
                    yield row
            elif isinstance(row, EpochStored):
                yield row
            elif (
                isinstance(
                    row,
                    (
                        DeliveryStored
                        | SubscriptionStored
                        | InboundIdStored
                        | ReplayStored
                        | ExchangeStored
                    ),
                )
                and row.session_id == self.session_id
            ):
                self._note(row)
                yield row

    def _note(
        self,
        row: DeliveryStored | SubscriptionStored | InboundIdStored | ReplayStored | ExchangeStored,
    ) -> None:
        match row:
            case DeliveryStored():
                self.messages[row.delivery_id] = _without_payload(row)
            case SubscriptionStored():
                self.subscriptions.append(row.subscription)
            case InboundIdStored():
                self.inbound.append(row)
            case ReplayStored():
                self.replays = tuple(each[0] for each in row.replay.cursors)
            case ExchangeStored():
                self.exchanges.append(row)

    def report(self, books: Books) -> ClientReport | None:
        summary = books.summary(None)
        (session,) = summary.sessions or (None,)
        if session is None and self.will is None:
            return None
        exchanges = [
            Exchange(row.packet_id, _phase(row), self._take(row.delivery_id))
            for row in sorted(self.exchanges, key=lambda each: each.place)
        ]
        queue = sorted(self.messages.values(), key=_place)  # without what an exchange has taken
        inbound = [
            InboundId(row.packet_id, finite(row.ends_at))
            for row in sorted(self.inbound, key=lambda each: each.packet_id)
        ]
        due = books.will_due(self.client_id, None if session is None else session.expires)
        will = None
        if self.will is not None and due is not None:
            message, delay = self.will.will.message, self.will.will.will_delay_interval
            will = WillReport(
                message.topic_name, _size(message), message.qos, message.retain, delay, due
            )
        return ClientReport(
            books.now,
            summary.runs,
            self.client_id,
            session,
            tuple(sorted(self.subscriptions, key=lambda each: each.topic_filter)),
            tuple(queue),
            tuple(exchanges),
            tuple(inbound),
            will,
            self.replays,
            tuple(self._deadlines(session, queue, inbound, will)),
        )

    def _take(self, delivery_id: int | None) -> MessageOnItsWay | None:
        return None if delivery_id is None else self.messages.pop(delivery_id, None)

    def _deadlines(
        self,
        session: SessionSummary | None,
        queue: list[MessageOnItsWay],
        inbound: list[InboundId],
        will: WillReport | None,
    ) -> list[ClientDeadline]:
        found = [
            ClientDeadline(DeadlineKind.MESSAGE_EXPIRY, Due(each.expires_at), each.topic_name)
            for each in queue
        ]
        found += [
            ClientDeadline(DeadlineKind.INBOUND_QOS2, Due(each.ends_at), str(each.packet_id))
            for each in inbound
        ]
        if will is not None:
            found.append(ClientDeadline(DeadlineKind.WILL_DELAY, will.due, will.topic_name))
        if session is not None:
            kind = DeadlineKind.SESSION_EXPIRY
            found.append(ClientDeadline(kind, session.expires, self.client_id))
        found = [each for each in found if each.due != Due()]
        found.sort(key=_instant)
        return found


def _without_payload(row: DeliveryStored) -> MessageOnItsWay:
    delivery = row.delivery
    return MessageOnItsWay(
        row.delivery_id,
        delivery.message.topic_name,
        _size(delivery.message),
        delivery.qos,
        delivery.retain,
        finite(delivery.received_at),
        finite(delivery.expires_at),
        delivery.publisher,
    )


def _size(message: Message) -> int:
    return len(message.payload)


def _phase(row: ExchangeStored) -> Phase:
    if row.delivery_id is not None:
        return "in flight"
    return "abandoned" if row.is_abandoned else "releasing"


def _place(message: MessageOnItsWay) -> tuple[float, int]:
    """Arrival, and then the order in which copies were made."""
    return message.received_at or 0.0, message.delivery_id


def _instant(deadline: ClientDeadline) -> tuple[bool, float, int]:
    due = deadline.due
    if due.at is not None:
        return False, due.at, deadline.kind
    return True, due.after_start or 0.0, deadline.kind
