"""Real servers for the end-to-end tests."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import node_opcua
from tests.e2e.processes import Broker
from tests.libmodbus import compile_server
from tests.node_opcua import NodeOpcUa


@pytest.fixture
def mosquitto(
    need: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path: Path,
    eventually_sync: Callable[..., None],
) -> Iterator[int]:
    """Port of a mosquitto broker that queues without a limit for clients that are away."""
    port = free_port()
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    settings = folder / "mosquitto.conf"
    settings.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        "max_queued_messages 0\nmax_inflight_messages 100\n"
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([need("mosquitto"), "-c", str(settings)], stdout=log, stderr=log)
    eventually_sync(lambda: _listens(port))
    yield port
    server.terminate()
    server.wait(120)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def make_broker(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[..., Broker]]:
    """A site of the test's own: ``make_broker(sources, tags, **sections)``; its processes end with the test."""
    made: list[Broker] = []

    def make(*arguments: Any, **sections: Any) -> Broker:
        made.append(Broker(tmp_path, *arguments, port=free_port(), **sections))
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def start_node(
    shared: Path,
    need: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> Iterator[Callable[..., NodeOpcUa]]:
    """
    Start a node-opcua server with two ticks a second: ``start_node(drop_every_s=0, seconds=1800)``.

    Its own sampling skips ticks when it stalls for longer than one.
    """
    node, npm = need("node"), need("npm")
    cache = os.environ.get("FAIRLEAD_PEER_CACHE") or str(pytestconfig.cache.mkdir("peers"))  # type: ignore[union-attr]
    folder = node_opcua.install(shared / "peers" / "opcua", npm, Path(cache))
    started: list[NodeOpcUa] = []

    def start(**options: int) -> NodeOpcUa:
        started.append(node_opcua.start(node, folder, tmp_path / "node-pki", free_port(), 500, 2, **options))
        return started[-1]

    yield start
    for server in started:
        server.stop()
        assert server.process.stdout is not None
        server.process.stdout.close()


@pytest.fixture
def node_server(start_node: Callable[..., NodeOpcUa]) -> NodeOpcUa:
    """A node-opcua server that keeps its channels."""
    return start_node()


@pytest.fixture
def modbus_port(
    shared: Path,
    need: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path: Path,
    scale: Callable[[int, int], int],
) -> Iterator[int]:
    """Port of the libmodbus server, one tick a second."""
    source = shared / "peers" / "modbus" / "server.c"
    program = compile_server(source, need("cc"), need("pkg-config"), tmp_path / "modbus-line1")
    port = free_port()
    server = subprocess.Popen([program, str(port), str(scale(170, 900))], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == f"READY port={port}\n".encode()
    yield port
    server.terminate()
    server.wait(120)
    server.stdout.close()
