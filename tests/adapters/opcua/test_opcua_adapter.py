"""The adapter against the simulated server: order, acknowledgement, resuming, refusals, silence, nothing written."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua

import adapters.opcua as package
from adapters.opcua import OpcUaAdapter, link
from adapters.opcua.link import SERVICES
from schemas import status
from schemas.errors import NotConnected
from schemas.samples import GapCause, Sample
from simulators.opcua_server import NodeSpec, OpcUaServer
from tests.opcua_relay import Relay


def _service(server: OpcUaServer) -> Any:
    """The server's subscriptions."""
    return server._server.iserver.subscription_service  # type: ignore[union-attr]


def _subscription(server: OpcUaServer, adapter: OpcUaAdapter) -> Any:
    """The server's side of the adapter's only subscription."""
    [held] = adapter._ledger.now.held
    return _service(server).subscriptions[held.subscription_id]


async def test_every_change_arrives_once_in_order(server, make_tags, make_adapter, take) -> None:
    """The first values are the current ones of every item; then each change of the counter, without a hole."""
    adapter = make_adapter(server.endpoint, make_tags("N", "Big", "Still", "Dead"))
    assert (adapter.continuity, adapter.covered_ns) == ("unknown", None)
    await adapter.connect()
    assert (adapter.continuity, adapter.covered_ns) == ("lost", None)
    taken = await take(adapter, lambda t: len(t.values(0)) >= 20)
    first: dict[int, Sample] = {}
    for row in (row for batch in taken.batches for row in batch.rows()):
        first.setdefault(row.tag, row)
    assert (first[1].value, first[2].value) == (2**64 - 3, 1.5)
    [big] = [float(batch.value[row]) for batch in taken.batches for row in batch.exact]
    assert big == float(2**64 - 3)
    assert first[3].status == status.BAD_SENSOR_FAILURE
    values = taken.values(0)
    assert values == [values[0] + i for i in range(len(values))]
    assert adapter.facts["items"] == "4 of 4 watched"
    assert not taken.gaps
    assert set(adapter._times.last_ns) == {0, 1, 2, 3}
    assert adapter.covered_ns is not None
    assert 0 <= taken.batches[-1].received_ns - adapter.covered_ns < 2_000_000_000


async def test_a_message_is_acknowledged_only_after_it_was_settled(
    server, make_tags, make_adapter, take, eventually
) -> None:
    """While a batch is not settled the server keeps its message, however much time passes for it."""
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 5)
    delivery = await adapter.read()
    theirs = _subscription(server, adapter)
    settled = adapter._ledger.now.held[0].last_sequence
    kept = {number for number in theirs._not_acknowledged_results if number > settled}
    assert kept
    await eventually(lambda: theirs._publish_cycles_count >= 3)
    assert kept <= set(theirs._not_acknowledged_results)
    await delivery.settle()
    await take(adapter, lambda t: not kept & set(theirs._not_acknowledged_results))


async def test_a_batch_that_was_not_journalled_comes_again(server, make_tags, make_adapter, take) -> None:
    """settle(error) ends the connection; the next one brings the same rows, and nothing is missing."""
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    before = await take(adapter, lambda t: len(t.values(0)) >= 5)
    refused = await adapter.read()
    await refused.settle(OSError("disk full"))
    with pytest.raises(NotConnected, match=r"not journalled.*disk full"):
        await adapter.read()
    await adapter.connect()
    assert adapter.facts["resume"] == "same session"
    after = await take(adapter, lambda t: len(t.values(0)) >= 5)
    assert after.values(0)[0] == refused.batch.value[0]
    values = before.values(0) + after.values(0)
    assert values == [values[0] + i for i in range(len(values))]
    assert adapter.counters["republished"] >= 1


async def test_a_cut_connection_is_resumed_without_loss(server, make_tags, make_adapter, take) -> None:
    """After three cuts the same session goes on and every tick has arrived (negative control: the crash tests)."""
    adapter = make_adapter(server.endpoint, make_tags("N", "Missing"))
    await adapter.connect()
    values = (await take(adapter, lambda t: len(t.values(0)) >= 5)).values(0)
    for _ in range(3):
        await server.drop_connections()
        with pytest.raises(NotConnected, match="connection lost"):
            await take(adapter, lambda t, all_values=values: all_values.extend(t.values(0)))
        await adapter.connect()
        assert adapter.continuity == "kept"
        taken = await take(adapter, lambda t: len(t.values(0)) >= 5)
        values += taken.values(0)
        assert not taken.gaps
        assert adapter.facts["items"] == "1 of 2 watched"
    values = list(dict.fromkeys(values))
    assert values == [values[0] + i for i in range(len(values))]
    assert adapter.counters["resumed"] == 3


