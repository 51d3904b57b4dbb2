"""CPU time by stage: functions of the product are wrapped for the length of a measurement, and put back."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stages:
    """
    Exclusive CPU seconds of this thread by stage; a stage inside another one is not counted twice.

    ``spent`` maps the stage to seconds of user and system time; ``calls`` counts its calls.
    """

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.calls: defaultdict[str, int] = defaultdict(int)
        self._inner = [0.0]

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function with its time counted under *stage*."""

        def timed(*args: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            begun = time.thread_time()
            try:
                return function(*args, **named)
            finally:
                took = time.thread_time() - begun
                self.spent[stage] += took - self._inner.pop()
                self._inner[-1] += took
                self.calls[stage] += 1

        return timed

    @contextmanager
    def of(self, places: list[tuple[Any, str, str]]) -> Iterator[None]:
        """Wrap (owner, name of the function, stage) for the length of the block."""
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
        for owner, name, stage in places:
            setattr(owner, name, self.wrap(stage, getattr(owner, name)))
        try:
            yield
        finally:
            for owner, name, function in before:
                setattr(owner, name, function)
