"""Wills on their way: one whose delay runs, and one that is being handed to its receivers.

Spec: MQTT 5.0 §3.1.2.5, §3.1.3.2.2.
"""

from __future__ import annotations

from mqtt_sessions.deadlines import DeadlineKind, Timer
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.snapshots import WillFanoutSnapshot
from mqtt_sessions.state import Overlap, Route, SessionState

__all__ = ["WillFanout"]


class WillFanout(Timer):
    """A will that did not reach all its receivers within the limit of a call.

    It stays due; a receiver that an event reads before its turn gets its copy first.

    Attributes:
        client_id: Whose will.
        message: The will.
        received_at: When it was published.
        expires_at: When copies that wait are deleted; None: never.
        remaining: Receiver to the subscriptions that match; receivers are in no order.
        made: Deliveries by the options that they were made for.
    """

    __slots__ = ("client_id", "expires_at", "made", "message", "received_at", "remaining")

    kind = DeadlineKind.WILL_DELAY

    def __init__(
        self, client_id: str, message: Message, received_at: float, expires_at: float | None
    ) -> None:
        super().__init__()
        self.client_id = client_id
        self.message = message
        self.received_at = received_at
        self.expires_at = expires_at
        self.remaining: dict[SessionState, Route | Overlap | list[Route | Overlap]] = {}
        self.made: dict[int | tuple[int, ...], Delivery] = {}

    @property
    def subject(self) -> str:
        return self.client_id

    def snapshot(self) -> WillFanoutSnapshot:
        """The same as a value; subscriptions cannot change before their copy is handed out."""
        return WillFanoutSnapshot(
            self.client_id,
            self.message,
            self.received_at,
            self.expires_at,
            self.at,
            tuple(
                (session.client_id, tuple(each.options for each in _listed(routes)))
                for session, routes in self.remaining.items()
            ),
        )

    @classmethod
    def restore(cls, saved: WillFanoutSnapshot, sessions: dict[str, SessionState]) -> WillFanout:
        """The will on its way to what is left of its receivers."""
        fanout = cls(saved.client_id, saved.message, saved.received_at, saved.expires_at)
        for client_id, copies in saved.remaining:
            session = sessions[client_id]
            routes = [Overlap.of(session, options) for options in copies]
            fanout.remaining[session] = routes[0] if len(routes) == 1 else [*routes]
        return fanout


def _listed(routes: Route | Overlap | list[Route | Overlap]) -> list[Route | Overlap]:
    return routes if isinstance(routes, list) else [routes]
