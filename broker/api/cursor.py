"""Opaque cursors over ``seq``: they name the store they came from and notice a changed character."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Final

from fastapi.responses import JSONResponse, Response

from schemas.errors import Refused

#: Largest place that SQL can hold.
MAX_PLACE: Final = 2**63 - 1


def encode(store_id: str, seq: int) -> str:
    """Cursor behind record or outbox place *seq*."""
    body = f"{store_id}:{seq}".encode()
    return base64.urlsafe_b64encode(body + b":" + f"{zlib.crc32(body):08x}".encode()).decode().rstrip("=")


def decode(store_id: str, cursor: str | None) -> int:
    """
    Place a cursor stands for; 0 (the beginning) for None.

    Raises:
        Refused: it is damaged, or from another store.
    """
    if not cursor:
        return 0
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        body, crc = text.rsplit(":", 1)
        origin, seq = body.rsplit(":", 1)
        good = int(crc, 16) == zlib.crc32(body.encode())
        place = int(seq)
    except (ValueError, binascii.Error):
        raise Refused("this cursor is damaged; begin without one") from None
    if not good or not 0 <= place <= MAX_PLACE:
        raise Refused("this cursor is damaged; begin without one")
    if origin != store_id:
        raise Refused("this cursor is from another store; begin without one")
    return place


def gone(why: str, store_id: str, place: int) -> Response:
    """410: what the cursor would have returned next is not there; ``earliest`` is the cursor to go on with."""
    return JSONResponse({"detail": why, "earliest": encode(store_id, place)}, 410)
