"""fairlead model: from the integrator's key to a model of the site, and everything that is asked about it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.models import entries
from broker.store import Store, StoreOptions
from llm.model_file import builtins
from schemas.annotation import model_key
from tests.broker.models.card import card
from tests.broker.models.conftest import ADAPTER, WEIGHTS
from tests.broker.models.site import KEY, S, answer, configured, opened
from tests.waiting import PATIENT_STORE

Fairlead = Callable[..., Any]
MakeSite = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[3]
AXES = ("data-residency", "regulation", "latency", "capability", "cost", "lock-in")


def pack(fairlead: Fairlead, folder: Path, key: Path, *more: str, version: int = 1) -> Any:
    """Make a medium of a model."""
    folder.mkdir(exist_ok=True)
    (folder / "w.gguf").write_bytes(WEIGHTS + bytes([version]))
    (folder / "LICENSE").write_text("Apache License")
    told = {
        "key": key,
        "name": "plant-7b",
        "version": version,
        "what": "A model of the tests",
        "licence": "Apache-2.0",
        "licence-file": "LICENSE",
        "origin": "made by the tests",
        "rung": "open_weights",
        "weights": "w.gguf",
    }
    options = [part for name, value in told.items() for part in (f"--{name}", str(value))]
    return fairlead("model", "pack", str(folder), *options, *more)


@pytest.fixture
def key(fairlead: Fairlead, tmp_path: Path) -> tuple[Path, str]:
    """An integrator's signing key and its fingerprint as the command tells it."""
    said = fairlead("model", "key", str(tmp_path / "release.key"))
    assert said.code == 0
    return tmp_path / "release.key", said.out.splitlines()[-1]


def audit(site: Path) -> list[tuple[str, str, str]]:
    store = Store.open(StoreOptions.model_validate(PATIENT_STORE), site.parent / "var", write=False)
    try:
        return [(row.action, row.object_id, row.actor) for row in store.reader().audit(limit=20)][::-1]
    finally:
        store.close()


def test_the_whole_way_of_a_model(
    fairlead: Fairlead, make_site: MakeSite, key: tuple[Path, str], tmp_path: Path
) -> None:
    """Key, pack, trust, import, list, show, decide; and each step is in the audit."""
    site = make_site()
    at = ("-c", str(site))
    assert pack(fairlead, tmp_path / "m", key[0]).code == 0

    said = fairlead("model", "import", str(tmp_path / "m"), *at)
    assert (said.code, "does not trust" in said.err) == (1, True)
    public = str(key[0].with_name("release.key.pub"))
    said = fairlead("model", "trust", "add", public, "--fingerprint", "sha256:" + "0" * 64, *at)
    assert (said.code, "not what you were told" in said.err) == (1, True)
    assert fairlead("model", "trust", "add", public, "--fingerprint", key[1], "--name", "release", *at).code == 0
    [trusted] = json.loads(fairlead("model", "trust", "list", *at, "-o", "json").out)
    assert f"sha256:{trusted['fingerprint']}" == key[1]

    said = fairlead("model", "import", str(tmp_path / "m"), *at)
    assert said.code == 0, said.err
    assert "registry:plant-7b@1: 2 files, signed by release" in said.out
    assert "in quarantine until it is scored" in said.out
    rows = json.loads(fairlead("model", "list", *at, "-o", "json").out)
    assert [(row["name"], row["state"], row["rung"]) for row in rows] == [
        ("builtin:plant-tiny", rows[0]["state"], "builtin"),
        ("registry:plant-7b", "quarantined", "open_weights"),
    ]
    words = [part for axis in AXES for part in (f"--{axis}", f"on {axis}")]
    assert fairlead("model", "decide", "plant-7b", "--use", "annotation", *words, "--reason", "it fits", *at).code == 0
    shown = fairlead("model", "show", "plant-7b", *at).out
    for line in ("licence: Apache-2.0", "decision: annotation, rung open_weights", "lock in: on lock-in", "card: none"):
        assert line in shown
    assert audit(site) == [
        ("model_refused", str(tmp_path / "m"), "command line"),
        ("model_key_trusted", "release", "command line"),
        ("model_imported", "registry:plant-7b", "command line"),
        ("model_chosen", "registry:plant-7b", "command line"),
    ]
    assert fairlead("audit", "verify", *at).code == 0


