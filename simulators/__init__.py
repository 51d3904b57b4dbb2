"""
A plant with physics and faults behind real protocol servers, for the demo, the tests and the training.

Servers take their values from one function, so that tests can serve anything: ``Signals`` returns the current value
of every signal by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

#: Value of a simulated signal. None: the signal has no value now (served as bad, or not sent).
SignalValue = bool | int | float | str | None
#: Current value of every signal by name; called by a server once a period, on its own loop.
Signals = Callable[[], Mapping[str, SignalValue]]
