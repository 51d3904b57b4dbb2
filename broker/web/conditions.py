"""What is abnormal with Fairlead itself, in one line each; nothing while all is well."""

from __future__ import annotations

from collections.abc import Iterator

from broker.api.services import Services


def conditions(services: Services) -> Iterator[str]:
    """Sources that fail, a journal that refuses, a store that cannot be written."""
    if services.writer.error:
        yield f"The store cannot be written: {services.writer.error}"
    status = services.acquire_status()
    if status is None:
        yield "Acquire does not run: no new data comes."
        return
    if status.journal.refusing:
        yield f"The journal accepts no samples: {status.journal.refusing}"
    for name, source in status.sources.items():
        if source.state == "failing":
            yield f"Source {name} is failing: {source.error}"
