"""The deputy: the original process at home, emptied, doing system calls for its remote.

It is always in one of a few stances (`Stance`). Idle it waits *running*, on a futex in its arena, so that a
signal sent to it is seen at once; right after a call it stays in the gadget's trap for some moments,
because the next call mostly follows soon, and starting from there is cheaper.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import struct
import time
from dataclasses import dataclass
from enum import Enum

from omtools.errors import ProcessEnded
from omtools.image.injection import (
    SYS_CLOSE,
    Scratch,
    Tracee,
    is_gadget_trap,
)
from omtools.linux import ptrace
from omtools.linux.events import futex_wake
from omtools.linux.ptrace import Stop, StopKind
from omtools.linux.x86_64 import (
    AFTER_CALL_AT,
    ERESTARTNOHAND,
    ERESTARTNOINTR,
    LOOK_AT,
    NO_CALL,
    PAGE,
    RESTARTS,
    Registers,
)
from omtools.migration.calls.plan import collect
from omtools.migration.frames import Request

_GO = struct.Struct("<I")
_SLOT = struct.Struct("<q6Qq")
_SLOT_AT, _RESULT_AT = 8, 64
_RESULT = struct.Struct("<q")
_OPEN = -(1 << 63) + 1  # no call returns this: the slot's result as long as the call is not over
_SYS_EXIT_GROUP, _SYS_GETPID = 231, 39  # <asm/unistd_64.h>
_LARGE = 1 << 20  # arena bytes that are worth giving back after a call

# Files of /proc/PID that speak of memory or CPU time, which the deputy has not.
_TELLTALES = frozenset({
    "maps", "smaps", "smaps_rollup", "numa_maps", "mem", "pagemap", "stat", "statm", "status", "map_files",
    "schedstat", "sched", "clear_refs", "syscall", "stack", "wchan",
})  # fmt: skip


class Stance(Enum):
    """What the deputy is doing."""

    PARKED = "parked"    # waits on its futex, running
    TRAPPED = "trapped"  # stopped behind a call, ready for the next
    BUSY = "busy"        # in a call
    HALTED = "halted"    # stopped by a stop signal, as its parent sees too
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Broken:
    """A call that was broken off: the kernel's -ERESTART code, how long it lasted, what goes back."""

    code: int
    nanoseconds: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """A call that is over: its result and the bytes that go back."""

    result: int
    data: bytes


