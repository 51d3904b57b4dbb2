"""
Units: plant spellings to UCUM, and the factor and offset of a conversion, dimension-checked.

pint and ucumvert are asked once per pair of units when a map is loaded, never per sample. Gauge pressure and normal
volume are units of their own (``bar{gauge}``, ``m3{normal}``): no conversion leads to absolute pressure or actual
volume. Source: tag-maps.md, Units met in plant maps; library-traps, units.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from broker.config.validate import nearest

#: UCUM's "no unit".
NONE: Final = "1"

#: What plants write, and its UCUM code.
ALIASES: Final[dict[str, str]] = {
    **dict.fromkeys(("", "-", "none", "[-]"), NONE),
    **dict.fromkeys(("°C", "℃", "degC", "deg C", "deg_C", "Celsius", "celsius", "grad C"), "Cel"),
    **dict.fromkeys(("°C/min", "degC/min"), "Cel/min"),
    **dict.fromkeys(("°C/h", "degC/h"), "Cel/h"),
    **dict.fromkeys(("°F", "℉", "degF", "deg F", "deg_F", "Fahrenheit", "fahrenheit"), "[degF]"),
    **dict.fromkeys(("°K", "degK", "Kelvin", "kelvin"), "K"),
    **dict.fromkeys(("m³", "cbm", "m^3", "m**3"), "m3"),
    **dict.fromkeys(("m³/h", "m3/hr", "m^3/h", "m³/hr", "cbm/h"), "m3/h"),
    **dict.fromkeys(("m³/s", "m^3/s"), "m3/s"),
    **dict.fromkeys(("m³/min", "m^3/min"), "m3/min"),
    **dict.fromkeys(("Nm3", "Nm³"), "m3{normal}"),
    **dict.fromkeys(("Nm3/h", "Nm³/h", "Nm3/hr"), "m3{normal}/h"),
    **dict.fromkeys(("Nm3/min", "Nm³/min"), "m3{normal}/min"),
    **dict.fromkeys(("Sm3/h", "Sm³/h"), "m3{standard}/h"),
    **dict.fromkeys(("m²", "m^2"), "m2"),
    **dict.fromkeys(("l", "ltr", "liter", "litre", "Liter"), "L"),
    **dict.fromkeys(("l/min", "lpm", "LPM", "ltr/min"), "L/min"),
    **dict.fromkeys(("l/h", "lph", "ltr/h"), "L/h"),
    **dict.fromkeys(("l/s",), "L/s"),
    **dict.fromkeys(("ml", "cc", "ccm"), "mL"),
    **dict.fromkeys(("barg", "bar(g)", "bar g", "bar_g", "barü", "BARG"), "bar{gauge}"),
    **dict.fromkeys(("bara", "bar(a)", "bar a", "bar abs", "BAR", "Bar"), "bar"),
    **dict.fromkeys(("mbarg", "mbar(g)"), "mbar{gauge}"),
    **dict.fromkeys(("mbara", "mbar(a)"), "mbar"),
    **dict.fromkeys(("kPag", "kPa(g)"), "kPa{gauge}"),
    **dict.fromkeys(("kPaa", "kPa(a)"), "kPa"),
    **dict.fromkeys(("psi", "psia", "PSI"), "[psi]"),
    **dict.fromkeys(("psig", "PSIG"), "[psi]{gauge}"),
    **dict.fromkeys(("mmHg",), "mm[Hg]"),
    **dict.fromkeys(("mH2O", "mWS", "mWC"), "m[H2O]"),
    **dict.fromkeys(("mmH2O", "mmWS", "mmWC"), "mm[H2O]"),
    **dict.fromkeys(("inH2O", "inWC"), "[in_i'H2O]"),
    **dict.fromkeys(("kWh", "KWh", "kwh", "kW h", "kW*h"), "kW.h"),
    **dict.fromkeys(("MWh",), "MW.h"),
    **dict.fromkeys(("Wh",), "W.h"),
    **dict.fromkeys(("kVA",), "kV.A"),
    **dict.fromkeys(("VA",), "V.A"),
    **dict.fromkeys(("kvar", "kVAr", "kVAR"), "kV.A{reactive}"),
    **dict.fromkeys(("var", "VAr", "VAR"), "V.A{reactive}"),
    **dict.fromkeys(("kvarh", "kVArh", "kVARh"), "kV.A.h{reactive}"),
    **dict.fromkeys(("kVAh",), "kV.A.h"),
    **dict.fromkeys(("Ah",), "A.h"),
    **dict.fromkeys(("Amp", "amp", "Amps", "amps", "Ampere"), "A"),
    **dict.fromkeys(("Volt", "volt", "Volts"), "V"),
    **dict.fromkeys(("KW", "Kw", "kw"), "kW"),
    **dict.fromkeys(("hp", "HP"), "[HP]"),
    **dict.fromkeys(("Ω", "Ω", "ohm"), "Ohm"),
    **dict.fromkeys(("kΩ", "kohm"), "kOhm"),
    **dict.fromkeys(("HZ", "hz"), "Hz"),
    **dict.fromkeys(("rpm", "RPM", "U/min", "rev/min", "tr/min", "r/min"), "{rev}/min"),
    **dict.fromkeys(("1/min", "min-1", "min⁻¹"), "/min"),
    **dict.fromkeys(("1/s", "s-1", "s⁻¹"), "/s"),
    **dict.fromkeys(("1/h",), "/h"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("msec",), "ms"),
    **dict.fromkeys(("mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("pct", "percent", "Prozent", "%%"), "%"),
    **dict.fromkeys(("%RH", "%rH", "% RH", "%r.F.", "rH"), "%{RH}"),
    **dict.fromkeys(("ppm", "PPM"), "[ppm]"),
    **dict.fromkeys(("ppb",), "[ppb]"),
    **dict.fromkeys(("pH", "PH"), "[pH]"),
    **dict.fromkeys(("pcs", "pc", "piece", "pieces", "Stk", "Stück", "ea", "unit", "units", "count", "cnt"), "{pcs}"),
    **dict.fromkeys(("pcs/h", "pcs/hr", "Stk/h"), "{pcs}/h"),
    **dict.fromkeys(("pcs/min", "Stk/min", "ppmin"), "{pcs}/min"),
    **dict.fromkeys(("Kg", "KG", "kgs"), "kg"),
    **dict.fromkeys(("kg/hr",), "kg/h"),
    **dict.fromkeys(("to", "ton", "tonne", "tonnes"), "t"),
    **dict.fromkeys(("t/hr",), "t/h"),
    **dict.fromkeys(("lb", "lbs"), "[lb_av]"),
    **dict.fromkeys(("lb/h", "lbs/h"), "[lb_av]/h"),
    **dict.fromkeys(("kg/m³", "kg/m^3"), "kg/m3"),
    **dict.fromkeys(("g/cm³", "g/cm^3", "g/ccm"), "g/cm3"),
    **dict.fromkeys(("mg/l",), "mg/L"),
    **dict.fromkeys(("g/l",), "g/L"),
    **dict.fromkeys(("in", "inch"), "[in_i]"),
    **dict.fromkeys(("ft", "feet"), "[ft_i]"),
    **dict.fromkeys(("cfm", "CFM", "[cft_i]/min", "ft3/min"), "[ft_i]3/min"),
    **dict.fromkeys(("[cft_i]", "ft3"), "[ft_i]3"),
    **dict.fromkeys(("gpm", "GPM"), "[gal_us]/min"),
    **dict.fromkeys(("gal",), "[gal_us]"),
    **dict.fromkeys(("µm", "μm", "micron"), "um"),
    **dict.fromkeys(("µS/cm", "μS/cm"), "uS/cm"),
    **dict.fromkeys(("µg/m³", "µg/m3", "μg/m³"), "ug/m3"),
    **dict.fromkeys(("m/s²", "m/s^2"), "m/s2"),
    **dict.fromkeys(("mps",), "m/s"),
    **dict.fromkeys(("g-force",), "[g]"),
    **dict.fromkeys(("Nm", "N*m", "N·m"), "N.m"),
    **dict.fromkeys(("kNm",), "kN.m"),
    **dict.fromkeys(("mPas", "mPa*s", "mPa·s"), "mPa.s"),
    **dict.fromkeys(("cSt",), "mm2/s"),
    **dict.fromkeys(("°", "degree", "degrees"), "deg"),
    **dict.fromkeys(("W/m²",), "W/m2"),
    **dict.fromkeys(("lux", "Lux"), "lx"),
    **dict.fromkeys(("BTU", "Btu"), "[Btu]"),
    **dict.fromkeys(("dBA", "dB(A)"), "dB{A}"),
}

_ANNOTATION: Final = re.compile(r"\{[^{}]*\}")
#: Annotations that make another quantity of the same dimension.
_FAMILIES: Final = ("{gauge}", "{normal}", "{standard}", "{reactive}")
#: Units without a dimension that pint does not know; each converts to itself only.
_ALONE: Final = ("[pH]",)
#: Kelvin = value * factor + offset, exact.
_KELVIN: Final = {"K": (1.0, 0.0), "Cel": (1.0, 273.15), "[degF]": (5 / 9, 459.67 * 5 / 9), "[degR]": (5 / 9, 0.0)}
#: Codes that ucumvert 0.3.2 reads as something else (a cubic foot becomes a hundredth of a foot).
_WRONG: Final = {"[cft_i]": "[ft_i]3", "[cin_i]": "[in_i]3", "[cyd_i]": "[yd_i]3"}


class UnknownUnit(ValueError):
    """A spelling that is neither UCUM nor a known alias; the text is for the person who wrote it."""


class WrongDimension(ValueError):
    """Two units between which there is no linear conversion; the text is for the person who wrote them."""


@lru_cache(maxsize=1)
def _registry() -> Any:
    import ucumvert  # 0.5 s: only maps with units pay it

    return ucumvert.PintUcumRegistry()


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The UCUM code of a unit as plants write it. Raises UnknownUnit."""
    text = text.strip()
    code = ALIASES.get(text, text)
    for wrong, right in _WRONG.items():
        code = code.replace(wrong, right)
    if not _known(code):
        hint = nearest(text, ALIASES)
        raise UnknownUnit(f"{text!r} is not a UCUM unit" + (f"; {hint}" if hint else ""))
    return code


