"""Rules of suppression and the calendar: from the map file to the stream, and every mistake with its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest

from broker import tagmap
from broker.config import Config
from schemas.anomaly import Kind
from schemas.errors import ConfigError
from schemas.tagmap import TagMap

Site = Callable[..., Config]
P = "Acme/Lyon/P101"
MAP = """\
version: 1
defaults: {source: plc1, type: uint16, unit: "1"}
enums: {states: {1: Standby, 2: Running}}
tags:
  - {path: Acme/Lyon/P101/State, address: "40001", role: state, enum: states}
  - {path: Acme/Lyon/P101/Flow, address: "40002"}
  - {path: Acme/Lyon/P101/PressureIn, address: "40003"}
  - {path: Acme/Lyon/P101/PressureOut, address: "40004"}
"""


def equipment(rule: str) -> str:
    return f"{MAP}equipment:\n  - path: {P}\n    suppress:\n      - {{{rule}}}\n"


def test_rules_and_windows_become_part_of_the_map(site: Site) -> None:
    """Texts of an enum become numbers, names become paths, times become minutes; the revision is another."""
    text = equipment(
        f'when: {P}/State, in: [Standby, 7], tags: [Flow, "Pressure*"], kinds: [flatline], reason: standby'
    )
    text += (
        "calendar:\n"
        '  - {name: night, kind: shift, days: [mon, sun], from: "22:00", to: "06:00", timezone: Europe/Paris}\n'
        f'  - {{name: cleaning, kind: maintenance, equipment: [{P}], from: "00:00", to: "00:00", every: 2, '
        'first: "2026-01-07", without: ["2026-12-25"]}\n'
    )
    found = tagmap.load(site(a__yaml=text))

    (rule,) = found.equipment[0].suppress
    assert (rule.when, rule.values, rule.kinds, rule.reason) == (f"{P}/State", (1.0, 7.0), (Kind.FLATLINE,), "standby")
    assert rule.tags == (f"{P}/Flow", f"{P}/PressureIn", f"{P}/PressureOut")
    cleaning, night = found.calendar
    assert (night.days, night.start_min, night.minutes, night.timezone) == ((0, 6), 22 * 60, 480, "Europe/Paris")
    assert (cleaning.minutes, cleaning.every, cleaning.first, cleaning.timezone) == (1440, 2, date(2026, 1, 7), "UTC")
    assert TagMap.from_body(found.body) == found
    assert tagmap.load(site(a__yaml=MAP)).revision != found.revision


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (equipment(f"when: {P}/Stat, in: [1]"), "there is no tag Acme/Lyon/P101/Stat (did you mean"),
        (equipment(f"when: {P}/State, in: [Stndby]"), "'Stndby' is not in the enum of Acme/Lyon/P101/State"),
        (equipment(f"when: {P}/State"), "a rule needs in, above or below"),
        (equipment(f"when: {P}/State, in: [1], tags: [Flw]"), "Acme/Lyon/P101 has no tag Flw"),
        (equipment(f"when: {P}/State, in: [1], kinds: [flat]"), "kinds"),
        (MAP + 'calendar: [{name: a, kind: "off", from: 22:00, to: "06:00"}]', 'write "22:00"'),
        (MAP + 'calendar: [{name: a, kind: "off", from: "25:00", to: "06:00"}]', "calendar[0].from"),
        (MAP + 'calendar: [{name: a, kind: off, from: "22:00", to: "06:00"}]', 'write "off"'),
        (MAP + 'calendar: [{name: a, kind: shift, from: "22:00", to: "06:00", timezone: Paris}]', "IANA time zone"),
        (MAP + 'calendar: [{name: a, kind: shift, from: "22:00", to: "06:00", days: [monday]}]', "days"),
        (MAP + 'calendar: [{name: a, kind: shift, from: "22:00", to: "06:00", every: 2}]', "every needs first"),
        (
            MAP + 'calendar: [{name: a, kind: shift, from: "22:00", to: "06:00", equipment: [Acme/Lyn]}]',
            "no tag belongs to Acme/Lyn (did you mean",
        ),
        (
            MAP + 'calendar: [{name: a, kind: shift, from: "22:00", to: "06:00", first: "2026-02-30"}]',
            "calendar[0].first",
        ),
        (
            MAP
            + 'calendar: [{name: a, kind: shift, from: "22:00", to: "06:00", first: "2026-02-02", last: "2026-02-01"}]',
            "the last day is before the first",
        ),
        (
            MAP + "calendar:\n" + '  - {name: a, kind: shift, from: "22:00", to: "06:00"}\n' * 2,
            "the calendar has this name twice",
        ),
        (MAP + "calendar: {name: a}", "calendar: must be a list"),
        (MAP + "calendar: [night]", "calendar[0]: must be a map of options"),
    ],
)
def test_mistakes_are_named_with_their_place(site: Site, text: str, said: str) -> None:
    """File, line and column, what is wrong, and where it can be known what was meant."""
    with pytest.raises(ConfigError) as raised:
        tagmap.load(site(a__yaml=text))
    assert said in str(raised.value)
    assert "a.yaml:" in str(raised.value)
