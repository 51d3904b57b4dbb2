"""Limits of servers, requests in parts, what is refused, and who holds back values inside a deadband."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError

from adapters.opcua import OpcUaOptions
from adapters.opcua.items import Granted, Maker, deadband
from adapters.opcua.limits import NODES, Limits
from adapters.opcua.profiles import PROFILES
from schemas import status
from schemas.tagmap import Tag
from simulators.opcua_server import OpcUaServer
from tests.node_opcua import URI

TOO_MANY = int(ua.StatusCodes.BadTooManyMonitoredItems)


def _said(*numbers: int | None) -> list[ua.DataValue]:
    """What a server says of its limits; None: it does not have the node."""
    nothing = ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown))
    return [nothing if n is None else ua.DataValue(ua.Variant(n, ua.VariantType.UInt32)) for n in numbers]


@pytest.mark.parametrize(
    ("said", "profile", "want"),
    [
        ((None, None, None, None, None), "auto", Limits(100, 100, 100, 0, 0)),
        ((0, 0, 0, 0, 0), "auto", Limits(1000, 1000, 1000, 0, 0)),
        ((50, 20, 10, 500, 200), "auto", Limits(50, 20, 10, 500, 200)),
        ((2000, 1000, 1000, None, None), "siemens-s7-1200", Limits(1000, 100, 1000, 1000, 0, False)),
        ((2000, 1000, 1000, 300, None), "siemens-s7-1200", Limits(1000, 100, 1000, 300, 0, False)),
        ((None, None, None, None, None), "siemens-s7-1500", Limits(100, 100, 100, 10_000, 0)),
        ((0, 5000, 0, None, None), "prosys", Limits(1000, 800, 1000, 0, 0)),
    ],
)
def test_the_lower_of_server_and_profile_counts(said: tuple[Any, ...], profile: Any, want: Limits) -> None:
    """Missing limits are taken as 100 a request and none in all, 0 as none."""
    assert len(NODES) == len(said)
    assert Limits.of(_said(*said), profile) == want
    assert set(PROFILES) == {"auto", "high-performance", "ignition", "kepware", "siemens-s7-1200", "siemens-s7-1500",
                             "prosys"}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "choice", "want"),
    [
        ({"deadband": 2.0, "factor": 0.5, "offset": 7.0, "scale_mode": "linear"}, "server", 4.0),
        ({"deadband": 2.0, "factor": -0.5}, "server", 4.0),
        ({"deadband": 2.0, "scale_mode": "sqrt"}, "server", 0.0),
        ({"deadband": 2.0}, "client", 0.0),
        ({"deadband": 2.0}, "auto", 0.0),
        ({"deadband": 2.0, "detect": "none"}, "auto", 2.0),
        ({}, "server", 0.0),
    ],
)
def test_the_deadband_is_asked_for_in_the_unit_of_the_server(more: Any, choice: str, want: float) -> None:
    """A band in bar becomes one in raw counts; what detectors look at is not held back at the server."""
    tag = Tag(number=0, id="t", path="A/B/C", source="s", address="i=1", **more)
    assert deadband(tag, choice) == want


@pytest.fixture
def creating(server: OpcUaServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """``creating(judge)``: the server asks ``judge(items)`` first; gives the sizes of the requests that were served."""
    service = server._server.iserver.subscription_service  # type: ignore[union-attr]
    make = service.create_monitored_items

    def change(judge: Callable[[Any], Any]) -> list[int]:
        served: list[int] = []

        async def create(params: Any) -> Any:
            judge(params.ItemsToCreate)
            served.append(len(params.ItemsToCreate))
            return await make(params)

        monkeypatch.setattr(service, "create_monitored_items", create)
        return served

    return change


async def test_a_request_that_is_too_large_is_halved(server, make_tags, make_adapter, take, creating) -> None:
    """BadTooManyOperations for more than two items: all are made, and nothing is refused."""

    def at_most_two(items: Any) -> None:
        if len(items) > 2:
            raise ServiceError(ua.StatusCodes.BadTooManyOperations)

    served = creating(at_most_two)
    adapter = make_adapter(server.endpoint, make_tags("N", "Big", "Still", "Dead"))
    await adapter.connect()
    assert served == [2, 2]
    taken = await take(adapter, lambda t: bool(t.values(0)) and bool(t.values(2)))
    assert adapter.facts["items"] == "4 of 4 watched"
    assert not taken.gaps


async def test_what_one_item_alone_makes_too_much_is_refused(server, make_tags, make_adapter, take, creating) -> None:
    """The server has room for none of one kind: that item is a Bad row with the server's reason, the rest flows."""

    def no_more(items: Any) -> None:
        if any(item.ItemToMonitor.NodeId.Identifier == "Big" for item in items):
            raise ServiceError(TOO_MANY)

    creating(no_more)
    adapter = make_adapter(server.endpoint, make_tags("N", "Big", "Still"))
    await adapter.connect()
    taken = await take(adapter, lambda t: bool(t.values(0)) and bool(t.values(2)))
    assert [row.status for b in taken.batches for row in b.rows() if row.tag == 1] == [TOO_MANY]
    assert "0x80DB0000" in adapter.facts["refused"]


