"""
The process that speaks to a model server of the site: ``python -m llm.remote``, frames as the worker's.

A process of its own, because the worker has no network and the core must not read what a foreign server sends: here a
hostile answer meets a process without files, journal or store, and what reaches the core is one bounded frame.
It connects to the one pinned address it is given and to nothing else; the key comes through the pipe. Told to look
only (``Connect.look_s``), it asks for the list of models, says what it found, and ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import ssl
import sys
import time
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

import msgspec

from llm import sandbox
from llm.chat import (
    WAYS,
    Completion,
    ModelList,
    Way,
    annotation_prompt,
    annotation_schema,
    body,
    compact,
    form_schema,
    question_prompt,
    shares,
)
from llm.exchange import Denied, Exchange, Troubled, Unreachable, client_of
from llm.form import FormField, check_fields
from llm.messages import Ask, Connect, Failure, Fill, Ready, Refusal, Reply, ToWorker, failed
from llm.pipe import Sender, frames_into, leave, receive, sender, take_output
from llm.plan import Answer
from llm.prompt import clean
from schemas.annotation import UNKNOWN
from schemas.errors import AnswerRefused, WorkerError, WorkerTimeout
from schemas.evidence import Evidence

_PROBE_S: Final = 60.0
_TRIES: Final = 3
_PROBE_TOKENS: Final = 64
_MEMORY: Final = 1 << 30


class _Stop(Exception):
    """This server cannot be used; the refusal says why."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Server:
    """
    A model server, and the way in which it keeps to a schema.

    Args:
        setup: how it is asked.
        exchange: the line to it.
    """

    def __init__(self, setup: Connect, exchange: Exchange) -> None:
        self._setup = setup
        self._exchange = exchange
        self._way: Way = WAYS[0]
        self._logprobs = True
        self.model = setup.model

    async def begin(self) -> Ready:
        """
        Find the model and the way in which the server keeps to a schema.

        Raises:
            _Stop: it has no such model, or keeps to none.
            Unreachable: no connection, or the server has trouble that may pass.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(_PROBE_S):
                await self.find()
                await self._probe()
        except TimeoutError as error:
            raise Unreachable(f"the server did not get ready within {_PROBE_S:g} s") from error
        return Ready(
            sha256="",
            model_name=clean(self.model, 200),
            engine=f"openai-compatible/1 {self._exchange.software} {self._way}".replace("  ", " "),
            family="",
            load_ms=1e3 * (time.monotonic() - started),
            sandbox={},
            slots=self._setup.slots,
        )

    async def find(self) -> None:
        """
        Find the model in the server's list.

        Raises:
            _Stop: it is not there.
            Unreachable, WorkerError: there is no list.
        """
        offered = await self._exchange.get("/models", ModelList)
        names = [one.id for one in offered.data]
        shown = ", ".join(clean(name, 60) for name in names[:8]) or "none"
        if self._setup.model not in names:
            raise _Stop("model", f"the server has no model {self._setup.model} (llm.model); it offers {shown}")

    async def _probe(self) -> None:
        """Try each way with a schema of which only one answer is possible, one that cannot be guessed."""
        last = ""
        troubled: Troubled | None = None
        for way in WAYS:
            for logprobs in (True, False):
                wanted = secrets.token_hex(4)
                schema = {
                    "type": "object",
                    "properties": {"probe": {"type": "string", "enum": [wanted]}},
                    "required": ["probe"],
                    "additionalProperties": False,
                }
                for seed in range(_TRIES):
                    asked = body(
                        "Answer with one JSON object.", schema, way, self.model,
                        seed=seed, temperature=1.0 if seed else 0.0, logprobs=logprobs, max_tokens=_PROBE_TOKENS,
                    )  # fmt: skip
                    try:
                        done = await self._exchange.post("/chat/completions", asked, Completion)
                        said = json.loads(done.text())
                    except Troubled as error:
                        troubled = error
                        break
                    except Unreachable:
                        raise
                    except WorkerError as error:
                        last = str(error)
                        if not last.startswith("answer refused"):
                            break  # the server refuses to be asked so
                        continue
                    except ValueError:
                        last = "it does not keep to a schema"
                        continue
                    if said == {"probe": wanted}:
                        self._way, self._logprobs = way, logprobs
                        return
                    last = "it does not keep to a schema"
                    break
        if troubled is not None:
            raise troubled
        raise _Stop("schema", f"the server keeps to a JSON schema in none of the ways {', '.join(WAYS)}: {last[:200]}")

    async def answer(self, ask: Ask | Fill) -> Reply | Failure:
        """Answer one request within its deadline; a server that is slow, gone or wrong is a failure."""
        try:
            async with asyncio.timeout(ask.deadline_ms / 1e3):
                return await (self._fill(ask) if isinstance(ask, Fill) else self._annotate(ask))
        except TimeoutError:
            return failed(ask.id, WorkerTimeout("the deadline passed while the server was thinking"))
        except (WorkerError, ValueError) as error:
            return failed(ask.id, error)

    async def _annotate(self, ask: Ask) -> Reply:
        evidence = Evidence.model_validate_json(ask.evidence)
        prompt = annotation_prompt(evidence, ask.refused)
        temperature = 0.0 if ask.greedy else self._setup.temperature
        schema = annotation_schema(evidence)
        done, taken_ms = await self._complete(prompt, schema, temperature)
        try:
            answer = done.text().encode()
        except AnswerRefused:
            cut = self._reply(ask.id, b"", prompt, schema, done, taken_ms, [], [])
            return msgspec.structs.replace(cut, cut_off=True)
        try:
            said = msgspec.json.decode(form := compact(answer), type=Answer)
        except WorkerError:
            # the core refuses it, and asks once more
            return self._reply(ask.id, answer, prompt, schema, done, taken_ms, [], [])
        options = [*dict.fromkeys(option.id for option in evidence.causes), UNKNOWN]
        known = shares(done.text(), done.tokens(), options)
        first = [(f"cause:{said.causes[0].id}", known[said.causes[0].id])] if said.causes and known else []
        shared = [known.get(cause.id) for cause in said.causes]
        return self._reply(ask.id, form, prompt, schema, done, taken_ms, shared, first)

    async def _fill(self, ask: Fill) -> Reply:
        fields = [FormField(name, tuple(options)) for name, options in ask.fields]
        check_fields(fields)
        prompt = question_prompt(ask.question, fields)
        schema = form_schema(fields)
        done, taken_ms = await self._complete(prompt, schema, 0.0)
        return self._reply(ask.id, done.text().encode(), prompt, schema, done, taken_ms, [], [])

    async def _complete(self, prompt: str, schema: Mapping[str, Any], temperature: float) -> tuple[Completion, float]:
        started = time.monotonic()
        asked = body(
            prompt, schema, self._way, self.model,
            seed=self._setup.seed, temperature=temperature, logprobs=self._logprobs,
        )  # fmt: skip
        done = await self._exchange.post("/chat/completions", asked, Completion)
        return done, 1e3 * (time.monotonic() - started)

    def _reply(
        self,
        number: int,
        answer: bytes,
        prompt: str,
        schema: Mapping[str, Any],
        done: Completion,
        taken_ms: float,
        probabilities: list[float | None],
        choices: list[tuple[str, float]],
    ) -> Reply:
        return Reply(
            id=number,
            answer=answer,
            probabilities=probabilities,
            choices=choices,
            shares=[],
            tokens=[],
            prompt_text=prompt,
            prompt_tokens=max(0, done.usage.prompt_tokens) if done.usage else 0,
            prompt_sha256=hashlib.sha256(prompt.encode()).hexdigest(),
            plan_sha256=hashlib.sha256(msgspec.json.encode(schema)).hexdigest(),
            prefill_ms=0.0,
            decision_ms=0.0,
            decode_ms=taken_ms,
            model_name=clean(done.model or self.model, 200),
        )


def _refusal(error: WorkerError | _Stop) -> Refusal:
    if isinstance(error, _Stop):
        return Refusal(error.kind, str(error), "model" if error.kind == "model" else "answer")
    if isinstance(error, Unreachable):
        return Refusal("unreachable", str(error), error.step)
    return Refusal("server", str(error), "key" if isinstance(error, Denied) else "answer")


async def _serve(setup: Connect, source: BinaryIO, send: Sender, held: Mapping[str, str]) -> None:
    try:
        client = client_of(setup)
    except ImportError:
        send(Refusal("library", "httpx is not installed; install the extra: pip install 'fairlead[openai]'"))
        return
    except ssl.SSLError as error:
        send(Refusal("certificate", f"llm.ca cannot be read: {error}", "TLS"))
        return
    async with client:
        server = Server(setup, Exchange(setup, client))
        try:
            ready = await (_look(server, setup) if setup.look_s else server.begin())
        except (WorkerError, _Stop) as error:
            send(_refusal(error))
            return
        send(msgspec.structs.replace(ready, sandbox=dict(held)))
        if not setup.look_s:
            await _answer_all(server, source, send)


async def _look(server: Server, setup: Connect) -> Ready:
    try:
        async with asyncio.timeout(setup.look_s):
            await server.find()
    except TimeoutError as error:
        raise Unreachable(f"no answer within {setup.look_s:g} s", "answer") from error
    return Ready("", clean(server.model, 200), "", "", 0.0, {})


async def _answer_all(server: Server, source: BinaryIO, send: Sender) -> None:
    """Until the input ends; requests are answered side by side, and the client bounds how many there are."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Queue[ToWorker | None] = asyncio.Queue()
    frames_into(source, lambda message: loop.call_soon_threadsafe(asked.put_nowait, message))
    running: set[asyncio.Task[None]] = set()

    async def one(ask: Ask | Fill) -> None:
        send(await server.answer(ask))

    while isinstance(ask := await asked.get(), Ask | Fill):
        task = asyncio.create_task(one(ask))
        running.add(task)
        task.add_done_callback(running.discard)
    for task in running:
        task.cancel()


def serve(source: BinaryIO, sink: BinaryIO) -> int:
    """Serve requests until the input ends; the exit status."""
    setup = receive(source)
    if not isinstance(setup, Connect):
        return 0

    held = sandbox.enter_speaker(_MEMORY)
    asyncio.run(_serve(setup, source, sender(sink), held))
    return 0


def main() -> None:
    """Entry point; see :func:`llm.worker.main`."""
    leave(serve(sys.stdin.buffer, take_output()))


if __name__ == "__main__":
    main()
