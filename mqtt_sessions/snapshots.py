"""Everything that a session or a store holds, as one frozen value.

For tests (a search over all states, a crash between any two steps), for moves and for journals.
From two that are equal the same follows, but for ties: which of several clients or topics goes
first that come due at one instant. A snapshot shares messages and deliveries with what it was
taken of, so that taking one copies no payload; connections are the host's own names.
"""

from __future__ import annotations

from collections.abc import Hashable

from mqtt_sessions._values import value
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.notices import DropReason
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription

__all__ = [
    "SNAPSHOT_VERSION",
    "ConnectionSnapshot",
    "DurableSnapshot",
    "ReplaySnapshot",
    "RetainedSnapshot",
    "RoutedSnapshot",
    "RowsSnapshot",
    "SessionContents",
    "SessionSnapshot",
    "StoreSnapshot",
    "WillFanoutSnapshot",
]

SNAPSHOT_VERSION = 2
"""Of the format; `restore` refuses others. It rises with any change of what a snapshot holds."""

Drops = tuple[tuple[DropReason, int], ...]
"""How many messages were dropped, by reason."""


@value
class ConnectionSnapshot:
    """An open connection, and what is gone with it.

    Attributes:
        connection: The host's name for it.
        protocol_version: 3, 4 or 5.
        session_expiry_interval: As CONNECT carried it, 0 if absent [NN-1.5].
        keep_alive_interval: Seconds of silence that end it; None: no supervision.
        keep_alive_at: When they are over.
        send_window: QoS 1 and 2 deliveries that may be in the air.
        receive_maximum: The same for what comes in; None: not enforced.
        maximum_packet_size: Bytes that the client takes; None: no limit.
        congested: PUBLISH packets are held back.
        unsent: In flight from an earlier connection and not sent again on this one, in order.
        unitless: Exchanges that hold no unit of the window [NN-10.8], in order of identifier.
        inbound_units: Incoming identifiers that are open on this connection, in order.
        retry_interval: Seconds after which what is unacknowledged is sent again; None: never.
        sent_at: Identifier and instant of the last sending, oldest first; only with an interval.
    """

    connection: Hashable
    protocol_version: int
    session_expiry_interval: int
    keep_alive_interval: float | None
    keep_alive_at: float | None
    send_window: int
    receive_maximum: int | None
    maximum_packet_size: int | None
    congested: bool
    unsent: tuple[int, ...]
    unitless: tuple[int, ...]
    inbound_units: tuple[int, ...]
    retry_interval: float | None
    sent_at: tuple[tuple[int, float], ...]


@value
class ReplaySnapshot:
    """Retained messages that SUBSCRIBE called up and that are still to be sent.

    Attributes:
        cursors: Filter, the last topic looked at, and the number of the event that began it.
        superseded: Topic, arrival of the newest live message sent on it meanwhile, event number.
        offered: Topic, arrival of the live message that is the retained one too, event number.
        event: The last event's number.
        retained_first: Whether a retained message has the next free unit, or the queue.
        goes_on_at: When it goes on by itself; None: as acknowledgements come in.
    """

    cursors: tuple[tuple[str, str | None, int], ...]
    superseded: tuple[tuple[str, float, int], ...]
    offered: tuple[tuple[str, float, int], ...]
    event: int
    retained_first: bool
    goes_on_at: float | None


@value
class SessionContents:
    """One session.

    Attributes:
        client_id: Whose.
        policy: In force for it.
        limits: In force for it.
        own_limits: The client brought them, so that `LimitsChanged` leaves them alone.
        principal: Whom it is bound to.
        expiry_interval: Session Expiry Interval in force; None: never.
        expires_at: When it ends; None while connected, or if never.
        subscriptions: With the granted QoS, in order of their making.
        queue: What waits, oldest first.
        in_flight: Packet identifier and delivery, in order of first sending; None in place of the
            delivery is an exchange in its PUBREL phase, among themselves in order of PUBREC.
        abandoned: Identifiers of those whose message was dropped as too large [NN-8.7].
        last_packet_id: Where the search for a free identifier starts.
        inbound: Incoming QoS 2 identifiers, and when each is forgotten; None: at PUBREL.
        will: Of the connection, or waiting for its delay.
        will_due_at: When the delay ends; None while connected.
        accepted: Messages that a subscription let in.
        dropped: By reason.
        connection: The open connection.
        replay: Retained messages on their way.

    Spec: MQTT 5.0 §4.1 [NN-1.7].
    """

    client_id: str
    policy: ExpiryPolicy
    limits: SessionLimits
    own_limits: bool
    principal: str | None
    expiry_interval: float | None
    expires_at: float | None
    subscriptions: tuple[Subscription, ...]
    queue: tuple[Delivery, ...]
    in_flight: tuple[tuple[int, Delivery | None], ...]
    abandoned: tuple[int, ...]
    last_packet_id: int
    inbound: tuple[tuple[int, float | None], ...]
    will: Will | None
    will_due_at: float | None
    accepted: int
    dropped: Drops
    connection: ConnectionSnapshot | None
    replay: ReplaySnapshot | None


