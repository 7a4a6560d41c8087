"""Stores and clients that are broken on purpose: identifiers, order, window, what is said."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from mqtt_sessions import inbound, outbound, packet_ids, router
from mqtt_sessions.actions import (
    CloseConnection,
    SendPingresp,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
)
from mqtt_sessions.engine import Engine
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    DisconnectReceived,
    Event,
    PubackReceived,
)
from mqtt_sessions.flows import Reply
from mqtt_sessions.lifecycle import Lifecycle
from mqtt_sessions.queue import Queue
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.state import Released
from mqtt_sessions.store import SessionStore
from mqtt_sessions.testing.clients import Client
from mqtt_sessions.turn import Outcome

Patch = pytest.MonkeyPatch


# ---------------------------------------------------------------- identifiers, order, window


def identifiers_are_reused(patch: Patch) -> None:
    def next_packet_id(last: int, in_use: object) -> int:
        return last + 1 if last < packet_ids.MAX_PACKET_ID else 1

    patch.setattr(outbound, "next_packet_id", next_packet_id)
    patch.setattr(router, "next_packet_id", next_packet_id)


def order_is_lost_on_resume(patch: Patch) -> None:
    real = outbound._send_again

    def send_again(session: Any, in_flight: Any, link: Any, turn: Any) -> None:
        link.unsent = OrderedDict(reversed(link.unsent.items()))
        real(session, in_flight, link, turn)

    patch.setattr(outbound, "_send_again", send_again)


def quota_is_ignored_on_resume(patch: Patch) -> None:
    patch.setattr(outbound, "_window_open_again", lambda in_flight, link: True)


def quota_is_ignored_for_what_is_new(patch: Patch) -> None:
    patch.setattr(outbound, "_window_open", lambda in_flight, link: len(in_flight) < 3)


def an_exchange_is_never_complete(patch: Patch) -> None:
    patch.setattr(outbound, "complete", lambda session, link, packet_id, turn: Reply.IGNORE)


def new_messages_go_before_those_sent_again(patch: Patch) -> None:
    real = outbound.resume

    def resume(session: Any, link: Any, turn: Any) -> None:
        before = set(session.in_flight or {})
        if before:
            outbound.pump(session, link, turn)
        new = {one: session.in_flight.pop(one) for one in set(session.in_flight or {}) - before}
        real(session, link, turn)
        if new:
            session.in_flight.update(new)

    patch.setattr(outbound, "resume", resume)


def the_queue_is_overtaken(patch: Patch) -> None:
    def push(self: Queue, delivery: Any) -> None:
        self.items.insert(self._head, delivery)

    patch.setattr(Queue, "push", push)


# ---------------------------------------------------------------- sending QoS 2


def publish_comes_after_pubrel(patch: Patch) -> None:
    real_receive, real_resume = outbound.receive, outbound.resume
    sent: dict[int, Any] = {}

    def receive(session: Any, link: Any, packet_id: int, code: int, turn: Any) -> Reply:
        sent[packet_id] = (session.in_flight or {}).get(packet_id)
        return real_receive(session, link, packet_id, code, turn)

    def resume(session: Any, link: Any, turn: Any) -> None:
        for packet_id, exchange in (session.in_flight or {}).items():
            if isinstance(exchange, Released):
                session.in_flight[packet_id] = sent[packet_id]  # the phase is forgotten
        real_resume(session, link, turn)

    patch.setattr(outbound, "receive", receive)
    patch.setattr(outbound, "resume", resume)


def _resume_then(patch: Patch, change: Callable[[list[Any]], list[Any]]) -> None:
    real = outbound.resume

    def resume(session: Any, link: Any, turn: Any) -> None:
        real(session, link, turn)
        turn.actions[:] = change(turn.actions)

    patch.setattr(outbound, "resume", resume)


def pubrel_is_not_sent_again(patch: Patch) -> None:
    _resume_then(
        patch, lambda actions: [each for each in actions if not isinstance(each, SendPubrel)]
    )


def pubrels_are_sent_again_last_first(patch: Patch) -> None:
    def change(actions: list[Any]) -> list[Any]:
        pubrels = [each for each in actions if isinstance(each, SendPubrel)]
        return [pubrels.pop() if isinstance(each, SendPubrel) else each for each in actions]

    _resume_then(patch, change)


def dup_is_missing(patch: Patch) -> None:
    _resume_then(
        patch,
        lambda actions: [
            evolve(each, dup=False) if isinstance(each, SendPublish) else each for each in actions
        ],
    )


def a_message_is_delivered_twice(patch: Patch) -> None:
    """Here it is the client that forgets: what the application is given is looked at, too."""
    real = Client.connection_lost

    def connection_lost(self: Client) -> None:
        real(self)
        self.inbound.clear()

    patch.setattr(Client, "connection_lost", connection_lost)


def a_message_is_acknowledged_and_not_delivered(patch: Patch) -> None:
    """The same for a client that takes a message for a repeat of another."""
    real = Client._on_publish

    def on_publish(self: Client, action: SendPublish, code: ReasonCode) -> list[Event]:
        answers = real(self, action, code)
        self.delivered.clear()
        return answers

    patch.setattr(Client, "_on_publish", on_publish)


def a_late_acknowledgement_touches_the_new_connection(patch: Patch) -> None:
    real = Engine._open_link

    def open_link(self: Any, event: Any, turn: Any) -> Any:
        link = real(self, event, turn)
        if link is not None:
            return link
        for other in self._links.values():
            if other.session is not None and other.session.client_id == event.connection[0]:
                return other
        return None

    patch.setattr(Engine, "_open_link", open_link)


# ---------------------------------------------------------------- receiving QoS 2


def inbound_identifiers_are_lost_with_the_connection(patch: Patch) -> None:
    real = Lifecycle._detach

    def detach(self: Any, link: Any, turn: Any) -> None:
        link.session.inbound = None
        real(self, link, turn)

    patch.setattr(Lifecycle, "_detach", detach)


def a_repeat_is_not_answered(patch: Patch) -> None:
    real = inbound.admit

    def admit(session: Any, link: Any, event: Any, turn: Any) -> bool:
        admitted = real(session, link, event, turn)
        if not admitted:
            turn.actions[:] = [each for each in turn.actions if not isinstance(each, SendPubrec)]
        return admitted

    patch.setattr(inbound, "admit", admit)


def dup_is_taken_for_a_repeat(patch: Patch) -> None:
    real = inbound.admit

    def admit(session: Any, link: Any, event: Any, turn: Any) -> bool:
        admitted = real(session, link, event, turn)
        if admitted and event.dup and event.message.qos == 2:
            inbound.take(session, link, event.packet_id, ReasonCode.SUCCESS, turn)
            return False
        return admitted

    patch.setattr(inbound, "admit", admit)


def an_unknown_pubrel_is_not_answered(patch: Patch) -> None:
    real = inbound.release

    def release(session: Any, link: Any, packet_id: int, turn: Any) -> None:
        real(session, link, packet_id, turn)
        last = turn.actions[-1]
        if isinstance(last, SendPubcomp) and last.reason_code != 0:
            turn.actions.pop()

    patch.setattr(inbound, "release", release)


# ---------------------------------------------------------------- what is said, rewritten


def _rewrite(
    patch: Patch, change: Callable[[Any, list[Any]], list[Any]], event_type: type = object
) -> None:
    """Change the actions that a store answers such events with."""
    real = SessionStore.handle

    def handle(self: Any, event: Any, now: float) -> Outcome:
        outcome = real(self, event, now)
        if not isinstance(event, event_type):
            return outcome
        return evolve(outcome, actions=tuple(change(event, list(outcome.actions))))

    patch.setattr(SessionStore, "handle", handle)


def connack_comes_last(patch: Patch) -> None:
    _rewrite(patch, lambda _, actions: actions[::-1], ClientConnected)


def connack_comes_twice(patch: Patch) -> None:
    _rewrite(patch, lambda _, actions: [*actions, actions[0]], ClientConnected)


def a_closed_connection_is_sent_something(patch: Patch) -> None:
    _rewrite(
        patch, lambda event, actions: [*actions, SendPingresp(event.connection)], ConnectionLost
    )


def an_acknowledgement_comes_twice(patch: Patch) -> None:
    _rewrite(
        patch,
        lambda _, actions: [
            each
            for action in actions
            for each in ([action, action] if isinstance(action, SendPuback) else [action])
        ],
    )


def a_client_is_closed_for_nothing(patch: Patch) -> None:
    def change(event: Any, actions: list[Any]) -> list[Any]:
        return [*actions, CloseConnection(event.connection, ReasonCode.SERVER_BUSY)]

    _rewrite(patch, change, PubackReceived)


def _publishes(patch: Patch, **changed: Any) -> None:
    _rewrite(
        patch,
        lambda _, actions: [
            evolve(each, **changed) if isinstance(each, SendPublish) else each for each in actions
        ],
    )


def dup_is_set_at_first(patch: Patch) -> None:
    _publishes(patch, dup=True)


def a_live_message_is_marked_retained(patch: Patch) -> None:
    _rewrite(
        patch,
        lambda _, actions: [
            evolve(each, delivery=evolve(each.delivery, retain=True))
            if isinstance(each, SendPublish)
            else each
            for each in actions
        ],
    )


def a_retained_message_is_not_marked(patch: Patch) -> None:
    _rewrite(
        patch,
        lambda _, actions: [
            evolve(each, delivery=evolve(each.delivery, retain=False))
            if isinstance(each, SendPublish)
            else each
            for each in actions
        ],
    )


def who_disconnects_is_not_closed(patch: Patch) -> None:
    def change(_: Any, actions: list[Any]) -> list[Any]:
        return [each for each in actions if not isinstance(each, CloseConnection)]

    _rewrite(patch, change, DisconnectReceived)


def congestion_is_ignored(patch: Patch) -> None:
    real = SessionStore.handle
    patch.setattr(
        SessionStore,
        "handle",
        lambda self, event, now: (
            Outcome() if isinstance(event, ConnectionCongested) else real(self, event, now)
        ),
    )
