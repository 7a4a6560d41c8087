"""No statement without a test, no mark without a statement, and pages that say what is so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mqtt_sessions

from . import faults, tables
from .ledger import LIKE, PACKAGE, TESTS, Ledger
from .page import CONFORMANCE, RULES, conformance, unnumbered_rules

# ---------------------------------------------------------------- nothing is missing


def test_every_statement_and_every_duty_has_a_test(ledger: Ledger) -> None:
    assert ledger.unproven() == []


def test_every_fault_has_a_test(ledger: Ledger) -> None:
    assert ledger.untested_faults() == []


def test_every_statement_has_its_place_in_the_code(ledger: Ledger) -> None:
    assert ledger.unplaced() == []


def test_no_reason_for_what_stands_in_the_code(ledger: Ledger) -> None:
    """A statement that holds by construction and has a branch after all loses its reason."""
    assert [key for key in tables.BY_CONSTRUCTION if ledger.places_of(key)] == []


# ---------------------------------------------------------------- nothing is made up


def test_marks_and_citations_name_what_exists(ledger: Ledger) -> None:
    assert ledger.unknown == []


def test_no_mark_claims_what_is_not_there_yet(ledger: Ledger) -> None:
    assert ledger.not_there == []


def test_every_mark_is_on_a_test_and_written_out(ledger: Ledger) -> None:
    assert ledger.misuses == []


@pytest.mark.parametrize(
    "table", ["LATER", "HOST", "UNUSED", "DUTIES", "BY_CONSTRUCTION"], ids=str.lower
)
def test_tables_name_what_exists(ledger: Ledger, table: str) -> None:
    assert set(getattr(tables, table)) <= set(ledger.statements)


def test_what_is_left_out_is_left_out_for_one_reason() -> None:
    """And what is left out has no duties, no construction and no test."""
    left_out = [*tables.LATER, *tables.HOST, *tables.UNUSED]
    assert len(set(left_out)) == len(left_out)
    assert not set(left_out) & {*tables.DUTIES, *tables.BY_CONSTRUCTION}
    assert set(faults.LATER) <= set(faults.FAULTS)
    assert set(faults.PARTLY) <= set(faults.FAULTS) - set(faults.LATER)


def test_only_a_client_or_a_member_of_a_shared_subscription_is_not_there_yet(
    ledger: Ledger,
) -> None:
    for key in tables.LATER:
        statement = ledger.statements[key]
        if key.startswith("NN-"):
            continue
        assert statement.binds in ("client", "both") or statement.area == "shared-subscription", key
        assert statement.area == "shared-subscription" or statement.binds == "client", key


def test_what_is_outside_says_why() -> None:
    said = {each.testable for each in tables.statements().values()}
    assert {each for each in said if each.startswith("no")} <= {*tables.OUTSIDE, "no: client"}
    for key, statement in tables.statements().items():
        assert (statement.testable != "no: client") or key in tables.LATER


def test_what_has_no_number_and_no_rule_is_on_the_page_with_its_reason() -> None:
    text = CONFORMANCE.read_text().partition("## Outside the session layer")[2]
    for each in tables.UNNUMBERED:
        group = text.partition("MQTT 3.1.1, " + tables.OUTSIDE[each.testable])[2]
        assert f"- {each.key.split(' ')[1]}: {each.words}." in group.partition("\n\nMQTT")[0]
        assert each.key not in tables.statements()


def test_numbers_of_statements() -> None:
    """As many as there are in the two standards, and the faults from 1 to 43."""
    keys = list(tables.statements())
    assert sum(key.startswith("5.0 ") for key in keys) == 251
    assert sum(key.startswith("3.1.1 ") for key in keys) == 141
    assert len(tables.rules()) == 112
    assert list(faults.FAULTS) == list(range(1, 44))
    own = [each for each in tables.statements().values() if not each.testable.startswith("no")]
    assert sum(each.key.startswith("5.0 ") for each in own) == 170
    assert sum(each.key.startswith("3.1.1 ") for each in own) == 96


def test_what_is_alike_exists() -> None:
    known = set(tables.statements())
    assert set(LIKE) <= known
    assert {each for likes in LIKE.values() for each in likes} <= known


# ---------------------------------------------------------------- deviations


def deviations_in_docstrings() -> Iterator[tuple[Path, str]]:
    """Each paragraph or entry of a docstring that says *Deviation*, in one line."""
    for path in sorted(PACKAGE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            text = ast.get_docstring(node) or ""
            # an entry of a list of attributes begins with four spaces and is continued with eight
            for entry in re.split(r"\n\n|\n(?=    \S)", text):
                if re.search(r"\*deviation\*", entry, re.IGNORECASE):
                    name = node.name if isinstance(node, ast.ClassDef) else ""
                    yield path, f"{name}: {' '.join(entry.split())}"


def test_every_deviation_of_a_docstring_is_in_the_table() -> None:
    """And the other way round."""
    found = list(deviations_in_docstrings())
    said: set[str] = set()
    for path, entry in found:
        options = [
            each
            for each in tables.DEVIATIONS
            if each.option in entry
            or entry.startswith(f"{each.option.replace('.', ': ')}:")
            or (each.option == "SessionLimits.overflow" and entry.startswith("OverflowPolicy:"))
        ]
        assert len(options) == 1, (path, entry)
        said.add(options[0].option)
        cited = re.findall(r"MQTT-\d+\.\d+\.\d+-\d+|NN-\d+\.\d+", entry)
        assert cited, entry
        assert {each.rpartition(" ")[2] for each in options[0].breaks} >= set(cited), entry
    assert said == {each.option for each in tables.DEVIATIONS}


@pytest.mark.parametrize("deviation", tables.DEVIATIONS, ids=lambda each: each.option)
def test_deviation_exists_has_its_default_and_a_test(
    deviation: tables.Deviation, ledger: Ledger
) -> None:
    owner, _, name = deviation.option.partition(".")
    default = getattr(getattr(mqtt_sessions, owner)(), name)
    if name == "overflow":
        assert deviation.default.startswith("on")
        assert mqtt_sessions.SessionLimits().maximum_queued_messages == 1000
        assert default is mqtt_sessions.OverflowPolicy.DROP_EXPIRED_QOS0_OLDEST
    else:
        assert deviation.default.startswith("off")
        assert bool(default) is (name == "enforce_receive_maximum")
    duties = {f"{key} ({letter})" for key, each in tables.DUTIES.items() for letter in each}
    assert set(deviation.breaks) <= set(ledger.statements) | duties
    path, _, test = deviation.test.partition("::")
    assert f"def {test}(" in (TESTS / path).read_text()


# ---------------------------------------------------------------- the pages


def test_page_is_what_the_generator_writes(ledger: Ledger) -> None:
    assert CONFORMANCE.read_text() == conformance(ledger), (
        "run: python -m tests.conformance --write"
    )


def test_page_of_rules_is_what_the_generator_writes() -> None:
    assert RULES.read_text() == unnumbered_rules(), "run: python -m tests.conformance --write"


def test_page_has_every_statement_once_under_its_version(ledger: Ledger) -> None:
    text = CONFORMANCE.read_text()
    for version in ("MQTT 5.0", "MQTT 3.1.1"):
        sections = re.findall(rf"^## {re.escape(version)}: .*\n((?:(?!## ).*\n)*)", text, re.M)
        named = re.findall(r"^\*\*(MQTT-[\d.]+-\d+)\*\*", "".join(sections), re.M)
        wanted = [
            key.split(" ")[1]
            for key in tables.statements()
            if key.startswith(version.removeprefix("MQTT ") + " ") and ledger.wants_proof(key)
        ]
        assert sorted(named) == sorted(wanted)
