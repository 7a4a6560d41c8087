"""The reference in docs/reference/ is complete, and nothing stands there that does not exist."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest

import mqtt_sessions
from mqtt_sessions import journals, wire
from mqtt_sessions.actions import Action
from mqtt_sessions.changes import Change
from mqtt_sessions.deadlines import Deadline, DeadlineKind
from mqtt_sessions.events import Event
from mqtt_sessions.flows import Phase
from mqtt_sessions.gate import CommitGate
from mqtt_sessions.journals import MemoryJournal, Quarantined, SQLiteJournal, ThreadedJournal
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
from mqtt_sessions.recovering import RowSetAside
from mqtt_sessions.session import Counters, InFlight, Session
from mqtt_sessions.snapshots import (
    ConnectionSnapshot,
    DurableSnapshot,
    ReplaySnapshot,
    RetainedSnapshot,
    RoutedSnapshot,
    RowsSnapshot,
    SessionContents,
    SessionSnapshot,
    StoreSnapshot,
    WillFanoutSnapshot,
)
from mqtt_sessions.store import Recovered, SessionStore
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.topic_aliases import InboundAliases, OutboundAliases
from mqtt_sessions.turn import Outcome

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"

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
    "store.md": (Counters, InFlight, Phase, Outcome, Recovered, RowSetAside),
    "changes.md": get_args(Change),
    "journals.md": (Quarantined,),
    "snapshots.md": (
        StoreSnapshot,
        SessionSnapshot,
        SessionContents,
        ConnectionSnapshot,
        ReplaySnapshot,
        RetainedSnapshot,
        WillFanoutSnapshot,
        RoutedSnapshot,
        RowsSnapshot,
        DurableSnapshot,
    ),
    "gate.md": (),
    "topics.md": (),
    "wire.md": (wire.Role, *get_args(wire.Packet), wire.PacketType),
}
# What has a section but is neither a value nor an enumeration.
OTHERS: dict[str, tuple[str, ...]] = {
    "events.md": ("Event",),
    "actions.md": ("Action",),
    "notices.md": ("Notice",),
    "changes.md": ("Change", "Stored", "Row", "row_of", "fold"),
    "journals.md": (
        "Journal",
        "SQLiteJournal",
        "ThreadedJournal",
        "MemoryJournal",
        "JournalError",
        "JournalUnusable",
    ),
    "store.md": (
        "SessionStore",
        "SizeOf",
        "Session",
        "MqttSessionsError",
        "InvalidValue",
        "InvalidState",
    ),
    "gate.md": ("CommitGate",),
    "topics.md": (
        "is_valid_topic",
        "is_valid_filter",
        "matches",
        "InboundAliases",
        "OutboundAliases",
    ),
    "wire.md": (
        "Decoder",
        "to_event",
        "Encoder",
        "PublishCache",
        "refuse_connect",
        "size_of",
        "WireError",
        "encode",
        "Packet",
        "SendAction",
        "UserProperties",
    ),
}
WITH_MEMBERS: tuple[tuple[str, type], ...] = (
    ("store.md", SessionStore),
    ("store.md", Session),
    ("gate.md", CommitGate),
    ("journals.md", SQLiteJournal),
    ("journals.md", ThreadedJournal),
    ("journals.md", MemoryJournal),
    ("topics.md", InboundAliases),
    ("topics.md", OutboundAliases),
    ("wire.md", wire.Decoder),
    ("wire.md", wire.Encoder),
    ("wire.md", wire.PublishCache),
    ("wire.md", wire.WireError),
)
DOCUMENTED = [(page, cls) for page, classes in PAGES.items() for cls in classes]
VALUES = [(page, cls) for page, cls in DOCUMENTED if attrs.has(cls)]
ENUMS = [(page, cls) for page, cls in DOCUMENTED if issubclass(cls, Enum)]


def headings(page: str) -> list[tuple[str, str]]:
    """Each heading that is in code, such as `name` or `name(argument)`, and the text under it."""
    parts = re.split(r"^##+ (.+)$", (REFERENCE / page).read_text(), flags=re.MULTILINE)
    return [
        (title.strip("`"), text)
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
        if title.startswith("`")
    ]


def sections(page: str) -> dict[str, str]:
    """The text under each of these headings, by name, in order."""
    found: dict[str, str] = {}
    for title, text in headings(page):
        name = title.partition("(")[0]
        assert name not in found, f"{name} stands twice in {page}"
        found[name] = text
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
    others = OTHERS.get(page, ())
    assert [name for name in sections(page) if name in others] == list(others)
    named = [name for name in sections(page) if name not in others]
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


# ---------------------------------------------------------------- names, members, signatures


def test_every_public_name_has_one_section_and_nothing_else_has() -> None:
    apart = ("wire.md", "journals.md")
    named = [name for page in PAGES if page not in apart for name in sections(page)]
    assert sorted(named) == sorted(mqtt_sessions.__all__)
    assert sorted(sections("wire.md")) == sorted(wire.__all__)
    assert sorted(sections("journals.md")) == sorted(journals.__all__)


class _Shown:
    """Shows itself as given, where a signature shows a default."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def shown_signature(function: Callable[..., Any]) -> str:
    """The parameters as a reference shows them: without `self` and types."""
    shown = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        plain = parameter.replace(annotation=inspect.Parameter.empty)
        if attrs.has(type(plain.default)):
            assert plain.default == type(plain.default)()
            plain = plain.replace(default=_Shown(f"{type(plain.default).__name__}()"))
        shown.append(plain)
    return str(inspect.Signature(shown))


