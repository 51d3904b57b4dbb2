"""
From what the configuration names to the file that the worker loads, or the reason why none is loaded.

A model of the registry is loaded only when its signature holds, somebody has scored it, and its adapter was made for
it; where evidence leaves this machine, a person has written down why. Rules explain while the answer is no.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from broker.models.registry import find_import, shelf_of
from broker.scorecard import cards
from broker.store import Reader
from broker.store.models import DecisionRow, ImportRow
from llm.model_file import AdapterFile, ModelFile, Served, find, with_adapter
from schemas.annotation import model_key
from schemas.errors import FairleadError, Problem, Refused, StoreError, WorkerError
from schemas.ladder import NEEDS_DECISION, Decision, Use
from schemas.manifest import REGISTRY, MediumFile, Reference, parse_reference

if TYPE_CHECKING:
    from broker.config.model import Config
    from broker.config.yaml_lines import Node
    from broker.models.shelf import Held, Shelf
    from llm.options import ReasonerOptions

T = TypeVar("T")


def locate(config: Config, reader: Reader) -> ModelFile | Served:
    """
    The model file that ``llm`` configures, or that a server has it; nothing is loaded or hashed here.

    Raises:
        WorkerError: there is none, or it may not be loaded; the message says why and what to do.
        StoreError: SQL, which has to say so, cannot be read now.
    """
    options = config.llm
    try:
        if options.backend != "local":
            decision = check_decided(options, _read(reader.model_decisions))
            return Served() if decision is None else Served(decision.rung)
        registered = any((named or "").startswith(REGISTRY) for named in (options.model, options.adapter))
        file = find_configured(config, _read(reader.model_imports) if registered else ())
        if registered:
            check_scored(config, file)
        return file
    except (Refused, ValueError) as error:
        raise WorkerError(str(error)) from None
    except (WorkerError, StoreError):
        raise
    except FairleadError as error:
        raise WorkerError(f"the registry of models cannot be read: {error}") from None


def _read(rows: Callable[[], list[T]]) -> list[T]:
    """What SQL says of models; a read that took too long may be answered the next time, like one that failed."""
    try:
        return rows()
    except Refused as error:
        raise StoreError(str(error)) from None


def to_score(config: Config, imported: Sequence[ImportRow], model: str, adapter: str | None) -> ModelFile:
    """
    A model that somebody wants to score, also one in quarantine; names as in ``llm.model`` and ``llm.adapter``.

    Raises:
        Refused, WorkerError: there is none.
    """
    same = model == config.llm.model
    change = {"model": model, "adapter": adapter, "sha256": config.llm.sha256 if same else None}
    return find_configured(config.model_copy(update={"llm": config.llm.model_copy(update=change)}), imported)


def find_configured(config: Config, imported: Sequence[ImportRow]) -> ModelFile:
    """
    The model file that ``llm`` names with its adapter, scored or not.

    Raises:
        Refused, WorkerError: there is none; the message says why.
    """
    options, shelf = config.llm, shelf_of(config)
    if options.model.startswith(REGISTRY):
        reference = parse_reference(options.model)
        row = find_import(imported, reference)
        file = model_of(shelf.read(row.sha256), reference, options.sha256)
    else:
        file = find(options.model, options.sha256, config.base_dir)
    return _adapted(config, file, shelf, imported)


def model_of(held: Held, reference: Reference, sha256: str | None) -> ModelFile:
    """The weights of an imported model. Raises Refused where it has none, or another hash is configured."""
    manifest, weights = held.manifest, held.manifest.weights
    if weights is None:
        raise Refused(f"{reference} is an adapter: name it in llm.adapter, and its model in llm.model")
    if reference.file:
        raise Refused(f"{reference} names a file; llm.model takes registry:NAME[@VERSION]")
    if sha256 and sha256.lower() != weights.sha256:
        raise Refused(f"llm.sha256 is configured otherwise than the signed manifest of {manifest.name} says")
    return ModelFile(
        path=held.path_of(weights),
        name=f"{manifest.name}@{manifest.version}",
        rung=manifest.rung,
        style=manifest.style,
        sha256=weights.sha256,
        calibration=manifest.calibration,
        knows=None if manifest.knows is None else {name: list(known) for name, known in manifest.knows.items()},
        family=manifest.family,
    )


def _adapted(config: Config, file: ModelFile, shelf: Shelf, imported: Sequence[ImportRow]) -> ModelFile:
    options = config.llm
    if options.adapter is None or not options.adapter.startswith(REGISTRY):
        return with_adapter(file, options.adapter, options.adapter_sha256, options.adapter_scale, config.base_dir)
    reference = parse_reference(options.adapter)
    held = shelf.read(find_import(imported, reference).sha256)
    adapter = adapter_of(held, reference)
    if options.adapter_sha256 and options.adapter_sha256.lower() != adapter.sha256:
        raise Refused(f"llm.adapter_sha256 is configured otherwise than the signed manifest of {reference} says")
    base = held.manifest.base_sha256 or (held.manifest.weights.sha256 if held.manifest.weights else "")
    if not file.sha256:
        raise Refused(f"{reference} was made for weights with sha256 {base[:16]}…: write llm.sha256 of the model file")
    if base != file.sha256:
        raise Refused(f"{reference} was made for weights with sha256 {base[:16]}…, not for {file.name}")
    name = f"{held.manifest.name}@{held.manifest.version}/{adapter.path}"
    return replace(file, adapter=AdapterFile(held.path_of(adapter), name, adapter.sha256, options.adapter_scale))


def adapter_of(held: Held, reference: Reference) -> MediumFile:
    """The adapter that a reference means. Raises Refused where it is not plain which."""
    adapters = held.manifest.of_role("adapter")
    found = [file for file in adapters if reference.file in ("", file.path)]
    if len(found) != 1:
        known = ", ".join(file.path for file in adapters) or "none"
        raise Refused(f"{reference} is not one adapter; its medium has: {known}")
    return found[0]


def key_of(file: ModelFile) -> str:
    """What the model's score card and answers go by; empty where its hash is not known before it is read."""
    if file.adapter is None:
        return file.sha256
    if not file.sha256 or not file.adapter.sha256:
        return ""
    return model_key(file.sha256, file.adapter.sha256, file.adapter.scale)


