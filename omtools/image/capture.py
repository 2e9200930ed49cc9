"""Taking the image of a stopped process.

The order matters: what only a running process shows (how long it has slept) is read before it is stopped,
and nothing in it is changed for good: it can be let go at any moment as if nothing had been.
"""

from __future__ import annotations

import os
import re
import resource
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec

from omtools.errors import CannotMigrate, ForeignArchitecture
from omtools.i18n import _
from omtools.image.clock_code import interrupted, stack_above
from omtools.image.injection import PROT_EXEC, PROT_READ, Call, Scratch, Tracee
from omtools.image.model import Image, Layout, Region, RegionKind, Resume, Vdso
from omtools.image.survey import memory_that_may_be_shared, region_obstacle, shared_elsewhere
from omtools.image.twins import Known
from omtools.image.vectors import take_apart
from omtools.linux import proc, ptrace
from omtools.linux.cpuid import xsave_layout
from omtools.linux.names import as_text
from omtools.linux.x86_64 import (
    CS_64BIT,
    ERESTART_RESTARTBLOCK,
    ERESTARTNOHAND,
    ERESTARTNOINTR,
    PAGE,
    Registers,
    unsigned,
)

# <asm/unistd_64.h>
SYS_RT_SIGACTION, SYS_SIGALTSTACK, SYS_BRK, SYS_PRCTL = 13, 131, 12, 157
SYS_PERSONALITY, SYS_GETITIMER, SYS_GET_ROBUST_LIST = 135, 36, 274
SYS_POLL, SYS_NANOSLEEP, SYS_FUTEX, SYS_CLOCK_NANOSLEEP, SYS_RESTART_SYSCALL = 7, 35, 202, 230, 219
SYS_EPOLL_WAIT, SYS_EPOLL_PWAIT, SYS_EPOLL_PWAIT2 = 232, 281, 441
SYS_RT_SIGTIMEDWAIT, SYS_SEMTIMEDOP = 128, 220

PR_GET_TID_ADDRESS = 40  # <linux/prctl.h>
ITIMER_VIRTUAL, ITIMER_PROF = 1, 2  # <linux/time.h>
SIGNALS = 64
SIGACTION_SIZE = 32  # the kernel's struct sigaction, <asm/signal.h>: handler, flags, restorer, mask
ALTSTACK_SIZE = 24  # stack_t

# Limits that the guest's own kernel must know: they act on its memory, its stack and what it opens by itself.
_LIMITS = (resource.RLIMIT_STACK, resource.RLIMIT_DATA, resource.RLIMIT_AS, resource.RLIMIT_NOFILE)

_WORD = (1 << 64) - 1
NO_TWINS: Known = MappingProxyType({})
KERNEL_MAPPINGS = ("[vvar]", "[vvar_vclock]", "[vdso]")


@dataclass(frozen=True, slots=True)
class Before:
    """What has to be read while the process still runs."""

    asleep: float | None
    wchan: str
    at_ns: int  # CLOCK_MONOTONIC


def look_before(pid: int) -> Before:
    """Read it now."""
    try:
        wchan = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        wchan = ""
    return Before(proc.asleep_for(pid), wchan, time.monotonic_ns())


