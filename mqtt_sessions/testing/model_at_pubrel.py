"""The reference model of a server that hands a QoS 2 message on at PUBREL, as Mosquitto does.

MQTT 3.1.1 shows both methods in figure 4.3; in 5.0 the figure, a comment, shows handing on at
PUBLISH, which is what `Model` expects [NN-7.3].
"""

from __future__ import annotations

from attrs import define

from mqtt_sessions.events import PublishReceived, PubrelReceived
from mqtt_sessions.messages import Message
from mqtt_sessions.policy import ExpiryPolicy
from mqtt_sessions.testing.model import Model
from mqtt_sessions.testing.model_values import ModelConnection, ModelSession

__all__ = ["ModelAtPubrel"]


@define
class _Held:
    """A message whose PUBREL has not come."""

    session: ModelSession
    packet_id: int
    message: Message
    policy: ExpiryPolicy


class ModelAtPubrel(Model):
    """As `Model`, but a QoS 2 message is published when its PUBREL comes."""

    def _hand_on(self, session: ModelSession, event: PublishReceived) -> bool:
        if event.message.qos < 2:
            return super()._hand_on(session, event)
        self._withhold(event.message, "NN-7.3")
        held = _Held(session, event.packet_id or 0, event.message, session.policy)
        self._held().append(held)
        return False  # nobody has it yet, so the answer may say so or not [NN-7.8]

    def _pubrel_received(self, connection: ModelConnection, event: PubrelReceived) -> None:
        session = connection.session
        held = self._held()
        for each in [one for one in held if one.session is session]:
            if each.packet_id == event.packet_id:
                held.remove(each)
                self._publish(each.message, each.session.client_id, each.policy)
        super()._pubrel_received(connection, event)

    def _held(self) -> list[_Held]:
        """What waits for PUBREL; what belongs to a session that has ended is gone with it."""
        known: list[_Held] = getattr(self, "_waiting", [])
        self._waiting = [each for each in known if not each.session.ended]
        return self._waiting
