"""Random differential runs: a store and the model are told the same, and must agree."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from mqtt_sessions import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    Delivery,
    DisconnectReceived,
    Event,
    ExpiryPolicy,
    LimitsChanged,
    MalformedPacketReceived,
    Message,
    MessagePublished,
    OverflowPolicy,
    OverlapPolicy,
    Phase,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    QueuePurged,
    ReasonCode,
    ServerOptions,
    ServerStopping,
    SessionDiscarded,
    SessionExpirySet,
    SessionKicked,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
    SubscriptionsAdded,
    SubscriptionsRemoved,
    UnauthorizedPolicy,
    UnsubscribeReceived,
    Will,
    WillRevoked,
)
from mqtt_sessions.testing.model import Model
from mqtt_sessions.testing.model_values import AWAITING_PUBACK, AWAITING_PUBREC

CLIENTS = ("a", "b", "c")
TOPICS = ("t", "t/x", "u", "$s", "t/x/")
FILTERS = ("t", "t/+", "t/#", "#", "$s", "+", "u", "+/x/#")
BAD_FILTERS = ("", "#/a", "t+", "$share/g/t")
NEVER = 0xFFFFFFFF


def size_of(delivery: Delivery, protocol_version: int) -> int:
    """Bytes of a PUBLISH packet, or something like it."""
    message = delivery.message
    size = 4 + len(message.topic_name) + len(message.payload)
    if protocol_version == 5:
        size += 2 * len(delivery.subscription_ids) + 10 * len(message.user_properties)
    return size


def configurations(chance: random.Random) -> dict[str, Any]:
    """A policy, limits and options: the defaults mostly, and now and then anything."""
    pick = chance.choice
    policy = ExpiryPolicy(
        default_session_expiry_interval=pick((7200, 6, None)),
        maximum_session_expiry_interval=pick((None, None, 7)),
        minimum_session_expiry_interval=pick((None, None, 4)),
        default_message_expiry_interval=pick((None, None, 3.5)),
        maximum_message_expiry_interval=pick((None, None, 3)),
        show_default_message_expiry=pick((False, True)),
        expire_in_flight=pick((False, False, True)),
        inbound_qos2_interval=pick((None, None, 5)),
        retry_interval=pick((None, None, None, 2)),
    )
    limits = SessionLimits(
        maximum_sessions=pick((None, None, 2)),
        maximum_client_id_length=pick((None, 23)),
        maximum_subscriptions=pick((None, None, 3)),
        maximum_filters_per_packet=pick((1000, 3)),
        maximum_filter_levels=pick((None, None, 2)),
        maximum_granted_qos=pick((2, 2, 2, 1)),
        maximum_send_window=pick((32, 2, 1)),
        maximum_queued_messages=pick((1000, 1000, 3, 1, 0)),
        maximum_queued_bytes=pick((None, None, 12)),
        overflow=pick(tuple(OverflowPolicy)),
        queue_qos0=pick((True, True, False)),
        maximum_inbound_qos2=pick((100, 100, 2)),
        maximum_retained_messages=pick((None, None, 2)),
        maximum_retained_bytes=pick((None, None, 20)),
        retained_replay_batch=pick((100, 1)),
    )
    options = ServerOptions(
        receive_maximum=pick((100, 100, 2)),
        enforce_receive_maximum=pick((True, True, False)),
        maximum_qos=pick((2, 2, 2, 1)),
        retain_available=pick((True, True, True, False)),
        server_keep_alive=pick((None, None, None, 4)),
        overlap=pick(tuple(OverlapPolicy)),
        upgrade_qos=pick((False, False, False, True)),
        unauthorized=pick(tuple(UnauthorizedPolicy)),
    )
    return {"policy": policy, "limits": limits, "options": options}


class Run:
    """Chooses what happens next by what the model knows, and holds the store to it."""

    def __init__(
        self,
        seed: int,
        *,
        store: Callable[..., Any] = SessionStore,
        notices: bool = True,
        late: bool = False,
        deadlines: bool = True,
        **settings: Any,
    ) -> None:
        self.chance = random.Random(seed)
        if not settings:
            settings = configurations(self.chance)
        settings.setdefault("size_of", size_of)
        self.model = Model(**settings)
        self.store = store(**settings)
        self.notices = notices
        self.late = late
        self.deadlines = deadlines
        self.now = 0.0
        self.last = 0
        self.published = 0
        self.log: list[Any] = []

    # ------------------------------------------------------------ a step

    def feed(self, event: Event | None) -> None:
        """One step: both are told, and what the store does is held against the model."""
        model, store = self.model, self.store
        self.log.append((self.now, event))
        outcomes = []
        if event is not None:
            model.handle(event, self.now)
            outcomes.append(store.handle(event, self.now))
        model.handle_timeout(self.now)
        outcomes.append(store.handle_timeout(self.now))
        while store.next_deadline_at is not None and store.next_deadline_at <= self.now:
            outcomes.append(store.handle_timeout(self.now))
        self.log.append(outcomes)
        for outcome in outcomes:
            for action in outcome.actions:
                model.observe(action)
            for notice in outcome.notices if self.notices else ():
                model.observe(notice)
        model.settle()
        if self.deadlines:
            self.compare_deadlines()
        if self.notices and isinstance(store, SessionStore):
            self.compare_views()
            store.check()

    def compare_deadlines(self) -> None:
        """The store's is never later than the true one, and the same where the model knows it."""
        mine, its = self.model.next_deadline_at, self.store.next_deadline_at
        if mine is not None:
            assert its is not None, f"no deadline, not {mine}"
            assert its <= mine, f"deadline {its}, not {mine}"
        retries = any(
            each.session is not None and each.session.policy.retry_interval is not None
            for each in self.model.connections.values()
        )
        # A timer of retries may be early, and finds nothing to do then; without notices the model
        # does not know what has been dropped.
        if self.notices and not retries:
            assert mine == its, f"deadline {its}, not {mine}"

    def compare_views(self) -> None:
        """What a host can read says the same as the model."""
        model, store = self.model, self.store
        assert sorted(store) == sorted(model.sessions)
        for client_id, mine in model.sessions.items():
            its = store[client_id]
            connection = None if mine.connection is None else mine.connection.name
            assert its.connection == connection
            assert its.principal == mine.principal
            assert its.session_expiry_interval == mine.interval
            assert its.expires_at == mine.expires_at
            assert its.will == (None if mine.will is None else mine.will.message)
            assert list(its.subscriptions) == list(mine.subscriptions.values())
            assert sorted(its.inbound_packet_ids) == sorted(mine.inbound)
            # In the order of first sending, but those that were released in that of their PUBRECs
            order = sorted(mine.in_flight, key=lambda each: each.released)
            for released in (False, True):
                phases = [
                    (each.packet_id, each.phase)
                    for each in order
                    if (each.released > 0) is released
                ]
                assert phases == [
                    (each.packet_id, each.phase.name)
                    for each in its.in_flight
                    if (each.phase is Phase.AWAITING_PUBCOMP) is released
                ]
            queued = [(each.message, each.qos) for each in its.queued(0, 10_000)]
            assert sorted(map(repr, queued)) == sorted(
                repr((each.message, each.qos)) for each in mine.queue
            )
            quota = 0 if mine.connection is None else max(0, model.room(mine.connection))
            assert its.send_quota == quota
        retained = {each.topic_name: each for each in store.retained(limit=10_000)}
        sure = {name for name, entry in model.retained.items() if not entry.doubtful}
        assert sure <= set(retained) <= set(model.retained)
        for topic_name, message in retained.items():
            entry = model.retained[topic_name]
            assert message in [each.message for each in (entry.copy, *entry.rivals)]

    def steps(self, count: int) -> None:
        """So many steps, chosen by chance."""
        names = list(STEPS)
        weights = [STEPS[name] for name in names]
        for name in self.chance.choices(names, weights, k=count):
            event = getattr(self, "_" + name)()
            if event is not None:
                self.feed(event)

    # ------------------------------------------------------------ what may happen

    def _open(self) -> Any:
        connections = [each for each in self.model.connections.values() if each.open]
        return self.chance.choice(connections) if connections else None

    def _session(self) -> Any:
        return self.chance.choice(list(self.model.sessions.values()) or [None])

    def _message(self) -> Message:
        pick = self.chance.choice
        self.published += 1
        payload = b"" if pick(range(12)) == 0 else b"%d" % self.published
        properties: dict[str, Any] = {}
        if pick(range(4)) == 0:
            properties = {
                "payload_format_indicator": 1,
                "content_type": "c",
                "response_topic": "r",
                "correlation_data": b"d",
                "user_properties": (("k", "1"), ("k", "2")),
            }
        interval = pick((None, None, None, 2, 4, 0))
        return Message(
            pick(TOPICS), payload, pick((0, 1, 2)), pick(range(3)) == 0, interval, **properties
        )

    def _connect(self) -> Event:
        pick = self.chance.choice
        self.last += 1
        version = pick((5, 5, 5, 4, 3))
        fields: dict[str, Any] = {"protocol_version": version, "clean_start": pick(range(3)) == 0}
        if version == 5:
            fields["session_expiry_interval"] = pick((None, 0, 2, 5, 9, NEVER))
            fields["receive_maximum"] = pick((None, None, 1, 1, 2, 2, 3, 3, 0)[: pick((8, 8, 9))])
            fields["maximum_packet_size"] = pick((None, None, None, 40, 30, 20))
        fields["keep_alive"] = pick((0, 0, 0, 2, 4))
        if pick(range(3)) == 0:
            delay = pick((0, 3, 20)) if version == 5 else 0
            message = self._message()
            if pick(range(15)) == 0:
                message = Message(pick(("", "t/#")))
            fields["will"] = Will(message, delay)
        if pick(range(6)) == 0:
            fields["limits"] = SessionLimits(
                maximum_queued_messages=pick((1, 3, None)),
                overflow=pick(tuple(OverflowPolicy)),
                queue_qos0=pick((True, False)),
            )
        if pick(range(8)) == 0:
            fields["policy"] = ExpiryPolicy(
                inbound_qos2_interval=2, expire_in_flight=True, default_message_expiry_interval=2
            )
        if pick(range(10)) == 0:
            fields["principal"] = pick(("alice", None))
        client_id = pick(CLIENTS) if pick(range(15)) else pick(("", "x" * 24))
        if client_id == "" and pick(range(2)):
            fields["assigned_client_id"] = f"auto-{self.last}"
        return ClientConnected(self.last, client_id, **fields)

    def _reconnect(self) -> Event | None:
        """A parked session comes back, with its Clean Start 0."""
        parked = [each for each in self.model.sessions.values() if not each.connected]
        if not parked:
            return None
        pick = self.chance.choice
        self.last += 1
        version = pick((5, 5, 4))
        fields: dict[str, Any] = {}
        if version == 5:
            fields = {
                "session_expiry_interval": pick((5, 9)),
                "receive_maximum": pick((None, 1, 2)),
            }
        session = pick(parked)
        return ClientConnected(
            self.last, session.client_id, version, False, principal=session.principal, **fields
        )

    def _connect_again(self) -> Event | None:
        """A second CONNECT on an open connection."""
        connection = self._open()
        if connection is None:
            return None
        return ClientConnected(connection.name, self.chance.choice(CLIENTS))

    def _lose(self) -> Event | None:
        connections = list(self.model.connections.values())
        closed = [each for each in connections if not each.open]
        if closed and self.chance.random() < 0.7:
            return ConnectionLost(self.chance.choice(closed).name)
        return ConnectionLost(self.chance.choice(connections).name) if connections else None

    def _disconnect(self) -> Event | None:
        connection, pick = self._open(), self.chance.choice
        if connection is None:
            return None
        return DisconnectReceived(
            connection.name, pick((0, 0, 4, 0x80, 0x55)), pick((None, None, 0, 7))
        )

    def _malformed(self) -> Event | None:
        connection = self._open()
        return None if connection is None else MalformedPacketReceived(connection.name)

    def _ping(self) -> Event | None:
        connection = self._open()
        if connection is None:
            return None
        return PingReceived(connection.name, self.chance.random() < 0.7)

    def _filter(self) -> str:
        return self.chance.choice(FILTERS if self.chance.random() < 0.95 else BAD_FILTERS)

    def _subscription(self, version: int) -> Subscription:
        pick = self.chance.choice
        if version < 5:
            return Subscription(self._filter(), pick((0, 1, 2)))
        return Subscription(
            self._filter(),
            pick((0, 1, 2, 2)),
            pick((False, False, False, True)),
            pick((False, True)),
            pick((0, 0, 1, 2)),
            pick((None, 1, 2, 3)),
        )

    def _subscribe(self) -> Event | None:
        connection, pick = self._open(), self.chance.choice
        if connection is None:
            return None
        wanted = tuple(
            self._subscription(connection.protocol_version) for _ in range(pick((1, 1, 1, 2, 3, 4)))
        )
        refusals: tuple[Any, ...] = ()
        if pick(range(8)) == 0:
            refusals = tuple(pick((None, ReasonCode.NOT_AUTHORIZED)) for _ in wanted)
        packet_id = pick(range(1, 9)) if pick(range(25)) else 0
        return SubscribeReceived(connection.name, packet_id, wanted, refusals)

    def _unsubscribe(self) -> Event | None:
        connection, pick = self._open(), self.chance.choice
        if connection is None:
            return None
        wanted = tuple(self._filter() for _ in range(pick((1, 1, 2, 3))))
        refusals: tuple[Any, ...] = ()
        if pick(range(8)) == 0:
            refusals = tuple(pick((None, ReasonCode.NOT_AUTHORIZED)) for _ in wanted)
        return UnsubscribeReceived(connection.name, pick(range(1, 9)), wanted, refusals)

    def _publish(self) -> Event | None:
        connection, pick = self._open(), self.chance.choice
        if connection is None:
            return None
        message = self._message()
        packet_id = pick(range(1, 5)) if message.qos else None
        refusal = None
        if pick(range(12)) == 0:
            refusal = pick((ReasonCode.NOT_AUTHORIZED, ReasonCode.QUOTA_EXCEEDED))
        return PublishReceived(connection.name, message, packet_id, pick((False, True)), refusal)

    def _wrong_publish(self) -> Event | None:
        connection, pick = self._open(), self.chance.choice
        if connection is None:
            return None
        message = Message(pick(("t", "t/#", "")), b"wrong", pick((0, 1, 2, 3)))
        return PublishReceived(
            connection.name, message, pick((None, 0, 3)), False, None, pick(((), (4,)))
        )

    def _release(self) -> Event | None:
        connection = self._open()
        if connection is None:
            return None
        held = list(connection.session.inbound) or [1]
        packet_id = self.chance.choice(held) if self.chance.random() < 0.8 else 4
        return PubrelReceived(connection.name, packet_id)

    def _acknowledge(self) -> Event | None:
        """The right packet mostly; sometimes an error, and sometimes the wrong packet."""
        busy = [
            each
            for each in self.model.connections.values()
            if each.open and each.session is not None and each.session.in_flight
        ]
        pick = self.chance.choice
        connection = pick(busy) if busy else self._open()
        if connection is None:
            return None
        in_flight = connection.session.in_flight
        code = pick((ReasonCode.SUCCESS,) * 6 + (ReasonCode.UNSPECIFIED_ERROR,))
        if not in_flight or pick(range(20)) == 0:
            kind = pick((PubackReceived, PubrecReceived, PubcompReceived))
            return kind(connection.name, pick(range(1, 5)), code)
        exchange = pick((in_flight[0], pick(in_flight)))
        if pick(range(40)) == 0:
            kind = pick((PubackReceived, PubrecReceived, PubcompReceived))
            return kind(connection.name, exchange.packet_id, code)
        if exchange.phase == AWAITING_PUBACK:
            return PubackReceived(connection.name, exchange.packet_id, code)
        if exchange.phase == AWAITING_PUBREC or pick(range(9)) == 0:
            return PubrecReceived(connection.name, exchange.packet_id, code)
        return PubcompReceived(connection.name, exchange.packet_id, code)

    def _congest(self) -> Event | None:
        connection = self._open()
        if connection is None:
            return None
        if connection.congested or self.chance.random() < 0.3:
            return ConnectionWritable(connection.name)
        return ConnectionCongested(connection.name)

    def _host(self) -> Event:
        publisher = self.chance.choice((None, None, "a"))
        return MessagePublished(self._message(), publisher)

    def _administer(self) -> Event | None:
        session, pick = self._session(), self.chance.choice
        if session is None:
            return None
        name = session.client_id
        kept = Subscription(pick(FILTERS), pick((0, 1, 2)), retain_handling=pick((0, 1, 2)))
        events: list[Event] = [
            SessionDiscarded(name),
            SessionExpirySet(name, pick((0, 3, None))),
            SubscriptionsAdded(name, (kept,)),
            SubscriptionsRemoved(name, (pick(FILTERS), pick(FILTERS))),
            WillRevoked(name),
            QueuePurged(name, pick((None, "t", "t/#", "#", "+")), pick((None, self.now - 1))),
        ]
        if session.connected:
            events.append(SessionKicked(name))
        return pick(events)

    def _server(self) -> Event | None:
        pick = self.chance.choice
        if pick(range(3)):
            return None
        if pick(range(3)) == 0:
            return ServerStopping()
        return LimitsChanged(configurations(self.chance)["limits"])

    def _wait(self) -> None:
        """Time passes, to the next deadline or short of it."""
        step = self.chance.choice((0.25, 0.5, 1.0, 2.0) if self.published % 2 else (1.0, 2.0))
        at = self.model.next_deadline_at
        if at is not None and at < self.now + step and not self.late:
            self.now = at
        else:
            self.now += step
        self.feed(None)


STEPS = {
    "connect": 6,
    "connect_again": 0.3,
    "reconnect": 6,
    "lose": 5,
    "disconnect": 1.5,
    "malformed": 0.3,
    "ping": 1,
    "subscribe": 8,
    "unsubscribe": 2,
    "publish": 14,
    "wrong_publish": 0.3,
    "release": 4,
    "acknowledge": 18,
    "congest": 3,
    "host": 6,
    "administer": 2,
    "server": 0.6,
    "wait": 10,
}
