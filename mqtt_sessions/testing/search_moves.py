"""The steps of a small world: which there are, and what each leads to."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from attrs import evolve

from mqtt_sessions.actions import Action
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    Event,
    MessagePublished,
    PublishReceived,
    SubscriptionsAdded,
)
from mqtt_sessions.messages import Message
from mqtt_sessions.notices import SessionEnded
from mqtt_sessions.testing.clients import Client
from mqtt_sessions.testing.search_crash import account_after_crash, check_remembered
from mqtt_sessions.testing.search_host import Moment, Pending
from mqtt_sessions.testing.search_rules import Ledger
from mqtt_sessions.testing.search_state import State, Wire, state_key
from mqtt_sessions.testing.search_store import StoreGraph
from mqtt_sessions.testing.search_world import Peer, SmallWorld, Step
from mqtt_sessions.turn import Outcome

__all__ = ["Moves"]

Log = Callable[[str, Any], None]
"""Told of everything that is said: an arrow, and the event, action or notice."""


class Moves:
    """The steps of one world."""

    def __init__(self, world: SmallWorld) -> None:
        self.world = world
        self._peers = {peer.client_id: peer for peer in world.peers}
        self._prompt = [peer.client_id for peer in world.peers if peer.prompt]
        self._open = [peer for peer in world.peers if not peer.prompt]
        # no more than there are identifiers, as 65,535 is for both
        window = min(world.limits.maximum_send_window, world.packet_ids)
        self._limits = evolve(world.limits, maximum_send_window=window)
        self.graph = StoreGraph(durable=world.crashes)
        self._numbers: dict[int, int] = {}
        self._by_value: dict[Message, int] = {}
        self._kept: list[Message] = []

    # ------------------------------------------------------------ states

    def start(self, log: Log | None = None) -> State:
        """All clients are connected and subscribed, and nothing is on its way."""
        world = self.world
        state = State(
            self.graph.start(world.policy, self._limits, world.options),
            Ledger(self._peers, world.policy, self._limits, world.packet_ids),
        )
        if world.pipelined:
            state.pending = Pending(Moment(state.store, state.ledger))
        for peer in world.peers:
            state.clients[peer.client_id] = Client(
                peer.client_id, peer.protocol_version, maximum_packet_id=world.packet_ids
            )
        for peer in world.peers:
            state = self.take(state, Step("connect", peer.client_id), log)
            while (step := self.heal(state)) is not None and step.kind != "connect":
                state = self.take(state, step, log)
        return state

    def message(self, message: Message) -> int:
        """A number for a message: quick to compare."""
        known = self._numbers.get(id(message))
        if known is None:
            known = self._by_value.setdefault(message, len(self._by_value))
            self._numbers[id(message)] = known
            self._kept.append(message)  # so that its address is not used again
        return known

    def key(self, state: State) -> tuple[Hashable, ...]:
        """All that decides what happens from here on."""
        return state_key(state, self.world.horizon, self.message)

    def is_quiet(self, state: State) -> bool:
        """Nothing is owed to or by anybody."""
        if state.pending is not None and (state.pending.on_its_way or state.pending.gate.pending):
            return False
        return all(account.is_quiet for account in state.ledger.accounts.values()) and not any(
            client.in_flight or client.inbound for client in state.clients.values()
        )

    # ------------------------------------------------------------ which steps there are

    def steps(self, state: State) -> list[Step]:
        """What can happen next."""
        world, late = self.world, state.late
        steps: list[Step] = []
        if late:
            steps.append(Step("timeout"))
        elif world.clock and state.store.next_at is not None:
            steps.append(Step("clock"))
            if world.late:
                steps.append(Step("late clock"))
        if (
            not late
            and world.tick is not None
            and (state.store.next_at is None or state.now + world.tick < state.store.next_at)
        ):
            steps.append(Step("tick"))
        if state.told.get("", 0) < len(world.messages):
            steps.append(Step("host"))
        for name, wire in state.wires.items():
            self._steps_of_wire(state, name, wire, steps)
        for peer in self._open:
            if state.clients[peer.client_id].connection is None and self._free_name(state, peer):
                steps += [
                    Step("connect", peer.client_id, index) for index in range(len(peer.entries))
                ]
        if world.crashes:
            self._steps_of_host(state, steps)
        return steps

    def _steps_of_host(self, state: State, steps: list[Step]) -> None:
        """It commits, or it dies: with a batch on its way whose fate is unknown."""
        steps.append(Step("crash"))
        pending = state.pending
        if pending is None:
            if self.world.clock and state.store.next_at is not None and not state.late:
                steps.append(Step("long crash"))
        elif pending.on_its_way is not None:
            steps += [Step("crash", "", 1), Step("written")]
        elif pending.gate.pending:
            steps.append(Step("cut a batch"))

    def _steps_of_wire(self, state: State, name: str, wire: Wire, steps: list[Step]) -> None:
        peer = self._peers[wire.client_id]
        if peer.prompt:
            if state.told.get(peer.client_id, 0) < len(peer.messages):
                steps.append(Step("publish", name))
            return
        if wire.up:
            steps.append(Step("arrive", name))
        if not wire.open:
            steps.append(Step("lost", name))
            return
        if wire.down and not state.late:
            steps.append(Step("read", name))
        client = state.clients[peer.client_id]
        if client.ready:
            if state.told.get(peer.client_id, 0) < len(peer.messages) and not state.late:
                steps.append(Step("publish", name))
            if peer.retries and self._has_to_wait(state, name, client):
                steps.append(Step("again", name))
            steps += [Step("leave", name, index) for index in range(len(peer.leavings))]
        if peer.congests:
            congested = state.ledger.accounts[peer.client_id].congested
            steps.append(Step("writable" if congested else "congested", name))
        if peer.cut:
            steps.append(Step("cut", name))
        if peer.abandons and self._free_name(state, peer):
            steps.append(Step("abandon", name))

    def _has_to_wait(self, state: State, name: str, client: Client) -> bool:
        """Nothing is on its way to a client that waits for it, as far as it can tell."""
        wire, pending = state.wires[name], state.pending
        is_quiet = not wire.up and not wire.down
        withheld = 0 if pending is None else pending.gate.waiting
        return is_quiet and withheld < 2 and any(client.in_flight.values())

    def _free_name(self, state: State, peer: Peer) -> str | None:
        """A name for a new connection: an old one may linger beside it, a second may not.

        What waits for a batch lingers too, though its connection be lost.
        """
        waiting = () if state.pending is None else state.pending.waiting
        for name in (peer.client_id + "1", peer.client_id + "2"):
            if name not in state.wires and name not in waiting:
                return name
        return None

    def heal(self, state: State) -> Step | None:
        """The step on the way to rest: no more faults, everybody comes back and reads it all."""
        if state.late:
            return Step("timeout")
        if state.pending is not None:
            if state.pending.on_its_way is not None:
                return Step("written")
            if state.pending.gate.pending:
                return Step("cut a batch")
        for name, wire in state.wires.items():
            if not wire.open:
                return Step("arrive" if wire.up else "lost", name)
        for name, wire in state.wires.items():
            if wire.down:
                return Step("read", name)
            if wire.up:
                return Step("arrive", name)
        for client_id, client in state.clients.items():
            if client.connection is None:
                return Step("connect", client_id)
            if state.ledger.accounts[client_id].congested:
                return Step("writable", str(client.connection))
        return None

    # ------------------------------------------------------------ taking one

    def take(self, state: State, step: Step, log: Log | None = None) -> State:
        """The state behind a step; the same one if there is nothing to be done.

        Raises:
            ServerFault: The store broke a rule.
        """
        run = _Run(self, state.copy(), log)
        if not getattr(self, "_do_" + step.kind.replace(" ", "_"))(run, step):
            return state
        run.carry(self._prompt)
        return run.state

    def _do_timeout(self, run: _Run, step: Step) -> bool:
        run.feed(None)
        return True

    def _do_clock(self, run: _Run, step: Step) -> bool:
        assert run.state.store.next_at is not None
        run.state.now = run.state.store.next_at
        run.feed(None)
        return True

    def _do_late_clock(self, run: _Run, step: Step) -> bool:
        assert run.state.store.next_at is not None
        run.state.now = run.state.store.next_at
        run.state.late = True
        for client_id, account in run.state.ledger.accounts.items():
            if account.expires_at is not None and account.expires_at <= run.state.now:
                run.expire(client_id)
        return True

    def _do_tick(self, run: _Run, step: Step) -> bool:
        assert self.world.tick is not None
        run.state.now += self.world.tick
        return True

    def _do_host(self, run: _Run, step: Step) -> bool:
        run.feed(MessagePublished(self.world.messages[run.next_of("")]))
        return True

    def _do_publish(self, run: _Run, step: Step) -> bool:
        wire = run.state.wires[step.who]
        client_id = wire.client_id
        message = self._peers[client_id].messages[run.state.told.get(client_id, 0)]
        event = run.touch(client_id).publish(message)
        if event is None:
            return False
        run.next_of(client_id)
        run.state.wires[step.who] = wire._replace(up=(*wire.up, event))
        return True

    def _do_again(self, run: _Run, step: Step) -> bool:
        wire = run.state.wires[step.who]
        in_flight = run.state.clients[wire.client_id].in_flight
        again = tuple(
            PublishReceived(step.who, message, packet_id, True)
            for packet_id, message in in_flight.items()
            if message is not None
        )
        run.state.wires[step.who] = wire._replace(up=again)
        return True

    def _do_arrive(self, run: _Run, step: Step) -> bool:
        run.arrive(step.who)
        return True

    def _do_read(self, run: _Run, step: Step) -> bool:
        run.read(step.who)
        return True

    def _do_lost(self, run: _Run, step: Step) -> bool:
        del run.state.wires[step.who]
        run.feed(ConnectionLost(step.who))
        return True

    def _do_cut(self, run: _Run, step: Step) -> bool:
        run.touch(run.state.wires[step.who].client_id).connection_lost()
        return self._do_lost(run, step)

    def _do_cut_a_batch(self, run: _Run, step: Step) -> bool:
        assert run.state.pending is not None
        run.state.pending = run.state.pending.cut(run.moment())
        return True

    def _do_written(self, run: _Run, step: Step) -> bool:
        assert run.state.pending is not None
        ready, run.state.pending = run.state.pending.written(run.moment())
        run.perform(ready, have_waited=True)
        return True

    def _do_long_crash(self, run: _Run, step: Step) -> bool:
        """The server is down until something is due."""
        assert run.state.store.next_at is not None
        run.state.now = run.state.store.next_at
        return self._do_crash(run, step)

    def _do_crash(self, run: _Run, step: Step) -> bool:
        """The process ends, a new one finds the journal, and who is prompt comes back at once."""
        run.crash(batch_is_durable=bool(step.variant))
        for client_id in self._prompt:
            self._do_connect(run, Step("connect", client_id))
        return True

    def _do_congested(self, run: _Run, step: Step) -> bool:
        run.feed(ConnectionCongested(step.who))
        return True

    def _do_writable(self, run: _Run, step: Step) -> bool:
        run.feed(ConnectionWritable(step.who))
        return True

    def _do_abandon(self, run: _Run, step: Step) -> bool:
        """The client's end is gone; what it sent may still arrive."""
        wire = run.state.wires[step.who]
        run.touch(wire.client_id).connection_lost()
        run.state.wires[step.who] = wire._replace(down=(), open=False)
        return True

    def _do_leave(self, run: _Run, step: Step) -> bool:
        wire = run.state.wires[step.who]
        leaving = self._peers[wire.client_id].leavings[step.variant]
        event = run.touch(wire.client_id).disconnect(
            leaving.reason_code, leaving.session_expiry_interval
        )
        run.state.wires[step.who] = wire._replace(up=(*wire.up, event), down=(), open=False)
        return True

    def _do_connect(self, run: _Run, step: Step) -> bool:
        peer = self._peers[step.who]
        name = self._free_name(run.state, peer)
        if name is None:
            return False
        entry = peer.entries[step.variant]
        run.state.wires[name] = Wire(peer.client_id)
        client = run.touch(peer.client_id)
        client.protocol_version = entry.protocol_version or peer.protocol_version
        event: ClientConnected = client.connect(
            name,
            clean_start=entry.clean_start,
            session_expiry_interval=entry.session_expiry_interval,
            receive_maximum=entry.receive_maximum,
            will=entry.will,
        )
        run.feed(event)
        account = run.state.ledger.accounts[peer.client_id]
        if peer.subscriptions and not account.filters:
            run.feed(SubscriptionsAdded(peer.client_id, peer.subscriptions))
        return True


