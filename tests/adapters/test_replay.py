"""The replay adapter: what a file says is what comes out, and a bad line costs only itself."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import timestamps, values
from adapters.base import AdapterContext
from adapters.replay import ReplayAdapter, ReplayOptions
from schemas import status
from schemas.errors import EndOfInput, NotConnected
from schemas.samples import Delivery, Origin, Sample
from schemas.status import Flag
from schemas.tagmap import Tag

NOW = 1_800_000_000 * 10**9
T0 = 1_583_921_673 * 10**9  # 2020-03-11T10:14:33Z

Make = Callable[..., ReplayAdapter]


def _tag(number: int, address: str, type_: str | None = None) -> Tag:
    return Tag(number=number, id=f"t{number}", path=f"A/B/{number}", source="file", address=address, type=type_)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a file and build an adapter that plays it at full speed."""

    def build(text: str | bytes | None, *tags: Tag, file: str = "data.csv", **options: object) -> ReplayAdapter:
        if text is not None:
            (tmp_path / file).write_bytes(text.encode() if isinstance(text, str) else text)
        context = AdapterContext("file", tags, b"m" * 16, lambda: NOW, tmp_path, tmp_path)
        return ReplayAdapter(ReplayOptions.model_validate({"file": file, "speed": "max", **options}), context)

    return build


async def _play(adapter: ReplayAdapter) -> list[Delivery]:
    deliveries = []
    await adapter.connect()
    try:
        while True:
            delivery = await adapter.read()
            delivery.batch.check()
            await delivery.settle()
            deliveries.append(delivery)
    except EndOfInput:
        return deliveries
    finally:
        await adapter.close()


def _rows(deliveries: list[Delivery]) -> list[Sample]:
    return [row for delivery in deliveries for row in delivery.batch.rows()]


async def test_wide_csv_becomes_rows_with_the_times_of_the_file(make: Make) -> None:
    """Each filled cell of a mapped column is one sample with its line's time."""
    adapter = make(
        "time;p;unused;n\n2020-03-11 10:14:33;1.5;9;7\n2020-03-11 10:14:34;;9;9007199254740993\n",
        _tag(0, "p"),
        _tag(5, "n", "int64"),
    )

    deliveries = await _play(adapter)

    flags = int(Flag.ASSUMED_GOOD)
    assert _rows(deliveries) == [
        Sample(0, T0, 1.5, status.GOOD, flags),
        Sample(5, T0, 7.0, status.GOOD, flags),
        Sample(5, T0 + 10**9, 9007199254740993, status.GOOD, flags),
    ]
    assert deliveries[0].batch.origin is Origin.REPLAY
    assert deliveries[0].rejects == ()


async def test_long_jsonl_keeps_status_and_text(make: Make) -> None:
    """A JSONL line carries its own tag, value and status; a bad status comes without a number."""
    adapter = make(
        '{"time": 1583921673.25, "tag": "s", "value": "run", "status": "Good"}\n'
        '\n{"time": 1583921674, "tag": "x", "value": null, "status": "BadSensorFailure"}\n'
        '{"time": 1583921675, "tag": "x", "value": 2, "status": 1083179008}\n',
        _tag(0, "s", "string[8]"),
        _tag(1, "x", "float64"),
        file="data.jsonl",
    )

    text, bad, uncertain = _rows(await _play(adapter))

    assert text == Sample(0, T0 + 250_000_000, "run", status.GOOD, 0)
    assert (bad.status, math.isnan(bad.value)) == (status.BAD_SENSOR_FAILURE, True)  # type: ignore[arg-type]
    assert uncertain == Sample(1, T0 + 2 * 10**9, 2.0, status.UNCERTAIN_LAST_USABLE, 0)


async def test_a_bad_line_is_refused_alone(make: Make) -> None:
    """A broken time, number or JSON text is quarantined with its line number; the other lines come."""
    table = make(
        "time,p,q\nyesterday,1,1\n2020-03-11T10:14:33Z,0x1F,2\n2020-03-11T10:14:34Z,3,4\n", _tag(0, "p"), _tag(1, "q")
    )
    deliveries = await _play(table)
    assert [row.value for row in _rows(deliveries)] == [2.0, 3.0, 4.0]
    assert [(r.place, r.raw) for r in deliveries[0].rejects] == [
        ("data.csv:2", b"yesterday,1,1"),
        ("data.csv:3", b"2020-03-11T10:14:33Z,0x1F,2"),
    ]

    lines = make(
        '{"time": 1, "tag": "p", "value": 1}\n{"time": \n[]\n{"time": 2}\n{"time": 3, "tag": "p", "value": []}\n',
        _tag(0, "p", "float64"),
        file="l.jsonl",
    )
    deliveries = await _play(lines)
    assert len(_rows(deliveries)) == 1
    assert [r.place for r in deliveries[0].rejects] == ["l.jsonl:2", "l.jsonl:3", "l.jsonl:4", "l.jsonl:5"]
    assert lines.counters["rejected"] == 4


