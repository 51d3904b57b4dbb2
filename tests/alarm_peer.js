"use strict";
// node-opcua server with a level alarm on a tank. Commands on standard input, one JSON a line: {"level": 90} moves the
// level, {"event": "text", "severity": 300} raises an event of the tank.
const readline = require("node:readline");
const {
  OPCUAServer, OPCUACertificateManager, DataType, LocalizedText, MessageSecurityMode, SecurityPolicy,
} = require("node-opcua");

const [port, pki] = process.argv.slice(2);

async function main() {
  const certificates = new OPCUACertificateManager({ rootFolder: pki, automaticallyAcceptUnknownCertificate: true });
  await certificates.initialize();
  const server = new OPCUAServer({
    port: Number(port), host: "127.0.0.1", hostname: "127.0.0.1", allowAnonymous: true,
    serverCertificateManager: certificates,
    securityPolicies: [SecurityPolicy.None], securityModes: [MessageSecurityMode.None],
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  space.installAlarmsAndConditionsService();
  const ns = space.registerNamespace("urn:example:tank");
  const tank = ns.addObject({
    organizedBy: space.rootFolder.objects, browseName: "Tank", nodeId: `ns=${ns.index};s=Tank`,
    notifierOf: space.rootFolder.objects.server,
  });
  const level = ns.addVariable({
    componentOf: tank, browseName: "Level", nodeId: `ns=${ns.index};s=Level`, dataType: DataType.Double, eventSourceOf: tank,
  });
  level.setValueFromSource({ dataType: DataType.Double, value: 1 });
  const alarm = ns.instantiateExclusiveLimitAlarm("ExclusiveLimitAlarmType", {
    browseName: "LevelAlarm", conditionName: "LevelAlarm", componentOf: tank, nodeId: `ns=${ns.index};s=LevelAlarm`,
    conditionSource: level, inputNode: level, highHighLimit: 95, highLimit: 80, lowLimit: -10, lowLowLimit: -20,
  });
  alarm.setEnabledState(true);
  await server.start();
  console.log(`READY ${server.getEndpointUrl()}`);
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const said = JSON.parse(line);
    if ("level" in said) level.setValueFromSource({ dataType: DataType.Double, value: said.level });
    if ("event" in said) {
      tank.raiseEvent("DeviceFailureEventType", {
        message: { dataType: DataType.LocalizedText, value: new LocalizedText(said.event) },
        severity: { dataType: DataType.UInt16, value: said.severity },
      });
    }
  });
  lines.on("close", () => process.exit(0));
}
main().catch((e) => { console.error(e); process.exit(1); });
