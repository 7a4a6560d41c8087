"""What happened, for logs and metrics, as values named in the past; a host may ignore them."""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum, unique

from mqtt_sessions._values import value
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.reason_codes import ReasonCode

__all__ = [
    "ClientRefused",
    "DropReason",
    "EndReason",
    "FilterAdded",
    "FilterRemoved",
    "InboundQos2TimedOut",
    "MessageDropped",
    "Notice",
    "PeerErrorDetected",
    "RetainedMessageDropped",
    "SessionCreated",
    "SessionEnded",
    "SessionParked",
    "SessionResumed",
    "SessionTakenOver",
    "WillDiscarded",
    "WillPublished",
    "WillScheduled",
]


@unique
class DropReason(Enum):
    """Why a message did not reach its receiver."""

    EXPIRED = "expired"
    QUEUE_FULL = "queue_full"
    BYTES_FULL = "bytes_full"
    QOS0_OFFLINE = "qos0_offline"
    TOO_LARGE = "too_large"
    NO_LOCAL = "no_local"
    """The receiver is the publisher and asked for No Local; not accepted, so not counted."""
    SESSION_ENDED = "session_ended"
    PURGED = "purged"
    REFUSED_BY_CLIENT = "refused_by_client"


@unique
class EndReason(Enum):
    """Why a session ended."""

    CONNECTION_CLOSED = "connection_closed"
    """Its expiry interval is 0 [NN-1.2]."""
    EXPIRED = "expired"
    CLEAN_START = "clean_start"
    DISCARDED = "discarded"


@value
class SessionCreated:
    """A session began."""

    client_id: str


@value
class SessionResumed:
    """A stored session goes on."""

    client_id: str


@value
class SessionTakenOver:
    """A new connection took the place of an open one.

    Attributes:
        client_id: Whose.
        connection: The old connection.
    """

    client_id: str
    connection: Hashable


@value
class SessionParked:
    """The connection ended and the session stays.

    Attributes:
        client_id: Whose.
        expires_at: When it will end; None: never.
    """

    client_id: str
    expires_at: float | None


@value
class SessionEnded:
    """A session ended and its state is gone."""

    client_id: str
    reason: EndReason


@value
class ClientRefused:
    """A CONNECT was refused; nothing was touched [NN-3.4]."""

    connection: Hashable
    client_id: str
    reason_code: ReasonCode


@value
class PeerErrorDetected:
    """A client broke the protocol, or was closed for a keep alive; its connection is closed."""

    connection: Hashable
    client_id: str
    reason_code: ReasonCode
    detail: str


@value
class MessageDropped:
    """A session's copy of a message will not be delivered; the notice carries it.

    Attributes:
        client_id: Whose copy.
        delivery: The copy.
        reason: Why.
    """

    client_id: str
    delivery: Delivery
    reason: DropReason


@value
class RetainedMessageDropped:
    """A retained message left the store without a successor.

    Attributes:
        message: The message.
        reason: EXPIRED or QUEUE_FULL, BYTES_FULL for a QoS 0 message that gave way.
    """

    message: Message
    reason: DropReason


@value
class WillScheduled:
    """A will waits for its delay.

    Attributes:
        client_id: Whose.
        publish_at: When it is due, unless the session ends before.
    """

    client_id: str
    publish_at: float


@value
class WillPublished:
    """A will was published."""

    client_id: str
    message: Message


@value
class WillDiscarded:
    """A will was deleted unpublished: by DISCONNECT 0x00, a resume in time, or the host."""

    client_id: str
    message: Message


@value
class FilterAdded:
    """The first subscription of a filter appeared; a cluster adds a route."""

    topic_filter: str


@value
class FilterRemoved:
    """The last subscription of a filter went; a cluster removes the route."""

    topic_filter: str


@value
class InboundQos2TimedOut:
    """An inbound QoS 2 identifier was forgotten; `ExpiryPolicy.inbound_qos2_interval`."""

    client_id: str
    packet_id: int


Notice = (
    SessionCreated
    | SessionResumed
    | SessionTakenOver
    | SessionParked
    | SessionEnded
    | ClientRefused
    | PeerErrorDetected
    | MessageDropped
    | RetainedMessageDropped
    | WillScheduled
    | WillPublished
    | WillDiscarded
    | FilterAdded
    | FilterRemoved
    | InboundQos2TimedOut
)
