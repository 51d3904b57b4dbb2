"""The registry over HTTP: what there is, what comes in, who may."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.model_watch import ModelWatch
from broker.models import keys, registry
from broker.models.media import open_medium
from broker.models.options import WatchOptions
from llm.model_file import builtins
from tests.broker.api.core import Core
from tests.broker.core.test_model_watch import Serving
from tests.broker.models.conftest import Integrator
from tests.broker.models.site import AXES, DAY, KEY, T0, answer

DECISION = {
    "use": "annotation",
    "model": "builtin:plant-tiny",
    "rung": "builtin",
    "axes": AXES.model_dump(),
    "reason": "it is there",
}


@pytest.fixture
def integrator() -> Integrator:
    return Integrator(Ed25519PrivateKey.generate())


def actions(core: Core) -> list[tuple[str, str]]:
    return [(row.action, row.actor) for row in core.store.reader().audit(limit=10)]


def test_the_registry_is_listed(core: Core) -> None:
    """The built-in model is always there; a consumer has no business with it."""
    told = core.as_role("engineer").get("/api/v1/models").json()
    assert [one["name"] for one in told["models"]] == [f"builtin:{name}" for name in builtins()]
    assert (told["decisions"], told["incidents"], told["serving"]["figures"]) == ([], [], None)
    assert core.as_role("consumer").get("/api/v1/models").status_code == 403


def test_files_come_in_once_a_trusted_key_signed_them(core: Core, tmp_path: Path, integrator: Integrator) -> None:
    """Core verifies by itself: without trust, and without files, it says 409; the audit names the person."""
    config = core.services.config
    admin = core.as_role("admin", name="root")
    trust = registry.trust_of(config)
    trust.add("release", integrator.private.public_key())
    held = registry.shelf_of(config).place(open_medium(integrator.medium(tmp_path / "m"), trust))
    (trust.folder / "release.pub").unlink()
    body = {"manifest_sha256": held.manifest.sha256}
    answer = admin.post("/api/v1/models/imports", json=body)
    assert (answer.status_code, "does not trust" in answer.text) == (409, True)
    assert admin.post("/api/v1/models/imports", json={"manifest_sha256": "0" * 64}).status_code == 409
    assert admin.post("/api/v1/models/imports", json={"manifest_sha256": "../../x"}).status_code == 422

    pem = keys.pem(integrator.private.public_key()).decode()
    assert core.as_role("integrator").post("/api/v1/models/keys", json={"name": "a", "pem": pem}).status_code == 403
    assert admin.post("/api/v1/models/keys", json={"name": "../a", "pem": pem}).status_code == 409
    assert admin.post("/api/v1/models/keys", json={"name": "a", "pem": "-"}).status_code == 409
    assert admin.post("/api/v1/models/keys", json={"name": "a", "pem": pem}).status_code == 200
    answer = core.as_role("integrator", name="i.kaya").post("/api/v1/models/imports", json=body)
    assert (answer.status_code, answer.json()["name"], answer.json()["imported_by"]) == (
        *(200, "registry:plant-7b", "i.kaya"),
    )
    assert actions(core) == [("model_imported", "i.kaya"), ("model_key_trusted", "root")]


def test_a_decision_is_recorded_with_who_took_it(core: Core) -> None:
    """An axis without words is no decision."""
    integrator = core.as_role("integrator", name="i.kaya")
    empty = {**DECISION, "axes": {**AXES.model_dump(), "cost": " "}}
    assert integrator.post("/api/v1/models/decisions", json=empty).status_code == 422
    assert integrator.post("/api/v1/models/decisions", json=DECISION).status_code == 200
    told = core.as_role("auditor").get("/api/v1/models").json()
    assert (told["decisions"][0]["decided_by"], told["models"][0]["chosen_for"]) == ("i.kaya", ["annotation"])
    assert actions(core) == [("model_chosen", "i.kaya")]


async def test_a_notice_stands_everywhere(core: Core) -> None:
    """In readiness, metrics, list and page; control: without one in none of them."""
    limits = WatchOptions(least=20, baseline=60)
    watch = ModelWatch(core.store.reader(), core.services.writer, Serving(), limits, lambda: T0 + DAY)  # type: ignore[arg-type]
    object.__setattr__(core.services, "watch", watch)
    text = "name no cause of the catalogue"
    engineer = core.as_role("engineer")

    def places() -> list[bool]:
        return [
            text in str(core.client.get("/readyz").json()["notes"]),
            "fairlead_model_over_limit 1.0" in core.client.get("/metrics").text,
            text in str(engineer.get("/api/v1/models").json()["serving"]["notices"]),
            text in engineer.get("/ui/anomalies").text,
        ]

    await watch.look()
    assert places() == [False] * 4
    assert "fairlead_model_over_limit 0.0" in core.client.get("/metrics").text
    core.write(lambda tx: [answer(tx, number, cause="unknown") for number in range(30)])
    await watch.look()
    assert places() == [True] * 4
    assert "fairlead_model_unknown_rate 1.0" in core.client.get("/metrics").text
    told = engineer.get("/api/v1/models").json()
    assert (told["incidents"][0]["kind"], told["incidents"][0]["model_key"]) == ("unknown_rate", KEY)
    assert told["serving"]["figures"]["over"].keys() == {"unknown_rate"}
