"""DataValues to columns: numbers, exact values, times, status, holes."""

from __future__ import annotations

import math
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from adapters.opcua.columns import Columns, Times
from adapters.opcua.decode import time_ns
from schemas import status
from schemas.samples import SampleBatch
from schemas.status import Flag

NOW = 1_800_000_000_000_000_000
STAMP = datetime(2026, 5, 6, 7, 8, 9, 123456, UTC)
STAMP_NS = 1_778_051_289_123_456_000


def _batch(*rows: ua.DataValue, times: Times | None = None) -> SampleBatch:
    columns = Columns(NOW, times or Times())
    # through the wire format, so that the library's own decoder makes the objects
    columns.extend(
        (n, struct_from_binary(ua.DataValue, ua.utils.Buffer(struct_to_binary(v)))) for n, v in enumerate(rows)
    )
    batch = columns.batch("s", bytes(16))
    batch.check()
    return batch


def _value(value: Any, kind: str, **more: Any) -> ua.DataValue:
    return ua.DataValue(ua.Variant(value, ua.VariantType[kind]), **{"SourceTimestamp": STAMP, **more})


@given(st.integers(-(2**63), 2**63 - 1))
def test_int64_is_exact(value: int) -> None:
    """Up to 2**53 the number itself; beyond it the nearest float and the exact integer."""
    batch = _batch(_value(value, "Int64"))
    assert batch.value[0] == float(value)
    assert batch.exact == ({} if abs(value) <= 2**53 else {0: value})
    assert next(batch.rows()).value == value


@given(st.integers(0, 2**64 - 1))
def test_uint64_is_exact(value: int) -> None:
    """The same for the unsigned type."""
    assert next(_batch(_value(value, "UInt64")).rows()).value == value


@given(st.floats(allow_nan=False))
def test_double_is_itself(value: float) -> None:
    """A Double is the same float64, infinities included."""
    batch = _batch(_value(value, "Double"))
    assert batch.value[0] == value
    assert batch.flags[0] == 0


@given(st.floats(width=32, allow_nan=False))
def test_a_float_is_told_from_a_double(value: float) -> None:
    """Which text is its shortest depends on it (W16); a bad one, a NaN and an array have no such number."""
    batch = _batch(_value(value, "Float"), _value(value, "Double"), _value(math.nan, "Float"))
    assert batch.value[:2].tolist() == [value, value]
    assert batch.flags.tolist() == [Flag.FLOAT32, 0, Flag.NAN]
    bad = ua.StatusCode(0x808C0000)
    assert _batch(_value(value, "Float", StatusCode=bad), _value([value], "Float")).flags.tolist() == [0, 0]


def test_nan_is_flagged() -> None:
    """NaN that the device said is told apart from a missing number."""
    batch = _batch(_value(math.nan, "Double"), _value(None, "String"))
    assert np.isnan(batch.value).all()
    assert batch.flags.tolist() == [Flag.NAN, 0]
    assert batch.exact == {}


@pytest.mark.parametrize(
    ("value", "kind", "exact"),
    [
        ("tick ä", "String", "tick ä"),
        (STAMP, "DateTime", "2026-05-06T07:08:09.123456000Z"),
        (uuid.UUID(int=7), "Guid", "00000000-0000-0000-0000-000000000007"),
        (b"\0\xff", "ByteString", b"\0\xff"),
        (ua.LocalizedText("step 1", "en"), "LocalizedText", "step 1"),
        (ua.QualifiedName("n", 2), "QualifiedName", "2:n"),
        (ua.NodeId("x", 3), "NodeId", "ns=3;s=x"),
        ([1, 2, 3], "Int32", [1, 2, 3]),
        ([], "Double", []),
        ([[1, 2], [3, 4]], "Int16", [[1, 2], [3, 4]]),
        (ua.Range(Low=1.0, High=2.5), "ExtensionObject", {"Low": 1.0, "High": 2.5}),
        (ua.EUInformation(UnitId=5), "ExtensionObject", None),
    ],
)
def test_what_is_no_number_is_exact(value: Any, kind: str, exact: Any) -> None:
    """Text, dates, ids, bytes, arrays and structures stand in ``exact`` with NaN beside them."""
    batch = _batch(_value(value, kind))
    assert math.isnan(batch.value[0])
    if exact is not None:
        assert batch.exact == {0: exact}
    else:
        assert batch.exact[0]["UnitId"] == 5  # type: ignore[index,call-overload]


def test_an_unknown_structure_keeps_its_type_and_bytes() -> None:
    """A structure without a known definition is its type id and its body."""
    columns = Columns(NOW, Times())
    unknown = ua.ExtensionObject(TypeId=ua.NodeId(9999, 4), Body=b"\1\2")
    columns.extend([(0, ua.DataValue(ua.Variant(unknown, ua.VariantType.ExtensionObject)))])
    assert columns.batch("s", bytes(16)).exact == {0: {"type": "ns=4;i=9999", "body": b"\1\2"}}


def test_booleans_and_enumerations_are_numbers() -> None:
    """True is 1; an enumeration is its number."""
    batch = _batch(_value(True, "Boolean"), _value(3, "Int32"))
    assert batch.value.tolist() == [1.0, 3.0]


