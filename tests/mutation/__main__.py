"""`python -m tests.mutation [module ...]`: how many mutants the tests kill, and which survive."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .mutants import MODULES, Mutant, mutants_of
from .runner import Result, limit_examples, measure, run

TESTS = ("tests/core", "tests/behavior")
GOAL = 0.9


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(MODULES)}; none: all")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="files and directories")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="a sample: each Nth")
    parser.add_argument(
        "--budget",
        type=float,
        default=float("inf"),
        metavar="SECONDS",
        help="of tests that a mutant has to survive, the quickest first; none: all tests",
    )
    parser.add_argument("--examples", type=int, metavar="N", help="at most, of each property")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="made if need be; saves measuring the tests"
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="results, for --again")
    parser.add_argument("--again", type=Path, metavar="FILE", help="only what survived there")
    return parser.parse_args(arguments)


def _wanted(options: argparse.Namespace) -> list[Mutant]:
    modules = options.modules or MODULES
    mutants = [mutant for module in modules for mutant in mutants_of(module)][:: options.every]
    if options.again is not None:
        rows = [json.loads(line) for line in options.again.read_text().splitlines()]
        survived = {tuple(key) for key, outcome, _ in rows if outcome == "survived"}
        mutants = [mutant for mutant in mutants if mutant.key in survived]
    return mutants


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 0 if as many are killed as should be."""
    options = _arguments(arguments)
    begun = time.monotonic()
    limit_examples(options.examples)
    mutants = _wanted(options)
    print(f"{len(mutants)} mutants; the tests without one ...", flush=True)
    baseline = measure(MODULES, options.tests, options.baseline)
    print(
        f"{len(baseline.seconds)} tests, {sum(baseline.seconds.values()):.0f} s "
        f"(after {time.monotonic() - begun:.0f} s)",
        flush=True,
    )
    results: list[Result] = []
    if options.save is not None:
        options.save.write_text("", encoding="utf-8")

    def told(result: Result) -> None:
        results.append(result)
        if options.save is not None:
            with options.save.open("a", encoding="utf-8") as file:
                file.write(json.dumps([result.mutant.key, result.outcome, result.by]) + "\n")
        if result.outcome == "survived":
            print(f"survived: {result.mutant}", flush=True)
        if len(results) % 100 == 0:
            print(f"{len(results)} done after {time.monotonic() - begun:.0f} s", flush=True)

    run(mutants, options.tests, baseline, options.jobs, options.budget, told)
    return _report(results, len(mutants), time.monotonic() - begun)


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
    used = sum(each.seconds for each in results)
    print(f"{len(results)} of {expected} tried in {seconds:.0f} s ({used:.0f} s of processor time)")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