async def test_a_missing_message_is_fetched_again(server, make_tags, make_adapter, take, eventually) -> None:
    """A hole in the numbers is closed by Republish, in order and without a gap."""
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    before = await take(adapter, lambda t: len(t.values(0)) >= 5)
    theirs = _subscription(server, adapter)
    await eventually(lambda: theirs._triggered_datachanges)
    theirs._pop_publish_result()  # the server believes that it has sent this one
    after = await take(adapter, lambda t: adapter.counters["republished"] > 0 and len(t.values(0)) >= 10)
    values = before.values(0) + after.values(0)
    assert values == [values[0] + i for i in range(len(values))]
    assert not after.gaps


async def test_a_message_that_is_gone_is_a_gap(server, make_tags, make_adapter, take, eventually) -> None:
    """A hole that Republish cannot close becomes a gap over the missing ticks; the rest flows on."""
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    before = await take(adapter, lambda t: len(t.values(0)) >= 5)
    theirs = _subscription(server, adapter)
    await eventually(lambda: theirs._triggered_datachanges)
    theirs._pop_publish_result()
    theirs._not_acknowledged_results.clear()
    after = await take(adapter, lambda t: bool(t.gaps) and len(t.values(0)) >= 10)
    [gap] = after.gaps
    assert gap.cause is GapCause.SEQUENCE_GAP
    assert gap.to_ns is not None
    assert gap.from_ns < gap.to_ns
    assert adapter.counters["sequence_gaps"] == 1
    values = before.values(0) + after.values(0)
    assert values != [values[0] + i for i in range(len(values))]


async def test_a_refused_node_is_tried_again(server, make_tags, make_adapter, take) -> None:
    """After retry.invalid_node a node that has appeared meanwhile is watched, without a new connection."""
    tags = make_tags("Late", "N")
    adapter = make_adapter(server.endpoint, tags, retry={"invalid_node": "200ms"})
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(1)) >= 5)
    late = [row for batch in taken.batches for row in batch.rows() if row.tag == 0]
    assert [row.status for row in late] == [status.BAD_NODE_ID_UNKNOWN]
    await server.add("Late", NodeSpec())
    taken = await take(adapter, lambda t: any(row.tag == 0 for b in t.batches for row in b.rows()))
    assert adapter.facts["items"] == "2 of 2 watched"
    assert adapter.counters["recreated"] == 1


async def test_an_unknown_namespace_refuses_its_tags_only(server, make_tags, make_adapter, take) -> None:
    """A namespace URI that the server does not have is a Bad row, not a failed connection."""
    tags = make_tags("N")
    lost = tags[0].model_copy(update={"number": 1, "id": "t1", "path": "A/B/X", "address": "nsu=urn:elsewhere;s=X"})
    adapter = make_adapter(server.endpoint, [*tags, lost])
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(0)) >= 3)
    assert [row.status for b in taken.batches for row in b.rows() if row.tag == 1] == [status.BAD_NODE_ID_UNKNOWN]


async def test_a_shifted_namespace_is_followed(server, make_tags, make_adapter, take) -> None:
    """Restarted with other namespaces before ours, the same addresses read the same nodes, after a gap."""
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    before = await take(adapter, lambda t: len(t.values(0)) >= 5)
    await server.stop()
    with pytest.raises(NotConnected):
        await take(adapter, lambda t: False)
    server.namespaces_before = ("urn:example:other", "urn:example:third")
    await server.start()
    await adapter.connect()
    assert adapter.continuity == "lost"
    after = await take(adapter, lambda t: len(t.values(0)) >= 5)
    assert after.values(0)[0] > before.values(0)[-1]
    [gap] = after.gaps
    assert gap.cause is GapCause.SESSION_LOST
    last = max(int(b.source_ns.max()) for b in before.batches)
    first = min(int(b.source_ns.min()) for b in after.batches)
    assert gap.to_ns is not None
    assert gap.from_ns <= last
    assert first <= gap.to_ns


