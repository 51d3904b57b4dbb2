"""Events and alarms of servers."""

import sqlalchemy as sa

from broker.store.tables.metadata import integer, key, table, text

#: Events of servers, in the order in which they came; ``fingerprint`` is over what two events of one time differ in.
#: ``server_ts`` is the ReceiveTime of the server; the two-state variables are 0, 1 or NULL. ``revision`` counts the
#: corrections of an event after it was stored: each is a row behind all others, so that a pull meets it.
events = table(
    "events",
    key("seq"),
    text("source"),
    integer("time_ns"),
    integer("fingerprint"),
    integer("server_ts", null=True),
    integer("received_ts"),
    text("notifier"),
    text("equipment"),
    text("event_id"),
    text("event_type"),
    text("type_name"),
    text("source_node"),
    text("source_name"),
    integer("severity"),
    text("message"),
    integer("flags"),
    text("condition_id", null=True),
    text("condition_name", null=True),
    text("branch_id", null=True),
    integer("retain", null=True),
    integer("enabled", null=True),
    integer("acked", null=True),
    integer("confirmed", null=True),
    integer("active", null=True),
    text("state", null=True),
    integer("last_severity", null=True),
    integer("quality", null=True),
    text("comment", null=True),
    text("user_name", null=True),
    text("fields"),
    integer("revision", server_default=sa.text("0")),
    sa.UniqueConstraint("source", "time_ns", "fingerprint", "revision", name="events_redelivered"),
    sa.Index("events_by_equipment", "equipment", "time_ns"),
    sa.Index("events_by_time", "time_ns"),
)
