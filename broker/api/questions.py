"""Questions about what is stored, in words or as a typed query; nothing here changes anything."""

from __future__ import annotations

from typing import Annotated, Self
from zoneinfo import ZoneInfo

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool

from broker.api.answers import problem
from broker.api.services import ReaderOf, Services, ServicesOf
from broker.ask.fill import fill
from broker.ask.parse import NotUnderstood
from broker.ask.service import Asker
from broker.models.locate import check_decided
from broker.store import Reader
from schemas.errors import Refused
from schemas.question import MAX_QUESTION, Answer, Query


class Question(BaseModel):
    """Body of a question: words, or a query (from an earlier answer, corrected, or written by a program)."""

    model_config = ConfigDict(extra="forbid")

    question: Annotated[str, Field(max_length=MAX_QUESTION)] = ""
    query: Query | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.query is None and not self.question.strip():
            raise ValueError("send a question or a query")
        return self


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.post("/api/v1/ask", response_model=Answer)(ask)


async def answer(services: Services, reader: Reader, asked: Question) -> Answer:
    """
    The answer; a question of no common form is given to a full model where one is ready.

    Raises:
        Refused: it cannot be asked, or was not understood; the text says what is missing, with the nearest names.
        StoreError: the store cannot be read.
    """
    asker = Asker(reader, ZoneInfo(services.config.site.timezone), services.config.ask)
    if asked.query is not None:
        return await run_in_threadpool(asker.run_query, asked.query, asked.question)
    try:
        return await run_in_threadpool(asker.ask, asked.question)
    except NotUnderstood as error:
        if not services.reasoner.reads_questions:
            raise error
        await run_in_threadpool(_check_decided, services, reader, error)
        names = await run_in_threadpool(asker.names)
        filled = await fill(asked.question, names, asker.calendar(), services.reasoner, asker.options.model_deadline)
        if filled is None:
            raise error
        return await run_in_threadpool(asker.run, filled, asked.question, names, "model")


def _check_decided(services: Services, reader: Reader, error: NotUnderstood) -> None:
    """Say no, beside what was not understood, where the question would leave this machine and nobody decided that."""
    options = services.config.llm
    if options.backend == "local":
        return
    try:
        check_decided(options, reader.model_decisions(), "questions")
    except Refused as why:
        raise Refused(f"{error}; no model was asked: {why}") from None


async def ask(request: Request, services: ServicesOf, reader: ReaderOf, asked: Question) -> Response:
    """
    Answer a question, or run a query; both read only.

    The answer's ``query`` is what was run: change it and send it as ``query`` to correct it. ``lines`` cite
    ``citations``; ``complete`` is false where samples are missing or a limit was reached, ``reasons`` say which. 400
    says why something was not understood, with the nearest names.
    """
    try:
        found = await answer(services, reader, asked)
    except Refused as error:
        return problem(request, 400, str(error))
    return Response(found.model_dump_json(), media_type="application/json")
