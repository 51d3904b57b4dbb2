"""
MQTT receiving: the adapter against paho's own reading and ``json``, on the same packets from the same peer.

The peer (:mod:`bench.mqtt_replay`) is another process and never the limit; one message carries one value. Printed is
the CPU time (user + system) of this process a message, in turns, with the median of the ratios: paho with a callback
that parses the payload and acknowledges, against the adapter with all its checks, its batches and its
acknowledgements behind ``settle``. Then the parts alone, on bytes in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from adapters.base import AdapterContext
from adapters.mqtt import MqttAdapter, MqttOptions
from adapters.mqtt.decode import Decoder
from adapters.mqtt.message import Block
from adapters.mqtt.packets import Packets
from adapters.mqtt.sparkplug import datatypes, payload
from bench.mqtt_replay import Round
from schemas.samples import Delivery
from schemas.tagmap import Tag
from simulators.sparkplug_node import Metric, encode

_TAGS: Final = 1000
_WARM_UP: Final = 20_000


def main(argv: Sequence[str]) -> int:
    """Take the arguments and print the table."""
    options = argparse.ArgumentParser(prog="python -m bench mqtt", description=__doc__)
    options.add_argument("--seconds", type=float, default=10.0, help="measured time of each run (default 10)")
    options.add_argument("--rounds", type=int, default=3, help="runs, of which the median counts (default 3)")
    chosen = options.parse_args(argv)
    run(chosen.seconds, chosen.rounds)
    return 0


def run(seconds: float, rounds: int = 3) -> None:
    """Print the table."""
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {seconds:g} s each, {rounds} rounds")
    print("| QoS | paho + json, CPU µs/message | adapter, CPU µs/message | ratio, median [min..max] | adapter msg/s |")
    print("|---|---|---|---|---|", flush=True)
    for qos in (0, 1):
        pairs = [(_paho(qos, seconds), _adapter(qos, seconds)) for _ in range(rounds)]
        ratios = sorted(slow[0] / fast[0] for slow, fast in pairs)
        slow_us, fast_us = (statistics.median(pair[i][0] for pair in pairs) for i in (0, 1))
        rate = statistics.median(pair[1][1] for pair in pairs)
        spread = f"{statistics.median(ratios):.1f} [{ratios[0]:.1f}..{ratios[-1]:.1f}]"
        print(f"| {qos} | {slow_us:.1f} | {fast_us:.2f} | {spread} | {rate:.0f} |", flush=True)
    print("\n| part | CPU µs |\n|---|---|")
    for title, cost in _parts().items():
        print(f"| {title} | {cost:.3f} |", flush=True)


class _Peer:
    def __init__(self, qos: int) -> None:
        command = [sys.executable, "-m", "bench.mqtt_replay", "--flood", "--tags", str(_TAGS), "--qos", str(qos)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().split()[1]
        self.port = int(self.url.rsplit(":", 1)[1])

    def stop(self) -> None:
        out, _ = self._process.communicate()
        if json.loads(out)["disordered"]:
            raise SystemExit("acknowledgements came in another order than the messages")


def _check(value: float, tag: int) -> None:
    if abs(value % 1 - tag / _TAGS) > 1e-6:
        raise SystemExit(f"tag {tag} has the value {value}")


def _paho(qos: int, seconds: float) -> tuple[float, float]:
    """CPU µs a message, and messages a second."""
    peer = _Peer(qos)
    done = 0
    enough = threading.Event()

    def take(client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        nonlocal done
        document = json.loads(message.payload)
        _check(document["v"], int(message.topic[7:]))
        client.ack(message.mid, message.qos)
        done += 1
        if done == 2000:
            enough.set()

    client = mqtt.Client(CallbackAPIVersion.VERSION2, "bench", protocol=mqtt.MQTTv5, manual_ack=True)
    client.on_message = take
    client.on_connect = lambda c, *_: c.subscribe("bench/#", qos)
    client.connect("127.0.0.1", peer.port)
    client.loop_start()
    enough.wait(30)
    result = _measure(lambda: done, lambda: time.sleep(seconds))
    client.disconnect()
    client.loop_stop()
    peer.stop()
    return result


def _measure(count: Callable[[], int], wait: Callable[[], None]) -> tuple[float, float]:
    before, cpu, began = count(), time.process_time(), time.perf_counter()
    wait()
    messages = max(count() - before, 1)
    return (time.process_time() - cpu) / messages * 1e6, messages / (time.perf_counter() - began)


def _options(url: str, qos: int) -> MqttOptions:
    subscription = {"filter": "bench/+", "decode": "json", "time": "ts", "time_format": "epoch_us"}
    return MqttOptions.model_validate(
        {"broker": url, "qos": qos, "receive_maximum": 5000, "subscriptions": [subscription]}
    )


def _tags() -> tuple[Tag, ...]:
    return tuple(
        Tag(number=i, id=f"t{i}", path=f"B/{i}", source="load", address=f"bench/v{i:05d}#v", type="float64")
        for i in range(_TAGS)
    )


def _adapter(qos: int, seconds: float) -> tuple[float, float]:
    """The same of the adapter; every value is checked."""
    peer = _Peer(qos)
    with tempfile.TemporaryDirectory() as folder:
        context = AdapterContext("load", _tags(), b"m" * 16, time.time_ns, Path(folder))
        adapter = MqttAdapter(_options(peer.url, qos), context)

        async def main() -> tuple[float, float]:
            await adapter.connect()
            while adapter.counters["messages"] < _WARM_UP:
                await _one(adapter)
            before, cpu, began = adapter.counters["messages"], time.process_time(), time.perf_counter()
            while time.perf_counter() - began < seconds:
                await _one(adapter)
            messages = adapter.counters["messages"] - before
            result = (time.process_time() - cpu) / messages * 1e6, messages / (time.perf_counter() - began)
            if adapter.counters["decoded_singly"] > _WARM_UP / 10 or adapter.counters["rejected"]:
                raise SystemExit(f"not all were read in bulk: {adapter.counters}")
            await adapter.close()
            return result

        try:
            import uvloop
        except ImportError:
            result = asyncio.run(main())
        else:
            result = uvloop.run(main())
    peer.stop()
    return result


async def _one(adapter: MqttAdapter) -> None:
    item = await adapter.read()
    if isinstance(item, Delivery):
        wrong = np.abs(item.batch.value % 1 - item.batch.tag / _TAGS) > 1e-6
        if wrong.any():
            raise SystemExit(f"{int(wrong.sum())} wrong values")
        await item.settle()


def _parts() -> dict[str, float]:
    """CPU µs of each step on bytes in memory: the least of five."""
    round_ = Round(_TAGS, 1, five=True)
    round_.fill(round(time.time() * 1e6), 1234, 0)
    data = round_.rows.tobytes()
    (block,) = Packets(256 * 1024, five=True).feed(data, 1)
    assert isinstance(block, Block)
    context = AdapterContext("load", _tags(), b"m" * 16, time.time_ns, Path())
    decoder = Decoder(_options("mqtt://127.0.0.1", 1), context, Counter())
    ones = [block.part(i, i + 1) for i in range(_TAGS)]
    spark = encode([Metric(None, "Double", i / 7, i, 1_795_357_000_000) for i in range(100)], 1_795_357_000_000, 3)

    def sparkplug() -> None:
        for metric in payload.decode(spark).metrics:
            datatypes.convert(metric.datatype, metric.field, metric.value)

    return {
        "packets to messages, a message": _least(lambda: Packets(256 * 1024, five=True).feed(data, 1)) / _TAGS,
        "messages to a batch, 1000 at once, a message": _least(lambda: decoder.decode(block)) / _TAGS,
        "messages to a batch, one by one, a message": _least(lambda: [decoder.decode(one) for one in ones]) / _TAGS,
        "json.loads, a message": _least(lambda: [json.loads(one) for one in block.payloads]) / _TAGS,
        "Sparkplug, 100 metrics to values, a metric": _least(sparkplug) / 100,
    }


def _least(call: Callable[[], object]) -> float:
    costs = []
    for _ in range(5):
        begin = time.process_time_ns()
        for _ in range(10):
            call()
        costs.append((time.process_time_ns() - begin) / 10_000)
    return min(costs)
