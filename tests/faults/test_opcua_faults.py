"""F12 to F18 on OPC UA: restart, cuts, flapping, half-open, a blocked loop, overflow; each beside its control."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client, ua

from adapters.base import AdapterContext
from adapters.opcua import OpcUaAdapter, OpcUaOptions, link, publishing
from adapters.opcua.link import Link
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause
from schemas.status import Flag
from schemas.tagmap import Tag
from simulators.opcua_server import NodeSpec, OpcUaServer
from tests import node_opcua
from tests.fault_table import LONG
from tests.node_opcua import NodeOpcUa
from tests.patient_loop import PatientLoop
from tests.tcp_proxy import TcpProxy
from tests.waiting import until_async

#: asyncua and node-opcua take seconds to start: one of each serves all scenarios.
pytestmark = pytest.mark.asyncio(loop_scope="module")
CELL = "urn:example:cell"
_BACKOFF_S = 0.1
Before = Callable[[OpcUaAdapter], None]


def _now() -> float:
    """Seconds of the clock by which the adapter waits."""
    return asyncio.get_running_loop().time()


class Source:
    """
    An adapter with the loop of the runner: connect, read, settle, and again after a loss. Tag 0 is a counter.

    ``before(adapter)`` is called before each connect; the controls take a guard away there.
    """

    def __init__(self, adapter: OpcUaAdapter, before: Before = lambda adapter: None) -> None:
        self.adapter = adapter
        self.rows: list[tuple[int, int]] = []
        self.gaps: list[Gap] = []
        self.losses: list[tuple[float, str]] = []
        self.lost = asyncio.Event()
        self.items: set[str] = set()
        self.overflows = 0
        self.silence_s = 0.0
        self._before = before
        self._heard = _now()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Source:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self.adapter.close()

    async def _run(self) -> None:
        while True:
            try:
                self._before(self.adapter)
                await self.adapter.connect()
                self.items.add(self.adapter.facts["items"])
                while True:
                    await self._take()
            except NotConnected as error:
                self.losses.append((_now(), str(error)))
                self.lost.set()
                await asyncio.sleep(_BACKOFF_S)  # as the runner does

    async def _take(self) -> None:
        item = await self.adapter.read()
        if isinstance(item, Gap):
            self.gaps.append(item)
            return
        good = [row for row in item.batch.rows() if row.status >> 30 == 0]
        self.rows += [(int(row.value), row.source_ns) for row in good]  # type: ignore[arg-type]
        self.overflows += sum(bool(row.flags & Flag.OVERFLOW) for row in good)
        self.silence_s = max(self.silence_s, _now() - self._heard)
        self._heard = _now()
        await item.settle()

    @property
    def ticks(self) -> list[int]:
        """Values of the counter, each source time once."""
        return [value for value, _ in dict.fromkeys(self.rows)]

    @property
    def doubled(self) -> int:
        """Rows that SQL would not recognise as the same: one tick with two source times."""
        return len(self.ticks) - len(set(self.ticks))

    @property
    def wrong(self) -> int:
        """Rows whose counter does not rise with its source time."""
        values = [value for value, _ in sorted(set(self.rows), key=lambda row: row[1])]
        return sum(after <= before for before, after in pairwise(values))

    def missing(self, *, outside_gaps: bool = False) -> int:
        """Ticks between the first and the last that did not come; on request only those that no gap tells of."""
        rows = sorted(set(self.rows))
        told = self.gaps if outside_gaps else []
        return sum(
            after - before - 1
            for (before, since), (after, until) in pairwise(rows)
            if after - before > 1
            and not any(gap.to_ns is not None and gap.from_ns <= since and until <= gap.to_ns for gap in told)
        )

    async def more(self, rows: int = 20, within_s: float = 60.0) -> None:
        """Wait until so many more rows came."""
        wanted = len(self.rows) + rows
        await until_async(lambda: len(self.rows) >= wanted, within_s, f"{wanted} rows")


def _forget(adapter: OpcUaAdapter) -> None:
    """Take the guard away: as a client that begins anew after each loss."""
    adapter._session.forget()
    adapter._ledger.forget()


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Source]:
    """A source of the counter ``name`` behind a port: ``make(port, name, uri, before, **options)``."""
    count = iter(range(100))

    def build(
        port: int, name: str = "N", uri: str = CELL, before: Before = lambda adapter: None, path: str = "", **more: Any
    ) -> Source:
        folder = tmp_path / f"state-{next(count)}"
        folder.mkdir()
        subscription = {"publishing": "100ms", "keep_alive": "2s", "sampling": "20ms", **more.pop("subscription", {})}
        options = {
            "endpoint": f"opc.tcp://127.0.0.1:{port}/{path}",
            "security": "None",
            "subscription": subscription,
            **more,
        }
        tag = Tag(number=0, id="t", path="A/N", source="s", address=f"nsu={uri};s={name}", scan_ms=20)
        context = AdapterContext("s", (tag,), bytes(16), time.time_ns, folder)
        return Source(OpcUaAdapter(OpcUaOptions.model_validate(options), context), before)

    return build


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[OpcUaServer]:
    """``N`` counts ticks of 20 ms."""
    ticks = iter(range(10**9))
    async with OpcUaServer(lambda: {"N": next(ticks)}, {"N": NodeSpec("Int32")}, namespace=CELL, period_s=0.02) as one:
        yield one


def _port(server: OpcUaServer | NodeOpcUa) -> int:
    return int(server.endpoint.split(":")[2].split("/")[0])


@pytest.fixture(scope="module")
def start_node(
    shared: Path, need: Callable[[str], str], pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[int], NodeOpcUa]]:
    """Start a node-opcua on a port, in a process of its own; `UInt32` counts ticks of 500 ms."""
    cache = os.environ.get("FAIRLEAD_PEER_CACHE") or str(pytestconfig.cache.mkdir("peers"))  # type: ignore[union-attr]
    folder = node_opcua.install(shared / "peers" / "opcua", need("npm"), Path(cache))
    pki = tmp_path_factory.mktemp("faults") / "pki"
    started: list[NodeOpcUa] = []

    def start(port: int) -> NodeOpcUa:
        started.append(node_opcua.start(need("node"), folder, pki, port, seconds=3000 if LONG else 900))
        return started[-1]

    yield start
    for peer in started:
        peer.stop()
        if peer.process.stdout is not None:
            peer.process.stdout.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(start_node: Callable[[int], NodeOpcUa]) -> NodeOpcUa:
    """The one for all scenarios that leave it alone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return await asyncio.to_thread(start_node, port)


