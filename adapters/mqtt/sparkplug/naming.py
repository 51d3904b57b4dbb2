"""Which metric each one in a message is: by name or alias, with the datatype that its birth told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from adapters.mqtt.sparkplug import datatypes, payload
from adapters.mqtt.sparkplug.births import Device
from adapters.mqtt.sparkplug.metrics import Targets
from adapters.mqtt.sparkplug.payload import Metric


@dataclass(slots=True)
class Named:
    """
    The metrics of one message.

    ``found`` are (name, datatype, metric, doubtful) of those that a tag may want, doubtful where only a doubted birth
    tells name or datatype; ``unnamed`` those that no birth explains, and ``refused`` those that contradict their birth,
    each with its reason.
    """

    found: list[tuple[str, int, Metric, bool]] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def named(metrics: Iterable[Metric], known: Device | None, targets: Targets) -> Named:
    """Name the metrics of a device by its birth, *known*; None where there is no valid one."""
    out = Named()
    doubted = known is not None and known.doubted
    for metric in metrics:
        name, datatype = metric.name or None, metric.datatype  # some encoders write an empty name beside an alias
        place = None
        if known is not None:
            if name is not None:
                place = known.by_name.get(name)
            elif metric.alias is not None:
                place = known.by_alias.get(metric.alias)
        if place is not None and known is not None:
            name, told = known.metrics[place]
            if datatype and told and datatype != told:
                out.refused.append(
                    f"{name}: its birth said {datatypes.name(told)}, this says {datatypes.name(datatype)}"
                )
                continue
            datatype = datatype or told
        if name is None:
            out.unnamed.append("metric without name and alias" if metric.alias is None else f"alias {metric.alias}")
        elif place is None and not datatype and name in targets and metric.field and not metric.null:
            out.unnamed.append(f"metric {name}")  # how its bits are meant only a birth tells
        elif name in targets or metric.field >= payload.DATASET or metric.null:
            out.found.append((name, datatype, metric, doubted and not (metric.name and metric.datatype)))
    return out
