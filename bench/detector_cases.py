"""Of each detector a true case and one that must stay quiet, from seeded synthetic data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from schemas.status import Flag

#: The healthy part in front that is shown.
LEAD: Final = 120
Rows = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Case:
    """A tag's values a second, and what is odd about them; ``shown`` is where the picture begins."""

    title: str
    values: Rows
    shown: int
    tag: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Rows] = field(default_factory=dict)  #: set point and output of a loop
    absent: slice | None = None  #: no sample in this part
    down: bool = False  #: the source says that it is down meanwhile
    frozen: slice | None = None  #: device time stands still in this part
    flagged: slice | None = None  #: rows with a flag, each third
    flag: int = 0
    about: int = 0  #: number of the tag that the finding is about
    step_s: int = 1
    options: dict[str, Any] = field(default_factory=dict)


def noise(n: int, sigma: float = 1.0, seed: int = 3) -> Rows:
    return np.random.default_rng(seed).normal(0, sigma, n)


def after(n: int, trouble: Rows) -> Rows:
    """600 healthy seconds about 50, then the trouble added to the same noise."""
    found: Rows = 50 + noise(n) + np.concatenate([np.zeros(n - len(trouble)), trouble])
    return found


N, LATER = 1000, 300
RAMP = np.arange(LATER, dtype=np.float64)
HEALTHY = after(N, np.zeros(LATER))
STEP = np.full(LATER, 1.0)


def wander(n: int, phi: float = 0.97) -> Rows:
    """A signal that follows itself."""
    chance, out = np.random.default_rng(5), np.zeros(n)
    for i in range(1, n):
        out[i] = phi * out[i - 1] + chance.normal() * np.sqrt(1 - phi * phi)
    return 50 + out


def pulses(at: Sequence[int], size: float) -> Rows:
    out = np.zeros(LATER)
    out[list(at)] = size
    return out


def loop(error: Rows, out: Rows, set_point: Rows | None = None) -> dict[str, Any]:
    wanted = np.full(N, 50.0) if set_point is None else set_point
    return {"values": wanted - error, "others": {"sp": wanted, "out": out}, "tag": {"role": "pv"}}


