"""The multivariate detector over restarts and other maps: bit for bit, and bounded."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from detectors.base import BadState
from detectors.detection import Detection, DetectionOptions
from detectors.multivariate import MOST_LEARNING
from detectors.options import MultivariateOptions
from schemas.tagmap import TagMap
from tests.detectors.relations import ALONE, LONG, WINDOW, feed, patterns, related


def test_restart_goes_on_bit_for_bit(script, tag):
    """Saved at any of four places (learning, known, in a condition, after it) and restored, the same is said."""
    values = related(np.random.default_rng(3), 800)
    values[400:520, 2] += 6
    options = {"clean_window": f"{LONG}s", "close_after": "60s", **ALONE}
    whole = script(*(tag(i) for i in range(4)), **options)
    feed(whole, values)
    for cut in (50, 350, 450, 650):
        first = script(*(tag(i) for i in range(4)), **options)
        feed(first, values[:cut])
        state, models = first.detection.state(models=False), first.detection.models()
        second = Detection(DetectionOptions(**options))
        second.use_map(first.tag_map.revision, first.tag_map)
        second.restore(state, models)
        assert second.state() == first.detection.state()
        first.detection = second
        feed(first, values[cut:])
        assert first.said == whole.said
        assert first.detection.state() == whole.detection.state()
    assert whole.said


def test_state_of_before_turns_is_read(script, tag):
    """Windows without their last time, no turns, and a count in each model, as an older version saved them."""
    plant = script(*(tag(i) for i in range(8)), clean_window=f"{WINDOW}s", multivariate={"tags": 4}, **ALONE)
    values = related(np.random.default_rng(3), 400)
    plant.run({**{i: values[:150, i] for i in range(4)}, **{i + 4: np.full(150, 5.0) for i in range(4)}})
    saved = msgspec.msgpack.decode(plant.detection.state(models=False))
    inner = msgspec.msgpack.decode(saved["multivariate"])
    assert inner["windows"]
    del inner["not_before"]
    for window in inner["windows"].values():
        del window["took_ns"]
    saved["multivariate"] = msgspec.msgpack.encode(inner)
    generation, models = msgspec.msgpack.decode(plant.detection.models())
    models = {name: [model[0], 3, *model[2:]] for name, model in models.items()}
    plant.detection.restore(msgspec.msgpack.encode(saved), msgspec.msgpack.encode([generation, models]))
    assert plant.detection._parts.multivariate.known() == 1
    assert plant.run({i: values[150:, i] for i in range(4)}) == []


def test_models_of_another_state_are_refused(script, tag):
    """A state and models that were not saved together would judge by the wrong model."""
    plant = script(*(tag(i) for i in range(4)), clean_window=f"{WINDOW}s", **ALONE)
    before = plant.detection.models()
    feed(plant, related(np.random.default_rng(3), 200))
    assert plant.detection.models() != before
    other = Detection(DetectionOptions(clean_window=f"{WINDOW}s", **ALONE))
    other.use_map(plant.tag_map.revision, plant.tag_map)
    with pytest.raises(BadState, match="generation"):
        other.restore(plant.detection.state(models=False), before)


def test_models_are_the_same_object_until_something_is_learned(script, tag):
    """The pipeline saves them only then."""
    plant = script(*(tag(i) for i in range(4)), clean_window=f"{WINDOW}s", **ALONE)
    before = plant.detection.models()
    feed(plant, related(np.random.default_rng(3), 100))
    assert plant.detection.models() is before


def test_equipment_with_many_tags_is_cut_into_equal_groups(script, tag):
    """Ten tags with at most four to a model are groups of four, three and three; each learns."""
    rng = np.random.default_rng(3)
    plant = script(*(tag(i) for i in range(10)), clean_window=f"{WINDOW}s", multivariate={"tags": 4}, **ALONE)
    values = np.hstack([related(rng, 200, 5), related(rng, 200, 5)])
    assert feed(plant, values) == []
    detector = plant.detection._parts.multivariate
    assert sorted(len(group.slots) for bank in detector._banks for group in bank.groups) == [3, 3, 4]
    assert detector.known() == 3


def test_groups_wait_where_many_want_to_learn(script, tag, records):
    """Windows are bounded in number; the groups that waited learn afterwards."""
    rng = np.random.default_rng(3)
    units = MOST_LEARNING + 4
    tags = [tag(i, equipment=f"U{i // 2}", path=f"U{i // 2}/T{i}") for i in range(units * 2)]
    plant = script(*tags, clean_window="64s", **ALONE)
    detector = plant.detection._parts.multivariate
    most = 0
    for _ in range(220):
        numbers = list(range(units * 2))
        values = rng.normal(size=units * 2)
        plant.detection.records(records(plant.tag_map.revision, numbers, [plant.now_ns] * len(numbers), values))
        plant.tick()
        most = max(most, len(detector._windows))
    assert most == MOST_LEARNING
    assert detector.known() == units


def fleet(tag, units: int) -> list:
    return [tag(i, equipment=f"U{i // 2}", path=f"U{i // 2}/T{i}") for i in range(units * 2)]


def test_quiet_groups_do_not_keep_a_live_one_from_learning(script, tag, records):
    """Forty pairs of constants, more than there are places, stand before two tags that move: these are learned."""
    rng = np.random.default_rng(3)
    quiet = 2 * MOST_LEARNING + 8
    plant = script(*fleet(tag, quiet + 1), clean_window="64s", **ALONE)
    detector = plant.detection._parts.multivariate
    numbers = list(range(2 * quiet + 2))
    for second in range(64 * 6):
        values = [1.0] * (2 * quiet) + rng.normal(size=2).tolist()
        plant.detection.records(records(plant.tag_map.revision, numbers, [plant.now_ns] * len(numbers), values))
        plant.tick()
        if second == 200:
            # whose turn it is outlives a restart
            state = plant.detection.state()
            plant.detection.restore(state)
            assert plant.detection.state() == state
            detector = plant.detection._parts.multivariate
    assert detector.known() == 1
    assert len(detector._windows) <= MOST_LEARNING


def test_windows_that_take_nothing_make_room(script, tag, records):
    """Sixteen groups fall silent while they learn; another one, which comes later, is learned all the same."""
    rng = np.random.default_rng(3)
    silent = 2 * MOST_LEARNING
    plant = script(*fleet(tag, MOST_LEARNING + 1), clean_window="64s", **ALONE)
    detector = plant.detection._parts.multivariate
    for second in range(260):
        numbers = list(range(silent)) if second < 30 else [silent, silent + 1]
        values = rng.normal(size=len(numbers))
        plant.detection.records(records(plant.tag_map.revision, numbers, [plant.now_ns] * len(numbers), values))
        plant.tick()
        if second == 60:
            assert len(detector._windows) == MOST_LEARNING
    assert detector.known() == 1


def broken_relation(script, tag, *others, **options):
    """A plant in a condition, and the values that go on with it."""
    values = related(np.random.default_rng(3), 700)
    values[400:, 2] += 6
    options = {"clean_window": f"{LONG}s", "close_after": "60s", "multivariate": {"returned": 0.0}, **ALONE, **options}
    plant = script(*(tag(i) for i in range(4)), *others, **options)
    feed(plant, values[:450])
    assert [f.detector for f in plant.detection.active()][:1] == ["pca"]
    return plant, values[450:]


def test_condition_of_a_group_that_the_map_has_changed_is_over(script, tag):
    """A fifth tag makes another group of the equipment, which knows nothing of the condition: the episode closes."""
    plant, rest = broken_relation(script, tag)
    plant.tag_map = TagMap(site="Acme/Lyon", tags=tuple(tag(i) for i in range(5)))
    plant.detection.use_map(plant.tag_map.revision, plant.tag_map)
    assert plant.detection.active() == []
    feed(plant, rest[:70])
    assert [a.state for a in patterns(plant)] == ["closed"]


def test_condition_of_a_group_that_the_options_have_changed_is_over(script, tag):
    """After a restart with fewer tags to a model the groups are others; with the same number the condition goes on."""
    plant, rest = broken_relation(script, tag)
    state = plant.detection.state()
    plant.detection.restore(state)
    assert [f.detector for f in plant.detection.active()][:1] == ["pca"]
    options = DetectionOptions(
        clean_window=f"{LONG}s", close_after="60s", multivariate=MultivariateOptions(tags=2), **ALONE
    )
    other = Detection(options)
    other.use_map(plant.tag_map.revision, plant.tag_map)
    other.restore(state)
    assert other.active() == []
    plant.detection = other
    feed(plant, rest[:70])
    assert [a.state for a in patterns(plant)] == ["closed"]


def test_condition_is_over_with_its_mode(script, tag):
    """The first value of a set point closes no gate, but is another mode: its chart knows nothing of the condition."""
    plant, rest = broken_relation(script, tag, tag(4, role="sp"))
    plant.send({4: 5.0})
    feed(plant, rest[:2])
    assert plant.detection.active() == []
    feed(plant, rest[2:72])
    assert [a.state for a in patterns(plant)] == ["closed"]
