"""
The HTTP application: API, pages, health and metrics, behind one gate.

Handlers are plain functions on the thread pool: they read through the store's readers, and change things only by
commands to the writer thread.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from broker.api import anomalies, documents, health, people, records
from broker.api.access import Gate
from broker.api.accounts import Accounts, Sessions
from broker.api.services import Services
from broker.version import VERSION
from broker.web import pages
from schemas.errors import Refused, StoreError

if TYPE_CHECKING:
    from broker.config.model import Config

__all__ = ["Services", "build_app"]


def _hosts(config: Config) -> frozenset[str]:
    return frozenset({"localhost", "127.0.0.1", "::1", config.api.host.lower(), *map(str.lower, config.api.hosts)})


def build_app(services: Services) -> FastAPI:
    """Make the application; it starts nothing."""
    api = services.config.api
    reader = services.store.reader()
    accounts = Accounts(reader.user, failures=api.lockout.failures, pause_s=api.lockout.pause)
    sessions = Sessions(idle_s=api.session.idle, absolute_s=api.session.absolute)
    # the interactive pages of FastAPI load scripts from another host, so they are off
    app = FastAPI(title="Fairlead", version=VERSION, docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    app.state.services = services
    app.state.reader = reader
    app.state.accounts = accounts
    app.state.sessions = sessions
    gate = Gate(accounts, sessions, services.token, _hosts(services.config))
    app.middleware("http")(gate)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(StoreError, _store_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    for module in (health, records, anomalies, documents, people, pages):
        module.add_routes(app)
    app.mount("/static", StaticFiles(directory=Path(str(files("broker.web") / "static"))), name="static")
    return app


def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the handler's signature
    return JSONResponse({"detail": str(error)}, 409)


def _store_error(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return JSONResponse({"detail": f"the store cannot answer now: {error}"}, 503, {"Retry-After": "5"})


def _invalid(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, RequestValidationError)
    problems = [{"where": ".".join(str(part) for part in one["loc"]), "message": one["msg"]} for one in error.errors()]
    return JSONResponse({"detail": problems}, 422)
