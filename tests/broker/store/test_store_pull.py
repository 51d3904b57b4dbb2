"""Pages of a span of time, and pages of gaps: everything once, in order, without a walk through the rest."""

from __future__ import annotations

import numpy as np
import pytest

from broker.store import Store, blocks, retention
from broker.store.reader import gap_pages, values
from broker.store.reader.gap_pages import GapFilter
from schemas.samples import Gap, GapCause
from tests.broker.store.conftest import Opener
from tests.broker.store.plant import HERE, PUMP, T0, S, batch, plant, rows_of

MAP = plant(4)


def put(store: Store, times: list[int], *, tag: int = 0, revision: int = 0, received_ns: int = T0) -> None:
    """One record at each time, in one transaction."""
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        n = len(times)
        made = batch(MAP, [tag] * n, times, np.arange(n, dtype=float).tolist(), received_ns=received_ns)
        tx.records(made, revision=revision)


def pull(store: Store, limit: int, from_ns: int | None, to_ns: int | None, path: str | None = None) -> list[int]:
    """Every ``seq`` that pages of a span give, followed to the end."""
    found: list[int] = []
    after, more = 0, True
    while more:
        page = store.reader().record_page(after=after, limit=limit, path=path, from_ns=from_ns, to_ns=to_ns)
        assert page.next_after > after or not page.has_more
        found += [row.seq for row in page.rows]
        after, more = page.next_after, page.has_more
    assert after == store.reader().span()[1] or not found
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of eight records, pages that look at twelve."""
    monkeypatch.setattr(blocks, "BITS", 3)
    monkeypatch.setattr(values, "SCAN", 12)


@pytest.mark.usefixtures("small")
def test_a_span_gives_every_row_once_wherever_it_was_stored(store: Store) -> None:
    """Half-open, in order of ``seq``, with late rows and those of a replay behind the others."""
    at = [T0 + i * S for i in range(60)]
    put(store, at)
    put(store, [T0 + 10 * S + 5, T0 + 50 * S + 5], tag=1)
    put(store, [T0 + 100 * S + i for i in range(30)])
    with store.transaction() as tx:
        revision = tx.begin_replay("a", "", sources=(), span_ns=(0, 1), tag_map=MAP)
    put(store, [T0 + 12 * S], revision=revision)
    by_seq = dict(rows_of(store, "SELECT seq, source_ts FROM records"))

    for span in (
        (T0 + 10 * S, T0 + 20 * S),
        (None, T0 + 3 * S),
        (T0 + 58 * S, None),
        (T0, T0 + 1),
        (T0 + 61 * S, T0 + 99 * S),
    ):
        low, high = span
        expected = [
            seq for seq, at in sorted(by_seq.items()) if (low is None or at >= low) and (high is None or at < high)
        ]
        for limit in (1, 4, 100):
            assert pull(store, limit, low, high) == expected
    assert pull(store, 5, T0 + 10 * S, T0 + 20 * S, f"{PUMP}/Tag1") == [61]


@pytest.mark.usefixtures("small")
def test_blocks_outside_the_span_are_passed_over(store: Store) -> None:
    """The first page of a late span begins at its block; the control, without blocks, walks there."""
    put(store, [T0 + i * S for i in range(400)])
    reader = store.reader()
    span = {"from_ns": T0 + 390 * S, "to_ns": T0 + 395 * S}
    page = reader.record_page(after=0, limit=100, **span)
    assert [row.seq for row in page.rows] == [391, 392, 393, 394, 395]
    nothing = reader.record_page(after=0, limit=100, from_ns=T0 + 500 * S)
    assert (nothing.rows, nothing.next_after, nothing.has_more) == ([], 400, False)

    with store._writing() as connection:
        connection.execute(blocks._B.update().values(last_ns=T0 + 999 * S))
    assert reader.record_page(after=0, limit=100, **span).rows == []


def test_a_block_that_goes_on_grows(open_store: Opener, url: str | None) -> None:
    """Its times cover all its rows, also those of another transaction or after a restart."""
    store = open_store(url)
    put(store, [T0 + 5 * S])
    put(store, [T0 + 2 * S, T0 + 9 * S])
    assert rows_of(store, "SELECT * FROM record_blocks") == [(0, T0 + 2 * S, T0 + 9 * S)]


@pytest.mark.usefixtures("small")
def test_retention_forgets_blocks(store: Store) -> None:
    """What holds no record any more is not looked at."""
    now = T0 + 1000 * retention.DAY_NS
    put(store, [T0 + i * S for i in range(20)])
    put(store, [now], received_ns=now)
    for _ in range(3):
        store.maintain(now)
    assert rows_of(store, "SELECT block FROM record_blocks") == [(2,)]
    assert pull(store, 9, T0, None) == [21]


def gap(n: int, *, end: int | None = None, tags: tuple[int, ...] = (), source: str = "plc", **more: object) -> Gap:
    """A gap that began *n* seconds after the begin."""
    to_ns = None if end is None else T0 + end * S
    return Gap(source, tags, T0 + n * S, to_ns, GapCause.LINK_DOWN, map_revision=MAP.revision, **more)  # type: ignore[arg-type]


def put_gaps(store: Store, *gaps: Gap) -> None:
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        for one in gaps:
            tx.gap(one, HERE)


def test_a_gap_that_changes_comes_again(store: Store) -> None:
    """Behind the cursor come what began, ended or was repaired since, and nothing that is told a second time."""
    reader = store.reader()
    put_gaps(store, gap(0), gap(1, tags=(1, 2)), gap(2, source="other"))
    first = reader.gap_page(after=0, limit=10)
    assert [(row.gap_id, row.tag) for row in first.rows] == [(1, None), (2, "t1"), (2, "t2"), (3, None)]

    put_gaps(store, gap(0), gap(1, tags=(1, 2), end=5), gap(1, tags=(1, 2)))
    second = reader.gap_page(after=first.next_after, limit=10)
    assert [(row.gap_id, row.path, row.to_ns) for row in second.rows] == [
        (2, f"{PUMP}/Tag1", T0 + 5 * S),
        (2, f"{PUMP}/Tag2", T0 + 5 * S),
    ]
    put_gaps(store, gap(1, tags=(1, 2), end=5, backfilled=True))
    third = reader.gap_page(after=second.next_after, limit=10)
    assert {row.backfilled for row in third.rows} == {True}
    again = reader.gap_page(after=third.next_after, limit=10)
    assert (again.rows, again.next_after, again.has_more) == ([], third.next_after, False)


@pytest.mark.parametrize("limit", range(1, 10))
def test_pages_of_gaps_are_whole(many: Store, limit: int) -> None:
    """No gap is torn: a page of few rows holds a gap of many tags all the same, and each comes once."""
    found: list[tuple[int, str | None]] = []
    after, more = 0, True
    while more:
        page = many.reader().gap_page(after=after, limit=limit)
        counts = {row.gap_id for row in page.rows}
        assert len(page.rows) <= limit or len(counts) == 1
        found += [(row.gap_id, row.tag) for row in page.rows]
        after, more = page.next_after, page.has_more
    assert found == [(n, tag) for n in range(1, 7) for tag in (("t0", "t1", "t2", "t3") if n % 2 == 0 else (None,))]


@pytest.fixture
def many(open_store: Opener, url: str | None) -> Store:
    """Six gaps, every second of four tags."""
    store = open_store(url)
    put_gaps(store, *(gap(n, tags=(0, 1, 2, 3) if n % 2 else ()) for n in range(6)))
    return store


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (GapFilter(), [1, 2, 3, 4, 5, 6]),
        (GapFilter(source="other"), [3, 4]),
        (GapFilter(state="open"), [1, 3, 4]),
        (GapFilter(state="closed"), [2, 5, 6]),
        (GapFilter(path=f"{PUMP}/Tag1"), [1, 2, 4]),
        (GapFilter(path=f"{PUMP}/Tag3"), [1, 4]),
        (GapFilter(path=f"{PUMP}/*"), [1, 2, 4, 5]),
        (GapFilter(path="Acme/Paris/*"), []),
        (GapFilter(from_ns=T0 + 5 * S), [1, 3, 4, 6]),
        (GapFilter(to_ns=T0 + 4 * S), [1, 2, 3]),
        (GapFilter(from_ns=T0 + 6 * S, to_ns=T0 + 7 * S, state="closed"), [6]),
    ],
    ids=str,
)
def test_filters_of_gaps(store: Store, wanted: GapFilter, expected: list[int]) -> None:
    """Source, path (with those of the whole source and of every one), state, and an overlap that is half-open."""
    put_gaps(
        store,
        gap(0),
        gap(1, tags=(1, 2), end=5),
        gap(2, source="other"),
        gap(4, source=""),
        gap(4, tags=(0,), end=5),
        gap(4, end=9, events=True),
    )
    page = store.reader().gap_page(after=0, limit=100, wanted=wanted)
    assert sorted({row.gap_id for row in page.rows}) == expected
    assert (page.next_after, page.has_more) == (6, False)


def test_a_filtered_page_of_gaps_looks_at_so_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rare source takes more pages, never more time."""
    monkeypatch.setattr(gap_pages, "SCAN", 4)
    put_gaps(store, *(gap(n) for n in range(9)), gap(9, source="other"))
    reader = store.reader()
    pages = [reader.gap_page(after=after, limit=9, wanted=GapFilter(source="other")) for after in (0, 4, 8)]
    assert [(len(page.rows), page.next_after, page.has_more) for page in pages] == [
        (0, 4, True),
        (0, 8, True),
        (1, 10, False),
    ]


