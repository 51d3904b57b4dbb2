"""``fairlead demo``: the simulated site, the broker and the page on one machine, with nothing to prepare."""

from broker.demo.run import DemoError, run_demo

__all__ = ["DemoError", "run_demo"]
