"""Which node each process of this machine has selected: /omfs/selected leads there.

A process selects by writing a node's number to /omfs/select (openMosix: /proc/self/selected), and what it has
forked since has selected the same. Who has begun when, /proc tells; nobody has to report a fork.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

_GENERATIONS = 1000
_MANY = 1024


class Process(NamedTuple):
    """What counts of a process.

    Attributes:
        pid: of the process, whichever thread was asked for.
        parent: pid of its parent, 0 if it has none here.
        begun: when it began, in clock ticks since the machine started.
    """

    pid: int
    parent: int
    begun: int


def look(pid: int) -> Process | None:
    """The process that a thread belongs to: proc_pid_stat(5), proc_pid_status(5)."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            group = next(int(line.split()[1]) for line in file if line.startswith(b"Tgid:"))
        with open(f"/proc/{group}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return Process(group, int(fields[1]), int(fields[19]))
    except (OSError, StopIteration, ValueError, IndexError):
        return None  # it has ended


def now() -> int:
    """Clock ticks since the machine started."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


class Selections:
    """What was selected, by whom, and when.

    Args:
        process: looks at a process.
        clock: tells the time in the terms of `Process.begun`.
    """

    def __init__(
        self, process: Callable[[int], Process | None] = look, clock: Callable[[], int] = now
    ) -> None:
        self._process = process
        self._clock = clock
        self._made: dict[int, tuple[int, list[tuple[int, int | None]]]] = {}
        self._lock = threading.Lock()

    def select(self, pid: int, node: int | None) -> None:
        """A process (any thread of it) selects a node, or none; who has ended has selected nothing."""
        process = self._process(pid)
        if process is None:
            return
        with self._lock:
            begun, made = self._made.get(process.pid, (process.begun, []))
            if begun != process.begun:  # another process had that pid
                made = []
            self._made[process.pid] = process.begun, [*made, (self._clock(), node)]
            if len(self._made) > _MANY:
                self._forget_the_dead()

    def selected(self, pid: int) -> int | None:
        """What a process has selected, or its ancestor had when it forked this line; None: nothing."""
        process = self._process(pid)
        before: int | None = None
        for _generation in range(_GENERATIONS if self._made else 0):
            if process is None:
                break
            begun, made = self._made.get(process.pid, (-1, []))
            if begun == process.begun:
                for when, node in reversed(made):
                    if before is None or when <= before:
                        return node
            before = process.begun
            if not process.parent:
                break
            process = self._process(process.parent)
        return None

    def _forget_the_dead(self) -> None:
        for pid, (begun, _made) in list(self._made.items()):
            process = self._process(pid)
            if process is None or process.begun != begun:
                del self._made[pid]
