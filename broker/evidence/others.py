"""Tags of the equipment that no detector has named: moved all the same, or normal."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from broker.evidence.normal import MOVED_SIGMAS, Level, baseline
from broker.evidence.records import Records
from schemas.anomaly import Anomaly, Direction
from schemas.evidence import Fact
from schemas.status import Quality, quality_of
from schemas.tagmap import Tag

MAX_NEIGHBOURS: Final = 5
#: A tag that was away from its normal for this part of the episode has moved, although it is back.
AWAY: Final = 0.25
#: Roles of which a level says nothing.
_SET_OR_COUNTED: Final = frozenset({"state", "sp", "good_count", "reject_count", "order", "lot"})


def other_tags(
    records: Records, anomaly: Anomaly, tags: list[Tag], upto: int, now_ns: int
) -> tuple[list[Fact], list[Fact]]:
    """
    Tags of the equipment no detector named: those that moved all the same, and the surest of those that stayed normal.

    Of a tag that is no longer where it was, and not far from there, neither can be said: it is left out.
    """
    named = {member.path for member in anomaly.members}
    moved: list[Fact] = []
    neighbours: list[Fact] = []
    for tag in tags:
        if tag.path in named or tag.role in _SET_OR_COUNTED or tag.enum or tag.counter:
            continue
        before = baseline(records, tag.path, tag, anomaly.onset_ns, upto)
        since = records.window(tag.path, anomaly.onset_ns, now_ns, upto=upto)
        ok = (quality_of(since.status) == Quality.GOOD) & np.isfinite(since.value)
        # without a good sample in the later half of the episode nothing can be said of the tag
        half_ns = anomaly.onset_ns + (now_ns - anomaly.onset_ns) // 2
        if before is None or not ok.any() or since.source_ns[ok][-1] < half_ns:
            continue
        values, when = since.value[ok], since.source_ns[ok]
        level = _gone_to(values, before)
        distance = (level - before.mean) / before.sigma
        fact = Fact(
            id="E1",
            kind="neighbour",
            path=tag.path,
            role=tag.role,
            unit=tag.unit,
            value=level,
            baseline=before.mean,
            sigmas=round(abs(distance), 2),
            samples=int(ok.sum()),
        )
        if before.left(np.array(level)) and abs(level - before.mean) > tag.deadband:
            direction: Direction = "rose" if distance > 0 else "fell"
            far = np.abs(values - before.mean) >= MOVED_SIGMAS * before.sigma
            first, last = (int(at) for at in (when[far] if far.any() else when)[[0, -1]])
            change = {"kind": "deviation", "direction": direction, "from_ns": first, "to_ns": last}
            moved.append(fact.model_copy(update=change))
        elif before.stayed(level) and all(map(before.stayed, _usual(values))):
            neighbours.append(fact)
    surest = sorted(range(len(neighbours)), key=lambda at: neighbours[at].sigmas or 0.0)[:MAX_NEIGHBOURS]
    return moved, [neighbours[at] for at in sorted(surest)]


def _gone_to(values: NDArray[np.float64], before: Level) -> float:
    """Where a tag is now; where it is back, but was away for long, where it was then."""
    now = float(np.median(values[-3:]))
    away = values[before.left(values)]
    long = len(away) >= max(3, AWAY * len(values))
    return float(np.median(away)) if long and not before.left(np.array(now)) else now


def _usual(values: NDArray[np.float64]) -> list[float]:
    """The span in which all but the twentieth lowest and highest part of the values lie."""
    return [float(edge) for edge in np.quantile(values, [0.05, 0.95])]