class Arena:
    """The shared part of the scratch area: a control block, then the arguments of the call in progress."""

    def __init__(self, scratch: Scratch, memory_file: int) -> None:
        self.scratch = scratch
        self._file = memory_file
        self._map()

    def _map(self) -> None:
        self.view = mmap.mmap(self._file, os.fstat(self._file).st_size)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.view))

    @property
    def base(self) -> int:
        """Address of the arguments' area in the deputy."""
        return self.scratch.arena + PAGE

    @property
    def room(self) -> int:
        """Bytes of the arguments' area as it is; see `grow`."""
        return len(self.view) - PAGE

    @property
    def control(self) -> int:
        """Address of the control block in the deputy."""
        return self.scratch.arena

    def set(self, request: Request) -> None:
        """Put a request's bytes and its slot in place."""
        length = len(request.arena)
        if length:
            self.view[PAGE : PAGE + length] = request.arena
        _SLOT.pack_into(self.view, _SLOT_AT, request.nr, *request.args, _OPEN)

    def go(self, yes: bool) -> None:
        """Tell the loop to run the slot, or to wait."""
        _GO.pack_into(self.view, 0, yes)

    @property
    def result(self) -> int | None:
        """The slot's result, None as long as the call is not over."""
        value = int(_RESULT.unpack_from(self.view, _RESULT_AT)[0])
        return None if value == _OPEN else value

    def outs(self, request: Request, result: int) -> bytes:
        """The bytes that go back."""
        if not request.outs:
            return b""
        return collect(request.outs, result, lambda at, length: self.view[PAGE + at : PAGE + at + length])

    def shrink(self, request: Request) -> None:
        """Give back the memory of a large request."""
        if request.arena_length > _LARGE:
            self.view.madvise(mmap.MADV_REMOVE, 2 * PAGE, request.arena_length // PAGE * PAGE - PAGE)

    def grow(self, size: int) -> int:
        """Make room for `size` bytes of arguments, if that can be; returns how many there is room for."""
        length = min(-(-size // PAGE) * PAGE + PAGE, self.scratch.size - PAGE)
        if length > os.fstat(self._file).st_size:
            self.view.close()
            os.ftruncate(self._file, length)
            self._map()
        return self.room

    def close(self) -> None:
        """Unmap it here."""
        self.view.close()
        os.close(self._file)


class Deputy:
    """A process that was emptied and waits in its loop; all methods from the thread that seized it."""

    def __init__(self, tracee: Tracee, arena: Arena) -> None:
        self.tracee = tracee
        self.pid = tracee.pid
        self.arena = arena
        self.request: Request | None = None
        self.stray: list[bytes] = []  # siginfo of signals met while a call was broken off
        self._started = 0
        self._interrupted = 0  # by which code a signal has interrupted the call in progress
        self._resume = Stance.PARKED  # what a halted deputy goes on with
        self._put_off = False         # a call came when it was halted: not begun yet
        self.stance = Stance.TRAPPED
        self.rewind()

    def rewind(self) -> None:
        """Put the stopped deputy before its loop's first decision, all signals unblocked."""
        registers = ptrace.get_registers(self.pid)
        registers.rip = self.arena.scratch.base + LOOK_AT
        registers.rbx = self.arena.control
        registers.orig_rax = NO_CALL
        ptrace.set_registers(self.pid, registers)
        ptrace.set_sigmask(self.pid, 0)  # every signal is the remote's to judge
        self.stance = Stance.TRAPPED

    def park(self) -> None:
        """From the trap to the futex."""
        self.arena.go(False)
        self.stance = Stance.PARKED
        ptrace.cont(self.pid)

    def halt_parked(self) -> None:
        """Stop it for work of another kind (it must not be in a call)."""
        if self.stance in (Stance.PARKED, Stance.HALTED):
            ptrace.interrupt(self.pid)
            while (stop := ptrace.wait(self.pid)).kind is StopKind.SIGNAL:
                self.meet(stop)  # its handlers are away
                ptrace.cont(self.pid)
            if stop.over:
                raise ProcessEnded(pid=self.pid)
            self.rewind()

    def meet(self, stop: Stop) -> bool:
        """A signal is delivered to it: keep it as a stray, unless it is a trap of the loop that came late.

        A trap is late if its call was broken off in the very moment when it was over. Says whether it is one.
        """
        if is_gadget_trap(self.pid, stop):
            return True
        self.note_interruption()
        self.stray.append(ptrace.get_siginfo(self.pid))
        return False

    def note_interruption(self) -> None:
        """A signal interrupts the call in progress: remember how, for soon the kernel makes it again."""
        registers = ptrace.get_registers(self.pid)
        if self.request is not None and registers.result in RESTARTS and self._behind(registers):
            self._interrupted = registers.result

    def drain(self) -> None:
        """Have no signal pending in the stopped deputy; they become strays. Raises ProcessEnded."""
        self.arena.go(False)
        while any(ptrace.pending_signals(self.pid, shared=shared) for shared in (False, True)):
            ptrace.cont(self.pid)
            stop = ptrace.wait(self.pid)
            if stop.over:
                self.stance = Stance.GONE
                raise ProcessEnded(pid=self.pid)
            if stop.kind is StopKind.SIGNAL:
                self.meet(stop)
        self.rewind()

    def begin(self, request: Request) -> None:
        """Start a call; waitpid reports its end, see `finished`. A halted deputy begins when it goes on."""
        self.arena.set(request)
        if self.stance is Stance.HALTED:
            self.request, self._put_off = request, True
            return
        if request.mask is not None:
            self.halt_parked()
            ptrace.set_sigmask(self.pid, request.mask)
        self.request = request
        self._interrupted = 0
        self._started = time.monotonic_ns()
        self.arena.go(True)
        stance, self.stance = self.stance, Stance.BUSY
        if stance is Stance.PARKED:
            futex_wake(self.arena.address)
        else:
            ptrace.cont(self.pid)

    def finished(self, stop: Stop) -> Finished | None:
        """The result, if this stop is the end of the call."""
        if stop.kind is not StopKind.SIGNAL or stop.signal != signal.SIGTRAP or self.request is None:
            return None
        result = self.arena.result
        return None if result is None else self._finish(result)

    def _finish(self, result: int) -> Finished:
        request = self.request
        assert request is not None
        self.stance = Stance.TRAPPED
        self.request = None
        if request.mask is not None:
            ptrace.set_sigmask(self.pid, 0)
        data = self.arena.outs(request, result)
        self.arena.shrink(request)
        return Finished(result, data)

    def run(self, nr: int, *args: int) -> int:
        """Make a call that returns at once; raises ProcessEnded."""
        self.begin(Request.plain(nr, args))
        while True:
            stop = ptrace.wait(self.pid)
            if stop.over:
                self.stance = Stance.GONE
                raise ProcessEnded(pid=self.pid)
            if done := self.finished(stop):
                return done.result
            if stop.kind is StopKind.SIGNAL:
                self.meet(stop)
            ptrace.cont(self.pid)

    def break_off(self) -> Finished | Broken:
        """Break off the call in progress; it may end meanwhile. Raises ProcessEnded.

        Stopped by a stop signal, before or just now, it stays so: the stance tells.
        """
        if self._put_off:
            return self._never_begun()
        ptrace.interrupt(self.pid)
        while True:
            stop = ptrace.wait(self.pid)
            if stop.over:
                self.stance = Stance.GONE
                raise ProcessEnded(pid=self.pid)
            if stop.kind is StopKind.EVENT and self._not_begun():
                self._begin_interrupted()
                continue
            if stop.kind is not StopKind.SIGNAL:
                taken_back = self._take_back()
                if stop.kind is StopKind.GROUP:
                    self.arena.go(False)
                    self.stance = Stance.PARKED
                    self.halted()
                return taken_back
            if done := self.finished(stop):
                return done  # the interruption is still to come: an EVENT stop, which is continued
            self.meet(stop)
            ptrace.cont(self.pid)

    def _not_begun(self) -> bool:
        """The stopped deputy has yet to make the call."""
        behind = self._behind(ptrace.get_registers(self.pid))
        return not (behind or self._interrupted or self.arena.result is not None)

    def _behind(self, registers: Registers) -> bool:
        """The stopped deputy is behind its slot's call (and not behind the wait on the futex)."""
        return registers.rip == self.arena.scratch.base + AFTER_CALL_AT

    def _begin_interrupted(self) -> None:
        """Let it make the call with the interruption pending, up to the next stop, which is sure to come.

        What was broken off before it began would begin anew after the remote's handler. But the remote has
        been in it for long: only the call itself knows whether it ends at once or by EINTR.
        """
        request = self.request
        assert request is not None
        self.rewind()
        if request.mask is not None:
            ptrace.set_sigmask(self.pid, request.mask)
        self.stance = Stance.BUSY
        ptrace.set_options(self.pid, ptrace.O_EXITKILL | ptrace.O_TRACESYSGOOD)
        ptrace.step_to_syscall(self.pid)
        while (stop := ptrace.wait(self.pid)).signal != ptrace.SYSCALL_STOP:
            if stop.over:
                self.stance = Stance.GONE
                raise ProcessEnded(pid=self.pid)
            if stop.kind is StopKind.SIGNAL:
                self.meet(stop)
            ptrace.step_to_syscall(self.pid)
        ptrace.set_options(self.pid, ptrace.O_EXITKILL)
        ptrace.interrupt(self.pid)
        ptrace.cont(self.pid)

    def _never_begun(self) -> Broken:
        request, self.request, self._put_off = self.request, None, False
        assert request is not None
        return Broken(-ERESTARTNOINTR, 0, self.arena.outs(request, -errno.EINTR))

    def _take_back(self) -> Finished | Broken:
        """The deputy is stopped somewhere in its loop, in the middle of a call or beside it."""
        request = self.request
        assert request is not None
        registers = ptrace.get_registers(self.pid)
        behind = self._behind(registers)
        result = self.arena.result
        if result is None and behind and registers.result not in (*RESTARTS, -errno.EINTR):
            result = registers.result
        self.rewind()
        if result is not None:
            return self._finish(result)
        self.request = None
        if not behind:
            lasted = time.monotonic_ns() - self._started if self._interrupted else 0
            data = self.arena.outs(request, -errno.EINTR)
            return Broken(self._interrupted or -ERESTARTNOINTR, lasted, data)  # not begun, or not again
        code = registers.result if registers.result in RESTARTS else -ERESTARTNOHAND
        data = self.arena.outs(request, -errno.EINTR)
        return Broken(code, time.monotonic_ns() - self._started, data)

    def broken(self, done: Finished) -> Broken:
        """A call that a signal ended with EINTR, as one that was broken off: the remote judges signals."""
        return Broken(-ERESTARTNOHAND, time.monotonic_ns() - self._started, done.data)

    def halted(self) -> None:
        """A stop signal has stopped it: keep it so, but hear of SIGCONT."""
        self._resume, self.stance = self.stance, Stance.HALTED
        ptrace.listen(self.pid)

    def go_on(self) -> None:
        """SIGCONT came: go on with what it did, or begin what came meanwhile."""
        if self._put_off and self.request is not None:
            self._put_off = False
            self.rewind()
            self.begin(self.request)
            return
        self.stance = self._resume
        ptrace.cont(self.pid)

    def opened_telltale(self, descriptor: int) -> str:
        """What it opened, if that is a file of /proc that would tell of the deputy what is the remote's."""
        try:
            target = os.readlink(f"/proc/{self.pid}/fd/{descriptor}")
        except OSError:
            return ""
        parts = target.split("/")
        if len(parts) > 3 and parts[1] == "proc" and parts[2] == str(self.pid) and parts[-1] in _TELLTALES:
            return target
        return ""

    def close_descriptor(self, descriptor: int) -> None:
        """Undo an open."""
        self.run(SYS_CLOSE, descriptor)

    def _free(self) -> None:
        """Out of whatever it does, into a stop."""
        if self.stance is Stance.BUSY:
            self.break_off()
        self.halt_parked()
        self._put_off = False

    def end(self, status: int) -> None:
        """Let it end with this exit status."""
        self._free()
        self.begin(Request.plain(_SYS_EXIT_GROUP, (status,)))
        while not ptrace.wait(self.pid).over:
            ptrace.cont(self.pid)
        self.stance = Stance.GONE

    def die_by(self, number: int) -> None:
        """Let it die by this signal, as its remote did."""
        self._free()
        if number == signal.SIGKILL:
            os.kill(self.pid, number)
        elif self.stance is Stance.TRAPPED:
            self.run(_SYS_GETPID)  # its end is a signal-delivery-stop, where any signal can be given
            ptrace.cont(self.pid, number)
        while not ptrace.wait(self.pid).over:
            ptrace.cont(self.pid)
        self.stance = Stance.GONE
