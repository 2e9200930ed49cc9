"""ptrace(2) and waitpid(2), typed. Every call must come from the thread that seized the tracee."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from dataclasses import dataclass
from enum import Enum

from omtools.linux.libc import C, fail
from omtools.linux.x86_64 import Registers

# Requests, <linux/ptrace.h>; GETREGS and SETREGS are x86's, <asm/ptrace-abi.h>.
_CONT, _SYSCALL = 7, 24
_GETREGS, _SETREGS = 12, 13
_DETACH = 17
_GETSIGINFO, _SETSIGINFO = 0x4202, 0x4203
_GETREGSET, _SETREGSET = 0x4204, 0x4205
_SEIZE, _INTERRUPT, _LISTEN = 0x4206, 0x4207, 0x4208
_PEEKSIGINFO, _GETSIGMASK, _SETSIGMASK = 0x4209, 0x420A, 0x420B
_SETOPTIONS = 0x4200
_GET_RSEQ_CONFIGURATION = 0x420F

O_TRACESYSGOOD = 1  # PTRACE_O_TRACESYSGOOD: syscall-stops show as `SYSCALL_STOP`
O_EXITKILL = 0x100000  # PTRACE_O_EXITKILL: the tracee dies with its tracer
_PEEKSIGINFO_SHARED = 1  # the queue of the process, not of the thread
_EVENT_STOP = 128  # PTRACE_EVENT_STOP
_EVENT_EXEC = 4
_NT_X86_XSTATE = 0x202  # <linux/elf.h>
_WALL = 0x40000000  # __WALL, <linux/wait.h>

_ENDS_WITHIN = 5.0  # seconds

SIGINFO_SIZE = 128  # siginfo_t, <asm-generic/siginfo.h>
SIGSET_SIZE = 8  # the kernel's sigset_t
XSTATE_LIMIT = 65536  # larger than any XSAVE area there is (AMX needs 11 KB)

_ptrace = C.ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def _call(request: int, pid: int, address: int = 0, data: object = None) -> int:
    result: int = _ptrace(request, pid, address, data)
    if result == -1:
        raise fail(f"ptrace {request:#x} of {pid}")
    return result


class StopKind(Enum):
    """What waitpid reported."""

    EXITED = "exited"
    KILLED = "killed"
    SIGNAL = "signal"  # signal-delivery-stop: the signal has not been delivered yet
    EVENT = "event"  # PTRACE_INTERRUPT took effect, or it was continued while it listened
    GROUP = "group"  # stopped by a stop signal, with its whole thread group
    EXEC = "exec"


@dataclass(frozen=True, slots=True)
class Stop:
    """One report of waitpid on a tracee.

    Attributes:
        kind: what happened.
        signal: the signal of a SIGNAL or GROUP stop or of a death; 0 otherwise.
        status: exit status, or waitpid's raw status of a death by signal (with its core flag).
    """

    kind: StopKind
    signal: int = 0
    status: int = 0

    @property
    def over(self) -> bool:
        """The tracee is gone."""
        return self.kind in (StopKind.EXITED, StopKind.KILLED)


_STOP_SIGNALS = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})


def decode(status: int) -> Stop:
    """What a raw wait status of a seized tracee means (ptrace(2), "Stopped states")."""
    if os.WIFEXITED(status):
        return Stop(StopKind.EXITED, 0, os.WEXITSTATUS(status))
    if os.WIFSIGNALED(status):
        return Stop(StopKind.KILLED, os.WTERMSIG(status), status)
    event, number = status >> 16, os.WSTOPSIG(status)
    if event == _EVENT_STOP:
        return Stop(StopKind.GROUP, number) if number in _STOP_SIGNALS else Stop(StopKind.EVENT)
    if event == _EVENT_EXEC:
        return Stop(StopKind.EXEC)
    return Stop(StopKind.SIGNAL, number)


def wait(pid: int) -> Stop:
    """Wait for the tracee's next stop or its end."""
    return decode(os.waitpid(pid, _WALL)[1])


def poll(pid: int) -> Stop | None:
    """The tracee's stop or end if there is one to report, or None."""
    reported, status = os.waitpid(pid, _WALL | os.WNOHANG)
    return decode(status) if reported else None


def wait_for_end(pid: int) -> Stop:
    """The end of a tracee for which a request said ESRCH; raises ProcessLookupError if it does not end."""
    limit = time.monotonic() + _ENDS_WITHIN
    try:
        while (stop := poll(pid)) is None or not stop.over:
            if time.monotonic() > limit:
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(pid))
            time.sleep(0.001)
    except ChildProcessError:  # its end was reported already
        return Stop(StopKind.KILLED, signal.SIGKILL, signal.SIGKILL)
    return stop


def seize(pid: int, options: int = 0) -> None:
    """Become the tracer of `pid` without stopping it."""
    _call(_SEIZE, pid, 0, ctypes.c_void_p(options))


def set_options(pid: int, options: int) -> None:
    """Replace the options; the tracee must be stopped."""
    _call(_SETOPTIONS, pid, 0, ctypes.c_void_p(options))


