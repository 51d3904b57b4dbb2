"""
Start plant, broker and page, watch them, and stop them again.

Everything lives in one folder that is removed at the end unless the user named it. Children run in sessions of their
own, so that Ctrl-C reaches only this process, which then stops them in order: broker first, plant last.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from threading import Thread
from typing import Any, Final
from urllib.parse import urlsplit

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from broker import events
from broker.api.accounts import hash_password
from broker.config.loader import load_config
from broker.demo.history import enter
from broker.store import Store
from schemas.errors import FairleadError

PERSON: Final = "demo"
READY_S: Final = 40.0
_BY: Final = {"rules": "rules", "model": "the model", "advisory": "the model, advisory"}
STOP_S: Final = 25.0


class DemoError(FairleadError):
    """The demo cannot run here; the message says what is missing."""


@dataclass(slots=True)
class _State:
    """What the terminal shows."""

    url: str
    started_s: float
    started: datetime
    faults: list[str] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    anomalies: list[dict[str, Any]] = field(default_factory=list)
    model: str = "starting"


def run_demo(
    *, folder: Path | None = None, port: int = 8080, seconds: float | None = None, console: Console | None = None
) -> int:
    """
    Run until Ctrl-C, SIGTERM or *seconds* are over; 0 when everything stopped in order.

    Raises:
        DemoError: a port is taken, the demo extra is not installed, or a part did not start in time.
    """
    console = console or Console()
    events.set_up("warning")
    keep = folder is not None
    home = folder or Path(tempfile.mkdtemp(prefix="fairlead-demo-"))
    home.mkdir(parents=True, exist_ok=True)
    try:
        with _interrupts() as stop:
            free = _free(port)
            if free != port:
                console.print(f"Port {port} is taken on 127.0.0.1: the page is on port {free}.")
            return _run(home, free, seconds, console, stop)
    finally:
        if not keep:
            shutil.rmtree(home, ignore_errors=True)


def _run(home: Path, port: int, seconds: float | None, console: Console, stop: list[bool]) -> int:
    console.print("[bold]Fairlead demo[/bold]: a simulated pump skid (Modbus), filler (OPC UA) and meters (MQTT).")
    # a kept folder has a history already
    recording = None if (home / "var" / "journal").exists() else home / "before.csv"
    plant, addresses, faults = _start_plant(recording)
    up_ns = time.time_ns()
    broker: subprocess.Popen[bytes] | None = None
    try:
        config_path = _write_site(home, addresses, port)
        password = secrets.token_urlsafe(9)
        _make_person(config_path, password)
        if recording is not None:
            before = enter(recording, load_config(config_path), up_ns)
            console.print(
                f"The plant has run for {before.seconds / 60:.0f} minutes before: its recording is where the journal "
                f"begins, {before.values} values, from which the detectors learn what is normal."
            )
        log = (home / "broker.log").open("wb")
        with log:
            broker = subprocess.Popen(
                [sys.executable, "-m", "broker", "run", "--config", str(config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        state = _State(f"http://127.0.0.1:{port}/", time.monotonic(), datetime.now(UTC), faults)
        api = _Api(home / "var" / "core.json")
        _wait_ready(api, broker, home / "broker.log", stop)
        console.print(f"Page: [bold]{state.url}[/bold]   sign in as [bold]{PERSON}[/bold] / [bold]{password}[/bold]")
        console.print("Ctrl-C stops everything. The first faults come within half a minute.\n")
        _watch(state, api, plant, broker, seconds, console, stop)
        console.print(_summary(state))
    finally:
        clean = _end(broker) & _end(plant)
    console.print("Stopped." if clean else "Stopped, not everything in order.")
    return 0 if clean else 1


def _free(port: int) -> int:
    """The port asked for, or a free one when somebody has it."""
    for candidate in (port, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", candidate))
                chosen: int = probe.getsockname()[1]
                return chosen
    raise DemoError("no TCP port is free on 127.0.0.1")


@contextmanager
def _interrupts() -> Iterator[list[bool]]:
    """Turn SIGINT and SIGTERM into an entry in a list, so that the shutdown itself is not interrupted."""
    stop: list[bool] = []
    before = {n: signal.signal(n, lambda *_: stop.append(True)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start_plant(recording: Path | None) -> tuple[subprocess.Popen[str], dict[str, str], list[str]]:
    more = [] if recording is None else ["--recording", str(recording)]
    plant = subprocess.Popen(
        [sys.executable, "-m", "simulators", "--until-eof", *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert plant.stdout is not None
    first = plant.stdout.readline()
    if not first.startswith("READY "):
        plant.wait(5)
        raise DemoError("the simulated plant did not start; install the extra: pip install 'fairlead[demo]'")
    faults: list[str] = []
    lines = plant.stdout
    Thread(target=lambda: faults.extend(line.strip() for line in lines), daemon=True).start()
    return plant, json.loads(first[6:]), faults


def _write_site(home: Path, addresses: dict[str, str], port: int) -> Path:
    modbus_host, _, modbus_port = addresses["modbus"].rpartition(":")
    filled = {
        "{modbus_host}": modbus_host,
        "{modbus_port}": modbus_port,
        "{opcua_endpoint}": addresses["opcua"],
        "{mqtt_url}": addresses["mqtt"],
        "{api_port}": str(port),
    }
    shipped = files("broker.demo")
    text = shipped.joinpath("fairlead.yaml").read_text("utf-8")
    for mark, value in filled.items():
        text = text.replace(mark, value)
    path = home / "fairlead.yaml"
    path.write_text(text, "utf-8")
    (home / "maps").mkdir(exist_ok=True)
    for item in shipped.joinpath("maps").iterdir():
        if item.name.endswith(".yaml"):
            (home / "maps" / item.name).write_text(item.read_text("utf-8"), "utf-8")
    return path


def _make_person(config_path: Path, password: str) -> None:
    config = load_config(config_path)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    store = Store.open(config.store, config.data_dir, write=True)
    try:
        store.upgrade()
        with store.transaction() as tx:
            tx.put_user(PERSON, ("engineer", "integrator"), hash_password(password))
    finally:
        store.close()


class _Api:
    """Reads the core's API with the local token that it writes for programs on this machine."""

    def __init__(self, where: Path) -> None:
        self._where = where

    def get(self, path: str) -> Any:
        """Decoded JSON answer. Raises OSError while the core does not answer."""
        try:
            access = json.loads(self._where.read_text("utf-8"))
        except ValueError as error:
            raise OSError("the core has not written its address yet") from error
        if urlsplit(access["url"]).hostname != "127.0.0.1":
            raise OSError("the core does not listen on this machine")
        request = urllib.request.Request(  # noqa: S310 - http to 127.0.0.1, checked above
            access["url"] + path, headers={"Authorization": f"Bearer {access['token']}"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=3) as answer:
            return json.load(answer)


def _wait_ready(api: _Api, broker: subprocess.Popen[bytes], log: Path, stop: list[bool]) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and not stop:
        if broker.poll() is not None:
            break
        with suppress(OSError):
            api.get("/readyz")
            return
        time.sleep(0.1)
    if not stop:
        tail = log.read_text("utf-8", "replace").splitlines()[-5:]
        raise DemoError("the broker did not start:\n" + "\n".join(tail))


def _watch(
    state: _State,
    api: _Api,
    plant: subprocess.Popen[str],
    broker: subprocess.Popen[bytes],
    seconds: float | None,
    console: Console,
    stop: list[bool],
) -> None:
    told: set[str] = set()
    with Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else nullcontext() as live:
        while not stop and (seconds is None or time.monotonic() - state.started_s < seconds):
            with suppress(OSError, urllib.error.URLError):
                status = api.get("/api/v1/sources")
                state.sources, state.model = status["sources"], status["reasoning"]
                state.anomalies = api.get("/api/v1/anomalies?limit=50")["anomalies"]
            news = _news(state, told)
            if isinstance(live, Live):
                for line in news:
                    live.console.print(line)
                live.update(_screen(state))
            else:
                for line in news:
                    console.print(line)
            if plant.poll() is not None or broker.poll() is not None:
                raise DemoError("a part of the demo ended by itself; run it again with --folder to keep its log")
            time.sleep(0.5)


def _news(state: _State, told: set[str]) -> list[str]:
    """Lines for what has happened since the last look, once each."""
    now = time.monotonic() - state.started_s
    lines = []
    running = [source for source in state.sources if _flows(source, state.started)]
    news = [
        *((f"fault{i}", f"plant: {_told(text)}") for i, text in enumerate(list(state.faults))),
        *([(f"model-{state.model}", f"reasoning is {state.model}")] if state.model.startswith("ready") else []),
        *((f"source-{s['name']}", f"records flow from {s['name']} ({s['kind']})") for s in running),
    ]
    for anomaly in state.anomalies:
        name, key = anomaly["equipment"].rsplit("/", 1)[-1], anomaly["anomaly_id"]
        news.append((key, f"anomaly on {name}: {anomaly['title']}"))
        if anomaly["annotation_id"]:
            origin, cause = anomaly["origin"], anomaly["cause"]
            # what the rules say meanwhile of evidence that has grown is news only where it is another cause
            if origin != "rules" or not told & {f"{key}/{other}/{cause}" for other in _BY}:
                news.append((f"{key}/{origin}/{cause}", f"explained {name}: {cause} (by {_BY[origin]})"))
            if not anomaly["review"]:
                news.append((f"{key}/waits", f"maintenance request for {name} waits for your approval on the page"))
    for key, text in news:
        if key not in told:
            told.add(key)
            lines.append(f"{now:5.1f} s  {text}")
    return lines


def _flows(source: dict[str, Any], since: datetime) -> bool:
    """Whether records are there that were taken from the live source; those of the recording are older."""
    last: str | None = source["last_received"]
    return last is not None and datetime.fromisoformat(last) >= since


def _told(fault: str) -> str:
    """``FAULT begins bearing_wear P101`` as people say it."""
    _, what, kind, unit = fault.split()
    return f"{kind.replace('_', ' ')} {what} on {unit}"


def _screen(state: _State) -> Group:
    sources = Table("source", "protocol", "state", "records", "rejected", box=None)
    for source in state.sources:
        counts = (str(source["records"]), str(source["rejected"]))
        sources.add_row(source["name"], source["kind"], source["state"], *counts)
    table = Table("since", "equipment", "anomaly", "cause", "origin", "review", box=None)
    for anomaly in state.anomalies[:8]:
        table.add_row(
            anomaly["onset"][11:19],
            anomaly["equipment"].rsplit("/", 1)[-1],
            f"{anomaly['title']} ({anomaly['state']})",
            anomaly["cause"] or "",
            anomaly["origin"] or "",
            anomaly["review"] or "waits for approval",
        )
    head = Text(f"\n{time.monotonic() - state.started_s:5.0f} s   {state.url}   reasoning: {state.model}\n")
    return Group(head, sources, Text(), table)


def _summary(state: _State) -> str:
    flowing = [f"{s['name']} ({s['kind']}): {s['records']}" for s in state.sources if s["records"]]
    explained = [a for a in state.anomalies if a["annotation_id"]]
    waiting = [a for a in explained if not a["review"]]
    return (
        f"After {time.monotonic() - state.started_s:.0f} s: records from {', '.join(flowing) or 'no source'}; "
        f"{len(state.anomalies)} anomalies found, {len(explained)} explained "
        f"({sum(a['origin'] == 'model' for a in explained)} by the model), {len(waiting)} waiting for approval."
    )


def _end(child: subprocess.Popen[Any] | None) -> bool:
    """Ask a child to stop, wait, and kill it only when it does not; whether it went by itself."""
    if child is None:
        return True
    if child.stdin is not None:
        with suppress(OSError):
            child.stdin.close()
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError, AttributeError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(5)
        return False
    return child.returncode in {0, -signal.SIGTERM}
