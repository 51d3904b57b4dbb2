"""F27: the model's worker killed, aborted or hung, or given a file that is no model: the data path goes on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.e2e.processes import Broker

Eventually = Callable[..., Awaitable[None]]
PUMPS = 40
#: Messages a second; each has the number of its turn, and a level of one pump that steps out of its range and back.
RATE = 100
WITHIN_S = 240.0
UNEXPLAINED = """
    SELECT count(*) FROM anomalies a WHERE NOT EXISTS (SELECT 1 FROM annotations n WHERE n.anomaly_id = a.anomaly_id)"""
MODELS = Path(__file__).resolve().parents[2] / "llm" / "models"

pytestmark = [pytest.mark.slow, pytest.mark.model, pytest.mark.timeout(1800)]


class Plant:
    """Publishes at QoS 1 what pumps say; ``sent`` messages are the MQTT broker's, so that each must be in SQL once."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self.going = True
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "pumps", protocol=mqtt.MQTTv311)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    async def run(self) -> None:
        """Publish until ``going`` is taken back."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while self.going:
            body = {"ts": time.time_ns() // 1_000_000, "n": self.sent}
            # a pump is out of its range for every other of its turns, each of a second and a half
            out = (self.sent // 150) % 2 == 1
            body[f"level{self.sent % PUMPS}"] = 130.0 + self.sent % 7 if out else 50.0
            message = self._client.publish("line1/pumps", json.dumps(body), 1)
            await asyncio.to_thread(message.wait_for_publish, 60)
            self.sent += 1
            due_s = max(due_s + 1 / RATE, loop.time() - 1)
            await asyncio.sleep(due_s - loop.time())  # the pace of the plant

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _site(make_broker: Callable[..., Broker], mosquitto: int, **llm: object) -> Broker:
    source = {
        "kind": "mqtt",
        "broker": f"mqtt://127.0.0.1:{mosquitto}",
        "subscriptions": [{"filter": "line1/#", "decode": "json", "time": "ts", "time_format": "epoch_ms"}],
    }
    tags: list[dict[str, Any]] = [
        {"path": "Acme/Lyon/Line1/N", "source": "line", "address": "line1/pumps#n", "type": "float64", "unit": "1"}
    ]
    tags += [
        {
            "path": f"Acme/Lyon/Line1/P{pump}/Level",
            "source": "line",
            "address": f"line1/pumps#level{pump}",
            "type": "float64",
            "unit": "%",
            "range": [0, 100],
        }
        for pump in range(PUMPS)
    ]
    equipment = [{"path": f"Acme/Lyon/Line1/P{pump}", "class": "centrifugal_pump"} for pump in range(PUMPS)]
    return make_broker({"line": source}, tags, equipment=equipment, llm={"backend": "local", **llm})


@asynccontextmanager
async def _flowing(broker: Broker, plant: Plant, eventually: Eventually) -> AsyncIterator[None]:
    """The broker runs, values flow, anomalies are told; behind it every message is waited for."""
    broker.start("acquire", "core")
    publishing = asyncio.create_task(plant.run())
    try:
        await eventually(lambda: broker.count("SELECT count(*) FROM v_annotations") > 0, 240)
        yield
    finally:
        plant.going = False
        await publishing
        plant.close()


def _worker(broker: Broker) -> psutil.Process | None:
    """The process that holds the model; None while there is none."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(broker.pid("core")).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "llm.worker" in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                    return child
    return None


def _answered(broker: Broker) -> int:
    answer = broker.answer("/api/v1/model")
    return int(answer.json()["answered"]) if answer is not None else 0


def _values(broker: Broker) -> list[float]:
    return [
        value for (value,) in broker.rows("SELECT value FROM v_records WHERE path = 'Acme/Lyon/Line1/N' ORDER BY seq")
    ]


#: The kernel takes it when memory is out, an assertion of the library ends it, it hangs.
HURT = {"killed": signal.SIGKILL, "aborted": signal.SIGABRT, "hung": signal.SIGSTOP}


