"""The worker seen from the core process: start, frames, end. Answers come in any order; the client sorts them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Final

from llm.messages import HEADER, FromWorker, ToWorker, body_length, frame, from_worker
from schemas.errors import WorkerError

#: What the worker may know of our environment: where libraries and devices are, nothing else.
_PASSED: Final = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "LANG", "SYSTEMROOT")
_ROOT: Final = Path(__file__).resolve().parent.parent
_TAIL: Final = 2000


def environment() -> dict[str, str]:
    """Environment of the worker: no secrets; a failed assertion ends at once, without a debugger."""
    kept = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return kept | {
        "PYTHONPATH": str(_ROOT),
        "PYTHONNOUSERSITE": "1",
        "GGML_NO_BACKTRACE": "1",
        "OMP_WAIT_POLICY": "passive",
        "OPENBLAS_NUM_THREADS": "1",
    }


def describe(code: int) -> str:
    """An exit status in words: ``ended by SIGABRT``, ``ended with status 70``."""
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


class WorkerProcess:
    """One life of the worker. Made by :meth:`spawn`; ``close`` must follow."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise WorkerError("the worker was started without pipes")
        self._process = process
        self._in = process.stdin
        self._out = process.stdout
        self._length: int | None = None
        self._tail = b""
        self._listener = asyncio.create_task(self._listen(process.stderr))

    @classmethod
    async def spawn(cls, module: str = "llm.worker") -> WorkerProcess:
        """Start the worker, or the process that speaks to a server. Raises WorkerError if the system refuses."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                module,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(),
            )
        except OSError as error:
            raise WorkerError(f"the worker cannot be started: {error.strerror}") from error
        return cls(process)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process is known to be gone."""
        return self._process.returncode is not None

    async def send(self, message: ToWorker) -> None:
        """Write one frame. Raises WorkerError if the worker is gone."""
        try:
            self._in.write(frame(message))
            await self._in.drain()
        except OSError as error:
            raise WorkerError(await self._gone()) from error

    async def receive(self) -> FromWorker:
        """
        Read one frame. A cancelled call loses nothing: the next one goes on where it stopped.

        Raises:
            WorkerError: the worker is gone, or sent something else.
        """
        try:
            if self._length is None:
                self._length = body_length(await self._out.readexactly(HEADER.size))
            body = await self._out.readexactly(self._length)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise WorkerError(await self._gone()) from error
        self._length = None
        return from_worker(body)

    async def wait(self) -> str:
        """Wait for the end of the process; how it ended, with the last line it printed."""
        code = await self._process.wait()
        await asyncio.wait([self._listener], timeout=1)
        lines = self._tail.decode("utf-8", "replace").strip().splitlines()
        return f"the worker {describe(code)}" + (f": {lines[-1][:200]}" if lines else "")

    async def _gone(self) -> str:
        try:
            async with asyncio.timeout(1):
                return await self.wait()
        except TimeoutError:
            return "the worker closed its output"

    def kill(self) -> None:
        """End the process at once. Never raises."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """End the process and wait for it, also while this task is being cancelled. Never raises."""
        self.kill()
        self._in.close()
        await asyncio.shield(self._process.wait())
        self._listener.cancel()
        await asyncio.wait([self._listener])

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(4096):
            self._tail = (self._tail + data)[-_TAIL:]
