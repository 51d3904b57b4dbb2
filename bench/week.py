"""
A week of the simulated plant, through journal and pipeline into a store that the page can show.

The plant runs with a handful of faults, one of them twice, in steps of half a second, and is sampled each twenty
seconds; a shelf, a maintenance of people, shifts and a weekend without filling are in the stream, and the first worn
bearing is approved as a person would. The week ends now, with the last fault going on. Printed: each fault with its
delay, kind and proposed cause, and what else was found. With ``--folder`` the site stays, and core serves it: sign in
as ``a.moreau`` with the password that is printed.
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from broker.api.accounts import hash_password
from broker.config.loader import load_config
from broker.core.pipeline import Pipeline
from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.review import decide
from broker.store import Store
from broker.tagmap import load
from broker.web.moments import duration
from detectors.detection import Detection
from normalizers.normalizer import Normalizer
from schemas.annotation import Review
from schemas.anomaly import Anomaly
from schemas.calendar import Window
from schemas.entries import Link, MapInForce, Tick
from schemas.samples import SampleBatch
from schemas.suppression import Command
from schemas.tagmap import TagMap
from simulators.plant import DOWNSTREAM, FAULT_EQUIPMENT, Fault, FaultKind, Plant

SECOND = 1_000_000_000
HOUR_S, DAY_S = 3600, 86_400
PERIOD_S = 20
STEP_S = 0.5
#: A fault counts as found when an episode on its equipment begins within so long after it has ended.
SLACK_S = 600
#: Day and hour of the beginning, hours it lasts, size, hours until it is full grown.
SCHEDULE: tuple[tuple[FaultKind, float, float, float, float, float], ...] = (
    ("bearing_wear", 1, 9.5, 3, 0.6, 1.0),
    ("hx_fouling", 2, 2, 9, 0.9, 6.0),
    ("sensor_stuck", 3, 14, 2, 1.0, 0.0),
    ("nozzle_drift", 4, 6, 2.5, 0.8, 0.2),
    ("valve_stiction", 4, 18, 3, 0.9, 0.1),
    ("cavitation", 5, 16, 1, 0.8, 0.05),
    ("bearing_wear", 6, 22, 9, 0.7, 1.0),
)
_SITE = """\
version: 1
site: {path: Demo/Site, timezone: Europe/Paris}
sources:
  skid_plc: {kind: modbus, host: 127.0.0.1, byte_order: CDAB}
  filler: {kind: opcua, endpoint: "opc.tcp://127.0.0.1:4840", security: None}
  meters: {kind: mqtt, broker: "mqtt://127.0.0.1:1883", subscriptions: [{filter: "demo/#", decode: json}]}
llm: {backend: none}
api: {listen: "127.0.0.1:PORT"}
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one fault: the first episode on its equipment, if any, and how many more there were."""

    fault: Fault
    anomaly: Anomaly | None
    cause: str
    more: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The faults, the episodes that other equipment had of them, and those of no fault."""

    found: list[Found]
    felt: list[Anomaly]
    none: list[Anomaly]


def make_site(folder: Path, port: int) -> Path:
    """The demo's maps around sources that need not be there: core reads the journal alone."""
    (folder / "maps").mkdir(parents=True, exist_ok=True)
    shipped = Path(__file__).resolve().parents[1] / "broker" / "demo" / "maps"
    for path in shipped.glob("*.yaml"):
        (folder / "maps" / path.name).write_text(path.read_text("utf-8"), "utf-8")
    path = folder / "fairlead.yaml"
    path.write_text(_SITE.replace("PORT", str(port)), "utf-8")
    return path


def plain(site: TagMap) -> TagMap:
    """The demo's map for values in their units, sampled each twenty seconds, with a calendar."""
    tags = [
        tag.model_copy(
            update={
                "source": "skid_plc",
                "type": tag.type if (tag.type or "").startswith("string") else "float64",
                "scan_ms": PERIOD_S * 1000,
                "scale_mode": "none",
                "factor": 1.0,
                "offset": 0.0,
                "clamp": "none",
                "source_unit": tag.unit,
                "byte_order": None,
                "stale_after_ms": None,
                "flatline_after_ms": 6 * PERIOD_S * 1000 if tag.flatline_after_ms else None,
            }
        )
        for tag in site.tags
    ]
    week, paris = (0, 1, 2, 3, 4, 5, 6), "Europe/Paris"
    shifts = [
        Window(name=name, kind="shift", days=week, start_min=start * 60, minutes=480, timezone=paris)
        for name, start in (("early", 6), ("late", 14), ("night", 22))
    ]
    weekend = Window(
        name="weekend",
        kind="off",
        paths=("Demo/Site/Filling",),
        days=(5, 6),
        start_min=0,
        minutes=1440,
        timezone=paris,
    )
    return TagMap(site=site.site, tags=tuple(tags), equipment=site.equipment, calendar=(*shifts, weekend))


