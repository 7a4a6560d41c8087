"""Snapshots: everything that a store or a session holds as one value, and back."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from attrs import evolve, fields
from hypothesis import given
from hypothesis import strategies as st

import mqtt_sessions
from mqtt_sessions import (
    Action,
    ClientConnected,
    ConnectionLost,
    DeliverMessage,
    Delivery,
    InvalidState,
    InvalidValue,
    Message,
    MessagePublished,
    MessageRouted,
    Notice,
    Outcome,
    Phase,
    PubackReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    ReasonCode,
    ReplaySnapshot,
    RetainedMessageDropped,
    RouteMessage,
    SendPuback,
    SendPublish,
    SendPubrec,
    SendPubrel,
    Session,
    SessionLimits,
    SessionStore,
    StoreSnapshot,
    WillFanoutSnapshot,
)
from mqtt_sessions.snapshots import SNAPSHOT_VERSION
from mqtt_sessions.testing.durable import durable_view
from tests.core.helpers import World, apply, will
from tests.core.histories import STEPS, Life, Step


def by_connection(actions: tuple[Action, ...]) -> dict[Any, list[Action]]:
    """What each connection sees; the order among them is nobody's business."""
    seen: dict[Any, list[Action]] = {}
    for action in actions:
        seen.setdefault(getattr(action, "connection", None), []).append(action)
    return seen


def by_subject(notices: tuple[Notice, ...]) -> dict[Any, list[Notice]]:
    """What is told of each client and topic; at one instant no order is fixed among them."""
    told: dict[Any, list[Notice]] = {}
    for notice in notices:
        subject = getattr(notice, "client_id", None)
        if isinstance(notice, RetainedMessageDropped):
            subject = notice.message.topic_name
        told.setdefault(subject, []).append(notice)
    return told


class Twins:
    """A store, and another that is snapshotted and restored before each call."""

    def __init__(self, world: World) -> None:
        self.one = world.store
        self.other = SessionStore.restore(world.store.snapshot())
        self.rows = dict(world.rows)

    def compare(self, one: Outcome, other: Outcome) -> Outcome:
        assert by_connection(other.actions) == by_connection(one.actions)
        assert by_subject(other.notices) == by_subject(one.notices)
        self.other.check()
        before = self.other.snapshot()
        # which of several subscribers has the lower row is as open as who goes first
        assert evolve(before, durable=None) == evolve(self.one.snapshot(), durable=None)
        self.compare_rows(other, before)
        self.other = SessionStore.restore(before)
        after = self.other.snapshot()
        assert after == before
        assert hash(after) == hash(before)
        return one

    def compare_rows(self, other: Outcome, before: StoreSnapshot) -> None:
        assert (before.durable is None) == (self.one.snapshot().durable is None)
        apply(self.rows, other.changes)
        if before.durable is not None:
            recovered = SessionStore.recover(
                self.rows.values(), before.now, before.policy, before.limits, before.options
            )
            after = recovered.store.snapshot()
            assert durable_view(after, before.now) == durable_view(before, before.now)

    def handle(self, event: Any, now: float) -> Outcome:
        problems: list[Exception] = []
        outcomes: list[Outcome] = []
        for store in (self.one, self.other):
            try:
                outcomes.append(store.handle(event, now))
            except InvalidState as problem:
                problems.append(problem)
        if problems:
            assert len(problems) == 2
            raise problems[0]
        return self.compare(*outcomes)

    def handle_timeout(self, now: float, limit: int | None = None) -> Outcome:
        # not in slices: they would show in which order those go that are due at one instant
        return self.compare(self.one.handle_timeout(now), self.other.handle_timeout(now))

    def __getattr__(self, name: str) -> Any:
        assert self.one.next_deadline_at == self.other.next_deadline_at
        return getattr(self.one, name)

    def __getitem__(self, client_id: str) -> Session:
        return self.one[client_id]

    def __contains__(self, client_id: str) -> bool:
        return client_id in self.one

    def __iter__(self) -> Any:
        return iter(self.one)

    def __len__(self) -> int:
        return len(self.one)


@given(STEPS, st.sampled_from([None, 1.5]), st.booleans())
def test_a_store_that_is_restored_before_each_call_answers_like_one_that_is_not(
    steps: list[Step], retry_interval: float | None, durable: bool
) -> None:
    life = Life(retry_interval=retry_interval, durable=durable)
    life.world.store = Twins(life.world)  # type: ignore[assignment]
    for step in steps:
        life.step(step)


