"""A hostile simulation: one store, and all that can go wrong around it, from one seed.

Clients that follow the standard and clients that do not publish, subscribe and acknowledge over
connections that stall, break with packets on their way, and come back before the server knows; the
process crashes and is restored from its snapshot; clocks step, timers are late, early and sliced;
the host meddles. A `Watch` judges each step, and the clients that follow the standard judge what
reaches them. Then all faults end, and within a bounded number of steps everything that was
accepted has to be delivered.

    world = World(seed=7)
    world.run(100_000)
    world.heal()

The same seed makes the same run, whatever the machine. `python -m mqtt_sessions.testing` is this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from attrs import evolve

from mqtt_sessions import actions as all_actions
from mqtt_sessions import events as all_events
from mqtt_sessions import notices as all_notices
from mqtt_sessions.actions import Action, CloseConnection
from mqtt_sessions.errors import InvalidState
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    Event,
    LimitsChanged,
    MessagePublished,
    PingReceived,
    QueuePurged,
    ServerStopping,
    SessionDiscarded,
    SessionExpirySet,
    SessionKicked,
    SubscriptionsAdded,
    SubscriptionsRemoved,
    WillRevoked,
)
from mqtt_sessions.journals.contract import JournalError
from mqtt_sessions.messages import Delivery
from mqtt_sessions.notices import PeerErrorDetected, SessionEnded
from mqtt_sessions.policy import (
    ExpiryPolicy,
    OverlapPolicy,
    ServerOptions,
    SessionLimits,
)
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.store import SessionStore
from mqtt_sessions.testing._drawn import draw_limits, draw_options, draw_policy
from mqtt_sessions.testing._journaled import JournaledHost, check_same
from mqtt_sessions.testing._peers import (
    FILTERS,
    TOPICS,
    Friend,
    Hostile,
    Peer,
    Wire,
    make_message,
    make_subscription,
)
from mqtt_sessions.testing.invariants import Violation, Watch
from mqtt_sessions.testing.transcript import Failure, Step, transcript
from mqtt_sessions.turn import Outcome

__all__ = ["RunFailed", "World"]

_KINDS = {
    kind: number
    for number, kind in enumerate(
        getattr(module, name)
        for module in (all_events, all_actions, all_notices)
        for name in module.__all__
    )
}
_KINDS[type(None)] = len(_KINDS)
_MASK = (1 << 64) - 1
_LIFTED: dict[str, Any] = {
    "maximum_sessions": None,
    "maximum_inbound_qos2": None,
    "maximum_retained_messages": None,
    "maximum_retained_bytes": None,
}
_START = 1_700_000_000.0
_BUSY = 24
"""Packets unread from which on the host reports a connection as congested."""
_SHOWN = 14
"""Steps that a report shows; each takes several lines."""


class RunFailed(AssertionError):
    """A run broke a rule.

    Attributes:
        seed: Replays it.
        step: At which.
        cause: What was raised.
        lines: The end of the transcript.
    """

    def __init__(self, seed: int, step: int, cause: BaseException, lines: str) -> None:
        super().__init__(f"seed {seed}, step {step}: {type(cause).__name__}: {cause}\n{lines}")
        self.seed = seed
        self.step = step
        self.cause = cause
        self.lines = lines


def size_of(delivery: Delivery, protocol_version: int) -> int:
    """Bytes of a PUBLISH, near enough."""
    message = delivery.message
    return len(message.topic_name) + len(message.payload) + 7


class World:
    """A store, its clients, its host and its clock.

    Args:
        seed: All chance comes from it.
        policy: Of the store; None: drawn from the seed.
        limits: Of the store; None: small ones, drawn from the seed.
        options: Of the store; None: drawn from the seed.
        friends: Clients that follow the standard.
        hostiles: Clients that do not.
        make: Makes the store, where it is a class of your own.
        durable: The store is a durable one, and after a crash recovered from a journal, whose
            commits fail now and then.

    Attributes:
        calls: Steps taken: calls of the store's door.
        mark: A digest of the run so far; two runs with the same one were the same.
    """

    def __init__(
        self,
        seed: int,
        *,
        policy: ExpiryPolicy | None = None,
        limits: SessionLimits | None = None,
        options: ServerOptions | None = None,
        friends: int = 9,
        hostiles: int = 2,
        make: type[SessionStore] = SessionStore,
        durable: bool = False,
    ) -> None:
        self.seed = seed
        self.chance = chance = Random(seed)
        self.policy = draw_policy(chance) if policy is None else policy
        self.fixed_limits = limits is not None
        self.limits = draw_limits(chance) if limits is None else limits
        self.options = draw_options(chance) if options is None else options
        self.make = make
        self.host: JournaledHost | None = None
        if durable:
            self.host = JournaledHost(chance.random, pipelined=chance.random() < 0.7)
            self.store = make(self.policy, self.limits, self.options, size_of, durable=True)
        else:
            self.store = make(self.policy, self.limits, self.options, size_of)
        self._cut_at: float | None = None
        self._unjudged: deque[tuple[Event | None, float, Outcome, float | None, bool]] = deque()
        self.watch = Watch(self.policy, self.limits, self.options)
        self.friends = [
            Friend(
                f"f{number}",
                (5, 4, 5, 3)[number % 4],
                maximum_packet_id=30 if number % 2 else 65_535,
            )
            for number in range(friends)
        ]
        self.hostiles = [Hostile(f"h{number}") for number in range(hostiles)]
        self.peers: list[Peer] = [*self.friends, *self.hostiles]
        self.trusted = {friend.client_id for friend in self.friends if friend.trusted}
        self.checks_once = self.policy.inbound_qos2_interval is None
        self.tolerance = 1 if self.options.overlap is OverlapPolicy.EACH else 0
        self.now = _START
        self.calls = 0
        self.mark = seed
        self.chaos = True
        self.crashes = 0
        self.crash_rate = 1 / 3000
        self.renewed: set[str] = set()
        self._known: dict[str, Wire] = {}
        self._connections = 0
        self._numbers = 0
        self._log: deque[tuple[float, Event | None, Outcome | None, float | None]] = deque(
            maxlen=_SHOWN
        )

    # ------------------------------------------------------------ what peers see

    def number(self) -> int:
        """The next message's number."""
        self._numbers += 1
        return self._numbers

    def open(self, peer: Peer) -> Wire:
        """A new network connection."""
        self._connections += 1
        return Wire(self._connections, peer)

    def exists(self, client_id: str) -> bool:
        """Whether there is a session."""
        return client_id in self.store

    def is_trusted(self, publisher: str | None) -> bool:
        """Whether this publisher's QoS 2 messages come exactly once, and in order."""
        return self.checks_once and (publisher is None or publisher in self.trusted)

    def feed(self, event: Event) -> None:
        """One event reaches the server, unless the process dies just before or after."""
        chance = self.chance
        if self.chaos:
            if chance.random() < self.crash_rate:
                self._crash(event)
                return
            if chance.random() < 0.004:  # a clock that steps back
                now, self.now = self.now, self.now - chance.random() * 5
                self._perform(self._handle(event))
                self.now = now
                return
        self._perform(self._handle(event))

    # ------------------------------------------------------------ the store's door

    def _handle(self, event: Event) -> Outcome:
        now, store = self.now, self.store
        self._log.append((now, event, None, None))
        outcome = store.handle(event, now)
        kind = type(event)
        if kind is ClientConnected:
            connection: Any = event.connection  # type: ignore[union-attr]
            if connection not in self._known:
                self._known[connection] = self._opening(connection)
        elif kind is ConnectionLost:
            connection = event.connection  # type: ignore[union-attr]
            del self._known[connection]
        self._judge(event, now, outcome, False)
        return outcome

    def _opening(self, connection: str) -> Wire:
        for peer in self.peers:
            if peer.wire is not None and peer.wire.connection == connection:
                return peer.wire
        raise AssertionError(f"nobody opened {connection}")

    def _timeout(self, limit: int | None = None) -> None:
        now = self.now
        self._log.append((now, None, None, None))
        outcome = self.store.handle_timeout(now, limit)
        self._judge(None, now, outcome, limit is not None)
        self._perform(outcome)

    def _judge(self, event: Event | None, now: float, outcome: Outcome, limited: bool) -> None:
        self.calls += 1
        next_deadline_at = self.store.next_deadline_at
        log = self._log
        log[-1] = (now, event, outcome, next_deadline_at)
        if self.host is None:
            self.watch.step(event, now, outcome, next_deadline_at, limited=limited)
        else:  # once it is durable: what a crash takes back, the watch has never seen
            self._unjudged.append((event, now, outcome, next_deadline_at, limited))
        mark = self.mark * 1_000_003 + _KINDS[type(event)] + int(now * 1e6)
        notices = outcome.notices
        if notices:
            for notice in notices:
                mark = mark * 31 + _KINDS[type(notice)]
                if type(notice) is PeerErrorDetected:
                    self._check_friend(notice)
                elif type(notice) is SessionEnded:
                    self.renewed.add(notice.client_id)
        self.mark = (mark + len(outcome.actions)) & _MASK
        if self.calls % 1000 == 0 and self.host is None:
            self._check_store()

    def _perform(self, outcome: Outcome) -> None:
        actions = outcome.actions
        if self.host is not None:
            self._note_closed(actions)
            try:
                actions = self.host.take(outcome)
            except JournalError:
                self._recover(self.host)
                return
            self._judge_durable(self.host)
        if not actions:
            return
        known, mark = self._known, self.mark
        for action in actions:
            connection: Any = action.connection  # type: ignore[union-attr]
            wire = known.get(connection)
            if wire is None:
                continue
            mark = mark * 31 + wire.number + _KINDS[type(action)]
            if type(action) is CloseConnection:
                wire.closed = True
            if wire.up:
                if self.host is not None and isinstance(wire.peer, Friend):
                    self.host.check_visible(action, self.store.session_of(connection))
                inbox = wire.inbox
                inbox.append(action)
                if len(inbox) > _BUSY and not wire.congested and self.chaos:
                    wire.congested = True
                    wire.outbox.append(ConnectionCongested(connection))
        self.mark = mark & _MASK

    def _note_closed(self, actions: tuple[Action, ...]) -> None:
        """A connection that the store closes takes no CONNECT, though the close be withheld."""
        for action in actions:
            if type(action) is CloseConnection:
                wire = self._known.get(str(action.connection))
                if wire is not None:
                    wire.closed = True

    def _judge_durable(self, host: JournaledHost) -> None:
        unjudged = self._unjudged
        if self._cut_at is not None and host.settled:
            self.watch.recovered(self._cut_at)
            self._cut_at = None
        while host.steps - len(unjudged) < host.settled:
            event, now, outcome, next_deadline_at, limited = unjudged.popleft()
            self.watch.step(event, now, outcome, next_deadline_at, limited=limited)
        if self.calls % 100 == 0 and not unjudged:
            self._check_store()

    def _check_friend(self, notice: PeerErrorDetected) -> None:
        """Nobody who follows the standard is closed for a fault; 3.x is for want of words."""
        wire = self._known.get(str(notice.connection))
        if wire is None or not isinstance(wire.peer, Friend):
            return
        code = notice.reason_code
        wordless = wire.peer.client.protocol_version < 5 and code is ReasonCode.QUOTA_EXCEEDED
        if code is not ReasonCode.KEEP_ALIVE_TIMEOUT and not wordless:
            raise Violation("MQTT-4.13.1-1", f"{notice!r}, but it did nothing wrong")

    def _check_store(self) -> None:
        store, sessions = self.store, self.watch.sessions
        store.check()
        connected = sum(session.conn is not None for session in sessions.values())
        if len(store) != len(sessions) or store.connected_count != connected:
            raise Violation(
                "host",
                f"{len(store)} sessions, {store.connected_count} connected; "
                f"{len(sessions)} and {connected} were told",
            )

    # ------------------------------------------------------------ a run

    def run(self, steps: int) -> None:
        """Take so many steps of chaos.

        Raises:
            RunFailed: A rule was broken.

        *Cost* O(steps).
        """
        self._guarded(lambda: self._run(steps))

    def _run(self, steps: int) -> None:
        random, peers = self.chance.random, self.peers
        count = len(peers)
        until = self.calls + steps
        while self.calls < until:
            dice = random()
            if dice < 0.965:
                peers[int(random() * count)].turn(self)
            elif dice < 0.985:
                self._pass_time()
            else:
                self._meddle()

    def _guarded(self, part: Callable[[], None]) -> None:
        try:
            part()
        except RunFailed:
            raise
        except Exception as error:
            rule = getattr(error, "rule", type(error).__name__)
            detail = getattr(error, "detail", str(error))
            steps = [
                Step(at, event, outcome.actions, outcome.notices, after)
                if outcome is not None
                else Step(at, event)
                for at, event, outcome, after in self._log
            ]
            lines = transcript(steps, Failure(rule, detail)).splitlines()[-40:]
            raise RunFailed(self.seed, self.calls, error, "\n".join(lines)) from error

    def _pass_time(self) -> None:
        """The clock moves, mostly to the next deadline; the host's timer is on time or not."""
        chance = self.chance
        at = self.store.next_deadline_at
        dice = chance.random()
        if dice < 0.02:  # a clock that steps back, and the timer rings
            now, self.now = self.now, self.now - chance.random() * 50
            self._timeout()
            self.now = now
        elif dice < 0.022:  # a machine that slept
            self.now += 1000
            self._timeout()
        elif at is None or dice < 0.3 or at - self.now > 1e6:
            self.now += chance.random() * 0.5
            self._timeout()
        elif dice < 0.80:
            self.now = max(self.now, at)
            self._timeout()
        elif dice < 0.85:
            self.now = max(self.now, at - chance.random() * 0.1)
            self._timeout()
        elif dice < 0.93:
            self.now = max(self.now, at) + chance.random() * 8  # and the timer has not rung
        else:
            self.now = max(self.now, at) + chance.random() * 2
            limit = 1 + int(chance.random() * 3)
            for _ in range(int(chance.random() * 6)):
                self._timeout(limit)

    def _meddle(self) -> None:
        """The host does something of its own."""
        chance = self.chance
        dice = chance.random()
        if dice < 0.6:
            self.feed(MessagePublished(make_message(self, chance.choice(TOPICS))))
            return
        if dice < 0.65:
            self._do_wrong()
            return
        if dice < 0.67 and not self.fixed_limits:
            self.feed(LimitsChanged(draw_limits(chance)))
            return
        if dice < 0.674:
            self.feed(ServerStopping())
            return
        client_id = chance.choice(self.peers).client_id
        if client_id not in self.store:
            return
        subscription = make_subscription(self)
        interval = chance.choice((0, 5, 100.5, None))
        if self.store[client_id].session_expiry_interval == 0:
            interval = 0  # its client takes the session for ended when the connection is
        event = chance.choice(
            (
                SessionKicked(client_id),
                SessionDiscarded(client_id),
                SessionExpirySet(client_id, interval),
                SubscriptionsAdded(client_id, (subscription,)),
                SubscriptionsRemoved(client_id, (chance.choice(FILTERS),)),
                WillRevoked(client_id),
                QueuePurged(client_id, chance.choice((None, "a/#")), None),
                QueuePurged(client_id, None, self.now - 3),
            )
        )
        self.feed(event)

    def _do_wrong(self) -> None:
        """A host's mistake is told, and changes nothing."""
        before = self.store.next_deadline_at
        try:
            self.store.handle(PingReceived(-1), self.now + 100)
        except InvalidState:
            if self.store.next_deadline_at != before:
                raise Violation("host", "a refused event changed the next deadline") from None
            return
        raise Violation("host", "an event of an unknown connection was accepted")

    def _crash(self, event: Event) -> None:
        """The process dies, before the event or before its actions, and is restored.

        Whatever was on its way is lost with it.
        """
        chance = self.chance
        if self.host is not None:
            if chance.random() < 0.5:
                self.host.lose(self._handle(event))
            self.host.crash()
            self._recover(self.host)
            return
        self.crashes += 1
        if chance.random() < 0.5:
            self._handle(event)
        snapshot = self.store.snapshot()
        self.store = self.make.restore(snapshot, size_of)
        if chance.random() < 0.1 and self.store.snapshot() != snapshot:
            raise Violation("host", "a restored store differs from what it was restored from")
        self.watch.restored()
        for peer in self.peers:
            peer.drop()
            peer.old.clear()
        if chance.random() < 0.5:
            self.now += chance.random() * 30  # it was down
        for connection in list(self._known):
            self._perform(self._handle(ConnectionLost(connection)))

    def _recover(self, host: JournaledHost) -> None:
        """A new process finds what the journal has; everything else is gone."""
        self.crashes += 1
        self._judge_durable(host)
        before = None if self._unjudged else self.store.snapshot()
        self._unjudged.clear()
        host.reopen()
        if self.chance.random() < 0.5:
            self.now += self.chance.random() * 30  # it was down
        self.now = now = max(self.now, self.watch.now)
        rows, limits = host.journal.load(), self.watch.limits
        made = self.make.recover(rows, now, self.policy, limits, self.options, size_of)
        self.store = made.store
        self.store.check()
        if made.set_aside:
            raise Violation("host", f"rows are set aside: {made.set_aside}")
        if before is not None:
            check_same(before, self.store.snapshot(), now)
        # when it was cut is durable with the first step: until then, another crash comes later
        self._cut_at = now
        for peer in self.peers:
            peer.drop()
            peer.old.clear()
        self._known.clear()
        self._timeout()

    # ------------------------------------------------------------ the end

    def heal(self, steps: int = 100_000) -> None:
        """End all faults, let everybody reconnect and acknowledge, and require that all is done.

        Time stands still meanwhile, so that nothing expires. Afterwards chaos may go on.

        Args:
            steps: In which all has to be done.

        Raises:
            RunFailed: A rule was broken, or something was not delivered.
        """
        self._guarded(lambda: self._heal(steps))

    def _heal(self, steps: int) -> None:
        self.chaos = False
        if self.host is not None:
            self.host.calm = True
        until = self.calls + steps
        self._timeout()
        limits = self.store.limits
        # an MQTT 3.x client that is refused for quota is closed, and comes back with it for ever
        self.feed(LimitsChanged(evolve(limits, **_LIFTED)))
        healed = self._reborn()
        peers: list[Peer] = [*self.friends, *healed]
        chaotic, self.peers = self.peers, peers
        busy = True
        while busy:
            busy = False
            for peer in peers:
                while peer.turn(self):
                    busy = True
                    if self.calls > until:
                        raise Violation("host", f"not quiet after {steps} steps: {self._left()}")
            if (at := self.store.next_deadline_at) is not None and at <= self.now:
                self._timeout()
                busy = True
        self._check_quiet(healed)
        for peer in healed:  # hostile clients begin anew
            self.feed(SessionDiscarded(peer.client_id))
            peer.drop()
            self.feed(ConnectionLost(peer.old.pop().connection))
        self.feed(LimitsChanged(limits))
        self.peers = chaotic
        self.chaos = True
        if self.host is not None:
            self.host.calm = False

    def _reborn(self) -> list[Friend]:
        """A client without a memory, for each session whose client was hostile."""
        for peer in self.hostiles:
            peer.drop()
            for wire in peer.old:
                self._perform(self._handle(ConnectionLost(wire.connection)))
            peer.old.clear()
        own = {friend.client_id for friend in self.friends}
        for client_id in list(self.store):
            # a hostile client took the id of a session that had just expired
            if client_id in own and self.store[client_id].principal not in (None, client_id):
                self.feed(SessionDiscarded(client_id))
        healed = [Friend(client_id, 5) for client_id in list(self.store) if client_id not in own]
        for friend in self.friends:
            friend.refused = 0
        for friend in healed:
            friend.principal = None
        return healed

    def _left(self) -> list[str]:
        return self.watch.unfinished()[:5]

    def _check_quiet(self, healed: list[Friend]) -> None:
        """All sessions are connected, and nothing waits, is in flight, or held."""
        store = self.store
        store.check()
        forgetful = {f"{peer.client_id!r} has" for peer in healed}
        left = [
            each
            for each in self.watch.unfinished()
            if not any(each.startswith(name) for name in forgetful)
        ]
        if left:
            raise Violation("MQTT-4.5.0-1", f"never finished: {left[:5]}")
        for client_id in store:
            session = store[client_id]
            if session.queue_depth or session.in_flight or not session.connected:
                raise Violation("MQTT-4.5.0-1", f"{session!r} is not quiet")
        for friend in self.friends:
            client = friend.client
            # a client that missed the CONNACK of a new session takes the next one for the old
            holds = friend.trusted and client.inbound and friend.client_id not in self.renewed
            if client.ready and (client.in_flight or holds):
                raise Violation("MQTT-4.4.0-1", f"{friend.client_id!r} waits for the server")
        counters = store.counters
        if counters.accepted != counters.completed + sum(counters.dropped.values()):
            raise Violation("host", f"the ledger does not add up: {counters!r}")
