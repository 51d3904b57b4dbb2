"""A LoRA adapter for a tiny model, written as a GGUF file: random, or one that changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def write_lora(path: Path, *, width: int, layers: int, strength: float = 1.0, rank: int = 4, seed: int = 3) -> Path:
    """Write an adapter of the query projections; *strength* 0 changes nothing."""
    import gguf

    writer: Any = gguf.GGUFWriter(str(path), "llama", use_temp_file=False)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    rng = np.random.default_rng(seed)
    for layer in range(layers):
        down = rng.standard_normal((rank, width)).astype(np.float32)
        up = strength * rng.standard_normal((width, rank)).astype(np.float32)
        writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_a", down)
        writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_b", up.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
