"""Running system calls inside a stopped process: one at a time, or hundreds in a single stop.

An injected call borrows the process's registers. While that lasts every signal but SIGTRAP is blocked;
signals that cannot be blocked are held back and given again by `release`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from omtools.errors import CannotMigrate, ProcessEnded
from omtools.i18n import _
from omtools.linux import proc, ptrace
from omtools.linux.memory import ProcessMemory
from omtools.linux.seccomp import take_descriptor
from omtools.linux.x86_64 import (
    ERESTARTNOHAND,
    GADGET,
    NO_CALL,
    PAGE,
    RESCUE_AT,
    SLOT,
    Registers,
    orphan_safe_call,
    rescue_code,
    rescue_frame,
    rescue_frame_size,
    signed,
    unsigned,
)

Call = tuple[int, ...]
"""Number and arguments."""

# Numbers of <asm/unistd_64.h> that are injected while a scratch area is set up.
SYS_MMAP, SYS_MPROTECT, SYS_MUNMAP, SYS_CLOSE, SYS_MEMFD_CREATE = 9, 10, 11, 3, 319
# <asm-generic/mman.h>
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE = 1, 2, 0x20, 0x100000
MFD_CLOEXEC = 1  # <linux/memfd.h>

_SI_KERNEL = 0x80  # si_code of the SIGTRAP of an int3, <asm-generic/siginfo.h>
_ALL_BUT_TRAP = (1 << 64) - 1 & ~(1 << (signal.SIGTRAP - 1))
_SYS_RT_SIGACTION = 13
_SA_RESTORER = 0x04000000  # <asm/signal.h>
_RED_ZONE = 128  # below the stack pointer, a leaf function's (System V ABI, AMD64)
_RESCUE_ROOM = 32768  # at the end of a scratch area, for a `rescue_frame`
SLOTS = 256
SCRATCH_SIZE = 256 * 1024
SHARED_SCRATCH_SIZE = 256 << 20  # address space; of memory it has what its file has
_SMALLER_SCRATCHES = (16 << 20, 1 << 20)  # where the process may not have so much (RLIMIT_AS)


@dataclass(frozen=True, slots=True)
class Scratch:
    """A page of gadgets and an arena behind it, in a process that is being worked on.

    Attributes:
        base: address of the gadget page.
        size: bytes in all.
    """

    base: int
    size: int = SCRATCH_SIZE

    @property
    def arena(self) -> int:
        """Where the arena begins: first the slots of a batch, then its data."""
        return self.base + PAGE

    @property
    def data(self) -> int:
        """Where the data of a batch begins."""
        return self.arena + SLOTS * SLOT.size

    @property
    def end(self) -> int:
        """The address behind it."""
        return self.base + self.size

    def holds(self, address: int) -> bool:
        """The address lies in it."""
        return self.base <= address < self.end


class Tracee:
    """A seized process: its stops, its registers, and calls made in its name.

    All methods need the thread that seized it. `held` are signals that arrived while calls were injected,
    `end` is how it ended, if one of the methods was told of that.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.memory = ProcessMemory(pid)
        self.held: list[int] = []
        self.end: ptrace.Stop | None = None
        self._masked = False

    @classmethod
    def seize(cls, pid: int, options: int = 0) -> Tracee:
        """Seize `pid`, which runs on; raises PermissionError, ProcessLookupError."""
        ptrace.seize(pid, options)
        return cls(pid)

    def interrupt(self) -> ptrace.Stop:
        """Stop it and say how it stopped: EVENT, or GROUP if a stop signal has stopped it."""
        ptrace.interrupt(self.pid)
        while True:
            stop = ptrace.wait(self.pid)
            if stop.over:
                raise self._over(stop)
            if stop.kind is not ptrace.StopKind.SIGNAL:
                return stop
            ptrace.cont(self.pid, stop.signal)  # its handler's first instruction is as good a place

    def _over(self, stop: ptrace.Stop) -> ProcessEnded:
        """It ended under our hands, which waitpid tells but once."""
        self.end = stop
        return ProcessEnded(pid=self.pid)

    @contextmanager
    def borrowed(self) -> Iterator[tuple[Registers, int]]:
        """Lend out the registers, and tell the signal mask; both are put back.

        The process is left in an EVENT stop: should its tracer die there, it runs on as if nothing had
        been (a signal-delivery-stop of the gadget's SIGTRAP would kill it).
        """
        registers = ptrace.get_registers(self.pid)
        mask = ptrace.get_sigmask(self.pid)
        try:
            yield registers, mask
        finally:
            self._give_back(registers, mask)

    def _give_back(self, registers: Registers, mask: int) -> None:
        try:
            # The mask first: an orphan between the two would put both back by itself, see `orphan_safe`.
            ptrace.set_sigmask(self.pid, mask)
            ptrace.set_registers(self.pid, registers)
            self._masked = False
            ptrace.interrupt(self.pid)
            ptrace.cont(self.pid)
            self._settle()
        except ProcessLookupError:
            raise ProcessEnded(pid=self.pid) from None

    def load(self, frame: Registers) -> None:
        """Set borrowed registers, and block signals once they are set."""
        ptrace.set_registers(self.pid, frame)
        if not self._masked:
            ptrace.set_sigmask(self.pid, _ALL_BUT_TRAP)
            self._masked = True

    def _settle(self) -> None:
        while True:
            stop = ptrace.wait(self.pid)
            if stop.over:
                raise self._over(stop)
            if stop.kind in (ptrace.StopKind.EVENT, ptrace.StopKind.GROUP):
                return
            ptrace.cont(self.pid, stop.signal)

    def stopped_early(self) -> bool:
        """It stopped where it should not, by something that was asked for before: run it again."""
        stop = ptrace.poll(self.pid)
        if stop is None:
            return False
        if stop.over:
            raise self._over(stop)
        if stop.kind is ptrace.StopKind.SIGNAL:
            self.held.append(stop.signal)
        return True

    def run_to_trap(self) -> None:
        """Let it run to the int3 of a gadget."""
        ptrace.cont(self.pid)
        self.expect_trap()

    def expect_trap(self) -> None:
        """Wait until it comes to the int3 of a gadget."""
        while True:
            stop = ptrace.wait(self.pid)
            if stop.over:
                raise self._over(stop)
            if is_gadget_trap(self.pid, stop):
                return
            if stop.kind is ptrace.StopKind.SIGNAL:
                self.held.append(stop.signal)
            ptrace.cont(self.pid)

    def call_at(self, gadget: int, registers: Registers, call: Call) -> int:
        """Make one call at a ``syscall; int3`` while the registers are borrowed; minus errno on error."""
        self.load(_call_frame(registers, gadget, call))
        self.run_to_trap()
        return ptrace.get_registers(self.pid).result

    def step_call(self, gadget: int, registers: Registers, call: Call) -> int:
        """Make one call at an `orphan_safe_call`; needs the option O_TRACESYSGOOD. Minus errno on error."""
        self.load(_call_frame(registers, gadget, call))
        for _entry_and_exit in range(2):
            ptrace.step_to_syscall(self.pid)
            while (stop := ptrace.wait(self.pid)).signal != ptrace.SYSCALL_STOP:
                if stop.over:
                    raise self._over(stop)
                if stop.kind is ptrace.StopKind.SIGNAL:
                    self.held.append(stop.signal)
                ptrace.step_to_syscall(self.pid)
        return ptrace.get_registers(self.pid).result

    def batch(self, scratch: Scratch, registers: Registers, calls: Sequence[Call]) -> list[int]:
        """Make all calls, one stop for every `SLOTS` of them; results in order, minus errno on error."""
        results: list[int] = []
        for first in range(0, len(calls), SLOTS):
            part = calls[first : first + SLOTS]
            slots = bytearray()
            for call in part:
                padded = (*(unsigned(value) for value in call), *(0,) * (8 - len(call)))
                slots += SLOT.pack(*padded)
            self.memory.write(scratch.arena, bytes(slots))
            frame = registers.copy()
            frame.orig_rax, frame.rip, frame.rbx, frame.r12 = NO_CALL, scratch.base, scratch.arena, len(part)
            self.load(frame)
            self.run_to_trap()
            done = self.memory.read(scratch.arena, len(slots))
            results += [signed(slot[7]) for slot in SLOT.iter_unpack(done)]
        return results

    def give_back_signals(self) -> None:
        """Send the held signals again, before the process is let go."""
        for number in self.held:
            os.kill(self.pid, number)
        self.held.clear()


