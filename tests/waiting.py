"""Waiting for a condition, the one place in the tests that polls; the fixtures ``eventually`` are made of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

Condition = Callable[[], object]
#: Options of a store whose queries may meet a machine that stands still; the limit has tests of its own.
PATIENT_STORE = {"query_limit": "60s"}
_STEP_S = 0.01


def _looks(condition: Condition, within_s: float, what: str, clock: Callable[[], float]) -> Iterator[float]:
    """A pause before each next look, until the condition holds; fails when the time is up."""
    end = clock() + within_s
    while not condition():
        if clock() > end:
            pytest.fail(f"{what or 'the condition'} did not hold within {within_s:g} s")
        yield _STEP_S


def until(condition: Condition, within_s: float = 60.0, what: str = "") -> None:
    """Wait until *condition* holds; fail, naming *what*, when the time is up."""
    for pause_s in _looks(condition, within_s, what, time.monotonic):
        time.sleep(pause_s)  # between two looks


async def until_async(condition: Condition, within_s: float = 60.0, what: str = "") -> None:
    """Like :func:`until`; the event loop goes on meanwhile."""
    for pause_s in _looks(condition, within_s, what, asyncio.get_running_loop().time):
        await asyncio.sleep(pause_s)  # between two looks
