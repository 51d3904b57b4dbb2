"""Records for JSON and CSV: float32 by its shortest text, bit for bit (W16)."""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from broker.api.record_rows import records_json
from broker.store.rows.records import RecordRow
from schemas.status import Flag
from tests.broker.api.core import Core, S, batch, fill

T0 = 1_790_000_000 * S
SINGLE = int(Flag.FLOAT32)


def row(value: float | None, flags: int = SINGLE) -> RecordRow:
    """A record as the store gives it."""
    return RecordRow(1, "a/b", "1", T0, None, T0, value, None, None, 0, flags, 0, "t0", None)


def read_again(text: str) -> int:
    """The bits of a float32 that a reader makes of a text."""
    bits: int = struct.unpack("<I", struct.pack("<f", float(text)))[0]
    return bits


def digits(text: str) -> str:
    """The digits that count."""
    return text.lstrip("-").partition("e")[0].replace(".", "").strip("0")


def patterns() -> Iterator[int]:
    """2**16 patterns of 32 bits, spread over all exponents, and those at the ends of each exponent."""
    yield from range(0, 2**32, 2**16)
    for exponent in range(256):
        for fraction in (0, 1, 2, 2**22, 2**23 - 2, 2**23 - 1):
            yield exponent << 23 | fraction


def test_every_float32_comes_back_with_its_bits() -> None:
    """The text is read again as the same float32, and no shorter one would be."""
    bits = np.array(sorted(set(patterns())), np.uint32)
    single = bits.view(np.float32)
    finite = np.isfinite(single)
    rows = [row(float(number)) for number in single[finite]]
    made = records_json(rows)
    # -0.0 and 0.0 are told apart by JSON's text, too
    texts = [json.dumps(one["value"]) for one in made]
    assert [read_again(text) for text in texts] == bits[finite].tolist()
    assert {one["type"] for one in made} == {"float32"}
    shortest = [np.format_float_scientific(number, unique=True) for number in single[finite]]
    assert [digits(text) for text in texts] == [digits(text) for text in shortest]


@pytest.mark.parametrize("flags", [0, int(Flag.LATE)])
def test_a_double_stays_what_it_is(flags: int) -> None:
    """Without the flag nothing is shortened: the control shows the noise that the flag takes away."""
    noisy = float(np.float32(21.1))
    (made,) = records_json([row(noisy, flags)])
    assert (made["value"], made["type"]) == (21.100000381469727, "float64")
    (short,) = records_json([row(noisy, flags | SINGLE)])
    assert (short["value"], short["type"]) == (21.1, "float32")


def test_a_flag_that_does_not_fit_changes_no_number() -> None:
    """What is no float32 is printed as it is; infinities, which JSON has not, are null and have no type."""
    made = records_json([row(0.1), row(1e300), row(float("inf")), row(None)])
    assert [(one["value"], one["type"]) for one in made] == [
        (0.1, "float64"),
        (1e300, "float64"),
        (None, None),
        (None, None),
    ]


def test_every_form_of_the_pull_and_current_say_the_same(core: Core) -> None:
    """JSON, NDJSON, CSV and the current values have the stable id, the type and the short number."""
    tag_map = fill(core, 0)
    made = batch(tag_map, [0, 1], [T0, T0], [float(np.float32(21.1)), 21.1])
    made.flags[0] = SINGLE
    core.write(lambda tx: tx.records(made))
    client = core.as_role("consumer")

    answer = client.get("/api/v1/records")
    assert '"value":21.1,"type":"float32"' in answer.text
    rows = answer.json()["records"]
    assert [(one["tag_id"], one["value"], one["type"], one["flags"]) for one in rows] == [
        ("t0", 21.1, "float32", []),
        ("t1", 21.1, "float64", []),
    ]
    lines = client.get("/api/v1/records", params={"format": "ndjson"}).text.splitlines()
    assert [json.loads(line) for line in lines] == rows
    cells = list(csv.DictReader(io.StringIO(client.get("/api/v1/records", params={"format": "csv"}).text)))
    assert [(one["tag_id"], one["value"], one["type"], one["enum_text"]) for one in cells] == [
        ("t0", "21.1", "float32", ""),
        ("t1", "21.1", "float64", ""),
    ]
    now = client.get("/api/v1/current").json()["records"]
    assert sorted((one["tag_id"], one["value"], one["type"]) for one in now) == [
        ("t0", 21.1, "float32"),
        ("t1", 21.1, "float64"),
    ]
