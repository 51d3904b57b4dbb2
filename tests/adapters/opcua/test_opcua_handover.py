"""The hand-over: what was taken, what is done with, and its end."""

from __future__ import annotations

import asyncio

import pytest

from adapters.opcua.handover import Handover
from schemas.errors import NotConnected


async def test_a_taker_that_comes_again_is_done_with_what_it_took() -> None:
    """An item is finished when the taker asks for the next one, and not when it has only been taken."""
    handover: Handover[str] = Handover()
    await handover.put("gap")
    finished = asyncio.ensure_future(handover.finished())
    assert await handover.take() == "gap"
    await asyncio.wait({finished}, timeout=0.01)
    assert not finished.done()
    coming_again = asyncio.ensure_future(handover.take())
    await finished
    handover.fail(NotConnected("over"))
    with pytest.raises(NotConnected, match="over"):
        await coming_again


async def test_a_full_hand_over_waits_and_keeps_the_order() -> None:
    """The giver waits for room; items come in order, and the failure after them."""
    handover: Handover[int] = Handover()

    async def give() -> None:
        for item in range(3):
            await handover.put(item)
        handover.fail(NotConnected("over"))

    giving = asyncio.ensure_future(give())
    assert [await handover.take() for _ in range(3)] == [0, 1, 2]
    await giving
    with pytest.raises(NotConnected):
        await handover.take()