async def test_f12_a_restart_of_the_server_is_one_gap(server, make, scale, figures) -> None:
    """Resubscribed by itself, all items watched, every lost tick inside the gap; the gap is what tells (control)."""
    for down_s in scale((1.0,), (5.0, 60.0)):
        async with make(_port(server)) as source:
            await source.more()
            await server.stop()
            for _ in range(int(down_s / 0.02)):
                server._signals()  # the plant goes on while nobody writes down what it does
            await asyncio.sleep(down_s)  # the fault: nobody serves
            await server.start()
            up = _now()
            await source.more()
            recovery_s = round(_now() - up, 1)
            await source.more()
        silent, lost = source.missing(outside_gaps=True), source.missing()
        figures(
            "F12 server restart, OPC UA", f"down {down_s:g} s", lost=silent, doubled=source.doubled, wrong=source.wrong,
            recovery_s=recovery_s, control=f"without the gap {lost} ticks were lost in silence",
        )  # fmt: skip
        assert (silent, source.doubled, source.items) == (0, 0, {"1 of 1 watched"})
        assert [gap.cause for gap in source.gaps] == [GapCause.SESSION_LOST]
        assert recovery_s <= 7 + 3  # three seconds for a busy machine
        assert lost >= int(down_s / 0.02)


@pytest.mark.skipif(not LONG, reason="a restart of node-opcua takes its time: make faults")
async def test_f12_a_restart_of_node_opcua_is_one_gap(start_node, make, free_port, figures) -> None:
    """The same with a server that counts ticks by the clock: those of the outage are in the gap, and no others."""
    for down_s in (5.0, 60.0):
        port = free_port()
        peer = start_node(port)
        async with make(port, "Line1.UInt32", node_opcua.URI, path="UA/Line1") as source:
            await source.more(4)
            peer.stop()
            await asyncio.sleep(down_s)  # the fault: nobody serves
            again = await asyncio.to_thread(start_node, port)
            up = _now()
            await source.more(1)
            recovery_s = round(_now() - up, 1)
            await source.more(6)
        lost = source.missing()
        skipped = again.unsampled(range(min(source.ticks), max(source.ticks)))
        silent = max(0, source.missing(outside_gaps=True) - len(skipped))
        figures(
            "F12 server restart, node-opcua", f"down {down_s:g} s", lost=silent, doubled=source.doubled,
            wrong=source.wrong, recovery_s=recovery_s, control=f"without the gap {lost} ticks were lost in silence",
        )  # fmt: skip
        assert (silent, source.doubled, source.items) == (0, 0, {"1 of 1 watched"})
        assert [gap.cause for gap in source.gaps] == [GapCause.SESSION_LOST]
        assert lost >= int(down_s / 0.5) - 1


