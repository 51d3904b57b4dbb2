"""The false-alarm budget of a week."""

from __future__ import annotations

import pytest

from detectors.budget import weekly
from detectors.options import DetectionOptions, MultivariateOptions
from schemas.tagmap import Tag

CHARTS = ("shewhart", "ewma", "cusum", "level_shift", "trend", "variance", "oscillation")


def tags(pump: int, tank: int) -> list[Tag]:
    """So many measured tags of two pieces of equipment, and a state that no chart is drawn of."""
    places = ["Acme/Lyon/P1"] * pump + ["Acme/Lyon/T1"] * tank
    made = [
        Tag(number=i, id=f"t{i}", path=f"{at}/V{i}", source="plc", address="", equipment=at)
        for i, at in enumerate(places)
    ]
    return [*made, Tag(number=99, id="s", path="Acme/Lyon/P1/State", source="plc", address="", role="state")]


def test_tags_of_one_equipment_share_what_it_may_give() -> None:
    """One a tag and week, 0.5 an equipment and week: the pump's eight tags share, and so does the tank's one."""
    found = weekly(DetectionOptions(), tags(8, 1))
    assert set(found) == {*CHARTS, "slow_trend", "pca"}
    assert sum(found[name] for name in CHARTS) == pytest.approx(1.0)
    assert found["pca"] == pytest.approx(0.5), "one tag alone has no model"
    assert found["slow_trend"] == pytest.approx(9 * 7e-4)


def test_few_tags_have_their_own() -> None:
    """Where the equipment may give more than its tags do, the tags' budget counts."""
    options = DetectionOptions(equipment_false_alarms="30 per equipment per day", false_alarms="2 per tag per week")
    assert sum(weekly(options, tags(3, 1))[name] for name in CHARTS) == pytest.approx(8.0)


def test_only_what_is_switched_on_and_keeps_a_budget() -> None:
    """Nelson's rules have fixed limits; an extreme shares with the charts."""
    options = DetectionOptions(
        spc=("ewma", "nelson"),
        shape=(),
        extreme=True,
        slow_trend=False,
        multivariate=MultivariateOptions(enabled=False),
    )
    found = weekly(options, tags(8, 0))
    assert found == pytest.approx({"ewma": 0.5 / 3, "extreme": 0.5 / 3})
    assert weekly(DetectionOptions(enabled=False), tags(8, 0)) == {}
    assert sum(weekly(DetectionOptions(), []).values()) == 0
