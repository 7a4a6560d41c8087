"""From the rows of a journal to a summary, in one pass that keeps no message."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal, assert_never

from mqtt_sessions._values import value
from mqtt_sessions.changes import (
    DeliveryStored,
    EpochStored,
    ExchangeStored,
    IdsReserved,
    InboundIdStored,
    MessageStored,
    ReplayStored,
    RetainedStored,
    SessionStored,
    Stored,
    SubscriptionStored,
    WillStored,
    row_of,
)
from mqtt_sessions.journals import Quarantined
from mqtt_sessions.topics import is_valid_filter, is_valid_topic

__all__ = [
    "Books",
    "Due",
    "Runs",
    "SessionSummary",
    "State",
    "Summary",
    "Totals",
    "finite",
    "summarize",
]


State = Literal["connected", "cut", "parked"]


@value
class Due:
    """When something ends; with neither an instant nor a delay: never.

    Attributes:
        at: The instant.
        after_start: Seconds after the next start, for what begins to run out when its connection
            is found to be cut.
    """

    at: float | None = None
    after_start: float | None = None


@value
class Runs:
    """The runs of the store, from one recovery to the next.

    Attributes:
        last: Number of the last one that left a row; 0: there was none.
        started_at: When it began; None, as the next: its own row is lost.
        alive_at: The last instant at which it is known to have run.
    """

    last: int
    started_at: float | None
    alive_at: float | None


@value
class SessionSummary:
    """One session, in figures.

    Attributes:
        client_id: Whose.
        session_id: Its incarnation.
        epoch: The run in which it was last connected or parked.
        state: `connected`: it had a connection when the file was last written; `cut`: that one was
            of a run that another one has followed.
        protocol_version: Of its latest connection.
        principal: Whom it is bound to.
        expiry_interval: Seconds that it outlives its connection; None: it never ends.
        expires: When it ends.
        subscriptions: In force.
        queued: Messages that wait; those of QoS 1 in flight wait again after a restart.
        in_flight: QoS 2 messages that were sent and not yet received [PUBREC].
        releasing: QoS 2 messages that were received and not yet released [PUBCOMP].
        abandoned: QoS 2 identifiers whose message was given up as too large.
        inbound: Incoming QoS 2 identifiers that are held.
        message_bytes: Payloads of what is queued or in flight.
        replays: Filters whose retained messages are still to be sent.
        will_due: When its will is published; None: it has none.
    """

    client_id: str
    session_id: int
    epoch: int
    state: State
    protocol_version: int
    principal: str | None
    expiry_interval: float | None
    expires: Due
    subscriptions: int
    queued: int
    in_flight: int
    releasing: int
    abandoned: int
    inbound: int
    message_bytes: int
    replays: int
    will_due: Due | None


@value
class Totals:
    """All sessions together, and what belongs to none.

    Attributes:
        sessions: All.
        connected: By `SessionSummary.state`, as the next two.
        cut: The same.
        parked: The same.
        expired: Sessions that were to end before now, and do at the next start.
        subscriptions: In force.
        queued: Copies that wait.
        expired_messages: Copies, queued or in flight, whose lifetime is over.
        in_flight: See `SessionSummary`, as for the next three.
        releasing: The same.
        abandoned: The same.
        inbound: The same.
        replays: Filters whose retained messages are still to be sent.
        wills: Of sessions, and of clients whose session ended with its connection.
        retained: Retained messages.
        messages: Messages that wait or are in flight; one with several copies counts once.
        shared_messages: Those of them that are stored once for several copies.
        message_bytes: Payloads of `messages`.
        retained_bytes: Payloads of retained messages.
        will_bytes: Payloads of wills.
    """

    sessions: int
    connected: int
    cut: int
    parked: int
    expired: int
    subscriptions: int
    queued: int
    expired_messages: int
    in_flight: int
    releasing: int
    abandoned: int
    inbound: int
    replays: int
    wills: int
    retained: int
    messages: int
    shared_messages: int
    message_bytes: int
    retained_bytes: int
    will_bytes: int


@value
class Summary:
    """A journal at an instant.

    Attributes:
        now: The instant.
        runs: Of the store.
        totals: Over all sessions, those that are not shown included.
        sessions: The first ones by client id.
        set_aside: Rows that can be read and have no effect, as `SessionStore.recover` finds them.
    """

    now: float
    runs: Runs
    totals: Totals
    sessions: tuple[SessionSummary, ...]
    set_aside: tuple[Quarantined, ...]


def summarize(rows: Iterable[Stored], now: float, limit: int | None = None) -> Summary:
    """What the rows come to.

    Args:
        rows: As `Journal.load` gives them.
        now: On the scale of the broker's clock.
        limit: How many sessions to show; None: all.

    *Cost* O(rows + sessions * log(limit)); it holds a few figures for each session and for each
    will, and no message.
    """
    books = Books(now)
    for row in rows:
        books.take(row)
    return books.summary(limit)


def finite(number: float | None) -> float | None:
    """An instant or an interval; one that is beyond all numbers is none."""
    return number if number is not None and math.isfinite(number) else None


class _Tally:
    """The figures of one session."""

    __slots__ = (
        "abandoned",
        "copies",
        "in_flight",
        "inbound",
        "message_bytes",
        "releasing",
        "replays",
        "row",
        "subscriptions",
    )

    def __init__(self, row: SessionStored) -> None:
        self.row = row
        self.subscriptions = 0
        self.copies = 0
        self.message_bytes = 0
        self.in_flight = 0
        self.releasing = 0
        self.abandoned = 0
        self.inbound = 0
        self.replays = 0


class Books:
    """All figures, row by row; each row comes behind those that it names."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.epochs: dict[int, EpochStored] = {}
        self.cuts: dict[int, float | None] = {}
        self.sessions: dict[int, _Tally] = {}
        self.wills: dict[str, tuple[float | None, int, int]] = {}
        self.will_bytes = 0
        self.retained = 0
        self.retained_bytes = 0
        self.messages = 0
        self.shared_messages = 0
        self.message_bytes = 0
        self.expired_messages = 0
        self.set_aside: list[Quarantined] = []

    def take(self, row: Stored) -> None:
        match row:
            case DeliveryStored():
                self._delivery(row)
            case MessageStored():
                self.messages += 1
                self.shared_messages += 1
                self.message_bytes += len(row.message.payload)
            case SessionStored():
                self.sessions[row.session_id] = _Tally(row)
            case SubscriptionStored() | InboundIdStored() | ReplayStored() | ExchangeStored():
                self._of_session(row)
            case WillStored():
                delay = row.will.will_delay_interval
                self.wills[row.client_id] = (finite(row.due_at), delay, row.epoch)
                self.will_bytes += len(row.will.message.payload)
            case RetainedStored():
                if is_valid_topic(row.message.topic_name) and row.message.payload:
                    self.retained += 1
                    self.retained_bytes += len(row.message.payload)
                else:
                    self._set_aside(row, "no message that can be retained")
            case EpochStored():
                self.epochs[row.epoch] = row
            case IdsReserved():
                pass
            case _:
                assert_never(row)

    def _delivery(self, row: DeliveryStored) -> None:
        tally = self.sessions.get(row.session_id)
        if tally is None:
            self._set_aside(row, "there is no such session")
            return
        delivery = row.delivery
        size = len(delivery.message.payload)
        tally.copies += 1
        tally.message_bytes += size
        if row.message_id is None:
            self.messages += 1
            self.message_bytes += size
        if delivery.expires_at is not None and delivery.expires_at <= self.now:
            self.expired_messages += 1

    def _of_session(
        self, row: SubscriptionStored | InboundIdStored | ReplayStored | ExchangeStored
    ) -> None:
        tally = self.sessions.get(row.session_id)
        if tally is None:
            self._set_aside(row, "there is no such session")
        elif isinstance(row, SubscriptionStored):
            if is_valid_filter(row.subscription.topic_filter):
                tally.subscriptions += 1
            else:
                self._set_aside(row, "no topic filter")
        elif isinstance(row, InboundIdStored):
            tally.inbound += 1
        elif isinstance(row, ReplayStored):
            tally.replays = len(row.replay.cursors)
        elif row.delivery_id is not None:
            tally.in_flight += 1
        elif row.is_abandoned:
            tally.abandoned += 1
        else:
            tally.releasing += 1

    def _set_aside(self, row: Stored, reason: str) -> None:
        table, *key = row_of(row)
        self.set_aside.append(Quarantined(str(table), ", ".join(map(repr, key)), reason))

    # ---------------------------------------------------------------- what it comes to

    def summary(self, limit: int | None) -> Summary:
        tallies = self.sessions.values()
        ends = [self._expires(tally.row).at for tally in tallies]
        states = Counter(self._state(tally.row) for tally in tallies)
        in_flight = sum(tally.in_flight for tally in tallies)
        totals = Totals(
            sessions=len(tallies),
            connected=states["connected"],
            cut=states["cut"],
            parked=states["parked"],
            expired=sum(at is not None and at <= self.now for at in ends),
            subscriptions=sum(tally.subscriptions for tally in tallies),
            queued=sum(tally.copies for tally in tallies) - in_flight,
            expired_messages=self.expired_messages,
            in_flight=in_flight,
            releasing=sum(tally.releasing for tally in tallies),
            abandoned=sum(tally.abandoned for tally in tallies),
            inbound=sum(tally.inbound for tally in tallies),
            replays=sum(tally.replays for tally in tallies),
            wills=len(self.wills),
            retained=self.retained,
            messages=self.messages,
            shared_messages=self.shared_messages,
            message_bytes=self.message_bytes,
            retained_bytes=self.retained_bytes,
            will_bytes=self.will_bytes,
        )
        shown = heapq.nsmallest(
            len(tallies) if limit is None else limit, tallies, lambda tally: tally.row.client_id
        )
        return Summary(
            self.now,
            self._runs(),
            totals,
            tuple([self._session(tally) for tally in shown]),
            tuple(self.set_aside),
        )

    def _runs(self) -> Runs:
        named = {tally.row.epoch for tally in self.sessions.values()}
        named.update(epoch for _, _, epoch in self.wills.values())
        last = max({0, *self.epochs, *named})
        row = self.epochs.get(last)
        if row is None:
            return Runs(last, None, None)
        return Runs(last, finite(row.started_at), finite(row.alive_at))

    def _session(self, tally: _Tally) -> SessionSummary:
        row = tally.row
        expires = self._expires(row)
        return SessionSummary(
            row.client_id,
            row.session_id,
            row.epoch,
            self._state(row),
            row.protocol_version,
            row.principal,
            finite(row.expiry_interval),
            expires,
            tally.subscriptions,
            tally.copies - tally.in_flight,
            tally.in_flight,
            tally.releasing,
            tally.abandoned,
            tally.inbound,
            tally.message_bytes,
            tally.replays,
            self.will_due(row.client_id, expires),
        )

    def _cut_at(self, epoch: int) -> float | None:
        """When the connections of a run were found to be cut; None: at the next start.

        Never later than now, though the clock may have been set back.
        """
        if epoch not in self.cuts:
            later = [each.started_at for each in self.epochs.values() if each.epoch > epoch]
            self.cuts[epoch] = min(*later, self.now) if later else None
        return self.cuts[epoch]

    def _state(self, row: SessionStored) -> State:
        if not row.connected:
            return "parked"
        return "connected" if self._cut_at(row.epoch) is None else "cut"

    def _expires(self, row: SessionStored) -> Due:
        if row.expiry_interval is None:
            return Due()
        if row.connected or row.expires_at is None:
            return self._from_cut(row.epoch, row.expiry_interval)
        return Due(finite(row.expires_at))

    def will_due(self, client_id: str, expires: Due | None) -> Due | None:
        """When a will is published; its delay ends with the session at the latest.

        Args:
            client_id: Whose.
            expires: When the client's session ends; None: it has none, and nothing is waited for.
        """
        if client_id not in self.wills:
            return None
        due_at, delay, epoch = self.wills[client_id]
        if expires is None:
            return self._from_cut(epoch, 0)
        due = self._from_cut(epoch, delay) if due_at is None else Due(due_at)
        if due.at is not None and expires.at is not None:
            return Due(min(due.at, expires.at))
        if due.after_start is not None and expires.after_start is not None:
            return Due(None, min(due.after_start, expires.after_start))
        return due

    def _from_cut(self, epoch: int, interval: float) -> Due:
        cut_at = self._cut_at(epoch)
        return Due(None, finite(interval)) if cut_at is None else Due(finite(cut_at + interval))
