// Loaded with --require in front of a peer: writes the spans (ms) in which the peer's own event loop stood still.
"use strict";
const fs = require("node:fs");
let last = Date.now();
setInterval(() => {
  const now = Date.now();
  if (now - last > 60) fs.appendFileSync(process.env.STALLS, `${last} ${now}\n`);
  last = now;
}, 10).unref();
