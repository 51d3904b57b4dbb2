"""
Step 3, in the project's environment: weights to the shipped model, calibrated, with its manifest and its score card.

    python -m training.export FOLDER [--to llm/models] [--name plant-tiny] [--scenarios 800]

``fairlead llm bench --model builtin:plant-tiny --out llm/models/plant-tiny.card.json`` makes the card alone.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from broker.catalogue import catalogue
from broker.scorecard import cards, table
from broker.scorecard.physics import QUANTITIES
from broker.scorecard.runner import Size, run
from broker.scorecard.scenarios import held_out
from llm.model_file import find
from llm.options import ReasonerOptions
from schemas.annotation import UNKNOWN
from training import gguf_file
from training.calibrate import Calibration, calibrate
from training.shape import Shape
from training.vocabulary import Vocabulary

WHAT: Final = (
    "Mistral architecture, trained from scratch on synthetic scenarios of this repository; not Mistral AI weights"
)

#: Of the scenarios that calibrate; those of the score card have another.
SEED: Final = 31
#: Scenarios of the shipped card: of each stratum 100, so that a share of one is known to about five percent.
CARD: Final = 800


def manifest(path: Path, training: dict[str, Any], fitted: Calibration) -> dict[str, Any]:
    """The JSON beside a model file; what :class:`llm.model_file.Manifest` reads is in it."""
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size": path.stat().st_size,
        "what": WHAT,
        "licence": "Apache-2.0",
        "style": "rows",
        "calibration": fitted.temperature,
        "knows": {name: [*(o.id for o in catalogue(name).causes), UNKNOWN] for name in QUANTITIES},
        "training": training,
        "calibrated": asdict(fitted),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent.parent / "llm" / "models")
    parser.add_argument("--name", default="plant-tiny")
    parser.add_argument("--scenarios", type=int, default=800)
    args = parser.parse_args()
    training = json.loads((args.folder / "training.json").read_text())
    words = msgspec.json.decode((args.folder / "vocabulary.json").read_bytes(), type=Vocabulary)
    args.to.mkdir(parents=True, exist_ok=True)
    path = args.to / f"{args.name}.gguf"
    weights = dict(np.load(args.folder / "weights.npz"))
    gguf_file.write(path, Shape(**training["shape"]), words, weights, name=args.name)
    fitted = calibrate(path, held_out(args.scenarios, SEED))
    body = json.dumps(manifest(path, training, fitted), indent=2) + "\n"
    path.with_suffix(".json").write_text(body)
    print(body)
    file = replace(find(str(path.resolve()), None, path.parent), style="rows", calibration=fitted.temperature)
    card = asyncio.run(run(replace(file, name=args.name), ReasonerOptions(), Size(scenarios=CARD), lambda *_: None))
    cards.write(path.with_suffix(".card.json"), card)
    print("\n".join(table.lines(card)))


if __name__ == "__main__":
    main()
