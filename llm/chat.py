"""
What is asked of a model server that speaks the OpenAI-compatible protocol, and what its answer holds. No I/O.

The answer is the same form as in :mod:`llm.plan`, bound by a JSON schema instead of a plan; whether the server keeps
to the schema is not relied on, since the core process checks every answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from llm.form import FORM_INSTRUCTIONS, FormField, form_prompt
from llm.grammar import free_pattern
from llm.plan import MAX_CITES, Answer
from llm.prompt import INSTRUCTIONS, MAX_ACTIONS, MAX_CAUSES, build, shown_facts
from llm.rules import MAX_ACTIONS as MAX_CHOSEN_ACTIONS
from llm.rules import MAX_CAUSES as MAX_CHOSEN_CAUSES
from llm.wording import CUT_OFF
from schemas.annotation import UNKNOWN
from schemas.errors import AnswerRefused, WorkerError
from schemas.evidence import Evidence

#: How a server is told the schema, in the order they are tried: the protocol's own way, llama.cpp's, and that of
#: servers which know a JSON object only (ggml-org/llama.cpp#11847).
Way = Literal["response_format", "json_schema", "json_object"]
WAYS: Final[tuple[Way, ...]] = ("response_format", "json_schema", "json_object")
#: Alternatives asked of the server for each token; more than 20 are refused by some.
TOP: Final = 20
#: Share of the options' probability that may be out of sight.
_HIDDEN: Final = 0.01
MAX_TOKENS: Final = 512
_FIRST_ID: Final = re.compile(r'\s*\{\s*"causes"\s*:\s*\[\s*\{\s*"id"\s*:\s*"')


class Alternative(msgspec.Struct, frozen=True):
    """One token that could have stood there."""

    token: str
    logprob: float


class Token(msgspec.Struct, frozen=True):
    """One token of the answer, with the best alternatives."""

    token: str
    logprob: float
    top_logprobs: list[Alternative] = []


class _Logprobs(msgspec.Struct, frozen=True):
    content: list[Token] | None = None


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0


class Completion(msgspec.Struct, frozen=True):
    """A chat completion, as far as it is read."""

    choices: list[_Choice]
    model: str = ""
    system_fingerprint: str | None = None
    usage: _Usage | None = None

    def text(self) -> str:
        """
        The answer.

        Raises:
            AnswerRefused: the server cut it off for its length; also where thinking left no room for any of it.
            WorkerError: there is none, or it did not end by itself.
        """
        if self.choices and self.choices[0].finish_reason == "length":
            raise AnswerRefused(f"answer refused: {CUT_OFF}")
        if not self.choices or self.choices[0].message.content is None:
            raise WorkerError("the server sent no answer")
        if self.choices[0].finish_reason not in ("stop", None):
            raise WorkerError(f"answer refused: it ended by {self.choices[0].finish_reason[:40]}, not by itself")
        return self.choices[0].message.content

    def tokens(self) -> list[Token]:
        """The answer's tokens, where the server gives them."""
        given = self.choices[0].logprobs if self.choices else None
        return (given.content or []) if given else []


class _Model(msgspec.Struct, frozen=True):
    id: str


class ModelList(msgspec.Struct, frozen=True):
    """The models a server offers."""

    data: list[_Model]


