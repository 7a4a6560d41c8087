"""What a search holds a store to, step by step: an account of all that is owed.

The account hears what the store is told and what it does, knows nothing else of it, and raises
`ServerFault` with the rule that is broken. It covers what small worlds hold (exact filters, no
limits but windows) and is small, for a search copies and compares it with every state.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from mqtt_sessions.actions import (
    Action,
    CloseConnection,
    SendConnack,
    SendDisconnect,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
)
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    DisconnectReceived,
    Event,
    MessagePublished,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    SubscriptionsAdded,
)
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.notices import DropReason, MessageDropped, SessionEnded, WillPublished
from mqtt_sessions.policy import ExpiryPolicy, SessionLimits
from mqtt_sessions.testing.clients import ServerFault
from mqtt_sessions.testing.search_account import Account, Copy, check_interval, expires_at
from mqtt_sessions.topics import matches
from mqtt_sessions.turn import Outcome

__all__ = ["Ledger"]

_INF = float("inf")


class Ledger:
    """The accounts of all sessions, and what the present step still has to bring.

    Args:
        client_ids: Whose.
        policy: Of the store.
        limits: Of the store.
        packet_ids: How many identifiers there are.

    Attributes:
        handed: Messages that were handed on.
    """

    __slots__ = (
        "_answers",
        "_closing",
        "_connacks",
        "_due_wills",
        "_ended",
        "_ending",
        "_lost",
        "_most",
        "_policy",
        "_pubrels",
        "_wills",
        "_window",
        "accounts",
        "handed",
        "now",
        "packet_ids",
        "retained",
        "retained_at",
    )

    def __init__(
        self,
        client_ids: Iterable[str],
        policy: ExpiryPolicy,
        limits: SessionLimits,
        packet_ids: int,
    ) -> None:
        self.accounts = {client_id: Account(client_id) for client_id in client_ids}
        self.packet_ids = packet_ids
        self.handed: frozenset[Message] = frozenset()
        self.retained: dict[str, Message] = {}
        self.retained_at: dict[str, float] = {}
        self.now = 0.0
        self._policy = policy
        self._window = limits.maximum_send_window
        self._most = limits.maximum_queued_messages
        self._start()

    def _start(self) -> None:
        self._answers: dict[tuple[type, Hashable, int], str] = {}  # each with the rule
        self._closing: dict[tuple[type, Hashable], str] = {}
        self._connacks: dict[Hashable, tuple[bool, str]] = {}
        self._pubrels: dict[Hashable, list[int]] = {}
        self._wills: list[tuple[str, Message]] = []
        self._ended: list[str] = []
        self._ending: set[str] = set()
        self._due_wills: list[Message] = []
        self._lost: list[tuple[str, Message]] = []

    def copy(self) -> Ledger:
        """The same, sharing nothing that changes; only between two steps."""
        other = Ledger.__new__(Ledger)
        other.accounts = {name: account.copy() for name, account in self.accounts.items()}
        other.packet_ids = self.packet_ids
        other.handed = self.handed
        other.retained = dict(self.retained)
        other.retained_at = dict(self.retained_at)
        other.now = self.now
        other._policy = self._policy
        other._window = self._window
        other._most = self._most
        other._start()
        return other

    # ------------------------------------------------------------ what the store is told

    def begin(self, event: Event | None, now: float) -> None:
        """A step begins: the store is told of an event, or None: only that time has passed."""
        self._start()
        self.now = now
        for account in self.accounts.values():
            if account.will_at is not None and account.will_at <= now:
                self._owe_will(account)
            if account.expires_at is not None and account.expires_at <= now:
                self._end(account)
        for topic_name, message in list(self.retained.items()):
            interval = message.message_expiry_interval
            if interval is not None and self.retained_at[topic_name] + interval <= now:
                self._unretain(topic_name)  # NN-9.3
        if event is not None:
            _ON_EVENT[type(event)](self, event)

    def _of(self, connection: Hashable) -> Account | None:
        for account in self.accounts.values():
            if account.connection == connection:
                return account
        return None

    def _on_connected(self, event: ClientConnected) -> None:
        account = self.accounts[event.client_id]
        if account.connection is not None:
            self._close(account)
            if account.interval == 0:
                self._end(account)  # NN-3.3
            elif not event.clean_start and account.will and account.will[1] == 0:
                self._owe_will(account)  # NN-3.2
        if account.exists and event.clean_start:
            self._end(account)  # MQTT-3.1.2-4
        resumed = account.exists
        account.exists = True
        account.visits += 1
        account.connection = event.connection
        account.expires_at = account.will_at = None
        account.version = event.protocol_version
        account.interval = self._policy.at_connect(
            event.protocol_version, event.clean_start, event.session_expiry_interval
        )
        will = event.will
        account.will = None if will is None else (will.message, will.will_delay_interval)
        account.window = min(event.receive_maximum or 65_535, self._window)
        account.congested = False
        account.again = dict.fromkeys(account.begun)
        account.units = set()
        present = resumed and event.protocol_version != 3
        rule = "MQTT-3.2.2-2" if event.clean_start else "MQTT-3.2.2-3"
        self._connacks[event.connection] = present, rule
        self._pubrels[event.connection] = list(account.released)

    def _on_congested(self, event: ConnectionCongested) -> None:
        account = self._of(event.connection)
        if account is not None:
            account.congested = True

    def _on_writable(self, event: ConnectionWritable) -> None:
        account = self._of(event.connection)
        if account is not None:
            account.congested = False

    def _on_lost(self, event: ConnectionLost) -> None:
        account = self._of(event.connection)
        if account is not None:
            account.connection = None
            self._park(account)

    def _on_disconnect(self, event: DisconnectReceived) -> None:
        account = self._of(event.connection)
        if account is None:
            return
        if account.version < 5 or event.reason_code == 0:
            account.will = None  # MQTT-3.14.4-3
        if event.session_expiry_interval is not None:
            account.interval = self._policy.at_disconnect(event.session_expiry_interval)
        account.connection = None
        self._closing[CloseConnection, event.connection] = "NN-5.1"
        self._park(account)

    def _close(self, account: Account) -> None:
        connection = account.connection
        account.connection = None
        if account.version == 5:
            self._closing[SendDisconnect, connection] = "MQTT-3.1.4-3"
        self._closing[CloseConnection, connection] = "MQTT-3.1.4-3"

    def _park(self, account: Account) -> None:
        """NN-1.1: the interval counts from now; MQTT-3.1.3-9: so does the will's delay."""
        if account.interval == 0:
            self._end(account)
            return
        if account.interval is not None:
            account.expires_at = self.now + account.interval
        if account.will is not None:
            if account.will[1] == 0:
                self._owe_will(account)
            else:
                account.will_at = self.now + account.will[1]

    def _owe_will(self, account: Account) -> None:
        if account.will is not None:
            self._wills.append((account.client_id, account.will[0]))
        account.will = account.will_at = None

    def _end(self, account: Account) -> None:
        self._owe_will(account)
        name = account.client_id
        self._ended.append(name)
        self._ending.add(name)
        self._lost += [(name, each[0]) for each in account.waiting]
        self._lost += [(name, each[0]) for each in account.begun.values()]
        account.forget()

    def _on_added(self, event: SubscriptionsAdded) -> None:
        account = self.accounts[event.client_id]
        account.filters = tuple((each.topic_filter, each.qos) for each in event.subscriptions)
        for topic_name in self.retained:  # MQTT-3.3.1-9
            if any(matches(topic_filter, topic_name) for topic_filter, _ in account.filters):
                account.called_up[topic_name] = None

    def _retain(self, message: Message) -> None:
        """MQTT-3.3.1-5 to -7: the topic's older message is gone, whatever the new one is."""
        if message.payload:
            self.retained[message.topic_name] = message
            self.retained_at[message.topic_name] = self.now
        else:
            self._unretain(message.topic_name)

    def _unretain(self, topic_name: str) -> None:
        self.retained.pop(topic_name, None)
        self.retained_at.pop(topic_name, None)
        for account in self.accounts.values():
            account.called_up.pop(topic_name, None)

    def _hand_on(self, message: Message) -> None:
        if message.retain:
            self._retain(message)
        self.handed |= {message}
        arrival = None if message.message_expiry_interval is None else self.now
        for account in self.accounts.values():
            for topic_filter, granted in account.filters:
                if matches(topic_filter, message.topic_name):
                    account.waiting.append((message, min(granted, message.qos), arrival, False))
                    break

    def _on_host_published(self, event: MessagePublished) -> None:
        self._hand_on(event.message)

    def _on_published(self, event: PublishReceived) -> None:
        account = self._of(event.connection)
        if account is None:
            return  # NN-3.5
        message, packet_id = event.message, event.packet_id
        if packet_id is None:
            self._hand_on(message)
        elif message.qos == 1:
            self._answers[SendPuback, event.connection, packet_id] = "MQTT-4.3.2-4"
            self._hand_on(message)
        else:
            is_repeat = packet_id in account.inbound
            rule = "MQTT-4.3.3-10" if is_repeat else "MQTT-4.3.3-8"
            self._answers[SendPubrec, event.connection, packet_id] = rule
            if not is_repeat:
                account.inbound[packet_id] = None
                self._hand_on(message)

    def _on_pubrel(self, event: PubrelReceived) -> None:
        account = self._of(event.connection)
        if account is not None:
            account.inbound.pop(event.packet_id, None)
            self._answers[SendPubcomp, event.connection, event.packet_id] = "MQTT-4.3.3-11"

    def _on_puback(self, event: PubackReceived) -> None:
        account = self._of(event.connection)
        if account is not None:
            account.begun.pop(event.packet_id, None)
            account.units.discard(event.packet_id)

    def _on_pubrec(self, event: PubrecReceived) -> None:
        account = self._of(event.connection)
        if account is None:
            return
        copy = account.begun.pop(event.packet_id, None)
        if copy is not None:
            account.released[event.packet_id] = copy
        self._answers[SendPubrel, event.connection, event.packet_id] = "MQTT-4.3.3-4"

    def _on_pubcomp(self, event: PubcompReceived) -> None:
        account = self._of(event.connection)
        if account is None:
            return
        copy = account.released.pop(event.packet_id, None)
        account.units.discard(event.packet_id)
        if copy is not None and not copy[3] and copy[0] not in account.delivered:
            raise ServerFault("MQTT-4.3.3-8", f"{copy[0].payload!r} complete, but not delivered")

    # ------------------------------------------------------------ what it does

    def observe(self, outcome: Outcome) -> None:
        """Hold what the store does against what it may and has to do.

        Raises:
            ServerFault: No rule allows it.
        """
        for notice in outcome.notices:
            kind = type(notice)
            if kind is MessageDropped:
                self._on_dropped(notice)  # type: ignore[arg-type]
            elif kind is WillPublished:
                self._on_will(notice)  # type: ignore[arg-type]
            elif kind is SessionEnded:
                name = notice.client_id  # type: ignore[union-attr]
                if name not in self._ended:
                    raise ServerFault("NN-1.1", f"the session of {name!r} ends too early")
                self._ended.remove(name)
        for action in outcome.actions:
            self._on_action(action)

    def _on_will(self, notice: WillPublished) -> None:
        due = (notice.client_id, notice.message)
        if due not in self._wills:
            raise ServerFault("MQTT-3.1.2-8", f"the will of {due[0]!r} is not due, or was sent")
        self._wills.remove(due)
        self._due_wills.append(notice.message)
        for account in self.accounts.values():
            account.delivered.pop(notice.message, None)  # each connection's will is a message anew
        self._hand_on(notice.message)

    def _on_dropped(self, notice: MessageDropped) -> None:
        account, message = self.accounts[notice.client_id], notice.delivery.message
        ending = notice.client_id in self._ending and notice.reason in _AT_END
        if ending and (notice.client_id, message) in self._lost:
            self._lost.remove((notice.client_id, message))
            return
        if ending and message in self._due_wills:
            return  # a will that is due as the session ends may still have been offered to it
        if notice.reason is DropReason.QUEUE_FULL and self._most is not None:
            in_queue = [copy for copy in account.waiting if copy[0] is message]
            if in_queue and len(account.waiting) > self._most:
                account.waiting.remove(in_queue[0])
                return
        if notice.reason is DropReason.EXPIRED:
            for copy in account.waiting:
                if copy[0] is message and expires_at(copy) <= self.now:
                    account.waiting.remove(copy)
                    return
            for copy in (*account.begun.values(), *account.released.values()):
                if copy[0] is message:
                    raise ServerFault("MQTT-4.4.0-1", f"{message.payload!r} dropped in flight")
        detail = f"{message.payload!r} dropped as {notice.reason.value} without reason"
        raise ServerFault("MQTT-4.5.0-1", detail)

    def _on_action(self, action: Action) -> None:
        kind, connection = type(action), action.connection  # type: ignore[union-attr]
        if (kind, connection) in self._closing:
            del self._closing[kind, connection]
            return
        account = self._of(connection)
        if account is None:
            raise ServerFault("NN-3.5", f"{kind.__name__} to {connection!r}, which is closed")
        if kind is SendConnack:
            self._on_connack(action)  # type: ignore[arg-type]
        elif connection in self._connacks:
            raise ServerFault("MQTT-3.2.0-1", f"{kind.__name__} comes before CONNACK")
        elif kind is SendPublish:
            self._on_publish(account, action)  # type: ignore[arg-type]
        elif kind is SendPubrel:
            self._on_pubrel_sent(account, action)  # type: ignore[arg-type]
        else:
            answer = (kind, connection, getattr(action, "packet_id", 0))
            if answer not in self._answers:
                if kind in (SendDisconnect, CloseConnection):
                    raise ServerFault("host", f"{connection!r} is closed and broke no rule")
                raise ServerFault("host", f"{kind.__name__} to {connection!r} answers nothing")
            del self._answers[answer]

    def _on_connack(self, action: SendConnack) -> None:
        if action.connection not in self._connacks:
            raise ServerFault("MQTT-3.2.0-2", "a second CONNACK")
        present, rule = self._connacks.pop(action.connection)
        if action.session_present is not present:
            raise ServerFault(rule, f"Session Present should be {present:d}")

    def _on_pubrel_sent(self, account: Account, action: SendPubrel) -> None:
        packet_id, resumed = action.packet_id, self._pubrels.get(account.connection)
        if resumed:
            if packet_id != resumed.pop(0):
                rule = "NN-8.4b" if account.version == 5 else "3.1.1 MQTT-4.6.0-4"
                raise ServerFault(rule, "PUBRELs not in the order of their PUBRECs")
            return
        answer = (SendPubrel, account.connection, packet_id)
        if answer not in self._answers:
            raise ServerFault("MQTT-4.3.3-4", f"PUBREL {packet_id} before PUBREC, or again")
        del self._answers[answer]

    def _on_publish(self, account: Account, action: SendPublish) -> None:
        delivery, packet_id = action.delivery, action.packet_id
        if account.congested:
            raise ServerFault("host", f"PUBLISH to {account.connection!r}, which is congested")
        if packet_id is None:
            if delivery.qos or action.dup:
                raise ServerFault("MQTT-3.3.1-2", "QoS 0 with DUP 1, or QoS 1 without identifier")
            copy = self._take(account, delivery)
            check_interval(copy, action.message_expiry_interval, self.now)
            return
        released = account.released.get(packet_id)
        if released is not None and released[0] is delivery.message:
            raise ServerFault("MQTT-4.3.3-6", f"PUBLISH {packet_id} after PUBREL")
        if action.dup:
            self._on_publish_again(account, delivery, packet_id)
        else:
            self._check_first(account, delivery, packet_id)
            account.begun[packet_id] = self._take(account, delivery)
        check_interval(account.begun[packet_id], action.message_expiry_interval, self.now)
        account.units.add(packet_id)
        if len(account.units) > account.window:
            in_the_air = f"{len(account.units)} in the air, {account.window} allowed"
            raise ServerFault("MQTT-4.9.0-2", in_the_air)

    def _on_publish_again(self, account: Account, delivery: Delivery, packet_id: int) -> None:
        copy = account.begun.get(packet_id)
        if copy is None or copy[0] is not delivery.message:
            raise ServerFault("MQTT-3.3.1-1", f"DUP 1 on the first attempt of {packet_id}")
        if packet_id not in account.again:
            raise ServerFault("MQTT-4.4.0-1", f"PUBLISH {packet_id} again on one connection")
        if packet_id != next(iter(account.again)):
            rule = "NN-15.3" if account.version == 5 else "3.1.1 MQTT-4.6.0-1"
            raise ServerFault(rule, f"PUBLISH {packet_id} again before its turn")
        del account.again[packet_id]

    def _check_first(self, account: Account, delivery: Delivery, packet_id: int) -> None:
        begun = account.begun.get(packet_id)
        if begun is not None and begun[0] is delivery.message:
            raise ServerFault("MQTT-3.3.1-1", f"PUBLISH {packet_id} again with DUP 0")
        if begun is not None or packet_id in account.released:
            raise ServerFault("MQTT-2.2.1-4", f"identifier {packet_id} is in use")
        for copy in (*account.begun.values(), *account.released.values()):
            is_same = copy[0] is delivery.message and copy[3] is delivery.is_retained
            if is_same and copy not in account.waiting:
                raise ServerFault("MQTT-4.4.0-1", "sent again under another identifier")
        if account.again:
            raise ServerFault("NN-8.3", "a new PUBLISH before what has to be sent again")

    def _take(self, account: Account, delivery: Delivery) -> Copy:
        """The copy that is sent now; those of its topic and QoS before it have to have left."""
        message = delivery.message
        if delivery.retain is not delivery.is_retained:
            rule = "NN-12.6" if delivery.is_retained else "MQTT-3.3.1-12"
            raise ServerFault(rule, f"RETAIN {delivery.retain:d}")
        if not delivery.is_retained:
            # NN-14.6: the retained one is this or older, and may not come after it
            account.called_up.pop(message.topic_name, None)
        elif not any(copy[3] and copy[0] is message for copy in account.waiting):
            return self._take_retained(account, delivery)
        for index, copy in enumerate(account.waiting):
            if copy[0] is message and copy[3] is delivery.is_retained:
                if copy[1] != delivery.qos:
                    raise ServerFault("MQTT-3.8.4-8", f"QoS {delivery.qos}, not {copy[1]}")
                if expires_at(copy) <= self.now:
                    raise ServerFault("MQTT-3.3.2-5", f"{message.payload!r} has expired")
                del account.waiting[index]
                return copy
            is_before = copy[1] == delivery.qos and copy[0].topic_name == message.topic_name
            if is_before and not (copy[3] or delivery.is_retained):
                raise ServerFault("MQTT-4.6.0-5", f"{message.payload!r} overtakes")
        raise ServerFault("MQTT-4.3.3-10", f"{message.payload!r} is handed on once too often")

    def _take_retained(self, account: Account, delivery: Delivery) -> Copy:
        message = delivery.message
        topic_name = message.topic_name
        if topic_name not in account.called_up:
            raise ServerFault("MQTT-3.3.1-9", f"retained {message.payload!r} not called up")
        if self.retained[topic_name] is not message:
            raise ServerFault("MQTT-3.3.1-5", f"retained {message.payload!r} was replaced")
        del account.called_up[topic_name]
        arrival = None
        if message.message_expiry_interval is not None:
            arrival = self.retained_at[topic_name]
        return (message, delivery.qos, arrival, True)

    # ------------------------------------------------------------ what is left

    def settle(self, client_ids: Iterable[str], next_deadline_at: float | None) -> None:
        """A step ends: everything that it had to bring has come.

        Args:
            client_ids: Of the sessions that the store has now.
            next_deadline_at: Of the store.

        Raises:
            ServerFault: Something is missing, or was lost.
        """
        owed: tuple[tuple[Any, str], ...] = (
            (self._answers, next(iter(self._answers.values()), "")),
            (self._closing, next(iter(self._closing.values()), "")),
            (self._connacks, "MQTT-3.1.4-5"),
            ([each for each in self._pubrels.values() if each], "MQTT-4.4.0-1"),
            (self._wills, "MQTT-3.1.2-8"),
            (self._ended, "NN-1.1"),
        )
        for pending, rule in owed:
            if pending:
                raise ServerFault(rule, f"not done: {pending}")
        if self._lost:
            name, message = self._lost[0]
            raise ServerFault("host", f"{message.payload!r} of {name!r} is lost untold")
        for account in self.accounts.values():
            if account.connection is not None and not account.congested:
                self._check_work_conserving(account)
        self._check_sessions_and_deadline(set(client_ids), next_deadline_at)

    def _check_work_conserving(self, account: Account) -> None:
        if len(account.units) < account.window:
            if account.again:
                raise ServerFault("MQTT-4.4.0-1", f"not sent again: {list(account.again)}")
            used = len(account.begun) + len(account.released)
            if account.called_up and used < self.packet_ids:
                raise ServerFault("MQTT-3.3.1-9", f"not sent: {list(account.called_up)}")
            if account.waiting and used < self.packet_ids:
                raise ServerFault("NN-10.7", f"{len(account.waiting)} wait though there is room")
        elif account.waiting and account.waiting[0][1] == 0 and not account.again:
            raise ServerFault("host", "QoS 0 waits though nothing is before it")

    def _check_sessions_and_deadline(self, client_ids: set[str], next_at: float | None) -> None:
        owed = _INF
        for name, account in self.accounts.items():
            if account.exists is not (name in client_ids):
                raise ServerFault("NN-1.1", f"session of {name!r}: {name in client_ids}")
            for copy in account.waiting:
                owed = min(owed, expires_at(copy))
            for at in (account.expires_at, account.will_at):
                if at is not None:
                    owed = min(owed, at)
        if owed <= self.now:
            raise ServerFault("host", "what was due by now has not been done")
        if owed < (_INF if next_at is None else next_at):
            raise ServerFault("host", f"next deadline {next_at} is later than {owed}")

    def deliver(self, client_id: str, deliveries: Iterable[Delivery]) -> None:
        """The client gave these to its application.

        Raises:
            ServerFault: A QoS 2 message for the second time.
        """
        delivered = self.accounts[client_id].delivered
        for delivery in deliveries:
            if delivery.qos == 2 and not delivery.is_retained:
                if delivery.message in delivered:
                    raise ServerFault("MQTT-4.3.3-10", f"{delivery.message.payload!r} twice")
                delivered[delivery.message] = None


_AT_END = (DropReason.SESSION_ENDED, DropReason.EXPIRED)

_ON_EVENT: dict[type, Callable[[Ledger, Any], None]] = {
    ClientConnected: Ledger._on_connected,
    ConnectionLost: Ledger._on_lost,
    ConnectionCongested: Ledger._on_congested,
    ConnectionWritable: Ledger._on_writable,
    DisconnectReceived: Ledger._on_disconnect,
    SubscriptionsAdded: Ledger._on_added,
    MessagePublished: Ledger._on_host_published,
    PublishReceived: Ledger._on_published,
    PubrelReceived: Ledger._on_pubrel,
    PubackReceived: Ledger._on_puback,
    PubrecReceived: Ledger._on_pubrec,
    PubcompReceived: Ledger._on_pubcomp,
}
