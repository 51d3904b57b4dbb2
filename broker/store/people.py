"""People who may sign in, and the audit chain."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
import sqlalchemy as sa

from broker.store import tables
from broker.store.memory import Memory, upsert
from broker.store.text import canonical, clean

#: ``prev_hash`` of the first row.
GENESIS = "0" * 64


def put_user(connection: sa.Connection, name: str, roles: tuple[str, ...], password_hash: str) -> None:
    """Add a person, or replace roles and password; an entry that was disabled is enabled again."""
    values: dict[str, object] = {
        "roles": msgspec.json.encode(list(roles)).decode(),
        "password_hash": password_hash,
        "disabled": 0,
    }
    upsert(connection, tables.users, {"name": clean(name)}, values)


def disable_user(connection: sa.Connection, name: str) -> None:
    """Keep the entry, refuse sign-in."""
    connection.execute(tables.users.update().where(tables.users.c.name == clean(name)).values(disabled=1))


def link_hash(at_ns: int, actor: str, action: str, object_id: str, detail: str, prev_hash: str) -> str:
    """SHA-256 of the canonical JSON of one audit row, 64 hex digits."""
    row = [at_ns, actor, action, object_id, detail, prev_hash]
    return hashlib.sha256(msgspec.json.encode(row)).hexdigest()


def put_audit(
    connection: sa.Connection,
    memory: Memory,
    at_ns: int,
    actor: str,
    action: str,
    object_id: str,
    detail: Mapping[str, object],
) -> None:
    """Add one link to the chain."""
    table = tables.audit
    last = sa.select(table.c.hash).order_by(table.c.audit_id.desc()).limit(1)
    prev_hash = connection.execute(last).scalar() or GENESIS
    text = canonical(detail)
    actor, action, object_id = clean(actor), clean(action), clean(object_id)
    connection.execute(
        table.insert().values(
            audit_id=memory.next("audit_id"),
            at_ns=at_ns,
            actor=actor,
            action=action,
            object_id=object_id,
            detail=text,
            prev_hash=prev_hash,
            hash=link_hash(at_ns, actor, action, object_id, text, prev_hash),
        )
    )
