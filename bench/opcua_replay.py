"""
A fast OPC UA source in a process of its own: ``python -m bench.opcua_replay [options]``.

It answers connect, Read and CreateMonitoredItems as any server does, and Publish from byte templates in which only
values, times and numbers change (:mod:`bench.opcua_messages`), so that the client is what is measured: half a million
values a second and more on one core. Security None, anonymous, loopback, one process; no Republish, no Transfer.

Options:
    --tags N       nodes ``nsu=urn:fairlead:bench;s=v0`` to ``v<N-1>`` (default 1000)
    --period S     seconds between two values of a tag (default 0.1); with --flood only the unit of the values
    --flood        answer every PublishRequest at once with new values
    --types A,B    type of tag i is the i-th in turn: float64, float32, int32, bool (default float64)
    --message N    values in one message at most (default 1000)
    --queue N      messages kept for a slow client; then the oldest is dropped and counted (default 10000)
    --port N       TCP port (default 0: any)

Prints ``READY opc.tcp://127.0.0.1:<port>/`` and serves until standard input ends, then prints ``SENT <values> DROPPED
<values>``. A value encodes its tag and time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Thread
from typing import Any, Final

import numpy as np
import uvloop
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary, struct_to_binary, uatcp_to_binary

from bench.load import EPOCH_S
from bench.opcua_messages import TYPES, Load, Subscription

URI: Final = "urn:fairlead:bench"
_CHUNK: Final = 60_000
_REQUESTS: Final = {
    getattr(ua.ObjectIds, name): name.removesuffix("_Encoding_DefaultBinary")
    for name in dir(ua.ObjectIds)
    if name.endswith("Request_Encoding_DefaultBinary")
}
_PUBLISH: Final = int(ua.ObjectIds.PublishRequest_Encoding_DefaultBinary)


class Connection(asyncio.Protocol):
    """One client: transport, channel, session and its subscriptions."""

    def __init__(self, load: Load, open_connections: set[Connection]) -> None:
        self._load = load
        self._open = open_connections
        self._transport: Any = None
        self._buffer = bytearray()
        self._sequence = 0
        self._subscriptions: list[Subscription] = []
        self._asked: deque[tuple[int, int]] = deque()

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        self._transport = transport
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """It has gone, and its subscriptions with it."""
        self._open.discard(self)

    def data_received(self, data: bytes) -> None:
        """Serve every whole message."""
        self._buffer += data
        while len(self._buffer) >= 8:
            kind, _, size = struct.unpack_from("<3scI", self._buffer)
            if len(self._buffer) < size:
                break
            message = bytes(self._buffer[:size])
            del self._buffer[:size]
            self._take(kind, message)
        self.answer()

    def tick(self, k: int) -> None:
        """Make the values of period *k*, and answer what waits."""
        for one in self._subscriptions:
            one.tick(k)
        self.answer()

    def answer(self) -> None:
        """Answer waiting PublishRequests, the subscriptions in turn."""
        idle = 0
        now_s = time.time()
        while self._asked and idle < len(self._subscriptions):
            one = self._subscriptions.pop(0)
            self._subscriptions.append(one)
            body = one.next(now_s)
            if body is None:
                idle += 1
                continue
            idle = 0
            request_id, handle = self._asked.popleft()
            struct.pack_into("<I", body, 12, handle)
            self._send(body, request_id)

    def _send(self, body: bytes | bytearray, request_id: int) -> None:
        parts = [body[i : i + _CHUNK] for i in range(0, len(body), _CHUNK)]
        out: list[bytes | bytearray] = []
        for i, part in enumerate(parts):
            self._sequence += 1
            last = b"F" if i == len(parts) - 1 else b"C"
            out += [struct.pack("<3scIIIII", b"MSG", last, 24 + len(part), 1, 1, self._sequence, request_id), part]
        self._transport.write(b"".join(out))

    def _take(self, kind: bytes, message: bytes) -> None:
        if kind == b"HEL":
            hello = ua.Acknowledge(ReceiveBufferSize=65535, SendBufferSize=65535)
            self._transport.write(uatcp_to_binary(ua.MessageType.Acknowledge, hello))
        elif kind == b"OPN":
            self._open_channel(Buffer(message[12:]))
        elif kind == b"CLO":
            self._transport.close()
        else:
            [request_id] = struct.unpack_from("<I", message, 20)
            [type_id] = struct.unpack_from("<H", message, 26)
            if message[24] == 1 and type_id == _PUBLISH:
                # the token is ours: NodeId(1000, 1) takes four bytes; its time and handle follow
                self._asked.append((request_id, struct.unpack_from("<I", message, 40)[0]))
            else:
                self._serve(request_id, Buffer(message[24:]))

    def _open_channel(self, buffer: Buffer) -> None:
        algorithm = struct_from_binary(ua.AsymmetricAlgorithmHeader, buffer)
        sequence = struct_from_binary(ua.SequenceHeader, buffer)
        request = struct_from_binary(ua.OpenSecureChannelRequest, buffer)
        response = ua.OpenSecureChannelResponse()
        response.ResponseHeader.RequestHandle = request.RequestHeader.RequestHandle
        token = response.Parameters.SecurityToken
        token.ChannelId, token.TokenId, token.RevisedLifetime = 1, 1, request.Parameters.RequestedLifetime
        token.CreatedAt = datetime.now(UTC)
        response.Parameters.ServerNonce = b""
        self._sequence += 1
        body = struct_to_binary(algorithm) + struct.pack("<II", self._sequence, sequence.RequestId)
        body += struct_to_binary(response)
        self._transport.write(struct.pack("<3scII", b"OPN", b"F", 12 + len(body), 1) + body)

    def _serve(self, request_id: int, buffer: Buffer) -> None:
        type_id = nodeid_from_binary(buffer.copy())
        name = _REQUESTS.get(type_id.Identifier, "")
        request = struct_from_binary(getattr(ua, name), buffer)
        answer: Callable[[Any], Any] | None = getattr(self, "_" + name.removesuffix("Request").lower(), None)
        response = ua.ServiceFault() if answer is None else answer(request)
        if answer is None:
            response.ResponseHeader.ServiceResult = ua.StatusCode(ua.StatusCodes.BadServiceUnsupported)
        response.ResponseHeader.RequestHandle = request.RequestHeader.RequestHandle
        self._send(struct_to_binary(response), request_id)

    def _endpoint(self) -> ua.EndpointDescription:
        anonymous = ua.UserTokenPolicy(PolicyId="anonymous", TokenType=ua.UserTokenType.Anonymous)
        return ua.EndpointDescription(
            EndpointUrl="opc.tcp://127.0.0.1/",
            SecurityMode=ua.MessageSecurityMode.None_,
            SecurityPolicyUri="http://opcfoundation.org/UA/SecurityPolicy#None",
            UserIdentityTokens=[anonymous],
        )

    def _getendpoints(self, request: Any) -> Any:  # noqa: ARG002 - one signature for all
        return ua.GetEndpointsResponse(Endpoints=[self._endpoint()])

    def _createsession(self, request: Any) -> Any:
        result = ua.CreateSessionResult(
            SessionId=ua.NodeId(5, 1),
            AuthenticationToken=ua.NodeId(1000, 1),
            RevisedSessionTimeout=request.Parameters.RequestedSessionTimeout,
            ServerNonce=b"\0" * 32,
            ServerEndpoints=[self._endpoint()],
        )
        return ua.CreateSessionResponse(Parameters=result)

    def _activatesession(self, request: Any) -> Any:  # noqa: ARG002 - one signature for all
        return ua.ActivateSessionResponse()

    def _closesession(self, request: Any) -> Any:  # noqa: ARG002 - one signature for all
        return ua.CloseSessionResponse()

    def _read(self, request: Any) -> Any:
        return ua.ReadResponse(Results=[self._value(one) for one in request.Parameters.NodesToRead])

    def _value(self, one: ua.ReadValueId) -> ua.DataValue:
        node, now = one.NodeId, datetime.now(UTC)
        if one.AttributeId != ua.AttributeIds.Value:
            return ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadAttributeIdInvalid))
        if node.NamespaceIndex == 0:
            known = {
                ua.ObjectIds.Server_NamespaceArray: ua.Variant(
                    ["http://opcfoundation.org/UA/", "urn:fairlead:replay", URI], ua.VariantType.String
                ),
                ua.ObjectIds.Server_ServerStatus_StartTime: ua.Variant(self._load.started, ua.VariantType.DateTime),
                ua.ObjectIds.Server_ServerStatus_CurrentTime: ua.Variant(now, ua.VariantType.DateTime),
            }
            if node.Identifier in known:
                return ua.DataValue(known[node.Identifier], SourceTimestamp=now, ServerTimestamp=now)
        tag = self._tag(node)
        if tag is None:
            return ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown))
        k = self._load.k(time.time())
        kind = self._load.types[tag % len(self._load.types)]
        value = self._load.values(kind, np.array([tag]), k)[0].item()
        stamp = datetime.fromtimestamp(EPOCH_S + k * self._load.period_s, UTC)
        variant = ua.Variant(bool(value) if kind == "bool" else value, ua.VariantType(TYPES[kind][0]))
        return ua.DataValue(variant, SourceTimestamp=stamp, ServerTimestamp=now)

    def _tag(self, node: ua.NodeId) -> int | None:
        name = str(node.Identifier)
        if node.NamespaceIndex != 2 or not name.startswith("v") or not name[1:].isdigit():
            return None
        return int(name[1:]) if int(name[1:]) < self._load.tags else None

    def _createsubscription(self, request: Any) -> Any:
        asked = request.Parameters
        keep_alive_s = asked.RequestedPublishingInterval * asked.RequestedMaxKeepAliveCount / 1000
        one = Subscription(self._load, 77 + len(self._subscriptions), keep_alive_s)
        self._subscriptions.append(one)
        result = ua.CreateSubscriptionResult(
            one.id, asked.RequestedPublishingInterval, asked.RequestedLifetimeCount, asked.RequestedMaxKeepAliveCount
        )
        return ua.CreateSubscriptionResponse(Parameters=result)

    def _createmonitoreditems(self, request: Any) -> Any:
        [one] = [each for each in self._subscriptions if each.id == request.Parameters.SubscriptionId]
        results = []
        for item in request.Parameters.ItemsToCreate:
            result, tag = ua.MonitoredItemCreateResult(), self._tag(item.ItemToMonitor.NodeId)
            if tag is None:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown)
            else:
                asked = item.RequestedParameters
                one.add(asked.ClientHandle, tag)
                result.MonitoredItemId = tag + 1
                result.RevisedSamplingInterval, result.RevisedQueueSize = asked.SamplingInterval, asked.QueueSize
            results.append(result)
        return ua.CreateMonitoredItemsResponse(Results=results)

    def _deletesubscriptions(self, request: Any) -> Any:
        ids = request.Parameters.SubscriptionIds
        self._subscriptions = [one for one in self._subscriptions if one.id not in ids]
        return ua.DeleteSubscriptionsResponse(Results=[ua.StatusCode() for _ in ids])


async def serve(load: Load, port: int) -> None:
    """Serve until standard input ends."""
    loop, stop, connections = asyncio.get_running_loop(), asyncio.Event(), set[Connection]()
    server = await loop.create_server(lambda: Connection(load, connections), "127.0.0.1", port)
    print(f"READY opc.tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stop.set)), daemon=True).start()
    k = load.k(time.time())
    while not stop.is_set():
        until = 1.0 if load.flood else EPOCH_S + (k + 1) * load.period_s - time.time()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(until, 0.0))
        now = load.k(time.time())
        while k < now and not load.flood:  # no period is left out, also when this process was late
            k += 1
            for one in connections:
                one.tick(k)
        for one in connections:
            one.answer()
    server.close()
    print(f"SENT {load.sent} DROPPED {load.dropped}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.opcua_replay")
    parser.add_argument("--tags", type=int, default=1000)
    parser.add_argument("--period", type=float, default=0.1)
    parser.add_argument("--flood", action="store_true")
    parser.add_argument("--types", default="float64")
    parser.add_argument("--message", type=int, default=1000)
    parser.add_argument("--queue", type=int, default=10_000)
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    types = asked.types.split(",")
    if unknown := set(types) - set(TYPES):
        parser.error(f"unknown type {', '.join(sorted(unknown))}; want {', '.join(TYPES)}")
    load = Load(asked.tags, asked.period, asked.flood, types, asked.message, asked.queue)
    uvloop.run(serve(load, asked.port))


if __name__ == "__main__":
    main()
