"""``fairlead replay``: make records anew after a mistake in the tag map, through the running core or with its lock."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from broker.cli import exits, times
from broker.cli.local_api import ask_core
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json
from schemas.errors import ConfigError, FairleadError, StoreError

if TYPE_CHECKING:
    from broker.config import Config
    from broker.store.rows.operation import ReplayRow
    from schemas.tagmap import TagMap

#: How often the running core is asked how far it is.
_LOOK_S: Final = 0.5
_ACTOR: Final = "command line"


def replay(
    begin: Annotated[str, typer.Option("--from", help=f"Journalled at or after: {times.HELP}")],
    end: Annotated[str | None, typer.Option("--to", help="Journalled before; the same forms; default: now.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    source: Annotated[list[str] | None, typer.Option(help="Only of this source; may be repeated.")] = None,
    map_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--map",
            help="Tag-map file with the corrected tags; default: the map the broker was started with. May be repeated.",
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """
    Normalize the raw samples of a span again and store the corrected records under a new revision.

    v_records shows them at once, v_record_history keeps the old ones, roll-ups are corrected. Only tags whose scale,
    unit, range, clamp, deadband or sentinels differ are written. The broker may go on running.
    """
    from broker.config import load_config

    settings = load_config(config)
    now_ns = time.time_ns()
    from_ns = times.moment(begin, now_ns, "--from")
    to_ns = times.moment(end, now_ns, "--to")
    assert from_ns is not None
    unknown = sorted(set(source or ()) - set(settings.sources))
    if unknown:
        typer.echo(f"fairlead: not in the configuration: {', '.join(unknown)}", err=True)
    tag_map = _map(settings, map_file)
    wanted: dict[str, Any] = {"from_ns": str(max(0, from_ns)), "sources": source or [], "reason": reason}
    if to_ns is not None:
        wanted["to_ns"] = str(max(0, to_ns))
    if tag_map is not None:
        wanted["map"] = msgspec.json.decode(tag_map.body)
    answer = ask_core(settings, "POST", "/api/v1/replays", wanted)
    if answer is not None:
        found = _follow(settings, int(answer["revision"]))
    else:
        span_ns = (max(0, from_ns), now_ns if to_ns is None else max(0, to_ns))
        found = _alone(settings, span_ns, tuple(source or ()), tag_map, reason)
    if output is Output.JSON:
        print_json(found)
    else:
        typer.echo(f"{found['state']}: {found['detail']}")
    raise typer.Exit(exits.OK if found["state"] == "done" else exits.FAILED)


def _map(settings: Config, files: list[Path] | None) -> TagMap | None:
    from broker.release import ReviewOptions
    from broker.tagmap import load

    if not files:
        return None
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{file}: there is no such file")
    named = tuple(str(file.resolve()) for file in files)
    # what may be released is not judged by a part of the map, which may lack the catalogue
    return load(settings.model_copy(update={"tag_maps": named, "review": ReviewOptions()}))


def _follow(settings: Config, revision: int) -> dict[str, Any]:
    """Wait for the running core; an interruption of this command does not end the replay."""
    show = _progress()
    while True:
        answer = ask_core(settings, "GET", "/api/v1/replays?limit=20")
        if answer is None:
            raise StoreError(f"the core has ended; replay {revision} is interrupted, run it again")
        row: dict[str, Any] = next(item for item in answer["replays"] if item["revision"] == revision)
        if row["state"] != "running":
            show(None)
            return row
        show(row["share"])
        time.sleep(_LOOK_S)


def _alone(
    settings: Config, span_ns: tuple[int, int], sources: tuple[str, ...], tag_map: TagMap | None, reason: str
) -> dict[str, Any]:
    """Without a core: with the store's lock, in this process."""
    from broker import events
    from broker.api.replays import replay_json
    from broker.cli.store_access import writing
    from broker.core.replay import Replay
    from broker.core.replay_outcome import ReplayRequest

    events.set_up(settings.log.level)  # to stderr: standard output is the answer's
    show = _progress()
    with writing(settings) as store:

        def write(command: Any) -> Any:
            with store.transaction() as tx:
                result = command(tx)
            at_ns = job.outcome.at_ns
            if at_ns is not None:
                show(min(1.0, max(0.0, (at_ns - span_ns[0]) / max(1, span_ns[1] - span_ns[0]))))
            return result

        keep = settings.store.keep
        job = Replay(
            settings.data_dir / "journal",
            store.reader(),
            settings.normalize,
            ReplayRequest(*span_ns, sources, tag_map, _ACTOR, reason),
            committed=store.position(),
            keep_s=min(keep.records, keep.rollups_1m),
            write=write,
        )
        job.check()
        revision = job.begin()
        try:
            job.run()
        except FairleadError:
            pass  # the ledger says why
        finally:
            show(None)
        rows: list[ReplayRow] = store.reader().replays(limit=20)
        return replay_json(next(row for row in rows if row.revision == revision))


def _progress() -> Any:
    """Percent on a terminal's stderr; nothing elsewhere. None ends the line."""
    terminal = sys.stderr.isatty()

    def show(share: float | None) -> None:
        if terminal:
            typer.echo("\r          \r" if share is None else f"\r{share:.0%} ", nl=False, err=True)

    return show
