"""The simulation lets the core pass, replays exactly, and finds the bugs that others shipped."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from mqtt_sessions import (
    DisconnectReceived,
    ExpiryPolicy,
    ServerOptions,
    SessionLimits,
    SessionStore,
    Will,
    inbound,
    outbound,
    restoring,
    router,
)
from mqtt_sessions.flows import Inbound
from mqtt_sessions.lifecycle import Lifecycle
from mqtt_sessions.policy import OverlapPolicy
from mqtt_sessions.queue import Queue
from mqtt_sessions.retained import RetainedStore
from mqtt_sessions.state import RELEASED, SessionState
from mqtt_sessions.subscribing import Granted
from mqtt_sessions.testing.__main__ import main, simulate
from mqtt_sessions.testing.world import RunFailed, World

Patch = Callable[[pytest.MonkeyPatch], None]


# ---------------------------------------------------------------- the core


@pytest.mark.parametrize(
    "seed",
    [*range(4), *(pytest.param(seed, marks=pytest.mark.unmeasured) for seed in range(4, 12))],
)
def test_ten_thousand_steps(seed: int) -> None:
    world = World(seed)
    simulate(world, 10_000)
    assert world.calls >= 10_000


@pytest.mark.unmeasured
def test_a_hundred_thousand_steps() -> None:
    world = World(20_260_101)
    simulate(world, 100_000)
    assert world.crashes > 10


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(10))
def test_ten_million_steps(seed: int) -> None:
    simulate(World(1_000 + seed), 1_000_000)


def test_a_store_of_ones_own() -> None:
    """A host's policy, limits and options, and no hostile clients."""
    limits = SessionLimits(maximum_queued_messages=7, maximum_send_window=3)
    world = World(
        1,
        policy=ExpiryPolicy(),
        limits=limits,
        options=ServerOptions(overlap=OverlapPolicy.EACH),
        friends=4,
        hostiles=0,
    )
    world.run(3_000)
    world.heal()
    assert world.store.limits == limits
    assert world.store.counters.accepted > 300


# ---------------------------------------------------------------- replay


def test_one_seed_makes_one_run_whatever_hashes_are() -> None:
    """Two processes with other hash seeds come to the same digest, another seed to another."""

    def digest(seed: int, hash_seed: str) -> str:
        command = [sys.executable, "-m", "mqtt_sessions.testing", "--steps", "3000"]
        done = subprocess.run(
            [*command, "--seed", str(seed)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed},
        )
        return done.stdout.split("digest ")[1].split()[0]

    assert digest(5, "1") == digest(5, "2") != digest(6, "1")


def test_the_command_line_tells_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3", "--steps", "500"]) == 0
    told = capsys.readouterr().out
    assert "seed 3" in told
    assert "events/s" in told


def test_the_command_line_tells_how_it_failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pubrels_are_not_sent_again(monkeypatch)
    assert main(["--seed", "3", "--steps", "20000"]) == 1
    told = capsys.readouterr().out
    assert "FAILED at step" in told
    assert "replay: python -m mqtt_sessions.testing --seed 3 --steps 20000" in told
    assert len(told.splitlines()) < 60
    # and the replay fails alike
    assert main(["--seed", "3", "--steps", "20000"]) == 1
    assert capsys.readouterr().out == told


# ---------------------------------------------------------------- mutants of the core


def identifier_wraps_onto_one_in_flight(patch: pytest.MonkeyPatch) -> None:
    def next_packet_id(last: int, in_use: Any) -> int:
        return last % 8 + 1

    for module in (outbound, router):
        patch.setattr(module, "MAX_PACKET_ID", 8)
        patch.setattr(module, "next_packet_id", next_packet_id)
    window_open = outbound._window_open
    patch.setattr(
        outbound, "_window_open", lambda flying, link: len(flying) < 8 and window_open(flying, link)
    )


def quota_of_one_more(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        outbound,
        "_window_open",
        lambda flying, link: len(flying) - len(link.unsent) - len(link.unitless) <= link.window,
    )


def quota_leaks_at_resume(patch: pytest.MonkeyPatch) -> None:
    """PUBREL phases of an earlier connection take units of the new window."""
    patch.setattr(outbound, "_window_open", lambda flying, link: len(flying) < link.window)


def quota_is_ignored_at_resume(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outbound, "_window_open_again", lambda flying, link: True)


