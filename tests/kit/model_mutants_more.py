"""More subjects that break one rule each: packets, time, sessions, subscriptions, bounds."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from mqtt_sessions import (
    Action,
    ClientConnected,
    CloseConnection,
    ConnectionLost,
    DisconnectReceived,
    DropReason,
    Event,
    ExpiryPolicy,
    MessageDropped,
    MessagePublished,
    Notice,
    Outcome,
    OverflowPolicy,
    PingReceived,
    PublishReceived,
    QueuePurged,
    ReasonCode,
    SendConnack,
    SendDisconnect,
    SendPingresp,
    SendPublish,
    SendSuback,
    SessionLimits,
    SubscribeReceived,
    Subscription,
    SubscriptionsAdded,
    UnsubscribeReceived,
    WillRevoked,
)

from .model_mutants import Broken, changed, on_delivery

NEVER = 0xFFFFFFFF


# ---------------------------------------------------------------- what a PUBLISH says


class QosAsPublished(Broken):
    rules = ("MQTT-3.8.4-8", "3.1.1 MQTT-3.8.4-6")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        def change(each: SendPublish) -> SendPublish:
            if each.delivery.message.qos == 0 or each.delivery.qos == 0:
                return each
            return on_delivery(qos=lambda delivery: delivery.message.qos)(each)

        return changed(actions, SendPublish, change)


class RetainFlagWrong(Broken):
    rules = ("MQTT-3.3.1-12", "MQTT-3.3.1-13", "3.1.1 MQTT-3.3.1-9", "NN-12.6", "3.1.1 NN-12.6")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(
            actions, SendPublish, on_delivery(retain=lambda delivery: delivery.message.retain)
        )


class RetainAsPublishedIgnored(Broken):
    rules = ("MQTT-3.3.1-13",)

    def ask(self, event: Event) -> list[Event]:
        return strip(event, retain_as_published=False)


class SubscriptionIdMissing(Broken):
    rules = ("MQTT-3.3.4-4", "MQTT-3.3.4-5")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(
            actions,
            SendPublish,
            on_delivery(subscription_ids=lambda delivery: delivery.subscription_ids[:-1]),
        )


class UserPropertiesReversed(Broken):
    rules = ("MQTT-3.3.2-18",)

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        def turn(delivery: Any) -> Any:
            properties = delivery.message.user_properties[::-1]
            return evolve(delivery.message, user_properties=properties)

        return changed(actions, SendPublish, on_delivery(message=turn))


class IntervalNotReduced(Broken):
    rules = ("MQTT-3.3.2-6",)

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        def change(each: SendPublish) -> SendPublish:
            told = each.delivery.message_expiry_interval
            return each if each.dup else evolve(each, message_expiry_interval=told)

        return changed(actions, SendPublish, change)


class IntervalRoundedDown(Broken):
    rules = ("MQTT-3.3.2-6",)

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        def change(each: SendPublish) -> SendPublish:
            told = each.message_expiry_interval
            return evolve(each, message_expiry_interval=told and told - 1)

        return changed(actions, SendPublish, change)


# ---------------------------------------------------------------- time


class StrictDeadlines(Broken):
    """Due is what lies before `now`, not at it."""

    rules = ("MQTT-3.3.2-5", "MQTT-3.1.2-22", "3.1.1 MQTT-3.1.2-24", "MQTT-3.1.2-8", "host")
    late = 1e-9

    def handle(self, event: Event, now: float) -> Outcome:
        return super().handle(event, now - self.late)

    def handle_timeout(self, now: float) -> Outcome:
        return super().handle_timeout(now - self.late)

    @property
    def next_deadline_at(self) -> float | None:
        at = self.store.next_deadline_at
        return None if at is None else at + 2 * self.late


class ExpiryOff(Broken):
    rules = ("MQTT-3.3.2-5",)
    notices = False

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        policy = evolve(
            settings["policy"],
            maximum_message_expiry_interval=None,
            default_message_expiry_interval=None,
        )
        return {**settings, "policy": policy}

    def ask(self, event: Event) -> list[Event]:
        if not isinstance(event, PublishReceived | MessagePublished):
            return [event]
        if event.message.message_expiry_interval:
            longer = evolve(event.message, message_expiry_interval=1_000)
            return [evolve(event, message=longer)]
        return [event]

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(actions, SendPublish, lambda each: evolve(each, message_expiry_interval=1))


class KeepAliveOff(Broken):
    rules = ("MQTT-3.1.2-22", "3.1.1 MQTT-3.1.2-24")

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, ClientConnected):
            return [evolve(event, keep_alive=0)]
        return [event]


class SessionsForEver(Broken):
    rules = ("host", "NN-1.3", "MQTT-3.2.2-3", "3.1.1 MQTT-3.2.2-3", "MQTT-3.1.2-8")
    notices = False

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {**settings, "policy": ExpiryPolicy(default_session_expiry_interval=None)}

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, ClientConnected) and event.session_expiry_interval:
            return [evolve(event, session_expiry_interval=NEVER)]
        return [event]


# ---------------------------------------------------------------- sessions and wills


class WillNotPublished(Broken):
    rules = ("MQTT-3.1.2-8", "3.1.1 MQTT-3.1.2-8")
    notices = False

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, ClientConnected) and not event.clean_start:
            return [evolve(event, will=None)]
        return [event]


class WillRevokedSilently(Broken):
    """Whatever ends the connection, the will goes with it."""

    rules = ("MQTT-3.1.2-8", "3.1.1 MQTT-3.1.2-8")
    notices = False

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, ConnectionLost):
            session = self.store.session_of(event.connection)
            if session is not None:
                return [WillRevoked(session.client_id), event]
        return [event]


class WillDespiteDisconnect(Broken):
    rules = ("MQTT-3.14.4-3", "3.1.1 MQTT-3.14.4-3")
    notices = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.lost: list[Any] = []

    def handle(self, event: Event, now: float) -> Outcome:
        if getattr(event, "connection", None) in self.lost:
            return Outcome()
        return super().handle(event, now)

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, DisconnectReceived) and self.store.session_of(event.connection):
            self.lost.append(event.connection)
            return [ConnectionLost(event.connection)]
        return [event]

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        if isinstance(event, DisconnectReceived) and event.connection in self.lost[-1:]:
            return [*actions, CloseConnection(event.connection, ReasonCode.SUCCESS)]
        return actions


class CleanStartIgnored(Broken):
    rules = ("MQTT-3.2.2-2", "3.1.1 MQTT-3.2.2-1")
    notices = False

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, ClientConnected) and event.protocol_version == 5:
            return [evolve(event, clean_start=False)]
        return [event]


class AlwaysCleanStart(Broken):
    rules = ("MQTT-3.2.2-3",)
    notices = False

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, ClientConnected) and event.protocol_version == 5:
            return [evolve(event, clean_start=True)]
        return [event]


class ConnackNotFirst(Broken):
    rules = ("MQTT-3.2.0-1", "3.1.1 MQTT-3.2.0-1")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        kinds = [type(each) for each in actions]
        if kinds[:1] == [SendConnack] and kinds[1:2] == [SendPublish]:
            return [actions[1], actions[0], *actions[2:]]
        return actions


class OldConnectionNotTold(Broken):
    rules = ("MQTT-3.1.4-3",)

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        if not isinstance(event, ClientConnected):
            return actions
        return changed(actions, SendDisconnect, lambda each: None)


class OldConnectionNotClosed(Broken):
    rules = ("MQTT-3.1.4-3", "3.1.1 MQTT-3.1.4-2", "MQTT-3.2.2-7", "3.1.1 MQTT-3.2.2-5")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        if not isinstance(event, ClientConnected):
            return actions
        return changed(actions, CloseConnection, lambda each: None)


class TalksAfterDisconnect(Broken):
    rules = ("MQTT-3.14.4-1",)

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        found: list[Action] = []
        for each in actions:
            found.append(each)
            if isinstance(each, SendDisconnect):
                found.append(SendPingresp(each.connection))
        return found


class TalksAfterClose(Broken):
    rules = ("NN-3.5",)

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        closed = [each.connection for each in actions if isinstance(each, CloseConnection)]
        return [*actions, *(SendPingresp(each) for each in closed)]


class QueueLostWhileAway(Broken):
    rules = ("MQTT-4.5.0-1", "3.1.1 MQTT-4.5.0-1", "MQTT-3.1.2-8", "3.1.1 MQTT-3.1.2-8")
    notices = False

    def ask(self, event: Event) -> list[Event]:
        if not isinstance(event, ClientConnected) or event.client_id not in self.store:
            return [event]
        away = not self.store[event.client_id].connected
        return [QueuePurged(event.client_id), event] if away else [event]


# ---------------------------------------------------------------- subscriptions


def strip(event: Event, **options: Any) -> list[Event]:
    """A SUBSCRIBE whose entries have these options."""
    if isinstance(event, SubscribeReceived):
        changed_entries = tuple(evolve(each, **options) for each in event.subscriptions)
        return [evolve(event, subscriptions=changed_entries)]
    return [event]


class NoLocalIgnored(Broken):
    rules = ("MQTT-3.8.3-3", "MQTT-3.3.2-5")
    notices = False

    def ask(self, event: Event) -> list[Event]:
        return strip(event, no_local=False)


class RetainHandlingIgnored(Broken):
    rules = ("MQTT-3.3.1-10", "MQTT-3.3.1-11")
    notices = False

    def ask(self, event: Event) -> list[Event]:
        return strip(event, retain_handling=0)


class RetainedNotSent(Broken):
    rules = ("MQTT-3.3.1-9", "MQTT-3.3.1-10", "3.1.1 MQTT-3.3.1-6")
    notices = False

    def ask(self, event: Event) -> list[Event]:
        return strip(event, retain_handling=2)


class GrantIgnored(Broken):
    """Whatever is asked for, QoS 2 is granted."""

    rules = ("MQTT-3.8.4-7", "3.1.1 MQTT-3.8.4-5")

    def ask(self, event: Event) -> list[Event]:
        return strip(event, qos=2)


class UnsubscribeIgnored(Broken):
    rules = ("MQTT-3.10.4-2", "3.1.1 MQTT-3.10.4-2", "MQTT-3.8.4-8")
    notices = False

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, UnsubscribeReceived):
            session = self.store.session_of(event.connection)
            if session is not None and event.packet_id not in session.inbound_packet_ids:
                self.kept = (session.client_id, session.subscriptions)
        return [event]

    def handle(self, event: Event, now: float) -> Outcome:
        self.kept: tuple[str, tuple[Subscription, ...]] | None = None
        outcome = super().handle(event, now)
        if self.kept is not None and self.kept[0] in self.store:
            back = tuple(evolve(each, retain_handling=2) for each in self.kept[1])
            self.store.handle(SubscriptionsAdded(self.kept[0], back), now)
        return outcome


class WildcardsMatchDollar(Broken):
    rules = ("MQTT-4.7.2-1", "3.1.1 MQTT-4.7.2-1", "NN-12.6")
    notices = False

    def handle(self, event: Event, now: float) -> Outcome:
        outcome = super().handle(event, now)
        if isinstance(event, SubscribeReceived):
            session = self.store.session_of(event.connection)
            if session is not None and any(
                each.topic_filter == "#" for each in session.subscriptions
            ):
                dollar = Subscription("$s", 2, retain_handling=2)
                self.store.handle(SubscriptionsAdded(session.client_id, (dollar,)), now)
        return outcome


# ---------------------------------------------------------------- retained messages, bounds


class RetainedNotCleared(Broken):
    rules = ("MQTT-3.3.1-6", "3.1.1 MQTT-3.3.1-10")
    notices = False

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, PublishReceived | MessagePublished) and not event.message.payload:
            return [evolve(event, message=evolve(event.message, retain=False))]
        return [event]


class LossWithoutATrace(Broken):
    """A full queue drops, and does not tell."""

    rules = ("host", "MQTT-4.5.0-1", "MQTT-3.3.2-5", "MQTT-3.1.2-25", "MQTT-4.6.0-5")

    def tell(self, notices: list[Notice]) -> list[Notice]:
        return [each for each in notices if not isinstance(each, MessageDropped)]


class QueueTooShort(Broken):
    rules = ("MQTT-4.5.0-1",)

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {**settings, "limits": evolve(settings["limits"], maximum_queued_messages=1)}


class QueueUnbounded(Broken):
    rules = ("host",)

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        limits: SessionLimits = settings["limits"]
        unbounded = evolve(limits, maximum_queued_messages=None, maximum_queued_bytes=None)
        return {**settings, "limits": unbounded}


class RetainedUnbounded(Broken):
    rules = ("host", "MQTT-4.3.2-4", "MQTT-4.3.3-8", "MQTT-3.3.4-1", "3.1.1 MQTT-4.8.0-2")

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {**settings, "limits": evolve(settings["limits"], maximum_retained_messages=None)}


class FleetingNeverOffered(Broken):
    """A message with interval 0 is dropped as expired, though it could be sent."""

    rules = ("NN-9.4",)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.kept: list[Notice] = []

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        def change(each: SendPublish) -> SendPublish | None:
            if each.message_expiry_interval != 0 or each.delivery.qos > 0:
                return each
            session = self.store.session_of(each.connection)
            assert session is not None
            self.kept.append(MessageDropped(session.client_id, each.delivery, DropReason.EXPIRED))
            return None

        return changed(actions, SendPublish, change)

    def tell(self, notices: list[Notice]) -> list[Notice]:
        found = [*notices, *self.kept]
        self.kept.clear()
        return found


class SessionPresentOnRefusal(Broken):
    rules = ("MQTT-3.2.2-6", "3.1.1 MQTT-3.2.2-4")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(
            actions,
            SendConnack,
            lambda each: evolve(each, session_present=each.session_present or each.reason_code > 0),
        )


class SecondConnectAccepted(Broken):
    rules = ("MQTT-3.1.0-2", "3.1.1 MQTT-3.1.0-2")

    def ask(self, event: Event) -> list[Event]:
        if isinstance(event, ClientConnected) and self.store.session_of(event.connection):
            return [PingReceived(event.connection, False)]
        return [event]


class CodesOfSubackReversed(Broken):
    rules = ("MQTT-3.9.3-1", "3.1.1 MQTT-3.9.3-1")

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(
            actions, SendSuback, lambda each: evolve(each, reason_codes=each.reason_codes[::-1])
        )


class SendsToAStranger(Broken):
    rules = ("NN-3.5",)

    def act(self, actions: list[Action], event: Event | None) -> list[Action]:
        return changed(actions, SendPublish, lambda each: evolve(each, connection="nobody"))


class RetryForgotten(Broken):
    rules = ("host",)

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {**settings, "policy": evolve(settings["policy"], retry_interval=None)}


class QueuePushesOutTheWrongOne(Broken):
    """The newcomer gives way, where the oldest should."""

    rules = ("MQTT-4.5.0-1",)

    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        newest = evolve(settings["limits"], overflow=OverflowPolicy.DROP_NEWEST)
        return {**settings, "limits": newest}
