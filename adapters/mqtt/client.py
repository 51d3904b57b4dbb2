"""paho's client with what it does silently made visible: its thread's end, its packets, proxies, failed handshakes."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MalformedPacket

from adapters.base import Clock
from adapters.mqtt.message import Block
from adapters.mqtt.packets import Malformed, Packet, Packets

CONNECT_S: Final = 5.0
_PINGRESP: Final = 0xD0
_PUBACK: Final = 0x40
_READ_BYTES: Final = 256 * 1024
#: Brokers write packet by packet. Reads that would follow one another faster wait for more: 5 ms cost nobody anything,
#: a wake-up costs more than a message.
_COALESCE_S: Final = 0.005
_ENOUGH_BYTES: Final = 64 * 1024


class Client(mqtt.Client):
    """
    paho's client that says when its thread ends (M1, M2) and never asks the environment for a proxy.

    Connection, TLS, session, subscriptions and keep-alive are paho's. What it reads goes through :class:`Packets`:
    messages come as blocks, other packets go to paho's handlers.
    """

    on_ended: Callable[[BaseException | None], None]
    #: Called in the network thread for every packet that came; the argument tells whether it answers a ping.
    on_packet: Callable[[bool], None]
    #: Called in the network thread with messages, in their order.
    on_block: Callable[[Block], None]
    now_ns: Clock
    packets: Packets
    _last_read_s = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._gate = threading.Lock()
        self._greeted = self._abandoned = False
        super().__init__(*args, **kwargs)

    @property
    def greeted(self) -> bool:
        """Whether CONNECT was sent: before it, a broker knows nothing of us."""
        return self._greeted

    def abandon(self) -> bool:
        """Send no CONNECT from now on, whatever another thread is doing; return whether one was sent."""
        with self._gate:
            self._abandoned = True
            return self._greeted

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:  # noqa: ARG002 - the library's signature
        """Read what is there and hand it over. Called by paho's thread."""
        if self._sock is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        data, lost = self._drain()
        if data:
            self._note_life()
            rc = self._take(data)
            if rc > 0:
                return self._loop_rc_handle(rc)
        if lost:
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        if not data:
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        now_s = time.monotonic()
        pause_s = _COALESCE_S - (now_s - self._last_read_s)
        self._last_read_s = now_s
        if pause_s > 0 and len(data) < _ENOUGH_BYTES:
            time.sleep(pause_s)
            self._last_read_s += pause_s
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def acknowledge(self, mids: list[bytes]) -> None:
        """Queue PUBACKs of these message ids, in their order, as one write."""
        packet = b"\x40\x02" + b"\x40\x02".join(mids)
        self._packet_queue(_PUBACK, packet, 0, 1)

    def _drain(self) -> tuple[bytes, bool]:
        """What is there, and whether the connection ended behind it. Of TLS one read gives one record only."""
        parts: list[bytes] = []
        size = 0
        one_by_one = hasattr(self._sock, "pending")
        while size < _READ_BYTES:
            try:
                part = self._sock_recv(_READ_BYTES - size)
            except BlockingIOError:
                break
            except OSError:
                part = b""
            if not part:
                return b"".join(parts), True
            parts.append(part)
            size += len(part)
            if not one_by_one:
                break
        return b"".join(parts), False

    def _take(self, data: bytes) -> MQTTErrorCode:
        try:
            for item in self.packets.feed(data, self.now_ns()):
                if isinstance(item, Block):
                    self.on_block(item)
                elif (rc := self._handle(item)) > 0:
                    return rc
        except (Malformed, MalformedPacket):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle(self, packet: Packet) -> MQTTErrorCode:
        """Let paho handle a packet as if it had read it itself."""
        self._in_packet["command"] = packet.first
        self._in_packet["remaining_length"] = len(packet.body)
        self._in_packet["packet"] = bytearray(packet.body)
        self._in_packet["pos"] = 0
        return self._packet_handle()

    def _note_life(self) -> None:
        # The name of what paho's keep-alive looks at differs between 2.1 and 2.2.
        with self._msgtime_mutex:
            for name in ("_last_bytes_received", "_last_msg_in"):
                if hasattr(self, name):
                    setattr(self, name, time.monotonic())

    def _thread_main(self) -> None:
        error: BaseException | None = None
        try:
            super()._thread_main()
        except BaseException as raised:  # noqa: BLE001 - M1: handed over to the reader, who raises NotConnected
            error = raised
        self.on_ended(error)

    def _packet_handle(self) -> MQTTErrorCode:
        ping = self._in_packet["command"] & 0xF0 == _PINGRESP
        result = super()._packet_handle()
        self.on_packet(ping)
        return result

    def keep_alive_at_most(self, seconds: int) -> None:
        """Ask for signs of life this often even where the broker allows more (MQTT 5.0, 3.2.2.3.14)."""
        self._keepalive = min(self._keepalive or seconds, seconds)

    def _send_connect(self, keepalive: int) -> MQTTErrorCode:
        with self._gate:
            if self._abandoned:
                raise ConnectionAbortedError("given up before CONNECT")
            self._greeted = True
            return super()._send_connect(keepalive)

    def _get_proxy(self) -> dict[str, Any] | None:
        return None

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        # The library's own leaves the socket open when the handshake fails, and goes on without a server name.
        assert self._ssl_context is not None
        secure = self._ssl_context.wrap_socket(tcp_sock, server_hostname=self.host, do_handshake_on_connect=False)
        try:
            secure.settimeout(CONNECT_S)
            secure.do_handshake()
        except OSError:
            secure.close()
            raise
        return secure

    def second_handle(self) -> socket.socket | None:
        """The connection once more, not blocking: paho closes its own handle with the DISCONNECT that it sends."""
        sock = self._sock
        if not isinstance(sock, socket.socket):  # TLS sockets are, too
            return None
        try:
            peer = socket.fromfd(sock.fileno(), sock.family, sock.type)
        except OSError:
            return None
        peer.setblocking(False)
        return peer

    def release(self) -> None:
        """Close the socket and the wake-up pair."""
        self._thread_terminate = True
        self._reset_sockets()
