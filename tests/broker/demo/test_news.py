"""What the demo prints while it runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from broker.demo.run import _news, _State

STARTED = datetime(2026, 11, 26, 4, 0, tzinfo=UTC)


def _state(**what: Any) -> _State:
    return _State("http://127.0.0.1:8080/", 0.0, STARTED, **what)


def _texts(state: _State, told: set[str]) -> list[str]:
    return [line.partition(" s  ")[2] for line in _news(state, told)]


def test_a_source_flows_when_its_live_records_are_there() -> None:
    """Those of the recording came before the broker, and do not count."""
    source = {"name": "skid_plc", "kind": "modbus", "records": 9000, "last_received": "2026-11-26T03:59:59.9Z"}
    told: set[str] = set()

    assert _texts(_state(sources=[source]), told) == []
    source["last_received"] = "2026-11-26T04:00:02.123456789Z"
    assert _texts(_state(sources=[source]), told) == ["records flow from skid_plc (modbus)"]
    assert _texts(_state(sources=[source]), told) == []


def test_faults_are_told_in_words() -> None:
    """Names of equipment keep their capitals."""
    state = _state(faults=["FAULT begins bearing_wear P101", "FAULT ends bearing_wear P101"])

    assert _texts(state, set()) == ["plant: bearing wear begins on P101", "plant: bearing wear ends on P101"]


def test_a_request_that_waits_is_told_once() -> None:
    """The model's explanation after the rules' is news, that the request waits is not."""
    anomaly = {
        "anomaly_id": "a",
        "annotation_id": "n",
        "equipment": "Demo/Site/P101",
        "title": "pattern on MotorPower",
        "cause": "Bearing wear",
        "origin": "rules",
        "review": None,
    }
    told: set[str] = set()

    assert _texts(_state(anomalies=[anomaly]), told) == [
        "anomaly on P101: pattern on MotorPower",
        "explained P101: Bearing wear (by rules)",
        "maintenance request for P101 waits for your approval on the page",
    ]
    anomaly["origin"] = "model"
    assert _texts(_state(anomalies=[anomaly]), told) == ["explained P101: Bearing wear (by the model)"]
    anomaly["cause"] = "Cavitation"
    assert _texts(_state(anomalies=[anomaly]), told) == ["explained P101: Cavitation (by the model)"]
    anomaly["origin"] = "rules"
    assert _texts(_state(anomalies=[anomaly]), told) == []
    anomaly["cause"] = "Blocked discharge"
    assert _texts(_state(anomalies=[anomaly]), told) == ["explained P101: Blocked discharge (by rules)"]
