"""The reference model, part 1: who gets a message, and what is retained."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

from attrs import evolve

from mqtt_sessions.actions import CloseConnection, SendDisconnect
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.notices import (
    DropReason,
    FilterAdded,
    FilterRemoved,
    MessageDropped,
    Notice,
    PeerErrorDetected,
    RetainedMessageDropped,
    WillPublished,
)
from mqtt_sessions.policy import ExpiryPolicy, OverlapPolicy, ServerOptions, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing.model_values import (
    Copy,
    Gone,
    ModelConnection,
    ModelSession,
    Overlap,
    Owed,
    Replay,
    Retained,
    Told,
    Undecided,
    is_order_open,
    matches,
    size_in_bytes,
)

__all__ = ["Routing"]


# Why a message is not retained, in 5.0 and in 3.1.1.
NOT_RETAINED = ("MQTT-3.3.1-8", "MQTT-3.3.1-12")
WILL_NOT_RETAINED = ("MQTT-3.1.2-14", "MQTT-3.1.2-16")
EMPTY = ("MQTT-3.3.1-7", "MQTT-3.3.1-11")
EXPIRED = ("MQTT-3.3.2-5", "NN-9.3")


def _replaced_by(message: Message) -> tuple[str, str]:
    if message.payload == b"":
        return ("MQTT-3.3.1-6", "MQTT-3.3.1-10")
    return ("MQTT-3.3.1-5", "MQTT-3.3.1-7" if message.qos == 0 else "MQTT-3.3.1-5")


class Routing:
    """What all sessions share, and the way of a message to its receivers."""

    def __init__(
        self,
        policy: ExpiryPolicy,
        limits: SessionLimits,
        options: ServerOptions,
        size_of: Callable[[Delivery, int], int] | None,
    ) -> None:
        self.policy = policy
        self.limits = limits
        self.options = options
        self.size_of = size_of
        self.now = -1e308
        self.instant = self.now  # of what happens: before `now` where a timer is late
        self.step = 0
        self.serial = 0
        self.sessions: dict[str, ModelSession] = {}
        self.connections: dict[Hashable, ModelConnection] = {}
        self.retained: dict[str, Retained] = {}
        # Messages that nobody may get, by topic and payload, and the rule that says so:
        self._withheld: dict[tuple[str, bytes], str] = {}
        # Messages that are not retained, or not any more, and the rules of 5.0 and 3.1.1:
        self._unretained: dict[tuple[str, bytes], tuple[str, str]] = {}
        # Of this step:
        self._ended: list[ModelSession] = []
        self._told: list[Told] = []
        self._gone: list[Gone] = []
        self._dropped: list[MessageDropped] = []
        self._retained_dropped: list[RetainedMessageDropped] = []
        self._retained_told: list[WillPublished | RetainedMessageDropped] = []
        self._retained_before: dict[str, Retained] = {}
        self._retentions: list[Copy] = []
        self._is_mixed = False  # what was retained in this step has expired in it
        self._retained_gone: list[Copy] = []
        self._replaced: list[Copy] = []
        self._published: list[Message] = []
        self._undecided: Undecided | None = None
        self._notices_given = False
        self.is_order_seen = True

    # ------------------------------------------------------------ what is owed

    def _tell(self, *alternatives: Notice, required: bool = True) -> None:
        self._told.append(Told(alternatives, required))

    def _owe(self, connection: ModelConnection, owed: Owed) -> None:
        connection.owed.append(owed)

    def _owe_close(
        self,
        connection: ModelConnection,
        rule: str,
        codes: tuple[int, ...] | None = None,
        *,
        is_told: bool = False,
    ) -> None:
        """DISCONNECT with its code to a 5.0 client, and the end of the network connection.

        NN-5.3: a server SHOULD send it, and this library says that it does; others need not, unless
        the client has to be told [MQTT-3.1.4-3].
        """
        if codes is not None and connection.protocol_version == 5:
            optional = not (is_told or self._notices_given)
            self._owe(connection, Owed(SendDisconnect, rule, codes=codes, optional=optional))
        optional = rule == "NN-5.1" and not self._notices_given  # a SHOULD
        self._owe(connection, Owed(CloseConnection, rule, why=codes, optional=optional))

    def _tell_peer_error(self, connection: ModelConnection, codes: tuple[int, ...]) -> None:
        name, client_id = connection.name, connection.client_id
        self._tell(*(PeerErrorDetected(name, client_id, ReasonCode(code), "") for code in codes))

    def _too_large(self, connection: ModelConnection, copy: Copy) -> bool:
        """MQTT-3.1.2-24; equal to the limit fits [NN-11.1]."""
        most = connection.maximum_packet_size
        if most is None or self.size_of is None:
            return False
        retain = copy.retain and (copy.is_retained or connection.protocol_version == 5)
        delivery = Delivery(
            copy.message,
            copy.qos,
            retain,
            copy.ids,
            copy.received_at,
            copy.expires_at,
            copy.told,
            copy.publisher,
            copy.is_retained,
        )
        return self.size_of(delivery, connection.protocol_version) > most

    def _withhold(self, message: Message, rule: str) -> None:
        """A message is not handed on, or not yet, or not again."""
        if len(self._withheld) > 2_000:
            self._withheld.clear()
        self._withheld[message.topic_name, message.payload] = rule

    def _forget(self, message: Message, reason: tuple[str, str]) -> None:
        """A message is not retained, or not any more."""
        if len(self._unretained) > 2_000:
            self._unretained.clear()
        self._unretained[message.topic_name, message.payload] = reason

    # ------------------------------------------------------------ lifetimes of messages

    def _copy(
        self, message: Message, publisher: str | None, policy: ExpiryPolicy, is_will: bool
    ) -> Copy:
        """The message as it arrived: what lives how long [NN-9.1, NN-9.5, NN-4.6]."""
        interval = message.message_expiry_interval
        lifetime: float | None = interval
        told = interval
        if interval is None:
            lifetime = policy.default_message_expiry_interval
            if lifetime is not None and policy.show_default_message_expiry and not is_will:
                told = min(math.ceil(lifetime), 0xFFFFFFFF)
        cap = policy.maximum_message_expiry_interval
        if cap is not None:
            lifetime = cap if lifetime is None else min(lifetime, cap)
        return Copy(
            message=message,
            qos=message.qos,
            retain=message.retain,
            ids=(),
            received_at=self.now,
            expires_at=None if lifetime is None else self.now + lifetime,
            told=told,
            publisher=publisher,
            serial=self.serial,
            step=self.step,
            instant=self.instant,
            is_will=is_will,
        )

    # ------------------------------------------------------------ to the receivers

    def _publish(
        self,
        message: Message,
        publisher: str | None,
        policy: ExpiryPolicy,
        *,
        is_will: bool = False,
    ) -> bool:
        """A message is taken over: every matching session gets a copy [MQTT-4.5.0-1].

        Returns: Whether somebody subscribes to it.
        """
        self.serial += 1
        self._published.append(message)
        self._withheld.pop((message.topic_name, message.payload), None)
        arrived = self._copy(message, publisher, policy, is_will)
        if not message.retain:
            self._forget(message, WILL_NOT_RETAINED if is_will else NOT_RETAINED)
        elif not self.options.retain_available:
            arrived.retain = False
            self._forget(message, ("NN-14.4", "NN-14.4"))
        else:
            self._retain(arrived)
        matched = False
        for session in self.sessions.values():
            matched = self._offer(session, arrived) or matched
        for session in self._ended:
            if session.ended_at == self.instant and session.client_id != publisher:
                self._offer_at_its_end(session, arrived)
        return matched

    def _offer_at_its_end(self, session: ModelSession, arrived: Copy) -> None:
        """A session ended at this very instant: the message may have come first, or not."""
        before = len(session.queue)
        self._offer(session, arrived)
        for copy in session.queue[before:]:
            copy.must_go = DropReason.SESSION_ENDED

    def _offer(self, session: ModelSession, arrived: Copy) -> bool:
        before, topic_name = len(session.queue), arrived.message.topic_name
        matched = self._offer_to(session, arrived, list(session.subscriptions.values()))
        if any(matches(each, topic_name) for each in session.perhaps):
            changed = {**session.subscriptions, **session.perhaps}
            other = [each for each in changed.values() if each is not None]
            matched = self._offer_to(session, arrived, other) and matched
            for copy in session.queue[before:]:
                copy.doubtful = True  # only one of the two is due, and it is open which
        return matched

    def _offer_to(
        self, session: ModelSession, arrived: Copy, subscriptions: list[Subscription]
    ) -> bool:
        topic_name = arrived.message.topic_name
        found = [each for each in subscriptions if matches(each.topic_filter, topic_name)]
        # MQTT-3.8.3-3, NN-12.4: No Local matches are left out first
        kept = [
            each for each in found if not (each.no_local and arrived.publisher == session.client_id)
        ]
        if len(kept) < len(found):
            session.remember(arrived.message, "own will" if arrived.is_will else "no local")
            reason = DropReason.NO_LOCAL
            gone = Gone(session.client_id, arrived, reason, required=not kept)
            self._gone.append(gone)
        if not kept:
            if found and arrived.is_will and not self._notices_given:
                self._enqueue(session, arrived, found)
                session.queue[-1].doubtful = True  # NN-4.9: No Local need not speak of wills
            return bool(found)
        if len(kept) > 1 and not self._notices_given:
            self._enqueue_either(session, arrived, kept)
        elif self.options.overlap is OverlapPolicy.MERGE:
            self._enqueue(session, arrived, kept)  # MQTT-3.3.4-2, -4
        else:
            for each in kept:
                self._enqueue(session, arrived, [each])  # MQTT-3.3.4-5
        return True

    def _enqueue_either(
        self, session: ModelSession, arrived: Copy, subscriptions: list[Subscription]
    ) -> None:
        """NN-12.3: one copy is the minimum; there may be one for each match."""
        before = len(session.queue)
        for some in (subscriptions, *([each] for each in subscriptions)):
            self._enqueue(session, arrived, some)
        merged, *singles = session.queue[before:]
        merged.overlap = Overlap(merged, singles)
        for copy in singles:
            copy.overlap = merged.overlap
            copy.doubtful = True

    def _enqueue(
        self, session: ModelSession, arrived: Copy, subscriptions: list[Subscription]
    ) -> None:
        granted = max(each.qos for each in subscriptions)  # MQTT-3.3.4-2
        # MQTT-3.8.4-8: the smaller of published and granted
        qos = granted if self.options.upgrade_qos else min(arrived.message.qos, granted)
        # MQTT-3.3.1-12, -13
        retain = arrived.retain and any(each.retain_as_published for each in subscriptions)
        ids = sorted(
            each.subscription_id for each in subscriptions if each.subscription_id is not None
        )
        copy = Copy(
            message=arrived.message,
            qos=qos,
            retain=retain,
            ids=tuple(ids),
            received_at=arrived.received_at,
            expires_at=arrived.expires_at,
            told=arrived.told,
            publisher=arrived.publisher,
            serial=arrived.serial,
            step=self.step,
            instant=arrived.instant,
            is_will=arrived.is_will,
            mixed=retain and not all(each.retain_as_published for each in subscriptions),
            filters=[each.topic_filter for each in subscriptions],
        )
        session.queue.append(copy)
        session.wanted_in = self.step

    # ------------------------------------------------------------ what is retained

    def _retain(self, arrived: Copy) -> None:
        """The message replaces, or clears, what its topic has [MQTT-3.3.1-5, -6, -7]."""
        message = arrived.message
        if not self._retentions:
            self._retained_before = {
                name: evolve(each, rivals=list(each.rivals)) for name, each in self.retained.items()
            }
        at_once = [each for each in self._retentions if is_order_open(each, arrived)]
        self._retentions.append(arrived)
        old = self.retained.get(message.topic_name)
        self.retained.pop(message.topic_name, None)
        clears = message.payload == b"" or arrived.expires_at == arrived.received_at  # NN-9.4
        rivals = []
        if old is not None:
            for each in (old.copy, *old.rivals):
                self._forget(each.message, _replaced_by(message))
            self._replaced += (old.copy, *old.rivals)
            at = old.copy.expires_at
            if at is not None and at <= self.now:  # a late timer: it had expired by now
                gone = RetainedMessageDropped(old.copy.message, DropReason.EXPIRED)
                self._tell(gone, required=False)
            rivals = [each for each in (old.copy, *old.rivals) if each in at_once]
        if clears:
            self._forget(message, EMPTY if message.payload == b"" else EXPIRED)
            if message.payload != b"" and old is not None and not self._notices_given:
                rivals = [old.copy, *old.rivals]  # NN-9.4: what expires at once may count as none
            if rivals:
                self.retained[message.topic_name] = Retained(rivals[0], rivals[1:], doubtful=True)
            return
        # Which of those at one instant came first is open, and with it who found room
        unclear = not self._notices_given and (
            not self._fits(message.topic_name, message, doubtful=True)
            or any(each.message.topic_name == message.topic_name for each in at_once)
        )
        if not self._fits(message.topic_name, message) and not (unclear and at_once):
            # A will, a message of the host, one of QoS 0: delivered, and not retained.
            self._retained_gone.append(arrived)
            self._forget(message, ("host", "host"))
            return
        self.retained[message.topic_name] = Retained(arrived, rivals, doubtful=unclear)

    def _fits(self, topic_name: str, message: Message, *, doubtful: bool = False) -> bool:
        """Whether there is room, once QoS 0 messages have given way [NN-14.2].

        What has expired by now takes none, though its timer may be late [NN-9.3].
        """
        others = [
            each
            for name, each in self.retained.items()
            if name != topic_name
            and each.copy.message.qos > 0
            and (doubtful or not each.doubtful)
            and (each.copy.expires_at is None or each.copy.expires_at > self.now)
        ]
        count, total = self.limits.maximum_retained_messages, self.limits.maximum_retained_bytes
        size = size_in_bytes(message)
        if count is not None and len(others) + 1 > count:
            return False
        held = sum(size_in_bytes(each.copy.message) for each in others)
        return total is None or held + size <= total

    def _retained_overflow(self, *replaced: Copy) -> DropReason | None:
        """Which bound of the retained store is exceeded, with those that were replaced or without.

        What was replaced counts in bytes only, where its topic has a message.
        """
        count, total = self.limits.maximum_retained_messages, self.limits.maximum_retained_bytes
        topics = {*self.retained, *(each.message.topic_name for each in replaced)}
        if count is not None and len(topics) > count:
            return DropReason.QUEUE_FULL
        held = sum(size_in_bytes(each.copy.message) for each in self.retained.values())
        held += sum(size_in_bytes(each.message) for each in replaced)
        if total is not None and held > total:
            return DropReason.BYTES_FULL
        return None

    def _expire_retained(self, topic_name: str) -> None:
        """NN-9.3: an expired retained message is gone."""
        entry = self.retained.pop(topic_name)
        before = self._retained_before.get(topic_name)
        if before is not None and before.copy is entry.copy:
            del self._retained_before[topic_name]  # whatever came first
        elif self._retentions:
            self._is_mixed = True
        self._forget(entry.copy.message, EXPIRED)
        gone = RetainedMessageDropped(entry.copy.message, DropReason.EXPIRED)
        self._tell(gone, required=not entry.doubtful)

    # ------------------------------------------------------------ subscriptions

    def _subscribe(self, session: ModelSession, subscription: Subscription) -> bool:
        """The subscription is made or replaced [MQTT-3.8.4-3]; whether it is new."""
        topic_filter = subscription.topic_filter
        session.perhaps.pop(topic_filter, None)
        new = topic_filter not in session.subscriptions
        if new and not self._anybody_has(topic_filter):
            self._tell(FilterAdded(topic_filter))
        session.subscriptions[topic_filter] = subscription
        for old in session.replays:
            if old.topic_filter == topic_filter:
                old.subscriptions.append(subscription)
                old.give_up()
        return new

    def _unsubscribe(self, session: ModelSession, topic_filter: str) -> bool:
        """The exact filter is removed [MQTT-3.10.4-1]; whether there was one."""
        session.perhaps.pop(topic_filter, None)
        if topic_filter not in session.subscriptions:
            return False
        del session.subscriptions[topic_filter]
        session.unsubscribed.append(topic_filter)
        for copy in session.queue:
            if topic_filter in copy.filters:
                copy.filters.remove(topic_filter)
                # NN-12.7: what is buffered MAY still be delivered
                copy.doubtful = copy.doubtful or not (copy.filters or self._notices_given)
        for old in session.replays:
            if old.topic_filter == topic_filter:
                old.give_up()  # NN-12.7
        if not self._anybody_has(topic_filter):
            self._tell(FilterRemoved(topic_filter))
        return True

    def _anybody_has(self, topic_filter: str) -> bool:
        return any(topic_filter in each.subscriptions for each in self.sessions.values())

    def _replay(self, subscription: Subscription, *, new: bool) -> Replay:
        """A subscription calls up what is retained [MQTT-3.3.1-9, -10].

        What it called up before may still be sent too, with the identifier of then or of now, as in
        NN-8.5; a server may have queued it.
        """
        pending = {
            topic_name: [entry.copy, *entry.rivals]
            for topic_name, entry in self.retained.items()
            if matches(subscription.topic_filter, topic_name)
        }
        return Replay([subscription], pending, self.serial, again=not new)

    def _refuses_retained(self, message: Message, *, doubtful: bool = False) -> bool:
        """Whether a client's message has to be refused, because the store is full.

        With `doubtful`, also full of what may have been discarded.
        """
        if not message.retain or not self.options.retain_available or message.qos == 0:
            return False
        if message.payload == b"" or message.message_expiry_interval == 0:
            return False
        return not self._fits(message.topic_name, message, doubtful=doubtful)

    def _may_refuse_retained(self, message: Message) -> bool:
        return self._refuses_retained(message, doubtful=True)
