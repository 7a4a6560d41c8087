"""`python -m tests.benchmarks [--quick] [--json] [name or beginning of names ...]`."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import codec, deadlines, durable, growth, memory, peers, throughput
from .timing import FULL, QUICK, Bench, Figure, Scale, Skipped

__all__ = ["BENCHES", "main", "measure"]

# The largest heaps come last: what went before cannot have been slowed by them.
BENCHES: tuple[Bench, ...] = (
    *throughput.BENCHES,
    *peers.BENCHES,
    *codec.BENCHES,
    *memory.BENCHES,
    *durable.BENCHES,
    *growth.BENCHES,
    *deadlines.BENCHES,
)


def _note(text: str) -> None:
    print(f"# {text}", file=sys.stderr, flush=True)


def _machine() -> str:
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {platform.system()}, {processor}, {os.cpu_count()} CPUs"


def measure(scale: Scale, beginnings: Sequence[str] = ()) -> Iterator[Figure]:
    """Run what yields a wanted figure, and yield the wanted ones; no beginnings: all."""
    wanted = tuple(beginnings) or ("",)
    for bench in BENCHES:
        if not any(name.startswith(wanted) for name in bench.names):
            continue
        try:
            for figure in bench.run(scale):
                if figure.name.startswith(wanted):
                    yield figure
        except Skipped as reason:
            _note(f"skipped {', '.join(bench.names)}: {reason}")
        gc.collect()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; figures go to standard output, all else to standard error."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="figures, or how they begin")
    parser.add_argument("--quick", action="store_true", help="a tenth of the counts")
    parser.add_argument("--json", action="store_true", help="one object of name and value")
    options = parser.parse_args(arguments)
    known = [name for bench in BENCHES for name in bench.names]
    for beginning in options.names:
        if not any(name.startswith(beginning) for name in known):
            parser.error(f"no figure begins with {beginning!r}; there are {', '.join(known)}")
    _note(_machine())
    figures: dict[str, float] = {}
    for name, value, unit in measure(QUICK if options.quick else FULL, options.names):
        figures[name] = round(value, 4)
        if not options.json:
            print(f"{name} {value:.3f} {unit}", flush=True)
    if options.json:
        print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
