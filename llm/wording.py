"""Words that stand in more than one place: catalogue words in an annotation's text, marks and reasons of an answer."""

from __future__ import annotations

from typing import Final

#: Begins an action in a model's own words, where the form has ids of listed actions.
OWN: Final = "+"
#: What is said of an answer that a model server ended before its end.
CUT_OFF: Final = "it was cut off for its length"


def plain(text: str, limit: int) -> str:
    """Catalogue text that may stand in an annotation: no digit, no bracket, at most ``limit`` characters."""
    kept = "".join(" " if ch.isdigit() or ch in "[]" or not ch.isprintable() else ch for ch in text)
    return " ".join(kept.split())[:limit].rstrip(" .:;,")


def label(cause_id: str) -> str:
    """A cause's id as words."""
    return plain(cause_id.replace("_", " "), 60) or "this cause"
