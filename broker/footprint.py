"""Memory of a process after its start: what reading configuration and tag map took is given back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys


def settle() -> None:
    """
    Collect once, take what stays out of later collections, and hand free memory back.

    Ten thousand tags leave tens of MB of parsed text and models behind, which the C library would keep for itself.
    """
    gc.collect()
    gc.freeze()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other C libraries have none
        if trim is not None:
            trim(0)
