"""Events and alarms: told once, kept by the server until they are in the journal, refused parts named."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from pydantic import ValidationError

from adapters.opcua import OpcUaAdapter, OpcUaOptions
from adapters.opcua.event_filter import BASE_FIELDS
from adapters.opcua.event_options import EventOptions
from adapters.opcua.event_reader import EventReader, Told
from adapters.opcua.event_wire import Notified
from adapters.opcua.nodes import address_text, parse_address
from schemas.alarms import Event
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause, Reject
from schemas.status import Flag
from schemas.tagmap import Tag
from simulators.opcua_events import AlarmSpec
from simulators.opcua_server import NodeSpec, OpcUaServer
from tests.adapters.opcua.conftest import LOOP, URI

Make = Callable[..., OpcUaAdapter]
MakeTags = Callable[..., list[Tag]]
Crash = Callable[[OpcUaAdapter], Awaitable[None]]
PUMP = "Acme/Lyon/Util/P101"


@dataclass
class Heard:
    """What an adapter gave."""

    events: list[Event] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    rows: int = 0

    @property
    def messages(self) -> list[str]:
        """Texts in the order of arrival."""
        return [event.message for event in self.events]


async def listen(adapter: OpcUaAdapter, enough: Callable[[Heard], object], within_s: float = 60.0) -> Heard:
    """Read and settle until ``enough(heard)``."""
    heard = Heard()
    async with asyncio.timeout(within_s):
        while not enough(heard):
            item = await adapter.read()
            if isinstance(item, Gap):
                heard.gaps.append(item)
                continue
            heard.events += item.events
            heard.rejects += item.rejects
            heard.rows += len(item.batch)
            await item.settle()
    return heard


class Cell:
    """The level of a tank, set by a test."""

    level = 1.0


@pytest_asyncio.fixture(scope="session", loop_scope=LOOP)
async def plant() -> AsyncIterator[OpcUaServer]:
    """A server with one signal and one alarm on it, for every test here that leaves it as it was."""
    alarm = AlarmSpec("LevelHigh", "Level", 80.0, severity=800, message="Tank level")
    signals = {"Level": NodeSpec()}
    async with OpcUaServer(
        lambda: {"Level": Cell.level}, signals, namespace=URI, period_s=0.02, alarms=(alarm,)
    ) as one:
        yield one


async def test_an_alarm_is_an_event_with_its_condition(
    plant: OpcUaServer, make_adapter: Make, make_tags: MakeTags
) -> None:
    """Every field of the standard, beside the values of the same source."""
    adapter = make_adapter(plant.endpoint, make_tags("Level"), events=[{"equipment": PUMP}])
    await adapter.connect()
    await listen(adapter, lambda heard: heard.rows)
    Cell.level = 90.0
    heard = await listen(adapter, lambda heard: heard.events)
    Cell.level = 1.0
    heard.events += (await listen(adapter, lambda heard: heard.events)).events
    rose, fell = heard.events
    assert (rose.source, rose.equipment, rose.notifier, rose.source_name) == ("cell", PUMP, "i=2253", "Level")
    assert (rose.event_type, rose.type_name) == ("i=9482", "ExclusiveLevelAlarmType")
    assert (rose.severity, rose.message, rose.flags) == (800, "Tank level above 80", 0)
    assert rose.source_node == f"nsu={URI};s=Level"
    assert rose.condition is not None
    assert fell.condition is not None
    assert (rose.condition.condition_id, rose.condition.name) == (f"nsu={URI};s=LevelHigh", "LevelHigh")
    assert (rose.condition.active, rose.condition.acked, rose.condition.enabled) == (True, False, True)
    assert (rose.condition.retain, rose.condition.confirmed, rose.condition.quality) == (True, None, 0)
    assert rose.condition.state == "Active | Unacknowledged"
    assert rose.fields == {"HighLimit": 80.0}
    assert (fell.condition.active, fell.message) == (False, "Tank level below 80")
    assert 0 < rose.time_ns < fell.time_ns <= fell.received_ns
    assert rose.event_id != fell.event_id
    assert adapter.facts["events"] == "1 of 1 notifiers watched"
    assert adapter.facts["event filters"] == "as requested"
    assert adapter.counters["events"] == 2


async def test_only_what_is_wanted(plant: OpcUaServer, make_adapter: Make) -> None:
    """Severity and types are asked of the server, subtypes come with their type, and fields of its own."""
    kind = await plant.add_event_type(
        f"Batch{uuid.uuid4().hex}", ua.ObjectIds.DeviceFailureEventType, {"Batch": "String", "Count": "UInt64"}
    )
    wanted = {"severity": 300, "types": ["i=2131", "nsu=urn:nowhere;s=x"], "fields": [f"nsu={URI};Batch", "1:Count"]}
    adapter = make_adapter(plant.endpoint, [], events=[wanted])
    await adapter.connect()
    await plant.happen("of another type", 900)
    await plant.happen("less severe", 299, kind)
    await plant.happen("mine", 300, kind, Batch="B7", Count=2**63 + 1)
    heard = await listen(adapter, lambda heard: heard.events)
    [event] = heard.events
    assert (event.message, event.condition) == ("mine", None)
    assert event.event_type == address_text(kind, [*[""] * kind.NamespaceIndex, URI])
    assert event.type_name == kind.Identifier
    assert event.fields == {f"nsu={URI};Batch": "B7", "1:Count": 2**63 + 1}
    assert "1 types: no such namespace" in adapter.facts["event filters"]


async def test_two_notifiers(plant: OpcUaServer, make_adapter: Make) -> None:
    """Each with its equipment; one that the server does not have is refused, and stops no other."""
    area = await plant.add_area(f"Area{uuid.uuid4().hex}")
    events = [
        {"equipment": "A"},
        {"equipment": "B", "notifier": f"nsu={URI};s={area.Identifier}"},
        {"notifier": "nsu=urn:nowhere;s=x"},
        {"notifier": f"nsu={URI};s=Nothing"},
    ]
    adapter = make_adapter(plant.endpoint, [], events=events)
    await adapter.connect()
    await plant.happen("of the area", notifier=area)
    await plant.happen("of the server")
    heard = await listen(adapter, lambda heard: len(heard.events) == 2)
    assert {(event.message, event.equipment) for event in heard.events} == {
        ("of the area", "B"),
        ("of the server", "A"),
    }
    assert adapter.facts["events"] == "2 of 4 notifiers watched"
    assert adapter.facts["events refused"].count("BadNodeIdUnknown") == 2
    assert adapter.counters["refused_notifiers"] == 2


async def test_a_refused_notifier_is_tried_again(
    plant: OpcUaServer, make_adapter: Make, eventually: Callable[..., Awaitable[None]]
) -> None:
    """By the same clock as a node that the server did not know."""
    name = f"Late{uuid.uuid4().hex}"
    events = [{"notifier": f"nsu={URI};s={name}"}]
    adapter = make_adapter(plant.endpoint, [], events=events, retry={"invalid_node": "10ms"})
    await adapter.connect()
    area = await plant.add_area(name)
    reading = asyncio.create_task(listen(adapter, lambda heard: heard.events))
    await eventually(lambda: adapter.facts["events"] == "1 of 1 notifiers watched")
    await plant.happen("at last", notifier=area)
    assert (await reading).messages == ["at last"]


@pytest.mark.parametrize("strict", [False, True], ids=["null", "whole filter refused"])
async def test_refused_clauses_are_named_and_null(plant: OpcUaServer, make_adapter: Make, *, strict: bool) -> None:
    """A server may leave refused fields null, or refuse the filter with them; either way the others come."""
    plant.manners.refused, plant.manners.strict = {"ConditionName", "ConfirmedState/Id"}, strict
    adapter = make_adapter(plant.endpoint, [], events=[{}])
    try:
        await adapter.connect()
        kind, node = ua.ObjectIds.AlarmConditionType, ua.NodeId("C", 2)
        await plant.happen("alarm", 500, kind, NodeId=node, ConditionName="gone", ActiveState__Id=True)
        [event] = (await listen(adapter, lambda heard: heard.events)).events
    finally:
        plant.manners.refused, plant.manners.strict = set(), False
    assert event.condition is not None
    assert (event.condition.name, event.condition.active, event.condition.confirmed) == ("", True, None)
    assert "ConditionName: BadNodeIdUnknown, ConfirmedState/Id: BadNodeIdUnknown" in adapter.facts["event filters"]
    assert adapter.counters["refused_event_fields"] == 2


async def test_a_refused_condition_is_applied_here(plant: OpcUaServer, make_adapter: Make) -> None:
    """A server that takes no where clause tells everything; what is less severe is counted and left."""
    plant.manners.conditions = False
    adapter = make_adapter(plant.endpoint, [], events=[{"severity": 500}])
    try:
        await adapter.connect()
        await plant.happen("little", 499)
        await plant.happen("much", 500)
        heard = await listen(adapter, lambda heard: heard.events)
    finally:
        plant.manners.conditions = True
    assert heard.messages == ["much"]
    assert "which events: BadFilterOperatorUnsupported, severity is applied here" in adapter.facts["event filters"]
    assert adapter.counters["lesser_events"] == 1


async def test_a_full_queue_is_a_gap(plant: OpcUaServer, make_adapter: Make) -> None:
    """What the server lost of events is a gap of events, not of values, told before those that are left."""
    options = {"events": [{"queue": 3}], "subscription": {"publishing": "2s", "keep_alive": "10s"}}
    adapter = make_adapter(plant.endpoint, [], **options)
    await adapter.connect()
    for n in range(6):
        await plant.happen(str(n))
    heard = await listen(adapter, lambda heard: "5" in heard.messages)
    [gap] = heard.gaps
    assert (gap.cause, gap.events, gap.tags) == (GapCause.QUEUE_OVERFLOW, True, ())
    assert gap.to_ns is not None
    assert gap.from_ns <= gap.to_ns
    assert "i=2253" in gap.detail
    assert heard.messages == ["4", "5"]
    assert adapter.counters["event_overflows"] == 1


async def test_an_event_is_acknowledged_only_when_it_is_journalled(
    plant: OpcUaServer, make_adapter: Make, crash: Crash
) -> None:
    """
    After a kill the server tells again what was not settled, and only that.

    Negative control: what was settled and written down does not come again.
    """
    adapter = make_adapter(plant.endpoint, [], events=[{}])
    await adapter.connect()
    await plant.happen("settled")
    await listen(adapter, lambda heard: heard.events)
    adapter._ledger.save()
    await plant.happen("not settled")
    taken = await adapter.read()
    assert not isinstance(taken, Gap)
    assert [event.message for event in taken.events] == ["not settled"]
    await crash(adapter)
    await plant.happen("while nobody was there")
    await taken.settle(NotConnected("killed"))
    again = make_adapter(plant.endpoint, [], events=[{}])
    await again.connect()
    heard = await listen(again, lambda heard: len(heard.events) == 2)
    assert heard.messages == ["not settled", "while nobody was there"]
    assert heard.events[0].event_id == taken.events[0].event_id
    assert heard.gaps == []
    assert again.facts["resume"] == "same session"
    assert again.facts["events"] == "1 of 1 notifiers watched"


async def test_cut_connections_lose_and_double_nothing(plant: OpcUaServer, make_adapter: Make) -> None:
    """The session's queue goes on over lost connections; each EventId comes once."""
    adapter = make_adapter(plant.endpoint, [], events=[{}])
    await adapter.connect()
    heard: list[Event] = []
    told: list[bytes] = []
    for _ in range(3):
        told += [await plant.happen("x") for _ in range(5)]
        heard += (await listen(adapter, lambda h: h.events)).events
        await plant.drop_connections()
        told += [await plant.happen("x") for _ in range(5)]
        async with asyncio.timeout(60):
            while True:
                try:
                    item = await adapter.read()
                except NotConnected:
                    break
                assert not isinstance(item, Gap)
                heard += item.events
                await item.settle()
        await adapter.connect()
    left = len(told) - len({event.event_id for event in heard})
    heard += (await listen(adapter, lambda h: len({event.event_id for event in h.events}) >= left)).events
    assert {event.event_id for event in heard} == set(told)