@lru_cache(maxsize=4096)
def conversion(source: str, target: str) -> tuple[float, float]:
    """
    Factor and offset with ``target = source * factor + offset``, for two canonical units.

    Raises WrongDimension where the dimensions differ or the relation is not a straight line.
    """
    if source == target:
        return 1.0, 0.0
    if source in _KELVIN and target in _KELVIN:
        (factor, offset), (by, less) = _KELVIN[source], _KELVIN[target]
        return factor / by, (offset - less) / by
    if _family(source) != _family(target) or source in _ALONE or target in _ALONE:
        raise WrongDimension(f"{source} cannot be converted to {target}: they are different quantities")
    import pint

    registry = _registry()
    try:
        at = [float(registry.Quantity(x, _pint(source)).to(_pint(target)).magnitude) for x in (0.0, 1.0, 2.0)]
    except pint.PintError:
        raise WrongDimension(f"{source} cannot be converted to {target}: their dimensions differ") from None
    factor, offset = at[1] - at[0], at[0]
    if abs(at[2] - (2 * factor + offset)) > 1e-9 * max(1.0, abs(at[2])):
        raise WrongDimension(f"{source} cannot be converted to {target} by a factor and an offset")
    return factor, offset


def _family(code: str) -> tuple[str, ...]:
    return tuple(word for word in _FAMILIES if word in code)


@lru_cache(maxsize=4096)
def _known(code: str) -> bool:
    if code == NONE or code in _ALONE:
        return True
    if not code.isascii() or len(code) > 60:
        return False
    import lark
    import pint

    try:
        _pint(code)
    except (ValueError, pint.PintError, lark.exceptions.LarkError, AttributeError, TypeError, RecursionError):
        return False  # ucumvert answers an unknown code with any of these
    return True


def _pint(code: str) -> Any:
    bare = _ANNOTATION.sub("", code) or NONE
    if bare not in _KELVIN:  # within a compound unit it is a difference: Cel/min is K/min
        bare = bare.replace("[degF]", "[degR]").replace("Cel", "K")
    found = _registry().from_ucum(NONE + bare if bare.startswith("/") else bare)
    return found.units * found.magnitude if found.magnitude != 1 else found.units
