"""Metrics into rows: time, status, flags, and the flattening of tables and templates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from adapters import timestamps, values
from adapters.mqtt.message import Message
from adapters.mqtt.rows import Rows
from adapters.mqtt.sparkplug import datatypes
from adapters.mqtt.sparkplug.payload import DATASET, TEMPLATE, Metric
from schemas import status
from schemas.status import Flag

_MS: Final = 10**6
_STALE: Final = 500
_ASSUMED: Final = int(Flag.ASSUMED_GOOD)
_FLOAT32: Final = int(Flag.FLOAT32)
_NOTHING: Final[values.Value] = (math.nan, None)
_FLOAT: Final = datatypes.NAMES.index("Float")
_TEMPLATE: Final = datatypes.NAMES.index("Template")
_NESTED: Final = (datatypes.NAMES.index("DataSet"), _TEMPLATE)


class Target(NamedTuple):
    """A tag that takes a metric's value."""

    tag: int
    convert: values.Converter


#: A wanted name and its value, None for none; the metrics that tell its quality and time, from the outermost in; and
#: whether it is not good, whatever they tell. A plain tuple: one is made for each value.
_Part = tuple[str, Any, tuple[Metric, ...], bool]

#: Tags of one device by the name of their metric.
Targets = Mapping[str, Sequence[Target]]


