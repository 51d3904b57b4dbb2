"""
Manuals and maintenance logs of the site, and the search for passages in them.

The words of a passage (:mod:`schemas.words`) are indexed by the database itself: FTS5 on SQLite, a GIN index over a
tsvector on PostgreSQL. The index is made with the first import, so that a store without manuals needs neither. An
import is several short transactions, so that the stream is not held up by a thick manual; until the last one nothing
of it is found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import sqlalchemy as sa

from broker.store import tables
from broker.store.engines import sql_errors
from broker.store.memory import Memory
from broker.store.rows.manuals import ManualRow, PassageRow
from broker.store.text import clean
from schemas.errors import Refused
from schemas.manuals import Manual, Passage
from schemas.suppression import under
from schemas.words import words

#: Passages of all files together: a dozen thick manuals. A search that was not made before takes 0.03 to 0.07 s then on
#: SQLite (measured: 0.05 to 0.11 s with 50,000), in the writer's transaction.
MOST_PASSAGES: Final = 30_000
MOST_MANUALS: Final = 1000
#: Passages removed in one transaction.
TRIMMED: Final = 500
#: An import that has not ended after so long never will.
ABANDONED_NS: Final = 3_600_000_000_000
#: Words of a search; more make it slower and no better.
MAX_WORDS: Final = 24
#: Searches whose result is kept until a manual changes.
_KEPT: Final = 256
_INDEX: Final = "passages_fts"
_M: Final = tables.manuals
_P: Final = tables.passages
_SHORT: Final = re.compile(r"[\W_]+")


def short(name: str) -> str:
    """The last part of an equipment's path or name, letters and digits alone: ``P-101`` and ``…/P101`` are one."""
    return _SHORT.sub("", name.rsplit("/", 1)[-1]).casefold()


def begin(connection: sa.Connection, memory: Memory, manual: Manual, actor: str, now_ns: int, replace: bool) -> int:
    """
    Make room for a file and return its number; 0 where the very same is there already.

    Raises:
        Refused: another file of this name is there for something else, or there is no room.
    """
    _give_up(connection, memory, now_ns)
    old = next((row for row in list_manuals(connection) if row.name == clean(manual.name)), None)
    scope = (manual.kind, manual.equipment, manual.classes)
    if old is not None:
        same = (old.kind, old.equipment, old.classes) == scope
        if same and old.sha256 == manual.sha256:
            return 0
        if not same and old.sha256 != manual.sha256 and not replace:
            about = ", ".join((*old.equipment, *old.classes)) or "the whole site"
            raise Refused(
                f"another {old.name} is imported for {about}; import this one under another --name, or with --replace"
            )
    there = connection.execute(sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_M.c.passages), 0))).one()
    if there[0] >= MOST_MANUALS:
        raise Refused(f"there are {MOST_MANUALS} files already; remove some with fairlead docs remove")
    if there[1] + manual.passages > MOST_PASSAGES:
        raise Refused(
            f"there are {there[1]} passages already and this file has {manual.passages}; {MOST_PASSAGES} have room"
        )
    _make_index(connection)
    manual_id = memory.next("manual")
    connection.execute(
        _M.insert().values(
            manual_id=manual_id,
            name=clean(manual.name),
            kind=manual.kind,
            state="importing",
            sha256=manual.sha256,
            size=manual.size,
            pages=manual.pages,
            passages=manual.passages,
            equipment=json.dumps(list(manual.equipment)),
            classes=json.dumps(list(manual.classes)),
            actor=clean(actor),
            imported_ns=now_ns,
        )
    )
    return manual_id


def add(connection: sa.Connection, memory: Memory, manual_id: int, found: Sequence[Passage]) -> None:
    """
    Store passages of a file that is being imported.

    Raises:
        Refused: no such import, or more than were announced.
    """
    state, announced = _state(connection, manual_id)
    if state != "importing":
        raise Refused(f"file {manual_id} is not being imported")
    if _count(connection, manual_id) + len(found) > announced:
        raise Refused(f"file {manual_id} has more than the {announced} passages that were announced")
    rows = [
        {
            "passage_id": memory.next("passage"),
            "manual_id": manual_id,
            "page": one.page,
            "line": one.line,
            "heading": clean(one.heading),
            "text": clean(one.text),
            "equipment": short(one.equipment),
            "words": " ".join(words(f"{one.heading} {one.equipment} {one.text}")),
        }
        for one in found
    ]
    if not rows:
        return
    connection.execute(_P.insert(), rows)
    if connection.dialect.name == "sqlite":
        insert = sa.text(f"INSERT INTO {_INDEX}(rowid, words) VALUES (:passage_id, :words)")  # noqa: S608 - a constant
        connection.execute(insert, [{"passage_id": row["passage_id"], "words": row["words"]} for row in rows])


