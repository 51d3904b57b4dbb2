"""docs/api.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from broker.api.access import ACCESS

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "api.md"


def test_roles_of_the_document_are_those_of_the_code() -> None:
    """The table of routes and roles is complete and in the order of the code."""
    rows = re.findall(r"^\| `([A-Z]+) ([^`]+)` \| ([^|]+) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    table = [((method, path), frozenset(roles.strip().split(", "))) for method, path, roles in rows]

    assert table == list(ACCESS.items())
