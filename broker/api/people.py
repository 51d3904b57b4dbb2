"""Local accounts and the audit chain."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from broker.api.accounts import Sessions, check_roles, hash_password
from broker.api.cursor import MAX_PLACE
from broker.api.services import PersonOf, ReaderOf, ServicesOf
from broker.store import Transaction
from schemas.documents import rfc3339
from schemas.errors import Refused


class NewUser(BaseModel):
    """A person to add, or to give a new password or other roles."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")
    roles: tuple[str, ...] = Field(min_length=1)
    password: str = Field(max_length=1000)


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/api/v1/users")(users)
    app.post("/api/v1/users")(put_user)
    app.post("/api/v1/users/{name}/disable")(disable_user)
    app.get("/api/v1/audit")(audit)


def users(reader: ReaderOf) -> dict[str, Any]:
    """Everybody who may sign in; never a password hash."""
    rows = [{"name": row.name, "roles": row.roles, "disabled": row.disabled} for row in reader.users()]
    return {"users": rows}


def put_user(services: ServicesOf, person: PersonOf, request: Request, user: NewUser) -> dict[str, Any]:
    """Add a person or replace password and roles; open sessions of that name end."""
    roles = check_roles(user.roles)
    hashed = hash_password(user.password)

    def store(tx: Transaction) -> None:
        tx.put_user(user.name, roles, hashed)
        tx.audit(person.name, "user_put", user.name, {"roles": list(roles)})

    services.write(store)
    sessions: Sessions = request.app.state.sessions
    sessions.close_all(user.name)
    return {"name": user.name, "roles": roles}


def disable_user(services: ServicesOf, reader: ReaderOf, person: PersonOf, request: Request, name: str) -> Response:
    """Keep the entry, refuse sign-in; open sessions of that name end. A new password enables it again."""
    if reader.user(name) is None:
        return JSONResponse({"detail": "no such person"}, 404)
    if name == person.name:
        raise Refused("you cannot disable yourself")

    def store(tx: Transaction) -> None:
        tx.disable_user(name)
        tx.audit(person.name, "user_disabled", name, {})

    services.write(store)
    sessions: Sessions = request.app.state.sessions
    sessions.close_all(name)
    return JSONResponse({"name": name, "disabled": True})


def audit(
    reader: ReaderOf,
    before: Annotated[
        int | None, Query(ge=0, le=MAX_PLACE, description="`audit_id` of the last row of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """
    The audit chain, newest first.

    The first page (without ``before``) walks the whole chain and says with ``intact`` and ``fault`` whether it holds.
    """
    rows = [
        {**row._asdict(), "at_ns": str(row.at_ns), "at": rfc3339(row.at_ns)}
        for row in reader.audit(before=before, limit=limit)
    ]
    if before is not None:
        return {"audit": rows}
    fault = reader.verify_audit()
    return {"audit": rows, "intact": fault is None, "fault": None if fault is None else fault._asdict()}
