"""Frames between the core process and the worker: four bytes of length, big-endian, then msgpack of one struct."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from schemas.errors import WorkerError, WorkerTimeout

#: Larger frames are refused by both sides.
MAX_FRAME: Final = 1 << 20
HEADER: Final = struct.Struct(">I")


class Setup(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """
    First frame to the worker: which model, and how.

    ``gpu_layers`` -1 means all; ``slots`` 0 leaves the number of sequences side by side to the worker.
    """

    path: str
    sha256: str
    family: str
    style: str
    threads: int
    seed: int
    temperature: float
    context: int
    calibration: float = 1.0
    gpu_layers: int = 0
    slots: int = 1
    adapter: str = ""
    adapter_sha256: str = ""
    adapter_scale: float = 1.0


class Connect(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """
    First frame to the process that speaks to a model server: the address as configured, and the one pinned for it.

    ``ca`` holds PEM certificates, or nothing for the system's. With ``look_s`` above 0 the process only looks, for so
    many seconds, whether the server has the model.
    """

    url: str
    address: str
    model: str
    api_key: str
    ca: str
    seed: int
    temperature: float
    slots: int
    look_s: float = 0.0


class Ready(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The model is loaded; ``sandbox`` says which protections hold, ``slots`` how many requests it takes at once."""

    sha256: str
    model_name: str
    engine: str
    family: str
    load_ms: float
    sandbox: dict[str, str]
    slots: int = 1
    adapter_sha256: str = ""


class Refusal(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """
    The worker ends without a model.

    ``kind``: library, file, memory, checksum, load, vocabulary; of a server: library, certificate, model, schema,
    server, and unreachable, which alone may pass. ``step``: how far a server was reached, see
    :data:`llm.exchange.Step`.
    """

    kind: str
    reason: str
    step: str = ""


class Ask(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """
    One request; ``evidence`` is ``Evidence.body``, ``greedy`` takes the best token whatever the temperature is.

    ``refused`` says why a first answer was refused; a model server is told.
    """

    id: int
    evidence: bytes
    deadline_ms: float
    greedy: bool = False
    refused: str = ""


class Fill(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Fill in a form for a question; each field is (name, options). Answered by a Reply."""

    id: int
    question: str
    fields: list[tuple[str, list[str]]]
    deadline_ms: float


class Reply(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """
    The filled-in form as JSON bytes, and how it came to be (see :class:`llm.decoding.Decoded`).

    A server gives no token ids: its hashes are of the message and the schema, its probabilities may be missing one by
    one, ``model_name`` is the one that it gave with this answer, and ``cut_off`` says that it ended the answer for its
    length; then ``answer`` is empty.
    """

    id: int
    answer: bytes
    probabilities: list[float | None]
    choices: list[tuple[str, float]]
    shares: list[tuple[str, float]]
    tokens: list[int]
    prompt_text: str
    prompt_tokens: int
    prompt_sha256: str
    plan_sha256: str
    prefill_ms: float
    decision_ms: float
    decode_ms: float
    model_name: str = ""
    cut_off: bool = False


class Failure(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """One request failed; the worker goes on. ``late``: because its deadline passed."""

    id: int
    reason: str
    late: bool = False


ToWorker = Setup | Connect | Ask | Fill
FromWorker = Ready | Refusal | Reply | Failure
_ENCODER: Final = msgspec.msgpack.Encoder()
_TO_WORKER: Final[msgspec.msgpack.Decoder[ToWorker]] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: Final[msgspec.msgpack.Decoder[FromWorker]] = msgspec.msgpack.Decoder(FromWorker)


def failed(number: int, error: Exception) -> Failure:
    """What a request is answered with that ended in an error."""
    return Failure(number, str(error)[:300], isinstance(error, WorkerTimeout))


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
