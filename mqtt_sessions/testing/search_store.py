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
from mqtt_sessions.turn import Outcome

__all__ = ["Node", "StoreGraph"]


class Node:
    """A store at rest; two of one graph that hold the same are one object.

    Attributes:
        snapshot: What it holds.
        client_ids: Of its sessions.
        next_at: Its next deadline.
        disorder: What the store's own check found wrong.
        views: Seen from a moment: the canonical form and the names in it, if worked out already.
    """

    __slots__ = ("after", "client_ids", "disorder", "next_at", "snapshot", "views")

    def __init__(self, store: SessionStore, snapshot: StoreSnapshot) -> None:
        self.snapshot = snapshot
        self.client_ids = tuple(store)
        self.next_at = store.next_deadline_at
        self.disorder: AssertionError | None = None
        self.views: dict[float, tuple[tuple[Hashable, ...], Names]] = {}
        self.after: dict[tuple[Event | None, float], tuple[tuple[Outcome, ...], Node]] = {}


class StoreGraph:
    """All that a store was seen to hold, and to do."""

    __slots__ = ("_nodes",)

    def __init__(self) -> None:
        self._nodes: dict[Hashable, Node] = {}

    def start(self, policy: ExpiryPolicy, limits: SessionLimits, options: ServerOptions) -> Node:
        """A store without sessions."""
        return self._node(SessionStore(policy, limits, options))

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
        found = tuple(outcomes), self._node(store)
        try:
            store.check()
        except AssertionError as error:
            found[1].disorder = error
        node.after[event, now] = found
        return found

    def _node(self, store: SessionStore) -> Node:
        snapshot = store.snapshot()
        return self._nodes.setdefault(_exactly(snapshot), Node(store, snapshot))


def _exactly(snapshot: StoreSnapshot) -> Hashable:
    """All but counters, and but policies and limits, which are those of the world."""
    return (
        snapshot.now,
        snapshot.arrived_at,
        tuple([_contents(session) for session in snapshot.sessions]),
        snapshot.connections,
        snapshot.retained,
        snapshot.will_fanouts,
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
