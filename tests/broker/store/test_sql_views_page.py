"""docs/sql-views.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from schemas.status import Flag

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "sql-views.md").read_text("utf-8")


def test_bits_of_flags_are_those_of_the_code() -> None:
    """The bits of the table are those of the flags that are stored, and the prose uses the same ones."""
    table = {int(bit): name for bit, name in re.findall(r"^\| (\d+) \| (.+?) \|", PAGE, re.MULTILINE)}
    named = {int(flag): f"`{flag.name.lower()}`" for flag in Flag if flag.name and flag is not Flag.DEADBAND}
    named[int(Flag.FLOAT32)] = "`type` is `float32`"
    assert table == named
    [confirms] = re.findall(r"Rows with bit (\d+) come where a source has `heartbeat`", PAGE)
    assert int(confirms) == Flag.NO_CHANGE_CONFIRMED
    assert re.findall(r"`flags & (\d+)`", PAGE) == [confirms]
