"use strict";
// node-opcua server with a counter N, a constant Still and a serial number. Its identity is the JSON in $IDENTITY:
// application, product, version, serial, manufacturer. node identity_peer.js PORT PKI.
const { DataType, Variant } = require("node-opcua");
const { serve } = require("./scripted_opcua.js");

const who = JSON.parse(process.env.IDENTITY);

serve((server) => {
  const ns = server.engine.addressSpace.registerNamespace("urn:example:identity");
  let count = Number(who.first);
  const add = (name, dataType, get) => ns.addVariable({
    organizedBy: server.engine.addressSpace.rootFolder.objects, browseName: name, nodeId: `ns=${ns.index};s=${name}`,
    dataType, minimumSamplingInterval: 50, value: { get: () => new Variant({ dataType, value: get() }) },
  });
  add("N", DataType.Double, () => count);
  add("Serial", DataType.String, () => who.serial);
  setInterval(() => { count += 1; }, 50);
  return () => {};
}, {
  serverInfo: { applicationUri: who.application, productUri: `urn:${who.product}` },
  buildInfo: {
    productName: who.product, productUri: `urn:${who.product}`, manufacturerName: "Acme", softwareVersion: who.version,
    buildNumber: "1", buildDate: new Date(0),
  },
});
