"""Gaps filled from the server's history: complete, flagged, in either order, over restarts, never claimed wrongly."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from asyncua.ua.uaerrors import BadServiceUnsupported, BadTooManyOperations

from adapters.base import AdapterContext
from adapters.opcua import OpcUaAdapter, history
from adapters.opcua.config import HistoryOptions
from adapters.opcua.handover import Handover
from adapters.opcua.holes import Holes, load
from adapters.opcua.responses import History
from adapters.opcua.rows import Rows
from schemas.errors import NotConnected
from schemas.samples import Delivery, Gap, GapCause, Origin
from schemas.status import Flag
from simulators.opcua_server import NodeSpec, OpcUaServer
from tests.adapters.opcua.conftest import LOOP, URI

REVISION = bytes(range(16))
QUICK = {"fill": "gaps", "settle": "100ms", "pause": "0s", "chunk": "300ms"}


@pytest_asyncio.fixture(scope="module", loop_scope=LOOP)
async def historian() -> AsyncIterator[OpcUaServer]:
    """`N` counts ticks of 20 ms and has a history; `Plain` counts too and has none."""
    ticks = iter(range(10**9))

    def signals() -> dict[str, Any]:
        n = next(ticks)
        return {"N": n, "Plain": n}

    nodes = {"N": NodeSpec("Int32"), "Plain": NodeSpec("Int32")}
    async with OpcUaServer(signals, nodes, namespace=URI, period_s=0.02) as one:
        inner: Any = one._server
        await inner.historize_node_data_change(inner.get_node(one._ids["N"]))
        yield one


class Seen:
    """What was read: values by source time, the history's apart, and gaps."""

    def __init__(self) -> None:
        self.live: dict[int, float] = {}
        self.history: dict[int, float] = {}
        self.batches: list[Delivery] = []
        self.gaps: list[Gap] = []

    def take(self, item: Delivery | Gap) -> None:
        if isinstance(item, Gap):
            self.gaps.append(item)
            return
        batch = item.batch
        batch.check()
        filled = batch.origin is Origin.HISTORY
        assert bool((batch.flags & np.uint32(Flag.BACKFILL)).all()) == filled
        rows = {int(at): float(value) for at, value in zip(batch.source_ns, batch.value, strict=True)}
        (self.history if filled else self.live).update(rows)
        if filled:
            self.batches.append(item)

    @property
    def filled(self) -> list[Gap]:
        return [gap for gap in self.gaps if gap.backfilled]

    def missing(self) -> int:
        """Ticks of the counter that are in neither, between the first and the last live one."""
        ticks = {int(v) for at, v in (self.live | self.history).items() if min(self.live) <= at <= max(self.live)}
        return max(ticks) - min(ticks) + 1 - len(ticks)


