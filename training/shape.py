"""Size of a model, and the constants that writer and training share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RMS_EPSILON: Final = 1e-5
ROPE_BASE: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a model; ``width`` is heads times head size, ``kv_heads`` divides ``heads``."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    context: int

    @property
    def head(self) -> int:
        """Size of one head."""
        return self.width // self.heads

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor, rows first."""
        kv = self.kv_heads * self.head
        block = {
            "attn_norm": (self.width,),
            "attn_q": (self.width, self.width),
            "attn_k": (kv, self.width),
            "attn_v": (kv, self.width),
            "attn_output": (self.width, self.width),
            "ffn_norm": (self.width,),
            "ffn_gate": (self.feed_forward, self.width),
            "ffn_up": (self.feed_forward, self.width),
            "ffn_down": (self.width, self.feed_forward),
        }
        rows: dict[str, tuple[int, ...]] = {"token_embd.weight": (self.vocabulary, self.width)}
        for i in range(self.layers):
            rows |= {f"blk.{i}.{name}.weight": shape for name, shape in block.items()}
        return rows | {"output_norm.weight": (self.width,), "output.weight": (self.vocabulary, self.width)}
