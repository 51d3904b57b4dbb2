"""Modbus/TCP Security: mutual TLS, on port 802 (MODBUS/TCP Security Protocol Specification 2.1)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated

from pydantic import Field

from adapters.base import Options
from adapters.secrets import secret_file
from schemas.errors import NotConnected


class Tls(Options):
    """Certificates of ``transport: tls``. Verification of the device's name and chain cannot be switched off."""

    ca: Annotated[str, Field(min_length=1, description="File of the authorities that may sign the device.")]
    cert: Annotated[
        str,
        Field(
            min_length=1,
            description="Our certificate; the specification asks for one, and the device reads our role from it: "
            "let it be one that may only read.",
        ),
    ]
    key: Annotated[str, Field(min_length=1, description="Private key: file name, or file:NAME or cred:NAME.")]


class Security:
    """The TLS side of a link; files are read anew at each connect, so that renewed ones count."""

    def __init__(self, options: Tls, base_dir: Path) -> None:
        self._options = options
        self._base_dir = base_dir

    def context(self) -> ssl.SSLContext:
        """
        A client's context: TLS 1.2 or newer, the device's certificate and name checked.

        Raises:
            NotConnected: a file is missing, unreadable, or not what it should be.
        """
        ca, cert = self._base_dir / self._options.ca, self._base_dir / self._options.cert
        key = self._options.key
        named = key if key.startswith(("file:", "cred:")) else f"file:{key}"
        key_file = secret_file(named, self._base_dir)
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise NotConnected(f"tls.ca: {ca} cannot be used: {self.reason(error)}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(cert, key_file, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            raise NotConnected(f"tls.cert, tls.key: {cert} cannot be used: {self.reason(error)}") from None
        return context

    @staticmethod
    def reason(error: OSError) -> str:
        """What OpenSSL says, for people."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the device's certificate is not accepted ({error.verify_message}); check `tls.ca` and `host`"
        if isinstance(error, ssl.SSLError):
            return (error.reason or str(error)).replace("_", " ").lower()
        return error.strerror or str(error)


def _no_password() -> str:
    """An encrypted key is refused instead of asking at a terminal that nobody watches."""
    return ""
