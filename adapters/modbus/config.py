"""Options of a Modbus source."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from adapters.base import Options, SourceOptions
from adapters.modbus import planner
from adapters.modbus.address import AddressStyle
from adapters.modbus.link import Manner
from adapters.modbus.poller import Busy
from adapters.modbus.tls import Tls
from adapters.modbus.types import Location
from schemas.quantities import Duration

ByteOrder = Literal[
    "ABCD",
    "CDAB",
    "BADC",
    "DCBA",
    "ABCDEFGH",
    "GHEFCDAB",
    "EFGHABCD",
    "CDABGHEF",
    "BADCFEHG",
    "HGFEDCBA",
    "FEHGBADC",
    "DCBAHGFE",
]


def text_encoding(name: str) -> str:
    """*name* as it is. Raises ValueError where it is no encoding of texts."""
    try:
        codec = codecs.lookup(name)
    except LookupError as error:
        raise ValueError(f"encoding {name!r} is not known; write ascii, latin-1, cp1252, utf-8 or utf-16-le") from error
    if not codec._is_text_encoding:
        raise ValueError(f"{name!r} is no text encoding; write ascii, latin-1, cp1252, utf-8 or utf-16-le")
    return name


class RequestLimits(Options):
    """What one request may ask of the device or gateway."""

    registers: Annotated[int, Field(ge=1, le=125, description="Registers a request.")] = 125
    bits: Annotated[int, Field(ge=1, le=2000, description="Coils or discrete inputs a request.")] = 2000


class Degrade(Options):
    """When a dead unit is left alone, so that it does not slow the others behind its gateway."""

    after: Annotated[
        int, Field(ge=1, description="Polls in a row in which the unit gave nothing, while another one answered.")
    ] = 2
    pause: Annotated[
        Duration,
        Field(gt=0, description="Time without a request to it; its tags are bad meanwhile. Then one request decides."),
    ] = 600.0


class Workarounds(Options):
    """What some devices need; names as in Telegraf where it has them."""

    pause_after_connect: Annotated[
        Duration, Field(ge=0, description="Wait between opening a connection and the first request.")
    ] = 0.0
    pause_between_requests: Annotated[
        Duration, Field(ge=0, description="Wait between a reply and the next request; in_flight is 1 then.")
    ] = 0.0
    close_connection_after_gather: Annotated[
        bool, Field(description="Close the connection after every poll, for devices that serve one client at a time.")
    ] = False
    one_request_per_field: Annotated[bool, Field(description="Read every tag by a request of its own.")] = False
    read_coils_starting_at_zero: Annotated[
        bool, Field(description="Begin requests for coils and discrete inputs at address 0 where they reach so far.")
    ] = False
    string_register_location: Annotated[
        Location, Field(description="Bytes of a register that texts use: both, or only the lower or the upper one.")
    ] = "both"
    busy_retries: Annotated[
        int, Field(ge=0, le=10, description="How often a block is asked again in a poll that was answered busy (5, 6).")
    ] = 0
    busy_retries_wait: Annotated[Duration, Field(gt=0, description="Wait before that.")] = 0.1
    transaction_id_zero: Annotated[
        bool,
        Field(
            description="The device answers every transaction id with 0: in_flight is 1, and after a time-out the "
            "connection is closed and one time-out waited, because a late reply could not be told from the right one."
        ),
    ] = False


class ModbusOptions(SourceOptions):
    """Options of kind ``modbus``: one source is one device or gateway; units behind a gateway share its connection."""

    kind: Literal["modbus"] = "modbus"
    host: Annotated[str, Field(min_length=1, description="Name or address of the device or gateway.")]
    port: Annotated[int | None, Field(ge=1, le=65535, description="TCP port; default 502, with tls 802.")] = None
    transport: Annotated[
        Literal["tcp", "rtu_over_tcp", "tls"],
        Field(
            description="tcp: Modbus TCP. rtu_over_tcp: serial frames with checksum, as simple gateways pass them on. "
            "tls: Modbus/TCP Security."
        ),
    ] = "tcp"
    tls: Annotated[Tls | None, Field(description="Certificates of transport tls.")] = None
    unit: Annotated[int, Field(ge=0, le=255, description="Unit that a plain address means; 4!40001 names another.")] = 1
    timeout: Annotated[Duration, Field(gt=0, description="Waiting time for a connection and for a reply.")] = 1.0
    fail_after: Annotated[
        int,
        Field(
            ge=1,
            description="Requests of a unit without a usable reply, in a row, before it is given up for the "
            "poll; when no unit answers, the connection is closed.",
        ),
    ] = 2
    degrade: Annotated[Degrade, Field(description="When a dead unit is left alone.")] = Degrade()
    byte_order: Annotated[
        ByteOrder | None,
        Field(
            description="Order of the bytes of values above 16 bits; a tag may differ. Without one here or in the "
            "tag such a tag is an error."
        ),
    ] = None
    address_style: Annotated[
        AddressStyle,
        Field(description="modicon: 40001 and HR1 are the first register. one_based: HR1 is. zero_based: HR0 is."),
    ] = "modicon"
    bit_base: Annotated[Literal[0, 1], Field(description="Number of the lowest bit in HR20.<bit>.")] = 0
    max_gap: Annotated[
        int, Field(ge=0, le=124, description="Unwanted registers (16 coils each) read over to save a request.")
    ] = 8
    limits: Annotated[RequestLimits, Field(description="What one request may ask.")] = RequestLimits()
    in_flight: Annotated[
        int,
        Field(
            ge=1,
            le=32,
            description="Requests under way at the same time on a connection. Many devices mis-answer above 1, and one "
            "that mixes up its transaction ids then gives wrong values that nobody can see: try it out first.",
        ),
    ] = 1
    connections: Annotated[
        int,
        Field(
            ge=1,
            le=16,
            description="Connections that share the work, where the device takes several; it gets along with fewer.",
        ),
    ] = 1
    identity: Annotated[
        Literal["check", "ignore"],
        Field(
            description="check: vendor and product code (function code 43/14) are remembered at the first connect; "
            "another device behind the address is not read until `fairlead modbus identify SOURCE --accept`. Another "
            "revision is noted, and read; a device without identification is read, and said to be one."
        ),
    ] = "ignore"
    string_encoding: Annotated[
        str,
        AfterValidator(text_encoding),
        Field(description="Encoding of texts; a tag may name another, but `ascii` in a tag means this one."),
    ] = "ascii"
    workarounds: Annotated[Workarounds, Field(description="What some devices need.")] = Workarounds()

    @model_validator(mode="after")
    def _fits(self) -> ModbusOptions:
        if (self.transport == "tls") != (self.tls is not None):
            raise ValueError("transport: tls and the certificates in `tls` belong together")
        if self.in_flight > 1:
            if self.transport == "rtu_over_tcp":
                raise ValueError("rtu_over_tcp has no transaction ids; in_flight must be 1")
            if self.workarounds.transaction_id_zero:
                raise ValueError("without transaction ids (transaction_id_zero) in_flight must be 1")
            if self.workarounds.pause_between_requests:
                raise ValueError("pause_between_requests needs in_flight: 1")
        if self.connections > 1 and (self.transport == "rtu_over_tcp" or self.workarounds.transaction_id_zero):
            # a serial server may send what comes from its line to every client: nothing tells whose reply it is
            raise ValueError("without transaction ids (rtu_over_tcp, transaction_id_zero) connections must be 1")
        if self.transport == "rtu_over_tcp" and self.workarounds.transaction_id_zero:
            raise ValueError("rtu_over_tcp has no transaction ids; leave transaction_id_zero away")
        return self

    @property
    def tcp_port(self) -> int:
        """The port; 502, or 802 with TLS, where none is named."""
        return self.port or (802 if self.transport == "tls" else 502)

    def planner_limits(self) -> planner.Limits:
        """The limits as the planner takes them."""
        w = self.workarounds
        return planner.Limits(
            self.limits.registers,
            self.limits.bits,
            self.max_gap,
            alone=w.one_request_per_field,
            coils_from_zero=w.read_coils_starting_at_zero,
        )

    def manner(self) -> Manner:
        """How the device wants to be spoken to."""
        w = self.workarounds
        framing: Literal["mbap", "mbap_zero", "rtu"] = (
            "rtu" if self.transport == "rtu_over_tcp" else "mbap_zero" if w.transaction_id_zero else "mbap"
        )
        return Manner(
            framing,
            self.in_flight,
            self.connections,
            w.pause_after_connect,
            w.pause_between_requests,
            w.close_connection_after_gather,
        )

    def busy(self) -> Busy:
        """What to do when the device is busy."""
        return Busy(self.workarounds.busy_retries, self.workarounds.busy_retries_wait)
