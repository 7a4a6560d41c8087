"""The host: one store, one timer, and the connections that events come from."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections import deque

import attrs

from examples.broker.complaints import Complaints
from examples.broker.configuration import Configuration
from examples.broker.connection import Connection
from mqtt_sessions import (
    CloseConnection,
    ConnectionLost,
    Event,
    Outcome,
    RouteMessage,
    ServerStopping,
    SessionStore,
    wire,
)

if sys.platform != "win32":
    import resource

__all__ = ["Broker"]

log = logging.getLogger(__name__)

TIMEOUT_SLICE = 1000
"""Units of work in one call, so that a million sessions that end together block nobody."""

LONGEST_SLEEP = 60.0
"""Seconds. The timer runs on asyncio's clock, deadlines are POSIX time: somebody may set that."""

STOP_TIMEOUT = 2.0
"""Seconds in which clients can take what was written to them before the broker stops."""

ABORT_TIMEOUT = 3.0
"""Seconds in which connections that were cut off have to be gone, and the listeners."""

RETRY_DELAY = 1.0
"""Seconds until the store is asked again after it raised, lest that fill all the time there is."""

BACKLOG = 1024
"""Connections that the system holds until they are accepted."""

ACCEPTED_AT_ONCE = 16
"""In one turn of the loop: those that are too many are closed a few turns later."""

LARGEST_TAKEN = 268_435_460 - 131_072
"""Bytes: the protocol's largest packet, less a topic name that came as an alias and goes out."""

RESERVED_DESCRIPTORS = 128
"""Not for connections: files, listeners, and newcomers that are about to be closed."""


class Broker:
    """Feeds the store and performs what it asks for.

    Make it and use it in the event loop's thread.

    Args:
        configuration: What the broker is told; the default is a broker with its defaults.
    """

    def __init__(self, configuration: Configuration | None = None) -> None:
        self.configuration = configuration or Configuration()
        options = self.configuration.options
        largest = min(options.maximum_packet_size or LARGEST_TAKEN, LARGEST_TAKEN)
        self.options = attrs.evolve(options, maximum_packet_size=largest)
        self.takes_huge_packets = largest > LARGEST_TAKEN // 2
        self.store = SessionStore(
            self.configuration.policy,
            self.configuration.limits,
            self.options,
            wire.size_of,
        )
        self.cache = wire.PublishCache()
        self.connections: set[Connection] = set()
        self.complaints = Complaints()
        self.maximum_connections = _maximum_connections()
        self.stopping = False
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._all_gone = asyncio.Event()
        self._events: deque[Event] = deque()
        self._unwritten: set[Connection] = set()
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0  # on the loop's clock: the timer does not fire earlier

    # ------------------------------------------------------------ start and stop

    async def start(self, host: str, port: int) -> list[tuple[str, int]]:
        """Listen; return the addresses, one for each that `host` stands for.

        Raises:
            OSError: The host has no such address, or the port is in use.
        """
        self._server = await self._loop.create_server(
            lambda: Connection(self, self._loop), host, port, backlog=ACCEPTED_AT_ONCE
        )
        for listener in self._server.sockets:  # asyncio takes one number for both
            with listener.dup() as same:
                same.listen(BACKLOG)
        return [listener.getsockname()[:2] for listener in self._server.sockets]

    async def stop(self) -> None:
        """Tell the clients, write out, close, and give up on those that do not take it."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        self.feed(ServerStopping())
        for connection in self.connections:
            connection.close()  # those that never sent CONNECT are not the store's
        if self.connections:
            self._all_gone.clear()
            try:
                await asyncio.wait_for(self._all_gone.wait(), STOP_TIMEOUT)
            except TimeoutError:
                for connection in self.connections:
                    connection.abort()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._all_gone.wait(), ABORT_TIMEOUT)
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), ABORT_TIMEOUT)

    def admits(self, connection: Connection) -> bool:
        """Take note of a new connection; whether it may stay."""
        self.connections.add(connection)
        most = self.maximum_connections
        if most is not None and len(self.connections) > most:
            self.complaints.tell(f"newcomers are closed: there are {most} connections")
            return False
        return not self.stopping

    def forget(self, connection: Connection) -> None:
        """A connection is gone for good."""
        self.connections.discard(connection)
        self._unwritten.discard(connection)
        if not self.connections:
            self._all_gone.set()

    # ------------------------------------------------------------ events in, actions out

    def feed(self, *events: Event) -> None:
        """Take events in, in order, and do what comes out."""
        self._events.extend(events)
        self._run()

    def feed_first(self, event: Event) -> None:
        """Take in an event that those still waiting have to know of: a full write buffer."""
        self._events.appendleft(event)
        self._run()

    def _run(self) -> None:
        # Writing may call `pause_writing`, which feeds an event. Were that handled at once, its
        # actions would overtake those of the outcome that is being performed.
        if self._running:
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
            self._perform(self.store.handle(event, time.time()))
        except Exception as error:
            # A mistake of ours. It costs the one whose event it was his connection, and not those
            # whose events come next.
            self._loop.call_exception_handler(
                {"message": f"{type(event).__name__} failed", "exception": error}
            )
            if connection is not None:
                connection.abort()

    def _perform(self, outcome: Outcome) -> None:
        # A host with a journal commits `outcome.changes` here, before anybody sees an action.
        for action in outcome.actions:
            assert not isinstance(action, RouteMessage)  # the store has its own router
            connection = action.connection
            assert isinstance(connection, Connection)
            if isinstance(action, CloseConnection):
                connection.close()
            else:
                connection.send(action)
                self._unwritten.add(connection)
        for notice in outcome.notices:
            log.info("%s", notice)

    # ------------------------------------------------------------ time

    def _set_timer(self) -> None:
        """One timer for all sessions; it is moved only if something ends before it fires.

        Most deadlines move later all the time (each packet does that to its keep alive), and an
        early call of `handle_timeout` is harmless.
        """
        at = self.store.next_deadline_at
        if at is None or self.stopping:
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
        self._running = True
        self._not_before = self._loop.time() + RETRY_DELAY
        try:
            self._perform(self.store.handle_timeout(time.time(), limit=TIMEOUT_SLICE))
            self._not_before = 0.0
        finally:
            self._running = False
            self._run()


def _maximum_connections() -> int | None:
    """What the process has file descriptors for; None: it has no bound."""
    if sys.platform == "win32":
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    return max(soft - RESERVED_DESCRIPTORS, soft // 2)