async def _cut(proxy: TcpProxy, seconds: float) -> None:
    proxy.refusing = True
    proxy.cut()
    await asyncio.sleep(seconds)  # the fault: no way to the server
    proxy.refusing = False


@pytest.mark.parametrize("guarded", [True, False], ids=["resumed", "control"])
async def test_f13_a_cut_with_the_session_alive_loses_nothing(server, make, scale, figures, guarded) -> None:
    """The same session goes on and brings what was queued: no hole. A client that begins anew loses the outage."""
    cuts = scale((1.0, 2.0), (1.0, 3.0, 30.0))
    forget: Before = (lambda adapter: None) if guarded else _forget
    async with TcpProxy(_port(server)) as proxy, make(proxy.port, before=forget) as source:
        await source.more()
        slowest = 0.0
        for seconds in cuts:
            await _cut(proxy, seconds)
            up = _now()
            await source.more(1)
            slowest = max(slowest, _now() - up)
            await source.more()
    lost, counters = source.missing(), source.adapter.counters
    load = f"cuts of {', '.join(f'{s:g}' for s in cuts)} s"
    figures(
        "F13 TCP cut, OPC UA" if guarded else "F13 control: begins anew", load, lost=lost, doubled=source.doubled,
        wrong=source.wrong, recovery_s=round(slowest, 1), control="" if guarded else f"{lost} ticks lost",
    )  # fmt: skip
    if guarded:
        assert (lost, source.doubled, source.wrong, source.gaps) == (0, 0, 0, [])
        assert (counters["resumed"], counters["recreated"]) == (len(cuts), 1)
    else:
        assert lost > 20
        assert source.missing(outside_gaps=True) == 0


@pytest.mark.parametrize("guarded", [True, False], ids=["resumed", "control"])
async def test_f14_flapping_makes_no_zombie(server, make, scale, figures, guarded) -> None:
    """Cuts at random moments, also while it reconnects: items constant, never silent for long, nothing lost."""
    cuts, longest_s = scale((10, 0.4), (300, 2.0)) if guarded else (4, 0.4)
    chance = random.Random(14)
    forget: Before = (lambda adapter: None) if guarded else _forget
    async with TcpProxy(_port(server)) as proxy, make(proxy.port, before=forget) as source:
        await source.more()
        for _ in range(cuts):
            proxy.cut()
            await asyncio.sleep(chance.uniform(0.02, longest_s))  # the fault: at moments of no one's choosing
        await source.more()
    lost = source.missing()
    figures(
        "F14 flapping, OPC UA" if guarded else "F14 control: begins anew", f"{cuts} cuts", lost=lost,
        doubled=source.doubled, wrong=source.wrong, recovery_s=round(source.silence_s, 1),
        control="" if guarded else f"{lost} ticks lost",
    )  # fmt: skip
    assert source.items == {"1 of 1 watched"}
    assert source.silence_s <= 10
    if guarded:
        assert (lost, source.doubled, source.wrong, source.gaps) == (0, 0, 0, [])
    else:
        assert lost > 0


