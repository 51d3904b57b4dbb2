"""Counters and saved state of the store, sources and their clocks, gaps, quarantine, replays."""

import sqlalchemy as sa

from broker.store.tables.metadata import Blob, integer, key, table, text, text_key

#: Counters and the stream position: ``record_seq``, ``outbox_seq``, ``epoch``, ``seq``, …
counters = table("counters", text_key("name"), integer("value"))
#: Of ``facts``: the name that cursors carry, and the options of the last core.
STORE_ID = "store_id"
CONFIGURATION = "configuration"
#: Texts about the store itself: its name, the digest of the views, and what ran last.
facts = table("facts", text_key("name"), text("value"))
#: The saved state of the stages, in named parts.
stages = table("stages", text_key("name"), sa.Column("state", Blob, nullable=False))

sources = table(
    "sources",
    text_key("source"),
    integer("up", null=True),
    text("reason"),
    integer("since_ns", null=True),
    integer("rows"),
    integer("last_received_ns", null=True),
    integer("rejected"),
    integer("quarantined"),
    integer("events", server_default=sa.text("0")),
)
#: How far the clock of a source was ahead of ours, minute by minute of reception.
source_clocks = table(
    "source_clocks",
    key("minute_ns"),
    text_key("source"),
    integer("ahead_ns"),
    integer("beyond_limit"),
    with_rowid=False,
)

#: In the place of ``tags_digest``: events are missing, and no sample of any tag.
EVENTS = "events"
#: ``changed``: place of the gap's begin, end or repair among those of all gaps, in which it is pulled again.
gaps = table(
    "gaps",
    key("gap_id"),
    text("source"),
    text("cause"),
    integer("from_ns"),
    integer("to_ns", null=True),
    integer("whole_source"),
    text("tags_digest"),
    integer("backfilled"),
    text("detail"),
    integer("epoch"),
    integer("seq"),
    integer("changed", server_default=sa.text("0")),
    sa.UniqueConstraint("source", "cause", "from_ns", "tags_digest", name="gaps_identity"),
    sa.Index("gaps_by_end", "to_ns"),
    sa.Index("gaps_by_change", "changed"),
)
gap_tags = table("gap_tags", key("gap_id"), key("tag_id"), with_rowid=False)
quarantine = table(
    "quarantine",
    key("quarantine_id"),
    text("source"),
    text("place"),
    text("reason"),
    sa.Column("raw", Blob, nullable=False),
    integer("received_ns"),
    integer("epoch"),
    integer("seq"),
    sa.Index("quarantine_by_source", "source", "quarantine_id"),
)

#: Runs that made records anew; ``at_ns`` is the wall time of the journal that a running one has come to.
replays = table(
    "replays",
    key("revision"),
    text("state"),
    text("actor"),
    text("reason"),
    text("sources"),
    integer("from_ns"),
    integer("to_ns"),
    sa.Column("map_revision", Blob, nullable=False),
    sa.Column("map_body", Blob, nullable=False),
    integer("started_ns"),
    integer("ended_ns", null=True),
    integer("at_ns", null=True),
    integer("entries"),
    integer("rows"),
    text("detail"),
)
