"""Manuals in the store: import in steps, search on both databases, replacement, removal."""

from __future__ import annotations

import pytest

from broker.store import Store, manuals
from schemas.errors import Refused
from schemas.manuals import MAX_AT_ONCE, Manual, Passage
from schemas.words import words

PUMP = "Acme/Lyon/Util/P101"
OTHER = "Acme/Lyon/Util/P205"
TEXTS = (
    "Lubricate the drive-end bearings of the pump every 2000 h with lithium grease.",
    "Cavitation: the suction pressure is too low. Clean the suction strainer.",
    "The name plate shows type, head and flow of the pump.",
)


def manual(name: str = "pump.pdf", number: int = len(TEXTS), **changes: object) -> Manual:
    fields = {"name": name, "kind": "manual", "sha256": "a" * 64, "size": 10, "pages": 3, "passages": number}
    return Manual.model_validate(fields | changes)


def put(store: Store, one: Manual, found: list[Passage] | None = None, *, replace: bool = False) -> int:
    """Import in the steps of the library; the number, 0 where nothing was to be done."""
    if found is None:
        found = [Passage(text=text, page=i) for i, text in enumerate(TEXTS, 1)]
    with store.transaction() as tx:
        number = tx.begin_manual(one, "Ada", replace=replace)
    if number:
        with store.transaction() as tx:
            tx.add_passages(number, found)
        with store.transaction() as tx:
            tx.finish_manual(number)
    while trim(store):
        pass
    return number


def trim(store: Store) -> bool:
    with store.transaction() as tx:
        return tx.trim_manuals()


def ask(store: Store, text: str, *, equipment: str = PUMP, kind: str = "manual") -> list[tuple[str, int | None]]:
    with store.transaction() as tx:
        return [(row.name, row.page) for row in tx.passages(equipment, "centrifugal_pump", kind, words(text), 9)]


def test_words_find_passages_in_every_form(store: Store) -> None:
    """Plural and singular, capitals, accents and tag names meet; what holds no word is not found."""
    assert ask(store, "bearing") == []
    put(store, manual())
    assert ask(store, "BearingTemp") == [("pump.pdf", 1)]
    assert ask(store, "CAVITATIONS") == [("pump.pdf", 2)]
    assert ask(store, "suction bearing")[0] == ("pump.pdf", 2)
    assert ask(store, "gearbox or AND NOT \"'(*") == []
    found = store.reader().passages(words("strainer"), limit=5)
    assert [(row.text, row.heading, row.kind) for row in found] == [(TEXTS[1], "", "manual")]


def test_a_file_is_found_for_what_it_is_about(store: Store) -> None:
    """Equipment and what lies below, a class, or the whole site."""
    put(store, manual("p205.pdf", equipment=(OTHER,)))
    put(store, manual("area.pdf", equipment=("Acme/Lyon/Util",)))
    put(store, manual("pumps.pdf", classes=("centrifugal_pump",)))
    put(store, manual("meters.pdf", classes=("energy_meter",)))
    put(store, manual("site.pdf"))
    assert sorted(name for name, _ in ask(store, "lubricate")) == ["area.pdf", "pumps.pdf", "site.pdf"]
    assert "p205.pdf" in {name for name, _ in ask(store, "lubricate", equipment=OTHER)}
    assert {row.name for row in store.reader().passages(["lubricate"], limit=9)} >= {"p205.pdf", "meters.pdf"}
    assert {row.name for row in store.reader().passages(["lubricate"], limit=9, equipment=OTHER)} == {
        "area.pdf",
        "p205.pdf",
        "site.pdf",
    }


def test_an_entry_of_a_log_about_another_machine_is_not_shown(store: Store) -> None:
    """``P-101`` is the equipment whose path ends with P101; an entry without a name is about the file's equipment."""
    entries = [
        Passage(text="2026-03-01: bearing changed", line=2, equipment="P-101"),
        Passage(text="2026-03-02: bearing changed", line=3, equipment="P205"),
        Passage(text="2026-03-03: bearing greased", line=4),
    ]
    put(store, manual("log.csv", 3, kind="log", pages=None), entries)
    with store.transaction() as tx:
        found = tx.passages(PUMP, None, "log", words("bearing"), 9)
    assert sorted(row.line or 0 for row in found) == [2, 4]
    assert ask(store, "bearing") == []