def take_image(
    tracee: Tracee, registers: Registers, mask: int, scratch: Scratch, before: Before,
    *,
    pid: int = 0, resume: Resume | None = None, vdso: Vdso | None = None, twins: Known = NO_TWINS,
) -> Image:  # fmt: skip
    """The image of a stopped process whose registers are borrowed and whose signal mask was `mask`.

    `pid` is the process's pid at home, if that is not the tracee's; `resume` is what is left of a timeout,
    where the caller knows; `vdso` its home's, if it is not at home; `twins` the files that need not travel.
    Raises CannotMigrate with the reason when something ties it to its home.
    """
    # Not by comparing pids: on its host it may by chance have the number that it has at home.
    away, home_pid, pid = pid != 0, pid or tracee.pid, tracee.pid
    if registers.cs != CS_64BIT:
        raise ForeignArchitecture(pid=pid, architecture=_("32-bit"))
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    vdso = vdso or _vdso(tracee, registers)
    regions = _regions(pid, scratch, vdso, twins)
    asked = _ask_inside(tracee, registers, scratch, away)
    rest = Resume.rest(registers.call, registers.result, registers.rdx)
    resume = resume or rest or _resume(tracee, registers, before, now[0])
    if resume:
        add_trampolines(regions, scratch)
    return Image(
        pid=home_pid,
        registers=bytes(registers),
        vectors=take_apart(ptrace.get_xstate(pid), xsave_layout(), stack_above(tracee.memory, registers.rsp)),
        mask=mask,
        actions=asked.actions,
        altstack=asked.altstack,
        robust=asked.robust,
        rseq=_rseq(pid),
        tid_address=asked.tid_address,
        layout=_layout(proc.stat(pid), asked.brk),
        auxv=proc.auxv(pid),
        regions=regions,
        vdso=vdso,
        scratch=(scratch.base, scratch.size),
        arena=(0, 0),
        pending=[*ptrace.pending_signals(pid, shared=False), *ptrace.pending_signals(pid, shared=True)],
        limits=_limits(pid),
        command=Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n"),
        monotonic_ns=now[0],
        boottime_ns=now[1],
        cpu_away=(0.0, 0.0),
        resume=resume,
        personality=asked.personality,
        nice=os.getpriority(os.PRIO_PROCESS, pid),
    )


def _limits(pid: int) -> dict[int, tuple[int, int]]:
    """The limits that a guest's own kernel holds it to; of CPU time what is left, which is counted anew."""
    limits = {number: resource.prlimit(pid, number) for number in _LIMITS}
    stat = proc.stat(pid)
    used = (stat.user_ticks + stat.system_ticks) // os.sysconf("SC_CLK_TCK")
    soft, hard = (
        limit if limit == resource.RLIM_INFINITY else max(1, limit - used)
        for limit in resource.prlimit(pid, resource.RLIMIT_CPU)
    )
    return {**limits, resource.RLIMIT_CPU: (soft, hard)}


def _rseq(pid: int) -> tuple[int, int, int]:
    rseq = ptrace.get_rseq(pid)
    return rseq.address, rseq.size, rseq.signature


def _layout(stat: proc.Stat, brk: int) -> Layout:
    return Layout(
        stat.start_code, stat.end_code, stat.start_data, stat.end_data, stat.start_brk, brk,
        stat.start_stack, stat.arg_start, stat.arg_end, stat.env_start, stat.env_end,
    )  # fmt: skip


def trampoline_page(scratch: Scratch) -> int:
    """Where a process keeps the page of trampolines by which shortened calls are made again."""
    return scratch.base - 16 * PAGE


def add_trampolines(regions: list[Region], scratch: Scratch) -> None:
    """Have the page of trampolines among the regions."""
    page = trampoline_page(scratch)
    if not any(region.start <= page < region.end for region in regions):
        regions.append(Region(page, page + PAGE, PROT_READ | PROT_EXEC, "private", False, ""))


def _vdso(tracee: Tracee, registers: Registers) -> Vdso:
    kernel = [(m.name, m.start, m.end) for m in proc.mappings(tracee.pid) if m.name in KERNEL_MAPPINGS]
    span = Vdso(kernel, b"").span
    code = tracee.memory.read(span.start, len(span))
    return Vdso(kernel, code, interrupted(tracee.memory, registers, span))


def _regions(pid: int, scratch: Scratch, vdso: Vdso, twins: Known) -> list[Region]:
    mappings = [
        m for m in proc.mappings(pid)
        if not scratch.holds(m.start) and m.name not in (*KERNEL_MAPPINGS, "[vsyscall]")
        and m.start not in vdso.span  # of a guest of another kernel it is a mapping like others
    ]  # fmt: skip
    others = shared_elsewhere(pid, memory_that_may_be_shared(mappings))
    regions = []
    for mapping in mappings:
        if obstacle := region_obstacle(mapping, others):
            raise CannotMigrate(pid=pid, reason=obstacle)
        anonymous = mapping.inode == 0 or mapping.name.startswith("/dev/zero")
        kind: RegionKind = "shared" if mapping.shared and anonymous else "private"
        if mapping.name == "[stack]":
            kind = "stack"
        twin = "" if mapping.shared or anonymous else twins.get((mapping.device, mapping.inode), "")
        regions.append(
            Region(
                mapping.start, mapping.end, mapping.protection, kind, not anonymous,
                twin or as_text(mapping.name), mapping.offset, bool(twin),
            )
        )  # fmt: skip
    return _with_whole_stack(regions)


