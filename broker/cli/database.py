"""``fairlead db``: the schema and the size of the store."""

from __future__ import annotations

from dataclasses import asdict

import typer

from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows

app = typer.Typer(no_args_is_help=True, help="Look after the store.")


@app.command()
def upgrade(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Bring the store to this program's schema; it is made where there is none."""
    from broker.cli.store_access import writing
    from broker.config import load_config

    with writing(load_config(config)):
        typer.echo("the store has this program's schema")


@app.command()
def stats(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Print the figures of the store."""
    from broker.cli.store_access import reading

    with reading(config) as (_, reader):
        figures = asdict(reader.counts())
    if output is Output.JSON:
        print_json(figures)
    else:
        print_rows(output, ("figure", "value"), [{"figure": key, "value": value} for key, value in figures.items()])
