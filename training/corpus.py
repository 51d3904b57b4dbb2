"""
Step 1, in the project's environment: scenarios to tokens, spelled by llama.cpp itself.

    python -m training.corpus FOLDER [--scenarios 60000] [--seed 1]

writes ``vocabulary.json`` and ``corpus.npz`` (tokens and mask one after the other, and where each example starts).
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from broker.scorecard.scenarios import Scenario, scenario
from llm.engine import Model
from llm.prompt import Control, prefix, rows
from training import gguf_file, vocabulary
from training.shape import Shape
from training.teach import answer

VOCABULARY: Final = 1024
CONTEXT: Final = 512
#: So many are told in another order, which must not matter.
REORDERED: Final = 0.15
#: The vocabulary is learned from so many scenarios.
_LEARN_FROM: Final = 3000


def learn_vocabulary(seed: int) -> vocabulary.Vocabulary:
    """Vocabulary of prompts and answers."""
    rng = random.Random(seed)
    texts = []
    for _ in range(_LEARN_FROM):
        one = scenario(rng)
        tokens, _ = answer(one, str.encode)
        texts += [rows(one.evidence, everything=True), bytes(tokens).decode()]
    return vocabulary.make(texts, VOCABULARY)


def reordered(one: Scenario, rng: random.Random) -> Scenario:
    """The same episode with its facts in another order, numbered anew."""
    facts = list(one.evidence.facts)
    rng.shuffle(facts)
    new = {fact.id: f"E{number}" for number, fact in enumerate(facts, 1)}
    told = tuple(fact.model_copy(update={"id": new[fact.id]}) for fact in facts)
    cites = {cause: tuple(new[i] for i in ids) for cause, ids in one.cites.items()}
    return replace(one, evidence=one.evidence.model_copy(update={"facts": told}), cites=cites)


def spelling(folder: Path, words: vocabulary.Vocabulary) -> Model:
    """llama.cpp with this vocabulary and a model that does not matter."""
    shape = Shape(64, 1, 1, 1, 64, len(words.tokens), CONTEXT)
    path = folder / "vocabulary.gguf"
    gguf_file.write(path, shape, words, gguf_file.random_weights(shape, 0), name="vocabulary", quantization="f32")
    return Model(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenarios", type=int, default=120_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    words = learn_vocabulary(args.seed)
    (args.folder / "vocabulary.json").write_bytes(msgspec.json.encode(words))
    model = spelling(args.folder, words)
    known: dict[str, list[int]] = {}

    def encode(text: str) -> list[int]:
        if text not in known:
            known[text] = model.encode(text)
        return known[text]

    rng = random.Random(args.seed + 1)
    tokens: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for _ in range(args.scenarios):
        one = scenario(rng)
        if rng.random() < REORDERED:
            one = reordered(one, rng)
        asked: list[int] = []
        for part in (*prefix("v3-tekken", "rows"), rows(one.evidence, everything=True), Control("[/INST]")):
            if isinstance(part, Control):
                token = model.control(part.name)
                if token is None:
                    raise ValueError(f"no control token {part.name}")
                asked.append(token)
            else:
                asked += model.encode(part)
        told, mask = answer(one, encode)
        if len(asked) + len(told) <= CONTEXT:
            tokens.append(np.asarray([*asked, *told], np.uint16))
            masks.append(np.asarray([0] * len(asked) + mask, np.uint8))
    starts = np.cumsum([0, *map(len, tokens)])
    np.savez(args.folder / "corpus.npz", tokens=np.concatenate(tokens), mask=np.concatenate(masks), starts=starts)
    lengths = np.diff(starts)
    print(f"{len(tokens)} examples, {starts[-1]} tokens, {lengths.mean():.0f} on average, {lengths.max()} at most")


if __name__ == "__main__":
    main()
