"""The bytes in which SQLite journals hold messages and deliveries.

    message, and delivery that has its message itself:
        flags, received_at, length of the topic name, topic name, options, payload
    delivery of a message that has a row of its own:
        flags, how far back that row is, options

An option costs nothing where it is absent. In this order: expires_at, interval that receivers are
told, publisher, subscription identifiers, Message Expiry Interval, the other properties as JSON.
"""

from __future__ import annotations

import json
import math
import struct
from functools import lru_cache

from mqtt_sessions.changes import MessageStored
from mqtt_sessions.messages import Delivery, Message

__all__ = [
    "DAMAGE",
    "Damaged",
    "back_of",
    "pack_alone",
    "pack_body",
    "pack_copy",
    "unpack_body",
    "unpack_copy",
]

_HEAD = struct.Struct("<HdB")
_WIDE_HEAD = struct.Struct("<HdI")
_COPY = struct.Struct("<HB")
_WIDE_COPY = struct.Struct("<Hq")
_DOUBLE = struct.Struct("<d")
_UINT32 = struct.Struct("<I")
_BYTE = struct.Struct("B")

_pack_head = _HEAD.pack
_LENGTHS = tuple(bytes((length,)) for length in range(256))

# Bits 0 and 1 are the QoS of the message, 8 and 9 that of the delivery.
_RETAIN = 1 << 2
_EXPIRES = 1 << 3
_TOLD = 1 << 4
_PUBLISHER = 1 << 5
_INTERVAL = 1 << 6
_PROPERTIES = 1 << 7
_DELIVERY_RETAIN = 1 << 10
_IS_RETAINED = 1 << 11
_WIDE = 1 << 12
_COPIED = 1 << 13
_OWN_ARRIVAL = 1 << 14
_IDS = 1 << 15
_OPTIONS = _EXPIRES | _TOLD | _PUBLISHER | _INTERVAL | _PROPERTIES | _IDS
_ARRIVAL = _EXPIRES | _TOLD | _PUBLISHER
_COPY_BITS = 3 << 8 | _DELIVERY_RETAIN | _IS_RETAINED | _COPIED | _OWN_ARRIVAL | _IDS | _ARRIVAL

# What is plain has no options but perhaps a publisher, as almost all have.
_PLAIN = {
    message_qos | retain * _RETAIN | qos << 8 | sent * _DELIVERY_RETAIN | replayed * _IS_RETAINED: (
        message_qos,
        retain == 1,
        qos,
        sent == 1,
        replayed == 1,
    )
    for message_qos in range(3)
    for retain in range(2)
    for qos in range(3)
    for sent in range(2)
    for replayed in range(2)
}

_NARROW = 256
_SUBSCRIPTION_ID_MAX = 268_435_455


class Damaged(ValueError):
    """What no journal has written."""


DAMAGE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, struct.error)
"""All that reading a row can raise which no journal has written."""


# ---------------------------------------------------------------- writing


def _delivery_flags(delivery: Delivery) -> int:
    return (
        delivery.qos << 8
        | (_DELIVERY_RETAIN if delivery.retain else 0)
        | (_IS_RETAINED if delivery.is_retained else 0)
    )


def _pack_ids(ids: tuple[int, ...]) -> bytes:
    return struct.pack(f"<I{len(ids)}I", len(ids), *ids)


def _pack_properties(message: Message) -> bytes:
    data = message.correlation_data
    text = json.dumps(
        (
            message.payload_format_indicator,
            message.content_type,
            message.response_topic,
            None if data is None else data.decode("latin-1"),
            message.user_properties,
        ),
        separators=(",", ":"),
    ).encode()
    return _UINT32.pack(len(text)) + text


