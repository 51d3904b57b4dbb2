"""What the tag map in force says about each tag, as columns by state slot."""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.columns import Index, Slots
from schemas.tagmap import Tag, TagMap

#: Roles whose signal is set or counted; a shift of the mean is no statement about them.
_NO_CHART: Final = frozenset({"state", "good_count", "reject_count", "sp", "order", "lot"})
#: Limits of an output in per cent whose map gives no range.
_PER_CENT: Final = (0.0, 100.0)


def form(tag: Tag) -> int:
    """64-bit hash of everything that gives a tag's numbers their meaning; what was learned holds for one form."""
    parts = (
        tag.source,
        tag.address,
        tag.type,
        tag.scale_mode,
        tag.raw_low,
        tag.raw_high,
        tag.factor,
        tag.offset,
        tag.unit,
        tag.role,
        equipment_of(tag),
        *((tag.loop,) if tag.loop else ()),
        *(("counter",) if tag.counter else ()),
    )
    return int.from_bytes(hashlib.blake2b(msgspec.json.encode(parts), digest_size=8).digest(), "little", signed=True)


def equipment_of(tag: Tag) -> str:
    """Path of the tag's equipment; the folder of its own path where the map names none."""
    return tag.equipment or tag.path.rpartition("/")[0]


def is_chartable(tag: Tag) -> bool:
    """Whether a control chart says something about the tag: a measured number, neither text, enumeration nor count."""
    kind = tag.type or ""
    discrete = kind == "bool" or kind.startswith(("string", "bytes"))
    counts = tag.counter is not None or tag.role in _NO_CHART
    return tag.detect == "all" and tag.enum is None and not counts and not discrete


#: UCUM units in which a total is kept: of energy, charge, volume, mass, time and number. What is told in any other unit
#: is a state, a rate or a place, of which the sum means nothing. Lengths are left out: levels, wear and positions rise
#: in steps as well. (A closed list: an unknown unit is no reason to keep a drift from being told.)
_ADDS_UP: Final = frozenset(
    {
        *("W.h", "kW.h", "MW.h", "GW.h", "W.s", "kW.s", "J", "kJ", "MJ", "GJ", "TJ", "cal", "kcal", "Mcal", "Gcal"),
        *("[Btu]", "[Btu_IT]", "[Btu_th]", "V.A.h", "kV.A.h", "MV.A.h", "A.h", "kA.h", "mA.h", "A.s", "C"),
        *("m3", "dm3", "cm3", "L", "l", "hL", "hl", "kL", "kl", "cL", "cl", "mL", "ml"),
        *("[ft_i]3", "[in_i]3", "[yd_i]3", "[gal_us]", "[gal_br]", "[bbl_us]"),
        *("g", "kg", "t", "kt", "mg", "[lb_av]", "[oz_av]", "[ston_av]", "[lton_av]"),
        *("s", "ms", "min", "h", "d", "wk", "mo", "a"),
        *("1", "10*3", "10*6", "mol", "kmol"),
    }
)
_ANNOTATION: Final = re.compile(r"\{[^{}]*\}")


def may_total(tag: Tag) -> bool:
    """Whether the tag may be a totaliser for all its map says: its unit adds up, and no range ends it."""
    return tag.range is None and (_ANNOTATION.sub("", tag.unit) or "1") in _ADDS_UP


#: At an end of a range is within this part of its span.
AT_END: Final = 1e-6
#: Ages are counted in ticks of a second: a tag scanned faster is not missing before three of them have passed.
MIN_STALE_NS: Final = 3_000_000_000


class MapView:
    """One map revision: slot and form of each tag number."""

    def __init__(self, tag_map: TagMap) -> None:
        if any(tag.number != i for i, tag in enumerate(tag_map.tags)):
            raise ValueError("tag numbers are not the positions in the map")
        self.tag_map = tag_map
        self.ids = [tag.id for tag in tag_map.tags]
        self.form = np.array([form(tag) for tag in tag_map.tags], np.int64)
        self.slot: Index = np.zeros(len(self.ids), np.intp)


