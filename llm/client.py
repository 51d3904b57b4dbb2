"""
The reasoner in the core process: asks the worker, bounds it, restarts it, and answers by rules whenever it cannot.

No ``llama_cpp`` here. The model is never on the data path: whoever waits for :meth:`Reasoner.annotate` waits alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from llm.compose import compose
from llm.form import FormField, check_fields, read_form
from llm.messages import Ask, Failure, Fill, Ready, Refusal, Reply, Setup
from llm.model_file import ModelFile, find
from llm.options import ReasonerOptions
from llm.process import WorkerProcess
from llm.prompt import PROMPT_VERSION
from llm.rules import annotate_by_rules
from schemas.annotation import Annotation, Provenance
from schemas.errors import WorkerError, WorkerTimeout
from schemas.evidence import Evidence

#: UTC nanoseconds since 1970.
Clock = Callable[[], int]

#: Requests that may wait; one more is answered by rules.
MAX_WAITING: Final = 100
_LOAD_LIMIT_S: Final = 300.0
_CRASHES_AT_LOAD: Final = 2
_CRASHES: Final = 3
_CRASH_WINDOW_NS: Final = 600 * 10**9
_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_MAX_S: Final = 10.0
_CONTEXT: Final = 4096
#: The worker is told to stop this much earlier, so that a slow answer does not cost the process.
_EARLIER_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ReasonerState:
    """
    What the annotator is doing, for pages and counters.

    ``reason`` says why the model is off or quarantined, or how its worker last ended; ``sandbox`` which protections
    the kernel granted. ``answered`` and ``fallbacks`` count annotations by the model, and by rules in its place.
    """

    status: Literal["ready", "starting", "off", "quarantined"]
    reason: str
    model_name: str
    model_sha256: str
    crashes: int
    answered: int
    fallbacks: int
    sandbox: dict[str, str]


class Reasoner:
    """
    Annotates evidence with the configured model, or by rules.

    A model is quarantined after two failures in a row to load, or three crashes within ten minutes; a worker that
    had to be killed at its deadline counts as a crash.
    """

    def __init__(self, options: ReasonerOptions, *, base_dir: Path, now_ns: Clock) -> None:
        self._options = options
        self._base_dir = base_dir
        self._now_ns = now_ns
        self._status: Literal["ready", "starting", "off", "quarantined"] = "off"
        self._reason = "not started"
        self._file: ModelFile | None = None
        self._worker: WorkerProcess | None = None
        self._ready: Ready | None = None
        self._changed = asyncio.Condition()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._waiting = 0
        self._next_id = 0
        self._crashes = 0
        self._recent: deque[int] = deque(maxlen=_CRASHES)
        self._answered = 0
        self._fallbacks = 0

    @property
    def state(self) -> ReasonerState:
        """A snapshot."""
        return ReasonerState(
            status=self._status,
            reason=self._reason,
            model_name=self._file.name if self._file else "",
            model_sha256=self._ready.sha256 if self._ready else "",
            crashes=self._crashes,
            answered=self._answered,
            fallbacks=self._fallbacks,
            sandbox=dict(self._ready.sandbox) if self._ready else {},
        )

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker that serves now."""
        return self._worker.pid if self._worker and self._status == "ready" else None

    @property
    def waiting(self) -> int:
        """Requests that were taken and are not answered yet."""
        return self._waiting

    async def start(self) -> None:
        """Start loading the model and return at once; ``state`` tells what became of it. Never raises."""
        if self._task is not None:
            return
        if self._options.backend == "none":
            self._reason = "no model is configured"
            return
        try:
            self._file = find(self._options.model, self._options.sha256, self._base_dir)
        except WorkerError as error:
            self._reason = str(error)
            return
        self._status, self._reason = "starting", ""
        self._task = asyncio.create_task(self._supervise(self._file))

    async def close(self) -> None:
        """End the worker and wait for it. Never raises; ``annotate`` goes on by rules."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._status != "quarantined":
            await self._become("off", "closed")

    async def annotate(self, evidence: Evidence, *, detector_score: float, created_ns: int) -> Annotation:
        """
        One annotation within the deadline. Never raises; cancelling it leaves the worker in order.

        Where the model gives no valid answer, the rules do, with the reason in ``provenance.fallback_reason``.
        """
        reason = ""
        if self._options.backend != "none":
            try:
                annotation = await self._ask(evidence, detector_score, created_ns)
            except WorkerError as error:
                reason = str(error)
            except Exception as error:  # noqa: BLE001 - the annotator never raises
                reason = f"unexpected {type(error).__name__}: {error}"
            else:
                self._answered += 1
                return annotation
            self._fallbacks += 1
        return annotate_by_rules(
            evidence, detector_score=detector_score, created_ns=created_ns, fallback_reason=reason[:300]
        )

    async def _ask(self, evidence: Evidence, detector_score: float, created_ns: int) -> Annotation:
        file = self._serving_file()
        if refused := file.refuses(evidence):
            raise WorkerError(refused)
        ready, queue_ms, reply = await self._request(
            lambda number, left_ms: Ask(number, evidence.body, left_ms), self._options.deadline
        )
        known = Provenance(
            engine=f"fairlead-decoder/1 {ready.engine}",
            prompt_version=PROMPT_VERSION,
            model_name=ready.model_name or file.name,
            model_sha256=ready.sha256,
            model_rung=file.rung,
            family=ready.family,
            style=file.style,
            seed=self._options.seed,
            temperature=self._options.temperature,
            threads=self._options.threads,
            context=_CONTEXT,
            sandbox=dict(ready.sandbox),
            queue_ms=queue_ms,
        )
        return compose(evidence, reply, known, detector_score=detector_score, created_ns=created_ns)

    @property
    def reads_questions(self) -> bool:
        """Whether a full model serves, one that reads instructions."""
        return self._status == "ready" and self._file is not None and self._file.style == "instruct"

    async def fill(self, question: str, fields: Sequence[FormField], deadline_s: float) -> dict[str, str]:
        """
        The option of each field that the model chooses for a question.

        Raises:
            WorkerError: no such model, no answer in time, or an answer that is not the form.
        """
        if not self.reads_questions:
            raise WorkerError("no model that reads questions is ready")
        check_fields(fields)
        told = [(field.name, list(field.options)) for field in fields]
        _, _, reply = await self._request(lambda number, left_ms: Fill(number, question, told, left_ms), deadline_s)
        return read_form(reply.answer, fields)

    def _serving_file(self) -> ModelFile:
        if self._file is None or self._status in ("off", "quarantined"):
            raise WorkerError(f"the model is {self._status}: {self._reason}")
        return self._file

    async def _request(self, make: Callable[[int, float], Ask | Fill], deadline_s: float) -> tuple[Ready, float, Reply]:
        """Wait for a turn, ask, and wait for the answer; *make* gets the request's number and the time left in ms."""
        if self._waiting >= MAX_WAITING:
            raise WorkerError(f"{MAX_WAITING} requests are waiting for the model")
        loop = asyncio.get_running_loop()
        asked = loop.time()
        self._waiting += 1
        try:
            async with asyncio.timeout_at(asked + deadline_s), self._turn:
                ready, worker = await self._serving()
                queue_ms = 1e3 * (loop.time() - asked)
                return ready, queue_ms, await self._exchange(worker, make, asked + deadline_s)
        except TimeoutError as error:
            raise WorkerTimeout(f"no answer within the deadline of {deadline_s:g} s") from error
        finally:
            self._waiting -= 1

    async def _serving(self) -> tuple[Ready, WorkerProcess]:
        async with self._changed:
            await self._changed.wait_for(self._settled)
        if self._ready is None or self._worker is None or self._status != "ready":
            raise WorkerError(f"the model is {self._status}: {self._reason}")
        return self._ready, self._worker

    def _settled(self) -> bool:
        return self._status != "starting" and (self._worker is None or not self._worker.ended)

    async def _exchange(self, worker: WorkerProcess, make: Callable[[int, float], Ask | Fill], until_s: float) -> Reply:
        """Ask, and read until the answer to this question; older ones belong to callers that gave up."""
        loop = asyncio.get_running_loop()
        self._next_id += 1
        number = self._next_id
        left_s = until_s - loop.time()
        told_s = left_s - min(_EARLIER_S, left_s / 10)
        try:
            await worker.send(make(number, 1e3 * told_s))
            while True:
                message = await worker.receive()
                if isinstance(message, Reply) and message.id == number:
                    return message
                if isinstance(message, Failure) and message.id == number:
                    raise WorkerError(message.reason)
        except asyncio.CancelledError:
            if loop.time() >= until_s:
                worker.kill()
            raise

    async def _become(self, status: Literal["ready", "starting", "off", "quarantined"], reason: str) -> None:
        async with self._changed:
            self._status, self._reason = status, reason
            self._changed.notify_all()

    async def _supervise(self, file: ModelFile) -> None:
        """Keep one worker alive until the model is given up."""
        failed_loads, backoff_s = 0, _BACKOFF_FIRST_S
        while True:
            answered = self._answered
            refusal, ended = await self._live(file)
            if refusal is not None and refusal.kind not in ("load", "vocabulary"):
                await self._become("off", refusal.reason)
                return
            failed_loads = failed_loads + 1 if self._ready is None else 0
            self._crashes += 1
            self._recent.append(self._now_ns())
            if failed_loads >= _CRASHES_AT_LOAD:
                await self._become("quarantined", f"{failed_loads} failures in a row to load it; {ended}")
                return
            if len(self._recent) == _CRASHES and self._recent[-1] - self._recent[0] <= _CRASH_WINDOW_NS:
                await self._become("quarantined", f"{_CRASHES} crashes within ten minutes; {ended}")
                return
            await self._become("starting", ended)
            backoff_s = _BACKOFF_FIRST_S if self._answered > answered else min(2 * backoff_s, _BACKOFF_MAX_S)
            await asyncio.sleep(backoff_s)

    async def _live(self, file: ModelFile) -> tuple[Refusal | None, str]:
        """One life of the worker: what it refused, if it did, and how it ended."""
        self._ready = None
        try:
            worker = await WorkerProcess.spawn()
        except WorkerError as error:
            return None, str(error)
        self._worker = worker
        try:
            async with asyncio.timeout(_LOAD_LIMIT_S):
                await worker.send(self._setup(file))
                message = await worker.receive()
            if isinstance(message, Refusal):
                return message, message.reason
            if not isinstance(message, Ready):
                return None, "the worker did not say that it is ready"
            self._ready = message
            await self._become("ready", "")
            return None, await worker.wait()
        except TimeoutError:
            return None, f"the model was not loaded within {_LOAD_LIMIT_S:g} s"
        except WorkerError as error:
            return None, str(error)
        finally:
            self._worker = None
            if self._status == "ready":
                self._status = "starting"  # at once: who asks now waits for the next worker
            await worker.close()

    def _setup(self, file: ModelFile) -> Setup:
        options = self._options
        return Setup(
            path=str(file.path),
            sha256=file.sha256,
            family=options.family if file.style == "instruct" else "v3-tekken",
            style=file.style,
            threads=options.threads,
            seed=options.seed,
            temperature=options.temperature,
            context=_CONTEXT,
        )
