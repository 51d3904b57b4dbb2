"""F28: rows that no column can hold, in one batch of 500, from the runner to both databases."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.acquire import quarantine
from broker.core.pipeline import Pipeline
from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.store import Store
from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.entries import MapInForce
from schemas.samples import SampleBatch
from schemas.status import Flag
from schemas.tagmap import Tag, TagMap
from tests.broker.store.conftest import cluster, new_database, open_store
from tests.broker.store.plant import rows_of

__all__ = ["cluster", "new_database", "open_store"]

S = 1_000_000_000
T0 = 1_790_000_000 * S
ROWS = 500
MAP = TagMap(site="A/B", tags=(Tag(number=0, id="t0", path="A/B/T0", source="plc", address="0"),))


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def bad_batch(turn: int) -> SampleBatch:
    """Of 500 rows two have no form anywhere: one is nested too deeply for the journal, one too long for SQL."""
    value = np.linspace(0, 1, ROWS)
    value[3], value[4], value[5] = np.nan, np.inf, -np.inf
    exact: dict[int, Any] = {
        10: 2**64 - 1,
        11: -(2**70),
        12: "a\x00b",
        13: "x\ud800y",
        14: "m" * 1_000_000,
        15: "m" * 2_000_000,
        16: nested(60),
        17: b"\x00\xff",
    }
    times = T0 + turn * S + np.arange(ROWS)
    return SampleBatch.build(
        "plc", MAP.revision, T0 + turn * S, tag=[0] * ROWS, source_ns=times, value=value, exact=exact
    )


def journalled(folder: Path, batches: int) -> None:
    writer = JournalWriter(folder, JournalOptions(), now_ns=lambda: T0, mono_ns=lambda: T0)
    writer.open()
    writer.append(MapInForce(MAP.revision, MAP.body)).result(60)
    for turn in range(batches):
        batch = bad_batch(turn)
        with pytest.raises(ValueError, match="nested deeper") as refused:
            writer.append(batch)
        rest, rejects = quarantine.divide(batch, refused.value)
        assert rest is not None
        for body in (*rejects, rest):
            writer.append(body).result(60)
    writer.close()


def processed(store: Store, folder: Path) -> Store:
    with closing(JournalFiles(folder)) as files:
        pipeline = Pipeline(store, files, Normalizer(NormalizerOptions()), Detection(DetectionOptions()))
        pipeline.restore()
        while pipeline.run_once():
            pass
    return store


def test_bad_rows_cost_only_themselves(
    tmp_path: Path,
    open_store: Callable[..., Store],
    request: pytest.FixtureRequest,
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """498 of 500 are stored, two are in quarantine with their reason, and both databases say the same."""
    batches = scale(2, 40)
    journalled(tmp_path / "journal", batches)
    seen = []
    for name, url in (("lite", None), ("pg", request.getfixturevalue("new_database")())):
        store = processed(open_store(url, name), tmp_path / "journal")
        text = "SELECT source_ns, value, value_int, value_text, quality, flags, seq FROM v_records ORDER BY seq"
        rows = rows_of(store, text)
        refused = rows_of(store, "SELECT place, reason FROM v_quarantine ORDER BY quarantine_id")
        assert len(rows) == (ROWS - 2) * batches
        assert len(refused) == 2 * batches
        assert {"nested" in reason for _, reason in refused} == {True, False}
        seen.append([tuple(None if cell != cell else cell for cell in row) for row in rows])
    assert seen[0] == seen[1]
    by_row = {row[0] - T0: row for row in seen[0][: ROWS - 2]}
    assert (by_row[3][1], by_row[3][5] & int(Flag.NAN)) == (None, int(Flag.NAN))
    assert by_row[4][1] == np.inf
    assert by_row[10][3] == str(2**64 - 1)
    assert by_row[11][3] == str(-(2**70))
    assert by_row[12][3] == "a\ufffdb"
    assert by_row[13][3] == "x\ufffdy"
    figures(
        "F28 bad rows in a batch of 500",
        f"{batches} batches, two of 500 rows beyond every form; SQLite and PostgreSQL",
        lost=0,
        doubled=0,
        wrong=0,
        control="a batch refused whole would lose 498 rows",
    )