def test_a_configured_adapter_is_shown_with_its_model(fairlead: Fairlead, tmp_path: Path) -> None:
    """By the name of either, with both hashes, the scale and the card of the pair; a plain model by its own name."""
    (tmp_path / "lora.gguf").write_bytes(ADAPTER)
    config = configured(tmp_path, "{adapter: lora.gguf, adapter_scale: 0.5}")
    at = ("-c", str(config.path))
    with opened(config):
        pass
    model, adapter = builtins()["plant-tiny"].sha256, hashlib.sha256(ADAPTER).hexdigest()
    rows = json.loads(fairlead("model", "list", *at, "-o", "json").out)
    assert [(row["name"], row["kind"], row["configured"]) for row in rows] == [
        ("builtin:plant-tiny", "model", False),
        ("builtin:plant-tiny + lora.gguf", "pair", True),
    ]
    for name in ("lora.gguf", "builtin:plant-tiny", "builtin:plant-tiny + lora.gguf"):
        shown = fairlead("model", "show", name, *at).out
        assert f"model: builtin:plant-tiny, sha256 {model}" in shown
        assert f"adapter: lora.gguf, sha256 {adapter}, scale 0.5" in shown
        assert f"key of both, by which answers and card go: {model_key(model, adapter, 0.5)}" in shown
        assert "card: none; fairlead llm bench makes one" in shown

    (tmp_path / "m.gguf").write_bytes(WEIGHTS)
    configured(tmp_path, "{model: m.gguf}")
    assert f"sha256: {hashlib.sha256(WEIGHTS).hexdigest()}" in fairlead("model", "show", "m.gguf", *at).out


