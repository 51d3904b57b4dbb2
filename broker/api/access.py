"""
Who may call what: one table of routes and roles, denied by default.

A route that is not in the table cannot be reached by anybody; a test walks every route with every role.
Cookies are only believed for changes when the request comes from our own pages (custom header and Origin).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.routing import Match

from broker.api.accounts import Accounts, Person, Role, Sessions
from schemas.errors import Refused

COOKIE: Final = "fairlead_session"
HEADER: Final = "x-fairlead"

OPEN: Final[frozenset[str]] = frozenset({"anyone"})
READERS: Final[frozenset[str]] = frozenset({"consumer", "integrator", "engineer", "auditor", "admin"})
PLANT: Final[frozenset[str]] = frozenset({"integrator", "engineer", "auditor", "admin"})
ENGINEER: Final[frozenset[str]] = frozenset({"engineer"})
ADMIN: Final[frozenset[str]] = frozenset({"admin"})
AUDITOR: Final[frozenset[str]] = frozenset({"auditor", "admin"})

#: (method, route path as registered) to the roles that may call it.
ACCESS: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/metrics"): OPEN,
    ("GET", "/login"): OPEN,
    ("POST", "/login"): OPEN,
    ("POST", "/logout"): READERS,
    ("GET", "/"): PLANT,
    ("GET", "/ui/anomalies"): PLANT,
    ("GET", "/ui/anomalies/{anomaly_id}"): PLANT,
    ("POST", "/ui/annotations/{annotation_id}/review"): ENGINEER,
    ("GET", "/api/v1/openapi.json"): READERS,
    ("GET", "/api/v1/records"): READERS,
    ("GET", "/api/v1/current"): READERS,
    ("GET", "/api/v1/tags"): READERS,
    ("GET", "/api/v1/trend"): READERS,
    ("GET", "/api/v1/gaps"): READERS,
    ("GET", "/api/v1/quarantine"): PLANT,
    ("GET", "/api/v1/sources"): PLANT,
    ("GET", "/api/v1/anomalies"): READERS,
    ("GET", "/api/v1/anomalies/{anomaly_id}"): READERS,
    ("POST", "/api/v1/annotations/{annotation_id}/review"): ENGINEER,
    ("GET", "/api/v1/documents"): READERS,
    ("GET", "/api/v1/documents/{document_id}"): READERS,
    ("GET", "/api/v1/users"): ADMIN,
    ("POST", "/api/v1/users"): ADMIN,
    ("GET", "/api/v1/audit"): AUDITOR,
}

_CHANGES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Gate:
    """ASGI-level middleware: host check, identity, role, origin of changes, security headers."""

    def __init__(self, accounts: Accounts, sessions: Sessions, local_token: str, hosts: frozenset[str]) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._local_token = local_token
        self._hosts = hosts

    async def __call__(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        """Answer the request, or say why not: 400 host, 401 who, 403 may not, 404 no such route."""
        response = await self._judge(request, call_next)
        static = request.url.path.startswith("/static/")
        for key, value in _SECURITY_HEADERS.items():
            response.headers.setdefault(key, "max-age=3600" if static and key == "Cache-Control" else value)
        return response

    async def _judge(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        host = (request.headers.get("host") or "").rsplit(":", 1)[0].strip("[]").lower()
        if host not in self._hosts:
            return _problem(400, "this host name is not served; see api.hosts")
        if request.url.path.startswith("/static/"):
            return await call_next(request)
        path, methods = _route_of(request)
        if path is None:
            return _problem(404, "no such page") if not methods else _problem(405, "this method is not offered here")
        allowed = ACCESS.get((request.method, path), frozenset())
        person: Person | None = None
        try:
            person, by_cookie = await self._identify(request)
        except Refused as error:
            return _problem(401, str(error), {"WWW-Authenticate": 'Basic realm="Fairlead"'})
        request.state.person = person
        if "anyone" not in allowed:
            if person is None:
                if _wants_page(request):
                    return RedirectResponse("/login", 303)
                return _problem(401, "sign in first", {"WWW-Authenticate": 'Basic realm="Fairlead"'})
            if not person.roles & allowed:
                return _problem(403, f"this needs one of the roles {', '.join(sorted(allowed)) or 'none'}")
        if request.method in _CHANGES and (by_cookie or "anyone" in allowed) and not _own_origin(request):
            return _problem(403, "a change must come from our own pages")
        return await call_next(request)

    async def _identify(self, request: Request) -> tuple[Person | None, bool]:
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(rest.encode(), self._local_token.encode()):
            everything: frozenset[Role] = frozenset({"admin", "auditor"})
            return Person("local", everything), False
        if scheme.lower() == "basic":
            try:
                name, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise Refused("the Authorization header cannot be read") from None
            return await run_in_threadpool(self._accounts.sign_in_basic, name, password), False
        if scheme:
            raise Refused("name or password is wrong")
        token = request.cookies.get(COOKIE)
        return (self._sessions.find(token) if token else None), True


def _route_of(request: Request) -> tuple[str | None, bool]:
    """Registered path of the route that will answer, and whether the path exists with another method."""
    partial = False
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is Match.FULL:
            return str(route.path), True
        partial = partial or match is Match.PARTIAL
    return None, partial


def _wants_page(request: Request) -> bool:
    return request.method == "GET" and not request.url.path.startswith("/api/") and HEADER not in request.headers


def _own_origin(request: Request) -> bool:
    origin = request.headers.get("origin")
    if origin is None:
        # a browser sends Origin with every POST that another page could cause; scripts set our header instead
        return HEADER in request.headers
    return urlsplit(origin).netloc.lower() == (request.headers.get("host") or "").lower()


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
