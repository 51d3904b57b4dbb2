"""
One bounded HTTP exchange after another with a model server at its pinned address.

Here alone is httpx used. No proxies, no redirects, certificates always verified, answers never unpacked and
never read beyond a limit.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from llm.egress import endpoint
from llm.messages import Connect
from llm.prompt import clean
from schemas.errors import WorkerError

if TYPE_CHECKING:
    import httpx

_T = TypeVar("_T")
#: How far an exchange came before it failed.
Step = Literal["connect", "TLS", "key", "model", "answer"]
#: A larger answer of the server is not read.
MAX_ANSWER: Final = 256 << 10
_CONNECT_S: Final = 5.0
#: What servers, and gateways before them, answer while the model loads or has too much to do.
_BUSY: Final = frozenset({429, 502, 503, 504})
_DENIED: Final = frozenset({401, 403})


class Unreachable(WorkerError):
    """No connection, or none that lasted, or the server cannot answer now; it may work later."""

    def __init__(self, message: str, step: Step = "answer") -> None:
        super().__init__(message)
        self.step = step


class Troubled(Unreachable):
    """The server fails within itself at what it is asked; asked in another way it may not."""


class Denied(WorkerError):
    """The server does not accept the key."""


def _tls(ca: str) -> ssl.SSLContext:
    """Certificates are always verified: against the site's own authority where one is named."""
    context = ssl.create_default_context(cadata=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def client_of(setup: Connect) -> httpx.AsyncClient:
    """
    A client that knows no proxies and follows no redirects.

    Raises:
        ImportError: httpx is not installed.
        ssl.SSLError: the authority's certificates cannot be read.
    """
    import httpx

    connect_s = min(_CONNECT_S, setup.look_s / 2) if setup.look_s else _CONNECT_S
    return httpx.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        verify=_tls(setup.ca) if setup.url.startswith("https:") else False,
        limits=httpx.Limits(max_connections=setup.slots, max_keepalive_connections=setup.slots),
        timeout=httpx.Timeout(None, connect=connect_s),
    )


class Exchange:
    """
    The line to a model server.

    Args:
        setup: address as configured and as pinned, and the key.
        client: see :func:`client_of`.
    """

    def __init__(self, setup: Connect, client: httpx.AsyncClient) -> None:
        self._setup = setup
        self._client = client
        self._where = endpoint(setup.url)
        #: What the server calls itself; empty before its first answer.
        self.software = ""

    async def get(self, path: str, kind: type[_T]) -> _T:
        """
        What the server has at *path*.

        Raises:
            Unreachable: no connection, or the server has trouble that may pass.
            WorkerError: it refuses, redirects, or answers something else.
        """
        return await self._talk("GET", path, kind, None)

    async def post(self, path: str, asked: Mapping[str, Any], kind: type[_T]) -> _T:
        """What the server answers to *asked*. Raises as :meth:`get`."""
        return await self._talk("POST", path, kind, json.dumps(asked).encode())

    async def _talk(self, method: str, path: str, kind: type[_T], sent: bytes | None) -> _T:
        """One exchange; what comes back is bounded before it is parsed."""
        import httpx

        headers = {"Host": self._where.authority, "Accept": "application/json", "Accept-Encoding": "identity"}
        if sent is not None:
            headers["Content-Type"] = "application/json"
        if self._setup.api_key:
            headers["Authorization"] = f"Bearer {self._setup.api_key}"
        told = {"sni_hostname": self._where.host} if self._where.scheme == "https" else {}
        try:
            async with self._client.stream(
                method, self._where.at(self._setup.address) + path, content=sent, headers=headers, extensions=told
            ) as response:
                self.software = self.software or clean(response.headers.get("server", ""), 40)
                data = await _read(response)
        except httpx.LocalProtocolError as error:
            # its text quotes the header that it refuses, and one of them holds the key
            raise Unreachable(f"{self._where.authority}: {type(error).__name__}") from None
        except httpx.HTTPError as error:
            said = f"{self._where.authority}: {str(error)[:150] or type(error).__name__}"
            raise Unreachable(said, _reached(error)) from error
        if response.is_redirect:
            raise WorkerError(f"{self._where.authority} redirects to another address, which is not followed")
        if response.status_code != 200:
            said = clean(data.decode("utf-8", "replace"), 150)
            raise _kind(response.status_code)(f"{self._where.authority} answers {response.status_code}: {said}")
        try:
            return msgspec.json.decode(data, type=kind)
        except (ValueError, RecursionError) as error:
            raise WorkerError(f"{self._where.authority} sends no valid answer: {str(error)[:120]}") from error


def _reached(error: httpx.HTTPError) -> Step:
    """At which step a connection failed; the TLS library's own error stands behind the client's."""
    import httpx

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "TLS"
        cause = cause.__cause__ or cause.__context__
    return "connect" if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) else "answer"


def _kind(status: int) -> type[WorkerError]:
    """Whether an error of the server may pass: it loads, or has too much to do, or fails within itself."""
    if status in _BUSY:
        return Unreachable
    if status in _DENIED:
        return Denied
    return Troubled if status >= 500 else WorkerError


async def _read(response: httpx.Response) -> bytes:
    """The body as it came over the wire; nothing is unpacked, and no more than the limit is kept."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise WorkerError("the server sends a compressed answer, which is not unpacked")
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > MAX_ANSWER:
            raise WorkerError(f"the server's answer is longer than {MAX_ANSWER >> 10} KiB")
        parts.append(part)
    return b"".join(parts)
