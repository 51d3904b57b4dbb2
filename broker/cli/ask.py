"""``fairlead ask``: a question about what is stored, through the running core or straight from the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.local_api import ask_core
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, printable
from schemas.errors import Refused

if TYPE_CHECKING:
    from broker.config import Config
    from schemas.question import Answer, Query


def ask(
    question: Annotated[str, typer.Argument(help="Such as: why did P101 trip this morning?")] = "",
    query: Annotated[
        str | None,
        typer.Option("--query", help="Run this query (JSON, or @FILE) instead: the corrected form of an answer."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
) -> None:
    """
    Answer a question from records and episodes; nothing is changed, and the answer cites what it rests on.

    Forms: why, what happened, max/min/mean/last value of, how often, compare, when did ... first. The query that was
    run is printed below the answer; correct it and give it back with --query.
    """
    from broker.config import load_config
    from schemas.question import Answer

    if not question.strip() and query is None:
        raise typer.BadParameter("ask something, or give a query", param_hint="QUESTION")
    form = None if query is None else _form(query)
    settings = load_config(config)
    body: dict[str, Any] = {"question": question}
    if form is not None:
        body["query"] = form.model_dump(mode="json")
    found = ask_core(settings, "POST", "/api/v1/ask", body)
    answer = _alone(settings, config, question, form) if found is None else Answer.model_validate(found)
    if output is Output.JSON:
        print_json(answer.model_dump(mode="json"))
    else:
        _print(answer)


def _form(text: str) -> Query:
    from pydantic import ValidationError

    from schemas.question import Query

    source = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
    try:
        return Query.model_validate_json(source)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "query"
        raise Refused(f"{where}: {first['msg']}") from None


def _alone(settings: Config, path: Path, question: str, form: Query | None) -> Answer:
    """Without a core there is no model; the common forms work."""
    from zoneinfo import ZoneInfo

    from broker.ask.service import Asker
    from broker.cli.store_access import reading

    with reading(path) as (_, reader):
        asker = Asker(reader, ZoneInfo(settings.site.timezone), settings.ask)
        return asker.ask(question) if form is None else asker.run_query(form, question)


def _print(answer: Answer) -> None:
    for line in answer.lines:
        typer.echo(printable(line))
    for reason in answer.reasons:
        typer.echo(f"maybe incomplete: {printable(reason)}")
    if answer.citations:
        typer.echo("")
    for one in answer.citations:
        typer.echo(f"[{one.id}] {printable(one.text)}")
    typer.echo("")
    for note in answer.notes:
        typer.echo(f"note: {printable(note)}")
    typer.echo(f"query ({answer.parsed_by}): {answer.query.model_dump_json(exclude_defaults=True)}")
