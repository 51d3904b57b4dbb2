"""Reviewed annotations as a fine-tuning set: what stands, what is left out, and that nobody is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.cli.llm import whole
from broker.review import decide
from llm.plan import Answer
from schemas.annotation import Annotation, Review
from schemas.anomaly import Anomaly
from schemas.evidence import Evidence
from tests.broker.api.core import Core, S, bearing_wear

T0 = 1_790_000_000 * S
Episode = tuple[Anomaly, Evidence, Annotation]


@pytest.fixture
def episode(core: Core) -> Episode:
    """An open episode with the rules' annotation."""
    return bearing_wear(core, T0)


@pytest.fixture
def export(core: Core, fairlead: Callable[..., Any], tmp_path: Path) -> Callable[..., tuple[list[Any], str]]:
    """Review with these fields, export, and give the lines and what the command said."""

    def go(note: Annotation, **review: Any) -> tuple[list[Any], str]:
        taken = Review(annotation_id=note.annotation_id, person="a.moreau", at_ns=T0 + 900 * S, **review)
        core.write(lambda tx: tx.review(taken))
        out = tmp_path / "set.jsonl"
        said = fairlead("llm", "export-dataset", str(out), "--config", str(core.services.config.path))
        assert said.code == 0, said.err
        return [json.loads(line) for line in out.read_text().splitlines()], said.out

    return go


def test_an_approved_annotation_is_an_example(episode: Episode, export: Callable[..., Any]) -> None:
    """System, user, assistant; the answer is the form that the decoder fills, with what was approved."""
    note = episode[2]
    (line,), said = export(note, verdict="approved")
    assert [one["role"] for one in line["messages"]] == ["system", "user", "assistant"]
    answer = msgspec.json.decode(line["messages"][2]["content"], type=Answer)
    assert [cause.id for cause in answer.causes] == [cause.id for cause in note.causes]
    assert answer.text == note.text
    assert json.loads(line["messages"][1]["content"])["facts"]
    assert "1 examples" in said


def test_an_edit_is_what_the_person_said_and_names_nobody(
    core: Core, episode: Episode, export: Callable[..., Any], tmp_path: Path
) -> None:
    """The person's cause rests on what their text cites; names become pseudonyms, the same every time."""
    _, evidence, note = episode
    other = next(cause for cause in evidence.causes if cause.id != note.causes[0].id)
    (line,), _ = export(
        note, verdict="edited", cause_id=other.id, text="A.Moreau and i.kaya saw it at [E2], [E1]", actions=()
    )
    answer = msgspec.json.decode(line["messages"][2]["content"], type=Answer)
    assert [(cause.id, cause.cites) for cause in answer.causes] == [(other.id, ["E1", "E2"])]
    assert "moreau" not in json.dumps(line).lower()
    assert "kaya" not in json.dumps(line).lower()
    assert answer.text.count("person_") == 2
    key = core.services.config.data_dir / "pseudonyms.key"
    assert key.stat().st_mode & 0o077 == 0
    assert key.read_text() not in json.dumps(line)


@pytest.mark.parametrize(
    ("review", "reason"),
    [
        ({"verdict": "rejected", "reason": "wrong_cause"}, "rejected: wrong_cause"),
        ({"verdict": "edited", "text": "at 12 bar [E1]"}, "no_uncited_digit"),
        ({"verdict": "edited", "text": "it is broken"}, "text_cites"),
        ({"verdict": "edited", "actions": ("Call Bob",)}, "an action is the person's own"),
    ],
)
def test_what_no_model_could_answer_is_left_out(
    episode: Episode, export: Callable[..., Any], review: dict[str, Any], reason: str
) -> None:
    """Rejections and texts outside the form are counted with their reason, not exported."""
    lines, said = export(episode[2], **review)
    assert lines == []
    assert f"{reason}: 1" in said


def test_a_file_that_is_there_is_kept(core: Core, fairlead: Callable[..., Any], tmp_path: Path) -> None:
    """Nothing is overwritten."""
    out = tmp_path / "set.jsonl"
    out.write_text("mine")
    said = fairlead("llm", "export-dataset", str(out), "--config", str(core.services.config.path))
    assert said.code == 1
    assert "exists" in said.err
    assert out.read_text() == "mine"


@pytest.mark.parametrize("text", ["", "\n", "abcd", "no hex", "00" * 31])
def test_a_key_that_is_too_short_makes_no_pseudonyms(
    core: Core, fairlead: Callable[..., Any], tmp_path: Path, text: str
) -> None:
    """Pseudonyms of a known key are names; nothing is exported."""
    (core.services.config.data_dir / "pseudonyms.key").write_text(text)
    out = tmp_path / "set.jsonl"
    said = fairlead("llm", "export-dataset", str(out), "--config", str(core.services.config.path))
    assert said.code == 1
    assert "is no key of 32 bytes" in " ".join(said.err.split())
    assert not out.exists()


def test_an_export_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    """Half a set looks like a whole one."""

    def write() -> None:
        with whole(tmp_path / "set.jsonl", 0o666) as file:
            file.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("verdict", "lines", "said"),
    [("approved", 1, "1 examples"), ("rejected", 0, "rejected: known_work")],
)
def test_a_person_s_word_on_a_release_by_the_policy_counts(
    core: Core, episode: Episode, fairlead: Callable[..., Any], tmp_path: Path, verdict: str, lines: int, said: str
) -> None:
    """Negative control: before it, nobody has looked, and nothing is taken."""
    note = episode[2]

    def export(name: str, **review: Any) -> tuple[int, str]:
        taken = Review(annotation_id=note.annotation_id, **review)
        core.write(lambda tx: decide(tx, taken, "lyon"))
        out = tmp_path / name
        text = fairlead("llm", "export-dataset", str(out), "--config", str(core.services.config.path)).out
        return len(out.read_text().splitlines()), text

    before, text = export("before", verdict="approved", person="policy:greasing", at_ns=T0)
    assert before == 0
    assert "released by a policy: nobody looked at it: 1" in text
    reason = "known_work" if verdict == "rejected" else None
    after, text = export("after", verdict=verdict, person="a.moreau", at_ns=T0 + S, reason=reason)
    assert after == lines
    assert said in text
