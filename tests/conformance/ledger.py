"""Tables, marks and citations brought together: what is tied to what, and what is not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import frozen

from .citations import Place, cited
from .faults import FAULTS
from .faults import LATER as LATER_FAULTS
from .marks import Mark, Misuse, collect
from .tables import BY_CONSTRUCTION, DUTIES, HOST, LATER, UNUSED, Statement, rules, statements

__all__ = ["ROOT", "Ledger", "read"]

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests"
PACKAGE = ROOT / "mqtt_sessions"
ABOUT_OTHERS = ("kit/", "live/", "mutation/")
"""Tests of the testing kit and of other brokers: what they prove, they prove of those."""

_MARK = re.compile(r"(?P<key>.*?)(?: \((?P<duty>[a-z])\))?")


@frozen
class Ledger:
    """All of it.

    Attributes:
        statements: Numbered statements and unnumbered rules by key.
        proofs: Key to the tests that prove it, all duties together.
        duties: Key and duty to the tests that prove this one.
        faults: Number to the tests that rule it out.
        places: Key to the places in the code that name it.
        misuses: Marks that prove nothing.
        unknown: Marks and citations that name what does not exist.
        not_there: Marks that name what the library does not have yet.
    """

    statements: Mapping[str, Statement]
    proofs: Mapping[str, list[Mark]]
    duties: Mapping[tuple[str, str], list[Mark]]
    faults: Mapping[int, list[Mark]]
    places: Mapping[str, list[Place]]
    misuses: list[Misuse]
    unknown: list[str]
    not_there: list[str]

    def wants_proof(self, key: str) -> bool:
        """Whether a test has to prove this one."""
        statement = self.statements[key]
        if key in LATER or key in HOST or key in UNUSED:
            return False
        return not statement.testable.startswith("no") and not statement.binds.startswith("comment")

    def unproven(self) -> list[str]:
        """Statements, rules and duties without a test."""
        holes = [key for key in self.statements if self.wants_proof(key) and key not in self.proofs]
        for key, letters in DUTIES.items():
            holes += [f"{key} ({each})" for each in letters if (key, each) not in self.duties]
        return holes

    def unplaced(self) -> list[str]:
        """What is proven and named nowhere in the code, without a reason."""
        return [
            key
            for key in self.statements
            if self.wants_proof(key) and not self.places_of(key) and key not in BY_CONSTRUCTION
        ]

    def places_of(self, key: str) -> list[Place]:
        """Where the code obeys it; of a 3.1.1 statement, also where it obeys its like in 5.0."""
        own = self.places.get(key, [])
        likes = (place for like in LIKE.get(key, ()) for place in self.places.get(like, []))
        return [*own, *dict.fromkeys(place for place in likes if place not in own)]

    def untested_faults(self) -> list[int]:
        """Faults that no test rules out."""
        return [number for number in FAULTS if number not in (self.faults | LATER_FAULTS)]


def _likes() -> dict[str, tuple[str, ...]]:
    """3.1.1 statement to those of 5.0 that say the same."""
    lines = (Path(__file__).parent / "alike.tsv").read_text().splitlines()[1:]
    return {
        f"3.1.1 {old}": tuple(f"5.0 {new}" for new in alike.split())
        for old, alike in (line.split("\t") for line in lines)
    }


LIKE = _likes()


def read(tests: Path = TESTS, package: Path = PACKAGE) -> Ledger:
    """The ledger of these tests and this code."""
    marks, misuses = collect(tests, ("spec", "fault"))
    return weigh(marks, misuses, cited(package, ("testing/",)))


def weigh(marks: Iterable[Mark], misuses: list[Misuse], places: dict[str, list[Place]]) -> Ledger:
    """The ledger of these marks and citations."""
    known = statements() | rules()
    proofs: dict[str, list[Mark]] = {}
    duties: dict[tuple[str, str], list[Mark]] = {}
    faults: dict[int, list[Mark]] = {}
    unknown = [f"{at.path}: {key}" for key in places if key not in known for at in places[key]]
    not_there: list[str] = []
    for mark in marks:
        where = f"{mark.path}::{mark.test}: {mark.argument}"
        if mark.kind == "fault":
            key, duty, exists, later = mark.argument, None, mark.argument in FAULTS, LATER_FAULTS
        else:
            match = _MARK.fullmatch(str(mark.argument))
            assert match is not None
            key, duty = match["key"], match["duty"]
            exists = key in known and (duty is None or duty in DUTIES.get(key, ()))
            later = LATER  # type: ignore[assignment]
        if not exists:
            unknown.append(where)
        elif key in later:
            not_there.append(where)
        elif not mark.always or mark.path.startswith(ABOUT_OTHERS):
            continue
        elif mark.kind == "fault":
            faults.setdefault(int(key), []).append(mark)
        else:
            proofs.setdefault(str(key), []).append(mark)
            if duty is not None:
                duties.setdefault((str(key), duty), []).append(mark)
    return Ledger(known, proofs, duties, faults, places, misuses, unknown, not_there)
