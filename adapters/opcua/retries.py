"""When to ask a server again for what it refused: the node may be there by then, or fit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from adapters.opcua.config import Retry
from schemas import status

#: The server does not know the node.
GONE: Final = frozenset({status.BAD_NODE_ID_UNKNOWN, status.BAD_NODE_ID_INVALID})


class RetryClock:
    """
    The time of the next try of each refused item, by number; on the event loop's clock.

    Refusals come as status codes by number.
    """

    def __init__(self, options: Retry) -> None:
        self._options = options
        self._at: dict[int, float] = {}

    def due(self, refused: Mapping[int, int]) -> dict[int, int]:
        """Those of these refusals whose time has come."""
        now = asyncio.get_running_loop().time()
        return {number: code for number, code in refused.items() if self._at.get(number, 0.0) <= now}

    def start(self, numbers: Iterable[int], refused: Mapping[int, int]) -> None:
        """Begin to wait for each of these numbers that is refused; the others are waited for no more."""
        now = asyncio.get_running_loop().time()
        for number in numbers:
            self._at.pop(number, None)
            if number in refused:
                gone = refused[number] in GONE
                self._at[number] = now + (self._options.invalid_node if gone else self._options.bad_node)
