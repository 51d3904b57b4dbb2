"""Node addresses: read, refused, resolved."""

from __future__ import annotations

import base64
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.opcua.nodes import NodeAddress, parse_address

NAMESPACES = ["http://opcfoundation.org/UA/", "urn:server", "urn:example;line", "http://maker/a%b"]


@pytest.mark.parametrize(
    ("text", "index", "identifier"),
    [
        ("i=2258", 0, 2258),
        ("ns=3;s=DB.Value", 3, "DB.Value"),
        ('nsu=urn:server;s="DB"."Struct"."Tag"', 1, '"DB"."Struct"."Tag"'),
        ("nsu=urn:server;s=a;b=c;s=d", 1, "a;b=c;s=d"),
        ("nsu=urn:example%3Bline;i=4294967295", 2, 4294967295),
        ("nsu=http://maker/a%25b;b=AAEC", 3, b"\0\1\2"),
        ("g=09087e75-8e5e-499b-954f-f2a9603db28a", 0, uuid.UUID("09087e75-8e5e-499b-954f-f2a9603db28a")),
    ],
)
def test_addresses_resolve(text: str, index: int, identifier: object) -> None:
    """Every form gives the identifier and the namespace index of this server."""
    node = parse_address(text).resolve(NAMESPACES)
    assert node is not None
    assert (node.NamespaceIndex, node.Identifier) == (index, identifier)


@pytest.mark.parametrize(
    "text",
    ["", "Temperature", "s=", "ns=x;s=a", "ns=70000;i=1", "i=-1", "i=4294967296", "g=12", "b=@@", "nsu=;s=a", "i=²"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """A text that names no node is an error that says what is wanted."""
    with pytest.raises(ValueError, match=r"want|write it like|above"):
        parse_address(text)


def test_an_unknown_namespace_resolves_to_nothing() -> None:
    """A namespace URI that the server does not have gives no node id."""
    assert parse_address("nsu=urn:elsewhere;s=a").resolve(NAMESPACES) is None


@given(
    st.sampled_from(NAMESPACES),
    st.one_of(
        st.integers(0, 0xFFFFFFFF), st.uuids(), st.binary(min_size=1), st.text(min_size=1, max_size=100).map(str)
    ),
)
def test_round_trip(uri: str, identifier: int | str | bytes | uuid.UUID) -> None:
    """Written in the syntax and read again, an address is the same."""
    kind, text = {
        int: ("i", str(identifier)),
        str: ("s", identifier),
        bytes: ("b", base64.b64encode(identifier if isinstance(identifier, bytes) else b"").decode()),
        uuid.UUID: ("g", str(identifier)),
    }[type(identifier)]
    written = f"nsu={uri.replace('%', '%25').replace(';', '%3B')};{kind}={text}"
    assert parse_address(written) == NodeAddress(uri, identifier)
