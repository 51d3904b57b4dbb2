"""An OPC UA server with a certificate and users, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

URI = "urn:example:server"
NAMESPACE = "urn:example:cell"
NAME, PASSWORD = "reader", "correct horse"


@dataclass(frozen=True)
class SecureOpcUa:
    """Where the server listens; it has one variable, ``nsu=urn:example:cell;s=Speed``, 1500.0."""

    endpoint: str
    port: int


class _Users:
    """One name with a password, and the certificates that were given."""

    def __init__(self, certificates: Sequence[x509.Certificate]) -> None:
        self._certificates = {one.public_bytes(Encoding.DER) for one in certificates}

    def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:
        # with a name, *certificate* is that of the channel
        by_name = username is not None
        known = (username, password) == (NAME, PASSWORD) if by_name else certificate in self._certificates
        return User(role=UserRole.User) if known else None


@contextmanager
def secure_server(
    certificate: Path, key: Path, *, users: Sequence[x509.Certificate] = (), port: int = 0, uri: str = URI
) -> Iterator[SecureOpcUa]:
    """Run the server: Basic256Sha256 with SignAndEncrypt; name and password, or one of the certificates *users*."""
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    endpoint = f"opc.tcp://127.0.0.1:{port}/"
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()
    failure: list[BaseException] = []

    async def serve() -> None:
        server = Server(user_manager=_Users(users))
        await server.init()
        server.disable_clock()
        await server.set_application_uri(uri)
        server.set_endpoint(endpoint)
        server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
        server.set_identity_tokens([ua.UserNameIdentityToken, ua.X509IdentityToken])
        await server.load_certificate(certificate)
        await server.load_private_key(key)
        index = await server.register_namespace(NAMESPACE)
        await server.nodes.objects.add_variable(ua.NodeId("Speed", index), "Speed", 1500.0)
        async with server:
            ready.set()
            await stop.wait()

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(serve())
        except (OSError, RuntimeError, ua.UaError) as error:
            failure.append(error)
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, name="secure OPC UA server")
    thread.start()
    try:
        assert ready.wait(120), "the server did not come up"
        if failure:
            raise failure[0]
        yield SecureOpcUa(endpoint, port)
    finally:
        if not failure:
            loop.call_soon_threadsafe(stop.set)
        thread.join(120)
