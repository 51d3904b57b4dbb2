"""``fairlead audit``: what an annotation rests on, the same once more, and the chain of all audit rows."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from broker.cli import exits
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker.audit.lineage import FactLineage, Lineage

app = typer.Typer(no_args_is_help=True, help="Who did what, and an annotation down to what the devices said.")
AnnotationArgument = Annotated[str, typer.Argument(help="Id of the annotation, or the beginning of it.")]


@app.command()
def show(
    annotation: AnnotationArgument, config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE
) -> None:
    """Print model, prompt, choices, checks, evidence, records, journal entries, reviews and documents."""
    from broker.audit.lineage import trace
    from broker.cli.store_access import reading
    from broker.scorecard import cards
    from llm.model_file import shipped

    with reading(config) as (settings, reader):
        kept = partial(cards.find, settings.data_dir)
        found = trace(reader, settings.data_dir / "journal", annotation, card_of=shipped, score_of=kept)
        zone = ZoneInfo(settings.site.timezone)
    if output is Output.JSON:
        print_json(found.model_dump(mode="json"))
    else:
        for line in _lines(found, zone):
            typer.echo(printable(line))
    raise typer.Exit(exits.OK if all(found.holds.values()) else exits.FAILED)


@app.command("list")
def list_rows(
    config: ConfigOption = DEFAULT_CONFIG,
    action: Annotated[
        str | None, typer.Option(help="Only rows of one action, such as map_in_force or configuration_in_force.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most rows.")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """
    Print the newest rows of the audit: who did what and when, also which map and configuration came into force.

    The table has the details in short; --output json has them whole.
    """
    from broker.cli.audit_detail import in_short, short_ids
    from broker.cli.store_access import reading
    from schemas.documents import rfc3339

    with reading(config) as (_, reader):
        found = reader.audit(limit=limit, action=action)
    rows = [
        {
            "audit_id": row.audit_id,
            "at": rfc3339(row.at_ns),
            "actor": row.actor,
            "action": row.action,
            "object_id": row.object_id if output is Output.JSON else short_ids(row.object_id),
            "detail": json.loads(row.detail) if output is Output.JSON else in_short(json.loads(row.detail)),
        }
        for row in found
    ]
    print_rows(output, ("audit_id", "at", "actor", "action", "object_id", "detail"), rows, empty="no rows")


@app.command()
def replay(
    annotation: AnnotationArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    model: Annotated[
        str,
        typer.Option(help="The model file, builtin:NAME or registry:NAME@VERSION, where it is not found by its hash."),
    ] = "",
    adapter: Annotated[str, typer.Option(help="The adapter's file, where it is not found by its hash.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Annotate the stored evidence again and compare token by token; nothing is stored. Exit 1: something differs."""
    from broker.audit.again import again
    from broker.audit.lineage import trace
    from broker.cli.store_access import reading
    from broker.models.recorded import named, recorded
    from llm.model_file import BUILTIN
    from schemas.errors import Refused, WorkerError
    from schemas.manifest import REGISTRY

    with reading(config) as (settings, reader):
        found = trace(reader, settings.data_dir / "journal", annotation)
        asked = found.provenance.shared_with
        first = trace(reader, settings.data_dir / "journal", asked) if asked else None
        imported = reader.model_imports() if model.startswith(REGISTRY) else []
    if found.evidence is None or (first is not None and first.evidence is None):
        raise Refused("the evidence of this annotation is no longer kept")
    origin = None if first is None or first.evidence is None else (first.annotation, first.evidence)
    if model and not model.startswith((BUILTIN, REGISTRY)):
        model = str(Path(model).resolve())
    then = found.provenance
    file = None
    try:
        if then.model_sha256:  # rules and a model server have no weights to look for
            by_name = partial(named, settings, imported, model) if model else partial(recorded, settings)
            file = by_name(then, adapter)
    except (WorkerError, ValueError) as error:
        raise Refused(str(error)) from error
    result = asyncio.run(again(found.annotation, found.evidence, settings.llm, settings.base_dir, file, origin=origin))
    was, now = found.provenance.output_tokens, result.annotation.provenance.output_tokens
    if output is Output.JSON:
        print_json(
            {
                "annotation_id": found.annotation_id,
                "equal": result.equal,
                "same": result.same,
                "tokens": [list(was), list(now)],
                "first_token": result.first_token,
                "engines": list(result.engines),
                "calibrations": list(result.calibrations),
                "prompt_versions": list(result.prompt_versions),
            }
        )
    else:
        for name, same in result.same.items():
            typer.echo(f"{name.replace('_', ' '):16} {'the same' if same else 'DIFFERS'}")
        if found.annotation.origin != "rules":
            typer.echo(
                f"{len(was)} tokens then, {len(now)} now"
                + ("" if result.first_token is None else f"; the first that differs is number {result.first_token + 1}")
            )
        if result.prompt_versions[0] != result.prompt_versions[1]:
            typer.echo(_worded(*result.prompt_versions, same=result.same.get("prompt_sha256", False)))
        if result.engines[0] != result.engines[1]:
            typer.echo(f"engine then: {result.engines[0]}; now: {result.engines[1]}")
        if result.calibrations[0] != result.calibrations[1]:
            typer.echo(_calibrated(*result.calibrations))
    raise typer.Exit(exits.OK if result.equal else exits.FAILED)


