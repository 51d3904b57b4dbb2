"""
Many messages at once: JSON parsed joined, columns made by numpy, no object a value.

Only what is plain is taken: numbers at the first level of an object, or numbers that are the whole payload, with times
and qualities of one kind. What is not goes to the general path message by message, which says the same of the
same bytes (a property test holds the two together).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from adapters import timestamps, values
from adapters.mqtt.codec import Codec, Target
from adapters.mqtt.message import DUP, RETAIN, Block
from adapters.mqtt.paths import is_member
from adapters.mqtt.rows import Part
from schemas.status import Flag

#: Fewer values than this cost less one by one.
_LEAST: Final = 8
#: A payload that cannot be parsed costs its neighbours at most so many attempts.
_SMALLEST: Final = 16
#: 2**53 itself may be another integer, rounded.
_SAFE: Final = float(values.SAFE_INTEGER - 1)
_TYPES: Final[dict[str | None, tuple[float, float, bool]]] = {
    None: (-_SAFE, _SAFE, False),
    "float32": (-_SAFE, _SAFE, False),
    "float64": (-_SAFE, _SAFE, False),
    **{f"int{n}": (-(2.0 ** (n - 1)), 2.0 ** (n - 1) - 1, True) for n in (8, 16, 32)},
    **{f"uint{n}": (0.0, 2.0**n - 1, True) for n in (8, 16, 32)},
    "int64": (-_SAFE, _SAFE, True),
    "uint64": (0.0, _SAFE, True),
}
_NUMBERS: Final[frozenset[type]] = frozenset({float, int})
_FIRST: Final = attrgetter("first")
_UNITS: Final = {"epoch_s": 10**9, "epoch_ms": 10**6, "epoch_us": 10**3, "epoch_ns": 1}


class Limits:
    """Per tag number: what its type holds in a float64 exactly, and whether it holds whole numbers only."""

    def __init__(self, types: Mapping[int, str | None]) -> None:
        size = max(types, default=-1) + 1
        self.low = np.zeros(size)
        self.high = np.zeros(size)
        self.whole = np.zeros(size, np.bool_)
        self.known = {number for number, type_ in types.items() if type_ in _TYPES}
        for number in self.known:
            self.low[number], self.high[number], self.whole[number] = _TYPES[types[number]]


class Plan(NamedTuple):
    """How one topic is read: its group, its tags in the order of the group's members, and the first of them."""

    group: Group
    tags: NDArray[np.int32]
    first: int


