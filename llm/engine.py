"""
llama.cpp through the low-level bindings of llama-cpp-python. The only module that imports ``llama_cpp``.

The library's ``Llama`` class is not used: a malformed grammar is a segmentation fault there, an empty one means
unconstrained output, and the grammar runs over the whole vocabulary for each token.
"""

from __future__ import annotations

import ctypes
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import llama_cpp as _llama
import numpy as np

from llm.base import Chunk, DeadlineExceeded, EngineBroken, EngineError, Logits, NoRoom

VERSION: Final = f"llama-cpp-python {_llama.__version__}"
#: Tokens of one forward pass; also bounds the time between two looks at the deadline on a GPU.
BATCH: Final = 512
#: Candidates asked of the grammar before the whole vocabulary is.
_SHORT_LIST: Final = 64
_ERROR_LEVEL: Final = 4
#: More layers than any model has.
_ALL_LAYERS: Final = 999
#: Room in the cache that each sequence beyond the first brings along: a long prompt and its answer.
_MORE: Final = 1536
_CANDIDATE: Final = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])  # layout of llama_token_data
_ERRORS: Final[deque[str]] = deque(maxlen=5)
#: Compiled with Intel's matrix tiles (trap L7): under some hypervisors processor and kernel both offer them, and their
#: first instruction ends the process. llama.cpp's other kernels do the same work.
_AMX: Final = b"AMX_INT8 = 1" in _llama.llama_print_system_info()


def _keep_errors(level: int, text: bytes, _user: object) -> None:
    if level == _ERROR_LEVEL:
        _ERRORS.append(text.decode("utf-8", "replace").strip())


_LOG: Final = _llama.llama_log_callback(_keep_errors)


def gpu_built() -> bool:
    """Whether the library was built for a GPU and finds one."""
    return bool(_llama.llama_supports_gpu_offload())


def _why() -> str:
    # the first says what is wrong, those after it that loading failed
    return f": {_ERRORS[0][:200]}" if _ERRORS else ""


