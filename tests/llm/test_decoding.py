"""The decoder on a scripted model whose logits are a function of all tokens in its cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from llm.base import Chunk, EngineError, Logits, NoRoom
from llm.decoding import Decoder, tempered
from llm.plan import Answer, Choose, Chosen, Fixed, Free, Plan, annotation_plan
from llm.prompt import Control, citable_facts, rows
from schemas.evidence import Evidence, Fact


class ByteModel:
    """One token a byte, two control tokens; the grammar allows letters and citations of E1 and ends after ten."""

    n_vocab = 258
    n_context = 4000
    n_batch = 64

    def __init__(self, room: int = 10**6) -> None:
        self.caches: dict[int, list[int]] = {}
        self.decoded = 0
        self.room = room
        self.passes: list[list[Chunk]] = []

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def control(self, name: str) -> int | None:
        return {"<s>": 256, "[INST]": 257}.get(name)

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def logits(self, tokens: Sequence[int]) -> Logits:
        seed = hashlib.sha256(np.asarray(tokens, "<i4").tobytes()).digest()
        return np.random.default_rng(list(seed)).standard_normal(self.n_vocab).astype(np.float32)

    def decode(self, tokens: Sequence[int], position: int, sequence: int = 0) -> Logits:
        (found,) = self.append([Chunk(sequence, tuple(tokens), position)])
        return found

    def forward(self, chunks: Sequence[Chunk]) -> list[Logits | None]:
        assert 0 < sum(len(chunk.tokens) for chunk in chunks) <= self.n_batch
        assert len({chunk.sequence for chunk in chunks}) == len(chunks)
        if sum(map(len, self.caches.values())) + sum(len(chunk.tokens) for chunk in chunks) > self.room:
            raise NoRoom("no room")
        self.passes.append(list(chunks))
        return self.append(chunks)

    def append(self, chunks: Sequence[Chunk]) -> list[Logits | None]:
        self.decoded += 1
        found = []
        for chunk in chunks:
            cache = self.caches.setdefault(chunk.sequence, [])
            assert chunk.tokens
            assert chunk.position == len(cache), "a token was decoded at the wrong place"
            cache += chunk.tokens
            found.append(self.logits(cache) if chunk.wanted else None)
        return found

    def rewind(self, position: int, sequence: int = 0) -> bool:
        cache = self.caches.setdefault(sequence, [])
        assert position <= len(cache)
        del cache[position:]
        return True

    def copy(self, source: int, target: int) -> None:
        self.caches[target] = list(self.caches.get(source, []))

    def grammar(self, gbnf: str) -> Script:
        return Script(b'[E1] abcde"' if "cite" in gbnf else b'abcde"')

    def set_deadline(self, at_s: float | None) -> None:
        raise AssertionError("the decoder leaves the deadline alone")


class Script:
    def __init__(self, text: bytes) -> None:
        self._left = list(text)

    def best(self, logits: Logits) -> int:
        return self._left[0]

    def accept(self, token: int) -> None:
        assert token == self._left.pop(0)

    def close(self) -> None:
        self._left = []


def probability(model: ByteModel, before: list[int], options: list[bytes], index: int) -> float:
    """Brute force: softmax among the bytes that some option still has, at every byte."""
    share, left = 1.0, list(options)
    for depth, byte in enumerate(options[index]):
        heads = sorted({o[depth] for o in left})
        z = model.logits([*before, *options[index][:depth]])[heads].astype(float)
        share *= float((np.exp(z - z.max()) / np.exp(z - z.max()).sum())[heads.index(byte)])
        left = [o for o in left if o[: depth + 1] == options[index][: depth + 1]]
    return share


def choose(texts: list[str], all_probabilities: bool) -> Plan:
    def plan() -> Plan:
        yield Fixed("a:")
        chosen = yield Choose("c", tuple((t, t) for t in texts), all_probabilities=all_probabilities)
        assert isinstance(chosen, Chosen)
        yield Fixed("!")
        return chosen.probabilities or (chosen.probability,)

    return plan()


TEXTS = ["alpha.", "alpine.", "beta.", "betas.", "gamma."]


def test_probabilities_of_all_options_are_exact() -> None:
    """Every option's probability is the product along its branch, the sum is one, the best is taken."""
    model = ByteModel()
    done = Decoder(model, [Control("<s>"), "x"]).run(["in"], choose(TEXTS, True))
    before = [256, *b"xina:"]
    wanted = [probability(model, before, [t.encode() for t in TEXTS], i) for i in range(len(TEXTS))]
    assert done.probabilities == pytest.approx(wanted)
    assert sum(wanted) == pytest.approx(1)
    best = TEXTS[int(np.argmax(wanted))]
    assert done.text == f"a:{best}!".encode()
    assert done.choices == ((f"c:{best}", pytest.approx(max(wanted))),)


