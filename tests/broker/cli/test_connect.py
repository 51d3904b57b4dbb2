"""``fairlead check --connect`` against a real Modbus server, and against nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from adapters.base import REGISTRY, AdapterContext
from broker import tagmap
from broker.config import load_config
from schemas.samples import Delivery
from simulators.modbus_server import ModbusServer, RegisterPoint
from tests.contract.mosquitto import Mosquitto
from tests.llm.conftest import tiny_gguf
from tests.llm.model_servers import KEY, UNUSABLE_KEYS, real_server
from tests.waiting import until_async

__all__ = ["real_server", "tiny_gguf"]
Fairlead = Callable[..., Any]
MakeSite = Callable[..., Path]
POINTS = [RegisterPoint("speed", "holding", 0, "int16"), RegisterPoint("flow", "holding", 1, "float32", "CDAB")]


async def test_a_value_of_each_tag_is_shown(fairlead: Fairlead, make_site: MakeSite) -> None:
    """A source that answers is ok, with the raw values; nothing is left in the data folder."""
    async with ModbusServer(lambda: {"speed": -2, "flow": 1.5}, POINTS) as server:
        path = make_site(port=server.port)
        said = await asyncio.to_thread(fairlead, "check", "--connect", "-c", str(path), "-o", "json")
    assert said.code == 0
    (row,) = json.loads(said.out)["connections"]
    assert (row["source"], row["kind"], row["result"]) == ("plc1", "modbus", "ok")
    assert {item["path"]: (item["raw"], item["status"]) for item in row["values"]} == {
        "Acme/Lyon/A/Speed": (-2.0, "Good"),
        "Acme/Lyon/A/Flow": (1.5, "Good"),
    }
    assert not (path.parent / "var").exists()


def test_nobody_there_is_exit_69(fairlead: Fairlead, make_site: MakeSite, free_port: Callable[[], int]) -> None:
    """The row names the step that failed."""
    path = make_site(port=free_port())
    said = fairlead("check", "--connect", "--timeout", "60", "-c", str(path))
    assert said.code == 69
    assert "failed: connect" in said.out


async def test_a_peer_that_never_answers_ends_in_time(fairlead: Fairlead, make_site: MakeSite) -> None:
    """A port that accepts and stays silent costs the time limit, not more."""
    connections: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    async with silent:
        path = make_site(port=silent.sockets[0].getsockname()[1])
        said = await asyncio.to_thread(
            fairlead, "check", "--connect", "--timeout", "0.5", "-c", str(path), "-o", "json"
        )
        for writer in connections:
            writer.close()
            await writer.wait_closed()
    report = json.loads(said.out)["connections"][0]
    assert said.code in {0, 69}
    assert report["values"] == [] or all(item["status"].startswith("Bad") for item in report["values"])


@asynccontextmanager
async def heard(broker: Mosquitto) -> AsyncIterator[list[str]]:
    """Topics of everything that is published inside; complete behind it."""
    topics: list[str] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    subscribed = asyncio.Event()
    loop = asyncio.get_running_loop()
    client.on_connect = lambda client, *_: client.subscribe("#", 1)
    client.on_subscribe = lambda *_: loop.call_soon_threadsafe(subscribed.set)
    client.on_message = lambda _c, _u, message: topics.append(message.topic)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        await asyncio.wait_for(subscribed.wait(), 60)
        yield topics
        client.publish("end", b"", 1)  # comes behind all that was published before
        await until_async(lambda: "end" in topics)
        topics.remove("end")
    finally:
        client.disconnect()
        client.loop_stop()


async def test_a_primary_host_is_looked_at_without_a_word(
    fairlead: Fairlead, make_site: MakeSite, need: Callable[[str], str], tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """
    A check beside a running primary host publishes nothing: no STATE that its edge nodes would obey, no rebirth.

    The source itself does both with the same options (negative control).
    """
    path = make_site()
    with Mosquitto(need("mosquitto"), tmp_path, free_port()).running() as broker:
        text, _, _ = path.read_text().partition("sources:")
        path.write_text(
            f"{text}sources:\n  spb:\n    kind: mqtt\n    broker: '{broker.url}'\n"
            "    sparkplug: {role: primary, host_id: fairlead, rebirth: on_need}\n"
            "    subscriptions: [{filter: 'spBv1.0/#', decode: sparkplug}]\n"
        )
        (tmp_path / "maps" / "a.yaml").write_text(
            "version: 1\ndefaults: {source: spb}\ntags:\n"
            "  - {path: Acme/Lyon/A/X, address: 'spBv1.0/G/N/D#x', type: float64, unit: '1'}\n"
        )
        async with heard(broker) as topics:
            said = await asyncio.to_thread(
                fairlead, "check", "--connect", "--timeout", "1", "-c", str(path), "-o", "json"
            )
        assert (said.code, topics) == (0, [])
        assert json.loads(said.out)["connections"][0]["detail"] == "connected; no value in 1 s"

        config = load_config(path)
        tags = tagmap.load(config)
        context = AdapterContext("spb", tags.of_source("spb"), tags.revision, time.time_ns, tmp_path)
        adapter = REGISTRY["mqtt"].build(config.sources["spb"], context)
        async with heard(broker) as topics:
            await adapter.connect()
            await adapter.close()
        assert topics == ["spBv1.0/STATE/fairlead", "spBv1.0/G/NCMD/N", "spBv1.0/STATE/fairlead"]


async def test_a_shared_subscription_loses_no_message_to_the_look(
    fairlead: Fairlead, make_site: MakeSite, need: Callable[[str], str], tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """The broker gives each message to one client of a share; the look has its own copies, and the source all."""
    path = make_site()
    with Mosquitto(need("mosquitto"), tmp_path, free_port()).running() as broker:
        text, _, _ = path.read_text().partition("sources:")
        path.write_text(
            f"{text}sources:\n  mq:\n    kind: mqtt\n    broker: '{broker.url}'\n"
            "    subscriptions: [{filter: '$share/plant/line/#', decode: json}]\n"
        )
        (tmp_path / "maps" / "a.yaml").write_text(
            "version: 1\ndefaults: {source: mq}\ntags:\n"
            "  - {path: Acme/Lyon/A/X, address: 'line/a#x', type: float64, unit: '1'}\n"
        )
        config = load_config(path)
        tags = tagmap.load(config)
        context = AdapterContext("mq", tags.of_source("mq"), tags.revision, time.time_ns, tmp_path)
        source = REGISTRY["mqtt"].build(config.sources["mq"], context)
        await source.connect()
        look = asyncio.create_task(
            asyncio.to_thread(fairlead, "check", "--connect", "--timeout", "60", "-c", str(path), "-o", "json")
        )
        sent = 0
        while not look.done():
            await asyncio.to_thread(broker.publish, [("line/a", f'{{"x": {sent}}}')])
            sent += 1
        said = await look
        assert json.loads(said.out)["connections"][0]["result"] == "ok"
        values: list[float] = []
        async with asyncio.timeout(60):
            while len(values) < sent:
                item = await source.read()
                assert isinstance(item, Delivery)
                values += item.batch.value.tolist()
                await item.settle()
        await source.close()
    assert values == [float(n) for n in range(sent)]


async def check_with_server(fairlead: Fairlead, make_site: MakeSite, llm: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and the row of the model server beside a source that answers."""
    async with ModbusServer(lambda: {"speed": -2, "flow": 1.5}, POINTS) as server:
        path = make_site(port=server.port)
        path.write_text(path.read_text().replace("{backend: none}", f"{{backend: openai, {llm}}}"))
        said = await asyncio.to_thread(fairlead, "check", "--connect", "-c", str(path), "-o", "json")
    source, model = json.loads(said.out)["connections"]
    assert (source["source"], source["result"]) == ("plc1", "ok")
    assert (model["source"], model["kind"], model["values"]) == ("model server", "openai", [])
    return said.code, model


