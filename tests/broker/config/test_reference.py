"""Reference page, JSON Schema and effective values."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from broker import tagmap
from broker.config import check_config, load_config, reference

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_current() -> None:
    """docs/configuration.md is what the options classes say; ``fairlead config reference`` writes it."""
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == reference.markdown()


def test_every_option_has_a_description() -> None:
    """An option without a text would be an empty cell of the page."""
    bare = [line for line in reference.markdown().splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert bare == []


def test_the_sample_is_sound() -> None:
    """The worked plant checks without a warning, and templates and CSV are in it."""
    checked = check_config(ROOT / "docs" / "examples" / "fairlead.yaml", {})
    assert checked.problems == []
    assert checked.draft is not None
    found, problems = tagmap.load_with_problems(checked.draft)
    assert problems == []
    assert found is not None
    assert len(found.tags) == 14


def test_the_schema_accepts_the_sample_and_refuses_a_wrong_key() -> None:
    """The JSON Schema is valid itself and judges like the loader."""
    schema = reference.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    sample = yaml.safe_load((ROOT / "docs" / "examples" / "fairlead.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(sample, schema)
    sample["journal"]["max_sise"] = "1GiB"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(sample, schema)


def test_every_value_has_its_origin(write_config: Callable[..., Path]) -> None:
    """File and line, variable or default; a secret is shown as its reference."""
    path = write_config(
        "version: 1\nsite: {path: Acme/Lyon}\nsources:\n  p: {kind: modbus, host: h}\n"
        "store: {password: 'env:DB'}\njournal:\n  keep: 90min\n"
    )
    shown = {
        name: (value, origin)
        for name, value, origin in reference.effective(check_config(path, {"FAIRLEAD_LOG__LEVEL": "debug"}))
    }
    assert shown["journal.keep"] == ("90min", f"{path}:7")
    assert shown["log.level"] == ("debug", "FAIRLEAD_LOG__LEVEL")
    assert shown["journal.max_size"] == ("20GiB", "default")
    assert shown["store.password"] == ("env:DB", f"{path}:5")
    assert shown["sources.p.max_gap"] == ("8", "default")


def test_the_smallest_site_of_the_reference_runs(tmp_path: Path) -> None:
    """The two files that the reference shows first are without an error."""
    site, tag_map = re.findall(r"```yaml\n(.*?)```", reference.markdown(), re.DOTALL)[:2]
    (tmp_path / "fairlead.yaml").write_text(site, "utf-8")
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "pump.yaml").write_text(tag_map, "utf-8")

    assert [tag.path for tag in tagmap.load(load_config(tmp_path / "fairlead.yaml", {})).tags] == [
        "Acme/Lyon/Utilities/P101/Pressure"
    ]
