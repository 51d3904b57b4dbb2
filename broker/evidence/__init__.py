"""
Evidence of an anomaly revision: numbered facts computed from records, and the causes that may be chosen.

Everything is read inside the writer's transaction up to the record seq at which the revision arose, so that the same
journal gives the same evidence, however the commits fell.
"""

from broker.evidence.build import build_evidence, reach, signature
from broker.evidence.members import strongest
from broker.evidence.records import Records

__all__ = ["Records", "build_evidence", "reach", "signature", "strongest"]
