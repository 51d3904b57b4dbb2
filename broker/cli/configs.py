"""``fairlead config``: effective values with their origin, JSON Schema, and the reference page."""

from __future__ import annotations

import typer

from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows
from schemas.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Show the configuration and what it can contain.")


@app.command()
def show(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Print every option in force and where its value comes from; secrets stay references."""
    from broker.config import check_config
    from broker.config.reference import effective

    checked = check_config(config)
    if checked.errors:
        raise ConfigError(checked.errors)
    rows = [{"option": name, "value": value, "origin": origin} for name, value, origin in effective(checked)]
    print_rows(output, ("option", "value", "origin"), rows)


@app.command()
def schema() -> None:
    """Print the JSON Schema of fairlead.yaml."""
    from broker.config.reference import json_schema

    print_json(json_schema())


@app.command()
def reference() -> None:
    """Print the reference of all options (docs/configuration.md)."""
    from broker.config.reference import markdown

    typer.echo(markdown(), nl=False)
