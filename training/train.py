"""
Step 2, where torch is: tokens to weights.

    python -m training.train FOLDER [--steps 2500] [--batch 16] [--seed 7]

reads ``corpus.npz``, writes ``weights.npz`` and ``training.json``. Loss only where the model decides; every example is
seen once. Deterministic on one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from training.model import Transformer
from training.shape import Shape

SHAPE: Final = Shape(width=256, layers=3, heads=4, kv_heads=1, feed_forward=512, vocabulary=768, context=512)
_PEAK: Final = 2.0e-3
_WARM_UP: Final = 80
#: Examples sorted by length within so many batches, so that little is padded.
_BUCKET: Final = 32


def batches(corpus: Any, size: int, seed: int) -> Any:
    """(tokens, next tokens, weights) of one batch after the other; weight 0 where nothing is to be learned."""
    tokens, mask, starts = corpus["tokens"], corpus["mask"], corpus["starts"]
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(starts) - 1)
        for first in range(0, len(order) - size * _BUCKET + 1, size * _BUCKET):
            part = order[first : first + size * _BUCKET]
            part = part[np.argsort(starts[part + 1] - starts[part], kind="stable")]
            for group in rng.permutation(part.reshape(_BUCKET, size)):
                longest = int((starts[group + 1] - starts[group]).max())
                x = np.zeros((size, longest), np.int64)
                y = np.zeros((size, longest), np.int64)
                w = np.zeros((size, longest), np.float32)
                for row, example in enumerate(group):
                    span = slice(starts[example], starts[example + 1])
                    ids = tokens[span].astype(np.int64)
                    x[row, : len(ids)] = ids
                    y[row, : len(ids) - 1] = ids[1:]
                    w[row, : len(ids) - 1] = mask[span][1:]
                yield torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(w)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    corpus = dict(np.load(args.folder / "corpus.npz"))
    model = Transformer(SHAPE)
    size = sum(p.numel() for p in model.parameters())
    groups = [
        {"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=_PEAK, betas=(0.9, 0.95), fused=True)
    started = time.monotonic()
    seen, smooth = 0, math.nan
    source = batches(corpus, args.batch, args.seed)
    for step in range(args.steps):
        rate = _PEAK * min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / args.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, y, w = next(source)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model(x)
            where = w > 0
            each = functional.cross_entropy(model.output(hidden[where]).float(), y[where], reduction="none")
            loss = (each * w[where]).sum() / w[where].sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += x.numel()
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        if step % 50 == 0 or step == args.steps - 1:
            spent = time.monotonic() - started
            print(f"step {step} loss {smooth:.4f} {seen / spent:.0f} tokens/s {spent:.0f} s", flush=True)
    weights = {name: p.detach().float().numpy() for name, p in model.named_parameters()}
    np.savez(args.folder / "weights.npz", **weights)
    summary = {
        "shape": asdict(SHAPE),
        "parameters": size,
        "steps": args.steps,
        "batch": args.batch,
        "seed": args.seed,
        "examples": args.steps * args.batch,
        "tokens": seen,
        "seconds": round(time.monotonic() - started),
        "loss": round(smooth, 4),
    }
    (args.folder / "training.json").write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
