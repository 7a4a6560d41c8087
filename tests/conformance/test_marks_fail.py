"""A mark is a claim: with the statement broken, a test that has it fails.

Slow, since each way to break the library is a run of pytest of its own; the check that the list
fits the code is not.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from . import faults
from .broken import Broken, Change, broken, claimed, copy, run
from .ledger import PACKAGE, Ledger
from .tables import DUTIES

BROKEN = broken()


def ident(each: Broken) -> str:
    return f"{BROKEN.index(each)}-{each.changes[0].module}-{each.breaks[0]}"


@pytest.mark.parametrize("each", BROKEN, ids=ident)
def test_what_is_broken_on_purpose_is_still_there(each: Broken, ledger: Ledger) -> None:
    each.applied(PACKAGE)
    for statement in each.breaks:
        assert claimed(statement, ledger), statement


def test_most_statements_are_broken_by_something(ledger: Ledger) -> None:
    """And all of those about QoS, order, flow control and wills, duty by duty."""
    named = {statement for each in BROKEN for statement in each.breaks}
    keys = {re.sub(r" \([a-z]\)$", "", statement) for statement in named}
    wanted = [key for key in ledger.statements if ledger.wants_proof(key)]
    assert len(keys & set(wanted)) > 0.97 * len(wanted)
    hearts = ("qos1", "qos2", "ordering", "redelivery", "flow-control", "will")
    for key in wanted:
        if ledger.statements[key].area in hearts:
            duties = [f"{key} ({letter})" for letter in DUTIES.get(key, ())] or [key]
            assert [each for each in duties if each not in named] == []


def test_almost_every_fault_is_made_on_purpose() -> None:
    """A message cannot go back to its publisher (37), nor be changed (43), by a few other lines."""
    made = {each for one in BROKEN for each in one.breaks if each.startswith("fault ")}
    wanted = [number for number in faults.FAULTS if number not in (*faults.LATER, 37, 43)]
    assert made == {f"fault {number}" for number in wanted}


@pytest.fixture(scope="module", name="tree")
def _tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy(tmp_path_factory.mktemp("broken"))


@pytest.mark.nightly
@pytest.mark.parametrize("each", BROKEN, ids=ident)
def test_with_a_statement_broken_a_test_that_claims_it_fails(
    each: Broken, tree: Path, ledger: Ledger
) -> None:
    claims = {statement: claimed(statement, ledger) for statement in each.breaks}
    failed = run(each, tree, set().union(*claims.values()))
    assert [statement for statement, tests in claims.items() if not tests & failed] == []


@pytest.mark.nightly
def test_copy_that_is_not_broken_passes(tree: Path, ledger: Ledger) -> None:
    every = set().union(*(claimed(key, ledger) for key in ledger.proofs))
    first = (tree / "mqtt_sessions" / "errors.py").read_text().splitlines(keepends=True)[0]
    assert run(Broken((), (Change("errors.py", first, first),)), tree, every) == set()
