"""
Writes a model of the Mistral architecture (``general.architecture = llama``) as a GGUF file.

The attention of this architecture rotates neighbouring pairs, and so does ``training/model.py``: no permutation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import gguf
import numpy as np
from numpy.typing import NDArray

from training.shape import RMS_EPSILON, ROPE_BASE, Shape
from training.vocabulary import Vocabulary

Quantization = Literal["f32", "q8_0"]
_TYPES: Final = {"f32": gguf.GGMLQuantizationType.F32, "q8_0": gguf.GGMLQuantizationType.Q8_0}
_FILE_TYPES: Final = {"f32": gguf.LlamaFileType.ALL_F32, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}


def random_weights(shape: Shape, seed: int) -> dict[str, NDArray[np.float32]]:
    """Random tensors; norms are ones."""
    rng = np.random.default_rng(seed)
    return {
        name: np.ones(size, np.float32)
        if len(size) == 1
        else (rng.standard_normal(size) / np.sqrt(size[-1])).astype(np.float32)
        for name, size in shape.tensors().items()
    }


def write(
    path: Path,
    shape: Shape,
    vocabulary: Vocabulary,
    weights: Mapping[str, NDArray[np.float32]],
    *,
    name: str,
    quantization: Quantization = "q8_0",
) -> None:
    """
    Write the file; equal arguments give equal bytes.

    Raises:
        KeyError: a tensor is missing from ``weights``.
        ValueError: a tensor has another shape.
    """
    writer = begin(path, shape, vocabulary, name=name, file_type=_FILE_TYPES[quantization])
    for tensor, size in shape.tensors().items():
        array = np.ascontiguousarray(weights[tensor], dtype=np.float32)
        if array.shape != size:
            raise ValueError(f"{tensor} is {array.shape}, not {size}")
        if len(size) == 1 or quantization == "f32":
            writer.add_tensor(tensor, array)
        else:
            kind = _TYPES[quantization]
            writer.add_tensor(tensor, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def begin(path: Path, shape: Shape, vocabulary: Vocabulary, *, name: str, file_type: gguf.LlamaFileType) -> Any:
    """A writer that knows all of a model but its tensors."""
    writer = gguf.GGUFWriter(str(path), "llama", use_temp_file=False)
    writer.add_name(name)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(RMS_EPSILON)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_rope_dimension_count(shape.head)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(int(file_type))
    _add_vocabulary(writer, vocabulary)
    return writer


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    if vocabulary.merges:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("tekken")
        writer.add_token_merges(list(vocabulary.merges))
    else:
        writer.add_tokenizer_model("llama")
        writer.add_unk_token_id(vocabulary.tokens.index("<unk>"))
        writer.add_add_space_prefix(True)
    writer.add_token_list([token.encode() for token in vocabulary.tokens])
    writer.add_token_scores(list(vocabulary.scores))
    writer.add_token_types([int(gguf.TokenType[kind]) for kind in vocabulary.types])
    writer.add_bos_token_id(vocabulary.tokens.index("<s>"))
    writer.add_eos_token_id(vocabulary.tokens.index("</s>"))
    writer.add_add_bos_token(True)
