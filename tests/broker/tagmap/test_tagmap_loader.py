"""From files to the resolved map."""

from __future__ import annotations

import csv
import io
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker import tagmap
from broker.config import Config
from broker.tagmap.csv_map import BASE, read_csv
from schemas.errors import ConfigError
from schemas.tagmap import Tag, TagMap

Site = Callable[..., Config]
Load = Callable[..., TagMap]
LoadOne = Callable[[str], Tag]


def tag_of(found: TagMap) -> Tag:
    """The only tag of a map."""
    (tag,) = found.tags
    return tag


def test_a_scale_by_ends_becomes_factor_and_offset(load_one: LoadOne) -> None:
    """Both ends, raw and eu, give a straight line; clamp takes the ends of eu."""
    tag = load_one("type: uint16, unit: bar, scale: {raw: [2000, 10000], eu: [-1, 9], clamp: both}")
    assert 2000 * tag.factor + tag.offset == pytest.approx(-1)
    assert 10000 * tag.factor + tag.offset == pytest.approx(9)
    assert (tag.clamp, tag.clamp_low, tag.clamp_high) == ("both", -1.0, 9.0)


def test_scale_and_unit_conversion_are_one_step(load_one: LoadOne) -> None:
    """Tenths of a degree Fahrenheit become degrees Celsius by one factor and one offset."""
    tag = load_one("type: int16, scale: {factor: 0.1}, source_unit: degF, unit: °C")
    assert (tag.unit, tag.source_unit) == ("Cel", "[degF]")
    assert 2120 * tag.factor + tag.offset == pytest.approx(100)
    assert 320 * tag.factor + tag.offset == pytest.approx(0)


def test_a_falling_scale_keeps_the_order_of_the_clamp(load_one: LoadOne) -> None:
    """The engineering value may fall while raw rises; the clamp is still low to high."""
    tag = load_one("type: uint16, unit: m, scale: {raw: [0, 100], eu: [5, 1], clamp: both}")
    assert (tag.clamp_low, tag.clamp_high) == (1.0, 5.0)


def test_a_square_root_is_of_the_share_of_the_raw_span(load_one: LoadOne) -> None:
    """A quarter of the differential pressure is half of the flow."""
    tag = load_one("type: uint16, unit: m3/h, scale: {mode: sqrt, raw: [0, 4000], eu: [0, 80]}")
    share = (1000 - tag.raw_low) / (tag.raw_high - tag.raw_low)
    assert math.sqrt(share) * tag.factor + tag.offset == pytest.approx(40)


@pytest.mark.parametrize(
    ("option", "expected"),
    [("0.5", 0.5), ('"0.5"', 0.5), ("2%", 0.2), ("0", 0.0)],
)
def test_a_deadband_is_absolute_or_a_share_of_the_range(load_one: LoadOne, option: str, expected: float) -> None:
    """Two per cent of 0..10 bar are 0.2 bar."""
    found = load_one(f"type: uint16, unit: bar, range: [0, 10], deadband: {option}")
    assert found.deadband == pytest.approx(expected)


@pytest.mark.parametrize(
    ("source", "option", "expected"),
    [
        ("plc1", "", 1500),
        ("plc1", ", scan: 2s", 6000),
        ("plc1", ", stale_after: 4x", 2000),
        ("plc1", ", stale_after: 1min", 60000),
        ("plc1", ", stale_after: never", None),
        ("ua", "", None),
        ("ua", ", stale_after: 3x", 3000),
    ],
)
def test_stale_after_follows_the_scan_where_the_source_polls(
    site: Site, source: str, option: str, expected: int | None
) -> None:
    """A source that reports changes may be silent, unless the map says otherwise."""
    address = "40001" if source == "plc1" else "nsu=urn:x;s=a"
    options = f"source: {source}, address: '{address}', type: uint16, unit: bar{option}"
    text = f"version: 1\ntags:\n  - {{path: Acme/Lyon/A/P, {options}}}\n"
    assert tag_of(tagmap.load(site(tags__yaml=text))).stale_after_ms == expected


