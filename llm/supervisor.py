"""The worker's lives: one is started after another until the model has to be given up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from llm.backends import Backend
from llm.messages import Ready, Refusal
from llm.process import WorkerProcess
from llm.turns import Turns
from schemas.errors import WorkerError

#: UTC nanoseconds since 1970.
Clock = Callable[[], int]

BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 10.0
_UNREACHABLE_MAX_S: Final = 60.0
_LOAD_LIMIT_S: Final = 300.0
_CRASHES_AT_LOAD: Final = 2
_CRASHES: Final = 3
_CRASH_WINDOW_NS: Final = 600 * 10**9


@dataclass(frozen=True, slots=True)
class _Life:
    """How one life of the worker ended, whether the model was loaded in it, and what was refused where it was not."""

    ended: str
    loaded: bool = False
    refusal: Refusal | None = None


class Supervisor:
    """
    Keeps one worker alive, counts its crashes, and gives a model up that crashes too often.

    A model is quarantined after two failures in a row to load, or three crashes within ten minutes; a worker that
    had to be killed at its deadline counts as a crash. The back-off begins anew after a life with a good answer.

    Args:
        turns: is told of each worker, and that there is none.
        now_ns: clock that crashes are counted by.
        answered: how many good answers there were so far.
    """

    def __init__(self, turns: Turns, now_ns: Clock, answered: Callable[[], int]) -> None:
        self._turns = turns
        self._now_ns = now_ns
        self._answered = answered
        self._recent: deque[int] = deque(maxlen=_CRASHES)
        self.crashes = 0
        #: How the worker that was counted last in ``crashes`` ended.
        self.last_crash = ""
        #: What serves or did last, see :func:`schemas.annotation.model_key`.
        self.model_key = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        """Whether a worker is kept alive, or was until the model was given up."""
        return self._task is not None

    async def start(self, backend: Backend) -> None:
        """Begin to keep a worker of *backend* alive."""
        self.model_key = backend.key(None)
        await self._turns.become("starting", "")
        self._task = asyncio.create_task(self._supervise(backend))

    async def close(self) -> None:
        """End the worker and wait for it. Never raises."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._turns.status != "quarantined":
            await self._turns.become("off", "closed")

    async def _supervise(self, backend: Backend) -> None:
        """Keep one worker alive until the model is given up."""
        failed_loads, backoff_s = 0, BACKOFF_FIRST_S
        while True:
            answered = self._answered()
            life = await self._live(backend)
            refusal, ended = life.refusal, life.ended
            if refusal is not None and refusal.kind == "unreachable":
                await self._turns.become("off", f"{refusal.reason}; looked for again")
                backoff_s = min(2 * backoff_s, _UNREACHABLE_MAX_S)
                await asyncio.sleep(backoff_s)
                continue
            if refusal is not None and refusal.kind not in ("load", "vocabulary"):
                await self._turns.become("off", refusal.reason)
                return
            failed_loads = 0 if life.loaded else failed_loads + 1
            self.crashes += 1
            self.last_crash = ended
            self._recent.append(self._now_ns())
            if failed_loads >= _CRASHES_AT_LOAD:
                await self._turns.become("quarantined", f"{failed_loads} failures in a row to load it; {ended}")
                return
            if len(self._recent) == _CRASHES and self._recent[-1] - self._recent[0] <= _CRASH_WINDOW_NS:
                await self._turns.become("quarantined", f"{_CRASHES} crashes within ten minutes; {ended}")
                return
            await self._turns.become("starting", ended)
            backoff_s = BACKOFF_FIRST_S if self._answered() > answered else min(2 * backoff_s, BACKOFF_MAX_S)
            await asyncio.sleep(backoff_s)

    async def _live(self, backend: Backend) -> _Life:
        """One life of the worker."""
        self._turns.ready = None
        try:
            setup = await backend.setup()
        except WorkerError as error:
            return _Life(str(error), refusal=Refusal("setup", str(error)))
        except OSError as error:
            reason = f"{backend.name} cannot be found: {error.strerror or error}"
            return _Life(reason, refusal=Refusal("unreachable", reason))
        try:
            worker = await WorkerProcess.spawn(backend.module)
        except WorkerError as error:
            return _Life(str(error))
        try:
            async with asyncio.timeout(_LOAD_LIMIT_S):
                await worker.send(setup)
                message = await worker.receive()
            if isinstance(message, Refusal):
                return _Life(message.reason, refusal=message)
            if not isinstance(message, Ready):
                return _Life("the worker did not say that it is ready")
            self.model_key = backend.key(message)
            return _Life(await self._turns.serve(worker, message), loaded=True)
        except TimeoutError:
            return _Life(f"the model was not loaded within {_LOAD_LIMIT_S:g} s")
        except WorkerError as error:
            return _Life(str(error))
        finally:
            await worker.close()
