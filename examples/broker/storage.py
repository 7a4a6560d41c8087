"""What outlives the process: a journal, and the actions that wait for it.

Changes are committed in groups: all that arrived while the last commit ran, which is in a thread.
So nobody waits for the disk but what relies on it, and what subscribers acknowledge meanwhile is
never written. docs/how-to/example-broker.md has the figures.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from examples.broker.configuration import Configuration
from mqtt_sessions import Action, CommitGate, Outcome, ServerOptions, SessionStore, wire
from mqtt_sessions.journals import Journal, JournalError, ThreadedJournal

__all__ = ["Storage"]

log = logging.getLogger(__name__)

LARGEST_BACKLOG = 20_000
"""Rows and actions that wait; with more the broker stands still until all of them are stored."""

MOST_TOLD = 10
"""Damaged rows that are told one by one."""


class Storage:
    """Keeps changes in a journal, and lets actions go when what they rely on is kept.

    Args:
        journal: Where to; None: sessions end with the process.
        loop: The event loop, in whose thread everything here is called.
        perform: Does what has waited for a commit.
        fail: Told once that the journal takes no more: nothing that waits will ever be performed.
    """

    def __init__(
        self,
        journal: Journal | None,
        loop: asyncio.AbstractEventLoop,
        perform: Callable[[Sequence[Action]], None],
        fail: Callable[[JournalError], None],
    ) -> None:
        self._journal = None if journal is None else ThreadedJournal(journal)
        self._loop = loop
        self._perform = perform
        self._fail = fail
        self._gate = CommitGate()
        self._has_failed = False
        self._commit: Future[None] | None = None  # the one that runs
        self._number = 0  # of its batch
        self._is_planned = False  # the next one

    def recover(
        self, now: float, configuration: Configuration, options: ServerOptions
    ) -> SessionStore:
        """The store as the last process left it.

        Raises:
            JournalUnusable: The journal can't be read.
        """
        policy, limits = configuration.policy, configuration.limits
        journal = self._journal
        if journal is None:
            return SessionStore(policy, limits, options, wire.size_of)
        found = SessionStore.recover(journal.load(), now, policy, limits, options, wire.size_of)
        problems = [
            *(f"{each.table} {each.row}: {each.reason}" for each in journal.quarantined),
            *(f"{each.row}: {each.reason}" for each in found.set_aside),
        ]
        for problem in problems[:MOST_TOLD]:
            log.warning("a damaged row was set aside: %s", problem)
        if len(problems) > MOST_TOLD:
            log.warning("and %d more", len(problems) - MOST_TOLD)
        return found.store

    def add(self, outcome: Outcome) -> Sequence[Action]:
        """Take an outcome in; what may be performed now."""
        if self._has_failed:
            return ()
        gate = self._gate
        actions = gate.add(outcome)
        if gate.pending + gate.waiting > LARGEST_BACKLOG:
            return (*actions, *self.flush())  # nothing is read meanwhile, so clients slow down
        if gate.pending and self._commit is None and not self._is_planned:
            self._is_planned = True
            self._loop.call_soon(self._start)  # once all is taken in that can be read now
        return actions

    def flush(self) -> Sequence[Action]:
        """Store all there is, and wait for it; what may be performed now."""
        actions: list[Action] = []
        self._start()
        while self._commit is not None:
            actions += self._finish()
        return actions

    def give_up(self, error: Exception) -> None:
        """The store broke off in the middle of a call: what is kept is true, what is held may not
        be."""
        if self._journal is not None and not self._has_failed:
            self._stop(JournalError(f"the store is not what the journal says: {error}"))

    def close(self) -> None:
        """Store all there is, and give the journal back."""
        self.flush()
        if self._journal is not None:
            self._journal.close()

    # ------------------------------------------------------------ one commit at a time

    def _start(self) -> None:
        """Commit all that waits, unless a commit runs: then its end will see to it."""
        self._is_planned = False
        if self._commit is not None or self._has_failed:
            return
        batch = self._gate.take_batch()
        if batch is None:
            return
        assert self._journal is not None
        self._number, changes = batch
        self._commit = self._journal.submit(changes)
        self._commit.add_done_callback(
            lambda done: self._loop.call_soon_threadsafe(self._on_done, done)
        )

    def _on_done(self, commit: Future[None]) -> None:
        if self._commit is commit:  # or else somebody has waited for it
            self._perform(self._finish())

    def _stop(self, error: JournalError) -> None:
        self._has_failed = True
        self._gate.failed()
        self._fail(error)

    def _finish(self) -> Sequence[Action]:
        """Wait for the commit that runs, and begin the next one; what may be performed now."""
        assert self._commit is not None
        commit, self._commit = self._commit, None
        try:
            commit.result()
        except JournalError as error:
            self._stop(error)
            return ()
        actions = self._gate.committed(self._number)
        self._start()
        return actions
