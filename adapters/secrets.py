"""
Secrets of connections are references: ``env:NAME``, ``file:NAME``, ``cred:NAME``. No message ever contains a secret.

They are read anew at each connect, so that renewed ones count. The store reads its own in ``broker/config/secrets.py``
by the same rules.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from pathlib import Path
from typing import Final

from schemas.errors import NotConnected

_MAX_BYTES: Final = 64 << 10


def read_secret(reference: str, base_dir: Path) -> str:
    """
    The secret that *reference* names, without the line end of its file.

    ``file:`` names are relative to *base_dir*; on POSIX only the owner may have rights on the file. ``cred:`` is a
    systemd credential.

    Raises:
        NotConnected: missing, unreadable, open to others, empty, not UTF-8 or too long; the text names the reference
            and never the value.
    """
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        value = os.environ.get(name)
        if value is None:
            raise NotConnected(f"{reference}: the environment variable {name} is not set")
    else:
        value = _text(reference, secret_file(reference, base_dir))
    if not value:
        raise NotConnected(f"{reference}: the secret is empty")
    return value


def secret_file(reference: str, base_dir: Path) -> Path:
    """
    The file behind ``file:NAME`` or ``cred:NAME``, for secrets that a library reads itself (private keys).

    Raises:
        NotConnected: there is none, or others than its owner may open a ``file:``.
    """
    kind, _, name = reference.partition(":")
    if kind == "cred" and name:
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder or "/" in name:
            raise NotConnected(f"{reference}: there is no systemd credential of this name (LoadCredential=)")
        path = Path(folder) / name
    elif kind == "file" and name:
        path = base_dir / name
    else:
        # What stands there may be the secret itself, so it is not repeated.
        raise NotConnected("a secret must be a reference: env:NAME, file:NAME or cred:NAME")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise NotConnected(f"{reference}: cannot be read: {error.strerror or 'unknown reason'}") from None
    if kind == "file" and os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise NotConnected(f"{reference}: others may read the file (mode {mode & 0o777:04o}); run chmod 600")
    return path


def _text(reference: str, path: Path) -> str:
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise NotConnected(f"{reference}: cannot be read: {error.strerror or 'unknown reason'}") from None
    if len(raw) > _MAX_BYTES:
        raise NotConnected(f"{reference}: is larger than {_MAX_BYTES >> 10} KiB")
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise NotConnected(f"{reference}: is not UTF-8 text") from None


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine by its name: ``localhost``, 127.0.0.0/8 or ``::1``. Nothing is resolved."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
