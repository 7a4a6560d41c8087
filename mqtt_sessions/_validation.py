"""What the constructors of a host's own values check, each field by its name.

A bad field raises `InvalidValue` with the field and its rule. What a peer can send is not judged
here but for its type, which only the host's decoder can get wrong.
"""

from __future__ import annotations

import math
from typing import NoReturn

from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.topics import is_shared_filter, is_valid_filter, is_valid_topic

__all__ = [
    "PUBLISH_REFUSALS",
    "SERVER_DISCONNECTS",
    "SUBSCRIBE_REFUSALS",
    "UINT32_MAX",
    "UNSUBSCRIBE_REFUSALS",
    "check_client_id",
    "check_code",
    "check_connection",
    "check_delivery",
    "check_filter",
    "check_filters",
    "check_flag",
    "check_instant",
    "check_integer",
    "check_kind",
    "check_message",
    "check_refusals",
    "check_sent_subscription",
    "check_subscription",
    "check_text",
    "check_tuple",
    "check_will",
    "reject",
]

UINT32_MAX = 0xFFFFFFFF
_SUBSCRIPTION_ID_MAX = 268_435_455
_MAX_BYTES = 65_535


def _codes(*codes: int) -> frozenset[ReasonCode]:
    return frozenset(map(ReasonCode, codes))


PUBLISH_REFUSALS = _codes(0x80, 0x83, 0x87, 0x90, 0x97, 0x99)
"""What PUBACK and PUBREC can say, but for 0x91, which is the library's to find out.

Spec: MQTT 5.0 §3.4.2.1 [MQTT-3.4.2-1], §3.5.2.1 [MQTT-3.5.2-1].
"""
SUBSCRIBE_REFUSALS = _codes(0x80, 0x83, 0x87, 0x8F, 0x97, 0x9E, 0xA1, 0xA2)
"""What SUBACK can say. Spec: MQTT 5.0 §3.9.3 [MQTT-3.9.3-2]."""
UNSUBSCRIBE_REFUSALS = _codes(0x80, 0x83, 0x87, 0x8F)
"""What UNSUBACK can say. Spec: MQTT 5.0 §3.11.3 [MQTT-3.11.3-2]."""
SERVER_DISCONNECTS = _codes(
    *(0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90),
    *range(0x93, 0xA3),
)
"""The errors that a server's DISCONNECT can say. Spec: MQTT 5.0 §3.14.2.1 [MQTT-3.14.2-1]."""


def reject(owner: str, field: str, rule: str, given: object) -> NoReturn:
    """Raise `InvalidValue`."""
    raise InvalidValue(f"{owner}.{field} {rule}, not {given!r}")


# ---------------------------------------------------------------- one field


def _reject_type(owner: str, field: str, kind: str, given: object, optional: bool) -> NoReturn:
    """It is of a wrong type, which is told instead of its value: that may be a payload."""
    found = "None" if given is None else type(given).__name__
    raise InvalidValue(
        f"{owner}.{field} must be {'None or ' * optional}of type {kind}, not {found}"
    )


