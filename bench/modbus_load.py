"""
A Modbus TCP server made for load: ``python -m bench.modbus_load TAGS PERIOD [--type T] [--delay MS] [--port N]``.

Every tag is two holding registers (four for float64), big-endian, in the order of their numbers; a unit holds as many
as fit into 65,536 registers, and the next ones are on the next unit: :func:`place`. Values change once a PERIOD
(seconds) and encode their tag and their time: :func:`expected`. A block is a slice of bytes that were encoded once for
the whole period, so that the server can serve some million values a second and leave the machine to who is measured.

Prints ``READY host:port`` and serves until standard input ends; then prints how many requests of which function code
came. Answers FC 3 only; any other function gets exception 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import struct
import sys
import time
from collections import Counter
from threading import Thread
from typing import Any, Final

import numpy as np

EPOCH_S: Final = 1577836800
#: Period numbers start again here: float32 keeps the fraction that names the tag only while the whole part is small.
WRAP: Final = 10_000
#: ``uint32`` holds the period number above these bits and the tag in them.
TAG_BITS: Final = 20
_DTYPES: Final = {"float32": ">f4", "uint32": ">u4", "float64": ">f8"}
_HEADER: Final = struct.Struct(">HHHBBHH")
_REPLY: Final = struct.Struct(">HHHBBB")


def place(tag: int, kind: str = "float32") -> tuple[int, int]:
    """Unit and zero-based address of a tag."""
    width = np.dtype(_DTYPES[kind]).itemsize // 2
    a_unit = 65536 // width
    return 1 + tag // a_unit, tag % a_unit * width


def modicon(tag: int, kind: str = "float32") -> str:
    """Address of a tag as a tag map writes it: ``1!400001``."""
    unit, address = place(tag, kind)
    return f"{unit}!4{address + 1:05d}"


def period_at(at_s: float, period_s: float) -> int:
    """Number of the period since 2020 that a time (s since 1970) lies in."""
    return int((at_s - EPOCH_S) / period_s)


def expected(k: int, tag: int | np.ndarray, tags: int, kind: str = "float32") -> np.ndarray:
    """
    Value of a tag (or of several) in period *k*.

    ``float32`` and ``float64``: ``k % WRAP + tag / tags`` (float32 rounds it). ``uint32``: exact,
    ``k % 2**12 * 2**TAG_BITS + tag``.
    """
    number = np.asarray(tag)
    found: np.ndarray
    if kind == "uint32":
        found = (k % 2 ** (32 - TAG_BITS) * 2**TAG_BITS + number).astype(np.uint32)
    else:
        found = (k % WRAP + number / tags).astype(_DTYPES[kind][1:])
    return found


class LoadServer:
    """The registers of all units for the period that is now."""

    def __init__(self, tags: int, period_s: float, kind: str = "float32", delay_s: float = 0.0) -> None:
        self.requests: Counter[int] = Counter()
        self.delay_s = delay_s
        self._tags = tags
        self._period_s = period_s
        self._kind = kind
        self._k = -1
        self._image = b""
        self._unit_bytes = 2 * 65536
        self._all = np.arange(tags)

    def answer(self, unit: int, function: int, address: int, count: int) -> bytes | int:
        """Payload of a read, or an exception code."""
        self.requests[function] += 1
        if function != 3:
            return 1
        start = (unit - 1) * self._unit_bytes + 2 * address
        if not 1 <= count <= 125:
            return 3
        k = period_at(time.time(), self._period_s)
        if k != self._k:
            self._k = k
            self._image = expected(k, self._all, self._tags, self._kind).astype(_DTYPES[self._kind]).tobytes()
        payload = self._image[start : start + 2 * count]
        return payload if unit >= 1 and len(payload) == 2 * count else 2


class Connection(asyncio.Protocol):
    """One client; answers in the order of the requests."""

    def __init__(self, server: LoadServer) -> None:
        self._server = server
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request; bytes that are no request cost the connection."""
        data = self._buffer + data
        out = []
        at = 0
        while len(data) - at >= 12:
            transaction, protocol, length, unit, function, address, count = _HEADER.unpack_from(data, at)
            if protocol or length != 6:
                self._transport.abort()
                return
            at += 12
            payload = self._server.answer(unit, function, address, count)
            if isinstance(payload, int):
                out.append(_REPLY.pack(transaction, 0, 3, unit, function | 0x80, payload))
            else:
                out.append(_REPLY.pack(transaction, 0, 3 + len(payload), unit, function, len(payload)))
                out.append(payload)
        self._buffer = data[at:]
        if self._server.delay_s:
            asyncio.get_running_loop().call_later(self._server.delay_s, self._transport.write, b"".join(out))
        elif out:
            self._transport.write(b"".join(out))


async def serve(server: LoadServer, port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stop.set)), daemon=True).start()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", port)
    print(f"READY 127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    listening.close()
    print(f"REQUESTS {dict(server.requests)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.modbus_load", description="A Modbus server made for load.")
    parser.add_argument("tags", type=int)
    parser.add_argument("period", type=float, help="seconds between two values of a tag")
    parser.add_argument("--type", choices=sorted(_DTYPES), default="float32", help="type of all tags")
    parser.add_argument("--delay", type=float, default=0.0, help="milliseconds before an answer")
    parser.add_argument("--port", type=int, default=0)
    a = parser.parse_args()
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(serve(LoadServer(a.tags, a.period, a.type, a.delay / 1000), a.port))


if __name__ == "__main__":
    main()