def test_tags_are_numbered_by_path_and_ids_are_stable(site: Site) -> None:
    """The order of lines and files does not matter: equal content has an equal revision."""
    lines = [
        f"  - {{path: Acme/Lyon/A/T{i}, source: plc1, address: '{40001 + i}', type: uint16, unit: bar}}\n"
        for i in range(4)
    ]
    one = tagmap.load(site(a__yaml="version: 1\ntags:\n" + "".join(lines)))
    two = tagmap.load(
        site(
            z__yaml="version: 1\ntags:\n" + "".join(lines[:2][::-1]), b__yaml="version: 1\ntags:\n" + "".join(lines[2:])
        )
    )
    assert [tag.number for tag in one.tags] == [0, 1, 2, 3]
    assert [tag.path[-2:] for tag in one.tags] == ["T0", "T1", "T2", "T3"]
    assert one.revision == two.revision
    assert one.tags[0].id == "t-3742aeab599e"


def test_a_tag_belongs_to_the_nearest_equipment_above(load_tags: Load) -> None:
    """The longest equipment path that is a prefix, by whole words; else the parent path."""
    head = "equipment:\n  - {path: Acme/Lyon/A}\n  - {path: Acme/Lyon/A/M1, class: mixer, hold_off: 30s}\n"
    found = load_tags(
        "  - {path: Acme/Lyon/A/M1/Motor/Speed, address: '40001', type: uint16, unit: rpm}\n"
        "  - {path: Acme/Lyon/A/M10/Speed, address: '40002', type: uint16, unit: rpm}\n"
        "  - {path: Acme/Lyon/B/Speed, address: '40003', type: uint16, unit: rpm}\n",
        head,
    )
    owners = {tag.path: tag.equipment for tag in found.tags}
    assert owners == {
        "Acme/Lyon/A/M1/Motor/Speed": "Acme/Lyon/A/M1",
        "Acme/Lyon/A/M10/Speed": "Acme/Lyon/A",
        "Acme/Lyon/B/Speed": "Acme/Lyon/B",
    }
    assert found.equipment_by_path["Acme/Lyon/A/M1"].hold_off_s == 30.0


def test_running_states_may_be_written_as_texts(load_tags: Load) -> None:
    """A text of the state tag's enum becomes its number."""
    head = (
        "enums:\n  packml: {4: Idle, 6: Execute}\n"
        "equipment:\n  - {path: Acme/Lyon/A, state: Acme/Lyon/A/S, running: [Execute, 4]}\n"
    )
    found = load_tags("  - {path: Acme/Lyon/A/S, address: '40001', type: uint16, enum: packml, role: state}\n", head)
    assert found.equipment[0].running == (6, 4)
    assert tag_of(found).enum == {4: "Idle", 6: "Execute"}


def test_a_loop_is_named_on_its_tags(load_tags: Load) -> None:
    """Two loops of one piece of equipment are told apart by their names."""
    rows = [("P1", "pv", "a"), ("S1", "sp", "a"), ("V1", "out", "a"), ("P2", "pv", "b"), ("S2", "sp", "b")]
    plain = "type: uint16, unit: '1'"
    found = load_tags(
        "".join(
            f"  - {{path: Acme/Lyon/A/{name}, address: '4000{i}', {plain}, role: {role}, loop: {loop}}}\n"
            for i, (name, role, loop) in enumerate(rows, 1)
        )
    )
    assert {(tag.name, tag.role, tag.loop) for tag in found.tags} == set(rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("P1", "pv")], "has no tag of role sp"),
        ([("P1", "pv"), ("P2", "pv"), ("S", "sp")], "is the pv of the loop a already"),
        ([("P1", "pv"), ("S", "sp"), ("N", "lot")], "needs the role pv, sp or out"),
    ],
)
def test_a_loop_that_is_not_whole_is_refused(load_tags: Load, rows: list[tuple[str, str]], message: str) -> None:
    """A named loop has one process value and one set point, and nothing else but an output."""
    lines = "".join(
        f"  - {{path: Acme/Lyon/A/{name}, address: '4000{i}', type: uint16, unit: '1', role: {role}, loop: a}}\n"
        for i, (name, role) in enumerate(rows, 1)
    )
    with pytest.raises(ConfigError) as caught:
        load_tags(lines)
    (problem,) = caught.value.problems
    assert problem.code == "bad_loop"
    assert message in problem.message


