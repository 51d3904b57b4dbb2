"""Frames between the core process and the worker: four bytes of length, big-endian, then msgpack of one struct."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from schemas.errors import WorkerError

#: Larger frames are refused by both sides.
MAX_FRAME: Final = 1 << 20
HEADER: Final = struct.Struct(">I")


class Setup(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """First frame to the worker: which model, and how."""

    path: str
    sha256: str
    family: str
    style: str
    threads: int
    seed: int
    temperature: float
    context: int


class Ready(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The model is loaded; ``sandbox`` says which protections hold."""

    sha256: str
    model_name: str
    engine: str
    family: str
    load_ms: float
    sandbox: dict[str, str]


class Refusal(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The worker ends without a model. ``kind``: library, file, checksum, load, vocabulary."""

    kind: str
    reason: str


class Ask(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """One request; ``evidence`` is ``Evidence.body``."""

    id: int
    evidence: bytes
    deadline_ms: float


class Fill(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Fill in a form for a question; each field is (name, options). Answered by a Reply."""

    id: int
    question: str
    fields: list[tuple[str, list[str]]]
    deadline_ms: float


class Reply(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The filled-in form as JSON bytes, and how it came to be (see :class:`llm.decoding.Decoded`)."""

    id: int
    answer: bytes
    probabilities: list[float]
    choices: list[tuple[str, float]]
    tokens: list[int]
    prompt_text: str
    prompt_tokens: int
    prompt_sha256: str
    plan_sha256: str
    prefill_ms: float
    decode_ms: float


class Failure(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """One request failed; the worker goes on."""

    id: int
    reason: str


ToWorker = Setup | Ask | Fill
FromWorker = Ready | Refusal | Reply | Failure
_ENCODER: Final = msgspec.msgpack.Encoder()
_TO_WORKER: Final[msgspec.msgpack.Decoder[ToWorker]] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: Final[msgspec.msgpack.Decoder[FromWorker]] = msgspec.msgpack.Decoder(FromWorker)


def frame(message: ToWorker | FromWorker) -> bytes:
    """One message with its header. Raises WorkerError if it is too large."""
    body = _ENCODER.encode(message)
    if len(body) > MAX_FRAME:
        raise WorkerError(f"a message of {len(body)} bytes is over the limit")
    return HEADER.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """Length that a header announces. Raises WorkerError if it is over the limit."""
    (length,) = HEADER.unpack(header)
    if length > MAX_FRAME:
        raise WorkerError(f"a frame announces {length} bytes")
    return int(length)


def to_worker(body: bytes) -> ToWorker:
    """A message to the worker. Raises msgspec.DecodeError on anything else."""
    return _TO_WORKER.decode(body)


def from_worker(body: bytes) -> FromWorker:
    """A message of the worker. Raises WorkerError on anything else."""
    try:
        return _FROM_WORKER.decode(body)
    except ValueError as error:  # msgspec: DecodeError, and UnicodeDecodeError for text that is not UTF-8
        raise WorkerError(f"the worker sent no valid message: {error}") from error
