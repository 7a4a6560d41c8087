"""The exceptions for a host that is at fault; a peer's fault never raises."""

from __future__ import annotations

__all__ = ["InvalidState", "InvalidValue", "MqttSessionsError"]


class MqttSessionsError(Exception):
    """Base of every exception that the library raises on purpose."""


class InvalidState(MqttSessionsError):
    """The event cannot happen now; the state is as it was before the call."""


class InvalidValue(MqttSessionsError, ValueError):
    """A field holds a value that the named rule forbids; nothing was changed."""
