"""What there is: the built-in models, what ``llm`` names, and every import, each with its state as it is now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from broker.models.locate import find_configured
from broker.models.registry import find_import, shelf_of
from broker.models.shelf import Shelf
from broker.scorecard import cards
from broker.scorecard.standing import judge
from broker.store import Reader
from broker.store.models import DecisionRow, ImportRow
from llm.egress import endpoint
from llm.model_file import BUILTIN, builtins, digest
from schemas.annotation import model_key, served_key
from schemas.errors import Refused, WorkerError
from schemas.ladder import NEEDS_DECISION
from schemas.manifest import REGISTRY, parse_reference
from schemas.scorecard import ScoreCard

if TYPE_CHECKING:
    from broker.config.model import Config

#: quarantined: nobody has scored it, so it is not loaded. advisory: its card does not pass. damaged: its files or its
#: signature do not hold (any more).
State = Literal["quarantined", "admitted", "advisory", "damaged"]
#: A file of the site that nobody pinned is hashed for a list up to this size, bytes.
_MOST_HASHED: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Parts:
    """What a pair is made of, named as in ``llm``; a hash is empty where nobody has told it, see :func:`_hash`."""

    model: str
    model_sha256: str
    adapter: str
    adapter_sha256: str
    adapter_scale: float


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One model of the registry, the built-in one, or what ``llm`` names: a file, a server's model, a model with adapter.

    ``name`` is as ``llm.model`` names it, ``key`` what its answers and its score card go by; of an adapter's medium it
    is the adapter's own hash. ``problem`` says why it is damaged. ``current``: the import of its name that counts.
    ``configured``: it is what answers; a model and an adapter that answer together are one entry more, with ``parts``.
    """

    name: str
    version: int | None
    kind: Literal["model", "adapter", "pair"]
    key: str
    rung: str
    licence: str
    origin: str
    what: str
    state: State
    problem: str
    card: ScoreCard | None
    current: bool
    configured: bool
    row: ImportRow | None
    parts: Parts | None = None


def entries(config: Config, reader: Reader) -> list[Entry]:
    """The built-in models, what ``llm`` names outside the registry, and every import, newest first."""
    found = []
    for name, manifest in builtins().items():
        card, problem = cards.tried(config.data_dir, manifest.sha256)
        model = f"{BUILTIN}{name}"
        found.append(
            Entry(
                name=model,
                version=None,
                kind="model",
                key=manifest.sha256,
                rung="builtin",
                licence=manifest.licence,
                origin="ships in the package",
                what=manifest.what,
                state=state_of(card, "advisory"),
                problem=problem,
                card=card,
                current=True,
                configured=_answers(config, model),
                row=None,
            )
        )
    local, named = config.llm.backend == "local", config.llm.model
    if local and not named.startswith((BUILTIN, REGISTRY)):
        found.append(_plain(config, named))
    if config.llm.backend == "openai":
        found.append(_served(config, reader.model_decisions()))
    imported = reader.model_imports()
    newest = {row.name: row.ordinal for row in reversed(imported)}
    shelf = shelf_of(config)
    registered = [_entry(config, row, shelf, imported, current=newest[row.name] == row.ordinal) for row in imported]
    if local and config.llm.adapter is not None:
        found.append(_pair(config, config.llm.adapter, [*found, *registered], imported))
    return [*found, *registered]


def _answers(config: Config, model: str) -> bool:
    """Whether ``llm`` names this model, and no adapter with it."""
    return config.llm.backend == "local" and config.llm.model == model and config.llm.adapter is None


def _pair(config: Config, adapter: str, others: Sequence[Entry], imported: Sequence[ImportRow]) -> Entry:
    """The model that ``llm`` names together with its adapter: what answers, with a key and a card of its own."""
    options = config.llm
    base = _named(others, options.model, imported)
    extra = _named(others, adapter, imported)
    problem, model_sha256, adapter_sha256 = "", "", ""
    try:
        file = find_configured(config, imported)
        model_sha256 = _hash(file.path, file.sha256)
        adapter_sha256 = "" if file.adapter is None else _hash(file.adapter.path, file.adapter.sha256)
    except (Refused, WorkerError, ValueError) as error:
        problem = str(error)
    known = model_sha256 and adapter_sha256
    key = model_key(model_sha256, adapter_sha256, options.adapter_scale) if known else ""
    card, unread = cards.tried(config.data_dir, key) if key else (None, "")
    problem = problem or unread
    registered = options.model.startswith(REGISTRY) or adapter.startswith(REGISTRY)
    unscored: State = "quarantined" if registered else "advisory"
    return Entry(
        name=f"{options.model} + {adapter}",
        version=None,
        kind="pair",
        key=key,
        rung="open_weights" if base is None else base.rung,
        licence=_both(base, extra, lambda one: one.licence),
        origin=_both(base, extra, lambda one: one.origin),
        what=_both(base, extra, lambda one: one.what),
        state="damaged" if problem else state_of(card, unscored),
        problem=problem,
        card=card,
        current=True,
        configured=True,
        row=None,
        parts=Parts(options.model, model_sha256, adapter, adapter_sha256, options.adapter_scale),
    )


