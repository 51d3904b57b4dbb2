"""A scripted broker that says what no good one says: the adapter survives or reports, and never hangs."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from adapters.mqtt import MqttAdapter
from schemas.errors import NotConnected
from schemas.samples import Delivery, Gap

Make = Callable[..., MqttAdapter]
CONNACK = bytes([0x20, 3, 0, 0, 0])
NUMBERS = {"line1/n": "int32"}
PLAIN = [{"filter": "line1/#", "decode": "plain"}]


def publish(topic: bytes, payload: bytes, mid: int, first: int = 0x32) -> bytes:
    """PUBLISH of MQTT 5, QoS 1 unless *first* says otherwise."""
    body = struct.pack(">H", len(topic)) + topic + struct.pack(">H", mid) + b"\0" + payload
    return bytes([first, len(body)]) + body


class Script:
    """A broker for one client: CONNACK, *before*, SUBACK with *codes*, *after*; ``received`` is what came."""

    def __init__(
        self, connack: bytes = CONNACK, codes: bytes = b"\x01", before: bytes = b"", after: bytes = b""
    ) -> None:
        self.before = before
        self.connack = connack
        self.codes = codes
        self.after = after
        self.received: list[bytes] = []
        self.url = ""
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._open[writer] = task
        try:
            while True:
                head = await reader.readexactly(2)
                body = await reader.readexactly(head[1])
                self.received.append(head + body)
                if head[0] == 0x10 and self.connack:
                    writer.write(self.connack)
                elif head[0] == 0x82:
                    writer.write(
                        self.before + bytes([0x90, 3 + len(self.codes)]) + body[:2] + b"\0" + self.codes + self.after
                    )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Script]:
        """Listen on a free port."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self
            for writer in self._open:
                writer.transport.abort()
            await asyncio.gather(*self._open.values(), return_exceptions=True)


async def test_a_topic_that_is_no_text_is_refused_alone(make: Make, eventually: Callable[..., object]) -> None:
    """Invalid UTF-8 in a topic kills paho's thread in naive clients (M1); here it is one refusal, acknowledged."""
    after = publish(b"line1/\xff\xfe", b"1", 1) + publish(b"line1/n", b"2", 2)
    async with Script(after=after).listening() as broker:
        adapter = make(broker.url, NUMBERS, subscriptions=PLAIN)
        await adapter.connect()
        values, reasons = [], []
        while len(values) + len(reasons) < 2:
            delivery = await asyncio.wait_for(adapter.read(), 30)
            assert isinstance(delivery, Delivery)
            values += list(delivery.batch.value)
            reasons += [reject.reason for reject in delivery.rejects]
            await delivery.settle()

        assert values == [2.0]
        assert reasons == ["the topic is not UTF-8"]
        await eventually(lambda: [p[2:4] for p in broker.received if p[0] == 0x40] == [b"\0\1", b"\0\2"])  # type: ignore[misc]
        await adapter.close()


@pytest.mark.parametrize(
    "packet",
    [b"\x32\x05\x00\x40abc", b"\x30\x00", b"\x00\x00", b"\x90\x01\x00", publish(b"line1/n", b"1", 1, 0x36)],
    ids=["truncated", "empty", "type 0", "short suback", "qos 3"],
)
async def test_a_malformed_packet_is_reported_and_never_hangs(make: Make, packet: bytes) -> None:
    """Whatever the packet, the next read ends with NotConnected and its reason, and close returns."""
    async with Script(after=packet).listening() as broker:
        adapter = make(broker.url, NUMBERS, subscriptions=PLAIN)
        try:
            await adapter.connect()
        except NotConnected:
            pass
        else:
            with pytest.raises(NotConnected, match=r"broke|died"):
                await asyncio.wait_for(adapter.read(), 30)
        await adapter.close()


async def test_a_backlog_before_the_answer_does_not_block_connect(make: Make) -> None:
    """More messages than the queue holds, sent before SUBACK, are read instead of being waited behind for ever."""
    backlog = b"".join(publish(b"line1/n", str(n).encode(), n + 1) for n in range(5000))
    async with Script(connack=bytes([0x20, 3, 1, 0, 0]), before=backlog).listening() as broker:
        adapter = make(broker.url, NUMBERS, subscriptions=PLAIN)
        await asyncio.wait_for(adapter.connect(), 30)
        values: list[float] = []
        while len(values) < 5000:
            delivery = await asyncio.wait_for(adapter.read(), 30)
            assert isinstance(delivery, Delivery)
            values += list(delivery.batch.value)
            await delivery.settle()

        assert values == list(range(5000))
        assert adapter.counters["overrun"] == 0
        await adapter.close()


