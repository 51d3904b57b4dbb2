"""
The HTTP application: API, pages, health and metrics, behind one gate.

Handlers are plain functions on the thread pool: they read through the store's readers, and change things only by
commands to the writer thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.staticfiles import StaticFiles

from broker import events
from broker.api import (
    alarms,
    anomalies,
    detectors,
    documents,
    health,
    manuals,
    model,
    models,
    people,
    questions,
    records,
    replays,
    suppressions,
    trust,
)
from broker.api.access import SECURITY_HEADERS, Gate
from broker.api.accounts import Accounts, Sessions
from broker.api.answers import problem
from broker.api.parameters import only_known
from broker.api.services import Services
from broker.core.replays import ReplayService
from broker.version import VERSION
from broker.web import asking, detecting, pages, suppress
from schemas.errors import Refused, StoreError

if TYPE_CHECKING:
    from broker.config.model import Config

__all__ = ["Services", "build_app"]


def _hosts(config: Config) -> frozenset[str]:
    return frozenset({"localhost", "127.0.0.1", "::1", config.api.host.lower(), *map(str.lower, config.api.hosts)})


def build_app(services: Services, *, mono_s: Callable[[], float] = time.monotonic) -> FastAPI:
    """Make the application; it starts nothing. *mono_s* is the clock of sessions and lock-outs."""
    api = services.config.api
    reader = services.store.reader()

    def note(name: str, action: str) -> None:
        services.write(lambda tx: tx.audit(name, action, name, {}))

    accounts = Accounts(
        reader.user, failures=api.lockout.failures, pause_s=api.lockout.pause, noted=note, mono_s=mono_s
    )
    sessions = Sessions(idle_s=api.session.idle, absolute_s=api.session.absolute, mono_s=mono_s)
    # the interactive pages of FastAPI load scripts from another host, so they are off
    app = FastAPI(
        title="Fairlead",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        dependencies=[Depends(only_known)],
    )
    app.state.services = services
    app.state.reader = reader
    app.state.replays = ReplayService(services.config, services.store, services.writer, services.derived_work_waits)
    app.state.accounts = accounts
    app.state.sessions = sessions
    gate = Gate(accounts, sessions, services.token, _hosts(services.config))
    app.middleware("http")(gate)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(StoreError, _store_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    modules = (
        *(health, records, alarms, anomalies, detectors, suppressions, questions, documents, manuals, replays),
        *(people, trust),
        *(model, models),
        *(pages, asking, detecting, suppress),
    )
    for module in modules:
        module.add_routes(app)
    app.mount("/static", StaticFiles(directory=Path(str(files("broker.web") / "static"))), name="static")
    return app


def _refused(request: Request, error: Exception) -> Response:
    # what a read refuses lies in the request itself; what a change refuses lies in the state of things
    return problem(request, 400 if request.method in {"GET", "HEAD"} else 409, str(error))


def _store_error(request: Request, error: Exception) -> Response:
    return problem(request, 503, f"the store cannot answer now: {error}", {"Retry-After": "5"})


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [{"where": ".".join(str(part) for part in one["loc"]), "message": one["msg"]} for one in error.errors()]
    return problem(request, 422, problems)


def _failed(request: Request, error: Exception) -> Response:
    route = request.scope.get("route")
    events.request_failed(request.method, str(getattr(route, "path", "")), error)
    # runs outside the gate, so it brings the gate's headers itself
    return problem(request, 500, "something failed here; the log of core says what", SECURITY_HEADERS)
