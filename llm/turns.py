"""Requests to the worker: each waits for its turn, is asked within its deadline, and gets its own answer."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

import msgspec

from llm.messages import Ask, Failure, Fill, Ready, Reply
from llm.process import WorkerProcess
from schemas.errors import WorkerError, WorkerTimeout

#: ready: requests are taken. starting: they wait. off, quarantined: they are turned away with the reason.
Status = Literal["ready", "starting", "off", "quarantined"]
#: Requests that may wait; one more is answered by rules.
MAX_WAITING: Final = 100
#: The worker is told to stop this much earlier, so that a slow answer does not cost the process.
_EARLIER_S: Final = 0.5
#: A worker that has not answered so long after a deadline is stuck and is killed.
_GRACE_S: Final = 1.0


class Turns:
    """
    Gives requests to one worker after another, in the order of asking, as many at once as it takes.

    Who supervises the worker says whether there is one (:meth:`become`, :meth:`serve`); whoever asks waits while one
    is starting, and is turned away while there is none.
    """

    def __init__(self) -> None:
        self.status: Status = "off"
        self.reason = "not started"
        #: What the worker said that serves now or did last; None until the next one is loaded.
        self.ready: Ready | None = None
        self.waiting = 0
        #: Requests that a worker was given so far, which is also the number of the last one.
        self.taken = 0
        self._worker: WorkerProcess | None = None
        self._changed = asyncio.Condition()
        self._asked: dict[int, asyncio.Future[Reply]] = {}
        #: What the worker has not answered, also where the caller gave up, and the timer that ends the worker.
        self._busy: dict[int, asyncio.TimerHandle | None] = {}

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker that serves now."""
        return self._worker.pid if self._worker and self.status == "ready" else None

    @property
    def slots(self) -> int:
        """Answers that the worker makes side by side; more requests than these wait."""
        return self.ready.slots if self.ready else 1

    async def become(self, status: Status, reason: str) -> None:
        """Say whether there is a worker, to those who wait as well."""
        async with self._changed:
            self.status, self.reason = status, reason
            self._changed.notify_all()

    async def request(self, ask: Ask | Fill, deadline_s: float) -> tuple[Ready, float, Reply]:
        """
        Wait for a turn, ask, and wait for the answer; number and time left of *ask* are filled in then.

        Returns:
            What serves, the time until the turn in ms, and the answer.

        Raises:
            WorkerTimeout: no answer within *deadline_s* seconds.
            WorkerError: too many wait, there is no worker, it ended, or it could not answer.
        """
        if self.waiting >= MAX_WAITING:
            raise WorkerError(f"{MAX_WAITING} requests are waiting for the model")
        loop = asyncio.get_running_loop()
        asked = loop.time()
        self.waiting += 1
        try:
            async with asyncio.timeout_at(asked + deadline_s):
                ready, worker, number = await self._turn()
                queue_ms = 1e3 * (loop.time() - asked)
                return ready, queue_ms, await self._exchange(worker, ask, number, asked + deadline_s)
        except TimeoutError as error:
            raise WorkerTimeout(f"no answer within the deadline of {deadline_s:.3g} s") from error
        finally:
            self.waiting -= 1

    async def serve(self, worker: WorkerProcess, ready: Ready) -> str:
        """Let a loaded worker answer requests until it ends; how it ended."""
        self._worker, self.ready = worker, ready
        try:
            await self.become("ready", "")
            return await self._hand_out(worker)
        finally:
            self._worker = None
            for number in list(self._busy):
                await self._free(number)
            if self.status == "ready":
                self.status = "starting"  # at once: who asks now waits for the next worker

    async def _turn(self) -> tuple[Ready, WorkerProcess, int]:
        """Wait until the worker takes one more, in the order of asking; the number of the request."""
        async with self._changed:
            await self._changed.wait_for(self._settled)
            if self.ready is None or self._worker is None or self.status != "ready":
                raise WorkerError(f"the model is {self.status}: {self.reason}")
            self.taken += 1
            self._busy[self.taken] = None
            return self.ready, self._worker, self.taken

    def _settled(self) -> bool:
        if self.status != "ready":
            return self.status != "starting"
        return len(self._busy) < self.slots and (self._worker is None or not self._worker.ended)

    async def _exchange(self, worker: WorkerProcess, ask: Ask | Fill, number: int, until_s: float) -> Reply:
        """Ask, and wait for the answer to this question; one that comes after its caller gave up is dropped."""
        loop = asyncio.get_running_loop()
        left_s = until_s - loop.time()
        told_s = left_s - min(_EARLIER_S, left_s / 10)
        answer: asyncio.Future[Reply] = loop.create_future()
        self._asked[number] = answer
        try:
            body = msgspec.structs.replace(ask, id=number, deadline_ms=1e3 * told_s)
            self._busy[number] = loop.call_at(until_s + _GRACE_S, worker.kill)
            await worker.send(body)
            return await answer
        except WorkerError:
            await self._free(number)
            raise
        finally:
            del self._asked[number]
            if answer.done() and not answer.cancelled():
                answer.exception()  # it may have failed while the frame was being sent

    async def _free(self, number: int) -> None:
        """The worker is done with a request, or never had it."""
        timer = self._busy.pop(number, None)
        if timer is not None:
            timer.cancel()
        async with self._changed:
            self._changed.notify_all()

    async def _hand_out(self, worker: WorkerProcess) -> str:
        """Give answers to those who asked until the worker ends; how it ended."""
        try:
            while True:
                message = await worker.receive()
                if not isinstance(message, Reply | Failure):
                    raise WorkerError("the worker sent a message out of turn")
                await self._free(message.id)
                answer = self._asked.get(message.id)
                if answer is None or answer.done():
                    continue
                if isinstance(message, Reply):
                    answer.set_result(message)
                else:
                    answer.set_exception((WorkerTimeout if message.late else WorkerError)(message.reason))
        except WorkerError as error:
            self._give_up(str(error))
            return str(error)
        except asyncio.CancelledError:
            self._give_up("the annotator is closing")
            raise

    def _give_up(self, reason: str) -> None:
        """No answer will come to those who wait for one."""
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(WorkerError(reason))