@app.command()
def verify(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Walk the whole audit chain; exit 1 at the first row that does not hold."""
    from broker.cli.store_access import reading

    with reading(config) as (_, reader):
        fault = reader.verify_audit()
    if fault is not None:
        typer.echo(f"row {fault.audit_id}: {fault.reason}", err=True)
        raise typer.Exit(exits.FAILED)
    typer.echo("every row of the audit holds")


def _worded(then: str, now: str, *, same: bool) -> str:
    versions = f"prompt version then {then or 'not recorded'}, now {now}"
    return versions if same else f"{versions}: it cannot come out the same"


def _calibrated(then: float | None, now: float | None) -> str:
    if then is None:
        return f"calibration then: not recorded; that of now, {now:g}, was applied"
    return f"calibration then: {then:g}, which was applied; the model's manifest now says {now:g}"


def _lines(found: Lineage, zone: ZoneInfo) -> Iterator[str]:
    def at(ns: int) -> str:
        return f"{datetime.fromtimestamp(ns // 1_000_000_000, zone):%Y-%m-%d %H:%M:%S %Z}"

    note, made = found.annotation, found.provenance
    yield f"annotation {found.annotation_id} by {note.origin}, made {at(note.created_ns)}"
    yield f"  of anomaly {note.anomaly_id} revision {note.anomaly_revision}, evidence {note.evidence_id}"
    for cause in note.causes:
        cites = ", ".join(cause.cites) or "nothing"
        share = "p not known" if cause.probability is None else f"p={cause.probability:.4f}"
        yield f"  cause {cause.id} ({cause.mechanism}) {share} rests on {cites}"
    yield f"  text: {found.rendered}"
    for action in note.actions:
        yield f"  action: {action}"
    if found.superseded_by:
        yield f"  superseded by {found.superseded_by}"
    yield f"engine {made.engine}"
    if made.cited_by_code:
        yield f"  cited by code, not by the one who chose: {', '.join(made.cited_by_code)}"
    if made.dropped:
        yield f"  left out of the answer, for the evidence does not bear them out: {', '.join(made.dropped)}"
    if made.shared_with:
        yield f"  the answer was given for an alike anomaly, annotation {made.shared_with}; prompt and tokens are its"
    if made.retried_after:
        yield f"  second answer, without chance; of the first: {made.retried_after}"
    if made.fallback_reason:
        yield f"  rules stand here because: {made.fallback_reason}"
    if note.origin != "rules":
        yield f"  model {made.model_name}, sha256 {made.model_sha256 or 'not known'}, rung {made.model_rung}"
        if made.adapter_sha256:
            yield f"  adapter {made.adapter_name}, sha256 {made.adapter_sha256}, scale {made.adapter_scale}"
        if made.endpoint:
            yield f"  model server {made.endpoint}; probabilities: {made.probabilities}"
        if found.model_card is not None:
            for key, value in found.model_card.items():
                yield f"  card: {key}: {value}"
        yield from _score(found)
        yield (
            f"  family {made.family or '?'}, style {made.style or '?'}, seed {made.seed}, "
            f"temperature {made.temperature}, threads {made.threads}, context {made.context}"
        )
        if made.probabilities == "decoder":
            tempered = "not recorded" if made.calibration is None else f"temperature {made.calibration:g}"
            yield f"  probabilities of the decoder, calibration {tempered}"
        yield f"  sandbox: {', '.join(f'{key} {value}' for key, value in made.sandbox.items()) or 'not recorded'}"
        yield f"  waited {made.queue_ms:.1f} ms, prompt {made.prefill_ms:.1f} ms, answer {made.decode_ms:.1f} ms"
        yield f"prompt version {made.prompt_version}, {made.prompt_tokens} tokens, sha256 {made.prompt_sha256}"
        yield f"  plan sha256 {made.plan_sha256}"
        for line in made.prompt_text.splitlines():
            yield f"  | {line}"
        yield f"tokens {' '.join(map(str, made.output_tokens))}"
        yield "choices " + ", ".join(f"{name} p={share:.4f}" for name, share in made.choices)
    yield "checks " + ", ".join(f"{name} {'passed' if passed else 'FAILED'}" for name, passed in made.checks.items())
    if found.evidence is not None:
        seen = found.evidence
        yield f"evidence {note.evidence_id}: records up to seq {seen.record_seq}, seen {at(seen.at_ns)}"
    for fact in found.facts:
        yield from _fact(fact, at)
    for review in found.reviews:
        reason = f" ({review.reason})" if review.reason else ""
        yield f"review: {review.verdict}{reason} by {review.person}, {at(review.at_ns)} {review.comment}".rstrip()
    for document in found.documents:
        yield f"document {document}"
    for step in found.audit:
        yield f"audit {step.audit_id}: {at(step.at_ns)} {step.actor} {step.action} {step.detail}"
    yield "hashes " + ", ".join(f"{name} {'holds' if held else 'DOES NOT HOLD'}" for name, held in found.holds.items())
    yield "  covered by none: the provenance and the time of creation (audit replay), records, documents"


def _score(found: Lineage) -> Iterator[str]:
    made, card = found.provenance, found.score_card
    if not made.card_id:
        yield "  no score card was in force"
    elif card is None:
        yield f"  score card {made.card_id} was in force and is no longer kept"
    else:
        verdict = "passed" if card.passed else f"did not pass: {'; '.join(card.reasons)}"
        figure = "" if card.model.overall is None else f", cause top-1 {card.model.overall.top1:.3f}"
        yield f"  score card {card.card_id} in force: {card.suite}, {card.scenarios} scenarios{figure}, {verdict}"
    if made.advisory_reason:
        yield f"  advisory, rules stood in front: {made.advisory_reason}"


def _fact(told: FactLineage, at: Callable[[int], str]) -> Iterator[str]:
    counted = f" ({told.fact.samples} samples)" if told.fact.samples else ""
    yield f"  {'*' if told.cited else ' '} {told.fact.id} {told.rendered}{counted}"
    row = told.record
    if row is None:
        return
    shown = f"{row.path} = {row.value} {row.unit} at {at(row.source_ns)}, {row.quality}, revision {row.revision}"
    yield f"      record seq {row.seq}: {shown}"
    if row.journal is None:
        yield f"      journal: the entry is not there (any more); source {row.source}"
        return
    place = row.journal
    raw = f"raw value {place.value}, status {place.status:#010x}, map {place.map_revision}"
    where = f"epoch {place.epoch}, entry {place.seq}, row {place.row} in {place.segment}"
    yield f"      journal: source {row.source}, {where}: {raw}"
