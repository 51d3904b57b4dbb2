"""Bytes to columns: the same as the library gives for every mask and type, to the 100 ns, and nothing for cut bytes."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, variant_to_binary
from asyncua.ua.uaerrors import UaStructParsingError
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.opcua import responses, wire
from adapters.opcua.columns import Columns, Times
from adapters.opcua.data_value import objects
from adapters.opcua.decode import Stamp, time_ns
from adapters.opcua.event_wire import EventList
from adapters.opcua.rows import Rows
from schemas.samples import SampleBatch
from schemas.status import Flag

NOW = 1_800_000_000_000_000_000
TICKS = 134_000_000_000_000_007
SIZES = {0: 0, 1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 10: 4, 11: 8, 13: 8, 14: 16, 19: 4}


@dataclass(frozen=True)
class Item:
    """One DataValue as its fields: ``variant`` are the bytes of the Variant."""

    mask: int
    variant: bytes
    status: int = 0
    source: int = TICKS
    server: int = TICKS
    source_ps: int = 0
    server_ps: int = 0

    def encode(self, *, as_library: bool = False) -> bytes:
        """As the standard has it, or in the order that the library expects (A23)."""
        fields = [
            (1, self.variant),
            (2, struct.pack("<I", self.status)),
            (4, struct.pack("<q", self.source)),
            (16, struct.pack("<H", self.source_ps)),
            (8, struct.pack("<q", self.server)),
            (32, struct.pack("<H", self.server_ps)),
        ]
        if as_library:
            fields[3], fields[4] = fields[4], fields[3]
        return bytes([self.mask]) + b"".join(raw for bit, raw in fields if self.mask & bit)


def _notification(items: list[Item], **how: bool) -> bytes:
    """A DataChangeNotification; handles count from 7."""
    coded = [struct.pack("<I", 7 + n) + item.encode(**how) for n, item in enumerate(items)]
    return struct.pack("<i", len(items)) + b"".join(coded) + struct.pack("<i", -1)


def _published(items: list[Item], *, available: int = 2, results: tuple[int, ...] = (0,)) -> bytes:
    """A PublishResponse with these items, in one notification."""
    body = _notification(items)
    return (
        struct.pack("<BBHqIIBiBBB", 1, 0, 829, TICKS, 5, 0, 0, 0, 0, 0, 0)
        + struct.pack(f"<Ii{available}I?Iqi", 77, available, *range(available), False, 41, TICKS, 1)
        + struct.pack("<BBHBi", 1, 0, 811, 1, len(body))
        + body
        + struct.pack(f"<i{len(results)}Ii", len(results), *results, 0)
    )


def _fast(items: list[Item]) -> SampleBatch:
    columns = Columns(NOW, Times())
    body = _notification(items)
    rows, end = wire.values(body, 4, len(items), handles=True)
    assert end == len(body) - 4
    columns.add(rows)
    batch = columns.batch("s", bytes(16))
    batch.check()
    return batch


def _library(items: list[Item]) -> SampleBatch:
    found = struct_from_binary(ua.DataChangeNotification, Buffer(_notification(items, as_library=True)))
    columns = Columns(NOW, Times())
    columns.extend((one.ClientHandle, one.Value) for one in found.MonitoredItems)
    return columns.batch("s", bytes(16))


def _same(one: object, other: object) -> bool:
    """Equal, where NaN in an array equals NaN."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other or (one != one and other != other)


