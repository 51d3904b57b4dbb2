"""Secrets and certificates of a connection, read anew at each connect so that renewed files count."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from adapters.mqtt.config import MqttOptions
from adapters.secrets import read_secret, secret_file
from schemas.errors import NotConnected


class Will(NamedTuple):
    """What the broker publishes, retained, when we are gone."""

    topic: str
    payload: bytes


class Login(NamedTuple):
    """Resolved secrets and certificates, and the will."""

    client_id: str
    user: str | None
    password: str | None
    tls: ssl.SSLContext | None
    will: Will | None = None


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


def _tls(options: MqttOptions, base_dir: Path) -> ssl.SSLContext | None:
    if not options.encrypted:
        return None
    tls = options.tls
    context = ssl.create_default_context(cafile=None if tls is None or tls.ca is None else str(base_dir / tls.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls is not None and tls.cert is not None and tls.key is not None:
        named = tls.key.startswith(("file:", "cred:"))
        key = secret_file(tls.key if named else f"file:{tls.key}", base_dir)
        context.load_cert_chain(base_dir / tls.cert, key)
    return context
