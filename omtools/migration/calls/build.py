"""One forwarded call in the making: shapes put their pieces into the deputy's arena through it."""

from __future__ import annotations

from collections.abc import Callable

from omtools.migration.calls.model import Memory, Out, OutRule, Plan, Timeout

# Alignment of every piece: no kernel structure that travels wants more than a long long's.
ALIGN = 16
# arch/x86/include/asm/page_64_types.h, TASK_SIZE_MAX: the kernel refuses whatever lies above (access_ok),
# for the deputy exactly as it would have for the process, so such pointers travel as they are.
TASK_SIZE = 0x7FFF_FFFF_F000

Landing = tuple[tuple[int, int], ...]


class Decided(Exception):
    """A shape found that the call is not forwarded at all."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__(plan)


class Build:
    """Collects what a Forward is made of.

    In pieces are sent, so they come first; what is reserved behind the last of them costs nothing.

    Attributes:
        raw: the process's own arguments.
        args: the deputy's.
        parts: what is sent, piece by piece.
        sent: bytes of the arena that `parts` fill.
        end: bytes of the arena used so far.
    """

    __slots__ = (
        "args", "base", "end", "landing", "may_block", "memory", "outs", "parts", "raw", "sent", "sized",
        "timeout",
    )

    def __init__(self, raw: tuple[int, ...], memory: Memory, base: int, may_block: bool) -> None:
        self.raw = raw
        self.args = list(raw)
        self.memory = memory
        self.base = base
        self.parts: list[bytes] = []
        self.sent = 0
        self.end = 0
        self.outs: list[Out] = []
        self.landing: list[Landing] = []
        self.sized: list[tuple[int, int, int]] = []
        self.timeout: Timeout | None = None
        self.may_block = may_block

    def reserve(self, length: int, align: int = ALIGN) -> int:
        """Room in the arena; returns its offset."""
        offset = (self.end + align - 1) & -align
        self.end = offset + length
        return offset

    def put(self, data: bytes, align: int = ALIGN) -> int:
        """Data into the arena; returns its offset."""
        offset = (self.end + align - 1) & -align
        if offset > self.sent:
            self.parts.append(bytes(offset - self.sent))
        self.parts.append(data)
        self.sent = self.end = offset + len(data)
        return offset

    def out(self, offset: int, length: int, rule: OutRule, landing: Landing) -> int:
        """These bytes come back and belong there; returns the out's index."""
        self.outs.append(Out(offset, length, rule))
        self.landing.append(landing)
        return len(self.outs) - 1


Step = Callable[[Build], None]


def signed32(value: int) -> int:
    """A register as a C int: its high half is garbage."""
    return ((value & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
