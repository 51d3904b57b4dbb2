"""Commands with right and wrong input: exit codes, both forms of output, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.store import Store, StoreOptions
from tests.waiting import PATIENT_STORE

Fairlead = Callable[..., Any]
MakeSite = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[3]

EVERY = (
    ["run"],
    ["acquire"],
    ["core"],
    ["records"],
    ["anomalies"],
    ["user", "list"],
    ["user", "add", "a.moreau", "--role", "engineer", "--password-stdin"],
    ["db", "upgrade"],
    ["db", "stats"],
    ["journal", "stats"],
    ["journal", "verify"],
    ["journal", "export"],
    ["replay", "--from", "1h"],
    ["config", "show"],
    ["ask", "why did P101 trip"],
    ["audit", "show", "x"],
    ["audit", "replay", "x"],
    ["audit", "verify"],
    ["llm", "export-dataset", "x.jsonl"],
)


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
@pytest.mark.parametrize("content", [None, b"", b"\x00\x01\xff", b"just words", b"a: [", b"version: 1\n"])
def test_no_command_works_with_a_wrong_file(
    fairlead: Fairlead, tmp_path: Path, command: list[str], content: bytes | None
) -> None:
    """Missing, empty, binary and foreign files are exit 78 with a message that names the file."""
    path = tmp_path / "fairlead.yaml"
    if content is not None:
        path.write_bytes(content)
    said = fairlead(*command, "--config", str(path))
    assert said.code == 78
    assert "fairlead.yaml" in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["check", "--bogus"],
        ["check", "--output", "xml"],
        ["records", "--limit", "0"],
        ["records", "--limit", "many"],
        ["anomalies", "--state", "ajar"],
        ["user", "add"],
        ["user", "add", "a.moreau"],
        ["user", "add", "A Moreau", "--role", "engineer"],
        ["user", "add", "a.moreau", "--role", "boss"],
        ["demo", "--port", "0"],
        ["replay"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_2(fairlead: Fairlead, arguments: list[str]) -> None:
    """Unknown commands, options and words."""
    said = fairlead(*arguments)
    assert said.code == 2
    assert said.err


def test_version_in_both_forms(fairlead: Fairlead) -> None:
    """A line for people, an object for programs."""
    assert fairlead("version").out.startswith("fairlead ")
    assert set(json.loads(fairlead("version", "--output", "json").out)) == {"version", "python"}


def test_check_in_json(fairlead: Fairlead, make_site: MakeSite) -> None:
    """A sound site is ok; a wrong one lists its problems with code and place."""
    path = make_site()
    assert json.loads(fairlead("check", "-c", str(path), "-o", "json").out) == {
        "ok": True,
        "sources": 1,
        "tags": 2,
        "problems": [],
    }
    path.write_text(path.read_text(encoding="utf-8") + "log: {levle: info}\n", encoding="utf-8")
    said = fairlead("check", "-c", str(path), "-o", "json")
    report = json.loads(said.out)
    assert said.code == 78
    assert [(item["code"], item["line"], item["column"]) for item in report["problems"]] == [("unknown_key", 7, 7)]


def test_a_wrong_map_leaves_nothing_behind(fairlead: Fairlead, make_site: MakeSite) -> None:
    """Check writes nothing, whatever it finds."""
    path = make_site()
    (path.parent / "maps" / "b.csv").write_text("path\n", encoding="utf-8")
    before = sorted(path.parent.rglob("*"))
    assert fairlead("check", "-c", str(path)).code == 78
    assert sorted(path.parent.rglob("*")) == before


def test_reading_a_store_that_is_not_there(fairlead: Fairlead, make_site: MakeSite) -> None:
    """A reader says so with exit 75, try later, and makes no file."""
    path = make_site()
    for command in (["records"], ["anomalies"], ["db", "stats"], ["user", "list"]):
        said = fairlead(*command, "-c", str(path))
        assert said.code == 75
        assert "there is no store yet" in said.err
    assert not (path.parent / "var" / "store.db").exists()


def test_the_store_from_upgrade_to_stats(fairlead: Fairlead, make_site: MakeSite) -> None:
    """Upgrade makes the store, the readers find it empty."""
    path = make_site()
    assert fairlead("db", "upgrade", "-c", str(path)).code == 0
    assert fairlead("db", "upgrade", "-c", str(path)).code == 0
    assert json.loads(fairlead("db", "stats", "-c", str(path), "-o", "json").out)["records"] == 0
    assert json.loads(fairlead("records", "-c", str(path), "-o", "json").out) == []
    assert json.loads(fairlead("anomalies", "-c", str(path), "-o", "json", "--state", "open").out) == []


def test_a_locked_store_is_exit_75(fairlead: Fairlead, make_site: MakeSite) -> None:
    """While another process writes, the command says to try later; afterwards it works."""
    path = make_site()
    store = Store.open(StoreOptions.model_validate(PATIENT_STORE), path.parent / "var", write=True)
    try:
        said = fairlead("db", "upgrade", "-c", str(path))
        assert said.code == 75
        assert "try again" in said.err
    finally:
        store.close()
    assert fairlead("db", "upgrade", "-c", str(path)).code == 0


def test_the_configuration_may_come_from_the_environment(
    fairlead: Fairlead, make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAIRLEAD_CONFIG names the file; config show says where each value is from."""
    path = make_site()
    monkeypatch.setenv("FAIRLEAD_CONFIG", str(path))
    monkeypatch.setenv("FAIRLEAD_LOG__LEVEL", "debug")
    rows = {row["option"]: row for row in json.loads(fairlead("config", "show", "-o", "json").out)}
    assert rows["log.level"] == {"option": "log.level", "value": "debug", "origin": "FAIRLEAD_LOG__LEVEL"}
    assert rows["site.path"]["origin"] == f"{path}:2"


def test_a_secret_in_the_file_never_reaches_the_output(fairlead: Fairlead, make_site: MakeSite) -> None:
    """Neither text nor JSON of any command repeats it."""
    path = make_site()
    path.write_text(path.read_text(encoding="utf-8") + "store: {password: hunter2}\n", encoding="utf-8")
    for arguments in (["check"], ["check", "-o", "json"], ["config", "show"], ["run"]):
        said = fairlead(*arguments, "-c", str(path))
        assert said.code == 78
        assert "hunter2" not in said.text


@pytest.mark.parametrize("program", [[sys.executable, "-m", "broker"], [str(Path(sys.executable).parent / "fairlead")]])
def test_module_and_script_are_the_same_program(tmp_path: Path, program: list[str]) -> None:
    """Both give the exit code to the shell."""
    if not Path(program[0]).exists():
        pytest.skip("the command fairlead is not installed in this environment")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*program, "check"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (78, "fairlead.yaml: there is no such file [bad_file]\n1 error\n")
    assert done.stderr == ""
