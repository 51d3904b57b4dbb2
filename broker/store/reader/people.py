"""People and the audit chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from broker.store import tables
from broker.store.people import link_hash
from broker.store.rows.people import AuditFault, AuditRow, UserRow

_AUDIT = tables.audit


def list_users(connection: sa.Connection) -> list[UserRow]:
    """All people, by name."""
    return [_user(row) for row in connection.execute(sa.select(tables.users).order_by(tables.users.c.name))]


def user(connection: sa.Connection, name: str) -> UserRow | None:
    """One person, also a disabled one."""
    row = connection.execute(sa.select(tables.users).where(tables.users.c.name == name)).first()
    return None if row is None else _user(row)


def _user(row: sa.Row[Any]) -> UserRow:
    return UserRow(
        row.name, msgspec.json.decode(row.roles, type=tuple[str, ...]), row.password_hash, bool(row.disabled)
    )


def list_audit(connection: sa.Connection, limit: int, before: int | None, action: str | None = None) -> list[AuditRow]:
    """Audit rows, newest first, with ``audit_id < before``; *action*: those of one kind."""
    query = _audit_query().order_by(_AUDIT.c.audit_id.desc()).limit(limit)
    if before is not None:
        query = query.where(_AUDIT.c.audit_id < before)
    if action is not None:
        query = query.where(_AUDIT.c.action == action)
    return [AuditRow._make(row) for row in connection.execute(query)]


def _audit_query() -> sa.Select[Any]:
    return sa.select(*(_AUDIT.c[name] for name in AuditRow._fields))


def verify_audit(
    connection: sa.Connection, after: int, prev_hash: str, limit: int
) -> tuple[list[AuditRow], AuditFault | None]:
    """The next rows of the chain behind *after*, and the first fault among them."""
    query = _audit_query().where(_AUDIT.c.audit_id > after).order_by(_AUDIT.c.audit_id).limit(limit)
    rows = [AuditRow._make(row) for row in connection.execute(query)]
    for expected, row in enumerate(rows, after + 1):
        if row.audit_id != expected:
            return rows, AuditFault(expected, "the row is missing")
        if row.prev_hash != prev_hash:
            return rows, AuditFault(expected, "the row does not follow the one before")
        if row.hash != link_hash(row.at_ns, row.actor, row.action, row.object_id, row.detail, row.prev_hash):
            return rows, AuditFault(expected, "the row was changed")
        prev_hash = row.hash
    return rows, None


def last_audit_id(connection: sa.Connection) -> int:
    """Number of the last row ever written."""
    counters = tables.counters
    return connection.execute(sa.select(counters.c.value).where(counters.c.name == "audit_id")).scalar() or 0


def audit_of(connection: sa.Connection, object_ids: Sequence[str]) -> list[AuditRow]:
    """Audit rows about one of these things, oldest first."""
    query = _audit_query().where(_AUDIT.c.object_id.in_(list(object_ids))).order_by(_AUDIT.c.audit_id)
    return [AuditRow._make(row) for row in connection.execute(query)]
