"""
An MQTT broker that only sends, in a process of its own: ``python -m bench.mqtt_replay --tags N --period S``.

One message carries one value: topic ``bench/v00042``, payload ``{"ts":<epoch µs>,"v":<value>}`` (``time: ts``,
``time_format: epoch_us``, tags ``bench/v00042#v``). The value is ``k + tag / tags`` with k the number of the period
since 2020, as in :mod:`bench.load`, so that a row in SQL can be checked against its own time. Each period sends every
tag once; ``--flood`` sends rounds as fast as the client takes them.

Speaks MQTT 3.1.1 and 5 to any number of clients. A client gets the smaller of its QoS and ``--qos``; with QoS 1 at
most ``--window`` messages, or its Receive Maximum, are unacknowledged. Nothing is kept for a client that went away.
A round is one array of equal rows in which only digits change, so that this process is never the limit.

Prints ``READY mqtt://…``, serves until standard input ends, and prints what was sent and acknowledged, and how many
acknowledgements came in another order than the messages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
import time
from collections import deque
from threading import Thread
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from bench.load import EPOCH_S, WRAP

_MIDS: Final = 65535
_CHUNK: Final = 4096
Rows = NDArray[np.uint8]


class Round:
    """The messages of all tags, uint8[tags, length]; ``fill`` writes time, value and message ids."""

    def __init__(self, tags: int, qos: int, five: bool) -> None:
        self._qos = qos
        rows = [self._message(tag, tags, qos, five) for tag in range(tags)]
        self.rows: Rows = np.frombuffer(b"".join(rows), np.uint8).reshape(tags, -1).copy()
        self._time = rows[0].index(b"0" * 16)
        self._whole = rows[0].index(b"   0.")
        self._mid = rows[0].index(b"{") - 3 + (not five)

    @staticmethod
    def _message(tag: int, tags: int, qos: int, five: bool) -> bytes:
        topic = b"bench/v%05d" % tag
        fraction = b"%.6f" % (tag / tags)
        payload = b'{"ts":' + b"0" * 16 + b',"v":   0.' + fraction[2:] + b"}"
        body = struct.pack(">H", len(topic)) + topic + b"\0\0" * qos + b"\0" * five + payload
        assert len(body) < 128
        return bytes([0x30 | qos << 1, len(body)]) + body

    def fill(self, now_us: int, k: int, first: int) -> None:
        """Write the round's time and period, and message ids that begin at *first*."""
        self.rows[:, self._time : self._time + 16] = np.frombuffer(b"%016d" % now_us, np.uint8)
        self.rows[:, self._whole : self._whole + 4] = np.frombuffer(b"%4d" % k, np.uint8)
        if self._qos:
            mids = (np.arange(first, first + len(self.rows)) % _MIDS + 1).astype(">u2")
            self.rows[:, self._mid : self._mid + 2] = mids.view(np.uint8).reshape(-1, 2)


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, options: argparse.Namespace, totals: dict[str, int]) -> None:
        self._options = options
        self._totals = totals
        self._data = b""
        self._five = False
        self._window = options.window
        self._qos = 0
        self._round: Round | None = None
        self._ready: deque[memoryview] = deque()
        self._sent = self._acknowledged = self._numbered = 0
        self._paused = False
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._transport.set_write_buffer_limits(1 << 20)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Stop sending."""
        self._round = None
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """The socket has room again."""
        self._paused = False
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take packets, which may be cut anywhere."""
        self._data += data
        at = 0
        while len(self._data) - at >= 2:
            if self._data[at] == 0x40:
                at = self._acknowledgements(at)
                if len(self._data) - at < 4:
                    break
                continue
            length, begin = _length(self._data, at + 1)
            if begin < 0 or len(self._data) < begin + length:
                break
            self._packet(self._data[at] >> 4, self._data[begin : begin + length])
            at = begin + length
        self._data = self._data[at:]
        self._send()

    def _acknowledgements(self, at: int) -> int:
        """Take the run of PUBACKs of two bytes each that begins here."""
        whole = (len(self._data) - at) // 4
        frames = np.frombuffer(self._data, np.uint8, whole * 4, at).reshape(whole, 4)
        other = np.flatnonzero((frames[:, 0] != 0x40) | (frames[:, 1] != 2))
        count = int(other[0]) if len(other) else whole
        mids = frames[:count, 2].astype(np.int64) << 8 | frames[:count, 3]
        want = np.arange(self._acknowledged, self._acknowledged + count) % _MIDS + 1
        self._totals["disordered"] += int(np.count_nonzero(mids != want))
        self._acknowledged += count
        self._totals["acknowledged"] += count
        return at + 4 * count

    def _packet(self, kind: int, body: bytes) -> None:
        if kind == 1:
            self._connect(body)
        elif kind == 8:
            self._subscribe(body)
        elif kind == 12:
            self._transport.write(b"\xd0\0")
        elif kind == 14:
            self._transport.close()

    def _connect(self, body: bytes) -> None:
        self._five = body[6] == 5
        if self._five:
            length, at = _length(body, 10)
            properties = body[at : at + length]
            self._window = min(self._window, _receive_maximum(properties))
        self._transport.write(b"\x20\3\0\0\0" if self._five else b"\x20\2\0\0")

    def _subscribe(self, body: bytes) -> None:
        at = 2
        if self._five:
            length, at = _length(body, 2)
            at += length
        granted = bytearray()
        while at < len(body):
            at += 2 + int.from_bytes(body[at : at + 2], "big")
            granted.append(min(body[at] & 3, self._options.qos))
            at += 1
        self._qos = max(granted)
        answer = body[:2] + b"\0" * self._five + granted
        self._transport.write(bytes([0x90, len(answer)]) + answer)
        if self._round is None:
            self._round = Round(self._options.tags, self._qos, self._five)
            self._begin()

    def _begin(self) -> None:
        """Make the next round, and come again a period later."""
        if self._round is None:
            return
        now_s = time.time()
        period_s = self._options.period
        if not self._ready:
            self._round.fill(round(now_s * 1e6), int((now_s - EPOCH_S) / period_s) % WRAP, self._numbered)
            self._numbered += len(self._round.rows)
            view = memoryview(self._round.rows.tobytes())
            width = self._round.rows.shape[1] * _CHUNK
            self._ready.extend(view[begin : begin + width] for begin in range(0, len(view), width))
        else:
            self._totals["late_rounds"] += 1
        if not self._options.flood:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(period_s - time.time() % period_s, self._begin)
        self._send()

    def _send(self) -> None:
        """Write as much as window and socket take."""
        if self._round is None:
            return
        width = self._round.rows.shape[1]
        while self._ready and not self._paused:
            room = self._window - (self._sent - self._acknowledged) if self._qos else _CHUNK
            count = min(len(self._ready[0]) // width, room)
            if count <= 0:
                return
            piece = self._ready.popleft()
            self._transport.write(piece[: count * width])
            if count * width < len(piece):
                self._ready.appendleft(piece[count * width :])
            self._sent += count
            self._totals["sent"] += count
        if self._options.flood and not self._ready:
            self._timer = asyncio.get_running_loop().call_soon(self._begin)


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Variable byte integer and the place behind it; a place of -1 where it is cut."""
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at
    return 0, -1


def _receive_maximum(properties: bytes) -> int:
    """Receive Maximum (0x21) of CONNECT; the other properties a subscriber sends have four bytes, or one."""
    at = 0
    while at < len(properties):
        if properties[at] == 0x21:
            return int.from_bytes(properties[at + 1 : at + 3], "big")
        at += {0x11: 5, 0x27: 5, 0x22: 3, 0x17: 2, 0x19: 2}.get(properties[at], len(properties))
    return _MIDS


async def main(options: argparse.Namespace) -> None:
    """Serve until standard input ends."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stop.set)), daemon=True).start()
    totals = {"sent": 0, "acknowledged": 0, "disordered": 0, "late_rounds": 0}
    server = await loop.create_server(lambda: Client(options, totals), "127.0.0.1", options.port)
    print(f"READY mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()
    print(json.dumps(totals), flush=True)


def arguments() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.mqtt_replay", description=__doc__)
    parser.add_argument("--tags", type=int, default=1000, help="topics, one value each (default 1000, at most 100000)")
    parser.add_argument("--period", type=float, default=0.2, help="seconds between two values of a tag (default 0.2)")
    parser.add_argument("--flood", action="store_true", help="do not wait for the period")
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1, help="highest QoS granted (default 1)")
    parser.add_argument("--window", type=int, default=5000, help="unacknowledged messages at most (default 5000)")
    parser.add_argument("--port", type=int, default=0, help="0 asks for a free port (default)")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main(arguments()))
    else:
        uvloop.run(main(arguments()))
