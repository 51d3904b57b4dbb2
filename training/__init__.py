"""Makes the built-in model from synthetic scenarios. Development only: not part of the distribution."""