def check_scored(config: Config, file: ModelFile) -> None:
    """
    Say no to a model of the registry that nobody has scored (with its adapter).

    Raises:
        Refused: it has no score card, or one that cannot be read.
    """
    card, problem = cards.tried(config.data_dir, key_of(file))
    if problem:
        raise Refused(problem)
    if card is None:
        also = f" with adapter {file.adapter.name}" if file.adapter else ""
        raise Refused(
            f"{file.name}{also} is in quarantine until it is scored: run fairlead llm bench --model {config.llm.model}"
            + (f" --adapter {config.llm.adapter}" if config.llm.adapter else "")
        )


def decided_name(model: str) -> str:
    """A model as decisions name it: a reference without its version."""
    if not model.startswith(REGISTRY):
        return model
    return str(Reference(parse_reference(model).name))


def check_decided(
    options: ReasonerOptions, decisions: Sequence[DecisionRow], use: Use = "annotation"
) -> Decision | None:
    """
    The decision for *use* that names the configured model, if there is one.

    Raises:
        Refused: evidence or questions would leave this machine, and no decision says why.
    """
    newest = next((row.decision for row in decisions if row.decision.use == use), None)
    name = decided_name(options.model)
    fits = newest is not None and newest.model == name
    if options.backend in ("local", "none"):
        return newest if fits else None
    if newest is None or not fits or newest.rung not in NEEDS_DECISION:
        steps = " or ".join(sorted(NEEDS_DECISION))
        what = "evidence" if use == "annotation" else use
        raise Refused(
            f"llm.backend is {options.backend}: {what} would leave this machine, and the newest decision for "
            f"{use} does not name {name} on rung {steps}; write down why with "
            f"fairlead model decide {name} --use {use}"
        )
    return newest


def warnings(config: Config, at: Callable[[str], Node]) -> Iterator[Problem]:
    """
    What ``fairlead check`` can say of models of the registry without the store: whether their files are there.

    *at* gives the place of an option of ``llm``.
    """
    shelf = shelf_of(config)
    for option, named in (("model", config.llm.model), ("adapter", config.llm.adapter)):
        if named is None or not named.startswith(REGISTRY) or config.llm.backend != "local":
            continue
        reference = parse_reference(named)
        found = [held for held in shelf.all() if held.manifest.name == reference.name]
        if any(reference.version in (None, held.manifest.version) for held in found):
            continue
        versions = ", ".join(str(held.manifest.version) for held in found)
        told = f"there is no such version; there are: {versions}" if found else "no trusted model of this name is here"
        hint = "fairlead model import; until then rules explain"
        yield at(option).problem(f"llm.{option}", "unknown_model", f"{named}: {told}", hint, warning=True)