class Model:
    """
    A model file and one context with one or more sequences. Implements :class:`llm.base.LanguageModel`.

    Not thread-safe (trap L6). A damaged file may abort the process here (trap L1): load only in the worker.

    Args:
        path: GGUF file.
        threads: threads of a forward pass.
        context: longest sequence in tokens; the model's own limit, if smaller, holds.
        gpu_layers: layers on a GPU, -1 for all; nothing where the library was built for the CPU.
        sequences: sequences in the cache. More than one share its room, which grows with their number.
        adapter: LoRA adapter (GGUF) and how strongly it works.

    Raises:
        EngineError: llama.cpp refuses the file, the adapter or the context.
    """

    n_batch = BATCH

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        context: int = 4096,
        gpu_layers: int = 0,
        sequences: int = 1,
        adapter: tuple[Path, float] | None = None,
    ) -> None:
        self._model: Any = None
        self._ctx: Any = None
        self._batch: Any = None
        self._deadline: float | None = None
        self._sequences = sequences
        _llama.llama_log_set(_LOG, ctypes.c_void_p(0))
        _llama.llama_backend_init()
        _ERRORS.clear()
        wanted = _llama.llama_model_default_params()
        wanted.n_gpu_layers = (gpu_layers if gpu_layers >= 0 else _ALL_LAYERS) if gpu_built() else 0
        wanted.use_extra_bufts = not _AMX
        self._model = _llama.llama_model_load_from_file(str(path).encode(), wanted)
        if not self._model:
            raise EngineError(f"llama.cpp refuses the model file{_why()}")
        self._vocab = _llama.llama_model_get_vocab(self._model)
        if _llama.llama_vocab_type(self._vocab) == _llama.LLAMA_VOCAB_TYPE_NONE:
            self.close()
            raise EngineError("the model file has no vocabulary")
        settings = _llama.llama_context_default_params()
        longest = min(context, max(256, _llama.llama_model_n_ctx_train(self._model)))
        settings.n_ctx = longest + (sequences - 1) * min(longest, _MORE)
        settings.n_batch = settings.n_ubatch = BATCH
        settings.n_seq_max = sequences
        settings.kv_unified = True  # a copied sequence then shares the cells of its source
        settings.n_threads = settings.n_threads_batch = threads
        settings.no_perf = True
        self._ctx = _llama.llama_init_from_model(self._model, settings)
        if not self._ctx:
            self.close()
            raise EngineError(f"llama.cpp makes no context{_why()}")
        if adapter is not None:
            self._adapt(*adapter)
        self.n_vocab = int(_llama.llama_vocab_n_tokens(self._vocab))
        self.n_context = min(int(longest), int(_llama.llama_n_ctx(self._ctx)))
        self._memory = _llama.llama_get_memory(self._ctx)
        self._batch = _llama.llama_batch_init(BATCH, 0, 1)
        # the callback object must outlive the context, which keeps a bare pointer to it
        self._abort = _llama.ggml_abort_callback(lambda _: self._late())
        _llama.llama_set_abort_callback(self._ctx, self._abort, None)
        self._pieces: dict[int, bytes] = {}

    def _adapt(self, path: Path, scale: float) -> None:
        """Let a LoRA adapter work on the context; it is freed with the model. Raises EngineError."""
        adapter = _llama.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            self.close()
            raise EngineError(f"llama.cpp refuses the adapter for this model{_why()}")
        if _llama.llama_adapter_get_alora_n_invocation_tokens(adapter):
            self.close()
            raise EngineError("the adapter works from an invocation sequence on (aLoRA); prompts here have none")
        adapters = (_llama.llama_adapter_lora_p_ctypes * 1)(adapter)
        if _llama.llama_set_adapters_lora(self._ctx, adapters, 1, (ctypes.c_float * 1)(scale)):
            self.close()
            raise EngineError(f"llama.cpp cannot use the adapter{_why()}")

    def close(self) -> None:
        """Free the memory. Never raises; nothing else may be called afterwards."""
        if self._batch is not None:
            _llama.llama_batch_free(self._batch)
        if self._ctx:
            _llama.llama_free(self._ctx)
        if self._model:
            _llama.llama_model_free(self._model)
        self._batch = self._ctx = self._model = None

    def metadata(self, key: str) -> str:
        """A text from the file's metadata, at most 255 bytes; empty where there is none."""
        buffer = ctypes.create_string_buffer(256)
        length = _llama.llama_model_meta_val_str(self._model, key.encode(), buffer, 256)
        return buffer.value.decode("utf-8", "replace") if length > 0 else ""

    @property
    def sentencepiece(self) -> bool:
        """Whether the vocabulary is of the SentencePiece kind (v1 to v3), not of the Tekken kind."""
        return bool(_llama.llama_vocab_type(self._vocab) == _llama.LLAMA_VOCAB_TYPE_SPM)

    def encode(self, text: str) -> list[int]:
        """See :class:`llm.base.LanguageModel`."""
        if not text:
            return []
        data = text.encode()
        # A line feed never merges with what follows and takes the space that SentencePiece puts in front, so the
        # tokens after it are those of the text inside a line. Vocabularies that do merge are asked directly.
        feed, both = self._tokenize(b"\n"), self._tokenize(b"\n" + data)
        tokens = both[len(feed) :] if both[: len(feed)] == feed else self._tokenize(data)
        if b"".join(map(self.piece, tokens)) != data or any(self._is_control(t) for t in tokens):
            raise EngineError(f"the vocabulary cannot spell {text[:40]!r}")
        return tokens

    def _tokenize(self, data: bytes, *, special: str = "off") -> list[int]:
        buffer = (_llama.llama_token * (len(data) + 8))()
        n = _llama.llama_tokenize(self._vocab, data, len(data), buffer, len(buffer), False, special == "on")
        if n < 0:
            raise EngineError(f"a text of {len(data)} bytes gives {-n} tokens")
        return list(buffer[:n])

    def _is_control(self, token: int) -> bool:
        return bool(_llama.llama_vocab_is_control(self._vocab, token))

    def control(self, name: str) -> int | None:
        """See :class:`llm.base.LanguageModel`; ``<s>`` is the token that the file declares as beginning."""
        if name == "<s>":
            token = int(_llama.llama_vocab_bos(self._vocab))
            return token if token >= 0 else None
        tokens = [t for t in self._tokenize(name.encode(), special="on") if self.piece(t) != b" "]
        return tokens[0] if len(tokens) == 1 and self._is_control(tokens[0]) else None

    def piece(self, token: int) -> bytes:
        """See :class:`llm.base.LanguageModel`."""
        if token not in self._pieces:
            buffer = ctypes.create_string_buffer(256)
            n = _llama.llama_token_to_piece(self._vocab, token, buffer, 256, 0, False)
            self._pieces[token] = buffer.raw[: max(n, 0)]
        return self._pieces[token]

    def set_deadline(self, at_s: float | None) -> None:
        """See :class:`llm.base.LanguageModel`. Inside a forward pass it is looked at on the CPU only."""
        self._deadline = at_s

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def decode(self, tokens: Sequence[int], position: int, sequence: int = 0) -> Logits:
        """See :class:`llm.base.LanguageModel`."""
        if not tokens:
            raise EngineError("nothing to decode")
        for start in range(0, len(tokens), BATCH):
            part = tuple(tokens[start : start + BATCH])
            last = start + len(part) == len(tokens)
            (found,) = self.forward([Chunk(sequence, part, position + start, last)])
        if found is None:
            raise EngineBroken("llama.cpp gives no logits")
        return found

    def forward(self, chunks: Sequence[Chunk]) -> list[Logits | None]:
        """See :class:`llm.base.LanguageModel`."""
        rows = self._fill(chunks)
        if self._late():
            raise DeadlineExceeded("the deadline passed while the model was thinking")
        code = int(_llama.llama_decode(self._ctx, self._batch))
        if code == 2:
            raise DeadlineExceeded("the deadline passed while the model was thinking")
        if code == 1:
            raise NoRoom("no room left in the model's cache")
        if code == -1:
            raise EngineError("llama.cpp refuses the batch")
        if code:
            raise EngineBroken(f"llama_decode failed with {code}{_why()}")
        return [None if row is None else self._logits(row) for row in rows]

    def _fill(self, chunks: Sequence[Chunk]) -> list[int | None]:
        """Write the batch; the row of each chunk's last token where its logits are wanted."""
        batch, i = self._batch, 0
        rows: list[int | None] = []
        for chunk in chunks:
            for offset, token in enumerate(chunk.tokens):
                batch.token[i] = token
                batch.pos[i] = chunk.position + offset
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = chunk.sequence
                batch.logits[i] = chunk.wanted and offset == len(chunk.tokens) - 1
                i += 1
            rows.append(i - 1 if chunk.wanted else None)
        batch.n_tokens = i
        return rows

    def _logits(self, row: int) -> Logits:
        pointer = _llama.llama_get_logits_ith(self._ctx, row)
        if not pointer:
            raise EngineBroken("llama.cpp gives no logits")
        logits: Logits = np.ctypeslib.as_array(pointer, shape=(self.n_vocab,))
        return logits

    def rewind(self, position: int, sequence: int = 0) -> bool:
        """See :class:`llm.base.LanguageModel`; caches with a sliding window cannot be cut and are emptied."""
        if position and _llama.llama_memory_seq_rm(self._memory, sequence, position, -1):
            return True
        if self._sequences == 1:
            _llama.llama_memory_clear(self._memory, True)
        else:
            _llama.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return position == 0

    def copy(self, source: int, target: int) -> None:
        """See :class:`llm.base.LanguageModel`."""
        _llama.llama_memory_seq_rm(self._memory, target, -1, -1)
        _llama.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def grammar(self, gbnf: str) -> GrammarState:
        """See :class:`llm.base.LanguageModel`."""
        return GrammarState(self._vocab, self.n_vocab, gbnf)


