"""
A small vocabulary of the SentencePiece kind: control tokens, bytes, characters, and merges learned from a text.

Written by hand rather than by the sentencepiece package, because llama.cpp itself does the encoding afterwards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

SPACE: Final = "▁"
CONTROL: Final = ("<s>", "</s>", "[INST]", "[/INST]")
_CHARACTERS: Final = SPACE + "".join(map(chr, range(0x21, 0x7F)))
#: Merges stay inside one of these: the id of a fact, a word or an id of the catalogue with its space, a run of
#: punctuation. Other digits stand alone.
_UNIT: Final = re.compile(r"E[0-9]{1,2}|▁?[A-Za-z]+(?:_[A-Za-z]+)*|[^A-Za-z0-9▁]+|▁|[0-9]")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """
    Columns of one length: text of each token, its score (the merge of the highest score goes first), its type.

    ``merges`` makes it a vocabulary of the Tekken kind: pairs of byte-level pieces, the most frequent first.
    """

    tokens: tuple[str, ...]
    scores: tuple[float, ...]
    types: tuple[str, ...]
    merges: tuple[str, ...] = ()


def _merge(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    i = 0
    while i < len(pieces):
        if pieces[i : i + 2] == pair:
            merged.append(pieces[i] + pieces[i + 1])
            i += 2
        else:
            merged.append(pieces[i])
            i += 1
    return tuple(merged)


def learn_merges(texts: Iterable[str], count: int) -> list[str]:
    """Pieces of the most frequent pairs, in the order in which they were merged. Ties go by spelling."""
    units = Counter(unit for text in texts for unit in _UNIT.findall(text.replace(" ", SPACE)))
    split = {unit: tuple(unit) for unit in units}
    learned: list[str] = []
    while len(learned) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for unit, pieces in split.items():
            for pair in pairwise(pieces):
                pairs[pair] += units[unit]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        learned.append("".join(best))
        split = {unit: _merge(pieces, best) if best[0] in unit else pieces for unit, pieces in split.items()}
    return list(dict.fromkeys(learned))


def make(texts: Iterable[str], size: int) -> Vocabulary:
    """A vocabulary of exactly ``size`` tokens, padded with unused ones; every byte string can be spelled with it."""
    rows: list[tuple[str, float, str]] = [("<unk>", 0.0, "UNKNOWN")]
    rows += [(name, 0.0, "CONTROL") for name in CONTROL]
    rows += [(f"<0x{byte:02X}>", 0.0, "BYTE") for byte in range(256)]
    rows += [(ch, -1e6, "NORMAL") for ch in _CHARACTERS]
    merges = learn_merges(texts, size - len(rows))
    rows += [(piece, -float(rank), "NORMAL") for rank, piece in enumerate(merges)]
    rows += [(f"<unused{i}>", -1e9, "UNUSED") for i in range(size - len(rows))]
    tokens, scores, types = zip(*rows, strict=True)
    return Vocabulary(tokens, scores, types)
