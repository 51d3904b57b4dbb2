"use strict";
// node-opcua server with two counters, A and B. Commands on standard input, one a line, each answered by a line:
// "delete" takes A away, "add" adds it again, "items" tells how many monitored items there are.
const { DataType, Variant } = require("node-opcua");
const { serve } = require("./scripted_opcua.js");

serve((server) => {
  const space = server.engine.addressSpace;
  const ns = space.registerNamespace("urn:example:vanishing");
  let count = 0;
  const add = (name) => ns.addVariable({
    organizedBy: space.rootFolder.objects, browseName: name, nodeId: `ns=${ns.index};s=${name}`,
    dataType: DataType.Double, minimumSamplingInterval: 50,
    value: { get: () => new Variant({ dataType: DataType.Double, value: count }) },
  });
  let a = add("A");
  add("B");
  setInterval(() => { count += 1; }, 100);
  const items = () => Object.values(server.engine._sessions).reduce(
    (sum, session) => sum + session.publishEngine.subscriptions.reduce((n, one) => n + one.monitoredItemCount, 0), 0);
  return (line) => {
    if (line === "delete") space.deleteNode(a);
    if (line === "add") a = add("A");
    console.log(`DONE ${items()}`);
  };
});
