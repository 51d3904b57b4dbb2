"""The way to a model server: one that is unfit or in trouble, its pinned address, TLS, and the key."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from llm.client import Reasoner
from llm.exchange import MAX_ANSWER, Exchange, Unreachable, client_of
from llm.messages import Connect
from llm.options import ReasonerOptions
from schemas.annotation import served_key
from schemas.evidence import Evidence
from tests.llm.hostile_server import GOOD, HostileServer, Seen, completion, http
from tests.llm.model_servers import KEY, UNUSABLE_KEYS, Serve, certificate, hostile, speaking
from tests.llm.reasoning import ask, check_valid

__all__ = ["hostile", "speaking"]
REFUSING = {
    "no schema": ({"probe": lambda _: http(completion("Sure! Here is your JSON."))}, "keeps to a JSON schema in none"),
    "schema refused": ({"probe": lambda _: http(b"no such field", status="400 Bad")}, "answers 400: no such field"),
    "no model": ({"models": lambda _: http(b'{"data":[]}')}, "no model plant-7b (llm.model); it offers none"),
    "two models": ({"models": lambda _: http(b'{"data":[{"id":"a"},{"id":"b"}]}')}, "it offers a, b"),
    "endless list": ({"models": lambda _: http(b" " * (MAX_ANSWER + 1))}, "longer than 256 KiB"),
    "another service": ({"models": lambda _: http(b"<html>", headers="Server: nginx\r\n")}, "no valid answer"),
    "redirect": ({"models": lambda _: http(b"", status="302 F", headers="Location: http://8.8.8.8/\r\n")}, "redirects"),
}


@pytest.mark.parametrize("case", list(REFUSING))
async def test_unfit_server_is_off_with_its_reason(hostile: Serve, speaking, bearing, eventually, case: str) -> None:
    """A server that cannot serve is told at the start, once, and rules go on."""
    told, says = REFUSING[case]
    one = await speaking((await hostile(**told)).url)
    await eventually(lambda: one.state.status == "off")
    assert says in one.state.reason
    assert says in (await ask(one, bearing)).provenance.fallback_reason
    assert one.state.crashes == 0


async def test_server_that_comes_later_is_found(hostile: Serve, speaking, bearing, eventually, free_port) -> None:
    """Nobody listens: off at once, with the reason; when the server comes up it serves, without a restart."""
    port = free_port()
    one = await speaking(f"http://127.0.0.1:{port}/v1")
    await eventually(lambda: "looked for again" in one.state.reason)
    assert (await ask(one, bearing)).origin == "rules"
    await hostile(port=port)
    await eventually(lambda: one.state.status == "ready")
    check_valid(bearing, await ask(one, bearing))
    assert one.state.crashes == 0


TROUBLED = {
    "loads": ("models", "503 Loading"),
    "fails": ("models", "500 Oops"),
    "too many": ("probe", "429 Slow down"),
    "gateway": ("probe", "502 Bad Gateway"),
    "fails when asked": ("probe", "500 Oops"),
}


@pytest.mark.parametrize("case", list(TROUBLED))
async def test_server_in_trouble_is_looked_for_again(hostile: Serve, speaking, bearing, eventually, case: str) -> None:
    """It loads, is full or fails when first asked: off with its own words, and served as soon as it is well."""
    where, status = TROUBLED[case]
    server = await hostile(**{where: lambda _: http(b"not now", status=status)})
    one = await speaking(server.url)
    await eventually(lambda: one.state.status == "off")
    assert f"answers {status[:3]}: not now; looked for again" in one.state.reason
    well = HostileServer()
    server.models, server.probe = well.models, well.probe
    await eventually(lambda: one.state.status == "ready")
    done = await ask(one, bearing)
    check_valid(bearing, done)
    assert done.provenance.engine == "openai-compatible/1 response_format"
    assert one.state.crashes == 0


async def test_server_that_fails_at_one_way_is_asked_in_another(hostile: Serve, speaking, bearing, eventually) -> None:
    """A 500 for logprobs that it cannot give is no reason to wait."""

    def probe(request: Seen) -> bytes:
        wanted = request.body["response_format"]["json_schema"]["schema"]["properties"]["probe"]["enum"][0]
        if request.body.get("logprobs"):
            return http(b"logits_all is off", status="500 Oops")
        return http(completion(json.dumps({"probe": wanted})))

    one = await speaking((await hostile(probe=probe)).url)
    await eventually(lambda: one.state.status == "ready")
    assert (await ask(one, bearing)).provenance.engine == "openai-compatible/1 response_format"


async def test_server_that_calls_its_model_otherwise(hostile: Serve, speaking, bearing, eventually) -> None:
    """Figures are counted under the configured name, where the watch looks; what the server says is kept."""
    renamed = completion(GOOD).replace(b'"plant-7b"', b'"/models/p.gguf"')
    server = await hostile(annotate=lambda _: http(renamed))
    one = await speaking(server.url)
    await eventually(lambda: one.state.status == "ready")
    p = (await ask(one, bearing)).provenance
    assert p.model_key == one.state.model_key == served_key(f"127.0.0.1:{server.port}", "plant-7b")
    assert (p.model_name, p.engine) == ("plant-7b", "openai-compatible/1 response_format, as /models/p.gguf")


async def test_name_is_resolved_once_and_pinned(hostile: Serve, speaking, bearing: Evidence, eventually) -> None:
    """A resolver that answers otherwise from the second time on moves nothing, also over the end of the process."""
    server = await hostile()
    trap = await hostile("127.0.0.2", server.port)
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    one = await speaking(f"http://llm.plant.test:{server.port}/v1", lookup=rebinding)
    await eventually(lambda: one.state.status == "ready")
    check_valid(bearing, await ask(one, bearing))
    first = one.worker_pid
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: one.worker_pid not in (None, first))
    done = await ask(one, bearing)
    check_valid(bearing, done)
    assert done.provenance.endpoint == f"llm.plant.test:{server.port} at 127.0.0.1"
    assert server.seen[-1].headers["host"] == f"llm.plant.test:{server.port}"
    assert asked == ["llm.plant.test"]
    assert trap.connections == 0


async def test_name_outside_the_site_is_refused_before_any_packet(speaking, bearing: Evidence, eventually) -> None:
    """The reason names the option, the name and the address; no process is started for it."""
    before = {child.pid for child in psutil.Process().children()}
    one = await speaking("http://llm.plant.test:8000/v1", lookup=lambda *_: ["10.0.0.5", "8.8.8.8"])
    await eventually(lambda: one.state.status == "off")
    assert one.state.reason.startswith("llm.url: llm.plant.test resolves to 8.8.8.8, outside the site")
    assert {child.pid for child in psutil.Process().children()} <= before
    assert one.state.reason in (await ask(one, bearing)).provenance.fallback_reason


async def test_proxies_of_the_environment_are_not_asked(hostile: Serve, speaking, eventually, monkeypatch) -> None:
    """Whatever the environment says, the connection goes to the server; the process does not even see it."""
    proxy, server = await hostile(), await hostile()
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    one = await speaking(server.url)
    await eventually(lambda: one.state.status == "ready")
    assert proxy.connections == 0
    assert not any("proxy" in name.lower() for name in psutil.Process(one.worker_pid).environ())


async def test_tls_checks_the_name_at_the_pinned_address(hostile, speaking, bearing, eventually, tmp_path) -> None:
    """SNI, Host header and certificate are of the name, though the connection goes to the address."""
    server = await hostile(context=certificate(tmp_path, "llm.plant.test"))
    url = f"https://llm.plant.test:{server.port}/v1"
    one = await speaking(url, lookup=lambda *_: ["127.0.0.1"], ca="ca.pem")
    await eventually(lambda: one.state.status == "ready")
    check_valid(bearing, await ask(one, bearing))
    assert set(server.names) == {"llm.plant.test"}
    assert server.seen[-1].headers["host"] == f"llm.plant.test:{server.port}"


@pytest.mark.parametrize("fault", ["name", "authority"])
async def test_tls_with_a_wrong_certificate_is_refused(hostile, speaking, eventually, tmp_path, fault) -> None:
    """A certificate of another name, or of an authority that is not the site's: no request is sent, so no key."""
    server = await hostile(context=certificate(tmp_path, "other.plant.test" if fault == "name" else "llm.plant.test"))
    told = {"ca": "ca.pem"} if fault == "name" else {}
    one = await speaking(f"https://llm.plant.test:{server.port}/v1", lookup=lambda *_: ["127.0.0.1"], **told)
    await eventually(lambda: one.state.status == "off")
    assert "ertificate" in one.state.reason or "CERTIFICATE" in one.state.reason
    assert server.seen == []


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), (b"\xff\xfe", "no PEM"), (b"x", "no cert")])
async def test_unreadable_authority_is_told(speaking, tmp_path: Path, content: bytes | None, says: str) -> None:
    """A file of the authority that is missing or is none: off, with the option and the file."""
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    one = await speaking("https://127.0.0.1:9/v1", ca="ca.pem")
    assert one.state.status == "off"
    assert one.state.reason.startswith("llm.ca: ca.pem")
    assert says in one.state.reason


