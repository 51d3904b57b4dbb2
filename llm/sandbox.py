"""
What the worker gives up before it opens a model file: network, priority, files, core dumps.

Every step is tried and reported; a kernel or container that refuses one does not stop the worker.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

_NEW_USER: Final = 0x10000000
_NEW_NET: Final = 0x40000000
_SET_NO_NEW_PRIVILEGES: Final = 38
_NICE: Final = 10
_OPEN_FILES: Final = 64
#: Address space beyond three times the model file: libraries, cache, work buffers.
_BASE_MEMORY: Final = 8 << 30


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _no_network() -> str:
    """Enter an empty network namespace, directly or in a user namespace of its own."""
    if not sys.platform.startswith("linux"):
        return "shared: not Linux"
    libc = _libc()
    for flags in (_NEW_NET, _NEW_USER | _NEW_NET):
        if libc.unshare(flags) == 0:
            return "none"
    return f"shared: {os.strerror(ctypes.get_errno())}"


def _no_new_privileges() -> str:
    if not sys.platform.startswith("linux"):
        return "allowed: not Linux"
    return "refused" if _libc().prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 else "allowed"


def _priority() -> str:
    try:
        return f"nice {os.nice(_NICE)}"
    except (AttributeError, OSError) as error:
        return f"normal: {error}"


def _limits(model_bytes: int) -> str:
    try:
        import resource
    except ImportError:
        return "none: no resource module"
    wanted = {
        "core": (resource.RLIMIT_CORE, 0),
        "file size": (resource.RLIMIT_FSIZE, 0),
        "open files": (resource.RLIMIT_NOFILE, _OPEN_FILES),
        "memory": (resource.RLIMIT_AS, 3 * model_bytes + _BASE_MEMORY),
    }
    held = []
    for name, (which, limit) in wanted.items():
        hard = resource.getrlimit(which)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        try:
            resource.setrlimit(which, (limit, limit))
            held.append(name)
        except (OSError, ValueError):
            continue
    return ", ".join(held) or "none"


def enter(model_bytes: int) -> dict[str, str]:
    """
    Give everything up; what holds, by name.

    Call before a second thread exists: a user namespace is entered by single-threaded processes only.
    """
    return {
        "network": _no_network(),
        "privileges": _no_new_privileges(),
        "priority": _priority(),
        "limits": _limits(model_bytes),
    }
