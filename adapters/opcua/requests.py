"""
Publish requests in flight: sent ahead, answered in the order of arrival, and no acknowledgement lost on the way.

The library keeps one in flight and throws its acknowledgements away when it fails (A9). Here each request remembers
what it carried, and what failed is sent again with the next: a server does not mind to be told twice.
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final

from asyncua.common.utils import Buffer
from asyncua.ua.uaerrors import BadTimeout, BadTooManyPublishRequests, UaStructParsingError

from adapters.opcua import responses
from adapters.opcua.link import Link
from adapters.opcua.responses import Published
from schemas.errors import NotConnected

#: (subscription id, sequence number) pairs.
Acks = list[tuple[int, int]]

#: Before a server that takes no publish request at all is asked again.
_REFUSED_S: Final = 1.0


class Requests:
    """
    At most *bound* requests that are with the server or whose answer was not taken yet.

    *due* gives the acknowledgements for the next request, once each.
    """

    def __init__(self, link: Link, bound: int, due: Callable[[], Acks], counters: Counter[str]) -> None:
        self.bound = bound
        self._link = link
        self._due = due
        self._counters = counters
        self._again: Acks = []
        self._out = 0
        self._answers: deque[tuple[Acks, asyncio.Future[Buffer]]] = deque()
        self._arrived: asyncio.Future[None] | None = None
        self._pause_until = 0.0

    async def take(self, silence_s: float, asking_s: float, ask: Callable[[], Awaitable[None]]) -> Published:
        """
        The next answer; keeps the requests in flight and the channel renewed, and awaits *ask* each *asking_s*.

        Raises NotConnected after *silence_s* without an answer, UaStructParsingError for one that cannot be read, and
        link errors.
        """
        loop = asyncio.get_running_loop()
        deadline, ask_at = loop.time() + silence_s, loop.time() + asking_s
        while True:
            self._fill(loop.time())
            await self._link.renew_when_due()
            if self._answers:
                answer = self._read(*self._answers.popleft(), loop.time())
                if answer is not None:
                    return answer
                continue
            if loop.time() >= deadline:
                raise NotConnected(f"silence: neither value nor keep-alive for {silence_s:.0f} s")
            if loop.time() >= ask_at:
                ask_at = loop.time() + asking_s
                await ask()
                continue
            times = [deadline, ask_at, self._link.renew_at]
            if not self._out:
                times.append(self._pause_until)
            await self._wait(min(times) - loop.time())

    def _fill(self, now: float) -> None:
        if now < self._pause_until and not self._out:
            return
        while self._out + len(self._answers) < self.bound:
            acks, self._again = self._again + self._due(), []
            try:
                answer = self._link.post_publish(acks)
            except BaseException:
                self._again = acks
                raise
            self._out += 1
            answer.add_done_callback(functools.partial(self._came, acks))

    def _came(self, acks: Acks, answer: asyncio.Future[Buffer]) -> None:
        self._out -= 1
        if not answer.cancelled():
            answer.exception()  # taken note of, also when nobody comes for it any more
        self._answers.append((acks, answer))
        self._wake()

    def _read(self, acks: Acks, answer: asyncio.Future[Buffer], now: float) -> Published | None:
        """What one answer says; None where the request has to be sent again."""
        try:
            reply = responses.published(answer.result())
        except BadTooManyPublishRequests:
            self._again += acks
            self._counters["publish_refused"] += 1
            if self.bound > 1:
                self.bound -= 1
            self._pause_until = now + _REFUSED_S
            return None
        except BadTimeout:
            self._again += acks
            return None
        except UaStructParsingError:
            self._again += acks
            raise
        self._pause_until = 0.0
        self._counters["unknown_acknowledgements"] += reply.refused
        return reply

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._arrived = loop.create_future()
        timer = loop.call_later(max(0.0, seconds), self._wake)
        try:
            await self._arrived
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)
