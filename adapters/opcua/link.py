"""
One connection to a server: secure channel and session, by asyncua, with a guard that lets nothing be written.

asyncua keeps channel, session and encoding. Its reconnection, its supervisor (A6) and its publish loop, which
acknowledges whatever the callback did (A3) and skips what it cannot read without a trace (A8), are not used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from asyncua import Client, ua
from asyncua.client.ua_client import UaClient
from asyncua.client.ua_session import UaSession
from asyncua.common.utils import Buffer
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import CertProperties
from asyncua.ua.uaerrors import UaStructParsingError
from cryptography.hazmat.primitives.serialization import Encoding

from adapters.opcua import handshake, responses
from adapters.opcua.config import OpcUaOptions
from adapters.opcua.faults import DECODE_ERRORS, LINK_ERRORS
from adapters.opcua.pki import Pki
from adapters.opcua.responses import History, Message
from adapters.opcua.ticket import Ticket
from adapters.opcua.trust import Peer, split_chain
from schemas.errors import NotConnected

# What asyncua would log of a lost or refusing peer is raised here, and said once by the runner.
logging.getLogger("asyncua").setLevel(logging.CRITICAL)

REQUEST_TIMEOUT_S: Final = 5.0
_HISTORY_READ: Final = 1 << 2
_CURRENT_TIME: Final = ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)
#: A history may be on a slow disk.
HISTORY_TIMEOUT_S: Final = 30.0
CLOSE_TIMEOUT_S: Final = 2.0
#: Largest message and number of chunks we take (A16).
_MESSAGE_BYTES, _CHUNKS = 16 << 20, 256

#: The only services that are sent; Write, Call, HistoryUpdate and node management are not among them.
SERVICES: Final = frozenset(
    {
        "FindServersRequest",
        "GetEndpointsRequest",
        "CreateSessionRequest",
        "ActivateSessionRequest",
        "CloseSessionRequest",
        "ReadRequest",
        "CreateSubscriptionRequest",
        "DeleteSubscriptionsRequest",
        "TransferSubscriptionsRequest",
        "CreateMonitoredItemsRequest",
        "DeleteMonitoredItemsRequest",
        "PublishRequest",
        "RepublishRequest",
        "HistoryReadRequest",
    }
)


class _Session(UaSession):  # type: ignore[misc]
    """Session whose publish requests are sent by us alone, and whose values keep the 100 ns of their times (A19)."""

    def ensure_publish_loop(self) -> None:
        """Start nothing: the publish loop is the adapter's."""

    async def read(self, parameters: ua.ReadParameters) -> list[ua.DataValue]:
        """Values in the order asked for. Raises status codes, and UaStructParsingError for what cannot be read."""
        request = ua.ReadRequest()
        request.Parameters = parameters
        return responses.values(await self._send_request(request))


