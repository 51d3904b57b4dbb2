"""A core as the process builds it, without supervisor and acquire: store, writer thread, API; and a small plant."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI

from broker.api.access import COOKIE
from broker.api.accounts import Person, Role, hash_password
from broker.api.app import build_app
from broker.api.services import Services
from broker.config.loader import load_config
from broker.core.pipeline import Pipeline
from broker.core.writer import Writer
from broker.evidence import build_evidence
from broker.journal import JournalFiles
from broker.scorecard.standing import Standings
from broker.store import Store, Transaction
from detectors.detection import Detection
from llm.client import Reasoner
from llm.rules import annotate_by_rules
from normalizers.normalizer import Normalizer
from schemas.annotation import Annotation
from schemas.anomaly import Anomaly, Kind, Member, Severity
from schemas.entries import Position
from schemas.evidence import Evidence
from schemas.records import RecordBatch, fingerprints
from schemas.samples import Exact, Gap, GapCause, Origin
from schemas.tagmap import Equipment, Tag, TagMap

T = TypeVar("T")

S = 1_000_000_000
P101 = "Acme/Lyon/Utilities/Skid1/P101"
PASSWORD = "a long enough pass phrase"
TOKEN = "token-of-the-local-administrator"
PEOPLE: dict[str, tuple[Role, ...]] = {
    "mes": ("consumer",),
    "i.kaya": ("integrator",),
    "a.moreau": ("engineer",),
    "o.berg": ("auditor",),
    "root": ("admin",),
}
#: Tags of the pump: name, unit, level, noise.
TAGS = (
    ("BearingTemp", "Cel", 47.4, 0.15),
    ("Vibration", "mm/s", 1.65, 0.05),
    ("MotorPower", "kW", 22.0, 0.2),
    ("Flow", "m3/h", 38.1, 0.1),
    ("SuctionPressure", "bar", 1.8, 0.01),
)
_CONFIG = """\
version: 1
site: {{path: Acme/Lyon, timezone: Europe/Paris}}
data_dir: var
store: {{query_limit: 60s}}
sources:
  pumps: {{kind: replay, file: none.csv}}
{sources}llm: {llm}
api: {{listen: "127.0.0.1:{port}"}}
{more}
"""


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    s: float = 1000.0

    def __call__(self) -> float:
        return self.s


@cache
def password_hash() -> str:
    """Hash of PASSWORD, made once: argon2 is slow on purpose."""
    return hash_password(PASSWORD)


@dataclass
class Core:
    """A running core; ``client`` has no sign-in."""

    services: Services
    app: FastAPI
    clock: Clock
    clients: list[httpx.Client] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = self.new_client()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.services.config.api.port}"

    @property
    def store(self) -> Store:
        return self.services.store

    def write(self, command: Callable[[Transaction], T]) -> T:
        """Run a command on the writer thread."""
        return self.services.write(command)

    def new_client(self) -> httpx.Client:
        """A client of its own cookies."""
        # without TLS there is nothing to verify, and loading certificates takes longer than a test
        client = httpx.Client(base_url=self.url, trust_env=False, timeout=120, verify=False)
        self.clients.append(client)
        return client

    def as_role(self, *roles: Role, name: str = "somebody") -> httpx.Client:
        """A client with the session cookie of a person with these roles, and our header."""
        client = self.new_client()
        client.cookies.set(COOKIE, self.app.state.sessions.open(Person(name, frozenset(roles))), "127.0.0.1")
        client.headers["X-Fairlead"] = "page"
        return client

    def raw_get(self, target: str, host: str) -> tuple[int, str]:
        """Status and body of a request whose target and Host header no client library has tidied up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.services.config.api.port, timeout=120)
        try:
            connection.putrequest("GET", target, skip_host=True)
            connection.putheader("Host", host)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@contextmanager
def serving(app: FastAPI, listener: socket.socket) -> Iterator[None]:
    """The application behind a real server on a thread."""
    settings = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False)
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), name="api")
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(120)


def write_config(
    folder: Path, port: int = 8080, more: str = "", sources: str = "", llm: str = "{backend: none}"
) -> Path:
    """``fairlead.yaml`` in *folder*; *more* are further sections, *sources* further sources, *llm* that section."""
    path = folder / "fairlead.yaml"
    path.write_text(_CONFIG.format(port=port, more=more, sources=sources, llm=llm))
    return path


