"""HTTP: sign-in, records, anomalies, review, documents, health and metrics; its options."""
