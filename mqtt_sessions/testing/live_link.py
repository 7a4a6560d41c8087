"""One network connection to a live broker: bytes, packets, and where it stands."""

from __future__ import annotations

import re
import socket
import time
from collections import deque
from collections.abc import Hashable, Iterator
from enum import Enum

from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode
from mqtt_sessions.wire import Decoder, Packet, Role, WireError

__all__ = ["BrokerFault", "Budget", "Link", "State"]

_READ_SIZE = 65_536
_STATEMENT = re.compile(r"(?:3\.1\.1 )?MQTT-[\d.]+-\d+")
_MOST_PACKETS = 100_000
_MOST_BYTES = 2**29
_UNSUPPORTED = (
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
    ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION,
)


class BrokerFault(AssertionError):
    """A broker sent what no server may send, or owes what it must send.

    Attributes:
        rule: The statement that it breaks, such as "MQTT-3.12.4-1"; "wire" if the bytes break the
            format in a way that has no statement of its own; "quiet" if it never stops
            sending, or closes the connection by which that is seen.
        detail: What happened, and on which connection.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class State(Enum):
    """Where a network connection stands, as its client sees it."""

    CONNECTING = "CONNECT is sent"
    OPEN = "CONNACK has accepted it"
    LEAVING = "DISCONNECT was sent, by either side, or CONNACK has refused it"
    CLOSED = "the broker has closed it"


class Budget:
    """What a broker may take for one step; whoever takes more would be listened to for ever."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._packets = _MOST_PACKETS
        self._bytes = _MOST_BYTES

    def spend(self, packets: int = 0, octets: int = 0) -> None:
        self._packets -= packets
        self._bytes -= octets
        if self._packets < 0 or self._bytes < 0 or time.monotonic() > self._until:
            raise BrokerFault("quiet", "the broker is never quiet")


class Link:
    """One network connection: bytes, packets, and where it stands."""

    def __init__(self, connection: Hashable, address: tuple[str, int], timeout: float) -> None:
        self.connection = connection
        self.version = 5
        self.state = State.CONNECTING
        self.reason_code = ReasonCode.UNSPECIFIED_ERROR
        self.refusal: int | None = None  # the code with which CONNACK said no
        self.client_id = ""
        self.is_overdue = False  # it should have been closed, and was waited for once
        self.pings: deque[bool] = deque()  # of those unanswered: is it the client's own?
        try:
            self.socket = socket.create_connection(address, timeout)
        except OSError as error:
            host, port = address
            raise ConnectionError(f"no connection to {host}:{port}: {error}") from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._decoder = Decoder(Role.CLIENT, 5)
        self.unsent = b""

    def speaks(self, version: int) -> None:
        """The first CONNECT has chosen the protocol version."""
        self.version = version
        self._decoder = Decoder(Role.CLIENT, version)

    @property
    def is_closed(self) -> bool:
        return self.state is State.CLOSED

    @property
    def may_speak_less(self) -> bool:
        """Whether an older protocol version may be accepted, where this one was not."""
        return self.refusal in _UNSUPPORTED or (self.refusal is None and self.is_closed)

    def flush(self) -> None:
        """Hand to the system what it takes; a broker that is gone is found by reading."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.unsent = b""

    def read(self, budget: Budget) -> Iterator[Packet]:
        """All packets that have come; afterwards the state tells whether the broker has closed."""
        while True:
            try:
                data = self.socket.recv(_READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.state = State.CLOSED
                return
            items = self._decoder.feed(data)
            for item in items:
                if isinstance(item, WireError):
                    found = _STATEMENT.search(str(item))
                    raise BrokerFault(
                        found.group() if found else "wire",
                        f"on connection {self.connection!r} the broker sent {item!r}",
                    )
                yield item
            budget.spend(len(items), len(data))  # at the end: what was read must not be lost