class Parameters:
    """
    Parameters of the map in force by slot, each of length m = number of slots.

    Tags that the map does not have, or whose ``detect`` is none, have ``number`` -1 and no limits.
    ``equipment`` and ``source`` are numbers into ``equipments`` and ``sources``.
    """

    @classmethod
    def empty(cls) -> Parameters:
        """No map yet."""
        return cls(MapView(TagMap(site="", tags=())), Slots())

    def __init__(self, view: MapView, slots: Slots) -> None:
        size = len(slots)
        tags = [tag for tag in view.tag_map.tags if tag.detect != "none"]
        at = np.array([view.slot[tag.number] for tag in tags], np.intp)
        self.tags = view.tag_map.tags
        self.equipments = list(dict.fromkeys(equipment_of(tag) for tag in self.tags))
        self.sources = list(dict.fromkeys(tag.source for tag in self.tags))
        equipment = {path: i for i, path in enumerate(self.equipments)}
        source = {name: i for i, name in enumerate(self.sources)}

        self.form: NDArray[np.int64] = np.zeros(size, np.int64)
        self.known: NDArray[np.bool_] = np.zeros(size, np.bool_)
        self.form[view.slot] = view.form
        self.known[view.slot] = True
        self.number: NDArray[np.int32] = np.full(size, -1, np.int32)
        self.number[at] = [tag.number for tag in tags]
        self.fed: NDArray[np.bool_] = self.number >= 0
        self.equipment: Index = np.zeros(size, np.intp)
        self.equipment[view.slot] = [equipment[equipment_of(tag)] for tag in self.tags]
        self.source: Index = np.zeros(size, np.intp)
        self.source[view.slot] = [source[tag.source] for tag in self.tags]

        self.scan_ns = np.full(size, 1_000_000_000, np.int64)
        self.scan_ns[at] = [tag.scan_ms * 1_000_000 for tag in tags]
        self.low = np.full(size, -np.inf)
        self.low[at] = [tag.range[0] if tag.range else -np.inf for tag in tags]
        self.high = np.full(size, np.inf)
        self.high[at] = [tag.range[1] if tag.range else np.inf for tag in tags]
        self.may_total: NDArray[np.bool_] = np.zeros(size, np.bool_)
        self.may_total[at] = [may_total(tag) for tag in tags]
        self.has_range: NDArray[np.bool_] = np.isfinite(self.low) | np.isfinite(self.high)
        self.rate = np.full(size, np.nan)
        self.rate[at] = [tag.rate_limit or np.nan for tag in tags]
        self.has_rate: NDArray[np.bool_] = ~np.isnan(self.rate)
        self.flat_ns = np.zeros(size, np.int64)
        self.flat_ns[at] = [(tag.flatline_after_ms or 0) * 1_000_000 for tag in tags]
        self.stale_ns = np.full(size, -1, np.int64)
        self.stale_ns[at] = [
            -1 if tag.stale_after_ms is None else max(tag.stale_after_ms * 1_000_000, MIN_STALE_NS) for tag in tags
        ]
        self.chart: NDArray[np.bool_] = np.zeros(size, np.bool_)
        self.chart[at] = [is_chartable(tag) for tag in tags]
        # how many tags of the same equipment have a chart: they share its false-alarm budget
        charted = np.bincount(self.equipment[self.chart], minlength=len(self.equipments))
        self.charted: Index = charted[self.equipment] if len(charted) else np.zeros(size, np.intp)
        # the ends of a range at which a signal is cut off; those of an output, and 0 and 100 %, are ordinary values
        self.has_ends: NDArray[np.bool_] = self.chart & np.isfinite(self.high - self.low)
        cut_off = [tag.role != "out" and (tag.unit, tag.range) != ("%", _PER_CENT) for tag in tags]
        self.has_ends[at] &= np.array(cut_off, np.bool_)
        self.out_low, self.out_high = self.low.copy(), self.high.copy()
        in_per_cent = [place for place, tag in zip(at.tolist(), tags, strict=True) if not tag.range and tag.unit == "%"]
        self.out_low[in_per_cent], self.out_high[in_per_cent] = _PER_CENT
        self.loop_pv, self.loop_sp, self.loop_out = _loops(tags, at)
        #: Ids of process value and output of a loop, each by the id of the other: the controller moves them together.
        self.mates: dict[str, str] = {}
        for pv, out in zip(self.number[self.loop_pv].tolist(), self.loop_out.tolist(), strict=True):
            if out >= 0:
                one, other = self.tags[pv].id, self.tags[int(self.number[out])].id
                self.mates |= {one: other, other: one}


def _loops(tags: list[Tag], at: Index) -> tuple[Index, Index, Index]:
    """Slots of process value, set point and output (-1: none) of each loop that has exactly one of the first two."""
    found: dict[tuple[str, str], dict[str, list[int]]] = {}
    for tag, place in zip(tags, at.tolist(), strict=True):
        if tag.role in ("pv", "sp", "out"):
            found.setdefault((equipment_of(tag), tag.loop), {}).setdefault(tag.role, []).append(place)
    whole = [roles for roles in found.values() if len(roles.get("pv", ())) == len(roles.get("sp", ())) == 1]
    outs = [roles.get("out", []) for roles in whole]
    return (
        np.array([roles["pv"][0] for roles in whole], np.intp),
        np.array([roles["sp"][0] for roles in whole], np.intp),
        np.array([out[0] if len(out) == 1 else -1 for out in outs], np.intp),
    )