class _ReadOnlyClient(UaClient):  # type: ignore[misc]
    """Transport that refuses every service outside :data:`SERVICES` before it is encoded."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self.session = _Session(self)

    async def _send_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if type(request).__name__ not in SERVICES:
            raise PermissionError(f"{type(request).__name__}: the adapter only reads")
        return await super()._send_request(request, *args, **kwargs)

    def post(self, request: Any) -> asyncio.Future[Buffer]:
        """Send a request now; its answer resolves the future as it arrives, so that the order of answers is seen."""
        if type(request).__name__ not in SERVICES:
            raise PermissionError(f"{type(request).__name__}: the adapter only reads")
        if self.protocol is None:
            raise ConnectionError("connection is not open")
        answer: asyncio.Future[Buffer] = self.protocol._send_request(request, 0)
        return answer


def new_client(endpoint: str) -> Client:
    """A client of the library that sends nothing outside :data:`SERVICES`; not connected."""
    client = Client(endpoint, timeout=REQUEST_TIMEOUT_S)
    client.uaclient = _ReadOnlyClient(REQUEST_TIMEOUT_S)
    client.product_uri = "urn:fairlead"
    client.name = client.description = "Fairlead"
    client.max_messagesize, client.max_chunkcount = _MESSAGE_BYTES, _CHUNKS
    return client


class Link:
    """
    One transport, channel and session.

    ``step`` names what is being done while connecting, ``remarks`` what people should know of our certificate and what
    is not as it should be with the server's, and no reason to refuse. Every method raises :data:`LINK_ERRORS` or
    NotConnected.
    """

    def __init__(self, options: OpcUaOptions, application_uri: str, pki: Pki, base_dir: Path, now_ns: int) -> None:
        self.step = ""
        self.remarks: list[str] = []
        self.ticket_shown = False  #: whether the server was asked for the session of a ticket
        self._options = options
        self._pki = pki
        self._base_dir = base_dir
        self._now_ns = now_ns
        self._client = new_client(options.endpoint)
        self._client.application_uri = application_uri
        self._client.session_timeout = int(options.session_timeout_s() * 1000)
        self._renew_at = 0.0

    @property
    def session(self) -> Any:
        """The session's services; only those of :data:`SERVICES` reach the wire."""
        return self._client.uaclient.session

    @property
    def ticket(self) -> Ticket | None:
        """What takes this session up again on another connection; None before it was made."""
        token = self.session.authentication_token
        if token.is_null():
            return None
        return Ticket(token, self._client._server_nonce, self._client._policy_ids)

    async def open(self, ticket: Ticket | None) -> bool:
        """Connect up to an active session. Returns True when it is the session of the *ticket*."""
        options, client = self._options, self._client
        await handshake.resolve(options.host, options.port, self._begin)
        if options.security != "None":
            await self._secure()
        await handshake.open_channel(client, self._begin)
        self._plan_renewal()
        self.step = "user"
        credentials = await asyncio.to_thread(handshake.credentials, options.user, self._base_dir)
        self.step = "session"
        if ticket is not None:
            self.ticket_shown = True
            self.session.restore_authentication_token(ticket.token)
            client._server_nonce, client._policy_ids = ticket.nonce, ticket.policies
            try:
                await credentials.activate(client)
            except ua.UaStatusCodeError:
                self.session.reset_authentication_token()
            else:
                return True
        await client.create_session()
        self.step = "user"
        if credentials.password is not None:
            self._no_open_password()
        await credentials.activate(client)
        return False

    def _begin(self, step: str) -> None:
        self.step = step

    async def read(
        self, nodes: Sequence[ua.NodeId], chunk: int, attribute: ua.AttributeIds = ua.AttributeIds.Value
    ) -> list[ua.DataValue]:
        """
        Current value (or another attribute), status and both times of each node, in order; at most *chunk* a request.

        A value that cannot be decoded is one without a value, status BadDecodingError.
        """
        values: list[ua.DataValue] = []
        for start in range(0, len(nodes), chunk):
            values += await self._read_part(nodes[start : start + chunk], attribute)
        return values

    async def ask(self) -> None:
        """Read the server's clock, whatever it shows: a sign of life."""
        await self.read([_CURRENT_TIME], 1)

    async def _read_part(self, nodes: Sequence[ua.NodeId], attribute: ua.AttributeIds) -> list[ua.DataValue]:
        params = ua.ReadParameters()
        params.TimestampsToReturn = ua.TimestampsToReturn.Both
        params.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node in nodes]
        try:
            values: list[ua.DataValue] = await self.session.read(params)
        except ua.UaStatusCodeError:
            raise
        except DECODE_ERRORS:
            half = len(nodes) // 2
            if not half:
                return [ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadDecodingError))]
            return await self._read_part(nodes[:half], attribute) + await self._read_part(nodes[half:], attribute)
        if len(values) != len(nodes):
            raise NotConnected(f"the server answered {len(values)} of {len(nodes)} reads")
        return values

    async def republish(self, subscription_id: int, sequence: int) -> Message:
        """
        One NotificationMessage again.

        Raises UaStructParsingError for one that cannot be read, BadMessageNotAvailable where the server has it no more.
        """
        request = ua.RepublishRequest()
        request.Parameters.SubscriptionId = subscription_id
        request.Parameters.RetransmitSequenceNumber = sequence
        try:
            return responses.republished(await self.session._send_request(request))
        except ua.UaStatusCodeError:
            raise
        except DECODE_ERRORS as error:
            raise UaStructParsingError(f"message {sequence}: {error}") from error

    async def have_history(self, nodes: Sequence[ua.NodeId], chunk: int) -> list[bool]:
        """Whether each node lets its history be read (AccessLevel, Part 3, 8.57); one without may answer Good, too."""
        found: list[bool] = []
        for start in range(0, len(nodes), chunk):
            params = ua.ReadParameters()
            params.NodesToRead = [
                ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.AccessLevel)
                for node in nodes[start : start + chunk]
            ]
            levels = [None if one.Value is None else one.Value.Value for one in await self.session.read(params)]
            found += [isinstance(level, int) and bool(level & _HISTORY_READ) for level in levels]
        if len(found) != len(nodes):
            raise NotConnected(f"the server answered {len(found)} of {len(nodes)} reads")
        return found

    async def history_read(
        self, details: Any, nodes: Sequence[tuple[ua.NodeId, bytes | None]], *, release: bool = False
    ) -> list[History]:
        """The history of (node, continuation point) pairs, or with *release* nothing but giving the points back."""
        request = ua.HistoryReadRequest()
        request.Parameters = ua.HistoryReadParameters(
            HistoryReadDetails=details,
            TimestampsToReturn=ua.TimestampsToReturn.Both,
            ReleaseContinuationPoints=release,
            NodesToRead=[ua.HistoryReadValueId(NodeId=node, ContinuationPoint=point) for node, point in nodes],
        )
        return responses.history(await self.session._send_request(request, HISTORY_TIMEOUT_S))

    def post_publish(self, acks: Sequence[tuple[int, int]]) -> asyncio.Future[Buffer]:
        """
        Send a publish request with (subscription, sequence) acknowledgements; the bytes of its answer come later.

        Raises ConnectionError when the connection is gone.
        """
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = [
            ua.SubscriptionAcknowledgement(SubscriptionId=s, SequenceNumber=n) for s, n in acks
        ]
        answer: asyncio.Future[Buffer] = self._client.uaclient.post(request)
        return answer

    @property
    def renew_at(self) -> float:
        """When the channel is to be renewed, in event loop time."""
        return self._renew_at

    async def renew_when_due(self) -> None:
        """Renew the channel if it is time."""
        if asyncio.get_running_loop().time() >= self._renew_at:
            await self._renew()

    def drop(self) -> None:
        """Cut the transport without a word; the server keeps the session and what it owes us."""
        protocol = self._client.uaclient.protocol
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()

    async def close(self) -> bool:
        """End the session and leave its subscriptions to be taken up later; never raises. Returns whether it ended."""
        protocol = self._client.uaclient.protocol
        if protocol is None or protocol.is_closed:
            return False
        ended = False
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._client.uaclient.close_session(False)
                ended = True
                await self._client.close_secure_channel()
        except LINK_ERRORS:
            pass
        finally:
            self.drop()
        return ended

    async def _secure(self) -> None:
        """Ask for the endpoints, check the server's certificate, and take the configured endpoint."""
        options, client = self._options, self._client
        policy_name, _, mode_name = options.security.partition("/")
        policy = getattr(security_policies, f"SecurityPolicy{policy_name}")
        self.step = "own certificate"
        own = await asyncio.to_thread(self._pki.own_certificate, client.application_uri, self._now_ns)
        self.remarks = list(own.remarks)
        offered = await handshake.ask_endpoints(client, self._begin)
        chosen = handshake.choose(offered, options.security, policy.URI)
        handshake.check_token(chosen, options.user)
        self.step = "server certificate"
        peer = Peer(options.host, chosen.Server.ApplicationUri or "", options.pin.removeprefix("sha256:"))
        self.remarks += await asyncio.to_thread(self._pki.check_server, chosen.ServerCertificate, peer, self._now_ns)
        leaf = split_chain(chosen.ServerCertificate)[0].public_bytes(Encoding.DER)
        mode = ua.MessageSecurityMode[mode_name]
        await client.set_security(
            policy, CertProperties(own.certificate), CertProperties(own.key), None, CertProperties(leaf, "der"), mode
        )

    def _no_open_password(self) -> None:
        """Refuse to send a password that neither token policy nor channel would encrypt (A15)."""
        token = self._client.server_policy(ua.UserTokenType.UserName)
        plain = not token.SecurityPolicyUri or token.SecurityPolicyUri.endswith("#None")
        if plain and self._client.security_policy.Mode != ua.MessageSecurityMode.SignAndEncrypt:
            raise NotConnected("the server wants the password unencrypted; use a SignAndEncrypt security")

    def _plan_renewal(self) -> None:
        """A channel is renewed after three quarters of its lifetime (Part 4, 5.5.2)."""
        self._renew_at = asyncio.get_running_loop().time() + 0.75 * self._client.secure_channel_timeout / 1000

    async def _renew(self) -> None:
        await self._client.open_secure_channel(renew=True)
        self._client.uaclient.revolve_security_token()
        self._plan_renewal()