# ---------------------------------------------------------------- a session of its own

OPERATIONS = ("connect", "lose", "publish", "repeat", "routed", "deliver", "ack", "wait")


class Alone:
    """A session without a store, whose host does things in any order."""

    def __init__(self) -> None:
        self.one = Session("a")
        self.other = Session.restore(self.one.snapshot())
        self.now = 0.0
        self.connection = 0
        self.routes: list[int] = []
        self.in_flight: list[tuple[int, int]] = []

    def do(self, event: Any) -> None:
        one, other = (each.handle(event, self.now) for each in (self.one, self.other))
        self.compare(one, other)

    def compare(self, one: Outcome, other: Outcome) -> None:
        assert other == one
        self.other.check()
        assert self.other.next_deadline == self.one.next_deadline
        snapshot = self.other.snapshot()
        assert snapshot == self.one.snapshot()
        self.other = Session.restore(snapshot)
        assert self.other.snapshot() == snapshot
        for action in one.actions:
            if isinstance(action, RouteMessage) and action.route_id is not None:
                self.routes.append(action.route_id)
            elif isinstance(action, SendPublish) and action.packet_id is not None:
                self.in_flight.append((action.packet_id, action.delivery.qos))

    def step(self, name: str, x: int) -> None:
        is_open = self.one.connected
        if name == "connect":
            if is_open:
                return
            self.connection += 1
            fields: dict[str, Any] = {"clean_start": x == 1, "keep_alive": x % 3}
            if x % 2:
                fields["will"] = will("w", x, b"w")
            self.do(ClientConnected(self.connection, "a", 5, session_expiry_interval=5, **fields))
        elif name == "lose" and is_open:
            self.do(ConnectionLost(self.connection))
        elif name in {"publish", "repeat"} and is_open:
            message = Message("t", b"x", qos=x % 3)
            packet_id = None if x % 3 == 0 else (1 if name == "repeat" else 2 + x)
            self.do(PublishReceived(self.connection, message, packet_id))
        elif name == "routed" and self.routes:
            route_id = self.routes.pop(x % len(self.routes))
            code = ReasonCode.QUOTA_EXCEEDED if x == 7 else ReasonCode.SUCCESS
            self.do(MessageRouted(route_id, code))
        elif name == "deliver" and self.one.exists:
            message = Message("t", b"%d" % x, x % 3, False, (None, 2)[x % 2])
            self.do(DeliverMessage(Delivery(message, x % 3)))
        elif name == "ack" and is_open:
            packet_id, qos = (self.in_flight or [(1, 1)]).pop(0)
            ack = PubackReceived if qos == 1 else PubrecReceived
            self.do((ack, PubrelReceived)[x == 5](self.connection, packet_id))
        elif name == "wait":
            self.now += (0.5, 1.0, 3.0)[x % 3]
            self.compare(self.one.handle_timeout(self.now), self.other.handle_timeout(self.now))


@given(
    st.lists(
        st.tuples(st.sampled_from((*OPERATIONS, "connect")), st.integers(0, 7)),
        min_size=10,
        max_size=60,
    )
)
def test_so_does_a_session_of_its_own(steps: list[tuple[str, int]]) -> None:
    alone = Alone()
    for name, x in steps:
        alone.step(name, x)


# ---------------------------------------------------------------- what it is


def busy() -> World:
    """A store in which everything that a snapshot can hold is there."""
    life = Life(retry_interval=1.5)
    world = life.world
    world.connect("p", "p", session_expiry_interval=0)
    world.publish("t/kept", b"kept", qos=1, retain=True, message_expiry_interval=60)
    world.publish("t/too", b"too", qos=0, retain=True)
    world.publish("t", b"one", qos=2)
    world.publish("t", b"two", qos=1, message_expiry_interval=30)
    world.publish("t", b"three", qos=1)
    world.send("p", "t", b"four", qos=2, packet_id=9)
    world.subscribe(1, "t/+", qos=1, subscription_id=5)
    world.lose(2)
    world.connect("w", "w", will=will("t", 7, b"will", qos=1, retain=True))
    world.disconnect("w", reason_code=4)
    world.connect("v", "v", will=will("t", 0, b"fanned out", qos=1))
    world.connect("k", "k", keep_alive=1, principal="somebody")
    world.lose("v")
    return world


