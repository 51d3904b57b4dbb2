"""
The block of the Mistral architecture: RMSNorm, rotary positions on neighbouring pairs, grouped queries, SwiGLU.

Parameter names are the tensor names of the GGUF file, so that export is a copy.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from training.shape import RMS_EPSILON, ROPE_BASE, Shape

#: Added to the score of what lies ahead; far below every score, and finite in bfloat16.
_NEVER: Final = -1e4


class Block(nn.Module):
    """One layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv = shape.kv_heads * shape.head
        self.attn_norm = nn.RMSNorm(shape.width, eps=RMS_EPSILON)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, kv, bias=False)
        self.attn_v = nn.Linear(shape.width, kv, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, eps=RMS_EPSILON)
        self.ffn_gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Any, cos: Any, sin: Any, turn: Any, mask: Any, where: Any = None) -> Any:
        """
        Hidden states ``[batch, time, width]`` to the same shape, or to ``[places, width]`` of those in ``where``.

        ``cos`` and ``sin`` are ``[time, head]``, each value twice, ``turn`` is ``[head, head]``, and ``mask``
        ``[time, time]``.
        """
        batch, time, _ = x.shape
        h = self.attn_norm(x)

        def heads(y: Any, count: int) -> Any:
            return y.view(batch, time, count, self.shape.head).transpose(1, 2)

        query, key = heads(self.attn_q(h), self.shape.heads), heads(self.attn_k(h), self.shape.kv_heads)
        query = (query * cos + (query @ turn) * sin) * self.shape.head**-0.5
        key = key * cos + (key @ turn) * sin
        value = heads(self.attn_v(h), self.shape.kv_heads)
        each = self.shape.heads // self.shape.kv_heads
        # queries of one key stand below each other
        query = query.reshape(batch, self.shape.kv_heads, each * time, self.shape.head)
        score = (query @ key.transpose(-1, -2)).view(batch, self.shape.heads, time, time) + mask
        share = score.softmax(-1).view(batch, self.shape.kv_heads, each * time, time)
        seen = (share @ value).view(batch, self.shape.heads, time, self.shape.head)
        x = x + self.attn_output(seen.transpose(1, 2).reshape(batch, time, -1))
        if where is not None:
            x = x[where]
        h = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Transformer(nn.Module):
    """The whole model; ``forward`` gives hidden states, ``output`` makes logits of them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, eps=RMS_EPSILON)
        self.output = nn.Linear(shape.width, shape.vocabulary, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                last = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(parameter, 0, 0.02 / (math.sqrt(2 * shape.layers) if last else 1))
        rate = 1.0 / ROPE_BASE ** (torch.arange(0, shape.head, 2).float() / shape.head)
        angle = torch.outer(torch.arange(shape.context).float(), rate)
        self.register_buffer("cos", angle.cos().repeat_interleave(2, -1), persistent=False)
        self.register_buffer("sin", angle.sin().repeat_interleave(2, -1), persistent=False)
        # (a, b) @ turn is (-b, a): a quarter turn of every neighbouring pair
        turn = torch.zeros(shape.head, shape.head)
        even = torch.arange(0, shape.head, 2)
        turn[even + 1, even], turn[even, even + 1] = -1.0, 1.0
        self.register_buffer("turn", turn, persistent=False)

    def forward(self, tokens: Any, where: Any = None) -> Any:
        """
        Token ids ``[batch, time]`` to hidden states ``[batch, time, width]``.

        With ``where``, bool ``[batch, time]``, to those of its places alone: ``[places, width]``.
        """
        time = tokens.shape[1]
        x = self.token_embd(tokens)
        kind = torch.bfloat16 if torch.is_autocast_enabled("cpu") else x.dtype
        mask = torch.full((time, time), _NEVER, dtype=kind).triu(1)
        cos, sin, turn = (part.to(kind) for part in (self.cos[:time], self.sin[:time], self.turn))
        last = len(self.blk) - 1
        for at, block in enumerate(self.blk):
            x = block(x, cos, sin, turn, mask, where if at == last else None)
        return self.output_norm(x)
