"""A full model fills in the form of a question that the common forms do not fit; random weights give a valid query."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.ask.fill import fill
from broker.ask.parse import NotUnderstood, parse
from llm.client import Reasoner
from llm.options import ReasonerOptions
from tests.broker.ask.pump_names import CALENDAR, NAMES
from tests.llm.conftest import tiny_gguf  # noqa: F401 - a fixture

pytestmark = pytest.mark.model


@pytest.fixture
async def model(tmp_path: Path, tiny_gguf: Path, eventually) -> AsyncIterator[Reasoner]:  # noqa: F811
    """A reasoner with random weights that is ready."""
    one = Reasoner(ReasonerOptions(model=str(tiny_gguf)), base_dir=tmp_path, now_ns=lambda: 1)
    await one.start()
    await eventually(lambda: one.state.status == "ready")
    yield one
    await one.close()


@pytest.mark.parametrize(
    "question", ["P101 and its flow, hmm", "reason for the trouble down there", "Flow since 06:00"]
)
async def test_whatever_the_weights_the_query_is_valid_or_none(model: Reasoner, question: str) -> None:
    """Names are of the map, times are code's; the same question gives the same query."""
    with pytest.raises(NotUnderstood):
        parse(question, NAMES, CALENDAR)
    found = await fill(question, NAMES, CALENDAR, model, 20.0)
    assert found == await fill(question, NAMES, CALENDAR, model, 20.0)
    if found is not None:
        NAMES.check(found.query.equipment, found.query.tags)
        assert "a model read the question" in found.notes[0]


async def test_one_question_is_read_at_a_time(model: Reasoner) -> None:
    """One that comes meanwhile is answered at once, before the first, that it is not understood."""
    first, second = (
        asyncio.create_task(fill("P101 and its flow, hmm", NAMES, CALENDAR, model, 20.0)) for _ in range(2)
    )
    done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
    assert done == {second}
    assert second.result() is None
    await first


async def test_no_model_gives_none(tmp_path: Path) -> None:
    """Without a model that reads, and after its end, there is no query and no error."""
    one = Reasoner(ReasonerOptions(backend="none"), base_dir=tmp_path, now_ns=lambda: 1)
    await one.start()
    assert await fill("P101 and its flow", NAMES, CALENDAR, one, 1.0) is None
