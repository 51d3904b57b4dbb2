"""Servers of node-opcua that a script of ours fills, see ``scripted_opcua.js``."""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(
    node: str, script: Path, peer_folder: Path, pki: Path, port: int = 0, **environ: str
) -> AsyncIterator[tuple[str, Process]]:
    """The endpoint of *script* on a *port* (0: one of its own), and its process; it ends with its standard input."""
    if not port:
        port = free_port()
    environment = {**os.environ, **environ, "NODE_PATH": str(peer_folder / "node_modules")}
    process = await asyncio.create_subprocess_exec(
        node, str(script), str(port), str(pki), env=environment, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            if line.startswith(b"READY "):
                yield line.split()[1].decode(), process
                break
        else:
            raise AssertionError("node-opcua ended before it was ready")
    finally:
        process.stdin.close()
        await process.wait()
