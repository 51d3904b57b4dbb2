"""The part of the pipeline that needs torch: what is trained is what llama.cpp then computes, and a run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.model
def test_llama_cpp_computes_what_was_trained(tmp_path: Path) -> None:
    """The same tokens give the same logits in torch and, from the written file, in llama.cpp; shared heads included."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from llm.engine import Model
    from training import gguf_file
    from training.model import Transformer
    from training.shape import Shape
    from training.vocabulary import make

    shape = Shape(256, 2, 4, 2, 256, 400, 128)
    torch.manual_seed(5)
    trained = Transformer(shape)
    weights = {name: 3 * p.detach().numpy() for name, p in trained.named_parameters() if p.dim() == 2}
    norms = {name: p.detach().numpy() for name, p in trained.named_parameters() if p.dim() == 1}
    with torch.no_grad():
        for name, p in trained.named_parameters():
            p.copy_(torch.from_numpy((weights | norms)[name]))
    path = tmp_path / "same.gguf"
    gguf_file.write(path, shape, make(["a pump"], 400), weights | norms, name="same", quantization="f32")
    tokens = [1, 3, 300, 301, 17, 40, 350, 22, 9, 310]
    with torch.no_grad():
        whole = trained.output(trained(torch.tensor([tokens])))[0]
        where = torch.zeros(1, len(tokens), dtype=torch.bool)
        where[0, -3:] = True
        part = trained.output(trained(torch.tensor([tokens]), where))
    assert torch.allclose(part, whole[-3:], atol=1e-4)
    model = Model(path)
    try:
        told = np.array(model.decode(tokens, 0))
    finally:
        model.close()
    wanted = whole[-1].numpy()
    assert np.std(wanted) > 0.05
    assert np.allclose(told, wanted, atol=0.02 * np.std(wanted)), np.abs(told - wanted).max()


def test_orthogonal_steps_have_equal_singular_values() -> None:
    """The control is the matrix itself, whose values are far apart."""
    from training.muon import orthogonal

    matrix = torch.randn(64, 128, generator=torch.Generator().manual_seed(1)) @ torch.diag(torch.linspace(0.5, 2, 128))
    before, after = torch.linalg.svdvals(matrix), torch.linalg.svdvals(orthogonal(matrix))
    assert before[0] / before[-1] > 3
    assert after[0] / after[-1] < 2


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    """From a checkpoint with fewer steps: the same weights as a run of that length from the beginning."""
    rng = np.random.default_rng(1)
    starts = np.arange(0, 40 * 1025, 40)
    tokens = rng.integers(5, 200, starts[-1]).astype(np.uint16)
    mask = (np.arange(starts[-1]) % 40 > 30).astype(np.uint8)
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "corpus.npz", tokens=tokens, mask=mask, starts=starts)

    def train(name: str, steps: int) -> str:
        command = [sys.executable, "-m", "training.train", str(tmp_path / name), "--steps", str(steps), "--batch", "4"]
        command += ["--checkpoint-every", "4"]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    train("twice", 24)  # leaves the checkpoint of step 4
    assert "goes on at step 4" in train("twice", 18)
    train("once", 18)
    one, other = (np.load(tmp_path / name / "weights.npz") for name in ("once", "twice"))
    assert all(np.array_equal(one[name], other[name]) for name in one.files)
    assert json.loads((tmp_path / "twice" / "training.json").read_text())["steps"] == 18
