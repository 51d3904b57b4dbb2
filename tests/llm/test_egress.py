"""The guard of the model server's address: what it lets through, and that a name is asked once."""

from __future__ import annotations

import socket

import pytest
from pydantic import ValidationError

from llm.egress import endpoint, pin
from llm.options import ReasonerOptions
from schemas.errors import WorkerError


@pytest.mark.parametrize(
    ("url", "authority", "at"),
    [
        ("http://127.0.0.1:8000/v1", "127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://10.1.2.3/v1/", "10.1.2.3", "http://10.1.2.3:80/v1"),
        ("http://172.31.0.9:1/v1", "172.31.0.9:1", "http://172.31.0.9:1/v1"),
        ("https://192.168.7.7", "192.168.7.7", "https://192.168.7.7:443"),
        ("http://[::1]:9/v1", "[::1]:9", "http://[::1]:9/v1"),
        ("http://[fd00::5]/v1", "[fd00::5]", "http://[fd00::5]:80/v1"),
    ],
)
def test_addresses_of_the_site_are_let_through(url: str, authority: str, at: str) -> None:
    where = endpoint(url)
    assert where.authority == authority
    assert where.at(pin(where, lambda *_: pytest.fail("an address needs no resolver"))) == at


OUTSIDE = ["8.8.8.8", "172.32.0.1", "172.15.255.255", "192.169.0.1", "11.0.0.1", "100.64.0.1", "0.0.0.0", "224.0.0.1"]
OUTSIDE_6 = [
    "2001:db8::1",
    "::",
    "fe80::1",
    "ff02::1",
    "::ffff:8.8.8.8",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "fec0::1",
]


@pytest.mark.parametrize("host", [*OUTSIDE, "169.254.169.254", *(f"[{text}]" for text in OUTSIDE_6)])
def test_other_addresses_are_an_error_of_the_configuration(host: str) -> None:
    """Public, link-local, shared, mapped and translated addresses do not pass validation, which says which may."""
    with pytest.raises(ValidationError, match="outside the site; allowed are loopback"):
        ReasonerOptions(backend="openai", model="m", url=f"http://{host}:8000/v1")


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "10.0.0.256", "1.2.3", "x.0x7f"])
def test_numbers_that_a_resolver_would_read_as_an_address_are_refused(host: str) -> None:
    """Decimal, octal, hexadecimal and shortened forms: here they are no address and no name."""
    with pytest.raises(ValidationError, match="is no address"):
        ReasonerOptions(backend="openai", model="m", url=f"http://{host}:8000/v1")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://10.0.0.1/v1",
        "10.0.0.1:8000",
        "http://user:secret@10.0.0.1/v1",
        "http://10.0.0.1/v1?key=1",
        "http://10.0.0.1/v1#x",
        "http://10.0.0.1:99999/v1",
        "http://[fd00::1%25eth0]/v1",
        "http:///v1",
        "http://a b/v1",
        "http://-x-/v1",
        "http://10.0.0.1\\@8.8.8.8/v1",
    ],
)
def test_odd_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        ReasonerOptions(backend="openai", model="m", url=url)


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend": "openai", "model": "m"},
        {"backend": "openai", "url": "http://10.0.0.1/v1"},
        {"backend": "openai", "url": "http://10.0.0.1/v1", "model": "registry:plant-7b"},
        {"url": "http://10.0.0.1/v1"},
        {"backend": "none", "ca": "x"},
        {"backend": "openai", "url": "http://10.0.0.1/v1", "model": "m", "api_key": "literal"},
    ],
)
def test_options_that_do_not_fit_the_backend_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ReasonerOptions.model_validate(wrong)


@pytest.mark.parametrize("outside", ["8.8.8.8", "169.254.169.254", "fe80::1%eth0", "::ffff:10.0.0.1", "2001:db8::7"])
def test_a_name_with_one_address_outside_is_refused(outside: str) -> None:
    """Two addresses of which one is the site's are a sign of rebinding, whichever comes first."""
    where = endpoint("http://llm.plant.test:8000/v1")
    for found in ([outside], ["10.0.0.5", outside], [outside, "10.0.0.5"]):
        with pytest.raises(WorkerError, match=r"llm\.url: llm\.plant\.test resolves to .* outside the site"):
            pin(where, lambda *_, found=found: found)


def test_a_name_is_pinned_to_its_first_address() -> None:
    where = endpoint("http://LLM.Plant.Test.:8000/v1/")
    asked: list[tuple[str, int]] = []

    def lookup(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["10.0.0.5", "fd00::5", "10.0.0.5"]

    assert pin(where, lookup) == "10.0.0.5"
    assert asked == [("llm.plant.test", 8000)]
    assert where.authority == "llm.plant.test:8000"


def test_a_name_without_an_address_may_have_one_later() -> None:
    """No address is no refusal: OSError, as the system's resolver raises it."""

    def none(*_: object) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    where = endpoint("http://llm.plant.test/v1")
    with pytest.raises(OSError, match="not known"):
        pin(where, none)
    with pytest.raises(OSError, match="has no address"):
        pin(where, lambda *_: [])
    assert pin(endpoint("http://localhost/v1")) in ("127.0.0.1", "::1")
