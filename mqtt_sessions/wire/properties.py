"""Data types and property lists, read and written.

Readers take the bytes, a position and the end of what they may look at, and return a value and
the next position. They are strict and raise `WireError`; writers raise `InvalidValue`.

Spec: MQTT 5.0 §1.5, §2.2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.topics import is_valid_topic
from mqtt_sessions.wire.packets import WireError
from mqtt_sessions.wire.tables import PROPERTIES, PROPERTIES_OF, Kind, Property

__all__ = [
    "malformed",
    "protocol_error",
    "read_binary",
    "read_properties",
    "read_text",
    "read_two_bytes",
    "read_variable",
    "variable_size",
    "write_binary",
    "write_property",
    "write_property_list",
    "write_text",
    "write_two_bytes",
    "write_variable",
]

_TWO_BYTES_MAX = 0xFFFF
_FOUR_BYTES_MAX = 0xFFFFFFFF
_VARIABLE_MAX = 268_435_455


def malformed(problem: str) -> WireError:
    """The error for bytes that cannot be parsed. Spec: MQTT 5.0 §1.2, §4.13.1."""
    return WireError(ReasonCode.MALFORMED_PACKET, problem)


def protocol_error(problem: str) -> WireError:
    """The error for what can be parsed and is not allowed. Spec: MQTT 5.0 §1.2, §4.13.1."""
    return WireError(ReasonCode.PROTOCOL_ERROR, problem)


# ---------------------------------------------------------------- reading


def read_two_bytes(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A Two Byte Integer. Spec: MQTT 5.0 §1.5.2."""
    after = position + 2
    if after > end:
        raise malformed("two bytes are missing")
    return data[position] << 8 | data[position + 1], after


def _read_four_bytes(data: bytes, position: int, end: int) -> tuple[int, int]:
    after = position + 4
    if after > end:
        raise malformed("four bytes are missing")
    return int.from_bytes(data[position:after], "big"), after