async def test_changed_events_make_new_subscriptions(plant: OpcUaServer, make_adapter: Make, crash: Crash) -> None:
    """What is asked for is part of the fingerprint; another equipment is none of the server's."""
    first = make_adapter(plant.endpoint, [], events=[{}])
    await first.connect()
    await crash(first)
    second = make_adapter(plant.endpoint, [], events=[{"equipment": PUMP}])
    await second.connect()
    assert second.facts["resume"] == "same session"
    await crash(second)
    third = make_adapter(plant.endpoint, [], events=[{"severity": 2}])
    await third.connect()
    assert third.counters["recreated"] == 1


async def test_a_lost_session_is_a_gap_of_events(plant: OpcUaServer, make_adapter: Make, crash: Crash) -> None:
    """A source without tags has no values that could be missing, and its gap says so."""
    first = make_adapter(plant.endpoint, [], events=[{}])
    await first.connect()
    await plant.happen("before")
    await listen(first, lambda heard: heard.events)
    first._ledger.save()
    await crash(first)
    service = plant._server.iserver.subscription_service  # type: ignore[union-attr]
    await service.delete_subscriptions([one.subscription_id for one in first._ledger.now.held])
    await plant.happen("told to nobody")
    second = make_adapter(plant.endpoint, [], events=[{}])
    await second.connect()
    await plant.happen("after")
    heard = await listen(second, lambda heard: heard.events)
    assert heard.messages == ["after"]
    [gap] = heard.gaps
    assert (gap.cause, gap.events, gap.tags, gap.backfilled) == (GapCause.SESSION_LOST, True, (), False)
    assert gap.to_ns is not None
    assert gap.from_ns < gap.to_ns


