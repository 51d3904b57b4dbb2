"""
Who may call what: one table of routes and roles, denied by default.

A route that is not in the table cannot be reached by anybody; a test walks every route with every role.
Cookies are only believed for changes when the request comes from our own pages (custom header and Origin).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.routing import Match

from broker.api.accounts import Accounts, Person, Role, Sessions
from broker.api.answers import problem, wants_page
from schemas.errors import FairleadError, Refused

COOKIE: Final = "fairlead_session"
HEADER: Final = "x-fairlead"

OPEN: Final[frozenset[str]] = frozenset({"anyone"})
READERS: Final[frozenset[str]] = frozenset({"consumer", "integrator", "engineer", "auditor", "admin"})
PLANT: Final[frozenset[str]] = frozenset({"integrator", "engineer", "auditor", "admin"})
ENGINEER: Final[frozenset[str]] = frozenset({"engineer"})
INTEGRATOR: Final[frozenset[str]] = frozenset({"integrator", "admin"})
SHELVER: Final[frozenset[str]] = frozenset({"engineer", "admin"})
LIBRARIAN: Final[frozenset[str]] = frozenset({"integrator", "engineer", "admin"})
ADMIN: Final[frozenset[str]] = frozenset({"admin"})
AUDITOR: Final[frozenset[str]] = frozenset({"auditor", "admin"})

#: (method, route path as registered) to the roles that may call it; docs/api.md has the same table.
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
    ("POST", "/ui/suppressions"): SHELVER,
    ("POST", "/ui/suppressions/{suppression_id}/end"): SHELVER,
    ("GET", "/detectors"): PLANT,
    ("GET", "/ask"): PLANT,
    ("POST", "/ui/ask"): PLANT,
    ("GET", "/api/v1/openapi.json"): READERS,
    ("GET", "/api/v1/records"): READERS,
    ("GET", "/api/v1/current"): READERS,
    ("GET", "/api/v1/tags"): READERS,
    ("GET", "/api/v1/trend"): READERS,
    ("GET", "/api/v1/events"): READERS,
    ("GET", "/api/v1/gaps"): READERS,
    ("GET", "/api/v1/quarantine"): PLANT,
    ("GET", "/api/v1/sources"): PLANT,
    ("POST", "/api/v1/sources/{source}/trust"): INTEGRATOR,
    ("POST", "/api/v1/sources/{source}/device"): INTEGRATOR,
    ("GET", "/api/v1/anomalies"): READERS,
    ("GET", "/api/v1/anomalies/{anomaly_id}"): READERS,
    ("POST", "/api/v1/annotations/{annotation_id}/review"): ENGINEER,
    ("GET", "/api/v1/detectors"): PLANT,
    ("GET", "/api/v1/model"): PLANT,
    ("GET", "/api/v1/status"): PLANT,
    ("GET", "/api/v1/suppressions"): READERS,
    ("POST", "/api/v1/suppressions"): SHELVER,
    ("POST", "/api/v1/suppressions/{suppression_id}/end"): SHELVER,
    ("GET", "/api/v1/manuals"): PLANT,
    ("GET", "/api/v1/manuals/search"): PLANT,
    ("POST", "/api/v1/manuals"): LIBRARIAN,
    ("POST", "/api/v1/manuals/{manual_id}/passages"): LIBRARIAN,
    ("POST", "/api/v1/manuals/{manual_id}/finish"): LIBRARIAN,
    ("POST", "/api/v1/manuals/{manual_id}/remove"): LIBRARIAN,
    ("POST", "/api/v1/ask"): READERS,
    ("GET", "/api/v1/documents"): READERS,
    ("GET", "/api/v1/documents/{document_id}"): READERS,
    ("GET", "/api/v1/models"): PLANT,
    ("POST", "/api/v1/models/imports"): INTEGRATOR,
    ("POST", "/api/v1/models/refusals"): INTEGRATOR,
    ("POST", "/api/v1/models/decisions"): INTEGRATOR,
    ("POST", "/api/v1/models/keys"): ADMIN,
    ("GET", "/api/v1/replays"): PLANT,
    ("POST", "/api/v1/replays"): INTEGRATOR,
    ("GET", "/api/v1/users"): ADMIN,
    ("POST", "/api/v1/users"): ADMIN,
    ("POST", "/api/v1/users/{name}/disable"): ADMIN,
    ("GET", "/api/v1/audit"): AUDITOR,
}

#: Plain forms of our pages, which cannot set a header; their Origin is checked.
_FORMS: Final = frozenset({"/login", "/logout"})
#: Asked for by the open page itself, not by a person: does not keep a session alive.
_PASSIVE: Final = frozenset({"/ui/anomalies"})
_CHANGES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?", re.IGNORECASE)
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    # with no-referrer a browser sends `Origin: null` with our own forms
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Gate:
    """Middleware: host check, identity, role, origin of changes, security headers."""

    def __init__(self, accounts: Accounts, sessions: Sessions, local_token: str, hosts: frozenset[str]) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._local_token = local_token
        self._hosts = hosts

    async def __call__(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        """Answer the request, or say why not: 400 host, 401 who, 403 may not, 404 no such route, 405 method."""
        try:
            response = await self._judge(request, call_next)
        except FairleadError as error:
            # what handlers raise is answered inside; this is the look-up of the person
            response = problem(request, 503, f"nobody can sign in now: {error}", {"Retry-After": "5"})
        for key, value in SECURITY_HEADERS.items():
            response.headers.setdefault(key, value)
        if _is_static(request):
            response.headers["Cache-Control"] = "no-cache"
        return response

    async def _judge(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        host = _HOST.fullmatch(request.headers.get("host", ""))
        if host is None or (host[1] or host[2]).lower() not in self._hosts:
            return problem(request, 400, "this host name is not served; see api.hosts")
        if _is_static(request):
            return await call_next(request)
        path, known = _route_of(request)
        if path is None:
            return problem(request, 405 if known else 404, _NO_METHOD if known else "there is no such page")
        allowed = ACCESS.get((request.method, path), frozenset())
        try:
            person, by_cookie = await self._identify(request, path)
        except Refused as error:
            return _who(request, str(error))
        request.state.person = person
        if "anyone" not in allowed:
            if person is None:
                return RedirectResponse("/login", 303) if wants_page(request) else _who(request, "sign in first")
            if not person.roles & allowed:
                return problem(request, 403, f"this needs one of the roles {', '.join(sorted(allowed)) or 'none'}")
        if request.method in _CHANGES and not _from_our_pages(request, path, by_cookie=by_cookie):
            return problem(request, 403, "a change must come from our own pages")
        return await call_next(request)

    async def _identify(self, request: Request, path: str) -> tuple[Person | None, bool]:
        """Who asks, and whether a cookie says so (or nothing does)."""
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(rest.encode(), self._local_token.encode()):
            roles: frozenset[Role] = frozenset({"admin", "auditor"})
            return Person("local", roles), False
        if scheme.lower() == "basic":
            try:
                name, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise Refused("the Authorization header cannot be read") from None
            return await run_in_threadpool(self._accounts.sign_in_basic, name, password), False
        if scheme:
            raise Refused("name or password is wrong")
        token = request.cookies.get(COOKIE)
        if not token:
            return None, True
        return self._sessions.find(token, use="passive" if path in _PASSIVE else "active"), True


_NO_METHOD: Final = "this method is not offered here"


def _is_static(request: Request) -> bool:
    # the scope's path, because the URL is put together with the Host header
    path: str = request.scope["path"]
    return path.startswith("/static/")


def _route_of(request: Request) -> tuple[str | None, bool]:
    """Registered path of the route that will answer, and whether the path exists, maybe with another method."""
    partial = False
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is Match.FULL:
            return str(route.path), True
        partial = partial or match is Match.PARTIAL
    return None, partial


def _from_our_pages(request: Request, path: str, *, by_cookie: bool) -> bool:
    """
    Whether a change cannot have been caused by a page of somebody else.

    Browsers send Origin with every change that another page can cause, also when they remember a Basic password.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.headers["host"].lower():
        return False
    if not by_cookie or HEADER in request.headers:
        return True
    return path in _FORMS and origin is not None


def _who(request: Request, detail: str) -> Response:
    # a browser that is asked for Basic opens a window of its own and keeps the password
    browser = HEADER in request.headers or "sec-fetch-mode" in request.headers
    return problem(request, 401, detail, None if browser else {"WWW-Authenticate": 'Basic realm="Fairlead"'})
