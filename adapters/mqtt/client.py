"""paho's client with what it does silently made visible: its thread's end, its packets, proxies, failed handshakes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

CONNECT_S: Final = 5.0
_PINGRESP: Final = 0xD0


class Client(mqtt.Client):
    """paho's client that says when its thread ends (M1, M2) and never asks the environment for a proxy."""

    on_ended: Callable[[BaseException | None], None]
    #: Called in the network thread for every packet that came; the argument tells whether it answers a ping.
    on_packet: Callable[[bool], None]

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

    def release(self) -> None:
        """Close the socket and the wake-up pair."""
        self._thread_terminate = True
        self._reset_sockets()
