"""Topic aliases of one connection, both directions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.topic_aliases import InboundAliases, OutboundAliases

PROTOCOL, INVALID = ReasonCode.PROTOCOL_ERROR, ReasonCode.TOPIC_ALIAS_INVALID


@pytest.mark.parametrize("kind", [InboundAliases, OutboundAliases])
@pytest.mark.parametrize("maximum", [-1, 65_536, True, None, "5"])
def test_a_maximum_is_0_to_65535(kind: Any, maximum: Any) -> None:
    with pytest.raises(InvalidValue):
        kind(maximum)


def test_a_topic_without_alias_stays_what_it_is() -> None:
    assert InboundAliases(0).resolve("t", None) == "t"


def test_an_alias_is_set_used_and_set_anew() -> None:
    aliases = InboundAliases(3)
    assert aliases.resolve("one", 3) == "one"
    assert aliases.resolve("", 3) == "one"
    assert aliases.resolve("two", 3) == "two"
    assert aliases.resolve("", 3) == "two"
    assert len(aliases) == 1


@pytest.mark.parametrize(
    ("maximum", "topic_name", "topic_alias", "code"),
    [
        (3, "t", 0, INVALID),
        (3, "", 0, INVALID),
        (3, "t", 4, INVALID),
        (3, "", 4, INVALID),
        (0, "t", 1, INVALID),
        (3, "", 1, PROTOCOL),
        (3, "", None, PROTOCOL),
        (0, "", None, PROTOCOL),
    ],
)
def test_what_the_peer_may_not_do_has_its_code(
    maximum: int, topic_name: str, topic_alias: int | None, code: ReasonCode
) -> None:
    assert InboundAliases(maximum).resolve(topic_name, topic_alias) is code


def test_a_refused_alias_sets_nothing() -> None:
    aliases = InboundAliases(3)
    aliases.resolve("t", 4)
    assert len(aliases) == 0


def test_a_plan_changes_nothing_until_the_packet_has_left() -> None:
    aliases = OutboundAliases(2)
    assert aliases.plan("topic") == (1, True)
    assert aliases.plan("topic") == (1, True)
    assert aliases.plan("other") == (1, True)
    aliases.sent("other", 1)
    assert aliases.plan("other") == (1, False)
    assert aliases.plan("topic") == (2, True)


def test_no_alias_where_there_is_none_to_give_or_nothing_to_save() -> None:
    assert OutboundAliases(0).plan("topic") == (None, True)
    assert OutboundAliases(5).plan("abc") == (None, True)


def test_the_least_recently_used_gives_way() -> None:
    aliases = OutboundAliases(2)
    for topic_name in ("first", "second", "first", "third"):
        alias, _ = aliases.plan(topic_name)
        assert alias is not None
        aliases.sent(topic_name, alias)
    assert aliases.plan("first") == (1, False)
    assert aliases.plan("third") == (2, False)
    assert aliases.plan("second") == (1, True)
    assert len(aliases) == 2


def test_only_what_was_planned_can_have_been_sent() -> None:
    aliases = OutboundAliases(2)
    with pytest.raises(InvalidValue):
        aliases.sent("topic", 2)
    assert len(aliases) == 0


@given(
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from([f"topic/{n}" for n in range(8)]), st.booleans())),
)
def test_the_receiver_always_resolves_what_was_meant(
    maximum: int, publishes: list[tuple[str, bool]]
) -> None:
    sender, receiver = OutboundAliases(maximum), InboundAliases(maximum)
    for topic_name, is_written in publishes:
        alias, send_topic = sender.plan(topic_name)
        if not is_written:
            continue
        if alias is not None:
            sender.sent(topic_name, alias)
        assert receiver.resolve(topic_name if send_topic else "", alias) == topic_name
        assert len(sender) <= maximum