async def test_many_subscriptions_share_the_loop(server, make_tags, make_adapter, take) -> None:
    """With one item a subscription, all flow over one publish loop, and all are resumed."""
    options = {"subscription": {"publishing": "100ms", "keep_alive": "500ms", "nodes": 1}}
    tags = make_tags("N", "Still", "Big")
    adapter = make_adapter(server.endpoint, tags, **options)
    await adapter.connect()
    before = await take(adapter, lambda t: len(t.values(0)) >= 10)
    await adapter.close()
    again = make_adapter(server.endpoint, tags, **options)
    await again.connect()
    assert (again.facts["resume"], again.continuity) == ("transferred", "kept")
    after = await take(again, lambda t: len(t.values(0)) >= 10)
    values = before.values(0) + after.values(0)
    assert values == [values[0] + i for i in range(len(values))]
    assert not after.gaps


async def test_other_tags_make_new_subscriptions(server, make_tags, make_adapter, take) -> None:
    """After a change of the map nothing old is taken over, and the time between is a gap."""
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 3)
    [old] = adapter._ledger.now.held
    await adapter.close()
    again = make_adapter(server.endpoint, make_tags("Still", "N"))
    await again.connect()
    assert (again.continuity, again.covered_ns) == ("lost", adapter.covered_ns)
    assert old.subscription_id not in _service(server).subscriptions
    taken = await take(again, lambda t: len(t.values(1)) >= 3)
    assert [gap.detail for gap in taken.gaps] == ["tags or subscription options changed"]


async def test_silence_ends_the_connection(server, make_tags, make_adapter, take) -> None:
    """A server that stops to answer without closing is given up after twice the keep-alive."""
    brief = {"publishing": "100ms", "keep_alive": "500ms"}
    adapter = make_adapter(server.endpoint, make_tags("Still"), subscription=brief)
    await adapter.connect()
    await take(adapter, lambda t: bool(t.batches))
    _subscription(server, adapter).pub_request_callback = lambda subscription_id: None
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(NotConnected, match="silence: neither value nor keep-alive"):
        await adapter.read()
    assert 0.9 < loop.time() - began < 5


async def test_a_quiet_server_is_no_silence(server, make_tags, make_adapter, take, eventually) -> None:
    """Keep-alives alone hold the connection beyond the silence limit, count as life, and move the covered time."""
    subscription = {"publishing": "100ms", "keep_alive": "300ms"}
    adapter = make_adapter(server.endpoint, make_tags("Still"), subscription=subscription)
    await adapter.connect()
    await take(adapter, lambda t: bool(t.batches))
    covered, heard = adapter.covered_ns, adapter.counters["publish_responses"]
    assert covered is not None
    loop = asyncio.get_running_loop()
    limit = loop.time() + 1.3  # twice what silence may last, and some
    reading = asyncio.ensure_future(adapter.read())
    await eventually(lambda: loop.time() > limit and adapter.counters["publish_responses"] >= heard + 2)
    assert not reading.done()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert adapter.covered_ns is not None
    assert adapter.covered_ns > covered


async def test_cancelling_read_loses_nothing(server, make_tags, make_adapter, take) -> None:
    """A read that is cancelled leaves its batch for the next one."""
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    values: list[float] = []
    cancelled = 0
    while len(values) < 15:
        reading = asyncio.ensure_future(adapter.read())
        await asyncio.wait({reading}, timeout=0.013)
        if not reading.done():
            reading.cancel()
            cancelled += 1
            await asyncio.gather(reading, return_exceptions=True)
            continue
        delivery = reading.result()
        values += delivery.batch.value.tolist()
        await delivery.settle()
    values = list(dict.fromkeys(values))
    assert cancelled
    assert values == [values[0] + i for i in range(len(values))]


async def test_before_connect_and_after_close(make_tags, make_adapter) -> None:
    """Reading without a connection is NotConnected; closing is allowed at any time."""
    adapter = make_adapter("opc.tcp://127.0.0.1:9/", make_tags("N"))
    with pytest.raises(NotConnected, match="not connected"):
        await adapter.read()
    await adapter.close()


async def test_a_name_that_does_not_resolve_is_told(make_tags, make_adapter) -> None:
    """The step that failed is part of the message."""
    adapter = make_adapter("opc.tcp://plc.invalid:4840/", make_tags("N"), insecure_ack="me test 2999-12-31")
    with pytest.raises(NotConnected, match=r"resolving plc\.invalid"):
        await adapter.connect()