@pytest.mark.parametrize("case", list(UNUSABLE_KEYS))
async def test_key_that_no_header_can_hold_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str) -> None:
    """Off, with the option; the key is in no state, no log and no provenance."""
    options = ReasonerOptions.model_validate(
        {"backend": "openai", "url": "http://127.0.0.1:9/v1", "model": "m", "api_key": "env:X"}
    )
    one = Reasoner(options, base_dir=tmp_path, now_ns=lambda: 7, api_key=UNUSABLE_KEYS[case])
    with caplog.at_level(0):
        await one.start()
    assert (one.state.status, one.state.crashes) == ("off", 0)
    assert one.state.reason.startswith("llm.api_key holds ")
    assert KEY not in f"{one.state}{caplog.text}"
    await one.close()


async def test_client_that_refuses_a_header_is_not_quoted(hostile: Serve) -> None:
    """Its words hold the key, as the control shows; ours say of which kind it was."""
    server = await hostile()
    setup = Connect(server.url, "127.0.0.1", "plant-7b", f"{KEY}\r", "", 7, 0.0, 1)
    async with client_of(setup) as client:
        with pytest.raises(Unreachable) as caught:
            await Exchange(setup, client).get("/models", dict)
    assert str(caught.value) == f"127.0.0.1:{server.port}: LocalProtocolError"
    assert KEY in str(caught.value.__context__)
