"""What a source's tags said while ``fairlead check --connect`` read from it, and the verdict on that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from schemas import status
from schemas.samples import Sample, SampleBatch
from schemas.tagmap import Tag

#: Values, and bad or missing tags, that the text names; the rest is a count.
_VALUES: Final = 3
_NAMED: Final = 20
#: Kinds whose peer speaks when it has something to say: that a tag was not heard of in a few seconds proves nothing.
_PUSHED: Final = frozenset({"mqtt", "replay"})


class Seen:
    """The newest sample of each tag of one source."""

    def __init__(self, tags: Sequence[Tag], kind: str) -> None:
        self._tags = {tag.number: tag for tag in tags}
        self._pushed = kind in _PUSHED
        self._newest: dict[int, Sample] = {}
        self._waiting = set(self._tags)

    def take(self, batch: SampleBatch) -> None:
        """Note every row of *batch*."""
        for sample in batch.rows():
            if sample.tag in self._tags:
                self._newest[sample.tag] = sample
                # a server says this first where its own first reading of the device is still under way
                if sample.status & 0xFFFF0000 != status.BAD_WAITING_FOR_INITIAL_DATA:
                    self._waiting.discard(sample.tag)

    @property
    def complete(self) -> bool:
        """Whether each tag has said something."""
        return not self._waiting

    def values(self) -> list[dict[str, Any]]:
        """Path, raw value and name of the status of each tag seen, in the map's order."""
        return [
            {"path": tag.path, "raw": _raw(self._newest[number]), "status": status.name(self._newest[number].status)}
            for number, tag in self._tags.items()
            if number in self._newest
        ]

    def missing(self) -> list[str]:
        """Paths of the tags that did not come, in the map's order."""
        return [tag.path for number, tag in self._tags.items() if number not in self._newest]

    @property
    def usable(self) -> bool:
        """Whether the source may be called read: a value that is not bad; where nothing came, only a pushing peer."""
        if not self._newest:
            return self._pushed
        return any(not _bad(sample) for sample in self._newest.values())

    @property
    def result(self) -> str:
        """``ok``, ``partial`` (bad values, or tags that a poll should have brought), or ``failed: read``."""
        if not self.usable:
            return "failed: read"
        bad = any(_bad(sample) for sample in self._newest.values())
        return "partial" if bad or (len(self._newest) < len(self._tags) and not self._pushed) else "ok"

    def text(self, end: str) -> str:
        """What came, what was bad with its status, and which tags were not seen until *end* (``in 10 s``)."""
        if not self._newest:
            return f"connected; no value {end}"
        pairs = [(tag, self._newest[number]) for number, tag in self._tags.items() if number in self._newest]
        good = [(tag, sample) for tag, sample in pairs if not _bad(sample)]
        bad = [f"{tag.path} ({status.name(sample.status)})" for tag, sample in pairs if _bad(sample)]
        missing = self.missing()
        if not good:
            parts = [f"every value is bad: {_named(bad)}"]
        else:
            first = ", ".join(f"{tag.name} = {_raw(sample)}" for tag, sample in good[:_VALUES])
            more = " …" if len(good) > _VALUES else ""
            parts = [f"{len(self._newest)} of {len(self._tags)} tags, raw: {first}{more}"]
            parts += [f"{len(bad)} bad: {_named(bad)}"] if bad else []
        if missing:
            why = " (the peer speaks when it has something to say)" if self._pushed else ""
            parts.append(f"{len(missing)} not seen {end}{why}: {_named(missing)}")
        return "; ".join(parts)


def _bad(sample: Sample) -> bool:
    return status.quality(sample.status) is status.Quality.BAD


def _raw(sample: Sample) -> Any:
    if isinstance(sample.value, float) and not math.isfinite(sample.value):
        return None
    return str(sample.value) if isinstance(sample.value, bytes) else sample.value


def _named(items: Sequence[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(items[:_NAMED]) + more
