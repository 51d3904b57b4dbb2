"""Rows of people and of the audit chain."""

from __future__ import annotations

from typing import NamedTuple


class UserRow(NamedTuple):
    """A person who may sign in. Never show ``password_hash``."""

    name: str
    roles: tuple[str, ...]
    password_hash: str
    disabled: bool


class AuditRow(NamedTuple):
    """One link of the audit chain; ``hash`` covers every other column, ``prev_hash`` the row before."""

    audit_id: int
    at_ns: int
    actor: str
    action: str
    object_id: str
    detail: str
    prev_hash: str
    hash: str


class AuditFault(NamedTuple):
    """The first row at which the audit chain does not hold."""

    audit_id: int
    reason: str
