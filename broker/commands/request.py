"""From a person's wish to a command, checked against the tag map; what cannot be is refused with its reason."""

from __future__ import annotations

import difflib
import secrets
from typing import Final

from schemas.anomaly import Kind
from schemas.documents import rfc3339
from schemas.errors import Refused
from schemas.suppression import LONGEST_NS, LONGEST_SHELF_NS, Command, under
from schemas.tagmap import TagMap

MAX_REASON: Final = 500
_DAY_NS: Final = 86_400 * 1_000_000_000


def after(now_ns: int, seconds: float) -> int:
    """The end of something that lasts so long from now on. Raises Refused where that is more than ten years."""
    if not seconds * 1e9 <= LONGEST_NS:
        raise _too_far()
    return now_ns + round(seconds * 1e9)


def shelve(
    tag_map: TagMap | None, target: str, *, actor: str, reason: str, now_ns: int, until_ns: int | None, kind: str = ""
) -> Command:
    """
    Shelve findings (of *kind*, or all) on a tag, on equipment, or on everything below a path, until a time.

    Raises:
        Refused: the map has no such thing, the kind does not exist, there is no reason, or the time is no time for it.
    """
    if until_ns is None:
        raise Refused("a shelf needs an end; say until when, or for how long")
    if until_ns - now_ns > LONGEST_SHELF_NS:
        raise Refused(
            f"a shelf ends after {LONGEST_SHELF_NS // _DAY_NS} days at the latest; use maintenance, or the map"
        )
    if kind and kind not in set(Kind):
        raise Refused(f"there is no finding of the kind {kind!r}; kinds: {', '.join(sorted(Kind))}")
    _check_target(tag_map, target, tags=True)
    _check(reason, now_ns, until_ns)
    return Command(secrets.token_hex(16), "shelve", actor, target, kind, until_ns, reason.strip(), now_ns)


def maintenance(
    tag_map: TagMap | None, target: str, *, actor: str, reason: str, now_ns: int, until_ns: int | None
) -> Command:
    """
    Put equipment, or everything below a path, into maintenance, until a time or until a person ends it.

    Raises:
        Refused: the map has no such equipment, there is no reason, or the time is over.
    """
    _check_target(tag_map, target, tags=False)
    _check(reason, now_ns, until_ns)
    return Command(secrets.token_hex(16), "maintenance", actor, target, "", until_ns, reason.strip(), now_ns)


def end(suppression_id: str, *, actor: str, reason: str, now_ns: int) -> Command:
    """End a shelf or a maintenance before its time."""
    return Command(secrets.token_hex(16), "end", actor, suppression_id, "", None, reason.strip()[:MAX_REASON], now_ns)


def _check(reason: str, now_ns: int, until_ns: int | None) -> None:
    if not reason.strip():
        raise Refused("a reason is needed: whoever comes next must know why")
    if len(reason) > MAX_REASON:
        raise Refused(f"the reason is longer than {MAX_REASON} characters")
    if until_ns is not None and until_ns <= now_ns:
        raise Refused(f"{rfc3339(until_ns)} is over already")
    if until_ns is not None and until_ns - now_ns > LONGEST_NS:
        raise _too_far()


def _too_far() -> Refused:
    return Refused("the end is more than ten years ahead; leave it out where only a person ends it")


def _check_target(tag_map: TagMap | None, target: str, *, tags: bool) -> None:
    """The target is a tag (if allowed), a piece of equipment, or above one."""
    if tag_map is None:
        raise Refused("no tag map was ever in force")
    equipment = {tag.equipment or tag.path.rpartition("/")[0] for tag in tag_map.tags}
    equipment |= {item.path for item in tag_map.equipment}
    if any(under(path, target) for path in equipment) or (tags and target in tag_map.by_path):
        return
    if target in tag_map.by_path:
        raise Refused(f"{target} is a tag; maintenance is about equipment")
    near = difflib.get_close_matches(target, [*equipment, *(tag_map.by_path if tags else ())], 1, 0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise Refused(f"the tag map has no {'tag or equipment' if tags else 'equipment'} {target}{hint}")
