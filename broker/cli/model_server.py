"""The configured model server looked at as core would reach it: one request for the list of its models."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from broker.cli import exits
from broker.config import Config
from broker.config.secrets import resolve_secret
from llm.reach import Reached, reach
from schemas.errors import ConfigError

#: Stands where a source's name does; no source can have this one.
NAME: Final = "model server"


def probe_model_server(config: Config, limit_s: float) -> tuple[dict[str, Any], int]:
    """
    A row like that of a source, and its exit code.

    What is wrong before a packet is sent is of the configuration; what the network or the server says is not.
    """
    try:
        api_key = "" if config.llm.api_key is None else resolve_secret(config.llm.api_key, config.base_dir)
        found = asyncio.run(reach(config.llm, config.base_dir, api_key, limit_s))
    except ConfigError as error:
        found = Reached("key", f"llm.api_key: {error}", misconfigured=True)
    hint = f" ({found.hint})" if found.hint else ""
    row: dict[str, Any] = {
        "source": NAME,
        "kind": config.llm.backend,
        "result": f"failed: {found.step}" if found.step else "ok",
        "detail": f"{found.detail}{hint}",
        "values": [],
    }
    if found.misconfigured:
        return row, exits.BAD_CONFIGURATION
    return row, exits.UNREACHABLE if found.step else exits.OK
