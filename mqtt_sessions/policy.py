"""What a host decides once: when things end, how far they grow, what the server offers.

All three are frozen values with pure methods, and validated when they are made.
"""

from __future__ import annotations

import math
from enum import Enum, unique

from mqtt_sessions._values import value
from mqtt_sessions.errors import InvalidValue

__all__ = [
    "ExpiryPolicy",
    "OverflowPolicy",
    "OverlapPolicy",
    "ServerOptions",
    "SessionLimits",
    "UnauthorizedPolicy",
]

NEVER_ON_WIRE = 0xFFFFFFFF
"""Session Expiry Interval that never expires; beyond this module "never" is None."""

SHORTEST_RETRY = 0.001
"""Seconds below which a retry would come due again at the instant at which it was made."""

MAX_INTERVAL = 1e12
"""Seconds beyond which an interval is taken for a mistake: 31,000 years, and no overflow."""

_UINT32_MAX = 0xFFFFFFFF


def _check_interval(owner: str, field: str, interval: float | None, *, above_zero: bool) -> None:
    if interval is None:
        return
    if isinstance(interval, bool) or not isinstance(interval, (int, float)):
        raise InvalidValue(f"{owner}.{field} must be seconds or None, not {interval!r}")
    if not 0 <= interval <= MAX_INTERVAL or (above_zero and interval == 0):
        rule = "above 0" if above_zero else "0 or more"
        raise InvalidValue(f"{owner}.{field} must be {rule} and at most 1e12, not {interval!r}")


def _check_count(owner: str, field: str, count: int | None, low: int, high: int | None) -> None:
    if count is None:
        return
    if isinstance(count, bool) or not isinstance(count, int):
        raise InvalidValue(f"{owner}.{field} must be an integer or None, not {count!r}")
    if count < low or (high is not None and count > high):
        bound = f"at least {low}" if high is None else f"{low} to {high}"
        raise InvalidValue(f"{owner}.{field} must be {bound}, not {count!r}")


def _check_flag(owner: str, field: str, flag: object) -> None:
    if not isinstance(flag, bool):
        raise InvalidValue(f"{owner}.{field} must be true or false, not {flag!r}")


def _check_member(owner: str, field: str, member: object, kind: type[Enum]) -> None:
    if not isinstance(member, kind):
        raise InvalidValue(f"{owner}.{field} must be a member of {kind.__name__}, not {member!r}")