def sent_again_in_order_of_identifiers(patch: pytest.MonkeyPatch) -> None:
    resume = outbound.resume

    def wrong(session: SessionState, link: Any, turn: Any) -> None:
        if session.in_flight:
            session.in_flight = dict(sorted(session.in_flight.items(), reverse=True))
        resume(session, link, turn)

    patch.setattr(outbound, "resume", wrong)


def pubrels_are_not_sent_again(patch: pytest.MonkeyPatch) -> None:
    resume = outbound.resume

    def wrong(session: SessionState, link: Any, turn: Any) -> None:
        before = len(turn.actions)
        resume(session, link, turn)
        turn.actions[before:] = [
            each for each in turn.actions[before:] if type(each).__name__ != "SendPubrel"
        ]

    patch.setattr(outbound, "resume", wrong)


def publish_again_after_pubrec(patch: pytest.MonkeyPatch) -> None:
    """The exchange forgets its phase."""
    receive = outbound.receive

    def wrong(session: SessionState, link: Any, packet_id: int, code: int, turn: Any) -> Any:
        before = (session.in_flight or {}).get(packet_id)
        reply = receive(session, link, packet_id, code, turn)
        if session.in_flight and session.in_flight.get(packet_id) is RELEASED and before:
            session.in_flight[packet_id] = before
        return reply

    patch.setattr(outbound, "receive", wrong)


def sent_again_without_dup(patch: pytest.MonkeyPatch) -> None:
    send_again = outbound._send_again

    def wrong(session: SessionState, flying: Any, link: Any, turn: Any) -> None:
        send_again(session, flying, link, turn)
        turn.actions[-1] = evolve(turn.actions[-1], dup=False)

    patch.setattr(outbound, "_send_again", wrong)


def expired_in_flight_is_given_up(patch: pytest.MonkeyPatch) -> None:
    leave_out = outbound._leave_out

    def wrong(session: SessionState, flying: Any, link: Any, turn: Any) -> None:
        leave_out(session, flying, link, turn)
        for packet_id, exchange in list(flying.items()):
            expires_at = getattr(exchange, "expires_at", None)
            if expires_at is not None and expires_at <= turn.now:
                del flying[packet_id]
                outbound.drop(session, exchange, outbound.DropReason.EXPIRED, turn)

    patch.setattr(outbound, "_leave_out", wrong)


def queue_is_a_stack(patch: pytest.MonkeyPatch) -> None:
    """New messages overtake those that wait."""
    push = Queue.push

    def wrong(self: Queue, delivery: Any) -> None:
        push(self, delivery)
        if len(self.items) > 1 and self.items[-2] is not None and self._order is None:
            self.items[-1], self.items[-2] = self.items[-2], self.items[-1]

    patch.setattr(Queue, "push", wrong)


def drop_without_a_trace(patch: pytest.MonkeyPatch) -> None:
    drop = outbound.drop

    def wrong(session: SessionState, delivery: Any, reason: Any, turn: Any) -> None:
        drop(session, delivery, reason, turn)
        if reason is outbound.DropReason.QUEUE_FULL:
            turn.notices.pop()

    patch.setattr(outbound, "drop", wrong)


def repeat_is_handed_on_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(inbound, "phase_of", lambda session, packet_id: Inbound.IDLE)


def inbound_identifiers_go_with_the_connection(patch: pytest.MonkeyPatch) -> None:
    detach = router.Router._detach

    def wrong(self: Any, link: Any, turn: Any) -> None:
        session = link.session
        detach(self, link, turn)
        if session.inbound is not None:
            turn.deadlines.disarm(session.inbound)
            session.inbound = None

    patch.setattr(router.Router, "_detach", wrong)