@contextmanager
def running_core(folder: Path, *, more: str = "", sources: str = "", llm: str = "{backend: none}") -> Iterator[Core]:
    """A core over an empty journal, with one person of each role, behind a real server on a free loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = load_config(write_config(folder, listener.getsockname()[1], more, sources, llm), {})
        store = Store.open(config.store, config.data_dir, write=True)
        store.upgrade()
        (config.data_dir / "journal").mkdir()
        journal = JournalFiles(config.data_dir / "journal")
        writer = Writer(
            store,
            lambda: Pipeline(store, journal, Normalizer(config.normalize), Detection(config.detection)),
        )
        writer.start()
        reasoner = Reasoner(config.llm, base_dir=config.base_dir, now_ns=time.time_ns)
        services = Services(config, store, writer, reasoner, TOKEN, Standings(config.data_dir, config.llm.mode))
        clock = Clock()
        core = Core(services, build_app(services, mono_s=clock), clock)
        try:
            core.write(_add_people)
            with serving(core.app, listener):
                yield core
        finally:
            for client in core.clients:
                client.close()
            writer.stop()
            store.close()


def _add_people(tx: Transaction) -> None:
    for name, roles in PEOPLE.items():
        tx.put_user(name, roles, password_hash())


def plant() -> TagMap:
    """The pump with its tags, and one text tag with a hostile name."""
    tags = [
        Tag(number=i, id=f"t{i}", path=f"{P101}/{name}", source="pumps", address=name, unit=unit, equipment=P101)
        for i, (name, unit, _, _) in enumerate(TAGS)
    ]
    note = Tag(
        number=len(tags),
        id="tx",
        path=f"{P101}/<script>alert(1)</script>",
        source="pumps",
        address="x",
        equipment=P101,
    )
    equipment = Equipment(path=P101, equipment_class="centrifugal_pump", sap_object="10002345", sap_plant="1000")
    return TagMap(site="Acme/Lyon", tags=(*tags, note), equipment=(equipment,))


def batch(
    tag_map: TagMap,
    tag: list[int],
    source_ns: list[int],
    value: list[float],
    *,
    status: list[int] | None = None,
    exact: dict[int, Exact] | None = None,
    received_ns: int | None = None,
) -> RecordBatch:
    """A batch as the normalizer makes it."""
    values = np.array(value, np.float64)
    codes = np.zeros(len(tag), np.uint32) if status is None else np.array(status, np.uint32)
    return RecordBatch(
        "pumps",
        Origin.LIVE,
        tag_map.revision,
        Position(1, 1),
        max(source_ns) if received_ns is None else received_ns,
        np.array(tag, np.int32),
        np.array(source_ns, np.int64),
        None,
        values,
        codes,
        np.zeros(len(tag), np.uint32),
        fingerprints(values, codes, exact or {}),
        exact or {},
    )


def fill(core: Core, rows: int, start_ns: int = 1_790_000_000 * S) -> TagMap:
    """Store *rows* records, one a second, of the tags in turn; returns the map."""
    tag_map = plant()
    numbers = [i % len(TAGS) for i in range(rows)]

    def command(tx: Transaction) -> None:
        tx.use_map(tag_map.revision, tag_map)
        if rows:
            times = [start_ns + i * S for i in range(rows)]
            tx.records(batch(tag_map, numbers, times, [float(i) for i in range(rows)]))

    core.write(command)
    return tag_map


def bearing_wear(core: Core, onset_ns: int, *, seconds: int = 240) -> tuple[Anomaly, Evidence, Annotation]:
    """
    An open episode with real trends: the bearing warms up, vibration and power follow; a gap lies before it.

    Evidence and annotation are made as the pipeline makes them.
    """
    tag_map = plant()
    rng = np.random.default_rng(7)
    begin_ns, end_ns = onset_ns - 300 * S, onset_ns + seconds * S
    after = np.maximum(np.arange(begin_ns, end_ns, S) - onset_ns, 0) / S / seconds
    rise = {"BearingTemp": 26.8 * after, "Vibration": 4.2 * np.maximum(after - 0.15, 0), "MotorPower": 6 * after**2}

    def command(tx: Transaction) -> tuple[Anomaly, Evidence, Annotation]:
        tx.use_map(tag_map.revision, tag_map)
        times = list(range(begin_ns, end_ns, S))
        for number, (name, _, level, noise) in enumerate(TAGS):
            values = level + rng.normal(0, noise, len(times)) + rise.get(name, np.zeros(len(times)))
            kept = [i for i, at in enumerate(times) if not onset_ns - 200 * S <= at < onset_ns - 150 * S]
            tx.records(batch(tag_map, [number] * len(kept), [times[i] for i in kept], [float(values[i]) for i in kept]))
        gap = Gap("pumps", (), onset_ns - 200 * S, onset_ns - 150 * S, GapCause.LINK_DOWN)
        tx.gap(gap, Position(1, 2))
        anomaly = _episode(onset_ns, end_ns - S)
        tx.anomaly(anomaly)
        evidence = build_evidence(tx, tag_map, anomaly, tx.next_seq - 1)
        tx.evidence(evidence)
        annotation = annotate_by_rules(evidence, detector_score=anomaly.detector_score, created_ns=end_ns)
        tx.annotation(annotation)
        return anomaly, evidence, annotation

    return core.write(command)


def _episode(onset_ns: int, last_ns: int) -> Anomaly:
    def member(number: int, after_s: int, peak: float, score: float) -> Member:
        name, unit, level, noise = TAGS[number]
        return Member(
            tag_id=f"t{number}",
            path=f"{P101}/{name}",
            unit=unit,
            detector="ewma",
            kind=Kind.MEAN_SHIFT,
            direction="rose",
            onset_ns=onset_ns + after_s * S,
            last_ns=last_ns,
            active=True,
            value=peak,
            peak=peak,
            low=level - 8 * noise,
            high=level + 8 * noise,
            score=score,
        )

    members = (member(0, 0, 74.2, 6.5), member(1, 40, 5.2, 4.1), member(2, 90, 27.6, 2.2))
    return Anomaly(
        anomaly_id="a1" * 16,
        revision=2,
        equipment=P101,
        state="open",
        kind=Kind.MEAN_SHIFT,
        severity=Severity.HIGH,
        ne107="S",
        onset_ns=onset_ns,
        updated_ns=last_ns,
        closed_ns=None,
        detector_score=6.5,
        members=members,
    )
