"""What core says of a model in service: raised once, ended once, kept over a restart; crashes are counted."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker import events
from broker.core.model_watch import ModelWatch
from broker.core.writer import Writer
from broker.journal import JournalFiles
from broker.models.options import WatchOptions
from broker.store import Store
from llm.client import Reasoner, ReasonerState
from llm.options import ReasonerOptions
from schemas.errors import StoreError
from tests.broker.core.stream import make_pipeline
from tests.broker.models.site import DAY, KEY, T0, answer, configured, opened
from tests.waiting import until_async

LIMITS = WatchOptions(least=20, baseline=60)


class Serving:
    """A reasoner as the watch sees it: a model that serves, and what happened to it."""

    def __init__(self) -> None:
        self.crashes = 0
        self.status = "ready"

    @property
    def state(self) -> ReasonerState:
        return ReasonerState(
            status=self.status,  # type: ignore[arg-type]
            reason="the worker ended by SIGABRT" if self.crashes else "",
            model_name="plant-7b@3",
            model_sha256=KEY,
            crashes=self.crashes,
            answered=0,
            fallbacks=0,
            sandbox={},
            model_key=KEY,
            last_crash="the worker ended by SIGABRT",
        )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(configured(tmp_path)) as store:
        yield store


@pytest.fixture
def writer(store: Store, tmp_path: Path) -> Iterator[Writer]:
    (tmp_path / "journal").mkdir()
    writer = Writer(store, lambda: make_pipeline(store, JournalFiles(tmp_path / "journal")))
    writer.start()
    yield writer
    writer.stop()


@pytest.fixture
def make(store: Store, writer: Writer) -> Callable[..., ModelWatch]:
    def make(serving: object, at_ns: int = T0 + DAY) -> ModelWatch:
        return ModelWatch(store.reader(), writer, serving, LIMITS, lambda: at_ns)  # type: ignore[arg-type]

    return make


def unknowns(store: Store, count: int, begin: int = 0) -> None:
    with store.transaction() as tx:
        for number in range(begin, begin + count):
            answer(tx, number, cause="unknown")


async def test_a_notice_is_raised_once_and_ended_once(store: Store, make: Callable[..., ModelWatch]) -> None:
    """Log, counter, text, row and audit; again after a restart it is not raised anew."""
    unknowns(store, 30)
    before = events.MODEL_NOTICES.labels("unknown_rate")._value.get()
    watch = make(Serving())
    with capture_logs() as logs:
        await watch.look()
        await watch.look()
    assert [(log["event"], log["kind"], log["model"]) for log in logs] == [
        ("model_notice_raised", "unknown_rate", "plant-7b@3")
    ]
    assert events.MODEL_NOTICES.labels("unknown_rate")._value.get() == before + 1
    assert watch.notices[0].startswith("Model plant-7b@3: 100% of its answers of 7 days name no cause")
    assert watch.last is not None
    assert watch.last.answers == 30
    assert [(row.kind, row.ended_ns) for row in store.reader().model_incidents()] == [("unknown_rate", None)]
    assert [row.action for row in store.reader().audit()] == ["model_notice"]

    restarted = make(Serving())
    with capture_logs() as logs:
        await restarted.look()
    assert logs == []
    assert restarted.notices == watch.notices

    later = make(Serving(), T0 + 30 * DAY)  # the answers have left the window
    with capture_logs() as logs:
        await later.look()
    assert [log["event"] for log in logs] == ["model_notice_ended"]
    assert later.notices == []
    assert store.reader().model_incidents(open_only=True) == []


async def test_a_model_within_its_limits_is_quiet(store: Store, make: Callable[..., ModelWatch]) -> None:
    """Control: the same number of answers that name a cause."""
    with store.transaction() as tx:
        for number in range(30):
            answer(tx, number)
    watch = make(Serving())
    with capture_logs() as logs:
        await watch.look()
    assert (logs, watch.notices, store.reader().model_incidents()) == ([], [], [])
    assert watch.last is not None


async def test_a_store_that_does_not_answer_is_told_once(
    store: Store, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch goes on, and works when the store does."""
    unknowns(store, 30)
    reader = store.reader()
    watch = ModelWatch(reader, writer, Serving(), LIMITS, lambda: T0 + DAY)  # type: ignore[arg-type]

    def broken(*_: object, **__: object) -> None:
        raise StoreError("no disk")

    with capture_logs() as logs, monkeypatch.context() as patch:
        patch.setattr(reader, "model_counts", broken)
        await watch.look()
        await watch.look()
    assert [log["event"] for log in logs] == ["model_not_watched"]
    await watch.look()
    assert len(watch.notices) == 1


async def test_crashes_are_written_down(store: Store, make: Callable[..., ModelWatch]) -> None:
    """Each once, and that the model was given up; nothing while nothing happens."""
    serving = Serving()
    watch = make(serving)
    with capture_logs() as logs:
        await watch.look_for_crashes()
        serving.crashes = 2
        await watch.look_for_crashes()
        serving.crashes, serving.status = 3, "quarantined"
        await watch.look_for_crashes()
        await watch.look_for_crashes()
    kinds = [row.kind for row in store.reader().model_incidents()]
    assert kinds == ["quarantined", "crash", "crash", "crash"]
    assert [log["event"] for log in logs] == ["model_crashed"] * 3 + ["model_given_up"]
    assert store.reader().model_crashes() == {KEY: 3}
    assert [row.action for row in store.reader().audit()] == ["model_quarantined"]


@pytest.fixture
async def reasoner(tmp_path: Path) -> AsyncIterator[Reasoner]:
    one = Reasoner(ReasonerOptions(), base_dir=tmp_path, now_ns=lambda: T0)
    await one.start()
    yield one
    await one.close()


@pytest.mark.model
async def test_a_worker_that_is_killed_is_a_crash_of_its_model(
    store: Store, make: Callable[..., ModelWatch], reasoner: Reasoner
) -> None:
    """A real worker: its end comes into the registry under the model's own key, by the running watch."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    await until_async(lambda: reasoner.state.status == "ready", 30)
    watch = make(reasoner)
    running = asyncio.create_task(watch.run())
    try:
        assert reasoner.worker_pid is not None
        os.kill(reasoner.worker_pid, signal.SIGKILL)
        await until_async(lambda: store.reader().model_crashes() == {reasoner.state.model_key: 1}, 20)
    finally:
        running.cancel()
        await asyncio.wait([running])
    (row,) = store.reader().model_incidents()
    assert (row.model, "SIGKILL" in row.detail) == ("plant-tiny", True)