def read_variable(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A Variable Byte Integer in the fewest bytes possible. Spec: MQTT 5.0 §1.5.5."""
    number = 0
    for shift in (0, 7, 14, 21):
        if position >= end:
            raise malformed("a Variable Byte Integer is cut off")
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise malformed("a Variable Byte Integer is not minimal [MQTT-1.5.5-1]")
            return number, position
    raise malformed("a Variable Byte Integer has more than four bytes")


def read_text(data: bytes, position: int, end: int) -> tuple[str, int]:
    """A UTF-8 Encoded String; a leading U+FEFF stays. Spec: MQTT 5.0 §1.5.4 [MQTT-1.5.4-3]."""
    start = position + 2
    if start > end:
        raise malformed("the length of a string is missing")
    after = start + (data[position] << 8 | data[position + 1])
    if after > end:
        raise malformed("a string is cut off")
    try:
        text = data[start:after].decode()
    except UnicodeDecodeError:
        raise malformed("a string is not well-formed UTF-8 [MQTT-1.5.4-1]") from None
    if "\0" in text:
        raise malformed("a string holds U+0000 [MQTT-1.5.4-2]")
    return text, after


def read_binary(data: bytes, position: int, end: int) -> tuple[bytes, int]:
    """Binary Data. Spec: MQTT 5.0 §1.5.6."""
    start, end_of_data = position + 2, end
    if start > end_of_data:
        raise malformed("the length of binary data is missing")
    after = start + (data[position] << 8 | data[position + 1])
    if after > end_of_data:
        raise malformed("binary data is cut off")
    return data[start:after], after


def _read_pair(data: bytes, position: int, end: int) -> tuple[tuple[str, str], int]:
    name, position = read_text(data, position, end)
    text, position = read_text(data, position, end)
    return (name, text), position


def _read_bit(data: bytes, position: int, end: int) -> tuple[int, int]:
    if position >= end:
        raise malformed("a byte is missing")
    byte = data[position]
    if byte > 1:
        raise protocol_error(f"a property that is 0 or 1 holds {byte}")
    return byte, position + 1


def _read_boolean(data: bytes, position: int, end: int) -> tuple[bool, int]:
    byte, position = _read_bit(data, position, end)
    return byte == 1, position


def _read_topic(data: bytes, position: int, end: int) -> tuple[str, int]:
    topic, position = read_text(data, position, end)
    if not is_valid_topic(topic):
        raise protocol_error("Response Topic is no topic name [MQTT-3.3.2-14]")
    return topic, position


Reader = Callable[[bytes, int, int], tuple[Any, int]]

_READERS: dict[Kind, Reader] = {
    Kind.BIT: _read_bit,
    Kind.BOOLEAN: _read_boolean,
    Kind.TWO_BYTES: read_two_bytes,
    Kind.FOUR_BYTES: _read_four_bytes,
    Kind.VARIABLE: read_variable,
    Kind.TEXT: read_text,
    Kind.TOPIC: _read_topic,
    Kind.BINARY: read_binary,
    Kind.PAIR: _read_pair,
}

_READABLE: dict[str, dict[int, tuple[str, Reader, bool, bool]]] = {
    owner: {
        identifier: (
            PROPERTIES[identifier].name,
            _READERS[PROPERTIES[identifier].kind],
            PROPERTIES[identifier].above_zero,
            PROPERTIES[identifier].repeats,
        )
        for identifier in identifiers
    }
    for owner, identifiers in PROPERTIES_OF.items()
}


def read_properties(owner: str, data: bytes, position: int, end: int) -> tuple[dict[str, Any], int]:
    """A property list with its length.

    Args:
        owner: Key of `PROPERTIES_OF`.
        data: The bytes.
        position: Where the Property Length begins.
        end: Where the packet ends.

    Returns:
        Values by field name, tuples for what may be repeated; and the position after the list.

    *Cost* O(bytes). *Bound* the bytes of the list.

    Spec: MQTT 5.0 §2.2.2.
    """
    length, position = read_variable(data, position, end)
    stop = position + length
    if stop > end:
        raise malformed("the properties are cut off")
    readable = _READABLE[owner]
    found: dict[str, Any] = {}
    repeated: dict[str, list[Any]] = {}
    while position < stop:
        known = readable.get(data[position])
        if known is None:
            raise malformed(f"property 0x{data[position]:02X} is not valid in {owner}")
        name, read, above_zero, repeats = known
        content, position = read(data, position + 1, stop)
        if above_zero and content == 0:
            raise protocol_error(f"{name} is 0")
        if repeats:
            repeated.setdefault(name, []).append(content)
        elif name in found:
            raise protocol_error(f"{name} stands more than once in {owner}")
        else:
            found[name] = content
    for name, contents in repeated.items():
        found[name] = tuple(contents)
    return found, position


# ---------------------------------------------------------------- writing


def _checked(what: str, number: object, low: int, high: int) -> int:
    if isinstance(number, int) and not isinstance(number, bool) and low <= number <= high:
        return number
    raise InvalidValue(f"{what} must be {low} to {high}, not {number!r}")


def write_two_bytes(what: str, number: int) -> bytes:
    """A Two Byte Integer."""
    return _checked(what, number, 0, _TWO_BYTES_MAX).to_bytes(2, "big")


def _write_four_bytes(what: str, number: int) -> bytes:
    return _checked(what, number, 0, _FOUR_BYTES_MAX).to_bytes(4, "big")


def write_variable(what: str, number: int) -> bytes:
    """A Variable Byte Integer in the fewest bytes possible [MQTT-1.5.5-1]."""
    _checked(what, number, 0, _VARIABLE_MAX)
    if number < 0x80:
        return bytes((number,))
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def variable_size(number: int) -> int:
    """Bytes of a Variable Byte Integer; pure and total."""
    if number < 0x80:
        return 1
    if number < 0x4000:
        return 2
    return 3 if number < 0x200000 else 4


def write_text(what: str, text: str) -> bytes:
    """A UTF-8 Encoded String [MQTT-1.5.4-1], [MQTT-1.5.4-2]."""
    if not isinstance(text, str) or "\0" in text:
        raise InvalidValue(f"{what} must be a string without U+0000, not {text!r}")
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise InvalidValue(f"{what} must not hold surrogates: {text!r}") from None
    if len(encoded) > _TWO_BYTES_MAX:
        raise InvalidValue(f"{what} must not exceed 65535 bytes, but has {len(encoded)}")
    return len(encoded).to_bytes(2, "big") + encoded


def write_binary(what: str, content: bytes) -> bytes:
    """Binary Data."""
    if not isinstance(content, bytes) or len(content) > _TWO_BYTES_MAX:
        raise InvalidValue(f"{what} must be bytes, at most 65535 of them")
    return len(content).to_bytes(2, "big") + content


def _write_pair(what: str, pair: tuple[str, str]) -> bytes:
    name, text = pair
    return write_text(what, name) + write_text(what, text)


def _write_bit(what: str, bit: int) -> bytes:
    return b"\1" if _checked(what, bit, 0, 1) else b"\0"


def _write_boolean(what: str, flag: bool) -> bytes:
    if not isinstance(flag, bool):
        raise InvalidValue(f"{what} must be true or false, not {flag!r}")
    return b"\1" if flag else b"\0"


def _write_topic(what: str, topic: str) -> bytes:
    written = write_text(what, topic)
    if not is_valid_topic(topic):
        raise InvalidValue(f"{what} must be a topic name [MQTT-3.3.2-14], not {topic!r}")
    return written


_WRITERS: dict[Kind, Callable[[str, Any], bytes]] = {
    Kind.BIT: _write_bit,
    Kind.BOOLEAN: _write_boolean,
    Kind.TWO_BYTES: write_two_bytes,
    Kind.FOUR_BYTES: _write_four_bytes,
    Kind.VARIABLE: write_variable,
    Kind.TEXT: write_text,
    Kind.TOPIC: _write_topic,
    Kind.BINARY: write_binary,
    Kind.PAIR: _write_pair,
}

_WRITABLE: dict[str, tuple[tuple[bytes, Property], ...]] = {
    owner: tuple((bytes((identifier,)), PROPERTIES[identifier]) for identifier in identifiers)
    for owner, identifiers in PROPERTIES_OF.items()
}


def _write_one(prefix: bytes, known: Property, content: Any) -> bytes:
    if known.above_zero and content == 0:
        raise InvalidValue(f"{known.name} must not be 0")
    return prefix + _WRITERS[known.kind](known.name, content)


def write_property(identifier: int, content: Any) -> bytes:
    """One property with its identifier."""
    return _write_one(bytes((identifier,)), PROPERTIES[identifier], content)


def write_property_list(owner: str, holder: object) -> bytes:
    """The properties of `holder` that are not None, without the Property Length.

    Args:
        owner: Key of `PROPERTIES_OF`.
        holder: A packet (or a mapping's stand-in) whose fields have the names of the properties.

    Raises:
        InvalidValue: A value that the standard forbids.
    """
    written = []
    for prefix, known in _WRITABLE[owner]:
        content = getattr(holder, known.name, None)
        if content is None:
            continue
        if known.repeats:
            written += [_write_one(prefix, known, item) for item in content]
        else:
            written.append(_write_one(prefix, known, content))
    return b"".join(written)
