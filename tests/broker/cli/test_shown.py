"""What tables of records and anomalies show, and ids and times that people mistake for others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.config.secrets import unusable
from schemas.tagmap import Tag, TagMap
from tests.broker.api.core import P101, Core, S, batch, bearing_wear, running_core

Fairlead = Callable[..., Any]
MakeSite = Callable[..., Path]
T0 = 1_790_000_000 * S
#: Name, type, unit, value, and what else than a number it is.
ROWS = (
    ("Bool", "bool", "1", 1.0, None),
    ("Count", "uint32", "1", 653447979.0, None),
    ("Scaled", "int16", "bar", 1.25, None),
    ("Temp", "float32", "Cel", 20.0, None),
    ("Server", None, "1", 3.0, None),
    ("Big", "uint64", "1", float("nan"), 2**60),
    ("Word", "string[20]", "1", float("nan"), "running"),
)


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    """A core over an empty store."""
    with running_core(tmp_path) as core:
        yield core


def test_records_are_printed_as_their_type(core: Core, fairlead: Fairlead) -> None:
    """Whole numbers of integers and switches without a point, texts without a unit; JSON is that of the API."""
    tags = tuple(
        Tag(number=i, id=name, path=f"{P101}/{name}", source="pumps", address=name, type=kind, unit=unit)
        for i, (name, kind, unit, _, _) in enumerate(ROWS)
    )
    tag_map = TagMap(site="Acme/Lyon", tags=tags)
    core.write(lambda tx: tx.use_map(tag_map.revision, tag_map))
    exact = {i: row[4] for i, row in enumerate(ROWS) if row[4] is not None}
    numbers, times = list(range(len(ROWS))), [T0] * len(ROWS)
    core.write(lambda tx: tx.records(batch(tag_map, numbers, times, [row[3] for row in ROWS], exact=exact)))
    config = str(core.services.config.path)
    lines = {line.split(f"{P101}/")[1].split()[0]: line.split(f"{P101}/")[1].split()[1:]
             for line in fairlead("records", "-c", config).out.splitlines()[1:]}  # fmt: skip
    assert lines == {
        "Bool": ["1", "good", "Good"],
        "Count": ["653447979", "1", "good", "Good"],
        "Scaled": ["1.25", "bar", "good", "Good"],
        "Temp": ["20.0", "Cel", "good", "Good"],
        "Server": ["3.0", "1", "good", "Good"],
        "Big": [str(2**60), "1", "good", "Good"],
        "Word": ["running", "good", "Good"],
    }
    rows = json.loads(fairlead("records", "-c", config, "-o", "json").out)
    assert rows == core.as_role("consumer").get("/api/v1/records").json()["records"]


def test_the_list_shows_what_audit_show_takes(core: Core, fairlead: Fairlead) -> None:
    """The beginning of an annotation's id; the id of the anomaly is told as such, with its annotations."""
    anomaly, _, note = bearing_wear(core, T0)
    config = str(core.services.config.path)
    shown = fairlead("anomalies", "-c", config).out.splitlines()[1].split()[-1]
    assert note.annotation_id.startswith(shown)
    assert fairlead("audit", "show", shown, "-c", config).out.startswith(f"annotation {note.annotation_id}"[:20])
    said = fairlead("audit", "show", anomaly.anomaly_id, "-c", config)
    assert said.code == 1
    assert f"{anomaly.anomaly_id} is the id of an anomaly, not of an annotation" in said.err
    assert f"{note.annotation_id} (rules)" in said.err
    assert "no annotation has an id that begins with 'x'" in fairlead("audit", "show", "x", "-c", config).err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5m", "'5m' could be minutes or metres; write 5min"),
        ("90", "'90' has no unit"),
        ("5 minutes", "is not one of ms, s, min, h, d"),
        ("yesterday", "neither a time with its offset"),
        ("2026-03-01 08:00", "neither a time with its offset"),
    ],
)
def test_a_duration_in_the_wrong_unit_is_told_as_in_the_configuration(
    fairlead: Fairlead, make_site: MakeSite, text: str, message: str
) -> None:
    """What was meant is known; only what is no duration at all is told both forms."""
    said = fairlead("replay", "--from", text, "-c", str(make_site()))
    assert said.code == 2
    assert message in " ".join(said.err.replace("│", " ").split())


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_secret_that_others_may_read_is_a_warning(fairlead: Fairlead, make_site: MakeSite) -> None:
    """The check says what to do and ends well; a private file is nothing to tell of, whatever it holds."""
    path = make_site()
    path.write_text(path.read_text() + "store: {password: 'file:secret'}\n")
    secret = path.parent / "secret"
    secret.write_bytes(b"\xffkey")
    secret.chmod(0o644)
    said = fairlead("check", "-c", str(path))
    assert said.code == 0
    assert "others may read the file (mode 0644); run chmod 600 [unusable_secret]" in said.out
    secret.chmod(0o600)
    assert "warning" not in fairlead("check", "-c", str(path)).out


def test_a_credential_of_systemd_is_left_to_the_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody but the service sees it; where there are credentials, a missing one is told."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert unusable("cred:db", tmp_path) == ""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert "cannot be read" in unusable("cred:db", tmp_path)