async def _loss(source: Source, within_s: float) -> float:
    """Wait for the next loss; gives how long it took. Raises TimeoutError where none came in time."""
    began = _now()
    async with asyncio.timeout(within_s):
        await source.lost.wait()
    return _now() - began


@pytest.mark.parametrize("guarded", [True, False], ids=["asked", "control"])
async def test_f15_a_half_open_server_is_noticed(node, make, scale, figures, monkeypatch, guarded) -> None:
    """Stopped without closing, with keep-alives of 10 s: asked for its clock it is noticed, and nothing is lost."""
    ask_s, answer_s, limit_s = scale((1.0, 1.5, 4.0), (publishing.ASK_AFTER_S, link.REQUEST_TIMEOUT_S, 10.0))
    monkeypatch.setattr(link, "REQUEST_TIMEOUT_S", answer_s)
    monkeypatch.setattr(publishing, "ASK_AFTER_S", ask_s if guarded else 1e9)
    if not guarded:
        monkeypatch.setattr(OpcUaOptions, "silence_s", lambda self: 1e9)
    noticed_s: float | None = None
    rare = {"publishing": "1s", "keep_alive": "10s", "sampling": "50ms"}
    async with make(_port(node), "Line1.UInt32", node_opcua.URI, path="UA/Line1", subscription=rare) as source:
        await source.more(4)
        node.process.send_signal(signal.SIGSTOP)
        try:
            noticed_s = round(await _loss(source, limit_s + 3 if guarded else limit_s), 1)  # 3 s for a busy machine
        except TimeoutError:
            noticed_s = None
        finally:
            node.process.send_signal(signal.SIGCONT)
        await source.more(6)
    lost = len(node.missing(sorted(set(source.ticks))))
    figures(
        "F15 half-open, OPC UA" if guarded else "F15 control: keep-alives alone", f"SIGSTOP, limit {limit_s:g} s",
        lost=lost, doubled=source.doubled, wrong=source.wrong, recovery_s=noticed_s,
        control="" if guarded else "not noticed",
    )  # fmt: skip
    assert (noticed_s is not None) is guarded
    assert source.doubled == 0


async def test_f16_a_blocked_loop_of_ours_is_not_taken_for_a_lost_server(node, make, figures) -> None:
    """Three seconds without a turn of our loop: no reconnection, nothing lost. Control: the library's watchdog."""
    given_up: list[str] = []

    async def lost(error: BaseException) -> None:
        given_up.append(repr(error))

    async with (
        make(_port(node), "Line1.UInt32", node_opcua.URI, path="UA/Line1") as source,
        TcpProxy(_port(node)) as proxy,
    ):
        await source.more(3)
        time.sleep(3)  # the fault: our loop has no turn
        await source.more(3)
        # its watchdog, at the default of a second, does not bear an answer that comes late by as much
        library = Client(f"opc.tcp://127.0.0.1:{proxy.port}/UA/Line1", watchdog_intervall=1.0)
        library.connection_lost_callback = lost
        await library.connect()
        proxy.open_ways.clear()
        await until_async(lambda: given_up, 30, "the library's watchdog")
        proxy.open_ways.set()
        with suppress(OSError, TimeoutError, ua.UaError):
            await library.disconnect()
    missing = len(node.missing(sorted(set(source.ticks))))
    figures(
        "F16 own loop blocked, OPC UA", "3 s", lost=missing, doubled=source.doubled, wrong=source.wrong,
        control=f"the library's watchdog gives up: {given_up[0]}",
    )  # fmt: skip
    assert (source.losses, missing, source.doubled) == ([], 0, 0)


