"""The demo site: its servers and its tag maps describe the same points."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from adapters.modbus.config import ModbusOptions
from adapters.modbus.point import resolve
from broker.config import load_config
from broker.tagmap import load
from schemas.tagmap import TagMap
from simulators.plant import Fault, Plant
from simulators.site import NAMESPACE, NODES, REGISTERS, TOPICS, Site

_FILLED = {
    "{modbus_host}": "127.0.0.1",
    "{modbus_port}": "15020",
    "{opcua_endpoint}": "opc.tcp://127.0.0.1:4840/",
    "{mqtt_url}": "mqtt://127.0.0.1:1883",
    "{api_port}": "8080",
}


@pytest.fixture
def demo(tmp_path: Path) -> tuple[TagMap, ModbusOptions]:
    """The demo's configuration as ``fairlead demo`` writes it."""
    shipped = files("broker.demo")
    text = shipped.joinpath("fairlead.yaml").read_text("utf-8")
    for mark, value in _FILLED.items():
        text = text.replace(mark, value)
    (tmp_path / "fairlead.yaml").write_text(text, "utf-8")
    (tmp_path / "maps").mkdir()
    for item in shipped.joinpath("maps").iterdir():
        (tmp_path / "maps" / item.name).write_text(item.read_text("utf-8"), "utf-8")
    config = load_config(tmp_path / "fairlead.yaml", {})
    plc = config.sources["skid_plc"]
    assert isinstance(plc, ModbusOptions)
    return load(config), plc


def _signal(path: str) -> str:
    return ".".join(path.split("/")[-2:])


def test_registers_of_the_map_are_those_of_the_server(demo: tuple[TagMap, ModbusOptions]) -> None:
    """Address, type and word order of every Modbus tag equal the register that the simulated PLC serves."""
    tag_map, options = demo
    tables = {"holding": 3, "input": 4}
    served = {p.name: (tables[p.table], p.address, p.type, p.scale) for p in REGISTERS}
    orders = {p.name: p.byte_order for p in REGISTERS}
    for tag in tag_map.of_source("skid_plc"):
        point = resolve(options, tag)
        function, address, kind, scale = served[_signal(tag.path)]
        assert (point.address.function, point.address.offset, tag.type) == (function, address, kind), tag.path
        if kind == "float32":
            assert (tag.byte_order or options.byte_order) == orders[_signal(tag.path)], tag.path
        assert tag.factor == pytest.approx(1 / scale, rel=1e-6), tag.path
    assert {_signal(t.path) for t in tag_map.of_source("skid_plc")} == set(served)


def test_nodes_and_topics_of_the_map_are_served(demo: tuple[TagMap, ModbusOptions]) -> None:
    """Every OPC UA and MQTT address of the map exists at the simulated servers, and nothing is left out."""
    tag_map, _ = demo
    nodes = {f"nsu={NAMESPACE};s={name}" for name in NODES}
    fields = {f"{topic}#{field}" for topic, spec in TOPICS.items() for field in spec.fields}

    assert {tag.address for tag in tag_map.of_source("filler")} == nodes
    assert {tag.address for tag in tag_map.of_source("meters")} == fields


def test_every_signal_of_the_plant_is_mapped(demo: tuple[TagMap, ModbusOptions]) -> None:
    """No signal is served that the demo does not read."""
    tag_map, _ = demo
    rooms = {"Room12.Temperature": "R12.Temperature", "Room12.Humidity": "R12.Humidity"}
    mapped = {rooms.get(_signal(tag.path), _signal(tag.path)) for tag in tag_map.tags}

    assert mapped == set(Plant().signals())


def test_schedule_repeats() -> None:
    """After its period the schedule of faults begins again, for as long as the site runs."""
    now = [0.0]
    site = Site(faults=(Fault("spike", 5, 6),), repeat_s=10.0, clock=lambda: now[0])
    for second in range(40):
        now[0] = float(second)
        site._read()

    assert [fault.start_s for fault in site.plant.faults] == [5, 15, 25, 35]
