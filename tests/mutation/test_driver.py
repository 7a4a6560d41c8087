"""The driver tells tests that notice from tests that do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="the extra `mutation` is not installed")

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and output of the command."""
    command = [sys.executable, "-m", "tests.mutation", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def rate(output: str, module: str) -> float:
    line = next(line for line in output.splitlines() if line.startswith(module))
    return float(line.split()[-1].rstrip("%"))


@pytest.mark.nightly
def test_tests_that_look_elsewhere_kill_next_to_nothing() -> None:
    status, output = run("queue", "--every", "29", "--tests", "tests/core/test_packet_ids.py")
    assert status == 1
    assert "survived: queue.py" in output
    assert rate(output, "queue") < 50


@pytest.mark.nightly
def test_tests_that_look_kill_most() -> None:
    status, output = run("queue", "--every", "29", "--tests", "tests/core/test_queue_edges.py")
    assert rate(output, "queue") > 70
    assert status in (0, 1)


@pytest.mark.nightly
def test_a_row_of_a_table_is_mutated_and_missed() -> None:
    status, output = run("flows", "--every", "19", "--tests", "tests/core/test_tables.py")
    assert status == 0
    assert rate(output, "flows") >= 90


@pytest.mark.nightly
def test_tests_that_fail_without_a_mutant_are_no_measure(tmp_path: Path) -> None:
    failing = tmp_path / "test_failing.py"
    failing.write_text("def test_nothing():\n    assert False\n", encoding="utf-8")
    status, output = run("flows", "--every", "90", "--tests", str(failing))
    assert status == 1
    assert "fail without a mutant" in output


def test_every_operator_does_what_its_examples_say() -> None:
    from cosmic_ray.mutating import mutate_code

    from .operators import RemoveStatement, RemoveTableRow, ReplaceTableCell

    for operator in (RemoveStatement, RemoveTableRow, ReplaceTableCell):
        for example in operator.examples():
            mutated = mutate_code(example.pre_mutation_code, operator(), example.occurrence)
            assert mutated is not None
            assert mutated.split() == example.post_mutation_code.split()


def test_each_mutant_differs_in_what_it_does_and_no_two_are_alike() -> None:
    from .mutants import MODULES, mutants_of, source_path

    for module in MODULES[:1]:
        mutants = mutants_of(module)
        sources = {mutant.source for mutant in mutants}
        assert len(mutants) == len(sources) > 100
        assert source_path(module).read_text(encoding="utf-8") not in sources
        assert len({mutant.key for mutant in mutants}) == len(mutants)
