"""What the reference model remembers: plain objects, lists and dicts, and the rules of topics.

Nothing here is shared with the core but values. All searches are linear, so that a reader of the
standard can check each line by eye.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any

from attrs import Factory, define, field

from mqtt_sessions.actions import Action
from mqtt_sessions.messages import Message, Will
from mqtt_sessions.notices import DropReason, Notice
from mqtt_sessions.policy import ExpiryPolicy, SessionLimits
from mqtt_sessions.subscriptions import Subscription

__all__ = [
    "AWAITING_PUBACK",
    "AWAITING_PUBCOMP",
    "AWAITING_PUBREC",
    "Copy",
    "Disagreement",
    "Exchange",
    "Gone",
    "ModelConnection",
    "ModelSession",
    "Overlap",
    "Owed",
    "Replay",
    "Retained",
    "Told",
    "Undecided",
    "cite",
    "is_order_open",
    "matches",
    "size_in_bytes",
    "valid_filter",
    "valid_topic",
]

AWAITING_PUBACK = "AWAITING_PUBACK"
AWAITING_PUBREC = "AWAITING_PUBREC"
AWAITING_PUBCOMP = "AWAITING_PUBCOMP"


class Disagreement(AssertionError):
    """The subject did what no rule allows, or left undone what one demands.

    Attributes:
        rule: Id of the rule: `MQTT-4.3.3-10` (5.0), `3.1.1 MQTT-4.6.0-6`, `NN-8.4`, or `host` for
            what the library's own contract says.
        detail: What was seen, and what the rule asks for.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


def cite(version: int, v5: str, v3: str | None = None) -> str:
    """The id of a rule in the standard that a connection speaks."""
    if version == 5:
        return v5
    rule = v5 if v3 is None else v3
    return f"3.1.1 {rule}" if rule.startswith("MQTT-") else rule


# ---------------------------------------------------------------- topics


def _is_text(text: str) -> bool:
    """1.5.4: UTF-8 without surrogates and U+0000, at most 65,535 bytes [MQTT-4.7.3-2, -3]."""
    try:
        return "\0" not in text and len(text.encode()) <= 65_535
    except UnicodeEncodeError:
        return False


def valid_topic(topic_name: str) -> bool:
    """4.7: at least one character, and no wildcard [MQTT-4.7.0-1, 4.7.3-1]."""
    return (
        topic_name != ""
        and "+" not in topic_name
        and "#" not in topic_name
        and _is_text(topic_name)
    )


def valid_filter(topic_filter: str) -> bool:
    """4.7.1: a wildcard fills its level, and `#` is the last one [MQTT-4.7.1-1, -2]."""
    if topic_filter == "" or not _is_text(topic_filter):
        return False
    levels = topic_filter.split("/")
    for number, level in enumerate(levels):
        if "#" in level and (level != "#" or number != len(levels) - 1):
            return False
        if "+" in level and level != "+":
            return False
    return True


def matches(topic_filter: str, topic_name: str) -> bool:
    """4.7: level by level, case and empty levels count [MQTT-4.7.3-4, NN-12.9]."""
    if topic_name.startswith("$") and topic_filter[0] in "+#":
        return False  # MQTT-4.7.2-1
    wanted, given = topic_filter.split("/"), topic_name.split("/")
    for number, level in enumerate(wanted):
        if level == "#":
            return True  # the parent level too: `a/#` matches `a`
        if number >= len(given):
            return False
        if level not in ("+", given[number]):
            return False
        if number == len(given) - 1 and wanted[number + 1 :] == ["#"]:
            return True
    return len(wanted) == len(given)


PAIR = 64  # what a user property counts besides its text


def size_in_bytes(message: Message) -> int:
    """Payload, topic and properties: what a queue bounded in bytes counts for each copy."""
    total = len(message.topic_name.encode()) + len(message.payload)
    for text in (message.content_type, message.response_topic):
        total += 0 if text is None else len(text.encode())
    total += 0 if message.correlation_data is None else len(message.correlation_data)
    for name, text in message.user_properties:
        total += PAIR + len(name.encode()) + len(text.encode())
    return total


