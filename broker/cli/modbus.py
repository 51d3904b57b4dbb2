"""``fairlead modbus``: aids for whoever commissions a Modbus source. They read, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from schemas.tagmap import Tag

app = typer.Typer(no_args_is_help=True, help="Try out addresses of a Modbus source; read only.")

#: No measured value is this small; the exponent of a float whose words were swapped often is.
_TINY: Final = 1e-20

SourceArgument = Annotated[str, typer.Argument(help="Name of a source of kind modbus.")]
UnitOption = Annotated[int | None, typer.Option(min=0, max=255, help="Unit; default: the source's.")]


@app.command()
def read(
    source: SourceArgument,
    address: Annotated[str, typer.Argument(help="As in the tag map: 40001, 4!HR100, HRF1024, C5.")],
    type_name: Annotated[str | None, typer.Option("--type", help="Only this type; default: all numbers.")] = None,
    count: Annotated[int, typer.Option(min=1, max=125, help="Values, one behind the other.")] = 1,
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
) -> None:
    """
    Read an address once and show it in every byte order beside each other.

    Where the tag map has a tag at the place, `fits` names the orders that give a value inside its range. The connection
    is one of its own: a device that serves one client at a time may refuse it while the broker reads.
    """
    from adapters.modbus import probe

    _, options, tags, base_dir = _source(config, source)
    try:
        answer = asyncio.run(probe.read(options, address, type_name, count, time.time_ns, base_dir))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    known = _tags_at(options, tags)
    rows: list[dict[str, Any]] = []
    for reading in answer.readings:
        tag = known.get((answer.where.unit, answer.where.function, reading.offset))
        row: dict[str, Any] = {"place": reading.place, "type": reading.type, "values": reading.values}
        if tag is not None:
            row |= {"tag": tag.path, "fits": _fits(tag, reading.values) if tag.type == reading.type else []}
        rows.append(row)
    if output is Output.JSON:
        print_json({"source": source, "address": str(answer.where), "raw": list(answer.raw), "readings": rows})
        return
    typer.echo(f"{source} {answer.where}: {' '.join(f'{word:04X}' for word in answer.raw)}")
    orders = list(dict.fromkeys(order for row in rows for order in row["values"]))
    shown = [
        {
            "place": row["place"],
            "type": row["type"],
            **{order or "value": _text(row["values"].get(order), order in row["values"]) for order in orders},
            "tag": row.get("tag", ""),
            "fits": " ".join(order or "yes" for order in row.get("fits", [])),
        }
        for row in rows
    ]
    print_rows(output, ("place", "type", *(order or "value" for order in orders), "tag", "fits"), shown)


@app.command()
def identify(
    source: SourceArgument,
    unit: UnitOption = None,
    accept: Annotated[bool, typer.Option("--accept", help="Remember this device for `identity: check`.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask a device who it is (function code 43/14); exit code 1 where it offers no identification."""
    from adapters.modbus import identity, probe

    checked, options, _, base_dir = _source(config, source)
    number = options.unit if unit is None else unit
    found = asyncio.run(probe.identify(options, number, time.time_ns, base_dir))
    if found is None:
        typer.echo(f"unit {number} of {source} offers no identification", err=True)
        raise typer.Exit(1)
    if accept:
        try:
            probe.accept(options, checked.state_dir(source), number, found)
        except ValueError as error:
            typer.echo(f"{checked.state_dir(source) / 'device.json'} is damaged ({error}); remove it", err=True)
            raise typer.Exit(1) from None
    named = {identity.OBJECTS.get(key, f"object {key}"): value for key, value in sorted(found.items())}
    if output is Output.JSON:
        print_json({"source": source, "unit": number, "accepted": accept, "identity": named})
        return
    print_rows(output, ("object", "value"), [{"object": key, "value": value} for key, value in named.items()])
    if accept:
        typer.echo(f"unit {number} of {source} is accepted as {identity.text(found)}")


def _source(path: Path, name: str) -> tuple[Any, Any, tuple[Tag, ...], Path]:
    """The configuration, the options of a Modbus source, its tags, and the folder that file names start at."""
    from broker import tagmap
    from broker.config import check_config

    checked = check_config(path)
    config = checked.draft
    if config is None or (name not in config.sources and checked.errors):
        raise ConfigError(checked.errors)
    if name not in config.sources or config.kinds[name] != "modbus":
        known = ", ".join(sorted(n for n, kind in config.kinds.items() if kind == "modbus")) or "none"
        raise typer.BadParameter(f"{name!r} is no source of kind modbus; there is: {known}", param_hint="SOURCE")
    options = config.sources[name]
    # A map that lacks only the order is what this command is for.
    sources = {**config.sources, name: options.model_copy(update={"byte_order": _order(options)})}
    tags, _ = tagmap.load_with_problems(config.model_copy(update={"sources": sources}), checked.broken)
    return config, options, tags.of_source(name) if tags is not None else (), config.base_dir


def _order(options: Any) -> str:
    return options.byte_order or "ABCD"


def _tags_at(options: Any, tags: Iterable[Tag]) -> dict[tuple[int, int, int], Tag]:
    """Tags by unit, function code and offset; those whose address is still wrong are left aside."""
    from adapters.modbus.point import resolve

    found: dict[tuple[int, int, int], Tag] = {}
    for tag in tags:
        try:
            where = resolve(options.model_copy(update={"byte_order": _order(options)}), tag).address
        except ValueError:
            continue
        found.setdefault((where.unit, where.function, where.offset), tag)
    return found


def _fits(tag: Tag, values: dict[str, Any]) -> list[str]:
    """Orders whose value, scaled, lies in the tag's range; a float that is all but zero comes of a wrong order."""
    if tag.range is None or tag.scale_mode == "sqrt":
        return []
    low, high = tag.range
    return [
        order
        for order, value in values.items()
        if isinstance(value, int | float)
        and not 0 < abs(value) < _TINY
        and low <= value * tag.factor + tag.offset <= high
    ]


def _text(value: Any, there: bool) -> str:
    if not there:
        return ""
    return "no number" if value is None else f"{value:.7g}" if isinstance(value, float) else str(value)
