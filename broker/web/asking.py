"""The page for questions: a form, the answer, and the query that was run, to be corrected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final

from fastapi import FastAPI, Form, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import ValidationError

from broker.api.questions import Question, answer
from broker.api.services import ReaderOf, ServicesOf
from broker.web.templating import render
from schemas.errors import Refused
from schemas.question import MAX_QUESTION, Answer, Query

_CITATION: Final = re.compile(r"\[([RSAG][1-9][0-9]{0,2})\]")


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module; pages are no part of the documented API."""
    page: dict[str, Any] = {"response_class": HTMLResponse, "include_in_schema": False}
    app.get("/ask", **page)(ask_page)
    app.post("/ui/ask", **page)(ask)


def ask_page(request: Request) -> Response:
    """The empty form."""
    return render(request, "ask.html", {"question": ""})


async def ask(
    request: Request,
    services: ServicesOf,
    reader: ReaderOf,
    question: Annotated[str, Form(max_length=MAX_QUESTION)] = "",
    query: Annotated[str, Form(max_length=10_000, description="A corrected query, JSON.")] = "",
) -> Response:
    """The answer, or why there is none."""
    context: dict[str, Any] = {"question": question, "query": query, "answer": None, "error": ""}
    try:
        asked = Question(question=question, query=Query.model_validate_json(query) if query.strip() else None)
        found = await answer(services, reader, asked)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        context["error"] = f"{where}: {first['msg']}" if where else first["msg"]
    except Refused as error:
        context["error"] = str(error)
    else:
        context |= {"answer": _view(found), "query": found.query.model_dump_json(indent=2, exclude_defaults=True)}
    return render(request, "_answer.html", context)


def _view(found: Answer) -> dict[str, Any]:
    return {
        "parsed_by": found.parsed_by,
        "lines": [list(_parts(line)) for line in found.lines],
        "citations": [
            {"id": one.id, "kind": one.kind, "text": one.text, "anomaly_id": one.body.get("anomaly_id", "")}
            for one in found.citations
        ],
        "reasons": [list(_parts(line)) for line in found.reasons],
        "notes": found.notes,
    }


def _parts(line: str) -> Iterator[dict[str, str]]:
    for i, piece in enumerate(_CITATION.split(line)):
        if piece:
            yield {"cite": piece if i % 2 else "", "text": "" if i % 2 else piece}
