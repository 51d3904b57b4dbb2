"""Options of kind ``mqtt``, and the check of its tags."""

from __future__ import annotations

import math
import re
from itertools import combinations
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import jmespath
from pydantic import Field, field_validator, model_validator

from adapters import timestamps, values
from adapters.base import Options, SourceOptions
from adapters.insecure import Insecure, InsecureAck
from adapters.mqtt.sparkplug.options import SparkplugOptions
from adapters.mqtt.sparkplug.topics import is_sparkplug, needed
from adapters.mqtt.sparkplug.topics import parse_address as parse_metric
from adapters.mqtt.topics import check_filter, covers, overlap, parse_address, plain_filter
from adapters.secrets import is_loopback
from schemas.quantities import Duration, Size
from schemas.tagmap import Tag

_SECRET = re.compile(r"^(?:env|file|cred):.+$")
#: Keep-alives without any packet after which the connection is given up from outside; the library needs two.
_KEEPALIVES: Final = 3


def _secret(text: str) -> str:
    if _SECRET.match(text) is None:
        raise ValueError("a secret is a reference: env:NAME, file:NAME or cred:NAME")
    return text


def _jmespath(text: str | None) -> str | None:
    if text is not None:
        try:
            jmespath.compile(text)
        except ValueError as error:  # jmespath's errors are ValueErrors
            raise ValueError(f"not a JMESPath: {str(error).splitlines()[0]}") from error
    return text


class User(Options):
    """Name and password at the broker."""

    name: Annotated[str, Field(min_length=1, description="User name; better not the client id.")]
    password: Annotated[str | None, Field(description="Secret reference: env:NAME, file:NAME or cred:NAME.")] = None

    @field_validator("password")
    @classmethod
    def _reference(cls, text: str | None) -> str | None:
        return None if text is None else _secret(text)


class Tls(Options):
    """Certificates; verification of the broker's name and chain cannot be switched off."""

    ca: Annotated[str | None, Field(description="File of accepted authorities; default the system's.")] = None
    cert: Annotated[str | None, Field(description="Our certificate, where the broker asks for one.")] = None
    key: Annotated[str | None, Field(description="Private key: file name, or file:NAME or cred:NAME.")] = None

    @model_validator(mode="after")
    def _pair(self) -> Tls:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together")
        return self


class Limits(Options):
    """What one message may be; beyond it the message is quarantined and acknowledged."""

    payload: Annotated[Size, Field(gt=0, description="Longest payload.")] = 256 * 1024
    topic: Annotated[Size, Field(gt=0, description="Longest topic.")] = 512
    levels: Annotated[int, Field(gt=0, description="Most levels of a topic.")] = 64
    json_depth: Annotated[int, Field(gt=0, le=100, description="Deepest nesting of a JSON payload.")] = 16


class Subscription(Options):
    """One topic filter and how to read what comes."""

    filter: Annotated[
        str,
        Field(
            description="Topic filter; filters of one source must not overlap. $share/NAME/FILTER shares the messages "
            "with other clients: no order between them, no retained messages."
        ),
    ]
    decode: Annotated[
        Literal["json", "plain", "sparkplug"],
        Field(description="json by path; plain: the payload is the value; sparkplug: Sparkplug B."),
    ]
    time: Annotated[str | None, Field(description="JMESPath of the sample's time; absent: time of arrival.")] = None
    time_format: Annotated[timestamps.TimeFormat, Field(description="Form of the time.")] = "iso8601"
    quality: Annotated[str | None, Field(description="JMESPath of the quality; absent: good, flag assumed.")] = None
    quality_format: Annotated[
        values.QualityFormat,
        Field(description="text: good, bad, StatusCode names; opcua: StatusCode numbers; classic: 192, 64, 0."),
    ] = "text"
    numbers: Annotated[values.Numbers, Field(description="Decimal mark of numbers written as text.")] = "point"

    @property
    def matches(self) -> str:
        """The filter of topics, without the name of a shared subscription."""
        return plain_filter(self.filter)

    @field_validator("filter")
    @classmethod
    def _filter(cls, text: str) -> str:
        check_filter(plain_filter(text))
        return text

    @field_validator("time", "quality")
    @classmethod
    def _path(cls, text: str | None) -> str | None:
        return _jmespath(text)

    @model_validator(mode="after")
    def _plain(self) -> Subscription:
        if self.decode == "plain" and (self.time or self.quality):
            raise ValueError("a plain payload has neither time nor quality")
        written = {"time", "time_format", "quality", "quality_format", "numbers"} & self.model_fields_set
        if self.decode == "sparkplug" and written:
            raise ValueError(f"Sparkplug says time, quality and type itself: leave out {', '.join(sorted(written))}")
        if self.decode == "sparkplug" and self.filter != self.matches:
            raise ValueError("Sparkplug needs every message of a node in its order: no shared subscription")
        if self.decode == "sparkplug" and not is_sparkplug(self.filter):
            raise ValueError("the filter of decode: sparkplug begins with spBv1.0/, such as spBv1.0/Group/#")
        return self


