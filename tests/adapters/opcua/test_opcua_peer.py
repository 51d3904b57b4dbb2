"""The adapter against node-opcua: every value recomputed from its source time, security, users, resuming."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from schemas import status
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause
from tests.node_opcua import NODES, URI, NodeOpcUa, expected, tick_of


async def test_every_type_equals_the_formula(peer, make_tags, make_adapter, take) -> None:
    """Each value of each type is the one that the peer's formula gives for the tick of its source time."""
    names = [f"Line1.{name}" for name in NODES]
    adapter = make_adapter(peer.endpoint, make_tags(*names, uri=URI))
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(NODES.index("Int32"))) >= 11)
    compared = 0
    for batch in taken.batches:
        assert batch.server_ns is not None
        for row, server_ns in zip(batch.rows(), batch.server_ns, strict=True):
            name, k = NODES[row.tag], tick_of(row.source_ns, peer.period_ms)
            assert abs(int(server_ns) - row.source_ns) < 60e9
            if name == "Sensor":
                codes = {8: status.UNCERTAIN_LAST_USABLE, 9: status.BAD_SENSOR_FAILURE}
                assert row.status == codes.get(k % 10, status.GOOD)
                if k % 10 == 9:
                    assert isinstance(row.value, float)
                    assert math.isnan(row.value)
                    continue
            else:
                assert row.status == status.GOOD
            want = expected(name, k)
            assert row.value == (pytest.approx(want, rel=1e-12) if isinstance(want, int | float) else want), name
            compared += 1
    assert compared > 10 * 20
    # a busy machine may lie between the first read and the items
    assert _complete(peer, taken.values(NODES.index("UInt32"))[1:])


async def test_a_bad_node_does_not_stop_the_others(peer, make_tags, make_adapter, take) -> None:
    """A node that is not there is one Bad row with its status; its neighbours keep flowing."""
    adapter = make_adapter(peer.endpoint, make_tags("Line1.Nothing", "Line1.UInt32", uri=URI))
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(1)) >= 5)
    bad = [row for batch in taken.batches for row in batch.rows() if row.tag == 0]
    assert [row.status for row in bad] == [status.BAD_NODE_ID_UNKNOWN]
    assert adapter.counters["refused_items"] == 1
    assert "Nothing: BadNodeIdUnknown" in adapter.facts["refused"]


async def test_queue_overflow_is_flagged_and_becomes_a_gap(peer, make_tags, make_adapter, take, crash) -> None:
    """Where the server's queue was too short, the value carries the flag and a gap covers the loss, also at first."""
    options = {"subscription": {"publishing": "2s", "keep_alive": "5s", "queue": 2, "sampling": "50ms"}}
    adapter = make_adapter(peer.endpoint, make_tags("Line1.UInt32", uri=URI), **options)
    await adapter.connect()

    def marked(taken) -> list[Any]:
        rows = (row for batch in taken.batches for row in batch.rows())
        return [row for row in rows if row.flags & status.Flag.OVERFLOW]

    # the gap comes before the batch with the mark
    taken = await take(adapter, lambda t: len(t.batches) >= 3 and bool(t.gaps) and marked(t))
    gap = taken.gaps[0]
    assert gap.cause is GapCause.QUEUE_OVERFLOW
    assert gap.tags == (0,)
    assert gap.to_ns is not None
    assert gap.to_ns > gap.from_ns
    assert adapter.counters["overflow"] >= len(marked(taken))
    await crash(adapter)
    again = make_adapter(peer.endpoint, make_tags("Line1.UInt32", uri=URI), **options)
    await again.connect()
    taken = await take(again, lambda t: bool(t.gaps))
    assert taken.gaps[0].cause is GapCause.QUEUE_OVERFLOW
    assert taken.gaps[0].to_ns is not None
    assert taken.gaps[0].from_ns < taken.gaps[0].to_ns


@pytest.fixture
def over_a_crash(peer, make_tags, make_adapter, take, crash, eventually, tmp_path):
    """
    UInt32 before and after a crash with one batch read and never settled, and four ticks without anybody.

    ``change(file)`` is called on the state file while nobody is there. Gives the values, the gaps, the source times of
    the last sample before and the first after, and what the second connection said of continuity.
    """
    tags = make_tags("Line1.UInt32", uri=URI)
    found: list[str] = []

    async def numbers(change) -> tuple[list[float], list[Gap], tuple[int, int], list[str]]:
        first = make_adapter(peer.endpoint, tags)
        await first.connect()
        before = await take(first, lambda t: len(t.values(0)) >= 3)
        unsettled = await first.read()
        await crash(first)
        change(tmp_path / "state" / "subscriptions.json")
        away_until = time.monotonic() + 4 * peer.period_ms / 1000
        await eventually(lambda: time.monotonic() > away_until)
        second = make_adapter(peer.endpoint, tags)
        await second.connect()
        found.append(second.continuity)
        after = await take(second, lambda t: len(t.values(0)) >= 8)
        await unsettled.settle(NotConnected("the process is gone"))
        edges = max(int(b.source_ns.max()) for b in before.batches), min(int(b.source_ns.min()) for b in after.batches)
        return list(dict.fromkeys(before.values(0) + after.values(0))), after.gaps, edges, found

    return numbers