@pytest.mark.model
async def test_model_server_is_looked_at(
    fairlead: Fairlead, make_site: MakeSite, real_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real server with its key is ok; another key and another model are exit 69 with what to do."""
    monkeypatch.setenv("PLANT_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", "wrong")
    llm = f"url: '{real_server}', model: tiny, api_key: 'env:PLANT_KEY'"
    code, row = await check_with_server(fairlead, make_site, llm)
    assert (code, row["result"], row["detail"]) == (0, "ok", "tiny is served at 127.0.0.1")
    code, row = await check_with_server(fairlead, make_site, llm.replace("PLANT", "OTHER"))
    assert (code, row["result"]) == (69, "failed: key")
    assert "llm.api_key has to be the key that the server was started with" in row["detail"]
    code, row = await check_with_server(fairlead, make_site, llm.replace("model: tiny", "model: mistral"))
    assert (code, row["result"]) == (69, "failed: model")
    assert "it offers tiny (write a name that it offers into llm.model" in row["detail"]


async def test_model_server_that_is_not_there(fairlead: Fairlead, make_site: MakeSite, free_port) -> None:
    """Nobody listens: exit 69. A secret that is not set is wrong in the configuration: exit 78, and no packet."""
    llm = f"url: 'http://127.0.0.1:{free_port()}/v1', model: m"
    code, row = await check_with_server(fairlead, make_site, llm)
    assert (code, row["result"]) == (69, "failed: connect")
    assert "is the server started" in row["detail"]
    code, row = await check_with_server(fairlead, make_site, f"{llm}, api_key: 'env:NOT_SET_HERE'")
    assert (code, row["result"]) == (78, "failed: key")
    assert row["detail"] == "llm.api_key: env:NOT_SET_HERE: the environment variable NOT_SET_HERE is not set"


@pytest.mark.parametrize("case", list(UNUSABLE_KEYS))
async def test_key_of_a_file_with_foreign_line_ends(
    fairlead: Fairlead, make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Exit 78 at the step of the key, and the key is not printed."""
    monkeypatch.setenv("PLANT_KEY", UNUSABLE_KEYS[case])
    code, row = await check_with_server(
        fairlead, make_site, "url: 'http://127.0.0.1:9/v1', model: m, api_key: 'env:PLANT_KEY'"
    )
    assert (code, row["result"]) == (78, "failed: key")
    assert row["detail"].startswith("llm.api_key holds ")
    assert KEY not in json.dumps(row)