def faults() -> list[Fault]:
    """The schedule in plant seconds."""
    return [
        Fault(kind, day * DAY_S + hour * HOUR_S, day * DAY_S + (hour + long) * HOUR_S, size, ramp * HOUR_S)
        for kind, day, hour, long, size, ramp in SCHEDULE
    ]


def people(begin_ns: int) -> dict[int, Command]:
    """What people asked for, by the second of the week."""

    def command(number: int, at_s: int, action: str, target: str, until_s: int | None, reason: str) -> Command:
        until_ns = None if until_s is None else begin_ns + until_s * SECOND
        asked_ns = begin_ns + at_s * SECOND
        return Command(f"{number:032x}", action, "a.moreau", target, "", until_ns, reason, asked_ns)  # type: ignore[arg-type]

    skid = "Demo/Site/Utilities/Skid1"
    end = 7 * DAY_S
    asked = [
        command(1, 3 * DAY_S + 15 * HOUR_S, "shelve", f"{skid}/P101/Flow", 4 * DAY_S, "flow meter is stuck, ordered"),
        command(2, end - 2 * HOUR_S, "maintenance", f"{skid}/E201", end + 6 * HOUR_S, "plates are being cleaned"),
    ]
    return {(one.asked_ns - begin_ns) // SECOND // PERIOD_S * PERIOD_S: one for one in asked}


def fill(folder: Path, tag_map: TagMap, begin_ns: int, days: float) -> tuple[int, list[Fault]]:
    """The journal of the week; the number of values, and the faults that are in it."""
    now = [begin_ns]
    writer = JournalWriter(folder, JournalOptions(), now_ns=lambda: now[0], mono_ns=lambda: now[0])
    writer.open()
    plant = Plant(7, faults(), step_s=STEP_S)
    asked = people(begin_ns)
    signals = {tag.number: ".".join(tag.path.split("/")[-2:]) for tag in tag_map.tags}
    signals = {number: name.replace("Room12.", "R12.") for number, name in signals.items()}
    numbers = [number for number, name in signals.items() if not name.endswith(".Order")]
    writer.append(MapInForce(tag_map.revision, tag_map.body))
    last = writer.append(Link("skid_plc", True))
    seconds = int(days * DAY_S)
    for second in range(0, seconds, PERIOD_S):
        plant.advance(second)
        now[0] = begin_ns + second * SECOND
        values = plant.signals()
        row = [float(values[signals[number]] or 0) for number in numbers]
        times = [now[0]] * len(numbers)
        if second in asked:
            writer.append(asked[second])
        writer.append(SampleBatch.build("skid_plc", tag_map.revision, now[0], tag=numbers, source_ns=times, value=row))
        writer.append(Tick())
        # a tick counts for ten seconds at most
        now[0] += PERIOD_S * SECOND // 2
        last = writer.append(Tick())
    last.result(60)
    writer.close()
    return seconds // PERIOD_S * len(numbers), [fault for fault in plant.faults if fault.start_s < seconds]


def process(store: Store, pipeline: Pipeline, site: str) -> None:
    """Everything the journal holds; the first worn bearing is approved on the way."""
    pipeline.restore()
    approved = False
    while pipeline.run_once():
        waiting = [] if approved else store.reader().anomalies(state="closed", review="pending")
        for row in reversed(waiting):
            if row.cause_id != "bearing_wear" or row.annotation_id is None:
                continue
            review = Review(
                annotation_id=row.annotation_id,
                verdict="approved",
                person="a.moreau",
                at_ns=pipeline.wall_ns,
                comment="heard it; grease was dry",
            )
            with store.transaction() as tx:
                decide(tx, review, site)
            approved = True
            break
    pipeline.save()


def judge(store: Store, begin_ns: int, week: Sequence[Fault]) -> Verdict:
    """Which episodes belong to which fault."""
    rows = [row for row in store.reader().anomalies(limit=1000) if row.anomaly.suppressed is None]
    rows.sort(key=lambda row: row.anomaly.onset_ns)
    found: list[Found] = []
    own: set[str] = set()
    felt: set[str] = set()
    for fault in week:
        begin, end = (begin_ns + round(at * SECOND) for at in (fault.start_s, fault.end_s + SLACK_S))
        home = FAULT_EQUIPMENT[fault.kind]
        during = [row for row in rows if begin - SLACK_S * SECOND <= row.anomaly.onset_ns < end]
        same = [row for row in during if _unit(row.anomaly) == home]
        own.update(row.anomaly.anomaly_id for row in same)
        felt.update(row.anomaly.anomaly_id for row in during if _unit(row.anomaly) in DOWNSTREAM.get(home, ()))
        found.append(
            Found(
                fault, same[0].anomaly if same else None, (same[0].cause or "") if same else "", max(len(same) - 1, 0)
            )
        )
    none = [row.anomaly for row in rows if row.anomaly.anomaly_id not in own | felt]
    return Verdict(found, [row.anomaly for row in rows if row.anomaly.anomaly_id in felt - own], none)


def _unit(anomaly: Anomaly) -> str:
    return anomaly.equipment.rsplit("/", 1)[-1]


def run(folder: Path, port: int, days: float) -> None:
    """Make the site, its journal and its store, and print what was found."""
    begun = time.perf_counter()
    config = load_config(make_site(folder, port), {})
    tag_map = plain(load(config))
    begin_ns = (int(time.time() - days * DAY_S) // PERIOD_S * PERIOD_S) * SECOND
    (config.data_dir / "journal").mkdir(parents=True)
    values, week = fill(config.data_dir / "journal", tag_map, begin_ns, days)
    filled = time.perf_counter()
    store = Store.open(config.store, config.data_dir, write=True)
    password = secrets.token_urlsafe(9)
    with closing(store), closing(JournalFiles(config.data_dir / "journal")) as journal:
        store.upgrade()
        with store.transaction() as tx:
            tx.put_user("a.moreau", ("engineer", "integrator"), hash_password(password))
        pipeline = Pipeline(store, journal, Normalizer(config.normalize), Detection(config.detection))
        process(store, pipeline, config.site.name)
        verdict = judge(store, begin_ns, week)
        counts = store.reader().counts()
    took = time.perf_counter()
    print(f"{values} values of {days:g} days: journal {filled - begun:.0f} s, pipeline {took - filled:.0f} s")
    print("| fault | equipment | begins | found after | as | severity | cause by rules | more episodes |")
    print("|" + "---|" * 8)
    for one in verdict.found:
        kind, start = one.fault.kind, duration(round(one.fault.start_s * SECOND))
        text = "| not found | | | | |"
        if one.anomaly is not None:
            delay = duration(one.anomaly.onset_ns - begin_ns - round(one.fault.start_s * SECOND))
            text = f"| {delay} | {one.anomaly.title} | {int(one.anomaly.severity)} | {one.cause} | {one.more} |"
        print(f"| {kind} | {FAULT_EQUIPMENT[kind]} | {start} {text}")
    for text, episodes in (("felt by other equipment", verdict.felt), ("of no fault", verdict.none)):
        names = ", ".join(f"{_unit(a)}: {a.title}" for a in episodes)
        print(f"{len(episodes)} episodes {text}{': ' if names else ''}{names}")
    print(f"{counts.anomalies_open} open, {counts.anomalies_suppressed} suppressed and open, {counts.records} records")
    print(f"sign in as a.moreau with {password}: python -m broker core --config {config.path}")


def main(argv: Sequence[str]) -> int:
    """``python -m bench week``."""
    parser = argparse.ArgumentParser(prog="python -m bench week", description=__doc__)
    parser.add_argument("--folder", type=Path, help="make the site here and keep it; default: a temporary folder")
    parser.add_argument("--port", type=int, default=8080, help="where core would listen (default 8080)")
    parser.add_argument("--days", type=float, default=7.0, help="length of the week (default 7)")
    arguments = parser.parse_args(argv)
    if arguments.folder is not None:
        run(arguments.folder, arguments.port, arguments.days)
        return 0
    with tempfile.TemporaryDirectory(prefix="fairlead-week-") as folder:
        run(Path(folder), arguments.port, arguments.days)
    return 0
