"""One tag, template or piece of equipment as it stands in a tag-map file, before it is resolved."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from broker.config.yaml_lines import Misread
from schemas.anomaly import Kind
from schemas.calendar import WindowKind
from schemas.evidence import Sign
from schemas.quantities import Duration, parse_duration
from schemas.tagmap import Clamp, Role, ScaleMode

_TIMES: Final = re.compile(r"^([0-9]+(?:\.[0-9]+)?)x$")
_PERCENT: Final = re.compile(r"^([0-9]+(?:\.[0-9]+)?)\s*%$")

_POWER: Final = re.compile(r"^\s*([0-9]{1,2})\s*\^\s*([0-9]{1,2})\s*$")
_MOST_COUNTS: Final = 2**64

_TIME: Final = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"

Finite = Annotated[float, Field(allow_inf_nan=False)]
Pair = tuple[Finite, Finite]


def _deadband(value: object) -> tuple[str, float]:
    if isinstance(value, str) and (match := _PERCENT.match(value)):
        return "share", float(match[1]) / 100
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise PydanticCustomError("bad_quantity", "must be a number in the tag's unit, or a share such as 2%")
    return "number", number


def _stale_after(value: object) -> tuple[str, float]:
    if value == "never":
        return "never", 0.0
    if isinstance(value, str) and (match := _TIMES.match(value)) and float(match[1]) > 0:
        return "scans", float(match[1])
    try:
        return "seconds", parse_duration(value)
    except ValueError as error:
        text = "{reason}; or 3x for three scans, or never"
        raise PydanticCustomError("bad_quantity", text, {"reason": str(error)}) from None


def _enum(value: object) -> str | dict[int, str]:
    if isinstance(value, Misread):
        raise PydanticCustomError("bad_value", "must be the name of an enum or a map of numbers to texts")
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or not value:
        raise PydanticCustomError("bad_value", "must be the name of an enum or a map of numbers to texts")
    return dict(_enum_item(key, text) for key, text in value.items())


def _enum_item(key: object, text: object) -> tuple[int, str]:
    try:
        number = int(str(key), 10)
    except ValueError:
        raise PydanticCustomError(
            "bad_value", "the key {key} of an enum is not an integer", {"key": str(key)}
        ) from None
    if not isinstance(text, str):
        shown = str(text)
        raise PydanticCustomError(
            "unquoted_address", 'the text of {key} must be quoted: "{text}"', {"key": number, "text": shown}
        )
    return number, text


def _modulus(value: object) -> int:
    number = 0
    if isinstance(value, str) and (match := _POWER.match(value)):
        number = int(match[1]) ** int(match[2])
    elif isinstance(value, str) and value.strip().isdecimal() and len(value) <= 20:  # a cell of CSV
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    if not 2 <= number <= _MOST_COUNTS:
        raise PydanticCustomError("bad_value", "must be a whole number of 2 to 2^64, such as 65536, 2^16 or 10^4")
    return number


EnumMap = Annotated[
    Any,
    BeforeValidator(_enum),
    WithJsonSchema({"oneOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}]}),
]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScaleEntry(_Entry):
    """From the raw value to `source_unit`: either `raw` and `eu`, or `factor` and `offset`."""

    mode: Annotated[
        ScaleMode | None, Field(description="none, linear or sqrt; linear where anything else is given.")
    ] = None
    raw: Annotated[Pair | None, Field(description="Raw value at both ends, [low, high].")] = None
    eu: Annotated[Pair | None, Field(description="Engineering value at both ends, [low, high].")] = None
    factor: Annotated[
        Finite | None,
        Field(
            description="Instead of `raw` and `eu`: value * factor + offset. -1 and 1 turn an inverted contact around."
        ),
    ] = None
    offset: Annotated[Finite | None, Field(description="With `factor`.")] = None
    clamp: Annotated[Clamp, Field(description="Cut the value to the ends of `eu`: none, low, high or both.")] = "none"


class CounterEntry(_Entry):
    """A value that only counts up: each record then carries the increase since the one before, through roll-over."""

    modulus: Annotated[
        int,
        BeforeValidator(_modulus),
        WithJsonSchema({"type": ["integer", "string"]}),
        Field(description="Raw counts after which an unsigned or BCD value begins again at 0: 2^16, 10^4, 65536."),
    ]
    max_rate: Annotated[
        Finite,
        Field(gt=0, description="Largest believable increase in `unit` per second: tells roll-over and reset apart."),
    ]


class TagEntry(_Entry):
    """Options of a tag."""

    path: Annotated[str, Field(description="`enterprise/site/area/line/unit/…/name`; the identity for people.")]
    id: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$",
            description="Identity for history; default: made from `path`.",
        ),
    ] = None
    source: Annotated[str | None, Field(description="Name of the source.")] = None
    address: Annotated[
        str | None, Field(description="As the source's kind writes it, see Addresses below; always quoted.")
    ] = None
    type: Annotated[
        str | None,
        Field(
            description="bool, int8..int64, uint8..uint64, bcd16, bcd32, float16, float32, float64, string[n], "
            "bytes[n]; OPC UA: the server's. bool takes true, on, yes, 1 and their opposites from text and JSON."
        ),
    ] = None
    access: Annotated[
        Literal["RO", "R", "RW", "R/W"] | None, Field(description="Kept for round trips; nothing is ever written.")
    ] = None
    scan: Annotated[
        Duration | None, Field(gt=0, description="Poll period or sampling interval; default: the source's.")
    ] = None
    scale: Annotated[ScaleEntry | None, Field(description="From the raw value to `source_unit`.")] = None
    unit: Annotated[str | None, Field(description='UCUM or a plant spelling; required for numbers, "1" for none.')] = (
        None
    )
    source_unit: Annotated[str | None, Field(description="Unit of the value after `scale`; default: `unit`.")] = None
    range: Annotated[Pair | None, Field(description="[low, high] in `unit`; outside is uncertain, not bad.")] = None
    deadband: Annotated[
        Any,
        BeforeValidator(_deadband),
        WithJsonSchema({"type": ["number", "string"]}),
        Field(description="Number in `unit`, or a share of `range` such as 2%."),
    ] = ("number", 0.0)
    stale_after: Annotated[
        Any,
        BeforeValidator(_stale_after),
        WithJsonSchema({"type": "string"}),
        Field(
            description="Multiple of `scan` (3x), duration, or never; default: 3x where the source polls, else never."
        ),
    ] = None
    rate_limit: Annotated[Finite | None, Field(gt=0, description="Largest believable change in `unit` per second.")] = (
        None
    )
    flatline_after: Annotated[
        Duration | None, Field(gt=0, description="A live signal that stands still so long is stuck.")
    ] = None
    counter: Annotated[
        CounterEntry | None,
        Field(description="It is a counter or totaliser of an unsigned or BCD type; without deadband and rate_limit."),
    ] = None
    role: Annotated[Role | None, Field(description="Meaning on its equipment.")] = None
    loop: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_.-]{0,32}$",
            description="Name of the control loop on its equipment, for tags of role pv, sp and out; "
            "needed where the equipment has more than one loop.",
        ),
    ] = ""
    enum: Annotated[EnumMap | None, Field(description="Name of an enum of any map file, or numbers and texts.")] = None
    byte_order: Annotated[
        str | None, Field(description="ABCD, CDAB, BADC, DCBA, ABCDEFGH …; default: the source's.")
    ] = None
    encoding: Annotated[str, Field(description="Character set of a text.")] = "ascii"
    sentinels: Annotated[tuple[Finite, ...], Field(description='Raw values that mean "not available".')] = ()
    detect: Annotated[Literal["all", "health", "none"], Field(description="Which detectors look at the tag.")] = "all"
    description: Annotated[str, Field(max_length=200, description="Free text for people.")] = ""
    enabled: Annotated[bool, Field(description="false leaves the tag out of the map.")] = True


class SapEntry(_Entry):
    """The equipment in SAP PM."""

    object: Annotated[str, Field(description="Number of equipment or functional location; quoted.")]
    kind: Annotated[Literal["EAMS_EQUI", "EAMS_FL"], Field(description="Equipment or functional location.")] = (
        "EAMS_EQUI"
    )
    plant: Annotated[str | None, Field(description="SAP plant; quoted.")] = None


class RuleEntry(_Entry):
    """Findings that mean nothing while a tag says something: suppression by design."""

    when: Annotated[str, Field(description="Path of the tag that decides; of any equipment.")]
    in_: Annotated[
        tuple[int | float | str, ...],
        Field(alias="in", description="While it is one of these numbers, or texts of its enum."),
    ] = ()
    above: Annotated[Finite | None, Field(description="While it is above this, in its unit.")] = None
    below: Annotated[Finite | None, Field(description="While it is below this, in its unit.")] = None
    tags: Annotated[
        tuple[str, ...], Field(description="Names of tags below the equipment, `*` allowed; default: all of them.")
    ] = ()
    kinds: Annotated[tuple[Kind, ...], Field(description="Kinds of finding; default: all.")] = ()
    reason: Annotated[str, Field(max_length=200, description="Why, for people.")] = ""


class WindowEntry(_Entry):
    """A time that comes back each week."""

    name: Annotated[str, Field(min_length=1, max_length=64, description="For people and for the evidence.")]
    kind: Annotated[
        WindowKind,
        Field(
            description="shift: a name for the evidence; off: nothing is produced, detectors do not look; maintenance: "
            "findings are suppressed, nothing is learned."
        ),
    ]
    equipment: Annotated[
        tuple[str, ...], Field(description="Paths of equipment, or of anything above; default: the site.")
    ] = ()
    days: Annotated[
        tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...],
        Field(min_length=1, description="Days on which it begins."),
    ] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    from_: Annotated[str, Field(alias="from", pattern=_TIME, description='Time of the wall, quoted: "22:00".')]
    to: Annotated[str, Field(pattern=_TIME, description="Its end, quoted; at or before `from`: of the next day.")]
    timezone: Annotated[str | None, Field(description="IANA zone; default: the site's.")] = None
    every: Annotated[int, Field(ge=1, le=52, description="Each so many weeks, counted from the week of `first`.")] = 1
    first: Annotated[date | None, Field(description='No window begins before this day, quoted: "2026-01-05".')] = None
    last: Annotated[date | None, Field(description="No window begins after this day.")] = None
    without: Annotated[tuple[date, ...], Field(description="Days on which it does not begin.")] = ()


class CauseEntry(_Entry):
    """One cause of an equipment class, with what its tags usually show."""

    text: Annotated[str, Field(min_length=1, max_length=120, description="For people, such as Leaking shaft seal.")]
    mechanism: Annotated[
        str, Field(min_length=1, max_length=80, description='Words of ISO 14224, quoted: "1.1 Leakage".')
    ]
    signs: Annotated[
        dict[str, Sign],
        Field(
            min_length=1,
            max_length=8,
            description="Name of a tag (`*` allowed) and what it does: rose, fell, flat, silent, jumped, normal.",
        ),
    ]
    actions: Annotated[
        tuple[str, ...], Field(min_length=1, max_length=8, description="Ids of actions that help, the best first.")
    ]


class CatalogueEntry(_Entry):
    """Causes and actions of an equipment class, in addition to the shipped ones."""

    class_: Annotated[
        str, Field(alias="class", min_length=1, max_length=64, description="As `class` of equipment names it.")
    ]
    base: Annotated[
        str | None,
        Field(
            description="Shipped class that is extended; `none`: begin with nothing. Default: the shipped one of the "
            "same name, else `generic`."
        ),
    ] = None
    without: Annotated[tuple[str, ...], Field(description="Ids of causes of the base that do not exist here.")] = ()
    actions: Annotated[
        dict[str, Annotated[str, Field(min_length=1, max_length=160)]],
        Field(max_length=24, description="Id and text of further actions; one of the base may be worded anew."),
    ] = {}
    causes: Annotated[
        dict[str, CauseEntry], Field(max_length=20, description="Id and cause; one of the base may be put anew.")
    ] = {}


class EquipmentEntry(_Entry):
    """Options of a piece of equipment."""

    path: Annotated[str, Field(description="`enterprise/site/area/line/unit…`; tags below it belong to it.")]
    level: Annotated[str, Field(description="B2MML equipment level.")] = "Unit"
    class_: Annotated[str | None, Field(alias="class", description="ISO 14224 word; chooses the fault catalogue.")] = (
        None
    )
    state: Annotated[str | None, Field(description="Path of the tag that carries the state.")] = None
    running: Annotated[
        tuple[int | str, ...], Field(description="States (numbers or texts of the enum) in which detectors look.")
    ] = ()
    hold_off: Annotated[Duration | None, Field(description="Detectors wait so long after a change of state.")] = None
    suppress: Annotated[tuple[RuleEntry, ...], Field(description="Suppression by design; see below.")] = ()
    sap: Annotated[SapEntry | None, Field(description="For maintenance requests.")] = None


class TemplateEntry(_Entry):
    """Tags that recur; `{param}` and `{param + 1}` in their texts are replaced."""

    params: Annotated[tuple[str, ...], Field(description="Names of the parameters.")] = ()
    tags: Annotated[tuple[dict[str, Any], ...], Field(min_length=1, description="Tags with `name` instead of `path`.")]
