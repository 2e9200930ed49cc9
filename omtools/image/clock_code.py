"""Not stopping a process in the kernel's clock code.

clock_gettime(2) and its kin are code of the vdso (vdso(7)), which reads a page of the kernel's, [vvar]. In a
time namespace that is another page than outside (time_namespaces(7); lib/vdso/gettimeofday.c), and which one
to read is decided once per reading. A process stopped in between, and continued on the other side of a move,
would read a page that is not there and die of SIGBUS. So a stop in that code is no stop: the process runs
on for a moment and is stopped again.
"""

from __future__ import annotations

import contextlib
import re
import struct
import time
from dataclasses import dataclass

from omtools.linux import proc
from omtools.linux.memory import ProcessMemory
from omtools.linux.x86_64 import CS_64BIT, NO_CALL, PAGE, Registers

PATIENCE = 10.0
"""Seconds in which a running process surely is outside the vdso at some time when it is looked at."""

PATIENCE_WITH_HANDLER = 1.0
"""Seconds in which a signal's handler mostly is over; the process runs meanwhile."""

_MOMENT = 50e-6  # seconds; a reading takes 50 ns


@dataclass(frozen=True, slots=True)
class ClockCode:
    """Where a process reads clocks.

    Attributes:
        code: addresses of the vdso of the kernel that it runs on.
        foreign: that is not its home's, and stands where its home's does not.
        stubs: then, addresses of each function that stands in for one of its home's (`foreign_vdso`).
        home: then, addresses of the copy of its home's vdso that the stubs are in.
    """

    code: range = range(0)
    foreign: bool = False
    stubs: tuple[range, ...] = ()
    home: range = range(0)

    def holds(self, registers: Registers) -> bool:
        """The process must not be frozen where it is.

        In a system call made in its home's vdso it may: no page is read after that.
        """
        if self.foreign:
            return registers.rip in self.code or (registers.call < 0 and self._stub(registers) is not None)
        return registers.call < 0 and registers.rip in self.code

    def take_back(self, registers: Registers) -> bool:
        """Have it call the stub that it is in anew (none does more than to read); says if it is in one."""
        stub = self._stub(registers)
        if stub is None:
            return False
        registers.rip, registers.orig_rax = stub.start, NO_CALL
        return True

    def strays(self, registers: Registers) -> bool:
        """It runs its home's clock code, which has nothing to read here: a handler has returned to it."""
        return self.foreign and registers.rip in self.home

    def _stub(self, registers: Registers) -> range | None:
        inside = (stub for stub in self.stubs if registers.rip in stub and registers.rip != stub.start)
        return next(inside, None)


_STACK = 65536  # bytes above the stack pointer that are looked through
# In struct ucontext of a signal's frame, <asm/ucontext.h>, <asm/sigcontext.h>.
_RIP_AT, _CS_AT = 168, 184


def interrupted(memory: ProcessMemory, registers: Registers, code: range) -> bool:
    """A signal's handler seems to run that will return into the clock code.

    Its frame on the stack looks so; what is left of an old one may look so too.
    """
    if not code:
        return False
    pages = b"|".join(
        re.escape(struct.pack("<Q", page)[1:]) for page in range(code.start & -PAGE, code.stop, 256)
    )
    stack = stack_above(memory, registers.rsp)
    for match in re.finditer(b"(?s).(?:" + pages + b")", stack):
        at = match.start()
        (rip,) = struct.unpack_from("<Q", stack, at)
        behind = at + _CS_AT - _RIP_AT
        if rip in code and stack[behind : behind + 2] == CS_64BIT.to_bytes(2, "little"):
            return True
    return False


def stack_above(memory: ProcessMemory, address: int) -> bytes:
    """What there is of the stack above an address, up to a limit."""
    for size in (_STACK, _STACK // 4, PAGE, PAGE - address % PAGE):
        with contextlib.suppress(OSError):
            return memory.read(address, size)
    return b""


def clock_code(pid: int) -> ClockCode:
    """That of a process at home."""
    for mapping in proc.mappings(pid):
        if mapping.name == "[vdso]":
            return ClockCode(range(mapping.start, mapping.end))
    return ClockCode()


def a_moment() -> None:
    """Give a process that was let run the time to leave it."""
    time.sleep(_MOMENT)
