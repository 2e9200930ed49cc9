"""/proc/PID, typed: see proc(5)."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps."""

    start: int
    end: int
    readable: bool
    writable: bool
    executable: bool
    shared: bool
    offset: int
    device: str
    inode: int
    name: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def protection(self) -> int:
        """As for mmap(2): PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4."""
        return self.readable | self.writable << 1 | self.executable << 2


def _text(pid: int | str, name: str) -> str:
    """A file of /proc/PID; names in it are any bytes, of which the kernel escapes only the newline."""
    return os.fsdecode(Path(f"/proc/{pid}/{name}").read_bytes())


def mappings(pid: int) -> list[Mapping]:
    """The memory map of a process, by rising address."""
    found = []
    for line in _text(pid, "maps").split("\n")[:-1]:
        span, flags, offset, device, inode, *name = line.split(None, 5)
        start, _, end = span.partition("-")
        found.append(
            Mapping(
                int(start, 16), int(end, 16),
                flags[0] == "r", flags[1] == "w", flags[2] == "x", flags[3] == "s",
                int(offset, 16), device, int(inode), name[0] if name else "",
            )
        )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that are used here; times in clock ticks."""

    command: str
    state: str
    parent: int
    flags: int
    user_ticks: int
    system_ticks: int
    threads: int
    start_ticks: int
    exit_signal: int
    start_code: int
    end_code: int
    start_stack: int
    start_data: int
    end_data: int
    start_brk: int
    arg_start: int
    arg_end: int
    env_start: int
    env_end: int


PF_KTHREAD = 0x00200000  # include/linux/sched.h
PF_EXITING = 0x00000004  # likewise


def stat(pid: int) -> Stat:
    """Raises FileNotFoundError or ProcessLookupError when there is no such process."""
    text = _text(pid, "stat")
    open_at, close_at = text.index("("), text.rindex(")")
    f = text[close_at + 2 :].split()  # f[0] is field 3 of proc_pid_stat(5)

    def field(number: int) -> int:
        return int(f[number - 3])

    return Stat(
        command=text[open_at + 1 : close_at],
        state=f[0],
        parent=field(4),
        flags=field(9),
        user_ticks=field(14),
        system_ticks=field(15),
        threads=field(20),
        start_ticks=field(22),
        exit_signal=field(38),
        start_code=field(26),
        end_code=field(27),
        start_stack=field(28),
        start_data=field(45),
        end_data=field(46),
        start_brk=field(47),
        arg_start=field(48),
        arg_end=field(49),
        env_start=field(50),
        env_end=field(51),
    )


def show_as(words: Sequence[str]) -> None:
    """Have /proc/self/cmdline, and so ps(1), show as many of these words as there is room for.

    They are where the kernel put the arguments, between two addresses: proc_pid_stat(5), fields 48 and 49.
    """
    start, end = (int(word) for word in _text(os.getpid(), "stat").rpartition(")")[2].split()[45:47])
    text = b""
    for word in words:
        longer = text + os.fsencode(word) + b"\0"
        if len(longer) > end - start:
            break
        text = longer
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status as it stands, by field name."""
    return dict(line.split(":\t", 1) for line in _text(pid, "status").split("\n") if ":\t" in line)


def auxv(pid: int) -> bytes:
    """The auxiliary vector as the kernel keeps it."""
    return Path(f"/proc/{pid}/auxv").read_bytes()


def aux_value(vector: bytes, key: int) -> int:
    """The value of an AT_ entry (<linux/auxvec.h>), 0 if it is not there."""
    for found, value in struct.iter_unpack("<QQ", vector):
        if found == key:
            return int(value)
    return 0


AT_ENTRY = 9  # <linux/auxvec.h>


def asleep_for(pid: int) -> float | None:
    """Seconds since the process last gave up a CPU, or None where /proc/PID/sched is not there.

    The scheduler's clock at that moment is `se.exec_start`; the reader's own is the present, if it has just
    been given a CPU. It must be the same one: each CPU has a clock of its own, which leaves out what
    interrupts and other guests of the hypervisor took. Must be read before the process is interrupted.
    """
    try:
        then = _exec_start(str(pid))
        cpu = int(_text(pid, "stat").rpartition(")")[2].split()[36])  # field 39 of proc_pid_stat(5)
        mine = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {cpu})
        except OSError:
            cpu = -1  # not ours to use
        try:
            time.sleep(1e-6)
            now = _exec_start("self")
        finally:
            if cpu >= 0:
                os.sched_setaffinity(0, mine)
    except (OSError, ValueError, StopIteration):
        return None
    return max(0.0, (now - then) / 1000.0)


def _exec_start(pid: str) -> float:
    lines = _text(pid, "sched").split("\n")
    return float(next(line.split(":")[1] for line in lines if line.startswith("se.exec_start")))


def cpu_seconds(pid: int) -> tuple[float, float]:
    """User and system CPU time that the process has used."""
    figures = stat(pid)
    ticks = os.sysconf("SC_CLK_TCK")
    return figures.user_ticks / ticks, figures.system_ticks / ticks


@dataclass(frozen=True, slots=True)
class Io:
    """What a process has read and written by system calls: proc_pid_io(5), rchar, wchar, syscr and syscw."""

    read: int = 0
    written: int = 0
    calls: int = 0

    def __bool__(self) -> bool:
        return bool(self.read or self.written or self.calls)

    def minus(self, before: Io) -> Io:
        """What was done since then."""
        return Io(self.read - before.read, self.written - before.written, self.calls - before.calls)


def io(pid: int) -> Io:
    """Bytes and calls so far, of files, pipes and terminals alike. Raises OSError, ValueError."""
    with open(f"/proc/{pid}/io", "rb") as file:
        read, written, reads, writes = (int(line.split()[1]) for line in file.read().splitlines()[:4])
    return Io(read, written, reads + writes)


def descriptors(pid: int) -> dict[int, str]:
    """Open descriptors and what /proc/PID/fd says they are."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
    return found


def process_of(thread: int) -> int:
    """The process that a thread belongs to (FUSE tells threads); 0 and who has ended stay what they are."""
    try:
        return int(status(thread)["Tgid"]) if thread else 0
    except (OSError, KeyError, ValueError):
        return thread
