"""
Values of structures that a server describes, as named fields.

The library would register every server's types for the whole process, by a namespace index that means something else on
the next server. Here the descriptions belong to one connection: the DataTypeDefinition of each item's data type is read
(no Call, no Browse), and the raw body decoded with it. A structure that is not described, or whose body does not fit
its description, stays as it came: ``{"type": …, "body": …}``. Source: OPC UA Part 3, 8.48; Part 6, 5.2.6 and 5.2.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import unpack_uatype

from adapters.opcua.decode import plain
from adapters.opcua.faults import DECODE_ERRORS
from adapters.opcua.link import Link
from schemas.samples import Exact

_MOST_TYPES: Final = 1000
_DEEPEST: Final = 16
_LONGEST_ARRAY: Final = 1_000_000
#: Types of namespace 0 that are not built in themselves, and how they are encoded (Part 5, 12.2).
_ALIASES: Final = {
    22: ua.VariantType.ExtensionObject,  # Structure
    24: ua.VariantType.Variant,
    29: ua.VariantType.Int32,  # Enumeration
    290: ua.VariantType.Double,  # Duration
    294: ua.VariantType.DateTime,  # UtcTime
    295: ua.VariantType.String,  # LocaleId
    12877: ua.VariantType.String,  # NormalizedString
    12878: ua.VariantType.String,  # DecimalString
}
_LAST_BUILT_IN: Final = 25


class _NotDescribed(Exception):
    """A part of a structure is of a type that we cannot decode."""


class Structures:
    """What one server told of its structures."""

    def __init__(self) -> None:
        self._types: dict[ua.NodeId, ua.StructureDefinition | ua.EnumDefinition | None] = {}
        self._by_encoding: dict[str, ua.StructureDefinition] = {}

    def __len__(self) -> int:
        return len(self._by_encoding)

    async def learn(self, link: Link, nodes: Sequence[ua.NodeId], chunk: int) -> None:
        """Read what describes these variables' data types, and the types of their fields. Raises link errors."""
        types = await link.read(nodes, chunk, ua.AttributeIds.DataType)
        wanted = {value.Value.Value for value in types if value.Value is not None}
        for _ in range(_DEEPEST):
            fresh = [one for one in wanted if isinstance(one, ua.NodeId) and _foreign(one) and one not in self._types]
            if not fresh or len(self._types) + len(fresh) > _MOST_TYPES:
                return
            found = await link.read(fresh, chunk, ua.AttributeIds.DataTypeDefinition)
            wanted = set()
            for node, value in zip(fresh, found, strict=True):
                definition = None if value.Value is None else value.Value.Value
                self._types[node] = definition if isinstance(definition, _DEFINITIONS) else None
                if isinstance(definition, ua.StructureDefinition):
                    self._by_encoding[definition.DefaultEncodingId.to_string()] = definition
                    wanted |= {field.DataType for field in definition.Fields or ()}

    def name(self, exact: dict[int, Exact]) -> None:
        """Put named fields in place of the raw bodies among the exact values of a batch."""
        if self._by_encoding:
            for row, value in exact.items():
                exact[row] = self._named(value)

    def _named(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._named(one) for one in value]
        if not isinstance(value, dict) or value.keys() != {"type", "body"}:
            return value
        definition = self._by_encoding.get(str(value["type"]))
        if definition is None or not isinstance(value["body"], bytes):
            return value
        buffer = Buffer(value["body"])
        try:
            fields = self._structure(definition, buffer, 0)
        except (_NotDescribed, *DECODE_ERRORS):
            return value
        return value if len(buffer) else fields

    def _structure(self, definition: ua.StructureDefinition, buffer: Buffer, depth: int) -> dict[str, Any]:
        if depth > _DEEPEST:
            raise _NotDescribed
        fields = list(definition.Fields or ())
        kind = definition.StructureType
        if kind == ua.StructureType.Union:
            switch = int(unpack_uatype(ua.VariantType.UInt32, buffer))
            if switch > len(fields):
                raise _NotDescribed
            fields = fields[switch - 1 : switch] if switch else []
        elif kind == ua.StructureType.StructureWithOptionalFields:
            mask, optional = int(unpack_uatype(ua.VariantType.UInt32, buffer)), 0
            present = []
            for field in fields:
                there = not field.IsOptional or bool(mask >> optional & 1)
                optional += bool(field.IsOptional)
                if there:
                    present.append(field)
            fields = present
        elif kind != ua.StructureType.Structure:
            raise _NotDescribed
        return {str(field.Name): self._field(field, buffer, depth) for field in fields}

    def _field(self, field: ua.StructureField, buffer: Buffer, depth: int) -> Any:
        if field.ValueRank < 0:
            return self._value(field.DataType, buffer, depth)
        if field.ValueRank != 1:
            raise _NotDescribed
        count = int(unpack_uatype(ua.VariantType.Int32, buffer))
        if count > _LONGEST_ARRAY:
            raise _NotDescribed
        return None if count < 0 else [self._value(field.DataType, buffer, depth) for _ in range(count)]

    def _value(self, data_type: ua.NodeId, buffer: Buffer, depth: int) -> Any:
        if not _foreign(data_type):
            number = data_type.Identifier
            kind = ua.VariantType(number) if 0 < number <= _LAST_BUILT_IN else _ALIASES.get(number)
            if kind is None:
                raise _NotDescribed
            return self._named(plain(unpack_uatype(kind, buffer)))
        definition = self._types.get(data_type)
        if isinstance(definition, ua.StructureDefinition):
            return self._structure(definition, buffer, depth + 1)
        if isinstance(definition, ua.EnumDefinition):
            return int(unpack_uatype(ua.VariantType.Int32, buffer))
        raise _NotDescribed


_DEFINITIONS: Final = (ua.StructureDefinition, ua.EnumDefinition)


def _foreign(data_type: ua.NodeId) -> bool:
    """Whether a data type is the server's own, and so described by it."""
    return bool(data_type.NamespaceIndex or not isinstance(data_type.Identifier, int))
