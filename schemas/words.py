"""
Words of a text as search and rules compare them: small letters without accents, tags cut at their humps, no plural.

Both sides of a comparison go through here, so that "BearingTemp" finds "temperatures of the bearings".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

#: Longer runs of letters are no word of any language.
_MAX_LETTERS: Final = 40
_WORD: Final = re.compile(r"[^\W_]+")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
#: What tag names write short and manuals write out.
_SHORT: Final = {
    "temp": "temperature",
    "press": "pressure",
    "vib": "vibration",
    "lvl": "level",
    "spd": "speed",
    "pwr": "power",
    "curr": "current",
    "mot": "motor",
    "brg": "bearing",
}
#: Words that say nothing about a machine, in the languages that manuals here come in most.
_WORDS: Final = """
a an and are as at be by can do for from has have if in into is it its may must no not of on or out shall should such
than that the their then there this to too was were when which will with
der die das den dem des ein eine einer eines und oder ist sind im in am an auf aus bei mit nach von vor zu zum zur
nicht wird werden wenn
le la les un une des du de et ou est sont dans sur par pour avec ne pas au aux ce cette que qui
"""
_COMMON: Final = frozenset(_WORDS.split())


def words(text: str) -> list[str]:
    """The words of a text in their order, common ones left out."""
    return list(_each(text))


def _each(text: str) -> Iterator[str]:
    for run in _WORD.findall(_HUMP.sub(" ", text)):
        plain = unicodedata.normalize("NFKD", run.casefold())
        word = "".join(letter for letter in plain if letter.isalnum())
        if 2 <= len(word) <= _MAX_LETTERS and word not in _COMMON:
            yield _SHORT.get(word) or _singular(word)


def _singular(word: str) -> str:
    """Without the plural's ending; wrong here and there, and the same on both sides."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
