"""The small world of tests/behavior, with a broker behind a socket where the store was."""

from __future__ import annotations

from typing import Any

from mqtt_sessions import ConnectionLost, Event
from mqtt_sessions.testing.live import BrokerSubject
from tests.behavior.helpers import Client, World

__all__ = ["LiveWorld"]


class LiveWorld(World):
    """Clients of a live broker; time is real, and nobody can look into the broker.

    The witness of tests/behavior looks at what a live broker sends as well.
    """

    def __init__(self, subject: BrokerSubject, slack: float) -> None:
        super().__init__()
        self.subject = subject
        self.slack = slack
        self.check_each_step = False
        self._lost: set[int] = set()

    def feed(self, event: Event) -> None:
        witness = self._witnesses.get(getattr(event, "connection", None))  # type: ignore[arg-type]
        if witness is not None:
            witness.sends(event)
        if isinstance(event, ConnectionLost):
            self._lost.add(event.connection)  # type: ignore[arg-type]
        self._see(self.subject.handle(event, self.now))

    def let_pass(self, seconds: float) -> None:
        """Let real time pass, and what the broker's clock may lag; no client gives a sign of life.

        What has to be done after so many seconds is done then.
        """
        self._see(self.subject.wait(seconds + self.slack))

    def reconnect(self, client: Client, **more: Any) -> Client:
        """The connection breaks, unless it has, and the same client comes back to its session."""
        if client.connection not in self._lost:
            client.lose()
        fields: dict[str, Any] = {"version": client.version, "keep": True, **more}
        return self.connect(client.client_id, **fields)
