"""
The worker process: ``python -m llm.worker``, frames on standard input and output, no network, no secrets.

It may die at any time, also by an abort inside llama.cpp; the client starts it again. It ends when its input ends.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from llm import sandbox
from llm.base import EngineBroken
from llm.form import FormField, check_fields, form_plan, form_prefix, form_prompt
from llm.messages import (
    Ask,
    Failure,
    Fill,
    FromWorker,
    Ready,
    Refusal,
    Reply,
    Setup,
    ToWorker,
    body_length,
    frame,
    to_worker,
)
from llm.model_file import digest
from llm.plan import annotation_plan
from llm.prompt import FRAME, Family, Prompt, Style, build, prefix
from schemas.errors import WorkerError
from schemas.evidence import Evidence

if TYPE_CHECKING:
    from llm.decoding import Decoded, Decoder
    from llm.engine import Model

#: Exit status after an error of the model's context.
BROKEN: Final = 70


class _Stop(Exception):
    """The worker cannot serve; the refusal says why."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def family_of(model: Model, wanted: str) -> Family:
    """
    The prompt family of a vocabulary, unless the configuration names it.

    Raises:
        WorkerError: the vocabulary lacks a control token of the family.
    """
    if wanted == "auto":
        seven = model.control("[SYSTEM_PROMPT]") is not None
        family: Family = "v7" if seven else "v3" if model.sentencepiece else "v3-tekken"
    else:
        family = cast("Family", wanted)
    missing = [name for name in FRAME[family] if model.control(name) is None]
    if missing:
        raise WorkerError(f"the vocabulary has no {missing[0]}; the model is not of family {family}")
    return family


class _Server:
    """One loaded model that answers requests."""

    def __init__(self, model: Model, decoder: Decoder, forms: Decoder | None, family: Family, style: Style) -> None:
        self._model = model
        self._decoder = decoder
        self._forms = forms
        self._family = family
        self._style = style

    def answer(self, ask: Ask | Fill) -> Reply | Failure:
        """Answer one request within its deadline."""
        self._model.set_deadline(time.monotonic() + ask.deadline_ms / 1e3)
        try:
            prompt, done = self._fill(ask) if isinstance(ask, Fill) else self._annotate(ask)
        except EngineBroken:
            raise
        except (WorkerError, ValueError) as error:
            return Failure(ask.id, str(error)[:300])
        finally:
            self._model.set_deadline(None)
        return Reply(
            id=ask.id,
            answer=done.text,
            probabilities=list(done.probabilities),
            choices=list(done.choices),
            tokens=list(done.tokens),
            prompt_text=prompt.text,
            prompt_tokens=done.prompt_tokens,
            prompt_sha256=done.prompt_sha256,
            plan_sha256=done.plan_sha256,
            prefill_ms=done.prefill_ms,
            decode_ms=done.decode_ms,
        )

    def _annotate(self, ask: Ask) -> tuple[Prompt, Decoded]:
        evidence = Evidence.model_validate_json(ask.evidence)
        prompt = build(evidence, self._family, self._style)
        return prompt, self._decoder.run(prompt.body, annotation_plan(evidence, prompt.lead))

    def _fill(self, ask: Fill) -> tuple[Prompt, Decoded]:
        if self._forms is None:
            raise WorkerError("this model reads no questions")
        fields = [FormField(name, tuple(options)) for name, options in ask.fields]
        check_fields(fields)
        prompt = form_prompt(ask.question, fields, self._family)
        self._decoder.forget()
        try:
            return prompt, self._forms.run(prompt.body, form_plan(fields, prompt.lead))
        finally:
            self._forms.forget()


def _load(setup: Setup) -> tuple[_Server, Ready]:
    """Protect the process, verify the file, load it. Raises _Stop."""
    started = time.monotonic()
    try:
        file = Path(setup.path).open("rb")  # noqa: SIM115 - stays open while the model is in use
    except OSError as error:
        raise _Stop("file", f"the model file cannot be opened: {error.strerror}") from error
    report = sandbox.enter(os.fstat(file.fileno()).st_size)
    sha256 = digest(file)
    if setup.sha256 and sha256 != setup.sha256:
        raise _Stop("checksum", f"the model file has sha256 {sha256[:16]}…, not {setup.sha256[:16]}…")
    try:
        from llm import engine  # after the sandbox: numpy starts threads
        from llm.decoding import Decoder
    except ImportError as error:
        raise _Stop("library", f"llama-cpp-python is not installed ({error.name or error})") from error
    # the open descriptor, so that the file that was hashed is the one that is loaded
    held = Path(f"/proc/self/fd/{file.fileno()}")
    try:
        model = engine.Model(held if held.exists() else Path(setup.path), threads=setup.threads, context=setup.context)
    except WorkerError as error:
        raise _Stop("load", str(error)) from error
    try:
        family = family_of(model, setup.family)
        style = cast("Style", setup.style)
        decoder = Decoder(model, prefix(family, style), seed=setup.seed, temperature=setup.temperature)
        forms = Decoder(model, form_prefix(family)) if style == "instruct" else None
        decoder.warm()
    except WorkerError as error:
        raise _Stop("vocabulary", str(error)) from error
    ready = Ready(
        sha256=sha256,
        model_name=model.metadata("general.name"),
        engine=engine.VERSION,
        family=family,
        load_ms=1e3 * (time.monotonic() - started),
        sandbox=report,
    )
    return _Server(model, decoder, forms, family, style), ready


def _receive(source: BinaryIO) -> ToWorker | None:
    header = source.read(4)
    if len(header) < 4:
        return None
    return to_worker(source.read(body_length(header)))


def serve(source: BinaryIO, sink: BinaryIO) -> int:
    """Serve requests until the input ends; the exit status."""

    def send(message: FromWorker) -> None:
        sink.write(frame(message))
        sink.flush()

    setup = _receive(source)
    if not isinstance(setup, Setup):
        return 0
    try:
        server, ready = _load(setup)
    except _Stop as stop:
        send(Refusal(stop.kind, str(stop)))
        return 0
    send(ready)
    while isinstance(ask := _receive(source), Ask | Fill):
        try:
            send(server.answer(ask))
        except EngineBroken as error:
            send(Failure(ask.id, str(error)))
            return BROKEN
    return 0


def main() -> None:
    """
    Entry point. What the library prints goes to standard error, so that it cannot stand between frames.

    Ctrl-C in a terminal reaches every process of the group; this one ends when its input ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.exit(serve(sys.stdin.buffer, sink))


if __name__ == "__main__":
    main()
