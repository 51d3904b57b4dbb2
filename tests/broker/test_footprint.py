"""Memory given back after a start."""

from __future__ import annotations

import gc

from broker import footprint


def test_what_is_there_is_taken_out_of_later_collections() -> None:
    """Objects alive at the call are frozen, garbage in a cycle is not among them."""
    before = gc.get_freeze_count()
    try:
        footprint.settle()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
