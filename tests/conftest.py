"""Fixtures that every part of the suite uses: free ports, needed programs, waiting for a condition."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from simulators.modbus_server import ModbusServer
from tests.fault_table import figures, scale
from tests.patient_loop import PatientPolicy
from tests.waiting import until, until_async

__all__ = ["figures", "scale"]

# speed is measured in bench/, and a machine may be busy
settings.register_profile("fairlead", settings(), deadline=None)
settings.load_profile("fairlead")
asyncio.set_event_loop_policy(PatientPolicy())

ROOT = Path(__file__).resolve().parent.parent

#: Where Debian puts programs that are not on the path of every user.
_ELSEWHERE = ("/usr/sbin", "/usr/local/sbin")


def _find(program: str) -> str | None:
    found = shutil.which(program) or shutil.which(program, path=os.pathsep.join(_ELSEWHERE))
    if found is None and program in {"postgres", "initdb", "pg_ctl"}:
        homes = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
        found = str(homes[-1]) if homes else None
    return found


@pytest.fixture(scope="session", autouse=True)
def no_modbus_write_in_the_whole_suite() -> Iterator[None]:
    """Whatever the product sent to simulated Modbus servers was a read; their own tests count apart."""
    yield
    assert set(ModbusServer.seen) <= {1, 2, 3, 4, 43}, f"function codes on the wire: {dict(ModbusServer.seen)}"


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """Path of a program; the test is skipped by its name where it is missing, and fails in CI."""

    def find(program: str) -> str:
        path = _find(program)
        if path is not None:
            return path
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is required in CI; .ci/run installs it")
        pytest.skip(f"{program} is not installed")

    return find


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with independent peers and labelled data beside the repository; the test is skipped without it."""
    folder = Path(os.environ.get("FAIRLEAD_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("the shared folder with peers and data is not beside the repository")
    return folder


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Give a loopback TCP port that nobody listens on."""

    def pick() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return pick


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    """Wait until a condition holds, and fail when the time (default 60 s) is up."""
    return until_async


@pytest.fixture
def eventually_sync() -> Callable[..., None]:
    """Like ``eventually``, for tests without an event loop."""
    return until
