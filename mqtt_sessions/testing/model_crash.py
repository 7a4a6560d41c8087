"""The reference model, part 7: what is left of sessions after a crash, where a store is durable."""

from __future__ import annotations

from mqtt_sessions.testing.model_notices import Settling
from mqtt_sessions.testing.model_values import ModelConnection, ModelSession

__all__ = ["Crashing"]


class Crashing(Settling):
    """All that was stored is there again; connections are not."""

    def crash(self, now: float) -> None:
        """The subject died, and came back at this instant with what its journal had.

        All connections were cut then, and nobody reports them as lost. Between two steps only.
        """
        self.now = self.instant = max(self.now, now)
        for session in list(self.sessions.values()):
            connection, session.connection = session.connection, None
            if connection is not None:
                self._cut(session, connection)
            self._wait_again(session)
        self.connections.clear()
        self.step += 1

    def _cut(self, session: ModelSession, connection: ModelConnection) -> None:
        """NN-4.5: as any connection that is lost, but at the restart."""
        if session.interval == 0:  # NN-1.2
            self.sessions.pop(session.client_id)
            if session.will is None:
                return
            left = ModelSession(session.client_id, None, session.policy, self.limits)
            left.will, left.expires_at, left.will_due_at = session.will, self.now, self.now
            self.sessions[session.client_id] = left
            return
        session.expires_at = None if session.interval is None else self.now + session.interval
        if session.will is not None:
            session.will_due_at = self.now + session.will.will_delay_interval

    def _wait_again(self, session: ModelSession) -> None:
        """NN-1.7: QoS 1 in flight waits, under no identifier and with DUP 0; QoS 2 goes on.

        That a receiver may see a QoS 1 message again as a new one is what QoS 1 allows.
        """
        again = [each.copy for each in session.in_flight if each.copy.qos == 1]
        session.in_flight = [each for each in session.in_flight if each.copy.qos == 2]
        for exchange in session.in_flight:
            exchange.sent_on = None
        waiting = again + session.queue
        session.queue = sorted(waiting, key=lambda copy: copy.received_at)
