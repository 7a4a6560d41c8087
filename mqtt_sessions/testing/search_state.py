"""One moment of a small world, and what makes two of them alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

from mqtt_sessions.actions import Action
from mqtt_sessions.events import Event
from mqtt_sessions.messages import Message
from mqtt_sessions.testing.canonical import Names, canonical, number
from mqtt_sessions.testing.clients import Client
from mqtt_sessions.testing.search_host import Moment, Pending
from mqtt_sessions.testing.search_packets import packet_key
from mqtt_sessions.testing.search_rules import Ledger
from mqtt_sessions.testing.search_store import Node

__all__ = ["State", "Wire", "state_key"]


class Wire(NamedTuple):
    """A connection: packets on their way, and whether the client still has its end."""

    client_id: str
    up: tuple[Event, ...] = ()
    down: tuple[Action, ...] = ()
    open: bool = True


class State:
    """One moment of a world; never changed once it was made.

    Attributes:
        pending: What is not durable yet; None: all is, or nothing ever will be.
    """

    __slots__ = ("clients", "late", "ledger", "now", "pending", "store", "told", "wires")

    def __init__(self, store: Node, ledger: Ledger) -> None:
        self.store = store
        self.ledger = ledger
        self.now = 0.0
        self.late = False
        self.pending: Pending | None = None
        self.clients: dict[str, Client] = {}
        self.wires: dict[str, Wire] = {}
        self.told: dict[str, int] = {}

    def copy(self) -> State:
        """A state to go on from; clients are shared until they are touched."""
        other = State(self.store, self.ledger)
        other.now = self.now
        other.late = self.late
        other.pending = self.pending
        other.clients = dict(self.clients)
        other.wires = dict(self.wires)
        other.told = dict(self.told)
        return other


def state_key(
    state: State, horizon: float, message: Callable[[Message], Hashable]
) -> tuple[Hashable, ...]:
    """All that decides what happens from here on: the store's part first, then the rest."""
    views = state.store.views
    view = views.get(state.now)
    if view is None:
        names = Names()
        of_store = canonical(
            state.store.snapshot, state.now, horizon=horizon, names=names, message=message
        )
        view = views[state.now] = (of_store, names)
    of_store, names = view
    names = names.copy()
    clients = tuple([_client_key(each, names, message) for each in state.clients.values()])
    wires = tuple(
        [
            (
                names.connection(name),
                wire.open,
                tuple([packet_key(each, wire.client_id, names, message) for each in wire.up]),
                tuple([packet_key(each, wire.client_id, names, message) for each in wire.down]),
            )
            for name, wire in sorted(state.wires.items())
        ]
    )
    accounts = _accounts_key(state.ledger, state.now, horizon, names, message)
    pending = None
    if state.pending is not None:

        def seen(moment: Moment) -> Hashable:
            snapshot, ledger = moment.store.snapshot, moment.ledger
            return (
                canonical(snapshot, state.now, horizon=horizon, names=names, message=message),
                _accounts_key(ledger, state.now, horizon, names, message),
                frozenset([message(each) for each in ledger.handed]),
            )

        handed = frozenset([message(each) for each in state.ledger.handed])
        now = Moment(state.store, state.ledger)
        pending = (state.pending.key(now, names, message, seen), handed)
    # what the account says of retained messages, the store says too, or it breaks a rule
    told = tuple(sorted(state.told.items()))
    return (of_store, clients, wires, accounts, told, state.late, pending)


def _accounts_key(
    ledger: Ledger,
    now: float,
    horizon: float,
    names: Names,
    message: Callable[[Message], Hashable],
) -> Hashable:
    return tuple([each.key(now, horizon, names, message) for each in ledger.accounts.values()])


def _client_key(
    client: Client, names: Names, message: Callable[[Message], Hashable]
) -> tuple[Hashable, ...]:
    """What decides what a client does; its cursor of identifiers is left out."""
    sent, received = names.sent(client.client_id), names.received(client.client_id)
    return (
        None if client.connection is None else names.connection(client.connection),
        client.protocol_version,
        client.ready,
        client.clean_start,
        client.must_clean,
        client.interval,
        client.window,
        tuple(
            [
                (number(received, packet_id), None if each is None else message(each))
                for packet_id, each in client.in_flight.items()
            ]
        ),
        tuple([number(sent, packet_id) for packet_id in client.inbound]),
        tuple([number(received, packet_id) for packet_id in client.unsent]),
        tuple(sorted([number(received, packet_id) for packet_id in client.unitless])),
    )
