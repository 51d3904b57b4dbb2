"""Tag maps: YAML and CSV files, templates, units and scales, resolved into :class:`schemas.tagmap.TagMap`."""

from broker.tagmap.loader import load, load_with_problems

__all__ = ["load", "load_with_problems"]