class GrammarState:
    """
    A llama.cpp grammar, asked about single candidates first. Implements :class:`llm.base.Grammar`.

    The whole vocabulary costs 6 ms a token at 32 768 entries and 38 ms at 131 072, one candidate 0.016 ms.
    """

    def __init__(self, vocab: Any, n_vocab: int, gbnf: str) -> None:
        self._sampler: Any = None
        self._n_vocab = n_vocab
        if not gbnf.strip():
            raise EngineError("an empty grammar would leave the output unconstrained")
        self._sampler = _llama.llama_sampler_init_grammar(vocab, gbnf.encode(), b"root")
        if not self._sampler:
            raise EngineError("the grammar does not parse")

    def best(self, logits: Logits) -> int:
        """See :class:`llm.base.Grammar`."""
        token = int(logits.argmax())
        if self._allowed(np.asarray([token]), logits) == token:
            return token
        n = min(_SHORT_LIST, self._n_vocab - 1)
        found = self._allowed(np.argpartition(logits, -n)[-n:], logits)
        if found is None:
            found = self._allowed(np.arange(self._n_vocab), logits)
        if found is None:
            raise EngineError("the grammar allows no token of the vocabulary")
        return found

    def _allowed(self, tokens: Any, logits: Logits) -> int | None:
        """The best of some tokens that the grammar allows; the lowest id of equals."""
        tokens = np.sort(tokens)
        rows = (_llama.llama_token_data * len(tokens))()
        view = np.frombuffer(rows, dtype=_CANDIDATE)
        view["id"] = tokens
        view["logit"] = logits[tokens]
        array = _llama.llama_token_data_array(data=rows, size=len(tokens), selected=-1, sorted=False)
        _llama.llama_sampler_apply(self._sampler, ctypes.byref(array))
        best = int(view["logit"].argmax())
        return int(view["id"][best]) if view["logit"][best] > -np.inf else None

    def accept(self, token: int) -> None:
        """See :class:`llm.base.Grammar`."""
        _llama.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        """See :class:`llm.base.Grammar`."""
        if self._sampler:
            _llama.llama_sampler_free(self._sampler)
        self._sampler = None
