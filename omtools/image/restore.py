"""Building a process from its image: in a fresh stub (away), or in the deputy (coming home).

Three steps: `map_guest` or `map_home` makes room at the right addresses, then the pages arrive
(`omtools.image.pages`), then `finish` sets everything that only the process itself can set. Registers,
vector state and signal mask come last, by ptrace.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from omtools.errors import ProcessorLacks, RestoreFailed
from omtools.image.capture import (
    KERNEL_MAPPINGS,
    SIGACTION_SIZE,
    SIGNALS,
    SYS_PERSONALITY,
    SYS_PRCTL,
    SYS_RT_SIGACTION,
    SYS_SIGALTSTACK,
    trampoline_page,
)
from omtools.image.clock_code import ClockCode
from omtools.image.foreign_vdso import CannotStandIn, stand_in
from omtools.image.injection import (
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    SYS_CLOSE,
    SYS_MMAP,
    SYS_MPROTECT,
    SYS_MUNMAP,
    Call,
    Scratch,
    Tracee,
)
from omtools.image.model import Image, Region, Resume
from omtools.image.vectors import NotThere, put_together
from omtools.linux import proc, ptrace
from omtools.linux.cpuid import xsave_layout
from omtools.linux.x86_64 import (
    NO_CALL,
    PAGE,
    REST_DONE_AT,
    Registers,
    load_number,
    rest_trampoline,
    resume_trampoline,
)

# <asm/unistd_64.h>
SYS_MREMAP, SYS_MADVISE, SYS_PRLIMIT64, SYS_RSEQ = 25, 28, 302, 334
SYS_SET_TID_ADDRESS, SYS_SET_ROBUST_LIST, SYS_RT_TGSIGQUEUEINFO = 218, 273, 297

_SYS_CLOCK_GETTIME = 228

# <asm-generic/mman.h>, <linux/mman.h>
_MAP_GROWSDOWN, _MAP_NORESERVE, _MAP_STACK = 0x100, 0x4000, 0x20000
_MREMAP_MOVE = 1 | 2  # MREMAP_MAYMOVE | MREMAP_FIXED
_MADV_DONTNEED = 4

# <linux/prctl.h>
_PR_SET_NAME, _PR_SET_MM, _PR_SET_MM_MAP = 15, 35, 14
_MM_MAP = struct.Struct("<12QII")  # struct prctl_mm_map

_SS_ONSTACK = 1  # <asm-generic/signal-defs.h>
_RSEQ_UNREGISTER = 1  # RSEQ_FLAG_UNREGISTER, <linux/rseq.h>
_UNCATCHABLE = (signal.SIGKILL, signal.SIGSTOP)
_ASIDE = 64 << 20  # how far behind the scratch area
_NO_FILES: Mapping[str, int] = MappingProxyType({})


def _run(tracee: Tracee, scratch: Scratch, registers: Registers, calls: list[tuple[str, Call]]) -> list[int]:
    """Run a batch of named calls; raises RestoreFailed that names the first one that failed."""
    results = tracee.batch(scratch, registers, [call for _name, call in calls])
    for (name, call), result in zip(calls, results, strict=True):
        if -4095 <= result < 0 and name:
            where = f"{name}({', '.join(f'{value:#x}' for value in call[1:4])})"
            raise RestoreFailed(node="", why=f"{where}: {os.strerror(-result)}")
    return results


def _map_call(
    region: Region, start: int, end: int, files: Mapping[str, int] = _NO_FILES
) -> tuple[str, Call]:
    if region.twin:
        flags, file = MAP_FIXED_NOREPLACE | MAP_PRIVATE, files.get(region.name)
        if file is None:
            raise RestoreFailed(node="", why=f"{region.name} is another file here")
        at = region.offset + start - region.start
        return "mmap", (SYS_MMAP, start, end - start, region.protection, flags, file, at)
    flags = MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | (MAP_SHARED if region.kind == "shared" else MAP_PRIVATE)
    protection = PROT_READ | PROT_WRITE
    if region.kind == "stack":
        flags |= _MAP_GROWSDOWN | _MAP_STACK
    elif region.protection == 0 and region.kind != "shared":
        flags |= _MAP_NORESERVE  # address space set aside, often far more than there is memory
        protection = 0
    return "mmap", (SYS_MMAP, start, end - start, protection, flags, -1, 0)


def map_guest(
    stub: Tracee, scratch: Scratch, registers: Registers, image: Image, files: Mapping[str, int] = _NO_FILES
) -> ClockCode:
    """Turn a fresh stub's address space into the image's, empty; says where it will read clocks.

    `files` are descriptors in the stub, by path, of the twins that it may map; they are closed.
    """
    mine = [m for m in proc.mappings(stub.pid) if not scratch.holds(m.start) and m.name != "[vsyscall]"]
    kernel = [m for m in mine if m.name in KERNEL_MAPPINGS]
    code = next((stub.memory.read(m.start, m.size) for m in kernel if m.name == "[vdso]"), b"")
    calls: list[tuple[str, Call]] = [
        ("munmap", (SYS_MUNMAP, m.start, m.size)) for m in mine if m.name not in KERNEL_MAPPINGS
    ]
    # By way of a place that is free in both, for old and new places may overlap.
    aside = scratch.end + _ASIDE
    places = {name: start for name, start, _end in image.vdso.mappings}
    foreign = code != image.vdso.code or {m.name for m in kernel} != set(places)
    inward: list[tuple[str, Call]] = []
    at = {}
    for mapping in kernel:
        size = mapping.size
        at[mapping.name] = aside if foreign else places[mapping.name]
        calls.append(("mremap", (SYS_MREMAP, mapping.start, size, size, _MREMAP_MOVE, aside)))
        if not foreign:
            inward.append(("mremap", (SYS_MREMAP, aside, size, size, _MREMAP_MOVE, places[mapping.name])))
        aside += size
    _run(stub, scratch, registers, calls + inward)
    maps = [_map_call(region, region.start, region.end, files) for region in image.regions]
    _run(stub, scratch, registers, maps + [("close", (SYS_CLOSE, file)) for file in files.values()])
    if not foreign:
        return ClockCode(image.vdso.span)
    here = range(at.get("[vdso]", 0), at.get("[vdso]", 0) + len(code))
    copy, stubs = _stand_in(image, code, here.start)
    if copy:
        _run(stub, scratch, registers, [_map_code(image.vdso.span)])
        with open(f"/proc/{stub.pid}/mem", "r+b", buffering=0) as memory:
            os.pwrite(memory.fileno(), copy, image.vdso.span.start)
    return ClockCode(here, True, stubs, image.vdso.span)


def _map_code(span: range) -> tuple[str, Call]:
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    return "mmap", (SYS_MMAP, span.start, len(span), PROT_READ | PROT_EXEC, flags, -1, 0)


def _stand_in(image: Image, code: bytes, base: int) -> tuple[bytes, tuple[range, ...]]:
    """What leads to this kernel's vdso (`code`, at `base`) where the home's was, and its stubs' addresses."""
    if not image.vdso.code:
        return b"", ()
    if image.vdso.interrupted:
        why = "its kernel is another, and a signal's handler interrupts the reading of a clock; try again"
        raise RestoreFailed(node="", why=why)
    try:
        copy, stubs = stand_in(image.vdso.code, code, base)
    except CannotStandIn as error:
        raise RestoreFailed(node="", why=str(error)) from None
    start = image.vdso.span.start
    return copy, tuple(range(start + one.start, start + one.stop) for one in stubs)


