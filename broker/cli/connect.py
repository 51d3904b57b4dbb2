"""A value of each tag of each source, without touching what a running broker has open there."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Set
from pathlib import Path
from typing import Any, Final

from adapters.base import REGISTRY, Adapter, AdapterContext, SourceOptions
from adapters.mqtt import MqttOptions
from adapters.opcua import OpcUaOptions
from broker.cli import exits
from broker.cli.seen import Seen
from broker.config import Config
from schemas.errors import ConfigError, EndOfInput, FairleadError
from schemas.samples import Delivery
from schemas.tagmap import TagMap

#: Our certificate must be the one that the server's people trusted, or will trust.
_KEPT: Final = "pki"
#: Which device is known there, so that another one is told (OPC UA, Modbus).
_DEVICE: Final = "device.json"


def probe_all(config: Config, tag_map: TagMap, limit_s: float) -> tuple[list[dict[str, Any]], int]:
    """A row for each source (source, kind, result, detail, values, missing), and the exit code of all."""
    return asyncio.run(_probe_all(config, tag_map, limit_s))


async def _probe_all(config: Config, tag_map: TagMap, limit_s: float) -> tuple[list[dict[str, Any]], int]:
    names = list(config.sources)
    found = await asyncio.gather(*(_probe(config, tag_map, name, limit_s) for name in names))
    return [row for row, _ in found], worst({code for _, code in found})


def worst(codes: Set[int]) -> int:
    """The exit code of several probes."""
    return next((code for code in (exits.BAD_CONFIGURATION, exits.UNREACHABLE) if code in codes), exits.OK)


async def _probe(config: Config, tag_map: TagMap, name: str, limit_s: float) -> tuple[dict[str, Any], int]:
    options, kind = config.sources[name], config.kinds[name]
    row: dict[str, Any] = {"source": name, "kind": kind, "result": "ok", "detail": "", "values": [], "missing": []}
    tags = tag_map.of_source(name)
    if not options.enabled or not tags:
        return {**row, "result": "skipped", "detail": "disabled" if not options.enabled else "no tag"}, exits.OK
    seen, end = Seen(tags, kind), f"in {limit_s:g} s"
    with tempfile.TemporaryDirectory(prefix="fairlead-check-") as folder:
        state_dir = Path(folder)
        keep = config.state_dir(name) / _KEPT
        if keep.is_dir():
            shutil.copytree(keep, state_dir / _KEPT)
        if (known := config.state_dir(name) / _DEVICE).is_file():
            shutil.copy2(known, state_dir / _DEVICE)
        context = AdapterContext(name, tags, tag_map.revision, time.time_ns, state_dir, config.base_dir)
        step = "build"
        try:
            adapter = REGISTRY[kind].build(_apart(options, config.site.name, name), context)
            try:
                async with asyncio.timeout(limit_s):
                    step = "connect"
                    await adapter.connect()
                    step = "read"
                    await _read(adapter, seen)
            finally:
                row.update(values=seen.values(), missing=seen.missing())
                await adapter.close()
        except TimeoutError:
            if step == "connect":
                return {**row, "result": "failed: connect", "detail": f"no answer in {limit_s:g} s"}, exits.UNREACHABLE
        except EndOfInput:
            end = "before the input ended"
        except ConfigError as error:
            return {**row, "result": f"failed: {step}", "detail": str(error)}, exits.BAD_CONFIGURATION
        except (FairleadError, OSError) as error:
            told = str(error).replace(str(state_dir), str(config.state_dir(name)))  # where people find the files
            return {**row, "result": f"failed: {step}", "detail": told}, exits.UNREACHABLE
        finally:
            _keep_new(state_dir / _KEPT, keep)
            if isinstance(options, OpcUaOptions):
                _keep_met(state_dir, config.state_dir(name), options.endpoint)
    row.update(result=seen.result, detail=seen.text(end))
    return row, exits.OK if seen.usable else exits.UNREACHABLE


def _keep_new(found: Path, keep: Path) -> None:
    """What the probe made stays: our certificate, and the server's that a person may accept now."""
    for path in found.rglob("*"):
        kept = keep / path.relative_to(found)
        if path.is_file() and not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copy2(path, kept)


def _keep_met(found: Path, keep: Path, endpoint: str) -> None:
    """
    Another device than the known one was met: it stands in the file that a person's decision goes by.

    Nothing but that is taken over, and only while the known one is still that of the copy: a person may have accepted
    the other one meanwhile.
    """
    from adapters.opcua import device

    try:
        probed, kept = device.recall(found, endpoint), device.recall(keep, endpoint)
    except (OSError, ValueError):
        return  # connecting told of it
    if probed.met not in (None, kept.met) and probed.known == kept.known:
        kept.met = probed.met
        device.keep(keep, kept)


def _apart(options: SourceOptions, site: str, name: str) -> SourceOptions:
    """
    *options* under a client id of our own, forgotten at once: the running broker keeps its MQTT session.

    It only listens: the STATE and the commands of a Sparkplug host are the running broker's affair, and so are the
    messages of a shared subscription.
    """
    if isinstance(options, MqttOptions):
        options = options.listening()
    changes: dict[str, object] = {}
    if "client_id" in type(options).model_fields:
        changes["client_id"] = f"fairlead-check-{site}-{name}"[:128]
    if "session_expiry" in type(options).model_fields:
        changes["session_expiry"] = 1.0
    return options.model_copy(update=changes)


async def _read(adapter: Adapter, seen: Seen) -> None:
    """Take batches until each tag has said something; whoever calls sets the limit of time."""
    while not seen.complete:
        item = await adapter.read()
        if isinstance(item, Delivery):
            await item.settle()
            seen.take(item.batch)
