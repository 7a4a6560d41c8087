"""A run as a reader wants it: who said what to whom, when, and where it went wrong.

Pure functions over recorded steps: `transcript` writes lines of text, `sequence_diagram` the same
as a Mermaid `sequenceDiagram`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

from attrs import fields, has

from mqtt_sessions._values import value
from mqtt_sessions.actions import Action, CloseConnection
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionLost,
    Event,
    MalformedPacketReceived,
)
from mqtt_sessions.messages import Message, Will
from mqtt_sessions.notices import Notice
from mqtt_sessions.policy import ExpiryPolicy, SessionLimits
from mqtt_sessions.subscriptions import Subscription

__all__ = ["Failure", "Step", "describe", "sequence_diagram", "transcript"]


@value
class Failure:
    """What went wrong in the last step of a run.

    Attributes:
        rule: Identifier of the broken rule, or the exception's name.
        detail: What was expected and what came.
        action: Index of the action or notice that broke it, actions first; None: the step as a
            whole, such as something owed that did not come.
    """

    rule: str
    detail: str
    action: int | None = None


@value
class Step:
    """One thing that happened to a subject, and all that it answered.

    Attributes:
        at: The instant on the host's clock.
        event: What happened; None: time passed.
        actions: What the subject did, what was due at that instant included.
        notices: What it told besides.
        next_deadline_at: The subject's next deadline afterwards.
    """

    at: float
    event: Event | None
    actions: tuple[Action, ...] = ()
    notices: tuple[Notice, ...] = ()
    next_deadline_at: float | None = None


# ---------------------------------------------------------------- what one line says

_SERVER = "server"
_HOST = "host"
_LONGEST = 12
"""Characters of a payload that are shown."""

_PACKETS = {
    "ClientConnected": "CONNECT",
    "PingReceived": "PINGREQ",
    "MalformedPacketReceived": "(malformed)",
    "ConnectionLost": "(connection lost)",
    "ConnectionCongested": "(congested)",
    "ConnectionWritable": "(writable)",
    "CloseConnection": "(close)",
}
_EMPTY_FIELD = re.compile(r", \w+=(?:None|\(\))")
_HIDDEN = frozenset({"connection", "client_id", "message", "delivery", "packet_id", "will"})
_WORDY = {
    "protocol_version": "version",
    "session_expiry_interval": "expiry",
    "message_expiry_interval": "expires in",
    "will_delay_interval": "delay",
    "subscription_id": "id",
    "subscription_ids": "ids",
    "reason_codes": "",
    "reason_code": "",
}


def _payload(payload: bytes) -> str:
    """A payload in few characters; what is not plain text as the beginning of its hex digits."""
    if payload.isascii() and (text := payload.decode("ascii")).isprintable():
        shown = f'"{text[:_LONGEST]}"'
    else:
        shown = f"0x{payload[: _LONGEST // 2].hex()}"
        text = ""
    hidden = len(payload) - (_LONGEST if text or not payload else _LONGEST // 2)
    return shown if hidden <= 0 else f"{shown}… {len(payload)} bytes"


def _message(message: Message, qos: int, retain: bool) -> str:
    flag = " RETAIN" if retain else ""
    return f"{_word(message.topic_name)} {_payload(message.payload)} QoS {qos}{flag}"


def _word(text: str) -> str:
    """A text as it stands, or quoted where nobody would see it."""
    return text if text.isprintable() and text.strip() else repr(text)


def _number(number: float) -> str:
    return f"{number:g}" if abs(number) < 1e6 else str(int(number))


def _shown(given: object) -> str:
    """One field's value."""
    if isinstance(given, bool):
        return "yes" if given else "no"
    name = getattr(given, "name", None)
    if isinstance(name, str):
        return name  # of a reason code
    if isinstance(given, (int, float)):
        return _number(given)
    if isinstance(given, tuple):
        return ", ".join(map(_shown, given)) or "none"
    if isinstance(given, Message):
        return _message(given, given.qos, given.retain)
    if isinstance(given, Subscription):
        return " ".join(
            [
                _word(given.topic_filter),
                f"QoS {given.qos}",
                *_differing(given, {"topic_filter", "qos"}),
            ]
        )
    if isinstance(given, (ExpiryPolicy, SessionLimits)):
        return f"({' '.join(_differing(given, set()))})"
    return _word(str(given))