async def test_the_death_of_the_network_thread_is_noticed(make: Make) -> None:
    """An exception in paho's thread, which paho itself does not report (M1), ends the read."""
    async with Script(after=publish(b"line1/n", b"1", 1)).listening() as broker:
        adapter = make(broker.url, NUMBERS, subscriptions=PLAIN)

        def clock() -> int:
            raise ZeroDivisionError("the clock is broken")

        await adapter.connect()
        assert adapter._session is not None
        await (await adapter.read()).settle()  # type: ignore[union-attr]
        adapter._session._now_ns = clock
        broker.after = publish(b"line1/n", b"2", 2)
        adapter._session._client.subscribe("line1/again")

        with pytest.raises(NotConnected, match="the network thread died: ZeroDivisionError"):
            await asyncio.wait_for(adapter.read(), 30)
        await adapter.close()


async def test_another_client_with_our_id_is_told(make: Make) -> None:
    """Reason 0x8E names the cause and stops the source, so that two brokers do not throw each other out."""
    async with Script(after=bytes([0xE0, 1, 0x8E])).listening() as broker:
        adapter = make(broker.url, NUMBERS, subscriptions=PLAIN)
        await adapter.connect()
        with pytest.raises(NotConnected, match="took over our client id") as error:
            await asyncio.wait_for(adapter.read(), 30)
        assert error.value.retry_after_s == 3600.0
        await adapter.close()


async def _read_on(adapter: MqttAdapter) -> None:
    """Read until the connection is lost; the gaps of the lost session come before."""
    while True:
        assert isinstance(await asyncio.wait_for(adapter.read(), 30), Gap)


async def test_a_message_that_ends_each_connection_is_an_alarm(make: Make) -> None:
    """Three connects within a minute are counted and told, for a poisoned queue loops for ever (M9)."""
    async with Script(after=b"\x36\x05\x00\x01a\x00\x01").listening() as broker:
        adapter = make(broker.url, NUMBERS, subscriptions=PLAIN)
        for _ in range(3):
            assert adapter.counters["reconnect_alarms"] == 0
            with contextlib.suppress(NotConnected):  # the poison may come before connect has returned
                await adapter.connect()
            with pytest.raises(NotConnected):
                await _read_on(adapter)
        assert adapter.counters["reconnect_alarms"] == 1
        assert "3 connections within 60 s" in adapter.facts["alarm"]
        await adapter.close()


async def test_a_refused_filter_is_told_and_the_others_work(make: Make) -> None:
    """A filter the broker refuses is counted, shown and quarantined once; a lower QoS is shown."""
    async with Script(codes=b"\x87\x00", after=publish(b"line2/n", b"5", 1)).listening() as broker:
        filters = [*PLAIN, {"filter": "line2/#", "decode": "plain"}]
        adapter = make(broker.url, NUMBERS | {"line2/n": None}, subscriptions=filters)
        await adapter.connect()
        first, second = await adapter.read(), await adapter.read()

        assert isinstance(first, Delivery)
        assert isinstance(second, Delivery)
        await first.settle()
        await second.settle()
        assert [reject.place for reject in first.rejects] == ["line1/#"]
        assert list(second.batch.value) == [5.0]
        assert adapter.counters["refused_items"] == 1
        assert adapter.facts["filter line1/#"] == "the broker refuses this filter, code 0x87"
        assert adapter.facts["filter line2/#"] == "granted QoS 0, asked for 1"
        await adapter.close()


async def test_a_broker_without_mqtt_5_is_explained(make: Make) -> None:
    """A refusal of the protocol version says what to write."""
    async with Script(connack=bytes([0x20, 2, 0, 1])).listening() as broker:
        adapter = make(broker.url, NUMBERS, subscriptions=PLAIN)
        with pytest.raises(NotConnected, match=r'protocol: "3\.1\.1"|[Pp]rotocol'):
            await adapter.connect()
        await adapter.close()


async def test_a_silent_broker_is_given_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CONNACK connect ends within its time-out and leaves nothing open."""
    monkeypatch.setattr("adapters.mqtt.session._ANSWER_S", 0.2)
    async with Script(connack=b"").listening() as broker:
        adapter = make(broker.url, NUMBERS, subscriptions=PLAIN)
        with pytest.raises(NotConnected, match="no CONNACK"):
            await adapter.connect()
        with pytest.raises(NotConnected, match="not connected"):
            await adapter.read()
        await adapter.close()
