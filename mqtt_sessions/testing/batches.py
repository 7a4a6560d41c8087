"""A Hypothesis strategy for what a store hands to its journal: legal batches of nasty values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from mqtt_sessions.changes import (
    Change,
    DeliveryRemoved,
    DeliveryStored,
    EpochStored,
    ExchangeRemoved,
    ExchangeStored,
    IdsReserved,
    InboundIdRemoved,
    InboundIdStored,
    MessageRemoved,
    MessageStored,
    ReplayRemoved,
    ReplayStored,
    RetainedRemoved,
    RetainedStored,
    SessionRemoved,
    SessionStored,
    SubscriptionRemoved,
    SubscriptionStored,
    WillRemoved,
    WillStored,
)
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.policy import ExpiryPolicy, OverflowPolicy, SessionLimits
from mqtt_sessions.snapshots import ReplaySnapshot
from mqtt_sessions.subscriptions import Subscription

__all__ = ["change_batches"]

_UINT32_MAX = 0xFFFFFFFF

# What a column of the wrong type, a short float, or a length in one byte does not give back.
_WORDS = ("a", "007", "1e3", "a/b", " ", "ü/𝄞", "nul\0nul", "\ufeff", "'", "NULL", "x" * 300)
_PAYLOADS = (b"", b"1", b"\0", b"\xff\0\xfe", b"'", bytes(range(256)), b"p" * 20_000)
_INSTANTS = (0.1 + 0.2, 0.0, 5e-324, 1.7976931348623157e308, 1_700_000_000.1234567, -1.5, 3.0)
_STEPS = (1, 1, 1, 1, 1, 1, 2, 300, 2**33)

_words = st.sampled_from(_WORDS)
_payloads = st.sampled_from(_PAYLOADS) | st.binary(max_size=8)
_instants = st.sampled_from(_INSTANTS) | st.floats(allow_nan=False, allow_infinity=False).map(
    lambda instant: instant + 0.0
)  # -0.0 is 0.0
_seconds = st.sampled_from((0.1, 0.0, 1e12, 7200.0)) | st.floats(0, 1e12)
_uint32s = st.sampled_from((0, 1, 255, 256, _UINT32_MAX))
_packet_ids = st.sampled_from((1, 2, 65_535))


def _or_none(strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.none() | strategy


_PROPERTIES: tuple[SearchStrategy[Any], ...] = (
    _or_none(_uint32s),
    _or_none(st.integers(0, 1)),
    _or_none(_words | st.just("")),
    _or_none(_words),
    _or_none(_payloads.filter(lambda data: len(data) < 65_536)),
    st.lists(st.tuples(_words | st.just(""), _words | st.just("")), max_size=2).map(tuple),
)
_plain_messages = st.builds(Message, _words, _payloads, st.integers(0, 2), st.booleans())
_messages = _plain_messages | st.builds(
    Message, _words, _payloads, st.integers(0, 2), st.booleans(), *_PROPERTIES
)
_arrivals = st.tuples(_instants, st.none(), st.none(), st.none()) | st.tuples(
    _instants, _or_none(_instants), _or_none(_uint32s), _or_none(_words)
)
_options = st.tuples(st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2))
_subscription_ids = st.sampled_from((1, 127, 268_435_455))
_copies = st.tuples(
    st.integers(0, 2),
    st.booleans(),
    st.just(()) | st.lists(_subscription_ids, max_size=3).map(tuple),
    st.booleans(),
)
_policies = st.builds(
    ExpiryPolicy,
    default_session_expiry_interval=_or_none(_seconds),
    maximum_session_expiry_interval=_or_none(st.just(1e6)),
    show_default_message_expiry=st.booleans(),
    retry_interval=_or_none(st.just(0.1 + 0.2)),
)
_limits = st.builds(
    SessionLimits,
    maximum_send_window=st.sampled_from((1, 65_535)),
    maximum_queued_bytes=_or_none(st.just(2**40)),
    overflow=st.sampled_from(OverflowPolicy),
    queue_qos0=st.booleans(),
)
# Each is made once: Hypothesis looks at a strategy anew whenever one is made, which costs more than
# a draw.
_perhaps_words = _or_none(_words | st.just(""))
_perhaps_seconds = _or_none(_seconds)
_perhaps_instants = _or_none(_instants)
_perhaps_policies = _or_none(_policies)
_perhaps_limits = _or_none(_limits)
_perhaps_subscription_ids = _or_none(_subscription_ids)
_perhaps_arrivals = _or_none(_arrivals)
_replays = st.builds(
    ReplaySnapshot,
    st.lists(st.tuples(_words, _or_none(_words), st.integers(0, 9)), max_size=2).map(tuple),
    st.lists(st.tuples(_words, _instants, st.integers(0, 9)), max_size=2).map(tuple),
    st.lists(st.tuples(_words, _instants, st.integers(0, 9)), max_size=2).map(tuple),
    st.integers(0, 9),
    st.booleans(),
    _or_none(_instants),
)
_perhaps_replays = _or_none(_replays)


def change_batches(batches: int = 5, changes: int = 12) -> SearchStrategy[list[tuple[Change, ...]]]:
    """What a store may commit, batch by batch, from the beginning.

    Identifiers rise and are not used again. A row comes behind those that it names, and goes before
    them; a session ends when its deliveries are gone.

    Args:
        batches: How many at most.
        changes: Steps of a batch at most, most of which are one change.
    """
    return _batches(batches, changes)


@st.composite
def _batches(draw: DrawFn, batches: int, changes: int) -> list[tuple[Change, ...]]:
    ledger = _Ledger(draw)
    given = []
    for _ in range(draw(st.integers(1, batches))):
        for _ in range(draw(st.integers(0, changes))):
            draw(st.sampled_from(ledger.steps()))()
        given.append(tuple(ledger.batch))
        ledger.batch = []
    return given


class _Ledger:
    """What is in force, as far as it decides what may come next."""

    def __init__(self, draw: DrawFn) -> None:
        self.draw = draw
        self.batch: list[Change] = []
        self.next_id = 1
        self.clients: dict[str, int] = {}
        self.messages: dict[int, tuple[Message, Any]] = {}
        self.deliveries: dict[int, tuple[int, int | None]] = {}
        self.exchanges: dict[tuple[int, int], int | None] = {}

    def steps(self) -> list[Callable[[], None]]:
        """What may come next."""
        steps = [self.begin_session, self.run, self.store_will, self.remove_will]
        steps += [self.store_retained, self.remove_retained, self.store_message]
        if self.clients:
            steps += [self.update_session, self.subscribe, self.unsubscribe, self.hold, self.free]
            steps += [self.replay, self.deliver, self.exchange, self.exchange, self.end_session]
        if self.clients and self.messages:
            steps += [self.fan_out, self.fan_out]
        if self.exchanges:
            steps += [self.end_exchange]
        if self.deliveries:
            steps += [self.remove_delivery, self.remove_delivery]
        return steps

    # ---------------------------------------------------------------- what steps are made of

    def one_of(self, things: Iterable[Any]) -> Any:
        return self.draw(st.sampled_from(list(things)))

    def new_id(self) -> int:
        self.next_id += self.one_of(_STEPS)
        return self.next_id

    def any_session(self) -> int:
        session_id: int = self.one_of(self.clients.values())
        return session_id

    def _end_delivery(self, delivery_id: int) -> None:
        for (session_id, packet_id), sent in list(self.exchanges.items()):
            if sent != delivery_id:
                continue
            if self.draw(st.booleans()):
                self.batch.append(ExchangeStored(session_id, packet_id, self.new_id(), None))
                self.exchanges[session_id, packet_id] = None
            else:
                self.batch.append(ExchangeRemoved(session_id, packet_id))
                del self.exchanges[session_id, packet_id]
        _, message_id = self.deliveries.pop(delivery_id)
        self.batch.append(DeliveryRemoved(delivery_id))
        if message_id is not None and all(
            other != message_id for _, other in self.deliveries.values()
        ):
            del self.messages[message_id]
            self.batch.append(MessageRemoved(message_id))

    # ---------------------------------------------------------------- steps

    def run(self) -> None:
        epoch = self.draw(st.integers(1, 3))
        self.batch.append(EpochStored(epoch, self.draw(_instants), self.draw(_instants)))
        self.batch.append(IdsReserved(self.next_id + 1 + self.draw(st.integers(0, 1000))))

    def begin_session(self) -> None:
        client_id = self.draw(_words)
        if client_id in self.clients:
            self._end_session(client_id)
        self.clients[client_id] = self.new_id()
        self._store_session(client_id)

    def update_session(self) -> None:
        self._store_session(self.one_of(self.clients))

    def _store_session(self, client_id: str) -> None:
        self.batch.append(
            SessionStored(
                self.clients[client_id],
                client_id,
                self.draw(st.integers(1, 3)),
                self.draw(st.booleans()),
                self.draw(st.integers(3, 5)),
                self.draw(_perhaps_words),
                self.draw(_perhaps_seconds),
                self.draw(_perhaps_instants),
                self.one_of((0, 1, 65_535)),
                self.draw(_perhaps_policies),
                self.draw(_perhaps_limits),
            )
        )

    def end_session(self) -> None:
        self._end_session(self.one_of(self.clients))

    def _end_session(self, client_id: str) -> None:
        session_id = self.clients.pop(client_id)
        for delivery_id, (owner, _) in list(self.deliveries.items()):
            if owner == session_id:
                self._end_delivery(delivery_id)
        self.exchanges = {key: sent for key, sent in self.exchanges.items() if key[0] != session_id}
        self.batch.append(SessionRemoved(session_id))

    def subscribe(self) -> None:
        subscription = Subscription(
            self.draw(_words), *self.draw(_options), self.draw(_perhaps_subscription_ids)
        )
        self.batch.append(SubscriptionStored(self.any_session(), subscription))

    def unsubscribe(self) -> None:
        self.batch.append(SubscriptionRemoved(self.any_session(), self.draw(_words)))

    def hold(self) -> None:
        ends_at = self.draw(_perhaps_instants)
        self.batch.append(InboundIdStored(self.any_session(), self.draw(_packet_ids), ends_at))

    def free(self) -> None:
        self.batch.append(InboundIdRemoved(self.any_session(), self.draw(_packet_ids)))

    def replay(self) -> None:
        session_id, replay = self.any_session(), self.draw(_perhaps_replays)
        self.batch.append(
            ReplayRemoved(session_id) if replay is None else ReplayStored(session_id, replay)
        )

    def store_will(self) -> None:
        will = Will(self.draw(_messages), self.draw(_uint32s))
        due_at, epoch = self.draw(_perhaps_instants), self.draw(st.integers(1, 3))
        policy = self.draw(_perhaps_policies)
        self.batch.append(WillStored(self.draw(_words), will, due_at, epoch, policy))

    def remove_will(self) -> None:
        self.batch.append(WillRemoved(self.draw(_words)))

    def store_retained(self) -> None:
        self.batch.append(RetainedStored(self.draw(_messages), *self.draw(_arrivals)))

    def remove_retained(self) -> None:
        self.batch.append(RetainedRemoved(self.draw(_words)))

    def store_message(self) -> None:
        message_id, message, arrival = self.new_id(), self.draw(_messages), self.draw(_arrivals)
        self.messages[message_id] = message, arrival
        self.batch.append(MessageStored(message_id, message, *arrival))

    def deliver(self) -> None:
        delivery = _delivery(self.draw(_messages), self.draw(_copies), self.draw(_arrivals))
        self._store_delivery(self.any_session(), None, delivery)

    def fan_out(self) -> None:
        """Several sessions, or one several times, get the same, or nearly so."""
        message_id = self.one_of(self.messages)
        message, arrival = self.messages[message_id]
        # mostly one that there is: batches do not part those that are alike
        copy = self.draw(_copies if self.draw(st.booleans()) else st.just((1, False, (), False)))
        for _ in range(self.draw(st.integers(1, 3))):
            own = self.draw(_perhaps_arrivals)
            # each is made anew, so that only a journal can have made one of them
            delivery = _delivery(message, copy, arrival if own is None else own)
            self._store_delivery(self.any_session(), message_id, delivery)

    def _store_delivery(self, session_id: int, message_id: int | None, delivery: Delivery) -> None:
        delivery_id = self.new_id()
        self.deliveries[delivery_id] = session_id, message_id
        self.batch.append(DeliveryStored(delivery_id, session_id, message_id, delivery))

    def remove_delivery(self) -> None:
        self._end_delivery(self.one_of(self.deliveries))

    def exchange(self) -> None:
        session_id, packet_id = self.any_session(), self.draw(_packet_ids)
        queued = [each for each, (owner, _) in self.deliveries.items() if owner == session_id]
        delivery_id = self.one_of([None, *queued])
        is_abandoned = delivery_id is None and self.draw(st.booleans())
        self.exchanges[session_id, packet_id] = delivery_id
        self.batch.append(
            ExchangeStored(session_id, packet_id, self.new_id(), delivery_id, is_abandoned)
        )

    def end_exchange(self) -> None:
        session_id, packet_id = self.one_of(self.exchanges)
        del self.exchanges[session_id, packet_id]
        self.batch.append(ExchangeRemoved(session_id, packet_id))


def _delivery(message: Message, copy: tuple[Any, ...], arrival: tuple[Any, ...]) -> Delivery:
    qos, retain, subscription_ids, is_retained = copy
    fields = message, qos, retain, subscription_ids, *arrival, is_retained
    return Delivery(*fields)
