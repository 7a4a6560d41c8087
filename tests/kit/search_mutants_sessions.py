"""Stores that are broken on purpose: sessions, time, wills, expiry, retained messages."""

from __future__ import annotations

import math
from typing import Any

import pytest
from attrs import evolve

from mqtt_sessions import outbound
from mqtt_sessions.deadlines import DeadlineIndex, DeadlineKind
from mqtt_sessions.engine import Engine
from mqtt_sessions.events import (
    ClientConnected,
    DisconnectReceived,
)
from mqtt_sessions.lifecycle import Lifecycle
from mqtt_sessions.notices import DropReason
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.retained import RetainedStore
from mqtt_sessions.router import Router
from mqtt_sessions.state import PendingWill
from mqtt_sessions.store import SessionStore
from mqtt_sessions.testing.small_worlds import SMALL_WORLDS

Patch = pytest.MonkeyPatch
WORLDS = {world.name: world for world in SMALL_WORLDS}
"""What is searched; a mutant may put another world in the place of one."""


# ---------------------------------------------------------------- sessions and time


def a_timer_is_due_only_when_it_is_past(patch: Patch) -> None:
    real = Engine.handle_timeout

    def handle_timeout(self: Any, now: float, limit: int | None = None) -> Any:
        return real(self, math.nextafter(now, -math.inf), limit)

    patch.setattr(Engine, "handle_timeout", handle_timeout)


def a_session_is_over_only_when_it_is_past(patch: Patch) -> None:
    patch.setattr(
        Lifecycle,
        "_is_over",
        lambda self, session, turn: session.lane is not None and session.at < turn.now,
    )


def a_message_lives_too_long(patch: Patch) -> None:
    real = Router._make

    def make(self: Any, *fields: Any) -> Any:
        delivery = real(self, *fields)
        if delivery.expires_at is None:
            return delivery
        return evolve(delivery, expires_at=delivery.expires_at + 0.5)

    patch.setattr(Router, "_make", make)


def a_deadline_is_told_too_late(patch: Patch) -> None:
    real = DeadlineIndex.arm

    def arm(self: Any, timer: Any, at: float, interval: float) -> None:
        late = timer.kind is DeadlineKind.SESSION_EXPIRY
        real(self, timer, at + 1 if late else at, interval)

    patch.setattr(DeadlineIndex, "arm", arm)


def a_session_of_interval_0_is_inherited(patch: Patch) -> None:
    real = Lifecycle._take_over

    def take_over(self: Any, session: Any, old: Any, clean_start: bool, turn: Any) -> Any:
        session.expiry_interval = 1
        return real(self, session, old, clean_start, turn)

    patch.setattr(Lifecycle, "_take_over", take_over)


def the_old_connection_is_not_closed(patch: Patch) -> None:
    patch.setattr(Lifecycle, "_close", lambda self, link, code, turn: self._detach(link, turn))


def clean_start_keeps_the_session(patch: Patch) -> None:
    real = SessionStore.handle

    def handle(self: Any, event: Any, now: float) -> Any:
        if isinstance(event, ClientConnected):
            event = evolve(event, clean_start=False)
        return real(self, event, now)

    patch.setattr(SessionStore, "handle", handle)


def a_session_ends_with_its_connection(patch: Patch) -> None:
    real = Lifecycle._park

    def park(self: Any, session: Any, turn: Any) -> None:
        session.expiry_interval = 0
        real(self, session, turn)

    patch.setattr(Lifecycle, "_park", park)


def a_session_of_interval_0_is_kept(patch: Patch) -> None:
    real = Lifecycle._park

    def park(self: Any, session: Any, turn: Any) -> None:
        session.expiry_interval = session.expiry_interval or 1
        real(self, session, turn)

    patch.setattr(Lifecycle, "_park", park)


def an_old_message_is_dropped_to_make_room(patch: Patch) -> None:
    real = outbound.offer

    def offer(session: Any, delivery: Any, turn: Any) -> None:
        if session.queue is not None and session.queue.items:
            outbound.drop(session, session.queue.pop(), DropReason.QUEUE_FULL, turn)
        real(session, delivery, turn)

    patch.setattr(outbound, "offer", offer)


