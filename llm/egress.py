"""
Which address a model server may have: one on the site, decided before the first packet.

A name is resolved once; every address it has must be allowed, and only the one that was chosen is ever connected to,
so that a name that later points elsewhere changes nothing. Source: OWASP, DNS rebinding and SSRF prevention.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from schemas.errors import WorkerError

Address = IPv4Address | IPv6Address
#: Host and port to textual addresses, as ``getaddrinfo`` gives them; may block. Raises OSError.
Resolve = Callable[[str, int], Sequence[str]]

#: Loopback, RFC 1918, RFC 4193. Not link-local (cloud metadata lives there), not 100.64/10, no mapped or NAT64 form.
_SITE: Final = (
    *(ip_network(text) for text in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    *(ip_network(text) for text in ("::1/128", "fc00::/7")),
)
ALLOWED: Final = "loopback, 10/8, 172.16/12, 192.168/16 or fc00::/7"
_NAME: Final = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?")
#: ``2130706433``, ``0x7f.1``, ``127.1``: forms that a resolver reads as an address and a reader does not.
_NUMBER: Final = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)")
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model server is: ``scheme``, ``host`` as configured, ``port``, ``path`` without the last slash."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as they stand in an address and in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def at(self, address: str) -> str:
        """Address of the interface with the host replaced by the pinned address."""
        host = f"[{address}]" if ":" in address else address
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def permitted(address: Address) -> bool:
    """Whether an address lies on the site."""
    return any(address in network for network in _SITE)


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from error


def endpoint(url: str) -> Endpoint:
    """
    The parts of an address such as ``http://10.0.0.5:8000/v1``.

    Raises:
        ValueError: it is none, carries a user, a query or a fragment, or its host is an address outside the site.
    """
    parts, port = _split(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("want http://HOST:PORT/v1 or https://HOST:PORT/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("name and password do not belong into the address; a key belongs into llm.api_key")
    if parts.query or parts.fragment:
        raise ValueError("no query and no fragment belong into the address")
    host = parts.hostname.lower().rstrip(".")
    literal = _literal(host)
    if literal is not None and not permitted(literal):
        raise ValueError(f"{host} lies outside the site; allowed are {ALLOWED}")
    return Endpoint(parts.scheme, host, port or _PORTS[parts.scheme], parts.path.rstrip("/"))


def _literal(host: str) -> Address | None:
    """The address a host is, if it is one; a name gives None. Raises ValueError for what is neither."""
    if "%" in host:
        raise ValueError(f"{host} has a scope, which only link-local addresses need")
    try:
        return ip_address(host)
    except ValueError:
        if _NUMBER.fullmatch(host):
            raise ValueError(f"{host} is no address; write it as four numbers, such as 10.0.0.5") from None
        if not _NAME.fullmatch(host):
            raise ValueError(f"{host} is no name of a host and no address") from None
        return None


def resolve(host: str, port: int) -> list[str]:
    """The system's resolver. Raises OSError."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def pin(where: Endpoint, lookup: Resolve = resolve) -> str:
    """
    The one address to connect to; call it once and keep what it gives.

    Raises:
        OSError: the name has no address now.
        WorkerError: one of its addresses lies outside the site.
    """
    literal = _literal(where.host)
    found = [str(literal)] if literal is not None else list(dict.fromkeys(lookup(where.host, where.port)))
    if not found:
        raise OSError(f"{where.host} has no address")
    for text in found:
        try:
            good = permitted(ip_address(text))
        except ValueError:  # a scope id, or no address at all
            good = False
        if not good:
            raise WorkerError(f"llm.url: {where.host} resolves to {text}, outside the site; allowed are {ALLOWED}")
    return found[0]


async def pinned(where: Endpoint, lookup: Resolve = resolve) -> str:
    """
    As :func:`pin`, for a loop. Raises what it raises.

    A resolver may hang for minutes and cannot be stopped: it has a daemon thread of its own, because the loop joins
    those of its executor before it ends, and the interpreter does.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[str] = loop.create_future()

    def done(address: str, error: Exception | None) -> None:
        if future.done():  # given up
            return
        if error is None:
            future.set_result(address)
        else:
            future.set_exception(error)

    def work() -> None:
        address, failed = "", None
        try:
            address = pin(where, lookup)
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            failed = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(done, address, failed)

    threading.Thread(target=work, name="resolve-model-server", daemon=True).start()
    return await future
