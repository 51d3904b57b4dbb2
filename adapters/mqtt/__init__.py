"""MQTT 3.1.1 and 5, read-only: JSON by path and plain values."""

from adapters.mqtt.adapter import MqttAdapter
from adapters.mqtt.config import MqttOptions

__all__ = ["MqttAdapter", "MqttOptions"]
