"""Subjects that break one rule each: what the model has to find.

Each is a store behind a door that distorts what goes in or what comes out, so that the mutants
stay what they are however the store changes inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from attrs import evolve

from mqtt_sessions import (
    Action,
    ClientConnected,
    ConnectionLost,
    DisconnectReceived,
    Event,
    Notice,
    Outcome,
    PingReceived,
    PubackReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    ReasonCode,
    SendConnack,
    SendPingresp,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
    SessionStore,
)


class Broken:
    """A store behind a door that changes nothing; mutants override one of its three sides."""

    rules: tuple[str, ...] = ()
    """The rules of which one has to be named."""

    notices = True
    """Whether the run shows the model the notices: without them, packets alone convict it."""

    def __init__(self, **settings: Any) -> None:
        self.store = SessionStore(**self.settings(settings))

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """What the store is made with."""
        return settings

    def ask(self, event: Event) -> list[Event]:
        """What the store is told in place of an event; it keeps quiet but for the last."""
        return [event]

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        """What it does in place of that."""
        return actions

    def tell(self, notices: list[Notice]) -> list[Notice]:
        """What it tells in place of that."""
        return notices

    def handle(self, event: Event, now: float) -> Outcome:
        """As the store's, distorted."""
        *before, last = self.ask(event)
        for each in before:
            self.store.handle(each, now)
        return self._distorted(self.store.handle(last, now), event)

    def handle_timeout(self, now: float) -> Outcome:
        """As the store's, distorted."""
        return self._distorted(self.store.handle_timeout(now), None)

    def _distorted(self, outcome: Outcome, event: Event | None) -> Outcome:
        actions = self.act(list(outcome.actions), event)
        return Outcome((), tuple(actions), tuple(self.tell(list(outcome.notices))))

    @property
    def next_deadline_at(self) -> float | None:
        """The store's."""
        return self.store.next_deadline_at


def changed(actions: list[Action], kind: type, change: Callable[[Any], Any]) -> list[Action]:
    """The actions, those of one kind replaced; None drops one."""
    found = (change(each) if isinstance(each, kind) else each for each in actions)
    return [each for each in found if each is not None]


def on_delivery(**fields: Callable[[Any], Any]) -> Callable[[SendPublish], SendPublish]:
    """Changes fields of the delivery of a PUBLISH."""

    def change(action: SendPublish) -> SendPublish:
        made = {name: make(action.delivery) for name, make in fields.items()}
        return evolve(action, delivery=evolve(action.delivery, **made))

    return change


# ---------------------------------------------------------------- identifiers, DUP, order


class OneIdentifierForAll(Broken):
    rules = ("MQTT-2.2.1-4", "3.1.1 MQTT-2.3.1-4")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(
            actions, SendPublish, lambda each: evolve(each, packet_id=each.packet_id and 1)
        )


class IdentifierZero(Broken):
    rules = ("MQTT-2.2.1-4", "3.1.1 MQTT-2.3.1-1")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(
            actions, SendPublish, lambda each: evolve(each, packet_id=each.packet_id and 0)
        )


class IdentifierAtQos0(Broken):
    rules = ("MQTT-2.2.1-2", "3.1.1 MQTT-2.3.1-5")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(
            actions, SendPublish, lambda each: evolve(each, packet_id=each.packet_id or 9)
        )


class Dup0OnResend(Broken):
    rules = ("MQTT-3.3.1-1", "3.1.1 MQTT-3.3.1-1")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(actions, SendPublish, lambda each: evolve(each, dup=False))


class DupOnFirstSending(Broken):
    rules = (
        "MQTT-4.3.2-2",
        "MQTT-4.3.3-2",
        "MQTT-3.3.1-2",
        "3.1.1 MQTT-4.3.2-1",
        "3.1.1 MQTT-3.3.1-2",
    )

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(actions, SendPublish, lambda each: evolve(each, dup=True))


class DupPassedOn(Broken):
    """The DUP flag that came in goes out again [MQTT-3.3.1-3]."""

    rules = DupOnFirstSending.rules

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        if not isinstance(event, PublishReceived) or not event.dup:
            return actions
        return changed(actions, SendPublish, lambda each: evolve(each, dup=True))


class OrderLostAtResume(Broken):
    rules = ("NN-15.3", "3.1.1 MQTT-4.6.0-1")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        again = [each for each in actions if isinstance(each, SendPublish) and each.dup]
        backwards = iter(again[::-1])
        return changed(actions, SendPublish, lambda each: next(backwards) if each.dup else each)


