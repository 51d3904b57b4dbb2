"""The back end that speaks to a model server: answers of the real one of llama-cpp-python and of a hostile one."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from llm import client
from llm.client import Reasoner
from llm.exchange import MAX_ANSWER
from llm.form import FormField
from llm.messages import Connect
from llm.model_file import Served
from llm.options import ReasonerOptions
from llm.process import environment
from schemas.annotation import Annotation
from schemas.errors import WorkerError
from schemas.evidence import Evidence
from tests.llm.hostile_server import GOOD, Seen, completion, http
from tests.llm.model_servers import KEY, Ask, Serve, hostile, real_server, speaking
from tests.llm.reasoning import ask, check_valid, without_signs

__all__ = ["hostile", "real_server", "speaking"]


async def answered(one: Reasoner, evidence: Evidence) -> Annotation:
    """Ask; again where a machine that stands still has let a short deadline pass."""
    done = await ask(one, evidence)
    for _ in range(5):
        if not done.provenance.late:
            break
        done = await ask(one, evidence)
    return done


@pytest.mark.model
async def test_real_server_annotates(real_server: str, speaking: Ask, evidences: list[Evidence], eventually) -> None:
    """A real server with random weights, by name and with its key: the form holds, provenance tells what is known."""
    one = await speaking(real_server, model="tiny")
    await eventually(lambda: one.state.status == "ready", 120)
    for evidence in evidences[1:5]:
        blind = without_signs(evidence)
        done = await ask(one, blind)
        check_valid(blind, done)
        p = done.provenance
        assert (p.model_name, p.model_sha256, p.model_rung) == ("tiny", "", "site_server")
        assert p.endpoint == f"{real_server.split('/')[2]} at 127.0.0.1"
        assert p.engine.startswith("openai-compatible/1 ")
        assert p.engine.endswith(" json_object")  # the probe: it knows the two others not, and ignores one of them
        assert len(p.prompt_sha256) == len(p.plan_sha256) == 64
        assert p.prompt_tokens > 100
        assert p.output_tokens == ()
        assert p.probabilities == ("absent" if done.causes[0].probability is None else "logprobs")
    assert (one.state.answered, one.state.fallbacks) == (4, 0)
    again = [await ask(one, blind) for _ in range(2)]
    assert again[0].annotation_id == again[1].annotation_id


@pytest.mark.model
async def test_real_server_fills_a_form(real_server: str, speaking: Ask, eventually) -> None:
    """A question's form is bound by a schema in the same way."""
    one = await speaking(real_server, model="tiny")
    await eventually(lambda: one.reads_questions, 120)
    fields = [FormField("form", ("why", "what")), FormField("time", ("today", "last night"))]
    found = await one.fill("reason for the stop?", fields, 30)
    assert found["form"] in fields[0].options
    assert found["time"] in fields[1].options


@pytest.mark.model
@pytest.mark.parametrize(("told", "says"), [({"model": "other"}, "offers tiny"), ({"key": "wrong"}, "401")])
async def test_real_server_refuses(real_server: str, tmp_path: Path, eventually, told: dict[str, str], says) -> None:
    """A model it has not, a key it does not know: the annotator is off and says why; the key stands nowhere."""
    key = told.pop("key", KEY)
    options = ReasonerOptions.model_validate(
        {"backend": "openai", "url": real_server, "model": "tiny", "api_key": "env:X", **told}
    )
    one = Reasoner(options, base_dir=tmp_path, now_ns=lambda: 7, api_key=key)
    try:
        await one.start()
        await eventually(lambda: one.state.status == "off", 60)
        assert says in one.state.reason
        assert key not in one.state.reason
    finally:
        await one.close()


