"""
An MQTT broker inside this process, for the demo.

amqtt speaks MQTT 3.1.1 only and forgets anonymous sessions at once (Yakifo/amqtt#247), so nothing about durability is
proved with it: tests of delivery use mosquitto.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import Any, Final, Self

from amqtt.broker import Broker

_QUIET = ("amqtt", "transitions")
_GOODBYE_S: Final = 5.0


class _Broker(Broker):  # type: ignore[misc]
    """amqtt's broker, which leaves the socket of a client open that went away before the goodbye was written."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.serving: set[asyncio.Task[Any]] = set()

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        # the callback of a stream prints a traceback for a task that was cancelled, as at the end of the demo
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await super().stream_connected(reader, writer, listener_name)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                self.serving.discard(task)


class EmbeddedBroker:
    """
    Async context manager: an anonymous broker on 127.0.0.1, gone at exit.

    ``port`` is the real one after entry; 0 asks for a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self._broker: Any = None

    @property
    def url(self) -> str:
        """Address as the option ``broker`` takes it."""
        return f"mqtt://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError when the port is taken."""
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._broker = _Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{self.host}:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        await self._broker.start()
        if self.port == 0:
            # amqtt has no public way to say which port it got.
            self.port = self._broker._servers["default"].instance.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and drop every client."""
        await self._broker.shutdown()
        if self._broker.serving:
            await asyncio.wait(self._broker.serving, timeout=_GOODBYE_S)
