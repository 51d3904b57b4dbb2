"use strict";
// node-opcua server with a level alarm on a tank. Commands on standard input, one JSON a line: {"level": 90} moves the
// level, {"event": "text", "severity": 300} raises an event of the tank.
const { DataType, LocalizedText } = require("node-opcua");
const { serve } = require("./scripted_opcua.js");

serve((server) => {
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
  return (line) => {
    const said = JSON.parse(line);
    if ("level" in said) level.setValueFromSource({ dataType: DataType.Double, value: said.level });
    if ("event" in said) {
      tank.raiseEvent("DeviceFailureEventType", {
        message: { dataType: DataType.LocalizedText, value: new LocalizedText(said.event) },
        severity: { dataType: DataType.UInt16, value: said.severity },
      });
    }
  };
});
