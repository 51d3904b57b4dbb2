"""From a tag as it stands in a file to the flat :class:`schemas.tagmap.Tag`: scale, unit, limits, enum, times."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from adapters.base import REGISTRY, SourceOptions
from broker.config.validate import nearest
from broker.config.yaml_lines import Node
from broker.tagmap import datatypes, units
from broker.tagmap.entry import ScaleEntry, TagEntry
from schemas.errors import Problem
from schemas.tagmap import Counter, ScaleMode, Tag, uncountable

#: Kinds that ask for every value; the others report changes, so that silence is no fault.
_POLLED: Final = frozenset({"modbus"})
#: Codes that do not follow from another option's being left out.
_ALONE: Final = frozenset(
    {"unknown_source", "missing_key", "bad_path", "bad_type", "unknown_unit", "range_order", "unknown_enum"}
)


@dataclass(slots=True)
class Surroundings:
    """What a tag refers to: the site, the sources, the enums of all files, and where problems go."""

    site: str
    sources: Mapping[str, SourceOptions]
    kinds: Mapping[str, str]
    broken: frozenset[str]
    enums: Mapping[str, dict[int, str]]
    problems: list[Problem] = field(default_factory=list)


def default_id(path: str) -> str:
    """Identity of a tag whose file gives none: stable as long as the path is."""
    return "t-" + hashlib.sha256(path.encode()).hexdigest()[:12]


def resolve(entry: TagEntry, node: Node, around: Surroundings, wrong: frozenset[str] = frozenset()) -> Tag | None:
    """
    The tag, numbered 0 and without equipment; None where a problem was added to *around*.

    Every problem of the tag is added. *wrong* names options that were left out of *entry* because they were wrong:
    such a tag, and one of a broken source, is checked as far as it can be, and None.
    """
    step = _Step(entry, node, around, wrong)
    options = step.source()
    step.path()
    step.type()
    unit, source_unit, convert = step.units()
    scaled = step.scale(convert)
    scan_s = entry.scan or (options.scan if options else 1.0)
    values: dict[str, Any] = {
        **scaled,
        "number": 0,
        "id": entry.id or default_id(entry.path),
        "path": entry.path,
        "source": entry.source or "",
        "address": step.address(),
        "type": entry.type,
        "scan_ms": max(1, round(scan_s * 1000)),
        "unit": unit,
        "source_unit": source_unit,
        "range": step.range(),
        "deadband": step.deadband(scaled),
        "stale_after_ms": step.stale_after_ms(scan_s),
        "heartbeat_ms": None
        if options is None or options.heartbeat is None
        else max(1, round(options.heartbeat * 1000)),
        "rate_limit": entry.rate_limit,
        "flatline_after_ms": None if entry.flatline_after is None else round(entry.flatline_after * 1000),
        "counter": step.counter(scaled),
        "role": entry.role,
        "loop": entry.loop,
        "enum": step.enum(),
        "byte_order": entry.byte_order,
        "encoding": entry.encoding,
        "sentinels": entry.sentinels,
        "detect": entry.detect,
        "description": entry.description,
    }
    if step.failed or wrong or options is None:
        return None
    tag = Tag(**values)
    step.ask_adapter(tag, options)
    return None if step.failed else tag


class _Step:
    """One tag under resolution; each method reads one group of options and notes its problems."""

    def __init__(self, entry: TagEntry, node: Node, around: Surroundings, wrong: frozenset[str]) -> None:
        self.entry, self.node, self.around, self.wrong = entry, node, around, wrong
        self.failed = False

    def say(self, option: str, code: str, message: str, hint: str = "", *, warning: bool = False) -> None:
        if self.wrong and (option in self.wrong or code not in _ALONE):
            return
        where = self.node.at(tuple(option.split(".")))
        self.around.problems.append(where.problem(f"{self.entry.path}: {option}", code, message, hint, warning=warning))
        self.failed = self.failed or not warning

    def source(self) -> SourceOptions | None:
        name, around = self.entry.source, self.around
        if not name:
            self.say("source", "missing_key", "the option 'source' is required", "in the tag or in defaults")
        elif name not in around.sources and name not in around.broken:
            hint = nearest(name, around.sources) or f"sources: {', '.join(around.sources)}"
            self.say("source", "unknown_source", f"there is no source {name!r}", hint)
        return around.sources.get(name or "")

    def path(self) -> None:
        path, site = self.entry.path, self.around.site
        parts = path.split("/")
        if any(not part or part != part.strip() or not part.isprintable() for part in parts):
            self.say("path", "bad_path", "a path is words between single /, without spaces at their ends")
        elif not path.startswith(site + "/"):
            self.say("path", "bad_path", f"the path does not begin with the site's, {site}/")

    def address(self) -> str:
        if not self.entry.address:
            self.say("address", "missing_key", "the option 'address' is required")
        if self.entry.access in {"RW", "R/W"}:
            self.say("access", "read_only", "the tag may be written, but nothing here ever writes", warning=True)
        return self.entry.address or ""

    def type(self) -> None:
        name = self.entry.type
        if name is not None and not datatypes.known(name):
            hint = (
                nearest(name, datatypes.NAMES)
                or "bool, int8..uint64, bcd16, bcd32, float16..float64, string[n], bytes[n]"
            )
            self.say("type", "bad_type", f"there is no type {name!r}", hint)

    def units(self) -> tuple[str, str, tuple[float, float]]:
        entry = self.entry
        text_like = entry.enum is not None or entry.role == "state"
        if entry.unit is None and datatypes.is_number(entry.type) and not text_like:
            self.say("unit", "missing_unit", "a number needs a unit", 'write unit: "1" where there is none')
        unit = self._unit("unit", entry.unit if entry.unit is not None else units.NONE)
        source_unit = unit if entry.source_unit is None else self._unit("source_unit", entry.source_unit)
        if not unit or not source_unit:
            return units.NONE, units.NONE, (1.0, 0.0)
        try:
            return unit, source_unit, units.conversion(source_unit, unit)
        except units.WrongDimension as error:
            self.say("source_unit", "wrong_dimension", str(error))
            return unit, source_unit, (1.0, 0.0)

    def _unit(self, option: str, text: str) -> str:
        try:
            return units.canonical(text)
        except units.UnknownUnit as error:
            self.say(option, "unknown_unit", str(error))
            return ""

    def scale(self, convert: tuple[float, float]) -> dict[str, Any]:
        by, plus = convert
        scale = self.entry.scale or ScaleEntry()
        mode: ScaleMode = scale.mode or ("linear" if self.entry.scale is not None else "none")
        if mode == "none":
            if scale.clamp != "none":
                return {"scale_mode": mode, "factor": by, "offset": plus, **self._clamp(scale, None)}
            return {"scale_mode": mode, "factor": by, "offset": plus}
        if scale.raw is None and scale.eu is None:
            factor, offset = 1.0 if scale.factor is None else scale.factor, scale.offset or 0.0
            if factor == 0:
                self.say("scale.factor", "scale_empty", "the factor is 0, so every value would be the same")
            if mode == "sqrt":
                self.say("scale.mode", "scale_empty", "sqrt needs raw and eu")
            return {"scale_mode": mode, "factor": factor * by, "offset": offset * by + plus, **self._clamp(scale, None)}
        if scale.raw is None or scale.eu is None or scale.factor is not None or scale.offset is not None:
            self.say("scale", "scale_empty", "give raw and eu, or factor and offset")
            return {}
        (raw_low, raw_high), (eu_low, eu_high) = scale.raw, scale.eu
        if raw_low == raw_high:
            self.say("scale.raw", "scale_empty", f"raw begins and ends at {raw_low:g}")
        if eu_low == eu_high:
            self.say("scale.eu", "scale_empty", f"eu begins and ends at {eu_low:g}")
        if raw_low == raw_high or eu_low == eu_high:
            return {}
        span = eu_high - eu_low
        # square root: factor and offset are applied to the root of (raw - raw_low) / (raw_high - raw_low)
        factor = span if mode == "sqrt" else span / (raw_high - raw_low)
        offset = eu_low if mode == "sqrt" else eu_low - raw_low * factor
        ends = sorted((eu_low * by + plus, eu_high * by + plus))
        return {
            "scale_mode": mode,
            "raw_low": raw_low,
            "raw_high": raw_high,
            "factor": factor * by,
            "offset": offset * by + plus,
            **self._clamp(scale, (ends[0], ends[1])),
        }

    def _clamp(self, scale: ScaleEntry, ends: tuple[float, float] | None) -> dict[str, Any]:
        if scale.clamp == "none":
            return {"clamp": "none"}
        ends = ends or self.entry.range
        if ends is None:
            self.say("scale.clamp", "scale_empty", "clamp needs the ends: give raw and eu, or range")
            return {}
        low = ends[0] if scale.clamp in {"low", "both"} else None
        high = ends[1] if scale.clamp in {"high", "both"} else None
        return {"clamp": scale.clamp, "clamp_low": low, "clamp_high": high}

    def range(self) -> tuple[float, float] | None:
        limits = self.entry.range
        if limits is not None and not limits[0] < limits[1]:
            self.say("range", "range_order", f"{limits[0]:g} is not below {limits[1]:g}")
        return limits

    def deadband(self, scaled: Mapping[str, Any]) -> float:
        kind, amount = self.entry.deadband
        limits = self.entry.range
        span = limits[1] - limits[0] if limits else None
        if span is None and "raw_low" in scaled:
            width = scaled["raw_high"] - scaled["raw_low"] if scaled["scale_mode"] == "linear" else 1.0
            span = abs(scaled["factor"] * width)
        if kind == "share" and span is None:
            self.say("deadband", "bad_quantity", "a share needs a range", "give range, or the deadband as a number")
            return 0.0
        value = float(amount * span if kind == "share" and span is not None else amount)
        if span is not None and span > 0 and value > span:
            self.say("deadband", "deadband_over_range", f"{value:g} is more than the whole range of {span:g}")
        return value

    def stale_after_ms(self, scan_s: float) -> int | None:
        given = self.entry.stale_after
        if given is None:
            polled = self.around.kinds.get(self.entry.source or "") in _POLLED
            return round(3 * scan_s * 1000) if polled else None
        kind, amount = given
        if kind == "never":
            return None
        seconds: float = amount * scan_s if kind == "scans" else amount
        return max(1, round(seconds * 1000))

    def counter(self, scaled: Mapping[str, Any]) -> Counter | None:
        """The counter that the tag is; its increase would be wrong or lost where one of its other options stands."""
        entry = self.entry
        if entry.counter is None:
            return None
        counter = Counter(modulus=entry.counter.modulus, max_rate=entry.counter.max_rate)
        why = None if entry.type is None else uncountable(counter, entry.type)
        if why is not None:
            self.say("counter.modulus" if "modulus" in why else "type", "bad_counter", why)
        if scaled.get("scale_mode") == "sqrt":
            self.say("scale.mode", "bad_counter", "the square root of a count is no count")
        elif scaled.get("factor", 1.0) < 0:
            self.say("scale", "bad_counter", "the factor of a counter must be above 0, or it would count down")
        if entry.deadband[1] > 0:
            hint = "write deadband: 0"
            self.say("deadband", "bad_counter", "the increase of what a deadband holds back would be lost", hint)
        if entry.rate_limit is not None:
            self.say("rate_limit", "bad_counter", "a counter has max_rate instead", "leave rate_limit out")
        return counter

    def enum(self) -> dict[int, str] | None:
        given = self.entry.enum
        if given is None:
            return None
        if isinstance(given, str):
            if given not in self.around.enums:
                self.say("enum", "unknown_enum", f"there is no enum {given!r}", nearest(given, self.around.enums))
                return None
            given = self.around.enums[given]
        numbers: dict[int, str] = dict(sorted(given.items()))
        low, high = datatypes.INTEGERS.get(self.entry.type or "", (None, None))
        outside = [key for key in numbers if low is not None and high is not None and not low <= key <= high]
        if outside:
            shown = ", ".join(str(key) for key in outside[:5])
            self.say("enum", "enum_outside_type", f"{shown} does not fit into {self.entry.type} ({low}..{high})")
        return numbers

    def ask_adapter(self, tag: Tag, options: SourceOptions) -> None:
        """Add what the source's kind says about the tag, under the code of the option that would cure it."""
        check = REGISTRY[self.around.kinds[tag.source]].check_tag
        message = check(options, tag)
        if message is None:
            return
        wide = tag.type is not None and tag.type.endswith("64")
        if (
            tag.byte_order is None
            and check(options, tag.model_copy(update={"byte_order": "ABCDEFGH"[: 8 if wide else 4]})) is None
        ):
            self.say("byte_order", "missing_byte_order", message)
        elif any(
            check(options, tag.model_copy(update={"type": other})) is None
            for other in ("uint16", "bool", "float64", "string[8]")
        ):
            self.say("type", "bad_type", message)
        else:
            self.say("address", "bad_address", message)
