"""
Asking a server which device it is, before anything else is read from it.

Source: OPC UA Part 5, 6.3.1 (ServerArray: index 0 is the server itself) and 12.10 (BuildInfo).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asyncua import ua

from adapters.opcua.device import NAME, Device, DeviceFile, keep, recall
from adapters.opcua.link import Link
from adapters.opcua.nodes import NodeAddress
from schemas.errors import NotConnected, OtherDevice

#: Longest text that is taken of a field; they are compared, shown and kept.
_LONGEST: Final = 500

_NODES: Final = tuple(
    map(
        ua.NodeId,
        (
            ua.ObjectIds.Server_ServerArray,
            ua.ObjectIds.Server_ServerStatus_BuildInfo_ProductUri,
            ua.ObjectIds.Server_ServerStatus_BuildInfo_ManufacturerName,
            ua.ObjectIds.Server_ServerStatus_BuildInfo_ProductName,
            ua.ObjectIds.Server_ServerStatus_BuildInfo_SoftwareVersion,
            ua.ObjectIds.Server_ServerStatus_BuildInfo_BuildNumber,
        ),
    )
)


class DeviceCheck:
    """
    Asks a server who it is before anything else is read from it, and refuses another device than the known one.

    The file is read at each connection: a person may have accepted the other device (``fairlead trust device``) or
    removed the file. One that cannot be written is counted as ``state_unsaved``, and memory stands for it. Counters:
    ``identity_mismatches``, ``firmware_changes``. Facts: ``device``.
    """

    def __init__(
        self,
        folder: Path,
        source: str,
        endpoint: str,
        serial: NodeAddress | None,
        counters: Counter[str],
        facts: dict[str, str],
    ) -> None:
        self._folder = folder
        self._source = source
        self._serial = serial
        self._counters = counters
        self._facts = facts
        self._kept = DeviceFile(endpoint)
        self._behind = False

    async def verify(self, link: Link, namespaces: Sequence[str]) -> None:
        """
        Compare who answers with who answered first; the first is remembered.

        Raises:
            OtherDevice: another one, or the same without what it said before (NotConnected).
            NotConnected: the file cannot be read.
        """
        await self._load()
        now, kept = await self._ask(link, namespaces), self._kept
        known = kept.known or now
        changes, withheld = now.against(known), now.withheld(known)
        if changes or withheld:
            self._counters["identity_mismatches"] += 1
            self._facts["device"] = f"refused: {now}; known is: {known}"
            if kept.met != now:
                kept.met = now
                await self._save()
            told = "; ".join(changes) or f"it does not say its {', '.join(withheld)} as it did before"
            text = (
                f"another device answers: {told}. Nothing is read from it. Known is: {known}; this one is: {now}. "
                f"Where the change is meant, accept it: `fairlead trust device {self._source} --accept`"
            )
            raise (OtherDevice if changes else NotConnected)(text)
        firmware = now.firmware_against(known)
        if firmware:
            self._counters["firmware_changes"] += 1
            kept.firmware = "; ".join(firmware)
        whole = now.over(known)
        if (whole, None) != (kept.known, kept.met) or self._behind:
            kept.known, kept.met = whole, None
            await self._save()
        self._facts["device"] = f"{now} (last change: {kept.firmware})" if kept.firmware else str(now)

    async def _ask(self, link: Link, namespaces: Sequence[str]) -> Device:
        serial = None if self._serial is None else self._serial.resolve(namespaces)
        values = await link.read([*_NODES, *([] if serial is None else [serial])], len(_NODES) + 1)
        texts = [_text(value) for value in values]
        return Device(
            application_uri=texts[0],
            product_uri=texts[1],
            manufacturer=texts[2],
            product=texts[3],
            software=texts[4],
            build=texts[5],
            serial=texts[6] if serial is not None else "",
        )

    async def _load(self) -> None:
        if self._behind:
            return
        try:
            self._kept = await asyncio.to_thread(recall, self._folder, self._kept.endpoint)
        except (OSError, ValueError) as error:
            raise NotConnected(
                f"{self._folder / NAME}: which device is known cannot be read ({error}); mend or remove the file, or "
                "set identity: ignore"
            ) from error

    async def _save(self) -> None:
        try:
            await asyncio.to_thread(keep, self._folder, self._kept)
            self._behind = False
        except OSError:
            self._behind = True
            self._counters["state_unsaved"] += 1


def _text(value: ua.DataValue) -> str:
    """The text of a node, of an array its first; empty where there is none, or it is bad."""
    if value.Value is None or not value.StatusCode.is_good():
        return ""
    item = value.Value.Value
    if isinstance(item, list):
        item = item[0] if item else None
    if isinstance(item, ua.LocalizedText):
        item = item.Text
    if item is None or isinstance(item, bytes):
        return ""
    return " ".join(str(item).split())[:_LONGEST]
