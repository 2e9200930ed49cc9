"""omtools.linux.ptrace against real children."""

from __future__ import annotations

import os
import signal
import struct

import pytest
from tracees import ECHO, child_of, fork, gone, python, seized, stop_in_call, stopped, until

from omtools.linux import proc, ptrace
from omtools.linux.libc import syscall
from omtools.linux.ptrace import Rseq, Stop, StopKind, decode
from omtools.linux.x86_64 import CS_64BIT, Registers

SYS_READ, SYS_TGKILL = 0, 234
TRACE_EXEC = 1 << 4  # PTRACE_O_TRACEEXEC


def bit(number: int) -> int:
    return 1 << (number - 1)


def test_seizing_disturbs_nobody() -> None:
    with seized(ECHO) as child:
        assert child.answer(b"still here") == b"still here"
        assert ptrace.poll(child.pid) is None


def test_interrupt_stops_and_detach_lets_go() -> None:
    with seized(ECHO) as child:
        ptrace.interrupt(child.pid)
        assert ptrace.wait(child.pid) == Stop(StopKind.EVENT)
        assert proc.stat(child.pid).state == "t"
        ptrace.detach(child.pid)
        assert child.answer(b"go on") == b"go on"
        assert proc.status(child.pid)["TracerPid"] == "0"


def test_registers_go_out_and_in() -> None:
    with stopped() as child:
        registers = ptrace.get_registers(child.pid)
        assert registers.cs == CS_64BIT
        changed = registers.copy()
        changed.r15, changed.rbx = 0x1234_5678_9ABC_DEF0, (1 << 64) - 1
        ptrace.set_registers(child.pid, changed)
        assert bytes(ptrace.get_registers(child.pid)) == bytes(changed)
        assert bytes(registers) != bytes(changed)
        ptrace.set_registers(child.pid, registers)


def test_a_blocked_read_shows_the_kernel_s_restart_code() -> None:
    with seized(ECHO) as child:
        registers = stop_in_call(child.pid, SYS_READ)
        assert registers.result == -512
        assert registers.arguments[0] == 0
        ptrace.detach(child.pid)
        assert child.answer(b"restarted") == b"restarted"


def test_vector_registers_go_out_and_in() -> None:
    with stopped() as child:
        before = ptrace.get_xstate(child.pid)
        assert len(before) > 576  # legacy area and header
        xmm3 = 160 + 3 * 16
        changed = bytearray(before)
        changed[xmm3 : xmm3 + 16] = bytes(range(16))
        changed[512] |= 2  # XSTATE_BV: the SSE state is not the initial one
        ptrace.set_xstate(child.pid, bytes(changed))
        assert ptrace.get_xstate(child.pid)[xmm3 : xmm3 + 16] == bytes(range(16))
        ptrace.set_xstate(child.pid, before)
        assert ptrace.get_xstate(child.pid) == before


def test_an_xsave_area_of_the_wrong_size_is_refused() -> None:
    with stopped() as child, pytest.raises(OSError, match=r"ptrace 0x4205"):
        ptrace.set_xstate(child.pid, bytes(100))


HANDLER = """
import os, signal
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"caught\\n"))
print("ready", flush=True)
import sys
for line in sys.stdin: print(line.strip(), flush=True)
"""


def test_a_signal_can_be_swallowed_or_delivered() -> None:
    with seized(HANDLER) as child:
        os.kill(child.pid, signal.SIGUSR1)
        assert ptrace.wait(child.pid) == Stop(StopKind.SIGNAL, signal.SIGUSR1)
        ptrace.cont(child.pid)
        assert child.answer(b"nothing happened") == b"nothing happened"
        os.kill(child.pid, signal.SIGUSR1)
        assert ptrace.wait(child.pid) == Stop(StopKind.SIGNAL, signal.SIGUSR1)
        ptrace.cont(child.pid, signal.SIGUSR1)
        assert child.read_line() == b"caught"