async def test_a_tag_without_a_column_is_refused_once(make: Make) -> None:
    """A wrong address is said once and does not stop the other tags."""
    deliveries = await _play(make("time,p\n1,1\n2,2\n", _tag(0, "p"), _tag(1, "typo")))

    assert [row.value for row in _rows(deliveries)] == [1.0, 2.0]
    assert [r.reason for d in deliveries for r in d.rejects] == ["no column 'typo'"]


async def test_times_can_be_shifted_to_now(make: Make) -> None:
    """``times: shifted`` keeps the distances and moves the first row to the clock."""
    rows = _rows(await _play(make("time,p\n10,1\n12.5,2\n", _tag(0, "p"), times="shifted")))

    assert [row.source_ns - NOW for row in rows] == [0, 2_500_000_000]


async def test_a_batch_holds_one_time_stamp_at_a_chosen_speed(make: Make) -> None:
    """With a finite speed lines of equal time come together and later ones when they are due."""
    adapter = make(
        '{"time": 0, "tag": "p", "value": 1}\n{"time": 0, "tag": "q", "value": 2}\n'
        '{"time": 60, "tag": "p", "value": 3}\n',
        _tag(0, "p"),
        _tag(1, "q"),
        file="d.jsonl",
        speed=3000.0,
    )
    start = asyncio.get_running_loop().time()
    deliveries = await _play(adapter)

    assert [len(d.batch) for d in deliveries] == [2, 1]
    assert asyncio.get_running_loop().time() - start >= 60 / 3000.0


async def test_full_speed_makes_batches_of_at_most_1000_lines(make: Make) -> None:
    """At speed ``max`` a batch takes many lines, so that nothing is paid per line."""
    text = "time,p\n" + "".join(f"{n},{n}\n" for n in range(2500))
    deliveries = await _play(make(text, _tag(0, "p")))

    assert [len(d.batch) for d in deliveries] == [1000, 1000, 500]


async def test_a_refused_delivery_is_played_again(make: Make) -> None:
    """What was not settled comes again after connect; what was settled does not."""
    adapter = make("time,p\n1,1\n2,2\n3,3\n", _tag(0, "p"), speed=1e6)
    await adapter.connect()
    await (await adapter.read()).settle()
    await (await adapter.read()).settle(OSError("disk full"))
    with pytest.raises(NotConnected):
        await adapter.read()

    rows = _rows(await _play(adapter))

    assert [row.value for row in rows] == [2.0, 3.0]


async def test_the_end_is_final(make: Make) -> None:
    """A played file ends at every further read, and again after connect."""
    adapter = make("time,p\n1,1\n", _tag(0, "p"))
    await _play(adapter)
    await adapter.connect()
    for _ in range(2):
        with pytest.raises(EndOfInput, match="is played"):
            await adapter.read()
    await adapter.close()


async def test_a_rebuilt_adapter_goes_on_behind_the_settled_line(make: Make) -> None:
    """A new adapter in the same state folder, as after a restart, plays on; nothing comes twice."""
    text = "time,p\n1,1\n2,2\n3,3\n"
    first = make(text, _tag(0, "p"), speed=1e6)
    await first.connect()
    await (await first.read()).settle()
    await first.close()

    again = make(None, _tag(0, "p"), speed=1e6)
    rows = _rows(await _play(again))

    assert [row.value for row in rows] == [2.0, 3.0]
    assert (first.continuity, again.continuity) == ("unknown", "kept")


async def test_a_replaced_file_begins_anew(make: Make, tmp_path: Path) -> None:
    """Another content under the same name is another recording."""
    await _play(make("time,p\n1,1\n2,2\n", _tag(0, "p")))
    rows = _rows(await _play(make("time,p\n1,7\n", _tag(0, "p"))))

    assert [row.value for row in rows] == [7.0]


