"""The library broken on purpose, statement by statement: tests that claim to prove them must fail.

`broken.txt` has a block for each way to break it: a module and the statements that do not hold
then, the lines that go (-) and those that come in their place (+), once or several times. `run`
makes the change in a copy and runs tests there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from attrs import frozen

from .ledger import ROOT, Ledger
from .marks import Mark

__all__ = ["Broken", "Change", "broken", "claimed", "copy", "run"]


@frozen
class Change:
    """Whole lines of a module that stand there, exactly once, and what stands there instead."""

    module: str
    old: str
    new: str

    def made(self, text: str) -> str:
        """The module with the change."""
        assert text.count(self.old) == 1, f"{self.module} does not have exactly once:\n{self.old}"
        return text.replace(self.old, self.new)


@frozen
class Broken:
    """One way to break the library.

    Attributes:
        breaks: Statements or duties of statements that do not hold then, faults that are there.
        changes: What breaks them.
    """

    breaks: tuple[str, ...]
    changes: tuple[Change, ...]

    def applied(self, package: Path) -> dict[Path, str]:
        """The modules that are changed, as they are then."""
        texts: dict[Path, str] = {}
        for change in self.changes:
            path = package / change.module
            texts[path] = change.made(texts.get(path) or path.read_text())
        return texts


def broken() -> list[Broken]:
    """All of them."""
    text = (Path(__file__).parent / "broken.txt").read_text().strip()
    return [_parsed(block.split("\n")) for block in text.split("\n\n")]


def _parsed(lines: list[str]) -> Broken:
    """One block; the next change begins where lines go again."""
    module, breaks = "", ""
    changes: list[Change] = []
    before = "@"
    for line in lines:
        sign, text = line[0], line[1:]
        assert sign in "@-+", line
        if sign == "@":
            module, _, stated = text.strip().partition(": ")
            breaks = breaks or stated
        else:
            if sign == "-" and before != "-":
                changes.append(Change(f"{module}.py", "", ""))
            last = changes.pop()
            old, new = (text + "\n", "") if sign == "-" else ("", text + "\n")
            changes.append(Change(last.module, last.old + old, last.new + new))
        before = sign
    # "5.0 4.3.3-6" is short for "5.0 MQTT-4.3.3-6"
    keys = re.sub(r"(5\.0|3\.1\.1) ", r"\1 MQTT-", breaks).split(", ")
    return Broken(tuple(keys), tuple(changes))


def claimed(statement: str, ledger: Ledger) -> set[str]:
    """The tests that claim to prove a statement, one duty of it, or to rule out a fault."""
    if statement.startswith("fault "):
        return _names(ledger.faults[int(statement.removeprefix("fault "))])
    match = re.fullmatch(r"(.*?)(?: \(([a-z])\))?", statement)
    assert match is not None
    key, duty = match.groups()
    marks = ledger.proofs[key] if duty is None else ledger.duties[key, duty]
    return _names(marks)


def _names(marks: list[Mark]) -> set[str]:
    """As pytest names them."""
    return {f"tests/{mark.path}::{mark.test.replace('.', '::')}" for mark in marks}


def copy(target: Path) -> Path:
    """A copy of what the tests need."""
    leave_out = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("mqtt_sessions", "tests", "examples", "docs"):
        shutil.copytree(ROOT / name, target / name, ignore=leave_out)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, target / name)
    return target


def run(each: Broken, tree: Path, tests: set[str]) -> set[str]:
    """Break the copy, run these tests, mend it; the tests that failed."""
    changed = each.applied(tree / "mqtt_sessions")
    before = {path: path.read_text() for path in changed}
    _write(changed)
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider"]
    try:
        result = subprocess.run(
            [*command, *sorted(tests)],
            cwd=tree,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        _write(before)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return set(re.findall(r"^FAILED (\S+?)(?:\[| - |$)", result.stdout, re.MULTILINE))


def _write(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        path.write_text(text)