async def test_an_expired_acknowledgement_stops_the_source(make_tags, make_adapter) -> None:
    """``insecure_ack`` ends on its day; behind it the source says so, and no packet goes out."""
    adapter = make_adapter("opc.tcp://192.0.2.1:4840/", make_tags("N"), insecure_ack="j.doe test stand 2020-01-31")
    with pytest.raises(NotConnected, match="insecure_ack ended on 2020-01-31; choose a `security` or state it anew"):
        await adapter.connect()
    await adapter.close()


async def test_a_port_that_accepts_and_never_answers_is_given_up(make_tags, make_adapter, monkeypatch) -> None:
    """A peer that takes the connection and stays mute ends connect with the step it was in."""
    monkeypatch.setattr(link, "REQUEST_TIMEOUT_S", 0.2)
    held: list[asyncio.StreamWriter] = []
    mute = await asyncio.start_server(lambda reader, writer: held.append(writer), "127.0.0.1", 0)
    try:
        port = mute.sockets[0].getsockname()[1]
        adapter = make_adapter(f"opc.tcp://127.0.0.1:{port}/", make_tags("N"))
        with pytest.raises(NotConnected, match="hello: no answer in time"):
            await adapter.connect()
    finally:
        mute.close()
        for writer in held:
            writer.transport.abort()
        await mute.wait_closed()


async def test_a_server_without_encryption_is_told(server, make_tags, make_adapter) -> None:
    """What the server offers instead of the configured security is named; nothing weaker is taken."""
    adapter = make_adapter(server.endpoint, make_tags("N"), security="Basic256Sha256/SignAndEncrypt")
    with pytest.raises(NotConnected, match="does not offer Basic256Sha256/SignAndEncrypt; it offers None/None"):
        await adapter.connect()


class _Tap(Relay):
    """Notes the type id of every request that passes."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.requests: list[int] = []

    def request(self, chunk: bytes) -> bytes:
        if chunk[:3] == b"MSG":
            assert chunk[24:26] == b"\x01\x00"  # a numeric id of namespace 0 in two bytes
            self.requests.append(int.from_bytes(chunk[26:28], "little"))
        return chunk


def _encoding_id(service: str) -> int:
    return int(getattr(ua.ObjectIds, f"{service}_Encoding_DefaultBinary"))


async def test_only_reading_services_are_on_the_wire(server, make_tags, make_adapter, take) -> None:
    """Over connect, values, refusal, cut, resume and close, no request outside the list passes (control: a Write)."""
    allowed = {_encoding_id(service) for service in SERVICES}
    async with _Tap(server.endpoint) as tap:
        adapter = make_adapter(tap.endpoint, make_tags("N", "Missing"), retry={"invalid_node": "100ms"})
        await adapter.connect()
        await take(adapter, lambda t: len(t.values(0)) >= 10)
        await server.drop_connections()
        with pytest.raises(NotConnected):
            await take(adapter, lambda t: False)
        await adapter.connect()
        await take(adapter, lambda t: len(t.values(0)) >= 10)
        await adapter.close()
        seen = set(tap.requests)
        assert seen <= allowed
        assert {_encoding_id("PublishRequest"), _encoding_id("RepublishRequest")} <= seen
        async with Client(tap.endpoint) as other:
            node = other.get_node(ua.NodeId("N", server.namespace_index))
            with pytest.raises(ua.UaStatusCodeError):
                await node.write_value(ua.Variant(1, ua.VariantType.Int32))
        assert _encoding_id("WriteRequest") in set(tap.requests) - allowed


async def test_a_forbidden_service_is_refused_before_it_is_encoded(server, make_tags, make_adapter) -> None:
    """Even code that tried to write could not: the guard stands under every service."""
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    session = adapter._link.session
    for request in (ua.WriteRequest(), ua.CallRequest(), ua.HistoryUpdateRequest(), ua.AddNodesRequest()):
        with pytest.raises(PermissionError, match="only reads"):
            await session._send_request(request)
    with pytest.raises(PermissionError):
        await session.write(ua.WriteParameters())


def test_no_source_file_names_a_writing_method() -> None:
    """No attribute of the package's source is one of the library's ways to change a server."""
    forbidden = {
        "write", "write_value", "write_attribute", "write_attributes", "set_value", "set_attribute", "call",
        "call_method", "history_update", "add_nodes", "add_references", "delete_nodes", "delete_references",
        "set_writable", "register_nodes",
    }  # fmt: skip
    files = list(Path(package.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in forbidden:
                assert isinstance(node.value, ast.Name), path
                assert node.value.id == "file", f"{path}:{node.lineno} {node.attr}"
