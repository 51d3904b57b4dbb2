"""A value that stands still and a line that is cut are told apart by rows of the server's own word (W19)."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import pytest_asyncio

from adapters.arrival import Arrival
from adapters.base import AdapterContext
from adapters.opcua.heartbeat import Heartbeat
from adapters.opcua.wire import Rows
from schemas import status
from schemas.errors import NotConnected
from schemas.status import Flag
from tests import scripted_opcua
from tests.adapters.opcua.conftest import LOOP, REVISION
from tests.opcua_relay import Relay

PEER: Final = Path(__file__).resolve().parents[2] / "identity_peer.js"
URI: Final = "urn:example:identity"
CONFIRMED: Final = Flag.NO_CHANGE_CONFIRMED | Flag.ARRIVAL_TIME
#: A keep-alive comes each 400 ms while nothing changes; two of them and a publishing interval are silence.
RARE: Final = {"publishing": "100ms", "keep_alive": "400ms"}


class _Cut(Relay):
    """A line on which nothing comes from the server any more, once ``cut``."""

    cut = False

    def response(self, chunk: bytes) -> bytes | None:
        return None if self.cut else chunk


@pytest_asyncio.fixture(scope="module", loop_scope=LOOP)
async def peer(
    peer_folder: Path, need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """A node-opcua server with a counter N and a text Serial that never changes."""
    identity = json.dumps({"application": "urn:a", "product": "X", "version": "1", "serial": "4711", "first": 0})
    pki = tmp_path_factory.mktemp("pki")
    async with scripted_opcua.serving(need("node"), PEER, peer_folder, pki, IDENTITY=identity) as (endpoint, _):
        yield endpoint


def _rows(taken: Any, tag: int) -> list[Any]:
    return [row for batch in taken.batches for row in batch.rows() if row.tag == tag]


def _confirmed(taken: Any, tag: int) -> list[Any]:
    return [row for row in _rows(taken, tag) if row.flags & Flag.NO_CHANGE_CONFIRMED]


async def test_a_frozen_sensor_is_told_from_a_cut_line(peer: str, make_tags, make_adapter, take) -> None:
    """Still: a row within two keep-alives, with the value. Cut: the connection is lost within two, and no row comes."""
    async with _Cut(peer) as line:
        adapter = make_adapter(line.endpoint, make_tags("Serial", uri=URI), subscription=RARE, heartbeat="50ms")
        await adapter.connect()
        first = await take(adapter, lambda t: bool(_rows(t, 0)))
        heard = adapter.counters["publish_responses"]
        taken = await take(adapter, lambda t: bool(_confirmed(t, 0)))
        assert adapter.counters["publish_responses"] <= heard + 2
        taken.batches += (await take(adapter, lambda t: len(_confirmed(t, 0)) >= 3)).batches
        rows = _rows(taken, 0)
        assert {(row.value, row.status, row.flags) for row in rows} == {("4711", status.GOOD, int(CONFIRMED))}
        times = [row.source_ns for row in (*_rows(first, 0), *rows)]
        assert times == sorted(set(times))
        assert adapter.counters["confirmed"] == len(rows)
        line.cut = True
        with pytest.raises(NotConnected, match="silence: neither value nor keep-alive"):
            await take(adapter, lambda t: len(_rows(t, 0)) > 1)  # one may have been on its way


async def test_without_heartbeats_a_frozen_sensor_says_nothing(
    peer: str, make_tags, make_adapter, take, eventually
) -> None:
    """Keep-alives come and no row does: nothing in the data tells it from a cut line (negative control)."""
    adapter = make_adapter(peer, make_tags("Serial", uri=URI), subscription=RARE)
    await adapter.connect()
    await take(adapter, lambda t: bool(_rows(t, 0)))
    heard = adapter.counters["publish_responses"]
    reading = asyncio.create_task(adapter.read())
    try:
        await eventually(lambda: adapter.counters["publish_responses"] >= heard + 4)
        assert not reading.done()
    finally:
        reading.cancel()
        await asyncio.wait([reading])


@pytest.mark.parametrize("read", ["subscribe", "cyclic"])
async def test_only_what_stands_still_is_confirmed(peer: str, make_tags, make_adapter, take, read: str) -> None:
    """Beside a counter, whose messages confirm the others; a refused node is never confirmed."""
    adapter = make_adapter(peer, make_tags("N", "Serial", "Absent", uri=URI), read=read, heartbeat="500ms")
    await adapter.connect()
    taken = await take(adapter, lambda t: len(_confirmed(t, 1)) >= 3)
    assert not _confirmed(taken, 0)
    assert not _confirmed(taken, 2)
    assert len(_rows(taken, 0)) > 10
    assert adapter.covered_ns is None or adapter.covered_ns < time.time_ns()


async def test_a_restart_knows_what_stands_still(peer: str, make_tags, make_adapter, take, crash) -> None:
    """The subscription is taken over, and not every server sends its values again: what its items have now counts."""
    tags = make_tags("Serial", uri=URI)
    adapter = make_adapter(peer, tags, subscription=RARE, heartbeat="100ms")
    await adapter.connect()
    await take(adapter, lambda t: len(_confirmed(t, 0)) >= 3)
    await crash(adapter)
    again = make_adapter(peer, tags, subscription=RARE, heartbeat="100ms")
    await again.connect()
    assert np.isfinite(again._heartbeat._since).all()  # before anything was taken: connect did not yield since
    taken = await take(again, lambda t: len(_confirmed(t, 0)) >= 2)
    assert again.counters["resumed"] == 1
    assert {row.value for row in _rows(taken, 0)} == {"4711"}


def _rows_of(tag: list[int], value: list[float], code: int = 0, exact: dict[int, Any] | None = None) -> Rows:
    n = len(tag)
    none = np.zeros(n, np.int64)
    columns = np.array(tag, np.int64), np.array(value), np.full(n, code, np.uint32), none, none, np.zeros(n, np.uint32)
    return Rows(*columns, exact or {})


@pytest.fixture
def heartbeat(make_tags, tmp_path: Path) -> Heartbeat:
    """Three tags, confirmed each 10 s."""
    tags = tuple(make_tags("A", "B", "C"))
    context = AdapterContext("cell", tags, REVISION, time.time_ns, tmp_path)
    return Heartbeat(context, 10.0, Arrival(Counter()))


ALL: Final = np.arange(3)


def test_the_last_value_of_each_tag_is_confirmed(heartbeat: Heartbeat) -> None:
    """Of a tag that repeats the last; a number in the place of a text, and no overflow that was told before."""
    heartbeat.note(_rows_of([0, 1, 0], [1.0, np.nan, 2.0], 0x480, {0: 2**60, 1: "text"}), 0.0)
    assert heartbeat.confirm(7, ALL, (), 9.0) is None
    batch = heartbeat.confirm(7, ALL, (), 10.0)
    assert batch is not None
    batch.check()
    assert [(row.tag, row.value) for row in batch.rows()] == [(0, 2.0), (1, "text")]
    assert batch.status.tolist() == [0x400, 0x400]
    assert heartbeat.confirm(7, ALL, (), 19.0) is None
    heartbeat.note(_rows_of([1, 2], [5.0, 6.0]), 15.0)
    batch = heartbeat.confirm(7, ALL, (), 20.0)
    assert batch is not None
    assert batch.tag.tolist() == [0]
    batch = heartbeat.confirm(7, ALL, (2,), 25.0)
    assert batch is not None
    assert [(row.tag, row.value) for row in batch.rows()] == [(1, 5.0)]


def test_what_is_not_known_is_not_confirmed(heartbeat: Heartbeat) -> None:
    """After lost messages a tag may have changed; after new subscriptions all may have."""
    heartbeat.note(_rows_of([0, 1, 2], [1.0, 2.0, 3.0]), 0.0)
    heartbeat.forget([1])
    batch = heartbeat.confirm(7, ALL, (), 10.0)
    assert batch is not None
    assert batch.tag.tolist() == [0, 2]
    heartbeat.learn(_rows_of([0, 1], [99.0, 98.0]), 11.0)  # of tag 0 the last value is known
    batch = heartbeat.confirm(7, ALL, (), 30.0)
    assert batch is not None
    assert batch.value.tolist() == [1.0, 98.0, 3.0]
    heartbeat.forget()
    assert heartbeat.confirm(7, ALL, (), 60.0) is None
