"""Commands that run until they are stopped: the broker, its two processes, and the demo."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.output import DEFAULT_CONFIG, ConfigOption

if TYPE_CHECKING:
    from broker.config import Config
    from broker.supervisor import Plan


def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the broker until it is stopped."""
    from broker import footprint

    footprint.confine()
    # a map with an error starts nothing and writes nothing
    plan = footprint.apart(partial(_check, config))
    from broker.supervisor import run_supervisor

    raise typer.Exit(run_supervisor(plan))


def _check(path: Path) -> Plan:
    """Read configuration and tag map, then make the data folder. Raises ConfigError."""
    from broker.config import load_config
    from broker.config.data_folder import make_data_dir
    from broker.supervisor import Plan
    from broker.tagmap import load

    config = load_config(path)
    load(config)
    make_data_dir(config)
    return Plan(config.path, config.data_dir, config.log.level)


def acquire(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the process of the plant side: adapters and journal."""
    from broker import footprint

    footprint.confine()
    from broker.acquire.process import run_acquire

    raise typer.Exit(run_acquire(_with_folder(config)))


def core(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the process of the office side: pipeline, store, API and pages."""
    from broker import footprint

    footprint.confine()
    from broker.core.process import run_core

    raise typer.Exit(run_core(_with_folder(config)))


def _with_folder(path: Path) -> Config:
    """The configuration, its data folder made. Raises ConfigError."""
    from broker.config import load_config
    from broker.config.data_folder import make_data_dir

    config = load_config(path)
    make_data_dir(config)
    return config


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
