"""Configuration: ``fairlead.yaml``, the environment, secrets by reference, and the generated reference."""

from broker.config.loader import Checked, check_config, load_config
from broker.config.model import Config
from broker.config.secrets import resolve_secret

__all__ = ["Checked", "Config", "check_config", "load_config", "resolve_secret"]
