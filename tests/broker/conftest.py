"""Evidence, anomalies and annotations as the broker's tests need them."""

from __future__ import annotations

import pytest

from broker.catalogue import catalogue
from llm.rules import annotate_by_rules
from schemas.annotation import Annotation
from schemas.anomaly import Anomaly, Kind, Member, Severity
from schemas.evidence import Evidence, Fact

SECOND = 1_000_000_000
T0 = 1_790_000_000 * SECOND
P101 = "Acme/Lyon/Utilities/Skid1/P101"


def make_member(name: str, **changes: object) -> Member:
    """One member of an episode on P101, a mean shift upwards unless told otherwise."""
    fields: dict[str, object] = {
        "tag_id": f"t-{name.lower()}",
        "path": f"{P101}/{name}",
        "unit": "Cel",
        "detector": "ewma",
        "kind": Kind.MEAN_SHIFT,
        "direction": "rose",
        "onset_ns": T0,
        "last_ns": T0 + 5 * SECOND,
        "active": True,
        "value": 70.0,
        "peak": 74.2,
        "low": 45.0,
        "high": 52.0,
        "score": 6.5,
    }
    return Member.model_validate({**fields, **changes})


@pytest.fixture
def anomaly() -> Anomaly:
    """An open episode on P101: bearing temperature, then vibration."""
    return Anomaly(
        anomaly_id="a1" * 8,
        revision=2,
        equipment=P101,
        state="open",
        kind=Kind.MEAN_SHIFT,
        severity=Severity.HIGH,
        ne107="S",
        onset_ns=T0,
        updated_ns=T0 + 5 * SECOND,
        closed_ns=None,
        detector_score=6.5,
        members=(make_member("BearingTemp"), make_member("Vibration", unit="mm/s", onset_ns=T0 + SECOND)),
    )


@pytest.fixture
def evidence(anomaly: Anomaly) -> Evidence:
    """Evidence of that episode with the catalogue of pumps."""
    options = catalogue("centrifugal_pump")
    facts = (
        Fact(
            id="E1",
            kind="deviation",
            path=f"{P101}/BearingTemp",
            unit="Cel",
            direction="rose",
            value=74.2,
            baseline=47.4,
            sigmas=31.0,
            rank=1,
            from_ns=T0,
            samples=25,
        ),
        Fact(
            id="E2",
            kind="deviation",
            path=f"{P101}/Vibration",
            unit="mm/s",
            direction="rose",
            value=5.9,
            baseline=1.65,
            sigmas=12.0,
            rank=2,
            from_ns=T0 + SECOND,
            samples=20,
        ),
        Fact(id="E3", kind="neighbour", path=f"{P101}/Flow", unit="m3/h", value=38.0, baseline=38.1),
    )
    return Evidence(
        anomaly_id=anomaly.anomaly_id,
        anomaly_revision=anomaly.revision,
        equipment=anomaly.equipment,
        equipment_class="centrifugal_pump",
        kind=anomaly.kind,
        severity=anomaly.severity,
        ne107=anomaly.ne107,
        at_ns=anomaly.updated_ns,
        record_seq=100,
        facts=facts,
        causes=options.causes,
        actions=options.actions,
    )


@pytest.fixture
def annotation(evidence: Evidence) -> Annotation:
    """What the rules say of that evidence."""
    return annotate_by_rules(evidence, detector_score=6.5, created_ns=T0 + 6 * SECOND)