def test_a_changed_file_replaces_the_old_one(store: Store) -> None:
    """The same bytes are left alone; other bytes take the place, and nothing of the old is found or kept."""
    assert put(store, manual()) == 1
    assert put(store, manual()) == 0
    assert put(store, manual(number=1, sha256="b" * 64), [Passage(text="Replace the bearing.", page=7)]) == 2
    assert ask(store, "bearing") == [("pump.pdf", 7)]
    assert ask(store, "cavitation") == []
    assert [(row.sha256[0], row.passages) for row in store.reader().manuals()] == [("b", 1)]
    with store._write.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM passages").scalar() == 1


def test_another_file_of_the_same_name_needs_consent(store: Store) -> None:
    """Two machines with a manual.pdf each: the second is refused, unless a person says that it replaces the first."""
    put(store, manual("manual.pdf", equipment=(PUMP,)))
    second = manual("manual.pdf", sha256="b" * 64, equipment=(OTHER,))
    with pytest.raises(Refused, match=f"another manual.pdf is imported for {PUMP}"):
        put(store, second)
    put(store, second, replace=True)
    assert [row.equipment for row in store.reader().manuals()] == [(OTHER,)]
    put(store, manual("manual.pdf", sha256="b" * 64, equipment=(PUMP,)))
    assert [row.equipment for row in store.reader().manuals()] == [(PUMP,)]


def test_what_is_removed_is_not_found_again(store: Store) -> None:
    """At once for a search, and bit by bit in the tables."""
    many = [Passage(text=f"bearing number {i}", page=1) for i in range(manuals.TRIMMED + 5)]
    one = manual(number=len(many))
    with store.transaction() as tx:
        number = tx.begin_manual(one, "Ada")
    for start in range(0, len(many), MAX_AT_ONCE):
        with store.transaction() as tx:
            tx.add_passages(number, many[start : start + MAX_AT_ONCE])
    with store.transaction() as tx:
        tx.finish_manual(number)
    assert len(ask(store, "bearing")) == 9
    with store.transaction() as tx:
        tx.remove_manual(number)
    assert ask(store, "bearing") == []
    assert [trim(store), trim(store), trim(store)] == [True, True, False]
    with store._write.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM passages").scalar() == 0
    with pytest.raises(Refused, match="no imported file"), store.transaction() as tx:
        tx.remove_manual(number)


def test_an_import_that_breaks_off_is_never_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a file is not searched, cannot be finished, and is removed when its time is over."""
    with store.transaction() as tx:
        number = tx.begin_manual(manual(), "Ada")
        tx.add_passages(number, [Passage(text=TEXTS[0], page=1)])
    assert ask(store, "bearing") == []
    with pytest.raises(Refused, match="of 3 passages 1 came"), store.transaction() as tx:
        tx.finish_manual(number)
    with pytest.raises(Refused, match="more than the 3"), store.transaction() as tx:
        tx.add_passages(number, [Passage(text=text) for text in TEXTS])
    monkeypatch.setattr(manuals, "ABANDONED_NS", 0)
    put(store, manual("other.pdf"))
    with pytest.raises(Refused, match="not being imported"), store.transaction() as tx:
        tx.add_passages(number, [Passage(text=TEXTS[1])])
    assert [row.name for row in store.reader().manuals()] == ["other.pdf"]


def test_the_library_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than there is room for is refused with the figures."""
    monkeypatch.setattr(manuals, "MOST_PASSAGES", 4)
    put(store, manual())
    with pytest.raises(Refused, match="3 passages already and this file has 3; 4 have room"):
        put(store, manual("other.pdf"))
    monkeypatch.setattr(manuals, "MOST_MANUALS", 1)
    with pytest.raises(Refused, match="1 files already"):
        put(store, manual("other.pdf", 1))


def test_a_search_is_remembered_until_a_manual_changes(store: Store) -> None:
    """The same question costs one search; an import makes it anew."""
    put(store, manual())
    assert ask(store, "bearing") == [("pump.pdf", 1)]
    asked: list[object] = []
    real = manuals.search
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manuals, "search", lambda *args: asked.append(args) or real(*args))
        assert ask(store, "bearing") == [("pump.pdf", 1)]
        assert asked == []
        put(store, manual("more.pdf"))
        assert len(ask(store, "bearing")) == 2
        assert len(asked) == 1


def test_a_broken_index_costs_passages_and_nothing_else(store: Store) -> None:
    """The transaction that asks goes on and commits; evidence has no passages then."""
    put(store, manual())
    with store._write.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("DROP TABLE passages_fts")
        else:
            connection.exec_driver_sql("ALTER TABLE passages RENAME COLUMN words TO gone")
    with store.transaction() as tx:
        assert tx.passages(PUMP, None, "manual", ["bearing"], 9) == []
        tx.audit("Ada", "went_on", "x", {})
    assert store.reader().audit(limit=1)[0].action == "went_on"
