"""From an annotation down to what the devices said (:mod:`broker.audit.lineage`), and the same once more."""
