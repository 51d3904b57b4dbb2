"""Servers at fault: messages unreadable or gone, subscriptions that end or belong to nobody, rare keep-alives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.uaerrors import BadMessageNotAvailable, BadSubscriptionIdInvalid, UaStructParsingError

from adapters.opcua import OpcUaAdapter, OpcUaOptions, publishing
from adapters.opcua.link import Link
from adapters.opcua.pki import Pki
from adapters.opcua.progress import load
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause
from simulators.opcua_server import OpcUaServer


@pytest.fixture
def service(server: OpcUaServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The server's subscription service; ``service(name=function)`` puts functions in place for the test."""
    one = server._server.iserver.subscription_service  # type: ignore[union-attr]

    def change(**functions: Any) -> Any:
        for name, function in functions.items():
            monkeypatch.setattr(one, name, function)
        return one

    return change


@pytest.fixture
def theirs(service: Callable[..., Any]) -> Callable[[OpcUaAdapter], Any]:
    """The server's side of an adapter's first subscription."""

    def find(adapter: OpcUaAdapter) -> Any:
        return service().subscriptions[adapter._ledger.now.held[0].subscription_id]

    return find


def _spoilt(sequence: int) -> ua.NotificationMessage:
    """A message that says it is a DataChangeNotification, and is cut off in its first item."""
    kind = ua.FourByteNodeId(ua.ObjectIds.DataChangeNotification_Encoding_DefaultBinary)
    body = ua.ExtensionObject(TypeId=kind, Body=b"\x01\0\0\0\x07\0\0\0\x01")
    return ua.NotificationMessage(SequenceNumber=sequence, NotificationData=[body])  # type: ignore[list-item]


@pytest.mark.parametrize("process", ["same", "new"])
async def test_a_message_that_cannot_be_read_is_a_gap(
    server, make_tags, make_adapter, take, crash, theirs, process
) -> None:
    """It waits at the server when we come back: the connection stands, a gap covers it, and what follows flows."""
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    before = await take(adapter, lambda t: len(t.values(0)) >= 5)
    unsettled = await adapter.read()
    kept = theirs(adapter)._not_acknowledged_results
    sequence = max(kept)
    kept[sequence].NotificationMessage = _spoilt(sequence)
    await unsettled.settle(OSError("disk full"))
    await crash(adapter)
    if process == "new":
        adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    assert adapter.facts["resume"] in ("same session", "transferred")
    after = await take(adapter, lambda t: len(t.values(0)) >= 5)
    [gap] = after.gaps
    assert gap.cause is GapCause.SEQUENCE_GAP
    assert gap.from_ns < gap.to_ns
    assert adapter.counters["undecodable"] >= 1
    assert adapter.counters["recreated"] == (process == "same")
    assert (adapter.continuity, before.values(0)[-1] < after.values(0)[0]) == ("lost", True)
    await take(adapter, lambda t: len(t.batches) >= 2)
    assert sequence not in theirs(adapter)._not_acknowledged_results


class _Scripted:
    """A session whose Republish and Read raise what the library's decoder does; *value* is read node by node."""

    def __init__(self, error: Exception, spoilt: frozenset[str] = frozenset()) -> None:
        self.error = error
        self.spoilt = spoilt

    async def _send_request(self, request: Any) -> Any:
        assert isinstance(request, ua.RepublishRequest)
        raise self.error

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        names = [str(one.NodeId.Identifier) for one in params.NodesToRead]
        if self.spoilt & set(names):
            raise self.error
        return [ua.DataValue(ua.Variant(name, ua.VariantType.String)) for name in names]


@pytest.fixture
def link(tmp_path: Path) -> Link:
    """A link that is not connected."""
    options = OpcUaOptions.model_validate({"endpoint": "opc.tcp://127.0.0.1:9/", "security": "None"})
    return Link(options, "urn:test", Pki(tmp_path), tmp_path, 0)


