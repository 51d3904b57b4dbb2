"""People who may sign in: with the store's lock, and through a running core."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import argon2
import pytest

from broker.store import Store, StoreOptions
from broker.store.lock import WriterLock
from tests.waiting import PATIENT_STORE

Fairlead = Callable[..., Any]
MakeSite = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "correct horse battery"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give a text to the next command on standard input."""

    def give(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    return give


def test_a_person_is_stored_with_an_argon2id_hash(
    fairlead: Fairlead, make_site: MakeSite, typed: Callable[[str], None]
) -> None:
    """Without a core the command takes the lock; the password is nowhere, its hash verifies."""
    path = make_site()
    typed(PASSWORD + "\n")
    said = fairlead(
        "user", "add", "a.moreau", "--role", "engineer", "--role", "auditor", "--password-stdin", "-c", str(path)
    )
    assert said.code == 0
    assert PASSWORD not in said.text
    rows = json.loads(fairlead("user", "list", "-c", str(path), "-o", "json").out)
    assert rows == [{"name": "a.moreau", "roles": ["engineer", "auditor"], "disabled": False}]
    store = Store.open(StoreOptions.model_validate(PATIENT_STORE), path.parent / "var", write=False)
    try:
        user = store.reader().user("a.moreau")
    finally:
        store.close()
    assert user is not None
    assert user.password_hash.startswith("$argon2id$")
    assert argon2.PasswordHasher().verify(user.password_hash, PASSWORD)


def test_a_short_password_is_refused(fairlead: Fairlead, make_site: MakeSite, typed: Callable[[str], None]) -> None:
    """The reason is said, nothing is stored."""
    path = make_site()
    typed("short\n")
    said = fairlead("user", "add", "a.moreau", "--role", "engineer", "--password-stdin", "-c", str(path))
    assert said.code == 1
    assert "characters" in said.err
    assert not (path.parent / "var" / "store.db").exists()


def test_no_terminal_and_no_stdin_option(fairlead: Fairlead, make_site: MakeSite, typed: Callable[[str], None]) -> None:
    """A script is told about --password-stdin instead of hanging."""
    typed("")
    said = fairlead("user", "add", "a.moreau", "--role", "engineer", "-c", str(make_site()))
    assert said.code == 2
    assert "--password-stdin" in said.err


@pytest.fixture
def core(make_site: MakeSite, free_port: Callable[[], int], eventually_sync: Callable[..., None]) -> Iterator[Path]:
    """A running core process; gives its fairlead.yaml."""
    path = make_site(api_port=free_port())
    access = path.parent / "var" / "core.json"
    with (path.parent / "core.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "broker", "core", "-c", str(path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        eventually_sync(lambda: access.exists() or process.poll() is not None, 120)
        assert process.poll() is None, (path.parent / "core.log").read_text(encoding="utf-8")
        yield path
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


def test_a_running_core_is_asked(
    fairlead: Fairlead, core: Path, typed: Callable[[str], None], eventually_sync: Callable[..., None]
) -> None:
    """While core holds the lock the person is added through its API, and its refusals are passed on."""

    def added() -> bool:
        typed(PASSWORD + "\n")
        return fairlead("user", "add", "a.moreau", "--role", "engineer", "--password-stdin", "-c", str(core)).code == 0

    eventually_sync((core.parent / "var" / "core.json").exists, 120)
    assert added()
    assert "a.moreau" in fairlead("user", "list", "-c", str(core)).out
    assert fairlead("db", "upgrade", "-c", str(core)).code == 75
    access = core.parent / "var" / "core.json"
    content = json.loads(access.read_text(encoding="utf-8"))
    access.write_text(json.dumps({**content, "token": "wrong"}), encoding="utf-8")
    typed(PASSWORD + "\n")
    said = fairlead("user", "add", "b.lefevre", "--role", "engineer", "--password-stdin", "-c", str(core))
    assert said.code == 1
    assert said.err == "fairlead: name or password is wrong\n"


def test_a_file_of_a_dead_core_does_not_hinder(
    fairlead: Fairlead, make_site: MakeSite, typed: Callable[[str], None], free_port: Callable[[], int]
) -> None:
    """A core that was killed leaves core.json behind; the lock decides."""
    path = make_site()
    (path.parent / "var").mkdir()
    stale = {"url": f"http://127.0.0.1:{free_port()}", "token": "x"}
    (path.parent / "var" / "core.json").write_text(json.dumps(stale), encoding="utf-8")
    typed(PASSWORD + "\n")
    assert fairlead("user", "add", "a.moreau", "--role", "engineer", "--password-stdin", "-c", str(path)).code == 0


def test_second_run_is_told_to_come_back_later(fairlead: Fairlead, make_site: MakeSite) -> None:
    """Two supervisors on one data directory would fight for journal and store: the second exits with 75."""
    path = make_site()
    (path.parent / "var").mkdir()
    lock = WriterLock(path.parent / "var" / "run.lock")
    lock.acquire()
    try:
        said = fairlead("run", "-c", str(path))
    finally:
        lock.release()

    assert said.code == 75
    assert "in use" in said.err


def test_what_is_stored_is_for_this_account_alone(make_site: MakeSite) -> None:
    """The store holds password hashes and the audit: nobody else on the machine reads it."""
    path = make_site()
    command = [sys.executable, "-m", "broker", "user", "add", "a.moreau", "--role", "engineer", "--password-stdin"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "-c", str(path)], input=PASSWORD + "\n", text=True, env=environment, check=True)

    assert (path.parent / "var" / "store.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_is_an_option_too(fairlead: Fairlead, option: str) -> None:
    """Who types the option that other programs have gets the version."""
    said = fairlead(option)

    assert said.code == 0
    assert said.out.startswith("fairlead ")
