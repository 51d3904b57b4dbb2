"""
Hand files over to the store: through the running core, or with the store's lock where none runs.

Both do the same steps in transactions of their own, so that a thick manual never holds up the stream.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from typing import Any, Final, Literal, Protocol, TypeVar

from broker.catalogue import classes
from broker.store import Store, Transaction
from broker.store.rows.manuals import ManualRow
from schemas.errors import Refused
from schemas.manuals import MAX_AT_ONCE, Manual, Passage
from schemas.tagmap import TagMap

T = TypeVar("T")
Outcome = Literal["imported", "replaced", "unchanged"]
_ACTOR: Final = "command line"
#: Runs a command in a transaction of its own.
Write = Callable[[Callable[[Transaction], T]], T]


class Library(Protocol):
    """Where files are handed over to."""

    def put(self, manual: Manual, passages: list[Passage], *, replace: bool) -> Outcome:
        """Import one file. Raises Refused, StoreError."""
        ...

    def remove(self, manual_id: int) -> None:
        """Let a file be found no more. Raises Refused, StoreError."""
        ...


def finish(write: Write[Any], manual_id: int, actor: str) -> Outcome:
    """The last step of an import, with its row of the audit; then what it replaces is removed, bit by bit."""

    def command(tx: Transaction) -> ManualRow | None:
        new, old = tx.finish_manual(manual_id)
        detail = _detail(new) | {"replaced_sha256": "" if old is None else old.sha256}
        tx.audit(actor, "manual_imported", new.name, detail)
        return old

    old: ManualRow | None = write(command)
    trim(write)
    return "imported" if old is None else "replaced"


def drop(write: Write[Any], manual_id: int, actor: str) -> None:
    """Remove a file, with its row of the audit."""

    def command(tx: Transaction) -> None:
        gone = tx.remove_manual(manual_id)
        tx.audit(actor, "manual_removed", gone.name, _detail(gone))

    write(command)
    trim(write)


def trim(write: Write[Any]) -> None:
    """Remove the passages of removed files."""
    while write(lambda tx: tx.trim_manuals()):
        pass


def _detail(manual: ManualRow) -> dict[str, object]:
    return {
        "kind": manual.kind,
        "sha256": manual.sha256,
        "passages": manual.passages,
        "equipment": list(manual.equipment),
        "classes": list(manual.classes),
    }


class IntoStore:
    """Straight into the store, while no core runs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _write(self, command: Callable[[Transaction], T]) -> T:
        with self._store.transaction() as transaction:
            return command(transaction)

    def put(self, manual: Manual, passages: list[Passage], *, replace: bool) -> Outcome:
        """See :class:`Library`."""
        manual_id = self._write(lambda tx: tx.begin_manual(manual, _ACTOR, replace=replace))
        if not manual_id:
            return "unchanged"
        for start in range(0, len(passages), MAX_AT_ONCE):
            part = passages[start : start + MAX_AT_ONCE]
            self._write(lambda tx, part=part: tx.add_passages(manual_id, part))  # type: ignore[misc]
        return finish(self._write, manual_id, _ACTOR)

    def remove(self, manual_id: int) -> None:
        """See :class:`Library`."""
        drop(self._write, manual_id, _ACTOR)


#: Method, path, body to answer, of the core that runs.
Asked = Callable[[str, str, dict[str, Any]], dict[str, Any]]


class ThroughCore:
    """Through the API of the core that runs on this machine."""

    def __init__(self, ask: Asked) -> None:
        self._ask = ask

    def put(self, manual: Manual, passages: list[Passage], *, replace: bool) -> Outcome:
        """See :class:`Library`."""
        begun = self._ask("POST", "/api/v1/manuals", {**manual.model_dump(mode="json"), "replace": replace})
        if begun["manual_id"] is None:
            return "unchanged"
        place = f"/api/v1/manuals/{begun['manual_id']}"
        for start in range(0, len(passages), MAX_AT_ONCE):
            part = [one.model_dump(mode="json", exclude_defaults=True) for one in passages[start : start + MAX_AT_ONCE]]
            self._ask("POST", f"{place}/passages", {"passages": part})
        outcome: Outcome = self._ask("POST", f"{place}/finish", {})["outcome"]
        return outcome

    def remove(self, manual_id: int) -> None:
        """See :class:`Library`."""
        self._ask("POST", f"/api/v1/manuals/{manual_id}/remove", {})


def check_scope(tag_map: TagMap | None, equipment: Collection[str], equipment_classes: Collection[str]) -> None:
    """
    Whether what a file is said to be about exists.

    Raises:
        Refused: no tag map has the equipment (or anything below it), or nothing knows the class.
    """
    mapped = [] if tag_map is None else tag_map.equipment
    owned = set() if tag_map is None else {tag.equipment for tag in tag_map.tags if tag.equipment}
    paths = {item.path for item in mapped} | owned
    for path in equipment:
        if not any(one == path or one.startswith(path + "/") for one in paths):
            raise Refused(f"the tag map has no equipment {path}{_near(path, paths)}")
    known = {item.equipment_class for item in mapped if item.equipment_class} | set(classes())
    for name in equipment_classes:
        if name not in known:
            raise Refused(f"there is no equipment class {name}{_near(name, known)}")


def _near(text: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(text, sorted(known), 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""
