"""Rows that have to be durable before the actions of the same outcome are seen by anyone.

A change is absolute: it says what a row is, or that there is none, never what to add to it. So a
batch whose fate is unknown may be applied again. A row's state is its last change; what a journal
holds is the set of all `…Stored` that are in force, and that is also what it gives back at load.

Row identifiers (of sessions, messages, deliveries, and the places of exchanges) come from one
counter of the store, rise, and are never used again, not even after a crash: `IdsReserved` says
from where on a restored store may go on. A message has that of the first delivery that refers to
it.

What belongs to a session is named by its `session_id`, never by its client id: a client that
begins anew has a new one, so that no late row of the old session can reach the new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Never

from mqtt_sessions._values import value
from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.policy import ExpiryPolicy, SessionLimits
from mqtt_sessions.snapshots import ReplaySnapshot
from mqtt_sessions.subscriptions import Subscription

__all__ = [
    "Change",
    "DeliveryRemoved",
    "DeliveryStored",
    "EpochStored",
    "ExchangeRemoved",
    "ExchangeStored",
    "IdsReserved",
    "InboundIdRemoved",
    "InboundIdStored",
    "MessageRemoved",
    "MessageStored",
    "ReplayRemoved",
    "ReplayStored",
    "RetainedRemoved",
    "RetainedStored",
    "Row",
    "SessionRemoved",
    "SessionStored",
    "Stored",
    "SubscriptionRemoved",
    "SubscriptionStored",
    "WillRemoved",
    "WillStored",
    "fold",
    "row_of",
]

# ---------------------------------------------------------------- the store


@value
class EpochStored:
    """A run of the store, from one recovery to the next; the newest is the one that may write.

    Attributes:
        epoch: 1 for the first run, then one more each.
        started_at: Instant at which it began; sessions connected in an earlier epoch were cut then.
        alive_at: The last instant at which it is known to have run.
    """

    epoch: int
    started_at: float
    alive_at: float


@value
class IdsReserved:
    """Row identifiers below this may have been given out; there is one such row.

    Attributes:
        below: A restored store gives out this one next.
    """

    below: int


# ---------------------------------------------------------------- sessions


@value
class SessionStored:
    """A session whose expiry interval is not 0.

    Packet identifiers that are used from one of its rows on to the next are reserved by the row
    before as well, which may stand in the same outcome; not so behind a CONNACK, which waits.

    Attributes:
        session_id: Its incarnation.
        client_id: Whose; no two sessions in force have the same.
        epoch: The run in which it was last connected or parked.
        connected: Whether it had a connection; one of an earlier epoch was cut by a crash.
        protocol_version: Of its latest connection: 3, 4 or 5.
        principal: Whom it is bound to.
        expiry_interval: Seconds that it outlives its connection; None: it never ends.
        expires_at: When it ends; None while connected, or if never.
        packet_ids_until: The last packet identifier that may have been used; a restored session
            starts behind it.
        policy: What the client's connection brought; None: the store's.
        limits: The same.
    """

    session_id: int
    client_id: str
    epoch: int
    connected: bool
    protocol_version: int
    principal: str | None
    expiry_interval: float | None
    expires_at: float | None
    packet_ids_until: int
    policy: ExpiryPolicy | None
    limits: SessionLimits | None


@value
class SessionRemoved:
    """The session, its subscriptions, exchanges, incoming identifiers and replay are gone.

    Its deliveries are not: each has a removal of its own, in the same batch or an earlier one.
    """

    session_id: int


@value
class SubscriptionStored:
    """A subscription in force, with the granted QoS; its row is that of session and filter."""

    session_id: int
    subscription: Subscription


@value
class SubscriptionRemoved:
    """No subscription to this filter any more."""

    session_id: int
    topic_filter: str


@value
class InboundIdStored:
    """An incoming QoS 2 identifier that is held.

    Attributes:
        session_id: Whose.
        packet_id: The identifier.
        ends_at: When it is forgotten; None: at PUBREL.
    """

    session_id: int
    packet_id: int
    ends_at: float | None


@value
class InboundIdRemoved:
    """The identifier is free again."""

    session_id: int
    packet_id: int


@value
class ReplayStored:
    """Retained messages that SUBSCRIBE called up and that are still to be sent."""

    session_id: int
    replay: ReplaySnapshot


@value
class ReplayRemoved:
    """All of them have been sent."""

    session_id: int


@value
class WillStored:
    """The will of a client, whether its session outlives the connection or not.

    Attributes:
        client_id: Whose; a client has one will at the most.
        will: As CONNECT brought it.
        due_at: When its delay ends; None: it waits for the end of the connection.
        epoch: The run in which that connection was.
        policy: In force for the message; None: the store's.
    """

    client_id: str
    will: Will
    due_at: float | None
    epoch: int
    policy: ExpiryPolicy | None


@value
class WillRemoved:
    """The will was published, or is not to be published any more."""

    client_id: str


# ---------------------------------------------------------------- messages


@value
class MessageStored:
    """A message that several deliveries refer to; its row never changes.

    Attributes:
        message_id: Its row identifier.
        message: What was published.
        received_at: When it arrived.
        expires_at: When copies that have not begun are deleted; None: never.
        message_expiry_interval: What receivers are told, before waiting is taken off.
        publisher: Client id of its publisher; None: the host.
    """

    message_id: int
    message: Message
    received_at: float
    expires_at: float | None
    message_expiry_interval: int | None
    publisher: str | None


@value
class MessageRemoved:
    """No delivery refers to the message any more."""

    message_id: int


@value
class DeliveryStored:
    """A copy for one session, queued or in flight; its row never changes.

    Where the session goes on after a crash, copies that no exchange names wait in its queue, in
    order of arrival and then of identifier.

    Attributes:
        delivery_id: Its row identifier.
        session_id: For whom.
        message_id: The message's row; None: this row alone has the message, and holds it itself.
        delivery: The copy, its message included.
    """

    delivery_id: int
    session_id: int
    message_id: int | None
    delivery: Delivery


@value
class DeliveryRemoved:
    """Delivered, dropped, or handed over to its receiver (see `ExchangeStored`)."""

    delivery_id: int


@value
class ExchangeStored:
    """A packet identifier that an outgoing QoS 2 exchange holds.

    Attributes:
        session_id: Whose.
        packet_id: The identifier.
        place: Exchanges are sent again in this order: that of their PUBLISH, or of their PUBREC.
        delivery_id: What was sent; None in the PUBREL phase, where the receiver has the message.
        is_abandoned: The message was dropped as too large to be sent again [NN-8.7].
    """

    session_id: int
    packet_id: int
    place: int
    delivery_id: int | None
    is_abandoned: bool = False


@value
class ExchangeRemoved:
    """The identifier is free again."""

    session_id: int
    packet_id: int


@value
class RetainedStored:
    """The retained message of a topic.

    Attributes:
        message: What was published; its topic name is the row's key.
        received_at: When it arrived.
        expires_at: When it is deleted; None: never.
        message_expiry_interval: What receivers are told, before waiting is taken off.
        publisher: Client id of its publisher; None: the host.
    """

    message: Message
    received_at: float
    expires_at: float | None
    message_expiry_interval: int | None
    publisher: str | None


@value
class RetainedRemoved:
    """The topic has no retained message."""

    topic_name: str


# ---------------------------------------------------------------- all of them

Stored = (
    EpochStored
    | IdsReserved
    | SessionStored
    | SubscriptionStored
    | InboundIdStored
    | ReplayStored
    | WillStored
    | MessageStored
    | DeliveryStored
    | ExchangeStored
    | RetainedStored
)
"""What a row can be."""

Removed = (
    SessionRemoved
    | SubscriptionRemoved
    | InboundIdRemoved
    | ReplayRemoved
    | WillRemoved
    | MessageRemoved
    | DeliveryRemoved
    | ExchangeRemoved
    | RetainedRemoved
)

Change = Stored | Removed
"""Every change, as a closed union."""

LARGEST_ID = 2**62
"""Nothing is ever numbered so high, and the next run goes on behind the highest number."""

Row = tuple[str | int, ...]
"""The key of a row: its table, and what names it there."""


def row_of(change: Change) -> Row:
    """Which row a change is about.

    Raises:
        InvalidValue: It is no change.

    *Cost* O(1).
    """
    match change:
        case DeliveryStored() | DeliveryRemoved():
            return "delivery", change.delivery_id
        case MessageStored() | MessageRemoved():
            return "message", change.message_id
        case ExchangeStored() | ExchangeRemoved():
            return "exchange", change.session_id, change.packet_id
        case InboundIdStored() | InboundIdRemoved():
            return "inbound", change.session_id, change.packet_id
        case SessionStored() | SessionRemoved():
            return "session", change.session_id
        case SubscriptionStored():
            return "subscription", change.session_id, change.subscription.topic_filter
        case SubscriptionRemoved():
            return "subscription", change.session_id, change.topic_filter
        case WillStored() | WillRemoved():
            return "will", change.client_id
        case RetainedStored():
            return "retained", change.message.topic_name
        case RetainedRemoved():
            return "retained", change.topic_name
        case ReplayStored() | ReplayRemoved():
            return "replay", change.session_id
        case EpochStored():
            return "epoch", change.epoch
        case IdsReserved():
            return ("ids",)
        case _:
            raise _no_change(change)


def _no_change(given: Never) -> InvalidValue:
    return InvalidValue(f"a Change was expected, not {type(given).__name__}")


def fold(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The last change of each row, in order: what applying them all comes to.

    The removal of a session comes behind all else, for it takes rows along that are not named.

    *Cost* O(changes).
    """
    last: dict[Row, Change] = {}
    ended: dict[Row, Change] = {}
    for change in changes:
        (ended if isinstance(change, SessionRemoved) else last)[row_of(change)] = change
    for row in ended:
        last.pop(row, None)
    return (*last.values(), *ended.values())
