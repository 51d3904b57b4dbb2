"""The OT side: adapters, the one loop that runs them, and the journal's writer, in one process."""
