"""The options in force as one flat list, to tell two configurations apart; secrets stand in it as references only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from broker.config.model import Config


def applied(config: Config) -> dict[str, Any]:
    """Every option with its effective value in JSON, by its dotted name; where the file lies is not in it."""
    return dict(_flat(config.model_dump(mode="json", exclude={"base_dir", "path"}), ""))


def digest(options: Mapping[str, Any]) -> str:
    """SHA-256 of these options, 64 hex digits."""
    return hashlib.sha256(msgspec.json.encode(options, order="sorted")).hexdigest()


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """By name of option: its value before and after; None where there was, or is, no such option."""
    names = sorted({*before, *after})
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def _flat(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, dict) and item:
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item
