"""
Random weights of the shape of Mistral 7B v0.3, in Q4_0, written one tensor after another: 4.1 GB need 80 MB of memory.

Speed does not depend on what the numbers are. The vocabulary has its size of 32,768, but only the first thousand tokens
spell anything, so a text has more tokens here than with the real one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from numpy.typing import NDArray

from llm.prompt import INSTRUCTIONS
from training.gguf_file import begin
from training.shape import Shape
from training.vocabulary import Vocabulary, make

MISTRAL_7B: Final = Shape(
    width=4096, layers=32, heads=32, kv_heads=8, feed_forward=14336, vocabulary=32_768, context=8192
)
#: The same kind at a two-hundredth of the size, to try the script.
SMALL: Final = Shape(width=512, layers=4, heads=8, kv_heads=2, feed_forward=1536, vocabulary=4096, context=4096)
_BLOCK: Final = 32
_BYTES: Final = 18  # a half-precision scale and 32 numbers of 4 bits
#: Standard deviation of a number drawn evenly from -8 to 7.
_SPREAD: Final = 4.61


def _vocabulary(size: int) -> Vocabulary:
    words = make([INSTRUCTIONS], 1024)
    fill = tuple(f"<unused_{i}>" for i in range(size - len(words.tokens)))
    return Vocabulary(
        (*words.tokens, *fill), (*words.scores, *(-1e6,) * len(fill)), (*words.types, *("UNUSED",) * len(fill))
    )


def _q4(dice: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    """Random Q4_0 blocks whose numbers have the spread of a fresh layer, one over the root of its columns."""
    blocks = columns // _BLOCK
    data = dice.integers(0, 256, (rows, blocks, _BYTES), dtype=np.uint8)
    scale = np.float16(1 / (_SPREAD * np.sqrt(columns)))
    data[:, :, :2] = np.frombuffer(scale.tobytes(), np.uint8)
    return data.reshape(rows, blocks * _BYTES)


def write(path: Path, shape: Shape, seed: int = 1) -> None:
    """Write the file; equal arguments give equal bytes."""
    dice = np.random.default_rng(seed)
    writer: Any = begin(
        path, shape, _vocabulary(shape.vocabulary), name="random", file_type=gguf.LlamaFileType.MOSTLY_Q4_0
    )
    tensors = shape.tensors()
    kind = gguf.GGMLQuantizationType.Q4_0
    for name, size in tensors.items():
        if len(size) == 1:
            writer.add_tensor_info(name, size, np.dtype(np.float32), 4 * size[0])
        else:
            packed = (size[0], size[1] // _BLOCK * _BYTES)
            writer.add_tensor_info(name, packed, np.dtype(np.uint8), packed[0] * packed[1], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for size in tensors.values():
        writer.write_tensor_data(np.ones(size, np.float32) if len(size) == 1 else _q4(dice, *size))
    writer.close()
