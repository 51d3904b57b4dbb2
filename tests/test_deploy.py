"""The unit and the image say what the program does."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.processes import Broker
from tests.llm.model_servers import certificate

DEPLOY = Path(__file__).parents[1] / "deploy"
RETRY_LATER = 75


def test_the_unit_watches() -> None:
    """Systemd waits for READY, ends what says nothing for the watchdog's time, and starts it again."""
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "fairlead.service")
    service = unit["Service"]
    assert (service["Type"], service["WatchdogSec"], service["Restart"]) == ("notify", "30", "on-failure")


def image(word: str) -> str:
    """What the last line of the Containerfile with this instruction says."""
    return str(re.findall(rf"^{word} (.*)$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)[-1])


def health_check(config: Path) -> int:
    """Exit code of the image's health check, with the configuration that the container's environment names."""
    assert image("ENV").startswith("FAIRLEAD_CONFIG=/")
    assert "--config" not in image("CMD")
    command = json.loads(image("HEALTHCHECK").split(" CMD ", 1)[1])
    assert [command[0]] == json.loads(image("ENTRYPOINT"))
    done = subprocess.run(
        [sys.executable, "-m", "broker", *command[1:]], env={**os.environ, "FAIRLEAD_CONFIG": str(config)}, timeout=240
    )
    return done.returncode


@pytest.mark.slow
def test_the_image_is_healthy_wherever_its_api_listens(
    tmp_path: Path, free_port: Callable[[], int], eventually_sync: Callable[..., None]
) -> None:
    """With TLS by a certificate of an authority, on an address of its own; and acquire has to live as well."""
    certificate(tmp_path, "127.0.0.2")
    pem = str(tmp_path / "server.pem")
    (tmp_path / "samples.csv").write_text("time,n\n2026-01-01T00:00:00Z,1\n")
    broker = Broker(
        tmp_path,
        {"plc": {"kind": "replay", "file": "samples.csv"}},
        [{"path": "Acme/Lyon/N", "source": "plc", "address": "n", "type": "uint16", "unit": "1"}],
        port=0,
        api={"listen": f"127.0.0.2:{free_port()}", "tls": {"cert": pem, "key": pem}},
    )
    try:
        assert health_check(broker.config) == RETRY_LATER
        broker.start("core")
        eventually_sync((tmp_path / "var" / "core.json").exists, 240)
        assert health_check(broker.config) == 1
        broker.start("acquire")
        eventually_sync((tmp_path / "var" / "acquire.json").exists, 240)
        assert health_check(broker.config) == 0
        broker.end("core")
        assert health_check(broker.config) == RETRY_LATER
    finally:
        broker.stop()