def the_queue_goes_with_the_connection(patch: Patch) -> None:
    real = Lifecycle._park

    def park(self: Any, session: Any, turn: Any) -> None:
        while session.queue is not None and session.queue.pop() is not None:
            pass
        real(self, session, turn)

    patch.setattr(Lifecycle, "_park", park)


def a_session_ends_without_telling_what_it_held(patch: Patch) -> None:
    def drop_everything(session: Any, turn: Any, limit: int | None = None) -> int:
        while session.queue.pop() is not None:
            pass
        return 0

    patch.setattr(outbound, "drop_everything", drop_everything)


# ---------------------------------------------------------------- wills


def a_will_is_published_twice(patch: Patch) -> None:
    real = Lifecycle._owe_will

    def owe_will(self: Any, session: Any, turn: Any) -> None:
        before = len(turn.wills)
        real(self, session, turn)
        turn.wills += turn.wills[before:]

    patch.setattr(Lifecycle, "_owe_will", owe_will)


def a_will_is_published_despite_a_resume(patch: Patch) -> None:
    patch.setattr(Lifecycle, "_cancel_will", Lifecycle._owe_will)


def a_delayed_will_is_lost_with_its_session(patch: Patch) -> None:
    real = Lifecycle._end

    def end(self: Any, session: Any, reason: Any, turn: Any) -> None:
        if isinstance(session.will, PendingWill):
            turn.deadlines.disarm(session.will)
            session.will = None
        real(self, session, reason, turn)

    patch.setattr(Lifecycle, "_end", end)


def disconnect_0x04_suppresses_the_will(patch: Patch) -> None:
    real = SessionStore.handle

    def handle(self: Any, event: Any, now: float) -> Any:
        if isinstance(event, DisconnectReceived):
            event = evolve(event, reason_code=ReasonCode.SUCCESS)
        return real(self, event, now)

    patch.setattr(SessionStore, "handle", handle)


# ---------------------------------------------------------------- expiry, retained messages


def an_expired_message_is_sent(patch: Patch) -> None:
    real = outbound.pump

    def pump(session: Any, link: Any, turn: Any) -> None:
        now, turn.now = turn.now, turn.now - 1e-7
        real(session, link, turn)
        turn.now = now

    patch.setattr(outbound, "pump", pump)
    patch.setattr(Lifecycle, "_settle_queue", lambda self, session, turn: None)


def the_granted_qos_is_exceeded(patch: Patch) -> None:
    world = WORLDS["QoS 0, 1 and 2 out"]
    options = ServerOptions(upgrade_qos=True)  # what the library itself calls a deviation
    patch.setitem(WORLDS, world.name, evolve(world, options=options))


def a_replaced_retained_message_is_sent(patch: Patch) -> None:
    real = RetainedStore.put

    def put(self: Any, entry: Any) -> None:
        if self.get(entry.message.topic_name) is None:
            real(self, entry)

    patch.setattr(Router, "_unretain", lambda self, topic_name, turn: None)
    patch.setattr(RetainedStore, "put", put)


def qos_0_waits_for_the_window(patch: Patch) -> None:
    real = outbound._transmit

    def transmit(session: Any, link: Any, delivery: Any, turn: Any) -> bool:
        if not outbound._window_open(session.in_flight or {}, link):
            return False
        return real(session, link, delivery, turn)

    patch.setattr(outbound, "_transmit", transmit)


def the_expiry_interval_is_not_reduced(patch: Patch) -> None:
    patch.setattr(outbound, "told_interval", lambda delivery, now: delivery.message_expiry_interval)


def an_expired_message_is_dropped_in_flight(patch: Patch) -> None:
    world = WORLDS["messages that expire"]
    policy = ExpiryPolicy(expire_in_flight=True)  # what the library itself calls a deviation
    patch.setitem(WORLDS, world.name, evolve(world, policy=policy))


def retained_messages_are_not_sent(patch: Patch) -> None:
    real = Router._subscribed

    def subscribed(self: Any, session: Any, granted: Any, turn: Any) -> None:
        real(self, session, [evolve(each, retain_handling=2) for each in granted], turn)

    patch.setattr(Router, "_subscribed", subscribed)
