"""The pipe as the processes at its far end see it: frames in, frames out, and nothing else on standard output."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO, NoReturn

from llm.messages import FromWorker, ToWorker, body_length, frame, to_worker

Sender = Callable[[FromWorker], None]


def take_output() -> BinaryIO:
    """
    Standard output for frames alone: what a library prints goes to standard error from now on.

    Ctrl-C in a terminal reaches every process of the group; this one ends when its input ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sink


def leave(code: int) -> NoReturn:
    """End at once: the thread that reads holds the lock of standard input, at which an ordered end would abort."""
    sys.stderr.flush()
    os._exit(code)


def receive(source: BinaryIO) -> ToWorker | None:
    """The next frame; None at the end of the input. Raises WorkerError or msgspec.DecodeError on anything else."""
    header = source.read(4)
    if len(header) < 4:
        return None
    return to_worker(source.read(body_length(header)))


def sender(sink: BinaryIO) -> Sender:
    """A function that writes one frame at once."""

    def send(message: FromWorker) -> None:
        sink.write(frame(message))
        sink.flush()

    return send


def frames_into(source: BinaryIO, take: Callable[[ToWorker | None], object]) -> None:
    """
    Read frames in a thread of their own and hand each to *take*; None is the last, also after a frame that is none.

    Start it after the sandbox: a user namespace is entered by single-threaded processes only.
    """

    def read() -> None:
        message: ToWorker | None = None
        # the loop that takes them may be closed already
        with contextlib.suppress(RuntimeError):
            try:
                while (message := receive(source)) is not None:
                    take(message)
            finally:
                take(None)

    threading.Thread(target=read, name="frames", daemon=True).start()