class OrderOfPubrelsLost(Broken):
    rules = ("NN-8.4b", "3.1.1 MQTT-4.6.0-4")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        backwards = iter([each for each in actions if isinstance(each, SendPubrel)][::-1])
        return changed(actions, SendPubrel, lambda each: next(backwards))


class OrderOfQueueLost(Broken):
    """What waited goes out backwards, under the identifiers that it had."""

    rules = ("MQTT-4.6.0-5", "3.1.1 MQTT-4.6.0-6", "MQTT-4.4.0-1", "3.1.1 MQTT-4.4.0-1")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        fresh = [each for each in actions if isinstance(each, SendPublish) and not each.dup]
        if len({each.connection for each in fresh}) != 1:
            return actions
        ids = iter([each.packet_id for each in fresh if each.packet_id])
        mixed = [
            evolve(each, packet_id=next(ids) if each.packet_id else None) for each in fresh[::-1]
        ]
        backwards = iter(mixed)
        return changed(actions, SendPublish, lambda each: each if each.dup else next(backwards))


class NewBeforeResent(Broken):
    rules = ("NN-8.3", "MQTT-4.6.0-5", "MQTT-4.9.0-2", "host")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        if not isinstance(event, ClientConnected):
            return actions
        connack = [each for each in actions if isinstance(each, SendConnack)]
        if not connack or actions[0] is not connack[0]:
            return actions
        fresh = [each for each in actions if isinstance(each, SendPublish) and not each.dup]
        rest = [each for each in actions if each not in fresh and each not in connack]
        return [*connack, *fresh, *rest]


# ---------------------------------------------------------------- QoS flows


class PublishAfterPubrel(Broken):
    """At a resume the PUBLISH again, though its PUBREC came."""

    rules = ("MQTT-4.3.3-6", "3.1.1 MQTT-4.3.3-1")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.sent: dict[Any, SendPublish] = {}

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        for each in actions:
            if isinstance(each, SendPublish) and each.delivery.qos == 2:
                self.sent[each.packet_id] = each

        def change(pubrel: SendPubrel) -> Action:
            publish = self.sent.get(pubrel.packet_id)
            if publish is None or not isinstance(event, ClientConnected):
                return pubrel
            return evolve(publish, connection=pubrel.connection, dup=True)

        return changed(actions, SendPubrel, change)


class NothingSentAgain(Broken):
    rules = ("MQTT-4.4.0-1", "3.1.1 MQTT-4.4.0-1")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(actions, SendPublish, lambda each: None if each.dup else each)


class PubrelNotSentAgain(Broken):
    rules = ("MQTT-4.4.0-1", "3.1.1 MQTT-4.4.0-1")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        if not isinstance(event, ClientConnected):
            return actions
        return changed(actions, SendPubrel, lambda each: None)


class SentAgainWhileConnected(Broken):
    rules = ("MQTT-4.4.0-1", "3.1.1 MQTT-4.4.0-1")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        again = [
            evolve(each, dup=True)
            for each in actions
            if isinstance(each, SendPublish) and each.delivery.qos
        ]
        return [*actions, *again] if again and isinstance(actions[-1], SendPublish) else actions


class PubrelWithoutPubrec(Broken):
    rules = ("MQTT-4.3.3-4", "3.1.1 MQTT-4.3.3-1")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        found: list[Action] = []
        for each in actions:
            found.append(each)
            if isinstance(each, SendPublish) and each.delivery.qos == 2 and not each.dup:
                assert each.packet_id is not None
                found.append(SendPubrel(each.connection, each.packet_id, ReasonCode.SUCCESS))
        return found


class AnswerLost(Broken):
    """One kind of answer is never sent."""

    lost: type

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        if isinstance(event, ClientConnected):
            return actions  # what is sent again there has a mutant of its own
        return changed(actions, self.lost, lambda each: None)


class PubackLost(AnswerLost):
    rules, lost = ("MQTT-4.3.2-4", "3.1.1 MQTT-4.3.2-2", "NN-6.5", "MQTT-3.3.4-1"), SendPuback


class PubrecLost(AnswerLost):
    rules = ("MQTT-4.3.3-8", "3.1.1 MQTT-4.3.3-2", "MQTT-4.3.3-10", "MQTT-3.3.4-1")
    lost = SendPubrec


class PubrelLost(AnswerLost):
    rules, lost = ("MQTT-4.3.3-4", "3.1.1 MQTT-4.3.3-1", "NN-7.5"), SendPubrel


class PubcompLost(AnswerLost):
    rules, lost = (
        ("MQTT-4.3.3-11", "3.1.1 MQTT-4.3.3-2", "NN-7.4", "3.1.1 MQTT-4.3.3-2"),
        SendPubcomp,
    )


