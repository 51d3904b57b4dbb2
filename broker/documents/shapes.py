"""
The same document in the shape of B2MML V7 (JSON) or of SAP's maintenance notification.

Source: B2MML V7 WorkRequest and OperationsEvent; SAP API_MAINTNOTIFICATION, MaintenanceNotification (OData V2: dates
as ``/Date(ms)/``, times as ``PT..H..M..S``). The Business To Manufacturing Markup Language (B2MML) is used courtesy
of MESA International.

A later revision is about the same thing, under the same ID and reference; that of SAP is the annotation of the first
revision, also where a newer explanation was released after a withdrawal. Of a withdrawn request SAP gets what an
update of that notification takes: its entity has no field for a deletion, and completing it is a call of its own
(``CompleteMaintNotification``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal

from broker.documents.build import identity, taken_back
from schemas.documents import AnomalyAnnotationV1, Document, MaintenanceRequestV1
from schemas.errors import Refused

Shape = Literal["plain", "b2mml", "sap"]

#: ISA-95 levels of a path, from the top; what is deeper is a module.
_LEVELS: Final = ("Enterprise", "Site", "Area", "ProductionLine", "Unit")


def shaped(document: Document, shape: Shape) -> dict[str, Any]:
    """
    The document in the shape asked for; ``plain`` is the CloudEvent itself.

    Raises:
        Refused: the document's type has no such shape.
    """
    if shape == "plain":
        return document.model_dump(mode="json")
    if document.type == "maintenance.request.v1":
        request = MaintenanceRequestV1.model_validate(document.data)
        return _work_request(request, document) if shape == "b2mml" else _notification(request)
    if shape == "b2mml":
        return _operations_event(AnomalyAnnotationV1.model_validate(document.data), document)
    raise Refused(f"{document.type} has no shape {shape!r}")


def _hierarchy(path: str) -> dict[str, Any]:
    parts = path.split("/")
    scope: dict[str, Any] = {}
    for depth in range(len(parts) - 1, -1, -1):
        level = _LEVELS[depth] if depth < len(_LEVELS) else "EquipmentModule"
        child = {"HierarchyScopeChild": scope} if scope else {}
        scope = {"EquipmentID": parts[depth], "EquipmentLevel": level, **child}
    return scope


def _work_request(request: MaintenanceRequestV1, document: Document) -> dict[str, Any]:
    name = request.equipment.rsplit("/", 1)[-1]
    order: dict[str, Any] = {
        "ID": f"{request.request_id}-1",
        "Description": [request.short_text],
        "WorkType": "Other",
        "Priority": int(request.priority),
        "EquipmentRequirement": [{"ID": "1", "EquipmentID": [name]}],
    }
    if request.sap_object is not None:
        order["PhysicalAssetRequirement"] = [{"ID": "1", "PhysicalAssetID": [request.sap_object]}]
    return {
        "ID": request.request_id,
        "WorkType": "Other",
        "Priority": int(request.priority),
        "HierarchyScope": _hierarchy(request.equipment),
        "Description": request.long_text.split("\n"),
        "StartTime": request.malfunction_start,
        "PublishedDate": document.time,
        "RequestState": "Cancelled" if request.status == "withdrawn" else "Forecast",
        "JobOrder": [order],
    }


def _operations_event(body: AnomalyAnnotationV1, document: Document) -> dict[str, Any]:
    withdrawn = body.status == "withdrawn"
    return {
        "ID": identity("anomaly.annotation.v1", body.annotation_id),
        "OperationsEventType": "Alert",
        "OperationsType": "Maintenance",
        "EffectiveTimeStamp": body.start,
        "RecordTimeStamp": document.time,
        "HierarchyScope": _hierarchy(body.equipment),
        "Category": [f"anomaly.{body.kind}", *(["withdrawn"] if withdrawn else [])],
        "Source": [document.source],
        "Priority": body.severity,
        "Description": [*([taken_back(body.review)] if withdrawn else []), body.text],
        "OperationsDefinitionID": body.annotation_id,
    }


def _odata(text: str) -> tuple[str, str]:
    moment = datetime.fromisoformat(text[:19] + "+00:00")
    day = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return f"/Date({int(day.timestamp()) * 1000})/", f"PT{moment.hour:02d}H{moment.minute:02d}M{moment.second:02d}S"


def _notification(request: MaintenanceRequestV1) -> dict[str, Any]:
    reference = request.external_reference or request.annotation_id
    if request.status == "withdrawn":
        return {
            "NotificationText": request.short_text,
            "MaintNotifLongTextForEdit": request.long_text,
            "MaintNotifExtReferenceNumber": reference,
        }
    start_date, start_time = _odata(request.malfunction_start)
    body: dict[str, Any] = {
        "NotificationType": "M2" if request.breakdown else "M1",
        "NotificationText": request.short_text,
        "MaintNotifLongTextForEdit": request.long_text,
        "TechnicalObject": request.sap_object or "",
        "TechObjIsEquipOrFuncnlLoc": request.sap_object_kind or "",
        "TechnicalObjectLabel": request.equipment.rsplit("/", 1)[-1],
        "MaintPriority": request.priority,
        "MaintenanceObjectIsDown": request.breakdown,
        "MalfunctionStartDate": start_date,
        "MalfunctionStartTime": start_time,
        "ReportedByUser": request.requested_by[:12],
        "MaintenancePlanningPlant": request.sap_plant or "",
        "MaintNotifExtReferenceNumber": reference,
    }
    if request.malfunction_end is not None:
        body["MalfunctionEndDate"], body["MalfunctionEndTime"] = _odata(request.malfunction_end)
    return body