def _with_whole_stack(regions: list[Region]) -> list[Region]:
    """After a return the stack is two mappings, of which the kernel calls only one so: make it one again."""
    at = next((index for index, region in enumerate(regions) if region.kind == "stack"), None)
    if at is None:
        return regions
    first = last = at
    while first > 0 and _of_one_stack(regions[first - 1], regions[first]):
        first -= 1
    while last + 1 < len(regions) and _of_one_stack(regions[last], regions[last + 1]):
        last += 1
    whole = msgspec.structs.replace(regions[at], start=regions[first].start, end=regions[last].end)
    return [*regions[:first], whole, *regions[last + 1 :]]


def _of_one_stack(lower: Region, upper: Region) -> bool:
    return lower.end == upper.start and lower.protection == upper.protection and not (
        lower.file or upper.file or "shared" in (lower.kind, upper.kind) or lower.name == "[heap]"
    )


@dataclass(frozen=True, slots=True)
class _Inside:
    actions: bytes
    altstack: bytes
    robust: tuple[int, int]
    tid_address: int
    brk: int
    personality: int


INJECTED_AWAY: dict[int, tuple[tuple[tuple[int, int, int], ...], ...]] = {
    SYS_RT_SIGACTION: (((1, _WORD, 0),),),
    SYS_PRCTL: (((0, _WORD, PR_GET_TID_ADDRESS),),),
    SYS_PERSONALITY: (((0, 0xFFFFFFFF, 0xFFFFFFFF),),),
}
"""Rules (see `omtools.linux.seccomp`) for calls that a remote's filter lets through when its image is taken.

They only ask what is true of the remote itself.
"""


def _ask_inside(tracee: Tracee, registers: Registers, scratch: Scratch, away: bool) -> _Inside:
    """What only the process itself can ask its kernel: one batch."""
    actions, altstack = scratch.data, scratch.data + SIGNALS * SIGACTION_SIZE
    words = altstack + 64
    timers = words + 64
    calls: list[Call] = [
        (SYS_RT_SIGACTION, number + 1, 0, actions + number * SIGACTION_SIZE, 8) for number in range(SIGNALS)
    ]
    calls += [
        (SYS_SIGALTSTACK, 0, altstack),
        (SYS_GET_ROBUST_LIST, 0, words, words + 8),
        (SYS_PRCTL, PR_GET_TID_ADDRESS, words + 16),
        (SYS_BRK, 0),
        (SYS_PERSONALITY, 0xFFFFFFFF),
    ]
    if not away:
        calls += [(SYS_GETITIMER, ITIMER_VIRTUAL, timers), (SYS_GETITIMER, ITIMER_PROF, timers + 32)]
    results = tracee.batch(scratch, registers, calls)
    data = tracee.memory.read(scratch.data, timers + 64 - scratch.data)
    if not away and any(data[timers - scratch.data :]):
        reason = _("a timer that counts its CPU time is running (setitimer)")
        raise CannotMigrate(pid=tracee.pid, reason=reason)
    robust_head, robust_length, tid_address = struct.unpack_from("<3Q", data, words - scratch.data)
    at = altstack - scratch.data
    return _Inside(
        data[:at], data[at : at + ALTSTACK_SIZE], (robust_head, robust_length),
        tid_address if results[SIGNALS + 2] == 0 else 0, results[SIGNALS + 3], results[SIGNALS + 4],
    )  # fmt: skip


_SECOND = 1_000_000_000

TIMED: dict[int, tuple[int, bool, int | None]] = {
    SYS_POLL: (2, False, None),
    SYS_NANOSLEEP: (0, True, 1),
    SYS_CLOCK_NANOSLEEP: (2, True, 3),
    SYS_FUTEX: (3, True, None),
}
"""Calls with a restart block: where the timeout stands, whether by pointer, where the rest is written."""

