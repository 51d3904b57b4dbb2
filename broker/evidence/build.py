"""The evidence of an anomaly revision, put together; and when a revision is worth new evidence."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Final

from broker.catalogue import catalogue
from broker.evidence.context import gap_facts, history, surroundings
from broker.evidence.members import bad_values, member_facts
from broker.evidence.normal import BASELINE_NS, baseline_ns
from broker.evidence.others import other_tags
from broker.evidence.records import Records
from broker.manuals.finding import passage_facts
from schemas.anomaly import Anomaly, Member
from schemas.evidence import Evidence, Fact
from schemas.tagmap import TagMap

MAX_DEVIATIONS: Final = 8
MAX_OTHERS: Final = 3
#: Beyond so many sigmas a distance says no more about a tag's share: a signal without noise would drown every other.
MOST_SIGMAS: Final = 1000.0


def signature(anomaly: Anomaly) -> tuple[str, ...]:
    """
    What makes a revision worth new evidence: members, severity, and a peak that has grown fourfold.

    That an episode closes does not: by then the tags are back, and nothing they say explains what happened.
    """
    members = sorted({f"{m.tag_id}/{m.detector}/{m.direction}/{_reach(m)}" for m in anomaly.members})
    return (str(int(anomaly.severity)), *members)


def _reach(member: Member) -> int:
    """How far the peak lies outside the band, in powers of four of the band's half width; 0 where there is no band."""
    if member.peak is None or member.low is None or member.high is None or not member.high > member.low:
        return 0
    half = (member.high - member.low) / 2
    distance = abs(member.peak - (member.low + half)) / half
    return round(math.log(distance, 4)) if math.isfinite(distance) and distance > 1 else 0


def reach(tag_map: TagMap, anomaly: Anomaly) -> tuple[list[str], int, int, int]:
    """Tags that the evidence reads, from when, the onset of what happened, and to when."""
    paths = {tag.path for tag in tag_map.tags if tag.equipment == anomaly.equipment}
    paths.update(member.path for member in anomaly.members)
    onset_ns = min([anomaly.onset_ns, *(member.onset_ns for member in anomaly.members)])
    longest_ns = max((baseline_ns(tag_map.by_path.get(path)) for path in paths), default=BASELINE_NS)
    return sorted(paths), onset_ns - longest_ns, onset_ns, anomaly.updated_ns + 1


def build_evidence(
    records: Records,
    tag_map: TagMap,
    anomaly: Anomaly,
    record_seq: int,
    elsewhere: Collection[str] = (),
    shifts: Sequence[str] = (),
) -> Evidence:
    """
    Compute the numbered facts of one anomaly revision.

    *elsewhere* are paths that belong to other open episodes; nothing is said of them here. *shifts* work now. At most
    23 facts: deviations in order of onset, then gaps, equipment state and set-point changes, shift, similar past
    episodes, neighbours that stayed normal, and passages of the site's own manuals and log. Passages come last, so that
    the ids of what was measured are the same with and without manuals.
    """
    tags = [tag for tag in tag_map.tags if tag.equipment == anomaly.equipment]
    by_path = {tag.path: tag for tag in tags}
    equipment = tag_map.equipment_by_path.get(anomaly.equipment)
    now_ns = anomaly.updated_ns + 1
    deviations = member_facts(records, anomaly, by_path, record_seq, now_ns)
    others = [tag for tag in tags if tag.path not in elsewhere]
    moved, neighbours = other_tags(records, anomaly, others, record_seq, now_ns)
    context = bad_values(records, deviations, record_seq, now_ns)
    context += surroundings(records, anomaly, tags, equipment.state if equipment else None, record_seq, now_ns)
    ordered = sorted(deviations + moved, key=lambda fact: (fact.from_ns or 0, fact.path or ""))[:MAX_DEVIATIONS]
    ranked = [
        fact.model_copy(update={"rank": rank, "contribution": share})
        for rank, (fact, share) in enumerate(zip(ordered, _shares(ordered), strict=True), 1)
    ]
    before = history(records, anomaly)
    gaps = gap_facts(records, anomaly, tags, now_ns)
    working = [Fact(id="E1", kind="state", path="shift", text=", ".join(shifts))] if shifts else []
    facts = [*ranked, *gaps, *context[:MAX_OTHERS], *working, *before, *neighbours]
    equipment_class = equipment.equipment_class if equipment else None
    options = tag_map.catalogue_of(equipment_class) or catalogue(equipment_class)
    measured = Evidence(
        anomaly_id=anomaly.anomaly_id,
        anomaly_revision=anomaly.revision,
        equipment=anomaly.equipment,
        equipment_class=equipment_class,
        kind=anomaly.kind,
        severity=anomaly.severity,
        ne107=anomaly.ne107,
        at_ns=anomaly.updated_ns,
        record_seq=record_seq,
        facts=_numbered(facts),
        causes=options.causes,
        actions=options.actions,
    )
    passages = passage_facts(records, measured)
    return measured.with_facts(_numbered([*facts, *passages])) if passages else measured


def _numbered(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    return tuple(fact.model_copy(update={"id": f"E{i}"}) for i, fact in enumerate(facts, 1))


def _shares(facts: Sequence[Fact]) -> list[float | None]:
    """
    Share of each deviation in all of them: as a detector of several tags told it, else by their sigmas.

    None where neither is known; a single deviation has the whole.
    """
    told = [fact.contribution for fact in facts]
    if any(share is not None for share in told):
        return told
    parts = [None if fact.sigmas is None else min(fact.sigmas, MOST_SIGMAS) for fact in facts]
    total = sum(part for part in parts if part is not None)
    return [None if part is None or total <= 0 else round(part / total, 3) for part in parts]