_DECODING = [IndexError("x"), TypeError("x"), KeyError("x"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
             AttributeError("x"), OverflowError("x"), RecursionError("x"), ua.UaError("not enough data")]  # fmt: skip


@pytest.mark.parametrize("error", _DECODING, ids=lambda error: type(error).__name__)
async def test_whatever_decoding_raises_is_one_error(link: Link, error: Exception) -> None:
    """Republish says that the message cannot be read; a refusal of the server and a lost link stay what they are."""
    link._client.uaclient.session = _Scripted(error)
    with pytest.raises(UaStructParsingError, match="message 5"):
        await link.republish(1, 5)
    for other in (BadSubscriptionIdInvalid(), BadMessageNotAvailable(), ConnectionError("gone"), TimeoutError()):
        link._client.uaclient.session = _Scripted(other)
        with pytest.raises(type(other)):
            await link.republish(1, 5)


async def test_a_value_that_cannot_be_read_costs_no_other(link: Link) -> None:
    """Each value that cannot be decoded is one with BadDecodingError, in its place."""
    link._client.uaclient.session = _Scripted(IndexError("x"), frozenset({"n3", "n4"}))
    values = await link.read([ua.NodeId(f"n{n}", 2) for n in range(7)], 5)
    bad = int(ua.StatusCodes.BadDecodingError)
    assert [v.StatusCode.value if v.Value is None or v.Value.Value is None else v.Value.Value for v in values] == [
        "n0", "n1", "n2", bad, bad, "n5", "n6",
    ]  # fmt: skip
    link._client.uaclient.session = _Scripted(
        ua.UaStatusCodeError(ua.StatusCodes.BadSessionIdInvalid), frozenset({"n"})
    )
    with pytest.raises(ua.UaStatusCodeError):
        await link.read([ua.NodeId("n", 2)], 5)


@pytest.mark.parametrize(("skipped", "asked_for"), [(2, 1000), (50, 3)], ids=["asked for each", "more than is asked"])
async def test_a_link_that_fails_while_a_hole_is_asked_for_hides_nothing(
    server, make_tags, make_adapter, take, theirs, service, monkeypatch, skipped, asked_for
) -> None:
    """The messages known to be lost before the cut are in the gap that the next connection tells."""
    monkeypatch.setattr(publishing, "_MOST_REPUBLISHED", asked_for)
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 5)
    last = adapter._ledger.now.held[0].last_sequence
    answered: list[int] = []

    def once_and_cut(params: ua.RepublishParameters) -> ua.NotificationMessage:
        if answered:
            for client in list(server._server.bserver.clients):
                client.transport.abort()
        answered.append(params.RetransmitSequenceNumber)
        raise ServiceError(ua.StatusCodes.BadMessageNotAvailable)

    with monkeypatch.context() as cutting:
        cutting.setattr(service(), "republish", once_and_cut)
        theirs(adapter)._notification_seq += skipped
        with pytest.raises(NotConnected, match="connection lost"):
            await take(adapter, lambda t: bool(t.gaps))
    assert len(answered) >= 2
    assert adapter._ledger.now.held[0].last_sequence < answered[0]
    await adapter.connect()
    after = await take(adapter, lambda t: len(t.values(0)) >= 5)
    [gap] = after.gaps
    assert gap.cause is GapCause.SEQUENCE_GAP
    assert gap.detail.startswith(f"{skipped} messages")
    assert adapter.counters["sequence_gaps"] == skipped
    assert adapter._ledger.now.held[0].last_sequence > last + skipped


