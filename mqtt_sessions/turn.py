"""What one call collects, and what its sessions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mqtt_sessions._values import value
from mqtt_sessions.actions import Action
from mqtt_sessions.changes import Change
from mqtt_sessions.deadlines import DeadlineIndex
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.notices import DropReason, Notice
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits

if TYPE_CHECKING:
    from mqtt_sessions.recording import Recorder

__all__ = ["Outcome", "Settings", "SizeOf", "Turn"]

SizeOf = Callable[[Delivery, int], int]
"""`size_of(delivery, protocol_version)`: bytes of the PUBLISH packet; pure and total."""


@value
class Outcome:
    """What one call came to: make `changes` durable, then perform `actions`, in order.

    Attributes:
        changes: Rows to be stored before any action is seen; none if the store is not durable.
        actions: What the host has to do.
        notices: What happened; may be ignored.
    """

    changes: tuple[Change, ...] = ()
    actions: tuple[Action, ...] = ()
    notices: tuple[Notice, ...] = ()


EMPTY = Outcome()


class Settings:
    """Policy, limits and options that a session lives under; most sessions share one object.

    Attributes:
        policy: When things end.
        limits: How far things grow.
        own_limits: The client brought them, so that `LimitsChanged` leaves them alone.
        options: What the server offers.
        default_lifetime: What the policy says of a message without an expiry interval.
        default_told: The same for the interval that receivers are told.
    """

    __slots__ = (
        "_size_of",
        "_sized",
        "default_lifetime",
        "default_told",
        "limits",
        "options",
        "own_limits",
        "policy",
    )

    def __init__(
        self,
        policy: ExpiryPolicy,
        limits: SessionLimits,
        options: ServerOptions,
        size_of: SizeOf | None,
        *,
        own_limits: bool = False,
    ) -> None:
        self.own_limits = own_limits
        self.policy = policy
        self.limits = limits
        self.options = options
        self._size_of = size_of
        self._sized: tuple[Delivery | None, int, int] = (None, 0, 0)
        self.default_lifetime = policy.message_lifetime(None)
        self.default_told = policy.told_message_expiry(None)

    @property
    def size_of(self) -> SizeOf | None:
        """Bytes of a PUBLISH packet, as the host counts them."""
        return self._size_of

    def exceeds(self, delivery: Delivery, protocol_version: int, maximum: int) -> bool:
        """Whether the packet is larger; asked once for all receivers of a delivery in a row."""
        known, version, size = self._sized
        if known is not delivery or version != protocol_version:
            if self._size_of is None:
                return False
            size = self._size_of(delivery, protocol_version)
            self._sized = (delivery, protocol_version, size)
        return size > maximum

    def expiry_of(self, message: Message) -> tuple[float | None, int | None]:
        """Seconds after which a message is deleted, and the interval that receivers are told."""
        interval = message.message_expiry_interval
        if interval is None:
            return self.default_lifetime, self.default_told
        return self.policy.message_lifetime(interval), self.policy.told_message_expiry(interval)


class Turn:
    """The lists that a call's steps append to, the clock, the index and the totals.

    One object serves all calls of a store: `take` hands over what was collected.
    """

    __slots__ = (
        "accepted",
        "actions",
        "busy",
        "completed",
        "deadlines",
        "dropped",
        "firing_at",
        "notices",
        "now",
        "recorder",
        "wills",
    )

    def __init__(self) -> None:
        self.now = -1e308  # before any instant, and finite
        self.firing_at = 0.0
        self.busy = False
        self.actions: list[Action] = []
        self.notices: list[Notice] = []
        self.wills: list[tuple[str, Message, float | None]] = []
        self.deadlines = DeadlineIndex()
        self.accepted = 0
        self.completed = 0
        self.dropped: dict[DropReason, int] = {}
        self.recorder: Recorder | None = None  # of a durable store

    def take(self) -> Outcome:
        """The outcome of what was collected; the lists are empty afterwards."""
        actions, notices = self.actions, self.notices
        if self.recorder is not None:
            changes = self.recorder.take(self.now)
            if not (changes or actions or notices):
                return EMPTY
            outcome = Outcome(changes, tuple(actions), tuple(notices))
            actions.clear()
            notices.clear()
            return outcome
        if not notices:
            if not actions:
                return EMPTY
            outcome = Outcome((), tuple(actions))
            actions.clear()
            return outcome
        outcome = Outcome((), tuple(actions), tuple(notices))
        actions.clear()
        notices.clear()
        return outcome

    def clear(self) -> None:
        """Forget what was collected: the call has raised, and what it owes is still owed."""
        self.actions.clear()
        self.notices.clear()
        self.wills.clear()
        if self.recorder is not None:
            self.recorder.clear()