def _call_frame(registers: Registers, address: int, call: Call) -> Registers:
    frame = registers.copy()
    number, *arguments = (unsigned(value) for value in call)
    frame.rax, frame.orig_rax, frame.rip = number, NO_CALL, address
    for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments, strict=False):
        setattr(frame, name, value)
    return frame


def is_gadget_trap(pid: int, stop: ptrace.Stop) -> bool:
    """The stop is the int3 of a gadget, not a SIGTRAP that somebody sent."""
    if stop.kind is not ptrace.StopKind.SIGNAL or stop.signal != signal.SIGTRAP:
        return False
    return int.from_bytes(ptrace.get_siginfo(pid)[8:12], "little") == _SI_KERNEL


def find_hole(taken: Iterable[proc.Mapping], size: int = 2 * SHARED_SCRATCH_SIZE) -> int:
    """An address with `size` free bytes, far from where heap, stack and libraries grow."""
    spans = sorted((mapping.start, mapping.end) for mapping in taken)
    for candidate in range(0x6000_0000_0000, 0x7000_0000_0000, 0x10_0000_0000):
        if all(end <= candidate or candidate + size <= start for start, end in spans):
            return candidate
    raise MemoryError("the address space is full")


class SafeGadget:
    """A place in a process where single calls can be made so that it survives the death of its tracer.

    Attributes:
        address: of the code.
        empty_string: address of a NUL byte.
    """

    def __init__(self, tracee: Tracee, registers: Registers, address: int, length: int) -> None:
        self._tracee = tracee
        self._registers = registers
        self.address = address
        self.empty_string = address + length

    def call(self, *call: int) -> int:
        """Make the call; minus errno on error."""
        return self._tracee.step_call(self.address, self._registers, call)


