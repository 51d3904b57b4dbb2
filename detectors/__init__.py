"""Deterministic steps from records to findings and anomalies; time passes in ticks only. No I/O, no clock."""
