"""What a durable session, and what it holds, is called in the journal.

Nothing here exists in a store that is not durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqtt_sessions.messages import Delivery
from mqtt_sessions.packet_ids import MAX_PACKET_ID

if TYPE_CHECKING:
    from mqtt_sessions.state import SessionState

__all__ = ["Body", "Rows"]

_BLOCK = 1024
"""Packet identifiers reserved at a time: a row every 512 messages, and a gap after a crash.

What is used between two rows lies in the first half of its block, and so in the block of the row
before, too: nothing has to wait for a row of its own.
"""


class Body:
    """A message that rows refer to; how many is counted in memory and never stored.

    Attributes:
        message_id: Its row; None: the only row that has it holds it itself.
        references: Rows that refer to it.
        deliveries: The copies, by whose identity it is found: kept alive as long as it is.
    """

    __slots__ = ("deliveries", "message_id", "references")

    def __init__(self, message_id: int | None) -> None:
        self.message_id = message_id
        self.references = 0
        self.deliveries: list[Delivery] = []


class Rows:
    """A durable session's own row, and those of what it has in flight.

    Those of its queue stand in the queue, beside the messages.

    Attributes:
        session: Whose.
        session_id: Its incarnation.
        protocol_version: Of its latest connection.
        in_flight: Packet identifier to the row of the delivery, and its message; not in the PUBREL
            phase, where there is none.
        reserved_from: Identifiers from here ...
        renew_at: ... to here, half a block, may be used; the next one has more reserved.
        reserved_until: The last one that is reserved.
        has_replay: Whether the journal has a replay of retained messages.
    """

    __slots__ = (
        "has_replay",
        "in_flight",
        "protocol_version",
        "renew_at",
        "reserved_from",
        "reserved_until",
        "session",
        "session_id",
    )

    def __init__(self, session: SessionState, session_id: int, protocol_version: int) -> None:
        self.session = session
        self.session_id = session_id
        self.protocol_version = protocol_version
        self.in_flight: dict[int, tuple[int, Body | None]] = {}
        self.has_replay = False
        self.reserve(0)

    def is_ahead(self, packet_id: int) -> bool:
        """Whether others were in use up to here, so that the block before may not reach as far."""
        return (packet_id - self.reserved_from) % MAX_PACKET_ID > _BLOCK // 2

    def reserve(self, last_packet_id: int) -> None:
        """Reserve a block behind this identifier; the row has to be stored."""
        self.reserved_from = last_packet_id
        self.renew_at = last_packet_id + _BLOCK // 2 - 1
        until = last_packet_id + _BLOCK
        self.reserved_until = until if until <= MAX_PACKET_ID else until - MAX_PACKET_ID