async def test_a_file_that_has_grown_is_played_on(make: Make, tmp_path: Path) -> None:
    """Lines that were added since are played, those before them are not played again."""
    await _play(make("time,p\n1,1\n", _tag(0, "p")))
    with (tmp_path / "data.csv").open("a") as file:
        file.write("2,2\n")

    assert [row.value for row in _rows(await _play(make(None, _tag(0, "p"))))] == [2.0]


async def test_shifted_times_do_not_move_again(make: Make) -> None:
    """The shift is chosen once: after a restart the rest of the file keeps it, so no row gets a second time."""
    text = "time,p\n100,1\n160,2\n"
    first = make(text, _tag(0, "p"), speed=1e6, times="shifted")
    await first.connect()
    delivery = await first.read()
    await delivery.settle()
    await first.close()
    rows = _rows(await _play(make(None, _tag(0, "p"), speed=1e6, times="shifted")))

    assert next(delivery.batch.rows()).source_ns == NOW
    assert [row.source_ns for row in rows] == [NOW + 60 * 10**9]


async def test_waiting_is_a_sign_of_life(make: Make) -> None:
    """While nothing is due a counter grows, so that a pause in the recording is not taken for silence."""
    adapter = make("time,p\n1,1\n2,2\n", _tag(0, "p"), speed=50.0)
    await _play(adapter)

    assert adapter.counters["waits"] > 0


async def test_a_damaged_bookmark_is_counted(make: Make, tmp_path: Path) -> None:
    """A bookmark that cannot be read costs a second playing, which is counted, and nothing else."""
    (tmp_path / "played.json").write_bytes(b"{")
    adapter = make("time,p\n1,1\n", _tag(0, "p"))

    assert [row.value for row in _rows(await _play(adapter))] == [1.0]
    assert adapter.counters["bookmark_damaged"] == 1


@pytest.mark.parametrize("time", ["9" * 400, "9223372036", "1e999"])
async def test_a_time_that_fits_nothing_costs_its_line(make: Make, time: str) -> None:
    """Huge times are refused with their line; what follows is played."""
    body = f'{{"time": {time}, "tag": "p", "value": 1}}\n{{"time": 5, "tag": "p", "value": 2}}\n'
    deliveries = await _play(make(body, _tag(0, "p"), file="d.jsonl", times="shifted"))

    assert 2.0 in [row.value for row in _rows(deliveries)]


async def test_deep_nesting_costs_its_line(make: Make) -> None:
    """A structure nested without end is refused before anything is built from it."""
    deep = "[" * 900 + "]" * 900
    body = f'{{"time": 1, "tag": "p", "value": {deep}}}\n{{"time": 2, "tag": "p", "value": 2}}\n'
    deliveries = await _play(make(body, _tag(0, "p"), file="d.jsonl"))

    assert [row.value for row in _rows(deliveries)] == [2.0]
    assert sum(len(d.rejects) for d in deliveries) == 1


async def test_a_missing_file_may_appear_later(make: Make, tmp_path: Path) -> None:
    """Without the file connect says which one is missing, and works once it is there."""
    adapter = make(None, _tag(0, "p"))
    with pytest.raises(NotConnected, match=r"data\.csv: No such file"):
        await adapter.connect()
    (tmp_path / "data.csv").write_text("when,p\n1,1\n")
    with pytest.raises(NotConnected, match="no column 'time' among when, p"):
        await adapter.connect()
    (tmp_path / "data.csv").write_text("time,p\n1,1\n")

    assert len(_rows(await _play(adapter))) == 1


async def test_bytes_that_are_no_text_are_flagged_or_refused(make: Make) -> None:
    """Undecodable bytes never stop the file: a text is flagged, a number refused."""
    deliveries = await _play(make(b"time,s,p\n1,caf\xe9,1\n2,ok,\xff\n", _tag(0, "s", "string[9]"), _tag(1, "p")))

    rows = _rows(deliveries)
    assert rows[0].flags & Flag.DECODE_LOSS
    assert [row.tag for row in rows] == [0, 1, 0]
    assert len(deliveries[0].rejects) == 1