@value
class ExpiryPolicy:
    """Turns an interval that a client or a message asked for into what is in force.

    All intervals are seconds; None means never (or: none is set).

    Attributes:
        default_session_expiry_interval: For MQTT 3.x clients with Clean Session 0, which cannot
            ask for one [7200, EMQX's `session_expiry_interval`]; None is the literal reading of
            3.1.1 §4.1, which allows both.
        maximum_session_expiry_interval: Cap for CONNECT, DISCONNECT and the default [None, as
            Mosquitto's `persistent_client_expiration`]; told in CONNACK.
        minimum_session_expiry_interval: Floor for CONNECT values other than 0 [None].
        default_message_expiry_interval: For messages that carry none, those of 3.x publishers
            included [None, as HiveMQ]. *Deviation*: breaks NN-9.1, absent being unlimited.
        maximum_message_expiry_interval: Cap; only makes the library delete earlier, the value on
            the wire stays received minus waiting [None]. *Deviation*: breaks NN-9.1.
        show_default_message_expiry: Tell receivers a default interval; never done for wills
            [False].
        expire_in_flight: At resume, give up a QoS 1 delivery that was sent before and has expired
            since [False]. *Deviation*: breaks MQTT-4.4.0-1.
        inbound_qos2_interval: Forget an inbound QoS 2 identifier whose PUBREL has not come for so
            long [None; EMQX's `await_rel_timeout` is 300]. *Deviation*: breaks MQTT-4.3.3-10.
        retry_interval: Re-send unacknowledged packets to connected MQTT 3.x clients after so long
            [None, as Mosquitto since 1.5]. Never done for 5.0 clients [MQTT-4.4.0-1].

    Spec: MQTT 5.0 §3.1.2.11.2, §3.2.2.3.2, §3.3.2.3.3; MQTT 3.1.1 §4.1, §4.4.
    """

    default_session_expiry_interval: float | None = 7200
    maximum_session_expiry_interval: float | None = None
    minimum_session_expiry_interval: float | None = None
    default_message_expiry_interval: float | None = None
    maximum_message_expiry_interval: float | None = None
    show_default_message_expiry: bool = False
    expire_in_flight: bool = False
    inbound_qos2_interval: float | None = None
    retry_interval: float | None = None

    def __attrs_post_init__(self) -> None:
        for name, above_zero in _INTERVALS:
            _check_interval("ExpiryPolicy", name, getattr(self, name), above_zero=above_zero)
        _check_flag("ExpiryPolicy", "show_default_message_expiry", self.show_default_message_expiry)
        _check_flag("ExpiryPolicy", "expire_in_flight", self.expire_in_flight)
        for name in ("minimum_session_expiry_interval", "maximum_session_expiry_interval"):
            interval = getattr(self, name)
            if interval is not None and not float(interval).is_integer():
                raise InvalidValue(
                    f"ExpiryPolicy.{name} must be whole seconds, because clients are told, "
                    f"not {interval!r}"
                )
        if self.retry_interval is not None and self.retry_interval < SHORTEST_RETRY:
            raise InvalidValue(
                f"ExpiryPolicy.retry_interval must be at least {SHORTEST_RETRY} seconds, "
                f"not {self.retry_interval!r}"
            )
        floor, cap = self.minimum_session_expiry_interval, self.maximum_session_expiry_interval
        if floor is not None and cap is not None and floor > cap:
            raise InvalidValue(
                "ExpiryPolicy.minimum_session_expiry_interval must not be above "
                f"maximum_session_expiry_interval, but {floor!r} > {cap!r}"
            )

    def at_connect(
        self, protocol_version: int, clean_start: bool, session_expiry_interval: int | None
    ) -> float | None:
        """The session expiry interval in force after CONNECT; None: never, 0: at close.

        *Cost* O(1).

        Spec: MQTT 5.0 §3.1.2.11.2 [NN-1.2], [NN-1.11], [NN-1.13], §3.2.2.3.2 [NN-1.3]; MQTT 3.1.1
        §3.1.2.4.
        """
        if protocol_version < 5:
            if clean_start:
                return 0
            return self._capped(self.default_session_expiry_interval)
        if not session_expiry_interval:
            return 0  # NN-1.2: absent equals 0
        if session_expiry_interval >= NEVER_ON_WIRE:
            return self._capped(None)
        floor = self.minimum_session_expiry_interval
        if floor is not None and session_expiry_interval < floor:
            return floor
        return self._capped(session_expiry_interval)

    def at_disconnect(self, session_expiry_interval: int) -> float | None:
        """The interval that a DISCONNECT asks for, capped and never raised.

        *Cost* O(1).

        Spec: MQTT 5.0 §3.14.2.2.2 [NN-1.4].
        """
        if session_expiry_interval >= NEVER_ON_WIRE:
            return self._capped(None)
        return self._capped(session_expiry_interval)

    def _capped(self, interval: float | None) -> float | None:
        cap = self.maximum_session_expiry_interval
        if cap is None:
            return interval
        return cap if interval is None else min(interval, cap)

    def message_lifetime(self, message_expiry_interval: int | None) -> float | None:
        """Seconds after which a message with this interval is deleted; None: never.

        *Cost* O(1).

        Spec: MQTT 5.0 §3.3.2.3.3 [MQTT-3.3.2-5], [NN-9.1].
        """
        interval: float | None = message_expiry_interval
        if interval is None:
            interval = self.default_message_expiry_interval
        cap = self.maximum_message_expiry_interval
        if cap is None:
            return interval
        return cap if interval is None else min(interval, cap)

    def told_message_expiry(self, message_expiry_interval: int | None) -> int | None:
        """The Message Expiry Interval that receivers are told, before waiting is taken off.

        *Cost* O(1).

        Spec: MQTT 5.0 §3.3.2.3.3 [MQTT-3.3.2-6].
        """
        if message_expiry_interval is None and self.show_default_message_expiry:
            default = self.default_message_expiry_interval
            return None if default is None else min(math.ceil(default), _UINT32_MAX)
        return message_expiry_interval


