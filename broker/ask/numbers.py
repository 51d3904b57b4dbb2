"""Answers from records and roll-ups: aggregates, comparisons, how often and when first."""

from __future__ import annotations

from typing import Final

from broker.ask.conditions import state_tag
from broker.ask.draft import Draft
from broker.ask.episodes import MAX_EPISODES, begun, nothing, subject
from broker.ask.names import last_part
from broker.store.reader.begins import Threshold
from broker.store.reader.series import Summary
from schemas.annotation import number, symbol, with_unit
from schemas.documents import rfc3339
from schemas.errors import Refused
from schemas.question import Condition, Span

#: Begins of a condition that are looked for, and of these the ones that are cited.
MAX_BEGINS: Final = 100
MAX_CITED: Final = 20
#: Of the state that a why is about.
MAX_EVENTS: Final = 3
#: Minutes that are read record by record to find where a condition began.
RAW_MINUTES: Final = 200
_SIGN: Final = {"above": "above", "below": "below", "equals": "equal to"}


def _summary(draft: Draft, path: str, span: Span) -> tuple[Summary, str]:
    found = draft.reader.summary(path, span.from_ns, span.to_ns)
    if found is None:
        raise Refused(f"no tag has the path {path!r}")
    if not found.complete:
        draft.reasons.append(
            f"{path} {draft.window(span)}: records past their retention, or still being rolled up, are in no figure"
        )
    _say_units(draft, path, span, found.other_units)

    def shown(value: float | None) -> str:
        return "none" if value is None else draft.value(path, value, found.unit)

    text = (
        f"{path} {draft.window(span)}: min {shown(found.min)}, max {shown(found.max)}, "
        f"mean {'none' if found.mean is None else with_unit(found.mean, found.unit)}, "
        f"{found.n} records, {found.n_bad} bad"
    )
    body = {
        "path": path,
        "unit": found.unit,
        "from": rfc3339(span.from_ns),
        "to": rfc3339(span.to_ns),
        "n": found.n,
        "n_bad": found.n_bad,
        "n_value": found.n_value,
        "min": found.min,
        "max": found.max,
        "mean": found.mean,
    }
    return found, draft.cite("aggregate", text, body)


def _say_units(draft: Draft, path: str, span: Span, others: tuple[str, ...]) -> None:
    if others:
        units = " and ".join(map(symbol, others))
        draft.reasons.append(f"{path} {draft.window(span)}: its unit changed; what is stored in {units} is not in it")


def value(draft: Draft) -> None:
    """One aggregate of each tag, with the record that has it."""
    span = draft.query.windows[0]
    for path in draft.query.tags:
        if draft.query.aggregate == "last":
            _last(draft, path, span)
            continue
        found, mark = _summary(draft, path, span)
        row = {"max": found.at_max, "min": found.at_min}.get(draft.query.aggregate or "")
        value = {"max": found.max, "min": found.min, "mean": found.mean}[draft.query.aggregate or "mean"]
        if value is None:
            draft.lines.append(f"{draft.label(path)} has no usable number {draft.window(span)} {mark}.")
            continue
        shown = (
            with_unit(value, found.unit) if draft.query.aggregate == "mean" else draft.value(path, value, found.unit)
        )
        line = f"The {draft.query.aggregate} of {draft.label(path)} was {shown}"
        if row is not None:
            line += f" at {draft.time(row.source_ns)} {draft.record(row)}"
        draft.lines.append(f"{line}, {draft.window(span)} {mark}.")


def _last(draft: Draft, path: str, span: Span) -> None:
    row = draft.reader.last_before(path, span.to_ns)
    if row is None:
        draft.lines.append(f"{draft.label(path)} has no record up to {draft.time(span.to_ns)}.")
        return
    shown = row.value_text or "no value" if row.value is None else draft.value(path, row.value, row.unit)
    old = " (before the window)" if row.source_ns < span.from_ns else ""
    draft.lines.append(
        f"The last value of {draft.label(path)} up to {draft.time(span.to_ns)} was {shown} "
        f"at {draft.time(row.source_ns)}{old}, quality {row.quality} {draft.record(row)}."
    )


def _condition(draft: Draft, condition: Condition, path: str) -> str:
    """The condition as words: ``P101 Flow above 40 m³/h``."""
    if condition.state:
        return f"{draft.label(path)} = {condition.state}"
    unit = symbol(draft.names.by_path[path].unit)
    return f"{draft.label(path)} {_SIGN[condition.comparison]} {number(condition.value)} {unit}".rstrip()


def _begins(draft: Draft, *, most: int) -> None:
    span, path = draft.query.windows[0], draft.query.tags[0]
    condition = draft.query.condition
    assert condition is not None
    test = Threshold(condition.comparison, condition.value)
    found = draft.reader.begins(path, span.from_ns, span.to_ns, test, most=most, raw_minutes=RAW_MINUTES)
    if found is None:
        raise Refused(f"no tag has the path {path!r}")
    _say_units(draft, path, span, found.other_units)
    what = _condition(draft, condition, path)
    remedy = "what comes then is past its retention" if found.removed else "ask for a shorter window"
    if found.held_before:
        draft.lines.append(f"It was so already when the window began at {draft.time(span.from_ns)}.")
    if draft.query.form == "first":
        if found.records:
            row = found.records[0]
            draft.lines.append(f"{what}: first at {draft.time(row.source_ns)} {draft.record(row)}.")
        elif found.complete:
            draft.lines.append(f"{what}: this did not begin at any time {draft.window(span)}.")
        else:
            draft.reasons.append(f"only the time to {draft.time(found.until_ns)} was looked at; {remedy}")
        return
    at_least = "" if found.complete else "at least "
    times = "time" if len(found.records) == 1 else "times"
    draft.lines.append(f"{what}: began {at_least}{len(found.records)} {times} {draft.window(span)}.")
    if found.records:
        shown = found.records[:MAX_CITED]
        draft.lines.append(
            "Each began at: " + ", ".join(f"{draft.time(r.source_ns)} {draft.record(r)}" for r in shown) + "."
        )
        if len(found.records) > len(shown):
            draft.reasons.append(f"the first {len(shown)} of {len(found.records)} are cited")
    if not found.complete:
        draft.reasons.append(f"counted up to {draft.time(found.until_ns)}; {remedy}")