def _agree(items: list[Item]) -> None:
    fast, library = _fast(items), _library(items)
    assert fast.tag.tolist() == library.tag.tolist()
    assert np.array_equal(fast.value, library.value, equal_nan=True)
    assert np.signbit(fast.value[fast.value == 0]).tolist() == np.signbit(library.value[library.value == 0]).tolist()
    assert fast.status.tolist() == library.status.tolist()
    assert fast.flags.tolist() == library.flags.tolist()
    assert fast.exact.keys() == library.exact.keys()
    assert all(_same(fast.exact[row], library.exact[row]) for row in fast.exact)
    assert (fast.source_ns // 1000).tolist() == (library.source_ns // 1000).tolist()
    assert fast.server_ns is not None
    assert library.server_ns is not None
    assert (fast.server_ns // 1000).tolist() == (library.server_ns // 1000).tolist()


def _scalars() -> st.SearchStrategy[bytes]:
    """A Variant of any scalar type of fixed size: any bytes are a value (a DateTime in whole µs)."""

    def of(kind: int) -> st.SearchStrategy[bytes]:
        if kind == 13:
            return st.integers(0, 2**58).map(lambda us: bytes([kind]) + struct.pack("<q", us * 10))
        return st.binary(min_size=SIZES[kind], max_size=SIZES[kind]).map(lambda raw: bytes([kind]) + raw)

    return st.sampled_from(sorted(SIZES)).flatmap(of)


def _others() -> st.SearchStrategy[bytes]:
    """A Variant of what has no fixed size."""
    texts = st.none() | st.text(max_size=5)
    return st.one_of(
        texts.map(lambda t: variant_to_binary(ua.Variant(t, ua.VariantType.String))),
        st.lists(st.floats(width=32), max_size=3).map(
            lambda v: variant_to_binary(ua.Variant(v, ua.VariantType.Float, is_array=True))
        ),
        st.lists(texts, max_size=3).map(lambda v: variant_to_binary(ua.Variant(v, ua.VariantType.String))),
        st.just(variant_to_binary(ua.Variant([[1, 2], [3, 4]], ua.VariantType.Int16))),
        st.just(variant_to_binary(ua.Variant(ua.Range(1.0, 2.0), ua.VariantType.ExtensionObject))),
        st.just(variant_to_binary(ua.Variant(ua.LocalizedText("x", "en"), ua.VariantType.LocalizedText))),
        st.binary(max_size=4).map(lambda b: variant_to_binary(ua.Variant(b, ua.VariantType.ByteString))),
    )


_STATUS = st.sampled_from([0, 0x480, 0x40900000, 0x80310000, 0xC0000001, 0xFFFFFFFF])
_TICKS = st.one_of(
    st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63), 116_444_736_000_000_000, 116_444_736_000_000_009, TICKS]),
    st.integers(110_000_000_000_000_000, 140_000_000_000_000_000),
    st.integers(-(2**63), 2**63 - 1),
)
_PS = st.integers(0, 65535)


def _items(variants: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[Item]]:
    """Runs of equal and of changing layouts, over the length at which runs are looked for."""
    one = st.builds(Item, st.integers(0, 63), variants, _STATUS, _TICKS, _TICKS, _PS, _PS)
    repeated = st.tuples(one, st.sampled_from([1, 1, 2, 31, 32, 70])).map(lambda pair: [pair[0]] * pair[1])
    return st.lists(repeated, max_size=5).map(lambda parts: [item for part in parts for item in part])


@given(_items(_scalars()))
@example([])
def test_every_mask_and_scalar_is_as_the_library_has_it(items: list[Item]) -> None:
    """Same number, exact value, status, flag and time for any mask, any type of fixed size and any bytes."""
    _agree(items)


@given(_items(st.one_of(_scalars(), _others())))
def test_what_has_no_fixed_size_is_as_the_library_has_it(items: list[Item]) -> None:
    """Text, arrays and structures among numbers change nothing for their neighbours."""
    _agree(items)


@pytest.mark.parametrize("kind", sorted(SIZES))
@pytest.mark.parametrize("count", [1, 40])
def test_every_mask_by_itself(kind: int, count: int) -> None:
    """All 64 masks of one type, each as a run and all in turn."""
    variant = (
        bytes([kind]) + struct.pack("<d", 1.5)[-SIZES[kind] :] * (SIZES[kind] > 0) + bytes(max(0, SIZES[kind] - 8))
    )
    each = [Item(mask, variant[: 1 + SIZES[kind]], 0x40000000, TICKS - 7, TICKS, 9, 8) for mask in range(64)]
    for item in each:
        _agree([item] * count)
    _agree(each * 2)


@given(st.integers(116_444_736_000_000_010, 200_000_000_000_000_000), st.sampled_from([1, 40]))
def test_times_keep_their_100_ns(ticks: int, count: int) -> None:
    """A source and a server time are the ticks of the wire times 100, by every way (A19)."""
    number, text = Item(13, b"\x06\0\0\0\0", 0, ticks, ticks), Item(13, b"\x0c\xff\xff\xff\xff", 0, ticks, ticks)
    batch = _fast([number] * count + [text])
    assert batch.server_ns is not None
    want = (ticks - 116_444_736_000_000_000) * 100
    assert set(batch.source_ns.tolist()) == set(batch.server_ns.tolist()) == {want}
    [value] = objects(number.encode(), 0, 1)[0]
    assert time_ns(value.SourceTimestamp) == want
    assert value.SourceTimestamp == ua.win_epoch_to_datetime(ticks)
    assert next(_fast([Item(1, b"\x0d" + struct.pack("<q", ticks))]).rows()).value[-4:-1] == f"{want % 1000:03}"


