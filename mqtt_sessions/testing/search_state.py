"""One moment of a small world, and what makes two of them alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from mqtt_sessions.actions import Action, SendPublish, SendPubrel
from mqtt_sessions.events import (
    Event,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
)
from mqtt_sessions.messages import Message
from mqtt_sessions.testing.canonical import Names, canonical, number
from mqtt_sessions.testing.clients import Client
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
    """One moment of a world; never changed once it was made."""

    __slots__ = ("clients", "late", "ledger", "now", "store", "told", "wires")

    def __init__(self, store: Node, ledger: Ledger) -> None:
        self.store = store
        self.ledger = ledger
        self.now = 0.0
        self.late = False
        self.clients: dict[str, Client] = {}
        self.wires: dict[str, Wire] = {}
        self.told: dict[str, int] = {}

    def copy(self) -> State:
        """A state to go on from; clients are shared until they are touched."""
        other = State(self.store, self.ledger)
        other.now = self.now
        other.late = self.late
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
                tuple([_packet_key(each, wire.client_id, names, message) for each in wire.up]),
                tuple([_packet_key(each, wire.client_id, names, message) for each in wire.down]),
            )
            for name, wire in sorted(state.wires.items())
        ]
    )
    accounts = tuple(
        [each.key(state.now, horizon, names, message) for each in state.ledger.accounts.values()]
    )
    # what the account says of retained messages, the store says too, or it breaks a rule
    return (of_store, clients, wires, accounts, tuple(sorted(state.told.items())), state.late)


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


_GIVEN_BY_SERVER = frozenset(
    {SendPublish, SendPubrel, PubackReceived, PubrecReceived, PubcompReceived}
)


def _packet_key(
    packet: Any, client_id: str, names: Names, message: Callable[[Message], Hashable]
) -> tuple[Any, ...]:
    """A packet on its way; its connection is that of the wire."""
    kind: type = type(packet)
    packet_id = getattr(packet, "packet_id", None)
    if packet_id is not None:
        by_server = kind in _GIVEN_BY_SERVER
        given = names.sent(client_id) if by_server else names.received(client_id)
        packet_id = number(given, packet_id)
    delivery = getattr(packet, "delivery", None)
    if delivery is not None:
        told = packet.message_expiry_interval
        return kind, packet_id, message(delivery.message), delivery.qos, packet.dup, told
    if kind is PublishReceived:
        return kind, packet_id, message(packet.message), packet.dup
    return (
        kind,
        packet_id,
        getattr(packet, "reason_code", None),
        getattr(packet, "session_present", None),
        getattr(packet, "receive_maximum", None),
        getattr(packet, "session_expiry_interval", None),
    )
