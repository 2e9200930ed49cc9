"""omtools.image.injection: calls made inside a real process, which must not notice."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, strategies as st
from tracees import ECHO, Child, fork, gone, python, stop_in_call, until

from omtools.errors import CannotMigrate, ProcessEnded
from omtools.image.injection import (
    SCRATCH_SIZE,
    SHARED_SCRATCH_SIZE,
    SLOTS,
    SYS_CLOSE,
    SYS_MUNMAP,
    Call,
    SafeGadget,
    Scratch,
    Tracee,
    borrowed_code,
    find_hole,
    normalise,
    private_scratch,
    shared_scratch,
)
from omtools.linux import proc, ptrace
from omtools.linux.ptrace import StopKind
from omtools.linux.x86_64 import ERESTARTNOHAND, NO_CALL, PAGE, SYSCALL_INT3, Registers, unsigned

SYS_READ, SYS_GETPID, SYS_KILL, SYS_GETPPID, SYS_EXIT_GROUP, SYS_ALARM = 0, 39, 62, 110, 231, 37


@dataclass
class Opened:
    """A stopped process whose registers are borrowed, with a scratch area in it."""

    tracee: Tracee
    registers: Registers
    gadget: SafeGadget
    scratch: Scratch
    file: int

    def batch(self, calls: list[Call]) -> list[int]:
        return self.tracee.batch(self.scratch, self.registers, calls)


@contextlib.contextmanager
def opened(tracee: Tracee) -> Iterator[Opened]:
    """Borrow its registers and code, make a scratch area, undo all of it."""
    with tracee.borrowed() as (registers, mask), borrowed_code(tracee, registers, mask) as gadget:
        scratch, file = shared_scratch(tracee, gadget, find_hole(proc.mappings(tracee.pid)))
        try:
            yield Opened(tracee, registers, gadget, scratch, file)
        finally:
            os.close(file)
            with contextlib.suppress(ProcessLookupError, ProcessEnded):
                gadget.call(SYS_MUNMAP, scratch.base, scratch.size)


@pytest.fixture
def child() -> Iterator[Child]:
    """A process that says again what it is told, stopped in the read of its input."""
    with python(ECHO) as process:
        yield process


@pytest.fixture
def tracee(child: Child) -> Tracee:
    made = Tracee.seize(child.pid)
    stop_in_call(child.pid, SYS_READ)
    return made


def program_text(pid: int) -> bytes:
    """The bytes around the entry point, where gadgets are put."""
    entry = proc.aux_value(proc.auxv(pid), proc.AT_ENTRY)
    file = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        return os.pread(file, 256, entry)
    finally:
        os.close(file)


def test_the_process_is_unharmed_afterwards(child: Child, tracee: Tracee) -> None:
    before = (
        bytes(ptrace.get_registers(child.pid)), ptrace.get_xstate(child.pid), ptrace.get_sigmask(child.pid),
        proc.mappings(child.pid), proc.descriptors(child.pid), program_text(child.pid),
    )  # fmt: skip
    with opened(tracee) as inside:
        assert inside.batch([(SYS_GETPID,)]) == [child.pid]
        assert program_text(child.pid) != before[5]
    after = (
        bytes(ptrace.get_registers(child.pid)), ptrace.get_xstate(child.pid), ptrace.get_sigmask(child.pid),
        proc.mappings(child.pid), proc.descriptors(child.pid), program_text(child.pid),
    )  # fmt: skip
    assert after == before
    ptrace.detach(child.pid)
    assert child.answer(b"as if nothing had been") == b"as if nothing had been"


@pytest.mark.parametrize("count", [0, 1, SLOTS, SLOTS + 1, 3 * SLOTS - 1])
def test_many_calls_with_their_results_in_order(child: Child, tracee: Tracee, count: int) -> None:
    kinds: list[tuple[Call, int]] = [
        ((SYS_GETPID,), child.pid), ((SYS_CLOSE, -1), -errno.EBADF), ((SYS_KILL, child.pid, 0), 0),
        ((SYS_GETPPID,), os.getpid()),
    ]  # fmt: skip
    with opened(tracee) as inside:
        results = inside.batch([kinds[i % 4][0] for i in range(count)])
    assert results == [kinds[i % 4][1] for i in range(count)]


def test_a_single_call_at_the_borrowed_entry_point(child: Child, tracee: Tracee) -> None:
    with opened(tracee) as inside:
        assert inside.gadget.call(SYS_GETPID) == child.pid
        assert inside.gadget.call(SYS_CLOSE, -1) == -errno.EBADF
        assert tracee.memory.read(inside.gadget.empty_string, 1) == b"\0"


def test_the_shared_area_is_one_memory(child: Child, tracee: Tracee) -> None:
    with opened(tracee) as inside:
        tracee.memory.write(inside.scratch.arena, b"written in there")
        assert os.pread(inside.file, 16, 0) == b"written in there"
        assert os.fstat(inside.file).st_size == SCRATCH_SIZE
        assert inside.scratch.size == SHARED_SCRATCH_SIZE
        assert proc.descriptors(child.pid).keys() == {0, 1, 2}


def test_a_private_area(tracee: Tracee) -> None:
    with opened(tracee) as inside:
        # the batch's own call, for one that has no gadget but its own
        trap = SYSCALL_INT3 + b"\0"
        file = os.open(f"/proc/{tracee.pid}/mem", os.O_RDWR)
        os.pwrite(file, trap, inside.scratch.base + 2048)
        os.close(file)
        at = inside.scratch.end + (64 << 20)
        own = private_scratch(tracee, inside.scratch.base + 2048, inside.registers, at)
        assert tracee.batch(own, inside.registers, [(SYS_GETPID,)]) == [tracee.pid]
        with pytest.raises(CannotMigrate, match="mmap failed inside it"):
            private_scratch(tracee, inside.scratch.base + 2048, inside.registers, at)
        assert inside.batch([(SYS_MUNMAP, own.base, own.size)]) == [0]


def test_an_area_where_something_is_already(tracee: Tracee) -> None:
    taken = proc.mappings(tracee.pid)[0]
    with (
        tracee.borrowed() as (registers, mask),
        borrowed_code(tracee, registers, mask) as gadget,
        pytest.raises(CannotMigrate, match="scratch area failed inside it: File exists"),
    ):
        shared_scratch(tracee, gadget, taken.start)


def test_what_a_scratch_area_holds() -> None:
    scratch = Scratch(0x6000_0000_0000)
    assert scratch.arena == scratch.base + PAGE
    assert scratch.data == scratch.arena + SLOTS * 64
    assert scratch.holds(scratch.base)
    assert scratch.holds(scratch.end - 1)
    assert not scratch.holds(scratch.end)
    assert not scratch.holds(scratch.base - 1)


HANDLES = """
import os, signal, sys
def say(number, _frame): os.write(1, signal.Signals(number).name.encode() + b"\\n")
for number in (signal.SIGTRAP, signal.SIGUSR1, signal.SIGALRM, signal.SIGCONT): signal.signal(number, say)
print("ready", flush=True)
for line in sys.stdin: print(line.strip(), flush=True)
"""


def test_signals_wait_until_the_calls_are_done() -> None:
    with python(HANDLES) as child:
        tracee = Tracee.seize(child.pid)
        stop_in_call(child.pid, SYS_READ)
        with opened(tracee) as inside:
            inside.batch([(SYS_GETPID,)])
            os.kill(child.pid, signal.SIGUSR1)
            assert inside.batch([(SYS_GETPID,), (SYS_KILL, child.pid, signal.SIGALRM), (SYS_GETPID,)]) == [
                child.pid, 0, child.pid,
            ]  # fmt: skip
            assert tracee.held == []  # blocked: they are still the kernel's
        tracee.give_back_signals()
        ptrace.detach(child.pid)
        assert {child.read_line(), child.read_line()} == {b"SIGUSR1", b"SIGALRM"}
        assert child.answer(b"on") == b"on"


def test_a_trap_that_somebody_sends_is_held_and_given_back() -> None:
    with python(HANDLES) as child:
        tracee = Tracee.seize(child.pid)
        stop_in_call(child.pid, SYS_READ)
        with opened(tracee) as inside:
            os.kill(child.pid, signal.SIGTRAP)
            assert inside.batch([(SYS_GETPID,)]) == [child.pid]
            assert tracee.held == [signal.SIGTRAP]
        tracee.give_back_signals()
        assert tracee.held == []
        ptrace.detach(child.pid)
        assert child.read_line() == b"SIGTRAP"
        assert child.answer(b"on") == b"on"


def test_a_stop_that_cannot_be_blocked_is_held_and_given_back(child: Child, tracee: Tracee) -> None:
    with opened(tracee) as inside:
        os.kill(child.pid, signal.SIGSTOP)
        assert inside.batch([(SYS_GETPID,)]) == [child.pid]
    assert tracee.held in ([signal.SIGSTOP], [])
    tracee.give_back_signals()
    ptrace.detach(child.pid)
    until(lambda: proc.stat(child.pid).state == "T")
    os.kill(child.pid, signal.SIGCONT)
    assert child.answer(b"on") == b"on"


def test_it_dies_in_the_middle(tracee: Tracee) -> None:
    with pytest.raises(ProcessEnded), opened(tracee) as inside:
        inside.batch([(SYS_GETPID,), (SYS_KILL, tracee.pid, signal.SIGKILL), (SYS_GETPID,)])


def test_it_dies_between_two_calls(tracee: Tracee) -> None:
    def kill_and_go_on() -> None:
        with opened(tracee) as inside:
            os.kill(tracee.pid, signal.SIGKILL)
            until(lambda: gone(tracee.pid))
            inside.batch([(SYS_GETPID,)])

    with pytest.raises(ProcessEnded):
        kill_and_go_on()


def test_it_ends_in_the_middle(tracee: Tracee) -> None:
    with pytest.raises(ProcessEnded), opened(tracee) as inside:
        inside.batch([(SYS_EXIT_GROUP, 3)])


def test_interrupting_one_that_has_died(child: Child) -> None:
    tracee = Tracee.seize(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: gone(child.pid))
    with pytest.raises(ProcessEnded):
        tracee.interrupt()


def test_interrupting_delivers_what_comes_first() -> None:
    with python(HANDLES) as child:
        tracee = Tracee.seize(child.pid)
        os.kill(child.pid, signal.SIGUSR1)
        until(lambda: proc.stat(child.pid).state == "t")
        assert tracee.interrupt().kind is StopKind.EVENT
        ptrace.detach(child.pid)
        assert child.read_line() == b"SIGUSR1"


def test_a_tracer_that_dies_in_between_leaves_a_process_that_runs(child: Child) -> None:
    keeper = fork()
    if keeper == 0:
        status = 1
        try:
            made = Tracee.seize(child.pid)
            stop_in_call(child.pid, SYS_READ)
            with opened(made) as inside:
                inside.gadget.call(SYS_GETPID)
                os._exit(0)  # the borrowed registers are never given back
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1]) == 0
    assert child.answer(b"alive") == b"alive"


@given(st.lists(st.integers(0, 0xFFFF), max_size=40), st.integers(1, 1 << 30))
def test_a_hole_is_free(steps: list[int], size: int) -> None:
    starts = [0x6000_0000_0000 + step * 0x1000_0000 for step in steps]
    taken = [proc.Mapping(s, s + PAGE, True, True, False, False, 0, "", 0, "") for s in starts]
    base = find_hole(taken, size)
    assert base % PAGE == 0
    assert 0x6000_0000_0000 <= base < 0x7000_0000_0000
    assert all(m.end <= base or base + size <= m.start for m in taken)


def test_there_may_be_no_hole() -> None:
    everything = proc.Mapping(0, 1 << 47, True, True, False, False, 0, "", 0, "")
    with pytest.raises(MemoryError):
        find_hole([everything])


@pytest.mark.parametrize(
    ("call", "result", "becomes"),
    [
        (232, -errno.EINTR, -ERESTARTNOHAND),  # epoll_wait, which a mere stop has ended
        (0, -512, -512),
        (0, 5, 5),
        (-1, -errno.EINTR, -errno.EINTR),  # in no call: a value like any other
    ],
)
def test_what_an_interruption_alone_did_is_undone(call: int, result: int, becomes: int) -> None:
    registers = Registers()
    registers.orig_rax, registers.rax = unsigned(call), unsigned(result)
    normalise(registers)
    assert (registers.result, registers.call) == (becomes, call)
    assert unsigned(-1) == NO_CALL
