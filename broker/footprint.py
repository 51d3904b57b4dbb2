"""
Memory of a process: little is loaded that is needed once, and what a start took is given back to the system.

Source of the options: mallopt(3) of glibc; other C libraries have none of this, and nothing is done there.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
#: Blocks of this size on are mapped by themselves and go back to the system when they are freed.
_MAPPED_BYTES: Final = 256 << 10
#: Free memory that the top of the heap may keep.
_KEPT_BYTES: Final = 2 << 20


def confine() -> None:
    """
    Let all threads share one heap; to be called before there are any.

    The C library would give each thread a heap of its own, and what one has freed is of no use to the others: core
    held twice what it used.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def settle() -> None:
    """
    Collect once, take what stays out of later collections, and hand free memory back.

    Ten thousand tags leave tens of MB of parsed text and models behind, which the C library would keep for itself.
    """
    gc.collect()
    gc.freeze()
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def apart(function: Callable[[], T]) -> T:
    """
    What *function* returns or raises, run in a copy of this process, so that what it loads and leaves goes with it.

    For work at the start that needs much and gives little; the result, or the error, must be picklable. In this process
    where a copy is not to be had: on systems without fork, beside other threads, or when the copy was killed.
    """
    if not hasattr(os, "fork") or threading.active_count() > 1:
        return function()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _answer(function, write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if not answer:
        return function()
    done, result = pickle.loads(answer)  # noqa: S301 - bytes of our own copy
    if not done:
        raise result
    return result  # type: ignore[no-any-return]


def _answer(function: Callable[[], Any], write: int) -> None:
    """Send the result and end, whatever happens; nothing at all says that there is none."""
    try:
        try:
            answer = pickle.dumps((True, function()))
        except Exception as error:  # noqa: BLE001 - it is raised on the other side
            answer = pickle.dumps((False, error))
        with os.fdopen(write, "wb") as pipe:
            pipe.write(answer)
        sys.stderr.flush()
    finally:
        os._exit(0)


def _glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