def cases() -> dict[str, tuple[Case, Case]]:
    """True and false case of every detector, by its name."""
    n, shown = N, N - LATER - LEAD
    plain: dict[str, Any] = {"shown": shown}
    phase = np.concatenate([np.zeros(n - 600), np.arange(600) / 60 * 2 * np.pi])
    swing = 4 * np.sin(phase) * (np.arange(n) >= n - 600)
    triangle = 40 - 8 * 2 / np.pi * np.arcsin(np.cos(phase)) * (np.arange(n) >= n - 600)
    sine = 40 - 8 * np.cos(phase) * (np.arange(n) >= n - 600)
    calm = noise(n, 0.4, 8)
    away = np.concatenate([np.zeros(n - LATER), np.full(LATER, 5.0)])
    moved = np.concatenate([np.full(n - LATER, 50.0), np.full(LATER, 60.0)])
    settling = np.concatenate([np.zeros(n - LATER), 10 * np.exp(-RAMP / 20)])
    days = np.arange(20 * 144) / 144
    slow: dict[str, Any] = {"shown": 0, "step_s": 600, "tag": {"range": (0.0, 80.0), "scan_ms": 600_000}}
    burst = 50 + 10 * np.sin(np.arange(n) / 30) + np.random.default_rng(12).exponential(2, n)
    wide: dict[str, Any] = {**plain, "options": {"extreme": True}}
    part = slice(n - LATER, n - LATER + 120)
    return {
        "missing": (
            Case(
                "one tag of a living source falls silent", HEALTHY, **plain, tag={"stale_after_ms": 5000}, absent=part
            ),
            Case(
                "the source is down: a gap with its cause",
                HEALTHY,
                **plain,
                tag={"stale_after_ms": 5000},
                absent=part,
                down=True,
            ),
        ),
        "late": (
            Case(
                "a third of the rows is older than those before",
                HEALTHY,
                **plain,
                flagged=slice(n - LATER, n),
                flag=Flag.LATE,
            ),
            Case("one late row", HEALTHY, **plain, flagged=slice(n - LATER, n - LATER + 1), flag=Flag.LATE),
        ),
        "clock": (
            Case(
                "a third of the rows comes from 1970",
                HEALTHY,
                **plain,
                flagged=slice(n - LATER, n),
                flag=Flag.CLOCK_SUSPECT,
            ),
            Case(
                "one row comes from 1970",
                HEALTHY,
                **plain,
                flagged=slice(n - LATER, n - LATER + 1),
                flag=Flag.CLOCK_SUSPECT,
            ),
        ),
        "stale": (
            Case("values change, the device time does not", HEALTHY, **plain, frozen=part),
            Case("ten seconds under one device time", HEALTHY, **plain, frozen=slice(n - LATER, n - LATER + 10)),
        ),
        "range": (
            Case(
                "beyond the range of the map",
                after(n, pulses(range(100, 180), 12)),
                **plain,
                tag={"range": (40.0, 60.0)},
            ),
            Case("close to its end", after(n, pulses(range(100, 180), 5)), **plain, tag={"range": (40.0, 60.0)}),
        ),
        "rate": (
            Case(
                "jumps faster than the map believes",
                after(n, pulses([100, 200], 25)),
                **plain,
                tag={"rate_limit": 10.0},
            ),
            Case("a fast, but believable ramp", after(n, np.minimum(RAMP / 3, 30)), **plain, tag={"rate_limit": 10.0}),
        ),
        "flatline": (
            Case("stuck at its last value", np.where(np.arange(n) < n - LATER, HEALTHY, HEALTHY[n - LATER]), **plain),
            Case("at rest: exactly 0", np.where(np.arange(n) < n - LATER, HEALTHY, 0.0), **plain),
        ),
        "spike": (
            Case("two samples far out, and back", after(n, pulses([150, 151], 30)), **plain),
            Case("a step does not come back", after(n, STEP * 30), **plain),
        ),
        "saturation": (
            Case("cut off at 50.3", np.minimum(HEALTHY, np.where(np.arange(n) < n - LATER, np.inf, 50.3)), **plain),
            Case("cut to whole numbers from the start", np.round(HEALTHY), **plain),
        ),
        "quantization": (
            Case(
                "from float to steps of 1",
                np.where(np.arange(n) < n - LATER, HEALTHY * 2, np.round(HEALTHY * 2)),
                **plain,
            ),
            Case("steps of 1 from the start", np.round(HEALTHY * 2), **plain),
        ),
        "shewhart": (
            Case("a large step", after(n, STEP * 8), **plain),
            Case("one wild sample", after(n, pulses([150], 30)), **plain),
        ),
        "ewma": (
            Case("three sigmas higher", after(n, STEP * 3), **plain),
            Case("a signal that wanders by itself", wander(n), **plain),
        ),
        "cusum": (
            Case("one and a half sigmas higher, for long", after(n, STEP * 1.5), **plain),
            Case("a healthy signal", HEALTHY, **plain),
        ),
        "nelson": (
            Case("nine points on one side", after(n, STEP * 2), **plain, options={"spc": ("nelson",)}),
            Case("a healthy signal breaks a rule as well", HEALTHY, **plain, options={"spc": ("nelson",)}),
        ),
        "level_shift": (
            Case("a step within the window", after(n, STEP * 5 * (RAMP > 60)), **plain),
            Case("a signal that wanders by itself", wander(n), **plain),
        ),
        "trend": (
            Case("rises steadily", after(n, RAMP / 15), **plain),
            Case("a signal that wanders by itself", wander(n), **plain),
        ),
        "variance": (
            Case("five times noisier", after(n, noise(LATER, 5, 9)), **plain),
            Case("a step changes the mean alone", after(n, STEP * 4), **plain),
        ),
        "oscillation": (
            Case("begins to swing", after(n, 6 * np.sin(RAMP / 2.5)), **plain),
            Case("has always swung", HEALTHY + 6 * np.sin(np.arange(n) / 2.5), **plain),
        ),
        "deviation": (
            Case("stays below its set point", **loop(calm + away, 45 + noise(n, 1, 9)), **plain),
            Case("a new set point is reached in time", **loop(calm + settling, 45 + noise(n, 1, 9), moved), **plain),
        ),
        "windup": (
            Case(
                "output at 100 %, set point not reached",
                **loop(calm + away, np.where(away > 0, 100.0, 45.0)),
                **plain,
                about=2,
            ),
            Case("output at 100 %, set point held", **loop(calm, np.full(n, 100.0)), **plain, about=2),
        ),
        "stiction": (
            Case("the output is a triangle", **loop(calm / 4 + swing, triangle), shown=n - 700),
            Case("the output is a sine: tuning", **loop(calm / 4 + swing, sine), shown=n - 700),
        ),
        "extreme": (
            Case("bursts, and one like no other", burst + 120 * (np.arange(n) // 4 == (n - 150) // 4), **wide),
            Case("bursts, as ever", burst, **wide),
        ),
        "slow_trend": (
            Case("half a degree a day, range ends at 80", 60 + 0.5 * days + noise(len(days), 0.5), **slow),
            Case("day and night", 60 + 3 * np.sin(days * 2 * np.pi) + noise(len(days), 0.5), **slow),
        ),
    }
