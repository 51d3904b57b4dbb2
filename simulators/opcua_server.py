"""
OPC UA server on loopback whose variables follow a :data:`simulators.Signals` function.

asyncua's server with two of its answers put right, so that a client's recovery can be shown on it: a transferred
subscription publishes on the session it was transferred to, and Republish of a message it no longer holds is refused
with BadMessageNotAvailable (asyncua 2.1.0 answers an empty message). Of its events see :mod:`simulators.opcua_events`.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.server.subscription_service import SubscriptionService

from simulators import Signals, SignalValue
from simulators.opcua_events import Alarms, AlarmSpec, ItemsWithEvents, Manners, SubscriptionWithEvents

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """
    One variable of the server.

    ``type`` is the name of an OPC UA variant type (``Double``, ``UInt32``, ``Boolean``, ``String``, …).
    """

    type: str = "Double"
    description: str = ""

    @property
    def variant_type(self) -> ua.VariantType:
        """The library's word for the type. Raises ValueError when there is no such type."""
        try:
            return ua.VariantType[self.type]
        except KeyError:
            raise ValueError(f"{self.type!r} is not an OPC UA variant type") from None


class _Subscriptions(SubscriptionService):  # type: ignore[misc]
    """Subscription service that keeps the standard on Republish and TransferSubscriptions (Part 4, 5.14)."""

    manners: Manners

    async def create_subscription(self, *args: Any, **kwargs: Any) -> ua.CreateSubscriptionResult:
        result = await super().create_subscription(*args, **kwargs)
        held = self.subscriptions[result.SubscriptionId]
        held.__class__ = SubscriptionWithEvents
        held.monitored_item_srv.__class__ = ItemsWithEvents
        held.monitored_item_srv.manners = self.manners
        return result

    def republish(self, params: ua.RepublishParameters) -> ua.NotificationMessage:
        held = self.subscriptions.get(params.SubscriptionId)
        if held is None:
            raise ServiceError(ua.StatusCodes.BadSubscriptionIdInvalid)
        result = held._not_acknowledged_results.get(params.RetransmitSequenceNumber)
        if result is None:
            raise ServiceError(ua.StatusCodes.BadMessageNotAvailable)
        return result.NotificationMessage

    async def transfer_subscriptions(
        self, params: ua.TransferSubscriptionsParameters, session_id: ua.NodeId, callback: Callable[..., Any]
    ) -> list[ua.TransferResult]:
        results: list[ua.TransferResult] = await super().transfer_subscriptions(params, session_id, callback)
        for subscription_id in params.SubscriptionIds:
            held = self.subscriptions.get(subscription_id)
            if held is not None:
                held.pub_request_callback = callback.__self__.get_publish_request  # type: ignore[attr-defined]
        return results