async def test_good_answer_of_a_server_with_all_it_may_tell(hostile: Serve, speaking, bearing, eventually) -> None:
    """Schema by the protocol's own way, logprobs, the model's name, the key in its header and in nothing else."""

    def annotate(request: Seen) -> bytes:
        text = GOOD.replace(":", ": ")  # white space is the server's affair
        head = text.index("bearing_wear")
        tokens = [text[:head], "bearing", text[head + 7 :]]
        listed = [{"token": "bearing", "logprob": -0.1}, {"token": "cav", "logprob": -2.5}]
        listed += [{"token": "no", "logprob": -4.0}, {"token": "unknown", "logprob": -6.0}]
        content = [{"token": t, "logprob": -0.1, "top_logprobs": listed if t == "bearing" else []} for t in tokens]
        return http(completion(text, logprobs={"content": content}), headers="Server: vLLM\r\n")

    server = await hostile(annotate=annotate)
    one = await speaking(server.url)
    await eventually(lambda: one.state.status == "ready")
    done = await ask(one, bearing)
    check_valid(bearing, done)
    assert done.causes[0].probability == pytest.approx(0.8979, abs=1e-4)
    p = done.provenance
    assert (p.model_name, p.probabilities, p.slots) == ("plant-7b", "logprobs", 4)
    assert p.engine == "openai-compatible/1 response_format"
    assert p.choices == (("cause:bearing_wear", done.causes[0].probability),)
    request = server.seen[-1]
    assert request.path == "/v1/chat/completions"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept-encoding"] == "identity"
    assert KEY not in json.dumps(request.body)
    assert KEY not in done.model_dump_json()
    assert KEY not in "".join(psutil.Process(one.worker_pid).environ().values())
    assert KEY not in " ".join(psutil.Process(one.worker_pid).cmdline())


def cited(**changed: object) -> bytes:
    return http(completion(json.dumps(json.loads(GOOD) | changed)))


BAD = {
    "malformed": (http(b'{"choices": ['), "no valid answer"),
    "not a form": (http(completion("I think it is the bearing.")), "not the form"),
    "deep": (http(b"[" * 200_000), "no valid answer"),
    "no answer": (http(b'{"choices": []}'), "no answer"),
    "cut off": (http(completion(GOOD, finish_reason="length")), "cut off for its length"),
    "all thinking": (
        http(completion("", message={"role": "assistant", "content": None}, finish_reason="length")),
        "cut off for its length",
    ),
    "filtered": (http(completion(GOOD, finish_reason="content_filter")), "ended by content_filter"),
    "error": (http(b"out of memory\x1b[31m", status="500 Oops"), "answers 500: out of memory"),
    "huge": (http(b" " * (MAX_ANSWER + 1)), "longer than 256 KiB"),
    "endless": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b" " * 65536 + b"\r\n" + b"1" * 9999,
        "",
    ),
    "huge header": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000 + b"\r\n\r\n", ""),
    "compressed": (http(gzip.compress(b" " * 10**7), headers="Content-Encoding: gzip\r\n"), "compressed"),
    "not http": (b"SSH-2.0-OpenSSH_9.9\r\n", ""),
    "closed": (b"", ""),
    "other facts": (cited(causes=[{"id": "bearing_wear", "cites": ["E99"]}]), "cited fact does not exist"),
    "other cause": (cited(causes=[{"id": "sabotage", "cites": ["E1"]}]), "not in the catalogue"),
    "no cite": (cited(causes=[{"id": "bearing_wear", "cites": []}]), "cites nothing"),
    "a number": (cited(text="[E1] rests at 84 degrees."), "digit"),
    "a direction": (cited(text="[E1] rose."), "direction"),
    "markup": (cited(text="<b>[E1]</b>"), "forbidden character"),
    "an action": (cited(actions=["open_valve"]), "action"),
}