def happened(draft: Draft) -> None:
    """Whether and when the state began that a why is about; without one nothing is said."""
    span, condition = draft.query.windows[0], draft.query.condition
    if condition is None:
        return
    equipment = draft.query.equipment[0]
    tag = state_tag(equipment, draft.names)
    test = Threshold(condition.comparison, condition.value)
    found = tag and draft.reader.begins(
        tag.path, span.from_ns, span.to_ns, test, most=MAX_BEGINS, raw_minutes=RAW_MINUTES
    )
    if tag is None or found is None:
        raise Refused(f"{last_part(equipment)} has no tag that tells its state by name")
    what = _condition(draft, condition, tag.path)
    before = draft.reader.last_before(tag.path, span.from_ns) if found.held_before else None
    if before is not None:
        draft.lines.append(f"{what}: it was so already when the window began {draft.record(before)}.")
    if found.records:
        shown = ", ".join(f"{draft.time(row.source_ns)} {draft.record(row)}" for row in found.records[:MAX_EVENTS])
        more = f", and {len(found.records) - MAX_EVENTS} more" if len(found.records) > MAX_EVENTS else ""
        draft.lines.append(f"{what}: began at {shown}{more}.")
    elif draft.reader.last_before(tag.path, span.to_ns) is None:
        draft.reasons.append(f"{what}: whether it began is not known, the tag has no record up to the window's end")
    elif found.complete and before is None:
        _, mark = _summary(draft, tag.path, span)
        draft.lines.append(
            f"{what} did not begin {draft.window(span)} {mark}. What follows is what detectors found in this time."
        )
    if not found.complete:
        draft.reasons.append(f"{what} was looked for up to {draft.time(found.until_ns)} only")


def count(draft: Draft) -> None:
    """How often a condition, or an episode, began."""
    if draft.query.condition is not None:
        _begins(draft, most=MAX_BEGINS)
        return
    span = draft.query.windows[0]
    many, episodes = begun(draft, MAX_EPISODES)
    draft.lines.append(f"{subject(draft)}: {many} {'episode' if many == 1 else 'episodes'} began {draft.window(span)}.")
    if episodes:
        draft.lines.append(
            ("They are " if many == len(episodes) else "The first are ") + ", ".join(map(draft.episode, episodes)) + "."
        )
    if many > len(episodes):
        draft.reasons.append(f"the first {len(episodes)} of {many} are cited")


def first(draft: Draft) -> None:
    """When a condition, or an episode, began first."""
    if draft.query.condition is not None:
        _begins(draft, most=1)
        return
    _, episodes = begun(draft, 1)
    if not episodes:
        nothing(draft, "began")
        return
    first = episodes[0]
    draft.lines.append(
        f"The first episode began at {draft.time(first.onset_ns)}: {last_part(first.equipment)}: {first.title} "
        f"{draft.episode(first)}."
    )


def compare(draft: Draft) -> None:
    """Aggregates of tags and windows side by side."""
    tags = draft.query.tags or _common_tags(draft)
    pairs = [(path, span) for path in tags for span in draft.query.windows]
    if len(pairs) < 2:
        raise Refused("a comparison needs two tags, two pieces of equipment with tags of one name, or two times")
    means: list[tuple[str, float, str]] = []
    for path, span in pairs:
        found, mark = _summary(draft, path, span)
        if found.mean is None:
            draft.lines.append(f"{draft.label(path)} {draft.window(span)}: no usable number {mark}.")
            continue
        draft.lines.append(
            f"{draft.label(path)} {draft.window(span)}: mean {with_unit(found.mean, found.unit)}, "
            f"min {with_unit(found.min or 0.0, found.unit)}, max {with_unit(found.max or 0.0, found.unit)} {mark}."
        )
        means.append((path, found.mean, found.unit))
    if len(pairs) == 2 and len(means) == 2 and means[0][2] == means[1][2]:
        difference = means[1][1] - means[0][1]
        draft.lines.append(
            f"The second mean is {with_unit(abs(difference), means[0][2])} "
            f"{'above' if difference >= 0 else 'below'} the first."
        )


def _common_tags(draft: Draft) -> list[str]:
    """Tags whose last part all named equipment has, side by side; at most three names."""
    by_equipment = [
        {last_part(tag.path): tag.path for tag in draft.names.of_equipment(one) if tag.role not in ("state", "sp")}
        for one in draft.query.equipment
    ]
    common = [name for name in by_equipment[0] if all(name in tags for tags in by_equipment)]
    if len(common) > 3:
        draft.reasons.append(f"compared are {', '.join(common[:3])}; they have {len(common)} tags in common")
    return [tags[name] for name in common[:3] for tags in by_equipment]