_INTERVALS = (
    ("default_session_expiry_interval", False),
    ("maximum_session_expiry_interval", False),
    ("minimum_session_expiry_interval", False),
    ("default_message_expiry_interval", True),
    ("maximum_message_expiry_interval", True),
    ("inbound_qos2_interval", True),
    ("retry_interval", True),
)


@unique
class OverflowPolicy(Enum):
    """Who gives way when a queue is full.

    *Deviation*: dropping QoS 1 or 2 breaks MQTT-4.5.0-1 by administration, as every broker does.
    """

    DROP_OLDEST = "drop_oldest"
    """The head of the queue (EMQX, RabbitMQ `drop-head`)."""
    DROP_NEWEST = "drop_newest"
    """The newcomer (Mosquitto, HiveMQ)."""
    DROP_EXPIRED_QOS0_OLDEST = "drop_expired_qos0_oldest"
    """What has expired, else the oldest QoS 0, else the oldest."""


@unique
class OverlapPolicy(Enum):
    """How many copies several matching subscriptions of one client make [NN-12.3]."""

    MERGE = "merge"
    """One copy at the highest QoS with all identifiers (Mosquitto, HiveMQ)."""
    EACH = "each"
    """One copy for each match (EMQX)."""


@unique
class UnauthorizedPolicy(Enum):
    """What an MQTT 3.x publisher gets that may not publish [3.1.1 MQTT-3.3.5-2]."""

    ACKNOWLEDGE = "acknowledge"
    """A normal acknowledgement; the message is not handed on."""
    CLOSE = "close"
    """The connection is closed."""


@value
class SessionLimits:
    """All that bounds growth, in counts and bytes; None means no bound.

    Attributes:
        maximum_sessions: Sessions in the store; beyond it CONNECT is refused with 0x97 [None].
        maximum_client_id_length: In characters, at least 23 [None; the standard's 65,535 bytes].
        maximum_subscriptions: For each session; beyond it SUBACK says 0x97 [None].
        maximum_filters_per_packet: Entries of one SUBSCRIBE or UNSUBSCRIBE, which is one piece of
            work; beyond it the connection is closed with 0x97 [1000].
        maximum_filter_levels: Levels of a topic filter; beyond it SUBACK says 0x8F [None; EMQX's
            `max_topic_levels` is 128].
        maximum_granted_qos: Highest QoS that a SUBSCRIBE is granted [2].
        maximum_send_window: Outgoing QoS 1 and 2 deliveries that one connection has in the air,
            besides the client's Receive Maximum [32, EMQX's `max_inflight`; 65,535 is allowed].
        maximum_queued_messages: For each session [1000, as Mosquitto and EMQX]; 0 queues nothing.
        maximum_queued_bytes: For each session: payload, topic and properties of each copy [None].
        overflow: Who gives way when a queue is full.
        queue_qos0: Keep QoS 0 messages for a client that is away [True, as EMQX's
            `mqueue_store_qos0`].
        maximum_inbound_qos2: Inbound QoS 2 identifiers that a session holds; a new one beyond it
            is refused with 0x97 [100, EMQX's `max_awaiting_rel`].
        maximum_retained_messages: In the store; a new topic beyond it takes the place of a QoS 0
            message, else is refused with 0x97 [None]. *Deviation*: a will, which cannot be
            refused, is delivered and not retained, which breaks MQTT-3.1.2-15.
        maximum_retained_bytes: The same for payload, topic and properties together [None].
            *Deviation*: breaks MQTT-3.1.2-15 in the same way.
        retained_replay_batch: Retained messages sent in one outcome because of SUBSCRIBE, and a
            tenth of the topics looked at for them [100]; the rest follows at once, call by call.

    Spec: MQTT 5.0 §4.1.1, §4.9 [MQTT-4.9.0-1].
    """

    maximum_sessions: int | None = None
    maximum_client_id_length: int | None = None
    maximum_subscriptions: int | None = None
    maximum_filters_per_packet: int | None = 1000
    maximum_filter_levels: int | None = None
    maximum_granted_qos: int = 2
    maximum_send_window: int = 32
    maximum_queued_messages: int | None = 1000
    maximum_queued_bytes: int | None = None
    overflow: OverflowPolicy = OverflowPolicy.DROP_EXPIRED_QOS0_OLDEST
    queue_qos0: bool = True
    maximum_inbound_qos2: int | None = 100
    maximum_retained_messages: int | None = None
    maximum_retained_bytes: int | None = None
    retained_replay_batch: int = 100

    def __attrs_post_init__(self) -> None:
        for name, low, high, optional in _COUNTS:
            count = getattr(self, name)
            if count is None and not optional:
                raise InvalidValue(f"SessionLimits.{name} must be an integer, not None")
            _check_count("SessionLimits", name, count, low, high)
        _check_flag("SessionLimits", "queue_qos0", self.queue_qos0)
        _check_member("SessionLimits", "overflow", self.overflow, OverflowPolicy)


