"""
A model server written by hand that answers as it is told: well, or in every way a server should not.

It speaks just enough HTTP/1.1 on a bare socket, so that it can also break it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: What an annotation is answered with when nothing else is told: right for every evidence with a fact E1.
GOOD = '{"causes":[{"id":"bearing_wear","cites":["E1"]}],"actions":["inspect_bearing"],"text":"[E1] says so."}'


def http(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def completion(text: str, **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **more}
    return json.dumps({"model": "plant-7b", "choices": [choice], "usage": {"prompt_tokens": 900}}).encode()


@dataclass
class Seen:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


#: Bytes of an answer, or nothing and the connection is left open without one.
Answer = Callable[[Seen], bytes | None]


@dataclass
class HostileServer:
    """``annotate`` answers what is asked after the probe; ``models`` the list of models; ``probe`` the probe."""

    annotate: Answer = lambda _: http(completion(GOOD))
    models: Answer = lambda _: http(b'{"object":"list","data":[{"id":"plant-7b","object":"model"}]}')
    probe: Answer | None = None
    drip_s: float = 0.0
    context: ssl.SSLContext | None = None
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    names: list[str | None] = field(default_factory=list)
    _talks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        if self.context is not None:
            self.context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._server = await asyncio.start_server(self._talk, host, port, ssl=self.context, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End what is still being talked with, too: an open connection would outlive its loop."""
        self._server.close()
        for task in list(self._talks):
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        try:
            while True:
                request = await self._read(reader)
                self.seen.append(request)
                answer = self._answer(request)
                if answer is None:
                    await reader.read()
                    return
                await self._send(writer, answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            self._talks.discard(talk)
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> Seen:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = first.split(" ")
        return Seen(method, path, headers, json.loads(raw) if raw else {})

    def _answer(self, request: Seen) -> bytes | None:
        if request.method == "GET":
            return self.models(request)
        schema = request.body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        probe = schema.get("properties", {}).get("probe")
        if probe is None and "probe" not in json.dumps(request.body):
            return self.annotate(request)
        if self.probe is not None:
            return self.probe(request)
        return http(completion(json.dumps({"probe": probe["enum"][0]})))

    async def _send(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        if self.drip_s and len(self.seen) > 2:
            for i in range(len(answer)):
                writer.write(answer[i : i + 1])
                await writer.drain()
                await asyncio.sleep(self.drip_s)  # the server's slowness is what is under test
        writer.write(answer)
        await writer.drain()
