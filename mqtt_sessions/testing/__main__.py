"""`python -m mqtt_sessions.testing`: a hostile simulation, and the replay of one that failed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from mqtt_sessions.testing.world import RunFailed, World

__all__ = ["main"]

_HEALED_EACH = 50_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0: no rule was broken, 1: one was; 2, by `SystemExit`: wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m mqtt_sessions.testing", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="what decides the run (default: 0)")
    parser.add_argument("--steps", type=_steps, default=100_000, help="default: 100000")
    parser.add_argument("--durable", action="store_true", help="a durable store and its journal")
    given = parser.parse_args(arguments)
    world = World(given.seed, durable=given.durable)
    print(f"seed {given.seed}: {world.policy}")
    print(f"  {world.limits}")
    print(f"  {world.options}")
    started, started_cpu = time.perf_counter(), time.process_time()
    try:
        simulate(world, given.steps)
    except RunFailed as failed:
        print(f"\nFAILED at step {failed.step} of seed {failed.seed}: {failed.cause}")
        print(failed.lines)
        durable = " --durable" if given.durable else ""
        again = f"--seed {failed.seed} --steps {given.steps}{durable}"
        print(f"replay: python -m mqtt_sessions.testing {again}")
        return 1
    wall, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    print(
        f"{world.calls} events, {world.crashes} crashes, digest {world.mark:016x}\n"
        f"{world.calls / wall:,.0f} events/s ({world.calls / cpu:,.0f} per second of CPU)"
    )
    return 0


def _steps(text: str) -> int:
    """A number of steps; none would prove nothing."""
    steps = int(text)
    if steps < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {steps}")
    return steps


def simulate(world: World, steps: int) -> None:
    """Chaos, healed every now and then and at the end."""
    left = steps
    while left > 0:
        world.run(min(left, _HEALED_EACH))
        world.heal()
        left -= _HEALED_EACH


if __name__ == "__main__":
    sys.exit(main())
