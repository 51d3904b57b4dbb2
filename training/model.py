"""
The block of the Mistral architecture: RMSNorm, rotary positions on neighbouring pairs, grouped queries, SwiGLU.

Parameter names are the tensor names of the GGUF file, so that export is a copy.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from training.shape import RMS_EPSILON, ROPE_BASE, Shape


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

    def forward(self, x: Any, cos: Any, sin: Any) -> Any:
        """Hidden states ``[batch, time, width]`` to the same shape; ``cos`` and ``sin`` are ``[time, head / 2]``."""
        batch, time, _ = x.shape
        h = self.attn_norm(x)

        def heads(y: Any, count: int) -> Any:
            return y.view(batch, time, count, self.shape.head).transpose(1, 2)

        def turn(y: Any) -> Any:
            even, odd = y[..., 0::2], y[..., 1::2]
            return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)

        query = turn(heads(self.attn_q(h), self.shape.heads))
        key = turn(heads(self.attn_k(h), self.shape.kv_heads))
        value = heads(self.attn_v(h), self.shape.kv_heads)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        x = x + self.attn_output(seen.transpose(1, 2).reshape(batch, time, -1))
        h = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Transformer(nn.Module):
    """The whole model; ``forward`` gives hidden states, ``output`` makes logits of them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
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
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens: Any) -> Any:
        """Token ids ``[batch, time]`` to hidden states ``[batch, time, width]``."""
        time = tokens.shape[1]
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, self.cos[:time], self.sin[:time])
        return self.output_norm(x)
