"""The harness on a model that knows nothing: every answer is valid, and the causes are guesses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.scorecard import runner
from broker.scorecard.asker import MOST_CRASHES, Asker
from broker.scorecard.baselines import by_trees, examples
from broker.scorecard.cards import load
from broker.scorecard.scenarios import held_out
from llm.model_file import ModelFile, digest, find
from llm.options import ReasonerOptions
from schemas.errors import Refused
from schemas.scorecard import ScoreCard
from tests.broker.cli.conftest import Said, fairlead
from tests.tiny_lora import write_lora

__all__ = ["fairlead"]
Run = Callable[..., Said]
#: Eighty guesses among about eight causes: far above this no guess comes, far below it the rules do not fall.
HALF = 0.5


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the built-in's form with random weights."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    pytest.importorskip("gguf", reason="gguf is not installed")
    from training.shape import Shape
    from training.untrained import untrained

    path = tmp_path_factory.mktemp("model") / "random.gguf"
    untrained(path, Shape(64, 1, 1, 1, 128, 1024, 512), 1)
    return path


@pytest.fixture(scope="module")
def card(untrained: Path) -> ScoreCard:
    """Its card over eighty scenarios."""
    with untrained.open("rb") as opened:
        sha256 = digest(opened)
    file = ModelFile(untrained, "random", "open_weights", "rows", sha256)
    told: list[tuple[int, int, str]] = []
    made = asyncio.run(runner.run(file, ReasonerOptions(), runner.Size(80, 3, 16), lambda *step: told.append(step)))
    assert told[-1] == (told[-1][1], told[-1][1], "baselines")
    assert told[-2][0] == told[-2][1] == 80 + 5 * 16 + 16
    assert made.model_sha256 == sha256
    return made


@pytest.mark.model
def test_random_weights_score_full_validity_and_chance(card: ScoreCard) -> None:
    """The form holds whatever the weights say; nothing else does. The rules beside them show that it could."""
    found = card.model.overall
    rules = card.row("rules")
    assert found is not None
    assert rules is not None
    assert rules.overall is not None
    assert rules.overall.top1 is not None
    assert found.top1 is not None
    assert found.schema_valid == found.citation_valid == found.numbers_faithful == 1.0
    assert card.robustness.replay == 1.0
    assert card.faults == ()
    assert 0.05 < card.chance < 0.25
    assert found.top1 < HALF < rules.overall.top1
    assert found.top1 < card.chance + 0.15


@pytest.mark.model
def test_random_weights_do_not_pass(card: ScoreCard) -> None:
    """And the reasons say so."""
    assert not card.passed
    assert any("cause top-1" in reason and "(rules)" in reason for reason in card.reasons)
    assert card.latency.first_token.p50 <= card.latency.decision.p50 <= card.latency.total.p50


@pytest.mark.model
def test_the_scenarios_are_named(card: ScoreCard) -> None:
    """Eight strata, the same of each; baselines were asked the very same."""
    assert len(card.model.strata) == 8
    assert {figures.scenarios for figures in card.model.strata.values()} == {10}
    for row in card.beside:
        sizes = {name: figures.scenarios for name, figures in row.strata.items()}
        if row.name == "bound":  # overlapping faults have none
            assert all(0 < size <= 10 for size in sizes.values())
        else:
            assert row.note or sizes == dict.fromkeys(card.model.strata, 10)


@pytest.mark.model
def test_the_command_prints_keeps_and_judges(
    untrained: Path, fairlead: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1 where it does not pass; the card is kept under the file's hash, and ``llm card`` shows it."""
    (tmp_path / "fairlead.yaml").write_text(
        "version: 1\nsite: {path: Acme/Lyon}\ndata_dir: var\nsources: {a: {kind: replay, file: none.csv}}\n"
    )
    monkeypatch.chdir(tmp_path)
    said = fairlead("llm", "bench", "--scenarios", "8", "--again", "2", "--out", "card.json")
    assert said.code == 1
    assert "The card does not pass" in said.out
    assert "8 scenarios are too few" in said.out
    assert "20 of 20 answers, replay by a fresh process" in said.err
    sha256 = find("builtin:plant-tiny", None, tmp_path).sha256
    kept = load(tmp_path / "var", sha256)
    assert kept is not None
    assert kept == ScoreCard.model_validate_json((tmp_path / "card.json").read_bytes())

    shown = fairlead("llm", "card")
    assert shown.code == 1
    assert kept.card_id in shown.out
    assert "is advisory: its score card did not pass" in shown.err
    told = fairlead("llm", "card", "--json")
    assert json.loads(told.out)["model_sha256"] == sha256

    other = fairlead("llm", "bench", "--model", str(untrained), "--style", "rows")
    assert (other.code, other.out) == (1, "")
    assert "in service random.gguf is asked as instruct: a card of rows needs --no-store" in other.err


