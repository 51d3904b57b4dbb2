"""YAML with places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from broker.config.yaml_lines import MAX_NODES, Misread, parse_yaml, read_yaml

#: A text such as 1e3 is a number in YAML 1.2 and here, and PyYAML, a writer of YAML 1.1, does not quote it.
TEXT = st.text().filter(lambda text: not re.fullmatch(r"[-+]?[0-9.]+[eE][-+]?[0-9]+", text))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=20
)


@given(st.dictionaries(TEXT.filter(bool), VALUES, min_size=1))
def test_what_yaml_writes_is_read_back(value: dict[str, Any]) -> None:
    """Every value that a YAML writer quotes where it must comes back as it was."""
    node, problems = parse_yaml(yaml.safe_dump(value), "x")
    assert problems == []
    assert node is not None
    assert node.plain() == value


@given(st.binary(max_size=400))
def test_any_bytes_give_a_tree_or_problems(raw: bytes) -> None:
    """No file content makes the reader raise, and a file without a tree has a problem."""
    node, problems = parse_yaml(raw.decode("latin-1"), "x")
    assert node is not None or problems


@pytest.mark.parametrize(
    ("text", "reading"),
    [("00001", "a number"), ("12:30", "a number"), ("yes", "a switch"), ("Off", "a switch"), ("2024-01-01", "a date")],
)
def test_misread_scalars_are_no_plain_values(text: str, reading: str) -> None:
    """What YAML 1.1 would take for something else is marked, and quoted it is a text."""
    node, _ = parse_yaml(f'plain: {text}\nquoted: "{text}"\n', "x")
    assert node is not None
    assert node.plain() == {"plain": Misread(text, reading), "quoted": text}


def test_places_are_lines_and_columns_of_the_file() -> None:
    """Every value knows where it begins, lists included."""
    node, _ = parse_yaml("a:\n  b: [1, two]\n", "x")
    assert node is not None
    found = node.at(("a", "b", 1))
    assert (found.line, found.column, found.value) == (2, 10, "two")


def test_a_duplicate_key_is_a_problem_and_the_first_value_stays() -> None:
    """PyYAML alone would take the last one in silence."""
    node, problems = parse_yaml("a: 1\nb: 2\na: 3\n", "x")
    assert node is not None
    assert node.plain() == {"a": 1, "b": 2}
    assert [(p.code, p.line, p.column) for p in problems] == [("duplicate_key", 3, 1)]


def test_aliases_of_aliases_are_refused() -> None:
    """A few lines that would grow to billions of values end with a problem."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 12)]
    node, problems = parse_yaml("\n".join(lines), "x")
    assert node is None
    assert str(MAX_NODES) in problems[0].message


def test_an_alias_of_itself_is_refused() -> None:
    """A cycle ends with a problem."""
    node, problems = parse_yaml("a: &a [*a]\n", "x")
    assert node is not None
    assert [p.code for p in problems] == ["bad_yaml"]


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, "a: " + "{b: " * 100_000, "- " * 100_000, "? " * 100_000])
def test_nesting_that_would_end_the_process_is_refused(text: str) -> None:
    """The C composer recurses; such a text never reaches it."""
    node, problems = parse_yaml(text, "x")
    assert node is None
    assert [p.message for p in problems] == ["is nested too deeply"]


def test_python_tags_are_not_executed() -> None:
    """A tag that names a Python object is no value."""
    node, _ = parse_yaml("a: !!python/name:os.system\n", "x")
    assert node is None or isinstance(node.items["a"].value, Misread | str)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x01\x02", "is not a text file"),
        (b"a: \xff\xfe\n", "is not UTF-8"),
        (b"", "is empty"),
        (b"# x\n", "is empty"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes, message: str) -> None:
    """Binary, foreign encodings and empty files are named as such."""
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    node, problems = read_yaml(path, "f.yaml")
    assert node is None
    assert [p.message for p in problems] == [message]
    assert problems[0].code == "bad_file"
