"""Whether a model server can be asked: each step that may fail is named, and what to do."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from llm.backends import ModelServer
from llm.exchange import MAX_ANSWER
from llm.options import ReasonerOptions
from llm.reach import HINTS, Reached, reach
from tests.llm.hostile_server import http
from tests.llm.model_servers import KEY, UNUSABLE_KEYS, Serve, certificate, hostile, real_server

__all__ = ["hostile", "real_server"]
HERE = ["127.0.0.1"]


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., object]:
    """Look at a server as ``fairlead check --connect`` does."""

    def at(url: str, *, key: str = KEY, limit_s: float = 20.0, lookup=lambda *_: HERE, **options: object) -> object:
        told = ReasonerOptions.model_validate(
            {"backend": "openai", "url": url, "model": "plant-7b", "api_key": "env:X", **options}
        )
        return reach(told, tmp_path, key, limit_s, lookup)

    return at


@pytest.mark.model
async def test_real_server_is_reached(real_server: str, look) -> None:
    """By name and with its key: the model is there; no evidence was sent, and nothing was asked but the list."""
    assert await look(real_server, model="tiny") == Reached("", "tiny is served at 127.0.0.1")


@pytest.mark.model
@pytest.mark.parametrize(
    ("told", "step", "says"),
    [
        ({"key": "wrong"}, "key", "401"),
        ({"key": ""}, "key", "401"),
        ({"model": "other"}, "model", "it offers tiny"),
        ({"path": "/v2"}, "answer", "404"),
        ({"scheme": "https"}, "TLS", "SSL"),
    ],
)
async def test_real_server_says_which_step_fails(real_server: str, look, told: dict[str, str], step, says) -> None:
    """A wrong key, a model that it has not, another path, TLS that it does not speak: step, words and hint of each."""
    told = {"model": "tiny", **told}
    url = real_server.replace("/v1", told.pop("path", "/v1")).replace("http:", f"{told.pop('scheme', 'http')}:")
    found = await look(url, **told)
    assert (found.step, found.hint, found.misconfigured) == (step, HINTS[step], False)
    assert says in found.detail
    assert told.get("key") in (None, "") or told["key"] not in found.detail


async def test_nothing_is_asked_but_the_list(hostile: Serve, look) -> None:
    """One GET at the pinned address with the Host of the name, and the connection is gone with the process."""
    server = await hostile()
    found = await look(f"http://llm.plant.test:{server.port}/v1")
    assert found == Reached("", "plant-7b is served at 127.0.0.1")
    assert [(one.method, one.path, one.body) for one in server.seen] == [("GET", "/v1/models", {})]
    assert server.seen[0].headers["host"] == f"llm.plant.test:{server.port}"
    assert server.connections == 1


async def test_name_that_nobody_knows(look) -> None:
    """The resolver's own words; a resolver that does not answer costs the limit."""

    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    found = await look("http://llm.plant.test/v1", lookup=unknown)
    assert (found.step, found.detail) == ("resolve", "http://llm.plant.test/v1: Name or service not known")
    assert (found.hint, found.misconfigured) == (HINTS["resolve"], False)

    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def silent(host: str, port: int) -> list[str]:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
        return HERE

    found = await look("http://llm.plant.test/v1", lookup=silent, limit_s=0.2)
    release.set()
    assert (found.step, "not resolved within 0.2 s" in found.detail) == ("resolve", True)


def test_resolver_that_hangs_holds_nothing_up(look) -> None:
    """The loop ends, too, while the resolver still hangs: nobody waits for its thread."""
    release, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def hangs(host: str, port: int) -> list[str]:
        begun.set()
        release.wait(60)
        ended.set()
        return HERE

    async def both() -> Reached:
        return await look("http://llm.plant.test/v1", lookup=hangs, limit_s=0.2)

    found = asyncio.run(both())
    still = begun.is_set() and not ended.is_set()
    release.set()
    assert (found.step, "not resolved within 0.2 s" in found.detail, still) == ("resolve", True, True)
    assert ended.wait(60)


@pytest.mark.parametrize("case", list(UNUSABLE_KEYS))
async def test_key_that_no_header_can_hold(hostile: Serve, look, case: str) -> None:
    """Wrong in the configuration, before a packet is sent, and not told. Control: without its end it is taken."""
    server = await hostile()
    found = await look(server.url, key=UNUSABLE_KEYS[case])
    assert (found.step, found.misconfigured, server.connections) == ("key", True, 0)
    assert found.detail.startswith("llm.api_key holds ")
    assert KEY not in str(found)
    assert (await look(server.url)).step == ""


