"""Query parameters of the API: one that a route does not have is refused, and so is a time that is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from broker.config.validate import nearest
from schemas.moments import parse_moment


def _moment(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        return parse_moment(text)
    except ValueError as error:
        raise PydanticCustomError("moment", "{reason}", {"reason": str(error)}) from None


#: UTC ns, written as RFC 3339.
Moment = Annotated[int | None, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
From = Annotated[Moment, Query(alias="from", description="Begin of the span, RFC 3339 with its offset.")]
To = Annotated[Moment, Query(description="End of the span, RFC 3339 with its offset; it is not part of it.")]


def check_span(from_ns: int | None, to_ns: int | None) -> None:
    """Raise RequestValidationError (422) for a span that ends before it begins."""
    if from_ns is not None and to_ns is not None and to_ns <= from_ns:
        raise RequestValidationError([{"type": "span", "loc": ("query", "to"), "msg": "to must be later than from"}])


def only_known(request: Request) -> None:
    """
    For all routes below ``/api/``. Raises RequestValidationError (422) naming the parameter and those that there are.

    Pages and health checks may be asked with more, such as what a load balancer appends.
    """
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute) or not route.path.startswith("/api/"):
        return
    known = list(dict.fromkeys(_declared(route.dependant)))
    there_are = f"there are: {', '.join(known)}" if known else "this takes none"
    problems = [
        {
            "type": "extra_forbidden",
            "loc": ("query", name),
            "msg": "; ".join(filter(None, ("no such parameter", nearest(name, known), there_are))),
        }
        for name in dict.fromkeys(request.query_params)
        if name not in known
    ]
    if problems:
        raise RequestValidationError(problems)


def _declared(dependant: Dependant) -> Iterator[str]:
    """Names of the query parameters of a handler and of what it depends on."""
    yield from (field.alias for field in dependant.query_params)
    for part in dependant.dependencies:
        yield from _declared(part)