def empty_deputy(deputy: Tracee, scratch: Scratch, registers: Registers, image: Image) -> None:
    """Free the deputy's memory after the commit.

    What stays: the scratch area, the kernel's own mappings, file mappings without their pages (they cost
    nothing, and what `ps`, `lsof` and the file system see stays true), and the pages with arguments and
    environment, which /proc/PID/cmdline and environ read.
    """
    calls: list[tuple[str, Call]] = []
    # First of all: the kernel writes to it at every return, and kills when it cannot.
    if image.rseq[0] and ptrace.get_rseq(deputy.pid).address:
        calls.append(("rseq", (SYS_RSEQ, image.rseq[0], image.rseq[1], _RSEQ_UNREGISTER, image.rseq[2])))
    keep = (image.layout.arg_start & -PAGE, (image.layout.env_end + PAGE - 1) & -PAGE)
    for region in image.regions:
        if region.file:
            calls.append(("", (SYS_MADVISE, region.start, region.size, _MADV_DONTNEED)))
            continue
        for start, end in without(region.start, region.end, [keep]):
            calls.append(("munmap", (SYS_MUNMAP, start, end - start)))
    _run(deputy, scratch, registers, calls)


class FilesAtHome(NamedTuple):
    """What of a deputy still maps files, once it has its address space again.

    Attributes:
        ranges: all of it: pages are to be written only where they differ.
        whole: of it what comes back whole: a page that does not come is of other memory, and empty.
    """

    ranges: list[tuple[int, int]]
    whole: list[tuple[int, int]]


