"""Instants and other people's words, for a reader at a terminal."""

from __future__ import annotations

from mqtt_sessions.inspect.summary import Due

__all__ = ["due", "printable", "relative", "span"]

LONGEST = 200
"""Characters of somebody else's text."""

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))
"""With its seconds; each is used from two of it on."""


def printable(text: str, longest: int = LONGEST) -> str:
    """A text that was chosen by a client, which might drive the terminal or disguise itself.

    What cannot be printed, and the backslash, is escaped as in Python.
    """
    cut = text[:longest]
    shown = "".join(
        each if each.isprintable() and each != "\\" else each.encode("unicode_escape").decode()
        for each in cut
    )
    return shown if len(text) <= longest else f"{shown}…"


def span(seconds: float) -> str:
    """A length of time in its largest unit that is not too coarse, rounded down."""
    for name, unit in _UNITS:
        if seconds >= 2 * unit:
            return f"{seconds // unit:.0f} {name}"
    return f"{seconds // 1:.0f} s"


def relative(at: float | None, now: float) -> str:
    """An instant as seen from now; None: never."""
    if at is None:
        return "never"
    if abs(at - now) < 1:
        return "now"
    return f"in {span(at - now)}" if at > now else f"{span(now - at)} ago"


def due(given: Due, now: float) -> str:
    """When something ends."""
    if given.after_start is None:
        return relative(given.at, now)
    return (
        f"{span(given.after_start)} after the next start"
        if given.after_start
        else "at the next start"
    )
