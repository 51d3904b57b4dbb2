"""
Device identification: function code 43, type 14 (MODBUS Application Protocol 1.1b3, 6.21).

Guards against another device behind an address, whose registers then mean something else, and tells a change of the
firmware.
"""

from __future__ import annotations

from typing import Final

from adapters.modbus.frames import Doubtful, identification_request
from adapters.modbus.link import Link

#: Names of the objects of the basic and regular categories.
OBJECTS: Final = {
    0: "vendor",
    1: "product code",
    2: "revision",
    3: "vendor URL",
    4: "product name",
    5: "model name",
    6: "user application name",
}
#: What must stay the same: vendor and product code, which every device with an identification has.
COMPARED: Final = (0, 1)
#: The revision of the firmware: another one is noted.
REVISION: Final = 2
#: The basic category.
BASIC: Final = (*COMPARED, REVISION)
_BASIC: Final = 1
_REGULAR: Final = 2
#: Replies that one identification may take; a device that always says "more follows" is doubted.
_MOST_REPLIES: Final = 32

Identity = dict[int, str]


async def read_identity(link: Link, unit: int, *, regular: bool = False) -> Identity | None:
    """
    Who a unit says it is, by object number; None where it offers no identification.

    Raises:
        TimeoutError, Doubtful, ConnectionResetError, NotConnected: as :meth:`Link.ask`.
    """
    found: Identity = {}
    first = 0
    for _ in range(_MOST_REPLIES):
        reply = await link.ask(identification_request(unit, _REGULAR if regular else _BASIC, first))
        if reply.code:
            return None
        objects, following = decode(reply.payload)
        found |= objects
        if following is None:
            return found
        first = following
    raise Doubtful("a device identification without an end")


def decode(payload: bytes) -> tuple[Identity, int | None]:
    """
    The objects of one reply (from the type byte on), and the object to ask for next; None: that was all.

    Raises Doubtful for anything that is no such reply.
    """
    if len(payload) < 6 or payload[0] != 14:
        raise Doubtful("a device identification that is cut short")
    more, following, count = payload[3], payload[4], payload[5]
    found: Identity = {}
    at = 6
    for _ in range(count):
        end = at + 2 + payload[at + 1] if at + 2 <= len(payload) else len(payload) + 1
        if end > len(payload):
            raise Doubtful("a device identification that is cut short")
        text = payload[at + 2 : end].decode("utf-8", errors="replace")
        found[payload[at]] = text.replace("\0", "").strip()
        at = end
    if at != len(payload):
        raise Doubtful(f"{len(payload) - at} bytes behind a device identification")
    return found, following if more == 0xFF else None


def differs(known: Identity, now: Identity | None) -> bool:
    """Whether *now* is another device than *known*, by vendor and product code."""
    return now is None or any(known.get(number) != now.get(number) for number in COMPARED)


def text(identity: Identity | None) -> str:
    """One line for people."""
    if identity is None:
        return "a device without identification"
    return " ".join(identity.get(number, "?") or "?" for number in BASIC)