async def test_a_gap_that_was_not_recorded_is_told_again(
    server, make_tags, make_adapter, take, crash, theirs, eventually, tmp_path
) -> None:
    """A kill after a keep-alive's gap was taken, and before it was journalled, does not make the hole silent."""
    file = tmp_path / "state" / "subscriptions.json"
    adapter = make_adapter(server.endpoint, make_tags("Still"))
    await adapter.connect()
    await take(adapter, lambda t: bool(t.batches))
    await eventually(lambda: load(file).held[0].last_sequence == adapter._watching.watches[0].reached)
    theirs(adapter)._notification_seq += 1
    before = load(file)
    gap = await adapter.read()
    assert isinstance(gap, Gap)
    assert load(file).held[0].last_sequence == before.held[0].last_sequence
    assert load(file).covered_ns <= gap.from_ns
    await crash(adapter)
    again = make_adapter(server.endpoint, make_tags("Still"))
    await again.connect()
    told = await again.read()
    assert isinstance(told, Gap)
    assert (told.cause, told.from_ns, told.detail) == (gap.cause, gap.from_ns, gap.detail)
    # control: coming for the next item means that it was journalled
    reading = asyncio.ensure_future(again.read())
    await eventually(lambda: load(file).held[0].last_sequence == before.held[0].last_sequence + 1)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def test_ended_subscriptions_do_not_multiply(server, make_tags, make_adapter, take, theirs, service) -> None:
    """What is given up within a session is deleted when it is built anew: the server holds as many as before."""
    subscription = {"publishing": "100ms", "keep_alive": "500ms", "nodes": 1}
    adapter = make_adapter(server.endpoint, make_tags("N", "Still"), subscription=subscription)
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 3)
    held = len(service().subscriptions)
    for _ in range(2):
        theirs(adapter)._triggered_statuschanges.append(ua.StatusCode(ua.StatusCodes.BadTimeout))
        with pytest.raises(NotConnected, match="ended the subscription"):
            await take(adapter, lambda t: False)
        await adapter.connect()
        after = await take(adapter, lambda t: len(t.values(0)) >= 3)
        assert [gap.cause for gap in after.gaps] == [GapCause.SESSION_LOST]
        assert len(service().subscriptions) == held


async def test_failed_attempts_leave_no_subscriptions(server, make_tags, make_adapter, take, service) -> None:
    """Where items cannot be made, the subscription of that attempt, now in nobody's session, is gone at the next."""
    held = len(service().subscriptions)
    made, transfer, delete = (
        service().create_monitored_items, service().transfer_subscriptions, service().delete_subscriptions
    )  # fmt: skip
    owned: list[int] = []

    async def take_note(params: ua.TransferSubscriptionsParameters, *session: Any) -> Any:
        owned.extend(params.SubscriptionIds)
        return await transfer(params, *session)

    async def only_owned(ids: list[int]) -> Any:
        return await delete([one for one in ids if one in owned])

    service(transfer_subscriptions=take_note, delete_subscriptions=only_owned)
    adapter = make_adapter(server.endpoint, make_tags("N"))

    async def refuse(params: ua.CreateMonitoredItemsParameters) -> Any:
        raise ServiceError(ua.StatusCodes.BadOutOfMemory)

    service(create_monitored_items=refuse)
    for _ in range(2):
        with pytest.raises(NotConnected, match="BadOutOfMemory"):
            await adapter.connect()
    service(create_monitored_items=made)
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 3)
    assert len(service().subscriptions) == held + 1


async def test_a_foreign_subscription_in_our_session_is_deleted(server, make_tags, make_adapter, take, service) -> None:
    """What delivers to our session and is not ours any more is ended, and costs no value."""
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    before = await take(adapter, lambda t: len(t.values(0)) >= 3)
    params = ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=50, RequestedLifetimeCount=1000, RequestedMaxKeepAliveCount=1
    )
    left_over = await adapter._link.session.create_subscription(params, print)
    after = await take(adapter, lambda t: left_over.SubscriptionId not in service().subscriptions)
    more = await take(adapter, lambda t: len(t.values(0)) >= 3)
    assert adapter.counters["foreign"] >= 1
    values = before.values(0) + after.values(0) + more.values(0)
    assert values == [values[0] + i for i in range(len(values))]


async def test_rare_keep_alives_are_bridged_by_asking(
    server, make_tags, make_adapter, take, service, monkeypatch, eventually
) -> None:
    """A server that makes the keep-alive long is asked for its time, so that the outer watchdog sees that it lives."""
    service(_clamp_keep_alive_count=lambda requested: 10_000)
    monkeypatch.setattr(OpcUaOptions, "silence_s", lambda self: 0.3)
    adapter = make_adapter(server.endpoint, make_tags("Still"))
    await adapter.connect()
    await take(adapter, lambda t: bool(t.batches))
    heard = adapter.counters["publish_responses"]
    reading = asyncio.ensure_future(adapter.read())
    await eventually(lambda: adapter.counters["asked"] >= 3)
    assert not reading.done()
    assert adapter.counters["publish_responses"] == heard
    await server.drop_connections()
    with pytest.raises(NotConnected):
        await reading
