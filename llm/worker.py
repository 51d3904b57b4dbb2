"""
The worker process: ``python -m llm.worker``, frames on standard input and output, no network, no secrets.

It may die at any time, also by an abort inside llama.cpp; the client starts it again. It ends when its input ends.
"""

from __future__ import annotations

import os
import queue
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from llm import memory, sandbox
from llm.base import EngineBroken
from llm.form import FormField, check_fields, form_plan, form_prefix, form_prompt
from llm.messages import (
    Ask,
    Failure,
    Fill,
    Ready,
    Refusal,
    Reply,
    Setup,
    ToWorker,
    failed,
)
from llm.model_file import digest
from llm.pipe import Sender, frames_into, leave, receive, sender, take_output
from llm.plan import Plan, annotation_plan
from llm.prompt import FRAME, Family, Prompt, Style, build, citable_facts, prefix
from schemas.errors import WorkerError
from schemas.evidence import Evidence

if TYPE_CHECKING:
    from llm.batching import Batcher
    from llm.decoding import Decoded, Decoder, Forward
    from llm.engine import Model

#: Exit status after an error of the model's context.
BROKEN: Final = 70
_GPU_SLOTS: Final = 16


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
        families: tuple[Family, Family] = ("v3", "v3-tekken")
        if model.control("[SYSTEM_PROMPT]") is not None:
            families = ("v7-spm", "v7")
        family = families[0 if model.sentencepiece else 1]
    else:
        family = cast("Family", wanted)
    missing = [name for name in FRAME[family] if model.control(name) is None]
    if missing:
        raise WorkerError(f"the vocabulary has no {missing[0]}; the model is not of family {family}")
    return family


class _Server:
    """One loaded model that answers requests, one after another or several side by side."""

    def __init__(self, model: Model, decoder: Decoder, forms: Decoder | None, family: Family, style: Style) -> None:
        self._model = model
        self._decoder = decoder
        self._forms = forms
        self._family = family
        self._style = style

    def answer(self, ask: Ask | Fill, until_s: float) -> Reply | Failure:
        """Answer one request alone within its deadline."""
        self._model.set_deadline(until_s)
        try:
            prompt, decoder, plan = self._task(ask)
            if self._forms is not None and decoder is self._forms:
                self._decoder.forget()
            try:
                done = decoder.run(prompt.body, plan, greedy=_greedy(ask))
            finally:
                if decoder is self._forms:
                    decoder.forget()
        except EngineBroken:
            raise
        except (WorkerError, ValueError) as error:
            return failed(ask.id, error)
        finally:
            self._model.set_deadline(None)
        return _reply(ask.id, prompt, done)

    def take(self, ask: Ask | Fill, until_s: float, batcher: Batcher[tuple[int, Prompt]]) -> Failure | None:
        """Let a request be answered beside others; a failure where it cannot even begin."""
        try:
            prompt, decoder, plan = self._task(ask)
        except (WorkerError, ValueError) as error:
            return failed(ask.id, error)
        again = iter([plan])

        def start(sequence: int) -> Forward[Decoded]:
            # a plan is used up by one run; where room was short the answer begins anew
            steps = next(again, None) or self._task(ask)[2]
            return decoder.answer(prompt.body, steps, sequence, greedy=_greedy(ask))

        batcher.add((ask.id, prompt), start, decoder.home, until_s)
        return None

    def _task(self, ask: Ask | Fill) -> tuple[Prompt, Decoder, Plan]:
        """What is asked, who answers it, and the form of the answer."""
        if isinstance(ask, Ask):
            evidence = Evidence.model_validate_json(ask.evidence)
            prompt = build(evidence, self._family, self._style)
            citable = citable_facts(evidence, self._style)
            plan = annotation_plan(evidence, prompt.lead, citable=citable, own_action=self._style == "instruct")
            return prompt, self._decoder, plan
        if self._forms is None:
            raise WorkerError("this model reads no questions")
        fields = [FormField(name, tuple(options)) for name, options in ask.fields]
        check_fields(fields)
        prompt = form_prompt(ask.question, fields, self._family)
        return prompt, self._forms, form_plan(fields, prompt.lead)