def _is_integer(number: object, low: int, high: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and low <= number <= high


def _is_text(text: object) -> bool:
    """A string that MQTT can carry [MQTT-1.5.4-1], [MQTT-1.5.4-2]."""
    if not isinstance(text, str) or "\0" in text:
        return False
    try:
        return len(text.encode()) <= _MAX_BYTES
    except UnicodeEncodeError:
        return False


def check_integer(
    owner: str, field: str, number: object, low: int, high: int, *, optional: bool = False
) -> None:
    """An integer within bounds, or None if that is allowed."""
    if _is_integer(number, low, high) or (optional and number is None):
        return
    if not isinstance(number, int) or isinstance(number, bool):
        _reject_type(owner, field, "int", number, optional)
    reject(owner, field, f"must be {'None or ' * optional}{low} to {high}", number)


def check_flag(owner: str, field: str, flag: object) -> None:
    """A bool."""
    if not isinstance(flag, bool):
        _reject_type(owner, field, "bool", flag, False)


def check_instant(owner: str, field: str, instant: object, *, optional: bool = False) -> None:
    """A finite number of seconds, or None if that is allowed."""
    if optional and instant is None:
        return
    if not isinstance(instant, (int, float)) or isinstance(instant, bool):
        _reject_type(owner, field, "float or int", instant, optional)
    try:
        if math.isfinite(instant):
            return
    except OverflowError:
        reject(owner, field, "must be a number that a float can hold", "a larger int")
    reject(owner, field, f"must be {'None or ' * optional}a finite number", instant)


def check_text(owner: str, field: str, text: object, *, optional: bool = False) -> None:
    """A string that MQTT can carry, or None if that is allowed."""
    if _is_text(text) or (optional and text is None):
        return
    if not isinstance(text, str):
        _reject_type(owner, field, "str", text, optional)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        rule = f"must be text that UTF-8 can encode, without the surrogate at {error.start}"
        raise InvalidValue(f"{owner}.{field} {rule} [MQTT-1.5.4-1]") from None
    if size > _MAX_BYTES:
        raise InvalidValue(f"{owner}.{field} must be at most 65535 bytes of UTF-8, not {size}")
    raise InvalidValue(
        f"{owner}.{field} must be without U+0000, which is at {text.index(chr(0))} [MQTT-1.5.4-2]"
    )


def check_kind(
    owner: str, field: str, given: object, kind: type, *, optional: bool = False
) -> None:
    """An instance of a class, or None if that is allowed."""
    if not (isinstance(given, kind) or (optional and given is None)):
        _reject_type(owner, field, kind.__name__, given, optional)


def check_tuple(owner: str, field: str, given: object, kind: type) -> None:
    """A tuple of instances of a class; a list could change, and has no hash."""
    if not isinstance(given, tuple):
        _reject_type(owner, field, "tuple", given, False)
    for index, each in enumerate(given):
        check_kind(owner, f"{field}[{index}]", each, kind)


def check_client_id(
    owner: str, client_id: object, field: str = "client_id", *, optional: bool = False
) -> None:
    """What names a session; whether there is one is the store's question."""
    if (isinstance(client_id, str) and client_id) or (optional and client_id is None):
        return
    if not isinstance(client_id, str):
        _reject_type(owner, field, "str", client_id, optional)
    raise InvalidValue(f"{owner}.{field} must be {'None or ' * optional}a string that is not empty")


def check_connection(owner: str, connection: object) -> None:
    """Something that can be a key."""
    try:
        hash(connection)
    except TypeError:
        kind = type(connection).__name__
        raise InvalidValue(f"{owner}.connection must be hashable, which {kind} is not") from None


def check_code(owner: str, field: str, code: object, allowed: frozenset[ReasonCode]) -> None:
    """One of some reason codes; a plain int is none."""
    if not isinstance(code, ReasonCode):
        given = f"the int {code}" if type(code) is int else f"of type {type(code).__name__}"
        raise InvalidValue(f"{owner}.{field} must be a member of ReasonCode, not {given}")
    if code not in allowed:
        named = ", ".join(f"0x{each:02X}" for each in sorted(allowed))
        given = f"0x{code:02X} ({code.name})"
        raise InvalidValue(f"{owner}.{field} must be one of {named}, not {given}")


def check_refusals(
    owner: str, refusals: object, entries: int, allowed: frozenset[ReasonCode]
) -> None:
    """Nothing, or None or a code for each entry of a packet."""
    if not isinstance(refusals, tuple):
        _reject_type(owner, "refusals", "tuple", refusals, False)
    if not refusals:
        return
    if len(refusals) != entries:
        rule = f"must be empty or hold one entry for each of {entries} filters"
        reject(owner, "refusals", rule, len(refusals))
    for index, refusal in enumerate(refusals):
        if refusal is not None:
            check_code(owner, f"refusals[{index}]", refusal, allowed)


# ---------------------------------------------------------------- values inside of events


def check_message(owner: str, message: Message) -> None:
    """A message that may be published. *Cost* O(length of its texts)."""
    topic_name = message.topic_name
    if not isinstance(topic_name, str) or not is_valid_topic(topic_name):
        check_text(owner, "topic_name", topic_name)
        rule = "must be a topic name, not empty and without wildcards [MQTT-4.7.0-1]"
        reject(owner, "topic_name", rule, topic_name)
    _check_message_types(owner, message)
    response_topic = message.response_topic
    if response_topic is not None and not is_valid_topic(response_topic):
        rule = "must be None or a topic name without wildcards [MQTT-3.3.2-14]"
        reject(owner, "response_topic", rule, response_topic)


def _check_message_types(owner: str, message: Message) -> None:
    """All but the topics, which a peer's fault may be."""
    check_kind(owner, "payload", message.payload, bytes)
    check_integer(owner, "qos", message.qos, 0, 2)
    check_flag(owner, "retain", message.retain)
    interval = message.message_expiry_interval
    if interval is not None:
        check_integer(owner, "message_expiry_interval", interval, 0, UINT32_MAX, optional=True)
    indicator = message.payload_format_indicator
    if indicator is not None:
        check_integer(owner, "payload_format_indicator", indicator, 0, 1, optional=True)
    if message.content_type is not None:
        check_text(owner, "content_type", message.content_type, optional=True)
    if message.response_topic is not None:
        check_text(owner, "response_topic", message.response_topic, optional=True)
    data = message.correlation_data
    if data is not None:
        check_kind(owner, "correlation_data", data, bytes, optional=True)
        if len(data) > _MAX_BYTES:
            reject(owner, "correlation_data", "must be at most 65535 bytes", len(data))
    if message.user_properties != ():
        _check_user_properties(owner, message.user_properties)


def _check_user_properties(owner: str, pairs: object) -> None:
    check_tuple(owner, "user_properties", pairs, tuple)
    assert isinstance(pairs, tuple)
    for index, pair in enumerate(pairs):
        if len(pair) != 2:
            rule = f"must be a pair of name and value, not {len(pair)} entries"
            raise InvalidValue(f"{owner}.user_properties[{index}] {rule}")
        for side, text in enumerate(pair):
            check_text(owner, f"user_properties[{index}][{side}]", text)


def check_will(owner: str, will: Will, protocol_version: int) -> None:
    """A will as a decoder gives it; its topic name is the client's, and answered if it is bad."""
    check_kind(owner, "message", will.message, Message)
    inner, message = f"{owner}.message", will.message
    check_kind(inner, "topic_name", message.topic_name, str)
    _check_message_types(inner, message)
    delay = will.will_delay_interval
    check_kind(owner, "will_delay_interval", delay, int)
    if not _is_integer(delay, 0, UINT32_MAX if protocol_version == 5 else 0):
        rule = "must be 0 to 4294967295, and 0 before MQTT 5.0"
        reject(owner, "will_delay_interval", rule, delay)


def check_delivery(owner: str, delivery: Delivery) -> None:
    """A delivery that a host's router has made. *Cost* O(length of the message's texts)."""
    check_kind(owner, "message", delivery.message, Message)
    check_message(f"{owner}.message", delivery.message)
    check_integer(owner, "qos", delivery.qos, 0, 2)
    check_flag(owner, "retain", delivery.retain)
    ids = delivery.subscription_ids
    if ids != ():
        check_tuple(owner, "subscription_ids", ids, int)
        for index, each in enumerate(ids):
            check_integer(owner, f"subscription_ids[{index}]", each, 1, _SUBSCRIPTION_ID_MAX)
    if delivery.received_at != float("-inf"):
        check_instant(owner, "received_at", delivery.received_at)
    check_instant(owner, "expires_at", delivery.expires_at, optional=True)
    interval = delivery.message_expiry_interval
    check_integer(owner, "message_expiry_interval", interval, 0, UINT32_MAX, optional=True)
    check_client_id(owner, delivery.publisher, "publisher", optional=True)
    check_flag(owner, "is_retained", delivery.is_retained)


def check_subscription(owner: str, subscription: Subscription) -> None:
    """A subscription that a host makes."""
    topic_filter = subscription.topic_filter
    check_filter(owner, "topic_filter", topic_filter)
    if is_shared_filter(topic_filter):
        rule = "must not be a shared subscription, which is not supported yet"
        reject(owner, "topic_filter", rule, topic_filter)
    check_integer(owner, "qos", subscription.qos, 0, 2)
    check_flag(owner, "no_local", subscription.no_local)
    check_flag(owner, "retain_as_published", subscription.retain_as_published)
    check_integer(owner, "retain_handling", subscription.retain_handling, 0, 2)
    subscription_id = subscription.subscription_id
    check_integer(owner, "subscription_id", subscription_id, 1, _SUBSCRIPTION_ID_MAX, optional=True)


def check_sent_subscription(owner: str, subscription: Subscription) -> None:
    """A subscription as a decoder gives it; what the client asks for is answered if it is bad."""
    check_kind(owner, "topic_filter", subscription.topic_filter, str)
    check_kind(owner, "qos", subscription.qos, int)
    check_kind(owner, "no_local", subscription.no_local, bool)
    check_kind(owner, "retain_as_published", subscription.retain_as_published, bool)
    check_kind(owner, "retain_handling", subscription.retain_handling, int)
    check_kind(owner, "subscription_id", subscription.subscription_id, int, optional=True)


def check_filters(owner: str, field: str, filters: object) -> None:
    """Filters that a host names."""
    check_tuple(owner, field, filters, str)
    assert isinstance(filters, tuple)
    for index, topic_filter in enumerate(filters):
        check_filter(owner, f"{field}[{index}]", topic_filter)


def check_filter(owner: str, field: str, topic_filter: object) -> None:
    """A filter that a host names."""
    if not isinstance(topic_filter, str) or not is_valid_filter(topic_filter):
        check_text(owner, field, topic_filter)
        rule = "must be a well-formed topic filter [MQTT-4.7.1-1]"
        reject(owner, field, rule, topic_filter)
