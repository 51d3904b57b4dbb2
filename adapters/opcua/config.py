"""Options of a source of kind ``opcua``; the field descriptions are the reference."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from adapters.base import Options, SourceOptions
from adapters.insecure import FORM, Insecure, InsecureAck
from adapters.opcua.event_options import EventOptions, listed_once
from adapters.opcua.nodes import parse_address
from adapters.opcua.profiles import ProfileName
from adapters.secrets import is_loopback
from schemas.quantities import Duration

POLICIES: Final = ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
MODES: Final = ("SignAndEncrypt", "Sign")
_SHORTEST_QUEUE_S: Final = 10.0  # a journal commit may take a second; ten leave room (delivery contract)


class User(Options):
    """A user of the server: by name and password, or by certificate and key."""

    name: Annotated[
        str | None, Field(min_length=1, description="User name on the server; give it no right to write.")
    ] = None
    password: Annotated[
        str | None,
        Field(
            pattern=r"^(env|file|cred):.+$",
            description="Where the password is: `env:NAME`, `file:PATH` (mode 0600) or `cred:NAME`; never itself.",
        ),
    ] = None
    cert: Annotated[
        str | None, Field(min_length=1, description="File of the user's certificate, DER or PEM, instead of a name.")
    ] = None
    key: Annotated[
        str | None,
        Field(
            pattern=r"^(file|cred):.+$",
            description="Where its private key is, PEM without passphrase: `file:PATH` (mode 0600) or `cred:NAME`.",
        ),
    ] = None

    @model_validator(mode="after")
    def _one_way(self) -> User:
        pairs = (self.name, self.password), (self.cert, self.key)
        given = [pair for pair in pairs if any(pair)]
        if len(given) != 1 or not all(given[0]):
            raise ValueError("want `name` and `password`, or `cert` and `key`")
        return self


class SubscriptionOptions(Options):
    """What is asked of the server; what it grants is shown beside it."""

    sampling: Annotated[
        Duration | None, Field(gt=0, description="Sampling interval of every item; default: the tag's `scan`.")
    ] = None
    publishing: Annotated[Duration, Field(gt=0, description="Publishing interval.")] = 1.0
    queue: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1, le=1_000_000)],
        Field(
            description="Values the server keeps for an item; `auto` covers max(2 x publishing, 10s, planned_outage)."
        ),
    ] = "auto"
    discard: Annotated[
        Literal["oldest", "newest"],
        Field(description="What a full queue gives up; either way the loss is marked and becomes a gap."),
    ] = "oldest"
    keep_alive: Annotated[
        Duration,
        Field(gt=0, description="The server says at least so often that it is there; twice as long is silence."),
    ] = 10.0
    nodes: Annotated[int, Field(ge=1, le=100_000, description="Items in one subscription.")] = 1000
    in_flight: Annotated[
        int,
        Field(ge=1, le=10, description="Publish requests that wait at the server; fewer where it refuses so many."),
    ] = 2


class Retry(Options):
    """Waiting times for single nodes."""

    bad_node: Annotated[
        Duration, Field(gt=0, description="A node that the server refused is tried again after it.")
    ] = 1800.0
    invalid_node: Annotated[
        Duration,
        Field(
            gt=0,
            description="A node that the server does not know (any more) is tried again after it; items that sent "
            "nothing for so long are read once, to see whether it still knows theirs.",
        ),
    ] = 300.0


class HistoryOptions(Options):
    """Filling gaps from the server's history."""

    fill: Annotated[
        Literal["never", "gaps"],
        Field(description="`gaps`: HistoryRead into gaps where session, messages or queue were lost."),
    ] = "never"
    order: Annotated[
        Literal["oldest_first", "newest_first"], Field(description="Which part of a gap, and which gap, comes first.")
    ] = "oldest_first"
    chunk: Annotated[Duration, Field(gt=0, description="Time that one request asks for.")] = 3600.0
    pause: Annotated[Duration, Field(ge=0, description="Between two parts of a gap.")] = 0.2
    settle: Annotated[Duration, Field(ge=0, description="After the end of a gap, before its history is asked for.")] = (
        2.0
    )
    max_span: Annotated[Duration, Field(gt=0, description="Older holes stay holes.")] = 7 * 86400.0