async def test_f17_a_channel_that_is_renewed_again_and_again(server, node, make, scale, figures, monkeypatch) -> None:
    """
    Encrypted against node-opcua and in clear against asyncua, at once: no renewal costs a value or a connection.

    Control: beside them a channel that is never renewed is taken away by the server.
    """
    # the server's patience is a quarter of the lifetime: in the short run longer than a machine stands still
    lifetime_s, renewals = scale((12.0, 2), (5.0, 160))
    monkeypatch.setenv("LINE1_PASSWORD", "dev-secret")
    made, renew, when_due = link.new_client, Link._renew, Link.renew_when_due
    renewed: Counter[str] = Counter()

    def short_lived(endpoint: str) -> Client:
        client = made(endpoint)
        client.secure_channel_timeout = int(lifetime_s * 1000)
        return client

    async def counted(self: Link) -> None:
        await renew(self)
        renewed[self._options.endpoint] += 1

    async def unless_control(self: Link) -> None:
        if self._options is not control.adapter._options:
            await when_due(self)

    monkeypatch.setattr(link, "new_client", short_lived)
    monkeypatch.setattr(Link, "_renew", counted)
    monkeypatch.setattr(Link, "renew_when_due", unless_control)
    secure = {"security": "Basic256Sha256/SignAndEncrypt", "user": {"name": "dev", "password": "env:LINE1_PASSWORD"}}
    there = ("Line1.UInt32", node_opcua.URI)
    control = make(_port(node), *there, path="UA/Line1", before=_trust, **secure)
    encrypted = make(_port(node), *there, path="UA/Line1/", before=_trust, **secure)
    clear = make(_port(server))
    loop = asyncio.get_running_loop()
    assert isinstance(loop, PatientLoop)
    with loop.in_real_time():
        async with encrypted, clear, control:
            await asyncio.gather(encrypted.more(2), clear.more(), control.more(2))
            for source in (encrypted, clear, control):
                source.losses.clear()  # the first said that the certificate is not trusted yet
            addresses = [one.adapter._options.endpoint for one in (encrypted, clear)]
            await until_async(
                lambda: all(renewed[address] >= renewals for address in addresses) and control.losses,
                2 * lifetime_s * (renewals + 3),
                "the renewals, and the end of the channel without one",
            )
            await asyncio.gather(encrypted.more(2), clear.more(2))
    lost = clear.missing() + len(node.missing(sorted(set(encrypted.ticks))))
    reconnects = len(encrypted.losses) + len(clear.losses)
    figures(
        "F17 secure channel renewed, OPC UA",
        f"{sum(renewed.values())} renewals each {0.75 * lifetime_s:g} s, two servers; {reconnects} reconnections",
        lost=lost, doubled=clear.doubled + encrypted.doubled, wrong=clear.wrong + encrypted.wrong,
        control=f"never renewed: the channel was lost {len(control.losses)} times",
    )  # fmt: skip
    assert (lost, reconnects, clear.doubled, encrypted.doubled) == (0, 0, 0, 0)


def _trust(adapter: OpcUaAdapter) -> None:
    """As a person would, who has looked at the certificate."""
    pki = adapter._context.state_dir / "pki"
    for certificate in (pki / "rejected").glob("*.der"):
        certificate.rename(pki / "trusted" / certificate.name)


async def test_f18_every_overflow_is_told(node, make, scale, figures) -> None:
    """The network swallows more than the server's queue holds: each lost tick lies in a gap that says so."""
    times = scale(1, 5)
    short = {"queue": 2, "sampling": "50ms", "publishing": "200ms", "keep_alive": "20s"}
    async with (
        TcpProxy(_port(node)) as proxy,
        make(proxy.port, "Line1.UInt32", node_opcua.URI, path="UA/Line1", subscription=short) as source,
    ):
        await source.more(3)
        for _ in range(times):
            proxy.open_ways.clear()
            # the fault: nothing gets through for seven ticks; asking for the server's clock has not given up by then
            await asyncio.sleep(3.6)  # see above
            proxy.open_ways.set()
            await source.more(4)
    ticks = sorted(set(source.ticks))
    between = set(range(ticks[0], ticks[-1] + 1)) - set(ticks)
    unsampled = node.unsampled(between)
    silent = source.missing(outside_gaps=True)
    figures(
        "F18 overflow of the server's queue, OPC UA", f"{times} x 3.6 s", lost=silent, doubled=source.doubled,
        wrong=source.wrong, control=f"with the bit ignored {len(between - unsampled)} ticks are lost in silence",
    )  # fmt: skip
    assert between - unsampled
    assert source.overflows > 0
    assert {gap.cause for gap in source.gaps} == {GapCause.QUEUE_OVERFLOW}
    assert silent <= len(unsampled)
