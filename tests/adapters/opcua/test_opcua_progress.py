"""The file that lets a restarted process go on, and the arithmetic of message numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.opcua.progress import Held, Ledger, ahead, following, load

LAST = 2**32 - 1


def _ledger(path: Path) -> Ledger:
    ledger = Ledger(path, Counter())
    ledger.load()
    return ledger


def test_numbers_begin_again_at_one() -> None:
    """After the last number comes 1, and 0 is never a number."""
    assert following(0) == 1
    assert following(LAST) == 1
    assert following(0, 3) == 3
    assert ahead(1, LAST) == 1
    assert ahead(LAST, 1) == -1


@given(st.integers(1, LAST), st.integers(0, 10_000))
def test_distance_counts_messages(start: int, steps: int) -> None:
    """The distance is the number of steps, forward and back, over the end of the range too."""
    reached = (start - 1 + steps) % LAST + 1
    assert ahead(reached, start) == steps
    assert steps == 0 or following(start, steps) == reached
    assert ahead(start, reached) == -steps


def test_a_settled_message_is_found_again(tmp_path: Path) -> None:
    """What was settled before a crash is what the next process goes on from."""
    ledger = _ledger(tmp_path / "s.json")
    held = [Held(7, 10.0, refused={3: 0x80340000}), Held(8, 10.0)]
    ledger.renew("f", 123, held, 1000, "first")
    ledger.settled(ledger.generation, held[0], 5, 900)
    ledger.settled(ledger.generation, held[1], 2, 800)
    found = load(tmp_path / "s.json")
    assert found == ledger.now
    assert [one.last_sequence for one in found.held] == [5, 2]
    assert found.covered_ns == 800


def test_a_gap_is_owed_until_something_behind_it_is_settled(tmp_path: Path) -> None:
    """New subscriptions owe the time since the last complete data, over a further crash too."""
    path = tmp_path / "s.json"
    ledger = _ledger(path)
    held = Held(7, 10.0)
    ledger.renew("f", 1, [held], 1000, "first")
    assert ledger.now.owed is None
    ledger.settled(ledger.generation, held, 1, 900)
    ledger.renew("f", 2, [Held(8, 10.0)], 5000, "restarted")
    assert load(path).owed == (900, 5000, "restarted")
    again = _ledger(path)
    newest = Held(9, 10.0)
    again.renew("f", 3, [newest], 7000, "restarted again")
    assert again.now.owed == (900, 7000, "restarted again")
    again.settled(again.generation, newest, 1, 6900)
    assert load(path).owed is None


def test_a_late_settle_does_not_touch_what_came_after(tmp_path: Path) -> None:
    """A batch of an earlier connection neither pays a gap owed since nor sets a number back."""
    ledger = _ledger(tmp_path / "s.json")
    held = Held(7, 10.0)
    ledger.renew("f", 1, [held], 1000, "first")
    before = ledger.generation
    ledger.settled(before, held, 4, 900)
    ledger.settled(before, held, 3, 800)
    assert held.last_sequence == 4
    ledger.renew("f", 2, [Held(8, 10.0)], 5000, "restarted")
    ledger.settled(before, held, 5, 4000)
    assert ledger.now.owed == (900, 5000, "restarted")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version":2}', '{"version":1,"held":[{}],"owed":null}', "null"])
def test_a_damaged_file_owes_a_gap_from_before_it_was_written(tmp_path: Path, content: str) -> None:
    """A file that cannot be read holds no subscription, but until it was written there was data; none owes nothing."""
    path = tmp_path / "s.json"
    assert load(path).covered_ns == 0
    path.write_text(content)
    written_ns = path.stat().st_mtime_ns
    assert load(path).held == []
    assert written_ns - 60 * 10**9 < load(path).covered_ns < written_ns
    ledger = Ledger(path, Counter())
    ledger.load()
    ledger.renew("f", 1, [Held(7, 10.0)], written_ns + 5, "anew")
    assert ledger.now.owed == (written_ns - 10 * 10**9, written_ns + 5, "anew")


def test_a_folder_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    """A failing write is counted and stops nothing."""
    counters: Counter[str] = Counter()
    ledger = Ledger(tmp_path / "missing" / "s.json", counters)
    ledger.renew("f", 1, [Held(7, 10.0)], 1000, "first")
    assert counters["state_unsaved"] == 1


def test_what_is_forgotten_is_to_be_deleted(tmp_path: Path) -> None:
    """Forgotten subscriptions stay known until new ones are made, also by the next process; the covered time stays."""
    path = tmp_path / "s.json"
    told: list[int] = []
    ledger = Ledger(path, Counter(), told.append)
    held = Held(7, 10.0)
    ledger.renew("f", 1, [held], 1000, "first")
    ledger.settled(ledger.generation, held, 1, 900)
    ledger.forget()
    ledger.save()
    again = _ledger(path)
    assert again.begin_anew(1) == [7]
    again.renew("f", 1, [Held(8, 10.0)], 2000, "ended")
    assert load(path).stale == []
    assert load(path).owed == (900, 2000, "ended")
    assert told[-1] == 900


def test_ids_of_another_run_of_the_server_are_nobodys(tmp_path: Path) -> None:
    """After a restart of the server the old ids may name subscriptions of others: none is deleted."""
    ledger = _ledger(tmp_path / "s.json")
    ledger.renew("f", 1, [Held(7, 10.0)], 1000, "first")
    assert ledger.begin_anew(2) == []
