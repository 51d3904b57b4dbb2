"""Memory: what a start took is given back, what is needed once is done apart, and what is not needed is not loaded."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from broker import footprint
from schemas.errors import ConfigError, Problem

#: A process each, and what it must not have loaded: 5 to 30 MB apiece.
PROCESSES = {
    "supervisor": ("broker.cli.app, broker.supervisor", "numpy pydantic sqlalchemy fastapi asyncua paho yaml pint"),
    "acquire": ("broker.config, broker.acquire.process", "sqlalchemy alembic psycopg fastapi asyncua paho pint"),
    "core": ("broker.config, broker.core.process", "alembic psycopg asyncua paho pint llama_cpp cryptography"),
}


def test_what_is_there_is_taken_out_of_later_collections() -> None:
    """Objects alive at the call are frozen, garbage in a cycle is not among them."""
    before = gc.get_freeze_count()
    try:
        footprint.settle()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_loads_what_it_needs(process: str) -> None:
    """An import at the top of some module is enough to bring a library into a process that has no use for it."""
    modules, unwanted = PROCESSES[process]
    code = f"import {modules}, sys; print(*(set('{unwanted}'.split()) & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)

    assert found.stdout.split() == []


@pytest.fixture(params=["beside a thread", "alone"])
def beside_a_thread(request: pytest.FixtureRequest) -> bool:
    """Whether the code runs beside another thread, where it must not be forked."""
    return request.param == "beside a thread"


def _run(code: str, *, beside_a_thread: bool) -> str:
    """Run *code* behind the imports in a process of its own: a test's process has threads."""
    stop = "end = threading.Event(); waiting = threading.Thread(target=end.wait); waiting.start()\n"
    text = "import os, threading\nfrom broker import footprint\n"
    text += (stop if beside_a_thread else "") + code + ("\nend.set()" if beside_a_thread else "")
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=300, check=True).stdout


def test_work_apart_gives_its_result(*, beside_a_thread: bool) -> None:
    """In a copy of the process, or in it where other threads forbid a copy."""
    code = (
        "here = os.getpid(); value, pid = footprint.apart(lambda: ({'a': 1}, os.getpid())); print(value, pid == here)"
    )

    assert _run(code, beside_a_thread=beside_a_thread).strip() == f"{{'a': 1}} {beside_a_thread}"


def test_work_apart_raises_its_error(*, beside_a_thread: bool) -> None:
    """With everything that the error carries."""
    code = """
from schemas.errors import ConfigError, Problem
def fail():
    raise ConfigError([Problem("a.yaml", 3, 5, "sources.x", "bad_value", "is wrong", "write it right")])
try:
    footprint.apart(fail)
except ConfigError as error:
    print(error.problems[0])
"""
    problem = Problem("a.yaml", 3, 5, "sources.x", "bad_value", "is wrong", "write it right")

    assert _run(code, beside_a_thread=beside_a_thread).strip() == str(ConfigError([problem]).problems[0])


def test_a_copy_that_was_killed_costs_time_only() -> None:
    """Where the copy gives no answer the work is done in the process itself."""
    code = "here = os.getpid(); print(footprint.apart(lambda: os._exit(1) if os.getpid() != here else 'done'))"

    assert _run(code, beside_a_thread=False).strip() == "done"


def test_threads_share_one_heap() -> None:
    """It changes nothing that a program could see, on a C library that knows it and on others."""
    code = """
footprint.confine()
sizes = []
threads = [threading.Thread(target=lambda: sizes.append(len(bytearray(3 << 20)))) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sum(sizes))
"""
    assert _run(code, beside_a_thread=False).strip() == str(4 * (3 << 20))
