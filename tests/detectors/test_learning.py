"""What keeps a tag from being learned, and the false-alarm budget that the tags of one piece of equipment share."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.options import DetectionOptions

WEEK_S = 604_800
OTHER = "Acme/Lyon/Utilities/P102"


def noise(seed: int, n: int, level: float = 50.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(level, 1, n)


def test_tags_of_one_equipment_share_its_budget(script, tag):
    """Eight tags have an eighth each; one on equipment of its own has it all, as far as its own budget goes."""
    others = tag(8, path=f"{OTHER}/T8", equipment=OTHER)
    plant = script(
        *(tag(i) for i in range(8)), others, clean_window="60s", equipment_false_alarms="1 per equipment per week"
    )
    plant.run({i: noise(i, 120) for i in range(9)})
    assert len(plant.learned()) == 9
    alarm = plant.detection._parts.panel.charts.chart.alarm
    assert alarm[:8] == pytest.approx(alarm[8] / 8)
    interval_s = alarm[8] * WEEK_S * len(DetectionOptions().charts())
    assert interval_s == pytest.approx(1.0, rel=0.1)


def test_equipment_of_few_tags_keeps_to_the_budget_of_a_tag():
    budget = DetectionOptions(equipment_false_alarms="10 per equipment per week").chart_budget()
    charts = len(DetectionOptions().charts())
    per_week = budget.per_s(np.array([1, 10, 20])) * WEEK_S * charts
    assert per_week == pytest.approx([1.0, 1.0, 0.5])


def test_default_budgets_of_equipment_are_one_a_week_together():
    options = DetectionOptions()
    charts = options.chart_budget().equipment_per_s * len(options.charts())
    assert (charts + options.multivariate.alarms_per_s()) * WEEK_S == pytest.approx(1.0)


def test_learning_pauses_for_the_whole_equipment(script, tag):
    """While one tag is out of its range its neighbours are not learned, those of other equipment are."""
    tags = (tag(0, range=(0.0, 100.0)), tag(1), tag(2, path=f"{OTHER}/T2", equipment=OTHER))
    plant = script(*tags, clean_window="60s")
    plant.run({0: noise(0, 200, 500.0), 1: noise(1, 200), 2: noise(2, 200)})
    assert plant.learned() == {"id2"}
    plant.run({0: noise(3, 120), 1: noise(4, 120), 2: noise(5, 120)})
    assert plant.learned() == {"id0", "id1", "id2"}


def test_trouble_that_lasts_is_how_the_equipment_is_run(script, tag):
    """A range that is wrong in the map does not keep the others from being learned for ever."""
    plant = script(tag(0, range=(0.0, 100.0)), tag(1), clean_window="60s", relearn_after="200s")
    plant.run({0: noise(0, 199, 500.0), 1: noise(1, 199)})
    assert plant.learned() == frozenset()
    plant.run({0: noise(2, 100, 500.0), 1: noise(3, 100)})
    assert plant.learned() == {"id1"}


def test_pause_outlives_a_restart(script, tag):
    """Since when the trouble lasts is saved: what follows is the same."""
    plants = [script(tag(0, range=(0.0, 100.0)), tag(1), clean_window="60s", relearn_after="200s") for _ in range(2)]
    for plant in plants:
        plant.run({0: noise(0, 150, 500.0), 1: noise(1, 150)})
    plants[1].detection.restore(plants[1].detection.state())
    for plant in plants:
        plant.run({0: noise(2, 150, 500.0), 1: noise(3, 150)})
    assert [plant.learned() for plant in plants] == [{"id1"}, {"id1"}]
    assert plants[0].detection.state() == plants[1].detection.state()


def test_dead_transmitter_keeps_nothing_from_being_learned(script, tag):
    """A tag that never came says nothing of the process: charts and the model of the others are learned."""
    plant = script(tag(0, stale_after_ms=5000), *(tag(i) for i in range(1, 4)), clean_window="60s")
    plant.run({i: noise(i, 150) for i in range(1, 4)})
    assert [member.detector for anomaly in plant.latest().values() for member in anomaly.members] == ["missing"]
    assert plant.learned() == {"id1", "id2", "id3"}
    assert plant.detection._parts.multivariate.known() == 1