def finish(connection: sa.Connection, memory: Memory, manual_id: int) -> tuple[ManualRow, ManualRow | None]:
    """
    Let a file be found from now on, in the place of the one of the same name: (the new one, the old one).

    Raises:
        Refused: no such import, or passages are missing.
    """
    state, announced = _state(connection, manual_id)
    held = _count(connection, manual_id)
    if state != "importing":
        raise Refused(f"file {manual_id} is not being imported")
    if held != announced:
        raise Refused(f"of {announced} passages {held} came; import the file again")
    new = _row(connection.execute(sa.select(_M).where(_M.c.manual_id == manual_id)).one())
    old = next((row for row in list_manuals(connection) if row.name == new.name), None)
    if old is not None:
        _set_state(connection, old.manual_id, "removed")
    _set_state(connection, manual_id, "ready")
    memory.passages.clear()
    memory.manuals = None
    return new, old


def remove(connection: sa.Connection, memory: Memory, manual_id: int) -> ManualRow:
    """Let a file be found no more; :func:`trim` removes its passages. Raises Refused where there is none."""
    found = next((row for row in list_manuals(connection) if row.manual_id == manual_id), None)
    if found is None:
        raise Refused(f"there is no imported file {manual_id}")
    _set_state(connection, manual_id, "removed")
    memory.passages.clear()
    memory.manuals = None
    return found


def trim(connection: sa.Connection) -> bool:
    """Remove some passages of removed files; whether there are more."""
    gone = connection.execute(sa.select(_M.c.manual_id).where(_M.c.state == "removed").limit(1)).scalar()
    if gone is None:
        return False
    query = sa.select(_P.c.passage_id, _P.c.words).where(_P.c.manual_id == gone).order_by(_P.c.passage_id)
    rows = connection.execute(query.limit(TRIMMED)).all()
    if rows and connection.dialect.name == "sqlite":
        delete = sa.text(
            f"INSERT INTO {_INDEX}({_INDEX}, rowid, words) VALUES ('delete', :passage_id, :words)"  # noqa: S608
        )
        connection.execute(delete, [{"passage_id": row.passage_id, "words": row.words} for row in rows])
    if rows:
        last = rows[-1].passage_id
        connection.execute(_P.delete().where(_P.c.manual_id == gone, _P.c.passage_id <= last))
    if len(rows) < TRIMMED:
        connection.execute(_M.delete().where(_M.c.manual_id == gone))
    return True


def list_manuals(connection: sa.Connection) -> list[ManualRow]:
    """The files that can be found, in order of their names."""
    return [_row(row) for row in connection.execute(sa.select(_M).where(_M.c.state == "ready").order_by(_M.c.name))]


def search(
    connection: sa.Connection, manuals: Iterable[ManualRow], wanted: Collection[str], about: str, limit: int
) -> list[PassageRow]:
    """
    Passages of *manuals* that hold at least one of the words, those that the database thinks best first.

    Of a log's entries those that name another equipment than *about* (a path) are left out; an empty one asks for all.
    """
    by_id = {row.manual_id: row for row in manuals}
    terms = sorted(set(wanted))[:MAX_WORDS]
    if not by_id or not terms:
        return []
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        match = sa.table(_INDEX, sa.column("rowid"), sa.column("rank"), sa.column(_INDEX))
        source = sa.join(match, _P, _P.c.passage_id == match.c.rowid)
        query = sa.select(_P).select_from(source).where(match.c[_INDEX].op("MATCH")(" OR ".join(map(_quoted, terms))))
        query = query.order_by(match.c.rank, _P.c.passage_id)
    else:
        vector = sa.func.to_tsvector(sa.text("'simple'"), _P.c.words)
        asked = sa.func.to_tsquery(sa.text("'simple'"), " | ".join(f"'{term}'" for term in terms))
        query = sa.select(_P).where(vector.op("@@")(asked))
        query = query.order_by(sa.func.ts_rank(vector, asked).desc(), _P.c.passage_id)
    query = query.where(_P.c.manual_id.in_(sorted(by_id)))
    if about:
        query = query.where(_P.c.equipment.in_(["", short(about)]))
    found = []
    for row in connection.execute(query.limit(limit)):
        manual = by_id[row.manual_id]
        found.append(
            PassageRow(
                passage_id=row.passage_id,
                manual_id=row.manual_id,
                name=manual.name,
                kind=manual.kind,
                page=row.page,
                line=row.line,
                heading=row.heading,
                text=row.text,
                equipment=row.equipment,
                words=frozenset(row.words.split()),
            )
        )
    return found