def test_a_snapshot_of_everything_is_equal_to_itself_after_a_restore() -> None:
    store = busy().store
    snapshot = store.snapshot()
    restored = SessionStore.restore(snapshot)
    restored.check()
    assert restored.snapshot() == snapshot
    assert restored.next_deadline == store.next_deadline
    assert restored.counters == store.counters
    assert hash(restored.snapshot()) == hash(snapshot)


def test_a_snapshot_does_not_change_with_what_it_was_taken_of() -> None:
    world = busy()
    snapshot = world.store.snapshot()
    before = pickle.dumps(snapshot)
    restored = SessionStore.restore(snapshot)
    for store in (world.store, restored):
        for connection in (1, 3, "p", "k"):
            store.handle(ConnectionLost(connection), 1.0)
        store.handle_timeout(1e6)
    assert pickle.dumps(snapshot) == before
    assert len(restored) == 0


def test_a_snapshot_can_be_moved_to_another_process() -> None:
    snapshot = busy().store.snapshot()
    moved = pickle.loads(pickle.dumps(snapshot))
    assert moved == snapshot
    restored = SessionStore.restore(moved)
    restored.check()
    assert restored.snapshot() == snapshot


def test_a_crash_is_a_restore_and_the_loss_of_every_connection() -> None:
    world = busy()
    snapshot = world.store.snapshot()
    restored = SessionStore.restore(snapshot)
    for connection in snapshot.connections:
        restored.handle(ConnectionLost(connection), snapshot.now)
    assert restored.connected_count == 0
    outcome = restored.handle(
        ClientConnected("new", "a", clean_start=False, session_expiry_interval=9), snapshot.now
    )
    sent = [each for each in outcome.actions if isinstance(each, SendPublish)]
    [contents] = [each for each in snapshot.sessions if each.client_id == "a"]
    again = [(each.packet_id, each.delivery) for each in sent if each.dup]
    assert again == [each for each in contents.in_flight if each[1] is not None]
    waiting = [each.delivery for each in sent if not each.dup]
    assert waiting[: len(contents.queue)] == list(contents.queue)
    assert again
    assert waiting


def test_the_session_of_a_store_goes_on_alone() -> None:
    world = busy()
    contents = world.store["a"].snapshot()
    alone = Session.restore(contents)
    assert alone.connection == 1
    assert alone.subscriptions == world.store["a"].subscriptions
    assert alone.queued() == world.store["a"].queued()
    assert alone.in_flight == world.store["a"].in_flight
    first = next(each for each in alone.in_flight if each.phase is Phase.AWAITING_PUBREC)
    outcome = alone.handle(PubrecReceived(1, first.packet_id), world.now)
    assert outcome.actions[0] == SendPubrel(1, first.packet_id, ReasonCode.SUCCESS)


def test_what_the_hosts_router_has_is_part_of_a_session() -> None:
    session = Session("a")
    session.handle(ClientConnected(1, "a", session_expiry_interval=9), 0.0)
    session.handle(PublishReceived(1, Message("t", b"1", 1), 7), 0.0)
    session.handle(PublishReceived(1, Message("t", b"2", 1), 8), 0.0)
    session.handle(PublishReceived(1, Message("t", b"3", 2), 9), 0.0)
    session.handle(MessageRouted(2), 0.0)
    restored = Session.restore(session.snapshot())
    assert restored.handle(MessageRouted(1), 0.0).actions == (
        SendPuback(1, 7, ReasonCode.SUCCESS),
        SendPuback(1, 8, ReasonCode.SUCCESS),
    )
    assert restored.handle(MessageRouted(3), 0.0).actions == (SendPubrec(1, 9, ReasonCode.SUCCESS),)
    with pytest.raises(InvalidState):
        restored.handle(MessageRouted(4), 0.0)


def test_a_parked_session_and_none_at_all() -> None:
    session = Session("a")
    assert Session.restore(session.snapshot()).exists is False
    session.handle(ClientConnected(1, "a", session_expiry_interval=9), 0.0)
    session.handle(ConnectionLost(1), 1.0)
    restored = Session.restore(session.snapshot())
    assert restored.expires_at == 10.0
    restored.handle_timeout(10.0)
    assert not restored.exists


# ---------------------------------------------------------------- what is refused


