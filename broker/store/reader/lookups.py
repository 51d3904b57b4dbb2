"""Look-ups that a reader and the writing transaction answer alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from broker.store import models, replays
from broker.store.reader import episodes, maps, operation
from broker.store.rows.operation import GapRow
from schemas.annotation import Annotation, Review
from schemas.anomaly import Anomaly
from schemas.evidence import Evidence
from schemas.tagmap import Equipment

P = ParamSpec("P")
T = TypeVar("T")


class Lookups(ABC):
    """Questions that go to whatever connection :meth:`_ask` has."""

    @abstractmethod
    def _ask(self, query: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T: ...

    def equipment_by_path(self, path: str) -> Equipment | None:
        """The equipment as the newest map that names it has it."""
        return self._ask(maps.equipment_by_path, path)

    def anomaly_by_id(self, anomaly_id: str) -> Anomaly | None:
        """The newest revision."""
        return self._ask(episodes.anomaly_by_id, anomaly_id)

    def anomaly_at(self, anomaly_id: str, revision: int) -> Anomaly | None:
        """One revision."""
        return self._ask(episodes.anomaly_at, anomaly_id, revision)

    def evidence_by_id(self, evidence_id: str) -> Evidence | None:
        """One evidence snapshot."""
        return self._ask(episodes.evidence_by_id, evidence_id)

    def annotation_by_id(self, annotation_id: str) -> Annotation | None:
        """One annotation."""
        return self._ask(episodes.annotation_by_id, annotation_id)

    def reviews_of(self, anomaly_id: str) -> list[Review]:
        """All reviews of an anomaly, oldest first."""
        return self._ask(episodes.reviews_of, anomaly_id)

    def gaps_between(
        self, paths: Sequence[str], from_ns: int, to_ns: int, *, source: str | None = None
    ) -> list[GapRow]:
        """Gaps in the span that concern one of *paths*, the whole of *source* or every source, oldest first."""
        return self._ask(operation.gaps_between, paths, from_ns, to_ns, source)

    def replay_maps(self, from_ns: int, to_ns: int) -> list[bytes]:
        """Bodies of the maps of earlier replays that wrote records of this span of reception."""
        return self._ask(replays.maps_between, from_ns, to_ns)

    def model_imports(self, name: str | None = None) -> list[models.ImportRow]:
        """What was imported, newest first; *name*: one model."""
        return self._ask(models.list_imports, name)
