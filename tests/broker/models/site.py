"""A site for the registry's tests: configuration, store, and answers of a model whose spread one can choose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.config import Config, load_config
from broker.models import registry
from broker.models.media import open_medium
from broker.store import Store, Transaction
from broker.store.models import ImportRow
from schemas.annotation import Provenance, Review
from schemas.anomaly import Kind
from schemas.evidence import Fact
from schemas.ladder import Axes, Decision, Rung, Use
from tests.broker.store.plant import PUMP, annotation, anomaly, evidence

S = 1_000_000_000
DAY = 86_400 * S
T0 = 1_760_000_040_000_000_000
KEY = "c" * 64
AXES = Axes(
    data_residency="on this machine",
    regulation="EU AI Act: minimal risk",
    latency="two seconds are enough",
    capability="card passed",
    cost="none",
    lock_in="none: a GGUF file",
)


def write_site(folder: Path, llm: str = "{backend: none}", more: str = "") -> Path:
    """``fairlead.yaml`` and a map."""
    (folder / "maps").mkdir(exist_ok=True)
    (folder / "maps" / "a.yaml").write_text(
        "version: 1\ndefaults: {source: plc1}\ntags:\n"
        "  - {path: Acme/Lyon/A/Speed, address: '40001', type: int16, unit: rpm}\n",
        encoding="utf-8",
    )
    path = folder / "fairlead.yaml"
    path.write_text(
        f"version: 1\nsite: {{path: Acme/Lyon}}\nstore: {{query_limit: 60s}}\nllm: {llm}\n{more}"
        "sources:\n  plc1: {kind: modbus, host: 127.0.0.1, byte_order: CDAB}\n",
        encoding="utf-8",
    )
    return path


def configured(folder: Path, llm: str = "{backend: none}", more: str = "") -> Config:
    return load_config(write_site(folder, llm, more), {})


@contextmanager
def opened(config: Config, now_ns: Callable[[], int] = lambda: T0) -> Iterator[Store]:
    """The site's store."""
    store = Store.open(config.store, config.data_dir, write=True, now_ns=now_ns)
    try:
        store.upgrade()
        yield store
    finally:
        store.close()


def bring(config: Config, store: Store, medium: Path, rollback: str = "") -> ImportRow:
    """Import a medium as the command does."""
    held = registry.shelf_of(config).place(open_medium(medium, registry.trust_of(config)))
    kept = registry.highest_kept(config, held.manifest)
    with store.transaction() as tx:
        return registry.register(tx, held, "a.moreau", rollback, kept)


def choose(store: Store, model: str, rung: Rung, use: Use = "annotation") -> None:
    decision = Decision(use=use, model=model, rung=rung, axes=AXES, reason="it fits")
    with store.transaction() as tx:
        registry.decide(tx, decision, "a.moreau")


def answer(
    tx: Transaction,
    number: int,
    *,
    cause: str = "bearing",
    at_ns: int | None = None,
    kind: Kind = Kind.MEAN_SHIFT,
    equipment_class: str = "PU",
    facts: tuple[str, ...] = ("rose",),
    verdict: str = "",
) -> None:
    """Answer *number* of the model ``KEY``, one a minute by default; *facts* are directions."""
    at_ns = T0 + 60 * number * S if at_ns is None else at_ns
    of = anomaly(f"a{number}", onset_ns=at_ns)
    told = tuple(
        Fact(id=f"E{place}", kind="deviation", path=f"{PUMP}/Tag0", direction=one, value=9.0)  # type: ignore[arg-type]
        for place, one in enumerate(facts, 1)
    )
    change = {"facts": told, "kind": kind, "equipment_class": equipment_class}
    seen = evidence(of).model_copy(update=change)
    note = annotation(seen, "model")
    first = note.causes[0].model_copy(update={"id": cause})
    made = Provenance(engine="e", model_name="m", model_sha256=KEY)
    note = note.model_copy(update={"causes": (first,), "created_ns": at_ns, "provenance": made})
    tx.anomaly(of)
    tx.evidence(seen)
    tx.annotation(note)
    tx.annotation_attempt(seen.evidence_id, at_ns, "", model_key=KEY)
    if verdict:
        reason = "wrong_cause" if verdict == "rejected" else None
        tx.review(
            Review(
                annotation_id=note.annotation_id,
                verdict=verdict,  # type: ignore[arg-type]
                person="a.moreau",
                at_ns=at_ns + S,
                reason=reason,
            )
        )


def refuse(tx: Transaction, number: int, reason: str = "answer refused: the text cites nothing") -> None:
    """An attempt of the model ``KEY`` that brought no answer."""
    tx.annotation_attempt(f"refused{number}", T0 + 60 * number * S, reason, model_key=KEY)