class MqttOptions(SourceOptions):
    """Subscribes to topics of one MQTT broker; nothing is published unless ``sparkplug.role`` says so."""

    kind: Literal["mqtt"] = "mqtt"
    broker: Annotated[str, Field(description="mqtt://host:port or mqtts://host:port.")]
    scan: Annotated[
        Duration, Field(gt=0, description="Refused: values come when they are published; nothing is polled.")
    ] = 1.0
    silence_after: Annotated[
        Duration | None,
        Field(description="Reconnect when nothing at all came for so long; default, and at least, 3 keepalives."),
    ] = None
    protocol: Annotated[Literal["5", "3.1.1"], Field(description="Version of MQTT, as text.")] = "5"
    client_id: Annotated[
        str | None,
        Field(min_length=1, max_length=128, description="Fixed name of our session; default one made once and kept."),
    ] = None
    user: Annotated[User | None, Field(description="Name and password at the broker.")] = None
    tls: Annotated[Tls | None, Field(description="Certificates for mqtts://.")] = None
    insecure_ack: Annotated[
        InsecureAck,
        Field(description='"<who> <why> <until YYYY-MM-DD>": accept mqtt:// to another host; shown and audited.'),
    ] = None
    qos: Annotated[Literal[0, 1], Field(description="1: acknowledged when journalled; 0: best effort.")] = 1
    session_expiry: Annotated[
        Duration,
        Field(
            gt=0,
            description="How long the broker keeps our session (MQTT 5; under 3.1.1 the broker decides); longer than "
            "planned downtime.",
        ),
    ] = 24 * 3600.0
    receive_maximum: Annotated[
        int,
        Field(
            ge=1,
            le=65535,
            description="Unacknowledged messages at most (MQTT 5; under 3.1.1 the broker decides); at least "
            "rate x 1 s.",
        ),
    ] = 500
    keepalive: Annotated[Duration, Field(ge=2, le=65535, description="Sign of life at least this often.")] = 30.0
    retained: Annotated[
        Literal["uncertain", "ignore"], Field(description="Kept messages: take as uncertain last value, or skip.")
    ] = "uncertain"
    subscribe_all: Annotated[bool, Field(description="Allow the filter # and filters that begin with $.")] = False
    timezone: Annotated[str | None, Field(description="IANA zone of times that name none.")] = None
    limits: Annotated[Limits, Field(description="Bounds of one message.")] = Limits()
    sparkplug: Annotated[SparkplugOptions, Field(description="For decode: sparkplug.")] = SparkplugOptions()
    subscriptions: Annotated[tuple[Subscription, ...], Field(min_length=1, description="What to subscribe to.")]

    @property
    def host(self) -> str:
        """Host name or address of the broker."""
        return urlsplit(self.broker).hostname or ""

    @property
    def port(self) -> int:
        """TCP port of the broker; 1883, or 8883 with TLS, where none is named."""
        return urlsplit(self.broker).port or (8883 if self.encrypted else 1883)

    @property
    def encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return urlsplit(self.broker).scheme == "mqtts"

    def insecure(self) -> Insecure | None:
        """mqtt:// to another host."""
        if self.encrypted or is_loopback(self.host) or self.insecure_ack is None:
            return None
        return Insecure.accepted(f"mqtt://{self.host}", self.insecure_ack)

    @property
    def speaks_sparkplug(self) -> bool:
        """Whether a subscription is decoded as Sparkplug B."""
        return any(item.decode == "sparkplug" for item in self.subscriptions)

    def silence_s(self) -> float:
        """The effective silence limit in seconds: an idle broker answers within twice the keep-alive, or is dead."""
        return self.silence_after if self.silence_after is not None else _KEEPALIVES * math.ceil(self.keepalive)

    @field_validator("qos", mode="before")
    @classmethod
    def _qos(cls, value: object) -> object:
        if value == 2:
            raise ValueError("QoS 2 would be confirmed before the sample is durable; use 1")
        return value

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str | None) -> str | None:
        if name is not None:
            timestamps.zone(name)
        return name

    @field_validator("broker")
    @classmethod
    def _broker(cls, text: str) -> str:
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError as error:
            raise ValueError(f"write mqtt://host:port or mqtts://host:port: {error}") from None
        more = url.path.strip("/") or url.query or url.fragment
        if url.scheme not in ("mqtt", "mqtts") or not url.hostname or more or port == 0:
            raise ValueError("write mqtt://host:port or mqtts://host:port, and nothing behind the port")
        if url.username is not None or url.password is not None:
            raise ValueError("name and password belong under user, not into the address")
        return text

    @model_validator(mode="after")
    def _effective(self) -> MqttOptions:
        written = self.model_fields_set
        if "scan" in written:
            raise ValueError("scan changes nothing for mqtt, nothing is polled: leave it out")
        for name in ("session_expiry", "receive_maximum"):
            if self.protocol == "3.1.1" and name in written:
                raise ValueError(f'{name} has no effect under protocol "3.1.1": set it at the broker and leave it out')
        least_s = _KEEPALIVES * math.ceil(self.keepalive)
        if self.silence_after is not None and self.silence_after < least_s:
            raise ValueError(
                f"silence_after must be at least 3 keepalives, {least_s}s: an idle broker is silent between"
            )
        return self

    @model_validator(mode="after")
    def _whole(self) -> MqttOptions:
        if not self.encrypted and self.tls is not None:
            raise ValueError("tls needs broker: mqtts://…")
        if not self.encrypted and not is_loopback(self.host) and self.insecure_ack is None:
            raise ValueError("mqtt:// to another host is readable on the wire: use mqtts:// or state insecure_ack")
        for item in self.subscriptions:
            if not self.subscribe_all and (item.matches == "#" or item.matches.startswith("$")):
                raise ValueError(f"filter {item.filter!r} needs subscribe_all: true")
        for item in self.subscriptions:
            if self.speaks_sparkplug and item.decode != "sparkplug" and is_sparkplug(item.matches):
                raise ValueError(f"filter {item.filter!r}: what is under spBv1.0/ is decoded as sparkplug")
        if "sparkplug" in self.model_fields_set and not self.speaks_sparkplug:
            raise ValueError("sparkplug changes nothing without a subscription with decode: sparkplug")
        for one, other in combinations([item.matches for item in self.subscriptions], 2):
            if overlap(one, other):
                raise ValueError(f"filters {one!r} and {other!r} overlap: the broker may send a message twice")
        return self

    def listening(self) -> MqttOptions:
        """These options for a look beside the source: nothing is published, and no message taken from who shares it."""
        own = tuple(item.model_copy(update={"filter": item.matches}) for item in self.subscriptions)
        return self.model_copy(update={"sparkplug": self.sparkplug.listening(), "subscriptions": own})

    def subscription_of(self, topic: str) -> Subscription | None:
        """The subscription whose filter covers a tag's topic."""
        return next((item for item in self.subscriptions if covers(item.matches, topic)), None)


