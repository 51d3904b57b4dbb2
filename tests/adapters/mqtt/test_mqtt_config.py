"""Options of kind mqtt: what cannot work safely is refused with a text that says what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.mqtt import MqttOptions
from adapters.mqtt.config import check_tag
from adapters.mqtt.login import read_secret
from schemas.errors import NotConnected
from schemas.tagmap import Tag

SPARKPLUG = [{"filter": "spBv1.0/G/#", "decode": "sparkplug"}]
JSON = [{"filter": "line1/#", "decode": "json"}]


def _options(**more: Any) -> MqttOptions:
    return MqttOptions.model_validate({"broker": "mqtt://127.0.0.1:1883", "subscriptions": JSON, **more})


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"qos": 2}, "QoS 2 would be confirmed before the sample is durable"),
        ({"broker": "mqtt://10.0.0.1:1883"}, "use mqtts:// or state insecure_ack"),
        ({"broker": "mqtt://me:secret@127.0.0.1"}, "belong under user"),
        ({"broker": "tcp://127.0.0.1"}, "mqtt://host:port"),
        ({"broker": "mqtt://10.0.0.1", "insecure_ack": "because"}, "<who> <why> <until>"),
        ({"user": {"name": "a", "password": "hunter2"}}, "a secret is a reference"),
        ({"tls": {}}, "tls needs broker: mqtts"),
        ({"broker": "mqtts://h", "tls": {"cert": "c.pem"}}, "cert and key belong together"),
        ({"protocol": 5}, "'5' or '3.1.1'"),
        ({"subscriptions": []}, "at least 1 item"),
        ({"subscriptions": [{"filter": "#", "decode": "json"}]}, "needs subscribe_all"),
        ({"subscriptions": [{"filter": "$SYS/#", "decode": "plain"}]}, "needs subscribe_all"),
        ({"subscriptions": [{"filter": "$share/g", "decode": "plain"}]}, "write $share/NAME/FILTER"),
        ({"subscriptions": [{"filter": "$share/+/a", "decode": "plain"}]}, "write $share/NAME/FILTER"),
        ({"subscriptions": [{"filter": "$share/g/#", "decode": "plain"}]}, "needs subscribe_all"),
        ({"subscriptions": [*JSON, {"filter": "$share/g/line1/a", "decode": "plain"}]}, "overlap"),
        ({"subscriptions": [{"filter": "$share/g/spBv1.0/#", "decode": "sparkplug"}]}, "no shared subscription"),
        ({"subscriptions": [{"filter": "a/#", "decode": "sparkplug"}]}, "begins with spBv1.0/"),
        ({"subscriptions": [{**SPARKPLUG[0], "time": "ts"}]}, "leave out time"),
        ({"subscriptions": [*SPARKPLUG, {"filter": "spBv1.0/b/#", "decode": "json"}]}, "is decoded as sparkplug"),
        ({"sparkplug": {"reorder": "100ms"}}, "without a subscription with decode: sparkplug"),
        ({"subscriptions": SPARKPLUG, "sparkplug": {"rebirth": "on_need"}}, "set role: secondary_active"),
        ({"subscriptions": SPARKPLUG, "sparkplug": {"role": "secondary_active"}}, "only with rebirth: on_need"),
        ({"subscriptions": SPARKPLUG, "sparkplug": {"role": "primary"}}, "role: primary and host_id"),
        ({"subscriptions": SPARKPLUG, "sparkplug": {"role": "primary", "host_id": "a/b"}}, "one level of a topic"),
        ({"subscriptions": [{"filter": "a#", "decode": "plain"}]}, "# must be the whole last level"),
        ({"subscriptions": [{"filter": "a", "decode": "plain", "time": "ts"}]}, "neither time nor quality"),
        ({"subscriptions": [{"filter": "a", "decode": "json", "time": "ts["}]}, "not a JMESPath"),
        ({"subscriptions": [*JSON, {"filter": "+/press", "decode": "plain"}]}, "overlap"),
        ({"timezone": "Mars/Olympus"}, "IANA time zone"),
        ({"keep_alive": "5s"}, "Extra inputs"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(more: dict[str, Any], text: str) -> None:
    """Each refusal names the reason or what to write."""
    with pytest.raises(ValidationError) as error:
        _options(**more)
    assert text in str(error.value)


def test_defaults_are_the_documented_ones() -> None:
    """QoS 1, MQTT 5, a session of a day, and ports by scheme."""
    options = _options()
    assert (options.qos, options.protocol, options.session_expiry, options.receive_maximum) == (1, "5", 86400, 500)
    assert options.port == 1883
    assert _options(broker="mqtts://plant").port == 8883
    assert _options(broker="mqtt://10.0.0.1", insecure_ack="j.doe test stand 2027-01-31").insecure() is not None


@pytest.mark.parametrize(
    ("address", "type_", "text"),
    [
        ("line1/press#temp", None, None),
        ("line1/+/state#temp", "float64", None),
        ("line1/##temp", None, None),
        ("line2/press#temp", None, "no filter of the source covers"),
        ("+/press#temp", None, "no filter of the source covers"),
        ("line1/press#a[", None, "not a JMESPath"),
        ("line1/press#", None, "empty"),
        ("line1/press#x", "float65", "is not one of"),
        ("line1/press#x", "bytes[4]", "JSON carries no bytes"),
        ("plain/x#temp", None, "no path"),
        ("plain/x", "bytes[4]", None),
    ],
)
def test_tags_are_checked_when_the_map_is_loaded(address: str, type_: str | None, text: str | None) -> None:
    """A tag no filter covers, or that cannot be decoded, is an error before anything runs."""
    options = _options(subscriptions=[*JSON, {"filter": "plain/+", "decode": "plain"}])
    found = check_tag(options, Tag(number=0, id="t", path="S/t", source="m", address=address, type=type_))
    assert (found is None) if text is None else (text in (found or ""))


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("spBv1.0/G/n#Uptime", None),
        ("spBv1.0/G/n/press#Power/Active#1", None),
        ("spBv1.0/G/n/press", "names no metric"),
        ("spBv1.0/G#x", "write spBv1.0/Group/Node/Device#Metric"),
        ("spBv1.0/G/+/press#x", "write spBv1.0/Group/Node/Device#Metric"),
        ("spBv1.0/H/n#x", "no filter of the source covers 'spBv1.0/H/NBIRTH/n'"),
        ("spBv1.0/G/n/a/b#x", "write spBv1.0/Group/Node/Device#Metric"),
    ],
)
def test_metrics_are_checked_when_the_map_is_loaded(address: str, text: str | None) -> None:
    """An address that names no metric, or a node whose births no filter brings, is an error before anything runs."""
    options = _options(subscriptions=[*JSON, *SPARKPLUG])
    found = check_tag(options, Tag(number=0, id="t", path="S/t", source="m", address=address))
    assert (found is None) if text is None else (text in (found or ""))


def test_secrets_are_read_from_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret comes from environment, private file or credential; a file open to others is refused."""
    monkeypatch.setenv("MQTT_PASSWORD", "one")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    path = tmp_path / "pw"
    path.write_text("two\n")
    path.chmod(0o600)
    assert [read_secret(ref, tmp_path) for ref in ("env:MQTT_PASSWORD", "file:pw", "cred:pw")] == ["one", "two", "two"]
    path.chmod(0o644)
    with pytest.raises(NotConnected, match="others may read"):
        read_secret("file:pw", tmp_path)
    with pytest.raises(NotConnected, match="NO_SUCH_NAME"):
        read_secret("env:NO_SUCH_NAME", tmp_path)


@pytest.mark.parametrize("url", ["mqtts://host:99999", "mqtt://127.0.0.1:0", "mqtts://host/path", "mqtts://host#x"])
def test_a_broker_address_that_cannot_be_is_an_error_of_the_file(url: str) -> None:
    """A wrong port or a path is found by check, not at run time."""
    with pytest.raises(ValidationError):
        MqttOptions.model_validate({"broker": url, "subscriptions": [{"filter": "t", "decode": "plain"}]})
