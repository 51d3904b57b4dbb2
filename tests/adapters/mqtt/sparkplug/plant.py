"""A host fed with messages of one node, without a broker."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from adapters.base import AdapterContext
from adapters.mqtt import MqttOptions
from adapters.mqtt.decode import Decoder
from adapters.mqtt.message import Block, Message
from schemas.samples import Gap, Origin, Reject, Sample
from schemas.tagmap import Tag
from simulators.sparkplug_node import Metric, encode

ARRIVED = 1_800_000_000 * 10**9
SENT = 1_799_999_999_000
FILTER = [{"filter": "spBv1.0/#", "decode": "sparkplug"}]
ADDRESSES = {
    "spBv1.0/G/n#Uptime": "int32",
    "spBv1.0/G/n/press#Temperature": "float64",
    "spBv1.0/G/n/press#Count": "uint32",
    "spBv1.0/G/n/oven#Name": "string[20]",
}
PRESS = [Metric("Temperature", "Double", 60.5, 1), Metric("Count", "UInt32", 3, 2)]
NODE = [Metric("bdSeq", "UInt64", 4), Metric("Uptime", "Int32", 7, 0)]
ACTIVE = {"role": "secondary_active", "rebirth": "on_need"}


class Plant:
    """A decoder with a host, fed with messages of node G/n; ``now_s`` moves by hand."""

    def __init__(self, addresses: dict[str, str | None] | None = None, **sparkplug: Any) -> None:
        chosen: dict[str, str | None] = {**ADDRESSES} if addresses is None else addresses
        tags = tuple(
            Tag(number=n, id=f"t{n}", path=f"S/{n}", source="m", address=address, type=type_)
            for n, (address, type_) in enumerate(chosen.items())
        )
        raw = {"broker": "mqtt://127.0.0.1", "subscriptions": FILTER, **({"sparkplug": sparkplug} if sparkplug else {})}
        self.counters: Counter[str] = Counter()
        self.facts: dict[str, str] = {}
        context = AdapterContext("m", tags, b"m" * 16, lambda: ARRIVED, Path())
        self.decoder = Decoder(MqttOptions.model_validate(raw), context, self.counters, self.facts)
        assert self.decoder.host is not None
        self.host = self.decoder.host
        self.now_s = 100.0
        self.host.restore(None, kept=True, now_s=self.now_s)
        self.rejects: list[Reject] = []
        self.origin = Origin.LIVE
        self._n = 0

    def put(
        self, kind: str, metrics: list[Metric], seq: int | None, device: str = "", *, sent: int | None = SENT
    ) -> list[Sample]:
        """One message; the rows that come of it."""
        topic = f"spBv1.0/G/{kind}/n" + (f"/{device}" if device else "")
        return self.raw(topic, encode(metrics, sent, seq))

    def raw(self, topic: str, payload: bytes) -> list[Sample]:
        """One message of any content."""
        self._n += 1
        message = Message(topic.encode(), payload, len(payload), 0, False, False, 0, ARRIVED + self._n)
        return self._decode([message])

    def later(self, seconds: float) -> list[Sample]:
        """What comes of waiting."""
        self.now_s += seconds
        return self._decode([])

    def born(self) -> list[Sample]:
        """Births of the node and of the press, numbers 0 and 1."""
        return self.put("NBIRTH", NODE, 0) + self.put("DBIRTH", PRESS, 1, "press")

    def gaps(self) -> list[Gap]:
        """Gaps since the last call."""
        gaps, self.host.losses.gaps = self.host.losses.gaps, []
        return gaps

    def _decode(self, messages: list[Message]) -> list[Sample]:
        batch, rejects = self.decoder.decode(Block.of(*messages), self.now_s)
        batch.check()
        self.rejects += rejects
        self.origin = batch.origin
        return list(batch.rows())