def test_a_model_without_a_hash_has_no_incidents(
    fairlead: Fairlead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored under no key is of any such model; control: one whose hash is known has its own."""
    monkeypatch.setattr(entries, "_MOST_HASHED", 1)
    (tmp_path / "m.gguf").write_bytes(WEIGHTS)
    config = configured(tmp_path, "{model: m.gguf}")
    with opened(config) as store, store.transaction() as tx:
        tx.model_incident("", "another.gguf", "crash", "SIGABRT", lasting=False)
        tx.model_incident(KEY, "m.gguf", "crash", "SIGSEGV", lasting=False)

    def shown() -> tuple[int, list[str]]:
        told = json.loads(fairlead("model", "show", "m.gguf", "-c", str(config.path), "-o", "json").out)
        return told["versions"][0]["crashes"], [one["detail"] for one in told["incidents"]]

    assert shown() == (0, [])
    configured(tmp_path, f"{{model: m.gguf, sha256: '{KEY}'}}")
    assert shown() == (1, ["SIGSEGV"])


@pytest.fixture
def trusting(fairlead: Fairlead, make_site: MakeSite, key: tuple[Path, str]) -> Path:
    """A site that trusts the integrator's key."""
    site = make_site()
    public = str(key[0].with_name("release.key.pub"))
    assert fairlead("model", "trust", "add", public, "--fingerprint", key[1], "-c", str(site)).code == 0
    return site


def test_a_rollback_needs_its_reason(fairlead: Fairlead, trusting: Path, key: tuple[Path, str], tmp_path: Path) -> None:
    """Refused without, nothing of it stays; taken with it, and the reason is shown."""
    at = ("-c", str(trusting))
    for version in (1, 2):
        assert pack(fairlead, tmp_path / f"m{version}", key[0], version=version).code == 0
    assert fairlead("model", "import", str(tmp_path / "m2"), *at).code == 0
    kept = sorted((trusting.parent / "var" / "models" / "store").iterdir())

    said = fairlead("model", "import", str(tmp_path / "m1"), *at)
    assert (said.code, "version 1 is not above version 2" in said.err) == (1, True)
    assert sorted((trusting.parent / "var" / "models" / "store").iterdir()) == kept
    assert fairlead("model", "import", str(tmp_path / "m1"), "--allow-rollback", *at).code == 2
    said = fairlead("model", "import", str(tmp_path / "m1"), "--allow-rollback", "--reason", "version 2 hangs", *at)
    assert (said.code, "rolled back: version 2 hangs" in said.out) == (0, True)
    assert "rolled back to it: version 2 hangs" in fairlead("model", "show", "plant-7b@1", *at).out
    states = {row["version"]: row["current"] for row in json.loads(fairlead("model", "list", *at, "-o", "json").out)}
    assert (states[1], states[2]) == (True, False)
    assert [action for action, _, _ in audit(trusting)][-2:] == ["model_refused", "model_rolled_back"]


def test_packing_says_what_is_wrong(fairlead: Fairlead, key: tuple[Path, str], tmp_path: Path) -> None:
    """Every field at once; a rung that files cannot have; a role that is not there."""
    said = pack(fairlead, tmp_path / "m", key[0], "--rung", "frontier", "--name", "Plant 7B")
    assert said.code == 1
    assert "name: " in said.err
    assert "rung: " in said.err
    said = pack(fairlead, tmp_path / "m", key[0], "--adapter", "lora.gguf")
    assert (said.code, "lora.gguf is not there" in said.err) == (1, True)


def test_a_decision_is_whole_or_none(fairlead: Fairlead, make_site: MakeSite, tmp_path: Path) -> None:
    """Missing axes are named; in a file with line and column; the rung is the model's own."""
    at = ("-c", str(make_site()))
    decide = ("model", "decide", "builtin:plant-tiny", "--use", "annotation")
    said = fairlead(*decide, "--cost", "none", *at)
    assert said.code == 1
    assert "missing: --data-residency, --regulation, --latency, --capability, --lock-in, --reason" in said.err
    file = tmp_path / "decision.yaml"
    file.write_text("axes:\n  data_residency: here\n  latency: ''\nreason: small\nprice: 3\n")
    said = fairlead(*decide, "--file", str(file), *at)
    assert said.code == 78
    assert "decision.yaml:3:12: axes.latency" in said.err
    assert "decision.yaml:5:1: price: unknown option" in said.err
    axes = "".join(f"  {axis.replace('-', '_')}: words\n" for axis in AXES)
    file.write_text(f"rung: mistral\naxes:\n{axes}reason: small\nalternatives: [none at all]\n")
    said = fairlead(*decide, "--file", str(file), *at)
    assert (said.code, "stands on rung builtin, not on mistral" in said.err) == (1, True)
    file.write_text(file.read_text().replace("rung: mistral\n", ""))
    assert fairlead(*decide, "--file", str(file), *at).code == 0
    shown = fairlead("model", "show", "builtin:plant-tiny", *at).out
    assert "instead of: none at all" in shown
    assert fairlead("model", "decide", "gpt", "--use", "annotation", "--file", str(file), *at).code == 1
    assert fairlead("model", "decide", "x:y", "--use", "poetry", "--file", str(file), *at).code == 1


def test_watch_prints_figures_and_fails_over_a_limit(fairlead: Fairlead, tmp_path: Path) -> None:
    """Control: with a limit above the figure the same command ends with 0."""
    now = time.time_ns()
    config = configured(tmp_path)
    at = ("-c", str(config.path))
    with opened(config) as store, store.transaction() as tx:
        for number in range(40):
            answer(tx, number, at_ns=now - (40 - number) * S, cause="unknown" if number % 4 else "bearing")
    said = fairlead("model", "watch", *at, "-o", "json")
    [found] = json.loads(said.out)
    assert (said.code, found["model_key"], found["answers"], found["unknown_rate"]) == (1, KEY, 40, 0.75)
    assert list(found["over"]) == ["unknown_rate"]
    assert "75%" in fairlead("model", "watch", *at).out

    configured(tmp_path, more="models: {watch: {unknown_rate: 80%}}\n")
    assert fairlead("model", "watch", *at).code == 0


@pytest.mark.model
def test_a_scored_model_serves_from_the_registry(
    fairlead: Fairlead,
    trusting: Path,
    key: tuple[Path, str],
    tmp_path: Path,
    free_port: Callable[[], int],
    eventually_sync: Callable[..., None],
) -> None:
    """A real core imports while it runs, refuses what nobody scored, and serves it after the card and a restart."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from broker.scorecard import cards

    port = free_port()
    text = trusting.read_text().replace("{backend: none}", "{model: 'registry:tiny'}").replace(":8080", f":{port}")
    trusting.write_text(text)
    folder = tmp_path / "tiny"
    folder.mkdir()
    # another file than the shipped one, whose card is in the package
    (folder / "w.gguf").write_bytes((ROOT / "llm" / "models" / "plant-tiny.gguf").read_bytes() + bytes(32))
    assert pack_tiny(fairlead, folder, key[0]).code == 0
    at, log = ("-c", str(trusting)), tmp_path / "core.log"

    with running(trusting, log, eventually_sync):
        eventually_sync(lambda: '"event": "model_refused"' in log.read_text(), 120)
        assert "no model 'tiny' was imported" in log.read_text()
        said = fairlead("model", "import", str(folder), *at)
        assert said.code == 0, said.err
    [row] = [one for one in json.loads(fairlead("model", "list", *at, "-o", "json").out) if one["version"]]
    assert (row["state"], row["imported_by"], row["configured"]) == ("quarantined", "local", True)
    with running(trusting, log, eventually_sync):
        eventually_sync(lambda: "is in quarantine until it is scored" in log.read_text(), 120)
    said = fairlead("llm", "bench", "--model", "registry:tiny", "--scenarios", "8", "--again", "0", *at)
    assert (said.code, f"{row['sha256']}.json" in said.err) == (1, True), said.err
    [row] = [one for one in json.loads(fairlead("model", "list", *at, "-o", "json").out) if one["version"]]
    assert (row["state"], row["card"]["scenarios"]) == ("advisory", 8)
    cards.save(trusting.parent / "var", card(row["sha256"], passed=True))
    with running(trusting, log, eventually_sync) as url:
        eventually_sync(lambda: serving(url, trusting) == ("ready", row["sha256"]), 120)


def pack_tiny(fairlead: Fairlead, folder: Path, key: Path) -> Any:
    (folder / "LICENSE").write_text("Apache License")
    told = {
        "key": key,
        "name": "tiny",
        "version": 1,
        "what": "tiny",
        "licence": "Apache-2.0",
        "licence-file": "LICENSE",
    }
    more = {"origin": "this repository", "rung": "open_weights", "weights": "w.gguf", "style": "rows"}
    options = [part for name, value in {**told, **more}.items() for part in (f"--{name}", str(value))]
    return fairlead("model", "pack", str(folder), *options)


def serving(url: str, site: Path) -> tuple[str, str]:
    """Status and key of what the core serves."""
    import httpx

    token = json.loads((site.parent / "var" / "core.json").read_text())["token"]
    answer = httpx.get(
        f"{url}/api/v1/models", headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60
    )
    told = answer.json()["serving"]
    return told["status"], told["model_key"]


@contextmanager
def running(site: Path, log: Path, eventually: Callable[..., None]) -> Iterator[str]:
    """A core process; gives its address."""
    access = site.parent / "var" / "core.json"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "broker", "core", "-c", str(site)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
        )
    try:
        eventually(lambda: access.exists() or process.poll() is not None, 120)
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield str(json.loads(access.read_text())["url"])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