# ---------------------------------------------------------------- messages on their way


@define(eq=False)
class Copy:
    """One receiver's copy of a message that waits to be sent.

    Attributes:
        message: What was published.
        qos: QoS of this delivery [MQTT-3.8.4-8].
        retain: RETAIN flag that a 5.0 receiver sees.
        ids: Subscription Identifiers, sorted.
        received_at: When the message arrived.
        expires_at: When it is deleted if its delivery has not begun; None: never.
        told: Message Expiry Interval that receivers are told, counted from `received_at`.
        publisher: Client id of the publisher, None for the host.
        is_retained: Sent because of a SUBSCRIBE.
        is_will: A will.
        serial: Number of the publication: a later one is newer.
        step: Step in which the message was published.
        instant: Instant of what published it: in a late call that of the timer, not of the call.
        must_go: Why it has to be dropped and may not be sent any more.
        overtaken: A later message of its order went ahead: it has to have been dropped.
        doubtful: May have been dropped by a full queue, or because its subscription has gone, and
            the subject does not tell.
        mixed: Only some of its subscriptions have Retain As Published.
        filters: Of the subscriptions that it is due to, without those that were removed since.
        overlap: Where it is open whether there is one copy for several subscriptions.
    """

    message: Message
    qos: int
    retain: bool
    ids: tuple[int, ...]
    received_at: float
    expires_at: float | None
    told: int | None
    publisher: str | None
    serial: int
    step: int
    instant: float
    is_retained: bool = False
    is_will: bool = False
    must_go: DropReason | None = None
    overtaken: bool = False
    doubtful: bool = False
    mixed: bool = False
    filters: list[str] = Factory(list)
    overlap: Overlap | None = field(default=None, repr=False)

    @property
    def key(self) -> tuple[str | None, str, int]:
        """Within this, order is kept: publisher, topic, QoS [MQTT-4.6.0-5]."""
        return (self.publisher, self.message.topic_name, self.qos)

    @property
    def fleeting(self) -> bool:
        """Arrived with interval 0: offered once, within its own step [NN-9.4]."""
        return self.expires_at == self.received_at

    def left(self, now: float) -> int | None:
        """What is left of the told interval, rounded up [MQTT-3.3.2-6, NN-9.4]."""
        if self.told is None:
            return None
        return math.ceil(self.told - (now - self.received_at) - 1e-6)


def is_order_open(first: Copy, second: Copy) -> bool:
    """Whether both came of things due at one instant, so that nothing says which is the newer.

    What came in different steps is in the order of its publication, also at one and the same
    instant [NN-14.6].
    """
    at_once = first.step == second.step and first.instant == second.instant
    return at_once and first.publisher != second.publisher


@define(eq=False)
class Overlap:
    """Overlapping subscriptions of who may send one copy, or one for each [NN-12.3].

    Attributes:
        merged: The one copy.
        singles: One for each match.
        sent: What was sent of these.
        sent_on: Where the first was sent.
        is_whole: What was sent may have been the one copy.
    """

    merged: Copy
    singles: list[Copy]
    sent: list[Copy] = Factory(list)
    sent_on: ModelConnection | None = None
    is_whole: bool = False


@define(eq=False)
class Exchange:
    """An outgoing QoS 1 or 2 delivery that has begun and is not settled.

    Attributes:
        packet_id: Its identifier, in use until the exchange ends [MQTT-2.2.1-4].
        copy: What was sent.
        phase: AWAITING_PUBACK, AWAITING_PUBREC or AWAITING_PUBCOMP.
        sent_on: Connection whose quota it holds a unit of; None: of none [NN-10.8].
        sent_at: When its packet was sent last.
        held_at: When a retry was due last that congestion held back.
        told: Interval of the first transmission.
        retain: RETAIN flag of the first transmission; one resumed by the other version may keep it.
        released: Place among the PUBRECs [MQTT-4.6.0-4].
        doubtful: May have been given up as too large, and the subject does not tell.
    """

    packet_id: int
    copy: Copy
    phase: str
    sent_on: ModelConnection | None
    sent_at: float
    told: int | None
    retain: bool
    released: int = 0
    held_at: float = -1e308
    doubtful: bool = False


