"""`SessionStore`: all sessions of a broker, and the router between them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from sortedcontainers import SortedList

from mqtt_sessions._heap import uncollected
from mqtt_sessions._values import value
from mqtt_sessions.changes import Change, Stored
from mqtt_sessions.connection import CLOSED
from mqtt_sessions.engine import clock
from mqtt_sessions.errors import InvalidState, InvalidValue
from mqtt_sessions.events import (
    DisconnectReceived,
    Event,
    MalformedPacketReceived,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    SubscribeReceived,
    UnsubscribeReceived,
)
from mqtt_sessions.messages import Message
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.recording import Recorder
from mqtt_sessions.recovering import RowSetAside, SavedState, ghost
from mqtt_sessions.restoring import (
    Alarms,
    drops,
    restore_session,
)
from mqtt_sessions.retained import Replay
from mqtt_sessions.router import Router
from mqtt_sessions.rows import Body
from mqtt_sessions.session import Counters, Session
from mqtt_sessions.snapshot_checks import check_snapshot
from mqtt_sessions.snapshots import DurableSnapshot, SessionContents, StoreSnapshot
from mqtt_sessions.topics import is_valid_filter, matches
from mqtt_sessions.turn import EMPTY, Outcome, SizeOf
from mqtt_sessions.wills import WillFanout

__all__ = ["Recovered", "SessionStore"]

_DEFAULT_POLICY = ExpiryPolicy()
_DEFAULT_LIMITS = SessionLimits()
_DEFAULT_OPTIONS = ServerOptions()

_PACKETS = frozenset(
    {
        PublishReceived,
        PubackReceived,
        PubrecReceived,
        PubrelReceived,
        PubcompReceived,
        SubscribeReceived,
        UnsubscribeReceived,
        PingReceived,
        DisconnectReceived,
        MalformedPacketReceived,
    }
)


class SessionStore(Router):
    """All sessions of a broker: feed events in, perform the actions that come out.

    Reads like a mapping from client id to `Session`. Not thread-safe, and never re-entered.

    Args:
        policy: When things end.
        limits: How far things grow.
        options: What the server offers.
        size_of: Bytes of a PUBLISH packet, `size_of(delivery, protocol_version)`; pure and total.
            Without it the Maximum Packet Size of clients is not looked at. `mqtt_sessions.wire`
            has one.
        durable: Tell in `Outcome.changes` what has to be stored, for a new, empty journal; see
            `recover` for one that holds something.
    """

    def __init__(
        self,
        policy: ExpiryPolicy = _DEFAULT_POLICY,
        limits: SessionLimits = _DEFAULT_LIMITS,
        options: ServerOptions = _DEFAULT_OPTIONS,
        size_of: SizeOf | None = None,
        *,
        durable: bool = False,
    ) -> None:
        super().__init__(policy, limits, options, size_of)
        if durable:
            self._record(Recorder(self._settings))

    def _record(self, recorder: Recorder) -> None:
        recorder.replays = self._replays
        self._turn.recorder = recorder

    # ------------------------------------------------------------ the door

    def handle_many(self, events: Iterable[Event], now: float) -> Outcome:
        """Take in packets that were read together: one merged outcome.

        Only events of packets (`PublishReceived` to `MalformedPacketReceived`) of known
        connections, because their faults are known before the first is taken in.

        Raises:
            InvalidState: One of them cannot happen now; none was taken in.

        *Cost* that of the events, less one outcome each.
        """
        batch = tuple(events)
        for event in batch:
            if event.__class__ not in _PACKETS:
                raise InvalidState(f"handle_many takes packets, not {type(event).__name__}")
            connection: Hashable = event.connection  # type: ignore[union-attr]
            if not self._knows(connection):
                raise InvalidState(
                    f"{type(event).__name__}.connection {connection!r} is not known: "
                    "feed ClientConnected first"
                )
        changes: list[Change] = []
        actions: list[Any] = []
        notices: list[Any] = []
        for event in batch:
            outcome = self.handle(event, now)
            changes += outcome.changes
            actions += outcome.actions
            notices += outcome.notices
        if not (changes or actions or notices):
            return EMPTY
        return Outcome(tuple(changes), tuple(actions), tuple(notices))

    def _knows(self, connection: Hashable) -> bool:
        try:
            return connection in self._links
        except TypeError:
            return False  # not hashable

    # ------------------------------------------------------------ as a value

    def snapshot(self) -> StoreSnapshot:
        """Everything that the store holds, as one value.

        *Cost* O(everything); messages are shared, not copied.

        Raises:
            InvalidState: A call is running.
        """
        turn, settings = self._turn, self._settings
        if turn.busy:
            raise InvalidState("snapshot was called while a call is running")
        return StoreSnapshot(
            turn.now,
            self._arrived_at,
            settings.policy,
            settings.limits,
            settings.options,
            tuple(self._contents(session) for session in self._sessions.values()),
            tuple(self._links),
            self._retained.snapshot(),
            tuple(fanout.snapshot() for fanout in self._fanouts),
            turn.accepted,
            turn.completed,
            drops(turn.dropped),
            settings.size_of is not None,
            durable=None
            if turn.recorder is None
            else turn.recorder.snapshot(self._sessions.values()),
        )

    @classmethod
    def restore(cls, snapshot: StoreSnapshot, size_of: SizeOf | None = None) -> SessionStore:
        """A store that goes on where the snapshot was taken.

        What it answers is what the original would have answered, but for ties: of several clients
        or topics that come due at the very same instant, another may go first, and within one
        outcome the order among connections may differ. Where the connections are gone too, feed
        `ConnectionLost` for each of `snapshot.connections`.

        Args:
            snapshot: What `snapshot` gave.
            size_of: As for the constructor: a snapshot holds no functions.

        Raises:
            InvalidValue: It is no snapshot of a store, of another format, or no state that a store
                can be in; or `size_of` is missing.

        *Cost* O(everything).
        """
        check_snapshot(snapshot, StoreSnapshot, size_of)
        store = cls(snapshot.policy, snapshot.limits, snapshot.options, size_of)
        turn = store._turn
        turn.now = snapshot.now
        store._arrived_at = snapshot.arrived_at
        turn.accepted, turn.completed = snapshot.accepted, snapshot.completed
        turn.dropped = dict(snapshot.dropped)
        alarms = Alarms()
        store._links.update(dict.fromkeys(snapshot.connections, CLOSED))
        for contents in snapshot.sessions:
            store._restore_one(contents, alarms)
        store._retained.restore(snapshot.retained, alarms)
        for saved in snapshot.will_fanouts:
            fanout = WillFanout.restore(saved, store._sessions)
            store._fanouts.append(fanout)
            alarms.add(fanout, saved.goes_on_at, 0.0)
        alarms.arm(turn.deadlines)
        if snapshot.durable is not None:
            store._restore_rows(snapshot.durable)
        return store

    def _restore_rows(self, durable: DurableSnapshot) -> None:
        recorder = Recorder(
            self._settings, durable.epoch, durable.next_id, durable.started_at, durable.alive_at
        )
        recorder.reserved = durable.reserved
        recorder.orphans = [message_id for message_id, ids in durable.messages if not ids]
        bodies: dict[int, Body] = {}
        for message_id, ids in durable.messages:
            bodies.update(dict.fromkeys(ids, Body(message_id)))
        for saved in durable.sessions:
            recorder.attach(self._sessions[saved.client_id], saved, bodies)
        self._record(recorder)

    @classmethod
    def recover(
        cls,
        rows: Iterable[Stored],
        now: float,
        policy: ExpiryPolicy = _DEFAULT_POLICY,
        limits: SessionLimits = _DEFAULT_LIMITS,
        options: ServerOptions = _DEFAULT_OPTIONS,
        size_of: SizeOf | None = None,
        *,
        cut_at_heartbeat: bool = False,
    ) -> Recovered:
        """A durable store that goes on where the journal ends, after a crash or a stop.

        What was due meanwhile is due: call `handle_timeout(now)` next, and store its changes like
        any others. Sessions that were connected were cut: they have what is left of their
        interval from then on, and their wills are due or wait for their delay.

        Args:
            rows: What a journal's `load` gives; no rows: a new journal.
            now: The host's clock in seconds, on the scale of the run before.
            policy: As for the constructor; a session that brought its own has that.
            limits: The same.
            options: As for the constructor.
            size_of: The same.
            cut_at_heartbeat: Connections were cut at the last `HeartbeatPassed`, or the last
                CONNECT if that was later, and not now, when the next run begins.

        Raises:
            InvalidValue: `now` is not a finite number, `rows` is no iterable (a journal
                instead of what its `load` gives, say), or a row is no `Stored`.

        *Cost* O(rows * log rows of a session).

        Spec: MQTT 5.0 §4.1 [NN-1.1], [NN-1.7], §3.1.2.5 [NN-4.5].
        """
        store = cls(policy, limits, options, size_of)
        store._turn.now = clock(now)
        if not math.isfinite(store._turn.now):
            raise InvalidValue(f"now must be a finite number of seconds, not {now!r}")
        with uncollected():
            state = SavedState(rows)
            store._recover(state, at_heartbeat=cut_at_heartbeat)
        return Recovered(store, tuple(state.set_aside))

    def _recover(self, state: SavedState, *, at_heartbeat: bool) -> None:
        turn, shared, alarms = self._turn, self._settings, Alarms()
        # It begins now, whenever its first call comes: where a second crash cuts, this one does.
        recorder = Recorder(shared, state.last_epoch + 1, state.next_id, turn.now)
        self._arrived_at = state.arrived_at
        cuts: dict[int, float] = {}
        for session_id in list(state.sessions):
            # each makes room for what is made of it
            saved = state.sessions.pop(session_id)
            epoch = saved.row.epoch
            will_epoch = epoch if saved.will is None else saved.will.epoch
            for each in (epoch, will_epoch):
                if each not in cuts:
                    cuts[each] = state.cut_at(each, turn.now, at_heartbeat=at_heartbeat)
            contents = state.contents(saved, shared, cuts[epoch], cuts[will_epoch])
            turn.accepted += contents.accepted
            self._restore_one(contents, alarms)
            session = self._sessions[contents.client_id]
            recorder.attach(session, state.rows_of(saved), state.bodies_of(saved))
        for will in state.wills.values():
            cut_at = state.cut_at(will.epoch, turn.now, at_heartbeat=at_heartbeat)
            self._restore_one(ghost(will, shared, cut_at), alarms)
        self._retained.restore(state.retained_messages(), alarms)
        alarms.arm(turn.deadlines)
        recorder.orphans = [
            message_id for message_id, body in state.bodies.items() if not body.references
        ]
        self._record(recorder)

    def _restore_one(self, contents: SessionContents, alarms: Alarms) -> None:
        session = restore_session(contents, self._settings, alarms)
        self._sessions[session.client_id] = session
        link = session.link
        if link is None:
            self._parked += 1
        else:
            self._links[link.connection] = link
        for route in session.all_routes():
            self._tree.add(route)
        if contents.replay is not None:
            replay = self._replays[session] = Replay.restore(contents.replay, session)
            if contents.replay.goes_on_at is not None:
                alarms.add(replay, contents.replay.goes_on_at, 0.0)
            if link is not None:
                link.replaying = True
                link.smooth()

    # ------------------------------------------------------------ reading

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, client_id: object) -> bool:
        return client_id in self._sessions

    def __iter__(self) -> Iterator[str]:
        return iter(self._sessions)

    def __getitem__(self, client_id: str) -> Session:
        if client_id not in self._sessions:
            raise KeyError(client_id)
        return Session._of(self, client_id)

    def get(self, client_id: str) -> Session | None:
        """The session of a client id, None if there is none. *Cost* O(1)."""
        return Session._of(self, client_id) if client_id in self._sessions else None

    def session_of(self, connection: Hashable) -> Session | None:
        """The session that an open connection has. *Cost* O(1)."""
        link = self._links.get(connection)
        if link is None or link.session is None:
            return None
        return Session._of(self, link.session.client_id)

    def page(self, after: str | None = None, limit: int = 100) -> tuple[str, ...]:
        """Client ids in order, behind `after`; stable whatever begins or ends meanwhile.

        *Cost* O(limit + log sessions); the first call sorts all ids, and from then on each new
        session costs O(log sessions).
        """
        _check_limit(limit)
        if self._order is None:
            self._order = SortedList(self._sessions)
        order = self._order
        start = 0 if after is None else order.bisect_right(after)
        return tuple(order[start : start + limit])

    @property
    def connected_count(self) -> int:
        """Sessions with an open connection. *Cost* O(1)."""
        return len(self._sessions) - self._parked

    @property
    def parked_count(self) -> int:
        """Sessions without one. *Cost* O(1)."""
        return self._parked

    @property
    def retained_count(self) -> int:
        """Retained messages. *Cost* O(1)."""
        return len(self._retained)

    @property
    def counters(self) -> Counters:
        """Totals over all sessions, those that have ended included. *Cost* O(1)."""
        turn = self._turn
        return Counters(turn.accepted, turn.completed, dict(turn.dropped))

    @property
    def limits(self) -> SessionLimits:
        """The limits in force."""
        return self._settings.limits

    def retained(
        self, topic_filter: str = "#", after: str | None = None, limit: int = 100
    ) -> tuple[Message, ...]:
        """Retained messages that match, in order of topic name, behind `after`.

        A bare `#` matches topics that begin with `$` too: this is for the host, not a client.

        *Cost* O(topics that begin like the filter).
        """
        _check_limit(limit)
        if not is_valid_filter(topic_filter):
            raise InvalidValue(f"topic_filter must be well formed, not {topic_filter!r}")
        found: list[Message] = []
        for entry in self._retained.after(topic_filter, after):
            message = entry.message
            if topic_filter == "#" or matches(topic_filter, message.topic_name):
                found.append(message)
                if len(found) == limit:
                    break
        return tuple(found)

    # ------------------------------------------------------------ for tests

    def check(self) -> None:
        """Verify all invariants. *Cost* O(everything)."""
        self._check_sessions()
        filters: set[str] = set()
        for session in self._sessions.values():
            for route in session.all_routes():
                filters.add(route.topic_filter)
                topic = route.topic_filter.replace("+", "x").replace("#", "x")
                assert any(
                    bucket is route or (isinstance(bucket, dict) and bucket.get(session) is route)
                    for bucket in self._tree.match(topic)
                ), f"{route.topic_filter!r} of {session.client_id!r} is not routed"
        assert sorted(self._tree.filters()) == sorted(filters)
        sessions = set(self._sessions.values())
        assert set(self._replays) <= sessions
        for fanout in self._fanouts:
            assert fanout.lane is not None
            assert fanout.remaining
            assert set(fanout.remaining) <= sessions
        if self._order is not None:
            assert list(self._order) == sorted(self._sessions)
        if self._turn.recorder is not None:
            self._turn.recorder.check(self._sessions.values())
            assert not self._fanouts


@value
class Recovered:
    """What came out of a journal.

    Attributes:
        store: The durable store.
        set_aside: Rows that make no sense beside the others, and have no effect.
    """

    store: SessionStore
    set_aside: tuple[RowSetAside, ...]


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise InvalidValue(f"limit must be above 0, not {limit!r}")
