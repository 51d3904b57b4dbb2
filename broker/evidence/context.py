"""What was around the episode: state of the equipment, set points, holes in the data, and episodes of before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from broker.evidence.normal import BASELINE_NS, GUARD_NS
from broker.evidence.records import Records
from broker.store.rows.episodes import PastEpisode
from broker.store.rows.records import RecordRow, Window
from schemas.annotation import number
from schemas.anomaly import Anomaly
from schemas.evidence import Fact
from schemas.tagmap import Tag

MAX_GAPS: Final = 1
MAX_HISTORY: Final = 2
#: Past episodes of the equipment among which similar ones are looked for.
PAST: Final = 20
#: An episode is similar when it shares this part of what either saw (tag and direction).
ALIKE: Final = 0.5
#: Characters of what a person wrote of an episode.
MAX_COMMENT: Final = 160
#: Reasons of a rejection that say that the proposed cause does not hold.
SPEAKS_AGAINST: Final = frozenset({"wrong_cause", "sensor_fault", "not_abnormal"})


def surroundings(
    records: Records, anomaly: Anomaly, tags: list[Tag], state_path: str | None, upto: int, now_ns: int
) -> list[Fact]:
    """State of the equipment, and set points that were changed shortly before."""
    facts: list[Fact] = []
    for tag in tags:
        now = _number(records.last_value(tag.path, now_ns, upto=upto)) if tag.role in {"state", "sp"} else None
        if now is None:
            continue
        if tag.path == state_path or tag.role == "state":
            text = (tag.enum or {}).get(int(now), number(now))
            facts.append(Fact(id="E1", kind="state", path=tag.path, role="state", value=now, text=text))
            continue
        before = _number(records.last_value(tag.path, anomaly.onset_ns - BASELINE_NS, upto=upto))
        since = records.window(tag.path, anomaly.onset_ns - BASELINE_NS, now_ns, upto=upto)
        if before is None:
            before = float(since.value[0]) if len(since.value) and np.isfinite(since.value[0]) else None
        if before is not None and before != now:
            change = Fact(id="E1", kind="setpoint", path=tag.path, role="sp", unit=tag.unit, baseline=before, value=now)
            facts.append(change.model_copy(update={"from_ns": _last_change(since, now)}))
    return facts


def _last_change(window: Window, now: float) -> int | None:
    """When the value became what it is; None where the window does not show it."""
    other = np.flatnonzero(window.value != now)
    first = int(other[-1]) + 1 if len(other) else 0
    return int(window.source_ns[first]) if first < len(window.source_ns) else None


def _number(row: RecordRow | None) -> float | None:
    return None if row is None or row.value is None or not math.isfinite(row.value) else row.value


def gap_facts(records: Records, anomaly: Anomaly, tags: list[Tag], now_ns: int) -> list[Fact]:
    """Holes in the data of this equipment around the episode, the latest first."""
    found = records.gaps_between([tag.path for tag in tags], anomaly.onset_ns - GUARD_NS, now_ns)
    latest = sorted(found, key=lambda gap: (-gap.from_ns, gap.path or "", gap.cause))[:MAX_GAPS]
    return [
        Fact(
            id="E1",
            kind="gap",
            path=gap.path,
            from_ns=gap.from_ns,
            to_ns=gap.to_ns,
            text=gap.cause.replace("_", " "),
        )
        for gap in latest
    ]


def history(records: Records, anomaly: Anomaly) -> list[Fact]:
    """
    The latest similar episodes on this equipment and what a person said of them, those with a verdict first.

    Of several that say the same the latest is told; ``samples`` counts them.
    """
    past = records.past_episodes(anomaly.equipment, anomaly.onset_ns, PAST)
    alike = [one for one in past if one.anomaly.anomaly_id != anomaly.anomaly_id and _similar(one.anomaly, anomaly)]
    told: dict[str, list[PastEpisode]] = {}
    for one in sorted(alike, key=lambda one: one.verdict is None):
        told.setdefault(_said(one), []).append(one)
    return [_past(text, same) for text, same in list(told.items())[:MAX_HISTORY]]


def _said(one: PastEpisode) -> str:
    if one.verdict is None:
        return "a similar episode was not reviewed"
    if one.verdict == "rejected":
        why = f" as {one.reason.replace('_', ' ')}" if one.reason else ""
        return f"a similar episode: {one.cause or 'the explanation'} was proposed, and rejected{why}"
    return f"a similar episode was {one.cause or 'unknown'}, {one.verdict} by a person"


def _past(text: str, same: Sequence[PastEpisode]) -> Fact:
    """One fact for episodes of which the same is said; the newest comment is quoted."""
    first = same[0]
    comment = next((one.comment for one in same if one.comment.strip()), "")
    # a rejection for another reason does not say that the cause was wrong
    about = first.cause_id if first.verdict != "rejected" or first.reason in SPEAKS_AGAINST else None
    return Fact(
        id="E1",
        kind="history",
        from_ns=first.anomaly.onset_ns,
        text=text,
        samples=len(same),
        verdict=first.verdict,
        cause=about,
        comment=" ".join(comment.split())[:MAX_COMMENT],
    )


def _similar(past: Anomaly, anomaly: Anomaly) -> bool:
    """The same kind of thing on the same first tag, or mostly the same tags in the same directions."""
    if past.kind == anomaly.kind and past.members[0].path == anomaly.members[0].path:
        return True
    one, other = ({(m.path, m.direction) for m in a.members} for a in (past, anomaly))
    return len(one & other) >= ALIKE * len(one | other)
