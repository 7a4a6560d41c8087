"""Packet identifiers of one sender: 1 to 65,535, never one in use."""

from __future__ import annotations

from collections.abc import Container

__all__ = ["MAX_PACKET_ID", "next_packet_id"]

MAX_PACKET_ID = 65_535


def next_packet_id(last: int, in_use: Container[int]) -> int:
    """The first identifier after `last` that is not in use, 1 following 65,535.

    The caller has made sure that one is free. Identifiers go round, so that the one just freed is
    the last to come again and a late acknowledgement finds nobody.

    *Cost* O(1) unless identifiers in use stand in the way, one look for each.

    Spec: MQTT 5.0 §2.2.1 [MQTT-2.2.1-4].
    """
    packet_id = last
    for _ in range(MAX_PACKET_ID):
        packet_id = packet_id + 1 if packet_id < MAX_PACKET_ID else 1
        if packet_id not in in_use:
            return packet_id
    raise AssertionError("no packet identifier is free")
