"""Models: imports, decisions, incidents."""

import sqlalchemy as sa

from broker.store.tables.metadata import integer, key, table, text

#: Models that came in from signed media; ``sha256`` and ``body`` are of the manifest, ``rollback`` a reason or empty.
model_imports = table(
    "model_imports",
    key("ordinal"),
    text("name"),
    integer("version"),
    text("sha256"),
    text("main_sha256"),
    text("body"),
    text("signer"),
    text("fingerprint"),
    text("actor"),
    integer("at_ns"),
    text("rollback"),
    sa.Index("model_imports_by_name", "name", "ordinal"),
)
#: Why a model was chosen for a use.
model_decisions = table(
    "model_decisions",
    key("ordinal"),
    text("use_case"),
    text("model"),
    text("body"),
    text("actor"),
    integer("at_ns"),
)
#: What happened to a model in service; ``ended_ns`` NULL: it is still so.
model_incidents = table(
    "model_incidents",
    key("ordinal"),
    text("model_key"),
    text("model"),
    text("kind"),
    text("detail"),
    integer("at_ns"),
    integer("ended_ns", null=True),
    sa.Index("model_incidents_by_key", "model_key", "ordinal"),
)
