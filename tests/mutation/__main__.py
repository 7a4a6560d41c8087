"""`python -m tests.mutation [module ...]`: how many mutants the tests kill, and which survive."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .mutants import MODULES, ROOT, Mutant, mutants_of
from .runner import Result, limit_examples, measure, run
from .survivors import Survivor, known, table

GOAL = 0.9
TESTS = ("tests/core", "tests/behavior", "tests/kit")
_CORE = {
    "flows": ("tables", "flow_rows"),
    "queue": ("queue", "queue_edges", "queue_rows", "checks", "recovering"),
    "deadlines": ("deadlines", "deadline_costs", "checks"),
    "session": (
        "session_alone",
        "alone_edges",
        "views",
        "restored_edges",
        "snapshots",
        "pages_and_counters",
    ),
    "store": (
        "pages_and_counters",
        "views",
        "restored_edges",
        "handle_many",
        "snapshots",
        "recovering",
    ),
}
NEAR = {
    module: tuple(f"tests/core/test_{name}.py" for name in names) for module, names in _CORE.items()
}
"""The tests that are tried first: with few examples for each property they kill almost all."""


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(MODULES)}; none: all")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="a sample: each Nth")
    parser.add_argument(
        "--near", action="store_true", help="only the tests that are about the module"
    )
    parser.add_argument(
        "--thorough", action="store_true", help="all tests for explained survivors too"
    )
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="only these tests")
    parser.add_argument("--examples", type=int, default=20, metavar="N", help="of near properties")
    parser.add_argument("--save", type=Path, metavar="FILE", help="each result as a line of JSON")
    parser.add_argument("--page", action="store_true", help="print the table for the docs, no run")
    return parser.parse_args(arguments)


class _Run:
    """The results, told as they come."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.explained = {survivor[:4] for survivor in known()}
        self.results: dict[tuple[object, ...], Result] = {}
        self.begun = time.monotonic()

    def round(self, mutants: Sequence[Mutant], tests: Sequence[str], name: str) -> list[Mutant]:
        """Try mutants; those that survive."""
        baseline = measure(sorted({mutant.module for mutant in mutants}), tests)
        count, seconds = len(baseline.seconds), time.monotonic() - self.begun
        print(f"{seconds:6.0f} s: {len(mutants)} mutants of {name}, {count} tests", flush=True)
        run(mutants, tests, baseline, self.options.jobs, self.told)
        return [each for each in mutants if self.results[each.key].outcome == "survived"]

    def told(self, result: Result) -> None:
        self.results[result.mutant.key] = result
        if self.options.save is not None:
            row = [result.mutant.key, result.mutant.line, result.outcome, result.by]
            with self.options.save.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def is_explained(self, mutant: Mutant) -> bool:
        return mutant.key[:4] in self.explained


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 0 if as many are killed as should be."""
    options = _arguments(arguments)
    if options.page:
        print(table(), end="")
        return 0
    os.chdir(ROOT)
    if options.save is not None:
        options.save.write_text("", encoding="utf-8")
    trial = _Run(options)
    todo: list[Mutant] = []
    count = 0
    limit_examples(options.examples)
    for module in options.modules or MODULES:
        mutants = mutants_of(module)[:: options.every]
        count += len(mutants)
        survivors = trial.round(mutants, options.tests or NEAR[module], module)
        todo += [each for each in survivors if options.thorough or not trial.is_explained(each)]
    if todo and not options.near and not options.tests:
        limit_examples(None)
        trial.round(todo, TESTS, "all modules")
    results = list(trial.results.values())
    for result in results:
        if result.outcome == "survived" and not trial.is_explained(result.mutant):
            print(f"survived: {result.mutant}")
    if options.every == 1:
        for stale in _stale(results):
            print(f"explained, and no survivor: {stale}")
    return _report(results, count, time.monotonic() - trial.begun)


def _stale(results: Sequence[Result]) -> list[Survivor]:
    modules = {result.mutant.module for result in results}
    survived = {result.mutant.key[:4] for result in results if result.outcome == "survived"}
    return [each for each in known() if each.module in modules and each[:4] not in survived]


def _report(results: Sequence[Result], expected: int, seconds: float) -> int:
    enough = len(results) == expected
    print(f"\n{'module':<12}{'mutants':>8}{'killed':>8}{'(stuck)':>8}{'survived':>9}{'rate':>8}")
    for module in MODULES:
        outcomes = Counter(each.outcome for each in results if each.mutant.module == module)
        if not (count := outcomes.total()):
            continue
        rate = 1 - outcomes["survived"] / count
        enough = enough and rate >= GOAL
        print(
            f"{module:<12}{count:>8}{count - outcomes['survived']:>8}{outcomes['stuck']:>8}"
            f"{outcomes['survived']:>9}{rate:>8.1%}"
        )
    print(f"{len(results)} of {expected} tried in {seconds:.0f} s")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
