"""What is abnormal with Fairlead itself, in one line each; nothing while all is well."""

from __future__ import annotations

from collections.abc import Iterator

from broker.api.insecure import insecure_sources
from broker.api.model import standing_now
from broker.api.services import Services


def conditions(services: Services) -> Iterator[str]:
    """
    Sources that fail or are open to anybody, a journal that refuses, a store that cannot be written, a model that does
    not explain, and detectors that cry wolf.
    """
    if services.writer.error:
        yield f"The store cannot be written: {services.writer.error}"
    standing = standing_now(services)
    if standing is not None and standing.mode == "advisory":
        name = services.reasoner.state.model_name
        yield f"Model {name} is advisory, rules explain: {standing.reason} ({standing.help})"
    if services.watch is not None:
        yield from services.watch.notices
    if services.detectors is not None:
        yield from services.detectors.notices
    state = services.reasoner.state
    given_up = state.status in ("off", "quarantined") and state.reason not in ("not started", "closed")
    if given_up and services.config.llm.backend != "none":
        yield f"The model does not explain, rules do: {state.reason}"
    yield from insecure_sources(services.config)
    status = services.acquire_status()
    if status is None:
        yield "Acquire does not run: no new data comes."
        return
    if status.journal.refusing:
        yield f"The journal accepts no samples: {status.journal.refusing}"
    for name, source in status.sources.items():
        if source.state == "failing":
            yield f"Source {name} is failing: {source.error}"