def _object(**fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _list(of: Mapping[str, Any], least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": least, "maxItems": most}


def _some(ids: Sequence[str], least: int, most: int) -> dict[str, Any]:
    """A list of some of these ids; an enumeration may not be empty, so without ids it is a list of nothing."""
    if not ids:
        return _list({"type": "null"}, 0, 0)
    return _list({"type": "string", "enum": list(ids)}, least, min(most, len(ids)))


def annotation_schema(evidence: Evidence) -> dict[str, Any]:
    """JSON schema of one annotation: ids are enumerations, the text is a bounded pattern."""
    ids = [fact.id for fact in shown_facts(evidence)]
    names = list(dict.fromkeys([*(option.id for option in evidence.causes[:MAX_CAUSES]), UNKNOWN]))
    actions = list(dict.fromkeys(action.id for action in evidence.actions))[:MAX_ACTIONS]
    cites = _some(ids, 1, MAX_CITES)
    useful = _some(actions, 0, MAX_CHOSEN_ACTIONS)
    return _object(
        causes=_list(_object(id={"type": "string", "enum": names}, cites=cites), 1, MAX_CHOSEN_CAUSES),
        actions=useful,
        text={"type": "string", "pattern": f"^{free_pattern(ids)}$"},
    )


def form_schema(fields: Sequence[FormField]) -> dict[str, Any]:
    """JSON schema of a form."""
    return _object(**{field.name: {"type": "string", "enum": list(field.options)} for field in fields})


def annotation_prompt(evidence: Evidence, refused: str = "") -> str:
    """
    The one message of an annotation; ``refused`` says what was wrong with the first answer.

    Instructions stand in the user's turn: some templates refuse a system turn. Plant text is cleaned of frame tokens
    as for the local model; here that is the only guard, since the server tokenises the message itself.
    """
    body = "".join(part for part in build(evidence, "v3-tekken", "instruct").body if isinstance(part, str))
    return f"{INSTRUCTIONS}\n{body}{_again(refused)}"


def question_prompt(question: str, fields: Sequence[FormField]) -> str:
    """The one message of a form."""
    body = "".join(part for part in form_prompt(question, fields, "v3-tekken").body if isinstance(part, str))
    return f"{FORM_INSTRUCTIONS}\n{body}"


def _again(refused: str) -> str:
    if not refused:
        return ""
    how = ", and shorter" if CUT_OFF in refused else ""
    return f"\nA first answer was not accepted: {refused}. Answer once more, by the rules above{how}."


def body(
    message: str,
    schema: Mapping[str, Any],
    way: Way,
    model: str,
    *,
    seed: int,
    temperature: float,
    logprobs: bool,
    max_tokens: int = MAX_TOKENS,
) -> dict[str, Any]:
    """The request's JSON."""
    asked: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": message}],
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        "stream": False,
    }
    if way == "response_format":
        named = {"name": "answer", "strict": True, "schema": schema}
        asked["response_format"] = {"type": "json_schema", "json_schema": named}
    elif way == "json_schema":
        asked["json_schema"] = schema
    else:
        asked["response_format"] = {"type": "json_object", "schema": schema}
    if logprobs:
        asked |= {"logprobs": True, "top_logprobs": TOP}
    return asked


def compact(answer: bytes) -> bytes:
    """
    An annotation without white space, cites and actions as sets: each once, cites in rising order.

    Raises:
        WorkerError: it is not the form.
    """
    try:
        said = msgspec.json.decode(answer, type=Answer)
    except ValueError as error:  # also text that is not UTF-8
        raise WorkerError(f"answer refused: not the form ({str(error)[:120]})") from error
    causes = [
        msgspec.structs.replace(cause, cites=sorted(set(cause.cites), key=lambda cite: (len(cite), cite)))
        for cause in said.causes
    ]
    return msgspec.json.encode(msgspec.structs.replace(said, causes=causes, actions=list(dict.fromkeys(said.actions))))


def shares(text: str, tokens: Sequence[Token], options: Sequence[str]) -> dict[str, float]:
    """
    Probability of each option as first cause, as far as the server's alternatives tell; empty where they do not.

    At every token of the id, the listed alternatives that still spell an option are renormalised among themselves. What
    is not listed can be no likelier than the least that is; where that could come to more than one percent, nothing is
    said. An option that is not listed, or shares an alternative with another, is left out.
    """
    opening = _FIRST_ID.match(text)
    if opening is None or "".join(token.token for token in tokens) != text:
        return {}
    start = opening.end()
    left = {option: text[:start] + option + '"' for option in options}
    found: dict[str, float] = {}
    path, at = 1.0, 0
    for token in tokens:
        after = at + len(token.token)
        if after > start:
            masses = _masses(text[:at], start, token, left)
            total = sum(masses.values())
            taken = frozenset(name for name, whole in left.items() if _fits(text[:after], whole, start))
            hidden = len(left) - len(frozenset().union(*masses))
            least = math.exp(min((one.logprob for one in token.top_logprobs), default=0.0))
            if not total or taken not in masses or hidden * least > _HIDDEN * total:
                return {}
            for names, mass in masses.items():
                if len(names) == 1 and names != taken:
                    found[next(iter(names))] = path * mass / total
            path *= masses[taken] / total
            left = {name: left[name] for name in taken}
            if len(left) == 1:
                return found | {next(iter(left)): path}
        at = after
    return {}


def _fits(text: str, whole: str, start: int) -> bool:
    """Whether a text may still become, or already has become, the beginning with this option."""
    return whole.startswith(text) if len(text) <= len(whole) else len(text) > start and text.startswith(whole)


def _masses(before: str, start: int, token: Token, left: Mapping[str, str]) -> dict[frozenset[str], float]:
    """Probability of the listed alternatives by the options they leave open; those that leave none are dropped."""
    listed = {one.token: one.logprob for one in token.top_logprobs} | {token.token: token.logprob}
    result: dict[frozenset[str], float] = {}
    for text, logprob in listed.items():
        names = frozenset(name for name, whole in left.items() if _fits(before + text, whole, start))
        if names and text and not math.isnan(logprob):
            result[names] = result.get(names, 0.0) + math.exp(min(logprob, 0.0))
    return result