def test_other_things_are_refused() -> None:
    snapshot = busy().store.snapshot()
    with pytest.raises(InvalidValue, match="must be of type StoreSnapshot, not NoneType"):
        SessionStore.restore(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="version must be 2, not 3"):
        SessionStore.restore(evolve(snapshot, version=3))
    with pytest.raises(InvalidValue, match="must be of type SessionSnapshot, not StoreSnapshot"):
        Session.restore(snapshot)  # type: ignore[arg-type]
    for now in (float("nan"), float("inf"), "now"):
        with pytest.raises(InvalidValue, match="now must be a finite float"):
            SessionStore.restore(evolve(snapshot, now=now))  # type: ignore[arg-type]


def test_what_was_counted_in_bytes_has_to_be_so_again() -> None:
    def size_of(delivery: Delivery, version: int) -> int:
        return 1

    for made in (SessionStore(size_of=size_of), Session("a", size_of=size_of)):
        snapshot: Any = made.snapshot()
        with pytest.raises(InvalidValue, match="restore must be given a size_of"):
            type(made).restore(snapshot)
        assert type(made).restore(snapshot, size_of).snapshot() == snapshot


def damaged_contents() -> list[tuple[str, dict[str, Any]]]:
    session = busy().store["a"].snapshot().contents
    assert session is not None
    link = session.connection
    assert link is not None
    some = session.in_flight[0]
    assert some[1] is not None
    replay = ReplaySnapshot((("nowhere", None, 1),), (), (), 1, True, None)
    return [
        ("subscriptions", {"subscriptions": session.subscriptions[:1] * 2}),
        ("in_flight", {"in_flight": (some, some)}),
        ("in_flight", {"in_flight": ((0, some[1]),)}),
        ("inbound", {"inbound": ((65_536, None),)}),
        ("inbound", {"inbound": ((1, None), (1, None))}),
        ("abandoned", {"abandoned": (some[0],)}),
        ("abandoned", {"abandoned": (999,)}),
        ("expires_at", {"expires_at": 99.0}),
        ("expires_at", {"connection": None}),
        ("will_due_at", {"will_due_at": 99.0}),
        ("replay.cursors", {"replay": replay}),
        ("connection.unsent", {"connection": evolve(link, unsent=(999,))}),
        ("connection.unitless", {"connection": evolve(link, unitless=(some[0],))}),
        ("connection.sent_at", {"connection": evolve(link, sent_at=((999, 1.0),))}),
        ("connection.keep_alive_at", {"connection": evolve(link, keep_alive_at=9.0)}),
        ("connection.inbound_units", {"connection": evolve(link, inbound_units=(0,))}),
    ]


@pytest.mark.parametrize(("field", "changes"), damaged_contents())
def test_a_session_that_cannot_be_is_refused(field: str, changes: dict[str, Any]) -> None:
    snapshot = busy().store.snapshot()
    [index] = [n for n, each in enumerate(snapshot.sessions) if each.client_id == "a"]
    sessions = list(snapshot.sessions)
    sessions[index] = evolve(sessions[index], **changes)
    with pytest.raises(InvalidValue, match=rf"^StoreSnapshot\.sessions\[{index}\]\.{field}"):
        SessionStore.restore(evolve(snapshot, sessions=tuple(sessions)))
    alone = busy().store["a"].snapshot()
    with pytest.raises(InvalidValue, match=rf"^SessionSnapshot\.contents\.{field}"):
        Session.restore(evolve(alone, contents=sessions[index]))


def test_a_store_that_cannot_be_is_refused() -> None:
    snapshot = busy().store.snapshot()
    first, second, *_ = snapshot.sessions
    fanout = WillFanoutSnapshot("x", Message("t"), 0.0, None, 0.0, (("nobody", (1,)),))
    for field, changes in (
        ("sessions must not name 'a' twice", {"sessions": (first, first)}),
        (
            "sessions must not name 1 twice",
            {"sessions": (first, evolve(second, connection=first.connection, expires_at=None))},
        ),
        ("connections lacks", {"connections": snapshot.connections[1:]}),
        ("connections must not name", {"connections": snapshot.connections * 2}),
        ("retained must not name", {"retained": snapshot.retained * 2}),
        (r"will_fanouts\[0\]", {"will_fanouts": (fanout,)}),
        (r"will_fanouts\[0\]", {"will_fanouts": (evolve(fanout, remaining=()),)}),
    ):
        with pytest.raises(InvalidValue, match=rf"^StoreSnapshot\.{field}"):
            SessionStore.restore(evolve(snapshot, **changes))


