"""
Faults between the plant and whoever reads it: clock, gateway, registers, PLC and network.

They change what arrives of the plant's samples and leave the physics alone. The truth is the fault with its times; the
plant's own random numbers are drawn as without it, so that the same seed gives the same values underneath.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from simulators.plant import Plant

SourceFaultKind = Literal["frozen_clock", "late_batch", "byte_swap", "plc_reboot", "network_cut"]

#: Sources of the plant with their equipment, as the demo's tag maps have them.
SOURCES: Final[Mapping[str, tuple[str, ...]]] = {
    "skid_plc": ("P101", "E201"),
    "filler": ("F301",),
    "meters": ("M1", "R12"),
}
#: Whose samples each fault concerns.
FAULT_SOURCE: Final[Mapping[SourceFaultKind, str]] = {
    "frozen_clock": "filler",
    "late_batch": "meters",
    "byte_swap": "skid_plc",
    "plc_reboot": "skid_plc",
    "network_cut": "meters",
}
#: Signals that two registers hold: what another order of words makes nonsense of. Single registers stay as they are.
TWO_REGISTERS: Final = frozenset(
    {
        *("P101.SuctionPressure", "P101.DischargePressure", "P101.Flow", "P101.MotorPower"),
        *("E201.ProductTemp", "E201.ProductSetpoint"),
    }
)
#: A gateway with a backlog: in each so many seconds it keeps the first ones back, and sends them behind the live ones.
CYCLE_S: Final = 60
KEPT_S: Final = 20
#: A PLC that has started serves a process image of zeros until it has read its inputs.
COLD_S: Final = 2


@dataclass(frozen=True, slots=True)
class SourceFault:
    """One fault of a source, in plant seconds."""

    kind: SourceFaultKind
    start_s: float
    end_s: float = math.inf

    @property
    def source(self) -> str:
        """Name of the source."""
        return FAULT_SOURCE[self.kind]

    @property
    def equipment(self) -> tuple[str, ...]:
        """The plant's own names of all equipment that the source has."""
        return SOURCES[self.source]

    def there(self, now_s: float) -> bool:
        """Whether it is there at *now_s*."""
        return self.start_s <= now_s < self.end_s


class Arrived(NamedTuple):
    """A sample as it arrives: its value is NaN where it is not ``good``, its time the device's, in plant seconds."""

    signal: str
    value: float
    device_s: float
    good: bool


@dataclass(slots=True)
class SourceSide:
    """A plant as it is read through its sources, one of which has a fault."""

    plant: Plant
    fault: SourceFault | None = None
    _kept: list[Arrived] = field(default_factory=list)

    def scan(self, now_s: float) -> dict[str, list[Arrived]]:
        """What arrives of each source at *now_s*, in the order of arrival; texts are left out."""
        self.plant.advance(now_s)
        found: dict[str, list[Arrived]] = {source: [] for source in SOURCES}
        source_of = {unit: source for source, units in SOURCES.items() for unit in units}
        for signal, value in self.plant.signals().items():
            if isinstance(value, int | float):
                found[source_of[signal.partition(".")[0]]].append(Arrived(signal, float(value), now_s, good=True))
        if self.fault is not None:
            found[self.fault.source] = list(self._changed(self.fault, found[self.fault.source], now_s))
        return found

    def _changed(self, fault: SourceFault, rows: list[Arrived], now_s: float) -> Iterator[Arrived]:
        if not fault.there(now_s):
            yield from rows
            yield from self._released()
            return
        match fault.kind:
            case "frozen_clock":
                yield from (row._replace(device_s=fault.start_s) for row in rows)
            case "late_batch":
                if (now_s - fault.start_s) % CYCLE_S < KEPT_S:
                    self._kept += rows
                else:
                    yield from rows
                    yield from self._released()
            case "byte_swap":
                yield from (_swapped(row) if row.signal in TWO_REGISTERS else row for row in rows)
            case "plc_reboot":
                # a gateway stands before it and answers for it
                down = now_s < fault.end_s - COLD_S
                yield from (row._replace(value=math.nan if down else 0.0, good=not down) for row in rows)
            case "network_cut":
                pass

    def _released(self) -> list[Arrived]:
        kept, self._kept = self._kept, []
        return kept


def _swapped(row: Arrived) -> Arrived:
    """The number that the two registers make in the other order of words."""
    high, low = struct.unpack(">HH", struct.pack(">f", row.value))
    return row._replace(value=struct.unpack(">f", struct.pack(">HH", low, high))[0])