@define(eq=False)
class Retained:
    """The retained message of a topic.

    Attributes:
        copy: The message with its instants; QoS and flags are those of the publisher.
        rivals: Others that may be the one, where two were set at one instant by two publishers.
        doubtful: May have been discarded [NN-14.2], and the subject does not tell.
    """

    copy: Copy
    rivals: list[Copy] = Factory(list)
    doubtful: bool = False


@define(eq=False)
class Replay:
    """Retained messages that one SUBSCRIBE called up and that are still to be sent.

    Attributes:
        subscriptions: The subscription; several where an option changed meanwhile.
        pending: What was retained for each topic at the SUBSCRIBE and was not sent yet.
        superseded: The newest live message of a topic sent since [NN-14.6].
        resent: The newest message of a topic sent again since: nothing older need follow.
        sent: Serials of what was sent.
        excused: Topics that need not be sent: it is open whether a live message that was sent is
            the newer one, or the one that a twin is credited with was this one's.
        again: The subscription replaced one of its filter.
        twins: Topics with which this one is credited, and another that called up the same.
        optional: The subscription is gone or was replaced: may be sent, or not [NN-12.7].
        serial: Publications up to this one came before.
    """

    subscriptions: list[Subscription]
    pending: dict[str, list[Copy]]
    serial: int
    superseded: dict[str, Copy] = Factory(dict)
    resent: dict[str, Copy] = Factory(dict)
    sent: list[int] = Factory(list)
    excused: list[str] = Factory(list)
    twins: list[tuple[str, Replay]] = Factory(list)
    optional: bool = False
    again: bool = False

    @property
    def topic_filter(self) -> str:
        """Of the subscription."""
        return self.subscriptions[0].topic_filter

    def give_up(self) -> None:
        """What is left may be sent, or not; what was sent may have been a twin's."""
        self.optional = True
        for topic_name, twin in self.twins:
            twin.excused.append(topic_name)


# ---------------------------------------------------------------- what is owed


@define(eq=False)
class Owed:
    """A packet that has to be sent in this step.

    Attributes:
        action: Class of the action.
        rule: What demands it.
        packet_id: Its identifier, None where it has none.
        codes: Reason codes that are right; None: any.
        check: Looks at the rest of it.
        optional: It may be left out.
        why: Reason codes of a close, for the host's log; None: any.
    """

    action: type
    rule: str
    packet_id: int | None = None
    codes: tuple[int, ...] | None = None
    check: Callable[[Any], None] | None = None
    optional: bool = False
    why: tuple[int, ...] | None = None


@define(eq=False)
class Undecided:
    """A request that a server may answer in several ways, or close the connection for.

    Attributes:
        connection: Where it came from.
        answer: What follows if it is answered; takes the answer, None: there was none.
        close: What follows if the connection is closed; None: it may not be.
        actions: What was seen before it was clear.
    """

    connection: ModelConnection
    answer: Callable[[Any], None]
    close: Callable[[], None] | None
    actions: list[Action] = Factory(list)


@define(eq=False)
class Told:
    """A notice that has to be given in this step; any of the alternatives will do."""

    alternatives: tuple[Notice, ...]
    required: bool = True


@define(eq=False)
class Gone:
    """A copy that left its session without being sent, and the notice that tells it."""

    client_id: str
    copy: Copy
    reason: DropReason
    other: DropReason | None = None
    required: bool = True


# ---------------------------------------------------------------- sessions and connections


