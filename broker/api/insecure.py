"""Sources that are read without protection because a person accepted it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.config.model import Config


def insecure_sources(config: Config) -> Iterator[str]:
    """One line for each, also behind the last day of its acknowledgement."""
    for name, options in config.sources.items():
        insecure = options.insecure()
        if options.enabled and insecure is not None:
            yield f"Source {name}: {insecure.text(time.time_ns())}"
