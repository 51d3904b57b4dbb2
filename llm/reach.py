"""Whether the configured model server can be asked: each step on the way, and what to do where one fails."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from llm.backends import ModelServer, Unusable
from llm.egress import Resolve, resolve
from llm.messages import Ready, Refusal
from llm.options import ReasonerOptions
from llm.process import WorkerProcess
from schemas.errors import WorkerError

#: What to do, by the step that failed; where the process itself fails, its reason says it.
HINTS: Final = {
    "resolve": "write the server's address into llm.url, or make its name known to this machine",
    "guard": "llm.url has to lead to an address on the site, see docs/model-server.md",
    "connect": "is the server started, does it listen on this address and port, and does no firewall stand between?",
    "TLS": "llm.ca has to name the authority that signed the server's certificate, and llm.url the name in it; "
    "a server without TLS needs http://",
    "key": "llm.api_key has to be the key that the server was started with",
    "model": "write a name that it offers into llm.model, or start the server with that name",
    "answer": "llm.url has to lead to its OpenAI-compatible interface, as a rule http://HOST:PORT/v1; "
    "a server that still loads its model needs more time",
}
#: Refusals of the process before it connects, for want of a file or a library of this machine.
_HERE: Final = frozenset({"library", "certificate"})
#: Beyond its own limit the process is given so long to start and to answer.
_MORE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Reached:
    """
    What came of it.

    Attributes:
        step: the key of :data:`HINTS` that failed; empty where the server has the model.
        detail: what was seen.
        hint: what to do, where ``detail`` does not say it.
        misconfigured: the configuration is wrong whatever network and server do; no packet was sent.
    """

    step: str
    detail: str
    hint: str = ""
    misconfigured: bool = False


async def reach(
    options: ReasonerOptions, base_dir: Path, api_key: str, limit_s: float, lookup: Resolve = resolve
) -> Reached:
    """
    Ask the server for the list of its models, once, as it is asked in service: guarded, pinned, from the process that
    speaks to it. No evidence is sent. Never raises.

    Args:
        options: of backend openai.
        base_dir: folder of the configuration, for ``ca``.
        api_key: the key itself.
        limit_s: seconds for the server.
        lookup: resolver of the server's name.
    """
    try:
        server = ModelServer(options, base_dir, api_key, lookup)
    except Unusable as error:
        return Reached(error.step, str(error), misconfigured=True)
    try:
        async with asyncio.timeout(limit_s):
            setup = msgspec.structs.replace(await server.setup(), look_s=limit_s)
    except TimeoutError:
        return Reached("resolve", f"{options.url}: its name was not resolved within {limit_s:g} s", HINTS["resolve"])
    except OSError as error:
        return Reached("resolve", f"{options.url}: {error.strerror or error}", HINTS["resolve"])
    except WorkerError as error:
        return Reached("guard", str(error), HINTS["guard"], misconfigured=True)
    try:
        worker = await WorkerProcess.spawn(server.module)
    except WorkerError as error:
        return Reached("process", str(error))
    try:
        async with asyncio.timeout(limit_s + _MORE_S):
            await worker.send(setup)
            said = await worker.receive()
    except TimeoutError:
        return Reached("process", "the process that speaks to the server did not answer")
    except WorkerError as error:
        return Reached("process", str(error))
    finally:
        await worker.close()
    if isinstance(said, Refusal):
        step = said.step or "process"
        return Reached(step, said.reason, HINTS.get(step, ""), misconfigured=said.kind in _HERE)
    if not isinstance(said, Ready):
        return Reached("process", "the process that speaks to the server sent a message out of turn")
    return Reached("", f"{options.model} is served at {setup.address}")
