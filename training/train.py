"""
Step 2, where torch is: tokens to weights.

    python -m training.train FOLDER [--steps 6000] [--batch 16] [--seed 7]

reads ``corpus.npz``, writes ``weights.npz`` and ``training.json``. Loss only where the model decides. Deterministic on
one thread. The rate is constant and falls after a quarter, so that a run stopped before that goes on from its
checkpoint with another ``--steps``, and gives what a run of that length would have given.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from training.model import Transformer
from training.muon import Muon
from training.shape import Shape

SHAPE: Final = Shape(width=256, layers=3, heads=4, kv_heads=2, feed_forward=512, vocabulary=1024, context=512)
_PEAK: Final = 2.0e-3
#: Of the weight matrices inside the blocks, whose steps are orthogonal.
_PEAK_MUON: Final = 0.01
_WARM_UP: Final = 60
_FALLS_FROM: Final = 0.25
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


def _share_of_peak(step: int, steps: int, cuts: Sequence[Sequence[int]]) -> float:
    """Rate of a step; from the first step of each cut on it falls so much faster that it is zero at its second."""
    share = min(1.0, (step + 1) / _WARM_UP) * min(1.0, (1 - step / steps) / (1 - _FALLS_FROM))
    for first, end in cuts:
        if first <= step < end:
            share = share * ((end - step) / (end - first))
    return share


def arithmetic() -> Any:
    """bfloat16, or float32 where the processor has no AVX-512: there bfloat16 is emulated, a hundred times slower."""
    return torch.bfloat16 if torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2") else torch.float32


def _optimizers(model: Transformer, kind: Any) -> list[tuple[Any, float]]:
    """Optimizers with their peak rates: orthogonal steps for the matrices of the blocks, AdamW for the rest."""
    named = list(model.named_parameters())
    inner = [p for name, p in named if p.dim() == 2 and name.startswith("blk.")]
    outer = [p for name, p in named if p.dim() == 2 and not name.startswith("blk.")]
    norms = [p for _, p in named if p.dim() < 2]
    groups = [{"params": outer, "weight_decay": 0.05}, {"params": norms, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=_PEAK, betas=(0.9, 0.95), fused=True)
    return [(adam, _PEAK), (Muon(inner, lr=_PEAK_MUON, weight_decay=0.05, kind=kind), _PEAK_MUON)]


def _save(path: Path, state: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=16)
    told = "hurry from one step on, to end at another; may come twice"
    parser.add_argument("--cut", type=int, nargs=2, action="append", default=[], metavar=("FROM", "TO"), help=told)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--checkpoint-every", type=int, default=250, help="steps")
    args = parser.parse_args()
    steps = min([args.steps, *(end for _, end in args.cut)])
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    corpus = dict(np.load(args.folder / "corpus.npz"))
    model = Transformer(SHAPE)
    size = sum(p.numel() for p in model.parameters())
    kind = arithmetic()
    optimizers = _optimizers(model, kind)
    if kind is torch.float32:
        print("float32, since this processor has no AVX-512: other weights than in bfloat16, in several times the time")
    kept = args.folder / "checkpoint.pt"
    first, seen, smooth, before = 0, 0, math.nan, 0.0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        if state["step"] > _FALLS_FROM * args.steps or (state["batch"], state["seed"]) != (args.batch, args.seed):
            raise SystemExit(f"{kept} is of another run, or its rate was falling already: remove it")
        model.load_state_dict(state["model"])
        for (optimizer, _), saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first, seen, smooth, before = state["step"], state["seen"], state["smooth"], state["seconds"]
        print(f"goes on at step {first}", flush=True)
    started = time.monotonic() - before
    source = batches(corpus, args.batch, args.seed)
    for _ in range(first):
        next(source)
    for step in range(first, steps):
        if step % args.checkpoint_every == 0 and first < step <= _FALLS_FROM * args.steps:
            state = {"step": step, "seen": seen, "smooth": smooth, "seconds": time.monotonic() - started}
            state |= {"batch": args.batch, "seed": args.seed, "model": model.state_dict()}
            _save(kept, state | {"optimizers": [optimizer.state_dict() for optimizer, _ in optimizers]})
        for optimizer, peak in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * _share_of_peak(step, args.steps, args.cut)
        x, y, w = next(source)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind is torch.bfloat16):
            where = w > 0
            hidden = model(x, where)
            each = functional.cross_entropy(model.output(hidden).float(), y[where], reduction="none")
            loss = (each * w[where]).sum() / w[where].sum()
        for optimizer, _ in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
        seen += x.numel()
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        if step % 50 == 0 or step == steps - 1:
            spent = time.monotonic() - started
            print(f"step {step} loss {smooth:.4f} {seen / spent:.0f} tokens/s {spent:.0f} s", flush=True)
    weights = {name: p.detach().float().numpy() for name, p in model.named_parameters()}
    np.savez(args.folder / "weights.npz", **weights)
    summary = {
        "shape": asdict(SHAPE),
        "parameters": size,
        "steps": steps,
        "batch": args.batch,
        "seed": args.seed,
        "arithmetic": str(kind).removeprefix("torch."),
        "examples": len(corpus["starts"]) - 1,
        "shown": steps * args.batch,
        "tokens": seen,
        "seconds": round(time.monotonic() - started),
        "loss": round(smooth, 4),
    }
    (args.folder / "training.json").write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
