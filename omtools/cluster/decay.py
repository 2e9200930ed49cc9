"""What a process does, as statistics that forget: openMosix's decay.

Every `interval` seconds only a portion of the old is kept: by openMosix's defaults 975/1000 (slow: half is
forgotten in 27 s at an interval of one second) or 926/1000 (fast: in 9 s); without decay nothing is ever
forgotten. Time decays with what was counted in it, so a rate is their plain quotient: right from the first
sample, and free of any start-up error.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from omtools.cluster.constraints import NO_IO, Hint

PER_MILLE = 1000


class Decay(msgspec.Struct, frozen=True):
    """How fast to forget.

    Attributes:
        interval_s: seconds (mosctl setdecay, mosrun -t).
        keep: portion in 1000 that is kept after each interval (mosrun -d); 1000 forgets nothing.
    """

    interval_s: float = 1.0
    keep: int = 975

    def over(self, seconds: float) -> float:
        """The portion that is kept over so many seconds."""
        if self.keep >= PER_MILLE:
            return 1.0
        return float((max(self.keep, 0) / PER_MILLE) ** (max(seconds, 0.0) / max(self.interval_s, 1e-3)))


SLOW = Decay(1.0, 975)
FAST = Decay(1.0, 926)
NONE = Decay(1.0, PER_MILLE)


class Sample(msgspec.Struct, frozen=True):
    """What a process did in some seconds.

    Attributes:
        seconds: how many.
        cpu_s: processor time it got.
        calls: system calls forwarded (or that would have been).
        io: bytes by the node on which the files are.
    """

    seconds: float
    cpu_s: float = 0.0
    calls: float = 0.0
    io: Mapping[int, float] = NO_IO


class Statistics(msgspec.Struct, frozen=True):
    """Decayed sums of one process.

    Attributes:
        decay: how fast they are forgotten.
        hint: what the process's owner says of it.
        seconds: decayed time.
        cpu_s: decayed processor time.
        calls: decayed count.
        io: decayed bytes by node.
    """

    decay: Decay = SLOW
    hint: Hint = Hint.NONE
    seconds: float = 0.0
    cpu_s: float = 0.0
    calls: float = 0.0
    io: Mapping[int, float] = NO_IO

    def after(self, sample: Sample) -> Statistics:
        """The statistics once `sample` was seen; samples of no time and negative counts change nothing."""
        if sample.seconds <= 0:
            return self
        kept = self.decay.over(sample.seconds)
        io = {node: amount * kept for node, amount in self.io.items() if amount * kept >= 1}
        for node, amount in sample.io.items():
            if amount > 0:
                io[node] = io.get(node, 0.0) + amount
        return Statistics(
            self.decay,
            self.hint,
            self.seconds * kept + sample.seconds,
            self.cpu_s * kept + max(sample.cpu_s, 0.0),
            self.calls * kept + max(sample.calls, 0.0),
            io,
        )

    def cleared(self) -> Statistics:
        """Nothing known, the settings kept (openMosix's /proc/hpc/decay/clear)."""
        return Statistics(self.decay, self.hint)

    def inherited(self) -> Statistics:
        """What a forked child begins with: its parent's habits count as one second of its own."""
        if self.seconds <= 0:
            return self
        part = min(1.0 / self.seconds, 1.0)
        io = {node: amount * part for node, amount in self.io.items()}
        return Statistics(
            self.decay, self.hint, self.seconds * part, self.cpu_s * part, self.calls * part, io
        )

    @property
    def cpu(self) -> float:
        """Processors it gets."""
        return self.cpu_s / self.seconds if self.seconds > 0 else 0.0

    @property
    def calls_per_s(self) -> float:
        """Forwarded calls per second."""
        return self.calls / self.seconds if self.seconds > 0 else 0.0

    @property
    def io_per_s(self) -> dict[int, float]:
        """Bytes per second by node."""
        if self.seconds <= 0:
            return {}
        return {node: amount / self.seconds for node, amount in self.io.items()}
