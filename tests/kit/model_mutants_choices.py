"""Subjects that give notices, as this library does, and make another choice than it makes."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from mqtt_sessions import (
    Action,
    ClientConnected,
    Event,
    Notice,
    OverlapPolicy,
    PublishReceived,
    ReasonCode,
    SendConnack,
    SendPuback,
    SessionCreated,
    SubscribeReceived,
)

from .model_mutants import Broken, changed

FREE = 60_000
"""An identifier that no client of a run uses."""


class ConnackBeforeTheOldConnectionIsClosed(Broken):
    rules = ("NN-3.1",)

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        if not isinstance(event, ClientConnected):
            return actions
        return sorted(actions, key=lambda each: not isinstance(each, SendConnack))


class SilentlyBeforeTheOldConnectionIsClosed(ConnackBeforeTheOldConnectionIsClosed):
    """The same, seen by packets alone."""

    notices = False


class CleanStartLast(Broken):
    """The next session begins before the one before it has ended."""

    rules = ("NN-3.1",)

    def tell(self, notices: list[Notice]) -> list[Notice]:
        return sorted(notices, key=lambda each: not isinstance(each, SessionCreated))


class LessGranted(Broken):
    """QoS 1, whatever is asked for and whatever the host allows."""

    rules = ("host",)

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, SubscribeReceived):
            fewer = tuple(evolve(each, qos=min(each.qos, 1)) for each in event.subscriptions)
            return [evolve(event, subscriptions=fewer)]
        return [event]


class RefusedOnItsOwn(Broken):
    """Nobody but the host says that a subscription is not authorized."""

    rules = ("host",)

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, SubscribeReceived) and not event.refusals:
            refusals = (ReasonCode.NOT_AUTHORIZED,) * len(event.subscriptions)
            return [evolve(event, refusals=refusals)]
        return [event]


class IdentifierInUseTaken(Broken):
    """A QoS 1 PUBLISH under an identifier that an inbound QoS 2 exchange holds is handed on."""

    rules = ("NN-6.5",)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.taken: int | None = None

    def ask(self, event: Event) -> list[Event]:
        self.taken = None
        if isinstance(event, PublishReceived) and event.message.qos == 1 and event.packet_id:
            session = self.store.session_of(event.connection)
            if session is not None and event.packet_id in session.inbound_packet_ids:
                self.taken = event.packet_id
                return [evolve(event, packet_id=FREE)]
        return [event]

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(
            actions,
            SendPuback,
            lambda each: evolve(each, packet_id=self.taken) if each.packet_id == FREE else each,
        )


class OneCopyForEachMatch(Broken):
    rules = ("NN-12.3", "MQTT-3.3.4-2", "3.1.1 MQTT-3.3.5-1", "MQTT-3.3.4-4")

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {**settings, "options": evolve(settings["options"], overlap=OverlapPolicy.EACH)}
