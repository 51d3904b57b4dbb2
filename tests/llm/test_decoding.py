"""The decoder on a scripted model whose logits are a function of all tokens in its cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from llm.base import EngineError, Logits
from llm.decoding import Decoder
from llm.plan import Answer, Choose, Chosen, Fixed, Free, Plan, annotation_plan
from llm.prompt import Control
from schemas.evidence import Evidence


class ByteModel:
    """One token a byte, two control tokens; the grammar allows letters and citations of E1 and ends after ten."""

    n_vocab = 258
    n_context = 4000

    def __init__(self) -> None:
        self.cache: list[int] = []
        self.decoded = 0

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def control(self, name: str) -> int | None:
        return {"<s>": 256, "[INST]": 257}.get(name)

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def logits(self, tokens: Sequence[int]) -> Logits:
        seed = hashlib.sha256(np.asarray(tokens, "<i4").tobytes()).digest()
        return np.random.default_rng(list(seed)).standard_normal(self.n_vocab).astype(np.float32)

    def decode(self, tokens: Sequence[int], position: int) -> Logits:
        assert tokens
        assert position == len(self.cache), "a token was decoded at the wrong place"
        self.cache += tokens
        self.decoded += 1
        return self.logits(self.cache)

    def rewind(self, position: int) -> bool:
        assert position <= len(self.cache)
        del self.cache[position:]
        return True

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
    import msgspec

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
