"""
``python -m bench.gpu``: a Mistral-7B-shaped Q4_0 model with random weights on the GPU; see docs/gpu.md.

Makes the weights (4.1 GB) in a folder, annotates with 1, 4 and 16 sequences, and prints the table of
``python -m bench llm``, with the driver and the build named. ``--small`` tries the script without a GPU.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.gpu.weights import MISTRAL_7B, SMALL, write
from bench.llm import SEQUENCES, machine, table
from llm import engine


def _gpu() -> str:
    """Name, driver and memory, as the driver says."""
    if not shutil.which("nvidia-smi"):
        return "no NVIDIA driver"
    asked = "--query-gpu=name,driver_version,memory.total,compute_cap"
    done = subprocess.run(["nvidia-smi", asked, "--format=csv,noheader"], capture_output=True, text=True, check=False)
    return "; ".join(done.stdout.split("\n")).strip("; ") or "the driver does not answer"


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the weights are kept; default: a folder that is removed")
    parser.add_argument("--small", action="store_true", help="four narrow layers, on whatever there is")
    parser.add_argument("--cpu", action="store_true", help="no layers on the GPU")
    parser.add_argument("--answers", type=int, default=64)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--sequences", type=int, nargs="+", default=SEQUENCES)
    told = parser.parse_args()
    print(f"{_gpu()}; llama.cpp built for {'a GPU' if engine.gpu_built() else 'the CPU'}; {machine()}")
    if not (engine.gpu_built() or told.small or told.cpu):
        print("not run: llama.cpp is built for the CPU (docs/gpu.md); --small or --cpu measure without a GPU")
        return 1
    with tempfile.TemporaryDirectory() as made:
        path = (told.folder or Path(made)) / f"random-{'small' if told.small else '7b'}-q4_0.gguf"
        if not path.exists():
            begun = time.monotonic()
            write(path, SMALL if told.small else MISTRAL_7B)
            print(
                f"weights: {path.stat().st_size / 1e9:.2f} GB written in {time.monotonic() - begun:.0f} s", flush=True
            )
        layers = 0 if told.cpu else -1
        table(
            path,
            "instruct",
            answers=told.answers,
            threads=told.threads,
            gpu_layers=layers,
            sequences=told.sequences,
        )
    return 0


sys.exit(main())
