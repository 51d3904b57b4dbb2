"""
Step 3, in the project's environment: weights to the shipped model, its manifest and its score card.

    python -m training.export FOLDER [--to llm/models] [--name plant-tiny] [--scenarios 1000]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from broker.catalogue import catalogue
from schemas.annotation import UNKNOWN
from training import gguf_file
from training.scenarios import QUANTITIES
from training.score import held_out, score
from training.shape import Shape
from training.vocabulary import Vocabulary

WHAT = "Mistral architecture, trained from scratch on synthetic scenarios of this repository; not Mistral AI weights"


def manifest(path: Path, training: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
    """The JSON beside a model file; what :class:`llm.model_file.Manifest` reads is in it."""
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size": path.stat().st_size,
        "what": WHAT,
        "licence": "Apache-2.0",
        "style": "rows",
        "knows": {name: [*(o.id for o in catalogue(name).causes), UNKNOWN] for name in QUANTITIES},
        "training": training,
        "score_card": {
            "of": "synthetic scenarios with tag spellings that training did not use; says nothing about a real plant",
            **card,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent.parent / "llm" / "models")
    parser.add_argument("--name", default="plant-tiny")
    parser.add_argument("--scenarios", type=int, default=1000)
    args = parser.parse_args()
    training = json.loads((args.folder / "training.json").read_text())
    words = msgspec.json.decode((args.folder / "vocabulary.json").read_bytes(), type=Vocabulary)
    args.to.mkdir(parents=True, exist_ok=True)
    path = args.to / f"{args.name}.gguf"
    weights = dict(np.load(args.folder / "weights.npz"))
    gguf_file.write(path, Shape(**training["shape"]), words, weights, name=args.name)
    card = score(path, held_out(args.scenarios, 20))
    body = json.dumps(manifest(path, training, card), indent=2) + "\n"
    path.with_suffix(".json").write_text(body)
    print(body)


if __name__ == "__main__":
    main()