_MADE_AGAIN: dict[int, tuple[int, bool]] = {
    SYS_EPOLL_WAIT: (3, False),
    SYS_EPOLL_PWAIT: (3, False),
    SYS_EPOLL_PWAIT2: (3, True),
    SYS_RT_SIGTIMEDWAIT: (2, True),
    SYS_SEMTIMEDOP: (3, True),
}
"""Calls that end with EINTR in any case, have a relative timeout and do not tell the rest (`normalise`)."""

_FUTEX_COMMAND, _FUTEX_WAIT = 127, 0  # FUTEX_CMD_MASK, FUTEX_WAIT, <linux/futex.h>

# What /proc/PID/wchan calls the places where calls with a restart block sleep.
_WCHAN = {"poll": SYS_POLL, "nanosleep": SYS_NANOSLEEP, "nsleep": SYS_NANOSLEEP, "futex": SYS_FUTEX}


def _resume(tracee: Tracee, registers: Registers, before: Before, now: int) -> Resume | None:
    """What is left, at `now`, of the timeout of a call that the kernel would not just make once more.

    Mostly it would go on with it by restart_syscall(2). Where the kernel has written the rest for the
    program (the sleeps' second pointer) that is exact, else it is the whole less the time since the process
    fell asleep.
    """
    nr = registers.call
    since = now - before.at_ns
    asleep = int((before.asleep or 0.0) * _SECOND) + since
    if registers.result == -ERESTARTNOHAND and nr in _MADE_AGAIN:
        argument, pointer = _MADE_AGAIN[nr]
        value = registers.arguments[argument]
        if pointer and value:
            return Resume(nr, max(0, _timespec(tracee, value) - asleep), argument, pointer)
        if not pointer and not value & 1 << 31:
            return Resume(nr, max(0, (value & 0xFFFFFFFF) * 1_000_000 - asleep), argument, pointer)
    if registers.result != -ERESTART_RESTARTBLOCK:
        return None
    if nr == SYS_RESTART_SYSCALL:  # it was interrupted before: the number is lost, the place is not
        nr = next((number for word, number in _WCHAN.items() if word in before.wchan), nr)
        nr = _loaded_number(tracee, registers) if nr == SYS_RESTART_SYSCALL else nr
        if nr == SYS_NANOSLEEP and registers.rdi < 16:  # a clock's number, not a pointer
            nr = SYS_CLOCK_NANOSLEEP
    if nr not in TIMED:
        raise CannotMigrate(pid=tracee.pid, reason=_("it sleeps in a call that cannot be told (try again)"))
    argument, pointer, rest = TIMED[nr]
    value = registers.arguments[argument]
    if rest is not None and (place := registers.arguments[rest]):
        return Resume(nr, max(0, _timespec(tracee, place) - since), argument, pointer)
    if nr == SYS_FUTEX and registers.rsi & _FUTEX_COMMAND != _FUTEX_WAIT:
        registers.rax, registers.orig_rax = unsigned(-ERESTARTNOINTR), nr  # until a moment: made once more
        return None
    whole = _timespec(tracee, value) if pointer else (value & 0xFFFFFFFF) * 1_000_000
    return Resume(nr, max(0, whole - asleep), argument, pointer)


_LOAD_AND_CALL = re.compile(rb"\xb8(.)\0\0\0.{0,12}?\x0f\x05\Z", re.DOTALL)  # mov eax, number; …; syscall


def _loaded_number(tracee: Tracee, registers: Registers) -> int:
    """The number that the code before the call it is in puts into eax."""
    try:
        code = tracee.memory.read(registers.rip - 24, 24)
    except OSError:
        return SYS_RESTART_SYSCALL
    numbers = [match[1][0] for match in (_LOAD_AND_CALL.search(code, at) for at in range(24)) if match]
    return numbers[-1] if numbers else SYS_RESTART_SYSCALL


def _timespec(tracee: Tracee, address: int) -> int:
    seconds, nanoseconds = struct.unpack("<qq", tracee.memory.read(address, 16))
    return int(seconds * _SECOND + nanoseconds)
