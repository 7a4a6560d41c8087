"""From the rows of a journal to what sessions held: the state after a crash.

What is not durable is gone: connections, and sessions that end with them. A session that was
connected was cut; a QoS 1 message in flight waits again, at the head of the queue, and so is sent
under a new identifier with DUP 0.

Spec: MQTT 5.0 §4.1 [NN-1.7], §3.1.2.5 [NN-4.5].
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Never

from mqtt_sessions._values import value
from mqtt_sessions.changes import (
    LARGEST_ID,
    DeliveryStored,
    EpochStored,
    ExchangeStored,
    IdsReserved,
    InboundIdStored,
    MessageStored,
    ReplayStored,
    RetainedStored,
    Row,
    SessionStored,
    Stored,
    SubscriptionStored,
    WillStored,
    row_of,
)
from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.messages import Delivery, Will
from mqtt_sessions.packet_ids import MAX_PACKET_ID
from mqtt_sessions.rows import Body
from mqtt_sessions.snapshots import (
    ReplaySnapshot,
    RetainedSnapshot,
    RowsSnapshot,
    SessionContents,
)
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.topics import is_valid_filter, is_valid_topic
from mqtt_sessions.turn import Settings

__all__ = ["RowSetAside", "SavedSession", "SavedState", "ghost"]

_INF = float("inf")
_NO_ID = "no identifier that was ever given out"


@value
class RowSetAside:
    """A row that makes no sense beside the others; it stays in the journal and has no effect.

    Attributes:
        row: Which one.
        reason: What is wrong with it.
    """

    row: Row
    reason: str


def _no_row(given: Never) -> InvalidValue:
    return InvalidValue(f"rows hold {type(given).__name__}, which is no Stored")


class SavedSession:
    """The rows of one session.

    Deliveries and their identifiers stand side by side: there are so many that an object more for
    each would be felt.
    """

    __slots__ = (
        "deliveries",
        "delivery_ids",
        "exchanges",
        "inbound",
        "is_sorted",
        "message_ids",
        "replay",
        "row",
        "subscriptions",
        "will",
    )

    def __init__(self, row: SessionStored) -> None:
        self.row = row
        self.subscriptions: dict[str, Subscription] = {}
        self.deliveries: list[Delivery] = []
        self.delivery_ids = array("q")
        self.message_ids: dict[int, int] = {}
        self.is_sorted = True
        self.exchanges: list[ExchangeStored] = []
        self.inbound: dict[int, float | None] = {}
        self.replay: ReplaySnapshot | None = None
        self.will: WillStored | None = None

    def sort(self) -> None:
        """By arrival, and then by the order in which copies were made."""
        pairs = sorted(
            zip(self.delivery_ids, self.deliveries, strict=True),
            key=lambda each: (each[1].received_at, each[0]),
        )
        self.delivery_ids = array("q", [delivery_id for delivery_id, _ in pairs])
        self.deliveries = [delivery for _, delivery in pairs]
        self.is_sorted = True

    def split(self) -> tuple[Sequence[int], Sequence[Delivery], dict[int, Delivery]]:
        """What waits, oldest first, by identifiers and by itself; and what an exchange has sent."""
        if not self.exchanges:
            return self.delivery_ids, self.deliveries, {}
        named = {each.delivery_id for each in self.exchanges}
        pairs = list(zip(self.delivery_ids, self.deliveries, strict=True))
        waiting = [each for each in pairs if each[0] not in named]
        return (
            [delivery_id for delivery_id, _ in waiting],
            [delivery for _, delivery in waiting],
            {delivery_id: delivery for delivery_id, delivery in pairs if delivery_id in named},
        )


class SavedState:
    """All rows, sorted by what they belong to.

    Attributes:
        sessions: By session_id.
        wills: Of clients whose session ended with its connection.
        retained: By topic.
        epochs: Runs before this one.
        next_id: No row identifier from here on was given out.
        arrived_at: The latest arrival of a message.
        bodies: Messages that deliveries may refer to.
        set_aside: Rows that make no sense.
    """

    def __init__(self, rows: Iterable[Stored]) -> None:
        self.sessions: dict[int, SavedSession] = {}
        self.wills: dict[str, WillStored] = {}
        self.retained: dict[str, RetainedStored] = {}
        self.epochs: dict[int, EpochStored] = {}
        self.next_id = 1
        self.arrived_at = -_INF
        self.bodies: dict[int, Body] = {}
        self.set_aside: list[RowSetAside] = []
        if not isinstance(rows, Iterable):
            raise InvalidValue(
                f"rows must be what a journal's load() gives, not {type(rows).__name__}"
            )
        self._take(rows)
        self._check_exchanges()
        self._join_wills()

    def _take(self, rows: Iterable[Stored]) -> None:
        """*Cost* O(rows)."""
        sessions = self.sessions
        behind: list[Stored] = []
        last_id, arrived_at = 0, -_INF
        for row in rows:
            if isinstance(row, DeliveryStored):
                saved = sessions.get(row.session_id)
                delivery, delivery_id = row.delivery, row.delivery_id
                if (
                    saved is None
                    or not 0 < delivery_id <= LARGEST_ID
                    or not is_valid_topic(delivery.message.topic_name)
                ):
                    behind.append(row)
                    continue
                saved.deliveries.append(delivery)
                saved.delivery_ids.append(delivery_id)
                if delivery_id < last_id or delivery.received_at < arrived_at:
                    saved.is_sorted = False
                else:
                    last_id, arrived_at = delivery_id, delivery.received_at
                if row.message_id is not None:
                    saved.message_ids[delivery_id] = row.message_id
            elif isinstance(row, SubscriptionStored):
                saved = sessions.get(row.session_id)
                if saved is None or not is_valid_filter(row.subscription.topic_filter):
                    behind.append(row)
                else:
                    saved.subscriptions[row.subscription.topic_filter] = row.subscription
            else:
                self._take_other(row, behind)
        for row in behind:  # no order is relied on: their session may have come later
            self._take_late(row)
        for saved in sessions.values():
            if not saved.is_sorted:
                saved.sort()
                last_id = max(last_id, *saved.delivery_ids)
                arrived_at = max(arrived_at, saved.deliveries[-1].received_at)
        self.next_id = max(self.next_id, last_id + 1)
        self.arrived_at = max(self.arrived_at, arrived_at)

    def _take_other(self, row: Stored, behind: list[Stored]) -> None:
        match row:
            case SessionStored():
                if row.expiry_interval is not None and not 0 < row.expiry_interval < _INF:
                    self._set_aside(row, "it ends with its connection, or at no instant")
                    return
                if not 0 < row.session_id <= LARGEST_ID:
                    self._set_aside(row, _NO_ID)
                    return
                self.sessions[row.session_id] = SavedSession(row)
                self.next_id = max(self.next_id, row.session_id + 1)
            case MessageStored():
                if not 0 < row.message_id <= LARGEST_ID:
                    self._set_aside(row, _NO_ID)
                    return
                self.bodies[row.message_id] = Body(row.message_id)
                self.next_id = max(self.next_id, row.message_id + 1)
            case RetainedStored():
                if not is_valid_topic(row.message.topic_name) or not row.message.payload:
                    self._set_aside(row, "no message that can be retained")
                    return
                self.retained[row.message.topic_name] = row
                self.arrived_at = max(self.arrived_at, row.received_at)
            case WillStored():
                if not is_valid_topic(row.will.message.topic_name):
                    self._set_aside(row, "no topic name")
                    return
                self.wills[row.client_id] = row
            case EpochStored():
                self.epochs[row.epoch] = row
            case IdsReserved():
                self.next_id = max(self.next_id, row.below)
            case InboundIdStored() | ReplayStored() | ExchangeStored():
                behind.append(row)
            case DeliveryStored() | SubscriptionStored():
                raise AssertionError("taken already")
            case _:
                raise _no_row(row)

    def _take_late(self, row: Stored) -> None:
        saved = self.sessions.get(row.session_id)  # type: ignore[union-attr]
        if saved is None:
            self._set_aside(row, "there is no such session")
        elif isinstance(row, DeliveryStored):
            if not is_valid_topic(row.delivery.message.topic_name):
                self._set_aside(row, "no topic name")  # and its session would never get past it
                return
            if not 0 < row.delivery_id <= LARGEST_ID:
                self._set_aside(row, _NO_ID)
                return
            saved.deliveries.append(row.delivery)
            saved.delivery_ids.append(row.delivery_id)
            if row.message_id is not None:
                saved.message_ids[row.delivery_id] = row.message_id
            saved.is_sorted = False
        elif isinstance(row, SubscriptionStored):
            topic_filter = row.subscription.topic_filter
            if is_valid_filter(topic_filter):
                saved.subscriptions[topic_filter] = row.subscription
            else:
                self._set_aside(row, "no topic filter")
        elif isinstance(row, ReplayStored):
            saved.replay = row.replay
        elif not 1 <= row.packet_id <= MAX_PACKET_ID:  # type: ignore[union-attr]
            self._set_aside(row, "no packet identifier")
        elif isinstance(row, ExchangeStored):
            saved.exchanges.append(row)
            self.next_id = max(self.next_id, row.place + 1)
        else:
            assert isinstance(row, InboundIdStored)
            saved.inbound[row.packet_id] = row.ends_at

    def _set_aside(self, row: Stored, reason: str) -> None:
        self.set_aside.append(RowSetAside(row_of(row), reason))

    def _check_exchanges(self) -> None:
        """An exchange whose message is lost ends as one that was given up [NN-8.7]."""
        for saved in self.sessions.values():
            if not saved.exchanges:
                continue
            saved.exchanges.sort(key=lambda each: each.place)
            there = dict(zip(saved.delivery_ids, saved.deliveries, strict=True))
            for index, row in enumerate(saved.exchanges):
                delivery_id = row.delivery_id
                if delivery_id is None:
                    continue
                delivery = there.pop(delivery_id, None)
                if delivery is None or delivery.qos != 2 or row.is_abandoned:
                    self._set_aside(row, "its message is not there, or not for it")
                    saved.exchanges[index] = ExchangeStored(
                        row.session_id, row.packet_id, row.place, None, True
                    )

    def _join_wills(self) -> None:
        """Each will to its session, and one client id to one session: the latest."""
        by_client: dict[str, SavedSession] = {}
        for session_id in sorted(self.sessions):
            saved = self.sessions[session_id]
            older = by_client.get(saved.row.client_id)
            if older is not None:
                self._set_aside(older.row, "its client has a later session")
                del self.sessions[older.row.session_id]
            by_client[saved.row.client_id] = saved
        for client_id in list(self.wills):
            owner = by_client.get(client_id)
            if owner is not None:
                owner.will = self.wills.pop(client_id)

    # ------------------------------------------------------------ what it comes to

    @property
    def last_epoch(self) -> int:
        """The latest run that left a row, be its own row damaged or not; 0: there was none."""
        named = [saved.row.epoch for saved in self.sessions.values()]
        return max(*self.epochs, *named, *(will.epoch for will in self.wills.values()), 0, 0)

    def cut_at(self, epoch: int, now: float, *, at_heartbeat: bool) -> float:
        """When a crash cut the connections of an epoch: at the start of the next, or before it.

        Never later than now, though the clock may have been set back: what has ended has ended.
        """
        if at_heartbeat and epoch in self.epochs:
            return min(self.epochs[epoch].alive_at, now)
        later = [each.started_at for each in self.epochs.values() if each.epoch > epoch]
        return min([now, *later])

    def contents(
        self, saved: SavedSession, shared: Settings, cut_at: float, will_cut_at: float
    ) -> SessionContents:
        """What a durable session holds after the crash. *Cost* O(what it holds).

        Its row may be of a later run than its will's: then they were cut by different crashes.
        """
        row = saved.row
        expires_at = row.expires_at
        if row.expiry_interval is not None and (row.connected or expires_at is None):
            expires_at = cut_at + row.expiry_interval
        will, due_at = _will_of(saved.will, will_cut_at)
        _, queue, sent = saved.split()
        return SessionContents(
            row.client_id,
            row.policy or shared.policy,
            row.limits or shared.limits,
            row.limits is not None,
            row.principal,
            row.expiry_interval,
            None if row.expiry_interval is None else expires_at,
            tuple(saved.subscriptions.values()),
            tuple(queue),
            tuple(
                [
                    (each.packet_id, None if each.delivery_id is None else sent[each.delivery_id])
                    for each in saved.exchanges
                ]
            ),
            tuple([each.packet_id for each in saved.exchanges if each.is_abandoned]),
            row.packet_ids_until,
            tuple(saved.inbound.items()),
            will,
            due_at,
            # what was given up was dropped in an earlier run
            len(queue) + sum(not each.is_abandoned for each in saved.exchanges),
            (),
            None,
            _replay_of(saved),
        )

    def rows_of(self, saved: SavedSession) -> RowsSnapshot:
        """What the journal calls it."""
        row = saved.row
        queue_ids, _, _ = saved.split()
        return RowsSnapshot(
            row.client_id,
            row.session_id,
            row.protocol_version,
            row.packet_ids_until,
            saved.replay is not None,
            tuple(queue_ids),
            tuple(
                [
                    (each.packet_id, each.delivery_id)
                    for each in saved.exchanges
                    if each.delivery_id is not None
                ]
            ),
        )

    def bodies_of(self, saved: SavedSession) -> dict[int, Body]:
        """The messages that its deliveries refer to, by delivery."""
        found: dict[int, Body] = {}
        for delivery_id, message_id in saved.message_ids.items():
            body = self.bodies.get(message_id)
            if body is None:
                body = self.bodies[message_id] = Body(message_id)
            found[delivery_id] = body
        return found

    def retained_messages(self) -> tuple[RetainedSnapshot, ...]:
        """In order of arrival, in which those of QoS 0 give way."""
        rows = sorted(self.retained.values(), key=lambda each: each.received_at)
        return tuple(
            RetainedSnapshot(
                each.message,
                each.received_at,
                each.expires_at,
                each.message_expiry_interval,
                each.publisher,
            )
            for each in rows
        )


def _will_of(saved: WillStored | None, cut_at: float) -> tuple[Will | None, float | None]:
    if saved is None:
        return None, None
    if saved.due_at is not None:
        return saved.will, saved.due_at
    return saved.will, cut_at + saved.will.will_delay_interval


def _replay_of(saved: SavedSession) -> ReplaySnapshot | None:
    replay = saved.replay
    if replay is None:
        return None
    cursors = tuple(each for each in replay.cursors if each[0] in saved.subscriptions)
    if not cursors:
        return None
    return ReplaySnapshot(
        cursors, replay.superseded, replay.offered, replay.event, replay.retained_first, None
    )


def ghost(saved: WillStored, shared: Settings, cut_at: float) -> SessionContents:
    """The session of a client that ended with its connection, and whose will is still due."""
    return SessionContents(
        saved.client_id,
        saved.policy or shared.policy,
        shared.limits,
        False,
        None,
        0,
        cut_at,
        (),
        (),
        (),
        (),
        0,
        (),
        saved.will,
        cut_at,
        0,
        (),
        None,
        None,
    )
