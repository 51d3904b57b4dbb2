"""MQTT adapter: subscribes, hands over what came, and acknowledges only what is journalled."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Final, NamedTuple

from adapters.base import AdapterContext, Continuity
from adapters.insecure import refuse_when_over
from adapters.mqtt import login, memory
from adapters.mqtt.config import MqttOptions
from adapters.mqtt.decode import Decoder
from adapters.mqtt.session import Session
from adapters.mqtt.sparkplug.participant import Outcome, Participant, Saved
from adapters.mqtt.tickets import Ticket
from schemas.errors import NotConnected
from schemas.samples import Delivery, Gap, GapCause, Reject, SampleBatch

_BATCH_MESSAGES: Final = 5000
_REMEMBER_EVERY_NS: Final = 5 * 10**9
#: So many connects within so many seconds are an alarm.
_ALARM_CONNECTS: Final = 3
_ALARM_S: Final = 60.0
_NOTHING: Final = Outcome(0, [], Saved(), [])


class _Settled(NamedTuple):
    """What a ticket says once it is free: when its last message came, and the Sparkplug state behind it."""

    last_ns: int
    saved: Saved


class MqttAdapter:
    """
    Reads one broker over a persistent session.

    A message of QoS 1 is acknowledged when its delivery is settled, refused messages included, for otherwise they
    would come back for ever. Counters beside those of the decoder and the session: ``refused_items`` (filters the
    broker refused), ``reconnect_alarms`` (three connects within a minute), ``session_memory_damaged`` (the file that
    remembers the session cannot be read), ``state_unwritten``.

    ``covered_ns`` is when the last settled message came, or later the last answered ping with nothing waiting; it is
    None with QoS 0, which the broker does not keep for us.
    """

    def __init__(self, options: MqttOptions, context: AdapterContext) -> None:
        self.counters: Counter[str] = Counter()
        self.facts: dict[str, str] = {}
        self.covered_ns: int | None = None
        self.continuity: Continuity = "unknown"
        self._options = options
        self._context = context
        self._decoder = Decoder(options, context, self.counters, self.facts)
        host = self._decoder.host
        self._sparkplug = None if host is None else Participant(options.sparkplug, context, self.counters, host)
        self._session: Session | None = None
        self._memory = memory.Memory("")
        self._durable: tuple[object, ...] = ()
        self._written_ns = 0
        self._gaps: deque[Gap] = deque()
        self._connects: deque[float] = deque(maxlen=_ALARM_CONNECTS)
        self._rejects: list[Reject] = []
        self._settling = asyncio.Lock()

    async def connect(self) -> None:
        """
        Connect, resume the session, subscribe, and drop filters that are no longer wanted.

        Raises:
            NotConnected: no connection, refused, or credentials that cannot be read.
        """
        await self.close()
        refuse_when_over(self._options.insecure(), self._context.now_ns, "use mqtts://")
        self._watch_reconnects()
        self._recall()
        self._cover()
        credentials = login.resolve(self._options, self._memory.client_id, self._context.base_dir)
        if self._sparkplug is not None and (will := self._sparkplug.will()) is not None:
            credentials = credentials._replace(will=login.Will(*will))
        self._session = session = Session(
            self._options, credentials, self._context.now_ns, self.counters, self._all_settled
        )
        try:
            await self._establish(session)
            if self._sparkplug is not None:
                self._sparkplug.online(session.publish)
        except (NotConnected, asyncio.CancelledError):
            await self.close()
            raise

    async def read(self) -> Delivery | Gap:
        """
        Wait for messages and return all that came together as one batch, or a gap first where there is one.

        Raises:
            NotConnected: the connection is gone; what came over it was returned before. Or another client has said
                that the Sparkplug host which we are is offline, which only a new connection puts right.
        """
        while True:
            if self._gaps:
                return self._gaps.popleft()
            if self._session is None:
                raise NotConnected("not connected")
            if self._sparkplug is not None and self._sparkplug.contradicted is not None:
                raise NotConnected(self._sparkplug.contradicted)
            if self._rejects:
                rejects, self._rejects = tuple(self._rejects), []
                return Delivery(self._empty(), None, rejects)
            delivery = await self._next(self._session)
            if delivery is not None:
                return delivery

    async def close(self) -> None:
        """Disconnect; the broker keeps the session and what is unacknowledged."""
        session, self._session = self._session, None
        if session is not None:
            if self._sparkplug is not None:
                self._sparkplug.offline(session.publish)
            await session.close()
            self._remember_if_possible()

    async def _establish(self, session: Session) -> None:
        present = await session.open()
        self._note_session(present, session.properties)
        self._begin_sparkplug(kept=present and self._options.qos == 1)
        wanted = self._filters()
        unwanted = [old for old in self._memory.filters if old not in wanted]
        # Both until the broker has answered: a filter is forgotten only when it is surely gone.
        self._memory.filters, self._memory.session = wanted + unwanted, True
        self._memory.last_ns = self._memory.last_ns or self._context.now_ns()
        self._cover()
        self._remember()
        await session.subscribe(wanted, unwanted if present else [])
        self._note_granted(session)

    def _begin_sparkplug(self, *, kept: bool) -> None:
        if self._sparkplug is not None:
            try:
                self._sparkplug.begin(kept=kept, now_s=asyncio.get_running_loop().time())
            except OSError as error:
                raise NotConnected(f"cannot use {self._context.state_dir}: {error}") from error

    async def _next(self, session: Session) -> Delivery | None:
        """Return the next delivery, or None when what came concerns no tag and is acknowledged already."""
        loop = asyncio.get_running_loop()
        host = self._decoder.host
        await session.wait(None if host is None else host.due_s)
        messages = session.inbox.take(_BATCH_MESSAGES)
        self._note_granted(session)
        dropped = session.inbox.take_dropped()
        if dropped is not None:
            detail = f"{dropped.messages} messages of QoS 0 found no room"
            self._gap(GapCause.BUFFER_DROPPED, dropped.from_ns, dropped.to_ns, detail)
        if not messages and host is None:
            return None
        batch, rejects = self._decoder.decode(messages, loop.time())
        extra = _NOTHING if self._sparkplug is None else self._sparkplug.outcome()
        last_ns = messages.arrivals[-1] if messages else 0
        ticket = session.tickets.hold(messages, extra.waiting, _Settled(last_ns, extra.saved))
        if self._sparkplug is not None:
            self._sparkplug.tie(ticket)
            self._sparkplug.say(session.publish)
        self._gaps.extend(extra.gaps)
        best_effort = messages.best_effort()
        if best_effort and not self._memory.best_effort:
            self._memory.best_effort = True
            self._remember_if_possible()

        async def settle(error: Exception | None) -> None:
            if error is None:
                await self._release(session, [*extra.done, ticket])
            else:
                self.counters["dropped"] += best_effort
                await session.refuse(f"a delivery was not taken: {error}")

        if len(batch) or rejects:
            return Delivery(batch, settle, rejects)
        await settle(None)
        return None

    async def _release(self, session: Session, tickets: list[Ticket]) -> None:
        """Release tickets, and keep and acknowledge what is free now: nothing moves past an unsettled delivery."""
        async with self._settling:  # a delivery and a batch without rows may come here at once
            free = [one for ticket in tickets for one in session.tickets.release(ticket)]
            notes: list[_Settled] = [one.note for one in free]
            if self._sparkplug is not None:
                births = [note.saved.births for note in notes if note.saved.births is not None]
                positions = [note.saved.positions for note in notes if note.saved.positions is not None]
                last = Saved(births[-1] if births else None, positions[-1] if positions else None)
                await self._sparkplug.settled(last)
            session.acknowledge(free)
            if notes:
                self._came(max(note.last_ns for note in notes))

    def _filters(self) -> list[str]:
        """What to subscribe to: the configured filters, and our own STATE where we are a primary host."""
        filters = [item.filter for item in self._options.subscriptions]
        own = None if self._sparkplug is None else self._sparkplug.state_topic
        return filters if own is None or self._options.subscription_of(own) is not None else [*filters, own]

    def _empty(self) -> SampleBatch:
        context = self._context
        return SampleBatch.build(context.name, context.map_revision, context.now_ns(), tag=[], source_ns=[], value=[])

    def _gap(self, cause: GapCause, from_ns: int, to_ns: int, detail: str) -> None:
        self._gaps.append(self._context.gap(cause, (), from_ns, to_ns, detail))

    def _note_session(self, present: bool, properties: dict[str, int]) -> None:
        self.continuity = "unknown"
        if self._options.qos and present:
            # What publishers send with QoS 0 the broker does not keep while we are away (MQTT 5.0, 4.3.1).
            self.continuity = "unknown" if self._memory.best_effort else "kept"
        elif self._options.qos and self._memory.session:
            self.continuity = "lost"
            detail = "the broker no longer held our session"
            self._gap(GapCause.SESSION_LOST, self._memory.last_ns, self._context.now_ns(), detail)
        self._memory.best_effort = self._memory.best_effort and present
        self.facts.update(
            client_id=self._memory.client_id,
            protocol=self._options.protocol,
            session="resumed" if present else "new",
            **{name: str(value) for name, value in properties.items()},
        )

    def _note_granted(self, session: Session) -> None:
        granted = session.take_granted()
        if granted is None:
            return
        filters = self._filters()
        self._memory.filters = filters
        self._remember_if_possible()
        for pattern, code in zip(filters, granted, strict=True):
            if code >= 0x80:
                self.counters["refused_items"] += 1
                reason = f"the broker refuses this filter, code 0x{code:02X}"
                self.facts[f"filter {pattern}"] = reason
                now_ns = self._context.now_ns()
                self._rejects.append(Reject(self._context.name, pattern, reason, b"", now_ns))
            else:
                lower = f", asked for {self._options.qos}" if code < self._options.qos else ""
                self.facts[f"filter {pattern}"] = f"granted QoS {code}{lower}"

    def _watch_reconnects(self) -> None:
        """Say when the connection is lost again and again: a message that ends it comes back for ever (M9)."""
        now_s = asyncio.get_running_loop().time()
        self._connects.append(now_s)
        self.facts.pop("alarm", None)
        if len(self._connects) == _ALARM_CONNECTS and now_s - self._connects[0] <= _ALARM_S:
            self.counters["reconnect_alarms"] += 1
            self.facts["alarm"] = (
                f"{_ALARM_CONNECTS} connections within {_ALARM_S:.0f} s: the broker is not there, or a message it "
                "keeps for us ends each of them, or another client has our client id"
            )

    def _all_settled(self, at_ns: int) -> None:
        """Take note of an answered ping before which nothing is waiting."""
        if not self._gaps and not self._rejects:
            self._came(at_ns)

    def _came(self, last_ns: int) -> None:
        self._memory.last_ns = max(self._memory.last_ns, last_ns)
        self._cover()
        if last_ns - self._written_ns >= _REMEMBER_EVERY_NS:
            self._remember_if_possible()

    def _cover(self) -> None:
        self.covered_ns = self._memory.last_ns or None if self._options.qos else None

    def _recall(self) -> None:
        context = self._context
        try:
            found = memory.recall(context.state_dir, self._options.client_id, self._options.broker, context.name)
        except OSError as error:
            raise NotConnected(f"cannot use the state folder {context.state_dir}: {error}") from error
        self._memory = found.memory
        self.counters["session_memory_damaged"] += found.damaged
        self._remember()  # the id must be known before the broker ties a session to it

    def _remember_if_possible(self) -> None:
        try:
            self._remember()
        except NotConnected:
            self.counters["state_unwritten"] += 1  # a later gap begins earlier than it must; nothing else

    def _remember(self) -> None:
        self._written_ns = self._context.now_ns()
        matter = self._memory.matter()
        try:
            memory.keep(self._context.state_dir, self._memory, durable=matter != self._durable)
        except OSError as error:
            raise NotConnected(f"cannot write to {self._context.state_dir}: {error}") from error
        self._durable = matter