class OpcUaOptions(SourceOptions):
    """Options of one OPC UA server."""

    endpoint: Annotated[str, Field(description="`opc.tcp://host:port/path`; a user or password in it is refused.")]
    profile: Annotated[
        ProfileName,
        Field(description="Kind of server: its batch size, its most items, and whether it takes a deadband."),
    ] = "auto"
    security: Annotated[
        str,
        Field(
            description="`<policy>/<mode>`: Basic256Sha256, Aes128Sha256RsaOaep or Aes256Sha256RsaPss with "
            "SignAndEncrypt or Sign; `None` only on loopback or with `insecure_ack`."
        ),
    ] = "Basic256Sha256/SignAndEncrypt"
    insecure_ack: Annotated[
        InsecureAck,
        Field(
            description='"<who> <why> <until YYYY-MM-DD>": accept `security: None` to another host; shown and audited.'
        ),
    ] = None
    application_uri: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$",
            description="Our name towards the server; default `urn:fairlead:<source>`. Keep it: resuming needs it. "
            "A certificate that the site puts into `pki/own` (certificate.der, key.pem) must name it.",
        ),
    ] = None
    pin: Annotated[
        str,
        Field(
            pattern=r"^(sha256:[0-9a-f]{64})?$",
            description="`sha256:` and the fingerprint of the server's certificate: it is accepted, and no other.",
        ),
    ] = ""
    user: Annotated[User | None, Field(description="Default: anonymous. Needs a `security` other than None.")] = None
    identity: Annotated[
        Literal["check", "ignore"],
        Field(
            description="check: application URI, product URI, manufacturer, product and `serial_number` are remembered "
            "at the first connect; another device behind the address is not read until `fairlead trust device SOURCE "
            "--accept`. Another software version is noted, and read."
        ),
    ] = "check"
    serial_number: Annotated[
        str | None,
        Field(
            description="Address of the node that holds the device's serial number, such as `SerialNumber` of its "
            "device in the DeviceSet of OPC 10000-100 (DI); `identity: check` compares it."
        ),
    ] = None
    read: Annotated[
        Literal["auto", "subscribe", "cyclic"],
        Field(
            description="`subscribe`, or `cyclic` reads at each tag's interval; `auto` subscribes, and reads where the "
            "server cannot."
        ),
    ] = "auto"
    subscription: Annotated[SubscriptionOptions, Field(description="Sampling, publishing and queues.")] = (
        SubscriptionOptions()
    )
    planned_outage: Annotated[
        Duration, Field(gt=0, description="The server is asked to keep queue and subscription for so long without us.")
    ] = 300.0
    session_timeout: Annotated[
        Duration | None, Field(gt=0, description="Session time-out; default max(120s, planned_outage).")
    ] = None
    recover: Annotated[
        Literal["transfer", "recreate"],
        Field(
            description="After a restart of ours: take over what the server kept, the session after a kill and else "
            "its subscriptions (new ones where it refuses), or make new ones at once."
        ),
    ] = "transfer"
    deadband: Annotated[
        Literal["auto", "server", "client"],
        Field(
            description="Who holds back values inside a tag's deadband: `server` where it takes the filter, else we; "
            "`client` always we; `auto` the server for tags with `detect: none` alone, since detectors need all values."
        ),
    ] = "auto"
    retry: Annotated[Retry, Field(description="Trying refused nodes again.")] = Retry()
    history: Annotated[HistoryOptions, Field(description="Gaps and the server's history.")] = HistoryOptions()
    events: Annotated[
        tuple[EventOptions, ...],
        Field(max_length=100, description="Events and alarms that are watched; default none."),
    ] = ()

    _events_once = field_validator("events")(listed_once)

    @field_validator("serial_number")
    @classmethod
    def _node(cls, text: str | None) -> str | None:
        if text is not None:
            parse_address(text)
        return text

    @field_validator("endpoint")
    @classmethod
    def _address(cls, text: str) -> str:
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError as error:
            raise ValueError(f"{text!r} is not an address: {error}") from None
        if "@" in url.netloc:
            raise ValueError("no user or password in an address; use `user`")
        if url.scheme != "opc.tcp" or not url.hostname:
            raise ValueError("want opc.tcp://host:port/path")
        if port is None:
            text = text.replace(url.netloc, f"{url.netloc.rstrip(':')}:4840", 1)
        return text

    @field_validator("security")
    @classmethod
    def _known_security(cls, text: str) -> str:
        if text == "None":
            return text
        policy, _, mode = text.partition("/")
        if policy not in POLICIES or mode not in MODES:
            wanted = f"one of {', '.join(POLICIES)}, then / and {' or '.join(MODES)}, or None"
            raise ValueError(f"{text!r}: want {wanted}")
        return text

    @model_validator(mode="after")
    def _insecure_by_choice(self) -> OpcUaOptions:
        if self.security == "None":
            if not self.loopback and self.insecure_ack is None:
                raise ValueError(f"security None to another machine: choose a policy, or write insecure_ack: {FORM}")
            if self.user is not None:
                raise ValueError("a user is never sent with security None; choose a policy")
        return self

    def insecure(self) -> Insecure | None:
        """``security: None`` to another host."""
        if self.security != "None" or self.loopback or self.insecure_ack is None:
            return None
        return Insecure.accepted(f"{self.endpoint} with security None", self.insecure_ack)

    def uri(self, source: str) -> str:
        """Our application URI for the source of this name."""
        return self.application_uri or f"urn:fairlead:{source}"

    @property
    def host(self) -> str:
        """Host of the endpoint."""
        return urlsplit(self.endpoint).hostname or ""

    @property
    def port(self) -> int:
        """Port of the endpoint."""
        return urlsplit(self.endpoint).port or 4840

    @property
    def loopback(self) -> bool:
        """Whether the server is on this machine."""
        return is_loopback(self.host)

    def silence_s(self) -> float:
        """The silence limit in seconds that the adapter itself keeps well below, with what it asked the server for."""
        if self.silence_after is not None:
            return self.silence_after
        publishing = self.subscription.publishing
        return max(super().silence_s(), (3 * self.keep_alive_count() + 1) * publishing)

    def session_timeout_s(self) -> float:
        """The session time-out asked for, in seconds."""
        return self.session_timeout if self.session_timeout is not None else max(120.0, self.planned_outage)

    def sampling_s(self, scan_ms: int) -> float:
        """Sampling interval of a tag, in seconds."""
        return self.subscription.sampling if self.subscription.sampling is not None else scan_ms / 1000

    def queue_size(self, sampling_s: float) -> int:
        """Queue size asked for an item that is sampled so often (A22: never leave it to the server)."""
        if isinstance(self.subscription.queue, int):
            return self.subscription.queue
        cover_s = max(2 * self.subscription.publishing, _SHORTEST_QUEUE_S, self.planned_outage)
        return max(2, math.ceil(cover_s / sampling_s))

    def keep_alive_count(self) -> int:
        """Publishing intervals without data after which the server says that it is there."""
        return max(1, math.ceil(self.subscription.keep_alive / self.subscription.publishing))

    def lifetime_count(self) -> int:
        """Publishing intervals without a request of ours after which the server forgets the subscription."""
        return max(3 * self.keep_alive_count(), math.ceil(self.planned_outage / self.subscription.publishing))
