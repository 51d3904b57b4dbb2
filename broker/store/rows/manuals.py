"""Rows of imported manuals and maintenance logs."""

from __future__ import annotations

from typing import NamedTuple


class ManualRow(NamedTuple):
    """One imported file; see :class:`schemas.manuals.Manual`."""

    manual_id: int
    name: str
    kind: str
    state: str
    sha256: str
    size: int
    pages: int | None
    passages: int
    equipment: tuple[str, ...]
    classes: tuple[str, ...]
    actor: str
    imported_ns: int


class PassageRow(NamedTuple):
    """A passage that was found, with the name of its file; ``words`` are those that a search compares."""

    passage_id: int
    manual_id: int
    name: str
    kind: str
    page: int | None
    line: int | None
    heading: str
    text: str
    equipment: str
    words: frozenset[str]
