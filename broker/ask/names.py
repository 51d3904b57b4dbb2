"""
Names of a question as tags and equipment of the map in force.

A name is found by its path or the end of it, by its last part, or by the words of its last part (``bearing
temperature`` is ``BearingTemp``). What is not found is told with the nearest names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from broker.store.rows.records import TagRow
from schemas.errors import Refused
from schemas.question import MAX_NAMES

#: A word of a question may go on behind a word of a name: temperature is Temp.
_SHORTEST: Final = 3
_NEAREST: Final = 3
#: Last parts of paths that are split once and not for every question; they are far fewer than tags.
_KEPT: Final = 1 << 16
_WORD: Final = re.compile(r"[^\s,;?!\"]+")
_LOOKS_A_NAME: Final = re.compile(r"/|^[^\W\d].*\d")


def last_part(path: str) -> str:
    """Last part of a path."""
    return path.rsplit("/", 1)[-1]


def split_words(name: str) -> tuple[str, ...]:
    """``BearingTemp_02`` gives bearing, temp, 02."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return tuple(re.findall(r"[^\W_]+", spaced.lower()))


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower())


@lru_cache(maxsize=_KEPT)
def _spelt(name: str) -> tuple[tuple[str, ...], str]:
    """Words of a name, and the name without anything between them."""
    return split_words(name), _plain(name)


@dataclass(slots=True)
class Names:
    """Tags of the map in force, and the equipment they belong to."""

    tags: Sequence[TagRow]
    by_path: dict[str, TagRow] = field(init=False)
    equipment: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.by_path = {tag.path: tag for tag in self.tags}
        self.equipment = tuple(sorted({tag.equipment for tag in self.tags if tag.equipment}))

    def of_equipment(self, equipment: str) -> list[TagRow]:
        """Its tags in order of path."""
        return [tag for tag in self.tags if tag.equipment == equipment]

    def owners(self, named: Named) -> tuple[str, ...]:
        """The equipment that is named, and that of the tags."""
        owners = (*named.equipment, *(self.by_path[path].equipment for path in named.tags))
        return tuple(dict.fromkeys(owner for owner in owners if owner))

    def nearest(self, word: str) -> list[str]:
        """Names that look most like *word*."""
        known = {last_part(path): None for path in (*self.equipment, *self.by_path)}
        lower = {name.lower(): name for name in known}
        return [lower[name] for name in difflib.get_close_matches(word.lower(), lower, _NEAREST, 0.5)]

    def check(self, equipment: Iterable[str], tags: Iterable[str]) -> None:
        """Raises Refused where a path is not in the map in force."""
        for kind, path, known in (
            *(("equipment", path, self.equipment) for path in equipment),
            *(("tag", path, tuple(self.by_path)) for path in tags),
        ):
            if path not in known:
                close = difflib.get_close_matches(path, known, _NEAREST, 0.5) or self.nearest(last_part(path))
                raise Refused(f"no {kind} has the path {path!r}" + _or_nearest(close))


def _or_nearest(names: Sequence[str]) -> str:
    return f"; nearest: {', '.join(names)}" if names else ""


@dataclass(frozen=True, slots=True)
class Named:
    """Paths in the order in which they are named, and words that name nothing."""

    equipment: tuple[str, ...]
    tags: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Hit:
    place: int
    stop: int
    paths: tuple[str, ...]
    what: str


def _hits(words: Sequence[str], paths: Sequence[str], what: str) -> list[_Hit]:
    """Where in *words* a path, its last part or the words of its last part begin."""
    plain = [_plain(word) for word in words]
    lower = [word.lower().rstrip(".") for word in words]
    by_place: dict[tuple[int, int], list[str]] = {}
    for path in paths:
        name = last_part(path)
        (parts, bare), whole = _spelt(name), path.lower()
        for place in range(len(words)):
            # P-101 is P101, and a path is itself
            end_of_path = "/" in lower[place] and whole.endswith(f"/{lower[place]}")
            if lower[place] == whole or end_of_path or (plain[place] and plain[place] == bare):
                by_place.setdefault((place, place + 1), []).append(path)
            elif (
                parts
                and len(parts) <= len(words) - place
                and all(_same(plain[place + i], part) for i, part in enumerate(parts))
            ):
                by_place.setdefault((place, place + len(parts)), []).append(path)
    return [
        _Hit(place, stop, tuple(_exact("".join(plain[place:stop]), found)), what)
        for (place, stop), found in by_place.items()
    ]


