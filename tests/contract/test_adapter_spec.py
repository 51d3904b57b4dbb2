"""docs/adapter-spec.md and the tests name each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_RULE = re.compile(
    r"^- \*\*(A[0-9]+)\*\* ([^`]*?(?:MUST NOT|MUST|SHOULD).*?)(?=^- \*\*A|^#|\Z)", re.MULTILINE | re.DOTALL
)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
RULES: dict[str, str] = dict(_RULE.findall((ROOT / "docs/adapter-spec.md").read_text(encoding="utf-8")))


def _tests_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node.name for node in functions if node.name.startswith("test_")}


def test_rules_are_numbered_without_holes() -> None:
    """The rules are A1 to An, so that reviews can cite them."""
    assert list(RULES) == [f"A{n}" for n in range(1, len(RULES) + 1)]
    assert len(RULES) >= 12


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_names_a_test_that_exists(rule: str) -> None:
    """A rule without a test, or whose test was renamed, fails."""
    named = _TEST.findall(RULES[rule])
    assert named
    for file, test in named:
        assert test in _tests_in(ROOT / file), f"{rule}: {file} has no {test}"


def test_each_contract_test_is_named_by_a_rule() -> None:
    """A contract test that no rule names would be a rule nobody can read."""
    named = {test for text in RULES.values() for _, test in _TEST.findall(text)}
    assert _tests_in(ROOT / "tests/contract/test_adapter_contract.py") <= named
