"""
The holes that the server's history shall fill, in a file, so that a restart goes on where it was.

A hole is a gap that was told, and what of it is left to read. The file is replaced after each part that is in the
journal; one that is missing or damaged, or belongs to another tag map, costs the filling: the gaps stay gaps.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from adapters.opcua.progress import replace_file
from schemas.samples import Gap, GapCause

_VERSION: Final = 1
#: More are not kept: a server that loses values all day would have us read its history all night.
_MOST: Final = 1000


@dataclass(slots=True)
class Hole:
    """A gap, the part of it (UTC ns) that is still to be read, and whether no part of it was too old to be read."""

    gap: Gap
    from_ns: int
    to_ns: int
    whole: bool = True

    @property
    def done(self) -> bool:
        """Whether nothing is left to read."""
        return self.from_ns >= self.to_ns

    def part(self, length_ns: int, *, newest: bool) -> tuple[int, int]:
        """The next part, of at most so many ns."""
        if newest:
            return max(self.from_ns, self.to_ns - length_ns), self.to_ns
        return self.from_ns, min(self.to_ns, self.from_ns + length_ns)

    def filled(self, from_ns: int, to_ns: int) -> None:
        """This part is in the journal."""
        if from_ns <= self.from_ns:
            self.from_ns = to_ns
        else:
            self.to_ns = from_ns


class Holes:
    """Holes in the order they were found; counts as ``history_skipped`` what it cannot keep."""

    def __init__(self, path: Path, map_revision: bytes, counters: Counter[str]) -> None:
        self.all: list[Hole] = []
        self._path = path
        self._revision = map_revision
        self._counters = counters

    def load(self) -> None:
        """Read the file."""
        self.all, skipped = load(self._path, self._revision)
        if skipped:
            self._counters["history_skipped"] += skipped

    def add(self, gap: Gap, oldest_ns: int) -> None:
        """A gap was found; what is before *oldest_ns* stays a hole."""
        if gap.to_ns is None or any(_key(hole.gap) == _key(gap) for hole in self.all):
            return
        if gap.from_ns < oldest_ns or len(self.all) >= _MOST:
            self._counters["history_skipped"] += 1
        if len(self.all) < _MOST and oldest_ns < gap.to_ns:
            self.all.append(Hole(gap, max(gap.from_ns, oldest_ns), gap.to_ns, gap.from_ns >= oldest_ns))
            self.save()

    def remove(self, hole: Hole) -> None:
        """It is filled, or cannot be."""
        self.all.remove(hole)
        self.save()

    def save(self) -> None:
        """Replace the file; a failure is counted as ``state_unsaved`` and costs reading a part again."""
        body = {
            "version": _VERSION,
            "map_revision": self._revision.hex(),
            "holes": [
                {
                    "source": hole.gap.source,
                    "tags": list(hole.gap.tags),
                    "from": hole.gap.from_ns,
                    "to": hole.gap.to_ns,
                    "cause": hole.gap.cause.value,
                    "detail": hole.gap.detail,
                    "left": [hole.from_ns, hole.to_ns],
                    "whole": hole.whole,
                }
                for hole in self.all
            ],
        }
        try:
            replace_file(self._path, json.dumps(body, separators=(",", ":")))
        except OSError:
            self._counters["state_unsaved"] += 1


def load(path: Path, map_revision: bytes) -> tuple[list[Hole], int]:
    """The saved holes, and how many belong to another tag map; none when the file is missing or not ours."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            return [], 0
        if content["map_revision"] != map_revision.hex():
            return [], len(content["holes"])
        return [_hole(one, map_revision) for one in content["holes"]], 0
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return [], 0


def _hole(one: dict[str, Any], map_revision: bytes) -> Hole:
    tags = tuple(int(tag) for tag in one["tags"])
    begin, end = int(one["from"]), int(one["to"])
    gap = Gap(str(one["source"]), tags, begin, end, GapCause(one["cause"]), False, map_revision, str(one["detail"]))
    return Hole(gap, int(one["left"][0]), int(one["left"][1]), bool(one["whole"]))


def _key(gap: Gap) -> tuple[object, ...]:
    return gap.tags, gap.cause, gap.from_ns
