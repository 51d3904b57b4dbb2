"""
Status codes and flags of a value.

The OPC UA StatusCode (uint32) is kept for every protocol; its top two bits are the quality.
Our own conditions (clamped, late, ...) are bits of :class:`Flag` beside it, never a text in a numeric column.

Source: OPC UA Part 4, 7.39 and the StatusCode table of Part 6, annex A.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import numpy as np
from numpy.typing import NDArray


class Quality(IntEnum):
    """Severity of a StatusCode: its two top bits (3 is reserved and counts as bad)."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


GOOD: Final = 0x00000000
GOOD_CLAMPED: Final = 0x00300000
GOOD_LOCAL_OVERRIDE: Final = 0x00960000
UNCERTAIN: Final = 0x40000000
UNCERTAIN_NO_COMMUNICATION: Final = 0x408F0000
UNCERTAIN_LAST_USABLE: Final = 0x40900000
UNCERTAIN_SENSOR_NOT_ACCURATE: Final = 0x40930000
UNCERTAIN_EU_EXCEEDED: Final = 0x40940000
BAD: Final = 0x80000000
BAD_UNEXPECTED_ERROR: Final = 0x80010000
BAD_DECODING_ERROR: Final = 0x80070000
BAD_TIMEOUT: Final = 0x800A0000
BAD_NODE_ID_INVALID: Final = 0x80330000
BAD_NODE_ID_UNKNOWN: Final = 0x80340000
BAD_NO_COMMUNICATION: Final = 0x80310000
BAD_WAITING_FOR_INITIAL_DATA: Final = 0x80320000
BAD_TYPE_MISMATCH: Final = 0x80740000
BAD_CONFIGURATION_ERROR: Final = 0x80890000
BAD_NOT_CONNECTED: Final = 0x808A0000
BAD_DEVICE_FAILURE: Final = 0x808B0000
BAD_SENSOR_FAILURE: Final = 0x808C0000
BAD_OUT_OF_SERVICE: Final = 0x808D0000
BAD_SERVER_TOO_BUSY: Final = 0x80EE0000

_NAMES: Final[dict[int, str]] = {
    GOOD: "Good",
    GOOD_CLAMPED: "GoodClamped",
    GOOD_LOCAL_OVERRIDE: "GoodLocalOverride",
    UNCERTAIN: "Uncertain",
    UNCERTAIN_NO_COMMUNICATION: "UncertainNoCommunicationLastUsableValue",
    UNCERTAIN_LAST_USABLE: "UncertainLastUsableValue",
    UNCERTAIN_SENSOR_NOT_ACCURATE: "UncertainSensorNotAccurate",
    UNCERTAIN_EU_EXCEEDED: "UncertainEngineeringUnitsExceeded",
    0x42090000: "UncertainSimulatedValue",
    BAD: "Bad",
    BAD_UNEXPECTED_ERROR: "BadUnexpectedError",
    BAD_DECODING_ERROR: "BadDecodingError",
    BAD_TIMEOUT: "BadTimeout",
    BAD_NODE_ID_INVALID: "BadNodeIdInvalid",
    BAD_NODE_ID_UNKNOWN: "BadNodeIdUnknown",
    BAD_NO_COMMUNICATION: "BadNoCommunication",
    BAD_WAITING_FOR_INITIAL_DATA: "BadWaitingForInitialData",
    BAD_TYPE_MISMATCH: "BadTypeMismatch",
    BAD_CONFIGURATION_ERROR: "BadConfigurationError",
    BAD_NOT_CONNECTED: "BadNotConnected",
    BAD_DEVICE_FAILURE: "BadDeviceFailure",
    BAD_SENSOR_FAILURE: "BadSensorFailure",
    BAD_OUT_OF_SERVICE: "BadOutOfService",
    BAD_SERVER_TOO_BUSY: "BadServerTooBusy",
    0x803A0000: "BadNotReadable",
    0x801F0000: "BadUserAccessDenied",
    0x803E0000: "BadOutOfMemory",
}

#: DataValue info type plus Overflow bit: the monitored item's queue lost a value (Part 4, 7.39.1).
OVERFLOW_MASK: Final = 0x480


class Flag(IntFlag):
    """Our own conditions of a value, stored beside its status."""

    CLAMPED = 1 << 0  #: the scaled value was cut to the tag's range end
    NAN = 1 << 1  #: the device said NaN; stored as NULL
    INF = 1 << 2  #: the device said +Inf or -Inf
    SENTINEL = 1 << 3  #: the raw value was a declared "not available" mark; stored as NULL
    OUT_OF_RANGE = 1 << 4  #: outside the tag's range before any clamp; status uncertain, GoodClamped where it was cut
    LATE = 1 << 5  #: older than the tag's last time; stored, never fed to a detector
    CLOCK_SUSPECT = 1 << 6  #: device clock not believed, source time is that of arrival; or the first after a step back
    ARRIVAL_TIME = 1 << 7  #: the protocol or payload carries no time; source time is the time of arrival
    DUP_POSSIBLE = 1 << 8  #: may be a redelivery that nothing in payload or protocol can tell apart
    RETAINED = 1 << 9  #: the broker's last known value, not a fresh one
    ASSUMED_GOOD = 1 << 10  #: the payload carries no quality
    OVERFLOW = 1 << 11  #: the server's queue lost values before this one
    DEADBAND = 1 << 12  #: inside the deadband: seen by the detectors, not stored
    CORNER = 1 << 13  #: last value held back by the deadband, stored now; detectors saw it before
    DECODE_LOSS = 1 << 14  #: text was repaired (undecodable bytes, NUL) on the way
    BACKFILL = 1 << 15  #: read from the server's history into a gap
    COUNTER_ROLLOVER = 1 << 16  #: the counter went over its modulus since the row before; the increase is right
    COUNTER_RESET = 1 << 17  #: the counter began anew; the increase is what it has counted since, not what before
    COUNTER_UNCERTAIN = 1 << 18  #: how far the counter went since the row before cannot be told; no increase
    NO_CHANGE_CONFIRMED = 1 << 19  #: no new value: the last one still stood at this time, by the source's own word
    FLOAT32 = 1 << 20  #: the number is the device's float32, unscaled: a float32 of the shortest text is the same one


def quality(code: int) -> Quality:
    """Quality of one StatusCode."""
    return Quality(min(code >> 30 & 3, 2))


def quality_of(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Quality of each StatusCode, shape as given, values of :class:`Quality`."""
    top: NDArray[np.uint8] = np.minimum(codes >> np.uint32(30), 2).astype(np.uint8)
    return top


def name(code: int) -> str:
    """Symbolic name without the info bits; a code we have no name for prints as ``0x…``."""
    return _NAMES.get(code & 0xFFFF0000, f"0x{code:08X}")
