"""
A source under load, in a process of its own: ``python -m bench.load PROTOCOL TAGS PERIOD``.

Every value is ``k + tag / tags`` with k the number of the period since 2020, so that a row in SQL can be checked
against its own time. Prints ``READY address`` and serves until standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Mapping
from threading import Thread

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from simulators import SignalValue
from simulators.modbus_server import ModbusServer, RegisterPoint
from simulators.mqtt_broker import EmbeddedBroker
from simulators.opcua_server import NodeSpec, OpcUaServer

EPOCH_S = 1577836800
#: float32 keeps the fraction only while the whole part is small.
WRAP = 10_000


def value(at_s: float, period_s: float, tag: int, tags: int) -> float:
    """Value of a tag at a time."""
    return int((at_s - EPOCH_S) / period_s) % WRAP + tag / tags


async def main(protocol: str, tags: int, period_s: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stop.set)), daemon=True).start()

    def signals() -> Mapping[str, SignalValue]:
        now = time.time()
        return {f"v{i}": value(now, period_s, i, tags) for i in range(tags)}

    async with contextlib.AsyncExitStack() as stack:
        if protocol == "modbus":
            cached = _Cached(signals, period_s)
            points = [RegisterPoint(f"v{i}", "holding", 2 * i, "float32") for i in range(tags)]
            server = await stack.enter_async_context(ModbusServer(cached, points))
            print(f"READY 127.0.0.1:{server.port}", flush=True)
        elif protocol == "opcua":
            nodes = {f"v{i}": NodeSpec("Double") for i in range(tags)}
            opcua = OpcUaServer(signals, nodes, namespace="urn:fairlead:bench", period_s=period_s)
            await stack.enter_async_context(opcua)
            print(f"READY {opcua.endpoint}", flush=True)
        else:
            broker = await stack.enter_async_context(EmbeddedBroker())
            task = asyncio.create_task(_publish(broker.port, tags, period_s))
            stack.callback(task.cancel)
            print(f"READY {broker.url}", flush=True)
        await stop.wait()


class _Cached:
    """One computation a period, however many requests a scan takes."""

    def __init__(self, signals: object, period_s: float) -> None:
        self._signals = signals
        self._period_s = period_s
        self._k = -1
        self._values: Mapping[str, SignalValue] = {}

    def __call__(self) -> Mapping[str, SignalValue]:
        k = int((time.time() - EPOCH_S) / self._period_s)
        if k != self._k:
            self._k, self._values = k, self._signals()  # type: ignore[operator]
        return self._values


async def _publish(port: int, tags: int, period_s: float) -> None:
    """Ten messages a period, each with a tenth of the tags and one time."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "bench-load", protocol=mqtt.MQTTv311)
    await asyncio.to_thread(client.connect, "127.0.0.1", port)
    client.loop_start()
    share = -(-tags // 10)
    while True:
        now = time.time()
        for part in range(10):
            body: dict[str, float] = {"ts": round(now * 1000)}
            body |= {f"v{i}": value(now, period_s, i, tags) for i in range(part * share, min(tags, (part + 1) * share))}
            client.publish(f"bench/{part}", json.dumps(body), 1)
        await asyncio.sleep(period_s - time.time() % period_s)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
