"""Bodies survive the way through bytes unchanged."""

from __future__ import annotations

from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from broker.journal import codec
from broker.journal.exact import MAX_DEPTH
from schemas.alarms import Condition, Event
from schemas.entries import Body, Link, MapInForce, Notice, Tick
from schemas.samples import Exact, Gap, GapCause, Origin, Reject, SampleBatch
from schemas.suppression import Action, Command

NS = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=20)
EXACT: st.SearchStrategy[Exact] = st.recursive(
    st.one_of(st.text(st.characters(exclude_categories=()), max_size=10), st.integers(), st.binary(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)


def column(dtype: str, n: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(dtype, n)


@st.composite
def batches(draw: st.DrawFn) -> SampleBatch:
    n = draw(st.integers(0, 5))
    rows = st.integers(0, n - 1) if n else st.nothing()
    return SampleBatch(
        draw(TEXT),
        draw(st.sampled_from(Origin)),
        draw(st.binary(min_size=16, max_size=16)),
        draw(NS),
        draw(column("int32", n)),
        draw(column("int64", n)),
        draw(st.none() | column("int64", n)),
        draw(column("float64", n)),
        draw(column("uint32", n)),
        draw(column("uint32", n)),
        draw(st.dictionaries(rows, EXACT, max_size=n)) if n else {},
    )


SWITCH = st.none() | st.booleans()
OTHERS: st.SearchStrategy[Body] = st.one_of(
    st.builds(
        Gap,
        TEXT,
        st.lists(st.integers(0, 10**6), max_size=4).map(tuple),
        NS,
        st.none() | NS,
        st.sampled_from(GapCause),
        st.booleans(),
        st.binary(max_size=16),
        TEXT,
        st.booleans(),
    ),
    st.builds(
        Event,
        TEXT,
        TEXT,
        TEXT,
        st.binary(max_size=20),
        TEXT,
        TEXT,
        TEXT,
        TEXT,
        NS,
        st.none() | NS,
        NS,
        NS,
        TEXT,
        NS,
        st.none()
        | st.builds(
            Condition,
            TEXT,
            TEXT,
            TEXT,
            SWITCH,
            SWITCH,
            SWITCH,
            SWITCH,
            SWITCH,
            TEXT,
            st.none() | NS,
            st.none() | NS,
            TEXT,
            TEXT,
        ),
        st.dictionaries(TEXT, EXACT | st.none() | st.booleans() | st.floats(allow_nan=False), max_size=3),
    ),
    st.builds(Reject, TEXT, TEXT, TEXT, st.binary(max_size=50), NS),
    st.builds(Link, TEXT, st.booleans(), TEXT),
    st.builds(MapInForce, st.binary(max_size=16), st.binary(max_size=100)),
    st.just(Tick()),
    st.builds(Notice, TEXT, TEXT),
    st.builds(Command, TEXT, st.sampled_from(get_args(Action)), TEXT, TEXT, TEXT, st.none() | NS, TEXT, NS),
)


@given(batches())
def test_batch_survives(batch: SampleBatch) -> None:
    """Every column comes back bit for bit, and every exact value as itself."""
    back = codec.decode(codec.encode(batch))

    assert isinstance(back, SampleBatch)
    for name in ("tag", "source_ns", "value", "status", "flags", "server_ns"):
        want, got = getattr(batch, name), getattr(back, name)
        if want is None:
            assert got is None
        else:
            assert want.dtype == got.dtype
            assert want.tobytes() == got.tobytes()
    assert batch.exact == back.exact
    assert (batch.source, batch.origin, batch.map_revision, batch.received_ns) == (
        back.source,
        back.origin,
        back.map_revision,
        back.received_ns,
    )


@given(OTHERS)
def test_other_bodies_survive(body: Body) -> None:
    """Gaps, rejects, events, links, maps, ticks, notices and commands come back equal."""
    assert body == codec.decode(codec.encode(body))


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**40, "a\ud800b", [1, {"k": [2**70]}], b"\x00", 2**64 - 1])
def test_values_beyond_msgpack_survive(value: Exact) -> None:
    """What msgpack cannot hold is not refused: integers of any size, text with lone surrogates."""
    batch = SampleBatch.build("s", bytes(16), 0, tag=[0], source_ns=[0], value=[np.nan], exact={0: value})

    back = codec.decode(codec.encode(batch))

    assert isinstance(back, SampleBatch)
    assert back.exact == {0: value}


def test_a_gap_of_an_older_journal_is_read() -> None:
    """It ends before what was added since: samples are missing, not events."""
    old = msgspec.msgpack.encode(["g", "plc", [1], 1, 2, "link_down", False, b"m" * 16, "gone"])
    assert codec.decode(old) == Gap("plc", (1,), 1, 2, GapCause.LINK_DOWN, False, b"m" * 16, "gone")


def test_a_field_that_is_nested_too_deeply_is_refused() -> None:
    """The error names it, so that the event becomes a quarantine row."""
    deep: list[object] = []
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    event = Event("s", "i=2253", "", b"", "", "", "", "", 0, None, 0, 1, "", fields={"Deep": deep})
    with pytest.raises(ValueError, match="field Deep is nested deeper"):
        codec.encode(event)


def test_text_of_a_cause_is_repaired() -> None:
    """A reason with characters that UTF-8 does not have is written escaped, never refused."""
    assert codec.decode(codec.encode(Link("s", False, "\udc80"))) == Link("s", False, "\\udc80")


def test_wrong_columns_are_refused() -> None:
    """Columns that differ in length cannot be journalled, and the text says which."""
    batch = SampleBatch.build("s", bytes(16), 0, tag=[0, 1], source_ns=[0], value=[0.0, 1.0])

    with pytest.raises(ValueError, match="source_ns"):
        codec.encode(batch)


@given(st.binary(max_size=60))
def test_foreign_bytes_raise_value_error(data: bytes) -> None:
    """Bytes that are no body raise ValueError and nothing else."""
    try:
        codec.decode(data)
    except ValueError:
        return
