"""The plant engineer's page: list of anomalies, one of them in detail, and the decision on it."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from fastapi import FastAPI, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from broker.api.access import COOKIE, SHELVER
from broker.api.accounts import Accounts, Person, Sessions
from broker.api.services import PersonOf, ReaderOf, Services, ServicesOf
from broker.documents.build import document_ids
from broker.documents.sendings import sendings
from broker.review import decide
from broker.store import Reader, Transaction
from broker.web.conditions import conditions
from broker.web.events import MAX_EVENTS, event_rows
from broker.web.holders import covering, in_force
from broker.web.templating import render
from broker.web.view import detail_view, list_view
from detectors.suppression import MOST_ACTIVE
from schemas.annotation import RejectReason, Review, ReviewVerdict
from schemas.documents import Document
from schemas.errors import Refused

LIST_ROWS: Final = 100
MAX_ACTIONS: Final = 10

Show = Annotated[
    Literal["all", "open", "pending", "policy", "suppressed"], Query(description="Which anomalies the list holds.")
]


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module; pages are no part of the documented API."""
    page: dict[str, Any] = {"response_class": HTMLResponse, "include_in_schema": False}
    app.get("/login", **page)(login_page)
    app.post("/login", **page)(login)
    app.post("/logout", **page)(logout)
    app.get("/", **page)(whole_page)
    app.get("/ui/anomalies", **page)(anomaly_list)
    app.get("/ui/anomalies/{anomaly_id}", **page)(anomaly_detail)
    app.post("/ui/annotations/{annotation_id}/review", **page)(review)


def login_page(request: Request) -> Response:
    """The form to sign in."""
    return render(request, "login.html", {"error": "", "name": ""})


def login(
    request: Request,
    services: ServicesOf,
    name: Annotated[str, Form(max_length=64)],
    password: Annotated[str, Form(max_length=1000)],
) -> Response:
    """Sign in and go to the list; the form again, with the reason, when it fails."""
    accounts: Accounts = request.app.state.accounts
    sessions: Sessions = request.app.state.sessions
    try:
        person = accounts.sign_in(name, password)
    except Refused as error:
        return render(request, "login.html", {"error": str(error), "name": name}, 401)
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


def logout(request: Request, services: ServicesOf, person: PersonOf) -> Response:
    """End this browser's session."""
    sessions: Sessions = request.app.state.sessions
    sessions.close(request.cookies.get(COOKIE, ""))
    services.write(lambda tx: tx.audit(person.name, "signed_out", person.name, {}))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


def _zone(services: Services) -> ZoneInfo:
    return ZoneInfo(services.config.site.timezone)


def _list(services: Services, reader: Reader, show: str, person: Person) -> dict[str, Any]:
    rows = reader.anomalies(
        state="open" if show == "open" else None,
        review=show if show in {"pending", "policy"} else None,
        # what was released may have been suppressed since
        suppressed=None if show == "policy" else show == "suppressed",
        limit=LIST_ROWS,
        before=None,
    )
    held = in_force(reader.suppressions(active=True, limit=MOST_ACTIVE), _zone(services))
    return list_view(rows, _zone(services)) | {
        "show": show,
        "conditions": list(conditions(services)),
        "maintained": [one for one in held if one["mode"] == "maintenance"],
        "shelves": [one for one in held if one["mode"] == "shelf"],
        "may_suppress": bool(person.roles & SHELVER),
        "has_policy": services.config.review.policy is not None,
    }


def detail(services: Services, reader: Reader, anomaly_id: str, person: Person) -> dict[str, Any] | None:
    """What the fragment of one anomaly shows; None where it is not kept."""
    found = reader.anomaly(anomaly_id)
    if found is None:
        return None
    ids = [one for sending in sendings(found.reviews) for one in document_ids(anomaly_id, sending)]
    documents = [document for document in map(reader.document, ids) if document is not None]
    holders = covering(found.anomaly, reader.suppressions(active=True, limit=MOST_ACTIVE), _zone(services))
    shown = detail_view(found, documents, person, time.time_ns(), _zone(services))
    begin_ns, end_ns = shown["from_ms"] * 1_000_000, shown["to_ms"] * 1_000_000
    events = reader.events_between(found.anomaly.equipment, begin_ns, end_ns, limit=MAX_EVENTS)
    return shown | {"holders": holders, "events": event_rows(events, _zone(services))}


def whole_page(
    request: Request, services: ServicesOf, reader: ReaderOf, person: PersonOf, anomaly: str = "", show: Show = "all"
) -> Response:
    """The whole page, with one anomaly open when the address names it."""
    shown = detail(services, reader, anomaly, person) if anomaly else None
    gone = bool(anomaly) and shown is None
    context = _list(services, reader, show, person) | {"detail": shown, "gone": gone, "message": "", "outcome": ""}
    return render(request, "anomalies.html", context)


def anomaly_list(
    request: Request, services: ServicesOf, reader: ReaderOf, person: PersonOf, show: Show = "all"
) -> Response:
    """The list alone; the page asks for it every two seconds."""
    return render(request, "_list.html", _list(services, reader, show, person))


def anomaly_detail(
    request: Request, services: ServicesOf, reader: ReaderOf, person: PersonOf, anomaly_id: str
) -> Response:
    """One anomaly alone."""
    return detail_answer(request, detail(services, reader, anomaly_id, person), "", "", 200)


def detail_answer(
    request: Request, shown: dict[str, Any] | None, message: str, outcome: Literal["", "done", "error"], status: int
) -> Response:
    """The fragment of one anomaly with a *message*, or that it is gone."""
    if shown is None:
        return render(request, "_gone.html", {}, 404)
    return render(request, "_detail.html", {"detail": shown, "message": message, "outcome": outcome}, status)


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
    actions: Annotated[str, Form(max_length=4000, description="One a line.")] = "",
    withdraw: Annotated[bool, Form(description="The form said that a rejection withdraws documents.")] = False,
) -> Response:
    """Take the decision and show the anomaly again, with the result or the reason why not."""
    taken = Review(
        annotation_id=annotation_id,
        verdict=verdict,
        person=person.name,
        at_ns=time.time_ns(),
        reason=reason if verdict == "rejected" else None,
        comment=comment,
    )
    lines = tuple(line.strip() for line in actions.splitlines() if line.strip())[:MAX_ACTIONS]

    def command(tx: Transaction) -> list[Document]:
        changed = _edited(tx, taken, cause_id, text.strip(), lines) if verdict == "edited" else taken
        return decide(tx, changed, services.config.site.name, withdraw=withdraw)

    try:
        released = services.write(command)
    except Refused as error:
        return detail_answer(request, detail(services, reader, anomaly_id, person), str(error), "error", 409)
    message = f"{verdict.capitalize()}; {len(released)} documents {released[0].data['status']}." if released else ""
    message = message or ("Rejected." if verdict == "rejected" else "Confirmed; nothing new is sent.")
    return detail_answer(request, detail(services, reader, anomaly_id, person), message, "done", 200)


def _edited(tx: Transaction, taken: Review, cause_id: str, text: str, actions: tuple[str, ...]) -> Review:
    """The review with what differs from the annotation; the form always sends all three."""
    before = tx.annotation_by_id(taken.annotation_id)
    if before is None:
        return taken
    return taken.model_copy(
        update={
            "cause_id": cause_id if cause_id and cause_id != before.causes[0].id else None,
            "text": text if text and text != before.text else None,
            "actions": actions if actions != before.actions else None,
        }
    )
