"""All states of a small world, breadth first, until there is no new one.

Each state that any order of events can lead to is looked at once, each step from it is taken, and
what the store does is held against the rules. What is found first is reached by the fewest steps,
so that a failure is told by the shortest run that shows it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from mqtt_sessions._values import value
from mqtt_sessions.testing.clients import ServerFault
from mqtt_sessions.testing.search_moves import Moves
from mqtt_sessions.testing.search_state import State
from mqtt_sessions.testing.search_world import SmallWorld, Step, bounded_packet_ids
from mqtt_sessions.testing.transcript import describe

__all__ = ["Closure", "RuleBroken", "SearchTooLarge", "explore"]


@value
class Closure:
    """A world that was searched to the end.

    Attributes:
        world: Its name.
        states: How many there are.
        transitions: Steps between them.
        depth: Steps to the state that is farthest from the first.
        longest_heal: Steps, at the most, from a state to rest.
    """

    world: str
    states: int
    transitions: int
    depth: int
    longest_heal: int


class RuleBroken(AssertionError):
    """A run in which the store breaks a rule; none with fewer steps does.

    Attributes:
        rule: Id of the statement.
        detail: What happened.
        steps: The run.
        trace: The same, told with events, actions and notices.
    """

    def __init__(
        self, world: SmallWorld, rule: str, detail: str, steps: tuple[Step, ...], trace: str
    ) -> None:
        super().__init__(f"{world.name}: {rule}: {detail}\n{trace}")
        self.rule = rule
        self.detail = detail
        self.steps = steps
        self.trace = trace


class SearchTooLarge(Exception):
    """A world has more states than the caller wanted to look at."""


def explore(world: SmallWorld, *, most_states: int = 1_000_000) -> Closure:
    """Look at every state of a world.

    Args:
        world: What there is and what may happen.
        most_states: Where to give up.

    Raises:
        RuleBroken: The store broke a rule; the run is the shortest that shows it.
        SearchTooLarge: There are more states than that.

    *Cost* O(transitions), about 0.2 ms each. *Bound* `most_states`.
    """
    with bounded_packet_ids(world.packet_ids):
        return _Search(world, most_states).run()


class _Search:
    def __init__(self, world: SmallWorld, most_states: int) -> None:
        self._world = world
        self._moves = Moves(world)
        self._most_states = most_states
        # each part of a key gets a number, so that a state costs one short tuple
        self._parts: dict[Hashable, int] = {}
        self._seen: dict[tuple[int, ...], int] = {}
        self._came: list[tuple[int, Step]] = []
        self._heals: list[int] = []
        self._transitions = 0

    def run(self) -> Closure:
        with self._telling(None, None):
            start = self._moves.start()
            self._add(start, 0, Step("start"))
        frontier = [(0, start)]
        depth = -1
        while frontier:
            depth += 1
            frontier = self._widen(frontier)
        return Closure(
            self._world.name, len(self._came), self._transitions, depth, self._longest_heal()
        )

    def _widen(self, frontier: list[tuple[int, State]]) -> list[tuple[int, State]]:
        """Take every step from the states of one depth; those that are new make the next."""
        moves, further = self._moves, []
        for index, state in frontier:
            heal = moves.heal(state)
            if heal is None and not moves.is_quiet(state):
                self._tell(index, None, ServerFault("rest", "all is read, and something is owed"))
            for step in moves.steps(state):
                with self._telling(index, step):
                    behind = moves.take(state, step)
                    if behind is state:
                        continue
                    self._transitions += 1
                    found, is_new = self._add(behind, index, step)
                    if is_new:
                        further.append((found, behind))
                if step == heal:
                    self._heals[index] = found
            if heal is not None and self._heals[index] < 0:
                raise AssertionError(f"{heal} leads to rest and is none of the steps")
        return further

    def _add(self, state: State, came_from: int, step: Step) -> tuple[int, bool]:
        parts = self._parts
        key = tuple([parts.setdefault(part, len(parts)) for part in self._moves.key(state)])
        index = self._seen.setdefault(key, len(self._came))
        if index < len(self._came):
            return index, False
        if index >= self._most_states:
            raise SearchTooLarge(f"{self._world.name} has more than {self._most_states} states")
        self._came.append((came_from, step))
        self._heals.append(-1)
        return index, True

    def _longest_heal(self) -> int:
        """Every state comes to rest if nothing more goes wrong; the most steps that takes."""
        heals = self._heals
        steps: list[int | None] = [0 if heals[index] < 0 else None for index in range(len(heals))]
        for index in range(len(heals)):
            path: list[int] = []
            on_path: set[int] = set()
            at = index
            while steps[at] is None:
                if at in on_path:
                    self._tell(at, None, ServerFault("rest", "goes round and never comes to rest"))
                path.append(at)
                on_path.add(at)
                at = heals[at]
            count = steps[at]
            assert count is not None
            for one in reversed(path):
                count += 1
                steps[one] = count
        return max(count for count in steps if count is not None)

    # ------------------------------------------------------------ telling

    @contextmanager
    def _telling(self, index: int | None, step: Step | None) -> Iterator[None]:
        try:
            yield
        except SearchTooLarge:
            raise
        except ServerFault as fault:
            self._tell(index, step, fault)
        except Exception as error:
            self._tell(index, step, ServerFault("host", repr(error)), error)

    def _tell(
        self,
        index: int | None,
        step: Step | None,
        fault: ServerFault,
        cause: Exception | None = None,
    ) -> None:
        steps: list[Step] = [] if step is None else [step]
        while index:
            index, before = self._came[index]
            steps.append(before)
        run = tuple(reversed(steps))
        raise RuleBroken(self._world, fault.rule, fault.detail, run, self._trace(run)) from (
            cause or fault
        )

    def _trace(self, run: tuple[Step, ...]) -> str:
        """The run once more, with everything that was said in it."""
        lines: list[str] = []

        def log(arrow: str, said: Any) -> None:
            lines.append(f"       {arrow} {describe(said)}")

        try:
            state = self._moves.start()
            for count, step in enumerate(run, 1):
                variant = f", variant {step.variant}" if step.variant else ""
                lines.append(f"  {count:2}. {' '.join((step.kind, step.who)).strip()}{variant}")
                state = self._moves.take(state, step, log)
        except Exception as error:
            lines.append(f"       => {error}")
        return "\n".join(lines)