async def test_without_the_library(hostile: Serve, look, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is wrong on this machine, whatever the server does."""
    monkeypatch.setattr(ModelServer, "module", "tests.llm.remote_without_httpx")
    server = await hostile()
    found = await look(server.url)
    assert (found.step, found.misconfigured, server.connections) == ("process", True, 0)
    assert "fairlead[openai]" in found.detail


async def test_address_outside_the_site_gets_no_packet(hostile: Serve, look) -> None:
    """One bad address among those of a name is enough; control: without it the same server is reached."""
    server = await hostile()
    url = f"http://llm.plant.test:{server.port}/v1"
    found = await look(url, lookup=lambda *_: ["127.0.0.1", "8.8.8.8"])
    assert (found.step, found.misconfigured) == ("guard", True)
    assert "llm.plant.test resolves to 8.8.8.8, outside the site" in found.detail
    assert server.connections == 0
    assert (await look(url)).step == ""


async def test_nobody_listens(look, free_port) -> None:
    """A refused connection, told with the address as configured."""
    port = free_port()
    found = await look(f"http://127.0.0.1:{port}/v1")
    assert (found.step, found.hint) == ("connect", HINTS["connect"])
    assert f"127.0.0.1:{port}" in found.detail


@pytest.mark.parametrize("fault", ["name", "authority", "missing", "none"])
async def test_certificate_that_does_not_hold(hostile: Serve, look, tmp_path: Path, fault: str) -> None:
    """Of another name, of a foreign authority, and an authority's file that is not there: no request, so no key."""
    server = await hostile(context=certificate(tmp_path, "other.plant.test" if fault == "name" else "llm.plant.test"))
    ca = {"missing": "nowhere.pem", "authority": None}.get(fault, "ca.pem")
    found = await look(f"https://llm.plant.test:{server.port}/v1", ca=ca)
    assert server.seen == [] or fault == "none"
    if fault == "none":
        assert found == Reached("", "plant-7b is served at 127.0.0.1")
        return
    assert (found.step, found.misconfigured) == ("TLS", fault == "missing")
    assert "ertificate" in found.detail or "CERTIFICATE" in found.detail or "nowhere.pem" in found.detail


@pytest.mark.parametrize("fault", ["cut", "letters", "second"])
async def test_damaged_authority_is_of_the_configuration(hostile: Serve, look, tmp_path: Path, fault: str) -> None:
    """A certificate in PEM form that is none; control: the whole file is accepted."""
    server = await hostile(context=certificate(tmp_path, "llm.plant.test"))
    url = f"https://llm.plant.test:{server.port}/v1"
    whole = (tmp_path / "ca.pem").read_text()
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "letters": whole[:middle] + "????" + whole[middle + 4 :],
        "second": whole + whole[:middle],
    }
    (tmp_path / "bad.pem").write_text(damaged[fault])
    found = await look(url, ca="bad.pem")
    assert (found.step, found.misconfigured, server.seen) == ("TLS", True, [])
    assert "llm.ca cannot be read" in found.detail
    assert (await look(url, ca="ca.pem")).step == ""


ANSWERS = {
    "loads": (http(b"not now", status="503 Loading"), "answers 503: not now"),
    "another service": (http(b"<html>"), "no valid answer"),
    "endless": (http(b" " * (MAX_ANSWER + 1)), "longer than 256 KiB"),
    "redirect": (http(b"", status="302 F", headers="Location: http://8.8.8.8/\r\n"), "redirects"),
    "not http": (b"SSH-2.0-OpenSSH_9.9\r\n", ""),
    "silent": (None, "no answer within 1 s"),
}


@pytest.mark.parametrize("case", list(ANSWERS))
async def test_answer_that_is_no_list(hostile: Serve, look, case: str) -> None:
    """Whatever comes back costs the limit at most, and is told."""
    raw, says = ANSWERS[case]
    server = await hostile(models=lambda _: raw)
    found = await look(server.url, limit_s=1.0 if case == "silent" else 20.0)
    assert (found.step, found.hint) == ("answer", HINTS["answer"])
    assert says in found.detail
    assert KEY not in found.detail