def test_a_bad_status_carries_no_value() -> None:
    """With a Bad status the number is left out, with an uncertain one it stays; both codes are untouched."""
    bad = _value(5.0, "Double", StatusCode=ua.StatusCode(status.BAD_SENSOR_FAILURE))
    text = _value("Error 5", "String", StatusCode=ua.StatusCode(status.BAD_DEVICE_FAILURE))
    doubtful = _value(6.0, "Double", StatusCode=ua.StatusCode(status.UNCERTAIN_LAST_USABLE | 0x0100))
    batch = _batch(bad, text, doubtful)
    assert np.isnan(batch.value).tolist() == [True, True, False]
    assert batch.exact == {}
    assert batch.status.tolist() == [
        status.BAD_SENSOR_FAILURE,
        status.BAD_DEVICE_FAILURE,
        status.UNCERTAIN_LAST_USABLE | 0x0100,
    ]


@given(st.integers(-8_000_000_000_000_000, 8_000_000_000_000_000).filter(bool))
def test_times_keep_their_microseconds(since_us: int) -> None:
    """A timestamp is UTC ns, exact to the microsecond that the library keeps (A19)."""
    stamp = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=since_us)
    assert time_ns(stamp) == since_us * 1000
    assert _batch(_value(1, "Int32", SourceTimestamp=stamp)).source_ns[0] == since_us * 1000


@pytest.mark.parametrize(
    "stamp",
    [
        None,
        datetime(1601, 1, 1, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    ],
)
def test_without_a_source_time_rows_take_the_arrival(stamp: datetime | None) -> None:
    """No timestamp, 1601, 1970 or 9999: time of arrival, strictly increasing over batches, flagged."""
    times = Times()
    rows = [_value(n, "Int32", SourceTimestamp=stamp, ServerTimestamp=STAMP) for n in range(3)]
    first, second = _batch(*rows, times=times), _batch(*rows, times=times)
    stamps = [*first.source_ns.tolist(), *second.source_ns.tolist()]
    assert stamps == [NOW + n for n in range(6)]
    assert set(first.flags.tolist()) == {int(Flag.ARRIVAL_TIME)}
    assert first.server_ns is not None
    assert first.server_ns.tolist() == [STAMP_NS] * 3


def test_without_a_source_time_rows_follow_our_clock_back() -> None:
    """Set back by an hour, it is believed: flagged, counted, and the times do not stand still."""
    counters: Counter[str] = Counter()
    times = Times(counters)
    found = []
    for received_ns in (NOW, NOW - 3600 * 10**9, NOW - 3599 * 10**9):
        columns = Columns(received_ns, times)
        columns.extend([(0, _value(1, "Int32", SourceTimestamp=None))])
        batch = columns.batch("s", bytes(16))
        assert batch.source_ns.tolist() == [received_ns]
        found.append(int(batch.flags[0]))
    assert found == [Flag.ARRIVAL_TIME, Flag.ARRIVAL_TIME | Flag.CLOCK_SUSPECT, Flag.ARRIVAL_TIME]
    assert counters == {"clock_steps": 1}


def test_overflow_names_the_hole() -> None:
    """The Overflow bit gives a flag, and a hole from the tag's last value to the flagged one, for that tag only."""
    times = Times()
    plain = Columns(NOW, times)
    plain.extend([(4, _value(1, "Int32")), (5, _value(1, "Int32"))])
    assert plain.hole(0) is None
    plain.remember()
    later = STAMP + timedelta(seconds=2)
    marked = Columns(NOW, times)
    marked.extend(
        [
            (5, _value(2, "Int32", SourceTimestamp=later)),
            (4, _value(9, "Int32", SourceTimestamp=later, StatusCode=ua.StatusCode(0x480))),
        ]
    )
    hole = marked.hole(0)
    assert hole is not None
    assert marked.hole(0) == hole, "a batch that was not journalled comes again, and its hole with it"
    assert (hole.tags, hole.from_ns, hole.to_ns) == ((4,), STAMP_NS, STAMP_NS + 2_000_000_000)
    batch = marked.batch("s", bytes(16))
    assert batch.flags.tolist() == [0, int(Flag.OVERFLOW)]
    assert batch.status.tolist() == [0, 0x480]


@pytest.mark.parametrize(
    ("received_s", "covered_s", "from_s"),
    [(0, -60, -60), (30, -30, -30), (3600, 3540, -60), (-3600, -3660, -3660), (0, None, 0)],
    ids=["at once", "waited in the queue", "device behind", "device ahead", "nothing known"],
)
def test_an_overflow_after_a_restart_begins_where_data_was_complete(
    received_s: int, covered_s: int | None, from_s: int
) -> None:
    """Without a last value of the tag, the hole begins at the persisted time, never later on the device's clock."""
    columns = Columns(STAMP_NS + received_s * 10**9, Times())
    columns.extend([(4, _value(9, "Int32", StatusCode=ua.StatusCode(0x480)))])
    hole = columns.hole(0 if covered_s is None else STAMP_NS + covered_s * 10**9)
    assert hole is not None
    assert (hole.from_ns - STAMP_NS, hole.to_ns) == (from_s * 10**9, STAMP_NS)