@pytest.mark.parametrize("case", list(BAD))
async def test_bad_answer_gives_rules(hostile: Serve, speaking, bearing: Evidence, eventually, case: str) -> None:
    """Whatever the server sends, the rules answer, the reason is kept, and the process serves on."""
    raw, says = BAD[case]
    told = {"now": raw}

    def annotate(_: Seen) -> bytes | None:
        return told["now"]

    server = await hostile(annotate=annotate)
    if case == "closed":
        server.annotate = lambda _: (_ for _ in ()).throw(ConnectionError)
    one = await speaking(server.url, deadline="6s")
    await eventually(lambda: one.state.status == "ready")
    pid = one.worker_pid
    done = await ask(one, bearing)
    assert done.origin == "rules"
    assert says in done.provenance.fallback_reason
    assert done.provenance.late is ("the deadline passed" in done.provenance.fallback_reason)
    assert all(ch.isprintable() for ch in done.provenance.fallback_reason)
    server.annotate = lambda _: http(completion(GOOD))
    check_valid(bearing, await answered(one, bearing))
    assert one.worker_pid == pid
    assert one.state.crashes == 0


async def test_refused_answer_is_asked_for_once_more(hostile: Serve, speaking, bearing, eventually) -> None:
    """The second message says what was wrong; a good second answer counts, and provenance keeps the reason."""
    server = await hostile(annotate=lambda _: cited(text="[E1] rose."))
    one = await speaking(server.url)
    await eventually(lambda: one.state.status == "ready")
    before = len(server.seen)
    assert "direction" in (await ask(one, bearing)).provenance.fallback_reason
    assert len(server.seen) == before + 2, "one retry, not more"

    def second(request: Seen) -> bytes:
        return http(completion(GOOD)) if again(request) else cited(text="[E1] rose.")

    server.annotate = second
    done = await ask(one, bearing)
    check_valid(bearing, done)
    assert "direction" in done.provenance.retried_after
    assert done.provenance.prompt_text == server.seen[-1].body["messages"][0]["content"]


async def test_answer_that_was_cut_off_is_asked_for_once_more(hostile: Serve, speaking, bearing, eventually) -> None:
    """Shorter, and once; the second counts and says why. Control: what a filter ended is not asked for again."""
    server = await hostile(annotate=lambda _: http(completion(GOOD[:-20], finish_reason="length")))
    one = await speaking(server.url)
    await eventually(lambda: one.state.status == "ready")
    before = len(server.seen)
    assert (await ask(one, bearing)).provenance.fallback_reason == "answer refused: it was cut off for its length"
    assert len(server.seen) == before + 2, "one retry, not more"

    def second(request: Seen) -> bytes:
        return http(completion(GOOD) if again(request) else completion(GOOD[:-20], finish_reason="length"))

    server.annotate = second
    done = await ask(one, bearing)
    check_valid(bearing, done)
    assert done.provenance.retried_after == "answer refused: it was cut off for its length"
    assert done.provenance.prompt_text == server.seen[-1].body["messages"][0]["content"]
    assert done.provenance.prompt_text.endswith("by the rules above, and shorter.")

    server.annotate = lambda _: http(completion(GOOD, finish_reason="content_filter"))
    before = len(server.seen)
    assert "content_filter" in (await ask(one, bearing)).provenance.fallback_reason
    assert len(server.seen) == before + 1


@pytest.mark.parametrize(
    "first", [http(completion(GOOD, finish_reason="length")), cited(text="[E1] rose.")], ids=["cut off", "refused"]
)
@pytest.mark.parametrize(("again_s", "requests"), [(1.0, 2), (60.0, 1)])
async def test_refusal_is_told_where_no_second_answer_comes(
    hostile: Serve, speaking, bearing, eventually, monkeypatch, again_s: float, requests: int, first: bytes
) -> None:
    """The server is silent the second time, or there is no time to ask: the reason is what was wrong with the first."""
    server = await hostile(annotate=lambda request: None if again(request) else first)
    monkeypatch.setattr(client, "_AGAIN_S", again_s)
    one = await speaking(server.url, deadline="6s")
    await eventually(lambda: one.state.status == "ready")
    before = len(server.seen)
    p = (await ask(one, bearing)).provenance
    assert p.fallback_reason.startswith("answer refused")
    assert "direction" in p.fallback_reason or "cut off" in p.fallback_reason
    assert not p.late
    assert len(server.seen) == before + requests


