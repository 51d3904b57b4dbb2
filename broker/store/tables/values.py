"""
Tag maps, records and roll-ups.

``seq`` is the primary key of records and the pull order; UNIQUE (source_ts, tag_id, fingerprint, revision) begins with
the time because a key in order of arrival is 2-3 times cheaper to fill than one by tag.
No index by tag beside it: with bundles of 10,000 rows of 1,000 tags on SQLite, (tag_id, source_ts) takes the CPU time
of a stored row from 2.1 to 11.2 µs, (tag_id, seq) to 10.5 µs, since every bundle dirties a page a tag; ten minutes of
one such tag (600 of 600,000 rows) take 49 ms to read without it and 15 ms with it.
Records carry no foreign key: PostgreSQL would look it up for every row, and only one writer exists.
"""

import sqlalchemy as sa

from broker.store.tables.metadata import Blob, integer, key, real, table, text, text_key
from broker.store.text import MAX_TEXT

maps = table(
    "maps", sa.Column("revision", Blob, primary_key=True), integer("ordinal"), sa.Column("body", Blob, nullable=False)
)
#: One row a tag and unit, so that a number never gets the unit of a later map; ``former`` 1: the tag has another unit
#: since.
tags = table(
    "tags",
    key("tag_id"),
    text("id"),
    text("path", index=True),
    text("source"),
    text("address"),
    text("type", null=True),
    text("unit"),
    text("role", null=True),
    text("equipment"),
    real("range_low"),
    real("range_high"),
    text("enum", null=True),
    text("description"),
    integer("in_map"),
    integer("former", server_default=sa.text("0")),
    sa.UniqueConstraint("id", "unit", name="tags_identity"),
)
#: What the map said of a tag's values (JSON ``type`` and ``enum``) from a record on. ``revision`` above 0: of what
#: that replay stored; else 0.
tag_meanings = table("tag_meanings", key("tag_id"), key("revision"), key("from_seq"), text("body"), with_rowid=False)
equipment = table("equipment", text_key("path"), text("equipment_class", null=True), text("body"), integer("in_map"))

records = table(
    "records",
    key("seq"),
    integer("source_ts"),
    integer("tag_id"),
    real("value"),
    integer("value_int", null=True),
    text("value_text", null=True),
    integer("status"),
    integer("flags"),
    integer("server_ts", null=True),
    integer("received_ts"),
    integer("fingerprint"),
    integer("revision", server_default=sa.text("0")),
    real("increase"),
    sa.UniqueConstraint("source_ts", "tag_id", "fingerprint", "revision", name="records_redelivered"),
    sa.CheckConstraint(f"length(value_text) <= {MAX_TEXT}", name="records_text_length"),
    sa.CheckConstraint("status BETWEEN 0 AND 4294967295", name="records_status"),
)
#: Between which times the records of ``seq / 65536`` lie.
record_blocks = table("record_blocks", key("block"), integer("first_ns"), integer("last_ns"))


def _rollup(name: str) -> sa.Table:
    """
    ``n`` rows, of which ``n_value`` (finite, not bad) make min to last; ``end_*`` is the newest row of any kind.

    Live rows up to ``counted_seq`` are in it. ``revision`` is 0: a replay corrects buckets in place. ``increase`` is
    the sum of what a counter went on by, NULL for none; the two behind it count rows with these flags.
    """
    return table(
        name,
        key("tag_id"),
        key("bucket_ns"),
        key("revision"),
        integer("n"),
        integer("n_good"),
        integer("n_bad"),
        integer("n_value"),
        real("min"),
        real("max"),
        real("sum"),
        integer("first_ns", null=True),
        real("first"),
        integer("last_ns", null=True),
        real("last"),
        integer("end_ns"),
        integer("end_seq"),
        integer("counted_seq", server_default=sa.text("0")),
        real("increase"),
        integer("counter_resets", server_default=sa.text("0")),
        integer("counter_uncertain", server_default=sa.text("0")),
        with_rowid=False,
    )


rollup_1m = _rollup("rollup_1m")
rollup_1h = _rollup("rollup_1h")
#: Buckets that a replay has corrected rows in, to be made anew; ``level`` 0: minutes, 1: hours.
stale_buckets = table("stale_buckets", key("level"), key("bucket_ns"), key("tag_id"), with_rowid=False)
#: The valid row with the newest device time of each tag.
newest = table("newest", key("tag_id"), integer("source_ts"), integer("seq"))

#: Names of common status codes for the views; filled by the migration.
status_names = table("status_names", key("code"), text("name"))
