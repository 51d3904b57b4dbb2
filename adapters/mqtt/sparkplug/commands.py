"""
What a host application publishes, where its role allows it: the rebirth command, and its own STATE.

Source: Eclipse Sparkplug 3.0.0, 5.7 (NCMD ``Node Control/Rebirth``, QoS 0, not retained) and 5.8 (STATE: JSON with
``online`` and ``timestamp`` in epoch ms, QoS 1, retained, the will with the same timestamp).
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from adapters import timestamps

_NAME: Final = b"Node Control/Rebirth"
_BOOLEAN: Final = 11


def rebirth(now_ms: int) -> bytes:
    """Payload of the rebirth command."""
    body = b"\x0a" + bytes([len(_NAME)]) + _NAME  # name
    body += b"\x18" + _varint(now_ms) + b"\x20" + bytes([_BOOLEAN]) + b"\x70\x01"  # timestamp, datatype, true
    return b"\x08" + _varint(now_ms) + b"\x12" + struct.pack("B", len(body)) + body


def state(online: bool, since_ms: int) -> bytes:
    """Payload of STATE."""
    return msgspec.json.encode({"online": online, "timestamp": since_ms})


def offline_since(payload: bytes) -> int | None:
    """
    Time (epoch ms) of a STATE payload that says that its host is offline; 0 where it names none that can be meant.

    None for every other payload; damaged ones say nothing.
    """
    try:
        found = msgspec.json.decode(payload, type=dict[str, object])
    except ValueError:
        return None
    if found.get("online") is not False:
        return None
    at_ms = found.get("timestamp")
    return at_ms if type(at_ms) is int and timestamps.fits(at_ms * 10**6) else 0


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
