"""Serial frames over TCP, TLS, and devices that want to be spoken to in their own way."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer.rtu import FramerRTU

from adapters.modbus.frames import crc
from schemas import status
from schemas.errors import NotConnected
from schemas.samples import SampleBatch
from schemas.tagmap import Tag
from simulators import SignalValue
from simulators.modbus_server import ModbusServer, RegisterPoint
from tests.adapters.modbus.scripted import bytes_server

MakeTag = Callable[..., Tag]
MakeAdapter = Callable[..., Any]
Take = Callable[[Any], Awaitable[SampleBatch]]

POINTS = [RegisterPoint(f"r{i}", "holding", i, "uint16") for i in (*range(10), 500)]
VALUES: dict[str, SignalValue] = {f"r{i}": 1000 + i for i in (*range(10), 500)}
ADDRESSES = (0, 5, 500)


def tags(make_tag: MakeTag, unit: str = "") -> list[Tag]:
    return [make_tag(i, f"{unit}HR{i}") for i in ADDRESSES]


def right(batch: SampleBatch) -> bool:
    return bool((batch.status == status.GOOD).all() and (batch.value == 1000 + batch.tag).all())


@given(st.binary(max_size=260))
def test_the_checksum_is_the_library_s(data: bytes) -> None:
    """CRC-16 equals that of pymodbus."""
    assert int.from_bytes(crc(data), "big") == FramerRTU.compute_CRC(data)


async def test_serial_frames_over_tcp(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """rtu_over_tcp reads values, exceptions and coils through frames with checksum."""
    points = [*POINTS, *(RegisterPoint(f"c{i}", "coil", i, "bool") for i in range(12))]
    values = {**VALUES, **{f"c{i}": i % 3 == 0 for i in range(12)}}
    async with ModbusServer(lambda: values, points, framing="rtu") as server:
        some = [*tags(make_tag), make_tag(900, "HR900"), *(make_tag(1000 + i, f"C{i}", None) for i in range(12))]
        adapter = make_adapter(server.port, some, address_style="zero_based", transport="rtu_over_tcp")
        await adapter.connect()
        for _ in range(3):
            rows = {row.tag: row for row in (await take(adapter)).rows()}
            assert [rows[i].value for i in ADDRESSES] == [1000, 1005, 1500]
            assert rows[900].status == status.BAD_CONFIGURATION_ERROR
            assert [rows[1000 + i].value for i in range(12)] == [float(i % 3 == 0) for i in range(12)]
        assert adapter.counters["connections"] == 1


def rtu(body: bytes) -> bytes:
    return body + crc(body)


def rtu_registers(address: int, count: int, unit: int = 1, function: int = 3) -> bytes:
    return rtu(struct.pack(f">BBB{count}H", unit, function, 2 * count, *range(address, address + count)))


SERIAL: dict[str, Callable[[int, int], bytes]] = {
    "wrong checksum": lambda a, n: rtu_registers(a, n)[:-1] + b"\x00",
    "one bit turned over": lambda a, n: (
        bytes([*rtu_registers(a, n)[:4], rtu_registers(a, n)[4] ^ 1]) + rtu_registers(a, n)[5:]
    ),
    "another unit": lambda a, n: rtu_registers(a, n, unit=2),
    "another function": lambda a, n: rtu_registers(a, n, function=4),
    "too few registers": lambda a, n: rtu_registers(a, n - 1),
    "two replies": lambda a, n: rtu_registers(a, n) * 2,
    "exception of another function": lambda a, n: rtu(b"\x01\x84\x02"),
    "exception code 0": lambda a, n: rtu(b"\x01\x83\x00"),
}


@pytest.mark.parametrize("name", sorted(SERIAL))
async def test_a_doubtful_serial_reply_is_never_a_value(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, name: str
) -> None:
    """A serial reply that does not fit makes a bad row without value, at once, and costs the socket."""

    def reply(data: bytes) -> list[bytes]:
        _, _, address, count = struct.unpack(">BBHH", data[:6])
        return [SERIAL[name](address, count)]

    async with bytes_server(8, reply) as port:
        two = [make_tag(0, "HR0"), make_tag(1, "HR1")]
        adapter = make_adapter(port, two, address_style="zero_based", transport="rtu_over_tcp", timeout="5s")
        await adapter.connect()
        batch = await asyncio.wait_for(take(adapter), 3)
        assert (batch.status == status.BAD_DECODING_ERROR).all()
        assert np.isnan(batch.value).all()
        assert adapter.counters["doubtful_replies"] == 1


@pytest.mark.parametrize("options", [{"transport": "rtu_over_tcp"}, {"workarounds": {"transaction_id_zero": True}}])
async def test_a_late_reply_without_id_is_waited_out(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, options: dict[str, Any]
) -> None:
    """
    A gateway that sends what it owes over whatever connection stands gives no wrong value: after a time-out the
    connection is closed and one time-out passes before the next one.
    """
    serial = "transport" in options
    owed: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []
    asked = 0

    def answer_of(data: bytes) -> bytes:
        _, function, address, count = struct.unpack(">BBHH", data[:6] if serial else data[6:])
        if serial:
            return rtu_registers(address, count)
        pdu = struct.pack(f">BB{count}H", function, 2 * count, *range(address, address + count))
        return struct.pack(">HHHB", 0, 0, len(pdu) + 1, 1) + pdu

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        writers.append(writer)
        try:
            while data := await reader.readexactly(8 if serial else 12):
                asked += 1
                if asked % 4 == 2:  # this one comes 1.3 time-outs late, on the newest connection
                    owed.append(answer_of(data))
                    asyncio.get_running_loop().call_later(0.13, lambda: writers[-1].write(owed.pop(0)))
                else:
                    writer.write(answer_of(data))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    far = [make_tag(i, f"HR{i}") for i in (100, 200, 300)]
    adapter = make_adapter(port, far, address_style="zero_based", timeout="100ms", fail_after=5, **options)
    await adapter.connect()
    good = 0
    for _ in range(8):
        try:
            batch = await take(adapter)
        except NotConnected:
            await adapter.connect()
            continue
        fine = batch.status == status.GOOD
        good += int(fine.sum())
        assert (batch.value[fine] == batch.tag[fine]).all()
        assert np.isnan(batch.value[~fine]).all()
    assert good > 0
    assert adapter.counters["timeouts"] > 0
    await adapter.close()
    server.close()
    await server.wait_closed()


# TLS


def _signed(folder: Path, name: str, issuer: str | None, issuer_key: Any) -> Any:
    """A key and a certificate for 127.0.0.1, or an authority where there is no issuer; gives the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)

    def called(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    certificate = (
        x509.CertificateBuilder()
        .subject_name(called(name))
        .issuer_name(called(issuer or name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(issuer_key or key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    (folder / f"{name}.key").chmod(0o600)
    return key


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """An authority ``plant`` that signed ``device`` and ``client``, and one ``stranger`` that signed neither."""
    plant = _signed(tmp_path, "plant", None, None)
    _signed(tmp_path, "stranger", None, None)
    for name in ("device", "client"):
        _signed(tmp_path, name, "plant", plant)
    return tmp_path


def device_side(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "device.pem", folder / "device.key")
    context.load_verify_locations(folder / "plant.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


OURS = {"ca": "plant.pem", "cert": "client.pem", "key": "file:client.key"}


async def test_mutual_tls(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, certificates: Path) -> None:
    """Modbus/TCP Security: both sides show a certificate, and the values come."""
    async with ModbusServer(lambda: VALUES, POINTS, tls=device_side(certificates)) as server:
        adapter = make_adapter(
            server.port,
            tags(make_tag),
            address_style="zero_based",
            transport="tls",
            tls=OURS,
            timeout="5s",
            in_flight=4,
        )
        await adapter.connect()
        assert right(await take(adapter))
        await adapter.close()


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"ca": "stranger.pem"}, "certificate is not accepted"),
        ({"ca": "missing.pem"}, r"tls\.ca"),
        ({"cert": "missing.pem"}, r"tls\.cert"),
        ({"key": "file:device.key"}, r"tls\.cert, tls\.key"),
        ({"key": "file:missing.key"}, "cannot be read"),
    ],
)
async def test_tls_that_cannot_be_trusted_is_refused(
    make_tag: MakeTag, make_adapter: MakeAdapter, certificates: Path, change: dict[str, str], hint: str
) -> None:
    """A device of another authority, and files that are missing or do not fit, are NotConnected with the reason."""
    async with ModbusServer(lambda: VALUES, POINTS, tls=device_side(certificates)) as server:
        adapter = make_adapter(
            server.port, tags(make_tag), address_style="zero_based", transport="tls", tls={**OURS, **change}
        )
        with pytest.raises(NotConnected, match=hint):
            await adapter.connect()
        assert server.requests == {}


async def test_a_key_that_others_may_read_is_refused(
    make_tag: MakeTag, make_adapter: MakeAdapter, certificates: Path
) -> None:
    """A plain file name is judged like a reference."""
    (certificates / "open.key").write_bytes((certificates / "client.key").read_bytes())
    (certificates / "open.key").chmod(0o644)
    for key in ("open.key", "file:open.key"):
        adapter = make_adapter(1, tags(make_tag), address_style="zero_based", transport="tls", tls={**OURS, "key": key})
        with pytest.raises(NotConnected, match="others may read the file"):
            await adapter.connect()


def test_tls_has_its_own_port(make_adapter: MakeAdapter) -> None:
    """Without a port, tls means 802 and the others 502."""
    assert make_adapter(None, [], transport="tls", tls=OURS)._link._port == 802
    assert make_adapter(None, [])._link._port == 502


# manners


async def test_closes_the_connection_after_each_poll(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, eventually: Any
) -> None:
    """close_connection_after_gather leaves no socket between polls, for devices that serve one client at a time."""
    async with ModbusServer(lambda: VALUES, POINTS, most_connections=1) as server:
        adapter = make_adapter(
            server.port,
            tags(make_tag),
            address_style="zero_based",
            workarounds={"close_connection_after_gather": True},
        )
        await adapter.connect()
        for n in range(3):
            assert right(await take(adapter))
            await eventually(lambda: server.open_connections == 0)
            assert adapter.counters["connections"] == n + 1


async def test_pauses_are_kept(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """Nothing is sent for pause_after_connect, and requests are pause_between_requests apart."""
    loop = asyncio.get_running_loop()
    times: list[float] = []

    def reply(data: bytes) -> list[bytes]:
        times.append(loop.time())
        t, _, _, u, f, a, n = struct.unpack(">HHHBBHH", data)
        pdu = struct.pack(f">BB{n}H", f, 2 * n, *range(a, a + n))
        return [struct.pack(">HHHB", t, 0, len(pdu) + 1, u) + pdu]

    async with bytes_server(12, reply) as port:
        far = [make_tag(i, f"HR{i}") for i in (100, 200, 300)]
        pauses = {"pause_after_connect": "50ms", "pause_between_requests": "40ms"}
        adapter = make_adapter(port, far, address_style="zero_based", workarounds=pauses)
        before = loop.time()
        await adapter.connect()
        batch = await take(adapter)
        assert batch.value.tolist() == [100, 200, 300]
        assert times[0] - before >= 0.05
        assert min(np.diff(times)) >= 0.039


async def test_a_busy_device_is_asked_again(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """Busy answers are repeated as often as configured; beyond that the rows of the poll are bad, and told so."""
    async with ModbusServer(lambda: VALUES, POINTS) as server:
        again = {"busy_retries": 2, "busy_retries_wait": "1ms"}
        adapter = make_adapter(server.port, tags(make_tag), address_style="zero_based", workarounds=again)
        await adapter.connect()
        server.busy = 2
        assert right(await take(adapter))
        assert adapter.counters["busy_retries"] == 2
        server.busy = 100
        assert (await take(adapter)).status.tolist() == [status.BAD_SERVER_TOO_BUSY] * 3
        server.busy = 0
        assert right(await take(adapter))


async def test_a_smaller_device_is_learnt(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """A device that gives fewer registers at once than configured costs no value, and is planned for."""
    points = [RegisterPoint(f"r{i}", "holding", i, "uint16") for i in range(100)]
    async with ModbusServer(lambda: {f"r{i}": 1000 + i for i in range(100)}, points) as server:
        server.most_registers = 32
        adapter = make_adapter(server.port, [make_tag(i, f"HR{i}") for i in range(100)], address_style="zero_based")
        await adapter.connect()
        costs = []
        for _ in range(4):
            before = server.requests[3]
            assert right(await take(adapter))
            costs.append(server.requests[3] - before)
        assert costs[0] > costs[2] == costs[3] == 4
        assert adapter.counters["refused_items"] == 0


async def test_an_idle_connection_that_the_device_closed_costs_nothing(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, eventually: Any
) -> None:
    """A device that cuts a connection between two polls, or as the next request comes, is asked again on a new one."""
    async with ModbusServer(lambda: VALUES, POINTS) as server:
        adapter = make_adapter(server.port, tags(make_tag), address_style="zero_based")
        await adapter.connect()
        for _ in range(3):
            assert right(await take(adapter))
            await server.drop()
        assert right(await take(adapter))
        assert adapter.counters["timeouts"] == 0
