"""Topics and addresses against MQTT's own rules, written a second time as a regular expression."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.mqtt.topics import Address, TopicMap, covers, overlap, parse_address

_LEVEL = st.sampled_from(["a", "b", "", "$x"])
_TOPIC = st.lists(_LEVEL, min_size=1, max_size=4).map("/".join).filter(bool)
_FILTER = (
    st.tuples(st.lists(st.sampled_from(["a", "b", "", "+", "$x"]), max_size=3), st.sampled_from(["a", "+", "#"]))
    .map(lambda parts: "/".join([*parts[0], parts[1]]))
    .filter(bool)
)


def _matches(pattern: str, topic: str) -> bool:
    """MQTT 5.0, 4.7, as a regular expression: independent of the tree under test."""
    if topic.startswith("$") and pattern[0] in "+#":
        return False
    levels = ["[^/]*" if level == "+" else re.escape(level) for level in pattern.split("/")]
    if pattern == "#":
        return True
    if levels[-1] == re.escape("#"):
        return re.fullmatch("/".join(levels[:-1]) + "(/.*)?", topic) is not None
    return re.fullmatch("/".join(levels), topic) is not None


@given(st.lists(_FILTER, max_size=8), st.lists(_TOPIC, max_size=8))
def test_the_tree_matches_as_the_standard_says(filters: list[str], topics: list[str]) -> None:
    """A topic gets exactly the items whose filter matches, however often it is asked."""
    table: TopicMap[int] = TopicMap()
    for number, pattern in enumerate(filters):
        table.add(pattern, number)
    for topic in topics * 2:
        assert set(table.match(topic)) == {n for n, pattern in enumerate(filters) if _matches(pattern, topic)}


@given(_FILTER, _TOPIC)
def test_an_exact_topic_is_covered_when_it_matches(pattern: str, topic: str) -> None:
    """``covers`` agrees with matching for topics without wildcards."""
    assert covers(pattern, topic) == _matches(pattern, topic)
    assert overlap(pattern, topic) == overlap(topic, pattern) == _matches(pattern, topic)


@given(_FILTER, _FILTER, st.lists(_TOPIC, max_size=20))
def test_cover_and_overlap_agree_with_matching(one: str, other: str, topics: list[str]) -> None:
    """A covered filter matches nothing the wide one does not; filters with a common topic overlap."""
    for topic in topics:
        if covers(one, other) and _matches(other, topic):
            assert _matches(one, topic)
        if _matches(one, topic) and _matches(other, topic):
            assert overlap(one, other)


@pytest.mark.parametrize(
    ("text", "topic", "path"),
    [
        ("a/b", "a/b", None),
        ("a/b#temp", "a/b", "temp"),
        ("a/+/c#x.y[0]", "a/+/c", "x.y[0]"),
        ("a/#", "a/#", None),
        ("a/##temp", "a/#", "temp"),
        ("a/#temp", "a/", "temp"),
        ("#", "#", None),
        ('a#"odd#name"', "a", '"odd#name"'),
    ],
)
def test_addresses(text: str, topic: str, path: str | None) -> None:
    """An address is a topic and a path, also where the topic ends in a wildcard."""
    assert parse_address(text) == Address(topic, path)


@pytest.mark.parametrize("text", ["", "#x#", "a#", "a/##", "a+/b", "a/b+#x", "a\0b"])
def test_wrong_addresses_are_refused(text: str) -> None:
    """An address that cannot be meant is an error with a text."""
    with pytest.raises(ValueError, match=r"."):
        parse_address(text)