class Group:
    """
    Topics whose payloads have the same members: parsed together.

    ``take`` returns the rows of those messages that are plain, and the places of those that are not.
    """

    def __init__(self, codec: Codec, members: tuple[str, ...], limits: Limits) -> None:
        self._codec = codec
        self._limits = limits
        self._width = max(len(members), 1)
        self._fields = tuple(f"v{i}" for i in range(len(members)))
        names = dict(zip(self._fields, members, strict=True))
        if codec.time_path is not None:
            names["t"] = codec.time_path
        if codec.quality_path is not None:
            names["q"] = codec.quality_path
        self._values = attrgetter(*self._fields) if len(members) > 1 else None
        kind: Any = Any
        if members:
            fields = [(field, Any, msgspec.UNSET) for field in names]
            kind = msgspec.defstruct("_Payload", fields, rename=names, gc=False)
        self._names = names
        self._one = msgspec.json.Decoder(kind)
        item: Any = kind | int if members else Any  # the marks are integers
        many: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[item])
        self._many = many
        self._parse_time = codec.parse_time
        self._unit = _UNITS.get(codec.time_format)
        self._quality_format = codec.quality_format
        self._known: dict[object, int] = {}
        flags = Flag(0) if codec.time_path is not None else Flag.ARRIVAL_TIME
        self._flags = np.uint32(flags if codec.quality_path is not None else flags | Flag.ASSUMED_GOOD)

    def document(self, payload: bytes) -> Any:
        """
        One payload as the general path takes it: by the same rules as many at once, or the outcome would hang on how
        many came together. Members that nobody reads are not judged. Raises ValueError or RecursionError.
        """
        if not self._fields:
            return self._codec.document(payload)
        if values.too_deep(payload, self._codec.depth):
            raise ValueError(f"JSON nests deeper than {self._codec.depth}")
        found = self._one.decode(payload)
        members = ((name, getattr(found, field)) for field, name in self._names.items())
        return {name: value for name, value in members if value is not msgspec.UNSET}

    def take(self, block: Block, places: list[int], plans: Sequence[Plan]) -> tuple[Part | None, list[int]]:
        """Read the messages at these places of a block; *plans* are theirs."""
        if len(places) * self._width < _LEAST:
            return None, places
        singly: list[int] = []
        fit = self._fit(block, places)
        if len(fit) < len(places):
            kept = set(fit)
            singly = [i for i, place in enumerate(places) if place not in kept]
            plans = [plan for i, plan in enumerate(plans) if places[i] in kept]
            singly = [places[i] for i in singly]
        documents, good = self._parse([block.payloads[place] for place in fit])
        if len(good) < len(fit):
            chosen = set(good)
            singly += [place for i, place in enumerate(fit) if i not in chosen]
            fit = [fit[i] for i in good]
            plans = [plans[i] for i in good]
        if not fit:
            return None, singly
        return self._rows(block, fit, plans, documents, singly)

    def _fit(self, block: Block, places: list[int]) -> list[int]:
        """Messages that are neither retained, nor repeated where that matters, nor cut."""
        heads = np.frombuffer(bytes(block.heads), np.uint8)
        if len(places) < len(block):
            heads = heads[places]
        odd = heads & np.uint8(RETAIN | (DUP if self._codec.time_path is None else 0))
        if block.sizes:
            odd |= np.array([place in block.sizes for place in places], np.uint8)
        return [place for place, bad in zip(places, odd.tolist(), strict=True) if not bad] if odd.any() else places

    def _parse(self, payloads: list[bytes]) -> tuple[list[Any], list[int]]:
        """Documents, and the places of the payloads they come from; what cannot be parsed is left out."""
        found = self._joined(payloads)
        if found is not None:
            return found, list(range(len(payloads)))
        if len(payloads) <= _SMALLEST:
            return [], []
        half = len(payloads) // 2
        first, first_places = self._parse(payloads[:half])
        second, second_places = self._parse(payloads[half:])
        return first + second, first_places + [half + place for place in second_places]

    def _joined(self, payloads: list[bytes]) -> list[Any] | None:
        """
        Parse all payloads as one array, or None where one of them is not exactly one value.

        A number nobody can know stands between any two of them and must be found between any two values: else
        payloads that are no JSON alone, but are together, could take each other's place.
        """
        mark = secrets.randbits(62)
        text = b"[" + (b",%d," % mark).join(payloads) + b"]"
        if text.count(b"[") + text.count(b"{") > len(payloads) + 1 and any(
            values.too_deep(payload, self._codec.depth) for payload in payloads
        ):
            return None
        try:
            found: list[Any] = self._many.decode(text)
        except (ValueError, RecursionError):
            return None
        count = len(payloads)
        if len(found) != 2 * count - 1 or found[1::2].count(mark) != count - 1:
            return None
        documents = found[::2]
        # An integer is allowed for the marks; as a payload it is no object.
        return documents if not self._fields or int not in set(map(type, documents)) else None

    def _rows(
        self, block: Block, places: list[int], plans: Sequence[Plan], documents: list[Any], singly: list[int]
    ) -> tuple[Part | None, list[int]]:
        count, width = len(places), self._width
        usable = np.ones(count, np.bool_)
        if self._values is not None:
            flat = list(chain.from_iterable(map(self._values, documents)))
        else:
            flat = [document.v0 for document in documents] if self._fields else documents
        value = _numbers(flat, usable, width)
        if width == 1:
            tag = np.fromiter(map(_FIRST, plans), np.int32, count)
        else:
            tag = np.concatenate([plan.tags for plan in plans])
        whole = self._limits.whole[tag]
        fits = (value >= self._limits.low[tag]) & (value <= self._limits.high[tag])
        beyond = ~whole & ~fits  # a float may be of any size, an integer beyond 2**53 is exact
        if beyond.any():
            fits |= beyond & np.array([type(v) is float for v in flat], np.bool_)
        fits &= ~whole | (np.floor(value) == value)
        usable &= fits.reshape(count, width).all(axis=1)
        source_ns = self._times(block, places, documents, usable)
        status = self._status(documents, usable)
        order = np.asarray(places, np.int64)
        if not usable.all():
            singly = singly + order[~usable].tolist()
            rows = np.repeat(usable, width)
            order, source_ns, status = order[usable], source_ns[usable], status[usable]
            tag, value = tag[rows], value[rows]
        if width > 1:
            order, source_ns, status = np.repeat(order, width), np.repeat(source_ns, width), np.repeat(status, width)
        value = np.where(status >> np.uint32(31) != 0, np.nan, value) if self._codec.quality_path else value
        return Part(order, tag, source_ns, value, status, np.full(len(tag), self._flags)), singly

    def _times(
        self, block: Block, places: list[int], documents: list[Any], usable: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        if self._codec.time_path is None:
            arrivals = np.array(block.arrivals, np.int64)
            return arrivals[places] if len(places) < len(block) else arrivals
        raw = [document.t for document in documents]
        if self._unit is not None and set(map(type, raw)) == {int}:
            least, most = min(raw), max(raw)
            if least >= 0 and timestamps.fits(most * self._unit):
                return np.array(raw, np.int64) * self._unit
        found = np.zeros(len(raw), np.int64)
        parse = self._parse_time
        for i, text in enumerate(raw):
            try:
                found[i] = parse(text, block.arrivals[places[i]])
            except ValueError:
                usable[i] = False
        return found

    def _status(self, documents: list[Any], usable: NDArray[np.bool_]) -> NDArray[np.uint32]:
        if self._codec.quality_path is None:
            return np.zeros(len(documents), np.uint32)
        marks = [document.q for document in documents]
        kind = str if self._quality_format == "text" else int
        if set(map(type, marks)) != {kind}:
            usable &= np.array([type(mark) is kind for mark in marks], np.bool_)
            marks = [mark if type(mark) is kind else None for mark in marks]
        known = self._known
        for mark in set(marks) - known.keys():
            code = None if mark is None else values.quality(mark, self._quality_format)
            if len(known) < 1000:  # marks nobody knows are not remembered without end
                known[mark] = -1 if code is None else code
        codes = np.array([known.get(mark, -1) for mark in marks], np.int64)
        usable &= codes >= 0
        return codes.astype(np.uint32)


def plan(groups: dict[tuple[int, tuple[str, ...]], Group], targets: Sequence[Target], limits: Limits) -> Plan | None:
    """
    The plan of a topic with these tags, or None where only the general path can read it.

    *groups* are those known so far, by codec and members; a new one is added.
    """
    codec = targets[0].codec
    paths = [target.path for target in targets]
    if not codec.bulk or not limits.known.issuperset(target.tag for target in targets):
        return None
    whole = paths == [None]
    if whole and (codec.time_path is not None or codec.quality_path is not None):
        return None
    members = () if whole else tuple(path for path in paths if path is not None)
    taken = {*members, codec.time_path, codec.quality_path}
    if not whole and (len(members) != len(paths) or not all(map(is_member, members))):
        return None
    if len(taken | {None}) != len(members) + sum(p is not None for p in (codec.time_path, codec.quality_path)) + 1:
        return None  # one member for two purposes
    key = (id(codec), members)
    if key not in groups:
        groups[key] = Group(codec, members, limits)
    return Plan(groups[key], np.array([target.tag for target in targets], np.int32), targets[0].tag)


def _numbers(flat: list[Any], usable: NDArray[np.bool_], width: int) -> NDArray[np.float64]:
    """Values as float64; messages with one that is no number are not usable."""
    kinds = set(map(type, flat))
    if not kinds <= _NUMBERS:
        regular = np.array([type(value) in _NUMBERS for value in flat], np.bool_)
        usable &= regular.reshape(len(usable), width).all(axis=1)
        flat = [value if type(value) in _NUMBERS else 0.0 for value in flat]
    try:
        return np.array(flat, np.float64)
    except OverflowError:  # an integer of hundreds of digits, which no type holds; floats are as they are
        small = [float(2**64) if type(value) is int and abs(value) > 2**64 else float(value) for value in flat]
        return np.array(small, np.float64)