@contextmanager
def borrowed_code(tracee: Tracee, registers: Registers, mask: int) -> Iterator[SafeGadget]:
    """Put a gadget over the program's entry point, whose code is never run again; then the old bytes.

    What an orphan needs to go on by itself is written to the free part of its stack.
    """
    entry = proc.aux_value(proc.auxv(tracee.pid), proc.AT_ENTRY)
    xstate = ptrace.get_xstate(tracee.pid)
    frame = (registers.rsp - _RED_ZONE - rescue_frame_size(xstate)) & -64
    ptrace.set_options(tracee.pid, ptrace.O_TRACESYSGOOD)
    file = os.open(f"/proc/{tracee.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # no room on its stack: then it must not become an orphan now
            os.pwrite(file, rescue_frame(registers, mask, xstate, frame), frame)
        code = orphan_safe_call(frame)
        original = os.pread(file, len(code) + 1, entry)
        os.pwrite(file, code + b"\0", entry)
        try:
            yield SafeGadget(tracee, registers, entry, len(code))
        finally:
            with contextlib.suppress(OSError):  # it may have died: nothing to put back
                os.pwrite(file, original, entry)
    finally:
        os.close(file)


@contextmanager
def orphan_safe(
    tracee: Tracee, gadget: SafeGadget, scratch: Scratch, registers: Registers, mask: int
) -> Iterator[bytes]:
    """While this lasts, a batch in the scratch area survives the death of its tracer too.

    Yields what SIGTRAP's struct sigaction was.
    Its int3 is then a real SIGTRAP: its handler, for this while, is code in the scratch area that puts
    everything back.
    """
    frame = scratch.arena + SCRATCH_SIZE - _RESCUE_ROOM
    new, old, handler = frame - 64, frame - 128, scratch.base + RESCUE_AT
    xstate = ptrace.get_xstate(tracee.pid)
    tracee.memory.write(frame, rescue_frame(registers, mask, xstate, frame))
    tracee.memory.write(new, struct.pack("<4Q", handler, _SA_RESTORER, handler, 0))
    file = os.open(f"/proc/{tracee.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(file, rescue_code(frame, old), handler)
    finally:
        os.close(file)
    _checked(gadget.call(_SYS_RT_SIGACTION, signal.SIGTRAP, new, old, 8), tracee.pid, "rt_sigaction")
    try:
        yield tracee.memory.read(old, 32)
    finally:
        gadget.call(_SYS_RT_SIGACTION, signal.SIGTRAP, old, 0, 8)


def _checked(result: int, pid: int, what: str) -> int:
    if -4095 <= result < 0:
        raise CannotMigrate(pid=pid, reason=_("{what} failed inside it: {error}").format(
            what=what, error=os.strerror(-result)))
    return result


def write_gadgets(tracee: Tracee, address: int) -> None:
    """Write the gadgets into a page that need not be writable."""
    file = os.open(f"/proc/{tracee.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(file, GADGET, address)
    finally:
        os.close(file)


def private_scratch(tracee: Tracee, gadget: int, registers: Registers, base: int) -> Scratch:
    """Map a scratch area of the process's own at `base`, with calls made at `gadget`."""
    scratch = Scratch(base)
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    for start, size, protection in (
        (scratch.base, PAGE, PROT_READ | PROT_EXEC),
        (scratch.arena, scratch.size - PAGE, PROT_READ | PROT_WRITE),
    ):
        result = tracee.call_at(gadget, registers, (SYS_MMAP, start, size, protection, flags, -1, 0))
        _checked(result, tracee.pid, "mmap")
    write_gadgets(tracee, scratch.base)
    return scratch


def shared_scratch(tracee: Tracee, gadget: SafeGadget, base: int) -> tuple[Scratch, int]:
    """Map a scratch area whose arena is a memory file that the caller can map too.

    Returns the area and the memory file's descriptor here. The file is `SCRATCH_SIZE` long and may grow to
    the area's size, which is less than `SHARED_SCRATCH_SIZE` in a process of limited address space.
    Raises CannotMigrate, with nothing left in the process.
    """

    def call(*what: int) -> int:
        return _checked(gadget.call(*what), tracee.pid, "its scratch area")

    def arena_of(size: int) -> int:
        return gadget.call(SYS_MMAP, base + PAGE, size - PAGE, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_FIXED_NOREPLACE, descriptor, 0)  # fmt: skip

    size = SHARED_SCRATCH_SIZE
    descriptor = call(SYS_MEMFD_CREATE, gadget.empty_string, MFD_CLOEXEC)
    try:
        ours = take_descriptor(tracee.pid, descriptor)
        try:
            os.ftruncate(ours, SCRATCH_SIZE)
            call(SYS_MMAP, base, PAGE, PROT_READ | PROT_EXEC,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)  # fmt: skip
            result, smaller = arena_of(size), iter(_SMALLER_SCRATCHES)
            while result == -errno.ENOMEM and (size := next(smaller, 0)):
                result = arena_of(size)
            if -4095 <= result < 0:
                call(SYS_MUNMAP, base, PAGE)
            _checked(result, tracee.pid, "its scratch area")
        except BaseException:
            os.close(ours)
            raise
    finally:
        call(SYS_CLOSE, descriptor)
    write_gadgets(tracee, base)
    return Scratch(base, size), ours


def normalise(registers: Registers) -> bool:
    """Undo what an interruption alone did to a call: EINTR without a signal's handler.

    Some calls (epoll_wait, sigtimedwait, those with a socket timeout: signal(7)) end with EINTR when
    their process is only stopped. As -ERESTARTNOHAND they end so if a handler runs, and go on if none does.
    Says whether there was anything to undo.
    """
    if registers.call >= 0 and registers.result == -errno.EINTR:
        registers.rax = unsigned(-ERESTARTNOHAND)
        return True
    return False
