"""Deterministic steps from samples to records: clock, quality, scale, report by exception. No I/O, no clock."""
