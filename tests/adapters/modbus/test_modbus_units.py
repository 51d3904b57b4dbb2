"""Several units behind one gateway: a dead one costs its own rows and, after a while, no time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.modbus.units import Units
from schemas import status
from schemas.errors import NotConnected
from schemas.samples import SampleBatch
from schemas.tagmap import Tag
from simulators.modbus_server import ModbusServer, RegisterPoint

MakeTag = Callable[..., Tag]
MakeAdapter = Callable[..., Any]
Take = Callable[[Any], Awaitable[SampleBatch]]

POINTS = [RegisterPoint("x", "holding", i, "uint16") for i in (0, 200, 400)]
UNITS = (1, 2, 3)


def tags(make_tag: MakeTag) -> list[Tag]:
    return [make_tag(10 * u + i, f"{u}!HR{a}") for u in UNITS for i, a in enumerate((0, 200, 400))]


def by_unit(batch: SampleBatch) -> dict[int, set[int]]:
    return {u: {row.status for row in batch.rows() if row.tag // 10 == u} for u in UNITS}


async def test_a_dead_unit_is_left_alone_and_found_again(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take
) -> None:
    """
    After two empty polls a silent unit is not asked until its pause is over, its tags are bad in every poll meanwhile,
    and it is told; one request finds it again.
    """
    async with ModbusServer(lambda: {"x": 5}, POINTS, units=UNITS) as server:
        adapter = make_adapter(
            server.port,
            tags(make_tag),
            address_style="zero_based",
            timeout="100ms",
            degrade={"after": 2, "pause": "400ms"},
        )
        await adapter.connect()
        assert by_unit(await take(adapter)) == {1: {0}, 2: {0}, 3: {0}}
        server.silent_units = {2}
        for _ in range(2):
            assert by_unit(await take(adapter)) == {1: {0}, 2: {status.BAD_TIMEOUT}, 3: {0}}
        assert adapter.facts["degraded"] == "unit 2: no answer, asked each 0.4 s"
        paused = adapter.counters["timeouts"]
        begun = asyncio.get_running_loop().time()
        polls = 0
        while asyncio.get_running_loop().time() < begun + 0.2:
            assert by_unit(await take(adapter)) == {1: {0}, 2: {status.BAD_NO_COMMUNICATION}, 3: {0}}
            polls += 1
        assert adapter.counters["timeouts"] == paused
        assert polls >= 3  # at 20 ms a poll; a time-out each would leave one or two
        server.silent_units = set()
        for _ in range(200):
            if by_unit(await take(adapter))[2] == {0}:
                break
        assert by_unit(await take(adapter)) == {1: {0}, 2: {0}, 3: {0}}
        assert adapter.facts["degraded"] == "none"
        assert adapter.counters["degraded_units"] == 1


async def test_without_degrading_each_poll_waits(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """The same unit costs a time-out in every poll where it is never left alone (negative control)."""
    async with ModbusServer(lambda: {"x": 5}, POINTS, units=UNITS) as server:
        adapter = make_adapter(
            server.port,
            tags(make_tag),
            address_style="zero_based",
            timeout="100ms",
            degrade={"after": 1000, "pause": "400ms"},
        )
        await adapter.connect()
        server.silent_units = {2}
        for n in range(1, 6):
            await take(adapter)
            assert adapter.counters["timeouts"] >= n


async def test_a_unit_that_the_gateway_does_not_reach_is_left_alone_too(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take
) -> None:
    """Exception 11 of one unit is that unit's affair: the connection stays, the others go on, it is not asked on."""
    async with ModbusServer(lambda: {"x": 5}, POINTS, units=(1, 3)) as server:
        adapter = make_adapter(server.port, tags(make_tag), address_style="zero_based")
        await adapter.connect()
        for _ in range(5):
            assert by_unit(await take(adapter)) == {1: {0}, 2: {status.BAD_NO_COMMUNICATION}, 3: {0}}
        assert adapter.counters["exceptions"] <= 4
        assert adapter.counters["connections"] == 1
        assert adapter.facts["degraded"].startswith("unit 2")


async def test_a_dead_unit_with_a_scan_of_its_own_costs_its_neighbour_nothing(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take
) -> None:
    """
    Polls that ask the dead unit alone say nothing of the gateway: no connection is given up, the unit is degraded, and
    the slower neighbour has its value in each of its polls.
    """
    async with ModbusServer(lambda: {"x": 5}, POINTS, units=UNITS) as server:
        server.silent_units = {2}
        adapter = make_adapter(
            server.port,
            [make_tag(10, "1!HR0", scan_ms=450), make_tag(20, "2!HR0", scan_ms=150)],
            address_style="zero_based",
            timeout="100ms",
        )
        await adapter.connect()
        statuses: dict[int, list[int]] = {10: [], 20: []}
        while status.BAD_NO_COMMUNICATION not in statuses[20] or len(statuses[10]) < 4:
            assert len(statuses[20]) < 200
            for row in (await take(adapter)).rows():
                statuses[row.tag].append(row.status)
    assert set(statuses[10]) == {0}
    assert set(statuses[20][:2]) == {status.BAD_TIMEOUT}
    assert statuses[20][-1] == status.BAD_NO_COMMUNICATION
    assert adapter.counters["degraded_units"] == 1
    assert adapter.facts["degraded"].startswith("unit 2")


