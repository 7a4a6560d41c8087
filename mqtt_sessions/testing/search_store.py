"""The store of a small world as a graph: what it holds, and where each event leads from there.

Many states of a world differ in their clients and wires only, so that most events find the store
where it has been before. What it did then is what it does now: it is asked once.
"""

from __future__ import annotations

from collections.abc import Hashable

from mqtt_sessions.events import Event
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.snapshots import SessionContents, StoreSnapshot
from mqtt_sessions.store import SessionStore
from mqtt_sessions.testing.canonical import Names
from mqtt_sessions.testing.clients import ServerFault
from mqtt_sessions.testing.search_rows import RowsOf, after_changes, check_recovery, check_rows
from mqtt_sessions.turn import Outcome

__all__ = ["Node", "StoreGraph"]


class Node:
    """A store at rest; two of one graph that hold the same are one object.

    Attributes:
        snapshot: What it holds.
        client_ids: Of its sessions.
        next_at: Its next deadline.
        rows: What its changes come to, where it is durable.
        disorder: What the store's own check found wrong, or that of its rows.
        views: Seen from a moment: the canonical form and the names in it, if worked out already.
    """

    __slots__ = ("after", "client_ids", "disorder", "next_at", "rows", "snapshot", "views")

    def __init__(self, store: SessionStore, snapshot: StoreSnapshot, rows: RowsOf) -> None:
        self.snapshot = snapshot
        self.rows = rows
        self.client_ids = tuple(store)
        self.next_at = store.next_deadline_at
        self.disorder: AssertionError | None = None
        self.views: dict[float, tuple[tuple[Hashable, ...], Names]] = {}
        self.after: dict[tuple[Event | None, float], tuple[tuple[Outcome, ...], Node]] = {}


class StoreGraph:
    """All that a store was seen to hold, and to do.

    Args:
        durable: It is a durable one.
    """

    __slots__ = ("_durable", "_nodes")

    def __init__(self, *, durable: bool = False) -> None:
        self._durable = durable
        self._nodes: dict[Hashable, Node] = {}

    def start(self, policy: ExpiryPolicy, limits: SessionLimits, options: ServerOptions) -> Node:
        """A store without sessions."""
        return self._node(SessionStore(policy, limits, options, durable=self._durable), {})

    def go(self, node: Node, event: Event | None, now: float) -> tuple[tuple[Outcome, ...], Node]:
        """Tell the store of an event, then that time has passed, as a host does.

        Args:
            node: Where the store is.
            event: None: only time has passed.
            now: The clock.

        Returns:
            What the store did, call by call, and where it is now.

        Raises:
            ServerFault: Something is still due behind `handle_timeout`.
        """
        known = node.after.get((event, now))
        if known is not None:
            return known
        store = SessionStore.restore(node.snapshot)
        outcomes: list[Outcome] = []
        if event is not None:
            outcomes.append(store.handle(event, now))
        if (at := store.next_deadline_at) is not None and at <= now:
            outcomes.append(store.handle_timeout(now))
            if (at := store.next_deadline_at) is not None and at <= now:
                raise ServerFault("law 3", f"{store.next_deadline} is still due")
        found = node.after[event, now] = self._behind(node, store, tuple(outcomes))
        return found

    def recover(self, node: Node, now: float) -> tuple[tuple[Outcome, ...], Node]:
        """A crash: a new process finds the rows, and does what is due; as for `go`."""
        was = node.snapshot
        made = SessionStore.recover(node.rows.values(), now, was.policy, was.limits, was.options)
        return self._behind(node, made.store, (made.store.handle_timeout(now),))

    def _behind(
        self, node: Node, store: SessionStore, outcomes: tuple[Outcome, ...]
    ) -> tuple[tuple[Outcome, ...], Node]:
        rows, disorder = node.rows, None
        try:
            if self._durable:
                changes = [change for outcome in outcomes for change in outcome.changes]
                rows = after_changes(rows, changes)
            store.check()
        except AssertionError as error:
            disorder = error
        found = self._node(store, rows)
        found.disorder = disorder or found.disorder
        return outcomes, found

    def _node(self, store: SessionStore, rows: RowsOf) -> Node:
        snapshot = store.snapshot()
        exactly = (_exactly(snapshot), frozenset(rows.values()))
        known = self._nodes.get(exactly)
        if known is None:
            known = self._nodes[exactly] = Node(store, snapshot, rows)
            if snapshot.durable is not None:
                try:
                    check_rows(
                        rows, [each for each, named in snapshot.durable.messages if not named]
                    )
                    check_recovery(snapshot, rows)
                except AssertionError as error:
                    known.disorder = error
        return known


def _exactly(snapshot: StoreSnapshot) -> Hashable:
    """All but counters, and but policies and limits, which are those of the world."""
    return (
        snapshot.now,
        snapshot.arrived_at,
        tuple([_contents(session) for session in snapshot.sessions]),
        snapshot.connections,
        snapshot.retained,
        snapshot.will_fanouts,
        snapshot.durable,
    )


def _contents(session: SessionContents) -> Hashable:
    return (
        session.client_id,
        session.expiry_interval,
        session.expires_at,
        session.subscriptions,
        session.queue,
        session.in_flight,
        session.abandoned,
        session.last_packet_id,
        session.inbound,
        session.will,
        session.will_due_at,
        session.connection,
        session.replay,
    )