@given(content=st.binary(max_size=300))
def test_no_file_content_raises(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever a file holds, playing ends with the end of the file or a clear NotConnected."""
    folder = tmp_path_factory.mktemp("any")
    for name, head in (("a.csv", b"time,p\n"), ("a.jsonl", b"")):
        (folder / name).write_bytes(head + content)
        context = AdapterContext("file", (_tag(0, "p"),), b"m" * 16, lambda: NOW, folder, folder)
        adapter = ReplayAdapter(ReplayOptions(file=name, speed="max"), context)
        asyncio.run(_play(adapter))


@given(st.integers(0, 2**63 - 1))
def test_epoch_nanoseconds_round_trip(ns: int) -> None:
    """Integer epochs keep every nanosecond, as numbers and as text."""
    parse = timestamps.parser("epoch_ns", None)
    assert parse(ns) == parse(str(ns)) == ns


@given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 999))
def test_iso_times_keep_nanoseconds(moment: datetime, nanos: int) -> None:
    """ISO 8601 with nine digits gives exactly that nanosecond, or a refusal outside 1970-2262."""
    text = f"{moment.replace(microsecond=0, tzinfo=None).isoformat()}.{moment.microsecond:06d}{nanos:03d}Z"
    try:
        ns = timestamps.parser("iso8601", None)(text)
    except ValueError:
        assert not 1970 <= moment.year <= 2262 or moment.year == 2262
    else:
        assert ns % 1000 == nanos
        assert ns // 1000 % 10**6 == moment.microsecond


@pytest.mark.parametrize("text", ["2026-01-01 10:00:00", "10:00", "2026-13-01T00:00:00Z", "", None, True, [], -1, 1e30])
def test_unusable_times_are_refused(text: object) -> None:
    """A time without zone, or one that is none, raises ValueError and never guesses."""
    for form in ("iso8601", "epoch_ms") if not isinstance(text, str) else ("iso8601",):
        with pytest.raises(ValueError, match="time"):
            timestamps.parser(form, None)(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["1e400", "0x1F", "NaN", "inf", "1 000", "1,5", "", "١", "--1", "1.2.3", "9" * 21])
def test_ambiguous_number_texts_are_refused(text: str) -> None:
    """What is not wholly a decimal number within range is refused, never half read."""
    convert = values.from_text("float64")
    with pytest.raises(ValueError, match=r"number|float64"):
        convert(text)


@given(st.integers(-(2**70), 2**70))
def test_integers_are_exact_or_refused(number: int) -> None:
    """An integer beyond 2**53 stays exact beside its float, and one beyond 64 bit is refused."""
    for convert, value in ((values.from_json(None), number), (values.from_text(None), str(number))):
        if not -(2**63) <= number < 2**64:
            with pytest.raises(ValueError, match="64 bit"):
                convert(value)
        else:
            near, exact = convert(value)
            assert near == float(number)
            assert exact == (None if abs(number) <= 2**53 else number)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimal_texts_round_trip(number: float) -> None:
    """The shortest text of a float gives the float back, with either decimal mark."""
    assert values.from_text("float64")(repr(number))[0] == number
    assert values.from_text("float64", "comma")(repr(number).replace(".", ","))[0] == number


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        *[("bool", word, 1.0) for word in (True, 1, "true", "ON", "Yes", " 1 ")],
        *[("bool", word, 0.0) for word in (False, 0, "false", "off", "NO", "0")],
        ("int16", 5.0, 5.0),
        ("uint8", "255", 255.0),
        ("float64", True, 1.0),
    ],
)
def test_typed_values(type_: str, value: object, expected: float) -> None:
    """A declared type takes what fits it."""
    assert values.from_json(type_)(value) == (expected, None)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("bool", 2),
        ("bool", "running"),
        ("int16", 70000),
        ("int16", 5.5),
        ("uint8", -1),
        ("float64", {}),
        ("string[4]", []),
    ],
)
def test_typed_values_that_do_not_fit_are_refused(type_: str, value: object) -> None:
    """A value outside its declared type is refused, never wrapped or cut."""
    with pytest.raises(ValueError, match=r"."):
        values.from_json(type_)(value)


def test_quality_marks_are_read_as_declared() -> None:
    """Zero is good to OPC UA and bad to classic OPC, so the form decides and nothing is guessed."""
    assert values.quality(0, "opcua") == status.GOOD
    assert values.quality(0, "classic") == status.BAD
    assert values.quality(192, "classic") == status.GOOD
    assert values.quality("BadSensorFailure") == status.BAD_SENSOR_FAILURE
    assert values.quality("Uncertain") == status.UNCERTAIN
    assert values.quality(0) is None
    assert values.quality("stale") is None