def pack_body(
    message: Message,
    topic_name: str,
    received_at: float,
    expires_at: float | None,
    told: int | None,
    publisher: str | None,
    delivery: Delivery | None = None,
) -> bytes:
    """A message with its arrival, and with how the only copy of it is delivered.

    Args:
        message: The message.
        topic_name: Its own; empty where the row's key has it.
        received_at: When it arrived.
        expires_at: When it is deleted.
        told: Interval that receivers are told.
        publisher: Who sent it.
        delivery: The only copy, if the row is one.
    """
    topic = topic_name.encode()
    flags = message.qos | _RETAIN if message.retain else message.qos
    name = b"" if publisher is None else publisher.encode()
    wide = _WIDE if len(topic) >= _NARROW or len(name) >= _NARROW else 0
    options = b""
    if expires_at is not None:
        flags |= _EXPIRES
        options = _DOUBLE.pack(expires_at)
    if told is not None:
        flags |= _TOLD
        options += _UINT32.pack(told)
    if publisher is not None:
        flags |= _PUBLISHER
        options += (_UINT32 if wide else _BYTE).pack(len(name)) + name
    if delivery is not None:
        flags |= delivery.qos << 8
        if delivery.retain or delivery.is_retained:
            flags |= _delivery_flags(delivery)
        if delivery.subscription_ids:
            flags |= _IDS
            options += _pack_ids(delivery.subscription_ids)
    if message.message_expiry_interval is not None:
        flags |= _INTERVAL
        options += _UINT32.pack(message.message_expiry_interval)
    if (
        message.payload_format_indicator is not None
        or message.content_type is not None
        or message.response_topic is not None
        or message.correlation_data is not None
        or message.user_properties
    ):
        flags |= _PROPERTIES
        options += _pack_properties(message)
    head = (_WIDE_HEAD if wide else _HEAD).pack(flags | wide, received_at, len(topic))
    return b"".join((head, topic, options, message.payload))


def pack_alone(delivery: Delivery) -> bytes:
    """A delivery that has its message itself: what most rows are, and so by the shortest way."""
    message, publisher = delivery.message, delivery.publisher
    topic = message.topic_name.encode()
    name = b"" if publisher is None else publisher.encode()
    if (
        delivery.expires_at is not None
        or delivery.message_expiry_interval is not None
        or delivery.subscription_ids
        or message.message_expiry_interval is not None
        or message.payload_format_indicator is not None
        or message.content_type is not None
        or message.response_topic is not None
        or message.correlation_data is not None
        or message.user_properties
        or len(topic) >= _NARROW
        or len(name) >= _NARROW
    ):
        return pack_body(
            message,
            message.topic_name,
            delivery.received_at,
            delivery.expires_at,
            delivery.message_expiry_interval,
            publisher,
            delivery,
        )
    flags = message.qos | delivery.qos << 8
    if message.retain:
        flags |= _RETAIN
    if delivery.retain or delivery.is_retained:
        flags |= _delivery_flags(delivery)
    if publisher is None:
        return _pack_head(flags, delivery.received_at, len(topic)) + topic + message.payload
    head = _pack_head(flags | _PUBLISHER, delivery.received_at, len(topic))
    return b"".join((head, topic, _LENGTHS[len(name)], name, message.payload))


def pack_copy(delivery: Delivery, row: MessageStored | None) -> tuple[int, bytes]:
    """What all deliveries that are this one have in common: flags, and what stands behind them.

    Args:
        delivery: A copy of a message that has a row of its own.
        row: That row, if it is known; the arrival is not written again where it is the same.
    """
    flags = _COPIED | _delivery_flags(delivery)
    options = b""
    if (
        row is None
        or delivery.received_at != row.received_at
        or delivery.expires_at != row.expires_at
        or delivery.message_expiry_interval != row.message_expiry_interval
        or delivery.publisher != row.publisher
    ):
        flags |= _OWN_ARRIVAL
        options = _DOUBLE.pack(delivery.received_at)
        if delivery.expires_at is not None:
            flags |= _EXPIRES
            options += _DOUBLE.pack(delivery.expires_at)
        if delivery.message_expiry_interval is not None:
            flags |= _TOLD
            options += _UINT32.pack(delivery.message_expiry_interval)
        if delivery.publisher is not None:
            flags |= _PUBLISHER
            text = delivery.publisher.encode()
            options += _UINT32.pack(len(text)) + text
    if delivery.subscription_ids:
        flags |= _IDS
        options += _pack_ids(delivery.subscription_ids)
    return flags, options


