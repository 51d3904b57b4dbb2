"""A query parameter that a route of the API does not have is refused: misspelt, it would act as if not there."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from broker.config.validate import nearest


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