def test_picoseconds_stand_before_the_server_time() -> None:
    """A23: the library reads the source's picoseconds behind the server time, and both come out wrong."""
    item = Item(1 | 4 | 8 | 16, b"\x06\5\0\0\0", source=TICKS, server=TICKS + 50, source_ps=0x1234)
    batch = _fast([item])
    assert batch.server_ns is not None
    assert batch.server_ns[0] == (TICKS + 50 - 116_444_736_000_000_000) * 100
    wrong = struct_from_binary(ua.DataValue, Buffer(item.encode()))
    assert wrong.SourcePicoseconds != 0x1234


def test_a_large_integer_is_exact_in_a_run() -> None:
    """Only the rows beyond 2**53, and none of a bad status, keep the integer beside the nearest float."""
    numbers = [2**53, 2**53 + 1, -(2**53) - 1, 5] * 10
    items = [Item(3, b"\x08" + struct.pack("<q", n), 0x80000000 if i == 1 else 0) for i, n in enumerate(numbers)]
    batch = _fast(items)
    assert batch.exact == {i: n for i, n in enumerate(numbers) if abs(n) > 2**53 and i != 1}
    assert math.isnan(batch.value[1])
    unsigned = _fast([Item(1, b"\x09" + b"\xff" * 8)] * 40)
    assert set(unsigned.exact.values()) == {2**64 - 1}


def test_what_the_library_decoded_is_counted() -> None:
    """Only the values of no fixed layout count, in a message as in its rows."""
    text = variant_to_binary(ua.Variant("x", ua.VariantType.String))
    number = Item(1, b"\x06\5\0\0\0")
    assert wire.values(_notification([number] * 40), 4, 40, handles=True)[0].general == 0
    assert wire.values(_notification([number, Item(1, text)] * 3), 4, 6, handles=True)[0].general == 3
    assert not responses.published(Buffer(_published([number] * 3))).message.general
    assert responses.published(Buffer(_published([number, Item(1, text)]))).message.general


def test_rows_can_be_chosen() -> None:
    """Leaving rows out keeps the exact values at their rows."""
    items = [Item(1, b"\x08" + struct.pack("<q", 2**60 + n)) for n in range(4)]
    rows, _ = wire.values(_notification(items), 4, 4, handles=True)
    kept = rows.take(np.array([False, True, False, True]))
    assert kept.tag.tolist() == [8, 10]
    assert kept.exact == {0: 2**60 + 1, 1: 2**60 + 3}


def test_a_publish_response_is_read() -> None:
    """Numbers, flags, and how many acknowledgements the server did not know."""
    reply = responses.published(Buffer(_published([Item(1, b"\x01\1")], results=(0, 0x807A0000, 0))))
    assert (reply.subscription_id, reply.message.sequence, reply.refused, reply.more) == (77, 41, 1, False)
    assert len(reply.message.parts[0]) == 1


def _by_library(data: list[Any], **header: Any) -> bytes:
    """A PublishResponse by the library's encoder."""
    response = ua.PublishResponse()
    response.Parameters = ua.PublishResult(
        9, [], True, ua.NotificationMessage(3, datetime(2026, 1, 1, tzinfo=UTC), data), [], []
    )
    for name, value in header.items():
        setattr(response.ResponseHeader, name, value)
    return ua.ua_binary.struct_to_binary(response)


