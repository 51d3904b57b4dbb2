"""
Where imported models lie: ``data_dir/models/store/<sha256 of the manifest>/``, read-only, whole or not there.

The signature lies beside the files and is verified again whenever the model is used, so that a key that is trusted no
longer takes its models along. The worker hashes the weights at each load.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.journal.disk import sync_folder
from broker.models.keys import Trust, TrustedKey
from broker.models.media import Medium, copy_files, read_manifest, read_signature
from broker.store.lock import WriterLock
from schemas.errors import Refused
from schemas.manifest import MANIFEST_NAME, SIGNATURE_NAME, Manifest, MediumFile

_PART: Final = ".incoming-"
#: Left free beside what is copied: journal and store live on this disk, too.
_SPARE: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Held:
    """An imported model whose signature holds now."""

    folder: Path
    manifest: Manifest
    signer: TrustedKey

    def path_of(self, file: MediumFile) -> Path:
        """Where one of its files is."""
        return self.folder / file.path


class Shelf:
    """The files of all imported models of one site."""

    def __init__(self, data_dir: Path, trust: Trust) -> None:
        self._data_dir = data_dir
        self._trust = trust
        self.folder = data_dir / "models" / "store"

    def place(self, medium: Medium) -> Held:
        """
        Copy a verified medium, durable; one that is there already is replaced by the new copy.

        Raises:
            Refused: a file is not what the manifest says, or there is no room.
            StoreLocked: another import runs.
            OSError: the disk refuses.
        """
        self._make()
        with self._alone():
            self._sweep()
            free = shutil.disk_usage(self.folder).free
            if free < medium.manifest.size + _SPARE:
                need = (medium.manifest.size + _SPARE) >> 20
                raise Refused(f"{self.folder} has {free >> 20} MiB free and the import needs {need} MiB")
            part = self.folder / f"{_PART}{secrets.token_hex(8)}"
            part.mkdir(mode=0o700)
            try:
                copy_files(medium, part)
                _put(part / MANIFEST_NAME, medium.manifest.body)
                _put(part / SIGNATURE_NAME, medium.signature.model_dump_json().encode() + b"\n")
                _close(part)
                target = self.folder / medium.manifest.sha256
                if target.exists():
                    target.rename(self.folder / f"{_PART}{secrets.token_hex(8)}")
                part.rename(target)
                sync_folder(self.folder)
            finally:
                self._sweep()
        return Held(target, medium.manifest, medium.signer)

    def read(self, sha256: str) -> Held:
        """
        What lies in one folder; its signature is verified, the sizes of its files are looked at.

        Raises:
            Refused: it is not there or incomplete, or no trusted key signed it (any more).
        """
        folder = self.folder / sha256
        try:
            body = (folder / MANIFEST_NAME).read_bytes()
            signature = (folder / SIGNATURE_NAME).read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise Refused(f"{folder} cannot be read ({reason}): import the model again") from None
        manifest = read_manifest(body)
        signer = self._trust.verify(read_signature(signature), body)
        if manifest.sha256 != sha256:
            raise Refused(f"{folder} holds another model: import it again")
        for file in manifest.files:
            path = folder / file.path
            if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
                raise Refused(f"{path} is missing or was changed: import the model again")
        return Held(folder, manifest, signer)

    def remove(self, sha256: str) -> None:
        """Take away what was placed and then refused."""
        with self._alone():
            target = self.folder / sha256
            if target.exists():
                target.rename(self.folder / f"{_PART}{secrets.token_hex(8)}")
            self._sweep()

    def all(self) -> list[Held]:
        """Everything that holds, in no order of import."""
        found = []
        for folder in sorted(self.folder.glob("[0-9a-f]*")):
            try:
                found.append(self.read(folder.name))
            except Refused:
                continue
        return found

    def _make(self) -> None:
        """Folders and lock belong to the broker's user also where root imports: it writes score cards, and imports."""
        models = self.folder.parent
        self._data_dir.mkdir(parents=True, exist_ok=True)
        owner = self._data_dir.stat()
        for path in (models, self.folder, models / "import.lock"):
            if path.exists():
                continue
            if path.suffix:
                path.touch(0o600)
            else:
                path.mkdir(exist_ok=True)
                os.chmod(path, 0o755)  # noqa: S103 - whatever the umask says; data_dir itself is closed
            if os.name == "posix" and os.geteuid() == 0:
                os.chown(path, owner.st_uid, owner.st_gid)
        sync_folder(models)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = WriterLock(self.folder.parent / "import.lock", "the store of models")
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _sweep(self) -> None:
        """Remove what an interrupted import or a replaced copy left; only under the lock."""
        for folder in self.folder.glob(f"{_PART}*"):
            for below, _, _ in os.walk(folder):
                os.chmod(below, 0o700)
            shutil.rmtree(folder)


def _put(path: Path, body: bytes) -> None:
    with path.open("xb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def _close(folder: Path) -> None:
    """Make everything read-only, and its names durable; the folders last."""
    for below, _, names in os.walk(folder, topdown=False):
        for name in names:
            os.chmod(Path(below) / name, 0o444)
        sync_folder(Path(below))
        # the folder itself is renamed yet, which needs no right on it, but on its parent
        os.chmod(below, 0o555)  # noqa: S103 - the worker may run as another user; nobody may write
