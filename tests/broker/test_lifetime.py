"""Sessions begin, are taken over and end; wills; keep alive."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from paho.mqtt.packettypes import PacketTypes

from examples.broker import host as host_module
from examples.broker.configuration import Configuration
from mqtt_sessions import (
    ConnectReturnCode,
    DropReason,
    ExpiryPolicy,
    Message,
    ReasonCode,
    ServerOptions,
    SessionLimits,
    Will,
    wire,
)
from tests.broker.conftest import MakePaho, MakeRaw, StartBroker
from tests.broker.helpers import RawClient, RunningBroker, eventually, properties


@pytest.mark.parametrize("version", [4, 5])
def test_paho_dies_and_its_will_is_published(make_paho: MakePaho, version: int) -> None:
    heir = make_paho(5, "heir")
    heir.connect()
    heir.subscribe("wills/#", 2)
    client = make_paho(version, "client")
    told = None
    if version == 5:
        told = properties(PacketTypes.WILLMESSAGE, ContentType="text", MessageExpiryInterval=60)
    client.client.will_set("wills/client", b"gone", 1, retain=True, properties=told)
    client.connect()
    client.die()
    will = heir.message()
    assert (will.topic, will.payload, will.qos) == ("wills/client", b"gone", 1)
    assert getattr(will.properties, "ContentType", None) == ("text" if version == 5 else None)


@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_normal_disconnect_keeps_the_will(make_raw: MakeRaw, version: int) -> None:
    heir = make_raw()
    heir.connect("heir")
    heir.subscribe("will")
    client = make_raw(version)
    client.connect("client", will=Will(Message("will", b"gone")))
    client.send(wire.Disconnect())
    assert client.receive() is None
    assert heir.before_ping() == []


def test_a_delayed_will(broker: RunningBroker, make_raw: MakeRaw) -> None:
    heir = make_raw()
    heir.connect("heir")
    heir.subscribe("will")
    began = time.monotonic()
    for client_id, delay in (("back in time", 30), ("never back", 1)):
        client = make_raw()
        will = Will(Message("will", client_id.encode()), delay)
        client.connect(client_id, session_expiry_interval=60, will=will)
        client.socket.close()
    eventually(lambda: broker.parked("back in time"))
    session = broker.call(lambda each: each.store["back in time"])
    assert broker.call(lambda _: session.will_due_at) is not None
    back = make_raw()
    assert back.connect("back in time", clean_start=False).session_present
    assert broker.call(lambda _: session.will) is None
    assert heir.receive().message.payload == b"never back"
    assert time.monotonic() - began >= 1
    assert heir.before_ping() == []


@pytest.mark.parametrize("version", [3, 4, 5])
def test_take_over(make_raw: MakeRaw, version: int) -> None:
    old = make_raw(version)
    old.connect("client")
    new = make_raw()
    new.connect("client")
    told = [wire.Disconnect(ReasonCode.SESSION_TAKEN_OVER)] if version == 5 else []
    assert old.receive_all() == told
    assert new.before_ping() == []


def test_paho_is_taken_over(make_paho: MakePaho) -> None:
    old, new = make_paho(5, "client"), make_paho(5, "client")
    old.connect()
    new.connect()
    assert old.hear("disconnect") == (True, ReasonCode.SESSION_TAKEN_OVER)


def test_a_session_expires(broker: RunningBroker, make_raw: MakeRaw) -> None:
    client = make_raw()
    client.connect("client", session_expiry_interval=1)
    began = time.monotonic()
    client.socket.close()
    eventually(lambda: broker.gone("client"))  # by the timer alone
    assert time.monotonic() - began >= 1
    again = make_raw()
    assert not again.connect("client", clean_start=False).session_present


def test_thousands_of_deadlines_at_one_instant(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "TIMEOUT_SLICE", 100)
    broker = start_broker(Configuration(limits=SessionLimits(maximum_queued_messages=None)))
    with RawClient(broker.port) as client, RawClient(broker.port) as publisher:
        client.connect("client", session_expiry_interval=60)
        client.subscribe("t")
        client.send(wire.Disconnect())
        assert client.receive() is None
        publisher.connect("publisher")
        packet = wire.Publish(Message("t", message_expiry_interval=1))
        publisher.send(*[packet] * 3000)
        assert publisher.before_ping() == []
        dropped = {DropReason.EXPIRED: 3000}
        eventually(
            lambda: broker.call(lambda each: each.store["client"].counters.dropped) == dropped
        )


def test_somebody_sets_the_clock(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0.0
    clock = SimpleNamespace(time=lambda: time.time() + ahead)
    monkeypatch.setattr(host_module, "time", clock)
    monkeypatch.setattr(host_module, "LONGEST_SLEEP", 0.05)
    broker = start_broker(Configuration())
    with RawClient(broker.port) as client:
        client.connect("client", session_expiry_interval=1000)
    eventually(lambda: broker.parked("client"))
    ahead = 2000.0
    eventually(lambda: broker.gone("client"))


def test_disconnect_changes_the_interval(broker: RunningBroker, make_raw: MakeRaw) -> None:
    client = make_raw()
    client.connect("client", session_expiry_interval=60)
    client.send(wire.Disconnect(session_expiry_interval=0))
    assert client.receive() is None
    assert broker.gone("client")
    client = make_raw()
    client.connect("client")
    client.send(wire.Disconnect(session_expiry_interval=60))
    assert client.receive_all() == [wire.Disconnect(ReasonCode.PROTOCOL_ERROR)]


def test_the_policy_holds_for_clients_that_ask_for_nothing(start_broker: StartBroker) -> None:
    policy = ExpiryPolicy(default_session_expiry_interval=0.2)
    broker = start_broker(Configuration(policy))
    with RawClient(broker.port, 4) as client:
        client.connect("client", clean_start=False)
    eventually(lambda: broker.gone("client"))


def test_the_cap_is_told(start_broker: StartBroker) -> None:
    broker = start_broker(Configuration(ExpiryPolicy(maximum_session_expiry_interval=7)))
    with RawClient(broker.port) as client:
        assert client.connect(session_expiry_interval=8).session_expiry_interval == 7


@pytest.mark.parametrize("version", [3, 4, 5])
def test_keep_alive(make_raw: MakeRaw, version: int) -> None:
    client = make_raw(version)
    began = time.monotonic()
    client.connect("client", keep_alive=1)
    told = [wire.Disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)] if version == 5 else []
    assert client.receive_all() == told
    assert 1.5 <= time.monotonic() - began < 20  # late on a slow machine, but in its own time


def test_a_server_keep_alive(start_broker: StartBroker) -> None:
    broker = start_broker(Configuration(options=ServerOptions(server_keep_alive=1)))
    with RawClient(broker.port) as client:
        assert client.connect(keep_alive=1000).server_keep_alive == 1
        assert client.receive_all() == [wire.Disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)]


@pytest.mark.parametrize(
    ("version", "clean"), [(4, True), (5, True), (5, False)], ids=["3.1.1", "5.0", "5.0 resuming"]
)
def test_a_client_id_is_assigned(
    broker: RunningBroker, make_raw: MakeRaw, version: int, clean: bool
) -> None:
    first, second = make_raw(version), make_raw(version)
    answers = [client.connect("", clean_start=clean) for client in (first, second)]
    assert [answer.reason_code for answer in answers] == [0, 0]
    ids = broker.call(lambda each: set(each.store))
    assert len(ids) == 2
    if version == 5:
        assert {answer.assigned_client_identifier for answer in answers} == ids


@pytest.mark.parametrize(("version", "clean"), [(3, True), (4, False)])
def test_no_client_id_where_there_must_be_one(make_raw: MakeRaw, version: int, clean: bool) -> None:
    client = make_raw(version)
    answer = client.connect("", clean_start=clean)
    assert answer.reason_code is ConnectReturnCode.IDENTIFIER_REJECTED
    assert client.receive() is None


def test_the_broker_is_full(start_broker: StartBroker) -> None:
    broker = start_broker(Configuration(limits=SessionLimits(maximum_sessions=1)))
    with RawClient(broker.port) as first, RawClient(broker.port) as second:
        first.connect("first")
        assert second.connect("second").reason_code is ReasonCode.QUOTA_EXCEEDED
        assert second.receive() is None
        assert first.before_ping() == []


def test_credentials_are_not_looked_at(make_raw: MakeRaw) -> None:
    client = make_raw()
    assert client.connect(user_name="anybody", password=b"anything").reason_code == 0


def test_enhanced_authentication_is_refused(make_raw: MakeRaw) -> None:
    client = make_raw()
    answer = client.connect(authentication_method="SCRAM-SHA-1", authentication_data=b"x")
    assert answer.reason_code is ReasonCode.BAD_AUTHENTICATION_METHOD
    assert client.receive() is None
