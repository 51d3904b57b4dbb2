"""Answers that say why not: JSON for programs, a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from broker.web.templating import render


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer: a whole page was asked for, not a part of one and not the API."""
    path: str = request.scope["path"]
    if request.method not in {"GET", "POST"} or "x-fairlead" in request.headers or path.startswith("/api/"):
        return False
    return "text/html" in request.headers.get("accept", "")


def problem(request: Request, status: int, detail: object, headers: Mapping[str, str] | None = None) -> Response:
    """The answer *status* with its reason."""
    if wants_page(request):
        context = {"status": status, "phrase": HTTPStatus(status).phrase, "detail": detail}
        return render(request, "problem.html", context, status, headers)
    return JSONResponse({"detail": detail}, status, headers)
