"""Messages as they came from the broker: one, and many as parallel lists."""

from __future__ import annotations

from typing import Final, NamedTuple

#: Bytes of a refused payload that are kept.
RAW_LIMIT: Final = 4096
RETAIN: Final = 0x01
DUP: Final = 0x08


class Message(NamedTuple):
    """A message as it came; ``payload`` is cut to :data:`RAW_LIMIT` where ``size`` is beyond the limit."""

    topic: bytes
    payload: bytes
    size: int
    qos: int
    retain: bool
    dup: bool
    mid: int
    arrival_ns: int


class Block:
    """
    Messages in their order, as lists of one length, because an object a message costs more than the message.

    Attributes:
        topics, payloads: bytes of each; a payload longer than the limit is cut to :data:`RAW_LIMIT`.
        heads: first byte of each PUBLISH: QoS, DUP, RETAIN.
        mids: the two bytes of the message id, empty for QoS 0.
        arrivals: UTC ns.
        sizes: real size of each payload that was cut, by its place.
    """

    __slots__ = ("arrivals", "heads", "mids", "payloads", "sizes", "topics")

    def __init__(self) -> None:
        self.topics: list[bytes] = []
        self.payloads: list[bytes] = []
        self.heads = bytearray()
        self.mids: list[bytes] = []
        self.arrivals: list[int] = []
        self.sizes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.topics)

    @property
    def size(self) -> int:
        """Bytes of all topics and payloads."""
        return sum(map(len, self.payloads)) + sum(map(len, self.topics))

    def add(self, message: Message) -> None:
        """Append one message."""
        if message.size != len(message.payload):
            self.sizes[len(self.topics)] = message.size
        self.topics.append(message.topic)
        self.payloads.append(message.payload)
        self.heads.append(0x30 | message.qos << 1 | message.dup << 3 | message.retain)
        self.mids.append(message.mid.to_bytes(2, "big") if message.qos else b"")
        self.arrivals.append(message.arrival_ns)

    def extend(self, other: Block) -> None:
        """Append all messages of another block."""
        begin = len(self.topics)
        self.topics += other.topics
        self.payloads += other.payloads
        self.heads += other.heads
        self.mids += other.mids
        self.arrivals += other.arrivals
        self.sizes.update((begin + i, size) for i, size in other.sizes.items())

    def part(self, begin: int, end: int) -> Block:
        """Messages from *begin* up to *end*."""
        found = Block()
        found.topics = self.topics[begin:end]
        found.payloads = self.payloads[begin:end]
        found.heads = self.heads[begin:end]
        found.mids = self.mids[begin:end]
        found.arrivals = self.arrivals[begin:end]
        found.sizes = {i - begin: size for i, size in self.sizes.items() if begin <= i < end}
        return found

    def message(self, i: int) -> Message:
        """One message."""
        payload, head = self.payloads[i], self.heads[i]
        size = self.sizes.get(i, len(payload))
        mid = int.from_bytes(self.mids[i], "big")
        return Message(
            self.topics[i], payload, size, head >> 1 & 3, bool(head & RETAIN), bool(head & DUP), mid, self.arrivals[i]
        )

    def best_effort(self) -> int:
        """How many messages are of QoS 0."""
        return self.mids.count(b"")

    @classmethod
    def of(cls, *messages: Message) -> Block:
        """A block of these messages."""
        block = cls()
        for message in messages:
            block.add(message)
        return block