def _differing(given: Any, without: Iterable[str]) -> Iterator[str]:
    """Each field of a value that is not at its default, as `name=value`."""
    for field in fields(type(given)):
        held = getattr(given, field.name)
        if field.name in without or held == field.default or held is None:
            continue
        if field.name == "dup" and not held:
            continue  # of SendPublish, where it has no default
        name = _WORDY.get(field.name, field.name)
        yield f"{name}={_shown(held)}" if name else _shown(held)


def _packet_name(kind: str) -> str:
    if kind in _PACKETS:
        return _PACKETS[kind]
    if kind.startswith("Send"):
        return kind.removeprefix("Send").upper()
    return kind.removesuffix("Received").upper() if kind.endswith("Received") else kind


def describe(what: Event | Action | Notice) -> str:
    """One event, action or notice with its decisive fields, without who and whom.

    Fields at their defaults are left out, payloads are shortened, and connections are not named.
    What is none of these, as a broken subject may give it, is shown by its `repr`.
    """
    if not has(type(what)):
        return repr(what)
    parts = [_packet_name(type(what).__name__)]
    packet_id = getattr(what, "packet_id", None)
    if packet_id is not None:
        parts.append(f"id {packet_id}")
    delivery = getattr(what, "delivery", None)
    message = getattr(what, "message", None)
    if delivery is not None:
        parts.append(_message(delivery.message, delivery.qos, delivery.retain))
        if delivery.subscription_ids:
            parts.append(f"ids={_shown(delivery.subscription_ids)}")
    elif message is not None:
        parts.append(_message(message, message.qos, message.retain))
        if message.message_expiry_interval is not None:
            parts.append(f"expires in={message.message_expiry_interval}")
    hidden = set(_HIDDEN)
    if isinstance(what, ClientConnected):
        parts.append(f"version={what.protocol_version} clean_start={_shown(what.clean_start)}")
        hidden |= {"protocol_version", "clean_start"}
    parts += _differing(what, hidden)
    will = getattr(what, "will", None)
    if isinstance(will, Will):
        delay = f" delay={will.will_delay_interval}" if will.will_delay_interval else ""
        parts.append(f"will=({_shown(will.message)}{delay})")
    return " ".join(parts)


# ---------------------------------------------------------------- who


