"""A detector of which people reject too much is told of once, and once that it is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from broker import events
from broker.core.detector_watch import DetectorWatch
from broker.store import Reader, Store
from detectors.options import RejectOptions
from schemas.errors import StoreError
from tests.broker.models.site import configured, opened
from tests.broker.store.found import find
from tests.broker.store.plant import T0, S

PARIS = ZoneInfo("Europe/Paris")
WEEK = 604_800 * S
LIMITS = RejectOptions.model_validate({"least": 5, "rate": "50%"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(configured(tmp_path)) as store:
        yield store


def findings(store: Store, detector: str, approved: int, rejected: int) -> None:
    with store.transaction() as tx:
        for place in range(approved + rejected):
            find(tx, f"{detector}{place}", detector, T0 + place * S, "approved" if place < approved else "not_abnormal")


async def test_a_notice_is_raised_once_and_ended_once(store: Store) -> None:
    """Log, counter and text; two weeks later nobody decides on those anomalies any more."""
    findings(store, "ewma", 2, 4)
    findings(store, "pca", 4, 2)  # control: within the limit
    now = [T0 + 60 * S]
    before = events.DETECTOR_NOTICES.labels("ewma")._value.get()
    watch = DetectorWatch(store.reader(), PARIS, LIMITS, lambda: now[0])
    with capture_logs() as logs:
        await watch.look()
        await watch.look()
    assert [(log["event"], log["detector"]) for log in logs] == [("detector_notice_raised", "ewma")]
    assert events.DETECTOR_NOTICES.labels("ewma")._value.get() == before + 1
    assert watch.notices == [
        "Detector ewma: people rejected 4 of the 6 anomalies of 2025-W41 that they decided on (67%, 4 as nothing "
        "abnormal); the limit is 50%."
    ]
    now[0] += WEEK
    with capture_logs() as logs:
        await watch.look()
        now[0] += WEEK
        await watch.look()
    assert ([log["event"] for log in logs], watch.notices) == (["detector_notice_ended"], [])


async def test_a_store_that_cannot_be_read_is_told_once(store: Store) -> None:
    """The notices stay as they were; the next look that reads goes on."""
    findings(store, "ewma", 0, 5)

    class Broken:
        broken = False

        def detector_counts(self, *args: object, **kwargs: object) -> object:
            if self.broken:
                raise StoreError("the store cannot be read: disk I/O error")
            return store.reader().detector_counts(*args, **kwargs)  # type: ignore[arg-type]

    broken = Broken()
    reader: Reader = broken  # type: ignore[assignment]
    watch = DetectorWatch(reader, PARIS, LIMITS, lambda: T0 + 60 * S)
    await watch.look()
    broken.broken = True
    with capture_logs() as logs:
        await watch.look()
        await watch.look()
    assert ([log["event"] for log in logs], len(watch.notices)) == (["detectors_not_watched"], 1)
    broken.broken = False
    with capture_logs() as logs:
        await watch.look()
    assert (logs, len(watch.notices)) == ([], 1)
