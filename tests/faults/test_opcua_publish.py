"""F19: a PublishResponse is lost on the way. Republish brings it; where the server has it no more, a gap says so."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from adapters.base import AdapterContext
from adapters.opcua import OpcUaAdapter, OpcUaOptions, publishing
from schemas.samples import Gap, GapCause
from schemas.tagmap import Tag
from simulators.opcua_server import NodeSpec, OpcUaServer
from tests.opcua_relay import Relay

URI = "urn:example:cell"
_PUBLISH = int(ua.ObjectIds.PublishResponse_Encoding_DefaultBinary)


class Thief(Relay):
    """
    Keeps back answers to Publish which carry data, and numbers the chunks behind them anew.

    ``steal`` is how many are still to be taken, one of every three; the request of a stolen answer stays open. One
    connection at a time.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self._seen = 0
        self.steal = 0
        self.stolen: list[int] = []

    def response(self, chunk: bytes) -> bytes | None:
        if chunk[:4] != b"MSGF":
            return chunk
        if self._wanted(chunk):
            return None
        [number] = struct.unpack_from("<I", chunk, 16)
        changed = bytearray(chunk)
        struct.pack_into("<I", changed, 16, number - len(self.stolen))
        return bytes(changed)

    def _wanted(self, chunk: bytes) -> bool:
        if struct.unpack_from("<BBH", chunk, 24) != (1, 0, _PUBLISH):
            return False
        [available] = struct.unpack_from("<i", chunk, 56)
        sequence, _, count = struct.unpack_from("<Iqi", chunk, 61 + 4 * max(available, 0))
        if count <= 0 or not self.steal:
            return False
        self._seen += 1
        if self._seen % 3:
            return False
        self.steal -= 1
        self.stolen.append(sequence)
        return True


@dataclass
class Run:
    """What a source gave."""

    values: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Ticks of the counter between the first and the last that did not come."""
        return self.values[-1] - self.values[0] + 1 - len(set(self.values))

    @property
    def silent(self) -> int:
        """Those of them that lie in no gap."""
        rows = list(zip(self.values, self.times, strict=True))
        return sum(
            max(0, value - last - 1)
            for (last, since), (value, until) in pairwise(rows)
            if not any(gap.to_ns is not None and gap.from_ns <= since and gap.to_ns >= until for gap in self.gaps)
        )


@pytest_asyncio.fixture
async def server() -> AsyncIterator[OpcUaServer]:
    """``N`` counts ticks of 20 ms."""
    ticks = iter(range(10**9))
    async with OpcUaServer(lambda: {"N": next(ticks)}, {"N": NodeSpec("Int32")}, namespace=URI, period_s=0.02) as one:
        yield one


@pytest.fixture
def play(server: OpcUaServer, tmp_path: Path) -> Callable[..., Any]:
    """Read through the thief until all is stolen and three more messages came; one more in flight than is stolen."""

    async def run(steal: int, *, server_forgets: bool = False) -> tuple[Run, OpcUaAdapter, Thief]:
        tag = Tag(number=0, id="t", path="A/N", source="s", address=f"nsu={URI};s=N", scan_ms=20)
        async with Thief(server.endpoint) as thief:
            options = {
                "endpoint": thief.endpoint,
                "security": "None",
                "subscription": {"publishing": "50ms", "keep_alive": "5s", "in_flight": steal + 1},
            }
            context = AdapterContext("s", (tag,), bytes(16), time.time_ns, tmp_path)
            adapter = OpcUaAdapter(OpcUaOptions.model_validate(options), context)
            await adapter.connect()
            held = server._server.iserver.subscription_service.subscriptions  # type: ignore[union-attr]
            result, batches, behind = Run(), 0, 0
            async with asyncio.timeout(60):
                while behind < 3:
                    item = await adapter.read()
                    if isinstance(item, Gap):
                        result.gaps.append(item)
                        continue
                    result.values += [int(value) for value in item.batch.value]
                    result.times += item.batch.source_ns.tolist()
                    await item.settle()
                    batches += 1
                    if batches == 3:
                        thief.steal = steal
                    if server_forgets and thief.stolen:
                        for one in held.values():
                            for number in thief.stolen:
                                one._not_acknowledged_results.pop(number, None)
                    behind += batches > 3 and not thief.steal
            await adapter.close()
            return result, adapter, thief

    return run


async def test_f19_a_lost_publish_response_is_fetched_again(play, scale, figures) -> None:
    """Every tick arrives, in order, though answers were lost; no gap is claimed."""
    steal = scale(3, 9)
    run, adapter, thief = await play(steal)
    figures("F19 publish response lost, OPC UA", f"{steal} responses", lost=run.missing, control="see next row")
    assert len(thief.stolen) == steal
    assert run.missing == 0
    assert run.values == sorted(run.values)
    assert not run.gaps
    assert adapter.counters["republished"] == steal


async def test_f19_what_the_server_forgot_is_a_gap(play, figures, monkeypatch) -> None:
    """Each lost message that the server no longer holds lies in a gap, and what follows flows on."""
    monkeypatch.setattr(publishing, "_MOST_REPUBLISHED", 0)  # as with a server that holds nothing
    run, adapter, thief = await play(2, server_forgets=True)
    figures("F19 publish response lost for good, OPC UA", "2 responses", lost=run.silent, control="see next row")
    assert run.missing > 0
    assert run.silent == 0
    assert [gap.cause for gap in run.gaps] == [GapCause.SEQUENCE_GAP] * 2
    assert adapter.counters["sequence_gaps"] == len(thief.stolen) == 2
    assert all(gap.to_ns is not None and gap.from_ns < gap.to_ns for gap in run.gaps)


async def test_f19_control_without_the_check_of_numbers(play, figures, monkeypatch) -> None:
    """Negative control: with numbers not compared, as the library does (A8), ticks are missing and nothing says so."""
    monkeypatch.setattr(publishing, "ahead", lambda sequence, expected: 0)
    run, adapter, _ = await play(2)
    figures("F19 control, numbers not compared", "2 responses", lost=run.silent, control="lost in silence")
    assert run.silent == run.missing > 0
    assert not run.gaps
    assert not adapter.counters["republished"]
