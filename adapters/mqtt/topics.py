"""
Topics, topic filters and tag addresses.

Source: MQTT 5.0, 4.7 (levels, wildcards, and that a wildcard never matches a first level with ``$``).
"""

from __future__ import annotations

from typing import Final, Generic, NamedTuple, TypeVar

#: Topics remembered with their answer; beyond it the memory starts anew.
_REMEMBERED: Final = 20_000

T = TypeVar("T")


class Address(NamedTuple):
    """Where a tag's value is: topic (may hold ``+`` and ``#``) and JMESPath within the payload, or the whole of it."""

    topic: str
    path: str | None


def parse_address(text: str) -> Address:
    """
    Split ``topic#path``.

    A ``#`` that stands alone in the last level is the wildcard (``line1/#``, and ``line1/##temp`` with a path); any
    other one begins the path.

    Raises:
        ValueError: no topic, an empty path, or a wildcard in a place where MQTT allows none.
    """
    at = text.find("#")
    if at < 0:
        topic, path = text, None
    elif (at == 0 or text[at - 1] == "/") and text[at + 1 : at + 2] in ("", "#"):
        topic, path = text[: at + 1], text[at + 2 :] if len(text) > at + 1 else None
    else:
        topic, path = text[:at], text[at + 1 :]
    if path == "":
        raise ValueError("the path behind # is empty; leave out the # or name a path")
    check_filter(topic)
    return Address(topic, path)


def check_filter(text: str) -> None:
    """Raise ValueError unless *text* is a topic filter of MQTT."""
    if not text:
        raise ValueError("the topic is empty")
    if "\0" in text:
        raise ValueError("a topic holds no NUL")
    levels = text.split("/")
    for number, level in enumerate(levels):
        if "+" in level and level != "+":
            raise ValueError(f"{text!r}: + must be a whole level")
        if "#" in level and (level != "#" or number != len(levels) - 1):
            raise ValueError(f"{text!r}: # must be the whole last level")


def plain_filter(text: str) -> str:
    """
    The filter of a shared subscription (``$share/name/filter``; MQTT 5.0, 4.8.2), or *text* itself.

    Raises:
        ValueError: a shared subscription without a name or a filter.
    """
    if not text.startswith("$share/"):
        return text
    parts = text.split("/", 2)
    if len(parts) < 3 or not parts[1] or not parts[2] or set("+#") & set(parts[1]):
        raise ValueError(f"{text!r}: write $share/NAME/FILTER")
    return parts[2]


def covers(wide: str, narrow: str) -> bool:
    """Whether every topic that matches the filter (or topic) *narrow* matches *wide* too."""
    if narrow.startswith("$") and wide[0] in "+#":
        return False
    ours, theirs = wide.split("/"), narrow.split("/")
    for number, level in enumerate(ours):
        if level == "#":
            return True
        if number == len(theirs) or theirs[number] == "#" or level not in ("+", theirs[number]):
            return False
    return len(ours) == len(theirs)


def overlap(one: str, other: str) -> bool:
    """Whether some topic matches both filters."""
    if (one.startswith("$") and other[0] in "+#") or (other.startswith("$") and one[0] in "+#"):
        return False
    ours, theirs = one.split("/"), other.split("/")
    for a, b in zip(ours, theirs, strict=False):
        if "#" in (a, b):
            return True
        if a != b and "+" not in (a, b):
            return False
    longer, length = (ours, len(theirs)) if len(ours) > len(theirs) else (theirs, len(ours))
    return longer[length:] in ([], ["#"])


class TopicMap(Generic[T]):
    """
    Items by topic filter; the cost of a match does not grow with the number of items that do not match.

    Exact topics are a dictionary, wildcards a tree of levels, and answers are remembered per topic.
    """

    def __init__(self) -> None:
        self._exact: dict[str, list[T]] = {}
        self._tree: _Node[T] = _Node()
        self._known: dict[str, tuple[T, ...]] = {}

    def add(self, pattern: str, item: T) -> None:
        """Add an item under a topic or filter."""
        self._known.clear()
        if "+" not in pattern and "#" not in pattern:
            self._exact.setdefault(pattern, []).append(item)
            return
        node = self._tree
        for level in pattern.split("/"):
            node = node.below.setdefault(level, _Node())
        node.items.append(item)

    def match(self, topic: str) -> tuple[T, ...]:
        """Items whose filter matches the topic."""
        found = self._known.get(topic)
        if found is None:
            items = list(self._exact.get(topic, ()))
            self._tree.collect(topic.split("/"), 0, items)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[topic] = tuple(items)
        return found


class _Node(Generic[T]):
    __slots__ = ("below", "items")

    def __init__(self) -> None:
        self.below: dict[str, _Node[T]] = {}
        self.items: list[T] = []

    def collect(self, levels: list[str], depth: int, found: list[T]) -> None:
        hidden = depth == 0 and levels[0].startswith("$")
        if (rest := self.below.get("#")) is not None and not hidden:
            found.extend(rest.items)
        if depth == len(levels):
            found.extend(self.items)
            return
        for level in {levels[depth]} if hidden else {levels[depth], "+"}:
            if (node := self.below.get(level)) is not None:
                node.collect(levels, depth + 1, found)