def test_retention_says_up_to_where_changes_are_gone(store: Store) -> None:
    """A cursor behind which nothing was removed goes on, though the places before it are empty."""
    now = T0 + 1000 * retention.DAY_NS
    put_gaps(store, gap(0), gap(1, end=2))
    reader = store.reader()
    assert reader.gap_span() == (1, 2)
    put_gaps(store, gap(0, end=9))
    assert reader.gap_span() == (1, 3)  # place 1 is empty now, and nothing is missing
    store.maintain(now)
    assert reader.gap_span() == (4, 3)
    put_gaps(store, gap(5))
    assert reader.gap_span() == (4, 4)
    assert [row.gap_id for row in reader.gap_page(after=0, limit=9).rows] == [3]


def test_gaps_that_are_kept_before_those_removed_are_not_passed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's cursor, with rows or without, lies in what is said to be there, and each gap comes once."""
    monkeypatch.setattr(gap_pages, "SCAN", 2)
    now = T0 + 1000 * retention.DAY_NS
    put_gaps(store, *(gap(n, end=n + 1) for n in range(5)), gap(5), gap(6), gap(7, end=8))
    store.maintain(now)
    reader = store.reader()
    assert reader.gap_span() == (6, 8)
    for wanted in (GapFilter(), GapFilter(source="plc"), GapFilter(source="other")):
        found: list[int] = []
        after, more = 0, True
        while more:
            page = reader.gap_page(after=after, limit=1, wanted=wanted)
            found += [row.gap_id for row in page.rows]
            after, more = page.next_after, page.has_more
            assert after + 1 >= reader.gap_span()[0]
        assert found == ([] if wanted.source == "other" else [6, 7])


def test_pages_of_gaps_use_their_index(open_store: Opener) -> None:
    """No sort, and no walk through what came before the cursor."""
    store = open_store()
    put_gaps(store, gap(0))
    query = (
        gap_pages.gap_query().where(gap_pages._G.c.changed > 5).order_by(gap_pages._G.c.changed, gap_pages._T.c.path)
    )
    text = str(query.compile(store._read, compile_kwargs={"literal_binds": True}))
    plan = [row[3] for row in rows_of(store, f"EXPLAIN QUERY PLAN {text}")]
    assert plan[0] == "SEARCH gaps USING INDEX gaps_by_change (changed>?)"