class OpcUaServer:
    """
    Server with one variable per entry of *nodes*, node id ``nsu=<namespace>;s=<name>`` under Objects.

    Each period every changed value is written with the time of the tick as SourceTimestamp; a signal that is None or
    missing is written with BadSensorFailure and no value. *alarms* watch the values; :meth:`happen` raises any event.
    Security policy None, anonymous, nothing writable: it listens on 127.0.0.1 only.

    Attributes:
        endpoint: ``opc.tcp://127.0.0.1:<port>/``, known after the first :meth:`start`.
        namespace_index: index of the namespace in the running server.
        manners: how it takes filters of events.

    Use as an async context manager, or with :meth:`start` and :meth:`stop`, which may be called again: the port and
    the values stay, sessions and subscriptions are new as after a restart of a real server.
    """

    def __init__(
        self,
        signals: Signals,
        nodes: Mapping[str, NodeSpec],
        *,
        namespace: str,
        port: int = 0,
        period_s: float = 0.1,
        namespaces_before: Sequence[str] = (),
        now_ns: Callable[[], int] = time.time_ns,
        alarms: Sequence[AlarmSpec] = (),
    ) -> None:
        self.endpoint = ""
        self.manners = Manners()
        self.namespace = namespace
        self.namespace_index = -1
        self.namespaces_before = tuple(namespaces_before)
        self._signals = signals
        self._nodes = dict(nodes)
        self._port = port
        self._period_s = period_s
        self._now_ns = now_ns
        self._server: Server | None = None
        self._ids: dict[str, ua.NodeId] = {}
        self._last: dict[str, SignalValue] = {}
        self._writer: asyncio.Task[None] | None = None
        self._specs = tuple(alarms)
        self._alarms: Alarms | None = None

    async def __aenter__(self) -> OpcUaServer:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, and write values until :meth:`stop`. Raises OSError when the port is taken."""
        if self._server is not None:
            raise RuntimeError("the server runs already")
        if self._port == 0:
            self._port = _free_port()
        self.endpoint = f"opc.tcp://127.0.0.1:{self._port}/"
        server = Server()
        await server.init()
        subscriptions = _Subscriptions(server.iserver.aspace, server.iserver)
        subscriptions.manners = self.manners
        # the session within the server, which raises events, has taken hold of the library's own
        server.iserver.subscription_service = server.iserver.isession.subscription_service = subscriptions
        server.disable_clock()
        server.set_endpoint(self.endpoint)
        server.set_server_name("Fairlead simulator")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        for uri in self.namespaces_before:
            await server.register_namespace(uri)
        self.namespace_index = await server.register_namespace(self.namespace)
        self._server = server
        self._last.clear()
        self._ids.clear()
        for name, spec in self._nodes.items():
            await self._add(name, spec)
        self._alarms = Alarms(server, {ua.NodeId(one.name, self.namespace_index): one for one in self._specs})
        await self._write(self._signals())
        await server.start()
        self._writer = asyncio.create_task(self._run(), name="simulated OPC UA values")

    async def stop(self) -> None:
        """Close every connection and stop listening; does nothing when it does not run."""
        server, self._server = self._server, None
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            self._writer = None
        if server is not None:
            await server.stop()

    async def add(self, name: str, spec: NodeSpec) -> None:
        """Add a variable while the server runs; it stays through later starts."""
        self._nodes[name] = spec
        await self._add(name, spec)

    async def remove(self, name: str) -> None:
        """Take a variable away while the server runs, without a word to those who watch it."""
        assert self._server is not None
        del self._nodes[name]
        self._last.pop(name, None)
        node_id = self._ids.pop(name)
        space = self._server.iserver.aspace
        # the library means to tell them, and does not await what would
        for handle in list(space[node_id].attributes[ua.AttributeIds.Value].datachange_callbacks):
            space.delete_datachange_callback(handle)
        await self._server.delete_nodes([self._server.get_node(node_id)])

    async def happen(
        self,
        message: str,
        severity: int = 500,
        kind: int | ua.NodeId = ua.ObjectIds.BaseEventType,
        notifier: ua.NodeId | None = None,
        **fields: Any,
    ) -> bytes:
        """Raise one event of the Server object (or of *notifier*) and return its EventId."""
        if self._alarms is None:
            raise RuntimeError("the server does not run")
        where = notifier or ua.NodeId(ua.ObjectIds.Server)
        return await self._alarms.happen(message, severity, kind, where, self._moment(), **fields)

    async def add_event_type(self, name: str, base: int, fields: Mapping[str, str]) -> ua.NodeId:
        """Add an event type below *base*, with properties of these variant types; known until the next start."""
        assert self._server is not None
        node = await self._server.get_node(base).add_object_type(ua.NodeId(name, self.namespace_index), name)
        for field, kind in fields.items():
            variant = ua.VariantType[kind]
            await node.add_property(self.namespace_index, field, ua.get_default_value(variant), variant)
        return node.nodeid

    async def add_area(self, name: str) -> ua.NodeId:
        """Add an object that may tell events, known until the next start."""
        assert self._server is not None
        area = await self._server.nodes.objects.add_object(ua.NodeId(name, self.namespace_index), name)
        await area.set_event_notifier([ua.EventNotifier.SubscribeToEvents])
        return area.nodeid

    async def drop_connections(self) -> None:
        """Cut every TCP connection without a word; sessions and their queues stay."""
        if self._server is not None and self._server.bserver is not None:
            for client in list(self._server.bserver.clients):
                if client.transport is not None:
                    client.transport.abort()

    async def _add(self, name: str, spec: NodeSpec) -> None:
        assert self._server is not None
        node_id = ua.NodeId(name, self.namespace_index)
        waiting = ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData))
        node = await self._server.nodes.objects.add_variable(
            node_id, name, ua.get_default_value(spec.variant_type), spec.variant_type
        )
        await self._server.write_attribute_value(node.nodeid, waiting)
        self._ids[name] = node_id

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            await self._write(self._signals())

    async def _write(self, values: Mapping[str, SignalValue]) -> None:
        assert self._server is not None
        assert self._alarms is not None
        stamp = self._moment()
        for name, node_id in list(self._ids.items()):
            value = values.get(name)
            if name in self._last and _same(self._last[name], value):
                continue
            self._last[name] = value
            spec = self._nodes[name]
            if value is None:
                data = ua.DataValue(
                    StatusCode=ua.StatusCode(ua.StatusCodes.BadSensorFailure),
                    SourceTimestamp=stamp,
                    ServerTimestamp=stamp,
                )
            else:
                data = ua.DataValue(ua.Variant(value, spec.variant_type), SourceTimestamp=stamp, ServerTimestamp=stamp)
            await self._server.write_attribute_value(node_id, data)
        await self._alarms.look(values, stamp)

    def _moment(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self._now_ns() // 1000)


def _same(a: SignalValue, b: SignalValue) -> bool:
    """Equal in type and value; NaN equals NaN, since the signal did not change."""
    return type(a) is type(b) and (a == b or (a != a and b != b))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
