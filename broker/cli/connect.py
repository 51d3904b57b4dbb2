"""One batch from each source, without touching what a running broker has open there."""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from adapters.base import REGISTRY, Adapter, AdapterContext, SourceOptions
from broker.cli import exits
from broker.config import Config
from schemas import status
from schemas.errors import ConfigError, EndOfInput, FairleadError
from schemas.samples import Delivery, SampleBatch
from schemas.tagmap import Tag, TagMap

#: Values shown of a batch.
_SHOWN: Final = 3
#: Our certificate must be the one that the server's people trusted, or will trust.
_KEPT: Final = "pki"


def probe_all(config: Config, tag_map: TagMap, limit_s: float) -> tuple[list[dict[str, Any]], int]:
    """A row for each source (source, kind, result, detail, values), and the exit code of all."""
    return asyncio.run(_probe_all(config, tag_map, limit_s))


async def _probe_all(config: Config, tag_map: TagMap, limit_s: float) -> tuple[list[dict[str, Any]], int]:
    names = list(config.sources)
    found = await asyncio.gather(*(_probe(config, tag_map, name, limit_s) for name in names))
    codes = {code for _, code in found}
    worst = next((code for code in (exits.BAD_CONFIGURATION, exits.UNREACHABLE) if code in codes), exits.OK)
    return [row for row, _ in found], worst


async def _probe(config: Config, tag_map: TagMap, name: str, limit_s: float) -> tuple[dict[str, Any], int]:
    options, kind = config.sources[name], config.kinds[name]
    row: dict[str, Any] = {"source": name, "kind": kind, "result": "ok", "detail": "", "values": []}
    tags = tag_map.of_source(name)
    if not options.enabled or not tags:
        return {**row, "result": "skipped", "detail": "disabled" if not options.enabled else "no tag"}, exits.OK
    with tempfile.TemporaryDirectory(prefix="fairlead-check-") as folder:
        state_dir = Path(folder)
        keep = config.state_dir(name) / _KEPT
        if keep.is_dir():
            shutil.copytree(keep, state_dir / _KEPT)
        context = AdapterContext(name, tags, tag_map.revision, time.time_ns, state_dir, config.base_dir)
        step = "build"
        try:
            adapter = REGISTRY[kind].build(_apart(options, config.site.name, name), context)
            try:
                async with asyncio.timeout(limit_s):
                    step = "connect"
                    await adapter.connect()
                    step = "read"
                    row["values"], row["detail"] = _shown(await _first_batch(adapter), tags)
            finally:
                await adapter.close()
        except TimeoutError:
            if step == "connect":
                return {**row, "result": "failed: connect", "detail": f"no answer in {limit_s:g} s"}, exits.UNREACHABLE
            row["detail"] = f"connected; no value in {limit_s:g} s"
        except EndOfInput:
            row["detail"] = "connected; the input has ended"
        except ConfigError as error:
            return {**row, "result": f"failed: {step}", "detail": str(error)}, exits.BAD_CONFIGURATION
        except (FairleadError, OSError) as error:
            return {**row, "result": f"failed: {step}", "detail": str(error)}, exits.UNREACHABLE
        finally:
            _keep_new(state_dir / _KEPT, keep)
    return row, exits.OK


def _keep_new(found: Path, keep: Path) -> None:
    """What the probe made stays: our certificate, and the server's that a person may accept now."""
    for path in found.rglob("*"):
        kept = keep / path.relative_to(found)
        if path.is_file() and not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copy2(path, kept)


def _apart(options: SourceOptions, site: str, name: str) -> SourceOptions:
    """*options* under a client id of our own, forgotten at once: the running broker keeps its MQTT session."""
    changes: dict[str, object] = {}
    if "client_id" in type(options).model_fields:
        changes["client_id"] = f"fairlead-check-{site}-{name}"[:128]
    if "session_expiry" in type(options).model_fields:
        changes["session_expiry"] = 1.0
    return options.model_copy(update=changes)


async def _first_batch(adapter: Adapter) -> SampleBatch:
    while True:
        item = await adapter.read()
        if isinstance(item, Delivery):
            await item.settle()
            if len(item.batch):
                return item.batch


def _shown(batch: SampleBatch, tags: tuple[Tag, ...]) -> tuple[list[dict[str, Any]], str]:
    by_number = {tag.number: tag for tag in tags}
    values = []
    for sample in batch.rows():
        number = isinstance(sample.value, float) and not math.isfinite(sample.value)
        value = None if number else str(sample.value) if isinstance(sample.value, bytes) else sample.value
        tag = by_number[sample.tag]
        values.append({"path": tag.path, "raw": value, "status": status.name(sample.status)})
    bad = sum(status.quality(sample.status) is status.Quality.BAD for sample in batch.rows())
    first = ", ".join(
        f"{by_number[s.tag].name} = {item['raw']}" for s, item in zip(batch.rows(), values[:_SHOWN], strict=False)
    )
    return values, f"{len(values)} values ({bad} bad), raw: {first}{' …' if len(values) > _SHOWN else ''}"
