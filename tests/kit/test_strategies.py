"""Every value that a public strategy draws is one that can be, and every kind of it is drawn."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from mqtt_sessions import (
    ClientConnected,
    Event,
    InvalidState,
    Message,
    MessagePublished,
    PublishReceived,
    SessionStore,
    SubscriptionsAdded,
    is_valid_filter,
    is_valid_topic,
    matches,
)
from mqtt_sessions.testing import strategies

QUICK = settings(max_examples=100)


@QUICK
@given(strategies.topic_names(), strategies.topic_filters())
def test_topics_and_filters_are_well_formed(topic_name: str, topic_filter: str) -> None:
    assert is_valid_topic(topic_name)
    assert is_valid_filter(topic_filter)


def test_topics_and_filters_meet_in_all_ways() -> None:
    pairs = st.tuples(strategies.topic_filters(), strategies.topic_names())
    for wanted in ("#", "t", "+", "t/#", "$s", "$s/#", "+/x"):
        found = find(pairs, lambda pair, wanted=wanted: pair[0] == wanted and matches(*pair))  # type: ignore[misc]
        assert found[0] == wanted
    assert find(pairs, lambda pair: pair[0] == "#" and not matches(*pair))[1] == "$s"


@QUICK
@given(strategies.messages(), strategies.wills(), strategies.subscriptions())
def test_what_is_drawn_is_what_a_host_may_use(message: Any, will: Any, subscription: Any) -> None:
    MessagePublished(message)
    ClientConnected(1, "a", will=will)
    SubscriptionsAdded("a", (subscription,))


@QUICK
@given(
    strategies.messages(4), strategies.wills(4), strategies.subscriptions(4), strategies.connects()
)
def test_before_5_there_are_no_properties(
    message: Message, will: Any, subscription: Any, connect: ClientConnected
) -> None:
    plain = Message(message.topic_name, message.payload, message.qos, message.retain)
    assert message == plain
    ClientConnected(1, "a", 4, will=will)
    assert not subscription.no_local
    assert subscription.subscription_id is None
    if connect.protocol_version < 5:
        assert connect.receive_maximum is connect.session_expiry_interval is None


@pytest.mark.parametrize(
    "strategy",
    [strategies.messages(), strategies.connects(), strategies.subscriptions(), strategies.wills()],
    ids=["message", "connect", "subscription", "will"],
)
def test_the_plainest_comes_of_shrinking(strategy: st.SearchStrategy[Any]) -> None:
    plainest = {
        "Message": Message("t"),
        "ClientConnected": ClientConnected(1, "a", clean_start=False, session_expiry_interval=8),
    }
    found = find(strategy, lambda _: True)
    assert found == plainest.get(type(found).__name__, found)
    assert "None" not in repr(getattr(found, "topic_filter", ""))


def test_every_kind_of_event_is_drawn() -> None:
    drawn: set[type] = set()

    @settings(max_examples=600, database=None, phases=[Phase.generate])
    @given(strategies.events(routed=True))
    def collect(event: Event) -> None:
        drawn.add(type(event))

    collect()
    assert drawn == set(get_args(Event))


@settings(max_examples=60)
@given(st.data())
def test_a_store_takes_whatever_is_drawn(data: st.DataObject) -> None:
    """Nothing but InvalidState comes of events in any order, whatever the configuration."""
    store = SessionStore(
        data.draw(strategies.policies()),
        data.draw(strategies.limits()),
        data.draw(strategies.options()),
    )
    version = data.draw(st.sampled_from((5, 4, 3)))
    taken = 0
    for event in data.draw(st.lists(strategies.events(version), max_size=15)):
        try:
            store.handle(event, float(taken))
            taken += 1
        except InvalidState:
            pass
        store.check()


@QUICK
@given(strategies.publishes())
def test_a_packet_identifier_stands_where_it_belongs(event: PublishReceived) -> None:
    assert (event.packet_id is None) == (event.message.qos == 0)
    assert event.message.qos or not event.dup