def _exact(word: str, paths: list[str]) -> list[str]:
    """Those of *paths* that end in this very name, where some do: Temperature is no Temp where a tag is called so."""
    return [path for path in paths if _spelt(last_part(path))[1] == word] or paths


def _same(word: str, part: str) -> bool:
    if word == part:
        return True
    if len(part) < _SHORTEST or len(word) < _SHORTEST or part[0].isdigit():
        return False
    return word.startswith(part) or (word == part + "s")


def _bare_word(word: str) -> str:
    return word.removesuffix("'s").removesuffix("’s").rstrip(".:")


def masked(text: str, names: Names) -> str:
    """
    A lower-case text with the letters of names in it as underscores: paths, and names of letters and digits.

    CW12 is no week where equipment is called so. The length stays.
    """
    found = [one for one in _WORD.finditer(text) if _LOOKS_A_NAME.search(one[0])]
    if not found:
        return text
    words = {_bare_word(one[0]) for one in found}
    plain = {_plain(word) for word in words if "/" not in word}
    paths = [word for word in words if "/" in word]
    known: set[str] = set()
    for path in (*names.equipment, *names.by_path):
        if (bare := _spelt(last_part(path))[1]) in plain:
            known.add(bare)
        if paths:
            known.update(word for word in paths if f"/{path.lower()}".endswith(f"/{word}"))
    for one in found:
        word = _bare_word(one[0])
        if (word if "/" in word else _plain(word)) in known:
            text = text[: one.start()] + "_" * len(one[0]) + text[one.end() :]
    return text


def find(text: str, names: Names, ignore: frozenset[str]) -> Named:
    """
    Names in a text; the longest names first, so that ``motor power`` is not ``power``.

    A tag's name that several pieces of equipment have means those that the text names; words of *ignore* name nothing.

    Raises:
        Refused: a tag's name is on several pieces of equipment and the text names none of them; too many names.
    """
    words = [_bare_word(word) for word in _WORD.findall(text)]
    hits = _hits(words, names.equipment, "equipment") + _hits(words, list(names.by_path), "tag")
    # an exact path beats a name; then the longest; equipment before a tag of the same name
    hits.sort(key=lambda hit: (hit.place - hit.stop, hit.what, hit.place))
    used: set[int] = set()
    chosen: list[_Hit] = []
    for hit in hits:
        span = set(range(hit.place, hit.stop))
        if span & used or (hit.stop - hit.place == 1 and _is_common(words[hit.place], hit, ignore)):
            continue
        used |= span
        chosen.append(hit)
    chosen.sort(key=lambda hit: hit.place)
    equipment = _equipment(chosen)
    tags: list[str] = []
    for hit in chosen:
        if hit.what == "tag":
            tags += _of_equipment(hit.paths, equipment, names)
    left = tuple(word for i, word in enumerate(words) if i not in used and word and word.lower() not in ignore)
    if max(len(equipment), len(tags)) > MAX_NAMES:
        raise Refused(f"the question names {max(len(equipment), len(tags))} things; {MAX_NAMES} at most")
    return Named(tuple(equipment), tuple(dict.fromkeys(tags)), left)


def _is_common(word: str, hit: _Hit, ignore: frozenset[str]) -> bool:
    """Whether a word that is also a name means nothing here; ``Current`` with its letters is the tag."""
    return word.lower() in ignore and not (word[0].isupper() and word == last_part(hit.paths[0]) and hit.place > 0)


def _equipment(hits: Sequence[_Hit]) -> list[str]:
    found: list[str] = []
    for hit in hits:
        if hit.what != "equipment":
            continue
        if len(hit.paths) > 1:
            raise Refused(f"{last_part(hit.paths[0])} is the name of {', '.join(hit.paths[:6])}; write the whole path")
        found.append(hit.paths[0])
    return list(dict.fromkeys(found))


def _of_equipment(paths: Sequence[str], equipment: Sequence[str], names: Names) -> list[str]:
    chosen = [
        path for path in paths if any(names.by_path[path].equipment == e or path.startswith(f"{e}/") for e in equipment)
    ]
    if chosen or (len(paths) == 1 and not equipment):
        return chosen or list(paths)
    owners = ", ".join([last_part(names.by_path[path].equipment or path) for path in paths][:6])
    if equipment:
        raise Refused(f"{last_part(paths[0])} is not on {last_part(equipment[0])}, but on {owners}")
    raise Refused(f"{last_part(paths[0])} exists on {owners}; name one of them")
