"""``fairlead detectors``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from tests.broker.cli.conftest import Said
from tests.broker.models.site import configured, opened
from tests.broker.store.found import find
from tests.broker.store.plant import PUMP, S


def test_which_detector_cries_wolf(fairlead: Callable[..., Said], tmp_path: Path) -> None:
    """A row a week and detector; 1 where one is over the limit, 0 where the equipment that is asked for has none."""
    config = configured(tmp_path, more="detection: {rejects: {least: 2, rate: 20%}}\n")
    at = ("-c", str(config.path))
    now_ns = time.time_ns()
    with opened(config) as store:
        quiet = fairlead("detectors", *at)
        assert (quiet.code, quiet.out) == (0, "")
        with store.transaction() as tx:
            find(tx, "a", "ewma", now_ns - S, "not_abnormal")
            find(tx, "b", "ewma", now_ns, "approved")
    said = fairlead("detectors", *at)
    assert said.code == 1
    assert "over the limit: ewma: people rejected 1 of the 2 anomalies" in said.out
    told = json.loads(fairlead("detectors", "-o", "json", "--equipment", PUMP, *at).out)
    [row] = told["weeks"][0]["detectors"]
    assert (row["detector"], row["opened"], row["reject_rate"], row["budget_per_week"]) == ("ewma", 2, 0.5, 0.0)
    assert fairlead("detectors", "--equipment", "Acme/Lyon/A", *at).code == 0
    assert fairlead("detectors", "--weeks", "0", *at).code == 2
