"""Stable codes of everything that can be wrong in a configuration or a tag map; they stand in texts and in JSON."""

from __future__ import annotations

from typing import Final

CODES: Final[dict[str, str]] = {
    "bad_file": "A file cannot be read, is not UTF-8 text, is empty, or no file matches.",
    "bad_yaml": "The text is not YAML, or not a map of options.",
    "unsupported_version": "The file's `version` is not one this program reads.",
    "unknown_key": "No option or column has this name; the nearest known name is shown.",
    "duplicate_key": "A key or column stands twice, or two files define one name differently.",
    "missing_key": "A required option is not there.",
    "bad_value": "A value is not one the option can have.",
    "bad_quantity": "A duration, size or share has no unit or an unknown one.",
    "unquoted_address": "A text is written so that YAML or a spreadsheet reads a number, a time or a switch.",
    "literal_secret": "A secret stands in the file or in a URL; it must be a reference.",
    "insecure_listen": "The API would listen beyond this machine without encryption.",
    "bad_path": "A path is not words between single `/` that begin with the site's path.",
    "duplicate_path": "Two tags, or two pieces of equipment, have one path.",
    "duplicate_id": "Two tags have one id.",
    "duplicate_address": "Warning: two tags read one address; it is read once for both.",
    "unknown_source": "A tag names a source that `fairlead.yaml` does not have.",
    "unused_source": "Warning: no tag names this source.",
    "unknown_tag": "A piece of equipment or a rule names a tag that is in no file.",
    "unknown_equipment": "The calendar names equipment to which no tag belongs.",
    "bad_address": "The source's kind cannot read the address.",
    "bad_type": "The type does not exist, or the source's kind or the address does not allow it.",
    "missing_byte_order": "A value above 16 bits has no byte order, in the tag or in the source.",
    "read_only": "Warning: the tag may be written, but nothing here ever writes.",
    "missing_unit": "A number has no unit.",
    "unknown_unit": "A unit is neither UCUM nor a known plant spelling.",
    "wrong_dimension": "`source_unit` cannot be converted to `unit` by a factor and an offset.",
    "scale_empty": "A scale has no extent, or lacks one of its ends.",
    "range_order": "The low end of a range is not below the high end.",
    "enum_outside_type": "A key of an enum does not fit into the tag's type.",
    "unknown_enum": "No file defines the enum, or a state is not in it.",
    "bad_loop": "A named loop has no set point or process value, or two of a kind, or a tag without such a role.",
    "deadband_over_range": "The deadband is wider than the whole range.",
    "bad_template_parameter": "A parameter is missing, unknown, or cannot be calculated with.",
    "formula_cell": "Warning: a spreadsheet would run the cell as a formula; it is kept as text.",
}