def _greedy(ask: Ask | Fill) -> bool:
    return isinstance(ask, Fill) or ask.greedy


def _reply(number: int, prompt: Prompt, done: Decoded) -> Reply:
    return Reply(
        id=number,
        answer=done.text,
        probabilities=list(done.probabilities),
        choices=list(done.choices),
        shares=list(done.shares),
        tokens=list(done.tokens),
        prompt_text=prompt.text,
        prompt_tokens=done.prompt_tokens,
        prompt_sha256=done.prompt_sha256,
        plan_sha256=done.plan_sha256,
        prefill_ms=done.prefill_ms,
        decision_ms=done.decision_ms,
        decode_ms=done.decode_ms,
    )


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What came of loading: ``slots`` above 1 go with a batcher."""

    server: _Server
    model: Model
    ready: Ready


def _open(path: str, what: str) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise _Stop("file", f"the {what} file cannot be opened: {error.strerror}") from error


def _protect(size: int, setup: Setup) -> dict[str, str]:
    """Give up what the worker does not need; which protections hold. Raises _Stop where the model is too large."""
    gpu = setup.gpu_layers != 0 and gpu_present()
    report = sandbox.enter(size, gpu="on" if gpu else "off")
    free = memory.available()
    if not gpu and free is not None and (want := memory.needed(size)) > free:
        raise _Stop(
            "memory",
            f"the model needs about {want / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free; "
            "take a smaller model or quantisation, or give the machine more",
        )
    return report


def gpu_present() -> bool:
    """Whether an NVIDIA driver is loaded and the library built for it; found without loading either."""
    spec = find_spec("llama_cpp")
    home = Path(spec.origin).parent if spec is not None and spec.origin else None
    built = home is not None and any(home.glob("lib/*ggml-cuda*"))
    return built and Path("/proc/driver/nvidia/version").exists()


def _verified(file: BinaryIO, sha256: str, what: str) -> str:
    """The hash of an open file, which must be *sha256* where that is given."""
    found = digest(file)
    if sha256 and found != sha256:
        raise _Stop("checksum", f"the {what} file has sha256 {found[:16]}…, not {sha256[:16]}…")
    return found


def _held(file: BinaryIO, path: str) -> Path:
    """The open descriptor as a path, so that the file that was hashed is the one that is loaded."""
    held = Path(f"/proc/self/fd/{file.fileno()}")
    return held if held.exists() else Path(path)


def _load(setup: Setup) -> _Loaded:
    """Protect the process, verify the files, load them. Raises _Stop."""
    started = time.monotonic()
    # both stay open while the model is in use
    file = _open(setup.path, "model")
    extra = _open(setup.adapter, "adapter") if setup.adapter else None
    report = _protect(sum(os.fstat(one.fileno()).st_size for one in (file, extra) if one is not None), setup)
    sha256 = _verified(file, setup.sha256, "model")
    adapter_sha256 = "" if extra is None else _verified(extra, setup.adapter_sha256, "adapter")
    try:
        from llm import engine  # after the sandbox: numpy starts threads
        from llm.batching import HOMES
        from llm.decoding import Decoder
    except ImportError as error:
        raise _Stop("library", f"llama-cpp-python is not installed ({error.name or error})") from error
    on_gpu = setup.gpu_layers != 0 and engine.gpu_built()
    slots = setup.slots or (_GPU_SLOTS if on_gpu else 1)
    while True:
        try:
            model = engine.Model(
                _held(file, setup.path),
                threads=setup.threads,
                context=setup.context,
                gpu_layers=setup.gpu_layers,
                sequences=slots + HOMES if slots > 1 else 1,
                adapter=None if extra is None else (_held(extra, setup.adapter), setup.adapter_scale),
            )
        except WorkerError as error:
            raise _Stop("load", str(error)) from error
        try:
            family = family_of(model, setup.family)
            style = cast("Style", setup.style)
            decoder = Decoder(
                model,
                prefix(family, style),
                seed=setup.seed,
                temperature=setup.temperature,
                calibration=setup.calibration,
            )
            home = 1 if slots > 1 else 0
            forms = Decoder(model, form_prefix(family), home=home) if style == "instruct" else None
            decoder.warm()
            if slots == 1:
                break
            if forms is not None:
                forms.warm()
            model.copy(decoder.home, HOMES)
            if model.rewind(1, HOMES) and model.rewind(0, HOMES):
                break
        except WorkerError as error:
            raise _Stop("vocabulary", str(error)) from error
        # a cache that cannot be cut (sliding window) is no good for several
        model.close()
        slots = 1
    ready = Ready(
        sha256=sha256,
        model_name=model.metadata("general.name"),
        engine=f"{engine.VERSION} gpu" if on_gpu else engine.VERSION,
        family=family,
        load_ms=1e3 * (time.monotonic() - started),
        sandbox=report,
        slots=slots,
        adapter_sha256=adapter_sha256,
    )
    return _Loaded(_Server(model, decoder, forms, family, style), model, ready)


class _Inbox:
    """Requests with the time until which each may take, as they come in beside the work."""

    def __init__(self, source: BinaryIO) -> None:
        self._came: queue.SimpleQueue[tuple[ToWorker | None, float]] = queue.SimpleQueue()
        self.ended = False
        frames_into(source, self._take)

    def _take(self, message: ToWorker | None) -> None:
        left_ms = message.deadline_ms if isinstance(message, Ask | Fill) else 0.0
        self._came.put((message, time.monotonic() + left_ms / 1e3))

    def next(self, *, wait: bool) -> tuple[Ask | Fill, float] | None:
        """The next request; None if there is none yet, or (then ``ended`` is set) there will be none."""
        try:
            message, until_s = self._came.get(block=wait)
        except queue.Empty:
            return None
        if isinstance(message, Ask | Fill):
            return message, until_s
        self.ended = True
        return None


def _one_by_one(server: _Server, inbox: _Inbox, send: Sender) -> int:
    while found := inbox.next(wait=True):
        try:
            send(server.answer(*found))
        except EngineBroken as error:
            send(Failure(found[0].id, str(error)))
            return BROKEN
    return 0


def _side_by_side(loaded: _Loaded, inbox: _Inbox, send: Sender) -> int:
    from llm.batching import Batcher

    batcher: Batcher[tuple[int, Prompt]] = Batcher(loaded.model, loaded.ready.slots)
    while not inbox.ended:
        while not batcher.full and (found := inbox.next(wait=batcher.busy == 0)):
            failure = loaded.server.take(*found, batcher)
            if failure is not None:
                send(failure)
        try:
            for (number, prompt), done in batcher.step():
                send(failed(number, done) if isinstance(done, WorkerError) else _reply(number, prompt, done))
        except EngineBroken:
            return BROKEN  # the client tells everyone who waits
    return 0


def serve(source: BinaryIO, sink: BinaryIO) -> int:
    """Serve requests until the input ends; the exit status."""
    send = sender(sink)
    setup = receive(source)
    if not isinstance(setup, Setup):
        return 0
    try:
        loaded = _load(setup)
    except _Stop as stop:
        send(Refusal(stop.kind, str(stop)))
        return 0
    send(loaded.ready)
    inbox = _Inbox(source)
    if loaded.ready.slots == 1:
        return _one_by_one(loaded.server, inbox, send)
    return _side_by_side(loaded, inbox, send)


def main() -> None:
    """Entry point; ends when its input ends."""
    leave(serve(sys.stdin.buffer, take_output()))


if __name__ == "__main__":
    main()
