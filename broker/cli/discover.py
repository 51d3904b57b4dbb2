"""``fairlead discover``: what an OPC UA server offers, and what a source would say to it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows
from schemas.errors import NotConnected, Refused

if TYPE_CHECKING:
    from adapters.opcua.discover import Found
    from adapters.opcua.trust import Lists


def discover(
    url: Annotated[str, typer.Argument(help="opc.tcp://host:port/path")],
    source: Annotated[
        str | None, typer.Option(help="Judge by the certificates that this source accepts; default: by none.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    timeout: Annotated[float, typer.Option(min=0.1, max=300, help="Seconds for all answers.")] = 15.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """
    Ask an OPC UA server for its endpoints and the servers it knows; nothing is signed in, read or changed.

    Exit code 69 if it cannot be reached.
    """
    from adapters.opcua.config import OpcUaOptions

    try:
        endpoint = OpcUaOptions.model_validate({"endpoint": url}).endpoint
    except ValueError:
        raise typer.BadParameter("want opc.tcp://host:port/path, without a user", param_hint="URL") from None
    lists = _lists(config, source)
    found = asyncio.run(_ask(endpoint, lists, timeout))
    if output is Output.JSON:
        servers = [{"name": name, "application_uri": uri, "urls": list(urls)} for name, uri, urls in found.servers]
        print_json({"endpoints": [asdict(one) for one in found.offers], "servers": servers})
        return
    rows = [{**asdict(one), "users": ", ".join(one.users)} for one in found.offers]
    columns = ("url", "security", "users", "subject", "fingerprint", "valid_until", "verdict")
    print_rows(output, columns, rows, empty="the server offers no endpoint")
    others = [{"server": name, "application_uri": uri, "urls": ", ".join(urls)} for name, uri, urls in found.servers]
    if others:
        typer.echo()
        print_rows(output, ("server", "application_uri", "urls"), others)


async def _ask(endpoint: str, lists: Lists, timeout_s: float) -> Found:
    from adapters.opcua.discover import discover as ask

    try:
        async with asyncio.timeout(timeout_s):
            return await ask(endpoint, lists, datetime.now(UTC))
    except TimeoutError:
        raise NotConnected(f"{endpoint}: no answer in {timeout_s:g} s") from None


def _lists(config: Path, source: str | None) -> Lists:
    from adapters.opcua.trust import Lists

    if source is None:
        return Lists()
    from broker.api.trust import pki_of
    from broker.config import load_config

    try:
        return pki_of(load_config(config), source).lists()
    except Refused as error:
        raise typer.BadParameter(str(error), param_hint="--source") from None
