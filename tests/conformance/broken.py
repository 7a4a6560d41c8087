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

__all__ = ["Broken", "broken", "claimed", "copy", "run"]


@frozen
class Broken:
    """One way to break the library.

    Attributes:
        module: File of the package.
        breaks: Statements, or duties of statements, that do not hold any more.
        changes: Whole lines that stand there, exactly once, and what stands there instead.
    """

    module: str
    breaks: tuple[str, ...]
    changes: tuple[tuple[str, str], ...]

    def applied(self, text: str) -> str:
        """The module, broken."""
        for old, new in self.changes:
            assert text.count(old) == 1, f"{self.module} does not have exactly once:\n{old}"
            text = text.replace(old, new)
        return text


def broken() -> list[Broken]:
    """All of them."""
    found: list[Broken] = []
    for block in re.split(r"\n\n", (Path(__file__).parent / "broken.txt").read_text().strip()):
        head, *lines = block.split("\n")
        match = re.fullmatch(r"@ (\S+): (.*)", head)
        assert match is not None, head
        assert all(line[0] in "-+" for line in lines), block
        # "5.0 4.3.3-6" is short for "5.0 MQTT-4.3.3-6"
        breaks = re.sub(r"(5\.0|3\.1\.1) ", r"\1 MQTT-", match[2]).split(", ")
        found.append(Broken(f"{match[1]}.py", tuple(breaks), _changes(lines)))
    return found


def _changes(lines: list[str]) -> tuple[tuple[str, str], ...]:
    """Lines that go and lines that come, in pairs; the next pair begins where lines go again."""
    pairs: list[tuple[str, str]] = []
    before = "+"
    for line in lines:
        sign, text = line[0], f"{line[1:]}\n"
        if sign == "-" and before == "+":
            pairs.append(("", ""))
        old, new = pairs[-1]
        pairs[-1] = (old + text, new) if sign == "-" else (old, new + text)
        before = sign
    return tuple(pairs)


def claimed(statement: str, ledger: Ledger) -> set[str]:
    """The tests that claim to prove a statement or one duty of it, as pytest names them."""
    match = re.fullmatch(r"(.*?)(?: \(([a-z])\))?", statement)
    assert match is not None
    key, duty = match.groups()
    marks = ledger.proofs[key] if duty is None else ledger.duties[key, duty]
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
    path = tree / "mqtt_sessions" / each.module
    before = path.read_text()
    path.write_text(each.applied(before))
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
        path.write_text(before)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return set(re.findall(r"^FAILED (\S+?)(?:\[| - |$)", result.stdout, re.MULTILINE))
