"""The top floor: configuration, journal, pipeline, store, evidence, review, API, pages and the command line."""
