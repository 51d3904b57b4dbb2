"""
The steps between a name and an active session that asyncua does in one go, one by one, so that a failure names its own.

GetEndpoints is not authenticated: what it says is only compared with what was configured, never followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncua import Client, ua
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from adapters.opcua.config import User
from adapters.opcua.pki import load_certificate
from adapters.secrets import read_secret, secret_file
from schemas.errors import NotConnected

#: Told the name of each step as it begins.
Step = Callable[[str], None]

_REFUSED: Final = "nothing listens there; check host, port, and whether the server runs"
_UNREACHABLE: Final = "no way to it; check address, routes and firewalls"


@dataclass(frozen=True, slots=True)
class Credentials:
    """How we name ourselves in ActivateSession; all None is anonymous."""

    name: str | None = None
    password: str | None = None
    certificate: x509.Certificate | None = None
    key: rsa.RSAPrivateKey | None = None

    async def activate(self, client: Client) -> None:
        """Activate the client's session with them. Raises link errors."""
        client.user_private_key = self.key
        await client.activate_session(username=self.name, password=self.password, certificate=self.certificate)


async def resolve(host: str, port: int, step: Step) -> None:
    """Look the name up. Raises OSError."""
    step(f"resolving {host}")
    try:
        await asyncio.get_running_loop().getaddrinfo(host, port)
    except OSError as error:
        raise NotConnected(f"{error.strerror or error}; check the name in `endpoint` and this machine's DNS") from error


async def open_channel(client: Client, step: Step) -> None:
    """TCP, hello and secure channel. Raises link errors, NotConnected with what to do."""
    url = client.server_url
    step(f"TCP to {url.hostname}:{url.port}")
    try:
        await client.connect_socket()
    except ConnectionRefusedError as error:
        raise NotConnected(f"refused: {_REFUSED}") from error
    except TimeoutError as error:
        raise NotConnected(f"no answer in time: {_UNREACHABLE}") from error
    except OSError as error:
        raise NotConnected(f"{error.strerror or error}: {_UNREACHABLE}") from error
    step("hello")
    try:
        await client.send_hello()
    except TimeoutError as error:
        raise NotConnected("no answer in time: something listens there that does not speak OPC UA") from error
    step("secure channel")
    await client.open_secure_channel()


async def ask_endpoints(client: Client, step: Step) -> list[ua.EndpointDescription]:
    """GetEndpoints over an unsecured connection of its own. Raises as :func:`open_channel`."""
    try:
        await open_channel(client, step)
        step("endpoints")
        offered: list[ua.EndpointDescription] = await client.get_endpoints()
        return offered
    finally:
        await hang_up(client)


async def hang_up(client: Client) -> None:
    """Close an unsecured connection, whatever state it is in."""
    try:
        await client.close_secure_channel()
    finally:
        client.disconnect_socket()


def choose(offered: Sequence[ua.EndpointDescription], security: str, policy_uri: str) -> ua.EndpointDescription:
    """The endpoint of the configured policy and mode. Raises NotConnected with what is offered instead."""
    mode = ua.MessageSecurityMode[security.partition("/")[2]]
    for one in offered:
        if one.SecurityPolicyUri == policy_uri and one.SecurityMode == mode:
            return one
    words = sorted({security_of(one) for one in offered})
    raise NotConnected(f"the server does not offer {security}; it offers {', '.join(words) or 'nothing'}")


def security_of(endpoint: ua.EndpointDescription) -> str:
    """Policy and mode of an endpoint as they are written in the configuration."""
    policy = (endpoint.SecurityPolicyUri or "").rpartition("#")[2]
    return f"{policy}/{ua.MessageSecurityMode(endpoint.SecurityMode).name.rstrip('_')}"


def check_token(endpoint: ua.EndpointDescription, user: User | None) -> None:
    """Whether the endpoint takes this kind of user. Raises NotConnected with the kinds it takes."""
    wanted = ua.UserTokenType.Anonymous
    if user is not None:
        wanted = ua.UserTokenType.Certificate if user.cert else ua.UserTokenType.UserName
    taken = {token.TokenType for token in endpoint.UserIdentityTokens or ()}
    if taken and wanted not in taken:
        words = ", ".join(sorted({user_kind(token) for token in endpoint.UserIdentityTokens}))
        raise NotConnected(f"the endpoint takes no {_KINDS[wanted]}; it takes {words}; change `user`")


def user_kind(token: ua.UserTokenPolicy) -> str:
    """The kind of user that a token policy takes, in words."""
    return _KINDS.get(token.TokenType) or str(token.TokenType.name)


_KINDS: Final[dict[Any, str]] = {
    ua.UserTokenType.Anonymous: "anonymous user",
    ua.UserTokenType.UserName: "name and password",
    ua.UserTokenType.Certificate: "user certificate",
    ua.UserTokenType.IssuedToken: "issued token",
}


def credentials(user: User | None, base_dir: Path) -> Credentials:
    """Read what *user* refers to. Raises NotConnected; no text contains a secret."""
    if user is None:
        return Credentials()
    if user.cert is None:
        assert user.password is not None
        return Credentials(user.name, read_secret(user.password, base_dir))
    certificate = load_certificate(base_dir / user.cert)
    if certificate is None:
        raise NotConnected(f"user.cert: there is no certificate in {base_dir / user.cert}")
    assert user.key is not None
    try:
        key = load_pem_private_key(secret_file(user.key, base_dir).read_bytes(), None)
    except (OSError, ValueError, TypeError):
        raise NotConnected(f"user.key: {user.key} is no private key in PEM without a passphrase") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise NotConnected("user.key: want an RSA key")
    if key.public_key() != certificate.public_key():
        raise NotConnected("user.key is not the key of user.cert")
    return Credentials(certificate=certificate, key=key)
