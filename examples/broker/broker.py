"""The broker: its host, its listeners, and the connections that events come from."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable

import attrs

from examples.broker.complaints import Complaints
from examples.broker.configuration import Configuration
from examples.broker.connection import Connection
from examples.broker.host import Host
from mqtt_sessions import ServerStopping, wire
from mqtt_sessions.journals import Journal, JournalError

if sys.platform != "win32":
    import resource

__all__ = ["Broker"]

STOP_TIMEOUT = 2.0
"""Seconds in which clients can take what was written to them before the broker stops."""

ABORT_TIMEOUT = 3.0
"""Seconds in which connections that were cut off have to be gone, and the listeners."""

BACKLOG = 1024
"""Connections that the system holds until they are accepted."""

ACCEPTED_AT_ONCE = 16
"""In one turn of the loop: those that are too many are closed a few turns later."""

LARGEST_TAKEN = 268_435_460 - 131_072
"""Bytes: the protocol's largest packet, less a topic name that came as an alias and goes out."""

RESERVED_DESCRIPTORS = 128
"""Not for connections: files, listeners, and newcomers that are about to be closed."""


class Broker:
    """Begins, knows all connections, and ends.

    Make it and use it in the event loop's thread.

    Args:
        configuration: What the broker is told; the default is a broker with its defaults.
        journal: Where sessions are stored; None: they end with the process. It is the broker's from
            now on.
        give_up: Called once if there is a `failure`: nothing is left to be done but `stop`.

    Attributes:
        failure: Why nothing can be stored any more.

    Raises:
        JournalUnusable: The journal can't be read.
    """

    def __init__(
        self,
        configuration: Configuration | None = None,
        journal: Journal | None = None,
        give_up: Callable[[], object] = lambda: None,
    ) -> None:
        self.configuration = configuration or Configuration()
        options = self.configuration.options
        largest = min(options.maximum_packet_size or LARGEST_TAKEN, LARGEST_TAKEN)
        self.options = attrs.evolve(options, maximum_packet_size=largest)
        self.takes_huge_packets = largest > LARGEST_TAKEN // 2
        self.cache = wire.PublishCache()
        self.connections: set[Connection] = set()
        self.complaints = Complaints()
        self.maximum_connections = _maximum_connections()
        self.stopping = False
        self.failure: JournalError | None = None
        self._loop = asyncio.get_running_loop()
        self.host = Host(self.configuration, self.options, journal, self._loop, self._fail)
        self.store = self.host.store
        self._give_up = give_up
        self._server: asyncio.Server | None = None
        self._all_gone = asyncio.Event()

    # ------------------------------------------------------------ start and stop

    async def start(self, host: str, port: int) -> list[tuple[str, int]]:
        """Listen; return the addresses, one for each that `host` stands for.

        Raises:
            OSError: The host has no such address, or the port is in use.
        """
        self.host.settle()
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
        self.host.feed(ServerStopping())
        self.host.flush()
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
        self.host.close()
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
        self.host.forget(connection)
        if not self.connections:
            self._all_gone.set()

    def _fail(self, error: JournalError) -> None:
        """Nobody is promised anything from now on, and what was promised is in the journal.

        To read that again in the same process would be a second way to start.
        """
        self.failure = error
        self.stopping = True
        for connection in self.connections:
            connection.abort()
        self._give_up()


def _maximum_connections() -> int | None:
    """What the process has file descriptors for; None: it has no bound."""
    if sys.platform == "win32":
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    return max(soft - RESERVED_DESCRIPTORS, soft // 2)