class MetricReader:
    """Reads metrics whose name and datatype are known. Counts ``time_missing`` and ``quality_unknown``."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters

    def read(
        self,
        name: str,
        datatype: int,
        metric: Metric,
        sent_ms: int | None,
        message: Message,
        targets: Targets,
        rows: Rows,
        *,
        doubtful: bool = False,
    ) -> list[str]:
        """
        Add a row for each tag that wants this metric or a part of it; return what was refused, with its reason.

        ``sent_ms`` is the payload's time, for metrics that have none of their own. ``doubtful``: it may be another
        metric than *name*, so no row of it is good.
        """
        refused: list[str] = []
        try:
            found = list(_parts(name, datatype, metric, targets))
        except ValueError as error:
            return [f"{name}: {error}"]
        told_by: tuple[Metric, ...] = ()
        told: tuple[int, int, int | None] = (status.GOOD, 0, None)
        for part, value, said, unsure in found:
            if said is not told_by:  # the cells of a table have the metric's own
                told_by, told = said, self._told(said, sent_ms, message)
            code, flags, time_ns = told
            if doubtful or unsure:
                code, flags = max(code, status.UNCERTAIN, key=status.quality), flags & ~_ASSUMED
            for target in targets[part]:
                if value is None:
                    pair, mark = _NOTHING, code if code >> 30 >= 2 else status.BAD
                else:
                    try:
                        pair, mark = target.convert(value), code
                    except ValueError as error:
                        refused.append(f"{part}: {str(error)[:200]}")
                        continue
                at_ns = message.arrival_ns if time_ns is None else time_ns
                single = _is_float(datatype, metric, said) and pair[0] == pair[0] and pair[1] is None
                rows.add(target.tag, at_ns, pair, mark, flags | _FLOAT32 if single else flags)
        return refused

    def dead(self, tags: Sequence[int], at_ms: int | None, message: Message, rows: Rows) -> None:
        """Add one row without a value for each tag of a node or device that is gone."""
        time_ns = self._time_ns(at_ms)
        flags = int(Flag(0) if time_ns is not None else Flag.ARRIVAL_TIME)
        for tag in tags:
            at_ns = message.arrival_ns if time_ns is None else time_ns
            rows.add(tag, at_ns, _NOTHING, status.BAD_NO_COMMUNICATION, flags)

    def _told(self, said: Sequence[Metric], sent_ms: int | None, message: Message) -> tuple[int, int, int | None]:
        """Status, flags and time of a value: the worst quality, and the innermost time, of those that tell it."""
        if len(said) == 1:
            (metric,) = said
            at_ms, historical = metric.timestamp, metric.historical
        else:
            at_ms = next((one.timestamp for one in reversed(said) if one.timestamp is not None), None)
            historical = any(one.historical for one in said)
        time_ns = self._time_ns(sent_ms if at_ms is None else at_ms)
        flags = _flags(historical, message, timed=time_ns is not None)
        if len(said) == 1 and said[0].quality is None:
            return status.GOOD, flags | _ASSUMED, time_ns
        code, unknown = _worst(said)
        self._counters["quality_unknown"] += unknown
        if code is None:
            return status.GOOD, flags | _ASSUMED, time_ns
        return code, flags, time_ns

    def _time_ns(self, at_ms: int | None) -> int | None:
        if at_ms is not None and timestamps.fits(at_ms * _MS):
            return at_ms * _MS
        self._counters["time_missing"] += at_ms is not None
        return None


def quality_code(mark: int) -> int | None:
    """
    StatusCode of the property ``Quality``: 192 good, 0 bad, 500 stale, and the other values of OPC DA.

    Numbers of 32 bits are quality codes whose two top bits are the severity, as Ignition sends them; None where the
    mark says nothing we know.
    """
    if mark == _STALE:
        return status.UNCERTAIN_NO_COMMUNICATION
    if mark < 256:
        return values.quality(mark, "classic")
    mark &= 0xFFFFFFFF
    if mark >> 30 == 0:
        return None
    return status.UNCERTAIN if mark >> 30 == 1 else status.BAD


def _is_float(datatype: int, metric: Metric, said: Sequence[Metric]) -> bool:
    """Whether a value is a Float: the metric itself, by the datatype of its birth, or a member of a template."""
    return (datatype if len(said) == 1 else said[-1].datatype) == _FLOAT and metric.field != DATASET


def _worst(said: Sequence[Metric]) -> tuple[int | None, int]:
    """The worst StatusCode that these metrics carry, None where none does; and how many marks nobody knows."""
    marks = [metric.quality for metric in said if metric.quality is not None]
    codes = [quality_code(mark) for mark in marks]
    known = [status.UNCERTAIN if code is None else code for code in codes]
    return max(known, key=status.quality, default=None), codes.count(None)


def _parts(name: str, datatype: int, metric: Metric, targets: Targets) -> Iterator[_Part]:
    """Wanted names and their values: the metric itself, members of a template, columns and cells of a table."""
    null = metric.null or not metric.field
    own = (metric,)
    if name in targets:
        if metric.field == TEMPLATE and datatype == _TEMPLATE and not null:
            yield _structure(name, metric)
        else:
            yield name, None if null else datatypes.convert(datatype, metric.field, metric.value), own, False
    if null:
        if datatype in _NESTED:
            yield from _nothing(name, own, targets)
    elif metric.field == TEMPLATE:
        for path, within in datatypes.members(metric.value):
            part, member, said = f"{name}/{path}", within[-1], (metric, *within)
            if part in targets:
                yield part, datatypes.plain(member), said, False
            if member.datatype in _NESTED and (member.null or not member.field):
                yield from _nothing(part, said, targets)
    elif metric.field == DATASET:
        for path, value in datatypes.cells(metric.value):
            if (part := name + path if path.startswith("[") else f"{name}/{path}") in targets:
                yield part, value, own, False


def _structure(name: str, template: Metric) -> _Part:
    """A template as one value: a member that is bad has none in it, and one that is not good makes it doubtful."""
    found: dict[str, Any] = {}
    doubtful = False
    for path, within in datatypes.members(template.value):
        quality = status.quality(_worst(within)[0] or status.GOOD)
        found[path] = None if quality is status.Quality.BAD else datatypes.plain(within[-1])
        doubtful = doubtful or quality is not status.Quality.GOOD
    return name, found, (template,), doubtful


def _nothing(name: str, said: tuple[Metric, ...], targets: Targets) -> Iterator[_Part]:
    """Every part of a missing table or template is missing."""
    yield from ((part, None, said, False) for part in targets if part.startswith((f"{name}/", f"{name}[")))


def _flags(historical: bool, message: Message, *, timed: bool) -> int:
    flags = Flag(0)
    if not timed:
        flags |= Flag.ARRIVAL_TIME
        if message.dup:
            flags |= Flag.DUP_POSSIBLE
    if historical:
        flags |= Flag.BACKFILL
    if message.retain:
        flags |= Flag.RETAINED
    return int(flags)
