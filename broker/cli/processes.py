"""Commands that run until they are stopped: the broker, its two processes, and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.cli.output import DEFAULT_CONFIG, ConfigOption


def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the broker until it is stopped."""
    from broker.config import load_config
    from broker.supervisor import run_supervisor
    from broker.tagmap import load

    checked = load_config(config)
    load(checked)  # a map with an error starts nothing and writes nothing
    raise typer.Exit(run_supervisor(checked))


def acquire(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the process of the plant side: adapters and journal."""
    from broker.acquire.process import run_acquire
    from broker.config import load_config

    raise typer.Exit(run_acquire(load_config(config)))


def core(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the process of the office side: pipeline, store, API and pages."""
    from broker.config import load_config
    from broker.core.process import run_core

    raise typer.Exit(run_core(load_config(config)))


def demo(
    folder: Annotated[
        Path | None, typer.Option(help="Keep everything here; default: a folder that is removed.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 8080,
    seconds: Annotated[float | None, typer.Option(min=1, help="Stop after so long; default: at Ctrl-C.")] = None,
) -> None:
    """Run a simulated plant, the broker and the page on this machine."""
    from broker.demo import run_demo

    raise typer.Exit(run_demo(folder=folder, port=port, seconds=seconds))
