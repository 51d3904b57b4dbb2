"""
A model of the built-in's shape and vocabulary with random weights: the control of the score card.

    python -m training.untrained OUT.gguf [--like llm/models/plant-tiny.json] [--seed 1]
    fairlead llm bench --model OUT.gguf --style rows

It must score full validity, because the form is built by code, and the causes of chance, because it knows nothing.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from training import gguf_file
from training.corpus import learn_vocabulary
from training.shape import Shape

LIKE = Path(__file__).parent.parent / "llm" / "models" / "plant-tiny.json"


def untrained(path: Path, shape: Shape, seed: int) -> None:
    """Write the file; the vocabulary is the one that training learns."""
    words = learn_vocabulary(1)
    shape = replace(shape, vocabulary=len(words.tokens))
    gguf_file.write(path, shape, words, gguf_file.random_weights(shape, seed), name="untrained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--like", type=Path, default=LIKE)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    untrained(args.out, Shape(**json.loads(args.like.read_text())["training"]["shape"]), args.seed)


if __name__ == "__main__":
    main()
