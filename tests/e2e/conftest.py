"""Real servers for the end-to-end tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def mosquitto(need: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path) -> Iterator[int]:
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
    yield port
    server.terminate()
    server.wait(10)