@pytest.mark.parametrize("how", HURT)
async def test_a_hurt_worker_costs_no_value(
    how: str,
    mosquitto: int,
    make_broker: Callable[..., Broker],
    eventually: Eventually,
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """Every message is in SQL once, every anomaly is explained, if by rules, and another worker answers in a minute."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    broker, plant = _site(make_broker, mosquitto, deadline="5s", share="0s"), Plant(mosquitto)
    turns, slowest = scale(1, 2), 0.0
    async with _flowing(broker, plant, eventually):
        first = int(min(_values(broker)))
        for _ in range(turns):
            await eventually(lambda: _worker(broker) is not None, 240)
            seen = _answered(broker)
            await eventually(lambda seen=seen: _answered(broker) > seen, 240, "an answer of the model")
            hurt = _worker(broker)
            assert hurt is not None
            begun, before, seen = time.monotonic(), plant.sent, _answered(broker)
            hurt.send_signal(HURT[how])
            await eventually(lambda hurt=hurt: not hurt.is_running(), 240, "the end of what was hurt")
            await eventually(lambda seen=seen: _answered(broker) > seen, 240, "an answer of the next one")
            slowest = max(slowest, time.monotonic() - begun)
            assert plant.sent > before
    values = await _settled(broker, plant, first, eventually)
    figures(
        f"F27 worker of the model {how}",
        f"{turns} times, {len(values)} values, {broker.count('SELECT count(*) FROM anomalies')} anomalies",
        lost=len(set(map(float, range(first, plant.sent))) - set(values)),
        doubled=len(values) - len(set(values)),
        wrong=sum(value not in range(first, plant.sent) for value in values),
        recovery_s=round(slowest, 1),
        control="see F27 control",
    )
    assert values == list(map(float, range(first, plant.sent)))
    assert slowest < WITHIN_S


async def test_a_file_that_is_no_model_costs_no_value(
    mosquitto: int,
    tmp_path: Path,
    make_broker: Callable[..., Broker],
    eventually: Eventually,
    figures: Callable[..., None],
) -> None:
    """A GGUF that was cut off is quarantined, the reason is told, and rules explain."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    whole = (MODELS / "plant-tiny.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    broker, plant = _site(make_broker, mosquitto, model="cut.gguf"), Plant(mosquitto)
    async with _flowing(broker, plant, eventually):
        first = int(min(_values(broker)))
        await eventually(lambda: broker.get("/api/v1/model")["status"] not in ("ready", "starting"), 240)
        told, before = broker.get("/api/v1/model"), len(_values(broker))
        await eventually(lambda: len(_values(broker)) > before + RATE, 240)
    values = await _settled(broker, plant, first, eventually)
    figures(
        "F27 a model cut off in the middle",
        f"{len(values)} values; status {told['status']}",
        lost=len(set(map(float, range(first, plant.sent))) - set(values)),
        doubled=len(values) - len(set(values)),
        wrong=sum(value not in range(first, plant.sent) for value in values),
        control="see F27 control",
    )
    assert values == list(map(float, range(first, plant.sent)))
    assert "cut.gguf" in told["reason"] or told["reason"], told


async def test_control_what_decodes_is_core(
    mosquitto: int,
    make_broker: Callable[..., Broker],
    eventually: Eventually,
    scale: Callable[[float, float], float],
    figures: Callable[..., None],
) -> None:
    """The negative control: were the model in the process that stores, nothing would be stored while it stands."""
    broker, plant = _site(make_broker, mosquitto, model="none.gguf"), Plant(mosquitto)
    stands_s = scale(3.0, 60.0)
    async with _flowing(broker, plant, eventually):
        first = int(min(_values(broker)))
        os.kill(broker.pid("core"), signal.SIGSTOP)
        before, sent = len(_values(broker)), plant.sent
        await eventually(lambda: plant.sent > sent + RATE * stands_s, 240)
        stored = len(_values(broker)) - before
        os.kill(broker.pid("core"), signal.SIGCONT)
    values = await _settled(broker, plant, first, eventually)
    figures(
        "F27 control: core itself stopped",
        f"{stands_s:g} s, {plant.sent - sent} messages; {stored} stored meanwhile",
        lost=len(set(map(float, range(first, plant.sent))) - set(values)),
        doubled=len(values) - len(set(values)),
        control="all wait in the journal",
    )
    assert stored == 0
    assert values == list(map(float, range(first, plant.sent)))


async def _settled(broker: Broker, plant: Plant, first: int, eventually: Eventually) -> list[float]:
    """Values in the order of the stream, when every message is in SQL and every anomaly is explained."""
    await eventually(lambda: len(set(_values(broker))) >= plant.sent - first, 240, "every value in SQL")
    await eventually(lambda: broker.count(UNEXPLAINED) == 0, 240, "an explanation of every anomaly")
    return _values(broker)
