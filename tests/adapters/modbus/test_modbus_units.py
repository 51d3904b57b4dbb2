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
