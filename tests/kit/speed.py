"""How fast the state machine drives a store: `python -m tests.kit.speed`.

A step is one event or one passing of time, with the model, the watch and the store's own check. The
processor's time is counted, since what else runs on a machine is no matter of the code.
"""

from __future__ import annotations

import random
import time
from typing import Any

from hypothesis import settings

from mqtt_sessions import ClientConnected, Message, SessionLimits, SessionStore, Will
from mqtt_sessions.testing.judge import Judge
from mqtt_sessions.testing.machine import SessionStateMachine
from mqtt_sessions.testing.moves import EVERYTHING, HIGHEST, Player, kinds_of_moves

RUNS = 100
MOVES = 50
CONNECTS = (
    ClientConnected(1, "a", session_expiry_interval=8, receive_maximum=2),
    ClientConnected(1, "a", 4, keep_alive=4, will=Will(Message("t", b"will", 1))),
    ClientConnected(1, "a", session_expiry_interval=3),
)


def by_machine() -> float:
    """Steps per second of processor time, as Hypothesis chooses them."""
    judges: list[Judge] = []

    class Counted(SessionStateMachine):
        subject = SessionStore
        settings = settings(
            max_examples=RUNS, stateful_step_count=MOVES, derandomize=True, database=None
        )

        def judge_of(self, *configuration: Any) -> Judge:
            judges.append(super().judge_of(*configuration))
            return judges[-1]

    started = time.process_time()
    Counted("test_session_semantics").test_session_semantics()
    return sum(len(judge.steps) for judge in judges) / (time.process_time() - started)


def by_itself() -> float:
    """The same without Hypothesis, moves drawn evenly."""
    drawn = random.Random(1)
    kinds = len(kinds_of_moves(EVERYTHING))
    steps = 0
    started = time.process_time()
    for _ in range(RUNS):
        judge = Judge(SessionStore())
        player = Player(judge, EVERYTHING, CONNECTS, SessionLimits())
        for _ in range(MOVES):
            variant = drawn.randint(0, HIGHEST), drawn.randint(0, HIGHEST)
            player.play((drawn.randrange(kinds), drawn.randrange(EVERYTHING.clients), *variant))
        steps += len(judge.steps)
    return steps / (time.process_time() - started)


if __name__ == "__main__":
    print(f"state machine: {by_machine():,.0f} steps/s")
    print(f"judge and moves alone: {by_itself():,.0f} steps/s")