def test_siginfo_tells_the_sender_and_can_be_replaced() -> None:
    with seized() as child:
        os.kill(child.pid, signal.SIGUSR2)
        assert ptrace.wait(child.pid).signal == signal.SIGUSR2
        siginfo = ptrace.get_siginfo(child.pid)
        assert len(siginfo) == ptrace.SIGINFO_SIZE
        number, _errno, code, pid, uid = struct.unpack_from("<iiixxxxiI", siginfo)
        assert (number, code, pid, uid) == (signal.SIGUSR2, 0, os.getpid(), os.getuid())
        changed = siginfo[:16] + (4711).to_bytes(4, "little") + siginfo[20:]
        ptrace.set_siginfo(child.pid, changed)
        assert ptrace.get_siginfo(child.pid) == changed
        ptrace.cont(child.pid)


BLOCKS = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN + 1})
print("ready", flush=True)
while True: signal.pause()
"""


def test_masks() -> None:
    with stopped(BLOCKS) as child:
        mask = bit(signal.SIGUSR1) | bit(signal.SIGUSR2) | bit(signal.SIGRTMIN + 1)
        assert ptrace.get_sigmask(child.pid) == mask
        ptrace.set_sigmask(child.pid, bit(64) | bit(1))
        assert int(proc.status(child.pid)["SigBlk"], 16) == bit(64) | bit(1)
        ptrace.set_sigmask(child.pid, (1 << 64) - 1)
        assert ptrace.get_sigmask(child.pid) == (1 << 64) - 1 & ~bit(signal.SIGKILL) & ~bit(signal.SIGSTOP)


def test_queued_signals_of_process_and_thread() -> None:
    with stopped(BLOCKS) as child:
        assert ptrace.pending_signals(child.pid, shared=True) == []
        realtime = signal.SIGRTMIN + 1
        for _index in range(40):  # more than one answer of the kernel's holds
            os.kill(child.pid, realtime)
        os.kill(child.pid, signal.SIGUSR2)
        syscall(SYS_TGKILL, child.pid, child.pid, signal.SIGUSR1)
        shared = ptrace.pending_signals(child.pid, shared=True)
        assert [info[0] for info in shared] == [realtime] * 40 + [signal.SIGUSR2]
        (own,) = ptrace.pending_signals(child.pid, shared=False)
        assert own[0] == signal.SIGUSR1
        assert len(ptrace.pending_signals(child.pid, shared=True)) == 41  # looked at, not taken


def test_rseq_where_the_c_library_uses_it_and_where_not() -> None:
    for tunable, expected in (("1", True), ("0", False)):
        with python(env={"GLIBC_TUNABLES": f"glibc.pthread.rseq={tunable}"}) as child:
            ptrace.seize(child.pid)
            ptrace.interrupt(child.pid)
            ptrace.wait(child.pid)
            rseq = ptrace.get_rseq(child.pid)
            if expected and rseq.address:  # glibc before 2.35 knows nothing of it
                assert rseq.size >= 32
                assert rseq.signature == 0x53053053
            if not expected:
                assert rseq == Rseq(0, 0, 0)


def test_a_group_stop_is_listened_to_until_it_is_continued() -> None:
    with seized(ECHO) as child:
        os.kill(child.pid, signal.SIGSTOP)
        assert ptrace.wait(child.pid) == Stop(StopKind.SIGNAL, signal.SIGSTOP)
        ptrace.cont(child.pid, signal.SIGSTOP)
        assert ptrace.wait(child.pid) == Stop(StopKind.GROUP, signal.SIGSTOP)
        ptrace.listen(child.pid)
        assert ptrace.poll(child.pid) is None
        assert proc.stat(child.pid).state in "Tt"
        os.kill(child.pid, signal.SIGCONT)
        assert ptrace.wait(child.pid).kind is StopKind.EVENT
        ptrace.cont(child.pid)
        assert ptrace.wait(child.pid) == Stop(StopKind.SIGNAL, signal.SIGCONT)
        ptrace.cont(child.pid, signal.SIGCONT)
        assert child.answer(b"on") == b"on"


def test_interrupting_a_stopped_process_says_so() -> None:
    with python() as child:
        os.kill(child.pid, signal.SIGSTOP)
        until(lambda: proc.stat(child.pid).state == "T")
        ptrace.seize(child.pid)
        ptrace.interrupt(child.pid)
        assert ptrace.wait(child.pid).kind is StopKind.GROUP


def test_exit_and_death_are_reported() -> None:
    with seized("print('ready', flush=True)\ninput()\nraise SystemExit(7)") as child:
        child.say(b"")
        assert ptrace.wait(child.pid) == Stop(StopKind.EXITED, 0, 7)
    with seized() as child:
        os.kill(child.pid, signal.SIGKILL)
        stop = ptrace.wait(child.pid)
        assert (stop.kind, stop.signal, stop.over) == (StopKind.KILLED, signal.SIGKILL, True)


def test_exec_is_reported_when_asked_for() -> None:
    code = "import os\nprint('ready', flush=True)\ninput()\nos.execv('/bin/true', ['true'])"
    with seized(code, TRACE_EXEC) as child:
        child.say(b"")
        assert ptrace.wait(child.pid) == Stop(StopKind.EXEC)
        ptrace.set_options(child.pid, 0)
        ptrace.cont(child.pid)
        assert ptrace.wait(child.pid) == Stop(StopKind.EXITED)


def test_with_exitkill_the_tracee_dies_with_its_tracer() -> None:
    with child_of("/bin/sleep", "1000") as child:
        tracer = fork()
        if tracer == 0:
            try:
                ptrace.seize(child.pid, ptrace.O_EXITKILL)
            finally:
                os._exit(0)
        assert os.waitpid(tracer, 0)[1] == 0
        until(lambda: gone(child.pid))
        assert child.wait() == -signal.SIGKILL


def test_without_it_the_tracee_goes_on() -> None:
    with python(ECHO) as child:
        tracer = fork()
        if tracer == 0:
            try:
                ptrace.seize(child.pid)
                ptrace.interrupt(child.pid)
                ptrace.wait(child.pid)
            finally:
                os._exit(0)
        assert os.waitpid(tracer, 0)[1] == 0
        assert child.answer(b"alive") == b"alive"


def test_what_cannot_be_traced() -> None:
    with pytest.raises(ProcessLookupError):
        ptrace.seize(2**22)
    with seized() as child:
        with pytest.raises(PermissionError):
            ptrace.seize(child.pid)
        with pytest.raises(ProcessLookupError):
            ptrace.get_registers(child.pid)  # it runs


@pytest.mark.parametrize(
    ("status", "stop"),
    [
        (0x0000, Stop(StopKind.EXITED, 0, 0)),
        (0x0700, Stop(StopKind.EXITED, 0, 7)),
        (0x0009, Stop(StopKind.KILLED, 9, 0x0009)),
        (0x008B, Stop(StopKind.KILLED, 11, 0x008B)),  # with a core
        (0x057F, Stop(StopKind.SIGNAL, 5)),
        (0x137F, Stop(StopKind.SIGNAL, 19)),  # SIGSTOP, not yet delivered
        (128 << 16 | 0x057F, Stop(StopKind.EVENT)),
        (128 << 16 | 0x137F, Stop(StopKind.GROUP, 19)),
        (128 << 16 | 0x147F, Stop(StopKind.GROUP, 20)),
        (128 << 16 | 0x157F, Stop(StopKind.GROUP, 21)),
        (128 << 16 | 0x167F, Stop(StopKind.GROUP, 22)),
        (4 << 16 | 0x057F, Stop(StopKind.EXEC)),
    ],
)  # fmt: skip
def test_wait_statuses(status: int, stop: Stop) -> None:
    assert decode(status) == stop
    assert stop.over == (stop.kind in (StopKind.EXITED, StopKind.KILLED))


def test_register_words() -> None:
    registers = Registers()
    registers.rax = (1 << 64) - 4
    registers.orig_rax = (1 << 64) - 1
    assert (registers.result, registers.call) == (-4, -1)
    registers.orig_rax = 202
    assert registers.call == 202
    copy = registers.copy()
    copy.rax = 0
    assert registers.result == -4
    registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9 = range(6)
    assert registers.arguments == (0, 1, 2, 3, 4, 5)
