"""Benchmarks that print figures and ratios; nothing here is asserted in a test."""
