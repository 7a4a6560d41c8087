"""Topic names and filters: what is well formed, and what matches."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mqtt_sessions.topics import is_shared_filter, is_valid_filter, is_valid_topic, matches

LONGEST = "a" * 65_535
LONGEST_ENCODED = "é" * 32_767  # two bytes each


@pytest.mark.parametrize(
    "name",
    ["a", "/", "//", "a/b/c", "/a", "a/", " ", "$SYS/x", "$share", LONGEST, LONGEST_ENCODED, "😀"],
)
def test_valid_names_are_valid_filters_too(name: str) -> None:
    assert is_valid_topic(name)
    assert is_valid_filter(name)


@pytest.mark.parametrize(
    "text", ["", "\0", "a/\0", LONGEST + "a", LONGEST_ENCODED + "é", "\ud800", "a/\udfff"]
)
def test_what_is_no_text_for_the_wire_is_neither_name_nor_filter(text: str) -> None:
    assert not is_valid_topic(text)
    assert not is_valid_filter(text)


@pytest.mark.parametrize("text", ["#", "+", "a/#", "+/a", "a/+/b", "+/+", "/+", "/#", "+/#"])
def test_valid_filters_with_wildcards_are_no_names(text: str) -> None:
    assert is_valid_filter(text)
    assert not is_valid_topic(text)


@pytest.mark.parametrize(
    "text", ["a#", "#/a", "a/#/b", "##", "a/##", "+#", "a+", "+a", "a+/b", "++", "a/b+/c", "#a"]
)
def test_wildcards_that_do_not_fill_their_level(text: str) -> None:
    assert not is_valid_filter(text)
    assert not is_valid_topic(text)


def test_shared_filters() -> None:
    assert is_shared_filter("$share/group/a")
    assert is_shared_filter("$share/")
    assert not is_shared_filter("$share")
    assert not is_shared_filter("$shared/group/a")
    assert not is_shared_filter("a/$share/b")


# The standard's own examples, §4.7.1 and §4.7.2, and the corners around them.
@pytest.mark.parametrize(
    ("topic_filter", "topic_name", "expected"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/tennis/player1/#", "sport/tennis/player2", False),
        ("sport/#", "sport", True),
        ("sport/#", "sport/", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("+/#", "a", True),
        ("+/b/#", "a/b", True),
        ("#", "$SYS/monitor", False),
        ("+/monitor", "$SYS/monitor", False),
        ("+", "$SYS", False),
        ("$SYS/#", "$SYS", True),
        ("$SYS/#", "$SYS/monitor", True),
        ("$SYS/+", "$SYS/monitor", True),
        ("a/#", "a/$b", True),
        ("a/+", "a/$b", True),
        ("ACCOUNTS", "Accounts", False),
        ("a/b", "a/b/", False),
        ("a//b", "a//b", True),
        ("a/+/b", "a//b", True),
        ("a/b/#", "a", False),
        ("a/b/+", "a", False),
    ],
)
def test_matching(topic_filter: str, topic_name: str, expected: bool) -> None:
    assert matches(topic_filter, topic_name) is expected


def model(wanted: list[str], given_levels: list[str]) -> bool:
    """Matching as one would say it, level by level."""
    if wanted == ["#"]:
        return True
    if not wanted or not given_levels:
        return wanted == given_levels
    return wanted[0] in ("+", given_levels[0]) and (
        model(wanted[1:], given_levels[1:]) if wanted[1:] or given_levels[1:] else True
    )


LEVELS = st.sampled_from(["", "a", "b", "$a", "A"])
NAMES = st.lists(LEVELS, min_size=1, max_size=5).map("/".join).filter(bool)
FILTERS = (
    st.tuples(st.lists(LEVELS | st.just("+"), max_size=5), st.sampled_from([[], ["#"]]))
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(bool)
)


@given(FILTERS, NAMES)
@example("a/#", "a")
@example("#", "$a")
def test_matching_is_that_of_the_model(topic_filter: str, topic_name: str) -> None:
    assert is_valid_filter(topic_filter)
    assert is_valid_topic(topic_name)
    hidden = topic_name.startswith("$") and topic_filter[0] in "+#"
    expected = not hidden and model(topic_filter.split("/"), topic_name.split("/"))
    assert matches(topic_filter, topic_name) is expected


@given(NAMES)
def test_a_name_matches_itself(topic_name: str) -> None:
    assert matches(topic_name, topic_name)


@given(st.text(alphabet="a/+#$\0", max_size=8))
def test_a_valid_filter_is_one_whose_levels_are_each_valid(text: str) -> None:
    *front, last = text.split("/")
    expected = (
        text != ""
        and "\0" not in text
        and all(level == "+" or not set(level) & set("+#") for level in front)
        and (last in ("+", "#") or not set(last) & set("+#"))
    )
    assert is_valid_filter(text) is expected