def remembered(
    connection: sa.Connection,
    memory: Memory,
    equipment: str,
    equipment_class: str | None,
    kind: str,
    wanted: Collection[str],
    limit: int,
) -> list[PassageRow]:
    """:func:`search` in the files of a kind that are about an equipment, kept for the next alike question."""
    if memory.manuals is None:
        memory.manuals = list_manuals(connection)
    about = [row for row in memory.manuals if row.kind == kind and concerns(row, equipment, equipment_class)]
    if not about:
        return []
    key = (equipment, equipment_class, kind, limit, *sorted(set(wanted)))
    if key not in memory.passages:
        if len(memory.passages) >= _KEPT:
            memory.passages.pop(next(iter(memory.passages)))
        memory.passages[key] = _tried(connection, about, wanted, equipment, limit)
    return memory.passages[key]


def _tried(
    connection: sa.Connection, manuals: Sequence[ManualRow], wanted: Collection[str], about: str, limit: int
) -> list[PassageRow]:
    """
    :func:`search`, or nothing where the database cannot search.

    An index that is damaged, or that this Python's SQLite cannot read, must not hold up the stream that asks.
    """
    try:
        with connection.begin_nested():
            return search(connection, manuals, wanted, about, limit)
    except sql_errors() as error:
        from broker import events  # structlog and metrics, which a command that reads the store does not need

        events.passages_not_searched(str(error).partition("\n")[0])
        return []


def concerns(manual: ManualRow, equipment: str, equipment_class: str | None) -> bool:
    """Whether a file is about an equipment: it names it, something above it, its class, or nothing at all."""
    if not manual.equipment and not manual.classes:
        return True
    return equipment_class in manual.classes or any(under(equipment, path) for path in manual.equipment)


def _row(row: sa.Row[tuple[object, ...]]) -> ManualRow:
    plain = row._asdict()
    plain["equipment"] = tuple(json.loads(plain["equipment"]))
    plain["classes"] = tuple(json.loads(plain["classes"]))
    return ManualRow(**plain)


def _quoted(term: str) -> str:
    # a word in quotes is a word to FTS5, also where it is one of its operators
    return f'"{term}"'


def _state(connection: sa.Connection, manual_id: int) -> tuple[str, int]:
    row = connection.execute(sa.select(_M.c.state, _M.c.passages).where(_M.c.manual_id == manual_id)).first()
    if row is None:
        raise Refused(f"file {manual_id} is not being imported")
    return row.state, row.passages


def _count(connection: sa.Connection, manual_id: int) -> int:
    query = sa.select(sa.func.count()).select_from(_P).where(_P.c.manual_id == manual_id)
    return int(connection.execute(query).scalar_one())


def _set_state(connection: sa.Connection, manual_id: int, state: str) -> None:
    connection.execute(_M.update().where(_M.c.manual_id == manual_id).values(state=state))


def _give_up(connection: sa.Connection, memory: Memory, now_ns: int) -> None:
    """Imports that broke off are removed."""
    old = (_M.c.state == "importing") & (_M.c.imported_ns < now_ns - ABANDONED_NS)
    connection.execute(_M.update().where(old).values(state="removed"))
    memory.manuals = None


def _make_index(connection: sa.Connection) -> None:
    """The full-text index, where there is none yet. Raises Refused where this SQLite was built without it."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(
            "CREATE INDEX IF NOT EXISTS passages_by_word ON passages USING gin (to_tsvector('simple', words))"
        )
        return
    options = set(connection.exec_driver_sql("PRAGMA compile_options").scalars())
    if "ENABLE_FTS5" not in options:
        raise Refused("the SQLite of this Python has no full-text search (FTS5); use another Python, or PostgreSQL")
    connection.exec_driver_sql(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {_INDEX} USING fts5"
        "(words, content='passages', content_rowid='passage_id', tokenize='unicode61')"
    )
