"""
Node addresses as they stand in a tag map, and the node ids they mean on one connection.

``nsu=<uri>;s=<text>`` names the namespace by its URI, whose index a server may change at each start; ``ns=<index>;``
is accepted and taken as it is; without either the node is in namespace 0. Identifiers: ``s=`` text, ``i=`` number,
``g=`` GUID, ``b=`` base64. Source: OPC UA Part 6, 5.3.1.10 and 5.3.1.11.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.tagmap import Tag

if TYPE_CHECKING:
    from asyncua import ua

    from adapters.opcua.config import OpcUaOptions

_ADDRESS = re.compile(r"^(?:nsu=(?P<uri>.+?);|ns=(?P<index>[0-9]{1,5});)?(?P<kind>[sigb])=(?P<text>.+)$", re.DOTALL)
_LONGEST_IDENTIFIER = 4096  # Part 3, 8.2.4
_EXAMPLE = "nsu=urn:maker:machine;s=Line1.Temperature"


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A parsed address: ``namespace`` is a URI, or an index where the address names one."""

    namespace: str | int
    identifier: str | int | bytes | uuid.UUID

    def resolve(self, namespaces: Sequence[str]) -> ua.NodeId | None:
        """The node id on a server with this namespace array; None where the server has no such namespace."""
        if isinstance(self.namespace, int):
            index = self.namespace
        elif self.namespace in namespaces:
            index = list(namespaces).index(self.namespace)
        else:
            return None
        from asyncua import ua  # addresses are checked where the library is not needed

        return ua.NodeId(self.identifier, index)


def address_text(node: ua.NodeId, namespaces: Sequence[str]) -> str:
    """
    A node id of a server with this namespace array, as an address that outlives a new order of its namespaces.

    Empty for the null node; an index that the array does not have stays an index.
    """
    if node.is_null():
        return ""
    index, identifier = node.NamespaceIndex, node.Identifier
    if isinstance(identifier, bytes):
        name = f"b={base64.b64encode(identifier).decode()}"
    elif isinstance(identifier, uuid.UUID):
        name = f"g={identifier}"
    else:
        name = f"{'i' if isinstance(identifier, int) else 's'}={identifier}"
    uri = getattr(node, "NamespaceUri", None) or (namespaces[index] if 0 < index < len(namespaces) else None)
    if uri is not None:
        return f"nsu={uri.replace('%', '%25').replace(';', '%3B')};{name}"
    return f"ns={index};{name}" if index else name


def parse_address(text: str) -> NodeAddress:
    """Read one address. Raises ValueError with a text that says what is wrong."""
    match = _ADDRESS.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a node address; write it like {_EXAMPLE}")
    uri, index, kind, identifier = match.group("uri", "index", "kind", "text")
    namespace: str | int = 0
    if uri is not None:
        namespace = uri.replace("%3B", ";").replace("%25", "%")
    elif index is not None:
        namespace = int(index)
        if namespace > 0xFFFF:
            raise ValueError(f"namespace index {namespace} is above 65535")
    return NodeAddress(namespace, _identifier(kind, identifier))


def _identifier(kind: str, text: str) -> str | int | bytes | uuid.UUID:
    if kind == "s":
        if len(text) > _LONGEST_IDENTIFIER:
            raise ValueError(f"text identifier is longer than {_LONGEST_IDENTIFIER} characters")
        return text
    if kind == "i":
        if not text.isascii() or not text.isdigit() or int(text) > 0xFFFFFFFF:
            raise ValueError(f"i={text}: want a number 0-4294967295")
        return int(text)
    if kind == "g":
        try:
            return uuid.UUID(text)
        except ValueError:
            raise ValueError(f"g={text}: want a GUID like 09087e75-8e5e-499b-954f-f2a9603db28a") from None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"b={text}: want base64") from None


def check_tag(options: OpcUaOptions, tag: Tag) -> str | None:  # noqa: ARG001 - the hook's signature
    """What is wrong with the tag's address, or None."""
    try:
        parse_address(tag.address)
    except ValueError as error:
        return str(error)
    return None
