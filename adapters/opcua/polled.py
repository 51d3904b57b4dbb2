"""The nodes of a source that is read in cycles: what has none on this connection is looked for again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from adapters.opcua.config import Retry
from adapters.opcua.link import Link
from adapters.opcua.nodes import Addresses, Nodes
from adapters.opcua.retries import RetryClock
from adapters.opcua.watching import NAMESPACES, namespaces_of


class Polled:
    """
    Nodes of one connection by number of the tag, None where there is none; ``refused`` has the status of those.

    *met* is awaited with each namespace array that is read here.
    """

    def __init__(
        self,
        link: Link,
        nodes: Nodes,
        addresses: Addresses,
        options: Retry,
        met: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        self.nodes = dict(nodes)
        self._link = link
        self._addresses = addresses
        self._clock = RetryClock(options)
        self._met = met
        self.refused = {number: addresses.missing(number) for number, node in nodes.items() if node is None}
        self._clock.start(self.refused, self.refused)

    async def retry(self) -> bool:
        """
        Look again for what has no node and whose time has come; a namespace may be there by now.

        Returns whether any has a node now. Raises link errors, and NotConnected where the server shows no namespaces.
        """
        due = self._clock.due(self.refused)
        if not due:
            return False
        namespaces = namespaces_of(*await self._link.read([NAMESPACES], 1))
        await self._met(namespaces)
        found = self._addresses.resolve(namespaces, due)
        self.nodes.update(found)
        for number, node in found.items():
            if node is None:
                self.refused[number] = self._addresses.missing(number)
            else:
                del self.refused[number]
        self._clock.start(due, self.refused)
        return any(node is not None for node in found.values())