async def test_a_source_that_is_read_has_no_events(plant: OpcUaServer, make_adapter: Make, make_tags: MakeTags) -> None:
    """It says so."""
    adapter = make_adapter(plant.endpoint, make_tags("Level"), events=[{}], read="cyclic")
    await adapter.connect()
    assert adapter.facts["events"] == "not watched: the source is read, not subscribed to"


async def test_odd_events(plant: OpcUaServer, make_adapter: Make) -> None:
    """Without a time an event has that of arrival; one with another number of fields goes to quarantine."""
    adapter = make_adapter(plant.endpoint, [], events=[{}])
    await adapter.connect()
    subscriptions = plant._server.iserver.subscription_service.subscriptions.values()  # type: ignore[union-attr]
    held = [one for one in subscriptions if one.monitored_item_srv._monitored_events][-1]
    [mid] = held.monitored_item_srv._monitored_items
    text = ua.Variant(ua.LocalizedText("short"), ua.VariantType.LocalizedText)
    await held.enqueue_event(mid, ua.EventFieldList(0, [text]), 0)
    count = len(held.monitored_item_srv._monitored_items[mid].filter.SelectClauses)
    empty = [ua.Variant(None)] * count
    empty[6] = text
    await held.enqueue_event(mid, ua.EventFieldList(0, empty), 0)
    await held.enqueue_event(mid, ua.EventFieldList(99, empty), 0)
    heard = await listen(adapter, lambda heard: heard.events and heard.rejects)
    [event], [reject] = heard.events, heard.rejects
    assert (event.message, event.event_id, event.condition, event.severity) == ("short", b"", None, 0)
    assert (event.time_ns, event.flags) == (event.received_ns, Flag.ARRIVAL_TIME | Flag.DUP_POSSIBLE)
    assert f"1 fields, {count} were asked for" in reject.reason
    assert b"short" in reject.raw
    assert adapter.counters["foreign"] == 1


