"""Fixtures of model servers, the real one of llama-cpp-python and hand-written ones, and of reasoners that ask them."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llm.client import Reasoner
from llm.options import ReasonerOptions
from tests.llm.hostile_server import HostileServer
from tests.waiting import until

KEY = "sesame-4711"
#: Keys that no header can hold, as a file with foreign line ends or a word processor gives them.
UNUSABLE_KEYS = {"space": f"{KEY} ", "carriage return": f"{KEY}\r", "line": f"{KEY}\nX: y", "not ASCII": f"{KEY}é"}
Serve = Callable[..., Awaitable[HostileServer]]
Ask = Callable[..., Awaitable[Reasoner]]


@pytest.fixture
async def hostile() -> AsyncIterator[Serve]:
    """Start hand-written servers; all end with the test."""
    started: list[HostileServer] = []

    async def serve(host: str = "127.0.0.1", port: int = 0, **told: object) -> HostileServer:
        one = HostileServer(**told)
        started.append(one)
        await one.start(host, port)
        return one

    yield serve
    for one in started:
        await one.stop()


@pytest.fixture
async def speaking(tmp_path: Path) -> AsyncIterator[Ask]:
    """Start reasoners that ask a server; all are closed at the end."""
    started: list[Reasoner] = []

    async def start(url: str, *, lookup=None, locate=None, **options: object) -> Reasoner:
        told = ReasonerOptions.model_validate(
            {"backend": "openai", "url": url, "model": "plant-7b", "api_key": "env:X", **options}
        )
        given = {"lookup": lookup, "locate": locate}
        more = {name: one for name, one in given.items() if one is not None}
        one = Reasoner(told, base_dir=tmp_path, now_ns=lambda: 7, api_key=KEY, **more)
        started.append(one)
        await one.start()
        return one

    yield start
    for one in started:
        await one.close()


@pytest.fixture(scope="module")
def real_server(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``llama_cpp.server`` with random weights, in a process of its own; its address."""
    pytest.importorskip("sse_starlette", reason="the server extra of llama-cpp-python is not installed")
    pytest.importorskip("starlette_context", reason="the server extra of llama-cpp-python is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "llama_cpp.server", "--model", str(tiny_gguf), "--host", "127.0.0.1",
             "--port", str(port), "--n_ctx", "4096", "--n_threads", "1", "--chat_format", "mistral-instruct",
             "--model_alias", "tiny", "--logits_all", "true", "--api_key", KEY, "--verbose", "false"],
            stdout=out, stderr=out,
        )  # fmt: skip

    def up() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/v1/models", trust_env=False, timeout=5).status_code == 401
        except httpx.HTTPError:
            return False

    until(up, 240, "the server answers")
    yield f"http://localhost:{port}/v1"
    process.terminate()
    process.wait(120)


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """A server's context for a name, signed by an authority whose certificate is ``ca.pem`` in the folder."""
    now = datetime.datetime.now(datetime.UTC)

    def signed(subject: str, key, issuer: str, issuer_key, extension) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(extension, critical=False)
            .sign(issuer_key, hashes.SHA256())
        )

    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = signed("Plant CA", root, "Plant CA", root, x509.BasicConstraints(ca=True, path_length=None))
    try:
        place: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        place = x509.DNSName(name)
    leaf = signed(name, own, "Plant CA", root, x509.SubjectAlternativeName([place]))
    (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    key = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM) + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context