@pytest.mark.model
def test_a_model_can_be_scored_without_a_configuration(
    untrained: Path, fairlead: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --no-store and a named model; nothing is written but what was asked for."""
    monkeypatch.chdir(tmp_path)
    said = fairlead(
        *("llm", "bench", "--model", str(untrained), "--style", "rows", "--scenarios", "8", "--again", "0"),
        *("--no-store", "--json"),
    )
    assert said.code == 1
    assert json.loads(said.out)["scenarios"] == 8
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "none.gguf"), "no model file none.gguf"),
        (("--model", "builtin:none"), "no built-in model none"),
        (("--model", "builtin:plant-tiny", "--style", "verse"), "style 'verse' is not known"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    fairlead: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = fairlead("llm", "bench", "--no-store", *arguments)
    assert done.code == 1
    assert said in done.err


def test_without_a_model_file_nothing_is_scored(fairlead: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rules alone are configured the built-in model is not scored in their place."""
    (tmp_path / "fairlead.yaml").write_text(
        "version: 1\nsite: {path: Acme/Lyon}\nllm: {backend: none}\nsources: {a: {kind: replay, file: none.csv}}\n"
    )
    monkeypatch.chdir(tmp_path)
    for command in ("bench", "card"):
        done = fairlead("llm", command)
        assert (done.code, done.out) == (1, "")
        assert "llm.backend is none, and only a model file has a card: name one with --model" in done.err


@pytest.mark.model
def test_a_file_that_is_no_model_is_refused(fairlead: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(60))
    done = fairlead("llm", "bench", "--no-store", "--model", "bad.gguf")
    assert done.code == 1
    assert "bad.gguf cannot be scored" in done.err


@pytest.mark.model
async def test_a_worker_that_dies_is_an_answer_that_is_missing(untrained: Path) -> None:
    """It is started again; a model that keeps ending it gets no card."""
    file = ModelFile(untrained, "random", "open_weights", "rows", "")
    asker = Asker(file, ReasonerOptions())
    await asker.start()
    (one,) = held_out(1, 1)
    try:
        assert (await asker.ask(one.evidence)).reply is not None
        for _ in range(MOST_CRASHES - 1):
            assert asker.worker_pid is not None
            os.kill(asker.worker_pid, signal.SIGKILL)
            lost = await asker.ask(one.evidence)
            assert lost.reply is None
            assert "SIGKILL" in lost.fault
            assert (await asker.ask(one.evidence)).reply is not None
        assert asker.worker_pid is not None
        os.kill(asker.worker_pid, signal.SIGKILL)
        with pytest.raises(Refused, match="ended its worker 3 times"):
            await asker.ask(one.evidence)
    finally:
        await asker.close()


def test_boosted_trees_learn() -> None:
    """Better than the majority on what they did not see."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    cases = held_out(80, 4)
    said = by_trees(cases, examples(800, 4))
    assert said is not None
    right = sum(one.first in case.causes for one, case in zip(said, cases, strict=True))
    assert right > 0.4 * len(cases)
    assert all(abs(sum(one.shares.values()) - 1) < 1e-6 for one in said)


@pytest.mark.model
def test_a_model_of_the_registry_leaves_quarantine(
    untrained: Path, fairlead: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked as its signed manifest says; its card counts for it, and with an adapter for another one."""
    (tmp_path / "fairlead.yaml").write_text(
        "version: 1\nsite: {path: Acme/Lyon}\ndata_dir: var\nsources: {a: {kind: replay, file: none.csv}}\n"
        "llm: {model: 'registry:plant-7b'}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert fairlead("db", "upgrade").code == 0
    key = fairlead("model", "key", "release.key").out.splitlines()[-1]
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "w.gguf").write_bytes(untrained.read_bytes())
    (tmp_path / "m" / "LICENSE").write_text("Apache License")
    told = "--name plant-7b --version 1 --what x --licence Apache-2.0 --licence-file LICENSE --origin x"
    made = ("--rung", "open_weights", "--weights", "w.gguf", "--style", "rows", "--key", "release.key")
    assert fairlead("model", "pack", "m", *told.split(), *made).code == 0
    assert fairlead("model", "trust", "add", "release.key.pub", "--fingerprint", key).code == 0
    assert "fairlead llm bench --model registry:plant-7b" in fairlead("model", "import", "m").out

    def state() -> str:
        rows = json.loads(fairlead("model", "list", "-o", "json").out)
        return next(row["state"] for row in rows if row["name"] == "registry:plant-7b")

    assert state() == "quarantined"
    write_lora(tmp_path / "lora.gguf", width=64, layers=1)
    small = ("llm", "bench", "--scenarios", "8", "--again", "0", "--json")
    adapted = fairlead(*small, "--model", "registry:plant-7b", "--adapter", "lora.gguf")
    assert adapted.code == 1, adapted.err
    assert state() == "quarantined", "the card of the model with an adapter is not the model's"
    plain = fairlead(*small)
    assert plain.code == 1, plain.err
    cards = [json.loads(one.out) for one in (adapted, plain)]
    assert [one["style"] for one in cards] == ["rows", "rows"]
    assert cards[0]["model_sha256"] != cards[1]["model_sha256"]
    assert cards[1]["model_sha256"] == digest_of(untrained)
    assert state() == "advisory"
    assert fairlead("llm", "card", "--model", "registry:plant-7b", "--adapter", "lora.gguf").code == 1

    (shelved,) = (tmp_path / "var" / "models" / "store").glob("*/w.gguf")
    said = fairlead(*small, "--model", str(shelved))
    assert (said.code, "this file is of the registry" in said.err) == (1, True)


def digest_of(path: Path) -> str:
    with path.open("rb") as opened:
        return digest(opened)