def test_what_is_odd_goes_through_the_library() -> None:
    """A string table, several notifications, events and status changes are read, and told."""
    value = ua.DataValue(ua.Variant(2.5, ua.VariantType.Double))
    change = ua.DataChangeNotification([ua.MonitoredItemNotification(4, value)], [])
    events, ended = ua.EventNotificationList([]), ua.StatusChangeNotification(ua.StatusCode(0x80AD0000))
    for body, kinds in (
        (_by_library([]), []),
        (_by_library([change]), [Rows]),
        (_by_library([change], StringTable=["a", "b"]), [Rows]),
        (_by_library([change, events, change]), [Rows, EventList, Rows]),
        (_by_library([ended]), [ua.StatusChangeNotification]),
    ):
        reply = responses.published(Buffer(body))
        assert [type(part) for part in reply.message.parts] == kinds
        assert (reply.subscription_id, reply.message.sequence, reply.more) == (9, 3, True)
        ours = set(kinds) <= {Rows, EventList} and b"\1\0\0\0a" not in body
        assert reply.message.general == (not ours)
        rows = [part for part in reply.message.parts if isinstance(part, Rows)]
        assert all((part.tag.tolist(), part.value.tolist()) == ([4], [2.5]) for part in rows)


def test_a_fault_and_a_bad_result_raise_their_code() -> None:
    """A ServiceFault, and a bad ServiceResult in the right type, are the status code they carry."""
    fault = ua.ServiceFault()
    fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.StatusCodes.BadTooManyPublishRequests)
    for body in (
        ua.ua_binary.struct_to_binary(fault),
        _by_library([], ServiceResult=fault.ResponseHeader.ServiceResult),
    ):
        with pytest.raises(ua.UaStatusCodeError) as raised:
            responses.published(Buffer(body))
        assert raised.value.code == ua.StatusCodes.BadTooManyPublishRequests
    with pytest.raises(UaStructParsingError, match="want a response of type i=829"):
        responses.published(Buffer(ua.ua_binary.struct_to_binary(ua.ReadResponse())))


_WHOLE = _published([Item(n % 64, b"\x0b" + bytes(8)) for n in range(40)] + [Item(13, b"\x06\1\0\0\0")] * 40)


@given(st.integers(0, len(_WHOLE) - 9))
def test_cut_bytes_are_refused(length: int) -> None:
    """Wherever a message is cut, it is one that cannot be read: no rows, no other error, no endless loop."""
    with pytest.raises(UaStructParsingError):
        responses.published(Buffer(_WHOLE[:length]))


@given(st.lists(st.tuples(st.integers(0, len(_WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_spoilt_bytes_end_in_rows_or_in_one_error(changes: list[tuple[int, int]]) -> None:
    """Whatever the bytes are, the answer is a message, a status code, or that it cannot be read."""
    body = bytearray(_WHOLE)
    for place, value in changes:
        body[place] = value
    try:
        reply = responses.published(Buffer(bytes(body)))
    except ua.UaStatusCodeError:
        return
    except UaStructParsingError:
        return
    for part in reply.message.parts:
        if isinstance(part, Rows):
            columns = Columns(NOW, Times())
            columns.add(part.take(part.tag < 2**31))
            columns.batch("s", bytes(16)).check()


def test_an_array_that_claims_more_than_there_is_is_refused() -> None:
    """A null array of two thousand million elements would fill the memory."""
    bomb = Item(1, b"\x80" + struct.pack("<i", 2**31 - 1))
    with pytest.raises(UaStructParsingError, match="array of 2147483647"):
        responses.published(Buffer(_published([bomb])))


def test_read_values_keep_their_100_ns() -> None:
    """A ReadResponse gives the library's objects, with whole times."""
    item = Item(13, b"\x06\5\0\0\0")
    body = struct.pack("<BBHqIIBiBBBi", 1, 0, 634, TICKS, 5, 0, 0, 0, 0, 0, 0, 2) + item.encode() * 2
    first, second = responses.values(Buffer(body + struct.pack("<i", -1)))
    assert first == second
    assert (first.Value.Value, time_ns(first.SourceTimestamp)) == (5, (TICKS - 116_444_736_000_000_000) * 100)
    assert isinstance(first.ServerTimestamp, Stamp)


def test_an_unwatched_row_has_the_time_of_arrival() -> None:
    """Rows without a usable time take that of arrival, also within a run, and are flagged."""
    items = [Item(5, b"\x06\1\0\0\0", 0, TICKS if n % 2 else 0) for n in range(64)]
    batch = _fast(items)
    assert batch.source_ns[::2].tolist() == [NOW + n for n in range(32)]
    assert set(batch.flags[::2].tolist()) == {int(Flag.ARRIVAL_TIME)}
    assert not batch.flags[1::2].any()
