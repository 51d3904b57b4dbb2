"""
Commands of people on their way into the stream: files in ``data_dir/commands``.

Only acquire writes the journal, and core reads no clock: so what a person asks of core (or of the command line) is put
here as one small file, acquire journals it within a second, and core acts on it where it finds it in the stream. A
file is removed when its entry is durable; one that comes twice is taken once, by its id.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from broker.journal.disk import sync_folder
from schemas.errors import FairleadError, Refused
from schemas.suppression import Command

#: Files that may wait, while acquire does not run.
MOST_WAITING: Final = 500
#: What a person writes is shorter; a larger file is none of ours.
MAX_BYTES: Final = 65_536
_FOLDER: Final = "commands"
_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(Command)


def folder(data_dir: Path) -> Path:
    """Where the files are; not made here."""
    return data_dir / _FOLDER


def put(data_dir: Path, command: Command) -> None:
    """
    Leave *command* for acquire; durable when this returns.

    Where root asks, the file is given to the user that acquire runs as, or acquire could not read it.

    Raises:
        Refused: too many wait already, or acquire could not read what this user writes.
        FairleadError: the file cannot be written.
    """
    place = folder(data_dir)
    part = place / f".{command.command_id}.part"
    try:
        owner = _owner(data_dir)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if owner is not None and place.stat().st_uid != owner.st_uid:
            os.chown(place, owner.st_uid, owner.st_gid, follow_symlinks=False)
        if len(waiting(data_dir)) >= MOST_WAITING:
            raise Refused(f"{MOST_WAITING} commands wait already; does acquire run?")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            if owner is not None:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(_ENCODER.encode(command))
            file.flush()
            os.fsync(file.fileno())
        part.replace(place / f"{command.asked_ns:020d}-{command.command_id}.json")
        for changed in (place, place.parent):
            sync_folder(changed)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise FairleadError(f"{place}: the command cannot be left for acquire: {error.strerror or error}") from error


def _owner(data_dir: Path) -> os.stat_result | None:
    """
    Whom the files are to be given to; None: they are ours, and acquire's.

    Acquire is who made the journal: ``data_dir`` itself may be a volume that belongs to somebody else.
    """
    if os.name == "nt":
        return None
    try:
        owner = (data_dir / "journal").stat()
    except OSError:  # acquire never ran here
        return None
    if owner.st_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise Refused(
            f"{data_dir} is written by user {owner.st_uid}, who could not read this; ask as that user or root"
        )
    return owner


def waiting(data_dir: Path) -> list[Path]:
    """Files that wait, in the order in which they were asked for."""
    try:
        return sorted(path for path in folder(data_dir).iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []


def read(path: Path) -> Command:
    """
    The command in a file.

    Raises:
        ValueError: the file holds none.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError("too long")
    return _DECODER.decode(content)


def settle(path: Path, *, bad: bool) -> None:
    """Remove a file whose command is durable; one that held none is set aside as ``.bad``. Raises OSError."""
    if bad:
        path.replace(path.with_suffix(".bad"))
    else:
        path.unlink(missing_ok=True)
