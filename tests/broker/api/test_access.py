"""Who may call what: every route with every role, hosts, methods, origins."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route

from broker.api.access import ACCESS, READERS
from broker.api.accounts import ROLES, Role
from tests.broker.api.core import PASSWORD, TOKEN, Core, running_core

#: A body for each change, so that an allowed call is not stopped by its form.
BODIES: dict[str, dict[str, object]] = {
    "/api/v1/users": {"json": {"name": "new.person", "roles": ["consumer"], "password": PASSWORD}},
    "/api/v1/annotations/{annotation_id}/review": {"json": {"verdict": "approved"}},
    "/api/v1/sources/{source}/trust": {"json": {"fingerprint": "00000000", "decision": "accept"}},
    "/api/v1/sources/{source}/device": {"json": {"device": "product X2"}},
    "/ui/annotations/{annotation_id}/review": {"data": {"anomaly_id": "x", "verdict": "approved"}},
    "/ui/ask": {"data": {"question": "why"}},
    "/api/v1/ask": {"json": {"question": "why"}},
    "/api/v1/manuals/{manual_id}/passages": {"json": {"passages": [{"text": "grease"}]}},
    "/api/v1/replays": {"json": {"from_ns": "1"}},
    "/login": {"data": {"name": "nobody", "password": "wrong"}},
}
ROUTES = sorted(ACCESS)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    """One core for all tests here: none of them changes what another one asks."""
    with running_core(tmp_path_factory.mktemp("access")) as core:
        yield core


def _address(path: str) -> str:
    return path.format(
        anomaly_id="none",
        annotation_id="none",
        document_id="none",
        suppression_id="none",
        manual_id=999,
        name="i.kaya",
        source="none",
    )


def _allowed(status: int) -> bool:
    """Whether the handler was reached; it may then answer that there is no such thing."""
    return status not in {401, 403, 405, 500, 503}


def test_table_and_routes_are_the_same(core: Core) -> None:
    """Every registered route is in the table, and the table names no other."""
    registered = set()
    for route in core.app.routes:
        if isinstance(route, Mount):
            assert route.path == "/static"
        elif isinstance(route, APIRoute | Route):
            assert route.methods is not None
            registered |= {(method, route.path) for method in route.methods - {"HEAD"}}
        else:
            pytest.fail(f"unknown kind of route {route!r}")
    assert registered == set(ACCESS)


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[f"{m} {p}" for m, p in ROUTES])
def test_every_route_with_every_role(core: Core, method: str, path: str) -> None:
    """Without a sign-in 401 (or allowed for anyone), with a wrong role 403, with a right one the handler answers."""
    allowed = ACCESS[method, path]
    body = BODIES.get(path, {})
    stranger = core.new_client()
    stranger.headers["X-Fairlead"] = "page"

    nobody = stranger.request(method, _address(path), **body)  # type: ignore[arg-type]
    if "anyone" in allowed:
        # a wrong password is the handler's own 401
        assert _allowed(nobody.status_code) or (path == "/login" and "wrong" in nobody.text)
        return
    assert nobody.status_code == 401
    for role in ROLES:
        answer = core.as_role(role).request(method, _address(path), **body)  # type: ignore[arg-type]
        if role in allowed:
            assert _allowed(answer.status_code), (role, answer.text)
        else:
            assert answer.status_code == 403, role
            assert "this needs one of the roles" in answer.text


def test_person_without_roles_reaches_nothing(core: Core) -> None:
    """A session without any role is refused everywhere but on the open pages."""
    client = core.as_role()
    for method, path in ROUTES:
        if "anyone" not in ACCESS[method, path]:
            assert client.request(method, _address(path)).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1:8080/static/?", "[::1", "", "a b"])
def test_foreign_host_is_refused(core: Core, host: str) -> None:
    """A name that is not configured is not served, so that a rebound DNS name reaches nothing."""
    for path in ("/api/v1/users", "/healthz", "/static/fairlead.css", "/login"):
        status, body = core.raw_get(path, host)
        assert status == 400
        assert "api.hosts" in body or "Invalid HTTP request" in body


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9", "[::1]", "[::1]:8080", "LOCALHOST"])
def test_own_host_is_served(core: Core, host: str) -> None:
    """The loopback names and the address itself are served, with or without a port."""
    assert core.raw_get("/healthz", host)[0] == 200


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/nothing", "/docs", "/redoc", "/openapi.json"])
def test_unknown_route(core: Core, path: str) -> None:
    """What is not registered is 404, also for an administrator."""
    assert core.client.get(path).status_code == 404
    assert core.as_role("admin").get(path).status_code == 404


@pytest.mark.parametrize(("method", "path"), [("POST", "/healthz"), ("DELETE", "/api/v1/users"), ("PUT", "/login")])
def test_other_method(core: Core, method: str, path: str) -> None:
    """A known path with a method that it does not offer is 405."""
    assert core.as_role("admin").request(method, path).status_code == 405


@pytest.mark.parametrize("path", ["/static/../pages.py", "/static/%2e%2e/pages.py", "/static/..%2f..%2fevents.py"])
def test_static_files_end_at_their_folder(core: Core, path: str) -> None:
    """Only what lies in the static folder is served."""
    status, body = core.raw_get(path, "127.0.0.1")
    assert status in {401, 404}
    assert "import" not in body


def test_security_headers_on_every_answer(tmp_path: Path) -> None:
    """Pages, refusals, failures and files carry the policy; nothing but files may be kept."""
    with running_core(tmp_path) as core:
        core.app.state.reader = None  # makes handlers that read fail with 500
        client = core.as_role("engineer")
        seen = {}
        for path in ("/healthz", "/login", "/nothing", "/api/v1/users", "/static/fairlead.js", "/api/v1/gaps"):
            answer = client.get(path)
            seen[path] = answer.status_code
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")
        assert list(seen.values()) == [200, 200, 404, 403, 200, 500]
        assert "Traceback" not in client.get("/api/v1/gaps").text


def test_page_without_sign_in_leads_to_the_form(core: Core) -> None:
    """A browser that asks for a page is sent to the form; a part of a page and the API get 401."""
    html = {"Accept": "text/html,application/xhtml+xml"}

    page = core.client.get("/", headers=html)
    assert (page.status_code, page.headers["location"]) == (303, "/login")
    assert core.client.get("/ui/anomalies", headers=html | {"X-Fairlead": "page"}).status_code == 401
    assert core.client.get("/api/v1/records", headers=html).status_code == 401


def test_browser_is_not_asked_for_basic(core: Core) -> None:
    """Only programs are told of Basic: a browser would keep the password and send it with other pages' requests."""
    assert core.client.get("/api/v1/records").headers["www-authenticate"].startswith("Basic")
    browser = core.client.get("/api/v1/records", headers={"Sec-Fetch-Mode": "navigate"})
    assert browser.status_code == 401
    assert "www-authenticate" not in browser.headers