async def test_one_odd_field_costs_its_own_event(plant: OpcUaServer, make_adapter: Make) -> None:
    """
    A field that no decoder reads, and fields of other types than the standard's, in one message with sound events.

    The sound ones arrive, what cannot be read goes to quarantine with its bytes, and the source goes on.
    """
    adapter = make_adapter(plant.endpoint, [], events=[{}])
    await adapter.connect()
    subscriptions = plant._server.iserver.subscription_service.subscriptions.values()  # type: ignore[union-attr]
    held = [one for one in subscriptions if one.monitored_item_srv._monitored_events][-1]
    [mid] = held.monitored_item_srv._monitored_items
    count = len(held.monitored_item_srv._monitored_items[mid].filter.SelectClauses)

    async def tell(text: str, **fields: ua.Variant) -> None:
        values = [ua.Variant(None)] * count
        values[BASE_FIELDS.index("Message")] = ua.Variant(ua.LocalizedText(text), ua.VariantType.LocalizedText)
        for name, value in fields.items():
            values[BASE_FIELDS.index(name)] = value
        await held.enqueue_event(mid, ua.EventFieldList(0, values), 0)

    spoilt = ua.ExtensionObject(TypeId=ua.FourByteNodeId(886), Body=b"\x07")
    types = [ua.NodeId("own", 2), ua.NodeId("other", 2)]
    await tell("before")
    await tell("spoilt", Severity=ua.Variant(spoilt, ua.VariantType.ExtensionObject))
    await tell("types", EventType=ua.Variant(types, ua.VariantType.NodeId, is_array=True))
    await tell("times", Time=ua.Variant("noon", ua.VariantType.String), ReceiveTime=ua.Variant([1, 2]))
    await tell("after")
    heard = await listen(adapter, lambda heard: "after" in heard.messages)
    assert heard.messages == ["before", "types", "times", "after"]
    assert [event.flags for event in heard.events] == [int(Flag.ARRIVAL_TIME | Flag.DUP_POSSIBLE)] * 4
    [reject] = heard.rejects
    assert reject.place == "events of i=2253"
    assert "the field Severity cannot be decoded" in reject.reason
    assert b"spoilt" in reject.raw
    assert heard.gaps == []
    assert (adapter.counters["undecodable"], adapter.counters["undecodable_events"]) == (0, 1)


