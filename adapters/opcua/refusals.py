"""Gaps over the tags that the server does not give, cause ``server_refused``: from the refusal until it is watched."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any, Final

from adapters.base import AdapterContext
from adapters.opcua.handover import Handover
from schemas import status
from schemas.samples import Gap, GapCause

#: Least time between two ends of gaps, on the loop's clock: each names again all tags that are still refused, and tags
#: that come back one message after another would make as many rows as the square of their number.
_PAUSE_S: Final = 5.0


class Refusals:
    """
    The open gaps of one source, over one connection after another.

    Tags that are refused together share a gap. When some of them are watched again it ends, and the others begin a new
    one at the same time, so that there are never more open gaps than times at which something was refused. Tags that
    come back within a few seconds of such an end are told together: their gap then ends with the last of them.
    """

    def __init__(self, context: AdapterContext) -> None:
        self._context = context
        self._open: list[Gap] = []
        self._back: Set[int] = frozenset()  # watched again, and not told yet
        self._back_ns = 0  # when the last of them was
        self._again_at = 0.0

    async def tell(self, handover: Handover[Any], refused: Mapping[int, int], why: Mapping[int, str]) -> None:
        """
        Hand on what changed, now that these tags are refused (status by number); returns when it is in the journal.

        *why* is the reason behind a status, where more is known of it. Raises what ended the hand-over; what was not
        taken by then is told at the next call.
        """
        changes = self._changes(refused, why)
        for gap in changes:
            await handover.told(gap)
            if gap.to_ns is None:
                self._open.append(gap)
            else:
                self._open = [one for one in self._open if (one.tags, one.from_ns) != (gap.tags, gap.from_ns)]
        if any(gap.to_ns is not None for gap in changes):
            self._again_at = asyncio.get_running_loop().time() + _PAUSE_S

    def _changes(self, refused: Mapping[int, int], why: Mapping[int, str]) -> list[Gap]:
        """Gaps that end, then the one that begins."""
        at_ns = self._context.now_ns()
        told = {tag for gap in self._open for tag in gap.tags}
        back, fresh = told - refused.keys(), refused.keys() - told
        if back - self._back:
            self._back_ns = at_ns
        self._back = back
        ended: list[Gap] = []
        if back and asyncio.get_running_loop().time() >= self._again_at:
            at_ns = at_ns if fresh else self._back_ns
            changed = [gap for gap in self._open if not back.isdisjoint(gap.tags)]
            ended = [replace(gap, to_ns=max(gap.from_ns, at_ns)) for gap in changed]
            fresh.update(tag for gap in changed for tag in gap.tags if tag in refused)
        if not fresh:
            return ended
        codes = Counter(refused[tag] for tag in fresh)
        detail = ", ".join(f"{status.name(code)}: {count} tags" for code, count in codes.most_common(5))
        detail += "".join(f"; {why[code]}" for code in codes if code in why)
        begun = self._context.gap(GapCause.SERVER_REFUSED, tuple(sorted(fresh)), at_ns, None, detail)
        return [*ended, begun]
