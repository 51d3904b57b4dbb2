"""The worker process: every way in which it and its model file can fail, and what it may not do."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from llm.form import FormField
from llm.messages import Ask, Failure, Ready, Reply, Setup, frame, from_worker
from llm.options import ReasonerOptions
from llm.process import WorkerProcess, environment
from llm.turns import MAX_WAITING
from schemas.annotation import Annotation
from schemas.errors import WorkerTimeout
from schemas.evidence import Evidence
from tests.llm.reasoning import ask, bearing, check_valid, without_signs

__all__ = ["bearing"]

pytestmark = pytest.mark.model


def test_worker_ends_with_its_input(tiny_gguf: Path) -> None:
    """A worker whose client is gone loads, finds its input at an end, and ends well; nothing stays behind."""
    setup = Setup(str(tiny_gguf), "", "auto", "instruct", 1, 7, 0.0, 4096)
    command = [sys.executable, "-P", "-m", "llm.worker"]
    done = subprocess.run(command, input=frame(setup), capture_output=True, env=environment(), timeout=300, check=True)
    assert from_worker(done.stdout[4:]).family == "v3"


def test_core_process_never_loads_the_library() -> None:
    """What the core imports for annotation brings in neither llama.cpp nor numpy."""
    code = "import sys, llm.client; sys.exit('llama_cpp' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment(), timeout=300, check=True)


async def test_no_model_is_rules_without_a_reason(reasoner, bearing: Evidence) -> None:
    """Where no model is configured, rules are no fallback."""
    one = await reasoner(backend="none")
    done = await ask(one, bearing)
    assert (done.origin, done.provenance.fallback_reason) == ("rules", "")
    assert (one.state.status, one.state.fallbacks) == ("off", 0)


@pytest.mark.parametrize("model", ["missing.gguf", "builtin:no-such-model"])
async def test_missing_file_is_off_with_its_reason(reasoner, bearing: Evidence, model: str) -> None:
    """A model that is not there leaves rules, and says so."""
    one = await reasoner(model=model)
    done = await ask(one, bearing)
    assert one.state.status == "off"
    assert model.removeprefix("builtin:") in one.state.reason
    assert done.origin == "rules"
    assert one.state.reason in done.provenance.fallback_reason


async def test_wrong_hash_is_refused_before_the_file_is_parsed(reasoner, tmp_path: Path, bearing, eventually) -> None:
    """Bytes that would not even load are refused for their hash: llama.cpp never saw them."""
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model")
    one = await reasoner(model="bad.gguf", sha256="0" * 64)
    await eventually(lambda: one.state.status == "off")
    assert "sha256" in one.state.reason
    assert (await ask(one, bearing)).origin == "rules"
    assert one.state.crashes == 0


def damaged(kind: str, data: bytes) -> bytes:
    if kind == "truncated":
        return data[: len(data) // 2]
    if kind == "header":
        return data[:200]
    if kind == "counts":
        return data[:8] + b"\xff" * 8 + data[16:]
    first, second = b"<0x41>", b"<0x42>"
    assert data.count(first) == data.count(second) == 1
    return data.replace(second, first)


@pytest.mark.parametrize("kind", ["truncated", "header", "counts", "duplicate"])
async def test_damaged_file_is_quarantined(reasoner, tiny_gguf: Path, tmp_path, bearing, eventually, kind: str) -> None:
    """A file that cannot be loaded, or aborts the process, is given up after two tries; rules go on."""
    (tmp_path / "bad.gguf").write_bytes(damaged(kind, tiny_gguf.read_bytes()))
    one = await reasoner(model="bad.gguf")
    done = await ask(one, bearing)
    assert done.origin == "rules"
    assert done.provenance.fallback_reason
    await eventually(lambda: one.state.status == "quarantined")
    assert one.state.crashes == 2
    assert ("SIGABRT" in one.state.reason) is (kind == "duplicate")
    assert "quarantined" in (await ask(one, bearing)).provenance.fallback_reason


async def test_deadline_of_milliseconds_gives_rules(reasoner, tiny_gguf: Path, bearing: Evidence, eventually) -> None:
    """A deadline that no model can meet is kept, with the reason."""
    one = await reasoner(model=str(tiny_gguf), deadline="2ms")
    await eventually(lambda: one.state.status == "ready")
    done = await ask(one, bearing)
    assert done.origin == "rules"
    assert "deadline" in done.provenance.fallback_reason


@pytest.mark.parametrize("slots", [1, 2])
async def test_worker_says_that_it_was_late(tiny_gguf: Path, bearing: Evidence, slots: int) -> None:
    """A deadline that passes in the worker is told as one; another failure is not."""
    worker = await WorkerProcess.spawn()
    try:
        await worker.send(Setup(str(tiny_gguf), "", "auto", "instruct", 1, 7, 0.0, 4096, slots=slots))
        assert isinstance(await worker.receive(), Ready)
        for body, deadline_ms, late in ((bearing.body, 1.0, True), (b"{}", 30_000.0, False)):
            await worker.send(Ask(1, body, deadline_ms))
            failure = await worker.receive()
            assert isinstance(failure, Failure)
            assert failure.late is late
            assert ("the deadline passed" in failure.reason) is late
    finally:
        await worker.close()


async def test_stuck_worker_is_killed_and_comes_back(reasoner, tiny_gguf: Path, bearing: Evidence, eventually) -> None:
    """A worker that does not answer is killed at the deadline; the next one answers."""
    one = await reasoner(model=str(tiny_gguf), deadline="10s")
    await eventually(lambda: one.worker_pid is not None)
    stuck = psutil.Process(one.worker_pid)
    stuck.suspend()
    done = await ask(one, bearing)
    assert done.origin == "rules"
    assert "deadline of 10 s" in done.provenance.fallback_reason
    assert done.provenance.late
    await eventually(lambda: not stuck.is_running() or stuck.status() == psutil.STATUS_ZOMBIE)
    await eventually(lambda: one.worker_pid not in (None, stuck.pid))
    check_valid(bearing, await ask(one, bearing))
    assert one.state.crashes == 1


async def kill_in_request(one, bearing: Evidence, eventually) -> Annotation:
    await eventually(lambda: one.worker_pid is not None)
    pid = one.worker_pid
    os.kill(pid, signal.SIGSTOP)
    request = asyncio.create_task(ask(one, bearing))
    await eventually(lambda: one.waiting == 1)
    os.kill(pid, signal.SIGKILL)
    return await request


async def test_killed_worker_costs_one_answer(reasoner, tiny_gguf: Path, bearing: Evidence, eventually) -> None:
    """SIGKILL in the middle of a request: rules at once, and a new worker for the next."""
    one = await reasoner(model=str(tiny_gguf))
    done = await kill_in_request(one, bearing, eventually)
    assert done.origin == "rules"
    assert "SIGKILL" in done.provenance.fallback_reason
    check_valid(bearing, await ask(one, bearing))


@pytest.mark.parametrize(("minutes", "status"), [(1, "quarantined"), (6, "ready")])
async def test_three_crashes_in_ten_minutes_quarantine(
    reasoner, tiny_gguf, bearing, eventually, minutes, status
) -> None:
    """Three crashes within ten minutes give the model up; the same three over eighteen minutes do not."""
    now_ns = 0

    def clock() -> int:
        return now_ns

    one = await reasoner(now_ns=clock, model=str(tiny_gguf))
    for crashes in (1, 2, 3):
        await kill_in_request(one, bearing, eventually)
        now_ns += minutes * 60 * 10**9
        await eventually(lambda wanted=crashes: one.state.crashes == wanted)
    await eventually(lambda: one.state.status == status)


async def test_cancelled_request_leaves_the_worker_in_order(
    reasoner, tiny_gguf, bearing, evidences, eventually
) -> None:
    """Giving up on an answer does not shift the answers of those who ask next."""
    one = await reasoner(model=str(tiny_gguf))
    await eventually(lambda: one.worker_pid is not None)
    pid = one.worker_pid
    await ask(one, bearing)
    os.kill(pid, signal.SIGSTOP)
    for evidence in evidences[:6]:
        request = asyncio.create_task(ask(one, evidence))
        await eventually(lambda: one.waiting == 1)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    os.kill(pid, signal.SIGCONT)
    check_valid(bearing, await ask(one, bearing))
    assert one.worker_pid == pid


async def test_full_queue_answers_by_rules(reasoner, tiny_gguf: Path, bearing: Evidence, eventually) -> None:
    """One more than may wait is answered at once, by rules."""
    one = await reasoner(model=str(tiny_gguf))
    await eventually(lambda: one.worker_pid is not None)
    os.kill(one.worker_pid, signal.SIGSTOP)
    waiting = [asyncio.create_task(ask(one, bearing)) for _ in range(MAX_WAITING)]
    await eventually(lambda: one.waiting == MAX_WAITING)
    assert "waiting" in (await ask(one, bearing)).provenance.fallback_reason
    os.kill(one.worker_pid, signal.SIGCONT)
    assert {a.origin for a in await asyncio.gather(*waiting)} == {"model"}


@pytest.mark.parametrize("moment", ["at once", "ready", "in request"])
async def test_close_leaves_no_child(reasoner, tiny_gguf: Path, bearing: Evidence, eventually, moment: str) -> None:
    """Whenever it is closed, the worker is gone, and rules answer afterwards."""
    before = set(psutil.Process().children())
    one = await reasoner(model=str(tiny_gguf))
    request = None
    if moment != "at once":
        await eventually(lambda: one.worker_pid is not None)
    if moment == "in request":
        os.kill(one.worker_pid, signal.SIGSTOP)
        request = asyncio.create_task(ask(one, bearing))
        await eventually(lambda: one.waiting == 1)
    await one.close()
    await one.close()
    assert set(psutil.Process().children()) <= before
    if request is not None:
        assert (await request).origin == "rules"
    assert (await ask(one, bearing)).origin == "rules"


async def test_worker_knows_no_secret_and_has_no_network(reasoner, tiny_gguf, eventually, monkeypatch) -> None:
    """The environment is ours to give; where the kernel allows, the worker's network namespace is its own."""
    monkeypatch.setenv("FAIRLEAD_STORE_PASSWORD", "canary-1234")
    one = await reasoner(model=str(tiny_gguf))
    await eventually(lambda: one.worker_pid is not None)
    process = psutil.Process(one.worker_pid)
    assert "canary-1234" not in "".join(process.environ().values())
    assert process.environ()["GGML_NO_BACKTRACE"] == "1"
    assert process.nice() >= 10
    own = Path("/proc/self/ns/net").readlink()
    if one.state.sandbox["network"] == "none":
        assert Path(f"/proc/{process.pid}/ns/net").readlink() != own
    else:
        assert one.state.sandbox["network"].startswith("shared: ")


