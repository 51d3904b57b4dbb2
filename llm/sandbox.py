"""
What a process gives up before it opens a model file, or listens to a server: priority, files, core dumps, and the
worker its network.

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
_GPU_FILES: Final = 512
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


def _limits(memory: int | None, open_files: int = _OPEN_FILES) -> str:
    try:
        import resource
    except ImportError:
        return "none: no resource module"
    wanted = {
        "core": (resource.RLIMIT_CORE, 0),
        "file size": (resource.RLIMIT_FSIZE, 0),
        "open files": (resource.RLIMIT_NOFILE, open_files),
    }
    if memory is not None:
        wanted["memory"] = (resource.RLIMIT_AS, memory)
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


def enter(model_bytes: int, *, gpu: str = "off") -> dict[str, str]:
    """
    Give everything up; what holds, by name.

    Call before a second thread exists: a user namespace is entered by single-threaded processes only. With *gpu* "on"
    memory is not bounded, because a driver reserves far more addresses than it uses, and more files may be open.
    """
    on = gpu == "on"
    return {
        "network": _no_network(),
        "privileges": _no_new_privileges(),
        "priority": _priority(),
        "limits": _limits(None if on else 3 * model_bytes + _BASE_MEMORY, _GPU_FILES if on else _OPEN_FILES),
    }


def enter_speaker(memory: int) -> dict[str, str]:
    """What the process that speaks to a model server gives up; it keeps the network, and its guard holds that."""
    return {
        "network": "one pinned address",
        "privileges": _no_new_privileges(),
        "priority": _priority(),
        "limits": _limits(memory),
    }
