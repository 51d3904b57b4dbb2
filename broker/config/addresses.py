"""How each kind of source writes the address of a tag: examples, which a test gives to the adapters' parsers."""

from __future__ import annotations

from typing import Final, NamedTuple


class Form(NamedTuple):
    """Addresses of one form, and what each reads. ``style`` is the ``address_style`` they need, if not the default."""

    examples: tuple[str, ...]
    reads: str
    style: str = "modicon"


#: What stands before the table of each kind.
HEADS: Final[dict[str, str]] = {
    "modbus": (
        "Table and place: in the first digit of a Modicon number, or as HR (holding register), IR (input register), "
        "C (coil) and DI (discrete input). Places count from 1, under `address_style: zero_based` from 0. Type and "
        "byte order stand in the tag or the source, unless the address names them."
    ),
    "mqtt": (
        "The topic, and behind `#` a JMESPath into a payload of JSON. A filter of `subscriptions` must cover the "
        "topic. With `decode: sparkplug` an address that begins with `spBv1.0/` is a metric: group, node, device if it "
        "has one, and behind `#` the metric's name as the birth certificate has it."
    ),
    "opcua": (
        "A node: its namespace by URI (`nsu=`; a server may change the index at each start) or by index (`ns=`), then "
        "the identifier: `s=` text, `i=` number, `g=` GUID, `b=` base64. In a URI `;` is written `%3B` and `%` `%25`."
    ),
    "replay": "CSV: the name of the column, in capitals and small letters as in the header. JSONL: the text of `tag`.",
}
FORMS: Final[dict[str, tuple[Form, ...]]] = {
    "modbus": (
        Form(("40001", "400001", "HR1"), "First holding register; 6 digits reach all 65536"),
        Form(("30001", "300001", "IR1"), "First input register"),
        Form(("00001", "000001", "C1"), "First coil"),
        Form(("10001", "100001", "DI1"), "First discrete input"),
        Form(("HR0", "IR0"), "First register under `address_style: zero_based`", "zero_based"),
        Form(("HR20.3", "40020.3"), "Bit 3 of the register, counted from `bit_base`"),
        Form(("HR20.0-3",), "Bits 0 to 3 as one number"),
        Form(("HR20.L", "HR20.H"), "Low and high byte of the register"),
        Form(("40100[10]", "HR100[10]"), "Array of ten values of the tag's type"),
        Form(("4!40001", "4!HR1"), "Unit 4 behind the gateway, instead of the source's `unit`"),
        Form(("400100.20H", "400100.20L"), "Text of 20 bytes, the high or the low byte of each register first"),
        Form(("400100.20D", "400100.20E"), "Text of 20 bytes, one in each register: the high or the low byte (Neuron)"),
        Form(("HRS100:20",), "Text of 20 bytes (Ignition)"),
        Form(
            ("HRF100", "HRI100", "HRUI_64100", "IRUS1"),
            "Type in the prefix (Ignition): US I UI I_64 UI_64 F D BCD BCD_32 S, behind HR or IR",
        ),
        Form(("[Line1]3.HR100",), "Device, which is left aside, and unit (Ignition)"),
        Form(("40001#BL", "40001#LB"), "Byte order (Neuron): B or L of the words, then of the bytes in a word"),
    ),
    "mqtt": (
        Form(("plant/line1/energy",), "The whole payload: a plain number, text or switch, or a JSON document"),
        Form(("plant/line1/energy#power",), "Member of a JSON object"),
        Form(("plant/line1/energy#meters[0].power",), "JMESPath: first of a list, and a member of that"),
        Form(
            ('plant/line1/energy#"active-power"',),
            "A member whose name is not letters, digits and `_`: in double quotes",
        ),
        Form(("plant/line1/energy#meters[?id=='M1'].power | [0]",), "JMESPath: the meter M1 of a list"),
        Form(("plant/+/energy#power",), "One level left open: samples of all these topics are of this one tag"),
        Form(("plant/line1/##power",), "All topics below, and a path"),
        Form(("spBv1.0/Lyon/Filler/Head1#Pressure",), "Sparkplug metric of a device"),
        Form(("spBv1.0/Lyon/Filler#Supply/Pressure",), "Sparkplug metric of the node itself; its name may hold `/`"),
    ),
    "opcua": (
        Form(("nsu=urn:maker:filler;s=Line1.Temperature",), "Text identifier in the namespace of this URI"),
        Form(("nsu=http://maker.com/UA/;i=5001",), "Number"),
        Form(("nsu=urn:maker:filler;g=09087e75-8e5e-499b-954f-f2a9603db28a",), "GUID"),
        Form(("nsu=urn:maker:filler;b=M/RbKBsRVkePCePcx24oRA==",), "Bytes"),
        Form(
            ('ns=3;s="Filler"."Pressure"',), "Namespace index, taken as it is; quotes are part of a Siemens identifier"
        ),
        Form(("i=2258",), "Namespace 0: here the server's clock"),
    ),
    "replay": (Form(("Pressure", "P101 flow [m3/h]"), "Column, or `tag`, of this name"),),
}


def addresses_text() -> str:
    """The section of the reference."""
    parts = [
        "An address is a text of one line; quote it, for YAML reads `40001` as a number and `#` as a comment. What a "
        "kind cannot read is `bad_address`, with its place and what to write instead.\n"
    ]
    for kind, forms in sorted(FORMS.items()):
        parts += [f"#### Kind `{kind}`\n", f"{HEADS[kind]}\n"]
        lines = ["| Address | Reads |", "| --- | --- |"]
        lines += [f"| {', '.join(map(_code, form.examples))} | {form.reads} |" for form in forms]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")
