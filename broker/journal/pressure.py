"""
The steps by which a filling disk makes others give way, in the order of C6 (docs/delivery-contract.md).

``derived``: what core has not read takes so much of the budget that nothing may compete with its reading. ``expire``:
read segments go before their time. ``stop_ack``: samples are refused, so that their sources keep them. ``reserve``:
what must not be lost uses space kept for it. What core has read is no pressure: it can go at any moment.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from broker.journal.options import DiskShares

STEPS: Final = ("derived", "expire", "stop_ack", "reserve")
#: A step is left when the share is so much below the one at which it was entered; less would flap.
LEAVE_SHARE: Final = 0.05


class Change(NamedTuple):
    """A step was entered or left; ``why`` has the figures."""

    step: str
    entered: bool
    why: str


class Pressure:
    """Which steps are in force."""

    def __init__(self, options: DiskShares) -> None:
        self._enter = {"derived": options.derived, "expire": options.expire}
        self.steps: tuple[str, ...] = ()

    def update(self, *, used: int, unread: int, budget: int, refusing: str, reserve_given: int) -> list[Change]:
        """
        The steps by figures of this moment, in bytes; what changed, in order of the steps.

        *refusing* says why samples are refused; *reserve_given* is what the reserve has given up.
        """
        total = max(budget, 1)
        texts = {
            "derived": f"{unread} of {budget} bytes are not read by core",
            "expire": f"the journal takes {used} of {budget} bytes",
            "stop_ack": refusing or "samples are accepted",
            "reserve": f"{reserve_given} bytes of the reserve are given up",
        }
        shares = {"derived": unread / total, "expire": used / total}
        now = {name: self._stays(name, share) for name, share in shares.items()}
        now |= {"stop_ack": bool(refusing), "reserve": reserve_given > 0}
        changes = [Change(name, now[name], texts[name]) for name in STEPS if now[name] != (name in self.steps)]
        self.steps = tuple(name for name in STEPS if now[name])
        return changes

    def _stays(self, name: str, share: float) -> bool:
        return share >= self._enter[name] - (LEAVE_SHARE if name in self.steps else 0.0)
