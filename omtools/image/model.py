"""What a process image is: everything of a process that travels, except the contents of its pages."""

from __future__ import annotations

from typing import Literal

import msgspec

from omtools.image.vectors import VectorRegisters
from omtools.linux.x86_64 import Registers

RegionKind = Literal["private", "shared", "stack"]


class Region(msgspec.Struct, frozen=True, array_like=True):
    """One mapping.

    Attributes:
        start: its address.
        end: the address behind it.
        protection: as for mmap(2).
        kind: private memory (also of files), shared memory that nobody else maps, or a growing stack.
        file: it maps a file; at home the deputy keeps that mapping, without its pages.
        name: what /proc/PID/maps calls it.
        offset: in the file.
        twin: where it goes the same file is mapped, see `omtools.image.twins`: only changed pages travel.
    """

    start: int
    end: int
    protection: int
    kind: RegionKind
    file: bool
    name: str
    offset: int = 0
    twin: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


class Layout(msgspec.Struct, frozen=True, array_like=True):
    """The `mm` fields of PR_SET_MM_MAP (struct prctl_mm_map, <linux/prctl.h>)."""

    start_code: int
    end_code: int
    start_data: int
    end_data: int
    start_brk: int
    brk: int
    start_stack: int
    arg_start: int
    arg_end: int
    env_start: int
    env_end: int


WRITES = frozenset({1, 44})
"""write and sendto (<asm/unistd_64.h>): their second and third argument are the bytes and their number."""


class Resume(msgspec.Struct, frozen=True, array_like=True):
    """A call whose timeout was running.

    Attributes:
        nr: its number.
        nanoseconds: what was left.
        argument: index of its timeout among its arguments.
        pointer: the timeout is a pointer to a struct timespec, else a number of milliseconds.
        done: it is a write of which so many bytes are written already; then no timeout is meant.
    """

    nr: int
    nanoseconds: int
    argument: int = -1
    pointer: bool = False
    done: int = 0

    @classmethod
    def rest(cls, nr: int, done: int, whole: int) -> Resume | None:
        """How to go on with a write that was interrupted in its middle, None if it was not.

        A program may rely on a blocking write being whole as long as no signal handler runs.
        """
        return cls(nr, 0, done=done) if nr in WRITES and 0 < done < whole else None


class OpenFile(msgspec.Struct, frozen=True, array_like=True):
    """A regular file that the process has open, with a position that it shares with nobody.

    Attributes:
        numbers: its descriptors, all of one open file.
        path: what its home node's kernel calls the file.
        inode: its number.
        device: of the file system it is on, as home's kernel numbers it (st_dev).
        flags: as of open(2), how it was opened.
        position: in bytes.
        direct: the open file is where the process runs; at home there is a placeholder whose position is old.
    """

    numbers: tuple[int, ...]
    path: str
    inode: int
    device: int
    flags: int
    position: int
    direct: bool = False


class Vdso(msgspec.Struct, frozen=True):
    """What the kernel has mapped into a process at its home.

    Attributes:
        mappings: [vvar] … [vdso]: (name, start, end).
        code: the bytes of [vdso], b"" if it has none.
        interrupted: a signal's handler will return into it.
    """

    mappings: list[tuple[str, int, int]]
    code: bytes
    interrupted: bool = False

    @property
    def span(self) -> range:
        """The addresses of [vdso]."""
        return next((range(start, end) for name, start, end in self.mappings if name == "[vdso]"), range(0))


class Image(msgspec.Struct, frozen=True):
    """A stopped process's user part.

    Attributes:
        pid: at home.
        registers: struct user_regs_struct; in an interrupted call rax is the kernel's -ERESTART*.
        vectors: floating point and vector registers.
        mask: blocked signals.
        actions: for signals 1..64 the kernel's struct sigaction (32 bytes each).
        altstack: stack_t (24 bytes).
        robust: head and length of the list of robust futexes.
        rseq: address, size and signature of rseq(2); address 0 if none.
        tid_address: clear_child_tid, 0 if unknown.
        layout: of its memory.
        auxv: auxiliary vector.
        regions: its mappings.
        vdso: the home's kernel's own mappings.
        scratch: address and size of the scratch area, the same on both sides.
        arena: address and size of the deputy's area for the arguments of calls.
        pending: siginfo_t of queued signals.
        limits: (soft, hard) of the resource limits that act on memory, and what is left of that of CPU time,
            by number.
        command: what /proc/PID/comm says.
        monotonic_ns: CLOCK_MONOTONIC at home while it was frozen.
        boottime_ns: CLOCK_BOOTTIME likewise.
        cpu_away: user and system time (seconds) that it used on other nodes so far.
        resume: the interrupted call, if its timeout must be shortened.
        personality: personality(2).
        files: open files that may be opened where it goes.
        numbers: all descriptors that it has at home; None: not known.
        umask: umask(2), -1 if not known.
        directory: its working directory, "" if not known.
        nice: nice(2).
        gone: addresses of what the process has mapped no more since it left home, where it is still mapped.
        mapped: where it maps files at home alone: what is there was in them.
        locked: it holds locks on files, which closing a descriptor may end.
    """

    pid: int
    registers: bytes
    vectors: VectorRegisters
    mask: int
    actions: bytes
    altstack: bytes
    robust: tuple[int, int]
    rseq: tuple[int, int, int]
    tid_address: int
    layout: Layout
    auxv: bytes
    regions: list[Region]
    vdso: Vdso
    scratch: tuple[int, int]
    arena: tuple[int, int]
    pending: list[bytes]
    limits: dict[int, tuple[int, int]]
    command: bytes
    monotonic_ns: int
    boottime_ns: int
    cpu_away: tuple[float, float]
    resume: Resume | None
    personality: int
    files: list[OpenFile] = []
    numbers: list[int] | None = None
    umask: int = -1
    directory: str = ""
    nice: int = 0
    gone: list[tuple[int, int]] = []
    mapped: list[tuple[int, int]] = []
    locked: bool = False

    def general_registers(self) -> Registers:
        """The registers, ready for ptrace."""
        return Registers.from_buffer_copy(self.registers)
