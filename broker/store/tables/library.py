"""Imported manuals and maintenance logs."""

import sqlalchemy as sa

from broker.store.tables.metadata import integer, key, table, text

#: The site's own manuals and maintenance logs; ``state``: importing, ready, removed (its passages go by and by).
#: ``equipment`` and ``classes`` are JSON lists of what it is about; both empty: the whole site.
manuals = table(
    "manuals",
    key("manual_id"),
    text("name"),
    text("kind"),
    text("state"),
    text("sha256"),
    integer("size"),
    integer("pages", null=True),
    integer("passages"),
    text("equipment"),
    text("classes"),
    text("actor"),
    integer("imported_ns"),
    sa.Index("manuals_by_name", "name"),
)
#: ``words`` is what the full-text index of the database is made of, ``equipment`` the short name of what an entry of a
#: log is about, in the form of ``manuals.short``; empty where it names none.
passages = table(
    "passages",
    key("passage_id"),
    integer("manual_id"),
    integer("page", null=True),
    integer("line", null=True),
    text("heading"),
    text("text"),
    text("equipment"),
    text("words"),
    sa.Index("passages_by_manual", "manual_id"),
)
