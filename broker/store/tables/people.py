"""People and the audit chain."""

from broker.store.tables.metadata import integer, key, table, text, text_key

users = table("users", text_key("name"), text("roles"), text("password_hash"), integer("disabled"))
audit = table(
    "audit",
    key("audit_id"),
    integer("at_ns"),
    text("actor"),
    text("action"),
    text("object_id"),
    text("detail"),
    text("prev_hash"),
    text("hash"),
)
