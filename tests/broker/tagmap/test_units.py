"""Units: spellings, factors and offsets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.tagmap import units

#: Factors and offsets from SI brochure, NIST SP 811 and EN ISO 80000, not from the library under test.
KNOWN = [
    ("kW", "W", 1000.0, 0.0),
    ("m3/h", "L/min", 1000 / 60, 0.0),
    ("degF", "degC", 5 / 9, -160 / 9),
    ("degC", "K", 1.0, 273.15),
    ("bar", "kPa", 100.0, 0.0),
    ("barg", "mbarg", 1000.0, 0.0),
    ("psi", "bar", 0.0689475729, 0.0),
    ("rpm", "Hz", 1 / 60, 0.0),
    ("%", "1", 0.01, 0.0),
    ("kWh", "MJ", 3.6, 0.0),
    ("cfm", "m3/h", 1.69901082, 0.0),
    ("gpm", "L/min", 3.785411784, 0.0),
    ("[cin_i]", "mL", 16.387064, 0.0),
    ("hp", "W", 745.699872, 0.0),
    ("mmHg", "Pa", 133.322387, 0.0),
    ("inH2O", "Pa", 248.84, 0.0),
    ("Btu", "J", 1055.056, 0.0),
    ("pcs/h", "pcs/min", 1 / 60, 0.0),
    ("ppm", "%", 1e-4, 0.0),
    ("degC/min", "K/s", 1 / 60, 0.0),
    ("lb", "kg", 0.45359237, 0.0),
    ("in", "mm", 25.4, 0.0),
]


@pytest.mark.parametrize(("source", "target", "factor", "offset"), KNOWN, ids=[f"{a}->{b}" for a, b, _, _ in KNOWN])
def test_conversions_agree_with_the_tables(source: str, target: str, factor: float, offset: float) -> None:
    """One factor and offset per pair, temperatures with their offset."""
    found = units.conversion(units.canonical(source), units.canonical(target))
    assert found == pytest.approx((factor, offset), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("source", "target", "factor", "offset"), KNOWN, ids=[f"{a}->{b}" for a, b, _, _ in KNOWN])
def test_the_way_back_is_the_inverse(source: str, target: str, factor: float, offset: float) -> None:
    """Converted there and back a value is the same."""
    there = units.conversion(units.canonical(source), units.canonical(target))
    back = units.conversion(units.canonical(target), units.canonical(source))
    assert there[0] * back[0] == pytest.approx(1)
    assert (20.0 * there[0] + there[1]) * back[0] + back[1] == pytest.approx(20.0)
    assert (factor, offset) != (0, 0)


@pytest.mark.parametrize("spelling", sorted(units.ALIASES))
def test_every_alias_is_a_unit_that_stays_itself(spelling: str) -> None:
    """The canonical form of each plant spelling is UCUM and its own canonical form."""
    code = units.canonical(spelling)
    assert units.canonical(code) == code
    assert code.isascii()


@pytest.mark.parametrize(
    ("source", "target"),
    [("kW", "kWh"), ("bar", "barg"), ("m3/h", "Nm3/h"), ("pH", "1"), ("degC", "kW"), ("dB", "1"), ("kW", "kvar")],
)
def test_different_quantities_are_not_converted(source: str, target: str) -> None:
    """Dimension, reference (gauge, normal volume) and linearity must agree."""
    with pytest.raises(units.WrongDimension):
        units.conversion(units.canonical(source), units.canonical(target))


@pytest.mark.parametrize("text", ["furlong", "kWh/", "bar bar", "(", "°", "C°"])
def test_unknown_spellings(text: str) -> None:
    """What is neither UCUM nor an alias is refused; ° alone is an angle."""
    if text == "°":
        assert units.canonical(text) == "deg"
        return
    with pytest.raises(units.UnknownUnit):
        units.canonical(text)


@given(st.text(max_size=20))
def test_any_text_is_a_unit_or_unknown(text: str) -> None:
    """No spelling raises anything but UnknownUnit."""
    try:
        code = units.canonical(text)
    except units.UnknownUnit:
        return
    assert units.conversion(code, code) == (1.0, 0.0)
