"""
What we say to a broker of either version, MQTT 5 and 3.1.1: CONNECT and SUBSCRIBE, and the client that sends them.

M1 … are rows of docs/library-faults.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from adapters.mqtt.client import CONNECT_S, Client
from adapters.mqtt.config import MqttOptions
from adapters.mqtt.login import Login
from adapters.mqtt.packets import Packets


def new_client(options: MqttOptions, login: Login) -> Client:
    """A client for one connection, not connected; its callbacks are still to be set."""
    five = options.protocol == "5"
    client = Client(
        CallbackAPIVersion.VERSION2,
        login.client_id,
        clean_session=None if five else False,
        protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.connect_timeout = CONNECT_S
    if login.user is not None:
        client.username_pw_set(login.user, login.password)
    if login.tls is not None:
        client.tls_set_context(login.tls)
    if login.will is not None:
        client.will_set(login.will.topic, login.will.payload, 1, True)
    client.packets = Packets(options.limits.payload, five=five)
    return client


def connect(client: Client, options: MqttOptions) -> None:
    """
    Resolve, connect and shake hands, then send CONNECT for a session that the broker keeps; blocks meanwhile.

    Raises OSError and ValueError; ssl errors are both.
    """
    properties = None
    if options.protocol == "5":
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = min(math.ceil(options.session_expiry), 2**32 - 1)
        properties.ReceiveMaximum = options.receive_maximum
    clean = False if properties is not None else mqtt.MQTT_CLEAN_START_FIRST_ONLY
    client.connect(options.host, options.port, math.ceil(options.keepalive), clean_start=clean, properties=properties)


def subscribe(client: Client, options: MqttOptions, filters: Sequence[str]) -> int | None:
    """Send one SUBSCRIBE. Returns its message id; None when the connection has ended."""
    if options.protocol == "5":
        # Retained messages come with a new subscription only, not at every reconnect (M11).
        handling = 1 if options.retained == "uncertain" else 2
        how = SubscribeOptions(qos=options.qos, retainHandling=handling)
        return client.subscribe([(pattern, how) for pattern in filters])[1]
    plain: list[tuple[str, int]] = [(pattern, options.qos) for pattern in filters]
    return client.subscribe(plain)[1]
