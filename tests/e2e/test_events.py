"""Events of a real server through the real processes into SQL: nothing lost and nothing doubled over kills and cuts."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from simulators.opcua_server import NodeSpec, OpcUaServer
from tests.e2e.processes import Broker

Eventually = Callable[..., Awaitable[None]]
PUMP = "Acme/Lyon/Line1/P101"


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_kills_and_cuts_lose_and_double_no_event(
    tmp_path: Path, free_port: Callable[[], int], eventually: Eventually
) -> None:
    """
    Events go on while acquire and core are killed and the connection is cut.

    Negative control: an event that the server's queue of two has lost is not there, and a gap of events says so.
    """
    told: list[str] = []

    async def tell(server: OpcUaServer, stop: asyncio.Event) -> None:
        while not stop.is_set():
            told.append(f"event {len(told)}")
            await server.happen(told[-1], 400)
            await asyncio.sleep(0.05)  # the rate of the events

    nodes = {"N": NodeSpec()}
    async with OpcUaServer(lambda: {"N": 1.0}, nodes, namespace="urn:example:line1", period_s=0.1) as server:
        area = await server.add_area("Short")
        source = {
            "kind": "opcua",
            "endpoint": server.endpoint,
            "security": "None",
            "subscription": {"publishing": "100ms", "keep_alive": "5s"},
            "backoff": {"first": "100ms", "max": "500ms"},
            "events": [{"equipment": PUMP}, {"notifier": "nsu=urn:example:line1;s=Short", "queue": 2}],
        }
        tag = {"path": f"{PUMP}/N", "source": "cell", "address": "nsu=urn:example:line1;s=N", "unit": "1"}
        broker = Broker(tmp_path, {"cell": source}, [tag], port=free_port())
        stop = asyncio.Event()
        try:
            broker.start("acquire", "core")
            await eventually(
                lambda: broker.source("cell").get("facts", {}).get("events") == "2 of 2 notifiers watched", 240
            )
            telling = asyncio.create_task(tell(server, stop))
            for turn, victim in enumerate(("core", "acquire")):
                before = broker.count("SELECT count(*) FROM events")
                await eventually(lambda before=before: broker.count("SELECT count(*) FROM events") > before + 10, 240)
                await server.drop_connections()
                broker.kill(victim)
                if turn == 1:
                    for n in range(5):
                        await server.happen(f"short {n}", 900, notifier=area)
                broker.start(victim)
            before = broker.count("SELECT count(*) FROM events")
            await eventually(lambda before=before: broker.count("SELECT count(*) FROM events") > before + 10, 240)
            stop.set()
            await telling
            found = "SELECT message FROM v_events WHERE equipment = ? ORDER BY seq"
            await eventually(lambda: len(broker.rows(found, PUMP)) >= len(told), 240)
            assert [row[0] for row in broker.rows(found, PUMP)] == told, "lost, doubled or out of order"
            lost = "SELECT count(*) FROM v_gaps WHERE scope = 'events' AND cause = 'queue_overflow'"
            await eventually(lambda: broker.count(lost) == 1)
            short = [row[0] for row in broker.rows(found, "")]
            assert len(short) < 5
            assert short[-1] == "short 4"
            page = await asyncio.to_thread(broker.get, f"/api/v1/events?equipment={PUMP}&limit=3")
            assert [one["message"] for one in page["events"]] == told[:3]
            sources = await asyncio.to_thread(broker.get, "/api/v1/sources")
            assert sources["sources"][0]["events_stored"] == len(told) + len(short)
            metrics = await asyncio.to_thread(broker.answer, "/metrics")
            assert metrics is not None
            assert 'fairlead_event_rows_total{outcome="stored"}' in metrics.text
            exported = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "broker", "journal", "export", "-c", str(broker.config), "--kind", "event",
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            lines = (await exported.communicate())[0].splitlines()
            assert {json.loads(line)["detail"]["message"] for line in lines} >= set(told)
        finally:
            stop.set()
            broker.stop()
