"""Wills on their way: one whose delay runs, and one that is being handed to its receivers.

Spec: MQTT 5.0 §3.1.2.5, §3.1.3.2.2.
"""

from __future__ import annotations

from collections.abc import Iterable

from mqtt_sessions.deadlines import DeadlineKind, Timer
from mqtt_sessions.messages import Delivery
from mqtt_sessions.state import SessionState

__all__ = ["WillFanout"]


class WillFanout(Timer):
    """A will that did not reach all its receivers within the limit of a call.

    It stays due; a receiver that an event reads before its turn gets its copy first.

    Attributes:
        client_id: Whose will.
        remaining: Receiver to its copies.
    """

    __slots__ = ("client_id", "remaining")

    kind = DeadlineKind.WILL_DELAY

    def __init__(self, client_id: str, copies: Iterable[tuple[SessionState, Delivery]]) -> None:
        super().__init__()
        self.client_id = client_id
        self.remaining: dict[SessionState, list[Delivery]] = {}
        for session, delivery in copies:
            self.remaining.setdefault(session, []).append(delivery)

    @property
    def subject(self) -> str:
        return self.client_id
