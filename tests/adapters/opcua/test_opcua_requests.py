"""Publish requests in flight, and batches that wait to be settled: bounds, order, nothing acknowledged too early."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer, ServiceError
from asyncua.ua.ua_binary import struct_to_binary
from asyncua.ua.uaerrors import UaStructParsingError

from adapters.opcua import requests
from adapters.opcua.progress import load
from adapters.opcua.requests import Acks, Requests
from adapters.opcua.subscription import groups
from adapters.opcua.window import Window
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause


class _Link:
    """Takes publish requests; the test answers them."""

    def __init__(self) -> None:
        self.posted: list[tuple[Acks, asyncio.Future[Buffer]]] = []
        self.renew_at = 1e18
        self.renewed = 0

    def post_publish(self, acks: Acks) -> asyncio.Future[Buffer]:
        answer: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
        self.posted.append((acks, answer))
        return answer

    async def renew_when_due(self) -> None:
        if asyncio.get_running_loop().time() >= self.renew_at:
            self.renew_at = 1e18
            self.renewed += 1

    def answer(self, place: int, sequence: int) -> None:
        head = struct.pack("<BBHqIIBiBBB", 1, 0, 829, 0, 0, 0, 0, 0, 0, 0, 0)
        body = head + struct.pack("<Ii?Iqiii", 7, 0, False, sequence, 0, 0, 0, 0)
        self.posted[place][1].set_result(Buffer(body))

    def fail(self, place: int, error: Exception) -> None:
        self.posted[place][1].set_exception(error)


class _Rig:
    def __init__(self, bound: int) -> None:
        self.link = _Link()
        self.due: Acks = []
        self.counters: Counter[str] = Counter()
        self.asked = 0
        self.requests = Requests(self.link, bound, self._due, self.counters)  # type: ignore[arg-type]

    def _due(self) -> Acks:
        due, self.due = self.due, []
        return due

    async def _ask(self) -> None:
        self.asked += 1

    async def take(self, silence_s: float = 5.0, asking_s: float = 5.0) -> int:
        return (await self.requests.take(silence_s, asking_s, self._ask)).message.sequence


@pytest.fixture
def rig() -> Callable[[int], _Rig]:
    """Requests over a link that the test plays: ``rig(bound)``."""
    return _Rig


async def test_answers_come_in_the_order_of_arrival(rig) -> None:
    """Three requests are sent ahead; one is sent again only when an answer was taken, whichever came first."""
    one = rig(3)
    taking = asyncio.ensure_future(one.take())
    await asyncio.sleep(0)
    assert len(one.link.posted) == 3
    one.link.answer(1, 11)
    one.link.answer(0, 12)
    assert await taking == 11
    assert len(one.link.posted) == 3
    assert await one.take() == 12
    assert len(one.link.posted) == 4


@pytest.mark.parametrize(
    ("error", "raised"),
    [(ua.UaStatusCodeError(ua.StatusCodes.BadTimeout), False), (None, True), (ConnectionError("gone"), True)],
    ids=["time-out", "unreadable", "link"],
)
async def test_acknowledgements_of_a_failed_request_go_with_the_next(rig, eventually, error, raised) -> None:
    """Nothing that a request carried is lost with it, and nothing is sent twice without need."""
    one = rig(1)
    one.due = [(7, 1), (7, 2)]
    taking = asyncio.ensure_future(one.take())
    await asyncio.sleep(0)
    assert one.link.posted[0][0] == [(7, 1), (7, 2)]
    one.due = [(7, 3)]
    if error is None:
        one.link.posted[0][1].set_result(Buffer(b"nonsense"))
    else:
        one.link.fail(0, error)
    if raised:
        with pytest.raises((UaStructParsingError, ConnectionError)):
            await taking
        if isinstance(error, ConnectionError):
            return
        taking = asyncio.ensure_future(one.take())
    await eventually(lambda: len(one.link.posted) == 2)
    assert one.link.posted[1][0] == [(7, 1), (7, 2), (7, 3)]
    one.link.answer(1, 5)
    assert await taking == 5
    taking = asyncio.ensure_future(one.take())
    await asyncio.sleep(0)
    assert one.link.posted[2][0] == []
    taking.cancel()


async def test_too_many_requests_are_one_fewer(rig, monkeypatch, eventually) -> None:
    """Each refusal lowers the bound, down to one, which is tried again after a while."""
    monkeypatch.setattr(requests, "_REFUSED_S", 0.2)
    too_many = ua.UaStatusCodeError(ua.StatusCodes.BadTooManyPublishRequests)
    one = rig(3)
    one.due = [(7, 1)]
    taking = asyncio.ensure_future(one.take())
    await asyncio.sleep(0)
    one.link.fail(0, too_many)
    await eventually(lambda: one.requests.bound == 2)
    assert len(one.link.posted) == 3
    one.link.answer(1, 4)
    assert await taking == 4
    taking = asyncio.ensure_future(one.take())
    await eventually(lambda: len(one.link.posted) == 4)
    assert one.link.posted[3][0] == [(7, 1)]
    for place in (2, 3):
        one.link.fail(place, too_many)
    await eventually(lambda: one.counters["publish_refused"] == 3)
    assert (one.requests.bound, len(one.link.posted)) == (1, 4), "no request is left: wait, do not storm"
    await eventually(lambda: len(one.link.posted) == 5)
    one.link.answer(4, 5)
    assert await taking == 5
    assert one.counters["publish_refused"] == 3


async def test_waiting_keeps_the_channel_and_asks(rig) -> None:
    """While nothing comes the channel is renewed, a sign of life is asked for, and silence ends it."""
    one = rig(2)
    one.link.renew_at = asyncio.get_running_loop().time() + 0.02
    with pytest.raises(NotConnected, match="silence"):
        await one.take(silence_s=0.1, asking_s=0.03)
    assert one.link.renewed == 1
    assert one.asked >= 2


async def test_the_channel_is_renewed_under_a_flood(rig) -> None:
    """Also when an answer is always there."""
    one = rig(1)
    one.link.renew_at = 0.0
    taking = asyncio.ensure_future(one.take())
    await asyncio.sleep(0)
    one.link.answer(0, 1)
    await taking
    assert one.link.renewed == 1


@pytest.fixture
def window() -> tuple[Window[str], list[str], list[Exception]]:
    """A window of two, what was noted, what was refused."""
    refused: list[Exception] = []
    return Window(2, refused.append), [], refused


async def test_notes_keep_the_order(window) -> None:
    """What settles early waits for what was handed on before it; a note behind both waits too."""
    one, noted, _ = window
    first, second = one.add("a", lambda: noted.append("a")), one.add("b", lambda: noted.append("b"))
    one.after(lambda: noted.append("quiet"))
    await second(None)
    assert (noted, list(one)) == ([], ["a", "b"])
    full = asyncio.ensure_future(one.room())
    await asyncio.sleep(0)
    assert not full.done()
    await first(None)
    await full
    await one.drained()
    assert (noted, list(one)) == (["a", "b", "quiet"], [])


async def test_nothing_is_noted_after_a_refusal(window) -> None:
    """What came behind a refused batch comes again with it, so it must not count as journalled."""
    one, noted, refused = window
    first, second = one.add("a", lambda: noted.append("a")), one.add("b", lambda: noted.append("b"))
    await second(None)
    await first(OSError("disk full"))
    await second(OSError("later"))
    assert (noted, [str(error) for error in refused]) == ([], ["disk full"])
    with pytest.raises(NotConnected, match=r"not journalled.*disk full"):
        await one.room()


def opened(adapter: Any) -> bool:
    """Whether the first cycles are over, at whose end the stream waits once for what is unsettled."""
    return not any(watch.opening for watch in adapter._watching.watches)


async def test_a_slow_journal_does_not_stop_the_stream(server, make_tags, make_adapter, take, tmp_path) -> None:
    """Several batches are read before the first is settled; progress follows the settled beginning only."""
    file = tmp_path / "state" / "subscriptions.json"
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 3 and opened(adapter))
    deliveries = [await adapter.read() for _ in range(4)]
    held = adapter._ledger.now.held[0]
    before = held.last_sequence
    for late in deliveries[1:]:
        await late.settle()
    assert held.last_sequence == before
    assert load(file).held[0].last_sequence <= before
    await deliveries[0].settle()
    assert held.last_sequence == before + 4


async def test_a_refused_batch_takes_those_behind_it_along(server, make_tags, make_adapter, take) -> None:
    """All of them come again, in order, though the later ones were settled."""
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    before = await take(adapter, lambda t: len(t.values(0)) >= 3 and opened(adapter))
    deliveries = [await adapter.read() for _ in range(3)]
    await deliveries[1].settle()
    await deliveries[0].settle(OSError("disk full"))
    await deliveries[2].settle()
    with pytest.raises(NotConnected, match=r"not journalled.*disk full"):
        await adapter.read()
    await adapter.connect()
    after = await take(adapter, lambda t: len(t.values(0)) >= 12)
    assert after.values(0)[0] == deliveries[0].batch.value[0]
    values = before.values(0) + after.values(0)
    assert values == [values[0] + i for i in range(len(values))]
    assert not after.gaps


async def test_a_gap_waits_for_the_batches_before_it(
    server, make_tags, make_adapter, take, eventually, monkeypatch
) -> None:
    """A lost message is passed over in the file only when everything before it is in the journal."""
    # a machine that stands still for a second is no silence here
    slow = {"publishing": "100ms", "keep_alive": "5s"}
    adapter = make_adapter(server.endpoint, make_tags("N"), subscription=slow)
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 3 and opened(adapter))
    unsettled = [await adapter.read()]
    service = server._server.iserver.subscription_service
    held = adapter._ledger.now.held[0]
    reached = held.last_sequence
    asked: list[int] = []

    def gone(params: ua.RepublishParameters) -> None:
        asked.append(params.RetransmitSequenceNumber)
        raise ServiceError(ua.StatusCodes.BadMessageNotAvailable)

    monkeypatch.setattr(service, "republish", gone)
    service.subscriptions[held.subscription_id]._notification_seq += 3

    async def until_the_gap() -> Gap:
        while not isinstance(item := await adapter.read(), Gap):
            unsettled.append(item)
        return item

    reading = asyncio.ensure_future(until_the_gap())
    await eventually(lambda: len(asked) == 3)
    assert (held.last_sequence, reading.done()) == (reached, False)
    while unsettled:
        await unsettled.pop(0).settle()
    gap = await reading
    assert gap.cause is GapCause.SEQUENCE_GAP
    assert gap.detail.startswith("3 messages")
    assert held.last_sequence == min(asked) - 1, "not before the gap itself is in the journal"
    following = asyncio.ensure_future(adapter.read())
    await eventually(lambda: held.last_sequence >= max(asked))
    await (await following).settle()


async def test_types_of_many_tags_have_subscriptions_of_their_own(make_tags) -> None:
    """Long runs of one type; few tags and tags without a type share one, so that small maps keep one subscription."""
    tags = [
        tag.model_copy(update={"type": kind})
        for tag, kind in zip(
            make_tags(*(f"n{i}" for i in range(90))), ["float64", "int32", None] * 29 + ["bool"] * 3, strict=True
        )
    ]
    assert [len(group) for group in groups(tags, 1000)] == [90]
    many = [tag.model_copy(update={"type": ["float32", "bool"][n % 2]}) for n, tag in enumerate(tags)] + tags[:3]
    parts = groups(many, 40)
    assert [len(group) for group in parts] == [40, 5, 40, 5, 3]
    assert {tag.type for tag in parts[0]} == {"float32"}


def test_a_fault_in_the_right_shape_is_a_status_code() -> None:
    """The scripted faults above are what a server's bytes become."""
    fault = ua.ServiceFault()
    fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.StatusCodes.BadTooManyPublishRequests)
    with pytest.raises(ua.uaerrors.BadTooManyPublishRequests):
        requests.responses.published(Buffer(struct_to_binary(fault)))
