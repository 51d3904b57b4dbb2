"""kill -9 of the consumer under load: acknowledging behind the fsync loses nothing, acknowledging before it does."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.contract.mosquitto import Mosquitto

ROOT = Path(__file__).resolve().parents[3]


class Source:
    """Publishes 0, 1, 2, … with QoS 1 in bursts until stopped."""

    def __init__(self, port: int) -> None:
        self.published = 0
        self._stop = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.max_inflight_messages_set(1000)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            for _ in range(10):
                self._last = self._client.publish("line1/n", json.dumps({"v": self.published}), 1)
                self.published += 1

    def stop(self) -> None:
        """End when the broker has confirmed everything."""
        self._stop.set()
        self._thread.join()
        self._last.wait_for_publish(10)
        self._client.disconnect()
        self._client.loop_stop()


@pytest.mark.parametrize("mode", ["durable", "early"])
def test_killing_the_consumer_loses_only_what_was_acknowledged_too_early(
    mosquitto: Mosquitto, tmp_path: Path, eventually_sync: Callable[..., None], mode: str
) -> None:
    """Five kills under load: nothing is lost with settle behind fsync; the control settles before and loses."""
    journal = tmp_path / "journal"
    journal.touch()
    command = [sys.executable, "-m", "tests.adapters.mqtt.consumer", mosquitto.url, str(tmp_path), str(journal), mode]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=ROOT)

    def grown(by: int) -> Callable[[], bool]:
        size = journal.stat().st_size + by
        return lambda: journal.stat().st_size >= size

    consumer = start()
    # The session must exist before the first message, or the broker keeps nothing for it.
    memory = tmp_path / "session.json"
    eventually_sync(lambda: memory.exists() and b'"session":true' in memory.read_bytes())
    source = Source(mosquitto.port)
    try:
        for _ in range(5):
            eventually_sync(grown(200), 30)
            consumer.kill()
            consumer.wait()
            consumer = start()
        eventually_sync(grown(200), 30)
        source.stop()
        if mode == "durable":
            eventually_sync(lambda: len(set(journal.read_bytes().split())) == source.published, 30)
    finally:
        source._stop.set()
        consumer.kill()
        consumer.wait()

    lines = [int(line) for line in journal.read_bytes().split()]
    seen = set(lines)
    if mode == "durable":
        assert seen == set(range(source.published))
        assert list(dict.fromkeys(lines)) == sorted(seen)  # first occurrences keep their order
    else:
        assert set(range(max(seen))) - seen
