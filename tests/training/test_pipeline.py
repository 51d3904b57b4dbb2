"""The training pipeline up to the point where torch is needed, and the scoring harness."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from broker.scorecard.scenarios import STRATA, Scenario, held_out, scenario
from llm.checks import check_model
from llm.plan import Answer
from llm.rules import annotate_by_rules
from schemas.annotation import Cause
from training.calibrate import halves
from training.corpus import reordered
from training.teach import answer
from training.vocabulary import learn_merges, make

SHARE_OF_CHANCE = 0.5


def some(count: int, **options: str) -> list[Scenario]:
    rng = random.Random(5)
    return [scenario(rng, **options) for _ in range(count)]  # type: ignore[arg-type]


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


def test_rules_are_right_on_most_cases_and_fail_on_some() -> None:
    """The baseline: the noise is real and the labels are learnable."""
    cases = held_out(320, 5)
    first = [annotate_by_rules(one.evidence, detector_score=1, created_ns=0).causes[0].id for one in cases]
    right = [named in one.causes for one, named in zip(cases, first, strict=True)]
    assert 0.6 < sum(right) / len(right) < 0.95


def test_another_order_tells_the_same() -> None:
    """Facts numbered anew keep their tags, and the citations follow."""
    rng = random.Random(3)
    for one in some(60):
        other = reordered(one, rng)
        for cause, ids in one.cites.items():
            assert [one.evidence.fact(i).path for i in ids] == [  # type: ignore[union-attr]
                other.evidence.fact(i).path
                for i in other.cites[cause]  # type: ignore[union-attr]
            ]


def test_both_halves_of_a_calibration_hold_every_stratum() -> None:
    """The strata come in turn: every other scenario would be four of the eight, and a temperature for those."""
    cases = held_out(64, 5)
    fit, rest = halves(cases)
    assert sorted(fit + rest) == list(range(64))
    for half in (fit, rest):
        assert Counter(cases[place].stratum for place in half) == dict.fromkeys(STRATA, 4)


def test_merges_follow_frequency() -> None:
    """The most frequent pair is merged first; digits of a number never merge."""
    assert learn_merges(["ab ab abc", "12 12 12"], 2) == ["ab", "▁ab"]


def test_ids_are_whole() -> None:
    """A fact's id and an id of the catalogue become one token each; a number does not."""
    learned = learn_merges(["E12 E12 E12 load_rise load_rise 77 77 77"], 40)
    assert {"E12", "load_rise"} <= {piece.lstrip("▁") for piece in learned}
    assert "77" not in {piece.lstrip("▁") for piece in learned}


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
