"""What commands print: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Where no terminal tells its width: wide enough that no cell of a usual table is broken.
_PLAIN_WIDTH: Final = 200


class Output(StrEnum):
    """Form of the output."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the output.")]
ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="FAIRLEAD_CONFIG", help="The configuration file.", show_envvar=True)
]
#: Used where neither the option nor the environment names a file.
DEFAULT_CONFIG: Final = Path("fairlead.yaml")


def printable(value: object) -> str:
    """*value* as one line without control characters; whatever a device sent, the terminal stays as it is."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def print_json(data: Any) -> None:
    """Print *data* as indented JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def print_rows(
    output: Output, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, empty: str = "nothing to show"
) -> None:
    """Print one line a row; in JSON a list of objects with every member of the rows, not the columns alone."""
    items = list(rows)
    if output is Output.JSON:
        print_json(items)
        return
    if not items:
        typer.echo(empty, err=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for item in items:
        table.add_row(*(Text(printable(item.get(column))) for column in columns))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH, no_color=True)
    console.print(table)
