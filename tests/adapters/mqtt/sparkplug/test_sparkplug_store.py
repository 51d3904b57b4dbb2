"""Births and positions on disk: what is torn, or belongs to other births, is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.mqtt.sparkplug import births, store
from adapters.mqtt.sparkplug.topics import Edge

PLACES = [births.Position("G", "n", 7, 10**18), births.Position("G", "m", None, 5)]


def test_positions_are_found_again_with_their_births(tmp_path: Path) -> None:
    """A shorter file is written over a longer one, and what remains of the longer one is not read."""
    mark = store.mark(b"births")
    store.keep_positions(tmp_path, mark, births.dump_positions(PLACES))
    store.keep_positions(tmp_path, mark, births.dump_positions(PLACES[:1]))
    found = store.recall_positions(tmp_path, mark)

    assert found is not None
    assert births.load_positions(found) == {Edge("G", "n"): PLACES[0]}
    assert store.recall_positions(tmp_path, store.mark(b"other births")) is None


@pytest.mark.parametrize("place", [0, 5, 9, 15, -1])
def test_a_torn_file_holds_no_positions(tmp_path: Path, place: int) -> None:
    """A power cut in the middle of a write: nothing is known, so births are not trusted."""
    mark = store.mark(b"births")
    store.keep_positions(tmp_path, mark, births.dump_positions(PLACES))
    path = tmp_path / "positions.bin"
    whole = path.read_bytes()
    raw = bytearray(whole)
    raw[place] ^= 1
    path.write_bytes(raw)
    assert store.recall_positions(tmp_path, mark) is None
    path.write_bytes(whole[: place % len(whole)])
    assert store.recall_positions(tmp_path, mark) is None
