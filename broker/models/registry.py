"""
The registry: what comes in, under which version, signed by whom, and why a person chose it.

What was imported is in SQL and in the audit chain, the files lie on the shelf; :mod:`broker.models.entries` says
what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal

from broker.models.keys import Trust
from broker.models.shelf import Held, Shelf
from broker.store import Transaction
from broker.store.models import ImportRow
from schemas.errors import Refused
from schemas.ladder import Decision
from schemas.manifest import REGISTRY, Manifest, Reference

if TYPE_CHECKING:
    from broker.config.model import Config


MAX_REASON: Final = 500


def trust_of(config: Config) -> Trust:
    """The keys that the site trusts."""
    named = config.models.trust
    return Trust(config.data_dir / "models" / "trust" if named is None else config.base_dir / named)


def shelf_of(config: Config) -> Shelf:
    """Where the site keeps the files of imported models."""
    return Shelf(config.data_dir, trust_of(config))


def highest_kept(config: Config, manifest: Manifest) -> int:
    """The highest version of other media of this name whose files are here; 0 for none. It outlives a lost store."""
    others = (held.manifest for held in shelf_of(config).all() if held.manifest.sha256 != manifest.sha256)
    return max((one.version for one in others if one.name == manifest.name), default=0)


def check_version(
    manifest: Manifest, imported: Sequence[ImportRow], rollback: str, kept: int
) -> Literal["new", "same", "rollback"]:
    """
    Whether a manifest may be imported after those of its name; *same*: it is the one in use, put back.

    *kept* is the highest version whose files are here, see :func:`highest_kept`.

    Raises:
        Refused: its version is not above the highest one that was ever imported, and *rollback* gives no reason.
    """
    if imported and imported[0].sha256 == manifest.sha256:
        return "same"
    highest = max((kept, *(row.version for row in imported)))
    if manifest.version > highest:
        return "new"
    if not rollback:
        raise Refused(
            f"{manifest.name} version {manifest.version} is not above version {highest}, which was imported already; "
            "an older one comes in with --allow-rollback --reason only, and the audit keeps the reason"
        )
    return "rollback"


def register(tx: Transaction, held: Held, actor: str, rollback: str, kept: int) -> ImportRow:
    """
    Note that the files of *held* are a model of this site; the audit chain says who brought it and who signed it.

    Raises:
        Refused: it would be a rollback, and *rollback* gives no reason.
    """
    manifest, signer = held.manifest, held.signer
    before = tx.model_imports(manifest.name)
    detail: dict[str, object] = {
        "name": manifest.name,
        "version": manifest.version,
        "manifest_sha256": manifest.sha256,
        "files": {file.path: file.sha256 for file in manifest.files},
        "licence": manifest.licence,
        "origin": manifest.origin,
        "rung": manifest.rung,
        "signer": signer.name,
        "fingerprint": signer.fingerprint,
    }
    outcome = check_version(manifest, before, rollback, kept)
    if outcome == "same":
        tx.audit(actor, "model_files_restored", f"{REGISTRY}{manifest.name}", detail)
        return before[0]
    if outcome == "rollback":
        detail |= {"rollback": rollback, "before": max((kept, *(row.version for row in before)))}
    tx.model_import(manifest, (signer.name, signer.fingerprint), actor, rollback if outcome == "rollback" else "")
    action = "model_rolled_back" if outcome == "rollback" else "model_imported"
    tx.audit(actor, action, f"{REGISTRY}{manifest.name}", detail)
    return tx.model_imports(manifest.name)[0]


def decide(tx: Transaction, decision: Decision, actor: str) -> None:
    """Record a choice; the audit chain has every word of it."""
    tx.model_decision(decision, actor)
    tx.audit(actor, "model_chosen", decision.model, decision.model_dump(mode="json"))


def find_import(imported: Sequence[ImportRow], reference: Reference) -> ImportRow:
    """
    The import that a reference means: without a version the last one of the name.

    Raises:
        Refused: there is none; the message says what there is.
    """
    named = [row for row in imported if row.name == reference.name]
    if not named:
        known = ", ".join(sorted({row.name for row in imported})) or "none yet; fairlead model import brings one"
        raise Refused(f"no model {reference.name!r} was imported; there are: {known}")
    found = next((row for row in named if reference.version in (None, row.version)), None)
    if found is None:
        versions = ", ".join(str(version) for version in sorted({row.version for row in named}))
        raise Refused(f"{reference.name} has no version {reference.version}; imported were: {versions}")
    return found


#: ``note(action, object, detail)`` writes a row of the audit chain.
Note = Callable[[str, str, dict[str, object]], None]


def trust_key(config: Config, name: str, body: bytes, note: Note) -> dict[str, str]:
    """
    Trust a public key (PEM) under a name, once *note* has written it down.

    Raises:
        Refused: it is no such key, is trusted already, or the folder cannot be written.
    """
    from broker.models.keys import fingerprint, parse_public

    trust = trust_of(config)
    public = parse_public(body, name)
    trust.may_add(name, public)
    note("model_key_trusted", name, {"fingerprint": fingerprint(public)})
    added = trust.add(name, public)
    return {"name": added.name, "fingerprint": added.fingerprint, "folder": str(trust.folder)}