async def test_a_gateway_that_dies_is_told_when_its_last_unit_is_asked(
    make_tag: MakeTag, make_adapter: MakeAdapter, lose: Callable[[Any], Awaitable[NotConnected]], take: Take
) -> None:
    """Units with scans of their own: each has failed once, and the loss is told; nobody is left alone after it."""
    async with ModbusServer(lambda: {"x": 5}, POINTS, units=UNITS) as server:
        adapter = make_adapter(
            server.port,
            [make_tag(10, "1!HR0", scan_ms=300), make_tag(20, "2!HR0", scan_ms=200)],
            address_style="zero_based",
            timeout="100ms",
            fail_after=1,
        )
        await adapter.connect()
        assert {row.status for row in (await take(adapter)).rows()} == {0}
        server.silent_units = {1, 2, 3}
        assert "no reply" in str(await lose(adapter))
        server.silent_units = set()
        await adapter.connect()
        assert {(row.tag, row.status) for row in (await take(adapter)).rows()} == {(10, 0), (20, 0)}
        assert adapter.counters["degraded_units"] == 0


def poll(units: Units, at: int, **answers: bool) -> None:
    """One poll that asks the units named: ``u2=False`` failed."""
    units.begin(float(at))
    for name, answered in answers.items():
        unit = int(name[1:])
        if unit in units.given_up:
            continue
        if answered:
            units.answered(unit)
        else:
            units.failed(unit, status.BAD_TIMEOUT, "no reply")
            units.failed(unit, status.BAD_TIMEOUT, "no reply")
    units.end({int(name[1:]) for name in answers}, float(at))


def test_an_answer_from_before_says_nothing_of_the_gateway() -> None:
    """A gateway that is away for a moment takes no unit out for the pause; one that is dead behind it is degraded."""
    units = Units(2, 2, 600.0, Counter())
    poll(units, 0, u1=True, u2=True)
    for at in range(1, 6):
        poll(units, at, u2=False)
    assert (units.alive, units.degraded) == ({1}, {})
    poll(units, 6, u1=True)
    poll(units, 7, u2=True)
    assert (units.alive, units.degraded) == ({1, 2}, {})
    for at in (8, 9):
        poll(units, at, u2=False)
    poll(units, 10, u1=True)
    poll(units, 11, u2=False)
    assert (units.alive, units.degraded) == ({1}, {2: 611.0})


def test_a_new_connection_keeps_what_is_known_of_the_dead() -> None:
    """One request asks them anew, and another empty poll is enough to leave them alone again."""
    units = Units(2, 2, 600.0, Counter())
    for at in range(2):
        poll(units, at, u1=True, u2=False)
    units.restart()
    assert units.degraded.keys() == {2}
    units.begin(2.0)
    assert not units.given_up
    units.failed(2, status.BAD_TIMEOUT, "no reply")
    assert units.given_up.keys() == {2}
    units.answered(1)
    units.end({1, 2}, 2.0)
    assert units.degraded == {2: 602.0}


@pytest.mark.parametrize("fail_after", [1, 2, 3])
def test_a_unit_alone_is_never_paused(fail_after: int) -> None:
    """Where nobody else is slowed down, a unit is asked in every poll, so that it is found as soon as it is back."""
    units = Units(fail_after, 2, 600.0, Counter())
    for poll in range(20):
        units.begin(float(poll))
        assert not units.given_up
        for _ in range(fail_after):
            units.failed(7, status.BAD_TIMEOUT, "no reply")
        assert units.given_up == {7: status.BAD_TIMEOUT}
        units.end({7}, float(poll))
    assert not units.degraded


@given(st.lists(st.dictionaries(st.integers(1, 4), st.booleans(), min_size=4, max_size=4), max_size=40))
def test_only_the_silent_are_paused(polls: list[dict[int, bool]]) -> None:
    """A unit that answered in a poll is never paused after it, whatever came before."""
    units = Units(2, 2, 5.0, Counter())
    for at, answers in enumerate(polls):
        units.begin(float(at))
        for unit, answered in answers.items():
            if unit in units.given_up:
                continue
            if answered:
                units.answered(unit)
            else:
                units.failed(unit, status.BAD_TIMEOUT, "no reply")
                units.failed(unit, status.BAD_TIMEOUT, "no reply")
        asked_and_answered = {u for u, answered in answers.items() if answered and u in units.answered_now}
        units.end(set(answers), float(at))
        assert not asked_and_answered & units.degraded.keys()
        if units.heard:
            assert all(until > at for until in units.degraded.values())