_COUNTS = (
    ("maximum_sessions", 1, None, True),
    ("maximum_client_id_length", 23, None, True),
    ("maximum_subscriptions", 0, None, True),
    ("maximum_filters_per_packet", 1, None, True),
    ("maximum_filter_levels", 1, None, True),
    ("maximum_granted_qos", 0, 2, False),
    ("maximum_send_window", 1, 65_535, False),
    ("maximum_queued_messages", 0, None, True),
    ("maximum_queued_bytes", 0, None, True),
    ("maximum_inbound_qos2", 0, None, True),
    ("maximum_retained_messages", 0, None, True),
    ("maximum_retained_bytes", 0, None, True),
    ("retained_replay_batch", 1, None, False),
)


@value
class ServerOptions:
    """What the server offers its clients and which choice it makes where the standard leaves one.

    Attributes:
        receive_maximum: QoS 1 and 2 PUBLISH packets that a 5.0 client may have open [100]; told
            in CONNACK. MQTT 3.x has no such thing and is never closed for it.
        enforce_receive_maximum: Close with 0x93 beyond it [True]. False is a *deviation* from
            §3.3.4 [NN-10.4].
        maximum_packet_size: Largest packet that the host accepts; told in CONNACK [None]. The host
            counts the bytes.
        topic_alias_maximum: Told in CONNACK [0]; see `InboundAliases`.
        maximum_qos: Highest QoS that clients may publish with [2]; else 0x9B, 5.0 only.
        retain_available: Whether clients may retain [True]; else 0x9A, 5.0 only.
        server_keep_alive: Replaces the client's Keep Alive, 5.0 only [None]; 0 switches it off.
        overlap: Copies for overlapping subscriptions.
        upgrade_qos: Deliver at the granted QoS though published lower [False]. *Deviation*:
            breaks MQTT-3.8.4-8.
        unauthorized: What an unauthorized 3.x PUBLISH gets.

    Spec: MQTT 5.0 §3.2.2.3, §3.3.4.
    """

    receive_maximum: int = 100
    enforce_receive_maximum: bool = True
    maximum_packet_size: int | None = None
    topic_alias_maximum: int = 0
    maximum_qos: int = 2
    retain_available: bool = True
    server_keep_alive: int | None = None
    overlap: OverlapPolicy = OverlapPolicy.MERGE
    upgrade_qos: bool = False
    unauthorized: UnauthorizedPolicy = UnauthorizedPolicy.ACKNOWLEDGE

    def __attrs_post_init__(self) -> None:
        for name, low, high, optional in _OFFERS:
            count = getattr(self, name)
            if count is None and not optional:
                raise InvalidValue(f"ServerOptions.{name} must be an integer, not None")
            _check_count("ServerOptions", name, count, low, high)
        for name in ("enforce_receive_maximum", "retain_available", "upgrade_qos"):
            _check_flag("ServerOptions", name, getattr(self, name))
        _check_member("ServerOptions", "overlap", self.overlap, OverlapPolicy)
        _check_member("ServerOptions", "unauthorized", self.unauthorized, UnauthorizedPolicy)


_OFFERS = (
    ("receive_maximum", 1, 65_535, False),
    ("maximum_packet_size", 1, 268_435_460, True),
    ("topic_alias_maximum", 0, 65_535, False),
    ("maximum_qos", 0, 2, False),
    ("server_keep_alive", 0, 65_535, True),
)