@pytest.mark.parametrize("page", ["topics.md", "wire.md"])
def test_every_function_with_its_parameters(page: str) -> None:
    home = wire if page == "wire.md" else mqtt_sessions
    for title, _ in headings(page):
        given = getattr(home, title.partition("(")[0])
        if inspect.isfunction(given):
            assert title == given.__name__ + shown_signature(given)


def public_members(cls: type) -> set[str]:
    """Methods as they are called, and the names of all else, as documented where documented."""
    names = {
        name
        for base in cls.__mro__
        if base not in (object, *Exception.__mro__)
        for name in vars(base)
        if not name.startswith("_")
    }
    if cls is wire.WireError:
        names |= set(vars(wire.WireError(ReasonCode.MALFORMED_PACKET, "")))
    return {
        name + shown_signature(member) if callable(member := getattr(cls, name, None)) else name
        for name in names
    }


@pytest.mark.parametrize(
    ("page", "cls"), WITH_MEMBERS, ids=lambda given: getattr(given, "__name__", None)
)
def test_every_public_member_and_nothing_else(page: str, cls: type) -> None:
    text = sections(page)[cls.__name__]
    assert f"\n    {cls.__name__}{shown_signature(cls)}\n" in text
    table = rows(text, "member")
    assert all(cells[1] for cells in table), "a member without a meaning"
    entries = [entry for cells in table for entry in re.findall(r"`([^`]+)`", cells[0])]
    operations = [entry for entry in entries if re.match(r"len\(|iter\(|.* in |.*\[", entry)]
    assert sorted(set(entries) - set(operations)) == sorted(public_members(cls))
    special = ("__len__", "__contains__", "__iter__", "__getitem__")
    assert len(operations) == sum(name in vars(cls) for name in special)


# ---------------------------------------------------------------- unnumbered rules


def cited_rules() -> set[str]:
    """Every NN-x.y in the package and in docs/, those within "NN-1.2 to NN-1.4" included."""
    cited: set[str] = set()
    pages = [page for page in (ROOT / "docs").rglob("*.md") if page.stem != "unnumbered-rules"]
    for path in [*(ROOT / "mqtt_sessions").rglob("*.py"), *pages]:
        text = path.read_text()
        cited |= set(re.findall(r"NN-\d+\.\d+[a-z]?", text))
        for part, low, high in re.findall(r"NN-(\d+)\.(\d+)\]? to \[?NN-\1\.(\d+)", text):
            cited |= {f"NN-{part}.{number}" for number in range(int(low), int(high) + 1)}
    return cited - {"NN-x.y"}


def test_every_unnumbered_rule_that_the_code_cites_can_be_looked_up() -> None:
    lines = (REFERENCE / "unnumbered-rules.md").read_text().splitlines()
    table = [line.strip("| ").split(" | ") for line in lines if line.startswith("| NN-")]
    listed = [cells[0] for cells in table]
    assert len(set(listed)) == len(listed)
    assert not cited_rules() - set(listed)
    for cells in table:
        assert re.match(r"text, \S|comment, \S|choice", cells[1]), cells[0]
        assert cells[2].endswith(".")
