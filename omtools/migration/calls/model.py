"""What the remote's keeper can do with a trapped system call, and what a forwarded one looks like.

The deputy's keeper is deliberately dumb: it copies `Forward.arena` to the start of the deputy's arena (a
scratch area whose address both sides know), runs the call with `Forward.args` as they are, and sends back
the result and the bytes of each `Out`. All knowledge of shapes is on the remote's side: pointers in `args`
and inside `arena` are deputy addresses already.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Protocol


class Fault(Exception):
    """The process passed a pointer to memory it does not have (EFAULT)."""


class Memory(Protocol):
    """The remote's memory, as its keeper reads it."""

    def read(self, address: int, length: int) -> bytes:
        """Exactly `length` bytes; raises Fault."""
        ...

    def read_string(self, address: int, limit: int) -> bytes:
        """Up to and with the NUL, at most `limit` bytes; raises Fault."""
        ...


class CallClass(Enum):
    """Who does a call of a process that is away."""

    NATIVE = "native"        # allowed in the filter: the node's own kernel, never trapped
    ANSWERED = "answered"    # trapped and answered by the keeper from what it knows
    FORWARDED = "forwarded"  # the deputy does it
    MIRRORED = "mirrored"    # the deputy does it, and if that went well the remote does it too
    EXIT = "exit"            # the process ends
    HOME = "home"            # it comes home with the call pending and does it there


class OutRule(IntEnum):
    """How many bytes of an out range come back: a function of the result alone."""

    RET = 0       # min(result, length), nothing on error
    FULL = 1      # all, if the call did not fail
    ALWAYS = 2    # all, also on error (a timeout that the kernel updates on EINTR)
    POSITIVE = 3  # all, if the result is above zero (wait4 with WNOHANG writes nothing when it returns 0)
    RET4 = 4      # min(4 * result, length): getgroups counts gid_t
    RET12 = 5     # min(12 * result, length): epoll_wait counts struct epoll_event
    RET64 = 6     # min(64 * result, length): recvmmsg and sendmmsg count struct mmsghdr


@dataclass(frozen=True, slots=True)
class Out:
    """A range of the deputy's arena whose bytes come back.

    Attributes:
        offset: from the arena's start.
        length: at most so many bytes.
        rule: how many of them.
    """

    offset: int
    length: int
    rule: OutRule


@dataclass(frozen=True, slots=True)
class Timeout:
    """Where a call that may block keeps its timeout, for going on with what is left of it.

    Attributes:
        argument: index of the argument; its value is milliseconds unless `offset` is given.
        offset: offset in the arena of a struct timespec or timeval (or -1).
        unit: nanoseconds per unit of the second field (1 for timespec, 1000 for timeval), or
            1_000_000 for milliseconds in the argument itself.
    """

    argument: int
    offset: int
    unit: int


@dataclass(slots=True)
class Forward:
    """A call for the deputy to do.

    Attributes:
        nr: number of the call.
        args: six arguments, pointers already in the deputy's arena.
        arena: bytes to be put at the arena's start before the call.
        arena_length: bytes of the arena used in all (in and out); may exceed len(arena).
        outs: what comes back.
        landing: where each out's bytes belong in the remote's memory: for each out a list of
            (address, length) filled in turn; what falls to address 0 is dropped (pointers inside a
            struct, which are the deputy's).
        may_block: the deputy may have to wait; False where the call always returns at once.
        timeout: where its timeout stands, if it has one.
        opens: the result is a new descriptor; the deputy's keeper looks what it opened.
        needs_mask: the call depends on which signals are blocked (job control of terminals).
        mirror: the remote's kernel does the call too when the deputy's result is no error.
        sized: triples (out, source, offset): of that out only so many bytes are real as the 32-bit
            number at `offset` of the out `source` says (a socklen_t). For `land` alone: all of the
            out travels, and no more than is real is written.
    """

    nr: int
    args: tuple[int, int, int, int, int, int]
    arena: bytes = b""
    arena_length: int = 0
    outs: tuple[Out, ...] = ()
    landing: tuple[tuple[tuple[int, int], ...], ...] = ()
    may_block: bool = True
    timeout: Timeout | None = None
    opens: bool = False
    needs_mask: bool = False
    mirror: bool = False
    sized: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The result is known here: a value, or minus an errno.

    `writes` are (address, bytes) to put into the remote's memory first.
    """

    result: int
    writes: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Continue:
    """The remote's own kernel does it after all (SECCOMP_USER_NOTIF_FLAG_CONTINUE)."""


@dataclass(frozen=True, slots=True)
class ComeHome:
    """Nobody here can do it rightly: the process goes home with the call pending.

    `reason` completes the sentence "it came home because …": "it calls fork".
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Exit:
    """The process ends with this status (the argument of exit or exit_group)."""

    status: int


@dataclass(frozen=True, slots=True)
class CpuTime:
    """times, getrusage, clock_gettime of a CPU clock: home's figures plus the remote's.

    The keeper forwards `forward` and adds what the remote used, in the layout named: "tms", "rusage"
    or "timespec", at the single out range.
    """

    layout: str
    forward: Forward


Plan = Forward | Answer | Continue | ComeHome | Exit | CpuTime


@dataclass(frozen=True, slots=True)
class Arena:
    """The deputy's arena: where it lies in the deputy's memory and how large it may get (bytes)."""

    base: int
    size: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Marks in the table why a call makes the process come home."""

    reason: str
    fields: tuple[str, ...] = field(default=())
