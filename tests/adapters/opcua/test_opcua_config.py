"""Options of kind opcua: what is refused, and what follows from them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.base import REGISTRY
from adapters.opcua import OpcUaOptions
from schemas.tagmap import Tag


def _options(**more: Any) -> OpcUaOptions:
    return OpcUaOptions.model_validate({"endpoint": "opc.tcp://plc.plant:4840/UA", **more})


def test_default_is_signed_and_encrypted() -> None:
    """Nothing said, the channel is Basic256Sha256/SignAndEncrypt and the port 4840."""
    options = OpcUaOptions.model_validate({"endpoint": "opc.tcp://plc.plant/UA"})
    assert options.security == "Basic256Sha256/SignAndEncrypt"
    assert (options.host, options.port, options.endpoint) == ("plc.plant", 4840, "opc.tcp://plc.plant:4840/UA")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"endpoint": "opc.tcp://me:secret@plc:4840/"}, "no user or password"),
        ({"endpoint": "http://plc/"}, "want opc.tcp"),
        ({"endpoint": "opc.tcp://plc:notaport/"}, "not an address"),
        ({"security": "Basic128Rsa15/Sign"}, "one of Basic256Sha256"),
        ({"security": "Basic256Sha256/Nothing"}, "one of Basic256Sha256"),
        ({"security": "None"}, "insecure_ack"),
        ({"security": "None", "insecure_ack": "  "}, "<who> <why> <until>"),
        ({"security": "None", "insecure_ack": "A. Moreau, test cell, until 2027-01"}, "<who> <why> <until>"),
        ({"security": "None", "insecure_ack": "a.moreau test cell 2027-02-30"}, "insecure_ack"),
        (
            {"security": "None", "insecure_ack": "me test 2999-12-31", "user": {"name": "a", "password": "env:A"}},
            "a user is never sent with security None",
        ),
        ({"user": {"name": "a", "password": "hunter2"}}, "pattern"),
        ({"user": {"name": "a"}}, "want `name` and `password`, or `cert` and `key`"),
        ({"user": {"cert": "a.der"}}, "want `name` and `password`, or `cert` and `key`"),
        ({"user": {"name": "a", "password": "env:A", "cert": "a", "key": "file:b"}}, "want `name` and `password`, or"),
        ({"user": {"cert": "a.der", "key": "env:KEY"}}, "pattern"),
        ({"pin": "sha256:abc"}, "pattern"),
        ({"subscription": {"queue": 0}}, "greater than or equal to 1"),
        ({"subscription": {"publishing": "0s"}}, "greater than 0"),
        ({"planned_outage": 300}, "has no unit"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_wrong_options_are_refused(more: dict[str, Any], words: str) -> None:
    """Each mistake is told in words that name the remedy."""
    with pytest.raises(ValidationError, match=words):
        _options(**more)


def test_insecure_needs_an_acknowledgement_only_beyond_this_machine() -> None:
    """Security None is taken on loopback, and elsewhere with a named person."""
    assert _options(endpoint="opc.tcp://127.0.0.1:4840/", security="None").loopback
    ours = _options(security="None", insecure_ack="a.moreau test cell 2027-01-31")
    assert not ours.loopback
    found = ours.insecure()
    assert found is not None
    assert (found.who, found.why, found.until) == ("a.moreau", "test cell", date(2027, 1, 31))
    assert _options(insecure_ack="a.moreau test cell 2027-01-31").insecure() is None
    assert _options(endpoint="opc.tcp://127.0.0.1:4840/", security="None").insecure() is None


def test_counts_follow_the_formula() -> None:
    """Queue, keep-alive and lifetime cover what the configuration reference says."""
    options = _options(subscription={"publishing": "500ms", "keep_alive": "10s"}, planned_outage="5min")
    assert options.keep_alive_count() == 20
    assert options.lifetime_count() == 600
    assert options.queue_size(0.1) == 3000
    assert options.session_timeout_s() == 300
    short = _options(planned_outage="1s", subscription={"publishing": "1s"})
    assert short.queue_size(0.1) == 100
    assert short.lifetime_count() == 30
    assert short.session_timeout_s() == 120
    assert _options(subscription={"queue": 7}).queue_size(0.1) == 7
    assert _options(subscription={"sampling": "20ms"}).sampling_s(1000) == 0.02
    assert _options().sampling_s(250) == 0.25


@pytest.mark.parametrize(
    ("more", "limit_s"),
    [
        ({}, 31),
        ({"scan": "20s"}, 60),
        ({"subscription": {"keep_alive": "30s"}}, 91),
        ({"subscription": {"keep_alive": "1s", "publishing": "100s"}}, 400),
        ({"subscription": {"keep_alive": "30s"}, "silence_after": "40s"}, 40),
    ],
)
def test_the_outer_silence_limit_is_above_three_keep_alives(more: dict[str, Any], limit_s: float) -> None:
    """The adapter's own limit, twice the keep-alive, comes first; what a person wrote counts as it is."""
    assert _options(**more).silence_s() == limit_s


def test_a_password_may_be_a_credential() -> None:
    """env:, file: and cred: name a secret."""
    for reference in ("env:A", "file:a", "cred:a"):
        assert _options(user={"name": "a", "password": reference}).user is not None


def test_every_option_is_described() -> None:
    """Each option carries the text that becomes its reference."""

    def walk(schema: dict[str, Any]) -> None:
        for name, field in schema.get("properties", {}).items():
            assert field.get("description"), name
        for part in schema.get("$defs", {}).values():
            walk(part)

    walk(OpcUaOptions.model_json_schema())


def test_a_wrong_address_is_told_when_the_map_is_loaded() -> None:
    """The registered check names what is wrong with a tag's address."""
    spec = REGISTRY["opcua"]
    tag = Tag(number=0, id="t", path="A/B/T", source="s", address="Temperature")
    assert "not a node address" in (spec.check_tag(_options(), tag) or "")
    assert spec.check_tag(_options(), tag.model_copy(update={"address": "nsu=urn:x;s=T"})) is None
