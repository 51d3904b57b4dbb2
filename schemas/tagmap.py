"""
The resolved tag map: what to read, and what it means.

Files, templates and units are resolved when the map is loaded (``broker/tagmap``); what stands here is flat and
complete. A map revision is addressed by its content, and tag numbers hold within a revision only.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from schemas.calendar import Window
from schemas.evidence import Action, CauseOption
from schemas.suppression import Rule

#: Role of a tag on its equipment.
Role = Literal["state", "good_count", "reject_count", "pv", "sp", "out", "order", "lot"]
ScaleMode = Literal["none", "linear", "sqrt"]
Clamp = Literal["none", "low", "high", "both"]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Counter(_Frozen):
    """A tag that counts up and begins again at 0 when it has counted ``modulus``; a device may reset it."""

    modulus: int = Field(description="In raw counts: 2 to 2**64.")
    max_rate: float = Field(description="Largest believable increase in `unit` per second, above 0.")


#: Types that a counter may have, and how many values each shows.
COUNTER_TYPES: Final = {
    **{f"uint{bits}": 2**bits for bits in (8, 16, 32, 64)},
    "bcd16": 10**4,
    "bcd32": 10**8,
}


def uncountable(counter: Counter, type_name: str) -> str | None:
    """Why a value of this type is no such counter, or None."""
    values = COUNTER_TYPES.get(type_name)
    if values is None:
        return f"{type_name} is no type of a counter, which only goes up: {', '.join(COUNTER_TYPES)}"
    if counter.modulus > values:
        return f"a modulus of {counter.modulus} does not fit into {type_name}, which begins again after {values}"
    return None


class Tag(_Frozen):
    """
    One tag of a map revision.

    ``number`` is its position in the map; ``id`` the identity for history, ``path`` the identity for people
    (``enterprise/site/area/line/unit/…/name``, may be renamed). Scaling is ``value * factor + offset`` after the
    optional square root, then the unit conversion, both already folded into ``factor`` and ``offset``.
    """

    number: int
    id: str
    path: str
    source: str
    address: str = Field(description="As the adapter of the source's kind reads it.")
    type: str | None = Field(
        None, description="bool, int8..uint64, bcd16/32, float16..64, string[n], bytes[n]; None: the server's."
    )
    scan_ms: int = 1000
    scale_mode: ScaleMode = "none"
    raw_low: float = 0.0
    raw_high: float = 0.0
    factor: float = Field(1.0, description="Scale and unit conversion in one.")
    offset: float = 0.0
    clamp: Clamp = "none"
    clamp_low: float | None = Field(None, description="In `unit`.")
    clamp_high: float | None = None
    unit: str = Field("1", description="UCUM; 1 means none.")
    source_unit: str = "1"
    range: tuple[float, float] | None = Field(None, description="In `unit`; outside is uncertain, not bad.")
    deadband: float = Field(0.0, description="Absolute, in `unit`; a percentage is resolved at load.")
    stale_after_ms: int | None = Field(None, description="None: a tag reported by exception never goes stale.")
    heartbeat_ms: int | None = Field(
        None, description="A value that stays inside the deadband is stored again after it; None: only when it leaves."
    )
    rate_limit: float | None = Field(None, description="Largest believable change in `unit` per second.")
    flatline_after_ms: int | None = Field(None, description="A live signal that does not move for so long is stuck.")
    counter: Counter | None = None
    role: Role | None = None
    loop: str = Field("", description="Control loop within the equipment; its sp, pv and out belong together.")
    enum: dict[int, str] | None = None
    byte_order: str | None = Field(None, description="ABCD, CDAB, BADC, DCBA and the 64-bit forms; Modbus only.")
    encoding: str = "ascii"
    sentinels: tuple[float, ...] = ()
    equipment: str = Field("", description="Path of the equipment the tag belongs to.")
    detect: Literal["all", "health", "none"] = "all"
    description: str = ""

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[-1]


class Equipment(_Frozen):
    """One piece of equipment; ``equipment_class`` (ISO 14224 word) chooses the fault catalogue."""

    path: str
    level: str = "Unit"
    equipment_class: str | None = None
    state: str | None = Field(None, description="Path of the tag that carries the state.")
    running: tuple[int, ...] = Field((), description="State numbers in which detectors look.")
    hold_off_s: float | None = None
    sap_object: str | None = None
    sap_kind: Literal["EAMS_EQUI", "EAMS_FL"] = "EAMS_EQUI"
    sap_plant: str | None = None
    suppress: tuple[Rule, ...] = Field((), description="What is suppressed by design on it.")


class FaultCatalogue(_Frozen):
    """Causes and actions of an equipment class at this site, complete: what is shipped and what the site says."""

    equipment_class: str
    causes: tuple[CauseOption, ...]
    actions: tuple[Action, ...]


class TagMap(_Frozen):
    """
    A complete, resolved map: tags in the order of their numbers, and equipment.

    ``revision`` is the first 16 bytes of the SHA-256 of the canonical JSON, so equal maps have equal revisions.
    """

    site: str = Field(description="`enterprise/site`.")
    tags: tuple[Tag, ...]
    equipment: tuple[Equipment, ...] = ()
    calendar: tuple[Window, ...] = ()
    catalogues: tuple[FaultCatalogue, ...] = Field((), description="Of the classes about which the site says more.")

    @cached_property
    def body(self) -> bytes:
        """Canonical JSON: sorted keys, no white space; what the journal carries."""
        return msgspec.json.encode(self.model_dump(mode="json", exclude_defaults=True), order="sorted")

    @cached_property
    def revision(self) -> bytes:
        """16 bytes that name this content."""
        return hashlib.sha256(self.body).digest()[:16]

    @classmethod
    def from_body(cls, body: bytes) -> TagMap:
        """Inverse of :attr:`body`. Raises pydantic.ValidationError on anything else."""
        made = cls.model_validate_json(body)
        # each tag's own set of the fields that were given is 0.7 of its 1.8 KB, and few sets differ
        shared: dict[frozenset[str], set[str]] = {}
        for tag in made.tags:
            given = shared.setdefault(frozenset(tag.model_fields_set), tag.model_fields_set)
            object.__setattr__(tag, "__pydantic_fields_set__", given)
        return made

    def of_source(self, source: str) -> tuple[Tag, ...]:
        """The tags one adapter reads, in map order."""
        return tuple(tag for tag in self.tags if tag.source == source)

    def catalogue_of(self, equipment_class: str | None) -> FaultCatalogue | None:
        """The site's own catalogue of a class; None where the shipped one holds."""
        return next((one for one in self.catalogues if one.equipment_class == equipment_class), None)

    @cached_property
    def by_path(self) -> dict[str, Tag]:
        """Tags by path."""
        return {tag.path: tag for tag in self.tags}

    @cached_property
    def equipment_by_path(self) -> dict[str, Equipment]:
        """Equipment by path; equipment that only tags name is not in it."""
        return {item.path: item for item in self.equipment}
