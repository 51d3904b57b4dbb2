"""Several answers side by side: on a scripted model to the token, on llama.cpp within what rounding allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm.base import DeadlineExceeded, EngineBroken, EngineError, NoRoom
from llm.batching import HOMES, Batcher
from llm.decoding import Decoded, Decoder
from llm.model_file import find
from llm.plan import Fixed, Free, Plan, annotation_plan
from llm.prompt import build, prefix
from schemas.errors import WorkerError
from schemas.evidence import Evidence
from tests.llm.test_decoding import TEXTS, ByteModel, choose

FAR = 1e9


class SteppingModel(ByteModel):
    """Keeps its deadline as the batcher sets it; may be told to be late or lost at a pass."""

    def __init__(self, room: int = 10**6, *, late_at: int = -1, broken_at: int = -1) -> None:
        super().__init__(room)
        self.late_at, self.broken_at = late_at, broken_at
        self.deadlines: list[float | None] = []
        self.calls = 0

    def set_deadline(self, at_s: float | None) -> None:
        self.deadlines.append(at_s)

    def forward(self, chunks):
        self.calls += 1
        if self.calls == self.broken_at:
            raise EngineBroken("lost")
        if self.calls == self.late_at:
            # as an abort leaves it: a part of the batch is in the cache
            super().append(chunks[:1])
            raise DeadlineExceeded("late")
        return super().forward(chunks)


def drain(batcher: Batcher[int], most: int = 10_000) -> dict[int, Decoded | WorkerError]:
    found: dict[int, Decoded | WorkerError] = {}
    for _ in range(most):
        if not batcher.busy:
            return found
        for key, done in batcher.step():
            assert key not in found
            found[key] = done
    pytest.fail("the answers did not come to an end")


def run_all(
    model, jobs: list[tuple[str, Callable[[], Plan]]], slots: int, until_s: float = FAR, clock=lambda: 0.0
) -> dict[int, Decoded | WorkerError]:
    decoder = Decoder(model, ["a prefix"], clock=clock)
    decoder.warm()
    batcher: Batcher[int] = Batcher(model, slots, clock=clock)
    for number, (body, plan) in enumerate(jobs):
        batcher.add(number, lambda s, body=body, plan=plan: decoder.answer([body], plan(), s), decoder.home, until_s)
    return drain(batcher)


def alone(jobs: list[tuple[str, Callable[[], Plan]]]) -> list[Decoded]:
    decoder = Decoder(ByteModel(), ["a prefix"])
    return [decoder.run([body], plan()) for body, plan in jobs]


def jobs_of(evidences: list[Evidence]) -> list[tuple[str, Callable[[], Plan]]]:
    return [(e.body.decode()[: 40 + 90 * i % 700], lambda e=e: annotation_plan(e)) for i, e in enumerate(evidences)]


@pytest.mark.parametrize("slots", [2, 3, 16])
def test_side_by_side_is_what_alone_is(evidences: list[Evidence], slots: int) -> None:
    """Twenty answers of different length: tokens, probabilities, hashes, passes are those of one by one."""
    jobs = jobs_of(evidences)
    model = SteppingModel()
    model.n_batch = 4096
    together = run_all(model, jobs, slots)
    for number, one in enumerate(alone(jobs)):
        other = together[number]
        assert isinstance(other, Decoded)
        for name in ("text", "tokens", "choices", "probabilities", "prompt_sha256", "plan_sha256", "calls"):
            assert getattr(other, name) == getattr(one, name), name
    assert max(len(chunks) for chunks in model.passes) == slots
    assert {c.sequence for chunks in model.passes for c in chunks} == set(range(HOMES, HOMES + slots))
    assert len(model.passes) < sum(one.calls for one in alone(jobs))
    assert not any(cache for sequence, cache in model.caches.items() if sequence), "what ended is forgotten"


def test_a_pass_mixes_prompts_with_single_tokens(evidences: list[Evidence]) -> None:
    """A long prompt goes on in pieces while others write, and asks for logits after its last piece alone."""
    model = SteppingModel()
    plan = evidences[5]
    found = run_all(model, [("x", lambda: annotation_plan(plan)), ("y" * 500, lambda: annotation_plan(plan))], 2)
    assert all(isinstance(done, Decoded) for done in found.values())
    mixed = [chunks for chunks in model.passes if len(chunks) == 2 and len(chunks[1].tokens) > 20]
    assert len(mixed) >= 5
    assert all(len(chunks[0].tokens) <= len(chunks[1].tokens) for chunks in mixed)
    pieces = [c.wanted for chunks in model.passes for c in chunks if c.sequence == HOMES + 1]
    assert pieces.index(True) >= 500 // model.n_batch
    assert all(sum(len(c.tokens) for c in chunks) <= model.n_batch for chunks in model.passes)


def test_late_answers_end_and_others_go_on() -> None:
    """A deadline that passes between two passes costs its own answer only."""
    now = [0.0]
    model = SteppingModel()
    decoder = Decoder(model, ["p"], clock=lambda: now[0])
    decoder.warm()
    batcher: Batcher[int] = Batcher(model, 2, clock=lambda: now[0])
    for number, until_s in enumerate((5.0, FAR, 3.0)):
        batcher.add(number, lambda s: decoder.answer(["in" * 100], choose(TEXTS, True), s), 0, until_s)
    assert batcher.full
    assert batcher.step() == []
    now[0] = 6.0
    found = drain(batcher)
    assert isinstance(found[0], DeadlineExceeded)
    assert isinstance(found[1], Decoded)
    assert isinstance(found[2], DeadlineExceeded)
    assert found[1].text == Decoder(ByteModel(), ["p"]).run(["in" * 100], choose(TEXTS, True)).text
    assert model.deadlines[0] == 5.0, "the earliest of those that run"
    assert model.deadlines[-1] is None


@pytest.mark.parametrize("late_at", [1, 2, 5, 9])
def test_abort_within_a_pass_is_taken_back(evidences: list[Evidence], late_at: int) -> None:
    """What an aborted pass has left in the cache is cut off; every answer is what it would have been."""
    jobs = jobs_of(evidences)[3:8]
    together = run_all(SteppingModel(late_at=late_at), jobs, 3)
    assert [together[i].tokens for i in range(5)] == [one.tokens for one in alone(jobs)]


def test_short_room_lets_the_youngest_wait(evidences: list[Evidence]) -> None:
    """Three would need more than there is: all come to their end, and are what they are alone."""
    jobs = jobs_of(evidences)[3:8]
    need = max(one.prompt_tokens + len(one.tokens) for one in alone(jobs))
    model = SteppingModel(room=need + 200)
    together = run_all(model, jobs, 3)
    assert [together[i].tokens for i in range(5)] == [one.tokens for one in alone(jobs)]
    assert model.calls > len(model.passes), "room was short"
    only = run_all(SteppingModel(room=60), jobs[:1], 3)
    assert isinstance(only[0], NoRoom)


def test_error_of_one_answer_is_its_own() -> None:
    """A text over its bound, a prompt over the context: those fail, the others do not."""

    def endless() -> Plan:
        yield Free("text", "root ::= cite", 4, '"')
        return ()

    def fine() -> Plan:
        yield Fixed("a")
        return ()

    found = run_all(
        SteppingModel(),
        [("x", endless), ("y" * 5000, lambda: choose(TEXTS, False)), ("z", fine), ("w", lambda: choose(TEXTS, False))],
        4,
    )
    assert [type(found[i]) for i in range(4)] == [EngineError, EngineError, Decoded, Decoded]


def test_lost_model_is_not_hidden(evidences: list[Evidence]) -> None:
    with pytest.raises(EngineBroken):
        run_all(SteppingModel(broken_at=3), jobs_of(evidences)[:4], 4)


def open_models(path: Path) -> tuple[Any, Any]:
    """The same weights with one sequence, and with those for eight answers."""
    engine = pytest.importorskip("llm.engine", reason="llama-cpp-python is not installed")
    return engine.Model(path), engine.Model(path, sequences=8 + HOMES)


@pytest.mark.model
@pytest.mark.parametrize("slots", [1, 4, 8])
@pytest.mark.parametrize("weights", ["trained", "random"])
def test_llama_cpp_side_by_side_is_what_alone_is(request, evidences: list[Evidence], weights: str, slots: int) -> None:
    """
    Greedy on the CPU. Trained weights: the same tokens for all twenty, probabilities within two percent.

    Not bit for bit: the sums of a matrix product are taken in an order that depends on the size of the batch. Random
    weights have tokens that are as good as equal, and there either may win; that is why a replay has one slot.
    """
    trained = weights == "trained"
    file = find("builtin:plant-tiny", None, Path()).path if trained else request.getfixturevalue("tiny_gguf")
    family, style = ("v3-tekken", "rows") if trained else ("v3", "instruct")
    one, many = open_models(file)
    single, decoder = Decoder(one, prefix(family, style)), Decoder(many, prefix(family, style))
    decoder.warm()
    batcher: Batcher[int] = Batcher(many, slots)
    prompts = [build(e, family, style) for e in evidences]
    for i, (e, p) in enumerate(zip(evidences, prompts, strict=True)):
        batcher.add(i, lambda s, e=e, p=p: decoder.answer(p.body, annotation_plan(e, p.lead), s), 0, FAR)
    together = drain(batcher)
    for i, (e, p) in enumerate(zip(evidences, prompts, strict=True)):
        was, now = single.run(p.body, annotation_plan(e, p.lead)), together[i]
        assert isinstance(now, Decoded), now
        assert now.prompt_sha256 == was.prompt_sha256
        assert now.choices[0][0] == was.choices[0][0]
        assert now.choices[0][1] == pytest.approx(was.choices[0][1], abs=0.02)
        if trained or slots == 1:
            assert now.tokens == was.tokens
    one.close()
    many.close()


@pytest.mark.model
def test_deadline_within_a_pass_leaves_the_others(tiny_gguf: Path, evidences: list[Evidence]) -> None:
    """llama.cpp aborts the pass; the late answer ends, the other comes to its end."""
    _, many = open_models(tiny_gguf)
    decoder = Decoder(many, prefix("v3", "instruct"))
    decoder.warm()
    prompt, plan = build(evidences[5], "v3", "instruct"), evidences[5]
    batcher: Batcher[int] = Batcher(many, 2)

    def start(sequence: int):
        return decoder.answer(prompt.body, annotation_plan(plan, prompt.lead), sequence)

    batcher.add(0, start, 0, FAR)
    fresh = drain(batcher)[0]
    for left_s in (0.001, 0.005, 0.01):
        until_s = time.monotonic() + left_s
        batcher.add(1, lambda s: decoder.answer(["again " * 400], annotation_plan(plan), s), 0, until_s)
        batcher.add(2, start, 0, FAR)
        found = drain(batcher)
        assert isinstance(found[1], DeadlineExceeded)
        assert found[2].choices[0][0] == fresh.choices[0][0]
        assert found[2].choices[0][1] == pytest.approx(fresh.choices[0][1], abs=0.02)
    many.close()
