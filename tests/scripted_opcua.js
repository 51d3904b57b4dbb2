"use strict";
// A node-opcua server for a test: node SCRIPT PORT PKI. It prints READY and its address, and ends with its standard input.
const readline = require("node:readline");
const { OPCUAServer, OPCUACertificateManager, MessageSecurityMode, SecurityPolicy } = require("node-opcua");

const [port, pki] = process.argv.slice(2);

// build(server) fills the address space and returns what is done with each line of standard input; more: options
async function main(build, more) {
  const certificates = new OPCUACertificateManager({ rootFolder: pki, automaticallyAcceptUnknownCertificate: true });
  await certificates.initialize();
  const server = new OPCUAServer({
    port: Number(port), host: "127.0.0.1", hostname: "127.0.0.1", allowAnonymous: true,
    serverCertificateManager: certificates,
    securityPolicies: [SecurityPolicy.None], securityModes: [MessageSecurityMode.None], ...more,
  });
  await server.initialize();
  const said = build(server);
  await server.start();
  console.log(`READY ${server.getEndpointUrl()}`);
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", said);
  lines.on("close", () => process.exit(0));
}

exports.serve = (build, more = {}) => main(build, more).catch((e) => { console.error(e); process.exit(1); });
