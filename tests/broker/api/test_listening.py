"""The address of the API: taken, not ours, not allowed, and free."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from broker.api.listening import CannotListen, listen
from broker.api.options import ApiOptions


def test_free_address_is_listened_on(free_port) -> None:
    """Both families; a client is let in."""
    for host, shown in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
        port = free_port()
        with listen(ApiOptions(listen=f"{shown}:{port}")), socket.create_connection((host, port), 10):
            pass


def test_taken_address_may_become_free() -> None:
    """The option, the address and what to do are named."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"^api\.listen 127\.0\.0\.1:{port}: another program") as caught:
            listen(ApiOptions(listen=f"127.0.0.1:{port}"))
    assert caught.value.passing


def test_address_of_another_machine(free_port) -> None:
    """An interface may come up later; 192.0.2.1 is for documentation only (RFC 5737)."""
    options = ApiOptions.model_construct(listen=f"192.0.2.1:{free_port()}")
    with pytest.raises(CannotListen, match="this machine does not have the address") as caught:
        listen(options)
    assert caught.value.passing


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may listen everywhere")
def test_port_of_the_system() -> None:
    """Nothing but another configuration mends this, so it is not tried again."""
    with pytest.raises(CannotListen, match="1024") as caught:
        listen(ApiOptions(listen="127.0.0.1:1"))
    assert not caught.value.passing


def test_core_says_it_in_json_and_asks_for_another_try(tmp_path: Path) -> None:
    """Exit 75, so that the supervisor waits longer and longer; every line is an event, one names the option."""
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.yaml").write_text(
        "version: 1\ntags: [{path: Acme/Lyon/N, source: plc, address: '40001', type: uint16, unit: '1'}]\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        path = tmp_path / "fairlead.yaml"
        path.write_text(
            "version: 1\nsite: {path: Acme/Lyon}\nllm: {backend: none}\n"
            f"sources: {{plc: {{kind: modbus, host: 127.0.0.1}}}}\napi: {{listen: '127.0.0.1:{port}'}}\n"
        )
        command = [sys.executable, "-m", "broker", "core", "--config", str(path)]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    told = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ended.returncode == 75
    [failed] = [line for line in told if line["level"] == "error"]
    assert (failed["event"], failed["part"]) == ("core_part_failed", "api")
    assert failed["reason"].startswith(f"api.listen 127.0.0.1:{port}: another program")
    assert told[-1]["reason"] == "the API cannot listen"
    assert not (tmp_path / "var" / "core.json").exists()
