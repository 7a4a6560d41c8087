"""The tree of subscriptions, held against asking each filter by itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mqtt_sessions import (
    ExpiryPolicy,
    ServerOptions,
    SessionLimits,
    Subscription,
    is_valid_filter,
    matches,
)
from mqtt_sessions.state import Route, SessionState
from mqtt_sessions.topic_tree import TopicTree
from mqtt_sessions.turn import Settings

SETTINGS = Settings(ExpiryPolicy(), SessionLimits(), ServerOptions(), None)
SESSIONS = [SessionState(name, SETTINGS) for name in ("a", "b", "c")]
LEVELS = st.sampled_from(("", "a", "b", "$x", "A"))
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = (
    st.lists(st.sampled_from(("", "a", "b", "$x", "A", "+", "#")), min_size=1, max_size=4)
    .map("/".join)
    .filter(is_valid_filter)
)


def route(session: SessionState, topic_filter: str) -> Route:
    return Route(session, topic_filter, Route.pack(Subscription(topic_filter), 0))


def found(tree: TopicTree, topic_name: str) -> list[tuple[str, str]]:
    """Client and filter of each match."""
    routes: list[Route] = []
    for bucket in tree.match(topic_name):
        routes += [bucket] if isinstance(bucket, Route) else bucket.values()
    return sorted((each.session.client_id, each.topic_filter) for each in routes)


class TreeMachine(RuleBasedStateMachine):
    """Subscriptions come and go; the model is a dict that is asked one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = TopicTree()
        self.model: dict[tuple[str, str], Route] = {}

    @rule(session=st.sampled_from(SESSIONS), topic_filter=FILTERS)
    def add(self, session: SessionState, topic_filter: str) -> None:
        key = (session.client_id, topic_filter)
        if key in self.model:
            return
        is_first = all(each != topic_filter for _, each in self.model)
        new = self.model[key] = route(session, topic_filter)
        assert self.tree.add(new) is is_first

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        gone = self.model.pop(key)
        is_last = all(each != key[1] for _, each in self.model)
        assert self.tree.remove(gone) is is_last

    @rule(topic_name=TOPICS)
    def match(self, topic_name: str) -> None:
        expected = sorted(key for key in self.model if matches(key[1], topic_name))
        assert found(self.tree, topic_name) == expected

    @invariant()
    def it_lists_each_filter_once(self) -> None:
        assert sorted(self.tree.filters()) == sorted({each for _, each in self.model})


TestTreeEqualsAskingEachFilter = pytest.mark.unmeasured(TreeMachine.TestCase)
TestTreeEqualsAskingEachFilter.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None
)


@given(st.lists(FILTERS, max_size=8, unique=True), TOPICS)
def test_a_match_is_what_each_filter_says_by_itself(filters: list[str], topic_name: str) -> None:
    tree = TopicTree()
    for topic_filter in filters:
        tree.add(route(SESSIONS[0], topic_filter))
    expected = sorted(("a", each) for each in filters if matches(each, topic_name))
    assert found(tree, topic_name) == expected


@pytest.mark.parametrize(
    ("topic_filter", "topic_name", "is_match"),
    [
        ("sport/#", "sport", True),  # the parent level
        ("sport/#", "sports", False),
        ("#", "sport", True),
        ("#", "/", True),
        ("+/#", "sport", True),
        ("/#", "/", True),
        ("/#", "", False),
        ("+", "sport/", False),
        ("sport/+", "sport/", True),  # an empty level is a level
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("sport/+/player", "sport//player", True),
        ("Sport", "sport", False),
        ("#", "$SYS/a", False),  # MQTT-4.7.2-1
        ("+/a", "$SYS/a", False),
        ("$SYS/#", "$SYS/a", True),
        ("$SYS/+", "$SYS/a", True),
        ("$SYS/#", "$SYS", True),
        ("a/+", "a/$x", True),  # only the first level is special
        ("a/#", "a/$x/b", True),
    ],
)
def test_the_examples_of_the_standard(topic_filter: str, topic_name: str, is_match: bool) -> None:
    tree = TopicTree()
    tree.add(route(SESSIONS[0], topic_filter))
    if topic_name:
        assert bool(tree.match(topic_name)) is is_match
        assert matches(topic_filter, topic_name) is is_match


def test_a_tree_without_wildcards_finds_only_the_very_name() -> None:
    tree = TopicTree()
    tree.add(route(SESSIONS[0], "a/b"))
    assert found(tree, "a/b") == [("a", "a/b")]
    assert found(tree, "a") == found(tree, "a/b/c") == found(tree, "A/b") == []


def test_branches_that_lead_nowhere_are_cut_off() -> None:
    tree = TopicTree()
    long, short = route(SESSIONS[0], "a/+/c/d/#"), route(SESSIONS[0], "a/+/c")
    tree.add(long)
    tree.add(short)
    assert tree.remove(long)
    assert tree._root.children is not None
    (level_a,) = tree._root.children.values()
    assert level_a.children is not None
    (level_plus,) = level_a.children.values()
    assert level_plus.children is not None
    (level_c,) = level_plus.children.values()
    assert not level_c.children
    assert found(tree, "a/x/c") == [("a", "a/+/c")]
    assert tree.remove(short)
    assert not tree._root.children


def test_an_inner_filter_goes_while_a_longer_one_stays() -> None:
    tree = TopicTree()
    inner, longer = route(SESSIONS[0], "+/a"), route(SESSIONS[1], "+/a/b")
    tree.add(inner)
    tree.add(longer)
    assert tree.remove(inner)
    assert found(tree, "x/a") == []
    assert found(tree, "x/a/b") == [("b", "+/a/b")]


def test_of_three_at_one_filter_two_and_then_one_remain() -> None:
    for topic_filter in ("a/b", "a/+"):
        tree = TopicTree()
        routes = [route(session, topic_filter) for session in SESSIONS]
        assert [tree.add(each) for each in routes] == [True, False, False]
        assert not tree.remove(routes[1])
        assert found(tree, "a/b") == [("a", topic_filter), ("c", topic_filter)]
        assert not tree.remove(routes[0])
        assert found(tree, "a/b") == [("c", topic_filter)]
        assert tree.remove(routes[2])
        assert found(tree, "a/b") == []