def test_following_gives_the_probability_along_the_way() -> None:
    """Without all probabilities the best branch is taken greedily, and costs one pass a branching."""
    model = ByteModel()
    done = Decoder(model, ["x"]).run(["in"], choose(TEXTS, False))
    taken = done.text.decode()[2:-1]
    wanted = probability(model, [*b"xina:"], [t.encode() for t in TEXTS], TEXTS.index(taken))
    assert done.probabilities == pytest.approx((wanted,))
    assert done.calls <= 3


def test_forced_tokens_cost_no_pass() -> None:
    """Scaffolding and single options are never decoded by themselves."""
    model = ByteModel()
    done = Decoder(model, ["x"]).run(["in"], choose(["only"], True))
    assert done.text == b"a:only!"
    assert done.calls == 0
    assert model.decoded == 1, "the prefix alone"


def test_prefix_is_decoded_once() -> None:
    """Two runs share the prefix in the cache, and are equal."""
    model = ByteModel()
    decoder = Decoder(model, ["a long prefix"])
    first = decoder.run(["in"], choose(TEXTS, True))
    passes = model.decoded
    second = decoder.run(["in"], choose(TEXTS, True))
    assert model.decoded == 2 * passes - 1
    assert (first.text, first.tokens, first.probabilities) == (second.text, second.tokens, second.probabilities)
    assert first.prompt_sha256 == second.prompt_sha256
    assert first.plan_sha256 == second.plan_sha256


def test_annotation_plan_fills_the_form(evidences: list[Evidence]) -> None:
    """Whatever the model prefers, the form comes out typed, with cited facts that exist, in rising order."""
    for evidence in evidences:
        done = Decoder(ByteModel(), ["x"]).run([evidence.anomaly_id], annotation_plan(evidence))
        answer = msgspec.json.decode(done.text, type=Answer)
        known = [fact.id for fact in evidence.facts]
        assert len(answer.causes) == len(done.probabilities)
        for cause in answer.causes:
            numbers = [int(i[1:]) for i in cause.cites]
            assert set(cause.cites) <= set(known)
            assert bool(cause.cites) is bool(known)
            assert numbers == sorted(set(numbers))
        assert set(answer.actions) <= {a.id for a in evidence.actions}


def test_rows_cite_only_what_the_prompt_holds(make_evidence, bearing: Evidence) -> None:
    """A state is not shown to a model of rows, so none of its answers cites it; without the rule they would."""
    state = Fact(id="E4", kind="state", text="running")
    evidence = make_evidence((*bearing.facts, state))
    shown = {line.split()[0] for line in rows(evidence).splitlines()[1:]}
    assert state.id not in shown

    def cited(*, citable: Sequence[Fact] | None) -> set[str]:
        """By forty models of different tastes."""
        plans = ((f"taste {i}", annotation_plan(evidence, citable=citable)) for i in range(40))
        found = [Decoder(ByteModel(), ["x"]).run([taste], plan).text for taste, plan in plans]
        return {i for text in found for cause in msgspec.json.decode(text, type=Answer).causes for i in cause.cites}

    assert cited(citable=citable_facts(evidence, "rows")) == shown
    assert state.id in cited(citable=None)


def test_too_long_a_prompt_is_refused() -> None:
    """A prompt beyond the context is an error of this request, not of the model."""
    model = ByteModel()
    decoder = Decoder(model, ["x"])
    with pytest.raises(EngineError, match="context"):
        decoder.run(["y" * 5000], choose(TEXTS, False))
    assert decoder.run(["y"], choose(TEXTS, False)).text


def test_endless_text_is_refused() -> None:
    """A text over its byte bound is an error, never cut and repaired."""

    def plan() -> Plan:
        yield Free("text", "root ::= cite", 4, '"')
        return ()

    with pytest.raises(EngineError, match="longer than 4 bytes"):
        Decoder(ByteModel(), ["x"]).run(["in"], plan())


def test_unknown_control_token_is_refused() -> None:
    """A frame that the vocabulary lacks is an error before anything is decoded."""
    with pytest.raises(EngineError, match="SYSTEM"):
        Decoder(ByteModel(), [Control("[SYSTEM_PROMPT]")])


def test_calibration_moves_probabilities_and_no_choice() -> None:
    """At another temperature the weighed choice keeps its order, its sum, and what was chosen."""
    options = tuple((name, name) for name in ("abc", "abd", "xyz"))

    def plan() -> Plan:
        chosen = yield Choose("cause", options, all_probabilities=True)
        assert chosen is not None
        return (float(chosen.index), *chosen.probabilities)

    def run(calibration: float) -> tuple[float, ...]:
        return Decoder(ByteModel(), ["<"], calibration=calibration).run(["body"], plan()).probabilities

    plain, warm, cold = run(1.0), run(2.0), run(0.5)
    assert plain[0] == warm[0] == cold[0]
    assert sum(plain[1:]) == pytest.approx(sum(warm[1:])) == pytest.approx(1.0)
    assert max(cold[1:]) > max(plain[1:]) > max(warm[1:])
    squares = [p**2 for p in plain[1:]]
    assert cold[1:] == pytest.approx([p / sum(squares) for p in squares])
    assert tempered([0.0, 0.0], 2.0) == [0.0, 0.0]