def inbound_identifiers_are_lost_in_a_crash(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(restoring, "_restore_inbound", lambda session, contents, alarms: None)


def session_expiry_is_not_armed_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    add = restoring.Alarms.add

    def wrong(self: Any, timer: Any, at: float, interval: float) -> None:
        if not isinstance(timer, SessionState):
            add(self, timer, at, interval)

    patch.setattr(restoring.Alarms, "add", wrong)
    # what `check` would see by itself is not what is to be shown
    patch.setattr(SessionStore, "check", lambda self: None)


def phase_is_lost_in_a_crash(patch: pytest.MonkeyPatch) -> None:
    contents_of = restoring.contents_of

    def wrong(session: SessionState) -> Any:
        contents = contents_of(session)
        kept = tuple(each for each in contents.in_flight if each[1] is not None)
        return evolve(contents, in_flight=kept, abandoned=())

    patch.setattr("mqtt_sessions.lifecycle.contents_of", wrong)


def will_is_published_twice(patch: pytest.MonkeyPatch) -> None:
    owe_will = Lifecycle._owe_will

    def wrong(self: Any, session: SessionState, turn: Any) -> None:
        before = len(turn.wills)
        owe_will(self, session, turn)
        turn.wills += turn.wills[before:]

    patch.setattr(Lifecycle, "_owe_will", wrong)


def will_survives_its_delay(patch: pytest.MonkeyPatch) -> None:
    """It is published, stays with the session, and is published at its end again."""
    owe_will = Lifecycle._owe_will

    def wrong(self: Any, session: SessionState, turn: Any) -> None:
        will = session.will
        owe_will(self, session, turn)
        session.will = getattr(will, "will", will)

    patch.setattr(Lifecycle, "_owe_will", wrong)


def will_is_forgotten_at_the_end(patch: pytest.MonkeyPatch) -> None:
    end = Lifecycle._end

    def wrong(self: Any, session: SessionState, reason: Any, turn: Any) -> None:
        if type(session.will).__name__ == "PendingWill":
            turn.deadlines.disarm(session.will)
            session.will = None
        end(self, session, reason, turn)

    patch.setattr(Lifecycle, "_end", wrong)


def will_is_published_after_disconnect(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lifecycle, "_cancel_will", lambda self, session, turn: None)


def deadlines_are_strict(patch: pytest.MonkeyPatch) -> None:
    """`<` where the law says `<=`."""
    handle_timeout = SessionStore.handle_timeout

    def wrong(self: Any, now: float, limit: int | None = None) -> Any:
        return handle_timeout(self, math.nextafter(now, 0), limit)

    patch.setattr(SessionStore, "handle_timeout", wrong)


def session_of_interval_0_is_inherited(patch: pytest.MonkeyPatch) -> None:
    take_over = Lifecycle._take_over

    def wrong(self: Any, session: SessionState, old: Any, clean_start: bool, turn: Any) -> Any:
        if session.expiry_interval == 0:
            session.expiry_interval = 1
        return take_over(self, session, old, clean_start, turn)

    patch.setattr(Lifecycle, "_take_over", wrong)


def no_local_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(router, "NO_LOCAL", 0)


def congestion_is_ignored(patch: pytest.MonkeyPatch) -> None:
    from mqtt_sessions.connection import Link

    smooth = Link.smooth

    def wrong(self: Link) -> None:
        congested, self.congested = self.congested, False
        smooth(self)
        self.congested = congested

    patch.setattr(Link, "smooth", wrong)
    patch.setattr(SessionStore, "check", lambda self: None)


def expired_messages_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Queue, "next_expiry", lambda self: math.inf)
    patch.setattr(SessionStore, "check", lambda self: None)


def retained_message_outlives_its_successor(patch: pytest.MonkeyPatch) -> None:
    """An empty payload does not clear the topic."""
    retain = router.Router._retain

    def wrong(self: Any, message: Any, *rest: Any) -> bool:
        return True if not message.payload else retain(self, message, *rest)

    patch.setattr(router.Router, "_retain", wrong)


def retained_messages_called_up_go_with_the_connection(patch: pytest.MonkeyPatch) -> None:
    detach = router.Router._detach

    def wrong(self: Any, link: Any, turn: Any) -> None:
        session = link.session
        detach(self, link, turn)
        self._replays.pop(session, None)

    patch.setattr(router.Router, "_detach", wrong)


def late_acknowledgements_touch_the_new_connection(patch: pytest.MonkeyPatch) -> None:
    packet_link = SessionStore._packet_link
    owners: dict[Any, str] = {}

    def wrong(self: Any, event: Any, turn: Any) -> Any:
        link = self._links.get(event.connection)
        if link is not None and link.session is not None:
            owners[event.connection] = link.session.client_id
        elif link is not None:
            session = self._sessions.get(owners.get(event.connection, ""))
            if session is not None and session.link is not None:
                return session.link
        return packet_link(self, event, turn)

    patch.setattr(SessionStore, "_packet_link", wrong)


def late_timers_resurrect_the_dead(patch: pytest.MonkeyPatch) -> None:
    """What is due is not settled before an event."""
    patch.setattr(Lifecycle, "_settle", lambda self, session, turn: None)


def identifier_is_free_at_pubrec(patch: pytest.MonkeyPatch) -> None:
    receive = outbound.receive

    def wrong(session: SessionState, link: Any, packet_id: int, code: int, turn: Any) -> Any:
        reply = receive(session, link, packet_id, code, turn)
        if session.in_flight and session.in_flight.get(packet_id) is RELEASED:
            del session.in_flight[packet_id]
            link.unitless.discard(packet_id)
        return reply

    patch.setattr(outbound, "receive", wrong)


