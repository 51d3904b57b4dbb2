"""Cards are kept whole, found again, and a damaged one is told with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.scorecard.cards import MAX_BYTES, find, load, path_of, read, save
from broker.scorecard.standing import Standings
from schemas.errors import FairleadError, Refused
from schemas.scorecard import ScoreCard
from tests.broker.scorecard.conftest import SHA

Make = Callable[..., ScoreCard]


def test_a_card_is_found_again(tmp_path: Path, make_card: Make) -> None:
    assert load(tmp_path, SHA) is None
    path = save(tmp_path, make_card())
    assert path == tmp_path / "models" / "cards" / f"{SHA}.json"
    assert load(tmp_path, SHA) == make_card()
    assert [one.name for one in path.parent.iterdir()] == [path.name], "nothing half written is left"


def test_a_replaced_card_stays_by_its_id(tmp_path: Path, make_card: Make) -> None:
    """Annotations name the card they were made under, so it must be found after the next one."""
    first, second = make_card(seed=1), make_card(seed=2)
    assert first.card_id != second.card_id
    save(tmp_path, first)
    save(tmp_path, second)
    assert load(tmp_path, SHA) == second
    assert find(tmp_path, SHA, first.card_id) == first
    assert find(tmp_path, SHA, second.card_id) == second
    assert find(tmp_path, SHA, "0" * 32) is None


def test_the_card_of_another_model_is_refused(tmp_path: Path, make_card: Make) -> None:
    """A card copied to another model's name must not speak for it."""
    path = path_of(tmp_path, "0" * 64)
    path.parent.mkdir(parents=True)
    path.write_text(make_card().model_dump_json())
    with pytest.raises(Refused, match="card of another model"):
        load(tmp_path, "0" * 64)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no score card"),
        (b"{", "no score card"),
        (b'{"version": 1}', "no score card: model_sha256"),
        (b"\xff\xfe", "no score card"),
        (b" " * (MAX_BYTES + 1), "too large"),
    ],
)
def test_a_damaged_card_is_told_and_makes_the_model_advisory(tmp_path: Path, body: bytes, why: str) -> None:
    """With its path and what to do; the service goes on, and says it."""
    path = path_of(tmp_path, SHA)
    path.parent.mkdir(parents=True)
    path.write_bytes(body)
    with pytest.raises(Refused, match=why) as told:
        load(tmp_path, SHA)
    assert str(path) in str(told.value)
    standing = Standings(tmp_path, "annotate")(SHA)
    assert (standing.mode, standing.help) == ("advisory", "fairlead llm bench")
    assert "cannot be used" in standing.reason
    assert standing.card_id == ""


def test_a_card_of_a_later_shape_is_refused(tmp_path: Path, make_card: Make) -> None:
    path = save(tmp_path, make_card())
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(Refused, match="version"):
        read(path)


def test_what_is_no_sha256_is_no_path(tmp_path: Path) -> None:
    for wrong in ("", "../../etc/passwd", "AB" * 32):
        with pytest.raises(ValueError, match="no sha256"):
            load(tmp_path, wrong)


def test_a_folder_that_takes_no_file_is_told(tmp_path: Path, make_card: Make) -> None:
    (tmp_path / "models").write_text("a file where a folder should be")
    with pytest.raises(FairleadError, match="cannot be written"):
        save(tmp_path, make_card())
