"""
Tables of the store, a module a subject; times are UTC ns.

Who imports one table has all of them in ``METADATA``, which Alembic compares with the migrations.
"""

from broker.store.tables.alarms import events
from broker.store.tables.episodes import (
    annotation_attempts,
    annotations,
    anomalies,
    anomaly_revisions,
    evidence,
    outbox,
    reviews,
    suppressions,
)
from broker.store.tables.library import manuals, passages
from broker.store.tables.metadata import METADATA
from broker.store.tables.models import model_decisions, model_imports, model_incidents
from broker.store.tables.operation import (
    CONFIGURATION,
    EVENTS,
    STORE_ID,
    counters,
    facts,
    gap_tags,
    gaps,
    quarantine,
    replays,
    source_clocks,
    sources,
    stages,
)
from broker.store.tables.people import audit, users
from broker.store.tables.values import (
    equipment,
    maps,
    newest,
    record_blocks,
    records,
    rollup_1h,
    rollup_1m,
    stale_buckets,
    status_names,
    tag_meanings,
    tags,
)

__all__ = [
    "CONFIGURATION",
    "EVENTS",
    "METADATA",
    "STORE_ID",
    "annotation_attempts",
    "annotations",
    "anomalies",
    "anomaly_revisions",
    "audit",
    "counters",
    "equipment",
    "events",
    "evidence",
    "facts",
    "gap_tags",
    "gaps",
    "manuals",
    "maps",
    "model_decisions",
    "model_imports",
    "model_incidents",
    "newest",
    "outbox",
    "passages",
    "quarantine",
    "record_blocks",
    "records",
    "replays",
    "reviews",
    "rollup_1h",
    "rollup_1m",
    "source_clocks",
    "sources",
    "stages",
    "stale_buckets",
    "status_names",
    "suppressions",
    "tag_meanings",
    "tags",
    "users",
]
