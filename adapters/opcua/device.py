"""
Which device an endpoint is: what its server says of itself, and what is kept of it over restarts (W22).

Another product, application or serial number behind the same address is another device: its nodes may bear the names of
the old one's and mean something else. Another software version of the same device is noted, and its values are read.
:class:`adapters.opcua.device_check.DeviceCheck` asks and compares; a person decides here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from adapters.opcua.progress import replace_file

#: Name of the file in the source's state folder.
NAME: Final = "device.json"
_VERSION: Final = 1
#: What makes another device where it differs, with its name for people.
_DEVICE: Final = {
    "application_uri": "application",
    "product_uri": "product URI",
    "manufacturer": "manufacturer",
    "product": "product",
    "serial": "serial number",
}
_FIRMWARE: Final = {"software": "software", "build": "build"}


class Device(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who a server says it is; an empty text where it does not say."""

    application_uri: str = ""
    product_uri: str = ""
    manufacturer: str = ""
    product: str = ""
    serial: str = ""
    software: str = ""
    build: str = ""

    def __str__(self) -> str:
        fields = {**_DEVICE, **_FIRMWARE}
        said = [f"{name} {text}" for field, name in fields.items() if (text := getattr(self, field))]
        return ", ".join(said) or "a server that says nothing of itself"

    def against(self, known: Device) -> list[str]:
        """What tells this device from the *known* one; a field that one of them does not say tells nothing."""
        return _told(known, self, [f for f in _DEVICE if getattr(known, f) and getattr(self, f)])

    def withheld(self, known: Device) -> list[str]:
        """What the *known* device said of itself and this one does not say."""
        return [name for field, name in _DEVICE.items() if getattr(known, field) and not getattr(self, field)]

    def firmware_against(self, known: Device) -> list[str]:
        """How the firmware differs from that of the *known* device."""
        return _told(known, self, [f for f in _FIRMWARE if getattr(known, f) and getattr(self, f)])

    def over(self, known: Device) -> Device:
        """This device, with what only the *known* one says."""
        fields = self.__struct_fields__
        return Device(**{field: getattr(self, field) or getattr(known, field) for field in fields})


def _told(known: Device, now: Device, fields: Sequence[str]) -> list[str]:
    names = {**_DEVICE, **_FIRMWARE}
    pairs = [(names[field], getattr(known, field), getattr(now, field)) for field in fields]
    return [f"{name} was {before} and is {after}" for name, before, after in pairs if before != after]


class DeviceFile(msgspec.Struct, omit_defaults=True):
    """
    What is kept of one endpoint: the device ``known``, the other one that was ``met`` and refused, and the last change
    of the firmware, for people.
    """

    endpoint: str
    known: Device | None = None
    met: Device | None = None
    firmware: str = ""
    version: int = _VERSION


def recall(folder: Path, endpoint: str) -> DeviceFile:
    """
    What is kept of *endpoint*; nothing where there is no file or it is another endpoint's.

    Raises:
        OSError: the folder cannot be read.
        ValueError: the file is damaged, or of another version.
    """
    try:
        kept = msgspec.json.decode((folder / NAME).read_bytes(), type=DeviceFile)
    except FileNotFoundError:
        return DeviceFile(endpoint)
    if kept.version != _VERSION:
        raise ValueError(f"version {kept.version}, want {_VERSION}")
    return kept if kept.endpoint == endpoint else DeviceFile(endpoint)


def keep(folder: Path, kept: DeviceFile) -> None:
    """Write it in place of the one before. Raises OSError."""
    replace_file(folder / NAME, msgspec.json.encode(kept).decode())


def accept(kept: DeviceFile) -> DeviceFile:
    """The file in which the device that was met is the known one. Raises ValueError where none was met."""
    if kept.met is None:
        raise ValueError("no other device was met")
    return DeviceFile(kept.endpoint, kept.met)
