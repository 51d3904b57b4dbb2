"""``fairlead model list`` and ``show``: what there is, and everything that is known of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows, printable
from schemas.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="As `fairlead model list` prints it; `registry:` may be left out.")
]
_COLUMNS: Final = ("model", "kind", "state", "rung", "licence", "card", "use", "answers", "crashes", "imported")
_UNHASHED: Final = "not known: write it into llm"


def list_models(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Print every model with its state: quarantined, admitted, advisory or damaged."""
    from broker.cli.store_access import reading
    from broker.models.overview import overview

    with reading(config) as (settings, reader):
        found = overview(settings, reader)
    if output is Output.JSON:
        print_json(found)
        return
    print_rows(output, _COLUMNS, [_row(one) for one in found])


def _row(one: dict[str, Any]) -> dict[str, Any]:
    card = one["card"]
    top1 = "" if card is None or card["top1"] is None else f" {card['top1']:.0%}"
    use = [*(["configured"] if one["configured"] else []), *(f"chosen for {name}" for name in one["chosen_for"])]
    version = "" if one["version"] is None else f"@{one['version']}"
    return {
        **one,
        "model": f"{one['name']}{version}",
        "state": one["state"] if one["current"] else f"{one['state']}, old",
        "card": "none" if card is None else f"{'passed' if card['passed'] else 'failed'}{top1}",
        "use": ", ".join(use),
        "imported": (one["imported"] or "")[:16].replace("T", " "),
    }


def show(name: NameArgument, config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Print one model: licence, origin, rung, files, card, decision, use, crashes and notices."""
    from broker.cli.store_access import reading
    from broker.models import overview
    from broker.models.locate import decided_name

    with reading(config) as (settings, reader):
        found = [one for one in overview.overview(settings, reader) if not _names(one).isdisjoint((name, _full(name)))]
        if not found:
            raise Refused(f"there is no model {name!r}; fairlead model list prints what there is")
        keys = {one["sha256"] for one in found} - {""}  # stored under it is what happened to any unknown hash
        parts = [one["parts"] for one in found if one["parts"] is not None]
        files = keys | {part[of] for part in parts for of in ("model_sha256", "adapter_sha256")}
        told: dict[str, Any] = {
            "versions": found,
            "files": [
                {"version": row.version, **file.model_dump(mode="json")}
                for row in reader.model_imports()
                if row.main_sha256 in files
                for file in row.manifest.files
            ],
            "decisions": [
                overview.shown_decision(row)
                for row in reader.model_decisions()
                if row.decision.model in {found[0]["name"], *(decided_name(part["model"]) for part in parts)}
            ],
            "incidents": [
                overview.shown_incident(row) for row in reader.model_incidents(limit=1000) if row.model_key in keys
            ],
        }
    if output is Output.JSON:
        print_json(told)
        return
    for line in _lines(told):
        typer.echo(printable(line))


def _names(one: dict[str, Any]) -> set[str]:
    """What a person may call it; a model with its adapter also by the name of either."""
    parts = one["parts"]
    also = set() if parts is None else {parts["model"], parts["adapter"]}
    return {one["name"], f"{one['name']}@{one['version']}", *also}


def _full(name: str) -> str:
    """A name as the registry has it."""
    return name if ":" in name or "/" in name else f"registry:{name}"


def _lines(told: dict[str, Any]) -> Iterator[str]:
    for one in told["versions"]:
        version = "" if one["version"] is None else f"@{one['version']}"
        yield f"{one['name']}{version}: {one['state']}{'' if one['current'] else ', old'}"
        if one["problem"]:
            yield f"  problem: {one['problem']}"
        for key in ("what", "licence", "origin", "rung"):
            yield f"  {key}: {one[key]}"
        yield from _hashes(one)
        if one["imported"]:
            yield f"  imported {one['imported']} by {one['imported_by']}"
            yield f"  signed by {one['signer']}, sha256:{one['fingerprint']}"
        if one["rollback"]:
            yield f"  rolled back to it: {one['rollback']}"
        yield f"  {_card_line(one['card'])}"
        last = "" if one["last_answer"] is None else f", the last {one['last_answer']}"
        yield f"  answers {one['answers']}{last}; crashes {one['crashes']}{'; configured' * one['configured']}"
    for file in told["files"]:
        yield f"file {file['version']}: {file['path']} ({file['role']}, {file['size']} bytes) {file['sha256']}"
    for place, one in enumerate(told["decisions"]):
        yield f"{'decision' if not place else 'earlier decision'}: {one['use']}, rung {one['rung']}, {one['decided']}"
        yield f"  by {one['decided_by']}: {one['reason']}"
        for axis, words in one["axes"].items():
            yield f"  {axis.replace('_', ' ')}: {words}"
        for words in one["alternatives"]:
            yield f"  instead of: {words}"
    if not told["decisions"]:
        yield "decision: none is recorded; fairlead model decide records one"
    for one in told["incidents"]:
        yield f"{one['kind']} {one['at']}{'' if one['ended'] else ' (still so)'}: {one['detail']}"


def _hashes(one: dict[str, Any]) -> Iterator[str]:
    parts = one["parts"]
    if parts is None:
        yield f"  sha256: {one['sha256'] or _UNHASHED}"
        return
    yield f"  model: {parts['model']}, sha256 {parts['model_sha256'] or _UNHASHED}"
    scale = f"scale {parts['adapter_scale']:g}"
    yield f"  adapter: {parts['adapter']}, sha256 {parts['adapter_sha256'] or _UNHASHED}, {scale}"
    yield f"  key of both, by which answers and card go: {one['sha256'] or 'not known without both hashes'}"


def _card_line(card: dict[str, Any] | None) -> str:
    if card is None:
        return "card: none; fairlead llm bench makes one"

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    why = f"; {'; '.join(card['reasons'])}" if card["reasons"] else ""
    return (
        f"card: {'passed' if card['passed'] else 'not passed'} on {card['suite']} ({card['scenarios']} scenarios, "
        f"{card['made_at']}): top-1 {share(card['top1'])}, ECE {share(card['ece'])}, "
        f"unknown AUROC {share(card['unknown_auroc'])}{why}"
    )