def interval_of_disconnect_is_ignored(patch: pytest.MonkeyPatch) -> None:
    on_disconnect = SessionStore._HANDLERS[DisconnectReceived]

    def wrong(self: Any, event: Any, turn: Any) -> None:
        on_disconnect(self, evolve(event, session_expiry_interval=None), turn)

    patch.setitem(SessionStore._HANDLERS, DisconnectReceived, wrong)


def resubscribing_keeps_the_old_qos(patch: pytest.MonkeyPatch) -> None:
    make = Granted.make.__func__  # type: ignore[attr-defined]

    def wrong(cls: Any, session: SessionState, wanted: Any, granted_qos: int = 2) -> Any:
        route = session.route(wanted.topic_filter)
        before = None if route is None else route.options
        made = make(cls, session, wanted, granted_qos)
        if before is not None:
            made.route.options = made.route.options & ~3 | before & 3
        return made

    patch.setattr(Granted, "make", classmethod(wrong))


def will_delay_does_not_count(patch: pytest.MonkeyPatch) -> None:
    park = Lifecycle._park

    def wrong(self: Any, session: SessionState, turn: Any) -> None:
        if isinstance(session.will, Will):
            session.will = evolve(session.will, will_delay_interval=0)
        park(self, session, turn)

    patch.setattr(Lifecycle, "_park", wrong)


def what_exceeds_a_smaller_window_is_dropped(patch: pytest.MonkeyPatch) -> None:
    leave_out = outbound._leave_out

    def wrong(session: SessionState, flying: Any, link: Any, turn: Any) -> None:
        leave_out(session, flying, link, turn)
        for packet_id in list(flying)[link.window :]:
            if flying[packet_id].qos == 1:
                del flying[packet_id]

    patch.setattr(outbound, "_leave_out", wrong)


def retained_expiry_begins_anew_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    restore = RetainedStore.restore

    def wrong(self: Any, snapshots: Any, alarms: Any) -> None:
        late = [
            evolve(each, expires_at=None if each.expires_at is None else each.expires_at + 20)
            for each in snapshots
        ]
        restore(self, late, alarms)

    patch.setattr(RetainedStore, "restore", wrong)


MUTANTS: tuple[Patch, ...] = (
    identifier_wraps_onto_one_in_flight,
    quota_of_one_more,
    quota_leaks_at_resume,
    quota_is_ignored_at_resume,
    sent_again_in_order_of_identifiers,
    pubrels_are_not_sent_again,
    publish_again_after_pubrec,
    sent_again_without_dup,
    expired_in_flight_is_given_up,
    queue_is_a_stack,
    drop_without_a_trace,
    repeat_is_handed_on_again,
    inbound_identifiers_go_with_the_connection,
    inbound_identifiers_are_lost_in_a_crash,
    session_expiry_is_not_armed_after_a_crash,
    phase_is_lost_in_a_crash,
    will_is_published_twice,
    will_survives_its_delay,
    will_is_forgotten_at_the_end,
    will_is_published_after_disconnect,
    deadlines_are_strict,
    session_of_interval_0_is_inherited,
    no_local_is_ignored,
    congestion_is_ignored,
    expired_messages_stay,
    retained_message_outlives_its_successor,
    retained_messages_called_up_go_with_the_connection,
    late_acknowledgements_touch_the_new_connection,
    late_timers_resurrect_the_dead,
    identifier_is_free_at_pubrec,
    interval_of_disconnect_is_ignored,
    resubscribing_keeps_the_old_qos,
    will_delay_does_not_count,
    what_exceeds_a_smaller_window_is_dropped,
    retained_expiry_begins_anew_after_a_crash,
)
FIRST_SEED = {
    queue_is_a_stack: 3,
    retained_messages_called_up_go_with_the_connection: 3,
    late_timers_resurrect_the_dead: 2,
}
"""Where it is found soonest."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_bug_of_the_core_is_found(mutant: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 8 seeds of 10,000 steps; most of them within the first."""
    mutant(monkeypatch)
    for seed in (FIRST_SEED.get(mutant, 0), *range(8)):
        try:
            simulate(World(seed), 10_000)
        except RunFailed as failed:
            print(f"seed {failed.seed}, step {failed.step}: {failed.cause}")
            return
    pytest.fail(f"{mutant.__name__} was not found")
