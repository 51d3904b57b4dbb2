"""Texts that people read are written by code from facts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.annotation import number, phrase, seen, symbol, uncited_digits, with_unit
from schemas.anomaly import Kind
from schemas.evidence import Fact


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (72.0, "72"),
        (0.00123456, "0.001235"),
        (123456.0, "123456"),
        (1234567.0, "1.235e+06"),
        (-2.5, "-2.5"),
    ],
)
def test_numbers_have_four_digits_and_no_exponent_in_the_usual_range(value: float, text: str) -> None:
    """Large and tiny numbers get an exponent, whole thousands do not."""
    assert number(value) == text


@given(st.floats(-1e300, 1e300))
def test_a_number_is_within_a_thousandth(value: float) -> None:
    """Rounding for people never changes what a number says."""
    assert float(number(value)) == pytest.approx(value, rel=1e-3, abs=1e-300)


def test_units_are_shown_as_in_plants() -> None:
    """UCUM inside, plant spelling on pages; an unknown unit stays UCUM."""
    assert with_unit(74.2, "Cel") == "74.2 °C"
    assert with_unit(3.0, "1") == "3"
    assert symbol("m3/h") == "m³/h"
    assert symbol("mm/s") == "mm/s"


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        ({"kind": "deviation", "path": "a/Temp", "unit": "Cel", "direction": "rose", "value": 74.2, "baseline": 47.4},
         "Temp rose to 74.2 °C (before: 47.4 °C)"),
        ({"kind": "deviation", "path": "a/Temp", "direction": "silent"}, "Temp sends no samples"),
        ({"kind": "deviation", "path": "a/Flow", "unit": "m3/h", "direction": "flat", "value": 38.0},
         "Flow does not move from 38 m³/h"),
        ({"kind": "deviation", "path": "a/Temp", "direction": "silent", "detected": "missing"},
         "Temp sends no samples"),
        ({"kind": "deviation", "path": "a/Temp", "detected": "missing"}, "Temp sends only bad values"),
        ({"kind": "deviation", "path": "a/Temp", "direction": "silent", "detected": "late"}, "Temp arrives late"),
        ({"kind": "deviation", "path": "a/Temp", "direction": "silent", "detected": "clock"},
         "Temp carries times that cannot be believed"),
        ({"kind": "deviation", "path": "a/Temp", "direction": "silent", "detected": "stale", "value": 47.0},
         "Temp repeats its device time"),
        ({"kind": "deviation", "path": "a/Flow", "direction": "flat", "detected": "variance", "value": 38.0},
         "Flow is calmer than before"),
        ({"kind": "deviation", "path": "a/Flow", "direction": "jumped", "detected": "variance", "value": 38.0},
         "Flow is noisier than before"),
        ({"kind": "deviation", "path": "a/Flow", "direction": "jumped", "detected": "quantization", "value": 38.0},
         "Flow moves in coarser steps than before"),
        ({"kind": "deviation", "path": "a/Flow", "unit": "m3/h", "direction": "jumped", "detected": "oscillation",
          "value": 39.7, "baseline": 38.0}, "Flow swings, as far as 39.7 m³/h (before: 38 m³/h)"),
        ({"kind": "deviation", "path": "a/Flow", "direction": "jumped", "detected": "stiction", "value": 39.7},
         "Flow swings as behind a sticking valve, as far as 39.7"),
        ({"kind": "deviation", "path": "a/Flow", "direction": "jumped", "detected": "rate", "value": 46.0,
          "baseline": 38.0}, "Flow changed faster than is believable, to 46 (before: 38)"),
        ({"kind": "deviation", "path": "a/Flow", "direction": "jumped", "detected": "spike", "value": 46.0},
         "Flow jumped to 46"),
        ({"kind": "neighbour", "path": "a/Flow"}, "Flow stayed normal"),
        ({"kind": "state", "path": "a/State", "text": "Execute"}, "State was Execute"),
        ({"kind": "setpoint", "path": "a/SP", "unit": "Cel", "baseline": 70.0, "value": 72.0},
         "SP was set from 70 to 72 °C"),
        ({"kind": "gap", "text": "link down"}, "samples of the source are missing (link down)"),
    ],
)  # fmt: skip
def test_each_kind_of_fact_has_its_clause(fact: dict[str, object], text: str) -> None:
    """Tag, value and unit of the clause are the measured ones."""
    assert phrase(Fact.model_validate({"id": "E1", **fact})) == text


def test_digits_are_allowed_in_citations_only() -> None:
    """A number that was not measured cannot hide in a text."""
    assert not uncited_digits("[E1] and [E12] point to wear.")
    assert uncited_digits("[E1] rose to 74")


def test_what_a_member_did_is_said_in_the_words_of_its_facts() -> None:
    """The page's list of what moved has the member alone; a direction that says it needs no words."""
    assert seen(Kind.MISSING, "bad") == "sends only bad values"
    assert seen(Kind.MISSING, "silent") == seen(Kind.MEAN_SHIFT, "rose") == seen(None, "rose") == ""
    assert [seen(Kind.VARIANCE, way) for way in ("flat", "jumped")] == [
        "is calmer than before",
        "is noisier than before",
    ]
