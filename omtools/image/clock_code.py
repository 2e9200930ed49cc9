"""Not stopping a process in the kernel's clock code.

clock_gettime(2) and its kin are code of the vdso (vdso(7)), which reads a page of the kernel's, [vvar]. In a
time namespace that is another page than outside (time_namespaces(7); lib/vdso/gettimeofday.c), and which one
to read is decided once per reading. A process stopped in between, and continued on the other side of a move,
would read a page that is not there and die of SIGBUS. So a stop in that code is no stop: the process runs
on for a moment and is stopped again.
"""

from __future__ import annotations

import time

from omtools.linux import proc
from omtools.linux.x86_64 import Registers

PATIENCE = 10.0
"""Seconds in which a running process surely is outside the vdso at some time when it is looked at."""

_MOMENT = 50e-6  # seconds; a reading takes 50 ns


def clock_code(pid: int) -> range:
    """The addresses of the vdso in a process; none if it has unmapped it."""
    for mapping in proc.mappings(pid):
        if mapping.name == "[vdso]":
            return range(mapping.start, mapping.end)
    return range(0)


def reads_clock(registers: Registers, code: range) -> bool:
    """The process is in that code; in a system call made there it is not: it reads no page after it."""
    return registers.call < 0 and registers.rip in code


def a_moment() -> None:
    """Give a process that was let run the time to leave it."""
    time.sleep(_MOMENT)