def test_missing_library_is_told(tmp_path: Path) -> None:
    """Without llama-cpp-python the worker says so and ends well."""
    (tmp_path / "any.gguf").write_bytes(b"GGUF")
    setup = Setup(str(tmp_path / "any.gguf"), "", "auto", "instruct", 1, 7, 0.0, 4096)
    code = "import sys; sys.modules['llama_cpp'] = None; from llm.worker import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=frame(setup),
        capture_output=True,
        env=environment(),
        timeout=300,
        check=True,
    )
    (length,) = struct.unpack(">I", done.stdout[:4])
    assert length == len(done.stdout) - 4
    refusal = from_worker(done.stdout[4:])
    assert refusal.kind == "library"
    assert "llama-cpp-python is not installed" in refusal.reason


@pytest.mark.parametrize(
    "wrong",
    [{"deadline": 45}, {"deadline": "0s"}, {"sha256": "abc"}, {"threads": 0}, {"modell": "x"}, {"family": "v9"}],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    """Unknown keys and impossible values are errors."""
    with pytest.raises(ValidationError):
        ReasonerOptions.model_validate(wrong)


async def test_requests_go_side_by_side(reasoner, tiny_gguf: Path, evidences, eventually) -> None:
    """Several slots on the CPU: all twenty at once, each its own answer, fewer waits than one after another."""
    one = await reasoner(model=str(tiny_gguf), slots=4)
    await eventually(lambda: one.state.status == "ready")
    assert one.slots == 4
    blind = [without_signs(evidence) for evidence in evidences]
    done = await asyncio.gather(*(ask(one, evidence) for evidence in blind))
    for evidence, annotation in zip(blind, done, strict=True):
        check_valid(evidence, annotation)
        assert annotation.provenance.slots == 4
    assert (one.state.answered, one.state.fallbacks, one.state.crashes) == (20, 0, 0)
    fields = [FormField("form", ("why", "what"))]
    assert (await one.fill("why?", fields, 20))["form"] in fields[0].options


async def test_late_request_costs_no_other(reasoner, tiny_gguf: Path, bearing: Evidence, eventually) -> None:
    """Several slots: one with too short a time ends by its deadline beside one that comes to its end."""
    one = await reasoner(model=str(tiny_gguf), slots=2)
    await eventually(lambda: one.worker_pid is not None)
    pid = one.worker_pid
    # far more passes than fit into three milliseconds
    fields = [FormField(f"f{i}", tuple(f"{word:060d}" for word in range(40))) for i in range(8)]
    late, good = await asyncio.gather(one.fill("why?", fields, 0.003), ask(one, bearing), return_exceptions=True)
    assert isinstance(late, WorkerTimeout)
    check_valid(bearing, good)
    assert one.worker_pid == pid


async def test_killed_worker_fails_all_that_it_had(reasoner, tiny_gguf: Path, bearing: Evidence, eventually) -> None:
    """SIGKILL with several in the making: rules for each of them, and the next worker serves."""
    one = await reasoner(model=str(tiny_gguf), slots=3)
    await eventually(lambda: one.worker_pid is not None)
    os.kill(one.worker_pid, signal.SIGSTOP)
    waiting = [asyncio.create_task(ask(one, bearing)) for _ in range(3)]
    await eventually(lambda: one.waiting == 3)
    os.kill(one.worker_pid, signal.SIGKILL)
    for done in await asyncio.gather(*waiting):
        assert done.origin == "rules"
        assert "SIGKILL" in done.provenance.fallback_reason
    check_valid(bearing, await ask(one, bearing))
    assert one.state.crashes == 1


async def test_second_answer_takes_the_best_tokens(tiny_gguf: Path, bearing: Evidence) -> None:
    """Asked again after a refusal, a worker with a temperature writes what one without writes; at first it does not."""

    async def tokens(temperature: float, *, greedy: bool) -> list[int]:
        worker = await WorkerProcess.spawn()
        try:
            await worker.send(Setup(str(tiny_gguf), "", "auto", "instruct", 1, 7, temperature, 4096))
            assert isinstance(await worker.receive(), Ready)
            await worker.send(Ask(1, bearing.body, 30_000, greedy=greedy))
            reply = await worker.receive()
            assert isinstance(reply, Reply)
            return reply.tokens
        finally:
            await worker.close()

    plain = await tokens(0.0, greedy=False)
    assert await tokens(2.0, greedy=True) == plain
    assert await tokens(2.0, greedy=False) != plain


async def test_model_beyond_the_memory_is_refused_before_it_is_read(
    reasoner, tmp_path: Path, bearing, eventually
) -> None:
    """A file that says four terabytes: neither hashed nor loaded; the reason says how much there is and what to do."""
    with (tmp_path / "big.gguf").open("wb") as file:
        file.write(b"GGUF")
        file.truncate(4 << 40)
    one = await reasoner(model="big.gguf")
    await eventually(lambda: one.state.status == "off")
    assert "needs about 5277.7 GB of memory" in one.state.reason
    assert "smaller model" in one.state.reason
    assert one.state.crashes == 0
    assert (await ask(one, bearing)).origin == "rules"


FOREIGN = {
    "architecture": (b"\x05\x00\x00\x00\x00\x00\x00\x00llama", b"\x05\x00\x00\x00\x00\x00\x00\x00alien"),
    "frame": (b"[INST]", b"[XNST]"),
}


@pytest.mark.parametrize(("kind", "says"), [("architecture", "alien"), ("frame", "[INST]")])
async def test_foreign_model_is_told(reasoner, tiny_gguf: Path, tmp_path, bearing, eventually, kind: str, says) -> None:
    """A sound file of another architecture, or of another family of models: given up with what is missing."""
    data, (old, new) = tiny_gguf.read_bytes(), FOREIGN[kind]
    assert old in data
    (tmp_path / "foreign.gguf").write_bytes(data.replace(old, new, 1))
    one = await reasoner(model="foreign.gguf")
    await eventually(lambda: one.state.status == "quarantined")
    assert says in one.state.reason
    assert (await ask(one, bearing)).origin == "rules"
