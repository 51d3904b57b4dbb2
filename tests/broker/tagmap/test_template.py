"""Placeholders of templates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.tagmap.template import evaluate, fill

NUMBERS = st.integers(0, 10**9)


@given(
    st.lists(st.tuples(st.sampled_from(["+", "-", "*"]), NUMBERS | st.sampled_from(["a", "b"])), max_size=6),
    NUMBERS,
    NUMBERS,
    NUMBERS,
)
def test_arithmetic_is_that_of_python(rest: list[tuple[str, int | str]], first: int, a: int, b: int) -> None:
    """Products bind stronger, differences go from left to right."""
    text = str(first) + "".join(f" {sign} {value}" for sign, value in rest)
    values = {"a": a, "b": b}
    expected = eval(text, {"__builtins__": {}}, values)
    assert evaluate(text, values) == expected


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("HR{base}", "HR7"),
        ("HR{base+1}.{ base * 2 }", "HR8.14"),
        ("{{base}}", "{base}"),
        ("{unit}!4", "x!4"),
        ("no place", "no place"),
    ],
)
def test_places_are_filled(text: str, filled: str) -> None:
    """Names, sums and doubled braces."""
    assert fill(text, {"base": 7, "unit": "x"}) == filled


def test_ucum_braces_stay_in_units() -> None:
    """{pcs} is a unit unless the template has such a parameter."""
    assert fill("{pcs}/h", {"base": 7}, unit="unit") == "{pcs}/h"
    assert fill("{pcs}/h", {"pcs": "kg"}, unit="unit") == "kg/h"


@pytest.mark.parametrize(
    "text",
    [
        "{bas}",
        "{base/2}",
        "{base+}",
        "{+1}",
        "{1 2}",
        "{}",
        "{base**2}",
        "{unit+1}",
        "{flag+1}",
        "{base.real}",
        "{f(1)}",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """Unknown names, other operators, calls and attributes are errors, never evaluated."""
    with pytest.raises(ValueError, match=r"parameter|integer"):
        fill(text, {"base": 7, "unit": "x", "flag": 1.5})
