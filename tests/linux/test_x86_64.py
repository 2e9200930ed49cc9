"""omtools.linux.x86_64: every piece of machine code is run for real, in a child that is traced."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import signal
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tracees import fork, stop_in_call

from omtools.linux import proc, ptrace, x86_64
from omtools.linux.events import futex_wake
from omtools.linux.memory import ProcessMemory
from omtools.linux.namespaces import execveat
from omtools.linux.ptrace import Stop, StopKind
from omtools.linux.x86_64 import (
    AFTER_CALL_AT,
    GADGET,
    LOOK_AT,
    NO_CALL,
    PAGE,
    SERVE_AT,
    SLOT,
    SYSCALL_INT3,
    Registers,
    signed,
    unsigned,
)

TRAP = Stop(StopKind.SIGNAL, signal.SIGTRAP)
SYS_READ, SYS_WRITE, SYS_CLOSE, SYS_NANOSLEEP, SYS_GETPID, SYS_GETPPID, SYS_FUTEX = 0, 1, 3, 35, 39, 110, 202


@dataclass
class Puppet:
    """A stopped child with a page of code and some shared pages."""

    pid: int
    code: int
    data: int
    shared: mmap.mmap
    registers: Registers
    memory: ProcessMemory

    def run_at(self, address: int, **values: int) -> Registers:
        """Set registers, run to the next int3; the registers then."""
        frame = self.registers.copy()
        frame.rip, frame.orig_rax = address, NO_CALL
        for name, value in values.items():
            setattr(frame, name, unsigned(value))
        ptrace.set_registers(self.pid, frame)
        ptrace.cont(self.pid)
        assert ptrace.wait(self.pid) == TRAP
        return ptrace.get_registers(self.pid)


@contextlib.contextmanager
def puppet(code: bytes) -> Iterator[Puppet]:
    page = mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
                     mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)  # fmt: skip
    page[: len(code)] = code
    shared = mmap.mmap(-1, 8 * PAGE)
    anchors = [ctypes.c_char.from_buffer(area) for area in (page, shared)]
    pid = fork()
    if pid == 0:
        while True:
            signal.pause()
    try:
        ptrace.seize(pid, ptrace.O_EXITKILL)
        ptrace.interrupt(pid)
        assert ptrace.wait(pid).kind is StopKind.EVENT
        registers = ptrace.get_registers(pid)
        yield Puppet(pid, ctypes.addressof(anchors[0]), ctypes.addressof(anchors[1]), shared, registers,
                     ProcessMemory(pid))  # fmt: skip
    finally:
        os.kill(pid, signal.SIGKILL)
        while not ptrace.wait(pid).over:
            pass
        anchors.clear()
        shared.close()
        page.close()


def slots(*calls: tuple[int, ...]) -> bytes:
    return b"".join(SLOT.pack(*map(unsigned, call), *(0,) * (8 - len(call))) for call in calls)


def test_one_call() -> None:
    with puppet(SYSCALL_INT3) as p:
        after = p.run_at(p.code, rax=SYS_GETPID)
        assert after.result == p.pid
        assert after.rip == p.code + len(SYSCALL_INT3)
        assert p.run_at(p.code, rax=SYS_CLOSE, rdi=-1).result == -errno.EBADF


@pytest.mark.parametrize("count", [0, 1, 2, 256])
def test_a_batch_runs_every_slot_in_one_stop(count: int) -> None:
    with puppet(GADGET) as p:
        calls = [(SYS_GETPID,), (SYS_GETPPID,), (SYS_CLOSE, -1)]
        wanted = [p.pid, os.getpid(), -errno.EBADF]
        array = slots(*(calls[i % 3] for i in range(count)), (SYS_GETPID,))
        p.shared[: len(array)] = array
        after = p.run_at(p.code, rbx=p.data, r12=count)
        results = [signed(slot[7]) for slot in SLOT.iter_unpack(p.shared[: len(array)])]
        assert results == [wanted[i % 3] for i in range(count)] + [0]  # and not one more
        assert after.r12 == 0
        assert after.rsp == p.registers.rsp
        assert after.rbp == p.registers.rbp


def test_a_batch_passes_six_arguments_and_takes_any_result() -> None:
    with puppet(GADGET) as p:
        # mmap uses all six: a fixed place, and a file offset that must fail
        place = 0x5000_0000_0000
        array = slots((9, place, PAGE, 3, 0x22 | 0x10, -1, 0), (9, 0, PAGE, 3, 0x22, -1, 1), (SYS_GETPID,))
        p.shared[: len(array)] = array
        p.run_at(p.code, rbx=p.data, r12=3)
        results = [signed(slot[7]) for slot in SLOT.iter_unpack(p.shared[: len(array)])]
        assert results == [place, -errno.EINVAL, p.pid]
        p.memory.write(place, b"mapped")
        assert p.memory.read(place, 6) == b"mapped"


def control(p: Puppet, go: int, call: tuple[int, ...]) -> None:
    p.shared[:4] = struct.pack("<I", go)
    p.shared[8 : 8 + SLOT.size] = slots(call)


def result_of(p: Puppet) -> int:
    return signed(SLOT.unpack(p.shared[8 : 8 + SLOT.size])[7])


def test_the_deputy_s_loop() -> None:
    with puppet(GADGET) as p:
        control(p, 1, (SYS_GETPID,))
        after = p.run_at(p.code + LOOK_AT, rbx=p.data)
        assert result_of(p) == p.pid
        assert after.rip == p.code + SERVE_AT + 1  # behind the stop
        control(p, 1, (SYS_WRITE, -1, p.data, 5))
        ptrace.cont(p.pid)  # told to go on, it does the next
        assert ptrace.wait(p.pid) == TRAP
        assert result_of(p) == -errno.EBADF
        control(p, 0, (SYS_GETPPID,))
        ptrace.cont(p.pid)
        waiting = stop_in_call(p.pid, SYS_FUTEX)  # told nothing, it waits running
        assert waiting.arguments[:4] == (p.data, 0, 0, 0)
        ptrace.cont(p.pid)
        assert ptrace.poll(p.pid) is None
        control(p, 1, (SYS_GETPPID,))
        futex_wake(p.data)  # the same shared pages, at the same place here
        assert ptrace.wait(p.pid) == TRAP
        assert result_of(p) == os.getpid()


def test_a_call_of_the_loop_that_is_broken_off_stands_where_it_should() -> None:
    told, tell = os.pipe()
    try:
        with puppet(GADGET) as p:
            control(p, 1, (SYS_READ, told, p.data + PAGE, 10))
            frame = p.registers.copy()
            frame.rip, frame.orig_rax, frame.rbx = p.code + LOOK_AT, NO_CALL, p.data
            ptrace.set_registers(p.pid, frame)
            ptrace.cont(p.pid)
            registers = stop_in_call(p.pid, SYS_READ)
            assert registers.rip == p.code + AFTER_CALL_AT
            assert registers.result == -x86_64.ERESTARTSYS
            os.write(tell, b"data")
            ptrace.cont(p.pid)  # it is restarted by the kernel and ends
            assert ptrace.wait(p.pid) == TRAP
            assert result_of(p) == 4
            assert p.shared[PAGE : PAGE + 4] == b"data"
    finally:
        os.close(told)
        os.close(tell)


def test_a_trampoline_makes_the_call_and_gives_the_arguments_back() -> None:
    with puppet(b"") as p:
        call = p.registers.copy()
        call.rdi, call.rsi, call.rdx, call.r10 = 0xDEAD_BEEF_0000_0001, 2, 3, (1 << 64) - 4
        target = p.code + 512
        code = x86_64.resume_trampoline(call, target)
        p.shared[:16] = struct.pack("<qq", 0, 1000)
        file = os.open(f"/proc/{p.pid}/mem", os.O_RDWR)
        os.pwrite(file, code, p.code)
        os.pwrite(file, b"\xcc", target)
        os.close(file)
        assert len(code) <= 112  # beside a struct timespec in its slot of 128 bytes
        after = p.run_at(p.code, rax=SYS_NANOSLEEP, rdi=p.data, rsi=0, rdx=77, r10=78)
        assert after.result == 0
        assert after.rip == target + 1
        assert (after.rdi, after.rsi, after.rdx, after.r10) == (call.rdi, 2, 3, call.r10)
        for name in ("rbx", "rbp", "rsp", "r8", "r9", "r12", "r13", "r14", "r15"):
            assert getattr(after, name) == getattr(p.registers, name)


@contextlib.contextmanager
def running(program: bytes) -> Iterator[int]:
    """A child that is traced and has become this program; stopped in its first stop after that."""
    told, tell = os.pipe()
    descriptor = os.memfd_create("program")
    os.write(descriptor, program)
    pid = fork()
    if pid == 0:
        try:
            os.read(told, 1)
            execveat(descriptor, [b"program"])
        finally:
            os._exit(99)
    ptrace.seize(pid, ptrace.O_EXITKILL)
    os.write(tell, b"!")
    try:
        yield pid
    finally:
        for leftover in (told, tell, descriptor):
            os.close(leftover)
        with contextlib.suppress(ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            while not ptrace.wait(pid).over:
                pass


def test_the_stub_starts_in_its_stop_and_makes_calls() -> None:
    with running(x86_64.STUB_PROGRAM) as pid:
        assert ptrace.wait(pid) == TRAP
        registers = ptrace.get_registers(pid)
        assert registers.rip == x86_64.STUB_GADGET
        assert ProcessMemory(pid).read(x86_64.STUB_GADGET, 3) == SYSCALL_INT3
        registers.rax, registers.orig_rax = SYS_GETPID, NO_CALL
        ptrace.set_registers(pid, registers)
        ptrace.cont(pid)
        assert ptrace.wait(pid) == TRAP
        assert ptrace.get_registers(pid).result == pid
        assert len([m for m in proc.mappings(pid) if "program" in m.name]) == 1


def test_pid_1_waits_for_ever() -> None:
    with running(x86_64.PAUSE_PROGRAM) as pid:
        assert stop_in_call(pid, 34).result == -x86_64.ERESTARTNOHAND
        ptrace.cont(pid)
        os.kill(pid, signal.SIGCONT)  # ignored where there is no handler: pause goes on
        while (stop := ptrace.wait(pid)).kind is not StopKind.SIGNAL:
            assert stop.kind is StopKind.EVENT  # of a continuation a seized process tells twice
            ptrace.cont(pid)
        assert stop.signal == signal.SIGCONT
        ptrace.cont(pid, signal.SIGCONT)
        assert stop_in_call(pid, 34).call == 34


def test_both_programs_fit_the_lowest_page() -> None:
    for program in (x86_64.STUB_PROGRAM, x86_64.PAUSE_PROGRAM):
        assert len(program) < 256
        assert program.startswith(b"\x7fELF")


@pytest.mark.parametrize("value", [0, 1, -1, -4095, (1 << 63) - 1, -(1 << 63)])
def test_signed_and_unsigned(value: int) -> None:
    assert signed(unsigned(value)) == value
    assert 0 <= unsigned(value) < 1 << 64