def _complete(peer: NodeOpcUa, values: list[float]) -> bool:
    """Whether UInt32 has every tick that the server sampled, in order and once."""
    ticks = [int(value) for value in values]
    return ticks == sorted(set(ticks)) and not peer.missing(ticks)


async def test_nothing_is_lost_over_a_crash(peer, over_a_crash) -> None:
    """A new process transfers the subscription and gets what was unsettled, and what came meanwhile, again."""
    values, gaps, _, found = await over_a_crash(lambda file: None)
    assert found == ["kept"]
    assert _complete(peer, values), (values, peer.stalls.read_text("utf-8"))
    assert not gaps


async def test_without_its_state_a_crash_loses_values(peer, over_a_crash) -> None:
    """Negative control: without the file, ticks are missing."""
    values, _, _, found = await over_a_crash(lambda file: file.unlink())
    assert found == ["lost"]
    assert not _complete(peer, values)


async def test_a_refused_transfer_becomes_a_gap_over_the_whole_loss(peer, over_a_crash) -> None:
    """When the server does not know the subscription any more, the gap covers every missing tick."""

    def another_id(file: Path) -> None:
        content = json.loads(file.read_text())
        content["held"][0]["subscription_id"] = 4_000_000_000
        file.write_text(json.dumps(content))

    values, gaps, (last, first), found = await over_a_crash(another_id)
    assert found == ["lost"]
    assert not _complete(peer, values)
    [gap] = gaps
    assert gap.cause is GapCause.SESSION_LOST
    assert "BadSubscriptionIdInvalid" in gap.detail
    assert gap.to_ns is not None
    assert gap.from_ns <= last
    assert first <= gap.to_ns


async def test_a_killed_server_is_noticed_and_its_loss_is_a_gap(
    start_peer, free_port, make_tags, make_adapter, take
) -> None:
    """Kill of the server ends read with NotConnected; after its restart, with other indices, values flow on."""
    port = free_port()
    server = start_peer(port, ns_shift=0)
    adapter = make_adapter(server.endpoint, make_tags("Line1.UInt32", uri=URI))
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 3)
    server.stop()
    with pytest.raises(NotConnected):
        await take(adapter, lambda t: False)
    with pytest.raises(NotConnected, match=r"TCP to 127\.0\.0\.1"):
        await adapter.connect()
    again = start_peer(port, ns_shift=2)
    assert again.namespace_index == server.namespace_index + 2
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(0)) >= 3)
    [gap] = taken.gaps
    assert gap.cause is GapCause.SESSION_LOST
    assert gap.tags == ()
    assert gap.detail == "the server was restarted"


def _trust(folder: Path) -> None:
    [certificate] = (folder / "rejected").glob("*.der")
    certificate.rename(folder / "trusted" / certificate.name)


async def test_an_unknown_server_certificate_is_refused_until_a_person_moves_it(
    peer, make_tags, make_adapter, take, tmp_path, monkeypatch
) -> None:
    """SignAndEncrypt with a user: the first connection names the file to move, the second works, and resumes."""
    monkeypatch.setenv("LINE1_PASSWORD", "dev-secret")
    options = {"security": "Basic256Sha256/SignAndEncrypt", "user": {"name": "dev", "password": "env:LINE1_PASSWORD"}}
    adapter = make_adapter(peer.endpoint, make_tags("Line1.UInt32", uri=URI), **options)
    pki = tmp_path / "state" / "pki"
    with pytest.raises(NotConnected, match=r"server certificate: .*not trusted.*trust accept cell"):
        await adapter.connect()
    with pytest.raises(NotConnected, match="not trusted"):
        await adapter.connect()
    _trust(pki)
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(0)) >= 3)
    await adapter.close()
    again = make_adapter(peer.endpoint, make_tags("Line1.UInt32", uri=URI), **options)
    await again.connect()
    more = await take(again, lambda t: len(t.values(0)) >= 3)
    assert again.facts["resume"] == "transferred"
    assert _complete(peer, taken.values(0) + more.values(0))
    if os.name == "posix":
        assert (pki / "own" / "key.pem").stat().st_mode & 0o077 == 0


async def test_a_wrong_password_names_step_and_remedy(peer, make_tags, make_adapter, tmp_path) -> None:
    """A refused user is told with the step and the option to look at."""
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    secret.chmod(0o600)
    options = {"security": "Basic256Sha256/SignAndEncrypt", "user": {"name": "dev", "password": "file:password"}}
    adapter = make_adapter(peer.endpoint, make_tags("Line1.UInt32", uri=URI), **options)
    with pytest.raises(NotConnected):
        await adapter.connect()
    _trust(tmp_path / "state" / "pki")
    with pytest.raises(NotConnected, match=r"user: .*check user\.name"):
        await adapter.connect()


async def test_a_security_that_is_not_offered_is_told(peer, make_tags, make_adapter) -> None:
    """The endpoint is never chosen from what is offered; what is offered is named."""
    adapter = make_adapter(
        peer.endpoint, make_tags("Line1.UInt32", uri=URI), security="Aes256Sha256RsaPss/SignAndEncrypt"
    )
    with pytest.raises(NotConnected, match=r"does not offer .*it offers .*Basic256Sha256/SignAndEncrypt"):
        await adapter.connect()
