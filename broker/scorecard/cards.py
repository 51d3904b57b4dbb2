"""
Where score cards are kept: ``data_dir/models/cards/<sha256 of the model file>.json``.

A shipped model's card comes in the package beside its manifest; one of the site's own stands before it. A card that
was replaced stays in ``earlier/``, by its own id, because annotations name the card they were made under.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from broker.journal.disk import sync_folder
from schemas.errors import FairleadError, Refused
from schemas.scorecard import ScoreCard

#: Cards are a few tens of kB; a larger file is none of ours.
MAX_BYTES: Final = 1 << 20
_SHIPPED: Final = Path(__file__).parent.parent.parent / "llm" / "models"
_SUFFIX: Final = ".card.json"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def folder(data_dir: Path) -> Path:
    """Where the site's own cards are; not made here."""
    return data_dir / "models" / "cards"


def path_of(data_dir: Path, sha256: str) -> Path:
    """The file of one model's card. Raises ValueError where *sha256* is none."""
    if _SHA256.fullmatch(sha256) is None:
        raise ValueError(f"{sha256!r} is no sha256 in 64 hex digits")
    return folder(data_dir) / f"{sha256}.json"


def load(data_dir: Path, sha256: str) -> ScoreCard | None:
    """
    The card of the model file with this hash; None where there is none.

    Raises:
        Refused: the file is there and is no card, or is the card of another model; the message names it.
        ValueError: *sha256* is none.
    """
    path = path_of(data_dir, sha256)
    try:
        return read(path, sha256)
    except FileNotFoundError:
        return _shipped(sha256)


def tried(data_dir: Path, sha256: str) -> tuple[ScoreCard | None, str]:
    """A score card, and why it cannot be read where it cannot."""
    try:
        return load(data_dir, sha256), ""
    except Refused as error:
        return None, str(error)


def read(path: Path, sha256: str = "") -> ScoreCard:
    """
    The card in a file, of the model *sha256* where that is given.

    Raises:
        FileNotFoundError: there is no such file.
        Refused: it is no card, or the card of another model.
    """
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror or error}") from error
    if len(body) > MAX_BYTES:
        raise Refused(f"{path} is too large for a score card")
    try:
        card = ScoreCard.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise Refused(f"{path} is no score card: {place}: {first['msg']}; run the bench again") from error
    if sha256 and card.model_sha256 != sha256:
        raise Refused(f"{path} is the card of another model, {card.model_sha256[:16]}…")
    return card


def save(data_dir: Path, card: ScoreCard) -> Path:
    """
    Keep *card* as the one of its model; it takes the place of an earlier one and is durable when this returns.

    Raises:
        FairleadError: the file cannot be written.
    """
    path = path_of(data_dir, card.model_sha256)
    with suppress(FileNotFoundError, Refused):  # a damaged card is nobody's
        before = read(path)
        if before.card_id != card.card_id:
            write(_earlier(data_dir, before.card_id), before)
    write(path, card)
    return path


def find(data_dir: Path, sha256: str, card_id: str) -> ScoreCard | None:
    """The very card with this id, of this model; None where it is not kept. Never raises."""
    places = [_earlier(data_dir, card_id)]
    with suppress(ValueError):
        places.append(path_of(data_dir, sha256))
    for path in places:
        with suppress(FileNotFoundError, Refused):
            card = read(path)
            if card.card_id == card_id:
                return card
    with suppress(Refused):
        card_here = _shipped(sha256)
        if card_here is not None and card_here.card_id == card_id:
            return card_here
    return None


def _earlier(data_dir: Path, card_id: str) -> Path:
    return folder(data_dir) / "earlier" / f"{card_id}.json"


def write(path: Path, card: ScoreCard) -> None:
    """Write *card* to a file, whole or not at all. Raises FairleadError."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            file.write(card.model_dump_json(indent=1).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise FairleadError(f"{path}: the score card cannot be written: {error.strerror or error}") from error


def shipped_path(name: str) -> Path:
    """The card of a model in this package, by the model's name."""
    return _SHIPPED / f"{name}{_SUFFIX}"


def _shipped(sha256: str) -> ScoreCard | None:
    for path in sorted(_SHIPPED.glob(f"*{_SUFFIX}")):
        with suppress(FileNotFoundError):
            card = read(path)
            if card.model_sha256 == sha256:
                return card
    return None
