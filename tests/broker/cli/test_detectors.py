"""``fairlead detectors``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from broker.tagmap import load
from tests.broker.cli.conftest import Said
from tests.broker.models.site import configured, opened
from tests.broker.store.found import find
from tests.broker.store.plant import PUMP, S


def test_which_detector_cries_wolf(fairlead: Callable[..., Said], tmp_path: Path) -> None:
    """A row a week and detector; --check: 1 where one is over the limit, 0 where the equipment has none."""
    config = configured(tmp_path, more="detection: {rejects: {least: 2, rate: 20%}}\n")
    at = ("-c", str(config.path))
    now_ns = time.time_ns()
    with opened(config) as store:
        quiet = fairlead("detectors", *at)
        assert (quiet.code, quiet.out) == (0, "")
        assert quiet.err == "no detector has found anything in these weeks\n"
        tag_map = load(config)
        with store.transaction() as tx:
            tx.use_map(tag_map.revision, tag_map)
            find(tx, "a", "ewma", now_ns - S, "not_abnormal")
            find(tx, "b", "ewma", now_ns, "approved")
    said = fairlead("detectors", *at)
    assert said.code == 0
    assert fairlead("detectors", "--check", *at).code == 1
    assert "over the limit: ewma: people rejected 1 of the 2 anomalies" in said.out
    told = json.loads(fairlead("detectors", "-o", "json", "--equipment", PUMP, *at).out)
    [row] = told["weeks"][0]["detectors"]
    assert (row["detector"], row["opened"], row["reject_rate"], row["budget_per_week"]) == ("ewma", 2, 0.5, 0.0)
    other = fairlead("detectors", "--check", "--equipment", "Acme/Lyon/A", *at)
    assert (other.code, other.err) == (0, "no detector has found anything in these weeks\n")
    for form in ("table", "json"):
        nothing = fairlead("detectors", "--equipment", "Acme/Lyom*", "-o", form, *at)
        assert nothing.code == 0
        assert nothing.err.startswith("no equipment of the map in force fits 'Acme/Lyom*', and no detector")
    assert fairlead("detectors", "--check", "--equipment", "Acme/Lyom*", *at).code == 2
    assert fairlead("detectors", "--weeks", "0", *at).code == 2


def test_no_store_is_not_a_detector_over_its_limit(fairlead: Callable[..., Said], tmp_path: Path) -> None:
    """Exit 75 before the first start, with and without --check."""
    at = ("-c", str(configured(tmp_path).path))
    for said in (fairlead("detectors", *at), fairlead("detectors", "--check", *at)):
        assert (said.code, said.out) == (75, "")
        assert said.err == "fairlead: there is no store yet; fairlead run or fairlead db upgrade makes it\n"
