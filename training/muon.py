"""
Momentum whose steps are made orthogonal: for weight matrices it learns from fewer examples than AdamW does.

Source: Jordan and others, "Muon: an optimizer for hidden layers in neural networks" (2024); coefficients from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch

_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
_TURNS: Final = 5


def orthogonal(matrix: Any, kind: Any = torch.bfloat16) -> Any:
    """The nearest matrix with equal singular values, about; by a quintic Newton-Schulz iteration, in *kind*."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(kind)
    x = x / (x.norm() + 1e-7)
    for _ in range(_TURNS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, then :func:`orthogonal` in *kind*; weight decay is decoupled."""

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        kind: Any = torch.bfloat16,
    ) -> None:
        self._kind = kind
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # noqa: ARG002 - the signature of torch
        """One step."""
        for group in self.param_groups:
            for p in group["params"]:
                kept = self.state[p].setdefault("momentum", torch.zeros_like(p))
                kept.lerp_(p.grad, 1 - group["momentum"])
                step = orthogonal(p.grad.lerp(kept, group["momentum"]), self._kind)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(step, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)
