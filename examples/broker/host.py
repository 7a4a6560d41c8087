"""The host loop: events in, one store, actions out, one timer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from examples.broker.configuration import Configuration
from examples.broker.connection import Connection
from examples.broker.storage import Storage
from mqtt_sessions import (
    Action,
    CloseConnection,
    ConnectionLost,
    Event,
    InvalidState,
    Outcome,
    RouteMessage,
    ServerOptions,
)
from mqtt_sessions.journals import Journal, JournalError

__all__ = ["Host"]

log = logging.getLogger(__name__)

TIMEOUT_SLICE = 1000
"""Units of work in one call, so that a million sessions that end together block nobody."""

LONGEST_SLEEP = 60.0
"""Seconds. The timer runs on asyncio's clock, deadlines are POSIX time: somebody may set that."""

RETRY_DELAY = 1.0
"""Seconds until the store is asked again after it raised, lest that fill all the time there is."""


class Host:
    """Feeds the store and performs what it asks for, once what that relies on is stored.

    Args:
        configuration: When things end, and how far they grow.
        options: What the server offers.
        journal: Where sessions are stored; None: nowhere.
        loop: The event loop, in whose thread everything here is called.
        fail: Told once that the journal takes no more.

    Raises:
        JournalUnusable: The journal can't be read.
    """

    def __init__(
        self,
        configuration: Configuration,
        options: ServerOptions,
        journal: Journal | None,
        loop: asyncio.AbstractEventLoop,
        fail: Callable[[JournalError], None],
    ) -> None:
        self._loop = loop
        self._storage = Storage(journal, loop, self._perform_late, fail)
        self.store = self._storage.recover(time.time(), configuration, options)
        self._events: deque[Event] = deque()
        self._unwritten: set[Connection] = set()
        self._running = False
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0  # on the loop's clock: the timer does not fire earlier

    # ------------------------------------------------------------ begin and end

    def settle(self) -> None:
        """Let everything happen that was due while there was no broker, before there are clients.

        Subscriptions are there from the beginning: the will of a client that never comes back goes
        to sessions whose clients are still to come.
        """
        now = time.time()
        with self._at_work():
            while (at := self.store.next_deadline_at) is not None and at <= now:
                self._take(self.store.handle_timeout(now, limit=TIMEOUT_SLICE))
            self._perform(self._storage.flush())

    def flush(self) -> None:
        """Store all there is, and perform what waits for that."""
        with self._at_work():
            self._perform(self._storage.flush())

    def close(self) -> None:
        """Take no more events in; give the journal back, with all that is to be stored."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._storage.close()

    # ------------------------------------------------------------ events in, actions out

    def feed(self, *events: Event) -> None:
        """Take events in, in order, and do what comes out."""
        self._events.extend(events)
        self._run()

    def feed_first(self, event: Event) -> None:
        """Take in an event that those still waiting have to know of: a full write buffer."""
        self._events.appendleft(event)
        self._run()

    def forget(self, connection: Connection) -> None:
        """A connection is gone for good."""
        self._unwritten.discard(connection)

    def _run(self) -> None:
        # Writing may call `pause_writing`, which feeds an event. Were that handled at once, its
        # actions would overtake those of the outcome that is being performed.
        if self._running or self._is_closed:
            return
        self._running = True
        try:
            while self._events or self._unwritten:
                if self._events:
                    self._handle(self._events.popleft())
                else:
                    self._unwritten.pop().flush()
        finally:
            self._running = False
            self._set_timer()

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Events that come meanwhile are handled at the end."""
        self._running = True
        try:
            yield
        finally:
            self._running = False
            self._run()

    def _handle(self, event: Event) -> None:
        connection = getattr(event, "connection", None)
        assert connection is None or isinstance(connection, Connection)
        if (
            connection is not None
            and connection.is_closed
            and not isinstance(event, ConnectionLost)
        ):
            return  # behind a DISCONNECT, say: nothing more is processed
        try:
            self._take(self.store.handle(event, time.time()))
        except Exception as error:
            # A mistake of ours. It costs the one whose event it was his connection, and not those
            # whose events come next, unless memory and journal may say different things now.
            self._complain(f"{type(event).__name__} failed", error, connection)
            if not isinstance(error, InvalidState):
                self._storage.give_up(error)

    def _take(self, outcome: Outcome) -> None:
        self._perform(self._storage.add(outcome))
        for notice in outcome.notices:
            log.info("%s", notice)

    def _perform_late(self, actions: Sequence[Action]) -> None:
        """Perform what has waited until it was stored."""
        with self._at_work():
            self._perform(actions)

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            assert not isinstance(action, RouteMessage)  # the store has its own router
            connection = action.connection
            assert isinstance(connection, Connection)
            try:
                if isinstance(action, CloseConnection):
                    connection.close()
                else:
                    connection.send(action)
                    self._unwritten.add(connection)
            except Exception as error:
                self._complain(f"{type(action).__name__} failed", error, connection)

    def _complain(self, what: str, error: Exception, connection: Connection | None) -> None:
        self._loop.call_exception_handler({"message": what, "exception": error})
        if connection is not None:
            connection.abort()

    # ------------------------------------------------------------ time

    def _set_timer(self) -> None:
        """One timer for all sessions; it is moved only if something ends before it fires.

        Most deadlines move later all the time (each packet does that to its keep alive), and an
        early call of `handle_timeout` is harmless.
        """
        at = self.store.next_deadline_at
        if at is None:
            return
        when = self._loop.time() + min(max(at - time.time(), 0.0), LONGEST_SLEEP)
        when = max(when, self._not_before)
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._not_before = self._loop.time() + RETRY_DELAY
        with self._at_work():
            self._take(self.store.handle_timeout(time.time(), limit=TIMEOUT_SLICE))
            self._not_before = 0.0
