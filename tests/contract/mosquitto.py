"""A real mosquitto on a free loopback port, and ways to publish to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from socket import create_connection

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.waiting import until


class Mosquitto:
    """
    One broker process; ``start`` and ``stop`` may be called again and keep the port.

    Anonymous, in memory, window and queue as the installation guide asks for.
    """

    def __init__(self, program: str, folder: Path, port: int, *more: str) -> None:
        self.port = port
        self.url = f"mqtt://127.0.0.1:{port}"
        self._program = program
        self._config = folder / "mosquitto.conf"
        lines = (f"listener {port} 127.0.0.1", "allow_anonymous true", "max_inflight_messages 200")
        self._config.write_text("\n".join((*lines, "max_queued_messages 100000", *more)) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it listens."""
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._listens, 20, f"mosquitto with {self._config.read_text()}")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"mosquitto did not start with {self._config.read_text()}"
        with suppress(OSError), closing(create_connection(("127.0.0.1", self.port), 1)):
            return True
        return False

    def stop(self) -> None:
        """End the process at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def running(self) -> Iterator[Mosquitto]:
        """Started inside, gone outside."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def publish(self, messages: Iterable[tuple[str, str | bytes]], qos: int = 1, retain: bool = False) -> None:
        """Publish and return when the broker confirmed all of them."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.max_inflight_messages_set(1000)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        try:
            for info in [client.publish(topic, payload, qos, retain) for topic, payload in messages]:
                info.wait_for_publish(10)
        finally:
            client.disconnect()
            client.loop_stop()