def map_home(deputy: Tracee, scratch: Scratch, registers: Registers, image: Image) -> FilesAtHome:
    """Give the deputy the image's address space again."""
    _grow_stack(deputy, scratch, registers, image)
    kept = (*KERNEL_MAPPINGS, "[vsyscall]")
    mine = [m for m in proc.mappings(deputy.pid) if not scratch.holds(m.start) and m.name not in kept]
    wanted = [(region.start, region.end) for region in image.regions]
    calls: list[tuple[str, Call]] = [("munmap", (SYS_MUNMAP, a, b - a)) for a, b in image.gone]
    have = [part for m in mine for part in without(m.start, m.end, image.gone)]
    for start, end in have:
        calls += [("munmap", (SYS_MUNMAP, a, b - a)) for a, b in without(start, end, wanted)]
    for region in image.regions:
        calls += [_map_call(region, a, b) for a, b in without(region.start, region.end, have)]
    _run(deputy, scratch, registers, calls)
    files = [part for m in mine if m.inode for part in without(m.start, m.end, image.gone)]
    # Of twins only what was changed has travelled, either way.
    others = [*image.gone, *((region.start, region.end) for region in image.regions if region.twin)]
    sent = [part for m in mine if m.inode and m.protection for part in without(m.start, m.end, others)]
    return FilesAtHome(files, [(max(a, c), min(b, d)) for a, b in sent for c, d in wanted if a < d and c < b])


def _grow_stack(deputy: Tracee, scratch: Scratch, registers: Registers, image: Image) -> None:
    """Let the kernel stretch what was kept of the stack to its old size, by touching its lowest page.

    A new mapping below it would never become one with it again. Where this fails, that is the second best.
    """
    calls: list[tuple[str, Call]] = []
    for region in image.regions:
        if region.kind == "stack":
            calls.append(("", (_SYS_CLOCK_GETTIME, 0, region.start)))
            calls.append(("", (SYS_MADVISE, region.start, PAGE, _MADV_DONTNEED)))
    _run(deputy, scratch, registers, calls)