def again(request: Seen) -> bool:
    return "not accepted" in request.body["messages"][0]["content"]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_redirect_is_not_followed(hostile: Serve, speaking, bearing, eventually, status: str) -> None:
    """Not one packet goes to where a redirect points, though that address would be allowed."""
    other = await hostile()
    server = await hostile(annotate=lambda _: http(b"", status=status, headers=f"Location: {other.url}/x\r\n"))
    one = await speaking(server.url)
    await eventually(lambda: one.state.status == "ready")
    assert "redirects" in (await ask(one, bearing)).provenance.fallback_reason
    assert other.connections == 0


async def test_silent_and_slow_servers_cost_their_deadline(hostile: Serve, speaking, bearing, eventually) -> None:
    """No answer, and one that drips byte by byte: rules within the deadline; the process is not lost."""
    server = await hostile(annotate=lambda _: None)
    one = await speaking(server.url, deadline="3s")
    await eventually(lambda: one.state.status == "ready")
    pid = one.worker_pid
    loop = asyncio.get_running_loop()
    for drip_s in (0.0, 0.05):
        server.drip_s = drip_s
        begun = loop.time()
        done = await ask(one, bearing)
        assert loop.time() - begun < 6
        assert done.provenance.fallback_reason == "the deadline passed while the server was thinking"
        assert done.provenance.late
        assert "late" not in done.provenance.model_dump()
        server.annotate = lambda _: http(completion(GOOD))
    server.drip_s = 0.0
    check_valid(bearing, await answered(one, bearing))
    assert one.worker_pid == pid
    assert one.state.crashes == 0


async def test_requests_go_side_by_side(hostile: Serve, speaking, bearing: Evidence, eventually) -> None:
    """As many as slots are at the server at once, and each gets its own answer, in whatever order they come."""
    server = await hostile(annotate=lambda _: None)
    one = await speaking(server.url, slots=3, deadline="3s")
    await eventually(lambda: one.state.status == "ready")
    before = len(server.seen)
    first = [asyncio.create_task(ask(one, bearing)) for _ in range(3)]
    await eventually(lambda: len(server.seen) == before + 3)
    server.annotate = lambda _: http(completion('{"form": "what"}'))
    first[0].cancel()  # whoever gives up leaves the server at work, and the slot taken
    late = asyncio.create_task(one.fill("why?", [FormField("form", ("why", "what"))], 60.0))
    assert [done.origin for done in await asyncio.gather(*first[1:])] == ["rules", "rules"]
    assert await late == {"form": "what"}
    assert len(server.seen) == before + 4
    assert one.slots == 3
    assert one.state.crashes == 0


async def test_provenance_has_the_rung_of_the_decision(hostile: Serve, speaking, bearing, eventually) -> None:
    """Where the server was chosen as one outside the site, no annotation says that it is the site's."""
    server = await hostile()
    one = await speaking(server.url, locate=lambda: Served("frontier"))
    await eventually(lambda: one.state.status == "ready")
    assert (await ask(one, bearing)).provenance.model_rung == "frontier"


async def test_form_that_is_none_of_its_options_is_refused(hostile: Serve, speaking, eventually) -> None:
    """The core does not take the server's word for a form either."""
    server = await hostile(annotate=lambda _: http(completion('{"form":"drop table"}')))
    one = await speaking(server.url)
    await eventually(lambda: one.reads_questions)
    with pytest.raises(WorkerError, match="none of its options"):
        await one.fill("why?", [FormField("form", ("why", "what"))], 5)


def test_missing_library_is_told() -> None:
    """Without httpx the process says which extra brings it, and ends well."""
    from llm.messages import frame, from_worker

    setup = Connect("http://127.0.0.1:9/v1", "127.0.0.1", "", "", "", 7, 0.0, 1)
    code = "import sys; sys.modules['httpx'] = None; from llm.remote import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=frame(setup),
        capture_output=True,
        env=environment(),
        timeout=300,
        check=True,
    )
    refusal = from_worker(done.stdout[4:])
    assert refusal.kind == "library"
    assert "fairlead[openai]" in refusal.reason
