"""
A medium: a folder with ``model.json``, ``model.sig`` and exactly the files that the manifest lists.

Files are opened by name inside open folders and never through a link, and are hashed while they are copied: what was
verified is what lies in the store.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from pydantic import ValidationError

from broker.models.keys import Trust, TrustedKey, sign
from schemas.errors import Refused
from schemas.manifest import MANIFEST_NAME, SIGNATURE_NAME, Manifest, MediumFile, Signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

BLOCK: Final = 1 << 20
_MAX_MANIFEST: Final = 1 << 20
_MAX_SIGNATURE: Final = 4096
#: More entries than this are no medium of ours.
_MAX_ENTRIES: Final = 2000
_MAX_DEPTH: Final = 8
#: Problems that one message names.
_MOST: Final = 10
_GGUF: Final = b"GGUF"


@dataclass(frozen=True, slots=True)
class Medium:
    """A folder whose manifest a trusted key has signed; its files are not read yet."""

    folder: Path
    manifest: Manifest
    signature: Signature
    signer: TrustedKey


def open_medium(folder: Path, trust: Trust) -> Medium:
    """
    Read and verify manifest and signature, and compare the names of all files with the manifest.

    Raises:
        Refused: whatever is wrong with it, every problem of the names at once.
    """
    with _folder(folder) as root:
        body = _small(root, MANIFEST_NAME, _MAX_MANIFEST, "it is no medium; fairlead model pack makes one")
        raw = _small(root, SIGNATURE_NAME, _MAX_SIGNATURE, "the medium is not signed; fairlead model pack signs it")
        found, problems = _names(root)
    signature = read_signature(raw)
    signer = trust.verify(signature, body)
    manifest = read_manifest(body)  # after the signature: bytes of strangers are not parsed further
    listed = {file.path for file in manifest.files} | {MANIFEST_NAME, SIGNATURE_NAME}
    problems += [f"{path} is missing" for path in sorted(listed - found)]
    problems += [f"{path} is not in the manifest" for path in sorted(found - listed)]
    _refuse(problems)
    return Medium(folder, manifest, signature, signer)


def read_manifest(body: bytes) -> Manifest:
    """A manifest from its bytes. Raises Refused with the first thing that is wrong."""
    try:
        return Manifest.from_body(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise Refused(f"{MANIFEST_NAME}: {f'{place}: ' if place else ''}{told}") from None
    except ValueError as error:
        raise Refused(f"{MANIFEST_NAME}: {error}") from None


def read_signature(body: bytes) -> Signature:
    """A signature from its bytes. Raises Refused."""
    try:
        return Signature.model_validate_json(body)
    except ValidationError:
        raise Refused(f"{SIGNATURE_NAME} is no signature of this kind") from None


def copy_files(medium: Medium, target: Path) -> None:
    """
    Copy every file of the manifest into the new folder *target*, durable, hashing while it is copied.

    Raises:
        Refused: a file has another size or hash, or is no GGUF where it should be; *target* is then of no use.
        OSError: something cannot be read or written.
    """
    problems = []
    with _folder(medium.folder) as root:
        for file in medium.manifest.files:
            path = target / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with _inside(root, file.path) as source, path.open("xb") as sink:
                problem = _copy(source, sink, file)
                sink.flush()
                os.fsync(sink.fileno())
            if problem:
                problems.append(f"{file.path} {problem}")
    _refuse(problems)


def _copy(source: BinaryIO, sink: BinaryIO, file: MediumFile) -> str:
    """Copy as much as the manifest says; what is wrong with the file, or nothing."""
    seen, left = hashlib.sha256(), file.size
    while left and (block := source.read(min(BLOCK, left))):
        if left == file.size and file.role in ("weights", "adapter") and not block.startswith(_GGUF):
            return "is no GGUF file"
        seen.update(block)
        sink.write(block)
        left -= len(block)
    if left or source.read(1):
        return f"does not have the {file.size} bytes that the manifest says"
    if seen.hexdigest() != file.sha256:
        return f"was changed: its sha256 is {seen.hexdigest()[:16]}…, not {file.sha256[:16]}…"
    return ""


def describe(folder: Path, roles: dict[str, str]) -> tuple[MediumFile, ...]:
    """
    Size and hash of every file of a folder, in order of their paths; *roles* by path, ``other`` for the rest.

    Raises:
        Refused: a link or a special file, or a path in *roles* that is not there.
    """
    with _folder(folder) as root:
        found, problems = _names(root)
        found -= {MANIFEST_NAME, SIGNATURE_NAME}
        problems += [f"{path} is not there" for path in sorted(set(roles) - found)]
        _refuse(problems)
        files = []
        for path in sorted(found):
            with _inside(root, path) as source:
                seen, size = hashlib.sha256(), 0
                while block := source.read(BLOCK):
                    seen.update(block)
                    size += len(block)
            try:
                files.append(
                    MediumFile.model_validate(
                        {"path": path, "role": roles.get(path, "other"), "size": size, "sha256": seen.hexdigest()}
                    )
                )
            except ValidationError as error:
                raise Refused(f"{path}: {error.errors()[0]['msg']}") from None
    return tuple(files)


def seal(folder: Path, manifest: Manifest, private: Ed25519PrivateKey) -> None:
    """Write manifest and signature into a folder that holds its files; older ones are replaced. Raises OSError."""
    (folder / MANIFEST_NAME).write_bytes(manifest.body)
    (folder / SIGNATURE_NAME).write_text(sign(private, manifest).model_dump_json() + "\n", encoding="ascii")


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        yield root
    finally:
        os.close(root)


@contextmanager
def _inside(root: int, path: str) -> Iterator[BinaryIO]:
    """A regular file below an open folder, through no link. Raises Refused."""
    *folders, name = path.split("/")
    at = os.dup(root)
    try:
        for part in folders:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        # a FIFO would hold us up for ever
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror or error}") from None
    finally:
        os.close(at)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Refused(f"{path} is no regular file")
        yield file


def _small(root: int, name: str, most: int, absent: str) -> bytes:
    try:
        os.stat(name, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        raise Refused(f"there is no {name}: {absent}") from None
    except OSError as error:
        raise Refused(f"{name} cannot be read: {error.strerror or error}") from None
    with _inside(root, name) as file:
        body = file.read(most + 1)
    if len(body) > most:
        raise Refused(f"{name} is larger than {most >> 10} KiB")
    return body


def _names(root: int) -> tuple[set[str], list[str]]:
    """Paths of all regular files below an open folder, and what else lies there."""
    found: set[str] = set()
    problems: list[str] = []
    waiting = [("", os.dup(root))]
    try:
        while waiting:
            prefix, at = waiting.pop()
            try:
                with os.scandir(at) as entries:
                    for entry in sorted(entries, key=lambda one: one.name):
                        path = prefix + entry.name
                        if entry.is_symlink():
                            problems.append(f"{path} is a link")
                        elif entry.is_file(follow_symlinks=False):
                            found.add(path)
                        elif not entry.is_dir(follow_symlinks=False):
                            problems.append(f"{path} is no regular file")
                        elif path.count("/") >= _MAX_DEPTH:
                            problems.append(f"{path} lies too deep")
                        else:
                            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                            waiting.append((f"{path}/", os.open(entry.name, flags, dir_fd=at)))
                        if len(found) + len(waiting) > _MAX_ENTRIES:
                            raise Refused(f"more than {_MAX_ENTRIES} files: name the folder of the model itself")
            except OSError as error:
                raise Refused(f"{prefix or 'the folder'} cannot be read: {error.strerror or error}") from None
            finally:
                os.close(at)
    finally:
        for _, at in waiting:
            os.close(at)
    return found, problems


def _refuse(problems: list[str]) -> None:
    if problems:
        more = f" and {len(problems) - _MOST} more" if len(problems) > _MOST else ""
        raise Refused("the medium is refused: " + "; ".join(problems[:_MOST]) + more)