def without(start: int, end: int, holes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of [start, end) that no hole covers."""
    parts = []
    position = start
    for first, last in sorted(holes):
        if last <= position or first >= end:
            continue
        if first > position:
            parts.append((position, first))
        position = max(position, last)
    if position < end:
        parts.append((position, end))
    return parts


def finish(tracee: Tracee, scratch: Scratch, registers: Registers, image: Image) -> None:
    """Everything but registers, once the pages are there."""
    data = bytearray()

    def put(piece: bytes) -> int:
        address = scratch.data + len(data)
        data.extend(piece.ljust(-(-len(piece) // 16) * 16, b"\0"))
        return address

    mine = {(m.start, m.end): m.protection for m in proc.mappings(tracee.pid)}
    calls: list[tuple[str, Call]] = [
        ("mprotect", (SYS_MPROTECT, region.start, region.size, region.protection))
        for region in image.regions
        if mine.get((region.start, region.end)) != region.protection
    ]
    auxv = put(image.auxv)
    layout = put(_MM_MAP.pack(*_layout_fields(image), auxv, len(image.auxv), 0xFFFFFFFF))
    calls.append(("prctl(PR_SET_MM_MAP)", (SYS_PRCTL, _PR_SET_MM, _PR_SET_MM_MAP, layout, _MM_MAP.size, 0)))
    calls.append(("", (SYS_PRCTL, _PR_SET_NAME, put(image.command[:15] + b"\0"))))
    actions = put(image.actions)
    calls += [
        ("rt_sigaction", (SYS_RT_SIGACTION, number, actions + (number - 1) * SIGACTION_SIZE, 0, 8))
        for number in range(1, SIGNALS + 1)
        if number not in _UNCATCHABLE
    ]
    calls.append(("sigaltstack", (SYS_SIGALTSTACK, put(_altstack(image.altstack)), 0)))
    if image.robust[0]:
        calls.append(("set_robust_list", (SYS_SET_ROBUST_LIST, *image.robust)))
    if image.tid_address:
        calls.append(("", (SYS_SET_TID_ADDRESS, image.tid_address)))
    if image.personality > 0:
        calls.append(("personality", (SYS_PERSONALITY, image.personality)))
    for siginfo in image.pending:
        number = int.from_bytes(siginfo[:4], "little")
        if number == signal.SIGTRAP:
            continue  # see `send_traps`
        calls.append(("", (SYS_RT_TGSIGQUEUEINFO, image.pid, image.pid, number, put(siginfo))))
    if image.rseq[0]:
        calls.append(("rseq", (SYS_RSEQ, image.rseq[0], image.rseq[1], 0, image.rseq[2])))
    tracee.memory.write(scratch.data, bytes(data))
    # The kernel refuses to change an alternate stack under who is on it: a deputy frozen in a handler.
    elsewhere = registers.copy()
    elsewhere.rsp = scratch.data
    _run(tracee, scratch, elsewhere, calls)


def limit_guest(pid: int, image: Image) -> None:
    """Give a guest its home's limits and priority where this node allows them."""
    with contextlib.suppress(OSError):  # to be nicer is always allowed
        os.setpriority(os.PRIO_PROCESS, pid, image.nice)
    _limit(pid, {number: limit for number, limit in image.limits.items() if number != resource.RLIMIT_NOFILE})


def limit_numbers(pid: int, image: Image) -> None:
    """Let a complete guest open so many files as at home; what builds it needs numbers of its own."""
    _limit(pid, {number: limit for number, limit in image.limits.items() if number == resource.RLIMIT_NOFILE})


def _limit(pid: int, limits: Mapping[int, tuple[int, int]]) -> None:
    for number, (wanted, hard) in limits.items():
        soft = wanted
        _mine, most = resource.prlimit(pid, number)
        if number == resource.RLIMIT_CPU and hard != resource.RLIM_INFINITY:  # the soft one only warns
            most = hard if most == resource.RLIM_INFINITY else min(hard, most)
        if most != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > most):
            soft = most
        resource.prlimit(pid, number, (soft, most))


def _layout_fields(image: Image) -> tuple[int, ...]:
    layout = image.layout
    return (
        layout.start_code, layout.end_code, layout.start_data, layout.end_data, layout.start_brk, layout.brk,
        layout.start_stack, layout.arg_start, layout.arg_end, layout.env_start, layout.env_end,
    )  # fmt: skip


