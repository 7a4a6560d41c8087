"""JSON, for programs: names of fields are those of the values, and stay."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import attrs

from mqtt_sessions.deadlines import DeadlineKind
from mqtt_sessions.inspect.client import ClientReport
from mqtt_sessions.inspect.summary import Due, Summary
from mqtt_sessions.journals import Quarantined

__all__ = ["FORMAT_VERSION", "of_client", "of_journal"]

FORMAT_VERSION = 1
"""Of both documents; it rises when a field goes or means something else."""


def of_journal(
    file: str, summary: Summary, quarantine: Sequence[tuple[Quarantined, bool]]
) -> Iterator[str]:
    """Piece by piece, so that a document of any length is never held.

    Args:
        file: Its name.
        summary: What it holds.
        quarantine: Damaged rows, and whether they were found just now.
    """
    rows = [{**_fields(row), "found_now": found_now} for row, found_now in quarantine]
    document = {
        "format": FORMAT_VERSION,
        "file": file,
        "now": summary.now,
        "runs": summary.runs,
        "totals": summary.totals,
        "sessions": summary.sessions,
        "set_aside": summary.set_aside,
        "quarantine": rows,
    }
    return _pieces(document, summary.now)


def of_client(file: str, report: ClientReport, limit: int | None) -> Iterator[str]:
    """The same for one client, with the first of each thing up to a limit."""
    fields = {
        name: given[:limit] if isinstance(given, tuple) else given
        for name, given in _fields(report).items()
    }
    document = {"format": FORMAT_VERSION, "file": file, **fields}
    return _pieces(document, report.now)


def _pieces(document: dict[str, Any], now: float) -> Iterator[str]:
    # Everything but ASCII that can be printed is escaped.
    encoder = json.JSONEncoder(indent=2, allow_nan=False, default=partial(_encodable, now=now))
    return encoder.iterencode(document)


def _encodable(given: Any, now: float) -> dict[str, Any]:
    """A value as an object; an end as seconds too, below 0 where it is over."""
    if isinstance(given, Due):
        seconds = None if given.at is None else round(given.at - now, 3)
        return {"at": given.at, "in_seconds": seconds, "after_start": given.after_start}
    return _fields(given)


def _fields(given: Any) -> dict[str, Any]:
    fields = attrs.asdict(given, recurse=False)
    kind = fields.get("kind")
    return fields | {"kind": kind.name.lower()} if isinstance(kind, DeadlineKind) else fields