def back_of(flags: int, back: int, options: bytes) -> bytes:
    """The row of one such delivery, whose message is so many identifiers before its own."""
    if 0 <= back < _NARROW:
        return _COPY.pack(flags, back) + options
    return _WIDE_COPY.pack(flags | _WIDE, back) + options


# ---------------------------------------------------------------- reading


@lru_cache(4096)
def _name(text: bytes) -> str:
    """Publishers are few, and each name is held once."""
    return text.decode()


def _piece(body: bytes, begin: int, length: int) -> bytes:
    piece = body[begin : begin + length]
    if len(piece) != length:
        raise Damaged("it is cut short")
    return piece


class _Options:
    """What stands behind a head, read in the order in which it was written."""

    __slots__ = ("at", "body", "flags")

    def __init__(self, body: bytes, at: int, flags: int) -> None:
        self.body = body
        self.at = at
        self.flags = flags

    def double(self) -> float:
        (number,) = _DOUBLE.unpack_from(self.body, self.at)
        self.at += 8
        return float(number)

    def uint32(self) -> int:
        (number,) = _UINT32.unpack_from(self.body, self.at)
        self.at += 4
        return int(number)

    def text(self, *, wide: bool) -> bytes:
        if wide:
            length = self.uint32()
        else:
            length = self.body[self.at] if self.at < len(self.body) else 0
            self.at += 1
        piece = _piece(self.body, self.at, length)
        self.at += length
        return piece

    def arrival(self, *, wide: bool) -> tuple[float | None, int | None, str | None]:
        """expires_at, the interval that receivers are told, and the publisher."""
        flags = self.flags
        expires_at = self.double() if flags & _EXPIRES else None
        told = self.uint32() if flags & _TOLD else None
        publisher = _name(self.text(wide=wide)) if flags & _PUBLISHER else None
        return expires_at, told, publisher

    def ids(self) -> tuple[int, ...]:
        if not self.flags & _IDS:
            return ()
        count = self.uint32()
        piece = _piece(self.body, self.at, 4 * count)
        self.at += 4 * count
        ids = tuple(int(each) for each in struct.unpack_from(f"<{count}I", piece))
        if not ids or min(ids) < 1 or max(ids) > _SUBSCRIPTION_ID_MAX:
            raise Damaged("a subscription identifier is out of range")
        return ids

    def message(self, topic_name: str) -> Message:
        """The rest of a message, which the payload ends."""
        flags = self.flags
        interval = self.uint32() if flags & _INTERVAL else None
        if not flags & _PROPERTIES:
            payload = self.body[self.at :]
            return Message(topic_name, payload, flags & 3, flags & _RETAIN != 0, interval)
        indicator, content, response, data, pairs = json.loads(self.text(wide=True))
        payload = self.body[self.at :]
        if indicator not in (None, 0, 1) or not _are_texts(content, response, data):
            raise Damaged("a property is out of range")
        pairs = tuple((str(name), str(value)) for name, value in pairs)
        if data is not None:
            data = data.encode("latin-1")
        qos, retain = flags & 3, flags & _RETAIN != 0
        return Message(
            topic_name, payload, qos, retain, interval, indicator, content, response, data, pairs
        )


def _are_texts(*texts: object) -> bool:
    return all(text is None or isinstance(text, str) for text in texts)


def unpack_body(body: bytes, topic_name: str | None = None) -> Delivery:
    """What `pack_body` has packed; where it was no copy, that part of the delivery means nothing.

    Args:
        body: The bytes.
        topic_name: Where the row's key has it.

    Raises:
        Exception: One of `DAMAGE`.
    """
    flags, received_at, length = _HEAD.unpack_from(body)
    plain = _PLAIN.get(flags & ~_PUBLISHER)
    if plain is None or not received_at < math.inf:
        return _unpack_rare(body, topic_name)
    at = 11 + length
    topic = body[11:at].decode() if topic_name is None else topic_name
    publisher = None
    if flags & _PUBLISHER:
        begin = at + 1
        at = begin + body[at]
        publisher = _name(body[begin:at])
    if at > len(body):
        raise Damaged("it is cut short")
    message_qos, retain, qos, delivery_retain, is_retained = plain
    message = Message(topic, body[at:], message_qos, retain)
    return Delivery(
        message, qos, delivery_retain, (), received_at, None, None, publisher, is_retained
    )