def _altstack(raw: bytes) -> bytes:
    """stack_t to set again: whether it is in use follows from the stack pointer."""
    pointer, flags, size = struct.unpack("<QixxxxQ", raw)
    return struct.pack("<QiiQ", pointer, flags & ~_SS_ONSTACK, 0, size)


def final_registers(tracee: Tracee, image: Image, monotonic_ns: int) -> Registers:
    """The registers to start with, at home's CLOCK_MONOTONIC; a shortened call goes by a trampoline.

    The page of trampolines is one of the image's regions: it stays in the process, wherever that goes,
    because a signal handler may run before the call returns to it. Its slots are used in turn; a call
    that went by one already keeps it.
    """
    registers = image.general_registers()
    resume = image.resume
    if resume is None:
        return registers
    page = trampoline_page(Scratch(*image.scratch))
    left = max(0, resume.nanoseconds - max(0, monotonic_ns - image.monotonic_ns))
    again = page <= registers.rip < page + _LAST_SLOT
    last = int.from_bytes(tracee.memory.read(page + _LAST_SLOT, 8), "little")
    slot = (registers.rip - page) // _SLOT_SIZE if again else (last + 1) % (_LAST_SLOT // _SLOT_SIZE)
    timespec, code = page + slot * _SLOT_SIZE, page + slot * _SLOT_SIZE + 16
    file = os.open(f"/proc/{tracee.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(file, struct.pack("<qq", *divmod(left, 1_000_000_000)), timespec)
        if not again:
            os.pwrite(file, _trampoline(registers, resume), code)
            os.pwrite(file, slot.to_bytes(8, "little"), page + _LAST_SLOT)
        elif resume.done:  # once more in the rest of the same write: the sum grows
            before = int.from_bytes(os.pread(file, 4, code + REST_DONE_AT[0]), "little")
            for at in REST_DONE_AT:
                os.pwrite(file, struct.pack("<I", before + resume.done), code + at)
    finally:
        os.close(file)
    registers.rip, registers.rax, registers.orig_rax = code, resume.nr, NO_CALL
    if resume.done:
        registers.rsi, registers.rdx = registers.rsi + resume.done, registers.rdx - resume.done
        return registers
    name = ("rdi", "rsi", "rdx", "r10")[resume.argument]
    milliseconds = min(-(-left // 1_000_000), (1 << 31) - 1)
    setattr(registers, name, timespec if resume.pointer else milliseconds)
    return registers


def _trampoline(registers: Registers, resume: Resume) -> bytes:
    if resume.done:
        return rest_trampoline(registers, registers.rip, resume.done)
    return load_number(resume.nr) + resume_trampoline(registers, registers.rip)


_SLOT_SIZE = 128  # a struct timespec and a trampoline
_LAST_SLOT = PAGE - 8  # where the page keeps the number of the slot used last


def vector_area(tracee: Tracee, image: Image) -> bytes:
    """The image's vector registers as this processor has them; raises ProcessorLacks."""
    try:
        return put_together(image.vectors, ptrace.get_xstate(tracee.pid), xsave_layout())
    except NotThere as error:
        raise ProcessorLacks(node="", features=str(error)) from None


def start_state(tracee: Tracee, image: Image, registers: Registers) -> None:
    """Vector state, signal mask and registers, by ptrace: the process is complete."""
    ptrace.set_xstate(tracee.pid, vector_area(tracee, image))
    ptrace.set_sigmask(tracee.pid, image.mask)
    ptrace.set_registers(tracee.pid, registers)


def send_traps(pid: int, image: Image) -> None:
    """Send the pending SIGTRAPs, when no call is injected any more: it could not tell them from its own."""
    if any(siginfo[:4] == _SIGTRAP for siginfo in image.pending):
        os.kill(pid, signal.SIGTRAP)


_SIGTRAP = int(signal.SIGTRAP).to_bytes(4, "little")