def test_local_token_is_an_administrator(core: Core) -> None:
    """The token of core.json adds people and reads the audit, but decides nothing."""
    local = {"Authorization": f"Bearer {TOKEN}"}
    body = {"name": "b.petit", "roles": ["engineer"], "password": PASSWORD}

    assert core.client.post("/api/v1/users", json=body, headers=local).status_code == 200
    assert core.client.get("/api/v1/audit", headers=local).json()["audit"][0]["actor"] == "local"
    review = core.client.post("/api/v1/annotations/x/review", json={"verdict": "approved"}, headers=local)
    assert review.status_code == 403
    for wrong in (TOKEN[:-1], TOKEN + "x", "é"):
        answer = core.client.get("/api/v1/users", headers={"Authorization": f"Bearer {wrong}".encode()})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "value", ["Basic !!!", "Basic " + base64.b64encode(b"\xff\xfe").decode(), "Digest x", "Basic", "x"]
)
def test_unreadable_authorization_is_401(core: Core, value: str) -> None:
    """A header that cannot be read never lets anybody in and never fails the server."""
    assert core.client.get("/api/v1/records", headers={"Authorization": value}).status_code == 401


FOREIGN = ["http://evil.example", "null", "http://127.0.0.1:9", "http://127.0.0.1"]


@pytest.mark.parametrize("origin", FOREIGN)
def test_change_from_a_foreign_page_is_refused(core: Core, origin: str) -> None:
    """A cookie, a form or a remembered Basic password does not act for a page of somebody else."""
    engineer = core.as_role("engineer")
    body = {"json": {"verdict": "approved"}}
    headers = {"Origin": origin}

    assert engineer.post("/api/v1/annotations/x/review", headers=headers, **body).status_code == 403  # type: ignore[arg-type]
    assert core.client.post("/login", headers=headers, data={"name": "root", "password": PASSWORD}).status_code == 403
    assert engineer.post("/logout", headers=headers).status_code == 403
    basic = core.client.post("/api/v1/users/i.kaya/disable", headers=headers, auth=("root", PASSWORD))
    assert basic.status_code == 403


def test_change_by_cookie_needs_our_header(core: Core) -> None:
    """Without the header a cookie changes nothing, even with our own Origin; with it the handler answers."""
    engineer = core.as_role("engineer")
    own = {"Origin": core.url}
    address, body = "/api/v1/annotations/x/review", {"verdict": "approved"}
    with_header = engineer.post(address, json=body, headers=own)
    del engineer.headers["X-Fairlead"]

    assert with_header.status_code == 409
    for headers in ({}, own):
        refused = engineer.post(address, json=body, headers=headers)
        assert (refused.status_code, refused.json()["detail"]) == (403, "a change must come from our own pages")


def test_session_of_another_role_does_not_leak_into_basic(core: Core) -> None:
    """The Authorization header decides where both are sent."""
    client = core.as_role("admin")

    assert client.get("/api/v1/users").status_code == 200
    assert client.get("/api/v1/users", auth=("mes", PASSWORD)).status_code == 403
    assert client.get("/api/v1/records", auth=("mes", "wrong password")).status_code == 401


def test_every_role_is_known_to_the_table(core: Core) -> None:
    """Roles of the table are roles that a person can have."""
    known: set[str] = {"anyone", *ROLES}
    role: Role
    for roles in ACCESS.values():
        assert roles <= known
    for role in ROLES:
        assert role in READERS
