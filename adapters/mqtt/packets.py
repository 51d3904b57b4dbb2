"""
Bytes of a connection into packets: PUBLISH of QoS 0 and 1 as blocks, every other packet whole, for the library.

Source: MQTT 5.0, 2.1 (fixed header) and 3.3 (PUBLISH). Packets may be cut and joined anywhere.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from adapters.mqtt.message import RAW_LIMIT, Block

_PUBLISH: Final = 0x30
#: Longest packet that is not PUBLISH; brokers answer in a few bytes.
_LONGEST: Final = 1 << 20
#: A PUBLISH this much longer than the longest payload is not kept, only its beginning: topic, id and properties.
_OVERHEAD: Final = 70_000


class Packet(NamedTuple):
    """A packet for the library: its first byte, and what follows the remaining length."""

    first: int
    body: bytes


class Malformed(ValueError):
    """The bytes are not MQTT; the connection cannot go on."""


class Packets:
    """
    Takes bytes as they come and gives what is complete.

    A PUBLISH it cannot read (QoS 2 and 3, no topic, a topic alias, cut within) is given as a :class:`Packet`, so that
    the library decides. One that is longer than *limit* allows is cut while it comes: its size is known, its bytes
    are not kept.
    """

    def __init__(self, limit: int, *, five: bool) -> None:
        self._limit = limit
        self._five = five
        self._rest = b""
        self._skip = 0

    def feed(self, data: bytes, now_ns: int) -> list[Block | Packet]:
        """
        Complete packets in their order; messages that follow one another are one block.

        Raises:
            Malformed: a length of more than four bytes, or a packet that no broker sends.
        """
        if self._skip:
            gone = min(self._skip, len(data))
            self._skip -= gone
            data = data[gone:]
        if self._rest:
            data = self._rest + data
        found: list[Block | Packet] = []
        block = Block()
        five, limit = self._five, self._limit
        topics, payloads, heads, mids = block.topics, block.payloads, block.heads, block.mids
        at, end = 0, len(data)
        while end - at >= 2:
            first = data[at]
            length = data[at + 1]
            begin = at + 2
            if length > 127:
                length, begin = _length(data, at + 1, end)
                if not begin:
                    break
            behind = begin + length
            if behind > end:
                if first & 0xF0 != _PUBLISH:
                    if length > _LONGEST:
                        raise Malformed(f"a packet of {length} bytes that is not PUBLISH")
                elif length > limit + _OVERHEAD and end - begin > _OVERHEAD + RAW_LIMIT:
                    head = _publish(first, data[begin:end], length, five)
                    topic, mid, payload, size = head
                    block.sizes[len(topics)] = size
                    topics.append(topic)
                    payloads.append(payload[:RAW_LIMIT])
                    heads.append(first)
                    mids.append(mid)
                    self._skip, at = behind - end, end
                break
            quality = first & 0xF6  # type and QoS
            mark = begin + 2
            if (quality == 0x30 or quality == 0x32) and length > 2:
                name = mark
                mark += data[begin] << 8 | data[begin + 1]
                topic_end = mark
                mid = b""
                if quality == 0x32:
                    mid = data[mark : mark + 2]
                    mark += 2
                if five and mark < behind:
                    if data[mark] < 128:
                        mark += data[mark] + 1
                    else:
                        count, mark = _length(data, mark, behind, "properties")
                        mark = mark + count if mark else behind + 1
                elif five:
                    mark += length
                if mark <= behind and topic_end > name:
                    if behind - mark > limit:
                        block.sizes[len(topics)] = behind - mark
                        payloads.append(data[mark : min(mark + RAW_LIMIT, behind)])
                    else:
                        payloads.append(data[mark:behind])
                    topics.append(data[name:topic_end])
                    heads.append(first)
                    mids.append(mid)
                    at = behind
                    continue
            if topics:
                block.arrivals = [now_ns] * len(topics)
                found.append(block)
                block = Block()
                topics, payloads, heads, mids = block.topics, block.payloads, block.heads, block.mids
            found.append(Packet(first, data[begin:behind]))
            at = behind
        if topics:
            block.arrivals = [now_ns] * len(topics)
            found.append(block)
        self._rest = data[at:]
        return found


def _length(data: bytes, at: int, end: int, what: str = "a packet") -> tuple[int, int]:
    """A length of several bytes and the place behind it, 0 where it is cut. Raises Malformed."""
    value = shift = 0
    for place in range(at, min(at + 4, end)):
        byte = data[place]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place + 1
        shift += 7
    if end - at >= 4:
        raise Malformed(f"the length of {what} has more than four bytes")
    return 0, 0


def _publish(first: int, body: bytes, length: int, five: bool) -> tuple[bytes, bytes, bytes, int]:
    """
    Topic, message id, payload so far and its whole size, of a PUBLISH of *length* bytes whose end has not come.

    Where the properties are longer than what is kept the payload is empty, and the size that of both: the message can
    be refused by its topic, and acknowledged. Raises Malformed without a topic, and for QoS 2.
    """
    qos = first >> 1 & 3
    topic_end = 2 + int.from_bytes(body[:2], "big")
    mark = topic_end + 2 * (qos == 1)
    if qos > 1 or topic_end == 2 or mark > len(body):
        raise Malformed("a PUBLISH longer than the limit whose topic and id cannot be read")
    topic, mid = body[2:topic_end], body[topic_end:mark]
    if five:
        count, begin = _length(body, mark, len(body), "properties")
        if not begin or begin + count > len(body):
            return topic, mid, b"", length - mark
        mark = begin + count
    return topic, mid, body[mark:], length - mark
