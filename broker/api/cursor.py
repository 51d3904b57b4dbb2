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
        origin, seq, _ = text.rsplit(":", 2)
        place = int(seq)
    except (ValueError, binascii.Error):
        raise Refused("this cursor is damaged; begin without one") from None
    # int() and base64 read several spellings as one; only the one that was given out is whole
    if cursor != encode(origin, place) or not 0 <= place <= MAX_PLACE:
        raise Refused("this cursor is damaged; begin without one")
    if origin != store_id:
        raise Refused("this cursor is from another store; begin without one")
    return place


def begin(store_id: str, cursor: str | None, span: tuple[int | None, int], what: str) -> int | Response:
    """
    The place to go on from, or the 410 that says why there is none.

    Args:
        store_id: of the store, or what cursors over these rows are told by.
        cursor: as it came; None for the beginning.
        span: the first row that is kept, None for none, and the newest place that was ever given.
        what: the rows in words, for the reason.

    Raises:
        Refused: see :func:`decode`.
    """
    place = decode(store_id, cursor)
    first, head = span
    kept_from = head + 1 if first is None else first
    if cursor and place + 1 < kept_from:
        return gone(f"retention has removed {what} behind this cursor", store_id, kept_from - 1)
    if place > head:
        return gone(f"the store was restored from an older copy, {what} come again", store_id, head)
    return place


def gone(why: str, store_id: str, place: int) -> Response:
    """410: what the cursor would have returned next is not there; ``earliest`` is the cursor to go on with."""
    return JSONResponse({"detail": why, "earliest": encode(store_id, place)}, 410)
