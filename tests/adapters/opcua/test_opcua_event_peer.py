"""Alarms of a server that was not written in Python: node-opcua's ExclusiveLimitAlarm on a tank."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from adapters.opcua import OpcUaAdapter
from tests import scripted_opcua
from tests.adapters.opcua.conftest import LOOP
from tests.adapters.opcua.test_opcua_events import Make, listen

PEER: Final = Path(__file__).resolve().parents[2] / "alarm_peer.js"
TANK: Final = "nsu=urn:example:tank;s="


@dataclass
class Tank:
    """The running server."""

    endpoint: str
    process: asyncio.subprocess.Process

    def say(self, **said: Any) -> None:
        """Move the level, or raise an event."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(said).encode() + b"\n")


@pytest_asyncio.fixture(scope="module", loop_scope=LOOP)
async def tank(
    peer_folder: Path, need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Tank]:
    """The server on a port of its own; it ends with its standard input."""
    pki = tmp_path_factory.mktemp("pki")
    async with scripted_opcua.serving(need("node"), PEER, peer_folder, pki) as (endpoint, process):
        yield Tank(endpoint, process)


async def test_an_alarm_of_node_opcua(tank: Tank, make_adapter: Make) -> None:
    """Each change is an event with condition, limits and states; a branch keeps what nobody has acknowledged."""
    events = [{"equipment": "Acme/Lyon/Tank"}, {"notifier": f"{TANK}Nothing"}]
    adapter: OpcUaAdapter = make_adapter(tank.endpoint, [], events=events)
    await adapter.connect()
    assert adapter.facts["events"] == "1 of 2 notifiers watched"
    tank.say(level=90)
    tank.say(event="pump failed", severity=300)
    tank.say(level=99)
    tank.say(level=1)
    heard = await listen(adapter, lambda heard: "Back to normal" in heard.messages)
    alarms = [event for event in heard.events if event.condition is not None]
    assert {event.type_name for event in alarms} == {"ExclusiveLimitAlarmType"}
    assert {event.condition.condition_id for event in alarms if event.condition} == {f"{TANK}LevelAlarm"}
    assert {event.source_node for event in alarms} == {f"{TANK}Level"}
    now = [event for event in alarms if event.condition and not event.condition.branch_id]
    states = [(event.condition.active, event.fields.get("LimitState/CurrentState")) for event in now if event.condition]
    assert states == [(True, "High"), (True, "HighHigh"), (False, None)]
    assert all(event.fields["HighLimit"] == 80.0 and event.fields["LowLowLimit"] == -20.0 for event in alarms)
    assert len(alarms) > len(now), "the branch that wants an acknowledgement"
    [failed] = [event for event in heard.events if event.message == "pump failed"]
    assert (failed.severity, failed.type_name, failed.condition) == (300, "DeviceFailureEventType", None)
    assert len({event.event_id for event in heard.events}) == len(heard.events)


async def test_node_opcua_takes_the_condition(tank: Tank, make_adapter: Make) -> None:
    """OfType and severity are applied by the server."""
    wanted = {"types": ["i=2131", "i=2782"], "severity": 400}
    adapter: OpcUaAdapter = make_adapter(tank.endpoint, [], events=[wanted])
    await adapter.connect()
    assert "which events" not in adapter.facts["event filters"]
    tank.say(level=99)
    tank.say(event="little", severity=399)
    tank.say(event="much", severity=400)
    heard = await listen(adapter, lambda heard: heard.events)
    assert heard.messages == ["much"]
    assert adapter.counters["lesser_events"] == 0
