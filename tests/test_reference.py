"""The reference in docs/reference/ is complete, and nothing stands there that does not exist."""

from __future__ import annotations

import re
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest

from mqtt_sessions.actions import Action
from mqtt_sessions.deadlines import Deadline, DeadlineKind
from mqtt_sessions.events import Event
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.notices import DropReason, EndReason, Notice
from mqtt_sessions.policy import (
    ExpiryPolicy,
    OverflowPolicy,
    OverlapPolicy,
    ServerOptions,
    SessionLimits,
    UnauthorizedPolicy,
)
from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.turn import Outcome

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"

PAGES: dict[str, tuple[type, ...]] = {
    "events.md": (*get_args(Event), Message, Will, Subscription, Delivery),
    "actions.md": get_args(Action),
    "notices.md": (*get_args(Notice), DropReason, EndReason),
    "configuration.md": (
        ExpiryPolicy,
        SessionLimits,
        ServerOptions,
        OverflowPolicy,
        OverlapPolicy,
        UnauthorizedPolicy,
    ),
    "reason-codes.md": (ReasonCode, ConnectReturnCode),
    "time.md": (Deadline, DeadlineKind),
    "store.md": (Outcome,),
}
DOCUMENTED = [(page, cls) for page, classes in PAGES.items() for cls in classes]
VALUES = [(page, cls) for page, cls in DOCUMENTED if attrs.has(cls)]
ENUMS = [(page, cls) for page, cls in DOCUMENTED if issubclass(cls, Enum)]


def sections(page: str) -> dict[str, str]:
    """The text under each heading that is a name in code, by that name, in order."""
    parts = re.split(r"^##+ (.+)$", (REFERENCE / page).read_text(), flags=re.MULTILINE)
    found: dict[str, str] = {}
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        if title.startswith("`"):
            assert title.strip("`") not in found, f"{title} stands twice in {page}"
            found[title.strip("`")] = text
    return found


def rows(text: str, head: str) -> list[list[str]]:
    """The cells of the table whose head begins with this word; empty if there is none."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if inside and not set(line) <= set("|-"):
            found.append(cells)
        inside = inside or cells[0] == head
    return found


def shown_value(member: Enum) -> str:
    if isinstance(member, ReasonCode | ConnectReturnCode):
        return f"0x{member:02X}"
    return str(member.value) if isinstance(member, IntEnum) else f"`{member.value}`"


def shown_default(default: Any) -> str:
    if default is attrs.NOTHING:
        return "required"
    if isinstance(default, Enum):
        return f"`{type(default).__name__}.{default.name}`"
    return f"`{default!r}`"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_exactly_what_there_is_in_its_order(page: str) -> None:
    named = [name for name in sections(page) if name not in ("SessionStore", "Session")]
    assert named == [cls.__name__ for cls in PAGES[page]]


@pytest.mark.parametrize(
    ("page", "cls"), VALUES, ids=lambda given: getattr(given, "__name__", None)
)
def test_every_field_with_type_and_default(page: str, cls: type) -> None:
    given = rows(sections(page)[cls.__name__], "field")
    wanted = [
        [f"`{field.name}`", str(field.type).replace(" | ", " or "), shown_default(field.default)]
        for field in attrs.fields(cls)
    ]
    assert [cells[:3] for cells in given] == wanted
    assert all(cells[3] for cells in given), "a field without a meaning"


@pytest.mark.parametrize(("page", "cls"), ENUMS, ids=lambda given: getattr(given, "__name__", None))
def test_every_member_of_an_enumeration(page: str, cls: type[Enum]) -> None:
    given = rows(sections(page)[cls.__name__], "member")
    wanted = [
        [
            f"`{member.name}`",
            shown_value(member),
        ]
        for member in cls
    ]
    assert [cells[:2] for cells in given] == wanted
    assert all(cells[2] for cells in given), "a member without a meaning"


def test_every_method_of_the_policy() -> None:
    given = [cells[0] for cells in rows(sections("configuration.md")["ExpiryPolicy"], "method")]
    public = [
        name
        for name, member in vars(ExpiryPolicy).items()
        if callable(member) and not name.startswith("_")
    ]
    assert [re.match(r"`(\w+)\(", cell)[1] for cell in given] == public  # type: ignore[index]
