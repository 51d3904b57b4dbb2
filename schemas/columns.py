"""
State of many tags as columns: one place per tag, found by the tag's stable id, and one array per quantity.

Normalizers and detectors keep their state in these, so that a step is arithmetic on arrays and saving is a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.intp]


class Slots:
    """Place of each tag in the state columns. A place stays the same until :meth:`keep` drops others."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self.ids = list(ids)
        self._place = {tag_id: place for place, tag_id in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, ids: Iterable[str]) -> Index:
        """Places of these ids, intp[n]; an unknown id gets the next place."""
        places = []
        for tag_id in ids:
            place = self._place.setdefault(tag_id, len(self.ids))
            if place == len(self.ids):
                self.ids.append(tag_id)
            places.append(place)
        return np.array(places, np.intp)

    def find(self, tag_id: str) -> int | None:
        """Place of this id, None where it is unknown."""
        return self._place.get(tag_id)

    def keep(self, wanted: set[str]) -> Index:
        """Forget every id that is not wanted; the former places of the rest, in order."""
        kept = [place for place, tag_id in enumerate(self.ids) if tag_id in wanted]
        self.__init__([self.ids[place] for place in kept])  # type: ignore[misc]
        return np.array(kept, np.intp)


@dataclass(frozen=True, slots=True)
class _Column:
    dtype: np.dtype[Any]
    fill: Any
    width: int

    def full(self, size: int) -> NDArray[Any]:
        """*size* places that hold the fill value."""
        return np.full((size, self.width) if self.width else size, self.fill, self.dtype)

    def is_all(self, values: NDArray[Any]) -> bool:
        """Whether these values are the fill value everywhere."""
        same: NDArray[np.bool_] = np.isnan(values) if self.fill != self.fill else values == self.fill
        return bool(same.all())


def column(dtype: Any, fill: Any = 0, width: int = 0) -> Any:
    """
    Declare one column in the body of a :class:`Columns` subclass; *fill* is the value of a tag never seen.

    With a *width* each place holds so many values, and the array is [places, width].
    """
    return _Column(np.dtype(dtype), fill, width)


class Columns:
    """Arrays of one length. Subclasses declare them with :func:`column`; they are plain attributes afterwards."""

    _declared: ClassVar[dict[str, _Column]] = {}

    def __init_subclass__(cls) -> None:
        own = {title: item for title, item in vars(cls).items() if isinstance(item, _Column)}
        cls._declared = {**cls._declared, **own}

    def __init__(self, size: int = 0) -> None:
        self.size = 0
        for title, item in self._declared.items():
            setattr(self, title, item.full(0))
        self.resize(size)

    def resize(self, size: int) -> None:
        """Grow to *size* places; new ones hold the fill value. Never shrinks."""
        more = size - self.size
        if more <= 0:
            return
        for title, item in self._declared.items():
            setattr(self, title, np.concatenate([getattr(self, title), item.full(more)]))
        self.size = size

    def take(self, places: Index) -> None:
        """Keep only these places, in this order."""
        for title in self._declared:
            setattr(self, title, getattr(self, title)[places])
        self.size = len(places)

    def reset(self, places: Index) -> None:
        """Put the fill value back into these places."""
        for title, item in self._declared.items():
            getattr(self, title)[places] = item.fill

    def dump(self) -> dict[str, bytes]:
        """Bytes of each column that holds anything but its fill value, little endian."""
        columns = {
            title: getattr(self, title)
            for title, item in self._declared.items()
            if not item.is_all(getattr(self, title))
        }
        return {title: c.astype(c.dtype.newbyteorder("<"), copy=False).tobytes() for title, c in columns.items()}

    def load(self, saved: dict[str, bytes], size: int) -> None:
        """
        Inverse of :meth:`dump`; a column that was not saved gets its fill value, also where it is newer than the state.

        Raises ValueError where a saved column is of another length, or is none of these.
        """
        if unknown := saved.keys() - self._declared.keys():
            raise ValueError(f"column {min(unknown)}: not known")
        loaded: dict[str, NDArray[Any]] = {}
        for title, item in self._declared.items():
            if title not in saved:
                loaded[title] = item.full(size)
                continue
            values = np.frombuffer(saved[title], item.dtype.newbyteorder("<")).astype(item.dtype)
            if len(values) != size * max(item.width, 1):
                raise ValueError(f"column {title}: want {size * max(item.width, 1)} values, got {len(values)}")
            loaded[title] = values.reshape(size, item.width) if item.width else values
        for title, values in loaded.items():
            setattr(self, title, values)
        self.size = size


def occurrence(places: Index) -> Index:
    """How often each row's place came before within the array: 0 for the first time, intp[n]."""
    n = len(places)
    if n == 0 or np.bincount(places).max() == 1:
        return np.zeros(n, np.intp)
    order = np.argsort(places, kind="stable")
    sorted_places = places[order]
    rows = np.arange(n)
    first = np.ones(n, np.bool_)
    first[1:] = sorted_places[1:] != sorted_places[:-1]
    count = np.empty(n, np.intp)
    count[order] = rows - np.maximum.accumulate(np.where(first, rows, 0))
    return count


def rounds(places: Index) -> Iterator[Index]:
    """
    Row numbers in rounds: no place twice within a round, and the rows of one place in order over the rounds.

    What is computed round by round is the same as row by row, as long as places do not depend on each other.
    """
    if len(places) == 0:
        return
    count = occurrence(places)
    ends = np.cumsum(np.bincount(count))
    if len(ends) == 1:
        yield np.arange(len(places))
        return
    order = np.argsort(count, kind="stable")
    start = 0
    for end in ends.tolist():
        yield order[start:end]
        start = end
