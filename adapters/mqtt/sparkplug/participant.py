"""One connection's Sparkplug duties: births over restarts, waiting messages, rebirth requests, and our own STATE."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from adapters.base import AdapterContext
from adapters.mqtt.sparkplug import commands, store, topics
from adapters.mqtt.sparkplug.host import Host
from adapters.mqtt.sparkplug.options import SparkplugOptions
from schemas.samples import Gap

#: ``publish(topic, payload, qos, retain)``.
Publish = Callable[[str, bytes, int, bool], None]


class Saved(NamedTuple):
    """Births and positions to keep, each None where nothing changed."""

    births: bytes | None = None
    positions: bytes | None = None


class Outcome(NamedTuple):
    """
    What a decoded batch did beside its rows.

    ``waiting`` messages of it wait for others; ``done`` are tickets of messages that had waited and are in it now;
    ``saved`` is what to keep once it is durable.
    """

    waiting: int
    done: list[Any]
    saved: Saved
    gaps: list[Gap]


class Participant:
    """
    Stands between the adapter and the host.

    Counters: ``births_damaged`` (the file of births cannot be read, so births are awaited anew), ``state_unwritten``,
    ``state_contradicted`` (another client said later than we that we are offline, so we connect anew).
    """

    def __init__(self, options: SparkplugOptions, context: AdapterContext, counters: Counter[str], host: Host) -> None:
        self._context = context
        self._counters = counters
        self._host = host
        self._births: bytes | None = None
        self._mark = 0
        self._positions: bytes | None = None
        self._recalled = False
        self._since_ms = 0
        #: Why a connection with a new will is needed; None while our STATE stands.
        self.contradicted: str | None = None
        self.state_topic = topics.state(options.host_id) if options.host_id is not None else None
        host.state_topic = self.state_topic

    def will(self) -> tuple[str, bytes] | None:
        """
        Topic and payload of the will of a primary host; a new connection begins with it.

        Its time is that of the online message, and not before any at which we were said to be offline: edge nodes pass
        over a STATE older than the last one (Eclipse Sparkplug 3.0.0, edge-node-birth-publish-phid-wait-timestamp).
        """
        self.contradicted = None
        self._since_ms = max(self._context.now_ns() // 10**6, self._host.offline_ms or 0)
        self._host.offline_ms = None
        return None if self.state_topic is None else (self.state_topic, commands.state(False, self._since_ms))

    def begin(self, *, kept: bool, now_s: float) -> None:
        """Begin with the births of what was settled. Raises OSError where the state folder cannot be used."""
        folder = self._context.state_dir
        if not self._recalled:
            self._births, damaged = store.recall(folder)
            self._counters["births_damaged"] += damaged
            self._mark = store.mark(self._births or b"")
            self._positions = None if self._births is None else store.recall_positions(folder, self._mark)
            self._recalled = True
        try:
            self._host.restore(self._births, self._positions, kept=kept, now_s=now_s)
        except ValueError:  # written by another version
            self._counters["births_damaged"] += 1
            self._births = self._positions = None
            self._host.restore(None, kept=False, now_s=now_s)
        if self._host.changed:  # what is not trusted now must not be trusted after a restart
            fresh = self._host.dump()
            store.keep(folder, fresh)
            self._births, self._mark = fresh, store.mark(fresh)
            if self._positions is not None:
                store.keep_positions(folder, self._mark, self._positions)

    def online(self, publish: Publish) -> None:
        """Say that we are there, and ask for the births that are missing."""
        if self.state_topic is not None:
            publish(self.state_topic, commands.state(True, self._since_ms), 1, True)
        self.say(publish)

    def offline(self, publish: Publish) -> None:
        """Say that we leave; not where we come back at once because another has said so already."""
        if self.state_topic is not None and self.contradicted is None:
            now_ms = max(self._context.now_ns() // 10**6, self._since_ms)
            publish(self.state_topic, commands.state(False, now_ms), 1, True)

    def say(self, publish: Publish) -> None:
        """Publish what the last messages made due."""
        if self.state_topic is not None and self._host.offline_ms is not None and self.contradicted is None:
            self._answer(publish, self.state_topic, self._host.offline_ms)
        due, self._host.losses.commands = self._host.losses.commands, []
        for topic in due:
            publish(topic, commands.rebirth(self._context.now_ns() // 10**6), 0, False)

    def _answer(self, publish: Publish, topic: str, offline_ms: int) -> None:
        """
        Put right another's word that we are offline.

        Edge nodes take our online message only where it is not older than that word. A newer one would leave the will
        behind, which they would then pass over when we really die: so both are renewed together, over a new connection.
        """
        if offline_ms <= self._since_ms:
            self._host.offline_ms = None
            publish(topic, commands.state(True, self._since_ms), 1, True)
            return
        self.contradicted = f"{topic}: another client says that we are offline; connecting anew with a new STATE"
        self._counters["state_contradicted"] += 1

    def outcome(self) -> Outcome:
        """What the batch decoded last did; call :meth:`tie` when its ticket is known."""
        host = self._host
        done = [item for item in host.finished if item.ticket is not None]
        host.held = [item for item in host.held if not any(item is one for one in host.finished)]
        host.finished = []
        gaps, host.losses.gaps = host.losses.gaps, []
        saved = Saved(host.dump() if host.changed else None, host.positions() if host.moved else None)
        return Outcome(len(host.held), [item.ticket for item in done], saved, gaps)

    def tie(self, ticket: Any) -> None:
        """Tie the messages that wait to the ticket of the batch they came with."""
        for item in self._host.held:
            item.ticket = ticket
        self._host.held = []

    async def settled(self, saved: Saved) -> None:
        """Keep what a batch that is durable has changed, before its messages are acknowledged."""
        folder = self._context.state_dir
        try:
            if saved.births is not None:
                self._births, self._mark = saved.births, store.mark(saved.births)
                await asyncio.to_thread(store.keep, folder, saved.births)
            if saved.positions is not None:
                self._positions = saved.positions
                if self._births is not None:
                    store.keep_positions(folder, self._mark, saved.positions)
        except OSError:
            self._positions = saved.positions or self._positions
            self._counters["state_unwritten"] += 1  # a restart asks for births that it would have known