def check_tag(options: MqttOptions, tag: Tag) -> str | None:
    """What is wrong with a tag of this kind, or None."""
    if not values.known_type(tag.type):
        return f"type {tag.type!r} is not one of bool, int8..uint64, float32, float64, string[n], bytes[n]"
    if options.speaks_sparkplug and is_sparkplug(tag.address):
        return _check_metric(options, tag.address)
    try:
        topic, path = parse_address(tag.address)
        _jmespath(path)
    except ValueError as error:
        return str(error)
    subscription = options.subscription_of(topic)
    if subscription is None:
        return f"no filter of the source covers the topic {topic!r}"
    if subscription.decode == "plain" and path is not None:
        return f"{subscription.filter!r} is decoded plain: there is no path {path!r} in it"
    if subscription.decode == "json" and (tag.type or "").startswith("bytes"):
        return "JSON carries no bytes"
    return None


def _check_metric(options: MqttOptions, address: str) -> str | None:
    """What is wrong with the address of a Sparkplug metric: its form, or a birth or death that no filter brings."""
    try:
        metric = parse_metric(address)
    except ValueError as error:
        return str(error)
    groups = options.sparkplug.groups
    if groups is not None and metric.edge.group not in groups:
        return f"group {metric.edge.group!r} is not in sparkplug.groups"
    for topic in needed(metric):
        if options.subscription_of(topic) is None:
            return f"no filter of the source covers {topic!r}, without which the metric cannot be read"
    return None