def _unpack_rare(body: bytes, topic_name: str | None) -> Delivery:
    """A body with options, or a damaged one."""
    flags, received_at, length = _HEAD.unpack_from(body)
    begin = _HEAD.size
    if flags & _WIDE:
        flags, received_at, length = _WIDE_HEAD.unpack_from(body)
        begin = _WIDE_HEAD.size
    topic_bytes = _piece(body, begin, length)
    options = _Options(body, begin + length, flags)
    expires_at, told, publisher = options.arrival(wide=flags & _WIDE != 0)
    ids = options.ids()
    topic = topic_bytes.decode() if topic_name is None else topic_name
    message = options.message(topic)
    plain = _PLAIN.get(flags & ~(_OPTIONS | _WIDE))
    if plain is None or not received_at < math.inf:
        raise Damaged("its flags or its arrival are out of range")
    _, _, qos, retain, is_retained = plain
    return Delivery(
        message, qos, retain, ids, received_at, expires_at, told, publisher, is_retained
    )


def unpack_copy(
    body: bytes,
    delivery_id: int,
    messages: dict[int, MessageStored],
    alike: dict[object, Delivery],
) -> tuple[int | None, Delivery]:
    """A delivery, and the identifier of its message's row if it has one.

    Args:
        body: The bytes.
        delivery_id: Of the row.
        messages: Those that have rows.
        alike: Deliveries that were unpacked so far, under what makes them alike.

    Raises:
        Exception: One of `DAMAGE`.
    """
    if len(body) == 3:
        flags, back = _COPY.unpack(body)
        if not flags & _COPIED or flags & _WIDE:
            raise Damaged("it is cut short")
        message_id = delivery_id - back
        key: object = message_id << 16 | flags  # most are found without another object
        end = 3
    else:
        flags = body[0] | body[1] << 8
        if not flags & _COPIED:
            return None, unpack_body(body)
        head = _WIDE_COPY if flags & _WIDE else _COPY
        end = head.size
        flags, back = head.unpack(body[:end])
        flags &= ~_WIDE
        message_id = delivery_id - back
        key = (message_id, flags, body[end:]) if end < len(body) else message_id << 16 | flags
    delivery = alike.get(key)
    if delivery is None:
        row = messages.get(message_id)
        if row is None:
            raise Damaged(f"its message {message_id} is missing")
        delivery, same = _copy_of(row, _Options(body, end, flags))
        if same is not None:  # a later batch has written again what the message's row has
            bits, rest = same
            plainest = (message_id, bits, rest) if rest else message_id << 16 | bits
            delivery = alike.setdefault(plainest, delivery)
        alike[key] = delivery
    return message_id, delivery


def _copy_of(row: MessageStored, options: _Options) -> tuple[Delivery, tuple[int, bytes] | None]:
    """A copy; and how it would be written beside its message, if it has the same arrival."""
    flags = options.flags
    plain = _PLAIN.get(flags & (3 << 8 | _DELIVERY_RETAIN | _IS_RETAINED))
    if plain is None or flags & ~_COPY_BITS or (flags & _ARRIVAL and not flags & _OWN_ARRIVAL):
        raise Damaged("its flags are out of range")
    arrival = row.expires_at, row.message_expiry_interval, row.publisher
    received_at = row.received_at
    same = None
    if flags & _OWN_ARRIVAL:
        received_at, own = options.double(), options.arrival(wide=True)
        if received_at == row.received_at and own == arrival:
            same = flags & ~(_OWN_ARRIVAL | _ARRIVAL), options.body[options.at :]
        arrival = own
    ids = options.ids()
    if options.at != len(options.body) or not received_at < math.inf:
        raise Damaged("its arrival is out of range, or something stands behind its end")
    _, _, qos, retain, is_retained = plain
    return Delivery(row.message, qos, retain, ids, received_at, *arrival, is_retained), same