@value
class RoutedSnapshot:
    """A message that the router of a session's host has.

    Attributes:
        route_id: Named in `RouteMessage`.
        is_open: Whether the connection on which it came is the session's still.
        packet_id: Of its PUBLISH.
        message: What is routed.
        reason_code: The router's answer, which waits for those before it; None: not yet given.
        holds_id: It is the exchange that the incoming QoS 2 identifier stands for.
    """

    route_id: int
    is_open: bool
    packet_id: int
    message: Message
    reason_code: ReasonCode | None
    holds_id: bool


@value
class SessionSnapshot:
    """A `Session`, be it of a store or alone, with what it lives under.

    Attributes:
        client_id: Whose.
        now: The clock's last reading.
        policy: The store's, or what `Session` was made with.
        limits: The same.
        options: The same.
        contents: The session; None: there is none now.
        connections: All that are known, in order of their CONNECT; one that `contents` does not
            have is closed, and its `ConnectionLost` still to come; alone only.
        last_route_id: Of the last `RouteMessage`; alone only.
        routed: What the host's router has, in order; alone only.
        has_size_of: Whether there was a `size_of`, which `restore` then has to be given.
        version: Of the format.
    """

    client_id: str
    now: float
    policy: ExpiryPolicy
    limits: SessionLimits
    options: ServerOptions
    contents: SessionContents | None
    connections: tuple[Hashable, ...] = ()
    last_route_id: int = 0
    routed: tuple[RoutedSnapshot, ...] = ()
    has_size_of: bool = False
    version: int = SNAPSHOT_VERSION


@value
class RetainedSnapshot:
    """A retained message.

    Attributes:
        message: What was published.
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
class WillFanoutSnapshot:
    """A published will that has not reached all its receivers.

    Attributes:
        client_id: Whose will.
        message: The will.
        received_at: When it was published.
        expires_at: When copies that wait are deleted; None: never.
        goes_on_at: Where it stands in the index of deadlines.
        remaining: Client id of each receiver, and the packed options of each of its copies: an
            integer for one subscription, a tuple for several merged.
    """

    client_id: str
    message: Message
    received_at: float
    expires_at: float | None
    goes_on_at: float
    remaining: tuple[tuple[str, tuple[int | tuple[int, ...], ...]], ...]


@value
class RowsSnapshot:
    """What the journal calls a durable session and what it holds.

    Attributes:
        client_id: Whose.
        session_id: Its incarnation.
        protocol_version: Of its latest connection.
        reserved_from: Packet identifiers are reserved from here on.
        has_replay: Whether the journal has a replay of retained messages.
        queue: The row of each queued delivery, in order.
        in_flight: Packet identifier and row of each delivery in flight, in order.
    """

    client_id: str
    session_id: int
    protocol_version: int
    reserved_from: int
    has_replay: bool
    queue: tuple[int, ...]
    in_flight: tuple[tuple[int, int], ...]


@value
class DurableSnapshot:
    """What a durable store knows of its journal.

    Attributes:
        epoch: The run of the store.
        started_at: When it began; None: with its first call.
        alive_at: The last instant at which the journal knows it to have run; None: nothing was
            told of it yet.
        next_id: The row identifier that is given out next.
        reserved: Identifiers below it are known to the journal as given out.
        sessions: In the order of `StoreSnapshot.sessions`.
        messages: Messages with a row of their own: its identifier, and the deliveries that refer
            to it; without any, it is to be removed.
    """

    epoch: int
    started_at: float | None
    alive_at: float | None
    next_id: int
    reserved: int
    sessions: tuple[RowsSnapshot, ...]
    messages: tuple[tuple[int, tuple[int, ...]], ...]


@value
class StoreSnapshot:
    """A `SessionStore`.

    Attributes:
        now: The clock's last reading.
        arrived_at: Arrival of the latest message, minus infinity before the first.
        policy: When things end.
        limits: How far things grow.
        options: What the server offers.
        sessions: All of them, in order of their making.
        connections: All that are known, in order of their CONNECT; those that no session has are
            closed, and their `ConnectionLost` still to come.
        retained: Messages of QoS 1 and 2 by topic, then those of QoS 0 in order of arrival.
        will_fanouts: Wills on their way.
        accepted: Totals over all sessions, those that have ended included.
        completed: The same.
        dropped: The same.
        has_size_of: Whether there was a `size_of`, which `restore` then has to be given.
        version: Of the format.
        durable: What it knows of its journal; None: it is not durable.
    """

    now: float
    arrived_at: float
    policy: ExpiryPolicy
    limits: SessionLimits
    options: ServerOptions
    sessions: tuple[SessionContents, ...]
    connections: tuple[Hashable, ...]
    retained: tuple[RetainedSnapshot, ...]
    will_fanouts: tuple[WillFanoutSnapshot, ...]
    accepted: int
    completed: int
    dropped: Drops
    has_size_of: bool = False
    version: int = SNAPSHOT_VERSION
    durable: DurableSnapshot | None = None
