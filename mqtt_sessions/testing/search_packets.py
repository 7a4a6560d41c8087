"""A packet on its way, as far as it decides what happens."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from mqtt_sessions.actions import SendPublish, SendPubrel
from mqtt_sessions.events import (
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
)
from mqtt_sessions.messages import Message
from mqtt_sessions.testing.canonical import Names, number

__all__ = ["packet_key"]

_GIVEN_BY_SERVER = frozenset(
    {SendPublish, SendPubrel, PubackReceived, PubrecReceived, PubcompReceived}
)


def packet_key(
    packet: Any, client_id: str, names: Names, message: Callable[[Message], Hashable]
) -> tuple[Any, ...]:
    """A packet on its way; its connection is that of the wire."""
    kind: type = type(packet)
    packet_id = getattr(packet, "packet_id", None)
    if packet_id is not None:
        by_server = kind in _GIVEN_BY_SERVER
        given = names.sent(client_id) if by_server else names.received(client_id)
        packet_id = number(given, packet_id)
    delivery = getattr(packet, "delivery", None)
    if delivery is not None:
        told = packet.message_expiry_interval
        return kind, packet_id, message(delivery.message), delivery.qos, packet.dup, told
    if kind is PublishReceived:
        return kind, packet_id, message(packet.message), packet.dup
    return (
        kind,
        packet_id,
        getattr(packet, "reason_code", None),
        getattr(packet, "session_present", None),
        getattr(packet, "receive_maximum", None),
        getattr(packet, "session_expiry_interval", None),
    )
