"""Acknowledgements in the order in which the messages came, whatever the order in which deliveries are settled."""

from __future__ import annotations

from collections import deque
from typing import Any

from adapters.mqtt.message import Block


class Ticket:
    """
    Message ids of one delivery, in order.

    ``open`` is for how many reasons they may not be acknowledged yet: the delivery itself, and each of its messages
    that waits for a later one. ``note`` is the holder's: what is true once this and all earlier tickets are released.
    """

    __slots__ = ("mids", "note", "open")

    def __init__(self, mids: list[bytes], waiting: int = 0, note: Any = None) -> None:
        self.mids = mids
        self.open = 1 + waiting
        self.note = note


class Tickets:
    """The tickets of one connection that are not released yet; a broker wants its PUBACKs in order (MQTT 5.0, 4.6)."""

    def __init__(self) -> None:
        self._held: deque[Ticket] = deque()

    def __bool__(self) -> bool:
        return bool(self._held)

    def hold(self, messages: Block, waiting: int = 0, note: Any = None) -> Ticket:
        """Remember what to acknowledge when the ticket is released once, and once more for each waiting message."""
        ticket = Ticket([mid for mid in messages.mids if mid], waiting, note)
        self._held.append(ticket)
        return ticket

    def release(self, ticket: Ticket) -> list[Ticket]:
        """Release a ticket; return those that are free now, every earlier one being released, to acknowledge them."""
        ticket.open -= 1
        free: list[Ticket] = []
        while self._held and not self._held[0].open:
            free.append(self._held.popleft())
        return free