def test_a_template_is_what_would_be_written_out(site: Site) -> None:
    """Expanded tags equal the same tags written by hand, overrides of the use included."""
    template = """\
version: 1
defaults: {source: plc1}
templates:
  pump:
    params: [base, max]
    tags:
      - {name: P, address: "HR{base}", type: uint16, unit: bar, range: [0, "{max}"]}
      - {name: Count, address: "HR{base+2*10}", type: uint32, unit: "{pcs}"}
tags:
  - {use: pump, at: Acme/Lyon/A/P1, with: {base: 100, max: 16}, scan: 2s}
"""
    flat = """\
version: 1
tags:
  - {path: Acme/Lyon/A/P1/P, source: plc1, address: HR100, type: uint16, unit: bar, range: [0, 16], scan: 2s}
  - {path: Acme/Lyon/A/P1/Count, source: plc1, address: HR120, type: uint32, unit: pcs, scan: 2s}
"""
    assert tagmap.load(site(a__yaml=template)) == tagmap.load(site(a__yaml=flat))


YAML_ROWS = """\
version: 1
enums:
  packml: {0: Stopped, 6: Execute}
tags:
  - {id: t-1, path: Acme/Lyon/A/State, source: plc1, address: "40001", type: uint16, role: state, enum: packml}
  - id: t-2
    path: Acme/Lyon/A/P
    source: plc1
    address: "40002"
    type: uint16
    scan: 250ms
    unit: bar
    range: [0, 16]
    deadband: 1%
    description: Druck, Pumpe
    scale: {mode: linear, raw: [0, 27648], eu: [0, 10], clamp: high}
    sentinels: [-1, 65535]
  - path: Acme/Lyon/A/W
    source: plc1
    address: "40003"
    type: int32
    byte_order: ABCD
    unit: kW
    source_unit: W
    scale: {factor: 0.5, offset: 3}
    stale_after: 10s
    detect: health
"""
CSV_ENUMS = "version: 1\nenums:\n  packml: {0: Stopped, 6: Execute}\n"
COLUMNS = [*BASE, "factor", "offset", "source_unit", "stale_after", "byte_order", "sentinels", "detect"]
CSV_ROWS = [
    {
        "id": "t-1",
        "path": "Acme/Lyon/A/State",
        "source": "plc1",
        "address": "40001",
        "type": "uint16",
        "access": "RO",
        "scale_mode": "none",
        "role": "state",
        "enum": "packml",
        "enabled": "true",
    },
    {
        "id": "t-2",
        "path": "Acme/Lyon/A/P",
        "source": "plc1",
        "address": "40002",
        "type": "uint16",
        "scan_ms": "250",
        "unit": "bar",
        "range_low": "0",
        "range_high": "16",
        "deadband": "1%",
        "description": "Druck, Pumpe",
        "scale_mode": "linear",
        "raw_low": "0",
        "raw_high": "27648",
        "eu_low": "0",
        "eu_high": "10",
        "clamp": "high",
        "sentinels": "-1 65535",
    },
    {
        "path": "Acme/Lyon/A/W",
        "source": "plc1",
        "address": "40003",
        "type": "int32",
        "byte_order": "ABCD",
        "unit": "kW",
        "source_unit": "W",
        "factor": "0.5",
        "offset": "3",
        "stale_after": "10s",
        "detect": "health",
    },
    {"path": "Acme/Lyon/A/Off", "source": "plc1", "address": "40009", "type": "int16", "unit": "1", "enabled": "FALSE"},
]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_and_yaml_give_the_same_map(site: Site, delimiter: str, mark: str) -> None:
    """Column order, delimiter, byte order mark and disabled rows make no difference."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS[::-1], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(CSV_ROWS)
    by_csv = tagmap.load(site(rows__csv=mark + text.getvalue(), enums__yaml=CSV_ENUMS))
    by_yaml = tagmap.load(site(rows__yaml=YAML_ROWS))
    assert by_csv == by_yaml
    assert by_csv.revision == by_yaml.revision


def test_csv_names_two_loops_of_one_equipment(site: Site) -> None:
    """The column ``loop`` keeps set points and process values of two loops apart, and is checked like the option."""
    header = "path,source,address,type,unit,role,loop\n"
    rows = [
        f"Acme/Lyon/A/{loop}{role},plc1,4000{n},float32,1,{role},{loop}"
        for n, (loop, role) in enumerate(itertools.product(("temp", "level"), ("pv", "sp")), 1)
    ]
    loaded = tagmap.load(site(rows__csv=header + "\n".join(rows) + "\n"))
    assert {tag.name: (tag.role, tag.loop) for tag in loaded.tags} == {
        "temppv": ("pv", "temp"),
        "tempsp": ("sp", "temp"),
        "levelpv": ("pv", "level"),
        "levelsp": ("sp", "level"),
    }
    with pytest.raises(ConfigError, match="the loop level has no tag of role sp"):
        tagmap.load(site(rows__csv=header + "\n".join(rows[:3]) + "\n"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=300))
def test_any_text_as_csv_gives_rows_or_problems(tmp_path: Path, text: str) -> None:
    """No CSV content raises."""
    path = tmp_path / "x.csv"
    path.write_text("path,source,address\n" + text, encoding="utf-8", newline="")
    rows, problems = read_csv(path, "x.csv")
    assert all("address" in row.items or "path" in row.items or "source" in row.items for row in rows)
    assert all(problem.file == "x.csv" for problem in problems)


def test_lines_of_a_csv_count_line_breaks_in_cells(site: Site) -> None:
    """The row number is the line of the file, also after a cell with line breaks."""
    text = (
        "path,source,address,type,unit,description\n"
        'Acme/Lyon/A/B,plc1,40001,uint16,bar,"two\nlines"\n'
        "Acme/Lyon/A/C,plc9,40002,uint16,bar,x\n"
    )
    _, problems = tagmap.load_with_problems(site(rows__csv=text))
    assert [(p.code, p.line, p.column) for p in problems] == [("unknown_source", 3 + 1, 2)]


def test_one_wrong_default_is_one_problem(site: Site) -> None:
    """What all tags share is said once, with the number of tags."""
    lines = "".join(f"  - {{path: Acme/Lyon/A/T{i}, address: '{40001 + i}', type: uint16}}\n" for i in range(50))
    _, problems = tagmap.load_with_problems(
        site(a__yaml="version: 1\ndefaults: {source: plc1, unit: furlong}\ntags:\n" + lines)
    )
    assert [p.code for p in problems] == ["unknown_unit"]
    assert "49 more tags" in problems[0].hint


def test_tags_of_a_broken_source_are_not_called_unknown(site: Site) -> None:
    """The source has its own problem; its tags are checked as far as they can be."""
    text = "version: 1\ntags:\n  - {path: Acme/Lyon/A/T, source: plc7, address: '40001', type: uint16, unit: furlong}\n"
    found, problems = tagmap.load_with_problems(site(a__yaml=text), frozenset({"plc7"}))
    assert found is None
    assert [p.code for p in problems if not p.warning] == ["unknown_unit"]


def test_load_raises_errors_and_not_warnings(site: Site) -> None:
    """ConfigError carries what blocks."""
    with pytest.raises(ConfigError) as error:
        tagmap.load(site(a__yaml="version: 1\ntags:\n  - {path: Acme/Lyon/A/T}\n"))
    assert {p.code for p in error.value.problems} == {"missing_key"}


def test_five_thousand_tags_load_in_time(site: Site) -> None:
    """A large map resolves completely; the bound is generous, a quadratic step would break it."""
    lines = "".join(
        f"  - {{path: Acme/Lyon/A/U{i // 100}/T{i}, source: plc1, address: '{400001 + i}', type: uint16, unit: degC, "
        f"source_unit: degF, range: [0, 100], deadband: 1%, scale: {{raw: [0, 27648], eu: [0, {i + 1}]}}}}\n"
        for i in range(5000)
    )
    config = site(a__yaml="version: 1\ntags:\n" + lines)
    began = time.process_time()
    found = tagmap.load(config)
    assert len(found.tags) == 5000
    assert time.process_time() - began < 30
