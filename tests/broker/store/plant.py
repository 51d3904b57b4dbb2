"""A small plant, batches of it, and a dump of a whole database, for the store's tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from broker.store import Store
from broker.store.tables import METADATA
from schemas.annotation import Annotation, Cause, Provenance
from schemas.anomaly import Anomaly, Kind, Member, Severity
from schemas.documents import Document
from schemas.entries import Position
from schemas.evidence import Action, CauseOption, Evidence, Fact
from schemas.records import RecordBatch, fingerprints
from schemas.samples import Exact, Origin
from schemas.tagmap import Equipment, Tag, TagMap

T0 = 1_760_000_040_000_000_000  # begin of a minute
S = 1_000_000_000
HERE = Position(1, 1)
PUMP = "Acme/Lyon/Util/P1"


def plant(tags: int = 4, **changes: Any) -> TagMap:
    """A map of *tags* tags of one source on one pump."""
    made = [
        Tag(number=i, id=f"t{i}", path=f"{PUMP}/Tag{i}", source="plc", address=str(i), unit="Cel", equipment=PUMP)
        for i in range(tags)
    ]
    return TagMap(
        site="Acme/Lyon", tags=tuple(made), equipment=(Equipment(path=PUMP, equipment_class="PU"),), **changes
    )


def batch(
    tag_map: TagMap,
    tag: Sequence[int],
    source_ns: Sequence[int],
    value: Sequence[float],
    *,
    status: Sequence[int] | None = None,
    flags: Sequence[int] | None = None,
    exact: dict[int, Exact] | None = None,
    server_ns: Sequence[int] | None = None,
    received_ns: int = T0 + 5,
    position: Position = HERE,
    increase: Sequence[float] | None = None,
) -> RecordBatch:
    """A batch as the normalizer makes it."""
    n = len(tag)
    values = np.asarray(value, np.float64)
    codes = np.zeros(n, np.uint32) if status is None else np.asarray(status, np.uint32)
    hashable = {row: item for row, item in (exact or {}).items() if not _unhashable(item)}
    return RecordBatch(
        "plc",
        Origin.LIVE,
        tag_map.revision,
        position,
        received_ns,
        np.asarray(tag, np.int32),
        np.asarray(source_ns, np.int64),
        None if server_ns is None else np.asarray(server_ns, np.int64),
        values,
        codes,
        np.zeros(n, np.uint32) if flags is None else np.asarray(flags, np.uint32),
        fingerprints(values, codes, hashable),
        exact or {},
        increase=None if increase is None else np.asarray(increase, np.float64),
    )


def _unhashable(item: Exact) -> bool:
    return (isinstance(item, str) and any("\ud800" <= ch <= "\udfff" for ch in item)) or (
        isinstance(item, list) and any(isinstance(part, complex) for part in item)
    )


def rows_of(store: Store, text: str) -> list[tuple[Any, ...]]:
    """Rows of any SELECT, on a connection of the read engine."""
    with store._read.connect() as connection:
        return [
            tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)
            for row in connection.execute(sa.text(text))
        ]


def dump(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in one order."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with store._read.connect() as connection:
        for table in METADATA.sorted_tables:
            if table.name == "facts":  # the digest of the views differs by database
                continue
            rows = [
                tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)
                for row in connection.execute(sa.select(table))
            ]
            found[table.name] = sorted(rows, key=repr)
    return found


def anomaly(anomaly_id: str = "a1", revision: int = 1, *, state: str = "open", onset_ns: int = T0) -> Anomaly:
    """One revision of an episode on the pump."""
    member = Member(
        tag_id="t0",
        path=f"{PUMP}/Tag0",
        unit="Cel",
        detector="ewma",
        kind=Kind.MEAN_SHIFT,
        direction="rose",
        onset_ns=onset_ns,
        last_ns=onset_ns + revision * S,
        active=state == "open",
        value=9.0,
        peak=9.5,
        low=1.0,
        high=5.0,
        score=3.0,
    )
    return Anomaly(
        anomaly_id=anomaly_id,
        revision=revision,
        equipment=PUMP,
        state="open" if state == "open" else "closed",
        kind=Kind.MEAN_SHIFT,
        severity=Severity.HIGH,
        ne107="S",
        onset_ns=onset_ns,
        updated_ns=onset_ns + revision * S,
        closed_ns=None if state == "open" else onset_ns + revision * S,
        detector_score=3.0,
        members=(member,),
    )


def evidence(of: Anomaly, record_seq: int = 0) -> Evidence:
    """Evidence with one fact and one cause."""
    return Evidence(
        anomaly_id=of.anomaly_id,
        anomaly_revision=of.revision,
        equipment=of.equipment,
        equipment_class="PU",
        kind=of.kind,
        severity=of.severity,
        ne107=of.ne107,
        at_ns=of.updated_ns,
        record_seq=record_seq,
        facts=(Fact(id="E1", kind="deviation", path=f"{PUMP}/Tag0", direction="rose", value=9.0),),
        causes=(CauseOption(id="bearing", text="worn bearing", mechanism="wear", signs=(), actions=("grease",)),),
        actions=(Action(id="grease", text="Grease the bearing."),),
    )


def annotation(of: Evidence, origin: str = "rules") -> Annotation:
    """An annotation that names the one cause."""
    return Annotation(
        anomaly_id=of.anomaly_id,
        anomaly_revision=of.anomaly_revision,
        evidence_id=of.evidence_id,
        origin="model" if origin == "model" else "rules",
        causes=(Cause(id="bearing", text="worn bearing", mechanism="wear", probability=0.7, cites=("E1",)),),
        actions=("Grease the bearing.",),
        text="The bearing is worn [E1].",
        detector_score=3.0,
        created_ns=T0,
        provenance=Provenance(engine="rules/2"),
    )


def document(name: str = "d1", time: str = "2025-10-09T08:54:00.000000000Z") -> Document:
    """A document without a real body."""
    return Document(
        id=name,
        source="fairlead/Acme/Lyon",
        type="maintenance.request.v1",
        subject=PUMP,
        time=time,
        dataschema="urn:fairlead:maintenance.request.v1",
        data={"request_id": name},
    )
