"""The audit of the configuration: which one this core started with, and what it changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from broker.config.applied import changed, digest
from broker.store import Transaction
from broker.version import VERSION


def note_configuration(tx: Transaction, options: Mapping[str, Any], actor: str) -> None:
    """
    Write a row of the audit where these options are others than those that a core started with last.

    The first row holds all options, each later one those that changed, so that any configuration of the past can be
    told from the rows.
    """
    body = msgspec.json.encode(options, order="sorted").decode()
    last = tx.configuration(body)
    if last == body:
        return
    detail: dict[str, object] = {"version": VERSION, "before": None, "options": dict(options)}
    if last is not None:
        before = msgspec.json.decode(last)
        detail = {"version": VERSION, "before": digest(before), "changed": changed(before, options)}
    tx.audit(actor, "configuration_in_force", digest(options), detail)
