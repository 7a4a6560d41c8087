"""Which mutants are known to survive, and why: `survivors.tsv`, and the table in the docs."""

from __future__ import annotations

import csv
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

__all__ = ["FILE", "Survivor", "known", "table"]

FILE = Path(__file__).with_name("survivors.tsv")


class Survivor(NamedTuple):
    """A mutant that no test can or need tell from the original.

    Attributes:
        module: Where, without the package.
        function: Qualified name; "" for what runs at import.
        before: The line as it is.
        after: What it becomes.
        reason: Why it survives.
    """

    module: str
    function: str
    before: str
    after: str
    reason: str


def known() -> list[Survivor]:
    """All of them, in the order of the file."""
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(rows)
        return [Survivor(*row) for row in rows]


def _code(text: str) -> str:
    # a bar ends a cell, in code too
    return f"`{text}`".replace("|", "\\|") if text else "nothing"


def table() -> str:
    """The survivors as a Markdown table; what has one reason and one line shares a row."""
    rows = ["| module | function | line | becomes | why nobody notices |", "|---|---|---|---|---|"]
    same = groupby(known(), key=lambda each: (each.module, each.function, each.before, each.reason))
    for (module, function, before, reason), group in same:
        becomes = "<br>".join(_code(each.after) for each in group)
        where = f"`{function}`" if function else "at import"
        rows.append(f"| {module} | {where} | {_code(before)} | {becomes} | {reason} |")
    return "\n".join(rows) + "\n"
