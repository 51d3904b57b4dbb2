"""
Modbus TCP, read-only: registers and coils in blocks, polled on a fixed grid.

``config`` options and tags, ``address`` the ways to write one, ``planner`` blocks, ``schedule`` when, ``link`` one
connection behind ``guard``, ``poller`` one poll, ``registers`` and ``image`` decoding, ``adapter`` the three verbs.
"""

from adapters.modbus.adapter import ModbusAdapter
from adapters.modbus.config import ModbusOptions

__all__ = ["ModbusAdapter", "ModbusOptions"]
