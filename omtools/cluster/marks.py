"""Where memory becomes short: marks that ushering acts on, and that balancing keeps away from."""

from __future__ import annotations

import msgspec

from omtools.cluster.load import reserve_of


class Marks(msgspec.Struct, frozen=True):
    """What may be tuned.

    Attributes:
        low: share of all memory; less available starts ushering (never below the reserve for guests).
        high: share of all memory that is wanted again, and that every target must keep.
        pressure: percent of stalls that start ushering below the high mark.
        max_age_s: older news of a node is not trusted with memory.
        rest_s: who arrived later than that ago stays.
        moves: per round.
        budget_s: of the links' time that all moves out of this node together may take, the first excepted.
        horizon_s: what will be missing so soon, as memory is falling now, counts as missing.
    """

    low: float = 0.04
    high: float = 0.08
    pressure: int = 5
    max_age_s: float = 6.0
    rest_s: float = 5.0
    moves: int = 4
    budget_s: float = 4.0
    horizon_s: float = 3.0

    def low_bytes(self, total: int) -> int:
        """The low mark of a node with so much memory."""
        return max(int(total * self.low), reserve_of(total))

    def high_bytes(self, total: int) -> int:
        """The high mark of a node with so much memory."""
        return max(int(total * self.high), 2 * reserve_of(total))
