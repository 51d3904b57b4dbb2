"""
Node addresses as they stand in a tag map, and the node ids they mean on one connection.

``nsu=<uri>;s=<text>`` names the namespace by its URI, whose index a server may change at each start; ``ns=<index>;``
is accepted with a warning, and refused when another namespace stands there than at first (:mod:`.namespaces`); without
either the node is in namespace 0. Identifiers: ``s=`` text, ``i=`` number,
``g=`` GUID, ``b=`` base64. Source: OPC UA Part 6, 5.3.1.10 and 5.3.1.11.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas import status
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


#: Some of the namespace indices of our addresses, from a namespace array.
IndicesOf = Callable[[Sequence[str]], Collection[int]]
#: Node id of each tag on one connection, by number; None where the namespace is not there or in doubt.
Nodes = dict[int, "ua.NodeId | None"]


class Addresses:
    """
    The node addresses of a source's tags. Raises ValueError where one cannot be read.

    *moved* gives the namespace indices that mean another namespace than they did, in a namespace array, and *absent*
    those at which a namespace stood and none does.
    """

    def __init__(self, tags: Iterable[Tag], moved: IndicesOf = lambda _: (), absent: IndicesOf = lambda _: ()) -> None:
        self._addresses = {tag.number: parse_address(tag.address) for tag in tags}
        self._moved_in = moved
        self._absent_in = absent
        self._moved: Collection[int] = ()

    def resolve(self, namespaces: Sequence[str], numbers: Iterable[int] | None = None) -> Nodes:
        """The nodes of these tags, or of all, on a server with this namespace array; see :meth:`missing`."""
        self._moved = self._moved_in(namespaces)
        nowhere = {*self._moved, *self._absent_in(namespaces)}  # what comes to an absent index may be another namespace
        wanted = self._addresses if numbers is None else numbers
        return {
            number: None if (address := self._addresses[number]).namespace in nowhere else address.resolve(namespaces)
            for number in wanted
        }

    def missing(self, number: int) -> int:
        """The status of a tag without a node: its index means another namespace, or there is no such namespace."""
        moved = self._addresses[number].namespace in self._moved
        return status.BAD_CONFIGURATION_ERROR if moved else status.BAD_NODE_ID_UNKNOWN


def indices_of(addresses: Iterable[str]) -> set[int]:
    """The namespaces that these addresses name by their index."""
    return {one.namespace for one in map(parse_address, addresses) if isinstance(one.namespace, int)}


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


def doubt_tag(options: OpcUaOptions, tag: Tag) -> str | None:  # noqa: ARG001 - the hook's signature
    """What may go wrong with the tag's address later, or None."""
    address = parse_address(tag.address)
    if not isinstance(address.namespace, int) or not address.namespace:
        return None
    return (
        f"{tag.source} is read by namespace indices, which a server may give to other namespaces at its next start; "
        f"name the namespace by its URI, like {_EXAMPLE}"
    )
