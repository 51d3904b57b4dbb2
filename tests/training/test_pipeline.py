"""The training pipeline up to the point where torch is needed, and the scoring harness."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from llm.checks import check_model
from llm.plan import Answer
from llm.rules import annotate_by_rules
from schemas.annotation import UNKNOWN, Cause
from training.scenarios import QUANTITIES, STRATA, Scenario, scenario
from training.teach import answer
from training.vocabulary import learn_merges, make

SHARE_OF_CHANCE = 0.5


def some(count: int, **options: str) -> list[Scenario]:
    rng = random.Random(5)
    return [scenario(rng, **options) for _ in range(count)]  # type: ignore[arg-type]


def test_scenarios_are_repeatable_and_of_every_kind() -> None:
    """The same seed gives the same scenarios; every stratum, class and catalogued cause comes up."""
    cases = some(800)
    assert [s.evidence.evidence_id for s in cases] == [s.evidence.evidence_id for s in some(800)]
    assert {s.stratum for s in cases} == set(STRATA)
    assert {s.evidence.equipment_class for s in cases} == set(QUANTITIES)
    named = {(s.evidence.equipment_class, cause) for s in cases for cause in s.causes}
    listed = {(s.evidence.equipment_class, o.id) for s in cases for o in s.evidence.causes}
    assert named >= listed


def test_truth_is_in_the_evidence() -> None:
    """Every cause put in is listed or unknown, and the facts it moved are deviations that exist."""
    for one in some(400):
        assert set(one.causes) <= {o.id for o in one.evidence.causes} | {UNKNOWN}
        for cites in one.cites.values():
            assert cites
            for fact_id in cites:
                fact = one.evidence.fact(fact_id)
                assert fact is not None
                assert fact.kind == "deviation"


def test_spellings_of_scoring_are_not_in_training() -> None:
    """No tag name of the held-out scenarios occurs in training."""

    def names(cases: list[Scenario]) -> set[str]:
        return {f.name for s in cases for f in s.evidence.facts if f.kind in ("deviation", "neighbour")}

    assert not names(some(400)) & names(some(400, held_out="yes"))


def test_taught_answers_are_valid_answers() -> None:
    """What the model is taught passes the checks that its own answers must pass, and says the truth."""
    for one in some(300):
        tokens, mask = answer(one, str.encode)
        assert len(tokens) == len(mask)
        told = msgspec.json.decode(bytes(tokens), type=Answer)
        assert [c.id for c in told.causes] == list(one.causes)
        causes = [Cause(id=c.id, text="", mechanism="", probability=0.5, cites=tuple(c.cites)) for c in told.causes]
        checks = check_model(one.evidence, causes, told.actions, told.text)
        assert all(checks.values()), checks
        decided = bytes(t for t, m in zip(tokens, mask, strict=True) if m).decode()
        assert set(mask) == {0, 1, 4}
        assert one.causes[0] in decided
        assert '{"causes"' not in decided


def test_rules_are_right_on_clean_cases_and_fail_on_some_noisy_ones() -> None:
    """The baseline: perfect without noise, imperfect with it; so the noise is real and the labels are learnable."""
    right: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for one in some(600):
        count[one.stratum] += 1
        first = annotate_by_rules(one.evidence, detector_score=1, created_ns=0).causes[0].id
        right[one.stratum] += first in one.causes
    assert right["clean"] / count["clean"] > 0.97
    assert 0.75 < right["noisy"] / count["noisy"] < 0.97


def test_merges_follow_frequency() -> None:
    """The most frequent pair is merged first; digits never merge."""
    assert learn_merges(["ab ab abc", "12 12 12"], 2) == ["ab", "▁ab"]


def test_vocabulary_has_the_asked_size_and_all_bytes() -> None:
    """Any text can be spelled: control tokens, 256 bytes, characters, merges, padding."""
    words = make(["a pump a pump"], 400)
    assert len(words.tokens) == len(set(words.tokens)) == 400
    assert words.types.count("BYTE") == 256
    assert words.types.count("CONTROL") == 4


@pytest.mark.model
def test_writing_a_model_twice_gives_equal_bytes(tmp_path: Path) -> None:
    """The artefact is a function of shape, vocabulary and weights; a missing or misshapen tensor is an error."""
    gguf_file = pytest.importorskip("training.gguf_file", reason="gguf is not installed")
    from training.shape import Shape

    shape = Shape(64, 1, 2, 1, 64, 400, 128)
    words, weights = make(["x"], 400), gguf_file.random_weights(Shape(64, 1, 2, 1, 64, 400, 128), 3)
    for name in ("a", "b"):
        gguf_file.write(tmp_path / name, shape, words, weights, name="same")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    wrong = weights | {"output_norm.weight": np.ones(3, np.float32)}
    with pytest.raises(ValueError, match="output_norm"):
        gguf_file.write(tmp_path / "c", shape, words, wrong, name="wrong")
    with pytest.raises(KeyError):
        gguf_file.write(tmp_path / "d", shape, words, {}, name="empty")


@pytest.mark.model
def test_random_weights_score_full_validity_and_chance(tmp_path: Path) -> None:
    """Control of the harness: without training every answer is valid, and the causes are guesses."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from training import gguf_file
    from training.corpus import learn_vocabulary
    from training.score import held_out, score
    from training.shape import Shape

    shape = Shape(64, 1, 1, 1, 128, 768, 512)
    path = tmp_path / "random.gguf"
    gguf_file.write(path, shape, learn_vocabulary(1), gguf_file.random_weights(shape, 1), name="random")
    card = score(path, held_out(60, 1))
    assert card["model"]["valid"] == 1.0
    assert card["model"]["cause"] < SHARE_OF_CHANCE < card["rules"]["cause"]