class SubackLost(AnswerLost):
    rules, lost = ("MQTT-3.8.4-1", "3.1.1 MQTT-3.8.4-1", "NN-6.5"), SendSuback


class UnsubackLost(AnswerLost):
    rules, lost = ("MQTT-3.10.4-4", "3.1.1 MQTT-3.10.4-4", "NN-6.5"), SendUnsuback


class PingrespLost(AnswerLost):
    rules, lost = ("MQTT-3.12.4-1", "3.1.1 MQTT-3.12.4-1"), SendPingresp


class WrongIdentifierInPuback(Broken):
    rules = ("MQTT-2.2.1-5", "3.1.1 MQTT-2.3.1-6")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(actions, SendPuback, lambda each: evolve(each, packet_id=99))


class UnknownIsFine(Broken):
    """PUBREL of an unknown identifier gets PUBCOMP 0x00."""

    rules = ("NN-7.4",)

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(
            actions, SendPubcomp, lambda each: evolve(each, reason_code=ReasonCode.SUCCESS)
        )


class NegativePubrecGoesOn(Broken):
    """PUBREC 0x80 is answered by PUBREL."""

    rules = ("MQTT-2.2.1-5", "3.1.1 MQTT-2.3.1-6", "host")

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, PubrecReceived):
            return [evolve(event, reason_code=ReasonCode.SUCCESS)]
        return [event]


class InboundIdentifiersLost(Broken):
    """They go with the connection, so that a repeat is handed on twice."""

    rules = ("MQTT-4.3.3-10", "3.1.1 MQTT-4.3.3-2", "NN-6.5", "MQTT-4.3.3-11", "host")

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, (ConnectionLost, DisconnectReceived)):
            session = self.store.session_of(event.connection)
            if session is not None:
                held = session.inbound_packet_ids
                return [*(PubrelReceived(event.connection, each) for each in held), event]
        return [event]


class RepeatHandedOn(Broken):
    """A repeat of a QoS 2 PUBLISH is handed on again."""

    rules = ("MQTT-4.3.3-10", "3.1.1 MQTT-4.3.3-2")

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, PublishReceived) and event.message.qos == 2 and event.packet_id:
            session = self.store.session_of(event.connection)
            if session is not None and event.packet_id in session.inbound_packet_ids:
                return [PubrelReceived(event.connection, event.packet_id), event]
        return [event]


class WrongAckAccepted(Broken):
    """PUBACK ends whatever has its identifier, where it should have been 0x82."""

    rules = ("NN-7.6",)

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, PubackReceived):
            session = self.store.session_of(event.connection)
            found = [] if session is None else session.in_flight
            for each in found:
                if each.packet_id == event.packet_id and each.delivery and each.delivery.qos == 2:
                    return [PingReceived(event.connection, False)]
        return [event]


# ---------------------------------------------------------------- flow control


class QuotaIgnored(Broken):
    rules = ("MQTT-4.9.0-2", "host")

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        limits = evolve(settings["limits"], maximum_send_window=65_535)
        return {**settings, "limits": limits}

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, ClientConnected) and event.receive_maximum:
            return [evolve(event, receive_maximum=None)]
        return [event]


class QuotaIgnoredOnResume(QuotaIgnored):
    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, ClientConnected) and not event.clean_start:
            return super().ask(event)
        return [event]


class ReceiveMaximumNotEnforced(Broken):
    rules = ("NN-10.4",)

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {**settings, "options": evolve(settings["options"], enforce_receive_maximum=False)}


class CongestionIgnored(Broken):
    rules = ("host",)

    def ask(self, event: Event) -> list[Event]:
        if type(event).__name__ == "ConnectionCongested":
            return [PingReceived(event.connection, False)]  # type: ignore[union-attr]
        return [event]


class SizeIgnored(Broken):
    rules = ("MQTT-3.1.2-24",)

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {**settings, "size_of": None}


class StalledQueue(Broken):
    """PUBLISH leaves only in answer to a PUBLISH, not when a unit is free again."""

    rules = (
        "MQTT-4.5.0-1",
        "3.1.1 MQTT-4.5.0-1",
        "MQTT-3.1.2-8",
        "3.1.1 MQTT-3.1.2-8",
        "MQTT-3.3.1-9",
        "3.1.1 MQTT-3.3.1-6",
    )

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        if type(event).__name__ != "PubackReceived":
            return actions
        return changed(actions, SendPublish, lambda each: each if each.dup else None)


def mutants() -> Iterator[type[Broken]]:
    """All of them, but for the classes that others only build on."""
    found = list(Broken.__subclasses__())
    for each in found:
        found += each.__subclasses__()
    for each in found:
        if each.rules:
            yield each
