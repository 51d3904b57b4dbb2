"""docs/scorecard.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from broker.scorecard.scenarios import STRATA
from schemas.scorecard import Thresholds

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "scorecard.md").read_text("utf-8")


def test_thresholds_of_the_page_are_those_of_the_code() -> None:
    """Each with its value and its reason, in order."""
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| ([0-9.]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert rows == [(name, f"{field.default:g}", field.description) for name, field in Thresholds.model_fields.items()]


def test_every_stratum_is_explained() -> None:
    for stratum in STRATA:
        assert f"| {stratum.replace('_', ' ')} |" in PAGE
