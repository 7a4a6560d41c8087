"""`python -m tests.conformance`: what is not tied to a test; `--write`: the pages."""

from __future__ import annotations

import argparse
import sys

from .ledger import read
from .page import CONFORMANCE, RULES, conformance, unnumbered_rules


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the pages in docs/reference")
    arguments = parser.parse_args()
    ledger = read()
    holes = [
        *(f"no test: {each}" for each in ledger.unproven()),
        *(f"named nowhere in the code: {each}" for each in ledger.unplaced()),
        *(f"no test: fault {each}" for each in ledger.untested_faults()),
        *(f"does not exist: {each}" for each in ledger.unknown),
        *(f"not there yet: {each}" for each in ledger.not_there),
        *(f"proves nothing: {each.path}: {each.name}: {each.why}" for each in ledger.misuses),
    ]
    print(*holes, sep="\n")
    if arguments.write:
        CONFORMANCE.write_text(conformance(ledger))
        RULES.write_text(unnumbered_rules())
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main())
