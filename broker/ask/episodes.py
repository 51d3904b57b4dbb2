"""Answers about episodes: why, and what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker.ask.draft import Draft
from broker.ask.names import last_part
from broker.store import Reader
from broker.store.rows.episodes import AnnotationEntry
from broker.store.rows.records import RecordRow
from schemas.annotation import phrase, render
from schemas.anomaly import Anomaly
from schemas.evidence import Evidence

#: Episodes that one answer tells of.
MAX_EPISODES: Final = 20
#: Of an explanation: annotated episodes told in full.
_EXPLAINED: Final = 3


def episodes_of(draft: Draft) -> list[Anomaly]:
    """
    Episodes that touch the window, oldest first; where tags are named, those in which one of them takes part.

    Where no named tag takes part in any, those of the same equipment, and a line says so.
    """
    span, owners = draft.query.windows[0], _owners(draft)
    for paths in dict.fromkeys((draft.query.tags, ())):
        found = draft.reader.episodes_between(owners, span.from_ns, span.to_ns, paths=paths, limit=MAX_EPISODES + 1)
        if not found:
            continue
        if draft.query.tags and not paths:
            draft.lines.append("No episode of this window has the named tag in it; these are of the same equipment.")
        if len(found) > MAX_EPISODES:
            draft.reasons.append(f"there are more than {MAX_EPISODES} episodes; told are the latest")
        return found[-MAX_EPISODES:]
    return []


def begun(draft: Draft, limit: int) -> tuple[int, list[Anomaly]]:
    """How many episodes began in the window, of the named tags where tags are named; and the first *limit*."""
    span = draft.query.windows[0]
    return draft.reader.episodes_begun(_owners(draft), span.from_ns, span.to_ns, paths=draft.query.tags, limit=limit)


def _owners(draft: Draft) -> tuple[str, ...]:
    if draft.query.equipment:
        return draft.query.equipment
    owners = (draft.names.by_path[path].equipment for path in draft.query.tags)
    return tuple(dict.fromkeys(owner for owner in owners if owner))


def subject(draft: Draft) -> str:
    """What the query is about, by last names."""
    if draft.query.tags:
        return ", ".join(map(draft.label, draft.query.tags))
    return ", ".join(map(last_part, draft.query.equipment))


def why(draft: Draft) -> None:
    """The most severe episodes with what explains them, in full; the others by name."""
    episodes = sorted(episodes_of(draft), key=lambda one: (int(one.severity), -one.onset_ns))
    if not episodes:
        nothing(draft)
        return
    for anomaly in episodes[:_EXPLAINED]:
        _explain(draft, anomaly)
    if rest := episodes[_EXPLAINED:]:
        draft.lines.append("Less severe in the same window: " + ", ".join(map(draft.episode, rest)) + ".")


def nothing(draft: Draft, began: str = "") -> None:
    """Say that there is no episode (or that none *began*), and which was the last one that began before."""
    span = draft.query.windows[0]
    draft.lines.append(f"No episode of {subject(draft)} {began}{' ' if began else ''}{draft.window(span)}.")
    earlier = draft.reader.episodes_between(_owners(draft), 0, span.from_ns, paths=draft.query.tags, limit=1)
    if earlier:
        draft.lines.append("The last one before: " + ", ".join(map(draft.episode, earlier)) + ".")


def _explain(draft: Draft, anomaly: Anomaly) -> None:
    detail = draft.reader.anomaly(anomaly.anomaly_id)
    mark = draft.episode(anomaly)
    end = "and goes on" if anomaly.closed_ns is None else f"until {draft.time(anomaly.closed_ns)}"
    draft.lines.append(
        f"{last_part(anomaly.equipment)}: {anomaly.title} since {draft.time(anomaly.onset_ns)} {end} {mark}."
    )
    if detail is None or not detail.annotations:
        draft.lines.append("It is not explained yet.")
        return
    entry = _standing([entry for entry in detail.annotations if entry.annotation.origin != "advisory"])
    note = entry.annotation
    evidence = next((e for e in detail.evidence if e.evidence_id == note.evidence_id), None)
    causes = "; ".join(f"{cause.text} ({_percent(cause.probability)})" for cause in note.causes)
    verdict = f", {entry.reviews[-1].verdict} by {entry.reviews[-1].person}" if entry.reviews else ", not reviewed"
    edited = entry.reviews[-1].cause_id if entry.reviews else None
    if edited is not None and evidence is not None:
        named = next((option.text for option in evidence.causes if option.id == edited), edited)
        causes = f"{named} (as {entry.reviews[-1].person} says; proposed: {causes})"
    origin = "the model" if note.origin == "model" else "rules"
    draft.lines.append(f"Likely cause by {origin}{verdict}: {causes} {mark}.")
    if evidence is not None:
        told = entry.reviews[-1].text if entry.reviews and entry.reviews[-1].text else note.text
        draft.lines.append(render(told, evidence))
        draft.lines += _rests_on(draft, note.causes[0].cites, evidence)
    if note.actions:
        draft.lines.append("Proposed: " + "; ".join(note.actions) + ".")


def _standing(entries: Sequence[AnnotationEntry]) -> AnnotationEntry:
    """The annotation that a person released, else the newest that nobody rejected, else the newest."""
    verdicts = [entry.reviews[-1].verdict if entry.reviews else None for entry in entries]
    for wanted in ({"approved", "edited"}, {None}):
        for entry, verdict in zip(entries, verdicts, strict=True):
            if verdict in wanted:
                return entry
    return entries[0]


def _rests_on(draft: Draft, cites: Sequence[str], evidence: Evidence) -> list[str]:
    """The facts of the first cause, each with the record that shows it where it is a value of a tag."""
    lines = []
    for fact in (evidence.fact(one) for one in cites):
        if fact is None:
            continue
        row = None
        if fact.kind == "deviation" and fact.path in draft.names.by_path and fact.value is not None:
            row = _extreme(draft.reader, fact.path, fact.from_ns, evidence.at_ns, fact.value)
        lines.append(f"{fact.id}: {phrase(fact)}" + (f" {draft.record(row)}" if row is not None else "") + ".")
    return lines


def _extreme(reader: Reader, path: str, from_ns: int | None, at_ns: int, value: float) -> RecordRow | None:
    """The record that carries a fact's value."""
    if from_ns is None or from_ns > at_ns:
        return None
    found = reader.summary(path, from_ns, at_ns + 1)
    return (
        next((row for row in (found.at_max, found.at_min) if row is not None and row.value == value), None)
        if found
        else None
    )


def what(draft: Draft) -> None:
    """Every episode in order of time."""
    episodes = episodes_of(draft)
    if not episodes:
        nothing(draft)
    for anomaly in episodes:
        end = "still open" if anomaly.closed_ns is None else f"until {draft.time(anomaly.closed_ns)}"
        draft.lines.append(
            f"{draft.time(anomaly.onset_ns)}: {last_part(anomaly.equipment)}: {anomaly.title}, {end} "
            f"{draft.episode(anomaly)}."
        )


def _percent(share: float | None) -> str:
    return "probability not known" if share is None else f"{100 * share:.0f} %"
