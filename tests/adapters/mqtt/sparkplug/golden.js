"use strict";
// node golden.js > golden.json, where the npm package sparkplug-payload 1.0.3 is installed:
// payloads as another implementation writes them. "want" is what was given to it; integers are texts.
const spb = require("sparkplug-payload").get("spBv1.0");
const Long = require("long");
const hex = (p) => Buffer.from(spb.encodePayload(p)).toString("hex");
const int = (name, type, value) => ({ name, type, given: value, want: String(value) });
const scalars = [
  int("i8", "Int8", -128), int("i8p", "Int8", 127), int("i16", "Int16", -32768), int("i16n", "Int16", -1),
  int("i32", "Int32", -2147483648), int("i32p", "Int32", 2147483647),
  int("i64", "Int64", Long.fromString("-9223372036854775808")), int("i64b", "Int64", Long.fromString("9007199254740993")),
  int("u8", "UInt8", 255), int("u16", "UInt16", 65535), int("u32", "UInt32", 4294967295),
  int("u64", "UInt64", Long.fromString("18446744073709551615", true)),
  int("when", "DateTime", Long.fromString("1795357000123", true)),
  { name: "f", type: "Float", given: 21.1, want: Math.fround(21.1) }, { name: "d", type: "Double", given: 1 / 3, want: 1 / 3 },
  { name: "yes", type: "Boolean", given: true, want: true }, { name: "no", type: "Boolean", given: false, want: false },
  { name: "s", type: "String", given: "größe µ", want: "größe µ" }, { name: "t", type: "Text", given: "", want: "" },
  { name: "id", type: "UUID", given: "9b0c2f8e", want: "9b0c2f8e" },
  { name: "raw", type: "Bytes", given: new Uint8Array([0, 255, 7]), want: "00ff07" },
];
const metrics = scalars.map(({ name, type, given }, i) => ({ name, type, value: given, alias: i + 1, timestamp: 1795357000000 + i }));
const quality = (value) => ({ Quality: { type: "Int32", value } });
const special = {
  timestamp: 1795357000000, seq: 255,
  metrics: [
    { name: "null", type: "Double", value: null, timestamp: 5 },
    { name: "old", type: "Double", value: 1.5, isHistorical: true, timestamp: 6 },
    { name: "good", type: "Double", value: 1, properties: quality(192) }, { name: "bad", type: "Double", value: 2, properties: quality(0) },
    { name: "stale", type: "Double", value: 3, properties: quality(500) },
    { name: "table", type: "DataSet", value: { numOfColumns: 2, columns: ["n", "text"], types: ["Int32", "String"], rows: [[-7, "a"], [8, "b"]] } },
    { name: "motor", type: "Template", value: { templateRef: "Motor", isDefinition: false, version: "1",
      metrics: [{ name: "speed", type: "Int32", value: -5 }, { name: "inner", type: "Template", value: { isDefinition: false,
        metrics: [{ name: "on", type: "Boolean", value: true }], parameters: [] } }],
      parameters: [{ name: "rated", type: "Double", value: 63.5 }] } },
  ],
};
console.log(JSON.stringify({
  scalars: hex({ timestamp: 1795357000999, seq: 3, metrics }), want: scalars.map(({ name, type, want }) => ({ name, type, want })),
  special: hex(special), rebirth: hex({ timestamp: 1795357000123, metrics: [{ name: "Node Control/Rebirth", type: "Boolean", value: true, timestamp: 1795357000123 }] }),
}, null, 1));
