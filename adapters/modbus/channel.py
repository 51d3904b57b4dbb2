"""
One socket: requests go out up to a depth, replies come in, are matched, judged, and kept as bytes.

It is never used again after a time-out, a doubtful reply or a cancelled question: what is still on its way must not
meet the next request (rows P1 and P8 of docs/library-faults.md). The one who asks opens another.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final, Literal

from adapters.base import Clock
from adapters.modbus.exchange import Exchange
from adapters.modbus.frames import MBAP, Doubtful, Reply, Request, judge_mbap, judge_rtu, wrap_mbap, wrap_rtu
from schemas import status

#: ``mbap``: Modbus TCP. ``mbap_zero``: a device that answers every transaction id with 0. ``rtu``: serial frames.
Framing = Literal["mbap", "mbap_zero", "rtu"]
_RTU_MINIMUM: Final = 3


class Channel(asyncio.Protocol):
    """
    A connection that asks the blocks of an :class:`Exchange`, ``depth`` at a time.

    A reply is matched by its transaction id among the requests under way; one that fits none, or does not fit its own,
    closes the connection, and so does a request whose reply is overdue. The time of a request runs from its sending or
    the reply before it, whichever is later: a device that works requests off one by one gets its time for each. The
    blocks that were under way with the guilty one are given back, to be asked again elsewhere.

    Attributes:
        usable: whether another question may be asked here.
        transaction: the last id used; a new channel goes on from there, so that no reply owed to an old one fits.
        overdue: whether it was closed because a reply did not come.
        proven: whether any reply ever came.
    """

    def __init__(
        self,
        framing: Framing,
        depth: int,
        timeout_s: float,
        pause_s: float,
        transaction: int,
        now_ns: Clock,
        counters: Counter[str],
        *,
        helper: bool = False,
    ) -> None:
        self.usable = False
        self.overdue = False
        self.proven = False
        self.transaction = transaction
        self._framing = framing
        self._depth = depth
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._helper = helper
        self._now_ns = now_ns
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._rest = b""
        #: Under way, by transaction id (0 where the framing has none), oldest first: number of the block, request.
        self._asked: dict[int, tuple[int, Request]] = {}
        self._exchange: Exchange | None = None
        self._done: asyncio.Future[None] | None = None
        self._single: asyncio.Future[Reply] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        #: When the last reply came, or the first of the requests under way was sent.
        self._moved_s = 0.0
        #: Transaction id of the request whose reply is being judged.
        self._judged: int | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket stands."""
        self._transport = transport
        self.usable = True

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """
        The socket is gone; what was under way is asked once more elsewhere, and fails the second time. A helper that
        never got a reply says nothing of the blocks: many devices take a connection too many and cut it at once.
        """
        self.usable = False
        self._stop_timers()
        asked, self._asked = list(self._asked.values()), {}
        exchange = self._exchange
        if exchange is not None and self._helper and not self.proven:
            exchange.back([index for index, _ in asked])
        elif exchange is not None and asked:
            self._counters["closed_by_peer"] += 1
            exchange.back([index for index, _ in asked[1:]])
            if not exchange.once_more(asked[0][0]):
                exchange.failed(asked[0][0], status.BAD_NO_COMMUNICATION, "the peer closed the connection")
        self._finish(ConnectionResetError("the peer closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Match, judge and keep every whole reply, then send what may go out next."""
        if self._rest:
            data = self._rest + data
        self._judged = None
        try:
            at = self._rtu(data) if self._framing == "rtu" else self._mbap(data)
        except Doubtful as doubt:
            self._counters["doubtful_replies"] += 1
            self._give_up(self._judged, status.BAD_DECODING_ERROR, str(doubt), doubt)
            return
        self._rest = data[at:]
        if at:
            self._moved_s = self._loop.time()
            self._go_on()

    # asking

    async def run(self, exchange: Exchange) -> None:
        """
        Ask blocks of *exchange* until none waits and every reply is here, or this connection is of no use any more.

        A cancelled run closes the connection.
        """
        self._exchange = exchange
        self._done = self._loop.create_future()
        try:
            self._go_on()
            await self._done
        except BaseException:
            self.close()
            raise
        finally:
            self._exchange = self._done = None

    async def ask(self, request: Request) -> Reply:
        """
        Ask one thing that is no block.

        Raises:
            TimeoutError: no reply in time; the connection is closed.
            Doubtful: a reply that does not fit; the connection is closed.
            ConnectionResetError: the peer closed the connection.
        """
        self._single = self._loop.create_future()
        try:
            self._send([(-1, request)])
            return await self._single
        except BaseException:
            self.close()
            raise
        finally:
            self._single = None

    def close(self) -> None:
        """Close the socket; nothing that still arrives is looked at."""
        self.usable = False
        self._stop_timers()
        self._asked.clear()
        if self._transport is not None:
            self._transport.abort()

    def _go_on(self) -> None:
        """Send up to the depth; end the run when nothing waits and nothing is under way."""
        exchange = self._exchange
        if exchange is None or self._pause is not None:
            return
        if not self.usable:
            self._finish(None)
            return
        free = self._depth - len(self._asked)
        fresh = []
        while free > 0:
            index = exchange.take()
            if index < 0:
                break
            fresh.append((index, exchange.request(index)))
            free -= 1
        if fresh:
            self._send(fresh)
        elif not self._asked:
            self._finish(None)

    def _send(self, fresh: list[tuple[int, Request]]) -> None:
        frames = []
        if not self._asked:
            self._moved_s = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_at(self._moved_s + self._timeout_s, self._look)
        for index, request in fresh:
            key = self.transaction = self.transaction % 0xFFFF + 1
            if self._framing == "mbap":
                frames.append(wrap_mbap(key, request.body))
            else:
                frames.append(wrap_rtu(request.body) if self._framing == "rtu" else wrap_mbap(key, request.body))
                key = 0
            self._asked[key] = (index, request)
        self._counters["requests"] += len(fresh)
        self._transport.write(b"".join(frames) if len(frames) > 1 else frames[0])

    # replies

    def _mbap(self, data: bytes) -> int:
        """Take the whole replies at the beginning of *data*; how many bytes they were. Raises Doubtful."""
        at = 0
        end = len(data)
        arrived_ns = 0
        while at < end:
            if end - at < MBAP.size:
                if not self._asked:
                    raise Doubtful(f"{end - at} bytes came that nobody asked for")
                break
            transaction = data[at] << 8 | data[at + 1]
            asked = self._asked.get(transaction)
            if asked is None:
                if not self._asked:
                    raise Doubtful(f"{end - at} bytes came that nobody asked for")
                raise Doubtful(f"transaction id {transaction} is not under way")
            self._judged = transaction
            reply = judge_mbap(asked[1], data, at)
            if reply is None:
                break
            del self._asked[transaction]
            at += reply.size
            arrived_ns = arrived_ns or self._now_ns()
            self._keep(asked[0], reply, arrived_ns)
        return at

    def _rtu(self, data: bytes) -> int:
        asked = self._asked.get(0)
        if asked is None:
            raise Doubtful(f"{len(data)} bytes came that nobody asked for")
        reply = judge_rtu(asked[1], data) if len(data) >= _RTU_MINIMUM else None
        if reply is None:
            return 0
        if len(data) > reply.size:
            raise Doubtful(f"{len(data) - reply.size} bytes behind the reply")
        del self._asked[0]
        self._keep(asked[0], reply, self._now_ns())
        return reply.size

    def _keep(self, index: int, reply: Reply, arrived_ns: int) -> None:
        self.proven = True
        if self._exchange is None:
            if self._single is not None and not self._single.done():
                self._single.set_result(reply)
            return
        if reply.code:
            self._counters["exceptions"] += 1
            self._exchange.refused(index, reply.code, arrived_ns)
        else:
            self._exchange.good(index, reply.payload, arrived_ns)
        if self._pause_s:
            self._pause = self._loop.call_later(self._pause_s, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._go_on()

    # trouble

    def _look(self) -> None:
        """Whether the oldest request is overdue; otherwise look again when it could be."""
        self._timer = None
        if not self._asked:
            return
        due_s = self._moved_s + self._timeout_s
        if self._loop.time() < due_s:
            self._timer = self._loop.call_at(due_s, self._look)
            return
        self.overdue = True
        self._counters["timeouts"] += 1
        reason = f"no reply within {self._timeout_s:g} s"
        self._give_up(None, status.BAD_TIMEOUT, reason, TimeoutError(reason))

    def _give_up(self, guilty: int | None, condition: int, reason: str, error: Exception) -> None:
        """Fail the request of transaction *guilty* (None: the oldest), give the others back, and close."""
        asked, self._asked = self._asked, {}
        exchange = self._exchange
        if exchange is not None and asked:
            failed = asked.pop(next(iter(asked)) if guilty not in asked else guilty)
            exchange.back([index for index, _ in asked.values()])
            exchange.failed(failed[0], condition, reason)
        self.close()
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
        if self._single is not None and not self._single.done() and error is not None:
            self._single.set_exception(error)

    def _stop_timers(self) -> None:
        for handle in (self._timer, self._pause):
            if handle is not None:
                handle.cancel()
        self._timer = self._pause = None
