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
_NOTHING: Final[values.Value] = (math.nan, None)


class Target(NamedTuple):
    """A tag that takes a metric's value."""

    tag: int
    convert: values.Converter


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
    ) -> list[str]:
        """
        Add a row for each tag that wants this metric or a part of it; return what was refused, with its reason.

        ``sent_ms`` is the payload's time, for metrics that have none of their own.
        """
        refused: list[str] = []
        code, flags = self._status(metric)
        time_ns = self._time_ns(metric.timestamp if metric.timestamp is not None else sent_ms)
        flags |= _flags(metric, message, timed=time_ns is not None)
        try:
            found = list(_parts(name, datatype, metric, targets))
        except ValueError as error:
            return [f"{name}: {error}"]
        for part, value in found:
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
                rows.add(target.tag, at_ns, pair, mark, flags)
        return refused

    def dead(self, tags: Sequence[int], at_ms: int | None, message: Message, rows: Rows) -> None:
        """Add one row without a value for each tag of a node or device that is gone."""
        time_ns = self._time_ns(at_ms)
        flags = int(Flag(0) if time_ns is not None else Flag.ARRIVAL_TIME)
        for tag in tags:
            at_ns = message.arrival_ns if time_ns is None else time_ns
            rows.add(tag, at_ns, _NOTHING, status.BAD_NO_COMMUNICATION, flags)

    def _time_ns(self, at_ms: int | None) -> int | None:
        if at_ms is not None and timestamps.fits(at_ms * _MS):
            return at_ms * _MS
        self._counters["time_missing"] += at_ms is not None
        return None

    def _status(self, metric: Metric) -> tuple[int, int]:
        if metric.quality is None:
            return status.GOOD, int(Flag.ASSUMED_GOOD)
        code = quality_code(metric.quality)
        if code is None:
            self._counters["quality_unknown"] += 1
            return status.UNCERTAIN, 0
        return code, 0


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


def _parts(name: str, datatype: int, metric: Metric, targets: Targets) -> Iterator[tuple[str, Any]]:
    """Wanted names and their values: the metric itself, members of a template, columns and cells of a table."""
    null = metric.null or not metric.field
    if name in targets:
        yield name, None if null else datatypes.convert(datatype, metric.field, metric.value)
    if null:
        if datatype in (16, 19):  # every part of a missing table or template is missing
            yield from ((part, None) for part in targets if part.startswith((f"{name}/", f"{name}[")))
        return
    if metric.field == TEMPLATE:
        for path, member in datatypes.members(metric.value):
            if (part := f"{name}/{path}") in targets:
                yield part, datatypes.plain(member)
    elif metric.field == DATASET:
        for path, value in datatypes.cells(metric.value):
            if (part := name + path if path.startswith("[") else f"{name}/{path}") in targets:
                yield part, value


def _flags(metric: Metric, message: Message, *, timed: bool) -> int:
    flags = Flag(0)
    if not timed:
        flags |= Flag.ARRIVAL_TIME
        if message.dup:
            flags |= Flag.DUP_POSSIBLE
    if metric.historical:
        flags |= Flag.BACKFILL
    if message.retain:
        flags |= Flag.RETAINED
    return int(flags)
