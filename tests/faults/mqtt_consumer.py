"""
A consumer that a test kills: ``python -m tests.faults.mqtt_consumer URL STATE_DIR JOURNAL durable|early``.

``durable`` settles behind the fsync. ``early`` is the fault of the negative control: it settles at once and writes a
batch only when the next one has come.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from adapters.base import AdapterContext
from adapters.mqtt import MqttAdapter, MqttOptions
from schemas.samples import Delivery
from schemas.tagmap import Tag


async def main(url: str, state: str, journal: str, mode: str) -> None:
    """Append every value to the journal until killed."""
    tag = Tag(number=0, id="n", path="S/n", source="plant", address="line1/n#v", type="int32")
    options = MqttOptions.model_validate({"broker": url, "subscriptions": [{"filter": "line1/n", "decode": "json"}]})
    adapter = MqttAdapter(options, AdapterContext("plant", (tag,), b"m" * 16, time.time_ns, Path(state)))
    await adapter.connect()
    behind: list[Delivery] = []
    with open(journal, "ab", buffering=0) as file:
        while True:
            delivery = await adapter.read()
            if not isinstance(delivery, Delivery):
                continue
            if mode == "early":
                await delivery.settle()
            behind.append(delivery)
            if mode == "early" and len(behind) < 2:
                continue
            first = behind.pop(0)
            file.write("".join(f"{int(value)}\n" for value in first.batch.value).encode())
            os.fsync(file.fileno())
            if mode == "durable":
                await first.settle()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
