"""
The reasoner in the core process: asks the model, judges what it says, and answers by rules whenever it cannot.

No ``llama_cpp`` here. The model is never on the data path: whoever waits for :meth:`Reasoner.annotate` waits alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from llm.backends import Backend, backend_of
from llm.compose import CLAIMS, compose
from llm.egress import Resolve, resolve
from llm.form import FormField, check_fields, read_form
from llm.messages import Ask, Fill
from llm.model_file import ModelFile, Served, find, with_adapter
from llm.options import ReasonerOptions
from llm.rules import annotate_by_rules
from llm.supervisor import BACKOFF_FIRST_S, BACKOFF_MAX_S, Clock, Supervisor
from llm.turns import Status, Turns
from schemas.annotation import Annotation
from schemas.errors import AnswerRefused, StoreError, WorkerError, WorkerTimeout
from schemas.evidence import Evidence

#: With less time than this no second answer is asked for.
_AGAIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class ReasonerState:
    """
    What the annotator is doing, for pages and counters.

    ``reason`` says why the model is off or quarantined, or how its worker last ended; ``sandbox`` which protections
    the kernel granted, ``model_key`` what serves or did last (see :func:`schemas.annotation.model_key`). A server that
    cannot be reached is off, and looked for again. ``answered`` and ``fallbacks`` count annotations by the model, and
    by rules in its place. ``last_crash`` says how the worker that was counted last in ``crashes`` ended.
    """

    status: Status
    reason: str
    model_name: str
    model_sha256: str
    crashes: int
    answered: int
    fallbacks: int
    sandbox: dict[str, str]
    model_key: str = ""
    last_crash: str = ""


class Reasoner:
    """
    Annotates evidence with the configured model, or by rules.

    :class:`llm.supervisor.Supervisor` keeps the worker alive, :class:`llm.turns.Turns` gives it the requests. Several
    answers may be in the making; how many, the worker says.

    Args:
        options: which model, and how.
        base_dir: relative files lie there.
        now_ns: clock that crashes are counted by.
        api_key: key of the model server, where there is one.
        lookup: resolver of the server's name.
        claims: version of the checks of claims, see :data:`llm.compose.CLAIMS`.
        locate: finds the model file, or says that a server has it; raises WorkerError if neither may be used,
            StoreError if that cannot be said now.
    """

    def __init__(
        self,
        options: ReasonerOptions,
        *,
        base_dir: Path,
        now_ns: Clock,
        locate: Callable[[], ModelFile | Served] | None = None,
        api_key: str = "",
        lookup: Resolve = resolve,
        claims: int = CLAIMS,
    ) -> None:
        self._options = options
        self._claims = claims
        self._base_dir = base_dir
        self._locate = locate or self._find
        self._api_key = api_key
        self._lookup = lookup
        self._backend: Backend | None = None
        self._answered = 0
        self._fallbacks = 0
        self._turns = Turns()
        self._supervisor = Supervisor(self._turns, now_ns, lambda: self._answered)

    @property
    def state(self) -> ReasonerState:
        """A snapshot."""
        ready = self._turns.ready
        return ReasonerState(
            status=self._turns.status,
            reason=self._turns.reason,
            model_name=self._backend.name if self._backend else "",
            model_sha256=ready.sha256 if ready else "",
            crashes=self._supervisor.crashes,
            answered=self._answered,
            fallbacks=self._fallbacks,
            sandbox=dict(ready.sandbox) if ready else {},
            model_key=self._supervisor.model_key,
            last_crash=self._supervisor.last_crash,
        )

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker that serves now."""
        return self._turns.worker_pid

    @property
    def waiting(self) -> int:
        """Requests that were taken and are not answered yet."""
        return self._turns.waiting

    @property
    def slots(self) -> int:
        """Answers that the worker makes side by side; more requests than these wait."""
        return self._turns.slots

    async def start(self) -> None:
        """
        Start loading the model and return; ``state`` tells what became of it. Never raises.

        It returns at once, except while *locate* cannot read SQL: then it is asked again until it can.
        """
        if self._supervisor.started:
            return
        if self._options.backend == "none":
            self._turns.reason = "no model is configured"
            return
        try:
            found = await self._located()
            self._backend = backend_of(self._options, found, self._base_dir, self._api_key, self._lookup)
        except WorkerError as error:
            self._turns.reason = str(error)
            return
        await self._supervisor.start(self._backend)

    async def _located(self) -> ModelFile | Served:
        """What *locate* finds; it may ask the registry in SQL, which may be locked or away for a while."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                return await asyncio.to_thread(self._locate)
            except StoreError as error:
                self._turns.reason = f"the registry of models cannot be read: {error}; tried again"
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def _find(self) -> ModelFile | Served:
        options = self._options
        if options.backend != "local":
            return Served()
        file = find(options.model, options.sha256, self._base_dir)
        return with_adapter(file, options.adapter, options.adapter_sha256, options.adapter_scale, self._base_dir)

    async def close(self) -> None:
        """End the worker and wait for it. Never raises; ``annotate`` goes on by rules."""
        await self._supervisor.close()

    async def annotate(self, evidence: Evidence, *, detector_score: float, created_ns: int) -> Annotation:
        """
        One annotation within the deadline. Never raises; cancelling it leaves the worker in order.

        Where the model gives no valid answer, the rules do, with the reason in ``provenance.fallback_reason``.
        """
        reason, late = "", False
        if self._options.backend != "none":
            try:
                annotation = await self._ask(evidence, detector_score, created_ns)
            except WorkerError as error:
                reason, late = str(error), isinstance(error, WorkerTimeout)
            except Exception as error:  # noqa: BLE001 - the annotator never raises
                reason = f"unexpected {type(error).__name__}: {error}"
            else:
                self._answered += 1
                return annotation
            self._fallbacks += 1
        note = annotate_by_rules(
            evidence, detector_score=detector_score, created_ns=created_ns, fallback_reason=reason[:300]
        )
        return note.model_copy(update={"provenance": note.provenance.model_copy(update={"late": late})})

    async def _ask(self, evidence: Evidence, detector_score: float, created_ns: int) -> Annotation:
        """Ask; an answer that a check refuses is asked for once more, where another one may come."""
        backend = self._serving_backend()
        if refused := backend.refuses(evidence):
            raise WorkerError(refused)
        loop = asyncio.get_running_loop()
        asked, deadline_s = loop.time(), self._options.deadline
        shown = backend.shown(evidence).body
        ready, queue_ms, reply = await self._turns.request(Ask(0, shown, 0.0), deadline_s)
        known = backend.known(ready, reply, queue_ms)
        made = partial(compose, evidence, detector_score=detector_score, created_ns=created_ns, claims=self._claims)
        try:
            return made(reply, known)
        except AnswerRefused as error:
            if not backend.varies:
                raise  # the same answer would come again
            left_s = asked + deadline_s - loop.time()
            if left_s < _AGAIN_S:
                raise
            first, why = error, str(error)[:300]
        again = Ask(0, shown, 0.0, greedy=True, refused=why)
        try:
            ready, more_ms, reply = await self._turns.request(again, left_s)
        except WorkerError as error:
            raise first from error  # the model answered, and that answer is judged
        known = backend.known(ready, reply, queue_ms + more_ms)
        known = known.model_copy(update={"retried_after": why, "temperature": 0.0})
        return made(reply, known)

    def shown(self, evidence: Evidence) -> Evidence:
        """The evidence as the configured model sees it; see :meth:`llm.model_file.ModelFile.shown`."""
        return evidence if self._backend is None else self._backend.shown(evidence)

    @property
    def reads_questions(self) -> bool:
        """Whether a full model serves, one that reads instructions."""
        return self._turns.status == "ready" and self._backend is not None and self._backend.style == "instruct"

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
        _, _, reply = await self._turns.request(Fill(0, question, told, 0.0), deadline_s)
        return read_form(reply.answer, fields)

    def _serving_backend(self) -> Backend:
        if self._backend is None or self._turns.status in ("off", "quarantined"):
            raise WorkerError(f"the model is {self._turns.status}: {self._turns.reason}")
        return self._backend