def interrupt(pid: int) -> None:
    """Ask for an EVENT stop; wait for it."""
    _call(_INTERRUPT, pid)


def cont(pid: int, signum: int = 0) -> None:
    """Let a stopped tracee run, delivering `signum` if it is in a signal-delivery-stop."""
    if _ptrace(_CONT, pid, 0, signum or None) == -1:
        raise fail(f"PTRACE_CONT of {pid}")


SYSCALL_STOP = signal.SIGTRAP | 0x80
"""The signal that a syscall-stop shows with O_TRACESYSGOOD."""


def step_to_syscall(pid: int) -> None:
    """Let a stopped tracee run to the entry or the exit of its next system call."""
    _call(_SYSCALL, pid)


def listen(pid: int) -> None:
    """Leave a tracee in its GROUP stop but hear of its continuation."""
    _call(_LISTEN, pid)


def detach(pid: int, signum: int = 0) -> None:
    """Stop being the tracer; the tracee runs on."""
    _call(_DETACH, pid, 0, ctypes.c_void_p(signum))


def get_registers(pid: int) -> Registers:
    """The general registers of a stopped tracee."""
    registers = Registers()
    _call(_GETREGS, pid, 0, ctypes.byref(registers))
    return registers


def set_registers(pid: int, registers: Registers) -> None:
    """Replace the general registers of a stopped tracee."""
    _call(_SETREGS, pid, 0, ctypes.byref(registers))


class _IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def get_xstate(pid: int) -> bytes:
    """The XSAVE area (floating point and vector registers), in the kernel's user format."""
    buffer = ctypes.create_string_buffer(XSTATE_LIMIT)
    vector = _IoVec(ctypes.addressof(buffer), XSTATE_LIMIT)
    _call(_GETREGSET, pid, _NT_X86_XSTATE, ctypes.byref(vector))
    return buffer.raw[: vector.length]


def set_xstate(pid: int, xstate: bytes) -> None:
    """Replace the XSAVE area; its size must be this processor's."""
    buffer = ctypes.create_string_buffer(xstate, len(xstate))
    vector = _IoVec(ctypes.addressof(buffer), len(xstate))
    _call(_SETREGSET, pid, _NT_X86_XSTATE, ctypes.byref(vector))


def get_siginfo(pid: int) -> bytes:
    """The siginfo_t of the signal in a signal-delivery-stop."""
    buffer = ctypes.create_string_buffer(SIGINFO_SIZE)
    _call(_GETSIGINFO, pid, 0, buffer)
    return buffer.raw


def set_siginfo(pid: int, siginfo: bytes) -> None:
    """Replace the siginfo_t of the signal in a signal-delivery-stop."""
    _call(_SETSIGINFO, pid, 0, ctypes.create_string_buffer(siginfo, SIGINFO_SIZE))


class _PeekArguments(ctypes.Structure):
    # struct ptrace_peeksiginfo_args, <linux/ptrace.h>
    _fields_ = [
        ("offset", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("number", ctypes.c_int32),
    ]


def pending_signals(pid: int, *, shared: bool) -> list[bytes]:
    """The siginfo_t of every queued signal: of the process (`shared`) or of this thread alone."""
    found: list[bytes] = []
    while True:
        arguments = _PeekArguments(len(found), _PEEKSIGINFO_SHARED if shared else 0, 32)
        buffer = ctypes.create_string_buffer(SIGINFO_SIZE * 32)
        count = _call(_PEEKSIGINFO, pid, ctypes.addressof(arguments), buffer)
        found += [buffer.raw[i * SIGINFO_SIZE : (i + 1) * SIGINFO_SIZE] for i in range(count)]
        if count < 32:
            return found


def get_sigmask(pid: int) -> int:
    """The set of blocked signals, bit n-1 for signal n."""
    mask = ctypes.c_uint64()
    _call(_GETSIGMASK, pid, SIGSET_SIZE, ctypes.byref(mask))
    return mask.value


def set_sigmask(pid: int, mask: int) -> None:
    """Replace the set of blocked signals of a stopped tracee."""
    _call(_SETSIGMASK, pid, SIGSET_SIZE, ctypes.byref(ctypes.c_uint64(mask)))


@dataclass(frozen=True, slots=True)
class Rseq:
    """A thread's restartable-sequences area (rseq(2)); address 0 if it has none."""

    address: int
    size: int
    signature: int


class _RseqConfiguration(ctypes.Structure):
    # struct ptrace_rseq_configuration, <linux/ptrace.h>
    _fields_ = [
        ("address", ctypes.c_uint64),
        ("size", ctypes.c_uint32),
        ("signature", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    ]


def get_rseq(pid: int) -> Rseq:
    """What the stopped thread registered with rseq(2)."""
    configuration = _RseqConfiguration()
    _call(_GET_RSEQ_CONFIGURATION, pid, ctypes.sizeof(configuration), ctypes.byref(configuration))
    return Rseq(configuration.address, configuration.size, configuration.signature)
