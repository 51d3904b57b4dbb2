"""Secrets and certificates of a connection, read anew at each connect so that renewed files count."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import NamedTuple

from adapters.mqtt.config import MqttOptions
from schemas.errors import NotConnected


class Login(NamedTuple):
    """Resolved secrets and certificates."""

    client_id: str
    user: str | None
    password: str | None
    tls: ssl.SSLContext | None


def resolve(options: MqttOptions, client_id: str, base_dir: Path) -> Login:
    """
    Read what the connection needs.

    Raises:
        NotConnected: a secret or certificate is missing, unreadable, or open to others.
    """
    try:
        user = options.user
        password = None if user is None or user.password is None else read_secret(user.password, base_dir)
        return Login(client_id, None if user is None else user.name, password, _tls(options, base_dir))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise NotConnected(f"cannot read the credentials: {error}") from error


def read_secret(reference: str, base_dir: Path) -> str:
    """Text behind ``env:NAME``, ``file:NAME`` (mode 0600) or ``cred:NAME``. Raises OSError or ValueError."""
    kind, _, name = reference.partition(":")
    if kind == "env":
        if name not in os.environ:
            raise ValueError(f"environment variable {name} is not set")
        return os.environ[name]
    return secret_path(reference, base_dir).read_text(encoding="utf-8").rstrip("\r\n")


def secret_path(reference: str, base_dir: Path) -> Path:
    """File behind ``file:NAME`` or ``cred:NAME``. Raises ValueError when others may read it, OSError without it."""
    kind, _, name = reference.partition(":")
    if kind == "cred":
        return Path(os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials")) / name
    path = base_dir / name
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise ValueError(f"{path} is open to others; set its mode to 0600")
    return path


def _tls(options: MqttOptions, base_dir: Path) -> ssl.SSLContext | None:
    if not options.encrypted:
        return None
    tls = options.tls
    context = ssl.create_default_context(cafile=None if tls is None or tls.ca is None else str(base_dir / tls.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls is not None and tls.cert is not None and tls.key is not None:
        named = tls.key.startswith(("file:", "cred:"))
        key = secret_path(tls.key if named else f"file:{tls.key}", base_dir)
        context.load_cert_chain(base_dir / tls.cert, key)
    return context