@define(eq=False)
class ModelConnection:
    """A network connection.

    Attributes:
        name: The host's name for it.
        protocol_version: 3, 4 or 5.
        client_id: Whose.
        session: The session that it has, or had; None if CONNECT was refused.
        open: Packets are taken from it.
        gone: Nothing may be sent on it any more.
        connack: CONNACK was seen.
        farewell: DISCONNECT was seen.
        congested: PUBLISH packets are held back.
        asked: Session Expiry Interval of CONNECT, absent as 0 [NN-1.5].
        window: Units of the send quota.
        maximum_packet_size: None: any size.
        keep_alive: Seconds; 0: off.
        heard_at: When a packet came last.
        received: Inbound QoS 2 identifiers that count towards Receive Maximum [NN-10.8].
        owed: What has to be sent in this step, in order.
        resend: Exchanges whose PUBLISH is to be sent again, in order.
        rerelease: Exchanges whose PUBREL is to be sent again, in order.
        closed_in: Step in which it ended.
        closed_at: Instant of what ended it.
        successor: The connection that took it over.
    """

    name: Hashable
    protocol_version: int
    client_id: str
    session: ModelSession | None = None
    open: bool = True
    gone: bool = False
    connack: bool = False
    farewell: bool = False
    congested: bool = False
    asked: int = 0
    window: int = 65_535
    maximum_packet_size: int | None = None
    keep_alive: float = 0
    heard_at: float = 0
    received: list[int] = Factory(list)
    owed: list[Owed] = Factory(list)
    resend: list[Exchange] = Factory(list)
    rerelease: list[Exchange] = Factory(list)
    closed_in: int | None = None
    closed_at: float | None = None
    successor: ModelConnection | None = None

    def cite(self, v5: str, v3: str | None = None) -> str:
        """The rule's id in this connection's version."""
        return cite(self.protocol_version, v5, v3)


@define(eq=False)
class ModelSession:
    """The session state of 4.1, server side [NN-1.7].

    Attributes:
        client_id: The key [MQTT-3.1.3-2].
        version: Protocol version of its latest connection, whose statements bind for its will.
        principal: Whom it is bound to.
        policy: Policy in force.
        limits: Limits in force.
        own_limits: The client brought them.
        connection: The open connection, None while parked.
        interval: Session expiry interval in force; 0: ends at close, None: never.
        expires_at: When it ends; None while connected, or if never.
        will: The will, of the connection or waiting for its delay.
        will_due_at: When the delay of the will ends; None while connected.
        subscriptions: By filter, with the granted QoS, in the order of their making [NN-12.1].
        queue: What waits, in order of arrival.
        in_flight: What was sent and is not settled, in the order of first sending.
        inbound: Identifiers of received QoS 2 messages: when each is forgotten, None: at PUBREL.
        replays: Retained messages still to be sent, one for each SUBSCRIBE that called them up.
        overlaps: Those of which a copy was sent.
        past: What became of messages, by topic and payload; to say why one may not be sent.
        unsubscribed: Filters that it had.
        perhaps: By filter what a request may have made (None: removed) before it ended the
            connection.
        ended: It is no more.
        ended_at: Instant of what ended it.
        wanted_in: Step in which a message last wanted into the queue.
    """

    client_id: str
    principal: str | None
    policy: ExpiryPolicy
    limits: SessionLimits
    version: int = 5
    own_limits: bool = False
    connection: ModelConnection | None = None
    interval: float | None = 0
    expires_at: float | None = None
    will: Will | None = None
    will_due_at: float | None = None
    subscriptions: dict[str, Subscription] = Factory(dict)
    queue: list[Copy] = Factory(list)
    in_flight: list[Exchange] = Factory(list)
    inbound: dict[int, float | None] = Factory(dict)
    replays: list[Replay] = Factory(list)
    overlaps: list[Overlap] = Factory(list)
    past: dict[tuple[str, bytes], str] = Factory(dict)
    unsubscribed: list[str] = Factory(list)
    perhaps: dict[str, Subscription | None] = Factory(dict)
    ended: bool = False
    ended_at: float | None = None
    wanted_in: int = -1

    @property
    def connected(self) -> bool:
        """Whether it has an open connection."""
        return self.connection is not None

    def exchange(self, packet_id: int | None) -> Exchange | None:
        """The exchange in flight under an identifier."""
        for exchange in self.in_flight:
            if exchange.packet_id == packet_id:
                return exchange
        return None

    def remember(self, message: Message, fate: str) -> None:
        """Note what became of a message."""
        if len(self.past) > 2_000:
            self.past.clear()
        self.past[message.topic_name, message.payload] = fate