async def test_tags_beyond_the_limit_are_reported(server, make_tags, make_adapter, take, creating, monkeypatch) -> None:
    """The limit is never exceeded, also not at the retry; what is not covered is a Bad row and named in the facts."""
    monkeypatch.setattr("adapters.opcua.adapter.Limits.of", lambda values, profile: Limits(items=2, per_subscription=1))
    served = creating(lambda items: None)
    adapter = make_adapter(server.endpoint, make_tags("N", "Big", "Still"), retry={"bad_node": "100ms"})
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(0)) >= 40)
    assert [row.status for b in taken.batches for row in b.rows() if row.tag == 2] == [TOO_MANY]
    assert adapter.facts["items"] == "2 of 3 watched"
    assert (served, len(adapter._watching.watches)) == ([1, 1], 3)


async def test_a_server_holds_back_and_refuses_what_it_cannot(peer, make_tags, make_adapter, take) -> None:
    """Of a counter with a band of 3 every fourth tick comes; a text's band is refused and its values all come."""
    tags = make_tags("Line1.UInt32", "Line1.Text", "Line1.Int32", uri=URI)
    tags = [tag.model_copy(update={"deadband": 3.0} if tag.number < 2 else {}) for tag in tags]
    adapter = make_adapter(peer.endpoint, tags, deadband="server")
    await adapter.connect()
    assert adapter.facts["deadband"] == "the server holds back 1 items, 1 that it refused are held back here"
    taken = await take(adapter, lambda t: len(t.values(0)) >= 3)
    steps = [int(b) - int(a) for a, b in zip(taken.values(0), taken.values(0)[1:], strict=False)]
    assert all(step >= 4 for step in steps)
    assert len(taken.values(1)) > len(taken.values(0))
    assert len(taken.values(2)) > len(taken.values(0))


async def test_a_profile_without_filters_is_not_asked_for_one(server, make_tags, make_adapter, creating) -> None:
    """An S7-1200 has none, so every value comes and our own deadband holds back; control: another profile is asked."""
    asked: list[int] = []

    def note(items: Any) -> None:
        asked.append(sum(hasattr(item.RequestedParameters.Filter, "DeadbandValue") for item in items))

    creating(note)
    tags = [tag.model_copy(update={"deadband": 5.0}) for tag in make_tags("N", "Still")]
    for profile, want in (("auto", [2]), ("siemens-s7-1200", [0])):
        asked.clear()
        adapter = make_adapter(server.endpoint, tags, deadband="server", profile=profile)
        await adapter.connect()
        assert asked == want
        await adapter.close()


async def test_recreate_takes_nothing_over(server, make_tags, make_adapter, take) -> None:
    """With `recover: recreate` a restart makes new subscriptions at once, and the time between is a gap."""
    adapter = make_adapter(server.endpoint, make_tags("N"), recover="recreate")
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 3)
    await adapter.close()
    again = make_adapter(server.endpoint, make_tags("N"), recover="recreate")
    await again.connect()
    taken = await take(again, lambda t: len(t.values(0)) >= 3)
    assert [gap.detail for gap in taken.gaps] == ["not asked for (`recover: recreate`)"]
    assert (again.counters["resumed"], again.counters["recreated"]) == (0, 1)


def test_what_is_asked_for_an_item() -> None:
    """Queue, sampling and discard policy are sent explicitly."""
    options = OpcUaOptions.model_validate(
        {"endpoint": "opc.tcp://127.0.0.1/", "security": "None", "subscription": {"discard": "newest", "queue": 7}}
    )
    maker = Maker(None, options, Limits())  # type: ignore[arg-type]
    tag = Tag(number=3, id="t", path="A/B/C", source="s", address="i=1", scan_ms=250)
    asked = maker._item(tag, ua.NodeId(1), filtered=True).RequestedParameters
    assert (asked.ClientHandle, asked.SamplingInterval, asked.QueueSize, asked.DiscardOldest, asked.Filter) == (
        3, 250.0, 7, False, None,
    )  # fmt: skip


def test_facts_name_what_was_revised() -> None:
    """More than 20 % off is told, less is not."""
    granted = Granted((1000.0, 1000.0), [(100.0, 119.0, 10, 10), (20.0, 50.0, 100, 10)])
    facts = granted.facts()
    assert facts["sampling"] == "1 items revised, e.g. requested 20 ms, revised to 50 ms"
    assert facts["queue"] == "1 items cut, e.g. requested 100, granted 10"
    assert Granted((1000.0, 1000.0), [(100.0, 119.0, 10, 10)]).facts()["sampling"] == "as requested"
    assert status.name(TOO_MANY) == "0x80DB0000"
