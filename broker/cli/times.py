"""Moments as people write them on the command line."""

from __future__ import annotations

import re
from typing import Final

import typer

from schemas.moments import MOMENT, parse_moment

#: Meant as a duration, right or wrong.
_AMOUNT: Final = re.compile(r"^\s*[0-9]+(\.[0-9]+)?\s*[A-Za-z]*\s*$")
HELP: Final = "RFC 3339 with its offset (2026-03-01T08:00:00Z), or a duration: so long ago (2h)."


def ahead(text: str | None, now_ns: int, option: str) -> int | None:
    """Like :meth:`moment`, a duration counts from now on. Raises typer.BadParameter."""
    at_ns = moment(text, now_ns, option)
    plain = text is not None and at_ns is not None and not MOMENT.match(text.strip())
    return 2 * now_ns - at_ns if plain and at_ns is not None else at_ns


def moment(text: str | None, now_ns: int, option: str) -> int | None:
    """
    UTC ns of *text*, None for None.

    Raises:
        typer.BadParameter: neither an RFC 3339 time with an offset nor a duration.
    """
    if text is None:
        return None
    if MOMENT.match(text.strip()):
        try:
            return parse_moment(text)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint=option) from None
    from schemas.quantities import parse_duration

    try:
        return now_ns - round(parse_duration(text) * 1e9)
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is longer than any calendar", param_hint=option) from None
    except ValueError as error:
        hint = f"{text!r} is neither a time with its offset, such as 2026-03-01T08:00:00Z, nor a duration such as 2h"
        # 5m: what was meant is known, so the unit is what is said
        raise typer.BadParameter(str(error) if _AMOUNT.match(text) else hint, param_hint=option) from None