def test_events_without_time_and_name_of_one_message_are_kept_apart() -> None:
    """Each has a time of its own and may be a repeat; one with a name, or a time, bears what the server gave."""
    reader, told = EventReader("plc", ["", "urn:a"]), Told()
    asked, options = ("EventId", "Time", "Message"), EventOptions()
    at = ua.Variant(datetime(2026, 1, 1, tzinfo=UTC), ua.VariantType.DateTime)
    name = ua.Variant(b"x", ua.VariantType.ByteString)
    nothing, text = ua.Variant(None), ua.Variant("the same", ua.VariantType.String)
    for fields in ([nothing, nothing, text], [nothing, nothing, text], [name, nothing, text], [nothing, at, text]):
        reader.add(told, Notified(0, fields, b""), options, asked, 1000)
    unknown = Flag.ARRIVAL_TIME | Flag.DUP_POSSIBLE
    at_ns = 1_767_225_600_000_000_000
    assert [(one.time_ns, one.flags) for one in told.events] == [
        (1000, unknown), (1001, unknown), (1000, Flag.ARRIVAL_TIME), (at_ns, 0),
    ]  # fmt: skip


# configuration


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([{"notifier": "Server"}], "is not a node address"),
        ([{"types": ["x"]}], "is not a node address"),
        ([{"types": []}], "at least 1 item"),
        ([{"severity": 0}], "greater than or equal to 1"),
        ([{"severity": 1001}], "less than or equal to 1000"),
        ([{"fields": ["A//B"]}], "empty step"),
        ([{"fields": ["70000:A"]}], "above 65535"),
        ([{"fields": ["A", "A"]}], "listed twice"),
        ([{"fields": ["/".join("ABCDEFGHI")]}], "9 steps"),
        ([{}, {"severity": 3}], "the notifier 'i=2253' is listed twice"),
        ([{"notfier": "i=1"}], "Extra inputs"),
    ],
)
def test_mistakes_are_found_before_anything_runs(events: list[dict[str, Any]], message: str) -> None:
    """Each with its reason."""
    with pytest.raises(ValidationError, match=message):
        OpcUaOptions.model_validate({"endpoint": "opc.tcp://127.0.0.1", "security": "None", "events": events})


@pytest.mark.parametrize(
    "text", ["i=2253", "nsu=urn:a%3Bb;s=x", "nsu=urn:b;g=09087e75-8e5e-499b-954f-f2a9603db28a", "nsu=urn:b;b=AAE="]
)
def test_a_node_is_told_as_an_address_that_reads_back(text: str) -> None:
    """Whatever its identifier is."""
    namespaces = ["http://opcfoundation.org/UA/", "urn:a;b", "urn:b"]
    node = parse_address(text).resolve(namespaces)
    assert node is not None
    assert address_text(node, namespaces) == text
    assert address_text(ua.NodeId("x", 7), namespaces) == "ns=7;s=x"
    assert address_text(ua.NodeId(), namespaces) == ""


def test_state_of_an_older_version_is_read(tmp_path: Path) -> None:
    """A file without what events need has none."""
    from adapters.opcua import progress

    old = {"subscription_id": 1, "keep_alive_s": 1.0, "last_sequence": 2, "covered_ns": 3, "refused": {}}
    content = {"version": 1, "fingerprint": "", "server_start": 0, "held": [old], "covered_ns": 3, "owed": None}
    (tmp_path / "s.json").write_text(json.dumps(content))
    [held] = progress.load(tmp_path / "s.json").held
    assert (held.left_out, held.notes) == ({}, [])
    held.left_out, held.notes = {0: [3, 5]}, ["x"]
    progress.save(tmp_path / "s.json", progress.Progress(held=[held]))
    assert progress.load(tmp_path / "s.json").held == [held]
