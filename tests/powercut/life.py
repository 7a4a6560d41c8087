"""The life of a store on a disk whose power is cut again and again, under an oracle.

Clients of all sorts do what clients do, in any order; a host commits and sends; and then the power
goes, at any operation of the disk or between two steps. What is there afterwards is held against
what anybody was told, by looking at it, and by letting everybody finish what they had begun.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from mqtt_sessions import (
    Action,
    CommitGate,
    ConnectionLost,
    Delivery,
    Event,
    ExpiryPolicy,
    HeartbeatPassed,
    Message,
    MessageDropped,
    MessagePublished,
    Outcome,
    PublishReceived,
    ReasonCode,
    ServerOptions,
    SessionKicked,
    SessionLimits,
    SessionStore,
    Will,
    WillPublished,
)
from mqtt_sessions.journals import JournalError, JournalUnusable, SQLiteJournal
from tests.powercut.clients import NEVER, Client, Link
from tests.powercut.disk import Disk, PowerCut
from tests.powercut.hosts import Host, PipeliningHost, SimpleHost
from tests.powercut.ledger import Ledger, Record, Violated
from tests.powercut.vfs import Drive

__all__ = ["Life"]

TOPICS = ("t", "t/x", "u")
FILTERS = ("t", "t/+", "t/#", "#", "u")
LONGEST_DELAY = 20
LONGEST_PAUSE = 30.0

MakeGate = Callable[[], CommitGate]


class Life:
    """One database, its clients and its cuts.

    Args:
        seed: Decides everything.
        directory: An empty one.
        gate: Of hosts that pipeline; None: the host may also be a simple one.
        synchronous: SQLite's pragma, if not what the journal sets.

    Attributes:
        cuts: How often the power went.
        cuts_in_an_operation: How often in the middle of a write, say.
    """

    def __init__(
        self,
        seed: int,
        directory: Path,
        *,
        gate: MakeGate | None = None,
        synchronous: str | None = None,
    ) -> None:
        chance = self.chance = random.Random(seed)
        self.seed = seed
        self.cuts = 0
        self.cuts_in_an_operation = 0
        self.ledger = Ledger()
        self._gate = gate
        self._synchronous = synchronous
        self._directory = directory
        self.disk = Disk(
            directory,
            random.Random(seed + 1),
            sector_size=chance.choice((512, 4096)),
            powersafe_overwrite=chance.random() < 0.7,
        )
        self.drive = Drive(self.disk)
        self.now = 0.0
        self.limits = SessionLimits(
            maximum_queued_messages=chance.choice((1000, 1000, 8)),
            retained_replay_batch=chance.choice((1, 100)),
            maximum_send_window=chance.choice((2, 32)),
        )
        self.clients = [
            Client(name, version, self.ledger, self.feed)
            for name, version in (("watcher", 5), ("a", 5), ("b", 5), ("c", 4), ("d", 3))
        ]
        self._links: dict[int, Link] = {}
        self._lost: list[Link] = []
        self._number = 0
        self.journal: SQLiteJournal
        self.store: SessionStore
        self.host: Host

    # ------------------------------------------------------------ cuts

    def run(self, cuts: int) -> None:
        """Let the power go so many times.

        Raises:
            Violated: Somebody was told what is not so; the account of it is a note of the error.
        """
        try:
            while self.cuts < cuts:
                self._live()
            self._start()
            self._drain()
            self._stop()
        except Exception as error:
            error.add_note(self._account())
            raise
        finally:
            if hasattr(self, "journal"):
                self.disk.cut()
                self.journal.close()
            self.drive.close()

    def _account(self) -> str:
        lines = [f"seed {self.seed}, after {self.cuts} cuts; what happened before:"]
        return "\n    ".join(lines + self.ledger.lines[-150:])

    def _live(self) -> None:
        """From one cut to the next."""
        chance = self.chance
        try:
            if chance.random() < 0.2:
                self.disk.cut_after(chance.randint(1, 40))
            self._start()
            if chance.random() < 0.4:
                self._drain()
            if chance.random() < 0.6:
                self.disk.cut_after(int(chance.expovariate(1 / 60)) + 1)
            for _ in range(chance.randint(20, 160)):
                self._step()
            if chance.random() < 0.1:
                self._stop()
        except PowerCut:
            pass
        except JournalError as error:
            if not self.disk.is_cut:
                raise Violated("journal failed", str(error)) from error
        self._cut()

    def _cut(self) -> None:
        self.cuts_in_an_operation += self.disk.is_cut
        self.disk.cut()
        if hasattr(self, "journal"):
            self.journal.close()
        self.disk.restart()
        self.cuts += 1
        self._pass(self.now)
        for client in self.clients:
            if client.link is not None:
                client.unlink(server_knows=True)
        self._links.clear()
        self._lost.clear()
        self.ledger.note(f"- - - power cut {self.cuts} - - -")

    def _start(self) -> None:
        """Open the journal, recover, and look whether everything is there."""
        try:
            journal = self.journal = self.drive.open()
            rows = list(journal.load())
        except JournalUnusable as error:
            raise Violated("unreadable", str(error)) from error
        self._configure(journal)
        self._pass(self.now + self.chance.choice((0.1, 0.1, 1.0, LONGEST_PAUSE)))
        recovered = SessionStore.recover(
            rows, self.now, ExpiryPolicy(), self.limits, ServerOptions()
        )
        if journal.quarantined or recovered.set_aside:
            raise Violated("unreadable", f"{journal.quarantined} {recovered.set_aside}")
        self.store = recovered.store
        self.store.check()
        for client in self.clients:
            client.check(self.store.get(client.name))
        self.ledger.check_retained(self.store.retained())
        self.host = self._new_host(journal)
        self._tick()

    def _configure(self, journal: SQLiteJournal) -> None:
        """Let logs be moved and shortened soon, and control tests break what they want broken."""
        journal._work_until_checkpoint = self.chance.randint(10, 150)
        execute = journal._connection.execute
        (verdict,) = execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise Violated("unreadable", verdict)
        execute(f"PRAGMA journal_size_limit = {self.chance.choice((0, 100_000))}").fetchall()
        if self._synchronous is not None:
            execute(f"PRAGMA synchronous = {self._synchronous}").fetchall()

    def _new_host(self, journal: SQLiteJournal) -> Host:
        if self._gate is not None:
            return PipeliningHost(journal, self._perform, self._gate())
        if self.chance.random() < 0.3:
            return SimpleHost(journal, self._perform)
        gate = CommitGate(qos1_waits=self.chance.random() < 0.3)
        return PipeliningHost(journal, self._perform, gate)

    def _stop(self) -> None:
        """The host ends as it should, and another SQLite can read what it leaves."""
        self.host.flush()
        self.journal.close()
        if self.disk.is_cut:
            return
        copy = self._directory.with_name(self._directory.name + " copy")
        shutil.copytree(self._directory, copy)
        journal = SQLiteJournal(copy / self.drive.path.name, read_only=True)
        try:
            list(journal.load())
            assert journal.quarantined == ()
        finally:
            journal.close()
            shutil.rmtree(copy)

    # ------------------------------------------------------------ between store, host and clients

    def _pass(self, now: float) -> None:
        self.now = now
        for client in self.clients:
            client.at(now)

    def feed(self, event: Event) -> None:
        """Something happens, and nothing ever at the same instant as something else."""
        self._pass(self.now + 0.001)
        self.ledger.note(f"{self.now:.3f} {_told(event)}")
        if isinstance(event, PublishReceived | MessagePublished):
            self._routed(self.ledger.of(event.message))
        self._take(self.store.handle(event, self.now))

    def _tick(self) -> None:
        self._take(self.store.handle_timeout(self.now))

    def _routed(self, record: Record) -> None:
        topic_name, qos = record.message.topic_name, record.message.qos
        self.ledger.routed(
            record,
            [each.name for each in self.clients if each.surely_gets(topic_name, qos)],
            [each.name for each in self.clients if each.may_get(topic_name)],
        )

    def _take(self, outcome: Outcome) -> None:
        for notice in outcome.notices:
            if isinstance(notice, MessageDropped):
                record = self.ledger.of(notice.delivery.message)
                self.ledger.note(
                    f"        {notice.client_id} loses {record}: {notice.reason.value}"
                )
                self.ledger.excused(notice.client_id, record)
            elif isinstance(notice, WillPublished):
                record = self.ledger.of(notice.message)
                self.ledger.note(f"        {record} is published")
                self._routed(record)
        self.host.add(outcome)

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            assert not hasattr(action, "route_id")
            link = self._links.get(action.connection)  # type: ignore[union-attr, arg-type]
            if link is None or link.client.link is not link:
                self.ledger.note(f"        into the void: {_told(action)}")
                continue
            self.ledger.note(f"        {link.client.name} gets {_told(action)}")
            link.client.receive(link, action)
            if link.client.link is None:
                self._lost.append(link)

    # ------------------------------------------------------------ steps

    def _step(self) -> None:
        chance = self.chance
        client = chance.choice(self.clients)
        (step,) = chance.choices(_STEPS, _WEIGHTS)
        step(self, client)

    def connect(self, client: Client) -> None:
        """CONNECT, also where a connection is open; what was begun is repeated, at once or not."""
        if client.link is not None and self.chance.random() < 0.7:
            return
        self._connect(client, easy=False)
        if self.chance.random() < 0.6:
            client.repeat()

    def _connect(self, client: Client, *, easy: bool) -> None:
        chance = self.chance
        self.lose(client)
        is_watcher = client.name == "watcher"
        will = None
        if not easy and chance.random() < 0.3:
            will = self.ledger.new(
                chance.choice(TOPICS),
                chance.randrange(3),
                retain=chance.random() < 0.3,
                is_will=True,
            )
        self._number += 1
        link = Link(self._number, client, self.now)
        self._links[self._number] = link
        client.connect(
            link,
            clean=not (easy or is_watcher) and chance.random() < 0.15,
            expiry=NEVER if is_watcher else chance.choice((0, 5, 60, NEVER, NEVER)),
            will=will,
            delay=chance.choice((0, 0, 3, LONGEST_DELAY)),
            receive_maximum=chance.choice((1, 3, None)),
        )

    def lose(self, client: Client) -> None:
        """A client gives its connection up; the store does not know yet."""
        link = client.link
        if link is not None:
            client.unlink(server_knows=False)
            self._lost.append(link)

    def report(self, client: Client) -> None:
        """The store learns that a connection is lost."""
        if self._lost:
            link = self._lost.pop(self.chance.randrange(len(self._lost)))
            self.feed(ConnectionLost(link.number))
            link.client.told_lost(link)

    def disconnect(self, client: Client) -> None:
        """DISCONNECT."""
        link = client.link
        if link is None or not link.is_accepted or link.is_ending:
            return
        expiry = None
        if client.version == 5 and link.expiry != 0 and client.name != "watcher":
            expiry = self.chance.choice((None, None, 0, 7))
        code = ReasonCode.SUCCESS
        if client.version == 5 and self.chance.random() < 0.3:
            code = ReasonCode.DISCONNECT_WITH_WILL_MESSAGE
        client.disconnect(code, expiry)

    def subscribe(self, client: Client) -> None:
        """SUBSCRIBE."""
        if not client.can_send:
            return
        if client.name == "watcher":
            client.subscribe("#", 2, 0)
        else:
            chance = self.chance
            client.subscribe(chance.choice(FILTERS), chance.randrange(3), chance.randrange(3))

    def unsubscribe(self, client: Client) -> None:
        """UNSUBSCRIBE."""
        if client.can_send and client.name != "watcher":
            client.unsubscribe(self.chance.choice(FILTERS))

    def _message(self) -> Record:
        chance = self.chance
        retain = chance.random() < 0.25
        return self.ledger.new(
            chance.choice(TOPICS),
            chance.choice((0, 1, 1, 2, 2)),
            retain=retain,
            size=0 if retain and chance.random() < 0.2 else chance.choice((5, 5, 5, 100, 9000)),
            expiry=chance.choice((2, 40)) if chance.random() < 0.1 else None,
        )

    def publish(self, client: Client) -> None:
        """PUBLISH, now and then without having waited for CONNACK."""
        link = client.link
        if (
            link is not None
            and client.can_publish
            and (link.is_accepted or self.chance.random() < 0.1)
        ):
            client.publish(self._message())

    def repeat(self, client: Client) -> None:
        """What is not acknowledged is sent again, if that was not done over this connection."""
        client.repeat()

    def reply(self, client: Client) -> None:
        """A client answers something, or everything."""
        all_of_it = self.chance.random() < 0.3
        while client.reply() and all_of_it:
            pass

    def host_publishes(self, client: Client) -> None:
        """A message that nobody is promised."""
        self.feed(MessagePublished(self._message().message))

    def kick(self, client: Client) -> None:
        """The host closes a connection."""
        if client.name in self.store and self.chance.random() < 0.5:
            client.stopped()
            self.feed(SessionKicked(client.name))
        else:
            self.feed(HeartbeatPassed())

    def wait(self, client: Client) -> None:
        """Time passes."""
        self._pass(self.now + self.chance.choice((0.5, 0.5, 1.0, 4.0, LONGEST_PAUSE)))
        self._tick()

    def ring(self, client: Client) -> None:
        """What is due is done, some of it."""
        self._take(self.store.handle_timeout(self.now, 1))

    def work(self, client: Client) -> None:
        """The host gets on."""
        self.host.work(self.chance)

    def flush(self, client: Client) -> None:
        """The host gets on until nothing waits."""
        self.host.flush()

    # ------------------------------------------------------------ the end

    def _drain(self) -> None:
        """Everybody finishes what was begun, and nothing that was promised may be missing."""
        self.ledger.note("- - - everybody finishes - - -")
        self.host.flush()
        while self._lost:
            self.report(self.clients[0])
        if all(client.link is None for client in self.clients):
            self._pass(self.now + LONGEST_DELAY + LONGEST_PAUSE)
            self._tick()
            for client in self.clients:
                client.will_is_due()
        for client in self.clients:
            self._connect(client, easy=True)
        self.host.flush()
        for _ in range(1000):
            before = self._number, len(self.ledger.lines)
            for client in self.clients:
                client.repeat()
                while client.reply():
                    pass
            self.host.flush()
            while self._lost:
                self.report(self.clients[0])
            self._tick()
            self.host.flush()
            if before == (self._number, len(self.ledger.lines)):
                break
        else:
            raise Violated("never ends", "packets go to and fro for ever")
        for client in self.clients:
            if client.link is None or client.sendings or client.held or client.releases:
                raise Violated("stuck", f"{client.name} waits for an answer for ever")
        self.ledger.settle()


def _told(thing: Event | Action) -> str:
    """Only what is not as it mostly is."""
    fields = []
    for field in attrs.fields(type(thing)):
        value = getattr(thing, field.name)
        if isinstance(value, Will):
            value = f"will {(value.message.correlation_data or b'').decode()}"
        elif isinstance(value, Delivery):
            value = f"{(value.message.correlation_data or b'').decode()} at QoS {value.qos}"
        elif isinstance(value, Message):
            retain = " retained" if value.retain else ""
            name = (value.correlation_data or b"").decode()
            value = f"{name} to {value.topic_name} at QoS {value.qos}{retain}"
        if field.default is attrs.NOTHING or value != field.default:
            fields.append(f"{field.name}={value}")
    return f"{type(thing).__name__} {', '.join(fields)}"


_CHOICES: dict[Callable[[Life, Client], None], int] = {
    Life.connect: 14,
    Life.lose: 5,
    Life.report: 5,
    Life.disconnect: 2,
    Life.subscribe: 6,
    Life.unsubscribe: 2,
    Life.publish: 25,
    Life.repeat: 4,
    Life.reply: 25,
    Life.host_publishes: 2,
    Life.kick: 1,
    Life.wait: 3,
    Life.ring: 6,
    Life.work: 12,
    Life.flush: 1,
}
_STEPS = list(_CHOICES)
_WEIGHTS = list(_CHOICES.values())
