"""The reference model, part 3: the reason codes of SUBACK and UNSUBACK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mqtt_sessions.testing.model_values import Disagreement, ModelConnection

__all__ = ["FAILURES", "check_all", "check_suback", "check_unsuback"]

IN_V5 = (0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2)
FAILURES: dict[int, tuple[int, ...]] = {5: IN_V5, 4: (0x80,), 3: ()}
"""What SUBACK says of an entry that is refused [MQTT-3.9.3-2]; MQTT 3.1 has nothing for it."""

OF_UNSUBACK = (0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91)

Allowed = list[tuple[int, ...]]
"""The codes that are right, for each entry of a request; the first is what a store has to say."""


def check_suback(
    connection: ModelConnection, allowed: Allowed, most: list[int | None]
) -> Callable[[Any], None]:
    """Checks each code: the granted QoS or a failure [MQTT-3.8.4-7], in order [MQTT-3.9.3-1].

    Args:
        connection: Where it goes.
        allowed: The codes that are right.
        most: For each entry the highest QoS that may be granted; None: it has to be refused.
    """
    cite, version = connection.cite, connection.protocol_version

    def check(action: Any) -> None:
        given = action.reason_codes
        if len(given) != len(allowed):
            rule = cite("MQTT-3.8.4-6", "MQTT-3.8.4-5")
            raise Disagreement(rule, f"{len(allowed)} codes: {action}")
        number = _first_wrong(given, allowed)
        if number is None:
            return
        code, highest = given[number], most[number]
        rule = cite("MQTT-3.8.4-7", "MQTT-3.8.4-5")
        if _is_reordered(given, allowed):
            rule = cite("MQTT-3.9.3-1")
        elif code not in (0, 1, 2, *FAILURES[version]):
            rule = cite("MQTT-3.9.3-2")
        elif highest is not None and (code < highest or code > 2):
            rule = "host"  # a server may, and this one says that it does not
        raise Disagreement(rule, f"code {number} is {_words(allowed[number])}: {action}")

    return check


def check_unsuback(connection: ModelConnection, allowed: Allowed) -> Callable[[Any], None] | None:
    """Checks each code [MQTT-3.11.3-2], in order [MQTT-3.11.3-1]; 3.x has none."""
    if connection.protocol_version < 5:
        return None

    def check(action: Any) -> None:
        given = action.reason_codes
        if len(given) != len(allowed):
            raise Disagreement("MQTT-3.11.3-2", f"{len(allowed)} codes: {action}")
        number = _first_wrong(given, allowed)
        if number is None:
            return
        rule = "MQTT-3.11.3-2"
        if _is_reordered(given, allowed):
            rule = "MQTT-3.11.3-1"
        elif 0x00 in allowed[number] and given[number] in OF_UNSUBACK:
            rule = "MQTT-3.10.4-1"  # an exact match is removed
        raise Disagreement(rule, f"code {number} is {_words(allowed[number])}: {action}")

    return check


def check_all(code: int, entries: int, rule: str) -> Callable[[Any], None]:
    """Checks that each entry has this code."""

    def check(action: Any) -> None:
        if tuple(action.reason_codes) != (code,) * entries:
            raise Disagreement(rule, f"each code is 0x{code:02X}: {action}")

    return check


def _first_wrong(given: tuple[int, ...], allowed: Allowed) -> int | None:
    pairs = enumerate(zip(given, allowed, strict=True))
    return next((number for number, (code, right) in pairs if code not in right), None)


def _is_reordered(given: tuple[int, ...], allowed: Allowed) -> bool:
    return sorted(given) == sorted(right[0] for right in allowed)


def _words(right: tuple[int, ...]) -> str:
    return " or ".join(f"0x{each:02X}" for each in right)
