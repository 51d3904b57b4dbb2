// Loaded with --require in front of a peer: writes the spans (ms) in which its event loop stood still, and mends its clock.
"use strict";
const fs = require("node:fs");
let last = Date.now();
setInterval(() => {
  const now = Date.now();
  if (now - last > 60) fs.appendFileSync(process.env.STALLS, `${last} ${now}\n`);
  last = now;
}, 10).unref();

// The server's step reads the clock twice: for the tick to set, and for the time until the next. Where a millisecond
// passes between 499 and 500, it sets nothing and sleeps for a whole period, and two ticks are set at once, of which its
// samplers see one. One reading for each run of the step keeps every tick.
const { setTimeout: sleep } = globalThis;
const { now: clock } = Date;
globalThis.setTimeout = (call, ...rest) => {
  if (call.name !== "step") return sleep(call, ...rest);
  const step = () => {
    const moment = clock();
    Date.now = () => moment;
    try {
      call();
    } finally {
      Date.now = clock;
    }
  };
  return sleep(step, ...rest);
};
Object.defineProperties(globalThis.setTimeout, Object.getOwnPropertyDescriptors(sleep)); // promisify looks there