def test_a_session_is_its_own() -> None:
    alone = busy().store["a"].snapshot()
    with pytest.raises(InvalidValue, match="client_id must be 'b', not 'a'"):
        Session.restore(evolve(alone, client_id="b"))


# ---------------------------------------------------------------- what equality says


@pytest.mark.parametrize("again", [False, True], ids=["the same object", "an equal one"])
def test_equal_messages_are_the_same_message(again: bool) -> None:
    """What stands in a journal comes back as another object."""
    message = Message("t", b"m", 1, True)
    world = World(limits=SessionLimits(maximum_queued_messages=1))
    world.publish("a", b"old", qos=1, retain=True)
    world.connect(1, "s", receive_maximum=1)
    world.subscribe(1, "#", qos=1)
    for each in (message, evolve(message) if again else message):
        world.do(MessagePublished(each))
    world.subscribe(1, "t", qos=1)
    told = []
    for packet_id in range(1, 6):
        told += list(world.puback(1, packet_id).actions)
    payloads = [each.delivery.message.payload for each in told if isinstance(each, SendPublish)]
    assert payloads == [b"m", b"m"]


def test_wills_of_late_sessions_come_in_the_order_in_which_they_were_due() -> None:
    """Whoever subscribed first: a restored store knows no order among subscribers."""
    world = World()
    world.subscriber("r", "r", "w", qos=1)
    for name, interval in (("a", 11), ("b", 10)):
        world.connect(
            name,
            name,
            will=will("w", 99, name.encode(), retain=True),
            session_expiry_interval=interval,
        )
    for name in "ba":
        world.subscribe(name, "t")
    for name in "ab":
        world.lose(name)
    world.now = 50.0
    for store in (SessionStore.restore(world.store.snapshot()), world.store):
        outcome = store.handle(MessagePublished(Message("t")), world.now)
        payloads = [
            each.delivery.message.payload
            for each in outcome.actions
            if isinstance(each, SendPublish)
        ]
        assert payloads == [b"b", b"a"]


FORMAT = {
    "Delivery": 9,
    "ExpiryPolicy": 9,
    "Message": 10,
    "ServerOptions": 10,
    "SessionLimits": 15,
    "Subscription": 6,
    "Will": 2,
    "StoreSnapshot": 15,
    "DurableSnapshot": 7,
    "RowsSnapshot": 7,
    "SessionSnapshot": 11,
    "SessionContents": 19,
    "ConnectionSnapshot": 14,
    "ReplaySnapshot": 6,
    "RetainedSnapshot": 5,
    "WillFanoutSnapshot": 6,
    "RoutedSnapshot": 6,
}
"""Fields of all that a snapshot of version 2 can hold: who changes one changes the version."""


@pytest.mark.parametrize("name", FORMAT)
def test_the_version_stands_for_what_a_snapshot_holds(name: str) -> None:
    assert SNAPSHOT_VERSION == 2
    assert len(fields(getattr(mqtt_sessions, name))) == FORMAT[name]


def test_no_snapshot_in_the_middle_of_a_call() -> None:
    read_by: list[Any] = []

    def size_of(delivery: Delivery, version: int) -> int:
        for read in (store.snapshot, store["s"].snapshot):
            with pytest.raises(InvalidState, match="while a call is running"):
                read()
            read_by.append(read)
        return 1

    store = SessionStore(size_of=size_of)
    world = World()
    world.store = store
    world.subscriber("s", "s", "t", qos=1, maximum_packet_size=100)
    world.publish("t", b"x", qos=1)
    assert len(read_by) == 2


@pytest.mark.parametrize("name", [each.name for each in fields(StoreSnapshot)])
def test_every_field_counts(name: str) -> None:
    snapshot = evolve(busy().store.snapshot(), durable=World(durable=True).store.snapshot().durable)
    assert evolve(snapshot, **{name: None}) != snapshot


def test_a_message_that_was_given_up_does_not_count_as_delivered_after_a_restore() -> None:
    world = World(size_of=lambda delivery, version: 100)
    world.subscriber("s", "s", "t", qos=2)
    world.publish("t", b"x", qos=2)
    world.lose("s")
    world.connect("s", "s", maximum_packet_size=50)  # NN-8.7: only PUBREL is left of it
    world.store = SessionStore.restore(world.store.snapshot(), world.store._settings.size_of)
    assert [each.delivery for each in world.session("s").in_flight] == [None]
    world.pubcomp("s", 1)
    assert world.session("s").counters.completed == 0
    assert world.store.counters.completed == 0
