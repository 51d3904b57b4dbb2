"""TLS towards a real broker: the chain and the name are always checked."""

from __future__ import annotations

import asyncio
import copy
import datetime
import ipaddress
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import MQTTErrorCode

from adapters.mqtt import MqttAdapter
from schemas.errors import NotConnected
from schemas.samples import Delivery
from tests.contract.mosquitto import Mosquitto

Make = Callable[..., MqttAdapter]
NUMBERS = {"line1/n": "int32"}
PLAIN = [{"filter": "line1/#", "decode": "plain"}]


def _authority(folder: Path, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(name, key, name, key, [x509.BasicConstraints(ca=True, path_length=None)])
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    extensions: list[x509.ExtensionType],
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.fixture
def plain_port(free_port: Callable[[], int]) -> int:
    """A port where the same broker takes messages without TLS."""
    return free_port()


@pytest.fixture
def secure(
    need: Callable[[str], str], tmp_path: Path, free_port: Callable[[], int], plain_port: int
) -> Iterator[Mosquitto]:
    """A mosquitto with a certificate for 127.0.0.1 of the authority ``plant``, which asks for one of ours."""
    _, authority_key = _authority(tmp_path, "plant")
    _authority(tmp_path, "stranger")
    for name in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = _signed(name, key, "plant", authority_key, [address])
        (tmp_path / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pem = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (tmp_path / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *pem))
        (tmp_path / f"{name}.key").chmod(0o600)
    files = {"cafile": "plant.pem", "certfile": "server.pem", "keyfile": "server.key"}
    lines = [f"{option} {tmp_path / name}" for option, name in files.items()]
    more = ("require_certificate true", "user root", f"listener {plain_port} 127.0.0.1")
    broker = Mosquitto(need("mosquitto"), tmp_path, free_port(), *lines, *more)
    with broker.running():
        yield broker


async def test_a_verified_broker_is_read(secure: Mosquitto, make: Make) -> None:
    """With the right authority and our certificate the connection works, and only encrypted."""
    url = f"mqtts://127.0.0.1:{secure.port}"
    own = {"ca": "plant.pem", "cert": "client.pem", "key": "client.key"}
    adapter = make(url, NUMBERS, subscriptions=PLAIN, tls=own)
    await adapter.connect()
    assert adapter.facts["session"] == "new"
    await adapter.close()

    plain = make(f"mqtt://127.0.0.1:{secure.port}", NUMBERS, "plain", subscriptions=PLAIN)
    with pytest.raises(NotConnected):
        await plain.connect()


async def test_many_messages_are_taken_in_few_reads(secure: Mosquitto, make: Make, plain_port: int) -> None:
    """Each message is a record of its own; a pause behind each would be 200 messages a second at most."""
    own = {"ca": "plant.pem", "cert": "client.pem", "key": "client.key"}
    adapter = make(f"mqtts://127.0.0.1:{secure.port}", NUMBERS, subscriptions=PLAIN, tls=own)
    await adapter.connect()
    await adapter.close()
    sender = copy.copy(secure)
    sender.port = plain_port
    await asyncio.to_thread(sender.publish, [("line1/n", str(n)) for n in range(2000)])
    await adapter.connect()
    assert adapter._session is not None
    client = adapter._session._client
    reads = 0
    read = client.loop_read

    def counted(max_packets: int = 1) -> MQTTErrorCode:
        nonlocal reads
        reads += 1
        return read(max_packets)

    client.loop_read = counted  # type: ignore[method-assign]
    values: list[float] = []
    async with asyncio.timeout(60):
        while len(values) < 2000:
            item = await adapter.read()
            assert isinstance(item, Delivery)
            values += item.batch.value.tolist()
            await item.settle()

    assert values == list(range(2000))
    assert reads < 400
    await adapter.close()


async def test_a_broker_that_cannot_prove_itself_is_refused(secure: Mosquitto, make: Make) -> None:
    """Another authority, or another name than the certificate's, ends the connection before anything is said."""
    for host, authority in (("127.0.0.1", "stranger.pem"), ("localhost", "plant.pem")):
        tls = {"ca": authority, "cert": "client.pem", "key": "client.key"}
        adapter = make(f"mqtts://{host}:{secure.port}", NUMBERS, subscriptions=PLAIN, tls=tls)
        with pytest.raises(NotConnected, match="certificate verify failed"):
            await asyncio.wait_for(adapter.connect(), 60)
        await adapter.close()


async def test_a_key_open_to_others_is_refused(secure: Mosquitto, make: Make, tmp_path: Path) -> None:
    """A private key that others may read is not used."""
    (tmp_path / "client.key").chmod(0o644)
    tls = {"ca": "plant.pem", "cert": "client.pem", "key": "client.key"}
    adapter = make(f"mqtts://127.0.0.1:{secure.port}", NUMBERS, subscriptions=PLAIN, tls=tls)
    with pytest.raises(NotConnected, match="others may read"):
        await adapter.connect()


async def test_an_expired_acknowledgement_of_plain_text_stops_the_source(make: Make) -> None:
    """``insecure_ack`` ends on its day; behind it the source says so instead of connecting."""
    adapter = make("mqtt://192.0.2.1", NUMBERS, subscriptions=PLAIN, insecure_ack="j.doe test stand 2020-01-31")
    with pytest.raises(NotConnected, match="insecure_ack ended on 2020-01-31"):
        await adapter.connect()


def test_tls_below_1_2_is_off(make: Make, tmp_path: Path) -> None:
    """The context accepts TLS 1.2 and later, and checks the name."""
    from adapters.mqtt.config import MqttOptions
    from adapters.mqtt.login import resolve

    options = MqttOptions.model_validate({"broker": "mqtts://plant", "subscriptions": PLAIN})
    context = resolve(options, "id", tmp_path).tls
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
