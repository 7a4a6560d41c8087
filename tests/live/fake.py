"""A broker that does what a test tells it, right or wrong."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

from mqtt_sessions import wire

__all__ = ["FakeBroker", "polite"]

Answer = Callable[[wire.Packet | wire.WireError, str], bytes | None]
"""What is sent to answer a packet of a client; None closes the connection."""


def polite(item: wire.Packet | wire.WireError, client_id: str) -> bytes | None:
    """CONNACK, PINGRESP and nothing else; DISCONNECT closes."""
    if isinstance(item, wire.Connect):
        return b"\x20\3\0\0\0" if item.protocol_version == 5 else b"\x20\2\0\0"
    if isinstance(item, wire.Pingreq):
        return b"\xd0\0"
    return None if isinstance(item, wire.Disconnect) else b""


class FakeBroker:
    """Listens on a free port, a thread for each connection.

    Args:
        answer: How it answers, may be set anew; the subject's own connection is always treated
            politely.
        late: What it sends to who has subscribed, whatever else happens.
        after: Seconds from then.
    """

    def __init__(self, answer: Answer = polite, late: bytes = b"", after: float = 0.0) -> None:
        self.answer = answer
        self._late = late
        self._after = after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(60.0)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        decoder, client_id = wire.Decoder(wire.Role.SERVER), ""
        with client:
            client.settimeout(60.0)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    data = client.recv(65_536)
                except OSError:
                    return
                if not data:
                    return
                for item in decoder.feed(data):
                    if isinstance(item, wire.Connect):
                        client_id = item.client_id
                    answer = polite if client_id.startswith("quiet") else self.answer
                    said = answer(item, client_id)
                    if said is None:
                        return
                    client.sendall(said)
                    if self._late and isinstance(item, wire.Subscribe):
                        timer = threading.Timer(self._after, self._send_late, (client,))
                        self._threads.append(timer)
                        timer.start()

    def _send_late(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it may have gone meanwhile
            client.sendall(self._late)