class _Run:
    """One step under way: the state behind it, and the store brought to life if need be."""

    __slots__ = ("log", "moves", "own_ledger", "state")

    def __init__(self, moves: Moves, state: State, log: Log | None) -> None:
        self.moves = moves
        self.state = state
        self.log = log
        self.own_ledger = False

    def carry(self, prompt: list[str]) -> None:
        """Carry the packets of prompt clients until there are none."""
        moving = bool(prompt)
        while moving:
            moving = False
            for name, wire in self.state.wires.items():
                if wire.client_id in prompt and (wire.up or wire.down):
                    if wire.down:
                        self.read(name)
                    else:
                        self.arrive(name)
                    moving = True
                    break

    def ledger(self) -> Ledger:
        """The account, of its own for this state."""
        if not self.own_ledger:
            self.own_ledger = True
            self.state.ledger = self.state.ledger.copy()
        return self.state.ledger

    def touch(self, client_id: str) -> Client:
        """A client of its own for this state."""
        client = self.state.clients[client_id].copy()
        self.state.clients[client_id] = client
        return client

    def expire(self, client_id: str) -> None:
        """A client that is away has a clock of its own [NN-1.12], see `Client.expire`."""
        client = self.state.clients[client_id]
        if client.connection is None and (client.in_flight or client.inbound):
            self.touch(client_id).expire()

    def next_of(self, publisher: str) -> int:
        """Which of its messages this publisher is at; it goes on."""
        index = self.state.told.get(publisher, 0)
        self.state.told[publisher] = index + 1
        return index

    def arrive(self, name: str) -> None:
        wire = self.state.wires[name]
        self.state.wires[name] = wire._replace(up=wire.up[1:])
        self.feed(wire.up[0])

    def read(self, name: str) -> None:
        wire = self.state.wires[name]
        client = self.touch(wire.client_id)
        action = wire.down[0]
        answers = client.receive(action)
        if self.log is not None:
            self.log("reads", action)
        if client.delivered:
            self.ledger().deliver(wire.client_id, client.delivered)
            client.delivered.clear()
        client.discarded.clear()
        still = client.connection == name
        self.state.wires[name] = Wire(
            wire.client_id, (*wire.up, *answers), wire.down[1:] if still else (), still
        )

    def moment(self) -> Moment:
        """Where store and account are; what goes on does so with a copy."""
        self.own_ledger = False
        return Moment(self.state.store, self.state.ledger)

    def crash(self, *, batch_is_durable: bool) -> None:
        """Connections and what is not durable are gone; the store is recovered."""
        state, pending = self.state, self.state.pending
        left = self.moment()
        if pending is not None:
            left = pending.stored
            if batch_is_durable:
                assert pending.on_its_way is not None
                left = pending.on_its_way
            state.pending = Pending(left)
        for client_id, client in state.clients.items():
            if client.connection is not None:
                self.touch(client_id).connection_lost()
        state.wires.clear()
        state.ledger = account_after_crash(left.ledger, state.ledger, state.now)
        self.own_ledger = True
        state.ledger.begin(None, state.now)
        outcomes, state.store = self.moves.graph.recover(left.store, state.now)
        self._settle(outcomes)

    def feed(self, event: Event | None) -> None:
        """Tell the store of an event, None: of nothing but time, and hold it to the rules."""
        if self.log is not None and event is not None:
            self.log("->", event)
        state, ledger = self.state, self.ledger()
        ledger.begin(event, state.now)
        outcomes, state.store = self.moves.graph.go(state.store, event, state.now)
        self._settle(outcomes)

    def _settle(self, outcomes: tuple[Outcome, ...]) -> None:
        """Hold what was done to the rules, and perform it as soon as it may be seen."""
        state = self.state
        state.late = False
        for outcome in outcomes:
            self._observe(outcome)
        state.ledger.settle(state.store.client_ids, state.store.next_at)
        if state.store.disorder is not None:
            raise state.store.disorder
        if state.pending is None:
            for outcome in outcomes:
                self.perform(outcome.actions)
        else:
            ready, state.pending = state.pending.add(outcomes, self.moment())
            self.perform(ready)

    def _observe(self, outcome: Outcome) -> None:
        if self.log is not None:
            for action in outcome.actions:
                self.log(f"<- {getattr(action, 'connection', '')}:", action)
            for notice in outcome.notices:
                self.log("..", notice)
        for notice in outcome.notices:
            if type(notice) is SessionEnded:
                self.expire(notice.client_id)
        self.state.ledger.observe(outcome)

    def perform(self, actions: Iterable[Action], *, have_waited: bool = False) -> None:
        """What may be seen goes on its way; nothing does that a crash would take back."""
        state = self.state
        wires: dict[Any, Wire] = state.wires
        for action in actions:
            connection = action.connection  # type: ignore[union-attr]
            wire = wires.get(connection)
            if wire is None or not wire.open:
                continue
            wires[connection] = wire._replace(down=(*wire.down, action))
            if state.pending is not None:
                client = state.clients[wire.client_id]
                stored = state.pending.stored
                check_remembered(
                    action,
                    client,
                    state.clients.values(),
                    stored.store.rows,
                    state.store.rows,
                    stored.ledger,
                    state.ledger,
                    has_waited=have_waited,
                )
