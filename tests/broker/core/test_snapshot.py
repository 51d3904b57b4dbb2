"""The saved state of the stages: parts on their way into SQL, and which state is in force."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from broker.core.snapshot import HEAD, PART, WITHIN_NS, Snapshot, other, saved
from broker.store import Store
from schemas.entries import Position
from tests.broker.core import stream

LARGE = b"".join(number.to_bytes(4, "little") for number in range(5 * PART // 4 + 7))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(stream.open_store(tmp_path)) as opened:
        yield opened


def _snapshot(place: str, seq: int, state: bytes) -> Snapshot:
    return Snapshot(place, Position(1, seq), 0, {"maps": []}, {"normalizer": b"small", "detection": state})


def _write(store: Store, snapshot: Snapshot, wall_ns: int | None = None) -> None:
    with store.transaction() as tx:
        snapshot.write(tx, wall_ns)


def test_a_state_comes_back(store: Store) -> None:
    assert saved(store) is None
    first = _snapshot(other(None), 7, LARGE)
    _write(store, first)

    assert first.complete
    found = saved(store)
    assert found is not None
    head, stages = found
    assert (head["position"], head["place"], head["maps"]) == ([1, 7], first.place, [])
    assert stages == {"normalizer": b"small", "detection": LARGE}


def test_a_half_written_state_is_not_in_force(store: Store) -> None:
    """Part by part within the time, and the one before stays whole until the last part is there."""
    _write(store, _snapshot("a", 7, LARGE))
    second = _snapshot(other("a"), 9, LARGE[::-1])
    turns = 0
    while not second.complete:
        found = saved(store)
        assert found is not None
        assert (found[0]["position"], found[1]["detection"]) == ([1, 7], LARGE)
        _write(store, second, 0)
        turns += 1

    found = saved(store)
    assert found is not None
    assert (found[0]["position"], found[0]["place"], found[1]["detection"]) == ([1, 9], "b", LARGE[::-1])
    assert turns == 7  # the small stage, and six parts of the large one


@pytest.mark.parametrize("wall_ns", [WITHIN_NS, -1], ids=["late", "clock set back"])
def test_the_rest_is_written_when_the_time_is_over(store: Store, wall_ns: int) -> None:
    snapshot = _snapshot("a", 7, LARGE)
    _write(store, snapshot, 0)
    assert not snapshot.complete
    _write(store, snapshot, wall_ns)

    assert snapshot.complete


def test_a_smaller_state_in_the_place_of_a_larger_one(store: Store) -> None:
    for seq, state in enumerate([LARGE, LARGE, b"short", LARGE[:PART]]):
        _write(store, _snapshot("ab"[seq % 2], seq, state))
        found = saved(store)
        assert found is not None
        assert found[1]["detection"] == state
    with store.transaction() as tx:
        kept = [name for name in tx.stages() if name.startswith("detection")]
    assert sorted(kept) == ["detection.a.0", "detection.b.0"]  # of the five parts of before nothing is left


def test_what_is_in_its_place_already_is_not_written_again(store: Store) -> None:
    """It counts as a part of the state all the same; in the other place it has to be written."""
    _write(store, _snapshot("a", 1, LARGE))
    for place, expected in (("a", LARGE), ("b", b"")):
        stages = {"normalizer": b"new", "detection": LARGE}
        _write(store, Snapshot(place, Position(1, 2), 0, {"maps": []}, stages, unchanged={"detection"}))
        found = saved(store)
        assert found is not None
        assert found[1] == {"normalizer": b"new", "detection": expected}


def test_a_state_from_before_there_were_places(store: Store) -> None:
    with store.transaction() as tx:
        tx.save_stage(HEAD, msgspec.msgpack.encode({"position": [1, 3], "maps": []}))
        tx.save_stage("detection", b"old")
    found = saved(store)

    assert found == ({"position": [1, 3], "maps": [], "place": None}, {"detection": b"old"})
    assert other(found[0]["place"]) == "a"

    with store.transaction() as tx:
        tx.save_stage("refused", b"stays")
    _write(store, _snapshot("a", 7, b"new"))
    with store.transaction() as tx:
        assert sorted(tx.stages()) == ["detection.a.0", "normalizer.a.0", HEAD, "refused"]
