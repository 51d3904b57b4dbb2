"""The plant engineer's page: list of anomalies, one of them in detail, and the decision on it."""

from __future__ import annotations

import time
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import FastAPI, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.templating import Jinja2Templates

from broker.api.access import COOKIE
from broker.api.accounts import Accounts, Person, Sessions
from broker.api.services import PersonOf, ReaderOf, Services, ServicesOf
from broker.documents.build import document_ids
from broker.review import decide
from broker.store import Reader
from broker.web.view import detail_view, list_view
from schemas.annotation import RejectReason, Review, ReviewVerdict
from schemas.errors import Refused

LIST_ROWS: Final = 100

_templates = Jinja2Templates(directory=Path(str(files("broker.web") / "templates")))


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/login", response_class=HTMLResponse)(login_page)
    app.post("/login")(login)
    app.post("/logout")(logout)
    app.get("/", response_class=HTMLResponse)(page)
    app.get("/ui/anomalies", response_class=HTMLResponse)(anomaly_list)
    app.get("/ui/anomalies/{anomaly_id}", response_class=HTMLResponse)(anomaly_detail)
    app.post("/ui/annotations/{annotation_id}/review", response_class=HTMLResponse)(review)


def _page(request: Request, template: str, context: dict[str, Any], status: int = 200) -> Response:
    services: Services = request.app.state.services
    person: Person | None = getattr(request.state, "person", None)
    base = {"site": services.config.site.path, "person": person}
    return _templates.TemplateResponse(request, template, base | context, status_code=status)


def login_page(request: Request) -> Response:
    """The form to sign in."""
    return _page(request, "login.html", {"error": ""})


def login(
    request: Request,
    name: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=1000)],
) -> Response:
    """Sign in and go to the list; the form again, with the reason, when it fails."""
    accounts: Accounts = request.app.state.accounts
    sessions: Sessions = request.app.state.sessions
    services: Services = request.app.state.services
    try:
        person = accounts.sign_in(name, password)
    except Refused as error:
        services.write(lambda tx: tx.audit(name, "sign_in_failed", name, {}))
        return _page(request, "login.html", {"error": str(error)}, 401)
    services.write(lambda tx: tx.audit(person.name, "signed_in", person.name, {}))
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        COOKIE,
        sessions.open(person),
        max_age=int(sessions.absolute_s),
        httponly=True,
        samesite="strict",
        secure=services.config.api.tls is not None,
    )
    return answer


def logout(request: Request) -> Response:
    """End this browser's session."""
    sessions: Sessions = request.app.state.sessions
    sessions.close(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


def _list(reader: Reader) -> dict[str, Any]:
    return list_view(reader.anomalies(state=None, review=None, limit=LIST_ROWS, before=None))


def _detail(reader: Reader, anomaly_id: str, person: Person) -> dict[str, Any] | None:
    found = reader.anomaly(anomaly_id)
    if found is None:
        return None
    released = {r.annotation_id for r in found.reviews if r.verdict != "rejected"}
    ids = dict.fromkeys(one for annotation_id in released for one in document_ids(anomaly_id, annotation_id))
    documents = [document for document in map(reader.document, ids) if document is not None]
    return detail_view(found, documents, person, time.time_ns())


def page(request: Request, reader: ReaderOf, person: PersonOf, anomaly: str = "") -> Response:
    """The whole page, with one anomaly open when the address names it."""
    detail = _detail(reader, anomaly, person) if anomaly else None
    return _page(request, "anomalies.html", _list(reader) | {"detail": detail, "message": ""})


def anomaly_list(request: Request, reader: ReaderOf) -> Response:
    """The list alone; the page asks for it every two seconds."""
    return _page(request, "_list.html", _list(reader))


def anomaly_detail(request: Request, reader: ReaderOf, person: PersonOf, anomaly_id: str) -> Response:
    """One anomaly alone."""
    detail = _detail(reader, anomaly_id, person)
    if detail is None:
        return HTMLResponse("<p class='empty'>This anomaly is no longer kept.</p>", 404)
    return _page(request, "_detail.html", {"detail": detail, "message": ""})


def review(
    request: Request,
    services: ServicesOf,
    reader: ReaderOf,
    person: PersonOf,
    annotation_id: str,
    anomaly_id: Annotated[str, Form(max_length=64)],
    verdict: Annotated[ReviewVerdict, Form()],
    reason: Annotated[RejectReason | None, Form()] = None,
    comment: Annotated[str, Form(max_length=2000)] = "",
    cause_id: Annotated[str, Form(max_length=64)] = "",
    text: Annotated[str, Form(max_length=600)] = "",
) -> Response:
    """Take the decision and show the anomaly again, with the result or the reason why not."""
    taken = Review(
        annotation_id=annotation_id,
        verdict=verdict,
        person=person.name,
        at_ns=time.time_ns(),
        reason=reason if verdict == "rejected" else None,
        comment=comment,
        cause_id=(cause_id or None) if verdict == "edited" else None,
        text=(text or None) if verdict == "edited" else None,
    )
    status, css = 200, "done"
    try:
        released = services.write(lambda tx: decide(tx, taken, services.config.site.name))
        message = f"{verdict.capitalize()}. {len(released)} documents released." if released else "Rejected."
    except Refused as error:
        status, css, message = 409, "error", str(error)
    detail = _detail(reader, anomaly_id, person)
    if detail is None:
        return HTMLResponse("<p class='empty'>This anomaly is no longer kept.</p>", 404)
    context = {"detail": detail, "message": message, "message_class": css}
    return _page(request, "_detail.html", context, status)
