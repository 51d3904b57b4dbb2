"""
thingsboard-gateway on the same Modbus work: CPU µs a value of both, and the ratio.

The gateway comes from the package index into an environment of its own (``--environment FOLDER`` keeps it), in its
cheapest form: one address range, 124 registers a request, memory storage, no statistics, no rate limits, telemetry to a
mosquitto on this machine. A subscriber counts the values and checks each against its tag and the time. Ours is the
whole broker: journal with fsync, normalizer, detectors, SQLite with both roll-ups.

Not the same job: the gateway publishes JSON and stores nothing, ours stores every value and publishes nothing. The CPU
time is that of the gateway's process alone, and of all the broker's processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import paho.mqtt.client as mqtt
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from bench import e2e
from bench.modbus import load_server
from bench.modbus_load import WRAP, expected, period_at

PACKAGES = ("thingsboard-gateway==3.8.5", "pymodbus==3.9.2", "pyserial", "pyserial-asyncio")
WARM_UP_S = 3.0
#: A value may be so much older than its time says.
LATE_S = 60.0
#: The gateway sends nothing before its platform has told its limits; this is a platform without any.
LIMITS = {"maxPayloadSize": 65536, "maxInflightMessages": 100, "rateLimits": {}, "gatewayRateLimits": {}}
_ASKED = "v1/devices/me/rpc/request/"
_ANSWERED = "v1/devices/me/rpc/response/"


def main(arguments: Sequence[str]) -> int:
    """Run both in turns and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench modbus-gateway", description=__doc__)
    parser.add_argument("--tags", type=int, default=10_000, help="float32 tags (default 10000)")
    parser.add_argument("--period", type=float, default=0.1, help="seconds between two polls (default 0.1)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a turn (default 6)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument("--environment", type=Path, help="folder of the gateway's environment; made where it is not")
    a = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        folder = a.environment or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fairlead-bench-")))
        python = _environment(folder.resolve())
        print(
            f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {a.tags} float32 tags "
            f"each {a.period:g} s, {a.turns} turns of {a.seconds:g} s",
            flush=True,
        )
        theirs, ours = [], []
        for turn in range(a.turns):
            theirs.append(_gateway(python, a.tags, a.period, a.seconds))
            ours.append(e2e.measure(e2e.Load("modbus", a.tags, a.period, fast=True), a.seconds))
            print(
                f"turn {turn + 1}: gateway {theirs[-1][1]:.1f}, broker {ours[-1].cpu:.2f} CPU µs/value",
                file=sys.stderr,
                flush=True,
            )
    print("| side | offered values/s | values/s | CPU µs/value | wrong |")
    print("|---|---|---|---|---|")
    offered = a.tags / a.period
    rate, cost = median(r for r, _, _ in theirs), median(c for _, c, _ in theirs)
    wrong = sum(w for _, _, w in theirs)
    print(f"| thingsboard-gateway 3.8.5, published | {offered:,.0f} | {rate:,.0f} | {cost:.1f} | {wrong} |")
    rate, cost = median(f.stored for f in ours), median(f.cpu for f in ours)
    print(f"| broker, stored | {offered:,.0f} | {rate:,.0f} | {cost:.1f} | {sum(f.wrong for f in ours)} |")
    ratios = [c / f.cpu for (_, c, _), f in zip(theirs, ours, strict=True)]
    print(f"ratio {median(ratios):.1f} [{min(ratios):.1f}..{max(ratios):.1f}]")
    return 0


def _environment(folder: Path) -> Path:
    """Python of an environment with the gateway."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return python


def _configure(home: Path, mqtt_port: int, modbus_port: int, tags: int, period_s: float) -> None:
    none = "0:0,"  # the gateway's word for no limit
    limits = dict.fromkeys(
        ("rateLimits", "dpRateLimits", "messagesRateLimits", "deviceMessagesRateLimits", "deviceRateLimits"), none
    )
    thingsboard = {
        "host": "127.0.0.1",
        "port": mqtt_port,
        "remoteShell": False,
        "remoteConfiguration": False,
        "statistics": {"enable": False, "statsSendPeriodInSeconds": 3600},
        "deviceFiltering": {"enable": False, "filterFile": "list.json"},
        "maxPayloadSizeBytes": 65536,
        "minPackSendDelayMS": 10,
        "minPackSizeToSend": 500,
        "checkConnectorsConfigurationInSeconds": 3600,
        "security": {"type": "accessToken", "accessToken": "bench"},
        "qos": 1,
        "reportStrategy": {"type": "ON_RECEIVED"},
        **limits,
        "deviceDpRateLimits": none,
    }
    storage = {"type": "memory", "read_records_count": 1000, "max_records_count": 100_000}
    connectors = [{"name": "Bench", "type": "modbus", "configuration": "modbus.json"}]
    gateway = {"thingsboard": thingsboard, "storage": storage, "grpc": {"enabled": False}, "connectors": connectors}
    (home / "tb_gateway.json").write_text(json.dumps(gateway), "utf-8")
    series = {
        "tag": "v${address}",
        "type": "32float",
        "functionCode": 3,
        "objectsCount": 2,
        "address": f"0-{2 * tags - 1}",
        "maxRegistersPerRequest": 124,
    }
    slave = {
        "host": "127.0.0.1",
        "port": modbus_port,
        "type": "tcp",
        "method": "socket",
        "unitId": 1,
        "deviceName": "bench",
        "timeout": 5,
        "byteOrder": "BIG",
        "wordOrder": "BIG",
        "retries": 0,
        "pollPeriod": round(period_s * 1000),
        "connectAttemptTimeMs": 500,
        "connectAttemptCount": 20,
        "waitAfterFailedAttemptsMs": 1000,
        "timeseries": [series],
        "attributes": [],
    }
    (home / "modbus.json").write_text(json.dumps({"master": {"slaves": [slave]}}), "utf-8")
    log = {"version": 1, "disable_existing_loggers": False, "handlers": {}, "root": {"level": "ERROR", "handlers": []}}
    (home / "logs.json").write_text(json.dumps(log), "utf-8")
    (home / "list.json").write_text("{}", "utf-8")


class _Counted:
    """What a subscriber saw: values, and how many were wrong, since it was last asked."""

    def __init__(self, port: int, tags: int, period_s: float) -> None:
        self.values = self.wrong = 0
        self._tags = tags
        self._period_s = period_s
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.subscribe([("v1/gateway/telemetry", 1), (f"{_ASKED}+", 1)])
        self._client.loop_start()

    def stop(self) -> None:
        """Stop counting."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic.startswith(_ASKED):
            client.publish(_ANSWERED + message.topic.removeprefix(_ASKED), json.dumps(LIMITS), 1)
        else:
            self._take(message.payload)

    def _take(self, payload: bytes | bytearray) -> None:
        for rows in json.loads(payload).values():
            for row in rows:
                found = row.get("values", {key: value for key, value in row.items() if key != "ts"})
                now = period_at(row["ts"] / 1000 if "ts" in row else time.time(), self._period_s)
                for key, value in found.items():
                    tag = int(key[1:]) // 2
                    k = round(float(value) - tag / self._tags)
                    # a gateway that cannot keep up stamps what it read long before: late is not wrong
                    in_time = (now + 5 - k) % WRAP <= LATE_S / self._period_s
                    self.wrong += not (in_time and abs(float(value) - float(expected(k, tag, self._tags))) < 2e-3)
                self.values += len(found)


def _gateway(python: Path, tags: int, period_s: float, seconds: float) -> tuple[float, float, int]:
    """Values a second, CPU µs a value, wrong values."""
    with (
        tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder,
        load_server(tags, period_s) as modbus_port,
        _mosquitto(Path(folder)) as mqtt_port,
    ):
        home = Path(folder)
        _configure(home, mqtt_port, modbus_port, tags, period_s)
        counted = _Counted(mqtt_port, tags, period_s)
        process = subprocess.Popen(
            [str(python), "-c", "from thingsboard_gateway.tb_gateway import main; main()"],
            cwd=home,
            env={**os.environ, "TB_GW_CONFIG_DIR": str(home), "PYTHONPATH": ""},
            stdout=(home / "out").open("w"),
            stderr=subprocess.STDOUT,
        )
        try:
            end = time.monotonic() + 60
            while not counted.values:
                if time.monotonic() > end or process.poll() is not None:
                    raise SystemExit(f"no value came from the gateway\n{(home / 'out').read_text()[-3000:]}")
                time.sleep(0.1)
            time.sleep(WARM_UP_S)
            watched = psutil.Process(process.pid)
            values, begun, cpu = counted.values, time.monotonic(), sum(watched.cpu_times()[:2])
            time.sleep(seconds)
            values, cpu = counted.values - values, sum(watched.cpu_times()[:2]) - cpu
            return values / (time.monotonic() - begun), 1e6 * cpu / max(values, 1), counted.wrong
        finally:
            process.kill()
            process.wait()
            counted.stop()


@contextlib.contextmanager
def _mosquitto(folder: Path) -> Iterator[int]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise SystemExit("the gateway publishes to a mosquitto: install it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    settings = folder / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n", "utf-8")
    server = subprocess.Popen([program, "-c", str(settings)], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)
