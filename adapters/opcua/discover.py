"""
What a server offers to anybody who asks: its names, its endpoints, its certificates, and what we would say to each.

GetEndpoints and FindServers are not authenticated. What they say helps a person to write the configuration; nothing of
it is used to connect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncua import Client, ua
from cryptography import x509

from adapters.opcua import handshake, trust
from adapters.opcua.config import MODES, POLICIES
from adapters.opcua.faults import LINK_ERRORS, describe
from adapters.opcua.link import new_client
from adapters.opcua.pki import common_name, fingerprint
from schemas.errors import NotConnected


@dataclass(frozen=True, slots=True)
class Offer:
    """
    One endpoint. ``security`` is written as in the configuration; ``fingerprint`` is empty without a certificate.

    ``verdict`` says whether a source could use it, and what stands against it.
    """

    url: str
    security: str
    users: tuple[str, ...]
    application_uri: str
    subject: str
    fingerprint: str
    valid_until: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Found:
    """Servers that the address knows of (name, application URI, addresses), and the endpoints of this one."""

    servers: tuple[tuple[str, str, tuple[str, ...]], ...]
    offers: tuple[Offer, ...]


async def discover(url: str, lists: trust.Lists, now: datetime) -> Found:
    """Ask the server at *url*. Raises NotConnected with the step that failed and what to do."""
    steps: list[str] = [""]
    client = new_client(url)
    host, port = client.server_url.hostname or "", client.server_url.port or 4840
    try:
        await handshake.resolve(host, port, steps.append)
        offered = await handshake.ask_endpoints(client, steps.append)
        servers = await _find_servers(new_client(url), steps.append)
    except (NotConnected, *LINK_ERRORS) as error:
        text = str(error) if isinstance(error, NotConnected) else describe(error)
        raise NotConnected(f"{url}: {steps[-1]}: {text}") from error
    return Found(servers, tuple(_offer(one, host, lists, now) for one in offered))


async def _find_servers(client: Client, step: Callable[[str], None]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """FindServers; nothing where the server does not know the service."""
    try:
        await handshake.open_channel(client, step)
        step("servers")
        found: Sequence[ua.ApplicationDescription] = await client.find_servers()
    except ua.UaStatusCodeError:
        return ()
    finally:
        await handshake.hang_up(client)
    return tuple(
        (one.ApplicationName.Text or "", one.ApplicationUri or "", tuple(one.DiscoveryUrls or ())) for one in found
    )


def _offer(endpoint: ua.EndpointDescription, host: str, lists: trust.Lists, now: datetime) -> Offer:
    security = handshake.security_of(endpoint)
    uri = endpoint.Server.ApplicationUri or ""
    subject = digest = until = ""
    policy, _, mode = security.partition("/")
    if mode == "None":
        verdict = "unencrypted: `security: None`, only with `insecure_ack`"
    elif policy not in POLICIES or mode not in MODES:
        verdict = "not used: the policy is obsolete or not known here"
    else:
        verdict = "usable"
    if endpoint.ServerCertificate:
        try:
            chain = trust.split_chain(endpoint.ServerCertificate)
        except ValueError as error:
            return Offer(
                endpoint.EndpointUrl,
                security,
                _users(endpoint),
                uri,
                "",
                "",
                "",
                f"certificate cannot be read: {error}",
            )
        subject, digest = common_name(chain[0]), fingerprint(chain[0])
        until = f"{chain[0].not_valid_after_utc:%Y-%m-%d}"
        if verdict == "usable":
            verdict = _judged(chain, lists, trust.Peer(host, uri), now)
    return Offer(endpoint.EndpointUrl, security, _users(endpoint), uri, subject, digest, until, verdict)


def _judged(chain: list[x509.Certificate], lists: trust.Lists, peer: trust.Peer, now: datetime) -> str:
    try:
        return "; ".join(["usable", *trust.judge(chain, lists, peer, now)])
    except trust.Distrust as refusal:
        if not refusal.unknown:
            return f"refused: its certificate {refusal}"
    try:  # what else would stand against it once a person has accepted it
        pinned = trust.Peer(peer.host, peer.application_uri, fingerprint(chain[0]))
        remarks = trust.judge(chain, lists, pinned, now)
    except trust.Distrust as refusal:
        return f"refused: its certificate {refusal}"
    return "; ".join(["usable once its certificate is accepted", *remarks])


def _users(endpoint: ua.EndpointDescription) -> tuple[str, ...]:
    return tuple(sorted({handshake.user_kind(token) for token in endpoint.UserIdentityTokens or ()}))
