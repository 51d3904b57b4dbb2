"""The score card of a model: seeded episodes with a known cause, and what an annotator makes of them."""
