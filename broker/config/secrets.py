"""
Secrets are references: ``env:NAME``, ``file:NAME``, ``cred:NAME``. No message ever contains a secret.

Source: security.md, Secrets; configuration rule 7.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError

#: Options that hold a secret, wherever they stand.
SECRET_FIELDS: Final = frozenset({"password", "api_key", "token", "secret", "passphrase"})
_MAX_BYTES: Final = 64 << 10


def resolve_secret(ref: str, base_dir: Path) -> str:
    """
    The secret that *ref* names, without the line end of its file.

    ``file:`` names are relative to *base_dir*; on POSIX the file must be readable by its owner only. ``cred:`` is a
    systemd credential. Raises ConfigError, which names the reference and never the value.
    """
    kind, _, name = ref.partition(":")
    if kind == "env" and name:
        value = os.environ.get(name)
        if value is None:
            raise ConfigError(f"{ref}: the environment variable {name} is not set")
    elif kind == "file" and name:
        value = _read(ref, base_dir / name, private=True)
    elif kind == "cred" and name:
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder or "/" in name:
            raise ConfigError(f"{ref}: there is no systemd credential of this name (LoadCredential=)")
        value = _read(ref, Path(folder) / name, private=False)
    else:
        raise ConfigError("a secret must be a reference: env:NAME, file:NAME or cred:NAME")
    if not value:
        raise ConfigError(f"{ref}: the secret is empty")
    return value


def unusable(ref: str, base_dir: Path) -> str:
    """
    Why *ref* cannot be used by this process, empty where it can; a private key need not be text.

    ``cred:`` is not judged where systemd lends this process no credentials: the service may have them.
    """
    kind, _, name = ref.partition(":")
    if kind == "cred" and not os.environ.get("CREDENTIALS_DIRECTORY"):
        return ""
    try:
        if kind == "file" and name:
            return "" if _bytes(ref, base_dir / name, private=True).strip() else f"{ref}: the secret is empty"
        resolve_secret(ref, base_dir)
    except ConfigError as error:
        return str(error)
    return ""


def _read(ref: str, path: Path, *, private: bool) -> str:
    raw = _bytes(ref, path, private=private)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{ref}: is not UTF-8 text") from None
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{ref}: is larger than {_MAX_BYTES >> 10} KiB")
    return text.rstrip("\r\n")


def _bytes(ref: str, path: Path, *, private: bool) -> bytes:
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if private and os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(f"{ref}: others may read the file (mode {mode & 0o777:04o}); run chmod 600")
            return stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{ref}: cannot be read: {error.strerror or 'unknown reason'}") from None
