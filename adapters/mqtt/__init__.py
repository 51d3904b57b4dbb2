"""MQTT 3.1.1 and 5, read-only: JSON by path and plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters.base import register_later
from adapters.mqtt.config import MqttOptions, check_tag

if TYPE_CHECKING:
    from adapters.mqtt.adapter import MqttAdapter

__all__ = ["MqttAdapter", "MqttOptions"]

register_later("mqtt", MqttOptions, "adapters.mqtt.adapter:MqttAdapter", check_tag)


def __getattr__(name: str) -> Any:
    if name == "MqttAdapter":
        from adapters.mqtt.adapter import MqttAdapter

        return MqttAdapter
    raise AttributeError(name)