class _Names:
    """Connections by the client that they belong to, as the run itself tells."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self.of: dict[Hashable, str] = {}
        for step in steps:
            if isinstance(step.event, ClientConnected):
                event = step.event
                client_id = event.client_id or event.assigned_client_id or "?"
                self.of.setdefault(event.connection, f"{client_id}@{event.connection}")

    def __call__(self, what: Event | Action) -> str:
        """The client at the other end, or the host."""
        connection = getattr(what, "connection", None)
        if connection is None:
            return _HOST
        return self.of.get(connection, f"?@{connection}")


def _parties(what: Event | Action, names: _Names, *, is_event: bool) -> tuple[str, str]:
    other = names(what)
    return (other, _SERVER) if is_event else (_SERVER, other)


def _subject_of(event: Event) -> str:
    """Whose session an event of the host is about."""
    client_id = getattr(event, "client_id", None)
    return "" if client_id is None or isinstance(event, ClientConnected) else f" {client_id}"


# ---------------------------------------------------------------- text


def _verdict(failure: Failure) -> str:
    """What was wrong; of a value that is quoted, only the fields that say something."""
    return f"{failure.rule}: {_EMPTY_FIELD.sub('', failure.detail)}"


def _time(at: float | None) -> str:
    return "never" if at is None else f"{at:.3f}"


def transcript(steps: Sequence[Step], failure: Failure | None = None) -> str:
    """The run as lines of text, one for each packet, and one where the next deadline changes.

    Args:
        steps: What happened, in order.
        failure: What went wrong in the last of them, if anything did; its line is marked.

    *Cost* O(steps).
    """
    names = _Names(steps)
    width = max([len(_HOST), *map(len, names.of.values())]) + len(_SERVER) + 3
    lines: list[str] = []
    due: float | None = None
    for index, step in enumerate(steps):
        marked = failure if index == len(steps) - 1 else None
        lines += _step_lines(step, names, width, marked)
        if step.next_deadline_at != due and marked is None:
            due = step.next_deadline_at
            lines.append(f"{'':14}{'':{width}}  next deadline: {_time(due)}")
        if marked is not None:
            lines.append(f"{'✗':>12}  {_verdict(marked)}")
    return "\n".join(lines)


def _step_lines(step: Step, names: _Names, width: int, failure: Failure | None) -> Iterator[str]:
    at = f"{step.at:12.3f}  "
    if step.event is None:
        yield f"{at}{'time passes':{width}}"
    else:
        who, whom = _parties(step.event, names, is_event=True)
        text = describe(step.event) + _subject_of(step.event)
        yield f"{at}{f'{who} → {whom}':{width}}  {text}"
    blank = " " * len(at)
    for index, action in enumerate(step.actions):
        who, whom = _parties(action, names, is_event=False)
        mark = "✗".rjust(len(at) - 2) + "  " if failure and failure.action == index else blank
        yield f"{mark}{f'{who} → {whom}':{width}}  {describe(action)}"
    for index, notice in enumerate(step.notices, len(step.actions)):
        mark = "✗".rjust(len(at) - 2) + "  " if failure and failure.action == index else blank
        yield f"{mark}{'':{width}}  ({describe(notice)}{_about(notice)})"


def _about(notice: Notice) -> str:
    client_id = getattr(notice, "client_id", None)
    return f" {client_id}" if client_id else ""


# ---------------------------------------------------------------- Mermaid


def _escaped(text: str) -> str:
    """Text that Mermaid shows as it stands: `#` and `;` mean something to it, and so do lines."""
    return (
        text.replace("#", "#35;").replace(";", "#59;").replace("#35#59;", "#35;").replace("\n", " ")
    )


def sequence_diagram(steps: Sequence[Step], failure: Failure | None = None) -> str:
    """The run as a Mermaid `sequenceDiagram`, for an issue or a page of documentation.

    Args:
        steps: What happened, in order.
        failure: What went wrong in the last of them, if anything did.

    *Cost* O(steps).
    """
    names = _Names(steps)
    ids = {_HOST: _HOST, _SERVER: _SERVER}
    lines = ["sequenceDiagram", f"    participant {_SERVER}"]
    if any(step.event is not None and names(step.event) == _HOST for step in steps):
        lines.append(f"    participant {_HOST}")
    for number, name in enumerate(names.of.values(), 1):
        ids[name] = f"c{number}"
        lines.append(f"    participant c{number} as {_escaped(name)}")
    before: float | None = None
    for index, step in enumerate(steps):
        if step.at != before or step.event is None:
            before = step.at
            lines.append(f"    Note over {_SERVER}: {_time(step.at)}")
        marked = failure if index == len(steps) - 1 else None
        lines += _arrows(step, names, ids, marked)
    if failure is not None:
        lines.append(f"    Note over {_SERVER}: ✗ {_escaped(_verdict(failure))}")
    return "\n".join(lines)


def _arrows(
    step: Step, names: _Names, ids: dict[str, str], failure: Failure | None
) -> Iterator[str]:
    if step.event is not None:
        who, whom = _parties(step.event, names, is_event=True)
        arrow = "-x" if isinstance(step.event, (ConnectionLost, MalformedPacketReceived)) else "->>"
        text = _escaped(describe(step.event) + _subject_of(step.event))
        yield f"    {ids.get(who, who)}{arrow}{ids.get(whom, whom)}: {text}"
    for index, action in enumerate(step.actions):
        who, whom = _parties(action, names, is_event=False)
        arrow = "-x" if isinstance(action, CloseConnection) else "->>"
        mark = "✗ " if failure and failure.action == index else ""
        text = _escaped(describe(action))
        yield f"    {ids.get(who, who)}{arrow}{ids.get(whom, whom)}: {mark}{text}"
