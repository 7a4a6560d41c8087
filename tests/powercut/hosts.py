"""Two hosts between a store and a journal: one commits and then sends, the other pipelines."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from mqtt_sessions import Action, CommitGate, Outcome
from mqtt_sessions.changes import Change
from mqtt_sessions.journals import Journal

__all__ = ["Host", "PipeliningHost", "SimpleHost"]

Perform = Callable[[Iterable[Action]], None]


class Host(Protocol):
    """What stands between outcomes, a journal, and the network."""

    def add(self, outcome: Outcome) -> None:
        """Take what a call of the store came to."""

    def work(self, chance: random.Random) -> None:
        """Get on with whatever waits, by one step."""

    def flush(self) -> None:
        """Get on until nothing waits."""


class SimpleHost:
    """Commits the changes of some outcomes, and then performs their actions."""

    def __init__(self, journal: Journal, perform: Perform) -> None:
        self._journal = journal
        self._perform = perform
        self._outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)

    def work(self, chance: random.Random) -> None:
        self.flush()

    def flush(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        self._journal.commit([change for each in outcomes for change in each.changes])
        self._perform([action for each in outcomes for action in each.actions])


class PipeliningHost:
    """Performs what the gate lets go, and commits what it has cut while more comes in.

    Cutting a batch, making it durable and telling the gate are steps of their own, between which
    anything can happen.
    """

    def __init__(self, journal: Journal, perform: Perform, gate: CommitGate) -> None:
        self._journal = journal
        self._perform = perform
        self._gate = gate
        self._cut: deque[tuple[int, tuple[Change, ...]]] = deque()
        self._durable: deque[int] = deque()

    def add(self, outcome: Outcome) -> None:
        self._perform(self._gate.add(outcome))

    def work(self, chance: random.Random) -> None:
        chance.choice((self._take, self._commit, self._tell))()

    def flush(self) -> None:
        while self._gate.pending or self._cut or self._durable:
            self._take()
            self._commit()
            self._tell()
        assert not self._gate.waiting

    def _take(self) -> None:
        batch = self._gate.take_batch()
        if batch is not None:
            self._cut.append(batch)

    def _commit(self) -> None:
        if self._cut:
            number, changes = self._cut.popleft()
            self._journal.commit(changes)
            self._durable.append(number)

    def _tell(self) -> None:
        if self._durable:
            # one number may stand for several batches
            number = self._durable.pop()
            self._durable.clear()
            self._perform(self._gate.committed(number))
