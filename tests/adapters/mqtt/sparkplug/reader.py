"""What the tests of the adapter read of a Sparkplug node through a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from adapters.mqtt import MqttAdapter
from schemas import status
from schemas.samples import Gap, Sample
from simulators.sparkplug_node import EdgeNode

Make = Callable[..., MqttAdapter]
SPARKPLUG: dict[str, Any] = {"subscriptions": [{"filter": "spBv1.0/#", "decode": "sparkplug"}]}
ACTIVE: dict[str, Any] = {"role": "secondary_active", "rebirth": "on_need", "rebirth_every": "100ms"}
ADDRESSES = {
    "spBv1.0/Plant/edge#Uptime": "int32",
    "spBv1.0/Plant/edge/press#Temperature": "float64",
    "spBv1.0/Plant/edge/press#Count": "uint32",
}
DEVICES = {
    "": {"Uptime": ("Int32", 1)},
    "press": {"Temperature": ("Double", 60.0), "Count": ("UInt32", 0)},
}


class Reader:
    """Reads and settles until something is there; keeps rows and gaps."""

    def __init__(self, adapter: MqttAdapter) -> None:
        self.adapter = adapter
        self.rows: list[Sample] = []
        self.gaps: list[Gap] = []
        self.reasons: list[str] = []

    async def until(self, condition: Callable[[Reader], object], within_s: float = 60.0) -> None:
        """Read until the condition holds."""
        async with asyncio.timeout(within_s):
            while not condition(self):
                item = await self.adapter.read()
                if isinstance(item, Gap):
                    self.gaps.append(item)
                    continue
                item.batch.check()
                self.rows += item.batch.rows()
                self.reasons += [reject.reason for reject in item.rejects]
                await item.settle()

    def of(self, tag: int) -> list[object]:
        """Values of a tag, or the status where it is not good."""
        return [row.value if row.status == status.GOOD else row.status for row in self.rows if row.tag == tag]


Reading = Callable[..., Awaitable[tuple[MqttAdapter, Reader, EdgeNode]]]
