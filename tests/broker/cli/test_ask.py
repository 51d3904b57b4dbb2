"""``fairlead ask`` without a core: the common forms work on the store alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.config.loader import load_config
from broker.store import Store
from broker.tagmap import load
from schemas.entries import Position
from schemas.records import RecordBatch, fingerprints
from schemas.samples import Origin

Fairlead = Callable[..., Any]
S = 1_000_000_000
T0 = 1_790_000_000 * S
SPAN = "from 2026-09-21T14:00Z to 2026-09-21T15:30Z"


@pytest.fixture
def site(make_site: Callable[..., Path]) -> Path:
    """A site with ten values of each of its two tags."""
    import numpy as np

    path = make_site()
    config = load_config(path, {})
    tag_map = load(config)
    store = Store.open(config.store, config.data_dir, write=True)
    store.upgrade()
    with store.transaction() as tx:
        tx.use_map(tag_map.revision, tag_map)
        speed = tag_map.by_path["Acme/Lyon/A/Speed"].number
        tag = np.array([speed, 1 - speed] * 10, np.int32)
        at = T0 + np.arange(20, dtype=np.int64) * S
        value, status = np.arange(20, dtype=np.float64), np.zeros(20, np.uint32)
        tx.records(
            RecordBatch(
                "plc1",
                Origin.LIVE,
                tag_map.revision,
                Position(1, 1),
                T0,
                tag,
                at,
                None,
                value,
                status,
                np.zeros(20, np.uint32),
                fingerprints(value, status, {}),
                {},
            )
        )
    store.close()
    return path


def test_answer_with_citation_and_query(fairlead: Fairlead, site: Path) -> None:
    """The line, what it rests on, and the query to correct; the same in JSON."""
    said = fairlead("ask", f"max speed {SPAN}", "--config", str(site))
    assert said.code == 0, said.err
    assert "The max of A Speed was 18 rpm" in said.out
    assert "[R1] Acme/Lyon/A/Speed = 18 rpm" in said.out
    query = said.out.split("query (code): ")[1].strip()
    changed = query.replace('"max"', '"min"')
    again = fairlead("ask", "--query", changed, "--config", str(site), "--output", "json")
    found = json.loads(again.out)
    assert found["parsed_by"] == "person"
    assert "The min of A Speed was 0 rpm" in found["lines"][0]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("max Sped today",), 1, "nearest: Speed"),
        ((), 2, "ask something"),
        (("--query", "{"), 1, "query: "),
        (("--query", '{"form": "sql"}'), 1, "form: "),
        (("--query", "@nowhere.json"), 1, "nowhere.json"),
    ],
)
def test_what_cannot_be_asked(fairlead: Fairlead, site: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    """A clear line and an exit code, never a traceback."""
    found = fairlead("ask", *arguments, "--config", str(site))
    assert found.code == code
    assert said in found.err
