"""One protocol each, behind connect / read / close. Importing this package fills the registry."""

from adapters import modbus, mqtt, opcua, replay

__all__ = ["modbus", "mqtt", "opcua", "replay"]
