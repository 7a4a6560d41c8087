"""Times and names as a reader at a terminal gets them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_sessions.inspect import Due
from mqtt_sessions.inspect.words import due, printable, relative, span

DAY = 86_400.0


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (None, "never"),
        (0.9, "now"),
        (-0.9, "now"),
        (3.0, "in 3 s"),
        (119.9, "in 119 s"),
        (120.0, "in 2 min"),
        (57 * 60.0, "in 57 min"),
        (7199.0, "in 119 min"),
        (7200.0, "in 2 h"),
        (2 * DAY - 1, "in 47 h"),
        (2 * DAY, "in 2 d"),
        (1e9, "in 11574 d"),
        (-12.0, "12 s ago"),
        (-3 * 3600.0, "3 h ago"),
        (1e308, f"in {1e308 // DAY:.0f} d"),
    ],
)
def test_an_instant_as_seen_from_now(at: float | None, told: str) -> None:
    assert relative(at, 0.0) == told


def test_when_something_ends() -> None:
    assert due(Due(), 5.0) == "never"
    assert due(Due(8.0), 5.0) == "in 3 s"
    assert due(Due(None, 3600.0), 5.0) == "60 min after the next start"
    assert due(Due(None, 0.0), 5.0) == "at the next start"
    assert span(0.0) == "0 s"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain-1/ü", "plain-1/ü"),
        ("\x1b[2Jx", "\\x1b[2Jx"),
        ("a\nb\r\x07\x7f\x9b", "a\\nb\\r\\x07\\x7f\\x9b"),
        ("\u202eevil", "\\u202eevil"),
        ("\\n", "\\\\n"),
        ("x" * 201, "x" * 200 + "…"),
    ],
)
def test_names_cannot_drive_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(max_size=200), st.text(max_size=200))
def test_what_is_shown_can_be_printed_and_tells_names_apart(one: str, other: str) -> None:
    assert printable(one).isprintable()
    assert (printable(one) == printable(other)) == (one == other)