@pytest.fixture
def read() -> Callable[..., Awaitable[None]]:
    """Read and settle into ``seen`` until ``enough()``."""

    async def until(adapter: OpcUaAdapter, seen: Seen, enough: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not enough():
                item = await adapter.read()
                seen.take(item)
                if isinstance(item, Delivery):
                    await item.settle()

    return until


@pytest.fixture
def away(historian, make_tags, make_adapter, crash, eventually, read):
    """
    An adapter that was away for half a second, whose subscription the server has dropped meanwhile.

    ``away(seen, node="N", **history options)`` gives the second connection's adapter, connected.
    """

    async def run(seen: Seen, node: str = "N", events: tuple[dict[str, str], ...] = (), **asked: Any) -> OpcUaAdapter:
        options = {"history": QUICK | asked, "events": list(events)}
        first = make_adapter(historian.endpoint, make_tags(node), **options)
        await first.connect()
        await read(first, seen, lambda: len(seen.live) >= 5)
        await crash(first)
        first._ledger.save()
        service = historian._server.iserver.subscription_service
        await service.delete_subscriptions([one.subscription_id for one in first._ledger.now.held])
        manager = historian._server.iserver.history_manager.storage._datachanges
        had = len(next(iter(manager.values())))
        await eventually(lambda: len(next(iter(manager.values()))) > had + 25)
        second = make_adapter(historian.endpoint, make_tags(node), **options)
        await second.connect()
        return second

    return run


@pytest.mark.parametrize("order", ["oldest_first", "newest_first"])
async def test_a_lost_session_is_filled(away, read, order) -> None:
    """Every tick of the time away comes from the history, in parts of the order asked for, and the gap is closed."""
    seen = Seen()
    adapter = await away(seen, order=order)
    await read(adapter, seen, lambda: adapter.counters["history_filled"])
    told, closed = seen.gaps
    assert (told.cause, told.backfilled, closed.backfilled) == (GapCause.SESSION_LOST, False, True)
    assert (closed.from_ns, closed.to_ns, closed.tags) == (told.from_ns, told.to_ns, told.tags)
    assert seen.missing() == 0
    assert len(seen.history) >= 20
    starts = [int(one.batch.source_ns[0]) for one in seen.batches]
    assert len(starts) >= 2
    assert starts == sorted(starts, reverse=order == "newest_first")
    assert adapter.counters["history_filled"] == 1
    assert adapter.counters["history_rows"] >= len(seen.history)
    assert not adapter._holes.all


async def test_events_of_a_lost_session_stay_missing(away, read) -> None:
    """The history of values fills the gap of values; that of events is told apart, and nothing fills it."""
    seen = Seen()
    adapter = await away(seen, events=({},))
    await read(adapter, seen, lambda: adapter.counters["history_filled"])
    assert [(gap.cause, gap.events, gap.backfilled) for gap in seen.gaps] == [
        (GapCause.SESSION_LOST, False, False),
        (GapCause.SESSION_LOST, True, False),
        (GapCause.SESSION_LOST, False, True),
    ]
    assert len({(gap.from_ns, gap.to_ns) for gap in seen.gaps}) == 1
    assert seen.missing() == 0


async def test_without_filling_the_time_away_is_missing(away, read) -> None:
    """Negative control: by default nothing is asked of the history, and the gap stays."""
    seen = Seen()
    adapter = await away(seen, fill="never")
    before = len(seen.live)
    await read(adapter, seen, lambda: len(seen.live) >= before + 10)
    assert seen.missing() >= 20
    assert [gap.backfilled for gap in seen.gaps] == [False]


@pytest.mark.parametrize(("of_server", "asked_for"), [(4, 5000), (10_000, 4)], ids=["continuation points", "cut off"])
async def test_long_answers_are_continued(away, historian, read, monkeypatch, of_server, asked_for) -> None:
    """By continuation points where the server gives them, and by time where it cuts a full answer off (A24)."""
    storage = historian._server.iserver.history_manager.storage
    monkeypatch.setattr(storage, "max_history_data_response_size", of_server)
    monkeypatch.setattr(history, "_VALUES", asked_for)
    seen = Seen()
    await read(await away(seen), seen, lambda: seen.filled)
    assert seen.missing() == 0
    assert len(seen.batches) >= 5
    assert max(len(one.batch) for one in seen.batches) <= 4


async def test_a_restart_goes_on_where_it_was(away, historian, make_tags, make_adapter, crash, read) -> None:
    """What was settled before a crash in the middle is not read again; the gap is closed by the next process."""
    seen = Seen()
    adapter = await away(seen)
    await read(adapter, seen, lambda: len(seen.batches) >= 2 and adapter._holes.all[0].from_ns > seen.gaps[0].from_ns)
    await crash(adapter)
    [hole], _ = load(adapter._holes._path, REVISION)
    assert hole.from_ns > hole.gap.from_ns
    again = make_adapter(historian.endpoint, make_tags("N"), history=QUICK)
    await again.connect()
    rest = Seen()
    await read(again, rest, lambda: rest.filled)
    assert min(rest.history) >= hole.from_ns
    assert rest.filled[0].from_ns == hole.gap.from_ns
    seen.live |= rest.live
    seen.history |= rest.history
    assert seen.missing() == 0


async def test_a_node_without_history_leaves_the_gap(away, read) -> None:
    """A server that answers Good and nothing for such a node does not make us say that it is filled."""
    seen = Seen()
    adapter = await away(seen, node="Plain")
    await read(adapter, seen, lambda: adapter.counters["history_refused"])
    assert "1 of 1 nodes have no history" in adapter.facts["history refused"]
    assert not seen.filled
    assert not seen.history
    assert not adapter._holes.all


async def test_a_refused_batch_ends_the_connection_and_is_read_again(away, read) -> None:
    """A part that was not journalled stays to be read."""
    seen = Seen()
    adapter = await away(seen)
    while True:
        item = await adapter.read()
        if isinstance(item, Delivery) and item.batch.origin is Origin.HISTORY:
            break
        seen.take(item)
        if isinstance(item, Delivery):
            await item.settle()
    await item.settle(OSError("disk full"))
    with pytest.raises(NotConnected):
        await read(adapter, seen, lambda: False)
    await adapter.connect()
    await read(adapter, seen, lambda: seen.filled)
    assert seen.missing() == 0


class _Scripted:
    """A link whose history answers are given; it notes what was asked for and given back."""

    def __init__(self, *answers: list[History]) -> None:
        self.answers = list(answers)
        self.asked: list[list[tuple[Any, bytes | None]]] = []
        self.released: list[tuple[Any, bytes | None]] = []

    async def history_read(self, details: Any, nodes: Any, *, release: bool = False) -> list[History]:
        if release:
            self.released += nodes
            return []
        self.asked.append(list(nodes))
        return self.answers.pop(0)


class _Name(str):
    def to_string(self) -> str:
        return str(self)


async def test_continuation_points_are_given_back() -> None:
    """Where one node is refused, what the others would have gone on with is released."""
    nothing = Rows.join([])
    link = _Scripted([History(0, nothing, b"more"), History(0x80720000, nothing, None)])
    backfill = history.Backfill(link, {}, None, None, None, None, Counter(), {})  # type: ignore[arg-type]
    with pytest.raises(history.Unfilled, match="B: 0x80720000"):
        await backfill._read([(0, _Name("A")), (1, _Name("B"))], 0, 10**9)  # type: ignore[list-item]
    assert link.asked == [[("A", None), ("B", None)]]
    assert link.released == [("A", b"more")]


async def test_a_server_that_takes_fewer_nodes_is_asked_for_fewer() -> None:
    """BadTooManyOperations halves the nodes of a request, and every node is still read once."""

    class Narrow(_Scripted):
        async def history_read(self, details: Any, nodes: Any, *, release: bool = False) -> list[History]:
            if len(nodes) > 3:
                raise BadTooManyOperations
            self.asked.append(list(nodes))
            return [History(0, Rows.join([]), None) for _ in nodes]

    link = Narrow()
    backfill = history.Backfill(link, {}, None, None, None, None, Counter(), {})  # type: ignore[arg-type]
    await backfill._read_all([(n, _Name(f"n{n}")) for n in range(7)], 0, 10**9)  # type: ignore[misc]
    assert [node for part in link.asked for node, _ in part] == [f"n{n}" for n in range(7)]
    assert max(len(part) for part in link.asked) == 2


async def test_a_server_without_history_leaves_the_gaps(tmp_path, eventually) -> None:
    """Where the service itself is not there, each gap is given up once, and stays a gap."""

    class Without(_Scripted):
        async def have_history(self, nodes: Any, chunk: int) -> list[bool]:
            raise BadServiceUnsupported

    counters: Counter[str] = Counter()
    facts: dict[str, str] = {}
    holes = Holes(tmp_path / "h.json", REVISION, counters)
    holes.add(_gap(100), 0)
    context = AdapterContext("cell", (), REVISION, lambda: 10**18, tmp_path)
    options = HistoryOptions.model_validate(QUICK)
    nodes: Any = {0: _Name("A")}
    backfill = history.Backfill(Without(), nodes, options, context, holes, Handover(), counters, facts)  # type: ignore[arg-type]
    filling = asyncio.ensure_future(backfill.run())
    await eventually(lambda: not holes.all)
    filling.cancel()
    assert counters["history_refused"] == 1
    assert facts["history refused"] == "BadServiceUnsupported"


def _gap(from_ns: int, to_ns: int | None = 200, tags: tuple[int, ...] = ()) -> Gap:
    return Gap("cell", tags, from_ns, to_ns, GapCause.SESSION_LOST, False, REVISION, "x")


def test_holes_are_kept_once_and_only_what_is_young_enough(tmp_path) -> None:
    """A gap that is told twice is one hole; what is too old is counted, and such a gap is never whole."""
    counters: Counter[str] = Counter()
    holes = Holes(tmp_path / "h.json", REVISION, counters)
    for gap in (_gap(100), _gap(100), _gap(100, None), _gap(10), _gap(1, 40), _gap(100, tags=(3,))):
        holes.add(gap, 50)
    assert [(h.from_ns, h.to_ns, h.whole, h.gap.tags) for h in holes.all] == [
        (100, 200, True, ()), (50, 200, False, ()), (100, 200, True, (3,)),
    ]  # fmt: skip
    assert counters["history_skipped"] == 2
    holes.add(_gap(100, 260), 50)
    assert (holes.all[0].to_ns, holes.all[0].gap.to_ns) == (260, 260), "told again with a later end"
    assert load(tmp_path / "h.json", REVISION) == (holes.all, 0)
    assert load(tmp_path / "h.json", bytes(16)) == ([], 3)


def test_parts_follow_the_order(tmp_path) -> None:
    """Both orders cover the hole without overlap, the last part shorter."""
    for newest in (False, True):
        holes = Holes(tmp_path / "h.json", REVISION, Counter())
        holes.add(_gap(100, 350), 0)
        [hole] = holes.all
        parts = []
        while not hole.done:
            parts.append(hole.part(100, newest=newest))
            hole.filled(*parts[-1])
        assert parts == ([(250, 350), (150, 250), (100, 150)] if newest else [(100, 200), (200, 300), (300, 350)])


@pytest.mark.parametrize("content", ["", "[]", "null", '{"version":2}', '{"version":1,"map_revision":"","holes":[{}]}'])
def test_a_damaged_file_is_no_hole(tmp_path, content) -> None:
    """The gaps stay gaps."""
    (tmp_path / "h.json").write_text(content)
    assert load(tmp_path / "h.json", b"") == ([], 0)
