"""
Modbus TCP, read-only: registers and coils in blocks, polled on a fixed grid.

``config`` options and tags, ``address`` the ways to write one, ``planner`` blocks, ``schedule`` when, ``link`` one
connection behind ``guard``, ``poller`` one poll, ``registers`` and ``image`` decoding, ``adapter`` the three verbs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters.base import register_later
from adapters.modbus.config import ModbusOptions
from adapters.modbus.point import check_tag

if TYPE_CHECKING:
    from adapters.modbus.adapter import ModbusAdapter

__all__ = ["ModbusAdapter", "ModbusOptions"]

register_later("modbus", ModbusOptions, "adapters.modbus.adapter:ModbusAdapter", check_tag)


def __getattr__(name: str) -> Any:
    if name == "ModbusAdapter":
        from adapters.modbus.adapter import ModbusAdapter

        return ModbusAdapter
    raise AttributeError(name)
