"""What the adapter remembers of its session over restarts."""

from __future__ import annotations

from pathlib import Path

from adapters.mqtt.memory import Memory, keep, recall

BROKER = "mqtt://127.0.0.1:1883"


def test_the_made_id_stays(tmp_path: Path) -> None:
    """Without a client id in the options one is made once, and every restart finds the broker's session again."""
    first = recall(tmp_path, None, BROKER, "line").memory
    keep(tmp_path, first, durable=True)

    assert recall(tmp_path, None, BROKER, "line").memory.client_id == first.client_id
    assert first.client_id.startswith("fairlead-line-")


def test_a_damaged_memory_keeps_the_id_and_says_so(tmp_path: Path) -> None:
    """A file cut by a power loss costs neither the id (the broker's queue hangs on it) nor the knowledge of it."""
    first = recall(tmp_path, None, BROKER, "line").memory
    keep(tmp_path, first, durable=True)
    (tmp_path / "session.json").write_bytes(b'{"client_id": "fair')

    found = recall(tmp_path, None, BROKER, "line")

    assert found.damaged
    assert found.memory.client_id == first.client_id
    assert found.memory.session


def test_another_broker_is_another_session(tmp_path: Path) -> None:
    """What one broker held is not expected of another."""
    keep(tmp_path, Memory("fixed", BROKER, ["t"], True, 5), durable=True)

    assert recall(tmp_path, "fixed", BROKER, "line").memory.session
    assert not recall(tmp_path, "fixed", "mqtt://127.0.0.1:1884", "line").memory.session
