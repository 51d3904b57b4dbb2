"""
One connection to a broker: paho's client, its network thread, and a bounded queue in front of asyncio.

M1 … are rows of docs/library-faults.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from adapters.base import Clock
from adapters.mqtt import protocol
from adapters.mqtt.client import Client
from adapters.mqtt.config import MqttOptions
from adapters.mqtt.inbox import Inbox
from adapters.mqtt.login import Login
from adapters.mqtt.message import RAW_LIMIT, Block, Message
from adapters.mqtt.tickets import Ticket, Tickets
from schemas.errors import NotConnected

_ANSWER_S: Final = 10.0
#: For our last packets to leave, and again for the broker to close the connection behind them.
_GOODBYE_S: Final = 2.0
_TAKEN_OVER: Final = 0x8E
_STOPPED_S: Final = 3600.0
#: Filters in one SUBSCRIBE.
_FILTERS: Final = 100


class Session:
    """
    A connection, used once: ``open``, ``subscribe``, then in turn ``wait`` and taking from ``inbox``, ``close``.

    ``tickets`` are the deliveries that may not be acknowledged yet, ``properties`` what an MQTT 5 broker decided for
    us. *idle* is called with the time (UTC ns) of each answered ping before which nothing is waiting or
    unacknowledged.

    Counter: ``packets``, everything the broker sent, answers to our pings included.
    """

    def __init__(
        self,
        options: MqttOptions,
        login: Login,
        now_ns: Clock,
        counters: Counter[str],
        idle: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._counters = counters
        # The network thread counts it, and a new key would change the dictionary under a reader's hand.
        counters.setdefault("packets", 0)
        self._idle = idle
        self._now_ns = now_ns
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._opening: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._connected: asyncio.Future[tuple[bool, ReasonCode]] = self._loop.create_future()
        self._client = self._make(login)
        # More than may be unacknowledged, so that MQTT 5 closes its window before the inbox is full.
        self.inbox = Inbox(max(2000, 2 * options.receive_maximum), options.keepalive / 2, counters, self._wake)
        self.tickets = Tickets()
        self.properties: dict[str, int] = {}
        self._reason = ""
        self._retry_after_s: float | None = None
        self._answers: dict[int, asyncio.Future[list[int]]] = {}
        self._granted: asyncio.Future[list[list[int]]] | None = None

    async def open(self) -> bool:
        """
        Connect; return whether the broker still held our session.

        Raises:
            NotConnected: with the step that failed.
        """
        where = f"{self._options.host}:{self._options.port}"
        self._opening = self._loop.run_in_executor(None, self._open_socket)
        try:
            await asyncio.shield(self._opening)
        except (OSError, ValueError) as error:  # ssl errors are both
            self._client.release()
            raise NotConnected(f"no connection to {where}: {error}") from error
        self._client.loop_start()
        try:
            await self._either(self._connected, _ANSWER_S)
            if not self._connected.done():
                raise NotConnected(f"no CONNACK within {_ANSWER_S:.0f} s")
        except NotConnected as error:
            hint = "" if self._options.protocol == "3.1.1" else '; a broker without MQTT 5 needs protocol: "3.1.1"'
            raise NotConnected(f"{where}: {error}{hint}") from error
        present, code = self._connected.result()
        if code.is_failure:
            raise NotConnected(f"{where} refuses: {code}")
        return present

    async def subscribe(self, wanted: Sequence[str], unwanted: Sequence[str]) -> None:
        """
        Take filters out of the session, subscribe to others, and wait for the answer: see :meth:`take_granted`.

        A broker sends what it kept before the answer, mosquitto more of it than it may. So the wait ends when the
        inbox is full, too: the reader must make room, or the answer never comes.

        Raises:
            NotConnected: the connection ended, or no answer came.
        """
        if unwanted:
            self._client.unsubscribe(list(unwanted))
        self._granted = asyncio.gather(*(self._request(part) for part in _parts(wanted)))
        end_s = self._loop.time() + _ANSWER_S
        while not self._granted.done() and not self.inbox.full:
            await self._either(self._granted, 0.05)
            if self._loop.time() > end_s:
                raise NotConnected(f"no SUBACK within {_ANSWER_S:.0f} s")

    def take_granted(self) -> list[int] | None:
        """Per filter the granted QoS, or the reason code (128 and up) of its refusal; None until known, then once."""
        granted = self._granted
        if granted is None or not granted.done():
            return None
        self._granted = None
        return [code for part in granted.result() for code in part]

    async def wait(self, until_s: float | None = None) -> None:
        """
        Return when a message waits, or at the loop's time *until_s*.

        Raises:
            NotConnected: the connection is gone and every message that came over it was taken.
        """
        while not self.inbox:
            if self._ended.done():
                raise NotConnected(self._reason or "the connection ended", retry_after_s=self._retry_after_s)
            if self.inbox.overrun:
                raise NotConnected("messages found no room; the broker sends the unacknowledged ones again")
            self._ready.clear()
            if not self.inbox and not self._ended.done():
                try:
                    async with asyncio.timeout_at(until_s):
                        await self._ready.wait()
                except TimeoutError:
                    return

    def acknowledge(self, free: Sequence[Ticket]) -> None:
        """Send the acknowledgements of free tickets."""
        mids = [mid for ticket in free for mid in ticket.mids]
        if mids and not self._ended.done():
            self._client.acknowledge(mids)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Publish. The adapter does so for Sparkplug only, and only in a role that says so."""
        self._client.publish(topic, payload, qos, retain)

    async def refuse(self, reason: str) -> None:
        """Drop the connection and everything unacknowledged, so that the broker delivers it again."""
        self._reason = reason
        self.inbox.close()
        waiting = self.inbox.take(len(self.inbox))
        self._counters["dropped"] += waiting.best_effort()
        await self.close()

    async def close(self) -> None:
        """Disconnect without acknowledging what is held; the session stays at the broker. Never raises."""
        self.inbox.close()
        try:
            await self._stop_opening()
        finally:
            await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        up = self._client.greeted and not self._ended.done()
        peer = self._client.second_handle() if up else None
        self._client.disconnect()
        try:
            if up and self._client._thread is not None:
                await asyncio.wait([self._ended], timeout=_GOODBYE_S)
            self._client.release()
            if peer is not None:
                await self._hung_up(peer)
        finally:
            if peer is not None:
                peer.close()

    async def _stop_opening(self) -> None:
        """
        See that no CONNECT of ours leaves any more: behind that of the next session it would throw that one out.

        The thread that resolves, connects and shakes hands cannot be interrupted; its socket is closed when it ends.
        """
        greeted = self._client.abandon()
        if self._opening is None:
            return
        if not greeted:
            self._opening.add_done_callback(self._abandoned)
        elif not self._opening.done():
            await asyncio.wait([self._opening], timeout=_GOODBYE_S)

    async def _hung_up(self, peer: socket.socket) -> None:
        """
        Wait until the broker has closed the connection, as it must behind a DISCONNECT.

        A session that takes over meanwhile would come before acknowledgements that the broker has not read yet (M13).
        """
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                while await self._loop.sock_recv(peer, RAW_LIMIT):
                    pass

    def _make(self, login: Login) -> Client:
        client = protocol.new_client(self._options, login)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_ended = self._on_ended
        client.on_packet = self._on_packet
        client.on_block = self._on_block
        client.now_ns = self._clock
        return client

    def _request(self, filters: Sequence[str]) -> asyncio.Future[list[int]]:
        mid = protocol.subscribe(self._client, self._options, filters)
        future: asyncio.Future[list[int]] = self._loop.create_future()
        if mid is not None:  # None when the connection has ended, which the wait for the answer reports
            self._answers[mid] = future
        return future

    async def _either(self, future: asyncio.Future[Any], timeout_s: float) -> None:
        """Wait for the future; raise NotConnected when the connection ends before."""
        either: set[asyncio.Future[Any]] = {future, self._ended}
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done() and not future.done():
            raise NotConnected(self._reason or "closed by the broker unanswered", retry_after_s=self._retry_after_s)

    def _abandoned(self, opening: asyncio.Future[None]) -> None:
        """Close a socket that was opened when nobody waited for it any more."""
        if not opening.cancelled():
            opening.exception()
        self._client.release()

    def _resolve(self, future: asyncio.Future[Any] | None, value: Any) -> None:
        if future is not None and not future.done():
            future.set_result(value)

    def _finish(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._resolve(self._ended, None)
        self._ready.set()

    def _answered(self, at_ns: int) -> None:
        if not self.inbox and not self.tickets and not self._ended.done():
            self._idle(at_ns)

    # Everything below is called by paho, in its threads.

    def _tell(self, call: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _open_socket(self) -> None:
        protocol.connect(self._client, self._options)

    def _on_connect(self, _c: Any, _u: Any, flags: Any, code: ReasonCode, properties: Properties | None) -> None:
        names = ("SessionExpiryInterval", "ServerKeepAlive", "MaximumQoS")
        self.properties = {name: getattr(properties, name) for name in names if hasattr(properties, name)}
        self._client.keep_alive_at_most(math.ceil(self._options.keepalive))
        self._tell(self._resolve, self._connected, (bool(flags.session_present), code))

    def _on_packet(self, ping: bool) -> None:
        self._counters["packets"] += 1
        if ping:
            self._tell(self._answered, self._now_ns())

    def _on_block(self, block: Block) -> None:
        self._counters["packets"] += len(block)
        if self.inbox.put(block):
            self._wake()

    def _wake(self) -> None:
        self._tell(self._ready.set)

    def _clock(self) -> int:
        return self._now_ns()

    def _on_subscribe(self, _c: Any, _u: Any, mid: int, codes: list[ReasonCode], _p: Any) -> None:
        self._tell(lambda: self._resolve(self._answers.pop(mid, None), [code.value for code in codes]))

    def _on_disconnect(self, _c: Any, _u: Any, flags: Any, code: ReasonCode, _p: Any) -> None:
        if code.value == _TAKEN_OVER:
            # Coming back at once would throw the other one out in turn.
            self._retry_after_s = _STOPPED_S
            self._reason = (
                "another client took over our client id; each needs its own: change client_id in one of them. "
                "Stopped; tried again after an hour or a restart"
            )
            return
        who = "the broker disconnected" if flags.is_disconnect_packet_from_server else "the connection broke"
        self._reason = self._reason or f"{who}: {code}"

    def _on_ended(self, error: BaseException | None) -> None:
        reason = "" if error is None else f"the network thread died: {type(error).__name__}: {error}"
        self._tell(self._finish, reason)

    def _on_message(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        payload, size = message.payload, len(message.payload)
        if size > self._options.limits.payload:
            payload = payload[:RAW_LIMIT]
        # message.topic raises for invalid UTF-8 (M1); the decoder refuses such a message instead.
        item = Message(
            message._topic, bytes(payload), size, message.qos, message.retain, message.dup, message.mid, self._now_ns()
        )
        self._on_block(Block.of(item))


def _parts(filters: Sequence[str]) -> list[Sequence[str]]:
    return [filters[begin : begin + _FILTERS] for begin in range(0, len(filters), _FILTERS)]
