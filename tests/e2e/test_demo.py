"""``fairlead demo`` keeps what the README promises of its first minute."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from broker.demo import run as demo

pytest.importorskip("amqtt", reason="the demo extra is not installed")


def _start(folder: Path, port: int, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "broker", "demo", "--folder", str(folder), "--port", str(port), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_first_minute(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Records over three protocols, two faults found and explained, a request that waits, a clean end."""
    demo = _start(tmp_path, free_port(), "--seconds", "60")
    family = []
    try:
        text, _ = demo.communicate(timeout=400)
    finally:
        family = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())]

    assert demo.returncode == 0, text
    for kind in ("modbus", "opcua", "mqtt"):
        assert f"({kind})" in text
    summary = re.search(r"(\d+) anomalies found, (\d+)\s+explained.*?(\d+)\s+waiting", text, re.DOTALL)
    assert summary is not None, text
    found, explained, waiting = map(int, summary.groups())
    assert min(found, explained, waiting) >= 2, text
    assert "Bearing wear" in text
    assert "Traceback" not in text
    assert "nozzle" in text
    assert family == [], "a process was left behind"


@pytest.mark.slow
async def test_interrupt_stops_everything(
    tmp_path: Path, free_port: Callable[[], int], eventually: Callable[..., Awaitable[None]]
) -> None:
    """Ctrl-C ends plant, broker and its children, and the exit code says so."""
    demo = _start(tmp_path, free_port())
    children: list[psutil.Process] = []
    log = tmp_path / "broker.log"
    await eventually(lambda: log.exists() and "source_connected" in log.read_text(), 240)
    children = psutil.Process(demo.pid).children(recursive=True)
    demo.send_signal(signal.SIGINT)
    text, _ = demo.communicate(timeout=300)

    assert demo.returncode == 0, text
    assert "Stopped." in text
    assert "Traceback" not in text
    assert len(children) >= 4
    assert [p for p in children if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


def test_taken_port_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The page goes to another port, and not without a word."""
    ports: list[int] = []
    monkeypatch.setattr(demo, "_run", lambda _home, port, *_: ports.append(port) or 0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        assert demo.run_demo(port=taken) == 0
    assert ports != [taken]
    assert f"Port {taken} is taken on 127.0.0.1: the page is on port {ports[0]}." in capsys.readouterr().out
