"""What can be judged: anything that takes events in and says what it did.

A `SessionStore` is a subject as it is. A broker of another make becomes one by an adapter:
`mqtt_sessions.testing.live.BrokerSubject` speaks to a broker behind a socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from mqtt_sessions.events import Event, LimitsChanged
from mqtt_sessions.journals.contract import Journal
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.store import SessionStore
from mqtt_sessions.turn import Outcome, SizeOf

__all__ = ["Journaled", "Restored", "Subject"]


@runtime_checkable
class Subject(Protocol):
    """What the state machine drives.

    A subject may have more, which is used where it is there: `check()`, called after each step,
    `close()`, called at the end of a run, and `crash(unheard, then, now)`, which makes it take in
    an event, if there is one, die, and come back at a later instant with what is durable. An
    attribute `real_time` that is true says that the subject has a clock of its own: then nobody
    asks for its deadlines, and the machine's profile should leave time alone, as `REAL_TIME` does.
    """

    def handle(self, event: Event, now: float) -> Outcome:
        """Take one event in; what came of it, as `SessionStore.handle` would say it."""
        ...

    def handle_timeout(self, now: float) -> Outcome:
        """Do what is due at `now`."""
        ...

    @property
    def next_deadline_at(self) -> float | None:
        """When `handle_timeout` has something to do; None: never."""
        ...


class Restored:
    """A store that is snapshotted and restored after each step, as a process that always dies.

    What such a store does differently from one that lives on is what its snapshot forgot.

    Args:
        store: The store to begin with; it is not used again after the first step.
        size_of: What the store was made with: a function is no part of a snapshot.
    """

    def __init__(self, store: SessionStore, size_of: SizeOf | None = None) -> None:
        self.store = store
        self._size_of = size_of

    def handle(self, event: Event, now: float) -> Outcome:
        """As `SessionStore.handle`, and then a restart. *Cost* O(everything)."""
        outcome = self.store.handle(event, now)
        self._restart()
        return outcome

    def handle_timeout(self, now: float) -> Outcome:
        """As `SessionStore.handle_timeout`, and then a restart. *Cost* O(everything)."""
        outcome = self.store.handle_timeout(now)
        self._restart()
        return outcome

    @property
    def next_deadline_at(self) -> float | None:
        """The restored store's."""
        return self.store.next_deadline_at

    def check(self) -> None:
        """Verify the restored store, and that its snapshot is the one that it was restored from."""
        self.store.check()

    def _restart(self) -> None:
        snapshot = self.store.snapshot()
        self.store = SessionStore.restore(snapshot, self._size_of)
        again = self.store.snapshot()
        assert again == snapshot, "a restored store's snapshot differs from what it was made from"


class Journaled:
    """A durable store, its journal, and a host that commits before it performs.

    Args:
        journal: An empty one.
        reopened: What a new process would open in its place.
        policy: Of the store.
        limits: The same.
        options: The same.

    Attributes:
        store: The store; another one after each crash.
        journal: The journal; the same.
    """

    def __init__(
        self,
        journal: Journal,
        reopened: Callable[[Any], Journal],
        policy: ExpiryPolicy,
        limits: SessionLimits,
        options: ServerOptions,
    ) -> None:
        self.store = SessionStore(policy, limits, options, durable=True)
        self.journal = journal
        self._reopened = reopened
        self._policy, self._limits, self._options = policy, limits, options

    def handle(self, event: Event, now: float) -> Outcome:
        """As `SessionStore.handle`; what it changes is durable when this returns."""
        outcome = self.store.handle(event, now)
        if isinstance(event, LimitsChanged):
            self._limits = event.limits  # a host's own settings are no part of a journal
        return self._committed(outcome)

    def handle_timeout(self, now: float) -> Outcome:
        """As `SessionStore.handle_timeout`; what it changes is durable when this returns."""
        return self._committed(self.store.handle_timeout(now))

    def _committed(self, outcome: Outcome) -> Outcome:
        if outcome.changes:
            self.journal.commit(outcome.changes)
        return outcome

    @property
    def next_deadline_at(self) -> float | None:
        """The store's."""
        return self.store.next_deadline_at

    def crash(self, unheard: Event | None, then: float, now: float) -> None:
        """Take an event in and die before the commit, or die; then recover from the journal."""
        if unheard is not None:
            self.store.handle(unheard, then)
        self.journal = self._reopened(self.journal)
        settings = self._policy, self._limits, self._options
        made = SessionStore.recover(self.journal.load(), now, *settings)
        assert not made.set_aside, f"rows are set aside: {made.set_aside}"
        self.store = made.store

    def check(self) -> None:
        """Verify the store."""
        self.store.check()

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()