def _named(others: Sequence[Entry], named: str, imported: Sequence[ImportRow]) -> Entry | None:
    """The entry of a part by itself; a plain adapter has none."""
    return next((one for one in others if one.name == named or (one.row and _means(named, one.row, imported))), None)


def _both(model: Entry | None, adapter: Entry | None, said: Callable[[Entry], str]) -> str:
    of_model, of_adapter = ("not known" if one is None else said(one) for one in (model, adapter))
    return f"{of_model}; adapter: {of_adapter}"


def _hash(path: Path, known: str) -> str:
    """The hash that a manifest or the site says, else that of a file that is small enough to be read for a list."""
    try:
        told = path.stat()
        return known or (_hashed(path, told.st_size, told.st_mtime_ns) if told.st_size <= _MOST_HASHED else "")
    except OSError:
        return known


@lru_cache(maxsize=16)
def _hashed(path: Path, size: int, mtime_ns: int) -> str:
    """The hash of a file as it is since this time."""
    del size, mtime_ns
    with path.open("rb") as file:
        return digest(file)


def _plain(config: Config, named: str) -> Entry:
    """A file that nobody signed."""
    sha256 = _hash(config.base_dir / named, (config.llm.sha256 or "").lower())
    card, problem = cards.tried(config.data_dir, sha256) if sha256 else (None, "")
    if not (config.base_dir / named).is_file():
        problem = f"there is no file {named}"
    return Entry(
        name=named,
        version=None,
        kind="model",
        key=sha256,
        rung="open_weights",
        licence="not known",
        origin="a file of the site, not signed",
        what="not known",
        state="damaged" if problem else state_of(card, "advisory"),
        problem=problem,
        card=card,
        current=True,
        configured=_answers(config, named),
        row=None,
    )


def _served(config: Config, decisions: Sequence[DecisionRow]) -> Entry:
    """What a server of the site has: no file is known, so no card can be its, and its words are advisory."""
    where = endpoint(config.llm.url or "").authority
    newest = next((row.decision for row in decisions if row.decision.use == "annotation"), None)
    chosen = newest is not None and newest.model == config.llm.model and newest.rung in NEEDS_DECISION
    return Entry(
        name=config.llm.model,
        version=None,
        kind="model",
        key=served_key(where, config.llm.model),
        rung=newest.rung if newest is not None and chosen else "site_server",
        licence="not known",
        origin=f"the model server {where}",
        what="not known",
        state="advisory",
        problem="",
        card=None,
        current=True,
        configured=True,
        row=None,
    )


def _entry(config: Config, row: ImportRow, shelf: Shelf, imported: Sequence[ImportRow], *, current: bool) -> Entry:
    manifest = row.manifest
    card, problem = cards.tried(config.data_dir, row.main_sha256)
    try:
        shelf.read(row.sha256)
    except Refused as error:
        problem = str(error)
    return Entry(
        name=f"{REGISTRY}{row.name}",
        version=row.version,
        kind="model" if manifest.weights else "adapter",
        key=row.main_sha256,
        rung=manifest.rung,
        licence=manifest.licence,
        origin=manifest.origin,
        what=manifest.what,
        state="damaged" if problem else state_of(card),
        problem=problem,
        card=card,
        current=current,
        configured=config.llm.adapter is None and _means(config.llm.model, row, imported),
        row=row,
    )


def _means(named: str, row: ImportRow, imported: Sequence[ImportRow]) -> bool:
    """Whether the configuration's text stands for this import."""
    if not named.startswith(REGISTRY):
        return False
    try:
        return find_import(imported, parse_reference(named)).ordinal == row.ordinal
    except (Refused, ValueError):
        return False


def state_of(card: ScoreCard | None, unscored: State = "quarantined") -> State:
    """The state that a score card gives in this version."""
    if card is None:
        return unscored
    return "admitted" if judge(card, "annotate").mode == "annotate" else "advisory"
