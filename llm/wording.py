"""Catalogue words as they may stand in an annotation's text."""

from __future__ import annotations


def plain(text: str, limit: int) -> str:
    """Catalogue text that may stand in an annotation: no digit, no bracket, at most ``limit`` characters."""
    kept = "".join(" " if ch.isdigit() or ch in "[]" or not ch.isprintable() else ch for ch in text)
    return " ".join(kept.split())[:limit].rstrip(" .:;,")


def label(cause_id: str) -> str:
    """A cause's id as words."""
    return plain(cause_id.replace("_", " "), 60) or "this cause"
